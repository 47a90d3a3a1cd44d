//! Ctrl-C: the first one asks a program to end in good order, a second one ends it at once.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Becomes true with the first signal; `program` says so where that cannot be.
#[must_use]
pub fn flag(program: &str) -> Arc<AtomicBool> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        let second = signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&interrupted));
        let first = signal_hook::flag::register(signal, Arc::clone(&interrupted));
        if let Err(e) = second.and(first) {
            eprintln!("{program}: no signal handler: {e}");
        }
    }
    interrupted
}
