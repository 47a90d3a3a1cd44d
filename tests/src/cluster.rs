//! A private PostgreSQL server: started for one test, reachable through a socket in its own folder only, gone afterwards.

use crate::db::Db;
use crate::find::{self, Account};
use crate::template::{self, Folder};
use crate::wait::{eventually, seconds};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How the server is asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// When all sessions have ended.
    Smart,
    /// Sessions are ended, then a checkpoint.
    Fast,
    /// At once; the next start recovers.
    Immediate,
}

/// What a cluster is to be like; from [`Cluster::builder`].
#[derive(Clone, Debug, Default)]
pub struct Builder {
    preload: bool,
    durable: bool,
    test_build: bool,
    settings: Vec<(String, String)>,
    environment: Vec<(String, String)>,
}

impl Builder {
    /// Whether `shared_preload_libraries` names the extension.
    #[must_use]
    pub fn preload(mut self, preload: bool) -> Builder {
        self.preload = preload;
        self
    }

    /// Whether commits reach the disk: off unless asked for, since no test here pulls the machine's plug.
    #[must_use]
    pub fn durable(mut self, durable: bool) -> Builder {
        self.durable = durable;
        self
    }

    /// Whether the server has a test build of the extension, which waits and fails where [`crate::points::Points`] say.
    #[must_use]
    pub fn test_build(mut self, test_build: bool) -> Builder {
        self.test_build = test_build;
        self
    }

    /// One line of postgresql.conf; a later one wins over an earlier one.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Builder {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// One variable of the server's environment, which is empty otherwise.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Builder {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A running server. Panics when it does not come up, with its log.
    #[must_use]
    pub fn start(self) -> Cluster {
        self.try_start().unwrap_or_else(|e| panic!("{e}"))
    }

    /// A running server. Errors: no server programs, initdb or the start failed; the message holds the log's tail.
    pub fn try_start(self) -> io::Result<Cluster> {
        let permit = Permit::take();
        let account = find::account()?;
        let folder = Folder::new(&account)?;
        let cluster = Cluster {
            bindir: if self.test_build { find::test_build_bindir()? } else { find::bindir()? },
            account,
            child: Mutex::new(None),
            crash_expected: AtomicBool::new(false),
            environment: self.environment.clone(),
            folder,
            _permit: Some(permit),
        };
        template::copy_to(&cluster.data(), &account, self.durable)?;
        std::io::Write::write_all(
            &mut OpenOptions::new().append(true).open(cluster.data().join("postgresql.conf"))?,
            self.conf(&cluster).as_bytes(),
        )?;
        cluster.launch()?;
        Ok(cluster)
    }

    fn conf(&self, cluster: &Cluster) -> String {
        let socket = cluster.folder.path().display().to_string();
        let mut lines = vec![
            ("listen_addresses", ""),
            ("unix_socket_directories", socket.as_str()),
            ("max_connections", "60"),
            ("shared_buffers", "128MB"),
            ("max_wal_size", "4GB"),
            ("log_line_prefix", "%m [%p] %b %d "),
            ("log_error_verbosity", "verbose"),
            ("timezone", "UTC"),
        ];
        if self.preload {
            lines.push(("shared_preload_libraries", "autoembed"));
        }
        if !self.durable {
            lines.extend([("fsync", "off"), ("full_page_writes", "off")]);
        }
        lines.extend(self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        lines.iter().fold("\n".to_owned(), |mut conf, (name, value)| {
            let _ = writeln!(conf, "{name} = '{}'", value.replace('\'', "''"));
            conf
        })
    }
}

/// A running private server. Dropping it stops it at once, removes its folder, and fails the test if the server's
/// log tells of a crash that the test did not announce by [`Cluster::expect_crash`].
pub struct Cluster {
    pub(crate) bindir: PathBuf,
    pub(crate) account: Account,
    pub(crate) child: Mutex<Option<Child>>,
    pub(crate) crash_expected: AtomicBool,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) folder: Folder,
    pub(crate) _permit: Option<Permit>,
}

impl Cluster {
    /// Starts describing a cluster.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// A session of the superuser. Panics when the server refuses it.
    #[must_use]
    pub fn client(&self, database: &str) -> Db {
        self.client_as(database, "postgres")
    }

    /// A session of `user`. Panics when the server refuses it.
    #[must_use]
    pub fn client_as(&self, database: &str, user: &str) -> Db {
        self.try_client_as(database, user)
            .unwrap_or_else(|e| panic!("no session for {user} in {database}: {}", crate::db::explain(&e)))
    }

    /// A session of `user`. Errors: the server's.
    pub fn try_client_as(&self, database: &str, user: &str) -> Result<Db, postgres::Error> {
        let mut config = postgres::Config::new();
        config.host_path(self.folder.path()).port(5432).user(user).dbname(database);
        config.application_name("autoembed-tests").connect_timeout(seconds(10));
        // Two sessions of one test that wait for each other are a failure, not a test that never ends.
        config.options("-c statement_timeout=10min");
        config.connect(postgres::NoTls).map(Db::from)
    }

    /// Runs `sql` in psql (unaligned, tuples only) as the superuser and returns what it prints. Panics on an error.
    #[must_use]
    pub fn psql(&self, database: &str, sql: &str) -> String {
        let mut psql = find::command(self.bindir.join("psql"), &self.account);
        psql.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database, "-c", sql]);
        psql.arg("-h").arg(self.folder.path());
        find::run(&mut psql).unwrap_or_else(|e| panic!("{e}"))
    }

    /// The folder of the socket, for tools that connect themselves.
    #[must_use]
    pub fn socket_dir(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// One of the server's own programs (`pgbench`, `pg_dump`), as the server's account, pointed at this server.
    #[must_use]
    pub fn tool(&self, name: &str) -> std::process::Command {
        let mut tool = find::command(self.bindir.join(name), &self.account);
        tool.env("PGHOST", self.folder.path()).env("PGUSER", "postgres");
        tool
    }

    /// Everything the server has written to its log.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read(self.log_path())
            .map_or_else(|_| String::new(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The log's last `lines` lines.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        let log = self.log();
        let all: Vec<&str> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// When the server's memory was last set up anew: a crash of any backend changes what `pg_postmaster_start_time`
    /// does not show, so this is the count of crash recoveries together with the start time.
    #[must_use]
    pub fn postmaster_start_time(&self) -> String {
        let start = self.client("postgres").text("SELECT pg_postmaster_start_time()::text");
        let crashes = self.log().matches("all server processes terminated; reinitializing").count();
        format!("{start}, {crashes} crashes")
    }

    /// The process id of the extension's worker for `database`, if there is one now.
    #[must_use]
    pub fn worker_pid(&self, database: &str) -> Option<i32> {
        let pid = self.try_client_as("postgres", "postgres").ok()?.maybe(&format!(
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'autoembed worker' AND datname = {} LIMIT 1",
            crate::db::literal(database)
        ))?;
        pid.parse().ok()
    }

    /// Waits for the worker of `database`, at most `timeout`.
    #[must_use]
    pub fn wait_worker(&self, database: &str, timeout: Duration) -> i32 {
        eventually(&format!("a worker in {database}"), timeout, || {
            self.worker_pid(database).ok_or_else(|| format!("none; log:\n{}", self.log_tail(15)))
        })
    }

    /// SIGKILL to one process of this server, which must be announced by [`Cluster::expect_crash`].
    pub fn kill9(&self, pid: i32) {
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap_or_else(|e| panic!("kill -9 {pid}: {e}"));
    }

    /// Sends `signal` to one process of this server.
    pub fn signal(&self, pid: i32, signal: Signal) {
        kill(Pid::from_raw(pid), signal).unwrap_or_else(|e| panic!("{signal} to {pid}: {e}"));
    }

    /// From now on the log may tell of crashes.
    pub fn expect_crash(&self) {
        self.crash_expected.store(true, Ordering::Relaxed);
    }

    /// The server's main process.
    #[must_use]
    pub fn postmaster_pid(&self) -> i32 {
        let child = self.child();
        let id = child.as_ref().map(Child::id).unwrap_or_else(|| panic!("the server is stopped"));
        i32::try_from(id).expect("process ids fit")
    }

    /// Stops the server and says how long that took. Panics when it takes more than a minute.
    pub fn stop(&self, mode: Stop) -> Duration {
        let Some(mut child) = self.child().take() else {
            return Duration::ZERO;
        };
        let start = Instant::now();
        let signal = match mode {
            Stop::Smart => Signal::SIGTERM,
            Stop::Fast => Signal::SIGINT,
            Stop::Immediate => Signal::SIGQUIT,
        };
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("process ids fit"));
        let _ = kill(pid, signal);
        while start.elapsed() < seconds(60) {
            match child.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(2)),
                _ => return start.elapsed(),
            }
        }
        let _ = kill(pid, Signal::SIGQUIT);
        let _ = child.wait();
        panic!("the server did not stop ({mode:?}) within a minute; log:\n{}", self.log_tail(30));
    }

    /// Starts the server again after [`Cluster::stop`] or the death of its main process.
    pub fn start_again(&self) {
        self.try_start_again().unwrap_or_else(|e| panic!("{e}"));
    }

    /// [`Cluster::start_again`]. Errors: it did not come up, for instance since processes of before are still there.
    pub fn try_start_again(&self) -> io::Result<()> {
        self.stop(Stop::Immediate);
        self.launch()
    }

    /// Stops and starts the server; says how long the stop took.
    pub fn restart(&self, mode: Stop) -> Duration {
        let took = self.stop(mode);
        self.launch().unwrap_or_else(|e| panic!("{e}"));
        took
    }

    /// Waits until the server takes sessions, as after a crash.
    pub fn wait_ready(&self, timeout: Duration) {
        eventually("the server takes sessions", timeout, || {
            self.try_client_as("postgres", "postgres").map(drop).map_err(|e| e.to_string())
        });
    }

    pub(crate) fn launch(&self) -> io::Result<()> {
        let log = OpenOptions::new().create(true).append(true).open(self.log_path())?;
        let mut server = find::command(self.bindir.join("postgres"), &self.account);
        server.envs(self.environment.iter().map(|(name, value)| (name, value)));
        server.arg("-D").arg(self.data()).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // Its own group: a Ctrl-C at the terminal is for the test, which then stops the server in good order.
        server.process_group(0);
        *self.child() = Some(server.spawn()?);
        let start = Instant::now();
        loop {
            match self.try_client_as("postgres", "postgres") {
                Ok(_) => return Ok(()),
                Err(e) if start.elapsed() > seconds(60) => {
                    return Err(io::Error::other(format!("no session after a minute: {e}\n{}", self.log_tail(30))));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
            let ended = self.child().as_mut().and_then(|child| child.try_wait().transpose()).transpose()?;
            if let Some(status) = ended {
                *self.child() = None;
                return Err(io::Error::other(format!("the server ended with {status}:\n{}", self.log_tail(30))));
            }
        }
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }
}

/// Lines of the log that tell of a crash.
#[must_use]
pub fn crash_lines(log: &str) -> Vec<&str> {
    const SIGNS: [&str; 4] = ["PANIC:", "segfault", "was terminated by signal", "TRAP:"];
    log.lines().filter(|line| SIGNS.iter().any(|sign| line.contains(sign))).collect()
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let failing = std::thread::panicking();
        if failing {
            eprintln!("--- server log, last 40 lines ---\n{}\n---", self.log_tail(40));
        }
        if failing {
            // A second panic while the first unwinds would abort the whole run.
            if let Some(mut child) = self.child().take() {
                let _ = kill(Pid::from_raw(i32::try_from(child.id()).unwrap_or(0)), Signal::SIGQUIT);
                let _ = child.wait();
            }
            return;
        }
        self.stop(Stop::Immediate);
        let log = self.log();
        let crashes = crash_lines(&log);
        if !self.crash_expected.load(Ordering::Relaxed) {
            assert!(crashes.is_empty(), "the server's log tells of a crash: {crashes:#?}");
        }
    }
}

/// At most two clusters at once: the suite's figures are made for two cores, and a laptop has memory for two.
pub(crate) struct Permit;

static PERMITS: Mutex<usize> = Mutex::new(2);
static RETURNED: Condvar = Condvar::new();

impl Permit {
    fn take() -> Permit {
        let mut free = PERMITS.lock().unwrap_or_else(PoisonError::into_inner);
        while *free == 0 {
            free = RETURNED.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        *free -= 1;
        Permit
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *PERMITS.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        RETURNED.notify_one();
    }
}
