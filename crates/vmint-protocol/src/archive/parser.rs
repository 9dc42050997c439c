//! An archive taken apart as it arrives.

use super::number::{check_sum, number, signed};
use super::pax::{Overrides, Sparse, Xattrs};
use super::sparse::{self, Layout, Map, Segment};
use super::write::padding;
use super::{
    ArchiveError, BLOCK, Entry, EntryKind, Item, MAX_EXTENSIONS, MAX_NAME, MAX_PAX, MAX_SIZE,
    foreign,
};

/// What a special entry's content is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Special {
    Pax,
    LongName,
    LongLink,
    Ignored,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Gathering a header block.
    Header,
    /// Passing an entry's content on.
    Content,
    /// Gathering, or skipping, a special entry's content: what is left, then the padding.
    Special(Special, u64, usize),
    /// Gathering a block with more of a sparse file's map, behind its header.
    MoreOfMap,
    /// Reading a sparse file's map in front of its content.
    Map,
    /// Skipping what fills a map up to a whole block, in front of the content.
    MapPadding(usize),
    /// Skipping padding.
    Padding(usize),
    /// One block of zeros was seen; a second one ends the archive.
    OneZero,
    Ended,
}

/// An entry's content as it is stored.
#[derive(Debug, Default)]
struct Stored {
    left: u64,
    padding: usize,
    /// Of a file with holes.
    layout: Option<Layout>,
}

/// A file with holes whose map is not complete.
#[derive(Debug)]
struct Mapped {
    entry: Entry,
    segments: Vec<Segment>,
    map: Map,
    /// Bytes of the map's own that were read, and of map and content together.
    read: u64,
    declared: u64,
}

/// Whether files with holes are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holes {
    Take,
    Refuse,
}

/// Takes an archive apart.
#[derive(Debug)]
pub struct Parser {
    state: State,
    buffer: Vec<u8>,
    overrides: Overrides,
    stored: Stored,
    mapped: Option<Box<Mapped>>,
    xattrs: Xattrs,
    holes: Holes,
    /// Nothing was understood yet.
    is_new: bool,
}

impl Default for Parser {
    fn default() -> Self {
        Self {
            state: State::Header,
            buffer: Vec::new(),
            overrides: Overrides::default(),
            stored: Stored::default(),
            mapped: None,
            xattrs: Xattrs::Drop,
            holes: Holes::Refuse,
            is_new: true,
        }
    }
}

impl Parser {
    /// One that keeps extended attributes (pax records `SCHILY.xattr.…`) with their entries.
    pub fn keeping_xattrs(self) -> Self {
        Self {
            xattrs: Xattrs::Keep,
            ..self
        }
    }

    /// One that takes files with holes; else they are an error. Whoever takes them must mind that a hole of any size costs
    /// an archive nothing.
    pub fn taking_holes(self) -> Self {
        Self {
            holes: Holes::Take,
            ..self
        }
    }

    /// Takes the next item from the front of `input`, which is advanced past what was used. `None` when more input is
    /// needed. After an error the parser must not be used again.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Item<'a>>, ArchiveError> {
        loop {
            match self.state {
                State::Header | State::OneZero => {
                    let Some(block) = self.block(input) else {
                        return Ok(None);
                    };
                    if block.iter().all(|&b| b == 0) {
                        self.is_new = false;
                        if matches!(self.state, State::OneZero) {
                            self.state = State::Ended;
                            return Ok(Some(Item::End));
                        }
                        self.state = State::OneZero;
                    } else if let Some(entry) = self.header(&block)? {
                        return Ok(Some(Item::Entry(Box::new(entry))));
                    }
                }
                State::Content => {
                    if let Some(len) = self.stored.layout.as_mut().and_then(Layout::hole) {
                        return Ok(Some(Item::Hole(len)));
                    }
                    if self.stored.left == 0 {
                        self.state = State::Padding(self.stored.padding);
                        self.stored.layout = None;
                        return Ok(Some(Item::Done));
                    }
                    if input.is_empty() {
                        return Ok(None);
                    }
                    return Ok(Some(Item::Data(self.stored.take(input))));
                }
                State::MoreOfMap => {
                    let Some(block) = self.block(input) else {
                        return Ok(None);
                    };
                    if let Some(entry) = self.more_of_map(&block)? {
                        return Ok(Some(Item::Entry(Box::new(entry))));
                    }
                }
                State::Map => {
                    if input.is_empty() {
                        return Ok(None);
                    }
                    if let Some(entry) = self.map(input)? {
                        return Ok(Some(Item::Entry(Box::new(entry))));
                    }
                }
                State::Special(Special::Ignored, left, padding) => {
                    let n = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                    *input = &input[n..];
                    let left = left - n as u64;
                    if left > 0 {
                        self.state = State::Special(Special::Ignored, left, padding);
                        return Ok(None);
                    }
                    self.state = State::Padding(padding);
                }
                State::Special(special, size, padding) => {
                    if !self.gather(input, size as usize) {
                        return Ok(None);
                    }
                    self.special(special)?;
                    self.buffer.clear();
                    self.buffer.shrink_to(4096);
                    self.state = State::Padding(padding);
                }
                State::Padding(0) => self.state = State::Header,
                State::MapPadding(0) => self.state = State::Content,
                State::Padding(left) | State::MapPadding(left) => {
                    if input.is_empty() {
                        return Ok(None);
                    }
                    let n = left.min(input.len());
                    *input = &input[n..];
                    self.state = match self.state {
                        State::MapPadding(_) => State::MapPadding(left - n),
                        _ => State::Padding(left - n),
                    };
                }
                State::Ended => {
                    *input = &[];
                    return Ok(None);
                }
            }
        }
    }

    /// Says that nothing more will come. An archive without a block of zeros at its end is incomplete: it may end between
    /// two entries because whoever wrote it died there.
    pub fn finish(&self) -> Result<(), ArchiveError> {
        match self.state {
            State::Ended => Ok(()),
            State::OneZero if self.buffer.is_empty() => Ok(()),
            State::Header if self.is_new => {
                Err(foreign::recognised(&self.buffer).unwrap_or(ArchiveError::CutShort))
            }
            _ => Err(ArchiveError::CutShort),
        }
    }

    /// Whether it stands where an archive without its two blocks of zeros could end: nothing of an entry is missing.
    pub fn is_between_entries(&self) -> bool {
        let at_a_header = matches!(self.state, State::Header | State::OneZero);
        matches!(self.state, State::Ended)
            || at_a_header && self.buffer.is_empty() && self.overrides.extensions == 0
    }

    fn gather(&mut self, input: &mut &[u8], want: usize) -> bool {
        if self.buffer.is_empty() {
            // In one step: what grows holds twice as much while it does.
            self.buffer.reserve_exact(want);
        }
        let n = (want - self.buffer.len()).min(input.len());
        self.buffer.extend_from_slice(&input[..n]);
        *input = &input[n..];
        self.buffer.len() == want
    }

    /// The next block, once all of it is here.
    fn block(&mut self, input: &mut &[u8]) -> Option<[u8; BLOCK]> {
        if !self.gather(input, BLOCK) {
            return None;
        }
        let block = self.buffer[..].try_into().ok();
        self.buffer.clear();
        block
    }

    /// Reads a header; `None` if it belongs to a special entry, or if a map follows it.
    fn header(&mut self, block: &[u8; BLOCK]) -> Result<Option<Entry>, ArchiveError> {
        if let Err(error) = check_sum(block) {
            let known = self.is_new.then(|| foreign::recognised(block)).flatten();
            return Err(known.unwrap_or(error));
        }
        self.is_new = false;
        let declared = number(&block[124..136], "size")?;
        let kind = match block[156] {
            b'x' => return self.start_special(Special::Pax, declared),
            b'L' => return self.start_special(Special::LongName, declared),
            b'K' => return self.start_special(Special::LongLink, declared),
            // Global pax records: git writes a comment there, nobody a name. And GNU tar's name of the whole archive.
            b'g' | b'V' => return self.start_special(Special::Ignored, declared),
            b'1' => EntryKind::HardLink,
            b'2' => EntryKind::Symlink,
            b'3' => EntryKind::CharDevice,
            b'4' => EntryKind::BlockDevice,
            b'5' => EntryKind::Directory,
            b'6' => EntryKind::Fifo,
            b'\0' | b'0' | b'7' => EntryKind::File,
            b'S' if self.holes == Holes::Take => EntryKind::File,
            other => return Err(ArchiveError::Kind(other)),
        };
        let mut over = std::mem::take(&mut self.overrides);
        let sparse = over.sparse.take().filter(|_| kind == EntryKind::File);
        if sparse.is_some() && self.holes == Holes::Refuse {
            // A sparse file's content is a map and pieces: as plain content it would be wrong.
            return Err(ArchiveError::Kind(b'S'));
        }
        let path = over.path.take().unwrap_or_else(|| name(block));
        let size = over.size.unwrap_or(declared);
        if size > MAX_SIZE {
            return Err(ArchiveError::Number("size"));
        }
        // The oldest tars mark a folder by its name alone.
        let is_folder = kind == EntryKind::File && size == 0 && path.ends_with(b"/");
        let kind = if is_folder {
            EntryKind::Directory
        } else {
            kind
        };
        // A hard link or a folder may state a size without having content; POSIX lets only hard links have any, and
        // then pax says so.
        let size = if kind == EntryKind::File { size } else { 0 };
        let entry = entry(block, over, path, kind, size)?;
        if block[156] == b'S' {
            return self.start_old_map(entry, block);
        }
        if let Some(sparse) = sparse
            && kind == EntryKind::File
        {
            return self.start_pax_map(entry, *sparse);
        }
        if entry.path.is_empty() {
            return Err(ArchiveError::NoName);
        }
        self.begin(size, None);
        Ok(Some(entry))
    }

    fn begin(&mut self, stored: u64, layout: Option<Layout>) {
        self.stored = Stored {
            left: stored,
            padding: padding(stored),
            layout,
        };
        self.state = State::Content;
    }

    /// A header of type `S` has the size that is stored where others have the file's, and the file's further behind.
    fn start_old_map(
        &mut self,
        mut entry: Entry,
        block: &[u8; BLOCK],
    ) -> Result<Option<Entry>, ArchiveError> {
        let declared = entry.size;
        entry.size = number(&block[483..495], "realsize")?;
        let mut segments = Vec::new();
        sparse::old_pieces(block, 386, 4, &mut segments)?;
        self.mapped = Some(Box::new(Mapped {
            entry,
            segments,
            map: Map::default(),
            read: 0,
            declared,
        }));
        if block[482] == 0 {
            return self.mapped().map(Some);
        }
        self.state = State::MoreOfMap;
        Ok(None)
    }

    fn more_of_map(&mut self, block: &[u8; BLOCK]) -> Result<Option<Entry>, ArchiveError> {
        if let Some(mapped) = &mut self.mapped {
            sparse::old_pieces(block, 0, 21, &mut mapped.segments)?;
        }
        if block[504] == 0 {
            return self.mapped().map(Some);
        }
        Ok(None)
    }

    fn start_pax_map(
        &mut self,
        mut entry: Entry,
        sparse: Sparse,
    ) -> Result<Option<Entry>, ArchiveError> {
        let declared = entry.size;
        entry.size = sparse.size.ok_or(ArchiveError::Sparse)?;
        if let Some(name) = sparse.name {
            entry.path = name;
        }
        self.mapped = Some(Box::new(Mapped {
            entry,
            segments: sparse.segments,
            map: Map::default(),
            read: 0,
            declared,
        }));
        match sparse.major {
            0 => self.mapped().map(Some),
            1 => {
                self.state = State::Map;
                Ok(None)
            }
            _ => Err(ArchiveError::Sparse),
        }
    }

    /// Reads of a map in front of the content as much as is here.
    fn map(&mut self, input: &mut &[u8]) -> Result<Option<Entry>, ArchiveError> {
        let Some(mapped) = &mut self.mapped else {
            return Err(ArchiveError::Sparse);
        };
        while let Some((&byte, rest)) = input.split_first() {
            if mapped.read >= mapped.declared {
                return Err(ArchiveError::Sparse);
            }
            *input = rest;
            mapped.read += 1;
            if mapped.map.take(byte, &mut mapped.segments)? {
                return self.mapped().map(Some);
            }
        }
        Ok(None)
    }

    /// The map is complete: the entry begins.
    fn mapped(&mut self) -> Result<Entry, ArchiveError> {
        let Some(mapped) = self.mapped.take() else {
            return Err(ArchiveError::Sparse);
        };
        let Mapped {
            entry,
            segments,
            read,
            declared,
            ..
        } = *mapped;
        if entry.path.is_empty() {
            return Err(ArchiveError::NoName);
        }
        if entry.size > MAX_SIZE {
            return Err(ArchiveError::Number("size"));
        }
        let of_map = read + padding(read) as u64;
        let content = declared.checked_sub(of_map).ok_or(ArchiveError::Sparse)?;
        sparse::check(&segments, entry.size, content)?;
        self.begin(content, Some(Layout::new(segments, entry.size)));
        self.state = State::MapPadding(padding(read));
        Ok(entry)
    }

    fn start_special(
        &mut self,
        special: Special,
        size: u64,
    ) -> Result<Option<Entry>, ArchiveError> {
        let (what, limit) = match special {
            Special::Pax => ("a set of pax records", MAX_PAX),
            // The name's terminating zero is counted.
            Special::LongName | Special::LongLink => ("a name", MAX_NAME as u64 + 1),
            Special::Ignored => ("a global header", MAX_SIZE),
        };
        if size > limit {
            return Err(ArchiveError::TooLong {
                what,
                len: size,
                limit,
            });
        }
        if special != Special::Ignored {
            self.overrides.extensions += BLOCK as u64 + size;
            if self.overrides.extensions > MAX_EXTENSIONS {
                return Err(ArchiveError::TooLong {
                    what: "what extension headers say of one entry",
                    len: self.overrides.extensions,
                    limit: MAX_EXTENSIONS,
                });
            }
        }
        self.state = State::Special(special, size, padding(size));
        Ok(None)
    }

    fn special(&mut self, special: Special) -> Result<(), ArchiveError> {
        match special {
            Special::LongName => self.overrides.path = Some(until_zero(&self.buffer).to_vec()),
            Special::LongLink => self.overrides.link = Some(until_zero(&self.buffer).to_vec()),
            Special::Pax => self.overrides.read(&self.buffer, self.xattrs)?,
            Special::Ignored => {}
        }
        Ok(())
    }
}

impl Stored {
    /// Takes content that is here, at least a byte: some is to come, and some is here.
    fn take<'a>(&mut self, input: &mut &'a [u8]) -> &'a [u8] {
        let most = match &self.layout {
            Some(layout) => self.left.min(layout.room()),
            None => self.left,
        };
        let n = usize::try_from(most).unwrap_or(usize::MAX).min(input.len());
        let (bytes, rest) = input.split_at(n);
        *input = rest;
        self.left -= n as u64;
        if let Some(layout) = &mut self.layout {
            layout.passed(n as u64);
        }
        bytes
    }
}

/// What a header, and what was said before it, say of an entry.
fn entry(
    block: &[u8; BLOCK],
    over: Overrides,
    path: Vec<u8>,
    kind: EntryKind,
    size: u64,
) -> Result<Entry, ArchiveError> {
    let (mtime, mtime_nsec) = match over.mtime {
        Some(time) => time,
        None => (signed(&block[136..148], "mtime")?, 0),
    };
    let id = |over: Option<u32>, field: &[u8], what| match over {
        Some(id) => Ok(id),
        None => number(field, what)
            .and_then(|n| u32::try_from(n).map_err(|_| ArchiveError::Number(what))),
    };
    let is_device = matches!(kind, EntryKind::CharDevice | EntryKind::BlockDevice);
    let device = if is_device {
        (
            id(None, &block[329..337], "devmajor")?,
            id(None, &block[337..345], "devminor")?,
        )
    } else {
        (0, 0)
    };
    Ok(Entry {
        path,
        kind,
        mode: (number(&block[100..108], "mode")? & 0o7777) as u32,
        uid: id(over.uid, &block[108..116], "uid")?,
        gid: id(over.gid, &block[116..124], "gid")?,
        size,
        mtime,
        mtime_nsec,
        link: over
            .link
            .unwrap_or_else(|| until_zero(&block[157..257]).to_vec()),
        device,
        xattrs: over.xattrs,
    })
}

fn until_zero(field: &[u8]) -> &[u8] {
    field.split(|&b| b == 0).next().unwrap_or_default()
}

/// The name in a header: with its prefix, where the header has one. GNU's own format keeps other things there.
fn name(block: &[u8; BLOCK]) -> Vec<u8> {
    let name = until_zero(&block[..100]);
    let prefix = until_zero(&block[345..500]);
    if &block[257..263] == b"ustar\0" && !prefix.is_empty() {
        [prefix, b"/", name].concat()
    } else {
        name.to_vec()
    }
}
