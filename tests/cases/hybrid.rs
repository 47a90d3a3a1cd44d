//! Hybrid searches: words and vectors in one order.

use autoembed_tests::db::literal;
use autoembed_tests::retrieval::{Set, Way};
use autoembed_tests::{Db, Site, site};

/// `notes (id, body, who)` with these texts, embedded by the built-in model.
fn notes(db: &mut Db, texts: &[&str]) {
    let rows: Vec<String> =
        texts.iter().enumerate().map(|(i, text)| format!("({}, {})", i + 1, literal(text))).collect();
    db.run(&format!(
        "CREATE TABLE notes (id int PRIMARY KEY, body text, who text DEFAULT 'anna'); INSERT INTO notes VALUES {};
         SELECT autoembed.enable('notes', 'body', text_search => 'english')",
        rows.join(", ")
    ));
    assert!(db.yes("SELECT autoembed.wait('notes', '30 s')"));
}

const TEXTS: [&str; 8] = [
    "my parcel never arrived",
    "error E4711: the pump did not answer",
    "error E4712: the pump did not answer",
    "the soup was cold when it came to our table",
    "how do I reset my password?",
    "the tracking page shows nothing since Monday",
    "C:\\temp isn't writable | & ! <-> ( :*",
    "we met at the zoo",
];

fn hybrid(db: &mut Db, arguments: &str) -> Vec<String> {
    db.column(&format!("SELECT id FROM similar_notes({arguments}, mode => 'hybrid')"))
}

/// What a hybrid search promises, on questions that share no word with their answers, and on those that share many.
#[test]
fn never_worse_than_words_or_vectors_alone() {
    let (mut db, _cluster) = site::bare();
    for (set, count) in [("everyday", 144), ("packages", 400), ("codes", 60), ("typos", 120), ("questions", 120)] {
        let set = Set::read(set).unwrap().first(count);
        set.load(&mut db);
        let [full_text, words, vectors, hybrid] = Way::ALL.map(|way| set.quality(&mut db, way));
        println!("{}: {full_text:?} {words:?} {vectors:?} {hybrid:?}", set.name);
        for other in [full_text, words, vectors] {
            assert!(hybrid.mrr >= other.mrr - 1e-9, "{}: {hybrid:?} and {other:?}", set.name);
            assert!(hybrid.recall >= other.recall - 1e-9, "{}: {hybrid:?} and {other:?}", set.name);
        }
    }
}

#[test]
fn codes_by_their_words_and_the_rest_by_meaning() {
    let (mut db, _cluster) = site::bare();
    notes(&mut db, &TEXTS);
    assert_eq!(hybrid(&mut db, "'what does E4712 mean', 1"), ["3"]);
    assert_eq!(hybrid(&mut db, "'what does E4711 mean', 1"), ["2"]);
    assert_eq!(hybrid(&mut db, "'delivery problems', 1"), ["1"]);
    assert_eq!(hybrid(&mut db, "'delivery problems', NULL").len(), 8);
    assert_eq!(hybrid(&mut db, "'delivery problems', 0"), [""; 0]);
    assert_eq!(hybrid(&mut db, "NULL, 5"), [""; 0]);
    db.error("SELECT * FROM similar_notes('', mode => 'hybrid')").assert("22023", "no text");
    // Stop words alone are no words: the order is that of the vectors.
    let semantic = db.column("SELECT id FROM similar_notes('what is it about', 8)");
    assert_eq!(hybrid(&mut db, "'what is it about', 8"), semantic);
    // What is shown is the cosine similarity, and the least one is meant of it.
    let shown = "SELECT id, similarity FROM similar_notes('pump E4712', 8";
    let mut both = [db.rows(&format!("{shown})")), db.rows(&format!("{shown}, mode => 'hybrid')"))];
    both.iter_mut().for_each(|rows| rows.sort());
    assert_eq!(both[0], both[1]);
    let least = |mode: &str| format!("SELECT id FROM similar_notes('pump E4712', 8, 0.2, mode => '{mode}')");
    let mut found = [db.column(&least("semantic")), db.column(&least("hybrid"))];
    found.iter_mut().for_each(|ids| ids.sort());
    assert_eq!(found[0], found[1]);
    assert!(!found[0].is_empty() && found[0].len() < 8);
    db.run("UPDATE notes SET who = 'ben' WHERE id IN (1, 2, 5)");
    assert_eq!(hybrid(&mut db, r#"'E4712 pump', 1, filter => '{"who": "ben"}'"#), ["2"]);
    assert_eq!(hybrid(&mut db, r#"'E4712 pump', filter => '{"who": ["ben", "x"]}'"#).len(), 3);
}

/// The query is text, whatever it is made of.
#[test]
fn queries_that_look_like_syntax() {
    let (mut db, _cluster) = site::bare();
    notes(&mut db, &TEXTS);
    for query in [
        "isn't & writable | !(",
        "temp:* <-> isn't",
        "\\ ' \\' writable",
        "C:\\temp\\",
        "a'b\\'c 'zoo' \"pump\" $1 %s",
        "((((",
        "e'\\x41' zoo",
    ] {
        let found = db.column(&format!("SELECT id FROM similar_notes({}, 8, mode => 'hybrid')", literal(query)));
        assert_eq!(found.len(), 8, "{query}");
    }
    assert_eq!(hybrid(&mut db, "'is it writable', 1"), ["7"]);
    assert_eq!(
        db.text("SELECT id FROM similar_notes(repeat('pump zoo ', 100000) || 'zoo', 1, mode => 'hybrid')").len(),
        1
    );
}

/// A row whose vector is on its way is found by its words; nothing is said of its similarity.
#[test]
fn a_row_without_a_vector() {
    let (mut db, _cluster) = site::bare();
    notes(&mut db, &TEXTS);
    db.run("SELECT autoembed.pause('notes'); INSERT INTO notes VALUES (9, 'the quokka left at noon')");
    let found = "SELECT id || coalesce(similarity::text, ' unknown') FROM similar_notes('quokka at noon'";
    assert_eq!(db.column(&format!("{found}, 1, mode => 'hybrid')")), ["9 unknown"]);
    let alike = db.column(&format!("{found}, 20, -1, mode => 'hybrid')"));
    assert!(
        alike.len() == 8 && !alike.contains(&"9 unknown".to_owned()),
        "a least similarity leaves it out: {alike:?}"
    );
}

/// What one tenant searches for is put in order by what he may see: another's rows change neither order nor similarity.
#[test]
fn g36_foreign_rows_change_no_order() {
    let (mut db, cluster) = site::bare();
    db.run("CREATE ROLE red LOGIN; CREATE ROLE blue LOGIN");
    notes(&mut db, &TEXTS);
    db.run(
        "ALTER TABLE notes ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON notes USING (who = current_user);
         UPDATE notes SET who = 'blue'; GRANT SELECT, INSERT ON notes TO red, blue",
    );
    let mut blue = cluster.client_as("app", "blue");
    let queries = ["error of the pump", "E4712", "cold soup at the zoo", "reset the tracking page", "nothing"];
    let mut all = || -> Vec<_> {
        let search =
            |q: &&str| blue.rows(&format!("SELECT * FROM similar_notes({}, 20, mode => 'hybrid')", literal(q)));
        queries.iter().map(search).collect()
    };
    let before = all();
    // Not even the number of all rows is in what he runs.
    let id = db.int("SELECT id FROM autoembed.vectorizer");
    let statement = || {
        cluster.client_as("app", "blue").text(&format!("SELECT autoembed.search_statement({id}, 5, NULL, 'hybrid')"))
    };
    let statement_before = statement();
    let mut red = cluster.client_as("app", "red");
    red.run("INSERT INTO notes SELECT 100 + i, 'pump soup tracking zoo E4712 error ' || i, 'red' FROM generate_series(1, 600) i");
    assert!(db.yes("SELECT autoembed.wait('notes', '30 s')"));
    db.run("ANALYZE notes");
    assert_eq!(all(), before);
    assert_eq!(statement(), statement_before);
    let seen = red.rows("SELECT * FROM similar_notes('pump soup E4712', 20, mode => 'hybrid')");
    assert_eq!(seen.len(), 20);
    assert!(seen.iter().all(|row| row[1].as_deref().is_some_and(|body| body.starts_with("pump soup"))));
    // The text index is read for one tenant only where a superuser says that its functions are leakproof.
    let index_is_used = || {
        let mut red = cluster.client_as("app", "red");
        let statement = red.text(&format!("SELECT autoembed.search_statement({id}, 5, NULL, 'hybrid')"));
        red.run(&format!("SET enable_seqscan = off; PREPARE searched (vector, int, real, jsonb, text) AS {statement}"));
        let plan = red.column("EXPLAIN EXECUTE searched (NULL, 5, NULL, NULL, 'pump')").join("\n");
        assert_eq!(red.rows("SELECT * FROM similar_notes('pump soup E4712', 20, mode => 'hybrid')").len(), 20);
        plan.contains("notes_embedding_text_idx")
    };
    assert!(!index_is_used());
    db.run(
        "ALTER FUNCTION ts_match_vq(tsvector, tsquery) LEAKPROOF; ALTER FUNCTION to_tsvector(regconfig, text) LEAKPROOF;
         ALTER FUNCTION \"left\"(text, int) LEAKPROOF",
    );
    assert!(index_is_used());
    // Who sees all counts all.
    assert_eq!(hybrid(&mut db, "'E4712', 700").len(), 608);
}

/// Somebody else's objects earlier on the search path change nothing.
#[test]
fn g40_decoys_of_a_hybrid_search() {
    let (mut db, _cluster) = site::bare();
    notes(&mut db, &TEXTS);
    let queries = ["'E4712 pump', 8", "'delivery problems', 8"];
    let before = queries.map(|query| hybrid(&mut db, query));
    db.run("CREATE SCHEMA decoy; CREATE TABLE decoy.notes (id int, body text, embedding vector(256))");
    for (left, name, right, result) in [
        ("tsvector", "@@", "tsquery", "boolean"),
        ("vector", "<=>", "vector", "float8"),
        ("float8", "-", "float8", "float8"),
        ("float8", ">=", "float8", "boolean"),
        ("text", "=", "text", "boolean"),
        ("tid", "=", "tid", "boolean"),
        ("oid", "=", "oid", "boolean"),
        ("int8", "=", "int8", "boolean"),
        ("int8", ">", "int4", "boolean"),
        ("int8", "<=", "int4", "boolean"),
        ("int8", "<", "int8", "boolean"),
        ("int8", ">=", "int8", "boolean"),
        ("int4", ">", "int4", "boolean"),
        ("int8", "*", "int8", "int8"),
        ("numeric", "<", "numeric", "boolean"),
        ("float8", "+", "float8", "float8"),
        ("float8", "*", "float8", "float8"),
        ("float8", "/", "float8", "float8"),
    ] {
        let function = format!("decoy.f_{}", name.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join("_"));
        db.run(&format!(
            "CREATE OR REPLACE FUNCTION {function}(a {left}, b {right}) RETURNS {result} LANGUAGE plpgsql AS $$ BEGIN RAISE 'a decoy ran'; END $$;
             CREATE OPERATOR decoy.{name} (LEFTARG = {left}, RIGHTARG = {right}, FUNCTION = {function})"
        ));
    }
    for function in [
        "to_tsvector(a regconfig, b text)",
        "\"left\"(a text, b int)",
        "ts_rank(a real[], b tsvector, c tsquery)",
        "concat(a text, b text, c text)",
    ] {
        db.run(&format!(
            "CREATE FUNCTION decoy.{function} RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'a decoy ran'; END $$"
        ));
    }
    db.run("SET search_path = decoy, public, pg_catalog");
    assert!(db.error("SELECT 'a'::text = 'a'::text").message.contains("a decoy ran"), "the decoys are set up wrongly");
    for (query, expected) in queries.into_iter().zip(before) {
        assert_eq!(db.column(&format!("SELECT id FROM public.similar_notes({query}, mode => 'hybrid')")), expected);
    }
}

/// Searches of several roles in one session, prepared and through a pooler's transactions.
#[test]
fn g36_hybrid_plans_of_several_roles() {
    let (mut db, cluster) = site::bare();
    notes(&mut db, &TEXTS);
    db.run(
        "CREATE ROLE red; CREATE ROLE blue; CREATE ROLE app LOGIN NOINHERIT; GRANT red, blue TO app; ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
         CREATE POLICY own ON notes USING (who = current_user); GRANT SELECT ON notes TO red, blue;
         UPDATE notes SET who = CASE WHEN id < 4 THEN 'red' ELSE 'blue' END",
    );
    let mut app = cluster.client_as("app", "app");
    app.run("SET plan_cache_mode = force_generic_plan; PREPARE searched (text) AS SELECT id FROM similar_notes($1, 20, mode => 'hybrid')");
    for _ in 0..7 {
        for (role, count) in [("red", 3), ("blue", 5)] {
            app.run(&format!("BEGIN; SET LOCAL ROLE {role}"));
            assert_eq!(app.rows("EXECUTE searched ('pump E4712 soup')").len(), count, "{role}");
            assert_eq!(app.rows("SELECT * FROM similar_notes('pump E4712 soup', 20)").len(), count, "{role}");
            app.run("COMMIT");
        }
    }
}

/// As many rows as are asked for, whatever stands between the index on vectors and them: here it gives 40 rows, and one in 300 counts.
#[test]
fn filters_and_policies_leave_k_rows() {
    let mut site = Site::new();
    site.db.run(
        "CREATE TABLE docs (id int PRIMARY KEY, body text, tenant int, embedding vector(16)); SELECT setseed(0.5);
         INSERT INTO docs SELECT i, md5(i::text), i % 300, ARRAY(SELECT random() - 0.5 FROM generate_series(1, 16) WHERE i = i)::vector(16) FROM generate_series(1, 12000) i;
         CREATE INDEX ON docs USING hnsw (embedding vector_cosine_ops); CREATE INDEX ON docs USING gin (to_tsvector('simple', left(body, 65536))); ANALYZE docs; CREATE ROLE reader LOGIN; GRANT SELECT ON docs TO reader",
    );
    site.enable("docs", "body", "text_search => 'simple', backfill => false");
    for setting in ["hnsw.iterative_scan = off", "enable_seqscan = off"] {
        site.db.run(&format!("ALTER FUNCTION similar_docs(text, int, real, jsonb, text) SET {setting}"));
    }
    let exact = "SELECT id FROM docs WHERE tenant = 7 ORDER BY (embedding <=> autoembed.embed('quokka', 'stub')) + 0.0 LIMIT 30";
    let mut nearest = site.db.column(exact);
    nearest.sort();
    for mode in ["semantic", "hybrid"] {
        let count = |k: &str, filter: &str| {
            format!("SELECT count(*) FROM similar_docs('quokka', {k}, filter => {filter}, mode => '{mode}')")
        };
        let filtered =
            format!("SELECT id FROM similar_docs('quokka', 30, filter => '{{\"tenant\": 7}}', mode => '{mode}')");
        let mut found = site.db.column(&filtered);
        found.sort();
        assert_eq!(found, nearest, "{mode}");
        assert_eq!(site.db.int(&count("20", "'{\"tenant\": [1, 2]}'")), 20, "{mode}");
        assert_eq!(site.db.int(&count("100", "'{\"tenant\": 7}'")), 40, "{mode}");
        assert_eq!(site.db.int(&count("1500", "NULL")), 1500, "{mode}");
        assert_eq!(site.db.int(&count("NULL", "NULL")), 12_000, "{mode}");
    }
    site.db.run("ALTER TABLE docs ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON docs USING (tenant = 8)");
    for mode in ["semantic", "hybrid"] {
        let found = format!("SELECT count(*) FROM similar_docs('quokka', 40, mode => '{mode}')");
        assert_eq!(site.session_as("reader").int(&found), 40, "{mode}");
    }
}

/// Two tenants' rows in one table, in which what is rare with the one is common with the other; as `TABLE (id, body, who)`.
const TENANTS: &str = "INSERT INTO $T SELECT i, CASE WHEN i % 10 = 0 THEN 'quokka' ELSE 'pump' END || ' note ' || i || ' from ' || CASE WHEN i % 7 = 0 THEN 'harbour' ELSE 'station' END
           || CASE WHEN i % 31 = 0 THEN ' of the engine room' ELSE '' END, 'anna' FROM generate_series(1, 700) i;
         INSERT INTO $T SELECT 1000 + i, CASE WHEN i % 10 = 0 THEN 'pump' ELSE 'quokka engine' END || ' note ' || i, 'ben' FROM generate_series(1, 2500) i";

/// What the searches of `table` give, in their order.
fn answers(db: &mut Db, table: &str, more: &str) -> Vec<Vec<String>> {
    let queries = [
        "quokka engine",
        "a pump at the harbour",
        "station quokka note 77",
        "engine room",
        "who was where",
        "note 140 pump",
    ];
    let search = |query: &&str| {
        db.column(&format!(
            "SELECT id || ' ' || similarity FROM similar_{table}({}, 12{more}, mode => 'hybrid')",
            literal(query)
        ))
    };
    queries.iter().map(search).collect()
}

/// How rare a word is, is told by the rows that count and by no others: the order under a filter or a policy is that of a table which has
/// just these rows; that of a partitioned table is that of a plain one.
#[test]
fn words_are_counted_among_the_rows_that_count() {
    let (mut db, cluster) = site::bare();
    db.run(
        "CREATE TABLE mixed (id int, body text, who text, PRIMARY KEY (id)); CREATE TABLE one (LIKE mixed INCLUDING ALL); CREATE TABLE plain (LIKE mixed INCLUDING ALL);
         CREATE TABLE parts (id int, body text, who text, PRIMARY KEY (id, who)) PARTITION BY LIST (who);
         CREATE TABLE parts_a PARTITION OF parts FOR VALUES IN ('anna'); CREATE TABLE parts_b PARTITION OF parts FOR VALUES IN ('ben')",
    );
    for table in ["mixed", "plain", "parts"] {
        db.run(&TENANTS.replace("$T", table));
    }
    db.run("INSERT INTO one SELECT * FROM mixed WHERE who = 'anna'; ANALYZE");
    for table in ["mixed", "one", "plain", "parts"] {
        db.run(&format!("SELECT autoembed.enable('{table}', 'body', text_search => 'english', index => 'none')"));
    }
    assert!(db.yes("SELECT autoembed.wait(timeout => '60 s')"));
    db.run("ANALYZE");
    let expected = answers(&mut db, "one", "");
    assert_eq!(answers(&mut db, "mixed", ", filter => '{\"who\": \"anna\"}'"), expected, "under a filter");
    assert_ne!(answers(&mut db, "mixed", ""), expected, "the rows of ben make no difference at all");
    assert_eq!(answers(&mut db, "parts", ""), answers(&mut db, "plain", ""), "of partitions");
    assert_eq!(answers(&mut db, "parts", ", filter => '{\"who\": \"anna\"}'"), expected, "of one partition");
    // The text index is not read under a policy, where a word is in more rows than are looked at otherwise.
    db.run("CREATE ROLE anna LOGIN; ALTER TABLE mixed ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON mixed USING (who = current_user); GRANT SELECT ON mixed TO anna");
    assert_eq!(answers(&mut cluster.client_as("app", "anna"), "mixed", ""), expected, "under a policy");
    db.run("DROP INDEX one_embedding_text_idx");
    assert_eq!(answers(&mut db, "one", ""), expected, "without the index");
}

/// What similarity any row has is known also where most pages of a table are empty: here all rows are alike, and a word that is no more
/// than a hint decides nothing between a row that is and one that is not what is meant.
#[test]
fn a_sample_of_a_table_with_empty_pages() {
    let mut site = Site::new();
    site.db
        .run("CREATE TABLE docs (id int PRIMARY KEY, body text, embedding vector(16)) WITH (autovacuum_enabled = off)");
    site.enable("docs", "body", "text_search => 'simple', index => 'none', backfill => false");
    site.db.run("SELECT autoembed.pause('docs'); SELECT setseed(0.5)");
    let query = "alpha beta";
    site.db.run(&format!(
        "INSERT INTO docs SELECT i, 'filler text ' || i || repeat(' and more', 5), NULL FROM generate_series(1, 20000) i; ANALYZE docs; DELETE FROM docs WHERE id < 19940;
         UPDATE docs SET embedding = (SELECT array_agg(q + random() * 0.2 - 0.1) FROM unnest(autoembed.embed('{query}', 'stub')::real[]) q WHERE id = id)::vector;
         UPDATE docs SET embedding = autoembed.embed('{query}', 'stub') WHERE id = 19950;
         UPDATE docs SET body = 'alpha, but no more' WHERE id = (SELECT id FROM docs ORDER BY embedding <=> autoembed.embed('{query}', 'stub') DESC LIMIT 1)"
    ));
    let sampled = site.db.text("SELECT substring(autoembed.search_statement(id, 5, NULL, 'hybrid') FROM 'TABLESAMPLE SYSTEM \\([0-9.]+\\) REPEATABLE \\(1\\)') FROM autoembed.vectorizer");
    assert_eq!(site.db.int(&format!("SELECT count(*) FROM docs {sampled}")), 0, "the sample has rows");
    assert_eq!(site.db.text(&format!("SELECT id FROM similar_docs('{query}', 1, mode => 'hybrid')")), "19950");
}
