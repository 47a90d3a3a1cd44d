//! docs/getting-started.md, and the README's first session, word for word: what is typed, and what is answered.

use crate::session::{play, sessions};
use autoembed_stub::{Format, Stub, StubConfig, Vectors};
use autoembed_tests::Cluster;
use autoembed_tests::page::{Page, code};
use autoembed_tests::site::PATIENCE;

/// A server with an empty database `app`.
fn server(preload: bool) -> Cluster {
    let cluster = Cluster::builder().preload(preload).start();
    cluster.client("postgres").run("CREATE DATABASE app");
    cluster
}

fn getting_started(preload: bool) {
    let page = Page::read("docs/getting-started.md", include_str!("../../docs/getting-started.md"));
    let all = sessions(&page, None);
    assert!(all.iter().map(Vec::len).sum::<usize>() >= 20, "{all:#?}");
    // As many dimensions as are asked for, or Ollama's.
    let stub = Stub::start(StubConfig::vectors(Vectors::Hashed(768))).unwrap();
    let cluster = server(preload);
    for session in &all {
        play(&cluster, &page.path, session, false);
        let mut db = cluster.client("app");
        for exchange in session {
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
    }
    let mut db = cluster.client("app");
    assert_eq!(db.int("SELECT vector_dims(embedding) FROM messages LIMIT 1"), 768);
    // The page's last words: how to be rid of it.
    let line = page.prose.iter().map(|(_, line)| line).find(|line| line.starts_with("- To be rid of it")).unwrap();
    for statement in code(line) {
        db.run(statement);
    }
    let columns =
        "SELECT attname FROM pg_attribute WHERE attrelid = 'messages'::regclass AND attnum > 0 AND NOT attisdropped";
    assert_eq!(db.column(columns), ["id", "content"]);
    assert_eq!(db.int("SELECT count(*) FROM messages"), 5);
}

/// As on a server that nobody has restarted for it.
#[test]
fn in_five_minutes() {
    getting_started(false);
}

#[test]
fn in_five_minutes_where_it_is_preloaded() {
    getting_started(true);
}

#[test]
fn the_first_session_of_the_readme() {
    let page = Page::read("README.md", include_str!("../../README.md"));
    let all = sessions(&page, Some("a-first-session"));
    let [session] = &all[..] else { panic!("{all:#?}") };
    assert!(session.len() >= 6, "{session:#?}");
    let cluster = server(true);
    cluster.client("app").run("CREATE EXTENSION autoembed CASCADE");
    play(&cluster, &page.path, session, true);
}
