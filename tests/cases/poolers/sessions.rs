//! What a shared session keeps, and sessions that have the library when the extension changes under them.

use super::{Pooler, all_steps, lanes, scene, sessions_of};
use crate::released::earlier_versions;
use autoembed_tests::site::PATIENCE;
use autoembed_tests::{Db, Site, find};
use postgres::fallible_iterator::FallibleIterator;
use postgres::types::Type;
use std::sync::mpsc::{self, Sender, TryRecvError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How many notifications have come, after a statement.
fn heard(db: &mut Db) -> usize {
    assert_eq!(db.int("SELECT 1"), 1);
    db.notifications().iter().count().unwrap()
}

/// A setting, a LISTEN and a prepared statement of a client are the next one's in transaction mode.
#[test]
#[ignore = "needs PgBouncer, which `make test` brings"]
fn what_a_session_keeps_in_transaction_mode() {
    let site = scene();
    let pooler = Pooler::start(&site.cluster, "transaction", 1, "");
    let mut clients = [pooler.client("shop"), pooler.client("shop")];
    all_steps(&mut clients);
    let [mut one, mut other] = clients;
    other.run("SELECT autoembed.pause('notes')");
    one.run("SET autoembed.lane = 'backfill'");
    other.run("INSERT INTO notes (id, body) VALUES (20, 'text 20')");
    one.run("RESET autoembed.lane");
    one.run(
        "BEGIN; SET LOCAL autoembed.lane = 'backfill'; INSERT INTO notes (id, body) VALUES (21, 'text 21'); COMMIT",
    );
    other.run("INSERT INTO notes (id, body) VALUES (22, 'text 22')");
    assert_eq!(lanes(&site), ["20 1", "21 1", "22 0"], "SET is for whoever is next, SET LOCAL for the transaction");
    other.run("SELECT autoembed.resume('notes')");
    assert!(other.yes("SELECT autoembed.wait('notes', '30 s')"));

    // Told between two transactions: nobody hears it. Told within one: whoever has the session hears it, though he never asked.
    let mut direct = site.session_as("shop");
    direct.run("SELECT autoembed.notify('notes'); LISTEN autoembed");
    one.run("LISTEN autoembed");
    direct.run("INSERT INTO notes (id, body) VALUES (23, 'text 23')");
    autoembed_tests::eventually("a session of its own hears of the row", PATIENCE, || match heard(&mut direct) {
        1 => Ok(()),
        n => Err(format!("{n} notifications")),
    });
    autoembed_tests::eventually("PgBouncer has nobody to give it to", PATIENCE, || {
        let log = pooler.program.log();
        if log.contains("got packet 'A' from server when not linked") { Ok(()) } else { Err(log) }
    });
    assert_eq!((heard(&mut one), heard(&mut other)), (0, 0));
    other.run("BEGIN; SELECT 1");
    direct.run("INSERT INTO notes (id, body) VALUES (24, 'text 24')");
    autoembed_tests::eventually("a session of its own hears of the row", PATIENCE, || match heard(&mut direct) {
        1 => Ok(()),
        n => Err(format!("{n} notifications")),
    });
    other.run("COMMIT");
    assert_eq!((heard(&mut one), heard(&mut other)), (0, 1));

    // PREPARE in SQL, which no PgBouncer follows; within one transaction it is as ever.
    one.run("PREPARE search (text) AS SELECT body FROM similar_notes($1, 1)");
    assert_eq!(other.text("EXECUTE search ('text 3')"), "text 3");
    assert_eq!(other.error("PREPARE search (text) AS SELECT 1").code, "42P05");
    one.run("BEGIN; DEALLOCATE search; PREPARE search (text) AS SELECT body FROM similar_notes($1, 1)");
    assert_eq!(one.text("EXECUTE search ('text 4')"), "text 4");
    one.run("DEALLOCATE search; COMMIT");
    // Prepared by the protocol: older ones know nothing of it when the client is given another session.
    let statement = one.prepare("SELECT body FROM similar_notes($1, 1)").unwrap();
    assert_eq!(one.query(&statement, &[&"text 5"]).unwrap().len(), 1);
    let before = sessions_of(std::slice::from_mut(&mut other));
    pooler.console("RECONNECT");
    assert_ne!(sessions_of(std::slice::from_mut(&mut other)), before);
    match one.query(&statement, &[&"text 5"]) {
        Ok(found) => assert!(found.len() == 1 && pooler.version >= (1, 21)),
        Err(error) => {
            assert_eq!(error.as_db_error().unwrap().code().code(), "26000");
            assert!(pooler.version < (1, 21), "{error}");
        }
    }
    let found = other.query_typed("SELECT body FROM similar_notes($1, 1)", &[(&"text 5", Type::TEXT)]).unwrap();
    assert_eq!(found[0].get::<_, &str>(0), "text 5");

    // server_reset_query after each transaction: nothing is left, and all works.
    let reset = Pooler::start(&site.cluster, "transaction", 1, "server_reset_query_always = 1");
    let mut clients = [reset.client("shop"), reset.client("shop")];
    clients[0].run("SET autoembed.lane = 'backfill'; PREPARE search AS SELECT 1; LISTEN autoembed");
    assert_eq!(clients[1].text("SHOW autoembed.lane"), "live");
    assert_eq!(clients[1].int("SELECT count(*) FROM pg_prepared_statements"), 0);
    assert_eq!(clients[1].text("SELECT body FROM similar_notes('text 3', 1)"), "text 3");
    assert_eq!(clients[0].text("SELECT body FROM similar_notes('text 3', 1)"), "text 3");
    assert_eq!(sessions_of(&mut clients).len(), 1);
}

/// In session mode a client has its session to itself, LISTEN included, and DISCARD ALL makes it as new for the next one.
#[test]
#[ignore = "needs PgBouncer, which `make test` brings"]
fn in_session_mode() {
    let site = scene();
    let pooler = Pooler::start(&site.cluster, "session", 1, "server_reset_query = DISCARD ALL");
    let mut clients = [pooler.client("shop")];
    all_steps(&mut clients);
    let [mut first] = clients;
    first.run("SELECT autoembed.notify('notes'); LISTEN autoembed; SET autoembed.lane = 'backfill'");
    let search = first.prepare("SELECT body FROM similar_notes($1, 1)").unwrap();
    assert_eq!(first.query(&search, &[&"text 3"]).unwrap().len(), 1);
    first.run("INSERT INTO notes (id, body) VALUES (23, 'text 23')");
    autoembed_tests::eventually("it hears of the row", PATIENCE, || match heard(&mut first) {
        1 => Ok(()),
        n => Err(format!("{n} notifications")),
    });
    let pid = first.int("SELECT pg_backend_pid()");
    drop(search);
    drop(first);
    let mut next = pooler.client("shop");
    assert_eq!(next.int("SELECT pg_backend_pid()"), pid);
    assert_eq!(next.text("SHOW autoembed.lane"), "live");
    assert_eq!(next.int("SELECT count(*) FROM pg_prepared_statements"), 0);
    // The vectors of query texts are the process's: DISCARD ALL does not take them, and they are still kept for each role apart.
    let before = site.stub.stats().requests;
    assert_eq!(next.text("SELECT body FROM similar_notes('text 3', 1)"), "text 3");
    assert_eq!(site.stub.stats().requests, before);
    next.run("INSERT INTO notes (id, body) VALUES (24, 'text 24')");
    assert!(next.yes("SELECT autoembed.wait('notes', '30 s')"));
    assert_eq!(heard(&mut next), 0);
    next.run("SELECT autoembed.disable('notes'); SELECT autoembed.enable('notes', 'body', model => 'stub')");
    assert_eq!(next.text("SELECT body FROM similar_notes('text 24', 1)"), "text 24");
}

/// Clients that write through the pooler until they are told to end, and how often each did.
fn writers(pooler: &Pooler, name: &str) -> (Vec<Sender<()>>, Vec<JoinHandle<u32>>) {
    let writer = |n: u32| {
        let (tell, told) = mpsc::channel::<()>();
        let (mut client, name) = (pooler.client("postgres"), name.to_owned());
        let writing = std::thread::spawn(move || {
            let mut written = 0;
            // Until the sender is gone, also by a failure of the test.
            while told.try_recv() != Err(TryRecvError::Disconnected) {
                client.run(&format!("INSERT INTO messages (content) VALUES ('{name} {n} {written}')"));
                client.run("UPDATE messages SET content = content || '.' WHERE id = (SELECT max(id) FROM messages)");
                written += 1;
                // So many that they meet, and so few that they can all be looked at.
                std::thread::sleep(Duration::from_millis(3));
            }
            written
        });
        (tell, writing)
    };
    (0..3).map(writer).unzip()
}

/// While clients write through shared sessions, `change` is run by a session of its own; every write succeeds.
fn beside_writers(site: &mut Site, pooler: &Pooler, name: &str, change: impl FnOnce(&mut Site)) {
    let (tell, writing) = writers(pooler, name);
    let written = format!("(SELECT count(*) FROM messages WHERE content LIKE '{name}%')");
    site.db.until_true(&format!("{written} > 20"), "", PATIENCE);
    change(site);
    let now = site.db.int(&format!("SELECT {written}"));
    site.db.until_true(&format!("{written} > {now} + 20"), "", PATIENCE);
    drop(tell);
    let rounds: u32 = writing.into_iter().map(|writer| writer.join().expect("every write succeeds")).sum();
    println!("{name}: {rounds} rounds of writes");
}

fn shared(site: &mut Site) -> Vec<String> {
    site.db.column(
        "SELECT pid::text FROM pg_stat_activity WHERE application_name = '' AND backend_type = 'client backend' ORDER BY 1",
    )
}

fn the_extension_changes(preload: bool) {
    for from in earlier_versions() {
        let mut site = Site::builder().preload(preload).version(&from).start();
        site.messages("");
        let pooler = Pooler::start(&site.cluster, "transaction", 3, "");
        let mut client = pooler.client("postgres");
        beside_writers(&mut site, &pooler, "updated", |site| {
            // The third is made when three write at once.
            autoembed_tests::eventually("there are three sessions", PATIENCE, || {
                let now = shared(site);
                if now.len() == 3 { Ok(()) } else { Err(format!("{now:?}")) }
            });
            let before = shared(site);
            site.db.run("ALTER EXTENSION autoembed UPDATE");
            assert_eq!(shared(site), before);
        });
        assert_eq!(
            client.text("SELECT extversion FROM pg_extension WHERE extname = 'autoembed'"),
            find::default_version().unwrap()
        );
        site.settle("messages", "content");
        assert_eq!(client.int("SELECT count(*) FROM similar_messages('updated 0 0.', 1)"), 1);
        assert_eq!(client.text("SELECT autoembed.health() ->> 'healthy'"), "true");

        // A catalogue that the library does not know: connecting anew to the pooler gives the same session again, RECONNECT another.
        crate::upgrade::set_interface(&mut site.db, 99, "9.9.9");
        let before = shared(&mut site);
        for _ in 0..2 {
            pooler
                .client("postgres")
                .error("SELECT * FROM similar_messages('x')")
                .assert("55000", "newer than the loaded library");
        }
        assert_eq!(shared(&mut site), before);
        client.run("INSERT INTO messages (content) VALUES ('queued meanwhile')");
        crate::upgrade::set_interface(&mut site.db, 1, &find::default_version().unwrap());
        beside_writers(&mut site, &pooler, "reconnected", |site| {
            pooler.console("RECONNECT");
            autoembed_tests::eventually("all shared sessions are others", PATIENCE, || {
                let now = shared(site);
                if now.iter().any(|pid| before.contains(pid)) { Err(format!("{now:?}")) } else { Ok(()) }
            });
        });
        site.settle("messages", "content");

        // Sessions that have used everything go on without the extension, and with a new one.
        // disable() first, as the page on operations has it: DROP EXTENSION alone and those who write may deadlock.
        beside_writers(&mut site, &pooler, "dropped", |site| {
            let all = "SELECT format('SELECT autoembed.disable(%L, %L)', source, embedding) FROM autoembed.status";
            site.db.column(all).iter().for_each(|one| site.db.run(one));
            site.db.run("DROP EXTENSION autoembed");
        });
        let before = shared(&mut site);
        assert_eq!(client.error("SELECT * FROM similar_messages('x')").code, "42883");
        assert_eq!(client.error("SELECT autoembed.embed('x')").code, "3F000");
        beside_writers(&mut site, &pooler, "made again", |site| {
            site.db.run("CREATE EXTENSION autoembed");
            site.create_model("stub", "");
            pooler.client("postgres").run("SELECT autoembed.enable('messages', 'content', model => 'stub')");
        });
        // Nobody saw which rows changed meanwhile that have a vector already.
        client.run("SELECT autoembed.backfill('messages', force => true)");
        let rows = site.settle("messages", "content");
        let after = shared(&mut site);
        assert!(before.iter().all(|pid| after.contains(pid)), "{before:?}, then {after:?}");
        assert_eq!(client.int("SELECT count(*) FROM similar_messages('dropped 0 0.', 1)"), 1);
        println!("{rows} rows with their vectors; preloaded: {preload}");
    }
}

#[test]
#[ignore = "needs PgBouncer, which `make test` brings"]
fn the_extension_changes_under_shared_sessions() {
    the_extension_changes(true);
}

#[test]
#[ignore = "needs PgBouncer, which `make test` brings"]
fn the_extension_changes_under_shared_sessions_without_preloading() {
    the_extension_changes(false);
}
