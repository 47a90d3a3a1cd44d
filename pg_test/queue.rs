//! The queue: who gets which job, and who may end it.

#[pgrx::pg_schema]
mod tests {
    use crate::in_server::support::{column, enable, int, keys, one, queued, run, text, yes};
    use crate::pg::queue::{self, BACKFILL, Charge, Job, LIVE, Logged, Why};
    use pgrx::prelude::*;
    use std::collections::HashSet;
    use std::time::Duration;

    // Numbers that no vectorizer has: the queue asks nothing about them.
    const ID: i32 = 900_001;
    const OTHER: i32 = 900_002;
    const LEASE: Duration = Duration::from_secs(300);
    const NO_LEASE: Duration = Duration::ZERO;
    const HOUR: Duration = Duration::from_secs(3600);

    fn add(keys: &[&str]) {
        add_to(ID, LIVE, keys);
    }

    fn add_to(id: i32, lane: i16, keys: &[&str]) {
        let keys: Vec<String> = keys.iter().map(|k| (*k).to_string()).collect();
        queue::add(id, lane, &keys, Why::Changed);
    }

    fn claim(limit: usize, lease: Duration) -> Vec<Job> {
        queue::claim(ID, LIVE, 0, limit, lease)
    }

    fn attempts(key: &str) -> i64 {
        int(&format!("SELECT attempts FROM autoembed.job WHERE vectorizer_id = {ID} AND key = '{key}'"))
    }

    fn ids(jobs: &[Job]) -> HashSet<i64> {
        jobs.iter().map(|job| job.id).collect()
    }

    #[pg_test]
    fn queue_claims_the_oldest_of_one_lane_in_order() {
        add_to(OTHER, LIVE, &["other"]);
        add_to(ID, BACKFILL, &["slow"]);
        add(&["c", "a", "b", "d"]);
        let first = claim(3, LEASE);
        assert_eq!(keys(&first), ["c", "a", "b"]);
        assert!(first.windows(2).all(|two| two[0].id < two[1].id));
        assert!(
            first.iter().all(|job| job.lane == LIVE && !job.if_missing && job.attempts == 1 && job.queued_at.is_some())
        );
        let second = claim(3, LEASE);
        assert_eq!(keys(&second), ["d"], "what is held is passed over");
        assert!(first.iter().all(|job| job.token != second[0].token), "another claim has another token");
        assert!(claim(3, LEASE).is_empty());
        assert_eq!(keys(&queue::claim(ID, BACKFILL, 0, 3, LEASE)), ["slow"]);
        assert_eq!(keys(&queue::claim(OTHER, LIVE, 0, 3, LEASE)), ["other"]);
        assert!(queue::claim(OTHER, BACKFILL, 0, 3, LEASE).is_empty());
    }

    #[pg_test]
    fn queue_claims_nothing_with_a_limit_of_nothing() {
        add(&["a"]);
        assert!(claim(0, LEASE).is_empty());
        assert_eq!(attempts("a"), 0);
    }

    #[pg_test]
    fn queue_finds_ids_that_appear_late_below_the_hint() {
        add(&["a", "b"]);
        let jobs = claim(10, LEASE);
        let hint = jobs[1].id;
        queue::complete(ID, jobs.iter());
        // As a transaction that took its number first and commits last.
        run(&format!(
            "INSERT INTO autoembed.job (vectorizer_id, lane, id, key) OVERRIDING SYSTEM VALUE VALUES ({ID}, 0, {}, 'late')",
            hint - 1
        ));
        assert!(queue::claim(ID, LIVE, hint, 10, LEASE).is_empty());
        assert_eq!(keys(&queue::claim(ID, LIVE, 0, 10, LEASE)), ["late"]);
    }

    #[pg_test]
    fn queue_leaves_out_the_id_of_the_hint_itself() {
        add(&["a", "b"]);
        let first = one::<i64>(&format!("SELECT min(id) FROM autoembed.job WHERE vectorizer_id = {ID}")).unwrap();
        assert_eq!(keys(&queue::claim(ID, LIVE, first, 10, LEASE)), ["b"]);
    }

    #[pg_test]
    fn queue_gives_a_job_whose_lease_has_ended_to_the_next() {
        add(&["a"]);
        let slept = claim(1, NO_LEASE);
        let next = claim(1, LEASE);
        assert_eq!(ids(&slept), ids(&next));
        assert_ne!(slept[0].token, next[0].token);
        assert_eq!(next[0].attempts, 2);
        assert!(claim(1, LEASE).is_empty());
    }

    #[pg_test]
    fn queue_lets_a_stale_token_do_nothing() {
        add(&["a"]);
        let slept = claim(1, NO_LEASE);
        let next = claim(1, LEASE);
        assert!(queue::complete(ID, slept.iter()).is_empty());
        queue::release(ID, slept.iter(), Charge::GivenBack, Duration::ZERO);
        assert_eq!(attempts("a"), 2, "a stale release changes nothing");
        assert!(yes(&format!(
            "SELECT lease_token = {} AND leased_until > clock_timestamp() FROM autoembed.job WHERE vectorizer_id = {ID}",
            next[0].token
        )));
        assert_eq!(queue::complete(ID, next.iter()), ids(&next));
        assert!(queued(ID).is_empty());
        assert!(queue::complete(ID, next.iter()).is_empty(), "a job is done once");
    }

    #[pg_test]
    fn queue_completes_only_the_named_jobs() {
        add(&["a", "b", "c"]);
        add_to(ID, BACKFILL, &["a"]);
        let live = claim(10, LEASE);
        let slow = queue::claim(ID, BACKFILL, 0, 10, LEASE);
        // The right number with the token of another claim ends nothing.
        let swapped =
            [Job { token: slow[0].token, ..live[0].clone() }, Job { token: live[0].token, ..slow[0].clone() }];
        assert!(queue::complete(ID, swapped.iter()).is_empty());
        assert!(queue::complete(OTHER, live.iter()).is_empty(), "another vectorizer's");
        let done = queue::complete(ID, [&live[0], &slow[0]].into_iter());
        assert_eq!(done, HashSet::from([live[0].id, slow[0].id]));
        assert_eq!(queued(ID), ["b", "c"]);
        assert!(queue::complete(ID, std::iter::empty()).is_empty());
    }

    #[pg_test]
    fn queue_gives_attempts_back_or_keeps_them() {
        add(&["kept", "back"]);
        let jobs = claim(2, LEASE);
        queue::release(ID, jobs[..1].iter(), Charge::Kept, Duration::ZERO);
        queue::release(ID, jobs[1..].iter(), Charge::GivenBack, Duration::ZERO);
        assert_eq!((attempts("kept"), attempts("back")), (1, 0));
        let again = claim(2, LEASE);
        assert_eq!(keys(&again), ["kept", "back"], "no pause: due at once");
        assert_eq!((again[0].attempts, again[1].attempts), (2, 1));
        assert_eq!(ids(&again), ids(&jobs));
    }

    /// Seconds until the soonest job that waits for its time.
    fn due_in() -> Option<f64> {
        Spi::get_one("SELECT EXTRACT(epoch FROM min(not_before) - clock_timestamp())::float8 FROM autoembed.job WHERE not_before > clock_timestamp()")
            .expect("a query")
    }

    #[pg_test]
    fn queue_leaves_a_paused_job_alone_until_it_is_due() {
        add(&["a", "b"]);
        let jobs = claim(1, LEASE);
        queue::release(ID, jobs.iter(), Charge::Kept, HOUR);
        assert_eq!(keys(&claim(10, LEASE)), ["b"]);
        let due = due_in().expect("something waits") as u64;
        assert!((3590..=3600).contains(&due), "{due} s");
        run(&format!(
            "UPDATE autoembed.job SET not_before = clock_timestamp() - interval '1 ms' WHERE vectorizer_id = {ID} AND key = 'a'"
        ));
        assert_eq!(keys(&claim(10, LEASE)), ["a"]);
    }

    #[pg_test]
    fn queue_puts_back_what_was_taken_out_in_its_old_place() {
        run(&format!(
            "INSERT INTO autoembed.job (vectorizer_id, lane, key, if_missing, queued_at) VALUES ({ID}, 0, 'a', true, '2001-02-03 04:05:06Z')"
        ));
        add(&["b"]);
        for (charge, expected) in [(Charge::Kept, 1), (Charge::GivenBack, 1), (Charge::GivenBack, 1)] {
            let jobs = claim(1, LEASE);
            assert_eq!(keys(&jobs), ["a"], "the older one stays the first");
            assert_eq!(queue::complete(ID, jobs.iter()).len(), 1);
            queue::put_back(ID, &jobs[0], charge, Duration::ZERO, false);
            assert_eq!(attempts("a"), expected);
            assert_eq!(
                one::<i64>(&format!("SELECT min(id) FROM autoembed.job WHERE vectorizer_id = {ID}")),
                Some(jobs[0].id)
            );
        }
        assert!(yes(&format!(
            "SELECT if_missing AND queued_at = '2001-02-03 04:05:06Z' AND lease_token IS NULL AND leased_until IS NULL \
             FROM autoembed.job WHERE vectorizer_id = {ID} AND key = 'a'"
        )));
        let jobs = claim(1, LEASE);
        queue::complete(ID, jobs.iter());
        queue::put_back(ID, &jobs[0], Charge::GivenBack, HOUR, false);
        assert_eq!(keys(&claim(1, LEASE)), ["b"]);
    }

    #[pg_test]
    fn queue_tries_an_old_job_less_often_where_asked() {
        let due = |age: &str, by_age: bool| {
            run(&format!(
                "DELETE FROM autoembed.job WHERE vectorizer_id = {ID}; \
                 INSERT INTO autoembed.job (vectorizer_id, lane, key, queued_at) VALUES ({ID}, 0, 'a', clock_timestamp() - interval '{age}')"
            ));
            let jobs = claim(1, LEASE);
            queue::complete(ID, jobs.iter());
            queue::put_back(ID, &jobs[0], Charge::GivenBack, Duration::from_secs(2), by_age);
            due_in().expect("it waits")
        };
        assert!((0.0..=2.0).contains(&due("1 hour", false)));
        assert!((0.0..=2.0).contains(&due("0", true)), "a new job waits for the pause");
        assert!((8.0..=12.0).contains(&due("20 s", true)), "half its age");
        assert!((20.0..=30.0).contains(&due("1 hour", true)), "half a minute at the most");
    }

    #[pg_test]
    fn queue_never_counts_attempts_below_none() {
        add(&["a"]);
        let job = Job { attempts: 0, ..claim(1, LEASE).remove(0) };
        queue::complete(ID, std::iter::once(&job));
        queue::put_back(ID, &job, Charge::GivenBack, Duration::ZERO, false);
        assert_eq!(attempts("a"), 0);
    }

    /// A job that was tried so often.
    fn tried(key: &str, attempts: i16) -> Job {
        add(&[key]);
        let job = claim(10, LEASE).remove(0);
        queue::complete(ID, std::iter::once(&job));
        Job { attempts, ..job }
    }

    #[pg_test]
    fn queue_lists_a_failure_once_a_row() {
        queue::fail(ID, &tried("a", 5), &[], "old", "an old message", "an old hint");
        queue::fail(ID, &tried("b", 1), &[], "x", "m", "h");
        queue::fail(OTHER, &tried("a", 1), &[], "x", "m", "h");
        queue::fail(ID, &tried("a", 7), &[], "code'", "it's a \"message\"\\", "h");
        let list = column::<String>(&format!(
            "SELECT concat_ws('|', key, attempts, code, message, hint) FROM autoembed.failed WHERE vectorizer_id = {ID} ORDER BY key"
        ));
        assert_eq!(list, ["a|7|code'|it's a \"message\"\\|h", "b|1|x|m|h"]);
        queue::forget_failures(ID, vec!["a".into(), "z".into()]);
        assert_eq!(text(&format!("SELECT string_agg(key, ',') FROM autoembed.failed WHERE vectorizer_id = {ID}")), "b");
        assert_eq!(int(&format!("SELECT count(*) FROM autoembed.failed WHERE vectorizer_id = {OTHER}")), 1);
    }

    #[pg_test]
    fn queue_keeps_in_mind_which_vectors_do_not_count() {
        let (forced, plain) = (Job { is_forced: true, ..tried("a", 2) }, Job { if_missing: true, ..tried("a", 1) });
        let both = Job::for_all([&forced, &plain].into_iter()).unwrap();
        assert_eq!((both.id, both.is_forced, both.if_missing, both.attempts), (plain.id, true, false, 2));
        assert!(Job::for_all(std::iter::empty()).is_none());
        queue::fail(ID, &plain, &[], "x", "m", "h");
        assert!(queue::distrusted(ID, vec!["a".into()]).is_empty());
        queue::fail(ID, &forced, &[], "x", "m", "h");
        queue::fail(ID, &plain, &[], "x", "m", "h");
        assert_eq!(queue::distrusted(ID, vec!["a".into(), "b".into()]), HashSet::from(["a".into()]));
        assert!(queue::distrusted(OTHER, vec!["a".into()]).is_empty());
    }

    #[pg_test]
    fn queue_tells_which_jobs_a_later_one_of_the_row_makes_needless() {
        add(&["a", "b"]);
        let jobs = claim(10, LEASE);
        assert!(queue::superseded(ID, &jobs).is_empty());
        add_to(OTHER, LIVE, &["a", "b"]);
        assert!(queue::superseded(ID, &jobs).is_empty(), "another vectorizer's job is none");
        add_to(ID, BACKFILL, &["b"]);
        add(&["c"]);
        assert_eq!(queue::superseded(ID, &jobs), HashSet::from([jobs[1].id]), "in whichever lane");
        add(&["a"]);
        assert_eq!(queue::superseded(ID, &jobs), ids(&jobs));
        assert!(queue::superseded(ID, &[]).is_empty());
    }

    #[pg_test]
    fn queue_rescues_leases_of_the_dead_and_their_tokens_end_with_them() {
        add(&["held", "free"]);
        add_to(OTHER, BACKFILL, &["held too"]);
        let dead = claim(1, LEASE);
        queue::claim(OTHER, BACKFILL, 0, 1, LEASE);
        assert_eq!(queue::rescue(), 2);
        assert_eq!(queue::rescue(), 0);
        assert_eq!(attempts("held"), 1, "the attempt stays counted");
        assert!(queue::complete(ID, dead.iter()).is_empty());
        let mut next = claim(10, LEASE);
        next.sort_by_key(|job| job.id);
        assert_eq!(keys(&next), ["held", "free"]);
        assert_eq!(keys(&queue::claim(OTHER, BACKFILL, 0, 1, LEASE)), ["held too"]);
    }

    /// Lanes in which something waits above these numbers.
    fn waiting(above: &[(i32, i16, i64)]) -> Vec<(i32, i16)> {
        queue::lanes(above).iter().filter(|lane| lane.waits).map(|lane| (lane.vectorizer, lane.lane)).collect()
    }

    #[pg_test]
    fn queue_offers_what_can_be_worked_on() {
        run("CREATE TABLE q1 (id int PRIMARY KEY, content text); CREATE TABLE q2 (id int PRIMARY KEY, content text)");
        let (one, two) = (enable("'q1', 'content'"), enable("'q2', 'content'"));
        assert!(waiting(&[]).is_empty());
        add_to(ID, LIVE, &["of a vectorizer that is no more"]);
        assert!(waiting(&[]).is_empty());
        add_to(two, LIVE, &["1"]);
        add_to(two, BACKFILL, &["1"]);
        run(&format!("INSERT INTO autoembed.backfill (vectorizer_id, total) VALUES ({one}, 5)"));
        assert_eq!(waiting(&[]), [(two, LIVE), (one, BACKFILL), (two, BACKFILL)]);
        run(&format!("UPDATE autoembed.backfill SET walked_at = now() WHERE vectorizer_id = {one}"));
        run("SELECT autoembed.pause('q2')");
        assert!(waiting(&[]).is_empty());
        run("SELECT autoembed.resume('q2')");
        assert_eq!(waiting(&[]), [(two, LIVE), (two, BACKFILL)]);
        let last = queue::lanes(&[])[0].last;
        assert_eq!(waiting(&[(two, LIVE, last), (one, LIVE, 0)]), [(two, BACKFILL)]);
        assert_eq!(waiting(&[(two, LIVE, 0)]), [(two, LIVE), (two, BACKFILL)]);
        run("SELECT autoembed.pause('q2')");
        assert!(queue::lanes(&[]).iter().all(|lane| lane.vectorizer == one), "who is paused is not worked for");
    }

    #[pg_test]
    fn queue_keeps_a_backfills_place() {
        assert!(queue::lock_walk(ID).is_none());
        run(&format!("INSERT INTO autoembed.backfill (vectorizer_id, total, force) VALUES ({ID}, 5, true)"));
        let walk = queue::lock_walk(ID).unwrap();
        assert!(walk.why == Why::Forced && walk.last_key.is_none());
        queue::step_walk(ID, Some("k2".into()), 2, false);
        queue::step_walk(ID, None, 0, false);
        assert_eq!(queue::lock_walk(ID).unwrap().last_key.as_deref(), Some("k2"), "no rows: the place stays");
        queue::step_walk(ID, Some("k5".into()), 3, true);
        assert!(queue::lock_walk(ID).is_none(), "it has ended");
        assert!(yes(&format!(
            "SELECT walked = 5 AND last_key = 'k5' AND walked_at IS NOT NULL FROM autoembed.backfill WHERE vectorizer_id = {ID}"
        )));
    }

    #[pg_test]
    fn queue_counts_the_slow_lane_no_further_than_asked() {
        add(&["live"]);
        add_to(ID, BACKFILL, &["a", "b", "c"]);
        assert_eq!(queue::waiting_in_backfill(ID, 0, 2), 2);
        assert_eq!(queue::waiting_in_backfill(ID, 0, 100), 3);
        assert_eq!(queue::waiting_in_backfill(OTHER, 0, 100), 0);
    }

    #[pg_test]
    fn queue_logs_what_is_not_known_as_null() {
        let entry = Logged {
            model: "m".into(),
            inputs: 3,
            rows: 0,
            cached: 2,
            truncated: 1,
            tokens: None,
            cost: 0.5,
            is_noted: false,
            ms: 1.5,
            oldest: None,
            waiting: None,
            status: None,
            error_code: Some("timeout".into()),
        };
        queue::log(Some(ID), &entry);
        queue::log(Some(ID), &Logged { tokens: Some(5_000_000_000), status: Some(200), error_code: None, ..entry });
        let lines = column::<String>(&format!(
            "SELECT concat_ws('|', model, inputs, rows, cached, truncated, cost, COALESCE(tokens::text, '-'), ms, COALESCE(status::text, '-'), COALESCE(error_code, '-')) \
             FROM autoembed.request WHERE vectorizer_id = {ID} ORDER BY id"
        ));
        assert_eq!(lines, ["m|3|0|2|1|0.5|-|1.5|-|timeout", "m|3|0|2|1|0.5|5000000000|1.5|200|-"]);
    }

    #[pg_test]
    fn queue_logs_how_long_rows_waited_and_how_many_do() {
        let queued = |ago: &str| {
            int(&format!(
                "SELECT EXTRACT(epoch FROM clock_timestamp() - interval '{ago}' - '2000-01-01Z'::timestamptz) * 1000000"
            ))
        };
        let entry = Logged {
            model: "m".into(),
            inputs: 1,
            rows: 1,
            cached: 0,
            truncated: 0,
            tokens: None,
            cost: 0.0,
            is_noted: false,
            ms: 1.5,
            oldest: Some(queued("90 s")),
            waiting: Some(7),
            status: None,
            error_code: None,
        };
        queue::log(Some(ID), &entry);
        run(&format!(
            "INSERT INTO autoembed.backfill (vectorizer_id, total, walked) VALUES ({ID}, 50, 20), ({OTHER}, 50, 70)"
        ));
        // Nothing has waited for less than no time, whatever the clock does; and nothing is left to walk of a table that has grown.
        queue::log(Some(ID), &Logged { oldest: Some(queued("-1 h")), ..entry.clone() });
        queue::log(Some(OTHER), &entry);
        run("UPDATE autoembed.backfill SET walked_at = now()");
        queue::log(Some(ID), &entry);
        queue::log(Some(ID), &Logged { waiting: None, ..entry });
        let lines = column::<String>(&format!(
            "SELECT concat_ws('|', vectorizer_id = {ID}, round(waited_ms::numeric / 1000), COALESCE(pending::text, '-')) FROM autoembed.request \
             WHERE vectorizer_id IN ({ID}, {OTHER}) ORDER BY id"
        ));
        assert_eq!(lines, ["t|90|7", "t|0|37", "f|90|7", "t|90|7", "t|90|-"]);
    }

    #[pg_test]
    fn queue_works_on_its_index_whatever_the_statistics_say() {
        // 3,000 jobs of others, then statistics that say the table is empty: the plan must not depend on them.
        run(&format!(
            "INSERT INTO autoembed.job (vectorizer_id, lane, key) SELECT {OTHER}, 0, i::text FROM generate_series(1, 3000) i"
        ));
        add(&["a"]);
        let before = int("SELECT pg_stat_get_xact_tuples_returned('autoembed.job'::regclass)");
        assert_eq!(keys(&claim(10, LEASE)), ["a"]);
        let read = int("SELECT pg_stat_get_xact_tuples_returned('autoembed.job'::regclass)") - before;
        assert_eq!(read, 0, "rows read by sequential scans");
    }
}
