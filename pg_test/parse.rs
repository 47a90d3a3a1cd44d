//! What the parser says of input expressions, and that no text gets out of its parentheses.

#[pgrx::pg_schema]
mod tests {
    use crate::in_server::support::{enable, error, int, raised, run, table, text};
    use crate::pg::ffi::parse::{Expression, analyse};
    use pgrx::prelude::*;

    fn make() {
        run(
            "CREATE TABLE p (id int PRIMARY KEY, a text, b text, \"C d\" text, n int); CREATE TABLE p_tags (p_id int, tag text)",
        );
    }

    /// As enable() puts an input into a statement.
    fn of(input: &str) -> Option<Expression> {
        analyse(&format!("SELECT (\n{input}\n)::pg_catalog.text FROM ONLY public.p"), table("public.p"))
    }

    fn columns(input: &str) -> Vec<i16> {
        of(input).unwrap_or_else(|| panic!("{input} is no expression")).columns
    }

    #[pg_test]
    fn parse_tells_the_columns_that_are_read() {
        make();
        for (input, expected) in [
            ("a", &[2][..]),
            ("a || b", &[2, 3]),
            ("\"C d\"", &[4]),
            ("p.a || public.p.n", &[2, 5]),
            ("CASE WHEN n > 1 THEN a ELSE b END", &[2, 3, 5]),
            ("COALESCE(NULLIF(trim(a), ''), upper(b))", &[2, 3]),
            ("'a || b'", &[]),
            ("$$ a $$ || b /* a */ -- a", &[3]),
            ("(SELECT string_agg(t.tag, ',') FROM p_tags t WHERE t.p_id = p.id)", &[1]),
            ("(SELECT p.a || x.b FROM p x WHERE x.id = p.n)", &[2, 5]),
            ("(SELECT max(x.b) FROM p x)", &[]),
            ("(WITH q AS (SELECT p.a AS z) SELECT z FROM q)", &[2]),
            ("(SELECT string_agg(w, ' ') FROM regexp_split_to_table(b, ' ') w)", &[3]),
        ] {
            assert_eq!(columns(input), expected, "{input}");
            assert!(of(input).unwrap().one_value && !of(input).unwrap().is_volatile, "{input}");
        }
    }

    #[pg_test]
    fn parse_tells_the_whole_row_apart() {
        make();
        for input in [
            "p::text",
            "p",
            "row_to_json(p)",
            "to_jsonb(p.*) - 'n'",
            "(SELECT string_agg(v, ' ') FROM jsonb_each_text(to_jsonb(p)) AS e (k, v))",
        ] {
            assert!(columns(input).contains(&0), "{input}");
        }
        assert!(
            columns("tableoid::regclass || a").iter().any(|column| *column < 0),
            "a system column has a negative number"
        );
    }

    #[pg_test]
    fn parse_tells_volatile_functions() {
        make();
        run("CREATE FUNCTION careless(text) RETURNS text LANGUAGE sql RETURN $1");
        for input in [
            "a || random()",
            "clock_timestamp() || a",
            "careless(a)",
            "(SELECT a || gen_random_uuid())",
            "(SELECT string_agg(t.tag, '' ORDER BY random()) || a FROM p_tags t)",
        ] {
            assert!(of(input).unwrap().is_volatile, "{input}");
        }
        for input in ["a || now()", "upper(a)", "current_setting('timezone') || a"] {
            assert!(!of(input).unwrap().is_volatile, "{input}");
        }
    }

    #[pg_test]
    fn parse_tells_what_is_not_one_value_a_row() {
        make();
        for input in [
            "string_agg(a, ',')",
            "count(*)",
            "a || row_number() OVER ()",
            "unnest(ARRAY[a, b])",
            "regexp_split_to_table(a, ',')",
            "generate_series(1, n)",
        ] {
            assert!(!of(input).unwrap().one_value, "{input}");
        }
    }

    #[pg_test]
    fn parse_takes_nothing_but_one_select_of_one_column_of_the_table() {
        make();
        let oid = table("p");
        for statement in [
            "",
            ";",
            "-- nothing",
            "SELECT a FROM ONLY p; SELECT b FROM ONLY p",
            "SELECT a, b FROM ONLY p",
            "SELECT FROM ONLY p",
            "SELECT 'x'",
            "SELECT tag FROM p_tags",
            "SELECT t.tag FROM p_tags t, p",
            "VALUES ('x')",
            "SELECT a FROM p UNION SELECT b FROM p",
            "SELECT a FROM (SELECT a FROM p) p",
            "UPDATE p SET a = ''",
            "DELETE FROM p",
            "DROP TABLE p",
            "TABLE p",
            "EXPLAIN SELECT a FROM p",
            "SELECT a FROM p\0",
        ] {
            assert!(analyse(statement, oid).is_none(), "{statement}");
        }
        assert!(analyse("SELECT a FROM ONLY p", oid).is_some());
    }

    #[pg_test]
    fn parse_lets_nothing_out_of_the_parentheses() {
        make();
        run("INSERT INTO p VALUES (1, 'a', 'b', 'c', 1)");
        for input in [
            "a), (b",
            "a)::text FROM ONLY p; DROP TABLE p; SELECT (a",
            "a); DELETE FROM p; --",
            "a)::text FROM ONLY p --",
            "a)::text FROM p /*",
            "'x') UNION SELECT (b",
            "a FROM p",
            "a)::text FROM p_tags, LATERAL (SELECT (p.a",
            "SELECT a FROM p",
            "a;",
            "a AS x",
            "",
            " ",
            "-- a",
            "/* a */",
            "a /* b",
            "$$a",
            "'a",
            "\"a",
            "a)",
            "(a",
            "a) FROM p WHERE (true",
            "*",
            "$1",
            "a || $1",
            "a; COMMIT",
            "a)::text INTO stolen FROM ONLY p WHERE ('x' = 'x'",
        ] {
            // Either the parser raises, or it is not one expression: it is never taken.
            let caught =
                error(&format!("SELECT autoembed.enable('p', $in${input}$in$, backfill => false, index => 'none')"));
            assert!(
                ["42601", "22023", "42703", "42P02", "42P01", "42803", "42846"].contains(&caught.sqlstate().as_str()),
                "{input}: {caught:?}"
            );
        }
        assert_eq!(int("SELECT count(*) FROM p"), 1);
        assert_eq!(int("SELECT count(*) FROM autoembed.vectorizer"), 0);
        assert_eq!(int("SELECT count(*) FROM pg_trigger WHERE tgrelid = 'p'::regclass"), 0);
    }

    #[pg_test]
    fn parse_raises_what_the_server_says_of_a_wrong_expression() {
        make();
        assert_eq!(raised(|| of("a ||")).sqlstate(), "42601");
        assert_eq!(raised(|| of("nowhere")).sqlstate(), "42703");
        assert_eq!(raised(|| of("no_such_function(a)")).sqlstate(), "42883");
        assert_eq!(raised(|| of("(SELECT x FROM no_such_table)")).sqlstate(), "42P01");
    }

    #[pg_test]
    fn parse_keeps_a_comment_at_the_end_from_swallowing_the_rest() {
        make();
        let id = enable("'p', 'a || b -- both'");
        let condition =
            text(&format!("SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgname = 'autoembed_{id}_update'"));
        assert!(condition.contains("old.a, old.b, old.id"), "{condition}");
        assert_eq!(columns("a -- b"), [2]);
    }
}
