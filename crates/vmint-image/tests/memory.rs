//! Archives that flood an import: whatever they claim and however far they unfold, its memory stays small. Each byte is
//! counted as it is allocated.

mod common;

use common::{assert_nothing_left, gzip, home, tar, xz};
use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use vmint_image::{ImportOptions, ImportSource, Silent};
use vmint_model::ByteSize;

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);
/// One test at a time, from its first byte: what another one makes would be counted too.
static ALONE: Mutex<()> = Mutex::new(());

// SAFETY: all is handed on to the system's allocator as it came; counting changes nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller's promises are those of this call.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const MIB: usize = 1 << 20;

/// Imports an archive that is refused; gives the most memory held meanwhile, and why.
fn flood(archive: &[u8]) -> (usize, String) {
    let (dir, store) = home();
    let path = dir.path().join("archive");
    fs::write(&path, archive).unwrap();
    let before = NOW.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    let mut told = Vec::new();
    for kind in ["", "oci-archive:"] {
        let source: ImportSource = format!("{kind}{}", path.display()).parse().unwrap();
        let options = ImportOptions {
            limit: ByteSize::mib(128),
            ..ImportOptions::default()
        };
        let error = store.import("x", &source, &options, &Silent).unwrap_err();
        let mut error: &dyn std::error::Error = &error;
        let mut text = error.to_string();
        while let Some(source) = error.source() {
            text = format!("{text}: {source}");
            error = source;
        }
        told.push(text);
    }
    assert_nothing_left(dir.path());
    (MOST.load(Ordering::Relaxed) - before, told.join("\n"))
}

/// The header of a special entry that claims to be this long.
fn special(kind: u8, size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_size(size);
    header.set_cksum();
    header.as_bytes().to_vec()
}

#[test]
fn a_header_that_claims_gigabytes_takes_no_memory() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for kind in [b'L', b'K', b'x'] {
        let mut bytes = special(kind, 6 << 30);
        bytes.extend(vec![0; 64 * MIB]);
        let (most, told) = flood(&gzip(&bytes));
        assert!(told.contains("over the limit"), "{told}");
        assert!(most < 4 * MIB, "{most} bytes: {told}");
    }
}

#[test]
fn extended_attributes_have_a_budget() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let value = vec![b'v'; 900 << 10];
    let mut archive = Vec::new();
    for i in 0..100 {
        let mut builder = tar::Builder::new(Vec::new());
        let records = [("SCHILY.xattr.user.a", &value[..])];
        builder.append_pax_extensions(records).unwrap();
        archive.extend(
            builder
                .into_inner()
                .unwrap()
                .split_last_chunk::<1024>()
                .unwrap()
                .0,
        );
        let file = tar(&[(&format!("{i}"), 0o644, b"")]);
        archive.extend(file.split_last_chunk::<1024>().unwrap().0);
    }
    let (most, told) = flood(&gzip(&archive));
    assert!(told.contains("extended attributes"), "{told}");
    assert!(most < 80 * MIB, "{most} bytes: {told}");
}

/// 192 MiB of zeros in a file, in some ten kilobytes, of which 128 MiB are taken.
#[test]
fn what_unfolds_is_not_gathered() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let zeros = vec![0; 192 * MIB];
    let archive = tar(&[("zeros", 0o644, &zeros)]);
    let compressed = xz(&archive);
    assert!(compressed.len() < MIB);
    let (most, told) = flood(&compressed);
    assert!(most < 16 * MIB, "{most} bytes: {told}");
    drop(archive);
    // zstd: a frame with a window of 1 MiB, and blocks that repeat one byte 128 KiB times, in 4 bytes each.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 10 << 3];
    for block in 0u32..1536 {
        let last = u32::from(block == 1535);
        let header = last | 1 << 1 | (128 << 10) << 3;
        frame.extend(&header.to_le_bytes()[..3]);
        frame.push(0);
    }
    let (most, told) = flood(&frame);
    assert!(most < 16 * MIB, "{most} bytes: {told}");
}

#[test]
fn a_window_or_dictionary_of_gigabytes_is_refused() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    // The largest dictionary of xz, in a block header made right again.
    let mut archive = xz(&tar(&[("a", 0o644, b"a")]));
    let size = (usize::from(archive[12]) + 1) * 4;
    assert_eq!(
        (archive[14], archive[15]),
        (0x21, 1),
        "LZMA2, one byte of properties"
    );
    archive[16] = 40;
    let mut crc = flate2::Crc::new();
    crc.update(&archive[12..12 + size - 4]);
    archive[12 + size - 4..12 + size].copy_from_slice(&crc.sum().to_le_bytes());
    let (most, told) = flood(&archive);
    assert!(told.contains("mem"), "{told}");
    assert!(most < 4 * MIB, "{most} bytes: {told}");
    // And a window of zstd of 2 GiB and of 3 TiB.
    for window in [21 << 3, 0xff] {
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0, window, 3, 0, 0, 0, 0];
        let (most, told) = flood(&frame);
        assert!(told.to_lowercase().contains("window"), "{told}");
        assert!(most < 4 * MIB, "{most} bytes: {told}");
    }
}
