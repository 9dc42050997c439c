//! Bad input, bad hosts and bad moments: a clear error or correct work each, nothing lost, nothing left behind.
//!
//! Here: what users ask for that cannot be had, hosts that lack something, and guests that come to harm.

use serde_json::json;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use vmint_tests::Home;
use vmint_tests::fixture::{OciImage, SmallDisk, Tarball, script};
use vmint_tests::seed::Seed;

/// An ELF header of a program for ARM.
const ARM64: &[u8] = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xb7\0\x01\0\0\0";

/// What half made images and templates look like.
#[track_caller]
fn assert_nothing_half_made(home: &Path) {
    for folder in ["images", "templates", "snapshots", "machines"] {
        let names = fs::read_dir(home.join(folder)).into_iter().flatten().flatten();
        let left: Vec<_> = names.map(|e| e.path()).filter(|p| p.to_string_lossy().contains(".tmp")).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn an_unknown_image_is_named_with_what_there_is() {
    let home = Home::with(Seed::Image);
    let message = home.vmint("run --image nonsense --format json -- true").fault(125, "not_found");
    assert!(message.contains("nonsense"), "{message}");
    for args in ["create x --image nonsense", "template build nonsense", "image inspect nonsense", "image rm nonsense"]
    {
        let outcome = home.vmint(args).exits(3);
        assert!(outcome.error().contains("nonsense"), "{outcome}");
    }
    let outcome = home.vmint("run --image nonsense -- true");
    assert!(outcome.error().contains("vmint image ls"), "it says where to look: {outcome}");
    let odd = home.call(["run", "--image", "a 'b'\n\u{fc}", "--", "true"]).run().exits(125);
    assert!(odd.error().contains("\\n"), "a line break in a name is no line break in a message: {odd}");
    assert_eq!(home.left(), [] as [String; 0]);
}

#[test]
fn images_for_another_processor_are_refused() {
    let home = Home::with(Seed::Image);
    let layer = Tarball::busybox(&home).bytes();
    let layout = home.runtime().join("arm");
    OciImage::new("arm64", json!({}), vec![layer]).write_layout(&layout);
    let source = format!("oci:{}", layout.display());
    let message = home.call(["image", "import", "arm", &source, "--format", "json"]).run().fault(1, "image");
    assert!(message.contains("wrong architecture") && message.contains("arm64"), "{message}");
    let tar = Tarball::new().file("bin/sh", 0o755, ARM64).write(&home, "arm.tar");
    let outcome = home.call(["image", "import", "arm", tar.to_str().unwrap()]).run().exits(1);
    assert!(outcome.error().contains("wrong architecture") && outcome.error().contains("aarch64"), "{outcome}");
    assert_eq!(home.json("image ls").as_array().map(Vec::len), Some(1), "tiny alone");
    assert_nothing_half_made(home.root());
}

#[test]
fn what_is_no_root_file_system_is_no_image() {
    let home = Home::with(Seed::Image);
    let write = |name: &str, bytes: &[u8]| {
        let path = home.runtime().join(name);
        fs::write(&path, bytes).unwrap();
        path.into_os_string().into_string().unwrap()
    };
    let mut cut = Tarball::busybox(&home).bytes();
    cut.truncate(cut.len() / 2);
    for source in [
        write("empty", b""),
        write("noise", &[7; 4096]),
        write("cut.tar", &cut),
        home.runtime().join("missing.tar").display().to_string(),
        format!("oci:{}", home.runtime().display()),
        format!("oci-archive:{}", write("text", b"hello")),
        home.runtime().display().to_string(),
        "ftp://example.com/x".to_owned(),
    ] {
        let outcome = home.call(["image", "import", "bad", &source]).run();
        assert!(matches!(outcome.code, Some(1..=3)), "{outcome}");
        assert!(outcome.error().starts_with("vmint: ") || outcome.code == Some(2), "{outcome}");
        assert!(!outcome.error().contains("panicked"), "{outcome}");
    }
    assert_eq!(home.json("image ls").as_array().map(Vec::len), Some(1), "tiny alone");
    assert_nothing_half_made(home.root());
}

/// By `..` or by a link: in the image, or refused, and nowhere else.
#[test]
fn an_archive_that_tries_to_leave_its_root_puts_nothing_outside() {
    let home = Home::with(Seed::Image);
    let target = home.runtime().join("target");
    fs::create_dir(&target).unwrap();
    let link = Tarball::new().file("bin/sh", 0o755, b"#!").link("out", target.to_str().unwrap());
    let through_a_link = link.file("out/evil", 0o644, b"x").bytes();
    let mut dots = Tarball::new().file("bin/sh", 0o755, b"#!").file("XX/XX/XX/evil", 0o644, b"x").bytes();
    // The tar crate writes no such name.
    let at = dots.windows(8).position(|window| window == b"XX/XX/XX").unwrap();
    dots[at..at + 8].copy_from_slice(b"../../..");
    let header = &mut dots[at / 512 * 512..][..512];
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    for bytes in [through_a_link, dots] {
        let path = home.runtime().join("evil.tar");
        fs::write(&path, bytes).unwrap();
        let outcome = home.call(["image", "import", "evil", path.to_str().unwrap(), "--size", "32M"]).run();
        assert!(matches!(outcome.code, Some(0 | 1)), "{outcome}");
        for outside in [home.root(), &home.root().join("images"), &target, Path::new("/"), Path::new("/tmp")] {
            assert!(!outside.join("evil").exists(), "{} has it", outside.display());
        }
    }
    assert_nothing_half_made(home.root());
}

/// A copy of a home on a small disk, until dropped. Its machines' processes are found by its path, which is below the
/// home's own.
fn on_a_small_disk(seed: Seed, size: u64) -> Option<(Home, SmallDisk)> {
    let mut home = Home::with(seed);
    let disk = SmallDisk::mount(home.root().join("small"), size)?;
    for name in ["images", "templates", "vmint.db", "vmint.db-wal"] {
        let copied = Command::new("cp").arg("-a").arg(home.root().join(name)).arg(disk.path()).output().unwrap();
        assert!(copied.status.success() || name != "images", "{}", String::from_utf8_lossy(&copied.stderr));
    }
    home.set_env("VMINT_HOME", disk.path());
    Some((home, disk))
}

#[track_caller]
fn assert_no_machines(home: &Home) {
    assert_eq!(home.json("ls --all"), json!([]));
    assert_eq!((home.processes(), home.sockets().len()), (vec![], 0));
}

#[test]
fn a_template_that_the_disk_cannot_hold_is_refused_and_leaves_nothing() {
    let Some((home, disk)) = on_a_small_disk(Seed::Image, 256 << 20) else { return };
    let before = disk.free();
    let ballast = disk.fill(16 << 20);
    let began = std::time::Instant::now();
    let message = home.vmint("run --memory 128M --format json -- true").fault(125, "no_space");
    assert!(began.elapsed() < Duration::from_secs(30), "said after {:?}", began.elapsed());
    println!("{message}");
    assert_no_machines(&home);
    assert_nothing_half_made(disk.path());
    fs::remove_file(&ballast).unwrap();
    assert!(before - disk.free() < 2 << 20, "{} bytes were left", before - disk.free());
    home.ok("run --memory 128M -- true");
    assert_no_machines(&home);
}

#[test]
fn with_a_full_disk_every_command_fails_clearly_or_works() {
    let Some((home, disk)) = on_a_small_disk(Seed::Tiny, 512 << 20) else { return };
    home.ok("ls");
    let ballast = disk.fill(0);
    for args in ["run --memory 128M --format json -- true", "create full --memory 128M --start --format json"] {
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
    let Some((home, disk)) = on_a_small_disk(Seed::Tiny, 512 << 20) else { return };
    home.start("box");
    home.sh("box", "head -c 24000000 /dev/urandom > /tmp/noise; sha256sum < /tmp/noise > /tmp/sum");
    let ballast = disk.fill(4 << 20);
    let free = disk.free();
    let message = home.vmint("snapshot create box full --format json").fault(1, "no_space");
    println!("{message}");
    assert_eq!(home.state("box"), "running");
    assert_eq!(home.sh("box", "sha256sum < /tmp/noise | cmp - /tmp/sum && echo same"), "same");
    assert_eq!(home.json("snapshot ls"), json!([]));
    assert!(free.saturating_sub(disk.free()) < 1 << 20, "a part of it was left");
    fs::remove_file(&ballast).unwrap();
    home.ok("snapshot create box full");
    home.ok("fork full copy");
    assert_eq!(home.sh("copy", "sha256sum < /tmp/noise | cmp - /tmp/sum && echo same"), "same");
    home.ok("rm --force box copy");
    assert_no_machines(&home);
}

#[test]
fn an_image_that_the_disk_cannot_hold_is_refused_and_leaves_nothing() {
    let Some((home, disk)) = on_a_small_disk(Seed::Image, 160 << 20) else { return };
    let before = disk.free();
    let call = home.call("image build deb --from debian:12 --format json".split(' '));
    let message = call.deadline(Duration::from_secs(100)).run().fault(1, "no_space");
    println!("{message}");
    assert_nothing_half_made(disk.path());
    assert!(before - disk.free() < 2 << 20, "{} bytes were left", before - disk.free());
    // Half of a root file system's files fit.
    let noise = vec![1; 1 << 20];
    let many = (0..60).fold(Tarball::busybox(&home), |tar, n| tar.file(&format!("srv/{n}"), 0o644, &noise));
    let tar = many.write(&home, "large.tar");
    let ballast = disk.fill(30 << 20);
    let call = home.call(["image", "import", "large", tar.to_str().unwrap(), "--format", "json"]);
    let message = call.run().fault(1, "no_space");
    println!("{message}");
    assert_nothing_half_made(disk.path());
    fs::remove_file(ballast).unwrap();
    assert_eq!(home.json("image ls").as_array().map(Vec::len), Some(1), "tiny alone");
}

#[test]
fn memory_that_no_machine_can_have_is_refused_and_little_is_enough() {
    let home = Home::new();
    for size in ["0", "1M", "63M", "2T", "65M1", "-1", "99999999999999999999", "lots"] {
        let outcome = home.vmint(&format!("create x --memory={size}")).exits(2);
        assert!(outcome.error().contains("emory"), "{outcome}");
        home.vmint(&format!("run --memory={size} -- true")).exits(125);
    }
    home.vmint("create x --cpus 0").exits(2);
    home.vmint("create x --cpus 1000").exits(2);
    let little = home.ok("run --memory 96M -- cat /proc/meminfo");
    assert!(little.text().contains("MemTotal"), "{little}");
    // The least that can be asked for is less than this kernel needs: it says what to do.
    let outcome = home.vmint("run --memory 64M -- true").exits(125);
    assert!(outcome.error().contains("64 MiB of memory may be too little"), "{outcome}");
    assert!(outcome.error().contains("--memory 128M"), "{outcome}");
    home.vmint("template build tiny --memory 1M").exits(2);
    home.empties(Duration::from_secs(5));
}

#[test]
fn more_memory_than_the_host_has_is_refused_with_both_figures() {
    let home = Home::new();
    let outcome = home.vmint("run --memory 1T --format json -- true");
    let message = outcome.fault(125, "refused");
    assert!(message.contains("TiB") || message.contains("GiB"), "{message}");
    home.vmint("create x --memory 1T --start").exits(4);
    home.vmint("template build tiny --memory 1T").exits(4);
    assert_eq!(home.json("ls --all"), json!([]));
    assert_nothing_half_made(home.root());
    home.empties(Duration::from_secs(5));
}

#[test]
fn a_host_without_qemu_is_told_what_to_install() {
    let home = Home::new();
    let bare = home.runtime().join("bare");
    fs::create_dir(&bare).unwrap();
    let missing = |args: &str| home.call(args.split(' ')).env("PATH", &bare).run();
    let message = missing("run --memory 128M --format json -- true").fault(125, "hypervisor");
    assert!(message.contains("qemu") && message.contains("not installed"), "{message}");
    let outcome = missing("create x --memory 128M --start").exits(1);
    assert!(outcome.error().contains("apt-get install qemu-system-x86"), "{outcome}");
    missing("ls").ok();
    missing("rm x --force").exits(3);
    let outcome = home.call(["run", "--", "true"]).env("VMINT_QEMU", "/no/such/qemu").run().exits(125);
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
        home.call("run --memory 128M --format json -- true".split(' ')).env("VMINT_QEMU", &qemu).run()
    };
    let message = with("echo 'QEMU emulator version 6.0.0 (Debian 1:6.0)'").fault(125, "hypervisor");
    assert!(message.contains("6.0.0") && message.contains("7.2"), "{message}");
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
    script(path, &format!("case \"$*\" in *--version*) exec qemu-system-x86_64 --version;; esac\n{then}"));
}

#[test]
fn a_qemu_that_crashes_at_its_start_is_quoted() {
    let home = Home::with(Seed::Image);
    let qemu = home.runtime().join("qemu-system-x86_64");
    let with = |then: &str| {
        impostor(&qemu, then);
        home.call("run --memory 128M --format json -- true".split(' ')).env("VMINT_QEMU", &qemu).run()
    };
    let outcome = with("echo 'qemu-system-x86_64: cannot find my way' >&2; exit 1");
    assert!(outcome.took < Duration::from_secs(20), "{outcome}");
    let message = outcome.fault(125, "hypervisor");
    assert!(message.contains("cannot find my way"), "{message}");
    let message = with("echo 'dying now' >&2; kill -SEGV $$").fault(125, "hypervisor");
    assert!(message.contains("SEGV") && message.contains("dying now"), "{message}");
    assert_eq!(home.left(), [] as [String; 0]);
    assert_nothing_half_made(home.root());
}

#[test]
fn a_fork_whose_qemu_crashes_is_a_fault_of_the_host_and_leaves_nothing() {
    let home = Home::new();
    home.ok("create box --memory 128M");
    home.ok("start box");
    home.ok("stop box");
    let qemu = home.runtime().join("qemu-system-x86_64");
    impostor(&qemu, "echo 'out of order' >&2; exit 3");
    let start = home.call("start box --format json".split(' ')).env("VMINT_QEMU", &qemu).run();
    assert_eq!(start.code, Some(1), "{start}");
    assert!(start.error().contains("out of order"), "{start}");
    assert!(home.processes().is_empty() && home.sockets().is_empty(), "{:?}", home.left());
    // The real one's template does not fit this one: so that it is there to be forked, its QEMU breaks afterwards.
    impostor(&qemu, "exec qemu-system-x86_64 \"$@\"");
    home.call("run --memory 128M -- true".split(' ')).env("VMINT_QEMU", &qemu).run().ok();
    let flag = home.runtime().join("broken");
    impostor(&qemu, &format!("test ! -e {} || exit 3; exec qemu-system-x86_64 \"$@\"", flag.display()));
    home.call("run --memory 128M -- true".split(' ')).env("VMINT_QEMU", &qemu).run().ok();
    fs::write(&flag, "").unwrap();
    for args in ["create other --memory 128M --start --format json", "run --memory 128M --format json -- true"] {
        let call = home.call(args.split(' ')).env("VMINT_QEMU", &qemu).deadline(Duration::from_secs(30));
        call.run().fault(if args.starts_with("run") { 125 } else { 1 }, "hypervisor");
    }
    assert_eq!(home.rows(), ["box"]);
    home.ok("start box");
    assert_eq!(home.sh("box", "echo up"), "up");
}

/// Imports a busybox root whose `/sbin/init` is this.
fn with_init(home: &Home, name: &str, init: Tarball) {
    let tar = init.write(home, &format!("{name}.tar"));
    home.call(["image", "import", name, tar.to_str().unwrap(), "--size", "64M"]).run().ok();
}

#[test]
fn a_kernel_that_panics_is_told_at_once_and_quoted() {
    let home = Home::with(Seed::Image);
    with_init(&home, "panics", Tarball::busybox(&home).file("sbin/init", 0o755, b"#!/bin/sh\nexit 1\n"));
    let outcome = home.vmint("run --image panics --memory 128M --format json -- sh -c 'sleep 1000'");
    assert!(outcome.took < Duration::from_secs(40), "{outcome}");
    assert_eq!(outcome.code, Some(125), "{outcome}");
    assert!(outcome.error().contains("anic"), "{outcome}");
    home.empties(Duration::from_secs(5));
    assert_nothing_half_made(home.root());
}

#[test]
fn a_kernel_that_is_none_is_refused() {
    let home = Home::with(Seed::Image);
    let noise = home.runtime().join("kernel");
    fs::write(&noise, vec![0x90; 1 << 20]).unwrap();
    let call = home.call(["image", "build", "bad", "--from", "tiny", "--kernel", noise.to_str().unwrap()]);
    let outcome = call.run().exits(2);
    assert!(outcome.error().contains(&format!("{} is not a kernel", noise.display())), "{outcome}");
    let call = home.call(["image", "build", "bad", "--from", "tiny", "--kernel", "/no/such/kernel"]);
    let outcome = call.run().exits(3);
    assert!(outcome.error().contains("/no/such/kernel"), "{outcome}");
    assert_nothing_half_made(home.root());
}

/// The agent answers whatever init does: commands run.
#[test]
fn an_init_that_never_comes_up_does_not_keep_commands_from_running() {
    let home = Home::with(Seed::Image);
    with_init(&home, "sleeps", Tarball::busybox(&home).file("sbin/init", 0o755, b"#!/bin/sh\nexec sleep 100000\n"));
    let outcome = home.ok("run --image sleeps --memory 128M -- cat /proc/1/cmdline");
    assert!(outcome.text().contains("sleep"), "{outcome}");
}

#[test]
fn a_guest_out_of_memory_loses_a_command_and_not_itself() {
    let home = Home::new();
    home.start("box");
    let words = ["exec", "box", "--timeout", "60s", "--", "tail", "/dev/zero"];
    let outcome = home.call(words).run();
    assert_eq!(outcome.code, Some(137), "killed by the guest's kernel: {outcome}");
    assert_eq!(home.sh("box", "echo alive"), "alive");
    // Files in its memory: the writer is told or killed, the agent lives.
    let outcome = home.call(["exec", "box", "--", "sh", "-c", "head -c 300000000 /dev/zero > /tmp/f; echo $?"]).run();
    assert!(outcome.code.is_some_and(|code| code != 125), "{outcome}");
    home.sh("box", "rm -f /tmp/f; echo alive");
    assert_eq!(home.state("box"), "running");
}
