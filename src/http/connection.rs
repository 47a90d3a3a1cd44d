//! Connections: how they are made, what is known about them, and what went wrong with them.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Instant;

use autoembed_core::TransportError;
use autoembed_core::host::Refusal;
use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{self, ResolvedSocketAddrs};
use ureq::unversioned::transport::{
    self, Buffers, ConnectionDetails, NextTimeout, RustlsConnector, TcpConnector, Transport,
};

use crate::route::Route;
use crate::tunnel::{self, ProxyFailed};

thread_local! {
    // A request is sent and answered on one thread, deep inside ureq; this is how it tells what happened.
    static NEW_CONNECTION: Cell<bool> = const { Cell::new(false) };
    static BYTES_CAME: Cell<bool> = const { Cell::new(false) };
    static WAS_SENT: Cell<bool> = const { Cell::new(false) };
}

/// What happens to this thread's connection from now on.
pub(crate) struct Trace(());

impl Trace {
    pub(crate) fn begin() -> Self {
        NEW_CONNECTION.set(false);
        BYTES_CAME.set(false);
        WAS_SENT.set(false);
        Self(())
    }

    /// Whether a connection that had been kept was used, and brought nothing.
    pub(crate) fn was_stale(&self) -> bool {
        WAS_SENT.get() && !NEW_CONNECTION.get() && !BYTES_CAME.get()
    }
}

/// TCP to the addresses of the [`Resolver`], through the proxy where there is one, then TLS; watched.
///
/// ureq's own way through a proxy is not used: it gives each piece of the proxy's answer the whole time anew, takes no
/// more than 20 headers, and would have every host go through it.
#[derive(Debug)]
pub(crate) struct Connector {
    route: Arc<Route>,
    tcp: TcpConnector,
    tls: RustlsConnector,
}

impl Connector {
    pub(crate) fn new(route: Arc<Route>) -> Self {
        Self { route, tcp: TcpConnector::default(), tls: RustlsConnector::default() }
    }
}

impl transport::Connector for Connector {
    type Out = Watched;

    fn connect(&self, details: &ConnectionDetails<'_>, _: Option<()>) -> Result<Option<Watched>, Error> {
        NEW_CONNECTION.set(true);
        let begun = Instant::now();
        let connected = self.tcp.connect(details, None::<()>);
        let transport = match self.route.proxy_for(details.uri.host().unwrap_or_default()) {
            None => connected?,
            Some(proxy) => {
                let through = connected.map_err(tunnel::unreachable)?;
                through.map(|transport| tunnel::open(transport, proxy, details, begun)).transpose()?
            }
        };
        let secured = self.tls.connect(details, transport)?;
        Ok(secured.map(|transport| Watched(Box::new(transport))))
    }
}

#[derive(Debug)]
pub(crate) struct Watched(Box<dyn Transport>);

impl Transport for Watched {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.0.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        WAS_SENT.set(true);
        self.0.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let came = self.0.await_input(timeout)?;
        if came {
            BYTES_CAME.set(true);
        }
        Ok(came)
    }

    fn is_open(&mut self) -> bool {
        self.0.is_open()
    }

    fn is_tls(&self) -> bool {
        self.0.is_tls()
    }
}

/// The system's name lookup, and the place where addresses are judged: those that are not allowed are left out, so that
/// what is connected to is what was judged, whatever the name stands for a moment later.
///
/// Addresses need no lookup; names are looked up on a thread of their own, because the system's lookup cannot be stopped in
/// time. Where there is a proxy, its address is looked up and the host's is not.
#[derive(Debug)]
pub(crate) struct Resolver(pub(crate) Arc<Route>);

#[derive(Debug)]
struct LookupFailed(String);

impl fmt::Display for LookupFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for LookupFailed {}

impl resolver::Resolver for Resolver {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let host = uri.host().unwrap_or_default();
        let default_port = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        let port = uri.port_u16().unwrap_or(default_port);
        let proxy = self.0.proxy_for(host);
        let found = match proxy {
            Some(proxy) => addresses(&proxy.host, proxy.port, timeout).map_err(tunnel::unreachable)?,
            None => addresses(host, port, timeout)?,
        };
        let mut refused = None;
        let mut judged = self.empty();
        for address in config.ip_family().keep_wanted(found.into_iter()) {
            let verdict = match proxy {
                Some(_) => self.0.allowed.permits_proxy(address.ip(), address.port()),
                None => self.0.allowed.permits_address(host, address.ip(), address.port()),
            };
            match verdict {
                // ureq's list has room for 16.
                Ok(()) if judged.len() < 16 => judged.push(address),
                Ok(()) => break,
                Err(refusal) => refused = Some(refusal),
            }
        }
        match refused {
            _ if !judged.is_empty() => Ok(judged),
            Some(refusal) => Err(Error::Other(Box::new(refusal))),
            None => Err(Error::HostNotFound),
        }
    }
}

fn addresses(host: &str, port: u16, timeout: NextTimeout) -> Result<Vec<SocketAddr>, Error> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<IpAddr>() {
        Ok(address) => Ok(vec![SocketAddr::new(address, port)]),
        Err(_) => look_up(bare.to_owned(), port, timeout),
    }
}

fn look_up(host: String, port: u16, timeout: NextTimeout) -> Result<Vec<SocketAddr>, Error> {
    let (sender, receiver) = mpsc::sync_channel(1);
    // The thread inherits this thread's blocked signals.
    thread::Builder::new().name("autoembed-dns".to_owned()).spawn(move || {
        let found = (host.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>);
        // Nobody waits any more if it took too long.
        let _ = sender.send(found);
    })?;
    match receiver.recv_timeout(*timeout.after) {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => Err(Error::Other(Box::new(LookupFailed(error.to_string())))),
        Err(RecvTimeoutError::Timeout) => Err(Error::Timeout(timeout.reason)),
        Err(RecvTimeoutError::Disconnected) => Err(Error::HostNotFound),
    }
}

/// What a failure before the end of the answer's head means.
pub(crate) fn explain(error: &Error) -> TransportError {
    match error {
        Error::Timeout(_) => TransportError::Timeout,
        Error::HostNotFound => TransportError::Dns("the name has no address".to_owned()),
        Error::Other(why) if why.is::<LookupFailed>() => TransportError::Dns(why.to_string()),
        Error::Other(why) if why.is::<Refusal>() => TransportError::Refused(why.to_string()),
        Error::Other(why) if why.is::<ProxyFailed>() => TransportError::Connect(why.to_string()),
        Error::Tls(why) => TransportError::Tls((*why).to_owned()),
        Error::Rustls(why) => TransportError::Tls(why.to_string()),
        Error::TlsRequired => TransportError::Tls("the connection is not encrypted".to_owned()),
        Error::Io(why) => explain_io(why),
        Error::ConnectionFailed => TransportError::Connect("no connection".to_owned()),
        Error::LargeResponseHeader(..) => TransportError::Protocol("the answer's headers are too large".to_owned()),
        Error::Protocol(why) => TransportError::Protocol(why.to_string()),
        // Others cannot come from a server; some repeat the url, which may carry a key.
        _ => TransportError::Protocol("the request could not be sent".to_owned()),
    }
}

/// What a failure within the body means.
pub(crate) fn explain_body(error: io::Error) -> TransportError {
    match explain(&Error::from(error)) {
        TransportError::Connect(why) => TransportError::Protocol(format!("the answer broke off: {why}")),
        other => other,
    }
}

fn explain_io(error: &io::Error) -> TransportError {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => TransportError::Timeout,
        // rustls reports what the peer did wrong in the handshake, or with its certificate, in this way.
        io::ErrorKind::InvalidData => TransportError::Tls(error.to_string()),
        io::ErrorKind::UnexpectedEof => TransportError::Connect("the server closed the connection".to_owned()),
        _ => TransportError::Connect(error.to_string()),
    }
}
