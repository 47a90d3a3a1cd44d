//! What is done with each row that a hybrid search has found.

use crate::path::{Path, Work};
use crate::texts;
use autoembed_core::fusion::{self, Found, Similarity, Word};
use std::hint::black_box;

/// Its paths.
pub const PATHS: &[Path] = &[Path { name: "search: words and vectors fused", unit: "row", items: 512, prepare: fuse }];

/// A query of five words of which each row has some.
fn fuse(items: usize) -> Result<Work, String> {
    let mut dice = texts::Dice::new(6);
    let rows: Vec<[u8; 5]> = (0..items).map(|_| [(); 5].map(|()| dice.roll(3) as u8)).collect();
    let rarity = [1.0, 9.0, 120.0, 3_000.0, 40_000.0];
    Ok(Box::new(move || {
        let of = |having| fusion::information("word", Found { rows: 100_000.0, having, looked_at: 0.5 });
        let information = rarity.map(of);
        let words: Vec<Vec<Word>> = rows
            .iter()
            .map(|row| {
                row.iter().zip(information).map(|(n, i)| Word { information: i, occurs: f64::from(*n) }).collect()
            })
            .collect();
        let matches: Vec<f64> = words.iter().map(|words| fusion::matched(words, 1.2)).collect();
        let best = matches.iter().copied().fold(0.0, f64::max);
        let scored = words.iter().zip(&matches).map(|(words, own)| {
            let likeness = fusion::likeness(Similarity { own: Some(own / 9.0), usual: 0.1, best: 0.8 });
            likeness + fusion::credit(words, (*own, best), likeness, 100_000.0)
        });
        scored.filter(|score| score.is_finite()).map(black_box).count()
    }))
}
