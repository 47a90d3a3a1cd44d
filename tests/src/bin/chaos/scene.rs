//! The server, its tables and its roles.

use super::api::Api;
use super::ledger::Ledger;
use super::plan::{Family, Mix};
use super::tables::{AUDIT, TABLES};
use autoembed_tests::db::literal;
use autoembed_tests::{Cluster, Db, db};
use std::io;
use std::time::{Duration, Instant};

/// Where everything happens.
pub const DATABASE: &str = "app";
/// Who owns the tables: nobody special.
pub const OWNER: &str = "owner";
/// Who writes: somebody who may write, and nothing else.
pub const USER: &str = "writer";
/// Dimensions of the vectors.
pub const DIMS: usize = 16;
/// The model that a table begins with.
pub const MODEL: &str = "stub";
/// Another one: of the same text it makes another vector.
pub const OTHER: &str = "other";
/// How long a lease lasts here: short, so that it can run out.
pub const LEASE: Duration = Duration::from_secs(3);

/// What a model has before each text.
pub fn prefix(model: &str) -> &'static str {
    if model == OTHER { "other: " } else { "" }
}

/// A private server with the extension preloaded. Crashes are expected.
pub fn cluster() -> io::Result<Cluster> {
    let cluster = Cluster::builder()
        .preload(true)
        .durable(true)
        .setting("max_prepared_transactions", "20")
        .setting("shared_buffers", "64MB")
        .setting("checkpoint_timeout", "30s")
        // Recovery begins by syncing every file: in one go it leaves more of the time for writing.
        .setting("recovery_init_sync_method", "syncfs")
        .setting("autovacuum_naptime", "5s")
        .setting("autoembed.lease", &format!("{}s", LEASE.as_secs()))
        .setting("autoembed.retry_base_delay", "100ms")
        .setting("autoembed.retry_max_delay", "1s")
        // A text is charged for answers that lie about it, and the lies of a run are more than those of years.
        .setting("autoembed.max_attempts", "100")
        .try_start()?;
    cluster.expect_crash();
    Ok(cluster)
}

/// Roles, extension, model and tables. Errors: what the server says, for people.
pub fn furnish(cluster: &Cluster, api: &Api) -> Result<(), String> {
    let mut db = connect(cluster, "postgres", "postgres")?;
    for sql in [
        &format!("CREATE ROLE {OWNER} LOGIN"),
        &format!("CREATE ROLE {USER} LOGIN"),
        &format!("CREATE DATABASE {DATABASE}"),
    ] {
        run(&mut db, sql)?;
    }
    let mut db = connect(cluster, DATABASE, "postgres")?;
    run(&mut db, &format!("CREATE EXTENSION autoembed CASCADE; GRANT CREATE ON SCHEMA public TO {OWNER}"))?;
    let url = literal(&api.url());
    run(
        &mut db,
        &format!(
            "SELECT autoembed.create_model('{MODEL}', 'openai', dimensions => {DIMS}, url => {url}, timeout => '2 s', max_batch_inputs => 24)"
        ),
    )?;
    let other = format!(
        "SELECT autoembed.create_model('{OTHER}', 'openai', dimensions => {DIMS}, url => {url}, timeout => '2 s', max_batch_inputs => 24,
           options => '{{\"document_prefix\": \"{}\"}}')",
        prefix(OTHER)
    );
    run(&mut db, &other)?;
    let mut db = connect(cluster, DATABASE, OWNER)?;
    for table in TABLES {
        run(&mut db, table.made)?;
        run(
            &mut db,
            &format!(
                "SELECT autoembed.enable('{}', {}, model => '{MODEL}'{})",
                table.name,
                literal(table.input),
                table.enabled
            ),
        )?;
    }
    run(&mut db, AUDIT)?;
    run(&mut db, &format!("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {USER}"))
}

/// A session. Errors: what the server says, for people.
pub fn connect(cluster: &Cluster, database: &str, role: &str) -> Result<Db, String> {
    cluster.try_client_as(database, role).map_err(|e| db::explain(&e))
}

/// A session as soon as the server takes one, within half a minute.
pub fn session(cluster: &Cluster, role: &str) -> Result<Db, String> {
    let begun = Instant::now();
    loop {
        match connect(cluster, DATABASE, role) {
            Ok(db) => return Ok(db),
            Err(e) if begun.elapsed() > Duration::from_secs(30) => return Err(e),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// Runs statements. Errors: what the server says, for people.
pub fn run(db: &mut Db, sql: &str) -> Result<(), String> {
    db.batch_execute(sql).map_err(|e| format!("{}\n  in: {sql}", db::explain(&e)))
}

/// Whether the log may have these crashes: where processes are killed, only theirs.
pub fn judge_log(log: &str, mix: &Mix, ledger: &Ledger) {
    for line in log.lines() {
        let killed = line.contains("was terminated by signal 9");
        let crash = ["PANIC:", "segfault", "was terminated by signal", "TRAP:", "panicked at"]
            .iter()
            .any(|sign| line.contains(sign));
        let kills = mix.has(Family::Kills) || mix.has(Family::Restarts);
        if (crash && !(killed && kills)) || line.contains("XX000") || line.contains("SIGKILL to recalcitrant") {
            ledger.wrong(&format!("the server's log: {line}"));
        }
    }
}
