//! What happened, told by all threads: counts, what was wrong, how long statements took, and when nobody may complain.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Longer than this no statement of a user may take, unless somebody was kept waiting on purpose.
pub const BOUND: Duration = Duration::from_secs(2);

/// The most complaints of one kind that are kept word for word.
const KEPT: u64 = 20;

/// Shared by all threads of a run.
pub struct Ledger {
    start: Instant,
    stop: AtomicBool,
    /// Odd while sessions are being ended; another number than before: some were.
    broken: AtomicU64,
    /// Odd while users are made to wait on purpose.
    unrest: AtomicU64,
    pages: Mutex<Pages>,
}

#[derive(Default)]
struct Pages {
    counts: BTreeMap<&'static str, u64>,
    complaints: Vec<String>,
    /// Complaints by their first words, up to where the particulars begin.
    kinds: BTreeMap<String, u64>,
    wrong: u64,
    journal: Vec<String>,
    /// Calm statements by the millisecond, as powers of two: enough for a percentile.
    times: BTreeMap<u32, u64>,
    slowest: (Duration, String),
}

/// While it lives, users may be kept waiting, or lose their sessions.
pub struct Storm<'a> {
    ledger: &'a Ledger,
    breaks: bool,
}

impl Drop for Storm<'_> {
    fn drop(&mut self) {
        self.ledger.unrest.fetch_add(1, Ordering::SeqCst);
        if self.breaks {
            self.ledger.broken.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Ends the run for all threads when it goes, be it by a panic.
pub struct Stopper<'a>(pub &'a Ledger);

impl Drop for Stopper<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl Default for Ledger {
    fn default() -> Ledger {
        Ledger {
            start: Instant::now(),
            stop: AtomicBool::new(false),
            broken: AtomicU64::new(0),
            unrest: AtomicU64::new(0),
            pages: Mutex::default(),
        }
    }
}

impl Ledger {
    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since the run began.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Asks all threads to end.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    /// Whether all threads are to end.
    pub fn stopping(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// One more of these.
    pub fn count(&self, what: &'static str) {
        self.add(what, 1);
    }

    /// `n` more of these.
    pub fn add(&self, what: &'static str, n: u64) {
        *self.pages().counts.entry(what).or_default() += n;
    }

    /// How many of these there were.
    pub fn counted(&self, what: &str) -> u64 {
        self.pages().counts.get(what).copied().unwrap_or(0)
    }

    /// All counts, by name.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.pages().counts.clone()
    }

    /// Something is wrong with the extension.
    pub fn wrong(&self, what: &str) {
        let line = format!("{} {what}", clock());
        let mut pages = self.pages();
        pages.wrong += 1;
        pages.journal.push(format!("{line}  <-- wrong"));
        let kind = what.split(|c: char| c.is_ascii_digit() || c == '(').next().unwrap_or("");
        let seen = pages.kinds.entry(kind.to_owned()).or_default();
        *seen += 1;
        if *seen <= KEPT {
            pages.complaints.push(line);
        }
    }

    /// How much was wrong, and the first of it in words.
    pub fn complaints(&self) -> (u64, Vec<String>) {
        let pages = self.pages();
        (pages.wrong, pages.complaints.clone())
    }

    /// Writes down what was done, with the time as in the server's log.
    pub fn note(&self, what: &str) {
        self.pages().journal.push(format!("{} {what}", clock()));
    }

    /// What was done and what was wrong, in order.
    pub fn journal(&self) -> Vec<String> {
        self.pages().journal.clone()
    }

    /// From now on users may be kept waiting.
    pub fn storm(&self) -> Storm<'_> {
        self.unrest.fetch_add(1, Ordering::SeqCst);
        Storm { ledger: self, breaks: false }
    }

    /// From now on users may also lose their sessions.
    pub fn breaking(&self) -> Storm<'_> {
        self.broken.fetch_add(1, Ordering::SeqCst);
        self.unrest.fetch_add(1, Ordering::SeqCst);
        Storm { ledger: self, breaks: true }
    }

    /// To be asked when a session begins, for [`Ledger::may_be_lost`].
    pub fn sessions_broken(&self) -> u64 {
        self.broken.load(Ordering::SeqCst)
    }

    /// Whether a session that began at `since` may have been ended by the run itself.
    pub fn may_be_lost(&self, since: u64) -> bool {
        let now = self.sessions_broken();
        now != since || now % 2 == 1
    }

    /// To be asked before a statement, for [`Ledger::took`].
    pub fn unrest(&self) -> u64 {
        self.unrest.load(Ordering::SeqCst)
    }

    /// Whether nobody was kept waiting on purpose since then.
    pub fn calm_since(&self, before: u64) -> bool {
        before.is_multiple_of(2) && before == self.unrest()
    }

    /// A user's statement that was begun at `before` took so long.
    pub fn took(&self, before: u64, time: Duration, sql: &str) {
        if !self.calm_since(before) {
            return self.count("statements while users were kept waiting");
        }
        self.count("statements timed");
        let shown: String = sql.chars().take(150).collect();
        if time > BOUND {
            self.wrong(&format!("a user's statement took {:.2} s: {shown}", time.as_secs_f64()));
        }
        let mut pages = self.pages();
        let bucket = 64 - u64::try_from(time.as_micros() / 100).unwrap_or(u64::MAX).leading_zeros();
        *pages.times.entry(bucket).or_default() += 1;
        if time > pages.slowest.0 {
            pages.slowest = (time, shown);
        }
    }

    /// The slowest statement, and a time that 99 % were not above.
    pub fn slowest(&self) -> (Duration, String, Duration) {
        let pages = self.pages();
        let all: u64 = pages.times.values().sum();
        let mut seen = 0;
        let p99 = pages.times.iter().find(|(_, n)| {
            seen += **n;
            seen * 100 >= all * 99
        });
        let p99 = p99.map_or(Duration::ZERO, |(bucket, _)| Duration::from_micros(100 << (*bucket).min(40)));
        (pages.slowest.0, pages.slowest.1.clone(), p99)
    }
}

/// The time of day in UTC, as the server's log has it.
fn clock() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let day = now.as_secs() % 86_400;
    format!("{:02}:{:02}:{:02}.{:03}", day / 3600, day / 60 % 60, day % 60, now.subsec_millis())
}
