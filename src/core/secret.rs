//! A key that cannot be printed.

use std::fmt;

use zeroize::Zeroizing;

/// What stands where a key was.
pub const REDACTED: &str = "[redacted]";

/// An API key. Neither `Debug` nor `Display` shows it, and its memory is cleared when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

/// Why a text is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretError {
    /// Nothing but line ends and blanks.
    Empty,
    /// A control character or a character outside ASCII, which no HTTP header may carry.
    Unprintable,
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the API key is empty",
            Self::Unprintable => "the API key holds a character that no HTTP header may carry",
        })
    }
}

impl std::error::Error for SecretError {}

impl SecretError {
    /// What a database user does next.
    #[must_use]
    pub fn hint(self) -> &'static str {
        "Put the key alone on the first line of the file that api_key_file names, or into the variable that api_key_env names."
    }
}

impl Secret {
    /// Takes a key as it is found in a file or in the environment; line ends and blanks around it do not count.
    ///
    /// # Errors
    /// [`SecretError::Empty`] when nothing is left, [`SecretError::Unprintable`] for anything but visible ASCII and
    /// inner blanks: such a key would break out of its header.
    pub fn new(text: &str) -> Result<Self, SecretError> {
        let text = text.trim_matches(['\r', '\n', ' ', '\t']);
        if text.is_empty() {
            return Err(SecretError::Empty);
        }
        if !text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return Err(SecretError::Unprintable);
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// The key itself. Its only uses are the header of a request and [`redact`](Self::redact).
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// `text` with every occurrence of the key replaced, whatever it is encoded in, and of large parts of it.
    #[must_use]
    pub fn redact(&self, text: &str) -> String {
        crate::redact::redact(text, self.expose())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn never_prints() {
        let key = Secret::new("sk-canary\n").unwrap();
        assert_eq!(key.expose(), "sk-canary");
        assert_eq!(format!("{key} {key:?} {:?}", Some(&key)), "[redacted] [redacted] Some([redacted])");
    }

    #[test]
    fn trims_and_refuses() {
        assert_eq!(Secret::new(" sk-a b\r\n\n").unwrap().expose(), "sk-a b");
        assert_eq!(Secret::new(" \n").unwrap_err(), SecretError::Empty);
        for bad in ["sk\nHost: x", "sk\0", "sk\u{7f}", "sk-ü", "a\tb"] {
            assert_eq!(Secret::new(bad).unwrap_err(), SecretError::Unprintable, "{bad:?}");
        }
    }

    #[test]
    fn redacts_every_occurrence() {
        let key = Secret::new("sk-1").unwrap();
        assert_eq!(key.redact("sk-1, then sk-1; not sk-2"), "[redacted], then [redacted]; not sk-2");
    }
}
