//! Operators that others made before the extension came: nobody's session runs them on the extension's behalf.

use autoembed_stub::{Fault, Stub, StubConfig, Vectors};
use autoembed_tests::site::PATIENCE;
use autoembed_tests::{Cluster, Site};

/// Operators that fit a careless expression better than those of pg_catalog, or as well.
const DECOYS: [(&str, &str, &str, &str); 18] = [
    ("/", "real", "numeric", "double precision"),
    ("/", "bigint", "numeric", "double precision"),
    ("/", "numeric", "real", "double precision"),
    ("/", "bigint", "real", "double precision"),
    ("/", "numeric", "bigint", "double precision"),
    ("/", "bigint", "double precision", "double precision"),
    ("*", "real", "numeric", "double precision"),
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
