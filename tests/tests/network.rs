//! What a guest can reach, and who can reach it.
//!
//! Each test is a host of its own: a network namespace with an own `resolv.conf` and a neighbour. That takes root, if
//! only in a user namespace (`scripts/test` sees to it).

use serde_json::Value;
use std::io::Read;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;
use vmint_tests::names::greeter;
use vmint_tests::netns::{self, ip};
use vmint_tests::{Home, until};

const HOST: &str = "10.77.0.1";
const NEIGHBOUR: &str = "10.77.0.2";
const SOON: Duration = Duration::from_secs(10);

/// A host with this resolver and a neighbour, who listens on port 8080 and answers with a line.
fn private_host(resolver: &str) {
    netns::private_host(resolver, &["10.77.0.1/24"], &["10.77.0.2/24"], || {
        greeter(NEIGHBOUR, 8080, "the neighbour\n");
    });
}

/// What a guest hears from there within a few seconds.
fn hears(home: &Home, name: &str, address: &str, port: u16) -> String {
    home.sh(
        name,
        &format!("echo | nc -w 3 {address} {port} 2>/dev/null; true"),
    )
}

fn nobody_came(listener: &TcpListener) {
    listener.set_nonblocking(true).unwrap();
    let seen = listener.accept();
    assert!(
        matches!(&seen, Err(e) if e.kind() == std::io::ErrorKind::WouldBlock),
        "{seen:?}"
    );
}

#[test]
fn a_machine_has_no_network_unless_it_asks_for_one() {
    let home = Home::new();
    home.start("box");
    assert_eq!(home.sh("box", "ls /sys/class/net"), "lo");
    let info = home.info("box");
    assert_eq!(
        (&info["addresses"], &info["ports"]),
        (&Value::Array(Vec::new()), &Value::Array(Vec::new())),
        "{info}"
    );
    let message = home
        .vmint("create other --memory 128M --publish 0:80 --format json")
        .fault(2, "usage");
    assert!(message.contains("network"), "{message}");
}

#[test]
fn a_guest_reaches_its_hosts_neighbours_and_not_its_host() {
    private_host("9.9.9.9");
    let home = Home::new();
    home.ok("create box --memory 128M --net nat --start");
    assert_eq!(
        home.sh("box", "ls /sys/class/net | tr '\\n' ' '"),
        "eth0 lo "
    );
    let everywhere = TcpListener::bind("0.0.0.0:8080").unwrap();
    let loopback = TcpListener::bind("127.0.0.1:8081").unwrap();
    for (address, port) in [
        ("10.0.2.2", 8080),
        (HOST, 8080),
        ("10.0.2.2", 8081),
        ("10.0.2.77", 8080),
    ] {
        assert_eq!(hears(&home, "box", address, port), "", "{address}:{port}");
    }
    nobody_came(&everywhere);
    nobody_came(&loopback);
    assert_eq!(hears(&home, "box", NEIGHBOUR, 8080), "the neighbour");
    // A fork of it is as confined.
    home.ok("fork box child");
    assert_eq!(hears(&home, "child", "10.0.2.2", 8080), "");
    nobody_came(&everywhere);
    assert_eq!(hears(&home, "child", NEIGHBOUR, 8080), "the neighbour");
    home.ok("reset box");
    assert_eq!(hears(&home, "box", HOST, 8080), "");
    nobody_came(&everywhere);
}

#[test]
fn machines_cannot_reach_each_other_and_all_have_the_same_address() {
    private_host("9.9.9.9");
    let home = Home::new();
    for name in ["one", "two"] {
        home.ok(&format!(
            "create {name} --memory 128M --net nat --publish 0:7777 --start"
        ));
        let info = home.info(name);
        assert_eq!(
            info["addresses"],
            serde_json::json!(["10.0.2.15"]),
            "{info}"
        );
        home.sh(
            name,
            &format!("(while :; do echo {name} | nc -l -p 7777; done) >/dev/null 2>&1 &"),
        );
    }
    let port = home.info("two")["ports"][0]["host"].as_u64().unwrap() as u16;
    until(SOON, "it listens", || from_host(port) == "two\n");
    // Its published port is the host's loopback, which a guest does not reach.
    assert_eq!(hears(&home, "one", "10.0.2.2", port), "");
    assert_eq!(hears(&home, "one", HOST, port), "");
}

fn from_host(port: u16) -> String {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else {
        return String::new();
    };
    stream
        .set_read_timeout(Some(Duration::from_secs(3)))
        .unwrap();
    let mut said = String::new();
    let _ = stream.read_to_string(&mut said);
    said
}

#[test]
fn a_published_port_is_reached_on_loopback_alone_and_is_shown() {
    private_host("9.9.9.9");
    let home = Home::new();
    home.ok("create box --memory 128M --net nat --publish 0:7777 --publish 18080:7777 --start");
    home.sh(
        "box",
        "(while :; do echo hello | nc -l -p 7777; done) >/dev/null 2>&1 &",
    );
    let ports = home.info("box")["ports"].clone();
    assert_eq!(
        (&ports[0]["guest"], &ports[1]["host"]),
        (&7777.into(), &18080.into()),
        "{ports}"
    );
    let port = ports[0]["host"].as_u64().unwrap() as u16;
    assert_ne!(port, 0, "{ports}");
    until(SOON, "the guest answers", || from_host(port) == "hello\n");
    until(SOON, "the guest answers on the other port", || {
        from_host(18080) == "hello\n"
    });
    assert!(
        TcpStream::connect((HOST, port)).is_err(),
        "it is open beyond loopback"
    );
    // One that is taken is a clear error, and leaves nothing.
    let taken = TcpListener::bind("127.0.0.1:18081").unwrap();
    let message =
        home.vmint("create other --memory 128M --net nat --publish 18081:80 --start --format json");
    let message = message.fault(4, "refused");
    assert!(message.contains("18081"), "{message}");
    drop(taken);
    assert_eq!(home.rows(), ["box"]);
    home.ok("stop box");
    assert!(
        TcpStream::connect(("127.0.0.1", port)).is_err(),
        "it is open though the machine is down"
    );
    let info = home.info("box");
    assert_eq!(
        (&info["addresses"], &info["ports"]),
        (&Value::Array(Vec::new()), &Value::Array(Vec::new())),
        "{info}"
    );
}

/// Answers every question with one address.
fn name_server(socket: &UdpSocket, address: [u8; 4]) {
    let mut query = [0; 1500];
    while let Ok((length, from)) = socket.recv_from(&mut query) {
        let question_end = 12
            + query[12..length]
                .iter()
                .position(|&b| b == 0)
                .expect("a name ends")
            + 5;
        let is_a = query[question_end - 3] == 1;
        let mut answer = query[..question_end].to_vec();
        answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
        if is_a {
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
            answer.extend(address);
        }
        if socket.send_to(&answer, from).is_err() {
            break;
        }
    }
}

#[test]
fn names_are_resolved_by_the_hosts_resolver_also_when_that_is_on_its_loopback() {
    private_host("127.0.0.53");
    let server = UdpSocket::bind("127.0.0.53:53").unwrap();
    std::thread::spawn(move || name_server(&server, [10, 77, 0, 2]));
    let home = Home::new();
    home.ok("create box --memory 128M --net nat --start");
    let resolver = home.sh("box", "cat /etc/resolv.conf");
    assert!(resolver.contains("nameserver 10.0.2.3"), "{resolver}");
    let looked_up = home.sh("box", "nslookup some.name.example 2>&1; true");
    assert!(looked_up.contains("10.77.0.2"), "{looked_up}");
    assert_eq!(
        hears(&home, "box", "some.name.example", 8080),
        "the neighbour"
    );
}

#[test]
fn nothing_of_the_network_is_left_on_the_host() {
    private_host("9.9.9.9");
    let links = || ip("-o link").lines().count();
    let sockets = || {
        let out = Command::new("ss")
            .args(["-Hltun"])
            .output()
            .expect("iproute2 is installed");
        String::from_utf8_lossy(&out.stdout).lines().count()
    };
    let before = (links(), sockets());
    let home = Home::new();
    home.ok("create box --memory 128M --net nat --publish 0:80 --start");
    assert_eq!((links(), sockets()), (before.0, before.1 + 1));
    home.ok("rm --force box");
    home.empties(SOON);
    assert_eq!((links(), sockets()), before);
}
