//! Requests through a proxy: a small one that connects everything to one address.

use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use autoembed_core::host::AllowedHosts;
use autoembed_core::{Secret, TransportError};
use autoembed_http::{Client, ClientConfig, Proxy, Route};

use crate::memory::peak_of;
use crate::server::{Server, answer, read_request, request};
use crate::tls::Authority;

/// A proxy for `upstream`, and the heads of the requests that it was sent.
fn tunnelling(upstream: SocketAddr) -> (Server, Receiver<String>) {
    let (sender, seen) = mpsc::channel();
    let sender = Mutex::new(sender);
    let server = Server::start(move |_, mut stream| {
        let Some(head) = read_head(&mut stream) else { return };
        sender.lock().unwrap().send(head).unwrap();
        let Ok(mut there) = TcpStream::connect(upstream) else { return };
        stream.write_all(b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n").unwrap();
        let (mut back, mut from) = (stream.try_clone().unwrap(), there.try_clone().unwrap());
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut back);
            let _ = back.shutdown(Shutdown::Both);
        });
        let _ = std::io::copy(&mut stream, &mut there);
        let _ = there.shutdown(Shutdown::Both);
    });
    (server, seen)
}

/// Byte by byte, since what follows the head is not the proxy's.
fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    String::from_utf8(head).ok()
}

fn through(proxy: &str, allowed: &str) -> ClientConfig {
    let route = Route { allowed: AllowedHosts::parse(allowed).unwrap(), proxy: Some(Proxy::parse(proxy).unwrap()) };
    ClientConfig { route, ..ClientConfig::default() }
}

fn client_through(proxy: SocketAddr) -> Client {
    Client::new(&through(&format!("http://{proxy}"), "")).unwrap()
}

/// A server that answers every request, and tells of their heads.
fn telling() -> (Server, Receiver<String>) {
    let (sender, seen) = mpsc::channel();
    let sender = Mutex::new(sender);
    let server = Server::start(move |_, mut stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while let Some((head, _)) = read_request(&mut reader) {
            sender.lock().unwrap().send(head).unwrap();
            stream.write_all(answer("200 OK", "", "{}").as_bytes()).unwrap();
        }
    });
    (server, seen)
}

#[test]
fn http_goes_through_a_tunnel() {
    let (server, requests) = telling();
    let (proxy, asked) = tunnelling(server.address);
    let client = client_through(proxy.address);
    for _ in 0..3 {
        assert_eq!(client.send(&request("http://api.test:8080/v1")).unwrap().status, 200);
    }
    let head = asked.recv().unwrap();
    // Neither the key nor the path is the proxy's business.
    assert_eq!(head, "CONNECT api.test:8080 HTTP/1.1\r\nHost: api.test:8080\r\n\r\n");
    assert!(asked.try_recv().is_err(), "the connection was not kept");
    let head = requests.recv().unwrap();
    assert!(head.starts_with("POST /v1 HTTP/1.1\r\n") && head.contains("Bearer canary"), "{head}");
}

#[test]
fn https_goes_through_a_tunnel_and_is_the_hosts_own() {
    let authority = Authority::new();
    let server = authority.server("api.test");
    let (proxy, asked) = tunnelling(server.address);
    let ca_file = authority.file("through-proxy");
    let config =
        ClientConfig { ca_file: Some(ca_file.clone()), ..through(&format!("http://{}", proxy.address), "api.test") };
    let client = Client::new(&config).unwrap();
    std::fs::remove_file(ca_file).unwrap();
    for _ in 0..3 {
        assert_eq!(client.send(&request("https://api.test/v1")).unwrap().status, 200);
    }
    assert!(asked.recv().unwrap().starts_with("CONNECT api.test:443 HTTP/1.1\r\n"));
    assert!(asked.try_recv().is_err(), "the connection was not kept");
    // The proxy leads to a host with another name.
    let client = Client::new(&ClientConfig {
        route: Route { allowed: AllowedHosts::default(), ..config.route.clone() },
        ca_file: Some(authority.file("other-name")),
        ..config
    });
    let error = client.unwrap().send(&request("https://other.test/v1")).unwrap_err();
    assert!(matches!(error, TransportError::Tls(_)), "{error:?}");
    std::fs::remove_file(authority.file("other-name")).unwrap();
}

#[test]
fn user_and_password_are_sent_to_the_proxy_alone() {
    let (server, requests) = telling();
    let (proxy, asked) = tunnelling(server.address);
    for (text, password) in [
        (format!("http://us%20er:ca%3Anary@{}", proxy.address), None),
        (format!("http://us%20er@{}", proxy.address), Some("ca:nary")),
    ] {
        let mut parsed = Proxy::parse(&text).unwrap();
        if let Some(password) = password {
            parsed = parsed.with_password(Secret::new(password).unwrap());
        }
        let route = Route { proxy: Some(parsed), ..Route::default() };
        let client = Client::new(&ClientConfig { route, ..ClientConfig::default() }).unwrap();
        assert_eq!(client.send(&request("http://api.test/")).unwrap().status, 200);
        let head = asked.recv().unwrap();
        assert!(head.contains("\r\nProxy-Authorization: Basic dXMgZXI6Y2E6bmFyeQ==\r\n"), "{head}");
        assert!(!requests.recv().unwrap().to_ascii_lowercase().contains("proxy-"));
    }
}

#[test]
fn this_machine_is_asked_straight() {
    let (server, _requests) = telling();
    let (proxy, asked) = tunnelling(server.address);
    let client = client_through(proxy.address);
    let port = server.address.port();
    for host in ["127.0.0.1", "localhost", "LocalHost", "0x7f.1", "[::ffff:127.0.0.1]"] {
        assert_eq!(client.send(&request(&format!("http://{host}:{port}/"))).unwrap().status, 200, "{host}");
    }
    assert!(asked.try_recv().is_err(), "the proxy was asked for its own machine");
}

#[test]
fn what_is_not_allowed_is_not_asked_of_the_proxy() {
    let (server, _requests) = telling();
    let (proxy, asked) = tunnelling(server.address);
    let place = format!("http://{}", proxy.address);
    for (allowed, url) in [
        ("", "http://169.254.169.254/"),
        ("", "http://2852039166/"),
        ("", "http://[::ffff:a9fe:a9fe]/"),
        ("", "http://metadata.google.internal/"),
        ("api.test", "http://other.test/"),
        ("10.0.0.0/8", "http://api.test/"),
        ("api.test:443", "http://api.test/"),
    ] {
        let error = Client::new(&through(&place, allowed)).unwrap().send(&request(url)).unwrap_err();
        assert!(matches!(error, TransportError::Refused(_)), "{allowed}: {url}: {error:?}");
    }
    assert!(asked.try_recv().is_err());
    assert_eq!(proxy.connections(), 0);
    // The proxy itself need not be listed, unless it is where no proxy would be.
    let client = Client::new(&through(&place, "api.test")).unwrap();
    assert_eq!(client.send(&request("http://api.test/")).unwrap().status, 200);
    let odd = Client::new(&through("http://169.254.169.254:3128", "api.test")).unwrap();
    let error = odd.send(&request("http://api.test/")).unwrap_err();
    assert!(matches!(&error, TransportError::Refused(why) if why.contains("169.254.169.254")), "{error:?}");
}

/// Answers CONNECT with these bytes, then whatever comes with silence.
fn answering(bytes: &'static [u8]) -> Server {
    Server::start(move |_, mut stream| {
        if read_head(&mut stream).is_some() && stream.write_all(bytes).is_ok() {
            let _ = stream.shutdown(Shutdown::Write);
            let _ = stream.read_to_end(&mut Vec::new());
        }
    })
}

#[test]
fn a_proxy_that_does_not_connect() {
    for (bytes, words) in [
        (&b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n"[..], "user or password"),
        (b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 6\r\n\r\ncanary", "status 502"),
        (b"HTTP/1.0 403 canary\r\n\r\n", "status 403"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/canary\r\n\r\n", "status 302"),
        (b"HTTP/1.1 20 OK\r\n\r\n", "did not answer in HTTP"),
        (b"HTTP/1.1 200", "closed the connection"),
        (b"", "closed the connection"),
        (b"SSH-2.0-canary\r\n\r\n", "did not answer in HTTP"),
        (b"\xff\xfe\r\n\r\n", "did not answer in HTTP"),
    ] {
        let proxy = answering(bytes);
        let error = client_through(proxy.address).send(&request("https://api.test/")).unwrap_err();
        let TransportError::Connect(why) = &error else { panic!("{error:?}") };
        assert!(why.starts_with("the proxy ") && why.contains(words) && !why.contains("canary"), "{why}");
        assert_eq!(proxy.connections(), 1, "{why}: tried again");
    }
}

#[test]
fn a_proxy_that_is_not_there() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for (proxy, words) in [
        (format!("http://user:canary@127.0.0.1:{port}"), "the proxy could not be reached"),
        ("http://user:canary@no-such-proxy.invalid:3128".to_owned(), "the proxy was not found"),
    ] {
        let client = Client::new(&through(&proxy, "")).unwrap();
        let error = client.send(&request("https://api.test/")).unwrap_err();
        let TransportError::Connect(why) = &error else { panic!("{error:?}") };
        assert!(why.contains(words) && !why.contains("canary"), "{why}");
    }
}

#[test]
fn a_hostile_proxy_has_the_same_bounds() {
    let stop = Arc::new(());
    for (what, head, piece, pause) in [
        ("silent", "", "", 1),
        ("slow", "HTTP/1.1 200 OK\r\n", "a", 5),
        ("endless", "HTTP/1.1 200 OK\r\n", "a: b\r\n", 0),
    ] {
        let held = stop.clone();
        let proxy = Server::start(move |_, mut stream| {
            let _held = held.clone();
            if read_head(&mut stream).is_none() || stream.write_all(head.as_bytes()).is_err() {
                return;
            }
            if piece.is_empty() {
                let _ = stream.read_to_end(&mut Vec::new());
            }
            while !piece.is_empty() && stream.write_all(piece.as_bytes()).is_ok() {
                std::thread::sleep(Duration::from_millis(pause));
            }
        });
        let client = client_through(proxy.address);
        let mut request = request("https://api.test/");
        request.timeout = Duration::from_millis(if pause == 0 { 20_000 } else { 300 });
        let start = Instant::now();
        let (result, peak) = peak_of(|| client.send(&request));
        let error = result.unwrap_err();
        if pause == 0 {
            assert!(matches!(&error, TransportError::Connect(why) if why.contains("too large")), "{what}: {error:?}");
        } else {
            assert_eq!(error, TransportError::Timeout, "{what}");
        }
        assert!(start.elapsed() < Duration::from_secs(5), "{what}: {:?}", start.elapsed());
        assert!(peak < 1 << 20, "{what}: {peak} bytes");
    }
}
