//! Searches called from wherever SQL can call a function, and search_rows() called by hand.

use autoembed_tests::site::PATIENCE;
use autoembed_tests::{Db, Site};

fn scene() -> Site {
    let mut site = Site::new();
    site.db.run(
        "CREATE TABLE notes (id int PRIMARY KEY, body text); CREATE TABLE tags (name text PRIMARY KEY, body text)",
    );
    for table in ["notes", "tags"] {
        site.enable(table, "body", "index => 'none'");
        site.db.run(&format!(
            "INSERT INTO {table} SELECT i::text::{}, '{table} ' || i FROM generate_series(1, 50) i",
            if table == "tags" { "text" } else { "int" }
        ));
        site.db.until(&format!("SELECT count(embedding) FROM {table}"), "50", PATIENCE);
        site.db.run(&format!("CREATE INDEX ON {table} USING hnsw (embedding vector_cosine_ops); ANALYZE {table}"));
    }
    site
}

fn id_of(site: &mut Site, table: &str) -> i64 {
    site.db.int(&format!("SELECT id FROM autoembed.status WHERE source = '{table}'::regclass"))
}

/// Whatever is asked of it, search_rows() says what is wrong, and the session goes on.
#[test]
fn search_rows_asked_for_what_it_does_not_give() {
    let mut site = scene();
    let (notes, tags) = (id_of(&mut site, "notes"), id_of(&mut site, "tags"));
    let search = |id: i64| format!("autoembed.search_rows({id}, 'notes 7', 3, NULL, NULL, 'semantic')");
    let db = &mut site.db;
    let right = format!("SELECT id, body, s FROM {} AS f (id int, body text, s real)", search(notes));
    assert_eq!(db.column(&right)[0], "7");
    for (columns, code) in [
        ("", "42601"),
        ("AS f (id int)", "42804"),
        ("AS f (id int, body text)", "42804"),
        ("AS f (id int, body text, s float8)", "42804"),
        ("AS f (id bigint, body text, s real)", "42804"),
        ("AS f (id text, body text, s real)", "42804"),
        ("AS f (id int, body varchar, s real)", "42804"),
        ("AS f (id int, body notes, s real)", "42804"),
        ("AS f (id int, body text, s real, more int)", "42804"),
        ("AS f (s real, body text, id int)", "42804"),
    ] {
        for query in ["'notes 7'", "NULL", "'notes 7', k => 0", "'notes 7', k => NULL"] {
            let k = if query.contains("k =>") { "" } else { ", k => 3" };
            let call = format!(
                "SELECT * FROM autoembed.search_rows({notes}, query => {query}{k}, min_similarity => NULL, filter => NULL, mode => 'semantic') {columns}"
            );
            assert_eq!(db.error(&call).code, code, "{call}");
        }
        assert_eq!(db.column(&right)[0], "7", "{columns}");
    }
    let hint = db.error(&format!("SELECT * FROM {} AS f (id int)", search(notes))).hint;
    assert!(hint.contains("AS found (\"id\" pg_catalog.int4, input text, similarity real)"), "{hint}");
    // Another vectorizer's columns, and a vectorizer that is not there.
    let of = |id: i64| format!("SELECT * FROM {} AS f (id int, body text, s real)", search(id));
    db.error(&of(tags)).assert("42804", "tags");
    db.error(&of(-1)).assert("42704", "vectorizer -1");
    db.error(&of(notes).replace(&format!("({notes},"), "(NULL,")).assert("22023", "vectorizer");
    db.error(&of(notes).replace("'semantic'", "NULL")).assert("22023", "mode");
    db.error(&of(notes).replace("'semantic'", "'semantics'")).assert("22023", "mode");
    db.error(&of(notes).replace("'semantic'", "'semantic', 5")).assert("55000", "not the one");
    // Where no columns can be said.
    db.error(&format!("SELECT {}", search(notes))).assert("0A000", "search_rows()");
    db.run(&format!("CREATE FUNCTION around() RETURNS SETOF record LANGUAGE sql AS $$ SELECT {} $$", search(notes)));
    db.error("SELECT * FROM around() AS f (id int, body text, s real)").assert("0A000", "search_rows()");
    db.error("SELECT around()").assert("0A000", "search_rows()");
    let together = format!(
        "SELECT count(*) FROM ROWS FROM ({} AS (id int, body text, s real), generate_series(1, 5)) WITH ORDINALITY",
        search(notes)
    );
    assert_eq!(db.int(&together), 5);
    assert_eq!(db.column(&right)[0], "7");
    // Without the schema, and without the function.
    db.run("CREATE ROLE reader LOGIN; GRANT SELECT ON notes TO reader");
    let mut reader = site.session_as("reader");
    const SEARCH: &str = "SELECT id FROM similar_notes('notes 7', 1)";
    assert_eq!(reader.text(SEARCH), "7");
    site.db.run("REVOKE USAGE ON SCHEMA autoembed FROM PUBLIC");
    reader.error(SEARCH).assert("42501", "schema autoembed");
    site.db
        .run("GRANT USAGE ON SCHEMA autoembed TO PUBLIC; REVOKE EXECUTE ON FUNCTION autoembed.search_rows FROM PUBLIC");
    assert_eq!(reader.error(SEARCH).code, "42501");
    site.db.run("GRANT EXECUTE ON FUNCTION autoembed.search_rows TO PUBLIC");
    assert_eq!(reader.text(SEARCH), "7");
}

/// In views, cursors, functions with others' rights, loops with handlers, and for each row of another table.
#[test]
fn searches_in_all_kinds_of_code() {
    let mut site = scene();
    site.db.run(
        "CREATE ROLE keeper LOGIN; CREATE ROLE reader LOGIN; GRANT SELECT ON notes TO keeper; GRANT CREATE ON SCHEMA public TO keeper;
         CREATE VIEW found AS SELECT id FROM similar_notes('notes 7', 1); GRANT SELECT ON found TO reader, keeper",
    );
    let mut keeper = site.session_as("keeper");
    keeper.run(
        "CREATE FUNCTION kept(words text) RETURNS TABLE (id int, body text) LANGUAGE sql SECURITY DEFINER
         AS 'SELECT id, body FROM public.similar_notes(words, 2)'",
    );
    let mut reader = site.session_as("reader");
    // What a view calls is called as who reads it; a function with its owner's rights calls as its owner. One after the other, in one session.
    for _ in 0..2 {
        assert_eq!(reader.column("SELECT id FROM kept('notes 7')")[0], "7");
        reader.error("SELECT id FROM found").assert("42501", "notes");
        reader.error("SELECT id FROM similar_notes('notes 7', 1)").assert("42501", "notes");
    }
    assert_eq!(keeper.text("SELECT id FROM found"), "7");
    let db = &mut site.db;
    db.run(
        "BEGIN; DECLARE near SCROLL CURSOR WITH HOLD FOR SELECT id FROM similar_notes('notes 7', 5);
         DECLARE far SCROLL CURSOR FOR SELECT id FROM similar_notes('notes 7', 50)",
    );
    let all = db.column("SELECT id FROM similar_notes('notes 7', 50)");
    assert_eq!(db.column("FETCH 2 near"), all[..2]);
    assert_eq!(db.column("FETCH ABSOLUTE 40 far"), [all[39].clone()]);
    assert_eq!(db.column("FETCH RELATIVE -39 far"), [all[0].clone()]);
    db.run("COMMIT; DELETE FROM notes WHERE id > 45");
    assert_eq!(db.column("FETCH ALL near"), all[2..5]);
    db.run("CLOSE near");
    // For each row: with arguments that the function is put in the place of, and with such that it is not; read again from the beginning.
    for text in ["'notes ' || g", "'notes ' || (g + floor(random())::int)", "(SELECT 'notes ' || g)"] {
        let each = format!(
            "SELECT count(*) FROM generate_series(1, 40) g CROSS JOIN LATERAL similar_notes({text}, 1) s WHERE s.id = g"
        );
        assert_eq!(db.int(&each), 40, "{text}");
        let again = format!(
            "SELECT count(*) FROM generate_series(1, 3) o CROSS JOIN LATERAL (SELECT s.id FROM generate_series(1, 5) g \
             CROSS JOIN LATERAL similar_notes({text}, 2) s OFFSET o) x"
        );
        assert_eq!(db.int(&again), 9 + 8 + 7, "{text}");
    }
    // Within a statement that is run by several processes.
    db.run(
        "SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;
         CREATE TABLE many AS SELECT i FROM generate_series(1, 20000) i; ANALYZE many",
    );
    const BESIDE: &str = "SELECT count(*) FROM many JOIN similar_notes('notes 7', 5) s ON s.id = many.i";
    let plan = db.column(&format!("EXPLAIN {BESIDE}")).join("\n");
    assert!(plan.contains("Gather"), "{plan}");
    assert_eq!(db.int(BESIDE), 5);
    // Errors are caught, and the next search is as if there had been none.
    db.run(
        "CREATE FUNCTION tried() RETURNS text LANGUAGE plpgsql AS $$
         DECLARE right_ones int := 0; wrong_ones int := 0; found int;
         BEGIN
             FOR i IN 1..60 LOOP
                 BEGIN
                     SELECT id INTO STRICT found FROM similar_notes('notes ' || (i % 40 + 1), CASE WHEN i % 3 = 0 THEN -1 ELSE 1 END,
                         filter => CASE WHEN i % 5 = 0 THEN '{\"nothing\": 1}'::jsonb END) WHERE 1 / (i % 7) >= 0;
                     right_ones := right_ones + (found = i % 40 + 1)::int;
                 EXCEPTION WHEN others THEN
                     wrong_ones := wrong_ones + 1;
                 END;
             END LOOP;
             RETURN right_ones || ' ' || wrong_ones || ' ' || (SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND NOT granted);
         END $$",
    );
    let wrong = (1..=60).filter(|i| i % 3 == 0 || i % 5 == 0 || i % 7 == 0).count();
    for _ in 0..2 {
        assert_eq!(db.text("SELECT tried()"), format!("{} {wrong} 0", 60 - wrong));
    }
    // A search while a search is under way: its input looks for another table's nearest.
    db.run(
        "CREATE FUNCTION nearest_tag(text) RETURNS text LANGUAGE sql STABLE AS 'SELECT body FROM public.similar_tags($1, 1)';
         CREATE TABLE pages (id int PRIMARY KEY, body text); INSERT INTO pages SELECT i, 'tags ' || i FROM generate_series(1, 20) i",
    );
    site.enable("pages", "body || ' ' || nearest_tag(body)", "index => 'none'");
    site.db.until("SELECT count(embedding) FROM pages", "20", PATIENCE);
    for _ in 0..3 {
        assert_eq!(site.db.text("SELECT input FROM similar_pages('tags 3 tags 3', 1)"), "tags 3 tags 3");
    }
}

/// A function as it was made before search_rows(): it searches, and goes with its vectorizer.
#[test]
fn a_function_of_the_older_form() {
    let mut site = scene();
    let id = id_of(&mut site, "notes");
    let made = site.db.int(&format!(
        "SELECT (EXTRACT(epoch FROM created_at) * 1000000)::bigint FROM autoembed.vectorizer WHERE id = {id}"
    ));
    let statement = format!("autoembed.search_statement({id}, $2, $4, $5, {made})");
    let db = &mut site.db;
    db.run(&format!(
        "DROP FUNCTION similar_notes;
         CREATE FUNCTION similar_notes(query text, k int DEFAULT 10, min_similarity real DEFAULT NULL, filter jsonb DEFAULT NULL, mode text DEFAULT 'semantic')
         RETURNS TABLE (id int, body text, similarity real) LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
         SET hnsw.iterative_scan = 'relaxed_order' SET hnsw.max_scan_tuples = '2147483647' SET jit = off AS $$
         DECLARE
             autoembed_q pg_catalog.record;
         BEGIN
             PERFORM {statement};
             SELECT autoembed.query_vector({id}, $1) AS autoembed_v INTO autoembed_q;
             RETURN QUERY EXECUTE {statement} USING autoembed_q.autoembed_v, $2, $3, $4, $1;
         END
         $$;
         ALTER FUNCTION similar_notes DEPENDS ON EXTENSION autoembed"
    ));
    let ids = |db: &mut Db, more: &str| db.column(&format!("SELECT id FROM similar_notes('notes 7', {more})"));
    let of_old = ["1", "10", "10, filter => '{\"id\": [7, 8]}'"].map(|more| ids(db, more));
    assert_eq!(of_old[0], ["7"]);
    assert_eq!(db.int("SELECT autoembed.enable('notes', 'body', model => 'stub', index => 'none')"), id);
    // Its columns are compared with the key, as those of the present form are.
    db.run("ALTER TABLE notes DROP CONSTRAINT notes_pkey, ADD PRIMARY KEY (id, body)");
    db.error("SELECT * FROM similar_notes('notes 7')").assert("55000", "another primary key");
    db.run("ALTER TABLE notes DROP CONSTRAINT notes_pkey, ADD PRIMARY KEY (id)");
    assert_eq!(ids(db, "1"), ["7"]);
    db.run("SELECT autoembed.disable('notes')");
    assert_eq!(db.int("SELECT count(*) FROM pg_proc WHERE proname LIKE 'similar_notes%'"), 0);
    db.run("SELECT autoembed.enable('notes', 'body', model => 'stub', index => 'none')");
    let of_new = ["1", "10", "10, filter => '{\"id\": [7, 8]}'"].map(|more| ids(db, more));
    assert_eq!(of_new, of_old);
}

/// A hundred thousand searches in one statement leave nothing behind in the session.
#[test]
fn many_searches_in_one_session() {
    const MEMORY: &str = "SELECT sum(total_bytes) FROM pg_backend_memory_contexts";
    let mut site = scene();
    let calls = autoembed_tests::site::rows(5_000);
    let each = |db: &mut Db, text: &str| {
        db.int(&format!(
            "SELECT count(*) FROM generate_series(1, {calls}) g CROSS JOIN LATERAL similar_notes({text}, 1) s"
        ))
    };
    let looped = format!(
        "DO $$ BEGIN FOR i IN 1..{calls} LOOP BEGIN PERFORM 1 / (i % 2) FROM similar_notes('notes ' || i % 40, 1); EXCEPTION WHEN others THEN END; END LOOP; END $$"
    );
    let round = |db: &mut Db| {
        assert_eq!(each(db, "'notes ' || g % 40"), calls as i64);
        assert_eq!(each(db, "(SELECT 'notes ' || g % 40)"), calls as i64);
        db.run(&looped);
        db.int(MEMORY)
    };
    let first = round(&mut site.db);
    let second = round(&mut site.db);
    assert!(second - first < 300_000, "{} bytes more after {calls} searches of each kind", second - first);
    let peak = "SELECT max(total) FROM (SELECT s.id, (SELECT sum(total_bytes) FROM pg_backend_memory_contexts) AS total \
         FROM generate_series(1, 3000) g CROSS JOIN LATERAL similar_notes('notes ' || g % 40, 1) s WHERE g % 1000 = 0) p";
    let peak = site.db.int(peak);
    assert!(peak - second < 2_000_000, "{} bytes within a statement", peak - second);
}

/// Functions of others that are made to be in the way: a tree that the server can keep but not write out, and others of the searches' names.
#[test]
fn functions_that_are_made_to_be_in_the_way() {
    let mut site = scene();
    let id = id_of(&mut site, "notes");
    site.db.run(
        "CREATE ROLE mallory LOGIN; CREATE SCHEMA den AUTHORIZATION mallory; GRANT CREATE ON SCHEMA public TO mallory; \
         CREATE ROLE keeper LOGIN; GRANT CREATE ON SCHEMA public TO keeper; ALTER TABLE notes OWNER TO keeper",
    );
    let deep = format!("SELECT {}1{}", "COALESCE(".repeat(4400), ",2)".repeat(4400));
    let mut mallory = site.session_as("mallory");
    mallory.run(&format!("CREATE FUNCTION den.deep() RETURNS int LANGUAGE sql BEGIN ATOMIC {deep}; END"));
    let written_out = mallory.error("SELECT pg_get_function_sqlbody('den.deep()'::regprocedure)").code;
    assert_eq!(written_out, "54001", "it is not deep enough");
    for types in ["boolean", "text"] {
        mallory.run(&format!(
            "CREATE FUNCTION similar_notes({types}) RETURNS int LANGUAGE sql BEGIN ATOMIC {deep}; END; \
             ALTER FUNCTION similar_notes({types}) DEPENDS ON EXTENSION autoembed"
        ));
    }
    mallory.run(&format!(
        "CREATE FUNCTION similar_notes(int) RETURNS TABLE (a int, b int, c int, d int) LANGUAGE plpgsql \
           AS $$ BEGIN PERFORM autoembed.query_vector({id}, x); END $$; \
         CREATE FUNCTION similar_pages(text, int, real, jsonb, text) RETURNS int LANGUAGE sql BEGIN ATOMIC {deep}; END; \
         ALTER FUNCTION similar_pages(text, int, real, jsonb, text) DEPENDS ON EXTENSION autoembed"
    ));
    let mut keeper = site.session_as("keeper");
    assert_eq!(keeper.column("SELECT id FROM similar_notes('notes 7'::text, 1)"), ["7"]);
    keeper.run("SELECT id FROM similar_notes_to(7, 1)");
    keeper.run(
        "CREATE TABLE pages (id int PRIMARY KEY, body text); SELECT autoembed.enable('pages', 'body', model => 'stub')",
    );
    // The name is taken, and another one is found.
    keeper.run("SELECT * FROM similar_pages_embedding('a page'); SELECT autoembed.disable('pages')");
    keeper.run("SELECT autoembed.disable('notes')");
    const OURS: &str =
        "SELECT count(*) FROM pg_proc WHERE proname ~ '^similar_(notes|pages)' AND proowner <> 'mallory'::regrole";
    assert_eq!(keeper.int(OURS), 0);
    keeper.run("SELECT autoembed.enable('notes', 'body', model => 'stub')");
    site.db.run("SELECT autoembed.disable('notes'); SELECT autoembed.disable('tags')");
    assert_eq!(site.db.int(OURS), 0);
}

/// A right to a schema that is gone counts with the next search, as it does for a statement.
#[test]
fn rights_to_schemas_that_are_taken_away() {
    let mut site = scene();
    site.db.run(
        "CREATE SCHEMA closed; ALTER TABLE notes SET SCHEMA closed; \
         CREATE ROLE clerks; GRANT USAGE ON SCHEMA closed TO clerks; \
         CREATE ROLE clerk LOGIN IN ROLE clerks; GRANT SELECT ON closed.notes TO clerk; GRANT USAGE ON SCHEMA autoembed TO clerk",
    );
    let name =
        site.db.text("SELECT search_schema || '.' || search_function FROM autoembed.vectorizer ORDER BY id LIMIT 1");
    site.db.run(&format!("ALTER FUNCTION {name} SET SCHEMA public"));
    let mut clerk = site.session_as("clerk");
    let search = "SELECT id FROM public.similar_notes('notes 7', 1)";
    for _ in 0..3 {
        assert_eq!(clerk.column(search), ["7"]);
    }
    site.db.run("REVOKE clerks FROM clerk");
    let refused = clerk.error(search);
    assert_eq!((refused.code.as_str(), refused.message.as_str()), ("42501", "permission denied for schema closed"));
    site.db.run("GRANT clerks TO clerk");
    assert_eq!(clerk.column(search), ["7"]);
}
