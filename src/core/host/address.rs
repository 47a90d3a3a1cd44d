//! What an address really names, however it is spelt.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Ranges that no embedding server is meant to have: whoever asks there talks to the machine's own cloud or network.
/// Address, length of the prefix, what it is.
const SPECIAL_V4: &[(Ipv4Addr, u8, &str)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8, "an unspecified address"),
    (Ipv4Addr::new(169, 254, 0, 0), 16, "a link-local address, as metadata services of clouds have"),
    (Ipv4Addr::new(100, 100, 100, 200), 32, "the metadata service of a cloud"),
    (Ipv4Addr::new(168, 63, 129, 16), 32, "the metadata service of a cloud"),
    (Ipv4Addr::new(192, 0, 0, 192), 32, "the metadata service of a cloud"),
    (Ipv4Addr::new(224, 0, 0, 0), 4, "a multicast address"),
    (Ipv4Addr::BROADCAST, 32, "the broadcast address"),
];

/// The same for IPv6. All of `fd00:ec2::/32`: at `::23` a cloud hands out credentials, at `::254` metadata.
const SPECIAL_V6: &[(Ipv6Addr, u8, &str)] = &[
    (Ipv6Addr::UNSPECIFIED, 128, "an unspecified address"),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, "a link-local address"),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, "a multicast address"),
    (Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0), 32, "the metadata service of a cloud"),
    (Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254), 128, "the metadata service of a cloud"),
];

/// Why nothing is sent to an address unless it is listed; `None` for an address like any other.
pub(super) fn special(address: IpAddr) -> Option<&'static str> {
    match address.to_canonical() {
        IpAddr::V4(v4) => special_v4(v4),
        IpAddr::V6(v6) => SPECIAL_V6
            .iter()
            .find(|(base, length, _)| within(IpAddr::V6(v6), IpAddr::V6(*base), *length))
            .map(|(_, _, what)| *what)
            .or_else(|| embedded(v6).into_iter().flatten().find_map(special_v4)),
    }
}

fn special_v4(address: Ipv4Addr) -> Option<&'static str> {
    let found = SPECIAL_V4.iter().find(|(base, length, _)| within(IpAddr::V4(address), IpAddr::V4(*base), *length));
    found.map(|(_, _, what)| *what)
}

/// The IPv4 addresses that a gateway or an operating system may take from an IPv6 address: RFC 4291 (compatible), 2765
/// (translated), 6052 and 8215 (NAT64), 3056 (6to4), 4380 (Teredo, the client's is inverted), 5214 (ISATAP).
fn embedded(address: Ipv6Addr) -> [Option<Ipv4Addr>; 2] {
    let (s, o) = (address.segments(), address.octets());
    let at = |n: usize| Ipv4Addr::new(o[n], o[n + 1], o[n + 2], o[n + 3]);
    match s {
        // The loopback address is no compatible one.
        [0, 0, 0, 0, 0, 0, 0, 1] => [None, None],
        [0, 0, 0, 0, 0, 0, _, _] | [0, 0, 0, 0, 0xffff, 0, _, _] | [0x64, 0xff9b, 0, 0, 0, 0, _, _] => {
            [Some(at(12)), None]
        }
        // Of the local prefix the length is the operator's choice: at its end, or in two parts around the ninth octet.
        [0x64, 0xff9b, 1, ..] => [Some(at(12)), Some(Ipv4Addr::new(o[6], o[7], o[9], o[10]))],
        [0x2002, ..] => [Some(at(2)), None],
        [0x2001, 0, ..] => [Some(at(4)), Some(Ipv4Addr::from(!u32::from(at(12))))],
        [_, _, _, _, 0 | 0x200, 0x5efe, _, _] => [Some(at(12)), None],
        _ => [None, None],
    }
}

/// Whether the first `length` bits are those of `base`; addresses of different families have nothing in common.
pub(super) fn within(address: IpAddr, base: IpAddr, length: u8) -> bool {
    match (address, base) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u32::from(a) ^ u32::from(b)).leading_zeros() >= u32::from(length),
        (IpAddr::V6(a), IpAddr::V6(b)) => (u128::from(a) ^ u128::from(b)).leading_zeros() >= u32::from(length),
        _ => false,
    }
}

/// An IPv4 address in any of the spellings that the system's lookup takes: one to four parts in decimal, octal or
/// hexadecimal, the last of which fills the bytes that are left.
pub(super) fn loose_v4(text: &str) -> Option<Ipv4Addr> {
    let parts: Vec<u64> = text.split('.').map(number).collect::<Option<_>>()?;
    let (last, firsts) = parts.split_last()?;
    if firsts.len() > 3 || firsts.iter().any(|part| *part > 255) || *last >> (8 * (4 - firsts.len())) != 0 {
        return None;
    }
    let high = firsts.iter().enumerate().map(|(n, part)| part << (24 - 8 * n)).sum::<u64>();
    u32::try_from(high + last).ok().map(Ipv4Addr::from)
}

/// Whether a name's last label is a number, so that no resolver takes it for a name.
pub(super) fn ends_in_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    let digits = last.bytes().all(|byte| byte.is_ascii_digit());
    (digits && !last.is_empty()) || number(last).is_some()
}

fn number(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some("") => return Some(0),
        Some(digits) => (digits, 16),
        None if text.len() > 1 && text.starts_with('0') => (text, 8),
        None => (text, 10),
    };
    // A sign is accepted by the parser, and by nobody else.
    if digits.bytes().all(|byte| byte.is_ascii_hexdigit()) { u64::from_str_radix(digits, radix).ok() } else { None }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn special_addresses_in_every_spelling() {
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "169.254.170.2",
            "169.254.0.0",
            "169.254.255.255",
            "100.100.100.200",
            "192.0.0.192",
            "168.63.129.16",
            "224.0.0.1",
            "239.255.255.255",
            "255.255.255.255",
            "::",
            "fe80::1",
            "febf:ffff::1",
            "ff02::1",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd20:ce::254",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "::ffff:0:169.254.169.254",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::169.254.169.254",
            "64:ff9b:1:a9fe:a9:fe00::",
            "2002:a9fe:a9fe::1",
            "2001:0:a9fe:a9fe::1",
            "2001:0:1:2:3:4:5601:5601",
            "fd12::5efe:169.254.169.254",
            "fd12::200:5efe:169.254.169.254",
        ] {
            assert!(special(text.parse().unwrap()).is_some(), "{text}");
        }
    }

    #[test]
    fn ordinary_addresses() {
        for text in [
            "127.0.0.1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.253.255.255",
            "169.255.0.0",
            "100.100.100.199",
            "8.8.8.8",
            "223.255.255.255",
            "240.0.0.1",
            "::1",
            "::ffff:127.0.0.1",
            "fd00::1",
            "fe00::1",
            "fec0::1",
            "64:ff9b::8.8.8.8",
            "2002:808:808::1",
            "2606:4700::1111",
        ] {
            assert_eq!(special(text.parse().unwrap()), None, "{text}");
        }
    }

    #[test]
    fn numbers_are_addresses() {
        for (text, address) in [
            ("2852039166", "169.254.169.254"),
            ("0xa9fea9fe", "169.254.169.254"),
            ("0XA9.254.0251.0xfe", "169.254.169.254"),
            ("169.254.43518", "169.254.169.254"),
            ("169.16689662", "169.254.169.254"),
            ("0x7f.1", "127.0.0.1"),
            ("017700000001", "127.0.0.1"),
            ("0", "0.0.0.0"),
            ("0x", "0.0.0.0"),
            ("1.2.3.4", "1.2.3.4"),
        ] {
            assert_eq!(loose_v4(text), Some(address.parse().unwrap()), "{text}");
            assert!(ends_in_number(text), "{text}");
        }
        for text in
            ["4294967296", "256.1.1.1", "1.2.3.256", "1.2.3.4.5", "1..2", "", "08.1", "+1", "a", "1.2.3.4a", "0xg"]
        {
            assert_eq!(loose_v4(text), None, "{text}");
        }
        assert!(ends_in_number("1.2.3.4.5") && ends_in_number("host.09") && ends_in_number("host.0x1"));
        assert!(
            !ends_in_number("host") && !ends_in_number("1.example") && !ends_in_number("") && !ends_in_number("a.0xg")
        );
    }
}
