//! What taking and ending a job costs, in pages of the queue: a figure that does not depend on how busy the machine is.

use autoembed_tests::Site;

/// Rows of each drain.
const DRAINED: usize = 500;
/// Waiting rows of each round.
const WAITING: [usize; 2] = [1_000, 100_000];

/// Pages of the queue and its index that were looked at so far, by whomever.
fn pages(site: &mut Site) -> i64 {
    site.db.run("SELECT pg_stat_force_next_flush()");
    site.db.int(
        "SELECT heap_blks_hit + heap_blks_read + idx_blks_hit + idx_blks_read
         FROM pg_statio_all_tables WHERE relid = 'autoembed.job'::regclass",
    )
}

/// The pages of one job, its claim and its end included, with so many waiting.
fn pages_each(site: &mut Site, waiting: usize) -> f64 {
    let there = site.db.int("SELECT count(*) FROM autoembed.job") as usize;
    site.insert(there + 1, waiting);
    site.db.run("VACUUM (ANALYZE) autoembed.job");
    let before = pages(site);
    assert_eq!(site.db.int(&format!("SELECT autoembed.embed_pending('messages', {DRAINED})")), DRAINED as i64);
    let after = pages(site);
    assert_eq!(site.db.int("SELECT count(*) FROM autoembed.job"), (waiting - DRAINED) as i64);
    (after - before) as f64 / DRAINED as f64
}

#[test]
fn a_job_costs_the_same_pages_however_many_wait() {
    let mut site = Site::workerless().setting("autovacuum", "off").model("max_batch_inputs => 100").start();
    site.messages("index => 'none'");
    // What a session reads once.
    pages_each(&mut site, 1_000);
    let each = WAITING.map(|waiting| pages_each(&mut site, waiting));
    println!("pages of the queue a job, at {WAITING:?} waiting: {each:.2?}");
    // The index of the largest queue is a level deeper: a page more in each of its few descents.
    assert!(each[1] < each[0] * 1.5, "with more jobs waiting each costs more pages: {each:?}");
}
