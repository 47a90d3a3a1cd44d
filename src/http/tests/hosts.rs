//! Where requests go and where they do not.

use autoembed_core::TransportError;
use autoembed_core::host::AllowedHosts;
use autoembed_http::{Client, ClientConfig, Route, SharedClient};

use crate::client::client;
use crate::server::{Server, answer, request};

pub fn allowing(list: &str) -> ClientConfig {
    let route = Route { allowed: AllowedHosts::parse(list).unwrap(), ..Route::default() };
    ClientConfig { route, ..ClientConfig::default() }
}

fn refused(client: &Client, url: &str) -> String {
    match client.send(&request(url)) {
        Err(TransportError::Refused(why)) => why,
        other => panic!("{url}: {other:?}"),
    }
}

#[test]
fn special_addresses_are_refused_in_every_spelling() {
    for host in [
        "169.254.169.254",
        "169.254.169.254.",
        "2852039166",
        "0xA9FEA9FE",
        "0251.0376.0251.0376",
        "169.254.43518",
        "[::ffff:169.254.169.254]",
        "[64:ff9b::a9fe:a9fe]",
        "[2002:a9fe:a9fe::]",
        "[fe80::1]",
        "[fd00:ec2::254]",
        "[::]",
        "0",
    ] {
        for scheme in ["http", "https"] {
            let why = refused(&client(), &format!("{scheme}://{host}/latest/meta-data"));
            assert!(why.contains("is not allowed"), "{host}: {why}");
        }
    }
}

/// The name passes the first question, so that it is its address that is refused, where the connection is made.
#[test]
fn the_address_is_judged_where_it_is_connected_to() {
    let server = Server::once(answer("200 OK", "", "{}"));
    let port = server.address.port();
    let by_name = format!("http://localhost:{port}/");
    let elsewhere = Client::new(&allowing("10.0.0.0/8")).unwrap();
    let why = refused(&elsewhere, &by_name);
    assert!(why.starts_with("address ") && why.contains("of host localhost"), "{why}");
    assert_eq!(server.connections(), 0);
    for list in ["127.0.0.0/8", "localhost", &format!("127.0.0.1:{port}"), "LocalHost.", "*.example.com, localhost"] {
        let there = Client::new(&allowing(list)).unwrap();
        assert_eq!(there.send(&request(&by_name)).unwrap().status, 200, "{list}");
    }
}

#[test]
fn with_a_list_nothing_else_is_asked() {
    let server = Server::once(answer("200 OK", "", "{}"));
    let port = server.address.port();
    for list in ["api.openai.com", "127.0.0.2", "localhost:1", "127.0.0.1:1", "*.localhost"] {
        let client = Client::new(&allowing(list)).unwrap();
        refused(&client, &format!("http://127.0.0.1:{port}/"));
        refused(&client, &format!("http://localhost:{port}/"));
        refused(&client, &format!("http://2130706433:{port}/"));
    }
    assert_eq!(server.connections(), 0);
    let client = Client::new(&allowing("127.0.0.1")).unwrap();
    for host in ["127.0.0.1", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"] {
        assert_eq!(client.send(&request(&format!("http://{host}:{port}/"))).unwrap().status, 200, "{host}");
    }
}

/// A connection that was kept open is no way around a list that is new.
#[test]
fn a_new_list_closes_kept_connections() {
    let server = Server::start(|_, mut stream| {
        let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
        while crate::server::read_request(&mut reader).is_some()
            && std::io::Write::write_all(&mut stream, answer("200 OK", "", "{}").as_bytes()).is_ok()
        {}
    });
    let shared = SharedClient::new();
    for _ in 0..3 {
        assert_eq!(shared.get(&allowing("")).unwrap().send(&server.request()).unwrap().status, 200);
    }
    assert_eq!(server.connections(), 1, "the client was not kept");
    let url = format!("http://{}/v1/embeddings", server.address);
    refused(&shared.get(&allowing("10.0.0.0/8")).unwrap(), &url);
    assert_eq!(shared.get(&allowing("")).unwrap().send(&server.request()).unwrap().status, 200);
    assert_eq!(server.connections(), 2);
}
