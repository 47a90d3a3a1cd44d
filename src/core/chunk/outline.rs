//! The lines of a text that begin something, as far as Markdown and plain texts show it.

use std::ops::Range;

/// What begins at a line, the weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// A line, where it is not just the rest of a sentence.
    Line,
    /// A part of a block of code, after an empty line.
    Part,
    /// A paragraph.
    Paragraph,
    /// A heading of any level; see [`Begins::level`].
    Heading,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Begins {
    at: usize,
    rank: Rank,
    /// Of a heading: more for a higher one.
    level: u8,
}

/// The places of a text where a line begins, but for the one after a heading, which stays with its text.
pub(super) struct Outline(Vec<Begins>);

impl Outline {
    pub(super) fn of(text: &str) -> Outline {
        let mut begins = Vec::new();
        let (mut at, mut after_blank, mut after_heading) = (0, false, false);
        let mut ends_something = true;
        let mut fence: Option<&str> = None;
        for line in text.split_inclusive('\n') {
            let start = at + (line.len() - line.trim_start().len());
            at += line.len();
            let words = line.trim();
            if words.is_empty() {
                after_blank = true;
                continue;
            }
            let level = if fence.is_none() { heading(line) } else { 0 };
            let rank = match (level, fence) {
                (1.., _) => Rank::Heading,
                (_, Some(_)) if after_blank => Rank::Part,
                (_, None) if after_blank => Rank::Paragraph,
                _ => Rank::Line,
            };
            let is_place = super::is_whole(text, start)
                && (rank > Rank::Line || ends_something || fence.is_some() || begins_something(words));
            if start > 0 && (rank == Rank::Heading || !after_heading && is_place) {
                begins.push(Begins { at: start, rank, level });
            }
            fence = match fence {
                None => opens(words),
                Some(mark) if words.starts_with(mark) && words.trim_start_matches(&mark[..1]).is_empty() => None,
                open => open,
            };
            (after_blank, after_heading) = (false, rank == Rank::Heading);
            ends_something = !words.ends_with(|c: char| c.is_alphanumeric() || matches!(c, ',' | '-'));
        }
        Outline(begins)
    }

    /// The last of the strongest places in `within` that are not weaker than `least`.
    pub(super) fn strongest(&self, within: Range<usize>, least: Rank) -> Option<usize> {
        let from = self.0.partition_point(|begins| begins.at < within.start);
        let inside = self.0[from..].iter().take_while(|begins| begins.at < within.end);
        let strongest = inside.filter(|begins| begins.rank >= least).max_by_key(|begins| (begins.rank, begins.level));
        strongest.map(|begins| begins.at)
    }
}

/// 6 for `# `, 1 for `###### `, 0 where it is no heading.
fn heading(line: &str) -> u8 {
    let words = line.trim_start_matches(' ');
    let rest = words.trim_start_matches('#');
    let marks = words.len() - rest.len();
    let is_heading = line.len() - words.len() < 4 && (1..=6).contains(&marks) && rest.starts_with([' ', '\t']);
    if is_heading { 7 - marks as u8 } else { 0 }
}

/// The mark of a block of code that begins with this line.
fn opens(words: &str) -> Option<&'static str> {
    ["```", "~~~"].into_iter().find(|mark| words.starts_with(mark))
}

/// Whether a line is an item of a list, a row of a table, or a quotation.
fn begins_something(words: &str) -> bool {
    let after_number = words.trim_start_matches(|c: char| c.is_ascii_digit());
    words.starts_with(['|', '>'])
        || ["- ", "* ", "+ ", "• "].iter().any(|mark| words.starts_with(mark))
        || after_number.len() < words.len() && (after_number.starts_with(". ") || after_number.starts_with(") "))
}
