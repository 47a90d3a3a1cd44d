//! The record of what was written, and the search for what it does not hold.

#[pgrx::pg_schema]
mod tests {
    use crate::in_server::support::{context, enable, queued, run, table, take_queued};
    use crate::pg::ffi::snapshot::with_latest;
    use crate::pg::{reconcile, record};
    use autoembed_core::hash::text_hash;
    use autoembed_core::record::{Entry, head};
    use pgrx::prelude::*;

    /// A table of 60 rows whose vectors are all in the record.
    fn make() -> i32 {
        run("CREATE TABLE r (id int PRIMARY KEY, content text)");
        let id = enable("'r', 'content'");
        run("INSERT INTO r SELECT i, 'text ' || i FROM generate_series(1, 60) i");
        run("UPDATE r SET embedding = ARRAY[id, 1, 2]::vector");
        take_queued(id);
        let rows: Vec<(String, [u8; 32], [f32; 3])> =
            (1..=60).map(|i| (i.to_string(), text_hash(&format!("text {i}")), [i as f32, 1.0, 2.0])).collect();
        let given: Vec<record::Given<'_>> =
            rows.iter().map(|(key, text, vector)| (key.as_str(), text.as_slice(), vector.as_slice())).collect();
        let context = context(id);
        for some in given.chunks(25) {
            record::add(&context.target(), &context.pgvector, some);
        }
        id
    }

    fn entries(id: i32) -> Vec<(bool, Vec<Entry>)> {
        let mut all = Vec::new();
        with_latest(false, || record::for_each(id, |number, batch| all.push((number < 0, batch.collect()))));
        all
    }

    #[pg_test]
    fn reconcile_finds_the_same_in_any_number_of_parts() {
        let id = make();
        run(
            "SET LOCAL session_replication_role = replica; UPDATE r SET content = 'edited' WHERE id % 10 = 3; SET LOCAL session_replication_role = origin",
        );
        assert_eq!(with_latest(false, || record::count(id)), 60);
        for most in [60, 59, 7, 1] {
            let look = || with_latest(false, || reconcile::in_parts(table("r"), most)).unwrap();
            assert_eq!(look(), 6, "{most} entries at once");
            let mut keys = queued(id);
            keys.sort();
            assert_eq!(keys, ["13", "23", "3", "33", "43", "53"]);
            assert_eq!(look(), 0, "they wait already");
            take_queued(id);
        }
    }

    #[pg_test]
    fn a_batch_that_was_brought_together_counts_as_older() {
        let id = make();
        let of = |key: &str, text: &str| Entry::new(key, &text_hash(text), &head(&[1.0, 2.0, 3.0]));
        record::keep(id, &[of("1", "kept")]);
        let all = entries(id);
        assert_eq!(all.iter().map(|(_, batch)| batch.len()).collect::<Vec<_>>(), [10, 25, 25, 1], "newest first");
        assert_eq!(all[3], (true, vec![of("1", "kept")]));
        let mut numbers = Vec::new();
        with_latest(false, || record::for_each(id, |number, _| numbers.push(number)));
        record::remove(id, &numbers[..2]);
        assert_eq!(entries(id).iter().map(|(_, batch)| batch.len()).collect::<Vec<_>>(), [25, 1]);
        // A vectorizer that is gone meanwhile leaves nothing behind.
        record::keep(i32::MAX, &[of("1", "kept")]);
        assert_eq!(entries(i32::MAX).len(), 0);
    }

    #[pg_test]
    fn only_a_long_record_is_overgrown() {
        let id = make();
        assert_eq!(record::overgrown(), [0; 0]);
        run(&format!(
            "INSERT INTO autoembed.embedded (vectorizer_id, marks) SELECT {id}, decode(repeat(md5(i::text), 1000), 'hex') FROM generate_series(1, 99) i"
        ));
        assert_eq!(record::overgrown(), [0; 0]);
        run(&format!(
            "INSERT INTO autoembed.embedded (vectorizer_id, marks) SELECT {id}, decode(repeat(md5(i::text), 1000), 'hex') FROM generate_series(1, 2) i"
        ));
        assert_eq!(record::overgrown(), [id]);
        // It was that long when it was brought together: only what came since counts.
        run(
            "INSERT INTO autoembed.embedded (vectorizer_id, id, marks) OVERRIDING SYSTEM VALUE SELECT vectorizer_id, -id, marks FROM autoembed.embedded",
        );
        assert_eq!(record::overgrown(), [0; 0]);
    }
}
