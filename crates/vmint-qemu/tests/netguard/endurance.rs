//! Many, slow, and killed.

use crate::puppet::{Caller, ORDERS, PATIENCE, Puppet, ends, puppet, puppet_without_guard};
use crate::world::{NEIGHBOUR, echo_once, ip, nobody_came, private_host};
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::Instant;
use vmint_qemu::netguard::confine;

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
        "puppet::the_supervised_child",
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
