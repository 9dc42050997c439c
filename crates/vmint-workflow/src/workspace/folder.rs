//! Files as they lie in a folder.
//!
//! What `.gitignore` and `.git/info/exclude` name is left out, save what git tracks all the same. Symbolic links stay
//! links and are never followed. A file may change or vanish while it is read: the tar stays whole.

use super::stream::{Outlet, Packed, Pieces, close};
use super::{Repository, WorkspaceError, git};
use ignore::WalkBuilder;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use tar::{Builder, EntryType, Header};

/// Whether the repository's own `.git` comes along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GitFolder {
    /// The files alone.
    LeftOut,
    /// All of it, as it is. In a linked worktree this is only a file that names a path of this host; there
    /// [`super::history`] gives one that works elsewhere.
    Included,
}

/// Packs the files of a folder as they are now. Paths are relative to the folder.
pub async fn pack(
    repository: &Repository,
    git_folder: GitFolder,
    pieces: Pieces,
) -> Result<Packed, WorkspaceError> {
    let root = repository.root.clone();
    let result = async {
        // Tracked although they are ignored: a checkout has them, the walk below does not see them.
        let tracked = if repository.managed {
            let mut list = vec![
                "ls-files",
                "-z",
                "--cached",
                "--ignored",
                "--exclude-per-directory=.gitignore",
            ];
            let exclude = ask_exclude(&root).await?;
            let exclude = exclude.map(|path| format!("--exclude-from={path}"));
            list.extend(exclude.as_deref());
            git::paths(&git::run(&root, git::Work::Question, &list).await?).collect()
        } else {
            Vec::new()
        };
        let (root, outlet) = (root.clone(), Outlet::new(pieces.clone()));
        blocking(move || {
            let mut packer = Packer::new(&root, outlet);
            let mut walk = WalkBuilder::new(&root);
            walk.standard_filters(false)
                .git_ignore(true)
                .git_exclude(true)
                .require_git(false)
                .filter_entry(|entry| entry.depth() == 0 || entry.file_name() != ".git");
            packer.walk(&mut walk)?;
            for path in tracked {
                packer.add(&root.join(path))?;
            }
            if git_folder == GitFolder::Included {
                packer.walk(WalkBuilder::new(root.join(".git")).standard_filters(false))?;
            }
            packer.finish()
        })
        .await
    };
    close(&pieces, &root, result.await).await
}

/// Packs a copy of a repository's files, whatever is ignored: an action is what was committed, and what it builds for
/// itself is often both committed and ignored. Paths are relative to the folder.
pub async fn pack_copy(root: PathBuf, pieces: Pieces) -> Result<Packed, WorkspaceError> {
    let (own, outlet) = (root.clone(), Outlet::new(pieces.clone()));
    let result = blocking(move || {
        let mut packer = Packer::new(&own, outlet);
        let mut walk = WalkBuilder::new(&own);
        walk.standard_filters(false)
            .filter_entry(|entry| entry.depth() != 1 || entry.file_name() != ".git");
        packer.walk(&mut walk)?;
        packer.finish()
    });
    close(&pieces, &root, result.await).await
}

/// Packs all below a folder, whatever is ignored. Paths are relative to the folder.
pub(super) async fn pack_all(root: PathBuf, pieces: Pieces) -> Result<Packed, WorkspaceError> {
    let (own, outlet) = (root.clone(), Outlet::new(pieces.clone()));
    let result = blocking(move || {
        let mut packer = Packer::new(&own, outlet);
        packer.walk(WalkBuilder::new(&own).standard_filters(false))?;
        packer.finish()
    });
    close(&pieces, &root, result.await).await
}

/// `.git/info/exclude`, wherever it is; absent when there is none.
async fn ask_exclude(root: &Path) -> Result<Option<String>, WorkspaceError> {
    let answer = git::ask(root, &["rev-parse", "--git-path", "info/exclude"]).await?;
    let path = answer.map(|answer| String::from_utf8_lossy(&answer).trim_end().to_owned());
    Ok(path.filter(|path| root.join(path).is_file()))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, WorkspaceError> + Send + 'static,
) -> Result<T, WorkspaceError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        // The task is never aborted: it has panicked, and so do we.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

struct Packer<'a> {
    root: &'a Path,
    tar: Builder<Outlet>,
    packed: Packed,
}

impl<'a> Packer<'a> {
    fn new(root: &'a Path, outlet: Outlet) -> Self {
        Self {
            root,
            tar: Builder::new(outlet),
            packed: Packed::default(),
        }
    }

    fn walk(&mut self, walk: &mut WalkBuilder) -> Result<(), WorkspaceError> {
        walk.follow_links(false).sort_by_file_name(Ord::cmp);
        for entry in walk.build() {
            match entry {
                Ok(entry) if entry.path() == self.root => {}
                Ok(entry) => self.add(entry.path())?,
                Err(error) if error.io_error().is_some_and(vanished) => self.packed.left_out += 1,
                Err(error) => {
                    let text = error.to_string();
                    return Err(failed(
                        "list",
                        self.root,
                        error
                            .into_io_error()
                            .unwrap_or_else(|| io::Error::other(text)),
                    ));
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, path: &Path) -> Result<(), WorkspaceError> {
        match self.try_add(path) {
            Err(error) if vanished(&error) => {
                self.packed.left_out += 1;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(self.gone()),
            result => result.map_err(|error| failed("read", path, error)),
        }
    }

    fn try_add(&mut self, path: &Path) -> io::Result<()> {
        let metadata = path.symlink_metadata()?;
        let name = path.strip_prefix(self.root).unwrap_or(path);
        let kind = metadata.file_type();
        if kind.is_dir() {
            let mut header = header(&metadata, EntryType::Directory, 0);
            self.tar.append_data(&mut header, name, io::empty())
        } else if kind.is_symlink() {
            let target = path.read_link()?;
            let mut header = header(&metadata, EntryType::Symlink, 0);
            self.packed.files += 1;
            self.tar.append_link(&mut header, name, target)
        } else if kind.is_file() {
            // It may have become a link or a pipe since then.
            let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
            let flags = i32::try_from(flags.bits()).unwrap_or_default();
            let file = OpenOptions::new()
                .read(true)
                .custom_flags(flags)
                .open(path)?;
            let metadata = file.metadata()?;
            if !metadata.is_file() {
                return Err(io::ErrorKind::NotFound.into());
            }
            self.file(name, &metadata, file)
        } else {
            self.packed.left_out += 1;
            Ok(())
        }
    }

    fn file(&mut self, name: &Path, metadata: &Metadata, file: File) -> io::Result<()> {
        let size = metadata.len();
        let mut content = Steady {
            file,
            left: size,
            short: false,
        };
        let mut header = header(metadata, EntryType::Regular, size);
        self.tar.append_data(&mut header, name, &mut content)?;
        let grown = !content.short && content.file.read(&mut [0])? > 0;
        self.packed.unsteady += u64::from(content.short || grown);
        self.packed.files += 1;
        self.packed.bytes += size;
        Ok(())
    }

    fn finish(mut self) -> Result<Packed, WorkspaceError> {
        let written = self.tar.finish().and_then(|()| {
            use std::io::Write as _;
            self.tar.get_mut().flush()
        });
        written.map_err(|_| self.gone())?;
        Ok(self.packed)
    }

    fn gone(&self) -> WorkspaceError {
        WorkspaceError::Gone {
            root: self.root.to_owned(),
        }
    }
}

fn failed(doing: &'static str, path: &Path, source: io::Error) -> WorkspaceError {
    let path = path.to_owned();
    WorkspaceError::Io {
        doing,
        path,
        source,
    }
}

/// Exactly as many bytes as were announced: cut when the file has more, zeros when it has fewer.
struct Steady {
    file: File,
    left: u64,
    short: bool,
}

impl Read for Steady {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let buffer = &mut buffer[..most];
        let mut read = if self.short {
            0
        } else {
            self.file.read(buffer)?
        };
        if read == 0 {
            self.short |= most > 0;
            buffer.fill(0);
            read = most;
        }
        self.left -= read as u64;
        Ok(read)
    }
}

/// Owner and group are left to whoever unpacks.
fn header(metadata: &Metadata, kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(metadata.permissions().mode() & 0o7777);
    header.set_mtime(metadata.mtime().try_into().unwrap_or(0));
    header.set_size(size);
    header
}

fn vanished(error: &io::Error) -> bool {
    // ELOOP: a file has become a link since it was looked at.
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Scratch, listing, scratch, unpack};
    use super::*;
    use tokio::sync::mpsc::channel;

    async fn copy(own: &Scratch, git_folder: GitFolder) -> (Packed, Scratch) {
        let repository = crate::workspace::discover(&own.root).await.unwrap();
        let (to, into) = (scratch("to"), channel(2));
        let (packed, unpacked) = tokio::join!(
            pack(&repository, git_folder, into.0),
            unpack(into.1, to.root.clone())
        );
        unpacked.unwrap();
        (packed.unwrap(), to)
    }

    #[tokio::test]
    async fn what_is_ignored_stays_here_and_what_is_tracked_or_new_goes() {
        let own = scratch("from");
        own.init();
        own.write(".gitignore", "*.log\nbuild/\n");
        own.write("tracked.log", "tracked although ignored");
        own.git(&["add", "-f", "tracked.log"]);
        own.write(".github/workflows/ci.yml", "on: push");
        own.commit("First");
        own.write("debug.log", "");
        own.write("build/out", "");
        own.write(".git/info/exclude", "secret\n");
        own.write("secret", "");
        own.write("sub/new.txt", "new");
        own.write("sub/.gitignore", "gone\n");
        own.write("sub/gone", "");
        let (packed, to) = copy(&own, GitFolder::LeftOut).await;
        let expected = [
            ".github/workflows/ci.yml",
            ".gitignore",
            "sub/.gitignore",
            "sub/new.txt",
            "tracked.log",
        ];
        assert_eq!(listing(&to.root), expected);
        assert_eq!(packed.files, 5);
    }

    #[tokio::test]
    async fn links_stay_links_and_modes_stay() {
        let own = scratch("from");
        own.write("run.sh", "#!/bin/sh");
        std::fs::set_permissions(
            own.root.join("run.sh"),
            std::fs::Permissions::from_mode(0o750),
        )
        .unwrap();
        std::os::unix::fs::symlink("/etc/passwd", own.root.join("outside")).unwrap();
        std::fs::create_dir(own.root.join("empty")).unwrap();
        let long = format!("{}/{}", "d".repeat(150), "f".repeat(150));
        own.write(&long, "long");
        let socket = std::os::unix::net::UnixListener::bind(own.root.join("socket")).unwrap();
        let (packed, to) = copy(&own, GitFolder::LeftOut).await;
        drop(socket);
        let mode = to
            .root
            .join("run.sh")
            .metadata()
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o750);
        assert_eq!(
            to.root.join("outside").read_link().unwrap(),
            Path::new("/etc/passwd")
        );
        assert!(to.root.join("empty").is_dir());
        assert_eq!(std::fs::read(to.root.join(long)).unwrap(), b"long");
        assert_eq!((packed.files, packed.left_out), (3, 1));
    }

    #[tokio::test]
    async fn the_git_folder_comes_along_when_asked_for() {
        let own = scratch("from");
        own.init();
        own.write("a", "a");
        own.commit("First");
        let (_, to) = copy(&own, GitFolder::Included).await;
        to.git(&["diff", "--exit-code", "HEAD"]);
    }

    #[tokio::test]
    async fn a_large_file_goes_in_pieces_and_nobody_waits_for_a_taker_that_left() {
        let own = scratch("from");
        own.write("large", &"x".repeat(3 << 20));
        let (packed, to) = copy(&own, GitFolder::LeftOut).await;
        assert_eq!(packed.bytes, 3 << 20);
        assert_eq!(to.root.join("large").metadata().unwrap().len(), 3 << 20);

        let repository = crate::workspace::discover(&own.root).await.unwrap();
        let (pieces, taker) = channel(1);
        drop(taker);
        let error = pack(&repository, GitFolder::LeftOut, pieces)
            .await
            .unwrap_err();
        assert!(matches!(error, WorkspaceError::Gone { .. }), "{error}");
    }

    #[test]
    fn a_file_that_shrinks_is_filled_up() {
        let own = scratch("from");
        own.write("short", "abc");
        let file = File::open(own.root.join("short")).unwrap();
        let mut content = Steady {
            file,
            left: 5,
            short: false,
        };
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes).unwrap();
        assert_eq!((bytes.as_slice(), content.short), (&b"abc\0\0"[..], true));
    }
}
