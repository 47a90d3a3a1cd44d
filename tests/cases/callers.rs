//! Searches as applications call them: through a pooler that gives each transaction another session, as calls of a server that makes an
//! API of a schema, and from views. What is found is each reader's own, and nothing is left behind in a session.

use autoembed_tests::site::{self, PATIENCE};
use autoembed_tests::{Cluster, Db};

const TEXTS: [&str; 6] = [
    "my parcel never arrived",
    "error E4711: the pump did not answer",
    "error E4712: the pump did not answer",
    "the soup was cold when it came to our table",
    "how do I reset my password?",
    "where is my package?",
];

/// `notes (id, who, body)`, the texts once for each of two users: ann's from 1 on, ben's from 11 on. The role `web` sees those of the user
/// that the request is from; `gate` may become `web`, and nothing else.
fn scene() -> (Db, Cluster) {
    let (mut db, cluster) = site::bare();
    db.run(
        "CREATE ROLE gate LOGIN NOINHERIT; CREATE ROLE web; GRANT web TO gate;
         CREATE TABLE notes (id int PRIMARY KEY, who text, body text); ALTER TABLE notes ENABLE ROW LEVEL SECURITY; GRANT SELECT ON notes TO web;
         CREATE POLICY own ON notes TO web USING (who = (current_setting('request.jwt.claims', true)::json) ->> 'sub');
         SELECT autoembed.enable('notes', 'body', text_search => 'english')",
    );
    for (who, first) in [("ann", 1), ("ben", 11)] {
        for (id, text) in (first..).zip(TEXTS) {
            db.run(&format!("INSERT INTO notes VALUES ({id}, '{who}', '{text}')"));
        }
    }
    assert!(db.yes("SELECT autoembed.wait('notes', '30 s')"));
    db.until("SELECT count(embedding) FROM notes", "12", PATIENCE);
    (db, cluster)
}

/// One request: a transaction, the role and the user for it alone, one statement with one parameter, JSON out.
fn request(db: &mut Db, who: &str, call: &str, body: &str) -> String {
    let mut transaction = db.transaction().unwrap();
    transaction.batch_execute("SET LOCAL ROLE web").unwrap();
    let claims = format!("{{\"sub\": \"{who}\"}}");
    transaction.query("SELECT set_config('request.jwt.claims', $1, true)", &[&claims]).unwrap();
    let answer: String = transaction.query_one(call, &[&body]).unwrap().get(0);
    transaction.commit().unwrap();
    answer
}

/// The ids in an answer, in their order.
fn ids(answer: &str) -> Vec<i32> {
    let numbers = answer.split("\"id\":").skip(1);
    numbers.map(|rest| rest.split([',', '}']).next().unwrap().trim().parse().unwrap()).collect()
}

/// Sessions as they were: what a search sets is over with it.
fn assert_nothing_is_left(db: &mut Db) {
    for (sql, wanted) in [
        ("SELECT current_user", "gate"),
        ("SELECT coalesce(current_setting('request.jwt.claims', true), '')", ""),
        ("SELECT current_setting('hnsw.iterative_scan')", "off"),
        ("SELECT current_setting('jit')", "on"),
        ("SELECT count(*) FROM pg_cursors", "0"),
        ("SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND relation = 'public.notes'::regclass", "0"),
        ("SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()", "0"),
    ] {
        assert_eq!(db.text(sql), wanted, "{sql}");
    }
}

#[test]
fn calls_of_an_api_and_of_a_pooler() {
    let (_db, cluster) = scene();
    // The arguments come as one JSON object, and the function stands beside it in the FROM clause, or is called with named arguments.
    const WITH_BODY: &str = "SELECT coalesce(json_agg(row_to_json(found)), '[]')::text
         FROM json_to_record($1::text::json) AS given (query text, k int, mode text, min_similarity real, filter jsonb),
              LATERAL public.similar_notes(query => given.query, k => given.k, mode => given.mode, min_similarity => given.min_similarity, filter => given.filter) AS found";
    const LIKE_ROW: &str = "SELECT coalesce(json_agg(row_to_json(found)), '[]')::text
         FROM json_to_record($1::text::json) AS given (id int, k int), LATERAL public.similar_notes_to(id => given.id, k => given.k) AS found";
    const NAMED: &str = "WITH found AS (SELECT * FROM public.similar_notes(query => $1, k => 3, mode => 'hybrid')) SELECT json_agg(found)::text FROM found";
    // Three sessions, each the next one's turn, and in each the users take turns as well.
    let mut pool: Vec<Db> = (0..3).map(|_| cluster.client_as("app", "gate")).collect();
    for round in 0..14 {
        let (who, first, other) = if round % 2 == 0 { ("ann", 1, 11) } else { ("ben", 11, 1) };
        let session = &mut pool[round % 3];
        let mut ask = |call: &str, body: &str| {
            let found = ids(&request(session, who, call, body));
            assert!(found.iter().all(|id| (first..first + 6).contains(id)), "{who}: {call} {body}: {found:?}");
            found
        };
        let found = ask(WITH_BODY, r#"{"query": "delivery problems", "k": 2, "mode": "semantic"}"#);
        assert!(found.len() == 2 && found.contains(&first), "{found:?}");
        assert_eq!(ask(WITH_BODY, r#"{"query": "what does E4712 mean", "k": 1, "mode": "hybrid"}"#), [first + 2]);
        assert_eq!(ask(NAMED, "what does E4712 mean")[0], first + 2);
        let filter = format!(
            r#"{{"query": "pump", "k": 9, "mode": "hybrid", "filter": {{"id": [{}, {}]}}}}"#,
            first + 1,
            other + 1
        );
        assert_eq!(ask(WITH_BODY, &filter), [first + 1]);
        assert_eq!(ask(LIKE_ROW, &format!(r#"{{"id": {}, "k": 1}}"#, first + 1)), [first + 2]);
        assert_eq!(ask(LIKE_ROW, &format!(r#"{{"id": {}, "k": 9}}"#, other + 1)), [0; 0]);
        assert_nothing_is_left(session);
    }
    assert_eq!(pool[0].error("SELECT * FROM similar_notes('pump')").code, "42501");
    assert_eq!(pool[0].error("SELECT * FROM similar_notes_to(1)").code, "42501");
}

/// Views over searches show each reader his own rows; a materialized view shows what its owner found.
#[test]
fn searches_in_views() {
    let (mut db, cluster) = scene();
    db.run(
        "CREATE ROLE writer; GRANT CREATE ON SCHEMA public TO writer; GRANT SELECT ON notes TO writer; CREATE POLICY all_rows ON notes TO writer USING (true); SET ROLE writer;
         CREATE VIEW about_pumps AS SELECT id, similarity FROM similar_notes('a broken pump', 2);
         CREATE VIEW code AS SELECT id FROM similar_notes('what does E4712 mean', 1, mode => 'hybrid');
         CREATE VIEW neighbours AS SELECT n.id AS of, s.id FROM notes n, LATERAL similar_notes_to(n.id, 1) s;
         CREATE VIEW neighbours_as_reader WITH (security_invoker) AS SELECT n.id AS of, s.id FROM notes n, LATERAL similar_notes_to(n.id, 1) s;
         CREATE MATERIALIZED VIEW pairs AS SELECT n.id AS of, s.id FROM notes n, LATERAL similar_notes_to(n.id, 1) s;
         GRANT SELECT ON about_pumps, code, neighbours, neighbours_as_reader, pairs TO web; RESET ROLE",
    );
    let mut gate = cluster.client_as("app", "gate");
    for _ in 0..7 {
        for (who, first) in [("ann", 1), ("ben", 11)] {
            gate.run(&format!("BEGIN; SET LOCAL ROLE web; SET LOCAL request.jwt.claims = '{{\"sub\": \"{who}\"}}'"));
            let mut found = gate.column("SELECT id FROM about_pumps");
            found.sort_by_key(|id| id.parse::<i32>().unwrap());
            assert_eq!(found, [first + 1, first + 2].map(|id| id.to_string()), "{who}");
            assert_eq!(gate.column("SELECT id FROM code"), [(first + 2).to_string()], "{who}");
            let own = format!("SELECT count(*) FROM # WHERE id BETWEEN {first} AND {}", first + 5);
            for (view, rows) in [("neighbours", 6), ("neighbours_as_reader", 6)] {
                assert_eq!(gate.int(&own.replace('#', view)), rows, "{who}: {view}");
                assert_eq!(gate.int(&format!("SELECT count(*) FROM {view}")), rows, "{who}: {view}");
            }
            assert_eq!(gate.int("SELECT count(*) FROM pairs"), 12);
            gate.run("COMMIT");
        }
    }
    db.run("INSERT INTO notes VALUES (21, 'ann', 'the soup was cold again')");
    assert!(db.yes("SELECT autoembed.wait('notes', '30 s')"));
    db.run("REFRESH MATERIALIZED VIEW pairs");
    assert_eq!(db.int("SELECT count(*) FROM pairs"), 13);
}
