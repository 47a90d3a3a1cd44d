//! What calling models has cost: counted per model and day, and added up.

use serde::{Deserialize, Serialize};

use crate::error::Failure;

/// Sums of calls.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Requests sent, failed ones too.
    #[serde(rename = "r")]
    pub requests: u64,
    /// Texts sent.
    #[serde(rename = "i")]
    pub inputs: u64,
    /// Tokens, as the server counted; estimated where it does not say.
    #[serde(rename = "t")]
    pub tokens: u64,
    /// US dollars.
    #[serde(rename = "c")]
    pub cost: f64,
    /// Requests that failed.
    #[serde(rename = "e")]
    pub errors: u64,
    /// Texts whose vector was remembered, so that they were not sent.
    #[serde(rename = "h")]
    pub cache_hits: u64,
}

impl Usage {
    /// Adds another sum.
    pub fn add(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.inputs = self.inputs.saturating_add(other.inputs);
        self.tokens = self.tokens.saturating_add(other.tokens);
        self.errors = self.errors.saturating_add(other.errors);
        self.cache_hits = self.cache_hits.saturating_add(other.cache_hits);
        self.cost += other.cost;
    }
}

/// What `tokens` tokens cost at a price per million.
#[must_use]
pub fn cost(tokens: u64, price_per_million: Option<f64>) -> f64 {
    price_per_million.map_or(0.0, |price| tokens as f64 * price / 1e6)
}

/// Whether the server may have counted the tokens of a request that failed, with this status (`None`: without an answer): it broke
/// off, or was answered with what cannot be used.
#[must_use]
pub fn may_have_cost(failure: &Failure, status: Option<u16>) -> bool {
    match status {
        Some(status) => (200..300).contains(&status),
        None => ["timeout", "protocol"].contains(&failure.code.as_str()),
    }
}

/// One entry of a file that several processes append to: a line of JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The model's name.
    #[serde(rename = "m")]
    pub model: String,
    /// The day, counted from 1970-01-01 in UTC.
    #[serde(rename = "d")]
    pub day: i32,
    /// What was used.
    #[serde(flatten)]
    pub usage: Usage,
}

impl Entry {
    /// A cut line may still be JSON; no day has figures such as these.
    fn is_sane(&self) -> bool {
        let Usage { requests, inputs, tokens, errors, cache_hits, cost } = self.usage;
        (0.0..1e9).contains(&cost) && [requests, inputs, tokens, errors, cache_hits].iter().all(|n| *n < 1 << 50)
    }

    /// The entry as a line, with its end.
    #[must_use]
    pub fn to_line(&self) -> String {
        // Numbers and one string always can be written.
        serde_json::to_string(self).map(|line| line + "\n").unwrap_or_default()
    }
}

/// The sums of the entries in a file, one a model and day, in the order of their first. What is no entry, such as a line that a
/// crash has cut, is passed over.
#[must_use]
pub fn sum_up(text: &str) -> Vec<Entry> {
    let mut sums: Vec<Entry> = Vec::new();
    for entry in text.lines().filter_map(|line| serde_json::from_str::<Entry>(line).ok()) {
        if !entry.is_sane() {
            continue;
        }
        match sums.iter_mut().find(|sum| sum.day == entry.day && sum.model == entry.model) {
            Some(sum) => sum.usage.add(&entry.usage),
            None => sums.push(entry),
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(model: &str, day: i32, tokens: u64) -> Entry {
        let usage = Usage { requests: 1, inputs: 2, tokens, cost: cost(tokens, Some(0.5)), errors: 0, cache_hits: 3 };
        Entry { model: model.to_owned(), day, usage }
    }

    #[test]
    fn lines_come_back_added_up() {
        let text: String = [entry("a\n\"", 1, 10), entry("b", 1, 20), entry("a\n\"", 1, 30), entry("b", 2, 40)]
            .iter()
            .map(Entry::to_line)
            .collect();
        assert_eq!(text.lines().count(), 4);
        let sums = sum_up(&format!("{text}{{\"m\":\"b\",\"d\":1,\"t\":5"));
        let short: Vec<(&str, i32, u64, u64)> =
            sums.iter().map(|e| (e.model.as_str(), e.day, e.usage.tokens, e.usage.requests)).collect();
        assert_eq!(short, [("a\n\"", 1, 40, 2), ("b", 1, 20, 1), ("b", 2, 40, 1)]);
        assert!((sums[0].usage.cost - 2e-5).abs() < 1e-12);
    }

    #[test]
    fn what_is_no_entry_counts_for_nothing() {
        assert_eq!(
            sum_up(
                "\n{}\nnull\n[1]\n{\"m\":1,\"d\":1}\n{\"m\":\"a\",\"d\":1,\"c\":-1}\n{\"m\":\"a\",\"d\":1,\"t\":-1}"
            ),
            []
        );
        assert_eq!(sum_up("{\"m\":\"a\",\"d\":1}").len(), 1);
    }

    #[test]
    fn price() {
        assert!((cost(1_000_000, Some(0.02)) - 0.02).abs() < 1e-12);
        assert_eq!(cost(5, None), 0.0);
    }
}
