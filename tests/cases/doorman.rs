//! A server that lets nobody in without the right key, and a proxy. Both end with the test's process.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// Answers requests in OpenAI's format with `hashed_vector`, if their head holds the key; otherwise with 401 and, as the worst
/// of servers, with all that it was sent.
pub struct Doorman {
    address: SocketAddr,
    key: Arc<Mutex<String>>,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Doorman {
    /// `dims`: of the vectors. The empty key lets everybody in.
    pub fn start(key: &str, dims: usize) -> Self {
        Self::saying(key, dims, str::to_owned)
    }

    /// `say` makes of the head of a request what is said of it.
    pub fn saying(key: &str, dims: usize, say: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        let key = Arc::new(Mutex::new(key.to_owned()));
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (wanted, seen) = (key.clone(), heads.clone());
        let address = listen(move |stream| {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut stream = stream;
            while let Some((head, body)) = read_request(&mut reader) {
                seen.lock().unwrap().push(head.clone());
                let (status, answer) = if head.contains(wanted.lock().unwrap().as_str()) {
                    vectors(&body, dims)
                } else {
                    refusal(&say(&head))
                };
                let answer = answer.to_string();
                let length = answer.len();
                let answer = format!(
                    "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nx-echo: {}\r\n\r\n{answer}",
                    head.lines().nth(3).unwrap_or_default()
                );
                if stream.write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
        });
        Self { address, key, heads }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Another key is right from now on.
    pub fn change_lock(&self, key: &str) {
        key.clone_into(&mut self.key.lock().unwrap());
    }

    /// The heads of the requests since the last call, in lower case but for the keys.
    pub fn heads(&self) -> Vec<String> {
        std::mem::take(&mut self.heads.lock().unwrap())
    }
}

/// Answers all requests of a connection, whoever asks.
pub fn answer_all<S: Read + Write>(mut stream: BufReader<S>, dims: usize) {
    while let Some((_, body)) = read_request(&mut stream) {
        let (status, answer) = vectors(&body, dims);
        let answer = answer.to_string();
        let head =
            format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", answer.len());
        if stream.get_mut().write_all((head + &answer).as_bytes()).is_err() {
            return;
        }
    }
}

/// The answer in OpenAI's format, with its status.
pub fn vectors(body: &[u8], dims: usize) -> (&'static str, Value) {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let inputs = body["input"].as_array().cloned().unwrap_or_default();
    let data = inputs.iter().enumerate().map(|(index, input)| {
        json!({"index": index, "embedding": autoembed_stub::hashed_vector(input.as_str().unwrap_or_default(), dims)})
    });
    ("200 OK", json!({"data": data.collect::<Vec<_>>(), "usage": {"total_tokens": 1}}))
}

/// Every provider's way to say it at once.
fn refusal(head: &str) -> (&'static str, Value) {
    let said = format!("this is not the key: {head}");
    (
        "401 Unauthorized",
        json!({"error": {"message": said, "code": said, "type": said}, "message": said, "detail": said}),
    )
}

/// A proxy that lets nobody through, and says why with all that it was sent.
pub fn refusing_proxy() -> SocketAddr {
    listen(|stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut stream = stream;
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        let line = head.replace("\r\n", " ");
        let body = json!({"error": {"message": head}}).to_string();
        let _ = stream.write_all(
            format!("HTTP/1.1 407 {line}\r\ncontent-type: application/json\r\nx-echo: {line}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).as_bytes(),
        );
    })
}

/// A proxy that connects whatever it is asked for to `upstream`, and keeps the heads of what it was asked.
pub struct Proxy {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    pub fn start(upstream: SocketAddr) -> Self {
        let heads = Arc::new(Mutex::new(Vec::new()));
        let seen = heads.clone();
        let address = listen(move |mut stream| {
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") {
                if stream.read_exact(&mut byte).is_err() {
                    return;
                }
                head.push(byte[0]);
            }
            seen.lock().unwrap().push(String::from_utf8_lossy(&head).into_owned());
            let (Ok(mut there), Ok(mut back)) = (TcpStream::connect(upstream), stream.try_clone()) else { return };
            let Ok(mut from) = there.try_clone() else { return };
            if stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").is_err() {
                return;
            }
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut back);
                let _ = back.shutdown(Shutdown::Both);
            });
            let _ = std::io::copy(&mut stream, &mut there);
            let _ = there.shutdown(Shutdown::Both);
        });
        Self { address, heads }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it was asked since the last call.
    pub fn heads(&self) -> Vec<String> {
        std::mem::take(&mut self.heads.lock().unwrap())
    }
}

/// Serves each connection on a thread of its own; where.
pub fn listen(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let serve = serve.clone();
            std::thread::spawn(move || serve(stream));
        }
    });
    address
}

/// Head and body of the next request; `None`: the client is gone.
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
