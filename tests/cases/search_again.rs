//! A session that searches again and again keeps a plan: whatever changes meanwhile counts in the next search.

use autoembed_tests::site::PATIENCE;
use autoembed_tests::{Db, Site};

const ROWS: usize = 600;

fn scene() -> Site {
    let mut site = Site::new();
    site.db.run("CREATE ROLE reader LOGIN BYPASSRLS; CREATE TABLE notes (id int PRIMARY KEY, tenant text, body text)");
    site.enable("notes", "body", "index => 'none'");
    site.db.run(&format!(
        "GRANT SELECT ON notes TO reader;
         INSERT INTO notes SELECT i, CASE WHEN i % 2 = 0 THEN 'red' ELSE 'blue' END, 'note ' || i FROM generate_series(1, {ROWS}) i"
    ));
    site.db.until("SELECT count(embedding) FROM notes", &ROWS.to_string(), PATIENCE);
    site.db.run("CREATE INDEX nearest ON notes USING hnsw (embedding vector_cosine_ops)");
    site.db.run("VACUUM ANALYZE notes");
    site
}

fn found(db: &mut Db, sql: &str) -> Vec<String> {
    db.column(&format!("SELECT id FROM {sql}"))
}

/// Rights, policies, roles, names and types: as of each search, in a session that has searched before, also through a statement of its own.
#[test]
fn what_changes_between_two_searches() {
    const SEARCH: &str = "similar_notes('note 8', 3)";
    let mut site = scene();
    let mut reader = site.session_as("reader");
    reader.run(&format!("PREPARE again AS SELECT id FROM {SEARCH}"));
    let whole = found(&mut reader, SEARCH);
    assert_eq!(whole.len(), 3);
    assert_eq!(whole[0], "8");
    let again = |reader: &mut Db| {
        let found = found(reader, SEARCH);
        assert_eq!(reader.column("EXECUTE again"), found);
        found
    };
    assert_eq!(again(&mut reader), whole);
    site.db.run("REVOKE SELECT ON notes FROM reader");
    reader.error(&format!("SELECT id FROM {SEARCH}")).assert("42501", "notes");
    reader.error("EXECUTE again").assert("42501", "notes");
    site.db.run("GRANT SELECT ON notes TO reader");
    assert_eq!(again(&mut reader), whole);
    // No policy counts for the reader, until the role is changed: of that no session is told.
    site.db.run("ALTER TABLE notes ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON notes USING (tenant = 'blue')");
    assert_eq!(again(&mut reader), whole);
    site.db.run("ALTER ROLE reader NOBYPASSRLS");
    let blue = again(&mut reader);
    assert!(blue.len() == 3 && blue.iter().all(|id| id.parse::<usize>().unwrap() % 2 == 1), "{blue:?}");
    site.db.run("ALTER ROLE reader BYPASSRLS");
    assert_eq!(again(&mut reader), whole);
    // As another role in the same session.
    site.db.run("CREATE ROLE stranger; GRANT stranger TO reader");
    reader.run("SET ROLE stranger");
    reader.error(&format!("SELECT id FROM {SEARCH}")).assert("42501", "notes");
    reader.error("EXECUTE again").assert("42501", "notes");
    reader.run("RESET ROLE");
    site.db.run("ALTER TABLE notes RENAME COLUMN body TO words; ALTER TABLE notes RENAME COLUMN embedding TO vector");
    assert_eq!(again(&mut reader), whole);
    site.db.run("ALTER TABLE notes RENAME TO remarks; DROP INDEX nearest");
    assert_eq!(again(&mut reader), whole);
    site.db.run("DELETE FROM remarks WHERE id = 8");
    assert!(!again(&mut reader).contains(&"8".to_owned()));
    site.db.run("ALTER TABLE remarks DROP CONSTRAINT notes_pkey, ADD PRIMARY KEY (id, tenant)");
    reader.error(&format!("SELECT id FROM {SEARCH}")).assert("55000", "another primary key");
}

/// The rows are the same ones whatever is asked besides, and in whichever way they are read.
#[test]
fn one_search_asked_for_in_many_ways() {
    let mut site = scene();
    let db = &mut site.db;
    let exact = |db: &mut Db, k: usize| {
        let exact = format!(
            "SELECT id FROM notes ORDER BY (embedding <=> autoembed.embed('note 8', 'stub')) + 0.0, id LIMIT {k}"
        );
        let mut ids = db.column(&exact);
        ids.sort();
        ids
    };
    for k in [1, 2, 3, 5, 8, 13, 40, 41, 100, 1] {
        let mut found = found(db, &format!("similar_notes('note 8', {k})"));
        assert_eq!(found.len(), k);
        found.sort();
        let exact = exact(db, k);
        let hit = found.iter().filter(|id| exact.contains(id)).count();
        assert!(hit * 10 >= k * 9, "{hit} of {k}");
    }
    assert!(found(db, "similar_notes('note 8', 0)").is_empty());
    assert!(found(db, "similar_notes(NULL, 5)").is_empty());
    assert_eq!(found(db, "similar_notes('note 8', 5, filter => 'null')"), found(db, "similar_notes('note 8', 5)"));
    // A similarity that was shown can be asked for.
    let third = db.text("SELECT similarity FROM similar_notes('note 8', 10) ORDER BY similarity DESC OFFSET 2 LIMIT 1");
    assert_eq!(found(db, &format!("similar_notes('note 8', 10, {third})")).len(), 3);
    // Called for each row of another table, with a subquery, and outside of FROM.
    let each = "SELECT count(*) FROM generate_series(1, 5) n CROSS JOIN LATERAL similar_notes('note ' || n, 1) s WHERE s.id = n";
    assert_eq!(db.int(each), 5);
    assert_eq!(found(db, "similar_notes((SELECT 'note ' || 8), 1)"), ["8"]);
    assert_eq!(db.text("SELECT (similar_notes('note 8', 1)).id"), "8");
    // The index is read, and is not where the session does not want it: in the session that has a plan.
    let scans = |db: &mut Db| {
        const READ: &str = "SELECT seq_scan, idx_scan FROM pg_stat_xact_user_tables WHERE relname = 'notes'";
        let number = |row: &Vec<Option<String>>, place: usize| row[place].clone().unwrap().parse::<i64>().unwrap();
        let before = db.rows(READ);
        assert_eq!(found(db, "similar_notes('note 8', 3)")[0], "8");
        let after = db.rows(READ);
        [0, 1].map(|place| number(&after[0], place) - number(&before[0], place))
    };
    db.run("BEGIN; SET LOCAL enable_seqscan = off");
    assert_eq!(scans(db), [0, 1]);
    db.run("SET LOCAL enable_seqscan = on; SET LOCAL enable_indexscan = off");
    assert_eq!(scans(db), [1, 0]);
    db.run("COMMIT");
    // Rows that the index does not lead to are found nevertheless.
    db.run("DELETE FROM notes WHERE id > 4");
    assert_eq!(found(db, "similar_notes('note 8', 4)").len(), 4);
    assert_eq!(found(db, "similar_notes('note 8', 5)").len(), 4);
}

/// The functions hold the types of the key, not their names: renamed, also in a session that has searched, and given away by a dump.
#[test]
fn types_of_the_key_that_are_renamed() {
    let mut site = Site::new();
    site.db.run(
        "CREATE SCHEMA kinds; CREATE TYPE kinds.mood AS ENUM ('good', 'bad'); CREATE DOMAIN kinds.number AS int;
         CREATE TABLE diary (day kinds.number, mood kinds.mood, words text, PRIMARY KEY (day, mood))",
    );
    site.enable("diary", "words", "");
    site.db.run("INSERT INTO diary SELECT i, 'good', 'day ' || i FROM generate_series(1, 20) i");
    site.db.until("SELECT count(embedding) FROM diary", "20", PATIENCE);
    let searches = [
        "similar_diary('day 7', 1)",
        "similar_diary('day 7', 1, filter => '{\"mood\": \"good\"}')",
        "similar_diary_to(7, 'good', 1)",
    ];
    let find = |db: &mut Db| searches.map(|search| db.column(&format!("SELECT day FROM {search}")));
    let first = find(&mut site.db);
    assert_eq!(first[0], ["7"]);
    for change in [
        "ALTER TYPE kinds.mood RENAME TO moods; ALTER DOMAIN kinds.number RENAME TO numbers",
        "ALTER SCHEMA kinds RENAME TO sorts",
        "CREATE SCHEMA \"it's $a$\"; ALTER TYPE sorts.moods SET SCHEMA \"it's $a$\"",
        "ALTER TYPE \"it's $a$\".moods RENAME TO \" odd \"\"name; \"",
        // What is called so now has nothing to do with it.
        "CREATE SCHEMA kinds; CREATE TYPE kinds.mood AS ENUM ('sad'); CREATE DOMAIN kinds.number AS text",
    ] {
        site.db.run(change);
        assert_eq!(find(&mut site.db), first, "{change}");
        assert_eq!(find(&mut site.session()), first, "{change}");
        assert!(site.db.int("SELECT autoembed.enable('diary', 'words', model => 'stub')") > 0, "{change}");
    }
    // It goes with the extension, which needs no CASCADE for it, and with the type, as any function that gives it.
    const THERE: &str = "SELECT count(*) FROM pg_proc WHERE proname IN ('similar_diary', 'similar_diary_to')";
    assert_eq!(site.db.int(THERE), 2);
    site.db.run("BEGIN; DROP EXTENSION autoembed");
    assert_eq!(site.db.int(THERE), 0);
    site.db.run("ROLLBACK; BEGIN; DROP SCHEMA \"it's $a$\" CASCADE");
    assert_eq!(site.db.int(THERE), 0);
    site.db.run("ROLLBACK; CREATE VIEW found AS SELECT day FROM similar_diary('day 7')");
    assert_eq!(site.db.error("DROP EXTENSION autoembed").code, "2BP01");
    site.db.run("BEGIN; DROP EXTENSION autoembed CASCADE; ROLLBACK; DROP VIEW found; DROP TABLE diary");
    assert_eq!(site.db.int(THERE), 0);
}

/// What a session remembers of a model is not taken for true where another model's row has come to lie in its place.
#[test]
fn models_whose_rows_have_moved() {
    let mut site = Site::new();
    site.db.run("BEGIN");
    site.create_model("first", "");
    site.create_model("second", "");
    site.db.run("COMMIT");
    for model in ["first", "second"] {
        site.db.run(&format!(
            "CREATE TABLE of_{model} (id int PRIMARY KEY, words text);
             SELECT autoembed.enable('of_{model}', 'words', model => '{model}', index => 'none');
             INSERT INTO of_{model} SELECT i, 'word ' || i FROM generate_series(1, 30) i"
        ));
        site.db.until(&format!("SELECT count(embedding) FROM of_{model}"), "30", PATIENCE);
    }
    let place = |db: &mut Db, model: &str| {
        db.text(&format!("SELECT format('%s by %s', ctid, xmin) FROM autoembed.models WHERE name = '{model}'"))
    };
    let find = |db: &mut Db, model: &str| {
        db.column(&format!("SELECT format('%s: %s', id, similarity) FROM similar_of_{model}('word 5', 4)"))
    };
    let old = place(&mut site.db, "first");
    let by_cosine = find(&mut site.db, "first");
    assert_eq!(by_cosine, find(&mut site.db, "second"));
    let mut other = site.session();
    other.run("UPDATE autoembed.models SET options = '{\"metric\": \"l2\"}' WHERE name = 'first'");
    // The row is gone from its place for good when nobody can see it any more.
    for _ in 0..100 {
        other.run("VACUUM FULL autoembed.models");
        if place(&mut other, "second") == old {
            break;
        }
    }
    assert_eq!(place(&mut other, "second"), old, "the scene is not the one that is meant");
    let by_length = find(&mut other, "first");
    assert_ne!(by_length, by_cosine);
    assert_eq!(find(&mut site.db, "first"), by_length);
    assert_eq!(find(&mut site.db, "second"), by_cosine);
}

/// A session that searches as many roles, and for many numbers of rows, has no more plans than it can hold.
#[test]
fn plans_of_many_roles() {
    const ROLES: usize = 40;
    const PLANS: &str = "SELECT count(*) FROM pg_backend_memory_contexts WHERE name = 'CachedPlanSource' AND ident LIKE '%autoembed_d FROM %LIMIT%'";
    let mut site = scene();
    let mut found = 0;
    // Grants have every session look at the table anew.
    for role in 0..ROLES {
        site.db.run(&format!("CREATE ROLE r{role}; GRANT SELECT ON notes TO r{role}"));
    }
    for role in 0..ROLES {
        site.db.run(&format!("SET ROLE r{role}"));
        for k in 1..=4 {
            found += site.db.int(&format!("SELECT count(*) FROM similar_notes('note 8', {k})"));
        }
        site.db.run("RESET ROLE");
        assert!(site.db.int(PLANS) > 0);
    }
    assert_eq!(found, 10 * ROLES as i64);
    let plans = site.db.int(PLANS);
    assert!((4..=65).contains(&plans), "{plans} plans of {}", 4 * ROLES);
}

/// Where the index is over halfvec, twice as many candidates and ten are looked at, also where its first pass has found fewer.
#[test]
fn as_many_candidates_as_are_there() {
    const COSTS: &str = "SELECT idx_scan FROM pg_stat_xact_user_tables WHERE relname = 'notes'";
    let mut site = Site::builder().dims(2100).start();
    site.db.run("CREATE TABLE notes (id int PRIMARY KEY, body text)");
    site.enable("notes", "body", "index => 'none'");
    site.db.run("INSERT INTO notes SELECT i, 'note ' || i FROM generate_series(1, 100) i");
    site.db.until("SELECT count(embedding) FROM notes", "100", PATIENCE);
    site.db.run(
        "CREATE INDEX nearest ON notes USING hnsw ((embedding::halfvec(2100)) halfvec_cosine_ops); ANALYZE notes;
         SET enable_seqscan = off; SET enable_sort = off",
    );
    let scans = |db: &mut Db| {
        db.run("BEGIN");
        let before = db.int(COSTS);
        let found = found(db, "similar_notes('note 8', 10)");
        let scans = db.int(COSTS) - before;
        db.run("COMMIT");
        (found, scans)
    };
    let (all, few) = scans(&mut site.db);
    assert_eq!((all.len(), few), (10, 1), "one pass gives 40, of which 30 are looked at");
    // Of the 40 that it gives now 18 are left: enough rows, but not enough candidates.
    site.db.run("DELETE FROM notes WHERE id IN (SELECT id FROM notes ORDER BY embedding <=> autoembed.embed('note 8', 'stub') OFFSET 5 LIMIT 22)");
    let (left, more) = scans(&mut site.db);
    let exact = site
        .db
        .column("SELECT id FROM notes ORDER BY (embedding <=> autoembed.embed('note 8', 'stub')) + 0.0 LIMIT 10");
    assert_eq!(left, exact);
    assert!(more > 1, "the first pass was taken for all");
}

/// Each partition has an index of its own, and one that ends early leaves out rows that the others' do not make up for.
#[test]
fn partitions_whose_indexes_end_early() {
    const ROWS: usize = 600;
    const NEAR: &str = "ORDER BY (embedding <=> autoembed.embed('note 8', 'stub')) + 0.0";
    let mut site = Site::new();
    site.db.run(
        "CREATE TABLE notes (id int PRIMARY KEY, body text) PARTITION BY RANGE (id);
         CREATE TABLE lower PARTITION OF notes FOR VALUES FROM (0) TO (561); CREATE TABLE upper PARTITION OF notes FOR VALUES FROM (561) TO (1000)",
    );
    site.enable("notes", "body", "index => 'none'");
    site.db.run(&format!("INSERT INTO notes SELECT i, 'note ' || i FROM generate_series(1, {ROWS}) i"));
    site.db.until("SELECT count(embedding) FROM notes", &ROWS.to_string(), PATIENCE);
    site.db
        .run("CREATE INDEX ON notes USING hnsw (embedding vector_cosine_ops); ANALYZE notes; SET enable_seqscan = off");
    assert_eq!(found(&mut site.db, "similar_notes('note 8', 1)"), ["8"]);
    // Of the 40 rows that the first pass gives of the lower one a single one is left.
    site.db.run(&format!("DELETE FROM lower WHERE id IN (SELECT id FROM lower {NEAR} OFFSET 1 LIMIT 45)"));
    let exact = site.db.column(&format!("SELECT id FROM notes {NEAR} LIMIT 20"));
    assert!(exact.iter().filter(|id| id.parse::<usize>().unwrap() <= 560).count() > 5, "{exact:?}");
    let near = found(&mut site.db, "similar_notes('note 8', 20)");
    let hit = near.iter().filter(|id| exact.contains(id)).count();
    assert!(hit >= 18, "{hit} of 20: {near:?} instead of {exact:?}");
}
