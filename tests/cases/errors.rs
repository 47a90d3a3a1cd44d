//! Each error people can meet: its SQLSTATE, one lower-case sentence, and a hint.

use autoembed_tests::{Cluster, Site};

#[test]
fn enable() {
    let mut site = Site::new();
    site.db.run(
        "CREATE TABLE t (id int PRIMARY KEY, body text, number int, small vector(3), other text);
         CREATE TABLE keyless (body text);
         CREATE TABLE only_unique (id int UNIQUE, body text);
         CREATE VIEW v AS SELECT * FROM t;
         CREATE MATERIALIZED VIEW m AS SELECT * FROM t;
         CREATE TEMP TABLE temporary (id int PRIMARY KEY, body text);
         CREATE SEQUENCE s; CREATE INDEX i ON t (body);
         CREATE TYPE pair AS (a int, b int);
         CREATE TABLE root (id int PRIMARY KEY, body text) PARTITION BY HASH (id);
         CREATE TABLE leaf PARTITION OF root FOR VALUES WITH (MODULUS 1, REMAINDER 0)",
    );
    let cases = [
        // (arguments, SQLSTATE, what the message names)
        ("'keyless', 'body'", "55000", "primary key"),
        ("'only_unique', 'body'", "55000", "primary key"),
        ("'t', 'bodi'", "42703", "bodi"),
        ("'t', 'body || titel'", "42703", "titel"),
        ("'t', 'body ||'", "42601", ""),
        ("'t', 'body); DROP TABLE t; --'", "42601", ""),
        ("'t', 'count(*)::text'", "22023", "one value"),
        ("'t', 'generate_series(1, id)::text'", "22023", "one value"),
        ("'t', 'body || random()'", "22023", "volatile"),
        ("'t', '''constant'''", "22023", "no column"),
        ("'leaf', 'body'", "0A000", "partition"),
        ("'t', 'no_such_function(body)'", "42883", "no_such_function"),
        ("'t', ''", "22023", "input"),
        ("'t', NULL", "22023", "input"),
        ("NULL, 'body'", "22023", "source"),
        ("'t', 'body', model => 'gpt-9'", "42704", "gpt-9"),
        ("'t', 'body', embedding => 'small'", "42804", "3"),
        ("'t', 'body', embedding => 'other'", "42804", "other"),
        ("'t', 'body', embedding => 'number'", "42804", "number"),
        ("'t', 'body', embedding => 'body'", "22023", "target column"),
        ("'t', 'body', on_change => 'sometimes'", "22023", "sometimes"),
        ("'t', 'body', index => 'ivfflat'", "22023", "ivfflat"),
        ("'t', 'body', delay => '-1 s'", "22023", "delay"),
        ("'v', 'body'", "42809", "v"),
        ("'m', 'body'", "42809", "m"),
        ("'s', 'last_value'", "42809", "s"),
        ("'i', 'body'", "42809", "i"),
        ("'pair', 'a'", "42809", "pair"),
        ("'temporary', 'body'", "0A000", "temporary"),
        ("'pg_catalog.pg_class', 'relname'", "42501", "pg_class"),
        ("'autoembed.models', 'name'", "42501", "models"),
        // What this version does not do yet is said, not ignored.
        ("'t', 'body', chunk_size => 1", "22023", "chunk_size cannot be 1"),
    ];
    for (arguments, code, part) in cases {
        let error = site.db.error(&format!("SELECT autoembed.enable({arguments})"));
        println!("enable({arguments}): {} {} | {}", error.code, error.message, error.hint);
        check(|| error.assert(code, part), arguments);
    }
    assert_eq!(site.db.int("SELECT count(*) FROM autoembed.status"), 0, "no error leaves anything behind");
    assert_eq!(site.db.int("SELECT count(*) FROM pg_trigger WHERE tgrelid = 't'::regclass"), 0);
    site.db.run("INSERT INTO t (id, body) VALUES (1, 'still writable')");
}

#[test]
fn foreign_tables() {
    let mut site = Site::new();
    if site.db.int("SELECT count(*) FROM pg_available_extensions WHERE name = 'file_fdw'") == 0 {
        println!("skipped: this server has no file_fdw");
        return;
    }
    site.db.run("CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw; CREATE FOREIGN TABLE f (id int, body text) SERVER files OPTIONS (filename '/dev/null')");
    site.db.error("SELECT autoembed.enable('f', 'body')").assert("42809", "f");
    // Nor is one a part of a table with a primary key, which every enabled table has: indexes need not reckon with it.
    site.db.run("CREATE TABLE p (id int PRIMARY KEY, body text) PARTITION BY LIST (id)");
    site.enable("p", "body", "");
    for sql in [
        "CREATE FOREIGN TABLE p1 PARTITION OF p FOR VALUES IN (1) SERVER files OPTIONS (filename '/dev/null')",
        "ALTER TABLE f ADD COLUMN embedding vector(16), ALTER COLUMN id SET NOT NULL; ALTER TABLE p ATTACH PARTITION f FOR VALUES IN (1)",
    ] {
        let error = site.db.error(sql);
        assert!(error.message.contains("foreign"), "{error:?}");
    }
}

#[test]
fn not_the_owner() {
    let mut site = Site::with_messages();
    site.db.run("CREATE ROLE bob LOGIN; GRANT ALL ON messages TO bob; CREATE TABLE other (id int PRIMARY KEY, body text); GRANT ALL ON other TO bob");
    let mut bob = site.session_as("bob");
    for call in [
        "enable('other', 'body')",
        "enable('messages', 'content')",
        "disable('messages')",
        "pause('messages')",
        "resume('messages')",
        "backfill('messages')",
        "retry_failed('messages')",
        "embed_pending('messages')",
    ] {
        let error = bob.error(&format!("SELECT autoembed.{call}"));
        check(|| error.assert("42501", "must be owner of table"), call);
    }
    // For all tables of the caller there is nothing to do, which is no error.
    assert_eq!(bob.int("SELECT autoembed.retry_failed()"), 0);
    assert_eq!(bob.int("SELECT autoembed.embed_pending()"), 0);
}

#[test]
fn tables_that_are_not_enabled() {
    let mut site = Site::with_messages();
    site.db.run("CREATE TABLE plain (id int PRIMARY KEY, body text)");
    for call in [
        "backfill('plain')",
        "disable('plain')",
        "pause('plain')",
        "resume('plain')",
        "backfill('messages', 'other_column')",
        "embed_pending('plain')",
        "retry_failed('plain')",
        "wait('plain')",
    ] {
        let error = site.db.error(&format!("SELECT autoembed.{call}"));
        println!("{call}: {} {} | {}", error.code, error.message, error.hint);
        check(|| error.assert("42704", "no vectorizer"), call);
        assert!(error.hint.contains("enable("), "{call}: {error:?}");
    }
    assert_eq!(site.db.error("SELECT autoembed.enable('no_such_table', 'body')").code, "42P01");
}

#[test]
fn models() {
    let mut site = Site::with_messages();
    let cases = [
        ("create_model('stub', 'openai', dimensions => 3, url => 'http://127.0.0.1:9')", "42710", "stub"),
        ("create_model('builtin', 'local', dimensions => 256)", "42710", "builtin"),
        ("create_model('m', 'openapi', dimensions => 3)", "22023", "openapi"),
        ("create_model('m', 'openai', dimensions => 0)", "22023", "dimensions"),
        ("create_model('m', 'openai', dimensions => 99999)", "22023", "dimensions"),
        ("create_model('m', 'openai', dimensions => NULL)", "22023", "dimensions"),
        ("create_model('', 'openai', dimensions => 3)", "22023", "name"),
        ("create_model('m', 'openai', dimensions => 3, url => 'ftp://127.0.0.1')", "22023", "url"),
        ("create_model('m', 'openai', dimensions => 3, url => 'no url')", "22023", "url"),
        ("create_model('m', 'openai', dimensions => 3, url => 'http://user:secret@127.0.0.1/v1')", "22023", "url"),
        ("create_model('m', 'openai', dimensions => 3, max_batch_inputs => 0)", "22023", "max_batch_inputs"),
        ("create_model('m', 'openai', dimensions => 3, timeout => '-1 s')", "22023", "timeout"),
        ("create_model('m', 'openai', dimensions => 3, options => '[1]')", "22023", "options"),
        ("drop_model('no such')", "42704", "no such"),
        ("drop_model('stub')", "2BP01", "stub"),
        ("test_model('no such')", "42704", "no such"),
        ("embed('text', 'no such')", "42704", "no such"),
        ("embed('', 'stub')", "22023", "no text"),
    ];
    for (call, code, part) in cases {
        let error = site.db.error(&format!("SELECT autoembed.{call}"));
        println!("{call}: {} {} | {}", error.code, error.message, error.hint);
        check(|| error.assert(code, part), call);
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    }
    site.db.run("SET autoembed.default_model = 'missing'");
    site.db.error("SELECT autoembed.embed('text')").assert("42704", "missing");
}

/// A model whose key is not there: the row waits, and both the state and `embed` say what to set.
#[test]
fn no_key() {
    let mut site = Site::new();
    site.db.run("CREATE TABLE t (id int PRIMARY KEY, body text); SELECT autoembed.enable('t', 'body', model => 'text-embedding-3-small', index => 'none'); INSERT INTO t VALUES (1, 'one')");
    let state = site.until_state("t", "blocked: ");
    println!("state without a key: {state}");
    assert!(state.contains("key"), "{state}");
    let error = site.db.error("SELECT autoembed.embed('text', 'text-embedding-3-small')");
    error.assert(&error.code, "key");
    assert_eq!(site.failed("t"), 0);
}

#[test]
fn settings_are_bounded() {
    let mut site = Site::new();
    for (name, value) in [
        ("max_concurrent_requests", "0"),
        ("max_attempts", "-1"),
        ("lane", "'fast'"),
        ("poll_interval", "-5"),
        ("no_such_setting", "1"),
    ] {
        let error = site.db.error(&format!("SET autoembed.{name} = {value}"));
        assert!(["22023", "42602", "55P02"].contains(&error.code.as_str()), "{name}: {error:?}");
    }
}

/// PostgreSQL's own words, since CREATE EXTENSION speaks before we can.
#[test]
fn without_pgvector() {
    let cluster = Cluster::builder().start();
    let mut db = cluster.client("postgres");
    let error = db.error("CREATE EXTENSION autoembed");
    error.assert("42704", "vector");
    assert!(error.hint.contains("CASCADE"), "{error:?}");
}

#[test]
fn g40_a_schema_somebody_made_beforehand() {
    let cluster = Cluster::builder().start();
    let mut db = cluster.client("postgres");
    db.run("CREATE SCHEMA autoembed");
    assert_eq!(db.error("CREATE EXTENSION autoembed CASCADE").code, "42P06");
}

/// Runs an assertion and, when it fails, says for which case.
fn check(assertion: impl FnOnce() + std::panic::UnwindSafe, case: &str) {
    if let Err(panic) = std::panic::catch_unwind(assertion) {
        let said = panic.downcast_ref::<String>().cloned().unwrap_or_default();
        panic!("{case}: {said}");
    }
}
