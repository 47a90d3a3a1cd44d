//! HTTP/1.1 from the server's side, with the raw connection in reach so that faults can break the rules.

use std::io::{self, Read, Write};
use std::net::TcpStream;

/// Largest head of a request.
const MAX_HEAD: usize = 64 << 10;
/// Largest body of a request: far above what any provider takes.
const MAX_BODY: usize = 256 << 20;
/// Bodies up to this are written together with their head.
const SMALL: usize = 16 << 10;

/// A request, read to its end.
pub(crate) struct Request {
    pub(crate) method: String,
    /// Without the query.
    pub(crate) path: String,
    /// What follows the question mark; empty without one.
    pub(crate) query: String,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    pub(crate) keep_alive: bool,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// The value of a header, by its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|header| header.0 == name).map(|header| header.1.as_str())
    }
}

/// An answer to be sent with its right length.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn json(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, content_type: "application/json", headers: Vec::new(), body: body.into() }
    }

    pub(crate) fn labelled(mut self, content_type: &'static str) -> Self {
        self.content_type = content_type;
        self
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// The head, up to and including the empty line. `length` is what `content-length` says; `None` announces chunks.
    pub(crate) fn head(&self, length: Option<usize>, keep_alive: bool) -> Vec<u8> {
        let mut head =
            format!("HTTP/1.1 {} {}\r\ncontent-type: {}\r\n", self.status, reason(self.status), self.content_type);
        match length {
            Some(length) => head.push_str(&format!("content-length: {length}\r\n")),
            None => head.push_str("transfer-encoding: chunked\r\n"),
        }
        if !keep_alive {
            head.push_str("connection: close\r\n");
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        head.into_bytes()
    }
}

/// A client's connection: the stream, and what was read beyond the last request.
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
}

struct Head {
    request: Request,
    size: usize,
    length: usize,
    chunked: bool,
    wants_continue: bool,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    /// The next request, or `None` if the client has closed. What is not HTTP is an error, and the connection is to be closed.
    pub(crate) fn read_request(&mut self) -> io::Result<Option<Request>> {
        let head = loop {
            if let Some(head) = parse_head(&self.buffer)? {
                break head;
            }
            if self.buffer.len() > MAX_HEAD {
                return Err(invalid("the head is too large"));
            }
            if !self.read_more()? {
                return if self.buffer.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        };
        self.buffer.drain(..head.size);
        let mut request = head.request;
        if head.wants_continue && self.buffer.is_empty() {
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        request.body = if head.chunked { self.read_chunks()? } else { self.read_exactly(head.length)? };
        Ok(Some(request))
    }

    /// Reads what is there; false at the end.
    fn read_more(&mut self) -> io::Result<bool> {
        let mut piece = [0; 64 << 10];
        let count = self.stream.read(&mut piece)?;
        self.buffer.extend_from_slice(piece.get(..count).unwrap_or_default());
        Ok(count > 0)
    }

    fn read_exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        if length > MAX_BODY {
            return Err(invalid("the body is too large"));
        }
        self.buffer.reserve(length.saturating_sub(self.buffer.len()));
        while self.buffer.len() < length {
            if !self.read_more()? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let rest = self.buffer.split_off(length);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }

    fn read_chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.read_line()?;
            let digits = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(digits, 16).map_err(|_| invalid("a chunk has no size"))?;
            if size == 0 {
                while !self.read_line()?.is_empty() {}
                return Ok(body);
            }
            if body.len().saturating_add(size) > MAX_BODY {
                return Err(invalid("the body is too large"));
            }
            body.append(&mut self.read_exactly(size)?);
            if !self.read_line()?.is_empty() {
                return Err(invalid("a chunk is longer than it says"));
            }
        }
    }

    fn read_line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).take(end).collect();
                return String::from_utf8(line).map_err(|_| invalid("a line is not text"));
            }
            if self.buffer.len() > MAX_HEAD {
                return Err(invalid("a line is too long"));
            }
            if !self.read_more()? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Sends a whole answer.
    pub(crate) fn send(&mut self, response: &Response, keep_alive: bool) -> io::Result<()> {
        let mut head = response.head(Some(response.body.len()), keep_alive);
        if response.body.len() <= SMALL {
            head.extend_from_slice(&response.body);
            self.stream.write_all(&head)
        } else {
            self.stream.write_all(&head)?;
            self.stream.write_all(&response.body)
        }
    }

    /// Whether the client has closed or broken the connection. Looks without waiting and without taking bytes.
    pub(crate) fn client_has_gone(stream: &TcpStream) -> bool {
        let mut byte = [0];
        if stream.set_nonblocking(true).is_err() {
            return true;
        }
        let gone = match stream.peek(&mut byte) {
            Ok(count) => count == 0,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        };
        stream.set_nonblocking(false).is_err() || gone
    }
}

fn parse_head(buffer: &[u8]) -> io::Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Request::new(&mut headers);
    let size = match parsed.parse(buffer).map_err(|error| invalid(&error.to_string()))? {
        httparse::Status::Complete(size) => size,
        httparse::Status::Partial => return Ok(None),
    };
    let target = parsed.path.unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut head = Head {
        request: Request {
            method: parsed.method.unwrap_or_default().to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            headers: Vec::with_capacity(parsed.headers.len()),
            keep_alive: parsed.version == Some(1),
            body: Vec::new(),
        },
        size,
        length: 0,
        chunked: false,
        wants_continue: false,
    };
    for header in parsed.headers.iter() {
        let value = String::from_utf8_lossy(header.value);
        let value = value.trim();
        let name = header.name.to_ascii_lowercase();
        match name.as_str() {
            "content-length" => head.length = value.parse().map_err(|_| invalid("the length is no number"))?,
            "transfer-encoding" => head.chunked = value.eq_ignore_ascii_case("chunked"),
            "connection" if value.eq_ignore_ascii_case("close") => head.request.keep_alive = false,
            "expect" => head.wants_continue = value.eq_ignore_ascii_case("100-continue"),
            _ => {}
        }
        head.request.headers.push((name, value.to_owned()));
    }
    Ok(Some(head))
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        302 => "Found",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        422 => "Unprocessable Content",
        424 => "Failed Dependency",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Other",
    }
}
