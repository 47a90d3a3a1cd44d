//! A client that sees every byte, so that broken answers can be told from good ones.
#![allow(dead_code)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use autoembed_stub::{Format, Stub};
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
            // With a time limit on the socket a process that was stopped for a moment, as by a busy machine's keeper, sees this.
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => true,
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

    /// The next line, without its end.
    pub fn read_line(&mut self) -> String {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).take(end).collect();
                return String::from_utf8(line).unwrap();
            }
            assert!(self.more(), "the connection ended within a line");
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

/// Where a format's requests go, from the base URL that its clients take.
pub fn path(format: Format) -> String {
    match format {
        Format::Azure => "/azure/openai/deployments/m/embeddings?api-version=2024-10-21".to_owned(),
        Format::Ollama => "/api/embed".to_owned(),
        Format::Tei => "/embed".to_owned(),
        Format::Cohere => "/v2/embed".to_owned(),
        Format::Gemini => "/v1beta/models/m:batchEmbedContents".to_owned(),
        other => format!("/{}/v1/embeddings", other.name()),
    }
}

/// The shortest good request for floats.
pub fn request(format: Format, inputs: &[&str]) -> Value {
    match format {
        Format::OpenAi | Format::Voyage | Format::Jina | Format::Mistral | Format::Ollama => {
            json!({"model": "m", "input": inputs})
        }
        Format::Azure => json!({"input": inputs}),
        Format::Tei => json!({"inputs": inputs}),
        Format::Cohere => json!({"model": "m", "texts": inputs, "input_type": "search_document"}),
        Format::Gemini => {
            let one = |text: &&str| json!({"model": "models/m", "content": {"parts": [{"text": text}]}});
            json!({"requests": inputs.iter().map(one).collect::<Vec<_>>()})
        }
    }
}

/// The same with a field besides; for Gemini in every request of the batch.
pub fn with(mut body: Value, field: &str, value: Value) -> Value {
    match body.get_mut("requests").and_then(Value::as_array_mut) {
        Some(requests) => requests.iter_mut().for_each(|one| one[field] = value.clone()),
        None => body[field] = value,
    }
    body
}

/// The vectors of a format's answer, in the order they came.
pub fn answered(format: Format, body: &Value) -> Vec<Vec<f32>> {
    let list = |value: &Value| value.as_array().unwrap().iter().map(vector).collect();
    match format {
        Format::Ollama => list(&body["embeddings"]),
        Format::Tei => list(body),
        Format::Cohere => list(body["embeddings"].get("float").unwrap_or(&body["embeddings"]["base64"])),
        Format::Gemini => body["embeddings"].as_array().unwrap().iter().map(|one| floats(&one["values"])).collect(),
        _ => vectors(body),
    }
}

/// What a format's error says to a human.
pub fn said(format: Format, body: &Value) -> String {
    let value = match format {
        Format::OpenAi | Format::Azure | Format::Gemini => {
            body.pointer("/error/message").or_else(|| body.get("message"))
        }
        Format::Ollama | Format::Tei => body.get("error"),
        Format::Cohere => body.get("message"),
        Format::Voyage => body.get("detail"),
        Format::Jina => body.pointer("/detail/0/msg").or_else(|| body.get("detail")),
        Format::Mistral => {
            body.pointer("/message/detail/0/msg").or_else(|| body.get("message")).or_else(|| body.get("detail"))
        }
    };
    value.and_then(Value::as_str).unwrap_or_else(|| panic!("{format:?} said nothing: {body}")).to_owned()
}

/// The header line that brings a key to a format.
pub fn key_line(format: Format, key: &str) -> String {
    match format {
        Format::Azure => format!("api-key: {key}\r\n"),
        Format::Gemini => format!("x-goog-api-key: {key}\r\n"),
        _ => format!("authorization: Bearer {key}\r\n"),
    }
}
