//! The archive that the kernel unpacks as its first root: cpio in the “newc” form, uncompressed.
//!
//! The bytes depend on the entries alone: no times, no owners but root, inode numbers counted from one.

/// Writes an archive.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER: u32 = 0o020_000;

impl Archive {
    /// An archive without entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// A folder. The kernel creates no parents: they must come first.
    pub fn directory(&mut self, path: &str, mode: u32) {
        self.entry(path, DIRECTORY | mode, &[], (0, 0));
    }

    /// A file.
    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entry(path, REGULAR | mode, content, (0, 0));
    }

    /// A symbolic link.
    pub fn symlink(&mut self, path: &str, target: &str) {
        self.entry(path, SYMLINK | 0o777, target.as_bytes(), (0, 0));
    }

    /// A character device.
    pub fn device(&mut self, path: &str, mode: u32, major: u32, minor: u32) {
        self.entry(path, CHARACTER | mode, &[], (major, minor));
    }

    /// Ends the archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.entries = u32::MAX;
        self.entry("TRAILER!!!", 0, &[], (0, 0));
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8], device: (u32, u32)) {
        assert!(
            !path.starts_with('/') && !path.contains('\0'),
            "a path relative to the root: {path:?}"
        );
        let size = u32::try_from(content.len()).expect("newc holds files below 4 GiB");
        self.entries = self.entries.wrapping_add(1);
        let links = if mode & DIRECTORY == DIRECTORY { 2 } else { 1 };
        // inode, mode, uid, gid, links, mtime, size, device of the file (2), device it is (2), name with its zero, check
        let fields = [
            self.entries,
            mode,
            0,
            0,
            links,
            0,
            size,
            0,
            0,
            device.0,
            device.1,
            path.len() as u32 + 1,
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// Whether bytes end as an archive does: a cheap test for a file that was cut off.
pub(crate) fn is_complete(tail: &[u8]) -> bool {
    tail.ends_with(b"TRAILER!!!\0\0\0\0")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A second reading of the format, from the kernel's Documentation/driver-api/early-userspace/buffer-format.rst.
    fn read(mut archive: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let (whole, mut entries) = (archive.len(), Vec::new());
        let aligned = |rest: &[u8]| (4 - (whole - rest.len()) % 4) % 4;
        loop {
            assert_eq!(&archive[..6], b"070701");
            let field = |i: usize| {
                let digits = std::str::from_utf8(&archive[6 + 8 * i..14 + 8 * i]).unwrap();
                u32::from_str_radix(digits, 16).unwrap()
            };
            let (mode, size, name) = (field(1), field(6) as usize, field(11) as usize);
            let path = String::from_utf8(archive[110..110 + name - 1].to_vec()).unwrap();
            archive = &archive[110 + name..];
            archive = &archive[aligned(archive)..];
            let content = archive[..size].to_vec();
            archive = &archive[size..];
            archive = &archive[aligned(archive)..];
            if path == "TRAILER!!!" {
                assert!(archive.is_empty());
                return entries;
            }
            entries.push((path, mode, content));
        }
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(files in prop::collection::vec(("[a-z][a-zA-Z0-9 /äö]{0,40}", 0u32..0o1000, prop::collection::vec(any::<u8>(), 0..50)), 0..10)) {
            let mut archive = Archive::new();
            for (path, mode, content) in &files {
                archive.file(path, *mode, content);
            }
            let bytes = archive.finish();
            prop_assert!(is_complete(&bytes));
            prop_assert!(!is_complete(&bytes[..bytes.len() - 4]));
            let expected: Vec<_> = files.into_iter().map(|(p, m, c)| (p, m | REGULAR, c)).collect();
            prop_assert_eq!(read(&bytes), expected);
        }
    }

    #[test]
    fn kinds_are_kept() {
        let mut archive = Archive::new();
        archive.directory("dev", 0o755);
        archive.device("dev/console", 0o600, 5, 1);
        archive.symlink("bin", "usr/bin");
        let modes: Vec<_> = read(&archive.finish())
            .into_iter()
            .map(|(_, mode, _)| mode)
            .collect();
        assert_eq!(modes, [0o040_755, 0o020_600, 0o120_777]);
    }
}
