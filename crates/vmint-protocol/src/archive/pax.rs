//! Pax records: `LENGTH KEY=VALUE\n`, where the length counts all of it.

use super::number::{decimal, pax_time, text};
use super::sparse::{self, Segment};
use super::{ArchiveError, MAX_NAME};

/// What special entries said about the next ordinary one.
#[derive(Debug, Default)]
pub(super) struct Overrides {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) mtime: Option<(i64, u32)>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: Option<Box<Sparse>>,
    /// Bytes of extension headers since the last ordinary entry.
    pub(super) extensions: u64,
}

/// What pax records say of a file with holes.
#[derive(Debug, Default)]
pub(super) struct Sparse {
    /// The file's name; the one in the header is made up.
    pub(super) name: Option<Vec<u8>>,
    /// Its size.
    pub(super) size: Option<u64>,
    /// The format: 1 has its map in front of the content, 0 has it here.
    pub(super) major: u32,
    pub(super) segments: Vec<Segment>,
    offset: Option<u64>,
}

/// Whether extended attributes are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Xattrs {
    Keep,
    Drop,
}

impl Overrides {
    /// Reads a set of records.
    pub(super) fn read(&mut self, mut bytes: &[u8], xattrs: Xattrs) -> Result<(), ArchiveError> {
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
                key => {
                    if let Some(word) = key.strip_prefix(b"GNU.sparse.") {
                        self.sparse.get_or_insert_default().read(word, value)?;
                    } else if let Some(name) = key.strip_prefix(b"SCHILY.xattr.")
                        && xattrs == Xattrs::Keep
                    {
                        self.xattrs.push((unescaped(name), value.to_vec()));
                    }
                }
            }
        }
        Ok(())
    }
}

impl Sparse {
    fn read(&mut self, word: &[u8], value: &[u8]) -> Result<(), ArchiveError> {
        match word {
            b"name" => self.name = Some(bounded_name(value)?),
            b"size" | b"realsize" => self.size = Some(decimal(value, "size")?),
            b"major" => self.major = decimal(value, "major")?,
            b"offset" => self.offset = Some(decimal(value, "offset")?),
            b"numbytes" => {
                let offset = self.offset.take().ok_or(ArchiveError::Sparse)?;
                let len = decimal(value, "numbytes")?;
                sparse::push(&mut self.segments, Segment { offset, len })?;
            }
            b"map" => {
                let mut numbers = value.split(|&b| b == b',').filter(|n| !n.is_empty());
                while let Some(offset) = numbers.next() {
                    let len = numbers.next().ok_or(ArchiveError::Sparse)?;
                    let segment = Segment {
                        offset: decimal(offset, "offset")?,
                        len: decimal(len, "numbytes")?,
                    };
                    sparse::push(&mut self.segments, segment)?;
                }
            }
            // How many pieces there are, and the minor version.
            _ => {}
        }
        Ok(())
    }
}

pub(super) fn bounded_name(value: &[u8]) -> Result<Vec<u8>, ArchiveError> {
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

/// Appends `LENGTH KEY=VALUE\n`, where the length counts its own digits too.
pub(super) fn record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    out.extend_from_slice(length.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// The name of an extended attribute as a part of a key, which `=` would end. GNU tar writes it so.
pub(super) fn escaped(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    for &byte in name {
        match byte {
            b'%' => out.extend_from_slice(b"%25"),
            b'=' => out.extend_from_slice(b"%3D"),
            byte => out.push(byte),
        }
    }
    out
}

fn unescaped(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&first, after)) = rest.split_first() {
        let (byte, after) = match rest {
            [b'%', b'2', b'5', after @ ..] => (b'%', after),
            [b'%', b'3', b'D', after @ ..] => (b'=', after),
            _ => (first, after),
        };
        out.push(byte);
        rest = after;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_its_own_length() {
        let mut out = Vec::new();
        record(&mut out, b"path", &[b'a'; 90]);
        assert!(out.starts_with(b"99 path=") && out.len() == 99);
        out.clear();
        record(&mut out, b"path", &[b'a'; 92]);
        assert!(out.starts_with(b"102 path=") && out.len() == 102);
    }

    #[test]
    fn names_of_attributes_may_hold_what_ends_a_key() {
        for name in [&b"user.a=b%"[..], b"user.%3D", b"user.plain", b"%", b"%2"] {
            assert_eq!(unescaped(&escaped(name)), name);
        }
    }
}
