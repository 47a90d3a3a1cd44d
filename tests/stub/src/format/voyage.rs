//! Voyage's `POST /v1/embeddings`.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Ask, Format, Place, Reason, Wire, list, read};

pub(super) struct Voyage;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    model: Option<String>,
    input: Option<read::Texts>,
    input_type: Option<String>,
    truncation: Option<bool>,
    output_dimension: Option<usize>,
    output_dtype: Option<String>,
    encoding_format: Option<String>,
}

impl Wire for Voyage {
    fn most_inputs(&self) -> Option<usize> {
        Some(1000)
    }

    fn read(&self, body: &[u8], _: &Place) -> Result<Ask, Reason> {
        let wanted: Wanted = read::body(body)?;
        let model = read::model(wanted.model)?;
        let inputs = read::texts(wanted.input, "input")?;
        read::not_empty(&inputs)?;
        read::float_type(wanted.output_dtype.as_deref(), "output_dtype")?;
        // Floats are the default here and have no name of their own.
        let base64 = match wanted.encoding_format.as_deref() {
            None => false,
            Some("base64") => true,
            Some(other) => return Err(read::not_one_of("encoding_format", other, &["base64", "null"])),
        };
        let kind = read::kind(wanted.input_type.as_deref(), "input_type", "document", "query", &[])?;
        let truncate = wanted.truncation.unwrap_or(true);
        Ok(Ask {
            dimensions: wanted.output_dimension,
            base64,
            kind,
            truncate,
            ..Ask::new(Format::Voyage, model, inputs)
        })
    }

    fn open(&self, _: &Ask) -> String {
        list::open()
    }

    fn item(&self, index: Option<usize>) -> (String, &'static str) {
        list::item(index)
    }

    fn close(&self, ask: &Ask, tokens: u64) -> String {
        list::close(ask, &json!({"total_tokens": tokens}), "")
    }

    fn refuse(&self, reason: &Reason) -> (u16, Value) {
        let message = match reason {
            Reason::Key | Reason::NoKey => "Provided API key is invalid.".to_owned(),
            Reason::Model(model) => {
                return (400, json!({"detail": format!("Model {model} is not supported.")}));
            }
            Reason::UnknownField(field) => format!("Argument '{field}' is not supported by our API."),
            Reason::Field { field, why } => {
                format!("The value supplied for argument '{field}' is not valid: it {why}.")
            }
            Reason::Empty => "Input cannot contain empty strings or empty lists".to_owned(),
            Reason::TooManyInputs { most, got } => format!("The batch size limit is {most}. Your batch size is {got}."),
            Reason::InputTooLong { index, most, .. } => format!(
                "The example at index {index} in your batch has too many tokens and does not fit into the model's \
                 context window of {most} tokens."
            ),
            Reason::BatchTooLong { most, got } => format!(
                "The max allowed tokens per submitted batch is {most}. Your batch has {got} tokens after truncation. \
                 Please lower the number of tokens in the batch."
            ),
            Reason::Dimensions { asked, most } => {
                format!("Value '{asked}' supplied for argument 'output_dimension' is not valid -- at most {most}.")
            }
            Reason::Requests { .. } | Reason::Tokens { .. } | Reason::TooLarge { .. } => {
                "Your request was rate limited. Please slow down your requests.".to_owned()
            }
            other => other.to_string(),
        };
        (reason.status(), json!({"detail": message}))
    }
}
