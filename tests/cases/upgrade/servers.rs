//! pg_upgrade, to a server of the same version and to a later one.

use super::{check, leave_work, scene};
use autoembed_tests::find;
use std::path::PathBuf;

#[test]
fn g34_pg_upgrade() {
    pg_upgrade(None);
}

/// To a later server, which the script that runs the tests names where it has one.
#[test]
#[ignore = "needs a later server, which NEWER_PG_CONFIG names"]
fn g34_pg_upgrade_to_a_later_version() {
    let programs = find::newer_bindir().unwrap();
    pg_upgrade(Some(programs.expect("NEWER_PG_CONFIG names no server")));
}

fn pg_upgrade(newer: Option<PathBuf>) {
    let is_newer = newer.is_some();
    let mut site = scene("debug1");
    let before = VECTORS.map(|sql| site.db.column(sql));
    let old = site.db.major();
    leave_work(&mut site);
    let (took, log) = site.cluster.upgrade(newer);
    println!("pg_upgrade took {took:?}");
    // It must be alone in both servers: a worker would write into what it copies.
    // The level at which a process that is started has its line; from 17 on there may be none at all.
    assert!(log.contains("loaded library \"autoembed\""), "the log is of another level: {log}");
    assert!(!log.contains("autoembed launcher") && !log.contains("autoembed worker"), "{log}");
    site.reconnect();
    let mut db = site.session();
    let new = db.major();
    println!("from {old} to {new}");
    assert_eq!(new > old, is_newer);
    // The vectors themselves, before anything can be embedded; changed texts keep theirs, or have lost them, as `on_change` has it.
    assert_eq!(VECTORS.map(|sql| db.column(sql)), before);
    site.stub_back();
    check(&site, &mut db);
}

/// Every vector of the scene with its row, but for the rows that wait.
const VECTORS: [&str; 3] = [
    "SELECT id || ' ' || coalesce(embedding::text, '-') FROM messages WHERE id > 3 ORDER BY id",
    "SELECT id || ' ' || coalesce(embedding::text, '-') FROM posts WHERE id <= 20 ORDER BY id",
    "SELECT id || ' ' || coalesce(embedding::text, '-') FROM quiet ORDER BY id",
];
