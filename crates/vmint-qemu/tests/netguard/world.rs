//! A host for a test, and its neighbour.

use std::io::{self};
use std::net::{TcpListener, UdpSocket};
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

pub const HOST: &str = "10.77.0.1";
pub const HOST_V6: &str = "fd77::1";
pub const NEIGHBOUR: &str = "10.77.0.2";
pub const NEIGHBOUR_V6: &str = "fd77::2";

pub fn ip(args: &str) {
    let out = Command::new("ip")
        .args(args.split(' '))
        .output()
        .expect("iproute2 is installed");
    assert!(
        out.status.success(),
        "ip {args}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
}

fn unshare(what: libc::c_int) {
    // SAFETY: no memory is involved; the flags make only this thread leave the namespaces of its process.
    let done = unsafe { libc::unshare(what) };
    assert_eq!(
        done,
        0,
        "these tests make network namespaces and need root (try `unshare -Ur`): {}",
        io::Error::last_os_error()
    );
}

/// Sockets of the neighbour's. Its network namespace lives as long as they do.
pub struct Neighbour {
    pub tcp: TcpListener,
    pub tcp_v6: TcpListener,
    pub udp: UdpSocket,
}

/// Makes this thread a host of its own, with `name_server` in its /etc/resolv.conf.
pub fn private_host(name_server: &str) -> Neighbour {
    unshare(libc::CLONE_NEWNET | libc::CLONE_NEWNS);
    let resolv_conf = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&resolv_conf, format!("nameserver {name_server}\n")).unwrap();
    for args in [
        vec!["--make-rprivate", "/"],
        vec![
            "--bind",
            resolv_conf.path().to_str().unwrap(),
            "/etc/resolv.conf",
        ],
    ] {
        let out = Command::new("mount").args(&args).output().unwrap();
        assert!(
            out.status.success(),
            "mount {args:?}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
    }
    ip("link set lo up");
    // Without privileges, too, an echo request may be sent.
    std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 0").unwrap();

    let (to_neighbour, its_wire) = mpsc::channel();
    let (thread_id, its_thread_id) = mpsc::channel();
    let neighbour = std::thread::spawn(move || {
        unshare(libc::CLONE_NEWNET);
        thread_id.send(rustix::thread::gettid()).unwrap();
        its_wire.recv().unwrap();
        ip("link set lo up");
        ip(&format!("addr add {NEIGHBOUR}/24 dev vb"));
        ip(&format!("addr add {NEIGHBOUR_V6}/64 dev vb nodad"));
        ip("link set vb up");
        Neighbour {
            tcp: TcpListener::bind((NEIGHBOUR, 8080)).unwrap(),
            tcp_v6: TcpListener::bind((NEIGHBOUR_V6, 8080)).unwrap(),
            udp: UdpSocket::bind((NEIGHBOUR, 9000)).unwrap(),
        }
    });
    ip(&format!(
        "link add va type veth peer name vb netns {}",
        its_thread_id.recv().unwrap()
    ));
    ip(&format!("addr add {HOST}/24 dev va"));
    ip(&format!("addr add {HOST_V6}/64 dev va nodad"));
    ip("link set va up");
    to_neighbour.send(()).unwrap();
    let neighbour = neighbour.join().unwrap();
    // A link takes a moment to carry; until then connects fail.
    let deadline = Instant::now() + Duration::from_secs(5);
    while std::fs::read_to_string("/sys/class/net/va/operstate")
        .is_ok_and(|state| state.trim() == "down")
    {
        assert!(Instant::now() < deadline, "the veth pair does not come up");
        std::thread::yield_now();
    }
    neighbour
}

/// Sends back all that comes on one connection.
pub fn echo_once(listener: &TcpListener) {
    let (mut stream, _) = listener.accept().unwrap();
    let mut from = stream.try_clone().unwrap();
    io::copy(&mut from, &mut stream).unwrap();
}

/// Answers one datagram.
pub fn answer_once(socket: &UdpSocket, prefix: &str) {
    let mut buffer = [0; 1500];
    let (length, from) = socket.recv_from(&mut buffer).unwrap();
    let reply = [prefix.as_bytes(), &buffer[..length]].concat();
    socket.send_to(&reply, from).unwrap();
}

/// Nobody knocked.
#[track_caller]
pub fn nobody_came(listener: &TcpListener) {
    listener.set_nonblocking(true).unwrap();
    let seen = listener.accept();
    assert!(
        matches!(&seen, Err(error) if error.kind() == io::ErrorKind::WouldBlock),
        "{seen:?}"
    );
}
