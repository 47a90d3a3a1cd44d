//! How long a full answer takes to read: 2048 vectors of 1536 dimensions, in base64 and in decimal.
//!
//! `cargo run --release -p autoembed-core --example read_answer`

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use autoembed_core::{Model, Provider, Response, provider::read_answer};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const INPUTS: usize = 2048;
const DIMENSIONS: usize = 1536;
const RUNS: usize = 30;

fn main() {
    let model = Model::new("m", Provider::OpenAi, "r", DIMENSIONS);
    let number = |i: usize, d: usize| ((i * DIMENSIONS + d) as f32).sin() / 40.0;
    for format in ["base64", "decimal"] {
        let mut body = String::from(r#"{"object":"list","data":["#);
        for i in 0..INPUTS {
            let numbers = (0..DIMENSIONS).map(|d| number(i, d));
            let embedding = if format == "base64" {
                format!("\"{}\"", STANDARD.encode(numbers.flat_map(f32::to_le_bytes).collect::<Vec<u8>>()))
            } else {
                format!("{:?}", numbers.collect::<Vec<f32>>())
            };
            let comma = if i == 0 { "" } else { "," };
            let _ = write!(body, r#"{comma}{{"object":"embedding","index":{i},"embedding":{embedding}}}"#);
        }
        body.push_str(r#"],"model":"r","usage":{"prompt_tokens":9,"total_tokens":9}}"#);
        let response = Response { status: 200, headers: Vec::new(), body: body.into_bytes() };
        let mut times: Vec<Duration> = (0..RUNS)
            .map(|_| {
                let start = Instant::now();
                let rows = read_answer(&model, INPUTS, &response).map_or(0, |answer| answer.vectors.len());
                let time = start.elapsed();
                assert_eq!(rows, INPUTS);
                time
            })
            .collect();
        times.sort();
        println!(
            "{format}: {:.1} MB, median {:.2} ms, best {:.2} ms",
            response.body.len() as f64 / 1e6,
            times[RUNS / 2].as_secs_f64() * 1e3,
            times[0].as_secs_f64() * 1e3
        );
    }
}
