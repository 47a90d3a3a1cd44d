//! Whole tables: those that are full, and what is found in them that does not fit.

use super::{SIZES, complaints, insert, scene, sent, settle, text};
use autoembed_tests::Site;
use autoembed_tests::db::literal;
use autoembed_tests::site::PATIENCE;

#[test]
fn g31_reconcile_finds_chunks_that_are_not_their_rows() {
    let mut site = scene("");
    let ids: Vec<i64> =
        (0..8).map(|n| insert(&mut site, &text(&[&format!("{n} a"), &format!("{n} b"), "c"]))).collect();
    settle(&mut site);
    assert_eq!(site.db.int("SELECT autoembed.reconcile('pages')"), 0);
    let found = |site: &mut Site, what: &str, wanted: i64| {
        site.db.run(what);
        assert_eq!(site.db.int("SELECT autoembed.reconcile('pages')"), wanted, "{what}");
        settle(site);
        assert_eq!(site.db.int("SELECT autoembed.reconcile('pages')"), 0, "{what}");
    };
    found(&mut site, &format!("DELETE FROM pages_chunks WHERE id = {} AND chunk_no = 1", ids[0]), 1);
    found(&mut site, &format!("DELETE FROM pages_chunks WHERE id = {}", ids[1]), 1);
    found(
        &mut site,
        &format!(
            "UPDATE pages_chunks SET embedding = (SELECT embedding FROM pages_chunks WHERE id = {} AND chunk_no = 0) WHERE id = {} AND chunk_no = 1",
            ids[3], ids[2]
        ),
        1,
    );
    found(&mut site, &format!("UPDATE pages_chunks SET chunk = 'another' WHERE id = {} AND chunk_no = 0", ids[3]), 1);
    let quietly = |sql: &str| format!("SET session_replication_role = replica; {sql}; RESET session_replication_role");
    found(&mut site, &quietly(&format!("UPDATE pages SET body = body || ' And more.' WHERE id = {}", ids[4])), 1);
    found(&mut site, &quietly(&format!("UPDATE pages SET body = '' WHERE id = {}", ids[5])), 1);
    found(&mut site, &quietly(&format!("INSERT INTO pages (body) VALUES ({})", literal(&text(&["new"])))), 1);
    // A forced backfill asks for all of them again.
    let new = sent(&mut site, |site| site.db.run("SELECT autoembed.backfill('pages', force => true)"));
    assert!(new.len() as i64 >= site.db.int("SELECT count(DISTINCT chunk) FROM pages_chunks"));
}

/// A full table, without a worker, and with one.
#[test]
fn a_table_that_is_full() {
    for preload in [false, true] {
        let mut site = Site::builder().preload(preload).setting("autoembed.poll_interval", "1h").start();
        site.db.run("CREATE TABLE pages (id bigint PRIMARY KEY, body text, folder text)");
        for id in 0..50 {
            let body = literal(&text(&[&format!("{id} a"), &format!("{id} b")]));
            site.db.run(&format!("INSERT INTO pages VALUES ({id}, {body})"));
        }
        if preload {
            site.enable("pages", "body", "chunk_size => 40");
            settle(&mut site);
        } else {
            site.db.run("BEGIN");
            site.enable("pages", "body", "chunk_size => 40");
            assert_eq!(site.db.int("SELECT autoembed.embed_pending('pages', 20)"), 20);
            assert_eq!(site.db.int("SELECT count(*) FROM pages_chunks"), 40);
            assert_eq!(site.db.int("SELECT autoembed.embed_pending('pages')"), 30);
            site.db.run("COMMIT");
            assert!(complaints(&mut site.db, SIZES).is_empty());
        }
        let index = "SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam WHERE i.indrelid = 'pages_chunks'::regclass AND m.amname = 'hnsw' AND i.indisvalid";
        site.db.until(index, "1", PATIENCE);
        assert_eq!(site.db.int("SELECT autoembed.enqueue('pages', ARRAY['3', '4', '99999'])"), 3);
        if preload {
            settle(&mut site);
        }
    }
}
