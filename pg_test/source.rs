//! Reading rows by key, and keys in order.

#[pgrx::pg_schema]
mod tests {
    use crate::in_server::support::{column, context, enable, int, queued, raised, run, text, yes};
    use crate::pg::ffi::spi::{self, Mode};
    use crate::pg::source::{self, Found, key_arguments, keys_from};
    use pgrx::prelude::*;

    const ALL: i32 = 1_000_000;

    fn texts(found: &[Option<Found>]) -> Vec<Option<&str>> {
        found.iter().map(|f| f.as_ref().and_then(|f| f.text.as_deref())).collect()
    }

    fn hash(of: &str) -> Vec<u8> {
        autoembed_core::hash::text_hash(of).to_vec()
    }

    /// A row literal as SQL text arrays of one element a key column come back from the statement's own arguments.
    fn split(columns: usize, keys: &[&str]) -> Vec<Vec<Option<String>>> {
        let names = (1..=columns).map(|i| format!("autoembed_k{i}")).collect::<Vec<_>>().join(", ");
        let sql = format!("SELECT ARRAY[{names}] FROM {} ORDER BY autoembed_o", keys_from("autoembed_", columns, &[]));
        spi::query(&sql, &key_arguments(columns, keys), Mode::Write, |row| row.get::<Vec<Option<String>>>(1).unwrap())
    }

    #[pg_test]
    fn source_arguments_are_the_keys_columns() {
        assert_eq!(
            split(1, &["a,b", "(1,2)", ""]),
            [[Some("a,b".into())], [Some("(1,2)".into())], [Some(String::new())]]
        );
        let nasty = split(2, &["(1,2)", r#"("a,""b""","c\\d ")"#, r#"("","(x)")"#]);
        assert_eq!(
            nasty,
            [
                [Some("1".to_string()), Some("2".to_string())],
                [Some(r#"a,"b""#.to_string()), Some(r"c\d ".to_string())],
                [Some(String::new()), Some("(x)".to_string())]
            ]
        );
        // What is no key of two columns matches no row, and moves none of the others.
        let none = [None, None];
        assert_eq!(
            split(2, &["1", "(1)", "(1,2,3)", "(1,", "(,2)", "(3,4)"]),
            [none.clone(), none.clone(), none.clone(), none.clone(), none, [Some("3".into()), Some("4".into())]]
        );
    }

    #[pg_test]
    fn source_reads_in_the_order_of_the_keys() {
        run("CREATE TABLE s (id int PRIMARY KEY, content text)");
        let id = enable("'s', 'content'");
        run(
            "INSERT INTO s VALUES (1, 'one'), (2, NULL), (3, ''), (4, 'four'); UPDATE s SET embedding = '[1,2,3]' WHERE id = 4",
        );
        let context = context(id);
        let found = source::read(&context.target(), &["4", "99", "2", "1", "3", " 1 "], ALL);
        assert_eq!(texts(&found), [Some("four"), None, None, Some("one"), Some(""), Some("one")]);
        assert!(found[1].is_none(), "no such row");
        let null = found[2].as_ref().expect("the row is there, its text is not");
        assert!(null.hash.is_none() && !null.has_vector);
        assert!(found[0].as_ref().unwrap().has_vector && !found[3].as_ref().unwrap().has_vector);
        assert_eq!(found[0].as_ref().unwrap().hash, Some(hash("four")));
        assert_eq!(found[4].as_ref().unwrap().hash, Some(hash("")));
        assert!(source::read(&context.target(), &[], ALL).is_empty());
    }

    #[pg_test]
    fn source_cuts_the_text_and_hashes_the_whole() {
        run("CREATE TABLE s (id int PRIMARY KEY, content text)");
        let id = enable("'s', 'content'");
        run("INSERT INTO s VALUES (1, repeat('ä', 1000)), (2, 'short')");
        let context = context(id);
        let found = source::read(&context.target(), &["1", "2"], 10);
        assert_eq!(texts(&found), [Some("ä".repeat(10).as_str()), Some("short")]);
        assert_eq!(found[0].as_ref().unwrap().hash, Some(hash(&"ä".repeat(1000))));
    }

    #[pg_test]
    fn source_raises_where_a_key_is_none_of_the_type() {
        run("CREATE TABLE s (id int PRIMARY KEY, content text)");
        let id = enable("'s', 'content'");
        run("INSERT INTO s VALUES (1, 'one')");
        let context = context(id);
        for bad in ["x", "", "1.5", "99999999999"] {
            let caught = raised(|| source::read(&context.target(), &["1", bad], ALL));
            assert!(caught.may_be_one_row() && caught.sqlstate().starts_with("22"), "{bad}: {caught:?}");
        }
    }

    /// Whatever the key: what the trigger queues finds the row again, and so does what the walk finds.
    #[pg_test]
    fn source_finds_the_row_of_every_key_that_is_queued() {
        run("CREATE SCHEMA \"My Schema\"; CREATE TYPE \"My Schema\".\"Mood\" AS ENUM ('so so', 'ok, \"really\"'); \
             CREATE DOMAIN \"My Schema\".code AS text CHECK (VALUE <> 'forbidden')");
        let nasty = "('plain'), (''), (' '), ('a,b'), ('(1,2)'), ('a\"b'), ('a''b'), ('a\\b'), (E'a\\nb'), ('NULL'), ('null'), ('{}'), ('$1'), ('ä表😀'), ('\"')";
        for (number, (of, values)) in [
            ("text", nasty.to_string()),
            ("varchar(20)", nasty.to_string()),
            ("\"My Schema\".code", nasty.to_string()),
            ("char(5)", "('a'), ('abcde'), ('')".to_string()),
            ("name", "('a'), ('A b')".to_string()),
            ("\"My Schema\".\"Mood\"", "('so so'), ('ok, \"really\"')".to_string()),
            ("smallint", "(-32768), (0)".to_string()),
            ("bigint", "(-9223372036854775808), (9223372036854775807)".to_string()),
            ("numeric", "(1.00), ('NaN'), (1e30), (-0.5), ('Infinity')".to_string()),
            ("float8", "(0.1), (1e-300), (0.1 + 0.2), ('NaN'), ('-Infinity'), (1/3::float8)".to_string()),
            ("real", "(0.1), (16777217)".to_string()),
            ("boolean", "(true), (false)".to_string()),
            ("uuid", "(gen_random_uuid()), ('00000000-0000-0000-0000-000000000000')".to_string()),
            ("date", "('2024-02-29'), ('0044-03-15 BC'), ('infinity')".to_string()),
            ("timestamp", "('2024-03-04 05:06:07.123456'), ('-infinity')".to_string()),
            (
                "timestamptz",
                "('2024-03-31 02:30:00+01'), ('2024-10-27 01:30:00+00'), ('2024-10-27 00:30:00+00')".to_string(),
            ),
            ("interval", "('1 mon -2 days 03:04:05.6'), ('-1 year')".to_string()),
            ("bytea", "('\\x00ff'), (''), ('\\x5c27')".to_string()),
            ("inet", "('10.0.0.1/8'), ('::1')".to_string()),
            ("jsonb", "('{\"a\": [1, \"x,y\"]}'), ('null')".to_string()),
            ("text[]", "('{a,NULL,\"b c\"}'), ('{}')".to_string()),
            ("tstzrange", "('[2024-01-01,2024-02-01)'), ('empty')".to_string()),
            ("oid", "(0), (4294967295)".to_string()),
            ("pg_lsn", "('16/B374D848')".to_string()),
        ]
        .into_iter()
        .enumerate()
        {
            for composite in [false, true] {
                let name = format!("\"My Schema\".\"s {number} {composite}\"");
                let (more, key) =
                    if composite { ("\"n,\" int DEFAULT -7,", "\"The Key\", \"n,\"") } else { ("", "\"The Key\"") };
                run(&format!(
                    "CREATE TABLE {name} (content text DEFAULT 'x', {more} \"The Key\" {of}, PRIMARY KEY ({key}))"
                ));
                let id = enable(&format!("'{name}', 'content'"));
                // A session whose texts look different from the worker's.
                run(
                    "SET LOCAL datestyle = 'German, DMY'; SET LOCAL intervalstyle = 'sql_standard'; SET LOCAL timezone = 'Europe/Berlin'; \
                     SET LOCAL extra_float_digits = -15; SET LOCAL bytea_output = 'escape'",
                );
                run(&format!("INSERT INTO {name} (\"The Key\") SELECT c::{of} FROM (VALUES {values}) AS v (c)"));
                run(
                    "RESET datestyle; RESET intervalstyle; RESET timezone; RESET extra_float_digits; RESET bytea_output",
                );
                let rows = int(&format!("SELECT count(*) FROM {name}")) as usize;
                let queued = queued(id);
                assert_eq!(queued.len(), rows, "{of}");
                let context = context(id);
                let keys: Vec<&str> = queued.iter().map(String::as_str).collect();
                let found = source::read(&context.target(), &keys, ALL);
                assert_eq!(found.iter().flatten().count(), rows, "{of}: rows found by {keys:?}");
                let walked: Vec<(String, bool)> = source::walk(&context.target(), None, None, 1000);
                assert_eq!(walked.len(), rows, "{of}");
                let keys: Vec<&str> = walked.iter().map(|(key, _)| key.as_str()).collect();
                let found = source::read(&context.target(), &keys, ALL);
                assert_eq!(found.iter().flatten().count(), rows, "{of}: rows found by walked {keys:?}");
            }
        }
    }

    /// A row that is queued and walked is one row, not two.
    #[pg_test]
    fn source_walk_calls_rows_as_the_triggers_do() {
        let mut differ = Vec::new();
        for (number, (of, values)) in [
            ("int", "(1)"),
            ("text", "('a,b \"c\"')"),
            ("name", "('a')"),
            ("uuid", "('00000000-0000-0000-0000-00000000000a')"),
            ("numeric", "(1.00)"),
            ("float8", "(1/3::float8)"),
            ("timestamptz", "('2024-03-31 02:30:00+01')"),
            ("interval", "('1 mon -2 days')"),
            ("bytea", "('\\x00ff')"),
            ("jsonb", "('[1, \"x\"]')"),
            ("text[]", "('{a,NULL}')"),
            ("boolean", "(true)"),
            ("char(5)", "('a')"),
            ("inet", "('10.0.0.1')"),
            ("cidr", "('10.0.0.0/8')"),
            ("\"char\"", "('a')"),
        ]
        .into_iter()
        .enumerate()
        {
            for key in ["k", "k, n"] {
                let name = format!("s{number}_{}", key.len());
                run(&format!(
                    "CREATE TABLE {name} (k {of}, n int DEFAULT 1, content text DEFAULT 'x', PRIMARY KEY ({key}))"
                ));
                let id = enable(&format!("'{name}', 'content'"));
                run(&format!("INSERT INTO {name} (k) SELECT c::{of} FROM (VALUES {values}) AS v (c)"));
                let context = context(id);
                let walked = source::walk(&context.target(), None, None, 10).remove(0).0;
                let last = source::last_key(&context.table).unwrap();
                let queued = queued(id).remove(0);
                if walked != queued || last != queued {
                    differ.push(format!("{of} as ({key}): queued {queued:?}, walked {walked:?}, last {last:?}"));
                }
            }
        }
        assert!(differ.is_empty(), "{differ:#?}");
    }

    #[pg_test]
    fn source_walks_no_further_than_the_last_key_there_was() {
        run("CREATE TABLE s (a text, b int, content text DEFAULT 'x', PRIMARY KEY (b, a))");
        let id = enable("'s', 'content'");
        let context = context(id);
        assert_eq!(source::last_key(&context.table), None);
        run("INSERT INTO s (a, b) VALUES ('z', 1), ('a, b', 2)");
        let end = source::last_key(&context.table);
        assert_eq!(end.as_deref(), Some("(2,\"a, b\")"));
        run("INSERT INTO s (a, b) VALUES ('a', 0), ('a', 2), ('a, c', 2), ('a', 3)");
        let keys = |after: Option<&str>| {
            source::walk(&context.target(), after, end.as_deref(), 10)
                .into_iter()
                .map(|(key, _)| key)
                .collect::<Vec<_>>()
        };
        assert_eq!(keys(None), ["(0,a)", "(1,z)", "(2,a)", "(2,\"a, b\")"]);
        assert_eq!(keys(Some("(1,z)")), ["(2,a)", "(2,\"a, b\")"]);
        assert!(keys(end.as_deref()).is_empty());
    }

    #[pg_test]
    fn source_walks_every_row_once_in_key_order() {
        run(
            "CREATE TABLE s (a text, b int, content text DEFAULT 'x', PRIMARY KEY (b, a)); CREATE TABLE child () INHERITS (s)",
        );
        let id = enable("'s', 'content'");
        run("INSERT INTO s (a, b) SELECT x, i FROM generate_series(1, 5) i, unnest(ARRAY['', 'a,b', '\"', 'ä']) x; \
             INSERT INTO child (a, b) VALUES ('of a child', 1); UPDATE s SET embedding = '[1,2,3]' WHERE b = 2");
        let context = context(id);
        for step in [1, 3, 7, 100] {
            let mut after: Option<String> = None;
            let mut all: Vec<(String, bool)> = Vec::new();
            loop {
                let some = source::walk(&context.target(), after.as_deref(), None, step);
                assert!(some.len() as i64 <= step);
                let Some((last, _)) = some.last() else { break };
                after = Some(last.clone());
                all.extend(some);
            }
            let expected: Vec<String> = column("SELECT ROW(b, a)::text FROM ONLY s ORDER BY b, a");
            assert_eq!(all.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>(), expected, "in steps of {step}");
            assert_eq!(all.iter().filter(|(_, has)| *has).count(), 4);
        }
    }

    #[pg_test]
    fn source_reads_expressions_under_the_path_they_were_given_with() {
        run(
            "CREATE SCHEMA helpers; CREATE FUNCTION helpers.shout(text) RETURNS text LANGUAGE sql IMMUTABLE RETURN upper($1) || '!'; \
             CREATE TABLE s (id int PRIMARY KEY, title text, body text); CREATE TABLE s_tags (s_id int, tag text)",
        );
        run("SET LOCAL search_path = helpers, public");
        let id = enable(
            "'s', $$shout(title) || E'\\n' || COALESCE(body, '-') || ' ' || (SELECT string_agg(t.tag, ',' ORDER BY t.tag) FROM s_tags t WHERE t.s_id = s.id) -- end$$",
        );
        run("SET LOCAL search_path = public");
        run("INSERT INTO s VALUES (1, 'hi', NULL); INSERT INTO s_tags VALUES (1, 'b'), (1, 'a')");
        let context = context(id);
        assert_eq!(texts(&source::read(&context.target(), &["1"], ALL)), [Some("HI!\n- a,b")]);
        assert_eq!(text("SELECT current_setting('search_path')"), "public");
        assert!(yes("SELECT current_setting('row_security')::boolean"));
    }
}
