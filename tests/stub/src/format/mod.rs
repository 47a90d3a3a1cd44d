//! The providers' formats: one file each, with what it reads, what it answers and how it says no.

mod azure;
mod cohere;
mod gemini;
mod jina;
mod list;
mod mistral;
mod ollama;
mod openai;
mod read;
mod refusal;
mod route;
mod tei;
mod voyage;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::http::Request;
pub(crate) use refusal::{Reason, Refusal};
pub(crate) use route::{Place, Route, route};

/// A provider's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// `POST /v1/embeddings`.
    OpenAi,
    /// `POST /openai/deployments/NAME/embeddings?api-version=DATE` and `POST /openai/v1/embeddings`.
    Azure,
    /// `POST /api/embed`.
    Ollama,
    /// `POST /embed`.
    Tei,
    /// `POST /v2/embed`.
    Cohere,
    /// `POST /voyage/v1/embeddings`.
    Voyage,
    /// `POST /jina/v1/embeddings`.
    Jina,
    /// `POST /mistral/v1/embeddings`.
    Mistral,
    /// `POST /v1beta/models/NAME:batchEmbedContents`.
    Gemini,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::OpenAi,
        Self::Azure,
        Self::Ollama,
        Self::Tei,
        Self::Cohere,
        Self::Voyage,
        Self::Jina,
        Self::Mistral,
        Self::Gemini,
    ];

    /// As in `create_model(provider => ...)`, and as the first segment of a path.
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Azure => "azure",
            Self::Ollama => "ollama",
            Self::Tei => "tei",
            Self::Cohere => "cohere",
            Self::Voyage => "voyage",
            Self::Jina => "jina",
            Self::Mistral => "mistral",
            Self::Gemini => "gemini",
        }
    }

    /// The path of the base URL, as the provider's own client takes it.
    pub(crate) fn base_path(self) -> &'static str {
        match self {
            Self::OpenAi => "/v1",
            Self::Azure => "/azure",
            Self::Ollama => "",
            Self::Tei => "/tei",
            Self::Cohere => "/cohere",
            Self::Voyage => "/voyage/v1",
            Self::Jina => "/jina/v1",
            Self::Mistral => "/mistral",
            Self::Gemini => "/gemini",
        }
    }

    pub(crate) fn wire(self) -> &'static dyn Wire {
        match self {
            Self::OpenAi => &openai::OpenAi,
            Self::Azure => &azure::Azure,
            Self::Ollama => &ollama::Ollama,
            Self::Tei => &tei::Tei,
            Self::Cohere => &cohere::Cohere,
            Self::Voyage => &voyage::Voyage,
            Self::Jina => &jina::Jina,
            Self::Mistral => &mistral::Mistral,
            Self::Gemini => &gemini::Gemini,
        }
    }
}

/// What a request says its texts are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Stored texts that are to be found.
    Document,
    /// A text that is searched with.
    Query,
    /// A purpose other than search, as classification.
    Other,
}

/// What a request asks for.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) format: Format,
    pub(crate) model: String,
    pub(crate) inputs: Vec<String>,
    pub(crate) dimensions: Option<usize>,
    pub(crate) base64: bool,
    pub(crate) kind: Option<Kind>,
    /// Whether a text that is too long is to be cut instead of refused; the provider's default if it is not said.
    pub(crate) truncate: bool,
}

impl Ask {
    /// With nothing but a model and texts, so that formats name only what is theirs.
    fn new(format: Format, model: String, inputs: Vec<String>) -> Self {
        Self { format, model, inputs, dimensions: None, base64: false, kind: None, truncate: false }
    }
}

/// One format: reading a request, framing the vectors of an answer, saying no.
pub(crate) trait Wire: Sync {
    /// Most texts of one request, as the provider has it.
    fn most_inputs(&self) -> Option<usize>;

    /// Reads a body. `place` is what the path says: the model, where it is named there.
    fn read(&self, body: &[u8], place: &Place) -> Result<Ask, Reason>;

    /// The headers that may carry the key, in the order in which they are looked for.
    fn key_headers(&self) -> &'static [KeyHeader] {
        &[KeyHeader { name: "authorization", bearer: true }]
    }

    /// Whether the items of an answer carry their index.
    fn has_index(&self) -> bool {
        true
    }

    /// An answer's bytes before its first item.
    fn open(&self, ask: &Ask) -> String;

    /// An item's bytes before and after its vector.
    fn item(&self, index: Option<usize>) -> (String, &'static str);

    /// An answer's bytes after its last item.
    fn close(&self, ask: &Ask, tokens: u64) -> String;

    /// Status and body of a no; `Null` is an empty body.
    fn refuse(&self, reason: &Reason) -> (u16, Value);
}

/// Where a key is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyHeader {
    pub(crate) name: &'static str,
    /// Whether the value is `Bearer KEY` instead of the key itself.
    pub(crate) bearer: bool,
}

impl KeyHeader {
    /// The key in this header of a request, if there is one.
    pub(crate) fn key_of<'a>(&self, request: &'a Request) -> Option<&'a str> {
        let value = request.header(self.name)?;
        if !self.bearer {
            return Some(value);
        }
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    }
}

/// The stub's tokens of a text: one for each 4 bytes begun, and one for the empty text.
pub fn tokens(text: &str) -> u64 {
    text.len().div_ceil(4).max(1) as u64
}
