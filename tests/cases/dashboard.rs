//! What there is for Grafana in examples/grafana: each query of it runs, by a role with the rights that the documentation names, and each
//! metric that a picture asks for is one that a query gives.

use autoembed_stub::Fault;
use autoembed_tests::site::PATIENCE;
use autoembed_tests::{Db, Site, eventually};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use yaml_rust2::{Yaml, YamlLoader};

pub(crate) const QUERIES: &str = include_str!("../../examples/grafana/postgres_exporter.yaml");
const OVER_PROMETHEUS: &str = include_str!("../../examples/grafana/autoembed-prometheus.json");
const OVER_POSTGRESQL: &str = include_str!("../../examples/grafana/autoembed-postgresql.json");
pub(crate) const PAGE: &str = include_str!("../../docs/watching.md");

/// One query of the exporter.
pub(crate) struct Query {
    pub(crate) name: String,
    pub(crate) sql: String,
    /// Columns with what they are used for.
    pub(crate) columns: Vec<(String, String)>,
}

impl Query {
    /// Columns that tell series apart.
    pub(crate) fn labels(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().filter(|(_, usage)| usage == "LABEL").map(|(column, _)| column.as_str())
    }

    /// Columns that are metrics, with their kind.
    pub(crate) fn metrics(&self) -> impl Iterator<Item = (&str, &str)> {
        self.columns
            .iter()
            .filter(|(_, usage)| usage != "LABEL")
            .map(|(column, usage)| (column.as_str(), usage.as_str()))
    }
}

pub(crate) fn queries() -> Vec<Query> {
    let file = YamlLoader::load_from_str(QUERIES).expect("it is YAML").remove(0);
    let all = file.into_hash().expect("queries by name");
    let text = |yaml: &Yaml| yaml.as_str().expect("a text").to_owned();
    all.into_iter()
        .map(|(name, query)| {
            assert!(query["cache_seconds"].as_i64().is_some_and(|s| (1..=60).contains(&s)), "{name:?}");
            let columns = query["metrics"].as_vec().expect("metrics").iter().map(|metric| {
                let (column, about) = metric.as_hash().and_then(|m| m.front()).expect("one column");
                assert!(!text(&about["description"]).is_empty(), "{column:?}");
                (text(column), text(&about["usage"]))
            });
            Query { name: text(&name), sql: text(&query["query"]), columns: columns.collect() }
        })
        .collect()
}

/// A name that wants quoting wherever it goes.
pub(crate) const ODD: &str = r#""Odd \ ""name""#;

/// A site where there is something of everything, and the role that the documentation makes.
pub(crate) fn scene() -> (Site, Db) {
    let mut site = Site::with_messages();
    site.fault(Fault::Poison("bad".to_owned()));
    site.db.run("INSERT INTO messages (content) VALUES ('good'), ('bad')");
    site.db.until("SELECT count(*) FROM autoembed.failed_jobs", "1", PATIENCE);
    site.db.until("SELECT count(embedding) FROM messages", "1", PATIENCE);
    site.stub.hold();
    site.db.run("SELECT autoembed.backfill('messages', force => true)");
    site.wait_held(1);
    // Another model, while the index of the old one's vectors is to be built still.
    site.db.run(&format!(
        "CREATE TABLE pages (id int PRIMARY KEY, body text); INSERT INTO pages SELECT i, 'page ' || i FROM generate_series(1, 10100) i; ANALYZE pages;
         CREATE TABLE {ODD} (id int PRIMARY KEY, body text)"
    ));
    site.create_model("next", "");
    site.enable("pages", "body", "");
    site.enable(ODD, "body", "");
    site.db.run("SELECT autoembed.set_model('pages', 'next')");
    let statements: Vec<&str> =
        sql_of(PAGE).filter(|sql| sql.contains("ROLE watcher") || sql.contains("GRANT")).collect();
    assert!(statements.len() == 1, "the page makes the role in one place: {statements:?}");
    site.db.run(&statements[0].replace("messages, documents", &format!("messages, pages, {ODD}")));
    let watcher = site.session_as("watcher");
    (site, watcher)
}

/// The blocks of SQL of a page.
fn sql_of(page: &'static str) -> impl Iterator<Item = &'static str> {
    page.split("```sql\n").skip(1).filter_map(|rest| rest.split("```").next())
}

#[test]
fn each_metric_is_there() {
    let (site, mut watcher) = scene();
    let mut names = HashSet::new();
    for query in queries() {
        assert!(names.insert(query.name.clone()), "{} is there twice", query.name);
        let rows = watcher.rows(&format!("SELECT to_jsonb(q) FROM ({}) q", query.sql));
        assert!(!rows.is_empty(), "{} gives nothing", query.name);
        for row in rows {
            let row: Value = serde_json::from_str(row[0].as_deref().unwrap()).unwrap();
            let row = row.as_object().unwrap();
            let (found, said): (HashSet<&String>, HashSet<&String>) =
                (row.keys().collect(), query.columns.iter().map(|(column, _)| column).collect());
            assert_eq!(found, said, "{}", query.name);
            for (column, usage) in &query.columns {
                match usage.as_str() {
                    "LABEL" => assert!(row[column].is_string(), "{}.{column}: {}", query.name, row[column]),
                    "GAUGE" | "COUNTER" => {
                        assert!(
                            row[column].as_f64().is_some_and(|n| n >= 0.0),
                            "{}.{column}: {}",
                            query.name,
                            row[column]
                        );
                        assert_eq!(column.ends_with("_total"), usage == "COUNTER", "{}.{column}", query.name);
                    }
                    other => panic!("{other} is no usage"),
                }
            }
            // Two series of the same labels would fail the whole scrape.
            let labels: Vec<String> = query.labels().map(|column| row[column].to_string()).collect();
            assert!(names.insert(format!("{} {labels:?}", query.name)), "{}: {labels:?} twice", query.name);
        }
    }
    let mut all = |name: &str, column: &str| {
        let sql = queries().into_iter().find(|q| q.name == name).unwrap().sql;
        watcher.column(&format!("SELECT {column} FROM ({sql}) q ORDER BY 1"))
    };
    let vectorizers = all("autoembed_vectorizer", "concat_ws(' ', source, embedded_total, failed)");
    assert_eq!(vectorizers, [&format!("{ODD} 0 0"), "messages 1 1", "pages 0 0"]);
    assert_eq!(all("autoembed_health", "healthy || ' ' || workers"), ["1 1"]);
    assert_eq!(all("autoembed_failed", "rows"), ["1"]);
    eventually("it tells of all that is under way", PATIENCE, || {
        let progress = all("autoembed_progress", "source || ' ' || kind");
        let wanted = ["messages backfill", "pages backfill", "pages index", "pages model change"];
        if progress == wanted { Ok(()) } else { Err(format!("{progress:?}")) }
    });
    site.stub.release();
}

/// All panels, after a look at what is true of every dashboard.
fn panels(json: &str) -> Vec<Value> {
    let board: Value = serde_json::from_str(json).expect("it is JSON");
    assert!(board["uid"].is_string() && board["title"].is_string() && board["schemaVersion"].is_u64());
    assert!(board.get("id").is_none_or(Value::is_null), "a number that another dashboard may have");
    let panels = board["panels"].as_array().expect("panels").clone();
    let ids: HashSet<u64> = panels.iter().map(|p| p["id"].as_u64().expect("an id")).collect();
    assert_eq!(ids.len(), panels.len(), "ids are given once");
    let mut taken = HashSet::new();
    for panel in &panels {
        let at = |side: &str| panel["gridPos"][side].as_u64().expect("a place");
        assert!(at("w") > 0 && at("h") > 0 && at("x") + at("w") <= 24, "{}", panel["title"]);
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(taken.insert((x, y)), "{} lies upon another", panel["title"]);
            }
        }
        if panel["type"] != "row" {
            let targets = panel["targets"].as_array().expect("targets");
            let refs: HashSet<&str> = targets.iter().filter_map(|t| t["refId"].as_str()).collect();
            assert!(!targets.is_empty() && refs.len() == targets.len(), "{}", panel["title"]);
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{}", panel["title"]);
        }
    }
    assert!(panels.len() > 15);
    panels
}

/// What the pictures over Prometheus ask for, and the lists to choose from.
pub(crate) fn expressions() -> Vec<String> {
    let board: Value = serde_json::from_str(OVER_PROMETHEUS).unwrap();
    let variables = board["templating"]["list"].as_array().unwrap().iter();
    let variables = variables.filter_map(|v| v["query"]["query"].as_str().map(str::to_owned));
    let targets =
        panels(OVER_PROMETHEUS).into_iter().flat_map(|p| p["targets"].as_array().cloned().unwrap_or_default());
    let targets = targets.map(|target| target["expr"].as_str().expect("PromQL").to_owned());
    targets.chain(variables).collect()
}

/// The extension's metrics in an expression.
pub(crate) fn metrics_of(expression: &str) -> Vec<&str> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("autoembed_")).collect()
}

#[test]
fn pictures_ask_for_metrics_that_there_are() {
    let given: HashMap<String, HashSet<String>> = queries()
        .iter()
        .flat_map(|q| {
            let labels: HashSet<String> = q.labels().map(str::to_owned).collect();
            q.metrics().map(move |(c, _)| (format!("{}_{c}", q.name), labels.clone())).collect::<Vec<_>>()
        })
        .collect();
    let mut used = HashSet::new();
    for expression in expressions() {
        let metrics = metrics_of(&expression);
        assert!(!metrics.is_empty(), "{expression}");
        for metric in metrics {
            let labels = given.get(metric).unwrap_or_else(|| panic!("no query gives {metric}: {expression}"));
            used.insert(metric.to_owned());
            // What it is filtered and grouped by.
            let filtered =
                expression.split('{').skip(1).filter_map(|part| part.split('}').next()).flat_map(|f| f.split(','));
            let filtered = filtered.filter_map(|f| f.split(['=', '!']).next());
            let grouped =
                expression.split("by (").skip(1).filter_map(|part| part.split(')').next()).flat_map(|f| f.split(','));
            for label in filtered.chain(grouped).map(str::trim) {
                assert!(labels.contains(label), "{metric} has no label {label}: {expression}");
            }
        }
        let is_counter = expression.contains("_total");
        assert_eq!(is_counter, expression.contains("rate("), "a counter has a rate, a gauge has none: {expression}");
    }
    assert!(used.len() >= 15, "{used:?}");
}

#[test]
fn pictures_over_the_views_run() {
    let (site, mut watcher) = scene();
    let mut full = 0;
    for panel in panels(OVER_POSTGRESQL) {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let sql = target["rawSql"].as_str().expect("SQL");
            // As Grafana puts them in.
            let sql = sql
                .replace("$__timeGroupAlias(at, $__interval, 0)", "$__timeGroupAlias(at, $__interval)")
                .replace("$__timeGroupAlias(at, $__interval, NULL)", "$__timeGroupAlias(at, $__interval)")
                .replace("$__timeGroupAlias(at, $__interval)", "floor(extract(epoch from at)/60)*60 AS \"time\"")
                .replace("$__timeFilter(at)", "at BETWEEN now() - interval '1 day' AND now()")
                .replace("$__interval_ms", "60000");
            assert!(!sql.contains("$__"), "{sql}");
            let rows = watcher.rows(&sql);
            let is_over_time = sql.contains("AS \"time\"");
            assert_eq!(is_over_time, target["format"] == "time_series", "{sql}");
            assert!(!is_over_time || sql.contains("ORDER BY 1"), "{sql}");
            full += usize::from(!rows.is_empty());
            println!("{}: {} rows", panel["title"], rows.len());
        }
    }
    assert!(full >= 15, "{full} of them have something to show");
    site.stub.release();
}
