//! QEMU with libslirp under the guard.

use crate::puppet::{PATIENCE, ends};
use crate::world::{answer_once, nobody_came, private_host};
use std::collections::HashSet;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use vmint_model::Publish;
use vmint_qemu::Port;
use vmint_qemu::netguard::{Guard, Stats, Watch, confine, confine_to};

/// A real QEMU with libslirp under the guard, and in place of a guest this test: its Ethernet frames go to the
/// user-mode network by a hub, without a machine.
struct Slirp {
    qemu: Child,
    wire: UnixStream,
    guard: Option<Guard>,
}

const GUEST: [u8; 4] = [10, 0, 2, 15];
/// How a guest sees the host.
const GATEWAY: [u8; 4] = [10, 0, 2, 2];
const RESOLVER: [u8; 4] = [10, 0, 2, 3];
const GUEST_MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
/// QEMU's descriptor for the wire.
const WIRE: i32 = 3;

fn slirp(options: &str) -> Slirp {
    let (mut command, wire, theirs) = qemu(options);
    let handover = confine(&mut command).unwrap();
    let qemu = command.spawn().expect("QEMU is installed");
    drop(theirs);
    started(Slirp {
        qemu,
        wire,
        guard: Some(handover.supervise().unwrap()),
    })
}

/// One that publishes a port, which is open before it is started.
fn publishing(port: &Port, guest: u16) -> Slirp {
    let at = port.publish().host;
    let (mut command, wire, theirs) = qemu(&format!(",hostfwd=tcp:127.0.0.1:{at}-:{guest}"));
    let handover = confine_to(&mut command, Watch::NETWORK.and_ports()).unwrap();
    let qemu = command.spawn().expect("QEMU is installed");
    drop(theirs);
    let guard = handover.supervise_ports(vec![port.clone()]).unwrap();
    started(Slirp {
        qemu,
        wire,
        guard: Some(guard),
    })
}

fn unguarded_slirp(options: &str) -> Slirp {
    let (mut command, wire, theirs) = qemu(options);
    let qemu = command.spawn().expect("QEMU is installed");
    drop(theirs);
    started(Slirp {
        qemu,
        wire,
        guard: None,
    })
}

/// QEMU's command, the wire, and the wire's other end, to be closed after the spawn.
fn qemu(options: &str) -> (Command, UnixStream, UnixStream) {
    use std::os::unix::process::CommandExt as _;
    let (wire, theirs) = UnixStream::pair().unwrap();
    wire.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = Command::new("qemu-system-x86_64");
    command.args([
        "-M",
        "none",
        "-nodefaults",
        "-display",
        "none",
        "-qmp",
        "stdio",
    ]);
    command.args([
        "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
    ]);
    command.args([
        "-netdev",
        &format!("user,id=user{options}"),
        "-netdev",
        "hubport,id=a,hubid=0,netdev=user",
    ]);
    command.args([
        "-netdev",
        &format!("socket,id=wire,fd={WIRE}"),
        "-netdev",
        "hubport,id=b,hubid=0,netdev=wire",
    ]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let fd = theirs.as_raw_fd();
    // SAFETY: dup2 and fcntl are async-signal-safe; `theirs` is open until the spawn is over.
    unsafe {
        command.pre_exec(move || {
            let done = if fd == WIRE {
                libc::fcntl(fd, libc::F_SETFD, 0)
            } else {
                libc::dup2(fd, WIRE)
            };
            if done < 0 {
                Err(io::Error::last_os_error())
            } else {
                Ok(())
            }
        });
    }
    (command, wire, theirs)
}

fn started(mut slirp: Slirp) -> Slirp {
    // It greets when it is up.
    let mut greeting = String::new();
    BufReader::new(slirp.qemu.stdout.as_mut().unwrap())
        .read_line(&mut greeting)
        .unwrap();
    assert!(greeting.contains("QMP"), "{greeting}");
    // libslirp holds packets back for a guest whose hardware address it does not know.
    let mut arp = vec![0, 1, 8, 0, 6, 4, 0, 1];
    for part in [&GUEST_MAC[..], &GUEST, &[0; 6], &GUEST] {
        arp.extend(part);
    }
    slirp.send_frame(0x0806, &arp);
    slirp
}

/// The Internet checksum.
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

#[derive(Debug, PartialEq)]
enum Answer {
    Connected,
    Reset,
    Unreachable { code: u8 },
    Datagram(String),
}

impl Slirp {
    fn send_frame(&mut self, kind: u16, payload: &[u8]) {
        let mut frame = [0xff; 6].to_vec();
        frame.extend(GUEST_MAC);
        frame.extend(kind.to_be_bytes());
        frame.extend(payload);
        let length = (frame.len() as u32).to_be_bytes();
        self.wire
            .write_all(&[&length[..], &frame].concat())
            .unwrap();
    }

    fn send_ip(&mut self, protocol: u8, to: [u8; 4], mut payload: Vec<u8>, checksum_at: usize) {
        let length = payload.len() as u16;
        let pseudo = [
            &GUEST[..],
            &to,
            &[0, protocol],
            &length.to_be_bytes(),
            &payload,
        ]
        .concat();
        payload[checksum_at..checksum_at + 2].copy_from_slice(&checksum(&pseudo));
        let mut header = vec![0x45, 0];
        header.extend((20 + length).to_be_bytes());
        header.extend([0, 1, 0, 0, 64, protocol, 0, 0]);
        header.extend(GUEST);
        header.extend(to);
        let sum = checksum(&header);
        header[10..12].copy_from_slice(&sum);
        header.extend(payload);
        self.send_frame(0x0800, &header);
    }

    fn connect(&mut self, to: [u8; 4], port: u16) -> Answer {
        let mut segment = 40_000u16.to_be_bytes().to_vec();
        segment.extend(port.to_be_bytes());
        segment.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0x20, 0, 0, 0, 0, 0]);
        self.send_ip(6, to, segment, 16);
        self.answer(port)
    }

    fn datagram(&mut self, to: [u8; 4], port: u16, text: &str) -> Answer {
        let mut datagram = 40_000u16.to_be_bytes().to_vec();
        datagram.extend(port.to_be_bytes());
        datagram.extend((8 + text.len() as u16).to_be_bytes());
        datagram.extend([0, 0]);
        datagram.extend(text.as_bytes());
        self.send_ip(17, to, datagram, 6);
        self.answer(port)
    }

    /// What comes back from `port`, or as an error about it.
    fn answer(&mut self, port: u16) -> Answer {
        loop {
            let mut length = [0; 4];
            self.wire
                .read_exact(&mut length)
                .expect("an answer in time");
            let mut frame = vec![0; u32::from_be_bytes(length) as usize];
            self.wire.read_exact(&mut frame).unwrap();
            if frame[12..14] != [8, 0] {
                continue;
            }
            let (protocol, payload) = (frame[23], &frame[34..]);
            match protocol {
                6 if payload[..2] == port.to_be_bytes() => match payload[13] {
                    flags if flags & 0x04 != 0 => return Answer::Reset,
                    flags if flags & 0x12 == 0x12 => return Answer::Connected,
                    _ => {}
                },
                17 if payload[..2] == port.to_be_bytes() => {
                    let length = usize::from(u16::from_be_bytes([payload[4], payload[5]]));
                    return Answer::Datagram(
                        String::from_utf8_lossy(&payload[8..length]).into_owned(),
                    );
                }
                // Destination unreachable; behind its 8 bytes the header and the ports of what was sent.
                1 if payload[0] == 3 && payload[30..32] == port.to_be_bytes() => {
                    return Answer::Unreachable { code: payload[1] };
                }
                _ => {}
            }
        }
    }

    fn end(mut self) -> Stats {
        self.qemu.kill().unwrap();
        self.qemu.wait().unwrap();
        ends(self.guard.take().unwrap())
    }
}

impl Drop for Slirp {
    fn drop(&mut self) {
        // Ended already, unless the test failed.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

#[test]
fn qemu_starts_under_the_guard_without_a_single_stopped_call() {
    let _neighbour = private_host("127.0.0.53");
    let stats = slirp("").end();
    assert_eq!(stats, Stats::default());
}

#[test]
fn a_guest_reaches_its_neighbours_and_not_its_host() {
    let neighbour = private_host("9.9.9.9");
    let on_the_host = TcpListener::bind("0.0.0.0:8080").unwrap();
    let mut slirp = slirp("");
    assert_eq!(
        slirp.connect(GATEWAY, 8080),
        Answer::Reset,
        "the host as 10.0.2.2"
    );
    // Which libslirp takes for the host, or for an address outside; there is none such here.
    assert_ne!(
        slirp.connect([10, 0, 2, 77], 8080),
        Answer::Connected,
        "an address beside it"
    );
    assert_eq!(
        slirp.connect([10, 77, 0, 1], 8080),
        Answer::Reset,
        "the host's own address"
    );
    assert_eq!(
        slirp.connect([127, 0, 0, 1], 8080),
        Answer::Reset,
        "loopback by its own name"
    );
    nobody_came(&on_the_host);
    assert_eq!(
        slirp.connect([10, 77, 0, 2], 8080),
        Answer::Connected,
        "a neighbour"
    );
    neighbour.tcp.accept().unwrap();
    let stats = slirp.end();
    assert_eq!(
        (stats.denied, stats.allowed, stats.refused),
        (4, 1, 0),
        "{stats:?}"
    );
}

/// What the guard is for, and that the test above can fail.
#[test]
fn without_the_guard_a_guest_reaches_the_hosts_loopback() {
    let _neighbour = private_host("9.9.9.9");
    let on_the_host = TcpListener::bind("127.0.0.1:8080").unwrap();
    let mut slirp = unguarded_slirp("");
    assert_eq!(slirp.connect(GATEWAY, 8080), Answer::Connected);
    on_the_host.accept().unwrap();
}

#[test]
fn a_guests_datagrams_reach_its_neighbours_and_not_its_host() {
    let neighbour = private_host("9.9.9.9");
    let on_the_host = UdpSocket::bind("0.0.0.0:5000").unwrap();
    let mut slirp = slirp("");
    assert_eq!(
        slirp.datagram(GATEWAY, 5000, "x"),
        Answer::Unreachable { code: 0 }
    );
    assert_eq!(
        slirp.datagram([10, 77, 0, 1], 5000, "x"),
        Answer::Unreachable { code: 0 }
    );
    on_the_host.set_nonblocking(true).unwrap();
    assert_eq!(
        on_the_host.recv(&mut [0; 9]).unwrap_err().kind(),
        io::ErrorKind::WouldBlock
    );
    std::thread::scope(|scope| {
        scope.spawn(|| answer_once(&neighbour.udp, "re:"));
        assert_eq!(
            slirp.datagram([10, 77, 0, 2], 9000, "hello"),
            Answer::Datagram("re:hello".into())
        );
    });
    slirp.end();
}

#[test]
fn a_guest_has_dns_through_a_resolver_on_the_hosts_loopback() {
    let _neighbour = private_host("127.0.0.53");
    let server = UdpSocket::bind("127.0.0.53:53").unwrap();
    let _over_tcp = TcpListener::bind("127.0.0.53:53").unwrap();
    let mut slirp = slirp("");
    std::thread::scope(|scope| {
        scope.spawn(|| answer_once(&server, "A? "));
        assert_eq!(
            slirp.datagram(RESOLVER, 53, "example.org"),
            Answer::Datagram("A? example.org".into())
        );
    });
    assert_eq!(slirp.connect(RESOLVER, 53), Answer::Connected);
    slirp.end();
}

#[test]
fn a_port_published_by_qemu_takes_connections_from_the_hosts_loopback() {
    let _neighbour = private_host("9.9.9.9");
    let mut slirp = slirp(",hostfwd=tcp:127.0.0.1:2222-:22");
    let _client = TcpStream::connect("127.0.0.1:2222").unwrap();
    // libslirp asks the guest for the connection.
    let syn = loop {
        let mut length = [0; 4];
        slirp.wire.read_exact(&mut length).unwrap();
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        slirp.wire.read_exact(&mut frame).unwrap();
        if frame[12..14] == [8, 0] && frame[23] == 6 {
            break frame;
        }
    };
    assert_eq!(
        (&syn[30..34], &syn[36..38], syn[47] & 0x12),
        (&GUEST[..], &22u16.to_be_bytes()[..], 0x02)
    );
    assert_eq!(slirp.end(), Stats::default());
}

/// QEMU itself listens with a queue of one: of so many at once the kernel would drop most, and they would try again a second later.
#[test]
fn a_port_that_was_opened_for_qemu_takes_all_connections_at_once_and_qemu_listens_nowhere_else() {
    let _neighbour = private_host("9.9.9.9");
    let port = Port::open(Publish { host: 0, guest: 22 }, None).unwrap();
    let mut slirp = publishing(&port, 22);
    let at = (Ipv4Addr::LOCALHOST, port.publish().host).into();
    let soon = Duration::from_millis(900);
    let clients: Vec<_> = (0..200)
        .map(|_| TcpStream::connect_timeout(&at, soon).unwrap())
        .collect();
    // The guest is asked for each of them.
    let mut asked = HashSet::new();
    while asked.len() < clients.len() {
        let mut length = [0; 4];
        slirp.wire.read_exact(&mut length).unwrap();
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        slirp.wire.read_exact(&mut frame).unwrap();
        let is_syn = frame[12..14] == [8, 0] && frame[23] == 6 && frame[47] & 0x12 == 0x02;
        if is_syn && frame[36..38] == 22u16.to_be_bytes() {
            asked.insert(u16::from_be_bytes([frame[34], frame[35]]));
        }
    }
    let listening = Command::new("ss").args(["-Hltn"]).output().unwrap();
    let listening = String::from_utf8(listening.stdout).unwrap();
    assert_eq!(
        listening
            .lines()
            .filter(|l| l.contains("127.0.0.1"))
            .count(),
        1,
        "{listening}"
    );
    // The next QEMU has the same port.
    slirp.end();
    let again = publishing(&port, 22);
    assert!(TcpStream::connect_timeout(&at, soon).is_ok());
    again.end();
}
