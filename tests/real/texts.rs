//! Texts such as people write, and some such as nobody should.

use serde_json::Value;
use std::path::Path;

/// In many scripts, with marks, pictures, and characters that formats like to trip over.
const ODD: [&str; 14] = [
    "Où est passée la facture du mois d'août ?",
    "Das Päckchen wäre längst da, hätte jemand „Straße“ statt „Str.“ gelesen.",
    "漢字とかなが混ざった文章です。",
    "안녕하세요, 환불은 어떻게 받나요?",
    "Где мой заказ? Прошло уже три недели!",
    "שלום, אפשר לשנות את הכתובת?",
    "مرحبا، لم يصل الطرد بعد",
    "Zażółć gęślą jaźń 🙂👩‍👩‍👧‍👦🏳️‍🌈",
    "quotes ' \" and \\ back, {\"json\": [1, null]}, <b>&amp;</b>",
    "lines\nand\ttabs\r\nof all kinds\u{2028}here",
    "controls \u{1}\u{1f}\u{7f} and the last ones \u{ffff}\u{10ffff}",
    "e\u{301}a\u{308} composed of two, and \u{200b}\u{feff}nothing to see",
    "%s $1 ${x} {{y}} ; DROP TABLE messages; --",
    "1",
];

/// `count` different texts, none longer than the server takes.
pub fn varied(count: usize) -> Vec<String> {
    let lines = lines();
    let mut texts: Vec<String> = ODD.iter().map(|&text| text.to_owned()).collect();
    texts.extend(lines.iter().cloned());
    for n in 0.. {
        if texts.len() >= count {
            break;
        }
        // From two lines to a long letter of eight.
        let letter: Vec<&str> = (0..2 + n % 7).map(|i| lines[(n * 5 + i * 11) % lines.len()].as_str()).collect();
        texts.push(format!("{n}: {}", letter.join(if n % 2 == 0 { " " } else { "\n" })));
    }
    texts.truncate(count);
    texts
}

/// A text of about `words` tokens: each word is one.
pub fn of_words(words: usize) -> String {
    "house river ".repeat(words.div_ceil(2)).trim_end().to_owned()
}

/// The lines of the example's messages and of everyday requests, each once.
fn lines() -> Vec<String> {
    let mut lines = Vec::new();
    for file in ["../examples/messages.json", "data/everyday.json"] {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
        collect(&serde_json::from_str(&text).unwrap(), &mut lines);
    }
    lines.sort();
    lines.dedup();
    lines
}

/// Every text in `value` that is longer than a word.
fn collect(value: &Value, lines: &mut Vec<String>) {
    match value {
        Value::String(text) if text.contains(' ') => lines.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| collect(item, lines)),
        Value::Object(fields) => fields.values().for_each(|item| collect(item, lines)),
        _ => {}
    }
}
