//! Builds the guest's agent: a static binary of a profile of its own, put into this crate by `include_bytes!`.
//!
//! Static linking against glibc needs target features that must not reach proc-macros, hence a cargo call of its own with
//! an explicit target. Its target folder is beside the outer build's profiles, so that all of them share one agent.
//! `VMINT_AGENT_BINARY` names a finished one instead.
//!
//! A package of this crate holds the sources of the agent in `agent/`. In the repository there are links in their place.

use sha2::{Digest, Sha256};
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io;
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

/// Where the agent is built from.
enum Source {
    /// The repository: its own workspace, with its lock file.
    Workspace(PathBuf),
    /// A package of this crate, which brings the agent's sources in `agent/`: a workspace that is put together of them.
    Package(PathBuf),
}

impl Source {
    fn find(manifest_dir: &Path, out: &Path) -> Self {
        let repository = manifest_dir.ancestors().nth(2);
        // An unpacked package may lie in a folder `crates` too, but never beside the agent, which is no package.
        match repository.filter(|root| root.join("crates/vmint-agent/Cargo.toml").exists()) {
            Some(root) => Self::Workspace(root.to_owned()),
            None => Self::Package(assemble(&manifest_dir.join("agent"), &out.join("source"))),
        }
    }

    fn root(&self) -> &Path {
        match self {
            Self::Workspace(root) | Self::Package(root) => root,
        }
    }
}

fn build_agent(out: &Path) -> PathBuf {
    let manifest_dir =
        PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));
    let source = Source::find(&manifest_dir, out);
    if let Source::Workspace(root) = &source {
        for input in PARTS
            .map(|part| format!("crates/{part}"))
            .iter()
            .map(String::as_str)
            .chain(["Cargo.toml", "Cargo.lock"])
        {
            println!("cargo::rerun-if-changed={}", root.join(input).display());
        }
    } else {
        println!("cargo::rerun-if-changed=agent");
    }
    let arch = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets CARGO_CFG_TARGET_ARCH");
    let target = format!("{arch}-unknown-linux-gnu");
    let target_dir = agent_target_dir(out);

    // A vendored package finds the project's `.cargo/config.toml`, which names the vendored sources, only from where it lies.
    let vendored = manifest_dir.join(".cargo-checksum.json").exists();
    let from = if vendored {
        &manifest_dir
    } else {
        source.root()
    };
    let build = |offline: Offline| {
        let mut cargo = nested_cargo(from);
        cargo
            .arg("build")
            .arg("--quiet")
            .arg("--manifest-path")
            .arg(source.root().join("Cargo.toml"))
            .args([
                "-p",
                "vmint-agent",
                "--profile",
                "agent",
                "--target",
                &target,
                "--target-dir",
            ])
            .arg(&target_dir)
            .args(offline.flag());
        cargo.status().expect("cargo can be started")
    };
    let status = match &source {
        Source::Workspace(_) => build(Offline::AsConfigured),
        // All that the agent depends on this crate depends on too, so that the outer build has fetched it.
        Source::Package(_) => {
            let status = build(Offline::Yes);
            if status.success() {
                status
            } else {
                build(Offline::AsConfigured)
            }
        }
    };
    assert!(
        status.success(),
        "building the guest's agent for {target} failed ({status}). It is linked statically: that needs a C compiler and the C \
         library's libc.a (Debian and Ubuntu: libc6-dev; Fedora: glibc-static), and Rust's standard library for {target} \
         (rustup target add {target}). VMINT_AGENT_BINARY names a finished agent instead"
    );
    target_dir.join(&target).join("agent/vmint-agent")
}

/// Whether the nested cargo may ask a registry.
#[derive(Clone, Copy)]
enum Offline {
    Yes,
    AsConfigured,
}

impl Offline {
    fn flag(self) -> Option<&'static str> {
        match self {
            Self::Yes => Some("--offline"),
            Self::AsConfigured => None,
        }
    }
}

/// A cargo that knows nothing of the outer one, and links statically.
fn nested_cargo(from: &Path) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").expect("cargo sets CARGO"));
    cargo.current_dir(from);
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
    cargo
}

/// The agent and the crates of vmint's that it consists of.
const PARTS: [&str; 3] = ["vmint-agent", "vmint-protocol", "vmint-tree"];

/// Makes a workspace of what a package holds in `agent/`: the repository's manifests, under names that cargo does not take for
/// packages, and the sources. In the repository these are links. A build leaves its package unchanged, so the workspace is
/// made in `to`.
fn assemble(from: &Path, to: &Path) -> PathBuf {
    let read = |path: PathBuf| {
        fs::read_to_string(&path).unwrap_or_else(|e| {
            panic!(
                "this package is incomplete: cannot read {}: {e}",
                path.display()
            )
        })
    };
    let write = |path: PathBuf, text: &str| {
        fs::write(&path, text).unwrap_or_else(|e| panic!("cannot write {}: {e}", path.display()));
    };
    // What an earlier version had.
    let _ = fs::remove_dir_all(to);
    let workspace = without_section(&read(from.join("workspace.toml")), "[workspace]");
    for part in PARTS {
        let (from, to) = (from.join(part), to.join("crates").join(part));
        copy(&from.join("src"), &to.join("src"));
        // Their tests need crates that are not here.
        let manifest = without_section(&read(from.join("manifest.toml")), "[dev-dependencies]");
        write(to.join("Cargo.toml"), &manifest);
    }
    let workspace =
        format!("[workspace]\nresolver = \"3\"\nmembers = [\"crates/*\"]\n\n{workspace}");
    write(to.join("Cargo.toml"), &workspace);
    to.to_owned()
}

/// A manifest without one of its sections.
fn without_section(manifest: &str, header: &str) -> String {
    let mut dropped = false;
    let kept = manifest.lines().filter(|line| {
        if line.starts_with('[') {
            dropped = line.trim_end() == header;
        }
        !dropped
    });
    kept.flat_map(|line| [line, "\n"]).collect()
}

fn copy(from: &Path, to: &Path) {
    let folder = || -> io::Result<()> {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            let (from, to) = (entry.path(), to.join(entry.file_name()));
            if from.is_dir() {
                copy(&from, &to);
            } else {
                fs::copy(&from, &to)?;
            }
        }
        Ok(())
    };
    folder().unwrap_or_else(|e| panic!("cannot copy {} to {}: {e}", from.display(), to.display()));
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
