//! Hostile answers: whatever a server sends, it becomes usable vectors or an error in words, and nothing else.
//!
//! `PROPTEST_CASES` says how many cases a property has, `PROPTEST_RNG_SEED` which ones; `make fuzz` sets both.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod corpus;
mod mutate;

use std::cell::Cell;
use std::fmt::Debug;

use autoembed_core::error::{MAX_MESSAGE, from_response};
use autoembed_core::provider::read_answer;
use autoembed_core::{Action, Failure, Model, Provider, Response, Secret};
use corpus::{Sample, remote_providers};
use mutate::{Change, changes, mutated};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

/// The key, a header's value and the url's query: none of them may be in what people read.
const KEY: &str = "sk-canary 0123456789";
const HEADER: &str = "canary-in-a-header";
const QUERY: &str = "canary-in-the-query";

/// Runs a property and prints how many cases it had.
fn fuzz<T: Debug>(
    name: &str,
    cases: u32,
    strategy: impl Strategy<Value = T>,
    property: impl Fn(T) -> Result<(), TestCaseError>,
) {
    let mut config = Config { failure_persistence: None, max_shrink_iters: 4_000, ..Config::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = cases;
    }
    let count = Cell::new(0_u64);
    let result = TestRunner::new(config).run(&strategy, |case| {
        count.set(count.get() + 1);
        property(case)
    });
    println!("fuzz: {name}: {} cases", count.get());
    if let Err(error) = result {
        panic!("{name}: {error}");
    }
}

fn model(provider: Provider, dimensions: usize) -> Model {
    let mut model = Model::new("m", provider, "remote", dimensions);
    model.url = Some(format!("https://localhost/v1?key={QUERY}"));
    model.options = json!({"headers": {"x-key": format!("Bearer {HEADER}")}});
    model
}

fn check_failure(failure: &Failure, inputs: usize) -> Result<(), TestCaseError> {
    let Failure { action, code, message, hint, oversize, .. } = failure;
    prop_assert!(!message.is_empty() && message.len() <= MAX_MESSAGE, "message: {:?}", failure);
    prop_assert!(!message.contains(char::is_control) && !hint.contains(char::is_control), "control: {:?}", failure);
    let is_code = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    prop_assert!(!code.is_empty() && code.len() <= 40 && code.chars().all(is_code), "code: {:?}", failure);
    prop_assert!(hint.len() > 20 && hint.ends_with(['.', ')']), "hint: {:?}", failure);
    for secret in [KEY, HEADER, QUERY] {
        prop_assert!(!format!("{failure:?}").contains(secret), "leak: {:?}", failure);
    }
    match action {
        Action::Split => prop_assert!(inputs > 1, "split of one: {:?}", failure),
        Action::Reject => prop_assert!(inputs <= 1, "reject of several: {:?}", failure),
        Action::SlowDown { after: Some(after) } => {
            prop_assert!(!after.is_zero() && after.as_secs() <= 3600, "wait: {:?}", failure);
        }
        Action::SlowDown { after: None } | Action::Retry | Action::Halt => {}
    }
    let figures = oversize.iter().flat_map(|oversize| [oversize.limit, oversize.found]).flatten();
    for figure in figures {
        prop_assert!((1..=1 << 30).contains(&figure), "figure: {:?}", failure);
    }
    Ok(())
}

/// Whether it was an answer.
fn check_answer(model: &Model, inputs: usize, body: Vec<u8>) -> Result<bool, TestCaseError> {
    let response = Response { status: 200, headers: Vec::new(), body };
    match read_answer(model, inputs, &response) {
        Ok(answer) => {
            let vectors = answer.vectors;
            prop_assert_eq!(vectors.dimensions, model.dimensions);
            prop_assert_eq!(vectors.data.len(), inputs * model.dimensions);
            prop_assert!(vectors.data.iter().all(|number| number.is_finite()));
            for row in vectors.data.chunks(model.dimensions) {
                prop_assert!(row.iter().any(|number| *number != 0.0), "zero row");
            }
            Ok(true)
        }
        Err(failure) => check_failure(&failure, inputs).map(|()| false),
    }
}

#[test]
fn the_corpus_has_answers_of_every_provider() {
    for provider in remote_providers() {
        let samples: Vec<_> = corpus::answers().into_iter().filter(|sample| sample.provider == provider).collect();
        assert!(!samples.is_empty(), "{provider} has no answer that can be read");
        assert!(samples.iter().all(|sample| sample.inputs > 0));
    }
    assert!(corpus::errors().len() >= 3 * remote_providers().len(), "{}", corpus::errors().len());
}

#[test]
fn answers_are_vectors_or_errors() {
    let (read, refused) = (Cell::new(0), Cell::new(0));
    let inputs = prop_oneof![6 => Just(None), 1 => (0_usize..6).prop_map(Some)];
    let dimensions = prop_oneof![6 => Just(None), 1 => select(vec![1_usize, 2, 3, 4, 5, 16_000]).prop_map(Some)];
    let case = (select(corpus::answers()), select(remote_providers()), any::<Index>(), inputs, dimensions, changes());
    fuzz("answers", 6_000, case, |(sample, other, chance, inputs, dimensions, changes)| {
        // One in eight is another provider's answer.
        let provider = if chance.index(8) == 0 { other } else { sample.provider };
        let model = model(provider, dimensions.unwrap_or(sample.dimensions));
        let is_read = check_answer(&model, inputs.unwrap_or(sample.inputs), mutated(&sample.body, &changes))?;
        let counter = if is_read { &read } else { &refused };
        counter.set(counter.get() + 1);
        Ok(())
    });
    // A property that only ever sees one of the two says little.
    assert!(read.get() * 50 > refused.get() && refused.get() * 50 > read.get(), "{read:?} read, {refused:?} refused");
}

#[test]
fn refusals_are_errors_in_words() {
    let status = prop_oneof![
        8 => select(vec![400_u16, 401, 402, 403, 404, 408, 413, 422, 424, 429, 498, 500, 502, 503, 529]),
        1 => any::<u16>(),
    ];
    let header = (
        select(vec!["retry-after", "Retry-After-Ms", "x-ratelimit-reset-requests", "x-ratelimit-remaining-tokens"]),
        prop_oneof![
            select(vec![
                "0",
                "-1",
                "1e400",
                "NaN",
                "6m0s",
                "86400",
                "Sun, 06 Nov 2094 08:49:37 GMT",
                "ms",
                "9999999999d"
            ])
            .prop_map(str::to_owned),
            "[0-9a-z. :,-]{0,12}",
        ],
    );
    let headers = proptest::collection::vec(header, 0..3);
    let case = (select(corpus::errors()), status, headers, 0_usize..4, any::<bool>(), changes(), any::<u32>());
    let key = Secret::new(KEY).unwrap();
    fuzz("refusals", 6_000, case, |(sample, other, headers, inputs, own, changes, now)| {
        let Sample { provider, status, body, .. } = sample;
        let response = Response {
            status: if own { status } else { other },
            headers: headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            body: mutated(&body, &changes),
        };
        let failure = from_response(&model(provider, 3), Some(&key), inputs, &response, u64::from(now));
        check_failure(&failure, inputs)
    });
}

#[test]
fn anything_at_all() {
    let body = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..300),
        r#"[\[\]{}",:0-9eE.+\\u-]{0,60}"#.prop_map(String::into_bytes),
    ];
    let case = (body, select(remote_providers()), 0_usize..4, 1_usize..4, any::<u16>());
    fuzz("anything", 4_000, case, |(body, provider, inputs, dimensions, status)| {
        let model = model(provider, dimensions);
        let response = Response { status, headers: Vec::new(), body: body.clone() };
        check_failure(&from_response(&model, None, inputs, &response, 0), inputs)?;
        check_answer(&model, inputs, body).map(|_| ())
    });
}

/// A server that repeats the key, in every spelling that ends up as the key in front of people.
#[test]
fn keys_stay_unsaid_however_they_are_spelled() {
    let key = Secret::new(KEY).unwrap();
    let escaped: String = KEY.chars().map(|c| format!("\\u{:04x}", u32::from(c))).collect();
    let half = KEY.replace("sk", "\\u0073k");
    let broken = KEY.replace(' ', "\\u0000");
    let lines = KEY.replace(' ', "\\r\\n  ");
    let hidden = KEY.replace(' ', "\u{200b}");
    let mut seen = 0;
    for spelled in [KEY, HEADER, QUERY, &escaped, &half, &broken, &lines, &hidden] {
        for body in [
            format!("{{\"error\": \"bad key {spelled}.\"}}"),
            format!(
                "{{\"error\": {{\"message\": \"{spelled}\", \"code\": \"billing_{spelled}\", \"type\": \"{spelled}\"}}}}"
            ),
            format!("{{\"detail\": [{{\"msg\": \"{spelled}\"}}, \"{spelled}\"]}}"),
            format!("\u{feff}{{\"message\": \"{}{spelled}\"}}", "x ".repeat(240)),
            format!("bad key {spelled}"),
            format!("<html>{spelled}"),
        ] {
            for status in [400, 401, 404, 429, 500] {
                let response = Response { status, headers: Vec::new(), body: body.clone().into_bytes() };
                let failure = from_response(&model(Provider::OpenAi, 3), Some(&key), 1, &response, 0);
                check_failure(&failure, 1).unwrap_or_else(|error| panic!("{body}: {error}"));
                seen += usize::from(failure.message.contains("[redacted]"));
            }
        }
    }
    assert!(seen > 100, "{seen}");
}

/// What the mutations are made of, so that a change of theirs cannot silently stop them from changing anything.
#[test]
fn mutations_change_what_they_are_given() {
    let sample = corpus::answers().remove(0);
    let cases = Cell::new((0_u32, 0_u32));
    fuzz("mutations", 300, changes(), |changes: Vec<Change>| {
        let changed = mutated(&sample.body, &changes) != sample.body;
        let (all, other) = cases.get();
        cases.set((all + 1, other + u32::from(changed || changes.is_empty())));
        Ok(())
    });
    let (all, other) = cases.get();
    assert!(other * 10 > all * 8, "{other} of {all}");
}
