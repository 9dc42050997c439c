//! Reading a log while it is written, and its end.

use super::{begins, note, old};
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How much of a log's end [`tail`] shows.
const TAIL: usize = 2048;

/// Follows a log from part to part, also to another log that takes its place.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    part: Option<Part>,
}

#[derive(Debug)]
struct Part {
    file: File,
    /// Where the part begins in the log, and the length of its note.
    start: u64,
    note: u64,
    /// Where to read next in the file.
    at: u64,
}

impl Part {
    fn open(path: &Path) -> io::Result<Option<Self>> {
        let file = match File::open(path) {
            Ok(file) => file,
            // Nothing was said yet, or it has gone with its machine; then what was open is read to its end.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let (start, note) = begins(&file)?;
        Ok(Some(Self {
            file,
            start,
            note,
            at: 0,
        }))
    }

    /// How far the log was read.
    fn position(&self) -> u64 {
        self.start + self.at.saturating_sub(self.note)
    }

    fn is_same_file(&self, other: &Self) -> bool {
        match (self.file.metadata(), other.file.metadata()) {
            (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
            _ => false,
        }
    }

    fn read<E: From<io::Error>>(
        &mut self,
        out: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<bool, E> {
        let (mut buffer, mut any) = (vec![0; 64 << 10], false);
        loop {
            match self.file.read_at(&mut buffer, self.at)? {
                0 => return Ok(any),
                n => {
                    self.at += n as u64;
                    out(&buffer[..n])?;
                }
            }
            any = true;
        }
    }
}

impl Reader {
    /// A reader of the log at `path`, which need not be there yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path, part: None }
    }

    /// Hands on what is new; whether there was anything.
    pub fn read<E: From<io::Error>>(
        &mut self,
        mut out: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<bool, E> {
        let mut any = false;
        // Each time round another part; a log that turns faster than this is read on at the next call.
        for _ in 0..8 {
            let now = Part::open(&self.path)?;
            if let Some(part) = &mut self.part {
                any |= part.read(&mut out)?;
            }
            let Some(now) = now else {
                return Ok(any);
            };
            if self.part.as_ref().is_some_and(|p| p.is_same_file(&now)) {
                return Ok(any);
            }
            let before = Part::open(&old(&self.path))?;
            self.part = Some(self.next(before, now));
        }
        Ok(any)
    }

    /// The part to read next: the one that goes on where the reading is, or as soon after as there is one.
    fn next(&self, before: Option<Part>, now: Part) -> Part {
        let position = self.part.as_ref().map(Part::position);
        // A log that begins before the end of what was read is another one.
        let position = position.filter(|p| now.start >= *p).unwrap_or(0);
        let is_next = |part: &Part| {
            let read = self.part.as_ref().is_some_and(|p| p.is_same_file(part));
            !read && part.start >= position && part.start < now.start
        };
        let mut next = before.filter(is_next).unwrap_or(now);
        if next.start == position {
            next.at = next.note;
        }
        next
    }
}

/// All that is kept of a log whose sayer lives, up to what was said before this call: the log is written a moment later
/// ([`keep`](super::keep)), so it is read until it does not grow any more; no longer than a quarter of a second.
pub fn read_settled(path: &Path) -> io::Result<Vec<u8>> {
    const LONGEST: Duration = Duration::from_millis(250);
    let began = Instant::now();
    let mut known = read(path)?;
    loop {
        std::thread::sleep(super::keeper::GATHER * 4);
        let now = read(path)?;
        if now == known || began.elapsed() > LONGEST {
            return Ok(now);
        }
        known = now;
    }
}

/// All of a log that is kept.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    Reader::new(path.to_owned()).read(|piece| {
        bytes.extend_from_slice(piece);
        Ok::<_, io::Error>(())
    })?;
    Ok(bytes)
}

/// The last lines of a log, at most 2 KiB.
pub fn tail(path: &Path) -> String {
    last(path, TAIL)
}

/// The last lines of a log, at most so many bytes.
pub fn last(path: &Path, most: usize) -> String {
    let end = |path: &Path, most: usize| -> io::Result<(Vec<u8>, u64)> {
        let file = File::open(path)?;
        let (start, note) = begins(&file)?;
        let len = file.metadata()?.len();
        let from = len.saturating_sub(most as u64).max(note);
        let mut bytes = vec![0; len.saturating_sub(from) as usize];
        let n = file.read_at(&mut bytes, from)?;
        bytes.truncate(n);
        Ok((bytes, if from == note { start } else { 0 }))
    };
    let Ok((now, start)) = end(path, most) else {
        return String::new();
    };
    let mut bytes = Vec::new();
    // The part has just begun: the one before has the rest.
    if start > 0 && now.len() < most {
        match end(&old(path), most - now.len()) {
            Ok((before, start)) => {
                bytes.extend_from_slice(note(start).as_bytes());
                bytes.extend_from_slice(&before);
            }
            Err(_) => bytes.extend_from_slice(note(start).as_bytes()),
        }
    }
    bytes.extend_from_slice(&now);
    String::from_utf8_lossy(&bytes).trim().to_owned()
}
