//! Less usual ways of writing a row.

use autoembed_tests::site::{DATABASE, PATIENCE};
use autoembed_tests::{Db, Site};
use std::io::Write as _;

fn copy_in(db: &mut Db, sql: &str, lines: &[&str]) {
    let mut writer = db.copy_in(sql).unwrap();
    writer.write_all((lines.join("\n") + "\n").as_bytes()).unwrap();
    writer.finish().unwrap();
}

#[test]
fn g30_copy_freeze_and_truncate() {
    let mut site = Site::with_messages();
    site.insert(1, 20);
    site.settle("messages", "content");
    // FREEZE wants a table that this transaction has emptied; its rows are seen by older snapshots, too.
    site.db.run("BEGIN; TRUNCATE messages RESTART IDENTITY");
    copy_in(&mut site.db, "COPY messages (content) FROM STDIN (FREEZE)", &["frozen 1", "frozen 2", "text 3"]);
    site.db.run("COMMIT");
    assert_eq!(site.settle("messages", "content"), 3);
    site.until_idle("messages");
    // The same keys, other texts, in one transaction, and one that is undone.
    site.db
        .run("BEGIN; TRUNCATE messages RESTART IDENTITY; INSERT INTO messages (content) VALUES ('undone'); ROLLBACK");
    site.db.run("BEGIN; TRUNCATE messages RESTART IDENTITY; INSERT INTO messages (content) VALUES ('text 3'), ('frozen 1'); COMMIT");
    assert_eq!(site.settle("messages", "content"), 2);
    site.until_idle("messages");
    assert!(!site.inputs().contains(&"undone".to_owned()));
}

#[test]
fn g30_copy_into_partitions() {
    let mut site = Site::new();
    site.db.run(
        "CREATE TABLE logs (region text, id int, content text, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
         CREATE TABLE logs_a PARTITION OF logs FOR VALUES IN ('a');
         CREATE TABLE logs_b PARTITION OF logs FOR VALUES IN ('b') PARTITION BY RANGE (id);
         CREATE TABLE logs_b1 PARTITION OF logs_b FOR VALUES FROM (0) TO (100)",
    );
    site.enable("logs", "content", "");
    copy_in(&mut site.db, "COPY logs (region, id, content) FROM STDIN (DELIMITER ',')", &["a,1,root a", "b,2,root b"]);
    copy_in(&mut site.db, "COPY logs_b (region, id, content) FROM STDIN (DELIMITER ',')", &["b,3,middle"]);
    copy_in(&mut site.db, "COPY logs_b1 (region, id, content) FROM STDIN (DELIMITER ',')", &["b,4,leaf"]);
    assert_eq!(site.settle("logs", "content"), 4);
    site.db.run(
        "INSERT INTO logs VALUES ('a', 1, 'upserted'), ('b', 5, 'new') ON CONFLICT (region, id) DO UPDATE SET content = excluded.content;
         MERGE INTO logs l USING (VALUES ('b', 3, 'merged'), ('b', 2, NULL), ('a', 6, 'merged, new')) AS n (region, id, content)
           ON l.region = n.region AND l.id = n.id WHEN MATCHED AND n.content IS NULL THEN DELETE
           WHEN MATCHED THEN UPDATE SET content = n.content WHEN NOT MATCHED THEN INSERT (region, id, content) VALUES (n.region, n.id, n.content);
         WITH gone AS (DELETE FROM logs_b1 WHERE id = 4 RETURNING *) INSERT INTO logs SELECT 'a', id, content || ' moved by hand' FROM gone",
    );
    assert_eq!(site.settle("logs", "content"), 5);
    site.until_idle("logs");
}

/// ATTACH fires no triggers: rows that a table brings with it are found by `reconcile`. DETACH leaves their vectors where they are.
#[test]
fn g30_full_tables_attached_and_detached() {
    let mut site = Site::new();
    site.db.run(
        "CREATE TABLE logs (region text, id int, content text, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
         CREATE TABLE logs_a PARTITION OF logs FOR VALUES IN ('a')",
    );
    site.enable("logs", "content", "");
    site.db.run("INSERT INTO logs SELECT 'a', i, 'a ' || i FROM generate_series(1, 5) i");
    site.settle("logs", "content");
    site.db.run(
        "CREATE TABLE logs_b (LIKE logs INCLUDING ALL); INSERT INTO logs_b SELECT 'b', i, 'b ' || i FROM generate_series(1, 5) i;
         ALTER TABLE logs ATTACH PARTITION logs_b FOR VALUES IN ('b')",
    );
    assert_eq!(site.db.int("SELECT autoembed.reconcile('logs')"), 5);
    assert_eq!(site.settle("logs", "content"), 10);
    site.until_idle("logs");
    site.db.run("ALTER TABLE logs DETACH PARTITION logs_b; UPDATE logs_b SET content = 'edited alone' WHERE id = 3");
    assert_eq!(site.db.int("SELECT count(embedding) FROM logs_b"), 5);
    site.db.run("ALTER TABLE logs ATTACH PARTITION logs_b FOR VALUES IN ('b')");
    site.stub.reset_stats();
    assert_eq!(site.db.int("SELECT autoembed.reconcile('logs')"), 1);
    assert_eq!(site.settle("logs", "content"), 10);
    assert_eq!(site.inputs(), ["edited alone"]);
}

#[test]
fn g30_statements_within_statements() {
    let mut site = Site::with_messages();
    site.insert(1, 10);
    site.settle("messages", "content");
    site.db.run(
        "WITH new AS (INSERT INTO messages (content) VALUES ('by a CTE'), ('by a CTE, too') RETURNING id),
              edited AS (UPDATE messages SET content = 'edited by a CTE' WHERE id = 3 RETURNING id),
              gone AS (DELETE FROM messages WHERE id = 4)
         SELECT count(*) FROM new, edited",
    );
    site.db.run("PREPARE p (int, text) AS UPDATE messages SET content = $2 WHERE id = $1; EXECUTE p (5, 'prepared')");
    for n in 0..10 {
        site.db.run(&format!("EXECUTE p (6, 'prepared {n}')"));
    }
    site.db.run("BEGIN; DECLARE c CURSOR FOR SELECT * FROM messages WHERE id = 7 FOR UPDATE; FETCH c; UPDATE messages SET content = 'by a cursor' WHERE CURRENT OF c; COMMIT");
    site.db.run("UPDATE messages m SET content = o.content || ' copied' FROM messages o WHERE o.id = 8 AND m.id = 9");
    assert_eq!(site.settle("messages", "content"), 11);
    site.until_idle("messages");
}

#[test]
fn g30_views_and_rules() {
    let mut site = Site::with_messages();
    site.db.run(
        "CREATE VIEW plain AS SELECT id, content FROM messages WHERE note IS NULL WITH CHECK OPTION;
         CREATE VIEW ruled AS SELECT id, upper(content) AS loud FROM messages;
         CREATE RULE add AS ON INSERT TO ruled DO INSTEAD INSERT INTO messages (content) VALUES (NEW.loud);
         CREATE RULE edit AS ON UPDATE TO ruled DO INSTEAD UPDATE messages SET content = NEW.loud WHERE id = OLD.id;
         CREATE VIEW triggered AS SELECT id, content AS body FROM messages;
         CREATE FUNCTION through() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN INSERT INTO messages (content) VALUES (NEW.body); RETURN NEW; END $$;
         CREATE TRIGGER through INSTEAD OF INSERT ON triggered FOR EACH ROW EXECUTE FUNCTION through();
         CREATE TABLE inbox (body text);
         CREATE RULE deliver AS ON INSERT TO inbox DO ALSO INSERT INTO messages (content) VALUES ('from ' || NEW.body);
         CREATE ROLE app LOGIN; GRANT SELECT, INSERT, UPDATE ON plain, ruled, triggered, inbox TO app",
    );
    // Who has rights on the views alone.
    let mut app = site.session_as("app");
    app.run("INSERT INTO plain (content) VALUES ('plain 1'), ('plain 2'); UPDATE plain SET content = 'plain, edited' WHERE id = 1");
    app.run("INSERT INTO ruled (loud) VALUES ('ruled'); UPDATE ruled SET loud = 'ruled, edited' WHERE id = 3; INSERT INTO inbox VALUES ('the inbox')");
    app.error("INSERT INTO triggered (body) VALUES ('no rights on the table')");
    site.db.run("INSERT INTO triggered (body) VALUES ('triggered')");
    assert_eq!(site.settle("messages", "content"), 5);
    site.until_idle("messages");
}

#[test]
fn g30_conflicts_that_do_nothing() {
    let mut site = Site::new();
    site.db.run("CREATE TABLE kv (k text PRIMARY KEY, v text)");
    site.enable("kv", "v", "");
    site.db.run("INSERT INTO kv VALUES ('a', 'first')");
    site.settle("kv", "v");
    site.until_idle("kv");
    // Another session holds the key in an open transaction: who comes second waits for it, and then does nothing, or updates.
    for (end, second, expected) in [
        ("COMMIT", "DO NOTHING", "held 0"),
        ("ROLLBACK", "DO NOTHING", "second 1"),
        ("COMMIT", "(k) DO UPDATE SET v = excluded.v", "second 2"),
    ] {
        let n = &expected[expected.len() - 1..];
        let mut holder = site.session();
        holder.run(&format!("BEGIN; INSERT INTO kv VALUES ('k{n}', 'held {n}')"));
        std::thread::scope(|scope| {
            let (db, cluster) = (&mut site.db, &site.cluster);
            let waiting = scope.spawn(move || {
                db.run(&format!("INSERT INTO kv VALUES ('a', 'ignored'), ('k{n}', 'second {n}') ON CONFLICT {second}"))
            });
            let mut look = cluster.client(DATABASE);
            look.until("SELECT count(*) FROM pg_locks WHERE NOT granted", "1", PATIENCE);
            holder.run(end);
            waiting.join().unwrap();
        });
        assert_eq!(site.db.text(&format!("SELECT v FROM kv WHERE k = 'k{n}'")), expected);
    }
    site.settle("kv", "v");
    site.until_idle("kv");
}

/// Cascades through two tables, into the key and into the text.
#[test]
fn g30_cascades_into_keys() {
    let mut site = Site::new();
    site.db.run(
        "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY REFERENCES a ON UPDATE CASCADE ON DELETE CASCADE, name text);
         CREATE TABLE c (b int REFERENCES b ON UPDATE CASCADE ON DELETE SET DEFAULT DEFAULT 0, id int, body text, PRIMARY KEY (b, id))",
    );
    let input = "body || ' of ' || b";
    site.enable("c", input, "");
    site.db.run(
        "INSERT INTO a SELECT generate_series(0, 4); INSERT INTO b SELECT id, 'b' FROM a;
         INSERT INTO c SELECT i % 4 + 1, i, 'body ' || i FROM generate_series(1, 20) i",
    );
    site.settle("c", input);
    site.db.run("UPDATE a SET id = id + 10 WHERE id IN (2, 3); DELETE FROM a WHERE id = 4");
    assert_eq!(site.db.column("SELECT DISTINCT b FROM c ORDER BY 1"), ["0", "1", "12", "13"]);
    assert_eq!(site.settle("c", input), 20);
    site.until_idle("c");
}

/// A trigger that edits the text in every UPDATE, so also in the one that writes the vector.
#[test]
fn g11_a_trigger_that_edits_the_text_makes_no_loop() {
    let mut site = Site::with_messages();
    site.db.run(
        "CREATE FUNCTION count_up() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN NEW.content := split_part(NEW.content, ' #', 1) || ' #' || (coalesce(nullif(split_part(OLD.content, ' #', 2), ''), '0')::int + 1); RETURN NEW; END $$;
         CREATE TRIGGER count_up BEFORE UPDATE ON messages FOR EACH ROW EXECUTE FUNCTION count_up()",
    );
    site.insert(1, 20);
    site.db.until("SELECT count(embedding) FROM messages", "20", PATIENCE);
    for _ in 0..3 {
        site.marker();
    }
    site.until_idle("messages");
    assert_eq!(site.inputs().len(), 20, "the worker's own write was queued");
    assert_eq!(site.db.column("SELECT DISTINCT content LIKE '% #1' FROM messages"), ["t"], "each row was written once");
    // An edit of the user's costs one call more, not two.
    site.stub.reset_stats();
    site.db.run("UPDATE messages SET content = 'edited' WHERE id = 5");
    site.db.until("SELECT content FROM messages WHERE id = 5", "edited #3", PATIENCE);
    site.marker();
    site.until_idle("messages");
    assert_eq!(site.inputs(), ["edited #2"]);
}
