//! Servers that mean harm, or are broken beyond belief: bounded time and memory, rows that stay queued, a state that says why, a
//! key that goes nowhere else, and work that goes on by itself when the server is good again.

use crate::doorman::{listen, read_request, vectors};
use crate::secrets::write_file;
use autoembed_stub::{Fault, Stub, StubConfig, Vectors};
use autoembed_tests::db::literal;
use autoembed_tests::site::{DATABASE, PATIENCE};
use autoembed_tests::{Peak, Site};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{BufReader, Read, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const CANARY: &str = "sk-canary-51c0ffee";
/// What an answer may make the worker's own memory grow by, whatever is in it: a few times the largest that is read, for each
/// request under way.
const MORE_MEMORY: u64 = 48 << 20;
/// The time of a request is limited to a second; the rest is for a busy machine.
const TIMEOUT: &str = ", timeout => '1 s'";
const LONGEST_MS: f64 = 4000.0;

/// A model with a key that goes to `url`, and the table `notes` that uses it.
fn site_for(url: impl FnOnce(&Site) -> String) -> Site {
    let mut site = Site::new();
    let url = literal(&url(&site));
    let file = literal(&write_file(&mut site.db, "canary.key", CANARY, "600"));
    site.db.run(&format!(
        "SELECT autoembed.create_model('hostile', 'openai', dimensions => 16, model => 'm', url => {url}, api_key_file => {file}{TIMEOUT});
         CREATE TABLE notes (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text);
         SELECT autoembed.enable('notes', 'body', model => 'hostile');
         INSERT INTO notes (body) VALUES ('the first')"
    ));
    site.settle("notes", "body");
    site
}

/// Twenty rows meet a server that is bad, until it is good again. `state`: how the table's state begins meanwhile.
fn endure(site: &mut Site, what: &str, state: &str, good: impl FnOnce()) {
    const ROWS: i64 = 20;
    let worker = site.cluster.wait_worker(DATABASE, PATIENCE);
    let peak = Peak::of(worker);
    let before = peak.now();
    let last = site.db.int("SELECT coalesce(max(id), 0) FROM autoembed.request");
    site.db.run(&format!("INSERT INTO notes (body) SELECT '{what} ' || i FROM generate_series(1, {ROWS}) i"));
    let failed = format!("SELECT count(*) >= 2 FROM autoembed.request WHERE id > {last} AND error_code IS NOT NULL");
    site.db.until(&failed, "t", PATIENCE);
    let seen = site.until_state("notes", state);
    assert!(seen.len() < 1000, "{what}: {seen}");
    assert_eq!(
        site.status("pending + in_flight", "notes"),
        ROWS.to_string(),
        "{what}: a row is neither done nor waiting"
    );
    assert_eq!(site.failed("notes"), 0, "{what}");
    good();
    site.settle("notes", "body");
    site.until_idle("notes");
    assert_eq!(site.failed("notes"), 0, "{what}");
    let slowest: f64 =
        site.db.text(&format!("SELECT max(ms) FROM autoembed.request WHERE id > {last}")).parse().unwrap();
    let grown = peak.bytes().saturating_sub(before);
    println!(
        "{what}: {seen}\n  longest request {slowest:.0} ms, {} MB more at the peak, {} after",
        grown >> 20,
        peak.now() >> 20
    );
    assert!(slowest < LONGEST_MS, "{what}: a request took {slowest} ms");
    assert!(grown < MORE_MEMORY, "{what}: {grown} bytes more than before");
    assert_eq!(site.cluster.wait_worker(DATABASE, PATIENCE), worker, "{what}: the worker has ended");
}

/// The key is nowhere that anybody could see it.
fn assert_no_key(site: &mut Site) {
    for place in ["status", "model_state", "request", "failed", "models"] {
        let seen =
            site.db.maybe(&format!("SELECT string_agg(s::text, ' ') FROM autoembed.{place} s")).unwrap_or_default();
        assert!(!seen.contains(CANARY), "{place}: {seen}");
    }
    // But for the statement that wrote the file, if it was logged.
    assert!(!site.cluster.log().contains(CANARY), "the key is in the log");
}

#[test]
fn g38_answers_that_mean_harm() {
    let elsewhere = Stub::start(StubConfig::vectors(Vectors::Hashed(16))).unwrap();
    let mut site = site_for(|site| site.stub.url());
    let faults = [
        (Fault::Hang, "active: waiting"),
        (Fault::SlowBody { bytes: 1, interval_ms: 20 }, "active: waiting"),
        (Fault::GzipBomb(2000), "active: waiting"),
        (Fault::Endless, "active: waiting"),
        (Fault::DeepJson, "active: waiting"),
        (Fault::Html, "active: waiting"),
        (Fault::NotJson, "active: waiting"),
        (Fault::Truncate(40), "active: waiting"),
        (Fault::Redirect(Some(elsewhere.url())), "blocked: "),
    ];
    for (fault, state) in faults {
        let what = format!("{fault:?}").chars().take(24).collect::<String>();
        site.fault(fault);
        let stub = std::mem::replace(&mut site.stub, Stub::start(StubConfig::vectors(Vectors::Hashed(16))).unwrap());
        endure(&mut site, &what, state, || stub.clear());
        site.stub = stub;
    }
    assert!(site.stub.requests().iter().all(|request| request.authorization), "the key was not sent at all");
    assert_eq!(elsewhere.stats().requests, 0, "a redirect was followed");
    // A good answer with a wrong label is a good answer.
    site.fault(Fault::WrongContentType);
    site.db.run("INSERT INTO notes (body) VALUES ('labelled wrongly')");
    site.settle("notes", "body");
    assert_no_key(&mut site);
}

/// What a [`Villain`] does once it has read a request.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Good,
    /// A head of so many lines.
    Headers(usize),
    /// One header of so many bytes.
    LongHeader(usize),
    /// A head that comes byte by byte and never ends.
    DrippingHead,
    /// Word that the answer is coming, again and again.
    Continues,
    /// A length that no memory has.
    Promise,
    /// Two answers in one.
    Smuggle,
}

/// A server without manners.
struct Villain {
    address: SocketAddr,
    deed: Arc<Mutex<Deed>>,
}

impl Villain {
    fn start() -> Self {
        let deed = Arc::new(Mutex::new(Deed::Good));
        let theirs = deed.clone();
        let address = listen(move |mut stream| {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            while let Some((_, body)) = read_request(&mut reader) {
                let deed = *theirs.lock().unwrap();
                if misbehave(&mut stream, deed, &body).is_err() {
                    return;
                }
            }
        });
        Self { address, deed }
    }

    fn does(&self, deed: Deed) {
        *self.deed.lock().unwrap() = deed;
    }
}

/// An error ends the connection.
fn misbehave(stream: &mut impl Write, deed: Deed, body: &[u8]) -> std::io::Result<()> {
    let end = || Err(std::io::Error::other("enough"));
    match deed {
        Deed::Good => {
            let (status, answer) = vectors(body, 16);
            let answer = answer.to_string();
            write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{answer}", answer.len())
        }
        Deed::Headers(lines) => {
            let piece = "x-more: of the same\r\n".repeat(1000);
            stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
            for _ in 0..lines / 1000 {
                stream.write_all(piece.as_bytes())?;
            }
            stream.write_all(b"content-length: 2\r\n\r\n{}")?;
            end()
        }
        Deed::LongHeader(bytes) => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nx-long: ")?;
            for _ in 0..bytes >> 16 {
                stream.write_all(&[b'a'; 1 << 16])?;
            }
            stream.write_all(b"\r\n\r\n")?;
            end()
        }
        Deed::DrippingHead => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nx-slow: ")?;
            loop {
                stream.write_all(b"a")?;
                stream.flush()?;
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Deed::Continues => loop {
            stream.write_all("HTTP/1.1 100 Continue\r\n\r\n".repeat(100).as_bytes())?;
        },
        Deed::Promise => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 999999999999999\r\n\r\n{\"data\":[")?;
            end()
        }
        Deed::Smuggle => {
            stream.write_all(
                b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 40\r\ntransfer-encoding: chunked\r\n\r\n{}",
            )?;
            end()
        }
    }
}

#[test]
fn g38_heads_that_mean_harm() {
    let villain = Villain::start();
    let mut site = site_for(|_| format!("http://{}/v1", villain.address));
    for deed in [
        Deed::Headers(1_000_000),
        Deed::LongHeader(200 << 20),
        Deed::DrippingHead,
        Deed::Continues,
        Deed::Promise,
        Deed::Smuggle,
    ] {
        villain.does(deed);
        endure(&mut site, &format!("{deed:?}"), "active: waiting", || villain.does(Deed::Good));
    }
    assert_no_key(&mut site);
}

/// A server whose certificate can be changed while it runs; behind it all is good.
struct Secured {
    address: SocketAddr,
    config: Arc<Mutex<Arc<ServerConfig>>>,
    /// Requests that came through TLS.
    requests: Arc<Mutex<usize>>,
}

impl Secured {
    fn start(config: Arc<ServerConfig>) -> Self {
        let config = Arc::new(Mutex::new(config));
        let requests = Arc::new(Mutex::new(0));
        let (theirs, counter) = (config.clone(), requests.clone());
        let address = listen(move |stream| {
            // A kept connection would hide what a new certificate does.
            let config = theirs.lock().unwrap().clone();
            let Ok(connection) = ServerConnection::new(config) else { return };
            let mut reader = BufReader::new(StreamOwned::new(connection, stream));
            if let Some((_, body)) = read_request(&mut reader) {
                *counter.lock().unwrap() += 1;
                let (status, answer) = vectors(&body, 16);
                let answer = answer.to_string();
                let head =
                    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", answer.len());
                let stream = reader.get_mut();
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(answer.as_bytes()));
                stream.conn.send_close_notify();
                let _ = stream.flush();
                let _ = stream.sock.shutdown(std::net::Shutdown::Write);
                let _ = stream.sock.read(&mut [0]);
            }
        });
        Self { address, config, requests }
    }

    fn shows(&self, config: Arc<ServerConfig>) {
        *self.config.lock().unwrap() = config;
    }
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate by `issuer`, or by itself.
fn certificate(params: CertificateParams, issuer: Option<&CertifiedIssuer<'static, KeyPair>>) -> Arc<ServerConfig> {
    let key = KeyPair::generate().unwrap();
    let certificate = match issuer {
        Some(issuer) => params.signed_by(&key, issuer),
        None => params.self_signed(&key),
    };
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.unwrap().der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        );
    Arc::new(config.unwrap())
}

#[test]
fn g38_certificates_that_are_none() {
    let (right, wrong) = (authority(), authority());
    let named = |name: &str| CertificateParams::new(vec![name.to_owned()]).unwrap();
    let good = || certificate(named("localhost"), Some(&right));
    let secured = Secured::start(good());
    let trusted = right.pem();
    let mut site = site_for(|site| {
        let mut db = site.session();
        let file = site.cluster.socket_dir().join("ca.pem");
        std::fs::write(&file, trusted).unwrap();
        db.run(&format!("ALTER SYSTEM SET autoembed.ca_file = {}", literal(&file.display().to_string())));
        db.run("SELECT pg_reload_conf()");
        format!("https://localhost:{}/v1", secured.address.port())
    });
    let (mut expired, mut early) = (named("localhost"), named("localhost"));
    expired.not_after = rcgen::date_time_ymd(2020, 1, 1);
    early.not_before = rcgen::date_time_ymd(3000, 1, 1);
    for (what, bad) in [
        ("another name", certificate(named("example.test"), Some(&right))),
        ("expired", certificate(expired, Some(&right))),
        ("not yet valid", certificate(early, Some(&right))),
        ("self-signed", certificate(named("localhost"), None)),
        ("another authority", certificate(named("localhost"), Some(&wrong))),
    ] {
        secured.shows(bad);
        let before = *secured.requests.lock().unwrap();
        endure(&mut site, what, "active: waiting", || {
            assert_eq!(*secured.requests.lock().unwrap(), before, "{what}: a request, with its key, was sent");
            secured.shows(good());
        });
    }
    assert_no_key(&mut site);
}
