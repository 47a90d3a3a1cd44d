//! The same through a proxy, LiteLLM's: it rewrites answers, and has refusals of its own.

use crate::scene::Scene;
use crate::server::{address, shared};
use crate::texts::{of_words, varied};
use autoembed_tests::db::literal;

/// What `make real` starts it with.
const KEY: &str = "sk-proxy";

/// A model of the proxy's with the key that the scene's file holds.
fn create(scene: &mut Scene, name: &str, remote: &str) {
    let file = scene.key_file(KEY);
    let more = format!(", model => '{remote}', api_key_file => {}", literal(&file));
    scene.create_model(name, &address("AUTOEMBED_PROXY_URL"), &more);
}

#[test]
fn texts_are_embedded_searched_and_followed() {
    let mut scene = Scene::new();
    create(&mut scene, "messages", "proxied");
    assert_eq!(scene.test_model("messages"), (true, String::new()));
    scene.enable("messages", &varied(300));
    scene.settle("messages");
    println!("300 rows: {} requests", scene.requests("messages").0);
    assert_eq!(scene.requests("messages").1, 0, "a request went wrong");
    // What passes through is what the server behind it gives.
    assert_eq!(scene.assert_vectors("messages", "true", &shared(), None), 300);
    scene.assert_found("messages", (20..300).step_by(40));
    scene.db.run("UPDATE messages SET content = 'Now: ' || content WHERE id % 3 = 0");
    scene.settle("messages");
    assert_eq!(scene.assert_vectors("messages", "true", &shared(), None), 300);
}

/// It puts the server's refusal into a sentence of its own.
#[test]
fn long_texts_are_cut_and_counted() {
    let mut scene = Scene::new();
    create(&mut scene, "letters", "proxied");
    let mut texts = varied(100);
    texts.extend((0..10).map(|n| of_words(600 + n * 100)));
    scene.enable("letters", &texts);
    scene.settle("letters");
    let (requests, refused) = scene.requests("letters");
    println!("110 texts, 10 of them too long: {requests} requests, {refused} of them refused");
    assert!((1..=12).contains(&refused), "{refused} of {requests} refused");
    assert_eq!(scene.status("truncated", "letters"), "10");
    assert_eq!(scene.assert_vectors("letters", "id <= 100", &shared(), None), 100);
}

/// Without a database of keys it answers 400 to every key that is not its own.
#[test]
fn a_wrong_key_blocks_and_the_right_one_heals() {
    let mut scene = Scene::new();
    create(&mut scene, "guarded", "proxied");
    scene.key_file("sk-of-nobody");
    scene.enable("guarded", &varied(64));
    let state = scene.until_state("guarded", "blocked: ");
    println!("{state}");
    assert!(state.contains("api_key_file"), "{state}");
    let (requests, _) = scene.requests("guarded");
    assert!(requests <= 2, "{requests} requests: the batch was taken apart");
    assert_eq!(scene.db.int("SELECT count(*) FROM autoembed.failed_jobs"), 0);
    scene.key_file(KEY);
    scene.settle("guarded");
    assert_eq!(scene.assert_vectors("guarded", "true", &shared(), None), 64);
}

#[test]
fn an_unknown_model_blocks() {
    let mut scene = Scene::new();
    create(&mut scene, "unknown", "nonesuch");
    let (ok, error) = scene.test_model("unknown");
    assert!(!ok && error.contains("does not offer"), "{error}");
    scene.enable("unknown", &varied(64));
    let state = scene.until_state("unknown", "blocked: ");
    println!("{state}");
    assert!(state.contains("nonesuch"), "{state}");
    let (requests, _) = scene.requests("unknown");
    assert!(requests <= 2, "{requests} requests: the batch was taken apart");
    assert_eq!(scene.db.int("SELECT count(*) FROM autoembed.failed_jobs"), 0);
}
