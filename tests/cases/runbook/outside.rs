//! What a server says that is not the one that it was.

use super::{add, entry, over, scene};
use autoembed_tests::Site;
use autoembed_tests::site::{DATABASE, PATIENCE};

fn dump(site: &Site) -> String {
    let output = site.cluster.tool("pg_dump").args(["-d", DATABASE]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Restores a dump into a new database, errors or not; what psql complains of.
fn restore(site: &mut Site, database: &str, dump: &str) -> Vec<String> {
    site.cluster.client("postgres").run(&format!("CREATE DATABASE {database}"));
    let file = site.cluster.socket_dir().join(format!("{database}.sql"));
    std::fs::write(&file, dump).unwrap();
    let file = file.display().to_string();
    let output = site.cluster.tool("psql").args(["-X", "-q", "-d", database, "-f", &file]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    said.lines().filter_map(|line| line.split_once("ERROR:  ").map(|(_, error)| error.to_owned())).collect()
}

#[test]
fn a_restore_without_the_files() {
    let mut site = scene(Site::new());
    let dump = dump(&site);
    // A server that does not know the extension, as far as the dump can tell: the name in it is nobody's.
    let foreign = dump.replace("EXTENSION IF NOT EXISTS autoembed ", "EXTENSION IF NOT EXISTS autoembed_elsewhere ");
    let page = entry("is not available");
    let errors = restore(&mut site, "first", &foreign);
    let said = errors[0].replace("autoembed_elsewhere", "autoembed");
    assert!(page.says(&said), "{errors:?}");
    // Its tables are there, and all that would embed is not: hence once more. Vectors may be missing as well: where a COPY fails, psql before
    // 15.20 takes its lines for statements, the next COPY among them.
    let there = site.cluster.client("first").int("SELECT count(embedding) FROM documents");
    assert!([0, 10].contains(&there), "{there}");
    assert_eq!(restore(&mut site, "second", &dump), Vec::<String>::new());
    site.stub.reset_stats();
    site.db = site.cluster.client("second");
    add(&mut site, 11, 20);
    over(&mut site);
    assert_eq!(site.inputs().len(), 10, "what came with its vector is not embedded again");
}

#[test]
fn a_server_that_lost_the_files() {
    let mut site = scene(Site::new());
    let library = "SELECT DISTINCT probin FROM pg_proc WHERE proname = 'queue_change'";
    let right = site.db.text(library);
    let set =
        |to: &str| format!("UPDATE pg_proc SET probin = '{to}' WHERE proname IN ('queue_change', 'clear_vector')");
    site.db.run(&set("$libdir/gone/autoembed"));
    let page = entry("any write to the table");
    let mut user = site.session();
    let write = "INSERT INTO documents VALUES (11, 'title', 'a row')";
    let error = user.error(write);
    assert!(page.says(&error.message), "{error:?}");
    user.run(&page.command("DISABLE TRIGGER", &[]));
    user.run(write);
    user.run("UPDATE documents SET body = 'edited meanwhile' WHERE id = 3");
    site.db.run(&set(&right));
    site.db = site.session();
    site.db.run(&page.command("ENABLE TRIGGER", &[]));
    site.db.run(&page.command("reconcile", &[]));
    over(&mut site);
}

/// With pgvector goes what rests on it; the rows stay.
#[test]
fn pgvector_that_was_dropped() {
    let mut site = scene(Site::new());
    site.db.run("DROP EXTENSION vector CASCADE");
    let page = entry("required extension");
    for sql in ["SELECT * FROM autoembed.status", "CREATE EXTENSION autoembed"] {
        let error = site.db.error(sql);
        assert!(page.says(&error.message), "{error:?}");
    }
    let (old, new) = super::model_of(&site);
    page.run(&mut site.db, &[(old, &new)]);
    assert_eq!(site.settle("documents", "body"), 10);
    over(&mut site);
}

/// There is one version: what its update script would do is done here.
#[test]
fn an_extension_of_another_version() {
    let mut site = scene(Site::new());
    site.db.run("CREATE OR REPLACE VIEW autoembed.interface AS SELECT 0 AS number");
    add(&mut site, 11, 20);
    let page = entry("in this database has version");
    let state = page.until_shown(&mut site);
    let command = page.command("ALTER EXTENSION", &[]);
    assert!(state.contains(command.trim_end_matches(';')), "{state}");
    site.db.run("CREATE OR REPLACE VIEW autoembed.interface AS SELECT 1 AS number");
    site.db.run(&command);
    over(&mut site);
}

/// A pgvector that does not know a setting of a search function.
#[test]
fn a_restore_beside_an_older_pgvector() {
    let mut site = scene(Site::new());
    let newer = dump(&site).replace("hnsw.scan_mem_multiplier", "hnsw.of_a_later_version");
    let errors = restore(&mut site, "second", &newer);
    let page = entry("invalid configuration parameter name");
    assert!(errors.iter().any(|error| page.says(error)), "{errors:?}");
    site.db = site.cluster.client("second");
    const THERE: &str = "SELECT proname FROM pg_proc WHERE proname LIKE 'similar\\_documents%' ORDER BY 1";
    assert_eq!(site.db.column(THERE), ["similar_documents"]);
    add(&mut site, 11, 20);
    site.settle("documents", "body");
    page.run(&mut site.db, &[]);
    over(&mut site);
    assert_eq!(site.db.column(THERE), ["similar_documents", "similar_documents_to"]);
    site.db.until("SELECT count(*) FROM similar_documents('body 3')", "10", PATIENCE);
}
