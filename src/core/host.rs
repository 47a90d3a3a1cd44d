//! Where requests may go.
//!
//! A model's url names a host, and what the name stands for is decided by somebody else's name server, each time anew. So
//! there are two questions: whether the name may be asked for at all ([`AllowedHosts::permits`], before anything is
//! done), and whether an address that it stands for may be connected to ([`AllowedHosts::permits_address`], for the very
//! addresses that are used then).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

mod address;

use address::{ends_in_number, loose_v4, special, within};

/// Names under which clouds offer their metadata service, for the case that a proxy looks them up.
const SPECIAL_NAMES: &[&str] =
    &["metadata", "metadata.google.internal", "metadata.goog", "instance-data", "instance-data.ec2.internal"];

/// A list of hosts and address ranges; the empty one allows all but what is [refused by default](Refusal).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedHosts(Vec<Entry>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    what: What,
    /// `None`: every port.
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    Name(String),
    /// All names that end so; begins with a dot.
    Below(String),
    Range(IpAddr, u8),
}

/// What is wrong with a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostsError(String);

impl fmt::Display for HostsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for HostsError {}

impl HostsError {
    /// What to write instead.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        "Separate host names, *.example.com, addresses and ranges such as 10.0.0.0/8 by commas, each with :port or without; an IPv6 address with a port is written [::1]:8080."
    }
}

/// Why nothing is sent: one lower-case sentence.
///
/// Refused whatever the list says, unless the address itself or a range with it is listed: link-local, metadata,
/// multicast, broadcast and unspecified addresses, in all their spellings. Refused as well: what a list that is not empty
/// does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal(String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

impl Refusal {
    /// What the administrator does if the host is meant.
    pub const HINT: &str = "If it is meant, add it to autoembed.allowed_hosts and reload the configuration (a list that is not empty must hold every host in use); otherwise use another url.";
}

/// A host as it is written in a URL, understood.
enum Host {
    Address(IpAddr),
    Name(String),
}

impl AllowedHosts {
    /// Reads a list: names, `*.example.com`, addresses and ranges, separated by commas, each with `:port` or without.
    ///
    /// # Errors
    /// [`HostsError`] for anything else; nothing is skipped or guessed, since each mistake would open or close something.
    pub fn parse(list: &str) -> Result<Self, HostsError> {
        if list.trim().is_empty() {
            return Ok(Self::default());
        }
        list.split(',').map(|item| entry(item.trim())).collect::<Result<_, _>>().map(Self)
    }

    /// Whether a request to `host` (of a URL, with brackets or without) may be begun. A name that is not listed passes if
    /// the list holds ranges: its addresses decide then.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn permits(&self, host: &str, port: u16) -> Result<(), Refusal> {
        match read_host(host)? {
            Host::Address(address) => self.judge(None, address, port),
            Host::Name(_) if self.has_range(port) => Ok(()),
            Host::Name(name) => self.permits_name(&name, port),
        }
    }

    /// Whether a request to `host` may be left to somebody who looks its address up himself: the name must be listed, if
    /// there is a list, and must not be one of a metadata service.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn permits_unseen(&self, host: &str, port: u16) -> Result<(), Refusal> {
        match read_host(host)? {
            Host::Address(address) => self.judge(None, address, port),
            Host::Name(name) if SPECIAL_NAMES.contains(&name.as_str()) => {
                if self.0.iter().any(|entry| entry.fits(port) && entry.what == What::Name(name.clone())) {
                    return Ok(());
                }
                Err(Refusal(format!("host {name} is not allowed: it is the metadata service of a cloud")))
            }
            Host::Name(name) => self.permits_name(&name, port),
        }
    }

    /// Whether a connection may be made to `address`, which `host` stands for.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn permits_address(&self, host: &str, address: IpAddr, port: u16) -> Result<(), Refusal> {
        match read_host(host)? {
            Host::Address(_) => self.judge(None, address, port),
            Host::Name(name) => self.judge(Some(&name), address, port),
        }
    }

    /// Whether `address` may be that of a proxy: only what is refused by default must be listed.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn permits_proxy(&self, address: IpAddr, port: u16) -> Result<(), Refusal> {
        match special(address) {
            Some(what) if !self.lists_address(address, port) => Err(refused(None, address, what)),
            _ => Ok(()),
        }
    }

    /// The rule for addresses. The name's being listed is no leave for a special address: whoever answers for the name could
    /// point it there.
    fn judge(&self, name: Option<&str>, address: IpAddr, port: u16) -> Result<(), Refusal> {
        if self.lists_address(address, port) {
            return Ok(());
        }
        if let Some(what) = special(address) {
            return Err(refused(name, address, what));
        }
        if self.0.is_empty() || name.is_some_and(|name| self.lists_name(name, port)) {
            return Ok(());
        }
        Err(refused(name, address, "not in autoembed.allowed_hosts"))
    }

    fn permits_name(&self, name: &str, port: u16) -> Result<(), Refusal> {
        if self.0.is_empty() || self.lists_name(name, port) {
            return Ok(());
        }
        Err(Refusal(format!("host {name}, port {port}, is not allowed: it is not in autoembed.allowed_hosts")))
    }

    fn lists_name(&self, name: &str, port: u16) -> bool {
        self.0.iter().any(|entry| {
            entry.fits(port)
                && match &entry.what {
                    What::Name(listed) => listed == name,
                    What::Below(end) => name.len() > end.len() && name.ends_with(end.as_str()),
                    What::Range(..) => false,
                }
        })
    }

    fn lists_address(&self, address: IpAddr, port: u16) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|entry| {
            matches!(entry.what, What::Range(base, length) if within(address, base, length)) && entry.fits(port)
        })
    }

    fn has_range(&self, port: u16) -> bool {
        self.0.iter().any(|entry| entry.fits(port) && matches!(entry.what, What::Range(..)))
    }
}

impl Entry {
    fn fits(&self, port: u16) -> bool {
        self.port.is_none_or(|listed| listed == port)
    }
}

/// Whether `host` (of a URL) is this machine by its very spelling: `localhost`, a name below it, a loopback address.
#[must_use]
pub fn is_loopback(host: &str) -> bool {
    match read_host(host) {
        Ok(Host::Address(address)) => address.to_canonical().is_loopback(),
        Ok(Host::Name(name)) => name == "localhost" || name.ends_with(".localhost"),
        Err(_) => false,
    }
}

fn refused(name: Option<&str>, address: IpAddr, what: &str) -> Refusal {
    let of = name.map(|name| format!(" of host {name}")).unwrap_or_default();
    Refusal(format!("address {address}{of} is not allowed: it is {what}"))
}

/// Lower case, without brackets and the dot at its end; whatever the system's lookup would take for a number is one.
fn read_host(host: &str) -> Result<Host, Refusal> {
    let lower = host.to_ascii_lowercase();
    if let Some(inner) = lower.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let address = inner.parse::<Ipv6Addr>().map_err(|_| Refusal(unusable(host)))?;
        return Ok(Host::Address(IpAddr::V6(address)));
    }
    if let Ok(address) = lower.parse::<IpAddr>() {
        return Ok(Host::Address(address));
    }
    let name = lower.strip_suffix('.').unwrap_or(&lower);
    if let Some(address) = loose_v4(name) {
        return Ok(Host::Address(IpAddr::V4(address)));
    }
    if !is_name(name) {
        return Err(Refusal(unusable(host)));
    }
    Ok(Host::Name(name.to_owned()))
}

fn unusable(host: &str) -> String {
    format!("\"{}\" is neither a host name nor an address", crate::error::clean(host))
}

/// Labels of letters, digits, hyphens and underscores; a name that ends in a number would be one address here and another there.
fn is_name(name: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    name.len() <= 253 && name.split('.').all(label) && !ends_in_number(name)
}

fn entry(text: &str) -> Result<Entry, HostsError> {
    let wrong = |why: &str| HostsError(format!("\"{}\" in the list of hosts {why}", crate::error::clean(text)));
    if text.is_empty() {
        return Err(HostsError("the list of hosts has an empty item".to_owned()));
    }
    if text.contains("://") {
        return Err(wrong("is a URL, not a host"));
    }
    let (host, port) = split_port(text).ok_or_else(|| wrong("has no usable port"))?;
    let host = host.to_ascii_lowercase();
    let what = if let Some((base, length)) = host.split_once('/') {
        range(base, length).ok_or_else(|| wrong("is no address range"))?
    } else if let Ok(address) = host.parse::<IpAddr>() {
        whole(address)
    } else {
        let name = host.strip_suffix('.').unwrap_or(&host);
        let plain = name.strip_prefix("*.").unwrap_or(name);
        if !is_name(plain) {
            return Err(wrong("is neither a host name nor an address"));
        }
        if plain.len() < name.len() { What::Below(format!(".{plain}")) } else { What::Name(plain.to_owned()) }
    };
    Ok(Entry { what, port })
}

/// The host without brackets, and the port. Several colons without brackets are an IPv6 address without a port.
fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    let port = |digits: &str| {
        let good = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse::<u16>().ok().filter(|port| good && *port > 0).map(Some)
    };
    if let Some(rest) = text.strip_prefix('[') {
        let (host, tail) = rest.split_once(']')?;
        // In brackets there is nothing but IPv6.
        if !host.contains(':') {
            return None;
        }
        return match tail.strip_prefix(':') {
            Some(digits) => Some((host, port(digits)?)),
            None if tail.is_empty() => Some((host, None)),
            None => None,
        };
    }
    match text.split_once(':') {
        Some((host, digits)) if !digits.contains(':') => Some((host, port(digits)?)),
        _ => Some((text, None)),
    }
}

fn range(base: &str, length: &str) -> Option<What> {
    let base = base.parse::<IpAddr>().ok()?;
    let length = length.parse::<u8>().ok().filter(|_| length.bytes().all(|byte| byte.is_ascii_digit()))?;
    // A mapped IPv4 range is written as IPv4; bits after the prefix are a mistake in one or the other.
    let (bits, rest) = match base {
        IpAddr::V4(v4) => (32, u128::from(u32::from(v4)) << 96),
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => return None,
        IpAddr::V6(v6) => (128, u128::from(v6)),
    };
    (length <= bits && rest.checked_shl(u32::from(length)).unwrap_or(0) == 0).then_some(What::Range(base, length))
}

fn whole(address: IpAddr) -> What {
    let address = address.to_canonical();
    What::Range(address, if address.is_ipv4() { Ipv4Addr::BITS as u8 } else { Ipv6Addr::BITS as u8 })
}

#[cfg(test)]
mod tests;
