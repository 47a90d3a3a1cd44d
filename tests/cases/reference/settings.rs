//! Settings, options of models, and states.

use super::{assert_same, page};
use autoembed_tests::page::code;
use autoembed_tests::{Db, Site};
use std::collections::BTreeMap;

/// Name, default with its unit, bounds and context of each setting.
#[test]
fn settings() {
    let mut site = Site::new();
    let all = "SELECT name, boot_val, unit, context, min_val, max_val, array_to_string(enumvals, ', ') FROM pg_settings WHERE name LIKE 'autoembed.%'";
    let mut there = BTreeMap::new();
    for row in site.db.rows(all) {
        let [name, default, unit, context, least, most, values] = &row[..] else { unreachable!() };
        let unit = unit.as_deref().unwrap_or("");
        let in_unit = |value: &Option<String>| value.as_ref().map(|value| amount(&format!("{value} {unit}")));
        let bounds = in_unit(least).zip(in_unit(most)).map(|(least, most)| format!("{least} to {most}"));
        // A text without a default has the empty one.
        let default = match (&bounds, default.as_deref()) {
            (Some(_), Some(value)) => amount(&format!("{value} {unit}")),
            (_, value) => value.unwrap_or("").to_owned(),
        };
        let bounds = bounds.or_else(|| values.clone()).unwrap_or_default();
        there.insert(name.clone().unwrap(), format!("{default} | {bounds} | {}", context.as_deref().unwrap()));
    }
    let page = page();
    let table =
        page.table("settings", &["setting", "default", "bounds", "context", "meaning"]).expect("a table of settings");
    let mut on_page = BTreeMap::new();
    for row in &table.rows {
        let default = match row[1].as_str() {
            empty if empty == "empty" || empty.starts_with("empty:") => String::new(),
            quoted if quoted.starts_with('`') => quoted.trim_matches('`').to_owned(),
            number => amount(number),
        };
        let bounds = match row[2].split_once(" to ") {
            Some((least, most)) => format!("{} to {}", amount(least), amount(most)),
            // The form of a text is for people.
            None if default.is_empty() => String::new(),
            None => code(&row[2]).collect::<Vec<_>>().join(", "),
        };
        let name = code(&row[0]).next().unwrap();
        let names: Vec<String> = match name.contains("<provider>") {
            true => providers(&mut site.db).iter().map(|provider| name.replace("<provider>", provider)).collect(),
            false => vec![name.to_owned()],
        };
        if name.contains("<provider>") {
            let mut named: Vec<&str> = code(&row[4]).collect();
            named.sort_unstable();
            assert_eq!(named, providers(&mut site.db), "the providers of {name}");
        }
        for name in names {
            assert!(on_page.insert(name, format!("{default} | {bounds} | {}", row[3])).is_none(), "{row:?}: twice");
        }
    }
    assert_same("settings", &on_page, &there);
}

/// Those that make requests, by what the server says of a provider that there is not.
fn providers(db: &mut Db) -> Vec<String> {
    let error = db.error("SELECT autoembed.create_model('x', 'no such provider', 3)");
    let (_, list) = error.hint.split_once(": ").unwrap_or_else(|| panic!("no list of providers: {}", error.hint));
    let names = list.split('.').next().unwrap();
    let mut names: Vec<String> =
        names.split(", ").map(|name| name.trim().to_owned()).filter(|name| name != "local").collect();
    names.sort();
    assert!(names.len() >= 9, "{names:?}");
    names
}

/// A number with or without a unit, in the smallest unit: `1,000,000`, `10 s`, `5 min`.
fn amount(text: &str) -> String {
    let (number, unit) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
    let number: u64 = number.replace(',', "").parse().unwrap_or_else(|_| panic!("no number: {text}"));
    let factor = match unit {
        _ if number == 0 => return "0".to_owned(),
        "" => return number.to_string(),
        "ms" => 1,
        "s" => 1000,
        "min" => 60_000,
        "h" => 3_600_000,
        "day" | "days" => 86_400_000,
        // The bound is one of leap years.
        "years" => 366 * 86_400_000,
        other => panic!("no unit: {other}"),
    };
    format!("{} ms", number * factor)
}

/// The fields of `options`, for each provider: those that it names when it is given another.
#[test]
fn options() {
    let mut site = Site::new();
    let mut all = providers(&mut site.db);
    all.push("local".to_owned());
    let mut there: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for provider in &all {
        let sql = format!(
            "SELECT autoembed.create_model('x', '{provider}', 256, url => {}, options => '{{\"no such option\": 1}}')",
            if provider == "local" { "NULL" } else { "'http://127.0.0.1:9'" }
        );
        let error = site.db.error(&sql);
        let (_, list) =
            error.hint.split_once("Known options of this provider: ").unwrap_or_else(|| panic!("{error:?}"));
        for option in list.trim_end_matches('.').split(", ") {
            there.entry(option.to_owned()).or_default().push(provider.clone());
        }
    }
    let said = |providers: &[String]| {
        let mut providers = providers.to_vec();
        providers.sort();
        providers.join(", ")
    };
    let there: BTreeMap<String, String> = there.into_iter().map(|(option, of)| (option, said(&of))).collect();
    let page = page();
    let table = page.table("create_model", &["field", "for", "meaning"]).expect("a table of options");
    let mut on_page = BTreeMap::new();
    for row in &table.rows {
        let without_local: Vec<String> = all.iter().filter(|name| *name != "local").cloned().collect();
        let of: Vec<String> = match row[1].as_str() {
            "all" => all.clone(),
            "all but `local`" => without_local,
            _ => code(&row[1]).map(str::to_owned).collect(),
        };
        on_page.extend(code(&row[0]).map(|option| (option.to_owned(), said(&of))));
    }
    assert_same("options", &on_page, &there);
}
