#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use proptest::prelude::*;

const S: Duration = Duration::from_secs(1);
const ANY: PerMinute = PerMinute { requests: None, tokens: None };

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn requests(most: u64) -> PerMinute {
    PerMinute { requests: Some(most), tokens: None }
}

fn tokens(most: u64) -> PerMinute {
    PerMinute { requests: None, tokens: Some(most) }
}

/// One request of a client's plan.
#[derive(Debug, Clone)]
struct Plan {
    estimate: u64,
    /// The part of the estimate that the server counts, and whether it says so.
    counted: f64,
    says: bool,
    latency: Duration,
    /// When it arrives, as a part of the latency.
    arrives: f64,
}

fn plan(longest: u64) -> impl Strategy<Value = Plan> {
    (1u64..3000, 0.3f64..=1.0, any::<bool>(), 0..=longest, 0.0f64..=1.0).prop_map(
        |(estimate, counted, says, latency, arrives)| Plan { estimate, counted, says, latency: ms(latency), arrives },
    )
}

/// Sends a plan, driven by `wait()` alone: arrivals with what the server counts, and the time when all was sent. No request is
/// longer on its way than `way`.
fn play(plans: &[Plan], allowed: &PerMinute, at_once: usize, way: Duration) -> (Vec<(Duration, u64)>, Duration) {
    let mut rate = Rate::default();
    let mut now = Duration::ZERO;
    let mut arrivals = Vec::new();
    let mut flying: Vec<(Duration, u64, Option<u64>)> = Vec::new();
    for (id, plan) in (1u64..).zip(plans) {
        let mut may_have_to_wait = true;
        loop {
            let wait = if flying.len() < at_once { rate.wait(now, allowed, plan.estimate) } else { Some(MINUTE) };
            let Some(wait) = wait else { break };
            let lands = flying.iter().map(|(ends, ..)| *ends).min();
            assert!(lands.is_some() || may_have_to_wait, "waited {now:?} in vain");
            assert!(wait > Duration::ZERO && wait <= MINUTE + MINUTE / 10, "{wait:?}");
            may_have_to_wait = lands.is_some();
            now = lands.map_or(now + wait, |lands| lands.min(now + wait));
            for (ends, id, counted) in flying.extract_if(.., |(ends, ..)| *ends <= now) {
                rate.on_end(ends, id, counted);
            }
        }
        rate.on_send(now, allowed, id, plan.estimate);
        let counted = ((plan.estimate as f64 * plan.counted) as u64).max(1);
        arrivals.push((now + plan.latency.mul_f64(plan.arrives).min(way), counted));
        flying.push((now + plan.latency, id, plan.says.then_some(counted)));
    }
    arrivals.sort();
    (arrivals, now)
}

proptest! {
    #[test]
    fn no_window_of_a_minute_ever_has_more_than_is_allowed(
        plans in proptest::collection::vec(plan(90_000), 1..120), at_once in 1usize..=8,
        most in 1u64..200, most_tokens in 100u64..20_000, which in 0..3,
    ) {
        let allowed = PerMinute {
            requests: (which != 1).then_some(most),
            tokens: (which != 0).then_some(most_tokens),
        };
        let (arrivals, _) = play(&plans, &allowed, at_once, Duration::MAX);
        prop_assert_eq!(arrivals.len(), plans.len());
        for (i, (at, _)) in arrivals.iter().enumerate() {
            let in_window: Vec<u64> =
                arrivals[..=i].iter().filter(|(then, _)| *then + MINUTE > *at).map(|(_, n)| *n).collect();
            prop_assert!(allowed.requests.is_none_or(|most| in_window.len() as u64 <= most));
            let sum: u64 = in_window.iter().sum();
            // A text that is larger than a minute's worth goes out alone.
            prop_assert!(allowed.tokens.is_none_or(|most| sum <= most || in_window.len() == 1), "{:?}", in_window);
        }
    }

    #[test]
    fn a_bucket_of_one_second_is_never_overdrawn(
        plans in proptest::collection::vec(plan(90_000), 1..120), at_once in 1usize..=8, most in 1u64..=60,
    ) {
        // Embedding may take long; the way there does not.
        let (arrivals, _) = play(&plans, &requests(most), at_once, MINUTE / most as u32 / 10);
        let (mut left, mut last) = (1.0, Duration::ZERO);
        for (at, _) in arrivals {
            left = f64::min(left + (at - last).as_secs_f64() * most as f64 / 60.0, 1.0) - 1.0;
            last = at;
            prop_assert!(left > -1e-9, "{left}");
        }
    }

    #[test]
    fn what_is_allowed_is_used(most in 1u64..150, latency in 0u64..=3000, at_once in 2usize..=8) {
        let plan = Plan { estimate: 1, counted: 1.0, says: true, latency: ms(latency), arrives: 0.5 };
        let at_once = at_once.max((latency * most / 60_000) as usize + 1);
        let (_, took) = play(&vec![plan; most as usize * 3 + 1], &requests(most), at_once, Duration::MAX);
        prop_assert!(took.as_secs_f64() <= 180.0 / 0.85, "{took:?}");
    }

    #[test]
    fn hostile_figures_are_borne(
        figures in proptest::collection::vec((any::<u64>(), any::<u64>(), any::<Option<u64>>()), 1..30),
        limit in any::<Option<u64>>(), remaining in any::<Option<u64>>(), reset in any::<Option<u64>>(),
    ) {
        let mut rate = Rate::default();
        let meter = Meter { limit, remaining, reset: reset.map(Duration::from_millis) };
        for (id, (most, estimate, counted)) in (1u64..).zip(figures) {
            let allowed = PerMinute { requests: Some(most), tokens: Some(most) };
            let _ = rate.wait(S, &allowed, estimate);
            rate.on_send(S, &allowed, id, estimate);
            rate.on_end(S, id, counted);
            rate.on_headers(S, id, &RateHeaders { requests: meter, tokens: meter });
            rate.on_others(S, &allowed, most, estimate);
            let _ = rate.wait(S, &allowed, estimate);
        }
    }
}

/// Sends request number `id` and lets it end at once, `headers` in its answer.
fn answered(rate: &mut Rate, now: Duration, allowed: &PerMinute, id: u64, headers: &RateHeaders) {
    rate.on_send(now, allowed, id, 10);
    rate.on_accepted(id);
    rate.on_end(now, id, None);
    rate.on_headers(now, id, headers);
}

fn of_requests(limit: Option<u64>, remaining: u64, reset: Duration) -> RateHeaders {
    let requests = Meter { limit, remaining: Some(remaining), reset: Some(reset) };
    RateHeaders { requests, ..RateHeaders::default() }
}

#[test]
fn slow_rates_are_counted_from_the_end_or_with_a_margin() {
    let (mut rate, allowed) = (Rate::default(), requests(3));
    assert_eq!(rate.wait(S, &allowed, 1), None);
    rate.on_send(S, &allowed, 1, 1);
    assert_eq!(rate.wait(2 * S, &allowed, 1), Some(21 * S), "under way: 20 s and a tenth after its sending");
    rate.on_end(2 * S, 1, None);
    assert_eq!(rate.wait(2 * S, &allowed, 1), Some(20 * S), "20 s after its end");
    assert_eq!(rate.wait(22 * S, &allowed, 1), None);
    rate.on_send(22 * S, &allowed, 2, 1);
    rate.on_end(30 * S, 2, None);
    assert_eq!(rate.wait(30 * S, &allowed, 1), Some(14 * S), "a slow answer holds up nothing");
    assert_eq!(rate.wait(31 * S, &ANY, 1), None, "the owner may allow more at any time");
}

#[test]
fn fast_rates_are_spread_and_go_together() {
    let (mut rate, allowed) = (Rate::default(), requests(600));
    rate.on_send(S, &allowed, 1, 1);
    assert_eq!(rate.wait(S, &allowed, 1), Some(ms(100)));
    assert_eq!(rate.wait(S + ms(100), &allowed, 1), None);
}

#[test]
fn a_text_larger_than_a_minutes_worth_goes_alone() {
    let (mut rate, allowed) = (Rate::default(), tokens(100));
    assert_eq!(rate.wait(S, &allowed, 5000), None);
    rate.on_send(S, &allowed, 1, 5000);
    assert_eq!(rate.wait(S, &allowed, 1), Some(MINUTE));
    rate.on_end(2 * S, 1, Some(4000));
    assert_eq!(rate.wait(2 * S, &allowed, 1), Some(MINUTE));
    assert_eq!(rate.wait(62 * S, &allowed, 5000), None);
}

#[test]
fn what_was_counted_replaces_the_estimate() {
    let (mut rate, allowed) = (Rate::default(), tokens(100));
    rate.on_send(S, &allowed, 1, 90);
    assert_eq!(rate.wait(S, &allowed, 20), Some(MINUTE));
    rate.on_end(S, 1, Some(60));
    assert_eq!(rate.wait(S, &allowed, 40), None);
    assert_eq!(rate.wait(S, &allowed, 41), Some(MINUTE));
}

#[test]
fn what_others_send_counts_for_a_minute() {
    let (mut rate, allowed) = (Rate::default(), PerMinute { requests: Some(100), tokens: Some(1000) });
    rate.on_others(S, &allowed, 100, 10);
    assert_eq!(rate.wait(11 * S, &allowed, 1), Some(50 * S));
    assert_eq!(rate.wait(61 * S, &allowed, 1), None);
    rate.on_others(61 * S, &allowed, 1, 995);
    assert_eq!(rate.wait(62 * S, &allowed, 6), Some(59 * S));
    assert_eq!(rate.wait(62 * S, &allowed, 5), None);
}

#[test]
fn nothing_is_sent_where_headers_say_that_nothing_remains() {
    let mut rate = Rate::default();
    answered(&mut rate, S, &ANY, 1, &of_requests(None, 0, 30 * S));
    assert_eq!(rate.wait(S, &ANY, 1), Some(30 * S));
    assert_eq!(rate.wait(21 * S, &ANY, 1), Some(10 * S));
    assert_eq!(rate.wait(31 * S, &ANY, 1), None, "the report is stale");
    answered(&mut rate, 31 * S, &ANY, 2, &RateHeaders::default());
    answered(&mut rate, 32 * S, &ANY, 3, &of_requests(Some(60), 2, 58 * S));
    for id in [4, 5] {
        assert_eq!(rate.wait(32 * S, &ANY, 1), None);
        rate.on_send(32 * S, &ANY, id, 1);
    }
    assert_eq!(rate.wait(32 * S, &ANY, 1), Some(S), "one of 58 is back after a second");
    // A server that does not count says that of nothing, nothing remains.
    answered(&mut rate, 40 * S, &ANY, 6, &of_requests(Some(0), 0, 30 * S));
    assert_eq!(rate.wait(40 * S, &ANY, 1), None);
}

#[test]
fn tokens_come_back_bit_by_bit_until_a_server_shows_otherwise() {
    let mut rate = Rate::default();
    let meter = Meter { limit: Some(1000), remaining: Some(100), reset: Some(9 * S) };
    let headers = RateHeaders { tokens: meter, ..RateHeaders::default() };
    answered(&mut rate, S, &ANY, 1, &headers);
    assert_eq!(rate.wait(S, &ANY, 100), None);
    assert_eq!(rate.wait(S, &ANY, 300), Some(2 * S));
    assert_eq!(rate.wait(S, &ANY, 5000), Some(9 * S), "more than it ever has: when all is back");
    rate.on_send(3 * S, &ANY, 2, 300);
    rate.on_refused(2);
    rate.on_end(3 * S, 2, Some(0));
    rate.on_headers(3 * S, 2, &headers);
    assert_eq!(rate.wait(3 * S, &ANY, 300), Some(9 * S));
    asked(&mut rate, 12 * S, 3, true);
    assert_eq!(rate.wait(12 * S, &ANY, 100), None, "no pace is needed beside the headers");
    asked(&mut rate, 13 * S, 4, false);
    asked(&mut rate, 14 * S, 5, true);
    assert!(near(rate.wait(14 * S, &ANY, 100), 13.0 / 2.0 * 1.08), "unless that does not help");
    rate.forget_found();
    assert_eq!(rate.wait(3 * S, &ANY, 300), None);
}

#[test]
fn a_first_refusal_with_headers_says_nothing_of_how_they_are_meant() {
    let mut rate = Rate::default();
    rate.on_send(S, &ANY, 1, 1);
    rate.on_refused(1);
    rate.on_end(S, 1, Some(0));
    rate.on_headers(S, 1, &of_requests(Some(60), 0, 60 * S));
    assert_eq!(rate.wait(S, &ANY, 1), Some(S));
}

#[test]
fn headers_that_overtake_each_other_do_not_confuse() {
    for allowed in [ANY, requests(1000)] {
        let mut rate = Rate::default();
        (1..=4).for_each(|id| rate.on_send(S + ms(100 * id), &allowed, id, 1));
        let (now, reset) = (2 * S, 60 * S);
        rate.on_end(now, 3, None);
        rate.on_headers(now, 3, &of_requests(None, 2, reset));
        // Number 4 may not be in its figures yet, and comes off them.
        rate.on_send(now, &allowed, 5, 1);
        assert_eq!(rate.wait(now + S, &allowed, 1), Some(59 * S));
        rate.on_end(now, 1, None);
        rate.on_headers(now + S, 1, &of_requests(None, 100, reset));
        assert_eq!(rate.wait(now + S, &allowed, 1), Some(59 * S), "older than what is known");
        rate.on_end(now, 5, None);
        rate.on_headers(now + S, 5, &of_requests(None, 100, reset));
        assert_eq!(rate.wait(now + S, &allowed, 1), None);
    }
}

/// Sends request number `id` at `now`; whether the server accepts it.
fn asked(rate: &mut Rate, now: Duration, id: u64, accepts: bool) {
    rate.on_send(now, &ANY, id, 1);
    if accepts {
        rate.on_accepted(id)
    } else {
        rate.on_refused(id)
    }
    rate.on_end(now, id, None);
}

fn near(wait: Option<Duration>, seconds: f64) -> bool {
    wait.is_some_and(|wait| (wait.as_secs_f64() / seconds - 1.0).abs() < 0.1)
}

#[test]
fn the_pace_of_a_server_that_does_not_state_it_is_found() {
    // One a second.
    let mut rate = Rate::default();
    asked(&mut rate, S, 1, true);
    assert_eq!(rate.wait(S, &ANY, 1), None);
    asked(&mut rate, S + ms(50), 2, false);
    asked(&mut rate, 2 * S, 3, true);
    assert!(near(rate.wait(2 * S, &ANY, 1), 1.08), "{:?}", rate.wait(2 * S, &ANY, 1));

    // Sixty at once, then none for a minute.
    let mut rate = Rate::default();
    (1..=60).for_each(|id| asked(&mut rate, S + ms(50 * id), id, true));
    asked(&mut rate, 5 * S, 61, false);
    asked(&mut rate, 61 * S, 62, true);
    let now = 61 * S;
    assert!(near(rate.wait(now, &ANY, 1), 1.08), "{:?}", rate.wait(now, &ANY, 1));
    // It quickens, at first so slowly that few are refused.
    let mut now = now;
    for id in 63..=90 {
        now += rate.wait(now, &ANY, 1).unwrap();
        asked(&mut rate, now, id, true);
    }
    assert!(near(rate.wait(now, &ANY, 1), 1.02), "{:?}", rate.wait(now, &ANY, 1));
    for id in 91..=2000 {
        now += rate.wait(now, &ANY, 1).unwrap_or_default();
        asked(&mut rate, now, id, true);
    }
    assert_eq!(rate.wait(now, &ANY, 1), None, "a server that refuses no more is not held back");
}

#[test]
fn requests_refused_together_are_one_refusal_of_what_the_headers_promised() {
    let mut rate = Rate::default();
    answered(&mut rate, S, &ANY, 1, &of_requests(None, 5, S));
    (2..=3).for_each(|id| rate.on_send(S, &ANY, id, 1));
    for id in 2..=3 {
        rate.on_refused(id);
        rate.on_end(2 * S, id, Some(0));
    }
    asked(&mut rate, 9 * S, 4, true);
    assert_eq!(rate.wait(9 * S, &ANY, 1), None);
}

#[test]
fn an_outage_says_nothing_of_the_pace() {
    let mut rate = Rate::default();
    asked(&mut rate, S, 1, true);
    (2..100).for_each(|id| asked(&mut rate, 60 * S * id as u32, id, false));
    asked(&mut rate, 7200 * S, 100, true);
    assert_eq!(rate.wait(7200 * S, &ANY, 1), None);
}
