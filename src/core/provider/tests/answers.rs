//! Every provider's reader against answers that must not be believed.

use super::fixtures::{ROWS, any_model, fixtures, remote_providers};
use super::*;
use crate::error::Action::{Retry, Split};

/// Where a provider's answer keeps its list of items, and where an item keeps its numbers.
fn places(provider: Provider) -> (&'static str, &'static str) {
    match provider {
        Provider::Tei => ("", ""),
        Provider::Ollama => ("/embeddings", ""),
        Provider::Cohere => ("/embeddings/float", ""),
        Provider::Gemini => ("/embeddings", "/values"),
        _ => ("/data", "/embedding"),
    }
}

/// The documented answer of a provider with its list of items changed.
fn changed(provider: Provider, change: impl FnOnce(&mut Vec<Value>)) -> String {
    let (_, mut answer) = fixtures(provider, "answer").remove(0);
    let items = answer.pointer_mut(places(provider).0).unwrap().as_array_mut().unwrap();
    change(items);
    answer.to_string()
}

/// The same with the numbers of the second item replaced, as text, so that they need not be JSON.
fn with_numbers(provider: Provider, numbers: &str) -> String {
    let mark = json!("THE NUMBERS");
    let body = changed(provider, |items| *items[1].pointer_mut(places(provider).1).unwrap() = mark.clone());
    body.replace(&mark.to_string(), numbers)
}

fn has_index(provider: Provider) -> bool {
    changed(provider, |_| {}).contains("\"index\"")
}

#[test]
fn vectors_are_put_in_their_places() {
    let mut with_index = 0;
    for provider in remote_providers() {
        let body = changed(provider, |items| items.reverse());
        let answer = read_answer(&any_model(provider), 2, &ok(body)).unwrap();
        let [first, second] = ROWS;
        if has_index(provider) {
            assert_eq!(answer.vectors.data, [first, second].concat(), "{provider}");
            with_index += 1;
        } else {
            assert_eq!(answer.vectors.data, [second, first].concat(), "{provider}");
        }
    }
    assert_eq!(with_index, 5);
}

#[test]
fn no_provider_believes_a_bad_answer() {
    for provider in remote_providers() {
        let too_few = changed(provider, |items| drop(items.pop()));
        let none = changed(provider, |items| items.clear());
        let too_many = changed(provider, |items| items.push(items[1].clone()));
        let mut cases = vec![
            ("too few", Split, "wrong_count", too_few),
            ("none", Split, "wrong_count", none),
            ("too many", Split, "wrong_count", too_many),
            ("short", Split, "bad_vector", with_numbers(provider, "[1, 2]")),
            ("long", Split, "bad_vector", with_numbers(provider, "[1, 2, 3, 4]")),
            ("empty", Split, "bad_vector", with_numbers(provider, "[]")),
            ("zero", Split, "bad_vector", with_numbers(provider, "[0, 0.0, -0.0]")),
            ("too large", Split, "bad_vector", with_numbers(provider, "[1e39, 0, 1]")),
            ("a number of null", Split, "bad_vector", with_numbers(provider, "[null, 0, 1]")),
            ("NaN", Split, "bad_vector", with_numbers(provider, "[NaN, 0, 1]")),
            ("infinite", Split, "bad_vector", with_numbers(provider, "[-Infinity, 0, 1]")),
            ("no base64", Split, "bad_vector", with_numbers(provider, "\"%%%%\"")),
            ("null", Retry, "bad_answer", with_numbers(provider, "null")),
            ("an object", Retry, "bad_answer", with_numbers(provider, "{}")),
            ("texts", Retry, "bad_answer", with_numbers(provider, "[\"1\", 0, 1]")),
            ("one level too many", Retry, "bad_answer", with_numbers(provider, "[[1, 2, 3]]")),
            ("an error with 200", Retry, "bad_answer", r#"{"error": {"message": "overloaded"}}"#.to_owned()),
            ("a text", Retry, "bad_answer", "\"ok\"".to_owned()),
            ("null alone", Retry, "bad_answer", "null".to_owned()),
            ("nothing", Retry, "bad_answer", String::new()),
            ("deep", Retry, "bad_answer", "[".repeat(200_000)),
            ("deep in an object", Retry, "bad_answer", "{\"a\":".repeat(200_000)),
        ];
        if has_index(provider) {
            let double = changed(provider, |items| items[0]["index"] = json!(1));
            let beyond = changed(provider, |items| items[0]["index"] = json!(2));
            let half = changed(provider, |items| items[0]["index"] = Value::Null);
            let negative = changed(provider, |items| items[0]["index"] = json!(-1));
            cases.push(("double", Split, "wrong_count", double));
            cases.push(("beyond", Split, "wrong_count", beyond));
            cases.push(("half without", Split, "wrong_count", half));
            cases.push(("negative", Retry, "bad_answer", negative));
        }
        for (what, action, code, body) in cases {
            let failure = read_answer(&any_model(provider), 2, &ok(body)).expect_err(&format!("{provider}: {what}"));
            assert_eq!((&failure.action, failure.code.as_str()), (&action, code), "{provider}: {what}: {failure:?}");
        }
        let wrong = changed(provider, |items| {
            for item in items {
                *item.pointer_mut(places(provider).1).unwrap() = json!([1, 2]);
            }
        });
        let failure = read_answer(&any_model(provider), 2, &ok(wrong)).unwrap_err();
        assert_eq!((failure.action, failure.code.as_str()), (Action::Halt, "wrong_dimensions"), "{provider}");
    }
}

#[test]
fn a_count_that_is_none_costs_no_vectors() {
    let read = |count: &str| {
        let body = format!(r#"{{"data": [{{"embedding": [1, 1, 1]}}], "usage": {{"total_tokens": {count}}}}}"#);
        read_answer(&openai(), 1, &ok(body)).unwrap().tokens
    };
    for (count, tokens) in [("7", Some(7)), ("7.0", Some(7)), ("0", Some(0))] {
        assert_eq!(read(count), tokens, "{count}");
    }
    for count in ["-7", "-7.5", "1e300", "null", "true", "\"7\"", "[1, [2]]", "{\"a\": {}}"] {
        assert_eq!(read(count), None, "{count}");
    }
}
