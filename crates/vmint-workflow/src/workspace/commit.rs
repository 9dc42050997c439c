//! Files of a commit.
//!
//! Listed by `git ls-tree` and read through one `git cat-file --batch`. Not by `git archive`, which leaves out what
//! `.gitattributes` marks `export-ignore` and rewrites `export-subst`: a checkout does neither. Contents are as they are
//! stored: no filter, no change of line ends.

use super::stream::{PIECE, Packed, Pieces, close};
use super::{Repository, WorkspaceError, git};
use bytes::Bytes;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tar::{Builder, EntryType, Header};
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader,
};

/// Git has the next piece of a file within this time.
const NEXT: Duration = Duration::from_secs(60);
/// A symbolic link names at most this much.
const LONGEST_LINK: u64 = 4096;

/// Packs the files of the commit that a repository is [at](Repository::at). Paths are relative to its folder.
pub async fn pack(repository: &Repository, pieces: Pieces) -> Result<Packed, WorkspaceError> {
    let root = &repository.root;
    close(&pieces, root, stream(repository, &pieces).await).await
}

/// A file of a commit.
struct Entry {
    mode: u32,
    object: String,
    path: PathBuf,
}

const LINK: u32 = 0o120_000;
const SUBMODULE: u32 = 0o160_000;

async fn stream(repository: &Repository, pieces: &Pieces) -> Result<Packed, WorkspaceError> {
    let root = &repository.root;
    let head = repository.head.as_ref();
    let head = head.ok_or_else(|| WorkspaceError::NoCommit { root: root.clone() })?;
    let list = ["ls-tree", "-r", "-z", "--full-tree", &head.commit.sha];
    let list = git::run(root, git::Work::Question, &list).await?;
    let lines = list
        .split(|byte| *byte == 0)
        .filter(|line| !line.is_empty());
    let entries: Vec<Entry> = lines
        .map(|line| Entry::parse(line).ok_or_else(|| unexpected(root, "a file of a tree", line)))
        .collect::<Result<_, _>>()?;

    let args = ["cat-file", "--batch"];
    let mut command = git::command(root, &args);
    command
        .stdin(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null());
    let mut child = command.spawn().map_err(git::GitError::Start)?;
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(unexpected(root, "its pipes", b""));
    };
    let ask = async {
        for entry in entries.iter().filter(|entry| entry.mode != SUBMODULE) {
            stdin
                .write_all(format!("{}\n", entry.object).as_bytes())
                .await?;
        }
        drop(stdin);
        Ok::<_, io::Error>(())
    };
    let mut packer = Packer {
        root,
        pieces,
        tar: Builder::new(Vec::new()),
        packed: Packed::default(),
        now: std::time::SystemTime::UNIX_EPOCH
            .elapsed()
            .map_or(0, |since| since.as_secs()),
    };
    let answer = async {
        let mut stdout = BufReader::with_capacity(PIECE, stdout);
        for entry in &entries {
            packer.entry(entry, &mut stdout).await?;
        }
        packer.finish().await
    };
    // Git stops taking questions only when it failed, which the answers tell better.
    let (_, packed) = tokio::join!(ask, answer);
    packed
}

impl Entry {
    /// `100644 blob HASH<tab>path`.
    fn parse(line: &[u8]) -> Option<Self> {
        let tab = line.iter().position(|byte| *byte == b'\t')?;
        let mut fields = std::str::from_utf8(&line[..tab]).ok()?.split(' ');
        let mode = u32::from_str_radix(fields.next()?, 8).ok()?;
        let object = fields.nth(1)?.to_owned();
        let path = std::ffi::OsString::from_vec(line[tab + 1..].to_vec()).into();
        Some(Self { mode, object, path })
    }
}

struct Packer<'a> {
    root: &'a Path,
    pieces: &'a Pieces,
    /// Writes the headers to where the contents go.
    tar: Builder<Vec<u8>>,
    packed: Packed,
    now: u64,
}

impl Packer<'_> {
    async fn entry(
        &mut self,
        entry: &Entry,
        from: &mut BufReader<impl AsyncRead + Unpin>,
    ) -> Result<(), WorkspaceError> {
        if entry.mode == SUBMODULE {
            return self.header(entry, EntryType::Directory, 0o755, 0);
        }
        let size = self.size(entry, from).await?;
        self.packed.files += 1;
        self.packed.bytes += size;
        if entry.mode == LINK {
            let mut target = vec![0; size.min(LONGEST_LINK + 1) as usize];
            self.in_time(from.read_exact(&mut target)).await?;
            if size > LONGEST_LINK {
                return Err(unexpected(self.root, "a symbolic link", &target));
            }
            let mut header = self.new_header(EntryType::Symlink, 0o777, 0);
            let target = PathBuf::from(std::ffi::OsString::from_vec(target));
            let appended = self.tar.append_link(&mut header, &entry.path, target);
            appended.map_err(|error| self.unpackable(entry, error))?;
        } else {
            let mode = if entry.mode & 0o111 == 0 {
                0o644
            } else {
                0o755
            };
            self.header(entry, EntryType::Regular, mode, size)?;
            let mut left = size;
            while left > 0 {
                let most = left.min(PIECE as u64) as usize;
                let start = self.tar.get_ref().len();
                self.tar.get_mut().resize(start + most, 0);
                let mut piece = std::mem::take(self.tar.get_mut());
                self.in_time(from.read_exact(&mut piece[start..])).await?;
                *self.tar.get_mut() = piece;
                left -= most as u64;
                self.hand_over(PIECE).await?;
            }
            let padding = (512 - size % 512) % 512;
            let padded = self.tar.get_ref().len() + padding as usize;
            self.tar.get_mut().resize(padded, 0);
        }
        let mut end = [0];
        self.in_time(from.read_exact(&mut end)).await?;
        self.hand_over(PIECE).await
    }

    /// `HASH blob SIZE`, the line before each content.
    async fn size(
        &self,
        entry: &Entry,
        from: &mut BufReader<impl AsyncRead + Unpin>,
    ) -> Result<u64, WorkspaceError> {
        let mut line = Vec::new();
        self.in_time(from.take(1024).read_until(b'\n', &mut line))
            .await?;
        let text = String::from_utf8_lossy(&line);
        let size = text.trim_end().strip_prefix(&*entry.object);
        let size = size.and_then(|rest| rest.strip_prefix(" blob "));
        let size = size.and_then(|size| size.parse().ok());
        size.ok_or_else(|| unexpected(self.root, "the content of a file", &line))
    }

    async fn in_time<T>(
        &self,
        read: impl Future<Output = io::Result<T>>,
    ) -> Result<T, WorkspaceError> {
        let late = |_| git::GitError::Late {
            what: "cat-file --batch".to_owned(),
            root: self.root.to_owned(),
            limit: NEXT,
        };
        let read = tokio::time::timeout(NEXT, read).await.map_err(late)?;
        Ok(read.map_err(git::GitError::Read)?)
    }

    fn new_header(&self, kind: EntryType, mode: u32, size: u64) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(self.now);
        header.set_size(size);
        header
    }

    fn header(
        &mut self,
        entry: &Entry,
        kind: EntryType,
        mode: u32,
        size: u64,
    ) -> Result<(), WorkspaceError> {
        let mut header = self.new_header(kind, mode, size);
        let appended = self.tar.append_data(&mut header, &entry.path, io::empty());
        appended.map_err(|error| self.unpackable(entry, error))
    }

    fn unpackable(&self, entry: &Entry, source: io::Error) -> WorkspaceError {
        WorkspaceError::Io {
            doing: "pack",
            path: self.root.join(&entry.path),
            source,
        }
    }

    /// Sends what has gathered once it is this much.
    async fn hand_over(&mut self, least: usize) -> Result<(), WorkspaceError> {
        if self.tar.get_ref().len() < least {
            return Ok(());
        }
        let piece = Bytes::from(std::mem::take(self.tar.get_mut()));
        let gone = |_| WorkspaceError::Gone {
            root: self.root.to_owned(),
        };
        self.pieces.send(Ok(piece)).await.map_err(gone)
    }

    async fn finish(mut self) -> Result<Packed, WorkspaceError> {
        // Two empty blocks are the end of a tar.
        self.tar.get_mut().extend_from_slice(&[0; 1024]);
        self.hand_over(1).await?;
        Ok(self.packed)
    }
}

fn unexpected(root: &Path, expected: &'static str, seen: &[u8]) -> WorkspaceError {
    WorkspaceError::Answer {
        root: root.to_owned(),
        expected,
        seen: match String::from_utf8_lossy(&seen[..seen.len().min(200)]).trim_end() {
            "" => "nothing".to_owned(),
            text => format!("`{text}`"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{listing, scratch, unpack};
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;
    use tokio::sync::mpsc::channel;

    #[tokio::test]
    async fn a_commit_comes_as_it_was_committed() {
        let own = scratch("from");
        own.init();
        own.write(".gitattributes", "secret.txt export-ignore\n");
        own.write("secret.txt", "a checkout has it");
        own.write("run.sh", "#!/bin/sh");
        std::fs::set_permissions(
            own.root.join("run.sh"),
            std::fs::Permissions::from_mode(0o755),
        )
        .unwrap();
        std::os::unix::fs::symlink("run.sh", own.root.join("link")).unwrap();
        let large = "0123456789".repeat(60_000);
        own.write("large", &large);
        own.write("empty", "");
        own.commit("First");
        own.write("run.sh", "changed since");
        own.write("new", "");
        own.commit("Second");
        let newest = crate::workspace::discover(&own.root).await.unwrap();
        let repository = crate::workspace::at(&newest, "HEAD~1").await.unwrap();
        let (to, (pieces, taker)) = (scratch("to"), channel(2));
        let (packed, unpacked) =
            tokio::join!(pack(&repository, pieces), unpack(taker, to.root.clone()));
        unpacked.unwrap();
        assert_eq!(
            listing(&to.root),
            [
                ".gitattributes",
                "empty",
                "large",
                "link",
                "run.sh",
                "secret.txt"
            ]
        );
        let read = |name| std::fs::read_to_string(to.root.join(name)).unwrap();
        assert_eq!(
            (read("run.sh").as_str(), read("large")),
            ("#!/bin/sh", large)
        );
        assert_eq!(
            to.root.join("link").read_link().unwrap(),
            Path::new("run.sh")
        );
        let mode = to
            .root
            .join("run.sh")
            .metadata()
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o755);
        assert_eq!(packed.unwrap().files, 6);
    }

    #[tokio::test]
    async fn an_object_that_is_missing_is_an_error_for_both_ends() {
        let own = scratch("from");
        own.init();
        own.write("a", "a");
        own.commit("First");
        let repository = crate::workspace::discover(&own.root).await.unwrap();
        // The blob of "a".
        std::fs::remove_file(
            own.root
                .join(".git/objects/2e/65efe2a145dda7ee51d1741299f848e5bf752e"),
        )
        .unwrap();
        let (pieces, taker) = channel(2);
        let to = scratch("to");
        let (packed, unpacked) =
            tokio::join!(pack(&repository, pieces), unpack(taker, to.root.clone()));
        let error = packed.unwrap_err().to_string();
        assert!(
            error.ends_with("where the content of a file was expected"),
            "{error}"
        );
        assert!(unpacked.is_err());
    }
}
