//! What is written is what is read; and what others write: files with holes in four formats, and what is no archive.

use proptest::collection::vec;
use proptest::prelude::*;
use vmint_protocol::archive::{
    self, ArchiveError, END, Entry, EntryKind, Item, MAX_SEGMENTS, Parser, Segment, header,
    padding, sparse_header,
};

/// An entry, its content with holes as zeros, and where the holes are.
type Whole = (Entry, Vec<u8>, Vec<(u64, u64)>);

/// Holes of up to this much are zeros here; longer ones are taken for it.
const SHOWN: u64 = 1 << 20;

fn parse(bytes: &[u8], piece: usize) -> Result<Vec<Whole>, ArchiveError> {
    let mut parser = Parser::default().keeping_xattrs().taking_holes();
    let mut found: Vec<Whole> = Vec::new();
    let mut len = 0;
    for mut piece in bytes.chunks(piece.max(1)) {
        while let Some(item) = parser.next(&mut piece)? {
            if let Item::Entry(entry) = item {
                len = 0;
                found.push((*entry, Vec::new(), Vec::new()));
                continue;
            }
            let Some((entry, content, holes)) = found.last_mut() else {
                assert_eq!(item, Item::End);
                continue;
            };
            match item {
                Item::Data(data) => {
                    assert!(!data.is_empty());
                    len += data.len() as u64;
                    content.extend_from_slice(data);
                }
                Item::Hole(hole) => {
                    assert!(hole > 0);
                    holes.push((len, hole));
                    len += hole;
                    content.resize(content.len() + hole.min(SHOWN) as usize, 0);
                }
                Item::Done => assert_eq!(entry.size, len),
                Item::Entry(_) | Item::End => {}
            }
        }
    }
    parser.finish()?;
    Ok(found)
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let part = vec(prop_oneof![1u8..b'/', b'0'..=255], 1..60);
    vec(part, 1..6).prop_map(|parts| parts.join(&b'/'))
}

fn entry() -> impl Strategy<Value = Entry> {
    let kind = prop_oneof![
        4 => Just(EntryKind::File),
        1 => Just(EntryKind::Directory),
        1 => Just(EntryKind::Symlink),
        1 => Just(EntryKind::HardLink),
        1 => Just(EntryKind::Fifo),
        1 => Just(EntryKind::CharDevice),
        1 => Just(EntryKind::BlockDevice),
    ];
    let xattr = (vec(1u8..=255, 1..40), vec(any::<u8>(), 0..200));
    let owner = (any::<u32>(), any::<u32>());
    let time = (any::<i64>(), 0u32..1_000_000_000);
    (
        (name(), name()),
        kind,
        0u32..0o10000,
        owner,
        time,
        (0u32..1 << 21, 0u32..1 << 21),
        vec(xattr, 0..3),
    )
        .prop_map(|((path, link), kind, mode, owner, time, device, xattrs)| {
            let is_link = matches!(kind, EntryKind::Symlink | EntryKind::HardLink);
            let is_device = matches!(kind, EntryKind::CharDevice | EntryKind::BlockDevice);
            Entry {
                path,
                kind,
                mode,
                uid: owner.0,
                gid: owner.1,
                size: 0,
                mtime: time.0.max(i64::MIN + 1),
                mtime_nsec: time.1,
                link: if is_link { link } else { Vec::new() },
                device: if is_device { device } else { (0, 0) },
                xattrs,
            }
        })
}

/// A file's pieces, from lengths of holes and of content in turn.
fn pieces(lengths: &[(u16, u16)]) -> Vec<Segment> {
    let mut at = 0;
    let pieces = lengths.iter().map(|&(hole, len)| {
        let offset = at + u64::from(hole) + 1;
        let len = u64::from(len) % 2000 + 1;
        at = offset + len;
        Segment { offset, len }
    });
    pieces.collect()
}

proptest! {
    #[test]
    fn what_is_written_is_what_is_read(
        entries in vec((entry(), vec(any::<u8>(), 0..1500)), 0..6),
        piece in 1usize..5000,
    ) {
        let mut bytes = Vec::new();
        let mut written = Vec::new();
        for (mut entry, mut content) in entries {
            if entry.kind != EntryKind::File {
                content.clear();
            }
            entry.size = content.len() as u64;
            header(&entry, &mut bytes);
            bytes.extend(&content);
            bytes.resize(bytes.len() + padding(entry.size), 0);
            if entry.kind == EntryKind::Directory {
                entry.path.push(b'/');
            }
            written.push((entry, content, Vec::new()));
        }
        bytes.extend(END);
        prop_assert_eq!(parse(&bytes, piece).unwrap(), written);
    }

    #[test]
    fn a_file_with_holes_has_them_where_they_were(
        mut entry in entry(),
        lengths in vec(any::<(u16, u16)>(), 0..20),
        rest in any::<u16>(),
        piece in 1usize..5000,
    ) {
        let pieces = pieces(&lengths);
        entry.kind = EntryKind::File;
        (entry.link, entry.device) = (Vec::new(), (0, 0));
        entry.size = pieces.last().map_or(0, |p| p.offset + p.len) + u64::from(rest);
        let mut bytes = Vec::new();
        sparse_header(&entry, &pieces, &mut bytes);
        let stored = archive::stored(&pieces);
        bytes.extend(vec![7; stored as usize]);
        bytes.resize(bytes.len() + padding(stored), 0);
        bytes.extend(END);
        let found = parse(&bytes, piece).unwrap();
        prop_assert_eq!(found.len(), 1);
        prop_assert_eq!(&found[0].0, &entry);
        let mut content = vec![0; entry.size as usize];
        for piece in &pieces {
            content[piece.offset as usize..(piece.offset + piece.len) as usize].fill(7);
        }
        prop_assert_eq!(&found[0].1, &content);
        let holes: u64 = found[0].2.iter().map(|hole| hole.1).sum();
        prop_assert_eq!(holes + stored, entry.size);
    }

    #[test]
    fn a_damaged_map_is_refused_or_gives_no_more_than_was_there(
        lengths in vec(any::<(u16, u16)>(), 1..8),
        damage in vec((any::<usize>(), any::<u8>()), 1..6),
        piece in 1usize..2000,
    ) {
        let pieces = pieces(&lengths);
        let size = pieces.last().map_or(0, |p| p.offset + p.len);
        let entry = Entry { path: b"f".to_vec(), size, ..Entry::default() };
        let mut bytes = Vec::new();
        sparse_header(&entry, &pieces, &mut bytes);
        // All but the checksums: records, and the map.
        let end = bytes.len();
        for (at, value) in damage {
            let at = 512 + at % (end - 512);
            let digits = b"0123456789\n =";
            if !(1024..1536).contains(&at) {
                bytes[at] = digits[usize::from(value) % digits.len()];
            }
        }
        bytes.extend(vec![7; archive::stored(&pieces) as usize]);
        let len = bytes.len() + padding(archive::stored(&pieces));
        bytes.resize(len, 0);
        bytes.extend(END);
        if let Ok(found) = parse(&bytes, piece) {
            let content = |(_, content, holes): &Whole| {
                let zeros: u64 = holes.iter().map(|hole| hole.1.min(SHOWN)).sum();
                content.len() as u64 - zeros
            };
            prop_assert!(found.iter().map(content).sum::<u64>() <= bytes.len() as u64);
        }
    }

    #[test]
    fn garbage_in_front_of_a_map_never_panics(bytes in vec(any::<u8>(), 0..2000), kind in any::<bool>()) {
        let mut block = old(&[], 0, false);
        if kind {
            block[156] = b'S';
            block[386..482].copy_from_slice(&bytes.iter().copied().chain([0; 96]).take(96).collect::<Vec<_>>());
            sum(&mut block);
        }
        block.extend(&bytes);
        let _ = parse(&block, 700);
    }
}

fn sum(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block[..512].iter().map(|b| u32::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// A header of type `S`, of a file of this size with at most four pieces.
fn old(pieces: &[(u64, u64)], size: u64, more: bool) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..6].copy_from_slice(b"sparse");
    block[100..108].copy_from_slice(b"0000644\0");
    let stored: u64 = pieces.iter().map(|p| p.1).sum();
    block[124..136].copy_from_slice(format!("{stored:011o}\0").as_bytes());
    block[156] = b'S';
    block[257..265].copy_from_slice(b"ustar  \0");
    put(&mut block, 386, pieces);
    block[482] = u8::from(more);
    block[483..495].copy_from_slice(format!("{size:011o}\0").as_bytes());
    sum(&mut block);
    block
}

fn put(block: &mut [u8], from: usize, pieces: &[(u64, u64)]) {
    for (at, (offset, len)) in pieces.iter().enumerate() {
        let at = from + 24 * at;
        block[at..at + 24].copy_from_slice(format!("{offset:011o}\0{len:011o}\0").as_bytes());
    }
}

fn ended(mut bytes: Vec<u8>, content: &[u8]) -> Vec<u8> {
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes.extend(END);
    bytes
}

fn expected() -> Vec<u8> {
    let mut content = vec![0; 9000];
    content[1000..1003].copy_from_slice(b"abc");
    content[5000..5002].copy_from_slice(b"de");
    content
}

/// As GNU tar writes it with `--format=gnu --sparse`.
#[test]
fn the_oldest_format_has_its_map_in_the_header_and_in_blocks_behind_it() {
    let bytes = ended(
        old(&[(1000, 3), (5000, 2), (9000, 0)], 9000, false),
        b"abcde",
    );
    let found = parse(&bytes, 100).unwrap();
    assert_eq!((found[0].0.size, &found[0].1), (9000, &expected()));
    // The stored size is all there is: it counts what stands in the blocks behind, too.
    let mut first = old(&[(0, 1), (10, 1), (20, 1), (30, 1)], 300, true);
    first[124..136].copy_from_slice(b"00000000032\0");
    sum(&mut first);
    let mut more = vec![0; 512];
    let rest: Vec<_> = (4..25).map(|i| (10 * i, 1)).collect();
    put(&mut more, 0, &rest);
    more[504] = 1;
    let mut last = vec![0; 512];
    put(&mut last, 0, &[(250, 1), (300, 0)]);
    let bytes = ended([first, more, last].concat(), &[b'x'; 26]);
    let (entry, content, holes) = parse(&bytes, 333).unwrap().remove(0);
    assert_eq!((entry.size, content.len(), holes.len()), (300, 300, 26));
    assert!((0..300).all(|at| content[at] == if at % 10 == 0 && at <= 250 { b'x' } else { 0 }));
}

fn with_records(records: &[(&str, &str)], content: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let records = records.iter().map(|(key, value)| (*key, value.as_bytes()));
    builder.append_pax_extensions(records).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    builder
        .append_data(&mut header, "made-up", content)
        .unwrap();
    builder.into_inner().unwrap()
}

/// As GNU tar writes them with `--format=pax --sparse --sparse-version=0.0`, `0.1` and `1.0`.
#[test]
fn the_formats_of_pax_records_are_read() {
    let size = ("GNU.sparse.size", "9000");
    let pairs = with_records(
        &[
            size,
            ("GNU.sparse.numblocks", "2"),
            ("GNU.sparse.offset", "1000"),
            ("GNU.sparse.numbytes", "3"),
            ("GNU.sparse.offset", "5000"),
            ("GNU.sparse.numbytes", "2"),
        ],
        b"abcde",
    );
    let name = ("GNU.sparse.name", "the/name");
    let map = with_records(&[name, size, ("GNU.sparse.map", "1000,3,5000,2")], b"abcde");
    let mut content = b"3\n1000\n3\n5000\n2\n9000\n0\n".to_vec();
    content.resize(512, 0);
    content.extend(b"abcde");
    let version = [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0")];
    let real = ("GNU.sparse.realsize", "9000");
    let newest = with_records(&[version[0], version[1], name, real], &content);
    for (bytes, name) in [(pairs, "made-up"), (map, "the/name"), (newest, "the/name")] {
        for piece in [1, 513, 1 << 20] {
            let (entry, content, _) = parse(&bytes, piece).unwrap().remove(0);
            assert_eq!(entry.path, name.as_bytes());
            assert_eq!((entry.size, content), (9000, expected()), "{name}");
        }
        let mut parser = Parser::default();
        let refused = parser.next(&mut &bytes[..]).unwrap_err();
        assert_eq!(
            refused,
            ArchiveError::Kind(b'S'),
            "by a parser that takes none"
        );
    }
}

#[test]
fn maps_that_cannot_be_are_refused() {
    for (map, size) in [
        ("0,3,2,2", "9000"),
        ("5,3,0,2", "9000"),
        ("0,4", "9000"),
        ("0,6", "9000"),
        ("8999,5", "9000"),
        ("18446744073709551615,5", "9000"),
        ("0,5,7", "9000"),
        ("0,5", "9223372036854775808"),
    ] {
        let records = [("GNU.sparse.size", size), ("GNU.sparse.map", map)];
        let refused = parse(&with_records(&records, b"abcde"), 999);
        assert!(refused.is_err(), "{map} of {size}: {refused:?}");
    }
    let missing = parse(&with_records(&[("GNU.sparse.map", "0,5")], b"abcde"), 99);
    assert_eq!(missing, Err(ArchiveError::Sparse));
    let version = [("GNU.sparse.major", "1"), ("GNU.sparse.size", "9")];
    for map in ["x", "\n", "99999999999999999999999\n", "2\n0\n1\n", "-1\n"] {
        let refused = parse(&with_records(&version, map.as_bytes()), 99);
        assert_eq!(refused, Err(ArchiveError::Sparse), "{map:?}");
    }
}

/// A map that promises more pieces than are taken, and one that brings them, by any of the formats.
#[test]
fn a_map_without_an_end_takes_no_memory() {
    let version = [("GNU.sparse.major", "1"), ("GNU.sparse.size", "9")];
    let promise = with_records(&version, b"99999999\n0\n1\n");
    assert_eq!(parse(&promise, 512), Err(ArchiveError::Pieces));
    let mut parser = Parser::default().taking_holes();
    let mut header = old(&[(0, 1); 4], 1 << 32, true);
    let mut more = vec![0; 512];
    put(&mut more, 0, &[(0, 1); 21]);
    more[504] = 1;
    header.extend(&more);
    let mut passed = 0;
    let error = loop {
        match parser.next(&mut &header[..]) {
            Ok(item) => assert_eq!(item, None),
            Err(error) => break error,
        }
        header.clone_from(&more);
        passed += 1;
        assert!(passed < MAX_SEGMENTS, "never refused");
    };
    assert_eq!(error, ArchiveError::Pieces);
}

#[test]
fn what_is_no_tar_stream_is_told_by_its_name() {
    let foreign: [(&[u8], &str); 8] = [
        (b"\x1f\x8b\x08", "a gzip file"),
        (b"\x28\xb5\x2f\xfd", "a zstd file"),
        (b"\x52\x2a\x4d\x18", "a zstd file"),
        (b"\xfd7zXZ\0", "an xz file"),
        (b"BZh9", "a bzip2 file"),
        (b"\x04\x22\x4d\x18", "an lz4 file"),
        (b"PK\x03\x04", "a zip file"),
        (b"070701", "a cpio archive"),
    ];
    for (magic, what) in foreign {
        // Also one that is shorter than a block.
        for len in [magic.len(), 100, 5000] {
            let mut bytes = magic.to_vec();
            bytes.resize(len.max(magic.len()), 0x33);
            let error = parse(&bytes, 77).unwrap_err();
            assert!(error.to_string().contains(what), "{what}, {len}: {error}");
        }
    }
    assert_eq!(parse(&[0x33; 600], 77), Err(ArchiveError::Checksum));
    assert_eq!(parse(&[0x33; 60], 77), Err(ArchiveError::CutShort));
}

#[test]
fn one_block_of_zeros_ends_an_archive_and_a_volume_label_is_no_entry() {
    let mut label = vec![0; 512];
    label[..5].copy_from_slice(b"label");
    label[156] = b'V';
    sum(&mut label);
    let mut bytes = label;
    let entry = Entry {
        path: b"f".to_vec(),
        ..Entry::default()
    };
    header(&entry, &mut bytes);
    let without = bytes.clone();
    bytes.extend([0; 512]);
    for bytes in [bytes.clone(), ended(bytes, b"")] {
        let found = parse(&bytes, 512).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].0.path, b"f");
    }
    assert_eq!(parse(&without, 512), Err(ArchiveError::CutShort));
}
