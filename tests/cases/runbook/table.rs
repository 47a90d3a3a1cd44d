//! Tables that cannot be read, written, or seen to change.

use super::{add, documents, entry, over, over_with, scene, words};
use autoembed_tests::Site;
use autoembed_tests::site::PATIENCE;

fn trigger(site: &mut Site, what: &str) -> String {
    format!("autoembed_{}_{what}", site.status("id", "documents"))
}

/// Each is noticed though no row waits, and mended by what the page says.
#[test]
fn triggers_that_do_not_fire() {
    let mut site = scene(Site::new());
    let update = trigger(&mut site, "update");
    site.db
        .run(&format!("DROP TRIGGER {update} ON documents; UPDATE documents SET body = 'unseen ' || id WHERE id < 4"));
    let page = entry("a trigger of autoembed on table");
    page.until_shown(&mut site);
    page.run(&mut site.db, &[]);
    over(&mut site);

    let page = entry("is disabled");
    let (insert, update) = (trigger(&mut site, "insert"), trigger(&mut site, "update"));
    for how in ["USER".to_owned(), insert, format!("{update}; ALTER TABLE documents ENABLE REPLICA TRIGGER {update}")] {
        site.db.run(&format!("ALTER TABLE documents DISABLE TRIGGER {how}"));
        site.db.run("UPDATE documents SET body = body || ' unseen'");
        page.until_shown(&mut site);
        page.run(&mut site.db, &[]);
        over(&mut site);
    }
    // The one that clears has its work, too.
    site.db.run("CREATE TABLE pages (id int PRIMARY KEY, body text)");
    site.enable("pages", "body", "on_change => 'clear'");
    let clear = format!("\"~autoembed_{}_clear\"", site.status("id", "pages"));
    site.db.run(&format!("ALTER TABLE pages DISABLE TRIGGER {clear}"));
    page.until_shown_of("pages", &mut site);
    site.db.run(&format!("ALTER TABLE pages ENABLE ALWAYS TRIGGER {clear}"));
    site.db.until("SELECT state FROM autoembed.status WHERE source = 'pages'::regclass", "active", PATIENCE);
}

#[test]
fn triggers_of_one_partition() {
    let mut site = Site::new();
    site.db.run(
        "CREATE TABLE logs (region text, id int, body text, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
         CREATE TABLE logs_a PARTITION OF logs FOR VALUES IN ('a'); CREATE TABLE logs_b PARTITION OF logs FOR VALUES IN ('b')",
    );
    site.enable("logs", "body", "");
    site.db.run("ALTER TABLE logs_b DISABLE TRIGGER USER; INSERT INTO logs VALUES ('b', 1, 'unseen')");
    let state = words("is disabled").until_shown_of("logs", &mut site);
    assert!(state.contains("logs_b"), "{state}");
    site.db.run("ALTER TABLE logs_b ENABLE TRIGGER USER; SELECT autoembed.reconcile('logs')");
    over_with(&mut site, "logs", "body");
}

#[test]
fn keys() {
    let mut site = scene(Site::new());
    site.stub.hold();
    add(&mut site, 11, 20);
    site.wait_held(1);
    site.db.run("ALTER TABLE documents DROP CONSTRAINT documents_pkey");
    site.db.run("UPDATE documents SET body = 'edited meanwhile' WHERE id = 3");
    site.stub.release();
    let page = entry("has no primary key any more");
    page.until_shown(&mut site);
    page.run(&mut site.db, &[]);
    over(&mut site);

    // Another key, while rows wait that are named by the old one.
    site.stub.hold();
    site.db.run("UPDATE documents SET body = 'edited and waiting ' || id");
    site.wait_held(1);
    site.db.run(
        "ALTER TABLE documents DROP CONSTRAINT documents_pkey, ADD COLUMN number uuid DEFAULT gen_random_uuid(), ADD PRIMARY KEY (number)",
    );
    site.stub.release();
    let page = entry("were made for another primary key");
    let error = site.db.error("SELECT * FROM similar_documents('body')");
    assert!(page.says(&error.message), "{error:?}");
    page.run(&mut site.db, &[]);
    over(&mut site);
    site.db.run("SELECT * FROM similar_documents('body')");
}

#[test]
fn columns() {
    let mut site = scene(Site::new());
    site.db.run("ALTER TABLE documents DROP COLUMN body CASCADE");
    let page = entry("the input column of table");
    page.until_shown(&mut site);
    page.run(&mut site.db, &[]);
    over_with(&mut site, "documents", "title");

    let page = entry("the vector column of table");
    for change in ["DROP COLUMN embedding CASCADE", "ALTER COLUMN embedding TYPE text USING NULL"] {
        documents(&mut site);
        site.db.run("DROP INDEX documents_embedding_idx");
        site.db.run(&format!("ALTER TABLE documents {change}"));
        site.db.run("UPDATE documents SET body = 'edited ' || id WHERE id < 4");
        page.until_shown(&mut site);
        page.run(&mut site.db, &[]);
        over(&mut site);
    }

    documents(&mut site);
    site.db.run("ALTER TABLE documents ALTER COLUMN embedding TYPE vector(8) USING NULL");
    let page = entry("the column has ... dimensions");
    page.until_shown(&mut site);
    page.run(&mut site.db, &[]);
    over(&mut site);
}

#[test]
fn a_table_that_became_a_partition() {
    let mut site = scene(Site::new());
    site.db.run(
        "CREATE TABLE all_documents (LIKE documents, PRIMARY KEY (id)) PARTITION BY RANGE (id);
         ALTER TABLE all_documents ATTACH PARTITION documents FOR VALUES FROM (0) TO (1000);
         UPDATE documents SET body = 'edited ' || id WHERE id < 4",
    );
    let page = entry("has become a partition");
    page.until_shown(&mut site);
    page.run(&mut site.db, &[]);
    over_with(&mut site, "all_documents", "body");
}

#[test]
fn rights() {
    let mut site = scene(Site::new());
    site.db.run("CREATE ROLE alice; ALTER TABLE documents OWNER TO alice");
    let page = entry("permission denied");
    for right in ["ALL", "UPDATE"] {
        site.db.run(&format!("REVOKE {right} ON documents FROM alice"));
        site.db.run("UPDATE documents SET body = body || ' edited'");
        page.until_shown(&mut site);
        page.run(&mut site.db, &[]);
        over(&mut site);
    }
    site.db.run("ALTER TABLE documents ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; CREATE POLICY none ON documents USING (false)");
    site.db.run("UPDATE documents SET body = body || ' again'");
    let page = entry("row-level security");
    page.until_shown(&mut site);
    page.run(&mut site.db, &[]);
    over(&mut site);
}

/// Who is not shown all rows is told where to look.
#[test]
fn a_reader_under_row_security() {
    let mut site = scene(Site::new());
    site.db.run(
        "CREATE ROLE alice; CREATE ROLE bob LOGIN; ALTER TABLE documents OWNER TO alice; ALTER TABLE documents ENABLE ROW LEVEL SECURITY;
         CREATE POLICY few ON documents FOR SELECT TO bob USING (id < 3); GRANT SELECT ON documents TO bob;
         REVOKE ALL ON documents FROM alice",
    );
    add(&mut site, 11, 20);
    let cause = entry("permission denied");
    cause.until_shown(&mut site);
    let page = entry("what stops it is shown to those");
    let mut bob = site.session_as("bob");
    let shown = bob.text("SELECT state FROM autoembed.status");
    assert!(page.says(&shown), "{shown}");
    let found = site.db.rows(&page.command("SELECT", &[])).remove(0);
    assert!(cause.says(found[1].as_deref().unwrap_or_default()), "{found:?}");
    cause.run(&mut site.db, &[]);
    over(&mut site);
}

#[test]
fn an_expression_that_lost_a_function() {
    let mut site = Site::new();
    site.create_model("mine", "");
    site.db.run(
        "CREATE FUNCTION shout(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT upper($1)';
         CREATE TABLE documents (id int PRIMARY KEY, title text, body text);
         SELECT autoembed.enable('documents', 'shout(body)', 'mine')",
    );
    add(&mut site, 1, 10);
    site.settle("documents", "upper(body)");
    site.db.run("DROP FUNCTION shout; UPDATE documents SET body = body || ' edited'");
    let page = entry("the table could not be read: ... does not exist");
    page.until_shown(&mut site);
    page.run(&mut site.db, &[]);
    over(&mut site);
}

#[test]
fn a_trigger_that_fails() {
    let mut site = scene(Site::new());
    let refuse = |what: &str| {
        format!(
            "CREATE OR REPLACE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {what}; RETURN NEW; END $$;
             CREATE OR REPLACE TRIGGER audit BEFORE UPDATE ON documents FOR EACH ROW EXECUTE FUNCTION audit()"
        )
    };
    site.db.run(&refuse("INSERT INTO audit_log VALUES (NEW.id)"));
    add(&mut site, 11, 20);
    let page = entry("the vectors could not be written: ... does not exist");
    page.until_shown(&mut site);
    page.run(&mut site.db, &[]);
    over(&mut site);

    // As the server says it: neither a full disk nor a minute of waiting can be made here.
    let raise = |code: &str, message: &str| refuse(&format!("RAISE EXCEPTION '{message}' USING ERRCODE = '{code}'"));
    documents(&mut site);
    site.db.run(&raise("57014", "canceling statement due to statement timeout"));
    add(&mut site, 11, 20);
    let page = entry("canceling statement due to");
    page.until_shown(&mut site);
    page.run(&mut site.db, &[]);
    over(&mut site);

    documents(&mut site);
    site.db.run(&raise("53100", "could not extend file \"base/5/1\": No space left on device"));
    add(&mut site, 11, 20);
    entry("No space left on device").until_shown(&mut site);
    // Room is made.
    site.db.run(&refuse("NULL"));
    over(&mut site);

    documents(&mut site);
    site.db.run(&refuse(
        "EXECUTE 'CREATE OR REPLACE FUNCTION pg_temp.left_behind() RETURNS int LANGUAGE sql AS ''SELECT 1'''",
    ));
    add(&mut site, 11, 20);
    let page = entry("has made temporary objects");
    page.until_shown(&mut site);
    page.run(&mut site.db, &[]);
    over(&mut site);
}

#[test]
fn an_index_that_is_not_there() {
    let mut site = scene(Site::new());
    let page = entry("has no valid index");
    site.db.run("DROP INDEX documents_embedding_idx");
    page.until_shown(&mut site);
    // Rows go on being embedded, and the note stays.
    add(&mut site, 11, 20);
    site.settle("documents", "body");
    let state = site.status("state", "documents");
    assert!(page.says(&state), "{state}");
    page.run(&mut site.db, &[]);
    over(&mut site);

    // A build that broke off.
    site.db.run("DROP INDEX documents_embedding_idx");
    let mut other = site.session();
    other.run("BEGIN; LOCK TABLE documents IN ROW EXCLUSIVE MODE");
    site.db.run("SET lock_timeout = '100ms'");
    site.db.error(&page.command("CREATE INDEX", &[]));
    site.db.run("RESET lock_timeout");
    other.run("COMMIT");
    let invalid = "SELECT count(*) FROM pg_index WHERE NOT indisvalid";
    assert_eq!(site.db.int(invalid), 1);
    page.until_shown(&mut site);
    page.run(&mut site.db, &[]);
    assert_eq!(site.db.int(invalid), 0);
    over(&mut site);
}

#[test]
fn a_text_index_that_is_not_there() {
    let mut site = scene(Site::new());
    let page = entry("has no valid text index");
    site.db.run("SELECT autoembed.disable('documents')");
    site.enable("documents", "body", "text_search => 'english'");
    site.db.run("DROP INDEX documents_embedding_text_idx");
    let state = page.until_shown(&mut site);
    assert!(state.contains("to_tsvector('pg_catalog.english'"), "{state}");
    page.run(&mut site.db, &[]);
    over(&mut site);
}

/// No row waits, none comes: what was wrong with the table is seen to be mended.
#[test]
fn a_state_ends_though_no_row_waits() {
    let mut site = scene(Site::new());
    site.db.run("CREATE ROLE alice; ALTER TABLE documents OWNER TO alice; REVOKE ALL ON documents FROM alice");
    add(&mut site, 11, 20);
    let page = entry("permission denied");
    page.until_shown(&mut site);
    site.db.run("DELETE FROM autoembed.job");
    site.db.run("COMMENT ON TABLE documents IS 'still not readable'; ALTER TABLE documents ADD COLUMN more int");
    site.db.run("CREATE TABLE other (id int PRIMARY KEY, body text)");
    site.enable("other", "body", "");
    site.db.run("INSERT INTO other VALUES (1, 'one')");
    site.settle("other", "body");
    page.until_shown(&mut site);
    page.run(&mut site.db, &[]);
    site.until_state("documents", "active");
    site.db.run("SELECT autoembed.backfill('documents')");
    over(&mut site);
}

#[test]
fn chunk_tables() {
    let mut site = scene(Site::new());
    site.db.run("SELECT autoembed.disable('documents'); SELECT autoembed.enable('documents', 'body', 'mine', chunk_size => 200)");
    let whole = "SELECT count(*) FROM documents d WHERE NOT EXISTS (SELECT FROM documents_chunks c WHERE c.id = d.id AND c.chunk = d.body)";
    site.db.until(whole, "0", PATIENCE);
    let page = entry("the chunk table of table");
    site.db.run("DROP TABLE documents_chunks; UPDATE documents SET body = body || ' edited' WHERE id < 4");
    page.until_shown(&mut site);
    page.run(&mut site.db, &[]);
    site.db.until(whole, "0", PATIENCE);
    let page = entry("belongs to another role than table");
    site.db.run("CREATE ROLE alice; ALTER TABLE documents OWNER TO alice; UPDATE documents SET body = body || ' by alice' WHERE id < 4");
    page.until_shown(&mut site);
    page.run(&mut site.db, &[]);
    site.db.until(whole, "0", PATIENCE);
    let page = entry("does not fit that of table");
    site.db.run(
        "ALTER TABLE documents DROP CONSTRAINT documents_pkey CASCADE, ADD PRIMARY KEY (id, title);
         UPDATE documents SET body = body || ' once more' WHERE id < 4",
    );
    page.until_shown(&mut site);
    page.run(&mut site.db, &[]);
    site.db.until(whole, "0", PATIENCE);
}
