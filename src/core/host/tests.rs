#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;

fn list(text: &str) -> AllowedHosts {
    AllowedHosts::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn at(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Hosts of URLs that are one of a metadata service, or of the network's own, in disguise.
const DISGUISES: &[&str] = &[
    "169.254.169.254",
    "169.254.169.254.",
    "2852039166",
    "2852039166.",
    "0xA9FEA9FE",
    "0xa9.0xfe.0xa9.0xfe",
    "0251.0376.0251.0376",
    "169.254.43518",
    "[::ffff:169.254.169.254]",
    "[::FFFF:A9FE:A9FE]",
    "[0:0:0:0:0:ffff:a9fe:a9fe]",
    "[64:ff9b::a9fe:a9fe]",
    "[2002:a9fe:a9fe::]",
    "[fe80::1]",
    "[fd00:ec2::254]",
    "[FD20:CE::254]",
    "[::]",
    "0",
    "0.0.0.0",
    "100.100.100.200",
    "192.0.0.192",
    "168.63.129.16",
    "224.0.0.1",
    "255.255.255.255",
];

#[test]
fn by_default_everything_but_the_special() {
    let empty = AllowedHosts::default();
    for host in
        ["localhost", "LOCALHOST.", "api.openai.com", "127.0.0.1", "10.1.2.3", "[::1]", "0x7f.1", "gpu_1", "xn--a.de"]
    {
        assert_eq!(empty.permits(host, 443), Ok(()), "{host}");
        assert_eq!(empty.permits_unseen(host, 443), Ok(()), "{host}");
    }
    for host in DISGUISES {
        for refusal in [empty.permits(host, 80), empty.permits_unseen(host, 80)] {
            let text = refusal.expect_err(host).to_string();
            assert!(text.contains("is not allowed: it is"), "{host}: {text}");
        }
    }
    for host in ["", ".", "a..b", "[]", "[::1", "1.2.3.4.5", "256.1.1.1", "a b", "[fe80::1%1]", "host.1"] {
        assert!(empty.permits(host, 80).is_err(), "{host}");
    }
}

#[test]
fn a_name_is_no_way_around() {
    for allowed in ["", "evil.example", "*.example", "evil.example:80, 10.0.0.0/8"] {
        let allowed = list(allowed);
        assert_eq!(allowed.permits("evil.example", 80), Ok(()));
        assert_eq!(allowed.permits_address("evil.example", at("10.0.0.1"), 80), Ok(()));
        for address in ["169.254.169.254", "::ffff:169.254.169.254", "fe80::1", "64:ff9b::a9fe:a9fe", "0.0.0.0", "::"] {
            let refusal = allowed.permits_address("evil.example", at(address), 80).unwrap_err().to_string();
            assert!(refusal.contains("of host evil.example"), "{address}: {refusal}");
        }
    }
}

#[test]
fn names_that_a_proxy_would_look_up() {
    for host in ["metadata.google.internal", "METADATA.google.internal.", "metadata", "instance-data"] {
        assert!(AllowedHosts::default().permits_unseen(host, 80).is_err(), "{host}");
        // The lookup decides where there is one.
        assert_eq!(AllowedHosts::default().permits(host, 80), Ok(()), "{host}");
    }
    assert_eq!(list("metadata:80").permits_unseen("metadata", 80), Ok(()));
    assert!(list("metadata:80").permits_unseen("metadata", 81).is_err());
    assert!(list("*.google.internal").permits_unseen("metadata.google.internal", 80).is_err());
    // A range does not help a name whose address is not seen.
    assert!(list("10.0.0.0/8").permits_unseen("gpu.internal", 80).is_err());
    assert_eq!(list("10.0.0.0/8").permits_unseen("10.1.1.1", 80), Ok(()));
}

#[test]
fn with_a_list_nothing_else() {
    let allowed = list(" api.openai.com, *.Example.com. ,10.0.0.0/8,[fd12::/16]:8080, 192.168.1.5:8000,::1 ");
    for (host, port) in [
        ("api.openai.com", 443),
        ("API.OpenAI.com.", 80),
        ("a.example.com", 443),
        ("a.b.example.com", 443),
        ("10.255.255.255", 1),
        ("[::ffff:10.1.1.1]", 1),
        ("0xa000001", 1),
        ("[fd12::1]", 8080),
        ("192.168.1.5", 8000),
        ("[::1]", 11434),
        ("[0:0::1]", 11434),
    ] {
        assert_eq!(allowed.permits(host, port), Ok(()), "{host}:{port}");
    }
    for (host, port) in [
        ("11.0.0.0", 80),
        ("9.255.255.255", 80),
        ("[fd12::1]", 443),
        ("[fd13::1]", 8080),
        ("192.168.1.5", 80),
        ("127.0.0.1", 80),
        ("[64:ff9b::10.1.1.1]", 80),
    ] {
        let text = allowed.permits(host, port).expect_err(host).to_string();
        assert!(text.contains("not in autoembed.allowed_hosts"), "{text}");
    }
    // With ranges in the list, the addresses of other names decide.
    assert_eq!(allowed.permits("gpu", 80), Ok(()));
    assert_eq!(allowed.permits_address("gpu", at("10.0.0.1"), 80), Ok(()));
    assert!(allowed.permits_address("gpu", at("8.8.8.8"), 80).is_err());
    assert_eq!(allowed.permits_address("api.openai.com", at("8.8.8.8"), 443), Ok(()));
    let names = list("example.com:443,*.example.com");
    for host in ["example.org", "evil-example.com", "example.com.evil.org", "localhost", "10.0.0.1"] {
        assert!(names.permits(host, 443).is_err(), "{host}");
    }
    assert!(names.permits("example.com", 80).is_err() && names.permits("example.com", 443).is_ok());
    assert!(names.permits("xexample.com", 443).is_err() && names.permits(".example.com", 443).is_err());
}

#[test]
fn special_addresses_can_be_listed() {
    for (allowed, host) in [
        ("169.254.0.0/16", "169.254.169.254"),
        ("169.254.0.0/16", "2852039166"),
        ("169.254.1.9:8080", "169.254.1.9"),
        ("fe80::/10", "[fe80::5]"),
        ("::ffff:169.254.1.9", "169.254.1.9"),
        ("64:ff9b::/96", "[64:ff9b::a9fe:109]"),
    ] {
        assert_eq!(list(allowed).permits(host, 8080), Ok(()), "{allowed}: {host}");
    }
    let one = list("169.254.1.9:8080");
    assert_eq!(one.permits_address("printer.local", at("169.254.1.9"), 8080), Ok(()));
    assert!(one.permits("169.254.1.9", 80).is_err());
    assert!(one.permits("169.254.1.10", 8080).is_err());
}

#[test]
fn the_proxys_own_address() {
    let allowed = list("api.openai.com");
    assert_eq!(allowed.permits_proxy(at("10.0.0.1"), 3128), Ok(()));
    assert!(allowed.permits_proxy(at("169.254.169.254"), 3128).is_err());
    assert_eq!(list("169.254.169.254:3128").permits_proxy(at("169.254.169.254"), 3128), Ok(()));
}

#[test]
fn mistakes_in_a_list_are_refused() {
    for bad in [
        ",",
        "a,",
        ",a",
        "a,,b",
        "*",
        "*.",
        "a.*",
        "*a.com",
        "**.a",
        "a b",
        "a;b",
        "https://a",
        "a/v1",
        "10.0.0.1/8",
        "10.0.0.0/33",
        "10.0.0.0/+8",
        "10.0.0.0/",
        "10.0.0/8",
        "fd00::1/8",
        "fd00::/129",
        "::ffff:10.0.0.0/104",
        "a:",
        "a:0",
        "a:65536",
        "a:+1",
        "a:http",
        "[::1",
        "[::1]8080",
        "[a]:80",
        "[10.0.0.1]:80",
        "2852039166",
        "0x7f.1",
        "256.1.1.1",
        "1.2.3",
        "a..b",
        "user@a",
        "hö",
    ] {
        let error = AllowedHosts::parse(bad).expect_err(bad);
        assert!(error.to_string().contains("list of hosts"), "{bad}: {error}");
    }
    assert_eq!(AllowedHosts::parse("  "), Ok(AllowedHosts::default()));
    assert!(list("0.0.0.0/0, ::/0").permits("8.8.8.8", 1).is_ok());
    assert!(list("::/0").permits("8.8.8.8", 1).is_err(), "the families are apart");
}

#[test]
fn loopback_by_spelling() {
    for host in
        ["localhost", "LocalHost.", "a.localhost", "127.0.0.1", "127.9.9.9", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]"]
    {
        assert!(is_loopback(host), "{host}");
    }
    for host in ["localhost.example", "notlocalhost", "10.0.0.1", "[::2]", "128.0.0.1", "", "0.0.0.0"] {
        assert!(!is_loopback(host), "{host}");
    }
}

proptest::proptest! {
    #[test]
    fn every_spelling_of_an_address_is_judged_alike(number: u32, special: bool) {
        let number = if special { 0xa9fe_0000 | (number & 0xffff) } else { number };
        let dotted = Ipv4Addr::from(number);
        let o = dotted.octets();
        let empty = AllowedHosts::default();
        let verdict = empty.permits(&dotted.to_string(), 80).is_ok();
        for spelling in [
            number.to_string(),
            format!("{number:#x}"),
            format!("0{number:o}."),
            format!("{}.{}", o[0], number & 0xff_ffff),
            format!("{:#X}.0{:o}.{}", o[0], o[1], number & 0xffff),
            format!("[::ffff:{dotted}]"),
        ] {
            proptest::prop_assert_eq!(empty.permits(&spelling, 80).is_ok(), verdict, "{}", spelling);
        }
        proptest::prop_assert!(!(special && verdict));
    }

    #[test]
    fn no_text_is_too_odd(list in "\\PC{0,40}", host in "\\PC{0,40}", port: u16) {
        let allowed = AllowedHosts::parse(&list).unwrap_or_default();
        let _ = (allowed.permits(&host, port), allowed.permits_unseen(&host, port), is_loopback(&host));
    }

    #[test]
    fn a_range_holds_what_its_bits_say(base: u32, length in 0_u8..=32, address: u32) {
        let base = if length == 0 { 0 } else { base & (u32::MAX << (32 - length)) };
        let allowed = list(&format!("{}/{length}", Ipv4Addr::from(base)));
        let inside = length == 0 || address >> (32 - length) == base >> (32 - length);
        proptest::prop_assert_eq!(allowed.permits(&Ipv4Addr::from(address).to_string(), 1).is_ok(), inside);
    }
}
