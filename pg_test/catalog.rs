//! What is stored, and how it finds its tables and columns again.

#[pgrx::pg_schema]
mod tests {
    use crate::in_server::support::{enable, one, role, run, table, text, yes};
    use crate::pg::catalog::{self, Table, Vectorizer};
    use crate::pg::ffi::snapshot::with_latest;
    use crate::pg::repair;
    use autoembed_core::Provider;
    use pgrx::prelude::*;
    use std::time::Duration;

    fn stored(id: i32) -> Vectorizer {
        with_latest(false, || catalog::vectorizer(id)).expect("the vectorizer is there")
    }

    fn table_of(name: &str) -> Table {
        let oid = table(name);
        with_latest(false, || catalog::table(oid)).expect("the table is there")
    }

    /// A vectorizer's stored names and column numbers.
    fn names(id: i32) -> String {
        text(&format!(
            "SELECT concat_ws(' ', EXISTS (SELECT FROM autoembed.numbered WHERE vectorizer_id = vectorizer.id), embedding, embedding_attnum, input, COALESCE(input_attnum::text, '-')) \
             FROM autoembed.vectorizer WHERE id = {id}"
        ))
    }

    #[pg_test]
    fn catalog_follows_renames_at_once_and_repair_writes_them_down() {
        run("CREATE TABLE c (id int PRIMARY KEY, content text)");
        let id = enable("'c', 'content'");
        run(
            "ALTER TABLE c RENAME COLUMN content TO \"The Body\"; ALTER TABLE c RENAME COLUMN embedding TO vec; ALTER TABLE c RENAME TO d",
        );
        let vectorizer = stored(id);
        assert_eq!((vectorizer.embedding.as_deref(), vectorizer.input.as_deref()), (Some("vec"), Some("\"The Body\"")));
        assert_eq!(catalog::find(table("d"), "vec").map(|v| v.id), Some(id));
        assert!(catalog::find(table("d"), "embedding").is_none());
        assert_eq!(names(id), "t embedding 3 content 2");
        repair::all();
        assert_eq!(names(id), "t vec 3 The Body 2");
        repair::all();
        assert_eq!(names(id), "t vec 3 The Body 2");
    }

    #[pg_test]
    fn catalog_leaves_an_expression_as_it_was_given() {
        run("CREATE TABLE c (id int PRIMARY KEY, title text, body text)");
        let id = enable("'c', 'title || body'");
        run("ALTER TABLE c RENAME COLUMN embedding TO vec");
        repair::all();
        assert_eq!(names(id), "t vec 4 title || body -");
        assert_eq!(stored(id).input, Some(catalog::expression_sql("title || body")));
    }

    /// After a dump was restored the table has another oid, and its columns may have other numbers.
    #[pg_test]
    fn catalog_finds_columns_by_name_after_a_restore() {
        run("CREATE TABLE c (id int PRIMARY KEY, dropped int, content text); ALTER TABLE c DROP COLUMN dropped");
        let id = enable("'c', 'content'");
        assert_eq!(names(id), "t embedding 4 content 3");
        run(&format!(
            "CREATE TABLE restored (embedding vector(3), content text, id int PRIMARY KEY); \
             UPDATE autoembed.vectorizer SET source = 'restored' WHERE id = {id}; DELETE FROM autoembed.numbered"
        ));
        assert_eq!(names(id), "f embedding 4 content 3");
        // Until then the names count.
        let vectorizer = stored(id);
        assert_eq!(
            (vectorizer.embedding.as_deref(), vectorizer.input.as_deref(), vectorizer.is_restored),
            (Some("embedding"), Some("\"content\""), true)
        );
        repair::all();
        assert_eq!(names(id), "t embedding 1 content 2");
        let vectorizer = stored(id);
        assert_eq!(
            (vectorizer.embedding.as_deref(), vectorizer.input.as_deref()),
            (Some("embedding"), Some("\"content\""))
        );
        // The old table is nobody's any more.
        assert!(catalog::find(table("c"), "embedding").is_none());
    }

    #[pg_test]
    fn catalog_takes_no_other_column_where_a_restored_one_is_missing() {
        run("CREATE TABLE c (id int PRIMARY KEY, content text)");
        let id = enable("'c', 'content'");
        run(&format!(
            "CREATE TABLE restored (id int PRIMARY KEY, other text, other2 vector(3)); UPDATE autoembed.vectorizer SET source = 'restored' WHERE id = {id}; DELETE FROM autoembed.numbered"
        ));
        assert_eq!((stored(id).embedding, stored(id).input), (None, None));
        repair::all();
        assert_eq!(names(id), "f embedding 3 content 2");
        assert_eq!((stored(id).embedding, stored(id).input), (None, None));
        // Until they have the names again that the dump knows.
        run("ALTER TABLE restored RENAME other TO content; ALTER TABLE restored RENAME other2 TO embedding");
        assert_eq!(
            (stored(id).embedding.as_deref(), stored(id).input.as_deref()),
            (Some("embedding"), Some("\"content\""))
        );
        repair::all();
        assert_eq!(names(id), "t embedding 3 content 2");
    }

    #[pg_test]
    fn catalog_repair_removes_what_belongs_to_tables_that_are_gone() {
        run("CREATE TABLE c (id int PRIMARY KEY, content text); CREATE TABLE stays (id int PRIMARY KEY, content text)");
        let (gone, stays) = (enable("'c', 'content'"), enable("'stays', 'content'"));
        for id in [gone, stays] {
            run(&format!(
                "INSERT INTO autoembed.failed (vectorizer_id, key, attempts, code, message, hint) VALUES ({id}, '1', 1, '', '', ''); \
                 INSERT INTO autoembed.backfill (vectorizer_id, total) VALUES ({id}, 1); \
                 INSERT INTO autoembed.request (vectorizer_id, model, inputs, rows, ms) VALUES ({id}, 'm', 1, 1, 1); \
                 INSERT INTO autoembed.vectorizer_state (vectorizer_id, code, message, hint) VALUES ({id}, '', '', '')"
            ));
        }
        run("INSERT INTO c VALUES (1, 'a'); INSERT INTO stays VALUES (1, 'a'); DROP TABLE c");
        repair::all();
        for of in ["job", "failed", "backfill", "request", "vectorizer_state"] {
            assert_eq!(
                text(&format!("SELECT string_agg(vectorizer_id::text, ',') FROM autoembed.{of}")),
                stays.to_string(),
                "{of}"
            );
        }
        assert_eq!(text("SELECT string_agg(id::text, ',') FROM autoembed.vectorizer"), stays.to_string());
        assert!(with_latest(false, || catalog::vectorizer(gone)).is_none());
    }

    #[pg_test]
    fn catalog_notices_columns_that_cannot_be_used_any_more() {
        run("CREATE TABLE c (id int PRIMARY KEY, content text)");
        let id = enable("'c', 'content'");
        run("ALTER TABLE c ALTER COLUMN embedding TYPE text");
        assert_eq!(stored(id).embedding, None, "no vector");
        run("ALTER TABLE c DROP COLUMN embedding; ALTER TABLE c ADD COLUMN embedding vector(3)");
        assert_eq!(stored(id).embedding, None, "another column of the same name");
    }

    #[pg_test]
    fn catalog_reads_a_vectorizer_as_it_was_enabled() {
        run("SET LOCAL search_path = public, pg_temp; CREATE TABLE c (id int PRIMARY KEY, content text)");
        let id = enable("'c', 'content', on_change => 'clear', delay => '1.5 s', search_function => 'find_c'");
        let vectorizer = stored(id);
        assert_eq!(vectorizer.source, table("c"));
        assert_eq!(vectorizer.on_change, "clear");
        assert_eq!(vectorizer.delay, Duration::from_millis(1500));
        assert_eq!(vectorizer.model, "three");
        assert_eq!(vectorizer.input_path, "public");
        assert_eq!(vectorizer.search_function, Some(("public".into(), "find_c".into())));
        assert!(catalog::vectorizers().iter().any(|v| v.id == id));
    }

    #[pg_test]
    fn catalog_gives_the_key_in_the_keys_own_order() {
        run(
            "CREATE TYPE mood AS ENUM ('ok'); CREATE TABLE c (x text, \"B b\" mood, a int, more int, dropped int); ALTER TABLE c DROP COLUMN dropped; \
             ALTER TABLE c ADD CONSTRAINT c_pkey PRIMARY KEY (\"B b\", a, x) INCLUDE (more)",
        );
        let key = table_of("c").key;
        let parts: Vec<(&str, &str, bool)> =
            key.iter().map(|k| (k.name.as_str(), k.type_name.as_str(), k.is_builtin)).collect();
        assert_eq!(
            parts,
            [("B b", "public.mood", false), ("a", "pg_catalog.int4", true), ("x", "pg_catalog.text", true)]
        );
        run("CREATE TABLE keyless (id int UNIQUE NOT NULL)");
        assert!(table_of("keyless").key.is_empty());
    }

    #[pg_test]
    fn catalog_describes_tables() {
        let owner = role("catalog_owner");
        run(
            "CREATE SCHEMA \"S.s\"; CREATE TABLE \"S.s\".\"T\"\"t\" (id int PRIMARY KEY); ALTER TABLE \"S.s\".\"T\"\"t\" OWNER TO catalog_owner; \
             CREATE UNLOGGED TABLE u (id int) ; CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10); \
             CREATE VIEW v AS SELECT 1 AS id",
        );
        let plain = table_of("\"S.s\".\"T\"\"t\"");
        assert_eq!(
            (plain.sql().as_str(), plain.source_sql().as_str()),
            ("\"S.s\".\"T\"\"t\"", "ONLY \"S.s\".\"T\"\"t\"")
        );
        assert_eq!((plain.kind, plain.persistence, plain.is_partition, plain.owner), ('r', 'p', false, owner));
        assert_eq!(table_of("u").persistence, 'u');
        let root = table_of("p");
        assert_eq!(
            (root.kind, root.source_sql().as_str()),
            ('p', "\"public\".\"p\""),
            "a partitioned table is read with its partitions"
        );
        assert!(table_of("p1").is_partition);
        assert_eq!(table_of("v").kind, 'v');
        run("CREATE TABLE dropped (id int)");
        let oid = table("dropped");
        run("DROP TABLE dropped");
        assert!(with_latest(false, || catalog::table(oid)).is_none());
    }

    #[pg_test]
    fn catalog_estimates_rows() {
        run("CREATE TABLE c (id int PRIMARY KEY); CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id); \
             CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (5000); CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (5000) TO (10000)");
        assert_eq!(catalog::estimated_rows(table("c")), 0);
        run(
            "INSERT INTO c SELECT i FROM generate_series(1, 5000) i; INSERT INTO p SELECT i FROM generate_series(1, 9000) i",
        );
        let unknown = catalog::estimated_rows(table("c"));
        assert!((500..=50_000).contains(&unknown), "by its size alone: {unknown}");
        run("ANALYZE c; ANALYZE p1; ANALYZE p2");
        assert_eq!(catalog::estimated_rows(table("c")), 5000);
        assert_eq!(catalog::estimated_rows(table("p")), 9000);
    }

    #[pg_test]
    fn catalog_knows_owners_by_membership() {
        let (owner, member, other) = (role("table_owner"), role("owner_member"), role("somebody"));
        run(
            "GRANT table_owner TO owner_member; CREATE TABLE c (id int PRIMARY KEY); ALTER TABLE c OWNER TO table_owner; GRANT ALL ON c TO somebody",
        );
        let table = table_of("c");
        let owns = |who| with_latest(false, || catalog::owns(who, &table));
        assert!(owns(owner) && owns(member) && !owns(other));
    }

    #[pg_test]
    fn catalog_reads_models_with_their_providers_defaults() {
        assert_eq!(catalog::model("no such model").unwrap_err().to_string(), "model \"no such model\" does not exist");
        let builtin = catalog::model("builtin").unwrap();
        assert_eq!((builtin.model.provider, builtin.model.dimensions), (Provider::Local, 256));
        run(
            "SELECT autoembed.create_model('it''s', 'openai', 3, model => 'remote', url => 'http://127.0.0.1:9/v1', api_key_env => 'K', max_batch_inputs => 7, \
             max_input_tokens => 11, timeout => '2.5 s', max_concurrent_requests => 2, options => '{\"send_dimensions\": true}')",
        );
        let (stored, plain) =
            with_latest(false, || (catalog::model("it's").unwrap(), catalog::model("text-embedding-3-small").unwrap()));
        let model = &stored.model;
        assert_eq!((model.name.as_str(), model.remote.as_str(), model.dimensions), ("it's", "remote", 3));
        assert_eq!((model.limits.batch_inputs, model.limits.input_tokens), (7, 11));
        assert_eq!(model.limits.batch_tokens, plain.model.limits.batch_tokens, "NULL: the provider's own");
        assert_eq!((model.timeout, stored.max_concurrent_requests), (Duration::from_millis(2500), Some(2)));
        assert_eq!((stored.api_key_env.as_deref(), stored.api_key_file.as_deref()), (Some("K"), None));
        assert_eq!(model.options["send_dimensions"], true);
    }

    #[pg_test]
    fn catalog_finds_pgvector_wherever_it_is() {
        let before = catalog::pgvector().unwrap();
        assert_eq!(one::<pg_sys::Oid>("SELECT 'vector'::regtype::oid"), Some(before.type_oid));
        run("CREATE SCHEMA \"V v\"; ALTER EXTENSION vector SET SCHEMA \"V v\"");
        let moved = with_latest(false, catalog::pgvector).unwrap();
        assert_eq!((moved.schema.as_str(), moved.type_oid), ("V v", before.type_oid));
        assert!(
            yes("SELECT extversion ~ '^0\\.[0-7](\\.|$)' FROM pg_extension WHERE extname = 'vector'")
                != moved.iterative_scans
        );
        run("CREATE TABLE c (id int PRIMARY KEY, content text)");
        let id = enable("'c', 'content'");
        assert_eq!(stored(id).embedding.as_deref(), Some("embedding"));
    }
}
