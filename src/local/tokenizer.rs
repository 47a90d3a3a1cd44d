//! Words to tokens: WordPiece, the longest known piece first, a word without such pieces is unknown as a whole.

use crate::normalize::{MAX_WORD_CHARS, words};
use crate::vocabulary::Vocabulary;

/// The tokens that the reference tokenizer finds in the raw text, whatever surrounds them.
const SPECIAL: [&str; 2] = ["[PAD]", "[UNK]"];

/// Calls `each` with the id of every token of the text; with the unknown token's id where a word is not known.
pub(crate) fn tokens(vocabulary: &Vocabulary, text: &str, each: &mut impl FnMut(u32)) {
    let mut rest = text;
    while let Some((before, special, after)) = next_special(rest) {
        plain(vocabulary, before, each);
        let found = vocabulary.longest_prefix(special.as_bytes(), false);
        each(found.filter(|piece| piece.1 == special.len()).map_or(vocabulary.unknown(), |piece| piece.0));
        rest = after;
    }
    plain(vocabulary, rest, each);
}

fn next_special(text: &str) -> Option<(&str, &str, &str)> {
    text.match_indices('[').find_map(|(at, _)| {
        let (before, rest) = text.split_at_checked(at)?;
        let special = SPECIAL.into_iter().find(|special| rest.starts_with(special))?;
        Some((before, special, rest.strip_prefix(special)?))
    })
}

fn plain(vocabulary: &Vocabulary, text: &str, each: &mut impl FnMut(u32)) {
    words(text, &mut |word| match word {
        Some(word) => pieces(vocabulary, word, each),
        None => each(vocabulary.unknown()),
    });
}

/// The pieces of one word. Nothing of a word is known unless all of it is, so the pieces wait until its end.
fn pieces(vocabulary: &Vocabulary, word: &[u8], each: &mut impl FnMut(u32)) {
    let mut found = [0; MAX_WORD_CHARS];
    let mut count = 0;
    let mut rest = word;
    while !rest.is_empty() {
        let piece = vocabulary.longest_prefix(rest, count > 0);
        let (Some((id, length)), Some(place)) = (piece, found.get_mut(count)) else {
            return each(vocabulary.unknown());
        };
        *place = id;
        count += 1;
        rest = rest.get(length..).unwrap_or_default();
    }
    found.iter().take(count).for_each(|&id| each(id));
}
