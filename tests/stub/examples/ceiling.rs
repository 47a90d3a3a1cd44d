//! How many vectors a second the stub answers on one connection: `cargo run --release -p autoembed-stub --example ceiling`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use autoembed_stub::{Stub, StubConfig, Vectors};

fn main() {
    for (vectors, format, batch) in [
        (Vectors::Constant(1536), "base64", 100),
        (Vectors::Constant(1536), "base64", 1000),
        (Vectors::Constant(1536), "float", 100),
        (Vectors::Hashed(1536), "base64", 1),
        (Vectors::Hashed(1536), "base64", 100),
        (Vectors::Hashed(1536), "base64", 1000),
        (Vectors::Hashed(1536), "float", 100),
        (Vectors::Builtin, "base64", 100),
        (Vectors::Builtin, "float", 100),
    ] {
        let stub = Stub::start(StubConfig::vectors(vectors)).unwrap();
        let texts: Vec<String> = (0..batch)
            .map(|i| format!("row {i}: my parcel was to arrive on Tuesday and never did; where is it now?"))
            .collect();
        let body = serde_json::json!({"model": "m", "input": texts, "encoding_format": format}).to_string();
        let request = format!("POST /v1/embeddings HTTP/1.1\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let mut stream = TcpStream::connect(stub.address()).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut buffer = vec![0; 1 << 20];
        let (start, mut count, mut bytes) = (Instant::now(), 0u32, 0);
        while start.elapsed() < Duration::from_secs(2) {
            stream.write_all(request.as_bytes()).unwrap();
            bytes += swallow(&mut stream, &mut buffer);
            count += batch;
        }
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "{vectors:?} {format}, {batch} a request: {:.0} vectors/s, {:.0} MB/s",
            f64::from(count) / seconds,
            bytes as f64 / seconds / 1e6
        );
    }
}

/// Reads one answer and forgets it; how many bytes it had.
fn swallow(stream: &mut TcpStream, buffer: &mut [u8]) -> usize {
    let (mut seen, mut total) = (0, usize::MAX);
    while seen < total {
        let count = stream.read(buffer).unwrap();
        if seen == 0 {
            // The head comes in one write, so it is in the first piece as a whole.
            let head = String::from_utf8_lossy(&buffer[..count.min(500)]).into_owned();
            let end = head.find("\r\n\r\n").unwrap() + 4;
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            total = end + length.parse::<usize>().unwrap();
        }
        seen += count;
    }
    seen
}
