//! Only trusted people choose where texts and keys go: an ordinary role, the owner of a table and the owner of the database try
//! each way.

use autoembed_tests::db::{explain, literal};
use autoembed_tests::{Db, Site, SqlError};

/// The settings that anybody may change: none of them moves a text or a key.
const FOR_EVERYBODY: [&str; 5] = [
    "autoembed.cache_size",
    "autoembed.cache_ttl",
    "autoembed.default_model",
    "autoembed.lane",
    "autoembed.query_timeout",
];

/// A value that is another than the default.
fn other_value(db: &mut Db, setting: &str) -> String {
    db.text(&format!(
        "SELECT CASE WHEN vartype = 'integer' THEN (setting::bigint + 1)::text WHEN vartype = 'enum' THEN 'backfill'
                     WHEN name LIKE '%proxy' THEN 'http://127.0.0.1:9' ELSE '/tmp/mine' END FROM pg_settings WHERE name = {}",
        literal(setting)
    ))
}

fn settings(site: &mut Site) -> Vec<(String, String)> {
    let names = site.db.column("SELECT name FROM pg_settings WHERE name LIKE 'autoembed.%' ORDER BY 1");
    assert!(names.len() > 20, "{names:?}");
    names.into_iter().map(|name| (other_value(&mut site.db, &name), name)).map(|(value, name)| (name, value)).collect()
}

#[test]
fn g39_no_setting_is_anybodys() {
    let mut site = Site::new();
    site.db.run("CREATE ROLE alice LOGIN; ALTER DATABASE app OWNER TO alice; GRANT pg_read_all_settings TO alice");
    let mut alice = site.session_as("alice");
    for (name, value) in settings(&mut site) {
        let (value, may) = (literal(&value), FOR_EVERYBODY.contains(&name.as_str()));
        for (call, may) in [
            (format!("SET {name} = {value}; RESET {name}"), may),
            (format!("BEGIN; SET LOCAL {name} = {value}; COMMIT"), may),
            (format!("SELECT set_config('{name}', {value}, true)"), may),
            (format!("ALTER ROLE alice SET {name} = {value}; ALTER ROLE alice RESET {name}"), may),
            (format!("ALTER DATABASE app SET {name} = {value}; ALTER DATABASE app RESET {name}"), may),
            (
                format!(
                    "CREATE OR REPLACE FUNCTION public.f() RETURNS int LANGUAGE sql SET {name} = {value} AS 'SELECT 1'; SELECT public.f()"
                ),
                may,
            ),
            (format!("ALTER SYSTEM SET {name} = {value}"), false),
            (format!("ALTER SYSTEM RESET {name}"), false),
            (format!("UPDATE pg_settings SET setting = {value} WHERE name = '{name}'"), may),
        ] {
            match (alice.try_rows(&call), may) {
                (Ok(_), true) => {}
                (Ok(_), false) => panic!("done: {call}"),
                (Err(error), _) => {
                    let code = SqlError::of(&error).unwrap().code;
                    assert!(!may && ["42501", "55P02"].contains(&code.as_str()), "{call}: {}", explain(&error));
                    alice.run("ROLLBACK");
                }
            }
        }
    }
}

/// Where the library is loaded only when it is first used, a session can name settings before: they are no more than names.
#[test]
fn g39_no_setting_is_anybodys_before_the_library_is_loaded() {
    let mut site = Site::builder().preload(false).start();
    site.db.run("CREATE ROLE alice LOGIN; GRANT pg_read_all_settings TO alice");
    for (name, value) in settings(&mut site) {
        let mut alice = site.session_as("alice");
        alice.run(&format!("SET {name} = {}", literal(&value)));
        assert_eq!(alice.text(&format!("SELECT current_setting('{name}')")), value);
        alice.run("SELECT autoembed.embed('what loads the library', 'builtin')");
        let now = alice.text(&format!("SELECT setting FROM pg_settings WHERE name = '{name}'"));
        let may = FOR_EVERYBODY.contains(&name.as_str());
        assert_eq!(now == value, may, "{name} is {now:?}, and was set to {value:?}");
    }
}

#[test]
fn g39_no_model_is_anybodys() {
    let mut site = Site::with_messages();
    site.db.run(
        "CREATE ROLE alice LOGIN; ALTER DATABASE app OWNER TO alice; GRANT CREATE ON SCHEMA public TO alice; ALTER TABLE messages OWNER TO alice;
         CREATE TABLE before AS TABLE autoembed.models",
    );
    let mut alice = site.session_as("alice");
    alice.run("CREATE FUNCTION t() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.url := 'http://127.0.0.1:9'; RETURN NEW; END $$");
    for call in [
        // The table, and all that hangs on it.
        "UPDATE autoembed.models SET url = 'http://127.0.0.1:9'",
        "UPDATE autoembed.models SET options = '{}' WHERE false",
        "DELETE FROM autoembed.models",
        "TRUNCATE autoembed.models CASCADE",
        "INSERT INTO autoembed.models (name, provider, dimensions) VALUES ('mine', 'openai', 3)",
        "COPY autoembed.models (name, provider, dimensions) FROM STDIN",
        "MERGE INTO autoembed.models m USING (VALUES ('stub')) v (n) ON m.name = v.n WHEN MATCHED THEN UPDATE SET url = 'http://127.0.0.1:9'",
        "CREATE TRIGGER t BEFORE INSERT ON autoembed.models FOR EACH ROW EXECUTE FUNCTION t()",
        "CREATE RULE r AS ON SELECT TO autoembed.models DO INSTEAD SELECT 1",
        "CREATE POLICY p ON autoembed.models USING (true)",
        "ALTER TABLE autoembed.models ALTER url SET DEFAULT 'http://127.0.0.1:9'",
        "ALTER TABLE autoembed.models OWNER TO alice",
        "CREATE TABLE public.child () INHERITS (autoembed.models)",
        "CREATE TABLE public.refers (m text REFERENCES autoembed.models ON UPDATE CASCADE)",
        "DO $$ BEGIN LOCK TABLE autoembed.models IN EXCLUSIVE MODE; END $$",
        "SELECT * FROM autoembed.models FOR UPDATE",
        // What the vectorizer is told.
        "UPDATE autoembed.vectorizer SET model = 'text-embedding-3-small'",
        "INSERT INTO autoembed.job (vectorizer_id, lane, key) VALUES (1, 0, '1')",
        // The schema and its functions.
        "CREATE TABLE autoembed.mine ()",
        "CREATE FUNCTION autoembed.create_model(text) RETURNS text LANGUAGE sql AS 'SELECT $1'",
        "CREATE OR REPLACE FUNCTION autoembed.embed(input text, model text DEFAULT NULL) RETURNS vector LANGUAGE sql AS 'SELECT NULL::vector'",
        "ALTER FUNCTION autoembed.embed(text, text) SET search_path = public",
        "ALTER SCHEMA autoembed RENAME TO other",
        "ALTER SCHEMA autoembed OWNER TO alice",
        "GRANT ALL ON SCHEMA autoembed TO alice",
        "GRANT ALL ON autoembed.models TO alice",
        "ALTER EXTENSION autoembed ADD FUNCTION public.t()",
        "ALTER EXTENSION autoembed UPDATE",
        "ALTER EXTENSION autoembed SET SCHEMA public",
        "DROP EXTENSION autoembed",
        "DROP SCHEMA autoembed CASCADE",
        "COMMENT ON TABLE autoembed.models IS 'mine'",
        "SECURITY LABEL ON TABLE autoembed.models IS 'mine'",
        "SELECT autoembed.create_model('mine', 'openai', 3, url => 'http://127.0.0.1:9')",
        "SELECT autoembed.drop_model('stub')",
        "SELECT * FROM autoembed.test_model('stub')",
        // enable() takes the name of a model, and nothing that could say more of it.
        "SELECT autoembed.enable('messages', 'note', model => 'http://127.0.0.1:9', embedding => 'other')",
        "SELECT autoembed.enable('messages', 'note', model => 'stub', embedding => 'other', url => 'http://127.0.0.1:9')",
        "SELECT autoembed.enable('messages', 'note', model => 'stub', embedding => 'other', options => '{}')",
    ] {
        match alice.try_rows(call) {
            // A GRANT of what one has not is a warning.
            Ok(_) => assert!(call.starts_with("GRANT "), "done: {call}"),
            Err(error) => {
                let code = SqlError::of(&error).unwrap_or_else(|| panic!("{call}: {error}")).code;
                assert!(
                    ["42501", "42704", "42883", "42809", "22023"].contains(&code.as_str()),
                    "{call}: {}",
                    explain(&error)
                );
            }
        }
    }
    assert_eq!(site.db.int("SELECT count(*) FROM (TABLE before EXCEPT TABLE autoembed.models) x"), 0);
    assert_eq!(site.db.int("SELECT count(*) FROM (TABLE autoembed.models EXCEPT TABLE before) x"), 0);
    // All the time the owner could do what is his.
    alice.run("SELECT autoembed.enable('messages', 'note', model => 'stub', embedding => 'other')");
}

/// A dump that an ordinary role restores brings its rows of models nowhere.
#[test]
fn g39_a_dump_restored_by_an_ordinary_role() {
    let mut site = Site::with_messages();
    site.db.run("CREATE ROLE alice LOGIN; ALTER TABLE messages OWNER TO alice; SELECT autoembed.create_model('evil', 'openai', 3, url => 'http://127.0.0.1:9')");
    let dump = site.cluster.tool("pg_dump").args(["-d", "app"]).output().unwrap();
    let dump = String::from_utf8(dump.stdout).unwrap();
    assert!(dump.contains("COPY autoembed.models") && dump.contains("evil"), "the dump holds no models");
    site.cluster.client("postgres").run("CREATE DATABASE other OWNER alice");
    let mut other = site.cluster.client("other");
    other.run("CREATE EXTENSION autoembed CASCADE");
    let file = site.cluster.socket_dir().join("dump.sql");
    std::fs::write(&file, dump).unwrap();
    let restored =
        site.cluster.tool("psql").args(["-X", "-U", "alice", "-d", "other", "-f"]).arg(&file).output().unwrap();
    let errors = String::from_utf8_lossy(&restored.stderr).into_owned();
    assert!(errors.contains("permission denied for table models"), "{errors}");
    assert_eq!(other.int("SELECT count(*) FROM autoembed.models WHERE NOT well_known"), 0);
    assert_eq!(other.int("SELECT count(*) FROM autoembed.vectorizer"), 0);
}
