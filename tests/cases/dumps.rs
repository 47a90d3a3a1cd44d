//! Dump and restore: the set-up comes along, and nothing is embedded twice.

use autoembed_tests::site::{DATABASE, PATIENCE};
use autoembed_tests::{Cluster, Db, Site, vectors};

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
    const PATHS: &str = "SELECT concat_ws(' ', p.proname, p.proconfig::text, v.input_path) FROM pg_proc p JOIN autoembed.vectorizer v ON v.row_search = p.proname ORDER BY 1";
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
        ("SELECT count(*) FROM similar_messages_to(3, 50)", "20"),
        ("SELECT count(*) FROM similar_docs_to(3, 50)", "20"),
        ("SELECT count(*) FROM similar_posts_to(3, 50, filter => '{\"title\": \"edited\"}')", "0"),
    ] {
        assert_eq!(db.text(search), found, "{search}");
    }
    // What came from a dump is not tied to its table any more, and goes with the vectorizer all the same.
    let functions = "SELECT count(*) FROM pg_proc WHERE COALESCE(pg_get_function_sqlbody(oid), prosrc) ~ 'autoembed[.](search_rows|(row_)?search_statement)[(]'";
    assert_eq!(db.int(functions), 6);
    db.run("SELECT autoembed.disable('messages'), autoembed.disable('docs', 'Vector'), autoembed.disable('posts')");
    assert_eq!(db.int(functions), 0);
    // The first database goes on by itself.
    site.marker();
}

/// The whole database, or some of it, as a file of statements.
fn dump(cluster: &Cluster, more: &[&str]) -> String {
    let file = cluster.socket_dir().join("part.sql").display().to_string();
    run(cluster, "pg_dump", &[&["-d", DATABASE, "-f", &file], more].concat());
    file
}

fn another(cluster: &Cluster, database: &str) -> Db {
    cluster.client("postgres").run(&format!("CREATE DATABASE {database}"));
    let mut db = cluster.client(database);
    db.run("CREATE EXTENSION autoembed CASCADE");
    db
}

fn embedded(db: &mut Db, table: &str) {
    db.until(&format!("SELECT count(*) FROM {table} WHERE embedding IS NULL"), "0", PATIENCE);
    db.until("SELECT sum(pending + in_flight) FROM autoembed.status", "0", PATIENCE);
}

const TRIGGERS: &str = "SELECT tgname FROM pg_trigger WHERE tgrelid = 'pub'::regclass AND NOT tgisinternal ORDER BY 1";
const CLEAR: &str = "SELECT autoembed.enable('pub', 'words', model => 'builtin', on_change => 'clear')";

#[test]
fn g34_a_dump_of_one_table() {
    let site = Site::new();
    let mut db = site.session();
    db.run("CREATE TABLE pub (id int PRIMARY KEY, words text); INSERT INTO pub SELECT i, 'parcel ' || i FROM generate_series(1, 5) i");
    db.run(CLEAR);
    embedded(&mut db, "pub");
    let file = dump(&site.cluster, &["-t", "pub"]);
    for is_taken in [false, true] {
        // The triggers come with the table; their number is nobody's, or another table's.
        let name = if is_taken { "taken" } else { "untouched" };
        let mut db = another(&site.cluster, name);
        if is_taken {
            db.run("CREATE TABLE secret (id int PRIMARY KEY, words text); INSERT INTO secret SELECT i, 'a secret' FROM generate_series(1, 9) i");
            assert_eq!(
                db.int("SELECT autoembed.enable('secret', 'words', model => 'builtin', on_change => 'clear')"),
                1
            );
            embedded(&mut db, "secret");
            db.run("SELECT autoembed.pause('secret')");
        }
        let said = run(&site.cluster, "psql", &["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", name, "-f", &file]);
        assert_eq!(said, "", "{is_taken}");
        assert_eq!(db.column(TRIGGERS), ["autoembed_1_insert", "autoembed_1_update", "~autoembed_1_clear"]);
        db.run("INSERT INTO pub VALUES (6, 'written before'); UPDATE pub SET words = 'changed before' WHERE id = 1; UPDATE pub SET id = 7 WHERE id = 2");
        assert_eq!(db.int("SELECT count(*) FROM autoembed.job"), 0, "queued for another table: {is_taken}");
        assert_eq!(db.int("SELECT count(embedding) FROM pub"), 5, "cleared for another table: {is_taken}");
        let silent = "SELECT DISTINCT tgrelid::regclass FROM pg_trigger WHERE tgfoid = 'autoembed.queue_change'::regproc AND tgparentid = 0
             AND NOT EXISTS (SELECT FROM autoembed.status WHERE source = tgrelid)";
        assert_eq!(db.column(silent), ["pub"], "{is_taken}");
        let id = db.int(CLEAR);
        assert_eq!(db.column(silent), Vec::<String>::new(), "{is_taken}");
        let own = |id: i64| {
            vec![format!("autoembed_{id}_insert"), format!("autoembed_{id}_update"), format!("~autoembed_{id}_clear")]
        };
        assert_eq!(db.column(TRIGGERS), own(id), "{is_taken}");
        db.run("UPDATE pub SET words = 'changed after' WHERE id = 3");
        embedded(&mut db, "pub");
        assert_eq!(db.text("SELECT words FROM similar_pub('written before', 1)"), "written before");
        assert_eq!(db.text("SELECT words FROM similar_pub('changed after', 1)"), "changed after");
        // The triggers of a second vectorizer leave those of the first.
        db.run("SELECT autoembed.enable('pub', 'words', model => 'builtin', embedding => 'second')");
        assert_eq!(db.column(TRIGGERS).len(), 5, "{is_taken}");
        db.run("SELECT autoembed.disable('pub'), autoembed.disable('pub', 'second')");
        assert_eq!(db.column(TRIGGERS), Vec::<String>::new(), "{is_taken}");
        if is_taken {
            assert_eq!(db.int("SELECT count(embedding) FROM secret"), 9);
        }
    }
}

#[test]
fn g34_a_dump_into_a_database_with_vectorizers() {
    let site = Site::new();
    let mut db = site.session();
    db.run(
        "CREATE TABLE pub (id int PRIMARY KEY, words text); INSERT INTO pub VALUES (1, 'a parcel in public');
         CREATE TABLE pages (id int PRIMARY KEY, words text); INSERT INTO pages VALUES (1, 'a parcel on a page')",
    );
    const PAGES: &str = "SELECT autoembed.enable('pages', 'words', model => 'builtin', chunk_size => 100)";
    db.run(CLEAR);
    db.run(PAGES);
    embedded(&mut db, "pub");
    db.until("SELECT count(*) FROM pages_chunks", "1", PATIENCE);
    let file = dump(&site.cluster, &[]);
    let mut db = another(&site.cluster, "taken");
    db.run(
        "CREATE TABLE secret (id int PRIMARY KEY, words text); INSERT INTO secret VALUES (1, 'a secret parcel');
         CREATE TABLE drawer (id int PRIMARY KEY, words text); INSERT INTO drawer VALUES (1, 'a hidden parcel');
         SELECT autoembed.enable('secret', 'words', model => 'builtin')",
    );
    assert_eq!(db.int("SELECT autoembed.enable('drawer', 'words', model => 'builtin', chunk_size => 100)"), 2);
    embedded(&mut db, "secret");
    db.until("SELECT count(*) FROM drawer_chunks", "1", PATIENCE);
    let said = run(&site.cluster, "psql", &["-X", "-q", "-d", "taken", "-f", &file]);
    assert!(said.contains("duplicate key value"), "{said}");

    const SECRET: &str = "SELECT words FROM similar_secret('parcel')";
    const DRAWER: &str = "SELECT chunk FROM similar_drawer('parcel')";
    let functions = "SELECT proname FROM pg_proc WHERE COALESCE(pg_get_function_sqlbody(oid), prosrc) ~ 'autoembed[.](search_rows|(row_)?search_statement)[(]' ORDER BY 1";
    // In a session that has searched in neither, and in one that has.
    for _ in 0..2 {
        for search in ["similar_pub('parcel')", "similar_pub_to(1)", "similar_pub('parcel', filter => '{\"id\": 1}')"] {
            db.error(&format!("SELECT * FROM {search}")).assert("55000", "vectorizer 1 is not the one");
        }
        db.error("SELECT * FROM similar_pages('parcel')").assert("55000", "vectorizer 2 is not the one");
        db.error("SELECT * FROM similar_pages('parcel', 5000)").assert("55000", "vectorizer 2 is not the one");
        assert_eq!((db.text(SECRET), db.text(DRAWER)), ("a secret parcel".into(), "a hidden parcel".into()));
        // The key that it is given is that of a row there, which is no neighbour of its own.
        assert_eq!(db.int("SELECT count(*) FROM similar_secret_to(1)"), 0);
    }
    // Renames are followed: a function is its vectorizer's, whatever it or the table is called.
    db.run("ALTER FUNCTION similar_secret RENAME TO find_secret; ALTER TABLE secret RENAME TO safe");
    assert_eq!(db.text("SELECT words FROM find_secret('parcel')"), "a secret parcel");
    db.run("ALTER FUNCTION find_secret RENAME TO similar_secret; ALTER TABLE safe RENAME TO secret");
    let before = db.column(functions);
    db.run(CLEAR);
    db.run(PAGES);
    embedded(&mut db, "pub");
    assert_eq!(db.column(functions), before, "those that came are replaced, those that were there stay");
    assert_eq!(db.text("SELECT words FROM similar_pub('parcel')"), "a parcel in public");
    assert_eq!(db.int("SELECT count(*) FROM similar_pub_to(1)"), 0);
    db.until("SELECT chunk FROM similar_pages('parcel')", "a parcel on a page", PATIENCE);
    assert_eq!((db.text(SECRET), db.text(DRAWER)), ("a secret parcel".into(), "a hidden parcel".into()));
    db.run("SELECT autoembed.disable('pub'), autoembed.disable('pages')");
    assert_eq!(db.column(functions), ["similar_drawer", "similar_secret", "similar_secret_to"]);
}

/// The whole table of models, as a text a row.
const MODELS: &str = "SELECT m::text FROM autoembed.models m ORDER BY name COLLATE \"C\"";

/// A well-known model that was edited, one that was replaced, and one of one's own, with tables that use them.
#[test]
fn g34_models_that_were_edited_or_replaced() {
    let mut site = Site::with_messages();
    let url = site.stub.url();
    site.db.run("SELECT autoembed.drop_model('nomic-embed-text'), autoembed.drop_model('mxbai-embed-large')");
    site.create_model("nomic-embed-text", "daily_token_budget => 1000000");
    site.create_model("mine", "");
    site.db.run(&format!(
        "UPDATE autoembed.models SET daily_token_budget = 5000000, api_key_file = '/no/such/key', url = 'https://gateway.example/v1'
           WHERE name = 'text-embedding-3-small';
         UPDATE autoembed.models SET provider = 'openai', dimensions = {}, url = '{url}' WHERE name = 'all-minilm';
         UPDATE autoembed.models SET dimensions = dimensions, options = options WHERE name = 'voyage-4'",
        site.dims
    ));
    let dumped = "SELECT name FROM autoembed.models WHERE NOT well_known ORDER BY name COLLATE \"C\"";
    let names = ["all-minilm", "mine", "nomic-embed-text", "stub", "text-embedding-3-small"];
    assert_eq!(site.db.column(dumped), names);
    // What is there already is not replaced unawares.
    let again = "SELECT autoembed.create_model('bge-m3', 'openai', 8, url => 'https://gateway.example/v1')";
    site.db.error(again).assert("42710", "bge-m3");
    for (table, model) in [("edited", "all-minilm"), ("replaced", "nomic-embed-text")] {
        site.db.run(&format!(
            "CREATE TABLE {table} (id int PRIMARY KEY, content text); SELECT autoembed.enable('{table}', 'content', model => '{model}');
             INSERT INTO {table} VALUES (1, 'before')"
        ));
        site.settle(table, "content");
        site.until_idle(table);
    }
    let mut models = site.db.column(MODELS);
    // What was dropped is brought back by CREATE EXTENSION.
    let mut fresh = site.cluster.client("postgres");
    fresh.run("CREATE EXTENSION autoembed CASCADE");
    models.extend(fresh.column("SELECT m::text FROM autoembed.models m WHERE name = 'mxbai-embed-large'"));
    fresh.run("DROP EXTENSION autoembed");

    let file = site.cluster.socket_dir().join("models.sql").display().to_string();
    let archive = site.cluster.socket_dir().join("models.dump").display().to_string();
    run(&site.cluster, "pg_dump", &["-d", DATABASE, "-f", &file]);
    run(&site.cluster, "pg_dump", &["-d", DATABASE, "-F", "custom", "-f", &archive]);
    site.db.run("SELECT autoembed.disable(source, embedding) FROM autoembed.status");
    for name in ["plain", "replica", "parallel"] {
        site.cluster.client("postgres").run(&format!("CREATE DATABASE {name}"));
        if name == "replica" {
            site.cluster.client("postgres").run("ALTER DATABASE replica SET session_replication_role = 'replica'");
        }
        match name {
            "parallel" => run(&site.cluster, "pg_restore", &["-d", name, "-e", "-j", "3", &archive]),
            _ => run(&site.cluster, "psql", &["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", name, "-f", &file]),
        };
        site.cluster.client("postgres").run(&format!("ALTER DATABASE {name} RESET session_replication_role"));
        let mut db = site.cluster.client(name);
        let mut restored = db.column(MODELS);
        restored.sort();
        models.sort();
        assert_eq!(restored, models, "{name}");
        assert_eq!(db.column(dumped), names, "{name}: the next dump");
        for table in ["edited", "replaced"] {
            db.run(&format!("INSERT INTO {table} VALUES (2, 'after, {name}')"));
            vectors::until_all_vectors(&mut db, table, "content", "embedding", site.dims, PATIENCE);
        }
        // Also what came from a dump can be edited, and is the same row.
        db.run("UPDATE autoembed.models SET daily_token_budget = 7 WHERE name = 'all-minilm'");
        assert_eq!(db.int("SELECT daily_token_budget FROM autoembed.models WHERE name = 'all-minilm'"), 7);
    }
}

/// A right to add models is none to put one in the place of another.
#[test]
fn who_may_add_models_replaces_none() {
    let mut site = Site::new();
    site.db.run("CREATE ROLE adder LOGIN; GRANT INSERT ON autoembed.models TO adder");
    let mut adder = site.session_as("adder");
    let insert = |name: &str| {
        format!(
            "INSERT INTO autoembed.models (name, provider, dimensions, url, well_known) VALUES ('{name}', 'openai', 8, 'http://127.0.0.1:9', true)"
        )
    };
    assert_eq!(adder.error(&insert("nomic-embed-text")).code, "42501");
    adder.run(&insert("another"));
    assert!(!site.db.yes("SELECT well_known FROM autoembed.models WHERE name = 'another'"), "it would not be dumped");
    assert_eq!(adder.error(&insert("another")).code, "23505");
    // The trigger's function is of use for that table alone.
    site.db.run("CREATE TABLE other (name text, well_known boolean); CREATE TRIGGER t BEFORE INSERT ON other FOR EACH ROW EXECUTE FUNCTION autoembed.own_model()");
    assert_eq!(site.db.error("INSERT INTO other VALUES ('nomic-embed-text', true)").code, "39P01");
}

/// The owner of a database is told why he cannot dump it, and each of the documented grants is enough.
#[test]
fn a_dump_by_an_owner_who_is_no_superuser() {
    let site = Site::new();
    let mut admin = site.cluster.client("postgres");
    admin.run("CREATE ROLE app_owner LOGIN");
    admin.run("CREATE DATABASE owned OWNER app_owner");
    admin.run("CREATE DATABASE restored");
    let mut superuser = site.cluster.client("owned");
    superuser.run("CREATE EXTENSION autoembed CASCADE");
    let mut owner = site.cluster.client_as("owned", "app_owner");
    owner.run("CREATE TABLE notes (id int PRIMARY KEY, content text); SELECT autoembed.enable('notes', 'content'); INSERT INTO notes VALUES (1, 'a note')");
    owner.until("SELECT count(embedding) FROM notes", "1", PATIENCE);
    let file = site.cluster.socket_dir().join("owned.sql").display().to_string();
    let dump = || {
        let output = site.cluster.tool("pg_dump").args(["-U", "app_owner", "-d", "owned", "-f", &file]).output();
        let output = output.unwrap_or_else(|e| panic!("pg_dump: {e}"));
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let refused = |(is_done, said): (bool, String)| {
        // Up to 17, and from 18 on.
        let words = ["permission denied for ", "may lack SELECT privilege"];
        assert!(!is_done && words.iter().any(|words| said.contains(words)), "{said}");
    };
    refused(dump());
    for (grant, revoke) in [
        ("GRANT pg_read_all_data TO app_owner", "REVOKE pg_read_all_data FROM app_owner"),
        (
            "GRANT SELECT ON ALL TABLES IN SCHEMA autoembed TO app_owner; GRANT SELECT ON ALL SEQUENCES IN SCHEMA autoembed TO app_owner",
            "REVOKE SELECT ON ALL TABLES IN SCHEMA autoembed FROM app_owner; REVOKE SELECT ON ALL SEQUENCES IN SCHEMA autoembed FROM app_owner",
        ),
    ] {
        let page = include_str!("../../docs/operations.md");
        assert!(grant.split("; ").all(|statement| page.contains(statement)), "the page has it in other words: {grant}");
        superuser.run(grant);
        assert_eq!(dump(), (true, String::new()), "{grant}");
        superuser.run(revoke);
        refused(dump());
    }
    // The set-up is in the last of them, and the grants; to restore it is for superusers.
    let sql = std::fs::read_to_string(&file).expect("the dump is there");
    assert!(sql.contains("GRANT SELECT ON TABLE autoembed.job TO app_owner"), "the grants are not in the dump");
    run(&site.cluster, "psql", &["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "restored", "-f", &file]);
    let mut restored = site.cluster.client("restored");
    restored.run("INSERT INTO notes VALUES (2, 'another')");
    restored.until("SELECT count(embedding) FROM notes", "2", PATIENCE);
}
