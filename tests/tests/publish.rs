//! Published ports: as many connections as come, and the same port for as long as it can be had.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use vmint_tests::seed::Seed;
use vmint_tests::{Home, patient, until};

const SOON: Duration = Duration::from_secs(20);
/// Connections at once.
const MANY: usize = 400;

fn port(home: &Home, name: &str) -> u16 {
    let info = home.info(name);
    let port = info["ports"][0]["host"].as_u64();
    port.unwrap_or_else(|| panic!("no port in {info}")) as u16
}

/// A server in the guest that answers with a line. Its own queue is short.
fn serve(home: &Home, name: &str) {
    home.sh(
        name,
        "mkdir /tmp/site; echo hello > /tmp/site/index.html; httpd -p 7777 -h /tmp/site",
    );
}

/// One whose queue is as long as the guest's kernel lets it.
const PATIENT: &str = "\
use Socket;
socket(S, PF_INET, SOCK_STREAM, 0) or die;
bind(S, sockaddr_in(7777, INADDR_ANY)) or die;
listen(S, 4096) or die;
while (accept(C, S)) { sysread(C, $_, 1024); syswrite(C, qq(hello\\n)); close(C) }
";

fn heard(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(patient(Duration::from_secs(100))))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    Ok(said)
}

fn answers(port: u16) -> bool {
    heard(port).is_ok_and(|said| said.ends_with("hello\n"))
}

/// Debian has a server whose own queue is long enough.
#[test]
fn four_hundred_connections_at_once_to_a_debian_are_all_served() {
    let home = Home::with(Seed::Debian);
    home.call("create box --image deb --memory 256M --net nat --publish 0:7777 --start".split(' '))
        .deadline(Duration::from_secs(250))
        .run()
        .ok();
    home.call([
        "exec",
        "box",
        "-i",
        "--",
        "sh",
        "-c",
        "cat > /root/server.pl",
    ])
    .input(PATIENT)
    .run()
    .ok();
    home.sh(
        "box",
        "sysctl -qw net.ipv4.tcp_max_syn_backlog=4096
        setsid perl /root/server.pl >/dev/null 2>&1 </dev/null &",
    );
    let port = port(&home, "box");
    until(SOON, "the guest answers", || answers(port));
    let answers: Vec<_> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..MANY).map(|_| scope.spawn(|| heard(port))).collect();
        clients.into_iter().map(|c| c.join().unwrap()).collect()
    });
    let lost: Vec<_> = answers
        .iter()
        .filter(|answer| !matches!(answer, Ok(said) if said.ends_with("hello\n")))
        .collect();
    assert!(lost.is_empty(), "{} of {MANY}: {:?}", lost.len(), lost[0]);
}

#[test]
fn a_port_that_the_host_chose_is_kept_over_all_that_a_machine_goes_through() {
    let home = Home::new();
    home.ok("create box --memory 128M --net nat --publish 0:7777 --start");
    let chosen = port(&home, "box");
    serve(&home, "box");
    until(SOON, "the guest answers", || answers(chosen));
    home.ok("snapshot create box s");
    for step in ["reset box", "restore box s", "restart box"] {
        home.ok(step);
        assert_eq!(port(&home, "box"), chosen, "{step}");
    }
    home.ok("restore box s");
    until(SOON, "the guest answers again", || answers(chosen));
    home.ok("stop box");
    assert!(TcpStream::connect(("127.0.0.1", chosen)).is_err());
    // While another has it, it cannot be had.
    let other = TcpListener::bind(("127.0.0.1", chosen)).unwrap();
    home.ok("start box");
    assert_ne!(port(&home, "box"), chosen);
    drop(other);
    // A fork has ports of its own, and none that it was not given.
    home.ok("fork box twin");
    assert_eq!(home.info("twin")["ports"], serde_json::json!([]));
}

/// Whoever connects while the machine is made anew waits for the new one.
#[test]
fn a_connection_made_during_a_reset_is_not_refused() {
    let home = Home::new();
    home.ok("create box --memory 128M --net nat --publish 0:7777 --start");
    let (port, done) = (port(&home, "box"), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            let mut made = 0;
            while !done.load(Ordering::Relaxed) {
                TcpStream::connect(("127.0.0.1", port)).expect("the port is open");
                made += 1;
                // Without an end they would fill the queue.
                std::thread::sleep(Duration::from_millis(2));
            }
            made
        });
        for _ in 0..5 {
            home.ok("reset box");
        }
        done.store(true, Ordering::Relaxed);
        assert!(client.join().unwrap() > 5);
    });
}
