//! Small images, written as others would write them.
#![allow(dead_code, reason = "each test binary uses its part")]

use flate2::write::GzEncoder;
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use vmint_image::{Arch, Digest, ImageStore};
use vmint_model::Home;

/// A home of its own.
pub fn home() -> (tempfile::TempDir, ImageStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = ImageStore::open(&Home::new(dir.path(), dir.path().join("run"))).unwrap();
    (dir, store)
}

/// Fails if a build or an import has left something.
pub fn assert_nothing_left(home: &Path) {
    let left: Vec<_> = fs::read_dir(home.join("images"))
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert!(
        left.iter()
            .all(|n| !n.to_string_lossy().starts_with(".tmp")),
        "{left:?}"
    );
}

/// A tar of files: path, mode, content. A path that ends in `/` is a folder; content that starts with `->` a link.
pub fn tar(entries: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, mode, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mode(*mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1);
        header.set_size(0);
        if path.ends_with('/') {
            header.set_entry_type(tar::EntryType::Directory);
            builder.append_data(&mut header, path, &[][..]).unwrap();
        } else if let Some(target) = content.strip_prefix(b"->") {
            header.set_entry_type(tar::EntryType::Symlink);
            builder
                .append_link(&mut header, path, std::str::from_utf8(target).unwrap())
                .unwrap();
        } else {
            header.set_size(content.len() as u64);
            builder.append_data(&mut header, path, *content).unwrap();
        }
    }
    builder.into_inner().unwrap()
}

pub fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

pub fn zstd(data: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(data, ruzstd::encoding::CompressionLevel::Fastest)
}

pub fn xz(data: &[u8]) -> Vec<u8> {
    let options = lzma_rust2::XzOptions::with_preset(1);
    let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// The two layers of the image that most tests import; the upper one hides a file and a folder of the lower.
pub fn layers() -> [Vec<u8>; 2] {
    let program = vmint_image::AGENT;
    let lower = tar(&[
        ("usr/", 0o755, b""),
        ("usr/bin/sh", 0o755, program),
        ("bin", 0o777, b"->usr/bin"),
        ("etc/hidden", 0o644, b"hidden"),
        ("etc/passwd", 0o644, b"root:x:0:0:root:/:/bin/sh\n"),
        ("srv/old/file", 0o644, b"old"),
    ]);
    let upper = tar(&[
        ("etc/.wh.hidden", 0o644, b""),
        ("srv/old/.wh..wh..opq", 0o644, b""),
        ("srv/old/new", 0o4711, b"new"),
        ("bin/more", 0o755, b"#!/bin/sh\n"),
    ]);
    [lower, upper]
}

/// A configuration for this architecture (as Debian says it) over these uncompressed layers.
pub fn config(architecture: &str, layers: &[Vec<u8>]) -> Value {
    json!({
        "architecture": architecture, "os": "linux",
        "config": {
            "User": "1000:1000", "Env": ["PATH=/bin", "A=b c"], "WorkingDir": "/srv",
            "Entrypoint": ["/bin/sh"], "Cmd": ["-c", "echo hi"],
        },
        "rootfs": {"type": "layers", "diff_ids": layers.iter().map(|l| Digest::of(l).to_string()).collect::<Vec<_>>()},
    })
}

/// A folder in OCI's layout that grows image by image.
pub struct Layout {
    pub dir: PathBuf,
    manifests: Vec<Value>,
}

impl Layout {
    pub fn new(dir: PathBuf) -> Self {
        fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
        fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Self {
            dir,
            manifests: Vec::new(),
        }
    }

    pub fn blob(&self, media_type: &str, content: &[u8]) -> Value {
        let digest = Digest::of(content);
        fs::write(self.dir.join("blobs/sha256").join(digest.hex()), content).unwrap();
        json!({"mediaType": media_type, "digest": digest.to_string(), "size": content.len()})
    }

    /// Adds an image under a tag; gives its descriptor.
    pub fn image(&mut self, tag: &str, config: &Value, layers: &[Vec<u8>]) -> Value {
        let config = self.blob(
            "application/vnd.oci.image.config.v1+json",
            config.to_string().as_bytes(),
        );
        let layers: Vec<_> = layers
            .iter()
            .map(|l| self.blob("application/vnd.oci.image.layer.v1.tar", l))
            .collect();
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
        let mut descriptor = self.blob(
            "application/vnd.oci.image.manifest.v1+json",
            manifest.to_string().as_bytes(),
        );
        descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
        self.manifests.push(descriptor.clone());
        self.write_index();
        descriptor
    }

    /// Replaces the index.
    pub fn set_index(&mut self, manifests: Vec<Value>) {
        self.manifests = manifests;
        self.write_index();
    }

    fn write_index(&self) {
        let index = json!({"schemaVersion": 2, "manifests": self.manifests});
        fs::write(self.dir.join("index.json"), index.to_string()).unwrap();
    }
}

/// Another architecture than this host's, as Debian says it.
pub fn other_architecture() -> &'static str {
    if Arch::HOST == Arch::X86_64 {
        "arm64"
    } else {
        "amd64"
    }
}

/// What debugfs says about a disk; its complaint if it says nothing.
pub fn debugfs(disk: &Path, request: &str) -> String {
    let output = Command::new("/usr/sbin/debugfs")
        .args(["-R", request])
        .arg(disk)
        .output()
        .unwrap();
    let said = if output.stdout.is_empty() {
        output.stderr
    } else {
        output.stdout
    };
    String::from_utf8_lossy(&said).into_owned()
}
