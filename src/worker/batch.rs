//! Rows on their way through a request.

use crate::pg::queue::Job;
use autoembed_core::batch::{Size, pack, truncate, unique};
use autoembed_core::{Limits, Vectors};
use std::collections::HashMap;
use std::ops::Range;

/// One row: its jobs, and the text that is embedded for it.
#[derive(Debug, Clone)]
pub struct Item {
    /// Its key as text.
    pub key: String,
    /// Its jobs, oldest first; all of them are done with one vector.
    pub jobs: Vec<Job>,
    /// Its text, cut to what the model takes.
    pub text: String,
    /// sha256 of the whole text.
    pub hash: Vec<u8>,
}

impl Item {
    /// The most tries of any of its jobs.
    pub fn attempts(&self) -> i16 {
        self.jobs.iter().map(|job| job.attempts).max().unwrap_or(0)
    }
}

/// What goes into one request: rows of one vectorizer, equal texts once.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The vectorizer.
    pub vectorizer: i32,
    /// Its rows.
    pub items: Vec<Item>,
    /// The texts to send.
    pub texts: Vec<String>,
    /// For each item, which text is its own.
    pub text_of: Vec<usize>,
}

impl Batch {
    fn new(vectorizer: i32, items: Vec<Item>) -> Batch {
        let (texts, text_of) = {
            let all: Vec<&str> = items.iter().map(|item| item.text.as_str()).collect();
            let unique = unique(&all);
            let texts = unique.firsts.iter().map(|i| all[*i].to_string()).collect();
            (texts, unique.of)
        };
        Batch { vectorizer, items, texts, text_of }
    }

    /// All jobs of all its rows.
    pub fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.items.iter().flat_map(|item| item.jobs.iter())
    }

    /// Its halves by texts; `None` where one text stands alone.
    pub fn bisect(self) -> Result<(Batch, Batch), Box<Batch>> {
        let middle = self.texts.len() / 2;
        if middle == 0 {
            return Err(Box::new(self));
        }
        let (mut left, mut right) = (Vec::new(), Vec::new());
        for (item, text) in self.items.into_iter().zip(&self.text_of) {
            if *text < middle { left.push(item) } else { right.push(item) }
        }
        Ok((Batch::new(self.vectorizer, left), Batch::new(self.vectorizer, right)))
    }

    /// The vector of item `index`.
    pub fn vector<'v>(&self, index: usize, vectors: &'v Vectors) -> Option<&'v [f32]> {
        let text = *self.text_of.get(index)?;
        let start = text.checked_mul(vectors.dimensions)?;
        vectors.data.get(start..start + vectors.dimensions)
    }
}

/// Items that were kept, and those that came after them: of a row that is in both, the newer text, with the jobs of both.
pub fn merge(kept: Vec<Item>, new: Vec<Item>) -> Vec<Item> {
    if kept.is_empty() {
        return new;
    }
    let mut place: HashMap<String, usize> = kept.iter().enumerate().map(|(i, item)| (item.key.clone(), i)).collect();
    let mut all = kept;
    for item in new {
        match place.get(&item.key) {
            Some(i) => {
                let old = &mut all[*i];
                old.text = item.text;
                old.hash = item.hash;
                old.jobs.extend(item.jobs);
            }
            None => {
                place.insert(item.key.clone(), all.len());
                all.push(item);
            }
        }
    }
    all
}

/// Cuts texts that are longer than the model takes; true where it was cut.
pub fn cut(text: String, limits: &Limits) -> (String, bool) {
    let cut = truncate(&text, limits.input_tokens);
    if cut.len() == text.len() { (text, false) } else { (cut.to_string(), true) }
}

/// Packs items into requests, each as full as the limits allow. `max_inputs` can lower the inputs of a request. With `keep_last`,
/// items that do not fill a request are given back, to be sent with those that come next.
pub fn pack_items(
    vectorizer: i32,
    items: Vec<Item>,
    limits: &Limits,
    max_inputs: Option<usize>,
    keep_last: bool,
) -> (Vec<Batch>, Vec<Item>) {
    let mut limits = *limits;
    limits.batch_inputs = max_inputs.unwrap_or(usize::MAX).min(limits.batch_inputs).max(1);
    // Items with equal texts are kept together, so that the text costs one input.
    let texts: Vec<&str> = items.iter().map(|item| item.text.as_str()).collect();
    let unique = unique(&texts);
    let sizes: Vec<Size> = unique.firsts.iter().map(|i| Size::of(texts[*i])).collect();
    let mut ranges: Vec<Range<usize>> = pack(&sizes, &limits);
    let mut rest = Vec::new();
    let is_full = ranges.last().is_none_or(|r| r.len() >= limits.batch_inputs);
    let kept = if keep_last && !is_full { ranges.pop() } else { None };
    let mut groups: Vec<Vec<Item>> = ranges.iter().map(|_| Vec::new()).collect();
    let of = unique.of;
    for (item, text) in items.into_iter().zip(of) {
        match ranges.iter().position(|range| range.contains(&text)) {
            Some(group) => groups[group].push(item),
            None => rest.push(item),
        }
    }
    debug_assert!(kept.is_some() || rest.is_empty());
    (groups.into_iter().filter(|g| !g.is_empty()).map(|g| Batch::new(vectorizer, g)).collect(), rest)
}
