//! A server that does not do what it should, or is not there.

use crate::scene::{PATIENCE, Scene};
use crate::server::{Server, shared};
use crate::texts::varied;
use autoembed_tests::db::literal;
use std::time::Instant;

#[test]
fn a_wrong_key_blocks_and_the_right_one_heals() {
    let mut scene = Scene::new();
    let server = Server::start(Some("right-key-of-the-server"));
    scene.create_model("keyless", &server.url, "");
    let (ok, error) = scene.test_model("keyless");
    println!("without a key: {error}");
    assert!(!ok && error.contains("Invalid API Key") && error.contains("api_key_file"), "{error}");

    let file = scene.key_file("wrong-key-of-nobody");
    scene.create_model("guarded", &server.url, &format!(", api_key_file => {}", literal(&file)));
    scene.enable("guarded", &varied(100));
    let state = scene.until_state("guarded", "blocked: ");
    println!("{state}");
    // It may hang up on the rest of a long request before its words are read; what follows is the same.
    assert!(state.contains("Invalid API Key") || state.contains("status 401"), "{state}");
    assert!(state.contains("api_key_file"), "{state}");
    assert_eq!(scene.db.int("SELECT count(*) FROM autoembed.failed_jobs"), 0);
    scene.key_file("right-key-of-the-server");
    scene.settle("guarded");
    assert_eq!(scene.assert_vectors("guarded", "true", &server.url, Some("right-key-of-the-server")), 100);
    assert_eq!(scene.status("state", "guarded"), "active");
}

#[test]
fn a_server_that_is_killed_and_comes_back_costs_no_row() {
    let mut scene = Scene::new();
    let server = Server::start(None);
    let url = server.url.clone();
    scene.create_model("inserts", &url, ", timeout => '20 s'");
    scene.enable("inserts", &[]);
    let texts = varied(2000);
    let mut server = Some(server);
    let mut gone = Instant::now();
    for (n, text) in texts.iter().enumerate() {
        if n == 700 {
            scene.db.until("SELECT count(embedding) > 0 FROM inserts", "t", PATIENCE);
        }
        if n == 1000 {
            server.take().unwrap().stop();
            gone = Instant::now();
        }
        if n == 1500 {
            let errors = "SELECT count(error_code) > 0 FROM autoembed.requests";
            scene.db.until(errors, "t", PATIENCE);
            println!("away {:?}, {} rows embedded by then", gone.elapsed(), scene.status("embedded", "inserts"));
            server = Some(Server::start_at(&url));
        }
        scene.insert("inserts", std::slice::from_ref(text));
    }
    let back = Instant::now();
    scene.settle("inserts");
    let (requests, errors) = scene.requests("inserts");
    println!("all embedded {:?} after it was back; {requests} requests, {errors} without an answer", back.elapsed());
    assert_eq!(scene.assert_vectors("inserts", "true", &url, None), 2000);
    assert_eq!(scene.status("state", "inserts"), "active");
}

#[test]
fn vectors_of_another_length_block() {
    let (mut scene, url) = (Scene::new(), shared());
    for (name, dims, more) in [
        ("shorter", 32, ""),
        ("longer", 128, ""),
        // The server takes the field, and does not heed it.
        ("asked", 32, r#", options => '{"send_dimensions": true}'"#),
    ] {
        scene.create_sized_model(name, &url, dims, more);
        let (ok, error) = scene.test_model(name);
        assert!(!ok && error.contains("64"), "{error}");
        scene.enable(name, &varied(50));
        let state = scene.until_state(name, "blocked: ");
        println!("{state}");
        assert!(state.contains("64") && state.contains(&dims.to_string()), "{state}");
        assert_eq!(scene.db.int(&format!("SELECT count(embedding) FROM {name}")), 0);
    }
    assert_eq!(scene.db.int("SELECT count(*) FROM autoembed.failed_jobs"), 0);
}

#[test]
fn a_path_that_the_server_does_not_know_blocks() {
    let (mut scene, url) = (Scene::new(), shared().replace("/v1", "/v3"));
    scene.create_model("elsewhere", &url, "");
    scene.enable("elsewhere", &varied(20));
    let state = scene.until_state("elsewhere", "blocked: ");
    println!("{state}");
    assert!(state.contains("url") && state.contains(&url), "{state}");
    assert_eq!(scene.db.int("SELECT count(*) FROM autoembed.failed_jobs"), 0);
}

/// Without the version in its path the server speaks a format of its own.
#[test]
fn an_answer_in_another_format_is_told_and_costs_no_row() {
    let (mut scene, url) = (Scene::new(), shared());
    scene.create_model("native", url.trim_end_matches("/v1"), "");
    let (ok, error) = scene.test_model("native");
    println!("{error}");
    assert!(!ok && error.contains("bad_answer") && error.contains("url"), "{error}");
    scene.enable("native", &varied(20));
    let state = scene.until_state("native", "active: waiting for the API");
    println!("{state}");
    assert!(state.contains("not an embedding answer"), "{state}");
    // Set right, it is a model like others.
    scene.db.run(&format!("UPDATE autoembed.models SET url = {} WHERE name = 'native'", literal(&url)));
    scene.settle("native");
    assert_eq!(scene.assert_vectors("native", "true", &url, None), 20);
}

/// Full batches take this server several times as long as the model's timeout allows.
#[test]
fn a_timeout_too_short_for_full_batches_costs_no_row() {
    let mut scene = Scene::new();
    let server = Server::start(None);
    scene.create_model("hasty", &server.url, ", timeout => '1 s'");
    let start = Instant::now();
    scene.enable("hasty", &varied(2000));
    scene.settle("hasty");
    let (requests, errors) = scene.requests("hasty");
    println!("2,000 rows with a timeout of 1 s: {:?}, {requests} requests, {errors} unanswered", start.elapsed());
    assert!(errors > 0, "the timeout was long enough, so nothing was shown");
    assert_eq!(scene.assert_vectors("hasty", "true", &server.url, None), 2000);
}
