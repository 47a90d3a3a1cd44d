//! What the worker writes into the server's log of what goes wrong and is tried again: a line when it begins, one with the count
//! when it is over. [`autoembed_core::trouble`] says when.

use crate::pg::ffi::process;
use autoembed_core::trouble::{Line, Troubles};
use std::cell::RefCell;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What can be in trouble.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A model cannot be called.
    Model(String),
    /// A vectorizer's table, by its number, cannot be read or written.
    Vectorizer(i32),
    /// A transaction of the worker's fails as a whole.
    Step,
    /// No process can be had to build an index.
    Indexer,
}

struct Log {
    /// The time since 1970 when it began; from then on only a clock counts that nobody sets.
    begun: Duration,
    clock: Instant,
    troubles: Troubles<Subject>,
}

thread_local! {
    static LOG: RefCell<Log> = RefCell::new(Log {
        begun: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
        clock: Instant::now(),
        troubles: Troubles::default(),
    });
}

/// Nothing in sessions: who calls `embed_pending()` is told there.
fn with_log<R>(ask: impl FnOnce(&mut Troubles<Subject>, Duration) -> Option<R>) -> Option<R> {
    if !process::is_worker() {
        return None;
    }
    LOG.with_borrow_mut(|log| ask(&mut log.troubles, log.begun + log.clock.elapsed()))
}

/// Something of `subject` has failed; `text` says all that the log is to say of it. Failures of another `kind` are news.
pub fn fails(subject: &Subject, kind: &str, text: impl FnOnce() -> String) {
    say(with_log(|log, now| log.fails(subject, kind, now)), text);
}

/// `subject` is in trouble, as before or anew; what fails of it is told by [`count`].
pub fn has(subject: &Subject, kind: &str, text: impl FnOnce() -> String) {
    say(with_log(|log, now| log.has(subject, kind, now)), text);
}

fn say(line: Option<Line>, text: impl FnOnce() -> String) {
    match line {
        Some(Line::Begun { unsaid: 0 }) => pgrx::log!("autoembed: {}", text()),
        Some(Line::Begun { unsaid }) => {
            pgrx::log!("autoembed: {} (this came and went {unsaid} times since the last line)", text());
        }
        Some(Line::Lasts(span)) => pgrx::log!("autoembed: still, after {span}: {}", text()),
        Some(Line::Others(count)) => {
            pgrx::log!(
                "autoembed: and {count} more are in trouble, without lines of their own: see the view autoembed.status"
            );
        }
        Some(Line::Over(_)) | None => {}
    }
}

/// Something of `subject` has failed once more.
pub fn count(subject: &Subject) {
    with_log(|log, _| {
        log.count(subject);
        None::<()>
    });
}

/// `subject` works.
pub fn works(subject: &Subject) {
    tell_end(subject, with_log(|log, now| log.ends(subject, now)));
}

/// The same where nothing of `subject` has failed for a while, for what gives no other sign.
pub fn is_quiet(subject: &Subject, quiet: Duration) {
    tell_end(subject, with_log(|log, now| log.calms(subject, quiet, now)));
}

fn tell_end(subject: &Subject, line: Option<Line>) {
    let Some(Line::Over(span)) = line else { return };
    match subject {
        Subject::Model(name) => pgrx::log!("autoembed: model \"{name}\" works again, after {span}"),
        Subject::Vectorizer(id) => pgrx::log!("autoembed: vectorizer {id} works again, after {span}"),
        Subject::Step => pgrx::log!("autoembed: no step fails any more, after {span}"),
        Subject::Indexer => pgrx::log!("autoembed: a process to build indexes could be started, after {span}"),
    }
}

/// An earlier worker has said that `subject` is in trouble of this kind, since that time after 1970.
pub fn inherit(subject: Subject, kind: String, since: Duration) {
    with_log(|log, now| {
        log.inherit(subject, kind, since, now);
        None::<()>
    });
}

/// What the trouble of `subject` was, by the last line about it.
pub fn kind(subject: &Subject) -> Option<String> {
    with_log(|log, _| log.kind(subject).map(str::to_owned))
}
