//! Two tenants of one table under row security: through no function and no view does one see anything of the other.

use autoembed_stub::Fault;
use autoembed_tests::db::explain;
use autoembed_tests::site::PATIENCE;
use autoembed_tests::{Db, Site};

/// In every text and key of red's.
const SECRET: &str = "zanzibar";

/// What blue calls, by the function's name; `$id` is the vectorizer's number. A function that is not here fails the test.
const CALLS: [(&str, &[&str]); 38] = [
    ("backfill", &["backfill('notes')", "backfill('private')"]),
    ("clear_vector", &["clear_vector()"]),
    ("create_model", &["create_model('x', 'openai', 3)"]),
    ("disable", &["disable('notes')", "disable('private')"]),
    ("discard_failed", &["discard_failed('notes')", "discard_failed()"]),
    ("drop_model", &["drop_model('stub')"]),
    ("embed", &["embed('zanz', 'stub')", "embed('zanz')"]),
    ("embed_pending", &["embed_pending('notes')", "embed_pending()"]),
    ("enable", &["enable('notes', 'body')", "enable('notes', 'id || body', embedding => 'mine')"]),
    ("enqueue", &["enqueue('notes', ARRAY['1'])", "enqueue('notes')"]),
    ("estimate_cost", &["estimate_cost('notes')", "estimate_cost('private', 'builtin', input => 'body')"]),
    (
        "fused",
        &[
            "fused(0.5, 0.1, 0.7, ARRAY[3.0], ARRAY[0.6], 3, 4, 100)",
            "fused(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
        ],
    ),
    ("health", &["health()"]),
    ("index_builds", &["index_builds()"]),
    (
        "job_status",
        &[
            "job_status('notes', 'zanzibar 1')",
            "job_status('notes', 'zanzibar bad')",
            "job_status('notes', 'zanzibar last')",
            "job_status('notes', 'blue 1')",
            "job_status('private', 'zanzibar bad')",
        ],
    ),
    ("misfit", &["misfit()"]),
    ("notify", &["notify('notes')", "notify('private')"]),
    ("own_model", &["own_model()"]),
    ("pause", &["pause('notes')"]),
    ("query_vector", &["query_vector($id, 'zanz')", "query_vector($private, 'zanz')", "query_vector(-1, 'zanz')"]),
    ("queue_change", &["queue_change()"]),
    ("queue_counts", &["queue_counts()"]),
    ("reconcile", &["reconcile('notes')", "reconcile('private')"]),
    ("report", &["report()", "report('10 years')"]),
    ("resume", &["resume('notes')"]),
    ("retry_failed", &["retry_failed('notes')", "retry_failed()"]),
    (
        "row_search_statement",
        &[
            "row_search_statement($id, 5, NULL)",
            "row_search_statement($id, 5, '{\"tenant\": \"red\"}')",
            "row_search_statement($private, 5, NULL)",
        ],
    ),
    (
        "search_rows",
        &[
            "search_rows($id, 'zanz', 5, NULL, NULL, 'semantic') AS r (k text, b text, s real)",
            "search_rows($id, 'zanz', 5, NULL, '{\"tenant\": \"red\"}', 'semantic') AS r (k text, b text, s real)",
            "search_rows($id, 'zanz', 5, NULL, NULL, 'hybrid') AS r (k text, b text, s real)",
            "search_rows($private, 'zanz', 5, NULL, NULL, 'semantic') AS r (k text, b text, s real)",
        ],
    ),
    (
        "search_statement",
        &[
            "search_statement($id, 5, NULL, 'semantic')",
            "search_statement($id, 5, '{\"tenant\": \"red\"}', 'semantic')",
            "search_statement($id, 5, '{\"nothing\": 1}', 'semantic')",
            "search_statement($id, 5, NULL, 'hybrid')",
            "search_statement($private, 5, NULL, 'semantic')",
        ],
    ),
    ("sees_all_rows", &["sees_all_rows('notes')", "sees_all_rows('private')"]),
    ("session_usage", &["session_usage()"]),
    ("set_model", &["set_model('notes', 'builtin')", "set_model('private', 'stub')"]),
    ("stats", &["stats()", "stats('1 hour')"]),
    ("test_model", &["test_model('stub')"]),
    ("wait", &["wait('notes', '1 s')", "wait(timeout => '1 s')"]),
    ("word_information", &["word_information('zanz', 100, 5, NULL)", "word_information(NULL, NULL, NULL, NULL)"]),
    ("words_matched", &["words_matched(ARRAY[3.0], ARRAY[0.6], 10, 10)", "words_matched(NULL, NULL, NULL, NULL)"]),
    ("worker_activity", &["worker_activity()"]),
];

/// Searches, with all that can be asked of them.
const SEARCHES: [&str; 16] = [
    "SELECT * FROM similar_notes('zanz note', 50)",
    "SELECT count(*) FROM similar_notes('zanz note', NULL)",
    "SELECT * FROM similar_notes('zanz note', 50, -1)",
    "SELECT * FROM similar_notes('zanz note', 50, filter => '{\"tenant\": [\"red\", \"blue\"]}')",
    "SELECT * FROM similar_notes('zanz note', 50, filter => '{\"tenant\": \"red\"}')",
    "SELECT * FROM similar_notes('zanz note', 50, filter => '{\"number\": \"x\"}')",
    "SELECT * FROM similar_notes('zanz note', 50, filter => '{\"meta\": {\"of\": \"red\"}}')",
    "SELECT * FROM similar_notes('zanz note', 50, mode => 'hybrid')",
    "SELECT * FROM similar_notes('zanz note', 50, 0.0, filter => '{\"tenant\": \"red\"}', mode => 'hybrid')",
    "SELECT * FROM similar_private('zanz note', 50, mode => 'hybrid')",
    "SELECT * FROM similar_private('zanz note', 50)",
    "SELECT * FROM similar_notes_to('blue 1', 50)",
    "SELECT count(*) FROM similar_notes_to('blue 1', NULL, filter => '{\"tenant\": [\"red\", \"blue\"]}')",
    "SELECT * FROM similar_notes_to('blue 1', 50, filter => '{\"tenant\": \"red\"}')",
    "SELECT * FROM similar_private_to('blue 1')",
    "SELECT id, body FROM notes ORDER BY embedding <=> autoembed.embed('zanz note', 'stub') LIMIT 50",
];

fn scene() -> Site {
    let mut site = Site::new();
    site.db.run(
        "CREATE ROLE keeper LOGIN; CREATE ROLE red LOGIN; CREATE ROLE blue LOGIN; CREATE ROLE app LOGIN NOINHERIT; GRANT red, blue TO app;
         GRANT CREATE ON SCHEMA public TO keeper, red, blue",
    );
    let mut keeper = site.session_as("keeper");
    keeper.run(
        "CREATE TABLE notes (id text PRIMARY KEY, tenant name DEFAULT current_user, number int, meta jsonb, body text);
         ALTER TABLE notes ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON notes USING (tenant = current_user);
         GRANT SELECT, INSERT, UPDATE, DELETE ON notes TO red, blue; SELECT autoembed.enable('notes', 'body', model => 'stub', text_search => 'simple')",
    );
    site.fault(Fault::Poison("poison".to_owned()));
    let (mut red, mut blue) = (site.session_as("red"), site.session_as("blue"));
    red.run(&format!(
        "INSERT INTO notes (id, number, meta, body) SELECT '{SECRET} ' || i, i, '{{\"of\": \"red\"}}', '{SECRET} note ' || i FROM generate_series(1, 7) i;
         INSERT INTO notes (id, body) VALUES ('{SECRET} bad', '{SECRET} poison');
         CREATE TABLE private (id text PRIMARY KEY, body text); SELECT autoembed.enable('private', 'body', model => 'stub');
         INSERT INTO private VALUES ('{SECRET}', '{SECRET} note'), ('{SECRET} bad', 'poison')"
    ));
    blue.run(
        "INSERT INTO notes (id, number, body) SELECT 'blue ' || i, i, 'zanz note ' || i FROM generate_series(1, 5) i",
    );
    site.db.until("SELECT count(*) FROM autoembed.failed_jobs", "2", PATIENCE);
    site.db.until(
        "SELECT (SELECT count(embedding) FROM notes) + (SELECT count(embedding) FROM private)",
        "13",
        PATIENCE,
    );
    // What stops a table quotes a row.
    keeper.run(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN RAISE insufficient_privilege USING MESSAGE = 'no vector for ' || NEW.id; END $$;
         CREATE TRIGGER refuse BEFORE UPDATE OF embedding ON notes FOR EACH ROW EXECUTE FUNCTION refuse()",
    );
    red.run(&format!("INSERT INTO notes (id, body) VALUES ('{SECRET} last', '{SECRET} note')"));
    let state = site.until_state("notes", "blocked: ");
    assert!(state.contains(SECRET), "the scene shows nothing worth hiding: {state}");
    site
}

/// The answer or the error, with everything that a client sees of it.
fn said(db: &mut Db, sql: &str) -> String {
    match db.try_rows(sql) {
        Ok(rows) => format!("{rows:?}"),
        Err(error) => format!("{} {:?}", explain(&error), error.as_db_error()),
    }
}

fn hides(db: &mut Db, sql: &str) -> String {
    let said = said(db, sql);
    assert!(!said.to_lowercase().contains(SECRET), "{sql}: {said}");
    said
}

/// A row of red's is as one that is not there: for blue, in answers, in errors and in plans.
fn like_a_row(db: &mut Db) {
    let foreign = format!("{SECRET} 1");
    for more in [
        "",
        ", 50",
        ", NULL",
        ", -1",
        ", 5, -1",
        ", filter => '{\"number\": \"x\"}'",
        ", filter => '{\"tenant\": \"red\"}'",
    ] {
        for around in [
            "SELECT * FROM #",
            "SELECT count(*), max(similarity) FROM #",
            // Pages that were read tell of rows, as they do of any table with policies: 18 counts them unasked.
            "EXPLAIN (ANALYZE, TIMING OFF, SUMMARY OFF, BUFFERS OFF) SELECT * FROM #",
        ] {
            let [seen, missing] = [foreign.as_str(), "nobody's"].map(|key| {
                let call = format!("similar_notes_to({}{more})", autoembed_tests::db::literal(key));
                said(db, &around.replace('#', &call)).replace(&call, "call")
            });
            assert_eq!(seen, missing, "{around} {more}");
        }
    }
}

#[test]
fn g36_every_function_and_every_view() {
    let mut site = scene();
    const FUNCTIONS: &str =
        "SELECT DISTINCT proname FROM pg_proc WHERE pronamespace = 'autoembed'::regnamespace ORDER BY 1";
    assert_eq!(
        site.db.column(FUNCTIONS),
        CALLS.map(|(name, _)| name),
        "each function of the schema is to be tried here"
    );
    const RELATIONS: &str = "SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'autoembed'::regnamespace AND relkind NOT IN ('i', 'c')";
    let relations = site.db.column(RELATIONS);
    assert!(relations.len() > 12, "{relations:?}");
    let (id, private) = (site.status("id", "notes"), site.status("id", "private"));
    // As superuser there is something to see, or the test would prove nothing.
    let seen: Vec<&String> = relations
        .iter()
        .filter(|relation| said(&mut site.db, &format!("SELECT x::text FROM {relation} x")).contains(SECRET))
        .collect();
    assert!(seen.len() >= 5, "{seen:?}");

    let everything = |db: &mut Db| {
        for relation in &relations {
            hides(db, &format!("SELECT x::text FROM {relation} x"));
        }
        for (view, rows) in [("failed_jobs", "0"), ("requests", "0"), ("progress", "0"), ("status", "1")] {
            assert_eq!(db.text(&format!("SELECT count(*) FROM autoembed.{view}")), rows, "{view}");
        }
        for (_, calls) in CALLS {
            for call in calls {
                hides(
                    db,
                    &format!("SELECT * FROM autoembed.{}", call.replace("$id", &id).replace("$private", &private)),
                );
            }
        }
        for search in SEARCHES {
            hides(db, search);
        }
        assert_eq!(db.rows(SEARCHES[0]).len(), 5);
        assert_eq!(db.int(SEARCHES[1]), 5);
        assert_eq!(db.rows(SEARCHES[4]).len(), 0);
        assert_eq!(db.rows(SEARCHES[11]).len(), 4);
        assert_eq!(db.int(SEARCHES[12]), 4);
        assert_eq!(db.rows(SEARCHES[13]).len(), 0);
        like_a_row(db);
    };
    everything(&mut site.session_as("blue"));
    // A pooled session in which red has been at work.
    let mut app = site.session_as("app");
    for _ in 0..3 {
        app.run("SET ROLE red");
        for search in SEARCHES {
            said(&mut app, search);
        }
        assert!(said(&mut app, SEARCHES[0]).contains(SECRET));
        app.run("SET ROLE blue");
        everything(&mut app);
    }
    // Nothing of red's world was changed.
    assert_eq!(site.db.int("SELECT count(*) FROM autoembed.vectorizer WHERE NOT paused"), 2);
    assert_eq!(site.db.int("SELECT count(*) FROM autoembed.failed_jobs"), 2);
}

/// Statements that were planned for another role, and functions and views in between.
#[test]
fn g36_plans_and_wrappers() {
    let mut site = scene();
    let mut blue = site.session_as("blue");
    blue.run(
        "CREATE FUNCTION as_blue(query text) RETURNS SETOF text LANGUAGE sql SECURITY DEFINER AS $$ SELECT id FROM public.similar_notes(query, 50) $$;
         CREATE FUNCTION in_plpgsql(query text) RETURNS SETOF text LANGUAGE plpgsql AS
         $$ BEGIN RETURN QUERY SELECT s.id FROM public.similar_notes(query, 50) s; END $$",
    );
    let mut keeper = site.session_as("keeper");
    keeper.run(
        "CREATE VIEW found AS SELECT id FROM similar_notes('zanz note', 50); GRANT SELECT ON found TO red, blue;
         CREATE FUNCTION as_keeper(query text) RETURNS SETOF text LANGUAGE sql SECURITY DEFINER AS $$ SELECT id FROM public.similar_notes(query, 50) $$",
    );
    let mut app = site.session_as("app");
    app.run(
        "SET plan_cache_mode = force_generic_plan;
         PREPARE searched (text) AS SELECT id FROM similar_notes($1, 50);
         PREPARE plain (text) AS SELECT id FROM notes WHERE embedding IS NOT NULL ORDER BY embedding <=> autoembed.embed($1, 'stub') LIMIT 50",
    );
    for _ in 0..7 {
        for (role, rows) in [("red", 7), ("blue", 5)] {
            app.run(&format!("SET ROLE {role}"));
            for sql in [
                "EXECUTE searched ('zanz note')",
                "EXECUTE plain ('zanz note')",
                "SELECT * FROM in_plpgsql('zanz note')",
                "SELECT * FROM found",
            ] {
                let found = app.column(sql);
                assert_eq!(found.len(), rows, "{role}: {sql}");
                assert_eq!(found.iter().any(|id| id.contains(SECRET)), role == "red", "{role}: {sql}");
            }
            // As whom a function is defined, as him it searches: what that means is its owner's affair.
            assert_eq!(app.column("SELECT * FROM as_blue('zanz note')").len(), 5, "{role}");
            assert_eq!(app.column("SELECT * FROM as_keeper('zanz note')").len(), 12, "{role}");
        }
    }
    // Who may read no more is told so, whatever the session remembers.
    site.db.run("REVOKE SELECT ON notes FROM blue");
    for sql in [
        "EXECUTE searched ('zanz note')",
        "SELECT * FROM in_plpgsql('zanz note')",
        "SELECT * FROM as_blue('zanz note')",
    ] {
        assert_eq!(app.error(sql).code, "42501", "{sql}");
    }
}

/// The time of an answer tells nobody in the same session what another role has asked for.
#[test]
fn g36_what_is_remembered_is_remembered_by_role() {
    let site = scene();
    site.stub.clear();
    site.stub.reset_stats();
    let mut app = site.session_as("app");
    for (role, sent) in [("red", 1), ("red", 1), ("blue", 2), ("blue", 2), ("red", 2)] {
        app.run(&format!("SET ROLE {role}"));
        app.rows("SELECT * FROM similar_notes('what nobody else may know of', 5)");
        app.rows("SELECT autoembed.embed('what nobody else may know of', 'stub')");
        assert_eq!(site.inputs().iter().filter(|input| input.contains("nobody else")).count(), sent, "{role}");
    }
}
