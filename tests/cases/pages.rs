//! The SQL of the README, of the guide and of the page on moving, statement by statement, by a role that owns its tables and nothing else; what these pages
//! leave to a superuser, by one.

use autoembed_tests::Site;
use autoembed_tests::page::{Block, Page};
use autoembed_tests::site::PATIENCE;

/// What only superusers do; both pages say so where they have it.
const BY_SUPERUSERS: [&str; 8] = [
    "CREATE EXTENSION",
    "ALTER SYSTEM",
    "pg_reload_conf",
    "create_model",
    "test_model",
    "LEAKPROOF",
    "UPDATE autoembed.models",
    "autoembed.usage",
];

/// The statements of a page in their order: of its blocks of SQL, and what was typed in its sessions.
fn statements(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (number, block) in page.split("```").enumerate() {
        let Some((kind, text)) = block.split_once('\n').filter(|_| number % 2 == 1) else { continue };
        let is_session = text.contains("app=# ");
        if kind.trim() != "sql" && !is_session {
            continue;
        }
        let mut statement = String::new();
        for line in text.lines() {
            let line = match line.trim_start().split_once("# ").filter(|(prompt, _)| ["app=", "app-"].contains(prompt))
            {
                Some((_, typed)) => typed,
                None if is_session => continue,
                None => line,
            };
            let line = line
                .find("--")
                .filter(|at| !line[..*at].contains('\'') || line[*at..].matches('\'').count() % 2 == 0)
                .map_or(line, |at| &line[..at]);
            statement.push_str(line);
            statement.push('\n');
            if line.trim_end().ends_with(';') {
                found.push(std::mem::take(&mut statement).trim().to_owned());
            }
        }
    }
    found.retain(|statement| !statement.is_empty() && !statement.contains("..."));
    found
}

fn play(page: &str, least: usize, tables: &str) {
    let mut site = Site::new();
    site.db.run("CREATE ROLE dev LOGIN; GRANT CREATE ON SCHEMA public TO dev");
    let mut dev = site.session_as("dev");
    dev.run(tables);
    let statements = statements(page);
    assert!(statements.len() >= least, "{} statements: {statements:#?}", statements.len());
    for statement in &statements {
        println!("{statement}");
        if statement.contains("CREATE EXTENSION") {
            continue;
        }
        // The test's server answers for OpenAI's, and nothing leaves this machine.
        let sql = statement
            .replace("text-embedding-3-small", "stub")
            .replace("gpu.example", "127.0.0.1")
            .replace("embed('weather', 'shop')", "embed('weather', 'stub')");
        if statement.contains("disable('messages'") {
            // Two ways to do it, of which one is enough.
            dev.run("SELECT autoembed.enable('messages', 'content')");
        }
        if BY_SUPERUSERS.iter().any(|part| statement.contains(part)) {
            site.db.rows(&sql);
        } else {
            dev.rows(&sql);
        }
    }
}

#[test]
fn the_readme_needs_no_superuser_but_where_it_says_so() {
    const TABLES: &str = "CREATE TABLE tickets (id int PRIMARY KEY, title text, body text); CREATE TABLE notes (id int PRIMARY KEY, body text)";
    play(include_str!("../../README.md"), 11, TABLES);
}

#[test]
fn the_guide_needs_no_superuser_but_where_it_says_so() {
    const TABLES: &str = "CREATE TABLE messages (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, content text);
        CREATE TABLE archive (id int PRIMARY KEY, content text); INSERT INTO archive SELECT i, 'letter ' || i FROM generate_series(1, 200) i;
        CREATE TABLE documents (id int PRIMARY KEY, title text, body text, lang text, tags jsonb);
        INSERT INTO documents SELECT i, 'title ' || i, 'the weather of day ' || i, 'en', '{\"year\": 2026}' FROM generate_series(1, 20) i;
        CREATE TABLE tickets (id int PRIMARY KEY, body text);
        CREATE TABLE chat (id int PRIMARY KEY, content text); INSERT INTO chat VALUES (1, 'hello')";
    play(include_str!("../../docs/guide.md"), 26, TABLES);
}

/// Each provider's models, on a table of their own: that they can be made and used by their names is all that is seen here.
#[test]
fn the_providers_of_the_page() {
    let page = Page::read("docs/providers.md", include_str!("../../docs/providers.md"));
    let mut site = Site::new();
    let port = site.stub.port();
    site.db.run(&format!("UPDATE autoembed.models SET url = 'http://127.0.0.1:{port}' WHERE provider <> 'local'"));
    let blocks: Vec<&Block> = page.blocks.iter().filter(|block| block.language == "sql").collect();
    assert!(blocks.len() >= 9, "{} blocks", blocks.len());
    for block in blocks {
        site.db.run("DROP TABLE IF EXISTS messages; CREATE TABLE messages (id int PRIMARY KEY, content text)");
        for statement in statements(&format!("```sql\n{}```", block.text)) {
            println!("{statement}");
            site.db.rows(&statement.replace("gpu.example", "127.0.0.1").replace("tei.example", "127.0.0.1"));
        }
        site.db.run("SELECT autoembed.disable(source, embedding) FROM autoembed.status");
    }
}

/// What stands in blocks on the page of operations; its tables are played by [`crate::runbook`].
#[test]
fn the_blocks_of_operations() {
    let page = include_str!("../../docs/operations.md").replace("\\watch 1", ";");
    let mut site = Site::new();
    site.db.run(
        "CREATE ROLE app_owner; CREATE TABLE documents (id int PRIMARY KEY, body text); CREATE TABLE messages (id int PRIMARY KEY, content text);
         CREATE TABLE pages (id int PRIMARY KEY, body text); INSERT INTO pages VALUES (1, 'a page'); INSERT INTO documents VALUES (7, 'seven');",
    );
    site.enable("documents", "body", "");
    site.enable("pages", "body", "chunk_size => 200");
    site.settle("documents", "body");
    assert!(site.db.yes("SELECT autoembed.wait('pages')"));
    site.stub.reset_stats();
    let statements: Vec<String> = statements(&page)
        .into_iter()
        .map(|statement| statement.replace("chunk_size => 200", "model => 'stub', chunk_size => 200"))
        .collect();
    assert!(statements.len() >= 20, "{} statements: {statements:#?}", statements.len());
    for statement in &statements {
        println!("{statement}");
        site.db.rows(statement);
    }
    assert!(site.db.yes("SELECT autoembed.wait('pages')"));
    assert_eq!(site.inputs(), Vec::<String>::new(), "nothing is embedded again");
}

/// What a table of the page on moving says of this side: the code in its second column.
fn code_of_this_side(line: &str) -> Vec<String> {
    let line = line.replace("\\|", "\u{1}");
    let cell = line.split('|').nth(2).unwrap_or_default().replace('\u{1}', "|");
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Everything that the page on moving names is there, and every call of it works.
#[test]
fn what_one_moves_to_is_there() {
    const PAGE: &str = include_str!("../../docs/moving.md");
    const IS_THERE: &str = "SELECT EXISTS (SELECT FROM pg_class WHERE relnamespace = 'autoembed'::regnamespace AND relname = $)
         OR EXISTS (SELECT FROM pg_proc WHERE pronamespace = 'autoembed'::regnamespace AND proname = $) OR EXISTS (SELECT FROM pg_settings WHERE name = 'autoembed.' || $)";
    let mut site = Site::new();
    site.db.run(
        "CREATE TABLE docs (id int PRIMARY KEY, title text, body text, lang text); INSERT INTO docs VALUES (1, 'title', 'body', 'en');
         CREATE FUNCTION embedding_input(docs) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN $1.title || ' ' || $1.body; END $$;",
    );
    site.enable("docs", "body", "text_search => 'english'");
    assert!(site.db.yes("SELECT autoembed.wait('docs')"));
    let (mut calls, mut names) = (0, 0);
    for line in PAGE.lines().filter(|line| line.starts_with("| ")) {
        let (arguments, rest): (Vec<String>, Vec<String>) = code_of_this_side(line).into_iter().partition(|code| {
            code.split_once(" => ").is_some_and(|(name, _)| name.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
        });
        for code in &rest {
            let sql = code.replace("text-embedding-3-small", "stub");
            let name = code.strip_prefix("autoembed.").map(|rest| rest.split('(').next().unwrap_or_default());
            let is_call = (name.is_some() || code.starts_with("similar_docs")) && code.contains('(');
            if is_call && !code.contains("...") && !code.ends_with("()") {
                let anew = if code.contains("enable(") {
                    "SELECT autoembed.disable('docs', drop_column => true);"
                } else {
                    ""
                };
                site.db.run(&format!("BEGIN; {anew} SELECT * FROM {sql}; ROLLBACK"));
                calls += 1;
            } else if code.starts_with("SET ") {
                site.db.run(&format!("{sql}; RESET ALL"));
            } else if let Some(name) = name {
                assert!(site.db.yes(&IS_THERE.replace('$', &format!("'{name}'"))), "{line}");
                names += 1;
            }
        }
        if let Some(filter) = arguments.iter().find(|argument| argument.starts_with("filter")) {
            site.db.rows(&format!("SELECT * FROM similar_docs('q', {filter})"));
        } else if !arguments.is_empty() {
            // Sizes need each other.
            let size = if line.contains("chunk_size => ") { "" } else { ", chunk_size => 64" };
            let size = if arguments[0].starts_with("chunk") { size } else { "" };
            let arguments = arguments.join(", ").replace("text-embedding-3-small", "stub");
            site.db.run(&format!(
                "BEGIN; SELECT autoembed.disable('docs', drop_column => true); SELECT autoembed.enable('docs', 'body', {arguments}{size}); ROLLBACK"
            ));
            calls += 1;
        }
    }
    assert!(calls > 25 && names > 15, "{calls} calls, {names} names");
}

/// The steps of that page, with edits between them and in their midst: vectors that were paid for are kept, and none of an old text.
#[test]
fn g02_edits_while_one_moves() {
    const PAGE: &str = include_str!("../../docs/moving.md");
    let steps = PAGE.split("## The way that fits all").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap();
    let steps: Vec<String> =
        statements(steps).iter().map(|step| step.replace("text-embedding-3-small", "stub")).collect();
    let [enable, copy, backfill] = &steps[..] else { panic!("{steps:#?}") };
    for is_down in [false, true] {
        let mut site = Site::new();
        site.db.run(
            "CREATE TABLE documents (id int PRIMARY KEY, body text); INSERT INTO documents SELECT i, 'body ' || i FROM generate_series(1, 9) i;
             CREATE TABLE old_vectors (id int PRIMARY KEY, content text, embedding halfvec(16));
             INSERT INTO old_vectors SELECT id, body, array_fill(0.5, ARRAY[16])::halfvec FROM documents WHERE id < 9",
        );
        let edit = |site: &mut Site, id: i32| {
            site.db.run(&format!("UPDATE documents SET body = 'edited ' || id WHERE id = {id}"));
        };
        edit(&mut site, 2);
        if is_down {
            site.stub.hold();
        }
        site.db.rows(enable);
        edit(&mut site, 3);
        if !is_down {
            site.db.until("SELECT count(embedding) FROM documents", "1", PATIENCE);
        }
        // An edit that is not committed yet when the vectors are copied.
        let (mut user, mut mover) = (site.session(), site.session());
        user.run("BEGIN; UPDATE documents SET body = 'edited 4' WHERE id = 4");
        let pid = mover.int("SELECT pg_backend_pid()");
        std::thread::scope(|scope| {
            let copied = scope.spawn(|| mover.rows(copy));
            let waits = format!("SELECT wait_event_type FROM pg_stat_activity WHERE pid = {pid}");
            site.db.until(&waits, "Lock", PATIENCE);
            user.run("COMMIT");
            copied.join().unwrap();
        });
        edit(&mut site, 5);
        site.db.rows(backfill);
        edit(&mut site, 6);
        site.stub.release();
        assert!(site.db.yes("SELECT autoembed.wait('documents')"));
        let kept = "SELECT id FROM documents WHERE embedding = array_fill(0.5, ARRAY[16])::vector ORDER BY id";
        assert_eq!(site.db.column(kept), ["1", "7", "8"], "down: {is_down}");
        site.settle("(SELECT * FROM documents WHERE id NOT IN (1, 7, 8)) d", "body");
        let inputs = site.inputs();
        assert!(
            !["body 1", "body 7", "body 8"].iter().any(|kept| inputs.iter().any(|text| text == kept)),
            "{inputs:?}"
        );
    }
}
