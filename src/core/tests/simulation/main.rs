//! Hours of trouble, played in moments: everything that core decides, with a worker that keeps the house's rules.
//!
//! `cargo test -p autoembed-core --test simulation -- --nocapture` prints a line for each scenario. *least* is the number
//! of requests that would do if the worker knew the server's limits and its future: the rows in batches as full as they
//! may be, unless the scenario says otherwise. All requests count: probes, those that were refused, those that got no answer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

mod server;
mod world;

use autoembed_core::rate::PerMinute;
use server::{Meter, S, Tells, Trouble};
use world::{Figures, World};

const HOUR: Duration = Duration::from_secs(3600);

/// Prints a scenario's line and gives its requests beyond the least.
fn line(name: &str, figures: &Figures, least: usize, trouble_ends: Duration) -> isize {
    let extra = figures.requests as isize - least as isize;
    let after = figures.caught_up.map_or("-".to_owned(), |at| format!("{:.0}", (at - trouble_ends).as_secs_f64()));
    println!(
        "{name:<44} rows {:>7} done {:>7} failed {:>2} charged {:>3} requests {:>6} least {:>6} extra {:>4} ({:>5.1} %) caught up after {after} s",
        figures.rows,
        figures.done,
        figures.dead.len(),
        figures.charged,
        figures.requests,
        least,
        extra,
        100.0 * extra as f64 / least as f64,
    );
    extra
}

/// Nothing failed, nothing was charged, and at most 5 % more requests than the least.
fn assert_good(name: &str, figures: &Figures, least: usize, trouble_ends: Duration) {
    let extra = line(name, figures, least, trouble_ends);
    assert_eq!(figures.done, figures.rows, "{name}: rows done");
    assert_eq!((figures.dead.len(), figures.charged), (0, 0), "{name}: failed, charged");
    assert!(extra * 20 <= least as isize, "{name}: {extra} requests beyond the least, {least}");
}

/// Two hours of trouble in the middle of a flow of a batch every 2 seconds, with 1000 batches waiting from the beginning.
fn two_hours(name: &str, trouble: Trouble) {
    let mut world = World::new(32, 4);
    let (begins, ends) = (S * 600, S * 600 + 2 * HOUR);
    world.backlog(32_000);
    world.flow(32, 2 * S, 4 * HOUR);
    world.trouble_ends = ends;
    world.server.trouble = Box::new(move |now| if now >= begins && now < ends { trouble } else { Trouble::None });
    let figures = world.run(10 * HOUR);
    assert_good(name, &figures, figures.rows.div_ceil(32), ends);
    // 3600 batches wait by then, which takes a minute and a half.
    assert!(figures.caught_up.is_some_and(|at| at < ends + 150 * S), "{name}: {:?}", figures.caught_up);
}

#[test]
fn outages() {
    two_hours("outage: connection refused", Trouble::Refused);
    two_hours("outage: 503", Trouble::Unavailable);
    two_hours("outage: timeouts", Trouble::Silent);
}

#[test]
fn refusals() {
    two_hours("429 to everything, RetryAfter", Trouble::TooMany(Tells::RetryAfter));
    two_hours("429 to everything, Headers", Trouble::TooMany(Tells::Headers));
    two_hours("429 to everything, Nothing", Trouble::TooMany(Tells::Nothing));
}

#[test]
fn an_unpaid_account() {
    two_hours("quota spent", Trouble::Unpaid);
}

/// A server's kinds of counting: in any minute; a second's worth at once; a minute's worth at once.
fn meters(most: u64) -> [(&'static str, Meter); 3] {
    [
        ("window", Meter::window(most)),
        ("bucket", Meter::bucket(most)),
        ("deep bucket", Meter::deep_bucket(most, most as f64)),
    ]
}

const TELLS: [Tells; 3] = [Tells::RetryAfter, Tells::Headers, Tells::Nothing];

#[test]
fn requests_a_minute() {
    for most in [60, 3] {
        for (tells, known) in TELLS.into_iter().flat_map(|tells| [(tells, true), (tells, false)]) {
            for (kind, meter) in meters(most) {
                let name = format!("{most}/min {kind}, {tells:?}{}", if known { ", known" } else { "" });
                let mut world = World::new(8, 4);
                // Two hours' worth.
                let batches = most as usize * 120;
                world.backlog(batches * 8);
                world.server.requests = Some(meter);
                world.server.tells = tells;
                world.policy.per_minute.requests = known.then_some(most);
                let figures = world.run(20 * HOUR);
                assert_good(&name, &figures, batches, Duration::ZERO);
                assert!(figures.ended < 3 * HOUR, "{name}: {:?}", figures.ended);
                assert!(!known || figures.requests == batches, "{name}: refused");
            }
        }
    }
}

#[test]
fn three_a_minute_and_470_rows_waiting() {
    for batch in [2048, 128, 10] {
        for tells in TELLS {
            for (kind, meter) in meters(3) {
                let mut world = World::new(batch, 4);
                world.backlog(470);
                world.server.requests = Some(meter);
                world.server.tells = tells;
                world.policy.per_minute.requests = Some(3);
                let figures = world.run(HOUR);
                let name = format!("3/min {kind}, {tells:?}, batches of {batch}");
                let extra = line(&name, &figures, 470usize.div_ceil(batch), Duration::ZERO);
                assert_eq!((extra, figures.done, figures.charged), (0, 470, 0), "{name}");
            }
        }
    }
}

#[test]
fn tokens_a_minute() {
    // A batch has 8 rows of 16,000 tokens by our estimate, 12,000 by the server's count: one and a half are allowed.
    for (tells, known) in TELLS.into_iter().flat_map(|tells| [(tells, true), (tells, false)]) {
        for (kind, meter) in meters(150_000) {
            // A second's worth of tokens is less than any batch.
            if kind == "bucket" {
                continue;
            }
            let name = format!("150,000 tokens/min {kind}, {tells:?}{}", if known { ", known" } else { "" });
            let mut world = World::new(8, 4);
            world.row_tokens = 16_000;
            world.backlog(8 * 600);
            world.server.tokens = Some(meter);
            world.server.tells = tells;
            world.policy.per_minute = PerMinute { requests: None, tokens: known.then_some(150_000) };
            let figures = world.run(20 * HOUR);
            assert_good(&name, &figures, 600, Duration::ZERO);
            assert!(!known || figures.requests == 600, "{name}: refused");
        }
    }
}

#[test]
fn a_daily_budget_over_midnight() {
    // 3,000,000 tokens by the server's count, from eight in the evening on, of which 1,000,000 a day may be spent.
    let mut world = World::new(128, 4);
    world.row_tokens = 100;
    world.begins = 20 * 3600;
    world.backlog(40_000);
    world.policy.daily_token_budget = Some(1_000_000);
    let midnights = [Duration::ZERO, 4 * HOUR, 28 * HOUR, 52 * HOUR];
    world.trouble_ends = midnights[2];
    let figures = world.run(80 * HOUR);
    for day in midnights.windows(2) {
        let today = world.server.counted.iter().filter(|(at, _)| (day[0]..day[1]).contains(at));
        let spent: u64 = today.map(|(_, tokens)| tokens).sum();
        assert!((990_000..=1_000_000).contains(&spent), "{spent} tokens");
    }
    assert_good("daily budget, over three days", &figures, 40_000usize.div_ceil(128), midnights[2]);
}

/// When a server is slow.
fn is_slow(now: Duration) -> bool {
    (HOUR..3 * HOUR).contains(&now)
}

#[test]
fn a_server_that_slows_down() {
    // With each request under way: four of them are too slow for the timeout.
    let mut world = World::new(32, 8);
    world.backlog(32 * 500);
    world.flow(32, 5 * S, 4 * HOUR);
    world.trouble_ends = 3 * HOUR;
    world.server.latency = |now, _, in_flight| if is_slow(now) { S * 9 * in_flight as u32 } else { S / 2 };
    let figures = world.run(20 * HOUR);
    assert_good("slow, by requests under way", &figures, figures.rows.div_ceil(32), 3 * HOUR);
    assert_eq!(figures.most_in_flight, 8);

    // With each input: 134 of them take three quarters of the timeout, and more are not to be risked. The rows that come
    // in these two hours, 360 times 256, are counted in such batches.
    let mut world = World::new(256, 4);
    world.backlog(256 * 500);
    world.flow(256, 20 * S, 4 * HOUR);
    world.trouble_ends = 3 * HOUR;
    world.server.latency =
        |now, inputs, _| S + Duration::from_millis(if is_slow(now) { 160 } else { 8 }) * inputs as u32;
    let figures = world.run(20 * HOUR);
    let slow = 360 * 256;
    let least = (figures.rows - slow).div_ceil(256) + slow.div_ceil(134);
    assert_good("slow, by inputs", &figures, least, 3 * HOUR);
}

#[test]
fn a_poison_row() {
    for at in 0..128 {
        let mut world = World::new(128, 4);
        world.backlog(128);
        world.server.taste = Box::new(move |rows| rows.contains(&at).then_some((400, "bad text")));
        let figures = world.run(HOUR);
        if at % 50 == 0 {
            line(&format!("row {at} of 128 is refused"), &figures, 1, Duration::ZERO);
        }
        assert_eq!((figures.done, &figures.dead[..], figures.charged), (127, &[at][..], 0));
        assert!(figures.requests <= 2 + 2 * 7, "{} requests", figures.requests);
    }
}

#[test]
fn rows_that_break_the_server() {
    const POISON: [usize; 5] = [100, 101, 20_000, 50_000, 127_999];
    let mut world = World::new(128, 4);
    world.backlog(128_000);
    world.flow(128, 10 * S, HOUR);
    world.server.taste =
        Box::new(|rows| rows.iter().any(|row| POISON.contains(row)).then_some((500, "internal error")));
    let figures = world.run(2 * HOUR);
    let extra = line("5 rows make it answer 500", &figures, figures.rows.div_ceil(128), Duration::ZERO);
    assert_eq!(figures.done, figures.rows - 5);
    assert_eq!((figures.dead, figures.charged), (POISON.to_vec(), 25));
    assert!(extra <= 5 * 40, "{extra} requests more");
}

#[test]
fn limits_that_a_server_has_and_the_model_has_not() {
    for (status, body) in [(400, "Too many inputs. The max number of inputs is 100."), (413, ""), (400, "bad request")]
    {
        let mut world = World::new(2048, 4);
        world.backlog(512_000);
        world.server.taste = Box::new(move |rows| (rows.len() > 100).then_some((status, body)));
        let figures = world.run(2 * HOUR);
        assert_good(&format!("over 100 inputs: {status} \"{body:.15}\""), &figures, 5120, Duration::ZERO);
    }
}
