//! What a server's answers teach about its limits: how its tokens compare with our estimate, and what was too large for it.
//!
//! The estimate of [`crate::batch`] is on the safe side. What the server counts (`usage`) brings it closer for whole
//! requests, so that they are as full as they may be; what it refuses makes it more careful. A limit that it states is
//! taken over, one that it does not state is searched for, and given up again if it turns out to be gone. A single text is still cut by
//! the plain estimate until a server has refused one: so the same text is always cut at the same place.

use std::time::Duration;

use crate::error::{Oversize, Part, Unit};
use crate::model::Limits;

mod finder;
mod unsaid;

use finder::Finder;
use unsaid::Unsaid;

/// Requests of fewer tokens say little about texts in general.
const FEW: usize = 200;
/// Kept above what was counted.
const MARGIN: f64 = 1.1;
/// How fast the estimate comes down to what is counted.
const STEP: f64 = 0.1;
/// No server's count is further away from the estimate than this.
const FACTORS: (f64, f64) = (0.4, 5.0);
/// Nor is it for texts as a rule; where a single one is further away, that says nothing about the others.
const INPUT_FACTOR: f64 = 2.0;
/// A server that states a lower limit for one input means something else: cut to so little, a text loses its meaning.
const LEAST_INPUT: usize = 16;
/// A request is made as large as takes this part of the timeout: beyond it, the work of a whole request may be lost.
const PART_OF_TIMEOUT: f64 = 0.75;

/// The size of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Inputs.
    pub inputs: usize,
    /// Tokens of all inputs, by [`crate::batch::estimate_tokens`].
    pub tokens: usize,
    /// Bytes of all inputs.
    pub bytes: usize,
}

/// What is known about one server beyond its model's definition.
#[derive(Debug)]
pub struct Learned {
    /// Tokens that the server counts for one that is estimated, in whole requests.
    factor: f64,
    /// The same for single texts; at least 1.
    input_factor: f64,
    /// Lower limits than those of the definition, as the server counts.
    batch_inputs: usize,
    batch_tokens: usize,
    batch_bytes: usize,
    input_tokens: usize,
    /// The same where the server does not state them, by our estimate.
    few_inputs: Finder,
    few_tokens: Finder,
    few_bytes: Finder,
    /// Batches that were refused for no reason that was given.
    unsaid: Unsaid,
    /// Inputs that the server manages in time.
    in_time: usize,
}

impl Default for Learned {
    fn default() -> Self {
        Self {
            factor: 1.0,
            input_factor: 1.0,
            batch_inputs: usize::MAX,
            batch_tokens: usize::MAX,
            batch_bytes: usize::MAX,
            input_tokens: usize::MAX,
            few_inputs: Finder::default(),
            few_tokens: Finder::default(),
            few_bytes: Finder::default(),
            unsaid: Unsaid::default(),
            in_time: usize::MAX,
        }
    }
}

impl Learned {
    /// The limits to pack by, in estimated tokens.
    #[must_use]
    pub fn limits(&self, defined: &Limits) -> Limits {
        let found = self.few_inputs.limit().min(self.unsaid.limit());
        Limits {
            batch_inputs: defined.batch_inputs.min(self.batch_inputs).min(self.in_time).min(found).max(1),
            batch_tokens: self
                .estimate(defined.batch_tokens.min(self.batch_tokens))
                .min(self.few_tokens.limit())
                .max(1),
            batch_bytes: defined.batch_bytes.min(self.batch_bytes).min(self.few_bytes.limit()).max(1),
            input_tokens: scaled(defined.input_tokens.min(self.input_tokens), 1.0 / self.input_factor).max(1),
        }
    }

    /// What the server will count for `estimated` tokens.
    #[must_use]
    pub fn tokens(&self, estimated: usize) -> u64 {
        scaled(estimated, self.factor) as u64
    }

    /// How many estimated tokens come to `counted`.
    #[must_use]
    pub fn estimate(&self, counted: usize) -> usize {
        scaled(counted, 1.0 / self.factor).max(1)
    }

    /// The server counted `tokens` tokens for a request of this size.
    pub fn on_usage(&mut self, load: Load, tokens: u64) {
        if load.tokens < FEW || tokens == 0 {
            return;
        }
        let seen = (tokens as f64 / load.tokens as f64).clamp(FACTORS.0, FACTORS.1);
        let wanted = seen * MARGIN;
        if seen > self.factor {
            self.factor = wanted;
        } else {
            self.factor += (wanted - self.factor).min(0.0) * STEP;
        }
    }

    /// The server answered a request of this size after `took`, of `timeout`.
    pub fn on_success(&mut self, load: Load, took: Duration, timeout: Duration) {
        self.few_inputs.on_taken(load.inputs);
        self.few_tokens.on_taken(load.tokens);
        self.few_bytes.on_taken(load.bytes);
        self.unsaid.on_taken(load.inputs);
        if load.inputs >= self.in_time {
            // Twice as many take at most about twice as long.
            let room = timeout.as_secs_f64() * PART_OF_TIMEOUT / took.as_secs_f64().max(1e-3);
            self.in_time = self.in_time.max(scaled(load.inputs, room.min(2.0)));
        }
    }

    /// The server refused a request of this size, without a word about sizes.
    pub fn on_refused(&mut self, load: Load) {
        self.unsaid.on_refused(load.inputs);
    }

    /// The server did not answer a request of this size in time.
    pub fn on_timeout(&mut self, load: Load) {
        if load.inputs > 1 {
            self.in_time = self.in_time.min(load.inputs / 2);
        }
    }

    /// The server refused a request of this size as too large.
    pub fn on_oversize(&mut self, load: Load, what: &Oversize) {
        let limit = what.limit.and_then(|limit| usize::try_from(limit).ok()).filter(|limit| *limit > 0);
        let found = what.found.map(|found| found as f64);
        match (what.part, what.unit) {
            (Part::Input, _) => self.on_long_input(load, limit, found),
            (Part::Batch, Some(Unit::Inputs)) => match limit.filter(|limit| *limit < load.inputs) {
                Some(limit) => lower(&mut self.batch_inputs, limit),
                None => self.few_inputs.on_refused(load.inputs),
            },
            (Part::Batch, Some(Unit::Tokens)) => {
                if let Some(found) = found.filter(|_| load.tokens > 0) {
                    self.factor = self.factor.max((found / load.tokens as f64).clamp(FACTORS.0, FACTORS.1));
                }
                limit.into_iter().for_each(|limit| lower(&mut self.batch_tokens, limit));
                // Counted as we count, or refused for a limit that the message does not show: it must become less.
                if self.estimate(self.batch_tokens) >= load.tokens {
                    self.few_tokens.on_refused(load.tokens);
                }
            }
            (Part::Batch, Some(Unit::Bytes) | None) => match limit.filter(|limit| *limit < load.bytes) {
                Some(limit) => lower(&mut self.batch_bytes, limit),
                None => self.few_bytes.on_refused(load.bytes),
            },
        }
    }

    /// Only numbers count here: a server that calls one text too long without saying how much it takes must not make all
    /// others shorter. That text alone is cut further, see [`shorter`].
    fn on_long_input(&mut self, load: Load, limit: Option<usize>, found: Option<f64>) {
        let Some(limit) = limit.filter(|limit| *limit >= LEAST_INPUT) else { return };
        lower(&mut self.input_tokens, limit);
        // Among several texts it is not known which one was too long.
        if let Some(found) = found.filter(|_| load.inputs == 1 && load.tokens >= FEW) {
            self.input_factor = self.input_factor.max((found / load.tokens as f64).clamp(1.0, INPUT_FACTOR));
        }
    }
}

/// To how many estimated tokens a text of `tokens` is cut that a server has refused as too long: always less.
#[must_use]
pub fn shorter(tokens: usize, what: &Oversize) -> usize {
    let told = match (what.unit, what.limit, what.found) {
        (Some(Unit::Tokens) | None, Some(limit), Some(found)) if found > limit => {
            Some((tokens as f64 * limit as f64 / found as f64 * 0.95) as usize)
        }
        _ => None,
    };
    told.unwrap_or(tokens / 2).min(tokens.saturating_sub(1))
}

fn lower(limit: &mut usize, to: usize) {
    *limit = (*limit).min(to.max(1));
}

/// Saturating, and exact for what has no limit.
fn scaled(number: usize, factor: f64) -> usize {
    if number == usize::MAX { number } else { (number as f64 * factor) as usize }
}

#[cfg(test)]
mod tests;
