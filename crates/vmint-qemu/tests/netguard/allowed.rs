//! What may be reached.

use crate::puppet::{Caller, NO_ACCESS, REFUSED, puppet};
use crate::world::{NEIGHBOUR, NEIGHBOUR_V6, answer_once, echo_once, nobody_came, private_host};
use std::io::Read;
use std::net::{TcpListener, TcpStream, UdpSocket};

#[test]
fn a_neighbour_is_reachable_over_tcp_and_data_flows() {
    let neighbour = private_host("9.9.9.9");
    for caller in [Caller::Leader, Caller::OtherThread] {
        let mut child = puppet(caller);
        let expected = match caller {
            Caller::Leader => "leader",
            Caller::OtherThread => "other",
        };
        assert_eq!(child.does("thread"), expected);
        std::thread::scope(|scope| {
            scope.spawn(|| echo_once(&neighbour.tcp));
            assert_eq!(
                child.does(&format!("echo {NEIGHBOUR}:8080 over-ipv4")),
                "over-ipv4"
            );
            scope.spawn(|| echo_once(&neighbour.tcp_v6));
            assert_eq!(
                child.does(&format!("echo [{NEIGHBOUR_V6}]:8080 over-ipv6")),
                "over-ipv6"
            );
        });
        assert_eq!(
            child.does(&format!("nonblocking {NEIGHBOUR}:8080")),
            "in progress, then connected"
        );
        assert_eq!(child.does(&format!("mapped {NEIGHBOUR}:8080")), "connected");
        // The two that nobody accepted.
        drop((neighbour.tcp.accept(), neighbour.tcp.accept()));
        let stats = child.end();
        assert_eq!(
            (stats.allowed, stats.denied, stats.refused),
            (4, 0, 0),
            "{stats:?}"
        );
    }
}

#[test]
fn a_neighbour_is_reachable_over_udp_and_ping() {
    let neighbour = private_host("9.9.9.9");
    let mut child = puppet(Caller::Leader);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (
                answer_once(&neighbour.udp, "re:"),
                answer_once(&neighbour.udp, "re:"),
            )
        });
        assert_eq!(
            child.does(&format!("udp {NEIGHBOUR}:9000 hello")),
            "re:hello"
        );
        assert_eq!(
            child.does(&format!("udp-connected {NEIGHBOUR}:9000 hello")),
            "re:hello"
        );
    });
    assert_eq!(child.does(&format!("ping {NEIGHBOUR}")), "type 0, 10 bytes");
    child.end();
}

#[test]
fn the_network_s_own_errors_are_passed_on() {
    let _neighbour = private_host("9.9.9.9");
    let mut child = puppet(Caller::Leader);
    // Nobody listens on that port of the neighbour's; that is its own refusal, not the policy's.
    assert_eq!(child.does(&format!("connect {NEIGHBOUR}:81")), REFUSED);
    assert_eq!(child.does(&format!("nonblocking {NEIGHBOUR}:81")), REFUSED);
    assert_eq!(
        child.does("connect 203.0.113.1:80"),
        r#"Some("ENETUNREACH")"#
    );
    let stats = child.end();
    assert_eq!((stats.allowed, stats.denied), (2, 1), "{stats:?}");
}

#[test]
fn the_configured_name_server_is_reachable_on_loopback_and_nothing_beside_it() {
    let _neighbour = private_host("127.0.0.53");
    let server = UdpSocket::bind("127.0.0.53:53").unwrap();
    let over_tcp = TcpListener::bind("127.0.0.53:53").unwrap();
    let other_port = TcpListener::bind("127.0.0.53:54").unwrap();
    let other_address = UdpSocket::bind("127.0.0.1:53").unwrap();
    let mut child = puppet(Caller::Leader);
    std::thread::scope(|scope| {
        scope.spawn(|| (answer_once(&server, "A? "), answer_once(&server, "A? ")));
        assert_eq!(
            child.does("udp 127.0.0.53:53 example.org"),
            "A? example.org"
        );
        assert_eq!(
            child.does("udp-connected 127.0.0.53:53 example.org"),
            "A? example.org"
        );
        scope.spawn(|| echo_once(&over_tcp));
        assert_eq!(child.does("echo 127.0.0.53:53 example.org"), "example.org");
    });
    assert_eq!(child.does("connect 127.0.0.53:54"), REFUSED);
    nobody_came(&other_port);
    assert_eq!(child.does("udp 127.0.0.1:53 example.org"), NO_ACCESS);
    drop(other_address);

    // The administrator changes the name server: the old one is closed from then on.
    std::fs::write("/etc/resolv.conf", "nameserver 127.0.0.1\n").unwrap();
    assert_eq!(child.does("udp 127.0.0.53:53 example.org"), NO_ACCESS);
    let new = UdpSocket::bind("127.0.0.1:53").unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| answer_once(&new, "new "));
        assert_eq!(
            child.does("udp 127.0.0.1:53 example.org"),
            "new example.org"
        );
    });
    child.end();
}

#[test]
fn a_published_port_takes_connections_from_the_host() {
    let _neighbour = private_host("9.9.9.9");
    let mut child = puppet(Caller::Leader);
    let at = child.does("listen");
    let mut text = String::new();
    TcpStream::connect(at)
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(
        (text.as_str(), child.reply().as_str()),
        ("published", "served")
    );
    assert_eq!(child.end().stopped, 0);
}
