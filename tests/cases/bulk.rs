//! Statements that write many rows: the queue is written pages at a time, past the executor, and must look as if it were not.

use autoembed_tests::{Db, Site};

/// That an index of the queue leads to all of its rows, where the server has the means to say so.
fn check_index(db: &mut Db, index: &str) {
    if db.yes("SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'amcheck')") {
        db.run(&format!("CREATE EXTENSION IF NOT EXISTS amcheck; SELECT bt_index_parent_check('{index}', true, true)"));
    } else {
        println!("skipped: this server has no amcheck");
    }
}

/// Every row has one job, no other job is there, numbers are told apart, and all indexes of the queue lead to all of its rows.
fn assert_whole(db: &mut Db, table: &str) -> i64 {
    let none: [&str; 0] = [];
    let missing = format!("SELECT id::text FROM {table} EXCEPT ALL SELECT key FROM autoembed.job");
    assert_eq!(db.column(&missing), none, "rows without a job");
    let needless = format!("SELECT key FROM autoembed.job EXCEPT ALL SELECT id::text FROM {table}");
    assert_eq!(db.column(&needless), none, "jobs that are no row's");
    let indexes = "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 'autoembed.job'::regclass";
    for index in db.column(indexes) {
        check_index(db, &index);
    }
    let jobs = db.int("SELECT count(*) FROM autoembed.job");
    assert_eq!(db.int("SELECT count(DISTINCT id) FROM autoembed.job"), jobs);
    jobs
}

fn paused() -> Site {
    let mut site = Site::with_messages();
    site.db.run("SELECT autoembed.pause('messages')");
    site
}

const MANY: &str = "INSERT INTO messages (content) SELECT 'row ' || i FROM generate_series(1, 1203) i";

#[test]
fn g01_every_row_of_a_large_statement_has_its_job() {
    let mut site = paused();
    site.db.run(MANY);
    site.db.run("COPY messages (content) FROM PROGRAM 'seq 1 2500'");
    site.db.run(&format!("BEGIN; SAVEPOINT a; {MANY}; ROLLBACK TO a; {MANY}; SAVEPOINT b; {MANY}; RELEASE b; COMMIT"));
    site.db.run(&format!("BEGIN; {MANY}; ROLLBACK"));
    assert_eq!(assert_whole(&mut site.db, "messages"), 3 * 1203 + 2500);
    // In the order in which they were written.
    let in_order = "SELECT count(*) FROM (SELECT key::bigint - lag(key::bigint) OVER (ORDER BY id) AS step FROM autoembed.job) x WHERE step < 0";
    assert_eq!(site.db.int(in_order), 0);
    let mut all: Vec<Db> = (0..4).map(|_| site.session()).collect();
    std::thread::scope(|scope| {
        for (i, db) in all.iter_mut().enumerate() {
            scope.spawn(move || {
                for round in 0..4 {
                    db.run(MANY);
                    if (round + i) % 3 == 0 {
                        db.run(&format!("BEGIN; {MANY}; ROLLBACK"));
                    }
                    db.run("INSERT INTO messages (content) VALUES ('one')");
                }
            });
        }
    });
    assert_eq!(assert_whole(&mut site.db, "messages"), 3 * 1203 + 2500 + 4 * 4 * 1204);
    site.db.run("SELECT autoembed.resume('messages')");
    site.settle("messages", "content");
}

#[test]
fn g01_an_index_that_somebody_adds_to_the_queue_leads_to_all_rows() {
    let mut site = paused();
    site.db.run(MANY);
    let mut other = site.session();
    other.run("CREATE INDEX added ON autoembed.job (key)");
    site.db.run(MANY);
    site.db.run("INSERT INTO messages (content) VALUES ('one')");
    assert_eq!(assert_whole(&mut site.db, "messages"), 2 * 1203 + 1);
    other.run("DROP INDEX autoembed.added");
    site.db.run(MANY);
    assert_eq!(assert_whole(&mut site.db, "messages"), 3 * 1203 + 1);
    // Between two statements of one transaction, by itself.
    site.db.run(&format!("BEGIN; {MANY}; CREATE INDEX added ON autoembed.job (key); {MANY}; COMMIT"));
    assert_eq!(assert_whole(&mut site.db, "messages"), 5 * 1203 + 1);
}

#[test]
fn g01_a_session_that_knew_another_queue_finds_the_new_one() {
    let mut site = paused();
    let mut old = site.session();
    old.run(MANY);
    const QUEUE: &str = "SELECT 'autoembed.job'::regclass::oid::bigint";
    let before = site.db.int(QUEUE);
    site.db.run("DROP EXTENSION autoembed CASCADE; CREATE EXTENSION autoembed");
    assert_ne!(site.db.int(QUEUE), before);
    site.db.run("TRUNCATE messages");
    site.create_model("stub", "");
    site.enable("messages", "content", "");
    site.db.run("SELECT autoembed.pause('messages')");
    old.run(MANY);
    old.run("INSERT INTO messages (content) VALUES ('one')");
    assert_eq!(assert_whole(&mut site.db, "messages"), 1204);
}

/// What of the server's catalogue functions would crash, or be wrong, is left to a statement.
#[test]
fn g01_an_index_of_any_kind_on_the_queue_is_filled() {
    let mut site = paused();
    site.db.run(MANY);
    let mut other = site.session();
    other.run(
        "CREATE INDEX by_expression ON autoembed.job (lower(key)); CREATE INDEX of_backfill ON autoembed.job (key) WHERE lane = 1",
    );
    site.db.run(MANY);
    site.db.run("INSERT INTO messages (content) VALUES ('one')");
    site.db.run("SET autoembed.lane = 'backfill'; INSERT INTO messages (content) VALUES ('two'); RESET autoembed.lane");
    site.db.run("SELECT autoembed.enqueue('messages', ARRAY['1', '2'])");
    site.db.run("INSERT INTO messages (content) VALUES ('three')");
    for index in ["by_expression", "of_backfill", "job_pkey"] {
        check_index(&mut site.db, &format!("autoembed.{index}"));
    }
    assert_eq!(site.db.int("SELECT count(*) FROM autoembed.job"), 2 * 1203 + 3 + 2);
    assert_eq!(site.db.int("SELECT count(*) FROM autoembed.job WHERE lane = 1"), 1);
}
