//! The text index of hybrid searches: what has one, how it is built beside writers, what becomes of it when a build ends early, and
//! that a user's own stays his.

use autoembed_tests::db::literal;
use autoembed_tests::site::{self, DATABASE, PATIENCE};
use autoembed_tests::{Db, Site};

/// Those that are complete.
const INDEXES: &str = "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam \
     WHERE m.amname = 'gin' AND i.indisvalid ORDER BY 1";

/// Those that go with the extension.
const OURS: &str = "SELECT d.objid::regclass::text FROM pg_depend d JOIN pg_extension x ON x.oid = d.refobjid JOIN pg_class c ON c.oid = d.objid JOIN pg_am m ON m.oid = c.relam \
     WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_extension'::regclass AND x.extname = 'autoembed' AND d.deptype = 'x' AND m.amname = 'gin' ORDER BY 1";
const ALL: &str = "SELECT count(*) FROM pg_class c JOIN pg_am m ON m.oid = c.relam WHERE m.amname = 'gin'";
const WAITS: &str = "SELECT count(*) FROM autoembed.vectorizer WHERE text_index_wanted";

/// `docs (id, body)`, a large table to the planner, with vectors; nobody is asked for any.
fn docs(site: &mut Site) {
    site.db.run(
        "CREATE TABLE docs (id int PRIMARY KEY, body text, embedding vector(16)); SELECT setseed(0.5);
         INSERT INTO docs SELECT i, 'text ' || md5(i::text), ARRAY(SELECT random() - 0.5 FROM generate_series(1, 16) WHERE i = i)::vector(16)
         FROM generate_series(1, 12000) i; ANALYZE docs",
    );
}

/// No index is waited for. A builder that cannot have its turn comes again within a minute.
fn until_over(db: &mut Db) {
    db.until("SELECT count(*) FROM autoembed.vectorizer WHERE text_index_wanted OR index_wanted", "0", PATIENCE * 3);
}

#[test]
fn what_enable_makes_and_disable_takes_away() {
    let mut site = Site::with_messages();
    site.db.error("SELECT * FROM similar_messages('x', mode => 'hybrid')").assert("55000", "without text search");
    assert!(site.db.error("SELECT * FROM similar_messages('x', mode => 'hybrid')").hint.contains("text_search"));
    site.db.run("SELECT autoembed.disable('messages')");
    site.enable("messages", "content", "text_search => 'english'");
    assert_eq!(site.db.column(INDEXES), ["messages_embedding_text_idx"]);
    let catalogue = "SELECT count(*), max(oid) FROM pg_class";
    let before = site.db.rows(catalogue);
    site.enable("messages", "content", "text_search => 'pg_catalog.english'");
    assert_eq!(site.db.rows(catalogue), before, "the same again changes nothing");
    let other = "SELECT autoembed.enable('messages', 'content', model => 'stub'";
    site.db.error(&format!("{other}, text_search => 'simple')")).assert("42710", "other arguments");
    site.db.error(&format!("{other})")).assert("42710", "other arguments");
    // Renamed, it is the same index; two vectorizers with one input share it.
    site.db.run(
        "ALTER TABLE messages RENAME COLUMN content TO said; ALTER INDEX messages_embedding_text_idx RENAME TO words",
    );
    site.enable("messages", "said", "text_search => 'english', embedding => 'second'");
    assert_eq!(site.db.column(INDEXES), ["words"]);
    site.db.run("SELECT autoembed.disable('messages')");
    assert_eq!(site.db.column(INDEXES), ["words"]);
    site.db.run("SELECT autoembed.disable('messages', 'second')");
    assert_eq!(site.db.column(INDEXES), [""; 0]);
    // A user's own is used, and stays.
    site.db.run("CREATE INDEX mine ON messages USING gin (to_tsvector('simple', \"left\"(said, 65536)))");
    site.enable("messages", "said", "text_search => 'simple'");
    assert_eq!(site.db.column(INDEXES), ["mine"]);
    site.db.run("SELECT autoembed.disable('messages')");
    assert_eq!(site.db.column(INDEXES), ["mine"]);
    let long = "x".repeat(63);
    site.db.run(&format!("CREATE TABLE {long} (id int PRIMARY KEY, body text)"));
    site.enable(&long, "body", "text_search => 'german'");
    assert_eq!(site.db.column(INDEXES).len(), 2);
    site.db.run("DROP EXTENSION autoembed");
    assert_eq!(site.db.column(INDEXES), ["mine"], "what was made goes with the extension");
}

/// A configuration that was renamed is known by the index that was made with it.
#[test]
fn a_configuration_with_another_name() {
    let mut site = Site::with_messages();
    site.db.run("SELECT autoembed.disable('messages'); CREATE SCHEMA texts; CREATE TEXT SEARCH CONFIGURATION texts.mine (COPY = english)");
    site.insert(1, 5);
    site.enable("messages", "content", "text_search => 'texts.mine'");
    site.enable(
        "messages",
        "content",
        "text_search => 'german', embedding => 'second', search_function => 'by_german'",
    );
    site.settle("messages", "content");
    let found = "SELECT content FROM similar_messages('texts 3', 1, mode => 'hybrid')";
    assert_eq!(site.db.text(found), "text 3");
    for (renamed, now) in [
        ("ALTER TEXT SEARCH CONFIGURATION texts.mine RENAME TO yours", "texts.yours"),
        ("ALTER SCHEMA texts RENAME TO words", "words.yours"),
    ] {
        site.db.run(renamed);
        site.db = site.session();
        assert_eq!(site.db.text(found), "text 3", "{renamed}");
        let before = site.db.int("SELECT max(oid)::bigint FROM pg_class");
        site.enable("messages", "content", &format!("text_search => '{now}'"));
        assert_eq!(site.db.int("SELECT max(oid)::bigint FROM pg_class"), before, "it has that one");
    }
    assert_eq!(site.status("state", "messages"), "active");
    site.db.run("SELECT autoembed.disable('messages')");
    assert_eq!(site.db.column(INDEXES), ["messages_second_text_idx"]);
    // Where no index tells, the hint does; and nothing is left.
    site.enable("messages", "content", "text_search => 'words.yours'");
    site.db.run("ALTER TEXT SEARCH CONFIGURATION words.yours RENAME TO ours; CREATE INDEX a_copy ON messages USING gin (to_tsvector('words.ours', \"left\"(content, 65536)))");
    site.db.run("DROP INDEX messages_embedding_text_idx");
    let error = site.db.error("SELECT * FROM similar_messages('x', mode => 'hybrid')");
    error.assert("42704", "words.yours");
    assert!(error.hint.contains("name back") && error.hint.contains("disable()"), "{error:?}");
    site.db.run("SELECT autoembed.disable('messages')");
    site.enable("messages", "content", "text_search => 'words.ours'");
    assert_eq!(site.db.text(found), "text 3");
    // It is gone with all that was made with it, but for the index, which says nothing by then.
    site.db.run("SELECT autoembed.disable('messages')");
    assert_eq!(site.db.column(INDEXES), ["a_copy", "messages_second_text_idx"]);
    // One that the server itself brings: no dependency names it.
    site.enable("messages", "content", "text_search => 'simple'");
    site.db.run("ALTER TEXT SEARCH CONFIGURATION pg_catalog.simple RENAME TO plain");
    site.db.run("SELECT autoembed.disable('messages')");
    assert_eq!(site.db.column(INDEXES), ["a_copy", "messages_second_text_idx"]);
}

#[test]
fn inputs_with_an_index_and_without() {
    let mut site = Site::new();
    site.db.run(
        "CREATE DOMAIN a_line AS text CHECK (length(VALUE) < 100); CREATE DOMAIN short_line AS a_line CHECK (VALUE <> '');
         CREATE TABLE posts (id int PRIMARY KEY, title text, body text, at timestamptz)",
    );
    let mut types = vec!["text", "varchar(80)", "char(40)", "a_line", "short_line", "name"];
    if site.db.int("SELECT count(*) FROM pg_available_extensions WHERE name = 'citext'") > 0 {
        site.db.run("CREATE EXTENSION citext");
        types.push("citext");
    }
    for (i, type_name) in types.into_iter().enumerate() {
        site.db.run(&format!("CREATE TABLE t{i} (id int PRIMARY KEY, \"a \"\"Body\" {type_name}); INSERT INTO t{i} VALUES (1, 'The ferry was late'), (2, 'The train was late'), (3, 'Nothing of that kind'), (4, 'Neither here')"));
        let enable = format!("SELECT autoembed.enable('t{i}', '\"a \"\"Body\"', 'stub', text_search => 'english')");
        assert_eq!(site.told("postgres", &enable), "", "{type_name}");
        assert_eq!(site.db.column(INDEXES), [format!("t{i}_embedding_text_idx")], "{type_name}");
        site.settle(&format!("t{i}"), "\"a \"\"Body\"");
        let found = format!("SELECT id FROM similar_t{i}('late train', 1, mode => 'hybrid')");
        assert_eq!(site.db.int(&found), 2, "{type_name}");
        site.db.run(&format!("SELECT autoembed.disable('t{i}')"));
        assert_eq!(site.db.column(INDEXES), [""; 0], "{type_name}");
    }
    let refused = site.db.error(
        "SELECT autoembed.enable('posts', '(SELECT string_agg(p.body, '' '') FROM posts p WHERE p.id < posts.id)', 'stub', text_search => 'english')",
    );
    refused.assert("0A000", "subquery");
    assert_eq!(site.db.int("SELECT count(*) FROM autoembed.vectorizer"), 0);
    // Other inputs can be searched by their words, and have no index.
    site.db.run("INSERT INTO posts VALUES (1, 'The ferry', 'was late', '2020-01-02'), (2, 'The train', 'was late', '2021-03-04'), (3, 'Nothing', 'of that', now()), (4, 'Neither', 'here', now())");
    for (input, query) in [
        ("concat_ws(' ', title, body)", "late train"),
        ("title || E'\\n' || body", "late trains"),
        ("at", "2021-03-04"),
    ] {
        let enable = format!("SELECT autoembed.enable('posts', {}, 'stub', text_search => 'english')", literal(input));
        let said = site.told("postgres", &enable);
        assert!(said.contains("no text index is built") && said.contains("GENERATED ALWAYS AS"), "{input}: {said}");
        assert!(!said.contains("regconfig"), "{said}");
        assert_eq!(site.db.column(INDEXES), [""; 0]);
        site.until_idle("posts");
        let found = format!("SELECT id FROM similar_posts({}, 1, mode => 'hybrid')", literal(query));
        assert_eq!(site.db.int(&found), 2, "{input}");
        assert_eq!(site.status("state", "posts"), "active");
        site.db.run("SELECT autoembed.disable('posts')");
    }
}

/// Texts that full text search cannot take whole never fail a user's write.
#[test]
fn g06_texts_that_are_too_long_for_full_text() {
    let mut site = Site::new();
    site.messages("text_search => 'english'");
    let too_long = "SELECT string_agg(to_hex(i) || '-' || to_hex(i * 7), ' ') FROM generate_series(100000, 200000) i";
    assert_eq!(site.db.error(&format!("SELECT to_tsvector('english', ({too_long}))")).code, "54000");
    for text in [
        too_long,
        "SELECT repeat('y', 100000) || ' ' || repeat(' ', 3000) || repeat('-', 3000) || '<!-- ' || repeat('z ', 3000) || '-->'",
        // Characters of four bytes, each pair of words another one, joined: what makes most of a text.
        "SELECT string_agg(chr(131072 + i % 40000) || '-' || chr(131072 + i / 7), ' ') FROM generate_series(1, 40000) i",
        "SELECT repeat(E'\\u0301\\u00e9 ', 300000)",
        "SELECT string_agg('a' || i || '.b' || i || '/c' || i, ' ') FROM generate_series(1, 40000) i",
        "SELECT string_agg('w' || i || '@h' || i || '.org', ' ') FROM generate_series(1, 40000) i",
    ] {
        let rows = site.db.batch_execute(&format!("INSERT INTO messages (content) SELECT ({text})"));
        assert!(rows.is_ok(), "{text}: {rows:?}");
    }
    assert_eq!(site.db.int("SELECT count(*) FROM messages"), 6);
}

/// A full table's index is built by the builder, beside writers; what a crash has left is taken up.
#[test]
fn g09_a_text_index_that_was_broken_off() {
    let mut site = Site::new();
    docs(&mut site);
    site.db.run("CREATE ROLE olga LOGIN; GRANT CREATE ON SCHEMA public TO olga; ALTER TABLE docs OWNER TO olga");
    let enable = "SELECT autoembed.enable('docs', 'body', model => 'stub', text_search => 'simple', backfill => false)";
    let mut olga = site.session_as("olga");
    olga.run(&format!("{enable}; SELECT autoembed.pause('docs')"));
    assert_eq!(site.db.column(INDEXES), [""; 0], "it is left to the builder");
    olga.run("SELECT autoembed.resume('docs')");
    site.db.until(OURS, "docs_embedding_text_idx", PATIENCE);
    until_over(&mut site.db);
    assert_eq!(site.db.column(INDEXES), ["docs_embedding_text_idx"]);
    site.db.run("SET enable_seqscan = off");
    let statement =
        site.db.text("SELECT autoembed.search_statement(v.id, 5, NULL, 'hybrid') FROM autoembed.vectorizer v");
    site.db.run(&format!("PREPARE searched (vector, int, real, jsonb, text) AS {statement}"));
    let plan = site.db.column("EXPLAIN EXECUTE searched (NULL, 5, NULL, NULL, 'late train')").join("\n");
    assert!(plan.contains("docs_embedding_text_idx"), "{plan}");
    // In the middle: an index that is not valid is dropped, and built anew.
    let broken = site.db.int("SELECT 'docs_embedding_text_idx'::regclass::oid::bigint");
    site.db.run("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'docs_embedding_text_idx'::regclass");
    site.db.run("ALTER INDEX docs_embedding_text_idx NO DEPENDS ON EXTENSION autoembed; UPDATE autoembed.vectorizer SET text_index_wanted = true");
    let again = "SELECT autoembed.pause('docs'); SELECT autoembed.resume('docs')";
    olga.run(again);
    until_over(&mut site.db);
    assert_eq!(site.db.column(OURS), ["docs_embedding_text_idx"]);
    assert_eq!(site.db.int(&format!("SELECT count(*) FROM pg_class WHERE oid = {broken}")), 0);
    // After the build, before it is made the extension's: it is, and not built once more.
    let before = site.db.int("SELECT 'docs_embedding_text_idx'::regclass::oid::bigint");
    let untied = "ALTER INDEX docs_embedding_text_idx NO DEPENDS ON EXTENSION autoembed; UPDATE autoembed.vectorizer SET text_index_wanted = true";
    site.db.run(untied);
    olga.run(again);
    until_over(&mut site.db);
    assert_eq!(site.db.column(OURS), ["docs_embedding_text_idx"]);
    assert_eq!(site.db.int("SELECT 'docs_embedding_text_idx'::regclass::oid::bigint"), before);
    // Nothing of it is left by disable(), whenever it comes.
    for left in
        [untied, "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'docs_embedding_text_idx'::regclass"]
    {
        olga.run("SELECT autoembed.pause('docs')");
        site.db.run(untied);
        site.db.run(left);
        olga.run("SELECT autoembed.disable('docs')");
        assert_eq!(site.db.int(ALL), 0, "{left}");
        olga.run(enable);
        site.db.until(OURS, "docs_embedding_text_idx", PATIENCE);
        until_over(&mut site.db);
    }
}

/// One that a user builds while the builder waits for him is used, and is neither made the extension's nor dropped; nor is what his own
/// build has left that was broken off.
#[test]
fn a_text_index_of_the_users_own() {
    let mut site = Site::new();
    docs(&mut site);
    site.enable("docs", "body", "text_search => 'simple', index => 'none', backfill => false");
    site.db.run("SELECT autoembed.pause('docs')");
    assert_eq!(site.db.text(WAITS), "1");
    let mut writer = site.session();
    writer.run("BEGIN; INSERT INTO docs VALUES (0, 'not committed')");
    let mine = "CREATE INDEX CONCURRENTLY mine ON docs USING gin (to_tsvector('simple', \"left\"(body, 65536)))";
    let mut by_hand = site.session();
    std::thread::scope(|scope| {
        let building = scope.spawn(|| by_hand.run(mine));
        site.db.until("SELECT count(*) FROM pg_class WHERE relname = 'mine'", "1", PATIENCE);
        let lines = "SELECT kind || ': ' || split_part(state, ',', 1) FROM autoembed.progress";
        site.db.until(lines, "text index: waits for other transactions", PATIENCE);
        site.db.run("SELECT autoembed.resume('docs')");
        // The builder has come, and waits for its turn.
        site.db.until("SELECT count(*) FROM autoembed.workers WHERE kind = 'indexer'", "1", PATIENCE);
        writer.run("COMMIT");
        building.join().unwrap();
    });
    until_over(&mut site.db);
    assert_eq!((site.db.column(INDEXES), site.db.int(ALL), site.db.column(OURS)), (vec!["mine".to_owned()], 1, vec![]));
    assert_eq!(site.status("state", "docs"), "active");
    site.db.run("SELECT autoembed.disable('docs')");
    assert_eq!(site.db.column(INDEXES), ["mine"]);

    site.db.run("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'mine'::regclass");
    site.enable("docs", "body", "text_search => 'simple', index => 'none', backfill => false");
    until_over(&mut site.db);
    assert_eq!(site.db.column(INDEXES), ["docs_embedding_text_idx"]);
    site.db.run("SELECT autoembed.disable('docs')");
    assert_eq!((site.db.column(INDEXES), site.db.int(ALL)), (vec![], 1));
}

/// Each index has its own failure, which is shown until that one is mended.
#[test]
fn a_text_index_that_cannot_be_built() {
    let mut site = Site::new();
    docs(&mut site);
    // The index on vectors comes first.
    site.db.run(
        "CREATE TABLE refused (which int); INSERT INTO refused VALUES (1); CREATE SEQUENCE builds;
         CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
             IF (SELECT which FROM public.refused) = nextval('public.builds') THEN RAISE 'not this one'; END IF;
         END $$;
         CREATE EVENT TRIGGER refuse ON ddl_command_start WHEN TAG IN ('CREATE INDEX') EXECUTE FUNCTION refuse()",
    );
    site.enable("docs", "body", "text_search => 'simple', backfill => false");
    until_over(&mut site.db);
    assert_eq!(site.db.column(INDEXES), ["docs_embedding_text_idx"]);
    let state = site.status("state", "docs");
    assert!(
        state.starts_with("active: the index could not be built: not this one; ") && !state.contains("text index"),
        "{state}"
    );
    site.db.run("SELECT autoembed.disable('docs'); UPDATE refused SET which = 2; ALTER SEQUENCE builds RESTART");
    assert_eq!(site.db.int(ALL), 0);

    site.enable("docs", "body", "text_search => 'simple', backfill => false");
    until_over(&mut site.db);
    assert_eq!(site.db.int(ALL), 0);
    let begins = "active: the text index could not be built: not this one; drop what is left of it and run ";
    let state = site.until_state("docs", begins);
    // It is not forgotten when the worker looks, whatever becomes of the other one.
    site.db.run("DROP INDEX docs_embedding_idx");
    let both = site.until_state("docs", "active: table \"docs\" has no valid index on its vectors; ");
    assert!(both.ends_with(state.trim_start_matches("active: ")), "{both}");
    site.db.run("DROP EVENT TRIGGER refuse; CREATE INDEX ON docs USING hnsw (embedding vector_cosine_ops)");
    site.until_state("docs", begins);
    let mended = state.strip_prefix(begins).and_then(|rest| rest.split_once(", or ")).unwrap().0;
    assert!(mended.starts_with("CREATE INDEX CONCURRENTLY") && mended.contains("simple"), "{mended}");
    assert!(site.db.batch_execute(mended).is_ok(), "{mended}");
    site.db.until("SELECT state FROM autoembed.status", "active", PATIENCE);
    // One that somebody drops is missed, to those who see all rows.
    let name = site.db.column(INDEXES).remove(0);
    site.db.run(&format!("DROP INDEX \"{name}\"; CREATE ROLE reader LOGIN; CREATE POLICY p ON docs; GRANT SELECT ON docs TO reader; ALTER TABLE docs ENABLE ROW LEVEL SECURITY"));
    site.until_state("docs", "active: table \"docs\" has no valid text index; ");
    assert_eq!(site.session_as("reader").text("SELECT state FROM autoembed.status"), "active");
    site.db.run("SELECT autoembed.disable('docs')");
    assert_eq!(site.db.int(ALL), 0);
}

#[test]
fn a_text_index_is_shown_while_it_is_built() {
    let mut site = Site::new();
    docs(&mut site);
    let lines = "SELECT string_agg(kind || ': ' || state, ', ' ORDER BY kind) FROM autoembed.progress";
    let mut writer = site.session();
    writer.run("BEGIN; INSERT INTO docs VALUES (0, 'not committed')");
    let pid = writer.text("SELECT pg_backend_pid()");
    site.db.run("SET lock_timeout = '10s'");
    writer.run("COMMIT");
    site.enable("docs", "body", "text_search => 'simple', index => 'none', backfill => false");
    site.db.run("SELECT autoembed.pause('docs')");
    assert_eq!(site.db.text(lines), "text index: paused");
    writer.run("BEGIN; INSERT INTO docs VALUES (-1, 'not committed')");
    site.db.run("SELECT autoembed.resume('docs')");
    site.db.until(lines, &format!("text index: waits for other transactions, now of process {pid}"), PATIENCE);
    writer.run("COMMIT");
    site.db.until(lines, "NULL", PATIENCE);
    assert_eq!(site.db.column(OURS), ["docs_embedding_text_idx"]);
}

/// Each partition by itself, without blocking who writes; a partition's own index that a user has made stays his.
#[test]
fn many_rows_in_partitions_have_text_indexes() {
    let mut site = Site::new();
    site.db.run(
        "CREATE TABLE logs (region text, id int, body text, embedding vector(16), PRIMARY KEY (region, id)) PARTITION BY LIST (region);
         CREATE TABLE logs_a PARTITION OF logs FOR VALUES IN ('a'); CREATE TABLE logs_b PARTITION OF logs FOR VALUES IN ('b') PARTITION BY RANGE (id);
         CREATE TABLE logs_b1 PARTITION OF logs_b FOR VALUES FROM (MINVALUE) TO (100);
         CREATE TABLE logs_b2 (embedding vector(16), extra int, body text, id int NOT NULL, region text NOT NULL, PRIMARY KEY (region, id));
         ALTER TABLE logs_b2 DROP COLUMN extra; ALTER TABLE logs_b ATTACH PARTITION logs_b2 FOR VALUES FROM (100) TO (MAXVALUE);
         CREATE TABLE logs_c PARTITION OF logs FOR VALUES IN ('c');
         INSERT INTO logs SELECT chr(97 + i % 3), i, 'log ' || md5(i::text) FROM generate_series(1, 12000) i; ANALYZE logs, logs_a, logs_b1, logs_b2, logs_c;
         CREATE INDEX mine ON logs_c USING gin (to_tsvector('simple', \"left\"(body, 65536)))",
    );
    assert_eq!(
        site.told(
            "postgres",
            "SELECT autoembed.enable('logs', 'body', 'stub', text_search => 'simple', index => 'none', backfill => false)"
        ),
        ""
    );
    until_over(&mut site.db);
    let leaves = "SELECT i.indrelid::regclass::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam \
         WHERE m.amname = 'gin' AND c.relkind = 'i' AND i.indisvalid ORDER BY 1";
    assert_eq!(site.db.column(leaves), ["logs_a", "logs_b1", "logs_b2", "logs_c"]);
    assert_eq!(
        site.db.column(OURS),
        ["logs_embedding_text_idx"],
        "the frame goes with the extension, and all that is part of it"
    );
    assert_eq!(site.status("state", "logs"), "active");
    site.db.run("CREATE TABLE logs_d PARTITION OF logs FOR VALUES IN ('d')");
    assert_eq!(site.db.column(leaves).len(), 5, "later partitions have theirs");
    site.db.run("INSERT INTO logs VALUES ('d', 1, 'a quokka')");
    assert_eq!(site.db.text("SELECT id FROM similar_logs('quokka', 1, mode => 'hybrid')"), "1");
    site.db.run("DROP INDEX mine");
    site.until_state("logs", "active: table \"logs\" has no valid text index; ");
    site.db.run("CREATE INDEX mine ON logs_c USING gin (to_tsvector('simple', \"left\"(body, 65536)))");
    site.db.until("SELECT state FROM autoembed.status", "active", PATIENCE);
    site.db.run("SELECT autoembed.disable('logs')");
    assert_eq!((site.db.column(INDEXES), site.db.int(ALL)), (vec!["mine".to_owned()], 1));
}

#[test]
fn g34_a_text_index_comes_back_from_a_dump() {
    let (mut db, cluster) = site::bare();
    db.run(
        "CREATE TABLE notes (id int PRIMARY KEY, body text);
         INSERT INTO notes VALUES (1, 'we met at the zoo'), (2, 'error E4711: the pump'), (3, 'error E4712: the pump');
         SELECT autoembed.enable('notes', 'body', text_search => 'english')",
    );
    assert!(db.yes("SELECT autoembed.wait('notes', '30 s')"));
    db.run(
        "CREATE SCHEMA words; CREATE TEXT SEARCH CONFIGURATION words.\"My own\" (COPY = simple);
         CREATE TABLE posts (id int PRIMARY KEY, title text, body text);
         SELECT autoembed.enable('posts', 'body', text_search => 'words.\"My own\"')",
    );
    let file = cluster.socket_dir().join("dump.sql").display().to_string();
    let run = |name: &str, arguments: &[&str]| {
        let output = cluster.tool(name).args(arguments).output().unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    };
    run("pg_dump", &["-d", DATABASE, "-f", &file]);
    cluster.client("postgres").run("CREATE DATABASE restored");
    run("psql", &["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "restored", "-f", &file]);
    let mut db = cluster.client("restored");
    assert_eq!(db.column(INDEXES), ["notes_embedding_text_idx", "posts_embedding_text_idx"]);
    assert_eq!(db.int("SELECT id FROM similar_notes('what does E4712 mean', 1, mode => 'hybrid')"), 3);
    db.run("INSERT INTO posts VALUES (1, 'The ferry', 'The ferry was late')");
    assert!(db.yes("SELECT autoembed.wait('posts', '30 s')"));
    assert_eq!(db.int("SELECT id FROM similar_posts('late ferry', 1, mode => 'hybrid')"), 1);
    db.run("SELECT autoembed.disable('notes'); SELECT autoembed.disable('posts')");
    assert_eq!(db.column(INDEXES), [""; 0], "the restored indexes are known as the extension's");
}
