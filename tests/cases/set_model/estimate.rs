//! What a model would cost.

use autoembed_tests::{Db, Site};

/// Rows, tokens and dollars.
fn estimate(db: &mut Db, call: &str) -> (i64, i64, String) {
    let row = db.rows(&format!("SELECT * FROM autoembed.estimate_cost({call})")).remove(0);
    let number = |i: usize| row[i].as_deref().unwrap().parse().unwrap();
    (number(0), number(1), row[2].clone().unwrap_or_else(|| "NULL".to_owned()))
}

#[test]
fn what_a_model_would_cost() {
    let mut site = Site::new();
    site.create_model("dear", "options => '{\"price_per_million_tokens\": 2000}', max_input_tokens => 6");
    site.create_model("words", "options => '{\"document_prefix\": \"hello world\"}'");
    site.db.run(
        "CREATE TABLE notes (id int PRIMARY KEY, body text, title text DEFAULT 'ab'); INSERT INTO notes VALUES (1, 'hello world'), (2, ''), (3, NULL), (4, '  '), (5, 'Hello World'), (6, repeat('word ', 100))",
    );
    // "hello world" has 4 tokens by the estimate, a hundred words have 100, cut at 6.
    assert_eq!(estimate(&mut site.db, "'notes', 'stub', input => 'body'"), (3, 108, "NULL".to_owned()));
    assert_eq!(estimate(&mut site.db, "'notes', 'dear', input => 'body'"), (3, 14, "0.028000".to_owned()));
    assert_eq!(estimate(&mut site.db, "'notes', 'words', input => 'body'"), (3, 120, "NULL".to_owned()));
    assert_eq!(estimate(&mut site.db, "'notes', 'builtin', input => 'upper(title)'"), (6, 6, "0.000000".to_owned()));
    site.db.error("SELECT * FROM autoembed.estimate_cost('notes')").assert("42704", "notes");
    site.db
        .error("SELECT * FROM autoembed.estimate_cost('notes', 'no such', input => 'body')")
        .assert("42704", "no such");
    site.db
        .error("SELECT * FROM autoembed.estimate_cost('notes', 'stub', input => 'nothing')")
        .assert("42703", "nothing");
    site.db
        .error("SELECT * FROM autoembed.estimate_cost('notes', 'stub', input => '1 / (id - 1)::numeric || body')")
        .assert("22012", "");
    site.enable("notes", "body", "backfill => false");
    assert_eq!(estimate(&mut site.db, "'notes'"), (3, 108, "NULL".to_owned()));
    assert_eq!(estimate(&mut site.db, "'notes', 'dear'"), (3, 14, "0.028000".to_owned()));
    site.db.run("CREATE ROLE stranger LOGIN; GRANT SELECT ON notes TO stranger");
    site.session_as("stranger").error("SELECT * FROM autoembed.estimate_cost('notes')").assert("42501", "notes");
    site.db.run("CREATE TABLE none (id int PRIMARY KEY, body text)");
    assert_eq!(estimate(&mut site.db, "'none', 'stub', input => 'body'"), (0, 0, "NULL".to_owned()));
    assert_eq!(site.stub.stats().requests, 0, "a request was made");
}

/// Of a large table a part is read: within a few hundredths of the truth, and long before the whole of it could be.
#[test]
fn what_a_large_table_would_cost() {
    let mut site = Site::new();
    site.db.run(
        "CREATE TABLE big (id int, part int, body text, PRIMARY KEY (part, id)) PARTITION BY LIST (part);
         CREATE TABLE big_0 PARTITION OF big FOR VALUES IN (0); CREATE TABLE big_1 PARTITION OF big FOR VALUES IN (1);
         INSERT INTO big SELECT i, i % 2, CASE WHEN i % 10 > 0 THEN repeat('word ', 1 + i % 40) END FROM generate_series(1, 300000) i; ANALYZE big",
    );
    let begun = std::time::Instant::now();
    let (rows, tokens, _) = estimate(&mut site.db, "'big', 'stub', input => 'body'");
    let took = begun.elapsed();
    let begun = std::time::Instant::now();
    let truth: i64 = site.db.int("SELECT sum(array_length(string_to_array(body, ' '), 1) - 1) FROM big");
    println!("{rows} rows and {tokens} tokens of {truth} in {took:?}, the whole table in {:?}", begun.elapsed());
    assert!((rows - 270_000).abs() < 27_000, "{rows} of 270000 rows");
    assert!((tokens - truth).abs() < truth / 8, "{tokens} of {truth} tokens");
}
