//! Through PgBouncer: each way of sharing sessions, what a session keeps for whoever is next, and what becomes of shared sessions when the
//! extension is updated, dropped and made again.

mod sessions;

use autoembed_tests::beside::{self, Beside};
use autoembed_tests::cluster::Cluster;
use autoembed_tests::db::Row;
use autoembed_tests::site::{DATABASE, PATIENCE};
use autoembed_tests::wait::seconds;
use autoembed_tests::{Db, Site};
use postgres::types::Type;
use std::collections::HashSet;
use std::path::PathBuf;

/// Who may log in: the superuser, the owner of the tables, and an application that takes the role of each request.
const USERS: [&str; 3] = ["postgres", "shop", "gate"];

/// A running PgBouncer before one server.
struct Pooler {
    program: Beside,
    folder: PathBuf,
    port: u16,
    /// Its major and minor version.
    version: (u32, u32),
}

impl Pooler {
    /// One that shares `sessions` of the server for each user among all clients, in this mode; `more` are lines of its configuration.
    fn start(cluster: &Cluster, mode: &str, sessions: u32, more: &str) -> Pooler {
        let program = beside::program("pgbouncer");
        let folder = cluster.socket_dir().to_owned();
        // The file of a socket is named after it, and stays when its owner is killed.
        let free = |port: &u16| !folder.join(format!(".s.PGSQL.{port}")).exists();
        let port = (6432..).find(free).unwrap();
        let users: String = USERS.iter().map(|user| format!("\"{user}\" \"\"\n")).collect();
        let users = cluster.file("pgbouncer.users", &users);
        let (socket, version) = (folder.display(), version_of(&program));
        // What older ones do not know.
        let prepared = if version >= (1, 21) { "max_prepared_statements = 100" } else { "" };
        let configuration = cluster.file(
            &format!("pgbouncer.{port}.ini"),
            &format!(
                "[databases]\n* = host={socket} port=5432\n[pgbouncer]\nlisten_addr =\nunix_socket_dir = {socket}\nlisten_port = {port}\n\
                 auth_type = trust\nauth_file = {}\nadmin_users = postgres\npool_mode = {mode}\ndefault_pool_size = {sessions}\nserver_round_robin = 1\n{prepared}\n{more}\n",
                users.display()
            ),
        );
        let program = cluster.beside(&program, &[configuration.to_str().unwrap()], &[]);
        let mut pooler = Pooler { program, folder, port, version };
        let (folder, port) = (pooler.folder.clone(), pooler.port);
        pooler.program.until("PgBouncer takes clients", || connect(&folder, port, "postgres", DATABASE).map(drop));
        pooler
    }

    /// A client. It ends with the server's own session still there, for the next one.
    fn client(&self, user: &str) -> Db {
        connect(&self.folder, self.port, user, DATABASE).unwrap_or_else(|e| panic!("{e}\n{}", self.program.log()))
    }

    /// A command of its console.
    fn console(&self, command: &str) -> Vec<Row> {
        connect(&self.folder, self.port, "postgres", "pgbouncer").unwrap().rows(command)
    }

    /// How many clients of `user` wait for a session.
    fn waiting(&self, user: &str) -> i64 {
        // Database, user, clients that have a session, clients that wait (SHOW POOLS; more columns have come between the later ones).
        let pools = self.console("SHOW POOLS");
        let pool = pools.iter().find(|pool| pool[0].as_deref() == Some(DATABASE) && pool[1].as_deref() == Some(user));
        pool.map_or(0, |pool| pool[3].as_deref().unwrap().parse().unwrap())
    }
}

fn connect(folder: &std::path::Path, port: u16, user: &str, database: &str) -> Result<Db, String> {
    let mut config = postgres::Config::new();
    config.host_path(folder).port(port).user(user).dbname(database).connect_timeout(seconds(10));
    config.connect(postgres::NoTls).map(Db::from).map_err(|e| e.to_string())
}

fn version_of(program: &std::path::Path) -> (u32, u32) {
    let said = std::process::Command::new(program).arg("--version").output().unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    println!("{}", said.lines().next().unwrap_or_default());
    let numbers = said.strip_prefix("PgBouncer ").and_then(|rest| rest.split_whitespace().next()).expect("its version");
    let mut numbers = numbers.split('.').map(|number| number.parse().expect("a number"));
    (numbers.next().unwrap(), numbers.next().unwrap())
}

/// A server with the users, of whom `shop` may make tables, and `gate` may become `ann` or `ben`.
fn scene() -> Site {
    let mut site = Site::new();
    site.db.run(
        "CREATE ROLE shop LOGIN; GRANT CREATE ON SCHEMA public TO shop; CREATE ROLE gate LOGIN NOINHERIT; CREATE ROLE ann; CREATE ROLE ben;
         GRANT ann, ben TO gate",
    );
    site
}

/// The numbers of the server's sessions behind these clients.
fn sessions_of(clients: &mut [Db]) -> HashSet<i64> {
    clients.iter_mut().map(|client| client.int("SELECT pg_backend_pid()")).collect()
}

/// Brings the pool of `shop` to its two sessions; from then on they take turns.
fn both_sessions(site: &mut Site, clients: &mut [Db]) -> String {
    const THEIRS: &str = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'shop'";
    let [one, two, ..] = clients else { panic!("two clients") };
    std::thread::scope(|threads| {
        threads.spawn(|| one.until(&format!("SELECT ({THEIRS}) FROM pg_sleep(0.05)"), "2", PATIENCE));
        threads.spawn(|| two.until(&format!("SELECT ({THEIRS}) FROM pg_sleep(0.05)"), "2", PATIENCE));
    });
    assert_eq!(site.db.int(THEIRS), 2, "{} clients, two sessions", clients.len());
    site.db.text("SELECT clock_timestamp()")
}

/// That each of the two sessions has had its part of what came since.
fn assert_both_worked(site: &mut Site, since: &str) {
    let sql = format!(
        "SELECT count(DISTINCT query) FROM pg_stat_activity WHERE usename = 'shop' AND state_change > '{since}'"
    );
    assert_eq!(site.db.int(&sql), 2);
}

/// From the table to the search, each step by another client.
fn all_steps(clients: &mut [Db]) {
    let mut turn = (0..clients.len()).cycle();
    let mut next = || turn.next().unwrap();
    clients[next()].run("CREATE TABLE notes (id int PRIMARY KEY, who text DEFAULT 'ann', body text)");
    clients[next()].run("INSERT INTO notes (id, body) VALUES (1, 'text 1')");
    assert!(
        clients[next()].int("SELECT autoembed.enable('notes', 'body', model => 'stub', text_search => 'english')") > 0
    );
    for id in 2..=9 {
        clients[next()].run(&format!("INSERT INTO notes (id, body) VALUES ({id}, 'text {id}')"));
    }
    assert!(clients[next()].yes("SELECT autoembed.wait('notes', '30 s')"));
    assert_eq!(clients[next()].int("SELECT count(embedding) FROM notes"), 9);
    for (sql, wanted) in [
        ("SELECT body FROM similar_notes('text 3', 1)", "text 3"),
        ("SELECT body FROM similar_notes('text 4', 1, mode => 'hybrid')", "text 4"),
        ("SELECT count(*) FROM similar_notes_to(5, 20)", "8"),
        ("SELECT id FROM notes ORDER BY embedding <=> autoembed.embed('text 6', 'stub') LIMIT 1", "6"),
        ("SELECT state FROM autoembed.job_status('notes', '7')", "embedded"),
        ("SELECT concat_ws(' ', state, pending, embedded) FROM autoembed.status", "active 0 9"),
        ("UPDATE notes SET body = 'text 88' WHERE id = 8 RETURNING id", "8"),
        ("SELECT autoembed.wait('notes', '30 s')", "t"),
        ("SELECT id FROM similar_notes('text 88', 1)", "8"),
        ("SELECT autoembed.pause('notes')", ""),
        ("INSERT INTO notes (id, body) VALUES (10, 'text 10') RETURNING id", "10"),
        ("SELECT pending FROM autoembed.status", "1"),
        ("SELECT autoembed.resume('notes')", ""),
        ("SELECT autoembed.backfill('notes', force => true) > 0", "t"),
        ("SELECT autoembed.wait('notes', '30 s')", "t"),
        ("SELECT autoembed.embed_pending('notes')", "0"),
        ("SELECT count(embedding) FROM notes", "10"),
    ] {
        assert_eq!(clients[next()].text(sql), wanted, "{sql}");
    }
}

#[test]
#[ignore = "needs PgBouncer, which `make test` brings"]
fn in_transaction_mode() {
    let mut site = scene();
    let pooler = Pooler::start(&site.cluster, "transaction", 2, "");
    let mut clients: Vec<Db> = (0..4).map(|_| pooler.client("shop")).collect();
    let since = both_sessions(&mut site, &mut clients);
    all_steps(&mut clients);
    assert_both_worked(&mut site, &since);
    // A transaction has a session to itself, and what it does is its own until its end; the other clients share the other session.
    clients[0].run("BEGIN; INSERT INTO notes (id, body) VALUES (11, 'text 11')");
    clients[1].run("INSERT INTO notes (id, body) VALUES (12, 'text 12')");
    assert!(clients[2].yes("SELECT autoembed.wait('notes', '30 s')"));
    assert_eq!(clients[3].int("SELECT count(*) FROM notes WHERE id > 10 AND embedding IS NOT NULL"), 1);
    assert_eq!(clients[0].int("SELECT autoembed.embed_pending('notes')"), 1);
    assert_eq!(clients[0].text("SELECT body FROM similar_notes('text 11', 1)"), "text 11");
    clients[0].run("ROLLBACK");
    assert_eq!(clients[1].int("SELECT count(*) FROM notes WHERE id = 11"), 0);
    assert_eq!(sessions_of(&mut clients).len(), 2);
    clients[2].run("SELECT autoembed.disable('notes', drop_column => true)");
    assert_eq!(clients[3].error("SELECT * FROM similar_notes('text 1')").code, "42883");
}

#[test]
#[ignore = "needs PgBouncer, which `make test` brings"]
fn in_statement_mode() {
    let mut site = scene();
    let pooler = Pooler::start(&site.cluster, "statement", 2, "");
    let mut clients: Vec<Db> = (0..3).map(|_| pooler.client("shop")).collect();
    let since = both_sessions(&mut site, &mut clients);
    all_steps(&mut clients);
    assert_both_worked(&mut site, &since);
    assert_eq!(sessions_of(&mut clients).len(), 2);
    assert!(clients[0].simple_query("BEGIN").is_err());
    autoembed_tests::eventually("PgBouncer says why", PATIENCE, || {
        let log = pooler.program.log();
        if log.contains("transaction blocks not allowed in statement pooling mode") { Ok(()) } else { Err(log) }
    });
    // One message with several statements is one transaction, in which SET LOCAL holds.
    clients[1].run("SELECT autoembed.pause('notes')");
    clients[1].run("SET LOCAL autoembed.lane = 'backfill'; INSERT INTO notes (id, body) VALUES (20, 'text 20')");
    clients[2].run("INSERT INTO notes (id, body) VALUES (21, 'text 21')");
    assert_eq!(lanes(&site), ["20 1", "21 0"]);
}

/// Keys and lanes of the jobs that wait.
fn lanes(site: &Site) -> Vec<String> {
    site.session().column("SELECT key || ' ' || lane FROM autoembed.job ORDER BY id")
}

/// Readers take turns in two sessions, all at once: each finds the rows that are his, and what was set for one is over with his transaction.
#[test]
#[ignore = "needs PgBouncer, which `make test` brings"]
fn each_reader_finds_his_own() {
    let mut site = scene();
    let pooler = Pooler::start(&site.cluster, "transaction", 2, "");
    all_steps(&mut [pooler.client("shop"), pooler.client("shop")]);
    pooler.client("shop").run(
        "INSERT INTO notes (id, who, body) SELECT 100 + id, 'ben', body FROM notes; GRANT SELECT ON notes TO ann, ben;
         ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
         CREATE POLICY own ON notes TO ann, ben USING (who = current_user AND current_setting('shop.open', true) = 'yes')",
    );
    assert!(pooler.client("shop").yes("SELECT autoembed.wait('notes', '30 s')"));
    std::thread::scope(|threads| {
        for n in 0..4 {
            let mut client = pooler.client("gate");
            threads.spawn(move || {
                for round in 0..25 {
                    let (who, first) = if (n + round) % 2 == 0 { ("ann", 1) } else { ("ben", 101) };
                    client.run(&format!("BEGIN; SET LOCAL ROLE {who}; SET LOCAL shop.open = 'yes'"));
                    let found = client.column(&format!("SELECT id FROM similar_notes('text {}', 20)", 1 + round % 5));
                    assert_eq!(found.len(), 10, "{who}: {found:?}");
                    let own = first..first + 10;
                    assert!(found.iter().all(|id| own.contains(&id.parse::<i32>().unwrap())), "{who}: {found:?}");
                    // A statement with parameters that is not prepared under a name.
                    let sql = "SELECT id FROM similar_notes($1, k => $2, mode => 'hybrid')";
                    let rows = client.query_typed(sql, &[(&"text 3", Type::TEXT), (&1, Type::INT4)]).unwrap();
                    assert_eq!(rows[0].get::<_, i32>(0), first + 2, "{who}");
                    client.run("COMMIT");
                    assert_eq!(
                        client.text("SELECT current_user || coalesce(current_setting('shop.open', true), '')"),
                        "gate"
                    );
                }
            });
        }
    });
    assert_eq!(pooler.client("gate").error("SELECT * FROM similar_notes('text 1')").code, "42501");
    assert_eq!(site.db.int("SELECT count(*) FROM pg_stat_activity WHERE usename = 'gate'"), 2);
    // What was asked for is remembered by each session, and for each role apart.
    let one = Pooler::start(&site.cluster, "transaction", 1, "");
    let mut clients = [one.client("gate"), one.client("gate")];
    let mut asked = |client: usize, who: &str| {
        let before = site.stub.stats().requests;
        clients[client].run(&format!("BEGIN; SET LOCAL ROLE {who}; SET LOCAL shop.open = 'yes'"));
        assert_eq!(clients[client].int("SELECT count(*) FROM similar_notes('asked for once', 3)"), 3);
        clients[client].run("COMMIT");
        site.stub.stats().requests - before
    };
    assert_eq!([asked(0, "ann"), asked(1, "ann"), asked(1, "ben"), asked(0, "ben")], [1, 0, 1, 0]);
}

/// wait() is one statement, which has its session until it is over: who shares that waits as well.
#[test]
#[ignore = "needs PgBouncer, which `make test` brings"]
fn a_wait_takes_a_session() {
    let site = scene();
    let pooler = Pooler::start(&site.cluster, "transaction", 1, "");
    let mut clients = [pooler.client("shop"), pooler.client("shop")];
    all_steps(&mut clients);
    site.stub.hold();
    let [mut waiter, mut other] = clients;
    waiter.run("INSERT INTO notes (id, body) VALUES (30, 'text 30')");
    site.wait_held(1);
    std::thread::scope(|threads| {
        let waits = threads.spawn(move || waiter.yes("SELECT autoembed.wait('notes', '1 min')"));
        site.session().until(
            "SELECT query LIKE '%wait(%' AND state = 'active' FROM pg_stat_activity WHERE usename = 'shop'",
            "t",
            PATIENCE,
        );
        let asks = threads.spawn(move || other.int("SELECT count(embedding) FROM notes"));
        autoembed_tests::eventually("the other client waits for the session", PATIENCE, || {
            match pooler.waiting("shop") {
                1 => Ok(()),
                n => Err(format!("{n} wait")),
            }
        });
        assert!(!waits.is_finished() && !asks.is_finished());
        site.stub.release();
        assert!(waits.join().unwrap());
        assert_eq!(asks.join().unwrap(), 11);
    });
}
