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
