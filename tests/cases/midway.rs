//! Tables that change while a request with their texts is under way: nothing is lost, and no vector lands where it does not belong.

use autoembed_tests::Site;
use autoembed_tests::site::PATIENCE;

/// `notes (id, title, body)` with ten rows that have their vectors; `messages` for markers.
fn notes(site: &mut Site) {
    site.db.run(
        "DROP TABLE IF EXISTS notes, letters CASCADE; CREATE TABLE notes (id int PRIMARY KEY, title text, body text)",
    );
    site.enable("notes", "body", "index => 'none'");
    site.db.run("INSERT INTO notes SELECT i, 'title ' || i, 'note ' || i FROM generate_series(1, 10) i");
    site.settle("notes", "body");
    site.until_idle("notes");
}

/// Runs `change` while the vectors of ten edited texts are on their way.
fn midway(site: &mut Site, change: &str) {
    notes(site);
    site.stub.hold();
    site.db.run("UPDATE notes SET body = body || ' edited ' || gen_random_uuid()");
    site.wait_held(1);
    site.db.run("SET lock_timeout = '5s'");
    site.db.run(change);
    site.db.run("RESET lock_timeout");
    site.stub.release();
    site.marker();
}

#[test]
fn g29_rows_that_are_replaced_midway() {
    let mut site = Site::with_messages();
    let again = "INSERT INTO notes SELECT i, 'title', 'after it ' || i FROM generate_series(6, 15) i";
    for change in [
        "TRUNCATE notes",
        "DELETE FROM notes",
        "BEGIN; TRUNCATE notes; ROLLBACK; TRUNCATE notes RESTART IDENTITY CASCADE",
    ] {
        midway(&mut site, &format!("{change}; {again}"));
        assert_eq!(site.settle("notes", "body"), 10, "{change}");
        site.until_idle("notes");
        assert_eq!((site.failed("notes"), site.status("state", "notes")), (0, "active".to_owned()), "{change}");
    }
    // Keys that change hands: the text of each row is another's now.
    midway(&mut site, "UPDATE notes SET id = id + 100; UPDATE notes SET id = 111 - id");
    assert_eq!(site.settle("notes", "body"), 10);
    midway(&mut site, "UPDATE notes SET body = NULL WHERE id < 4; UPDATE notes SET body = ' ' WHERE id = 4");
    assert_eq!(site.settle("notes", "body"), 10);
    assert_eq!(site.db.int("SELECT count(*) FROM notes WHERE embedding IS NULL"), 4);
    assert_eq!(site.failed("notes"), 0);
}

#[test]
fn g29_names_that_change_midway() {
    let mut site = Site::with_messages();
    midway(&mut site, "ALTER TABLE notes RENAME TO letters");
    assert_eq!(site.settle("letters", "body"), 10);
    // Another table takes its name, and is left alone.
    midway(
        &mut site,
        "ALTER TABLE notes RENAME TO letters; CREATE TABLE notes (id int PRIMARY KEY, body text, embedding vector(16)); \
         INSERT INTO notes SELECT i, 'of nobody' FROM generate_series(1, 10) i",
    );
    assert_eq!(site.settle("letters", "body"), 10);
    assert_eq!(site.db.int("SELECT count(embedding) FROM notes"), 0);
    // Two columns change names: the input follows its column.
    midway(&mut site, "ALTER TABLE notes RENAME body TO was; ALTER TABLE notes RENAME title TO body");
    assert_eq!(site.settle("notes", "was"), 10);
    midway(&mut site, "ALTER TABLE notes RENAME id TO number; ALTER TABLE notes RENAME embedding TO vec");
    assert_eq!(site.settle_within("notes", "body", "vec", PATIENCE), 10);
    midway(&mut site, "CREATE SCHEMA away; ALTER TABLE notes SET SCHEMA away");
    assert_eq!(site.settle("away.notes", "body"), 10);
    assert_eq!(site.db.int("SELECT count(*) FROM autoembed.failed_jobs"), 0);
}

#[test]
fn g29_types_that_change_midway() {
    let mut site = Site::with_messages();
    // What a trigger watches, PostgreSQL keeps as it is.
    notes(&mut site);
    for change in ["ALTER COLUMN body TYPE varchar(200)", "ALTER COLUMN id TYPE bigint"] {
        assert_eq!(site.db.error(&format!("ALTER TABLE notes {change}")).code, "0A000", "{change}");
    }
    // The table is written anew.
    midway(
        &mut site,
        "ALTER TABLE notes ALTER COLUMN title TYPE varchar(200), ADD COLUMN made timestamptz DEFAULT clock_timestamp()",
    );
    assert_eq!(site.settle("notes", "body"), 10);
    midway(&mut site, "ALTER TABLE notes ALTER COLUMN embedding TYPE vector");
    assert_eq!(site.settle("notes", "body"), 10);
    midway(&mut site, "ALTER TABLE notes ALTER COLUMN embedding TYPE vector(8) USING NULL");
    site.until_state("notes", "blocked: the column has 8 dimensions");
    assert_eq!(site.status("pending + in_flight", "notes"), "10");
    site.db.run("ALTER TABLE notes ALTER COLUMN embedding TYPE vector(16) USING NULL");
    assert_eq!(site.settle("notes", "body"), 10);
    // Disabled, changed, enabled: what was on its way counts for nothing.
    midway(
        &mut site,
        "SELECT autoembed.disable('notes'); ALTER TABLE notes ALTER COLUMN body TYPE varchar(200); UPDATE notes SET body = 'between ' || id; \
         SELECT autoembed.enable('notes', 'body', 'stub', index => 'none'); SELECT autoembed.backfill('notes', force => true)",
    );
    assert_eq!(site.settle("notes", "body"), 10);
    assert_eq!(site.db.int("SELECT count(*) FROM autoembed.failed_jobs"), 0);
}

#[test]
fn g29_what_is_dropped_midway() {
    let mut site = Site::with_messages();
    midway(&mut site, "ALTER TABLE notes DROP COLUMN embedding");
    site.until_state("notes", "blocked: the vector column");
    assert_eq!(site.status("pending + in_flight", "notes"), "10", "the rows wait");
    midway(&mut site, "ALTER TABLE notes DROP COLUMN embedding, ADD COLUMN embedding vector(16)");
    site.until_state("notes", "blocked: the vector column");
    assert_eq!(site.db.int("SELECT count(embedding) FROM notes"), 0, "another column of that name");
    midway(&mut site, "ALTER TABLE notes DROP COLUMN body CASCADE");
    site.until_state("notes", "blocked: the input column");
    midway(&mut site, "ALTER TABLE notes DROP CONSTRAINT notes_pkey");
    site.until_state("notes", "blocked: table \"notes\" has no primary key");
    site.db.run("ALTER TABLE notes ADD PRIMARY KEY (id)");
    assert_eq!(site.settle("notes", "body"), 10, "what was queued before is not lost");
    // Another table of that name, with the same keys.
    midway(
        &mut site,
        "DROP TABLE notes; CREATE TABLE notes (id int PRIMARY KEY, body text); SELECT autoembed.enable('notes', 'body', 'stub', index => 'none'); \
         INSERT INTO notes SELECT i, 'another ' || i FROM generate_series(1, 10) i",
    );
    assert_eq!(site.settle("notes", "body"), 10);
    midway(&mut site, "DROP TABLE notes");
    site.db.until("SELECT count(*) FROM autoembed.status", "1", PATIENCE);
    site.db.until("SELECT count(*) FROM autoembed.job", "0", PATIENCE);
    assert_eq!(site.db.int("SELECT count(*) FROM autoembed.failed_jobs"), 0);
    assert_eq!(site.status("state", "messages"), "active");
}

/// Policies that come between the reading of the texts and the writing of the vectors, for an owner who is subject to them.
#[test]
fn g32_policies_that_come_midway() {
    let mut site = Site::with_messages();
    site.db.run("CREATE ROLE alice NOBYPASSRLS; CREATE ROLE carol BYPASSRLS");
    for policy in
        ["FOR ALL USING (false)", "FOR SELECT USING (id > 5)", "FOR UPDATE USING (id > 5)", "FOR ALL USING (true)"]
    {
        midway(
            &mut site,
            &format!(
                "ALTER TABLE notes OWNER TO alice; ALTER TABLE notes ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; CREATE POLICY p ON notes {policy}"
            ),
        );
        let state = site.until_state("notes", "blocked: ");
        assert!(state.contains("row-level security"), "{policy}: {state}");
        site.db.until(
            "SELECT pending + in_flight FROM autoembed.status WHERE source = 'notes'::regclass",
            "10",
            PATIENCE,
        );
        assert_eq!(site.failed("notes"), 0);
        // Lifted, or given to somebody whom they do not bind.
        let lifted = if policy.contains("ALL") { "NO FORCE ROW LEVEL SECURITY" } else { "OWNER TO carol" };
        site.db.run(&format!("ALTER TABLE notes {lifted}"));
        assert_eq!(site.settle("notes", "body"), 10, "{policy}");
        site.until_state("notes", "active");
    }
    // Without FORCE, they do not bind the owner.
    midway(
        &mut site,
        "ALTER TABLE notes OWNER TO alice; ALTER TABLE notes ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON notes USING (false)",
    );
    assert_eq!(site.settle("notes", "body"), 10);
    assert_eq!((site.failed("notes"), site.status("state", "notes")), (0, "active".to_owned()));
}

/// Nothing that FORCE hides from a backfill is passed over, and a row that is gone meanwhile ends.
#[test]
fn g32_a_backfill_under_policies() {
    let mut site = Site::with_messages();
    site.db.run(
        "CREATE ROLE alice NOBYPASSRLS; CREATE TABLE notes (id int PRIMARY KEY, body text);
         INSERT INTO notes SELECT i, 'note ' || i FROM generate_series(1, 500) i",
    );
    site.enable("notes", "body", "index => 'none', backfill => false");
    site.db
        .run("ALTER TABLE notes OWNER TO alice; SELECT autoembed.pause('notes'); SELECT autoembed.backfill('notes')");
    site.db.run("ALTER TABLE notes ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; CREATE POLICY half ON notes USING (id % 2 = 0)");
    // It would end with the last row that the owner sees.
    site.db.error("SELECT autoembed.backfill('notes')").assert("42501", "row-level security");
    site.db.run("DELETE FROM notes WHERE id > 490; SELECT autoembed.resume('notes')");
    site.until_state("notes", "blocked: the table could not be read");
    site.db.run("ALTER TABLE notes NO FORCE ROW LEVEL SECURITY");
    assert_eq!(site.settle("notes", "body"), 490);
    site.until_idle("notes");
    assert_eq!(site.failed("notes"), 0);
}
