//! Texts of all kinds go through unharmed: into the table, to the model, back as keys, through searches and filters.

use autoembed_tests::db::literal;
use autoembed_tests::site::PATIENCE;
use autoembed_tests::{Db, Site, vectors};

/// What a text can be. Each is sent as it is, and none is taken for another.
const TEXTS: [(&str, &str); 27] = [
    ("emoji", "great 😀👍"),
    ("emoji of several", "👩‍👩‍👧‍👦 family, 🏳️‍🌈 flag, 👋🏽 skin, 🇨🇭 letters"),
    ("hebrew", "החבילה שלי לא הגיעה"),
    ("arabic", "لم تصل طردي أبدا"),
    ("both ways", "the word \u{202e}reversed\u{202c} and \u{2067}חבילה\u{2069} in one line"),
    ("chinese", "我的包裹没有送到"),
    ("japanese", "荷物がまだ届いていません。ｶﾀｶﾅ"),
    ("korean", "소포가 도착하지 않았습니다"),
    ("thai", "พัสดุของฉันยังไม่มาถึง"),
    ("hindi", "मेरा पार्सल नहीं आया"),
    ("beyond the first plane", "𠮷野家 𝒳 𐍈"),
    ("composed", "Z\u{fc}rich caf\u{e9}"),
    ("decomposed", "Zu\u{308}rich cafe\u{301}"),
    ("many marks", "Z\u{351}\u{343}\u{30d}\u{316}\u{323}a\u{334}\u{321}\u{35c}l\u{322}\u{31b}g\u{321}o"),
    ("zero width", "pass\u{200b}word\u{200d}\u{feff}"),
    ("the same without", "password"),
    ("byte order mark", "\u{feff}begins with a mark"),
    ("control", "bell\u{7} escape\u{1b}[31m delete\u{7f} next\u{85} unit\u{1f}"),
    ("lines", "a\r\nb\tc\u{b}d\u{c}e\u{2028}f\u{2029}g"),
    ("no characters", "\u{fffe}\u{ffff}\u{10ffff}\u{fdd0}"),
    ("private", "\u{e000}\u{f8ff}\u{100000}"),
    ("replacement", "a\u{fffd}b"),
    ("quotes", "it's \"quoted\" \\ and \\u0041 \\' $1 %s {} \u{2019}"),
    ("like json", "{\"input\": [\"x\", null], \"a\": \"\\ud83d\\ude00\"}"),
    ("like sql", "'); DROP TABLE texts; --"),
    ("blanks around", "  in the middle\u{a0}\u{3000} "),
    ("a letter", "x"),
];

fn fill(db: &mut Db) {
    let rows: Vec<String> =
        TEXTS.iter().map(|(kind, text)| format!("({}, {})", literal(text), literal(kind))).collect();
    db.run(&format!("INSERT INTO texts (body, kind) VALUES {}", rows.join(", ")));
}

#[test]
fn every_text_arrives_as_it_is() {
    let mut site = Site::new();
    // The text is its own key, so it goes through the queue as well.
    site.db.run("CREATE TABLE texts (body text, kind text, PRIMARY KEY (body, kind)); CREATE TABLE alone (body text PRIMARY KEY)");
    site.enable("texts", "body", "");
    site.enable("alone", "body", "");
    fill(&mut site.db);
    site.db.run("INSERT INTO alone SELECT body FROM texts");
    assert_eq!(site.settle("texts", "body"), TEXTS.len());
    assert_eq!(site.settle("alone", "body"), TEXTS.len());
    let sent = site.inputs();
    for (kind, text) in TEXTS {
        assert!(sent.iter().any(|input| input == text), "{kind} was not sent as it is");
        // A search for it finds it first, and a filter by it finds it alone; its state is told by it.
        let query = literal(text);
        assert_eq!(site.db.text(&format!("SELECT kind FROM similar_texts({query}, 1)")), kind);
        let filter = literal(&serde_json::json!({ "body": text }).to_string());
        assert_eq!(site.db.column(&format!("SELECT kind FROM similar_texts('x', 100, filter => {filter})")), [kind]);
        assert_eq!(
            site.db.text(&format!("SELECT state FROM autoembed.job_status('alone', {query})")),
            "embedded",
            "{kind}"
        );
        let both = format!("SELECT state FROM autoembed.job_status('texts', ROW({query}, {})::text)", literal(kind));
        assert_eq!(site.db.text(&both), "embedded", "{kind}");
    }
    // What looks alike is not the same.
    for (left, right) in [("composed", "decomposed"), ("zero width", "the same without")] {
        let different = format!(
            "SELECT l.embedding <> r.embedding FROM texts l, texts r WHERE l.kind = '{left}' AND r.kind = '{right}'"
        );
        assert!(site.db.yes(&different), "{left} is taken for {right}");
    }
    // From one form to the other is a change.
    site.db.run("CREATE TABLE forms (id int PRIMARY KEY, body text)");
    site.enable("forms", "body", "");
    site.db.run("INSERT INTO forms SELECT 1, body FROM texts WHERE kind = 'composed'");
    site.settle("forms", "body");
    site.db.run("UPDATE forms SET body = normalize(body, NFD)");
    site.settle("forms", "body");
    assert_eq!(
        site.db.int("SELECT count(*) FROM forms WHERE body = (SELECT body FROM texts WHERE kind = 'decomposed')"),
        1
    );
    assert_eq!(site.db.int("SELECT autoembed.reconcile('texts')"), 0, "each text is known again");
    // Names of columns and values of a filter, too.
    site.db.run("CREATE TABLE \"таблица 表\" (\"ключ 🔑\" text PRIMARY KEY, \"текст\" text)");
    site.enable("\"таблица 表\"", "\"текст\"", "embedding => 'вектор'");
    site.db.run("INSERT INTO \"таблица 表\" VALUES ('ключ', 'привет')");
    vectors::until_all_vectors(&mut site.db, "\"таблица 表\"", "\"текст\"", "\"вектор\"", site.dims, PATIENCE);
    assert_eq!(
        site.db.text("SELECT \"ключ 🔑\" FROM \"similar_таблица 表\"('привет', filter => '{\"ключ 🔑\": \"ключ\"}')"),
        "ключ"
    );
}

/// The built-in model reads English; whatever else there is, it comes to an end and harms nothing beside it.
#[test]
fn the_builtin_model_takes_them_all_or_says_why_not() {
    let mut site = Site::new();
    site.db.run("CREATE TABLE texts (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text, kind text)");
    site.db.run("SELECT autoembed.enable('texts', 'body', model => 'builtin')");
    fill(&mut site.db);
    site.db.run("INSERT INTO texts (body, kind) VALUES ('Please water the plants on the balcony. 🌱', 'plants')");
    site.until_idle("texts");
    let states = site.db.column(
        "SELECT DISTINCT s.state || coalesce(' ' || s.code, '') FROM texts t, autoembed.job_status('texts', t.id::text) s ORDER BY 1",
    );
    assert_eq!(states, ["embedded", "failed unknown_words"]);
    assert!(site.db.int("SELECT count(embedding) FROM texts") > 15);
    assert_eq!(site.db.text("SELECT kind FROM similar_texts('gardening', 1) JOIN texts USING (id)"), "plants");
}

/// A megabyte of each: cut at a character, and counted.
#[test]
fn texts_of_a_megabyte() {
    let mut site = Site::new();
    site.db.run("CREATE TABLE long (id int PRIMARY KEY, body text)");
    site.enable("long", "body", "");
    let units = ["word ", "文字", "👩‍👩‍👧‍👦", "e\u{301}\u{323}", "سلام ", "x"];
    for (id, unit) in (1..).zip(units) {
        site.db.run(&format!("INSERT INTO long VALUES ({id}, repeat({}, {}))", literal(unit), 1_000_000 / unit.len()));
    }
    site.db.until("SELECT count(embedding) FROM long", &units.len().to_string(), PATIENCE);
    site.until_idle("long");
    assert_eq!(site.status("truncated", "long"), units.len().to_string());
    let sent = site.inputs();
    for unit in units {
        let whole = unit.repeat(1_000_000 / unit.len());
        assert!(
            sent.iter().any(|input| input.len() > 1000 && whole.starts_with(input.as_str())),
            "{unit:?} was cut wrongly"
        );
    }
    // A change at the very end, which the model does not see, is one nevertheless.
    site.stub.reset_stats();
    site.db.run("UPDATE long SET body = body || '!' WHERE id = 2");
    site.db.until("SELECT state FROM autoembed.job_status('long', '2')", "embedded", PATIENCE);
    assert_eq!(site.db.int("SELECT autoembed.reconcile('long')"), 0);
    site.db.run("SELECT autoembed.disable('long'); SELECT autoembed.enable('long', 'body', model => 'builtin', embedding => 'small')");
    site.until_idle("long");
    assert!(site.db.int("SELECT count(small) FROM long") >= 2);
    assert_eq!(site.db.int("SELECT count(small) FROM long") + site.failed("long"), units.len() as i64);
}

/// Where a session or the database speaks another encoding, the model is still spoken to in UTF-8.
#[test]
fn other_encodings() {
    let mut site = Site::new();
    site.db.run("CREATE TABLE texts (id int PRIMARY KEY, body text)");
    site.enable("texts", "body", "");
    // "Zürich" by a client that speaks LATIN1.
    let file = site.cluster.socket_dir().join("latin1.sql");
    std::fs::write(&file, b"SET client_encoding = 'LATIN1'; INSERT INTO texts VALUES (1, 'Z\xfcrich'); SELECT body FROM similar_texts('\xfcber', 1);").unwrap();
    let mut psql = site.cluster.tool("psql");
    assert!(psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "app", "-f"]).arg(&file).status().unwrap().success());
    site.settle("texts", "body");
    let sent = site.inputs();
    assert!(sent.contains(&"Zürich".to_owned()) && sent.contains(&"über".to_owned()), "{sent:?}");

    // A database of another encoding can hold no vectorizer, and says so; what it can do it does right.
    for (encoding, bytes, text) in [("LATIN1", "\\xfc626572", "über"), ("EUC_JP", "\\xc6fccbdc", "日本")] {
        let name = encoding.to_lowercase();
        site.db.run(&format!("CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0"));
        let mut db = site.cluster.client(&name);
        db.run("CREATE EXTENSION autoembed CASCADE; CREATE TABLE texts (id int PRIMARY KEY, body text)");
        db.run(&format!(
            "SELECT autoembed.create_model('stub', 'openai', dimensions => 16, model => 'stub-model', url => '{}')",
            site.stub.url()
        ));
        db.error("SELECT autoembed.enable('texts', 'body', model => 'stub')").assert("0A000", encoding);
        db.run(&format!("INSERT INTO texts SELECT 1, convert_from('{bytes}', '{encoding}')"));
        assert_eq!(db.text("SELECT body FROM texts"), text, "the harness speaks UTF-8");
        site.stub.reset_stats();
        let vector = db.text("SELECT autoembed.embed(body, 'stub') FROM texts");
        assert_eq!(site.inputs(), [text], "{encoding}");
        assert!(vectors::same(&vectors::parse(&vector), &autoembed_stub::hashed_vector(text, 16)));
        assert!(db.text("SELECT autoembed.embed('a river')").starts_with('['));
        assert!(db.yes("SELECT (autoembed.health() ->> 'healthy')::boolean"));
        for view in ["status", "progress", "failed_jobs", "requests", "stats()"] {
            assert!(db.rows(&format!("SELECT * FROM autoembed.{view}")).is_empty());
        }
    }
}
