//! Headers of entries, as vmint writes them.

use super::pax::{escaped, record};
use super::sparse::{self, Segment};
use super::{BLOCK, Entry, EntryKind};

/// What ends an archive: two blocks of zeros.
pub const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// The zeros that follow so many bytes of content.
pub fn padding(size: u64) -> usize {
    (BLOCK - (size % BLOCK as u64) as usize) % BLOCK
}

/// Appends the header of an entry, with one of pax records in front of it where its fields are too small. `size` bytes of
/// content follow if it is a file, and the [`padding`]. A folder's name gets a slash.
pub fn header(entry: &Entry, out: &mut Vec<u8>) {
    let named;
    let path = if entry.kind == EntryKind::Directory && !entry.path.ends_with(b"/") {
        named = [&entry.path[..], b"/"].concat();
        &named
    } else {
        &entry.path
    };
    let mut records = Vec::new();
    if path.len() > 100 {
        record(&mut records, b"path", path);
    }
    let size = match entry.kind {
        EntryKind::File => entry.size,
        _ => 0,
    };
    put(entry, path, size, records, out);
}

/// Appends the header of a file with holes, and its map. The pieces' content follows, one behind the other, in all
/// [`stored`](sparse::stored) bytes and their [`padding`]. The pieces are in order, apart, and within the file.
pub fn sparse_header(entry: &Entry, segments: &[Segment], out: &mut Vec<u8>) {
    // A last piece without content says where the file ends, should it end with a hole.
    let end = segments
        .last()
        .is_none_or(|last| last.offset + last.len < entry.size);
    let last = end.then_some(Segment {
        offset: entry.size,
        len: 0,
    });
    let mut map = format!("{}\n", segments.len() + usize::from(end)).into_bytes();
    for segment in segments.iter().chain(&last) {
        map.extend_from_slice(format!("{}\n{}\n", segment.offset, segment.len).as_bytes());
    }
    map.resize(map.len() + padding(map.len() as u64), 0);
    // Whoever does not know the format finds map and pieces under this name, and not under the file's.
    let name = entry.path.rsplit(|&b| b == b'/').next().unwrap_or_default();
    let made_up = [b"GNUSparseFile.0/", &name[..name.len().min(80)]].concat();
    let mut records = Vec::new();
    record(&mut records, b"GNU.sparse.major", b"1");
    record(&mut records, b"GNU.sparse.minor", b"0");
    record(&mut records, b"GNU.sparse.name", &entry.path);
    record(
        &mut records,
        b"GNU.sparse.realsize",
        entry.size.to_string().as_bytes(),
    );
    let size = map.len() as u64 + sparse::stored(segments);
    put(entry, &made_up, size, records, out);
    out.extend_from_slice(&map);
}

/// Appends a header block with what of `records` and of the entry needs one of pax records in front of it.
fn put(entry: &Entry, path: &[u8], size: u64, mut records: Vec<u8>, out: &mut Vec<u8>) {
    if entry.link.len() > 100 {
        record(&mut records, b"linkpath", &entry.link);
    }
    let (mtime, nanos) = (entry.mtime, entry.mtime_nsec);
    if nanos != 0 || !(0..1 << 33).contains(&mtime) {
        record(&mut records, b"mtime", pax_time(mtime, nanos).as_bytes());
    }
    for (key, value, limit) in [
        (&b"size"[..], size, 1 << 33),
        (b"uid", entry.uid.into(), 1 << 21),
        (b"gid", entry.gid.into(), 1 << 21),
    ] {
        if value >= limit {
            record(&mut records, key, value.to_string().as_bytes());
        }
    }
    for (name, value) in &entry.xattrs {
        let key = [b"SCHILY.xattr.", &escaped(name)[..]].concat();
        record(&mut records, &key, value);
    }
    if !records.is_empty() {
        let len = records.len() as u64;
        out.extend_from_slice(&block(entry, b"PaxHeader", b'x', len));
        out.extend_from_slice(&records);
        out.resize(out.len() + padding(len), 0);
    }
    let kind = match entry.kind {
        EntryKind::File => b'0',
        EntryKind::HardLink => b'1',
        EntryKind::Symlink => b'2',
        EntryKind::CharDevice => b'3',
        EntryKind::BlockDevice => b'4',
        EntryKind::Directory => b'5',
        EntryKind::Fifo => b'6',
    };
    out.extend_from_slice(&block(entry, path, kind, size));
}

fn pax_time(seconds: i64, nanos: u32) -> String {
    if seconds < 0 && nanos > 0 {
        // The fraction counts from the whole towards zero: half a second before 1970 is -0.5.
        let whole = i128::from(seconds) + 1;
        let sign = if whole == 0 { "-" } else { "" };
        return format!("{sign}{whole}.{:09}", 1_000_000_000 - nanos);
    }
    format!("{seconds}.{nanos:09}")
}

/// One ustar block. What does not fit a field is cut off there; a pax record has it whole.
fn block(entry: &Entry, path: &[u8], kind: u8, size: u64) -> [u8; BLOCK] {
    let mut out = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &path[..path.len().min(100)]);
    put(100, &octal::<7>((entry.mode & 0o7777).into()));
    put(108, &octal::<7>(entry.uid.into()));
    put(116, &octal::<7>(entry.gid.into()));
    put(124, &octal::<11>(size));
    put(136, &octal::<11>(u64::try_from(entry.mtime).unwrap_or(0)));
    put(148, b"        ");
    put(156, &[kind]);
    put(157, &entry.link[..entry.link.len().min(100)]);
    put(257, b"ustar\x0000");
    if matches!(kind, b'3' | b'4') {
        put(329, &octal::<7>(entry.device.0.into()));
        put(337, &octal::<7>(entry.device.1.into()));
    }
    let sum: u64 = out.iter().map(|b| u64::from(*b)).sum();
    out[148..154].copy_from_slice(&octal::<6>(sum));
    out[154] = 0;
    out
}

/// A number as so many octal digits; zero if it has more.
fn octal<const DIGITS: usize>(value: u64) -> [u8; DIGITS] {
    let value = if value < 1 << (3 * DIGITS) { value } else { 0 };
    std::array::from_fn(|at| b'0' + (value >> (3 * (DIGITS - 1 - at)) & 7) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_count_towards_zero() {
        assert_eq!(pax_time(5, 1), "5.000000001");
        assert_eq!(pax_time(-1, 750_000_000), "-0.250000000");
        assert_eq!(pax_time(-2, 500_000_000), "-1.500000000");
    }

    #[test]
    fn numbers_are_octal_digits_or_zero_where_they_do_not_fit() {
        assert_eq!(octal::<7>(0o755), *b"0000755");
        assert_eq!(octal::<7>((1 << 21) - 1), *b"7777777");
        assert_eq!(octal::<7>(1 << 21), *b"0000000");
    }
}
