#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use crate::provider::Provider;
use serde_json::json;

fn model() -> Model {
    Model::new("m", Provider::OpenAi, "text-embedding-3-small", 3)
}

fn response(status: u16, headers: &[(&str, &str)], body: &str) -> Response {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Response { status, headers, body: body.as_bytes().to_vec() }
}

fn failure(status: u16, inputs: usize, headers: &[(&str, &str)], body: &str) -> Failure {
    from_response(&model(), None, inputs, &response(status, headers, body), 0)
}

type Headers = &'static [(&'static str, &'static str)];

const HALT: Action = Action::Halt;
const RETRY: Action = Action::Retry;
const SLOW: Action = Action::SlowDown { after: None };
const REJECT: Action = Action::Reject;
const SPLIT: Action = Action::Split;

fn wait(seconds: u64) -> Action {
    Action::SlowDown { after: Some(Duration::from_secs(seconds)) }
}

#[test]
fn answers_and_their_actions() {
    let error = |message: &str, code: &str, kind: &str| {
        json!({"error": {"message": message, "code": code, "type": kind, "param": null}}).to_string()
    };
    let param = |message: &str, param: &str| {
        json!({"error": {"message": message, "param": param, "type": "invalid_request_error"}}).to_string()
    };
    let after: Headers = &[("Retry-After", "7")];
    #[rustfmt::skip]
    let cases: Vec<(u16, Headers, String, Action, Action, &str)> = vec![
        // status, headers, body, action for one input, for several, code
        (401, &[], error("Incorrect API key provided", "invalid_api_key", "invalid_request_error"), HALT, HALT, "http_401"),
        (403, &[], String::new(), HALT, HALT, "http_403"),
        (402, &[], String::new(), HALT, HALT, "http_402"),
        (404, &[], "404 page not found".into(), HALT, HALT, "http_404"),
        (404, &[], error("The model `x` does not exist", "model_not_found", "invalid_request_error"), HALT, HALT, "unknown_model"),
        (404, &[], json!({"error": "model \"x\" not found, try pulling it first"}).to_string(), HALT, HALT, "unknown_model"),
        (404, &[], json!({"detail": "Not Found"}).to_string(), HALT, HALT, "http_404"),
        (400, &[], json!({"object": "error", "message": "Invalid model: x", "type": "invalid_model", "code": "1500"}).to_string(), HALT, HALT, "unknown_model"),
        (400, &[], json!({"error": "\"llama3\" does not support embeddings"}).to_string(), HALT, HALT, "unknown_model"),
        (400, &[], param("you must provide a model parameter", "model"), HALT, HALT, "unknown_model"),
        (400, &[], param("too many dimensions", "dimensions"), HALT, HALT, "dimensions_refused"),
        (400, &[], error("Model \"bge\" does not support matryoshka representation, changing output dimensions", "400", "BadRequestError"), HALT, HALT, "dimensions_refused"),
        (422, &[], json!({"detail": [{"loc": ["body", "dimensions"], "msg": "Extra inputs are not permitted: dimensions"}]}).to_string(), HALT, HALT, "dimensions_refused"),
        (400, &[], param("invalid encoding", "encoding_format"), HALT, HALT, "http_400"),
        (400, &[], json!([{"error": {"code": 400, "message": "API key not valid. Please pass a valid API key.", "status": "INVALID_ARGUMENT"}}]).to_string(), HALT, HALT, "http_400"),
        (400, &[], param("This model's maximum context length is 8192 tokens, however you requested 9000", "input"), REJECT, SPLIT, "http_400"),
        (400, &[], param("'$.input' is invalid", "input[3]"), REJECT, SPLIT, "http_400"),
        (400, &[], json!({"error": "the input length exceeds the context length"}).to_string(), REJECT, SPLIT, "http_400"),
        (400, &[], String::new(), REJECT, SPLIT, "http_400"),
        (413, &[], json!({"error": "batch size 33 > maximum allowed batch size 32", "error_type": "Validation"}).to_string(), REJECT, SPLIT, "http_413"),
        (422, &[], json!({"detail": [{"msg": "String should have at least 1 character", "input": "secret text"}]}).to_string(), REJECT, SPLIT, "http_422"),
        (429, &[], error("Rate limit reached", "rate_limit_exceeded", "tokens"), SLOW, SLOW, "http_429"),
        (429, after, error("Rate limit reached", "rate_limit_exceeded", "tokens"), wait(7), wait(7), "http_429"),
        (429, &[("x-ratelimit-reset-tokens", "6m0s")], String::new(), wait(360), wait(360), "http_429"),
        (429, after, error("You exceeded your current quota", "insufficient_quota", "insufficient_quota"), HALT, HALT, "insufficient_quota"),
        (429, after, error("x", "billing_hard_limit_reached", "x"), HALT, HALT, "billing_hard_limit_reached"),
        (403, &[], error("x", "Insufficient_Quota", "x"), HALT, HALT, "insufficient_quota"),
        (429, &[], error("Request too large for m: Limit 40000, Requested 50000", "rate_limit_exceeded", "tokens"), SLOW, SPLIT, "http_429"),
        (429, &[], json!({"error": {"code": 429, "message": "Resource has been exhausted (e.g. check quota).", "status": "RESOURCE_EXHAUSTED"}}).to_string(), SLOW, SLOW, "http_429"),
        (500, after, String::new(), RETRY, RETRY, "http_500"),
        (500, &[], json!({"error": "model requires more system memory"}).to_string(), RETRY, RETRY, "http_500"),
        (503, &[], String::new(), RETRY, RETRY, "http_503"),
        (503, after, String::new(), wait(7), wait(7), "http_503"),
        (529, after, String::new(), wait(7), wait(7), "http_529"),
        (529, &[], String::new(), RETRY, RETRY, "http_529"),
        (502, &[], "<html><body>Bad Gateway</body></html>".into(), RETRY, RETRY, "http_502"),
        (504, &[], String::new(), RETRY, RETRY, "http_504"),
        (408, &[], String::new(), RETRY, RETRY, "http_408"),
        (409, &[], String::new(), RETRY, RETRY, "http_409"),
        (424, &[], String::new(), RETRY, RETRY, "http_424"),
        (425, &[], String::new(), RETRY, RETRY, "http_425"),
        (405, &[], String::new(), HALT, HALT, "http_405"),
        (415, &[], String::new(), HALT, HALT, "http_415"),
        (301, &[("location", "https://elsewhere")], String::new(), HALT, HALT, "url"),
        (308, &[], String::new(), HALT, HALT, "url"),
        (101, &[], String::new(), RETRY, RETRY, "http_101"),
        (999, &[], String::new(), RETRY, RETRY, "http_999"),
    ];
    for (status, headers, body, alone, several, code) in cases {
        for (inputs, action) in [(1, &alone), (2, &several)] {
            let failure = failure(status, inputs, headers, &body);
            assert_eq!(
                (&failure.action, failure.code.as_str()),
                (action, code),
                "{status} {body} {inputs}: {failure:?}"
            );
            assert!(failure.hint.ends_with(['.', ')']) && failure.hint.len() > 20, "{failure:?}");
            assert!(!failure.message.is_empty() && !failure.message.contains("secret text"), "{failure:?}");
        }
    }
}

#[test]
fn every_status_has_an_action() {
    for status in 0..=u16::MAX {
        let failure = failure(status, 2, &[], "");
        assert!(!failure.code.is_empty() && !failure.hint.is_empty());
    }
}

#[test]
fn the_servers_words_are_found() {
    for (body, message) in [
        (r#"{"error":{"message":"a"},"message":"b"}"#, "a"),
        (r#"{"error":"a"}"#, "a"),
        (r#"{"id":"x","message":"a"}"#, "a"),
        (r#"{"detail":"a"}"#, "a"),
        (r#"{"detail":[{"msg":"a"},{"msg":"b"}]}"#, "a; b"),
        (r#"{"error":{"code":5}}"#, "the server of model \"m\" answered with status 500"),
        ("plain words", "plain words"),
        ("", "the server of model \"m\" answered with status 500"),
        ("<html>", "the server answered with a page, not with JSON"),
        ("{\"error\": ", "the server's error message is not readable"),
        ("[]", "the server of model \"m\" answered with status 500"),
        ("7", "the server of model \"m\" answered with status 500"),
        (r#"{"error":"a\u0000b\r\n\tc\u001b[31m\u202ed"}"#, "a b c [31m d"),
    ] {
        assert_eq!(failure(500, 1, &[], body).message, message, "{body}");
    }
    let deep = "[".repeat(100_000);
    assert_eq!(failure(500, 1, &[], &deep).message, "the server's error message is not readable");
}

#[test]
fn messages_are_cut_between_characters() {
    for text in
        ["ä".repeat(400), "日".repeat(400), format!("x {}", "😀".repeat(300)), "a ".repeat(900), "b".repeat(501)]
    {
        let message = failure(500, 1, &[], &json!({ "error": text }).to_string()).message;
        assert!(message.len() <= MAX_MESSAGE && message.len() > MAX_MESSAGE - 4, "{}", message.len());
        assert!(text.starts_with(&message));
    }
}

#[test]
fn keys_and_header_values_are_not_repeated() {
    let mut model = model();
    model.options = json!({"headers": {"api-key": "second-canary", "x-version": "1"}});
    let key = Secret::new("canary-1234").unwrap();
    let body = json!({"error": {"message": "bad key canary-1234 or second-canary, version 1"}}).to_string();
    let failure = from_response(&model, Some(&key), 1, &response(401, &[], &body), 0);
    assert_eq!(failure.message, "bad key [redacted] or [redacted], version 1");
    assert!(failure.hint.contains("refuses the API key"));
    let failure = from_response(&model, None, 1, &response(401, &[], "{}"), 0);
    assert!(failure.hint.contains("No API key was sent"));
}

#[test]
fn urls_are_shown_without_their_query() {
    let mut model = model();
    model.url = Some("https://h/v1?key=canary".to_owned());
    for status in [301, 404, 405] {
        let failure = from_response(&model, None, 1, &response(status, &[], ""), 0);
        assert!(failure.hint.contains("https://h/v1") && !format!("{failure:?}").contains("canary"));
    }
}

#[test]
fn no_answer_at_all() {
    use TransportError::*;
    let text = || "why".to_owned();
    for (error, alone, several, code) in [
        (Timeout, RETRY, RETRY, "timeout"),
        (Connect(text()), RETRY, RETRY, "connection"),
        (Dns(text()), RETRY, RETRY, "dns"),
        (Tls(text()), RETRY, RETRY, "tls"),
        (Protocol(text()), RETRY, RETRY, "protocol"),
        (TooLarge, RETRY, SPLIT, "answer_too_large"),
        (Redirect(302), HALT, HALT, "url"),
    ] {
        for (inputs, action) in [(1, &alone), (2, &several)] {
            let failure = from_transport(&model(), inputs, &error);
            assert_eq!((&failure.action, failure.code.as_str()), (action, code));
            assert!(failure.hint.ends_with('.') && failure.message.contains('m'));
        }
    }
}
