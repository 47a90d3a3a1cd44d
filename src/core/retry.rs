//! How long to wait before the next attempt.

use std::time::Duration;

/// The wait before attempt number `attempt + 1`, where `attempt` counts the failures so far beyond the first.
///
/// The ceiling doubles with each attempt, from `base` up to `max`: `min(max, base * 2^attempt)`. `jitter01` (0 to 1,
/// anything else is brought into that range) chooses within the upper half of it: the result is between half the
/// ceiling and the ceiling, so that many waiters spread out and none comes back at once. Never overflows.
#[must_use]
pub fn backoff(attempt: u32, base: Duration, max: Duration, jitter01: f64) -> Duration {
    let factor = 1u32.checked_shl(attempt).unwrap_or(u32::MAX);
    let ceiling = base.saturating_mul(factor).min(max);
    let jitter = if jitter01.is_nan() { 1.0 } else { jitter01.clamp(0.0, 1.0) };
    let half = ceiling / 2;
    // Durations beyond f64's reach are far beyond any `max` that a setting allows; they lose their jitter, not more.
    half + Duration::try_from_secs_f64((ceiling - half).as_secs_f64() * jitter)
        .unwrap_or(ceiling - half)
        .min(ceiling - half)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn doubles_up_to_the_maximum() {
        let waits: Vec<u64> = (0..8).map(|n| backoff(n, S, 60 * S, 1.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(backoff(3, S, 60 * S, 0.0), 4 * S);
        assert_eq!(backoff(31, S, 60 * S, 1.0), 60 * S);
        assert_eq!(backoff(u32::MAX, S, 60 * S, 1.0), 60 * S);
        assert!(backoff(u32::MAX, Duration::MAX, Duration::MAX, 0.5) >= Duration::MAX / 2);
        assert_eq!(backoff(5, Duration::ZERO, 60 * S, 0.5), Duration::ZERO);
        assert_eq!(backoff(0, 90 * S, 60 * S, f64::NAN), 60 * S);
    }

    proptest! {
        #[test]
        fn stays_between_half_the_ceiling_and_the_ceiling(
            attempt in any::<u32>(), base in 0u64..10_000_000, max in 0u64..100_000_000, jitter in -2.0f64..3.0,
        ) {
            let (base, max) = (Duration::from_millis(base), Duration::from_millis(max));
            let ceiling = backoff(attempt, base, max, 1.0);
            let wait = backoff(attempt, base, max, jitter);
            prop_assert!(ceiling <= max);
            prop_assert!(wait <= ceiling && wait + Duration::from_nanos(1) >= ceiling / 2);
            prop_assert!(backoff(attempt.saturating_add(1), base, max, 1.0) >= ceiling);
        }
    }
}
