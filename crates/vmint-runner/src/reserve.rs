//! A little space on the host's disk, kept so that a machine which has filled the rest can still be recorded as halted.

use std::fs::File;
use std::path::{Path, PathBuf};

/// What a few transactions of the store take, many times over.
const SIZE: u64 = 256 << 10;

/// Space in a machine's folder that is nobody's until it is given up.
#[derive(Debug)]
pub struct Reserve(PathBuf);

impl Reserve {
    /// None yet.
    pub fn in_folder(folder: &Path) -> Self {
        Self(folder.join("reserve"))
    }

    /// Takes the space, if there is so much. Without it a full disk is told in the log alone. To take it once more costs
    /// nothing: on ext4 it would cost 3 ms, with each reset.
    pub fn take(&self) {
        if self.is_held() {
            return;
        }
        let taken = File::create(&self.0).and_then(|file| {
            let flags = rustix::fs::FallocateFlags::empty();
            rustix::fs::fallocate(&file, flags, 0, SIZE).map_err(Into::into)
        });
        if let Err(e) = taken {
            tracing::debug!("no space is kept in reserve: {e}");
            self.give_up();
        }
    }

    fn is_held(&self) -> bool {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(&self.0).is_ok_and(|file| file.blocks() * 512 >= SIZE)
    }

    /// Gives it back to the disk.
    pub fn give_up(&self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn the_space_is_really_taken_and_given_back() {
        let folder = std::env::temp_dir().join(format!("vmint-reserve-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let reserve = Reserve::in_folder(&folder);
        reserve.take();
        // Twice is once.
        reserve.take();
        let blocks = std::fs::metadata(folder.join("reserve")).map(|m| m.blocks() * 512);
        reserve.give_up();
        let left = std::fs::read_dir(&folder).unwrap().count();
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!((blocks.unwrap(), left), (SIZE, 0));
    }
}
