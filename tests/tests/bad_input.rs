//! Bad input: a clear error or correct work each, nothing lost, nothing left behind.
//!
//! Here: images that cannot be had, and guests that come to harm. Hosts that lack something are in `hosts.rs`, names in
//! `names.rs`, damaged files in `damage.rs`, bad moments in `moments.rs`.

use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use vmint_tests::fixture::{OciImage, Tarball, half_made};
use vmint_tests::seed::Seed;
use vmint_tests::{Home, patient};

/// An ELF header of a program for ARM.
const ARM64: &[u8] = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xb7\0\x01\0\0\0";

#[test]
fn an_unknown_image_is_named_with_what_there_is() {
    let home = Home::with(Seed::Image);
    let message = home
        .vmint("run --image nonsense --format json -- true")
        .fault(125, "not_found");
    assert!(message.contains("nonsense"), "{message}");
    for args in [
        "create x --image nonsense",
        "template build nonsense",
        "image inspect nonsense",
        "image rm nonsense",
    ] {
        let outcome = home.vmint(args).exits(3);
        assert!(outcome.error().contains("nonsense"), "{outcome}");
    }
    let outcome = home.vmint("run --image nonsense -- true");
    assert!(
        outcome.error().contains("vmint image ls"),
        "it says where to look: {outcome}"
    );
    let odd = home
        .call(["run", "--image", "a 'b'\n\u{fc}", "--", "true"])
        .run()
        .exits(125);
    assert!(
        odd.error().contains("\\n"),
        "a line break in a name is no line break in a message: {odd}"
    );
    assert_eq!(home.left(), [] as [String; 0]);
}

#[test]
fn images_for_another_processor_are_refused() {
    let home = Home::with(Seed::Image);
    let layer = Tarball::busybox(&home).bytes();
    let layout = home.runtime().join("arm");
    OciImage::new("arm64", json!({}), vec![layer]).write_layout(&layout);
    let source = format!("oci:{}", layout.display());
    let message = home
        .call(["image", "import", "arm", &source, "--format", "json"])
        .run()
        .fault(1, "image");
    assert!(
        message.contains("wrong architecture") && message.contains("arm64"),
        "{message}"
    );
    let tar = Tarball::new()
        .file("bin/sh", 0o755, ARM64)
        .write(&home, "arm.tar");
    let outcome = home
        .call(["image", "import", "arm", tar.to_str().unwrap()])
        .run()
        .exits(1);
    assert!(
        outcome.error().contains("wrong architecture") && outcome.error().contains("aarch64"),
        "{outcome}"
    );
    assert_eq!(
        home.json("image ls").as_array().map(Vec::len),
        Some(1),
        "tiny alone"
    );
    assert_eq!(half_made(home.root()), [] as [PathBuf; 0]);
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
        assert!(
            outcome.error().starts_with("vmint: ") || outcome.code == Some(2),
            "{outcome}"
        );
        assert!(!outcome.error().contains("panicked"), "{outcome}");
    }
    assert_eq!(
        home.json("image ls").as_array().map(Vec::len),
        Some(1),
        "tiny alone"
    );
    assert_eq!(half_made(home.root()), [] as [PathBuf; 0]);
}

/// By `..` or by a link: in the image, or refused, and nowhere else.
#[test]
fn an_archive_that_tries_to_leave_its_root_puts_nothing_outside() {
    let home = Home::with(Seed::Image);
    let target = home.runtime().join("target");
    fs::create_dir(&target).unwrap();
    let link = Tarball::new()
        .file("bin/sh", 0o755, b"#!")
        .link("out", target.to_str().unwrap());
    let through_a_link = link.file("out/evil", 0o644, b"x").bytes();
    let mut dots = Tarball::new()
        .file("bin/sh", 0o755, b"#!")
        .file("XX/XX/XX/evil", 0o644, b"x")
        .bytes();
    // The tar crate writes no such name.
    let at = dots
        .windows(8)
        .position(|window| window == b"XX/XX/XX")
        .unwrap();
    dots[at..at + 8].copy_from_slice(b"../../..");
    let header = &mut dots[at / 512 * 512..][..512];
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    for bytes in [through_a_link, dots] {
        let path = home.runtime().join("evil.tar");
        fs::write(&path, bytes).unwrap();
        let outcome = home
            .call([
                "image",
                "import",
                "evil",
                path.to_str().unwrap(),
                "--size",
                "32M",
            ])
            .run();
        assert!(matches!(outcome.code, Some(0 | 1)), "{outcome}");
        for outside in [
            home.root(),
            &home.root().join("images"),
            &target,
            Path::new("/"),
            Path::new("/tmp"),
        ] {
            assert!(
                !outside.join("evil").exists(),
                "{} has it",
                outside.display()
            );
        }
    }
    assert_eq!(half_made(home.root()), [] as [PathBuf; 0]);
}

/// Imports a busybox root whose `/sbin/init` is this.
fn with_init(home: &Home, name: &str, init: Tarball) {
    let tar = init.write(home, &format!("{name}.tar"));
    home.call([
        "image",
        "import",
        name,
        tar.to_str().unwrap(),
        "--size",
        "64M",
    ])
    .run()
    .ok();
}

#[test]
fn a_kernel_that_panics_is_told_at_once_and_quoted() {
    let home = Home::with(Seed::Image);
    with_init(
        &home,
        "panics",
        Tarball::busybox(&home).file("sbin/init", 0o755, b"#!/bin/sh\nexit 1\n"),
    );
    let outcome =
        home.vmint("run --image panics --memory 128M --format json -- sh -c 'sleep 1000'");
    assert!(outcome.took < patient(Duration::from_secs(40)), "{outcome}");
    assert_eq!(outcome.code, Some(125), "{outcome}");
    assert!(outcome.error().contains("anic"), "{outcome}");
    home.empties(Duration::from_secs(5));
    assert_eq!(half_made(home.root()), [] as [PathBuf; 0]);
}

#[test]
fn a_kernel_that_is_none_is_refused() {
    let home = Home::with(Seed::Image);
    let noise = home.runtime().join("kernel");
    fs::write(&noise, vec![0x90; 1 << 20]).unwrap();
    let call = home.call([
        "image",
        "build",
        "bad",
        "--from",
        "tiny",
        "--kernel",
        noise.to_str().unwrap(),
    ]);
    let outcome = call.run().exits(2);
    assert!(
        outcome
            .error()
            .contains(&format!("{} is not a kernel", noise.display())),
        "{outcome}"
    );
    let call = home.call([
        "image",
        "build",
        "bad",
        "--from",
        "tiny",
        "--kernel",
        "/no/such/kernel",
    ]);
    let outcome = call.run().exits(3);
    assert!(outcome.error().contains("/no/such/kernel"), "{outcome}");
    assert_eq!(half_made(home.root()), [] as [PathBuf; 0]);
}

/// The agent answers whatever init does: commands run.
#[test]
fn an_init_that_never_comes_up_does_not_keep_commands_from_running() {
    let home = Home::with(Seed::Image);
    with_init(
        &home,
        "sleeps",
        Tarball::busybox(&home).file("sbin/init", 0o755, b"#!/bin/sh\nexec sleep 100000\n"),
    );
    let outcome = home.ok("run --image sleeps --memory 128M -- cat /proc/1/cmdline");
    assert!(outcome.text().contains("sleep"), "{outcome}");
}

#[test]
fn a_guest_out_of_memory_loses_a_command_and_not_itself() {
    let home = Home::new();
    home.start("box");
    let words = ["exec", "box", "--timeout", "60s", "--", "tail", "/dev/zero"];
    let outcome = home.call(words).run();
    assert_eq!(
        outcome.code,
        Some(137),
        "killed by the guest's kernel: {outcome}"
    );
    assert_eq!(home.sh("box", "echo alive"), "alive");
    // Files in its memory: the writer is told or killed, the agent lives.
    let outcome = home
        .call([
            "exec",
            "box",
            "--",
            "sh",
            "-c",
            "head -c 300000000 /dev/zero > /tmp/f; echo $?",
        ])
        .run();
    assert!(outcome.code.is_some_and(|code| code != 125), "{outcome}");
    home.sh("box", "rm -f /tmp/f; echo alive");
    assert_eq!(home.state("box"), "running");
}

/// A checkout's `vmint.toml` takes nothing of this host along, and another user's is not obeyed, unless the user says so.
#[test]
fn a_hostile_checkout_takes_nothing_of_its_host_along() {
    let home = Home::new();
    let checkout = tempfile::tempdir().unwrap();
    let file = checkout.path().join("vmint.toml");
    let settings =
        "[images.web]\nimport = \"/no/such/rootfs.tar\"\n[workflow]\nactions = \"/etc\"\n";
    std::fs::write(&file, settings).unwrap();
    std::fs::write(
        checkout.path().join("ci.yml"),
        "on: push\njobs: {a: {runs-on: x, steps: [{run: x}]}}\n",
    )
    .unwrap();
    let call = |args: &str| {
        home.call(args.split(' '))
            .current_dir(checkout.path())
            .run()
    };
    for args in ["run --image web -- true", "create web --image web"] {
        let error = call(args).error();
        assert!(
            error.contains("lies outside of the folder of") && error.contains("--trust "),
            "{args}: {error}"
        );
    }
    let refused = call("workflow check ci.yml").error();
    assert!(
        refused.contains("`actions` of [workflow] is `/etc`"),
        "{refused}"
    );
    // Trusted, it is read, and is not there.
    let error = call("--trust . run --image web -- true").error();
    assert!(
        !error.contains("outside") && error.contains("/no/such/rootfs.tar"),
        "{error}"
    );
    let trusted = home.call(["run", "--image", "web", "--", "true"]);
    let error = trusted
        .current_dir(checkout.path())
        .env("VMINT_TRUST", checkout.path())
        .run()
        .error();
    assert!(!error.contains("outside"), "{error}");
    if std::os::unix::fs::chown(&file, Some(12345), None).is_ok() {
        let fault = call("config show --format json").fault(2, "usage");
        assert!(fault.contains("belongs to user 12345"), "{fault}");
        call("--trust . config show").ok();
    }
}
