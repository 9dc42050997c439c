//! Files with holes: which stretches of a file have content.
//!
//! GNU tar has four ways to say it, and all of them are read: a map in the header and in blocks behind it (type `S`), pairs
//! of pax records (0.0), one record (0.1), and a map in front of the content (1.0), which alone is written.

use super::{ArchiveError, BLOCK, number};

/// Most pieces of one file. A piece takes 16 bytes.
pub const MAX_SEGMENTS: usize = 1 << 16;

/// A stretch of a file that has content. Between two of them is a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it begins.
    pub offset: u64,
    /// Its length.
    pub len: u64,
}

/// Bytes of content of a file of these pieces.
pub fn stored(segments: &[Segment]) -> u64 {
    segments.iter().map(|segment| segment.len).sum()
}

/// Adds a piece to a map that must not grow without end.
pub(super) fn push(segments: &mut Vec<Segment>, segment: Segment) -> Result<(), ArchiveError> {
    if segments.len() >= MAX_SEGMENTS {
        return Err(ArchiveError::Pieces);
    }
    segments.push(segment);
    Ok(())
}

/// Pieces in order, none over another, all within the file, and together as long as what is stored.
pub(super) fn check(segments: &[Segment], size: u64, content: u64) -> Result<(), ArchiveError> {
    let mut end = 0u64;
    let mut sum = 0u64;
    for segment in segments {
        let after = segment.offset.checked_add(segment.len);
        match after {
            Some(after) if segment.offset >= end && after <= size => end = after,
            _ => return Err(ArchiveError::Sparse),
        }
        // No overflow: the pieces lie beside each other in the file.
        sum += segment.len;
    }
    if sum == content {
        Ok(())
    } else {
        Err(ArchiveError::Sparse)
    }
}

/// Reads the pieces that a header of type `S`, or a block behind it, has from `from`, at most `most`. Those that are not
/// used are zeros.
pub(super) fn old_pieces(
    block: &[u8; BLOCK],
    from: usize,
    most: usize,
    segments: &mut Vec<Segment>,
) -> Result<(), ArchiveError> {
    for piece in block[from..].chunks_exact(24).take(most) {
        if piece[12..].iter().all(|&b| b == 0 || b == b' ') {
            break;
        }
        let segment = Segment {
            offset: number::number(&piece[..12], "offset")?,
            len: number::number(&piece[12..], "numbytes")?,
        };
        push(segments, segment)?;
    }
    Ok(())
}

/// A map of format 1.0 as it arrives: decimal numbers, one a line, the first of them how many pairs follow.
#[derive(Debug, Default)]
pub(super) struct Map {
    number: Option<u64>,
    /// Numbers to come, once the first was read.
    left: Option<usize>,
    offset: Option<u64>,
}

impl Map {
    /// Takes bytes until the map is complete. Whether it is.
    pub(super) fn take(
        &mut self,
        byte: u8,
        segments: &mut Vec<Segment>,
    ) -> Result<bool, ArchiveError> {
        match byte {
            b'0'..=b'9' => {
                let number = self.number.unwrap_or(0).checked_mul(10);
                let number = number.and_then(|n| n.checked_add(u64::from(byte - b'0')));
                self.number = Some(number.ok_or(ArchiveError::Sparse)?);
                Ok(false)
            }
            b'\n' => {
                let number = self.number.take().ok_or(ArchiveError::Sparse)?;
                let Some(left) = &mut self.left else {
                    if number > MAX_SEGMENTS as u64 {
                        return Err(ArchiveError::Pieces);
                    }
                    self.left = Some(2 * number as usize);
                    return Ok(number == 0);
                };
                *left -= 1;
                match self.offset.take() {
                    None => self.offset = Some(number),
                    Some(offset) => push(
                        segments,
                        Segment {
                            offset,
                            len: number,
                        },
                    )?,
                }
                Ok(self.left == Some(0))
            }
            _ => Err(ArchiveError::Sparse),
        }
    }
}

/// Where in a file with holes its content goes.
#[derive(Debug)]
pub(super) struct Layout {
    segments: std::vec::IntoIter<Segment>,
    /// The piece that is under way: where it begins or goes on, and what of it is to come.
    current: Option<Segment>,
    /// What of the file is known.
    at: u64,
    size: u64,
}

impl Layout {
    pub(super) fn new(segments: Vec<Segment>, size: u64) -> Self {
        Self {
            segments: segments.into_iter(),
            current: None,
            at: 0,
            size,
        }
    }

    /// The hole that comes next, if one does.
    pub(super) fn hole(&mut self) -> Option<u64> {
        if self.current.is_none() {
            self.current = self.segments.find(|segment| segment.len > 0);
        }
        let end = self.current.map_or(self.size, |segment| segment.offset);
        let len = end - self.at;
        self.at = end;
        (len > 0).then_some(len)
    }

    /// How much content may follow here.
    pub(super) fn room(&self) -> u64 {
        self.current.map_or(0, |segment| segment.len)
    }

    /// So much of it came.
    pub(super) fn passed(&mut self, n: u64) {
        if let Some(segment) = &mut self.current {
            self.at += n;
            segment.offset += n;
            segment.len -= n;
            if segment.len == 0 {
                self.current = None;
            }
        }
    }
}
