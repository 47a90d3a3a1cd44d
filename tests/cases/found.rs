//! A search finds what is there, and says what keeps it from that before the model is called.

use autoembed_tests::{Site, site};

/// Where texts repeat, the graph of the index has islands, and more of them when rows are deleted: what it does not lead to is found all
/// the same.
#[test]
fn rows_that_the_index_does_not_lead_to() {
    const TEXTS: &str = "ARRAY['thank you', 'ok', 'hello', 'yes please', 'no', 'good morning', 'see you tomorrow', 'my parcel never arrived', 'cold soup', 'a train to the sea']";
    let (mut db, _cluster) = site::bare();
    db.run(&format!(
        "CREATE TABLE chat (id int PRIMARY KEY, body text) WITH (autovacuum_enabled = off);
         SELECT autoembed.enable('chat', 'body', text_search => 'english');
         INSERT INTO chat SELECT i, ({TEXTS})[1 + i % 10] FROM generate_series(1, 6000) i"
    ));
    assert!(db.yes("SELECT autoembed.wait('chat', '1 min')"));
    db.run("ANALYZE chat; DELETE FROM chat WHERE body <> 'my parcel never arrived'");
    // The scan of the index alone is short of rows: without that this proves nothing.
    let by_index = |query: &str| {
        format!("SELECT count(*) FROM (SELECT FROM chat ORDER BY embedding <=> autoembed.embed('{query}') LIMIT 50) s")
    };
    db.run("SET hnsw.iterative_scan = 'relaxed_order'; SET enable_seqscan = off; SET enable_sort = off");
    let queries = ["hello", "soup", "ok", "train", "thanks", "morning", "tomorrow", "no"];
    assert!(queries.iter().any(|query| db.int(&by_index(query)) < 50), "the index leads to all rows");
    db.run("RESET enable_seqscan; RESET enable_sort");
    let mut count = |call: &str| db.int(&format!("SELECT count(*) FROM {call}"));
    for query in queries {
        for k in [5, 50] {
            assert_eq!(count(&format!("similar_chat('{query}', {k})")), k, "{query}");
            assert_eq!(count(&format!("similar_chat('{query}', {k}, mode => 'hybrid')")), k, "{query}, hybrid");
        }
    }
    assert_eq!(count("similar_chat('hello', 1000)"), 600);
    assert_eq!(count("similar_chat('hello', 1000, mode => 'hybrid')"), 600);
    assert_eq!(count("similar_chat_to(7, 5)"), 5);
    assert_eq!(count("similar_chat_to(7, 1000)"), 599);
    assert_eq!(count("similar_chat('hello', 0)"), 0);
}

/// A vector of zeros has no direction: its cosine is no number, which is greater than any least similarity.
#[test]
fn a_vector_of_zeros_is_like_nothing() {
    let (mut db, _cluster) = site::bare();
    for (table, more) in [("notes", "text_search => 'english'"), ("pages", "chunk_size => 64")] {
        db.run(&format!(
            "CREATE TABLE {table} (id int PRIMARY KEY, body text); SELECT autoembed.enable('{table}', 'body', {more});
             INSERT INTO {table} VALUES (1, 'the soup was cold'), (2, 'a train to the sea'), (3, 'my parcel never arrived'), (4, 'good morning')"
        ));
    }
    assert!(db.yes("SELECT autoembed.wait(timeout => '1 min')"));
    db.run(
        "UPDATE notes SET embedding = embedding - embedding WHERE id = 3;
         UPDATE pages_chunks SET embedding = embedding - embedding WHERE id = 3",
    );
    for seqscan in ["on", "off"] {
        db.run(&format!("SET enable_seqscan = {seqscan}"));
        for k in ["10", "2000", "NULL"] {
            for call in [
                format!("notes('lost parcel', {k})"),
                format!("notes('lost parcel', {k}, -1)"),
                format!("notes('lost parcel', {k}, filter => '{{\"id\": [1, 2, 3, 4]}}')"),
                format!("notes('nothing of the words', {k}, mode => 'hybrid')"),
                format!("notes('nothing of the words', {k}, -1, mode => 'hybrid')"),
                format!("notes('lost parcel', {k}, -1, mode => 'hybrid')"),
                format!("pages('lost parcel', {k})"),
                format!("pages('lost parcel', {k}, -1)"),
            ] {
                let found = db.column(&format!("SELECT id FROM similar_{call} ORDER BY id"));
                assert_eq!(found, ["1", "2", "4"], "{call}");
            }
            let like = |id: u32| format!("SELECT id FROM similar_notes_to({id}, {k}) ORDER BY id");
            assert_eq!(db.column(&like(1)), ["2", "4"]);
            assert_eq!(db.column(&like(3)), [""; 0]);
        }
    }
    // By its words it is found, as a row without a vector is.
    let by_words =
        "SELECT id || coalesce(similarity::text, ' unknown') FROM similar_notes('parcel', 10, mode => 'hybrid')";
    let found = db.column(by_words);
    assert!(found.len() == 4 && found.contains(&"3 unknown".to_owned()), "{found:?}");
}

/// A filter that cannot be compared is told by its column, before the model is called for the query's vector, and paid for it.
#[test]
fn a_filter_that_does_not_fit_costs_nothing() {
    let mut site = Site::new();
    site.db.run(
        "CREATE TYPE mood AS ENUM ('glad', 'sad'); CREATE DOMAIN small AS int CHECK (value < 10);
         CREATE TABLE docs (id int PRIMARY KEY, body text, size smallint, mood mood, few small, at timestamptz, sizes int[], raw json, place point, page xml, raws json[], more jsonb)",
    );
    site.enable("docs", "body", "");
    // A server may have been built without libxml: its columns of that type are empty.
    let page = if site.db.try_rows("SELECT xmlparse(content '<a/>')").is_ok() { "'<a/>'" } else { "NULL" };
    site.db.run(&format!("INSERT INTO docs VALUES (1, 'one', 5, 'glad', 5, '2001-01-01', '{{5}}', '{{}}', '(1,2)', {page}, '{{}}', '{{\"a\": 1}}'); INSERT INTO docs VALUES (2, 'two')"));
    site.settle("docs", "body");
    site.stub.reset_stats();
    for (code, column, value) in [
        ("22P02", "size", "\"three\""),
        ("22P02", "size", "[1, \"three\"]"),
        ("22P02", "size", "100000"),
        ("22P02", "size", "1.5"),
        ("22P02", "mood", "\"angry\""),
        ("22P02", "few", "11"),
        ("22P02", "few", "[5, 11]"),
        ("22P02", "at", "\"never\""),
        ("22P02", "sizes", "\"three\""),
        ("22P02", "sizes", "[[1]]"),
        ("0A000", "raw", "\"x\""),
        ("0A000", "place", "[\"(1,2)\"]"),
        ("0A000", "page", "\"<a/>\""),
        ("0A000", "raws", "\"x\""),
    ] {
        for call in ["similar_docs('anything new'", "similar_docs_to(1"] {
            let sql = format!("SELECT * FROM {call}, filter => '{{\"{column}\": {value}}}')");
            let error = site.db.error(&sql);
            error.assert(code, &format!("column \"{column}\""));
            assert!(!error.hint.is_empty(), "{sql}: {error:?}");
        }
    }
    assert_eq!(site.inputs(), Vec::<String>::new(), "the model was called");
    let mut found = |filter: &str| site.db.column(&format!("SELECT id FROM similar_docs('x', filter => '{filter}')"));
    assert_eq!(found("{\"size\": \"5\", \"more\": {\"a\": 1}, \"at\": \"2001-01-01\"}"), ["1"]);
    assert_eq!(found("{\"size\": 5, \"mood\": [\"glad\", null], \"few\": 5, \"sizes\": [5, 6]}"), ["1"]);
    assert_eq!(found("{\"raw\": null, \"place\": null, \"page\": null, \"raws\": null}"), ["2"]);
}

/// The search functions have the key as it was when they were made: with another one they say what to do, and doing it helps.
#[test]
fn a_search_after_a_change_of_the_key() {
    let mut site = Site::new();
    for (table, more) in [("notes", ""), ("pages", "chunk_size => 64")] {
        site.db.run(&format!(
            "CREATE TABLE {table} (id int PRIMARY KEY, other int NOT NULL, org text NOT NULL, body text)"
        ));
        site.enable(table, "body", more);
        site.db.run(&format!("INSERT INTO {table} VALUES (1, 11, 'a', 'one'), (2, 12, 'a', 'two')"));
    }
    site.settle("notes", "body");
    site.until_idle("pages");
    site.stub.reset_stats();
    // A name of the key may change: only what it is must stay.
    site.db.run("ALTER TABLE notes RENAME id TO number");
    assert_eq!(site.db.int("SELECT id FROM similar_notes('two', 1)"), 2);
    site.db.run("ALTER TABLE notes RENAME number TO id");
    let drop = "ALTER TABLE notes DROP CONSTRAINT notes_pkey";
    site.stub.reset_stats();
    for (change, to) in [
        (format!("{drop}, ADD PRIMARY KEY (org, id)"), "similar_notes_to(1)"),
        (format!("{drop}, ADD PRIMARY KEY (org)"), "similar_notes_to(1)"),
        (format!("{drop}, ADD PRIMARY KEY (other)"), "similar_notes_to(11)"),
        (drop.to_owned(), "similar_notes_to(1)"),
    ] {
        site.db.run("BEGIN");
        if change.contains("(org)") {
            site.db.run("UPDATE notes SET org = id");
        }
        site.db.run(&change);
        for call in ["similar_notes('never asked')", to] {
            site.db.run("SAVEPOINT s");
            let error = site.db.error(&format!("SELECT * FROM {call}"));
            error.assert("55000", "primary key");
            assert!(error.hint.contains("autoembed.enable()"), "{change}, {call}: {error:?}");
            site.db.run("ROLLBACK TO s");
        }
        site.db.run("ROLLBACK");
    }
    site.db.run("BEGIN; ALTER TABLE pages DROP CONSTRAINT pages_pkey CASCADE, ADD PRIMARY KEY (other)");
    site.db.error("SELECT * FROM similar_pages('never asked')").assert("55000", "primary key");
    site.db.run("ROLLBACK");
    assert_eq!(site.inputs(), Vec::<String>::new(), "the model was called");
    site.db.run(&format!("{drop}, ADD PRIMARY KEY (org, id)"));
    site.db.run("SELECT autoembed.disable('notes')");
    site.enable("notes", "body", "");
    site.settle("notes", "body");
    assert_eq!(site.db.text("SELECT org || id FROM similar_notes('two', 1)"), "a2");
    assert_eq!(site.db.text("SELECT org || id FROM similar_notes_to('a', 1, 1)"), "a2");
    assert!(!site.inputs().contains(&"one".to_owned()), "the vectors did not stay");
}

/// pgvector in a schema of its own: who may not use it is told what to grant, before the model is called.
#[test]
fn a_reader_without_a_right_on_the_schema_of_pgvector() {
    let mut site = Site::new();
    site.db.run(
        "CREATE SCHEMA extensions; ALTER EXTENSION vector SET SCHEMA extensions;
         ALTER DATABASE app SET search_path = public, extensions; SET search_path = public, extensions;
         CREATE ROLE reader LOGIN; CREATE TABLE notes (id int PRIMARY KEY, body text)",
    );
    site.enable("notes", "body", "");
    site.db.run("INSERT INTO notes VALUES (1, 'one'), (2, 'two'); GRANT SELECT ON notes TO reader");
    site.settle("notes", "body");
    site.stub.reset_stats();
    let mut reader = site.session_as("reader");
    for call in ["similar_notes('two', 1)", "similar_notes_to(1, 1)"] {
        let error = reader.error(&format!("SELECT * FROM {call}"));
        error.assert("42501", "schema extensions");
        assert!(error.hint.contains("GRANT USAGE ON SCHEMA \"extensions\""), "{error:?}");
    }
    assert_eq!(site.inputs(), Vec::<String>::new(), "the model was called");
    site.db.run("GRANT USAGE ON SCHEMA extensions TO reader");
    for call in ["similar_notes('two', 1)", "similar_notes_to(1, 1)"] {
        assert_eq!(reader.int(&format!("SELECT id FROM {call}")), 2);
    }
}

/// Grants on columns are enough for a semantic search, and not for a hybrid one, which says so before the model is called.
#[test]
fn a_hybrid_search_with_grants_on_columns() {
    let mut site = Site::new();
    site.db.run("CREATE ROLE reader LOGIN; CREATE TABLE notes (id int PRIMARY KEY, body text, secret text)");
    site.enable("notes", "body", "text_search => 'english'");
    site.db
        .run("INSERT INTO notes VALUES (1, 'one'), (2, 'two'); GRANT SELECT (id, body, embedding) ON notes TO reader");
    site.settle("notes", "body");
    let mut reader = site.session_as("reader");
    assert_eq!(reader.int("SELECT id FROM similar_notes('two', 1)"), 2);
    site.stub.reset_stats();
    let hybrid = "SELECT id FROM similar_notes('number two', 1, mode => 'hybrid')";
    let error = reader.error(hybrid);
    error.assert("42501", "table notes");
    assert!(error.hint.contains("GRANT SELECT"), "{error:?}");
    assert_eq!(site.inputs(), Vec::<String>::new(), "the model was called");
    site.db.run("GRANT SELECT ON notes TO reader");
    assert_eq!(reader.int(hybrid), 2);
}
