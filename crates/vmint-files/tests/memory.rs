//! Archives that flood: whatever comes, the unpacker's memory stays small. Each byte is counted as it is allocated.

mod common;

use common::*;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use vmint_files::{Options, UnpackError, Unpacker};

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

/// Pushes `first`, then `rest` again and again; gives the most memory held meanwhile, and how it ended.
fn flood(first: &[u8], rest: &[u8], times: usize) -> (usize, Result<(), UnpackError>) {
    let place = place();
    let mut unpacker = Unpacker::new(open(&place.target), Options::default());
    let before = NOW.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    let pushed = unpacker
        .push(first)
        .and_then(|()| (0..times).try_for_each(|_| unpacker.push(rest)));
    (MOST.load(Ordering::Relaxed) - before, pushed)
}

const MIB: usize = 1 << 20;

#[test]
fn a_name_of_6_gib_is_refused_by_its_header() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let name = header(b"././@LongLink", b'L', 0o644, b"", 6 << 30);
    let (most, pushed) = flood(&name, &vec![0; 65536], 100);
    assert!(matches!(pushed, Err(UnpackError::Archive(_))));
    assert!(most < MIB, "{most} bytes");
}

#[test]
fn headers_without_an_end_are_refused() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let record = [
        &b"61460 SCHILY.xattr.user.a="[..],
        &vec![b'v'; 61433],
        b"\n",
    ]
    .concat();
    let mut pax = header(b"pax", b'x', 0, b"", record.len() as u64);
    pax.extend(&record);
    pax.resize(pax.len().next_multiple_of(512), 0);
    let mut name = header(b"long", b'L', 0, b"", 4096);
    name.extend([b'n'; 4096]);
    for header in [pax, name] {
        let (most, pushed) = flood(b"", &header, 1 << 16);
        assert!(matches!(pushed, Err(UnpackError::Archive(_))));
        assert!(most < 2 * MIB, "{most} bytes");
    }
}

#[test]
fn the_largest_records_and_the_longest_map_are_bounded() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let value = vec![b'v'; (1 << 20) - 40];
    let record = [&b"1048560 SCHILY.xattr.user.a="[..], &value].concat();
    let record = [&record[..1_048_559], b"\n"].concat();
    let mut pax = header(b"pax", b'x', 0, b"", record.len() as u64);
    pax.extend(&record);
    pax.resize(pax.len().next_multiple_of(512), 0);
    pax.extend(header(b"f", FILE, 0o644, b"", 0));
    // The value is longer than the kernel takes, and counted.
    let (most, pushed) = flood(b"", &pax, 20);
    assert!(pushed.is_ok(), "{pushed:?}");
    assert!(most < 3 * MIB, "{most} bytes");
    let mut sparse = header(b"f", b'S', 0o644, b"", 0);
    let mut more = vec![0; 512];
    for piece in more[..504].chunks_exact_mut(24) {
        piece.copy_from_slice(&[&b"00000000000"[..], &[0], b"00000000001", &[0]].concat());
    }
    more[504] = 1;
    sparse[386..482].copy_from_slice(&more[..96]);
    sparse[482] = 1;
    sparse[148..156].fill(b' ');
    let sum: u32 = sparse.iter().map(|&b| u32::from(b)).sum();
    sparse[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let (most, pushed) = flood(&sparse, &more, 1 << 16);
    assert!(matches!(pushed, Err(UnpackError::Archive(_))));
    assert!(most < 3 * MIB, "{most} bytes");
}

#[test]
fn what_is_skipped_is_counted_and_not_gathered() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let global = header(b"global", b'g', 0, b"", 0);
    let device = header(b"dev", CHAR, 0, b"", 0);
    for header in [global, device] {
        let (most, pushed) = flood(b"", &header.repeat(64), 256);
        assert!(pushed.is_ok());
        assert!(most < MIB, "{most} bytes");
    }
}

/// Folders in folders, as deep as a path can be, and again and again beside each other.
#[test]
fn folders_cost_memory_by_depth_and_not_by_number() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let deep: Vec<u8> = (1..1000)
        .flat_map(|depth| entry("d/".repeat(depth).as_bytes(), DIR, 0o755, b""))
        .collect();
    let (most, pushed) = flood(&deep, b"", 0);
    assert!(pushed.is_ok(), "{pushed:?}");
    assert!(most < MIB, "{most} bytes");
    let beside: Vec<u8> = (0..5000)
        .flat_map(|i| entry(format!("{i}/").as_bytes(), DIR, 0o755, b""))
        .collect();
    let (most, pushed) = flood(&beside, b"", 0);
    assert!(pushed.is_ok(), "{pushed:?}");
    assert!(most < MIB, "{most} bytes");
}
