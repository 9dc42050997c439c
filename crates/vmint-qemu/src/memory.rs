//! Which pages of a running fork differ from the file that its memory was mapped from, and reading and writing them.
//!
//! A fork maps its RAM privately: a page that the guest wrote is anonymous memory now, all others are still the
//! file's. The kernel tells them apart, by `PAGEMAP_SCAN` (Linux 6.7) in one call that skips what was never touched, or
//! by `/proc/PID/pagemap`, eight bytes for every page of the guest.
//!
//! A *delta* is those pages as a file: a header, the runs, the pages.
//!
//! ```text
//! "VMINTDL1" | number of runs: u64 | (offset in RAM: u64, length: u64) for each run | zeros up to 4096 | the bytes
//! ```

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// Size of a page in bytes: the unit of pagemap on all processors that are supported.
pub const PAGE: u64 = 4096;
const MAGIC: [u8; 8] = *b"VMINTDL1";
/// More runs than pages in 1 TiB are no delta.
const MAX_RUNS: u64 = 1 << 28;

/// A piece of a process's address space that maps a piece of the RAM file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mapping {
    start: u64,
    end: u64,
    /// Offset of `start` in the file.
    offset: u64,
}

/// A run of changed bytes: offset in guest memory, and length. Whole pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Offset in the RAM file.
    pub offset: u64,
    /// Length in bytes.
    pub len: u64,
}

/// How changed pages were found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `PAGEMAP_SCAN`.
    Scan,
    /// Reading `/proc/PID/pagemap`.
    Pagemap,
}

/// A process's mapping of its guest's RAM.
#[derive(Debug)]
pub struct GuestMemory {
    pid: libc::pid_t,
    mem: File,
    pagemap: File,
    mappings: Vec<Mapping>,
}

impl GuestMemory {
    /// Finds where process `pid` maps `ram`.
    pub fn of(pid: u32, ram: &Path) -> io::Result<Self> {
        let meta = std::fs::metadata(ram)?;
        let (dev, inode) = (meta.dev(), meta.ino());
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"))?;
        let mappings: Vec<_> = maps
            .lines()
            .filter_map(|line| mapping(line, dev, inode))
            .collect();
        if mappings.is_empty() {
            let message = format!("process {pid} does not map {}", ram.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, message));
        }
        // To read it. A runner may write to nothing in `/proc`, where root could set the host's kernel.
        let mem = File::open(format!("/proc/{pid}/mem"))?;
        let pagemap = File::open(format!("/proc/{pid}/pagemap"))?;
        Ok(Self {
            pid: pid.cast_signed(),
            mem,
            pagemap,
            mappings,
        })
    }

    /// The changed runs, in order, and how they were found. The guest must stand still.
    pub fn changed(&self) -> io::Result<(Vec<Run>, Method)> {
        match self.changed_by(Method::Scan) {
            // ENOTTY: the kernel is older than 6.7. EINVAL: a category that it does not know.
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOTTY | libc::EINVAL)) => {
                Ok((self.changed_by(Method::Pagemap)?, Method::Pagemap))
            }
            other => other.map(|runs| (runs, Method::Scan)),
        }
    }

    /// As [`changed`](Self::changed), by one method.
    pub fn changed_by(&self, method: Method) -> io::Result<Vec<Run>> {
        let mut runs = Vec::new();
        for m in &self.mappings {
            let push = |start: u64, end: u64| {
                runs.push(Run {
                    offset: m.offset + (start - m.start),
                    len: end - start,
                });
            };
            match method {
                Method::Scan => scan(self.pagemap.as_fd(), m.start, m.end, push)?,
                Method::Pagemap => read_pagemap(&self.pagemap, m.start, m.end, push)?,
            }
        }
        runs.sort_unstable_by_key(|run| run.offset);
        Ok(runs)
    }

    /// Writes a delta of `runs` to `out` and returns its size.
    pub fn save(&self, runs: &[Run], out: &mut File) -> io::Result<u64> {
        let mut head = Vec::with_capacity(PAGE as usize + runs.len() * 16);
        head.extend_from_slice(&MAGIC);
        head.extend_from_slice(&(runs.len() as u64).to_le_bytes());
        for run in runs {
            head.extend_from_slice(&run.offset.to_le_bytes());
            head.extend_from_slice(&run.len.to_le_bytes());
        }
        head.resize(head.len().next_multiple_of(PAGE as usize), 0);
        out.write_all(&head)?;
        let mut size = head.len() as u64;
        let mut buffer = Vec::with_capacity(1 << 20);
        for run in runs {
            let mut done = 0;
            while done < run.len {
                if buffer.len() == buffer.capacity() {
                    out.write_all(&buffer)?;
                    buffer.clear();
                }
                let n = (run.len - done).min((buffer.capacity() - buffer.len()) as u64);
                let at = buffer.len();
                buffer.resize(at + n as usize, 0);
                self.mem
                    .read_exact_at(&mut buffer[at..], self.address(run.offset + done)?)?;
                done += n;
            }
            size += run.len;
        }
        out.write_all(&buffer)?;
        Ok(size)
    }

    /// Writes the delta in `file` into the process's memory.
    pub fn load(&self, file: &mut File) -> io::Result<()> {
        let runs = read_runs(file)?;
        let mut buffer = vec![0; 1 << 20];
        for run in runs {
            let mut done = 0;
            while done < run.len {
                let n = (run.len - done).min(buffer.len() as u64) as usize;
                file.read_exact(&mut buffer[..n])?;
                write(self.pid, self.address(run.offset + done)?, &buffer[..n])?;
                done += n as u64;
            }
        }
        Ok(())
    }

    fn address(&self, offset: u64) -> io::Result<u64> {
        let inside = |m: &&Mapping| offset >= m.offset && offset < m.offset + (m.end - m.start);
        let outside = || {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{offset:#x} is outside of the guest's memory"),
            )
        };
        self.mappings
            .iter()
            .find(inside)
            .map(|m| m.start + (offset - m.offset))
            .ok_or_else(outside)
    }
}

/// Writes into another process's memory.
pub(crate) fn write(pid: libc::pid_t, mut address: u64, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let local = libc::iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        };
        let remote = libc::iovec {
            iov_base: address as *mut libc::c_void,
            iov_len: bytes.len(),
        };
        // SAFETY: `local` is all of `bytes`, which are only read; `remote` is an address in the other process, which the kernel
        // checks there.
        let written =
            unsafe { libc::process_vm_writev(pid, &raw const local, 1, &raw const remote, 1, 0) };
        match usize::try_from(written) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                bytes = &bytes[n..];
                address += n as u64;
            }
            Err(_) => return Err(io::Error::last_os_error()),
        }
    }
    Ok(())
}

/// Reads and checks a delta's header; leaves `file` at its bytes.
fn read_runs(file: &mut File) -> io::Result<Vec<Run>> {
    let bad =
        |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("not a delta: {what}"));
    file.rewind()?;
    let mut head = [0; 16];
    file.read_exact(&mut head)?;
    if head[..8] != MAGIC {
        return Err(bad("wrong magic"));
    }
    let count = u64::from_le_bytes(head[8..].try_into().expect("eight bytes"));
    if count > MAX_RUNS || count * 16 > file.metadata()?.len() {
        return Err(bad("too many runs"));
    }
    let mut raw = vec![0; count as usize * 16];
    file.read_exact(&mut raw)?;
    let word = |c: &[u8]| u64::from_le_bytes(c.try_into().expect("eight bytes"));
    let runs: Vec<Run> = raw
        .chunks_exact(16)
        .map(|c| Run {
            offset: word(&c[..8]),
            len: word(&c[8..]),
        })
        .collect();
    let data = (16 + count * 16).next_multiple_of(PAGE);
    let sum = runs
        .iter()
        .try_fold(0u64, |sum, run| sum.checked_add(run.len));
    if sum.and_then(|sum| sum.checked_add(data)) != Some(file.metadata()?.len()) {
        return Err(bad("its size does not fit its runs"));
    }
    file.seek(io::SeekFrom::Start(data))?;
    Ok(runs)
}

/// Reads a line of `/proc/PID/maps`; by device and inode, since names can be anything.
fn mapping(line: &str, dev: u64, inode: u64) -> Option<Mapping> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let offset = fields.nth(1)?;
    let (major, minor) = fields.next()?.split_once(':')?;
    let hex = |s: &str| u64::from_str_radix(s, 16).ok();
    let found = rustix::fs::makedev(hex(major)? as u32, hex(minor)? as u32);
    if fields.next()?.parse() != Ok(inode) || found != dev {
        return None;
    }
    Some(Mapping {
        start: hex(start)?,
        end: hex(end)?,
        offset: hex(offset)?,
    })
}

/// `struct pm_scan_arg` of `linux/fs.h`.
#[repr(C)]
#[derive(Default)]
struct ScanArg {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// `struct page_region` of `linux/fs.h`.
#[repr(C)]
#[derive(Clone, Default)]
struct Region {
    start: u64,
    end: u64,
    categories: u64,
}

const PAGEMAP_SCAN: libc::Ioctl = 0xC060_6610u32 as libc::Ioctl;
const PAGE_IS_FILE: u64 = 1 << 2;
const PAGE_IS_PRESENT: u64 = 1 << 3;
const PAGE_IS_SWAPPED: u64 = 1 << 4;

fn scan(
    pagemap: BorrowedFd<'_>,
    start: u64,
    end: u64,
    mut push: impl FnMut(u64, u64),
) -> io::Result<()> {
    let mut regions = vec![Region::default(); 4096];
    let mut at = start;
    while at < end {
        // Not of the file, and present or swapped: anonymous, so written by the guest.
        let mut arg = ScanArg {
            size: size_of::<ScanArg>() as u64,
            start: at,
            end,
            vec: regions.as_mut_ptr() as u64,
            vec_len: regions.len() as u64,
            category_inverted: PAGE_IS_FILE,
            category_mask: PAGE_IS_FILE,
            category_anyof_mask: PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
            return_mask: PAGE_IS_PRESENT,
            ..ScanArg::default()
        };
        // SAFETY: `arg` is the structure that the call expects and lives through it; `vec` points to `vec_len` regions
        // that live as long and that nothing else refers to meanwhile.
        let n = unsafe { libc::ioctl(pagemap.as_raw_fd(), PAGEMAP_SCAN, &raw mut arg) };
        if n < 0 {
            return Err(io::Error::last_os_error());
        }
        // Categories are returned by presence, so a run may come in two pieces.
        let mut open: Option<(u64, u64)> = None;
        for region in &regions[..n as usize] {
            open = match open {
                Some((s, e)) if e == region.start => Some((s, region.end)),
                other => {
                    if let Some((s, e)) = other {
                        push(s, e);
                    }
                    Some((region.start, region.end))
                }
            };
        }
        if let Some((s, e)) = open {
            push(s, e);
        }
        if arg.walk_end <= at {
            return Err(io::Error::other("PAGEMAP_SCAN made no progress"));
        }
        at = arg.walk_end;
    }
    Ok(())
}

fn read_pagemap(
    pagemap: &File,
    start: u64,
    end: u64,
    mut push: impl FnMut(u64, u64),
) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    let (mut at, mut open) = (start, None);
    while at < end {
        let n = (((end - at) / PAGE * 8) as usize).min(buffer.len());
        pagemap.read_exact_at(&mut buffer[..n], at / PAGE * 8)?;
        for entry in buffer[..n].chunks_exact(8) {
            let entry = u64::from_le_bytes(entry.try_into().expect("eight bytes"));
            let (present, swapped, of_file) = (
                entry >> 63 & 1 == 1,
                entry >> 62 & 1 == 1,
                entry >> 61 & 1 == 1,
            );
            match (present && !of_file || swapped, open) {
                (true, None) => open = Some(at),
                (false, Some(from)) => {
                    push(from, at);
                    open = None;
                }
                _ => {}
            }
            at += PAGE;
        }
    }
    if let Some(from) = open {
        push(from, end);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use std::ptr::NonNull;

    /// A private mapping of a file in this very process.
    struct Private {
        base: NonNull<u8>,
        len: usize,
    }

    impl Private {
        fn map(file: &File, len: usize) -> Self {
            // SAFETY: a new private mapping of a file that is at least as long; nothing else refers to it.
            let base = unsafe {
                libc::mmap(
                    std::ptr::null_mut(),
                    len,
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_PRIVATE | libc::MAP_NORESERVE,
                    file.as_raw_fd(),
                    0,
                )
            };
            assert_ne!(base, libc::MAP_FAILED);
            Self {
                base: NonNull::new(base.cast()).unwrap(),
                len,
            }
        }

        fn bytes(&mut self) -> &mut [u8] {
            // SAFETY: the mapping is `len` bytes long, readable and writable, and borrowed mutably through `self`.
            unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), self.len) }
        }
    }

    impl Drop for Private {
        fn drop(&mut self) {
            // SAFETY: unmaps what `map` mapped; no borrow of it can be left.
            unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
        }
    }

    fn ram(len: u64) -> (tempdir::Dir, File) {
        let dir = tempdir::Dir::new();
        let file = File::options()
            .create_new(true)
            .read(true)
            .write(true)
            .open(dir.path().join("a ram\nfile"))
            .unwrap();
        file.set_len(len).unwrap();
        (dir, file)
    }

    mod tempdir {
        use std::path::{Path, PathBuf};

        pub(super) struct Dir(PathBuf);

        impl Dir {
            pub(super) fn new() -> Self {
                static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
                let n = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let path =
                    std::env::temp_dir().join(format!("vmint-memory-{}-{n}", std::process::id()));
                std::fs::create_dir(&path).unwrap();
                Self(path)
            }

            pub(super) fn path(&self) -> &Path {
                &self.0
            }
        }

        impl Drop for Dir {
            fn drop(&mut self) {
                let _ = std::fs::remove_dir_all(&self.0);
            }
        }
    }

    #[test]
    fn both_methods_find_exactly_the_pages_that_were_written() {
        let (dir, file) = ram(64 << 20);
        let mut map = Private::map(&file, 64 << 20);
        let page = PAGE as usize;
        // Reading brings a page in from the file and must not count.
        assert_eq!(map.bytes()[page * 7], 0);
        for n in [1usize, 2, 3, 100, 16_383] {
            map.bytes()[page * n] = 1;
        }
        let memory = GuestMemory::of(std::process::id(), &dir.path().join("a ram\nfile")).unwrap();
        let run = |first: u64, pages: u64| Run {
            offset: first * PAGE,
            len: pages * PAGE,
        };
        let expected = vec![run(1, 3), run(100, 1), run(16_383, 1)];
        assert_eq!(memory.changed_by(Method::Pagemap).unwrap(), expected);
        let (runs, _method) = memory.changed().unwrap();
        assert_eq!(runs, expected);
    }

    #[test]
    fn a_delta_brings_another_mapping_to_the_same_content() {
        let (dir, file) = ram(8 << 20);
        let path = dir.path().join("a ram\nfile");
        let mut delta = File::options()
            .create_new(true)
            .read(true)
            .write(true)
            .open(dir.path().join("delta"))
            .unwrap();
        let want = {
            let mut map = Private::map(&file, 8 << 20);
            for (n, byte) in map.bytes()[3 << 20..6 << 20].iter_mut().enumerate() {
                *byte = (n % 251) as u8;
            }
            let memory = GuestMemory::of(std::process::id(), &path).unwrap();
            let runs = memory.changed().unwrap().0;
            let size = memory.save(&runs, &mut delta).unwrap();
            assert_eq!(size, delta.metadata().unwrap().len());
            map.bytes().to_vec()
        };
        let mut map = Private::map(&file, 8 << 20);
        assert_ne!(map.bytes(), want);
        GuestMemory::of(std::process::id(), &path)
            .unwrap()
            .load(&mut delta)
            .unwrap();
        assert_eq!(map.bytes(), want);
        // The file itself was never written.
        let mut content = Vec::new();
        File::open(&path)
            .unwrap()
            .read_to_end(&mut content)
            .unwrap();
        assert!(content.iter().all(|&b| b == 0));
    }

    #[test]
    fn a_damaged_delta_is_refused_before_a_byte_is_written() {
        let (dir, _file) = ram(1 << 20);
        let path = dir.path().join("delta");
        let mut delta = File::options()
            .create_new(true)
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        for damage in [
            &b"VMINTDL0"[..],
            &MAGIC[..],
            &[MAGIC, [0xff; 8]].concat(),
            &[0; 5000],
        ] {
            delta.set_len(0).unwrap();
            delta.rewind().unwrap();
            delta.write_all(damage).unwrap();
            assert!(read_runs(&mut delta).is_err(), "{damage:?}");
        }
    }
}
