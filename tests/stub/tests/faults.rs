//! Every fault does on the wire what its name says, and the stub is well again afterwards.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod client;

use std::io::Read;
use std::time::{Duration, Instant};

use autoembed_stub::{Body, Do, Fault, Rule, Script, Stub, StubConfig, Vectors, hashed_vector};
use client::{Answer, Client, floats, ollama, openai, vector, vectors};
use serde_json::{Value, json};

const LONG: Duration = Duration::from_secs(20);

fn stub() -> Stub {
    Stub::start(StubConfig::vectors(Vectors::Hashed(6))).unwrap()
}

/// The answer to three inputs with a fault, and that the next request is answered well.
fn struck(fault: impl Into<Do>) -> Answer {
    let stub = stub();
    stub.script(Script::first(1, fault));
    let answer = Client::connect(&stub).post("/v1/embeddings", &openai(&["a", "b", "c"]));
    let after = Client::connect(&stub).post("/v1/embeddings", &openai(&["a"]));
    assert_eq!(after.status, 200);
    assert_eq!(vectors(&after.json()), [hashed_vector("a", 6)]);
    answer
}

fn base64_of(fault: Fault) -> Value {
    let stub = stub();
    stub.script(Script::always(fault));
    let wanted = json!({"model": "m", "input": ["a", "b"], "encoding_format": "base64"});
    Client::connect(&stub).post("/v1/embeddings", &wanted).json()
}

#[test]
fn status_with_the_body_that_fits() {
    let cases = [
        (400, Body::Auto, "invalid_request_error", Value::Null),
        (401, Body::Auto, "invalid_request_error", json!("invalid_api_key")),
        (404, Body::Auto, "invalid_request_error", json!("model_not_found")),
        (429, Body::Auto, "requests", json!("rate_limit_exceeded")),
        (429, Body::InsufficientQuota, "insufficient_quota", json!("insufficient_quota")),
        (413, Body::TooLong, "invalid_request_error", json!("context_length_exceeded")),
        (500, Body::Auto, "server_error", Value::Null),
        (503, Body::Auto, "server_error", json!("overloaded")),
    ];
    for (code, body, kind, name) in cases {
        let answer = struck(Fault::status_with(code, body).header("retry-after", "7"));
        assert_eq!((answer.status, answer.header("retry-after")), (code, Some("7")));
        assert_eq!(answer.json()["error"]["type"], kind, "{code}");
        assert_eq!(answer.json()["error"]["code"], name, "{code}");
    }
    assert_eq!(struck(Fault::status_with(502, Body::Empty)).body, b"");
    let raw = struck(Fault::status_with(502, Body::Raw("<b>bad gateway</b>".into())));
    assert_eq!(
        (raw.header("content-type"), raw.body.as_slice()),
        (Some("text/plain"), b"<b>bad gateway</b>".as_slice())
    );
    let raw = struck(Fault::status_with(422, Body::Raw(r#"{"detail":"no"}"#.into())));
    assert_eq!(raw.json()["detail"], "no");
}

#[test]
fn ollama_errors_are_a_string() {
    let stub = stub();
    stub.script(Script::always(Fault::status(404)));
    let answer = Client::connect(&stub).post("/api/embed", &ollama(&["a"]));
    assert_eq!(answer.status, 404);
    assert!(answer.json()["error"].as_str().unwrap().contains("model"));
}

#[test]
fn delay_then_answer_and_delay_then_fault() {
    let wait = Duration::from_millis(150);
    let start = Instant::now();
    assert_eq!(struck(Do::delay(wait)).status, 200);
    assert!(start.elapsed() >= wait);
    let start = Instant::now();
    assert_eq!(struck(Do::delay(wait).then(Fault::status(500))).status, 500);
    assert!(start.elapsed() >= wait);
}

#[test]
fn hang_lasts_until_the_client_closes() {
    let stub = stub();
    stub.script(Script::first(1, Fault::Hang));
    let mut client = Client::connect(&stub);
    client.send("/v1/embeddings", &openai(&["a"]), "");
    assert!(stub.wait_requests(1, LONG));
    client.stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let silence = client.stream.read(&mut [0]).unwrap_err();
    assert!(matches!(silence.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut));
    assert_eq!(stub.stats().in_flight, 1);
    drop(client);
    assert!(stub.wait_stats(LONG, |stats| stats.in_flight == 0));
    assert_eq!(stub.stats().by_status[&0], 1);
}

#[test]
fn close_answers_nothing() {
    let stub = stub();
    stub.script(Script::first(1, Fault::Close));
    let mut client = Client::connect(&stub);
    client.send("/v1/embeddings", &openai(&["a"]), "");
    assert!(client.read().is_none());
    assert_eq!(stub.requests()[0].status, 0);
}

#[test]
fn truncate_ends_within_the_body() {
    let answer = struck(Fault::Truncate(25));
    assert_eq!((answer.status, answer.body.len(), answer.complete), (200, 25, false));
    assert!(struck(Fault::Truncate(0)).body.is_empty());
}

#[test]
fn slow_body_drips_and_is_whole_in_the_end() {
    let stub = stub();
    stub.script(Script::first(1, Fault::SlowBody { bytes: 40, interval_ms: 10 }));
    let mut client = Client::connect(&stub);
    let start = Instant::now();
    let answer = client.post("/v1/embeddings", &openai(&["a"]));
    assert!(answer.complete && answer.body.len() > 80);
    assert!(start.elapsed() >= Duration::from_millis(10 * (answer.body.len() as u64 / 40)));
    assert_eq!(vectors(&answer.json()), [hashed_vector("a", 6)]);
    assert_eq!(client.post("/v1/embeddings", &openai(&["b"])).status, 200, "the connection lives on");
}

#[test]
fn endless_goes_on_until_the_client_closes() {
    let stub = stub();
    stub.script(Script::first(1, Fault::Endless));
    let mut client = Client::connect(&stub);
    client.send("/v1/embeddings", &openai(&["a"]), "");
    assert_eq!(client.read_head().unwrap().header("transfer-encoding"), Some("chunked"));
    let mut piece = vec![0; 1 << 20];
    let mut seen = 0;
    while seen < 32 << 20 {
        seen += client.stream.read(&mut piece).unwrap();
    }
    drop(client);
    assert!(stub.wait_stats(LONG, |stats| stats.in_flight == 0));
    assert!(stub.stats().bytes > 30 << 20);
}

#[test]
fn redirect_points_home_or_where_told() {
    let home = struck(Fault::Redirect(None));
    assert_eq!((home.status, home.header("location")), (302, Some("/v1/embeddings")));
    let away = struck(Fault::Redirect(Some("http://127.0.0.1:9/v1".into())));
    assert_eq!(away.header("location"), Some("http://127.0.0.1:9/v1"));
}

#[test]
fn bodies_that_are_no_answer() {
    let html = struck(Fault::Html);
    assert_eq!((html.status, html.header("content-type")), (200, Some("text/html")));
    assert!(html.body.starts_with(b"<!DOCTYPE html>"));
    let junk = struck(Fault::NotJson);
    assert_eq!((junk.status, junk.header("content-type")), (200, Some("application/json")));
    assert!(serde_json::from_slice::<Value>(&junk.body).is_err());
    let deep = struck(Fault::DeepJson);
    assert_eq!((deep.body.len(), deep.body[199_999], deep.body[200_000]), (400_000, b'[', b']'));
    let plain = struck(Fault::WrongContentType);
    assert_eq!(plain.header("content-type"), Some("text/plain"));
    assert_eq!(vectors(&plain.json()).len(), 3);
}

#[test]
fn gzip_bomb_unpacks_to_what_was_asked() {
    let bomb = struck(Fault::GzipBomb(64));
    assert_eq!(bomb.header("content-encoding"), Some("gzip"));
    assert!(bomb.body.len() < 1 << 20, "{} bytes", bomb.body.len());
    let mut unpacked = Vec::new();
    // The checksum at the end is wrong on purpose; everything before it is a real stream.
    let _ = flate2::read::GzDecoder::new(bomb.body.as_slice()).read_to_end(&mut unpacked);
    assert!(unpacked.len() > 63 << 20, "{} bytes", unpacked.len());
    assert!(unpacked.iter().all(|&byte| byte == b' '));
}

#[test]
fn wrong_dimensions_in_every_item() {
    let found = vectors(&struck(Fault::WrongDimensions(5)).json());
    assert!(found.iter().all(|vector| vector.len() == 5));
    assert_eq!(found.len(), 3);
}

#[test]
fn values_that_are_none() {
    let nan = struck(Fault::Nan);
    assert!(String::from_utf8(nan.body).unwrap().contains("NaN"));
    let inf = struck(Fault::Inf);
    assert!(String::from_utf8_lossy(&inf.body).contains("1e39"));
    let parsed: Vec<f32> = floats(&inf.json()["data"][0]["embedding"]);
    assert!(parsed.iter().any(|x| x.is_infinite()));
    let zero = vectors(&struck(Fault::Zero).json());
    assert_eq!(zero[0], [0.0; 6]);
    assert_eq!(zero[1], hashed_vector("b", 6));
    assert!(vector(&base64_of(Fault::Nan)["data"][0]["embedding"]).iter().any(|x| x.is_nan()));
    assert!(vector(&base64_of(Fault::Inf)["data"][0]["embedding"]).iter().any(|x| x.is_infinite()));
    assert_eq!(vector(&base64_of(Fault::Inf)["data"][1]["embedding"]), hashed_vector("b", 6));
}

#[test]
fn a_marked_text_is_the_one_that_is_struck() {
    let stub = stub();
    stub.script(Script::default().rule(Rule::new(Fault::Zero).text_contains("bad")));
    let mut client = Client::connect(&stub);
    let body = client.post("/v1/embeddings", &openai(&["good", "bad one", "fine"])).json();
    let found = vectors(&body);
    assert_eq!(found, [hashed_vector("good", 6), vec![0.0; 6], hashed_vector("fine", 6)]);
    assert_eq!(vectors(&client.post("/v1/embeddings", &openai(&["good"])).json()), [hashed_vector("good", 6)]);
}

#[test]
fn items_missing_doubled_added_moved() {
    let indexes = |fault: Fault| -> Vec<Option<u64>> {
        let body = struck(fault).json();
        body["data"].as_array().unwrap().iter().map(|item| item["index"].as_u64()).collect()
    };
    assert_eq!(indexes(Fault::Missing), [Some(1), Some(2)]);
    assert_eq!(indexes(Fault::Double), [Some(0), Some(1), Some(0)]);
    assert_eq!(indexes(Fault::Extra), [Some(0), Some(1), Some(2), Some(3)]);
    assert_eq!(indexes(Fault::NoIndex), [None, None, None]);
    let body = struck(Fault::Shuffled).json();
    let texts = ["a", "b", "c"];
    let mut moved = 0;
    for (place, item) in body["data"].as_array().unwrap().iter().enumerate() {
        let index = item["index"].as_u64().unwrap() as usize;
        moved += usize::from(index != place);
        assert_eq!(vector(&item["embedding"]), hashed_vector(texts[index], 6), "the index tells the truth");
    }
    assert!(moved > 0);
}

#[test]
fn faults_with_a_condition_of_their_own() {
    let stub = stub();
    let script = Script::default()
        .rule(Rule::new(Fault::TooManyInputs(2)))
        .rule(Rule::new(Fault::Poison("poison".into())))
        .rule(Rule::new(Fault::ServerErrorOn("crash".into())));
    stub.script(script);
    let mut client = Client::connect(&stub);
    let mut status = |inputs: &[&str]| client.post("/v1/embeddings", &openai(inputs)).status;
    assert_eq!(status(&["a", "b"]), 200);
    assert_eq!(status(&["a", "b", "c"]), 400);
    assert_eq!(status(&["a", "some poison"]), 400);
    assert_eq!(status(&["crash"]), 500);
    assert_eq!(status(&["poison crash"]), 400);
    stub.clear();
    assert_eq!(status(&["poison", "crash", "c"]), 200);
}

#[test]
fn scripts_read_the_same_from_json() {
    let text = r#"{ "rules": [
        { "when": { "text_contains": "x", "nth": [2, 4] }, "do": { "fault": { "status": { "code": 400 } } }, "times": 2 },
        { "do": { "delay_ms": 50, "fault": "close" } } ],
      "random": { "seed": 7, "probability": 0.1, "faults": [ { "fault": "nan" }, { "delay_ms": 9 } ] } }"#;
    let script = Script::default()
        .rule(Rule::new(Fault::status(400)).text_contains("x").nth(2, 4).times(2))
        .rule(Rule::new(Do::delay(Duration::from_millis(50)).then(Fault::Close)))
        .random(7, 0.1, vec![Fault::Nan.into(), Do::delay(Duration::from_millis(9))]);
    assert_eq!(Script::from_json(text).unwrap(), script);
    assert_eq!(Script::from_json(&serde_json::to_string(&script).unwrap()).unwrap(), script);
    let rules =
        r#"[{"do": {"fault": {"truncate": 3}}}, {"do": {"fault": {"slow_body": {"bytes": 1, "interval_ms": 2}}}}]"#;
    let script = Script::default()
        .rule(Rule::new(Fault::Truncate(3)))
        .rule(Rule::new(Fault::SlowBody { bytes: 1, interval_ms: 2 }));
    assert_eq!(Script::from_json(rules).unwrap(), script);
    for wrong in
        ["", "7", r#"{"rule": []}"#, r#"[{"do": {"fault": "explode"}}]"#, r#"[{"when": {"nht": 1}, "do": {}}]"#]
    {
        assert!(Script::from_json(wrong).unwrap_err().starts_with("not a script"), "{wrong}");
    }
}
