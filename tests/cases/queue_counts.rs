//! The view `status` counts from the pages of the queue: it is to say what a statement over the queue says, whatever the rows look like.

use autoembed_tests::{Db, Site};

/// What differs between the two, over all jobs of the one vectorizer.
fn compare(db: &mut Db, waiting: i64, in_flight: i64) {
    const COUNTED: &str =
        "SELECT concat_ws(' ', waiting, in_flight, oldest) FROM autoembed.queue_counts() WHERE vectorizer = 1";
    const SELECTED: &str = "SELECT concat_ws(' ', count(*) FILTER (WHERE leased_until IS NULL OR leased_until <= clock_timestamp()),
           count(*) FILTER (WHERE leased_until > clock_timestamp()), min(queued_at)) FROM autoembed.job WHERE vectorizer_id = 1";
    let counted = db.text(COUNTED);
    assert_eq!(counted, db.text(SELECTED));
    assert!(counted.starts_with(&format!("{waiting} {in_flight} ")), "{counted}");
    let shown =
        db.text("SELECT concat_ws(' ', pending, in_flight) FROM autoembed.status WHERE source = 'messages'::regclass");
    assert_eq!(shown, format!("{waiting} {in_flight}"));
}

#[test]
fn jobs_of_every_form_and_age() {
    let mut site = Site::workerless().start();
    site.messages("");
    let db = &mut site.db;
    // Keys of every length, short and long in their row, compressed and stored beside it; with and without the times that may be NULL.
    db.run(
        "INSERT INTO autoembed.job (vectorizer_id, lane, key, queued_at, not_before, leased_until, lease_token, is_forced)
         SELECT 1, i % 2, CASE WHEN i % 97 = 0 THEN repeat('x', i * 10)
                WHEN i % 89 = 0 THEN (SELECT string_agg(md5((i * n)::text), '') FROM generate_series(1, 300) n) ELSE repeat('k', i % 150) END,
                now() - make_interval(secs => (i * 7919) % 5000), CASE WHEN i % 3 = 0 THEN now() END,
                CASE i % 5 WHEN 1 THEN now() + interval '1 hour' WHEN 2 THEN now() - interval '1 hour' END, CASE WHEN i % 5 = 1 THEN i END, CASE WHEN i % 7 = 0 THEN true END
         FROM generate_series(1, 3000) i",
    );
    compare(db, 2400, 600);
    db.run("VACUUM autoembed.job");
    compare(db, 2400, 600);
    // What others have not committed is not there, what was deleted is not any more, and one's own is.
    let mut other = site.session();
    other.run("BEGIN; INSERT INTO autoembed.job (vectorizer_id, lane, key) SELECT 1, 0, 'other' FROM generate_series(1, 10); DELETE FROM autoembed.job WHERE id / 8 < 100");
    let db = &mut site.db;
    compare(db, 2400, 600);
    compare(&mut other, 2330, 580);
    db.run("BEGIN ISOLATION LEVEL REPEATABLE READ");
    compare(db, 2400, 600);
    other.run("COMMIT");
    compare(db, 2400, 600);
    db.run("COMMIT");
    compare(db, 2330, 580);
    db.run("UPDATE autoembed.job SET leased_until = NULL WHERE id / 8 < 1000");
    compare(db, 2510, 400);
    // A later version may have columns behind these.
    db.run("ALTER TABLE autoembed.job ADD COLUMN later text DEFAULT 'x'; UPDATE autoembed.job SET later = 'y' WHERE id / 8 >= 2000");
    compare(db, 2510, 400);
    db.run("DELETE FROM autoembed.job");
    assert_eq!(db.int("SELECT count(*) FROM autoembed.queue_counts()"), 0);
}
