//! A client of the embedding server that does nothing with the answers: what the server itself takes.

use autoembed_stub::Stub;
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// A connection and one request, ready to be sent again and again.
pub struct Client {
    stream: TcpStream,
    request: Vec<u8>,
    buffer: Vec<u8>,
}

impl Client {
    /// Asks for the vectors of so many texts at a time.
    pub fn new(stub: &Stub, texts: usize) -> Result<Client> {
        let texts: Vec<String> = (0..texts).map(super::scene::text_of).collect();
        let body = serde_json::json!({"model": "m", "input": texts, "encoding_format": "base64"}).to_string();
        let request = format!("POST /v1/embeddings HTTP/1.1\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let stream = TcpStream::connect(stub.address())?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Client { stream, request: request.into_bytes(), buffer: vec![0; 1 << 20] })
    }

    /// Sends it, reads the answer to its end, and says how long that took.
    pub fn ask(&mut self) -> Result<Duration> {
        let begun = Instant::now();
        self.stream.write_all(&self.request)?;
        let mut head = Vec::new();
        let whole = loop {
            let count = self.stream.read(&mut self.buffer)?;
            if count == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            head.extend_from_slice(self.buffer.get(..count).unwrap_or_default());
            if let Some(whole) = whole_length(&head)? {
                break whole;
            }
        };
        let mut seen = head.len();
        while seen < whole {
            match self.stream.read(&mut self.buffer)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                count => seen += count,
            }
        }
        Ok(begun.elapsed())
    }
}

/// Bytes of head and body together, as soon as the head is there. Errors: it is no good answer.
fn whole_length(answer: &[u8]) -> Result<Option<usize>> {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head = String::from_utf8_lossy(answer.get(..end).unwrap_or_default()).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse::<usize>().ok());
    match length {
        Some(length) if head.starts_with("http/1.1 200") => Ok(Some(end + 4 + length)),
        _ => Err(Error::other(format!("no good answer: {}", head.lines().next().unwrap_or_default()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_is_that_of_head_and_body() {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n";
        assert_eq!(whole_length(head).unwrap(), Some(head.len() + 10));
        assert_eq!(whole_length(&head[..20]).unwrap(), None);
        assert!(whole_length(b"HTTP/1.1 500 Oh\r\nContent-Length: 10\r\n\r\n").is_err());
    }
}
