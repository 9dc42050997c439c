//! What the network guard costs: at a spawn, per call that it judges, and per call that it does not.
//!
//! `cargo run --release --example netguard_probe`

use std::hint::black_box;
use std::io::Write;
use std::net::{TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use vmint_qemu::netguard::{LiveHost, Policy, confine, support};

const SPAWNS: usize = 300;
const CALLS: u32 = 20_000;

fn main() -> std::io::Result<()> {
    if std::env::args().nth(1).is_some() {
        calls();
        return Ok(());
    }
    let started = Instant::now();
    let answer = support();
    println!("support: {answer:?} after {:?}", started.elapsed());
    for guarded in [true, false] {
        println!(
            "{}",
            if guarded {
                "with the guard:"
            } else {
                "without:"
            }
        );
        std::io::stdout().flush()?;
        run_calls(guarded)?;
    }
    spawns()
}

/// Spawns /bin/true, with and without, in turns.
fn spawns() -> std::io::Result<()> {
    let (mut plain, mut guarded, mut received) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..SPAWNS {
        let mut command = Command::new("/bin/true");
        // SAFETY: does nothing; std takes the same way to spawn as with a guard.
        unsafe { std::os::unix::process::CommandExt::pre_exec(&mut command, || Ok(())) };
        let started = Instant::now();
        let mut child = command.spawn()?;
        plain.push(started.elapsed());
        child.wait()?;

        let mut command = Command::new("/bin/true");
        let started = Instant::now();
        let handover = confine(&mut command)?;
        let mut child = command.spawn()?;
        guarded.push(started.elapsed());
        let started = Instant::now();
        let guard = handover.supervise()?;
        received.push(started.elapsed());
        child.wait()?;
        guard.wait()?;
    }
    for (what, times) in [
        ("spawn", &mut plain),
        ("spawn with install", &mut guarded),
        ("receive and start the thread", &mut received),
    ] {
        times.sort();
        println!(
            "{what}: p50 {:?}, p95 {:?}",
            times[SPAWNS / 2],
            times[SPAWNS * 95 / 100]
        );
    }
    Ok(())
}

fn run_calls(guarded: bool) -> std::io::Result<()> {
    // The name server is the one address of this host that may be reached.
    let resolv_conf = std::env::temp_dir().join(format!("netguard-probe-{}", std::process::id()));
    std::fs::write(&resolv_conf, "nameserver 127.0.0.1\n")?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("calls").stdin(Stdio::null());
    if guarded {
        let handover = confine(&mut command)?;
        let before = resident_kib("VmHWM:")?;
        let mut child = command.spawn()?;
        let guard = handover
            .receive()?
            .guard(Policy::new(LiveHost::with_resolv_conf(&resolv_conf)))?;
        child.wait()?;
        let most = resident_kib("VmHWM:")?;
        println!("  {:?}", guard.stats());
        println!(
            "  memory of this process: {before} KiB before, {most} KiB at most while it guarded"
        );
        guard.wait()?;
    } else {
        command.status()?;
    }
    std::fs::remove_file(resolv_conf)
}

/// A line of /proc/self/status.
fn resident_kib(name: &str) -> std::io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    Ok(line
        .and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(0))
}

/// The child's part.
fn calls() {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let payload = [0; 1400];
    per_call("TCP connect, refused", || {
        drop(black_box(TcpStream::connect("127.0.0.1:1")));
    });
    per_call("UDP sendto, 1400 bytes, outside port 53", || {
        drop(black_box(socket.send_to(&payload, "127.0.0.1:9")));
    });
    per_call("UDP sendto, 1400 bytes, to the name server", || {
        drop(black_box(socket.send_to(&payload, "127.0.0.1:53")));
    });
    let connected = std::os::unix::net::UnixDatagram::pair().expect("a pair");
    per_call("send and recv on a connected socket", || {
        drop(black_box(connected.0.send(&payload[..64])));
        drop(black_box(connected.1.recv(&mut [0; 64])));
    });
}

fn per_call(what: &str, mut call: impl FnMut()) {
    let started = Instant::now();
    for _ in 0..CALLS {
        call();
    }
    let each: Duration = started.elapsed() / CALLS;
    println!("  {what}: {each:?}");
}
