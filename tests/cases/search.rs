//! The generated search function, and plain SQL beside it.

use autoembed_tests::Site;
use autoembed_tests::site::PATIENCE;

/// `docs`: 300 rows in 3 colours, and a few with none.
fn docs() -> Site {
    let mut site = Site::new();
    site.db.run(
        "CREATE TABLE docs (id int PRIMARY KEY, content text, colour text, size int, tags jsonb, \"Odd \"\" name\" text, at timestamptz DEFAULT now(), ok boolean DEFAULT true)",
    );
    site.enable("docs", "content", "");
    site.db.run(
        "INSERT INTO docs SELECT i, 'doc ' || i, (ARRAY['red', 'green', 'blue'])[1 + i % 3], i % 10, jsonb_build_object('n', i % 2), 'x' || i % 4 FROM generate_series(1, 300) i;
         INSERT INTO docs (id, content) VALUES (301, 'doc 301'), (302, 'doc 302')",
    );
    site.settle("docs", "content");
    site
}

fn ids(site: &mut Site, arguments: &str) -> Vec<i64> {
    site.db.column(&format!("SELECT id FROM similar_docs({arguments})")).iter().map(|id| id.parse().unwrap()).collect()
}

#[test]
fn k_and_min_similarity() {
    let mut site = docs();
    assert_eq!(ids(&mut site, "'doc 5'").len(), 10, "ten is the default");
    assert_eq!(ids(&mut site, "'doc 5', 3").len(), 3);
    assert_eq!(ids(&mut site, "'doc 5', 3")[0], 5);
    assert_eq!(ids(&mut site, "'doc 5', k => 1000").len(), 302);
    assert_eq!(ids(&mut site, "'doc 5', 10, min_similarity => 0.999"), [5]);
    assert_eq!(ids(&mut site, "'nothing like it', 10, 0.99"), Vec::<i64>::new());
    let similarity: f64 = site.db.text("SELECT similarity FROM similar_docs('doc 5', 1)").parse().unwrap();
    assert!((similarity - 1.0).abs() < 1e-5, "{similarity}");
    assert_eq!(site.db.text("SELECT content FROM similar_docs('doc 77', 1)"), "doc 77");
}

/// The order is that of the exact search in plain SQL.
#[test]
fn the_ranking_is_the_exact_one() {
    let mut site = docs();
    for query in ["doc 1", "something", "doc doc"] {
        let exact = site.db.column(&format!(
            "SELECT id FROM docs ORDER BY embedding <=> autoembed.embed('{query}', 'stub'), id LIMIT 5"
        ));
        let found = site.db.column(&format!("SELECT id FROM similar_docs('{query}', 5)"));
        assert_eq!(found, exact, "{query}");
    }
}

#[test]
fn filters() {
    let mut site = docs();
    let mut colours = |filter: &str| {
        site.db.column(&format!(
            "SELECT DISTINCT coalesce(d.colour, 'none') FROM similar_docs('doc 5', 400, filter => '{filter}') s JOIN docs d USING (id) ORDER BY 1"
        ))
    };
    assert_eq!(colours(r#"{"colour": "red"}"#), ["red"]);
    assert_eq!(colours(r#"{"colour": ["red", "blue"]}"#), ["blue", "red"]);
    assert_eq!(colours(r#"{"colour": null}"#), ["none"]);
    assert_eq!(colours(r#"{"colour": []}"#), Vec::<String>::new());
    assert_eq!(colours("{}"), ["blue", "green", "none", "red"]);
    assert_eq!(colours(r#"{"colour": "no such colour"}"#), Vec::<String>::new());
    let count = |site: &mut Site, filter: &str| ids(site, &format!("'doc 5', 400, filter => '{filter}'")).len();
    assert_eq!(count(&mut site, r#"{"size": 3}"#), 30);
    assert_eq!(count(&mut site, r#"{"size": "3"}"#), 30);
    assert_eq!(count(&mut site, r#"{"size": [1, 2], "colour": "red"}"#), 20);
    assert_eq!(count(&mut site, r#"{"ok": true}"#), 302);
    assert_eq!(count(&mut site, r#"{"ok": false}"#), 0);
    assert_eq!(count(&mut site, r#"{"Odd \" name": "x1"}"#), 75);
    assert_eq!(count(&mut site, r#"{"id": [1, 2, 3]}"#), 3);
    assert_eq!(count(&mut site, r#"{"at": "1999-01-01"}"#), 0);
    assert_eq!(ids(&mut site, r#"'doc 5', 2, filter => '{"colour": "red", "size": 9}'"#).len(), 2);
}

/// A column that is an array has the value, or one of the values, among its elements.
#[test]
fn filters_on_columns_that_are_arrays() {
    let mut site = Site::new();
    site.db.run(
        "CREATE DOMAIN labels AS text[]; CREATE SCHEMA odd; CREATE TYPE odd.\"Mood\" AS ENUM ('glad', 'sad');
         CREATE TABLE docs (id int PRIMARY KEY, content text, tags text[], sizes int[], named labels, moods odd.\"Mood\"[], codes varchar(3)[]);
         INSERT INTO docs VALUES (1, 'one', '{a,b}', '{1,2}', '{x}', '{glad}', '{abc}'), (2, 'two', '{b,NULL}', '{2}', '{x,y}', '{glad,sad}', '{abc,d}'),
           (3, 'three', '{}', '{}', '{}', '{}', '{}'), (4, 'four', NULL, NULL, NULL, NULL, NULL), (5, 'five', '{\"a, b\",\"{a}\"}', '{-1}', '{\"\"}', '{sad}', '{e}')",
    );
    site.enable("docs", "content", "");
    site.settle("docs", "content");
    let mut found = |filter: &str| {
        let mut found = ids(&mut site, &format!("'x', 10, filter => '{filter}'"));
        found.sort_unstable();
        found
    };
    for (filter, expected) in [
        (r#"{"tags": "a"}"#, &[1][..]),
        (r#"{"tags": ["a", "zz"]}"#, &[1]),
        (r#"{"tags": ["a", "b"]}"#, &[1, 2]),
        (r#"{"tags": "a, b"}"#, &[5]),
        (r#"{"tags": "{a}"}"#, &[5]),
        (r#"{"tags": []}"#, &[]),
        (r#"{"tags": null}"#, &[4]),
        (r#"{"tags": "b", "sizes": 1}"#, &[1]),
        (r#"{"sizes": [2, -1]}"#, &[1, 2, 5]),
        (r#"{"sizes": "2"}"#, &[1, 2]),
        (r#"{"named": "y"}"#, &[2]),
        (r#"{"named": ["x", ""]}"#, &[1, 2, 5]),
        (r#"{"moods": "sad"}"#, &[2, 5]),
        (r#"{"codes": "abc"}"#, &[1, 2]),
    ] {
        assert_eq!(found(filter), expected, "{filter}");
    }
    let similar_to = "SELECT id FROM similar_docs_to(1, 10, filter => '{\"tags\": \"b\"}')";
    assert_eq!(site.db.column(similar_to), ["2"]);
    for wrong in [r#"{"sizes": "two"}"#, r#"{"moods": ["angry"]}"#] {
        assert_eq!(site.db.error(&format!("SELECT * FROM similar_docs('x', filter => '{wrong}')")).code, "22P02");
    }
    site.db.error(r#"SELECT * FROM similar_docs('x', filter => '{"tags": {"a": 1}}')"#).assert("22023", "tags");
    // What filters are made for can be indexed.
    site.db.run("CREATE INDEX ON docs USING gin (tags)");
    let id = site.status("id", "docs");
    let filter = r#"'{"tags": ["a", "b"]}'"#;
    let statement = site.db.text(&format!("SELECT autoembed.search_statement({id}, 10, {filter}, 'semantic')"));
    site.db.run(&format!(
        "SET enable_seqscan = off; DROP INDEX docs_embedding_idx; PREPARE s (vector, int, real, jsonb) AS {statement}"
    ));
    let vector = site.db.text("SELECT embedding FROM docs LIMIT 1");
    let plan = site.db.column(&format!("EXPLAIN (COSTS OFF) EXECUTE s ('{vector}', 10, NULL, {filter})"));
    assert!(plan.iter().any(|line| line.contains("docs_tags_idx")), "{plan:?}");
}

/// With an index a filter that few rows pass must still give k rows.
#[test]
fn a_filter_that_few_rows_pass() {
    let mut site = Site::new();
    site.db.run("CREATE TABLE docs (id int PRIMARY KEY, content text, tenant int)");
    site.db.run("INSERT INTO docs SELECT i, 'doc ' || i, i % 250 FROM generate_series(1, 5000) i; CREATE INDEX ON docs (tenant)");
    site.enable("docs", "content", "");
    site.settle("docs", "content");
    site.db.until("SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam WHERE m.amname = 'hnsw' AND i.indisvalid", "1", PATIENCE);
    site.db.run("ANALYZE docs");
    for seqscan in ["on", "off"] {
        site.db.run(&format!("SET enable_seqscan = {seqscan}"));
        for tenant in [0, 7, 249] {
            let found = ids(&mut site, &format!(r#"'anything', 10, filter => '{{"tenant": {tenant}}}'"#));
            assert_eq!(found.len(), 10, "tenant {tenant}, enable_seqscan {seqscan}");
            assert!(found.iter().all(|id| id % 250 == tenant));
        }
    }
}

#[test]
fn filters_that_are_wrong_or_hostile() {
    let mut site = docs();
    site.db.error(r#"SELECT * FROM similar_docs('x', filter => '{"colr": "red"}')"#).assert("42703", "colr");
    site.db.error(r#"SELECT * FROM similar_docs('x', filter => '["colour"]')"#).assert("22023", "");
    site.db.error(r#"SELECT * FROM similar_docs('x', filter => '"colour"')"#).assert("22023", "");
    // An object where a value belongs is no value of a text column to guess at.
    site.db.error(r#"SELECT * FROM similar_docs('x', filter => '{"size": {"gt": 3}}')"#).assert("22023", "size");
    for key in [
        "colour = 'red' OR true --",
        "colour\\\" IS NULL OR true --",
        "\\\"; DROP TABLE docs; --",
        "ctid",
        "xmin",
        "(SELECT 1)",
        "",
    ] {
        let error = site.db.error(&format!(
            "SELECT * FROM similar_docs('x', filter => {})",
            autoembed_tests::db::literal(&format!("{{\"{key}\": \"x\"}}"))
        ));
        assert_eq!(error.code, "42703", "{key}: {error:?}");
    }
    for value in ["' OR true --", "\\\\'; DROP TABLE docs; --", "red') OR (1=1", "$1", "NULL"] {
        let filter = autoembed_tests::db::literal(&format!("{{\"colour\": \"{value}\"}}"));
        assert_eq!(ids(&mut site, &format!("'x', 400, filter => {filter}")), Vec::<i64>::new(), "{value}");
        let filter = autoembed_tests::db::literal(&format!("{{\"colour\": [\"{value}\"]}}"));
        assert_eq!(ids(&mut site, &format!("'x', 400, filter => {filter}")), Vec::<i64>::new(), "{value}");
    }
    assert_eq!(site.db.int("SELECT count(*) FROM docs"), 302);
    let error = site.db.error(r#"SELECT * FROM similar_docs('x', filter => '{"size": "three"}')"#);
    assert_eq!(error.code, "22P02", "{error:?}");
}

#[test]
fn odd_arguments() {
    let mut site = docs();
    assert_eq!(site.db.rows("SELECT * FROM similar_docs(NULL)").len(), 0);
    assert_eq!(site.db.rows("SELECT * FROM similar_docs('x', 0)").len(), 0);
    site.db.error("SELECT * FROM similar_docs('x', -1)").assert("22023", "k");
    site.db.error("SELECT * FROM similar_docs('x', mode => 'psychic')").assert("22023", "psychic");
}

#[test]
fn a_schema_that_is_not_on_the_search_path() {
    let mut site = Site::new();
    site.db.run("CREATE SCHEMA shop; CREATE TABLE shop.items (id int PRIMARY KEY, name text)");
    site.enable("shop.items", "name", "");
    site.db.run("INSERT INTO shop.items SELECT i, 'item ' || i FROM generate_series(1, 20) i");
    site.settle("shop.items", "name");
    for path in ["''", "pg_catalog", "shop, pg_temp"] {
        site.db.run(&format!("SET search_path = {path}"));
        assert_eq!(site.db.int("SELECT id FROM shop.similar_items('item 7', 1)"), 7);
        assert_eq!(
            site.db.rows("SELECT id FROM shop.similar_items('item 7', 5, filter => '{\"id\": [1, 2]}')").len(),
            2
        );
    }
}

/// Somebody else's objects earlier on the search path change nothing.
#[test]
fn decoys_on_the_search_path() {
    let mut site = docs();
    site.db.run(
        "CREATE SCHEMA decoy; CREATE TABLE decoy.docs (id int PRIMARY KEY, content text, embedding vector(16));
         CREATE FUNCTION decoy.decoy(vector, vector) RETURNS float8 LANGUAGE sql AS 'SELECT 1/0::float8';
         CREATE OPERATOR decoy.<=> (LEFTARG = vector, RIGHTARG = vector, FUNCTION = decoy.decoy);
         CREATE OPERATOR decoy.- (LEFTARG = float8, RIGHTARG = float8, FUNCTION = pg_catalog.float8mul);
         SET search_path = decoy, public, pg_catalog",
    );
    assert_eq!(ids(&mut site, "'doc 9', 1"), [9]);
    site.db.run("INSERT INTO public.docs (id, content) VALUES (400, 'with decoys')");
    site.settle("public.docs", "content");
}

#[test]
fn plain_sql_uses_the_index() {
    let mut site = docs();
    assert_eq!(
        site.db.column("SELECT id FROM docs ORDER BY embedding <=> autoembed.embed('doc 8', 'stub') LIMIT 3")[0],
        "8"
    );
    site.db.until("SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam WHERE m.amname = 'hnsw' AND i.indisvalid", "1", PATIENCE);
    site.db.run("SET enable_seqscan = off; SET enable_sort = off");
    let plan = site
        .db
        .column(
            "EXPLAIN (COSTS OFF) SELECT id FROM docs ORDER BY embedding <=> autoembed.embed('doc 8', 'stub') LIMIT 3",
        )
        .join("\n");
    assert!(plan.contains("Index Scan using") && plan.contains("<=>"), "{plan}");
    assert_eq!(
        site.db.column("SELECT id FROM docs ORDER BY embedding <=> autoembed.embed('doc 8', 'stub') LIMIT 3")[0],
        "8"
    );
}

/// The search function has pgvector's settings, which only a superuser sets in a session that has not loaded it: adding a column
/// does that, a column that is there does not.
#[test]
fn a_column_that_is_there_in_a_new_session() {
    let mut site = Site::new();
    site.db.run("CREATE ROLE alice LOGIN; GRANT CREATE ON SCHEMA public TO alice");
    let enable = |table: &str| format!("SELECT autoembed.enable('{table}', 'body', model => 'stub')");
    site.session_as("alice").run(&format!(
        "CREATE TABLE again (id int PRIMARY KEY, body text); CREATE TABLE made (id int PRIMARY KEY, body text, embedding vector(16));
         {}; SELECT autoembed.disable('again')",
        enable("again")
    ));
    for table in ["again", "made"] {
        let mut alice = site.session_as("alice");
        alice.run(&enable(table));
        alice.run(&format!("INSERT INTO {table} VALUES (1, 'one'), (2, 'two')"));
        site.settle(&format!("public.{table}"), "body");
        assert_eq!(site.session_as("alice").int(&format!("SELECT id FROM similar_{table}('two', 1)")), 2, "{table}");
    }
}
