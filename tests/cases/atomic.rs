//! A committed row has its job, a rolled-back one has none: the sets are compared, key by key, while nothing takes jobs away.

use autoembed_tests::site::PATIENCE;
use autoembed_tests::{Db, Site, Stop, eventually};

/// Rows that changed since they were embedded, and no others, must have jobs. Texts that were embedded begin with `text `.
fn assert_same_sets(db: &mut Db) -> i64 {
    const CHANGED: &str = "SELECT id::text FROM messages WHERE content NOT LIKE 'text %'";
    const JOBS: &str = "SELECT key FROM autoembed.job";
    let none: [&str; 0] = [];
    assert_eq!(db.column(&format!("{CHANGED} EXCEPT {JOBS}")), none, "committed, and without a job");
    assert_eq!(db.column(&format!("{JOBS} EXCEPT {CHANGED}")), none, "a job, and nothing was committed");
    db.int(&format!("SELECT count(DISTINCT key) FROM ({JOBS}) x"))
}

/// `messages` with rows that have their vectors, and jobs that stay where they are.
fn paused(rows: usize) -> Site {
    let mut site = Site::builder().setting("max_prepared_transactions", "5").start();
    site.messages("");
    site.insert(1, rows);
    site.settle("messages", "content");
    site.until_idle("messages");
    site.db.run("SELECT autoembed.pause('messages')");
    site
}

/// Kills a backend and waits until the server has noticed, `times` in all, and takes sessions again.
fn kill_and_reconnect(site: &mut Site, pid: i32, times: usize) {
    site.cluster.kill9(pid);
    eventually("the server has noticed", PATIENCE, || {
        let noticed = site.cluster.log().matches("all server processes terminated; reinitializing").count();
        if noticed >= times { Ok(()) } else { Err(noticed.to_string()) }
    });
    site.reconnect();
}

fn resumed(mut site: Site, rows: usize) {
    site.stub.reset_stats();
    site.db.run("SELECT autoembed.resume('messages')");
    assert_eq!(site.settle("messages", "content"), rows);
    site.until_idle("messages");
    assert!(site.inputs().iter().all(|text| !text.contains("undone")), "what was rolled back was embedded");
}

#[test]
fn g01_savepoints_within_savepoints() {
    let mut site = paused(20);
    let edit = |id: u32, how: &str| format!("UPDATE messages SET content = '{how} {id}' WHERE id = {id};");
    let new = |how: &str| format!("INSERT INTO messages (content) VALUES ('{how}');");
    let script = [
        "BEGIN;".to_owned(),
        edit(1, "kept"),
        "SAVEPOINT a;".to_owned(),
        edit(2, "kept in a"),
        "SAVEPOINT b;".to_owned(),
        edit(3, "undone in b"),
        new("undone, new"),
        "SAVEPOINT c;".to_owned(),
        edit(4, "undone though released"),
        "RELEASE c;".to_owned(),
        "ROLLBACK TO b;".to_owned(),
        edit(5, "kept after the rollback"),
        "RELEASE b; RELEASE a;".to_owned(),
        new("kept, new"),
        "SAVEPOINT d;".to_owned(),
        edit(1, "undone, the second edit"),
        edit(6, "undone"),
        "ROLLBACK TO d; RELEASE d; COMMIT;".to_owned(),
    ];
    script.iter().for_each(|sql| site.db.run(sql));
    assert_eq!(assert_same_sets(&mut site.db), 4);
    // PL/pgSQL's blocks are savepoints, too; one that catches an error has undone what came before it.
    site.db.run(
        "DO $$ BEGIN
           UPDATE messages SET content = 'kept by DO' WHERE id = 7;
           BEGIN UPDATE messages SET content = 'undone by DO' WHERE id = 8; PERFORM 1 / 0; EXCEPTION WHEN division_by_zero THEN NULL; END;
         END $$",
    );
    site.db.error("UPDATE messages SET content = 'undone ' || 1 / (9 - id) WHERE id IN (8, 9)");
    assert_eq!(assert_same_sets(&mut site.db), 5);
    resumed(site, 21);
}

/// Transactions made at random, of edits, new rows and savepoints up to four deep.
#[test]
fn g01_random_transactions() {
    let mut site = paused(200);
    let mut state = 7_u64;
    let mut chance = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for n in 0..150 {
        let mut open: Vec<String> = Vec::new();
        let mut script = "BEGIN;".to_owned();
        for step in 0..1 + chance(12) {
            script += &match chance(6) {
                0 if open.len() < 4 => {
                    open.push(format!("s{step}"));
                    format!("SAVEPOINT s{step};")
                }
                1 if !open.is_empty() => {
                    open.truncate(chance(open.len() as u64) as usize + 1);
                    format!("ROLLBACK TO {};", open[open.len() - 1])
                }
                2 if !open.is_empty() => format!("RELEASE {};", open.pop().unwrap()),
                3 => format!("INSERT INTO messages (content) VALUES ('new {n} {step}');"),
                _ => format!("UPDATE messages SET content = 'edit {n} {step}' WHERE id = {};", 1 + chance(200)),
            };
        }
        script += if chance(3) == 0 { "ROLLBACK;" } else { "COMMIT;" };
        site.db.run(&script);
    }
    let jobs = assert_same_sets(&mut site.db);
    println!("{jobs} rows with jobs after 150 transactions");
    assert!(jobs > 100, "{jobs} jobs prove little");
    let rows = site.db.int("SELECT count(*) FROM messages");
    resumed(site, rows as usize);
}

#[test]
fn g01_a_backend_killed_before_its_commit() {
    let mut site = paused(20);
    site.cluster.expect_crash();
    let mut victim = site.session();
    let pid = victim.int("SELECT pg_backend_pid()");
    victim
        .run("UPDATE messages SET content = 'kept' WHERE id = 1; INSERT INTO messages (content) VALUES ('kept, new')");
    victim.run("BEGIN; UPDATE messages SET content = 'undone' WHERE id IN (1, 2); SAVEPOINT s");
    victim.run("INSERT INTO messages (content) SELECT 'undone, new' FROM generate_series(1, 500)");
    // Jobs of the open transaction are on the disk when the crash comes, as are the rows.
    site.db.run("CHECKPOINT");
    kill_and_reconnect(&mut site, i32::try_from(pid).unwrap(), 1);
    assert_eq!(assert_same_sets(&mut site.db), 2);
    resumed(site, 21);
}

#[test]
fn g01_prepared_transactions_outlive_a_crash() {
    let mut site = paused(20);
    site.cluster.expect_crash();
    for (name, ids) in [("later", "(1, 2)"), ("never", "(3, 4)")] {
        let mut session = site.session();
        session.run("BEGIN");
        session.run(&format!("UPDATE messages SET content = '{name} edited' WHERE id IN {ids}"));
        session.run(&format!("SAVEPOINT s; INSERT INTO messages (content) VALUES ('{name} new'); RELEASE s"));
        session
            .run(&format!("SAVEPOINT s; UPDATE messages SET content = '{name} undone' WHERE id > 10; ROLLBACK TO s"));
        session.run(&format!("PREPARE TRANSACTION '{name}'"));
    }
    assert_eq!(assert_same_sets(&mut site.db), 0);
    site.cluster.restart(Stop::Immediate);
    site.reconnect();
    assert_eq!(assert_same_sets(&mut site.db), 0);
    site.db.run("COMMIT PREPARED 'later'");
    site.db.run("ROLLBACK PREPARED 'never'");
    assert_eq!(assert_same_sets(&mut site.db), 3);
    resumed(site, 21);
}

/// The same while the worker works: in the end every row has its vector, whatever the moment of the kill.
#[test]
fn g01_backends_killed_while_the_worker_works() {
    let mut site = Site::with_messages();
    site.cluster.expect_crash();
    for round in 1..=3 {
        let mut writer = site.session();
        let pid = i32::try_from(writer.int("SELECT pg_backend_pid()")).unwrap();
        std::thread::scope(|scope| {
            // Ends with an error when it is killed; at the latest when enough has been written.
            scope.spawn(move || {
                for n in 0..20_000 {
                    let sql = format!(
                        "BEGIN; INSERT INTO messages (content) VALUES ('{round} {n}'); SAVEPOINT s;
                         UPDATE messages SET content = content || '!' WHERE id = (SELECT max(id) - 3 FROM messages); COMMIT"
                    );
                    if writer.try_rows(&sql).is_err() {
                        return;
                    }
                }
            });
            let embedded = format!("SELECT count(embedding) > 20 FROM messages WHERE content LIKE '{round} %'");
            site.db.until(&embedded, "t", PATIENCE);
            kill_and_reconnect(&mut site, pid, round);
        });
    }
    site.settle("messages", "content");
    site.until_idle("messages");
    assert_eq!(site.failed("messages"), 0);
}
