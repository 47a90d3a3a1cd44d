//! A client that sees every byte, so that broken answers can be told from good ones.
#![allow(dead_code)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use autoembed_stub::Stub;
use base64::Engine;
use serde_json::{Value, json};

/// Longest that any test waits for a byte: a stub that hangs fails the test instead of the whole run.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Client {
    pub stream: TcpStream,
    buffer: Vec<u8>,
}

/// An answer. `complete` is false if the connection ended before the body did.
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub complete: bool,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|header| header.0 == name).map(|header| header.1.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

impl Client {
    pub fn connect(stub: &Stub) -> Self {
        Self::connect_to(stub.address())
    }

    pub fn connect_to(address: std::net::SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub fn send(&mut self, path: &str, body: &Value, headers: &str) {
        let body = body.to_string();
        let length = body.len();
        let head = format!("POST {path} HTTP/1.1\r\nhost: stub\r\n{headers}content-length: {length}\r\n\r\n");
        self.send_raw(format!("{head}{body}").as_bytes());
    }

    pub fn post(&mut self, path: &str, body: &Value) -> Answer {
        self.post_with(path, body, "")
    }

    pub fn post_with(&mut self, path: &str, body: &Value, headers: &str) -> Answer {
        self.send(path, body, headers);
        self.read().unwrap()
    }

    pub fn get(&mut self, path: &str) -> Answer {
        self.send_raw(format!("GET {path} HTTP/1.1\r\nhost: stub\r\n\r\n").as_bytes());
        self.read().unwrap()
    }

    /// Reads what is there; false if the connection has ended.
    fn more(&mut self) -> bool {
        let mut piece = [0; 1 << 16];
        match self.stream.read(&mut piece) {
            Ok(count) => {
                self.buffer.extend_from_slice(&piece[..count]);
                count > 0
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => false,
            Err(error) => panic!("no answer: {error}"),
        }
    }

    /// The head alone.
    pub fn read_head(&mut self) -> Option<Answer> {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
                let head = String::from_utf8(head).unwrap();
                let mut lines = head.trim_end().split("\r\n");
                let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
                let header = |line: &str| {
                    let (name, value) = line.split_once(": ").unwrap();
                    (name.to_ascii_lowercase(), value.to_owned())
                };
                return Some(Answer {
                    status,
                    headers: lines.map(header).collect(),
                    body: Vec::new(),
                    complete: false,
                });
            }
            if !self.more() {
                assert!(self.buffer.is_empty(), "the connection ended within a head");
                return None;
            }
        }
    }

    /// The next answer with a length, or `None` if the connection was closed instead.
    pub fn read(&mut self) -> Option<Answer> {
        let mut answer = self.read_head()?;
        let length: usize = answer.header("content-length").unwrap().parse().unwrap();
        while self.buffer.len() < length && self.more() {}
        answer.complete = self.buffer.len() >= length;
        let taken = length.min(self.buffer.len());
        answer.body = self.buffer.drain(..taken).collect();
        Some(answer)
    }
}

pub fn openai(inputs: &[&str]) -> Value {
    json!({"model": "m", "input": inputs, "encoding_format": "float"})
}

pub fn ollama(inputs: &[&str]) -> Value {
    json!({"model": "m", "input": inputs})
}

pub fn floats(value: &Value) -> Vec<f32> {
    serde_json::from_value(value.clone()).unwrap()
}

/// The vectors of an OpenAI answer, in the order they came, floats or base64.
pub fn vectors(body: &Value) -> Vec<Vec<f32>> {
    let items = body["data"].as_array().unwrap();
    items.iter().map(|item| vector(&item["embedding"])).collect()
}

pub fn vector(value: &Value) -> Vec<f32> {
    match value.as_str() {
        Some(text) => {
            let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
            bytes.chunks(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect()
        }
        None => floats(value),
    }
}
