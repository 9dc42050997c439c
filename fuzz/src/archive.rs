//! Tar archives out of a fuzzer's bytes, and a tree that they must not reach.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Makes the checksums of headers right: by chance none would be. The rest stays as wrong as it is.
pub fn mend(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut at = 0;
    while let Some(block) = bytes.get_mut(at..at + 512) {
        if block.iter().any(|&b| b != 0) {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        let digits = block[124..136].iter().take_while(|b| b.is_ascii_digit());
        let size = digits.fold(0usize, |size, b| {
            size.saturating_mul(8).saturating_add(usize::from(b & 7))
        });
        at = at
            .saturating_add(512)
            .saturating_add(size.min(1 << 20).next_multiple_of(512));
    }
    bytes
}

/// A folder with a tree, `outside`, and room beside it.
pub struct Place {
    dir: tempfile::TempDir,
    before: Vec<String>,
}

impl Default for Place {
    fn default() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let outside = dir.path().join("outside");
        fs::create_dir_all(outside.join("folder")).expect("a new folder");
        fs::write(outside.join("key"), "secret").expect("a new file");
        fs::write(outside.join("folder/file"), "precious").expect("a new file");
        let before = facts(&outside);
        Self { dir, before }
    }
}

impl Place {
    /// A new folder beside the tree.
    pub fn folder(&self) -> PathBuf {
        let folder = self.dir.path().join("target");
        fs::create_dir(&folder).expect("a new folder");
        folder
    }

    /// The tree is as it was, and nothing is beside it but the folder.
    pub fn check(self) {
        assert_eq!(facts(&self.dir.path().join("outside")), self.before);
        let names = fs::read_dir(self.dir.path()).expect("it is there").count();
        assert_eq!(names, 2, "something was made beside the target");
    }
}

fn facts(root: &Path) -> Vec<String> {
    let mut facts = Vec::new();
    let mut rest = vec![root.to_owned()];
    while let Some(path) = rest.pop() {
        let meta = fs::symlink_metadata(&path).expect("it is there");
        if meta.is_dir() {
            let entries = fs::read_dir(&path).expect("it is there");
            rest.extend(entries.map(|entry| entry.expect("it is there").path()));
        }
        let (mode, inode, links) = (meta.mode(), meta.ino(), meta.nlink());
        let (ctime, nanos) = (meta.ctime(), meta.ctime_nsec());
        facts.push(format!("{path:?} {mode:o} {inode} {links} {ctime}.{nanos}"));
    }
    facts.sort();
    facts
}
