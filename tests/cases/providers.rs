//! Each provider's format, from SQL to the request and back: one test, since only the names differ.

use autoembed_stub::{Fault, Format, Kind, Script};
use autoembed_tests::Site;
use autoembed_tests::db::literal;

/// A provider with the arguments that its model needs beyond its url.
struct Case {
    provider: &'static str,
    format: Format,
    /// The name of its model there.
    remote: &'static str,
    more: &'static str,
    /// Requests say what their texts are for.
    says_kind: bool,
    /// The least requests for 300 rows.
    requests: usize,
}

const fn case(provider: &'static str, format: Format, remote: &'static str, says_kind: bool, requests: usize) -> Case {
    Case { provider, format, remote, more: "", says_kind, requests }
}

const CASES: [Case; 9] = [
    case("openai", Format::OpenAi, "stub-model", false, 1),
    case("azure", Format::Azure, "my-deployment", false, 1),
    case("ollama", Format::Ollama, "stub-model", false, 2),
    case("tei", Format::Tei, "stub-model", false, 10),
    case("cohere", Format::Cohere, "embed-v4.0", true, 4),
    case("voyage", Format::Voyage, "voyage-3.5", true, 1),
    case("jina", Format::Jina, "jina-embeddings-v3", true, 1),
    case("mistral", Format::Mistral, "mistral-embed", false, 2),
    case("gemini", Format::Gemini, "gemini-embedding-001", true, 3),
];

impl Case {
    fn create(&self, site: &mut Site) {
        let url = literal(&site.stub.url_for(self.format));
        let (provider, remote, dims) = (self.provider, self.remote, site.dims);
        let comma = if self.more.is_empty() { "" } else { ", " };
        site.db.run(&format!(
            "SELECT autoembed.create_model('{provider}', '{provider}', {dims}, model => '{remote}', url => {url}{comma}{})",
            self.more
        ));
    }

    fn kind(&self, kind: Kind) -> Option<Kind> {
        self.says_kind.then_some(kind)
    }
}

#[test]
fn every_provider_embeds_and_is_searched() {
    let mut site = Site::new();
    for case in &CASES {
        let name = case.provider;
        case.create(&mut site);
        assert_eq!(site.db.text(&format!("SELECT ok::text FROM autoembed.test_model('{name}')")), "true", "{name}");
        site.db.run(&format!(
            "CREATE TABLE {name}_docs (id int PRIMARY KEY, body text); \
             INSERT INTO {name}_docs SELECT i, '{name} text ' || i FROM generate_series(1, 300) i"
        ));
        site.stub.reset_stats();
        site.db.run(&format!("SELECT autoembed.enable('{name}_docs', 'body', model => '{name}')"));
        assert_eq!(site.settle(&format!("{name}_docs"), "body"), 300, "{name}");
        let requests = site.stub.requests();
        assert_eq!(requests.len(), case.requests, "{name}: full batches are the fewest");
        for request in &requests {
            assert_eq!(request.format, Some(case.format), "{name}: {request:?}");
            assert_eq!(request.kind, case.kind(Kind::Document), "{name} stores documents");
        }
        site.stub.reset_stats();
        let found = site.db.column(&format!("SELECT id::text FROM similar_{name}_docs('{name} text 7', 3)"));
        let asked = site.stub.requests();
        assert_eq!((asked.len(), asked[0].kind), (1, case.kind(Kind::Query)), "{name} searches with a query");
        assert_eq!(found.first().map(String::as_str), Some("7"), "{name}: the same text is the nearest");
    }
}

#[test]
fn every_provider_refuses_a_bad_text_alone() {
    let mut site = Site::new();
    for case in &CASES {
        let name = case.provider;
        case.create(&mut site);
        site.db.run(&format!(
            "CREATE TABLE {name}_docs (id int PRIMARY KEY, body text); \
             SELECT autoembed.enable('{name}_docs', 'body', model => '{name}')"
        ));
        site.stub.reset_stats();
        site.stub.script(Script::always(Fault::Poison("poison".into())));
        site.db.run(&format!(
            "INSERT INTO {name}_docs SELECT i, CASE WHEN i = 13 THEN 'poison' ELSE '{name} ' || i END FROM generate_series(1, 32) i"
        ));
        site.until_idle(&format!("{name}_docs"));
        assert_eq!(site.db.int(&format!("SELECT count(embedding) FROM {name}_docs")), 31, "{name}");
        let failed = site.db.text(&format!(
            "SELECT key || ' ' || code FROM autoembed.failed_jobs WHERE source = '{name}_docs'::regclass"
        ));
        assert!(failed.starts_with("13 http_4"), "{name}: {failed}");
        let requests = site.stub.stats().requests;
        assert!(requests <= 2 + 2 * 5, "{name}: {requests} requests for one bad text in 32");
    }
}

#[test]
fn every_provider_is_blocked_by_a_refused_key_and_slowed_by_a_rate_limit() {
    let mut site = Site::new();
    for case in &CASES {
        let name = case.provider;
        case.create(&mut site);
        site.db.run(&format!(
            "CREATE TABLE {name}_docs (id int PRIMARY KEY, body text); \
             SELECT autoembed.enable('{name}_docs', 'body', model => '{name}')"
        ));
        site.fault(Fault::status(401));
        site.db.run(&format!("INSERT INTO {name}_docs SELECT i, '{name} ' || i FROM generate_series(1, 20) i"));
        let state = site.until_state(&format!("{name}_docs"), "blocked: ");
        assert!(state.contains("key"), "{name}: {state}");
        // A reload has blocked models tried at once.
        site.stub.script(Script::first(2, Fault::status(429).header("retry-after", "1")));
        site.db.run("SELECT pg_reload_conf()");
        assert_eq!(site.settle(&format!("{name}_docs"), "body"), 20, "{name}");
        assert_eq!(site.failed(&format!("{name}_docs")), 0, "{name}");
        assert_eq!(site.status("state", &format!("{name}_docs")), "active", "{name}");
        site.stub.clear();
    }
}
