//! What the embedding server of the benchmark can answer, so that nobody takes its limit for the extension's.

use super::client::Client;
use super::figures::{Rounds, Spread};
use super::report::{Section, Table};
use super::scene::{Bench, stub};
use autoembed_stub::Vectors;
use std::time::{Duration, Instant};

const BATCH: usize = 1000;

struct Ceiling {
    vectors: Vectors,
    connections: usize,
    rate: Spread,
}

/// Vectors a second by a client that throws the answers away.
pub fn measure(bench: &Bench) -> Result<Section, String> {
    let time = Duration::from_millis(bench.size.of(20, 400, 800));
    let mut all = Vec::new();
    for vectors in [Vectors::Constant(384), Vectors::Constant(1536), Vectors::Hashed(384), Vectors::Hashed(1536)] {
        for connections in [1, 4] {
            all.push(Ceiling { vectors, connections, rate: Spread::default() });
        }
    }
    let mut rounds = Rounds::new(bench.size.seconds(8, 20), 3);
    while rounds.another() {
        for one in &mut all {
            bench.check()?;
            one.rate.push(rate(one.vectors, one.connections, time)?);
        }
    }
    Ok(section(&all))
}

fn rate(vectors: Vectors, connections: usize, time: Duration) -> Result<f64, String> {
    let stub = stub(vectors, Duration::ZERO)?;
    let begun = Instant::now();
    let asked = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..connections).map(|_| scope.spawn(|| ask_for(&stub, begun, time))).collect();
        let counts = clients.into_iter().map(|client| client.join().unwrap_or_else(|_| Err("a client died".into())));
        counts.sum::<Result<usize, String>>()
    })?;
    Ok((asked * BATCH) as f64 / begun.elapsed().as_secs_f64())
}

fn ask_for(stub: &autoembed_stub::Stub, begun: Instant, time: Duration) -> Result<usize, String> {
    let mut client = Client::new(stub, BATCH).map_err(|e| e.to_string())?;
    let mut asked = 0;
    while begun.elapsed() < time {
        client.ask().map_err(|e| e.to_string())?;
        asked += 1;
    }
    Ok(asked)
}

fn section(all: &[Ceiling]) -> Section {
    let mut table = Table::new("", &["answers", "dimensions", "connections", "vectors/s"]);
    for one in all {
        let (kind, dims) = match one.vectors {
            Vectors::Constant(dims) => ("the same vector for every text", dims),
            Vectors::Hashed(dims) => ("a vector made of the text", dims),
            Vectors::Builtin => ("the built-in model", 256),
        };
        table.row([kind.into(), dims.to_string().into(), one.connections.to_string().into(), (&one.rate).into()]);
    }
    Section {
        name: "ceiling",
        title: "The embedding server",
        how: format!(
            "All else is measured with an embedding server on loopback, in the benchmark's own process. This is what it answers to a \
             client that throws the answers away, {BATCH} texts a request, base64: no rate below can be above it, and on few cores \
             its work takes from the server's."
        ),
        tables: vec![table],
        goals: Vec::new(),
        pictures: Vec::new(),
    }
}
