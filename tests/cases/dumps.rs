//! Dump and restore: the set-up comes along, and nothing is embedded twice.

use autoembed_tests::site::{DATABASE, PATIENCE};
use autoembed_tests::{Cluster, Site, vectors};

/// Runs one of the server's programs; panics with what it wrote where it fails. Gives what it wrote to stderr.
fn run(cluster: &Cluster, name: &str, arguments: &[&str]) -> String {
    let output = cluster.tool(name).args(arguments).output().unwrap_or_else(|e| panic!("{name}: {e}"));
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{name} ended with {}: {stderr}", output.status);
    stderr
}

#[test]
fn g34_a_dump_restored_into_another_database() {
    let mut site = Site::with_messages();
    site.insert(1, 20);
    // Column numbers differ after a restore where a column was dropped before.
    site.db.run(
        "CREATE TABLE docs (scrap text, title text, number int, body text, PRIMARY KEY (number));
         CREATE TABLE posts (scrap int, id int PRIMARY KEY, title text, body text)",
    );
    site.enable("docs", "body", "embedding => 'body_vector'");
    site.db.run("CREATE SCHEMA \"shelf, \"\"1\"\"\"; SET search_path = \"$user\", \"shelf, \"\"1\"\"\", public");
    site.enable("posts", "title || E'\\n' || body", "on_change => 'clear'");
    site.db.run("RESET search_path");
    site.db.run(
        "ALTER TABLE docs DROP COLUMN scrap; ALTER TABLE docs RENAME COLUMN body TO main; ALTER TABLE docs RENAME COLUMN number TO nr;
         ALTER TABLE docs RENAME COLUMN body_vector TO \"Vector\"; ALTER TABLE docs ADD COLUMN body text DEFAULT 'another body';
         ALTER TABLE posts DROP COLUMN scrap",
    );
    site.db.run(
        "INSERT INTO docs (title, nr, main) SELECT 'title ' || i, i, 'main ' || i FROM generate_series(1, 20) i;
         INSERT INTO posts (id, title, body) SELECT i, 'post ' || i, 'body ' || i FROM generate_series(1, 20) i",
    );
    let post = "title || E'\\n' || body";
    site.settle("messages", "content");
    site.settle_within("docs", "main", "\"Vector\"", PATIENCE);
    site.settle("posts", post);
    for table in ["messages", "docs", "posts"] {
        site.until_idle(table);
    }

    // The worker notes new names within a second or two.
    site.db.until("SELECT count(*) FROM autoembed.status WHERE embedding = 'Vector'", "1", PATIENCE);
    let file = site.cluster.socket_dir().join("dump.sql").display().to_string();
    let said = run(&site.cluster, "pg_dump", &["-d", DATABASE, "-f", &file]);
    assert_eq!(said, "", "pg_dump complains");
    site.cluster.client("postgres").run("CREATE DATABASE restored");
    site.stub.reset_stats();
    let said = run(&site.cluster, "psql", &["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "restored", "-f", &file]);
    assert!(!said.contains("ERROR") && !said.contains("WARNING"), "{said}");

    let mut db = site.cluster.client("restored");
    const PATHS: &str = "SELECT concat_ws(' ', p.proname, p.proconfig::text, v.input_path) FROM pg_proc p JOIN autoembed.vectorizer v ON v.search_function = p.proname ORDER BY 1";
    let paths = site.db.column(PATHS);
    assert_eq!(db.column(PATHS), paths);
    assert!(paths.iter().any(|path| path.contains("shelf") && path.contains("pg_temp")), "{paths:?}");
    let settle = |db: &mut _, table: &str, text: &str, vector: &str| {
        vectors::until_all_vectors(db, table, text, vector, 16, PATIENCE)
    };
    db.run("UPDATE messages SET content = 'edited message' WHERE id = 3; INSERT INTO messages (content) VALUES ('new message')");
    db.run("UPDATE docs SET main = 'edited doc' WHERE nr = 3; INSERT INTO docs (nr, main) VALUES (21, 'new doc')");
    db.run("UPDATE docs SET body = 'not the input', title = 'not either'");
    db.run("UPDATE posts SET title = 'edited' WHERE id = 3; INSERT INTO posts VALUES (21, 'new', 'post')");
    assert_eq!(settle(&mut db, "messages", "content", "embedding"), 21);
    assert_eq!(settle(&mut db, "docs", "main", "\"Vector\""), 21);
    assert_eq!(settle(&mut db, "posts", post, "embedding"), 21);
    db.until("SELECT sum(pending + in_flight) FROM autoembed.status", "0", PATIENCE);
    let states = db.column("SELECT DISTINCT state FROM autoembed.status");
    assert_eq!(states, ["active"]);
    assert_eq!(db.int("SELECT count(*) FROM autoembed.failed_jobs"), 0);
    let mut inputs = site.inputs();
    inputs.sort();
    let expected = ["edited\nbody 3", "edited doc", "edited message", "new\npost", "new doc", "new message"];
    assert_eq!(inputs, expected, "rows that came with their vectors were embedded again");
    // What a search function answers keeps the names that it was made with.
    for (search, found) in [
        ("SELECT content FROM similar_messages('new message', 1)", "new message"),
        ("SELECT number FROM similar_docs('edited doc', 1)", "3"),
        ("SELECT id FROM similar_posts(E'edited\\nbody 3', 1)", "3"),
    ] {
        assert_eq!(db.text(search), found, "{search}");
    }
    // The first database goes on by itself.
    site.marker();
}
