//! Into which parts a time is cut.

/// Most parts, but for one: as many bars as one can tell apart.
const MOST: f64 = 96.0;
const HOUR: f64 = 3600.0;
const DAY: f64 = 24.0 * HOUR;
/// Lengths in seconds that fit the clock and the calendar.
const LENGTHS: [f64; 26] = [
    1.0,
    2.0,
    5.0,
    10.0,
    15.0,
    30.0,
    60.0,
    120.0,
    300.0,
    600.0,
    900.0,
    1200.0,
    1800.0,
    HOUR,
    2.0 * HOUR,
    3.0 * HOUR,
    4.0 * HOUR,
    6.0 * HOUR,
    8.0 * HOUR,
    12.0 * HOUR,
    DAY,
    2.0 * DAY,
    7.0 * DAY,
    14.0 * DAY,
    30.0 * DAY,
    60.0 * DAY,
];

/// Length in seconds of the parts that so many seconds are cut into.
pub fn part_seconds(all: f64) -> f64 {
    LENGTHS.into_iter().find(|length| all / length <= MOST).unwrap_or_else(|| (all / MOST / DAY).ceil() * DAY)
}
