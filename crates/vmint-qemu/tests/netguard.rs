//! The network guard on real processes and a real QEMU: what may be reached and what may not.
//!
//! Each test makes the thread it runs in a host of its own: a network namespace with a loopback, one address on a veth
//! pair, a neighbour at its other end, and a resolv.conf. What it starts from there lives in that host. That takes
//! root, and nothing of it remains when the test ends.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use vmint_qemu::netguard::{Guard, Stats, confine, support};

// --- a host for a test ------------------------------------------------------------------------------------------

const HOST: &str = "10.77.0.1";
const HOST_V6: &str = "fd77::1";
const NEIGHBOUR: &str = "10.77.0.2";
const NEIGHBOUR_V6: &str = "fd77::2";

fn ip(args: &str) {
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
        "these tests make network namespaces and need root: {}",
        io::Error::last_os_error()
    );
}

/// Sockets of the neighbour's. Its network namespace lives as long as they do.
struct Neighbour {
    tcp: TcpListener,
    tcp_v6: TcpListener,
    udp: UdpSocket,
}

/// Makes this thread a host of its own, with `name_server` in its /etc/resolv.conf.
fn private_host(name_server: &str) -> Neighbour {
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
fn echo_once(listener: &TcpListener) {
    let (mut stream, _) = listener.accept().unwrap();
    let mut from = stream.try_clone().unwrap();
    io::copy(&mut from, &mut stream).unwrap();
}

/// Answers one datagram.
fn answer_once(socket: &UdpSocket, prefix: &str) {
    let mut buffer = [0; 1500];
    let (length, from) = socket.recv_from(&mut buffer).unwrap();
    let reply = [prefix.as_bytes(), &buffer[..length]].concat();
    socket.send_to(&reply, from).unwrap();
}

/// Nobody knocked.
#[track_caller]
fn nobody_came(listener: &TcpListener) {
    listener.set_nonblocking(true).unwrap();
    let seen = listener.accept();
    assert!(
        matches!(&seen, Err(error) if error.kind() == io::ErrorKind::WouldBlock),
        "{seen:?}"
    );
}

// --- a supervised child that does as it is told --------------------------------------------------------------------

/// In which thread of the child the calls are made.
#[derive(Clone, Copy)]
enum Caller {
    Leader,
    OtherThread,
}

struct Puppet {
    child: Child,
    orders: ChildStdin,
    replies: BufReader<ChildStdout>,
    guard: Option<Guard>,
}

const ORDERS: &str = "VMINT_NETGUARD_PUPPET";
const AS_LEADER: &str = "VMINT_NETGUARD_PUPPET_LEADER";

/// This test binary again, under the guard.
fn puppet(caller: Caller) -> Puppet {
    let mut command = puppet_command();
    if matches!(caller, Caller::Leader) {
        command.env(AS_LEADER, "1");
    }
    let handover = confine(&mut command).unwrap();
    let child = command.spawn().unwrap();
    let mut puppet = unguarded(child);
    puppet.guard = Some(handover.supervise().unwrap());
    puppet
}

fn puppet_command() -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([
        "--exact",
        "the_supervised_child",
        "--ignored",
        "--nocapture",
        "--quiet",
    ]);
    command
        .env(ORDERS, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    command
}

impl Puppet {
    fn order(&mut self, order: &str) {
        writeln!(self.orders, "{order}").unwrap();
    }

    fn reply(&mut self) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert_ne!(
                self.replies.read_line(&mut line).unwrap(),
                0,
                "the child ended"
            );
            if let Some(reply) = line.split_once("= ").map(|(_, reply)| reply) {
                return reply.trim_end().to_owned();
            }
        }
    }

    fn does(&mut self, order: &str) -> String {
        self.order(order);
        self.reply()
    }

    fn stats(&self) -> Stats {
        self.guard.as_ref().unwrap().stats()
    }

    /// Lets it end, and the guard after it.
    fn end(mut self) -> Stats {
        self.order("end");
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}");
        ends(self.guard.take().unwrap())
    }
}

impl Drop for Puppet {
    fn drop(&mut self) {
        // Ended already, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The guard's thread ends on its own within a second of its process.
#[track_caller]
fn ends(guard: Guard) -> Stats {
    let deadline = Instant::now() + Duration::from_secs(1);
    while !guard.is_finished() {
        assert!(Instant::now() < deadline, "the guard outlives its process");
        std::thread::yield_now();
    }
    guard.wait().unwrap()
}

const PATIENCE: Duration = Duration::from_secs(10);

#[test]
#[ignore = "the child of the other tests, not a test"]
fn the_supervised_child() {
    if std::env::var_os(ORDERS).is_none() {
        return;
    }
    if std::env::var_os(AS_LEADER).is_some() {
        return as_leader(obey);
    }
    obey();
}

/// libtest runs tests in threads of their own; the thread that forks leads its new process.
fn as_leader(work: fn()) {
    // SAFETY: the main thread, the only other one, waits for this one and holds no lock.
    match unsafe { libc::fork() } {
        0 => {
            // SAFETY: no pointers. The process ends with the one that the test knows.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            work();
            std::process::exit(0);
        }
        child => {
            let mut status = 0;
            // SAFETY: `status` outlives the call.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            assert_eq!(status, 0, "the leader's exit");
        }
    }
}

fn obey() {
    for line in io::stdin().lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        let reply = match words[..] {
            ["thread"] => {
                let leader = rustix::process::getpid() == rustix::thread::gettid();
                Ok(if leader { "leader" } else { "other" }.to_owned())
            }
            ["connect", to] => TcpStream::connect(address(to)).map(|_| "connected".to_owned()),
            ["nonblocking", to] => nonblocking_connect(address(to)),
            ["echo", to, text] => echo(address(to), text),
            ["udp", to, text] => udp(address(to), text),
            ["udp-connected", to, text] => udp_connected(address(to), text),
            ["many", to, count] => Ok(many(address(to), count.parse().unwrap())),
            ["unix", path] => UnixStream::connect(path).map(|_| "connected".to_owned()),
            ["mapped", to] => mapped(address(to)),
            ["ping", to] => ping(to.parse().unwrap()),
            ["raw", call] => raw(call),
            ["listen"] => listen(),
            ["support"] => Ok(match support() {
                Ok(()) => "supported".to_owned(),
                Err(error) => format!("{error:?}"),
            }),
            ["end"] => return,
            ref unknown => panic!("{unknown:?}"),
        };
        println!(
            "= {}",
            reply.unwrap_or_else(|error| format!("{:?}", error.raw_os_error().map(errno_name)))
        );
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect(text)
}

fn errno_name(errno: i32) -> String {
    match errno {
        libc::ECONNREFUSED => "ECONNREFUSED".into(),
        libc::EACCES => "EACCES".into(),
        libc::ENETUNREACH => "ENETUNREACH".into(),
        libc::ENOSYS => "ENOSYS".into(),
        libc::EINPROGRESS => "EINPROGRESS".into(),
        libc::EBADF => "EBADF".into(),
        libc::EFAULT => "EFAULT".into(),
        libc::EINVAL => "EINVAL".into(),
        libc::EAFNOSUPPORT => "EAFNOSUPPORT".into(),
        libc::EMSGSIZE => "EMSGSIZE".into(),
        other => other.to_string(),
    }
}

const REFUSED: &str = r#"Some("ECONNREFUSED")"#;
const NO_ACCESS: &str = r#"Some("EACCES")"#;

fn tcp_socket(family: libc::c_int, flags: libc::c_int) -> OwnedFd {
    // SAFETY: the descriptor is new and nobody else's.
    unsafe {
        let fd = libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC | flags, 0);
        assert!(fd >= 0);
        OwnedFd::from_raw_fd(fd)
    }
}

fn nonblocking_connect(to: SocketAddr) -> io::Result<String> {
    let socket = tcp_socket(
        if to.is_ipv4() {
            libc::AF_INET
        } else {
            libc::AF_INET6
        },
        libc::SOCK_NONBLOCK,
    );
    match rustix::net::connect(&socket, &to) {
        Err(rustix::io::Errno::INPROGRESS) => {}
        other => return other.map(|()| "at once".to_owned()).map_err(Into::into),
    }
    let ready = poll(
        &mut [PollFd::new(&socket, PollFlags::OUT)],
        Some(&Timespec {
            tv_sec: PATIENCE.as_secs() as i64,
            tv_nsec: 0,
        }),
    )?;
    assert_eq!(ready, 1, "connected in time");
    rustix::net::sockopt::socket_error(&socket)??;
    Ok("in progress, then connected".into())
}

fn echo(to: SocketAddr, text: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(text.as_bytes())?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut back = String::new();
    stream.read_to_string(&mut back)?;
    Ok(back)
}

fn udp_socket(to: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

fn received(socket: &UdpSocket) -> io::Result<String> {
    let mut buffer = [0; 1500];
    let length = socket.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

fn udp(to: SocketAddr, text: &str) -> io::Result<String> {
    let socket = udp_socket(to)?;
    assert_eq!(
        socket.send_to(text.as_bytes(), to)?,
        text.len(),
        "the count that sendto returns"
    );
    received(&socket)
}

fn udp_connected(to: SocketAddr, text: &str) -> io::Result<String> {
    let socket = udp_socket(to)?;
    socket.connect(to)?;
    socket.send(text.as_bytes())?;
    received(&socket)
}

fn many(to: SocketAddr, count: usize) -> String {
    let mut outcomes = std::collections::BTreeMap::<String, usize>::new();
    for _ in 0..count {
        let outcome = match TcpStream::connect(to) {
            Ok(_) => "connected".to_owned(),
            Err(error) => error
                .raw_os_error()
                .map_or_else(|| error.to_string(), errno_name),
        };
        *outcomes.entry(outcome).or_default() += 1;
    }
    let mut text = String::new();
    for (outcome, count) in outcomes {
        write!(text, "{count} {outcome}").unwrap();
    }
    text
}

/// An IPv6 socket, an IPv4 destination.
fn mapped(to: SocketAddr) -> io::Result<String> {
    let SocketAddr::V4(v4) = to else {
        panic!("{to} is not IPv4")
    };
    let socket = tcp_socket(libc::AF_INET6, 0);
    rustix::net::connect(
        &socket,
        &SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()),
    )?;
    Ok("connected".into())
}

fn ping(to: Ipv4Addr) -> io::Result<String> {
    // SAFETY: the descriptor is new and nobody else's.
    let socket = unsafe {
        let fd = libc::socket(
            libc::AF_INET,
            libc::SOCK_DGRAM | libc::SOCK_CLOEXEC,
            libc::IPPROTO_ICMP,
        );
        if fd < 0 {
            return Ok(format!("no socket: {}", io::Error::last_os_error()));
        }
        UdpSocket::from(OwnedFd::from_raw_fd(fd))
    };
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send_to(&[8, 0, 0, 0, 0, 0, 0, 1, b'v', b'm'], (to, 0))?;
    let mut reply = [0; 64];
    let length = socket.recv(&mut reply)?;
    Ok(format!("type {}, {length} bytes", reply[0]))
}

/// Calls that no library makes.
fn raw(call: &str) -> io::Result<String> {
    let udp = UdpSocket::bind("0.0.0.0:0")?;
    let fd = udp.as_raw_fd();
    // SAFETY: all zero is a valid sockaddr_in and mmsghdr.
    let (mut to, mut batch): (libc::sockaddr_in, libc::mmsghdr) = unsafe { std::mem::zeroed() };
    to.sin_family = libc::AF_INET as _;
    to.sin_port = 9000u16.to_be();
    to.sin_addr.s_addr = u32::from(NEIGHBOUR.parse::<Ipv4Addr>().unwrap()).to_be();
    let at = (&raw const to).cast::<libc::sockaddr>();
    let length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    let big = vec![0u8; 70_000];
    // SAFETY: the kernel checks every pointer and length; those that are not of live objects are what is tested.
    let result = unsafe {
        match call {
            "sendmmsg" => libc::sendmmsg(fd, &raw mut batch, 1, 0) as isize,
            "bad-fd" => libc::connect(-1, at, length) as isize,
            "closed-fd" => libc::connect(999, at, length) as isize,
            "bad-pointer" => libc::connect(fd, 8 as *const _, length) as isize,
            "short" => libc::connect(fd, at, 3) as isize,
            "long" => libc::connect(fd, at, 129) as isize,
            "negative" => libc::connect(fd, at, -1i32 as libc::socklen_t) as isize,
            "bad-payload" => libc::sendto(fd, 8 as *const _, 4, 0, at, length),
            "huge" => libc::sendto(fd, big.as_ptr().cast(), big.len(), 0, at, length),
            "unspec-sendto" => {
                to.sin_family = libc::AF_UNSPEC as _;
                libc::sendto(
                    fd,
                    big.as_ptr().cast(),
                    1,
                    0,
                    (&raw const to).cast(),
                    length,
                )
            }
            "disconnect" => {
                to.sin_family = libc::AF_UNSPEC as _;
                libc::connect(fd, (&raw const to).cast(), length) as isize
            }
            "not-a-socket" => libc::connect(1, at, length) as isize,
            "packet" => {
                to.sin_family = libc::AF_PACKET as _;
                libc::sendto(
                    fd,
                    big.as_ptr().cast(),
                    1,
                    0,
                    (&raw const to).cast(),
                    length,
                )
            }
            other => panic!("{other}"),
        }
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(format!("returned {result}"))
    }
}

/// What a published port does: listen on loopback, accept, answer.
fn listen() -> io::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("= {}", listener.local_addr()?);
    let (mut stream, _) = listener.accept()?;
    stream.write_all(b"published")?;
    Ok("served".into())
}

// --- what may not be reached -------------------------------------------------------------------------------------

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

// --- what may be reached -------------------------------------------------------------------------------------------

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

// --- many, slow, and killed ----------------------------------------------------------------------------------------

#[test]
fn a_thousand_connects_in_a_row_are_each_answered() {
    let neighbour = private_host("9.9.9.9");
    let mut child = puppet(Caller::Leader);
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = closed.local_addr().unwrap();
    assert_eq!(child.does(&format!("many {at} 1000")), "1000 ECONNREFUSED");
    nobody_came(&closed);
    std::thread::scope(|scope| {
        scope.spawn(|| (0..1000).for_each(|_| drop(neighbour.tcp.accept().unwrap())));
        assert_eq!(
            child.does(&format!("many {NEIGHBOUR}:8080 1000")),
            "1000 connected"
        );
    });
    let stats = child.end();
    assert_eq!(
        (stats.stopped, stats.denied, stats.allowed),
        (2000, 1000, 1000),
        "{stats:?}"
    );
}

/// A destination that takes packets and never answers: its hardware address is nobody's.
fn black_hole() -> String {
    ip("neigh add 10.77.0.9 lladdr 02:00:00:00:00:09 dev va");
    "10.77.0.9:80".into()
}

/// Waits for the guard to have judged `count` calls.
#[track_caller]
fn judged(child: &Puppet, count: u64) {
    let deadline = Instant::now() + PATIENCE;
    while child.stats().allowed < count {
        assert!(Instant::now() < deadline, "{:?}", child.stats());
        std::thread::yield_now();
    }
}

#[test]
fn a_child_killed_in_a_blocking_connect_takes_the_guard_along() {
    let _neighbour = private_host("9.9.9.9");
    let hole = black_hole();
    let mut child = puppet(Caller::OtherThread);
    child.order(&format!("connect {hole}"));
    judged(&child, 1);
    child.child.kill().unwrap();
    child.child.wait().unwrap();
    assert_eq!(ends(child.guard.take().unwrap()).allowed, 1);
}

#[test]
fn a_child_killed_in_the_middle_of_a_thousand_connects_takes_the_guard_along() {
    let _neighbour = private_host("9.9.9.9");
    for calls in [1, 10, 100] {
        let mut child = puppet(Caller::OtherThread);
        child.order("many 127.0.0.1:1 1000000");
        let deadline = Instant::now() + PATIENCE;
        while child.stats().denied < calls {
            assert!(Instant::now() < deadline, "{:?}", child.stats());
            std::thread::yield_now();
        }
        child.child.kill().unwrap();
        child.child.wait().unwrap();
        assert!(ends(child.guard.take().unwrap()).denied >= calls);
    }
}

#[test]
fn a_blocking_connect_holds_up_nobody_else() {
    let neighbour = private_host("9.9.9.9");
    let hole = black_hole();
    // Two processes under one filter: a shell starts both, and the guard serves both.
    let exe = std::env::current_exe().unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", r#"printf 'connect %s\n' "$HOLE" | "$EXE" "$@" >/dev/null & echo "slow $!"; exec "$EXE" "$@""#]);
    command.args([
        "sh",
        "--exact",
        "the_supervised_child",
        "--ignored",
        "--nocapture",
        "--quiet",
    ]);
    command.env("EXE", exe).env("HOLE", &hole).env(ORDERS, "1");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let handover = confine(&mut command).unwrap();
    let mut child = command.spawn().unwrap();
    let guard = handover.supervise().unwrap();
    let (orders, mut replies) = (
        child.stdin.take().unwrap(),
        BufReader::new(child.stdout.take().unwrap()),
    );
    let mut line = String::new();
    replies.read_line(&mut line).unwrap();
    let slow: i32 = line
        .trim()
        .strip_prefix("slow ")
        .expect(&line)
        .parse()
        .unwrap();
    let mut child = Puppet {
        child,
        orders,
        replies,
        guard: Some(guard),
    };
    judged(&child, 1);
    std::thread::scope(|scope| {
        scope.spawn(|| echo_once(&neighbour.tcp));
        assert_eq!(child.does(&format!("echo {NEIGHBOUR}:8080 swift")), "swift");
    });
    assert!(!child.guard.as_ref().unwrap().is_finished());
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(slow).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    assert_eq!(child.end().allowed, 2);
}

#[test]
fn a_child_without_a_supervisor_reaches_nothing() {
    let neighbour = private_host("9.9.9.9");
    let mut child = puppet_without_guard();
    assert_eq!(
        child.does(&format!("connect {NEIGHBOUR}:8080")),
        r#"Some("ENOSYS")"#
    );
    nobody_came(&neighbour.tcp);
    child.order("end");
    assert!(child.child.wait().unwrap().success());
}

fn puppet_without_guard() -> Puppet {
    let mut command = puppet_command();
    let handover = confine(&mut command).unwrap();
    let child = command.spawn().unwrap();
    drop(handover.receive().unwrap());
    unguarded(child)
}

fn unguarded(mut child: Child) -> Puppet {
    let (orders, replies) = (
        child.stdin.take().unwrap(),
        BufReader::new(child.stdout.take().unwrap()),
    );
    Puppet {
        child,
        orders,
        replies,
        guard: None,
    }
}

// --- where it does not work ------------------------------------------------------------------------------------------

#[test]
fn under_another_supervisor_the_guard_says_that_it_is_not_supported() {
    let _neighbour = private_host("9.9.9.9");
    let mut child = puppet(Caller::OtherThread);
    let answer = child.does("support");
    assert!(
        answer.starts_with("Filter(") && answer.contains(&format!("code: {}", libc::EBUSY)),
        "{answer}"
    );
    child.end();
}

/// As Docker does for containers without SYS_PTRACE.
#[test]
fn where_pidfd_getfd_is_forbidden_the_guard_says_that_it_is_not_supported() {
    use std::os::unix::process::CommandExt as _;
    let mut command = puppet_command();
    let forbid = || {
        let step = |code: u32, jt, jf, k| libc::sock_filter {
            code: code as u16,
            jt,
            jf,
            k,
        };
        let mut program = [
            step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
            step(
                libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
                0,
                1,
                libc::SYS_pidfd_getfd as u32,
            ),
            step(
                libc::BPF_RET | libc::BPF_K,
                0,
                0,
                libc::SECCOMP_RET_ERRNO | libc::EPERM as u32,
            ),
            step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
        ];
        let program = libc::sock_fprog {
            len: 4,
            filter: program.as_mut_ptr(),
        };
        // SAFETY: `program` outlives the calls, and the kernel copies it.
        let done = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
                | libc::prctl(
                    libc::PR_SET_SECCOMP,
                    libc::SECCOMP_MODE_FILTER,
                    &raw const program,
                )
        };
        if done == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    };
    // SAFETY: two system calls and the stack.
    unsafe { command.pre_exec(forbid) };
    let mut child = unguarded(command.spawn().unwrap());
    assert_eq!(child.does("support"), "Inspection");
    child.order("end");
    assert!(child.child.wait().unwrap().success());
}

// --- QEMU ------------------------------------------------------------------------------------------------------------

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
