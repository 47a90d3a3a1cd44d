//! A server with a certificate that nobody here knows.

use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::BufReader;
use std::sync::Arc;

/// Answers requests in OpenAI's format with `hashed_vector`; ends with the test's process.
pub struct Guarded {
    /// Its url.
    pub url: String,
    /// The certificate of its authority, as PEM.
    pub authority: String,
}

/// Starts it, with a certificate for `localhost`.
pub fn start(dims: usize) -> Guarded {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    let config = Arc::new(config);
    let address = crate::doorman::listen(move |stream| {
        let tls = StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), stream);
        crate::doorman::answer_all(BufReader::new(tls), dims);
    });
    Guarded { url: format!("https://localhost:{}/v1", address.port()), authority: authority.pem() }
}
