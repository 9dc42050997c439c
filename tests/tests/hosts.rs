//! Hosts that lack something: disk, memory, a QEMU that works. A clear error each, and nothing left behind.

use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use vmint_tests::fixture::{SmallDisk, Tarball, half_made, script};
use vmint_tests::seed::Seed;
use vmint_tests::{Home, patient, until};

/// A copy of a home on a small disk, until dropped. Its machines' processes are found by its path, which is below the
/// home's own.
fn on_a_small_disk(seed: Seed, size: u64) -> Option<(Home, SmallDisk)> {
    let mut home = Home::with(seed);
    let disk = SmallDisk::mount(home.root().join("small"), size)?;
    move_to(&mut home, &disk);
    Some((home, disk))
}

fn move_to(home: &mut Home, disk: &SmallDisk) {
    for name in ["images", "templates", "vmint.db", "vmint.db-wal"] {
        let copied = Command::new("cp")
            .arg("-a")
            .arg(home.root().join(name))
            .arg(disk.path())
            .output()
            .unwrap();
        assert!(
            copied.status.success() || name != "images",
            "{}",
            String::from_utf8_lossy(&copied.stderr)
        );
    }
    home.set_env("VMINT_HOME", disk.path());
}

#[track_caller]
fn assert_no_machines(home: &Home) {
    assert_eq!(home.json("ls --all"), json!([]));
    // A runner answers before its last line.
    until(Duration::from_secs(5), "nothing runs", || {
        home.processes().is_empty() && home.sockets().is_empty()
    });
}

#[test]
fn a_template_that_the_disk_cannot_hold_is_refused_and_leaves_nothing() {
    let Some((home, disk)) = on_a_small_disk(Seed::Image, 256 << 20) else {
        return;
    };
    let before = disk.free();
    let ballast = disk.fill(16 << 20);
    let began = std::time::Instant::now();
    let message = home
        .vmint("run --memory 128M --format json -- true")
        .fault(125, "no_space");
    assert!(
        began.elapsed() < patient(Duration::from_secs(30)),
        "said after {:?}",
        began.elapsed()
    );
    println!("{message}");
    assert_no_machines(&home);
    assert_eq!(half_made(disk.path()), [] as [PathBuf; 0]);
    fs::remove_file(&ballast).unwrap();
    // A process that has ended gives its pages back a moment later.
    until(Duration::from_secs(5), "less than 2 MiB are left", || {
        before - disk.free() < 2 << 20
    });
    home.ok("run --memory 128M -- true");
    assert_no_machines(&home);
}

#[test]
fn with_a_full_disk_every_command_fails_clearly_or_works() {
    let Some((home, disk)) = on_a_small_disk(Seed::Tiny, 512 << 20) else {
        return;
    };
    home.ok("ls");
    let ballast = disk.fill(0);
    for args in [
        "run --memory 128M --format json -- true",
        "create full --memory 128M --start --format json",
    ] {
        let outcome = home.vmint(args);
        let code = if args.starts_with("run") { 125 } else { 1 };
        if outcome.code != Some(0) {
            let message = outcome.fault(code, "no_space");
            println!("{message}");
        }
    }
    home.ok("ls --all");
    fs::remove_file(&ballast).unwrap();
    home.ok("gc");
    home.vmint("rm --force full");
    assert_no_machines(&home);
    home.ok("run --memory 128M -- true");
}

#[test]
fn a_snapshot_that_the_disk_cannot_hold_is_refused_and_the_machine_goes_on() {
    let Some((home, disk)) = on_a_small_disk(Seed::Tiny, 512 << 20) else {
        return;
    };
    home.start("box");
    home.sh(
        "box",
        "head -c 24000000 /dev/urandom > /tmp/noise; sha256sum < /tmp/noise > /tmp/sum",
    );
    let ballast = disk.fill(4 << 20);
    let free = disk.free();
    let message = home
        .vmint("snapshot create box full --format json")
        .fault(1, "no_space");
    println!("{message}");
    assert_eq!(home.state("box"), "running");
    assert_eq!(
        home.sh(
            "box",
            "sha256sum < /tmp/noise | cmp - /tmp/sum && echo same"
        ),
        "same"
    );
    assert_eq!(home.json("snapshot ls"), json!([]));
    assert!(
        free.saturating_sub(disk.free()) < 1 << 20,
        "a part of it was left"
    );
    fs::remove_file(&ballast).unwrap();
    home.ok("snapshot create box full");
    home.ok("fork full copy");
    assert_eq!(
        home.sh(
            "copy",
            "sha256sum < /tmp/noise | cmp - /tmp/sum && echo same"
        ),
        "same"
    );
    home.ok("rm --force box copy");
    assert_no_machines(&home);
}

#[test]
fn an_image_that_the_disk_cannot_hold_is_refused_and_leaves_nothing() {
    let Some((home, disk)) = on_a_small_disk(Seed::Image, 160 << 20) else {
        return;
    };
    let before = disk.free();
    let call = home.call("image build deb --from debian:12 --format json".split(' '));
    let message = call
        .deadline(Duration::from_secs(100))
        .run()
        .fault(1, "no_space");
    println!("{message}");
    assert_eq!(half_made(disk.path()), [] as [PathBuf; 0]);
    assert!(
        before - disk.free() < 2 << 20,
        "{} bytes were left",
        before - disk.free()
    );
    // Half of a root file system's files fit.
    let noise = vec![1; 1 << 20];
    let many = (0..60).fold(Tarball::busybox(&home), |tar, n| {
        tar.file(&format!("srv/{n}"), 0o644, &noise)
    });
    let tar = many.write(&home, "large.tar");
    let ballast = disk.fill(30 << 20);
    let call = home.call([
        "image",
        "import",
        "large",
        tar.to_str().unwrap(),
        "--format",
        "json",
    ]);
    let message = call.run().fault(1, "no_space");
    println!("{message}");
    assert_eq!(half_made(disk.path()), [] as [PathBuf; 0]);
    fs::remove_file(ballast).unwrap();
    assert_eq!(
        home.json("image ls").as_array().map(Vec::len),
        Some(1),
        "tiny alone"
    );
}

#[test]
fn memory_that_no_machine_can_have_is_refused_and_little_is_enough() {
    let home = Home::new();
    for size in [
        "0",
        "1M",
        "63M",
        "2T",
        "65M1",
        "-1",
        "99999999999999999999",
        "lots",
    ] {
        let outcome = home.vmint(&format!("create x --memory={size}")).exits(2);
        assert!(outcome.error().contains("emory"), "{outcome}");
        home.vmint(&format!("run --memory={size} -- true"))
            .exits(125);
    }
    home.vmint("create x --cpus 0").exits(2);
    home.vmint("create x --cpus 1000").exits(2);
    let little = home.ok("run --memory 96M -- cat /proc/meminfo");
    assert!(little.text().contains("MemTotal"), "{little}");
    // The least that can be asked for is less than this kernel needs: it says what to do.
    let outcome = home.vmint("run --memory 64M -- true").exits(125);
    assert!(
        outcome
            .error()
            .contains("64 MiB of memory may be too little"),
        "{outcome}"
    );
    assert!(outcome.error().contains("--memory 128M"), "{outcome}");
    home.vmint("template build tiny --memory 1M").exits(2);
    home.empties(Duration::from_secs(5));
}

#[test]
fn more_memory_than_the_host_has_is_refused_with_both_figures() {
    let home = Home::new();
    let outcome = home.vmint("run --memory 1T --format json -- true");
    let message = outcome.fault(125, "refused");
    assert!(
        message.contains("TiB") || message.contains("GiB"),
        "{message}"
    );
    home.vmint("create x --memory 1T --start").exits(4);
    home.vmint("template build tiny --memory 1T").exits(4);
    assert_eq!(home.json("ls --all"), json!([]));
    assert_eq!(half_made(home.root()), [] as [PathBuf; 0]);
    home.empties(Duration::from_secs(5));
}

#[test]
fn a_host_without_qemu_is_told_what_to_install() {
    let home = Home::new();
    let bare = home.runtime().join("bare");
    fs::create_dir(&bare).unwrap();
    let missing = |args: &str| home.call(args.split(' ')).env("PATH", &bare).run();
    let message = missing("run --memory 128M --format json -- true").fault(125, "hypervisor");
    assert!(
        message.contains("qemu") && message.contains("not installed"),
        "{message}"
    );
    let outcome = missing("create x --memory 128M --start").exits(1);
    assert!(
        outcome.error().contains("apt-get install qemu-system-x86"),
        "{outcome}"
    );
    missing("ls").ok();
    missing("rm x --force").exits(3);
    let outcome = home
        .call(["run", "--", "true"])
        .env("VMINT_QEMU", "/no/such/qemu")
        .run()
        .exits(125);
    assert!(outcome.error().contains("/no/such/qemu"), "{outcome}");
    assert_eq!(home.left(), [] as [String; 0]);
    home.ok("run --memory 128M -- true");
}

#[test]
fn a_qemu_that_is_too_old_mute_or_none_is_refused() {
    let home = Home::new();
    let qemu = home.runtime().join("qemu-system-x86_64");
    let with = |text: &str| {
        script(&qemu, text);
        home.call("run --memory 128M --format json -- true".split(' '))
            .env("VMINT_QEMU", &qemu)
            .run()
    };
    let message =
        with("echo 'QEMU emulator version 6.0.0 (Debian 1:6.0)'").fault(125, "hypervisor");
    assert!(
        message.contains("6.0.0") && message.contains("7.2"),
        "{message}"
    );
    let message = with("echo hello").fault(125, "hypervisor");
    assert!(message.contains("hello"), "{message}");
    with("exit 1").fault(125, "hypervisor");
    fs::write(&qemu, "no program").unwrap();
    let call = home.call("run --memory 128M --format json -- true".split(' '));
    call.env("VMINT_QEMU", &qemu).run().fault(125, "hypervisor");
    assert_eq!(home.left(), [] as [String; 0]);
}

/// Passes the question for the version on to the real QEMU, and does `then` when it is to run a machine.
fn impostor(path: &Path, then: &str) {
    script(
        path,
        &format!("case \"$*\" in *--version*) exec qemu-system-x86_64 --version;; esac\n{then}"),
    );
}

/// Starting QEMU to ask it takes half as long as a fork.
#[test]
fn a_qemu_is_asked_once_what_it_can_do_whichever_accelerator_is_named() {
    let home = Home::with(Seed::Image);
    let qemu = home.runtime().join("qemu-system-x86_64");
    let asked = home.runtime().join("asked");
    let question = format!("echo >> {}", asked.display());
    script(
        &qemu,
        &format!("case \"$*\" in *--version*) {question};; esac\nexec qemu-system-x86_64 \"$@\""),
    );
    let commands = [
        "create box --memory 128M",
        "create other --memory 128M",
        "image ls",
        "run --memory 128M -- true",
    ];
    for command in commands {
        let call = home.call(command.split(' ')).env("VMINT_QEMU", &qemu);
        call.env("VMINT_ACCELERATOR", "tcg").run().ok();
    }
    assert_eq!(fs::read_to_string(&asked).unwrap(), "\n");
}

#[test]
fn a_qemu_that_crashes_at_its_start_is_quoted() {
    let home = Home::with(Seed::Image);
    let qemu = home.runtime().join("qemu-system-x86_64");
    let with = |then: &str| {
        impostor(&qemu, then);
        home.call("run --memory 128M --format json -- true".split(' '))
            .env("VMINT_QEMU", &qemu)
            .run()
    };
    let outcome = with("echo 'qemu-system-x86_64: cannot find my way' >&2; exit 1");
    assert!(outcome.took < patient(Duration::from_secs(20)), "{outcome}");
    let message = outcome.fault(125, "hypervisor");
    assert!(message.contains("cannot find my way"), "{message}");
    let message = with("echo 'dying now' >&2; kill -SEGV $$").fault(125, "hypervisor");
    assert!(
        message.contains("SEGV") && message.contains("dying now"),
        "{message}"
    );
    assert_eq!(home.left(), [] as [String; 0]);
    assert_eq!(half_made(home.root()), [] as [PathBuf; 0]);
}

#[test]
fn a_fork_whose_qemu_crashes_is_a_fault_of_the_host_and_leaves_nothing() {
    let home = Home::new();
    home.ok("create box --memory 128M");
    home.ok("start box");
    home.ok("stop box");
    let qemu = home.runtime().join("qemu-system-x86_64");
    impostor(&qemu, "echo 'out of order' >&2; exit 3");
    let start = home
        .call("start box --format json".split(' '))
        .env("VMINT_QEMU", &qemu)
        .run();
    assert_eq!(start.code, Some(1), "{start}");
    assert!(start.error().contains("out of order"), "{start}");
    until(Duration::from_secs(5), "nothing runs", || {
        home.processes().is_empty() && home.sockets().is_empty()
    });
    // The real one's template does not fit this one: so that it is there to be forked, its QEMU breaks afterwards.
    impostor(&qemu, "exec qemu-system-x86_64 \"$@\"");
    home.call("run --memory 128M -- true".split(' '))
        .env("VMINT_QEMU", &qemu)
        .run()
        .ok();
    let flag = home.runtime().join("broken");
    impostor(
        &qemu,
        &format!(
            "test ! -e {} || exit 3; exec qemu-system-x86_64 \"$@\"",
            flag.display()
        ),
    );
    home.call("run --memory 128M -- true".split(' '))
        .env("VMINT_QEMU", &qemu)
        .run()
        .ok();
    fs::write(&flag, "").unwrap();
    for args in [
        "create other --memory 128M --start --format json",
        "run --memory 128M --format json -- true",
    ] {
        let call = home
            .call(args.split(' '))
            .env("VMINT_QEMU", &qemu)
            .deadline(Duration::from_secs(30));
        call.run()
            .fault(if args.starts_with("run") { 125 } else { 1 }, "hypervisor");
    }
    assert_eq!(home.rows(), ["box"]);
    home.ok("start box");
    assert_eq!(home.sh("box", "echo up"), "up");
}

/// The guest's own writes: it must not be told that they failed, for that would damage its file system for good.
#[test]
fn a_machine_whose_disk_the_host_cannot_hold_is_paused_and_goes_on_when_there_is_room() {
    let mut home = Home::with(Seed::Image);
    let Some(disk) = SmallDisk::mount_ext4(home.root().join("small"), 640 << 20) else {
        return;
    };
    move_to(&mut home, &disk);
    let tar = Tarball::busybox(&home).write(&home, "root.tar");
    let words = [
        "image",
        "import",
        "mine",
        tar.to_str().unwrap(),
        "--size",
        "256M",
    ];
    home.call(words).run().ok();
    home.ok("create box --image mine --memory 128M --start");
    let ballast = disk.fill(24 << 20);
    let script =
        "/bin/busybox head -c 60000000 /dev/zero > /big && /bin/busybox sync && echo written";
    let writer = home.call(["exec", "box", "--", "sh", "-c", script]).start();
    until(Duration::from_secs(30), "the machine is paused", || {
        home.state("box") == "paused"
    });
    let info = home.info("box");
    assert!(
        info["reason"].as_str().is_some_and(|r| r.contains("full")),
        "it says why: {info}"
    );
    assert!(!writer.has_ended(), "nothing has failed yet");
    fs::remove_file(&ballast).unwrap();
    home.ok("resume box");
    assert_eq!(writer.finish().ok().text(), "written\n");
    let info = home.info("box");
    assert_eq!(
        (&info["state"], &info["reason"]),
        (&json!("running"), &json!(null)),
        "{info}"
    );
    home.ok("rm --force box");
    assert_no_machines(&home);
}

/// A full disk is not a QEMU that cannot save devices alone: then all of memory would be written to that disk too.
#[test]
fn a_snapshot_that_the_disk_cannot_hold_is_refused_and_does_not_write_all_of_memory() {
    let Some((home, disk)) = on_a_small_disk(Seed::Tiny, 768 << 20) else {
        return;
    };
    home.ok("create box --memory 128M --start");
    let before = home.ok("snapshot create box whole --format json").json();
    assert_eq!(before["full"], false, "{before}");
    // Less than the state of the devices, which is 69 KB.
    let ballast = disk.fill(48 << 10);
    let message = home
        .vmint("snapshot create box tight --format json")
        .fault(1, "no_space");
    assert!(message.contains("space"), "{message}");
    let id = home.info("box")["id"].as_str().unwrap().to_owned();
    let log = disk.path().join("machines").join(id).join("runner.log");
    let log = fs::read_to_string(log).unwrap();
    assert!(!log.contains("saving all of memory"), "{log}");
    fs::remove_file(ballast).unwrap();
    assert_eq!(home.sh("box", "echo goes on"), "goes on");
    let after = home.ok("snapshot create box roomy --format json").json();
    assert_eq!(after["full"], false, "{after}");
    home.ok("rm --force box");
    assert_no_machines(&home);
}
