//! Which way requests go: straight to the host or through a proxy, and to which hosts at all.

use std::fmt;

use autoembed_core::host::{AllowedHosts, Refusal, is_loopback};
use autoembed_core::secret::{REDACTED, Secret};
use autoembed_core::url::Url;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::ConfigError;

/// An HTTP proxy. `Debug` and `Display` show its host and port alone.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// An IPv6 address is in brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    user: String,
    password: Option<Secret>,
}

impl Proxy {
    /// Reads `http://[user[:password]@]host:port`; user and password with `%` and two hexadecimal digits for what would
    /// end them.
    ///
    /// # Errors
    /// Anything else. What is said never repeats the text, which may hold a password.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let wrong = |what: &str| {
            ConfigError {
            message: format!("the proxy {what}"),
            hint: "Set autoembed.proxy to http://host:port, or to http://user@host:port with the password in autoembed.proxy_password_file, or leave it empty for no proxy."
                .to_owned(),
        }
        };
        let rest = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some(_) => return Err(wrong("is not of the kind http://")),
            None => return Err(wrong("has no http:// before its host")),
        };
        let (userinfo, place) = match rest.rsplit_once('@') {
            Some((userinfo, place)) => (Some(userinfo), place),
            None => (None, rest),
        };
        let url = Url::parse(&format!("http://{place}")).map_err(|_| wrong("has no usable host and port"))?;
        if !url.path.is_empty() || url.query.is_some() {
            return Err(wrong("has a path behind its host and port"));
        }
        let port = url.port.ok_or_else(|| wrong("has no port"))?;
        let (user, password) = match userinfo.map(|text| text.split_once(':').unwrap_or((text, ""))) {
            None => (String::new(), None),
            Some((user, password)) => {
                let decoded = |text: &str| decode(text).ok_or_else(|| wrong("has an unusable user or password"));
                let (user, password) = (decoded(user)?, decoded(password)?);
                // Where the one ends and the other begins is told by the first colon alone.
                if user.contains(':') {
                    return Err(wrong("has an unusable user or password"));
                }
                let password = if password.is_empty() { None } else { Some(password) };
                let password = password.map(|text| Secret::new(&text)).transpose();
                (user, password.map_err(|_| wrong("has an unusable user or password"))?)
            }
        };
        Ok(Self { host: url.host, port, user, password })
    }

    /// The same proxy with this password.
    #[must_use]
    pub fn with_password(self, password: Secret) -> Self {
        Self { password: Some(password), ..self }
    }

    /// The value of `Proxy-Authorization`, if there is anything to say.
    pub(crate) fn authorization(&self) -> Option<String> {
        let password = self.password.as_ref().map_or("", |password| password.expose());
        if self.user.is_empty() && password.is_empty() {
            return None;
        }
        Some(format!("Basic {}", BASE64_STANDARD.encode(format!("{}:{password}", self.user))))
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = if self.authorization().is_some() { REDACTED } else { "nobody" };
        write!(f, "Proxy({self}, {who})")
    }
}

/// Text with its `%xx` replaced; `None` for a broken one, and for what no header may carry.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let byte = match byte {
            b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                (digit(rest.next()?)? << 4) | digit(rest.next()?)?
            }
            other => other,
        };
        bytes.push(byte);
    }
    String::from_utf8(bytes).ok().filter(|text| !text.chars().any(char::is_control))
}

/// Which way requests go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Route {
    /// Hosts that requests may go to.
    pub allowed: AllowedHosts,
    /// What they go through, unless they go to this machine.
    pub proxy: Option<Proxy>,
}

impl Route {
    /// Whether a request to `url` may be begun.
    ///
    /// A proxy looks names up by itself, so with one the name must be allowed; without one a name may still turn out to
    /// stand for addresses that are not.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn permits(&self, url: &Url) -> Result<(), Refusal> {
        let port = url.port.unwrap_or(if url.https { 443 } else { 80 });
        match self.proxy_for(&url.host) {
            Some(_) => self.allowed.permits_unseen(&url.host, port),
            None => self.allowed.permits(&url.host, port),
        }
    }

    /// What a request to `host` goes through. This machine is never asked for through a proxy: the proxy would take itself
    /// for it.
    pub(crate) fn proxy_for(&self, host: &str) -> Option<&Proxy> {
        self.proxy.as_ref().filter(|_| !is_loopback(host))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn reads_and_never_shows_the_password() {
        for (text, place, authorization) in [
            ("http://proxy:3128", "proxy:3128", None),
            ("HTTP://Proxy.Example:8080/", "proxy.example:8080", None),
            ("http://[::1]:1", "[::1]:1", None),
            ("http://u:p@h:1", "h:1", Some("Basic dTpw")),
            ("http://u@h:1", "h:1", Some("Basic dTo=")),
            ("http://u:@h:1", "h:1", Some("Basic dTo=")),
            ("http://u:a:b@h:1", "h:1", Some("Basic dTphOmI=")),
            ("http://u:p@ss@h:1", "h:1", Some("Basic dTpwQHNz")),
            ("http://u%40x:p%3A%25@h:1", "h:1", Some("Basic dUB4OnA6JQ==")),
        ] {
            let proxy = Proxy::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(
                (proxy.to_string().as_str(), proxy.authorization().as_deref()),
                (place, authorization),
                "{text}"
            );
        }
        let proxy = Proxy::parse("http://user:canary@h:1").unwrap();
        assert_eq!(format!("{proxy} {proxy:?}"), "h:1 Proxy(h:1, [redacted])");
        let other = Proxy::parse("http://user@h:1").unwrap().with_password(Secret::new("canary").unwrap());
        assert_eq!(other, proxy);
    }

    #[test]
    fn refuses_without_repeating() {
        for bad in [
            "",
            "canary",
            "canary:3128",
            "https://canary:3128",
            "socks5://canary:1080",
            "http://canary",
            "http://canary:0",
            "http://canary:3128/path",
            "http://canary:3128?x",
            "http://canary:3128#x",
            "http://u:canary%@h:1",
            "http://u:canary%zz@h:1",
            "http://u:canary%0a@h:1",
            "http://u:canary\r\nX: y@h:1",
            "http://a%3Ab:canary@h:1",
            "http://u:canary%ff@h:1",
            "http://@:canary",
        ] {
            let error = Proxy::parse(bad).expect_err(bad);
            assert!(!format!("{error:?}").contains("canary"), "{error:?}");
            assert!(error.message.starts_with("the proxy ") && error.hint.contains("autoembed.proxy"), "{error:?}");
        }
    }

    #[test]
    fn this_machine_needs_no_proxy() {
        let route = Route { allowed: AllowedHosts::default(), proxy: Some(Proxy::parse("http://h:1").unwrap()) };
        for host in ["localhost", "127.0.0.1", "[::1]", "ollama.localhost"] {
            assert_eq!(route.proxy_for(host), None, "{host}");
        }
        for host in ["10.0.0.1", "api.openai.com", "localhost.example.com"] {
            assert!(route.proxy_for(host).is_some(), "{host}");
        }
    }
}
