//! Holding, stopping, coming back, and the program.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod client;

use std::io::{BufRead, BufReader, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use autoembed_stub::{Fault, Port, Script, Stub, StubConfig, Vectors};
use client::{Client, openai};
use serde_json::json;
use socket2::{Domain, Socket, Type};

const LONG: Duration = Duration::from_secs(20);

fn config() -> StubConfig {
    StubConfig::vectors(Vectors::Hashed(4))
}

#[test]
fn held_requests_wait_and_then_go_on() {
    let stub = Stub::start(config()).unwrap();
    stub.hold();
    let mut clients: Vec<Client> = (0..3).map(|_| Client::connect(&stub)).collect();
    assert!(!stub.wait_held(1, Duration::ZERO));
    for client in &mut clients {
        client.send("/v1/embeddings", &openai(&["a"]), "");
    }
    assert!(stub.wait_held(3, LONG));
    let stats = stub.stats();
    assert_eq!((stats.requests, stats.held, stats.in_flight, stats.max_in_flight), (3, 3, 3, 3));
    // A client that gives up is held no longer.
    drop(clients.pop());
    assert!(stub.wait_stats(LONG, |stats| stats.held == 2));
    stub.release();
    for client in &mut clients {
        assert_eq!(client.read().unwrap().status, 200);
    }
    assert!(stub.wait_stats(LONG, |stats| stats.in_flight == 0 && stats.held == 0));
    assert_eq!(Client::connect(&stub).post("/v1/embeddings", &openai(&["a"])).status, 200);
}

#[test]
fn stop_closes_everything_at_once_and_the_stub_can_come_back() {
    let mut stub = Stub::start(config()).unwrap();
    let (port, address) = (stub.port(), stub.address());
    let mut idle = Client::connect(&stub);
    assert_eq!(idle.get("/health").status, 200);
    for fault in [Fault::Hang, Fault::Endless, Fault::SlowBody { bytes: 1, interval_ms: 60_000 }] {
        stub.script(Script::first(1, fault));
        let mut busy = Client::connect(&stub);
        let before = stub.stats().requests;
        busy.send("/v1/embeddings", &openai(&["a"]), "");
        assert!(stub.wait_requests(before + 1, LONG));
        std::mem::forget(busy);
    }
    stub.hold();
    let mut held = Client::connect(&stub);
    held.send("/v1/embeddings", &openai(&["a"]), "");
    assert!(stub.wait_held(1, LONG));
    let start = Instant::now();
    stub.stop();
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(idle.read().is_none());
    assert!(held.read().is_none());
    assert_eq!(std::net::TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert_eq!(stub.stats().in_flight, 0);
    stub.stop();
    for _ in 0..5 {
        stub = stub.again(config()).unwrap();
        assert_eq!(stub.port(), port);
        assert_eq!(Client::connect(&stub).post("/v1/embeddings", &openai(&["a"])).status, 200);
        assert_eq!(stub.again(config()).err().unwrap().kind(), ErrorKind::AddrInUse);
        stub.stop();
    }
    // The first who asked has it still, whoever used it since.
    assert_eq!(Stub::start(config().port(port)).unwrap().port(), port);
}

/// Whether another program could have this port, which asks for it without sharing it.
fn can_be_had(address: SocketAddr) -> bool {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    match socket.bind(&address.into()) {
        Ok(()) => true,
        Err(error) if error.kind() == ErrorKind::AddrInUse => false,
        Err(error) => panic!("{error}"),
    }
}

/// While a stub is away, and for a time after its end, nobody else is called by those who look for it.
#[test]
fn a_port_is_nobody_elses() {
    let free = || SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let (port, second) = (Port::hold(free()).unwrap(), Port::hold(free()).unwrap());
    let address = port.address();
    assert!(address.port() != 0 && address != second.address());
    let refused = || std::net::TcpStream::connect(address).unwrap_err().kind();
    assert!(!can_be_had(address) && refused() == ErrorKind::ConnectionRefused);
    // Given back by all who had it: kept, until so many others were given back.
    let clone = port.clone();
    drop(port);
    drop(clone);
    assert!(!can_be_had(address) && refused() == ErrorKind::ConnectionRefused);
    for _ in 0..100 {
        drop(Port::hold(free()).unwrap());
    }
    assert!(!can_be_had(address));
    eventually_free(address, || drop(Port::hold(free()).unwrap()));
}

/// Tests beside this one hold ports as well, so it takes no exact number.
fn eventually_free(address: SocketAddr, one_more: impl Fn()) {
    for _ in 0..1000 {
        one_more();
        if can_be_had(address) {
            return;
        }
    }
    panic!("a port is never given back");
}

#[test]
fn only_loopback_is_listened_to() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let mut config = config();
        config.listen = address.parse().unwrap();
        let error = Stub::start(config).err().unwrap();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput, "{address}");
    }
    let stub = Stub::start(config()).unwrap();
    let taken = Stub::start(config().port(stub.port())).err().unwrap();
    assert_eq!(taken.kind(), std::io::ErrorKind::AddrInUse);
}

#[test]
fn many_connections_are_served_together() {
    let stub = Stub::start(config()).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| {
                let mut client = Client::connect(&stub);
                for _ in 0..100 {
                    assert_eq!(client.post("/v1/embeddings", &openai(&["a", "b"])).status, 200);
                }
            });
        }
    });
    let stats = stub.stats();
    assert_eq!((stats.requests, stats.inputs, stats.in_flight), (3200, 6400, 0));
    assert_eq!(stats.by_status[&200], 3200);
}

/// The program, ended when the test is.
struct Program(Child, std::net::SocketAddr);

impl Program {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_autoembed-stub"));
        let mut child = command.args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").unwrap().parse().unwrap();
        Self(child, address)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_program_is_steered_over_http_and_ends_on_sigterm() {
    let script = std::env::temp_dir().join(format!("autoembed-stub-{}.json", std::process::id()));
    std::fs::write(&script, r#"[{"do": {"fault": {"status": {"code": 418}}}, "times": 1}]"#).unwrap();
    let limits = script.with_extension("limits");
    std::fs::write(&limits, r#"{"tokens_per_input": 50}"#).unwrap();
    let mut program = Program::start(&[
        "--limits",
        limits.to_str().unwrap(),
        "--listen",
        "127.0.0.1:0",
        "--vectors",
        "builtin",
        "--script",
        script.to_str().unwrap(),
        "--record",
    ]);
    std::fs::remove_file(&script).unwrap();
    std::fs::remove_file(&limits).unwrap();
    let mut client = Client::connect_to(program.1);
    let ask = openai(&["hello"]);
    assert_eq!(client.post("/v1/embeddings", &ask).status, 418);
    assert_eq!(client.post("/v1/embeddings", &ask).status, 200);
    assert_eq!(client.post("/control/script", &json!([{"do": {"fault": "html"}}])).status, 200);
    assert_eq!(client.post("/v1/embeddings", &ask).header("content-type"), Some("text/html"));
    assert_eq!(client.post("/control/script", &json!("nonsense")).status, 400);
    assert_eq!(client.post("/control/clear", &json!({})).status, 200);
    assert_eq!(client.post("/v1/embeddings", &ask).json()["data"][0]["embedding"].as_array().unwrap().len(), 256);
    let stats = client.get("/control/stats").json();
    assert_eq!((stats["requests"].as_u64(), stats["by_status"]["418"].as_u64()), (Some(4), Some(1)));
    assert_eq!(client.post("/v1/embeddings", &openai(&[&"long ".repeat(50)])).status, 400);
    assert_eq!(client.get("/control/requests").json()[0]["inputs"], json!(["hello"]));
    assert_eq!(client.post("/control/hold", &json!({})).status, 200);
    let mut held = Client::connect_to(program.1);
    held.send("/v1/embeddings", &ask, "");
    assert_eq!(client.post("/control/release", &json!({})).status, 200);
    assert_eq!(held.read().unwrap().status, 200);
    assert_eq!(client.post("/control/reset", &json!({})).status, 200);
    assert_eq!(client.get("/control/stats").json()["requests"], 0);
    // The shell's own: a small system has no program of that name.
    let killed = Command::new("sh").args(["-c", "kill \"$0\"", &program.0.id().to_string()]).status().unwrap();
    assert!(killed.success());
    assert!(program.0.wait().unwrap().code().is_none(), "ended by the signal");
}

#[test]
fn the_program_refuses_what_it_does_not_know() {
    let cases: [&[&str]; 8] = [
        &["--listen", "0.0.0.0:0"],
        &["--listen", "here"],
        &["--vectors", "hashed"],
        &["--vectors", "builtin", "--model-dir", "/nowhere"],
        &["--loud"],
        &["--script"],
        &["--limits", "/nowhere"],
        &["--requests-per-minute", "many"],
    ];
    for arguments in cases {
        let output = Command::new(env!("CARGO_BIN_EXE_autoembed-stub")).args(arguments).output().unwrap();
        assert!(!output.status.success(), "{arguments:?}");
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.starts_with("autoembed-stub: ") && error.lines().count() == 1, "{error}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn help_names_every_option_and_control() {
    let output = Command::new(env!("CARGO_BIN_EXE_autoembed-stub")).arg("--help").output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty());
    let help = String::from_utf8(output.stdout).unwrap();
    let options =
        ["listen", "vectors", "model-dir", "latency-ms", "requests-per-minute", "limits", "key", "script", "record"];
    for option in options {
        assert!(help.contains(&format!("--{option}")), "{option}");
    }
    let stub = Stub::start(config()).unwrap();
    let mut client = Client::connect(&stub);
    let mut controls = 0;
    for line in help.lines() {
        let mut words = line.split_whitespace();
        if let (Some(method @ ("GET" | "POST")), Some(path)) = (words.next(), words.next()) {
            let answer = if method == "GET" { client.get(path) } else { client.post(path, &json!({})) };
            assert_eq!(answer.status, 200, "{method} {path} is there");
            controls += 1;
        }
    }
    assert_eq!(controls, 7);
    // The limits that it shows are limits.
    let example = help.split_once("\nPOST /control/limits").unwrap().1.split_once("; {} is none").unwrap().0;
    let first_of_each = example.replace("\"sliding\" or", "").replace("\"seconds\", \"date\", \"millis\" or", "");
    let first_of_each = first_of_each.replace("\"slower\" or", "");
    autoembed_stub::Limits::from_json(&first_of_each).unwrap();
}
