//! Any primary key, any name.

use autoembed_stub::Fault;
use autoembed_tests::Site;
use autoembed_tests::db::literal;
use autoembed_tests::site::{self, PATIENCE};
use autoembed_tests::wait::seconds;
use std::time::Instant;

/// Rows before `enable` (the backfill's way) and after it (the trigger's way), for each type of key.
#[test]
fn keys_of_any_type() {
    let mut site = Site::new();
    let tables = [
        ("k_int", "id int PRIMARY KEY", "i"),
        ("k_big", "id bigint PRIMARY KEY", "i * 10000000000"),
        ("k_negative", "id smallint PRIMARY KEY", "-i"),
        ("k_uuid", "id uuid PRIMARY KEY", "md5(i::text)::uuid"),
        ("k_numeric", "id numeric PRIMARY KEY", "i + 0.10"),
        ("k_text", "id text PRIMARY KEY", "'it''s, a \"key\" \\ (' || i || ') é 漢 '"),
        ("k_blank", "id text PRIMARY KEY", "repeat(' ', i - 1)"),
        ("k_varchar", "id varchar(40) PRIMARY KEY", "'NULL ' || i"),
        ("k_char", "id char(8) PRIMARY KEY", "'key ' || i"),
        ("k_bit", "id bit(16) PRIMARY KEY", "i::bit(16)"),
        ("k_bytea", "id bytea PRIMARY KEY", "decode(lpad(to_hex(i), 8, '0'), 'hex')"),
        (
            "k_time",
            "id timestamptz PRIMARY KEY",
            "'2024-03-31 01:30:00+00'::timestamptz + i * interval '17 min 0.000123 s'",
        ),
        ("k_date", "id date PRIMARY KEY", "'2024-02-28'::date + i"),
        ("k_float", "id double precision PRIMARY KEY", "i / 3.0::float8"),
        ("k_inet", "id inet PRIMARY KEY", "'10.0.0.0'::inet + i"),
    ];
    for (table, key, value) in tables {
        let insert = |from: usize, to: usize| {
            format!(
                "INSERT INTO {table} (id, content) SELECT {value}, '{table} ' || i FROM generate_series({from}, {to}) i"
            )
        };
        site.db.run(&format!("CREATE TABLE {table} ({key}, content text)"));
        site.db.run(&insert(1, 6));
        site.enable(table, "content", "");
        site.db.run(&insert(7, 12));
    }
    for (table, _, _) in tables {
        assert_eq!(site.settle(table, "content"), 12, "{table}");
    }
    for (table, _, _) in tables {
        // The search function returns the key as it is in the table.
        let found = site.db.int(&format!(
            "SELECT count(*) FROM {table} t JOIN similar_{table}('{table} 3', 1) s USING (id) WHERE t.content = '{table} 3'"
        ));
        assert_eq!(found, 1, "{table}");
    }
    let filtered = "SELECT content FROM similar_k_char('a text', filter => '{\"id\": [\"key 5\"]}')";
    assert_eq!(site.db.column(filtered), ["k_char 5"]);
}

#[test]
fn composite_keys() {
    let mut site = Site::new();
    site.db.run("CREATE TABLE pages (site int, path text, lang text, content text, PRIMARY KEY (site, path, lang))");
    site.db.run(
        "CREATE FUNCTION odd(i int) RETURNS text LANGUAGE sql AS $$
         SELECT (ARRAY['', ' ', 'a,b', '\"q\"', '(p)', 'back\\slash', E'new\\nline', 'it''s', 'NULL', 'é 漢 🙂', '{a}', '\\\\', '\"'])[1 + i % 13] $$",
    );
    let insert = "INSERT INTO pages SELECT i, odd(i), odd(i + j), 'page ' || i || '/' || j FROM generate_series";
    site.db.run(&format!("{insert}(1, 13) i, generate_series(1, 13) j"));
    site.enable("pages", "content", "");
    site.db.run(&format!("{insert}(14, 26) i, generate_series(1, 13) j"));
    assert_eq!(site.settle("pages", "content"), 26 * 13);
    site.db.run("UPDATE pages SET content = content || ' edited' WHERE lang = 'back\\slash' OR path = '\"q\"'");
    site.settle("pages", "content");
    let row = site.db.rows("SELECT site, path, lang FROM similar_pages('page 4/2', 1)").remove(0);
    let expected = site.db.rows("SELECT site, path, lang FROM pages WHERE content = 'page 4/2'").remove(0);
    assert_eq!(row, expected);
}

/// The key's text must mean the same to the session that queues and to the worker that reads.
#[test]
fn a_key_does_not_depend_on_the_session() {
    let mut site = Site::builder().setting("datestyle", "SQL, DMY").setting("timezone", "Pacific/Chatham").start();
    site.db.run("CREATE TABLE events (at timestamptz, day date, span interval, x float8, content text, PRIMARY KEY (at, day, span, x))");
    site.enable("events", "content", "");
    for (n, session) in [
        "SET DateStyle = 'German'; SET TimeZone = 'America/St_Johns'",
        "SET DateStyle = 'Postgres, MDY'; SET TimeZone = 'Asia/Kathmandu'; SET extra_float_digits = -5",
        "SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'sql_standard'; SET TimeZone = 'Europe/Dublin'",
        "SET IntervalStyle = 'iso_8601'; SET bytea_output = 'escape'; SET extra_float_digits = 3",
        "SET lc_numeric = 'C'; SET search_path = ''; SET standard_conforming_strings = off",
    ]
    .iter()
    .enumerate()
    {
        let mut db = site.session();
        db.run(session);
        db.run(&format!(
            "INSERT INTO public.events SELECT '2024-10-27 00:59:59.987654+00'::timestamptz + i * interval '1 hour', \
             '2024-01-02'::date + i, i * interval '-1 day 02:03:04.5', i / 7.0::float8, 'event {n} ' || i \
             FROM generate_series({n} * 10 + 1, {n} * 10 + 10) i"
        ));
        db.run("UPDATE public.events SET content = content || '!' WHERE content LIKE '%5'");
    }
    assert_eq!(site.settle("events", "content"), 50);
}

/// A row that a session names by its key, as that session writes the key, is that row; what is queued is the key as triggers queue it.
#[test]
fn a_session_names_rows_as_it_writes_values() {
    let mut site = Site::new();
    site.db.run(
        "CREATE DOMAIN known_day AS date CHECK (VALUE > '2000-01-01');
         CREATE TABLE k_day (id date PRIMARY KEY, content text); CREATE TABLE k_time (id timestamptz PRIMARY KEY, content text);
         CREATE TABLE k_span (id interval PRIMARY KEY, content text); CREATE TABLE k_bytes (id bytea PRIMARY KEY, content text);
         CREATE TABLE k_char (id char(8) PRIMARY KEY, content text); CREATE TABLE k_number (id numeric PRIMARY KEY, content text);
         CREATE TABLE k_float (id float8 PRIMARY KEY, content text); CREATE TABLE k_domain (id known_day PRIMARY KEY, content text);
         CREATE TABLE k_days (id date[] PRIMARY KEY, content text); CREATE TABLE k_int (id bigint PRIMARY KEY, content text);
         CREATE TABLE k_uuid (id uuid PRIMARY KEY, content text); CREATE TABLE k_text (id text PRIMARY KEY, content text);
         CREATE TABLE k_two (day date, n int, content text, PRIMARY KEY (day, n))",
    );
    let day = "make_date(2024, 2 + i, 3)";
    let tables = [
        ("k_day", day),
        ("k_time", "'2024-07-01 10:00:00.25+00'::timestamptz + i * interval '1 hour'"),
        ("k_span", "i * interval '-1 day -02:03:04.5'"),
        ("k_bytes", "decode(lpad(to_hex(i), 8, '0'), 'hex')"),
        ("k_char", "'key ' || i"),
        ("k_number", "i + 0.50"),
        ("k_float", "i / 7.0::float8"),
        ("k_domain", day),
        ("k_days", "ARRAY[make_date(2024, 2 + i, 3)]"),
        ("k_int", "i"),
        ("k_uuid", "md5(i::text)::uuid"),
        ("k_text", "'a, (b) ' || i"),
        ("k_two", "make_date(2024, 2 + i, 3), i"),
    ];
    for (table, value) in tables {
        site.enable(table, "content", "index => 'none'");
        site.db.run(&format!("SELECT autoembed.pause('{table}'); INSERT INTO {table} SELECT {value}, '{table} ' || i FROM generate_series(1, 3) i"));
    }
    // The keys as triggers queue them.
    let queued = |site: &mut Site, table: &str| {
        site.db.column(&format!(
            "SELECT DISTINCT key FROM autoembed.job j JOIN autoembed.vectorizer v ON v.id = j.vectorizer_id WHERE v.source = '{table}'::regclass ORDER BY 1"
        ))
    };
    let by_triggers = tables.map(|(table, _)| queued(&mut site, table));
    for session in [
        "SET datestyle = 'German'; SET timezone = 'Europe/Berlin'",
        "SET datestyle = 'SQL, DMY'; SET timezone = 'Asia/Kathmandu'; SET bytea_output = 'escape'",
        "SET datestyle = 'Postgres, MDY'; SET timezone = 'UTC'; SET intervalstyle = 'sql_standard'; SET extra_float_digits = 3",
        "SET intervalstyle = 'iso_8601'; SET datestyle = 'ISO, DMY'; SET search_path = public",
    ] {
        site.db.run(&format!("RESET ALL; {session}"));
        site.db.run("DELETE FROM autoembed.job");
        for ((table, _), by_triggers) in tables.iter().zip(&by_triggers) {
            let key = if *table == "k_two" { "ROW(t.day, t.n)::text" } else { "t.id::text" };
            let states = format!("SELECT DISTINCT s.state FROM {table} t, autoembed.job_status('{table}', {key}) s");
            assert_eq!(site.db.column(&states), ["not_queued"], "{session}: {table}");
            site.db.run(&format!("SELECT autoembed.enqueue('{table}', (SELECT array_agg({key}) FROM {table} t))"));
            assert_eq!(queued(&mut site, table), *by_triggers, "{session}: {table}");
            assert_eq!(site.db.column(&states), ["waiting"], "{session}: {table}");
            // What a view shows as a key is one in every session.
            site.db.run(&format!("SELECT autoembed.enqueue('{table}', {})", array(by_triggers)));
            assert_eq!(queued(&mut site, table), *by_triggers, "{session}: {table}");
        }
    }
    site.db.run("RESET ALL; SET datestyle = 'German'");
    // The third of February, and no second of March.
    site.db.run("DELETE FROM autoembed.job; INSERT INTO k_day VALUES (make_date(2024, 2, 3), 'meant'), (make_date(2024, 3, 2), 'not meant')");
    site.db.run("DELETE FROM autoembed.job; SELECT autoembed.enqueue('k_day', ARRAY['03.02.2024'])");
    assert_eq!(queued(&mut site, "k_day"), ["2024-02-03"]);
    site.db.error("SELECT autoembed.enqueue('k_day', ARRAY['03.02.2024', '02.13.2024'])").assert("22P02", "02.13.2024");
    site.db.error("SELECT autoembed.enqueue('k_domain', ARRAY['03.02.1999'])").assert("22P02", "known_day");
    site.db
        .error("SELECT autoembed.enqueue('k_two', ARRAY['(03.02.2024)'])")
        .assert("22P02", "has 1 columns, expected 2");
    assert_eq!(queued(&mut site, "k_day"), ["2024-02-03"]);
    site.db.run("SELECT autoembed.resume('k_day')");
    site.db.until("SELECT count(embedding) FROM k_day WHERE content = 'meant'", "1", PATIENCE);
    assert_eq!(site.db.column("SELECT content FROM k_day WHERE embedding IS NOT NULL"), ["meant"]);
    site.db.run("SELECT autoembed.backfill('k_day')");
    site.settle("k_day", "content");
    assert_eq!(site.db.column("SELECT id FROM similar_k_day_to('03.02.2024', 1)").len(), 1);
}

/// An array of texts as SQL.
fn array(texts: &[String]) -> String {
    format!("ARRAY[{}]", texts.iter().map(|text| literal(text)).collect::<Vec<_>>().join(", "))
}

#[test]
fn g29_a_key_that_changes() {
    let mut site = Site::with_messages();
    site.db.run("CREATE TABLE tags (name text PRIMARY KEY, content text)");
    site.enable("tags", "content", "");
    site.db.run("INSERT INTO tags SELECT 'tag ' || i, 'content ' || i FROM generate_series(1, 20) i");
    site.settle("tags", "content");
    site.stub.hold();
    site.db.run("UPDATE tags SET content = content || ' new' WHERE name LIKE 'tag 1%'");
    site.wait_held(1);
    site.db.run("UPDATE tags SET name = 'renamed ' || name WHERE name LIKE 'tag 1%'");
    site.stub.release();
    assert_eq!(site.settle("tags", "content"), 20);
    // Two rows change places while their texts are edited.
    site.db.run(
        "BEGIN; UPDATE tags SET name = 'x' WHERE name = 'tag 2'; UPDATE tags SET name = 'tag 2', content = 'was 3' WHERE name = 'tag 3';
         UPDATE tags SET name = 'tag 3', content = 'was 2' WHERE name = 'x'; COMMIT",
    );
    site.settle("tags", "content");
}

#[test]
fn names_of_any_kind() {
    let mut site = Site::new();
    let longest = format!("t{}", "x".repeat(62));
    let umlauts = "ü".repeat(31);
    for schema in ["Odd Schema", "sch\"ema", "select"] {
        let quoted = format!("\"{}\"", schema.replace('"', "\"\""));
        site.db.run(&format!("CREATE SCHEMA {quoted}"));
        for (n, table) in ["Messages", "with space", "quo\"te", "semi;colon'", "table", "日本語", &longest, &umlauts]
            .iter()
            .enumerate()
        {
            let full = format!("{quoted}.\"{}\"", table.replace('"', "\"\""));
            let column = ["Content", "co\"l", "text", "a b", "$1", "ключ", &longest, "user"][n];
            let column = format!("\"{}\"", column.replace('"', "\"\""));
            site.db.run(&format!("CREATE TABLE {full} (\"Key \"\"1\" int, \"order\" text, {column} text, PRIMARY KEY (\"Key \"\"1\", \"order\"))"));
            site.db.run(&format!(
                "INSERT INTO {full} VALUES (1, 'o''1', '{schema} {n} a')",
                schema = schema.replace('"', "")
            ));
            site.enable(&full, &column, &format!("embedding => 'Embed \"{n}', search_function => 'Find \"{n}'"));
            site.db.run(&format!("INSERT INTO {full} VALUES (2, 'o''2', 'live {n}')"));
            site.settle_within(&full, &column, &format!("\"Embed \"\"{n}\""), PATIENCE);
            let found = site.db.int(&format!("SELECT \"Key \"\"1\" FROM {quoted}.\"Find \"\"{n}\"('live {n}', 1)"));
            assert_eq!(found, 2, "{full}");
        }
    }
    site.db.run("CREATE TABLE \"CamelCase\" (id int PRIMARY KEY, body text)");
    site.enable("\"CamelCase\"", "body", "");
    site.db.run("INSERT INTO \"CamelCase\" VALUES (1, 'one')");
    site.settle("\"CamelCase\"", "body");
    assert_eq!(site.db.int("SELECT id FROM \"similar_CamelCase\"('one', 1)"), 1);
}

/// What names are put together from: quotes of every kind, keywords, what has a meaning to SQL, to formats, to paths and to people.
const PIECES: [&str; 40] = [
    "a",
    "Z",
    "_",
    "1",
    "$1",
    "$$",
    "$autoembed$",
    "\"",
    "\"\"",
    "'",
    "''",
    "`",
    "\\",
    "\\'",
    "%",
    "%s",
    "%I",
    "{}",
    "{0}",
    "(",
    ")",
    ",",
    ".",
    ";",
    "--",
    "/*",
    "*/",
    " ",
    "\t",
    "\n",
    "\r\n",
    "::text",
    "é",
    "e\u{301}",
    "ß",
    "İ",
    "漢字",
    "🙂",
    "\u{202e}",
    "\u{feff}",
];

/// `count` names of at most 63 bytes, a third of them of just that many, and all different; the same for the same seed.
fn odd_names(mut seed: u64, count: usize) -> Vec<String> {
    let mut chance = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((seed >> 33) % below as u64) as usize
    };
    let mut names: Vec<String> = Vec::new();
    while names.len() < count {
        let is_long = chance(3) == 0;
        let mut name = String::new();
        for _ in 0..if is_long { 63 } else { 1 + chance(6) } {
            let piece = PIECES[chance(PIECES.len())];
            if name.len() + piece.len() <= 63 {
                name.push_str(piece);
            }
        }
        if is_long {
            name.push_str(&"x".repeat(63 - name.len()));
        }
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Generated names of tables, keys, columns and vectors, through enable, search, failed_jobs and status.
#[test]
fn names_that_were_made_up() {
    const SEED: u64 = 20_261_120;
    const COUNT: usize = 30;
    let mut site = Site::new();
    let quote = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let mut names = odd_names(SEED, 4 * COUNT - 40);
    assert!(names.iter().filter(|name| name.len() == 63).count() > 10, "long names are rare");
    // And words that mean something to SQL, and the names that the search functions have for themselves.
    names.extend(
        site.db.column("SELECT word FROM pg_get_keywords() WHERE catcode IN ('R', 'T') ORDER BY md5(word) LIMIT 34"),
    );
    names.extend(["query", "k", "min_similarity", "filter", "mode", "similarity"].map(str::to_owned));
    let tables: Vec<[&String; 4]> =
        (0..COUNT).map(|n| [0, 1, 2, 3].map(|part| &names[(n * 4 + part) * 37 % names.len()])).collect();
    site.fault(Fault::Poison("bad".to_owned()));
    for (n, [table, key, column, vector]) in tables.iter().enumerate() {
        println!("{table:?} ({key:?}, {column:?}, {vector:?})");
        let (full, text) = (quote(table), quote(column));
        site.db.run(&format!("CREATE TABLE {full} ({} text PRIMARY KEY, {text} text)", quote(key)));
        site.enable(&full, &text, &format!("embedding => {}", literal(vector)));
        site.db.run(&format!("INSERT INTO {full} VALUES ({}, 'text {n}'), ('bad', 'bad {n}')", literal(key)));
    }
    for (n, [table, key, column, vector]) in tables.iter().enumerate() {
        let (full, text) = (quote(table), quote(column));
        let of = format!("source = {}::regclass AND embedding = {}", literal(&full), literal(vector));
        let failed = format!("SELECT key FROM autoembed.failed_jobs WHERE {of}");
        site.db.until(&failed, "bad", PATIENCE);
        site.db.until(
            &format!("SELECT concat_ws(' ', state, failed, embedded) FROM autoembed.status WHERE {of}"),
            "active 1 1",
            PATIENCE,
        );
        let id = site.db.int(&format!("SELECT id FROM autoembed.status WHERE {of}"));
        let function =
            site.db.text(&format!("SELECT oid::regproc FROM pg_proc WHERE COALESCE(pg_get_function_sqlbody(oid), prosrc) LIKE '%search_rows({id},%'"));
        let found = site.db.rows(&format!("SELECT * FROM {function}('text {n}', 1)")).remove(0);
        assert_eq!(found[..2], [Some((*key).clone()), Some(format!("text {n}"))], "{table:?}");
        let filter = format!("jsonb_build_object({}, {})", literal(key), literal(key));
        let found = site.db.column(&format!("SELECT count(*) FROM {function}('text {n}', 5, filter => {filter})"));
        assert_eq!(found, ["1"], "{table:?}");
        site.db.run(&format!("UPDATE {full} SET {text} = 'mended {n}' WHERE {text} = 'bad {n}'"));
    }
    for [table, _, column, vector] in tables {
        assert_eq!(site.settle_within(&quote(table), &quote(column), &quote(vector), PATIENCE), 2);
        assert_eq!(site.failed(&quote(table)), 0, "{table:?}");
        site.db.run(&format!("SELECT autoembed.disable({}, {}, true)", literal(&quote(table)), literal(vector)));
    }
}

#[test]
fn a_hundred_thousand_rows_that_were_there_before() {
    let (mut db, _cluster) = site::bare();
    db.run(
        "CREATE TABLE notes (id bigint PRIMARY KEY, body text);
         INSERT INTO notes SELECT i, 'note ' || i || ' about ' || (ARRAY['rivers','money','bread','trains','sleep'])[1 + i % 5] FROM generate_series(1, 100000) i",
    );
    let start = Instant::now();
    db.run("SELECT autoembed.enable('notes', 'body', index => 'none')");
    let call = start.elapsed();
    assert!(call < seconds(2), "enable() took {call:?}: it must not walk the table");
    db.run("INSERT INTO notes VALUES (0, 'a live row in the middle of it')");
    let live = Instant::now();
    db.until("SELECT embedding IS NOT NULL FROM notes WHERE id = 0", "t", seconds(10));
    let live = live.elapsed();
    db.until("SELECT count(*) FROM notes WHERE embedding IS NULL", "0", seconds(120));
    let took = start.elapsed();
    println!(
        "100,000 rows: enable {call:?}, all embedded after {took:?} ({:.0} rows/s), a live row among them {live:?}",
        1e5 / took.as_secs_f64()
    );
    assert!(db.yes("SELECT autoembed.wait('notes', '30 s')"));
    let wrong = db.int("SELECT count(*) FROM (SELECT * FROM notes WHERE id % 997 = 0) n WHERE embedding <-> autoembed.embed(body) > 0.0001");
    assert_eq!(wrong, 0);
    assert_eq!(
        db.int("SELECT count(DISTINCT embedding::text) FROM notes WHERE id % 97 = 0"),
        db.int("SELECT count(DISTINCT body) FROM notes WHERE id % 97 = 0")
    );
}
