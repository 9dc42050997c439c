//! Builds the guest's agent: a static binary of a profile of its own, put into this crate by `include_bytes!`.
//!
//! Static linking against glibc needs target features that must not reach proc-macros, hence a cargo call of its own with
//! an explicit target. Its target folder is beside the outer build's profiles, so that all of them share one agent.
//! `VMINT_AGENT_BINARY` names a finished one instead.

use sha2::{Digest, Sha256};
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=VMINT_AGENT_BINARY");
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let agent = match env::var_os("VMINT_AGENT_BINARY") {
        Some(path) => {
            println!("cargo::rerun-if-changed={}", Path::new(&path).display());
            PathBuf::from(path)
        }
        None => build_agent(&out),
    };
    let bytes = fs::read(&agent)
        .unwrap_or_else(|e| panic!("cannot read the agent {}: {e}", agent.display()));
    assert!(
        bytes.starts_with(b"\x7fELF"),
        "{} is not an ELF binary",
        agent.display()
    );
    let mut digest = String::new();
    for byte in Sha256::digest(&bytes) {
        write!(digest, "{byte:02x}").expect("writing to a string");
    }
    // A copy, for the shared one may be rebuilt while this crate is compiled.
    fs::write(out.join("vmint-agent"), bytes).expect("OUT_DIR is writable");
    println!("cargo::rustc-env=VMINT_AGENT_DIGEST={digest}");
}

fn build_agent(out: &Path) -> PathBuf {
    let manifest_dir =
        PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));
    let workspace = manifest_dir
        .ancestors()
        .nth(2)
        .expect("the crate is in crates/ of the workspace");
    for input in [
        "crates/vmint-agent",
        "crates/vmint-protocol",
        "crates/vmint-tree",
        "Cargo.toml",
        "Cargo.lock",
    ] {
        println!(
            "cargo::rerun-if-changed={}",
            workspace.join(input).display()
        );
    }
    let arch = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets CARGO_CFG_TARGET_ARCH");
    let target = format!("{arch}-unknown-linux-gnu");
    let target_dir = agent_target_dir(out);

    let mut cargo = Command::new(env::var_os("CARGO").expect("cargo sets CARGO"));
    cargo
        .current_dir(workspace)
        .args([
            "build",
            "--quiet",
            "-p",
            "vmint-agent",
            "--profile",
            "agent",
            "--target",
            &target,
            "--target-dir",
        ])
        .arg(&target_dir);
    for (name, _) in env::vars_os() {
        if is_of_the_outer_build(&name.to_string_lossy()) {
            cargo.env_remove(&name);
        }
    }
    // Not position independent: no relocation work at the start of every guest.
    let flags = [
        "-C",
        "target-feature=+crt-static",
        "-C",
        "relocation-model=static",
    ];
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    let status = cargo.status().expect("cargo can be started");
    assert!(
        status.success(),
        "building vmint-agent for {target} failed: {status}"
    );
    target_dir.join(&target).join("agent/vmint-agent")
}

/// `target/agent`, from `target[/TRIPLE]/PROFILE/build/vmint-image-HASH/out`.
fn agent_target_dir(out: &Path) -> PathBuf {
    let build = out.ancestors().find(|dir| dir.ends_with("build"));
    let mut target = build.and_then(|dir| dir.ancestors().nth(2)).unwrap_or(out);
    if env::var_os("TARGET").is_some_and(|triple| target.file_name() == Some(&triple)) {
        target = target.parent().unwrap_or(out);
    }
    target.join("agent")
}

/// What cargo sets for build scripts would change what the nested cargo builds; what a user sets to reach a registry
/// must stay.
fn is_of_the_outer_build(name: &str) -> bool {
    const USERS: [&str; 5] = [
        "CARGO_HOME",
        "CARGO_NET",
        "CARGO_HTTP",
        "CARGO_REGISTR",
        "CARGO_SOURCE",
    ];
    let cargos = name.starts_with("CARGO") && !USERS.iter().any(|prefix| name.starts_with(prefix));
    let rustcs = name.starts_with("RUSTC") || name.starts_with("RUSTDOC") || name == "RUSTFLAGS";
    let others = [
        "OUT_DIR",
        "TARGET",
        "HOST",
        "NUM_JOBS",
        "OPT_LEVEL",
        "PROFILE",
        "DEBUG",
        "MAKEFLAGS",
        "CLIPPY_ARGS",
    ];
    cargos || rustcs || others.contains(&name)
}
