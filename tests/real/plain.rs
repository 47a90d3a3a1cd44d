//! What ought to be ordinary.

use crate::scene::Scene;
use crate::server::shared;
use crate::texts::varied;
use std::time::Instant;

#[test]
fn a_thousand_texts_are_embedded_searched_and_followed() {
    let (mut scene, url) = (Scene::new(), shared());
    scene.create_model("messages", &url, "");
    assert_eq!(scene.test_model("messages"), (true, String::new()));
    let start = Instant::now();
    scene.enable("messages", &varied(1000));
    scene.settle("messages");
    println!("1,000 rows: {:?}, {} requests", start.elapsed(), scene.requests("messages").0);
    assert_eq!(scene.assert_vectors("messages", "true", &url, None), 1000);
    assert!(scene.requests("messages").0 <= 5, "full batches are the fewest");
    assert_eq!(scene.requests("messages").1, 0, "a request went wrong");
    assert_eq!(scene.status("state", "messages"), "active");

    scene.assert_found("messages", (20..1000).step_by(49));
    scene.db.run("UPDATE messages SET content = 'Now: ' || content WHERE id % 3 = 0");
    scene.insert("messages", &["one more, after all".to_owned()]);
    scene.settle("messages");
    assert_eq!(scene.assert_vectors("messages", "true", &url, None), 1001);
    assert_eq!(scene.status("truncated", "messages"), "0");
}

#[test]
fn base64_and_numbers_are_the_same_vectors() {
    let (mut scene, url) = (Scene::new(), shared());
    for (name, format) in [("packed", "base64"), ("plain", "float")] {
        let options = format!(r#", options => '{{"body": {{"encoding_format": "{format}"}}}}'"#);
        scene.create_model(name, &url, &options);
        scene.enable(name, &varied(100));
        scene.settle(name);
        assert_eq!(scene.assert_vectors(name, "true", &url, None), 100, "{format}");
    }
}

/// Tokens are the server's own count.
#[test]
fn what_was_used_is_what_the_server_counted() {
    let (mut scene, url) = (Scene::new(), shared());
    scene.create_model("counted", &url, "");
    // Each word is a token, and the server puts one before and one behind the text.
    scene.enable("counted", &["house river house".to_owned(), "river house".to_owned()]);
    scene.settle("counted");
    assert_eq!(scene.db.text("SELECT sum(tokens) FROM autoembed.requests"), "9");
}
