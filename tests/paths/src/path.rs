//! What one path is, and where it is counted.

use std::hint::black_box;

/// Does the work once and gives how many items it has done.
pub type Work = Box<dyn FnMut() -> usize>;

/// A path through the crates that is taken for each row, text or batch.
pub struct Path {
    /// Its name: what it is about, and what is done with it.
    pub name: &'static str,
    /// What an item is, in the singular.
    pub unit: &'static str,
    /// How many there are.
    pub items: usize,
    /// Makes what the work needs, uncounted.
    pub prepare: fn(usize) -> Result<Work, String>,
}

impl Path {
    /// Prepares it and goes it once.
    ///
    /// # Errors
    /// It cannot be prepared, or has done another number of items than it should: what it took is no figure then.
    pub fn go(&self) -> Result<(), String> {
        let mut work = (self.prepare)(self.items)?;
        let mut done = 0;
        autoembed_counted_path(&mut || done = work());
        if done == self.items {
            Ok(())
        } else {
            Err(format!("\"{}\" has done {done} of {} items", self.name, self.items))
        }
    }
}

/// Callgrind counts what happens within this function, which it finds by its name ([`COUNTED`]).
#[inline(never)]
fn autoembed_counted_path(work: &mut dyn FnMut()) {
    black_box(&mut *work)();
    black_box(work);
}

/// Matches the name of the function within which is counted, however the compiler spells it.
pub const COUNTED: &str = "*autoembed_counted_path*";
