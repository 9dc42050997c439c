//! The guest's first root: agent, busybox, and the modules that the kernel lacks to reach its devices.
//!
//! One serves all images. For `tiny` it is the root file system; for an image with a disk the agent goes on to that
//! disk. It depends on agent, kernel and busybox alone and is made when first needed, so that a new vmint brings its
//! agent into old images. Contract with the agent: `/modules/order` names the files in `/modules`, one per line, in the
//! order in which they must be loaded.

use crate::busybox::Busybox;
use crate::cpio::{self, Archive};
use crate::digest::{Digest, Hasher};
use crate::fsx::{self, FileError, OnFile};
use crate::kernel::{Kernel, KernelError, ModuleTree};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Raised when something below changes what goes into the archive.
const FORM: u32 = 3;

/// What a guest may need before it can load modules from its own disk. What a kernel has built in, or not at all, is
/// passed over.
const WANTED: [&str; 12] = [
    "virtio_pci",
    "virtio_console",
    "virtio_blk",
    "virtio_net",
    "virtio_rng",
    // The agent resets connections that a fork took along.
    "inet_diag",
    "tcp_diag",
    "vmgenid",
    // The kernel tells QEMU of a panic: since Linux 5.13 by the second.
    "pvpanic",
    "pvpanic_mmio",
    "ext4",
    "crc32c_generic",
];

/// An initramfs in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Initramfs {
    /// The file.
    pub path: PathBuf,
    /// Of what it was made of, agent included; the file's content follows from it.
    pub digest: Digest,
}

/// The identity of the archive that [`obtain`] makes.
pub(crate) fn identity(kernel: Digest, busybox: Digest) -> Digest {
    let mut hasher = Hasher::default();
    hasher
        .field(&FORM.to_le_bytes())
        .field(crate::AGENT_DIGEST.as_bytes());
    hasher.field(kernel.as_bytes()).field(busybox.as_bytes());
    hasher.finish()
}

/// Gives the archive, from the cache in `dir` if it is there and whole.
pub(crate) fn obtain(
    dir: &Path,
    kernel: &Kernel,
    busybox: &Busybox,
) -> Result<Initramfs, KernelError> {
    let digest = identity(kernel.digest(), busybox.digest());
    let path = dir.join(format!("{}.cpio", digest.file_name()));
    if !is_whole(&path) {
        fsx::create_private_dir(dir)?;
        let archive = build(
            &ModuleTree::open(&kernel.modules_dir())?,
            &busybox.program()?,
            &busybox.applets()?,
        )?;
        fsx::replace(&path, &archive)?;
    }
    Ok(Initramfs { path, digest })
}

/// Compares a cached archive with what it must be.
pub(crate) fn is_intact(
    archive: &Initramfs,
    kernel: &Kernel,
    busybox: &Busybox,
) -> Result<bool, KernelError> {
    let expected = build(
        &ModuleTree::open(&kernel.modules_dir())?,
        &busybox.program()?,
        &busybox.applets()?,
    )?;
    let mut content = Vec::with_capacity(expected.len());
    let read = File::open(&archive.path).and_then(|mut file| file.read_to_end(&mut content));
    read.on("read", &archive.path)?;
    Ok(content == expected)
}

fn is_whole(path: &Path) -> bool {
    let mut tail = [0; 16];
    File::open(path).is_ok_and(|file| {
        let size = file.metadata().map_or(0, |meta| meta.len());
        size > 16 && file.read_exact_at(&mut tail, size - 16).is_ok() && cpio::is_complete(&tail)
    })
}

/// Makes the archive.
fn build(modules: &ModuleTree, busybox: &[u8], applets: &[String]) -> Result<Vec<u8>, KernelError> {
    let mut archive = Archive::new();
    for (dir, mode) in [
        ("bin", 0o755),
        ("dev", 0o755),
        ("etc", 0o755),
        ("home", 0o755),
        ("mnt", 0o755),
        ("modules", 0o755),
        ("newroot", 0o755),
        ("proc", 0o555),
        ("root", 0o700),
        ("run", 0o755),
        ("sys", 0o555),
        ("tmp", 0o1777),
        ("usr", 0o755),
        ("var", 0o755),
        ("var/tmp", 0o1777),
    ] {
        archive.directory(dir, mode);
    }
    // The kernel opens it for init's standard streams, before anything can be mounted on /dev.
    archive.device("dev/console", 0o600, 5, 1);
    archive.device("dev/null", 0o666, 1, 3);
    for (link, target) in [
        ("sbin", "bin"),
        ("usr/bin", "../bin"),
        ("usr/sbin", "../bin"),
        ("var/run", "../run"),
    ] {
        archive.symlink(link, target);
    }
    archive.file(
        "etc/passwd",
        0o644,
        b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    );
    archive.file("etc/group", 0o644, b"root:x:0:\nnogroup:x:65534:\n");
    archive.file(
        "etc/profile",
        0o644,
        b"export PATH=/usr/local/bin:/usr/bin:/bin:/sbin\nexport PS1='\\h:\\w\\$ '\n",
    );
    archive.file(
        "etc/hosts",
        0o644,
        b"127.0.0.1\tlocalhost\n::1\tlocalhost\n",
    );
    archive.file("init", 0o755, crate::AGENT);
    archive.file("bin/busybox", 0o755, busybox);
    for applet in applets {
        archive.symlink(&format!("bin/{applet}"), "busybox");
    }
    let mut order = String::new();
    for name in modules.resolve(&WANTED)? {
        let module = modules.load(&name)?;
        archive.file(
            &format!("modules/{}", module.file_name),
            0o644,
            &module.content,
        );
        order = order + &module.file_name + "\n";
    }
    archive.file("modules/order", 0o644, order.as_bytes());
    Ok(archive.finish())
}

/// Removes cached archives that are not in `keep`; gives how many bytes that frees.
pub(crate) fn prune(
    dir: &Path,
    keep: &[Digest],
    remove: impl Fn(&Path) -> Result<(), FileError>,
) -> Result<u64, FileError> {
    let mut freed = 0;
    for name in fsx::names(dir)? {
        let digest = name.strip_suffix(".cpio").and_then(Digest::from_file_name);
        if digest.is_none_or(|digest| !keep.contains(&digest)) {
            let path = dir.join(name);
            freed += std::fs::metadata(&path).map_or(0, |meta| meta.len());
            remove(&path)?;
        }
    }
    Ok(freed)
}
