//! HTTP: bytes out, status and bytes in.
//!
//! What is at the other end is slow, broken or hostile until shown otherwise: the time of a request is limited as a
//! whole, the answer in bytes as they come (nothing is decompressed), no redirect is followed (it would carry the key
//! along), hosts that are not allowed are not asked, the environment's proxies are not used. Nothing is retried here but for one case, see [`Client::send`]; nothing
//! is logged. Nothing here knows of Postgres, so it may run on threads: see [`pool`].
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use autoembed_core::TransportError;
use autoembed_core::provider::{Request, Response};
use autoembed_core::url::Url;
use ureq::http::{self, HeaderName, HeaderValue};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig};
use ureq::{Agent, Body};

mod connection;
pub mod pool;
mod route;
mod shared;
mod tunnel;

pub use pool::{Panicked, Pool};
pub use route::{Proxy, Route};
pub use shared::SharedClient;

use connection::{Connector, Resolver, Trace};

/// Of an answer that is an error message, so much is read.
const MAX_ERROR_BODY: u64 = 64 * 1024;

/// Timeouts are the models'; more different ones than this are not kept apart for long.
const MAX_AGENTS: usize = 32;

/// What all requests have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientConfig {
    /// PEM file with the certificates to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Connections kept open while idle, in all and for each host.
    pub max_connections: usize,
    /// Where requests may go, and through what.
    pub route: Route,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self { ca_file: None, max_connections: 16, route: Route::default() }
    }
}

/// What is wrong with a [`ClientConfig`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// One lower-case sentence.
    pub message: String,
    /// What to do.
    pub hint: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ConfigError {}

/// Sends requests and keeps connections open between them. Clones share them.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    tls: TlsConfig,
    route: Arc<Route>,
    max_connections: usize,
    /// One for each timeout: ureq would read the trusted certificates anew for each connection of a request that
    /// brings settings of its own.
    agents: Mutex<HashMap<Duration, Agent>>,
    /// Keeps no connection, so whatever it uses is new.
    fresh: Agent,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

impl Client {
    /// A client without connections yet.
    ///
    /// # Errors
    /// The file of certificates cannot be read or holds none.
    pub fn new(config: &ClientConfig) -> Result<Self, ConfigError> {
        let roots = match &config.ca_file {
            Some(path) => RootCerts::new_with_certs(&read_certificates(path)?),
            None => RootCerts::PlatformVerifier,
        };
        let tls = TlsConfig::builder().root_certs(roots).build();
        let route = Arc::new(config.route.clone());
        let fresh = agent(&tls, &route, 0, None);
        let max_connections = config.max_connections;
        Ok(Self(Arc::new(Inner { tls, route, max_connections, agents: Mutex::default(), fresh })))
    }

    /// Posts a request and reads its answer; blocks for the request's timeout at most.
    ///
    /// Any status but a redirect is an answer. Of an answer that is no success only the first 64 KiB are read.
    ///
    /// A connection that was kept open may have been closed by the server at the very moment of its use. Embedding the
    /// same texts twice does no harm, so if a request fails on such a connection before a single byte of the answer has
    /// come, it is sent once more, on a new connection and in what is left of its time.
    ///
    /// # Errors
    /// [`TransportError`]: no answer, an incomplete or compressed one, one larger than the request allows, a redirect, or a
    /// host that is not allowed.
    pub fn send(&self, request: &Request) -> Result<Response, TransportError> {
        let url = Url::parse(&request.url).map_err(|_| unusable_url())?;
        self.0.route.permits(&url).map_err(|refusal| TransportError::Refused(refusal.to_string()))?;
        let start = Instant::now();
        let trace = Trace::begin();
        match self.0.attempt(&self.0.agent(request.timeout), request, None) {
            Err(error) if trace.was_stale() && matches!(error, TransportError::Connect(_) | TransportError::Tls(_)) => {
                let left = request.timeout.saturating_sub(start.elapsed());
                if left.is_zero() {
                    return Err(TransportError::Timeout);
                }
                self.0.attempt(&self.0.fresh, request, Some(left))
            }
            result => result,
        }
    }
}

impl Inner {
    fn agent(&self, timeout: Duration) -> Agent {
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if agents.len() >= MAX_AGENTS && !agents.contains_key(&timeout) {
            agents.clear();
        }
        agents
            .entry(timeout)
            .or_insert_with(|| agent(&self.tls, &self.route, self.max_connections, Some(timeout)))
            .clone()
    }

    fn attempt(&self, agent: &Agent, request: &Request, timeout: Option<Duration>) -> Result<Response, TransportError> {
        let mut post = http::Request::post(request.url.as_str());
        for (name, value) in &request.headers {
            let unusable = || TransportError::Protocol("a header of the request is not usable".to_owned());
            let name = HeaderName::try_from(name).map_err(|_| unusable())?;
            let secret = matches!(value, autoembed_core::provider::HeaderValue::Secret(_));
            let mut value = HeaderValue::try_from(value.expose()).map_err(|_| unusable())?;
            value.set_sensitive(secret);
            post = post.header(name, value);
        }
        let post = post.body(request.body.as_slice()).map_err(|_| unusable_url())?;
        let answer = match timeout {
            None => agent.run(post),
            Some(left) => agent.run(agent.configure_request(post).timeout_global(Some(left)).build()),
        };
        read(answer.map_err(|error| connection::explain(&error))?, request.max_response_bytes)
    }
}

fn unusable_url() -> TransportError {
    TransportError::Protocol("the url is not usable".to_owned())
}

fn agent(tls: &TlsConfig, route: &Arc<Route>, max_connections: usize, timeout: Option<Duration>) -> Agent {
    let config = Agent::config_builder()
        .tls_config(tls.clone())
        .proxy(None)
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(concat!("autoembed/", env!("CARGO_PKG_VERSION")))
        .accept_encoding("identity")
        .max_idle_connections(max_connections)
        .max_idle_connections_per_host(max_connections)
        .timeout_global(timeout)
        .build();
    Agent::with_parts(config, Connector::new(route.clone()), Resolver(route.clone()))
}

fn read(answer: http::Response<Body>, max_bytes: u64) -> Result<Response, TransportError> {
    let (parts, body) = answer.into_parts();
    let status = parts.status.as_u16();
    if parts.status.is_redirection() {
        return Err(TransportError::Redirect(status));
    }
    let headers = parts
        .headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    let success = parts.status.is_success();
    if is_compressed(&parts.headers) {
        if success {
            return Err(TransportError::Protocol("the answer is compressed, which was not asked for".to_owned()));
        }
        // An error's number counts, even if its words cannot be read.
        return Ok(Response { status, headers, body: Vec::new() });
    }
    let cap = if success { max_bytes } else { MAX_ERROR_BODY.min(max_bytes) };
    let said = body.content_length();
    if success && said.is_some_and(|length| length > cap) {
        return Err(TransportError::TooLarge);
    }
    // The server's word for the length is taken only as far as the cap goes, and memory is used only when filled.
    let mut bytes = Vec::with_capacity(usize::try_from(said.unwrap_or(0).min(cap)).unwrap_or(0));
    let read = body.into_with_config().limit(u64::MAX).reader().take(cap.saturating_add(1)).read_to_end(&mut bytes);
    let too_large = bytes.len() as u64 > cap;
    match read {
        Ok(_) if success && too_large => return Err(TransportError::TooLarge),
        Err(error) if success => return Err(connection::explain_body(error)),
        // An error message that is cut is still one.
        Ok(_) | Err(_) => bytes.truncate(usize::try_from(cap).unwrap_or(usize::MAX)),
    }
    Ok(Response { status, headers, body: bytes })
}

/// Whether a body would have to be decoded, which would let the server choose how much memory that takes.
fn is_compressed(headers: &http::HeaderMap) -> bool {
    let mut encodings = headers.get_all(http::header::CONTENT_ENCODING).iter();
    encodings.any(|value| !value.is_empty() && !value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity"))
}

fn read_certificates(path: &PathBuf) -> Result<Vec<Certificate<'static>>, ConfigError> {
    let wrong = |what: &str| {
        ConfigError {
        message: format!("the certificate file \"{}\" {what}", path.display()),
        hint: "Set autoembed.ca_file to a PEM file that the server's operating system user can read, or leave it empty for the system's certificates.".to_owned(),
    }
    };
    let pem = std::fs::read(path).map_err(|error: io::Error| wrong(&format!("cannot be read: {error}")))?;
    let mut certificates = Vec::new();
    for item in ureq::tls::parse_pem(&pem) {
        match item {
            Ok(PemItem::Certificate(certificate)) => certificates.push(certificate),
            Ok(_) => {}
            Err(_) => return Err(wrong("is not PEM")),
        }
    }
    if certificates.is_empty() { Err(wrong("holds no certificate")) } else { Ok(certificates) }
}
