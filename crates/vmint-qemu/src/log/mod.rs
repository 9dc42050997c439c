//! Logs that somebody else fills: a guest its console, QEMU its standard error. Bounded, whatever they are told.
//!
//! ```text
//! NAME.old  the part before; absent until there is one      one log: the bytes of NAME.old, then those of NAME
//! NAME      what is written now                             each at most a part long
//! ```
//!
//! When a part is full it becomes the old one, the old one is dropped, and the new part begins with a *note* of how many
//! bytes of the log came before it. So a reader that saw the part before it leaves the note out, and one that did not shows
//! it. [`Log`] writes parts, [`Reader`] follows them, [`keep`] fills logs from pipes in a thread of its own.
//!
//! *Why parts and not one file written in a circle.* A reader can open a part and go on reading it whatever happens to the
//! log meanwhile; nothing that it has read is ever overwritten.

mod keeper;
mod reader;
mod words;

pub use keeper::{Keeper, Kept, keep, pipe};
pub use reader::{Reader, last, read, read_settled, tail};
pub use words::Words;

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Bytes of a console that are kept: two parts.
pub const CONSOLE: u64 = 4 << 20;
/// Bytes of what programs say that are kept.
pub const PROGRAM: u64 = 1 << 20;

const BEFORE: &str = "[vmint: the first ";
const AFTER: &str = " bytes of this log were dropped]\n";

/// The note in front of a part that begins at byte `start` of its log.
fn note(start: u64) -> String {
    if start == 0 {
        return String::new();
    }
    format!("{BEFORE}{start}{AFTER}")
}

/// Where the part in `file` begins, and how long its note is.
fn begins(file: &File) -> io::Result<(u64, u64)> {
    let mut head = [0; BEFORE.len() + 20 + AFTER.len()];
    let n = file.read_at(&mut head, 0)?;
    let number = head[..n].strip_prefix(BEFORE.as_bytes()).and_then(|rest| {
        let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        let after = rest[digits..].starts_with(AFTER.as_bytes());
        let number = std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()?;
        after.then_some(number)
    });
    let start = number.unwrap_or(0);
    Ok((start, note(start).len() as u64))
}

/// The name of the part before.
fn old(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".old");
    name.into()
}

/// The writing end of a log.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    /// Bytes in one part.
    part: u64,
    file: File,
    /// Length of the file, its note included.
    len: u64,
    /// Where the part begins in the log, less its note.
    start: u64,
    note: u64,
    /// Where else its parts are linked.
    shown: Option<PathBuf>,
    /// Bytes that could not be written.
    lost: u64,
    /// Who listens for last words.
    words: Option<Words>,
}

impl Log {
    /// Goes on with the log at `path`, or begins it. `size` bytes of it are kept at most.
    pub fn open(path: &Path, size: u64) -> io::Result<Self> {
        let file = File::options()
            .create(true)
            .append(true)
            .read(true)
            .open(path)?;
        let len = file.metadata()?.len();
        let (start, note) = begins(&file)?;
        Ok(Self {
            path: path.to_owned(),
            part: (size / 2).max(1),
            file,
            len,
            start,
            note,
            shown: None,
            lost: 0,
            words: None,
        })
    }

    /// From now on, listens for the words with which a guest ends.
    #[must_use]
    pub fn listening(self) -> Self {
        let words = Some(Words::default());
        Self { words, ..self }
    }

    /// Those that were heard since.
    pub fn last_words(&self) -> Option<String> {
        self.words.as_ref().and_then(Words::last)
    }

    /// The part that is written now.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Appends bytes, of which the last are kept. What cannot be written is lost, and that is noted as soon as something
    /// can be: whoever fills the log is not to be held up by a full disk.
    pub fn append(&mut self, mut bytes: &[u8]) {
        if let Some(words) = &mut self.words {
            words.hear(bytes);
        }
        while !bytes.is_empty() {
            if self.len - self.note >= self.part
                && let Err(e) = self.turn()
            {
                tracing::warn!("{} cannot be continued: {e}", self.path.display());
                self.lost += bytes.len() as u64;
                return;
            }
            if self.lost > 0 {
                let told = format!("[vmint: {} bytes could not be written here]\n", self.lost);
                if self.file.write_all(told.as_bytes()).is_ok() {
                    self.len += told.len() as u64;
                    self.lost = 0;
                }
            }
            let room = self.part.saturating_sub(self.len - self.note).max(1);
            let (now, rest) = bytes.split_at(bytes.len().min(room as usize));
            match self.file.write(now) {
                Ok(n) if n > 0 => {
                    self.len += n as u64;
                    bytes = &bytes[n..];
                }
                _ => {
                    self.lost += (now.len() + rest.len()) as u64;
                    return;
                }
            }
        }
    }

    /// Begins another part.
    fn turn(&mut self) -> io::Result<()> {
        let start = self.start + self.len - self.note;
        let note = note(start);
        let new = self.path.with_extension("new");
        let mut file = File::options()
            .create(true)
            .truncate(true)
            .write(true)
            .open(&new)?;
        file.write_all(note.as_bytes())?;
        // Only ever appended to, like the first.
        let file = File::options().append(true).read(true).open(&new)?;
        let shown = self.shown.take().filter(|shown| self.is_shown_at(shown));
        std::fs::rename(&self.path, old(&self.path))?;
        std::fs::rename(&new, &self.path)?;
        self.file = file;
        (self.start, self.note, self.len) = (start, note.len() as u64, note.len() as u64);
        if let Some(shown) = shown {
            self.show_at(&shown)?;
        }
        Ok(())
    }

    fn is_shown_at(&self, shown: &Path) -> bool {
        let (ours, there) = (self.file.metadata(), std::fs::symlink_metadata(shown));
        matches!((ours, there), (Ok(a), Ok(b)) if (a.dev(), a.ino()) == (b.dev(), b.ino()))
    }

    /// Links the log at `shown` too, in the place of what is there, and keeps doing so. Links, so that no path changes under
    /// anybody.
    pub fn show_at(&mut self, shown: &Path) -> io::Result<()> {
        if self.path == shown {
            return Ok(());
        }
        let before = old(&self.path);
        if before.exists() {
            link_over(&before, &old(shown))?;
        } else {
            remove_if_there(&old(shown))?;
        }
        link_over(&self.path, shown)?;
        self.shown = Some(shown.to_owned());
        Ok(())
    }

    /// Links it nowhere any more; the links that there are stay.
    pub fn show_no_more(&mut self) {
        self.shown = None;
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.append(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn link_over(from: &Path, to: &Path) -> io::Result<()> {
    let new = to.with_extension("link");
    remove_if_there(&new)?;
    std::fs::hard_link(from, &new)?;
    std::fs::rename(new, to)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kept(path: &Path) -> u64 {
        let len = |path: &Path| std::fs::metadata(path).map_or(0, |m| m.len());
        len(path) + len(&old(path))
    }

    /// What the log's byte number `n` is.
    fn byte(n: u64) -> u8 {
        b'a' + (n % 23) as u8
    }

    fn bytes(from: u64, n: usize) -> Vec<u8> {
        (from..from + n as u64).map(byte).collect()
    }

    proptest! {
        /// However it is written and followed, the log stays within its size; a reader sees each byte once and in order,
        /// or a note of how many it missed.
        #[test]
        fn a_log_is_bounded_and_its_reader_misses_nothing_unsaid(
            steps in proptest::collection::vec((0usize..400, 0u8..4), 1..60),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("console.log");
            let mut log = Log::open(&path, 1000).unwrap();
            let (mut written, mut reader, mut seen) = (0u64, Reader::new(path.clone()), Vec::new());
            for (n, what) in steps {
                log.append(&bytes(written, n));
                written += n as u64;
                let slack = 2 * (BEFORE.len() + 20 + AFTER.len()) as u64;
                prop_assert!(kept(&path) <= 1000 + slack);
                match what {
                    0 => drop(reader.read(|b| { seen.extend_from_slice(b); Ok::<_, io::Error>(()) }).unwrap()),
                    1 => log = Log::open(&path, 1000).unwrap(),
                    _ => {}
                }
            }
            reader.read(|b| { seen.extend_from_slice(b); Ok::<_, io::Error>(()) }).unwrap();
            // Taken apart: notes say where to go on.
            let (mut at, mut rest) = (0u64, &seen[..]);
            while !rest.is_empty() {
                if let Some(after) = rest.strip_prefix(BEFORE.as_bytes()) {
                    let digits = after.iter().take_while(|b| b.is_ascii_digit()).count();
                    let start: u64 = std::str::from_utf8(&after[..digits]).unwrap().parse().unwrap();
                    prop_assert!(start > at, "a note of {start} at {at}");
                    at = start;
                    rest = &after[digits + AFTER.len()..];
                } else {
                    prop_assert_eq!(rest[0], byte(at), "at {}", at);
                    at += 1;
                    rest = &rest[1..];
                }
            }
            prop_assert_eq!(at, written);
        }
    }

    #[test]
    fn what_is_shown_elsewhere_is_so_after_the_next_part_too_unless_another_log_is_shown_there() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let mut log = Log::open(&at("a.log"), 20).unwrap();
        log.show_at(&at("shown.log")).unwrap();
        log.append(b"0123456789abcdefghij0123");
        let text = String::from_utf8(read(&at("shown.log")).unwrap()).unwrap();
        let expected = format!("{}abcdefghij0123", note(10));
        assert_eq!(text, expected);
        let mut other = Log::open(&at("b.log"), 20).unwrap();
        other.append(b"other");
        other.show_at(&at("shown.log")).unwrap();
        log.append(b"0123456789abcdefghij");
        assert_eq!(read(&at("shown.log")).unwrap(), b"other");
    }

    #[test]
    fn the_end_of_a_log_is_found_across_its_parts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("console.log");
        assert_eq!(tail(&path), "");
        let mut log = Log::open(&path, 20).unwrap();
        log.append(b"first\nlast words of it\n");
        assert_eq!(tail(&path), format!("{} words of it", note(10)));
    }
}
