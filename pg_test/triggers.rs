//! What a change of a row puts into the queue, and what it does not.

#[pgrx::pg_schema]
mod tests {
    use crate::in_server::support::{
        column, context, enable, error, int, queued, raised, role, run, set, take_queued, text, yes,
    };
    use crate::pg::ffi::catch::subtransaction;
    use crate::pg::triggers::while_writing;
    use pgrx::prelude::*;

    fn make() -> i32 {
        run("CREATE TABLE t (id int PRIMARY KEY, content text, note text)");
        enable("'t', 'content'")
    }

    #[pg_test]
    fn triggers_queue_every_inserted_row() {
        let id = make();
        run("INSERT INTO t SELECT i, 'x' FROM generate_series(1, 3) i; INSERT INTO t SELECT WHERE false");
        assert_eq!(queued(id), ["1", "2", "3"]);
        assert!(yes(&format!(
            "SELECT bool_and(lane = 0 AND not_before IS NULL AND leased_until IS NULL AND attempts = 0 AND NOT if_missing) FROM autoembed.job WHERE vectorizer_id = {id}"
        )));
        take_queued(id);
        // More than one statement of the queue takes.
        run("INSERT INTO t SELECT i, 'x' FROM generate_series(10, 20009) i");
        assert_eq!(take_queued(id).len(), 20_000);
    }

    #[pg_test]
    fn triggers_queue_a_row_whose_text_has_changed_and_no_other() {
        let id = make();
        run("INSERT INTO t VALUES (1, 'a'), (2, NULL), (3, 'c')");
        take_queued(id);
        run(
            "UPDATE t SET note = 'n'; UPDATE t SET content = content; UPDATE t SET embedding = '[1,2,3]'; DELETE FROM t WHERE id = 3",
        );
        assert!(queued(id).is_empty());
        for (statement, expected) in [
            ("UPDATE t SET content = 'b' WHERE id = 1", &["1"][..]),
            ("UPDATE t SET content = NULL WHERE id = 1", &["1"]),
            ("UPDATE t SET content = '' WHERE id = 2", &["2"]),
            ("UPDATE t SET content = upper(content)", &[]),
            ("UPDATE t SET id = 7 WHERE id = 2", &["7"]),
            ("UPDATE t SET content = content || 'x', note = content", &["7"]),
            (
                "INSERT INTO t VALUES (7, 'upsert'), (8, 'new') ON CONFLICT (id) DO UPDATE SET content = EXCLUDED.content",
                &["7", "8"],
            ),
            ("INSERT INTO t VALUES (7, 'other') ON CONFLICT (id) DO NOTHING", &[]),
            (
                "MERGE INTO t USING (VALUES (8, 'm'), (9, 'm')) v (id, c) ON v.id = t.id WHEN MATCHED THEN UPDATE SET content = v.c WHEN NOT MATCHED THEN INSERT (id, content) VALUES (v.id, v.c)",
                &["8", "9"],
            ),
            ("TRUNCATE t", &[]),
        ] {
            run(statement);
            assert_eq!(take_queued(id), set(expected.iter().copied()), "{statement}");
        }
    }

    #[pg_test]
    fn triggers_see_what_a_before_trigger_has_changed() {
        let id = make();
        run(
            "CREATE FUNCTION edit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.content := NEW.note; RETURN NEW; END $$; \
             CREATE TRIGGER edit BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION edit(); INSERT INTO t VALUES (1, 'a', 'a')",
        );
        take_queued(id);
        run("UPDATE t SET note = 'b'");
        assert_eq!(take_queued(id), set(["1"]), "no statement named the text");
        run("UPDATE t SET content = 'something else'");
        assert!(queued(id).is_empty(), "the trigger has put the old text back");
    }

    #[pg_test]
    fn triggers_compare_bytes_not_equality() {
        // Other collations of ICU are listed without it, too. Those that take texts for equal need ICU, which a server may be built without; a key of 1 and 1.00 does not.
        let has_icu = yes("SELECT EXISTS (SELECT FROM pg_catalog.pg_collation WHERE collname = 'und-x-icu')");
        if has_icu {
            run("CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false)");
        } else {
            run("CREATE COLLATION nocase FROM \"C\"");
        }
        run("CREATE TABLE t (id numeric PRIMARY KEY, content text COLLATE nocase)");
        let id = enable("'t', 'content'");
        run("INSERT INTO t VALUES (1, 'a')");
        take_queued(id);
        run("UPDATE t SET content = 'A'");
        assert_eq!(take_queued(id), set(["1"]));
        run("UPDATE t SET id = 1.00");
        assert_eq!(take_queued(id), set(["1.00"]));
    }

    #[pg_test]
    fn triggers_watch_the_columns_that_an_expression_reads() {
        run("CREATE TABLE t (id int PRIMARY KEY, title text, body text, note text)");
        let id = enable("'t', 'COALESCE(title, '''') || body'");
        let whole = enable("'t', 'to_jsonb(t) - ''embedding2''', embedding => 'embedding2'");
        run("INSERT INTO t VALUES (1, 'a', 'b', 'c')");
        assert_eq!((take_queued(id), take_queued(whole)), (set(["1"]), set(["1"])));
        run("UPDATE t SET note = 'x'");
        assert_eq!((take_queued(id), take_queued(whole)), (set([]), set(["1"])));
        run("UPDATE t SET title = 'x', body = 'y'");
        assert_eq!((take_queued(id), take_queued(whole)), (set(["1"]), set(["1"])));
        run("UPDATE t SET embedding = '[1,2,3]', embedding2 = '[1,2,3]'");
        assert_eq!((take_queued(id), take_queued(whole)), (set([]), set([])));
    }

    #[pg_test]
    fn triggers_put_a_sessions_writes_into_the_lane_it_asked_for() {
        let id = make();
        run(
            "SET LOCAL autoembed.lane = 'backfill'; INSERT INTO t VALUES (1, 'a'); SET LOCAL autoembed.lane = 'live'; INSERT INTO t VALUES (2, 'a')",
        );
        let lanes = column::<String>(&format!(
            "SELECT key || ' ' || lane FROM autoembed.job WHERE vectorizer_id = {id} ORDER BY key"
        ));
        assert_eq!(lanes, ["1 1", "2 0"]);
    }

    #[pg_test]
    fn triggers_let_a_row_settle() {
        run("CREATE TABLE t (id int PRIMARY KEY, content text)");
        let id = enable("'t', 'content', delay => '1 hour'");
        run(
            "INSERT INTO t VALUES (1, 'a'), (2, 'b'); INSERT INTO t VALUES (3, 'c'); UPDATE t SET content = 'd' WHERE id = 1",
        );
        assert_eq!(queued(id).len(), 4);
        assert!(yes(&format!(
            "SELECT bool_and(not_before BETWEEN clock_timestamp() + interval '59 min' AND clock_timestamp() + interval '1 hour') FROM autoembed.job WHERE vectorizer_id = {id}"
        )));
    }

    #[pg_test]
    fn triggers_leave_the_workers_own_rows_out_and_only_those() {
        let id = make();
        run("CREATE TABLE t2 (id int PRIMARY KEY, content text)");
        let other = enable("'t2', 'content'");
        run("INSERT INTO t VALUES (1, 'a'), (2, 'b'); INSERT INTO t2 VALUES (1, 'a')");
        take_queued(id);
        take_queued(other);
        while_writing(id, &["1"], || {
            run(
                "UPDATE t SET content = 'x', embedding = '[1,2,3]'; UPDATE t2 SET content = 'x', embedding = '[1,2,3]'",
            );
        });
        assert_eq!(
            (take_queued(id), take_queued(other)),
            (set(["2"]), set(["1"])),
            "another row, another vectorizer's row"
        );
        while_writing(id, &["1"], || run("UPDATE t SET content = 'z' WHERE id = 1"));
        assert_eq!(
            take_queued(id),
            set(["1"]),
            "an update that a trigger makes of it, not the one that writes its vector"
        );
        run("UPDATE t SET content = 'y', embedding = '[3,2,1]' WHERE id = 1");
        assert_eq!(take_queued(id), set(["1"]), "afterwards the row is like any other");
    }

    #[pg_test]
    fn triggers_queue_again_after_a_write_that_failed() {
        let id = make();
        run("INSERT INTO t VALUES (1, 'a')");
        take_queued(id);
        let caught = raised(|| while_writing(id, &["1"], || run("SELECT 1 / 0")));
        assert_eq!(caught.sqlstate(), "22012");
        run("UPDATE t SET content = 'b'");
        assert_eq!(take_queued(id), set(["1"]));
    }

    #[pg_test]
    fn triggers_leave_nothing_of_what_was_rolled_back() {
        let id = make();
        let result = subtransaction(|| {
            run("INSERT INTO t VALUES (1, 'a')");
            assert_eq!(queued(id), ["1"]);
            run("SELECT 1 / 0");
        });
        assert!(result.is_err());
        assert!(queued(id).is_empty());
        run("INSERT INTO t VALUES (1, 'b')");
        assert_eq!(queued(id), ["1"]);
    }

    /// Anybody can make a trigger of his own table call the function with another's number.
    #[pg_test]
    fn triggers_of_another_table_queue_nothing() {
        let id = make();
        run("INSERT INTO t VALUES (1, 'a'); UPDATE t SET embedding = '[1,2,3]'");
        take_queued(id);
        role("mallory");
        run(&format!(
            "SET LOCAL ROLE mallory; CREATE TABLE forged (id int PRIMARY KEY, content text, embedding vector(3)); \
             CREATE TRIGGER forged_row AFTER INSERT OR UPDATE ON forged FOR EACH ROW EXECUTE FUNCTION autoembed.queue_change('{id}', '0'); \
             CREATE TRIGGER forged_all AFTER INSERT ON forged REFERENCING NEW TABLE AS autoembed_new FOR EACH STATEMENT EXECUTE FUNCTION autoembed.queue_change('{id}', '0'); \
             CREATE TRIGGER forged_clear BEFORE UPDATE ON forged FOR EACH ROW EXECUTE FUNCTION autoembed.clear_vector('{id}'); \
             INSERT INTO forged VALUES (1, 'a', '[1,2,3]'), (2, 'b', '[1,2,3]'); UPDATE forged SET content = 'c'; RESET ROLE"
        ));
        assert_eq!(int("SELECT count(*) FROM autoembed.job"), 0);
        assert_eq!(int("SELECT count(*) FROM forged WHERE embedding IS NOT NULL"), 2, "nor is anything cleared");
        // A child by inheritance is not a part of the table either.
        run(&format!(
            "CREATE TABLE child () INHERITS (t); ALTER TABLE child ADD PRIMARY KEY (id); \
             CREATE TRIGGER forged_row AFTER INSERT ON child FOR EACH ROW EXECUTE FUNCTION autoembed.queue_change('{id}', '0'); INSERT INTO child VALUES (5, 'a')"
        ));
        assert_eq!(int("SELECT count(*) FROM autoembed.job"), 0);
    }

    #[pg_test]
    fn triggers_with_senseless_arguments_queue_nothing() {
        make();
        run("CREATE TABLE odd (id int PRIMARY KEY, content text)");
        for arguments in ["", "'x'", "'-1', 'x'", "'99999999999999'"] {
            run(&format!(
                "CREATE OR REPLACE TRIGGER odd AFTER INSERT ON odd FOR EACH ROW EXECUTE FUNCTION autoembed.queue_change({arguments}); \
                          INSERT INTO odd SELECT count(*), 'x' FROM odd"
            ));
        }
        // Without a transition table there is nothing to read.
        run(
            "CREATE TRIGGER odd2 AFTER INSERT OR DELETE OR TRUNCATE ON odd FOR EACH STATEMENT EXECUTE FUNCTION autoembed.queue_change('1'); \
             INSERT INTO odd VALUES (100, 'x'); DELETE FROM odd; TRUNCATE odd",
        );
        assert_eq!(int("SELECT count(*) FROM autoembed.job"), 0);
    }

    #[pg_test]
    fn triggers_functions_are_not_called_otherwise() {
        make();
        for call in ["SELECT autoembed.queue_change()", "SELECT autoembed.clear_vector()"] {
            let caught = error(call);
            assert!(["39P01", "0A000"].contains(&caught.sqlstate().as_str()), "{caught:?}");
        }
        run(
            "CREATE TABLE odd (id int PRIMARY KEY); CREATE TRIGGER odd AFTER INSERT ON odd FOR EACH ROW EXECUTE FUNCTION autoembed.clear_vector('1')",
        );
        assert_eq!(error("INSERT INTO odd VALUES (1)").sqlstate(), "39P01");
    }

    #[pg_test]
    fn triggers_follow_a_change_of_the_primary_key() {
        let id = make();
        run("INSERT INTO t VALUES (1, 'a', 'k1')");
        assert_eq!(take_queued(id), set(["1"]));
        run("ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (note, id); INSERT INTO t VALUES (2, 'a', 'k 2')");
        assert_eq!(take_queued(id), set(["(\"k 2\",2)"]));
        run("ALTER TABLE t DROP CONSTRAINT t_pkey; INSERT INTO t VALUES (3, 'a', 'k3')");
        assert!(queued(id).is_empty(), "without a key there is nothing to queue, and no error for the writer");
        run(
            "ALTER TABLE t ADD PRIMARY KEY (id); ALTER TABLE t RENAME COLUMN id TO number; ALTER TABLE t RENAME TO renamed; INSERT INTO renamed VALUES (4, 'a', 'k4')",
        );
        assert_eq!(take_queued(id), set(["4"]));
    }

    #[pg_test]
    fn triggers_see_a_generated_column_change() {
        run(
            "CREATE TABLE t (id int PRIMARY KEY, title text, body text, whole text GENERATED ALWAYS AS (title || body) STORED)",
        );
        let id = enable("'t', 'whole'");
        run("INSERT INTO t (id, title, body) VALUES (1, 'a', 'b')");
        assert_eq!(take_queued(id), set(["1"]));
        run("UPDATE t SET body = 'c'");
        assert_eq!(take_queued(id), set(["1"]));
        run("UPDATE t SET title = 'a'");
        assert!(queued(id).is_empty());
    }

    #[pg_test]
    fn triggers_cannot_clear_where_the_input_is_a_generated_column() {
        run("CREATE TABLE t (id int PRIMARY KEY, title text, whole text GENERATED ALWAYS AS (upper(title)) STORED)");
        let caught = raised(|| enable("'t', 'whole', on_change => 'clear'"));
        assert_eq!(caught.sqlstate(), "0A000");
        assert!(caught.message.contains("generated column \"whole\""), "{}", caught.message);
        enable("'t', 'title', on_change => 'clear'");
    }

    #[pg_test]
    fn triggers_stay_quiet_after_their_vectorizer_is_gone() {
        let id = make();
        run(&format!(
            "INSERT INTO t VALUES (1, 'a'); DELETE FROM autoembed.vectorizer WHERE id = {id}; DELETE FROM autoembed.job"
        ));
        // The session knew the vectorizer; a change of the table makes it look again.
        run("ALTER TABLE t ADD COLUMN more int; INSERT INTO t VALUES (2, 'b'); UPDATE t SET content = 'c'");
        assert_eq!(int("SELECT count(*) FROM autoembed.job"), 0);
    }

    #[pg_test]
    fn triggers_read_keys_from_partitions_whose_columns_lie_otherwise() {
        run(
            "CREATE TABLE t (id int, region text, content text, PRIMARY KEY (region, id)) PARTITION BY LIST (region); \
             CREATE TABLE t_a PARTITION OF t FOR VALUES IN ('a'); \
             CREATE TABLE t_b (extra int, content text, region text NOT NULL, dropped int, id int NOT NULL); ALTER TABLE t_b DROP COLUMN extra, DROP COLUMN dropped",
        );
        let id = enable("'t', 'content'");
        run("ALTER TABLE t_b ADD COLUMN embedding vector(3); ALTER TABLE t ATTACH PARTITION t_b FOR VALUES IN ('b')");
        run(
            "INSERT INTO t (id, region, content) VALUES (1, 'a', 'x'), (2, 'b', 'y'); INSERT INTO t_b (id, region, content) VALUES (3, 'b', 'z')",
        );
        assert_eq!(take_queued(id), set(["(a,1)", "(b,2)", "(b,3)"]));
        run(
            "UPDATE t SET content = 'changed' WHERE id = 2; UPDATE t_b SET content = 'changed' WHERE id = 3; UPDATE t SET region = 'b' WHERE id = 1",
        );
        assert_eq!(take_queued(id), set(["(b,2)", "(b,3)", "(b,1)"]));
        run("ALTER TABLE t DETACH PARTITION t_b; INSERT INTO t_b (id, region, content) VALUES (9, 'b', 'y')");
        assert!(queued(id).is_empty());
        assert_eq!(context(id).table.kind, 'p');
    }

    #[pg_test]
    fn triggers_clear_the_vector_of_an_old_text() {
        run(
            "CREATE TABLE t (id int PRIMARY KEY, dropped int, content text, note text); ALTER TABLE t DROP COLUMN dropped; \
             CREATE FUNCTION edit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.note = 'edit' THEN NEW.content := 'edited'; END IF; RETURN NEW; END $$; \
             CREATE TRIGGER zz_edit BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION edit()",
        );
        let id = enable("'t', 'content', on_change => 'clear', embedding => 'V 1'");
        run(
            "INSERT INTO t SELECT i, 'x' FROM generate_series(1, 4) i; UPDATE t SET \"V 1\" = '[1,2,3]'; UPDATE t SET note = 'n', content = content WHERE id = 1",
        );
        assert_eq!(int("SELECT count(*) FROM t WHERE \"V 1\" IS NOT NULL"), 4);
        take_queued(id);
        run("UPDATE t SET content = 'y' WHERE id = 2; UPDATE t SET note = 'edit' WHERE id = 3");
        assert_eq!(text("SELECT string_agg(id::text, ',' ORDER BY id) FROM t WHERE \"V 1\" IS NULL"), "2,3");
        assert_eq!(
            text("SELECT string_agg(concat_ws('-', id, content, note), ' ' ORDER BY id) FROM t"),
            "1-x-n 2-y 3-edited-edit 4-x"
        );
        assert_eq!(take_queued(id), set(["2", "3"]));
        run("ALTER TABLE t RENAME COLUMN \"V 1\" TO v; UPDATE t SET content = 'z' WHERE id = 4");
        assert!(yes("SELECT v IS NULL FROM t WHERE id = 4"), "under its new name");
    }
}
