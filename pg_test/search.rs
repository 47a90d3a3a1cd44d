//! The statement of a search: what a filter can say, and what it cannot do.

#[pgrx::pg_schema]
mod tests {
    use crate::in_server::support::{column, enable, error, int, run, text};
    use crate::pg::ffi::catch::{Caught, subtransaction};
    use crate::pg::ffi::snapshot::with_latest;
    use crate::pg::ffi::types::Json;
    use crate::pg::search;
    use pgrx::JsonB;
    use pgrx::prelude::*;
    use serde_json::{Value, json};

    fn make() -> i32 {
        run(
            "CREATE TABLE f (id int PRIMARY KEY, content text, n int, big numeric, on_day date, ok boolean, tag text, who uuid, meta jsonb, \"we\"\"ird'$4 \\\" text)",
        );
        let id = enable("'f', 'content'");
        run("INSERT INTO f (id, content, n, big, on_day, ok, tag, who, meta, \"we\"\"ird'$4 \\\") VALUES \
             (1, 'one', 1, 1.50, '2024-01-01', true, 'a', '00000000-0000-0000-0000-000000000001', '{\"x\": 1, \"y\": [1, 2]}', 'w'), \
             (2, 'two', 2, 2.5, '2024-01-02', false, 'b', '00000000-0000-0000-0000-000000000002', '{\"x\": 2}', $$it's \"$1\" \\$$), \
             (3, 'three', 3, NULL, NULL, NULL, NULL, NULL, NULL, NULL), (4, 'no vector', 1, 1.5, '2024-01-01', true, 'a', NULL, '{\"x\": 1}', 'w')");
        run("UPDATE f SET embedding = ('[' || id || ',1,0]')::vector WHERE id < 4");
        id
    }

    fn statement(id: i32, filter: Option<&Value>) -> String {
        let given = filter.and_then(|filter| JsonB(filter.clone()).into_datum());
        // SAFETY: a jsonb, of the present memory context.
        let given = given.and_then(|datum| unsafe { Json::from_datum(datum, false) });
        with_latest(false, || search::statement(search::Of { id, made: None }, None, given, "semantic")).unwrap()
    }

    /// The ids found for `[1,0,0]`, the nearest first.
    fn found(id: i32, filter: Option<&Value>, k: i64, least: &str) -> Vec<i32> {
        let sql = statement(id, filter);
        run(&format!("PREPARE searched (vector, int, real, jsonb) AS {sql}"));
        let filter = crate::pg::ident::literal(&filter.map_or("null".into(), Value::to_string));
        let result = subtransaction(|| column(&format!("EXECUTE searched ('[1,0,0]', {k}, {least}, {filter})")));
        run("DEALLOCATE searched");
        result.unwrap_or_else(|caught: Caught| panic!("{caught:?}"))
    }

    fn ids(id: i32, filter: Value) -> Vec<i32> {
        let mut ids = found(id, Some(&filter), 10, "NULL");
        ids.sort_unstable();
        ids
    }

    fn refused(id: i32, filter: &str, mode: &str) -> String {
        error(&format!("SELECT autoembed.search_statement({id}, 1, $j${filter}$j$, '{mode}')")).sqlstate()
    }

    #[pg_test]
    fn search_gives_the_nearest_first_and_never_more_than_k() {
        let id = make();
        assert_eq!(found(id, None, 10, "NULL"), [3, 2, 1]);
        assert_eq!(found(id, None, 2, "NULL"), [3, 2]);
        assert_eq!(found(id, None, 0, "NULL"), [] as [i32; 0]);
        assert_eq!(found(id, None, 10, "0.8"), [3, 2], "1 / sqrt(2) is less");
        assert_eq!(found(id, None, 10, "1.0"), [] as [i32; 0]);
        assert_eq!(found(id, Some(&json!({"n": [1, 2]})), 1, "NULL"), [2]);
        assert_eq!(found(id, Some(&json!({})), 10, "NULL"), [3, 2, 1]);
        assert_eq!(found(id, Some(&Value::Null), 10, "NULL"), [3, 2, 1]);
    }

    #[pg_test]
    fn search_filters_by_values_of_every_kind() {
        let id = make();
        for (filter, expected) in [
            (json!({"n": 1}), &[1][..]),
            (json!({"n": "1"}), &[1]),
            (json!({"n": [1, 3]}), &[1, 3]),
            (json!({"n": []}), &[]),
            (json!({"n": [null, 2]}), &[2]),
            (json!({"n": null}), &[]),
            (json!({"tag": null}), &[3]),
            (json!({"big": 1.5}), &[1]),
            (json!({"on_day": "2024-01-02"}), &[2]),
            (json!({"ok": true}), &[1]),
            (json!({"ok": [true, false]}), &[1, 2]),
            (json!({"tag": "a", "n": 1}), &[1]),
            (json!({"tag": "a", "n": 2}), &[]),
            (json!({"tag": ["a", "b", "zzz"]}), &[1, 2]),
            (json!({"who": "00000000-0000-0000-0000-000000000002"}), &[2]),
            (json!({"meta": {"x": 1}}), &[1]),
            (json!({"meta": {"y": [2]}}), &[1]),
            (json!({"meta": {}}), &[1, 2]),
            (json!({"meta": [1]}), &[]),
            (json!({"meta": null}), &[3]),
            (json!({"id": [1, 2, 4]}), &[1, 2]),
            (json!({"content": "three"}), &[3]),
            (json!({"we\"ird'$4 \\": "w"}), &[1]),
            (json!({"we\"ird'$4 \\": ["it's \"$1\" \\", "x"]}), &[2]),
        ] {
            assert_eq!(ids(id, filter.clone()), expected, "{filter}");
        }
    }

    #[pg_test]
    fn search_keeps_values_out_of_the_statement() {
        let id = make();
        for value in ["' OR true --", "'; DROP TABLE f; --", "$1 OR true", "\\", "a' OR 'x'='x", "canary"] {
            let filter = json!({"tag": value, "content": [value]});
            assert!(!statement(id, Some(&filter)).contains(value), "{value}");
            assert!(ids(id, filter).is_empty());
        }
        assert_eq!(int("SELECT count(*) FROM f"), 4);
    }

    #[pg_test]
    fn search_refuses_filters_that_make_no_sense() {
        let id = make();
        for (filter, mode, code) in [
            (r#"{"nowhere": 1}"#, "semantic", "42703"),
            (r#"{"N": 1}"#, "semantic", "42703"),
            (r#"{"ctid": "(0,1)"}"#, "semantic", "42703"),
            (r#"{"tag) OR (true": 1}"#, "semantic", "42703"),
            (r#"{"": 1}"#, "semantic", "42703"),
            (r#"{"n": {"x": 1}}"#, "semantic", "22023"),
            (r#"{"n": "abc"}"#, "semantic", "22P02"),
            ("[1]", "semantic", "22023"),
            ("\"n = 1\"", "semantic", "22023"),
            ("1", "semantic", "22023"),
            ("{}", "hybrid", "55000"),
            ("{}", "Semantic", "22023"),
            ("{}", "", "22023"),
        ] {
            assert_eq!(refused(id, filter, mode), code, "{filter} {mode}");
        }
        assert_eq!(refused(id + 1_000_000, "{}", "semantic"), "42704");
        let sql = statement(id, Some(&json!({"n": 1})));
        let caught = error(&format!(
            "PREPARE searched (vector, int, real, jsonb) AS {sql}; EXECUTE searched ('[1,0,0]', 1, NULL, '{{\"n\": \"abc\"}}')"
        ));
        assert_eq!(caught.sqlstate(), "22P02");
    }

    #[pg_test]
    fn search_follows_new_names() {
        let id = make();
        assert_eq!(found(id, None, 1, "NULL"), [3]);
        run("ALTER TABLE f RENAME TO \"f 2\"; ALTER TABLE \"f 2\" RENAME COLUMN embedding TO \"the vector\"; \
             ALTER TABLE \"f 2\" RENAME COLUMN content TO \"select\"; CREATE SCHEMA \"S s\"; ALTER TABLE \"f 2\" SET SCHEMA \"S s\"");
        assert_eq!(found(id, None, 1, "NULL"), [3]);
        assert!(statement(id, None).contains("\"S s\".\"f 2\".\"the vector\""));
        assert_eq!(ids(id, json!({"select": "two"})), [2]);
        run("ALTER TABLE \"S s\".\"f 2\" DROP COLUMN \"the vector\"");
        assert_eq!(refused(id, "{}", "semantic"), "55000");
    }

    #[pg_test]
    fn search_names_output_columns_apart_from_the_parameters() {
        run("CREATE TABLE clash (query text, k int, similarity text, PRIMARY KEY (query, k))");
        enable("'clash', 'similarity'");
        let signature = text("SELECT pg_get_function_result(oid) FROM pg_proc WHERE proname = 'similar_clash'");
        assert_eq!(signature, "TABLE(query_ text, k_ integer, similarity_ text, similarity real)");
    }

    #[pg_test]
    fn search_reads_a_plain_table_without_its_children() {
        let id = make();
        run(
            "CREATE TABLE child () INHERITS (f); INSERT INTO child (id, content, embedding) VALUES (9, 'child', '[1,0,0]')",
        );
        assert_eq!(found(id, None, 10, "NULL"), [3, 2, 1]);
    }
}
