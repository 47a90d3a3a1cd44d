use std::io::{BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant};

use autoembed_core::TransportError;
use autoembed_http::{Client, ClientConfig};

use crate::server::{Server, answer, read_request, request};

pub fn client() -> Client {
    Client::new(&ClientConfig::default()).unwrap()
}

#[test]
fn sends_what_it_is_given_and_returns_what_comes() {
    let (sender, seen) = mpsc::channel();
    let sender = Mutex::new(sender);
    let server = Server::start(move |_, mut stream| {
        sender.lock().unwrap().send(read_request(&mut BufReader::new(&stream)).unwrap()).unwrap();
        stream.write_all(answer("429 Slow", "Retry-After: 7\r\n", "{}").as_bytes()).unwrap();
    });
    let response = client().send(&server.request()).unwrap();
    assert_eq!((response.status, response.body.as_slice()), (429, &b"{}"[..]));
    assert_eq!(response.header("retry-after"), Some("7"));
    let (head, body) = seen.recv().unwrap();
    let head = head.to_ascii_lowercase();
    assert!(head.starts_with("post /v1/embeddings http/1.1\r\n"), "{head}");
    for line in
        ["authorization: bearer canary", "accept-encoding: identity", "content-length: 15", "user-agent: autoembed/"]
    {
        assert_eq!(head.matches(&format!("\r\n{line}")).count(), 1, "{line} in {head}");
    }
    assert!(!head.contains("gzip") && !head.contains("expect:"));
    assert_eq!(body, b"{\"input\":[\"a\"]}");
}

#[test]
fn headers_that_are_no_utf8_are_no_obstacle() {
    let server =
        Server::once(b"HTTP/1.1 200 OK\r\nx-odd: \xff\xfe\r\nretry-after: 1\r\ncontent-length: 2\r\n\r\n{}".to_vec());
    let response = client().send(&server.request()).unwrap();
    assert_eq!(response.header("x-odd"), Some("\u{fffd}\u{fffd}"));
    assert_eq!(response.header("retry-after"), Some("1"));
}

/// Answers the head and a first piece, then more every 5 ms for ever.
fn dripping(head: &'static str, piece: &'static [u8]) -> Server {
    Server::start(move |_, mut stream| {
        if read_request(&mut BufReader::new(&stream)).is_none() {
            return;
        }
        let _ = stream.write_all(head.as_bytes());
        while stream.write_all(piece).is_ok() {
            std::thread::sleep(Duration::from_millis(5));
        }
    })
}

#[test]
fn the_timeout_is_for_the_whole_request() {
    let silent = Server::start(|_, mut stream| {
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let servers = [
        ("no answer", silent),
        ("slow body", dripping("HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n", b"x")),
        ("slow chunks", dripping("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"1\r\nx\r\n")),
        ("slow head", dripping("HTTP/1.1 200 OK\r\n", b"a: b\r\n")),
    ];
    for (what, server) in servers {
        let mut request = server.request();
        request.timeout = Duration::from_millis(300);
        let start = Instant::now();
        let error = client().send(&request).unwrap_err();
        let took = start.elapsed();
        assert_eq!(error, TransportError::Timeout, "{what}");
        assert!(took < Duration::from_secs(5), "{what}: {took:?}");
    }
}

#[test]
fn an_answer_without_end_is_cut_at_the_cap() {
    for head in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999\r\n\r\n"] {
        let server = dripping(head, &[b'x'; 512]);
        assert_eq!(client().send(&server.request()).unwrap_err(), TransportError::TooLarge);
    }
    let server = Server::once(answer("200 OK", "", &"x".repeat(1001)));
    assert_eq!(client().send(&server.request()).unwrap_err(), TransportError::TooLarge);
    let server = Server::once(answer("200 OK", "", &"x".repeat(1000)));
    assert_eq!(client().send(&server.request()).unwrap().body.len(), 1000);
}

#[test]
fn an_error_message_without_end_is_still_one() {
    for head in ["HTTP/1.1 503 No\r\n\r\n", "HTTP/1.1 503 No\r\ncontent-length: 99999999999999\r\n\r\n"] {
        let server = dripping(head, &[b'x'; 512]);
        let response = client().send(&server.request()).unwrap();
        assert_eq!((response.status, response.body.len()), (503, 1000));
    }
    let server = Server::once("HTTP/1.1 500 No\r\ncontent-length: 99\r\n\r\nbroken");
    assert_eq!(client().send(&server.request()).unwrap().body, b"broken");
}

#[test]
fn more_than_ten_megabytes_are_read() {
    let size = 20 << 20;
    let server = Server::once(answer("200 OK", "", &"x".repeat(size)));
    let mut request = server.request();
    request.max_response_bytes = size as u64;
    assert_eq!(client().send(&request).unwrap().body.len(), size);
}

#[test]
fn a_redirect_is_not_followed() {
    for status in [300, 301, 302, 303, 304, 305, 307, 308, 399] {
        let elsewhere = Server::once(answer("200 OK", "", "{}"));
        let location = format!("location: http://{}/\r\n", elsewhere.address);
        let server = Server::once(answer(&format!("{status} Moved"), &location, ""));
        assert_eq!(client().send(&server.request()).unwrap_err(), TransportError::Redirect(status));
        assert_eq!(elsewhere.connections(), 0);
    }
}

#[test]
fn a_broken_answer_is_no_answer() {
    let huge = format!("HTTP/1.1 200 OK\r\nx: {}\r\ncontent-length: 0\r\n\r\n", "x".repeat(1 << 20));
    for (what, bytes) in [
        ("fewer bytes than said", "HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{}"),
        ("chunks without an end", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n"),
        ("bad chunk", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n"),
        ("huge header", huge.as_str()),
        ("no HTTP", "SSH-2.0-OpenSSH_9.2\r\n"),
    ] {
        let server = Server::once(bytes);
        let error = client().send(&server.request()).unwrap_err();
        assert!(matches!(error, TransportError::Protocol(_)), "{what}: {error:?}");
        assert_eq!(server.connections(), 1, "{what}: tried again");
    }
    let server = Server::once("");
    let error = client().send(&server.request()).unwrap_err();
    assert!(matches!(error, TransportError::Connect(_)), "{error:?}");
    assert_eq!(server.connections(), 1, "a new connection is not stale");
}

/// Answers every request of a connection.
fn keeping() -> Server {
    Server::start(|_, mut stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while read_request(&mut reader).is_some() && stream.write_all(answer("200 OK", "", "{}").as_bytes()).is_ok() {}
    })
}

#[test]
fn a_connection_is_used_again_whatever_the_client_is_called() {
    let server = keeping();
    let client = client();
    for _ in 0..20 {
        client.clone().send(&server.request()).unwrap();
    }
    assert_eq!(server.connections(), 1);
    let none = Client::new(&ClientConfig { max_connections: 0, ..ClientConfig::default() }).unwrap();
    for _ in 0..3 {
        none.send(&server.request()).unwrap();
    }
    assert_eq!(server.connections(), 4);
}

#[test]
fn many_threads_share_a_client() {
    let server = keeping();
    let client = client();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..50).for_each(|_| assert_eq!(client.send(&server.request()).unwrap().status, 200)));
        }
    });
    assert!(server.connections() <= 16, "{} connections", server.connections());
}

#[test]
fn a_connection_that_the_server_closed_meanwhile_is_replaced() {
    // Closed after the answer: noticed before it is used.
    let server = Server::once(answer("200 OK", "", "{}"));
    let client = client();
    for _ in 0..10 {
        assert_eq!(client.send(&server.request()).unwrap().status, 200);
    }
    // Closed at the moment of its use: the request is on its way when the connection ends.
    let server = Server::start(|number, mut stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        read_request(&mut reader).unwrap();
        stream.write_all(answer("200 OK", "", "{}").as_bytes()).unwrap();
        if number == 0 {
            let _ = read_request(&mut reader);
        }
    });
    assert_eq!(client.send(&server.request()).unwrap().status, 200);
    assert_eq!(client.send(&server.request()).unwrap().status, 200);
    assert_eq!(server.connections(), 2);
}

#[test]
fn a_kept_connection_that_breaks_within_the_answer_is_not_tried_again() {
    let server = Server::start(|_, mut stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        read_request(&mut reader).unwrap();
        stream.write_all(answer("200 OK", "", "{}").as_bytes()).unwrap();
        read_request(&mut reader).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-le").unwrap();
    });
    let client = client();
    assert_eq!(client.send(&server.request()).unwrap().status, 200);
    assert!(client.send(&server.request()).is_err());
    assert_eq!(server.connections(), 1);
}

#[test]
fn the_second_try_happens_once_and_in_the_same_time() {
    let barrier = Arc::new(Barrier::new(2));
    let held = barrier.clone();
    let server = Server::start(move |number, mut stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        read_request(&mut reader).unwrap();
        if number == 0 {
            stream.write_all(answer("200 OK", "", "{}").as_bytes()).unwrap();
            let _ = read_request(&mut reader);
        } else {
            held.wait();
        }
    });
    let client = client();
    let mut request = server.request();
    request.timeout = Duration::from_millis(400);
    assert_eq!(client.send(&request).unwrap().status, 200);
    assert_eq!(client.send(&request).unwrap_err(), TransportError::Timeout);
    assert_eq!(server.connections(), 2);
    barrier.wait();
}

#[test]
fn no_server_and_no_host() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = client().send(&request(&format!("http://127.0.0.1:{port}/"))).unwrap_err();
    assert!(matches!(error, TransportError::Connect(_)), "{error:?}");
    let error = client().send(&request("http://no-such-host.invalid/")).unwrap_err();
    assert!(matches!(error, TransportError::Dns(_)), "{error:?}");
    let error = client().send(&request("http://localhost:1/?key=canary")).unwrap_err();
    assert!(!format!("{error:?}").contains("canary"));
    let error = client().send(&request("nonsense canary")).unwrap_err();
    assert!(matches!(error, TransportError::Protocol(_)) && !format!("{error:?}").contains("canary"), "{error:?}");
}

#[test]
fn localhost_by_name() {
    let server = keeping();
    let url = format!("http://localhost:{}/", server.address.port());
    assert_eq!(client().send(&request(&url)).unwrap().status, 200);
}
