//! Vectors are written to rows' places, with plans that are kept: what moves rows, hides places, or changes what names mean.

use autoembed_tests::Site;
use autoembed_tests::site::PATIENCE;

/// A trigger that touches other rows of the batch moves them. None of them may be taken for one that a trigger has kept back.
#[test]
fn g19_a_trigger_that_touches_other_rows_costs_no_row_an_attempt() {
    const ROWS: usize = 1200;
    for trigger in [
        "CREATE TRIGGER touch AFTER UPDATE ON messages REFERENCING NEW TABLE AS nt FOR EACH STATEMENT WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION touch_all()",
        "CREATE TRIGGER touch AFTER UPDATE ON messages FOR EACH ROW WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION touch_next()",
    ] {
        let mut site = Site::builder().dims(3072).setting("autoembed.max_attempts", "2").start();
        site.messages("index => 'none'");
        site.db.run(
            "CREATE FUNCTION touch_all() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 UPDATE public.messages SET note = 'seen' WHERE EXISTS (SELECT FROM nt); RETURN NULL; END $$;
             CREATE FUNCTION touch_next() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 UPDATE public.messages SET note = 'seen' WHERE id = NEW.id + 1; RETURN NULL; END $$",
        );
        site.db.run(trigger);
        site.insert(1, ROWS);
        site.db.until("SELECT count(*) FROM messages WHERE embedding IS NULL", "0", PATIENCE * 2);
        assert_eq!(site.settle("messages", "content"), ROWS);
        assert_eq!(site.failed("messages"), 0, "{trigger}");
    }
}

/// An owner who may read and write no more than the columns that are needed.
#[test]
fn g29_an_owner_with_rights_to_columns_alone() {
    let mut site = Site::with_messages();
    site.insert(1, 3);
    site.settle("messages", "content");
    site.db.run(
        "CREATE ROLE clerk; ALTER TABLE messages OWNER TO clerk; REVOKE ALL ON messages FROM clerk;
         GRANT SELECT (id, content, embedding), UPDATE (embedding) ON messages TO clerk",
    );
    site.insert(4, 6);
    site.db.run("UPDATE messages SET content = NULL WHERE id = 1");
    site.db.run("UPDATE messages SET content = 'text 22' WHERE id = 2");
    site.db.until("SELECT count(*) FROM messages WHERE (content IS NULL) <> (embedding IS NULL)", "0", PATIENCE);
    site.settle("messages", "content");
    // And with the right again.
    site.db.run("GRANT SELECT ON messages TO clerk");
    site.insert(7, 9);
    site.settle("messages", "content");
}

/// What a text is to a column's type may change while the worker runs.
#[test]
fn g03_a_cast_that_comes_later_counts() {
    let mut site = Site::new();
    site.db.run(
        "CREATE TYPE mood AS ENUM ('a', 'b');
         CREATE TABLE moods (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, mood mood)",
    );
    site.enable("moods", "mood", "index => 'none'");
    site.db.run("INSERT INTO moods (mood) VALUES ('a')");
    site.settle("moods", "mood::text");
    site.db.run(
        "CREATE FUNCTION said(mood) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'mood ' || enum_send($1)::text $$;
         CREATE CAST (mood AS text) WITH FUNCTION said(mood)",
    );
    site.db.run("UPDATE moods SET mood = 'b'; INSERT INTO moods (mood) VALUES ('b')");
    site.settle("moods", "mood::text");
}
