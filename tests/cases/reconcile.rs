//! Rows that the triggers could not see: found, and nothing else is embedded.

use autoembed_stub::Fault;
use autoembed_tests::site::{DATABASE, PATIENCE};
use autoembed_tests::wait::seconds;
use autoembed_tests::{Cluster, Db, Site, eventually};

/// `reconcile` of a table; afterwards exactly `expected` are embedded, all vectors are right, and a second one finds nothing.
fn finds(site: &mut Site, table: &str, text: &str, expected: &[&str]) {
    site.stub.reset_stats();
    assert_eq!(reconcile(&mut site.db, table), expected.len() as i64, "{expected:?}");
    assert_embedded(site, table, text, expected);
}

fn assert_embedded(site: &mut Site, table: &str, text: &str, expected: &[&str]) {
    site.settle(table, text);
    site.until_idle(table);
    let mut inputs = site.inputs();
    inputs.sort();
    assert_eq!(inputs, expected, "what was embedded");
    assert_eq!(reconcile(&mut site.db, table), 0, "a second look finds more");
}

fn reconcile(db: &mut Db, table: &str) -> i64 {
    db.int(&format!("SELECT autoembed.reconcile('{table}')"))
}

fn settled(rows: usize) -> Site {
    let mut site = Site::with_messages();
    site.insert(1, rows);
    site.settle("messages", "content");
    site.until_idle("messages");
    site
}

/// Runs one of the server's programs; panics with what it wrote where it fails.
fn tool(cluster: &Cluster, name: &str, arguments: &[&str]) {
    let output = cluster.tool(name).args(arguments).output().unwrap_or_else(|e| panic!("{name}: {e}"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && !said.contains("ERROR"), "{name} ended with {}: {said}", output.status);
}

#[test]
fn g31_changed_under_session_replication_role() {
    let mut site = settled(50);
    finds(&mut site, "messages", "content", &[]);
    site.db.run(
        "SET session_replication_role = replica;
         INSERT INTO messages (content) VALUES ('new'), (NULL), (E' \\t\\u2003');
         UPDATE messages SET content = 'edited' WHERE content = 'text 7';
         UPDATE messages SET content = 'text 9, edited' WHERE content = 'text 9';
         UPDATE messages SET content = NULL WHERE content = 'text 11';
         UPDATE messages SET content = repeat(' ', 100) WHERE content = 'text 12';
         UPDATE messages SET note = 'seen', content = content WHERE content = 'text 13';
         UPDATE messages SET content = (SELECT content FROM messages WHERE content = 'text 15') WHERE content = 'text 14';
         UPDATE messages SET embedding = NULL WHERE content = 'text 16';
         DELETE FROM messages WHERE content = 'text 17';
         RESET session_replication_role",
    );
    site.stub.reset_stats();
    // Those that lost their text have a vector to be cleared, that of text 16 is remembered: neither costs a request.
    assert_eq!(reconcile(&mut site.db, "messages"), 7);
    assert_embedded(&mut site, "messages", "content", &["edited", "new", "text 15", "text 9, edited"]);
    // There and back again: the vector that is there was written for this text.
    site.db.run(
        "SET session_replication_role = replica; UPDATE messages SET content = 'x' WHERE content = 'text 20';
         UPDATE messages SET content = 'text 20' WHERE content = 'x'; RESET session_replication_role",
    );
    finds(&mut site, "messages", "content", &[]);
    // The text of an earlier vector, under a later vector.
    site.db.run("UPDATE messages SET content = 'later' WHERE content = 'text 21'");
    site.settle("messages", "content");
    site.until_idle("messages");
    site.db.run("SET session_replication_role = replica; UPDATE messages SET content = 'text 21' WHERE content = 'later'; RESET session_replication_role");
    finds(&mut site, "messages", "content", &["text 21"]);
}

#[test]
fn g31_changed_with_triggers_disabled() {
    let mut site = Site::new();
    // A composite key of types whose texts are not plain, and an expression with a comment at its end.
    site.db.run("CREATE TABLE t (a text, b timestamptz, c bytea, title text, body text, PRIMARY KEY (b, a, c))");
    let input = "title || E'\\n' || coalesce(body, '') -- both";
    site.enable("t", input, "delay => '100 ms', on_change => 'clear'");
    site.db.run(
        "INSERT INTO t SELECT 'a, \"' || i, '2020-01-01'::timestamptz + i * '1 hour'::interval, decode('00ff', 'hex'), 'title ' || i, 'body'
         FROM generate_series(1, 30) i",
    );
    let text = "title || E'\\n' || coalesce(body, '')";
    site.settle("t", text);
    site.until_idle("t");
    site.db.run("SET timezone = 'Asia/Kathmandu'; SET datestyle = 'German'; SET bytea_output = 'escape'");
    finds(&mut site, "t", text, &[]);
    site.db.run(
        "ALTER TABLE t DISABLE TRIGGER USER;
         UPDATE t SET body = 'edited' WHERE title = 'title 3'; UPDATE t SET a = 'moved' WHERE title = 'title 4';
         UPDATE t SET a = 'moved and', body = 'edited' WHERE title = 'title 5'; UPDATE t SET b = b + '1 day';
         INSERT INTO t VALUES ('new', '2030-01-01', '', 'new', NULL);
         ALTER TABLE t ENABLE TRIGGER USER;
         SELECT autoembed.pause('t')",
    );
    // The vector of a row whose key alone was changed is still that of its text.
    site.stub.reset_stats();
    assert_eq!(reconcile(&mut site.db, "t"), 3);
    // They wait already.
    assert_eq!(reconcile(&mut site.db, "t"), 0);
    site.db.run("SELECT autoembed.resume('t')");
    assert_embedded(&mut site, "t", text, &["new\n", "title 3\nedited", "title 5\nedited"]);
}

#[test]
fn g31_partitions_and_several_vectorizers() {
    let mut site = Site::new();
    site.db.run(
        "CREATE TABLE logs (region text, id int, title text, body text, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
         CREATE TABLE logs_a PARTITION OF logs FOR VALUES IN ('a');
         CREATE TABLE logs_b (body text, id int NOT NULL, title text, region text NOT NULL, PRIMARY KEY (region, id));
         ALTER TABLE logs ATTACH PARTITION logs_b FOR VALUES IN ('b');
         INSERT INTO logs SELECT chr(97 + i % 2), i, 'title ' || i, 'body ' || i FROM generate_series(1, 40) i",
    );
    site.enable("logs", "title", "embedding => 'title_vector'");
    site.enable("logs", "body", "");
    let both = |site: &mut Site| {
        site.settle_within("logs", "title", "title_vector", PATIENCE);
        site.settle("logs", "body");
        site.db.until("SELECT sum(pending + in_flight) FROM autoembed.status", "0", PATIENCE);
    };
    both(&mut site);
    assert_eq!(reconcile(&mut site.db, "logs"), 0);
    site.db.run(
        "SET session_replication_role = replica; UPDATE logs_b SET title = 'edited title' WHERE id = 5;
         UPDATE logs SET body = 'edited body' WHERE id IN (5, 6); INSERT INTO logs_a VALUES ('a', 41, 'new title', 'new body');
         RESET session_replication_role",
    );
    site.stub.reset_stats();
    assert_eq!(reconcile(&mut site.db, "logs"), 5);
    both(&mut site);
    let mut inputs = site.inputs();
    inputs.sort();
    // Equal texts go once.
    assert_eq!(inputs, ["edited body", "edited title", "new body", "new title"]);
    assert_eq!(reconcile(&mut site.db, "logs"), 0);
}

/// What an expression reads elsewhere changes without any trigger, by its nature.
#[test]
fn g31_an_input_that_reads_another_table() {
    let mut site = Site::new();
    site.db.run("CREATE TABLE person (name text PRIMARY KEY, city text); CREATE TABLE letter (id int PRIMARY KEY, who text, body text)");
    let input = "body || ' from ' || (SELECT city FROM person WHERE name = who)";
    site.enable("letter", input, "");
    site.db.run(
        "INSERT INTO person VALUES ('A', 'Rome'), ('B', 'Oslo');
         INSERT INTO letter SELECT i, chr(65 + i % 2), 'letter ' || i FROM generate_series(1, 6) i",
    );
    site.settle("letter", input);
    site.until_idle("letter");
    site.db.run("UPDATE person SET city = 'Bergen' WHERE name = 'B'");
    let expected = ["letter 1 from Bergen", "letter 3 from Bergen", "letter 5 from Bergen"];
    finds(&mut site, "letter", input, &expected);
}

#[test]
fn g31_restored_with_triggers_disabled() {
    let mut site = settled(30);
    let file = site.cluster.socket_dir().join("data.sql").display().to_string();
    site.db.run("SELECT autoembed.pause('messages')");
    // The dump has row 2 with its new text and the vector of its old one: the job that would mend it is not in it.
    site.db.run("UPDATE messages SET content = 'in the queue' WHERE id = 2");
    tool(
        &site.cluster,
        "pg_dump",
        &["-d", DATABASE, "-t", "messages", "--data-only", "--disable-triggers", "-f", &file],
    );
    site.db.run("SELECT autoembed.resume('messages')");
    site.settle("messages", "content");
    site.db.run("UPDATE messages SET content = 'after the dump' WHERE id IN (3, 4); DELETE FROM messages WHERE id = 5");
    site.settle("messages", "content");
    site.until_idle("messages");
    site.db.run("TRUNCATE messages");
    tool(&site.cluster, "psql", &["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", DATABASE, "-f", &file]);
    site.marker();
    assert_eq!(site.db.text("SELECT content FROM messages WHERE id = 3"), "text 3");
    // Rows 3, 4 and 5 came back with the vectors of their texts.
    finds(&mut site, "messages", "content", &["in the queue"]);

    // The vectors were left out of the dump.
    site.db.run("CREATE TABLE kept AS SELECT id, content FROM messages WHERE id <= 10");
    site.db.run("TRUNCATE messages; SET session_replication_role = replica; INSERT INTO messages (id, content) OVERRIDING SYSTEM VALUE SELECT * FROM kept; RESET session_replication_role");
    site.stub.reset_stats();
    assert_eq!(reconcile(&mut site.db, "messages"), 10);
    site.settle("messages", "content");
    site.until_idle("messages");
    assert_eq!(reconcile(&mut site.db, "messages"), 0);
}

/// A whole database: the record comes with the dump, and knows what was changed after the restore.
#[test]
fn g31_a_restored_database_can_reconcile() {
    let mut site = settled(30);
    site.db.run("INSERT INTO messages (content) SELECT 'alone ' || i FROM generate_series(1, 3) i");
    site.settle("messages", "content");
    site.until_idle("messages");
    let file = site.cluster.socket_dir().join("all.sql").display().to_string();
    tool(&site.cluster, "pg_dump", &["-d", DATABASE, "-f", &file]);
    site.cluster.client("postgres").run("CREATE DATABASE restored");
    tool(&site.cluster, "psql", &["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "restored", "-f", &file]);
    let mut db = site.cluster.client("restored");
    // Before any worker may have found the columns again.
    assert_eq!(reconcile(&mut db, "messages"), 0);
    db.run("SET session_replication_role = replica; UPDATE messages SET content = 'edited' WHERE id = 7; RESET session_replication_role");
    site.stub.reset_stats();
    assert_eq!(reconcile(&mut db, "messages"), 1);
    autoembed_tests::vectors::until_all_vectors(&mut db, "messages", "content", "embedding", 16, PATIENCE);
    assert_eq!(site.inputs(), ["edited"]);
    assert_eq!(reconcile(&mut db, "messages"), 0);
}

#[test]
fn g31_what_a_subscription_brought() {
    let mut site = Site::builder().setting("wal_level", "logical").start();
    site.cluster.client("postgres").run("CREATE DATABASE publisher");
    let mut publisher = site.cluster.client("publisher");
    publisher.run(
        "CREATE TABLE messages (id bigint PRIMARY KEY, content text, note text);
         INSERT INTO messages SELECT i, 'text ' || i FROM generate_series(1, 20) i;
         CREATE PUBLICATION texts FOR TABLE messages",
    );
    publisher.run("SELECT pg_create_logical_replication_slot('texts', 'pgoutput')");
    site.db.run("CREATE TABLE messages (id bigint PRIMARY KEY, content text, note text)");
    site.enable("messages", "content", "");
    let connection = format!("host={} port=5432 user=postgres dbname=publisher", site.cluster.socket_dir().display());
    // Of one server: the slot is made beforehand, or its making would wait for this very statement.
    site.db.run(&format!(
        "CREATE SUBSCRIPTION texts CONNECTION '{connection}' PUBLICATION texts WITH (create_slot = false, slot_name = 'texts')"
    ));
    let arrived = |site: &mut Site, condition: &str, count: &str| {
        site.db.until(&format!("SELECT count(*) FROM messages WHERE {condition}"), count, PATIENCE);
    };
    arrived(&mut site, "true", "20");
    // The first copy fires no triggers, and neither does what comes later.
    assert_eq!(reconcile(&mut site.db, "messages"), 20);
    site.settle("messages", "content");
    site.until_idle("messages");
    assert_eq!(reconcile(&mut site.db, "messages"), 0);
    site.db.until("SELECT string_agg(srsubstate, '') FROM pg_subscription_rel", "r", PATIENCE);
    publisher.run(
        "INSERT INTO messages VALUES (21, 'new from the publisher');
         UPDATE messages SET content = 'edited at the publisher' WHERE id = 3;
         UPDATE messages SET note = 'another column' WHERE id = 4; DELETE FROM messages WHERE id = 5;
         UPDATE messages SET note = 'the last' WHERE id = 6",
    );
    arrived(&mut site, "note = 'the last'", "1");
    site.db.run("INSERT INTO messages VALUES (1000, 'marker of this side')");
    site.db.until("SELECT count(embedding) FROM messages WHERE id = 1000", "1", PATIENCE);
    assert_eq!(
        site.db.int("SELECT count(*) FROM messages WHERE embedding IS NULL"),
        1,
        "the triggers saw it: this proves nothing"
    );
    finds(&mut site, "messages", "content", &["edited at the publisher", "new from the publisher"]);
    site.db.run("DROP SUBSCRIPTION texts");
}

/// Everything is compared as of one moment: what users write meanwhile is neither found twice nor lost.
#[test]
fn g31_edits_while_it_runs() {
    let mut site = settled(300);
    let mut user = site.session();
    let mut other = site.session();
    let edits = std::thread::scope(|scope| {
        let looking = scope.spawn(move || (0..25).map(|_| reconcile(&mut other, "messages")).collect::<Vec<_>>());
        let mut edits = 0;
        while !looking.is_finished() {
            edits += 1;
            let id = 1 + edits * 7 % 300;
            match edits % 5 {
                0 => user.run(&format!(
                    "DELETE FROM messages WHERE id = {id}; INSERT INTO messages (content) VALUES ('new {edits}')"
                )),
                1 => user.run(&format!("UPDATE messages SET content = NULL WHERE id = {id}")),
                2 => user.run(&format!("UPDATE messages SET id = DEFAULT WHERE id = {id}")),
                _ => user.run(&format!("UPDATE messages SET content = 'edit {edits}' WHERE id = {id}")),
            }
        }
        assert_eq!(looking.join().unwrap(), [0; 25], "what the triggers had seen was found");
        edits
    });
    println!("{edits} edits during 25 looks");
    site.settle("messages", "content");
    site.until_idle("messages");
    finds(&mut site, "messages", "content", &[]);
}

#[test]
fn g31_failed_rows_and_rows_that_cannot_be_read() {
    let mut site = Site::new();
    site.db.run("CREATE TABLE m (id int PRIMARY KEY, content text, divisor int DEFAULT 1)");
    let input = "content || (6 / divisor)::text";
    site.enable("m", input, "");
    site.fault(Fault::Poison("bad".to_owned()));
    site.db.run("INSERT INTO m SELECT i, CASE i WHEN 5 THEN 'bad' WHEN 6 THEN 'bad, too' ELSE 'good ' || i END FROM generate_series(1, 9) i");
    site.db.until("SELECT count(*) FROM autoembed.failed_jobs", "2", PATIENCE);
    site.until_idle("m");
    // What was given up is known, and would be given up again.
    assert_eq!(reconcile(&mut site.db, "m"), 0);
    site.db.run("SET session_replication_role = replica; UPDATE m SET content = 'mended' WHERE id = 5; UPDATE m SET divisor = 0 WHERE id IN (3, 9); RESET session_replication_role");
    site.stub.reset_stats();
    assert_eq!(reconcile(&mut site.db, "m"), 3);
    site.db.until("SELECT string_agg(key, ' ' ORDER BY key) FROM autoembed.failed_jobs", "3 6 9", seconds(60));
    site.until_idle("m");
    assert_eq!(site.inputs(), ["mended6"]);
    assert_eq!(reconcile(&mut site.db, "m"), 0);
    // What could not be read can be now.
    site.db.run("SET session_replication_role = replica; UPDATE m SET divisor = 2 WHERE id IN (3, 9); RESET session_replication_role");
    site.stub.reset_stats();
    assert_eq!(reconcile(&mut site.db, "m"), 2);
    site.db.until("SELECT string_agg(key, ' ' ORDER BY key) FROM autoembed.failed_jobs", "6", PATIENCE);
    assert_eq!(reconcile(&mut site.db, "m"), 0);
}

/// A user's trigger may change the vector on its way into the row: what is there counts.
#[test]
fn a_vector_that_a_trigger_changes() {
    let mut site = Site::with_messages();
    site.db.run(
        "CREATE FUNCTION other_way() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN NEW.embedding := (SELECT array_agg(-x ORDER BY o)::real[]::public.vector FROM unnest(NEW.embedding::real[]) WITH ORDINALITY u (x, o));
         RETURN NEW; END $$;
         CREATE TRIGGER other_way BEFORE UPDATE OF embedding ON messages FOR EACH ROW EXECUTE FUNCTION other_way()",
    );
    site.insert(1, 5);
    site.db.until("SELECT count(embedding) FROM messages", "5", PATIENCE);
    site.until_idle("messages");
    assert_eq!(reconcile(&mut site.db, "messages"), 0);
    site.db.run("SET session_replication_role = replica; UPDATE messages SET content = 'edited' WHERE id = 2; RESET session_replication_role");
    site.stub.reset_stats();
    assert_eq!(reconcile(&mut site.db, "messages"), 1);
    eventually("the edited row is embedded", PATIENCE, || {
        if site.inputs() == ["edited"] { Ok(()) } else { Err(format!("{:?}", site.inputs())) }
    });
    site.until_idle("messages");
    assert_eq!(reconcile(&mut site.db, "messages"), 0);
}

/// Vectors that were there before, a backfill that has still to come to a row, and who may ask.
#[test]
fn what_reconcile_leaves_alone() {
    let mut site = Site::new();
    site.db.run(
        "CREATE TABLE notes (id int PRIMARY KEY, body text, embedding vector(16));
         INSERT INTO notes SELECT i, 'note ' || i, CASE WHEN i % 2 = 0 THEN array_fill(i, ARRAY[16])::vector END FROM generate_series(1, 20) i",
    );
    site.enable("notes", "body", "backfill => false, index => 'none'");
    site.db.run("SELECT autoembed.pause('notes'); SELECT autoembed.backfill('notes')");
    assert_eq!(reconcile(&mut site.db, "notes"), 0, "the backfill comes to them");
    site.db.run("SELECT autoembed.resume('notes')");
    site.db.until("SELECT count(embedding) FROM notes", "20", PATIENCE);
    site.until_idle("notes");
    assert_eq!(reconcile(&mut site.db, "notes"), 0, "nobody knows which texts the others were made of");
    assert_eq!(site.inputs().len(), 10);
    site.db.error("SELECT autoembed.reconcile('pg_class')").assert("42704", "vectorizer");
    assert_eq!(site.db.maybe("SELECT autoembed.reconcile(NULL)"), None);
    site.db.run("ALTER TABLE notes ENABLE ROW LEVEL SECURITY; ALTER TABLE notes FORCE ROW LEVEL SECURITY; CREATE ROLE someone LOGIN; ALTER TABLE notes OWNER TO someone");
    site.session_as("someone").error("SELECT autoembed.reconcile('notes')").assert("42501", "row-level security");
    site.db.run("SELECT autoembed.disable('notes')");
    assert_eq!(site.db.int("SELECT count(*) FROM autoembed.embedded"), 0, "the record is left behind");
}

/// A look at a large table can be broken off like any statement.
#[test]
fn reconcile_can_be_cancelled() {
    let mut site = Site::new();
    site.db.run(
        "CREATE FUNCTION slow(text) RETURNS text STABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.1); RETURN $1; END $$;
         CREATE TABLE m (id int PRIMARY KEY, content text); INSERT INTO m SELECT i, 'text ' || i FROM generate_series(1, 1000) i",
    );
    site.enable("m", "slow(content)", "backfill => false");
    let mut other = site.session();
    let pid = other.int("SELECT pg_backend_pid()");
    std::thread::scope(|scope| {
        let looking = scope.spawn(move || other.error("SELECT autoembed.reconcile('m')"));
        site.db.until(&format!("SELECT wait_event FROM pg_stat_activity WHERE pid = {pid}"), "PgSleep", PATIENCE);
        // Nobody waits for it meanwhile.
        site.db.run("SET lock_timeout = '2s'; UPDATE m SET id = -id WHERE id = 7; INSERT INTO m VALUES (5000, 'new'); RESET lock_timeout");
        site.db.run(&format!("SELECT pg_cancel_backend({pid})"));
        assert_eq!(looking.join().unwrap().code, "57014");
    });
    assert_eq!(site.db.int("SELECT count(*) FROM autoembed.job WHERE lane = 1"), 0);
}

/// A record that has grown far beyond its table is brought together, and says the same as before.
#[test]
fn the_record_stays_short() {
    const ENTRIES: &str = "SELECT sum(octet_length(marks)) / 16 FROM autoembed.embedded";
    let mut site = settled(500);
    site.db.run("UPDATE messages SET content = 'edited ' || id WHERE id <= 100");
    site.settle("messages", "content");
    site.until_idle("messages");
    assert_eq!(site.db.int(ENTRIES), 600);
    // Of 120,000 rows that are no more, in as many batches as single rows make.
    site.db.run(
        "INSERT INTO autoembed.embedded (vectorizer_id, marks)
         SELECT (SELECT id FROM autoembed.status), decode(md5(i::text), 'hex') FROM generate_series(1, 120000) i",
    );
    site.db.run("UPDATE messages SET content = 'edited again ' || id WHERE id <= 50");
    site.settle("messages", "content");
    // Row 9 gets another key unseen, so that its entry is that of no row.
    site.db.run("SET session_replication_role = replica; UPDATE messages SET id = DEFAULT WHERE id = 9; RESET session_replication_role");
    // A worker measures the record as it begins, and later as it grows.
    site.db.run("SELECT pg_terminate_backend(pid) FROM autoembed.workers WHERE kind = 'worker'");
    eventually("the record is short", PATIENCE, || {
        site.insert(1, 1);
        match site.db.int(ENTRIES) {
            n if n < 2000 => Ok(()),
            n => Err(format!("{n} entries; log:\n{}", site.cluster.log_tail(5))),
        }
    });
    site.settle("messages", "content");
    site.until_idle("messages");
    finds(&mut site, "messages", "content", &[]);
    site.db.run(
        "SET session_replication_role = replica; UPDATE messages SET content = 'edited unseen' WHERE id = 7;
         UPDATE messages SET content = 'unseen, too' WHERE id = 70; UPDATE messages SET content = 'and this' WHERE id = 300; UPDATE messages SET content = 'moved and edited' WHERE content = 'edited again 9'; RESET session_replication_role",
    );
    finds(&mut site, "messages", "content", &["and this", "edited unseen", "moved and edited", "unseen, too"]);
}

/// Bringing a record together takes long on a large table: an index that was promised to another is built meanwhile.
#[test]
fn an_index_does_not_wait_for_a_record() {
    const ENTRIES: &str = "SELECT sum(octet_length(marks)) / 16 FROM autoembed.embedded";
    const INDEXES: &str =
        "SELECT count(*) FROM pg_index WHERE indrelid = 'small'::regclass AND indisvalid AND NOT indisprimary";
    const WAITS: &str = "SELECT count(*) FROM pg_locks WHERE relation = 'messages'::regclass AND NOT granted AND pid";
    let mut site = settled(50);
    site.db.run("CREATE TABLE small (id int PRIMARY KEY, body text)");
    let small = site.enable("small", "body", "index => 'none'");
    site.db.run(
        "INSERT INTO autoembed.embedded (vectorizer_id, marks)
         SELECT v.id, decode(string_agg(md5(i::text), ''), 'hex') FROM autoembed.vectorizer v, generate_series(1, 120000) i
         WHERE v.source = 'messages'::regclass GROUP BY v.id, i / 10000",
    );
    let (mut first, mut second) = (site.session(), site.session());
    first.run("BEGIN; LOCK TABLE messages");
    site.db.run("SELECT pg_terminate_backend(pid) FROM autoembed.workers WHERE kind = 'worker'");
    let builder = format!("{WAITS} IN (SELECT pid FROM pg_stat_activity WHERE backend_type = 'autoembed indexer')");
    site.db.until(&builder, "1", PATIENCE);
    // It reads for one transaction, and no more.
    let me = second.int("SELECT pg_backend_pid()");
    std::thread::scope(|scope| {
        let second = scope.spawn(move || {
            second.run("BEGIN; LOCK TABLE messages");
            second
        });
        site.db.until(&format!("{WAITS} = {me}"), "1", PATIENCE);
        site.db.run(&format!("UPDATE autoembed.vectorizer SET index_wanted = true WHERE id = {small}"));
        first.run("COMMIT");
        let mut second = second.join().unwrap();
        site.db.until(INDEXES, "1", PATIENCE);
        assert!(site.db.int(ENTRIES) > 100_000, "the record was short already, which proves nothing");
        second.run("COMMIT");
    });
    site.db.until(&format!("SELECT ({ENTRIES}) < 1000"), "t", PATIENCE);
}
