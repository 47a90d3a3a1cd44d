//! How fast the model opens and embeds, and how much private memory it takes: `cargo run --release -p autoembed-local --example throughput`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::time::{Duration, Instant};

use autoembed_local::Model;

fn private_kilobytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    let of = |name: &str| -> u64 {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
    };
    of("Private_Clean:") + of("Private_Dirty:")
}

fn main() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../share/builtin");
    // Another process has the pages too, as with many backends: only then are they counted as shared.
    let mut child = std::env::args().nth(1).is_none().then(|| {
        let own = std::env::current_exe().unwrap();
        let mut child = std::process::Command::new(own)
            .arg("hold")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let out = child.stdout.as_mut().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).unwrap();
        child
    });
    let text = "My parcel was supposed to arrive on Tuesday, but the tracking page still says that it has not left \
                the warehouse; could somebody please tell me what to do?";
    let before = private_kilobytes();
    let start = Instant::now();
    let model = Model::open(&folder).unwrap();
    let opened = start.elapsed();
    let mut out = vec![0.0; model.dimensions()];
    let start = Instant::now();
    let tokens = model.embed_into(text, &mut out).known;
    let first = start.elapsed();
    // Touch the whole table, as long use would.
    for line in std::fs::read_to_string(folder.join("tokenizer.json")).unwrap().split(',') {
        model.embed_into(line, &mut out);
    }
    if child.is_none() {
        println!("ready");
        let _ = std::io::Read::read(&mut std::io::stdin(), &mut [0]);
        return;
    }
    let memory = private_kilobytes().saturating_sub(before);
    let mut best = Duration::MAX;
    let rounds = 100_000u32;
    for _ in 0..5 {
        let start = Instant::now();
        for _ in 0..rounds {
            model.embed_into(std::hint::black_box(text), &mut out);
        }
        best = best.min(start.elapsed());
    }
    let rate = f64::from(rounds) / best.as_secs_f64();
    println!("open {opened:?}, first text {first:?}, private memory {memory} kB");
    println!("{rate:.0} texts/s of {} bytes, {tokens} tokens", text.len());
    if let Some(child) = &mut child {
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}
