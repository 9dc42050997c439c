//! What may not be reached.

use crate::puppet::{Caller, NO_ACCESS, REFUSED, puppet, puppet_command, unguarded};
use crate::world::{HOST, NEIGHBOUR, answer_once, echo_once, ip, nobody_came, private_host};
use std::io::{self};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixListener;

#[test]
fn nothing_of_the_hosts_is_reachable_though_it_listens() {
    let _neighbour = private_host("9.9.9.9");
    let listeners: Vec<TcpListener> = ["127.0.0.1", "[::1]", HOST, "[fd77::1]", "0.0.0.0"]
        .map(|ip| TcpListener::bind(format!("{ip}:0")).unwrap())
        .into();
    let mut child = puppet(Caller::Leader);
    for listener in &listeners {
        let at = listener.local_addr().unwrap();
        assert_eq!(child.does(&format!("connect {at}")), REFUSED, "{at}");
        assert_eq!(child.does(&format!("nonblocking {at}")), REFUSED, "{at}");
        nobody_came(listener);
    }
    // Any address of loopback's, and loopback in IPv6's clothes.
    let everywhere = listeners[4].local_addr().unwrap().port();
    for ip in ["127.0.0.1", "127.9.9.9", HOST, "0.0.0.0"] {
        assert_eq!(
            child.does(&format!("connect {ip}:{everywhere}")),
            REFUSED,
            "{ip}"
        );
        assert_eq!(
            child.does(&format!("mapped {ip}:{everywhere}")),
            REFUSED,
            "{ip}"
        );
    }
    nobody_came(&listeners[4]);
    let stats = child.end();
    assert_eq!(
        (stats.denied, stats.allowed, stats.refused),
        (18, 0, 0),
        "{stats:?}"
    );
}

/// The refusals are the guard's, and the tests of them can fail.
#[test]
fn without_the_guard_each_of_the_refused_calls_arrives() {
    let _neighbour = private_host("9.9.9.9");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let _unix = UnixListener::bind(&path).unwrap();
    let _tcp = ["0.0.0.0:8080", "[::1]:8080"].map(|at| TcpListener::bind(at).unwrap());
    let udp = UdpSocket::bind("0.0.0.0:5000").unwrap();
    let mut child = unguarded(puppet_command().spawn().unwrap());
    for ip in ["127.0.0.1", "127.9.9.9", HOST, "0.0.0.0", "[::1]"] {
        assert_eq!(
            child.does(&format!("connect {ip}:8080")),
            "connected",
            "{ip}"
        );
    }
    assert_eq!(child.does("mapped 127.0.0.1:8080"), "connected");
    assert_eq!(child.does(&format!("unix {}", path.display())), "connected");
    assert_eq!(child.does("ping 127.0.0.1"), "type 0, 10 bytes");
    std::thread::scope(|scope| {
        scope.spawn(|| answer_once(&udp, "re:"));
        assert_eq!(child.does("udp 127.0.0.1:5000 x"), "re:x");
    });
    child.order("end");
    assert!(child.child.wait().unwrap().success());
}

#[test]
fn an_address_that_changes_during_the_call_is_no_way_around() {
    let _neighbour = private_host("9.9.9.9");
    let on_the_host = TcpListener::bind("127.0.0.1:8080").unwrap();
    let mut child = puppet(Caller::OtherThread);
    let done = child.does(&format!("switching {NEIGHBOUR}:81 127.0.0.1:8080"));
    assert_eq!(done, "done");
    nobody_came(&on_the_host);
    let stats = child.end();
    assert!(stats.allowed > 0 && stats.denied > 0, "{stats:?}");
    assert_eq!(stats.allowed + stats.denied, 3000, "{stats:?}");
}

#[test]
fn an_address_that_the_host_gets_later_is_not_reachable_either() {
    let _neighbour = private_host("9.9.9.9");
    let mut child = puppet(Caller::Leader);
    ip("addr add 10.88.0.1/32 dev lo");
    ip("route add local 10.99.0.0/24 dev lo");
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    assert_eq!(child.does(&format!("connect 10.88.0.1:{port}")), REFUSED);
    assert_eq!(
        child.does(&format!("connect 10.99.0.77:{port}")),
        REFUSED,
        "of a local prefix, on no interface"
    );
    nobody_came(&listener);
    child.end();
}

#[test]
fn datagrams_to_the_host_are_refused_and_do_not_arrive() {
    let _neighbour = private_host("9.9.9.9");
    let mut child = puppet(Caller::Leader);
    for at in ["127.0.0.1:5000", "[::1]:5000", "10.77.0.1:5000"] {
        let socket = UdpSocket::bind(at).unwrap();
        assert_eq!(child.does(&format!("udp {at} x")), NO_ACCESS, "{at}");
        assert_eq!(
            child.does(&format!("udp-connected {at} x")),
            NO_ACCESS,
            "{at}"
        );
        socket.set_nonblocking(true).unwrap();
        assert_eq!(
            socket.recv(&mut [0; 9]).unwrap_err().kind(),
            io::ErrorKind::WouldBlock,
            "{at}"
        );
    }
    assert_eq!(child.does("udp 10.77.0.255:5000 x"), NO_ACCESS, "broadcast");
    assert_eq!(child.does("udp 224.0.0.251:5353 x"), NO_ACCESS, "multicast");
    assert_eq!(child.does("ping 127.0.0.1"), NO_ACCESS);
    child.end();
}

#[test]
fn the_metadata_service_of_a_cloud_is_refused() {
    let _neighbour = private_host("9.9.9.9");
    ip("route add default via 10.77.0.2");
    let mut child = puppet(Caller::Leader);
    assert_eq!(child.does("nonblocking 169.254.169.254:80"), REFUSED);
    assert_eq!(child.end().denied, 1);
}

#[test]
fn unix_sockets_of_the_host_are_refused() {
    let _neighbour = private_host("9.9.9.9");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let _listener = UnixListener::bind(&path).unwrap();
    let mut child = puppet(Caller::Leader);
    assert_eq!(child.does(&format!("unix {}", path.display())), NO_ACCESS);
    assert_eq!(child.end().refused, 1);
}

#[test]
fn malformed_calls_get_the_kernels_errors_and_the_guard_lives_on() {
    let neighbour = private_host("9.9.9.9");
    let mut child = puppet(Caller::Leader);
    for (call, expected) in [
        ("sendmmsg", "ENOSYS"),
        ("bad-fd", "EBADF"),
        ("closed-fd", "EBADF"),
        ("bad-pointer", "EFAULT"),
        ("short", "EINVAL"),
        ("long", "EINVAL"),
        ("negative", "EINVAL"),
        ("bad-payload", "EFAULT"),
        ("huge", "EMSGSIZE"),
        ("unspec-sendto", "EAFNOSUPPORT"),
        ("packet", "EACCES"),
    ] {
        assert_eq!(
            child.does(&format!("raw {call}")),
            format!("Some({expected:?})"),
            "{call}"
        );
    }
    assert_eq!(
        child.does("raw not-a-socket"),
        format!("Some({:?})", libc::ENOTSOCK.to_string())
    );
    assert_eq!(child.does("raw disconnect"), "returned 0");
    std::thread::scope(|scope| {
        scope.spawn(|| echo_once(&neighbour.tcp));
        assert_eq!(child.does(&format!("echo {NEIGHBOUR}:8080 alive")), "alive");
    });
    child.end();
}
