#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;

mod simulation;

const S: Duration = Duration::from_secs(1);

fn failure(action: Action) -> Failure {
    Failure::new(action, "code", "message", "hint")
}

fn retry() -> Failure {
    failure(Action::Retry)
}

fn circuit() -> Circuit {
    Circuit::new(Config::default())
}

/// Sends and fails, with the longest waits.
fn fail(circuit: &mut Circuit, now: Duration, inputs: usize, failure: &Failure) -> Verdict {
    let ticket = circuit.on_send(now, inputs);
    circuit.on_failure(now, ticket, failure, None, 1.0)
}

fn succeed(circuit: &mut Circuit, now: Duration, inputs: usize) {
    let ticket = circuit.on_send(now, inputs);
    circuit.on_success(now, ticket);
}

fn open(max_inputs: Option<usize>) -> Gate {
    Gate::Open { max_inputs }
}

#[test]
fn an_outage_pauses_doubles_and_probes_with_one() {
    let mut circuit = circuit();
    let mut now = 100 * S;
    assert_eq!(circuit.may_send(now), open(None));
    assert_eq!(fail(&mut circuit, now, 2048, &retry()), Verdict { charge: false });
    for seconds in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
        assert_eq!(circuit.may_send(now), Gate::Wait(seconds * S));
        assert!(
            matches!(circuit.state(now), State::Paused { until, reason } if until == now + seconds * S && reason.code == "code")
        );
        now += seconds * S;
        assert_eq!(circuit.may_send(now), open(Some(1)));
        let probe = circuit.on_send(now, 1);
        assert!(matches!(circuit.may_send(now), Gate::Wait(_)), "only one probe");
        assert_eq!(circuit.on_failure(now, probe, &retry(), None, 1.0), Verdict { charge: false });
    }
}

#[test]
fn a_recovery_grows_with_each_success() {
    let mut circuit = circuit();
    fail(&mut circuit, S, 2048, &retry());
    for step in [1, 8, 64, 512] {
        assert_eq!(circuit.may_send(9 * S), open(Some(step)));
        succeed(&mut circuit, 9 * S, step);
    }
    assert_eq!(circuit.may_send(9 * S), open(None));
    assert_eq!(circuit.state(9 * S), State::Recovering { max_inputs: None });
    succeed(&mut circuit, 9 * S, 2048 - 585);
    assert_eq!(circuit.state(9 * S), State::Open);
    assert_eq!(circuit.last_success(), Some(9 * S));
}

#[test]
fn successes_sent_at_an_earlier_size_do_not_grow_it() {
    let mut circuit = circuit();
    fail(&mut circuit, S, 2048, &retry());
    succeed(&mut circuit, 9 * S, 1);
    let together: Vec<Ticket> = (0..4).map(|_| circuit.on_send(9 * S, 8)).collect();
    together.into_iter().for_each(|ticket| circuit.on_success(10 * S, ticket));
    assert_eq!(circuit.may_send(10 * S), open(Some(64)));
}

#[test]
fn requests_in_flight_together_count_as_one_failure() {
    let mut circuit = circuit();
    let together: Vec<Ticket> = (0..8).map(|_| circuit.on_send(S, 1)).collect();
    for ticket in together {
        assert!(!circuit.on_failure(S, ticket, &retry(), None, 1.0).charge);
    }
    assert_eq!(circuit.may_send(S), Gate::Wait(S));
    // A late success shows nothing about the present.
    let mut circuit = Circuit::new(Config::default());
    let (early, failing) = (circuit.on_send(S, 1), circuit.on_send(S, 1));
    let _ = circuit.on_failure(S, failing, &retry(), None, 1.0);
    circuit.on_success(S, early);
    assert_eq!(circuit.may_send(S), Gate::Wait(S));
    assert!(matches!(circuit.state(S), State::Paused { .. }));
}

#[test]
fn a_batch_that_fails_in_a_recovery_goes_out_in_pieces() {
    let mut circuit = circuit();
    fail(&mut circuit, S, 2048, &retry());
    for step in [1, 8] {
        succeed(&mut circuit, 9 * S, step);
    }
    assert!(!fail(&mut circuit, 9 * S, 64, &retry()).charge);
    assert_eq!(circuit.may_send(9 * S), open(Some(8)), "no pause");
    fail(&mut circuit, 9 * S, 8, &retry());
    for _ in 0..8 {
        assert_eq!(circuit.may_send(9 * S), open(Some(1)));
        succeed(&mut circuit, 9 * S, 1);
    }
    for _ in 0..7 {
        assert_eq!(circuit.may_send(9 * S), open(Some(8)));
        succeed(&mut circuit, 9 * S, 8);
    }
    assert_eq!(circuit.may_send(9 * S), open(Some(64)), "back to the step it had");
    fail(&mut circuit, 9 * S, 7, &retry());
    assert_eq!(circuit.may_send(9 * S), open(Some(1)), "never zero");
}

#[test]
fn an_attempt_is_charged_only_to_a_lone_second_failure_with_a_success_between() {
    let verdict = |inputs: usize, failed_before: Option<Duration>, success: Option<Duration>| {
        let mut circuit = circuit();
        if let Some(at) = success {
            succeed(&mut circuit, at, 1);
        }
        let ticket = circuit.on_send(9 * S, inputs);
        circuit.on_failure(9 * S, ticket, &retry(), failed_before, 1.0).charge
    };
    assert!(verdict(1, Some(2 * S), Some(3 * S)));
    assert!(!verdict(1, None, Some(3 * S)), "first failure");
    assert!(!verdict(2, Some(2 * S), Some(3 * S)), "not alone");
    assert!(!verdict(1, Some(4 * S), Some(3 * S)), "no success since");
    assert!(!verdict(1, Some(3 * S), Some(3 * S)), "no success since");
    assert!(!verdict(1, Some(2 * S), None), "no success at all");
}

#[test]
fn a_charged_failure_holds_up_nobody() {
    let mut circuit = circuit();
    succeed(&mut circuit, 3 * S, 1);
    let ticket = circuit.on_send(9 * S, 1);
    assert!(circuit.on_failure(9 * S, ticket, &retry(), Some(S), 1.0).charge);
    assert_eq!(circuit.may_send(9 * S), open(None));
    assert_eq!(circuit.state(9 * S), State::Open);
}

#[test]
fn an_input_that_is_to_blame_is_charged_at_once() {
    let mut circuit = circuit();
    let mut bad = retry();
    bad.blames_input = true;
    assert!(fail(&mut circuit, S, 1, &bad).charge);
    assert_eq!(circuit.may_send(S), open(None));
    // As a probe it shows nothing about the server.
    fail(&mut circuit, S, 1, &retry());
    assert!(fail(&mut circuit, 3 * S, 1, &bad).charge);
    assert!(matches!(circuit.may_send(3 * S), Gate::Wait(_)));
}

#[test]
fn a_refused_input_shows_that_the_server_works() {
    for action in [Action::Split, Action::Reject] {
        let mut circuit = circuit();
        assert!(!fail(&mut circuit, S, 10, &failure(action.clone())).charge);
        assert_eq!(circuit.may_send(S), open(None));
        fail(&mut circuit, S, 10, &retry());
        assert!(!fail(&mut circuit, 3 * S, 1, &failure(action)).charge);
        assert_eq!(circuit.may_send(3 * S), open(Some(8)));
        assert_eq!(circuit.last_success(), Some(3 * S));
    }
}

#[test]
fn slowing_down_leaves_the_size_and_the_mode() {
    let slow = |after| failure(Action::SlowDown { after });
    let mut circuit = circuit();
    assert!(!fail(&mut circuit, S, 2048, &slow(Some(7 * S))).charge);
    assert_eq!(circuit.may_send(2 * S), Gate::Wait(6 * S));
    assert!(matches!(circuit.state(2 * S), State::Slowed { until, reason } if until == 8 * S && reason.code == "code"));
    assert_eq!(circuit.may_send(8 * S), open(None));
    assert_eq!(circuit.state(8 * S), State::Open);

    // Without a wait: its own backoff, one step for all that were in flight together.
    let mut circuit = Circuit::new(Config::default());
    let mut now = S;
    for seconds in [1, 2, 4] {
        let together: Vec<Ticket> = (0..8).map(|_| circuit.on_send(now, 1)).collect();
        for ticket in together {
            let _ = circuit.on_failure(now, ticket, &slow(None), None, 1.0);
        }
        assert_eq!(circuit.may_send(now), Gate::Wait(seconds * S));
        now += seconds * S;
    }
    succeed(&mut circuit, now, 1);
    fail(&mut circuit, now, 1, &slow(None));
    assert_eq!(circuit.may_send(now), Gate::Wait(S), "a success starts it over");

    // The longest wish counts; a probe that is slowed down stays a probe.
    let mut circuit = Circuit::new(Config::default());
    let (long, short) = (circuit.on_send(S, 1), circuit.on_send(S, 1));
    let _ = circuit.on_failure(S, long, &slow(Some(9 * S)), None, 1.0);
    let _ = circuit.on_failure(S, short, &slow(Some(S)), None, 1.0);
    assert_eq!(circuit.may_send(S), Gate::Wait(9 * S));
    fail(&mut circuit, 20 * S, 5, &retry());
    fail(&mut circuit, 21 * S, 1, &slow(Some(30 * S)));
    assert_eq!(circuit.may_send(21 * S), Gate::Wait(30 * S));
    assert_eq!(circuit.may_send(51 * S), open(Some(1)));
    assert!(matches!(circuit.state(51 * S), State::Paused { .. }));
}

#[test]
fn halting_blocks_and_probes_slowly_until_a_success() {
    let halt = failure(Action::Halt);
    let mut circuit = circuit();
    let together: Vec<Ticket> = (0..8).map(|_| circuit.on_send(S, 64)).collect();
    for ticket in together {
        assert!(!circuit.on_failure(S, ticket, &halt, None, 0.0).charge);
    }
    let mut now = S;
    for seconds in [5, 10, 20, 40, 60, 60] {
        assert_eq!(circuit.may_send(now), Gate::Wait(seconds * S));
        assert!(matches!(circuit.state(now), State::Blocked { reason, .. } if reason.hint == "hint"));
        now += seconds * S;
        assert_eq!(circuit.may_send(now), open(Some(1)));
        fail(&mut circuit, now, 1, &halt);
    }
    now += 60 * S;
    // What does not get as far as the key does not unblock, nor does an outage change the reason.
    fail(&mut circuit, now, 1, &failure(Action::Reject));
    assert!(matches!(circuit.state(now), State::Blocked { .. }));
    now += 60 * S;
    fail(&mut circuit, now, 1, &Failure::new(Action::Retry, "timeout", "", ""));
    assert!(matches!(circuit.state(now), State::Blocked { reason, .. } if reason.code == "code"));
    now += 60 * S;
    succeed(&mut circuit, now, 1);
    assert_eq!(circuit.state(now), State::Open);
    assert_eq!(circuit.may_send(now), open(None));
}

/// A key file was wrong and is mended, and now the server is away: nobody is to look for the key any more.
#[test]
fn what_was_mended_is_not_shown_for_ever() {
    let mut circuit = circuit();
    fail(&mut circuit, S, 1, &failure(Action::Halt));
    circuit.try_now(2 * S);
    fail(&mut circuit, 2 * S, 1, &Failure::new(Action::Retry, "timeout", "", ""));
    assert!(matches!(circuit.state(2 * S), State::Paused { reason, .. } if reason.code == "timeout"));
    fail(&mut circuit, 99 * S, 1, &failure(Action::Halt));
    assert!(matches!(circuit.state(99 * S), State::Blocked { .. }));
}

#[test]
fn news_from_before_a_block_do_not_count_after_it() {
    let mut circuit = circuit();
    let (first, late_halt, late_success) = (circuit.on_send(S, 1), circuit.on_send(S, 1), circuit.on_send(S, 1));
    let _ = circuit.on_failure(S, first, &failure(Action::Halt), None, 0.0);
    circuit.on_success(2 * S, late_success);
    assert!(matches!(circuit.state(2 * S), State::Blocked { .. }));
    succeed(&mut circuit, 9 * S, 1);
    let _ = circuit.on_failure(9 * S, late_halt, &failure(Action::Halt), None, 0.0);
    assert_eq!(circuit.state(9 * S), State::Open);
}

#[test]
fn failures_from_before_a_pause_do_not_count_after_it() {
    let mut circuit = circuit();
    let (lone, batch) = (circuit.on_send(S, 1), circuit.on_send(S, 512));
    fail(&mut circuit, S, 1, &retry());
    succeed(&mut circuit, 9 * S, 1);
    assert_eq!(circuit.may_send(9 * S), open(Some(8)));
    for late in [lone, batch] {
        assert!(!circuit.on_failure(9 * S, late, &retry(), None, 1.0).charge);
        assert_eq!(circuit.may_send(9 * S), open(Some(8)));
    }
}

#[test]
fn a_pause_may_turn_into_a_block() {
    let mut circuit = circuit();
    fail(&mut circuit, S, 1, &retry());
    fail(&mut circuit, 2 * S, 1, &failure(Action::Halt));
    assert!(matches!(circuit.state(2 * S), State::Blocked { .. }));
}

#[test]
fn a_probe_that_never_reports_is_forgotten() {
    let mut circuit = circuit();
    fail(&mut circuit, S, 1, &retry());
    let lost = circuit.on_send(2 * S, 1);
    assert_eq!(circuit.may_send(3 * S), Gate::Wait(3899 * S));
    assert_eq!(circuit.may_send(3902 * S), open(Some(1)));
    let second = circuit.on_send(3902 * S, 1);
    circuit.on_success(3903 * S, lost);
    assert!(matches!(circuit.state(3903 * S), State::Paused { .. }));
    circuit.on_abandon(second);
    assert_eq!(circuit.may_send(3903 * S), open(Some(1)));
}
