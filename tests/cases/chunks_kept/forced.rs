//! Vectors that are not to be trusted: whatever becomes of the job that says so, they are not taken for right in the end.

use super::{filled, settle, text};
use autoembed_stub::{Fault, Script};
use autoembed_tests::db::literal;
use autoembed_tests::site::PATIENCE;
use autoembed_tests::{Site, eventually};

/// The second page has vectors of the first one.
const SPOIL: &str = "UPDATE pages_chunks SET embedding = (SELECT embedding FROM pages_chunks WHERE id = 1 AND chunk_no = 0) WHERE id = 2";

/// As [`super::pages`]; the second page has vectors of the first one, and is found by reconcile() while the vectorizer is paused.
fn found(delay: &str) -> Site {
    let mut site = super::pages_with(delay);
    site.db.run(&format!("SELECT autoembed.pause('pages'); {SPOIL}"));
    assert_eq!(site.db.int("SELECT autoembed.reconcile('pages')"), 1);
    site
}

/// Edits the end of the second page, so that its first chunk stays.
fn edit(site: &mut Site) {
    site.db.run(&format!(
        "UPDATE pages SET body = {} WHERE id = 2",
        literal(&text(&["page 2 one", "page 2 two", "more"]))
    ));
}

/// The same, and the worker may go on: in the end there are vectors of the page's own.
fn check(mut site: Site) {
    site.db.run("SELECT autoembed.resume('pages')");
    settle(&mut site);
    assert_eq!(site.db.int("SELECT autoembed.reconcile('pages')"), 0);
}

/// A job that waits for an edit would take what is there for right.
#[test]
fn g31_what_was_edited_before_is_not_trusted() {
    let mut site = super::pages();
    site.db.run("SELECT autoembed.pause('pages')");
    edit(&mut site);
    site.db.run("UPDATE pages SET body = body || ' Edited.' WHERE id = 3");
    assert_eq!(site.db.int("SELECT autoembed.reconcile('pages')"), 0);
    site.db.run(SPOIL);
    assert_eq!(site.db.int("SELECT autoembed.reconcile('pages')"), 1);
    assert_eq!(site.db.int("SELECT autoembed.reconcile('pages')"), 0);
    check(site);
}

#[test]
fn g31_what_has_failed_is_not_trusted_when_it_is_tried_again() {
    for edited in [false, true] {
        let mut site = found("0");
        site.stub.script(Script::always(Fault::Poison(filled("page 2 one"))));
        site.db.run("SELECT autoembed.resume('pages')");
        site.db.until("SELECT failed FROM autoembed.status", "1", PATIENCE);
        site.stub.script(Script::default());
        if edited {
            edit(&mut site);
        } else {
            assert_eq!(site.db.int("SELECT autoembed.retry_failed('pages')"), 1);
        }
        check(site);
    }
}

/// A row that somebody holds goes back with one job for all that it had.
#[test]
fn g31_what_was_held_is_not_trusted_afterwards() {
    let mut site = found("0");
    site.db.run("SET autoembed.lane = 'backfill'");
    edit(&mut site);
    let mut user = site.session();
    user.run("BEGIN; SELECT FROM pages WHERE id = 2 FOR UPDATE");
    site.db.run("SELECT autoembed.resume('pages')");
    site.db.until("SELECT count(*) FROM autoembed.job WHERE not_before IS NOT NULL", "1", PATIENCE);
    assert_eq!(site.db.int("SELECT count(*) FROM autoembed.job"), 1);
    user.run("COMMIT");
    check(site);
}

/// A later change of the row waits until it has settled, and stands for what was queued before.
#[test]
fn g31_what_is_to_settle_is_not_trusted() {
    let mut site = found("1 s");
    edit(&mut site);
    check(site);
}

/// The row is edited while its vectors are on their way: the edit has a job of its own.
#[test]
fn g31_what_is_edited_on_its_way_is_not_trusted() {
    let mut site = found("0");
    site.stub.hold();
    site.db.run("SELECT autoembed.resume('pages')");
    site.wait_held(1);
    edit(&mut site);
    let own_job = "SELECT count(*) FROM autoembed.job WHERE leased_until IS NOT NULL";
    eventually("both jobs are in hand", PATIENCE, || match site.db.int(own_job) {
        2 => Ok(()),
        other => Err(format!("{other}")),
    });
    site.stub.release();
    check(site);
}

/// The server is busy, so the row's chunks are kept; then it is edited, and the newer claim stands for the older.
#[test]
fn g31_what_is_kept_is_not_trusted() {
    let mut site = found("0");
    site.stub.script(Script::first(2, Fault::status(503).header("retry-after", "1")));
    site.db.run("SELECT autoembed.resume('pages')");
    eventually("the server has refused them", PATIENCE, || match site.stub.stats().requests {
        0 => Err("no request".to_owned()),
        _ => Ok(()),
    });
    site.db.run("SET autoembed.lane = 'backfill'");
    edit(&mut site);
    check(site);
}
