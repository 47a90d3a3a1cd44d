//! Who may do and see what.

use autoembed_tests::Site;
use autoembed_tests::site::PATIENCE;
use autoembed_tests::wait::seconds;
use std::time::Instant;

/// Ordinary roles `alice` and `bob`; alice owns `notes` with an owner column.
fn tenants() -> Site {
    let mut site = Site::new();
    site.db.run("CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN; GRANT CREATE ON SCHEMA public TO alice");
    let mut alice = site.session_as("alice");
    alice.run(
        "CREATE TABLE notes (id int PRIMARY KEY, owner name DEFAULT current_user, body text);
         SELECT autoembed.enable('notes', 'body', model => 'stub');
         INSERT INTO notes SELECT i, CASE WHEN i % 2 = 0 THEN 'alice' ELSE 'bob' END, 'note ' || i FROM generate_series(1, 20) i",
    );
    site.settle("notes", "body");
    site
}

#[test]
fn an_ordinary_owner_needs_no_superuser() {
    let mut site = tenants();
    let mut alice = site.session_as("alice");
    assert_eq!(alice.int("SELECT id FROM similar_notes('note 4', 1)"), 4);
    alice.run("UPDATE notes SET body = 'edited' WHERE id = 4");
    site.settle("notes", "body");
    alice.run("SELECT autoembed.pause('notes'); SELECT autoembed.resume('notes'); SELECT autoembed.backfill('notes', force => true)");
    assert!(alice.yes("SELECT autoembed.wait('notes', '30 s')"));
    assert_eq!(alice.int("SELECT autoembed.retry_failed('notes')"), 0);
    assert_eq!(alice.text("SELECT state FROM autoembed.status"), "active");
    alice.run("SELECT autoembed.disable('notes', drop_column => true)");
}

#[test]
fn writers_need_no_rights_on_the_extension() {
    let mut site = tenants();
    site.db.run("GRANT SELECT, INSERT, UPDATE, DELETE ON notes TO bob");
    let mut bob = site.session_as("bob");
    bob.run("INSERT INTO notes VALUES (100, DEFAULT, 'from bob'); UPDATE notes SET body = 'bob was here' WHERE id = 1; DELETE FROM notes WHERE id = 2");
    assert_eq!(site.settle("notes", "body"), 20);
    bob.error("SELECT * FROM autoembed.job").code_is("42501");
    bob.error("INSERT INTO autoembed.job (vectorizer_id, lane, key) VALUES (1, 0, '1')").code_is("42501");
}

#[test]
fn no_select_no_search() {
    let mut site = tenants();
    let mut bob = site.session_as("bob");
    bob.error("SELECT * FROM similar_notes('note 4')").code_is("42501");
    site.db.run("GRANT SELECT (id) ON notes TO bob");
    bob.error("SELECT * FROM similar_notes('note 4')").code_is("42501");
    site.db.run("GRANT SELECT ON notes TO bob");
    assert_eq!(bob.int("SELECT id FROM similar_notes('note 4', 1)"), 4);
}

/// What the search functions call tells nothing of a table either: not its columns, and not what its model makes of a text.
#[test]
fn no_select_no_parts_of_a_search() {
    let mut site = tenants();
    let id = site.status("id", "notes");
    let statement = format!("SELECT autoembed.search_statement({id}, 10, NULL, 'semantic')");
    let vector = format!("SELECT autoembed.query_vector({id}, 'x')");
    site.stub.reset_stats();
    let mut bob = site.session_as("bob");
    for call in [&statement, &vector] {
        bob.error(call).assert("42501", "notes");
    }
    assert_eq!(site.stub.stats().requests, 0, "a stranger made the model work");
    site.db.run("GRANT SELECT ON notes TO bob");
    assert!(bob.text(&statement).contains("notes"));
    assert!(bob.text(&vector).starts_with('['));
    site.db.run("REVOKE SELECT ON notes FROM bob");
    for call in [&statement, &vector] {
        bob.error(call).assert("42501", "notes");
    }
}

#[test]
fn g36_row_security_holds_in_search() {
    let mut site = tenants();
    site.db.run("GRANT SELECT ON notes TO bob; ALTER TABLE notes ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON notes USING (owner = current_user)");
    let mut bob = site.session_as("bob");
    for _ in 0..7 {
        // Several times: a plan that was made for another role must not be used.
        let owners = bob.column("SELECT DISTINCT n.owner FROM similar_notes('note 4', 50) s JOIN notes n USING (id)");
        assert_eq!(owners, ["bob"]);
        assert_eq!(bob.rows("SELECT id FROM similar_notes('note 4', 50)").len(), 10);
    }
    // Without INHERIT: a member that inherits the owner's rights is exempt like the owner.
    site.db.run("ALTER ROLE bob NOINHERIT; GRANT alice TO bob");
    let mut both = site.session_as("bob");
    for _ in 0..7 {
        assert_eq!(both.rows("SELECT id FROM similar_notes('note 4', 50)").len(), 10);
        both.run("SET ROLE alice");
        assert_eq!(both.rows("SELECT id FROM similar_notes('note 4', 50)").len(), 20, "the owner is exempt");
        both.run("RESET ROLE");
    }
}

/// With FORCE ROW LEVEL SECURITY the owner, as whom the worker acts, does not see all rows: no row may look deleted.
#[test]
fn g32_forced_row_security_loses_no_job() {
    let mut site = tenants();
    site.db.run("ALTER TABLE notes ENABLE ROW LEVEL SECURITY; ALTER TABLE notes FORCE ROW LEVEL SECURITY; CREATE POLICY own ON notes USING (owner = current_user)");
    site.db.run("INSERT INTO notes SELECT i, 'bob', 'hidden ' || i FROM generate_series(101, 110) i");
    let state = site.until_state("notes", "blocked: ");
    println!("state under forced row security: {state}");
    assert!(state.contains("row"), "{state}");
    assert_eq!(site.failed("notes"), 0);
    site.db.run("ALTER TABLE notes NO FORCE ROW LEVEL SECURITY");
    site.settle_within("notes", "body", "embedding", PATIENCE * 3);
}

#[test]
fn the_views_show_only_tables_one_may_read() {
    let mut site = tenants();
    site.messages("");
    site.fault(autoembed_stub::Fault::Poison("bad".to_owned()));
    site.db.run("INSERT INTO messages (content) VALUES ('bad')");
    site.db.until("SELECT count(*) FROM autoembed.failed_jobs", "1", PATIENCE);
    let mut bob = site.session_as("bob");
    for view in ["status", "failed_jobs", "requests"] {
        assert_eq!(bob.int(&format!("SELECT count(*) FROM autoembed.{view}")), 0, "{view}");
    }
    let mut alice = site.session_as("alice");
    assert_eq!(alice.column("SELECT source::text FROM autoembed.status"), ["notes"]);
    site.db.run("GRANT SELECT ON messages TO bob");
    assert_eq!(bob.column("SELECT source::text FROM autoembed.status"), ["messages"]);
    assert_eq!(bob.int("SELECT count(*) FROM autoembed.failed_jobs"), 1);
}

#[test]
fn g39_only_trusted_roles_make_models() {
    let site = tenants();
    let mut alice = site.session_as("alice");
    for call in [
        "SELECT autoembed.create_model('mine', 'openai', dimensions => 3, url => 'http://127.0.0.1:9')",
        "SELECT autoembed.drop_model('stub')",
        "SELECT * FROM autoembed.test_model('stub')",
        "UPDATE autoembed.models SET url = 'http://127.0.0.1:9'",
        "INSERT INTO autoembed.models (name, provider, dimensions) VALUES ('mine', 'openai', 3)",
    ] {
        alice.error(call).code_is("42501");
    }
}

/// Whatever code of the owner's the worker runs, it runs with the owner's rights and cannot leave them.
#[test]
fn g07_the_workers_rights_are_the_owners() {
    let mut site = tenants();
    let mut alice = site.session_as("alice");
    alice.run(
        "CREATE TABLE seen (who text, session text, via text);
         CREATE FUNCTION trojan(via text) RETURNS void LANGUAGE plpgsql AS $$
         BEGIN
             BEGIN EXECUTE 'RESET ROLE'; EXCEPTION WHEN OTHERS THEN NULL; END;
             BEGIN EXECUTE 'RESET SESSION AUTHORIZATION'; EXCEPTION WHEN OTHERS THEN NULL; END;
             BEGIN EXECUTE 'SET SESSION AUTHORIZATION postgres'; EXCEPTION WHEN OTHERS THEN NULL; END;
             BEGIN EXECUTE 'ALTER ROLE alice SUPERUSER'; EXCEPTION WHEN OTHERS THEN NULL; END;
             INSERT INTO public.seen VALUES (current_user, session_user, via);
         END $$;
         CREATE FUNCTION in_code(via text, value text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS
         $$ BEGIN PERFORM public.trojan(via); RETURN value; END $$;
         CREATE TABLE fenced (body text); INSERT INTO fenced VALUES ('bait');
         ALTER TABLE fenced ENABLE ROW LEVEL SECURITY; ALTER TABLE fenced FORCE ROW LEVEL SECURITY;
         CREATE POLICY trap ON fenced USING (public.in_code('policy', body) IS NOT NULL);
         CREATE FUNCTION in_trigger() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             PERFORM public.trojan(TG_NAME), set_config('row_security', 'on', true);
             PERFORM count(*) FROM public.fenced;
             RETURN NEW;
         END $$;
         CREATE DOMAIN trap AS text CHECK (in_code('domain', VALUE) IS NOT NULL);
         CREATE TABLE bait (id int PRIMARY KEY, body text CHECK (in_code('check', body) IS NOT NULL),
             made text GENERATED ALWAYS AS (in_code('generated', body)) STORED);
         CREATE INDEX ON bait (in_code('index', body));
         CREATE TRIGGER before BEFORE UPDATE ON bait FOR EACH ROW EXECUTE FUNCTION in_trigger();
         CREATE TRIGGER after AFTER UPDATE ON bait FOR EACH ROW EXECUTE FUNCTION in_trigger();
         CREATE CONSTRAINT TRIGGER deferred AFTER UPDATE ON bait DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION in_trigger();
         SELECT autoembed.enable('bait', 'in_code(''input'', body::trap)', model => 'stub');
         INSERT INTO bait VALUES (1, 'bait')",
    );
    site.settle("bait", "body");
    assert_eq!(site.db.column("SELECT DISTINCT who FROM seen"), ["alice"]);
    assert!(!site.db.yes("SELECT rolsuper FROM pg_roles WHERE rolname = 'alice'"));
    // What ran in her own session proves nothing.
    assert_eq!(
        site.db.column("SELECT DISTINCT via FROM seen WHERE session <> 'alice' ORDER BY 1"),
        ["after", "before", "check", "deferred", "domain", "generated", "index", "input", "policy"]
    );
}

trait CodeIs {
    fn code_is(&self, code: &str);
}

impl CodeIs for autoembed_tests::SqlError {
    fn code_is(&self, code: &str) {
        assert_eq!(self.code, code, "{self:?}");
    }
}

/// Thousands of rows that may not be read neither keep the worker busy nor hold up another table's rows.
#[test]
fn forced_row_security_keeps_nobody_busy() {
    const BATCH: i64 = 100;
    let mut site = Site::builder().model(&format!("max_batch_inputs => {BATCH}")).start();
    site.messages("index => 'none'");
    site.db.run("CREATE TABLE notes (id int PRIMARY KEY, body text)");
    site.enable("notes", "body", "index => 'none'");
    site.db.run(
        "ALTER TABLE notes ENABLE ROW LEVEL SECURITY; ALTER TABLE notes FORCE ROW LEVEL SECURITY; CREATE POLICY none ON notes USING (false);
         CREATE ROLE carol; ALTER TABLE notes OWNER TO carol",
    );
    site.db.run("INSERT INTO notes SELECT i, 'hidden ' || i FROM generate_series(1, 5000) i");
    let state = site.until_state("notes", "blocked: ");
    assert!(state.contains("row_security") && state.contains("FORCE ROW LEVEL SECURITY"), "{state}");
    let updates = "SELECT n_tup_upd FROM pg_stat_user_tables WHERE relid = 'autoembed.job'::regclass";
    let (before, start, mut markers) = (site.db.int(updates), Instant::now(), 0);
    while start.elapsed() < seconds(4) {
        site.marker();
        markers += 1;
    }
    let grown = site.db.int(updates) - before;
    println!("{markers} rows of another table meanwhile; {grown} updates of the queue");
    assert!(markers >= 4, "another table's rows were held up: {markers} in 4 s");
    // A claim and its release are two updates a row; a marker has its claim.
    assert!(grown - markers < 3 * 2 * BATCH, "{grown} updates of the queue for {markers} rows of the other table");
    assert_eq!(site.db.int("SELECT count(embedding) FROM notes"), 0);
    site.db.run("ALTER TABLE notes NO FORCE ROW LEVEL SECURITY");
    site.db.until("SELECT count(*) FROM notes WHERE embedding IS NULL", "0", PATIENCE);
    assert_eq!(site.assert_all_vectors("notes", "body"), 5000);
    assert_eq!((site.failed("notes"), site.until_state("notes", "active")), (0, "active".to_owned()));
}

/// disable() drops what enable() has made and nothing else, and never fails for what others have made beside it.
#[test]
fn functions_like_the_search_functions_are_their_makers() {
    let mut site = Site::new();
    site.db.run(
        "CREATE ROLE bob LOGIN; CREATE ROLE carol LOGIN; CREATE ROLE mallory LOGIN; GRANT CREATE ON SCHEMA public TO bob, carol, mallory; GRANT carol TO bob",
    );
    let (mut bob, mut mallory) = (site.session_as("bob"), site.session_as("mallory"));
    bob.run("CREATE TABLE bt (id int PRIMARY KEY, body text)");
    let enable = "SELECT autoembed.enable('bt', 'body', model => 'stub')";
    const LEFT: &str = "SELECT p.oid::regprocedure::text || ' of ' || proowner::regrole FROM pg_proc p WHERE COALESCE(pg_get_function_sqlbody(oid), prosrc) ~ 'autoembed.(query_vector|search_rows|row_search_statement)' ORDER BY 1";
    let like_them = |id: i64, name: &str, arguments: &str, called: &str| {
        format!(
            "CREATE FUNCTION {name}({arguments}) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM autoembed.{called}({id}, x); END $$"
        )
    };
    let by_others = [
        "similar_bt(text) of mallory",
        "similar_bt(text,text) of bob",
        "similar_bt_to(text) of mallory",
        "similar_bt_to(text,integer) of bob",
    ];
    for is_restored in [false, true] {
        let id = bob.int(enable);
        mallory.run(&like_them(id, "similar_bt", "x text", "search_rows"));
        mallory.run(&like_them(id, "similar_bt_to", "x text", "row_search_statement"));
        bob.run(&like_them(id, "similar_bt", "x text, y text", "query_vector"));
        bob.run(&like_them(id, "similar_bt_to", "x text, y int", "row_search_statement"));
        assert_eq!(bob.column(LEFT).len(), 6);
        if is_restored {
            // A dump brings no ties to tables.
            site.db.run("DELETE FROM pg_depend WHERE classid = 'pg_proc'::regclass AND refobjid = 'bt'::regclass AND deptype = 'a'");
        }
        assert_eq!(site.told("bob", "SELECT autoembed.disable('bt')"), "", "{is_restored}");
        assert_eq!(bob.column(LEFT), by_others, "{is_restored}");
        for maker in [&mut bob, &mut mallory] {
            let own = "SELECT string_agg(format('DROP FUNCTION %s', oid::regprocedure), ';') FROM pg_proc WHERE proowner = current_user::regrole";
            let statements = maker.text(own);
            maker.run(&statements);
        }
    }
    // The very same, by another, in the place of one that came from a dump.
    let id = bob.int(enable);
    site.db.run(
        "DELETE FROM pg_depend WHERE classid = 'pg_proc'::regclass AND refobjid = 'bt'::regclass AND deptype = 'a'",
    );
    bob.run("DROP FUNCTION similar_bt(text, int, real, jsonb, text)");
    mallory.run(&like_them(id, "similar_bt", "x text, k int, s real, f jsonb, m text", "search_rows"));
    mallory.run("ALTER FUNCTION similar_bt DEPENDS ON EXTENSION autoembed");
    let said = site.told("bob", "SELECT autoembed.disable('bt')");
    assert!(said.contains("NOTICE:  function public.similar_bt(text,integer,real,jsonb,text) is left"), "{said}");
    assert_eq!(bob.column(LEFT), ["similar_bt(text,integer,real,jsonb,text) of mallory"]);
    mallory.run("DROP FUNCTION similar_bt");
    // A table that has changed hands, and a view over a search.
    bob.run(enable);
    bob.run("CREATE VIEW found AS SELECT * FROM similar_bt_to(1); ALTER TABLE bt OWNER TO carol");
    let said = site.told("carol", "SELECT autoembed.disable('bt')");
    assert!(said.matches("is left").count() == 1 && said.contains("other objects depend on it"), "{said}");
    assert_eq!(bob.column(LEFT), ["similar_bt_to(integer,integer,real,jsonb) of bob"]);
    bob.run("ALTER TABLE bt OWNER TO bob; DROP VIEW found; DROP FUNCTION similar_bt_to");
    bob.run(enable);
    bob.run("CREATE VIEW found AS SELECT * FROM similar_bt_to(1)");
    let said = site.told("bob", "SELECT autoembed.disable('bt')");
    assert!(said.matches("is left").count() == 1 && said.contains("other objects depend on it"), "{said}");
    assert_eq!(bob.column(LEFT), ["similar_bt_to(integer,integer,real,jsonb) of bob"]);
    // It does not keep the next one from its name, once it can be dropped.
    bob.run("DROP VIEW found");
    bob.run(enable);
    let both = ["similar_bt(text,integer,real,jsonb,text) of bob", "similar_bt_to(integer,integer,real,jsonb) of bob"];
    assert_eq!(bob.column(LEFT), both);
}
