//! SQLSTATEs and the codes of failures: those in the sources, and those on the page.

use super::page;
use autoembed_tests::page::code;
use autoembed_tests::{Db, Site};
use std::collections::BTreeSet;
use std::path::Path;

/// What users never meet, and why.
const INTERNAL: [(&str, &str); 4] = [
    ("ERRCODE_OUT_OF_MEMORY", "test builds raise it where a test wants an error"),
    ("ERRCODE_INTERNAL_ERROR", "likewise"),
    ("ERRCODE_QUERY_CANCELED", "the server raises it, and the sources look for it"),
    ("ERRCODE_T_R_SERIALIZATION_FAILURE", "the end of a change of model that was overtaken, which is tried again"),
];

/// What the server raises by itself where a call of the extension makes it.
const OF_THE_SERVER: [&str; 3] = ["42601", "42883", "42P06"];

/// The sources that a release is made of.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let (mut found, mut folders) = (Vec::new(), vec![root.join("src"), root.join("sql")]);
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path()) {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if !["tests", "fixtures", "examples", "released"].contains(&name.as_str()) {
                    folders.push(path);
                }
            } else if name.ends_with(".rs") && name != "tests.rs" || name.ends_with(".sql") {
                let text = std::fs::read_to_string(&path).unwrap();
                let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap().to_owned();
                found.push((path.display().to_string(), text));
            }
        }
    }
    assert!(found.len() > 100, "{} sources", found.len());
    found
}

/// The five characters of a condition, by its name in PL/pgSQL.
fn sqlstate(db: &mut Db, constant: &str) -> String {
    let name = constant.trim_start_matches("ERRCODE_").trim_start_matches("E_R_I_E_").trim_start_matches("T_R_");
    if name == "WARNING" {
        return "01000".to_owned();
    }
    let name = name.to_ascii_lowercase();
    let error = db.error(&format!("DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '{name}'; END $$"));
    assert_eq!(error.message, "x", "{name} is no condition");
    error.code
}

#[test]
fn sqlstates() {
    let mut site = Site::new();
    let mut used = BTreeSet::new();
    for (path, text) in sources() {
        for (at, _) in text.match_indices("ERRCODE") {
            let rest = &text[at..];
            let name = match rest.strip_prefix("ERRCODE = '") {
                Some(condition) => format!("ERRCODE_{}", condition.split('\'').next().unwrap().to_ascii_uppercase()),
                None => rest.chars().take_while(|c| c.is_ascii_uppercase() || *c == '_').collect(),
            };
            assert!(name.len() > 8, "{path}: {}", rest.lines().next().unwrap());
            used.insert(name);
        }
    }
    for (internal, why) in INTERNAL {
        assert!(used.remove(internal), "{internal} ({why}) is used no more");
    }
    let mut there: BTreeSet<String> = used.iter().map(|name| sqlstate(&mut site.db, name)).collect();
    there.extend(OF_THE_SERVER.map(str::to_owned));
    let page = page();
    let table = page.table("errors", &["SQLSTATE", "when", "what to do"]).expect("a table of errors");
    let on_page: BTreeSet<String> = table.rows.iter().flat_map(|row| row[0].split(", ")).map(str::to_owned).collect();
    assert_eq!(on_page, there);
}

/// What failures are called in `failed_jobs.code` and `requests.error_code`: each literal from which one is made.
fn codes_in_sources() -> BTreeSet<String> {
    const MAKERS: [&str; 9] = [
        "Failure::new(",
        "Failure::halt(",
        "Failure::bad_vectors(",
        "Self::new(",
        "Self::halt(",
        "try_again(",
        " retry(",
        ".halt(",
        ".of_text(",
    ];
    let mut found = BTreeSet::new();
    for (path, text) in sources() {
        let speaks_of_failures = text.contains("Failure");
        for maker in MAKERS.iter().filter(|_| speaks_of_failures) {
            for (at, _) in text.match_indices(maker) {
                found.extend(first_word(&text[at + maker.len()..]));
            }
        }
        if path.ends_with("error/meaning.rs") {
            for function in ["fn spent_account", "fn spent_period"] {
                let body = text.split(function).nth(1).and_then(|rest| rest.split("\n    }\n").next()).unwrap();
                let words = body.split('"').skip(1).step_by(2).filter(|word| is_code(word));
                found.extend(words.filter(|word| word.contains('_') || *word == "billing").map(str::to_owned));
            }
        }
    }
    found.insert("worker_died".to_owned());
    found
}

fn is_code(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
}

/// The first literal among the arguments that follow, where it is a code.
fn first_word(arguments: &str) -> Option<String> {
    let mut depth = 0;
    let end = arguments.char_indices().find_map(|(at, c)| {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        (depth < 0).then_some(at)
    })?;
    let word = arguments[..end].split('"').nth(1)?;
    is_code(word).then(|| word.to_owned())
}

#[test]
fn codes_of_failures() {
    let page = page();
    let table = page.table("codes-of-failures", &["code", "what failed"]).expect("a table of codes");
    let on_page: BTreeSet<String> = table.rows.iter().flat_map(|row| code(&row[0])).map(str::to_owned).collect();
    // A status and a SQLSTATE are no words of the extension's.
    let (open, words): (BTreeSet<String>, BTreeSet<String>) =
        on_page.into_iter().partition(|code| code.contains("..."));
    assert_eq!(open, BTreeSet::from(["http_...".to_owned()]));
    assert_eq!(words, codes_in_sources());
}
