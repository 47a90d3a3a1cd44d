//! From a path to a format.

use super::Format;

/// Where a request goes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// Whose error is answered if there is no such place.
    pub(crate) format: Format,
    /// `None` if the format has nothing at this path.
    pub(crate) place: Option<Place>,
}

/// One of a format's endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// The model, where the path names it.
    pub(crate) model: Option<String>,
    /// What follows the question mark.
    pub(crate) query: String,
}

impl Place {
    /// A value of the query.
    pub(crate) fn query_value(&self, name: &str) -> Option<&str> {
        self.query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }
}

/// The route of a path: with the name of a format as its first segment, or one that only one format has. Three formats
/// share OpenAI's path, so the first segment tells them apart: the base URL decides, as it does between providers.
pub(crate) fn route(path: &str, query: &str) -> Route {
    for format in Format::ALL {
        let rest = path.strip_prefix('/').and_then(|path| path.strip_prefix(format.name()));
        if let Some(rest) = rest.filter(|rest| rest.starts_with('/'))
            && let place @ Some(_) = endpoint(format, rest, query)
        {
            return Route { format, place };
        }
    }
    for format in Format::ALL {
        if let place @ Some(_) = endpoint(format, path, query) {
            return Route { format, place };
        }
    }
    let first = path.split('/').nth(1).unwrap_or_default();
    let named = Format::ALL.into_iter().find(|format| format.name() == first);
    Route { format: named.unwrap_or(Format::OpenAi), place: None }
}

fn endpoint(format: Format, path: &str, query: &str) -> Option<Place> {
    let at = |there: bool| there.then(|| Place { model: None, query: query.to_owned() });
    let named = |model: &str| {
        let model = decoded(model).filter(|model| !model.is_empty())?;
        Some(Place { model: Some(model), query: query.to_owned() })
    };
    match format {
        Format::OpenAi | Format::Voyage | Format::Jina | Format::Mistral => at(path == "/v1/embeddings"),
        Format::Azure if path == "/openai/v1/embeddings" => at(true),
        Format::Azure => named(path.strip_prefix("/openai/deployments/")?.strip_suffix("/embeddings")?),
        Format::Ollama => at(path == "/api/embed"),
        Format::Tei => at(path == "/embed"),
        Format::Cohere => at(path == "/v2/embed"),
        Format::Gemini => {
            let rest = path.strip_prefix("/v1beta/models/").or_else(|| path.strip_prefix("/v1/models/"))?;
            named(rest.strip_suffix(":batchEmbedContents")?)
        }
    }
}

/// A segment without its percent signs; `None` if it is more than one segment or no UTF-8.
fn decoded(segment: &str) -> Option<String> {
    if segment.contains('/') {
        return None;
    }
    let mut out = Vec::with_capacity(segment.len());
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16);
            out.push(u8::try_from(digit()? * 16 + digit()?).ok()?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn found(path: &str) -> Option<(Format, Option<String>)> {
        let Route { format, place } = route(path, "");
        place.map(|place| (format, place.model))
    }

    #[test]
    fn paths_name_formats() {
        let model = |name: &str| Some(name.to_owned());
        let cases = [
            ("/v1/embeddings", Format::OpenAi, None),
            ("/openai/v1/embeddings", Format::OpenAi, None),
            ("/azure/openai/v1/embeddings", Format::Azure, None),
            ("/openai/deployments/my%20one/embeddings", Format::Azure, model("my one")),
            ("/azure/openai/deployments/d/embeddings", Format::Azure, model("d")),
            ("/api/embed", Format::Ollama, None),
            ("/ollama/api/embed", Format::Ollama, None),
            ("/embed", Format::Tei, None),
            ("/tei/embed", Format::Tei, None),
            ("/v2/embed", Format::Cohere, None),
            ("/cohere/v2/embed", Format::Cohere, None),
            ("/voyage/v1/embeddings", Format::Voyage, None),
            ("/jina/v1/embeddings", Format::Jina, None),
            ("/mistral/v1/embeddings", Format::Mistral, None),
            ("/v1beta/models/g-1:batchEmbedContents", Format::Gemini, model("g-1")),
            ("/gemini/v1/models/g-1:batchEmbedContents", Format::Gemini, model("g-1")),
        ];
        for (path, format, model) in cases {
            assert_eq!(found(path), Some((format, model)), "{path}");
        }
        for path in [
            "",
            "/",
            "/v1/embeddings/",
            "/v1",
            "/cohere/v1/embeddings",
            "/voyage/embed",
            "/openai/deployments//embeddings",
            "/openai/deployments/a/b/embeddings",
            "/v1beta/models/%zz:batchEmbedContents",
            "/v1beta/models/g-1:embed",
        ] {
            assert_eq!(found(path), None, "{path}");
        }
        assert_eq!(route("/mistral/nothing", "").format, Format::Mistral);
        assert_eq!(route("/elsewhere", "").format, Format::OpenAi);
    }

    #[test]
    fn every_base_path_is_of_its_own_format() {
        let ends = [
            "/embeddings",
            "/openai/v1/embeddings",
            "/api/embed",
            "/embed",
            "/v2/embed",
            "/embeddings",
            "/embeddings",
            "/v1/embeddings",
            "/v1beta/models/m:batchEmbedContents",
        ];
        for (format, end) in Format::ALL.into_iter().zip(ends) {
            assert_eq!(found(&format!("{}{end}", format.base_path())).unwrap().0, format);
        }
    }

    #[test]
    fn query_values_are_found_whole() {
        let place = Place { model: None, query: "a=1&api-version=2024-10-21&key=x".into() };
        assert_eq!(place.query_value("api-version"), Some("2024-10-21"));
        assert_eq!(place.query_value("key"), Some("x"));
        assert_eq!(place.query_value("ke"), None);
    }
}
