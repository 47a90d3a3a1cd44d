//! What is around chunks: searches, who may see them, what `enable` takes, and what becomes of them when tables change.

use autoembed_stub::hashed_vector;
use autoembed_tests::db::literal;
use autoembed_tests::site::{DATABASE, PATIENCE};
use autoembed_tests::vectors::{parse, same};
use autoembed_tests::{Db, Site};

/// A text of paragraphs, each of which is a chunk of its own.
fn text(paragraphs: &[String]) -> String {
    let filled = |words: &String| {
        format!("{words} begins here, with a few more words that say what {words} is about, as one does in {words}.")
    };
    paragraphs.iter().map(filled).collect::<Vec<_>>().join("\n\n")
}

fn paragraph(words: &str) -> String {
    text(&[words.to_owned()])
}

/// `pages`: 60 rows of 4 chunks in 3 folders; paragraph 2 of row 7 is "needle".
fn pages(more: &str) -> Site {
    let mut site = Site::new();
    site.db.run("CREATE TABLE pages (id int PRIMARY KEY, body text, folder text)");
    site.enable("pages", "body", &format!("chunk_size => 40{more}"));
    for id in 0..60 {
        let names: Vec<String> = (0..4)
            .map(|n| if (id, n) == (7, 2) { "needle".to_owned() } else { format!("page {id} part {n}") })
            .collect();
        site.db.run(&format!("INSERT INTO pages VALUES ({id}, {}, 'f{}')", literal(&text(&names)), id % 3));
    }
    done(&mut site);
    site
}

fn done(site: &mut Site) {
    site.db.until("SELECT count(*) FROM pages p WHERE p.body IS NOT NULL AND NOT EXISTS (SELECT FROM pages_chunks c WHERE c.id = p.id)", "0", PATIENCE);
    site.until_idle("pages");
}

#[test]
fn each_row_once_with_its_best_chunk() {
    let mut site = pages("");
    let query = literal(&paragraph("needle"));
    let best = site
        .db
        .rows(&format!(
            "SELECT id, chunk, chunk_no, byte_start, byte_end, similarity > 0.999 FROM similar_pages({query}, 1)"
        ))
        .remove(0);
    let body = site.db.text("SELECT body FROM pages WHERE id = 7");
    let (start, end): (usize, usize) =
        (best[3].as_ref().unwrap().parse().unwrap(), best[4].as_ref().unwrap().parse().unwrap());
    assert_eq!(best[0].as_deref(), Some("7"));
    assert_eq!(best[2].as_deref(), Some("2"));
    assert_eq!(best[5].as_deref(), Some("t"));
    assert_eq!(best[1].as_deref(), Some(&body[start..end]));
    assert_eq!(&body[start..end], paragraph("needle"));
    // The exact ranking: each row by its nearest chunk.
    let exact = "SELECT id FROM (SELECT DISTINCT ON (id) id, embedding <=> autoembed.embed($q, 'stub') AS d FROM pages_chunks ORDER BY id, d) s ORDER BY d LIMIT 20";
    for q in ["needle", "page 3 part 1", "something else"] {
        let exact = site.db.column(&exact.replace("$q", &literal(q)));
        for how in ["on", "off"] {
            site.db.run(&format!("SET enable_seqscan = {how}; SET enable_sort = {how}"));
            let found = site.db.column(&format!("SELECT id FROM similar_pages({}, 20)", literal(q)));
            assert_eq!(found, exact, "{q}, seqscan {how}");
        }
        site.db.run("RESET enable_seqscan; RESET enable_sort");
        let all = site.db.column(&format!("SELECT id FROM similar_pages({}, NULL)", literal(q)));
        assert_eq!((all.len(), &all[..20]), (60, &exact[..]), "{q}");
        assert_eq!(site.db.column(&format!("SELECT id FROM similar_pages({}, 5000)", literal(q))), all);
    }
    let mut count = |arguments: &str| {
        site.db.int(&format!("SELECT count(DISTINCT id) * 1000 + count(*) FROM similar_pages({arguments})"))
    };
    assert_eq!(count("'x'"), 10_010);
    assert_eq!(count("'x', 0"), 0);
    assert_eq!(count("'x', 60"), 60_060);
    assert_eq!(count("'x', 100"), 60_060);
    assert_eq!(count(&format!("{query}, 10, 0.999")), 1001);
    assert_eq!(count(&format!("{query}, NULL, 0.999")), 1001);
    assert_eq!(count(r#"'x', 60, filter => '{"folder": "f1"}'"#), 20_020);
    assert_eq!(count(r#"'x', NULL, filter => '{"folder": ["f1", "f2"]}'"#), 40_040);
    assert_eq!(count(r#"'x', 10, filter => '{"id": [1, 2, 3]}'"#), 3003);
    site.db.error(r#"SELECT * FROM similar_pages('x', filter => '{"chunk_no": 1}')"#).assert("42703", "chunk_no");
    site.db.error("SELECT * FROM similar_pages('x', mode => 'hybrid')").assert("0A000", "hybrid");
    site.db.error("SELECT * FROM similar_pages('x', -1)").assert("22023", "k is negative");
    // Names are followed, in sessions that have searched before.
    site.db.run("ALTER TABLE pages_chunks RENAME TO bits; ALTER TABLE bits RENAME embedding TO v; ALTER TABLE bits RENAME id TO page");
    site.db.run("ALTER TABLE pages RENAME folder TO drawer; ALTER TABLE pages RENAME id TO nr");
    assert_eq!(site.db.int(&format!(r#"SELECT id FROM similar_pages({query}, 1, filter => '{{"drawer": "f1"}}')"#)), 7);
    site.db.run(&format!("UPDATE pages SET body = {} WHERE nr = 3", literal(&paragraph("another needle"))));
    site.db.until("SELECT string_agg(chunk, '') LIKE 'another needle%' FROM bits WHERE page = 3", "t", PATIENCE);
}

/// One row has all the pieces that are nearest: the others are found behind them.
#[test]
fn many_chunks_of_one_row() {
    let mut site = Site::new();
    site.db.run("CREATE TABLE pages (id int PRIMARY KEY, body text)");
    site.enable("pages", "body", "chunk_size => 40, backfill => false");
    let near = paragraph("needle");
    // The same again and again, and many that are not: the index does not lead from the ones to all of the others.
    let others: Vec<String> =
        (0..400).map(|n| if n % 2 == 0 { "needle".to_owned() } else { format!("part {n}") }).collect();
    site.db.run(&format!("INSERT INTO pages VALUES (1, {})", literal(&text(&others))));
    for id in 2..40 {
        site.db.run(&format!("INSERT INTO pages VALUES ({id}, {})", literal(&paragraph(&format!("page {id}")))));
    }
    done(&mut site);
    site.db.run("ANALYZE pages, pages_chunks");
    for seqscan in ["on", "off"] {
        site.db.run(&format!("SET enable_seqscan = {seqscan}; SET enable_sort = {seqscan}"));
        for k in [5, 39, 50] {
            let found = site.db.column(&format!("SELECT id FROM similar_pages({}, {k})", literal(&near)));
            assert_eq!((found.len(), found[0].as_str()), (k.min(39), "1"), "seqscan {seqscan}: {found:?}");
        }
        let best = format!("SELECT count(*) FROM similar_pages({}, 50, 0.999)", literal(&near));
        assert_eq!(site.db.int(&best), 1);
    }
}

/// The index is used, for the first rows of many.
#[test]
fn the_index_is_used() {
    let mut site = Site::new();
    site.db.run("CREATE TABLE pages (id int PRIMARY KEY, body text, folder int)");
    site.enable("pages", "body", "chunk_size => 40, index => 'none'");
    site.db.run("ALTER TABLE pages DISABLE TRIGGER USER; INSERT INTO pages SELECT i, 'x', i % 500 FROM generate_series(1, 2000) i;
         INSERT INTO pages_chunks SELECT 1 + i % 2000, i / 2000, 0, 1, 'x', ARRAY(SELECT random() + 0 * i FROM generate_series(1, 16))::real[]::vector FROM generate_series(0, 7999) i;
         CREATE INDEX pages_chunks_embedding_idx ON pages_chunks USING hnsw (embedding vector_cosine_ops); CREATE INDEX ON pages (folder); ANALYZE pages, pages_chunks");
    let used = |site: &mut Site| {
        site.db.int("SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname LIKE 'pages_chunks_embedding%'")
    };
    site.db.run("SELECT pg_stat_force_next_flush()");
    let before = used(&mut site);
    for k in [1, 10, 100] {
        assert_eq!(site.db.int(&format!("SELECT count(*) FROM similar_pages('x', {k})")), k);
    }
    site.db.run("SELECT pg_stat_force_next_flush()");
    assert_eq!(used(&mut site), before + 3);
    // The rows that a filter lets through are found, and not more.
    assert_eq!(site.db.int(r#"SELECT count(*) FROM similar_pages('x', 100, filter => '{"folder": 7}')"#), 4);
}

/// Two tenants under row security: chunks are shown to those alone who see their rows, though the source gets its policies later.
#[test]
fn g36_chunks_are_seen_with_their_rows() {
    let mut site = Site::new();
    site.db.run("CREATE ROLE keeper LOGIN; CREATE ROLE red LOGIN; CREATE ROLE blue LOGIN; CREATE ROLE other LOGIN; GRANT CREATE ON SCHEMA public TO keeper; ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO other; ALTER DEFAULT PRIVILEGES FOR ROLE keeper GRANT SELECT ON TABLES TO PUBLIC");
    let mut keeper = site.session_as("keeper");
    keeper.run(
        "CREATE TABLE pages (id int PRIMARY KEY, tenant name, body text); REVOKE ALL ON pages FROM PUBLIC; GRANT SELECT ON pages TO red, blue;
         INSERT INTO pages SELECT i, (ARRAY['red', 'blue'])[1 + i % 2], 'zanzibar ' || i FROM generate_series(1, 20) i",
    );
    // A superuser makes it for the owner.
    site.enable("pages", "body", "chunk_size => 40");
    done(&mut site);
    assert_eq!(
        site.db.text("SELECT relowner::regrole || ' ' || relrowsecurity FROM pg_class WHERE relname = 'pages_chunks'"),
        "keeper true"
    );
    assert_eq!(keeper.int("SELECT count(*) FROM similar_pages('zanzibar', 50)"), 20);
    let (mut red, mut blue) = (site.session_as("red"), site.session_as("blue"));
    // What the source grants is not granted on the chunks, nor what is granted on all new tables.
    for role in ["red", "other"] {
        let mut session = site.session_as(role);
        assert_eq!(session.error("SELECT count(*) FROM pages_chunks").code, "42501", "{role}");
        assert_eq!(session.error("SELECT * FROM similar_pages('zanzibar')").code, "42501", "{role}");
    }
    keeper.run("GRANT SELECT ON pages_chunks TO red, blue, other");
    let mut other = site.session_as("other");
    assert_eq!(other.error("SELECT count(*) FROM pages_chunks").code, "42501", "the source's own rights count as well");
    let all = [
        "SELECT count(*) FROM pages_chunks",
        "SELECT count(*) FROM similar_pages('zanzibar', 50)",
        "SELECT count(*) FROM similar_pages('zanzibar', NULL)",
    ];
    let seen = |db: &mut Db| all.map(|sql| db.int(sql));
    assert_eq!(seen(&mut red), [20; 3]);
    // The sessions have searched before.
    keeper.run("ALTER TABLE pages ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON pages USING (tenant = current_user)");
    for (db, name) in [(&mut red, "red"), (&mut blue, "blue")] {
        assert_eq!(seen(db), [10; 3], "{name}");
        assert_eq!(db.int("SELECT count(*) FROM similar_pages('zanzibar', 50) s JOIN pages USING (id) WHERE tenant <> current_user"), 0);
        assert_eq!(db.error("DELETE FROM pages_chunks").code, "42501");
        // A function of the reader's is shown nothing before the policy.
        db.run("CREATE FUNCTION pg_temp.look(text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS $$ BEGIN RAISE WARNING 'saw %', $1; IF $1 <> 'x' AND NOT EXISTS (SELECT FROM pages WHERE body LIKE $1 || '%') THEN RAISE 'a leak'; END IF; RETURN true; END $$");
        assert_eq!(db.int("SELECT count(*) FROM pages_chunks WHERE pg_temp.look(chunk)"), 10, "{name}");
    }
    // The owner goes on working, with policies and without.
    keeper.run("UPDATE pages SET body = 'another zanzibar ' || id");
    keeper.until("SELECT count(*) FROM pages_chunks WHERE chunk LIKE 'another%'", "20", PATIENCE);
    keeper.run("DROP POLICY own ON pages; ALTER TABLE pages DISABLE ROW LEVEL SECURITY");
    assert_eq!(seen(&mut blue), [20; 3]);
}

/// What enable() takes, and what it refuses.
#[test]
fn arguments() {
    let mut site = Site::new();
    site.db.run("CREATE TABLE pages (id int PRIMARY KEY, body text); CREATE TABLE pages_chunks (id int); CREATE TABLE parts (id int PRIMARY KEY, body text) PARTITION BY RANGE (id); CREATE TABLE odd (chunk text PRIMARY KEY, body text)");
    let mut error = |call: &str| site.db.error(&format!("SELECT autoembed.enable({call}, model => 'stub')"));
    error("'pages', 'body', chunk_size => 40").assert("42P07", "\"pages_chunks\" already exists");
    error("'pages', 'body', chunk_size => 5, chunk_table => 'c'").assert("22023", "chunk_size cannot be 5");
    error("'pages', 'body', chunk_size => 1000000, chunk_table => 'c'").assert("22023", "takes");
    error("'pages', 'body', chunk_size => 40, chunk_overlap => 21, chunk_table => 'c'")
        .assert("22023", "chunk_overlap");
    error("'pages', 'body', chunk_size => 40, chunk_overlap => -1, chunk_table => 'c'")
        .assert("22023", "chunk_overlap");
    error("'pages', 'body', chunk_overlap => 10").assert("22023", "without chunk_size");
    error("'pages', 'body', chunk_table => 'c'").assert("22023", "without chunk_size");
    error("'pages', 'body', chunk_size => 40, chunk_table => ''").assert("22023", "name is empty");
    error("'pages', 'body', chunk_size => 40, chunk_table => 'c', embedding => 'chunk_no'").assert("42701", "chunk_no");
    error("'odd', 'body', chunk_size => 40").assert("42701", "\"chunk\"");
    error("'parts', 'body', chunk_size => 40").assert("0A000", "partitioned");
    assert_eq!(site.db.int("SELECT count(*) FROM pg_class WHERE relname IN ('c', 'odd_chunks', 'parts_chunks')"), 0);
    let id = site.enable("pages", "body", "chunk_size => 40, chunk_table => 'c'");
    assert_eq!(
        site.enable("pages", "body", "chunk_size => 40, chunk_table => 'c', chunk_overlap => 0"),
        id,
        "the same changes nothing"
    );
    for other in [
        "chunk_size => 41, chunk_table => 'c'",
        "chunk_size => 40, chunk_table => 'd'",
        "chunk_size => 40, chunk_table => 'c', chunk_overlap => 5",
        "",
    ] {
        let comma = if other.is_empty() { "" } else { ", " };
        site.db
            .error(&format!("SELECT autoembed.enable('pages', 'body', model => 'stub'{comma}{other})"))
            .assert("42710", "other arguments");
    }
    // Beside a plain vector column, and a second set of chunks.
    site.enable("pages", "body", "embedding => 'whole'");
    site.enable("pages", "body", "embedding => 'small', chunk_size => 20, chunk_table => 'small'");
    site.db.run("INSERT INTO pages VALUES (1, 'one page')");
    for (sql, count) in [
        ("SELECT count(*) FROM c", "1"),
        ("SELECT count(small) FROM small", "1"),
        ("SELECT count(whole) FROM pages", "1"),
    ] {
        site.db.until(sql, count, PATIENCE);
    }
    // Names as long as names can be.
    let long = "ä".repeat(31);
    site.db.run(&format!(
        "CREATE TABLE \"{long}\" (id int PRIMARY KEY, body text); INSERT INTO \"{long}\" VALUES (1, 'x')"
    ));
    site.enable(&format!("\"{long}\""), "body", "chunk_size => 40");
    site.db.until(
        "SELECT count(*) FROM pg_class WHERE relname LIKE 'ääää%\\_chunks' AND octet_length(relname) <= 63",
        "1",
        PATIENCE,
    );
}

/// Keys of every kind, and names that need quotes.
#[test]
fn keys_of_every_kind() {
    let mut site = Site::new();
    site.db.run(
        "CREATE TYPE mood AS ENUM ('glad', 'sad'); CREATE DOMAIN code AS text COLLATE \"C\" CHECK (VALUE <> ''); CREATE SCHEMA \"odd \"\" one\";
         CREATE TABLE \"odd \"\" one\".\"Pages, all\" (\"Key \"\" one\" varchar(20) COLLATE \"C\", mood mood, code code, at timestamptz, \"Body\" text, PRIMARY KEY (at, \"Key \"\" one\", mood, code));
         CREATE UNLOGGED TABLE fleeting (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), body text)",
    );
    site.enable("\"odd \"\" one\".\"Pages, all\"", "'about ' || \"Body\"", "chunk_size => 40, on_change => 'clear'");
    site.enable("fleeting", "body", "chunk_size => 40");
    site.db.run("SET datestyle = 'SQL, DMY'; SET timezone = 'Asia/Tokyo'");
    site.db.run("INSERT INTO \"odd \"\" one\".\"Pages, all\" SELECT E'k, \"' || i, 'sad', 'c', timestamptz '2020-01-02 03:04:05.678+00' + i * interval '1 day', 'body ' || i FROM generate_series(1, 20) i; INSERT INTO fleeting (body) SELECT 'x ' || i FROM generate_series(1, 5) i");
    let chunks = "\"odd \"\" one\".\"Pages, all_chunks\"";
    let right = format!(
        "SELECT count(*) FROM {chunks} c JOIN \"odd \"\" one\".\"Pages, all\" p USING (at, \"Key \"\" one\", mood, code) WHERE c.chunk = 'about ' || p.\"Body\""
    );
    site.db.until(&right, "20", PATIENCE);
    site.db.until("SELECT count(*) FROM fleeting_chunks", "5", PATIENCE);
    site.db.run("UPDATE \"odd \"\" one\".\"Pages, all\" SET \"Body\" = 'new ' || \"Body\", mood = 'glad' WHERE \"Key \"\" one\" LIKE '%1%'");
    site.db.until(&right, "20", PATIENCE);
    assert_eq!(
        site.db.text("SELECT mood || ' ' || chunk FROM \"odd \"\" one\".\"similar_Pages, all\"('about new body 1', 1)"),
        "glad about new body 1"
    );
    let types = "SELECT string_agg(format_type(atttypid, atttypmod) || coalesce((SELECT ' ' || collname FROM pg_collation WHERE oid = attcollation AND collname <> 'default'), ''), ', ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = '$'::regclass AND attnum BETWEEN 1 AND 4";
    assert_eq!(
        site.db.text(&types.replace('$', chunks)),
        "timestamp with time zone, character varying(20) C, mood, code C"
    );
}

/// DDL on either table, by people.
#[test]
fn g29_tables_that_change() {
    let mut site = pages("");
    assert_eq!(site.db.error("TRUNCATE pages").code, "0A000");
    site.db.run("TRUNCATE pages CASCADE");
    assert_eq!(site.db.int("SELECT count(*) FROM pages_chunks"), 0);
    site.db.run("INSERT INTO pages VALUES (1, 'one', 'f')");
    done(&mut site);
    // Dropped by hand: it is said what to do, writers go on, and what was said works.
    site.db.run("DROP TABLE pages_chunks; UPDATE pages SET body = 'two'");
    let state = site.until_state("pages", "blocked");
    assert!(state.contains("chunk table of table \"pages\" was dropped") && state.contains("disable()"), "{state}");
    site.db.error("SELECT * FROM similar_pages('x')").assert("55000", "was dropped");
    site.db.error("SELECT autoembed.reconcile('pages')").assert("55000", "was dropped");
    site.db.run("SELECT autoembed.disable('pages')");
    site.enable("pages", "body", "chunk_size => 40, on_change => 'clear'");
    done(&mut site);
    site.db.run("DROP TABLE pages_chunks; UPDATE pages SET body = 'three'");
    site.db.run("SELECT autoembed.disable('pages', drop_column => true)");
    site.enable("pages", "body", "chunk_size => 40, on_change => 'clear'");
    done(&mut site);
    // Another name, another column, another schema.
    site.db.run("CREATE SCHEMA shelf; ALTER TABLE pages_chunks SET SCHEMA shelf; ALTER TABLE shelf.pages_chunks RENAME embedding TO v; UPDATE pages SET body = 'four'");
    site.db.until("SELECT chunk FROM shelf.pages_chunks", "four", PATIENCE);
    site.db.until("SELECT embedding FROM autoembed.status", "v", PATIENCE);
    site.db.run("ALTER TABLE shelf.pages_chunks DROP COLUMN v; UPDATE pages SET body = 'five'");
    assert!(site.until_state("pages", "blocked").contains("vector column of the chunk table"));
    site.db.run("SELECT autoembed.disable('pages', 'v', drop_column => true)");
    assert_eq!(site.db.int("SELECT count(*) FROM pg_class WHERE relname = 'pages_chunks'"), 0);
    site.enable("pages", "body", "chunk_size => 40");
    done(&mut site);
    site.db.run("SELECT autoembed.disable('pages')");
    assert_eq!(site.db.int("SELECT count(*) FROM pages_chunks"), 1, "the chunks stay");
    site.db.run("UPDATE pages SET body = 'six'; DELETE FROM pages");
    assert_eq!(site.db.int("SELECT count(*) FROM pages_chunks"), 0);
    site.db.run("DROP TABLE pages_chunks");
    site.enable("pages", "body", "chunk_size => 40");
    site.db.run("DROP TABLE pages");
    assert_eq!(
        site.db.int("SELECT count(*) FROM pg_class WHERE relname = 'pages_chunks'"),
        0,
        "they go with their table"
    );
    site.db.until("SELECT count(*) FROM autoembed.status", "0", PATIENCE);
}

#[test]
fn g34_chunks_come_with_a_dump() {
    let site = pages(", on_change => 'clear'");
    let file = site.cluster.socket_dir().join("dump.sql").display().to_string();
    let run = |site: &Site, name: &str, arguments: &[&str]| {
        let output = site.cluster.tool(name).args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && !said.contains("ERROR") && !said.contains("WARNING"), "{said}");
    };
    run(&site, "pg_dump", &["-d", DATABASE, "-f", &file]);
    site.cluster.client("postgres").run("CREATE DATABASE restored");
    site.stub.reset_stats();
    run(&site, "psql", &["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "restored", "-f", &file]);
    let mut db = site.cluster.client("restored");
    db.run(&format!("UPDATE pages SET body = {} WHERE id = 3", literal(&paragraph("edited"))));
    db.until("SELECT chunk LIKE 'edited%' FROM pages_chunks WHERE id = 3", "t", PATIENCE);
    assert_eq!(site.inputs(), [paragraph("edited")]);
    db.until("SELECT sum(pending + in_flight) FROM autoembed.status", "0", PATIENCE);
    assert_eq!(db.int("SELECT autoembed.reconcile('pages')"), 0);
    assert_eq!(db.int(&format!("SELECT id FROM similar_pages({}, 1)", literal(&paragraph("needle")))), 7);
    for row in db.rows("SELECT chunk, embedding::text FROM pages_chunks") {
        assert!(same(&parse(row[1].as_deref().unwrap()), &hashed_vector(row[0].as_deref().unwrap(), 16)));
    }
    db.run("CREATE ROLE reader LOGIN; GRANT SELECT ON pages_chunks TO reader");
    assert_eq!(site.cluster.client_as("restored", "reader").error("SELECT FROM pages_chunks").code, "42501");
    db.run("SELECT autoembed.disable('pages', drop_column => true)");
    assert_eq!(db.int("SELECT count(*) FROM pg_class WHERE relname = 'pages_chunks'"), 0);
}

/// Code that the table's owner hangs on the chunk table runs as the owner, whoever writes.
#[test]
fn g07_triggers_of_the_chunk_table() {
    let mut site = Site::new();
    site.db.run("CREATE ROLE keeper LOGIN; GRANT CREATE ON SCHEMA public TO keeper");
    let mut keeper = site.session_as("keeper");
    keeper.run("CREATE TABLE pages (id int PRIMARY KEY, body text); CREATE TABLE seen (who name, can_reset boolean)");
    keeper.run("SELECT autoembed.enable('pages', 'body', model => 'stub', chunk_size => 40, on_change => 'clear')");
    keeper.run(
        "CREATE FUNCTION spy() RETURNS trigger LANGUAGE plpgsql AS $$ DECLARE done boolean := true;
         BEGIN BEGIN RESET ROLE; EXCEPTION WHEN OTHERS THEN done := false; END;
         INSERT INTO seen VALUES (current_user, done); RETURN NULL; END $$;
         CREATE TRIGGER spy AFTER INSERT OR DELETE ON pages_chunks FOR EACH ROW EXECUTE FUNCTION spy()",
    );
    site.db.run("INSERT INTO pages VALUES (1, 'one')");
    site.db.until("SELECT count(*) FROM seen", "1", PATIENCE);
    site.db.run("UPDATE pages SET body = 'two'");
    site.db.until("SELECT count(*) FROM seen", "3", PATIENCE);
    assert_eq!(site.db.column("SELECT DISTINCT who || ' ' || can_reset FROM seen"), ["keeper false"]);
    site.db.run("ALTER SYSTEM SET autoembed.max_attempts = 2");
    site.db.run("SELECT pg_reload_conf()");
    // What refuses a chunk fails its row, and is tried again.
    keeper.run("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.chunk LIKE 'bad%' THEN RAISE 'no such chunk'; END IF; IF NEW.chunk LIKE 'gone%' THEN RETURN NULL; END IF; RETURN NEW; END $$; CREATE TRIGGER refuse BEFORE INSERT ON pages_chunks FOR EACH ROW EXECUTE FUNCTION refuse()");
    site.db.run("INSERT INTO pages VALUES (2, 'bad one'), (3, 'good one'), (4, 'gone one')");
    site.db.until(
        "SELECT string_agg(key || ' ' || code, ', ' ORDER BY key) FROM autoembed.failed_jobs",
        "2 P0001, 4 write_suppressed",
        PATIENCE * 2,
    );
    assert_eq!(site.db.column("SELECT id FROM pages_chunks ORDER BY 1"), ["1", "3"]);
}
