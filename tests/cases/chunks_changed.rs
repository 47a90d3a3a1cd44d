//! Chunk tables that people change: whoever writes the source does not fail by it, and what was changed can be taken over again.

use autoembed_tests::site::PATIENCE;
use autoembed_tests::{Db, Site};

/// `app.pages (id, body, note)` of `keeper`, in chunks, with one row; `writer` may read and write it, and read the chunks.
fn pages(more: &str) -> Site {
    let mut site = Site::builder().setting("autoembed.cache_size", "0").start();
    site.db.run(
        "CREATE ROLE keeper LOGIN; CREATE ROLE heir LOGIN; CREATE ROLE writer LOGIN; CREATE SCHEMA app; CREATE SCHEMA other;
         GRANT USAGE, CREATE ON SCHEMA app TO keeper, heir; GRANT USAGE ON SCHEMA app TO writer",
    );
    site.session_as("keeper").run(
        "CREATE TABLE app.pages (id int PRIMARY KEY, body text, note text); INSERT INTO app.pages VALUES (1, 'text 0'), (2, 'another');
         GRANT SELECT, UPDATE ON app.pages TO writer",
    );
    site.enable("app.pages", "body", &format!("chunk_size => 40{more}"));
    site.db.run("GRANT SELECT ON app.pages_chunks TO writer");
    site.db.until("SELECT count(*) FROM app.pages_chunks", "2", PATIENCE);
    site.until_idle("app.pages");
    site
}

fn written(db: &mut Db, table: &str, text: &str) {
    db.until(&format!("SELECT string_agg(chunk, '') FROM {table} WHERE id = 1"), text, PATIENCE);
}

/// A source that was given away without its chunks: they are emptied all the same, found as before, and it is said what to do.
#[test]
fn g29_a_source_of_another_owner() {
    for on_change in ["clear", "replace"] {
        let mut site = pages(&format!(", on_change => '{on_change}'"));
        let mut writer = site.session_as("writer");
        writer.run("UPDATE app.pages SET body = 'text 1' WHERE id = 1");
        written(&mut site.db, "app.pages_chunks", "text 1");
        site.db.run("ALTER TABLE app.pages OWNER TO heir");
        writer.run("UPDATE app.pages SET body = 'text 2' WHERE id = 1");
        let state = site.until_state("app.pages", "blocked");
        assert!(state.contains(r#"ALTER TABLE "app"."pages_chunks" OWNER TO "heir""#), "{state}");
        let left = writer.int("SELECT count(*) FROM app.pages_chunks");
        assert_eq!(left, if on_change == "clear" { 1 } else { 2 });
        assert_eq!(writer.int("SELECT count(*) FROM app.similar_pages('text')"), left);
        site.db.error("SELECT autoembed.reconcile('app.pages')").assert("55000", "another role");
        let mut heir = site.session_as("heir");
        heir.run("SELECT autoembed.disable('app.pages')");
        let enable = format!(
            "SELECT autoembed.enable('app.pages', 'body', 'stub', chunk_size => 40, on_change => '{on_change}')"
        );
        heir.error(&enable).assert("42P07", "another role");
        site.db.run("ALTER TABLE app.pages_chunks OWNER TO heir");
        heir.run(&enable);
        written(&mut site.db, "app.pages_chunks", "text 2");
        // The same while it is enabled.
        site.db.run("ALTER TABLE app.pages OWNER TO keeper");
        writer.run("UPDATE app.pages SET body = 'text 3' WHERE id = 1");
        site.until_state("app.pages", "blocked");
        site.db.run("ALTER TABLE app.pages_chunks OWNER TO keeper");
        written(&mut site.db, "app.pages_chunks", "text 3");
        site.until_state("app.pages", "active");
    }
}

/// Names and rights that are other than they were when a session wrote last, and when its transaction began.
#[test]
fn g29_writers_go_on_whatever_becomes_of_the_chunks() {
    let mut site = pages(", on_change => 'clear'");
    let mut writer = site.session_as("writer");
    writer.run("SET search_path = app, other");
    let mut n = 0;
    for (change, chunks, back) in [
        (
            "ALTER TABLE app.pages_chunks RENAME TO bits",
            Some("app.bits"),
            "ALTER TABLE app.bits RENAME TO pages_chunks",
        ),
        (
            "DROP SCHEMA other; ALTER SCHEMA app RENAME TO other; CREATE SCHEMA app; CREATE TABLE app.pages_chunks (id int, chunk text); INSERT INTO app.pages_chunks SELECT 1, 'of others'; ALTER TABLE app.pages_chunks OWNER TO keeper; GRANT USAGE ON SCHEMA app TO keeper",
            Some("other.pages_chunks"),
            "DROP SCHEMA app CASCADE; ALTER SCHEMA other RENAME TO app; CREATE SCHEMA other",
        ),
        ("ALTER TABLE app.pages_chunks SET SCHEMA other", None, "ALTER TABLE other.pages_chunks SET SCHEMA app"),
        ("REVOKE USAGE ON SCHEMA app FROM keeper", None, "GRANT USAGE ON SCHEMA app TO keeper"),
        (
            "ALTER TABLE app.pages_chunks FORCE ROW LEVEL SECURITY",
            None,
            "ALTER TABLE app.pages_chunks NO FORCE ROW LEVEL SECURITY",
        ),
        ("REVOKE ALL ON app.pages_chunks FROM keeper", None, "GRANT ALL ON app.pages_chunks TO keeper"),
        (
            "DROP POLICY IF EXISTS autoembed ON app.pages_chunks; ALTER TABLE app.pages_chunks DISABLE ROW LEVEL SECURITY",
            Some("app.pages_chunks"),
            "",
        ),
    ] {
        for is_open in [false, true] {
            let update = |n: i32| format!("UPDATE pages SET body = 'text {n}' WHERE id = 1");
            n += 2;
            let before = n - 1;
            writer.run(&update(before));
            if chunks.is_some() {
                written(&mut site.db, "app.pages_chunks", &format!("text {before}"));
            }
            if is_open {
                writer.run("BEGIN; UPDATE pages SET note = 'open' WHERE id = 1");
            }
            site.db.run(change);
            writer.run(&update(n));
            if is_open {
                writer.run("COMMIT");
            }
            if let Some(chunks) = chunks {
                let old = format!("SELECT count(*) FROM {chunks} WHERE id = 1 AND chunk = 'text {before}'");
                assert_eq!(site.db.int(&old), 0, "{change}");
            }
            if change.contains("of others") {
                assert_eq!(site.db.int("SELECT count(*) FROM app.pages_chunks"), 1, "a table that has the name now");
            }
            site.db.run(back);
        }
    }
    written(&mut site.db, "app.pages_chunks", &format!("text {n}"));
    for change in ["ALTER TABLE app.pages_chunks DROP COLUMN id CASCADE", "DROP TABLE app.pages_chunks"] {
        site.db.run(change);
        writer.run("UPDATE pages SET body = body || '!' WHERE id = 1");
        site.until_state("app.pages", "blocked");
    }
}

/// Whatever was done to its row security, it is guarded as it was made.
#[test]
fn g36_what_is_taken_over_is_guarded_again() {
    let mut site = pages("");
    site.db.run("CREATE POLICY own ON app.pages USING (id = 2); ALTER TABLE app.pages ENABLE ROW LEVEL SECURITY");
    let mut writer = site.session_as("writer");
    for change in [
        "ALTER TABLE app.pages_chunks DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE app.pages_chunks DISABLE ROW LEVEL SECURITY; CREATE POLICY autoembed ON app.pages_chunks USING (true)",
        "CREATE POLICY nobody ON app.pages_chunks USING (false)",
    ] {
        site.db.run("SELECT autoembed.disable('app.pages')");
        // Until then nobody but the owner sees it.
        assert_eq!(writer.int("SELECT count(*) FROM app.pages_chunks"), 0);
        site.db.run(change);
        site.enable("app.pages", "body", "chunk_size => 40");
        assert_eq!(writer.column("SELECT chunk FROM app.pages_chunks"), ["another"], "{change}");
        assert_eq!(writer.column("SELECT chunk FROM app.similar_pages('x')"), ["another"], "{change}");
    }
}

/// Another type of the key, and another name of the table.
#[test]
fn g29_keys_of_another_type() {
    let mut site = pages("");
    let mut writer = site.session_as("writer");
    site.stub.reset_stats();
    let id = "ALTER TABLE app.pages_chunks ALTER id TYPE bigint";
    assert_eq!(site.db.error("ALTER TABLE app.pages ALTER id TYPE bigint").code, "0A000");
    site.db.run("SELECT autoembed.disable('app.pages'); ALTER TABLE app.pages ALTER id TYPE bigint");
    let enable = "SELECT autoembed.enable('app.pages', 'body', 'stub', chunk_size => 40)";
    site.db.error(enable).assert("42P07", "no chunk table");
    site.db.run(id);
    site.db.run(enable);
    assert!(site.db.yes("SELECT autoembed.wait('app.pages', '30 s')"));
    assert_eq!(site.inputs(), [""; 0]);
    writer.run("UPDATE app.pages SET id = 1 + (1::bigint << 40) WHERE id = 1; UPDATE app.pages SET body = 'large' WHERE id <> 2");
    site.db.until("SELECT id FROM app.pages_chunks WHERE chunk = 'large'", "1099511627777", PATIENCE);
    assert_eq!(writer.int("SELECT id FROM app.similar_pages('large', 1)"), 1_099_511_627_777);
    let made = site.db.int(enable);
    site.db.run("ALTER TABLE app.pages RENAME TO papers");
    for same in ["", ", chunk_table => 'pages_chunks'"] {
        assert_eq!(site.enable("app.papers", "body", &format!("chunk_size => 40{same}")), made);
    }
    let enable = "SELECT autoembed.enable('app.papers', 'body', 'stub', chunk_size => 40";
    site.db.error(&format!("{enable}, chunk_table => 'papers_chunks')")).assert("42710", "other arguments");
    site.db.run("DROP TABLE app.pages_chunks");
    site.db.error(&format!("{enable})")).assert("42710", "other arguments");
}
