//! Owners, modes, times and devices, put right in a finished ext4 file system.
//!
//! `mke2fs -d` copies a folder as it is on the host, and there everything belongs to whoever unpacked it. The usual remedy,
//! a script for debugfs, names files in lines of text: a name with a newline or a quote cannot be written in it. So the
//! inodes are written here, found by walking folder and file system side by side. The file system is made without
//! checksums of metadata, so that nothing else must follow. The layout is in the kernel's Documentation/filesystems/ext4.
//!
//! No time of this host is left in it: not of an inode, those that mke2fs makes for itself among them, and not of the file system.
//! What the tree does not say of a file's times, when its inode was changed, read or made, is when its content was changed.

use super::host::names;
use super::tree::{Attributes, Special, Tree};
use rustix::fs::{self as sys, AtFlags, FileType, Mode, OFlags};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

const ROOT_INODE: u32 = 2;
const EXTENTS: u32 = 0x8_0000;
/// Bytes of an inode that are read and written: up to the time of its making, with nanoseconds.
const INODE: usize = 0x98;
/// Where the superblock is in its block group.
const SUPERBLOCK: u64 = 1024;
/// An inode's times: where the seconds' lower half is, and where what is above it and the nanoseconds are.
const TIMES: [(usize, usize); 4] = [
    // Read, its inode changed, its content changed, made.
    (0x08, 0x8c),
    (0x0c, 0x84),
    (0x10, 0x88),
    (0x90, 0x94),
];
/// A superblock's times: mounted, written, checked, made.
const SUPERBLOCK_TIMES: [usize; 4] = [0x2c, 0x30, 0x40, 0x108];
/// The upper bytes of these, and how much was written to the file system.
const SUPERBLOCK_UPPER: std::ops::Range<usize> = 0x274..0x278;
const SUPERBLOCK_WRITTEN: std::ops::Range<usize> = 0x178..0x180;

/// An ext4 file system in a file.
struct Ext4 {
    file: File,
    block_size: u64,
    inodes_per_group: u32,
    inode_size: u64,
    /// Where each group's inode table starts, in bytes.
    tables: Vec<u64>,
    blocks_per_group: u64,
    /// The first inode that is not mke2fs's own; the folder `lost+found`.
    first_inode: u32,
}

/// An entry of a folder.
struct Entry {
    inode: u32,
    /// Where its kind is written, in bytes.
    kind_at: u64,
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("mke2fs made a file system that cannot be read: {what}"),
    )
}

fn le(bytes: &[u8], at: usize, len: usize) -> u64 {
    bytes[at..at + len]
        .iter()
        .rev()
        .fold(0, |n, &b| n << 8 | u64::from(b))
}

impl Ext4 {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().read(true).write(true).open(path)?;
        let mut sb = [0; 1024];
        file.read_exact_at(&mut sb, 1024)?;
        let (incompatible, read_only) = (le(&sb, 0x60, 4), le(&sb, 0x64, 4));
        if le(&sb, 0x38, 2) != 0xef53 {
            return Err(damaged("no superblock"));
        }
        // metadata_csum; and the group descriptors must all be in one place (no meta_bg).
        if read_only & 0x400 != 0 || incompatible & 0x10 != 0 {
            return Err(damaged("features that were not asked for"));
        }
        let block_size = 1024 << le(&sb, 0x18, 4);
        let blocks = le(&sb, 4, 4) | le(&sb, 0x150, 4) << 32;
        let wide = incompatible & 0x80 != 0;
        let descriptor = if wide { le(&sb, 0xfe, 2) } else { 32 };
        let groups = (blocks - le(&sb, 0x14, 4)).div_ceil(le(&sb, 0x20, 4));
        let start = (le(&sb, 0x14, 4) + 1) * block_size;
        let mut table = vec![0; (groups * descriptor) as usize];
        file.read_exact_at(&mut table, start)?;
        let tables = table.chunks(descriptor as usize).map(|d| {
            let high = if wide { le(d, 0x28, 4) << 32 } else { 0 };
            (le(d, 8, 4) | high) * block_size
        });
        let tables = tables.collect();
        Ok(Self {
            inodes_per_group: le(&sb, 0x28, 4) as u32,
            inode_size: le(&sb, 0x58, 2),
            blocks_per_group: le(&sb, 0x20, 4),
            first_inode: le(&sb, 0x54, 4) as u32,
            file,
            block_size,
            tables,
        })
    }

    fn inode_at(&self, inode: u32) -> io::Result<u64> {
        let index = inode.checked_sub(1).ok_or_else(|| damaged("inode 0"))?;
        let table = self
            .tables
            .get((index / self.inodes_per_group) as usize)
            .ok_or_else(|| damaged("an inode's number"))?;
        Ok(table + u64::from(index % self.inodes_per_group) * self.inode_size)
    }

    fn read_inode(&self, inode: u32) -> io::Result<[u8; INODE]> {
        let mut bytes = [0; INODE];
        self.file.read_exact_at(&mut bytes, self.inode_at(inode)?)?;
        Ok(bytes)
    }

    /// The blocks of a file, as byte positions in the order of its content.
    fn blocks(&self, node: &[u8], found: &mut Vec<u64>) -> io::Result<()> {
        if le(node, 0, 2) != 0xf30a {
            return Err(damaged("a folder without extents"));
        }
        let (entries, depth) = (le(node, 2, 2) as usize, le(node, 6, 2));
        for entry in node[12..].chunks_exact(12).take(entries) {
            if depth == 0 {
                let (len, start) = (le(entry, 4, 2), le(entry, 8, 4) | le(entry, 6, 2) << 32);
                found.extend((0..len).map(|i| (start + i) * self.block_size));
            } else {
                let mut below = vec![0; self.block_size as usize];
                let block = le(entry, 4, 4) | le(entry, 8, 2) << 32;
                self.file
                    .read_exact_at(&mut below, block * self.block_size)?;
                self.blocks(&below, found)?;
            }
        }
        Ok(())
    }

    fn entries(&self, folder: u32) -> io::Result<HashMap<Vec<u8>, Entry>> {
        let inode = self.read_inode(folder)?;
        let (mut blocks, mut entries) = (Vec::new(), HashMap::new());
        self.blocks(&inode[0x28..0x64], &mut blocks)?;
        let mut block = vec![0; self.block_size as usize];
        for start in blocks {
            self.file.read_exact_at(&mut block, start)?;
            let mut at = 0;
            while at + 8 <= block.len() {
                let (inode, len, name) = (
                    le(&block, at, 4) as u32,
                    le(&block, at + 4, 2) as usize,
                    block[at + 6] as usize,
                );
                if len < 8 || at + len > block.len() || 8 + name > len {
                    return Err(damaged("a folder's entry"));
                }
                if inode != 0 {
                    let kind_at = start + at as u64 + 7;
                    entries.insert(
                        block[at + 8..at + 8 + name].to_vec(),
                        Entry { inode, kind_at },
                    );
                }
                at += len;
            }
        }
        Ok(entries)
    }

    /// Gives the inodes that mke2fs makes for itself, and the superblock with its copies, this time.
    fn write_own_times(&self, seconds: i64) -> io::Result<()> {
        for inode in 1..=self.first_inode {
            let mut bytes = self.read_inode(inode)?;
            // One that was never used stays empty.
            if bytes.iter().any(|byte| *byte != 0) {
                set_times(&mut bytes, seconds);
                self.file.write_all_at(&bytes, self.inode_at(inode)?)?;
            }
        }
        // Not as in an inode: 40 bits without a sign.
        let seconds = seconds.clamp(0, (1 << 40) - 1);
        let (low, high) = (seconds as u32, (seconds >> 32) as u8);
        for group in 0..self.tables.len() as u64 {
            let at = match group {
                0 => SUPERBLOCK,
                _ => group * self.blocks_per_group * self.block_size,
            };
            let mut sb = [0; 1024];
            self.file.read_exact_at(&mut sb, at)?;
            if le(&sb, 0x38, 2) != 0xef53 || le(&sb, 0x5a, 2) != group {
                continue;
            }
            for at in SUPERBLOCK_TIMES {
                sb[at..at + 4].copy_from_slice(&low.to_le_bytes());
            }
            sb[SUPERBLOCK_UPPER].fill(high);
            sb[SUPERBLOCK_WRITTEN].fill(0);
            self.file.write_all_at(&sb, at)?;
        }
        Ok(())
    }

    fn write_attributes(&self, inode: u32, attributes: &Attributes) -> io::Result<()> {
        let at = self.inode_at(inode)?;
        let mut bytes = self.read_inode(inode)?;
        let mut kind = le(&bytes, 0, 2) as u16 & 0o170_000;
        set_times(&mut bytes, attributes.mtime.unwrap_or(0));
        if let Some(special) = attributes.special {
            // Only a file keeps the place of one. A folder's blocks would be lost.
            if kind != 0o100_000 {
                return Err(damaged("a device in the place of a folder"));
            }
            let (bits, device) = match special {
                Special::Fifo => (0o010_000, None),
                Special::Character { major, minor } => (0o020_000, Some((major, minor))),
                Special::Block { major, minor } => (0o060_000, Some((major, minor))),
            };
            kind = bits;
            let flags = le(&bytes, 0x20, 4) as u32 & !EXTENTS;
            bytes[0x20..0x24].copy_from_slice(&flags.to_le_bytes());
            bytes[0x28..0x64].fill(0);
            match device {
                Some((major, minor)) if major < 256 && minor < 256 => {
                    bytes[0x28..0x2c].copy_from_slice(&(major << 8 | minor).to_le_bytes());
                }
                Some((major, minor)) => {
                    let wide = minor & 0xff | major << 8 | (minor & !0xff) << 12;
                    bytes[0x2c..0x30].copy_from_slice(&wide.to_le_bytes());
                }
                None => {}
            }
        }
        let mode = kind | (attributes.mode & 0o7777) as u16;
        let (uid, gid) = (attributes.uid.to_le_bytes(), attributes.gid.to_le_bytes());
        bytes[0..2].copy_from_slice(&mode.to_le_bytes());
        bytes[2..4].copy_from_slice(&uid[..2]);
        bytes[0x18..0x1a].copy_from_slice(&gid[..2]);
        bytes[0x78..0x7a].copy_from_slice(&uid[2..]);
        bytes[0x7a..0x7c].copy_from_slice(&gid[2..]);
        self.file.write_all_at(&bytes, at)
    }
}

/// The lower 32 bits of a time in seconds, and the two above them, for the years 1901 to 2446.
fn halves(seconds: i64) -> (u32, u8) {
    let low = i64::from(i32::MIN);
    let seconds = seconds.clamp(low, low + (1 << 34) - 1);
    // The lower half is a signed number, and the upper one says how often 2^32 is added to it.
    let epoch = (seconds - i64::from(seconds as i32)) >> 32;
    (seconds as u32, epoch as u8)
}

/// Sets all times of an inode.
fn set_times(inode: &mut [u8; INODE], seconds: i64) {
    let (low, high) = halves(seconds);
    let extra = 0x80 + le(inode, 0x80, 2) as usize;
    for (at, above) in TIMES {
        // What is made for a file system of smaller inodes has no such fields.
        if at < 0x80 || at + 4 <= extra {
            inode[at..at + 4].copy_from_slice(&low.to_le_bytes());
        }
        if above + 4 <= extra {
            inode[above..above + 4].copy_from_slice(&u32::from(high).to_le_bytes());
        }
    }
}

/// Gives every file of the file system in `disk` the attributes that `tree` has for it, and all of it the tree's times.
pub(super) fn apply(disk: &Path, tree: &Tree) -> io::Result<()> {
    let ext4 = Ext4::open(disk)?;
    let root = sys::open(
        tree.path(),
        OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    // Before the walk: the tree may have a `lost+found`, whose attributes are its own.
    ext4.write_own_times(tree.newest())?;
    write(&ext4, tree, ROOT_INODE, sys::fstat(&root)?.st_ino)?;
    walk(&ext4, tree, ROOT_INODE, &root, &mut HashSet::new())?;
    ext4.file.sync_all()
}

fn write(ext4: &Ext4, tree: &Tree, inode: u32, host: u64) -> io::Result<()> {
    ext4.write_attributes(
        inode,
        tree.attributes_of(host)
            .ok_or_else(|| damaged("a file that nobody made"))?,
    )
}

fn walk(
    ext4: &Ext4,
    tree: &Tree,
    folder: u32,
    dir: &OwnedFd,
    done: &mut HashSet<u64>,
) -> io::Result<()> {
    let entries = ext4.entries(folder)?;
    for name in names(dir)? {
        let stat = sys::statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW)?;
        let entry = entries
            .get(name.as_bytes())
            .ok_or_else(|| damaged(&format!("no {}", name.display())))?;
        let special = tree.attributes_of(stat.st_ino).and_then(|a| a.special);
        if let Some(special) = special {
            let kind = match special {
                Special::Character { .. } => 3,
                Special::Block { .. } => 4,
                Special::Fifo => 5,
            };
            ext4.file.write_all_at(&[kind], entry.kind_at)?;
        }
        // Once for a file of many names.
        if done.insert(stat.st_ino) {
            write(ext4, tree, entry.inode, stat.st_ino)?;
        }
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let below = sys::openat(
                dir,
                &name,
                OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::empty(),
            )?;
            walk(ext4, tree, entry.inode, &below, done)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_the_kernel_reads_it() {
        // ext4_decode_extra_time: the lower half as a signed number, and the upper one times 2^32.
        let read = |(low, high): (u32, u8)| i64::from(low as i32) + (i64::from(high) << 32);
        for seconds in [
            0,
            1,
            -1,
            1 << 31,
            (1 << 31) - 1,
            1 << 32,
            5_000_000_000,
            -(1 << 31),
        ] {
            let halves = halves(seconds);
            assert!(halves.1 < 4, "two bits: {halves:?}");
            assert_eq!(read(halves), seconds);
        }
        for (seconds, nearest) in [(i64::MIN, -(1i64 << 31)), (i64::MAX, 15_032_385_535)] {
            assert_eq!(read(halves(seconds)), nearest);
        }
    }
}
