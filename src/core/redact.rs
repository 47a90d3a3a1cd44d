//! Finds a secret in what a server says, also where it does not say it letter by letter.
//!
//! Servers repeat keys as they came, in the escapes of JSON, URLs and HTML, in base64 (with what stands before it in its
//! header) or hex, over several lines, and cut off. A server that wants to hide a key from this can: it has the key.

use std::collections::HashSet;

use base64::prelude::*;

use crate::secret::REDACTED;

/// So many characters of a secret in a row are not there by chance.
const RUN: usize = 12;
/// Shorter ones stand in ordinary words: they are looked for as they are.
const SHORT: usize = 8;

/// `text` with everything replaced that holds `secret`, or [`RUN`] characters of it in a row.
pub(crate) fn redact(text: &str, secret: &str) -> String {
    if secret.len() < SHORT {
        return if secret.is_empty() { text.to_owned() } else { text.replace(secret, REDACTED) };
    }
    let units = Unit::all_of(text);
    let letters: Vec<u8> = units.iter().map(|unit| unit.letter).collect();
    let mut is_secret = vec![false; units.len()];
    for form in forms(secret) {
        let run = RUN.min(form.len());
        let runs: HashSet<&[u8]> = form.windows(run).collect();
        for (start, window) in letters.windows(run).enumerate() {
            if runs.contains(window) {
                is_secret[start..start + run].fill(true);
            }
        }
    }
    let (mut shown, mut from, mut at) = (String::with_capacity(text.len()), 0, 0);
    while at < units.len() {
        if !is_secret[at] {
            at += 1;
            continue;
        }
        let start = units[at].start;
        while at + 1 < units.len() && is_secret[at + 1] {
            at += 1;
        }
        // Where the secret is not plain ASCII, a run may begin and end within a character.
        let start = (0..=start).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        shown.push_str(text.get(from..start).unwrap_or_default());
        shown.push_str(REDACTED);
        from = (units[at].end..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
        at += 1;
    }
    shown.push_str(&text[from..]);
    shown
}

/// The letters that a secret may appear as.
fn forms(secret: &str) -> Vec<Vec<u8>> {
    let mut forms = vec![letters_of(secret.as_bytes())];
    // What stands before it shifts it in base64; characters that belong to its neighbours in part are left out.
    for (before, skipped) in [(0, 0), (1, 2), (2, 3)] {
        let bytes = [&[0; 2][..before], secret.as_bytes()].concat();
        let encoded = BASE64_STANDARD_NO_PAD.encode(&bytes);
        let whole = if bytes.len().is_multiple_of(3) { encoded.len() } else { encoded.len() - 1 };
        forms.push(letters_of(encoded.get(skipped..whole).unwrap_or_default().as_bytes()));
    }
    forms.push(secret.bytes().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect());
    forms.retain(|form| form.len() >= SHORT);
    forms
}

fn letters_of(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().filter_map(|byte| letter(*byte)).collect()
}

/// In one case, and in one of base64's two alphabets; `None` for what escapes and line ends put in between.
fn letter(byte: u8) -> Option<u8> {
    match byte {
        b'\\' | b'\x7f' | 0..=b' ' => None,
        b'-' => Some(b'+'),
        b'_' => Some(b'/'),
        other => Some(other.to_ascii_lowercase()),
    }
}

/// One letter, and the bytes of the text that stand for it.
struct Unit {
    letter: u8,
    start: usize,
    end: usize,
}

impl Unit {
    fn all_of(text: &str) -> Vec<Unit> {
        let bytes = text.as_bytes();
        let mut units = Vec::with_capacity(bytes.len());
        let mut start = 0;
        while start < bytes.len() {
            let (byte, length) = escaped(&bytes[start..]).unwrap_or((bytes[start], 1));
            if let Some(letter) = letter(byte) {
                units.push(Unit { letter, start, end: start + length });
            }
            start += length;
        }
        units
    }
}

/// The character that an escape stands for, and the escape's length: `%2d`, `\u002d`, `&#45;`, `&#x2d;`, `&amp;`.
fn escaped(bytes: &[u8]) -> Option<(u8, usize)> {
    let ascii = |code: u32| u8::try_from(code).ok().filter(u8::is_ascii);
    let number = |digits: &[u8], radix| {
        let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
        u32::from_str_radix(digits, radix).ok().and_then(ascii)
    };
    match bytes {
        [b'%', rest @ ..] => number(rest.get(..2)?, 16).map(|byte| (byte, 3)),
        [b'\\', b'u', rest @ ..] => number(rest.get(..4)?, 16).map(|byte| (byte, 6)),
        [b'\\', b't' | b'n' | b'r', ..] => Some((b' ', 2)),
        [b'&', b'#', rest @ ..] => {
            let length = rest.iter().take(8).position(|byte| *byte == b';')?;
            let byte = match &rest[..length] {
                [b'x' | b'X', digits @ ..] => number(digits, 16),
                digits => number(digits, 10),
            };
            byte.map(|byte| (byte, length + 3))
        }
        [b'&', ..] => [("&amp;", b'&'), ("&lt;", b'<'), ("&gt;", b'>'), ("&quot;", b'"'), ("&apos;", b'\'')]
            .into_iter()
            .find(|(name, _)| bytes.starts_with(name.as_bytes()))
            .map(|(name, byte)| (byte, name.len())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    const KEY: &str = "sk-Canary/7f3a+91_\"x&y\\z";

    fn percent(text: &str) -> String {
        text.bytes().fold(String::new(), |out, byte| {
            if byte.is_ascii_alphanumeric() {
                out + &char::from(byte).to_string()
            } else {
                out + &format!("%{byte:02X}")
            }
        })
    }

    fn numbered(text: &str, before: &str, after: &str, hex: bool) -> String {
        text.bytes()
            .map(|b| format!("{before}{}{after}", if hex { format!("{b:04x}") } else { b.to_string() }))
            .collect()
    }

    #[test]
    fn finds_a_key_however_it_is_written() {
        let json = serde_json::to_string(KEY).unwrap();
        let twice = serde_json::to_string(&json).unwrap();
        let html = KEY.replace('&', "&amp;").replace('"', "&quot;");
        let lines: String = KEY.chars().map(|c| format!("{c}\r\n")).collect();
        let wrapped = format!("{}\n {}\t{}", &KEY[..5], &KEY[5..9], &KEY[9..]);
        let hex: String = KEY.bytes().map(|byte| format!("{byte:02x}")).collect();
        let mut written = vec![
            KEY.to_owned(),
            KEY.to_lowercase(),
            KEY.to_uppercase(),
            json.clone(),
            twice,
            json.replace('/', "\\/"),
            html,
            lines,
            wrapped,
            percent(KEY),
            percent(KEY).to_lowercase(),
            numbered(KEY, "\\u", "", true),
            numbered(KEY, "&#", ";", false),
            numbered(KEY, "&#x", ";", true),
            hex.to_uppercase(),
            hex,
        ];
        for before in ["", "u", "us", "use", "user:", "Bearer "] {
            for after in ["", ".", "..", ":more"] {
                written.push(BASE64_STANDARD.encode(format!("{before}{KEY}{after}")));
                written.push(BASE64_URL_SAFE_NO_PAD.encode(format!("{before}{KEY}{after}")));
            }
        }
        for written in written {
            let shown = redact(&format!("the key <{written}> is wrong"), KEY);
            assert!(shown.starts_with("the key <") && shown.ends_with("> is wrong"), "{written}: {shown}");
            assert!(shown.contains(REDACTED), "{written}: {shown}");
            let left = shown.len() - "the key <> is wrong".len() - REDACTED.len();
            // What base64 makes of the neighbours, and quotation marks.
            assert!(left <= 20, "{written}: {shown}");
            let shown = shown.to_ascii_lowercase();
            assert!(!shown.contains("canary") && !shown.contains("7f3a"), "{written}: {shown}");
        }
    }

    #[test]
    fn finds_a_part_of_a_key() {
        assert_eq!(redact("no such key: sk-Canary/7f3a... (cut)", KEY), "no such key: [redacted]... (cut)");
        // What providers show of a key on purpose.
        assert_eq!(redact("Incorrect key: sk-Ca****&y\\z", KEY), "Incorrect key: sk-Ca****&y\\z");
    }

    #[test]
    fn leaves_everything_else() {
        for text in
            ["", "nothing", "sk-canaries fly; 100% of \u{1f426}&#x; %zz \\u00 &", "%", "&#", "\\u", "é\u{200b}%é"]
        {
            assert_eq!(redact(text, KEY), text);
        }
        assert_eq!(redact("a table", "at"), "a table");
        assert_eq!(redact("a table at 5", "at"), "a table [redacted] 5");
        assert_eq!(redact(&format!("{KEY}{KEY} {KEY}é{KEY}"), KEY), "[redacted]é[redacted]");
        assert_eq!(redact("éèèèèèèê, ", "èèèèèèè"), "é[redacted], ");
    }
}
