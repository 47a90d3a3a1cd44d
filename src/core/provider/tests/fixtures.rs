//! The fixtures: requests and answers in the shape of each provider's documentation.

use super::*;
use std::path::PathBuf;

/// What [`read_fixture`] finds for answers: two texts, three dimensions, these numbers.
pub(super) const ROWS: [[f32; 3]; 2] = [[0.5, -0.25, 1.0], [-1.5, 2.0, 0.125]];

fn folder(provider: Provider) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "provider", "fixtures", provider.as_str()].iter().collect()
}

/// A provider's fixtures whose names begin so, in the order of their names.
pub(super) fn fixtures(provider: Provider, start: &str) -> Vec<(String, Value)> {
    let mut found: Vec<(String, Value)> = std::fs::read_dir(folder(provider))
        .unwrap_or_else(|error| panic!("{provider}: {error}"))
        .map(|entry| entry.unwrap().path())
        .filter_map(|path| {
            let name = path.file_stem()?.to_str()?.to_owned();
            let json = name.starts_with(start).then(|| std::fs::read_to_string(&path).unwrap())?;
            Some((name, serde_json::from_str(&json).unwrap_or_else(|error| panic!("{}: {error}", path.display()))))
        })
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

pub(super) fn remote_providers() -> impl Iterator<Item = Provider> {
    Provider::ALL.iter().copied().filter(|provider| provider.is_remote())
}

/// The model that a fixture's request belongs to.
fn model_of(fixture: &Value) -> Model {
    let text = |name: &str| fixture[name].as_str().map(str::to_owned);
    let provider: Provider = text("provider").unwrap().parse().unwrap();
    let dimensions = usize::try_from(fixture["dimensions"].as_u64().unwrap()).unwrap();
    let mut model = Model::new("m", provider, &text("model").unwrap(), dimensions);
    model.url = text("url");
    model.options = fixture["options"].clone();
    model.validate().unwrap();
    model
}

/// A model of that provider for the answers of its fixtures.
pub(super) fn any_model(provider: Provider) -> Model {
    let (_, fixture) = fixtures(provider, "request_document").remove(0);
    model_of(&fixture["model"])
}

#[test]
fn each_request_is_exactly_the_documented_one() {
    for provider in remote_providers() {
        let requests = fixtures(provider, "request_");
        for kind in ["request_document", "request_query"] {
            assert!(requests.iter().any(|(name, _)| name == kind), "{provider} has no {kind}");
        }
        for (name, fixture) in requests {
            let model = model_of(&fixture["model"]);
            assert_eq!(model.provider, provider);
            let kind = match fixture["kind"].as_str().unwrap() {
                "query" => InputKind::Query,
                _ => InputKind::Document,
            };
            let key = fixture["key"].as_str().map(|key| Secret::new(key).unwrap());
            let texts: Vec<&str> = fixture["texts"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
            let request = build_request(&model, key.as_ref(), kind, &texts).unwrap();
            let mut headers: Map<String, Value> =
                request.headers.iter().map(|(name, value)| (name.clone(), value.expose().into())).collect();
            // Further headers of the options are in the model above already.
            for own in fixture["model"]["options"]["headers"].as_object().into_iter().flatten() {
                assert_eq!(headers.remove(&own.0.to_lowercase()).as_ref(), Some(own.1), "{provider} {name}");
            }
            let sent = json!({"url": request.url, "headers": headers, "body": sent(&request)});
            assert_eq!(sent, fixture["request"], "{provider} {name}");
        }
    }
}

#[test]
fn each_documented_answer_is_read() {
    for provider in remote_providers() {
        let model = any_model(provider);
        let answers = fixtures(provider, "answer");
        assert!(!answers.is_empty(), "{provider}");
        for (name, fixture) in answers {
            let answer = read_answer(&model, 2, &ok(fixture.to_string())).unwrap_or_else(|f| panic!("{name}: {f:?}"));
            assert_eq!(answer.vectors.data, ROWS.concat(), "{provider} {name}");
            // The documented answers of these two have no count.
            let counted = provider != Provider::Tei && (provider, name.as_str()) != (Provider::Gemini, "answer");
            assert_eq!(answer.tokens, counted.then_some(11), "{provider} {name}");
        }
    }
}

#[test]
fn each_provider_has_bodies_of_refusals() {
    for provider in remote_providers() {
        let errors = fixtures(provider, "error_");
        assert!(errors.len() >= 5, "{provider}");
        for (name, body) in errors {
            let status: u16 = name.split('_').nth(1).unwrap().parse().unwrap();
            let response = Response { status, headers: Vec::new(), body: body.to_string().into_bytes() };
            let failure = read_answer(&any_model(provider), 2, &response).unwrap_err();
            assert!(!failure.message.is_empty() && !failure.hint.is_empty(), "{provider} {name}");
        }
    }
}
