//! What a guest with `--net allow:…` reaches: the names of its list, and nothing else.
//!
//! Each test is a host of its own (`vmint_tests::netns`): its name server, with a script, is on its loopback; its servers are
//! behind a wire, at public and at private addresses.

use serde_json::Value;
use std::time::Duration;
use vmint_tests::names::{By, NameServer, Reply, greeter, web_server};
use vmint_tests::netns::private_host;
use vmint_tests::{Home, until};

const SOON: Duration = Duration::from_secs(20);

/// Two servers, and a neighbour at a private address; all answer on ports 80 and 5432.
const GOOD: &str = "203.0.113.2";
const EVIL: &str = "203.0.113.3";
const PRIVATE: &str = "10.77.0.2";

fn world(script: impl Fn(&str, By) -> Reply + Send + Sync + 'static) -> NameServer {
    private_host(
        "127.0.0.53",
        &["203.0.113.1/24", "10.77.0.1/24", "2001:db8::1/64"],
        &[
            "203.0.113.2/24",
            "203.0.113.3/24",
            "10.77.0.2/24",
            "2001:db8::2/64",
        ],
        || {
            for (at, name) in [(GOOD, "good"), (EVIL, "evil"), (PRIVATE, "private")] {
                web_server(at, name);
                greeter(at, 5432, "hello\n");
            }
        },
    );
    NameServer::start("127.0.0.53", script)
}

/// The usual names.
fn usual(name: &str, _: By) -> Reply {
    match name {
        "good.example" | "other.example" | "a.good.example" | "db.example" => Reply::address(GOOD),
        "evil.example" => Reply::address(EVIL),
        "private.example" => Reply::address(PRIVATE),
        _ => Reply::NoSuchName,
    }
}

fn create(home: &Home, name: &str, allow: &str) {
    home.ok(&format!(
        "create {name} --memory 128M --net allow:{allow} --start"
    ));
}

/// What a guest hears from a port within a few seconds.
fn hears(home: &Home, name: &str, host: &str, port: u16) -> String {
    home.sh(
        name,
        &format!("nc -w 5 {host} {port} </dev/null 2>/dev/null; true"),
    )
}

/// What a guest gets by HTTP from there, for this `Host`.
fn gets(home: &Home, name: &str, at: &str, host: &str) -> String {
    home.sh(
        name,
        &format!(
            "printf 'GET / HTTP/1.1\\r\\nHost: {host}\\r\\nConnection: close\\r\\n\\r\\n' | nc -w 5 {at} 80 2>/dev/null; true"
        ),
    )
}

fn resolves(home: &Home, name: &str, host: &str) -> String {
    home.sh(name, &format!("nslookup {host} 2>&1; true"))
}

/// The lines of a machine's network log.
fn log(home: &Home, name: &str) -> Vec<Value> {
    home.ok(&format!("logs {name} --network --format json"))
        .values()
}

#[test]
fn a_guest_resolves_and_reaches_what_is_listed_and_nothing_else() {
    let server = world(usual);
    let home = Home::new();
    create(&home, "box", "good.example,db.example:5432");
    let known = resolves(&home, "box", "good.example");
    assert!(known.contains(GOOD), "{known}");
    let unknown = resolves(&home, "box", "evil.example");
    assert!(!unknown.contains(EVIL), "{unknown}");
    let asked = server.asked();
    assert!(
        asked.iter().all(|(name, _)| name == "good.example"),
        "no other name leaves the host: {asked:?}"
    );
    let page = gets(&home, "box", "good.example", "good.example");
    assert!(page.contains("good was asked for good.example"), "{page}");
    // An address that nobody answered, the host, a neighbour.
    for at in [EVIL, PRIVATE, "203.0.113.1", "10.0.2.2"] {
        let page = gets(&home, "box", at, "good.example");
        assert_eq!(page, "", "{at}");
    }
    // Another port: of the name that is listed with it.
    assert_eq!(hears(&home, "box", "good.example", 5432), "");
    assert_eq!(hears(&home, "box", "db.example", 5432), "hello");
    assert_eq!(hears(&home, "box", EVIL, 5432), "");
}
