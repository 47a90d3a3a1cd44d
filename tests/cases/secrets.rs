//! Keys of models: where they come from, where they go, and where they never show.

use crate::doorman::Doorman;
use autoembed_tests::db::literal;
use autoembed_tests::site::PATIENCE;
use autoembed_tests::{Db, Site};

/// Every provider with a key, and the header that it goes into.
const PROVIDERS: [(&str, &str); 9] = [
    ("openai", "authorization"),
    ("azure", "api-key"),
    ("cohere", "authorization"),
    ("voyage", "authorization"),
    ("jina", "authorization"),
    ("mistral", "authorization"),
    ("gemini", "x-goog-api-key"),
    ("ollama", "authorization"),
    ("tei", "authorization"),
];

/// Writes a file as the server's user, whoever runs the test; gives its path.
pub fn write_file(db: &mut Db, name: &str, text: &str, mode: &str) -> String {
    let path = format!("{}/{name}", db.text("SHOW data_directory"));
    // Made beside it and renamed, so that no reader finds half of it.
    let program = format!("umask 077; cat > '{path}.new' && chmod {mode} '{path}.new' && mv '{path}.new' '{path}'");
    db.run(&format!("COPY (SELECT {}) TO PROGRAM {}", literal(text), literal(&program)));
    path
}

/// `autoembed.test_model`: whether it answered, and the error.
fn try_model(db: &mut Db, name: &str) -> (bool, String) {
    let row =
        db.rows(&format!("SELECT ok, coalesce(error, '') FROM autoembed.test_model({})", literal(name))).remove(0);
    (row[0].as_deref() == Some("t"), row[1].clone().unwrap_or_default())
}

fn create(db: &mut Db, name: &str, provider: &str, url: &str, more: &str) {
    let (name, url) = (literal(name), literal(url));
    db.run(&format!(
        "SELECT autoembed.create_model({name}, '{provider}', dimensions => 16, model => 'm', url => {url}{more})"
    ));
}

#[test]
fn a_key_that_is_changed_in_its_file_heals() {
    let mut site = Site::new();
    let doorman = Doorman::start("right-key-1", site.dims);
    let file = write_file(&mut site.db, "model.key", "wrong-key", "600");
    create(&mut site.db, "guarded", "openai", &doorman.url(), &format!(", api_key_file => {}", literal(&file)));
    site.db.run("CREATE TABLE notes (id int PRIMARY KEY, body text)");
    site.db.run("SELECT autoembed.enable('notes', 'body', model => 'guarded')");
    site.db.run("INSERT INTO notes SELECT i, 'note ' || i FROM generate_series(1, 30) i");
    let state = site.until_state("notes", "blocked: ");
    assert!(state.contains("api_key_file") && !state.contains("wrong-key"), "{state}");
    write_file(&mut site.db, "model.key", "right-key-1", "600");
    assert_eq!(site.settle("notes", "body"), 30);
    // And again, with work under way and the server's key changed first.
    doorman.change_lock("right-key-2");
    site.db.run("UPDATE notes SET body = body || ' again'");
    site.until_state("notes", "blocked: ");
    write_file(&mut site.db, "model.key", "right-key-2", "600");
    assert_eq!(site.settle("notes", "body"), 30);
    assert_eq!(site.failed("notes"), 0, "a wrong key costs no attempts");
    assert_eq!(site.until_state("notes", "active"), "active");
}

/// Whatever a server says, and whatever the server's log is asked for.
#[test]
fn g37_no_key_shows_anywhere() {
    const CANARY: &str = "sk-canary-7f3a91";
    let mut site = Site::builder().setting("log_min_messages", "debug5").setting("log_statement", "all").start();
    let doorman = Doorman::start("another", site.dims);
    // In two parts, since the statement is in the log.
    let path = format!("{}/canary.key", site.db.text("SHOW data_directory"));
    let halves = CANARY.split_at(6);
    let program = format!("umask 077; cat > /dev/null; printf '%s' '{}' '{}' > '{path}'", halves.0, halves.1);
    site.db.run(&format!("COPY (SELECT 1) TO PROGRAM {}", literal(&program)));
    for (provider, header) in PROVIDERS {
        let name = format!("canary {provider}");
        create(&mut site.db, &name, provider, &doorman.url(), &format!(", api_key_file => {}", literal(&path)));
        let (ok, error) = try_model(&mut site.db, &name);
        assert!(!ok && error.contains("[redacted]") && !error.contains("canary-7f"), "{provider}: {error}");
        let failed = site.db.error(&format!("SELECT autoembed.embed('a text', {})", literal(&name)));
        assert!(!format!("{failed:?}").contains("canary-7f"), "{failed:?}");
        let heads = doorman.heads();
        let sent = |head: &String| {
            head.lines()
                .any(|line| line.to_ascii_lowercase().starts_with(&format!("{header}: ")) && line.contains(CANARY))
        };
        assert!(!heads.is_empty() && heads.iter().all(sent), "{provider}: {heads:?}");
    }
    // The worker's own requests, its states and records.
    site.db.run("CREATE TABLE notes (id int PRIMARY KEY, body text)");
    site.db.run("SELECT autoembed.enable('notes', 'body', model => 'canary openai')");
    site.db.run("INSERT INTO notes VALUES (1, 'one')");
    // The server's words, without the key.
    let state = "SELECT state FROM autoembed.status WHERE source = 'notes'::regclass";
    site.db.until_true(&format!("({state}) LIKE 'blocked: %[redacted]%'"), state, PATIENCE);
    for place in [
        "SELECT string_agg(s::text, ' ') FROM autoembed.status s",
        "SELECT string_agg(m::text, ' ') FROM autoembed.models m",
        "SELECT string_agg(m::text, ' ') FROM autoembed.model_state m",
        "SELECT string_agg(r::text, ' ') FROM autoembed.requests r",
        "SELECT string_agg(f::text, ' ') FROM autoembed.failed_jobs f",
        "SELECT string_agg(a::text, ' ') FROM pg_stat_activity a",
        "SELECT string_agg(s::text, ' ') FROM pg_settings s",
    ] {
        let seen = site.db.maybe(place).unwrap_or_default();
        assert!(!seen.contains("canary-7f"), "{place}: {seen}");
    }
    let log = site.cluster.log();
    assert!(log.contains("autoembed.test_model"), "the log is not as full as it was meant to be");
    let shown: Vec<_> = log.lines().filter(|line| line.contains("canary-7f") || line.contains(CANARY)).collect();
    assert!(shown.is_empty(), "{shown:#?}");
}

/// A setting's key is for the provider's own hosts; only where there are none is it for the model's url.
#[test]
fn a_providers_key_goes_nowhere_else() {
    let mut site = Site::new();
    let doorman = Doorman::start("", site.dims);
    let file = write_file(&mut site.db, "provider.key", "sk-of-the-provider", "600");
    for (provider, _) in PROVIDERS {
        site.db.run(&format!("ALTER SYSTEM SET autoembed.{provider}_api_key_file = {}", literal(&file)));
    }
    site.db.run("SELECT pg_reload_conf()");
    site.db.until("SELECT current_setting('autoembed.tei_api_key_file')", &file, PATIENCE);
    for (provider, header) in PROVIDERS {
        create(&mut site.db, provider, provider, &doorman.url(), "");
        // It answers in OpenAI's format whatever it is asked in: what counts here is what it was sent.
        try_model(&mut site.db, provider);
        let heads = doorman.heads();
        assert!(!heads.is_empty(), "{provider}: no request came");
        let own = matches!(provider, "ollama" | "tei");
        for head in &heads {
            assert_eq!(head.contains("sk-of-the-provider"), own, "{provider}: {head}");
            assert_eq!(head.to_ascii_lowercase().contains(&format!("\r\n{header}: ")), own, "{provider}: {head}");
        }
    }
    // To its own host, but where everybody could read it.
    create(&mut site.db, "plain", "openai", "http://api.openai.com/v1", "");
    let (ok, error) = try_model(&mut site.db, "plain");
    assert!(!ok && error.contains("without TLS"), "{error}");
}

#[test]
fn a_key_file_is_closed_to_others() {
    let mut site = Site::new();
    let doorman = Doorman::start("the-key", site.dims);
    let file = write_file(&mut site.db, "model.key", "the-key", "600");
    create(&mut site.db, "guarded", "openai", &doorman.url(), &format!(", api_key_file => {}", literal(&file)));
    for (mode, good) in
        [("600", true), ("400", true), ("644", false), ("640", false), ("604", false), ("610", false), ("600", true)]
    {
        write_file(&mut site.db, "model.key", "the-key", mode);
        let (ok, error) = try_model(&mut site.db, "guarded");
        assert_eq!(ok, good, "mode {mode}: {error}");
        assert!(good || (error.contains("may be used by others") && error.contains("chmod 600")), "{mode}: {error}");
    }
    for (text, why) in [("", "holds no key"), ("a\u{7}b", "holds no key"), (&"k".repeat(5000), "small regular file")] {
        write_file(&mut site.db, "model.key", text, "600");
        let (ok, error) = try_model(&mut site.db, "guarded");
        assert!(!ok && error.contains(why), "{error}");
    }
    // A pipe that nobody writes to holds up nobody.
    let pipe = format!("cat > /dev/null; rm '{file}'; mkfifo -m 600 '{file}'");
    site.db.run(&format!("SET statement_timeout = '20s'; COPY (SELECT 1) TO PROGRAM {}", literal(&pipe)));
    let (ok, error) = try_model(&mut site.db, "guarded");
    assert!(!ok && error.contains("small regular file"), "{error}");
    site.db.run(&format!("COPY (SELECT 1) TO PROGRAM {}", literal(&format!("cat > /dev/null; rm '{file}'"))));
    let (ok, error) = try_model(&mut site.db, "guarded");
    assert!(!ok && error.contains("cannot be read"), "{error}");
}

#[test]
fn ordinary_roles_do_not_see_where_keys_are() {
    let mut site = Site::builder()
        .setting("autoembed.openai_api_key_file", "/secret/place/openai.key")
        .setting("autoembed.proxy", "http://user@127.0.0.1:9")
        .start();
    site.db.run("CREATE ROLE alice LOGIN");
    let mut alice = site.session_as("alice");
    for setting in ["openai_api_key_file", "tei_api_key_file", "proxy", "proxy_password_file"] {
        assert_eq!(alice.error(&format!("SHOW autoembed.{setting}")).code, "42501", "{setting}");
        assert_eq!(alice.error(&format!("SELECT current_setting('autoembed.{setting}')")).code, "42501", "{setting}");
    }
    let seen = alice.text("SELECT string_agg(s::text, ' ') FROM pg_settings s");
    assert!(!seen.contains("/secret/place") && !seen.contains("user@"), "{seen}");
}
