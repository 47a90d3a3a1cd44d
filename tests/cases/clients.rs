//! The programs of examples/clients, each run as its users run it, in a session of a role that has no more rights than the page on clients
//! says; and that page, which shows each of these files whole.

mod in_node;
mod in_python;
mod page;

use autoembed_tests::site::{DATABASE, PATIENCE};
use autoembed_tests::wait::seconds;
use autoembed_tests::{Cluster, Db, Site, eventually};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Instant;

/// What every program prints at its end, and the page says so.
const FOUND: &str = "0.40 my parcel never arrived\n0.17 please cancel my subscription\n";

/// The role that owns the tables and runs migrations, and the application's.
const OWNER: &str = "shop_owner";
const APP: &str = "shop_app";

/// A database in which `shop_owner` may make tables and has none yet.
struct Scene {
    site: Site,
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/clients").canonicalize().unwrap()
}

impl Scene {
    fn new() -> Scene {
        let mut site = Site::new();
        site.db.run(&format!(
            "CREATE ROLE {OWNER} LOGIN; CREATE ROLE {APP} LOGIN; GRANT CREATE ON SCHEMA public TO {OWNER}; GRANT CREATE ON DATABASE {DATABASE} TO {OWNER}"
        ));
        Scene { site }
    }

    /// With the table of schema.sql, and the grants for an application.
    fn with_messages() -> Scene {
        let scene = Scene::new();
        let mut psql = scene.psql(OWNER);
        psql.args(["-v", "ON_ERROR_STOP=1", "-f"]).arg(scene.copied("schema.sql"));
        assert_eq!(run(&mut psql), "1\n\n");
        scene.site.session_as(OWNER).run(&format!("GRANT SELECT, INSERT ON messages TO {APP}"));
        scene
    }

    fn cluster(&self) -> &Cluster {
        &self.site.cluster
    }

    /// A file of the examples where the server's account can read it.
    fn copied(&self, file: &str) -> PathBuf {
        let copy = self.cluster().socket_dir().join(Path::new(file).file_name().unwrap());
        std::fs::write(&copy, std::fs::read(examples().join(file)).unwrap()).unwrap();
        copy
    }

    /// psql as `role`, which prints values alone.
    fn psql(&self, role: &str) -> Command {
        let mut psql = self.cluster().tool("psql");
        psql.env("PGUSER", role).env("PGDATABASE", DATABASE).args(["-X", "-q", "-A", "-t"]);
        psql
    }

    /// A program with nothing but the way to the database in its environment, as variables of libpq.
    fn program(&self, program: impl AsRef<Path>, role: &str) -> Command {
        let mut command = bare(program);
        command.env("PGHOST", self.cluster().socket_dir()).env("PGUSER", role).env("PGDATABASE", DATABASE);
        command
    }

    /// As [`Scene::program`], with a URL.
    fn program_by_url(&self, program: impl AsRef<Path>, role: &str, scheme: &str) -> Command {
        let mut command = bare(program);
        let folder = self.cluster().socket_dir().display().to_string().replace('/', "%2F");
        command.env("DATABASE_URL", format!("{scheme}://{role}@/{DATABASE}?host={folder}"));
        command
    }

    fn owner(&self) -> Db {
        self.site.session_as(OWNER)
    }

    /// [`run`] of a program that LISTENs. Its rows are held back until it has looked at them once; then it ends because it is told, and not
    /// because its own ten seconds are over.
    fn run_told(&mut self, command: &mut Command) -> String {
        self.owner().run("SELECT autoembed.pause('messages')");
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let looked = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE usename = '{APP}' AND state = 'idle' AND query LIKE '%job_status%'"
        );
        eventually("the program has looked at its rows", PATIENCE, || {
            let ended = child.try_wait().unwrap().is_some();
            if ended || self.site.db.int(&looked) == 1 { Ok(()) } else { Err("not yet".to_owned()) }
        });
        let start = Instant::now();
        self.owner().run("SELECT autoembed.resume('messages')");
        let printed = finished(command, &child.wait_with_output().unwrap());
        let took = start.elapsed();
        println!("{:?}: ended after {took:?}", command.get_program());
        assert!(took < seconds(7), "{took:?}");
        printed
    }

    /// Takes the rows of a run away, after a look at them: three, each with its vector, and nothing left to do.
    fn cleared(&mut self) {
        assert_eq!(self.site.db.text("SELECT count(*) || ' ' || count(embedding) FROM messages"), "3 3");
        assert_eq!(self.site.status("pending + in_flight + failed", "messages"), "0");
        self.site.db.run("TRUNCATE messages");
    }
}

/// A command that can find nothing but the system's own programs, and whose home is empty.
fn bare(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new(program.as_ref());
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("LC_ALL", "C.UTF-8")
        .env("HOME", "/nonexistent")
        .stdin(Stdio::null());
    command
}

/// Runs a program to its end; gives what it printed. Panics where it fails, or complains.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    finished(command, &output)
}

fn finished(command: &Command, output: &Output) -> String {
    let (printed, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.is_empty(), "{command:?}: {}\n{said}\n{printed}", output.status);
    printed.into_owned()
}

/// The folder of prepared interpreters and packages.
fn prepared() -> PathBuf {
    let folder = std::env::var_os("AUTOEMBED_CLIENTS").filter(|folder| !folder.is_empty());
    PathBuf::from(folder.expect("AUTOEMBED_CLIENTS must name the folder that `make clients` fills"))
}

#[test]
fn psql() {
    let mut scene = Scene::with_messages();
    let script = scene.copied("psql/messages.sql");
    let wanted = "t\n1|my parcel never arrived|0.40\n2|please cancel my subscription|0.17\n";
    // The words of the query end no literal.
    for (query, wanted) in [("delivery problems", wanted), ("');  DROP TABLE messages; --", "t\n")] {
        let mut psql = scene.psql(OWNER);
        psql.args(["-v", "customer=ann", "-v", &format!("query={query}"), "-f"]).arg(&script);
        let printed = run(&mut psql);
        assert!(printed.starts_with(wanted), "{printed}");
        assert_eq!(printed.lines().count(), 3, "{printed}");
        scene.cleared();
        scene.site.db.run("TRUNCATE messages RESTART IDENTITY");
    }
    let mut psql = scene.program_by_url("/bin/sh", OWNER, "postgresql");
    // As the page shows the call.
    let tool = scene.cluster().tool("psql").get_program().to_owned();
    psql.arg("-c").arg(format!(
        "{} \"$DATABASE_URL\" -X -q -A -t -v customer=ann -v query='delivery problems' -f {}",
        tool.display(),
        script.display()
    ));
    assert_eq!(run(&mut psql), wanted);
    let mut psql = scene.psql(APP);
    psql.args([
        "-c",
        r#"SELECT FROM similar_messages('x', filter => '{"nobody": 1}')"#,
        "-c",
        r"\echo :LAST_ERROR_SQLSTATE",
    ]);
    let output = psql.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "42703\n");
    assert!(String::from_utf8_lossy(&output.stderr).contains(&format!("HINT:  {HINT}")));
}

/// The hint of the error that the page has as its example, and its message.
const HINT: &str = "The keys of a filter are names of the table's columns.";
const MESSAGE: &str = "column \"nobody\" of table \"messages\" does not exist";

#[test]
fn rust() {
    let mut scene = Scene::with_messages();
    let mut messages = scene.program_by_url(env!("CARGO_BIN_EXE_messages"), APP, "postgresql");
    assert_eq!(scene.run_told(&mut messages), FOUND);
    scene.cleared();
    // tokio-postgres's error is this one.
    let error = scene
        .site
        .session_as(APP)
        .query("SELECT FROM similar_messages('x', filter => '{\"nobody\": 1}')", &[])
        .unwrap_err();
    let server = error.as_db_error().unwrap();
    assert_eq!((server.code().code(), server.message(), server.hint()), ("42703", MESSAGE, Some(HINT)));
}

/// Who owns the table may wait for it; an application's role asks for its rows.
#[test]
fn what_an_application_may_wait_for() {
    let mut scene = Scene::with_messages();
    let mut app = scene.site.session_as(APP);
    app.run("INSERT INTO messages (customer, content) VALUES ('ann', 'my parcel never arrived')");
    app.error("SELECT autoembed.wait('messages')").assert("42501", "must be owner of table messages");
    app.until("SELECT state FROM autoembed.job_status('messages', '1')", "embedded", PATIENCE);
    // The table's name as a parameter.
    let waited = scene.owner().query_one("SELECT autoembed.wait($1::text::regclass)", &[&"messages"]).unwrap();
    assert!(waited.get::<_, bool>(0));
    // In the transaction that wrote the row there is nothing to wait for, but the row can be embedded there.
    let mut owner = scene.owner();
    owner.run("BEGIN; INSERT INTO messages (customer, content) VALUES ('ann', 'the train is late')");
    assert_eq!(owner.int("SELECT autoembed.embed_pending('messages')"), 1);
    assert_eq!(owner.text("SELECT content FROM similar_messages('railway delay', 1)"), "the train is late");
    owner.run("ROLLBACK");
    assert_eq!(scene.site.db.int("SELECT count(*) FROM messages"), 1);
}

/// A statement that was prepared with all columns fails once the table has one more; one that names them goes on.
#[test]
fn prepared_statements_name_their_columns() {
    let mut scene = Scene::new();
    let mut owner = scene.owner();
    owner.run("CREATE TABLE notes (id int PRIMARY KEY, body text)");
    let all = owner.prepare("SELECT * FROM notes").unwrap();
    let named = owner.prepare("SELECT id, body FROM notes").unwrap();
    for statement in [&all, &named] {
        assert!(owner.query(statement, &[]).unwrap().is_empty());
    }
    scene.owner().run("SELECT autoembed.enable('notes', 'body')");
    // Each time, until it is prepared anew.
    for _ in 0..2 {
        let error = owner.query(&all, &[]).unwrap_err();
        let server = error.as_db_error().unwrap();
        assert_eq!((server.code().code(), server.message()), ("0A000", "cached plan must not change result type"));
    }
    let anew = owner.prepare("SELECT * FROM notes").unwrap();
    assert_eq!(anew.columns().len(), 3);
    assert!(owner.query(&named, &[]).unwrap().is_empty());
    let search = owner.prepare("SELECT id FROM similar_notes($1, k => $2)").unwrap();
    assert!(owner.query(&search, &[&"x y z", &3]).unwrap().is_empty());
    scene.site.db.run("INSERT INTO notes VALUES (1, 'the bridge is closed')");
    assert!(scene.owner().yes("SELECT autoembed.wait('notes')"));
    assert_eq!(owner.query(&search, &[&"closed bridges", &3]).unwrap().len(), 1);
}
