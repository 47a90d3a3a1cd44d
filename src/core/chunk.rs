//! Long texts in pieces: where a text is cut, and what an edit leaves of the pieces that there were.
//!
//! A text is cut at the strongest of the places that come into question: before a heading of Markdown, a paragraph, a line, a sentence, a
//! word, a grapheme. Each place is judged by the text around it alone, so an edit moves the cuts near it and no others: what
//! comes after is cut as it was, and its vectors stay.

use crate::batch::{estimate_tokens, truncate};
use std::collections::HashMap;
use std::ops::Range;
use unicode_segmentation::{GraphemeCursor, UnicodeSegmentation};

mod outline;

use outline::{Outline, Rank};

/// The least size of a piece: every character and some of its neighbours fit.
pub const LEAST_SIZE: usize = 16;
/// How much of what would fit a piece has at least when it is cut before a heading, and at any other place.
const LEAST_BEFORE_HEADING: f64 = 0.25;
const LEAST: f64 = 0.5;
/// How far a cut before a sentence or a word is judged by the text around it, in bytes.
const AROUND: usize = 24;
/// Bytes that are looked at beyond a piece, so that its end is not taken for the end of a sentence.
const BEYOND: usize = 64;
/// Bytes that a token can stand for, at the most: of blanks.
const BYTES_PER_TOKEN: usize = 9;

/// How a text is cut, in tokens as [`estimate_tokens`] counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Most tokens of a piece; at least [`LEAST_SIZE`].
    pub size: usize,
    /// Most tokens that a piece repeats of the text before it; at most half the size.
    pub overlap: usize,
}

/// The pieces of a text: ranges of its bytes, in order, without white space at their ends. All that is not white space is in
/// one of them. A text without anything else has none.
///
/// No piece has more tokens than asked for. Where a grapheme alone has more, it is cut between its characters; nothing else is.
#[must_use]
pub fn pieces(text: &str, sizes: Sizes) -> Vec<Range<usize>> {
    let sizes = Sizes { size: sizes.size.max(LEAST_SIZE), overlap: sizes.overlap.min(sizes.size.max(LEAST_SIZE) / 2) };
    let outline = Outline::of(text);
    let mut pieces = Vec::new();
    let (mut before, mut at) = (0, skip_blanks(text, 0));
    while at < text.len() {
        let from = if pieces.is_empty() { at } else { repeated_from(text, before, at, sizes.overlap) };
        let room = sizes.size - estimate_tokens(&text[from..at]);
        let end = at + end_within(text, &outline, at, room);
        pieces.push(shrunk(text, from, at, end, sizes.size)..at + text[at..end].trim_end().len());
        (before, at) = (at, skip_blanks(text, end));
    }
    pieces
}

fn skip_blanks(text: &str, at: usize) -> usize {
    let after = text.len() - text[at..].trim_start().len();
    // A mark may stand on the last blank.
    if after == at || is_whole(text, after) { after } else { floor(text, after - 1) }
}

/// Whether no grapheme goes on at that place.
fn is_whole(text: &str, at: usize) -> bool {
    GraphemeCursor::new(at, text.len(), true).is_boundary(text, 0).unwrap_or(true)
}

/// Where a piece that begins at `from` begins so that all of it fits: seldom is the whole more than its parts.
fn shrunk(text: &str, mut from: usize, at: usize, end: usize, size: usize) -> usize {
    while from < at && estimate_tokens(text[from..end].trim_end()) > size {
        from = next_word(text, from, at);
    }
    from
}

fn next_word(text: &str, from: usize, at: usize) -> usize {
    let word = text[from..at].find(char::is_whitespace).map_or(at, |blank| from + blank);
    skip_blanks(&text[..at], word)
}

/// How many bytes of `text[at..]` go into a piece with room for so many tokens.
fn end_within(text: &str, outline: &Outline, at: usize, room: usize) -> usize {
    let rest = &text[at..];
    let first = rest.chars().next().map_or(0, char::len_utf8);
    let most = truncate(rest, room).len().max(first);
    // White space at the end is not part of it.
    if rest[most..].trim_start().is_empty() {
        return rest.len();
    }
    let least = |part: f64| (most as f64 * part) as usize + 1;
    outline
        .strongest(at + least(LEAST_BEFORE_HEADING)..at + most + 1, Rank::Heading)
        .or_else(|| outline.strongest(at + least(LEAST)..at + most + 1, Rank::Line))
        .map(|place| place - at)
        .or_else(|| in_sentences(rest, least(LEAST), most))
        .or_else(|| last_word(rest, least(LEAST), most))
        .or_else(|| last_grapheme(rest, most))
        .unwrap_or(most)
}

fn floor(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn ceil(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at += 1;
    }
    at
}

/// As much of the text as ends a little after `most` bytes.
fn a_little_more(text: &str, most: usize) -> &str {
    &text[..ceil(text, most + BEYOND)]
}

/// The end of a sentence from `least` to `most`.
fn in_sentences(text: &str, least: usize, most: usize) -> Option<usize> {
    let sentences = a_little_more(text, most).split_sentence_bound_indices().map(|(start, _)| start);
    sentences
        .filter(|start| (least..=most).contains(start) && is_whole(text, *start))
        .max_by_key(|start| chance(text, *start))
}

/// The end of the last word, of one with white space after it where there is one.
fn last_word(text: &str, least: usize, most: usize) -> Option<usize> {
    let is_after_blank = |start: usize| text[..start].ends_with(char::is_whitespace);
    let words = a_little_more(text, most).split_word_bound_indices().map(|(start, _)| start);
    let words: Vec<usize> = words.filter(|start| (least..=most).contains(start) && is_whole(text, *start)).collect();
    let after_blanks = words.iter().copied().filter(|start| is_after_blank(*start));
    after_blanks.max_by_key(|start| chance(text, *start)).or_else(|| words.last().copied())
}

fn last_grapheme(text: &str, most: usize) -> Option<usize> {
    let graphemes = a_little_more(text, most).grapheme_indices(true).map(|(start, _)| start);
    graphemes.take_while(|start| *start <= most).filter(|start| *start > 0).last()
}

/// A number that the text around a place gives it. Of places that are equally good the one with the highest is taken, whichever piece
/// comes to it: so two ways to cut that have begun at different places are soon the same.
fn chance(text: &str, place: usize) -> u64 {
    let from = floor(text, place.saturating_sub(AROUND));
    let to = ceil(text, place + AROUND);
    let sum = text[from..to]
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    // The low bits of the sum are the better ones.
    sum.rotate_left(32)
}

/// From where the text before `at` is repeated: as many whole words as fit, or graphemes where there is no white space; not the whole of what
/// the piece before has for itself, which begins at `own`.
fn repeated_from(text: &str, own: usize, at: usize, overlap: usize) -> usize {
    if overlap == 0 {
        return at;
    }
    let first = floor(text, at.saturating_sub(overlap.saturating_mul(BYTES_PER_TOKEN)).max(own));
    let before = &text[first..at];
    let (mut from, mut tokens) = (at, 0);
    // Between white space and what follows the estimate begins anew, so its parts can be added.
    let mut counted = at;
    for (start, _) in before
        .char_indices()
        .rev()
        .filter(|(start, c)| !c.is_whitespace() && before[..*start].ends_with(char::is_whitespace))
    {
        tokens += estimate_tokens(&text[first + start..counted]);
        counted = first + start;
        if tokens > overlap {
            break;
        }
        if is_whole(text, first + start) {
            from = first + start;
        }
    }
    if from < at || before.ends_with(char::is_whitespace) {
        return from;
    }
    // Without white space, as in Chinese.
    let before = before.rsplit(char::is_whitespace).next().unwrap_or_default();
    let first = at - before.len();
    let mut graphemes = before.grapheme_indices(true).map(|(start, _)| first + start).skip(1);
    graphemes.find(|start| estimate_tokens(&text[*start..at]) <= overlap).unwrap_or(at)
}

/// A piece that is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its number.
    pub number: i32,
    /// Where it was in the text.
    pub range: Range<usize>,
    /// sha256 of its text.
    pub hash: Vec<u8>,
}

/// A piece that is to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct New<'a> {
    /// Where it is in the text.
    pub range: &'a Range<usize>,
    /// sha256 of its text.
    pub hash: &'a [u8],
    /// Its vector is at hand; otherwise it is that of a stored piece with the same text.
    pub has_vector: bool,
}

/// What makes stored pieces the new ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Numbers of stored pieces that go.
    pub gone: Vec<i32>,
    /// Places of new pieces that are stored under the same number, and were at another place of the text.
    pub shifted: Vec<usize>,
    /// Places of new pieces that are to be stored, each with the number of the stored piece whose vector it has.
    pub added: Vec<(usize, Option<i32>)>,
}

/// What has to be done so that `new` is what is stored, each piece under its place as number. `None`: a vector that was to be taken over is
/// not there any more.
#[must_use]
pub fn changes(stored: &[Stored], new: &[New<'_>]) -> Option<Changes> {
    let by_number: HashMap<i32, &Stored> = stored.iter().map(|piece| (piece.number, piece)).collect();
    let by_text: HashMap<&[u8], i32> = stored.iter().rev().map(|piece| (piece.hash.as_slice(), piece.number)).collect();
    let mut changes = Changes::default();
    let mut stays = Vec::new();
    for (place, piece) in new.iter().enumerate() {
        let number = i32::try_from(place).ok()?;
        match by_number.get(&number).filter(|there| there.hash == piece.hash && !piece.has_vector) {
            Some(there) => {
                stays.push(number);
                if there.range != *piece.range {
                    changes.shifted.push(place);
                }
            }
            None if piece.has_vector => changes.added.push((place, None)),
            None => changes.added.push((place, Some(*by_text.get(piece.hash)?))),
        }
    }
    changes.gone =
        stored.iter().map(|piece| piece.number).filter(|number| stays.binary_search(number).is_err()).collect();
    Some(changes)
}

#[cfg(test)]
mod tests;
