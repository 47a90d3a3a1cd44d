//! Errors caught in subtransactions, and what kind each is.

#[pgrx::pg_schema]
mod tests {
    use crate::in_server::support::{column, error, int, raised, run};
    use crate::pg::ffi::catch::{Caught, subtransaction};
    use pgrx::prelude::*;

    fn raise(code: &str) -> Caught {
        error(&format!("DO $$ BEGIN RAISE EXCEPTION 'on purpose' USING ERRCODE = '{code}'; END $$"))
    }

    #[pg_test]
    fn catch_keeps_what_was_done_and_takes_back_what_failed() {
        run("CREATE TEMP TABLE done (what text)");
        assert_eq!(
            subtransaction(|| {
                run("INSERT INTO done VALUES ('kept')");
                7
            })
            .unwrap(),
            7
        );
        let caught = raised(|| {
            run("INSERT INTO done VALUES ('lost')");
            run("SELECT 1 / 0")
        });
        assert_eq!((caught.sqlstate().as_str(), caught.message.as_str()), ("22012", "division by zero"));
        run("INSERT INTO done VALUES ('after')");
        assert_eq!(column::<String>("SELECT what FROM done"), ["kept", "after"]);
    }

    #[pg_test]
    fn catch_nests() {
        run("CREATE TEMP TABLE done (what text)");
        let outer = subtransaction(|| {
            run("INSERT INTO done VALUES ('outer')");
            let inner = raised(|| {
                run("INSERT INTO done VALUES ('inner')");
                run("SELECT 'x'::int")
            });
            run("INSERT INTO done VALUES ('between')");
            inner.sqlstate()
        });
        assert_eq!(outer.unwrap(), "22P02");
        assert_eq!(column::<String>("SELECT what FROM done"), ["outer", "between"]);
        let outer = raised(|| {
            subtransaction(|| run("INSERT INTO done VALUES ('released')")).unwrap();
            run("SELECT 1 / 0")
        });
        assert_eq!(outer.sqlstate(), "22012");
        assert_eq!(int("SELECT count(*) FROM done"), 2, "what the inner one had released went with the outer one");
    }

    #[pg_test]
    fn catch_leaves_memory_and_resources_as_they_were() {
        // SAFETY: reads of the session's globals.
        let globals = || unsafe {
            (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner, pg_sys::GetCurrentTransactionNestLevel())
        };
        let before = globals();
        for _ in 0..100 {
            subtransaction(|| run("SELECT 1")).unwrap();
            assert_eq!(globals(), before);
            raised(|| run("SELECT 1 / 0"));
            assert_eq!(globals(), before);
        }
    }

    #[pg_test]
    fn catch_turns_a_panic_into_an_error() {
        run("CREATE TEMP TABLE done (what text)");
        let caught = raised(|| {
            run("INSERT INTO done VALUES ('lost')");
            panic!("on purpose: {}", 7)
        });
        assert_eq!(caught.message, "on purpose: 7");
        assert_eq!(caught.sqlstate(), "XX000");
        assert_eq!(int("SELECT count(*) FROM done"), 0);
    }

    #[pg_test]
    fn catch_keeps_code_message_and_hint() {
        let caught =
            error("DO $$ BEGIN RAISE EXCEPTION 'it''s \"wrong\"' USING ERRCODE = '23514', HINT = 'mend it'; END $$");
        assert_eq!(
            (caught.sqlstate().as_str(), caught.message.as_str(), caught.hint.as_deref()),
            ("23514", "it's \"wrong\"", Some("mend it"))
        );
        // A code of the user's own making is not known; it must not stop the rows beside it.
        assert!(raise("Z9A0Z").may_be_one_row());
        assert_eq!(raise("P0001").hint, None);
    }

    #[pg_test]
    fn catch_tells_contention_and_bad_rows_from_the_rest() {
        for (code, contention, row) in [
            ("55P03", true, false),
            ("40001", true, false),
            ("40P01", true, false),
            ("22001", false, true),
            ("22P02", false, true),
            ("23505", false, true),
            ("23514", false, true),
            ("P0001", false, true),
            ("54000", false, true),
            ("21000", false, true),
            ("42501", false, false),
            ("42703", false, false),
            ("42P01", false, false),
            ("53100", false, false),
            ("53200", false, false),
            ("0A000", false, false),
            ("25006", false, false),
        ] {
            let caught = raise(code);
            assert_eq!(caught.sqlstate(), code);
            assert_eq!((caught.is_contention(), caught.may_be_one_row()), (contention, row), "{code}");
        }
    }
}
