//! pg_upgrade, a parallel dump and restore, and a library and a catalogue of different versions.

use autoembed_stub::Fault;
use autoembed_tests::site::{DATABASE, PATIENCE};
use autoembed_tests::{Cluster, Db, Site, find, vectors};
use std::path::PathBuf;

mod servers;

const TITLE_AND_BODY: &str = "title || E'\\n' || body";

/// `messages` with vectors, a failed and waiting rows; `posts` with an expression; `quiet`, paused with rows; a table
/// whose columns have other numbers than in a new one.
fn scene(log: &str) -> Site {
    // What is on its way as a dump is made comes with its lease, also after the other worker's start.
    let mut site = Site::builder().setting("log_min_messages", log).setting("autoembed.lease", "5s").start();
    site.messages("");
    site.db.run(
        "CREATE TABLE posts (scrap int, id int PRIMARY KEY, title text, body text); ALTER TABLE posts DROP COLUMN scrap;
         CREATE TABLE quiet (id int PRIMARY KEY, body text)",
    );
    site.enable("posts", TITLE_AND_BODY, "on_change => 'clear', delay => '10 ms'");
    site.enable("quiet", "body", "");
    site.fault(Fault::Poison("poison".to_owned()));
    site.insert(1, 30);
    site.db.run("INSERT INTO messages (content) VALUES ('poison')");
    site.db.run("INSERT INTO posts SELECT i, 'title ' || i, 'body ' || i FROM generate_series(1, 20) i");
    site.db.run("INSERT INTO quiet SELECT i, 'quiet ' || i FROM generate_series(1, 5) i");
    site.db.until("SELECT count(*) FROM autoembed.failed_jobs", "1", PATIENCE);
    site.db.until("SELECT sum(pending + in_flight) FROM autoembed.status", "0", PATIENCE);
    site.db
        .run("SELECT autoembed.pause('quiet'); INSERT INTO quiet SELECT i, 'quiet ' || i FROM generate_series(6, 9) i");
    site.stub.clear();
    site
}

/// What waits when the old server is left: changes that nobody embeds there.
fn leave_work(site: &mut Site) {
    site.stub_gone();
    site.db.run("UPDATE messages SET content = 'waiting ' || id WHERE id <= 3; INSERT INTO posts VALUES (21, 'waiting', 'post')");
    site.db.until_true(
        "(SELECT sum(pending + in_flight) FROM autoembed.status) = 8",
        "SELECT * FROM autoembed.status",
        PATIENCE,
    );
}

fn settle(db: &mut Db, table: &str, text: &str, filter: &str) {
    let from = format!("(SELECT * FROM {table} WHERE {filter}) {table}");
    vectors::until_all_vectors(db, &from, text, "embedding", 16, PATIENCE * 2);
}

/// That all is as it was, the waiting rows are worked off, nothing else is embedded, and changes are seen.
fn check(site: &Site, db: &mut Db) {
    settle(db, "messages", "content", "content <> 'poison'");
    settle(db, "posts", TITLE_AND_BODY, "true");
    let states = db.column("SELECT source || ': ' || state || ', ' || failed FROM autoembed.status ORDER BY 1");
    assert_eq!(states, ["messages: active, 1", "posts: active, 0", "quiet: paused, 0"]);
    assert_eq!(db.int("SELECT pending FROM autoembed.status WHERE source = 'quiet'::regclass"), 4);
    let inputs = || {
        let mut inputs = site.inputs();
        // What a worker asks that has met no server and wants to know whether there is one again: no row's text.
        inputs.retain(|text| !text.starts_with("hello "));
        inputs.sort();
        inputs.dedup();
        inputs
    };
    assert_eq!(inputs(), ["waiting\npost", "waiting 1", "waiting 2", "waiting 3"]);
    site.stub.reset_stats();
    db.run("UPDATE messages SET content = 'edited' WHERE id = 5; INSERT INTO messages (content) VALUES ('new')");
    db.run("UPDATE posts SET title = 'edited' WHERE id = 5");
    assert!(db.maybe("SELECT embedding::text FROM posts WHERE id = 6").is_some());
    settle(db, "messages", "content", "content <> 'poison'");
    settle(db, "posts", TITLE_AND_BODY, "true");
    assert_eq!(db.text("SELECT content FROM similar_messages('new', 1)"), "new");
    assert_eq!(db.int("SELECT id FROM similar_posts(E'edited\\nbody 5', 1)"), 5);
    db.run("SELECT autoembed.resume('quiet')");
    settle(db, "quiet", "body", "true");
    // What failed can be tried again.
    assert_eq!(db.int("SELECT autoembed.retry_failed('messages')"), 1);
    settle(db, "messages", "content", "true");
    let expected = ["edited", "edited\nbody 5", "new", "poison", "quiet 6", "quiet 7", "quiet 8", "quiet 9"];
    assert_eq!(inputs(), expected);
    db.until("SELECT sum(failed) FROM autoembed.status", "0", PATIENCE);
}

/// Runs one of the server's programs; panics with what it wrote where it fails, or says anything of an error.
fn run(cluster: &Cluster, name: &str, arguments: &[&str]) {
    let output = cluster.tool(name).args(arguments).output().unwrap_or_else(|e| panic!("{name}: {e}"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && !said.contains("error"), "{name} ended with {}: {said}", output.status);
}

#[test]
fn g34_a_parallel_dump_and_restore() {
    let mut site = scene("warning");
    leave_work(&mut site);
    let folder = site.cluster.socket_dir().join("dump").display().to_string();
    run(&site.cluster, "pg_dump", &["-d", DATABASE, "-F", "directory", "-j", "3", "-f", &folder]);
    // The first database keeps its own waiting rows; they are not to be taken for the other's.
    site.db.run("SELECT autoembed.disable(source, embedding) FROM autoembed.status");
    site.cluster.client("postgres").run("CREATE DATABASE restored");
    site.stub_back();
    run(&site.cluster, "pg_restore", &["-d", "restored", "-j", "3", &folder]);
    let mut db = site.cluster.client("restored");
    check(&site, &mut db);
}

/// The worker is there from `CREATE EXTENSION` on, and the parts of a dump come in any order: with each order of two parts, what waits is
/// still there when all has come, and nothing that the worker did is in the way of what comes.
#[test]
fn g34_a_restore_stands_still_at_any_place() {
    let mut site = scene("warning");
    // As old as a dump may be that is restored one day: the log is added up by whoever keeps house first.
    site.db.run(
        "UPDATE autoembed.request SET at = at - interval '8 days';
         INSERT INTO autoembed.usage_day (model, day, requests, inputs, tokens) SELECT 'stub', at::date, 1, 1, 1 FROM autoembed.request GROUP BY at::date",
    );
    leave_work(&mut site);
    let folder = site.cluster.socket_dir().join("dump").display().to_string();
    run(&site.cluster, "pg_dump", &["-d", DATABASE, "-F", "directory", "-f", &folder]);
    site.db.run("SELECT autoembed.disable(source, embedding) FROM autoembed.status");
    site.stub_back();
    let list = site.cluster.tool("pg_restore").args(["-l", &folder]).output().unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    let entries: Vec<&str> = list.lines().filter(|line| !line.starts_with(';')).collect();
    let is_ours = |line: &str| line.contains(" TABLE DATA autoembed ");
    let (first, later) = entries.split_at(entries.iter().position(|line| line.contains(" TABLE DATA ")).unwrap());
    for (n, part) in ["job", "request", "failed", "embedded"].into_iter().enumerate() {
        let database = format!("restored{n}");
        site.cluster.client("postgres").run(&format!("CREATE DATABASE {database}"));
        let is_part = |line: &&str| is_ours(line) && line.contains(&format!(" autoembed {part} "));
        assert_eq!(later.iter().filter(|line| is_part(line)).count(), 1, "{list}");
        let (second, third): (Vec<&str>, Vec<&str>) = later.iter().copied().partition(is_part);
        let restore = |name: &str, entries: &[&str]| {
            let file = site.cluster.socket_dir().join(name);
            std::fs::write(&file, entries.join("\n") + "\n").unwrap();
            let file = file.display().to_string();
            run(&site.cluster, "pg_restore", &["-d", &database, "-L", &file, &folder]);
        };
        restore("first", &[first, &second].concat());
        let worker = site.cluster.wait_worker(&database, PATIENCE);
        // It has looked at all that there is, and kept house.
        let mut db = site.cluster.client(&database);
        db.until_true(
            &format!("(SELECT wait_event_type = 'Extension' AND xact_start IS NULL FROM pg_stat_activity WHERE pid = {worker})"),
            "",
            PATIENCE,
        );
        db.run("SELECT pg_sleep(2)");
        restore("third", &third);
        if n == 0 {
            check(&site, &mut db);
        } else {
            assert_eq!(db.int("SELECT count(*) FROM autoembed.failed_jobs"), 1, "{part}");
            settle(&mut db, "messages", "content", "content <> 'poison'");
        }
        assert!(db.int("SELECT sum(requests) FROM autoembed.usage_day") > 0);
    }
}

/// The parts of a parallel restore are there in no order at all. While it is under way nothing is embedded, though tables are ready whose
/// rows wait; when it is over, all is.
#[test]
fn g34_nothing_is_embedded_until_a_restore_is_over() {
    let mut site = scene("log");
    leave_work(&mut site);
    let file = site.cluster.socket_dir().join("dump").display().to_string();
    run(&site.cluster, "pg_dump", &["-d", DATABASE, "-F", "custom", "-f", &file]);
    site.db.run("SELECT autoembed.disable(source, embedding) FROM autoembed.status");
    site.cluster.client("postgres").run("CREATE DATABASE restored");
    site.stub_back();
    let mut part = site.cluster.client("restored");
    part.run("SET application_name = 'pg_restore'");
    run(&site.cluster, "pg_restore", &["-d", "restored", &file]);
    let _ = site.cluster.wait_worker("restored", PATIENCE);
    let mut db = site.cluster.client("restored");
    db.run("SELECT pg_sleep(3)");
    assert_eq!(db.int("SELECT pending + in_flight FROM autoembed.status WHERE source = 'messages'::regclass"), 3);
    assert_eq!(site.inputs(), Vec::<String>::new());
    assert!(site.cluster.log().contains("pg_restore fills this database"));
    drop(part);
    check(&site, &mut db);
}

/// Who may not fill the database may call himself as he likes; and where it is at work, another restore holds nothing up.
#[test]
fn g34_a_restore_that_is_none_holds_nothing_up() {
    let mut site = Site::new();
    site.db.run("CREATE ROLE nobody LOGIN");
    site.cluster.client("postgres").run("CREATE DATABASE fresh");
    let mut nobody = site.cluster.client_as("fresh", "nobody");
    nobody.run("SET application_name = 'pg_restore'");
    let mut db = site.cluster.client("fresh");
    db.run("CREATE EXTENSION autoembed CASCADE");
    // It has looked for a restore before there is a vectorizer.
    let _ = site.cluster.wait_worker("fresh", PATIENCE);
    db.run("SELECT pg_sleep(1); CREATE TABLE notes (id int PRIMARY KEY, body text); SELECT autoembed.enable('notes', 'body')");
    db.run("INSERT INTO notes VALUES (1, 'a note')");
    db.until("SELECT count(embedding) FROM notes", "1", PATIENCE);
    // By who may, into a database that has been at work.
    db.run("SET application_name = 'pg_restore'");
    let worker = site.cluster.wait_worker("fresh", PATIENCE);
    db.run(&format!("SELECT pg_terminate_backend({worker}, 10000)"));
    db.run("INSERT INTO notes VALUES (2, 'another note')");
    db.until("SELECT count(embedding) FROM notes", "2", PATIENCE);
}

/// Makes the catalogue one that no library knows, as an update script of a later version would, or one of long ago.
pub(crate) fn set_interface(db: &mut Db, number: i32, version: &str) {
    db.run(&format!(
        "CREATE OR REPLACE VIEW autoembed.interface AS SELECT {number} AS number;
         UPDATE pg_extension SET extversion = '{version}' WHERE extname = 'autoembed'"
    ));
}

/// A catalogue that the library does not know: writes go on and are queued, the worker keeps its hands off, everything says
/// what to do; then they fit again, and nothing is lost.
fn misfit(preload: bool, number: i32, part: &str, hint: &str) {
    let mut site = Site::builder().preload(preload).start();
    site.messages("");
    site.insert(1, 10);
    site.settle("messages", "content");
    site.until_idle("messages");
    let mut user = site.session();
    user.run("UPDATE messages SET note = 'known' WHERE id = 1");
    assert_eq!(user.int("SELECT count(*) FROM similar_messages('text 3', 1)"), 1);
    // A request is under way while it happens: its answer is not written.
    site.stub.hold();
    site.insert(11, 12);
    site.wait_held(1);
    set_interface(&mut site.db, number, "9.9.9");
    site.stub.release();
    let before = site.stub.stats().requests;

    user.run("INSERT INTO messages (content) SELECT 'text ' || i FROM generate_series(13, 20) i");
    user.run("UPDATE messages SET content = 'text 0' WHERE id = 1; DELETE FROM messages WHERE id = 2");
    for call in [
        "enable('messages', 'note', embedding => 'other')",
        "disable('messages')",
        "pause('messages')",
        "backfill('messages')",
        "reconcile('messages')",
        "notify('messages')",
        "job_status('messages', '1')",
        "set_model('messages', 'builtin')",
        "estimate_cost('messages')",
        "enqueue('messages', ARRAY['1'])",
        "retry_failed()",
        "embed_pending()",
        "wait('messages')",
        "embed('a text', 'builtin')",
        "drop_model('stub')",
        "create_model('x', 'openai', 3)",
    ] {
        let error = user.error(&format!("SELECT autoembed.{call}"));
        error.assert("55000", part);
        assert!(error.message.contains("9.9.9") && error.hint.contains(hint), "{error:?}");
    }
    user.error("SELECT * FROM similar_messages('text 3', 1)").assert("55000", part);
    for state in user.column("SELECT state FROM autoembed.status") {
        assert!(state.starts_with("blocked: ") && state.contains(part) && state.contains(hint), "{state}");
    }
    let health = user.text("SELECT autoembed.health()");
    assert!(health.contains("\"healthy\": false") && health.contains(part) && health.contains(hint), "{health}");
    assert_eq!(user.int("SELECT pending + in_flight FROM autoembed.status"), 11);
    autoembed_tests::eventually("the worker has said why", PATIENCE, || {
        let log = site.cluster.log();
        let said =
            log.lines().any(|line| line.contains("autoembed worker") && line.contains(part) && line.contains(hint));
        if said { Ok(()) } else { Err(site.cluster.log_tail(10)) }
    });
    assert_eq!(user.int("SELECT count(embedding) FROM messages"), 9, "the worker has written");
    assert_eq!(site.stub.stats().requests, before, "the worker has asked");

    set_interface(&mut site.db, 1, &find::default_version().unwrap());
    assert_eq!(site.settle("messages", "content"), 19);
    site.until_idle("messages");
    assert_eq!((site.failed("messages"), site.status("state", "messages")), (0, "active".to_owned()));
    assert_eq!(user.text("SELECT content FROM similar_messages('text 0', 1)"), "text 0");
}

#[test]
fn g34_an_old_library_with_new_sql() {
    misfit(true, 99, "newer than the loaded library", "Restart the server");
}

#[test]
fn g34_an_old_library_with_new_sql_without_preloading() {
    misfit(false, 99, "newer than the loaded library", "reconnect");
}

#[test]
fn g34_a_new_library_with_old_sql() {
    misfit(true, 0, "older than the loaded library", "ALTER EXTENSION autoembed UPDATE");
}

/// Users' statements go through triggers of any library on a catalogue of any version: what these touch never changes.
#[test]
fn g34_what_triggers_touch_stays_as_it_is() {
    let mut site = Site::new();
    const COLUMNS: &str = "SELECT attname || ' ' || format_type(atttypid, atttypmod) FROM pg_attribute
        WHERE attrelid = 'autoembed.job'::regclass AND attnum BETWEEN 1 AND 8 ORDER BY attnum";
    let job = [
        "vectorizer_id integer",
        "lane smallint",
        "id bigint",
        "key text",
        "if_missing boolean",
        "attempts smallint",
        "queued_at timestamp with time zone",
        "not_before timestamp with time zone",
    ];
    assert_eq!(site.db.column(COLUMNS), job);
    // Further columns are NULL in what a trigger writes, and there is one index that it fills.
    const LATER: &str =
        "SELECT attname FROM pg_attribute WHERE attrelid = 'autoembed.job'::regclass AND attnum > 8 AND attnotnull";
    assert_eq!(site.db.column(LATER), [""; 0]);
    const INDEXES: &str = "SELECT indkey::text FROM pg_index WHERE indrelid = 'autoembed.job'::regclass";
    assert_eq!(site.db.column(INDEXES), ["1 2 3"]);
    site.db.run(
        "SELECT vectorizer.id::int, source::regclass, embedding::name, embedding_attnum::smallint FROM autoembed.vectorizer;
         SELECT vectorizer_id::int FROM autoembed.numbered;
         SELECT 'autoembed.job_id_seq'::regclass, 'autoembed.queue_change()'::regprocedure, 'autoembed.clear_vector()'::regprocedure",
    );
}

/// The two cannot pass each other, though no foreign key is there.
#[test]
fn a_model_dropped_while_somebody_enables_with_it() {
    let mut site = Site::with_messages();
    site.create_model("other", "");
    let mut user = site.session();
    user.run("BEGIN; SELECT autoembed.enable('messages', 'note', model => 'other', embedding => 'second')");
    let pid = site.db.int("SELECT pg_backend_pid()");
    let dropped = std::thread::spawn(move || {
        site.db.error("SELECT autoembed.drop_model('other')").assert("2BP01", "messages");
        site
    });
    user.until(&format!("SELECT wait_event_type FROM pg_stat_activity WHERE pid = {pid}"), "Lock", PATIENCE);
    user.run("COMMIT");
    let mut site = dropped.join().unwrap();
    // And the other way round.
    site.db.run("SELECT autoembed.disable('messages', 'second'); BEGIN; SELECT autoembed.drop_model('other')");
    let pid = user.int("SELECT pg_backend_pid()");
    let enabled = std::thread::spawn(move || {
        user.error("SELECT autoembed.enable('messages', 'note', model => 'other', embedding => 'second')")
            .assert("42704", "other");
    });
    site.session().until(&format!("SELECT wait_event_type FROM pg_stat_activity WHERE pid = {pid}"), "Lock", PATIENCE);
    site.db.run("COMMIT");
    enabled.join().unwrap();
    assert_eq!(site.db.int("SELECT count(*) FROM autoembed.status"), 1);
}

/// A transaction that sees things as they were before enable() drops no model that is used now.
#[test]
fn a_model_dropped_by_a_transaction_that_began_before() {
    let mut site = Site::with_messages();
    let mut user = site.session();
    for level in ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"] {
        site.create_model("other", "");
        site.db.run(&format!("BEGIN ISOLATION LEVEL {level}; SELECT count(*) FROM messages"));
        user.run("CREATE TABLE new (id int PRIMARY KEY, body text); SELECT autoembed.enable('new', 'body', model => 'other')");
        site.db.error("SELECT autoembed.drop_model('other')").assert("2BP01", "new");
        site.db.run("ROLLBACK");
        assert_eq!(user.int("SELECT count(*) FROM autoembed.models WHERE name = 'other'"), 1, "{level}");
        // What the transaction itself has ended is in nobody's way.
        site.db.run(&format!(
            "BEGIN ISOLATION LEVEL {level}; SELECT autoembed.disable('new'); SELECT autoembed.drop_model('other'); DROP TABLE new; COMMIT"
        ));
    }
}

/// An update script among the server's files, for the length of a test.
struct UpdateScript(PathBuf);

impl UpdateScript {
    fn new(to: &str, sql: &str) -> UpdateScript {
        let path = find::extension_scripts()
            .unwrap()
            .join(format!("autoembed--{}--{to}.sql", find::default_version().unwrap()));
        std::fs::write(&path, sql).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        UpdateScript(path)
    }
}

impl Drop for UpdateScript {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// What a script brings of models leaves those alone that somebody has made or changed.
#[test]
fn g34_a_script_with_well_known_models() {
    const SCRIPT: &str = "INSERT INTO autoembed.models (name, provider, dimensions, well_known) VALUES ('mine', 'ollama', 9, true), ('newest', 'ollama', 9, true);
        UPDATE autoembed.models SET dimensions = 9 WHERE name IN ('all-minilm', 'bge-m3') AND well_known;";
    let _script = UpdateScript::new("test_models", SCRIPT);
    let mut site = Site::new();
    site.create_model("mine", "");
    site.db.run("UPDATE autoembed.models SET dimensions = 16 WHERE name = 'all-minilm'");
    site.db.run("ALTER EXTENSION autoembed UPDATE TO 'test_models'");
    let models = "SELECT concat_ws(' ', name, provider, dimensions, well_known) FROM autoembed.models WHERE name IN ('mine', 'newest', 'all-minilm', 'bge-m3') ORDER BY 1";
    let expected = ["all-minilm ollama 16 f", "bge-m3 ollama 9 t", "mine openai 16 f", "newest ollama 9 t"];
    assert_eq!(site.db.column(models), expected);
}

/// ALTER EXTENSION UPDATE before the library is there: it fails as a whole, or makes what the library still knows, or what it does
/// not know. Somebody writes all the time.
#[test]
fn g34_alter_extension_update_before_the_library_is_there() {
    // As CONTRIBUTING.md has it: a script that waited for one table with another locked would deadlock with those who write.
    const LOCKS: &str = "DO $$ BEGIN LOOP
            BEGIN
                LOCK TABLE autoembed.vectorizer, autoembed.job, autoembed.request, autoembed.backfill IN ACCESS EXCLUSIVE MODE NOWAIT;
                EXIT;
            EXCEPTION WHEN lock_not_available THEN PERFORM pg_catalog.pg_sleep(0.01);
            END;
        END LOOP; END $$;";
    const FUNCTION: &str =
        "CREATE FUNCTION autoembed.later() RETURNS int LANGUAGE c AS 'MODULE_PATHNAME', 'later_wrapper';";
    const COLUMNS: &str =
        "ALTER TABLE autoembed.job ADD COLUMN later int; ALTER TABLE autoembed.vectorizer ADD COLUMN later text;
        ALTER TABLE autoembed.request ADD COLUMN later text NOT NULL DEFAULT 'x';";
    const NUMBER: &str = "CREATE OR REPLACE VIEW autoembed.interface AS SELECT 99 AS number;
        ALTER TABLE autoembed.backfill RENAME TO backfills;";
    let _scripts = [
        UpdateScript::new("test_function", &format!("{LOCKS} {COLUMNS} {FUNCTION}")),
        UpdateScript::new("test_columns", &format!("{LOCKS} {COLUMNS}")),
        UpdateScript::new("test_number", &format!("{LOCKS} {COLUMNS} {NUMBER}")),
    ];
    for to in ["test_function", "test_columns", "test_number"] {
        let mut site = Site::with_messages();
        site.insert(1, 100);
        let mut writer = site.session();
        let update = format!("ALTER EXTENSION autoembed UPDATE TO '{to}'");
        site.db.until_true("(SELECT count(embedding) FROM messages) > 50", "", PATIENCE);
        let (tell, told) = std::sync::mpsc::channel::<()>();
        let writing = std::thread::spawn(move || {
            let mut written = 0;
            // Until the sender is gone, also by a failure of the test.
            while told.try_recv() != Err(std::sync::mpsc::TryRecvError::Disconnected) {
                writer.run("INSERT INTO messages (content) VALUES ('text ' || gen_random_uuid())");
                writer.run("UPDATE messages SET content = content || '.' WHERE id = (SELECT max(id) FROM messages)");
                written += 1;
            }
            written
        });
        site.db.until_true("(SELECT count(*) FROM messages) > 150", "", PATIENCE);
        if to == "test_function" {
            assert_eq!(site.db.error(&update).code, "42883");
        } else {
            site.db.run(&update);
        }
        let now = site.db.int("SELECT count(*) FROM messages");
        site.db.until_true(&format!("(SELECT count(*) FROM messages) > {now} + 50"), "", PATIENCE);
        drop(tell);
        let written = writing.join().expect("every write succeeds");
        println!("{to}: {written} rows written meanwhile");
        if to == "test_number" {
            let state = site.until_state("messages", "blocked: ");
            assert!(state.contains("test_number") && state.contains("newer than the loaded library"), "{state}");
            // The script of a version that knows what it does would be there with its library; here it is undone by hand.
            site.db.run(
                "ALTER TABLE autoembed.backfills RENAME TO backfill; CREATE OR REPLACE VIEW autoembed.interface AS SELECT 1 AS number",
            );
        }
        site.settle("messages", "content");
        site.until_idle("messages");
        assert_eq!((site.failed("messages"), site.status("state", "messages")), (0, "active".to_owned()), "{to}");
        assert_eq!(site.db.text("SELECT content FROM similar_messages('text 7', 1)"), "text 7");
    }
}
