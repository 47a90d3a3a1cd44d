//! Sessions as pages show them, typed into psql; the answers must be those of the page.

use autoembed_tests::Cluster;
use autoembed_tests::page::Page;

/// What was typed, and what the page says is answered.
#[derive(Debug)]
pub struct Exchange {
    pub line: usize,
    pub typed: String,
    pub answer: String,
}

/// The sessions of a page, or of one of its sections, in their order: the exchanges of each block.
pub fn sessions(page: &Page, section: Option<&str>) -> Vec<Vec<Exchange>> {
    let blocks = page.blocks.iter().filter(|block| section.is_none_or(|section| block.section == section));
    let sessions = blocks.filter(|block| block.text.contains("app=# ")).map(|block| {
        let mut found: Vec<Exchange> = Vec::new();
        for (line, text) in (block.line + 1..).zip(block.text.lines()) {
            if let Some(typed) = text.strip_prefix("app=# ") {
                // A remark of the page's is no part of what is typed.
                let typed = typed.split("   -- ").next().unwrap_or_default().to_owned();
                found.push(Exchange { line, typed, answer: String::new() });
            } else if let Some(last) = found.last_mut() {
                match text.strip_prefix("app-# ") {
                    Some(typed) => last.typed = format!("{}\n{typed}", last.typed),
                    None => last.answer.push_str(&format!("{}\n", text.trim_end())),
                }
            }
        }
        found
    });
    sessions.collect()
}

/// Types a block into one psql, and compares the answers. Where the page leaves out all answers that tell nothing (`terse`), one that is not
/// there stands for any.
pub fn play(cluster: &Cluster, path: &str, session: &[Exchange], terse: bool) {
    const NEXT: &str = "-- the next one --";
    let mut psql = cluster.tool("psql");
    psql.args(["-X", "-d", "app", "-v", "ON_ERROR_STOP=1"]);
    for exchange in session {
        println!("{}", exchange.typed);
        psql.args(["-c", &exchange.typed, "-c", &format!("\\echo {NEXT}")]);
    }
    let output = psql.output().unwrap();
    let (printed, said) = (plain(&output.stdout), plain(&output.stderr));
    // What the server says besides is on another channel: it is compared as a whole.
    let is_said = |line: &&str| ["NOTICE:", "WARNING:", "HINT:", "DETAIL:"].iter().any(|word| line.starts_with(word));
    let wanted: Vec<&str> = session.iter().flat_map(|exchange| exchange.answer.lines()).filter(is_said).collect();
    assert_eq!(said.lines().collect::<Vec<_>>(), wanted, "{path}:{}", session[0].line);
    let answers: Vec<&str> = printed.split(&format!("{NEXT}\n")).collect();
    assert_eq!(answers.len(), session.len() + 1, "{printed}");
    for (exchange, answer) in session.iter().zip(answers) {
        let wanted: Vec<&str> = exchange.answer.trim_end().lines().filter(|line| !is_said(line)).collect();
        if !(terse && wanted.is_empty()) {
            let place = format!("{path}:{}: {}", exchange.line, exchange.typed);
            assert_eq!(answer.trim_end().lines().collect::<Vec<_>>(), wanted, "{place}");
        }
    }
}

/// Without blanks at the ends of lines.
fn plain(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).lines().map(|line| format!("{}\n", line.trim_end())).collect()
}
