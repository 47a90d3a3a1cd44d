//! Acting as somebody else: nobody gets out, and everything is put back.

#[pgrx::pg_schema]
mod tests {
    use crate::in_server::support::{error, int, one, raised, role, run, text, who, yes};
    use crate::pg::ffi::catch::subtransaction;
    use crate::pg::ffi::rights::{as_extension, as_owner, as_queue, current_user, with_stable_output};
    use pgrx::prelude::*;

    const PATH: &str = "pg_catalog, public";

    /// A function that tries a statement and tells who it is afterwards; made by `trojan_owner`, whose oid this gives.
    fn trojan(statement: &str) -> pg_sys::Oid {
        let owner = match one("SELECT oid FROM pg_roles WHERE rolname = 'trojan_owner'") {
            Some(owner) => owner,
            None => role("trojan_owner"),
        };
        run(&format!(
            "SET LOCAL ROLE trojan_owner; CREATE OR REPLACE FUNCTION public.trojan() RETURNS text LANGUAGE plpgsql AS $t$ BEGIN {statement}; RETURN current_user; END $t$; RESET ROLE"
        ));
        owner
    }

    #[pg_test]
    fn rights_of_the_owner_cannot_be_left() {
        let superuser = who();
        for statement in [
            "RESET ROLE".to_string(),
            "SET ROLE NONE".to_string(),
            format!("SET ROLE \"{superuser}\""),
            format!("SET LOCAL ROLE \"{superuser}\""),
            "RESET SESSION AUTHORIZATION".to_string(),
            format!("SET SESSION AUTHORIZATION \"{superuser}\""),
            format!("PERFORM set_config('role', '{superuser}', false)"),
            format!("PERFORM set_config('session_authorization', '{superuser}', true)"),
            "RESET ALL; RESET ROLE".to_string(),
            "ALTER ROLE trojan_owner SUPERUSER".to_string(),
            "CREATE TEMP TABLE shadow (x int)".to_string(),
            "EXECUTE 'DECLARE c CURSOR WITH HOLD FOR SELECT 1'".to_string(),
            "LISTEN x".to_string(),
            "SET LOCAL log_statement = 'none'".to_string(),
            "SET LOCAL session_replication_role = 'replica'".to_string(),
            "UPDATE autoembed.models SET url = 'http://127.0.0.1:9'".to_string(),
            "PERFORM 1 FROM autoembed.job".to_string(),
        ] {
            let owner = trojan(&statement);
            let caught = raised(|| as_owner(owner, PATH, || text("SELECT public.trojan()")));
            assert!(["42501", "0A000"].contains(&caught.sqlstate().as_str()), "{statement}: {caught:?}");
            assert_eq!(who(), superuser, "{statement}");
        }
    }

    #[pg_test]
    fn rights_are_the_owners_also_where_the_trojan_catches_the_error() {
        let superuser = who();
        let owner = trojan(
            "BEGIN RESET ROLE; EXCEPTION WHEN OTHERS THEN NULL; END; BEGIN SET SESSION AUTHORIZATION DEFAULT; EXCEPTION WHEN OTHERS THEN NULL; END",
        );
        assert_eq!(
            as_owner(owner, PATH, || (text("SELECT public.trojan()"), who())),
            ("trojan_owner".into(), "trojan_owner".into())
        );
        assert_eq!(who(), superuser);
        // A function that carries a role among its settings.
        run(&format!("ALTER FUNCTION public.trojan() SET role = '{superuser}'"));
        assert_eq!(raised(|| as_owner(owner, PATH, || text("SELECT public.trojan()"))).sqlstate(), "42501");
        assert_eq!(who(), superuser);
    }

    #[pg_test]
    fn rights_bring_settings_that_do_not_depend_on_the_session() {
        let owner = trojan("NULL");
        run(
            "SET LOCAL datestyle = 'German, DMY'; SET LOCAL intervalstyle = 'sql_standard'; SET LOCAL timezone = 'Asia/Tokyo'; SET LOCAL extra_float_digits = -15; \
             SET LOCAL bytea_output = 'escape'; SET LOCAL search_path = ''; SET LOCAL lock_timeout = 0",
        );
        let shown = || {
            text(
                "SELECT concat_ws('|', current_setting('search_path'), current_setting('row_security'), current_setting('timezone'), current_setting('lock_timeout') <> '0', \
                  '2024-02-01'::date, '1 mon 2 h'::interval, 1/3::float8, '\\x00'::bytea)",
            )
        };
        let before = shown();
        assert_eq!(
            as_owner(owner, PATH, shown),
            format!("{PATH}, pg_temp|off|UTC|t|2024-02-01|1 mon 02:00:00|0.3333333333333333|\\x00")
        );
        assert_eq!(shown(), before);
    }

    #[pg_test]
    fn rights_put_settings_back_that_the_trojan_changed() {
        let owner = trojan(
            "SET search_path = evil; SET row_security = on; SET LOCAL timezone = 'Asia/Tokyo'; PERFORM set_config('work_mem', '1MB', false); PERFORM set_config('trojan.x', 'left', false)",
        );
        let shown = || {
            text(
                "SELECT concat_ws('|', current_setting('search_path'), current_setting('row_security'), current_setting('timezone'), current_setting('work_mem'), COALESCE(current_setting('trojan.x', true), ''))",
            )
        };
        let before = shown();
        assert_eq!(as_owner(owner, PATH, || text("SELECT public.trojan()")), "trojan_owner");
        assert_eq!(shown(), before);
    }

    #[pg_test]
    fn rights_end_with_an_error_and_with_a_panic() {
        let superuser = who();
        let owner = trojan("SET search_path = evil; PERFORM 1 / 0");
        let before = text("SELECT current_setting('search_path') || current_setting('row_security')");
        let after = || (who(), text("SELECT current_setting('search_path') || current_setting('row_security')"));
        assert_eq!(raised(|| as_owner(owner, PATH, || text("SELECT public.trojan()"))).sqlstate(), "22012");
        assert_eq!(after(), (superuser.clone(), before.clone()));
        let caught = raised(|| as_owner(owner, PATH, || panic!("on purpose")));
        assert!(caught.message.contains("on purpose"), "{caught:?}");
        assert_eq!(after(), (superuser.clone(), before.clone()));
        // An error that is caught inside leaves the owner in place.
        let inside = as_owner(owner, PATH, || {
            let caught = raised(|| text("SELECT public.trojan()"));
            (caught.sqlstate(), who(), text("SELECT current_setting('search_path')"))
        });
        assert_eq!(inside, ("22012".into(), "trojan_owner".into(), format!("{PATH}, pg_temp")));
        assert_eq!(after(), (superuser, before));
    }

    #[pg_test]
    fn rights_of_the_extension_are_for_its_own_statements() {
        let owner = trojan("NULL");
        run("SET LOCAL search_path = public; SET LOCAL ROLE trojan_owner");
        assert_eq!(error("SELECT count(*) FROM autoembed.job").sqlstate(), "42501");
        for (name, seen) in [
            (
                "extension",
                as_extension(|| {
                    (int("SELECT count(*) FROM autoembed.job"), text("SELECT current_setting('search_path')"))
                }),
            ),
            (
                "queue",
                as_queue(|| (int("SELECT count(*) FROM autoembed.job"), text("SELECT current_setting('search_path')"))),
            ),
        ] {
            assert_eq!(seen, (0, "pg_catalog, pg_temp".into()), "{name}");
        }
        assert_eq!(as_queue(|| text("SELECT current_setting('enable_seqscan')")), "off");
        assert_eq!(
            (who(), current_user(), text("SELECT current_setting('search_path') || current_setting('enable_seqscan')")),
            ("trojan_owner".into(), owner, "publicon".into())
        );
        assert_eq!(
            with_stable_output(|| (who(), text("SELECT current_setting('timezone')"))),
            ("trojan_owner".into(), "UTC".into())
        );
    }

    #[pg_test]
    fn rights_nest() {
        let superuser = who();
        let owner = trojan("RESET ROLE");
        as_owner(owner, PATH, || {
            // As the queue's statements in a trigger that fires in the owner's context.
            let inner = as_extension(|| {
                (who(), subtransaction(|| text("SELECT public.trojan()")).map_err(|caught| caught.sqlstate()))
            });
            assert_eq!(inner, (superuser.clone(), Err("42501".to_string())), "the restriction stays");
            assert_eq!(who(), "trojan_owner");
            assert_eq!(text("SELECT current_setting('search_path')"), format!("{PATH}, pg_temp"));
        });
        assert_eq!(who(), superuser);
    }

    /// A policy must never make a row look deleted.
    #[pg_test]
    fn rights_of_the_owner_raise_where_a_policy_would_hide_rows() {
        let owner = trojan("NULL");
        run(
            "CREATE TABLE hidden (id int PRIMARY KEY); INSERT INTO hidden VALUES (1); ALTER TABLE hidden OWNER TO trojan_owner; ALTER TABLE hidden ENABLE ROW LEVEL SECURITY; \
             CREATE POLICY none ON hidden USING (false)",
        );
        assert_eq!(as_owner(owner, PATH, || int("SELECT count(*) FROM public.hidden")), 1, "the owner is exempt");
        run("ALTER TABLE hidden FORCE ROW LEVEL SECURITY");
        assert_eq!(raised(|| as_owner(owner, PATH, || int("SELECT count(*) FROM public.hidden"))).sqlstate(), "42501");
    }

    /// A trigger that is put off until the commit runs as whoever commits: that must not be the worker.
    #[pg_test]
    fn rights_of_the_owner_are_not_left_by_putting_off_until_the_commit() {
        let owner = trojan("INSERT INTO public.bait VALUES (1)");
        run("SET LOCAL ROLE trojan_owner; CREATE TABLE seen (who text); CREATE TABLE bait (id int); \
             CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql SECURITY INVOKER AS $$ BEGIN INSERT INTO public.seen VALUES (current_user); RETURN NULL; END $$; \
             CREATE CONSTRAINT TRIGGER late AFTER INSERT ON bait DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION late(); RESET ROLE");
        // Whether it is refused or runs at once: what the commit finds is nothing of the owner's.
        let put_off = subtransaction(|| as_owner(owner, PATH, || text("SELECT public.trojan()")));
        run("SET CONSTRAINTS ALL IMMEDIATE");
        let ran_as: Option<String> = one("SELECT string_agg(DISTINCT who, ',') FROM seen");
        match put_off {
            Ok(_) => assert_eq!(ran_as.as_deref(), Some("trojan_owner")),
            Err(caught) => assert_eq!((caught.sqlstate().as_str(), ran_as), ("42501", None)),
        }
        // The trap is one: outside the owner's context it runs as somebody else.
        run("INSERT INTO bait VALUES (2); SET CONSTRAINTS ALL IMMEDIATE");
        assert!(yes("SELECT EXISTS (SELECT FROM seen WHERE who <> 'trojan_owner')"));
    }
}
