//! vmint as it is installed with vmint-tiny: kernel and busybox lie beside the program, and nothing else of a distribution is
//! needed but QEMU.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use vmint_tests::Home;
use vmint_tests::call::binary;
use vmint_tests::fixture::SmallDisk;
use vmint_tests::seed::Seed;

/// A prefix with the program and a kit, whose parts are those of the tests' own images.
fn install(prefix: &Path, home: &Home) -> PathBuf {
    let images = home.root().join("images");
    let default = |kind: &str| {
        let named = fs::read_to_string(images.join(kind).join("default")).unwrap();
        let digest = named.trim().replace(':', "-");
        images.join(kind).join(digest)
    };
    let (kernel, busybox) = (default("kernels"), default("busybox"));
    let (bin, tiny) = (prefix.join("bin"), prefix.join("lib/vmint/tiny"));
    for folder in [&bin, &tiny] {
        fs::create_dir_all(folder).unwrap();
    }
    fs::hard_link(binary(), bin.join("vmint")).unwrap();
    fs::copy(kernel.join("vmlinuz"), tiny.join("vmlinuz")).unwrap();
    symlink(kernel.join("modules"), tiny.join("modules")).unwrap();
    fs::copy(busybox.join("busybox"), tiny.join("busybox")).unwrap();
    let architecture = if cfg!(target_arch = "x86_64") {
        "amd64"
    } else {
        "arm64"
    };
    fs::write(tiny.join("architecture"), architecture).unwrap();
    fs::write(tiny.join("PACKAGES"), "linux-image-of-the-kit 1 linux 1\n").unwrap();
    bin.join("vmint")
}

/// A `PATH` that leads to QEMU alone.
fn path(folder: &Path) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    fs::create_dir(folder).unwrap();
    for program in ["qemu-system-x86_64", "qemu-system-aarch64", "qemu-img"] {
        let there = std::env::split_paths(&path).map(|dir| dir.join(program));
        if let Some(found) = there.into_iter().find(|file| file.is_file()) {
            symlink(found, folder.join(program)).unwrap();
        }
    }
    folder.to_owned()
}

#[test]
fn a_machine_runs_without_apt_or_a_network_when_its_parts_came_along() {
    let home = Home::new();
    let folder = tempfile::tempdir_in(home.root()).unwrap();
    let program = install(folder.path(), &home);
    let path = path(&folder.path().join("path"));
    let empty = Home::with(Seed::Empty);
    let call = |words: &[&str]| empty.program(&program, words.to_vec()).env("PATH", &path);
    let checks = call(&["doctor", "--format", "json"]).run().json();
    let found = |name: &str| {
        let check = checks
            .as_array()
            .unwrap()
            .iter()
            .find(|check| check["name"] == name);
        check.unwrap_or_else(|| panic!("{name} in {checks}"))["summary"].to_string()
    };
    assert!(found("busybox").contains("tiny"), "{checks}");
    let run = call(&["run", "--", "uname", "-s"]).run().ok();
    assert_eq!(run.text(), "Linux\n");
    // The store has it now, and the program needs its kit no more.
    fs::remove_dir_all(folder.path().join("lib")).unwrap();
    let run = call(&["run", "--", "echo", "again"]).run().ok();
    assert_eq!(run.text(), "again\n");
    let kernels = fs::read_dir(empty.root().join("images/kernels")).unwrap();
    let manifests: Vec<_> = kernels
        .filter_map(|entry| fs::read_to_string(entry.unwrap().path().join("manifest.json")).ok())
        .collect();
    assert!(
        manifests.len() == 1 && manifests[0].contains("linux-image-of-the-kit"),
        "{manifests:?}"
    );
}

#[test]
fn a_kit_whose_kernel_is_none_is_told_by_its_path() {
    let home = Home::new();
    let folder = tempfile::tempdir_in(home.root()).unwrap();
    let program = install(folder.path(), &home);
    let kernel = folder.path().join("lib/vmint/tiny/vmlinuz");
    fs::write(&kernel, "no kernel").unwrap();
    let empty = Home::with(Seed::Empty);
    let run = empty
        .program(&program, ["run", "--format", "json", "--", "true"])
        .run();
    assert!(run.error().contains("install vmint-tiny again"), "{run}");
    let message = run.fault(125, "image");
    assert!(message.contains(kernel.to_str().unwrap()), "{message}");
}

#[test]
fn a_home_that_is_too_small_for_a_kit_is_told_as_that() {
    let home = Home::new();
    let folder = tempfile::tempdir_in(home.root()).unwrap();
    let program = install(folder.path(), &home);
    let mut empty = Home::with(Seed::Empty);
    let Some(disk) = SmallDisk::mount(empty.root().join("small"), 20 << 20) else {
        return;
    };
    empty.set_env("VMINT_HOME", disk.path());
    let run = empty
        .program(&program, ["run", "--format", "json", "--", "true"])
        .run();
    let message = run.fault(125, "no_space");
    assert!(!message.contains("damaged"), "{message}");
    let left = fs::read_dir(disk.path().join("images")).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    let is_left = |name: &&std::ffi::OsString| name.to_string_lossy().starts_with(".tmp-");
    assert_eq!(left.iter().find(is_left), None, "nothing half is kept");
}
