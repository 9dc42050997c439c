//! A supervised child that does as it is told.

use crate::world::NEIGHBOUR;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};
use vmint_qemu::netguard::{Guard, Stats, confine, support};

/// In which thread of the child the calls are made.
#[derive(Clone, Copy)]
pub enum Caller {
    Leader,
    OtherThread,
}

pub struct Puppet {
    pub child: Child,
    pub orders: ChildStdin,
    pub replies: BufReader<ChildStdout>,
    pub guard: Option<Guard>,
}

pub const ORDERS: &str = "VMINT_NETGUARD_PUPPET";
const AS_LEADER: &str = "VMINT_NETGUARD_PUPPET_LEADER";

/// This test binary again, under the guard.
pub fn puppet(caller: Caller) -> Puppet {
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

pub fn puppet_command() -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([
        "--exact",
        "puppet::the_supervised_child",
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

pub fn puppet_without_guard() -> Puppet {
    let mut command = puppet_command();
    let handover = confine(&mut command).unwrap();
    let child = command.spawn().unwrap();
    drop(handover.receive().unwrap());
    unguarded(child)
}

pub fn unguarded(mut child: Child) -> Puppet {
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

impl Puppet {
    pub fn order(&mut self, order: &str) {
        writeln!(self.orders, "{order}").unwrap();
    }

    pub fn reply(&mut self) -> String {
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

    pub fn does(&mut self, order: &str) -> String {
        self.order(order);
        self.reply()
    }

    pub fn stats(&self) -> Stats {
        self.guard.as_ref().unwrap().stats()
    }

    /// Lets it end, and the guard after it.
    pub fn end(mut self) -> Stats {
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
pub fn ends(guard: Guard) -> Stats {
    let deadline = Instant::now() + Duration::from_secs(1);
    while !guard.is_finished() {
        assert!(Instant::now() < deadline, "the guard outlives its process");
        std::thread::yield_now();
    }
    guard.wait().unwrap()
}

pub const PATIENCE: Duration = Duration::from_secs(10);

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
            ["switching", first, second] => Ok(switching(address(first), address(second))),
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

pub const REFUSED: &str = r#"Some("ECONNREFUSED")"#;
pub const NO_ACCESS: &str = r#"Some("EACCES")"#;

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

/// Connects to an address that another thread keeps rewriting: what a check of the memory and a later use of the same
/// memory would fall for.
fn switching(first: SocketAddr, second: SocketAddr) -> String {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    // A sockaddr_in begins with family, port and address: eight bytes that one store changes.
    let packed = |to: SocketAddr| {
        let SocketAddr::V4(to) = to else {
            panic!("{to} is not IPv4")
        };
        let mut bytes = [0; 8];
        bytes[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
        bytes[2..4].copy_from_slice(&to.port().to_be_bytes());
        bytes[4..].copy_from_slice(&to.ip().octets());
        u64::from_ne_bytes(bytes)
    };
    let there = [AtomicU64::new(packed(first)), AtomicU64::new(0)];
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                there[0].store(packed(second), Ordering::Relaxed);
                there[0].store(packed(first), Ordering::Relaxed);
            }
        });
        for _ in 0..3000 {
            let socket = tcp_socket(libc::AF_INET, libc::SOCK_NONBLOCK);
            // SAFETY: the kernel and the supervisor read the 16 bytes of `there`, which outlives the call.
            unsafe { libc::connect(socket.as_raw_fd(), there.as_ptr().cast(), 16) };
        }
        done.store(true, Ordering::Relaxed);
    });
    "done".into()
}

/// What a published port does: listen on loopback, accept, answer.
fn listen() -> io::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("= {}", listener.local_addr()?);
    let (mut stream, _) = listener.accept()?;
    stream.write_all(b"published")?;
    Ok("served".into())
}
