#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use crate::provider::{Provider, Response};
use crate::secret::Secret;
use serde_json::json;

mod answers;

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

const HALT: Action = Action::Halt;
const RETRY: Action = Action::Retry;
const SPLIT: Action = Action::Split;

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

    model.options = json!({"headers": {"authorization": "Bearer third-canary"}});
    model.url = Some("https://h/v1?api-version=2024-10-21&code=fourth-canary".to_owned());
    let body = json!({"error": "no third-canary, no fourth-canary in version 2024-10-21"}).to_string();
    let failure = from_response(&model, None, 1, &response(401, &[], &body), 0);
    assert_eq!(failure.message, "no [redacted], no [redacted] in version 2024-10-21");
}

#[test]
fn keys_are_found_behind_what_is_taken_out() {
    let key = Secret::new("canary 1234").unwrap();
    for spelled in
        [r"canary\u00001234", r"canary\r\n 1234", "canary \u{200b}1234", r"\u0063anary 1234", r"canary\t1234"]
    {
        let body = format!("{{\"error\": \"bad key {spelled}.\"}}");
        let failure = from_response(&model(), Some(&key), 1, &response(401, &[], &body), 0);
        assert_eq!(failure.message, "bad key [redacted]", "{spelled}");
    }
}

#[test]
fn codes_are_ours_whatever_the_server_calls_it() {
    let body = json!({"error": {"code": "billing_Canary \n x", "message": "x"}}).to_string();
    assert_eq!(failure(403, 1, &[], &body).code, "billing");
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
