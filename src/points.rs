//! Named places at which a test build waits, fails or dies. A release knows none of it.
//!
//! A test writes a file into `points/` of the data directory, named as the place, which says what is to happen there the next
//! time that somebody comes by:
//!
//! | contents | what happens |
//! |---|---|
//! | `hold` | the file is renamed to `<place>.held`; it goes on when that is gone |
//! | `error` | an error of the server that is no row's fault (53200) |
//! | `fault` | an error that may be a row's (XX000) |
//! | `panic` | a panic |
//! | `kill` | the process aborts, and the server with it |
//!
//! The files `worker` and `session` hold `<n> <action>`: what happens at the n-th place within a transaction, whichever it is, that a worker
//! or a session comes by. `worker-steps` counts the places between transactions as well, but no statements. Each file counts once.
//!
//! Where there is a file `only_when_told`, whatever it holds, when a worker begins, it looks into the queue for a reason only: a commit, an
//! answer, a pause that is over, `poll_interval`; not because it looks round, or to find numbers that committed late.

#[cfg(not(feature = "pg_test"))]
mod nothing {
    /// Nothing.
    #[inline(always)]
    pub fn reach(_place: &str) {}

    /// Nothing.
    #[inline(always)]
    pub fn reach_in_thread(_place: &str) {}

    /// No.
    #[inline(always)]
    pub fn is_set(_name: &str) -> bool {
        false
    }
}

#[cfg(not(feature = "pg_test"))]
pub use nothing::{is_set, reach, reach_in_thread};

#[cfg(feature = "pg_test")]
pub use armed::{is_set, reach, reach_in_thread};

#[cfg(feature = "pg_test")]
mod armed {
    use crate::pg::ffi::process;
    use pgrx::{PgLogLevel, PgSqlErrorCode, ereport};
    use std::cell::RefCell;
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    /// Below the working directory of a server process, which is its data directory.
    const FOLDER: &str = "points";

    thread_local! {
        /// What is counted down, as its file says it, and places that were passed since.
        static PASSED: RefCell<(String, u64)> = const { RefCell::new((String::new(), 0)) };
    }

    /// A place that the main thread of a process comes by.
    pub fn reach(place: &str) {
        let Some(action) = due(place) else { return };
        let at = format!("injected at {place}");
        match action.as_str() {
            "error" => ereport!(PgLogLevel::ERROR, PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY, at),
            "fault" => ereport!(PgLogLevel::ERROR, PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, at),
            "hold" => hold(place, || process::pause(Duration::from_millis(2))),
            _ => act(&action, &at),
        }
    }

    /// A place that a thread comes by, which may touch nothing of the server.
    pub fn reach_in_thread(place: &str) {
        match take(&Path::new(FOLDER).join(place)) {
            Some(action) if action == "hold" => hold(place, || std::thread::sleep(Duration::from_millis(2))),
            Some(action) => act(&action, &format!("injected at {place}")),
            None => {}
        }
    }

    /// Whether a test wants the server to be so: the file stays.
    pub fn is_set(name: &str) -> bool {
        Path::new(FOLDER).join(name).exists()
    }

    #[allow(clippy::panic)] // this is what it is for
    fn act(action: &str, at: &str) {
        match action {
            "panic" => panic!("{at}"),
            "kill" => std::process::abort(),
            other => eprintln!("autoembed: no such action: {other}"),
        }
    }

    fn due(place: &str) -> Option<String> {
        if !Path::new(FOLDER).exists() {
            return None;
        }
        take(&Path::new(FOLDER).join(place)).or_else(|| {
            let who = if process::is_worker() { "worker" } else { "session" };
            let within = || if process::is_in_transaction() { countdown(who) } else { None };
            let steps = || if process::is_worker() && place != "statement" { countdown("worker-steps") } else { None };
            within().or_else(steps)
        })
    }

    fn take(file: &PathBuf) -> Option<String> {
        let action = std::fs::read_to_string(file).ok()?.trim().to_string();
        if action.is_empty() {
            // It is being written.
            return None;
        }
        // Of two processes one gets it.
        if action == "hold" { Some(action) } else { std::fs::remove_file(file).ok().map(|()| action) }
    }

    fn countdown(name: &str) -> Option<String> {
        let file = Path::new(FOLDER).join(name);
        let order = std::fs::read_to_string(&file).ok()?;
        let (n, action) = order.trim().split_once(' ')?;
        let passed = PASSED.with_borrow_mut(|(of, passed)| {
            if *of != order {
                (*of, *passed) = (order.clone(), 0);
            }
            *passed += 1;
            *passed
        });
        if passed < n.parse().ok()? {
            return None;
        }
        std::fs::remove_file(&file).ok().map(|()| action.to_string())
    }

    fn hold(place: &str, wait: impl Fn()) {
        let held = Path::new(FOLDER).join(format!("{place}.held"));
        // Of two processes one is held.
        if std::fs::rename(Path::new(FOLDER).join(place), &held).is_ok() {
            while held.exists() {
                wait();
            }
        }
    }
}
