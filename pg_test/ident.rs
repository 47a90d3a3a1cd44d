//! Names and literals, compared with the server's own.

#[pgrx::pg_schema]
mod tests {
    use crate::in_server::support::{int, run, text};
    use crate::pg::ffi::spi::{self, Mode, args};
    use crate::pg::ident::{NAME_BYTES, as_column, derived, literal, qualified, quote};
    use pgrx::prelude::*;

    const NASTY: [&str; 18] = [
        "plain",
        "Mixed",
        "select",
        "user",
        "a b",
        "a\"b",
        "\"",
        "\"\"",
        "a'b",
        "''",
        "a\\b",
        "\\'; DROP TABLE x; --",
        "a.b",
        "$1",
        "a\nb",
        "naïve",
        "表",
        "%I%L%",
    ];

    /// A statement's text with one text argument.
    fn with(sql: &str, argument: &str) -> String {
        spi::first(sql, args![argument.to_string()], Mode::Write, |row| row.or_default::<String>(1)).unwrap()
    }

    #[pg_test]
    fn ident_quote_is_read_back_as_the_name() {
        for name in NASTY {
            let quoted = quote(name);
            assert_eq!(with("SELECT (parse_ident($1))[1]", &quoted), name);
            // format() leaves out quotes that are not needed; where it sets them they are the same.
            let theirs = with("SELECT format('%I', $1)", name);
            assert!(theirs == quoted || theirs == name, "{theirs} and {quoted}");
            run(&format!("CREATE TEMP TABLE {quoted} ({quoted} int)"));
            let found =
                with("SELECT attname::text FROM pg_attribute WHERE attrelid = $1::regclass AND attnum = 1", &quoted);
            assert_eq!(found, name);
            run(&format!("DROP TABLE {quoted}"));
        }
    }

    #[pg_test]
    fn ident_qualified_names_one_schema_and_one_object() {
        run("CREATE SCHEMA \"a.b\"; CREATE TABLE \"a.b\".\"c.d\" (x int); INSERT INTO \"a.b\".\"c.d\" VALUES (7)");
        assert_eq!(int(&format!("SELECT x FROM {}", qualified("a.b", "c.d"))), 7);
        assert_eq!(qualified("a\"b", "c"), "\"a\"\"b\".\"c\"");
    }

    #[pg_test]
    fn ident_literal_is_the_servers_and_reads_back_under_every_setting() {
        for value in NASTY.iter().copied().chain(["", "E'x'", "\\\\", "'\\'"]) {
            let ours = literal(value);
            assert_eq!(ours.trim_start(), with("SELECT format('%L', $1)", value));
            for setting in ["on", "off"] {
                run(&format!("SET LOCAL standard_conforming_strings = {setting}"));
                assert_eq!(text(&format!("SELECT {ours}")), value, "standard_conforming_strings = {setting}");
                // Right after a word a literal must not become part of it.
                assert_eq!(text(&format!("SELECT text{ours}")), value);
            }
            run("SET LOCAL standard_conforming_strings = on");
        }
    }

    #[pg_test]
    fn ident_derived_fits_a_name_and_keeps_two_names_two() {
        assert_eq!(int("SELECT current_setting('max_identifier_length')"), NAME_BYTES as i64);
        assert_eq!(derived("similar_", "messages", ""), "similar_messages");
        let exact = "x".repeat(NAME_BYTES - 8);
        assert_eq!(derived("similar_", &exact, ""), format!("similar_{exact}"));
        let mut seen = std::collections::HashSet::new();
        for name in [
            "x".repeat(NAME_BYTES - 7),
            "x".repeat(200),
            format!("{}y", "x".repeat(199)),
            "ä".repeat(40),
            "表".repeat(30),
            format!("a{}", "表".repeat(30)),
            format!("ab{}", "表".repeat(30)),
            "😀".repeat(20),
        ] {
            for suffix in ["", "_idx"] {
                let short = derived("similar_", &name, suffix);
                assert!(
                    short.len() <= NAME_BYTES && short.starts_with("similar_") && short.ends_with(suffix),
                    "{short}"
                );
                // The server takes it as it is: it neither cuts it nor leaves half a character.
                assert_eq!(with("SELECT $1::name::text", &short), short);
                assert!(seen.insert(short.clone()), "{short} twice");
                assert_eq!(derived("similar_", &name, suffix), short);
            }
        }
        let limit = "n".repeat(NAME_BYTES);
        let (one, two) =
            (derived("similar_", &format!("{limit}_a"), ""), derived("similar_", &format!("{limit}_b"), ""));
        assert_ne!(one, two);
    }

    #[pg_test]
    fn ident_as_column_reads_a_name_as_the_server_does() {
        for text in [
            "content",
            "Content",
            " content ",
            "\"Content\"",
            "\"a \"\"b\"\"\"",
            "_x",
            "a1$",
            "ÄB",
            "\"ÄB\"",
            "\"a.b\"",
            "\"a\"\"||\"\"b\"",
        ] {
            let theirs: String = with("SELECT (parse_ident($1))[1]", text);
            assert_eq!(as_column(text).as_deref(), Some(theirs.as_str()), "{text}");
        }
        for text in [
            "",
            " ",
            "\"\"",
            "1a",
            "a b",
            "a.b",
            "a || b",
            "\"a\" || \"b\"",
            "\"a\"b\"",
            "a(b)",
            "$1",
            "'a'",
            "a;",
            "a--",
            "(a)",
            "*",
        ] {
            assert_eq!(as_column(text), None, "{text}");
        }
    }
}
