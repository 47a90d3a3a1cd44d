use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use autoembed_core::TransportError;
use autoembed_http::{Client, ClientConfig, SharedClient};
use rcgen::{Certificate, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::client::client;
use crate::memory::peak_of;
use crate::server::{Server, answer, read_request, request};

pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A server whose certificate is for `name`.
    pub fn server(&self, name: &str) -> Server {
        self.server_with(CertificateParams::new(vec![name.to_owned()]).unwrap())
    }

    fn server_with(&self, params: CertificateParams) -> Server {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        serve(&certificate, &key)
    }

    pub fn file(&self, name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("autoembed-http-{}-{name}.pem", std::process::id()));
        std::fs::write(&path, self.0.pem()).unwrap();
        path
    }
}

fn serve(certificate: &Certificate, key: &KeyPair) -> Server {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    let config = Arc::new(config);
    Server::start(move |_, stream: TcpStream| {
        let tls = StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), stream);
        let mut reader = BufReader::new(tls);
        while read_request(&mut reader).is_some() {
            reader.get_mut().write_all(answer("200 OK", "", "{}").as_bytes()).unwrap();
        }
    })
}

fn trusting(ca_file: PathBuf) -> Client {
    let client = Client::new(&ClientConfig { ca_file: Some(ca_file.clone()), ..ClientConfig::default() }).unwrap();
    std::fs::remove_file(ca_file).unwrap();
    client
}

#[test]
fn only_the_given_authority_is_trusted_and_only_for_its_name() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = authority.server("localhost");
    let url = format!("https://localhost:{}/v1", server.address.port());
    let trusting_client = trusting(authority.file("right"));
    for _ in 0..3 {
        assert_eq!(trusting_client.send(&request(&url)).unwrap().status, 200);
    }
    assert_eq!(server.connections(), 1, "kept over TLS too");
    let by_address = format!("https://127.0.0.1:{}/v1", server.address.port());
    for (what, client, url) in [
        ("another authority", trusting(other.file("other")), &url),
        ("the system's", client(), &url),
        ("another name", trusting_client, &by_address),
    ] {
        let error = client.send(&request(url)).unwrap_err();
        assert!(matches!(error, TransportError::Tls(_)), "{what}: {error:?}");
    }
}

#[test]
fn certificates_that_are_none() {
    let authority = Authority::new();
    let named = || CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let (mut expired, mut early) = (named(), named());
    expired.not_after = rcgen::date_time_ymd(2020, 1, 1);
    early.not_before = rcgen::date_time_ymd(3000, 1, 1);
    let key = KeyPair::generate().unwrap();
    let alone = named().self_signed(&key).unwrap();
    for (what, server) in [
        ("expired", authority.server_with(expired)),
        ("not valid yet", authority.server_with(early)),
        ("self-signed", serve(&alone, &key)),
    ] {
        let url = format!("https://localhost:{}/", server.address.port());
        let start = Instant::now();
        let error = trusting(authority.file("none")).send(&request(&url)).unwrap_err();
        assert!(matches!(error, TransportError::Tls(_)), "{what}: {error:?}");
        assert!(start.elapsed() < Duration::from_secs(5), "{what}: not at once");
    }
}

#[test]
fn schemes_that_do_not_fit_the_server() {
    let plain = Server::once(answer("200 OK", "", "{}"));
    let talking = Server::start(|_, mut stream| {
        let _ = stream.write_all(answer("400 Bad Request", "", "TLS on a plain port").as_bytes());
    });
    let authority = Authority::new();
    let secured = authority.server("localhost");
    // It finds no head in what TLS sends, and closes.
    let error = client().send(&request(&format!("https://localhost:{}/", plain.address.port()))).unwrap_err();
    assert!(matches!(error, TransportError::Connect(_)), "{error:?}");
    let error = client().send(&request(&format!("https://localhost:{}/", talking.address.port()))).unwrap_err();
    assert!(matches!(error, TransportError::Tls(_)), "{error:?}");
    let error = client().send(&secured.request()).unwrap_err();
    assert!(matches!(error, TransportError::Protocol(_) | TransportError::Connect(_)), "{error:?}");
}

/// A handshake has the request's own time, however it is drawn out.
#[test]
fn a_slow_handshake() {
    for piece in [&b""[..], b"\0"] {
        let server = Server::start(move |_, mut stream| {
            // The head of a record that would be long.
            let _ = stream.write_all(b"\x16\x03\x03\x3f\xff\x02\x00\x3f\xf0");
            while stream.write_all(piece).is_ok() && !piece.is_empty() {
                std::thread::sleep(Duration::from_millis(5));
            }
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let mut request = request(&format!("https://localhost:{}/", server.address.port()));
        request.timeout = Duration::from_millis(300);
        let start = Instant::now();
        let (result, peak) = peak_of(|| client().send(&request));
        assert_eq!(result.unwrap_err(), TransportError::Timeout);
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        assert!(peak < 8 << 20, "{peak} bytes");
    }
}

#[test]
fn a_certificate_file_that_is_replaced_counts_from_then_on() {
    let (old, new) = (Authority::new(), Authority::new());
    let (server, replaced) = (old.server("localhost"), new.server("localhost"));
    let file = old.file("swapped");
    let config = ClientConfig { ca_file: Some(file.clone()), ..ClientConfig::default() };
    let shared = SharedClient::new();
    let send = |server: &Server| {
        shared.get(&config).unwrap().send(&request(&format!("https://localhost:{}/", server.address.port())))
    };
    assert!(send(&server).is_ok() && send(&server).is_ok());
    assert_eq!(server.connections(), 1, "the client was made anew without a reason");
    assert!(matches!(send(&replaced), Err(TransportError::Tls(_))));
    // As careful people replace a file: written beside it, then renamed.
    std::fs::rename(new.file("swapped-new"), &file).unwrap();
    assert!(send(&replaced).is_ok());
    assert!(matches!(send(&server), Err(TransportError::Tls(_))), "a kept connection was used");
    std::fs::write(&file, "nothing").unwrap();
    assert!(shared.get(&config).unwrap_err().message.contains("holds no certificate"));
    std::fs::remove_file(&file).unwrap();
    assert!(shared.get(&config).unwrap_err().message.contains("cannot be read"));
}

#[test]
fn a_bad_certificate_file_is_named() {
    let path = std::env::temp_dir().join(format!("autoembed-http-{}-bad.pem", std::process::id()));
    let config = ClientConfig { ca_file: Some(path.clone()), ..ClientConfig::default() };
    let missing = Client::new(&config).unwrap_err();
    std::fs::write(&path, "nothing").unwrap();
    let empty = Client::new(&config).unwrap_err();
    std::fs::write(&path, "-----BEGIN CERTIFICATE-----\n%%%\n-----END CERTIFICATE-----\n").unwrap();
    let broken = Client::new(&config).unwrap_err();
    std::fs::remove_file(&path).unwrap();
    for (error, words) in [(missing, "cannot be read"), (empty, "holds no certificate"), (broken, "is not PEM")] {
        assert!(error.message.contains(words) && error.hint.contains("autoembed.ca_file"), "{error:?}");
    }
}
