//! A page of thousands of tables takes seconds, in which somebody may not want it any more.

use std::cell::Cell;

/// So many steps are made between two looks.
const STEPS: u32 = 4096;

/// What is to be done now and then. It may end the drawing by a panic.
#[derive(Debug, Clone)]
pub struct Between {
    look: fn(),
    steps: Cell<u32>,
}

impl Default for Between {
    fn default() -> Between {
        Between::new(|| {})
    }
}

impl Between {
    /// Does this.
    #[must_use]
    pub fn new(look: fn()) -> Between {
        Between { look, steps: Cell::new(0) }
    }

    /// One of many small steps was made.
    pub(super) fn tick(&self) {
        let steps = self.steps.get() + 1;
        self.steps.set(steps % STEPS);
        if steps == STEPS {
            (self.look)();
        }
    }
}
