//! Numbers as headers have them: octal, base 256, and decimal in pax records.

use super::{ArchiveError, BLOCK};

/// The checksum is the sum of all bytes, its own field taken as spaces; some old tars summed signed bytes.
pub(super) fn check_sum(block: &[u8; BLOCK]) -> Result<(), ArchiveError> {
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
pub(super) fn number(field: &[u8], what: &'static str) -> Result<u64, ArchiveError> {
    u64::try_from(signed(field, what)?).map_err(|_| ArchiveError::Number(what))
}

pub(super) fn signed(field: &[u8], what: &'static str) -> Result<i64, ArchiveError> {
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

pub(super) fn text(bytes: &[u8]) -> Result<&str, ArchiveError> {
    std::str::from_utf8(bytes).map_err(|_| ArchiveError::Pax)
}

pub(super) fn decimal<T: std::str::FromStr>(
    value: &[u8],
    what: &'static str,
) -> Result<T, ArchiveError> {
    text(value)?.parse().map_err(|_| ArchiveError::Number(what))
}

/// Seconds with an optional fraction; negative ones round towards the past.
pub(super) fn pax_time(value: &[u8]) -> Result<(i64, u32), ArchiveError> {
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
