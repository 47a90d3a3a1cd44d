#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use crate::error::Action;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde_json::json;

mod answers;
mod fixtures;
mod places;
mod well_known;

fn openai() -> Model {
    Model::new("m", Provider::OpenAi, "text-embedding-3-small", 3)
}

fn ollama() -> Model {
    Model::new("o", Provider::Ollama, "nomic-embed-text", 3)
}

fn ok(body: impl Into<Vec<u8>>) -> Response {
    Response { status: 200, headers: Vec::new(), body: body.into() }
}

fn base64(numbers: &[f32]) -> String {
    STANDARD.encode(numbers.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>())
}

fn sent(request: &Request) -> Value {
    serde_json::from_slice(&request.body).unwrap()
}

fn header<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    request.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.expose())
}

#[test]
fn names_come_back_and_others_are_refused_with_the_list() {
    for provider in Provider::ALL {
        assert_eq!(provider.as_str().parse::<Provider>().unwrap(), *provider);
    }
    let error = "openal".parse::<Provider>().unwrap_err();
    assert_eq!(error.to_string(), "unknown provider \"openal\"");
    for known in Provider::ALL {
        assert!(error.hint().contains(known.as_str()));
    }
}

#[test]
fn openai_request() {
    let mut model = openai();
    let key = Secret::new("sk-canary").unwrap();
    let request = build_request(&model, Some(&key), InputKind::Document, &["a\"b", "ü\n"]).unwrap();
    assert_eq!(request.url, "https://api.openai.com/v1/embeddings");
    assert_eq!(
        sent(&request),
        json!({"model": "text-embedding-3-small", "input": ["a\"b", "ü\n"], "dimensions": 3, "encoding_format": "base64"})
    );
    assert_eq!(header(&request, "authorization"), Some("Bearer sk-canary"));
    assert_eq!(header(&request, "content-type"), Some("application/json"));
    assert_eq!(request.timeout, model.timeout);
    assert!(!format!("{request:?}").contains("canary"));

    model.url = Some("http://localhost:8000/v1/?key=canary".to_owned());
    model.remote = "bge-m3".to_owned();
    model.options = json!({
        "headers": {"Api-Key": "canary", "Accept": "text/x"}, "body": {"user": "u", "encoding_format": "float"},
        "query_prefix": "query: ", "document_prefix": "passage: "
    });
    let request = build_request(&model, None, InputKind::Query, &["a"]).unwrap();
    assert_eq!(request.url, "http://localhost:8000/v1/embeddings?key=canary");
    assert_eq!(
        sent(&request),
        json!({"model": "bge-m3", "input": ["query: a"], "user": "u", "encoding_format": "float"})
    );
    assert_eq!(header(&request, "authorization"), None);
    assert_eq!(header(&request, "api-key"), Some("canary"));
    assert_eq!(request.headers.iter().filter(|(name, _)| name == "accept").count(), 1);
    assert!(!format!("{request:?}").contains("canary"));
    let request = build_request(&model, None, InputKind::Document, &["a"]).unwrap();
    assert_eq!(sent(&request)["input"], json!(["passage: a"]));

    model.options = json!({"send_dimensions": true});
    assert_eq!(sent(&build_request(&model, None, InputKind::Query, &["a"]).unwrap())["dimensions"], json!(3));
    model.remote = "text-embedding-3-large".to_owned();
    model.options = json!({"send_dimensions": false});
    assert_eq!(sent(&build_request(&model, None, InputKind::Query, &["a"]).unwrap()).get("dimensions"), None);
}

#[test]
fn ollama_request() {
    let mut model = ollama();
    let request = build_request(&model, None, InputKind::Document, &["a"]).unwrap();
    assert_eq!(request.url, "http://localhost:11434/api/embed");
    assert_eq!(sent(&request), json!({"model": "nomic-embed-text", "input": ["a"], "truncate": true}));
    model.options = json!({"truncate": false, "body": {"keep_alive": "1h"}});
    let request = build_request(&model, None, InputKind::Document, &["a"]).unwrap();
    assert_eq!(
        sent(&request),
        json!({"model": "nomic-embed-text", "input": ["a"], "truncate": false, "keep_alive": "1h"})
    );
}

#[test]
fn what_cannot_be_requested_halts() {
    let mut model = openai();
    model.url = Some("nonsense".to_owned());
    assert_eq!(build_request(&model, None, InputKind::Query, &["a"]).unwrap_err().action, Action::Halt);
    let model = Model::new("b", Provider::Local, "builtin", 3);
    assert_eq!(build_request(&model, None, InputKind::Query, &["a"]).unwrap_err().code, "no_network");
}

#[test]
fn the_cap_holds_the_widest_spelling() {
    let widest = format!("{:?}", -f64::MIN_POSITIVE).len() + 2;
    assert_eq!(widest, 26);
    assert_eq!(max_response_bytes(0, 0), 65_536);
    assert!(max_response_bytes(2048, 1536) > 2048 * 1536 * 26);
    assert_eq!(max_response_bytes(usize::MAX, usize::MAX), u64::MAX);
}

#[test]
fn the_cap_holds_texts_that_come_back() {
    let text = "\u{1}".repeat(100_000);
    let cap = |provider| {
        let model = Model::new("m", provider, "r", 3);
        build_request(&model, None, InputKind::Document, &[&text, &text]).unwrap().max_response_bytes
    };
    let escaped = serde_json::to_string(&text).unwrap().len() as u64;
    assert_eq!(cap(Provider::Voyage), max_response_bytes(2, 3));
    assert!(cap(Provider::Cohere) > 2 * escaped);
}

#[test]
fn options_of_the_kind_are_for_providers_that_have_one() {
    let with = |provider| {
        let mut model = Model::new("m", provider, "r", 3);
        model.url = Some("https://h".to_owned());
        model.options = json!({"document_type": "a", "query_type": ""});
        model.validate()
    };
    for provider in [Provider::Tei, Provider::Cohere, Provider::Voyage, Provider::Jina, Provider::Gemini] {
        with(provider).unwrap();
    }
    for provider in [Provider::OpenAi, Provider::Azure, Provider::Ollama, Provider::Mistral] {
        let error = with(provider).unwrap_err();
        assert!(error.message.contains("unknown option") && !error.hint.contains("document_type"), "{error:?}");
    }
}

#[test]
fn no_option_changes_what_is_the_format_s_own() {
    for provider in Provider::ALL {
        let Some(wire) = provider.spec().wire else { continue };
        let mut model = Model::new("m", *provider, "r", 3);
        model.url = Some("https://h".to_owned());
        for field in wire.own_fields() {
            model.options = json!({"body": {*field: 1}});
            assert!(model.validate().unwrap_err().message.contains(field), "{provider} {field}");
        }
        // All that a request has by itself is its own, but for what may be replaced on purpose.
        model.options = json!({"send_dimensions": true, "body": {}});
        let replaceable = ["encoding_format", "embedding_type", "normalize"];
        let request = build_request(&model, None, InputKind::Query, &["a"]).unwrap();
        for field in sent(&request).as_object().unwrap().keys() {
            let known = wire.own_fields().contains(&field.as_str()) || replaceable.contains(&field.as_str());
            assert!(known, "{provider} {field}");
        }
    }
}

#[test]
fn every_spelling_of_a_good_answer() {
    let (a, b) = ([1.0, 2.5, -3.0], [0.25, 0.0, 0.0]);
    let no_pad = STANDARD_NO_PAD.encode(a.iter().flat_map(|n: &f32| n.to_le_bytes()).collect::<Vec<u8>>());
    let escaped = base64(&[f32::from_le_bytes([0xff, 0xff, 0xff, 0x3e]), 1.0, 1.0]);
    assert!(escaped.contains('/'));
    #[rustfmt::skip]
    let cases = [
        ("base64", openai(), json!({"data": [{"index": 0, "embedding": base64(&a)}, {"index": 1, "embedding": base64(&b)}]}).to_string()),
        ("floats", openai(), json!({"data": [{"index": 0, "embedding": a}, {"index": 1, "embedding": b}]}).to_string()),
        ("mixed", openai(), json!({"data": [{"index": 0, "embedding": base64(&a)}, {"index": 1, "embedding": b}]}).to_string()),
        ("shuffled", openai(), json!({"data": [{"index": 1, "embedding": b}, {"index": 0, "embedding": a}]}).to_string()),
        ("without index", openai(), json!({"data": [{"embedding": a}, {"embedding": b}]}).to_string()),
        ("null index", openai(), json!({"data": [{"embedding": a, "index": null}, {"embedding": b, "index": null}]}).to_string()),
        ("no padding", openai(), json!({"data": [{"index": 0, "embedding": no_pad}, {"index": 1, "embedding": b}]}).to_string()),
        ("whole numbers", openai(), r#"{"data":[{"index":0,"embedding":[1,25e-1,-3]},{"index":1,"embedding":[0.25,0,0]}]}"#.to_owned()),
        ("other fields", openai(), json!({"object": "list", "model": "x", "data": [
            {"object": "embedding", "index": 0, "embedding": a}, {"object": "embedding", "index": 1, "embedding": b, "x": {"y": []}}]}).to_string()),
        ("ollama", ollama(), json!({"model": "x", "embeddings": [a, b], "total_duration": 5}).to_string()),
    ];
    for (what, model, body) in cases {
        let answer = read_answer(&model, 2, &ok(body)).unwrap_or_else(|failure| panic!("{what}: {failure:?}"));
        assert_eq!((answer.vectors.row(0), answer.vectors.row(1)), (&a[..], &b[..]), "{what}");
        assert_eq!((answer.vectors.len(), answer.vectors.row(2)), (2, &[][..]));
    }
    let body = json!({"data": [{"embedding": escaped}]}).to_string().replace('/', "\\/");
    assert_eq!(read_answer(&openai(), 1, &ok(body)).unwrap().vectors.row(0)[1], 1.0);
}

#[test]
fn tokens_are_counted_where_the_server_does() {
    let data = json!([{"embedding": [1, 1, 1]}]);
    for (usage, tokens) in [
        (json!({"prompt_tokens": 5, "total_tokens": 6}), Some(6)),
        (json!({"prompt_tokens": 5}), Some(5)),
        (json!({}), None),
        (Value::Null, None),
    ] {
        let body = json!({"data": data, "usage": usage}).to_string();
        assert_eq!(read_answer(&openai(), 1, &ok(body)).unwrap().tokens, tokens);
    }
    let body = json!({"embeddings": [[1, 1, 1]], "prompt_eval_count": 7}).to_string();
    assert_eq!(read_answer(&ollama(), 1, &ok(body)).unwrap().tokens, Some(7));
}

#[test]
fn every_bad_answer_is_a_failure() {
    use Action::{Halt, Retry, Split};
    let good = json!([1, 2, 3]);
    let items = |items: Value| json!({ "data": items }).to_string();
    let one = |embedding: &str| {
        format!(r#"{{"data":[{{"index":0,"embedding":{embedding}}},{{"index":1,"embedding":[1,2,3]}}]}}"#)
    };
    let deep = format!(r#"{{"data":{}"#, "[".repeat(200_000));
    #[rustfmt::skip]
    let cases: Vec<(&str, Action, &str, String)> = vec![
        ("missing", Split, "wrong_count", items(json!([{"index": 0, "embedding": good}]))),
        ("none", Split, "wrong_count", items(json!([]))),
        ("extra", Split, "wrong_count", items(json!([{"embedding": good}, {"embedding": good}, {"embedding": good}]))),
        ("double", Split, "wrong_count", items(json!([{"index": 1, "embedding": good}, {"index": 1, "embedding": good}]))),
        ("from one", Split, "wrong_count", items(json!([{"index": 1, "embedding": good}, {"index": 2, "embedding": good}]))),
        ("huge index", Split, "wrong_count", items(json!([{"index": 0, "embedding": good}, {"index": u64::MAX, "embedding": good}]))),
        ("half indexed", Split, "wrong_count", items(json!([{"index": 0, "embedding": good}, {"embedding": good}]))),
        ("negative index", Retry, "bad_answer", items(json!([{"index": 0, "embedding": good}, {"index": -1, "embedding": good}]))),
        ("zero", Split, "bad_vector", one("[0,0,-0.0]")),
        ("zero in base64", Split, "bad_vector", one(&format!("\"{}\"", base64(&[0.0; 3])))),
        ("too small for a distance", Split, "bad_vector", one("[1e-30,0,0]")),
        ("too large for a distance", Split, "bad_vector", one("[1e30,0,0]")),
        ("infinite", Split, "bad_vector", one("[1e39,0,1]")),
        ("null", Split, "bad_vector", one("[null,0,1]")),
        ("NaN", Split, "bad_vector", one("[NaN,0,1]")),
        ("Infinity", Split, "bad_vector", one("[-Infinity,0,1]")),
        ("NaN in base64", Split, "bad_vector", one(&format!("\"{}\"", base64(&[f32::NAN, 1.0, 1.0])))),
        ("inf in base64", Split, "bad_vector", one(&format!("\"{}\"", base64(&[f32::INFINITY, 1.0, 1.0])))),
        ("no base64", Split, "bad_vector", one("\"%%%%\"")),
        ("half a number", Split, "bad_vector", one("\"AAAAAAA=\"")),
        ("one short", Split, "bad_vector", one("[1,2]")),
        ("one long", Split, "bad_vector", one("[1,2,3,4]")),
        ("one empty", Split, "bad_vector", one("[]")),
        ("all short", Halt, "wrong_dimensions", items(json!([{"embedding": [1, 2]}, {"embedding": [3, 4]}]))),
        ("all long in base64", Halt, "wrong_dimensions", items(json!([{"embedding": base64(&[1.0; 4])}, {"embedding": base64(&[2.0; 4])}]))),
        ("1e400", Retry, "bad_answer", one("[1e400,0,1]")),
        ("text for a number", Retry, "bad_answer", one("[\"1\",0,1]")),
        ("no embedding", Retry, "bad_answer", items(json!([{"index": 0}, {"index": 1}]))),
        ("no data", Retry, "bad_answer", json!({"object": "list"}).to_string()),
        ("an error with 200", Retry, "bad_answer", json!({"error": {"message": "overloaded"}}).to_string()),
        ("a page", Retry, "bad_answer", "<!doctype html><html></html>".to_owned()),
        ("nothing", Retry, "bad_answer", String::new()),
        ("broken off", Retry, "bad_answer", r#"{"data":[{"index":0,"embedding":[1,2"#.to_owned()),
        ("followed by more", Retry, "bad_answer", items(json!([{"embedding": good}, {"embedding": good}])) + "x"),
        ("deep", Retry, "bad_answer", deep),
        ("deep in a field nobody reads", Retry, "bad_answer", format!(r#"{{"x":{}"#, "[".repeat(200_000))),
    ];
    for (what, action, code, body) in cases {
        let failure = read_answer(&openai(), 2, &ok(body)).expect_err(what);
        assert_eq!((&failure.action, failure.code.as_str()), (&action, code), "{what}: {failure:?}");
        assert!(!failure.blames_input && !failure.hint.is_empty() && !failure.message.is_empty(), "{what}");
    }
    let latin = read_answer(&openai(), 1, &ok(b"{\"data\":[{\"embedding\":\"\xff\"}]}".to_vec())).unwrap_err();
    assert_eq!(latin.code, "bad_answer");
}

#[test]
fn a_single_bad_input_is_tried_again_at_its_own_cost() {
    for body in [json!({"data": []}), json!({"data": [{"embedding": [0, 0, 0]}]}), json!({"data": [{"embedding": []}]})]
    {
        let failure = read_answer(&openai(), 1, &ok(body.to_string())).unwrap_err();
        assert_eq!((failure.action, failure.blames_input), (Action::Retry, true), "{body}");
    }
    let failure = read_answer(&openai(), 1, &ok(json!({"data": [{"embedding": [1, 2]}]}).to_string())).unwrap_err();
    assert_eq!(failure.action, Action::Halt);
    assert!(failure.hint.contains('2') && failure.hint.contains('3'), "{failure:?}");
    let failure = read_answer(&ollama(), 1, &ok(r#"{"embeddings":[]}"#)).unwrap_err();
    assert_eq!(failure.code, "wrong_count");
}

#[test]
fn another_status_is_no_answer() {
    let good = json!({"data": [{"embedding": [1, 2, 3]}]}).to_string();
    let response = Response { status: 401, headers: Vec::new(), body: good.into_bytes() };
    assert_eq!(read_answer(&openai(), 1, &response).unwrap_err().code, "http_401");
}
