//! What a log says of troubles that repeat: a line when one begins, a line with the count when it is over. One that lasts is
//! recalled now and then; ones that come and go have so many lines, and no more.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::Hash;
use std::time::Duration;

/// A trouble that lasts is recalled so often.
pub const REMINDER: Duration = Duration::from_secs(3600);
/// The troubles of one thing that get lines one after the other; after them, one in each [`PAUSE`].
pub const AT_ONCE: u32 = 5;
/// See [`AT_ONCE`].
pub const PAUSE: Duration = Duration::from_secs(300);
/// Things that have lines of their own. What is in trouble is not forgotten for others, which are counted instead.
const MOST: usize = 1000;
/// Others that are counted.
const MOST_OTHERS: usize = 10 * MOST;
/// What is in trouble is heard of more often than this, unless it is no more.
const GONE: Duration = REMINDER;

/// A line that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// A trouble has begun, or has become another; so many came and went without a line before it.
    Begun {
        /// How many.
        unsaid: u64,
    },
    /// It goes on.
    Lasts(Span),
    /// It is over.
    Over(Span),
    /// Other things are in trouble too, so many that they have no lines of their own.
    Others(usize),
}

/// How long a trouble lasted, and how often something failed in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// From its beginning.
    pub time: Duration,
    /// Failures, the first included.
    pub count: u64,
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.time.as_secs();
        match seconds {
            0..60 => write!(f, "{seconds} s")?,
            60..3600 => write!(f, "{} min {} s", seconds / 60, seconds % 60)?,
            _ => write!(f, "{} h {} min", seconds / 3600, seconds / 60 % 60)?,
        }
        write!(f, ", {} {}", self.count, if self.count == 1 { "failure" } else { "failures" })
    }
}

/// The troubles of things that are told apart by `S`. Times are those of any clock that does not go back.
#[derive(Debug, Clone)]
pub struct Troubles<S> {
    known: HashMap<S, Trouble>,
    others: Others<S>,
}

/// What is in trouble beside [`MOST`] other things: counted for [`PAUSE`], then said, and counted anew.
#[derive(Debug, Clone)]
struct Others<S> {
    seen: HashSet<S>,
    since: Duration,
    said: usize,
    said_at: Duration,
}

impl<S: Eq + Hash + Clone> Others<S> {
    fn has(&mut self, what: &S, now: Duration) -> Option<Line> {
        let mut line = None;
        if now.saturating_sub(self.since) >= PAUSE {
            let count = self.seen.len();
            self.seen.clear();
            if count > 0 && (count != self.said || now.saturating_sub(self.said_at) >= REMINDER) {
                (self.said, self.said_at) = (count, now);
                line = Some(Line::Others(count));
            }
        }
        if self.seen.is_empty() {
            self.since = now;
        }
        if self.seen.len() < MOST_OTHERS {
            self.seen.insert(what.clone());
        }
        line
    }
}

#[derive(Debug, Clone, Default)]
struct Trouble {
    /// `None`: it is over.
    since: Option<Duration>,
    last: Duration,
    count: u64,
    /// What the last line was about; `None`: this trouble has had none.
    said: Option<String>,
    said_at: Duration,
    unsaid: u64,
    /// The allowance for lines is as good as used up until then.
    spent_until: Duration,
}

impl Trouble {
    /// Takes one line from the allowance.
    fn may_speak(&mut self, now: Duration) -> bool {
        let is_left = self.spent_until <= now + PAUSE * (AT_ONCE - 1);
        if is_left {
            self.spent_until = self.spent_until.max(now) + PAUSE;
        }
        is_left
    }

    fn span(&self, now: Duration) -> Span {
        Span { time: now.saturating_sub(self.since.unwrap_or(now)), count: self.count }
    }
}

impl<S> Default for Troubles<S> {
    fn default() -> Self {
        let others = Others { seen: HashSet::new(), since: Duration::ZERO, said: 0, said_at: Duration::ZERO };
        Self { known: HashMap::new(), others }
    }
}

impl<S: Eq + Hash + Clone> Troubles<S> {
    /// `what` is in trouble of this kind, be it anew or still; nothing has failed since it was last said or counted.
    pub fn has(&mut self, what: &S, kind: &str, now: Duration) -> Option<Line> {
        if !self.has_place(what, now) {
            return self.others.has(what, now);
        }
        let trouble = self.known.entry(what.clone()).or_default();
        trouble.last = now;
        if trouble.since.is_none() {
            (trouble.since, trouble.count, trouble.said) = (Some(now), 1, None);
        }
        if trouble.said.as_deref() == Some(kind) {
            let is_due = now.saturating_sub(trouble.said_at) >= REMINDER;
            return is_due.then(|| {
                trouble.said_at = now;
                Line::Lasts(trouble.span(now))
            });
        }
        trouble.may_speak(now).then(|| {
            (trouble.said, trouble.said_at) = (Some(kind.to_owned()), now);
            Line::Begun { unsaid: std::mem::take(&mut trouble.unsaid) }
        })
    }

    /// Whether `what` is remembered, or can be; what is over makes room.
    fn has_place(&mut self, what: &S, now: Duration) -> bool {
        if self.known.contains_key(what) || self.known.len() < MOST {
            return true;
        }
        let is_over = |trouble: &Trouble| trouble.since.is_none() || now.saturating_sub(trouble.last) >= GONE;
        let over = self.known.iter().filter(|(_, trouble)| is_over(trouble));
        let oldest = over.min_by_key(|(_, trouble)| trouble.last).map(|(what, _)| what.clone());
        oldest.is_some_and(|what| self.known.remove(&what).is_some())
    }

    /// Something of `what` has failed once more; counts only while it is in trouble.
    pub fn count(&mut self, what: &S) {
        if let Some(trouble) = self.known.get_mut(what).filter(|trouble| trouble.since.is_some()) {
            trouble.count += 1;
        }
    }

    /// Something of `what` has failed: [`Troubles::has`] and [`Troubles::count`].
    pub fn fails(&mut self, what: &S, kind: &str, now: Duration) -> Option<Line> {
        self.count(what);
        self.has(what, kind, now)
    }

    /// `what` works.
    pub fn ends(&mut self, what: &S, now: Duration) -> Option<Line> {
        self.others.seen.remove(what);
        let trouble = self.known.get_mut(what).filter(|trouble| trouble.since.is_some())?;
        let span = trouble.span(now);
        trouble.since = None;
        if trouble.said.take().is_none() {
            trouble.unsaid += 1;
            return None;
        }
        Some(Line::Over(span))
    }

    /// The same where nothing of `what` has failed for `quiet`.
    pub fn calms(&mut self, what: &S, quiet: Duration, now: Duration) -> Option<Line> {
        let trouble = self.known.get(what)?;
        if now.saturating_sub(trouble.last) < quiet { None } else { self.ends(what, now) }
    }

    /// `what` has been in trouble of this kind since before anything is known of it here, and that had its line.
    pub fn inherit(&mut self, what: S, kind: String, since: Duration, now: Duration) {
        if !self.has_place(&what, now) {
            return;
        }
        let trouble = Trouble { since: Some(since), last: now, said: Some(kind), said_at: now, ..Trouble::default() };
        self.known.insert(what, trouble);
    }

    /// The kind of trouble that the last line about `what` was of, while it lasts.
    pub fn kind(&self, what: &S) -> Option<&str> {
        self.known.get(what).filter(|trouble| trouble.since.is_some())?.said.as_deref()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn one_line_when_it_begins_and_one_when_it_is_over() {
        let mut troubles = Troubles::default();
        assert_eq!(troubles.ends(&"a", S), None, "nothing has begun");
        assert_eq!(troubles.fails(&"a", "down", 10 * S), Some(Line::Begun { unsaid: 0 }));
        for n in 11..100 {
            assert_eq!(troubles.fails(&"a", "down", n * S), None);
        }
        let Some(Line::Over(span)) = troubles.ends(&"a", 100 * S) else { panic!() };
        assert_eq!(span, Span { time: 90 * S, count: 90 });
        assert_eq!(span.to_string(), "1 min 30 s, 90 failures");
        assert_eq!(troubles.ends(&"a", 101 * S), None, "it was over");
    }

    #[test]
    fn another_kind_is_said_and_the_same_thing_is_not_said_of_another() {
        let mut troubles = Troubles::default();
        assert!(troubles.has(&"a", "down", S).is_some());
        assert!(troubles.has(&"b", "down", S).is_some());
        assert_eq!(troubles.has(&"a", "denied", 2 * S), Some(Line::Begun { unsaid: 0 }));
        assert_eq!(troubles.kind(&"a"), Some("denied"));
        assert_eq!(troubles.ends(&"a", 3 * S), Some(Line::Over(Span { time: 2 * S, count: 1 })));
        assert_eq!(troubles.kind(&"a"), None);
    }

    #[test]
    fn what_lasts_is_recalled() {
        let mut troubles = Troubles::default();
        troubles.fails(&"a", "down", Duration::ZERO);
        assert_eq!(troubles.fails(&"a", "down", REMINDER - S), None);
        assert_eq!(troubles.fails(&"a", "down", REMINDER), Some(Line::Lasts(Span { time: REMINDER, count: 3 })));
        assert_eq!(troubles.fails(&"a", "down", REMINDER + S), None);
    }

    #[test]
    fn what_comes_and_goes_is_counted() {
        let mut troubles = Troubles::default();
        let said = |line: Option<Line>| usize::from(line.is_some());
        let mut lines = 0;
        for n in 0..200 {
            lines += said(troubles.fails(&"a", "down", n * S)) + said(troubles.ends(&"a", n * S));
        }
        assert_eq!(lines, 2 * AT_ONCE as usize);
        assert_eq!(troubles.fails(&"a", "down", 200 * S + PAUSE), Some(Line::Begun { unsaid: 195 }));
    }

    #[test]
    fn what_lasts_after_coming_and_going_is_said_in_the_end() {
        let mut troubles = Troubles::default();
        for n in 0..u64::from(AT_ONCE) {
            let now = Duration::from_millis(n);
            assert!(troubles.fails(&"a", "down", now).is_some() && troubles.ends(&"a", now).is_some());
        }
        assert_eq!(troubles.fails(&"a", "down", S), None);
        let first = (2..600).find(|n| troubles.fails(&"a", "down", *n * S).is_some()).unwrap();
        assert!(first * S <= PAUSE + 2 * S, "{first}");
        assert!(matches!(troubles.ends(&"a", 600 * S), Some(Line::Over(span)) if span.time == 599 * S));
    }

    #[test]
    fn without_a_sign_of_its_end_it_is_over_when_it_is_quiet() {
        let mut troubles = Troubles::default();
        for n in 0..100 {
            assert_eq!(troubles.fails(&"a", "down", n * S).is_some(), n == 0);
            assert_eq!(troubles.calms(&"a", 10 * S, n * S + S / 2), None);
        }
        assert_eq!(troubles.calms(&"a", 10 * S, 109 * S), Some(Line::Over(Span { time: 109 * S, count: 100 })));
        assert_eq!(troubles.calms(&"b", 10 * S, 109 * S), None);
    }

    #[test]
    fn the_end_of_what_another_process_has_said_is_said() {
        let mut troubles = Troubles::default();
        troubles.inherit("a", "down".to_owned(), S, 50 * S);
        assert_eq!(troubles.fails(&"a", "down", 60 * S), None);
        assert_eq!(troubles.ends(&"a", 61 * S), Some(Line::Over(Span { time: 60 * S, count: 1 })));
    }

    #[test]
    fn things_are_bounded() {
        let mut troubles = Troubles::default();
        for i in 0..MOST + 100 {
            troubles.fails(&i, "down", Duration::from_millis(i as u64));
            troubles.ends(&i, Duration::from_millis(i as u64));
        }
        assert_eq!(troubles.known.len(), MOST);
        assert!(!troubles.known.contains_key(&99) && troubles.known.contains_key(&100));
        for i in 0..2 * MOST_OTHERS {
            troubles.fails(&i, "down", S);
        }
        assert_eq!((troubles.known.len(), troubles.others.seen.len()), (MOST, MOST_OTHERS));
        troubles.inherit(MOST * 300, "down".to_owned(), S, S);
        assert_eq!(troubles.known.len(), MOST);
    }

    #[test]
    fn what_is_in_trouble_is_not_forgotten_for_others() {
        const ALL: u32 = MOST as u32 + 200;
        let mut troubles = Troubles::default();
        let mut said: HashMap<u32, Vec<Line>> = HashMap::new();
        for minute in 0..10 {
            for what in 0..ALL {
                said.entry(what).or_default().extend(troubles.fails(&what, "down", 60 * minute * S));
            }
        }
        let others: Vec<&Line> = said.values().flatten().filter(|line| **line != Line::Begun { unsaid: 0 }).collect();
        assert_eq!(others, [&Line::Others(200)]);
        assert_eq!(said.values().flatten().count(), MOST + 1);
        // What ends makes room for one of them.
        assert!(matches!(troubles.ends(&0, 600 * S), Some(Line::Over(span)) if span.count == 10));
        assert_eq!(troubles.fails(&(ALL - 1), "down", 600 * S), Some(Line::Begun { unsaid: 0 }));
        assert_eq!(troubles.ends(&(ALL - 2), 600 * S), None);
        // Also what has gone without a word.
        assert_eq!(troubles.fails(&ALL, "down", 600 * S + GONE), Some(Line::Begun { unsaid: 0 }));
    }

    proptest! {
        /// Whatever comes: in a time the lines of one thing are bounded, and so are the things.
        #[test]
        fn lines_are_bounded(events in prop::collection::vec((0u8..4, 0u64..2000, 0u8..3), 1..400)) {
            let mut troubles = Troubles::default();
            let (mut now, mut lines) = (Duration::ZERO, 0u64);
            for (event, pause, kind) in events {
                now += Duration::from_millis(pause);
                let kind = ["down", "denied", "odd"][usize::from(kind)];
                let line = match event {
                    0 => troubles.ends(&0, now),
                    1 => troubles.calms(&0, S, now),
                    _ => troubles.fails(&0, kind, now),
                };
                lines += u64::from(line.is_some());
            }
            let most = 2 * (u64::from(AT_ONCE) + now.as_secs() / PAUSE.as_secs() + 1) + now.as_secs() / REMINDER.as_secs();
            prop_assert!(lines <= most, "{lines} lines in {now:?}");
        }
    }
}
