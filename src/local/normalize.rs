//! Text to words, as BERT's uncased tokenizers do it: control characters out, accents off, lower case, one word a run of
//! letters, each punctuation mark and each Chinese character a word of its own.

use unicode_categories::UnicodeCategories;
use unicode_normalization::UnicodeNormalization;

/// WordPiece gives up on words of more characters than this (`max_input_chars_per_word` of the tokenizer's file).
pub(crate) const MAX_WORD_CHARS: usize = 100;

/// A word being gathered, without allocation: what is longer than [`MAX_WORD_CHARS`] is counted and not stored.
struct Word {
    bytes: [u8; MAX_WORD_CHARS * 4],
    length: usize,
    chars: usize,
}

impl Word {
    fn push(&mut self, character: char) {
        self.chars += 1;
        if self.chars <= MAX_WORD_CHARS
            && let Some(space) = self.bytes.get_mut(self.length..)
        {
            self.length += character.encode_utf8(space).len();
        }
    }

    /// Hands the word over, `None` if it is too long, and starts the next one.
    fn end(&mut self, each: &mut impl FnMut(Option<&[u8]>)) {
        if self.chars > 0 {
            each((self.chars <= MAX_WORD_CHARS).then(|| self.bytes.get(..self.length)).flatten());
            self.length = 0;
            self.chars = 0;
        }
    }

    /// One character of the normalised text.
    fn take(&mut self, character: char, each: &mut impl FnMut(Option<&[u8]>)) {
        if character.is_whitespace() {
            self.end(each);
        } else if character.is_ascii_punctuation() || character.is_punctuation() || is_chinese(character) {
            self.end(each);
            self.push(character);
            self.end(each);
        } else {
            self.push(character);
        }
    }
}

/// What an ASCII byte does to a word.
#[derive(Clone, Copy, PartialEq)]
enum Ascii {
    Letter,
    Space,
    Punctuation,
    Dropped,
}

const ASCII: [Ascii; 128] = {
    let mut table = [Ascii::Letter; 128];
    let mut byte = 0u8;
    while byte < 128 {
        table[byte as usize] = if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
            Ascii::Space
        } else if byte.is_ascii_control() {
            Ascii::Dropped
        } else if byte.is_ascii_punctuation() {
            Ascii::Punctuation
        } else {
            Ascii::Letter
        };
        byte += 1;
    }
    table
};

/// Calls `each` with every word of the text in order (UTF-8, lower-case, no accents), or with `None` for a word that is too long.
pub(crate) fn words(text: &str, each: &mut impl FnMut(Option<&[u8]>)) {
    let mut word = Word { bytes: [0; MAX_WORD_CHARS * 4], length: 0, chars: 0 };
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match ASCII.get(usize::from(byte)) {
            Some(Ascii::Letter) => word.push(char::from(byte.to_ascii_lowercase())),
            Some(Ascii::Space) => word.end(each),
            Some(Ascii::Punctuation) => {
                word.end(each);
                each(Some(&[byte]));
            }
            Some(Ascii::Dropped) => {}
            None => {
                // ASCII neither decomposes nor moves when marks are put in order, so a run without it stands alone.
                let rest = text.get(at..).unwrap_or_default();
                let run = rest.bytes().position(|byte| byte.is_ascii()).unwrap_or(rest.len());
                foreign(rest.get(..run).unwrap_or_default(), &mut word, each);
                at += run;
                continue;
            }
        }
        at += 1;
    }
    word.end(each);
}

/// A run of characters beyond ASCII.
fn foreign(run: &str, word: &mut Word, each: &mut impl FnMut(Option<&[u8]>)) {
    let cleaned = run.chars().filter(|&character| character != '\u{fffd}' && !character.is_other());
    // Marks that are put in order never cross an ideograph, so looking for ideographs after it finds the same words.
    for character in cleaned.nfd().filter(|character| !character.is_mark_nonspacing()) {
        for lower in character.to_lowercase() {
            word.take(lower, each);
        }
    }
}

/// CJK ideographs, in the ranges of BERT's tokenizers (Hangul and kana are not among them).
fn is_chinese(character: char) -> bool {
    matches!(
        u32::from(character),
        0x4E00..=0x9FFF
            | 0x3400..=0x4DBF
            | 0x20000..=0x2A6DF
            | 0x2A700..=0x2B73F
            | 0x2B740..=0x2B81F
            | 0x2B920..=0x2CEAF
            | 0xF900..=0xFAFF
            | 0x2F800..=0x2FA1F
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn split(text: &str) -> Vec<String> {
        let mut found = Vec::new();
        words(text, &mut |word| {
            found.push(word.map_or("<too long>".to_owned(), |w| String::from_utf8(w.to_vec()).unwrap()));
        });
        found
    }

    #[test]
    fn splits_as_bert_does() {
        let cases: [(&str, &[&str]); 12] = [
            ("Hello,  World!", &["hello", ",", "world", "!"]),
            ("don't re-do", &["don", "'", "t", "re", "-", "do"]),
            ("Ünïcode CAFÉ", &["unicode", "cafe"]),
            ("e\u{301}te\u{301}", &["ete"]),
            ("中文abc字", &["中", "文", "abc", "字"]),
            ("tab\tnew\nline\u{a0}nbsp\u{2003}em", &["tab", "new", "line", "nbsp", "em"]),
            ("zero\u{200b}width nul\0byte \u{fffd}x", &["zerowidth", "nulbyte", "x"]),
            ("“quoted”—dash…", &["“", "quoted", "”", "—", "dash", "…"]),
            ("İstanbul STRASSE straße", &["istanbul", "strasse", "straße"]),
            ("ok😀ok", &["ok😀ok"]),
            ("", &[]),
            (" \t\n", &[]),
        ];
        for (text, expected) in cases {
            assert_eq!(split(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_word_of_a_hundred_characters_is_the_last_that_is_read() {
        assert_eq!(split(&"é".repeat(100)), ["e".repeat(100)]);
        assert_eq!(split(&"ж".repeat(100)), ["ж".repeat(100)]);
        assert_eq!(split(&"😀".repeat(100)), ["😀".repeat(100)]);
        assert_eq!(split(&format!("{} b", "a".repeat(101))), ["<too long>", "b"]);
        assert_eq!(split(&format!("{} b", "😀".repeat(5000))), ["<too long>", "b"]);
    }
}
