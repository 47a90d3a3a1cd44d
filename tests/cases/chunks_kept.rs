//! Chunks that stay: through an end and a new beginning, in the slow lane, and while a page is indexed again.

use autoembed_stub::hashed_vector;
use autoembed_tests::db::literal;
use autoembed_tests::site::{DATABASE, PATIENCE};
use autoembed_tests::vectors::{parse, same};
use autoembed_tests::{Site, eventually};

mod forced;

/// A paragraph, which is a chunk of its own.
fn filled(words: &str) -> String {
    format!("{words} begins here, with a few more words that say what {words} is about, as one does in {words}.")
}

/// A text of paragraphs.
fn text(paragraphs: &[&str]) -> String {
    paragraphs.iter().map(|words| filled(words)).collect::<Vec<_>>().join("\n\n")
}

/// `pages (id, body)`, in chunks of 40 tokens; the worker remembers nothing but what is in the table.
fn pages() -> Site {
    pages_with("0")
}

/// The same; rows are to settle for so long.
fn pages_with(delay: &str) -> Site {
    let mut site = Site::builder().setting("autoembed.cache_size", "0").start();
    site.db.run("CREATE TABLE pages (id int PRIMARY KEY, body text)");
    site.enable("pages", "body", &format!("chunk_size => 40, delay => '{delay}'"));
    for id in 1..=4 {
        let (one, two) = (format!("page {id} one"), format!("page {id} two"));
        site.db.run(&format!("INSERT INTO pages VALUES ({id}, {})", literal(&text(&[&one, &two]))));
    }
    settle(&mut site);
    site
}

/// Waits until each row has the chunks of its paragraphs, with their vectors.
fn settle(site: &mut Site) {
    let prefix = site.db.maybe(
        "SELECT options ->> 'document_prefix' FROM autoembed.models WHERE name = (SELECT model FROM autoembed.status)",
    );
    let prefix = prefix.unwrap_or_default();
    eventually("every row has the chunks of its text", PATIENCE, || {
        let wanted = site.db.rows("SELECT id, (n - 1)::int, p FROM pages, unnest(string_to_array(body, E'\\n\\n')) WITH ORDINALITY AS u (p, n) WHERE p <> '' ORDER BY 1, 2");
        let chunks = site.db.rows("SELECT id, chunk_no, chunk, embedding::text FROM pages_chunks ORDER BY 1, 2");
        let there: Vec<_> = chunks.iter().map(|row| row[..3].to_vec()).collect();
        if there != wanted {
            return Err(format!("{there:?}"));
        }
        let is_own = |row: &[Option<String>]| {
            let (chunk, vector) = (row[2].as_deref().unwrap(), row[3].as_deref().unwrap());
            same(&parse(vector), &hashed_vector(&format!("{prefix}{chunk}"), 16))
        };
        chunks.iter().all(|row| is_own(row)).then_some(()).ok_or_else(|| "a vector of another text".to_owned())
    });
    site.until_idle("pages");
}

/// Runs `change`, waits until all is settled; what was sent for it, in the order of the alphabet.
fn sent(site: &mut Site, change: impl FnOnce(&mut Site)) -> Vec<String> {
    site.stub.reset_stats();
    change(site);
    assert!(site.db.yes("SELECT autoembed.wait('pages', '30 s')"));
    settle(site);
    let mut inputs = site.inputs();
    inputs.sort();
    inputs
}

#[test]
fn enabling_again_goes_on_with_the_chunks_that_are_there() {
    let mut site = pages();
    site.db.run("CREATE ROLE reader LOGIN; GRANT SELECT ON pages, pages_chunks TO reader");
    let oid = site.db.text("SELECT 'pages_chunks'::regclass::oid");
    // Written, edited, emptied and gone while nobody looks.
    let new = sent(&mut site, |site| {
        site.db.run("SELECT autoembed.disable('pages')");
        site.db.run(&format!(
            "UPDATE pages SET body = {} WHERE id = 1; UPDATE pages SET body = NULL WHERE id = 2; DELETE FROM pages WHERE id = 3; INSERT INTO pages VALUES (9, {})",
            literal(&text(&["page 1 one", "edited"])),
            literal(&text(&["added"]))
        ));
        site.enable("pages", "body", "chunk_size => 40");
    });
    assert_eq!(new, [text(&["added"]), text(&["edited"])]);
    assert_eq!(site.db.text("SELECT 'pages_chunks'::regclass::oid"), oid);
    assert_eq!(site.session_as("reader").int("SELECT count(*) FROM similar_pages('page', 10)"), 3);
    assert_eq!(
        site.db.int("SELECT count(*) FROM pg_indexes WHERE tablename = 'pages_chunks' AND indexdef LIKE '%hnsw%'"),
        1
    );
    assert_eq!(site.db.int("SELECT autoembed.reconcile('pages')"), 0);
    // With larger pieces what is the same as before is not sent.
    site.db.run("SELECT autoembed.disable('pages')");
    site.stub.reset_stats();
    site.enable("pages", "body", "chunk_size => 100");
    assert!(site.db.yes("SELECT autoembed.wait('pages', '30 s')"));
    assert!(!site.inputs().contains(&text(&["added"])), "{:?}", site.inputs());
    assert!(site.inputs().contains(&text(&["page 4 one", "page 4 two"])), "{:?}", site.inputs());
    // It goes with its table still.
    site.db.run("DROP TABLE pages");
    assert_eq!(site.db.int("SELECT count(*) FROM pg_class WHERE relname = 'pages_chunks'"), 0);
}

/// What a dump brings can be taken over as well, and is guarded as before.
#[test]
fn g34_enabling_again_where_it_was_restored() {
    let site = pages();
    let file = site.cluster.socket_dir().join("dump.sql").display().to_string();
    let run = |name: &str, arguments: &[&str]| {
        let output = site.cluster.tool(name).args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && !said.contains("ERROR"), "{said}");
    };
    run("pg_dump", &["-d", DATABASE, "-f", &file]);
    site.cluster.client("postgres").run("CREATE DATABASE restored");
    run("psql", &["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "restored", "-f", &file]);
    let mut db = site.cluster.client("restored");
    db.until("SELECT count(*) FROM autoembed.status WHERE state = 'active'", "1", PATIENCE);
    // It goes with its table again, though a dump does not say so.
    let tied = "SELECT count(*) FROM pg_depend WHERE objid = 'pages_chunks'::regclass AND refobjid = 'pages'::regclass AND objsubid = 0";
    db.until(tied, "1", PATIENCE);
    db.run("BEGIN; DROP TABLE pages; ROLLBACK");
    site.stub.reset_stats();
    db.run("SELECT autoembed.disable('pages'); SELECT autoembed.enable('pages', 'body', 'stub', chunk_size => 40)");
    assert!(db.yes("SELECT autoembed.wait('pages', '30 s')"));
    assert_eq!(site.inputs(), [""; 0]);
    assert_eq!(db.int("SELECT count(*) FROM pg_policies WHERE tablename = 'pages_chunks'"), 1);
    db.run("DROP TABLE pages");
    assert_eq!(db.int("SELECT count(*) FROM pg_class WHERE relname = 'pages_chunks'"), 0);
}

#[test]
fn what_does_not_fit_is_not_taken_over() {
    let mut site = pages();
    site.create_model("other", "options => '{\"document_prefix\": \"other: \"}'");
    site.db.run("CREATE ROLE stranger");
    let enable = |more: &str| format!("SELECT autoembed.enable('pages', 'body', 'stub', chunk_size => 40{more})");
    let in_use = enable(", embedding => 'second', chunk_table => 'pages_chunks'");
    site.db.error(&in_use).assert("42P07", "chunk table of another vectorizer");
    site.db.run("SELECT autoembed.disable('pages')");
    let other = "SELECT autoembed.enable('pages', 'body', 'other', chunk_size => 40)";
    site.db.error(other).assert("42P07", "not known to be of model \"other\"");
    for (part, change, back) in [
        (
            "another role",
            "ALTER TABLE pages_chunks OWNER TO stranger",
            "ALTER TABLE pages_chunks OWNER TO CURRENT_USER",
        ),
        (
            "\"chunk\" is not",
            "ALTER TABLE pages_chunks ALTER chunk TYPE varchar(3000)",
            "ALTER TABLE pages_chunks ALTER chunk TYPE text",
        ),
        (
            "no chunk table",
            "ALTER TABLE pages_chunks RENAME chunk_no TO n",
            "ALTER TABLE pages_chunks RENAME n TO chunk_no",
        ),
        (
            "\"embedding\"",
            "ALTER TABLE pages_chunks RENAME embedding TO v",
            "ALTER TABLE pages_chunks RENAME v TO embedding",
        ),
        (
            "no chunk table",
            "ALTER TABLE pages_chunks DROP CONSTRAINT pages_chunks_id_fkey",
            "ALTER TABLE pages_chunks ADD FOREIGN KEY (id) REFERENCES pages ON UPDATE CASCADE ON DELETE CASCADE",
        ),
        (
            "not known",
            "COMMENT ON COLUMN pages_chunks.embedding IS 'mine'",
            "COMMENT ON COLUMN pages_chunks.embedding IS 'its vector, by model \"stub\"'",
        ),
        (
            "no chunk table",
            "ALTER TABLE pages_chunks RENAME TO bits; CREATE VIEW pages_chunks AS SELECT * FROM bits",
            "DROP VIEW pages_chunks; ALTER TABLE bits RENAME TO pages_chunks",
        ),
    ] {
        site.db.run(change);
        site.db.error(&enable("")).assert("42P07", part);
        site.db.run(back);
    }
    site.stub.reset_stats();
    site.db.run(&enable(""));
    settle(&mut site);
    assert_eq!(site.inputs(), [""; 0]);
}

/// Whose turn a change gets has nothing to do with what it costs.
#[test]
fn an_edit_in_the_slow_lane_costs_what_it_changes() {
    let mut site = pages();
    let new = sent(&mut site, |site| {
        site.db.run("SET autoembed.lane = 'backfill'");
        site.db.run(&format!("UPDATE pages SET body = {} WHERE id = 1", literal(&text(&["page 1 one", "edited"]))));
    });
    assert_eq!(new, [text(&["edited"])]);
    // What was mended unseen is found by the page's keys, in the lane of the session.
    let new = sent(&mut site, |site| {
        site.db.run("ALTER TABLE pages DISABLE TRIGGER USER");
        site.db.run(&format!("UPDATE pages SET body = {} WHERE id = 2", literal(&text(&["mended", "page 2 two"]))));
        site.db.run("ALTER TABLE pages ENABLE TRIGGER USER; SELECT autoembed.pause('pages')");
        assert_eq!(site.db.int("SELECT autoembed.enqueue('pages', '{1,2}')"), 2);
        site.db.run("RESET autoembed.lane; SELECT autoembed.enqueue('pages', '{3}')");
        let lanes = "SELECT string_agg(key || ':' || lane, ' ' ORDER BY key) FROM autoembed.job";
        assert_eq!(site.db.text(lanes), "1:1 2:1 3:0");
        site.db.run("SELECT autoembed.resume('pages')");
    });
    assert_eq!(new, [text(&["mended"])]);
    // All of it again is what force is for.
    let new = sent(&mut site, |site| site.db.run("SELECT autoembed.backfill('pages', force => true)"));
    assert_eq!(new.len(), 8);
}
