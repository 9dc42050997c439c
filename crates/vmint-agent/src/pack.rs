//! Packing files into a tar stream: a forked child walks the tree and writes to a pipe, which is spliced to the host
//! like any command's output. File content goes from the page cache into the pipe without passing through memory.
//!
//! A folder of a few small files is packed without a child: the pipe surely holds its archive. A fork is most of what such
//! an archive costs, above all under emulation, and a workflow fetches one after each of its steps.

use crate::exec::{failure, os, text};
use crate::source::{From, Source};
use crate::sys::{self, Forked};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;
use vmint_protocol::{Channel, ErrorCode, Extent, GuestError, LeftOut, Partly, Sent, TarOut};
use vmint_tree::{PackError, Packed, Reason};

/// So many files are few.
const FEW: usize = 16;
/// So many bytes of them are little. Their headers come on top, of 1.5 KiB each, and a pipe holds 64 KiB.
const LITTLE: u64 = 16 << 10;

/// File systems that answer at once: ext, tmpfs, ramfs, overlay, XFS, Btrfs. Another may be of a network, or of a program
/// that hangs, and the agent must not hang with it.
const PROMPT: [u32; 6] = [
    0xef53,
    0x0102_1994,
    0x8584_58f6,
    0x794c_7630,
    0x5846_5342,
    0x9123_683e,
];

/// A tar stream on its way out.
#[derive(Debug)]
pub struct Pack {
    /// The child, if it takes one.
    pub pid: Option<i32>,
    /// The archive.
    pub source: Source,
    result: OwnedFd,
    ended: bool,
}

impl Pack {
    /// Starts the child, unless there is so little to pack that it is done at once.
    pub fn start(spec: &TarOut) -> Result<Self, GuestError> {
        if spec.extent == Extent::Whole
            && let Some(pack) = Self::at_once(&spec.path)
        {
            return Ok(pack);
        }
        Self::fork(spec)
    }

    /// Packs the content of a folder of few small files. Nothing when it is no such folder, or anything fails: the child
    /// says what, and has the time for it.
    fn at_once(path: &[u8]) -> Option<Self> {
        if !path.ends_with(b"/.") || !is_small(path).ok()? {
            return None;
        }
        let (archive, archive_end) = pipe_with(PipeFlags::CLOEXEC).ok()?;
        let (result, result_end) = pipe_with(PipeFlags::CLOEXEC).ok()?;
        // A file that grows meanwhile does not fill the pipe and block the agent, but fails.
        rustix::io::ioctl_fionbio(&archive_end, true).ok()?;
        let packed = crate::tarball::pack(path, archive_end).ok()?;
        if packed.trouble.is_some() {
            return None;
        }
        rustix::io::write(&result_end, &encode(&packed)).ok()?;
        let source = Source::new(Rc::new(archive), From::Pipe, Channel::Output);
        Some(Self {
            pid: None,
            source,
            result,
            ended: true,
        })
    }

    fn fork(spec: &TarOut) -> Result<Self, GuestError> {
        let pipes = || {
            Ok((
                pipe_with(PipeFlags::CLOEXEC)?,
                pipe_with(PipeFlags::CLOEXEC)?,
            ))
        };
        let ((archive, archive_end), (result, result_end)) =
            pipes().map_err(|e: Errno| os("create pipes", e))?;
        match sys::fork().map_err(|e| os("create a process", e))? {
            Forked::Child => {
                drop((archive, result));
                let packed = match spec.extent {
                    Extent::Whole => crate::tarball::pack(&spec.path, archive_end),
                    Extent::Header => crate::tarball::look(&spec.path, archive_end),
                };
                let report = match packed {
                    Ok(packed) => encode(&packed),
                    Err(error) => describe(&error, &error),
                };
                // A pipe takes this much at once; a parent that is gone needs no result.
                let _ = rustix::io::write(&result_end, &report);
                sys::exit(0)
            }
            Forked::Parent(pid) => {
                let source = Source::new(Rc::new(archive), From::Pipe, Channel::Output);
                Ok(Self {
                    pid: Some(pid),
                    source,
                    result,
                    ended: false,
                })
            }
        }
    }

    /// The child has ended.
    pub fn ended(&mut self) {
        self.ended = true;
        self.source.woken(true);
    }

    /// Nobody listens any more.
    pub fn cancel(&mut self) {
        if let Some(pid) = self.pid.filter(|_| !self.ended) {
            // It may just have ended.
            let _ = sys::kill(pid, libc::SIGKILL);
        }
    }

    /// How it ended, once it has and all of the archive was sent.
    pub fn result(&mut self) -> Option<Result<Partly, GuestError>> {
        if !self.ended || !self.source.has_ended() {
            return None;
        }
        let mut report = [0; 4096];
        let n = rustix::io::read(&self.result, &mut report).unwrap_or(0);
        Some(decode(&report[..n]))
    }
}

/// Whether all that a folder holds is few small files.
fn is_small(folder: &[u8]) -> rustix::io::Result<bool> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(OsStr::from_bytes(folder), flags, Mode::empty())?;
    if !PROMPT.contains(&(rustix::fs::fstatfs(&folder)?.f_type as u32)) {
        return Ok(false);
    }
    let (mut files, mut bytes) = (0, 0);
    for entry in rustix::fs::Dir::read_from(&folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        files += 1;
        bytes = u64::saturating_add(bytes, u64::try_from(stat.st_size).unwrap_or(u64::MAX));
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile
            || files > FEW
            || bytes > LITTLE
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A result as one write to a pipe: `0`, entries, bytes; `4`, the same, and what was left out; or the error's code, and its
/// message.
fn encode(packed: &Packed) -> Vec<u8> {
    let Packed {
        sent,
        left_out,
        trouble,
    } = packed;
    if let Some(trouble) = trouble {
        return describe(&trouble.first, trouble);
    }
    let mut out = vec![if left_out.is_empty() { DONE } else { PARTLY }];
    out.extend([sent.entries, sent.bytes].map(u64::to_le_bytes).concat());
    if !left_out.is_empty() {
        let LeftOut {
            sockets,
            mounts,
            xattrs,
            powers,
            first,
        } = left_out;
        let counts = [sockets, mounts, xattrs, powers];
        out.extend(counts.map(|n| n.to_le_bytes()).concat());
        out.extend(first);
    }
    out
}

const DONE: u8 = 0;
const PARTLY: u8 = 4;

fn describe(error: &PackError, shown: &dyn std::fmt::Display) -> Vec<u8> {
    let code = match error.reason {
        Reason::Os(Errno::NOENT) => 1,
        Reason::Os(Errno::NOSPC | Errno::DQUOT) => 2,
        _ => 3,
    };
    let mut out = vec![code];
    out.extend(shown.to_string().bytes().take(4000));
    out
}

fn decode(report: &[u8]) -> Result<Partly, GuestError> {
    let killed = || {
        failure(
            ErrorCode::Os,
            "finish packing: the process that did it was killed",
        )
    };
    let (&code, rest) = report.split_first().ok_or_else(killed)?;
    let number = |at: usize| {
        let bytes = rest.get(8 * at..8 * at + 8);
        bytes
            .and_then(|b| b.try_into().ok())
            .map(u64::from_le_bytes)
    };
    let counts = |from: usize| Some([number(from)?, number(from + 1)?]);
    let code = match code {
        DONE | PARTLY => {
            let [entries, bytes] = counts(0).ok_or_else(killed)?;
            let mut partly = Partly {
                sent: Sent { entries, bytes },
                left_out: LeftOut::default(),
            };
            if code == PARTLY {
                let ([sockets, mounts], [xattrs, powers]) =
                    counts(2).zip(counts(4)).ok_or_else(killed)?;
                let first = &rest[48..];
                partly.left_out = LeftOut {
                    sockets,
                    mounts,
                    xattrs,
                    powers,
                    first: first[..first.len().min(LeftOut::MOST)].to_vec(),
                };
            }
            return Ok(partly);
        }
        1 => ErrorCode::NotFound,
        2 => ErrorCode::NoSpace,
        _ => ErrorCode::Os,
    };
    Err(failure(code, text(rest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The archive of a folder's content, and whether it took a process.
    fn packed(folder: &std::path::Path) -> (Vec<u8>, bool) {
        // What was put into it since must not make the folder's own entry another one.
        let second = std::time::SystemTime::UNIX_EPOCH;
        let opened = std::fs::File::open(folder).unwrap();
        opened.set_modified(second).unwrap();
        let path = [folder.as_os_str().as_bytes(), b"/."].concat();
        let pack = Pack::start(&TarOut {
            path,
            extent: Extent::Whole,
        })
        .unwrap();
        let mut archive = Vec::new();
        let mut piece = [0; 4096];
        while let n @ 1.. = rustix::io::read(pack.source.fd(), &mut piece).unwrap() {
            archive.extend_from_slice(&piece[..n]);
        }
        if let Some(pid) = pack.pid.and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
        }
        (archive, pack.pid.is_some())
    }

    #[test]
    fn few_small_files_are_packed_without_a_process_and_the_same_as_with_one() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let (empty, forked) = packed(folder.path());
        assert!(!forked, "an empty folder took a process");
        assert!(empty.ends_with(&[0; 1024]));
        std::fs::write(at("env"), "A=b\n").unwrap();
        std::fs::write(at("output"), "").unwrap();
        let (few, forked) = packed(folder.path());
        assert!(!forked, "two small files took a process");
        // The last in the archive, and what makes it take a process.
        std::os::unix::fs::symlink("env", at("z")).unwrap();
        let (more, forked) = packed(folder.path());
        assert!(forked, "a link took no process");
        let of_files = few.len() - 1024;
        assert!(few[..of_files] == more[..of_files]);
        std::fs::remove_file(at("z")).unwrap();
        std::fs::write(at("z"), vec![b'z'; LITTLE as usize]).unwrap();
        assert!(packed(folder.path()).1, "a large file took no process");
        std::fs::write(at("z"), vec![b'z'; LITTLE as usize - 4]).unwrap();
        let (largest, forked) = packed(folder.path());
        assert!(!forked, "as much as is little took a process");
        assert!(largest.len() as u64 > LITTLE);
        for n in 3..=FEW {
            assert!(!packed(folder.path()).1, "{n} files took a process");
            std::fs::write(at(&n.to_string()), "").unwrap();
        }
        std::fs::write(at("y"), "").unwrap();
        assert!(packed(folder.path()).1, "{} files took no process", FEW + 2);
    }

    #[test]
    fn a_result_survives_the_pipe() {
        let mut packed = Packed {
            sent: Sent {
                entries: 3,
                bytes: 1 << 40,
            },
            ..Packed::default()
        };
        let decoded = |packed: &Packed| decode(&encode(packed));
        let whole = decoded(&packed).unwrap();
        assert_eq!((whole.sent, whole.left_out.is_empty()), (packed.sent, true));
        packed.left_out = LeftOut {
            sockets: 1,
            mounts: 2,
            xattrs: 3,
            powers: 4,
            first: b"/run/x".to_vec(),
        };
        let partly = decoded(&packed).unwrap();
        assert_eq!(partly.left_out, packed.left_out);
        let error = PackError {
            what: "open",
            path: b"/x".to_vec(),
            reason: Reason::Os(Errno::NOENT),
        };
        let told = decode(&describe(&error, &error)).unwrap_err();
        assert_eq!(told.code, ErrorCode::NotFound);
        assert!(told.message.starts_with("open \"/x\""), "{}", told.message);
        for broken in [&b""[..], &[DONE], &[PARTLY; 20]] {
            assert_eq!(decode(broken).unwrap_err().code, ErrorCode::Os);
        }
    }
}
