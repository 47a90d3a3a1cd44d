//! Waiting for states.

use std::time::{Duration, Instant};

/// Asks until there is an answer, and returns it.
///
/// `ask` gives `Ok(answer)`, or `Err(what was seen instead)`, which is not yet a failure. Panics when `timeout` is over,
/// with `what` and what was seen last. The pauses between two questions are 2 to 50 ms.
pub fn eventually<T>(what: &str, timeout: Duration, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    let mut pause = Duration::from_millis(2);
    loop {
        // Asked before the clock is read, so that the last question comes after the last pause.
        let late = start.elapsed() >= timeout;
        match ask() {
            Ok(answer) => return answer,
            Err(seen) if late => panic!("after {:.1} s still not: {what}\n  last seen: {seen}", timeout.as_secs_f64()),
            Err(_) => std::thread::sleep(pause),
        }
        pause = (pause * 3 / 2).min(Duration::from_millis(50));
    }
}

/// `n` seconds: most timeouts in tests are written in these.
#[must_use]
pub const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_ends_the_wait() {
        let mut asked = 0;
        let answer = eventually("third time", seconds(5), || {
            asked += 1;
            if asked == 3 { Ok("here") } else { Err(format!("{asked} times")) }
        });
        assert_eq!((answer, asked), ("here", 3));
    }

    #[test]
    #[should_panic(expected = "last seen: a cat")]
    fn a_wait_that_fails_says_what_was_there() {
        eventually("a dog", Duration::from_millis(20), || Err::<(), _>("a cat".to_owned()));
    }
}
