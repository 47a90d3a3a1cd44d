//! postgres_exporter itself with the queries of examples/grafana, run as docs/watching.md says: what it shows is what the views tell.

use crate::dashboard::{ODD, PAGE, QUERIES, expressions, metrics_of, queries, scene};
use autoembed_stub::Port;
use autoembed_tests::beside::{self, Beside};
use autoembed_tests::site::DATABASE;
use autoembed_tests::wait::seconds;
use autoembed_tests::{Db, Site, eventually};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr};

/// Above the longest `cache_seconds` of the queries: so long an answer may be an old one.
const FRESH: std::time::Duration = seconds(60);

/// A running exporter.
struct Exporter {
    program: Beside,
    address: String,
    /// Kept, so that nobody else has it.
    _port: Port,
}

/// One answer.
#[derive(Default)]
struct Scrape {
    /// Kinds by metric.
    kinds: HashMap<String, String>,
    /// Values by metric and labels, without `server`.
    values: BTreeMap<(String, Labels), f64>,
}

type Labels = BTreeMap<String, String>;

/// The commands of the page, each in one line.
fn commands() -> Vec<String> {
    let blocks = PAGE.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let commands = blocks.filter(|block| block.contains(" postgres_exporter "));
    commands.map(|block| block.replace("\\\n", " ").trim().to_owned()).collect()
}

impl Exporter {
    /// A command of the page, as it is written, but for the places.
    fn of_page(site: &Site, command: &str) -> Exporter {
        let (variable, arguments) = command.split_once(" postgres_exporter ").unwrap();
        let source = variable.strip_prefix("DATA_SOURCE_NAME=\"").and_then(|rest| rest.strip_suffix('"')).unwrap();
        assert!(source.contains("host=/run/postgresql") && source.contains("dbname=mydb"), "{source}");
        let source = source.replace("/run/postgresql", &site.cluster.socket_dir().display().to_string());
        Exporter::start(site, &source.replace("dbname=mydb", &format!("dbname={DATABASE}")), arguments)
    }

    fn start(site: &Site, source: &str, arguments: &str) -> Exporter {
        let port = Port::hold(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let address = port.address().to_string();
        let queries = site.cluster.file("postgres_exporter.yaml", QUERIES);
        let arguments = arguments
            .replace("=postgres_exporter.yaml", &format!("={}", queries.display()))
            .replace("127.0.0.1:9187", &address)
            .replace("mydb", DATABASE);
        assert!(arguments.contains(&address), "{arguments}");
        let arguments: Vec<&str> = arguments.split_whitespace().collect();
        let program = beside::program("prometheus-postgres-exporter");
        let program = site.cluster.beside(&program, &arguments, &[("DATA_SOURCE_NAME", source)]);
        let mut exporter = Exporter { program, address, _port: port };
        let address = exporter.address.clone();
        exporter.program.until("it answers", || get(&format!("http://{address}/")).map(drop));
        exporter
    }

    /// What it answers now; an error is one of the whole answer.
    fn scrape(&self) -> Result<Scrape, String> {
        get(&format!("http://{}/metrics", self.address)).map(|answer| Scrape::read(&answer))
    }
}

fn get(url: &str) -> Result<String, String> {
    let agent: ureq::Agent = ureq::Agent::config_builder().proxy(None).http_status_as_error(false).build().into();
    let mut answer = agent.get(url).call().map_err(|e| e.to_string())?;
    let body = answer.body_mut().read_to_string().map_err(|e| e.to_string())?;
    if answer.status() == 200 { Ok(body) } else { Err(format!("{}: {body}", answer.status())) }
}

impl Scrape {
    /// Reads the text format, and nothing but what is ours or about the exporter.
    fn read(answer: &str) -> Scrape {
        let mut scrape = Scrape::default();
        for line in answer.lines() {
            if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap();
                scrape.kinds.insert(name.to_owned(), kind.to_owned());
            } else if ["autoembed_", "pg_exporter_", "pg_up"].iter().any(|ours| line.starts_with(ours)) {
                let (series, value) = line.rsplit_once(' ').unwrap();
                let (name, labels) = series.split_once('{').unwrap_or((series, ""));
                let mut labels = labels_of(labels.strip_suffix('}').unwrap_or(labels));
                labels.remove("server");
                assert!(
                    scrape.values.insert((name.to_owned(), labels), value.parse().unwrap()).is_none(),
                    "{line} twice"
                );
            }
        }
        scrape
    }

    /// The one value of a metric, whatever its labels.
    fn one(&self, name: &str) -> f64 {
        let all: Vec<f64> = self.values.iter().filter(|((n, _), _)| n == name).map(|(_, value)| *value).collect();
        assert_eq!(all.len(), 1, "{name}");
        all[0]
    }

    /// The values of a label, over all metrics.
    fn label(&self, name: &str) -> HashSet<&str> {
        self.values.keys().filter_map(|(_, labels)| labels.get(name).map(String::as_str)).collect()
    }
}

/// `a="x",b="y"`, with escapes in the values.
fn labels_of(mut text: &str) -> Labels {
    let mut labels = Labels::new();
    while let Some((name, rest)) = text.trim_start_matches(',').split_once("=\"") {
        let (mut value, mut rest) = (String::new(), rest.chars());
        loop {
            match rest.next().expect("an end of the value") {
                '"' => break,
                '\\' => value.push(match rest.next() {
                    Some('n') => '\n',
                    other => other.expect("an escape is of two characters"),
                }),
                c => value.push(c),
            }
        }
        labels.insert(name.to_owned(), value);
        text = rest.as_str();
    }
    labels
}

/// What the queries give in `database`: metrics by name and labels, as the exporter is to show them.
fn told(db: &mut Db) -> BTreeMap<(String, Labels), f64> {
    let mut all = BTreeMap::new();
    for query in queries() {
        for row in db.rows(&format!("SELECT to_jsonb(q) FROM ({}) q", query.sql)) {
            let row: Value = serde_json::from_str(row[0].as_deref().unwrap()).unwrap();
            let labels: Labels = query.labels().map(|l| (l.to_owned(), row[l].as_str().unwrap().to_owned())).collect();
            for (metric, _) in query.metrics() {
                all.insert((format!("{}_{metric}", query.name), labels.clone()), row[metric].as_f64().unwrap());
            }
        }
    }
    all
}

/// Figures of the last minute, and ages, are others a moment later.
fn is_steady(metric: &str) -> bool {
    !metric.starts_with("autoembed_minute") && !metric.ends_with("_seconds")
}

#[test]
#[ignore = "needs postgres_exporter, which `make test` brings"]
fn each_metric_is_shown() {
    let (site, mut watcher) = scene();
    let one = &commands()[0];
    let exporter = Exporter::of_page(&site, one);
    let scrape = eventually("it shows what the views tell", FRESH, || {
        let scrape = exporter.scrape()?;
        let told = told(&mut watcher);
        for (series, value) in &told {
            let shown = scrape.values.get(series).ok_or_else(|| format!("{series:?} is not there"))?;
            if is_steady(&series.0) && shown != value {
                return Err(format!("{series:?} is {shown}, not {value}"));
            }
        }
        let shown = scrape.values.keys().filter(|(name, _)| name.starts_with("autoembed_"));
        let more: Vec<_> = shown.filter(|series| !told.contains_key(series)).collect();
        if more.is_empty() { Ok(scrape) } else { Err(format!("more than the views tell: {more:?}")) }
    });
    for query in queries() {
        for (metric, usage) in query.metrics() {
            let name = format!("{}_{metric}", query.name);
            assert_eq!(scrape.kinds.get(&name), Some(&usage.to_ascii_lowercase()), "{name}");
        }
    }
    // Ages and figures of a minute, too, are what they are.
    assert!(scrape.values.iter().all(|((name, _), value)| !name.starts_with("autoembed") || *value >= 0.0));
    assert!(scrape.one("autoembed_health_oldest_pending_seconds") > 0.0);
    assert_eq!(scrape.one("autoembed_failed_rows"), 1.0);
    assert_eq!(scrape.label("source"), HashSet::from(["messages", "pages", ODD]));
    for (name, wanted) in
        [("pg_up", 1.0), ("pg_exporter_last_scrape_error", 0.0), ("pg_exporter_user_queries_load_error", 0.0)]
    {
        assert_eq!(scrape.one(name), wanted, "{name}");
    }
    // The pictures, and the alarms of the page.
    let alarms: Vec<String> = alarms().collect();
    assert!(alarms.len() > 4, "{alarms:?}");
    for expression in expressions().iter().chain(&alarms) {
        for metric in metrics_of(expression) {
            // What failed a minute ago is not among the figures of the last minute any more.
            let is_over = metric.starts_with("autoembed_minute") && !scrape.kinds.contains_key(metric);
            if is_over {
                continue;
            }
            assert!(scrape.values.keys().any(|(name, _)| name == metric), "{metric} is not shown: {expression}");
            let changes = ["rate(", "increase("].iter().any(|f| expression.contains(f));
            assert_eq!(scrape.kinds[metric] == "counter", changes, "{expression}");
        }
        for word in expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|w| w.starts_with("pg_"))
        {
            assert!(scrape.values.keys().any(|(name, _)| name == word), "{word} is not shown: {expression}");
        }
    }
    assert!(!exporter.program.log().to_lowercase().contains("level=error"), "{}", exporter.program.log());
    site.stub.release();
}

/// The expressions in the page's table of alarms.
fn alarms() -> impl Iterator<Item = String> {
    let table = PAGE.split("| alarm | expression |").nth(1).expect("a table of alarms").split("\n\n").next().unwrap();
    table.lines().skip(2).map(|line| line.split('`').nth(1).expect("an expression").to_owned())
}

/// One exporter of several databases, by the page's other command.
#[test]
#[ignore = "needs postgres_exporter, which `make test` brings"]
fn several_databases() {
    let (mut site, _) = scene();
    site.db.run("CREATE DATABASE other");
    site.db.run("CREATE DATABASE without");
    let mut other = site.cluster.client("other");
    other.run(
        "CREATE EXTENSION autoembed CASCADE; CREATE TABLE notes (id int PRIMARY KEY, body text); GRANT SELECT ON notes TO watcher;
         SELECT autoembed.enable('notes', 'body')",
    );
    let commands = commands();
    assert_eq!(commands.len(), 2, "{commands:?}");
    let exporter = Exporter::of_page(&site, &commands[1].replace("otherdb", "other"));
    let scrape = eventually("both are there", FRESH, || {
        let scrape = exporter.scrape()?;
        if scrape.label("datname").len() == 2 { Ok(scrape) } else { Err(format!("{:?}", scrape.label("datname"))) }
    });
    assert_eq!(scrape.label("datname"), HashSet::from([DATABASE, "other"]));
    assert_eq!(scrape.label("source"), HashSet::from(["messages", "pages", ODD, "notes"]));
    assert_eq!(scrape.one("pg_exporter_last_scrape_error"), 0.0, "{}", exporter.program.log());
    site.stub.release();
}

/// What a role is told that has less than the page gives it.
#[test]
#[ignore = "needs postgres_exporter, which `make test` brings"]
fn a_role_with_fewer_rights() {
    let (mut site, _) = scene();
    site.db.run(
        "CREATE ROLE little LOGIN; GRANT SELECT ON messages, pages TO little;
         ALTER TABLE pages ENABLE ROW LEVEL SECURITY; CREATE POLICY half ON pages TO little USING (id < 100)",
    );
    let socket = site.cluster.socket_dir().display().to_string();
    let arguments = "--extend.query-path=postgres_exporter.yaml --web.listen-address=127.0.0.1:9187";
    let exporter =
        Exporter::start(&site, &format!("host={socket} user=little dbname={DATABASE} sslmode=disable"), arguments);
    let scrape = exporter.scrape().unwrap();
    // Nothing of a table that it may not read, nor of one from which a policy hides rows; nothing of what models cost.
    assert_eq!(scrape.label("source"), HashSet::from(["messages"]));
    assert!(!scrape.values.keys().any(|(name, _)| name.starts_with("autoembed_model")));
    assert_eq!(scrape.one("autoembed_health_failed"), 1.0);
    assert_eq!(scrape.one("pg_exporter_last_scrape_error"), 1.0);
    let log = exporter.program.log();
    assert!(log.contains("permission denied for view usage"), "{log}");
    site.stub.release();
}
