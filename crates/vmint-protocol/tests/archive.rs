//! The archive parser: against archives that others write, and against garbage.

use proptest::collection::vec;
use proptest::prelude::*;
use std::io::Read;
use vmint_protocol::archive::{
    ArchiveError, Entry, EntryKind, Item, MAX_EXTENSIONS, MAX_NAME, Parser, Reader,
};

/// An entry with all of its content.
type Whole = (Entry, Vec<u8>);

/// Feeds `bytes` in pieces that end at `cuts`.
fn parse(bytes: &[u8], cuts: &[usize]) -> Result<Vec<Whole>, ArchiveError> {
    let mut parser = Parser::default();
    let mut out: Vec<Whole> = Vec::new();
    let mut open = false;
    let mut ends: Vec<usize> = cuts
        .iter()
        .map(|c| c % (bytes.len() + 1))
        .chain([bytes.len()])
        .collect();
    ends.sort_unstable();
    let mut from = 0;
    for end in ends {
        let mut piece = &bytes[from..end];
        from = end;
        while let Some(item) = parser.next(&mut piece)? {
            match item {
                Item::Entry(entry) => {
                    assert!(!open, "an entry within an entry");
                    open = true;
                    out.push((*entry, Vec::new()));
                }
                Item::Data(data) => {
                    assert!(open && !data.is_empty());
                    out.last_mut().unwrap().1.extend_from_slice(data);
                }
                Item::Hole(_) => panic!("a hole, though none was asked for"),
                Item::Done => {
                    assert!(open);
                    open = false;
                    let (entry, data) = out.last().unwrap();
                    assert_eq!(entry.size, data.len() as u64);
                }
                Item::End => assert!(!open),
            }
        }
        assert!(
            piece.is_empty(),
            "input is left over although no item was found"
        );
    }
    parser.finish()?;
    Ok(out)
}

#[derive(Debug, Clone)]
struct Sample {
    path: String,
    kind: tar::EntryType,
    mode: u32,
    uid: u32,
    mtime: u64,
    link: String,
    data: Vec<u8>,
}

fn name() -> impl Strategy<Value = String> {
    // Long enough that some names need GNU's long-name entries.
    vec("[a-zé ]{1,40}", 1..8).prop_map(|parts| parts.join("/"))
}

fn sample() -> impl Strategy<Value = Sample> {
    let kind = prop_oneof![
        4 => Just(tar::EntryType::Regular),
        1 => Just(tar::EntryType::Directory),
        1 => Just(tar::EntryType::Symlink),
        1 => Just(tar::EntryType::Link),
        1 => Just(tar::EntryType::Fifo),
    ];
    (
        name(),
        kind,
        0u32..0o10000,
        0u32..3_000_000,
        0u64..1 << 34,
        name(),
        vec(any::<u8>(), 0..1500),
    )
        .prop_map(|(path, kind, mode, uid, mtime, link, data)| {
            let data = if kind.is_file() { data } else { Vec::new() };
            let link = if matches!(kind, tar::EntryType::Symlink | tar::EntryType::Link) {
                link
            } else {
                String::new()
            };
            Sample {
                path,
                kind,
                mode,
                uid,
                mtime,
                link,
                data,
            }
        })
}

fn write(samples: &[Sample]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for s in samples {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(s.kind);
        header.set_mode(s.mode);
        header.set_uid(s.uid.into());
        header.set_gid(7);
        header.set_mtime(s.mtime);
        header.set_size(s.data.len() as u64);
        if s.link.is_empty() {
            builder
                .append_data(&mut header, &s.path, &s.data[..])
                .unwrap();
        } else {
            builder.append_link(&mut header, &s.path, &s.link).unwrap();
        }
    }
    builder.into_inner().unwrap()
}

proptest! {
    #[test]
    fn what_the_tar_crate_writes_is_understood_however_it_is_cut(
        samples in vec(sample(), 0..6),
        cuts in vec(any::<usize>(), 0..20),
    ) {
        let bytes = write(&samples);
        let found = parse(&bytes, &cuts).unwrap();
        prop_assert_eq!(found.len(), samples.len());
        for ((entry, data), s) in found.iter().zip(&samples) {
            let kind = match s.kind {
                tar::EntryType::Regular => EntryKind::File,
                tar::EntryType::Directory => EntryKind::Directory,
                tar::EntryType::Symlink => EntryKind::Symlink,
                tar::EntryType::Link => EntryKind::HardLink,
                _ => EntryKind::Fifo,
            };
            prop_assert_eq!(&entry.path, s.path.as_bytes());
            prop_assert_eq!(entry.kind, kind);
            prop_assert_eq!((entry.mode, entry.uid, entry.gid, entry.mtime), (s.mode, s.uid, 7, s.mtime as i64));
            prop_assert_eq!(&entry.link, s.link.as_bytes());
            prop_assert_eq!(data, &s.data);
        }
        prop_assert_eq!(parse(&bytes, &[]).unwrap(), found);
    }

    #[test]
    fn garbage_never_panics(bytes in vec(any::<u8>(), 0..3000), cuts in vec(any::<usize>(), 0..10)) {
        // An archive begins with a header or with zeros; whatever else it is, it is not taken for one.
        if bytes.iter().any(|b| *b != 0) && bytes.len() >= 512 {
            prop_assert!(parse(&bytes, &cuts).is_err());
        } else {
            let _ = parse(&bytes, &cuts);
        }
    }

    #[test]
    fn a_damaged_archive_is_understood_or_refused_but_never_more_than_was_there(
        samples in vec(sample(), 1..4),
        damage in vec((any::<usize>(), any::<u8>()), 1..6),
        cuts in vec(any::<usize>(), 0..5),
    ) {
        let mut bytes = write(&samples);
        for (at, value) in damage {
            let at = at % bytes.len();
            bytes[at] = value;
            // Half of the damage is covered up, or nothing behind the checksum would ever be tried.
            if value % 2 == 0 {
                restore_checksum(&mut bytes, at / 512 * 512);
            }
        }
        if let Ok(found) = parse(&bytes, &cuts) {
            prop_assert!(found.iter().map(|(_, data)| data.len()).sum::<usize>() < bytes.len());
        }
    }

    #[test]
    fn an_archive_that_is_cut_short_is_refused(samples in vec(sample(), 1..4), at in any::<usize>()) {
        let bytes = write(&samples);
        let at = at % (bytes.len() - 512);
        prop_assert_eq!(parse(&bytes[..at], &[]).unwrap_err(), ArchiveError::CutShort);
    }
}

fn restore_checksum(bytes: &mut [u8], block: usize) {
    if let Some(block) = bytes.get_mut(block..block + 512) {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

/// An archive with a pax entry in front of an ordinary one.
fn with_pax(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    builder
        .append_pax_extensions(records.iter().copied())
        .unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_size(3);
    header.set_mode(0o600);
    builder
        .append_data(&mut header, "short", &b"abc"[..])
        .unwrap();
    builder.into_inner().unwrap()
}

#[test]
fn pax_records_win_over_the_header() {
    let bytes = with_pax(&[
        ("path", b"l\xc3\xb6ng/name"),
        ("mtime", b"5.25"),
        ("uid", b"70000"),
        ("SCHILY.xattr.x", b"\0\n"),
    ]);
    let (entry, data) = parse(&bytes, &[]).unwrap().remove(0);
    assert_eq!(entry.path, "löng/name".as_bytes());
    assert_eq!(
        (entry.mtime, entry.mtime_nsec, entry.uid),
        (5, 250_000_000, 70_000)
    );
    assert_eq!(data, b"abc");
}

#[test]
fn names_and_sizes_that_cannot_be_are_refused() {
    let long = vec![b'a'; MAX_NAME + 1];
    assert!(matches!(
        parse(&with_pax(&[("path", &long)]), &[]),
        Err(ArchiveError::TooLong { what: "a name", .. })
    ));
    assert_eq!(
        parse(&with_pax(&[("path", b"a\0b")]), &[]),
        Err(ArchiveError::Pax)
    );
    assert_eq!(
        parse(&with_pax(&[("size", b"99999999999999999999")]), &[]),
        Err(ArchiveError::Number("size"))
    );
    assert_eq!(
        parse(&with_pax(&[("size", b"18446744073709551615")]), &[]),
        Err(ArchiveError::Number("size"))
    );
    assert_eq!(
        parse(&with_pax(&[("GNU.sparse.major", b"1")]), &[]),
        Err(ArchiveError::Kind(b'S'))
    );
    assert_eq!(
        parse(&with_pax(&[("path", b"")]), &[]),
        Err(ArchiveError::NoName)
    );
}

#[test]
fn a_long_name_that_claims_to_be_endless_takes_no_memory() {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNULongName);
    header.set_size(u64::MAX / 4);
    header.set_cksum();
    assert!(matches!(
        parse(header.as_bytes(), &[]),
        Err(ArchiveError::TooLong { .. })
    ));
}

/// A special header of this type and its content.
fn special(kind: tar::EntryType, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// Each header alone is within its bound; together they are not gathered for ever.
#[test]
fn extension_headers_without_an_entry_are_bounded_together() {
    let value = vec![b'v'; 60 << 10];
    let record = [b" SCHILY.xattr.user.a=", &value[..], b"\n"].concat();
    let record = [(record.len() + 5).to_string().as_bytes(), &record].concat();
    for (header, most) in [
        (special(tar::EntryType::XHeader, &record), 20),
        (special(tar::EntryType::GNULongName, b"name\0"), 2_500),
        (special(tar::EntryType::XHeader, b""), 2_500),
    ] {
        let mut parser = Parser::default().keeping_xattrs();
        let mut passed = 0;
        let error = loop {
            match parser.next(&mut &header[..]) {
                Ok(item) => assert_eq!(item, None),
                Err(error) => break error,
            }
            passed += 1;
            assert!(passed < most, "never refused");
        };
        assert!(
            matches!(&error, ArchiveError::TooLong { limit, .. } if *limit == MAX_EXTENSIONS),
            "{error}"
        );
    }
}

#[test]
fn extended_attributes_are_kept_when_they_are_wanted() {
    let bytes = with_pax(&[("SCHILY.xattr.user.a", b"\0\n"), ("comment", b"none")]);
    let (entry, _) = parse(&bytes, &[]).unwrap().remove(0);
    assert_eq!(entry.xattrs, []);
    let mut reader = Reader::with_parser(&bytes[..], Parser::default().keeping_xattrs());
    let entry = reader.next_entry().unwrap().unwrap();
    assert_eq!(entry.xattrs, [(b"user.a".to_vec(), b"\0\n".to_vec())]);
}

/// Gives one byte at a time.
struct Slow<'a>(&'a [u8]);

impl Read for Slow<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let n = self.0.len().min(out.len()).min(1);
        out[..n].copy_from_slice(&self.0[..n]);
        self.0 = &self.0[n..];
        Ok(n)
    }
}

#[test]
fn a_reader_gives_what_the_parser_gives_and_skips_what_is_not_read() {
    let mut bytes = with_pax(&[("path", b"one")]);
    let two = with_pax(&[("path", b"two")]);
    bytes.truncate(bytes.len() - 1024);
    bytes.extend(two);
    bytes.extend(b"what follows the end");
    for skip in [false, true] {
        let mut reader = Reader::new(Slow(&bytes));
        let mut found = Vec::new();
        while let Some(entry) = reader.next_entry().unwrap() {
            let mut content = String::new();
            if !(skip && found.is_empty()) {
                reader.content().read_to_string(&mut content).unwrap();
            }
            found.push((String::from_utf8(entry.path).unwrap(), content));
        }
        let first = if skip { "" } else { "abc" };
        assert_eq!(
            found,
            [("one".into(), first.into()), ("two".into(), "abc".into())]
        );
        reader.drain().unwrap();
    }
}

#[test]
fn a_reader_tells_a_cut_entry_from_a_missing_end() {
    let bytes = with_pax(&[("path", b"one")]);
    let without_end = &bytes[..bytes.len() - 1024];
    let mut reader = Reader::new(without_end);
    assert!(reader.next_entry().unwrap().is_some());
    assert!(reader.next_entry().unwrap().is_none());
    for cut in [100, 512, 700, 1024, 1500, without_end.len() - 1] {
        let mut reader = Reader::new(&bytes[..cut]);
        let read = reader.next_entry().and_then(|_| reader.next_entry());
        let error = read.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof, "{cut}");
    }
}
