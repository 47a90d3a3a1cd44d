//! Waking the worker when a transaction that queued something commits, without polling and without a lock that writers
//! would share: the committing session sets the worker's latch. Where no worker runs, the session asks for one.

use crate::pg::ffi::process;
use crate::pg::ffi::rights::as_extension;
use crate::pg::ffi::spi::{self, Mode};
use crate::pg::ffi::xact;
use crate::worker::launch::{self, Started};
use crate::worker::turns;
use std::cell::Cell;
use std::time::{Duration, Instant};

/// How soon a session asks for a worker again; twice as long each time that the one that it was given is gone.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// The longest such pause, after which all is forgotten.
const LONGEST: Duration = Duration::from_secs(60);

thread_local! {
    static QUEUED: Cell<bool> = const { Cell::new(false) };
    // Also when it is rolled back.
    static HELD: Cell<bool> = const { Cell::new(false) };
    static WORKER: Cell<i32> = const { Cell::new(0) };
    // When it asked last, and how long it does not ask again.
    static ASKED: Cell<Option<(Instant, Duration)>> = const { Cell::new(None) };
    static WARNED: Cell<bool> = const { Cell::new(false) };
}

/// Registers what happens at the end of a transaction; once a process.
pub fn install() {
    xact::on_end(|committed| {
        let (has_queued, has_held) = (QUEUED.replace(false), HELD.replace(false));
        if has_queued && committed || has_held {
            let pid = WORKER.get();
            if pid != 0 && !process::wake_process(pid) {
                WORKER.set(0);
            }
        }
    });
}

/// Notes that this transaction has queued something, and sees to it that there is a worker to wake.
pub fn at_commit() {
    if QUEUED.replace(true) {
        return;
    }
    if WORKER.get() == 0 || !process::is_connected_here(WORKER.get()) {
        WORKER.set(find_worker().unwrap_or(0));
        if WORKER.get() == 0 && may_ask() {
            ask();
        }
        if WORKER.get() != 0 {
            WARNED.set(false);
        }
    }
}

/// Notes that this transaction has jobs in hand, which are free when it ends, however it does: a worker that has passed them over looks again.
pub fn at_end() {
    if !HELD.replace(true) && (WORKER.get() == 0 || !process::is_connected_here(WORKER.get())) {
        WORKER.set(find_worker().unwrap_or(0));
    }
}

fn ask() {
    match launch::start_for_this_database() {
        Started::Worker(pid) => WORKER.set(pid),
        Started::NoPlace(database) => {
            ASKED.set(Some((Instant::now(), ASK_AGAIN)));
            // Once while it lasts.
            if !WARNED.replace(true) {
                turns::no_place(&database, process::is_preloaded()).warn();
            }
        }
        Started::None => {}
    }
}

/// Whether this transaction has queued something.
pub fn has_queued() -> bool {
    QUEUED.get()
}

// A server that has no place for a worker, or one whose workers end at once, must not be asked with every statement.
fn may_ask() -> bool {
    let now = Instant::now();
    let pause = match ASKED.get() {
        Some((at, pause)) if now - at < pause => return false,
        Some((at, pause)) if now - at < LONGEST => (pause * 2).min(LONGEST),
        _ => ASK_AGAIN,
    };
    ASKED.set(Some((now, pause)));
    true
}

/// The process that serves this database.
pub fn find_worker() -> Option<i32> {
    const SQL: &str = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'autoembed worker' AND datid = $1 LIMIT 1";
    let database = process::database();
    as_extension(|| spi::first(SQL, spi::args![database], Mode::Read, |row| row.get::<i32>(1)).flatten())
}
