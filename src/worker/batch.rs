//! Rows on their way through a request.

use crate::pg::cache;
use crate::pg::queue::Job;
use crate::worker::pieces::Part;
use autoembed_core::batch::{Size, estimate_tokens, pack, truncate, unique};
use autoembed_core::learned::Load;
use autoembed_core::{Limits, Vectors};
use pgrx::datum::TimestampWithTimeZone;
use std::collections::HashMap;
use std::ops::Range;

/// A text that a server has refused as too long is cut so often before it is given up.
const MOST_CUTS: u8 = 4;

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
    /// Tokens of its text and of what the model wants before it, as estimated.
    pub tokens: usize,
    /// What the model wants before it.
    prefix: Size,
    /// Its text was cut.
    pub is_cut: bool,
    /// How often it was cut because the server had refused it.
    cuts: u8,
    /// It was refused alone, and nothing was known to work then.
    is_suspected: bool,
    /// What its vector is remembered by; `None`: it is not to be remembered.
    pub memory: Option<cache::Key>,
    /// It is a piece of a row, with the row's jobs and hash.
    pub part: Option<Part>,
}

impl Item {
    /// A row with its text (empty: it is not sent), the hash of the whole of it, and what the model wants before it.
    pub fn new(jobs: Vec<Job>, text: String, hash: Vec<u8>, prefix: Size) -> Item {
        let key = jobs.first().map(|job| job.key.clone()).unwrap_or_default();
        let tokens = estimate_tokens(&text) + prefix.tokens;
        Item {
            key,
            jobs,
            text,
            hash,
            tokens,
            prefix,
            is_cut: false,
            cuts: 0,
            is_suspected: false,
            memory: None,
            part: None,
        }
    }

    /// A row that has no text to be sent.
    pub fn without_text(jobs: Vec<Job>) -> Item {
        Item::new(jobs, String::new(), Vec::new(), Size { tokens: 0, bytes: 0 })
    }

    /// The same, with the hash of the text that it has.
    pub fn with_hash(jobs: Vec<Job>, hash: Vec<u8>) -> Item {
        Item { hash, ..Item::without_text(jobs) }
    }

    /// The row that it stands for, or is a piece of.
    pub fn row(&self) -> &Item {
        self.part.as_ref().map_or(self, |part| part.of.row())
    }

    /// Its jobs have gone back, or have ended: of a piece, the others of its row are of no use any more.
    pub fn end(&self) {
        if let Some(part) = &self.part {
            part.of.end();
        }
    }

    /// Whether that has happened through another piece.
    pub fn is_over(&self) -> bool {
        self.part.as_ref().is_some_and(Part::is_over)
    }

    /// When the first of its jobs was queued, in the server's microseconds.
    pub fn queued_at(&self) -> Option<i64> {
        self.jobs.iter().filter_map(|job| job.queued_at).map(TimestampWithTimeZone::into_inner).min()
    }

    /// The most tries of any of its jobs.
    pub fn attempts(&self) -> i16 {
        self.jobs.iter().map(|job| job.attempts).max().unwrap_or(0)
    }

    /// Whether vectors that are there, and those remembered, do not count.
    pub fn is_forced(&self) -> bool {
        self.jobs.iter().any(|job| job.is_forced)
    }

    /// Cuts the text to so many tokens where it has more; whether it had. What was remembered of it counts no more.
    pub fn cut(&mut self, most: usize) -> bool {
        let length = self.length_within(most);
        if length == self.text.len() {
            return false;
        }
        self.text.truncate(length);
        self.text.shrink_to_fit();
        self.tokens = estimate_tokens(&self.text) + self.prefix.tokens;
        self.is_cut = true;
        self.memory = None;
        true
    }

    /// How much of the text has so many tokens, with what comes before it.
    fn length_within(&self, most: usize) -> usize {
        truncate(&self.text, most.saturating_sub(self.prefix.tokens).max(1)).len()
    }

    /// About how many bytes it takes in memory.
    pub fn weight(&self) -> usize {
        let jobs: usize = self.jobs.iter().map(|job| size_of::<Job>() + job.key.capacity()).sum();
        size_of::<Item>() + self.key.capacity() + self.text.capacity() + self.hash.capacity() + jobs
    }

    fn size(&self) -> Size {
        Size { tokens: self.tokens, bytes: self.text.len() + self.prefix.bytes }
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
    /// Its size.
    pub load: Load,
}

impl Batch {
    /// All of `items` in one request.
    pub fn new(vectorizer: i32, items: Vec<Item>) -> Batch {
        let all: Vec<&str> = items.iter().map(|item| item.text.as_str()).collect();
        let unique = unique(&all);
        let texts = unique.firsts.iter().map(|i| all[*i].to_string()).collect();
        let load = unique.firsts.iter().map(|i| items[*i].size()).fold(Load::default(), |sum, one| Load {
            inputs: sum.inputs + 1,
            tokens: sum.tokens.saturating_add(one.tokens),
            bytes: sum.bytes + one.bytes,
        });
        Batch { vectorizer, items, texts, text_of: unique.of, load }
    }

    /// Whether it has pieces that no row waits for any more.
    pub fn has_ended(&self) -> bool {
        self.items.iter().any(Item::is_over)
    }

    /// Notes that it was refused while nothing was known to work.
    pub fn suspect(&mut self) {
        self.items.iter_mut().for_each(|item| item.is_suspected = true);
    }

    /// Whether all of it was.
    pub fn is_suspected(&self) -> bool {
        self.items.iter().all(|item| item.is_suspected)
    }

    /// Whether one request may hold it; a single text always has one.
    pub fn fits(&self, limits: &Limits) -> bool {
        let Load { inputs, tokens, bytes } = self.load;
        inputs <= 1 || (inputs <= limits.batch_inputs && tokens <= limits.batch_tokens && bytes <= limits.batch_bytes)
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

    /// The batch with each text cut to so many tokens; the batch as it was where none is longer, or one was cut too often.
    pub fn shorten(mut self, most: usize) -> Result<Batch, Box<Batch>> {
        let too_long = |item: &Item| item.length_within(most) < item.text.len();
        let is_in_vain =
            |item: &Item| item.cuts >= MOST_CUTS || item.text[..item.length_within(most)].trim().is_empty();
        if most == 0
            || !self.items.iter().any(too_long)
            || self.items.iter().any(|item| too_long(item) && is_in_vain(item))
        {
            return Err(Box::new(self));
        }
        for item in &mut self.items {
            if item.cut(most) {
                item.cuts += 1;
            }
        }
        Ok(Batch::new(self.vectorizer, self.items))
    }

    /// The vector of item `index`.
    pub fn vector<'v>(&self, index: usize, vectors: &'v Vectors) -> Option<&'v [f32]> {
        let row = vectors.row(*self.text_of.get(index)?);
        (!row.is_empty()).then_some(row)
    }
}

/// Items that were kept, and those that came after them: of a row that is in both, the newer text, with the jobs of both.
pub fn merge(kept: Vec<Item>, new: Vec<Item>) -> Vec<Item> {
    if kept.is_empty() {
        return new;
    }
    let mut place: HashMap<String, usize> = kept.iter().enumerate().map(|(i, item)| (item.key.clone(), i)).collect();
    let mut all = kept;
    for mut item in new {
        match place.get(&item.key) {
            Some(i) => {
                let mut jobs = std::mem::take(&mut all[*i].jobs);
                jobs.append(&mut item.jobs);
                all[*i] = Item { jobs, ..item };
                if all[*i].is_forced() {
                    all[*i].memory = None;
                }
            }
            None => {
                place.insert(item.key.clone(), all.len());
                all.push(item);
            }
        }
    }
    all
}

/// Packs items into requests, each as full as the limits allow. With `keep_last`, items that do not fill a request are given
/// back, to be sent with those that come next.
pub fn pack_items(vectorizer: i32, items: Vec<Item>, limits: &Limits, keep_last: bool) -> (Vec<Batch>, Vec<Item>) {
    // Items with equal texts are kept together, so that the text costs one input.
    let texts: Vec<&str> = items.iter().map(|item| item.text.as_str()).collect();
    let unique = unique(&texts);
    let sizes: Vec<Size> = unique.firsts.iter().map(|i| items[*i].size()).collect();
    let mut ranges: Vec<Range<usize>> = pack(&sizes, limits);
    let is_full = ranges.last().is_none_or(|r| r.len() >= limits.batch_inputs);
    if keep_last && !is_full {
        ranges.pop();
    }
    let mut rest = Vec::new();
    let mut groups: Vec<Vec<Item>> = ranges.iter().map(|_| Vec::new()).collect();
    for (item, text) in items.into_iter().zip(unique.of) {
        match ranges.partition_point(|range| range.end <= text) {
            group if group < groups.len() => groups[group].push(item),
            _ => rest.push(item),
        }
    }
    (groups.into_iter().filter(|g| !g.is_empty()).map(|g| Batch::new(vectorizer, g)).collect(), rest)
}
