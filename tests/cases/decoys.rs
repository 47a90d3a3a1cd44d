//! Operators that others made before the extension came: nobody's session runs them on the extension's behalf.

use autoembed_stub::{Fault, Stub, StubConfig, Vectors};
use autoembed_tests::site::PATIENCE;
use autoembed_tests::{Cluster, Site};

/// Operators that fit a careless expression better than those of pg_catalog, or as well.
const DECOYS: [(&str, &str, &str, &str); 20] = [
    ("/", "real", "numeric", "double precision"),
    ("/", "bigint", "numeric", "double precision"),
    ("/", "numeric", "real", "double precision"),
    ("/", "bigint", "real", "double precision"),
    ("/", "numeric", "bigint", "double precision"),
    ("/", "bigint", "double precision", "double precision"),
    ("*", "real", "numeric", "double precision"),
    ("*", "numeric", "integer", "numeric"),
    ("-", "integer", "double precision", "double precision"),
    ("+", "bigint", "numeric", "bigint"),
    ("-", "bigint", "numeric", "bigint"),
    ("||", "text", "varchar", "text"),
    ("||", "varchar", "text", "text"),
    ("||", "text", "name", "text"),
    ("=", "text", "varchar", "boolean"),
    ("=", "text", "name[]", "boolean"),
    ("=", "integer", "numeric", "boolean"),
    (">", "bigint", "numeric", "boolean"),
    (">", "real", "numeric", "boolean"),
    ("<=", "timestamptz", "text", "boolean"),
];

/// What shows that decoys are found where nobody takes care.
const PROOFS: [&str; 3] =
    ["SELECT 1::real / 2::numeric", "SELECT 1::bigint / 2::numeric", "SELECT 'a'::text || 'b'::varchar"];

fn decoy(number: usize, (name, left, right, result): (&str, &str, &str, &str)) -> String {
    format!(
        "CREATE FUNCTION public.decoy_{number}(a {left}, b {right}) RETURNS {result} LANGUAGE plpgsql AS
         $$ BEGIN RAISE EXCEPTION 'a decoy ran as %', current_user; END $$;
         CREATE OPERATOR public.{name} (LEFTARG = {left}, RIGHTARG = {right}, FUNCTION = public.decoy_{number});"
    )
}

#[test]
fn g40_operators_made_beforehand() {
    let cluster = Cluster::builder().preload(true).start();
    cluster.client("postgres").run("CREATE DATABASE app");
    let mut db = cluster.client("app");
    db.run("CREATE ROLE mallory LOGIN; GRANT CREATE ON SCHEMA public TO mallory");
    let mut mallory = cluster.client_as("app", "mallory");
    for (number, operator) in DECOYS.into_iter().enumerate() {
        mallory.run(&decoy(number, operator));
    }
    for sql in PROOFS {
        assert!(db.error(sql).message.contains("a decoy ran as postgres"), "the decoys are set up wrongly: {sql}");
    }

    db.run("CREATE EXTENSION autoembed CASCADE");
    let stub = Stub::start(StubConfig::vectors(Vectors::Hashed(16)).recorded()).unwrap();
    let mut site = Site { db, cluster, stub, dims: 16 };
    site.create_model("stub", "max_batch_inputs => 5");
    site.messages("");
    let look = |site: &mut Site| {
        for view in
            ["status", "progress", "failed_jobs", "workers", "requests", "models", "stats()", "health()", "report()"]
        {
            site.db.rows(&format!("SELECT * FROM autoembed.{view}"));
        }
    };
    look(&mut site);
    site.insert(1, 20);
    site.settle("messages", "content");
    look(&mut site);
    assert_eq!(site.db.int("SELECT id FROM similar_messages('text 7', 1, 0.5)"), 7);
    // With a rate and work ahead, so that every expression of the view is evaluated.
    site.stub.hold();
    site.insert(21, 40);
    site.wait_held(1);
    assert_ne!(site.status("rows_per_second", "messages"), "NULL");
    assert_ne!(site.status("eta", "messages"), "NULL");
    look(&mut site);
    site.fault(Fault::status(401));
    site.stub.release();
    // What was held before the fault is answered as if there were none.
    site.insert(41, 45);
    site.until_state("messages", "blocked: ");
    look(&mut site);
    site.db.run("SELECT autoembed.pause('messages')");
    look(&mut site);
    site.stub.clear();
    site.db.run("SELECT autoembed.resume('messages')");
    site.settle("messages", "content");
    assert_eq!(site.db.int("SELECT autoembed.retry_failed('messages')"), 0);
    site.db.until("SELECT count(*) FROM autoembed.status WHERE pending = 0", "1", PATIENCE);
    let ran = site.cluster.log().matches("a decoy ran as").count();
    assert_eq!(ran, PROOFS.len(), "somebody ran a decoy; log:\n{}", site.cluster.log_tail(20));
}

/// An operator for nearly every pair of the server's types that has none, and functions with the names that the extension uses.
const EVERY_OPERATOR: &str = r"
    CREATE FUNCTION public.decoy() RETURNS boolean LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'a decoy ran as %', current_user; END $$;
    DO $do$
    DECLARE
        types CONSTANT text[] := '{int2,int4,int8,float4,float8,numeric,text,varchar,name,timestamptz,timestamp,date,interval,oid,jsonb,bytea,text[],name[]}';
        l regtype; r regtype; o text; number text;
    BEGIN
        FOR l, r IN SELECT a::regtype, b::regtype FROM unnest(types) a, unnest(types) b LOOP
            EXECUTE format('CREATE FUNCTION public.decoy_number(a %s, b %s) RETURNS float8 LANGUAGE plpgsql AS $$ BEGIN PERFORM public.decoy(); END $$', l, r);
            EXECUTE format('CREATE FUNCTION public.decoy_answer(a %s, b %s) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RETURN public.decoy(); END $$', l, r);
            FOREACH o IN ARRAY '{+,-,*,/,=,<>,<,>,<=,>=}'::text[] LOOP
                IF NOT EXISTS (SELECT FROM pg_operator p WHERE p.oprname = o AND p.oprleft = l AND p.oprright = r) THEN
                    number := CASE WHEN o IN ('+', '-', '*', '/') THEN 'decoy_number' ELSE 'decoy_answer' END;
                    EXECUTE format('CREATE OPERATOR public.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = public.%s)', o, l, r, number);
                END IF;
            END LOOP;
        END LOOP;
    END $do$;
    CREATE FUNCTION public.sha256(varchar) RETURNS bytea LANGUAGE plpgsql AS $$ BEGIN PERFORM public.decoy(); END $$;
    CREATE FUNCTION public.format(text, int) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM public.decoy(); END $$;
    CREATE FUNCTION public.format(text, bigint) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM public.decoy(); END $$;
    CREATE FUNCTION public.left(text, bigint) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM public.decoy(); END $$;
    CREATE FUNCTION public.clock_timestamp(text) RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN PERFORM public.decoy(); END $$";

/// Whoever looks operators up in a schema where others may make some runs theirs: no call of the extension does.
#[test]
fn g40_an_operator_for_every_pair_of_types() {
    let mut site = Site::new();
    site.db.run("CREATE ROLE mallory LOGIN; GRANT CREATE ON SCHEMA public TO mallory; CREATE ROLE carol LOGIN; GRANT CREATE ON SCHEMA public TO carol");
    let mut mallory = site.session_as("mallory");
    mallory.run(EVERY_OPERATOR);
    // Statements of the test's own keep out of it.
    site.db.run("SET search_path = pg_catalog");
    let mut root = site.session();
    assert!(root.error("SELECT 1 - 0.5::float8").message.contains("a decoy ran as postgres"), "no decoy is in the way");
    for role in ["postgres", "carol"] {
        let table = format!("of_{role}");
        let mut caller = site.session_as(role);
        caller.run(&format!("CREATE TABLE {table} (id bigint PRIMARY KEY, tag text, body varchar)"));
        for _ in 0..2 {
            caller.run(&format!(
                "SELECT autoembed.enable('{table}', 'body', model => 'stub', delay => '10 ms', on_change => 'clear')"
            ));
        }
        caller.run(&format!("INSERT INTO {table} VALUES (1, 'a', 'one'), (2, 'b', 'two'), (3, NULL, 'three')"));
        caller.run(&format!("UPDATE {table} SET body = 'four' WHERE id OPERATOR(pg_catalog.=) 3::bigint"));
        assert!(caller.yes(&format!("SELECT autoembed.wait('{table}', '30 s')")));
        site.settle(&format!("public.{table}"), "body");
        for arguments in [
            "",
            ", 1",
            ", 5, 0.1",
            ", 5, filter => '{\"id\": [1, 2], \"tag\": \"a\"}'",
            ", 5, filter => '{\"tag\": null}'",
        ] {
            assert!(!caller.rows(&format!("SELECT * FROM similar_{table}('four'{arguments})")).is_empty());
            caller.rows(&format!("SELECT * FROM similar_{table}_to(2{arguments})"));
        }
        for view in
            ["status", "progress", "failed_jobs", "workers", "requests", "models", "stats()", "health()", "report()"]
        {
            caller.rows(&format!("SELECT * FROM autoembed.{view}"));
        }
        for call in [
            "pause('{}')",
            "resume('{}')",
            "backfill('{}', force => true)",
            "reconcile('{}')",
            "notify('{}')",
            "job_status('{}', '1')",
            "enqueue('{}', '{{1}}')",
            "set_model('{}', 'builtin')",
            "set_model('{}', 'stub')",
            "estimate_cost('{}')",
            "embed_pending('{}')",
            "retry_failed('{}')",
            "discard_failed('{}')",
            "wait('{}')",
            "embed('a river', 'stub')",
            "disable('{}', drop_column => true)",
        ] {
            caller
                .run(&format!("SELECT autoembed.{}", call.replace("{{", "{").replace("}}", "}").replace("{}", &table)));
        }
    }
    root.run(
        "SELECT autoembed.create_model('other', 'openai', dimensions => 3, timeout => '5 s', daily_token_budget => 5)",
    );
    root.rows("SELECT * FROM autoembed.test_model('other'); SELECT * FROM autoembed.usage; SELECT autoembed.drop_model('other')");
    let ran = site.cluster.log().matches("a decoy ran as").count();
    assert_eq!(ran, 1, "somebody ran a decoy; log:\n{}", site.cluster.log_tail(20));
}

/// An expression is part of the owner's search function: what its names mean is not for the reader's search_path to say.
#[test]
fn g07_an_expression_means_the_same_to_every_reader() {
    let mut site = Site::new();
    site.db.run(
        "CREATE ROLE alice LOGIN; CREATE ROLE mallory LOGIN; CREATE ROLE bob LOGIN; CREATE SCHEMA shop AUTHORIZATION alice; CREATE SCHEMA evil AUTHORIZATION mallory;
         GRANT USAGE ON SCHEMA shop, evil TO PUBLIC",
    );
    let mut alice = site.session_as("alice");
    alice.run(
        "SET search_path = shop, public; CREATE TABLE products (id int PRIMARY KEY, name varchar); CREATE TABLE reviews (id int, note varchar);
         INSERT INTO products VALUES (1, 'kettle'); INSERT INTO reviews VALUES (1, 'boils'); GRANT SELECT ON products, reviews TO bob;
         SELECT autoembed.enable('products', $$name || (SELECT note FROM reviews r WHERE r.id = products.id)$$, model => 'stub')",
    );
    site.settle("shop.products", "'kettleboils'");
    site.session_as("mallory").run(
        "CREATE TABLE evil.reviews (id int, note varchar); GRANT SELECT ON evil.reviews TO PUBLIC; INSERT INTO evil.reviews VALUES (1, 'mallory was here');
         CREATE FUNCTION evil.glue(varchar, varchar) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'a decoy ran as %', current_user; END $$;
         CREATE OPERATOR evil.|| (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = evil.glue)",
    );
    let mut bob = site.session_as("bob");
    for path in ["public", "evil, public", "evil, shop, public", "pg_catalog"] {
        bob.run(&format!("SET search_path = {path}"));
        assert_eq!(bob.text("SELECT input FROM shop.similar_products('kettleboils', 1, 0.9)"), "kettleboils", "{path}");
        assert_eq!(bob.text("SHOW search_path"), path);
    }
}

/// Temporary objects of a session come last: nobody makes another's function, which runs as its owner, read his view.
#[test]
fn g36_a_temporary_view_of_the_readers() {
    let mut site = Site::new();
    site.db.run(
        "CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN; CREATE ROLE mallory LOGIN;
         CREATE SCHEMA shop AUTHORIZATION alice; CREATE SCHEMA desk AUTHORIZATION bob; GRANT USAGE ON SCHEMA shop, desk TO PUBLIC",
    );
    let mut alice = site.session_as("alice");
    alice.run(
        "SET search_path = shop, public; CREATE TABLE products (id int PRIMARY KEY, name text); CREATE TABLE reviews (id int, note text);
         INSERT INTO products VALUES (1, 'kettle'); INSERT INTO reviews VALUES (1, 'boils'); GRANT SELECT ON products, reviews TO bob;
         SELECT autoembed.enable('products', 'name || (SELECT note FROM reviews r WHERE r.id = products.id)', model => 'stub')",
    );
    site.settle("shop.products", "'kettleboils'");
    site.session_as("bob").run(
        "CREATE FUNCTION desk.found() RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = desk, pg_temp AS
         $$ SELECT input FROM shop.similar_products('kettleboils', 1, 0.9) $$",
    );
    let mut mallory = site.session_as("mallory");
    mallory.run(
        "CREATE FUNCTION pg_temp.spy() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'a decoy ran as %', current_user; END $$;
         CREATE TEMP VIEW reviews AS SELECT 1 AS id, pg_temp.spy() AS note; GRANT SELECT ON reviews TO PUBLIC",
    );
    assert!(
        mallory.error("SELECT note FROM reviews").message.contains("a decoy ran as mallory"),
        "no view is in the way"
    );
    assert_eq!(mallory.text("SELECT desk.found()"), "kettleboils");
}

/// `"$user"` is another schema to every role: what counts is which one it was to `enable()`.
#[test]
fn g07_a_schema_of_the_readers_name() {
    let mut site = Site::new();
    site.db.run(
        "CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN; GRANT CREATE ON SCHEMA public TO alice; CREATE SCHEMA bob AUTHORIZATION bob;
         CREATE SCHEMA alice AUTHORIZATION alice; GRANT USAGE ON SCHEMA alice, bob TO PUBLIC",
    );
    site.session_as("bob").run(
        "CREATE TABLE bob.reviews (id int, note text); INSERT INTO bob.reviews VALUES (1, 'burns'), (2, 'burns'); GRANT SELECT ON bob.reviews TO PUBLIC",
    );
    let of_alice = "SELECT autoembed.enable('public.products', 'name || (SELECT note FROM reviews r WHERE r.id = products.id)', model => 'stub')";
    let mut alice = site.session_as("alice");
    assert_eq!(alice.text("SHOW search_path"), "\"$user\", public");
    alice.run(
        "CREATE TABLE public.products (id int PRIMARY KEY, name text); CREATE TABLE public.reviews (id int, note text); GRANT SELECT ON public.products, public.reviews TO bob;
         INSERT INTO public.products VALUES (1, 'kettle'); INSERT INTO public.reviews VALUES (1, 'boils'), (2, 'cuts');
         CREATE TABLE alice.reviews (id int, note text); INSERT INTO alice.reviews VALUES (1, 'shines'), (2, 'shines'); GRANT SELECT ON alice.reviews TO bob",
    );
    // By a superuser, to whom public is meant, and by the owner, to whom it is his own schema.
    for (caller, note) in [("postgres", "boils"), ("alice", "shines")] {
        let mut caller = site.session_as(caller);
        caller.run(of_alice);
        site.settle("public.products", &format!("'kettle{note}'"));
        site.until_idle("products");
        for reader in ["bob", "alice", "postgres"] {
            let found = format!("SELECT input FROM public.similar_products('kettle{note}', 1, 0.9)");
            assert_eq!(site.session_as(reader).text(&found), format!("kettle{note}"), "{reader} after {note}");
        }
        caller.run("SELECT autoembed.disable('public.products', drop_column => true)");
    }
}

/// What a name means is settled by what is there: a schema that comes later, or that nobody may use, changes nothing, and
/// one with an odd name is found again.
#[test]
fn g07_the_search_path_is_resolved() {
    let mut site = Site::new();
    const ODD: [&str; 3] = ["\"A, \"\"b\"\"\"", "\"sel'ect\"", "\"table\""];
    for (number, schema) in ODD.iter().enumerate() {
        site.db.run(&format!(
            "CREATE SCHEMA {schema}; CREATE FUNCTION {schema}.say_{number}(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT $1 || '{number}' $$"
        ));
    }
    let path = format!("pg_temp, to_come, {}, pg_catalog, public", ODD.join(", "));
    site.db.run(&format!(
        "CREATE TABLE notes (id int PRIMARY KEY, body text); INSERT INTO notes VALUES (1, 'note');
         SET search_path = {path}; SELECT autoembed.enable('notes', 'say_0(say_1(say_2(body)))', model => 'stub'); RESET search_path"
    ));
    let resolved = format!("{}, pg_catalog, public", ODD.join(", "));
    assert_eq!(site.db.text("SELECT input_path FROM autoembed.vectorizer"), resolved);
    site.db.run(
        "CREATE SCHEMA to_come; CREATE FUNCTION to_come.say_0(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'decoy' $$",
    );
    site.settle("notes", "'note210'");
    assert_eq!(site.db.text("SELECT input FROM similar_notes('note210', 1, 0.9)"), "note210");
    let kept = site.db.text("SELECT proconfig::text FROM pg_proc WHERE proname = 'similar_notes_to'");
    assert!(kept.contains("public, pg_temp") && !kept.contains("to_come"), "{kept}");

    // In a session without a path, names are those of the server.
    site.db.run("CREATE TABLE plain (id int PRIMARY KEY, body text)");
    site.db.run("SET search_path = ''; SELECT autoembed.enable('public.plain', 'upper(body)', model => 'stub'); RESET search_path");
    site.db.run("INSERT INTO plain VALUES (1, 'plain')");
    site.settle("plain", "upper(body)");
    assert_eq!(site.db.text("SELECT input FROM similar_plain('PLAIN', 1, 0.9)"), "PLAIN");
}

/// What somebody made where the extension's own things go makes CREATE EXTENSION fail, and is not taken over.
#[test]
fn g40_a_schema_made_beforehand() {
    let cluster = Cluster::builder().preload(true).start();
    cluster.client("postgres").run("CREATE ROLE mallory LOGIN");
    cluster.client("postgres").run("CREATE DATABASE app OWNER mallory");
    let mut mallory = cluster.client_as("app", "mallory");
    let mut db = cluster.client("app");
    db.run("CREATE EXTENSION vector");
    for made in [
        "CREATE SCHEMA autoembed",
        "CREATE TABLE autoembed.models (name text)",
        "CREATE FUNCTION autoembed.embed(input text, model text DEFAULT NULL) RETURNS vector LANGUAGE sql AS 'SELECT NULL::vector'",
    ] {
        mallory.run(made);
        assert_eq!(db.error("CREATE EXTENSION autoembed").code, "42P06", "after {made}");
    }
    mallory.run("DROP SCHEMA autoembed CASCADE");
    // The owner of the database may make schemas, and has no part in this one.
    db.run("CREATE EXTENSION autoembed");
    assert_eq!(db.int("SELECT count(*) FROM pg_class WHERE relnamespace = 'autoembed'::regnamespace AND relowner = 'mallory'::regrole"), 0);
    for sql in
        ["CREATE TABLE autoembed.mine ()", "DROP SCHEMA autoembed CASCADE", "ALTER SCHEMA autoembed RENAME TO mine"]
    {
        assert_eq!(mallory.error(sql).code, "42501", "{sql}");
    }
}
