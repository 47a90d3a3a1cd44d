//! What the limits refuse, cut and slow down, and how they say so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod client;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use autoembed_stub::{Beyond, Capacity, Format, Limits, Pace, RetryAfter, Stub, StubConfig, Vectors, hashed_vector};
use client::{Answer, Client, answered, openai, path, request, said, with};
use serde_json::json;

const LONG: Duration = Duration::from_secs(20);

fn stub(limits: Limits) -> Stub {
    Stub::start(StubConfig { limits, ..StubConfig::vectors(Vectors::Hashed(4)) }).unwrap()
}

fn post(stub: &Stub, inputs: &[&str]) -> Answer {
    Client::connect(stub).post("/v1/embeddings", &openai(inputs))
}

#[test]
fn a_sliding_window_of_requests() {
    let stub = stub(Limits { requests_per_window: Some(2), window_ms: 300, ..Limits::default() });
    let start = Instant::now();
    let first = post(&stub, &["a"]);
    assert_eq!(first.header("x-ratelimit-limit-requests"), Some("2"));
    assert_eq!(first.header("x-ratelimit-remaining-requests"), Some("1"));
    assert!(first.header("x-ratelimit-reset-requests").unwrap().ends_with("ms"));
    assert_eq!(first.header("x-ratelimit-limit-tokens"), None, "nothing of what has no limit");
    assert_eq!(post(&stub, &["a"]).status, 200);
    // Again and again until there is room: not before the first has left the window.
    let mut refused = 0;
    while post(&stub, &["a"]).status == 429 {
        refused += 1;
        assert!(start.elapsed() < LONG);
    }
    assert!(refused > 0 && start.elapsed() >= Duration::from_millis(300));
    let stats = stub.stats();
    assert_eq!((stats.limited, stats.by_status[&200], stats.by_status[&429]), (refused, 3, refused));
    assert!(stats.max_window_requests > 2, "what was refused came all the same");
}

#[test]
fn a_window_of_tokens() {
    let stub = stub(Limits { tokens_per_window: Some(5), ..Limits::default() });
    let answer = post(&stub, &["abcd", "abcdefgh"]);
    assert_eq!(answer.json()["usage"]["total_tokens"], 3);
    assert_eq!(answer.header("x-ratelimit-limit-tokens"), Some("5"));
    assert_eq!(answer.header("x-ratelimit-remaining-tokens"), Some("2"));
    let reset = answer.header("x-ratelimit-reset-tokens").unwrap();
    assert!(reset == "1m0s" || reset.starts_with("59."), "{reset}");
    let refused = post(&stub, &["abcd", "abcd", "abcd"]);
    assert_eq!(refused.status, 429);
    let error = &refused.json()["error"];
    assert_eq!((error["type"].as_str(), error["code"].as_str()), (Some("tokens"), Some("rate_limit_exceeded")));
    assert!(error["message"].as_str().unwrap().contains("Limit 5, Requested 3. Please try again in "), "{error}");
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((55..=60).contains(&wait), "{wait}");
    assert_eq!(refused.header("x-ratelimit-remaining-tokens"), Some("2"), "a refusal uses nothing up");
    let never = post(&stub, &["abcdefghijklmnopqrstuvwxyz"]);
    assert_eq!((never.status, never.header("retry-after")), (429, None));
    assert!(said(Format::OpenAi, &never.json()).starts_with("Request too large"));
    assert_eq!(post(&stub, &["abcdefgh"]).status, 200);
    let stats = stub.stats();
    assert_eq!((stats.tokens, stats.limited, stats.max_window_tokens), (5, 2, 3 + 3 + 7 + 2));
}

#[test]
fn an_even_bucket_of_a_short_window() {
    let limits = Limits { requests_per_window: Some(60), pace: Pace::Even, window_ms: 6000, ..Limits::default() };
    let stub = stub(limits);
    let start = Instant::now();
    let mut done = 0;
    while done < 4 {
        done += u32::from(post(&stub, &["a"]).status == 200);
        assert!(start.elapsed() < LONG);
    }
    assert!(start.elapsed() >= Duration::from_millis(300), "one at once, and one each 100 ms");
}

#[test]
fn refusals_say_when_in_every_way() {
    let refused = |retry_after| {
        let stub = stub(Limits { requests_per_window: Some(1), retry_after, ..Limits::default() });
        assert_eq!(post(&stub, &["a"]).status, 200);
        post(&stub, &["a"])
    };
    let millis = refused(RetryAfter::Millis);
    let wait: u64 = millis.header("retry-after-ms").unwrap().parse().unwrap();
    assert!((55_000..=60_000).contains(&wait), "{wait}");
    assert_eq!(millis.header("retry-after"), None);
    let none = refused(RetryAfter::None);
    assert_eq!((none.header("retry-after"), none.header("retry-after-ms")), (None, None));
    assert!(!said(Format::OpenAi, &none.json()).contains("try again in"));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let date = refused(RetryAfter::Date).header("retry-after").unwrap().to_owned();
    assert!(date.ends_with(" GMT") && date.len() == 29, "{date}");
    let clock: Vec<u64> = date[17..25].split(':').map(|part| part.parse().unwrap()).collect();
    let told = clock[0] * 3600 + clock[1] * 60 + clock[2];
    let ahead = (told + 86_400 - now % 86_400) % 86_400;
    assert!((55..=70).contains(&ahead), "{date} is {ahead} s ahead");
}

#[test]
fn gemini_says_when_in_the_body() {
    let limits = Limits { requests_per_window: Some(2), count_inputs: true, ..Limits::default() };
    let stub = stub(limits);
    let ask = |texts: &[&str]| Client::connect(&stub).post(&path(Format::Gemini), &request(Format::Gemini, texts));
    assert_eq!(ask(&["a", "b"]).status, 200);
    let refused = ask(&["c"]);
    assert_eq!((refused.status, refused.json()["error"]["status"].as_str()), (429, Some("RESOURCE_EXHAUSTED")));
    let details = refused.json()["error"]["details"].as_array().unwrap().clone();
    let delay = details.iter().find_map(|detail| detail["retryDelay"].as_str()).unwrap().to_owned();
    let seconds: f64 = delay.strip_suffix('s').unwrap().parse().unwrap();
    assert!((55.0..=60.0).contains(&seconds), "{delay}");
}

#[test]
fn a_quota_that_ends_is_not_mended_by_waiting() {
    for format in Format::ALL {
        let stub = stub(Limits { quota_tokens: Some(2), ..Limits::default() });
        let ask = || Client::connect(&stub).post(&path(format), &request(format, &["a", "b"]));
        assert_eq!(ask().status, 200);
        let spent = ask();
        let status = match format {
            Format::Cohere | Format::Jina | Format::Mistral => 402,
            Format::Azure => 403,
            _ => 429,
        };
        assert_eq!((spent.status, spent.header("retry-after")), (status, None), "{format:?}");
        if format == Format::OpenAi {
            assert_eq!(spent.json()["error"]["code"], "insufficient_quota");
        }
        assert_eq!(stub.stats().limited, 1);
    }
}

#[test]
fn a_text_that_is_too_long_is_cut_or_refused() {
    for format in Format::ALL {
        let stub = stub(Limits { tokens_per_input: Some(2), ..Limits::default() });
        let body = request(format, &["abcdefgh", "abcdefghi"]);
        let answer = Client::connect(&stub).post(&path(format), &body);
        if matches!(format, Format::Ollama | Format::Cohere | Format::Voyage | Format::Gemini) {
            let found = answered(format, &answer.json());
            assert_eq!(found, [hashed_vector("abcdefgh", 4), hashed_vector("abcdefgh", 4)], "{format:?}");
            assert_eq!((stub.stats().tokens, stub.requests()[0].tokens), (4, 5), "what was cut costs nothing");
        } else {
            assert_eq!(answer.status, if format == Format::Tei { 413 } else { 400 }, "{format:?}");
            assert!(said(format, &answer.json()).contains('2'), "{format:?} names its limit");
            assert_eq!(stub.stats().oversized, 1);
        }
        let strict = match format {
            Format::Ollama => with(body, "truncate", json!(false)),
            Format::Cohere => with(body, "truncate", json!("NONE")),
            Format::Voyage => with(body, "truncation", json!(false)),
            Format::Tei | Format::Jina => {
                let lenient = with(body, "truncate", json!(true));
                assert_eq!(Client::connect(&stub).post(&path(format), &lenient).status, 200, "{format:?}");
                continue;
            }
            _ => continue,
        };
        assert_eq!(Client::connect(&stub).post(&path(format), &strict).status, 400, "{format:?}");
    }
}

#[test]
fn a_batch_that_is_too_long_is_refused() {
    for format in Format::ALL {
        let stub = stub(Limits { tokens_per_request: Some(2), inputs_per_request: Some(3), ..Limits::default() });
        let ask = |texts: &[&str]| Client::connect(&stub).post(&path(format), &request(format, texts));
        assert_eq!(ask(&["a", "b"]).status, 200, "{format:?}");
        let status = if format == Format::Tei { 413 } else { 400 };
        let long = ask(&["a", "b", "c"]);
        assert_eq!(long.status, status, "{format:?}");
        assert!(said(format, &long.json()).contains("token"), "{format:?}");
        let many = ask(&["a", "b", "c", "d"]);
        assert_eq!(many.status, status, "{format:?}");
        assert_ne!(said(format, &many.json()), said(format, &long.json()), "{format:?}");
        assert_eq!((stub.stats().oversized, stub.stats().limited), (2, 0));
    }
}

#[test]
fn a_server_slows_down_beyond_its_capacity() {
    let stub = stub(Limits {
        capacity: Some(Capacity { at_once: 1, latency_ms: 100, beyond: Beyond::Slower }),
        ..Limits::default()
    });
    // Held until all are there, so that the second is one of two and the third one of three.
    stub.hold();
    let mut clients: Vec<Client> = (0..3).map(|_| Client::connect(&stub)).collect();
    for (sent, client) in clients.iter_mut().enumerate() {
        client.send("/v1/embeddings", &openai(&["a"]), "");
        assert!(stub.wait_held(sent as u64 + 1, LONG));
    }
    let start = Instant::now();
    stub.release();
    for (client, millis) in clients.iter_mut().zip([100, 200, 300]) {
        assert_eq!(client.read().unwrap().status, 200);
        assert!(start.elapsed() >= Duration::from_millis(millis), "{:?} of {millis} ms", start.elapsed());
    }
    assert_eq!((stub.stats().max_in_flight, stub.stats().limited), (3, 0));
}

#[test]
fn a_server_refuses_beyond_its_capacity() {
    for status in [503, 429] {
        let capacity = Capacity { at_once: 2, latency_ms: 0, beyond: Beyond::Status(status) };
        let stub = stub(Limits { capacity: Some(capacity), ..Limits::default() });
        stub.hold();
        let mut clients: Vec<Client> = (0..3).map(|_| Client::connect(&stub)).collect();
        for client in &mut clients {
            client.send("/v1/embeddings", &openai(&["a"]), "");
        }
        assert!(stub.wait_held(3, LONG));
        stub.release();
        let mut statuses: Vec<u16> = clients.iter_mut().map(|client| client.read().unwrap().status).collect();
        statuses.sort_unstable();
        let mut expected = [200, 200, status];
        expected.sort_unstable();
        assert_eq!(statuses, expected);
        assert_eq!(stub.stats().limited, 1);
        assert_eq!(post(&stub, &["a"]).status, 200);
    }
}

#[test]
fn limits_are_set_from_outside() {
    let stub = stub(Limits::default());
    let mut control = Client::connect(&stub);
    assert_eq!(control.post("/control/limits", &json!({"requests_per_window": 1, "headers": false})).status, 200);
    let first = post(&stub, &["a"]);
    assert_eq!((first.status, first.header("x-ratelimit-limit-requests")), (200, None));
    assert_eq!(post(&stub, &["a"]).status, 429);
    assert_eq!(control.post("/control/clear", &json!({})).status, 200);
    assert_eq!(post(&stub, &["a"]).status, 429, "limits are no part of the script");
    let wrong = control.post("/control/limits", &json!({"requests": 1}));
    assert_eq!(wrong.status, 400);
    assert!(wrong.json()["error"].as_str().unwrap().contains("unknown field"));
    assert_eq!(control.post("/control/limits", &json!({})).status, 200);
    assert_eq!(post(&stub, &["a"]).status, 200);
    let stats = control.get("/control/stats").json();
    assert_eq!((stats["limited"].as_u64(), stats["max_window_requests"].as_u64()), (Some(2), Some(3)));
    let records = control.get("/control/requests").json();
    assert_eq!(records.as_array().unwrap().len(), 4);
    assert_eq!((records[0]["format"].as_str(), records[1]["status"].as_u64()), (Some("openai"), Some(429)));
}
