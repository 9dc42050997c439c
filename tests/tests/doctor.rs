//! `vmint doctor`: what is checked, what is said about it, and how it exits.

use serde_json::Value;
use std::fs;
use std::os::unix::fs::symlink;
use vmint_tests::fixture::script;
use vmint_tests::processes::kill;
use vmint_tests::seed::Seed;
use vmint_tests::{Home, until};

fn check<'a>(checks: &'a Value, name: &str) -> &'a Value {
    let found = checks
        .as_array()
        .expect("a list of checks")
        .iter()
        .find(|check| check["name"] == name);
    found.unwrap_or_else(|| panic!("no check {name} in {checks}"))
}

#[test]
fn every_line_says_ok_warning_or_failure_and_what_to_do() {
    let home = Home::new();
    let outcome = home.ok("doctor --format json");
    let checks = outcome.json();
    for name in [
        "qemu",
        "accelerator",
        "confinement",
        "kernel",
        "mmdebstrap",
        "memory",
        "swap",
        "memory-pressure",
        "disk-space",
        "open-files",
        "home",
        "sockets",
        "stale-machines",
        "network-guard",
        "ping",
    ] {
        check(&checks, name);
    }
    let shown = home.ok("doctor").text();
    for one in checks.as_array().unwrap() {
        let (name, summary) = (
            one["name"].as_str().unwrap(),
            one["summary"].as_str().unwrap(),
        );
        assert!(!summary.is_empty() && !summary.contains('\n'), "{one}");
        match one["status"].as_str().unwrap() {
            "ok" => {}
            "warning" => assert!(
                one["remedy"].is_string(),
                "a warning says what to do: {one}"
            ),
            other => panic!("{other} on a host where machines run: {one}"),
        }
        assert!(shown.contains(name), "{name} is not shown: {shown}");
    }
    let qemu = check(&checks, "qemu")["summary"].as_str().unwrap();
    assert!(
        qemu.starts_with("QEMU ") && qemu.contains("qemu-system"),
        "{qemu}"
    );
    let home_check = check(&checks, "home")["summary"].as_str().unwrap();
    assert!(
        home_check.contains(home.root().to_str().unwrap()),
        "{home_check}"
    );
}

/// That `/dev/kvm` opens proves nothing: what is named is what machines have.
#[test]
fn the_accelerator_that_is_named_is_the_one_that_machines_have() {
    let home = Home::new();
    home.start("box");
    let used = home.info("box")["accelerator"].as_str().unwrap().to_owned();
    let checks = home.ok("doctor --format json").json();
    let accelerator = check(&checks, "accelerator");
    let summary = accelerator["summary"].as_str().unwrap();
    assert_eq!(
        summary.starts_with("KVM"),
        used == "kvm",
        "machines have {used}: {accelerator}"
    );
    assert_eq!(
        summary.starts_with("emulation (TCG)"),
        used == "tcg",
        "machines have {used}: {accelerator}"
    );
    if used == "tcg" {
        assert!(
            summary.contains("/dev/kvm"),
            "it says why it is not KVM: {accelerator}"
        );
    }
}

#[test]
fn a_missing_qemu_is_a_failure_with_the_package_to_install() {
    let home = Home::with(Seed::Image);
    let bare = home.runtime().join("bare");
    fs::create_dir(&bare).unwrap();
    let outcome = home
        .call("doctor --format json".split(' '))
        .env("PATH", &bare)
        .run()
        .exits(1);
    let checks = outcome.json();
    for (name, package) in [("qemu", "qemu-system-x86"), ("qemu-img", "qemu-utils")] {
        let one = check(&checks, name);
        assert_eq!(one["status"], "failure", "{one}");
        assert!(one["remedy"].as_str().unwrap().contains(package), "{one}");
    }
    // The other checks are made all the same.
    assert_eq!(check(&checks, "home")["status"], "ok");
    let shown = home.call(["doctor"]).env("PATH", &bare).run().exits(1);
    assert!(
        shown.text().contains("apt-get install qemu-system-x86"),
        "{shown}"
    );
}

#[test]
fn a_qemu_that_is_too_old_is_a_failure() {
    let home = Home::with(Seed::Image);
    let qemu = home.runtime().join("qemu-system-x86_64");
    script(&qemu, "echo 'QEMU emulator version 6.2.0 (Debian 1:6.2)'");
    let outcome = home
        .call("doctor --format json".split(' '))
        .env("VMINT_QEMU", &qemu)
        .run()
        .exits(1);
    let checks = outcome.json();
    let one = check(&checks, "qemu");
    assert!(
        one["status"] == "failure" && one["summary"].as_str().unwrap().contains("6.2.0"),
        "{one}"
    );
}

/// Images that are imported need none of it.
#[test]
fn a_missing_mmdebstrap_is_a_warning() {
    let home = Home::new();
    let bare = home.runtime().join("bare");
    fs::create_dir(&bare).unwrap();
    let path = std::env::var("PATH").unwrap();
    for folder in path.split(':').chain(["/usr/sbin", "/sbin"]) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_name() != "mmdebstrap" {
                let _ = symlink(entry.path(), bare.join(entry.file_name()));
            }
        }
    }
    let checks = home
        .call("doctor --format json".split(' '))
        .env("PATH", &bare)
        .run()
        .ok()
        .json();
    let one = check(&checks, "mmdebstrap");
    assert_eq!(one["status"], "warning", "{one}");
    assert!(
        one["remedy"].as_str().unwrap().contains("mmdebstrap"),
        "{one}"
    );
}

#[test]
fn stale_machines_are_named_and_cleared_up() {
    let home = Home::new();
    home.start("box");
    let before = home.ok("doctor --format json").json();
    assert_eq!(check(&before, "stale-machines")["summary"], "none");
    let (runner, hypervisor) = home.pids("box");
    kill(runner);
    until(std::time::Duration::from_secs(5), "both are gone", || {
        !vmint_tests::processes::lives(runner) && !vmint_tests::processes::lives(hypervisor)
    });
    let checks = home.ok("doctor --format json").json();
    let stale = check(&checks, "stale-machines");
    assert!(
        stale["summary"].as_str().unwrap().contains("box"),
        "{stale}"
    );
    let after = home.ok("doctor --format json").json();
    assert_eq!(check(&after, "stale-machines")["summary"], "none");
    assert_eq!(home.state("box"), "failed");
}

#[test]
fn a_home_that_cannot_be_used_is_a_failure_and_not_the_end_of_doctor() {
    let home = Home::with(Seed::Empty);
    let file = home.runtime().join("file");
    fs::write(&file, "").unwrap();
    let outcome = home
        .call("doctor --format json".split(' '))
        .env("VMINT_HOME", &file)
        .run()
        .exits(1);
    let checks = outcome.json();
    assert_eq!(check(&checks, "home")["status"], "failure", "{checks}");
    check(&checks, "memory");
    let long = home.runtime().join("x".repeat(120));
    let outcome = home
        .call("doctor --format json".split(' '))
        .env("VMINT_RUNTIME_DIR", &long)
        .run()
        .exits(1);
    assert!(
        outcome.text().contains("107"),
        "a socket's path may have 107 bytes: {outcome}"
    );
}
