//! Code of a table's owner in every place where the worker, or a superuser, comes by: whoever brings it to run, it has the
//! owner's rights, cannot leave them, and leaves nothing behind for the next owner.

use autoembed_tests::db::literal;
use autoembed_tests::site::PATIENCE;
use autoembed_tests::wait::eventually;
use autoembed_tests::{Db, Site};

/// What the code tries, each in a subtransaction of its own: nobody but a superuser, or a session that is its own, may.
const FORBIDDEN: [&str; 50] = [
    "RESET ROLE",
    "SET ROLE NONE",
    "SET ROLE postgres",
    "SET LOCAL ROLE postgres",
    "RESET SESSION AUTHORIZATION",
    "SET SESSION AUTHORIZATION postgres",
    "SET LOCAL SESSION AUTHORIZATION DEFAULT",
    "SELECT set_config('role', 'postgres', false)",
    "SELECT set_config('role', 'none', true)",
    "SELECT set_config('session_authorization', 'postgres', true)",
    "SELECT public.with_role()",
    "ALTER ROLE alice SUPERUSER",
    "ALTER ROLE alice BYPASSRLS",
    "GRANT postgres TO alice",
    "GRANT pg_execute_server_program TO alice",
    "CREATE ROLE accomplice SUPERUSER",
    "ALTER FUNCTION public.trojan(text) OWNER TO postgres",
    "ALTER SYSTEM SET work_mem = '1MB'",
    "SET session_replication_role = replica",
    "SET log_statement = 'none'",
    "SET LOCAL autoembed.ca_file = '/tmp/ca'",
    "SET autoembed.allowed_hosts = '169.254.169.254'",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "COPY public.seen (via) FROM '/etc/passwd'",
    "SELECT lo_export(lo_create(0), '/tmp/trojan')",
    "SELECT lo_import('/etc/passwd')",
    "SELECT pg_read_file('PG_VERSION')",
    "SELECT pg_ls_dir('.')",
    "SELECT pg_reload_conf()",
    "SELECT pg_terminate_backend(pg_backend_pid())",
    "SELECT pg_cancel_backend(pg_backend_pid())",
    "CREATE EVENT TRIGGER trojan ON ddl_command_start EXECUTE FUNCTION public.in_event()",
    "CREATE FUNCTION public.c() RETURNS int LANGUAGE c AS 'plpgsql', 'plpgsql_call_handler'",
    "CREATE SUBSCRIPTION trojan CONNECTION 'dbname=app' PUBLICATION p WITH (connect = false)",
    "CREATE FOREIGN DATA WRAPPER trojan",
    "LOAD 'autoembed'",
    "PREPARE left_behind AS SELECT 1",
    "DEALLOCATE ALL",
    "DISCARD PLANS",
    "LISTEN left_behind",
    "UNLISTEN *",
    "DECLARE left_behind CURSOR WITH HOLD FOR SELECT 1",
    "CREATE TEMP TABLE job (id int)",
    "CREATE TEMP VIEW vectorizer AS SELECT 1 AS id",
    "SELECT count(*) FROM autoembed.job",
    "UPDATE autoembed.models SET url = 'http://127.0.0.1:9'",
    "SELECT autoembed.create_model('mine', 'openai', 3)",
    "SELECT autoembed.embed_pending()",
    "SELECT autoembed.wait(timeout => '1 s')",
    "SELECT public.dblink_connect('left_behind', 'dbname=app')",
];

/// What anybody may do, and what must not outlast the owner's turn.
const ALLOWED: [&str; 21] = [
    "SET work_mem = '64kB'",
    "SET search_path = public, pg_temp",
    "SET row_security = on",
    "SET statement_timeout = '1ms'",
    "SET lock_timeout = 0",
    "SET enable_indexscan = off",
    "SET plan_cache_mode = force_generic_plan",
    "SET synchronous_commit = on",
    "SET default_transaction_isolation = 'serializable'",
    "SET application_name = 'trojan'",
    "SET timezone = 'Asia/Tokyo'",
    "SET datestyle = 'German'",
    "SET autoembed.lane = 'backfill'",
    "SELECT set_config('trojan.x', 'left', false)",
    "SET CONSTRAINTS ALL DEFERRED",
    "SELECT setseed(0)",
    "SELECT lo_open(lo_create(0), 131072)",
    "SELECT pg_notify('left_behind', '')",
    "SELECT autoembed.enqueue('public.bait_input', '{}'::text[])",
    "SELECT autoembed.embed('a trojan', 'stub')",
    "SELECT autoembed.backfill('public.bait_nothing')",
];

/// Locks last as long as the session in which they are taken: in a user's that is his own affair.
const LOCKS: [&str; 3] =
    ["SELECT pg_advisory_unlock_all()", "SELECT pg_advisory_lock(4711)", "SELECT pg_advisory_lock_shared(47, 11)"];

/// Where the code hides: the place, the input, and what is made after the table `bait_<place> (id int, body text)` (`$T`) and
/// before `enable`.
const PLACES: [(&str, &str, &str); 24] = [
    ("before_row", "body", "CREATE TRIGGER t BEFORE UPDATE ON $T FOR EACH ROW EXECUTE FUNCTION in_trigger('before_row')"),
    ("after_row", "body", "CREATE TRIGGER t AFTER UPDATE ON $T FOR EACH ROW EXECUTE FUNCTION in_trigger('after_row')"),
    ("before_statement", "body", "CREATE TRIGGER t BEFORE UPDATE ON $T EXECUTE FUNCTION in_trigger('before_statement')"),
    (
        "after_statement",
        "body",
        "CREATE TRIGGER t AFTER UPDATE ON $T REFERENCING NEW TABLE AS n FOR EACH STATEMENT EXECUTE FUNCTION in_trigger('after_statement')",
    ),
    (
        "immediate",
        "body",
        "CREATE CONSTRAINT TRIGGER t AFTER UPDATE ON $T DEFERRABLE INITIALLY IMMEDIATE FOR EACH ROW EXECUTE FUNCTION in_trigger('immediate')",
    ),
    (
        "deferred",
        "body",
        "CREATE CONSTRAINT TRIGGER t AFTER UPDATE ON $T DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION in_trigger('deferred')",
    ),
    (
        "policy",
        "body",
        "CREATE TABLE fenced (x text); INSERT INTO fenced VALUES ('x'); ALTER TABLE fenced OWNER TO warden;
         SET ROLE warden; ALTER TABLE fenced ENABLE ROW LEVEL SECURITY; ALTER TABLE fenced FORCE ROW LEVEL SECURITY; GRANT SELECT ON fenced TO alice;
         CREATE POLICY p ON fenced USING (spring('policy', x) IS NOT NULL); RESET ROLE;
         CREATE FUNCTION through_policy() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN PERFORM set_config('row_security', 'on', true); PERFORM count(*) FROM public.fenced; RETURN NEW; END $$;
         CREATE TRIGGER t BEFORE UPDATE ON $T FOR EACH ROW EXECUTE FUNCTION through_policy()",
    ),
    ("index", "body", "CREATE INDEX ON $T (spring('index', body))"),
    ("predicate", "body", "CREATE INDEX ON $T (id) WHERE spring('predicate', body) IS NOT NULL"),
    ("exclusion", "body", "ALTER TABLE $T ADD EXCLUDE USING btree (spring('exclusion', body) WITH =)"),
    ("check", "body", "ALTER TABLE $T ADD CHECK (spring('check', body) IS NOT NULL)"),
    ("generated", "body", "ALTER TABLE $T ADD made text GENERATED ALWAYS AS (spring('generated', body)) STORED;
         CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
         CREATE TRIGGER t BEFORE UPDATE ON $T FOR EACH ROW EXECUTE FUNCTION nothing()"),
    ("domain", "body::in_domain", "CREATE DOMAIN in_domain AS text CHECK (spring('domain', VALUE) IS NOT NULL)"),
    ("input", "spring('input', body)", ""),
    ("view", "(SELECT v.x || $T.body FROM seen_through v)", "CREATE VIEW seen_through AS SELECT spring('view', 'x') AS x"),
    (
        "definer",
        "as_definer(body)",
        "CREATE FUNCTION as_definer(text) RETURNS text LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER AS $$ BEGIN RETURN public.spring('definer', $1); END $$",
    ),
    (
        "cast",
        "mood",
        "CREATE TYPE mood AS ENUM ('good'); ALTER TABLE $T ADD mood mood DEFAULT 'good';
         CREATE FUNCTION mood_text(mood) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT public.spring('cast', 'good mood') $$;
         CREATE CAST (mood AS text) WITH FUNCTION mood_text(mood)",
    ),
    (
        "key_operator",
        "body",
        "CREATE TYPE k AS ENUM ('a'); ALTER TABLE $T DROP CONSTRAINT $T_pkey, ADD k k DEFAULT 'a', ADD PRIMARY KEY (id, k);
         CREATE FUNCTION same(k, k) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$ SELECT public.spring('key_operator', 'x') IS NOT NULL $$;
         CREATE OPERATOR = (LEFTARG = k, RIGHTARG = k, FUNCTION = same)",
    ),
    (
        "key_domain",
        "body",
        "CREATE DOMAIN d AS int CHECK (spring('key_domain', 'x') IS NOT NULL); ALTER TABLE $T DROP CONSTRAINT $T_pkey, ADD d d DEFAULT 1, ADD PRIMARY KEY (id, d)",
    ),
    (
        "operator",
        "short || short",
        "ALTER TABLE $T ADD short varchar DEFAULT 'short';
         CREATE FUNCTION glue(varchar, varchar) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT public.spring('operator', $1::text) $$;
         CREATE OPERATOR || (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = glue)",
    ),
    (
        "aggregate",
        "(SELECT gather(x) FROM (VALUES (body)) v (x))",
        "CREATE FUNCTION step(text, text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT public.spring('aggregate', concat($1, $2)) $$;
         CREATE AGGREGATE gather (text) (SFUNC = step, STYPE = text)",
    ),
    // Literals of arrays are checked while the expression is read, before anything is planned.
    (
        "literal",
        "body || array_length('{1}'::in_array[], 1)::text",
        "CREATE DOMAIN in_array AS int CHECK (spring('literal', 'x') IS NOT NULL)",
    ),
    (
        "literal_of_operator",
        "body <|> '{1}'",
        "CREATE DOMAIN in_operator AS int CHECK (spring('literal_of_operator', 'x') IS NOT NULL);
         CREATE FUNCTION beside(text, in_operator[]) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT $1 $$;
         CREATE OPERATOR <|> (LEFTARG = text, RIGHTARG = in_operator[], FUNCTION = beside)",
    ),
    (
        "path",
        "body",
        "CREATE SCHEMA tricks; CREATE FUNCTION tricks.same(bytea, bytea) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
         $$ BEGIN PERFORM public.spring('path', 'x'); RETURN true; END $$;
         CREATE OPERATOR tricks.= (LEFTARG = bytea, RIGHTARG = bytea, FUNCTION = tricks.same); SET search_path = tricks, public, pg_catalog",
    ),
];

/// The roles, and alice's code with what it tries.
fn scene(mut site: Site, attempts: &[&str]) -> Site {
    site.db.run(
        "CREATE ROLE alice LOGIN; CREATE ROLE warden; CREATE ROLE carol LOGIN; GRANT CREATE ON SCHEMA public TO alice, warden, carol;
         GRANT CREATE ON DATABASE app TO alice; GRANT warden TO alice WITH ADMIN OPTION",
    );
    if site.db.yes("SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'dblink')") {
        site.db.run("CREATE EXTENSION dblink");
    }
    let mut alice = site.session_as("alice");
    alice.run(
        "CREATE TABLE seen (via text, who name, is_super boolean, pid int, done int[]); CREATE TABLE attempts (id int, sql text); GRANT ALL ON seen, attempts TO PUBLIC;
         CREATE FUNCTION in_event() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN NULL; END $$;
         CREATE FUNCTION with_role() RETURNS name LANGUAGE sql AS $$ SELECT current_user $$;
         CREATE FUNCTION trojan(via text) RETURNS void LANGUAGE plpgsql AS $$
         DECLARE attempt record; done int[] := '{}';
         BEGIN
             IF session_user = 'alice' THEN RETURN; END IF;
             FOR attempt IN SELECT * FROM public.attempts ORDER BY id LOOP
                 BEGIN
                     EXECUTE attempt.sql;
                     done := done || attempt.id;
                 EXCEPTION WHEN OTHERS THEN NULL;
                 END;
             END LOOP;
             INSERT INTO public.seen SELECT via, current_user, r.rolsuper, pg_catalog.pg_backend_pid(), done
             FROM pg_catalog.pg_roles r WHERE r.rolname = current_user;
         END $$;
         CREATE FUNCTION spring(via text, value text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM public.trojan(via); RETURN value; END $$;
         CREATE FUNCTION in_trigger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM public.trojan(TG_ARGV[0]); RETURN NEW; END $$",
    );
    // Only a superuser can make it such; it is as good a trap in hers.
    site.db.run("ALTER FUNCTION with_role() SET role = postgres");
    for (id, sql) in attempts.iter().enumerate() {
        alice.run(&format!("INSERT INTO attempts VALUES ({id}, {})", literal(sql)));
    }
    alice.run("CREATE TABLE bait_nothing (id int PRIMARY KEY, body text); SELECT autoembed.enable('bait_nothing', 'body', model => 'stub')");
    site
}

/// Makes the table of a place; gives the session in which its `enable` belongs.
fn bait(site: &Site, (place, _, setup): (&str, &str, &str)) -> (Db, String) {
    let mut alice = site.session_as("alice");
    let table = format!("bait_{place}");
    alice.run(&format!("CREATE TABLE {table} (id int PRIMARY KEY, body text)"));
    alice.run(&setup.replace("$T", &table));
    (alice, table)
}

fn enable(table: &str, input: &str) -> String {
    let words = if table.contains("literal") { ", text_search => 'simple'" } else { "" };
    let input = literal(&input.replace("$T", table));
    format!("SELECT autoembed.enable('public.{table}', {input}, model => 'stub'{words})")
}

/// What `pid` ran of alice's: everywhere as her, and nothing that is forbidden.
fn check(site: &mut Site, pids: &str, attempts: &[&str]) {
    let ran = format!("FROM public.seen WHERE pid IN ({pids})");
    let all = site.db.column(&format!("SELECT DISTINCT via {ran} ORDER BY 1"));
    let mut places: Vec<&str> = PLACES.iter().map(|(place, ..)| *place).collect();
    places.sort_unstable();
    assert_eq!(all, places, "the places where the code ran");
    assert_eq!(
        site.db.rows(&format!("SELECT DISTINCT who, is_super {ran}")),
        [[Some("alice".into()), Some("f".into())]]
    );
    let done = site.db.column(&format!("SELECT DISTINCT unnest(done) {ran} ORDER BY 1"));
    let done: Vec<&str> = done.iter().map(|id| attempts[id.parse::<usize>().unwrap()]).collect();
    let escaped: Vec<_> = done.iter().filter(|sql| FORBIDDEN.contains(sql)).collect();
    assert!(escaped.is_empty(), "done by alice's code: {escaped:#?}");
    for sql in attempts.iter().filter(|sql| !FORBIDDEN.contains(sql)) {
        assert!(done.contains(sql), "this proves nothing, since it failed: {sql}");
    }
}

/// The settings of a process and what it holds, as another owner's code finds them there.
const REPORT: &str = "concat_ws(E'\\n', pg_backend_pid(), current_user, coalesce(current_setting('trojan.x', true), ''), pg_my_temp_schema(),
    (SELECT count(*) FROM pg_prepared_statements), (SELECT string_agg(name, ',') FROM pg_cursors), (SELECT string_agg(c, ',') FROM pg_listening_channels() c),
    (SELECT string_agg(name || '=' || setting, E'\\n' ORDER BY name) FROM pg_settings WHERE name NOT LIKE 'transaction%'))";

/// The lines that differ.
fn left<'a>(before: &'a str, after: &'a str) -> Vec<&'a str> {
    let not_in = |text: &'a str, other: &'a str| text.lines().filter(move |line| !other.lines().any(|o| o == *line));
    not_in(before, after).chain(not_in(after, before)).collect()
}

#[test]
fn g07_no_code_gets_out_of_its_owners_rights_in_the_worker() {
    let attempts = [&FORBIDDEN[..], &ALLOWED, &LOCKS].concat();
    let mut site = scene(Site::new(), &attempts);
    let worker = site.cluster.wait_worker("app", PATIENCE);
    // Carol's code looks around in the worker.
    let mut carol = site.session_as("carol");
    carol.run(&format!(
        "CREATE TABLE reports (id serial, report text); CREATE TABLE watch (id int PRIMARY KEY, body text);
         CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             INSERT INTO public.reports (report) VALUES ({REPORT} || E'\\nlocks ' || (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()));
             RETURN NEW;
         END $$;
         CREATE TRIGGER look BEFORE UPDATE ON watch FOR EACH ROW EXECUTE FUNCTION look()"
    ));
    carol.run("SELECT autoembed.enable('watch', 'body', model => 'stub'); INSERT INTO watch VALUES (1, 'before')");
    site.settle("watch", "body");

    for place in PLACES {
        let (mut alice, table) = bait(&site, place);
        alice.run(&enable(&table, place.1));
        alice.run(&format!("INSERT INTO {table} VALUES (1, 'bait'), (2, 'more bait')"));
        let done = format!("SELECT count(embedding) FROM public.{table}");
        site.db.until(&done, "2", PATIENCE);
        // Walking, reading and writing once more.
        alice.run(&format!("UPDATE public.{table} SET embedding = NULL; SELECT autoembed.backfill('public.{table}')"));
        site.db.until(&done, "2", PATIENCE);
    }
    check(&mut site, &worker.to_string(), &attempts);

    carol.run("INSERT INTO watch VALUES (2, 'after')");
    site.settle("watch", "body");
    let reports = carol.column("SELECT report FROM reports ORDER BY id");
    let [before, after] = &reports[..] else { panic!("{} reports", reports.len()) };
    assert_eq!(left(before, after), [""; 0], "left behind in the worker");
    // What it holds is its claim to be this database's worker, which the code has tried to release.
    const HELD: &str = "SELECT string_agg(DISTINCT locktype || ' ' || coalesce(classid::regclass::text, ''), ',') FROM pg_locks WHERE mode = 'ExclusiveLock' AND locktype <> 'virtualxid' AND pid = ";
    site.db.until(&format!("{HELD}{worker}"), "object pg_extension", PATIENCE);
    assert_eq!(site.cluster.worker_pid("app"), Some(worker), "the same worker served them all");
    assert!(!site.db.yes("SELECT rolsuper FROM pg_roles WHERE rolname = 'alice'"));
}

/// A superuser who looks after alice's tables: enable, embed_pending, backfill, disable.
#[test]
fn g07_no_code_gets_into_a_superusers_session() {
    let attempts = [&FORBIDDEN[..], &ALLOWED].concat();
    let mut site = scene(Site::workerless().start(), &attempts);
    let mut root = site.session();
    root.run("SELECT autoembed.embed('what loads the library', 'builtin')::text; DO 'BEGIN END'");
    let before = root.text(&format!("SELECT {REPORT}"));
    for place in PLACES {
        let (mut alice, table) = bait(&site, place);
        alice.run(&format!("INSERT INTO {table} VALUES (1, 'bait'), (2, 'more bait')"));
        let path = alice.text("SHOW search_path");
        root.run(&format!("SET search_path = {path}"));
        root.run(&enable(&table, place.1));
        root.run("RESET search_path");
        // A row that could not be locked at once is left to the next call.
        eventually("both rows have vectors", PATIENCE, || {
            root.run(&format!("SELECT autoembed.embed_pending('public.{table}')"));
            match root.int(&format!("SELECT count(embedding) FROM public.{table}")) {
                2 => Ok(()),
                rows => Err(format!("{rows} of {table}")),
            }
        });
        root.run(&format!("SELECT autoembed.backfill('public.{table}', force => true); SELECT autoembed.embed_pending('public.{table}')"));
        assert_eq!(root.int(&format!("SELECT autoembed.reconcile('public.{table}')")), 0, "{table}");
        let key = match place.0 {
            "key_operator" => "(1,a)",
            "key_domain" => "(1,1)",
            _ => "1",
        };
        let queue = format!("SELECT autoembed.enqueue('public.{table}', ARRAY['{key}'])");
        assert_eq!(
            root.text(&format!("SELECT state FROM autoembed.job_status('public.{table}', '{key}')")),
            "embedded"
        );
        root.run(&format!(
            "{queue}; SELECT autoembed.embed_pending('public.{table}'); SELECT autoembed.notify('public.{table}')"
        ));
        root.run("SELECT autoembed.health(), autoembed.stats(), autoembed.report(); SELECT * FROM autoembed.progress, autoembed.status");
        root.run(&format!(
            "SELECT autoembed.estimate_cost('public.{table}'); SELECT autoembed.set_model('public.{table}', 'builtin')"
        ));
        root.run(&format!(
            "SELECT autoembed.embed_pending('public.{table}'); SELECT autoembed.embed_pending('public.{table}')"
        ));
        assert_eq!(
            root.text(&format!("SELECT model FROM autoembed.status WHERE source = 'public.{table}'::regclass")),
            "builtin",
            "{table}"
        );
        root.run(&format!(
            "SELECT autoembed.retry_failed('public.{table}'); SELECT autoembed.disable('public.{table}')"
        ));
    }
    let pid = root.text("SELECT pg_backend_pid()");
    check(&mut site, &pid, &attempts);
    let after = root.text(&format!("SELECT {REPORT}"));
    assert_eq!(left(&before, &after), [""; 0], "left behind in the superuser's session");
}

/// The server lets restricted code make functions in the schema of temporary objects, and older ones types, too; a type there
/// comes before the server's own.
#[test]
fn g07_nothing_temporary_stays_in_the_worker() {
    let mut site = Site::new();
    site.db.run("CREATE ROLE alice LOGIN; GRANT CREATE ON SCHEMA public TO alice");
    let worker = site.cluster.wait_worker("app", PATIENCE);
    let mut alice = site.session_as("alice");
    alice.run(
        "CREATE TABLE bait (id int PRIMARY KEY, body text);
         CREATE FUNCTION leave() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             EXECUTE 'CREATE FUNCTION pg_temp.left_behind() RETURNS int LANGUAGE sql AS ''SELECT 1'''; RETURN NEW;
         END $$;
         CREATE TRIGGER leave BEFORE UPDATE ON bait FOR EACH ROW EXECUTE FUNCTION leave();
         SELECT autoembed.enable('bait', 'body', model => 'stub'); INSERT INTO bait VALUES (1, 'bait')",
    );
    let state = site.until_state("bait", "blocked: ");
    assert!(state.contains("temporary objects"), "{state}");
    assert_eq!(site.db.int("SELECT count(*) FROM pg_proc WHERE proname = 'left_behind'"), 0);
    // In the way of nobody, and over when the code is mended.
    site.messages("");
    site.marker();
    alice.run("DROP TRIGGER leave ON bait");
    site.settle("bait", "body");
    assert_eq!(site.cluster.worker_pid("app"), Some(worker));
}

/// A transaction that the owner's code makes read only, in the middle of the worker's own work.
#[test]
fn g07_a_transaction_made_read_only() {
    let mut site = Site::new();
    site.messages("");
    site.db.run("CREATE ROLE alice LOGIN; GRANT CREATE ON SCHEMA public TO alice");
    let worker = site.cluster.wait_worker("app", PATIENCE);
    let mut alice = site.session_as("alice");
    alice.run(
        "CREATE TABLE bait (id int PRIMARY KEY, body text); CREATE TABLE seen (pid int);
         CREATE FUNCTION lock_up() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
             IF session_user <> 'alice' THEN INSERT INTO public.seen VALUES (pg_backend_pid()); SET TRANSACTION READ ONLY; END IF;
         EXCEPTION WHEN read_only_sql_transaction THEN NULL;
         END $$;
         CREATE FUNCTION spring(value text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM public.lock_up(); RETURN value; END $$;
         SELECT autoembed.enable('bait', 'spring(body)', model => 'stub'); INSERT INTO bait VALUES (1, 'bait'), (2, NULL), (3, 'more')",
    );
    site.settle("bait", "body");
    site.marker();
    site.until_idle("bait");
    assert_eq!(site.failed("bait"), 0);
    assert_eq!(site.db.column("SELECT DISTINCT pid FROM seen"), [worker.to_string()]);
    assert_eq!(site.cluster.worker_pid("app"), Some(worker));
}

/// A rule on the table would turn the worker's statement into others.
#[test]
fn g07_rules_of_the_owner() {
    let mut site = Site::new();
    site.messages("");
    site.db.run("CREATE ROLE alice LOGIN; GRANT CREATE ON SCHEMA public TO alice");
    let mut alice = site.session_as("alice");
    for (number, rule) in ["DO ALSO", "DO INSTEAD"].into_iter().enumerate() {
        let table = format!("ruled_{number}");
        alice.run(&format!(
            "CREATE TABLE {table} (id int PRIMARY KEY, body text); CREATE TABLE caught_{number} (who name);
             SELECT autoembed.enable('{table}', 'body', model => 'stub');
             CREATE RULE r AS ON UPDATE TO {table} {rule} INSERT INTO caught_{number} VALUES (current_user);
             INSERT INTO {table} VALUES (1, 'bait')"
        ));
        site.until_state(&table, "blocked: ");
        let ran = site.db.column(&format!("SELECT DISTINCT who FROM caught_{number}"));
        assert!(ran.iter().all(|who| who == "alice"), "{ran:?}");
    }
    site.marker();
    alice.run("DROP RULE r ON ruled_0; DROP RULE r ON ruled_1");
    for table in ["ruled_0", "ruled_1"] {
        eventually("the rows of ruled tables", PATIENCE, || {
            let (rows, left) = autoembed_tests::vectors::compare(&mut site.db, table, "body", "embedding", 16);
            if rows == 1 && left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        });
    }
}

/// The index of a full table is built by a process of its own, a superuser's: nothing of the owner's runs in it as such.
#[test]
fn g07_the_index_builder_runs_nothing_of_the_owners() {
    let mut site = Site::new();
    site.db.run("CREATE ROLE alice LOGIN; GRANT CREATE ON SCHEMA public TO alice");
    let mut alice = site.session_as("alice");
    alice.run(
        "CREATE TABLE seen (who name, pid int);
         CREATE FUNCTION spy(value text) RETURNS void LANGUAGE sql AS $$ INSERT INTO public.seen VALUES (current_user, pg_backend_pid()) $$;
         CREATE FUNCTION spring(value text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM public.spy(value); RETURN value; END $$;
         CREATE DOMAIN words AS text CHECK (spring(VALUE) IS NOT NULL);
         CREATE TABLE large (id int PRIMARY KEY, body words, made text GENERATED ALWAYS AS (spring('x')) STORED, CHECK (spring(body) IS NOT NULL));
         CREATE INDEX ON large (spring('index')) WHERE spring('predicate') IS NOT NULL; CREATE STATISTICS of_large ON (spring(body)) FROM large;
         INSERT INTO large SELECT i, i || repeat(' word', 380) FROM generate_series(1, 700) i;
         SELECT autoembed.enable('large', 'body', model => 'stub', text_search => 'simple')",
    );
    const BUILT: &str = "SELECT coalesce(string_agg(m.amname || ' ' || i.indisvalid, ', ' ORDER BY m.amname), 'none') FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam
         WHERE m.amname IN ('gin', 'hnsw')";
    assert_eq!(site.db.text(BUILT), "none", "the table is too small for this");
    site.db.until("SELECT count(embedding) FROM large", "700", PATIENCE);
    site.db.until(BUILT, "gin true, hnsw true", PATIENCE * 2);
    // Whoever reads a table evaluates the conditions of its indexes, as this session did.
    assert_eq!(site.db.column("SELECT DISTINCT who FROM seen WHERE pid <> pg_backend_pid()"), ["alice"]);
    assert!(
        site.db.int("SELECT count(DISTINCT pid) FROM seen WHERE pid <> pg_backend_pid()") >= 2,
        "the code ran in alice's session only"
    );
}
