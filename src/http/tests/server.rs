//! Servers made of a closure that is handed each connection.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use autoembed_core::Secret;
use autoembed_core::provider::{HeaderValue, Request};

/// A server on loopback; it ends with the test's process.
pub struct Server {
    pub address: SocketAddr,
    pub connections: Arc<AtomicUsize>,
}

impl Server {
    /// `serve` is called on a thread of its own for each connection, with the connection's number from 0.
    pub fn start(serve: impl Fn(usize, TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let (counter, serve) = (connections.clone(), Arc::new(serve));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let number = counter.fetch_add(1, Ordering::SeqCst);
                let serve = serve.clone();
                std::thread::spawn(move || serve(number, stream));
            }
        });
        Self { address, connections }
    }

    /// Answers the first request of each connection with these bytes and closes.
    pub fn once(answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        Self::start(move |_, mut stream| {
            if read_request(&mut BufReader::new(&stream)).is_some() {
                // The client may have gone already.
                let _ = stream.write_all(&answer);
            }
        })
    }

    pub fn request(&self) -> Request {
        request(&format!("http://{}/v1/embeddings", self.address))
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

pub fn request(url: &str) -> Request {
    Request {
        url: url.to_owned(),
        headers: vec![
            ("content-type".to_owned(), HeaderValue::Plain("application/json".to_owned())),
            ("authorization".to_owned(), HeaderValue::Secret(Secret::new("Bearer canary").unwrap())),
        ],
        body: b"{\"input\":[\"a\"]}".to_vec(),
        timeout: Duration::from_secs(20),
        max_response_bytes: 1000,
    }
}

/// Head and body of the next request; `None` when the client is gone.
pub fn read_request(stream: &mut impl BufRead) -> Option<(String, Vec<u8>)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let length =
        head.to_ascii_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).ok()?;
    Some((head, body))
}

pub fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len())
}
