//! Models that cannot be called.

use super::{add, entry, over, scene, scene_with, shell, tls};
use crate::doorman::{Doorman, Proxy};
use autoembed_stub::{Body, Fault};
use autoembed_tests::site::PATIENCE;
use autoembed_tests::{Site, eventually};

const URL: &str = "http://gpu.example:11434/v1";
const CA: &str = "/etc/ssl/private-ca.pem";
const KEY: &str = "/etc/postgresql/openai.key";

#[test]
fn a_server_that_is_away() {
    let mut site = scene(Site::new());
    site.stub_gone();
    add(&mut site, 11, 30);
    let page = entry("could not reach the server");
    page.until_shown(&mut site);
    site.stub_back();
    over(&mut site);
    // Elsewhere.
    site.db.run("UPDATE autoembed.models SET url = 'http://127.0.0.1:9/v1' WHERE name = 'mine'");
    add(&mut site, 31, 50);
    page.until_shown(&mut site);
    let url = site.stub.url();
    page.run(&mut site.db, &[(URL, &url)]);
    over(&mut site);

    site.fault(Fault::status(502));
    add(&mut site, 51, 60);
    entry("answered with status 5").until_shown(&mut site);
    site.stub.clear();
    over(&mut site);

    let page = entry("answered with a page");
    let gateway = Fault::status_with(504, Body::Raw("<html><body>Gateway Timeout</body></html>".to_owned()));
    for (from, fault) in [(61, gateway), (71, Fault::Html)] {
        site.fault(fault);
        add(&mut site, from, from + 9);
        page.until_shown(&mut site);
        site.stub.clear();
        page.run(&mut site.db, &[(URL, &url)]);
        over(&mut site);
    }
}

#[test]
fn a_proxy_that_is_down() {
    let mut site = Site::builder().setting("autoembed.proxy", "http://127.0.0.1:9").start();
    let proxy = Proxy::start(site.stub.address());
    site.create_model("mine", "");
    site.db.run(&format!("UPDATE autoembed.models SET url = '{URL}' WHERE name = 'mine'"));
    site.db.run("CREATE TABLE documents (id int PRIMARY KEY, title text, body text)");
    site.db.run("SELECT autoembed.enable('documents', 'body', 'mine')");
    add(&mut site, 1, 20);
    let page = entry("the proxy ...");
    page.until_shown(&mut site);
    page.run(&mut site.db, &[("proxy.example:3128", &proxy.address().to_string())]);
    over(&mut site);
}

#[test]
fn a_certificate_that_nobody_knows() {
    let mut site = scene(Site::new());
    let guarded = tls::start(site.dims);
    site.db.run(&format!("UPDATE autoembed.models SET url = '{}' WHERE name = 'mine'", guarded.url));
    add(&mut site, 11, 30);
    let page = entry("could not set up TLS");
    page.until_shown(&mut site);
    let file = format!("{}/ca.pem", site.db.text("SHOW data_directory"));
    let authority = guarded.authority;
    std::fs::write(&file, &authority).unwrap();
    page.run(&mut site.db, &[(CA, &file)]);
    over(&mut site);

    std::fs::write(&file, "no certificates").unwrap();
    add(&mut site, 31, 50);
    let page = entry("the certificate file");
    page.until_shown(&mut site);
    let another = format!("{file}.new");
    std::fs::write(&another, authority).unwrap();
    page.run(&mut site.db, &[(CA, &another)]);
    over(&mut site);
}

#[test]
fn fewer_requests() {
    let mut site = scene(Site::new());
    site.fault(Fault::status(429).header("retry-after", "5"));
    add(&mut site, 11, 30);
    let page = entry("status 429");
    page.until_shown(&mut site);
    page.run(&mut site.db, &[]);
    site.stub.clear();
    over(&mut site);

    site.db.run("UPDATE autoembed.models SET requests_per_minute = 1 WHERE name = 'mine'");
    add(&mut site, 31, 40);
    let page = entry("the minute's next requests");
    page.until_shown(&mut site);
    page.run(&mut site.db, &[]);
    over(&mut site);
}

#[test]
fn keys() {
    let mut site = scene(Site::new());
    let doorman = Doorman::start("the-first-key", site.dims);
    let folder = site.db.text("SHOW data_directory");
    let file = format!("{folder}/openai.key");
    site.db.run(&format!("UPDATE autoembed.models SET url = '{}' WHERE name = 'mine'", doorman.url()));
    add(&mut site, 11, 30);
    let page = entry("No API key was sent");
    page.until_shown(&mut site);
    shell(&mut site.db, &format!("umask 077; echo the-first-key > {file}"));
    page.run(&mut site.db, &[(KEY, &file)]);
    over(&mut site);

    doorman.change_lock("the-second-key");
    add(&mut site, 31, 50);
    let page = entry("The server refuses the API key");
    page.until_shown(&mut site);
    shell(&mut site.db, &format!("umask 077; echo the-second-key > {folder}/new.key"));
    // The server's user, as whom this runs, gives its files to nobody else.
    let command = page.command(
        "install",
        &[(KEY, &file), ("new.key", &format!("{folder}/new.key")), ("-o postgres -g postgres ", "")],
    );
    shell(&mut site.db, &command);
    over(&mut site);

    shell(&mut site.db, &format!("chmod 644 {file}"));
    add(&mut site, 51, 60);
    let page = entry("the key file");
    page.until_shown(&mut site);
    let command = page.command("chmod", &[(KEY, &file)]);
    shell(&mut site.db, &command);
    over(&mut site);
}

#[test]
fn refusals_that_somebody_must_see_to() {
    let mut site = scene(Site::new());
    let raw = |status, text: &str| Fault::status_with(status, Body::Raw(text.to_owned()));
    let url = site.stub.url();
    let (mut from, mut played) = (11, 0);
    let (known, file) = (key_of(&mut site, "first.key"), key_of(&mut site, "second.key"));
    site.db.run(&format!("UPDATE autoembed.models SET api_key_file = '{known}' WHERE name = 'mine'"));
    let error = |fields: &str| raw(400, &format!(r#"{{"error": {{"message": "no", {fields}}}}}"#));
    for (page, fault) in [
        (entry("refuses this to the API key"), raw(403, r#"{"error": {"message": "Missing scopes: model.request"}}"#)),
        (entry("wants something of the account"), error(r#""status": "FAILED_PRECONDITION""#)),
        (entry("does not serve the place"), error(r#""code": "unsupported_country_region_territory""#)),
        (entry("refuses a parameter"), error(r#""param": "colour""#)),
        (entry("does not accept ... dimensions"), error(r#""param": "dimensions""#)),
        (entry("does not offer"), Fault::status_with(404, Body::ModelNotFound)),
        (entry("Waiting does not mend this"), Fault::status_with(429, Body::InsufficientQuota)),
        (entry("A quota of model"), raw(429, r#"{"error": {"message": "Limit of 100 requests per day reached"}}"#)),
        (entry("Check the model's url"), raw(405, "no")),
        (entry("Check the model's url"), Fault::Redirect(None)),
        (entry("A proxy, a firewall"), raw(403, "<html><body>Sorry, you have been blocked</body></html>")),
        (entry("even a plain word"), raw(400, r#"{"error": {"message": "Your organization must be verified"}}"#)),
    ] {
        site.fault(fault);
        add(&mut site, from, from + 19);
        from += 20;
        page.until_shown(&mut site);
        site.stub.clear();
        if page.does.contains("install") {
            let command =
                page.command("install", &[(KEY, &known), ("new.key", &file), ("-o postgres -g postgres ", "")]);
            shell(&mut site.db, &command);
        }
        if page.does.contains(";`") {
            page.run(&mut site.db, &[(URL, &url)]);
        }
        site.db.run("SELECT pg_reload_conf()");
        over(&mut site);
        played += 1;
    }
    assert_eq!(played, 12);
}

/// A file with a key.
fn key_of(site: &mut Site, name: &str) -> String {
    let file = format!("{}/{name}", site.db.text("SHOW data_directory"));
    shell(&mut site.db, &format!("umask 077; echo the-key > {file}"));
    file
}

#[test]
fn a_model_that_was_deleted() {
    let mut site = scene(Site::new());
    site.db.run("DELETE FROM autoembed.models WHERE name = 'mine'");
    add(&mut site, 11, 30);
    let page = entry("create the model again");
    page.until_shown(&mut site);
    let (old, new) = super::model_of(&site);
    page.run(&mut site.db, &[(old, &new)]);
    over(&mut site);
}

#[test]
fn the_budget_of_the_day() {
    let mut site = scene(Site::new());
    site.db.run("UPDATE autoembed.models SET daily_token_budget = 40 WHERE name = 'mine'");
    add(&mut site, 11, 60);
    let page = entry("the daily token budget");
    page.until_shown(&mut site);
    page.run(&mut site.db, &[]);
    over(&mut site);
}

#[test]
fn another_model_behind_the_name() {
    let mut site = scene(Site::new());
    site.fault(Fault::WrongDimensions(24));
    add(&mut site, 11, 30);
    let page = entry("returned a vector of");
    page.until_shown(&mut site);
    page.run(&mut site.db, &[]);
    let wrong = "SELECT count(*) FROM documents WHERE embedding IS NULL OR vector_dims(embedding) <> 24";
    site.db.until(wrong, "0", PATIENCE);
    site.until_state("documents", "active");
    assert_eq!((site.status("state", "documents"), site.failed("documents")), ("active".to_owned(), 0));
}

#[test]
fn a_host_that_is_not_allowed() {
    let mut site = scene_with(Site::new(), "");
    site.db.run("ALTER SYSTEM SET autoembed.allowed_hosts = 'api.openai.com'");
    site.db.run("SELECT pg_reload_conf()");
    site.db.until("SHOW autoembed.allowed_hosts", "api.openai.com", PATIENCE);
    let page = entry("is not allowed");
    // The worker may read the new list a moment later than this session.
    eventually("the model is blocked", PATIENCE, || {
        site.db.run("UPDATE documents SET body = 'new ' || gen_random_uuid() WHERE id = 1");
        let state = site.status("state", "documents");
        if page.says(&state) { Ok(()) } else { Err(state) }
    });
    let address = site.stub.address().to_string();
    page.run(&mut site.db, &[("gpu.example:11434", &address)]);
    over(&mut site);
}

/// Nothing is left to be tried, so nothing is sent, and the state does not outlive the rows.
#[test]
fn a_state_ends_when_no_row_waits_for_the_model() {
    let mut site = scene(Site::new());
    site.db.run("CREATE TABLE here (id int PRIMARY KEY, body text); SELECT autoembed.enable('here', 'body')");
    let state = "SELECT state FROM autoembed.status WHERE source = 'documents'::regclass";
    for (n, fault) in [Fault::status(401), Fault::status(500), Fault::status_with(429, Body::InsufficientQuota)]
        .into_iter()
        .enumerate()
    {
        site.db.run(
            "CREATE TABLE notes (id int PRIMARY KEY, body text); SELECT autoembed.enable('notes', 'body', 'mine')",
        );
        site.fault(fault);
        site.db.run("INSERT INTO notes VALUES (1, 'a note')");
        site.db.until_true(&format!("({state}) <> 'active'"), state, PATIENCE);
        site.db.run("SELECT autoembed.disable('notes'); DROP TABLE notes");
        site.db.until(state, "active", PATIENCE);
        site.db.until("SELECT count(*) FROM autoembed.model_state", "0", PATIENCE);
        site.stub.reset_stats();
        for marker in 1..=10 {
            site.db.run(&format!("INSERT INTO here VALUES ({n} * 10 + {marker}, 'a river in the hills')"));
            site.db.until("SELECT count(*) FROM here WHERE embedding IS NULL", "0", PATIENCE);
        }
        assert_eq!((site.stub.stats().requests, site.db.text(state)), (0, "active".to_owned()));
        // A row that comes finds out how things are.
        add(&mut site, 11 + n, 11 + n);
        site.db.until_true(&format!("({state}) <> 'active'"), state, PATIENCE);
        site.stub.clear();
        site.db.run("SELECT pg_reload_conf()");
        over(&mut site);
    }
}
