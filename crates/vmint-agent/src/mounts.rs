//! The file systems that a guest cannot do without.

use crate::console;
use rustix::io::{Errno, Result};
use rustix::mount::{MountFlags, mount, mount_move};
use std::ffi::{CStr, CString};
use std::path::Path;

const PLAIN: MountFlags = MountFlags::NOSUID
    .union(MountFlags::NODEV)
    .union(MountFlags::NOEXEC);
const SHARED: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);
/// File systems that an initramfs is unpacked to, as `statfs` numbers them.
const TMPFS: i64 = 0x0102_1994;
const RAMFS: i64 = 0x8584_58f6;
/// What is moved from the initramfs to the root.
const MOVED: [&str; 4] = ["dev", "proc", "sys", "run"];

/// Mounts one file system; a folder that is missing is made, one that has it mounted already is fine.
fn place(kind: &str, target: &str, flags: MountFlags, options: &CStr) {
    // Fails where it exists, and where it cannot be made mounting fails too and says so.
    let _ = std::fs::create_dir(target);
    match mount(kind, target, kind, flags, options) {
        Ok(()) | Err(Errno::BUSY) => {}
        Err(e) => console::say(&format!("cannot mount {kind} on {target}: {e}")),
    }
}

/// `/dev`, `/proc`, `/sys` and `/run`: needed before anything else.
pub fn early() {
    place("devtmpfs", "/dev", MountFlags::NOSUID, c"mode=0755");
    place("proc", "/proc", PLAIN, c"");
    place("sysfs", "/sys", PLAIN, c"");
    place("tmpfs", "/run", SHARED, c"mode=0755");
}

/// Terminals, shared memory and the standard streams by name, which commands may want before the image's init has made them, and which
/// an init without udev does not make. One that finds them leaves them.
pub fn devices() {
    place(
        "devpts",
        "/dev/pts",
        MountFlags::NOSUID | MountFlags::NOEXEC,
        c"gid=5,mode=0620,ptmxmode=0666",
    );
    place("tmpfs", "/dev/shm", SHARED, c"mode=1777");
    // What udev would do.
    for (link, target) in [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
    ] {
        // It may exist.
        let _ = std::os::unix::fs::symlink(target, link);
    }
}

/// What an init would have mounted beyond [`devices`], where the agent is the init.
pub fn without_init() {
    // An initramfs in a tmpfs begins its life writable for everybody. A disk's root has its own mode.
    if rustix::fs::statfs("/").is_ok_and(|fs| fs.f_type == TMPFS || fs.f_type == RAMFS) {
        let _ = rustix::fs::chmod("/", rustix::fs::Mode::from_raw_mode(0o755));
    }
    place("tmpfs", "/tmp", SHARED, c"mode=1777");
    if Path::new("/sys/fs/cgroup").exists() {
        place("cgroup2", "/sys/fs/cgroup", PLAIN, c"nsdelegate");
    }
}

/// Mounts the root from a block device and makes it `/`, as `switch_root` does: the mounts of [`early`] move along, the
/// root is moved over the initramfs, and this process goes there.
pub fn switch_root(device: &str, kind: &str) -> Result<()> {
    const NEW: &str = "/newroot";
    // It exists only in an initramfs that was started before.
    let _ = std::fs::create_dir(NEW);
    let no_options: Option<&CStr> = None;
    let device = CString::new(device).map_err(|_| Errno::INVAL)?;
    mount(
        device.as_c_str(),
        NEW,
        kind,
        MountFlags::empty(),
        no_options,
    )?;
    for name in MOVED {
        let target = format!("{NEW}/{name}");
        // Fails where it exists, as it does in nearly every image.
        let _ = std::fs::create_dir(&target);
        mount_move(format!("/{name}"), target)?;
    }
    rustix::process::chdir(NEW)?;
    mount_move(".", "/")?;
    rustix::process::chroot(".")?;
    rustix::process::chdir("/")
}
