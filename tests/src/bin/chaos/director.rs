//! Plays the plan: one action after the other, each announced to the ledger for as long as users may feel it.

use super::api::{self, Api};
use super::ledger::Ledger;
use super::plan::{Action, Dice, Mix, Plan};
use super::processes::{self, kill9, worker};
use super::scene::{self, LEASE, MODEL, OTHER, OWNER, run};
use super::tables::TABLES;
use autoembed_stub::Fault;
use autoembed_tests::{Cluster, Db, Stop};
use nix::sys::signal::Signal;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// A fast stop takes no longer, whatever is under way.
const FAST: Duration = Duration::from_secs(5);

/// Whoever plays the plan.
pub struct Director<'a> {
    /// The server.
    pub cluster: &'a Cluster,
    /// Where all is written down.
    pub ledger: &'a Ledger,
    /// The embedding server.
    pub api: &'a mut Api,
}

/// Why an action was not done: what is wrong with the extension, or nothing is.
enum Failed {
    /// A lock or a time ran out, which nobody promised.
    NoTime,
    Wrong(String),
}

impl From<String> for Failed {
    fn from(why: String) -> Failed {
        // Lock not available, query cancelled by its timeout.
        if why.contains("ERROR 55P03") || why.contains("ERROR 57014") { Failed::NoTime } else { Failed::Wrong(why) }
    }
}

impl Director<'_> {
    /// Plays until the time is over or `interrupted` says so.
    pub fn play(&mut self, seed: u64, mix: &Mix, time: Duration, interrupted: &dyn Fn() -> bool, say: &dyn Fn(&str)) {
        let mut told = Duration::ZERO;
        for mut step in Plan::new(seed, mix) {
            std::thread::sleep(step.pause);
            if self.ledger.elapsed() >= time || interrupted() {
                return;
            }
            let Some(action) = step.action else { continue };
            self.ledger.note(&format!("{action:?}"));
            let begun = Instant::now();
            match self.act(action, &mut step.dice) {
                Ok(Some(what)) => self.ledger.count(what),
                Ok(None) => self.ledger.note("  nothing there to do it to"),
                Err(Failed::NoTime) => self.ledger.count("actions that got no lock in time"),
                Err(Failed::Wrong(why)) => self.ledger.wrong(&format!("{action:?}: {why}")),
            }
            self.ledger.note(&format!(
                "  took {:.1} s, {} statements",
                begun.elapsed().as_secs_f64(),
                self.ledger.counted("statements")
            ));
            if self.ledger.elapsed() >= told + Duration::from_secs(15) {
                told = self.ledger.elapsed();
                let (wrong, _) = self.ledger.complaints();
                let statements = self.ledger.counted("statements");
                say(&format!("{:>5} s  {statements} statements, {wrong} wrong", told.as_secs()));
            }
        }
    }

    fn act(&mut self, action: Action, dice: &mut Dice) -> Result<Option<&'static str>, Failed> {
        let (cluster, ledger) = (self.cluster, self.ledger);
        let mut kill =
            |condition: &str, what| Ok::<_, Failed>(kill9(cluster, ledger, condition, dice)?.then_some(what));
        match action {
            Action::KillWorker => kill(&worker(), "kills of the worker"),
            Action::KillLauncher => kill("backend_type = 'autoembed launcher'", "kills of the launcher"),
            Action::KillClient => kill("usename = 'writer'", "kills of clients' backends"),
            Action::KillHelper => kill(
                "backend_type IN ('checkpointer', 'background writer', 'walwriter', 'autovacuum launcher', 'autovacuum worker', 'autoembed indexer')",
                "kills of the server's own processes",
            ),
            Action::EndWorker => self.end(&worker(), dice, "terminations of the worker"),
            Action::EndClient => self.end("usename = 'writer'", dice, "terminations of clients' backends"),
            Action::RestartFast => Ok(Some(self.restart(Stop::Fast, "fast restarts"))),
            Action::RestartImmediate => Ok(Some(self.restart(Stop::Immediate, "immediate restarts"))),
            Action::KillPostmaster => {
                processes::kill_postmaster(cluster, ledger);
                Ok(Some("kills of the postmaster"))
            }
            Action::ApiGone => {
                self.api.gone();
                std::thread::sleep(dice.ms(200, 2500));
                self.api.back().map_err(|e| format!("the embedding server did not come back: {e}"))?;
                Ok(Some("absences of the API"))
            }
            Action::ApiHolds => {
                self.api.hold();
                self.api.holds_one(Duration::from_secs(1));
                std::thread::sleep(dice.ms(100, 1500));
                self.api.release();
                Ok(Some("silences of the API"))
            }
            Action::ApiFails => Ok(Some(self.faults(dice, 40, api::failures()))),
            Action::ApiLimits => Ok(Some(self.faults(dice, 30, api::limits()))),
            Action::ApiLies => Ok(Some(self.faults(dice, 30, api::lies()))),
            Action::ApiGarbles => Ok(Some(self.faults(dice, 20, api::garbles()))),
            Action::ApiMixed => Ok(Some(self.faults(dice, 20, api::mixed()))),
            Action::ApiRefusesKey => {
                self.api.next(1, Fault::status(401));
                Ok(Some("refusals of the key"))
            }
            Action::ApiWell => {
                self.api.well();
                Ok(Some("recoveries of the API"))
            }
            Action::LockRows => self.lock_rows(dice),
            Action::LockTable => self.lock_table(dice),
            Action::OldSnapshot => self.old_snapshot(dice),
            Action::LeaseRunsOut => self.lease_runs_out(dice),
            _ => self.define(action, dice),
        }
    }

    fn end(&self, condition: &str, dice: &mut Dice, what: &'static str) -> Result<Option<&'static str>, Failed> {
        let mut db = scene::session(self.cluster, "postgres")?;
        let Some(pid) = processes::find(&mut db, condition, dice) else { return Ok(None) };
        let _storm = self.ledger.breaking();
        // Waits until it is gone: a process that does not end when asked is a fault.
        let gone = db.try_rows(&format!("SELECT pg_terminate_backend({pid}, 10000)"));
        let gone = gone.map_err(|e| e.to_string())?.into_iter().flatten().flatten().next();
        if gone.as_deref() != Some("t") {
            return Err(Failed::Wrong(format!("process {pid} ({condition}) did not end within 10 s of SIGTERM")));
        }
        Ok(Some(what))
    }

    fn restart(&self, mode: Stop, what: &'static str) -> &'static str {
        let _storm = self.ledger.breaking();
        let took = self.cluster.restart(mode);
        if mode == Stop::Fast && took > FAST {
            self.ledger.wrong(&format!("a fast stop took {:.1} s", took.as_secs_f64()));
        }
        what
    }

    fn faults(&mut self, dice: &mut Dice, percent: u64, faults: Vec<autoembed_stub::Do>) -> &'static str {
        let probability = (5 + dice.below(percent)) as f64 / 100.0;
        self.api.faults(dice.next(), probability, faults);
        "changes of the API's faults"
    }

    /// Only rows that nobody has locked: waiting for a client that may wait for us would be a deadlock of our own.
    fn lock_rows(&self, dice: &mut Dice) -> Result<Option<&'static str>, Failed> {
        let table = dice.pick(&TABLES).name;
        let mut db = scene::session(self.cluster, "postgres")?;
        let _storm = self.ledger.storm();
        run(&mut db, &format!("BEGIN; SELECT FROM {table} WHERE body IS NOT NULL LIMIT 300 FOR UPDATE SKIP LOCKED"))?;
        std::thread::sleep(dice.ms(200, 1800));
        run(&mut db, "COMMIT")?;
        Ok(Some("times rows were locked"))
    }

    fn lock_table(&self, dice: &mut Dice) -> Result<Option<&'static str>, Failed> {
        let table = dice.pick(&TABLES).name;
        let mode = dice.pick(&["SHARE", "SHARE ROW EXCLUSIVE", "ACCESS EXCLUSIVE"]);
        let mut db = scene::session(self.cluster, "postgres")?;
        let _storm = self.ledger.storm();
        run(&mut db, &format!("SET lock_timeout = '2s'; BEGIN; LOCK TABLE {table} IN {mode} MODE"))?;
        std::thread::sleep(dice.ms(200, 1200));
        run(&mut db, "COMMIT")?;
        Ok(Some("times a table was locked"))
    }

    /// Users must not feel it.
    fn old_snapshot(&self, dice: &mut Dice) -> Result<Option<&'static str>, Failed> {
        let mut db = scene::session(self.cluster, "postgres")?;
        run(&mut db, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM autoembed.job")?;
        std::thread::sleep(dice.ms(500, 3000));
        run(&mut db, "COMMIT")?;
        Ok(Some("old snapshots held"))
    }

    /// The worker is stopped while a request of its is held, until its leases are over; another session does its work; it
    /// wakes up with an answer that nobody wants any more.
    fn lease_runs_out(&mut self, dice: &mut Dice) -> Result<Option<&'static str>, Failed> {
        let mut db = scene::session(self.cluster, "postgres")?;
        // What it holds while it is stopped, users may wait for.
        let _storm = self.ledger.storm();
        self.api.well();
        self.api.hold();
        let held = self.api.holds_one(Duration::from_secs(3));
        let stopped =
            processes::find(&mut db, &worker(), dice).filter(|pid| held && processes::send(*pid, Signal::SIGSTOP));
        let Some(pid) = stopped else {
            self.api.release();
            return Ok(None);
        };
        self.api.release();
        std::thread::sleep(LEASE + Duration::from_millis(300));
        let (done, finished) = mpsc::channel();
        // The stopped worker may hold what the other session needs, which then can only wait: it is woken at last anyway.
        std::thread::spawn(move || {
            let embedded =
                run(&mut db, "SET statement_timeout = '8s'; SELECT autoembed.embed_pending(max_rows => 200)");
            let _ = done.send(embedded);
        });
        let in_time = finished.recv_timeout(Duration::from_secs(5));
        processes::send(pid, Signal::SIGCONT);
        let embedded = match in_time {
            Ok(embedded) => embedded,
            Err(_) => {
                finished.recv_timeout(Duration::from_secs(30)).map_err(|e| format!("embed_pending() hangs: {e}"))?
            }
        };
        embedded?;
        Ok(Some("leases that ran out"))
    }

    fn define(&self, action: Action, dice: &mut Dice) -> Result<Option<&'static str>, Failed> {
        let table = dice.pick(&TABLES).name;
        let mut owner = scene::session(self.cluster, OWNER)?;
        let mut admin = scene::session(self.cluster, "postgres")?;
        for db in [&mut owner, &mut admin] {
            run(db, "SET lock_timeout = '2s'; SET statement_timeout = '20s'")?;
        }
        match action {
            Action::BuildIndex => build_index(&mut owner, dice)?,
            Action::Reindex => {
                let what = dice.pick(&["autoembed.job", "plain", "letters", "cleared"]);
                run(&mut admin, &format!("REINDEX TABLE CONCURRENTLY {what}"))?;
            }
            Action::AddColumn => {
                let _storm = self.ledger.storm();
                run(&mut owner, &format!("ALTER TABLE {table} ADD COLUMN added text DEFAULT 'x'"))?;
                let mut tries = 0;
                while let Err(why) = run(&mut owner, &format!("ALTER TABLE {table} DROP COLUMN IF EXISTS added")) {
                    tries += 1;
                    if tries == 5 {
                        return Err(why.into());
                    }
                }
            }
            Action::Partition => {
                let _storm = self.ledger.storm();
                partition(&mut owner, dice)?;
            }
            Action::Truncate => {
                let _storm = self.ledger.storm();
                run(&mut owner, "TRUNCATE settling")?;
            }
            Action::ChangeModel => {
                let _storm = self.ledger.storm();
                return change_model(&mut owner, &mut admin, dice);
            }
            Action::PauseResume => {
                run(&mut owner, &format!("SELECT autoembed.pause('{table}')"))?;
                std::thread::sleep(dice.ms(100, 1500));
                self.resume(&mut owner, table)?;
            }
            Action::Backfill => {
                run(&mut owner, &format!("SELECT autoembed.backfill('{table}', force => {})", dice.below(2) == 0))?
            }
            Action::VacuumTables => run(&mut owner, &format!("VACUUM (ANALYZE) {table}"))?,
            Action::VacuumQueue => run(&mut admin, "VACUUM (ANALYZE) autoembed.job")?,
            Action::VacuumFull => {
                let _storm = self.ledger.storm();
                run(
                    &mut admin,
                    &format!("VACUUM FULL {}", dice.pick(&["autoembed.job", "autoembed.failed", "letters"])),
                )?;
            }
            _ => return Ok(None),
        }
        Ok(Some(named(action)))
    }

    /// A vectorizer that stayed paused would never be done.
    fn resume(&self, db: &mut Db, table: &str) -> Result<(), Failed> {
        let begun = Instant::now();
        while let Err(why) = run(db, &format!("SELECT autoembed.resume('{table}')")) {
            if begun.elapsed() > Duration::from_secs(20) {
                return Err(why.into());
            }
        }
        Ok(())
    }
}

fn named(action: Action) -> &'static str {
    match action {
        Action::BuildIndex => "indexes built",
        Action::Reindex => "reindexes",
        Action::AddColumn => "columns added and dropped",
        Action::Partition => "partitions made and dropped",
        Action::Truncate => "tables emptied",
        Action::PauseResume => "pauses of a vectorizer",
        Action::Backfill => "backfills",
        _ => "vacuums",
    }
}

/// Without blocking writers; what an earlier one left half-built goes first.
fn build_index(db: &mut Db, dice: &mut Dice) -> Result<(), String> {
    let (table, on) = dice.pick(&[
        ("letters", "USING hnsw (embedding vector_cosine_ops)"),
        ("plain", "(note)"),
        ("cleared", "(md5(body))"),
        ("settling", "(md5(body)) WHERE embedding IS NOT NULL"),
    ]);
    run(db, &format!("DROP INDEX CONCURRENTLY IF EXISTS {table}_chaos"))?;
    run(db, &format!("CREATE INDEX CONCURRENTLY {table}_chaos ON {table} {on}"))
}

/// A change of model is begun; one that is under way is ended, or goes on.
fn change_model(owner: &mut Db, admin: &mut Db, dice: &mut Dice) -> Result<Option<&'static str>, Failed> {
    const NOW: &str =
        "SELECT v.model, s.model FROM autoembed.vectorizer v LEFT JOIN autoembed.vectorizer s ON s.replaces = v.id
        WHERE v.source = 'letters'::regclass AND v.replaces IS NULL";
    let row = admin.try_rows(NOW).map_err(|e| e.to_string())?.into_iter().next().unwrap_or_default();
    let now = row.first().cloned().flatten().unwrap_or_default();
    let is_under_way = row.get(1).is_some_and(Option::is_some);
    if is_under_way && dice.below(3) > 0 {
        return Ok(None);
    }
    let (to, what) = match is_under_way {
        true => (now.as_str(), "changes of model ended by hand"),
        false => (if now == MODEL { OTHER } else { MODEL }, "changes of model begun"),
    };
    run(owner, &format!("SELECT autoembed.set_model('letters', '{to}')"))?;
    Ok(Some(what))
}

/// A partition is made and filled, through the root and through itself; an older one is taken off, or dropped.
fn partition(db: &mut Db, dice: &mut Dice) -> Result<(), String> {
    // Far above all numbers of the clients, who never meet these rows.
    let n = 1_000_000_000 + dice.below(1_000_000_000);
    let made = format!("logs_p{n}");
    let attached = format!(
        "CREATE TABLE {made} (LIKE logs INCLUDING ALL); ALTER TABLE logs ATTACH PARTITION {made} FOR VALUES IN ('p{n}')"
    );
    let created = format!("CREATE TABLE {made} PARTITION OF logs FOR VALUES IN ('p{n}')");
    run(db, dice.pick(&[&attached, &created]))?;
    run(
        db,
        &format!(
            "INSERT INTO logs (region, id, body) SELECT 'p{n}', {n} + i, 'in the root ' || i FROM generate_series(1, 20) i"
        ),
    )?;
    run(
        db,
        &format!(
            "INSERT INTO {made} (region, id, body) SELECT 'p{n}', {n} + i, 'in the leaf ' || i FROM generate_series(21, 40) i"
        ),
    )?;
    let sql = "SELECT relid FROM pg_partition_tree('logs') WHERE isleaf AND relid::text LIKE 'logs_p%' ORDER BY relid OFFSET 2 LIMIT 1";
    let old = db.try_rows(sql).map_err(|e| e.to_string())?.into_iter().flatten().flatten().next();
    if let Some(old) = old {
        if dice.below(2) == 0 {
            run(db, &format!("ALTER TABLE logs DETACH PARTITION {old}"))?;
        }
        run(db, &format!("DROP TABLE {old}"))?;
    }
    Ok(())
}
