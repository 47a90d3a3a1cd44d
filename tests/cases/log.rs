//! What the server's log says of troubles that last: when one begins, when it is over, how often something failed; no more.

use autoembed_stub::{Body, Fault};
use autoembed_tests::site::PATIENCE;
use autoembed_tests::{Site, Stop, eventually};
use std::time::{Duration, Instant};

/// Lines of the extension in the server's log.
fn lines(site: &Site) -> Vec<String> {
    let of = |line: &str| line.split_once(" autoembed: ").map(|(_, text)| text.to_owned());
    site.cluster.log().lines().filter_map(of).collect()
}

fn until_line(site: &Site, part: &str) {
    eventually(&format!("a line with {part:?}"), PATIENCE, || {
        let lines = lines(site);
        if lines.iter().any(|line| line.contains(part)) { Ok(()) } else { Err(format!("{lines:#?}")) }
    });
}

/// Rows come one by one until so many requests were made: with fewer, nothing could have been said twice.
fn rows_arrive(site: &mut Site, requests: u64) {
    let begun = Instant::now();
    while site.stub.stats().requests < requests {
        assert!(begun.elapsed() < PATIENCE, "{} requests of {requests}", site.stub.stats().requests);
        site.db.run("INSERT INTO messages (content) VALUES (gen_random_uuid())");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Each line of the log must contain one of these parts, and each part must be in one line only.
fn assert_lines(site: &Site, parts: &[&str]) {
    let lines = lines(site);
    println!("{lines:#?}");
    assert_eq!(lines.len(), parts.len(), "{lines:#?}");
    for part in parts {
        assert_eq!(lines.iter().filter(|line| line.contains(part)).count(), 1, "{part}: {lines:#?}");
    }
}

#[test]
fn an_outage_has_two_lines() {
    let mut site = Site::with_messages();
    site.fault(Fault::status(500));
    rows_arrive(&mut site, 4);
    let asked = site.stub.stats().requests;
    site.stub.clear();
    site.settle("messages", "content");
    until_line(&site, "works again");
    assert_lines(&site, &["model \"stub\" is waited for: ", "model \"stub\" works again, after "]);
    let over = lines(&site).pop().unwrap();
    let count = over.rsplit(", ").next().and_then(|count| count.split(' ').next()).unwrap().parse::<u64>().unwrap();
    assert!(count >= asked && count < asked + 5, "{asked} requests failed: {over}");
}

#[test]
fn who_reads_the_log_alone_learns_of_a_blocked_model_and_of_its_end() {
    let mut site = Site::with_messages();
    site.fault(Fault::status_with(401, Body::InvalidKey));
    rows_arrive(&mut site, 1);
    site.until_state("messages", "blocked");
    until_line(&site, "is blocked");
    // What another worker has said is not said again, but its end is.
    site.cluster.restart(Stop::Fast);
    site.reconnect();
    site.until_state("messages", "blocked");
    site.stub.clear();
    site.db.run("SELECT pg_reload_conf()");
    site.settle("messages", "content");
    until_line(&site, "works again");
    let blocked = lines(&site).into_iter().find(|line| line.contains("is blocked")).unwrap();
    assert!(blocked.contains("model \"stub\"") && blocked.contains("key"), "{blocked}");
    let of_model: Vec<String> = lines(&site).into_iter().filter(|line| line.contains("model")).collect();
    assert_eq!(of_model.len(), 2, "{of_model:#?}");
}

#[test]
fn a_table_that_cannot_be_written_has_two_lines() {
    let mut site = Site::with_messages();
    site.db.run(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN RAISE 'not today' USING ERRCODE = 'insufficient_privilege'; END $$;
         CREATE TRIGGER refuse BEFORE UPDATE ON messages FOR EACH ROW EXECUTE FUNCTION refuse()",
    );
    rows_arrive(&mut site, 4);
    assert!(site.until_state("messages", "blocked").contains("not today"));
    site.db.run("DROP TRIGGER refuse ON messages");
    site.settle("messages", "content");
    until_line(&site, "works again");
    assert_lines(
        &site,
        &[
            "vectorizer 1 (public.messages.embedding) is blocked: the vectors could not be written: not today",
            "vectorizer 1 works again, after ",
        ],
    );
}

#[test]
fn a_step_that_fails_each_time_has_two_lines() {
    let mut site = Site::with_messages();
    site.db.run("ALTER TABLE autoembed.request ADD CONSTRAINT never CHECK (false)");
    rows_arrive(&mut site, 5);
    until_line(&site, "a step failed: ");
    site.db.run("ALTER TABLE autoembed.request DROP CONSTRAINT never");
    site.settle("messages", "content");
    until_line(&site, "no step fails any more");
    assert_lines(&site, &["a step failed: new row for relation \"request\"", "no step fails any more, after "]);
}
