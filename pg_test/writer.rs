//! Writing vectors: what becomes of each row, and that no row decides over another.

#[pgrx::pg_schema]
mod tests {
    use crate::in_server::support::{context, enable, int, one, queued, run, take_queued, text, yes};
    use crate::pg::writer::{self, Entry, Outcome};
    use crate::worker::gather::Context;
    use autoembed_core::hash::text_hash;
    use pgrx::prelude::*;

    const VECTOR: [f32; 3] = [1.0, 2.5, -3.0];

    /// A key, the text that the row is believed to have, and a vector.
    type Given<'a> = (&'a str, Option<&'a str>, Option<&'a [f32]>);

    /// Rows 1 to 6 with the texts 't1' to 't6' and no vectors; nothing is queued.
    fn six() -> Context {
        run("CREATE TABLE w (id int PRIMARY KEY, content text, note text)");
        let id = enable("'w', 'content'");
        run("INSERT INTO w SELECT i, 't' || i FROM generate_series(1, 6) i");
        take_queued(id);
        context(id)
    }

    /// Writes a vector (or none) into each row.
    fn write(context: &Context, rows: &[Given<'_>]) -> Vec<Outcome> {
        let hashes: Vec<Option<[u8; 32]>> = rows.iter().map(|(_, text, _)| text.map(text_hash)).collect();
        let entries: Vec<Entry<'_>> = rows
            .iter()
            .zip(&hashes)
            .map(|((key, _, vector), hash)| Entry {
                key,
                hash: hash.as_ref().map(<[u8; 32]>::as_slice),
                vector: *vector,
            })
            .collect();
        writer::write(&context.target(), context.pgvector.type_oid, &entries)
    }

    /// The outcomes' names.
    fn names(outcomes: &[Outcome]) -> Vec<String> {
        outcomes
            .iter()
            .map(|outcome| match outcome {
                Outcome::Failed(caught) => caught.sqlstate(),
                other => format!("{other:?}").to_lowercase(),
            })
            .collect()
    }

    fn with_vectors() -> String {
        one("SELECT string_agg(id::text, ',' ORDER BY id) FROM w WHERE embedding IS NOT NULL").unwrap_or_default()
    }

    #[pg_test]
    fn writer_writes_each_vector_into_its_row() {
        let context = six();
        let other = [0.0, 0.0, 7.0];
        let outcomes = write(&context, &[("3", Some("t3"), Some(&VECTOR)), ("1", Some("t1"), Some(&other))]);
        assert_eq!(names(&outcomes), ["written", "written"]);
        assert_eq!(text("SELECT string_agg(embedding::text, ' ' ORDER BY id) FROM w"), "[0,0,7] [1,2.5,-3]");
        assert!(write(&context, &[]).is_empty());
    }

    #[pg_test]
    fn writer_tells_stale_gone_and_written_apart() {
        let context = six();
        run("UPDATE w SET embedding = '[9,9,9]' WHERE id = 2");
        let outcomes = write(
            &context,
            &[
                ("99", Some("t99"), Some(&VECTOR)),
                ("1", Some("t1"), Some(&VECTOR)),
                ("2", Some("an older text"), Some(&VECTOR)),
                ("3", None, Some(&VECTOR)),
                ("4", Some("T4"), None),
            ],
        );
        assert_eq!(names(&outcomes), ["gone", "written", "stale", "stale", "stale"]);
        assert_eq!(text("SELECT embedding::text FROM w WHERE id = 2"), "[9,9,9]", "the old vector is left as it was");
        assert_eq!(with_vectors(), "1,2");
    }

    #[pg_test]
    fn writer_clears_the_vector_of_a_row_without_text() {
        let context = six();
        run(
            "UPDATE w SET embedding = '[9,9,9]' WHERE id <= 3; UPDATE w SET content = NULL WHERE id IN (1, 4); UPDATE w SET content = '' WHERE id = 2",
        );
        let untouched = text("SELECT ctid::text FROM w WHERE id = 4");
        let outcomes =
            write(&context, &[("1", None, None), ("2", Some(""), None), ("3", None, None), ("4", None, None)]);
        assert_eq!(names(&outcomes), ["written", "written", "stale", "written"]);
        assert_eq!(with_vectors(), "3");
        assert_eq!(
            text("SELECT ctid::text FROM w WHERE id = 4"),
            untouched,
            "what is NULL already is not written again"
        );
    }

    #[pg_test]
    fn writer_says_when_a_trigger_keeps_a_write_back() {
        let context = six();
        run(
            "CREATE FUNCTION keep_back() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.id = 2 THEN RETURN NULL; END IF; RETURN NEW; END $$; \
             CREATE TRIGGER keep_back BEFORE UPDATE ON w FOR EACH ROW EXECUTE FUNCTION keep_back()",
        );
        let rows = [
            ("1", Some("t1"), Some(&VECTOR[..])),
            ("2", Some("t2"), Some(&VECTOR[..])),
            ("3", Some("t3"), Some(&VECTOR[..])),
        ];
        assert_eq!(names(&write(&context, &rows)), ["written", "suppressed", "written"]);
        assert_eq!(with_vectors(), "1,3");
    }

    #[pg_test]
    fn writer_fails_alone_the_row_that_the_table_refuses() {
        let context = six();
        run("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
               IF NEW.id = 2 THEN RAISE EXCEPTION 'not this one' USING ERRCODE = 'check_violation', HINT = 'ask'; END IF; \
               IF NEW.id = 5 THEN PERFORM 1 / 0; END IF; RETURN NEW; END $$; \
             CREATE TRIGGER refuse BEFORE UPDATE ON w FOR EACH ROW EXECUTE FUNCTION refuse()");
        let keys = ["1", "2", "3", "4", "5", "6", "7"];
        let texts: Vec<String> = keys.iter().map(|key| format!("t{key}")).collect();
        let rows: Vec<_> =
            keys.iter().zip(&texts).map(|(key, text)| (*key, Some(text.as_str()), Some(&VECTOR[..]))).collect();
        let outcomes = write(&context, &rows);
        assert_eq!(names(&outcomes), ["written", "23514", "written", "written", "22012", "written", "gone"]);
        let Outcome::Failed(caught) = &outcomes[1] else { panic!("{outcomes:?}") };
        assert_eq!((caught.message.as_str(), caught.hint.as_deref()), ("not this one", Some("ask")));
        assert_eq!(with_vectors(), "1,3,4,6");
    }

    #[pg_test]
    fn writer_does_not_try_every_row_where_the_table_refuses_all() {
        run("CREATE SEQUENCE tries; CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             PERFORM nextval('tries'); RAISE insufficient_privilege; END $$");
        let context = six();
        run("CREATE TRIGGER refuse BEFORE UPDATE ON w FOR EACH ROW EXECUTE FUNCTION refuse()");
        let outcomes = write(
            &context,
            &[("1", Some("t1"), Some(&VECTOR)), ("2", Some("t2"), Some(&VECTOR)), ("3", Some("t3"), Some(&VECTOR))],
        );
        assert_eq!(names(&outcomes), ["42501", "42501", "42501"]);
        assert_eq!(int("SELECT last_value FROM tries"), 1);
    }

    #[pg_test]
    fn writer_leaves_rows_for_later_where_somebody_is_in_the_way() {
        let context = six();
        run("CREATE FUNCTION busy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE lock_not_available; END $$; \
             CREATE TRIGGER busy BEFORE UPDATE ON w FOR EACH ROW EXECUTE FUNCTION busy()");
        assert_eq!(
            names(&write(&context, &[("1", Some("t1"), Some(&VECTOR)), ("2", Some("t2"), Some(&VECTOR))])),
            ["locked", "locked"]
        );
        assert_eq!(with_vectors(), "");
    }

    #[pg_test]
    fn writer_refuses_a_vector_of_another_size_and_writes_the_others() {
        let context = six();
        let short = [1.0_f32, 2.0];
        let outcomes = write(&context, &[("1", Some("t1"), Some(&VECTOR)), ("2", Some("t2"), Some(&short))]);
        assert_eq!(names(&outcomes), ["written", "22000"]);
        assert_eq!(with_vectors(), "1");
    }

    #[pg_test]
    fn writer_queues_nothing_by_its_own_write() {
        let context = six();
        run(
            "CREATE FUNCTION edit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.content := NEW.content || '.'; RETURN NEW; END $$; \
             CREATE TRIGGER edit BEFORE UPDATE ON w FOR EACH ROW EXECUTE FUNCTION edit()",
        );
        assert_eq!(names(&write(&context, &[("1", Some("t1"), Some(&VECTOR))])), ["written"]);
        assert!(queued(context.vectorizer.id).is_empty());
        // The very same row is queued again as soon as a user touches it.
        run("UPDATE w SET note = 'x' WHERE id = 1");
        assert_eq!(queued(context.vectorizer.id), ["1"]);
    }

    #[pg_test]
    fn writer_queues_what_a_trigger_changes_in_other_rows() {
        let context = six();
        run("CREATE FUNCTION spread() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
               IF pg_trigger_depth() = 1 THEN UPDATE w SET content = 'changed' WHERE id = 6; END IF; RETURN NULL; END $$; \
             CREATE TRIGGER spread AFTER UPDATE ON w FOR EACH ROW EXECUTE FUNCTION spread()");
        assert_eq!(names(&write(&context, &[("1", Some("t1"), Some(&VECTOR))])), ["written"]);
        assert_eq!(queued(context.vectorizer.id), ["6"]);
    }

    /// Vectors are written in portions here, of three rows.
    #[pg_test]
    fn writer_leaves_alone_what_a_trigger_has_edited_meanwhile() {
        let context = six();
        run("CREATE FUNCTION edit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
               UPDATE w SET content = 'edited' WHERE id = 6 AND NEW.id = 1; RETURN NULL; END $$; \
             CREATE TRIGGER edit AFTER UPDATE OF embedding ON w FOR EACH ROW EXECUTE FUNCTION edit(); \
             CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
               UPDATE w SET note = 'touched' WHERE id = 5 AND NEW.id = 1; RETURN NULL; END $$; \
             CREATE TRIGGER touch AFTER UPDATE OF embedding ON w FOR EACH ROW EXECUTE FUNCTION touch()");
        let texts: Vec<String> = (1..=6).map(|i| format!("t{i}")).collect();
        let keys: Vec<String> = (1..=6).map(|i| i.to_string()).collect();
        let rows: Vec<Given<'_>> =
            keys.iter().zip(&texts).map(|(key, text)| (key.as_str(), Some(text.as_str()), Some(&VECTOR[..]))).collect();
        let outcomes = names(&write(&context, &rows));
        assert_eq!(outcomes[..4], ["written", "written", "written", "written"]);
        assert_eq!(outcomes[5], "stale", "a vector of the old text, or none that was tried again");
        assert_eq!(with_vectors(), "1,2,3,4,5");
        assert!(yes("SELECT embedding IS NULL AND content = 'edited' FROM w WHERE id = 6"));
        // One that was only moved has its text.
        assert_eq!(outcomes[4], "written");
    }

    #[pg_test]
    fn writer_matches_composite_and_nasty_keys() {
        run("CREATE TABLE \"W w\" (\"a,\" text, content text, b timestamptz, PRIMARY KEY (b, \"a,\"))");
        let id = enable("'\"W w\"', 'content', embedding => 'the \"vector\"'");
        run("SET LOCAL timezone = 'Asia/Tokyo'");
        run(
            "INSERT INTO \"W w\" VALUES ('x,\"y\"', 't', '2024-01-01 00:00:00+00'), ('', 't', '2024-01-01 00:00:00+00')",
        );
        let keys = queued(id);
        let context = context(id);
        let rows = [
            (keys[0].as_str(), Some("t"), Some(&VECTOR[..])),
            ("(nonsense", Some("t"), Some(&VECTOR[..])),
            (keys[1].as_str(), Some("t"), Some(&VECTOR[..])),
        ];
        assert_eq!(names(&write(&context, &rows)), ["written", "gone", "written"]);
        assert_eq!(int("SELECT count(*) FROM \"W w\" WHERE \"the \"\"vector\"\"\" = '[1,2.5,-3]'"), 2);
    }

    #[pg_test]
    fn writer_writes_into_the_partition_that_holds_the_row() {
        run("CREATE TABLE w (id int, content text, PRIMARY KEY (id)) PARTITION BY RANGE (id); \
             CREATE TABLE w_low PARTITION OF w FOR VALUES FROM (0) TO (10); \
             CREATE TABLE w_high (content text, id int NOT NULL); ALTER TABLE w ATTACH PARTITION w_high FOR VALUES FROM (10) TO (20)");
        let id = enable("'w', 'content'");
        run("INSERT INTO w VALUES (1, 't1'), (11, 't11')");
        assert_eq!(queued(id), ["1", "11"]);
        let context = context(id);
        assert_eq!(
            names(&write(&context, &[("11", Some("t11"), Some(&VECTOR)), ("1", Some("t1"), Some(&VECTOR))])),
            ["written", "written"]
        );
        assert!(yes("SELECT bool_and(embedding IS NOT NULL) FROM w"));
        take_queued(id);
        run("UPDATE w SET content = 'moved' WHERE id = 1; UPDATE w SET id = 12 WHERE id = 1");
        assert!(take_queued(id).contains("12"), "a row that moves to another partition");
    }

    #[pg_test]
    fn writer_writes_into_tables_with_a_deferred_unique_key() {
        run("CREATE TABLE w (id int PRIMARY KEY, content text, u int UNIQUE DEFERRABLE INITIALLY DEFERRED)");
        let id = enable("'w', 'content'");
        run("INSERT INTO w VALUES (1, 't1', 1)");
        let context = context(id);
        let row = [("1", Some("t1"), Some(&VECTOR[..]))];
        assert_eq!(names(&write(&context, &row)), ["written"]);
        run("CREATE INDEX ON w USING btree (embedding); UPDATE w SET embedding = NULL");
        assert_eq!(names(&write(&context, &row)), ["written"], "a new version in every index");
    }

    /// Each row is a portion of its own here: the first one's trigger tells all of them to wait for the commit.
    #[pg_test]
    fn writer_fires_triggers_that_the_table_has_deferred() {
        let context = six();
        run(
            "CREATE FUNCTION defer() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN SET CONSTRAINTS ALL DEFERRED; RETURN NEW; END $$;
             CREATE CONSTRAINT TRIGGER t AFTER UPDATE ON w DEFERRABLE INITIALLY IMMEDIATE FOR EACH ROW EXECUTE FUNCTION defer()",
        );
        let outcomes = write(&context, &[("1", Some("t1"), Some(&VECTOR)), ("2", Some("t2"), Some(&VECTOR))]);
        assert_eq!(names(&outcomes), ["written", "written"]);
    }

    /// A row of this very transaction is checked again by its foreign key: embed_pending() right after the INSERT.
    #[pg_test]
    fn writer_writes_into_tables_with_a_deferred_foreign_key() {
        run("CREATE TABLE parent (id int PRIMARY KEY); INSERT INTO parent VALUES (1); \
             CREATE TABLE w (id int PRIMARY KEY, content text, p int REFERENCES parent DEFERRABLE INITIALLY DEFERRED)");
        let id = enable("'w', 'content'");
        run("INSERT INTO w VALUES (1, 't1', 1); SET CONSTRAINTS ALL IMMEDIATE");
        assert_eq!(names(&write(&context(id), &[("1", Some("t1"), Some(&VECTOR))])), ["written"]);
    }

    /// The server lets nothing be put off in the owner's context: who calls the writer says so first.
    #[pg_test]
    fn writer_writes_into_tables_with_deferred_triggers() {
        let context = six();
        run("CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$; \
             CREATE CONSTRAINT TRIGGER late AFTER UPDATE ON w DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION late(); SET CONSTRAINTS ALL IMMEDIATE");
        assert_eq!(names(&write(&context, &[("1", Some("t1"), Some(&VECTOR))])), ["written"]);
    }

    /// A user who cancels wants the statement to end, not a row that failed.
    #[pg_test(error = "query_canceled")]
    fn writer_lets_a_cancelled_statement_end() {
        let context = six();
        run("CREATE FUNCTION cancel() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE query_canceled; END $$; \
             CREATE TRIGGER cancel BEFORE UPDATE ON w FOR EACH ROW EXECUTE FUNCTION cancel()");
        write(&context, &[("1", Some("t1"), Some(&VECTOR))]);
    }
}
