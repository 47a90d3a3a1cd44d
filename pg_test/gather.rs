//! From jobs to rows: what needs a request, what ends without one, and that a bad row is alone.

#[pgrx::pg_schema]
mod tests {
    use crate::in_server::support::{column, context, enable, int, keys, queued, run, take_queued, text, work, yes};
    use crate::pg::queue::{self, BACKFILL, LIVE, Why};
    use crate::worker::batch::Item;
    use crate::worker::gather::{Busy, Context, Gathered, gather};
    use autoembed_core::hash::text_hash;
    use pgrx::prelude::*;
    fn make() -> i32 {
        run("CREATE TABLE g (id int PRIMARY KEY, content text, n int DEFAULT 1)");
        enable("'g', 'content'")
    }

    fn live(context: &Context) -> Gathered {
        gather(context, LIVE, 0, 100, None, &context.stored.model.limits, &Busy::default(), &work())
    }

    fn found(items: &[Item]) -> Vec<(&str, &str)> {
        items.iter().map(|item| (item.key.as_str(), item.text.as_str())).collect()
    }

    #[pg_test]
    fn gather_brings_the_jobs_of_a_row_together() {
        let id = make();
        run("INSERT INTO g VALUES (1, 'a'), (2, 'b'); UPDATE g SET content = 'c' WHERE id = 1");
        let gathered = live(&context(id));
        assert_eq!(found(&gathered.items), [("1", "c"), ("2", "b")]);
        assert_eq!((gathered.claimed, gathered.settled, gathered.rest.is_some()), (3, 0, false));
        assert_eq!(gathered.items[0].hash, text_hash("c"));
        assert_eq!(keys(&gathered.items[0].jobs), ["1", "1"]);
        assert_eq!(gathered.highest, gathered.items.iter().flat_map(|item| &item.jobs).map(|job| job.id).max());
    }

    #[pg_test]
    fn gather_ends_what_needs_no_request() {
        let id = make();
        run(
            "INSERT INTO g VALUES (1, 'gone'), (2, NULL), (3, ''), (4, E' \\n\\t '), (5, 'stays'); DELETE FROM g WHERE id = 1; UPDATE g SET embedding = '[1,2,3]'",
        );
        let gathered = live(&context(id));
        assert_eq!(found(&gathered.items), [("5", "stays")]);
        assert_eq!(gathered.settled, 4);
        assert_eq!(queued(id), ["5"]);
        assert_eq!(
            text("SELECT string_agg(id::text, ',') FROM g WHERE embedding IS NOT NULL"),
            "5",
            "without text no vector"
        );
    }

    #[pg_test]
    fn gather_leaves_rows_alone_that_have_what_a_backfill_wants() {
        let id = make();
        run("INSERT INTO g VALUES (1, 'a'), (2, 'b'), (3, 'c'); UPDATE g SET embedding = '[1,2,3]' WHERE id < 3");
        take_queued(id);
        queue::add(id, LIVE, &["1".into(), "2".into(), "3".into()], Why::Missing);
        queue::add(id, LIVE, &["2".into()], Why::Changed);
        let gathered = live(&context(id));
        assert_eq!(
            found(&gathered.items),
            [("2", "b"), ("3", "c")],
            "a user's write counts even where a vector is there"
        );
        assert_eq!(gathered.settled, 1);
    }

    #[pg_test]
    fn gather_walks_a_backfill_and_queues_only_what_is_missing() {
        let id = make();
        run(
            "INSERT INTO g SELECT i, 't' || i FROM generate_series(1, 10) i; UPDATE g SET embedding = '[1,2,3]' WHERE id > 7",
        );
        take_queued(id);
        run("SELECT autoembed.backfill('g')");
        let context = context(id);
        let gathered =
            gather(&context, BACKFILL, 0, 100, None, &context.stored.model.limits, &Busy::default(), &work());
        assert_eq!(gathered.items.len(), 7);
        assert!(yes(&format!(
            "SELECT walked = 10 AND walked_at IS NOT NULL AND last_key = '10' FROM autoembed.backfill WHERE vectorizer_id = {id}"
        )));
        take_queued(id);
        run("SELECT autoembed.backfill('g', force => true)");
        assert_eq!(
            gather(&context, BACKFILL, 0, 100, None, &context.stored.model.limits, &Busy::default(), &work())
                .items
                .len(),
            10
        );
    }

    #[pg_test]
    fn gather_has_no_reason_to_look_again_where_all_rows_are_in_hand() {
        let id = make();
        run("INSERT INTO g SELECT i, 't' || i FROM generate_series(1, 20000) i");
        take_queued(id);
        run("SELECT autoembed.backfill('g')");
        let context = context(id);
        let look =
            |limit| gather(&context, BACKFILL, 0, limit, None, &context.stored.model.limits, &Busy::default(), &work());
        let first = look(100);
        assert!(first.walks_on && first.claimed == 100);
        // More is walked while what waits is little, whatever is in hand.
        while look(1000).claimed == 1000 {}
        let last = look(1000);
        assert_eq!((last.claimed, last.walks_on), (0, false));
        run("UPDATE autoembed.job SET leased_until = NULL, not_before = now() + interval '1 hour'");
        let waiting = look(1000);
        assert_eq!((waiting.claimed, waiting.walks_on), (0, false), "rows whose time has not come");
    }

    #[pg_test]
    fn gather_gives_up_a_row_that_brought_the_worker_down_each_time() {
        let id = make();
        run("INSERT INTO g VALUES (1, 'deadly'), (2, 'harmless')");
        let most = work().max_attempts;
        run(&format!("UPDATE autoembed.job SET attempts = {most} WHERE vectorizer_id = {id} AND key = '1'"));
        let gathered = live(&context(id));
        assert_eq!(found(&gathered.items), [("2", "harmless")]);
        assert_eq!(queued(id), ["2"]);
        let failed = column::<String>(&format!(
            "SELECT concat_ws(' ', key, attempts, code) FROM autoembed.failed WHERE vectorizer_id = {id}"
        ));
        assert_eq!(failed, [format!("1 {most} worker_died")]);
    }

    #[pg_test]
    fn gather_lets_the_latest_of_a_settling_rows_jobs_do_the_work() {
        run("CREATE TABLE g (id int PRIMARY KEY, content text)");
        let id = enable("'g', 'content', delay => '1 hour'");
        run("INSERT INTO g VALUES (1, 'a')");
        run(&format!("UPDATE autoembed.job SET not_before = clock_timestamp() WHERE vectorizer_id = {id}"));
        run("UPDATE g SET content = 'ab'");
        let gathered = live(&context(id));
        assert_eq!((gathered.claimed, gathered.items.len()), (1, 0));
        assert_eq!(queued(id), ["1"], "the later one waits for its time");
        run(&format!("UPDATE autoembed.job SET not_before = clock_timestamp() WHERE vectorizer_id = {id}"));
        assert_eq!(found(&live(&context(id)).items), [("1", "ab")]);
    }

    #[pg_test]
    fn gather_blocks_a_table_that_cannot_be_read_and_charges_nothing() {
        run("CREATE TABLE g (id int PRIMARY KEY, content text); CREATE TABLE other (x text)");
        let id = enable("'g', 'content || COALESCE((SELECT max(x) FROM other), '''')'");
        run("INSERT INTO g VALUES (1, 'a'), (2, 'b'); DROP TABLE other");
        let gathered = live(&context(id));
        assert!(gathered.rest.is_some() && gathered.items.is_empty());
        assert_eq!(text(&format!("SELECT code FROM autoembed.vectorizer_state WHERE vectorizer_id = {id}")), "42P01");
        assert!(yes(&format!(
            "SELECT bool_and(attempts = 0 AND leased_until IS NULL AND not_before > clock_timestamp()) FROM autoembed.job WHERE vectorizer_id = {id}"
        )));
        assert_eq!(queued(id), ["1", "2"]);
    }

    /// A key that the type does not take belongs to no row: its job ends, the others' go on.
    #[pg_test]
    fn gather_isolates_a_key_that_is_none() {
        let id = make();
        run("INSERT INTO g SELECT i, 't' || i FROM generate_series(1, 5) i");
        // As it is left where the key's type was changed; enqueue() takes none.
        run(&format!(
            "INSERT INTO autoembed.job (vectorizer_id, lane, key) VALUES ({id}, 0, 'x'), ({id}, 0, '99999999999')"
        ));
        let gathered = live(&context(id));
        assert!(gathered.rest.is_none(), "{:?}", column::<String>("SELECT message FROM autoembed.vectorizer_state"));
        assert_eq!(gathered.items.len(), 5);
        assert_eq!(queued(id).len(), 5, "nothing is left of keys that are none");
    }

    /// An input expression that raises for one row fails that row, and no other.
    #[pg_test]
    fn gather_isolates_a_row_whose_input_raises() {
        run("CREATE TABLE g (id int PRIMARY KEY, content text, n int)");
        let id = enable("'g', 'content || 10 / n'");
        run("INSERT INTO g SELECT i, 't', i - 3 FROM generate_series(1, 5) i");
        let gathered = live(&context(id));
        assert!(gathered.rest.is_none(), "{:?}", column::<String>("SELECT message FROM autoembed.vectorizer_state"));
        assert_eq!(found(&gathered.items), [("1", "t-5"), ("2", "t-10"), ("4", "t10"), ("5", "t5")]);
        let left = int(&format!(
            "SELECT (SELECT count(*) FROM autoembed.failed WHERE vectorizer_id = {id} AND key = '3') + \
             (SELECT count(*) FROM autoembed.job WHERE vectorizer_id = {id} AND key = '3')"
        ));
        assert_eq!(left, 1, "the row is tried again or listed as failed");
    }
}
