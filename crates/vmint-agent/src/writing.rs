//! A file that is being unpacked. One whose content is here all at once is made under its name and written by one call;
//! another is a [`Draft`] until it is whole. So there is never a half file of that name, and a small file, of which there are
//! many, has no call of the kernel too many.

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::{Errno, Result};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use vmint_tree::{Draft, Drafts, write_all};

/// A file under its way.
#[derive(Debug)]
pub struct Writing {
    name: Vec<u8>,
    way: Way,
}

#[derive(Debug)]
enum Way {
    /// Nothing of its content has come.
    New,
    /// All of it has, and it has its name.
    Whole(OwnedFd),
    /// Some of it has.
    Draft(Draft),
}

/// A file that has its content. Its attributes are to be set, then it is to be [placed](Ended::place).
#[derive(Debug)]
pub struct Ended(Writing);

impl Writing {
    /// A file of this name.
    pub fn of(name: &[u8]) -> Self {
        Self {
            name: name.to_vec(),
            way: Way::New,
        }
    }

    /// Takes content of a file of `size` bytes in the folder `at`.
    pub fn data(
        &mut self,
        at: BorrowedFd<'_>,
        drafts: &mut Drafts,
        data: &[u8],
        size: u64,
    ) -> Result<()> {
        if matches!(self.way, Way::New) && data.len() as u64 == size && self.make(at)? {
            let Way::Whole(file) = &self.way else {
                return Err(Errno::BADFD);
            };
            return write_all(file.as_fd(), data).inspect_err(|_| self.unmake(at));
        }
        self.draft(at, drafts)?.write(data)
    }

    /// Takes a hole.
    pub fn hole(&mut self, at: BorrowedFd<'_>, drafts: &mut Drafts, len: u64) -> Result<()> {
        self.draft(at, drafts)?.hole(len)
    }

    /// Makes the file, should it have no content.
    pub fn begin(&mut self, at: BorrowedFd<'_>, drafts: &mut Drafts) -> Result<()> {
        if matches!(self.way, Way::New) && !self.make(at)? {
            self.draft(at, drafts)?;
        }
        Ok(())
    }

    /// All of its content has come.
    pub fn end(mut self) -> Result<Ended> {
        if let Way::Draft(draft) = &mut self.way {
            draft.complete()?;
        }
        Ok(Ended(self))
    }

    /// Makes it under its name, if nobody has that.
    fn make(&mut self, at: BorrowedFd<'_>) -> Result<bool> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(at, &self.name[..], flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => {
                self.way = Way::Whole(file);
                Ok(true)
            }
            Err(Errno::EXIST) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// Takes a file away that was made and could not be written.
    fn unmake(&self, at: BorrowedFd<'_>) {
        let _ = rustix::fs::unlinkat(at, &self.name[..], AtFlags::empty());
    }

    fn draft(&mut self, at: BorrowedFd<'_>, drafts: &mut Drafts) -> Result<&mut Draft> {
        if let Way::New = self.way {
            self.way = Way::Draft(drafts.begin(at)?);
        }
        match &mut self.way {
            Way::Draft(draft) => Ok(draft),
            // More content than the file has: the parser gives no such thing.
            _ => Err(Errno::BADFD),
        }
    }
}

impl Ended {
    /// The file.
    pub fn file(&self) -> BorrowedFd<'_> {
        match &self.0.way {
            Way::Whole(file) => file.as_fd(),
            Way::Draft(draft) => draft.file(),
            Way::New => rustix::fs::CWD,
        }
    }

    /// Gives it its name in the folder `at`, if it has not got it.
    pub fn place(self, at: BorrowedFd<'_>) -> Result<()> {
        match self.0.way {
            Way::Draft(draft) => draft.place(at, &self.0.name),
            Way::Whole(_) | Way::New => Ok(()),
        }
    }
}
