//! How many requests at once a server bears: one more for each round that goes well, half as many when it is too much.
//!
//! What was too much once is not tried again soon: every request that is lost to trying costs as much as one that is not.

/// Requests that have to go well before as many as were too much are tried again; each time in vain doubles it.
const PATIENCE: (u32, u32) = (16, 1024);

/// Additive increase, multiplicative decrease, between 1 and what the settings allow.
#[derive(Debug, Default)]
pub struct Concurrency {
    /// `None`: nothing has been too much yet.
    limit: Option<f64>,
    /// The last request that was sent before the latest decrease: others of its time say nothing new.
    decreased_at: u64,
    too_many: Option<TooMany>,
}

/// A number that was too much.
#[derive(Debug)]
struct TooMany {
    at_once: f64,
    patience: u32,
    /// Requests that went well with one less.
    run: u32,
}

impl Concurrency {
    /// Requests that may be under way at once, of `most` that the settings allow.
    #[must_use]
    pub fn allowed(&self, most: usize) -> usize {
        let limit = self.limit.map_or(usize::MAX, |limit| limit as usize);
        limit.clamp(1, most.max(1))
    }

    /// Request number `id` was answered; `was_full`: as many were under way as may be.
    pub fn on_success(&mut self, id: u64, most: usize, was_full: bool) {
        let Some(limit) = self.limit.as_mut().filter(|_| was_full && id > self.decreased_at) else { return };
        let next = *limit + 1.0 / limit.max(1.0);
        if let Some(too_many) = self.too_many.as_mut().filter(|it| next >= it.at_once && it.run < it.patience) {
            too_many.run += 1;
            return;
        }
        *limit = next;
        if self.too_many.as_ref().is_some_and(|too_many| next >= too_many.at_once + 1.0) {
            self.too_many = None;
        }
        if next >= most as f64 {
            self.limit = None;
        }
    }

    /// Request number `id` was too much for the server, while `in_flight` were under way; `last_id`: the latest sent.
    /// False: it was alone, so its number is not what was too much.
    pub fn on_overload(&mut self, id: u64, in_flight: usize, last_id: u64) -> bool {
        if id <= self.decreased_at || in_flight <= 1 {
            return id <= self.decreased_at;
        }
        let now = self.limit.unwrap_or(f64::INFINITY).min(in_flight as f64).max(2.0).floor();
        let (first, longest) = PATIENCE;
        let patience = match &self.too_many {
            Some(before) if before.at_once <= now => before.patience.saturating_mul(2).min(longest),
            _ => first,
        };
        self.limit = Some((now / 2.0).max(1.0));
        self.too_many = Some(TooMany { at_once: now, patience, run: 0 });
        self.decreased_at = last_id;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_once_for_requests_of_one_time_and_grows_by_one_a_round() {
        let mut it = Concurrency::default();
        assert_eq!(it.allowed(8), 8);
        for in_flight in (1..=8).rev() {
            assert!(it.on_overload(9 - in_flight as u64, in_flight, 8));
        }
        assert_eq!(it.allowed(8), 4);
        assert!(it.on_overload(9, 4, 9));
        assert!(it.on_overload(10, 2, 10));
        assert_eq!(it.allowed(8), 1);
        assert!(!it.on_overload(11, 1, 11), "alone");
        (12..12 + 16).for_each(|id| it.on_success(id, 8, true));
        for (id, allowed) in [(28, 2), (29, 2), (30, 2), (31, 3)] {
            it.on_success(id, 8, true);
            assert_eq!(it.allowed(8), allowed, "{id}");
        }
        (32..200).for_each(|id| it.on_success(id, 8, true));
        assert_eq!(it.allowed(8), 8);
        assert_eq!(it.allowed(16), 16, "a limit that was reached is no limit any more");
    }

    #[test]
    fn what_was_too_much_is_tried_rarely_and_ever_more_so() {
        // The server bears three at once.
        let (mut it, mut failed) = (Concurrency::default(), 0);
        for id in 1..=3000 {
            let allowed = it.allowed(8);
            if allowed > 3 {
                failed += 1;
                it.on_overload(id, allowed, id);
            } else {
                it.on_success(id, 8, true);
            }
        }
        assert!((4..12).contains(&failed), "{failed}");
        assert!(it.allowed(8) >= 2);
        // Then it bears all of them.
        (3001..5000).for_each(|id| it.on_success(id, 8, true));
        assert_eq!(it.allowed(8), 8);
    }

    #[test]
    fn what_was_not_tried_is_not_learned() {
        let mut it = Concurrency::default();
        it.on_overload(1, 8, 8);
        it.on_success(5, 8, true);
        (9..100).for_each(|id| it.on_success(id, 8, false));
        assert_eq!(it.allowed(8), 4);
        assert_eq!(it.allowed(2), 2);
        assert_eq!(it.allowed(0), 1);
    }
}
