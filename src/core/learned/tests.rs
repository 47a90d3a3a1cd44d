#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use crate::batch::bisect;
use proptest::prelude::*;

const S: Duration = Duration::from_secs(1);
const DEFINED: Limits = Limits { batch_inputs: 2048, batch_tokens: 300_000, batch_bytes: 4 << 20, input_tokens: 8192 };

fn load(inputs: usize, tokens: usize) -> Load {
    Load { inputs, tokens, bytes: tokens * 4 }
}

fn too_large(part: Part, unit: Unit, limit: Option<u64>, found: Option<u64>) -> Oversize {
    Oversize { part, unit: Some(unit), limit, found }
}

fn unit() -> impl Strategy<Value = Option<Unit>> {
    prop_oneof![Just(None), Just(Some(Unit::Tokens)), Just(Some(Unit::Inputs)), Just(Some(Unit::Bytes))]
}

/// Any number, and often a small one.
fn figure() -> impl Strategy<Value = u64> {
    prop_oneof![any::<u64>(), 0u64..10_000]
}

#[derive(Debug, Clone)]
enum News {
    Usage(Load, u64),
    Success(Load, u64),
    Timeout(Load),
    Oversize(Load, Oversize),
    Refused(Load),
}

fn news(input: bool) -> impl Strategy<Value = News> {
    let loads = (figure(), figure(), figure()).prop_map(|(a, b, c)| Load {
        inputs: a as usize,
        tokens: b as usize,
        bytes: c as usize,
    });
    let part =
        if input { prop_oneof![Just(Part::Batch), Just(Part::Input)].boxed() } else { Just(Part::Batch).boxed() };
    let what = (part, unit(), proptest::option::of(figure()), proptest::option::of(figure()))
        .prop_map(|(part, unit, limit, found)| Oversize { part, unit, limit, found });
    (loads, what, figure(), 0..5).prop_map(|(load, what, figure, kind)| match kind {
        0 => News::Usage(load, figure),
        1 => News::Success(load, figure),
        2 => News::Timeout(load),
        3 => News::Oversize(load, what),
        _ => News::Refused(load),
    })
}

fn tell(learned: &mut Learned, news: &News) {
    match news {
        News::Usage(load, tokens) => learned.on_usage(*load, *tokens),
        News::Success(load, ms) => learned.on_success(*load, Duration::from_millis(*ms), 30 * S),
        News::Timeout(load) => learned.on_timeout(*load),
        News::Oversize(load, what) => learned.on_oversize(*load, what),
        News::Refused(load) => learned.on_refused(*load),
    }
}

proptest! {
    #[test]
    fn no_news_raise_a_limit_over_its_definition_or_lower_it_to_nothing(all in proptest::collection::vec(news(true), 0..40)) {
        let mut learned = Learned::default();
        for news in &all {
            tell(&mut learned, news);
            let limits = learned.limits(&DEFINED);
            prop_assert!((1..=DEFINED.batch_inputs).contains(&limits.batch_inputs));
            prop_assert!((1..=DEFINED.batch_bytes).contains(&limits.batch_bytes));
            prop_assert!(limits.batch_tokens >= 1 && learned.tokens(limits.batch_tokens) <= DEFINED.batch_tokens as u64);
            prop_assert!((LEAST_INPUT / 2..=DEFINED.input_tokens).contains(&limits.input_tokens));
        }
    }

    #[test]
    fn a_text_is_cut_at_the_same_place_until_one_was_refused(all in proptest::collection::vec(news(false), 0..40)) {
        let mut learned = Learned::default();
        all.iter().for_each(|news| tell(&mut learned, news));
        prop_assert_eq!(learned.limits(&DEFINED).input_tokens, DEFINED.input_tokens);
    }

    #[test]
    fn requests_become_smaller_until_the_server_takes_them(
        most in 1usize..3000, ratio in 0.4f64..5.0, row in 1usize..500, unit in unit(), truth in 0..4, lie in proptest::option::of(figure()),
    ) {
        // It takes `most` of its units, and says so in truth, or not at all, or lies, or does not even say what it counts.
        let mut learned = Learned::default();
        let mut last = usize::MAX;
        for step in 0.. {
            let limits = learned.limits(&DEFINED);
            let inputs = limits.batch_inputs.min(limits.batch_tokens / row).min(limits.batch_bytes / (row * 4)).max(1);
            prop_assert!(inputs < last, "{inputs} after {last}");
            last = inputs;
            let load = load(inputs, inputs * row);
            let size = match unit {
                Some(Unit::Tokens) => (load.tokens as f64 * ratio) as usize,
                Some(Unit::Bytes) => load.bytes,
                Some(Unit::Inputs) | None => load.inputs,
            };
            if size <= most || inputs == 1 {
                break;
            }
            let (limit, found) = match truth {
                0 => (Some(most as u64), Some(size as u64)),
                1 => (None, None),
                2 => (None, Some(size as u64)),
                _ => (lie, lie),
            };
            learned.on_oversize(load, &Oversize { part: Part::Batch, unit, limit, found });
            prop_assert!(step <= 14, "still {inputs} inputs");
        }
    }

    #[test]
    fn the_estimate_comes_down_to_what_is_counted_and_stays_above_it(
        ratio in 0.5f64..2.0, sizes in proptest::collection::vec(FEW..300_000, 100..150),
    ) {
        let mut learned = Learned::default();
        for (i, size) in sizes.into_iter().enumerate() {
            let counted = (size as f64 * ratio) as u64;
            // The first request shows whether the estimate is too low.
            prop_assert!((i == 0 && ratio > 1.0) || learned.tokens(size) + 1 >= counted);
            learned.on_usage(load(1, size), counted);
        }
        let now = learned.tokens(100_000) as f64 / 100_000.0;
        prop_assert!(now >= ratio * 0.99 && now <= ratio * MARGIN * 1.01, "{now} for {ratio}");
    }

    #[test]
    fn a_refused_text_becomes_shorter_until_nothing_is_left(
        tokens in 1usize..100_000, unit in unit(), limit in proptest::option::of(figure()), found in proptest::option::of(figure()),
    ) {
        let what = Oversize { part: Part::Input, unit, limit, found };
        let next = shorter(tokens, &what);
        prop_assert!(next < tokens);
        prop_assert!(limit.is_some() && found.is_some() || next == tokens / 2);
    }

    #[test]
    fn a_limit_that_is_not_stated_is_found(most in 1usize..3000, speaks in any::<bool>()) {
        let (refused, last) = after_many_batches(100, speaks, |rows| rows.len() > most);
        let wanted = most.min(DEFINED.batch_inputs);
        prop_assert!(last <= wanted && last >= wanted - (wanted / 16).max(1), "{last} for {most}");
        // The halves of the first full batches count here too.
        let of_halves = if speaks { 0 } else { 2 * DEFINED.batch_inputs / most.min(DEFINED.batch_inputs) };
        prop_assert!(refused <= 2 * 11 + 2 * of_halves, "{refused} refused");
    }

    #[test]
    fn bad_texts_are_not_taken_for_a_limit(poison in proptest::collection::btree_set(0usize..50_000, 0..20)) {
        let mut learned = Learned::default();
        let batches = (0..50_000).step_by(DEFINED.batch_inputs).map(|start| start..start + DEFINED.batch_inputs);
        for batch in batches {
            let mut waiting = Vec::from_iter(Some(batch));
            while let Some(rows) = waiting.pop() {
                if poison.range(rows.clone()).next().is_none() {
                    learned.on_success(load(rows.len(), rows.len() * 10), S, 30 * S);
                } else if let Some((left, right)) = bisect(&rows) {
                    learned.on_refused(load(rows.len(), rows.len() * 10));
                    waiting.extend([right, left]);
                }
            }
            prop_assert_eq!(learned.limits(&DEFINED).batch_inputs, DEFINED.batch_inputs);
        }
    }
}

/// Batches as full as may be, halved where they are refused: how many were refused, and the size of the last full one.
fn after_many_batches(count: usize, speaks: bool, refuses: impl Fn(&std::ops::Range<usize>) -> bool) -> (usize, usize) {
    let mut learned = Learned::default();
    let (mut refused, mut last) = (0, 0);
    for _ in 0..count {
        last = learned.limits(&DEFINED).batch_inputs;
        let mut waiting = Vec::from_iter(Some(0..last));
        while let Some(rows) = waiting.pop() {
            let load = load(rows.len(), rows.len() * 10);
            if !refuses(&rows) {
                learned.on_success(load, S, 30 * S);
                continue;
            }
            refused += 1;
            if speaks {
                learned.on_oversize(load, &too_large(Part::Batch, Unit::Inputs, None, None));
                break;
            }
            learned.on_refused(load);
            if let Some((left, right)) = bisect(&rows) {
                waiting.extend([right, left]);
            }
        }
    }
    (refused, last)
}

#[test]
fn stated_limits_are_taken_over() {
    let mut learned = Learned::default();
    learned.on_oversize(load(2048, 20_000), &too_large(Part::Batch, Unit::Inputs, Some(512), Some(2048)));
    assert_eq!(learned.limits(&DEFINED).batch_inputs, 512);
    learned.on_oversize(load(512, 60_000), &too_large(Part::Batch, Unit::Tokens, Some(50_000), Some(90_000)));
    assert_eq!(learned.limits(&DEFINED).batch_tokens, 33_333);
    learned.on_oversize(load(100, 5000), &too_large(Part::Batch, Unit::Bytes, Some(9000), None));
    assert_eq!(learned.limits(&DEFINED).batch_bytes, 9000);
    let smaller = Limits { batch_inputs: 10, batch_tokens: 100, batch_bytes: 1000, input_tokens: 50 };
    assert_eq!(learned.limits(&smaller), Limits { batch_tokens: 66, ..smaller });
}

#[test]
fn a_limit_that_was_lifted_is_noticed() {
    let mut finder = Finder::default();
    let mut largest = 0;
    for i in 0..1000 {
        let size = finder.limit().min(2048);
        let most = if i < 100 { 100 } else { 1000 };
        if size > most {
            finder.on_refused(size)
        } else {
            finder.on_taken(size)
        }
        largest = size;
    }
    assert!((900..=1000).contains(&largest), "{largest}");
}

#[test]
fn single_texts_are_cut_by_what_is_stated() {
    let refuse = |inputs, tokens, limit, found| {
        let mut learned = Learned::default();
        learned.on_oversize(load(inputs, tokens), &too_large(Part::Input, Unit::Tokens, limit, found));
        learned.limits(&DEFINED).input_tokens
    };
    assert_eq!(refuse(1, 8000, Some(512), None), 512);
    assert_eq!(refuse(9, 8000, Some(512), Some(600)), 512, "which of them was too long is not known");
    assert_eq!(refuse(1, 8000, Some(8192), Some(12_000)), 5461);
    assert_eq!(refuse(1, 8000, Some(8192), Some(80_000)), 4096, "no text says so much about all others");
    assert_eq!(refuse(1, 100, Some(8192), Some(9000)), 8192, "a short text says nothing about others");
    assert_eq!(refuse(1, 8000, None, Some(9000)), 8192);
    assert_eq!(refuse(1, 8000, Some(1), None), 8192, "no model takes so little");
    let what = too_large(Part::Input, Unit::Tokens, Some(500), Some(1000));
    assert_eq!(shorter(800, &what), 380);
}

#[test]
fn batches_are_what_a_server_manages_in_time() {
    let mut learned = Learned::default();
    let inputs = |learned: &Learned| learned.limits(&DEFINED).batch_inputs;
    learned.on_timeout(load(2048, 20_000));
    assert_eq!(inputs(&learned), 1024);
    learned.on_success(load(1000, 10_000), S, 30 * S);
    assert_eq!(inputs(&learned), 1024, "it was not tried");
    learned.on_success(load(1024, 10_000), 28 * S, 30 * S);
    assert_eq!(inputs(&learned), 1024, "no more is managed");
    learned.on_success(load(1024, 10_000), 18 * S, 30 * S);
    assert_eq!(inputs(&learned), 1280);
    learned.on_success(load(1280, 10_000), S, 30 * S);
    assert_eq!(inputs(&learned), 2048);
    for _ in 0..20 {
        let inputs = inputs(&learned);
        learned.on_timeout(load(inputs, inputs));
    }
    assert_eq!(inputs(&learned), 1);
    learned.on_success(load(1, 1), Duration::ZERO, 30 * S);
    assert_eq!(inputs(&learned), 2);
}

#[test]
fn small_requests_and_none_say_nothing() {
    let mut learned = Learned::default();
    learned.on_usage(load(1, FEW - 1), 10_000);
    learned.on_usage(load(1, FEW), 0);
    assert_eq!(learned.tokens(1000), 1000);
    assert_eq!(learned.estimate(usize::MAX), usize::MAX);
    assert_eq!(learned.estimate(0), 1);
}
