//! Keys that would be seen wherever they show: in the words of servers that repeat them, however these write them, in logs,
//! views, tables, settings, errors and dumps.

use crate::doorman::{Doorman, refusing_proxy};
use autoembed_tests::db::{explain, literal};
use autoembed_tests::site::PATIENCE;
use autoembed_tests::{Db, Site, Stop};

const KEY: &str = "sk-Zyzzyva/7f3a91+Quagga_Okapi==";
const IN_ENVIRONMENT: &str = "sk-Axolotl/55c0de+Numbat_Dugong==";
const PASSWORD: &str = "Pangolin-40d2/Tamarin+Kinkajou";
/// A word of each, long enough not to be there by chance.
const WORDS: [&str; 9] =
    ["zyzzyva", "quagga", "okapi==", "axolotl", "numbat", "dugong", "pangolin", "tamarin", "kinkajou"];

/// A way of writing, and its name.
type Way = (&'static str, fn(&str) -> String);

/// How servers write what they were sent.
const WAYS: [Way; 9] = [
    ("as it was", str::to_owned),
    ("in base64", base64),
    ("in hex", |text| text.bytes().map(|byte| format!("{byte:02x}")).collect()),
    ("as in a url", |text| {
        text.bytes()
            .map(
                |byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") },
            )
            .collect()
    }),
    ("in JSON twice", |text| serde_json::to_string(text).unwrap().replace('/', "\\/")),
    ("in HTML", |text| text.replace('+', "&#43;").replace('/', "&#x2F;").replace('=', "&#61;").replace('_', "&#95;")),
    ("in escapes", |text| text.bytes().map(|byte| format!("\\u{byte:04x}")).collect()),
    ("over lines", |text| {
        text.as_bytes().chunks(5).map(|part| format!("{}\n ", String::from_utf8_lossy(part))).collect()
    }),
    ("in capitals", str::to_uppercase),
];

/// Plain base64, since the tests need no more of it.
fn base64(text: &str) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let three = |bytes: &[u8]| {
        let at = |i: usize| u32::from(bytes.get(i).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        (0..=bytes.len()).map(move |i| char::from(LETTERS[(bits >> (18 - 6 * i)) as usize & 63])).collect::<String>()
    };
    text.as_bytes().chunks(3).map(three).collect()
}

/// What of the keys is in `text`.
fn shown(text: &str) -> Option<String> {
    let text: String = text.to_lowercase().chars().filter(|c| !c.is_whitespace() && *c != '\\').collect();
    let hex = |word: &str| word.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    let found = WORDS.iter().find(|word| {
        let mut forms = vec![(**word).to_owned(), hex(word)];
        for key in [KEY, IN_ENVIRONMENT, PASSWORD] {
            let Some(start) = key.to_lowercase().find(**word) else { continue };
            let word = &key[start..start + word.len()];
            forms.push(hex(word));
            for (before, skipped) in [("", 0), ("x", 2), ("xx", 3)] {
                let encoded = base64(&format!("{before}{word}")).to_lowercase();
                forms.push(encoded[skipped..encoded.len() - 1].to_owned());
            }
        }
        forms.iter().any(|form| text.contains(form))
    });
    found.map(|word| {
        let at = text.find(*word).unwrap_or(0);
        format!("{word}: ...{}", text.chars().skip(at.saturating_sub(60)).take(200).collect::<String>())
    })
}

fn hides(what: &str, text: &str) {
    assert_eq!(shown(text), None, "{what}");
}

/// The answer or the error, whole.
fn said(db: &mut Db, sql: &str) -> String {
    db.try_rows(sql).map_or_else(|error| explain(&error), |rows| format!("{rows:?}"))
}

/// Everything that can be looked at from within and from beside the server.
fn look_everywhere(site: &mut Site) {
    let mut relations = site.db.column(
        "SELECT c.oid::regclass::text FROM pg_class c WHERE c.relnamespace = 'autoembed'::regnamespace AND c.relkind IN ('r', 'v')",
    );
    assert!(relations.len() > 10, "{relations:?}");
    relations.extend(
        ["pg_stat_activity", "pg_settings", "pg_file_settings", "pg_stat_statements", "pg_db_role_setting"]
            .map(str::to_owned),
    );
    for relation in relations {
        if site.db.yes(&format!("SELECT to_regclass('{relation}') IS NULL")) {
            continue;
        }
        let text = site.db.maybe(&format!("SELECT string_agg(x::text, ' ') FROM {relation} x")).unwrap_or_default();
        hides(&relation, &text);
    }
    hides("SHOW ALL", &format!("{:?}", site.db.rows("SHOW ALL")));
    for (tool, arguments) in [("pg_dump", &["-d", "app"][..]), ("pg_dumpall", &[])] {
        let output = site.cluster.tool(tool).args(arguments).output().unwrap();
        assert!(output.status.success() && output.stdout.len() > 1000, "{tool}: {output:?}");
        hides(tool, &String::from_utf8_lossy(&output.stdout));
    }
    let log = site.cluster.log();
    assert!(log.contains("autoembed.test_model"), "the log is not as full as it was meant to be");
    // The server itself writes its environment there when it starts (DEBUG3): docs/operations.md says so.
    // A line for each variable, from 18 on one message of many lines.
    let mut is_postmasters = false;
    for line in log.lines() {
        if !line.starts_with('\t') {
            is_postmasters = line.contains(" postmaster ");
        }
        if !(is_postmasters && line.contains("CANARY_KEY=")) {
            hides("the log", line);
        }
    }
}

/// A file that only the server's user can read; its statement in the log does not hold the words.
fn write(site: &mut Site, name: &str, secret: &str) -> String {
    let path = format!("{}/{name}", site.db.text("SHOW data_directory"));
    let parts: Vec<String> =
        secret.as_bytes().chunks(3).map(|part| format!("'{}'", String::from_utf8_lossy(part))).collect();
    let program = format!("umask 077; cat > /dev/null; printf '%s' {} > '{path}'", parts.join(" "));
    site.db.run(&format!("COPY (SELECT 1) TO PROGRAM {}", literal(&program)));
    path
}

#[test]
fn g37_a_canary_in_every_place() {
    let mut site = Site::builder()
        .setting("log_min_messages", "debug5")
        .setting("log_statement", "all")
        .setting("log_min_duration_statement", "0")
        .setting("log_parameter_max_length_on_error", "-1")
        .variable("CANARY_KEY", IN_ENVIRONMENT)
        .start();
    if site.db.yes("SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_stat_statements')") {
        site.db.run("CREATE EXTENSION pg_stat_statements");
        site.db.run("ALTER SYSTEM SET shared_preload_libraries = autoembed, pg_stat_statements");
        site.cluster.restart(Stop::Fast);
        site.reconnect();
    }
    let file = write(&mut site, "model.key", KEY);
    for (number, (way, say)) in WAYS.into_iter().enumerate() {
        // Keys are told from the head of a request by the header alone.
        let doorman = Doorman::saying("nobody's", site.dims, move |head| {
            let header = head.lines().find(|line| line.to_lowercase().starts_with("authorization")).unwrap_or_default();
            format!("no such key: {}, sorry", say(header))
        });
        for (from, key) in [
            ("file", format!("api_key_file => {}", literal(&file))),
            ("environment", "api_key_env => 'CANARY_KEY'".to_owned()),
        ] {
            let model = format!("{from} {number}");
            site.db.run(&format!(
                "SELECT autoembed.create_model('{model}', 'openai', dimensions => 16, model => 'm', url => {}, {key})",
                literal(&doorman.url())
            ));
            let table = format!("of_{from}_{number}");
            site.db.run(&format!(
                "CREATE TABLE {table} (id int PRIMARY KEY, body text); SELECT autoembed.enable('{table}', 'body', model => '{model}');
                 INSERT INTO {table} VALUES (1, 'one')"
            ));
            let id = site.status("id", &table);
            for call in [
                format!("SELECT * FROM autoembed.test_model('{model}')"),
                format!("SELECT autoembed.embed('a text', '{model}')"),
                format!("SELECT * FROM similar_{table}('a text')"),
                format!("SELECT autoembed.query_vector({id}, 'another text')"),
                format!("SELECT autoembed.embed_pending('{table}')"),
            ] {
                let answer = said(&mut site.db, &call);
                hides(&format!("{way}, {call}"), &answer);
            }
            let answer = said(&mut site.db, &format!("SELECT error FROM autoembed.test_model('{model}')"));
            assert!(answer.contains("no such key: ") && answer.contains("[redacted]"), "{way}: {answer}");
            let state = site.until_state(&table, "blocked: ");
            hides(way, &state);
        }
        let wanted = format!("Bearer {KEY}").to_lowercase();
        let heads = doorman.heads().concat().to_lowercase();
        assert!(
            heads.contains(&wanted) && heads.contains(&IN_ENVIRONMENT.to_lowercase()),
            "the keys were not sent: {heads}"
        );
    }
    look_everywhere(&mut site);
}

#[test]
fn g37_a_proxy_that_repeats_its_password() {
    let proxy = refusing_proxy();
    let mut site = Site::builder()
        .setting("log_min_messages", "debug5")
        .setting("log_statement", "all")
        .setting("autoembed.proxy", &format!("http://user@{proxy}"))
        .start();
    let (file, password) = (write(&mut site, "model.key", KEY), write(&mut site, "proxy.password", PASSWORD));
    site.db.run(&format!("ALTER SYSTEM SET autoembed.proxy_password_file = {}", literal(&password)));
    site.db.run("SELECT pg_reload_conf()");
    site.db.until("SELECT current_setting('autoembed.proxy_password_file')", &password, PATIENCE);
    for scheme in ["http", "https"] {
        site.db.run(&format!(
            "SELECT autoembed.create_model('{scheme}', 'openai', dimensions => 16, model => 'm', url => '{scheme}://api.example.com/v1', api_key_file => {})",
            literal(&file)
        ));
        for call in ["SELECT * FROM autoembed.test_model('$')", "SELECT autoembed.embed('a text', '$')"] {
            let answer = said(&mut site.db, &call.replace('$', scheme));
            println!("{answer}");
            hides(call, &answer);
        }
    }
    look_everywhere(&mut site);
}

/// What [`shown`] would find.
#[test]
fn canaries_sing() {
    for (way, say) in WAYS {
        for key in [KEY, IN_ENVIRONMENT] {
            for before in ["Bearer ", "x", "xy"] {
                // Escapes are told by what they are escapes of.
                let written = say(&format!("{before}{key}"));
                let found = shown(&written).is_some();
                assert!(found || ["in escapes", "as in a url"].contains(&way), "{way}: {written}");
            }
        }
    }
}
