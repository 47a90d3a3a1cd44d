//! Where a request goes, given the base that a model has as its url.

use std::fmt::Write as _;

use crate::url::Url;

/// `rest` (beginning with a slash) below `base`, with `version` before it unless the base names a version already:
/// people give the base of an API either way, as its SDKs do.
pub(super) fn versioned(base: &Url, version: &str, rest: &str) -> String {
    if names_version(base) { base.join(rest) } else { base.join(&format!("/{version}{rest}")) }
}

/// Whether the path ends in a version: `v1`, `v2`, `v1beta`.
fn names_version(base: &Url) -> bool {
    let last = base.path.rsplit('/').next().unwrap_or_default();
    let mut rest = last.strip_prefix('v').unwrap_or_default().bytes();
    rest.next().is_some_and(|byte| byte.is_ascii_digit()) && rest.all(|byte| byte.is_ascii_alphanumeric())
}

/// `base` with one more parameter in its query, unless it has that parameter already.
pub(super) fn with_parameter(base: &Url, name: &str, value: &str) -> Url {
    let mut url = base.clone();
    let query = url.query.take().unwrap_or_default();
    let has = |pair: &str| pair.split('=').next() == Some(name);
    url.query = Some(match query.as_str() {
        "" => format!("{name}={}", escaped(value)),
        query if query.split('&').any(has) => query.to_owned(),
        query => format!("{query}&{name}={}", escaped(value)),
    });
    url
}

/// A name as one segment of a path or one value of a query: everything that could end it is escaped.
pub(super) fn escaped(name: &str) -> String {
    let mut segment = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            segment.push(char::from(byte));
        } else {
            let _ = write!(segment, "%{byte:02X}");
        }
    }
    // A segment of dots alone would be a step up.
    if segment.bytes().all(|byte| byte == b'.') { segment.replace('.', "%2E") } else { segment }
}
