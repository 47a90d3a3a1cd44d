//! What a client of a well-behaved stub sees.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod client;

use std::time::{Duration, Instant};

use autoembed_stub::{Limits, Stub, StubConfig, Vectors, hashed_vector};
use client::{Client, floats, ollama, openai, vectors};
use serde_json::{Value, json};

fn hashed(dims: usize) -> Stub {
    Stub::start(StubConfig::vectors(Vectors::Hashed(dims))).unwrap()
}

#[test]
fn openai_floats_and_base64_are_the_same_vectors() {
    let stub = hashed(33);
    let mut client = Client::connect(&stub);
    for format in ["float", "base64"] {
        let answer = client.post(
            "/v1/embeddings",
            &json!({"model": "m", "input": ["one", "zwei\n\"\u{1}😀"], "encoding_format": format}),
        );
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let body = answer.json();
        assert_eq!(body["object"], "list");
        assert_eq!(body["model"], "m");
        assert!(body["usage"]["total_tokens"].as_u64().unwrap() > 0);
        assert_eq!(body["data"][1]["index"], 1);
        assert_eq!(body["data"][0]["embedding"].is_string(), format == "base64");
        assert_eq!(vectors(&body), [hashed_vector("one", 33), hashed_vector("zwei\n\"\u{1}😀", 33)]);
    }
    let one = client.post("/v1/embeddings", &json!({"model": "m", "input": "one", "dimensions": 7})).json();
    assert_eq!(vectors(&one), [hashed_vector("one", 7)]);
}

#[test]
fn ollama_answers_in_its_own_shape() {
    let stub = hashed(5);
    let mut client = Client::connect(&stub);
    let body = client.post("/api/embed", &json!({"model": "nomic", "input": ["a", ""], "truncate": false})).json();
    assert_eq!(body["model"], "nomic");
    assert_eq!(floats(&body["embeddings"][0]), hashed_vector("a", 5));
    assert_eq!(floats(&body["embeddings"][1]), hashed_vector("", 5));
    let empty = client.post("/api/embed", &json!({"model": "nomic", "input": ""})).json();
    assert_eq!(empty["embeddings"], json!([]));
    let no_model = client.post("/api/embed", &json!({"input": "a"}));
    assert_eq!(no_model.status, 400);
    assert!(no_model.json()["error"].is_string());
}

#[test]
fn bad_requests_are_refused_as_the_provider_does() {
    let stub = hashed(4);
    let mut client = Client::connect(&stub);
    let many: Vec<String> = (0..2049).map(|i| i.to_string()).collect();
    let cases = [
        json!({"input": "a"}),
        json!({"model": "m"}),
        json!({"model": "m", "input": []}),
        json!({"model": "m", "input": ["a", ""]}),
        json!({"model": "m", "input": [[1, 2]]}),
        json!({"model": "m", "input": many}),
        json!({"model": "m", "input": "a", "encoding_format": "hex"}),
        json!({"model": "m", "input": "a", "dimensions": 0}),
        json!(7),
    ];
    for case in &cases {
        let answer = client.post("/v1/embeddings", case);
        assert_eq!(answer.status, 400, "{case}");
        let error = &answer.json()["error"];
        assert_eq!(error["type"], "invalid_request_error");
        assert!(error["message"].as_str().unwrap().len() > 5);
    }
    assert_eq!(client.post("/v1/nothing", &json!({})).status, 404);
    assert_eq!(client.get("/v1/embeddings").status, 405);
    assert_eq!(client.get("/health").status, 200);
    let stats = stub.stats();
    assert_eq!(stats.requests, cases.len() as u64 + 2, "health is not counted, everything else is");
    assert_eq!(stats.by_status[&400], cases.len() as u64);
    assert_eq!(stats.inputs, 2049 + 1, "of the two requests that could be read: too many inputs, no dimensions");
    assert_eq!((stats.oversized, stats.limited), (1, 0));
}

#[test]
fn builtin_vectors_are_the_models() {
    let config = StubConfig::vectors(Vectors::Builtin);
    let model = autoembed_local::Model::open(&config.model_dir).unwrap();
    let stub = Stub::start(config).unwrap();
    let mut client = Client::connect(&stub);
    let text = "where is my parcel?";
    let body = client
        .post("/v1/embeddings", &json!({"model": "m", "input": [text, "😀"], "encoding_format": "base64"}))
        .json();
    assert_eq!(vectors(&body), [model.embed(text).unwrap(), hashed_vector("😀", 256)]);
    let short = client.post("/v1/embeddings", &json!({"model": "m", "input": text, "dimensions": 64})).json();
    let short = &vectors(&short)[0];
    assert_eq!(short.len(), 64);
    assert!((short.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5);
    let long = client.post("/v1/embeddings", &json!({"model": "m", "input": text, "dimensions": 512}));
    assert_eq!(long.status, 400);
}

#[test]
fn constant_vectors_are_all_one() {
    let stub = Stub::start(StubConfig::vectors(Vectors::Constant(12))).unwrap();
    let mut client = Client::connect(&stub);
    for format in ["float", "base64"] {
        let body = client
            .post("/v1/embeddings", &json!({"model": "m", "input": ["a", "b"], "encoding_format": format}))
            .json();
        let found = vectors(&body);
        assert_eq!(found[0], found[1]);
        assert_eq!(found[0].len(), 12);
    }
}

#[test]
fn a_connection_serves_many_requests_and_split_ones() {
    let stub = hashed(3);
    let mut client = Client::connect(&stub);
    for i in 0..50 {
        assert_eq!(client.post("/v1/embeddings", &openai(&[&format!("text {i}")])).status, 200);
    }
    assert_eq!(stub.stats().requests, 50);
    // Byte by byte, in chunks, and two requests at once.
    let body = openai(&["a"]).to_string();
    let plain = format!("POST /v1/embeddings HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    for byte in plain.as_bytes() {
        client.send_raw(&[*byte]);
    }
    assert_eq!(client.read().unwrap().status, 200);
    let (one, two) = body.split_at(5);
    let chunked = format!(
        "POST /v1/embeddings HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{one}\r\n{:x};x=y\r\n{two}\r\n0\r\n\r\n",
        two.len()
    );
    client.send_raw(format!("{chunked}{plain}").as_bytes());
    assert_eq!(vectors(&client.read().unwrap().json()), [hashed_vector("a", 3)]);
    assert_eq!(client.read().unwrap().status, 200);
    let closing = plain.replace("host: x", "connection: close");
    client.send_raw(closing.as_bytes());
    assert_eq!(client.read().unwrap().header("connection"), Some("close"));
    assert!(client.read().is_none());
    // What is no HTTP ends the connection and nothing else.
    let mut rude = Client::connect(&stub);
    rude.send_raw(b"\x16\x03\x01\x00\xff\xff\r\n\r\n");
    assert!(rude.read().is_none());
    assert_eq!(Client::connect(&stub).get("/health").status, 200);
}

#[test]
fn an_ordinary_client_library_is_served() {
    let stub = hashed(1536);
    let agent = ureq::Agent::new_with_defaults();
    let texts: Vec<String> = (0..300).map(|i| format!("text {i}")).collect();
    let body = json!({"model": "m", "input": texts, "encoding_format": "base64"}).to_string();
    for _ in 0..3 {
        let mut answer = agent.post(format!("{}/embeddings", stub.url())).send(&body).unwrap();
        let answer: Value = serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap();
        let found = vectors(&answer);
        assert_eq!(found.len(), 300);
        assert_eq!(found[299], hashed_vector("text 299", 1536));
    }
    assert_eq!(stub.stats().inputs, 900);
}

#[test]
fn requests_are_counted_and_recorded() {
    let stub = Stub::start(StubConfig::vectors(Vectors::Hashed(2)).recorded()).unwrap();
    let mut client = Client::connect(&stub);
    let before = Instant::now();
    client.post("/v1/embeddings", &json!({"model": "m1", "input": ["a", "b"], "dimensions": 2}));
    client.post_with("/api/embed", &ollama(&["c"]), "Authorization: Bearer x\r\n");
    let stats = stub.stats();
    assert_eq!((stats.requests, stats.inputs, stats.in_flight, stats.max_in_flight), (2, 3, 0, 1));
    assert_eq!(stats.by_status[&200], 2);
    assert!(stats.bytes > 100);
    let records = stub.requests();
    assert_eq!(records[0].inputs, ["a", "b"]);
    assert_eq!((records[0].path.as_str(), records[0].model.as_str(), records[0].status), ("/v1/embeddings", "m1", 200));
    assert_eq!((records[0].count, records[0].dimensions, records[0].authorization), (2, Some(2), false));
    assert!(records[1].authorization && records[1].at >= records[0].at && records[0].at >= before);
    stub.reset_stats();
    assert!(stub.requests().is_empty());
    assert_eq!(stub.stats().requests, 0);

    let forgetful = hashed(2);
    Client::connect(&forgetful).post("/v1/embeddings", &openai(&["secret"]));
    assert!(forgetful.requests()[0].inputs.is_empty());
    assert_eq!(forgetful.requests()[0].count, 1);
}

#[test]
fn a_key_is_asked_for() {
    let config = StubConfig { key: Some("right".to_owned()), ..StubConfig::vectors(Vectors::Hashed(2)) };
    let stub = Stub::start(config).unwrap();
    let mut client = Client::connect(&stub);
    let answer = client.post("/v1/embeddings", &openai(&["a"]));
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (401, &Value::Null));
    let wrong = client.post_with("/v1/embeddings", &openai(&["a"]), "authorization: Bearer wrong\r\n");
    assert_eq!((wrong.status, wrong.json()["error"]["code"].as_str()), (401, Some("invalid_api_key")));
    let right = client.post_with("/v1/embeddings", &openai(&["a"]), "AUTHORIZATION: Bearer right\r\n");
    assert_eq!(right.status, 200);
}

#[test]
fn the_rate_limit_says_when_to_come_back() {
    let config = StubConfig { limits: Limits::even_requests(1), ..StubConfig::vectors(Vectors::Hashed(2)) };
    let stub = Stub::start(config).unwrap();
    let mut client = Client::connect(&stub);
    assert_eq!(client.post("/v1/embeddings", &openai(&["a"])).status, 200);
    let answer = client.post("/v1/embeddings", &openai(&["a"]));
    assert_eq!(answer.status, 429);
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((55..=60).contains(&wait), "{wait}");
    assert_eq!(answer.json()["error"]["code"], "rate_limit_exceeded");
}

#[test]
fn latency_is_per_request_and_not_in_a_queue() {
    let config = StubConfig { latency: Duration::from_millis(300), ..StubConfig::vectors(Vectors::Hashed(2)) };
    let stub = Stub::start(config).unwrap();
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(Client::connect(&stub).post("/v1/embeddings", &openai(&["a"])).status, 200));
        }
    });
    let taken = start.elapsed();
    assert!(taken >= Duration::from_millis(300), "{taken:?}");
    assert!(taken < Duration::from_millis(8 * 300), "{taken:?}: one after the other");
    assert!(stub.stats().max_in_flight > 1);
}
