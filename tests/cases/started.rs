//! docs/getting-started.md, and the README's first session, word for word: what is typed, and what is answered.

use crate::session::{exchanges, play};
use autoembed_stub::{Format, Stub, StubConfig, Vectors};
use autoembed_tests::Cluster;
use autoembed_tests::page::Page;
use autoembed_tests::site::PATIENCE;

/// A server with an empty database `app`.
fn server() -> Cluster {
    let cluster = Cluster::builder().preload(true).start();
    cluster.client("postgres").run("CREATE DATABASE app");
    cluster
}

#[test]
fn getting_started() {
    let page = Page::read("docs/getting-started.md", include_str!("../../docs/getting-started.md"));
    let typed = exchanges(&page, None);
    assert!(typed.len() >= 20, "{} statements", typed.len());
    // As many dimensions as are asked for, or Ollama's.
    let stub = Stub::start(StubConfig::vectors(Vectors::Hashed(768))).unwrap();
    let cluster = server();
    for exchange in &typed {
        play(&cluster, &page.path, exchange, &[]);
        let mut db = cluster.client("app");
        if exchange.typed.starts_with("CREATE EXTENSION") {
            for (provider, format) in [("openai", Format::OpenAi), ("ollama", Format::Ollama)] {
                let url = stub.url_for(format);
                db.run(&format!("UPDATE autoembed.models SET url = '{url}' WHERE provider = '{provider}'"));
            }
        }
        // What the page calls a moment.
        if let Some((_, model)) = exchange.typed.split_once("set_model('messages', ") {
            let model = model.split('\'').nth(1).unwrap();
            db.until("SELECT model FROM autoembed.status", model, PATIENCE);
            db.until("SELECT state FROM autoembed.status", "active", PATIENCE);
        }
    }
    let mut db = cluster.client("app");
    assert_eq!(db.int("SELECT vector_dims(embedding) FROM messages LIMIT 1"), 768);
    // The last page's words on how to be rid of it.
    let line = page.prose.iter().map(|(_, line)| line).find(|line| line.starts_with("- To be rid of it")).unwrap();
    for statement in autoembed_tests::page::code(line) {
        db.run(statement);
    }
    assert_eq!(
        db.column(
            "SELECT attname FROM pg_attribute WHERE attrelid = 'messages'::regclass AND attnum > 0 AND NOT attisdropped"
        ),
        ["id", "content"]
    );
    assert_eq!(db.int("SELECT count(*) FROM messages"), 5);
}

#[test]
fn the_first_session_of_the_readme() {
    let page = Page::read("README.md", include_str!("../../README.md"));
    let typed = exchanges(&page, Some("a-first-session"));
    assert!(typed.len() >= 6, "{} statements", typed.len());
    let cluster = server();
    cluster.client("app").run("CREATE EXTENSION autoembed CASCADE");
    for exchange in &typed {
        // Where the page leaves out an answer that tells nothing, it has none.
        if exchange.answer.is_empty() {
            cluster.client("app").run(&exchange.typed);
        } else {
            play(&cluster, &page.path, exchange, &[]);
        }
    }
}
