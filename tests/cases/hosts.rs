//! Where requests go, and through what.

use crate::doorman::{Doorman, Proxy};
use autoembed_tests::db::literal;
use autoembed_tests::site::PATIENCE;
use autoembed_tests::wait::eventually;
use autoembed_tests::{Cluster, Site, Stop};

/// Addresses of metadata services, and other spellings of them.
const METADATA: [&str; 12] = [
    "http://169.254.169.254/v1",
    "http://169.254.169.254./v1",
    "http://2852039166/v1",
    "http://0xA9FEA9FE:80/v1",
    "http://0251.0376.0251.0376/v1",
    "http://169.254.43518/v1",
    "http://[::ffff:169.254.169.254]/v1",
    "http://[64:ff9b::a9fe:a9fe]/v1",
    "https://[fd00:ec2::254]/v1",
    "http://100.100.100.200/v1",
    "http://[fe80::1]/v1",
    "http://0.0.0.0/v1",
];

fn reload(site: &mut Site, setting: &str, value: &str) {
    site.db.run(&format!("ALTER SYSTEM SET autoembed.{setting} = {}", literal(value)));
    site.db.run("SELECT pg_reload_conf()");
    site.db.until(&format!("SELECT current_setting('autoembed.{setting}')"), value, PATIENCE);
}

#[test]
fn g39_an_ordinary_role_chooses_no_hosts() {
    let mut site = Site::new();
    site.db.run(
        "CREATE ROLE alice LOGIN; CREATE ROLE ops LOGIN; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA autoembed TO ops",
    );
    let mut alice = site.session_as("alice");
    for url in METADATA {
        let call = format!("SELECT autoembed.create_model('mine', 'openai', dimensions => 3, url => {})", literal(url));
        assert_eq!(alice.error(&call).code, "42501", "{url}");
    }
    for call in [
        "INSERT INTO autoembed.models (name, provider, dimensions, url) VALUES ('mine', 'openai', 3, 'http://169.254.169.254')",
        "UPDATE autoembed.models SET url = 'http://169.254.169.254'",
        "DELETE FROM autoembed.models",
        "SELECT autoembed.test_model('stub')",
        "ALTER SYSTEM SET autoembed.allowed_hosts = '169.254.0.0/16'",
        "ALTER SYSTEM SET autoembed.proxy = 'http://127.0.0.1:9'",
        "SET autoembed.ca_file = '/tmp/mine.pem'",
    ] {
        assert_eq!(alice.error(call).code, "42501", "{call}");
    }
    for setting in ["allowed_hosts", "proxy", "proxy_password_file", "openai_api_key_file", "tei_api_key_file"] {
        for call in [
            format!("SET autoembed.{setting} = '/tmp'"),
            format!("ALTER ROLE alice SET autoembed.{setting} = '/tmp'"),
            format!("SELECT set_config('autoembed.{setting}', '/tmp', false)"),
        ] {
            let code = alice.error(&call).code;
            assert!(["42501", "55P02"].contains(&code.as_str()), "{call}: {code}");
        }
    }
    // Who may make models makes none that point there either.
    let mut ops = site.session_as("ops");
    for url in METADATA {
        for provider in ["openai", "ollama", "tei"] {
            let call = format!(
                "SELECT autoembed.create_model('mine', '{provider}', dimensions => 3, url => {})",
                literal(url)
            );
            let error = ops.error(&call);
            error.assert("42501", "is not allowed");
            assert!(error.hint.contains("autoembed.allowed_hosts"), "{error:?}");
        }
    }
    ops.run("SELECT autoembed.create_model('mine', 'openai', dimensions => 3, url => 'http://127.0.0.1:9/v1')");
    assert_eq!(site.db.int("SELECT count(*) FROM autoembed.models WHERE url LIKE '%169.254%'"), 0);
}

/// A url that came into the table past create_model: a restored dump, or a superuser.
#[test]
fn the_address_is_judged_at_each_request() {
    let mut site = Site::with_messages();
    let before = site.stub.stats().requests;
    for url in METADATA {
        site.db.run(&format!("UPDATE autoembed.models SET url = {} WHERE name = 'stub'", literal(url)));
        let error = site.db.text("SELECT error FROM autoembed.test_model('stub')");
        assert!(error.starts_with("host_not_allowed: "), "{url}: {error}");
        site.db.error("SELECT autoembed.embed('text', 'stub')").assert("F0000", "host_not_allowed");
    }
    site.insert(1, 10);
    let state = site.until_state("messages", "blocked: ");
    assert!(state.contains("is not allowed") && state.contains("autoembed.allowed_hosts"), "{state}");
    site.db.run(&format!("UPDATE autoembed.models SET url = {} WHERE name = 'stub'", literal(&site.stub.url())));
    assert_eq!(site.settle("messages", "content"), 10);
    assert_eq!(site.failed("messages"), 0);
    assert!(site.stub.stats().requests > before);
}

#[test]
fn a_list_that_changes_stops_and_starts_a_model() {
    let mut site = Site::with_messages();
    site.insert(1, 5);
    site.settle("messages", "content");
    reload(&mut site, "allowed_hosts", "api.openai.com, 10.0.0.0/8");
    // The worker may take the new list a moment later than this session.
    let state = eventually("the model is blocked", PATIENCE, || {
        site.db.run("INSERT INTO messages (content) VALUES ('new ' || gen_random_uuid())");
        let state = site.status("state", "messages");
        if state.starts_with("blocked: ") { Ok(state) } else { Err(state) }
    });
    assert!(state.contains("address 127.0.0.1 is not allowed"), "{state}");
    site.stub.reset_stats();
    site.insert(7, 20);
    site.db.error("SELECT autoembed.embed('text', 'stub')").assert("F0000", "host_not_allowed");
    let error = site.db.error("SELECT autoembed.create_model('m', 'openai', dimensions => 3, url => 'http://[::1]:9')");
    error.assert("42501", "not in autoembed.allowed_hosts");
    assert_eq!(site.stub.stats().requests, 0, "a host that is not allowed was asked");
    let address = site.stub.address();
    reload(&mut site, "allowed_hosts", &format!("api.openai.com, {address}"));
    site.settle("messages", "content");
    assert_eq!((site.failed("messages"), site.until_state("messages", "active")), (0, "active".to_owned()));
}

#[test]
fn a_mistake_in_the_list_is_refused() {
    let mut site = Site::builder().setting("autoembed.allowed_hosts", "127.0.0.1").start();
    for bad in ["127.0.0.1;localhost", "10.0.0.1/8", "*", "https://api.openai.com", "a,,b", "2852039166"] {
        let error = site.db.error(&format!("ALTER SYSTEM SET autoembed.allowed_hosts = {}", literal(bad)));
        assert_eq!(error.code, "22023", "{error:?}");
        assert!(error.detail.contains("list of hosts") && error.hint.contains("*.example.com"), "{error:?}");
    }
    let error = site.db.error("ALTER SYSTEM SET autoembed.proxy = 'socks5://user:canary@h:1'");
    assert_eq!(error.code, "22023");
    assert!(!format!("{error:?}").contains("canary") && error.hint.contains("http://host:port"), "{error:?}");
    assert_eq!(site.db.text("SHOW autoembed.allowed_hosts"), "127.0.0.1");
}

/// A list that was wrong from the start opens nothing.
#[test]
fn a_wrong_list_in_the_configuration_file_allows_nothing() {
    let cluster = Cluster::builder().preload(true).setting("autoembed.allowed_hosts", "127.0.0.1;localhost").start();
    let mut db = cluster.client("postgres");
    db.run("CREATE EXTENSION autoembed CASCADE");
    for url in ["http://127.0.0.1:9/v1", "https://api.openai.com/v1"] {
        let error = db.error(&format!("SELECT autoembed.create_model('m', 'openai', dimensions => 3, url => '{url}')"));
        error.assert("55000", "autoembed.allowed_hosts is wrong");
    }
    db.run("INSERT INTO autoembed.models (name, provider, dimensions, url) VALUES ('m', 'openai', 3, 'http://127.0.0.1:9/v1')");
    let error = db.text("SELECT error FROM autoembed.test_model('m')");
    assert!(error.starts_with("allowed_hosts: "), "{error}");
    // What needs no host works.
    assert!(db.text("SELECT autoembed.embed('a river')").starts_with('['));
    db.run("ALTER SYSTEM SET autoembed.allowed_hosts = '127.0.0.1'");
    db.run("SELECT pg_reload_conf()");
    db.until("SHOW autoembed.allowed_hosts", "127.0.0.1", PATIENCE);
    let error = db.text("SELECT error FROM autoembed.test_model('m')");
    assert!(error.starts_with("connection: "), "{error}");
}

#[test]
fn requests_go_through_the_proxy() {
    let doorman = Doorman::start("", 16);
    let proxy = Proxy::start(doorman.address());
    let mut site = Site::builder().setting("autoembed.proxy", &format!("http://user@{}", proxy.address())).start();
    let file = format!("{}/proxy.password", site.db.text("SHOW data_directory"));
    let program = format!("umask 077; cat > '{file}'");
    site.db.run(&format!("COPY (SELECT 'pass:word') TO PROGRAM {}", literal(&program)));
    site.db.run(&format!("ALTER SYSTEM SET autoembed.proxy_password_file = {}", literal(&file)));
    // So that no process is left that knows of no password.
    site.cluster.restart(Stop::Fast);
    site.reconnect();
    site.db.run("SELECT autoembed.create_model('far', 'openai', dimensions => 16, model => 'm', url => 'http://api.invalid:8080/v1')");
    site.db.run("CREATE TABLE notes (id int PRIMARY KEY, body text)");
    site.db.run("SELECT autoembed.enable('notes', 'body', model => 'far')");
    site.db.run("INSERT INTO notes SELECT i, 'note ' || i FROM generate_series(1, 30) i");
    assert_eq!(site.settle("notes", "body"), 30);
    let heads = proxy.heads();
    assert!(!heads.is_empty());
    for head in heads {
        assert!(head.starts_with("CONNECT api.invalid:8080 HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("Proxy-Authorization: Basic dXNlcjpwYXNzOndvcmQ=\r\n"), "{head}");
    }
    assert!(doorman.heads().iter().all(|head| !head.to_ascii_lowercase().contains("proxy-")));
    // This machine is asked straight.
    site.messages("");
    site.insert(1, 5);
    assert_eq!(site.settle("messages", "content"), 5);
    assert_eq!(proxy.heads(), Vec::<String>::new());
    // Names of metadata services would be looked up by the proxy.
    let call =
        "SELECT autoembed.create_model('m', 'openai', dimensions => 3, url => 'http://metadata.google.internal/v1')";
    site.db.error(call).assert("42501", "metadata");
    // Without the proxy, the name is nobody's.
    reload(&mut site, "proxy", "");
    let error = site.db.text("SELECT error FROM autoembed.test_model('far')");
    assert!(error.starts_with("dns: "), "{error}");
}
