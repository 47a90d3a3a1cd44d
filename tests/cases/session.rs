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

/// The exchanges of the sessions of a page, or of one of its sections, in their order.
pub fn exchanges(page: &Page, section: Option<&str>) -> Vec<Exchange> {
    let mut found: Vec<Exchange> = Vec::new();
    let blocks = page.blocks.iter().filter(|block| section.is_none_or(|section| block.section == section));
    for block in blocks.filter(|block| block.text.contains("app=# ")) {
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
    }
    found
}

/// Types it, after `swaps`, and compares the answer.
pub fn play(cluster: &Cluster, path: &str, exchange: &Exchange, swaps: &[(&str, &str)]) {
    let typed = swaps.iter().fold(exchange.typed.clone(), |typed, (from, to)| typed.replace(from, to));
    println!("{typed}");
    let output = cluster.tool("psql").args(["-X", "-d", "app", "-c", &typed]).output().unwrap();
    // What the server says besides comes first.
    let both = [output.stderr, output.stdout].concat();
    let answer: String = String::from_utf8_lossy(&both).lines().map(|line| format!("{}\n", line.trim_end())).collect();
    let place = format!("{path}:{}: {}", exchange.line, exchange.typed);
    assert_eq!(answer.trim_end(), exchange.answer.trim_end(), "{place}");
    assert_eq!(answer.is_empty(), exchange.answer.is_empty(), "{place}");
}
