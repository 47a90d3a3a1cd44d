//! Searches beside what is no part of the table: settings of a session, the schema of pgvector, names in an expression; and filters
//! that hold more than a program's numbers and depth.

use autoembed_tests::Site;
use autoembed_tests::site::PATIENCE;

/// A filter or options with an object in an object, and so on.
fn deep(levels: usize) -> String {
    format!("{}1{}", r#"{"a": "#.repeat(levels), "}".repeat(levels))
}

/// What `enable()` stores and searches look up is the same where a session has all names quoted.
#[test]
fn a_session_that_quotes_all_identifiers() {
    const ENABLE: &str = "SELECT autoembed.enable('notes', 'body', model => 'stub', text_search => 'french')";
    const HYBRID: &str = "SELECT id FROM similar_notes('bonjour', 1, mode => 'hybrid')";
    let mut site = Site::new();
    site.db.run("CREATE TABLE notes (id int PRIMARY KEY, body text)");
    let mut quoting = site.session();
    quoting.run("SET quote_all_identifiers = on");
    let (first, second) = (&mut site.db, &mut quoting);
    first.run(ENABLE);
    first.run("INSERT INTO notes VALUES (1, 'bonjour'), (2, 'au revoir')");
    first.until("SELECT count(embedding) FROM notes", "2", PATIENCE);
    for db in [&mut *first, &mut *second] {
        assert_eq!(db.text(HYBRID), "1");
        db.run(ENABLE);
    }
    // And the other way round: what was stored by the one that quotes.
    first.run("SELECT autoembed.disable('notes')");
    second.run(ENABLE);
    for db in [&mut *first, &mut *second] {
        assert_eq!(db.text(HYBRID), "1");
        db.run(ENABLE);
    }
    second.run("SELECT autoembed.disable('notes')");
    let left = "SELECT count(*) FROM pg_class c JOIN pg_am m ON m.oid = c.relam WHERE m.amname = 'gin'";
    assert_eq!(first.int(left), 0, "the text index was left");
}

/// Sessions that have searched are told nothing of it by the server.
#[test]
fn pgvector_moves_to_another_schema() {
    const SEARCHES: [&str; 4] = [
        "SELECT id FROM similar_notes('a word', 1)",
        "SELECT id FROM similar_notes('a word', 1, mode => 'hybrid')",
        "SELECT id FROM similar_notes_to(2, 1)",
        "SELECT id FROM similar_pages('a word', 1)",
    ];
    let mut site = Site::new();
    site.db
        .run("CREATE TABLE notes (id int PRIMARY KEY, body text); CREATE TABLE pages (id int PRIMARY KEY, body text)");
    site.enable("notes", "body", "text_search => 'english'");
    site.enable("pages", "body", "chunk_size => 20, chunk_overlap => 0");
    site.db.run("INSERT INTO notes VALUES (1, 'a word'), (2, 'another'); INSERT INTO pages VALUES (1, 'a word')");
    site.until_idle("notes");
    site.until_idle("pages");
    let mut other = site.session();
    // Of new schemas sessions are told.
    other.run("CREATE SCHEMA extensions; CREATE SCHEMA elsewhere");
    for schema in ["extensions", "elsewhere"] {
        for search in SEARCHES {
            assert_eq!(site.db.text(search), "1", "{search}");
        }
        other.run(&format!("ALTER EXTENSION vector SET SCHEMA {schema}"));
    }
    for search in SEARCHES {
        assert_eq!(site.db.text(search), "1", "{search}");
    }
    other.run("INSERT INTO notes VALUES (3, 'a third')");
    other.until("SELECT embedding IS NOT NULL FROM notes WHERE id = 3", "t", PATIENCE);
}

/// Names in an expression are not followed. Who searches is told what to do.
#[test]
fn an_expression_whose_column_was_renamed() {
    const SEARCHES: [&str; 3] = [
        "SELECT id FROM similar_notes('a word', 1)",
        "SELECT id FROM similar_notes('a word', 1, mode => 'hybrid')",
        "SELECT id FROM similar_notes_to(2, 1)",
    ];
    let mut site = Site::new();
    site.db.run("CREATE TABLE notes (id int PRIMARY KEY, title text, content text)");
    site.enable("notes", "title || content", "text_search => 'english'");
    site.db.run("INSERT INTO notes VALUES (1, 'a ', 'word'), (2, 'ano', 'ther')");
    site.until_idle("notes");
    for search in SEARCHES {
        assert_eq!(site.db.text(search), "1", "{search}");
    }
    site.db.run("ALTER TABLE notes RENAME COLUMN content TO body");
    let mut other = site.session();
    for db in [&mut site.db, &mut other] {
        for search in SEARCHES {
            let error = db.error(search);
            error.assert("55000", "column \"content\" does not exist");
            assert!(error.message.contains("the input of table \"notes\""), "{search}: {}", error.message);
            assert!(error.hint.contains("autoembed.enable()"), "{search}: {}", error.hint);
        }
    }
    // The view says it as soon as a row is to be read.
    site.db.run("UPDATE notes SET title = 'one ' WHERE id = 2");
    let state = site.until_state("notes", "blocked: the table could not be read");
    assert!(state.contains("column \"content\" does not exist"), "{state}");
    site.db.run("ALTER TABLE notes RENAME COLUMN body TO content");
    for search in SEARCHES {
        assert_eq!(site.db.text(search), "1", "{search}");
    }
}

#[test]
fn filters_with_long_numbers_and_deep_values() {
    let mut site = Site::new();
    site.db.run("CREATE TABLE notes (id int PRIMARY KEY, body text, n numeric, j jsonb)");
    site.enable("notes", "body", "");
    site.db.run(&format!(
        "INSERT INTO notes VALUES (1, 'one', 1e400, '{}'), (2, 'two', 123456789012345678901234567890, '1e400'), \
           (3, 'three', 123456789012345678901234567891, '{{\"n\": 123456789012345678901234567891}}')",
        deep(200)
    ));
    site.until_idle("notes");
    let deep = deep(200);
    let found = |site: &mut Site, filter: &str| {
        [format!("similar_notes('a', filter => '{filter}')"), format!("similar_notes_to(0, filter => '{filter}')")]
            .map(|call| site.db.column(&format!("SELECT id FROM {call} ORDER BY 1")))[0]
            .join(",")
    };
    for (filter, ids) in [
        (r#"{"n": 1e400}"#, "1"),
        (r#"{"n": 123456789012345678901234567890}"#, "2"),
        (r#"{"n": [123456789012345678901234567891, 1e400]}"#, "1,3"),
        (r#"{"j": {"n": 123456789012345678901234567891}}"#, "3"),
        (r#"{"j": {"n": 123456789012345678901234567890}}"#, ""),
        (r#"{"j": 1e400}"#, "2"),
        (r#"{"id": 3, "n": null}"#, ""),
        (&format!(r#"{{"j": {deep}}}"#), "1"),
        ("null", "1,2,3"),
        ("{}", "1,2,3"),
    ] {
        assert_eq!(found(&mut site, filter), ids, "{filter}");
    }
    for (filter, code, part) in [
        (r#"{"id": 1e400}"#.to_string(), "22P02", "column \"id\""),
        (format!(r#"{{"body": {deep}}}"#), "22023", "is a JSON object"),
        ("[1e400]".to_string(), "22023", "not a JSON object"),
        ("1e400".to_string(), "22023", "not a JSON object"),
    ] {
        let error = site.db.error(&format!("SELECT * FROM similar_notes('a', filter => '{filter}')"));
        error.assert(code, part);
        assert!(!error.hint.is_empty(), "{filter}");
    }
}

/// The options of a model are read by a program.
#[test]
fn options_with_long_numbers_and_deep_values() {
    let mut site = Site::new();
    for options in [r#"{"price_per_million_tokens": 1e400}"#.to_string(), deep(200)] {
        let create = format!("SELECT autoembed.create_model('other', 'local', 16, options => '{options}')");
        let error = site.db.error(&create);
        error.assert("22023", "the options of model \"other\" cannot be read");
        assert!(!error.hint.is_empty());
        site.db.run(&format!("UPDATE autoembed.models SET options = '{options}' WHERE name = 'stub'"));
        let error = site.db.error("SELECT autoembed.embed('a word', 'stub')");
        error.assert("22023", "the options of model \"stub\" cannot be read");
    }
}
