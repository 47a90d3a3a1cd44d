//! The models that come with the extension, as its SQL has them.

use super::*;

/// The columns of one line: texts without their quotes, the last two left out.
fn columns(line: &str) -> Option<(Vec<&str>, Value)> {
    let (columns, options) = line.trim().strip_prefix('(')?.split_once("'{")?;
    let (options, _) = options.split_once("}', true)")?;
    let columns = columns.split(',').map(|column| column.trim().trim_matches('\'')).collect();
    Some((columns, serde_json::from_str(&format!("{{{options}}}")).unwrap()))
}

#[test]
fn each_is_valid_and_gets_the_vectors_it_says() {
    let sql = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../sql/01_tables.sql")).unwrap();
    let (_, rest) = sql.split_once("INSERT INTO autoembed.models").unwrap();
    let (rows, _) = rest.split_once(";\n").unwrap();
    let mut providers = std::collections::HashSet::new();
    for line in rows.lines().skip(1) {
        let (columns, options) = columns(line).unwrap_or_else(|| panic!("{line}"));
        let [name, provider, remote, dimensions, batch_tokens, input_tokens, _] = columns[..] else { panic!("{line}") };
        let provider: Provider = provider.parse().unwrap();
        let mut model = Model::new(name, provider, remote, dimensions.parse().unwrap());
        model.limits.batch_tokens = batch_tokens.parse().unwrap_or(model.limits.batch_tokens);
        model.limits.input_tokens = input_tokens.parse().unwrap_or(model.limits.input_tokens);
        model.options = options;
        model.validate().unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert!(model.limits.input_tokens <= model.limits.batch_tokens, "{name}");
        providers.insert(provider);
        // A model whose vectors can be shortened is told how long they shall be; the others are not asked.
        if provider.is_remote() {
            let body = sent(&build_request(&model, None, InputKind::Document, &["a"]).unwrap()).to_string();
            let fixed = provider == Provider::Ollama
                || remote.contains("ada-002")
                || remote.ends_with("v3.0")
                || ["voyage-finance-2", "voyage-law-2", "mistral-embed"].contains(&remote);
            assert_eq!(body.contains(dimensions), !fixed, "{name}: {body}");
        }
    }
    let without = [Provider::Azure, Provider::Tei];
    for provider in Provider::ALL {
        assert_eq!(providers.contains(provider), !without.contains(provider), "{provider}");
    }
}
