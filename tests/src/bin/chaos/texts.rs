//! What the clients write: texts of every kind, and keys that are awkward to quote.

use super::plan::Dice;
use autoembed_tests::db::literal;

/// The embedding server refuses every text with this word in it.
pub const POISON: &str = "POISON";

/// Texts that many rows share.
const COMMON: [&str; 6] =
    ["thank you", "where is my parcel?", "the invoice is wrong", "hello", "ok", "please call me back"];

/// Scripts, marks that combine, direction, quotes, backslashes, control characters, things that look like SQL or JSON.
const ODD: [&str; 10] = [
    "Grüße aus Köln, naïve façade",
    "配達はいつですか",
    "متى يصل الطرد؟",
    "👩‍👩‍👧‍👦 family 🇪🇺 flag",
    "e\u{301} and \u{e9} look alike",
    "zero\u{200b}width\u{feff}marks",
    "it's a \\backslash\\ and a \"quote\"",
    "line one\r\nline two\ttab\u{1}",
    "'); DROP TABLE plain; --",
    "{\"input\": [\"\\u0000\", 1e999]}",
];

/// Nothing to embed.
const NOTHING: [&str; 4] = ["''", "NULL", "'   '", "E'\\n\\t '"];

/// A text as an SQL literal: mostly its own, some shared, odd, long, empty or poisoned.
pub fn text(dice: &mut Dice, of: &str) -> String {
    let number = dice.next() % 1_000_000;
    match dice.below(400) {
        0 => literal(&format!("{POISON} {of} {number}")),
        1..=24 => dice.pick(&NOTHING).to_owned(),
        25..=84 => literal(dice.pick(&COMMON)),
        85..=124 => literal(&format!("{} {}", dice.pick(&ODD), dice.below(50))),
        125..=132 => {
            let words = usize::try_from(200 + dice.below(600)).unwrap_or(200);
            literal(&format!("long {of} {number} {}", "word ".repeat(words)))
        }
        133..=332 if of == "essays" => literal(&essay(dice, number)),
        _ => literal(&format!("text of {of}, number {number}")),
    }
}

/// Some paragraphs, of which an edit leaves a few as they are.
fn essay(dice: &mut Dice, number: u64) -> String {
    let mut paragraphs = vec![format!("# Essay {number}")];
    for _ in 0..2 + dice.below(8) {
        let (of, odd) = (dice.below(40), dice.pick(&ODD));
        paragraphs.push(format!("Paragraph {of} is about {}. It also says {odd}, and then ends.", dice.pick(&COMMON)));
    }
    paragraphs.join("\n\n")
}

/// The same for COPY: only characters that need no escape, never NULL.
pub fn plain(dice: &mut Dice, of: &str) -> String {
    format!("copied by {of}, {} {}", dice.pick(&COMMON), dice.below(1_000_000))
}

/// A key of letters that is different for every number.
pub fn name(number: u64) -> String {
    const FORMS: [&str; 8] = [
        "n{}",
        "with space {}",
        "it's {}",
        "\"quoted\" {}",
        "back\\slash {}",
        "comma, (brackets) {}",
        "ключ {}",
        " {} ",
    ];
    FORMS[usize::try_from(number % 8).unwrap_or(0)].replace("{}", &number.to_string())
}
