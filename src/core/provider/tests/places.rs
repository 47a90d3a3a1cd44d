//! The address of a request, whichever way people write the base of an API.

use super::*;

#[test]
fn the_base_may_name_the_version_or_not() {
    let deployment = "https://x.openai.azure.com/openai/deployments/d/embeddings?api-version=2024-10-21";
    #[rustfmt::skip]
    let cases = [
        (Provider::OpenAi, "https://h/v1", "https://h/v1/embeddings"),
        (Provider::OpenAi, "https://h/any", "https://h/any/embeddings"),
        (Provider::Azure, "https://x.openai.azure.com/", deployment),
        (Provider::Azure, "https://x.openai.azure.com/openai", deployment),
        (Provider::Azure, "https://x.openai.azure.com/openai/deployments/d", deployment),
        (Provider::Azure, "https://x.openai.azure.com/openai/deployments/d/embeddings", deployment),
        (Provider::Azure, "https://x.openai.azure.com/openai/deployments/d/embeddings?api-version=2023-05-15", "https://x.openai.azure.com/openai/deployments/d/embeddings?api-version=2023-05-15"),
        (Provider::Azure, "https://gateway/team?a=b", "https://gateway/team/openai/deployments/d/embeddings?a=b&api-version=2024-10-21"),
        (Provider::Azure, "https://x.openai.azure.com/openai/v1", "https://x.openai.azure.com/openai/v1/embeddings"),
        (Provider::Azure, "https://x.openai.azure.com/openai/v1/embeddings", "https://x.openai.azure.com/openai/v1/embeddings"),
        (Provider::Ollama, "http://h:11434", "http://h:11434/api/embed"),
        (Provider::Ollama, "http://h:11434/api/", "http://h:11434/api/embed"),
        (Provider::Ollama, "http://h/ollama", "http://h/ollama/api/embed"),
        (Provider::Tei, "http://h:8080/", "http://h:8080/embed"),
        (Provider::Cohere, "https://api.cohere.com", "https://api.cohere.com/v2/embed"),
        (Provider::Cohere, "https://api.cohere.com/v2", "https://api.cohere.com/v2/embed"),
        (Provider::Cohere, "http://proxy/cohere?k=v", "http://proxy/cohere/v2/embed?k=v"),
        (Provider::Voyage, "https://api.voyageai.com", "https://api.voyageai.com/v1/embeddings"),
        (Provider::Voyage, "https://ai.mongodb.com/v1", "https://ai.mongodb.com/v1/embeddings"),
        (Provider::Jina, "https://api.jina.ai", "https://api.jina.ai/v1/embeddings"),
        (Provider::Jina, "https://api.jina.ai/v1/", "https://api.jina.ai/v1/embeddings"),
        (Provider::Mistral, "https://api.mistral.ai/v1", "https://api.mistral.ai/v1/embeddings"),
        (Provider::Mistral, "https://h/vault", "https://h/vault/v1/embeddings"),
        (Provider::Gemini, "https://h", "https://h/v1beta/models/d:batchEmbedContents"),
        (Provider::Gemini, "https://h/v1beta", "https://h/v1beta/models/d:batchEmbedContents"),
        (Provider::Gemini, "https://h/v1?key=canary", "https://h/v1/models/d:batchEmbedContents?key=canary"),
    ];
    for (provider, base, url) in cases {
        let mut model = Model::new("m", provider, "d", 3);
        model.url = Some(base.to_owned());
        let request = build_request(&model, None, InputKind::Document, &["a"]).unwrap();
        assert_eq!(request.url, url, "{provider} {base}");
    }
}

#[test]
fn the_version_by_date_is_where_the_options_say() {
    let mut model = Model::new("m", Provider::Azure, "d", 3);
    model.options = json!({"api_version": "a&b=c"});
    for (base, query) in [
        ("https://x.openai.azure.com", "?api-version=a%26b%3Dc"),
        ("https://x.openai.azure.com/openai/v1", "?api-version=a%26b%3Dc"),
        ("https://x.openai.azure.com?api-version=1", "?api-version=1"),
        ("https://x.openai.azure.com?my-api-version=1", "?my-api-version=1&api-version=a%26b%3Dc"),
    ] {
        model.url = Some(base.to_owned());
        let request = build_request(&model, None, InputKind::Document, &["a"]).unwrap();
        assert!(request.url.ends_with(query), "{base}: {}", request.url);
    }
}

#[test]
fn a_name_cannot_leave_its_place() {
    for (name, place) in [
        ("a/../../b", "a%2F..%2F..%2Fb"),
        ("..", "%2E%2E"),
        ("a?b#c", "a%3Fb%23c"),
        ("ü\n%", "%C3%BC%0A%25"),
        ("text-embedding.3_x~", "text-embedding.3_x~"),
    ] {
        let mut azure = Model::new("m", Provider::Azure, name, 3);
        azure.url = Some("https://h".to_owned());
        let request = build_request(&azure, None, InputKind::Query, &["a"]).unwrap();
        assert_eq!(request.url, format!("https://h/openai/deployments/{place}/embeddings?api-version=2024-10-21"));
        let gemini = Model::new("m", Provider::Gemini, name, 3);
        let request = build_request(&gemini, None, InputKind::Query, &["a"]).unwrap();
        assert!(request.url.ends_with(&format!("/v1beta/models/{place}:batchEmbedContents")), "{}", request.url);
    }
}
