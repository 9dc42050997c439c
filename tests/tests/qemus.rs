//! Two QEMUs, an older and a newer one: what was frozen by the one is gone on with by the other.
//!
//! The second one is `VMINT_TEST_SECOND_QEMU`, or what `scripts/second-qemu` has unpacked; without one these tests say that they were
//! SKIPPED.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use vmint_tests::Home;
use vmint_tests::seed::Seed;

/// The second QEMU and its version; nothing, with a word, if there is none that runs.
fn second() -> Option<(PathBuf, String)> {
    let unpacked = || {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
        root.map(|root| root.join("target/second-qemu/usr/bin/qemu-system-x86_64"))
    };
    let named = std::env::var_os("VMINT_TEST_SECOND_QEMU").map(PathBuf::from);
    let program = named
        .or_else(unpacked)
        .expect("this crate lies in a folder");
    let Some(version) = version(&program) else {
        println!(
            "SKIPPED: no second QEMU at {} (scripts/second-qemu unpacks one)",
            program.display()
        );
        return None;
    };
    if Some(&version) == self::version(Path::new("qemu-system-x86_64")).as_ref() {
        println!("SKIPPED: both QEMUs are of version {version}");
        return None;
    }
    Some((program, version))
}

/// `7.2` of `QEMU emulator version 7.2.22 (…)`.
fn version(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let number = text.split("version ").nth(1)?.split_whitespace().next()?;
    Some(number.split('.').take(2).collect::<Vec<_>>().join("."))
}

/// Which QEMU executes a machine.
fn executes(home: &Home, name: &str) -> String {
    let version = home.ok(&format!("qmp {name} query-version")).json();
    let number = &version["qemu"];
    format!("{}.{}", number["major"], number["minor"])
}

const WORK: &str = "head -c 3000000 /dev/urandom > /tmp/data; sha256sum < /tmp/data > /tmp/sum
    (while :; do sleep 1; done) >/dev/null 2>&1 & echo $! > /tmp/job";
const LOOK: &str =
    "sha256sum < /tmp/data | cmp - /tmp/sum && kill -0 $(cat /tmp/job) && sh -c 'echo whole'";

#[test]
fn what_one_qemu_froze_the_other_goes_on_with_in_both_directions() {
    let Some((program, second)) = second() else {
        return;
    };
    let first = version(Path::new("qemu-system-x86_64")).expect("QEMU is installed");
    let mut home = Home::new();
    // Not asked of each QEMU anew.
    home.set_env("VMINT_ACCELERATOR", "tcg");
    let with = |other: bool, args: &str| {
        let call = home
            .call(args.split(' '))
            .deadline(Duration::from_secs(250));
        let call = if other {
            call.env("VMINT_QEMU", &program)
        } else {
            call
        };
        call.run().ok()
    };
    for (other, version, next) in [(false, &first, &second), (true, &second, &first)] {
        for net in ["none", "nat"] {
            with(
                other,
                &format!("create box --memory 128M --net {net} --start"),
            );
            assert_eq!(&executes(&home, "box"), version);
            home.sh("box", WORK);
            home.ok("snapshot create box s");
            // By the other QEMU, and a snapshot of that by the first again.
            with(!other, "fork s there");
            assert_eq!(&executes(&home, "there"), next);
            assert_eq!(home.sh("there", LOOK), "whole");
            home.ok("snapshot create there back");
            with(other, "fork back here");
            assert_eq!(&executes(&home, "here"), version);
            assert_eq!(home.sh("here", LOOK), "whole");
            // A machine whose QEMU was replaced while it was down.
            home.ok("stop box");
            with(!other, "start box");
            home.ok("rm --force box there here");
            home.ok("snapshot rm s back");
        }
    }
}

#[test]
fn a_machine_with_a_disk_and_systemd_goes_on_under_another_qemu() {
    let Some((program, second)) = second() else {
        return;
    };
    let mut home = Home::with(Seed::Debian);
    home.set_env("VMINT_ACCELERATOR", "tcg");
    home.ok("create box --image deb --memory 256M --net nat --start");
    home.sh("box", WORK);
    home.sh("box", "echo kept > /root/file; sync");
    home.ok("snapshot create box s");
    let with = |args: &str| {
        let call = home.call(args.split(' ')).env("VMINT_QEMU", &program);
        call.deadline(Duration::from_secs(250)).run().ok()
    };
    with("fork s there");
    assert_eq!(executes(&home, "there"), second);
    assert_eq!(home.sh("there", LOOK), "whole");
    let look = "echo 3 > /proc/sys/vm/drop_caches; cat /root/file; dmesg | grep -ci 'ext4.*error'; systemctl is-system-running";
    let told = home.sh("there", &format!("{look}; true"));
    assert!(told.starts_with("kept\n0\n"), "{told}");
    // The machine itself, after the upgrade.
    home.ok("stop box");
    with("start box");
    assert_eq!(executes(&home, "box"), second);
    assert_eq!(home.sh("box", "cat /root/file"), "kept");
    with("restore box s");
    assert_eq!(home.sh("box", LOOK), "whole");
}
