//! Packing files into a tar stream: a forked child walks the tree and writes to a pipe, which is spliced to the host
//! like any command's output. File content goes from the page cache into the pipe without passing through memory.
//!
//! A folder of a few small files is packed without a child: the pipe surely holds its archive. A fork is most of what such
//! an archive costs, above all under emulation, and a workflow fetches one after each of its steps.

use crate::exec::{failure, os, text};
use crate::source::{From, Source};
use crate::sys::{self, Forked};
use crate::tarball::PackError;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;
use vmint_protocol::{Channel, ErrorCode, Extent, GuestError, Sent, TarOut};

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
        let sent = crate::tarball::pack(path, archive_end).ok()?;
        rustix::io::write(&result_end, &encode(sent)).ok()?;
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
                    Ok(sent) => encode(sent),
                    Err(error) => describe(&error),
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
    pub fn result(&mut self) -> Option<Result<Sent, GuestError>> {
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

/// A result as one write to a pipe: `0`, entries, bytes; or the error's code, and its message.
fn encode(sent: Sent) -> Vec<u8> {
    [
        &[0][..],
        &sent.entries.to_le_bytes(),
        &sent.bytes.to_le_bytes(),
    ]
    .concat()
}

fn describe(error: &PackError) -> Vec<u8> {
    let shown = text(&error.path);
    let error = os(&format!("{} {shown:?}", error.what), error.errno);
    let code = match error.code {
        ErrorCode::NotFound => 1,
        ErrorCode::NoSpace => 2,
        _ => 3,
    };
    let mut out = vec![code];
    out.extend(error.message.bytes().take(4000));
    out
}

fn decode(report: &[u8]) -> Result<Sent, GuestError> {
    let number = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
    match report.split_first() {
        Some((0, rest)) if rest.len() == 16 => Ok(Sent {
            entries: number(&rest[..8]),
            bytes: number(&rest[8..]),
        }),
        Some((&code, message)) if code != 0 => {
            let code = match code {
                1 => ErrorCode::NotFound,
                2 => ErrorCode::NoSpace,
                _ => ErrorCode::Os,
            };
            Err(failure(code, text(message)))
        }
        _ => Err(failure(
            ErrorCode::Os,
            "finish packing: the process that did it was killed",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The archive of a folder's content, and whether it took a process.
    fn packed(folder: &std::path::Path) -> (Vec<u8>, bool) {
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
        let empty = packed(folder.path());
        assert_eq!(empty, (vec![0; 1024], false));
        std::fs::write(at("env"), "A=b\n").unwrap();
        std::fs::write(at("output"), "").unwrap();
        let (few, forked) = packed(folder.path());
        assert!(!forked, "two small files took a process");
        // The last in the archive, and what makes it take a process.
        std::os::unix::fs::symlink("env", at("z")).unwrap();
        let (more, forked) = packed(folder.path());
        assert!(forked, "a link took no process");
        let of_files = few.len() - 1024;
        assert_eq!(few[..of_files], more[..of_files]);
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
        let sent = Sent {
            entries: 3,
            bytes: 1 << 40,
        };
        assert_eq!(decode(&encode(sent)), Ok(sent));
        let error = PackError {
            what: "open",
            path: b"/x".to_vec(),
            errno: Errno::NOENT,
        };
        let told = decode(&describe(&error)).unwrap_err();
        assert_eq!(told.code, ErrorCode::NotFound);
        assert!(told.message.starts_with("open \"/x\""), "{}", told.message);
        assert_eq!(decode(b"").unwrap_err().code, ErrorCode::Os);
    }
}
