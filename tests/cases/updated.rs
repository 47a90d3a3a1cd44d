//! A database of an earlier version with this version's library: it goes on working as it is, and after `ALTER EXTENSION autoembed UPDATE`, a dump
//! and restore, and pg_upgrade. Nothing is embedded again, nothing is lost.

use crate::released::earlier_versions;
use autoembed_stub::{Fault, Stub, StubConfig, Vectors};
use autoembed_tests::catalogue::assert_as_fresh;
use autoembed_tests::site::{DATABASE, PATIENCE};
use autoembed_tests::{Catalogue, Cluster, Db, Site, find, vectors};
use std::collections::BTreeSet;
use std::sync::mpsc::{TryRecvError, channel};
use std::thread::JoinHandle;

/// Dimensions of the model `next`, to which `moving` is changing.
const NEXT: usize = 24;

/// Each kind of vectorizer that works: table, text of a row, its columns beside the key, and their values by a number `i`.
const TABLES: [(&str, &str, &str, &str); 7] = [
    ("messages", "content", "content", "'message ' || i"),
    ("posts", "title || E'\\n' || body", "title, body", "'title ' || i, 'body ' || i"),
    ("pages", "body", "body", "'page ' || i"),
    ("notes", "body", "body", "'note about pump ' || i"),
    ("logs", "content", "region, content", "chr(97 + (i % 2)::int), 'log ' || i"),
    ("hidden", "body", "body", "'hidden ' || i"),
    ("moving", "body", "body", "'moving ' || i"),
];

/// A vectorizer of each kind with its rows embedded; beside them one that is paused with rows that wait, one whose rows wait for an hour,
/// a row that failed, and a change of model that stands still until `next` is released.
struct Scene {
    site: Site,
    next: Stub,
}

impl Scene {
    fn new(version: &str) -> Scene {
        // What is on its way as a dump is made comes with its lease, also after the other worker's start.
        // Nothing is remembered, so that what is embedded again is seen.
        let site = Site::builder().version(version).setting("autoembed.lease", "5s");
        let mut site = site.setting("autoembed.cache_size", "0").start();
        let next = Stub::start(StubConfig::vectors(Vectors::Hashed(NEXT)).recorded()).unwrap();
        site.db.run(&format!(
            "SELECT autoembed.create_model('next', 'openai', dimensions => {NEXT}, model => 'stub-model', url => '{}');
             CREATE TABLE messages (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, content text);
             CREATE TABLE posts (scrap int, id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, title text, body text); ALTER TABLE posts DROP COLUMN scrap;
             CREATE TABLE pages (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text);
             CREATE TABLE notes (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text);
             CREATE SEQUENCE log_id; CREATE TABLE logs (region text, id bigint DEFAULT nextval('log_id'), content text, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
             CREATE TABLE logs_a PARTITION OF logs FOR VALUES IN ('a'); CREATE TABLE logs_b PARTITION OF logs FOR VALUES IN ('b');
             CREATE TABLE hidden (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text, who text DEFAULT 'reader');
             CREATE TABLE moving (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text);
             CREATE TABLE quiet (id int PRIMARY KEY, body text); CREATE TABLE late (id int PRIMARY KEY, body text);
             CREATE ROLE reader LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader;
             ALTER TABLE hidden ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON hidden USING (who = current_user)",
            next.url()
        ));
        for (table, text, _, _) in TABLES {
            let more = match table {
                "posts" => "on_change => 'clear', delay => '10 ms'",
                "pages" => "chunk_size => 40",
                "notes" => "text_search => 'english'",
                _ => "",
            };
            site.enable(table, text, more);
        }
        site.enable("quiet", "body", "");
        site.enable("late", "body", "delay => '1 hour'");
        site.fault(Fault::Poison("poison".to_owned()));
        for (table, _, columns, values) in TABLES {
            site.db.run(&format!("INSERT INTO {table} ({columns}) SELECT {values} FROM generate_series(1, 20) i"));
        }
        site.db.run(
            "INSERT INTO messages (content) VALUES ('poison'); INSERT INTO quiet SELECT i, 'quiet ' || i FROM generate_series(1, 5) i;
             INSERT INTO hidden (body, who) VALUES ('hidden from the reader', 'nobody')",
        );
        site.db.until("SELECT count(*) FROM autoembed.failed_jobs", "1", PATIENCE);
        site.db.until("SELECT sum(pending + in_flight) FROM autoembed.status", "0", PATIENCE);
        site.stub.clear();
        site.db.run(
            "SELECT autoembed.pause('quiet'); INSERT INTO quiet SELECT i, 'quiet ' || i FROM generate_series(6, 9) i;
             INSERT INTO late VALUES (1, 'late')",
        );
        next.hold();
        site.db.run("SELECT autoembed.set_model('moving', 'next')");
        assert!(next.wait_held(1, PATIENCE), "the change of model has not begun");
        let mut scene = Scene { site, next };
        let mut db = scene.site.session();
        scene.settle(&mut db);
        scene.site.stub.reset_stats();
        scene
    }

    /// Waits until each row of [`TABLES`] has its vector.
    fn settle(&mut self, db: &mut Db) {
        for (table, text, _, _) in TABLES {
            let (from, text) = match table {
                "pages" => ("pages_chunks", "chunk"),
                "messages" => ("(SELECT * FROM messages WHERE content <> 'poison') m", text),
                _ => (table, text),
            };
            let moved = table == "moving"
                && db.yes("SELECT model = 'next' FROM autoembed.status WHERE source = 'moving'::regclass");
            let dims = if moved { NEXT } else { self.site.dims };
            vectors::until_all_vectors(db, from, text, "embedding", dims, PATIENCE * 2);
        }
    }

    /// That rows written now are embedded and found, in each way of searching; `word` is in their texts alone.
    fn works(&mut self, db: &mut Db, word: &str) {
        for (table, _, columns, values) in TABLES {
            let values = values.replace("|| i", &format!("|| ' new {word} ' || i"));
            db.run(&format!("INSERT INTO {table} ({columns}) SELECT {values} FROM generate_series(1, 2) i"));
        }
        db.run(&format!("UPDATE messages SET content = 'edited new {word}' WHERE id = 3"));
        self.settle(db);
        for (search, found) in [
            (format!("SELECT content FROM similar_messages('edited new {word}', 1)"), format!("edited new {word}")),
            (
                format!(
                    "SELECT split_part(input, E'\\n', 2) FROM similar_posts(E'title  new {word} 1\\nbody  new {word} 1', 1)"
                ),
                format!("body  new {word} 1"),
            ),
            (format!("SELECT chunk FROM similar_pages('page  new {word} 2', 1)"), format!("page  new {word} 2")),
            (
                format!("SELECT body FROM similar_notes('new {word}', 1, mode => 'hybrid')"),
                format!("note about pump  new {word} "),
            ),
            (format!("SELECT content FROM similar_logs('log  new {word} 1', 1)"), format!("log  new {word} 1")),
            (format!("SELECT body FROM similar_moving('moving  new {word} 1', 1)"), format!("moving  new {word} 1")),
        ] {
            let seen = db.text(&search);
            assert!(seen.starts_with(&found), "{search}: {seen}");
        }
        let database = db.text("SELECT current_database()");
        let mut reader = self.site.cluster.client_as(&database, "reader");
        let seen = reader.column("SELECT body FROM similar_hidden('new to the reader', 100)");
        assert!(seen.len() >= 20 && !seen.contains(&"hidden from the reader".to_owned()), "{seen:?}");
    }

    /// That all is as it was, what waited is worked off, and no text of before was embedded again.
    fn check(&mut self, db: &mut Db) {
        self.settle(db);
        let states = db.column("SELECT source || ': ' || split_part(state, ':', 1) || ', ' || failed FROM autoembed.status ORDER BY source::text");
        let expected =
            ["hidden", "late", "logs", "messages", "moving", "notes", "pages", "posts", "quiet"].map(|table| {
                let state = if table == "quiet" { "paused" } else { "active" };
                format!("{table}: {state}, {}", i32::from(table == "messages"))
            });
        assert_eq!(states, expected);
        assert_eq!(
            db.column(
                "SELECT pending FROM autoembed.status WHERE source::text IN ('late', 'quiet') ORDER BY source::text"
            ),
            ["1", "4"]
        );
        assert_eq!(db.column("SELECT key FROM autoembed.failed_jobs"), ["21"]);
        let again: Vec<String> = self.site.inputs().into_iter().filter(|input| !input.contains("new")).collect();
        assert_eq!(again, [""; 0], "embedded again");
        // The change of model goes on where it was, to its end.
        self.next.release();
        db.until(
            "SELECT model || ' ' || state FROM autoembed.status WHERE source = 'moving'::regclass",
            "next active",
            PATIENCE * 2,
        );
        self.settle(db);
        let inputs = self.next.requests().into_iter().flat_map(|request| request.inputs).collect::<BTreeSet<_>>();
        assert!(inputs.contains("moving 1") && inputs.contains("moving 20"), "{inputs:?}");
        db.run("UPDATE autoembed.job SET not_before = now() WHERE key = '1'");
        db.run("SELECT autoembed.resume('quiet')");
        vectors::until_all_vectors(db, "quiet", "body", "embedding", self.site.dims, PATIENCE);
        assert_eq!(db.int("SELECT autoembed.retry_failed('messages')"), 1);
        db.until("SELECT sum(pending + in_flight + failed) FROM autoembed.status", "0", PATIENCE);
        vectors::assert_all_vectors(db, "messages", "content", "embedding", self.site.dims);
        vectors::assert_all_vectors(db, "late", "body", "embedding", self.site.dims);
        let mut waited: Vec<String> = self.site.inputs().into_iter().filter(|input| !input.contains("new")).collect();
        waited.sort();
        assert_eq!(waited, ["late", "poison", "quiet 6", "quiet 7", "quiet 8", "quiet 9"]);
    }
}

fn version(db: &mut Db) -> String {
    db.text("SELECT extversion FROM pg_extension WHERE extname = 'autoembed'")
}

/// The catalogue of an extension that was never another.
fn fresh(cluster: &Cluster) -> Catalogue {
    cluster.client("postgres").run("CREATE DATABASE fresh");
    let mut db = cluster.client("fresh");
    db.run("CREATE EXTENSION autoembed CASCADE");
    let catalogue = Catalogue::read(&mut db);
    db.run("DROP EXTENSION autoembed");
    catalogue
}

/// One call of each function that wants arguments. The others are called as they are.
fn calls(source: &str) -> Vec<(&'static str, String)> {
    let of = |call: &str| format!("SELECT autoembed.{call}");
    vec![
        ("create_model", of("create_model('made', 'openai', 3, url => 'http://127.0.0.1:9')")),
        ("drop_model", of("drop_model('made')")),
        ("test_model", "SELECT ok FROM autoembed.test_model('stub')".to_owned()),
        ("enable", of("enable('called', 'body', model => 'stub')")),
        ("pause", of("pause('called')")),
        ("resume", of("resume('called')")),
        ("notify", of("notify('called')")),
        ("backfill", of("backfill('called')")),
        ("reconcile", of("reconcile('called')")),
        ("set_model", of("set_model('called', 'next'); SELECT autoembed.set_model('called', 'stub')")),
        ("estimate_cost", "SELECT rows FROM autoembed.estimate_cost('called')".to_owned()),
        ("job_status", "SELECT state FROM autoembed.job_status('called', '1')".to_owned()),
        ("embed", of("embed('a text', 'stub')")),
        ("query_vector", of(&format!("query_vector({source}, 'a text')"))),
        (
            "search_rows",
            format!(
                "SELECT * FROM autoembed.search_rows({source}, 'a text', 1, NULL, NULL, 'semantic') AS r (id bigint, body text, similarity real)"
            ),
        ),
        ("search_statement", of(&format!("search_statement({source}, 1, NULL, 'semantic')"))),
        ("row_search_statement", of(&format!("row_search_statement({source}, 1, NULL)"))),
        ("word_information", of("word_information('pump', 10, 1, 10)")),
        ("words_matched", of("words_matched('{1}', '{1}', 3, 3)")),
        ("fused", of("fused(0.5, 0.2, 0.9, '{1}', '{1}', 1, 1, 10)")),
        ("sees_all_rows", of("sees_all_rows('called')")),
        (
            "own_model",
            "UPDATE autoembed.models SET options = '{}' WHERE name = 'bge-m3' RETURNING well_known".to_owned(),
        ),
        ("queue_change", "INSERT INTO called VALUES (2, 'queued') RETURNING id".to_owned()),
        ("clear_vector", "UPDATE posts SET title = 'cleared' WHERE id = 1 RETURNING embedding IS NULL".to_owned()),
        ("enqueue", of("enqueue('called', ARRAY['1'])")),
        ("disable", of("disable('called', drop_column => true)")),
    ]
}

/// Calls every function that there is, also those that a later version brings.
fn call_all(db: &mut Db) {
    db.run("CREATE TABLE called (id int PRIMARY KEY, body text); INSERT INTO called VALUES (1, 'called')");
    let source = db.text("SELECT id FROM autoembed.status WHERE source = 'notes'::regclass");
    let calls = calls(&source);
    for (name, sql) in &calls {
        let rows = db.try_rows(sql).unwrap_or_else(|e| panic!("{name}: {}", autoembed_tests::db::explain(&e)));
        assert!(!rows.is_empty() || *name == "search_rows", "{name} gives no row");
    }
    let all = db.rows(
        "SELECT p.proname, p.pronargs <= p.pronargdefaults AND p.prorettype <> 'trigger'::regtype FROM pg_depend d JOIN pg_proc p ON p.oid = d.objid
         WHERE d.classid = 'pg_proc'::regclass AND d.deptype = 'e' AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'autoembed') ORDER BY 1",
    );
    for function in all {
        let [name, is_bare] = <[_; 2]>::try_from(function).unwrap().map(Option::unwrap);
        if is_bare == "t" {
            db.run(&format!("SELECT count(*) FROM autoembed.{name}()"));
        } else {
            assert!(calls.iter().any(|(called, _)| *called == name), "nobody calls {name}");
        }
    }
}

/// Inserts into all tables and updates until its sender is gone; gives how often.
fn writer(mut db: Db) -> (std::sync::mpsc::Sender<()>, JoinHandle<usize>) {
    let (tell, told) = channel::<()>();
    let writing = std::thread::spawn(move || {
        let mut written = 0;
        while told.try_recv() != Err(TryRecvError::Disconnected) {
            for (table, _, columns, values) in TABLES {
                let values = values.replace("|| i", &format!("|| ' new written {written} ' || i"));
                db.run(&format!("INSERT INTO {table} ({columns}) SELECT {values} FROM generate_series(1, 2) i"));
            }
            db.run("UPDATE notes SET body = body || '.' WHERE id = (SELECT max(id) FROM notes)");
            db.run("DELETE FROM posts WHERE id = (SELECT max(id) FROM posts)");
            written += 1;
        }
        written
    });
    (tell, writing)
}

#[test]
fn g34_an_update_while_clients_write() {
    for from in earlier_versions() {
        let mut scene = Scene::new(&from);
        let mut db = scene.site.session();
        // The old catalogue with the new library, as long as one likes.
        assert_eq!(version(&mut db), from);
        scene.works(&mut db, "alpha");
        let (tell, writing) = writer(scene.site.session());
        let embedded = "(SELECT sum(embedded) FROM autoembed.status)";
        let now = db.int(&format!("SELECT {embedded}"));
        db.until_true(&format!("{embedded} > {now} + 20"), "", PATIENCE);
        let began = std::time::Instant::now();
        db.run("ALTER EXTENSION autoembed UPDATE");
        println!("from {from}: ALTER EXTENSION took {:?}", began.elapsed());
        let now = db.int(&format!("SELECT {embedded}"));
        db.until_true(&format!("{embedded} > {now} + 20"), "", PATIENCE);
        drop(tell);
        println!("{} rounds of writes meanwhile", writing.join().expect("every write succeeds"));
        assert_eq!(version(&mut db), find::default_version().unwrap());
        // A session that begins now, and the one that was there.
        let mut later = scene.site.session();
        scene.works(&mut later, "omega");
        scene.check(&mut db);
        assert_as_fresh(&Catalogue::read(&mut db), &fresh(&scene.site.cluster));
        call_all(&mut later);
    }
}

#[test]
fn g34_an_update_that_is_undone() {
    for from in earlier_versions() {
        let mut scene = Scene::new(&from);
        let mut db = scene.site.session();
        let before = Catalogue::read(&mut db);
        db.run("BEGIN; ALTER EXTENSION autoembed UPDATE; ROLLBACK");
        assert_eq!(before.differences("before", &Catalogue::read(&mut db), "after"), [""; 0]);
        scene.works(&mut db, "undone");
        scene.check(&mut db);
    }
}

/// CREATE EXTENSION in a dump names no version: what is restored has the present one.
#[test]
fn g34_a_dump_of_an_earlier_version() {
    for from in earlier_versions() {
        let mut scene = Scene::new(&from);
        let file = scene.site.cluster.socket_dir().join("dump").display().to_string();
        tool(&scene.site.cluster, "pg_dump", &["-d", DATABASE, "-F", "custom", "-f", &file]);
        // The first database keeps its own waiting rows; they are not to be taken for the other's.
        scene.site.db.run("SELECT autoembed.disable(source, embedding) FROM autoembed.status");
        scene.next.release();
        scene.next.hold();
        scene.site.cluster.client("postgres").run("CREATE DATABASE restored");
        tool(&scene.site.cluster, "pg_restore", &["-d", "restored", &file]);
        let mut db = scene.site.cluster.client("restored");
        assert_eq!(version(&mut db), find::default_version().unwrap());
        scene.works(&mut db, "restored");
        scene.check(&mut db);
        assert_as_fresh(&Catalogue::read(&mut db), &fresh(&scene.site.cluster));
    }
}

/// pg_upgrade keeps the version that a database has, and each object of it.
#[test]
fn g34_pg_upgrade_of_an_earlier_version() {
    for from in earlier_versions() {
        let mut scene = Scene::new(&from);
        let _ = scene.site.cluster.upgrade(None);
        scene.site.reconnect();
        let mut db = scene.site.session();
        assert_eq!(version(&mut db), from);
        scene.works(&mut db, "upgraded");
        db.run("ALTER EXTENSION autoembed UPDATE");
        scene.works(&mut db, "updated");
        scene.check(&mut db);
        assert_as_fresh(&Catalogue::read(&mut db), &fresh(&scene.site.cluster));
    }
}

fn tool(cluster: &Cluster, name: &str, arguments: &[&str]) {
    find::run(cluster.tool(name).args(arguments)).unwrap_or_else(|e| panic!("{e}"));
}
