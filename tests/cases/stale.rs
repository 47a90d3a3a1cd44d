//! No vector of an old text, whatever happens between the request and its answer.

use autoembed_tests::site::PATIENCE;
use autoembed_tests::wait::seconds;
use autoembed_tests::{Site, vectors};
use std::time::Instant;

#[test]
fn g02_a_text_edited_while_its_request_is_under_way() {
    let mut site = Site::with_messages();
    site.insert(1, 10);
    site.settle("messages", "content");
    site.stub.hold();
    site.db.run("UPDATE messages SET content = 'first edit ' || id");
    site.wait_held(1);
    site.db.run("UPDATE messages SET content = 'second edit ' || id WHERE id <= 5");
    site.stub.release();
    site.settle("messages", "content");
    site.until_idle("messages");
    site.assert_all_vectors("messages", "content");
}

#[test]
fn g02_there_and_back_again() {
    let mut site = Site::with_messages();
    site.insert(1, 1);
    site.settle("messages", "content");
    site.stub.hold();
    site.db.run("UPDATE messages SET content = 'B'");
    site.wait_held(1);
    site.db.run("UPDATE messages SET content = 'text 1'");
    site.stub.release();
    site.until_idle("messages");
    site.settle("messages", "content");
    site.marker();
    site.assert_all_vectors("messages", "content");
}

#[test]
fn g02_edited_in_an_open_transaction_while_the_answer_comes() {
    let mut site = Site::with_messages();
    site.insert(1, 3);
    site.settle("messages", "content");
    let mut user = site.session();
    site.stub.hold();
    site.db.run("UPDATE messages SET content = 'old edit ' || id");
    site.wait_held(1);
    user.run("BEGIN; UPDATE messages SET content = 'new edit' WHERE id = 2");
    site.stub.release();
    site.db.until("SELECT count(*) FROM messages WHERE id <> 2 AND embedding IS NULL", "0", PATIENCE);
    user.run("COMMIT");
    site.settle("messages", "content");
    site.until_idle("messages");
    site.assert_all_vectors("messages", "content");
}

#[test]
fn a_text_emptied_while_its_request_is_under_way() {
    let mut site = Site::with_messages();
    site.stub.hold();
    site.insert(1, 4);
    site.wait_held(1);
    site.db.run("UPDATE messages SET content = NULL WHERE id = 1; UPDATE messages SET content = '' WHERE id = 2");
    site.stub.release();
    site.settle("messages", "content");
    site.until_idle("messages");
    site.assert_all_vectors("messages", "content");
}

#[test]
fn another_row_with_the_same_key() {
    let mut site = Site::with_messages();
    site.stub.hold();
    site.insert(1, 4);
    site.wait_held(1);
    site.db.run("BEGIN; DELETE FROM messages WHERE id = 2; INSERT INTO messages OVERRIDING SYSTEM VALUE VALUES (2, 'a new row', NULL); COMMIT");
    site.stub.release();
    site.settle("messages", "content");
}

/// Writers against the worker for a while; in the end every vector belongs to its text.
#[test]
fn a_storm_of_edits() {
    let mut site = Site::with_messages();
    site.insert(1, 200);
    let end = Instant::now() + seconds(3);
    std::thread::scope(|scope| {
        for writer in 0..4_u32 {
            let mut db = site.session();
            scope.spawn(move || {
                let mut n = 0_u32;
                while Instant::now() < end {
                    n += 1;
                    let id = 1 + (n * 7 + writer * 13) % 200;
                    match n % 8 {
                        0 => db.run(&format!("INSERT INTO messages (content) VALUES ('new {writer}/{n}')")),
                        1 => db.run(&format!("DELETE FROM messages WHERE id = {}", 200 + n * 4 + writer)),
                        2 => db.run(&format!("UPDATE messages SET content = NULL WHERE id = {id}")),
                        3 => {
                            db.run(&format!("BEGIN; UPDATE messages SET content = 'undone' WHERE id = {id}; ROLLBACK"))
                        }
                        _ => db.run(&format!("UPDATE messages SET content = 'edit {writer}/{n}' WHERE id = {id}")),
                    }
                }
            });
        }
    });
    let rows = site.settle("messages", "content");
    site.until_idle("messages");
    vectors::assert_all_vectors(&mut site.db, "messages", "content", "embedding", 16);
    println!("{rows} rows after the storm, {} requests", site.stub.stats().requests);
    assert_eq!(site.failed("messages"), 0);
}

/// A snapshot from before `enable` must hide from the trigger neither the vectorizer now nor, once that was looked up, later.
#[test]
fn a_snapshot_older_than_the_vectorizer() {
    let mut site = Site::new();
    site.db.run("CREATE TABLE notes (id int PRIMARY KEY, body text)");
    let mut early = site.session();
    early.run("BEGIN ISOLATION LEVEL REPEATABLE READ");
    assert_eq!(early.int("SELECT count(*) FROM autoembed.status"), 0);
    site.enable("notes", "body", "backfill => false, index => 'none'");
    early.run("INSERT INTO notes VALUES (1, 'written under the old snapshot')");
    early.run("COMMIT");
    early.run("INSERT INTO notes VALUES (2, 'written by the same session later')");
    assert_eq!(site.settle("notes", "body"), 2);
    early.run("UPDATE notes SET body = body || ', edited'");
    assert_eq!(site.settle("notes", "body"), 2);
}

/// The worker's own write queues nothing, but what a user's trigger does to other rows in that same statement counts.
#[test]
fn a_trigger_that_edits_another_row_of_the_batch() {
    let mut site = Site::with_messages();
    site.db.run(
        "CREATE FUNCTION edit_another() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN UPDATE public.messages SET content = 'edited because of 3' WHERE id IN (2, 7); RETURN NULL; END $$;
         CREATE TRIGGER edit_another AFTER UPDATE ON messages FOR EACH ROW
             WHEN (NEW.id = 3 AND NEW.embedding IS DISTINCT FROM OLD.embedding) EXECUTE FUNCTION edit_another()",
    );
    site.insert(1, 20);
    // Only the worker's write of the vector of row 3 sets the trigger off.
    site.db.until("SELECT count(*) FROM messages WHERE content = 'edited because of 3'", "2", PATIENCE);
    site.settle("messages", "content");
    site.until_idle("messages");
    site.assert_all_vectors("messages", "content");
    let most = site.stub.requests().iter().map(|request| request.count).max();
    assert_eq!(most, Some(20), "the rows were not of one batch, so this proves nothing");
}
