//! What is embedded: columns, expressions, other tables' rows, and texts that are hardly there.

use autoembed_tests::Site;
use autoembed_tests::site::DATABASE;

#[test]
fn an_expression_over_two_columns() {
    let mut site = Site::new();
    site.db.run("CREATE TABLE docs (id int PRIMARY KEY, title text, body text, views int DEFAULT 0)");
    site.db.run("INSERT INTO docs SELECT i, 'title ' || i, 'body ' || i FROM generate_series(1, 20) i");
    let input = "title || E'\\n' || body";
    site.enable("docs", input, "");
    site.db.run("INSERT INTO docs SELECT i, 'title ' || i, 'body ' || i FROM generate_series(21, 40) i");
    site.db.run("INSERT INTO docs VALUES (41, NULL, 'a body without title')");
    assert_eq!(site.settle("docs", input), 41);
    assert_eq!(site.db.text("SELECT embedding IS NULL FROM docs WHERE id = 41"), "t", "NULL || text is NULL");

    site.stub.reset_stats();
    site.db.run("UPDATE docs SET title = 'other title' WHERE id = 1");
    site.db.run("UPDATE docs SET body = 'other body' WHERE id = 2");
    site.db.run("UPDATE docs SET views = views + 1");
    site.settle("docs", input);
    site.until_idle("docs");
    let mut inputs = site.inputs();
    inputs.sort();
    assert_eq!(inputs, ["other title\nbody 1", "title 2\nother body"]);
}

#[test]
fn an_expression_that_reads_another_table() {
    let mut site = Site::new();
    site.db.run("CREATE TABLE tickets (id int PRIMARY KEY, subject text)");
    site.db.run("CREATE TABLE comments (id int PRIMARY KEY, ticket_id int, body text)");
    site.db.run("INSERT INTO tickets SELECT i, 'subject ' || i FROM generate_series(1, 10) i");
    site.db.run("INSERT INTO comments SELECT i, 1 + i % 10, 'comment ' || i FROM generate_series(1, 30) i");
    let input = "subject || coalesce((SELECT string_agg(c.body, ' / ' ORDER BY c.id) FROM comments c WHERE c.ticket_id = tickets.id), '')";
    site.enable("tickets", input, "");
    assert_eq!(site.settle("tickets", input), 10);
    site.db.run(
        "UPDATE comments SET body = 'edited' WHERE id = 1; UPDATE tickets SET subject = 'edited too' WHERE id = 2",
    );
    site.settle("tickets", input);
}

/// What the expression reads elsewhere changes without a trigger: `enqueue` is how the user says so.
#[test]
fn rows_named_by_enqueue() {
    let mut site = Site::new();
    site.db.run("CREATE TABLE t (id int PRIMARY KEY, a text); CREATE TABLE extra (id int PRIMARY KEY, b text)");
    site.db.run("INSERT INTO t SELECT i, 'a ' || i FROM generate_series(1, 10) i; INSERT INTO extra SELECT i, 'b' FROM generate_series(1, 10) i");
    let input = "a || (SELECT b FROM extra WHERE extra.id = t.id)";
    site.enable("t", input, "");
    site.settle("t", input);
    site.db.run("UPDATE extra SET b = 'c' WHERE id <= 3");
    assert_eq!(site.db.int("SELECT autoembed.enqueue('t', ARRAY['1', '2', '3'])"), 3);
    site.settle("t", input);
    site.db.run("UPDATE extra SET b = 'd'");
    // All rows are meant rarely, so that is told; none, given as none, are none.
    assert_eq!(site.db.int("SELECT autoembed.enqueue('t', '{}')"), 0);
    let mut psql = site.cluster.tool("psql");
    let output = psql.args(["-X", "-q", "-d", DATABASE, "-c", "SELECT autoembed.enqueue('t')"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("NOTICE:  no keys were given, so all rows of table \"t\""), "{said}");
    assert!(said.contains("coalesce(array_agg(id::text), '{}')"), "{said}");
    site.settle("t", input);
}

#[test]
fn two_vectorizers_on_one_table() {
    let mut site = Site::new();
    site.db.run("CREATE TABLE products (id int PRIMARY KEY, name text, description text)");
    let first = site.enable("products", "name", "embedding => 'name_vector', search_function => 'by_name'");
    let second = site.enable("products", "description", "embedding => 'text_vector', search_function => 'by_text'");
    assert_ne!(first, second);
    site.db.run("INSERT INTO products SELECT i, 'name ' || i, 'description ' || i FROM generate_series(1, 30) i");
    site.settle_within("products", "name", "name_vector", autoembed_tests::site::PATIENCE);
    site.settle_within("products", "description", "text_vector", autoembed_tests::site::PATIENCE);
    site.stub.reset_stats();
    site.db.run("UPDATE products SET name = 'renamed' WHERE id = 7");
    site.settle_within("products", "name", "name_vector", autoembed_tests::site::PATIENCE);
    site.until_idle("products");
    assert_eq!(site.inputs(), ["renamed"]);
    assert_eq!(site.db.int("SELECT id FROM by_name('name 3', 1)"), 3);
    assert_eq!(site.db.int("SELECT id FROM by_text('description 4', 1)"), 4);
}

#[test]
fn g25_null_empty_and_blank_texts_come_to_an_end() {
    let mut site = Site::with_messages();
    site.db.run("INSERT INTO messages (content) VALUES (NULL), (''), (' '), (E' \\n\\t\\r '), ('real')");
    assert_eq!(site.settle("messages", "content"), 5);
    site.until_idle("messages");
    assert_eq!(site.failed("messages"), 0);
    assert_eq!(site.inputs(), ["real"]);
}

#[test]
fn g25_a_text_that_becomes_empty_loses_its_vector() {
    let mut site = Site::with_messages();
    site.insert(1, 6);
    site.settle("messages", "content");
    site.db.run("UPDATE messages SET content = '' WHERE id = 1; UPDATE messages SET content = NULL WHERE id = 2; UPDATE messages SET content = ' ' WHERE id = 3");
    site.settle("messages", "content");
    assert_eq!(site.db.column("SELECT id FROM messages WHERE embedding IS NULL ORDER BY id"), ["1", "2", "3"]);
    site.db.run("UPDATE messages SET content = 'back ' || id WHERE id <= 3");
    site.settle("messages", "content");
}

#[test]
fn texts_of_any_content() {
    let mut site = Site::with_messages();
    site.db.run(
        "INSERT INTO messages (content) VALUES
         ('quotes '' \" and \\ back'), (E'new\\nlines\\tand tabs'), ('漢字 かな 한국어'), ('🙂👩‍👩‍👧‍👦'), ('{\"json\": [1, null]}'), ('<b>&amp;</b>'),
         (E'control \\x01\\x1f\\x7f'), (U&'\\FFFF\\+10FFFF'), ('%s $1 ${x} {{y}}'), (repeat('long ', 2000)), ('1'), ('null')",
    );
    assert_eq!(site.settle("messages", "content"), 12);
}

#[test]
fn equal_texts_in_one_batch_cost_one_input() {
    let mut site = Site::with_messages();
    site.stub.reset_stats();
    site.db.run("INSERT INTO messages (content) SELECT 'text ' || i % 10 FROM generate_series(1, 500) i");
    site.settle("messages", "content");
    let stats = site.stub.stats();
    println!("500 rows of 10 texts: {} requests, {} inputs", stats.requests, stats.inputs);
    assert_eq!(stats.inputs, 10);
}

#[test]
fn many_changes_of_one_row_are_one_input() {
    let mut site = Site::with_messages();
    site.insert(1, 1);
    site.settle("messages", "content");
    site.stub.reset_stats();
    site.db.run("BEGIN");
    for n in 0..50 {
        site.db.run(&format!("UPDATE messages SET content = 'version {n}'"));
    }
    site.db.run("COMMIT");
    site.settle("messages", "content");
    site.until_idle("messages");
    assert_eq!(site.inputs(), ["version 49"]);
}

/// `=` says that nothing changed, though the text did.
#[test]
fn a_change_that_equality_does_not_see() {
    let mut site = Site::new();
    if site.db.int("SELECT count(*) FROM pg_available_extensions WHERE name = 'citext'") > 0 {
        site.db.run("CREATE EXTENSION citext; CREATE TABLE loose (id int PRIMARY KEY, content citext)");
        site.enable("loose", "content", "");
        site.db.run("INSERT INTO loose VALUES (1, 'Hello'), (2, 'World')");
        site.settle("loose", "content");
        site.db.run("UPDATE loose SET content = 'HELLO' WHERE id = 1");
        site.settle("loose", "content");
        site.enable("loose", "'about ' || content", "embedding => 'second', search_function => 'second'");
        site.db.run("UPDATE loose SET content = 'world' WHERE id = 2");
        site.settle_within("loose", "'about ' || content", "second", autoembed_tests::site::PATIENCE);
    } else {
        println!("skipped: this server has no citext");
    }
    if site.db.int("SELECT count(*) FROM pg_collation WHERE collname = 'und-x-icu'") > 0 {
        site.db.run("CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level1', deterministic = false)");
        site.db.run("CREATE TABLE blind (id int PRIMARY KEY, content text COLLATE blind)");
        site.enable("blind", "content", "");
        site.db.run("INSERT INTO blind VALUES (1, 'cafe'), (2, 'cafe')");
        site.settle("blind", "content");
        site.db.run("UPDATE blind SET content = 'CAFÉ' WHERE id = 1");
        site.settle("blind", "content");
    } else {
        println!("skipped: this server has no ICU collations");
    }
}

#[test]
fn columns_of_other_types() {
    let mut site = Site::new();
    site.db.run("CREATE DOMAIN short AS varchar(100) CHECK (length(VALUE) < 100)");
    // A server may have been built without libxml.
    let has_xml = site.db.try_rows("SELECT xmlparse(content '<t/>')").is_ok();
    let (xml, from_xml) = if has_xml { ("xml", "(xpath('/t/text()', e))[1]::text") } else { ("text", "e") };
    site.db.run(&format!(
        "CREATE TABLE v (id int PRIMARY KEY, a varchar(200), b short, c json, d jsonb, e {xml}, f text[], g name)"
    ));
    let insert = format!(
        "INSERT INTO v SELECT i, 'a ' || i, 'b ' || i, json_build_object('t', 'c ' || i), jsonb_build_object('t', 'd ' || i), \
         ('<t>e ' || i || '</t>')::{xml}, ARRAY['f', i::text], 'g ' || i FROM generate_series"
    );
    let inputs = ["a", "b", "c ->> 't'", "d ->> 't'", from_xml, "array_to_string(f, ' ')", "g::text"];
    site.db.run(&format!("{insert}(1, 5) i"));
    for (n, input) in inputs.iter().enumerate() {
        site.enable("v", input, &format!("embedding => 'v{n}', search_function => 'find_v{n}', index => 'none'"));
    }
    site.db.run(&format!("{insert}(6, 10) i"));
    site.db.run(
        "UPDATE v SET a = 'edited', b = 'edited b', c = '{\"t\": \"edited c\"}', d = '{\"t\": \"edited d\"}', e = '<t>edited</t>',
         f = ARRAY['edited', 'f'], g = 'edited g' WHERE id % 5 = 0",
    );
    for (n, input) in inputs.iter().enumerate() {
        site.settle_within("v", input, &format!("v{n}"), autoembed_tests::site::PATIENCE);
    }
}

#[test]
fn a_generated_column_as_input() {
    let mut site = Site::new();
    site.db.run(
        "CREATE TABLE g (id int PRIMARY KEY, a text, b text, both_of text GENERATED ALWAYS AS (a || ' ' || b) STORED)",
    );
    site.enable("g", "both_of", "");
    site.db.run("INSERT INTO g SELECT i, 'a' || i, 'b' || i FROM generate_series(1, 10) i");
    site.settle("g", "both_of");
    site.db.run("UPDATE g SET a = 'changed' WHERE id < 4");
    site.settle("g", "both_of");
}

#[test]
fn a_column_that_was_there_before() {
    let mut site = Site::new();
    site.db.run("CREATE TABLE t (id int PRIMARY KEY, body text, embedding vector(16))");
    site.db.run("INSERT INTO t SELECT i, 'body ' || i FROM generate_series(1, 10) i");
    site.enable("t", "body", "");
    assert_eq!(site.settle("t", "body"), 10);
    site.db.run("CREATE TABLE u (id int PRIMARY KEY, body text, embedding vector)");
    site.db.run("INSERT INTO u VALUES (1, 'one')");
    site.enable("u", "body", "index => 'none'");
    site.settle("u", "body");
}
