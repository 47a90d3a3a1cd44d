//! Azure OpenAI: OpenAI's bodies, the deployment in the path, the key in a header of its own, errors of the gateway.

use serde_json::{Value, json};

use super::{Ask, Format, KeyHeader, Place, Reason, Wire, list, openai, read};

pub(super) struct Azure;

impl Wire for Azure {
    fn most_inputs(&self) -> Option<usize> {
        Some(2048)
    }

    fn read(&self, body: &[u8], place: &Place) -> Result<Ask, Reason> {
        let mut wanted: openai::Wanted = read::body(body)?;
        // The classic API wants a version and takes the model from the path; the v1 API is the other way round.
        let model = match &place.model {
            Some(_) if place.query_value("api-version").is_none_or(str::is_empty) => return Err(Reason::Path),
            Some(deployment) => deployment.clone(),
            None => read::model(wanted.model.take())?,
        };
        wanted.ask(Format::Azure, model)
    }

    fn key_headers(&self) -> &'static [KeyHeader] {
        // A bearer is a token of the directory and no key.
        &[KeyHeader { name: "api-key", bearer: false }]
    }

    fn open(&self, _: &Ask) -> String {
        list::open()
    }

    fn item(&self, index: Option<usize>) -> (String, &'static str) {
        list::item(index)
    }

    fn close(&self, ask: &Ask, tokens: u64) -> String {
        list::close(ask, &json!({"prompt_tokens": tokens, "total_tokens": tokens}), "")
    }

    fn refuse(&self, reason: &Reason) -> (u16, Value) {
        let gateway =
            |code: &str, message: String| (reason.status(), json!({"error": {"code": code, "message": message}}));
        let seconds = reason.wait().map_or(1, |wait| wait.as_secs().saturating_add(1));
        let exceeded = |of: &str| {
            format!(
                "Requests to the Embeddings_Create Operation under Azure OpenAI API have exceeded {of} rate limit of \
                 your current pricing tier. Please retry after {seconds} seconds."
            )
        };
        match reason {
            Reason::Key | Reason::NoKey => {
                let message = "Access denied due to invalid subscription key or wrong API endpoint.";
                gateway("401", message.to_owned())
            }
            Reason::Model(_) => {
                gateway("DeploymentNotFound", "The API deployment for this resource does not exist.".to_owned())
            }
            Reason::Path => gateway("404", "Resource not found".to_owned()),
            Reason::Requests { .. } => gateway("429", exceeded("call")),
            Reason::Tokens { .. } | Reason::TooLarge { .. } => gateway("429", exceeded("token")),
            Reason::TooManyInputs { most, .. } => {
                let message = format!("Too many inputs. The max number of inputs is {most}.");
                let error = json!({"message": message, "type": "invalid_request_error", "param": null, "code": null});
                (400, json!({"error": error}))
            }
            Reason::Quota => {
                (403, json!({"statusCode": 403, "message": "Out of call volume quota. Quota will be replenished."}))
            }
            other => openai::OpenAi.refuse(other),
        }
    }
}
