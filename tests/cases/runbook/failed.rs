//! Failed rows.

use super::{add, entry, over, scene};
use autoembed_stub::Fault;
use autoembed_tests::Site;
use autoembed_tests::site::PATIENCE;

const CODES: &str = "SELECT string_agg(DISTINCT code, ',') FROM autoembed.failed_jobs";

#[test]
fn one_bad_row() {
    let mut site = scene(Site::new());
    site.fault(Fault::Poison("bad".to_owned()));
    site.db.run(
        "UPDATE documents SET body = 'a bad text' WHERE id = 7; UPDATE documents SET body = 'bad too' WHERE id = 8",
    );
    site.db.until("SELECT failed FROM autoembed.status", "2", PATIENCE);
    let page = entry("one row");
    let code = site.db.text(CODES);
    assert!(page.says(&code), "{code}");
    assert_eq!(site.status("state", "documents"), "active");
    site.db.run(&page.command("UPDATE", &[]));
    site.db.until("SELECT failed FROM autoembed.status", "1", PATIENCE);
    site.db.run(&page.command("discard_failed", &[]));
    site.db.run("DELETE FROM documents WHERE id = 8");
    over(&mut site);
}

#[test]
fn a_deployment_that_went_wrong() {
    let mut site = scene(Site::new());
    site.fault(Fault::Poison("release 2".to_owned()));
    // Among rows that are taken, each of these is at fault itself.
    site.db.run(
        "INSERT INTO documents SELECT i, 'title', CASE WHEN i % 2 = 0 THEN 'release 2: ' ELSE 'text ' END || i FROM generate_series(11, 610) i",
    );
    site.db.until("SELECT failed FROM autoembed.status", "300", PATIENCE * 2);
    let page = entry("hundreds of rows");
    let code = site.db.text(CODES);
    assert!(page.says(&code), "{code}");
    site.stub.clear();
    page.run(&mut site.db, &[]);
    over(&mut site);
}

#[test]
fn a_trigger_that_refuses_some_rows() {
    let mut site = scene(Site::builder().setting("autoembed.max_attempts", "2").start());
    site.db.run(
        "CREATE FUNCTION picky() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF NEW.id % 2 = 0 THEN RAISE EXCEPTION 'not this one'; END IF; RETURN NEW; END $$;
         CREATE TRIGGER picky BEFORE UPDATE ON documents FOR EACH ROW EXECUTE FUNCTION picky()",
    );
    add(&mut site, 11, 30);
    site.db.until("SELECT failed FROM autoembed.status", "10", PATIENCE);
    let page = entry("a SQLSTATE");
    let code = site.db.text(CODES);
    assert!(page.says(&code), "{code}");
    site.db.run("DROP TRIGGER picky ON documents");
    page.run(&mut site.db, &[]);
    over(&mut site);
}

/// The others fail alone, each for a reason of its own; what the page says helps.
#[test]
fn each_of_the_other_codes() {
    let mut site = scene(Site::builder().setting("autoembed.max_attempts", "2").start());
    site.fault(Fault::ServerErrorOn("killer".to_owned()));
    site.db.run("INSERT INTO documents VALUES (11, 't', 'killer'); INSERT INTO documents SELECT i, 't', 'fine ' || i FROM generate_series(12, 30) i");
    site.db.until(CODES, "http_500", PATIENCE * 2);
    let page = entry("http_500");
    assert!(page.says("http_500"));
    site.stub.clear();
    page.run(&mut site.db, &[]);
    over(&mut site);

    site.stub
        .script(autoembed_stub::Script::default().rule(autoembed_stub::Rule::new(Fault::Nan).text_contains("nan")));
    site.db.run("INSERT INTO documents VALUES (31, 't', 'nan')");
    site.db.until(CODES, "bad_vector", PATIENCE);
    assert!(entry("bad_vector").says("bad_vector"));
    site.stub.clear();
    site.db.run("SELECT autoembed.retry_failed('documents')");
    over(&mut site);

    site.db.run(
        "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
         CREATE TRIGGER keep BEFORE UPDATE ON documents FOR EACH ROW WHEN (NEW.id = 32) EXECUTE FUNCTION keep();
         INSERT INTO documents VALUES (32, 't', 'kept')",
    );
    site.db.until(CODES, "write_suppressed", PATIENCE);
    assert!(entry("write_suppressed").says("write_suppressed"));
    site.db.run("DROP TRIGGER keep ON documents; SELECT autoembed.retry_failed('documents')");
    over(&mut site);

    site.db.run(
        "UPDATE autoembed.models SET options = '{\"too_long\": \"fail\"}', max_input_tokens = 20 WHERE name = 'mine'",
    );
    site.db.run("INSERT INTO documents VALUES (33, 't', repeat('many words ', 100))");
    site.db.until(CODES, "too_long", PATIENCE);
    assert!(entry("too_long").says("too_long"));
    site.db.run("UPDATE documents SET body = 'few words' WHERE id = 33");
    over(&mut site);
}

#[test]
fn codes_of_inputs() {
    let mut site = Site::builder().setting("autoembed.max_attempts", "2").start();
    site.db.run("CREATE TABLE words (id int PRIMARY KEY, body text); SELECT autoembed.enable('words', 'body'); INSERT INTO words VALUES (1, '🙂 🙂')");
    site.db.until(CODES, "unknown_words", PATIENCE);
    assert!(entry("unknown_words").says("unknown_words"));
    site.db.run("SELECT autoembed.discard_failed('words')");
    site.db.run("CREATE TABLE clocks (id int PRIMARY KEY, body text)");
    // Called IMMUTABLE, and not so.
    site.db.run("CREATE FUNCTION tick(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN $1 || clock_timestamp(); END $$");
    site.enable("clocks", "tick(body)", "");
    site.db.run("INSERT INTO clocks VALUES (1, 'one')");
    site.db.until(CODES, "unsteady_input", PATIENCE);
    assert!(entry("unsteady_input").says("unsteady_input"));
}
