//! Texts, numbers and vectors like those of users, the same in every run.

const WORDS: &[&str] = &[
    "the",
    "a",
    "my",
    "our",
    "this",
    "of",
    "to",
    "and",
    "in",
    "for",
    "on",
    "with",
    "not",
    "but",
    "please",
    "parcel",
    "order",
    "delivery",
    "invoice",
    "account",
    "password",
    "subscription",
    "warehouse",
    "tracking",
    "page",
    "screen",
    "button",
    "customer",
    "payment",
    "refund",
    "replacement",
    "address",
    "arrived",
    "broken",
    "missing",
    "opened",
    "closed",
    "changed",
    "cancelled",
    "waiting",
    "shows",
    "says",
    "loads",
    "crashes",
    "slowly",
    "yesterday",
    "again",
    "twice",
    "immediately",
    "internationalization",
    "misconfigured",
    "troubleshooting",
    "unresponsive",
    "reauthenticate",
    "colour",
    "number",
];
const FOREIGN: &[&str] = &[
    "Lieferung",
    "verspätet",
    "Rückerstattung",
    "über",
    "größer",
    "déjà",
    "reçu",
    "mañana",
    "año",
    "посылка",
    "не",
    "пришла",
    "配送",
    "が",
    "遅れています",
    "发票",
    "丢失",
    "한국어",
    "שלום",
    "😀",
    "—",
    "naïve",
    "the",
    "parcel",
];

/// Chance that is the same each time.
pub struct Dice(u64);

impl Dice {
    /// The same numbers for the same seed.
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32
    }

    /// A number below `sides`.
    pub fn roll(&mut self, sides: usize) -> usize {
        self.next() as usize % sides.max(1)
    }

    fn word<'w>(&mut self, words: &[&'w str]) -> &'w str {
        words.get(self.roll(words.len())).copied().unwrap_or_default()
    }

    /// From -1 to 1.
    fn number(&mut self) -> f32 {
        self.next() as f32 / (1u64 << 31) as f32 - 1.0
    }
}

fn sentence(dice: &mut Dice, words: &[&str], count: usize) -> String {
    let mut text = String::new();
    for place in 0..count {
        let word = dice.word(words);
        if place > 0 {
            text.push_str(if dice.roll(12) == 0 { ", " } else { " " });
            text.push_str(word);
        } else {
            text.extend(word.chars().take(1).flat_map(char::to_uppercase));
            text.extend(word.chars().skip(1));
        }
        if dice.roll(20) == 0 {
            text.push_str(&format!(" {}", dice.roll(100_000)));
        }
    }
    text.push(if dice.roll(4) == 0 { '?' } else { '.' });
    text
}

fn several(count: usize, seed: u64, words: &[&str]) -> Vec<String> {
    let mut dice = Dice::new(seed);
    let mut text = || {
        let sentences: Vec<String> = (0..1 + dice.roll(4))
            .map(|_| {
                let length = 4 + dice.roll(18);
                sentence(&mut dice, words, length)
            })
            .collect();
        sentences.join(" ")
    };
    (0..count).map(|_| text()).collect()
}

/// Messages in English, of one to four sentences.
pub fn messages(count: usize) -> Vec<String> {
    several(count, 1, WORDS)
}

/// Messages of many languages and scripts.
pub fn foreign(count: usize) -> Vec<String> {
    several(count, 2, FOREIGN)
}

/// Pages in Markdown of about so many bytes each.
pub fn pages(count: usize, bytes: usize) -> Vec<String> {
    let mut dice = Dice::new(3);
    let mut page = || {
        let mut text = String::new();
        while text.len() < bytes {
            if dice.roll(4) == 0 {
                let heading = sentence(&mut dice, WORDS, 4);
                text.push_str(&format!("{} {heading}\n\n", "#".repeat(1 + dice.roll(3))));
            }
            let is_list = dice.roll(5) == 0;
            for _ in 0..1 + dice.roll(6) {
                let length = 5 + dice.roll(20);
                let words = if dice.roll(16) == 0 { FOREIGN } else { WORDS };
                let line = sentence(&mut dice, words, length);
                text.push_str(&if is_list { format!("- {line}\n") } else { format!("{line} ") });
            }
            text.push_str("\n\n");
        }
        text
    };
    (0..count).map(|_| page()).collect()
}

/// Keys of two columns, a number and a text, some of which must be quoted.
pub fn keys(count: usize) -> Vec<[String; 2]> {
    let mut dice = Dice::new(4);
    let mut key = |number: usize| {
        let (one, two) = (dice.word(WORDS), dice.word(FOREIGN));
        [number.to_string(), if dice.roll(3) == 0 { format!("{one} \"{two}\"") } else { format!("{one}-{two}") }]
    };
    (0..count).map(&mut key).collect()
}

/// Vectors of about length 1.
pub fn vectors(count: usize, dimensions: usize) -> Vec<Vec<f32>> {
    let mut dice = Dice::new(5);
    let length = (dimensions as f32 / 3.0).sqrt();
    (0..count).map(|_| (0..dimensions).map(|_| dice.number() / length).collect()).collect()
}
