//! What a kernel module says about itself: the `.modinfo` section of its ELF file.

/// The `key=value` strings of a module's `.modinfo` section; none if it has no such section or is no ELF file.
pub(crate) fn modinfo(module: &[u8]) -> Vec<(String, String)> {
    let Some(section) = section(module, b".modinfo") else {
        return Vec::new();
    };
    let strings = section.split(|&b| b == 0).map(String::from_utf8_lossy);
    strings
        .filter_map(|s| s.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())))
        .collect()
}

/// A section's content, of a 64-bit little-endian ELF file.
fn section<'a>(file: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    if !file.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let number = |at: usize, len: usize| {
        let bytes = file.get(at..at.checked_add(len)?)?;
        usize::try_from(bytes.iter().rev().fold(0u64, |n, &b| n << 8 | u64::from(b))).ok()
    };
    let (headers, size, count, names) = (
        number(0x28, 8)?,
        number(0x3a, 2)?,
        number(0x3c, 2)?,
        number(0x3e, 2)?,
    );
    let header = |i: usize| headers.checked_add(i.checked_mul(size)?);
    let content = |i: usize| {
        let at = header(i)?;
        let (offset, len) = (
            number(at.checked_add(0x18)?, 8)?,
            number(at.checked_add(0x20)?, 8)?,
        );
        file.get(offset..offset.checked_add(len)?)
    };
    let names = content(names)?;
    (0..count).find_map(|i| {
        let its_name = names
            .get(number(header(i)?, 4)?..)?
            .split(|&b| b == 0)
            .next()?;
        if its_name == name { content(i) } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn garbage_has_no_modinfo() {
        for garbage in [&b""[..], b"\x7fELF", b"\x7fELF\x02\x01", &[0xff; 200]] {
            assert!(modinfo(garbage).is_empty());
        }
        // This test's own program has sections, but is no module.
        let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(section(&program, b".text").is_some());
        assert!(modinfo(&program).is_empty());
    }

    proptest! {
        #[test]
        fn no_header_makes_the_parser_panic(mut bytes in prop::collection::vec(any::<u8>(), 64..400)) {
            bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
            modinfo(&bytes);
        }
    }
}
