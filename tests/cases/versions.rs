//! What only some versions of the server have.

use autoembed_tests::site::PATIENCE;
use autoembed_tests::{Site, Stop, eventually};

/// Whether the server is of this major version or a later one; said where it is not.
fn has(site: &mut Site, least: i64) -> bool {
    let major = site.db.major();
    if major < least {
        println!("skipped: this is PostgreSQL {major}, which has no such thing");
    }
    major >= least
}

/// A limit for users' transactions ends sessions. The worker's are as long as a batch of slow writes, or as an index takes.
#[test]
fn a_limit_for_transactions_is_not_the_workers() {
    let mut site = Site::new();
    if !has(&mut site, 17) {
        return;
    }
    site.messages("");
    site.db.run(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.4); RETURN NEW; END $$;
         CREATE TRIGGER slow BEFORE UPDATE OF embedding ON messages FOR EACH ROW EXECUTE FUNCTION slow()",
    );
    site.db.run("ALTER SYSTEM SET transaction_timeout = '200ms'");
    site.cluster.restart(Stop::Fast);
    site.reconnect();
    assert_eq!(site.db.text("SHOW transaction_timeout"), "200ms");
    site.insert(1, 3);
    site.settle("messages", "content");
    let log = site.cluster.log();
    let ended: Vec<&str> =
        log.lines().filter(|line| line.contains("transaction timeout") && line.contains("autoembed")).collect();
    assert!(ended.is_empty(), "{ended:#?}");
}

/// Other texts in all rows, without a trigger: `reconcile()` finds them.
#[test]
fn g31_a_generated_column_with_another_expression() {
    let mut site = Site::new();
    if !has(&mut site, 17) {
        return;
    }
    let kinds: &[&str] = if site.db.major() >= 18 { &["STORED", "VIRTUAL"] } else { &["STORED"] };
    for kind in kinds {
        site.db.run(&format!(
            "CREATE TABLE g (id int PRIMARY KEY, a text, t text GENERATED ALWAYS AS ('x ' || a) {kind}); INSERT INTO g SELECT i, 'a' || i FROM generate_series(1, 3) i"
        ));
        site.enable("g", "t", "");
        site.settle("g", "t");
        site.until_idle("g");
        site.db.run("ALTER TABLE g ALTER COLUMN t SET EXPRESSION AS ('a longer text, ' || a)");
        assert_eq!(site.db.int("SELECT autoembed.reconcile('g')"), 3, "{kind}");
        site.settle("g", "t");
        site.db.run("SELECT autoembed.disable('g'); DROP TABLE g");
    }
}

/// Who has no more than the right to make others members of a role can neither act as that role nor become it, and so cannot fill its database.
#[test]
fn g34_a_restore_by_who_may_only_grant_the_owners_role() {
    let mut site = Site::new();
    let has_kinds = has(&mut site, 16);
    site.db.run("CREATE ROLE keeper LOGIN; CREATE ROLE granter LOGIN; CREATE ROLE deputy LOGIN NOINHERIT");
    site.db.run(if has_kinds {
        "GRANT keeper TO granter WITH ADMIN TRUE, INHERIT FALSE, SET FALSE; GRANT keeper TO deputy WITH INHERIT FALSE, SET TRUE"
    } else {
        "GRANT keeper TO deputy"
    });
    let embeds = |site: &Site, database: &str, role: &str| {
        site.cluster.client("postgres").run(&format!("CREATE DATABASE {database} OWNER keeper"));
        let mut restorer = site.cluster.client_as(database, role);
        restorer.run("SET application_name = 'pg_restore'");
        let mut db = site.cluster.client(database);
        db.run("CREATE EXTENSION autoembed CASCADE");
        // It has looked for a restore before there is a vectorizer.
        let _ = site.cluster.wait_worker(database, PATIENCE);
        db.run("SELECT pg_sleep(1); CREATE TABLE notes (id int PRIMARY KEY, body text); SELECT autoembed.enable('notes', 'body')");
        db.run("INSERT INTO notes VALUES (1, 'a note')");
        (restorer, db)
    };
    let told = "pg_restore fills this database";
    if has_kinds {
        let (_granter, mut db) = embeds(&site, "first", "granter");
        db.until("SELECT count(embedding) FROM notes", "1", PATIENCE);
        assert!(!site.cluster.log().contains(told));
    }
    // Who can become the owner may be restoring.
    let (deputy, mut db) = embeds(&site, "second", "deputy");
    eventually("the worker waits for the restore", PATIENCE, || {
        if site.cluster.log().contains(told) { Ok(()) } else { Err("not yet".to_owned()) }
    });
    assert_eq!(db.int("SELECT count(embedding) FROM notes"), 0);
    drop(deputy);
    db.until("SELECT count(embedding) FROM notes", "1", PATIENCE);
}

/// A column that is generated as it is read is in no row: triggers, the input and the search see what it says all the same.
#[test]
fn a_column_that_is_generated_as_it_is_read() {
    let mut site = Site::new();
    if !has(&mut site, 18) {
        return;
    }
    site.db.run(
        "CREATE TABLE g (id int PRIMARY KEY, a text, b text, n int, both_of text GENERATED ALWAYS AS (a || ' ' || b) VIRTUAL)",
    );
    site.enable("g", "both_of", "text_search => 'english'");
    site.enable("g", "'about ' || both_of", "embedding => 'second', search_function => 'second'");
    site.db.run("INSERT INTO g SELECT i, 'a' || i, 'b' || i FROM generate_series(1, 10) i");
    site.settle("g", "both_of");
    site.settle_within("g", "'about ' || both_of", "second", PATIENCE);
    site.until_idle("g");
    site.stub.reset_stats();
    site.db.run("UPDATE g SET n = 1; UPDATE g SET a = 'changed' WHERE id < 4");
    site.settle("g", "both_of");
    site.settle_within("g", "'about ' || both_of", "second", PATIENCE);
    site.until_idle("g");
    let mut inputs = site.inputs();
    inputs.sort();
    inputs.dedup();
    assert_eq!(inputs.len(), 6, "only what changed: {inputs:?}");
    assert_eq!(site.db.int("SELECT id FROM similar_g('changed b2', 1)"), 2);
    assert_eq!(site.db.int("SELECT id FROM similar_g('changed b3', 1, mode => 'hybrid')"), 3);
    // Nothing waits for an index that cannot be built.
    assert_eq!(site.status("state", "g"), "active");
    assert_eq!(site.db.int("SELECT autoembed.reconcile('g')"), 0);
    site.db
        .error("SELECT autoembed.enable('g', 'both_of', 'stub', embedding => 'third', on_change => 'clear', search_function => 'third')")
        .assert("0A000", "both_of");
}

/// In a primary key over time an id is there several times.
#[test]
fn a_key_without_overlaps() {
    let mut site = Site::new();
    let has_gist = site.db.yes("SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'btree_gist')");
    if !has(&mut site, 18) || !has_gist {
        return;
    }
    site.db.run(
        "CREATE EXTENSION btree_gist;
         CREATE TABLE rooms (id int, during daterange, body text, PRIMARY KEY (id, during WITHOUT OVERLAPS))",
    );
    site.enable("rooms", "body", "");
    site.db.run(
        "INSERT INTO rooms SELECT i, daterange('2026-01-01'::date + j, '2026-01-02'::date + j), 'room ' || i || ' day ' || j
         FROM generate_series(1, 10) i, generate_series(1, 5) j",
    );
    assert_eq!(site.settle("rooms", "body"), 50);
    site.db.run("UPDATE rooms SET body = 'closed' WHERE id = 3 AND during @> '2026-01-04'::date");
    site.settle("rooms", "body");
    site.until_idle("rooms");
    assert_eq!(site.failed("rooms"), 0);
    assert_eq!(site.db.int("SELECT autoembed.reconcile('rooms')"), 0);
    assert_eq!(site.db.text("SELECT body FROM similar_rooms('closed', 1)"), "closed");
}

/// Changes that come by replication are written as the table's owner from 16 on, in a context that cannot be left.
#[test]
fn changes_that_come_by_replication_as_the_owner() {
    let mut site = Site::builder().setting("wal_level", "logical").start();
    if !has(&mut site, 16) {
        return;
    }
    site.cluster.client("postgres").run("CREATE DATABASE source");
    let mut source = site.cluster.client("source");
    source.run("CREATE TABLE notes (id int PRIMARY KEY, body text); CREATE PUBLICATION p FOR TABLE notes");
    source.run("SELECT pg_create_logical_replication_slot('s', 'pgoutput')");
    site.db.run("CREATE ROLE owner LOGIN; GRANT CREATE ON SCHEMA public TO owner");
    let mut owner = site.session_as("owner");
    owner.run("CREATE TABLE notes (id int PRIMARY KEY, body text)");
    let id = owner.int("SELECT autoembed.enable('notes', 'body', 'stub')");
    // A trigger for each row fires there, where it is told to; those for statements do not.
    site.db.run(&format!("ALTER TABLE notes ENABLE ALWAYS TRIGGER autoembed_{id}_update"));
    let socket = site.cluster.socket_dir().display().to_string();
    site.db.run(&format!(
        "CREATE SUBSCRIPTION s CONNECTION 'host={socket} port=5432 user=postgres dbname=source' PUBLICATION p
         WITH (create_slot = false, slot_name = 's')"
    ));
    source.run("INSERT INTO notes SELECT i, 'note ' || i FROM generate_series(1, 20) i");
    site.db.until("SELECT count(*) FROM notes", "20", PATIENCE);
    assert_eq!(site.db.int("SELECT autoembed.reconcile('notes')"), 20);
    site.settle("notes", "body");
    site.db.until("SELECT string_agg(srsubstate, '') FROM pg_subscription_rel", "r", PATIENCE);
    source.run("UPDATE notes SET body = 'changed' WHERE id = 7; DELETE FROM notes WHERE id = 8");
    site.db.until("SELECT body FROM notes WHERE id = 7", "changed", PATIENCE);
    assert_eq!(site.settle("notes", "body"), 19);
    assert_eq!(site.db.int("SELECT autoembed.reconcile('notes')"), 0);
    site.db.run("DROP SUBSCRIPTION s");
}
