//! The SQL of the README and of the guide, statement by statement, by a role that owns its tables and nothing else; what these pages
//! leave to a superuser, by one.

use autoembed_tests::Site;

/// What only superusers do; both pages say so where they have it.
const BY_SUPERUSERS: [&str; 5] = ["CREATE EXTENSION", "ALTER SYSTEM", "pg_reload_conf", "create_model", "test_model"];

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
        CREATE TABLE chat (id int PRIMARY KEY, content text); INSERT INTO chat VALUES (1, 'hello')";
    play(include_str!("../../docs/guide.md"), 26, TABLES);
}
