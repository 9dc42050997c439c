//! The files that an unpacker has made, for hard links: only what it has made itself may be linked.

use rustix::fs::{AtFlags, StatxFlags};
use rustix::io::Errno;
use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};
use std::os::fd::AsFd;

/// Files that are remembered at least; twice as many at most. A file takes 18 bytes or less.
const REMEMBERED: usize = 1 << 19;

/// The files made, by what the kernel says of the inode; never by name, which may come to mean another file.
///
/// The birth time belongs to it: ext4 gives the number of a deleted inode to the next file, which may be anybody's. Only
/// one that another process makes below the target, with that number and in the same tick of the clock, would pass; to
/// link it there changes nothing outside. A file is kept as a keyed hash, so that an archive cannot look for two with the same.
#[derive(Debug)]
pub(crate) struct Made {
    young: HashSet<u64, BuildHasherDefault<AsItIs>>,
    old: HashSet<u64, BuildHasherDefault<AsItIs>>,
    key: RandomState,
    remembered: usize,
}

impl Default for Made {
    fn default() -> Self {
        Self::remembering(REMEMBERED)
    }
}

impl Made {
    fn remembering(remembered: usize) -> Self {
        Self {
            young: HashSet::default(),
            old: HashSet::default(),
            key: RandomState::new(),
            remembered,
        }
    }

    /// Remembers a file that was just made.
    pub(crate) fn remember(&mut self, file: impl AsFd) -> Result<(), Errno> {
        let id = self.identity(file)?;
        if self.young.len() >= self.remembered {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(id);
        Ok(())
    }

    /// Whether this is a file that was made here.
    pub(crate) fn contains(&self, file: impl AsFd) -> Result<bool, Errno> {
        let id = self.identity(file)?;
        Ok(self.young.contains(&id) || self.old.contains(&id))
    }

    fn identity(&self, file: impl AsFd) -> Result<u64, Errno> {
        let wanted = StatxFlags::INO | StatxFlags::BTIME;
        let stat = rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, wanted)?;
        // A file system without birth times leaves zeros.
        Ok(self.key.hash_one((
            stat.stx_dev_major,
            stat.stx_dev_minor,
            stat.stx_ino,
            stat.stx_btime.tv_sec,
            stat.stx_btime.tv_nsec,
        )))
    }
}

/// What is hashed already.
#[derive(Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only whole numbers are hashed");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_files_are_remembered_and_the_oldest_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let files: Vec<_> = (0..10)
            .map(|i| std::fs::File::create(folder.path().join(i.to_string())).unwrap())
            .collect();
        let mut made = Made::remembering(4);
        for file in &files {
            made.remember(file).unwrap();
        }
        let known: Vec<bool> = files.iter().map(|f| made.contains(f).unwrap()).collect();
        assert_eq!(known[..4], [false; 4]);
        assert_eq!(known[6..], [true; 4]);
        let other = std::fs::File::create(folder.path().join("other")).unwrap();
        assert!(!made.contains(other).unwrap());
    }
}
