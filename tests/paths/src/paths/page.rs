//! What is done with a long text that goes in pieces.

use crate::path::{Path, Work};
use crate::texts;
use autoembed_core::chunk::{self, New, Sizes, Stored, pieces};
use autoembed_core::hash::text_hash;

const PAGE: usize = 32 << 10;
const SIZES: Sizes = Sizes { size: 400, overlap: 50 };

/// Its paths.
pub const PATHS: &[Path] = &[
    Path { name: "page: cut into pieces", unit: "page of 32 kB", items: 8, prepare: cut_into_pieces },
    Path { name: "page: compared after an edit", unit: "page of 32 kB", items: 64, prepare: compare_pieces },
];

fn cut_into_pieces(items: usize) -> Result<Work, String> {
    let pages = texts::pages(items, PAGE);
    let is_whole = |page: &str| pieces(page, SIZES).last().is_some_and(|last| last.end == page.trim_end().len());
    Ok(Box::new(move || pages.iter().filter(|page| is_whole(page)).count()))
}

/// The pieces of a page and of the same page with a sentence put into its middle: some go, some come, the others shift.
fn compare_pieces(items: usize) -> Result<Work, String> {
    let page = texts::pages(1, PAGE).pop().ok_or("there is no page")?;
    let middle = page.matches("\n\n").count() / 2;
    let (middle, _) = page.match_indices("\n\n").nth(middle).ok_or("the page has no paragraphs")?;
    let edited = format!("{}\n\nA sentence that is new.{}", &page[..middle], &page[middle..]);
    let hashed = |text: &str| -> Vec<_> {
        pieces(text, SIZES).into_iter().map(|range| (text_hash(&text[range.clone()]).to_vec(), range)).collect()
    };
    let (before, after) = (hashed(&page), hashed(&edited));
    let stored: Vec<Stored> = (0..).zip(before).map(|(number, (hash, range))| Stored { number, range, hash }).collect();
    let is_stored = |hash: &[u8]| stored.iter().any(|piece| piece.hash == hash);
    let fresh: Vec<bool> = after.iter().map(|(hash, _)| !is_stored(hash)).collect();
    Ok(Box::new(move || {
        let new: Vec<New<'_>> =
            after.iter().zip(&fresh).map(|((hash, range), fresh)| New { range, hash, has_vector: *fresh }).collect();
        (0..items).filter_map(|_| chunk::changes(&stored, &new)).filter(|changes| !changes.added.is_empty()).count()
    }))
}
