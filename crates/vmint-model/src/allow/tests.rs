//! Lists as people write them, and anything else.

use super::range::masked;
use super::*;
use proptest::prelude::*;
use std::net::Ipv4Addr;

fn list(text: &str) -> AllowList {
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn name(text: &str) -> HostName {
    HostName::read(text).expect(text)
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect(text)
}

#[test]
fn a_list_is_written_in_one_way() {
    for (given, shown) in [
        ("example.com", "example.com"),
        ("Example.COM.", "example.com"),
        (
            "b.example,a.example,b.example,B.example.",
            "a.example,b.example",
        ),
        (
            "*.Example.com,example.com:443",
            "example.com:443,*.example.com",
        ),
        ("192.0.2.7,10.1.0.0/16", "10.1.0.0/16,192.0.2.7"),
        ("10.1.0.0/16:22", "10.1.0.0/16:22"),
        ("2001:DB8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:22", "[2001:db8::1]:22"),
        ("[2001:db8::/32]:22", "[2001:db8::/32]:22"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("localhost:8080", "localhost:8080"),
        ("_dmarc.example.com", "_dmarc.example.com"),
    ] {
        assert_eq!(list(given).to_string(), shown, "{given}");
        assert_eq!(list(shown), list(given), "{given}");
    }
}

#[test]
fn a_bad_entry_is_named_with_what_is_wrong() {
    let long = format!("{}.com", "a".repeat(64));
    let longer = format!("{}example.com", "abcdefg.".repeat(32));
    for (given, what) in [
        ("", "names nothing"),
        (",", "extra comma"),
        ("example.com,", "extra comma"),
        ("a.example,,b.example", "extra comma"),
        ("*", "use `nat`"),
        ("0.0.0.0/0", "use `nat`"),
        ("::/0", "use `nat`"),
        ("*.com", "two labels"),
        ("*.", "is empty"),
        ("a.*.example", "within a label"),
        ("*example.com", "within a label"),
        ("https://example.com", "is a URL"),
        ("example.com/path", "has a path"),
        (" example.com", "has a space"),
        ("a.example, b.example", "has a space"),
        ("a.example\n", "has a space"),
        ("example..com", "two dots"),
        (".example.com", "two dots"),
        ("example.com..", "two dots"),
        ("bücher.example", "xn--"),
        ("exa\u{202e}mple.com", "xn--"),
        ("ex!mple.com", "character"),
        ("-a.example", "character"),
        ("a-.example", "character"),
        (long.as_str(), "63 characters"),
        (longer.as_str(), "253 characters"),
        ("example.com:", "port"),
        ("example.com:0", "port"),
        ("example.com:65536", "port"),
        ("example.com:+80", "port"),
        ("example.com:http", "port"),
        ("10.1.2.3/16", "10.1.0.0/16"),
        ("10.0.0.0/33", "1 to 32"),
        ("2001:db8::/129", "1 to 128"),
        ("[10.1.2.3]:22", "IPv6"),
        ("[2001:db8::1", "IPv6"),
        ("[2001:db8::1]22", "IPv6"),
        ("10.0.2", "neither an address nor a domain name"),
        ("127.1", "neither an address nor a domain name"),
        ("1.2.3.4.5", "neither an address nor a domain name"),
        ("0x7f000001", "neither an address nor a domain name"),
    ] {
        let error = given.parse::<AllowList>().expect_err(given).to_string();
        assert!(error.contains(what), "{given}: {error}");
        assert!(!error.contains(crate::printable::is_unprintable), "{error}");
    }
    let many: Vec<String> = (0..=MOST_ENTRIES)
        .map(|n| format!("h{n}.example"))
        .collect();
    let error = many.join(",").parse::<AllowList>().unwrap_err().to_string();
    assert!(error.contains("at most 256"), "{error}");
    assert_eq!(list(&many[1..].join(",")).len(), MOST_ENTRIES);
}

#[test]
fn a_wildcard_is_every_name_below_and_not_the_name_itself() {
    let list = list("*.example.com,example.org");
    for yes in ["a.example.com", "a.b.example.com", "example.org"] {
        assert!(list.has_name(&name(yes)), "{yes}");
    }
    for no in [
        "example.com",
        "notexample.com",
        "a.example.org",
        "com",
        "example.com.evil.example",
    ] {
        assert!(!list.has_name(&name(no)), "{no}");
    }
}

#[test]
fn without_a_port_an_entry_allows_http_and_tls_by_name() {
    let list = list("example.com,db.example.com:5432,tls.example.com:443");
    let look = |host: &str, port| list.name_on_port(&name(host), port);
    assert_eq!(look("example.com", 80), Some(Look::Name));
    assert_eq!(look("example.com", 443), Some(Look::Name));
    assert_eq!(look("example.com", 22), None);
    assert_eq!(look("db.example.com", 5432), Some(Look::Address));
    assert_eq!(look("db.example.com", 443), None);
    assert_eq!(look("tls.example.com", 443), Some(Look::Name));
    assert_eq!(look("tls.example.com", 80), None);
    assert!(list.has_name(&name("db.example.com")));
}

#[test]
fn addresses_are_allowed_by_themselves_and_in_either_form() {
    let list = list("192.0.2.7,10.1.0.0/16:22,2001:db8::/32");
    assert!(list.address_on_port(ip("192.0.2.7"), 443));
    assert!(list.address_on_port(ip("::ffff:192.0.2.7"), 80));
    assert!(!list.address_on_port(ip("192.0.2.7"), 22));
    assert!(!list.address_on_port(ip("192.0.2.8"), 443));
    assert!(list.address_on_port(ip("10.1.255.255"), 22));
    assert!(!list.address_on_port(ip("10.2.0.0"), 22));
    assert!(list.address_on_port(ip("2001:db8:ffff::1"), 443));
    assert!(!list.address_on_port(ip("2001:db9::1"), 443));
    assert!(list.names_address(ip("10.1.2.3")) && !list.names_address(ip("10.2.2.3")));
}

proptest! {
    #[test]
    fn whatever_is_given_is_a_list_that_reads_back_or_an_error_that_can_be_shown(
        text in "(\\PC{0,20}|[a-c*.:/,\\[\\]0-9-]{0,40})",
    ) {
        match text.parse::<AllowList>() {
            Ok(list) => prop_assert_eq!(list.to_string().parse(), Ok(list)),
            Err(e) => prop_assert!(!e.to_string().contains(crate::printable::is_unprintable)),
        }
    }

    #[test]
    fn a_range_holds_what_begins_as_it_does(bits: u32, prefix in 1u8..=32, other: u32) {
        let range = Range { first: masked(Ipv4Addr::from_bits(bits).into(), prefix), prefix };
        let same = (bits ^ other).leading_zeros() >= u32::from(prefix);
        prop_assert_eq!(range.holds(Ipv4Addr::from_bits(other).into()), same);
    }
}
