//! The way through a proxy: a tunnel by CONNECT, for https and http alike, so that the proxy learns no more than host and
//! port, and TLS is with the host itself.

use std::fmt;
use std::time::Instant;

use ureq::Error;
use ureq::unversioned::transport::time::Duration;
use ureq::unversioned::transport::{ConnectionDetails, NextTimeout, Transport};

use crate::connection;
use crate::route::Proxy;

/// An answer to CONNECT has no body that counts and few headers.
const MAX_HEAD: usize = 16 * 1024;

/// What went wrong with the proxy, not with the host behind it.
#[derive(Debug)]
pub(crate) struct ProxyFailed(String);

impl fmt::Display for ProxyFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the proxy {}", self.0)
    }
}

impl std::error::Error for ProxyFailed {}

fn failed(what: impl Into<String>) -> Error {
    Error::Other(Box::new(ProxyFailed(what.into())))
}

/// The same failure, said of the proxy. A timeout and a refusal stay what they are.
pub(crate) fn unreachable(error: Error) -> Error {
    match error {
        error @ Error::Timeout(_) => error,
        Error::Io(why) if why.kind() == std::io::ErrorKind::TimedOut => Error::Io(why),
        Error::Io(why) => failed(format!("could not be reached: {why}")),
        error => match connection::explain(&error) {
            autoembed_core::TransportError::Dns(why) => failed(format!("was not found: {why}")),
            _ => error,
        },
    }
}

/// Makes `transport`, a connection to the proxy, one to the host of `details`. `begun` is when the time of `details` began.
///
/// The whole exchange has what is left of that time; the answer is read up to [`MAX_HEAD`].
pub(crate) fn open<T: Transport>(
    mut transport: T,
    proxy: &Proxy,
    details: &ConnectionDetails<'_>,
    begun: Instant,
) -> Result<T, Error> {
    let left = || left_of(details.timeout, begun);
    let head = request(proxy, details)?;
    let output = transport.buffers().output();
    let place = output.get_mut(..head.len()).ok_or_else(|| failed("cannot be asked for such a long name"))?;
    place.copy_from_slice(head.as_bytes());
    transport.transmit_output(head.len(), left()?).map_err(unreachable)?;
    loop {
        let input = transport.buffers().input();
        if let Some(end) = end_of_head(input) {
            let verdict = judge(&input[..end]);
            transport.buffers().input_consume(end);
            return verdict.map(|()| transport);
        }
        if input.len() > MAX_HEAD {
            return Err(failed("answered with headers that are too large"));
        }
        let came = transport.await_input(left()?).map_err(|error| match error {
            Error::Io(why) if why.kind() != std::io::ErrorKind::TimedOut => failed(format!("broke off: {why}")),
            error => error,
        })?;
        if !came {
            return Err(failed("closed the connection without an answer"));
        }
    }
}

fn left_of(mut timeout: NextTimeout, begun: Instant) -> Result<NextTimeout, Error> {
    if !timeout.after.is_not_happening() {
        let left = timeout.after.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Err(Error::Timeout(timeout.reason));
        }
        timeout.after = Duration::from(left);
    }
    Ok(timeout)
}

fn request(proxy: &Proxy, details: &ConnectionDetails<'_>) -> Result<String, Error> {
    let host = details.uri.host().filter(|host| !host.is_empty()).ok_or_else(|| failed("was given no host"))?;
    let port = details.uri.port_u16().unwrap_or(if details.needs_tls() { 443 } else { 80 });
    let authorization =
        proxy.authorization().map(|value| format!("Proxy-Authorization: {value}\r\n")).unwrap_or_default();
    Ok(format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n{authorization}\r\n"))
}

fn end_of_head(input: &[u8]) -> Option<usize> {
    input.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// What a proxy may say beyond its number is its own words, which are not repeated: a page of whoever owns the network.
fn judge(head: &[u8]) -> Result<(), Error> {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = std::str::from_utf8(line).unwrap_or_default();
    let status = line
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split(' ').nth(1))
        .filter(|status| status.len() == 3)
        .and_then(|status| status.parse::<u16>().ok());
    match status {
        Some(200..=299) => Ok(()),
        Some(407) => Err(failed("wants another user or password (status 407)")),
        Some(status) => Err(failed(format!("refused to connect (status {status})"))),
        None => Err(failed("did not answer in HTTP")),
    }
}
