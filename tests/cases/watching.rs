//! docs/watching.md and examples/watch.sql: each statement runs, by psql, and shows what it is said to show.

use autoembed_tests::Site;
use std::process::Output;

const PAGE: &str = include_str!("../../docs/watching.md");
const WATCH: &str = include_str!("../../examples/watch.sql");

/// What is looked at again and again is looked at once.
fn once(sql: &str) -> String {
    assert!(sql.matches("\\watch").count() <= 1, "{sql}");
    sql.replace("\\watch 1", "\\g").replace("\\watch 2", "\\g")
}

fn psql(site: &Site, arguments: &[&str]) -> Output {
    let mut psql = site.cluster.tool("psql");
    psql.args(["-X", "-v", "ON_ERROR_STOP=1", "-d", "app"]).args(arguments).output().unwrap()
}

fn run(site: &Site, sql: &str) -> String {
    let file = site.cluster.socket_dir().join("watching.sql");
    std::fs::write(&file, once(sql)).unwrap();
    let output = psql(site, &["-f", file.to_str().unwrap()]);
    assert!(output.status.success(), "{sql}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty(), "{sql}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// `messages` is being filled, `documents` is blocked.
fn scene() -> Site {
    let mut site = Site::with_messages();
    site.db.run("CREATE TABLE documents (id int PRIMARY KEY, body text)");
    site.enable("documents", "body", "");
    site.insert(1, 400);
    site.settle("messages", "content");
    site.stub.hold();
    site.db.run("SELECT autoembed.backfill('messages', force => true)");
    site.wait_held(1);
    site
}

#[test]
fn each_statement_of_the_page_runs() {
    let site = scene();
    let blocks: Vec<&str> = PAGE.split("```sql\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(blocks.len() >= 6, "{}", blocks.len());
    let all: Vec<String> = blocks.iter().map(|sql| run(&site, sql)).collect();
    assert!(all[0].contains("| backfill |") && all[0].contains('['), "{}", all[0]);
    assert!(all.iter().any(|said| said.contains("<!DOCTYPE html>")));
    // The heading that the page shows is the one that there is.
    let heading = all[0].lines().next().unwrap().split('|').map(str::trim).collect::<Vec<_>>();
    let shown = PAGE.lines().find(|line| line.starts_with(" source | embedding |")).unwrap();
    assert_eq!(shown.split('|').map(str::trim).collect::<Vec<_>>(), heading);
    site.stub.release();
}

#[test]
fn a_page_by_psql() {
    let site = scene();
    const COMMAND: &str = "psql -Atc \"SELECT autoembed.report()\" > report.html";
    assert!(PAGE.contains(COMMAND));
    let output = psql(&site, &["-Atc", COMMAND.split('"').nth(1).unwrap()]);
    let page = String::from_utf8(output.stdout).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.trim_end().ends_with("</html>"));
    assert!(page.contains("<h2>Under way</h2>"), "a backfill is under way");
    site.stub.release();
}

#[test]
fn the_example_shows_each_table_and_what_is_under_way() {
    let mut site = scene();
    let said = run(&site, WATCH);
    println!("{said}");
    let line = |said: &str, words: &str| said.lines().find(|line| line.contains(words)).map(str::to_owned);
    let messages = line(&said, "messages.embedding").expect("a line of messages");
    assert!(messages.contains("[ok]"), "{messages}");
    let heading = line(&said, "table  ").expect("a heading");
    assert!(heading.contains(" waiting ") && heading.contains("in hand") && heading.ends_with("rows/s"), "{heading}");
    assert_eq!(heading.len(), messages.len(), "figures stand below their names");
    let backfill = line(&said, "backfill messages").expect("a line of the backfill");
    assert!(backfill.contains('[') && backfill.ends_with(" %"), "{backfill}");
    let how_far = line(&said, " of about 400 rows").expect("how far it is");
    assert!(!how_far.contains("running"), "what goes on as it should needs no words: {how_far}");
    assert!(said.contains("\u{1b}[2J"), "it is drawn anew");
    site.db.run("ALTER TABLE documents DISABLE TRIGGER USER; INSERT INTO autoembed.job (vectorizer_id, lane, key) SELECT id, 0, '1' FROM autoembed.vectorizer WHERE source = 'documents'::regclass");
    site.until_state("documents", "blocked");
    // A name and a message that would clear the screen of whoever looks.
    site.db.run("CREATE TABLE U&\"evil\\001b[2J\\000atable\" (id int PRIMARY KEY, body text)");
    site.enable("\"evil\u{1b}[2J\ntable\"", "body", "");
    let said = run(&site, &format!("\\set clear ''\n{WATCH}"));
    assert!(said.lines().all(|line| line.len() <= 80) && !said.contains('\u{1b}'), "{said}");
    assert!(said.contains("evil?[2J?table"), "{said}");
    let documents = said.find("documents.embedding          [!!]").expect("somebody must look after documents");
    let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(documents < said.find("messages.embedding").unwrap() && words.contains("is disabled"), "{said}");
    site.stub.release();
}
