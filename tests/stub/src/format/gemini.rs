//! Gemini's `POST /v1beta/models/NAME:batchEmbedContents`.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Ask, Format, KeyHeader, Place, Reason, Wire, read};

pub(super) struct Gemini;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    requests: Option<Vec<One>>,
}

/// Google reads both spellings of a field.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct One {
    model: Option<String>,
    content: Option<Content>,
    #[serde(alias = "task_type")]
    task_type: Option<String>,
    #[serde(alias = "output_dimensionality")]
    output_dimensionality: Option<usize>,
    #[serde(rename = "title")]
    _title: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    parts: Vec<Part>,
    #[serde(rename = "role")]
    _role: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    text: String,
}

impl Wire for Gemini {
    fn most_inputs(&self) -> Option<usize> {
        Some(100)
    }

    fn read(&self, body: &[u8], place: &Place) -> Result<Ask, Reason> {
        let wanted: Wanted = read::body(body)?;
        let model = place.model.clone().unwrap_or_default();
        let requests = wanted.requests.filter(|requests| !requests.is_empty()).ok_or(Reason::Empty)?;
        let mut inputs = Vec::with_capacity(requests.len());
        let mut common = None;
        for one in requests {
            if one.model.as_deref().is_none_or(|name| name.strip_prefix("models/") != Some(&model)) {
                return Err(Reason::Field { field: "model", why: format!("must be models/{model}") });
            }
            // Every text may ask for something else; a client that mixes them here has lost its way.
            let asked = (one.task_type, one.output_dimensionality);
            if common.get_or_insert_with(|| asked.clone()) != &asked {
                let why = "and outputDimensionality must be the same in all requests of a batch".to_owned();
                return Err(Reason::Field { field: "taskType", why });
            }
            let text: String = one.content.ok_or(Reason::Empty)?.parts.into_iter().map(|part| part.text).collect();
            inputs.push(text);
        }
        read::not_empty(&inputs)?;
        let (task, dimensions) = common.unwrap_or_default();
        let others = [
            "TASK_TYPE_UNSPECIFIED",
            "SEMANTIC_SIMILARITY",
            "CLASSIFICATION",
            "CLUSTERING",
            "QUESTION_ANSWERING",
            "FACT_VERIFICATION",
            "CODE_RETRIEVAL_QUERY",
        ];
        let kind = read::kind(task.as_deref(), "taskType", "RETRIEVAL_DOCUMENT", "RETRIEVAL_QUERY", &others)?;
        // What is too long is cut without a word.
        Ok(Ask { dimensions, kind, truncate: true, ..Ask::new(Format::Gemini, model, inputs) })
    }

    fn key_headers(&self) -> &'static [KeyHeader] {
        &[KeyHeader { name: "x-goog-api-key", bearer: false }]
    }

    fn has_index(&self) -> bool {
        false
    }

    fn open(&self, _: &Ask) -> String {
        r#"{"embeddings":["#.to_owned()
    }

    fn item(&self, _: Option<usize>) -> (String, &'static str) {
        (r#"{"values":"#.to_owned(), "}")
    }

    fn close(&self, _: &Ask, _: u64) -> String {
        "]}".to_owned()
    }

    fn refuse(&self, reason: &Reason) -> (u16, Value) {
        let (code, status, message) = match reason {
            Reason::Key => (400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.".to_owned()),
            Reason::NoKey => {
                let message = "Method doesn't allow unregistered callers. Please use API Key to call this API.";
                (403, "PERMISSION_DENIED", message.to_owned())
            }
            Reason::Model(model) => {
                let message = format!("models/{model} is not found for API version v1beta");
                (404, "NOT_FOUND", message)
            }
            Reason::UnknownField(field) => {
                let message = format!("Invalid JSON payload received. Unknown name \"{field}\": Cannot find field.");
                (400, "INVALID_ARGUMENT", message)
            }
            Reason::Empty => (400, "INVALID_ARGUMENT", "* EmbedContentRequest.content: content is empty\n".to_owned()),
            Reason::TooManyInputs { most, .. } => {
                let of = "* BatchEmbedContentsRequest.requests";
                (400, "INVALID_ARGUMENT", format!("{of}: at most {most} requests can be in one batch\n"))
            }
            Reason::InputTooLong { most, .. } => {
                let message = format!("The input token count exceeds the maximum number of tokens allowed {most}.");
                (400, "INVALID_ARGUMENT", message)
            }
            Reason::Requests { .. } | Reason::Tokens { .. } | Reason::TooLarge { .. } | Reason::Quota => {
                let message = "You exceeded your current quota, please check your plan and billing details.";
                (429, "RESOURCE_EXHAUSTED", message.to_owned())
            }
            Reason::Overloaded => (503, "UNAVAILABLE", "The model is overloaded. Please try again later.".to_owned()),
            Reason::Internal => (500, "INTERNAL", "An internal error has occurred.".to_owned()),
            Reason::Path => (404, "NOT_FOUND", reason.to_string()),
            other => (other.status(), "INVALID_ARGUMENT", other.to_string()),
        };
        let mut error = json!({"code": code, "message": message, "status": status});
        let details = details(reason);
        if !details.is_empty() {
            error["details"] = details.into();
        }
        (code, json!({"error": error}))
    }
}

/// What clients read besides: why a key is bad, which quota is used up, how long to wait.
fn details(reason: &Reason) -> Vec<Value> {
    const TYPE: &str = "type.googleapis.com/google.rpc.";
    let quota = |id: &str, value: u64| json!({"@type": format!("{TYPE}QuotaFailure"), "violations": [{"quotaId": id, "quotaValue": value.to_string()}]});
    let mut details = match reason {
        Reason::Key => vec![json!({
            "@type": format!("{TYPE}ErrorInfo"), "reason": "API_KEY_INVALID", "domain": "googleapis.com",
        })],
        Reason::Requests { limit, .. } => vec![quota("EmbedContentRequestsPerMinutePerProjectPerModel", *limit)],
        Reason::Tokens { limit, .. } | Reason::TooLarge { limit, .. } => {
            vec![quota("EmbedContentInputTokensPerMinutePerProjectPerModel", *limit)]
        }
        Reason::Quota => vec![quota("EmbedContentRequestsPerDayPerProjectPerModel", 0)],
        _ => Vec::new(),
    };
    if let Some(wait) = reason.wait() {
        let delay = format!("{}.{:03}s", wait.as_secs(), wait.subsec_millis());
        details.push(json!({"@type": format!("{TYPE}RetryInfo"), "retryDelay": delay}));
    }
    details
}
