//! Tar streams taken apart as they arrive: ustar, pax, GNU long names; no I/O and bounded memory.
//!
//! [`Parser::next`] takes bytes as they come, in pieces of any size, and hands file content on without copying it.
//! Nothing is trusted: sizes, checksums and names are checked, [`relative`] tells whether a name stays below its
//! target, and what one entry may say about itself is bounded ([`MAX_NAME`], [`MAX_PAX`], [`MAX_EXTENSIONS`]). Guest
//! and host share this parser and its bounds; [`Reader`] is the same for those who have a stream to read from.

mod reader;

pub use reader::{Content, Reader};

/// Length of a block.
const BLOCK: usize = 512;
/// Longest name or link target. Linux allows 4095 bytes for a path.
pub const MAX_NAME: usize = 4095;
/// Largest set of pax records of one entry; they are gathered in memory. Extended attributes come to 64 KiB each.
pub const MAX_PAX: u64 = 1 << 20;
/// Largest sum of all extension headers of one entry, their own blocks included. Without it an
/// archive of nothing but such headers would be gathered for ever.
pub const MAX_EXTENSIONS: u64 = MAX_PAX + 2 * (MAX_NAME as u64 + 1) + 16 * BLOCK as u64;
/// Largest size of an entry. What cannot be a file's size on Linux is a mistake.
const MAX_SIZE: u64 = i64::MAX as u64;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A file with content.
    File,
    /// Another name of an entry before.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A folder.
    Directory,
    /// A named pipe.
    Fifo,
}

/// One entry's metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name as the archive has it: it may be absolute or contain `..`.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits, set-user-id and the like included.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes of content that follow.
    pub size: u64,
    /// Modification time, seconds since 1970.
    pub mtime: i64,
    /// And nanoseconds.
    pub mtime_nsec: u32,
    /// Target of a link.
    pub link: Vec<u8>,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Extended attributes, name and value, when the parser [keeps](Parser::keeping_xattrs) them.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What the [`Parser`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// An entry begins; its content follows.
    Entry(Box<Entry>),
    /// Some bytes of its content, at least one.
    Data(&'a [u8]),
    /// All of the entry's content was seen. Comes for every entry.
    Done,
    /// The archive's end. What follows it is padding and is ignored.
    End,
}

/// Bytes that are no archive, or one that is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// A header's checksum is wrong: these bytes are no header.
    #[error("a header's checksum is wrong; this is no tar archive, or it is damaged")]
    Checksum,
    /// A field that should be a number is none, or out of range.
    #[error("the field {0} is no valid number")]
    Number(&'static str),
    /// Pax records are malformed.
    #[error("malformed pax records")]
    Pax,
    /// A name, or a set of pax records, is too long.
    #[error("{what} of {len} bytes is over the limit of {limit}")]
    TooLong {
        /// What it is.
        what: &'static str,
        /// Its length.
        len: u64,
        /// The limit.
        limit: u64,
    },
    /// A kind of entry that cannot be unpacked.
    #[error("entries of type {:?}{} are not supported", char::from(*.0), note(*.0))]
    Kind(u8),
    /// An entry without a name.
    #[error("an entry has no name")]
    NoName,
    /// The stream ended before the archive did.
    #[error("the archive is cut short")]
    CutShort,
}

impl From<ArchiveError> for std::io::Error {
    fn from(error: ArchiveError) -> Self {
        let kind = match error {
            ArchiveError::CutShort => std::io::ErrorKind::UnexpectedEof,
            _ => std::io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}

fn note(kind: u8) -> &'static str {
    match kind {
        b'S' => " (sparse files, as GNU tar writes them with --sparse)",
        _ => "",
    }
}

/// Splits a name into components below its target: empty and `.` components are dropped. `None` if it is absolute or
/// has a `..`, so that it could name something outside. An empty result names the target itself.
pub fn relative(path: &[u8]) -> Option<Vec<&[u8]>> {
    if path.first() == Some(&b'/') {
        return None;
    }
    let parts: Vec<&[u8]> = path
        .split(|&b| b == b'/')
        .filter(|c| !c.is_empty() && *c != b".")
        .collect();
    (!parts.contains(&b"..".as_slice())).then_some(parts)
}

/// What a special entry's content is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Special {
    Pax,
    LongName,
    LongLink,
    Ignored,
}

#[derive(Debug)]
enum State {
    /// Gathering a header block.
    Header,
    /// Passing an entry's content on: what is left, then the padding.
    Data(u64, usize),
    /// Gathering, or skipping, a special entry's content.
    Special(Special, u64, usize),
    /// Skipping padding.
    Padding(usize),
    /// One block of zeros was seen; a second one ends the archive.
    OneZero,
    Ended,
}

/// What special entries said about the next ordinary one.
#[derive(Debug, Default)]
struct Overrides {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    mtime: Option<(i64, u32)>,
    uid: Option<u32>,
    gid: Option<u32>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Bytes of extension headers since the last ordinary entry.
    extensions: u64,
}

/// Whether extended attributes are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Xattrs {
    Keep,
    Drop,
}

/// Takes an archive apart.
#[derive(Debug)]
pub struct Parser {
    state: State,
    buffer: Vec<u8>,
    overrides: Overrides,
    xattrs: Xattrs,
}

impl Default for Parser {
    fn default() -> Self {
        Self {
            state: State::Header,
            buffer: Vec::new(),
            overrides: Overrides::default(),
            xattrs: Xattrs::Drop,
        }
    }
}

impl Parser {
    /// One that keeps extended attributes (pax records `SCHILY.xattr.…`) with their entries.
    pub fn keeping_xattrs() -> Self {
        Self {
            xattrs: Xattrs::Keep,
            ..Self::default()
        }
    }

    /// Takes the next item from the front of `input`, which is advanced past what was used. `None` when more input is
    /// needed. After an error the parser must not be used again.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Item<'a>>, ArchiveError> {
        loop {
            match self.state {
                State::Header | State::OneZero => {
                    if !self.gather(input, BLOCK) {
                        return Ok(None);
                    }
                    let block: [u8; BLOCK] = self.buffer[..]
                        .try_into()
                        .expect("gathered exactly a block");
                    self.buffer.clear();
                    if block.iter().all(|&b| b == 0) {
                        if matches!(self.state, State::OneZero) {
                            self.state = State::Ended;
                            return Ok(Some(Item::End));
                        }
                        self.state = State::OneZero;
                    } else if let Some(entry) = self.header(&block)? {
                        return Ok(Some(Item::Entry(Box::new(entry))));
                    }
                }
                State::Data(0, padding) => {
                    self.state = State::Padding(padding);
                    return Ok(Some(Item::Done));
                }
                State::Data(left, padding) => {
                    if input.is_empty() {
                        return Ok(None);
                    }
                    let n = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                    let (bytes, rest) = input.split_at(n);
                    *input = rest;
                    self.state = State::Data(left - n as u64, padding);
                    return Ok(Some(Item::Data(bytes)));
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
                State::Padding(left) => {
                    if input.is_empty() {
                        return Ok(None);
                    }
                    let n = left.min(input.len());
                    *input = &input[n..];
                    self.state = State::Padding(left - n);
                }
                State::Ended => {
                    *input = &[];
                    return Ok(None);
                }
            }
        }
    }

    /// Says that nothing more will come. An archive without its two blocks of zeros is incomplete: it may end between
    /// two entries because whoever wrote it died there.
    pub fn finish(&self) -> Result<(), ArchiveError> {
        if matches!(self.state, State::Ended) {
            Ok(())
        } else {
            Err(ArchiveError::CutShort)
        }
    }

    /// Whether it stands where an archive without its two blocks of zeros could end: nothing of an entry is missing.
    pub fn is_between_entries(&self) -> bool {
        let at_a_header = matches!(self.state, State::Header | State::OneZero);
        matches!(self.state, State::Ended)
            || at_a_header && self.buffer.is_empty() && self.overrides.extensions == 0
    }

    fn gather(&mut self, input: &mut &[u8], want: usize) -> bool {
        let n = (want - self.buffer.len()).min(input.len());
        self.buffer.extend_from_slice(&input[..n]);
        *input = &input[n..];
        self.buffer.len() == want
    }

    /// Reads a header; `None` if it belongs to a special entry.
    fn header(&mut self, block: &[u8; BLOCK]) -> Result<Option<Entry>, ArchiveError> {
        check_sum(block)?;
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
            other => return Err(ArchiveError::Kind(other)),
        };
        let over = std::mem::take(&mut self.overrides);
        let path = over.path.unwrap_or_else(|| name(block));
        if path.is_empty() {
            return Err(ArchiveError::NoName);
        }
        let size = over.size.unwrap_or(declared);
        // The oldest tars mark a folder by its name alone.
        let is_folder = kind == EntryKind::File && size == 0 && path.ends_with(b"/");
        let kind = if is_folder {
            EntryKind::Directory
        } else {
            kind
        };
        if size > MAX_SIZE {
            return Err(ArchiveError::Number("size"));
        }
        // A hard link or a folder may state a size without having content; POSIX lets only hard links have any, and
        // then pax says so.
        let size = if kind == EntryKind::File { size } else { 0 };
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
        let entry = Entry {
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
        };
        self.state = State::Data(size, padding(size));
        Ok(Some(entry))
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
            Special::Pax => self.overrides.read_pax(&self.buffer, self.xattrs)?,
            Special::Ignored => {}
        }
        Ok(())
    }
}

impl Overrides {
    /// Reads records of the form `LENGTH KEY=VALUE\n`, where the length counts all of it.
    fn read_pax(&mut self, mut bytes: &[u8], xattrs: Xattrs) -> Result<(), ArchiveError> {
        while !bytes.is_empty() {
            let space = bytes
                .iter()
                .take(20)
                .position(|&b| b == b' ')
                .ok_or(ArchiveError::Pax)?;
            let len: usize = text(&bytes[..space])?
                .parse()
                .map_err(|_| ArchiveError::Pax)?;
            if len <= space + 1 || len > bytes.len() || bytes[len - 1] != b'\n' {
                return Err(ArchiveError::Pax);
            }
            let record = &bytes[space + 1..len - 1];
            bytes = &bytes[len..];
            let equals = record
                .iter()
                .position(|&b| b == b'=')
                .ok_or(ArchiveError::Pax)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            match key {
                b"path" => self.path = Some(bounded_name(value)?),
                b"linkpath" => self.link = Some(bounded_name(value)?),
                b"size" => self.size = Some(decimal(value, "size")?),
                b"uid" => self.uid = Some(decimal(value, "uid")?),
                b"gid" => self.gid = Some(decimal(value, "gid")?),
                b"mtime" => self.mtime = Some(pax_time(value)?),
                // A GNU sparse file's content is a map and pieces: as plain content it would be wrong.
                key if key.starts_with(b"GNU.sparse.") => return Err(ArchiveError::Kind(b'S')),
                key if xattrs == Xattrs::Keep => {
                    if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                        self.xattrs.push((name.to_vec(), value.to_vec()));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn padding(size: u64) -> usize {
    (BLOCK - (size % BLOCK as u64) as usize) % BLOCK
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

fn bounded_name(value: &[u8]) -> Result<Vec<u8>, ArchiveError> {
    if value.len() > MAX_NAME {
        return Err(ArchiveError::TooLong {
            what: "a name",
            len: value.len() as u64,
            limit: MAX_NAME as u64,
        });
    }
    if value.contains(&0) {
        return Err(ArchiveError::Pax);
    }
    Ok(value.to_vec())
}

/// The checksum is the sum of all bytes, its own field taken as spaces; some old tars summed signed bytes.
fn check_sum(block: &[u8; BLOCK]) -> Result<(), ArchiveError> {
    let stated = number(&block[148..156], "chksum").map_err(|_| ArchiveError::Checksum)?;
    let others = || block[..148].iter().chain(&block[156..]);
    let unsigned = others().map(|&b| i64::from(b)).sum::<i64>() + 8 * 32;
    let signed = others().map(|&b| i64::from(b as i8)).sum::<i64>() + 8 * 32;
    if i64::try_from(stated).is_ok_and(|s| s == unsigned || s == signed) {
        Ok(())
    } else {
        Err(ArchiveError::Checksum)
    }
}

/// An octal number, or GNU's base-256 for those that do not fit. An empty field is zero.
fn number(field: &[u8], what: &'static str) -> Result<u64, ArchiveError> {
    u64::try_from(signed(field, what)?).map_err(|_| ArchiveError::Number(what))
}

fn signed(field: &[u8], what: &'static str) -> Result<i64, ArchiveError> {
    let bad = ArchiveError::Number(what);
    if field[0] & 0x80 != 0 {
        // Two's complement, big-endian; the topmost bit is the mark, the next one the sign.
        let negative = field[0] & 0x40 != 0;
        let first = if negative { field[0] } else { field[0] & 0x7f };
        let mut value = if negative { -1i128 } else { 0 };
        for byte in std::iter::once(first).chain(field[1..].iter().copied()) {
            value = (value << 8) | i128::from(byte);
        }
        return i64::try_from(value).map_err(|_| bad);
    }
    let digits: Vec<u8> = field
        .iter()
        .copied()
        .skip_while(|&b| b == b' ')
        .take_while(|&b| b != 0 && b != b' ')
        .collect();
    if digits.is_empty() {
        return Ok(0);
    }
    i64::from_str_radix(text(&digits).map_err(|_| bad.clone())?, 8).map_err(|_| bad)
}

fn text(bytes: &[u8]) -> Result<&str, ArchiveError> {
    std::str::from_utf8(bytes).map_err(|_| ArchiveError::Pax)
}

fn decimal<T: std::str::FromStr>(value: &[u8], what: &'static str) -> Result<T, ArchiveError> {
    text(value)?.parse().map_err(|_| ArchiveError::Number(what))
}

/// Seconds with an optional fraction; negative ones round towards the past.
fn pax_time(value: &[u8]) -> Result<(i64, u32), ArchiveError> {
    let bad = || ArchiveError::Number("mtime");
    let value = text(value)?;
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let seconds: i64 = whole.parse().map_err(|_| bad())?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    let nanos: u32 = format!("{fraction:0<9.9}").parse().map_err(|_| bad())?;
    if whole.starts_with('-') && nanos > 0 {
        return Ok((
            seconds.checked_sub(1).ok_or_else(bad)?,
            1_000_000_000 - nanos,
        ));
    }
    Ok((seconds, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_leaves_its_target_has_no_components() {
        assert_eq!(relative(b"./a//b/./c/"), Some(vec![&b"a"[..], b"b", b"c"]));
        assert_eq!(relative(b"./"), Some(vec![]));
        assert_eq!(relative(b"a..b/..."), Some(vec![&b"a..b"[..], b"..."]));
        assert_eq!(relative(b"/etc/passwd"), None);
        assert_eq!(relative(b"a/../../b"), None);
        assert_eq!(relative(b".."), None);
    }

    #[test]
    fn numbers_are_octal_or_base_256() {
        assert_eq!(number(b"0000644\0", "mode"), Ok(0o644));
        assert_eq!(number(b"   17 \0\0", "mode"), Ok(0o17));
        assert_eq!(number(b"77777777777\0", "size"), Ok((1 << 33) - 1));
        assert_eq!(number(b"\x80\0\0\0\0\0\0\x02\0\0\0\0", "size"), Ok(1 << 33));
        assert_eq!(
            signed(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe", "mtime"),
            Ok(-2)
        );
        assert_eq!(
            number(b"\xff\xff\xff\xff\xff\xff\xff\xfe", "size"),
            Err(ArchiveError::Number("size"))
        );
        assert_eq!(number(b"\0\0\0\0\0\0\0\0", "uid"), Ok(0));
        assert_eq!(number(b"12x\0", "uid"), Err(ArchiveError::Number("uid")));
        assert_eq!(
            number(b"\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "size"),
            Err(ArchiveError::Number("size"))
        );
    }

    #[test]
    fn times_have_fractions_and_may_be_before_1970() {
        assert_eq!(pax_time(b"12"), Ok((12, 0)));
        assert_eq!(pax_time(b"12.5"), Ok((12, 500_000_000)));
        assert_eq!(pax_time(b"12.1234567899"), Ok((12, 123_456_789)));
        assert_eq!(pax_time(b"-0.25"), Ok((-1, 750_000_000)));
        assert_eq!(pax_time(b"x"), Err(ArchiveError::Number("mtime")));
    }
}
