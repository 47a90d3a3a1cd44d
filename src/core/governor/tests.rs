#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use crate::circuit::{Config, State};
use crate::error::{Oversize, Part, Unit};
use crate::rate::Meter;
use proptest::prelude::*;

const S: Duration = Duration::from_secs(1);
const LIMITS: Limits = Limits { batch_inputs: 128, batch_tokens: 300_000, batch_bytes: 1 << 20, input_tokens: 8192 };

fn governor() -> Governor {
    Governor::new(Config::default())
}

fn policy() -> Policy {
    Policy {
        limits: LIMITS,
        per_minute: PerMinute::default(),
        daily_token_budget: None,
        max_concurrent: 8,
        timeout: 30 * S,
        day: 7,
    }
}

fn of_budget(budget: u64) -> Policy {
    Policy { daily_token_budget: Some(budget), ..policy() }
}

fn load(inputs: usize, tokens: usize) -> Load {
    Load { inputs, tokens, bytes: tokens * 4 }
}

fn at(now: Duration) -> Arrival {
    Arrival { now, took: S / 10, status: Some(200), headers: RateHeaders::default() }
}

fn limits_of(gate: Gate) -> Limits {
    match gate {
        Gate::Open(limits) => limits,
        Gate::Wait(wait) => panic!("waits {wait:?}"),
    }
}

fn is_shut(gate: Gate) -> bool {
    matches!(gate, Gate::Wait(_))
}

fn failure(action: Action, code: &str) -> Failure {
    Failure::new(action, code, "", "")
}

/// Sends a request and lets it fail.
fn fail(governor: &mut Governor, now: Duration, load: Load, failure: &Failure) -> u64 {
    let ticket = governor.on_send(now, &policy(), load);
    governor.on_failure(ticket, &Arrival { status: None, ..at(now) }, failure, None, 1.0).1
}

/// Sends a request and lets it succeed.
fn succeed(governor: &mut Governor, now: Duration, policy: &Policy, load: Load, tokens: Option<u64>) -> u64 {
    let ticket = governor.on_send(now, policy, load);
    governor.on_success(ticket, &at(now), policy, tokens)
}

proptest! {
    #[test]
    fn every_request_is_counted_in_and_out_and_no_more_than_allowed_are_under_way(
        steps in proptest::collection::vec((0u8..10, any::<prop::sample::Index>(), 0u64..20_000), 1..200), most in 1usize..10,
    ) {
        let (mut it, mut now, mut flying) = (governor(), S, Vec::new());
        let policy = Policy { max_concurrent: most, ..policy() };
        for (what, which, ms) in steps {
            now += Duration::from_millis(ms);
            if what < 5 {
                let size = load(1, 10);
                if matches!(it.gate(now, &policy), Gate::Open(_)) && it.wait_for(now, &policy, size).is_none() {
                    flying.push(it.on_send(now, &policy, size));
                }
            } else if !flying.is_empty() {
                let ticket = flying.swap_remove(which.index(flying.len()));
                match what {
                    5 => it.on_abandon(ticket, now),
                    6 => drop(it.on_failure(ticket, &at(now), &failure(Action::SlowDown { after: None }, "http_429"), None, 0.5)),
                    7 => drop(it.on_failure(ticket, &at(now), &failure(Action::Retry, "timeout"), None, 0.5)),
                    8 => drop(it.on_failure(ticket, &at(now), &failure(Action::Halt, "http_401"), None, 0.5)),
                    _ => drop(it.on_success(ticket, &at(now), &policy, Some(10))),
                }
            }
            prop_assert_eq!(it.in_flight(), flying.len());
            prop_assert!(flying.len() <= most);
        }
        // However it went: when all has reported, it goes on after a while.
        flying.drain(..).for_each(|ticket| it.on_abandon(ticket, now));
        prop_assert!(matches!(it.gate(now + 3600 * S, &policy), Gate::Open(_)));
    }

    #[test]
    fn the_budget_is_never_crossed_where_estimates_are_on_the_safe_side(
        budget in 1u64..20_000, rows in proptest::collection::vec(1usize..500, 1..200), ratio in 0.4f64..=1.0, says in any::<bool>(),
        at_once in 1usize..8,
    ) {
        let (mut it, policy) = (governor(), of_budget(budget));
        let (mut flying, mut booked) = (Vec::new(), 0);
        for row in rows {
            let limits = it.gate(S, &policy);
            let size = load(1, row);
            let fits = matches!(limits, Gate::Open(limits) if row <= limits.batch_tokens);
            if fits && it.wait_for(S, &policy, size).is_none() {
                flying.push((it.on_send(S, &policy, size), (row as f64 * ratio) as u64));
            }
            if flying.len() >= at_once || !fits {
                for (ticket, counted) in flying.drain(..) {
                    booked += it.on_success(ticket, &at(S), &policy, says.then_some(counted));
                }
            }
            prop_assert!(booked <= budget, "{booked} of {budget}");
        }
    }

    #[test]
    fn what_is_packed_by_the_gates_limits_may_go(budget in 1u64..100_000, a_minute in 1u64..100_000, used in 0u64..50_000, ratio in 0.4f64..2.0) {
        let policy = Policy { per_minute: PerMinute { requests: None, tokens: Some(a_minute) }, ..of_budget(budget) };
        let mut it = governor();
        for _ in 0..20 {
            it.learned.on_usage(load(1, 10_000), (10_000.0 * ratio) as u64);
        }
        it.set_used_today(policy.day, used);
        match it.gate(S, &policy) {
            Gate::Open(limits) => {
                prop_assert!(used < budget);
                // Of less than two tokens no batch can be made.
                let fits = limits.batch_tokens == 1 || it.wait_for(S, &policy, load(1, limits.batch_tokens)).is_none();
                prop_assert!(fits, "{limits:?}");
            }
            Gate::Wait(_) => prop_assert!(used >= budget),
        }
    }
}

#[test]
fn a_spent_budget_says_so_until_midnight() {
    let (mut it, today) = (governor(), of_budget(1000));
    assert_eq!(limits_of(it.gate(S, &today)).batch_tokens, 1000);
    assert_eq!(succeed(&mut it, S, &today, load(10, 900), Some(800)), 800);
    assert_eq!(it.spent(&today), None);
    // A text that is too large for the rest waits for tomorrow.
    assert!(it.wait_for(S, &today, load(1, 900)).is_some());
    assert_eq!(it.spent(&today), Some(800));
    assert!(is_shut(it.gate(S, &today)), "it would be packed and refused all day");
    assert!(!is_shut(it.gate(S, &of_budget(1001))), "the budget was raised");
    assert_eq!(it.spent(&of_budget(1001)), None);
    assert_eq!(it.wait_for(S, &today, load(1, 200)), None);
    assert_eq!(succeed(&mut it, S, &today, load(1, 200), None), 199, "by what was learned");
    it.on_others(S, &today, 1, 1);
    assert!(is_shut(it.gate(S, &today)));
    assert_eq!(it.spent(&today), Some(1000));
    assert_eq!(it.spent(&policy()), None, "the budget was taken away");
    let tomorrow = Policy { day: 8, ..today };
    assert_eq!(it.spent(&tomorrow), None);
    assert!(limits_of(it.gate(S, &tomorrow)).batch_tokens >= 1000);
    assert_eq!(it.spent(&tomorrow), None);
}

#[test]
fn what_is_under_way_is_spoken_for() {
    let (mut it, today) = (governor(), of_budget(1000));
    let ticket = it.on_send(S, &today, load(10, 1000));
    assert!(is_shut(it.gate(S, &today)));
    assert_eq!(it.spent(&today), None, "it may come to less");
    it.on_success(ticket, &at(S), &today, Some(400));
    let ticket = it.on_send(S, &today, load(10, 400));
    assert!(is_shut(it.gate(S, &today)), "the rest goes in one request");
    it.on_success(ticket, &at(S), &today, Some(200));
    assert!(limits_of(it.gate(S, &today)).batch_tokens >= 400);
}

#[test]
fn what_arrives_after_midnight_is_booked_there() {
    let (mut it, today) = (governor(), of_budget(1000));
    assert!(!is_shut(it.gate(S, &today)));
    let ticket = it.on_send(S, &today, load(10, 1000));
    let tomorrow = Policy { day: 8, ..today };
    it.on_success(ticket, &at(2 * S), &tomorrow, Some(1000));
    assert!(is_shut(it.gate(2 * S, &tomorrow)));
    assert_eq!(it.spent(&tomorrow), Some(1000));
}

#[test]
fn what_was_used_before_counts_for_its_day_alone() {
    let mut it = governor();
    it.set_used_today(7, 1000);
    assert!(is_shut(it.gate(S, &of_budget(1000))));
    assert_eq!(it.spent(&of_budget(1000)), Some(1000));
    it.try_now(S);
    assert_eq!(it.spent(&of_budget(1000)), None);
    it.set_used_today(6, 1000);
    assert!(!is_shut(it.gate(S, &of_budget(1000))));
}

#[test]
fn failures_book_what_the_server_may_have_counted() {
    let mut it = governor();
    let mut booked = |status, action, code: &str| {
        it = governor();
        let ticket = it.on_send(S, &policy(), load(10, 100));
        it.on_failure(ticket, &Arrival { status, ..at(S) }, &failure(action, code), None, 0.0).1
    };
    assert_eq!(booked(None, Action::Retry, "timeout"), 100);
    assert_eq!(booked(None, Action::Retry, "protocol"), 100);
    assert_eq!(booked(Some(200), Action::Retry, "bad_answer"), 100);
    assert_eq!(booked(None, Action::Retry, "connection"), 0);
    assert_eq!(booked(Some(429), Action::SlowDown { after: None }, "http_429"), 0);
    assert_eq!(booked(Some(500), Action::Retry, "http_500"), 0);
}

#[test]
fn requests_at_once_are_halved_and_grow_again() {
    let (mut it, policy) = (governor(), policy());
    let mut now = S;
    let fill = |it: &mut Governor, now| {
        let mut tickets = Vec::new();
        while !is_shut(it.gate(now, &policy)) {
            tickets.push(it.on_send(now, &policy, load(128, 1000)));
        }
        tickets
    };
    let tickets = fill(&mut it, now);
    assert_eq!(tickets.len(), 8);
    for ticket in tickets {
        let slow = failure(Action::SlowDown { after: Some(7 * S) }, "http_429");
        let _ = it.on_failure(ticket, &Arrival { status: Some(429), ..at(now) }, &slow, None, 0.0);
    }
    assert!(is_shut(it.gate(now + 6 * S, &policy)));
    now += 7 * S;
    assert_eq!(limits_of(it.gate(now, &policy)).batch_inputs, 128, "batches stay full");
    for round in 0..200 {
        let mut tickets = Vec::new();
        for _ in 0..20 {
            // The pace that was learned may want a moment between two of them.
            now += S;
            if !is_shut(it.gate(now, &policy)) {
                tickets.push(it.on_send(now, &policy, load(128, 1000)));
            }
        }
        assert!(tickets.len() >= 4 && (round > 0 || tickets.len() == 4), "{} at once", tickets.len());
        for ticket in tickets {
            it.on_success(ticket, &at(now), &policy, None);
        }
    }
    now += 60 * S;
    assert_eq!((0..8).filter(|_| !is_shut(it.gate(now, &policy))).count(), 8);
}

#[test]
fn timeouts_shrink_batches_where_no_others_were_under_way() {
    let (mut it, timeout) = (governor(), failure(Action::Retry, "timeout"));
    let tickets: Vec<_> = (0..4).map(|_| it.on_send(S, &policy(), load(128, 1000))).collect();
    for ticket in tickets {
        let _ = it.on_failure(ticket, &Arrival { status: None, ..at(31 * S) }, &timeout, None, 0.0);
    }
    assert_eq!(it.limits(&LIMITS).batch_inputs, 128, "fewer at once may do");
    assert_eq!(it.concurrency.allowed(8), 2);
    fail(&mut it, 100 * S, load(128, 1000), &timeout);
    assert_eq!(it.limits(&LIMITS).batch_inputs, 64);
    assert_eq!(it.concurrency.allowed(8), 2);
}

#[test]
fn limits_are_learned_from_refusals() {
    let mut it = governor();
    let too_many = Oversize { part: Part::Batch, unit: Some(Unit::Inputs), limit: Some(50), found: None };
    fail(
        &mut it,
        S,
        load(128, 1000),
        &Failure { oversize: Some(Box::new(too_many)), ..failure(Action::Split, "http_400") },
    );
    assert_eq!(limits_of(it.gate(S, &policy())).batch_inputs, 50);

    let mut it = governor();
    for inputs in [128, 64] {
        fail(&mut it, S, load(128, 1000), &failure(Action::Split, "http_400"));
        assert_eq!(limits_of(it.gate(S, &policy())).batch_inputs, inputs, "one may have had a bad text");
    }
}

#[test]
fn headers_of_any_answer_count() {
    let meter = Meter { limit: None, remaining: Some(0), reset: Some(9 * S) };
    let headers = RateHeaders { requests: meter, ..RateHeaders::default() };
    let (mut it, policy) = (governor(), policy());
    let ticket = it.on_send(S, &policy, load(1, 1));
    it.on_success(ticket, &Arrival { headers, ..at(S) }, &policy, None);
    assert_eq!(it.gate(S, &policy), Gate::Wait(9 * S));
    assert_eq!(it.wait_for(S, &policy, load(1, 1)), Some(9 * S));
    assert!(!is_shut(it.gate(10 * S, &policy)));
    it.try_now(2 * S);
    assert!(!is_shut(it.gate(2 * S, &policy)), "another account has other limits");
}

#[test]
fn a_blocked_model_is_tried_at_once_when_something_was_changed() {
    let (mut it, policy) = (governor(), policy());
    fail(&mut it, S, load(128, 1000), &failure(Action::Halt, "http_401"));
    assert_eq!(it.gate(S, &policy), Gate::Wait(5 * S));
    it.try_now(2 * S);
    assert_eq!(limits_of(it.gate(2 * S, &policy)).batch_inputs, 1, "carefully");
    succeed(&mut it, 2 * S, &policy, load(1, 10), None);
    assert_eq!(it.circuit().state(2 * S), State::Open);
    assert_eq!(limits_of(it.gate(2 * S, &policy)).batch_inputs, 128);
}
