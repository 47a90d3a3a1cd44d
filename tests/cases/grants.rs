//! Who may call and see what, role by role: docs/security.md, tried.

use autoembed_stub::Fault;
use autoembed_tests::site::PATIENCE;
use autoembed_tests::{Cluster, Db, Site};

/// Functions that PUBLIC may execute, each with what it looks at itself.
const FOR_EVERYBODY: [(&str, &str); 33] = [
    ("backfill", "owner"),
    ("clear_vector", "trigger"),
    ("disable", "owner"),
    ("discard_failed", "owner"),
    ("embed", "model"),
    ("embed_pending", "owner"),
    ("enable", "owner"),
    ("enqueue", "owner"),
    ("estimate_cost", "owner"),
    ("fused", "nothing to hide"),
    ("health", "reader"),
    ("index_builds", "reader"),
    ("job_status", "reader"),
    ("misfit", "nothing to hide"),
    ("notify", "owner"),
    ("pause", "owner"),
    ("query_vector", "reader"),
    ("queue_change", "trigger"),
    ("queue_counts", "reader"),
    ("reconcile", "owner"),
    ("report", "reader"),
    ("resume", "owner"),
    ("retry_failed", "owner"),
    ("row_search_statement", "reader"),
    ("search_rows", "reader"),
    ("search_statement", "reader"),
    ("sees_all_rows", "nothing to hide"),
    ("set_model", "owner"),
    ("stats", "reader"),
    ("wait", "owner"),
    ("word_information", "nothing to hide"),
    ("words_matched", "nothing to hide"),
    ("worker_activity", "nothing to hide"),
];

/// A new function or table must not reach PUBLIC by default.
#[test]
fn what_public_is_given_was_chosen() {
    let mut site = Site::new();
    const FUNCTIONS: &str =
        "SELECT p.proname FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
        WHERE p.pronamespace = 'autoembed'::regnamespace AND a.grantee = 0 ORDER BY 1";
    assert_eq!(site.db.column(FUNCTIONS), FOR_EVERYBODY.map(|(name, _)| name));
    const TABLES: &str = "SELECT c.relname || ' ' || a.privilege_type FROM pg_class c, aclexplode(c.relacl) a
        WHERE c.relnamespace = 'autoembed'::regnamespace AND a.grantee = 0 ORDER BY 1";
    let tables =
        ["failed_jobs", "models", "progress", "requests", "status", "workers"].map(|table| format!("{table} SELECT"));
    assert_eq!(site.db.column(TABLES), tables);
    const SCHEMA: &str = "SELECT a.privilege_type FROM pg_namespace n, aclexplode(n.nspacl) a WHERE n.nspname = 'autoembed' AND a.grantee = 0";
    assert_eq!(site.db.column(SCHEMA), ["USAGE"]);
    const COLUMNS: &str = "SELECT a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        WHERE c.relnamespace = 'autoembed'::regnamespace AND a.attacl IS NOT NULL";
    assert_eq!(site.db.column(COLUMNS), [""; 0]);
}

/// `messages`, a superuser's, with one row that has its vector and one that has failed; `who` are ordinary roles.
fn scene(who: &[&str]) -> Site {
    let mut site = Site::with_messages();
    for role in who {
        site.db.run(&format!("CREATE ROLE {role} LOGIN"));
    }
    site.fault(Fault::Poison("bad".to_owned()));
    site.db.run("INSERT INTO messages (content, note) VALUES ('good', 'a'), ('bad', 'b')");
    site.db.until("SELECT count(*) FROM autoembed.failed_jobs", "1", PATIENCE);
    site.db.until("SELECT count(embedding) FROM messages", "1", PATIENCE);
    site.stub.clear();
    site.stub.reset_stats();
    site
}

#[test]
fn a_stranger_spends_nothing_and_sees_nothing() {
    let mut site = scene(&["stranger"]);
    let id = site.status("id", "messages");
    let mut stranger = site.session_as("stranger");
    for call in [
        "enable('messages', 'content')".to_owned(),
        "enable('messages', 'note', model => 'stub', embedding => 'other')".to_owned(),
        "disable('messages')".to_owned(),
        "pause('messages')".to_owned(),
        "resume('messages')".to_owned(),
        "backfill('messages', force => true)".to_owned(),
        "enqueue('messages', ARRAY['1'])".to_owned(),
        "retry_failed('messages')".to_owned(),
        "discard_failed('messages')".to_owned(),
        "reconcile('messages')".to_owned(),
        "set_model('messages', 'builtin')".to_owned(),
        "estimate_cost('messages', input => 'note')".to_owned(),
        "embed_pending('messages')".to_owned(),
        "wait('messages')".to_owned(),
        "notify('messages')".to_owned(),
        "job_status('messages', '1')".to_owned(),
        "embed('a text', 'stub')".to_owned(),
        "embed('a text', 'text-embedding-3-small')".to_owned(),
        format!("query_vector({id}, 'a text')"),
        format!("search_statement({id}, 5, NULL, 'semantic')"),
        format!("row_search_statement({id}, 5, NULL)"),
        format!("search_statement({id}, 5, NULL, 'hybrid')"),
    ] {
        stranger.error(&format!("SELECT autoembed.{call}")).assert("42501", "");
    }
    stranger
        .error(&format!("SELECT * FROM autoembed.search_rows({id}, 'a text', 5, NULL, NULL, 'semantic') AS r (i int, b text, s real)"))
        .assert("42501", "messages");
    stranger.error("SELECT * FROM similar_messages('a text')").assert("42501", "messages");
    stranger.error("SELECT * FROM similar_messages_to(1)").assert("42501", "messages");
    for call in [
        "drop_model('stub')",
        "test_model('stub')",
        "create_model('x', 'openai', 3)",
        "session_usage()",
        "queue_change()",
        "clear_vector()",
        "own_model()",
    ] {
        stranger.error(&format!("SELECT autoembed.{call}"));
    }
    stranger.run("SET autoembed.default_model = 'stub'");
    stranger.error("SELECT autoembed.embed('a text')").assert("42501", "stub");
    assert!(stranger.text("SELECT autoembed.embed('a text', 'builtin')").starts_with('['));
    for all in ["embed_pending()", "retry_failed()", "discard_failed()"] {
        assert_eq!(stranger.int(&format!("SELECT autoembed.{all}")), 0, "{all}");
    }
    for view in ["status", "progress", "failed_jobs", "requests", "stats()"] {
        assert_eq!(stranger.int(&format!("SELECT count(*) FROM autoembed.{view}")), 0, "{view}");
    }
    const HIDDEN: &str =
        "SELECT relname FROM pg_class WHERE relnamespace = 'autoembed'::regnamespace AND relkind IN ('r', 'v', 'S')
        AND relname NOT IN ('failed_jobs', 'models', 'progress', 'requests', 'status', 'workers')";
    let hidden = stranger.column(HIDDEN);
    assert!(hidden.len() > 10, "{hidden:?}");
    for relation in hidden {
        assert_eq!(stranger.error(&format!("SELECT * FROM autoembed.{relation}")).code, "42501", "{relation}");
    }
    assert_eq!(site.stub.stats().requests, 0, "a stranger made the model work");
    assert_eq!((site.failed("messages"), site.status("state", "messages")), (1, "active".to_owned()));
}

#[test]
fn whose_text_a_model_embeds() {
    let mut site = scene(&["reader", "member", "boss NOINHERIT"]);
    let embed = |text: &str| format!("SELECT autoembed.embed('{text}', 'stub') IS NOT NULL");
    let (mut reader, mut member, mut boss) =
        (site.session_as("reader"), site.session_as("member"), site.session_as("boss"));
    let denied =
        |db: &mut Db, text: &str| db.error(&embed(text)).assert("42501", "permission denied for model \"stub\"");
    denied(&mut reader, "one");
    // Whoever may search with the model may embed with it, and nobody longer than that.
    site.db.run("GRANT SELECT ON messages TO reader");
    assert!(reader.yes(&embed("one")));
    site.db.run("REVOKE SELECT ON messages FROM reader; GRANT SELECT (id, content) ON messages TO reader");
    denied(&mut reader, "one");
    reader.error("SELECT * FROM similar_messages('two')").assert("42501", "messages");
    site.db.run("GRANT SELECT (embedding) ON messages TO reader");
    assert!(reader.yes(&embed("one")));
    assert_eq!(reader.int("SELECT id FROM similar_messages('good', 1)"), 1);
    site.db.run("SELECT autoembed.disable('messages')");
    denied(&mut reader, "one");
    // EXECUTE that was granted by name counts, by membership as well; PUBLIC's does not.
    site.db.run("GRANT EXECUTE ON FUNCTION autoembed.embed(text, text) TO PUBLIC");
    denied(&mut member, "three");
    site.db.run("CREATE ROLE embedders; GRANT embedders TO member, boss; GRANT EXECUTE ON FUNCTION autoembed.embed(text, text) TO embedders");
    assert!(member.yes(&embed("three")));
    denied(&mut boss, "three");
    boss.run("SET ROLE embedders");
    assert!(boss.yes(&embed("three")));
    site.db.run("REVOKE EXECUTE ON FUNCTION autoembed.embed(text, text) FROM embedders");
    denied(&mut member, "three");
    // A function of somebody who may call it, for those who may not.
    site.db.run(
        "CREATE FUNCTION lent(input text) RETURNS boolean LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
         AS $$ SELECT autoembed.embed(input, 'stub') IS NOT NULL $$",
    );
    assert!(reader.yes("SELECT lent('four')"));
    assert!(site.db.yes(&embed("five")));
    // Who is refused is refused before a request.
    let sent = site.inputs();
    for text in ["one", "three", "four", "five"] {
        assert!(sent.iter().any(|input| input == text), "{text} was never sent: {sent:?}");
    }
    assert!(!sent.iter().any(|input| input == "two"), "a search without the right to it made the model work");
}

/// Two tenants under row security, through every view and function.
#[test]
fn g36_tenants_see_nothing_of_each_other() {
    let mut site = Site::new();
    site.db.run("CREATE ROLE keeper LOGIN; CREATE ROLE red LOGIN; CREATE ROLE blue LOGIN; CREATE ROLE auditor LOGIN BYPASSRLS; CREATE ROLE helper LOGIN; GRANT keeper TO helper; GRANT CREATE ON SCHEMA public TO keeper");
    let mut keeper = site.session_as("keeper");
    keeper.run(
        "CREATE TABLE notes (id text PRIMARY KEY, tenant name DEFAULT current_user, body text);
         ALTER TABLE notes ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON notes USING (tenant = current_user);
         GRANT SELECT, INSERT, UPDATE, DELETE ON notes TO red, blue, auditor;
         SELECT autoembed.enable('notes', 'body', model => 'stub')",
    );
    site.fault(Fault::Poison("poison".to_owned()));
    let (mut red, mut blue) = (site.session_as("red"), site.session_as("blue"));
    red.run("INSERT INTO notes (id, body) SELECT 'red ' || i, 'red note ' || i FROM generate_series(1, 5) i; INSERT INTO notes (id, body) VALUES ('red secret', 'red poison')");
    blue.run("INSERT INTO notes (id, body) SELECT 'blue ' || i, 'blue note ' || i FROM generate_series(1, 5) i");
    site.db.until("SELECT count(*) FROM autoembed.failed_jobs", "1", PATIENCE);
    site.db.until("SELECT count(embedding) FROM notes", "10", PATIENCE);
    // What stops a table may quote a row.
    keeper.run(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN RAISE insufficient_privilege USING MESSAGE = 'no vector for ' || NEW.id; END $$;
         CREATE TRIGGER refuse BEFORE UPDATE OF embedding ON notes FOR EACH ROW EXECUTE FUNCTION refuse()",
    );
    red.run("INSERT INTO notes (id, body) VALUES ('red confidential', 'red note')");
    let state = site.until_state("notes", "blocked: ");
    assert!(state.contains("red confidential"), "the scene shows nothing worth hiding: {state}");
    let requests = site.db.int("SELECT count(*) FROM autoembed.requests");
    assert!(requests > 0);

    for tenant in [&mut red, &mut blue] {
        let name = tenant.text("SELECT current_user");
        for view in ["failed_jobs", "requests"] {
            assert_eq!(tenant.int(&format!("SELECT count(*) FROM autoembed.{view}")), 0, "{name}, {view}");
        }
        let status = format!("{:?}", tenant.rows("SELECT * FROM autoembed.status"));
        assert!(status.contains("blocked: ") && !status.contains("confidential"), "{status}");
        assert_eq!(tenant.int("SELECT count(*) FROM autoembed.status"), 1);
        assert_eq!(tenant.error("SELECT * FROM autoembed.usage").code, "42501");
        let found = tenant.column("SELECT id FROM similar_notes('note', 50)");
        assert_eq!(found.len(), 5, "{found:?}");
        assert!(found.iter().all(|id| id.starts_with(&name)), "{name} found {found:?}");
        let filtered = tenant
            .column("SELECT id FROM similar_notes('red note 1', 50, filter => '{\"tenant\": [\"red\", \"blue\"]}')");
        assert_eq!(filtered.len(), 5, "{filtered:?}");
        let found =
            tenant.column("SELECT id FROM notes ORDER BY embedding <=> autoembed.embed('red note 1', 'stub') LIMIT 50");
        assert!(!found.is_empty() && found.iter().all(|id| id.starts_with(&name)), "{name} found {found:?}");
        for call in [
            "retry_failed('notes')",
            "discard_failed('notes')",
            "embed_pending('notes')",
            "enqueue('notes', ARRAY['red 1'])",
            "wait('notes')",
        ] {
            tenant.error(&format!("SELECT autoembed.{call}")).assert("42501", "notes");
        }
    }
    for role in ["keeper", "auditor", "helper"] {
        let mut db = site.session_as(role);
        assert_eq!(db.column("SELECT key FROM autoembed.failed_jobs"), ["red secret"], "{role}");
        assert!(db.int("SELECT count(*) FROM autoembed.requests") >= requests, "{role}");
        assert!(db.text("SELECT state FROM autoembed.status").contains("red confidential"), "{role}");
    }
    // FORCE is for the owner's statements; the list of what failed is still his.
    keeper.run("ALTER TABLE notes FORCE ROW LEVEL SECURITY");
    assert_eq!(keeper.int("SELECT count(*) FROM autoembed.failed_jobs"), 1);
    keeper.run("ALTER TABLE notes DISABLE ROW LEVEL SECURITY");
    assert_eq!(red.int("SELECT count(*) FROM autoembed.failed_jobs"), 1);
}

/// A condition of the reader's must not be asked about rows that the view does not show him.
#[test]
fn a_condition_sees_no_more_than_its_view() {
    let mut site = scene(&["spy"]);
    site.db.run("GRANT CREATE ON SCHEMA public TO spy");
    let mut spy = site.session_as("spy");
    spy.run(
        "CREATE FUNCTION peep(seen anyelement) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS
         $$ BEGIN RAISE EXCEPTION 'seen: %', seen; END $$",
    );
    for (view, column) in [("status", "model"), ("failed_jobs", "key"), ("requests", "tokens")] {
        let sql = format!("SELECT * FROM autoembed.{view} WHERE peep({column})");
        assert_eq!(spy.rows(&sql).len(), 0, "{view}.{column}");
        let of_superuser = site.db.error(&sql);
        assert!(of_superuser.message.starts_with("seen: "), "{view}.{column} has nothing to see: {of_superuser:?}");
    }
}

/// The SQL of a section of docs/security.md: (who runs it, the statements).
fn documented(heading: &str) -> Vec<(String, String)> {
    let page = include_str!("../../docs/security.md");
    let section = page.split(&format!("\n## {heading}\n")).nth(1).and_then(|rest| rest.split("\n## ").next());
    let section = section.unwrap_or_else(|| panic!("docs/security.md has no section {heading:?}"));
    let blocks = section.split("```sql\n").skip(1).map(|block| block.split("```").next().unwrap());
    blocks
        .map(|block| {
            let (first, statements) = block.split_once('\n').unwrap();
            let who = first.strip_prefix("-- as ").unwrap_or_else(|| panic!("who runs this? {block}"));
            (who.trim().to_owned(), statements.replace("text-embedding-3-small", "stub"))
        })
        .collect()
}

/// Word by word, but for the model's name.
#[test]
fn the_documented_grants_are_enough() {
    let mut site = Site::new();
    let blocks = documented("GRANTs for an application");
    let who: Vec<&str> = blocks.iter().map(|(who, _)| who.as_str()).collect();
    assert_eq!(who, ["a superuser", "shop_owner", "shop_app", "a superuser"]);
    site.db.run(&blocks[0].1);
    let mut owner = site.session_as("shop_owner");
    owner.run(&blocks[1].1);
    let mut app = site.session_as("shop_app");
    // One by one: each is what an application does in a transaction of its own.
    for statement in blocks[2].1.split(";\n").filter(|s| !s.trim().is_empty()) {
        assert_eq!(app.rows(statement).is_empty(), statement.starts_with("INSERT"), "{statement}");
        site.settle("tickets", "body");
    }
    app.run("UPDATE tickets SET body = 'it came at last'; INSERT INTO tickets (body) VALUES ('thanks')");
    assert_eq!(site.settle("tickets", "body"), 2);
    assert_eq!(app.text("SELECT body FROM similar_tickets('thanks', 1)"), "thanks");
    // What goes beyond that, before and after.
    site.create_model("another", "");
    app.error("SELECT autoembed.embed('x', 'another')").assert("42501", "another");
    assert_eq!(owner.error("SELECT * FROM autoembed.usage").code, "42501");
    assert_eq!(owner.error("SELECT * FROM autoembed.test_model('stub')").code, "42501");
    site.db.run(&blocks[3].1);
    app.run("SELECT autoembed.embed('x', 'another')");
    assert!(!owner.rows("SELECT * FROM autoembed.usage").is_empty());
    assert!(owner.yes("SELECT ok FROM autoembed.test_model('stub')"));
    owner.run("SELECT autoembed.create_model('mine', 'openai', dimensions => 3); SELECT autoembed.drop_model('mine')");

    let blocks = documented("Narrower than that");
    assert_eq!(blocks.len(), 1);
    site.db.run(&blocks[0].1);
    site.db.run("CREATE ROLE other_owner LOGIN; GRANT CREATE ON SCHEMA public TO other_owner");
    let mut other = site.session_as("other_owner");
    other.run("CREATE TABLE things (id int PRIMARY KEY, body text)");
    assert_eq!(other.error("SELECT autoembed.enable('things', 'body')").code, "42501");
    owner.run(
        "CREATE TABLE more (id int PRIMARY KEY, body text); SELECT autoembed.enable('more', 'body', model => 'stub')",
    );
}

/// The README's first session, by a role that owns nothing but its table, and has been granted nothing but a place for it.
#[test]
fn the_first_session_needs_no_superuser() {
    let site = Site::new();
    site.session().run("CREATE ROLE dev LOGIN; GRANT CREATE ON SCHEMA public TO dev");
    let mut dev = site.session_as("dev");
    let readme = include_str!("../../README.md");
    let session = readme.split("## A first session\n").nth(1).and_then(|rest| rest.split("```").nth(1)).unwrap();
    let mut statement = String::new();
    let mut ran = 0;
    for line in session.lines() {
        let Some((_, sql)) = line.split_once("=# ").or_else(|| line.split_once("-# ")) else { continue };
        let sql = sql.split("   -- ").next().unwrap();
        statement.push_str(sql);
        statement.push('\n');
        if sql.ends_with(';') {
            dev.rows(&std::mem::take(&mut statement));
            ran += 1;
        }
    }
    assert!(ran >= 6 && statement.is_empty(), "{ran} statements, and {statement:?}");
    assert_eq!(dev.int("SELECT id FROM similar_messages('delivery problems', 1)"), 1);
    assert_eq!(
        dev.int("SELECT id FROM messages ORDER BY embedding <=> autoembed.embed('delivery problems') LIMIT 1"),
        1
    );
    assert_eq!(dev.text("SELECT state FROM autoembed.status"), "active");
    dev.run("SELECT autoembed.pause('messages'); SELECT autoembed.resume('messages'); SELECT autoembed.backfill('messages')");
    assert!(dev.yes("SELECT autoembed.wait('messages', '30 s')"));
    dev.run("SELECT autoembed.disable('messages', drop_column => true)");
}

/// A type that somebody made where CREATE EXTENSION looks first, to be taken for pgvector's.
#[test]
fn g40_a_type_made_beforehand() {
    let cluster = Cluster::builder().preload(true).start();
    cluster.client("postgres").run("CREATE DATABASE app");
    let mut db = cluster.client("app");
    db.run("CREATE ROLE mallory LOGIN; GRANT CREATE ON SCHEMA public TO mallory; CREATE SCHEMA ours; CREATE EXTENSION vector SCHEMA ours");
    cluster.client_as("app", "mallory").run("CREATE DOMAIN public.vector AS bytea");
    db.error("CREATE EXTENSION autoembed").assert("42710", "vector");
    assert_eq!(db.int("SELECT count(*) FROM pg_namespace WHERE nspname = 'autoembed'"), 0);
    db.run("CREATE EXTENSION autoembed SCHEMA ours");
    assert_eq!(db.text("SELECT autoembed.embed('a river')::ours.vector IS NOT NULL"), "t");
}
