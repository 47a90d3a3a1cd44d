//! Names of every kind, wherever a user gives one. `SEED=7 cargo test ... names` tries others.

use autoembed_tests::Site;
use autoembed_tests::db::literal;
use autoembed_tests::site::PATIENCE;
use std::collections::HashSet;
use std::time::Instant;

const CASES: usize = 100;
const NAME_BYTES: usize = 63;

/// What names are made of.
const PARTS: [&str; 44] = [
    "\"",
    "\"\"",
    "'",
    "''",
    "\\",
    "\\'",
    "$$",
    "$autoembed$",
    "$1",
    "%",
    "%s",
    "%I",
    " ",
    "  ",
    "\t",
    "\n",
    "\r\n",
    ".",
    ",",
    ";",
    "--",
    "/*",
    "*/",
    "(",
    ")",
    "[",
    "{",
    "}",
    ":",
    "::text",
    "?",
    "é",
    "ß",
    "İ",
    "漢字",
    "🙂",
    "👩\u{200d}👧",
    "e\u{301}",
    "\u{202e}",
    "\u{200b}",
    "\u{a0}",
    "a",
    "Z",
    "0",
];

/// Whole names: key words, the parameters of search functions, what the extension itself writes beside a table's names.
const WHOLE: [&str; 40] = [
    "select",
    "table",
    "user",
    "order",
    "null",
    "true",
    "all",
    "public_",
    "Select",
    "query",
    "k",
    "filter",
    "mode",
    "min_similarity",
    "similarity",
    "input",
    "found",
    "new",
    "old",
    "key",
    "same",
    "id",
    "source",
    "1st",
    "007",
    "autoembed",
    "autoembed_k",
    "autoembed_k1",
    "autoembed_l",
    "autoembed_w",
    "autoembed_o",
    "autoembed_v1",
    "autoembed_v2",
    "autoembed_s",
    "autoembed_i",
    "autoembed_d",
    "autoembed_e",
    "autoembed_new",
    "autoembed__k1",
    "embedding",
];

/// splitmix64.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).unwrap()
    }

    /// A name that is not yet in `taken`.
    fn name(&mut self, taken: &mut HashSet<String>) -> String {
        loop {
            let mut name = match self.below(10) {
                0..4 => WHOLE[self.below(WHOLE.len())].to_owned(),
                4..8 => (0..=self.below(6)).map(|_| PARTS[self.below(PARTS.len())]).collect(),
                _ => {
                    // As long as a name can be, and as the server cuts one that is longer.
                    let part = PARTS[self.below(PARTS.len())];
                    format!("{}{}", "x".repeat(self.below(4)), part.repeat(NAME_BYTES))
                }
            };
            while name.len() > NAME_BYTES {
                name.pop();
            }
            // The server keeps these for itself.
            let is_reserved =
                name.starts_with("pg_") || ["public", "none", "information_schema"].contains(&name.as_str());
            if !is_reserved && taken.insert(name.clone()) {
                return name;
            }
        }
    }
}

fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// One table with all its names.
#[derive(Debug)]
struct Case {
    role: String,
    schema: String,
    table: String,
    keys: Vec<String>,
    input: String,
    /// The input as it is given to enable().
    given: String,
    vector: String,
    tag: String,
    model: String,
}

impl Case {
    fn new(chance: &mut Chance, roles: &[String], models: &[String], schemas: &mut HashSet<String>) -> Case {
        let mut columns = HashSet::new();
        let mut name = || chance.name(&mut columns);
        let (input, vector, tag) = (name(), name(), name());
        let keys = (0..=chance.below(2)).map(|_| chance.name(&mut columns)).collect();
        let given = match chance.below(3) {
            0 => format!("{} || ''", quote(&input)),
            _ => quote(&input),
        };
        Case {
            role: roles[chance.below(roles.len())].clone(),
            schema: chance.name(schemas),
            table: chance.name(&mut HashSet::new()),
            keys,
            input,
            given,
            vector,
            tag,
            model: models[chance.below(models.len())].clone(),
        }
    }

    fn sql(&self) -> String {
        format!("{}.{}", quote(&self.schema), quote(&self.table))
    }

    fn act(&self, site: &mut Site, sql: &str) {
        site.db.run(&format!("SET ROLE {}; {sql}", quote(&self.role)));
        site.db.run("RESET ROLE");
    }

    fn settle(&self, site: &mut Site) -> usize {
        site.settle_within(&self.sql(), &quote(&self.input), &quote(&self.vector), PATIENCE)
    }

    /// The row with just this text is found, by its text and a filter, with the key that it has.
    fn search(&self, site: &mut Site, text: &str, number: usize) {
        let function = site.db.text(&format!(
            "SELECT format('%I.%I', n.nspname, p.proname) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN autoembed.vectorizer v
             ON COALESCE(pg_get_function_sqlbody(p.oid), p.prosrc) ~ format('autoembed[.](query_vector|search_rows)[(]%s,', v.id) WHERE v.source = {}::regclass",
            literal(&self.sql())
        ));
        let filter = format!(
            "jsonb_build_object({}, 'tag', {}, jsonb_build_array({number}))",
            literal(&self.tag),
            literal(&self.keys[0])
        );
        site.db.run(&format!("SET ROLE {}", quote(&self.role)));
        let found = site.db.rows(&format!("SELECT * FROM {function}({}, 3, 0.99, filter => {filter})", literal(text)));
        site.db.run("RESET ROLE");
        let found: Vec<_> = found.iter().map(|row| (row[0].clone(), row[self.keys.len()].clone())).collect();
        assert_eq!(found, [(Some(number.to_string()), Some(text.to_owned()))], "{self:?}");
    }
}

/// The same names each time, so that a failure means a change.
fn seed() -> u64 {
    std::env::var("SEED").ok().map_or(20_261_120, |seed| seed.parse().expect("SEED is a number"))
}

#[test]
fn names_of_every_kind() {
    let seed = seed();
    println!("SEED={seed}");
    let mut chance = Chance(seed);
    let start = Instant::now();
    let mut site = Site::new();
    let mut taken = HashSet::from(["postgres".to_owned()]);
    let roles: Vec<String> = (0..8).map(|_| chance.name(&mut taken)).collect();
    for role in &roles {
        site.db.run(&format!("CREATE ROLE {0} LOGIN; GRANT CREATE ON DATABASE app TO {0}", quote(role)));
    }
    let mut taken = HashSet::new();
    let models: Vec<String> = (0..5).map(|_| chance.name(&mut taken)).collect();
    for model in &models {
        site.create_model(model, "");
    }
    let mut schemas = HashSet::from(["autoembed".to_owned()]);
    let mut cases: Vec<Case> = (0..CASES).map(|_| Case::new(&mut chance, &roles, &models, &mut schemas)).collect();

    for (number, case) in cases.iter().enumerate() {
        let columns: String = case.keys.iter().map(|key| format!("{} int, ", quote(key))).collect();
        let keys = case.keys.iter().map(|key| quote(key)).collect::<Vec<_>>().join(", ");
        let mut sql = format!(
            "CREATE SCHEMA {}; CREATE TABLE {} ({columns} {} text, {} text DEFAULT 'tag', PRIMARY KEY ({keys})); ",
            quote(&case.schema),
            case.sql(),
            quote(&case.input),
            quote(&case.tag),
        );
        let insert = |sql: &mut String, row: usize| {
            let values = (0..case.keys.len()).map(|_| format!("{row}, ")).collect::<String>();
            *sql += &format!("INSERT INTO {} VALUES ({values} 'case {number} row {row}'); ", case.sql());
        };
        insert(&mut sql, 1);
        let clear = if number % 4 == 0 { ", on_change => 'clear'" } else { "" };
        let index = if number % 10 == 0 { "auto" } else { "none" };
        sql += &format!(
            "SELECT autoembed.enable({}, {}, model => {}, embedding => {}, index => '{index}'{clear}); ",
            literal(&case.sql()),
            literal(&case.given),
            literal(&case.model),
            literal(&case.vector),
        );
        insert(&mut sql, 2);
        case.act(&mut site, &sql);
    }
    println!("enabled after {:?}", start.elapsed());
    for (number, case) in cases.iter().enumerate() {
        assert_eq!(case.settle(&mut site), 2, "{case:?}");
        case.search(&mut site, &format!("case {number} row 2"), 2);
        let key = quote(&case.keys[0]);
        case.act(
            &mut site,
            &format!("UPDATE {} SET {} = 'case {number} again' WHERE {key} = 1", case.sql(), quote(&case.input)),
        );
    }
    println!("written and searched after {:?}", start.elapsed());
    for (number, case) in cases.iter_mut().enumerate() {
        case.settle(&mut site);
        // Every name is another one from now on. Expressions name columns as they were written.
        let mut columns: HashSet<String> =
            case.keys.iter().chain([&case.input, &case.vector, &case.tag]).cloned().collect();
        let old = case.sql();
        let mut rename = |name: &mut String| {
            let new = chance.name(&mut columns);
            let sql = format!("ALTER TABLE {old} RENAME {} TO {}; ", quote(name), quote(&new));
            *name = new;
            sql
        };
        let mut sql = rename(&mut case.vector) + &rename(&mut case.tag) + &rename(&mut case.keys[0]);
        if case.given == quote(&case.input) {
            sql += &rename(&mut case.input);
        }
        let table = chance.name(&mut HashSet::from([case.table.clone()]));
        let schema = chance.name(&mut schemas);
        sql += &format!("ALTER TABLE {old} RENAME TO {}; ", quote(&table));
        sql += &format!("ALTER SCHEMA {} RENAME TO {}; ", quote(&case.schema), quote(&schema));
        (case.table, case.schema) = (table, schema);
        sql += &format!(
            "UPDATE {} SET {} = 'case {number} renamed' WHERE {} = 1",
            case.sql(),
            quote(&case.input),
            quote(&case.keys[0])
        );
        case.act(&mut site, &sql);
    }
    for (number, case) in cases.iter().enumerate() {
        case.settle(&mut site);
        case.search(&mut site, &format!("case {number} renamed"), 1);
        let (table, vector) = (literal(&case.sql()), literal(&case.vector));
        case.act(
            &mut site,
            &format!(
                "UPDATE {} SET {} = NULL; SELECT autoembed.backfill({table}, {vector})",
                case.sql(),
                quote(&case.vector)
            ),
        );
    }
    for case in &cases {
        assert_eq!(case.settle(&mut site), 2, "{case:?}");
        let (table, vector) = (literal(&case.sql()), literal(&case.vector));
        case.act(&mut site, &format!("SELECT autoembed.disable({table}, {vector}, drop_column => true)"));
    }
    const LEFT: &str =
        "SELECT (SELECT count(*) FROM autoembed.vectorizer) + (SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal AND tgrelid <> 'autoembed.models'::regclass)
        + (SELECT count(*) FROM pg_proc WHERE COALESCE(pg_get_function_sqlbody(oid), prosrc) ~ 'autoembed[.](query_vector|search_rows)[(]')";
    assert_eq!(site.db.int(LEFT), 0, "something is left");
    assert_eq!(site.db.int("SELECT count(*) FROM autoembed.failed_jobs"), 0);
    println!("{CASES} cases in {:?}", start.elapsed());
}

#[test]
fn databases_of_every_name() {
    let seed = seed();
    println!("SEED={seed}");
    let mut chance = Chance(seed);
    let site = Site::new();
    let mut taken = HashSet::new();
    // A connection string may not hold what ends it.
    let names = std::iter::repeat_with(|| chance.name(&mut taken)).filter(|name| !name.contains(['\n', '\r'])).take(4);
    for name in names {
        site.cluster.client("postgres").run(&format!("CREATE DATABASE {}", quote(&name)));
        let mut db = site.cluster.client(&name);
        db.run("CREATE EXTENSION autoembed CASCADE");
        db.run("CREATE TABLE t (id int PRIMARY KEY, body text); SELECT autoembed.enable('t', 'body'); INSERT INTO t VALUES (1, 'hello world')");
        db.until("SELECT embedding IS NOT NULL FROM t", "t", PATIENCE);
        assert_eq!(db.text("SELECT database FROM autoembed.workers WHERE kind = 'worker'"), name);
        drop(db);
        site.cluster.client("postgres").run(&format!("DROP DATABASE {} WITH (FORCE)", quote(&name)));
    }
}
