//! The table of what servers answer and what follows: one line a case.

use std::collections::BTreeSet;
use std::path::Path;

use super::*;
use Does::{Halt, Input, Millis, Retry, Slow, Wait};

type Headers = &'static [(&'static str, &'static str)];

/// What is expected: `Input` splits a batch and rejects one input.
#[derive(Clone, Copy)]
enum Does {
    Halt,
    Retry,
    Slow,
    Wait(u64),
    Millis(u64),
    Input,
}

impl Does {
    fn action(self, inputs: usize) -> Action {
        match self {
            Halt => Action::Halt,
            Retry => Action::Retry,
            Slow => Action::SlowDown { after: None },
            Wait(seconds) => Action::SlowDown { after: Some(Duration::from_secs(seconds)) },
            Millis(millis) => Action::SlowDown { after: Some(Duration::from_millis(millis)) },
            Input if inputs > 1 => Action::Split,
            Input => Action::Reject,
        }
    }
}

fn check(status: u16, headers: Headers, body: &str, inputs: usize, does: Does, code: &str) -> Failure {
    let failure = failure(status, inputs, headers, body);
    let context = format!("{status} {body} {inputs}: {failure:?}");
    assert_eq!((&failure.action, failure.code.as_str()), (&does.action(inputs), code), "{context}");
    assert!(failure.hint.ends_with(['.', ')']) && failure.hint.len() > 20, "{context}");
    assert!(!failure.message.is_empty() && !failure.message.contains("secret text"), "{context}");
    failure
}

fn input(limit: u64, found: u64) -> Option<Oversize> {
    size(Part::Input, Unit::Tokens, limit, found)
}

fn batch(unit: Unit, limit: u64, found: u64) -> Option<Oversize> {
    size(Part::Batch, unit, limit, found)
}

/// Zero stands for what is not said.
fn size(part: Part, unit: Unit, limit: u64, found: u64) -> Option<Oversize> {
    let said = |figure| (figure > 0).then_some(figure);
    Some(Oversize { part, unit: Some(unit), limit: said(limit), found: said(found) })
}

/// Every provider's own errors, in the shape of its documentation.
#[test]
fn errors_of_the_providers() {
    use Unit::{Inputs, Tokens};
    const NO: Option<Oversize> = None;
    #[rustfmt::skip]
    let cases: Vec<(&str, Does, &str, Option<Oversize>)> = vec![
        // fixture, what follows, code, size
        ("openai/error_400_bad_parameter", Halt, "http_400", NO),
        ("openai/error_400_batch_tokens", Input, "http_400", batch(Tokens, 300_000, 322_149)),
        ("openai/error_400_dimensions_unsupported", Halt, "dimensions_refused", NO),
        ("openai/error_400_empty_input", Input, "http_400", NO),
        ("openai/error_400_input_too_long", Input, "http_400", input(8192, 9123)),
        ("openai/error_400_one_input_too_long", Input, "http_400", input(8192, 0)),
        ("openai/error_400_too_many_inputs", Input, "http_400", batch(Inputs, 2048, 2049)),
        ("openai/error_400_wrong_dimension", Halt, "dimensions_refused", NO),
        ("openai/error_401_bad_key", Halt, "http_401", NO),
        ("openai/error_403_model_not_allowed", Halt, "unknown_model", NO),
        ("openai/error_404_unknown_model", Halt, "unknown_model", NO),
        ("openai/error_429_quota_spent", Halt, "insufficient_quota", NO),
        ("openai/error_429_rate_limit", Millis(68), "http_429", NO),
        ("openai/error_429_request_too_large", Input, "http_429", batch(Tokens, 40_000, 51_200)),
        ("azure/error_400_bad_parameter", Halt, "http_400", NO),
        ("azure/error_400_content_filter", Input, "content_filter", NO),
        ("azure/error_400_input_too_long", Input, "http_400", input(8192, 9123)),
        ("azure/error_400_no_embedding_model", Halt, "unknown_model", NO),
        ("azure/error_400_too_many_inputs", Input, "http_400", batch(Inputs, 16, 0)),
        ("azure/error_400_unknown_model", Halt, "unknown_model", NO),
        ("azure/error_400_wrong_dimension", Halt, "dimensions_refused", NO),
        ("azure/error_401_bad_key", Halt, "http_401", NO),
        ("azure/error_403_quota_spent", Halt, "quota_exceeded", NO),
        ("azure/error_404_bad_url", Halt, "http_404", NO),
        ("azure/error_404_unknown_model", Halt, "unknown_model", NO),
        ("azure/error_429_day", Wait(3600), "http_429", NO),
        ("azure/error_429_rate_limit", Wait(7), "http_429", NO),
        ("ollama/error_400_bad_parameter", Halt, "http_400", NO),
        ("ollama/error_400_input_too_long", Input, "http_400", input(0, 0)),
        ("ollama/error_401_bad_key", Halt, "http_401", NO),
        ("ollama/error_404_unknown_model", Halt, "unknown_model", NO),
        ("ollama/error_429_quota_spent", Halt, "hourly_quota", NO),
        ("ollama/error_429_rate_limit", Slow, "http_429", NO),
        ("ollama/error_500_no_memory", Retry, "http_500", NO),
        ("ollama/error_501_no_embedding_model", Halt, "unknown_model", NO),
        ("ollama/error_503_overloaded", Slow, "http_503", NO),
        ("tei/error_400_empty_input", Input, "http_400", NO),
        ("tei/error_401_bad_key", Halt, "http_401", NO),
        ("tei/error_413_input_too_long", Input, "http_413", input(512, 1337)),
        ("tei/error_413_too_many_inputs", Input, "http_413", batch(Inputs, 32, 64)),
        ("tei/error_422_bad_parameter", Halt, "http_422", NO),
        ("tei/error_422_input_too_long", Input, "http_422", input(512, 1337)),
        ("tei/error_422_too_many_inputs", Input, "http_422", batch(Inputs, 32, 64)),
        ("tei/error_422_wrong_dimension", Halt, "dimensions_refused", NO),
        ("tei/error_424_backend", Retry, "http_424", NO),
        ("tei/error_429_rate_limit", Slow, "http_429", NO),
        ("tei/error_503_unhealthy", Retry, "http_503", NO),
        ("cohere/error_400_bad_parameter", Halt, "http_400", NO),
        ("cohere/error_400_input_too_long", Input, "http_400", input(512, 1337)),
        ("cohere/error_400_too_many_inputs", Input, "http_400", batch(Inputs, 96, 131)),
        ("cohere/error_400_wrong_dimension", Halt, "dimensions_refused", NO),
        ("cohere/error_401_bad_key", Halt, "http_401", NO),
        ("cohere/error_402_quota_spent", Halt, "http_402", NO),
        ("cohere/error_404_unknown_model", Halt, "unknown_model", NO),
        ("cohere/error_422_bad_parameter", Halt, "http_422", NO),
        ("cohere/error_429_quota_spent", Halt, "monthly_quota", NO),
        ("cohere/error_429_rate_limit", Slow, "http_429", NO),
        ("cohere/error_429_trial_minute", Slow, "http_429", NO),
        ("cohere/error_498_blocked", Halt, "http_498", NO),
        ("cohere/error_503_overloaded", Retry, "http_503", NO),
        ("voyage/error_400_bad_parameter", Halt, "http_400", NO),
        ("voyage/error_400_batch_tokens", Input, "http_400", batch(Tokens, 120_000, 151_254)),
        ("voyage/error_400_input_too_long", Input, "http_400", input(32_000, 0)),
        ("voyage/error_400_too_many_inputs", Input, "http_400", batch(Inputs, 1000, 1001)),
        ("voyage/error_400_unknown_model", Halt, "unknown_model", NO),
        ("voyage/error_400_wrong_dimension", Halt, "dimensions_refused", NO),
        ("voyage/error_401_bad_key", Halt, "http_401", NO),
        ("voyage/error_429_no_payment_method", Slow, "http_429", NO),
        ("voyage/error_429_rate_limit", Slow, "http_429", NO),
        ("jina/error_400_input_too_long", Input, "http_400", input(8192, 12_432)),
        ("jina/error_400_input_too_long_quoted", Input, "http_400", input(8192, 10_454)),
        ("jina/error_400_too_many_inputs", Input, "http_400", batch(Inputs, 512, 0)),
        ("jina/error_400_unknown_model", Halt, "unknown_model", NO),
        ("jina/error_401_bad_key", Halt, "http_401", NO),
        ("jina/error_401_bad_key_older", Halt, "http_401", NO),
        ("jina/error_401_no_key", Halt, "http_401", NO),
        ("jina/error_402_quota_spent", Halt, "insufficient_balance", NO),
        ("jina/error_403_quota_spent", Halt, "insufficient_balance", NO),
        ("jina/error_422_bad_parameter", Halt, "http_422", NO),
        ("jina/error_422_wrong_dimension", Halt, "dimensions_refused", NO),
        ("jina/error_429_concurrency", Slow, "http_429", NO),
        ("jina/error_429_rate_limit", Slow, "http_429", NO),
        ("jina/error_429_token_limit", Slow, "http_429", NO),
        ("jina/error_503_overloaded", Retry, "http_503", NO),
        ("jina/error_504_timeout", Retry, "http_504", NO),
        ("mistral/error_400_batch_tokens", Input, "http_400", batch(Tokens, 0, 0)),
        ("mistral/error_400_batch_tokens_counted", Input, "http_400", batch(Tokens, 16_384, 17_555)),
        ("mistral/error_400_input_too_long", Input, "http_400", input(8192, 9123)),
        ("mistral/error_400_too_many_inputs", Input, "http_400", batch(Inputs, 0, 0)),
        ("mistral/error_400_unknown_model", Halt, "unknown_model", NO),
        ("mistral/error_400_wrong_dimension", Halt, "dimensions_refused", NO),
        ("mistral/error_401_bad_key", Halt, "http_401", NO),
        ("mistral/error_402_quota_spent", Halt, "http_402", NO),
        ("mistral/error_422_bad_parameter", Halt, "http_422", NO),
        ("mistral/error_429_capacity", Slow, "http_429", NO),
        ("mistral/error_429_rate_limit", Slow, "http_429", NO),
        ("gemini/error_400_bad_key", Halt, "http_400", NO),
        ("gemini/error_400_bad_parameter", Halt, "http_400", NO),
        ("gemini/error_400_empty_input", Input, "http_400", NO),
        ("gemini/error_400_input_too_long", Input, "http_400", input(2048, 0)),
        ("gemini/error_400_region", Halt, "region", NO),
        ("gemini/error_400_too_many_inputs", Input, "http_400", batch(Inputs, 100, 0)),
        ("gemini/error_400_wrong_dimension", Halt, "dimensions_refused", NO),
        ("gemini/error_403_no_key", Halt, "http_403", NO),
        ("gemini/error_403_service_disabled", Halt, "http_403", NO),
        ("gemini/error_404_unknown_model", Halt, "unknown_model", NO),
        ("gemini/error_429_day", Halt, "daily_quota", NO),
        ("gemini/error_429_exhausted", Slow, "http_429", NO),
        ("gemini/error_429_rate_limit", Wait(34), "http_429", NO),
        ("gemini/error_503_overloaded", Slow, "http_503", NO),
    ];
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("provider/fixtures");
    for (name, does, code, size) in &cases {
        let body = std::fs::read_to_string(fixtures.join(format!("{name}.json"))).expect(name);
        let status = name.split('_').nth(1).unwrap().parse().expect(name);
        for inputs in [1, 2] {
            let failure = check(status, &[], &body, inputs, *does, code);
            assert_eq!(failure.oversize.as_deref(), size.as_ref(), "{name}");
        }
    }

    let decided: BTreeSet<String> = cases.iter().map(|(name, ..)| format!("{name}.json")).collect();
    let there: BTreeSet<String> = std::fs::read_dir(&fixtures)
        .unwrap()
        .map(|provider| provider.unwrap().path())
        .flat_map(|provider| {
            let files = std::fs::read_dir(&provider).unwrap().map(|file| file.unwrap().file_name());
            files
                .map(move |file| Path::new(provider.file_name().unwrap()).join(file).display().to_string())
                .collect::<Vec<_>>()
        })
        .filter(|file| file.contains("/error_"))
        .collect();
    assert_eq!(there.difference(&decided).collect::<Vec<_>>(), Vec::<&String>::new(), "errors without a decision");
}

#[test]
fn answers_and_their_actions() {
    let error = |message: &str, code: &str, kind: &str| {
        json!({"error": {"message": message, "code": code, "type": kind, "param": null}}).to_string()
    };
    let param = |message: &str, param: &str| {
        json!({"error": {"message": message, "param": param, "type": "invalid_request_error"}}).to_string()
    };
    let google = |status: &str, message: &str, details: serde_json::Value| {
        json!({"error": {"message": message, "status": status, "details": details}}).to_string()
    };
    let says = |message: &str| json!({ "error": message }).to_string();
    let detail = |loc: serde_json::Value, msg: &str| {
        json!({"detail": [{"type": "x", "loc": loc, "msg": msg, "input": "secret text"}]}).to_string()
    };
    let page = |title: &str| format!("<html>\r\n<head><title>{title}</title></head></html>");
    let nothing = String::new;
    let after: Headers = &[("Retry-After", "7")];
    let day: Headers = &[("retry-after", "86400")];
    #[rustfmt::skip]
    let cases: Vec<(u16, Headers, String, Does, &str)> = vec![
        // status, headers, body, what follows, code

        // The key, and what it may do.
        (401, &[], error("Incorrect API key provided", "invalid_api_key", "invalid_request_error"), Halt, "http_401"),
        (401, &[], nothing(), Halt, "http_401"),
        (401, &[], page("401 Authorization Required"), Halt, "http_401"),
        (403, &[], nothing(), Halt, "http_403"),
        (403, &[], error("Missing scopes: model.request", "missing_scope", "invalid_request_error"), Halt, "http_403"),
        (403, &[], error("Country, region, or territory not supported", "unsupported_country_region_territory", "request_forbidden"), Halt, "region"),
        (403, &[], error("Access denied due to Virtual Network/Firewall rules.", "403", "x"), Halt, "http_403"),
        (403, &[], page("Attention Required!"), Halt, "http_403"),
        (407, &[], page("407 Proxy Authentication Required"), Halt, "http_407"),
        (451, &[], nothing(), Halt, "http_451"),
        (498, &[], says("invalid token"), Halt, "http_498"),
        (400, &[], google("INVALID_ARGUMENT", "API key expired. Please renew the API key.", json!([{"reason": "API_KEY_INVALID"}])), Halt, "http_400"),
        (400, &[], json!([{"error": {"code": 400, "message": "API key not valid. Please pass a valid API key.", "status": "INVALID_ARGUMENT"}}]).to_string(), Halt, "http_400"),
        (400, &[], error("No connected db.", "400", "no_db_connection"), Halt, "http_400"),
        (400, &[], google("FAILED_PRECONDITION", "Please enable billing on your project.", json!([])), Halt, "http_400"),
        (400, &[], google("FAILED_PRECONDITION", "Gemini API free tier is not available in your country.", json!([])), Halt, "region"),

        // The account.
        (402, &[], nothing(), Halt, "http_402"),
        (429, after, error("You exceeded your current quota", "insufficient_quota", "insufficient_quota"), Halt, "insufficient_quota"),
        (429, after, error("x", "billing_hard_limit_reached", "x"), Halt, "billing_hard_limit_reached"),
        (429, &[], error("x", "billing_canary", "x"), Halt, "billing"),
        (403, &[], error("x", "Insufficient_Quota", "x"), Halt, "insufficient_quota"),
        (403, &[], error("Your account balance is insufficient. Please recharge.", "insufficient_user_quota", "x"), Halt, "insufficient_user_quota"),
        (400, &[], says("Your credit balance is too low to access the API."), Halt, "insufficient_balance"),
        (400, &[], error("Budget has been exceeded! Current cost: 1.5, Max budget: 1.0", "400", "budget_exceeded"), Halt, "budget_exceeded"),
        (429, after, error("Budget has been exceeded! Current cost: 1.5, Max budget: 1.0", "429", "budget_exceeded"), Halt, "budget_exceeded"),
        (500, &[], error("RateLimitError: {'error': {'code': 'insufficient_quota'}}", "500", "x"), Halt, "insufficient_quota"),

        // Quotas of an hour or longer: a pause where the server says how long, else only people know.
        (429, &[], says("You are using a Trial key, which is limited to 1000 API calls / month."), Halt, "monthly_quota"),
        (429, &[], says("weekly usage limit reached"), Halt, "weekly_quota"),
        (429, &[], error("Rate limit reached for m on requests per day (RPD): Limit 200, Used 200, Requested 1.", "rate_limit_exceeded", "requests"), Halt, "daily_quota"),
        (429, &[], error("Rate limit reached for m on requests per day (RPD): Limit 200, Used 200, Requested 1. Please try again in 7m12s.", "rate_limit_exceeded", "requests"), Wait(432), "http_429"),
        (429, after, error("daily limit", "quota_exceeded", "x"), Wait(7), "http_429"),
        (429, &[], error("The quota is spent.", "quota_exceeded", "x"), Halt, "quota_exceeded"),
        (429, &[], says("Limited to 3 requests per minute. See your monthly plan."), Slow, "http_429"),
        (403, after, json!({"statusCode": 403, "message": "Out of call volume quota. Quota will be replenished in 02:10:11."}).to_string(), Wait(7), "http_403"),
        (429, day, nothing(), Wait(3600), "http_429"),

        // Limits of a minute, and overload.
        (429, &[], error("Rate limit reached", "rate_limit_exceeded", "tokens"), Slow, "http_429"),
        (429, after, error("Rate limit reached", "rate_limit_exceeded", "tokens"), Wait(7), "http_429"),
        (429, &[("x-ratelimit-reset-tokens", "6m0s")], nothing(), Wait(360), "http_429"),
        (429, &[], google("RESOURCE_EXHAUSTED", "You exceeded your current quota, please check your plan and billing details. Please retry in 12s.", json!([{"violations": [{"quotaId": "RequestsPerMinutePerProject"}]}])), Wait(12), "http_429"),
        (429, after, google("RESOURCE_EXHAUSTED", "x", json!([{"retryDelay": "34s"}])), Wait(7), "http_429"),
        (429, &[], page("429 Too Many Requests"), Slow, "http_429"),
        (529, after, nothing(), Wait(7), "http_529"),
        (529, &[], nothing(), Slow, "http_529"),
        (503, after, nothing(), Wait(7), "http_503"),
        (503, &[], error("The engine is currently overloaded, please try again later", "x", "server_error"), Slow, "http_503"),
        (503, &[], error("Slow Down", "x", "server_error"), Slow, "http_503"),
        (503, &[], json!({"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}).to_string(), Slow, "http_503"),
        (503, &[], json!({"error": "Model m is currently loading", "estimated_time": 20.0}).to_string(), Wait(20), "http_503"),
        (500, &[], error("x", "x", "overloaded_error"), Retry, "http_500"),

        // The address, the model and the form of the request.
        (404, &[], "404 page not found".into(), Halt, "http_404"),
        (404, &[], page("404 Not Found"), Halt, "http_404"),
        (404, &[], json!({"detail": "Not Found"}).to_string(), Halt, "http_404"),
        (404, &[], error("The model `x` does not exist", "model_not_found", "invalid_request_error"), Halt, "unknown_model"),
        (404, &[], says("model \"x\" not found, try pulling it first"), Halt, "unknown_model"),
        (404, &[], error("No models loaded. Please load a model.", "x", "x"), Halt, "unknown_model"),
        (400, &[], json!({"object": "error", "message": "Invalid model: x", "type": "invalid_model", "code": "1500"}).to_string(), Halt, "unknown_model"),
        (400, &[], error("/embeddings: Invalid model name passed in model=x. Call `/v1/models` to view available models for your key.", "400", "invalid_request_error"), Halt, "unknown_model"),
        (400, &[], says("\"llama3\" does not support embeddings"), Halt, "unknown_model"),
        (400, &[], param("you must provide a model parameter", "model"), Halt, "unknown_model"),
        (400, &[], json!({"message": "invalid request: model 'command-r' is not supported by the embed API"}).to_string(), Halt, "unknown_model"),
        (403, &[], error("You are not allowed to generate embeddings from this model", "x", "x"), Halt, "unknown_model"),
        (400, &[], param("too many dimensions", "dimensions"), Halt, "dimensions_refused"),
        (400, &[], error("Model \"bge\" does not support matryoshka representation, changing output dimensions", "400", "BadRequestError"), Halt, "dimensions_refused"),
        (422, &[], json!({"detail": [{"loc": ["body", "dimensions"], "msg": "Extra inputs are not permitted: dimensions"}]}).to_string(), Halt, "dimensions_refused"),
        (400, &[], param("invalid encoding", "encoding_format"), Halt, "http_400"),
        (400, &[], google("INVALID_ARGUMENT", "Invalid value at 'requests[0].task_type'", json!([{"fieldViolations": [{"field": "requests[0].task_type"}]}])), Halt, "http_400"),
        (422, &[], detail(json!(["body", "input_type"]), "Input should be 'document' or 'query'"), Halt, "http_422"),
        (422, &[], detail(json!(["body", "input"]), "Field required"), Halt, "http_422"),
        (422, &[], "Failed to deserialize the JSON body into the target type: missing field `inputs` at line 1 column 40".into(), Halt, "http_422"),
        (400, &[], page("400 The plain HTTP request was sent to HTTPS port"), Halt, "http_400"),
        (405, &[], nothing(), Halt, "http_405"),
        (406, &[], nothing(), Halt, "http_406"),
        (410, &[], nothing(), Halt, "http_410"),
        (415, &[], nothing(), Halt, "http_415"),
        (426, &[], nothing(), Halt, "http_426"),
        (501, &[], nothing(), Halt, "http_501"),
        (301, &[("location", "https://elsewhere")], nothing(), Halt, "url"),
        (308, &[], nothing(), Halt, "url"),

        // The inputs.
        (400, &[], param("This model's maximum context length is 8192 tokens, however you requested 9000", "input"), Input, "http_400"),
        (400, &[], param("This model's maximum context length is 512 tokens.", "input_tokens"), Input, "http_400"),
        (400, &[], param("'$.input' is invalid", "input[3]"), Input, "http_400"),
        (400, &[], param("litellm.BadRequestError: OpenAIException - '$.input' is invalid.", "None"), Input, "http_400"),
        (400, &[], param("'$.input' is invalid", "$.input"), Input, "http_400"),
        (400, &[], says("the input length exceeds the context length"), Input, "http_400"),
        (400, &[], says("Argument 'input' is not valid: empty string"), Input, "http_400"),
        (400, &[], google("INVALID_ARGUMENT", "x", json!([{"fieldViolations": [{"field": "requests[3].content.parts[0].text"}]}])), Input, "http_400"),
        (400, &[], google("INVALID_ARGUMENT", "x", json!([{"fieldViolations": [{"field": "requests"}]}])), Input, "http_400"),
        (400, &[], nothing(), Input, "http_400"),
        (400, &[], "Bad Request".into(), Input, "http_400"),
        (413, &[], says("batch size 33 > maximum allowed batch size 32"), Input, "http_413"),
        (413, &[], page("413 Request Entity Too Large"), Input, "http_413"),
        (413, &[], nothing(), Input, "http_413"),
        (422, &[], json!({"detail": [{"msg": "String should have at least 1 character", "input": "secret text"}]}).to_string(), Input, "http_422"),
        (422, &[], detail(json!(["body", "input", "list[str]", 3]), "String should have at least 1 character"), Input, "http_422"),
        (422, &[], detail(json!(["body", "jina-embeddings-v3"]), "at least 1 character"), Input, "http_422"),
        (400, &[], error("The response was filtered", "content_filter", "x"), Input, "content_filter"),
        (400, &[], error("x", "content_policy_violation", "x"), Input, "content_filter"),
        (403, &[], error("Your chosen model requires moderation and your input was flagged", "403", "x"), Input, "content_filter"),
        (498, &[], says("blocked input: please contact the administrator"), Input, "content_filter"),
        (500, &[], error("litellm.InternalServerError: InternalServerError: OpenAIException - Error code: 500 - {'error': {'code': 500, 'message': 'input (802 tokens) is too large to process. increase the physical batch size (current batch size: 512)', 'type': 'server_error'}}", "500", "internal_server_error"), Input, "http_500"),
        (500, &[], error("input (1337 tokens) is too large to process. increase the physical batch size (current batch size: 512)", "500", "server_error"), Input, "http_500"),

        // Everything else.
        (500, after, nothing(), Retry, "http_500"),
        (500, &[], says("model requires more system memory"), Retry, "http_500"),
        (502, &[], page("502 Bad Gateway"), Retry, "http_502"),
        (503, &[], nothing(), Retry, "http_503"),
        (503, &[], page("503 Service Temporarily Unavailable"), Retry, "http_503"),
        (504, &[], nothing(), Retry, "http_504"),
        (520, &[], page("520: Web server is returning an unknown error"), Retry, "http_520"),
        (522, &[], nothing(), Retry, "http_522"),
        (524, &[], page("524: A timeout occurred"), Retry, "http_524"),
        (526, &[], nothing(), Retry, "http_526"),
        (408, &[], nothing(), Retry, "http_408"),
        (409, &[], nothing(), Retry, "http_409"),
        (424, &[], nothing(), Retry, "http_424"),
        (425, &[], nothing(), Retry, "http_425"),
        (499, &[], says("request cancelled"), Retry, "http_499"),
        (101, &[], nothing(), Retry, "http_101"),
        (999, &[], nothing(), Retry, "http_999"),
    ];
    for (status, headers, body, does, code) in cases {
        for inputs in [1, 2] {
            check(status, headers, &body, inputs, does, code);
        }
    }
}

#[test]
fn a_limit_of_a_minute_ends_one_input_only_if_it_can_never_pass() {
    let body = |message: &str| json!({"error": {"message": message, "code": "rate_limit_exceeded"}}).to_string();
    let unsure = body("Request too large for m");
    check(429, &[], &unsure, 1, Slow, "http_429");
    check(429, &[], &unsure, 2, Input, "http_429");
    let sure = body("Request too large for m: Limit 40000, Requested 50000");
    check(429, &[], &sure, 1, Input, "http_429");
    check(
        429,
        &[("retry-after", "7")],
        &body("Request too large for m: Limit 60000, Requested 50000"),
        1,
        Wait(7),
        "http_429",
    );
}

#[test]
fn what_is_too_large_without_words() {
    let unsaid = |part| Some(Oversize { part, unit: Some(Unit::Bytes), limit: None, found: None });
    assert_eq!(failure(413, 2, &[], "").oversize.as_deref(), unsaid(Part::Batch).as_ref());
    assert_eq!(failure(413, 1, &[], "").oversize.as_deref(), unsaid(Part::Input).as_ref());
    assert_eq!(failure(400, 2, &[], "").oversize, None);
}

#[test]
fn long_waits_are_told() {
    let failure = failure(429, 1, &[("retry-after", "86399")], &json!({"error": "x ".repeat(400)}).to_string());
    assert!(failure.message.starts_with("the server asks for a pause of 24 hours: x x"), "{failure:?}");
    assert!(failure.hint.contains("every hour"), "{failure:?}");
}

#[test]
fn a_refused_field_of_the_options_is_no_inputs_fault() {
    let mut model = model();
    model.options = json!({"body": {"late_chunking": true}});
    let body = json!({"detail": "late_chunking is not supported here"}).to_string();
    let action = |model: &Model| from_response(model, None, 1, &response(400, &[], &body), 0).action;
    assert_eq!(action(&model), HALT);
    model.options = json!({});
    assert_eq!(action(&model), Action::Reject);
}

#[test]
fn hints_tell_apart_who_refuses() {
    for (status, body, words) in [
        (401, "", "No API key was sent"),
        (403, "", "No API key was sent"),
        (403, "<html>", "firewall"),
        (407, "", "proxy"),
        (404, "", "api.openai.com"),
        (400, "<html>", "api.openai.com"),
        (402, "", "credit"),
    ] {
        let hint = failure(status, 1, &[], body).hint;
        assert!(hint.contains(words), "{status}: {hint}");
    }
    let key = Secret::new("canary-1234").unwrap();
    let failure = from_response(&model(), Some(&key), 1, &response(403, &[], ""), 0);
    assert!(failure.hint.contains("Give the key that right"), "{failure:?}");
}
