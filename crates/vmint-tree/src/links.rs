//! Files with several names: which of them was packed first.

use rustix::fs::{AtFlags, Stat, StatxFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::os::fd::BorrowedFd;

/// A file, told from one that comes to have its number later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct File {
    device: u64,
    inode: u64,
    born: (i64, u32),
}

#[derive(Debug)]
struct Linked {
    name: Vec<u8>,
    /// Names that may still come.
    left: u64,
}

/// The files that were packed and have more names. One of which all names were seen is forgotten.
#[derive(Debug, Default)]
pub(crate) struct Links {
    files: HashMap<File, Linked>,
}

impl Links {
    /// The name under which a file was packed before. If it was not, it is now, under `name`.
    pub(crate) fn known(
        &mut self,
        file: BorrowedFd<'_>,
        stat: &Stat,
        name: &[u8],
    ) -> Result<Option<Vec<u8>>, Errno> {
        if stat.st_nlink < 2 {
            return Ok(None);
        }
        let found = rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::BTIME)?;
        // A file system without birth times leaves zeros.
        let file = File {
            device: stat.st_dev,
            inode: stat.st_ino,
            born: (found.stx_btime.tv_sec, found.stx_btime.tv_nsec),
        };
        let Some(linked) = self.files.get_mut(&file) else {
            #[allow(clippy::unnecessary_cast, reason = "it is shorter on aarch64")]
            let left = stat.st_nlink as u64 - 1;
            let name = name.to_vec();
            self.files.insert(file, Linked { name, left });
            return Ok(None);
        };
        linked.left -= 1;
        let first = linked.name.clone();
        if linked.left == 0 {
            self.files.remove(&file);
        }
        Ok(Some(first))
    }
}
