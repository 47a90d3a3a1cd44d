//! The process that builds indexes, among what else a database has: event triggers, and users who build indexes themselves.

use autoembed_tests::Site;
use autoembed_tests::site::PATIENCE;

const BUILT: &str = "SELECT i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam WHERE m.amname = 'hnsw'";

/// A table that is too large to get its index within `enable()`.
fn large(site: &mut Site) {
    site.db.run(
        "CREATE TABLE large (id int PRIMARY KEY, body text);
         INSERT INTO large SELECT i, i || repeat(' word', 380) FROM generate_series(1, 700) i",
    );
}

/// What users write in the slow lane never ends where they always write there: the index waits for the backfill alone.
#[test]
fn rows_that_come_in_the_slow_lane() {
    let mut site = Site::new();
    large(&mut site);
    site.db.run("SET autoembed.lane = 'backfill'");
    site.enable("large", "body", "delay => '1 hour'");
    assert!(site.db.rows(BUILT).is_empty(), "the table is too small for this");
    site.db.run("INSERT INTO large VALUES (0, 'a word')");
    site.db.until(BUILT, "t", PATIENCE * 2);
    site.db.until("SELECT count(*) FROM autoembed.progress", "0", PATIENCE);
    assert_eq!(site.db.text("SELECT string_agg(key || ' in ' || lane, ', ') FROM autoembed.job"), "0 in 1");
    // The walk may have met the new row as well.
    assert_eq!(site.db.int("SELECT count(embedding) FROM large WHERE id > 0"), 700);
}

/// As servers with PostgREST have one, for instance.
#[test]
fn an_event_trigger_that_runs_sql() {
    let mut site = Site::new();
    large(&mut site);
    site.db.run(
        "CREATE TABLE seen (tag text);
         CREATE FUNCTION watch() RETURNS event_trigger LANGUAGE plpgsql AS $$
         DECLARE command record;
         BEGIN
             FOR command IN SELECT * FROM pg_event_trigger_ddl_commands() LOOP
                 INSERT INTO public.seen VALUES (command.command_tag);
             END LOOP;
         END $$;
         CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION watch()",
    );
    site.enable("large", "body", "");
    assert!(site.db.rows(BUILT).is_empty(), "the table is too small for this");
    site.db.until(BUILT, "t", PATIENCE * 2);
    assert_eq!(site.db.int("SELECT count(*) FROM seen WHERE tag = 'CREATE INDEX'"), 1);
    site.until_state("large", "active");
}

/// Its build waits in the end for snapshots that are older. If that of the builder were one, which waits for the user's lock, the
/// server would end one of the two.
#[test]
fn g06_a_user_builds_an_index_meanwhile() {
    let mut site = Site::new();
    large(&mut site);
    site.enable("large", "body", "");
    site.db.run("SELECT autoembed.pause('large')");
    let (mut holder, mut user) = (site.session(), site.session());
    // Who writes keeps the user's build from its beginning until the builder is there.
    holder.run("BEGIN; INSERT INTO large VALUES (0, 'a word')");
    std::thread::scope(|scope| {
        let build = scope.spawn(move || user.run("CREATE INDEX CONCURRENTLY of_the_user ON large (md5(body))"));
        site.db.until(
            "SELECT count(*) FROM pg_stat_progress_create_index WHERE phase = 'waiting for writers before build'",
            "1",
            PATIENCE,
        );
        site.db.run("SELECT autoembed.resume('large')");
        site.db.until(
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'autoembed indexer' AND wait_event IS NOT NULL",
            "1",
            PATIENCE * 2,
        );
        holder.run("COMMIT");
        assert!(build.join().is_ok(), "the user's build was ended");
    });
    site.db.until(BUILT, "t", PATIENCE * 3);
    assert_eq!(site.db.int("SELECT count(*) FROM pg_index WHERE NOT indisvalid"), 0);
}

/// A user's transaction has written to the table before the builder has come, which waits for its end; then it wants the table for itself, and
/// would wait for the builder. The server would end the one who came last.
#[test]
fn g06_the_builder_gives_way_to_who_wants_the_table() {
    const WAITS: &str = "SELECT count(*) FROM pg_stat_progress_create_index WHERE phase LIKE 'waiting for%'";
    let mut site = Site::new();
    let mut user = site.session();
    user.run("SET statement_timeout = '30s'");
    for (number, (what, is_built)) in [
        ("ALTER TABLE large ADD COLUMN more int", true),
        ("LOCK TABLE large", true),
        ("SELECT autoembed.disable('large')", false),
        ("DROP TABLE large CASCADE", false),
    ]
    .into_iter()
    .enumerate()
    {
        site.db.run("DROP TABLE IF EXISTS large");
        large(&mut site);
        site.enable("large", "body", "");
        user.run("BEGIN");
        if number == 1 {
            // A snapshot is waited for as well, at the end of the build.
            user.run("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class");
        } else {
            user.run("INSERT INTO large VALUES (0, 'a word')");
        }
        site.db.until(WAITS, "1", PATIENCE * 2);
        // The builder has looked for a deadlock by now, as everybody who waits does once.
        user.run("SELECT pg_sleep(1.2)");
        let begun = std::time::Instant::now();
        if let Err(e) = user.batch_execute(what) {
            panic!("{what}: {}", autoembed_tests::db::explain(&e));
        }
        println!("{what}: {:?}", begun.elapsed());
        user.run("COMMIT");
        if is_built {
            site.db.until(BUILT, "t", PATIENCE * 2);
        } else {
            site.db.until("SELECT count(*) FROM autoembed.workers WHERE kind = 'indexer'", "0", PATIENCE * 2);
            assert!(site.db.rows(BUILT).is_empty(), "{what}: something was left, or built");
        }
        assert_eq!(site.db.int("SELECT count(*) FROM pg_index WHERE NOT indisvalid"), 0);
    }
}

/// A build waits in the end for all older snapshots, also of sessions that have to do with other tables: for hours where one is that of a dump. Who wants
/// the table for himself must not wait with it, nor all those behind him.
#[test]
fn g06_a_build_ends_where_somebody_waits_for_the_table() {
    const WAITS: &str = "SELECT count(*) FROM pg_stat_progress_create_index WHERE phase = 'waiting for old snapshots'";
    const LEFT: &str = "SELECT count(*) FROM pg_index WHERE NOT indisvalid";
    for (kind, more) in [("index", ""), ("text index", "index => 'none', text_search => 'english'")] {
        let mut site = Site::new();
        large(&mut site);
        site.db.run("CREATE TABLE other (x int)");
        let (mut holder, mut user, mut reader) = (site.session(), site.session(), site.session());
        holder.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM other");
        user.run("SET lock_timeout = '15s'");
        reader.run("SET lock_timeout = '15s'");
        site.enable("large", "body", more);
        site.db.until(WAITS, "1", PATIENCE * 2);
        std::thread::scope(|scope| {
            let altered = scope.spawn(|| {
                let begun = std::time::Instant::now();
                user.run("ALTER TABLE large ADD COLUMN more int");
                println!("{kind}: {:?}", begun.elapsed());
            });
            site.db.until("SELECT count(*) > 0 OR EXISTS (SELECT FROM pg_attribute WHERE attname = 'more') FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'", "t", PATIENCE);
            assert_eq!(reader.int("SELECT count(more) FROM large"), 0);
            altered.join().unwrap();
        });
        // Nor is it begun again at once, though the worker looks at a table that was altered.
        let rests = |from, to| {
            format!("SELECT build_after - clock_timestamp() BETWEEN '{from} s' AND '{to} s' FROM autoembed.vectorizer")
        };
        site.db.until(&rests(30, 60), "t", PATIENCE);
        site.until_state(
            "large",
            "active: the build of an index gave way to a session that wanted the table; it begins again after ",
        );
        let progress = format!("SELECT state FROM autoembed.progress WHERE kind = '{kind}'");
        assert!(site.db.text(&progress).starts_with("gave way to a session that wanted the table; again after "));
        site.db.until("SELECT count(*) FROM autoembed.workers WHERE kind = 'indexer'", "0", PATIENCE);
        assert_eq!(site.db.int(LEFT), 1, "it was begun");
        let again =
            "UPDATE autoembed.vectorizer SET build_after = clock_timestamp(); ALTER TABLE large SET (fillfactor = 90)";
        site.db.run(again);
        site.db.until(WAITS, "1", PATIENCE * 2);
        user.run("BEGIN; LOCK TABLE large IN SHARE MODE; COMMIT");
        site.db.until(&rests(90, 120), "t", PATIENCE);
        holder.run("COMMIT");
        site.db.run(again);
        site.db.until("SELECT index_wanted OR text_index_wanted FROM autoembed.vectorizer", "f", PATIENCE * 2);
        assert_eq!(site.db.int(LEFT), 0);
        assert_eq!(site.db.text("SELECT build_after IS NULL AND builds_ended = 0 FROM autoembed.vectorizer"), "t");
        site.until_state("large", "active");
        assert_eq!(site.db.maybe(&progress), None);
    }
}
