//! `similar_<table>_to`: rows like a given row.

use autoembed_tests::Site;
use autoembed_tests::db::literal;

/// `docs`, 200 rows in 4 colours; row 201 has no text.
fn docs() -> Site {
    let mut site = Site::new();
    site.db.run("CREATE TABLE docs (id int PRIMARY KEY, content text, colour text)");
    site.enable("docs", "content", "");
    site.db.run(
        "INSERT INTO docs SELECT i, 'doc ' || i, (ARRAY['red', 'green', 'blue', 'grey'])[1 + i % 4] FROM generate_series(1, 200) i;
         INSERT INTO docs VALUES (201, NULL, 'red')",
    );
    site.settle("docs", "content");
    site.until_idle("docs");
    site
}

fn exact(site: &mut Site, id: i32, more: &str) -> Vec<String> {
    site.db.column(&format!(
        "SELECT id FROM docs WHERE id <> {id} {more} ORDER BY embedding <=> (SELECT embedding FROM docs WHERE id = {id}), id LIMIT 10"
    ))
}

#[test]
fn the_nearest_rows_without_the_row_itself() {
    let mut site = docs();
    for id in [1, 77, 200] {
        let found = site.db.column(&format!("SELECT id FROM similar_docs_to({id})"));
        assert_eq!(found, exact(&mut site, id, ""), "row {id}");
        let found = site.db.column(&format!(
            "SELECT id FROM similar_docs_to(id => {id}, k => 10, filter => '{{\"colour\": [\"red\", \"blue\"]}}')"
        ));
        assert_eq!(found, exact(&mut site, id, "AND colour IN ('red', 'blue')"), "row {id}, filtered");
    }
    let row = site.db.rows("SELECT * FROM similar_docs_to(5, 1)").remove(0);
    assert_eq!(row.len(), 3);
    assert_eq!(row[1].as_deref(), Some(&*format!("doc {}", row[0].as_deref().unwrap())));
    let similarity = row[2].clone().unwrap();
    let plain = "SELECT (1 - (a.embedding <=> b.embedding))::real FROM docs a, docs b WHERE a.id = 5 AND b.id";
    assert_eq!(similarity, site.db.text(&format!("{plain} = {}", row[0].as_deref().unwrap())));
    let above = format!("SELECT count(*) FROM similar_docs_to(5, 300, min_similarity => {similarity})");
    assert_eq!(site.db.int(&above), 1);
    assert_eq!(site.db.int("SELECT count(*) FROM similar_docs_to(5, NULL)"), 199);
    assert_eq!(site.db.int("SELECT count(*) FROM similar_docs_to(5, 0)"), 0);
    assert_eq!(site.db.int("SELECT count(*) FROM similar_docs_to(5, 2000000000)"), 199);
    site.db.run("UPDATE docs SET content = 'doc 77' WHERE id = 6");
    let nearest = "SELECT id FROM similar_docs_to(6, 1)";
    site.settle("docs", "content");
    assert_eq!(site.db.text(nearest), "77");
    assert_eq!(site.db.text("SELECT round(similarity::numeric, 5) FROM similar_docs_to(6, 1)"), "1.00000");
}

#[test]
fn rows_that_have_no_neighbours() {
    let mut site = docs();
    for key in ["999", "201", "NULL", "-1"] {
        assert!(site.db.rows(&format!("SELECT * FROM similar_docs_to({key})")).is_empty(), "{key}");
    }
    site.db.error("SELECT * FROM similar_docs_to(1, -1)").assert("22023", "k");
    site.db.error("SELECT * FROM similar_docs_to(1, filter => '{\"colr\": 1}')").assert("42703", "colr");
    site.db.error("SELECT * FROM similar_docs_to(1, filter => '[1]')").assert("22023", "filter");
    // No model is asked.
    site.stub.reset_stats();
    site.stub_gone();
    assert_eq!(site.db.int("SELECT count(*) FROM similar_docs_to(7)"), 10);
    assert!(site.inputs().is_empty());
    site.db.run("ALTER TABLE docs DROP CONSTRAINT docs_pkey");
    site.db.error("SELECT * FROM similar_docs_to(1)").assert("55000", "primary key");
}

/// One parameter a column, in the key's order, of the column's type; also where a column is called as a parameter.
#[test]
fn keys_of_every_kind() {
    let mut site = Site::new();
    site.db.run(
        "CREATE SCHEMA other; CREATE TYPE other.mood AS ENUM ('fine', 'so so'); CREATE DOMAIN other.code AS varchar(9)",
    );
    for (number, (key, columns, first)) in [
        ("id", "id uuid", "'00000000-0000-0000-0000-000000000001'"),
        ("id", "id text", "'1'"),
        ("id", "id char(5)", "'1 one'"),
        ("id", "id bit(4)", "B'0001'"),
        ("id", "id \"char\"", "'1'"),
        ("id", "id other.code", "'1'"),
        ("id", "id numeric(10, 2)", "1.00"),
        ("id", "id timestamptz", "'2026-01-01 00:00:01+00'"),
        ("\"the Key\", id", "id int, \"the Key\" other.mood", "'fine', 1"),
        ("k, filter, query", "filter text, query int, k bigint", "1, 'a', 2"),
        ("similarity, body_", "body_ int, similarity int", "1, 1"),
    ]
    .into_iter()
    .enumerate()
    {
        let table = format!("of_{number}");
        site.db.run(&format!("CREATE TABLE {table} (body text, {columns}, PRIMARY KEY ({key}))"));
        site.enable(&table, "body", "");
        let other = match number {
            0 => "'00000000-0000-0000-0000-000000000002'".to_owned(),
            3 => "B'1001'".to_owned(),
            6 => "2.50".to_owned(),
            7 => "'2026-01-01 00:00:02+00'".to_owned(),
            8 => "'so so', 1".to_owned(),
            9 => "1, 'b', 2".to_owned(),
            10 => "2, 1".to_owned(),
            _ => "'2'".to_owned(),
        };
        site.db.run(&format!("INSERT INTO {table} (body, {key}) VALUES ('one', {first}), ('two', {other})"));
        site.settle(&table, "body");
        assert_eq!(site.db.column(&format!("SELECT body FROM similar_{table}_to({first})")), ["two"], "{columns}");
        assert_eq!(site.db.column(&format!("SELECT body FROM similar_{table}_to({other}, 5)")), ["one"], "{columns}");
        let filter = key.split(", ").next().unwrap().trim_matches('"');
        let value = first.split(", ").next().unwrap().trim_start_matches('B').trim_matches('\'');
        let filter = literal(&format!("{{\"{filter}\": \"{value}\"}}"));
        assert!(
            site.db
                .column(&format!("SELECT body FROM similar_{table}('one', filter => {filter})"))
                .contains(&"one".into()),
            "{columns}: {filter}"
        );
    }
    let arguments = "SELECT pg_get_function_arguments(oid) FROM pg_proc WHERE proname";
    assert!(
        site.db
            .text(&format!("{arguments} = 'similar_of_8_to'"))
            .starts_with("INOUT \"the Key\" other.mood, INOUT id integer, k integer DEFAULT 10,")
    );
    assert!(
        site.db
            .text(&format!("{arguments} = 'similar_of_9_to'"))
            .starts_with("INOUT k_ bigint, INOUT filter_ text, INOUT query_ integer, k integer DEFAULT 10,")
    );
    assert_eq!(
        site.db.column("SELECT body FROM similar_of_9_to(filter_ => 'a', query_ => 2, k_ => 1, k => 3)"),
        ["two"]
    );
}

fn functions(site: &mut Site) -> Vec<String> {
    site.db.column(
        "SELECT proname FROM pg_proc WHERE COALESCE(pg_get_function_sqlbody(oid), prosrc) ~ 'autoembed[.](search_rows|(row_)?search_statement)[(]' ORDER BY 1",
    )
}

#[test]
fn names_that_are_taken() {
    let mut site = Site::new();
    let long = "l".repeat(63);
    for table in ["notes_to", "notes", &long] {
        site.db.run(&format!("CREATE TABLE {table} (id int PRIMARY KEY, body text)"));
    }
    site.enable("notes_to", "body", "");
    site.enable("notes", "body", "");
    assert_eq!(
        functions(&mut site),
        ["similar_notes", "similar_notes_embedding_to", "similar_notes_to", "similar_notes_to_to"]
    );
    site.enable("notes", "body || '!'", "embedding => 'other'");
    site.enable("notes", "body || '?'", "embedding => 'third', search_function => 'find'");
    let all = functions(&mut site);
    for name in ["similar_notes_other", "similar_notes_other_to", "find", "find_to"] {
        assert!(all.contains(&name.to_owned()), "{all:?}");
    }
    site.enable(&long, "body", "");
    site.db.run(&format!("INSERT INTO {long} VALUES (1, 'one'), (2, 'two')"));
    site.settle(&long, "body");
    let name = functions(&mut site).into_iter().find(|name| name.starts_with("similar_ll") && name.ends_with("_to"));
    let name = name.unwrap_or_else(|| panic!("{:?}", functions(&mut site)));
    assert_eq!(name.len(), 63);
    assert_eq!(site.db.text(&format!("SELECT body FROM {name}(1)")), "two");
    // Each vectorizer has its own two.
    site.db.run("INSERT INTO notes VALUES (1, 'one'), (2, 'two'), (3, 'three')");
    for (column, text) in [("embedding", "body"), ("other", "body || '!'"), ("third", "body || '?'")] {
        site.settle_within("notes", text, column, autoembed_tests::site::PATIENCE);
    }
    for (function, column) in
        [("similar_notes_embedding_to", "embedding"), ("similar_notes_other_to", "other"), ("find_to", "third")]
    {
        let nearest = format!(
            "SELECT id FROM notes WHERE id <> 1 ORDER BY {column} <=> (SELECT {column} FROM notes WHERE id = 1)"
        );
        assert_eq!(site.db.column(&format!("SELECT id FROM {function}(1)")), site.db.column(&nearest), "{function}");
    }
    site.db.run("CREATE FUNCTION taken_to() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE FUNCTION taken_fourth_to() RETURNS int LANGUAGE sql AS 'SELECT 1'");
    site.db
        .error("SELECT autoembed.enable('notes', 'body', 'stub', embedding => 'fourth', search_function => 'taken')")
        .assert("42723", "taken_fourth_to");
    site.db.run("SELECT autoembed.disable('notes', 'third')");
    assert!(!functions(&mut site).iter().any(|name| name.starts_with("find")));
    site.db.run("DROP TABLE notes");
    assert!(!functions(&mut site).iter().any(|name| name.starts_with("similar_notes_other")));
    site.db.run("DROP EXTENSION autoembed");
    assert_eq!(functions(&mut site), [""; 0]);
}

#[test]
fn they_are_the_owners_and_follow_new_names() {
    let mut site = Site::new();
    site.db.run("CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN; GRANT CREATE ON SCHEMA public TO alice");
    let mut alice = site.session_as("alice");
    alice.run("CREATE TABLE notes (id int PRIMARY KEY, body text); INSERT INTO notes SELECT i, 'note ' || i FROM generate_series(1, 20) i");
    site.enable("notes", "body", "");
    site.settle("notes", "body");
    let owners =
        "SELECT DISTINCT proowner::regrole::text FROM pg_proc WHERE proname IN ('similar_notes', 'similar_notes_to')";
    assert_eq!(site.db.column(owners), ["alice"]);
    assert!(
        site.db
            .text("SELECT obj_description('similar_notes_to(int, int, real, jsonb)'::regprocedure)")
            .contains("notes")
    );
    let mut bob = site.session_as("bob");
    bob.error("SELECT * FROM similar_notes_to(1)").assert("42501", "notes");
    alice.run("GRANT SELECT ON notes TO bob");
    let found = bob.column("SELECT id FROM similar_notes_to(4)");
    assert_eq!(found.len(), 10);
    alice.run("ALTER TABLE notes RENAME TO \"the notes\"; ALTER TABLE \"the notes\" RENAME id TO nr; ALTER TABLE \"the notes\" RENAME embedding TO \"Vector\"; ALTER TABLE \"the notes\" RENAME body TO main");
    assert_eq!(bob.column("SELECT id FROM similar_notes_to(4)"), found);
    assert_eq!(bob.column("SELECT id FROM similar_notes_to(4, filter => '{\"main\": \"note 7\"}')"), ["7"]);
    site.db.run("REVOKE SELECT ON \"the notes\" FROM bob");
    assert_eq!(bob.error("SELECT * FROM similar_notes_to(4)").code, "42501");
    alice.run("ALTER FUNCTION similar_notes_to(int, int, real, jsonb) RENAME TO like_this; SELECT autoembed.disable('\"the notes\"', 'Vector')");
    assert_eq!(functions(&mut site), [""; 0]);
}

/// Equality is that of the key's own type, and types are those of the table, whatever is on the reader's search_path.
#[test]
fn g07_decoys_beside_the_key() {
    let mut site = Site::new();
    site.db.run(
        "CREATE ROLE mallory LOGIN; CREATE ROLE bob LOGIN; CREATE SCHEMA evil AUTHORIZATION mallory; GRANT USAGE ON SCHEMA evil TO PUBLIC;
         CREATE TABLE notes (id vector(2) PRIMARY KEY, body text, tag vector(2)); GRANT SELECT ON notes TO bob",
    );
    site.enable("notes", "body", "");
    site.db.run(
        "INSERT INTO notes VALUES ('[1,1]', 'one', '[0,1]'), ('[2,2]', 'two', '[0,1]'), ('[3,3]', 'three', '[0,2]')",
    );
    site.settle("notes", "body");
    site.session_as("mallory").run(
        "CREATE FUNCTION evil.decoy(vector, vector) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'a decoy ran as %', current_user; END $$;
         CREATE OPERATOR evil.= (LEFTARG = vector, RIGHTARG = vector, FUNCTION = evil.decoy);
         CREATE FUNCTION evil.check_it(pg_catalog.text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'a decoy ran as %', current_user; END $$;
         CREATE DOMAIN evil.text AS pg_catalog.text CHECK (evil.check_it(VALUE))",
    );
    let mut bob = site.session_as("bob");
    bob.run("SET search_path = evil, public, pg_catalog");
    for bait in ["'[1,1]'::vector = '[1,2]'::vector", "'x'::text"] {
        assert!(bob.error(&format!("SELECT {bait}")).message.contains("a decoy ran as bob"), "no decoy is in the way");
    }
    for (search, rows) in [
        ("similar_notes_to('[1,1]')", 2),
        ("similar_notes_to('[2,2]', filter => '{\"tag\": \"[0,1]\", \"body\": \"one\"}')", 1),
        ("similar_notes('one', filter => '{\"tag\": [\"[0,1]\"], \"id\": \"[1,1]\", \"body\": [\"one\"]}')", 1),
    ] {
        assert_eq!(bob.rows(&format!("SELECT * FROM {search}")).len(), rows, "{search}");
    }
    assert_eq!(site.cluster.log().matches("a decoy ran as").count(), 2, "{}", site.cluster.log_tail(10));
}
