//! What goes into one request.

use std::collections::HashMap;
use std::ops::Range;

use crate::model::Limits;

mod tokens;

pub use tokens::{estimate_tokens, truncate};

/// What one input weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// See [`estimate_tokens`].
    pub tokens: usize,
    /// Of its UTF-8.
    pub bytes: usize,
}

impl Size {
    /// The size of a text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        Self { tokens: estimate_tokens(text), bytes: text.len() }
    }
}

/// Cuts a row of inputs into requests: each takes as many as the limits allow, in their order.
///
/// The ranges cover `sizes` without gaps. An input that exceeds a limit by itself stands alone.
#[must_use]
pub fn pack(sizes: &[Size], limits: &Limits) -> Vec<Range<usize>> {
    let mut batches = Vec::new();
    let (mut start, mut tokens, mut bytes) = (0, 0usize, 0usize);
    for (i, size) in sizes.iter().enumerate() {
        tokens = tokens.saturating_add(size.tokens);
        bytes = bytes.saturating_add(size.bytes);
        let full = i - start >= limits.batch_inputs || tokens > limits.batch_tokens || bytes > limits.batch_bytes;
        if full && i > start {
            batches.push(start..i);
            (start, tokens, bytes) = (i, size.tokens, size.bytes);
        }
    }
    if start < sizes.len() {
        batches.push(start..sizes.len());
    }
    batches
}

/// The halves of a batch, the first at most one longer; `None` for fewer than two inputs.
#[must_use]
pub fn bisect(batch: &Range<usize>) -> Option<(Range<usize>, Range<usize>)> {
    if batch.len() < 2 {
        return None;
    }
    let middle = batch.start + batch.len().div_ceil(2);
    Some((batch.start..middle, middle..batch.end))
}

/// Which of a list of texts are needed to have them all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unique {
    /// Places of the first of each equal texts, ascending.
    pub firsts: Vec<usize>,
    /// For each text the place in `firsts` of its equal.
    pub of: Vec<usize>,
}

/// Finds equal texts, so that they cost one input.
#[must_use]
pub fn unique(texts: &[&str]) -> Unique {
    let mut seen = HashMap::with_capacity(texts.len());
    let mut firsts = Vec::with_capacity(texts.len());
    let of = texts
        .iter()
        .enumerate()
        .map(|(i, text)| {
            *seen.entry(*text).or_insert_with(|| {
                firsts.push(i);
                firsts.len() - 1
            })
        })
        .collect();
    Unique { firsts, of }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn limits(batch_inputs: usize, batch_tokens: usize, batch_bytes: usize) -> Limits {
        Limits { batch_inputs, batch_tokens, batch_bytes, input_tokens: 8192 }
    }

    fn sizes(tokens: &[usize]) -> Vec<Size> {
        tokens.iter().map(|tokens| Size { tokens: *tokens, bytes: tokens * 4 }).collect()
    }

    #[test]
    fn packs_full() {
        assert_eq!(pack(&[], &limits(2, 10, 100)), []);
        assert_eq!(pack(&sizes(&[1; 5]), &limits(2, 10, 100)), [0..2, 2..4, 4..5]);
        assert_eq!(pack(&sizes(&[5, 5, 5]), &limits(9, 10, 100)), [0..2, 2..3]);
        assert_eq!(pack(&sizes(&[5, 5, 5]), &limits(9, 99, 20)), [0..1, 1..2, 2..3]);
        assert_eq!(pack(&sizes(&[1, 50, 1]), &limits(9, 10, 1000)), [0..1, 1..2, 2..3]);
        assert_eq!(pack(&sizes(&[usize::MAX / 4, usize::MAX / 4, 1]), &limits(9, 10, 10)), [0..1, 1..2, 2..3]);
        assert_eq!(pack(&sizes(&[1, 1]), &limits(0, 0, 0)), [0..1, 1..2]);
        let short = pack(&sizes(&[9; 10_000]), &limits(2048, 300_000, 4 << 20));
        assert_eq!(short.len(), 5);
    }

    #[test]
    fn halves() {
        assert_eq!(bisect(&(3..8)), Some((3..6, 6..8)));
        assert_eq!(bisect(&(3..5)), Some((3..4, 4..5)));
        assert_eq!(bisect(&(3..4)), None);
        assert_eq!(bisect(&(3..3)), None);
    }

    #[test]
    fn equal_texts_cost_one() {
        let unique = unique(&["a", "b", "a", "", "b", ""]);
        assert_eq!(unique.firsts, [0, 1, 3]);
        assert_eq!(unique.of, [0, 1, 0, 2, 1, 2]);
    }

    proptest! {
        #[test]
        fn batches_keep_every_limit_and_none_could_be_longer(
            tokens in proptest::collection::vec(0usize..30, 0..60), inputs in 1usize..9, most in 1usize..60, bytes in 1usize..200,
        ) {
            let (sizes, limits) = (sizes(&tokens), limits(inputs, most, bytes));
            let fits = |range: Range<usize>| {
                let part = &sizes[range];
                part.len() <= inputs
                    && part.iter().map(|s| s.tokens).sum::<usize>() <= most
                    && part.iter().map(|s| s.bytes).sum::<usize>() <= bytes
            };
            let mut next = 0;
            for batch in pack(&sizes, &limits) {
                prop_assert_eq!(batch.start, next);
                prop_assert!(!batch.is_empty() && (batch.len() == 1 || fits(batch.clone())));
                prop_assert!(batch.end == sizes.len() || !fits(batch.start..batch.end + 1));
                next = batch.end;
            }
            prop_assert_eq!(next, sizes.len());
        }

        #[test]
        fn halving_finds_every_set_of_poison_inputs(
            n in 1usize..400, places in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let poison: BTreeSet<usize> = places.iter().map(|place| place.index(n)).collect();
            let (mut waiting, mut requests) = (Vec::from_iter(Some(0..n)), 0);
            let (mut found, mut taken) = (BTreeSet::new(), Vec::new());
            while let Some(batch) = waiting.pop() {
                requests += 1;
                if poison.range(batch.clone()).next().is_none() {
                    taken.extend(batch);
                } else if let Some((left, right)) = bisect(&batch) {
                    waiting.extend([right, left]);
                } else {
                    found.insert(batch.start);
                }
            }
            let halvings = n.next_power_of_two().ilog2() as usize;
            prop_assert!(requests <= 1 + 2 * poison.len() * halvings, "{requests} requests");
            prop_assert_eq!(&found, &poison);
            prop_assert_eq!(taken, (0..n).filter(|i| !poison.contains(i)).collect::<Vec<_>>());
        }

        #[test]
        fn unique_gives_every_text_back(texts in proptest::collection::vec("[ab]{0,2}", 0..30)) {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let unique = unique(&texts);
            let back: Vec<&str> = unique.of.iter().map(|i| texts[unique.firsts[*i]]).collect();
            prop_assert_eq!(back, texts);
            prop_assert!(unique.firsts.is_sorted_by(|a, b| a < b));
        }
    }
}
