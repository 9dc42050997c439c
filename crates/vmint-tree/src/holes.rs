//! Which stretches of a file have content, as its file system tells.

use rustix::fs::{SeekFrom, Stat};
use rustix::io::Errno;
use std::os::fd::BorrowedFd;
use vmint_protocol::archive::{MAX_SEGMENTS, Segment};

/// A hole of less is sent as zeros: a map has its cost, and not every tar reads one.
const SMALLEST: u64 = 4096;

/// The pieces of a file that has holes; nothing for a file without, or where the file system does not tell. The file's
/// position is then at its beginning, as it was.
pub(crate) fn pieces(file: BorrowedFd<'_>, stat: &Stat) -> Result<Option<Vec<Segment>>, Errno> {
    let size = stat.st_size as u64;
    let takes = u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
    if takes >= size || size < SMALLEST {
        return Ok(None);
    }
    let found = all(file, size);
    rustix::fs::seek(file, SeekFrom::Start(0))?;
    found
}

fn all(file: BorrowedFd<'_>, size: u64) -> Result<Option<Vec<Segment>>, Errno> {
    let mut smallest = SMALLEST;
    let mut pieces: Vec<Segment> = Vec::new();
    let mut at = 0;
    while at < size {
        let begin = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(begin) => begin,
            // Nothing but a hole is left.
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(None),
            Err(errno) => return Err(errno),
        };
        if begin >= size {
            break;
        }
        let end = rustix::fs::seek(file, SeekFrom::Hole(begin))?.min(size);
        if end <= begin {
            // It is being changed.
            break;
        }
        match pieces.last_mut() {
            Some(last) if begin - (last.offset + last.len) < smallest => {
                last.len = end - last.offset;
            }
            // Before the first piece a hole counts from the file's beginning.
            None if begin < smallest => pieces.push(Segment {
                offset: 0,
                len: end,
            }),
            _ => pieces.push(Segment {
                offset: begin,
                len: end - begin,
            }),
        }
        at = end;
        if pieces.len() >= MAX_SEGMENTS - 1 {
            smallest = smallest.saturating_mul(2);
            join(&mut pieces, smallest);
        }
    }
    let has_holes = match pieces.last() {
        None => true,
        Some(last) => {
            pieces.len() > 1 || pieces[0].offset > 0 || size - (last.offset + last.len) >= SMALLEST
        }
    };
    Ok(has_holes.then_some(pieces))
}

/// Takes smaller holes for content.
fn join(pieces: &mut Vec<Segment>, smallest: u64) {
    pieces.dedup_by(|next, last| {
        let hole = next.offset - (last.offset + last.len);
        let joins = hole < smallest;
        if joins {
            last.len = next.offset + next.len - last.offset;
        }
        joins
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileExt;

    fn found(file: &File) -> Option<Vec<Segment>> {
        pieces(file.as_fd(), &rustix::fs::fstat(file).unwrap()).unwrap()
    }

    #[test]
    fn pieces_cover_what_was_written_and_nothing_of_large_holes() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(64 << 20).unwrap();
        assert_eq!(found(&file), Some(Vec::new()));
        file.write_at(b"here", 20 << 20).unwrap();
        file.write_at(b"and here", 40 << 20).unwrap();
        let pieces = found(&file).unwrap();
        for at in [20 << 20, 40 << 20] {
            let within = |s: &&Segment| s.offset <= at && s.offset + s.len >= at + 8;
            assert!(pieces.iter().any(|s| within(&s)), "{pieces:?}");
        }
        assert!(vmint_protocol::archive::stored(&pieces) < 1 << 20);
        let full = tempfile::tempfile().unwrap();
        full.write_at(&vec![7; 100_000], 0).unwrap();
        full.sync_all().unwrap();
        assert_eq!(found(&full), None);
    }

    #[test]
    fn small_holes_are_taken_for_content_where_there_are_too_many() {
        let piece = |offset, len| Segment { offset, len };
        let mut pieces = vec![piece(0, 10), piece(20, 10), piece(100, 5), piece(106, 1)];
        join(&mut pieces, 16);
        assert_eq!(pieces, [piece(0, 30), piece(100, 7)]);
    }
}
