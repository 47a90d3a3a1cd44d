//! The scripts of versions that are out: they are what they were, they are shipped, and each leads to the catalogue of a fresh extension.

use autoembed_tests::catalogue::assert_as_fresh;
use autoembed_tests::{Catalogue, Cluster, Db, find};
use std::path::{Path, PathBuf};

/// `sql/released`.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("sql/released")
}

/// The lines of SHA256SUMS: checksum, and the file as named from `sql/released`.
fn sums() -> Vec<(String, String)> {
    let sums = std::fs::read_to_string(folder().join("SHA256SUMS")).unwrap();
    let line = |line: &str| line.split_once("  ").map(|(sum, name)| (sum.to_owned(), name.to_owned())).unwrap();
    sums.lines().map(line).collect()
}

/// Versions that are out and are not the one that the server under test has.
pub(crate) fn earlier_versions() -> Vec<String> {
    let present = find::default_version().unwrap();
    let name = |(_, name): (String, String)| Some(name.strip_prefix("autoembed--")?.strip_suffix(".sql")?.to_owned());
    let earlier: Vec<String> = sums().into_iter().filter_map(name).filter(|version| *version != present).collect();
    assert!(!earlier.is_empty(), "there is nothing to update");
    earlier
}

/// A database with the extension alone, of a version or of the present one.
fn database(cluster: &Cluster, name: &str, version: Option<&str>) -> Db {
    cluster.client("postgres").run(&format!("CREATE DATABASE {name}"));
    let mut db = cluster.client(name);
    let version = version.map_or_else(String::new, |version| format!("VERSION '{version}' "));
    db.run(&format!("CREATE EXTENSION autoembed {version}CASCADE"));
    db
}

#[test]
fn g34_what_is_out_stays_as_it_is() {
    let cluster = Cluster::builder().start();
    let mut db = cluster.client("postgres");
    let present = find::default_version().unwrap();
    for (sum, name) in sums() {
        let kept = std::fs::read(folder().join(&name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        let shipped = find::extension_scripts().unwrap().join(Path::new(&name).file_name().unwrap());
        let seen = db.text(&format!("SELECT encode(sha256(pg_read_binary_file('{}')), 'hex')", shipped.display()));
        // The present version's own is what was built: its comments say from which lines of Rust it came.
        if name != format!("autoembed--{present}.sql") {
            assert_eq!(seen, sum, "{name}: another one is shipped than was recorded");
            assert_eq!(std::fs::read(&shipped).unwrap(), kept, "{name}");
        }
    }
}

#[test]
fn g34_every_version_that_is_out_leads_to_the_present_one() {
    let cluster = Cluster::builder().start();
    let fresh = Catalogue::read(&mut database(&cluster, "fresh", None));
    println!("{} objects of a fresh extension", fresh.len());
    assert!(fresh.len() > 300, "only {} objects were looked at", fresh.len());
    for version in earlier_versions() {
        let mut db = database(&cluster, &format!("updated_{}", version.replace('.', "_")), Some(&version));
        assert_eq!(db.text("SELECT extversion FROM pg_extension WHERE extname = 'autoembed'"), version);
        db.run("ALTER EXTENSION autoembed UPDATE");
        assert_as_fresh(&Catalogue::read(&mut db), &fresh);
    }
}

/// What an update script may forget, as one statement each, and what must be told of it.
const FORGOTTEN: [(&str, &str); 39] = [
    ("ALTER TABLE autoembed.job ALTER attempts SET DEFAULT 1", "table column autoembed.job.attempts, default"),
    ("ALTER TABLE autoembed.job ALTER attempts DROP DEFAULT", "table column autoembed.job.attempts, default"),
    ("ALTER TABLE autoembed.request ALTER cost DROP NOT NULL", "table column autoembed.request.cost, attnotnull"),
    ("ALTER TABLE autoembed.failed ALTER text_mark TYPE int", "table column autoembed.failed.text_mark, type"),
    ("ALTER TABLE autoembed.embedded ALTER marks SET STORAGE EXTENDED", "table column autoembed.embedded.marks, attstorage"),
    ("ALTER TABLE autoembed.request ALTER model SET COMPRESSION pglz", "table column autoembed.request.model, attcompression"),
    ("ALTER TABLE autoembed.request ALTER model SET STATISTICS 7", "table column autoembed.request.model, attstattarget"),
    ("ALTER TABLE autoembed.request RENAME tokens TO token", "table column autoembed.request.token: only updated"),
    ("ALTER TABLE autoembed.pace ADD COLUMN x int", "table column autoembed.pace.x: only updated"),
    // Another order of columns.
    (
        "ALTER TABLE autoembed.failed DROP COLUMN text_mark; ALTER TABLE autoembed.failed ADD COLUMN text_mark bigint",
        "table column autoembed.failed.is_forced, number",
    ),
    ("ALTER TABLE autoembed.job SET (fillfactor = 50)", "table autoembed.job, reloptions"),
    ("ALTER TABLE autoembed.job SET (toast.autovacuum_enabled = off)", "table autoembed.job, toast"),
    ("ALTER TABLE autoembed.job SET UNLOGGED", "table autoembed.job, relpersistence"),
    ("ALTER TABLE autoembed.job ENABLE ROW LEVEL SECURITY", "table autoembed.job, relrowsecurity"),
    ("ALTER TABLE autoembed.job OWNER TO somebody", "table autoembed.job, owner"),
    ("ALTER TABLE autoembed.models DROP CONSTRAINT models_name_check", "table constraint models_name_check on autoembed.models: only fresh"),
    ("ALTER TABLE autoembed.numbered RENAME CONSTRAINT numbered_vectorizer_id_fkey TO other", "table constraint other on autoembed.numbered: only updated"),
    ("DROP INDEX autoembed.failed_key", "index autoembed.failed_key: only fresh"),
    ("DROP INDEX autoembed.request_model; CREATE INDEX request_model ON autoembed.request (model, at)", "index autoembed.request_model, definition"),
    ("ALTER SEQUENCE autoembed.job_id_seq INCREMENT BY 1", "sequence autoembed.job_id_seq, seqincrement"),
    ("ALTER SEQUENCE autoembed.lease_token_seq CACHE 5", "sequence autoembed.lease_token_seq, seqcache"),
    ("ALTER TABLE autoembed.models ENABLE TRIGGER own_model", "trigger own_model on autoembed.models, enabled"),
    ("DROP TRIGGER own_model ON autoembed.models", "trigger own_model on autoembed.models: only fresh"),
    ("CREATE OR REPLACE VIEW autoembed.interface AS SELECT 2 AS number", "rule \"_RETURN\" on autoembed.interface, definition"),
    ("ALTER VIEW autoembed.requests RESET (security_barrier)", "view autoembed.requests, reloptions"),
    ("COMMENT ON TABLE autoembed.job IS NULL", "table autoembed.job, comment"),
    ("COMMENT ON COLUMN autoembed.job.key IS 'a key'", "table column autoembed.job.key, comment"),
    ("COMMENT ON FUNCTION autoembed.health() IS NULL", "function autoembed.health(), comment"),
    ("REVOKE SELECT ON autoembed.status FROM PUBLIC", "view autoembed.status, grants"),
    ("GRANT SELECT (key) ON autoembed.job TO somebody", "table column autoembed.job.key, grants"),
    ("GRANT EXECUTE ON FUNCTION autoembed.drop_model(text) TO PUBLIC", "function autoembed.drop_model(pg_catalog.text), grants"),
    ("GRANT CREATE ON SCHEMA autoembed TO PUBLIC", "schema autoembed, grants"),
    ("ALTER FUNCTION autoembed.health() STABLE PARALLEL SAFE COST 7", "function autoembed.health(), proparallel"),
    ("ALTER FUNCTION autoembed.stats(interval) RESET search_path", "function autoembed.stats(interval), proconfig"),
    (
        "CREATE OR REPLACE FUNCTION autoembed.disable(source regclass, embedding name DEFAULT 'vector', drop_column boolean DEFAULT false)
             RETURNS void LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS '$libdir/autoembed', 'disable_wrapper'",
        "arguments",
    ),
    ("ALTER EXTENSION autoembed DROP FUNCTION autoembed.health()", "function autoembed.health(): only fresh"),
    (
        "UPDATE pg_extension SET extcondition = array_replace(extcondition, 'WHERE NOT well_known', '') WHERE extname = 'autoembed'",
        "extension autoembed, dumped",
    ),
    ("UPDATE pg_extension SET extversion = '0' WHERE extname = 'autoembed'", "extension autoembed, extversion"),
    (
        "SET LOCAL session_replication_role = replica; ALTER TABLE autoembed.models DISABLE TRIGGER own_model;
         UPDATE autoembed.models SET dimensions = 1 WHERE name = 'bge-m3'; ALTER TABLE autoembed.models ENABLE ALWAYS TRIGGER own_model",
        "model bge-m3, dimensions",
    ),
];

/// What is no difference, though rows of system tables differ.
const EXCUSED: [&str; 4] = [
    // An earlier version had a column that is gone.
    "ALTER TABLE autoembed.pace ADD COLUMN x int; ALTER TABLE autoembed.pace DROP COLUMN x",
    // Grants that came in another order.
    "REVOKE SELECT ON autoembed.usage FROM pg_monitor; GRANT SELECT ON autoembed.usage TO pg_monitor",
    // What happens to tables in their life.
    "INSERT INTO autoembed.usage_day SELECT 'm', now()::date - i FROM generate_series(1, 9) i; ANALYZE autoembed.usage_day",
    "ALTER TABLE autoembed.failed ALTER text_mark TYPE int; ALTER TABLE autoembed.failed ALTER text_mark TYPE bigint",
];

/// A comparison that sees no difference anywhere proves nothing.
#[test]
fn what_an_update_script_may_forget_is_seen() {
    let cluster = Cluster::builder().start();
    let mut db = database(&cluster, "fresh", None);
    db.run("CREATE ROLE somebody");
    let fresh = Catalogue::read(&mut db);
    let changed = |db: &mut Db, change: &str| {
        db.run("BEGIN");
        db.run(change);
        let differences = fresh.differences("fresh", &Catalogue::read(db), "updated");
        db.run("ROLLBACK");
        differences
    };
    for (change, told) in FORGOTTEN {
        let differences = changed(&mut db, change);
        assert!(differences.iter().any(|line| line.contains(told)), "{change}: {differences:#?}");
    }
    for change in EXCUSED {
        assert_eq!(changed(&mut db, change), [""; 0], "{change}");
    }
    // An object of a kind that is not compared.
    for change in [
        "CREATE DOMAIN autoembed.count AS int; ALTER EXTENSION autoembed ADD DOMAIN autoembed.count",
        "CREATE POLICY all_rows ON autoembed.job",
        "CREATE STATISTICS autoembed.both ON key, attempts FROM autoembed.job",
    ] {
        db.run("BEGIN");
        db.run(change);
        let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| Catalogue::read(&mut db)));
        assert!(read.is_err(), "{change}");
        db.run("ROLLBACK");
    }
    assert!(Catalogue::read(&mut db) == fresh);
}
