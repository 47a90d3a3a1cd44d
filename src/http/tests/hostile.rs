//! Servers that mean harm: each ends in an error, in its time, and in little memory.

use std::io::{BufReader, Read, Write};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use autoembed_core::TransportError;
use autoembed_core::provider::HeaderValue;

use crate::client::client;
use crate::memory::peak_of;
use crate::server::{Server, answer, read_request};

/// What a request that goes wrong may hold: two buffers of 128 KiB, headers, and the answer's cap.
const MEMORY: usize = 1 << 20;

/// A request's time where a server is to use it up, and when it must be over at the latest on a busy machine.
const TIME: Duration = Duration::from_millis(300);
const LATEST: Duration = Duration::from_secs(5);

/// Sends to `server` and gives what came, which must have come in time and without much memory.
fn bounded(
    what: &str,
    server: &Server,
    timeout: Duration,
) -> Result<autoembed_core::provider::Response, TransportError> {
    let mut request = server.request();
    request.timeout = timeout;
    let client = client();
    let start = Instant::now();
    let (result, peak) = peak_of(|| client.send(&request));
    let took = start.elapsed();
    assert!(took < LATEST, "{what}: {took:?}");
    assert!(peak < MEMORY, "{what}: {peak} bytes");
    if let Err(error) = &result {
        assert!(!format!("{error:?}").contains("canary"), "{what}: {error:?}");
    }
    result
}

/// After a request: the head, then the piece again and again, with a pause or without.
fn repeating(head: &[u8], piece: &[u8], pause: Option<Duration>) -> Server {
    let (head, piece) = (head.to_vec(), piece.to_vec());
    Server::start(move |_, mut stream| {
        if read_request(&mut BufReader::new(&stream)).is_none() || stream.write_all(&head).is_err() {
            return;
        }
        while stream.write_all(&piece).is_ok() {
            if let Some(pause) = pause {
                std::thread::sleep(pause);
            }
        }
    })
}

#[test]
fn slow_ones_have_the_requests_time_and_no_more() {
    for (what, head, piece) in [
        ("status line", "HTTP/1.1 200 ", "O"),
        ("name of a header", "HTTP/1.1 200 OK\r\n", "a"),
        ("value of a header", "HTTP/1.1 200 OK\r\na: ", "b"),
        ("headers", "HTTP/1.1 200 OK\r\n", "a: b\r\n"),
        ("body", "HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n", "x"),
        ("body without a length", "HTTP/1.1 200 OK\r\n\r\n", "x"),
        ("size of a chunk", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "0"),
        ("chunks", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "1\r\nx\r\n"),
        ("extension", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;", "x"),
        ("trailer", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n", "a: b\r\n"),
        ("1xx", "", "HTTP/1.1 102 Processing\r\n\r\n"),
        ("100", "", "HTTP/1.1 100 Continue\r\n\r\n"),
    ] {
        let server = repeating(head.as_bytes(), piece.as_bytes(), Some(Duration::from_millis(5)));
        assert_eq!(bounded(what, &server, TIME).unwrap_err(), TransportError::Timeout, "{what}");
    }
}

/// An error's body counts as far as it came, so it may end with its time, but not after it.
#[test]
fn a_slow_error_is_an_error_in_time() {
    let server = repeating(b"HTTP/1.1 503 No\r\ncontent-length: 999\r\n\r\n", b"x", Some(Duration::from_millis(5)));
    let response = bounded("slow 503", &server, TIME).unwrap();
    assert_eq!(response.status, 503);
    assert!(!response.body.is_empty() && response.body.len() < 999, "{}", response.body.len());
}

/// The request is not read: what is being sent has no other end than its time either.
#[test]
fn a_server_that_does_not_read() {
    let server = Server::start(|_, stream| {
        // Open until the client gives up and the other side's buffers drain.
        std::thread::sleep(Duration::from_secs(20));
        drop(stream);
    });
    let mut request = server.request();
    request.body = vec![b' '; 64 << 20];
    request.timeout = TIME;
    let client = client();
    let start = Instant::now();
    assert_eq!(client.send(&request).unwrap_err(), TransportError::Timeout);
    assert!(start.elapsed() < LATEST, "{:?}", start.elapsed());
}

#[test]
fn endless_ones_end_at_a_bound() {
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let many = "a: b\r\n".repeat(1000);
    let long = "x".repeat(8192);
    let ones = "1\r\nx\r\n".repeat(1000);
    for (what, head, piece) in [
        ("headers", "HTTP/1.1 200 OK\r\n".to_owned(), &many),
        ("one header", "HTTP/1.1 200 OK\r\na: ".to_owned(), &long),
        ("status line", "HTTP/1.1 200 ".to_owned(), &long),
        ("line without HTTP", String::new(), &long),
        ("extension", format!("{chunked}1;"), &long),
        ("size of a chunk", format!("{chunked}0"), &"0".repeat(8192)),
        ("body", "HTTP/1.1 200 OK\r\n\r\n".to_owned(), &long),
        ("body as long as can be said", format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", u64::MAX), &long),
        ("chunk as long as can be said", format!("{chunked}ffffffffffffffff\r\n"), &long),
        ("chunks", chunked.to_owned(), &ones),
    ] {
        let server = repeating(head.as_bytes(), piece.as_bytes(), None);
        let error = bounded(what, &server, Duration::from_secs(20)).unwrap_err();
        assert!(matches!(error, TransportError::Protocol(_) | TransportError::TooLarge), "{what}: {error:?}");
    }
    // These bring nothing that could be counted; their end is the time.
    for (what, head, piece) in [
        ("1xx", "", "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n".repeat(100)),
        ("trailers", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n", many.clone()),
    ] {
        let server = repeating(head.as_bytes(), piece.as_bytes(), None);
        let error = bounded(what, &server, TIME).unwrap_err();
        assert!(matches!(error, TransportError::Timeout | TransportError::Protocol(_)), "{what}: {error:?}");
    }
}

#[test]
fn what_is_no_answer() {
    for (what, bytes) in [
        ("HTTP/0.9", &b"<html>canary</html>\r\n"[..]),
        ("HTTP/2", b"HTTP/2 200 OK\r\n\r\n"),
        ("another protocol", b"220 mail.example ESMTP\r\n\r\n"),
        ("binary", b"\x15\x03\x01\x00\x02\x02\x28"),
        ("zeros", &[0; 4096]),
        ("no number", b"HTTP/1.1 OK\r\n\r\n"),
        ("status 1000", b"HTTP/1.1 1000 OK\r\n\r\n"),
        ("negative length", b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n{}"),
        ("no length", b"HTTP/1.1 200 OK\r\ncontent-length: canary\r\n\r\n{}"),
        ("a length beyond 64 bits", b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999999\r\n\r\n{}"),
        ("two lengths", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}x"),
        ("a broken header", b"HTTP/1.1 200 OK\r\nBearer canary\r\n\r\n{}"),
        ("a header with zeros", b"HTTP/1.1 200 OK\r\na: \0canary\r\n\r\n{}"),
        ("upgrade", b"HTTP/1.1 101 Switching Protocols\r\nupgrade: canary\r\n\r\nwhatever"),
        ("size of a chunk", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n-1\r\ncanary\r\n0\r\n\r\n"),
        ("chunk longer than said", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\ncanary\r\n0\r\n\r\n"),
    ] {
        let server = Server::once(bytes);
        match bounded(what, &server, Duration::from_secs(20)) {
            // No status of success means no vectors, whatever the body is.
            Ok(response) => assert!(!(200..300).contains(&response.status), "{what}: {response:?}"),
            Err(error) => assert!(
                matches!(error, TransportError::Protocol(_) | TransportError::Connect(_) | TransportError::TooLarge),
                "{what}: {error:?}"
            ),
        }
        assert_eq!(server.connections(), 1, "{what}: tried again");
    }
}

/// A whole answer, cut after each of its bytes.
#[test]
fn a_connection_that_ends_at_any_moment() {
    let whole = answer("200 OK", "content-type: application/json\r\n", "{\"data\":[]}");
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"dat\r\n6\r\na\":[]}\r\n0\r\n\r\n";
    // The blank line behind the last chunk tells nothing new, and some servers forget it.
    for (full, enough) in [(whole.as_str(), whole.len()), (chunked, chunked.len() - 2)] {
        let counted = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let (counter, bytes) = (counted.clone(), full.to_owned());
        let server = Server::start(move |_, mut stream| {
            let cut = counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            if read_request(&mut BufReader::new(&stream)).is_some() {
                let _ = stream.write_all(&bytes.as_bytes()[..cut]);
            }
        });
        let client = client();
        for cut in 0..enough {
            let error = client.send(&server.request()).unwrap_err();
            let fits = matches!(error, TransportError::Connect(_) | TransportError::Protocol(_));
            assert!(fits, "after {cut} bytes: {error:?}");
        }
        assert_eq!(client.send(&server.request()).unwrap().body, b"{\"data\":[]}");
        assert_eq!(server.connections(), enough + 1, "each request once");
    }
    // Closed with the request unread, which resets the connection.
    let server = Server::start(|_, stream| drop(stream));
    let error = client().send(&server.request()).unwrap_err();
    assert!(matches!(error, TransportError::Connect(_)), "{error:?}");
}

#[test]
fn compressed_answers_are_refused_unread() {
    // The head of a gzip stream, then what would unpack to far more.
    for encoding in ["gzip", "br", "deflate", "zstd", "gzip, identity", "x-canary"] {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: {encoding}\r\n\r\n\x1f");
        let server = repeating(head.as_bytes(), &[0; 8192], None);
        let error = bounded(encoding, &server, Duration::from_secs(20)).unwrap_err();
        assert!(matches!(&error, TransportError::Protocol(why) if why.contains("compressed")), "{error:?}");
    }
    let refused = Server::once(answer("401 No", "content-encoding: gzip\r\n", "\x1f\x08rest"));
    let response = bounded("an error", &refused, Duration::from_secs(20)).unwrap();
    assert_eq!((response.status, response.body.as_slice()), (401, &b""[..]));
    for plain in ["identity", "Identity", ""] {
        let server = Server::once(answer("200 OK", &format!("content-encoding: {plain}\r\n"), "{}"));
        assert_eq!(bounded(plain, &server, Duration::from_secs(20)).unwrap().body, b"{}");
    }
}

/// The key stays with the host it is for: on no redirect is there a second request, to whomever.
#[test]
fn a_redirect_carries_no_key_along() {
    let (sender, seen) = mpsc::channel();
    let sender = Mutex::new(sender);
    let elsewhere = Server::start(move |_, mut stream| {
        if let Some((head, _)) = read_request(&mut BufReader::new(&stream)) {
            sender.lock().unwrap().send(head).unwrap();
            let _ = stream.write_all(answer("200 OK", "", "{}").as_bytes());
        }
    });
    for status in [300, 301, 302, 303, 305, 307, 308] {
        for location in [format!("http://localhost:{}/", elsewhere.address.port()), format!("//{}/", elsewhere.address)]
        {
            let headers = format!("location: {location}\r\nrefresh: 0; url={location}\r\n");
            let server = Server::once(answer(&format!("{status} Moved"), &headers, "canary"));
            let error = bounded("redirect", &server, Duration::from_secs(20)).unwrap_err();
            assert_eq!(error, TransportError::Redirect(status));
            assert_eq!(server.connections(), 1);
        }
    }
    assert!(seen.try_recv().is_err());
}

/// Bytes beyond an answer are never taken for the answer to the next request.
#[test]
fn an_answer_that_is_left_over() {
    let (first, second) = (answer("200 OK", "", "\"first\""), answer("200 OK", "", "\"left over\""));
    for late in [false, true] {
        let (sent, arrived) = mpsc::channel();
        let sent = Mutex::new(sent);
        let (first, second) = (first.clone(), second.clone());
        let server = Server::start(move |number, mut stream| {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            read_request(&mut reader).unwrap();
            if number > 0 {
                stream.write_all(answer("200 OK", "", "\"second\"").as_bytes()).unwrap();
            } else if late {
                stream.write_all(first.as_bytes()).unwrap();
                std::thread::sleep(Duration::from_millis(50));
                stream.write_all(second.as_bytes()).unwrap();
            } else {
                stream.write_all(format!("{first}{second}").as_bytes()).unwrap();
            }
            sent.lock().unwrap().send(()).unwrap();
            let _ = reader.read_to_end(&mut Vec::new());
        });
        let client = client();
        assert_eq!(client.send(&server.request()).unwrap().body, b"\"first\"");
        arrived.recv().unwrap();
        assert_eq!(client.send(&server.request()).unwrap().body, b"\"second\"", "late: {late}");
        assert_eq!(server.connections(), 2);
    }
}

/// Whatever comes from a table or a file: no line of a request is written by it but the one it belongs to.
#[test]
fn no_header_breaks_out_of_its_line() {
    let server = Server::once(answer("200 OK", "", "{}"));
    for (name, value) in [
        ("authorization", "Bearer canary\r\nx-evil: 1"),
        ("authorization", "Bearer canary\n"),
        ("authorization", "Bearer \0canary"),
        ("x\r\nx-evil", "canary"),
        ("x y", "canary"),
        ("", "canary"),
    ] {
        let mut request = server.request();
        request.headers = vec![(name.to_owned(), HeaderValue::Plain(value.to_owned()))];
        let error = client().send(&request).unwrap_err();
        assert!(matches!(error, TransportError::Protocol(_)), "{name:?}: {error:?}");
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
    }
    for url in [
        "http://127.0.0.1 /",
        "http://127.0.0.1/ HTTP/1.1\r\nx-evil: 1",
        "http://127.0.0.1@evil.test/",
        "http://evil.test#@127.0.0.1",
    ] {
        let mut request = server.request();
        url.clone_into(&mut request.url);
        assert!(matches!(client().send(&request), Err(TransportError::Protocol(_))), "{url}");
    }
    assert_eq!(server.connections(), 0, "nothing was sent");
}
