//! What users bring along, and what befalls them: root file systems, OCI layouts, disks that are too small, files that
//! are damaged.

use crate::home::Home;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::ffi::CString;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A program for the guest that attacks its host, compiled from `attacks/NAME.c`.
pub fn attack_program(folder: &Path, name: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("attacks/{name}.c"));
    let program = folder.join(name);
    let gcc = Command::new("gcc")
        .args(["-O2", "-static", "-o"])
        .args([&program, &source])
        .output()
        .expect("gcc is installed: Rust links with it");
    assert!(
        gcc.status.success(),
        "{}",
        String::from_utf8_lossy(&gcc.stderr)
    );
    program
}

/// A tar, file by file. Its files belong to root.
pub struct Tarball(tar::Builder<Vec<u8>>);

impl Default for Tarball {
    fn default() -> Self {
        Self::new()
    }
}

impl Tarball {
    /// An empty one.
    pub fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    /// A root file system that is one program: busybox, under a few of its names, without an init.
    pub fn busybox(home: &Home) -> Self {
        Self::busybox_of(home.root())
    }

    /// The same, from a `VMINT_HOME` that is elsewhere.
    pub fn busybox_of(root: &Path) -> Self {
        let all = root.join("images/busybox");
        let found = fs::read_dir(&all)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path().join("busybox"));
        let program = found.into_iter().find(|path| path.is_file());
        let program = program.unwrap_or_else(|| panic!("no busybox in {}", all.display()));
        let mut tarball = Self::new()
            .file(
                "bin/busybox",
                0o755,
                &fs::read(program).expect("the store can be read"),
            )
            .file(
                "etc/passwd",
                0o644,
                b"root:x:0:0:root:/:/bin/sh\nworker:x:1000:1000::/srv:/bin/sh\n",
            )
            .file("etc/group", 0o644, b"root:x:0:\nworker:x:1000:\n");
        for name in [
            "cat", "echo", "env", "false", "id", "ls", "ps", "pwd", "sh", "sleep", "true", "uname",
        ] {
            tarball = tarball.link(&format!("bin/{name}"), "busybox");
        }
        tarball
    }

    fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1);
        header.set_size(size);
        header
    }

    /// Adds a folder.
    pub fn folder(mut self, path: &str, mode: u32) -> Self {
        let mut header = Self::header(tar::EntryType::Directory, mode, 0);
        self.0
            .append_data(&mut header, path, &[][..])
            .expect("a tar in memory");
        self
    }

    /// Adds a file.
    pub fn file(mut self, path: &str, mode: u32, content: &[u8]) -> Self {
        let mut header = Self::header(tar::EntryType::Regular, mode, content.len() as u64);
        self.0
            .append_data(&mut header, path, content)
            .expect("a tar in memory");
        self
    }

    /// Adds a symbolic link.
    pub fn link(mut self, path: &str, target: &str) -> Self {
        let mut header = Self::header(tar::EntryType::Symlink, 0o777, 0);
        self.0
            .append_link(&mut header, path, target)
            .expect("a tar in memory");
        self
    }

    /// The tar.
    pub fn bytes(self) -> Vec<u8> {
        self.0.into_inner().expect("a tar in memory")
    }

    /// Writes the tar into a home's working directory, and gives its path.
    pub fn write(self, home: &Home, name: &str) -> PathBuf {
        let path = home.runtime().join(name);
        fs::write(&path, self.bytes()).expect("a home can be written");
        path
    }
}

/// `sha256:` and the digest.
pub fn digest(bytes: &[u8]) -> String {
    let hex = Sha256::digest(bytes)
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    format!("sha256:{hex}")
}

/// An image as registries hold it: its manifest, and the blobs that this names.
#[derive(Debug)]
pub struct OciImage {
    /// The manifest.
    pub manifest: Vec<u8>,
    /// Configuration and layers.
    pub blobs: Vec<Vec<u8>>,
}

impl OciImage {
    /// Of uncompressed layers, for an architecture as OCI says it (`amd64`), with this `config` object.
    pub fn new(architecture: &str, config: Value, layers: Vec<Vec<u8>>) -> Self {
        let descriptor = |kind: &str, bytes: &[u8]| {
            let media_type = format!("application/vnd.oci.image.{kind}");
            json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()})
        };
        let ids: Vec<_> = layers.iter().map(|layer| digest(layer)).collect();
        let rootfs = json!({"type": "layers", "diff_ids": ids});
        let config = json!({"architecture": architecture, "os": "linux", "config": config, "rootfs": rootfs});
        let config = config.to_string().into_bytes();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("config.v1+json", &config),
            "layers": layers.iter().map(|layer| descriptor("layer.v1.tar", layer)).collect::<Vec<_>>(),
        });
        let blobs = std::iter::once(config).chain(layers).collect();
        Self {
            manifest: manifest.to_string().into_bytes(),
            blobs,
        }
    }

    /// Writes it as a folder in OCI's layout.
    pub fn write_layout(&self, folder: &Path) {
        let blobs = folder.join("blobs/sha256");
        fs::create_dir_all(&blobs).expect("a layout can be written");
        fs::write(
            folder.join("oci-layout"),
            r#"{"imageLayoutVersion":"1.0.0"}"#,
        )
        .expect("a layout can be written");
        for blob in self.blobs.iter().chain([&self.manifest]) {
            let name = digest(blob);
            fs::write(blobs.join(&name["sha256:".len()..]), blob).expect("a layout can be written");
        }
        let manifest = json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": digest(&self.manifest), "size": self.manifest.len(),
        });
        let index = json!({"schemaVersion": 2, "manifests": [manifest]});
        fs::write(folder.join("index.json"), index.to_string()).expect("a layout can be written");
    }
}

/// The names in a folder of the host, hidden ones too.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder of ours, with names of ours");
    let mut names: Vec<_> = entries
        .map(|entry| {
            entry
                .expect("a folder of ours, with names of ours")
                .file_name()
                .into_string()
                .expect("a folder of ours, with names of ours")
        })
        .collect();
    names.sort();
    names
}

/// An executable shell script, for what takes the place of QEMU.
pub fn script(path: &Path, text: &str) {
    fs::write(path, format!("#!/bin/sh\n{text}\n")).expect("a script can be written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a script can be written");
}

/// A small file system in memory, until dropped.
#[derive(Debug)]
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one of `size` bytes on a new folder. `None`, and a word about it, for users who may not mount.
    pub fn mount(folder: PathBuf, size: u64) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("NOT TESTED: only root may mount a small disk");
            return None;
        }
        fs::create_dir(&folder).expect("a new folder");
        let options = CString::new(format!("size={size},mode=0700")).expect("no zero in it");
        mount(
            "tmpfs",
            &folder,
            "tmpfs",
            MountFlags::empty(),
            options.as_c_str(),
        )
        .expect("root may mount");
        Some(Self(folder))
    }

    /// The same on ext4, from a file. In a tmpfs even what reads memory that was never written takes room.
    pub fn mount_ext4(folder: PathBuf, size: u64) -> Option<Self> {
        let image = folder.with_extension("ext4");
        let file = File::create(&image).expect("a home can be written");
        file.set_len(size).expect("a sparse file");
        fs::create_dir(&folder).expect("a new folder");
        let run =
            |command: &mut Command| command.output().is_ok_and(|output| output.status.success());
        let made = run(Command::new("mkfs.ext4").args(["-q", "-m0"]).arg(&image))
            && run(Command::new("mount")
                .args(["-o", "loop"])
                .arg(&image)
                .arg(&folder));
        if !made {
            eprintln!(
                "NOT TESTED: this user may not mount a small disk, or there is no loop device"
            );
            return None;
        }
        let disk = Self(folder);
        fs::set_permissions(disk.path(), fs::Permissions::from_mode(0o700))
            .expect("our own folder");
        Some(disk)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// What is free, in bytes.
    pub fn free(&self) -> u64 {
        let found = rustix::fs::statvfs(&self.0).expect("it is mounted");
        found.f_bavail * found.f_frsize
    }

    /// Takes all but `left` bytes of it; gives the file that takes them.
    pub fn fill(&self, left: u64) -> PathBuf {
        let path = self.0.join("ballast");
        let mut file = File::create(&path).expect("it can be written");
        let zeros = vec![0; 1 << 16];
        while self.free() > left {
            let n = zeros
                .len()
                .min(usize::try_from(self.free() - left).expect("it is small"));
            file.write_all(&zeros[..n]).expect("there is room for it");
        }
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Also when something still has a file open in it.
        unmount(&self.0, UnmountFlags::DETACH).expect("it is mounted");
    }
}

/// Changes a file's content, as a disk or a user might. The seeds may share it: it becomes this home's own first.
pub fn damage(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    change(&mut bytes);
    let own = path.with_extension("damaged");
    fs::write(&own, bytes).expect("a home can be written");
    fs::set_permissions(&own, fs::metadata(path).expect("read above").permissions())
        .expect("our own file");
    fs::rename(&own, path).expect("a home can be written");
}

/// What in a `VMINT_HOME` somebody has begun and not finished, or not cleared up.
pub fn half_made(root: &Path) -> Vec<PathBuf> {
    let folders = ["", "images", "templates", "snapshots", "machines"].map(|name| root.join(name));
    let entries = folders
        .iter()
        .flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten());
    let begun = |path: &PathBuf| {
        let name = path
            .file_name()
            .expect("an entry has a name")
            .to_string_lossy();
        name.starts_with(".tmp") || name.starts_with(".probe")
    };
    entries.map(|entry| entry.path()).filter(begun).collect()
}
