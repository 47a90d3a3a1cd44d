//! The embedding server is away, and nobody does anything about it.

use autoembed_stub::Fault;
use autoembed_tests::Site;
use autoembed_tests::site::PATIENCE;
use autoembed_tests::wait::seconds;
use std::time::{Duration, Instant};

/// How long the server is away: the length of the fault, not a wait for a state.
fn outage() -> Duration {
    if std::env::var_os("AUTOEMBED_LONG").is_some() { seconds(60) } else { seconds(4) }
}

#[test]
fn g01_the_server_stops_in_the_middle_of_a_thousand_inserts() {
    let mut site = Site::with_messages();
    let mut writer = site.session();
    let mut slowest = Duration::ZERO;
    let mut gone = Instant::now();
    for n in 1..=1000 {
        if n == 300 {
            site.stub_gone();
            gone = Instant::now();
        }
        let start = Instant::now();
        writer.run(&format!("INSERT INTO messages (content) VALUES ('text {n}')"));
        slowest = slowest.max(start.elapsed());
    }
    let inserted = gone.elapsed();
    std::thread::sleep(outage().saturating_sub(inserted));
    assert!(site.db.int("SELECT count(*) FROM messages WHERE embedding IS NULL") > 0, "the outage was no outage");
    let away = gone.elapsed();
    site.stub_back();
    let back = Instant::now();
    assert_eq!(site.settle_within("messages", "content", "embedding", PATIENCE + outage()), 1000);
    println!("away {away:?}; slowest INSERT {slowest:?}; all vectors {:?} after it was back", back.elapsed());
    assert!(slowest < seconds(1), "an INSERT took {slowest:?}");
    assert_eq!(site.failed("messages"), 0);
    assert_eq!(site.status("state", "messages"), "active");
}

/// Errors that pass by themselves: no row is given up, nothing wrong is written.
#[test]
fn errors_that_pass() {
    let mut site = Site::builder().model("timeout => '1 s'").start();
    site.messages("");
    let faults = [
        Fault::status(500),
        Fault::status(503).header("retry-after", "1"),
        Fault::status(502),
        Fault::Hang,
        Fault::Close,
        Fault::Truncate(20),
        Fault::Html,
        Fault::NotJson,
        Fault::DeepJson,
        Fault::Endless,
    ];
    for (n, fault) in faults.into_iter().enumerate() {
        let name = format!("{fault:?}");
        site.stub.reset_stats();
        site.stub.script(autoembed_stub::Script::first(2, fault));
        let start = Instant::now();
        site.insert(n * 20 + 1, n * 20 + 20);
        site.settle("messages", "content");
        println!("twice {name}: all embedded after {:?}", start.elapsed());
        assert!(site.stub.stats().requests >= 3, "{name} was not played");
        site.stub.clear();
    }
    assert_eq!(site.failed("messages"), 0);
}

/// Leases far shorter than the outage are made to last; what is on its way is not taken for done.
#[test]
fn an_outage_longer_than_the_leases_of_a_backfill() {
    let mut site = Site::builder().setting("autoembed.lease", "2s").model("max_batch_inputs => 50").start();
    site.db.run("CREATE TABLE docs (id int PRIMARY KEY, body text); INSERT INTO docs SELECT i, 'body ' || i FROM generate_series(1, 500) i");
    site.fault(Fault::status(503));
    site.enable("docs", "body", "");
    assert!(site.stub.wait_requests(1, PATIENCE), "the backfill did not begin");
    let gone = Instant::now();
    // Two leases and a half: the length of the fault, not a wait for a state.
    std::thread::sleep(seconds(5));
    assert_eq!(site.db.int("SELECT count(embedding) FROM docs"), 0, "the outage was no outage");
    assert_eq!(site.status("pending + in_flight", "docs"), "500", "a row is neither done nor waiting");
    site.stub.clear();
    site.settle("docs", "body");
    println!("all 500 rows {:?} after the outage began", gone.elapsed());
    site.until_idle("docs");
    assert_eq!(site.failed("docs"), 0);
}

#[test]
fn slow_down_waits_as_long_as_asked() {
    let mut site = Site::with_messages();
    site.stub.script(autoembed_stub::Script::first(1, Fault::status(429).header("retry-after", "2")));
    let start = Instant::now();
    site.insert(1, 50);
    site.settle("messages", "content");
    let took = start.elapsed();
    println!("429 with Retry-After 2: done after {took:?}, {} requests", site.stub.stats().requests);
    assert!(took >= Duration::from_millis(1900), "it did not wait: {took:?}");
    assert!(site.stub.stats().requests <= 3, "it went on asking");
    assert_eq!(site.failed("messages"), 0);
}

#[test]
fn g21_a_long_outage_costs_no_row() {
    let mut site = Site::builder().setting("autoembed.max_attempts", "2").start();
    site.messages("");
    site.fault(Fault::status(500));
    site.insert(1, 30);
    // Far more failures than a row has attempts.
    assert!(site.stub.wait_requests(6, PATIENCE), "only {} requests", site.stub.stats().requests);
    assert_eq!(site.failed("messages"), 0);
    site.stub.clear();
    assert_eq!(site.settle("messages", "content"), 30);
    assert_eq!(site.failed("messages"), 0);
}

#[test]
fn g20_one_models_trouble_holds_up_only_its_own_rows() {
    let mut site = Site::with_messages();
    let other =
        autoembed_stub::Stub::start(autoembed_stub::StubConfig::vectors(autoembed_stub::Vectors::Hashed(16))).unwrap();
    for (fault, table) in [(Fault::Hang, "slow"), (Fault::status(401), "denied"), (Fault::status(500), "broken")] {
        other.script(autoembed_stub::Script::always(fault));
        site.db.run(&format!(
            "SELECT autoembed.create_model('{table}', 'openai', dimensions => 16, model => 'm', url => '{}', timeout => '20 s');
             CREATE TABLE {table} (id int PRIMARY KEY, body text);
             SELECT autoembed.enable('{table}', 'body', model => '{table}');
             INSERT INTO {table} SELECT i, 'body ' || i FROM generate_series(1, 200) i",
            other.url()
        ));
        assert!(other.wait_requests(1, PATIENCE));
        let start = Instant::now();
        site.marker();
        println!("beside a model that is {table}: {:?}", start.elapsed());
        assert!(start.elapsed() < seconds(5), "{table} held up another model's rows for {:?}", start.elapsed());
        other.reset_stats();
    }
}

#[test]
fn g05_nothing_of_postgres_is_held_during_http() {
    let mut site = Site::with_messages();
    site.stub.hold();
    site.insert(1, 100);
    site.wait_held(1);
    let worker = "backend_type LIKE 'autoembed%' AND datname = current_database()";
    assert!(site.db.int(&format!("SELECT count(*) FROM pg_stat_activity WHERE {worker}")) > 0, "no worker to look at");
    // The claim commits before the request leaves; the worker may still look for more work for a moment.
    site.db.until_true(
        &format!("SELECT bool_and(xact_start IS NULL AND backend_xmin IS NULL AND backend_xid IS NULL) FROM pg_stat_activity WHERE {worker}"),
        &format!("SELECT pid, state, xact_start, backend_xmin, query FROM pg_stat_activity WHERE {worker}"),
        PATIENCE,
    );
    let locks = "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE a.backend_type LIKE 'autoembed%' AND l.locktype IN ('relation', 'tuple', 'transactionid')";
    site.db.until(locks, "0", PATIENCE);
    site.db.run("SET lock_timeout = '2s'; ALTER TABLE messages ADD extra int");
    site.db.run("VACUUM FULL messages");
    site.stub.release();
    site.settle("messages", "content");
}

#[test]
fn g06_a_row_locked_by_a_user() {
    let mut site = Site::with_messages();
    let mut user = site.session();
    site.stub.hold();
    site.insert(1, 20);
    site.wait_held(1);
    user.run("BEGIN; SELECT * FROM messages WHERE id = 5 FOR UPDATE");
    site.stub.release();
    site.db.until("SELECT string_agg(id::text, ',') FROM messages WHERE embedding IS NULL", "5", PATIENCE);
    for _ in 0..2 {
        site.marker();
    }
    // The user's own statement in that transaction is not made to wait by the worker either.
    user.run("SET LOCAL lock_timeout = '1s'; UPDATE messages SET note = 'mine' WHERE id = 5; COMMIT");
    site.settle("messages", "content");
    assert_eq!(site.failed("messages"), 0);
}

#[test]
fn g06_a_table_locked_by_a_user() {
    let mut site = Site::with_messages();
    site.db.run("CREATE TABLE notes (id int PRIMARY KEY, body text)");
    site.enable("notes", "body", "");
    let mut user = site.session();
    user.run("BEGIN; INSERT INTO notes SELECT i, 'note ' || i FROM generate_series(1, 10) i; COMMIT; BEGIN; LOCK TABLE notes IN ACCESS EXCLUSIVE MODE");
    site.insert(1, 10);
    site.settle("messages", "content");
    user.run("COMMIT");
    site.settle("notes", "body");
}

/// A statement that takes a weak lock and then waits for a strong one would make this DDL fail at once.
#[test]
fn g06_a_lock_that_is_made_stronger_meets_no_deadlock() {
    let mut site = Site::with_messages();
    site.insert(1, 50);
    site.settle("messages", "content");
    let mut user = site.session();
    for round in 0..3 {
        site.db.run("UPDATE messages SET content = content || ' again'");
        user.run("BEGIN; LOCK TABLE messages IN SHARE ROW EXCLUSIVE MODE");
        // Until the worker has found the table locked, more than once.
        user.run("SELECT pg_sleep(1.2) /* wait: it looks twice a second */");
        user.run(&format!("ALTER TABLE messages ADD COLUMN more_{round} int; COMMIT"));
    }
    site.settle("messages", "content");
}
