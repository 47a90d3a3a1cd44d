//! Fingerprints: of a text, and of a text under a model.

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::model::Model;
use crate::provider::InputKind;
use crate::url::Url;

/// Options that do not change the vector of a text that is sent.
const BESIDE_THE_POINT: [&str; 2] = ["too_long", "price_per_million_tokens"];

/// Changes whenever the meaning of [`cache_key`]'s fields does.
const CACHE_KEY_VERSION: &[u8] = b"autoembed cache key 2";

/// sha256 of the text's UTF-8: what the writer compares before it writes a vector.
#[must_use]
pub fn text_hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// [`CacheKeys::of`] one text.
#[must_use]
pub fn cache_key(model: &Model, kind: InputKind, text: &str) -> [u8; 32] {
    CacheKeys::new(model, kind).of(text)
}

/// What a vector depends on: provider, place, remote name, dimensions, options, kind and text. All but the text is hashed
/// once.
///
/// Each field is preceded by its length, so that no two different inputs make the same bytes. Headers and the url's query count:
/// a gateway may choose the model by them. The key does not, nor do the model's own name, its limits, its timeout, its
/// price and what becomes of texts that are too long.
pub struct CacheKeys(Sha256);

impl CacheKeys {
    /// The keys of a model's texts of this kind.
    #[must_use]
    pub fn new(model: &Model, kind: InputKind) -> Self {
        let url = model.base_url().unwrap_or_default();
        let (place, query) = match Url::parse(url) {
            Ok(url) => (url.public(), url.query.unwrap_or_default()),
            Err(_) => (url.to_owned(), String::new()),
        };
        let kind: &[u8] = match kind {
            InputKind::Document => b"document",
            InputKind::Query => b"query",
        };
        let mut options = String::new();
        if let Value::Object(fields) = &model.options {
            canonical(fields.iter().filter(|(name, _)| !BESIDE_THE_POINT.contains(&name.as_str())), &mut options);
        }
        let mut hash = Sha256::new();
        for field in [
            CACHE_KEY_VERSION,
            model.provider.as_str().as_bytes(),
            place.as_bytes(),
            query.as_bytes(),
            model.remote.as_bytes(),
            &(model.dimensions as u64).to_le_bytes(),
            options.as_bytes(),
            kind,
        ] {
            add(&mut hash, field);
        }
        Self(hash)
    }

    /// The key of a text, as it is sent but for its prefix.
    #[must_use]
    pub fn of(&self, text: &str) -> [u8; 32] {
        let mut hash = self.0.clone();
        add(&mut hash, text.as_bytes());
        hash.finalize().into()
    }
}

fn add(hash: &mut Sha256, field: &[u8]) {
    hash.update((field.len() as u64).to_le_bytes());
    hash.update(field);
}

/// JSON with the fields of objects in the order of their names, whatever order the parser kept.
fn canonical<'a>(fields: impl Iterator<Item = (&'a String, &'a Value)>, out: &mut String) {
    let mut fields: Vec<_> = fields.collect();
    fields.sort_by_key(|(name, _)| *name);
    out.push('{');
    for (name, value) in fields {
        out.push_str(&Value::from(name.as_str()).to_string());
        out.push(':');
        canonical_value(value, out);
        out.push(',');
    }
    out.push('}');
}

fn canonical_value(value: &Value, out: &mut String) {
    match value {
        Value::Object(fields) => canonical(fields.iter(), out),
        Value::Array(items) => {
            out.push('[');
            for item in items {
                canonical_value(item, out);
                out.push(',');
            }
            out.push(']');
        }
        simple => out.push_str(&simple.to_string()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::provider::Provider;
    use serde_json::json;
    use std::collections::HashSet;

    type Change = Box<dyn Fn(&mut Model)>;

    fn model() -> Model {
        Model::new("m", Provider::OpenAi, "r", 3)
    }

    #[test]
    fn text_hash_is_sha256() {
        let hex: String = text_hash("abc").iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn whatever_changes_the_vector_changes_the_key() {
        let mut keys = HashSet::new();
        let mut all = 0;
        let changes: Vec<Change> = vec![
            Box::new(|_| {}),
            Box::new(|m| m.provider = Provider::Ollama),
            Box::new(|m| m.remote = "rx".into()),
            Box::new(|m| m.dimensions = 4),
            Box::new(|m| m.url = Some("https://other/v1".into())),
            Box::new(|m| m.url = Some("https://other/v1?deployment=a".into())),
            Box::new(|m| m.url = Some("https://other/v1?deployment=b".into())),
            Box::new(|m| m.options = json!({"headers": {"x-route": "a"}})),
            Box::new(|m| m.options = json!({"headers": {"x-route": "b"}})),
            Box::new(|m| m.options = json!({"query_prefix": "x"})),
            Box::new(|m| m.options = json!({"query_prefix": "x", "send_dimensions": true})),
            Box::new(|m| m.options = json!({"body": {"a": [1, 2]}})),
            Box::new(|m| m.options = json!({"body": {"a": [12]}})),
            Box::new(|m| m.options = json!({"body": {"too_long": "fail"}})),
            Box::new(|m| m.provider = Provider::Cohere),
            Box::new(|m| (m.provider, m.options) = (Provider::Cohere, json!({"query_type": "clustering"}))),
            Box::new(|m| (m.provider, m.options) = (Provider::Cohere, json!({"query_type": ""}))),
            Box::new(|m| (m.provider, m.options) = (Provider::Cohere, json!({"document_type": "clustering"}))),
            Box::new(|m| (m.provider, m.options) = (Provider::Azure, json!({"api_version": "2024-10-21"}))),
        ];
        for change in &changes {
            for kind in [InputKind::Document, InputKind::Query] {
                for text in ["", "x", "xy", "documentx"] {
                    let mut model = model();
                    change(&mut model);
                    keys.insert(cache_key(&model, kind, text));
                    all += 1;
                }
            }
        }
        assert_eq!(keys.len(), all);
    }

    #[test]
    fn fields_do_not_run_into_each_other() {
        let (mut one, mut two) = (model(), model());
        one.url = Some("https://h/ab".into());
        one.remote = "c".into();
        two.url = Some("https://h/a".into());
        two.remote = "bc".into();
        assert_ne!(cache_key(&one, InputKind::Query, ""), cache_key(&two, InputKind::Query, ""));
    }

    #[test]
    fn names_limits_and_order_do_not_count() {
        let key = |change: &dyn Fn(&mut Model)| {
            let mut model = model();
            model.url = Some("https://h/v1".into());
            model.options = json!({"query_prefix": "q", "body": {"a": 1, "b": 2}});
            change(&mut model);
            cache_key(&model, InputKind::Query, "t")
        };
        let plain = key(&|_| {});
        assert_eq!(plain, key(&|m| m.options = json!({"body": {"b": 2, "a": 1}, "query_prefix": "q"})));
        assert_eq!(plain, key(&|m| m.timeout = std::time::Duration::from_secs(1)));
        assert_eq!(plain, key(&|m| m.name = "another".into()));
        for (option, value) in [("too_long", json!("fail")), ("price_per_million_tokens", json!(0.02))] {
            assert_eq!(plain, key(&|m| m.options[option] = value.clone()), "{option}");
        }
    }
}
