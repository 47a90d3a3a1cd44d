//! What a search of chunks gives: for keys of every kind and name, the row's nearest chunk, and what is wrong where the chunk table was changed.

use autoembed_tests::site::PATIENCE;
use autoembed_tests::{Db, Site};

fn done(site: &mut Site, table: &str) {
    assert!(site.db.yes(&format!("SELECT autoembed.wait('{table}', '30 s')")));
}

/// A key that cannot be NULL, also where fewer rows are found than were asked for, or none.
#[test]
fn a_key_that_is_never_null() {
    let mut site = Site::new();
    site.db.run(
        "CREATE DOMAIN slug AS text NOT NULL; CREATE TABLE docs (s slug PRIMARY KEY, body text);
         INSERT INTO docs SELECT 'k' || i, 'text ' || i FROM generate_series(1, 5) i",
    );
    site.enable("docs", "body", "chunk_size => 20");
    done(&mut site, "docs");
    for (arguments, found) in [
        (r#"'hello', filter => '{"s": "k2"}'"#, 1),
        (r#"'hello', filter => '{"s": "none"}'"#, 0),
        ("'hello'", 5),
        ("'hello', 3", 3),
        ("'hello', 0", 0),
        ("'hello', NULL", 5),
        ("'hello', 5, 2", 0),
    ] {
        let sql = format!("SELECT count(DISTINCT s) FROM similar_docs({arguments})");
        assert_eq!(site.db.int(&sql), found, "{arguments}");
    }
}

/// Keys that are called as something in the function is, or as what stands around its body.
#[test]
fn names_of_keys() {
    let mut site = Site::new();
    for name in ["found", "autoembed_hits", "autoembed_row", "sqlstate", "$autoembed$", "a $autoembed$ $$ b"] {
        site.db.run(&format!(
            "CREATE TABLE docs (\"{name}\" int PRIMARY KEY, body text); INSERT INTO docs SELECT i, 'text ' || i FROM generate_series(1, 5) i"
        ));
        site.enable("docs", "body", "chunk_size => 20");
        done(&mut site, "docs");
        for (k, found) in [("3", 3), ("10", 5), ("NULL", 5)] {
            let sql = format!(
                "SELECT count(*) FROM similar_docs('text 4', {k}) s JOIN docs d ON d.\"{name}\" = s.\"{name}\" AND d.body = s.chunk"
            );
            assert_eq!(site.db.int(&sql), found, "{name}, {k}");
        }
        site.db.run("DROP TABLE docs");
    }
}

/// `pages (id, body, folder)`, 2,000 rows of 4 chunks that are near each other, as if they had been embedded.
fn many(key_type: &str) -> Site {
    let mut site = Site::new();
    site.db.run(&format!(
        "CREATE ROLE keeper LOGIN; GRANT CREATE ON SCHEMA public TO keeper; CREATE TABLE pages (id {key_type} PRIMARY KEY, body text, folder int); ALTER TABLE pages OWNER TO keeper"
    ));
    site.enable("pages", "body", "chunk_size => 40, index => 'none'");
    site.db.run("ALTER TABLE pages DISABLE TRIGGER USER; INSERT INTO pages SELECT i, 'x', i % 500 FROM generate_series(1, 2000) i;
         INSERT INTO pages_chunks SELECT i, n, 0, 1, 'x', ARRAY(SELECT v + (random() - 0.5) / 10 + 0 * n FROM unnest(middle) v)::real[]::vector
           FROM (SELECT i, ARRAY(SELECT random() - 0.5 + 0 * i FROM generate_series(1, 16)) AS middle FROM generate_series(1, 2000) i OFFSET 0) r, generate_series(0, 3) n;
         CREATE INDEX pages_chunks_embedding_idx ON pages_chunks USING hnsw (embedding vector_cosine_ops); ANALYZE pages, pages_chunks;
         CREATE ROLE reader LOGIN; GRANT SELECT ON pages, pages_chunks TO reader");
    site
}

/// Of 40 searches for 20 rows: how many rows there are, how many are not shown with their nearest chunk, and how many are before one that is nearer.
fn amiss(db: &mut Db) -> Vec<String> {
    let sql = "SELECT count(*), count(*) FILTER (WHERE chunk_no <> best), count(*) FILTER (WHERE similarity > before) FROM (\
         SELECT s.*, lag(s.similarity) OVER (PARTITION BY q ORDER BY s.n) AS before, \
           (SELECT c.chunk_no FROM pages_chunks c WHERE c.id = s.id ORDER BY c.embedding <=> autoembed.embed('query ' || q, 'stub') LIMIT 1) AS best \
         FROM generate_series(1, 40) q CROSS JOIN LATERAL similar_pages('query ' || q, 20) \
           WITH ORDINALITY AS s (id, chunk, chunk_no, byte_start, byte_end, similarity, n)) r";
    db.rows(sql).remove(0).into_iter().map(Option::unwrap_or_default).collect()
}

/// Each row comes with its nearest chunk, and in the order of these, however little of the index a scan remembers.
#[test]
fn the_nearest_chunk_of_each_row() {
    let mut site = many("int");
    site.db.run("SET hnsw.ef_search = 1");
    assert_eq!(amiss(&mut site.db), ["800", "0", "0"]);
    let mut reader = site.session_as("reader");
    reader.run("SELECT '[1]'::vector; SET hnsw.ef_search = 1");
    assert_eq!(amiss(&mut reader), ["800", "0", "0"]);
    // Who may read columns alone is not told where a chunk is stored.
    site.db.run("REVOKE SELECT ON pages_chunks FROM reader; GRANT SELECT (id, chunk_no, byte_start, byte_end, chunk, embedding) ON pages_chunks TO reader");
    assert_eq!(amiss(&mut reader), ["800", "0", "0"]);
    // Policies that show some rows, few and many.
    site.db.run("GRANT SELECT ON pages_chunks TO reader; ALTER TABLE pages ENABLE ROW LEVEL SECURITY; CREATE POLICY few ON pages USING (folder < 100)");
    assert_eq!(amiss(&mut reader), ["800", "0", "0"]);
    assert_eq!(reader.int("SELECT count(*) FROM similar_pages('x', 900)"), 400);
}

/// A key whose equality might tell what it compares is not asked of before the policy of the chunks is: each row would read them all.
#[test]
fn keys_that_are_not_leakproof() {
    let mut site = many("numeric");
    site.db.run("SET hnsw.ef_search = 1");
    assert_eq!(amiss(&mut site.db), ["800", "0", "0"]);
    let mut reader = site.session_as("reader");
    let read = "SELECT COALESCE(sum(seq_tup_read), 0)::bigint FROM pg_stat_user_tables WHERE relname = 'pages_chunks'";
    let flush = "SELECT pg_stat_force_next_flush()";
    reader.run(flush);
    let before = reader.int(read);
    assert_eq!(reader.int("SELECT count(*) FROM similar_pages('x', 20)"), 20);
    reader.run(flush);
    assert_eq!(reader.int(read), before, "the chunk table was read from its beginning");
}

/// What keeps a search from being made is said with what to do, by a search as by the view.
#[test]
fn a_column_of_the_chunks_that_was_renamed() {
    let mut site = Site::new();
    site.db.run("CREATE TABLE docs (id int PRIMARY KEY, body text); INSERT INTO docs VALUES (1, 'a text')");
    site.enable("docs", "body", "chunk_size => 20");
    done(&mut site, "docs");
    site.db.run("ALTER TABLE docs_chunks RENAME COLUMN chunk TO piece");
    let error = site.db.error("SELECT * FROM similar_docs('a text', 1)");
    error.assert("55000", "has no column \"chunk\" any more");
    assert!(error.hint.to_lowercase().contains("give the column its name again"), "{error:?}");
    site.db.run("UPDATE docs SET body = 'another text'");
    let state = site.until_state("docs", "blocked: ");
    assert!(state.contains("has no column \"chunk\" any more"), "{state}");
    site.db.run("ALTER TABLE docs_chunks RENAME COLUMN piece TO chunk");
    site.db.until("SELECT chunk FROM similar_docs('another text', 1)", "another text", PATIENCE);
}

/// Tables that chunks cannot be made for, or not here.
#[test]
fn what_has_no_chunks() {
    let mut site = Site::new();
    site.db.run(
        "CREATE TABLE late (id int PRIMARY KEY DEFERRABLE, body text); CREATE TABLE docs (id int PRIMARY KEY, body text, title text)",
    );
    let error = site.db.error("SELECT autoembed.enable('late', 'body', chunk_size => 20)");
    error.assert("0A000", "deferrable");
    assert!(error.hint.contains("ADD PRIMARY KEY"), "{error:?}");
    site.enable("docs", "body", "chunk_size => 20, chunk_table => 'docs_pieces'");
    let second = "SELECT autoembed.enable('docs', 'title', 'stub', embedding => 'second', chunk_size => 20, chunk_table => 'docs_pieces')";
    let error = site.db.error(second);
    error.assert("42P07", "it is the chunk table of another vectorizer");
    assert!(!error.hint.to_lowercase().contains("drop") && error.hint.contains("another name"), "{error:?}");
}

/// Whatever a search finds, nothing of it is left open in the transaction: the caller may alter the table, and search as often as he likes.
#[test]
fn nothing_stays_open() {
    let mut site = Site::new();
    site.db.run("CREATE TABLE docs (id int PRIMARY KEY, body text); INSERT INTO docs SELECT i, 'text ' || i FROM generate_series(1, 20) i; CREATE ROLE reader LOGIN");
    site.enable("docs", "body", "chunk_size => 20");
    done(&mut site, "docs");
    site.db.run("GRANT SELECT (id, body) ON docs TO reader; GRANT SELECT (id, chunk_no, byte_start, byte_end, chunk, embedding) ON docs_chunks TO reader");
    let mut reader = site.session_as("reader");
    for db in [&mut site.db, &mut reader] {
        db.run("BEGIN");
        for (arguments, found) in [
            ("'text 3', 5", 5),
            ("'text 3', 50", 20),
            (r#"'text 3', 5, filter => '{"id": [1, 2]}'"#, 2),
            (r#"'text 3', 5, filter => '{"id": 0}'"#, 0),
            ("'text 3', 5, 2", 0),
            ("'text 3', 0", 0),
            ("'text 3', NULL", 20),
        ] {
            assert_eq!(db.int(&format!("SELECT count(*) FROM similar_docs({arguments})")), found, "{arguments}");
            assert_eq!(db.int("SELECT count(*) FROM pg_cursors WHERE name <> ''"), 0, "{arguments}");
        }
        db.run("COMMIT");
    }
    site.db.run("BEGIN; SELECT FROM similar_docs('text 3', 50); ALTER TABLE docs ADD COLUMN note text; TRUNCATE docs CASCADE; COMMIT");
}
