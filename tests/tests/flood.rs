//! What a guest sends when it does not keep to the protocol, and to a client that does not read: its machine ends and
//! says why, and its runner's memory stays as it was.

use rustix::process::Signal;
use std::ffi::OsStr;
use std::time::{Duration, Instant};
use vmint_tests::fixture::attack_program;
use vmint_tests::processes::most_memory;
use vmint_tests::{Home, patient, until};

/// How much more memory a runner may have taken at most: the windows of the streams, and what they are read into.
const MORE: u64 = 12 << 20;

#[test]
fn a_guest_that_floods_its_runner_ends_itself_and_costs_no_memory() {
    let home = Home::new();
    let folder = tempfile::tempdir().unwrap();
    let program = attack_program(folder.path(), "flood");
    for kind in [
        "eof",
        "credit",
        "no-credit",
        "much-credit",
        "started",
        "data",
        "input",
        "unopened",
        "garbage",
    ] {
        // A machine of its own each, named like what it does.
        home.start(kind);
        let target = format!("{kind}:/root/flood");
        let copy = ["cp".as_ref(), program.as_os_str(), OsStr::new(&target)];
        home.call(copy).run().ok();
        // A client that reads nothing: output waits for it up to its window.
        let deaf = home
            .call(["exec", kind, "--", "sh", "-c", "cat /dev/zero"])
            .start();
        until(
            Duration::from_secs(20),
            "the command runs in the guest",
            || !home.sh(kind, "pidof cat || true").is_empty(),
        );
        deaf.signal(Signal::STOP);
        let (runner, hypervisor) = home.pids(kind);
        let before = most_memory(runner).expect("the runner lives");
        let attack = home
            .call(["exec", kind, "--", "/root/flood", kind])
            .deadline(Duration::from_secs(60))
            .start();
        let (mut most, end) = (before, Instant::now() + patient(Duration::from_secs(45)));
        // It is looked at as often as can be: the runner ends with the session.
        while let Some(now) = most_memory(runner).filter(|now| *now <= before + MORE) {
            most = now;
            assert!(Instant::now() < end, "{kind}: the machine goes on");
            std::thread::sleep(Duration::from_millis(1));
        }
        most = most_memory(runner).unwrap_or(most);
        assert!(
            most <= before + MORE,
            "{kind}: {before} bytes before, {most} during the flood"
        );
        until(Duration::from_secs(10), "QEMU has ended", || {
            most_memory(hypervisor).is_none()
        });
        let said = attack.finish().exits(125).error();
        assert!(said.contains("protocol"), "{kind}: {said}");
        let event = home.event(kind, "failed", Duration::from_secs(10));
        assert_eq!(event["cause"], "protocol_broken", "{kind}: {event}");
        let info = home.info(kind);
        let reason = info["reason"].as_str().unwrap_or_default();
        assert!(reason.contains("broke the protocol"), "{kind}: {info}");
        deaf.signal(Signal::CONT);
        deaf.finish().exits(125);
        home.ok(&format!("rm --force {kind}"));
    }
}

/// A port of a device is a guest's to write to: what comes of it is bounded.
#[test]
fn a_guest_that_tells_of_panics_without_end_is_ended() {
    let (home, folder) = (Home::new(), tempfile::tempdir().unwrap());
    home.start("box");
    let program = attack_program(folder.path(), "panics");
    home.ok(&format!("cp {} box:/panics", program.display()));
    let told = home.call(["exec", "box", "--", "/panics"]).run();
    // What it has said before may be lost with the machine.
    assert_eq!(told.code, Some(125), "{told}");
    let event = home.event("box", "failed", Duration::from_secs(60));
    assert_eq!(event["cause"], "protocol_broken", "{event}");
}
