//! Texts longer than the server takes: it refuses the whole request, and says how long one of them was.

use crate::scene::{Scene, alike};
use crate::server::{ask, shared};
use crate::texts::{of_words, varied};
use autoembed_tests::vectors;

/// Texts of many lengths that are too long, among others.
fn mixed() -> Vec<String> {
    let mut texts = varied(200);
    texts.extend((0..20).map(|n| of_words(600 + n * 100)));
    texts
}

#[test]
fn long_texts_are_cut_and_counted() {
    let (mut scene, url) = (Scene::new(), shared());
    scene.create_model("letters", &url, "");
    scene.enable("letters", &mixed());
    scene.settle("letters");
    let (requests, refused) = scene.requests("letters");
    println!("220 texts, 20 of them too long: {requests} requests, {refused} of them refused");
    assert!(refused > 0, "the server took texts of 600 tokens, so nothing was shown");
    assert!(requests <= 12, "{requests} requests");
    assert_eq!(scene.status("truncated", "letters"), "20");
    assert_eq!(scene.db.int("SELECT count(embedding) FROM letters"), 220);
    assert_eq!(scene.assert_vectors("letters", "id <= 200", &url, None), 200);

    // What was learned is kept: none of these is refused, and the rest of the text is not wanted.
    scene.insert("letters", &[of_words(3000), of_words(4000)]);
    scene.settle("letters");
    assert_eq!(scene.requests("letters").1, refused, "a text was sent in a length that had been refused before");
    assert_eq!(scene.status("truncated", "letters"), "22");
}

/// What the worker has learned, a session does not know: it cuts the text after the server's refusal.
#[test]
fn a_long_search_text_is_cut() {
    let (mut scene, url) = (Scene::new(), shared());
    scene.create_model("searched", &url, "");
    scene.enable("searched", &varied(50));
    scene.settle("searched");
    let search = format!("SELECT id FROM similar_searched('{}', 1)", of_words(900));
    assert_eq!(scene.db.rows(&search).len(), 1);
    scene.db.run("UPDATE autoembed.models SET max_input_tokens = 500 WHERE name = 'searched'");
    assert_eq!(scene.db.rows(&search).len(), 1);
}

/// The vector of a text that was cut is that of its beginning, and not of a small part of it.
#[test]
fn the_beginning_is_what_is_embedded() {
    let (mut scene, url) = (Scene::new(), shared());
    scene.create_model("lists", &url, "");
    // A token each letter, all of them known words.
    let text: String = (0..700).map(|n| format!("{} ", char::from(b'a' + (n * 7 % 26) as u8))).collect();
    scene.enable("lists", &[text.trim_end().to_owned()]);
    scene.settle("lists");
    assert_eq!(scene.status("truncated", "lists"), "1");
    let stored = vectors::parse(&scene.db.text("SELECT embedding FROM lists"));
    let beginnings: Vec<String> = (1..=510).map(|words| text[..words * 2 - 1].to_owned()).collect();
    let words = ask(&url, None, &beginnings).iter().position(|vector| alike(vector, &stored));
    let words = words.expect("the vector of no beginning of the text") + 1;
    println!("of 700 tokens the first {words} were embedded; the server takes 510");
    assert!(words >= 255, "only {words}");
}

#[test]
fn long_texts_fail_alone_where_they_must_not_be_cut() {
    let (mut scene, url) = (Scene::new(), shared());
    scene.create_model("whole", &url, r#", options => '{"too_long": "fail"}'"#);
    let mut texts = varied(150);
    texts.extend((0..3).map(|n| of_words(700 + n * 100)));
    scene.enable("whole", &texts);
    scene.until_idle("whole");
    let failed = scene.db.rows("SELECT key, code, message, hint FROM autoembed.failed_jobs ORDER BY key::int");
    let keys: Vec<_> = failed.iter().map(|row| row[0].clone().unwrap()).collect();
    assert_eq!(keys, ["151", "152", "153"]);
    for row in &failed {
        println!("{row:?}");
    }
    let words = |row: &&Vec<Option<String>>| row[2].as_deref().unwrap().contains("too large to process");
    assert!(failed.iter().any(|row| words(&row)), "not the server's own words: {failed:?}");
    assert_eq!(scene.status("truncated", "whole"), "0");
    assert_eq!(scene.assert_vectors("whole", "id <= 150", &url, None), 150);
    let (requests, refused) = scene.requests("whole");
    println!("153 texts, 3 of them too long: {requests} requests, {refused} of them refused");
    assert!(requests <= 2 + 3 * 2 * 8, "{requests} requests");
    scene.db.run("UPDATE whole SET content = 'short now ' || id WHERE id > 150");
    scene.settle("whole");
    assert_eq!(scene.assert_vectors("whole", "true", &url, None), 153);
}
