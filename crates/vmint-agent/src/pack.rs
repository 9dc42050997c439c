//! Packing files into a tar stream: a forked child walks the tree and writes to a pipe, which is spliced to the host
//! like any command's output. File content goes from the page cache into the pipe without passing through memory.

use crate::exec::{failure, os, text};
use crate::source::{From, Source};
use crate::sys::{self, Forked};
use crate::tarball::PackError;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use vmint_protocol::{Channel, ErrorCode, GuestError, Sent, TarOut};

/// A tar stream on its way out.
#[derive(Debug)]
pub struct Pack {
    /// The child.
    pub pid: i32,
    /// The archive.
    pub source: Source,
    result: OwnedFd,
    ended: bool,
}

impl Pack {
    /// Starts the child.
    pub fn start(spec: &TarOut) -> Result<Self, GuestError> {
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
                let report = match crate::tarball::pack(&spec.path, archive_end) {
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
                    pid,
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
        if !self.ended {
            // It may just have ended.
            let _ = sys::kill(self.pid, libc::SIGKILL);
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
