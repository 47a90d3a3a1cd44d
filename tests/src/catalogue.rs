//! What Postgres knows of the extension in a database, as text, and where two of them differ.

use crate::db::Db;
use std::collections::BTreeMap;

/// Objects by name, each with its properties.
#[derive(Clone, PartialEq, Eq)]
pub struct Catalogue(BTreeMap<String, BTreeMap<String, String>>);

/// The marker of an object that `catalogue.sql` cannot describe.
const UNKNOWN: &str = "of a kind that catalogue.sql does not know";

impl Catalogue {
    /// That of the session's database. Panics where the extension has an object of a kind that is not known here: it would not be
    /// compared.
    #[must_use]
    pub fn read(db: &mut Db) -> Catalogue {
        let path = db.text("SHOW search_path");
        // So that all names in definitions have their schema.
        db.run("SET search_path = pg_catalog");
        let rows = db.rows(include_str!("catalogue.sql"));
        db.run(&format!("SET search_path = {path}"));
        let mut all = BTreeMap::<String, BTreeMap<String, String>>::new();
        for row in rows {
            let [object, property, value]: [Option<String>; 3] = row.try_into().expect("three columns");
            let (object, property) = (object.unwrap_or_default(), property.unwrap_or_default());
            assert!(property != UNKNOWN, "{object} is {UNKNOWN}: teach it, or it is not compared");
            all.entry(object).or_default().insert(property, value.unwrap_or_else(|| "NULL".to_owned()));
        }
        Catalogue(all)
    }

    /// How many objects there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Where `other` differs, a line for each object that only one of them has and for each property that is another one.
    #[must_use]
    pub fn differences(&self, here: &str, other: &Catalogue, there: &str) -> Vec<String> {
        let mut lines = Vec::new();
        for (object, properties) in &self.0 {
            let Some(others) = other.0.get(object) else {
                lines.push(format!("{object}: only {here}"));
                continue;
            };
            let mut names: Vec<&String> = properties.keys().chain(others.keys()).collect();
            names.sort();
            names.dedup();
            for name in names {
                let (left, right) = (properties.get(name), others.get(name));
                if left != right {
                    lines.push(format!("{object}, {name}:\n  {here}: {}\n  {there}: {}", shown(left), shown(right)));
                }
            }
        }
        let only_there = other.0.keys().filter(|object| !self.0.contains_key(*object));
        lines.extend(only_there.map(|object| format!("{object}: only {there}")));
        lines
    }
}

fn shown(value: Option<&String>) -> &str {
    value.map_or("none", String::as_str)
}

/// Asserts that an updated extension is what a fresh one is.
pub fn assert_as_fresh(updated: &Catalogue, fresh: &Catalogue) {
    let lines = fresh.differences("fresh", updated, "updated");
    assert!(
        lines.is_empty(),
        "{} differences between a fresh extension and an updated one:\n{}",
        lines.len(),
        lines.join("\n")
    );
}
