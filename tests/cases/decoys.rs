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
        for view in ["status", "failed_jobs", "workers", "requests", "models"] {
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
        }
        for view in ["status", "failed_jobs", "workers", "requests", "models"] {
            caller.rows(&format!("SELECT * FROM autoembed.{view}"));
        }
        for call in [
            "pause('{}')",
            "resume('{}')",
            "backfill('{}', force => true)",
            "reconcile('{}')",
            "enqueue('{}', '{{1}}')",
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
