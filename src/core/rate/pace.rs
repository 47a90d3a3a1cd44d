//! A pace that nobody states: found from what a server accepted before it refused, and when it accepted again.
//!
//! A server that refuses one request of two as too many would be asked twice for everything. So after a refusal the
//! requests are spread as the server took them: the time from the first that it accepted to the first that it accepts again,
//! shared among those accepted in between. That is right for a window (60 at once, then none for a minute) and for a
//! bucket (one a second). The pace then quickens, slowly at first, so that about one request of fifty is refused where
//! there is more to do than the server allows.

use std::collections::VecDeque;
use std::time::Duration;

use super::MINUTE;

/// A server that refused everything for longer than this had other reasons than the pace.
const LONGEST_REFUSAL: Duration = Duration::from_secs(120);
/// No limit of a minute wants a longer gap.
const LONGEST: Duration = Duration::from_secs(90);
/// A shorter gap is none.
const SHORTEST: Duration = Duration::from_millis(5);
/// Kept above what was found.
const MARGIN: f64 = 1.08;
/// How much the gap shrinks with each request that is accepted: at first, and at most.
const STEPS: (f64, f64) = (0.002, 0.1);
/// After that many accepted requests the step doubles.
const PATIENCE: u32 = 50;
/// What is found from fewer requests, where nothing like it was found before, is a guess: a server that has just come back may have
/// accepted few for other reasons.
const FEW: usize = 10;
/// Longer by so much than before, a gap is a guess.
const GUESSED: u32 = 8;
/// How much the gap shrinks with each request that is accepted while it is a guess.
const GUESS_STEP: f64 = 0.5;
/// Accepted requests that are remembered.
const REMEMBERED: usize = 1000;

#[derive(Debug, Default)]
pub(super) struct Pace {
    /// `None`: nothing was refused yet.
    gap: Option<Duration>,
    /// The gap is a guess.
    is_guess: bool,
    /// When the latest accepted requests were sent, since the server accepts again.
    accepted: VecDeque<Duration>,
    /// Requests accepted since then.
    run: u32,
    /// When the server began to refuse, and the last request that was sent before it was known.
    refused: Option<(Duration, u64)>,
}

impl Pace {
    /// The least time between two requests.
    pub(super) fn gap(&self) -> Option<Duration> {
        self.gap
    }

    /// Request number `id`, sent at `sent`, was accepted.
    pub(super) fn on_accepted(&mut self, id: u64, sent: Duration) {
        match self.refused {
            Some((since, last_id)) if id > last_id => {
                self.find(since, sent);
                self.refused = None;
                self.accepted.clear();
                self.run = 0;
            }
            Some(_) => {}
            None => self.quicken(sent),
        }
        if self.accepted.len() >= REMEMBERED {
            self.accepted.pop_front();
        }
        self.accepted.push_back(sent);
    }

    /// A request that was sent at `sent` was too many; `last_id`: the latest sent.
    pub(super) fn on_refused(&mut self, sent: Duration, last_id: u64) {
        let (since, _) = self.refused.unwrap_or((sent, 0));
        self.refused = Some((since, last_id));
    }

    /// The server refused since `since`, and accepts what was sent at `again`.
    fn find(&mut self, since: Duration, again: Duration) {
        if again.saturating_sub(since) > LONGEST_REFUSAL {
            return;
        }
        let counts = |sent: &&Duration| sent.saturating_add(MINUTE) > since;
        let counted = self.accepted.iter().filter(counts).count();
        let Some(first) = self.accepted.iter().filter(counts).min() else { return };
        let found = again.saturating_sub(*first).mul_f64(MARGIN / counted as f64);
        let is_new = self.gap.is_none_or(|gap| found > gap * GUESSED);
        self.is_guess = is_new && counted < FEW;
        self.gap = Some(found.min(LONGEST)).filter(|gap| *gap > SHORTEST);
    }

    fn quicken(&mut self, sent: Duration) {
        let Some(gap) = self.gap else { return };
        // A server that is asked rarely does not show that it can be asked more often.
        if self.accepted.back().is_some_and(|before| sent.saturating_sub(*before) > gap * 2) {
            return;
        }
        self.run = self.run.saturating_add(1);
        let (first, most) = STEPS;
        let step = if self.is_guess {
            GUESS_STEP
        } else {
            (first * 2f64.powi((self.run / PATIENCE).min(10) as i32)).min(most)
        };
        self.gap = Some(gap.mul_f64(1.0 - step)).filter(|gap| *gap > SHORTEST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two were accepted, then a minute of refusals, and nothing is wrong any more: the first gap is half a minute.
    #[test]
    fn a_server_that_has_recovered_is_not_asked_slowly_for_long() {
        let seconds = Duration::from_secs;
        let mut pace = Pace::default();
        pace.on_accepted(1, seconds(0));
        pace.on_accepted(2, seconds(1));
        pace.on_refused(seconds(2), 3);
        pace.on_accepted(4, seconds(60));
        let first = pace.gap().unwrap_or_default();
        assert!(first > seconds(25), "{first:?}");
        let (mut now, mut id) = (seconds(60), 4);
        while let Some(gap) = pace.gap() {
            (now, id) = (now + gap, id + 1);
            pace.on_accepted(id, now);
            assert!(now < seconds(150), "still one in {gap:?}");
        }
    }
}
