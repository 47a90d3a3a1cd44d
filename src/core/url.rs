//! A strict reading of the URLs that models may have.
//!
//! It accepts less than the standard on purpose: what is accepted has one meaning only, so that the host that is
//! checked against a list is the host that is connected to.

use std::fmt;

/// The parts of an `http` or `https` URL. Never carries a user name, a password or a fragment.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    /// Whether the scheme is `https`.
    pub https: bool,
    /// Host in lower case; an IPv6 address is in brackets.
    pub host: String,
    /// The port, if one is written.
    pub port: Option<u16>,
    /// Path without the slashes at its end: empty or beginning with `/`.
    pub path: String,
    /// What follows `?`; may carry a key, so it is not shown.
    pub query: Option<String>,
}

/// What is wrong with a URL: one sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UrlError(&'static str);

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for UrlError {}

impl Url {
    /// Reads a URL.
    ///
    /// # Errors
    /// Another scheme than http or https, user names and passwords, a fragment, a host of other than letters, digits,
    /// `.`, `-` and `_` (or a bracketed IPv6 address), a bad port, blanks, control characters, anything outside ASCII.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        if !text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\\\"<>^`{|}".contains(&byte)) {
            return Err(UrlError("the url holds a character that no URL may carry"));
        }
        let (scheme, rest) = text.split_once("://").ok_or(UrlError("the url has no scheme"))?;
        let https = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(UrlError("the url is neither http nor https")),
        };
        if rest.contains('#') {
            return Err(UrlError("the url has a fragment"));
        }
        let (authority, tail) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(UrlError("the url holds a user name or password"));
        }
        let (host, port) = split_port(authority)?;
        let (path, query) = match tail.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (tail, None),
        };
        Ok(Self { https, host, port, path: path.trim_end_matches('/').to_owned(), query })
    }

    /// The URL of `path` (beginning with `/`) below this one; the query is kept.
    #[must_use]
    pub fn join(&self, path: &str) -> String {
        let mut text = self.public();
        text.push_str(path);
        if let Some(query) = &self.query {
            text.push('?');
            text.push_str(query);
        }
        text
    }

    /// The URL without its query: what may be shown, logged and hashed.
    #[must_use]
    pub fn public(&self) -> String {
        let scheme = if self.https { "https" } else { "http" };
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        format!("{scheme}://{}{port}{}", self.host, self.path)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.public())
    }
}

fn split_port(authority: &str) -> Result<(String, Option<u16>), UrlError> {
    let after_brackets = authority.rfind(']').map_or(0, |at| at + 1);
    let colon = authority[after_brackets..].find(':').map(|at| at + after_brackets);
    let (host, port) = match colon {
        None => (authority, None),
        Some(at) => {
            let digits = &authority[at + 1..];
            let port =
                digits.parse::<u16>().ok().filter(|port| *port > 0 && digits.bytes().all(|b| b.is_ascii_digit()));
            (&authority[..at], Some(port.ok_or(UrlError("the url has a bad port"))?))
        }
    };
    let good = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b)),
    };
    if good { Ok((host.to_ascii_lowercase(), port)) } else { Err(UrlError("the url has no usable host")) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn joins_below_the_path_and_keeps_the_query() {
        for (base, joined) in [
            ("https://api.openai.com/v1", "https://api.openai.com/v1/embeddings"),
            ("https://api.openai.com/v1/", "https://api.openai.com/v1/embeddings"),
            ("HTTP://LocalHost:11434", "http://localhost:11434/embeddings"),
            ("http://localhost:11434///", "http://localhost:11434/embeddings"),
            ("http://[::1]:8080/x", "http://[::1]:8080/x/embeddings"),
            ("https://h/d?api-version=2024", "https://h/d/embeddings?api-version=2024"),
            ("https://h?a=b/c", "https://h/embeddings?a=b/c"),
        ] {
            assert_eq!(Url::parse(base).unwrap().join("/embeddings"), joined, "{base}");
        }
    }

    #[test]
    fn refuses_what_has_two_meanings() {
        for bad in [
            "",
            "localhost",
            "ftp://h",
            "file:///etc/passwd",
            "http://",
            "http:///v1",
            "http://user@h",
            "http://u:p@h/v1",
            "http://h\\@evil",
            "http://h#frag",
            "http://h:0",
            "http://h:99999",
            "http://h:+80",
            "http://h:",
            "http://a b",
            "http://h/\n",
            "http://hö",
            "http://[::1",
            "http://[zz]",
            "http://[::1]x:80",
            "http://h%40evil",
            "javascript://h",
        ] {
            assert!(Url::parse(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn a_key_in_the_query_is_not_shown() {
        let url = Url::parse("https://h/v1?key=canary").unwrap();
        assert_eq!(format!("{url:?}"), "https://h/v1");
    }
}
