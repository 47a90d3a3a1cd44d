use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;

use autoembed_core::TransportError;
use autoembed_http::{Client, ClientConfig};
use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::client::client;
use crate::server::{Server, answer, read_request, request};

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A server whose certificate is for `name`.
    fn server(&self, name: &str) -> Server {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.0).unwrap();
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

    fn file(&self, name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("autoembed-http-{}-{name}.pem", std::process::id()));
        std::fs::write(&path, self.0.pem()).unwrap();
        path
    }
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
fn schemes_that_do_not_fit_the_server() {
    let plain = Server::once(answer("200 OK", "", "{}"));
    let url = format!("https://localhost:{}/", plain.address.port());
    let error = client().send(&request(&url)).unwrap_err();
    assert!(!matches!(error, TransportError::Timeout), "{error:?}");
    let authority = Authority::new();
    let server = authority.server("localhost");
    assert!(client().send(&server.request()).is_err());
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
