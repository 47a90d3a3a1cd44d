//! Answers that look like answers: a vector belongs to its text, is finite, not zero, and of the right size, or is not written.

use autoembed_stub::Fault;
use autoembed_tests::Site;
use autoembed_tests::site::PATIENCE;

/// As long as the server answers so, nothing is written, and the rows that are given up say why; afterwards all is well.
fn nothing_is_written(fault: Fault, words: &str) {
    let mut site = Site::with_messages();
    let name = format!("{fault:?}");
    site.insert(1, 3);
    site.settle("messages", "content");
    site.until_idle("messages");
    site.fault(fault);
    site.stub.reset_stats();
    site.db.run("UPDATE messages SET content = 'edited ' || id");
    site.insert(4, 20);
    site.db.until_true(
        "(SELECT failed > 0 FROM autoembed.status)",
        "SELECT state, pending, in_flight, failed FROM autoembed.status",
        PATIENCE,
    );
    assert!(site.stub.wait_requests(5, PATIENCE), "{name}: {} requests", site.stub.stats().requests);
    let said = site.db.column("SELECT DISTINCT code || ': ' || message FROM autoembed.failed_jobs");
    println!("{name}: {said:?}");
    assert!(said.iter().all(|why| why.contains(words)), "{name}: {said:?}");
    // The old vectors serve on, and no row has got another.
    assert_eq!(site.db.int("SELECT count(embedding) FROM messages"), 3, "{name}");
    let of_old_texts = autoembed_tests::vectors::compare(
        &mut site.db,
        "messages",
        "CASE WHEN id <= 3 THEN 'text ' || id END",
        "embedding",
        16,
    );
    assert_eq!(of_old_texts.1, [""; 0], "{name}");
    site.stub.clear();
    site.until_idle("messages");
    site.db.run("SELECT autoembed.retry_failed('messages')");
    site.settle_within("messages", "content", "embedding", PATIENCE * 2);
    site.until_idle("messages");
    assert_eq!(site.failed("messages"), 0, "{name}");
}

#[test]
fn g23_answers_with_an_item_missing() {
    nothing_is_written(Fault::Missing, "wrong_count: the server answered 0 vectors");
}

#[test]
fn g23_answers_with_an_item_twice() {
    nothing_is_written(Fault::Double, "wrong_count: the server answered 2 vectors");
}

#[test]
fn g23_answers_with_an_item_too_many() {
    nothing_is_written(Fault::Extra, "wrong_count: the server answered 2 vectors");
}

#[test]
fn g24_vectors_that_are_no_numbers() {
    nothing_is_written(Fault::Nan, "a vector that is not finite");
}

/// As 1e39, which is a number and does not fit.
#[test]
fn g24_vectors_without_bounds() {
    nothing_is_written(Fault::Inf, "a vector that is not finite");
}

#[test]
fn g24_vectors_of_zeros() {
    nothing_is_written(Fault::Zero, "a zero vector");
}

/// The index of each item counts, not its place.
#[test]
fn g23_answers_in_another_order() {
    let mut site = Site::with_messages();
    site.fault(Fault::Shuffled);
    site.insert(1, 100);
    site.settle("messages", "content");
    site.until_idle("messages");
    assert!(site.stub.requests().iter().any(|request| request.count > 10), "nothing was shuffled");
    // Without an index, the order does.
    site.fault(Fault::NoIndex);
    site.db.run("UPDATE messages SET content = 'edited ' || id");
    site.settle("messages", "content");
    assert_eq!(site.failed("messages"), 0);
}
