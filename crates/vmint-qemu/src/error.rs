//! What can go wrong with a hypervisor, one enum per operation.

use crate::disk::DiskError;
use crate::frozen::FrozenError;
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use vmint_model::{ErrorKind, Fault};

/// A QMP command failed.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// QEMU refused it.
    #[error("QEMU refused {command}: {description}")]
    Refused {
        /// The command.
        command: String,
        /// QEMU's class of errors.
        class: String,
        /// QEMU's words.
        description: String,
    },
    /// QEMU closed the connection: it ended.
    #[error("QEMU ended before it answered {command}")]
    Closed {
        /// The command.
        command: String,
    },
    /// The deadline passed.
    #[error("QEMU did not answer {command} within {span}", span = vmint_model::span(*after))]
    TimedOut {
        /// The command.
        command: String,
        /// The deadline.
        after: Duration,
    },
    /// The answer is not what QEMU's schema says.
    #[error("QEMU's answer to {command} is not understood: {reason}")]
    Answer {
        /// The command.
        command: String,
        /// Why.
        reason: String,
    },
    /// The socket failed.
    #[error("cannot talk to QEMU")]
    Io(#[source] io::Error),
}

/// A hypervisor could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The program could not be executed.
    #[error("cannot start {program:?}")]
    Spawn {
        /// QEMU.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It ended at once.
    #[error("QEMU ended at its start ({status}): {stderr}")]
    Exited {
        /// How it ended.
        status: String,
        /// The end of what it said.
        stderr: String,
    },
    /// QMP failed.
    #[error(transparent)]
    Qmp(#[from] QmpError),
    /// The saved state was not running by the deadline.
    #[error("the saved state was not loaded within {span}; QEMU's last status was {status:?}", span = vmint_model::span(*after))]
    Load {
        /// The deadline.
        after: Duration,
        /// What QEMU said last.
        status: String,
    },
    /// Changed memory could not be applied.
    #[error("cannot apply the snapshot's memory")]
    Memory(#[source] io::Error),
    /// A file or socket could not be made or opened.
    #[error("cannot use {path:?}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Networking cannot be confined on this host.
    #[error("cannot confine the machine's network")]
    Guard(#[source] io::Error),
    /// The fence around the hypervisor cannot be built.
    #[error("cannot confine QEMU")]
    Confine(#[from] vmint_confine::ConfineError),
}

/// A machine could not be frozen into a template.
pub type FreezeError = BranchError;

/// A machine could not be branched.
#[derive(Debug, thiserror::Error)]
pub enum BranchError {
    /// QMP failed.
    #[error(transparent)]
    Qmp(#[from] QmpError),
    /// Memory could not be read.
    #[error("cannot read the machine's memory")]
    Memory(#[source] io::Error),
    /// A layer could not be made.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The memory's file could not be linked.
    #[error(transparent)]
    Frozen(#[from] FrozenError),
    /// A file could not be written.
    #[error("cannot write {path:?}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

fn io_kind(default: ErrorKind, error: &(dyn std::error::Error + 'static)) -> Fault {
    Fault::from_error(default, error)
}

impl From<QmpError> for Fault {
    fn from(e: QmpError) -> Self {
        let kind = if matches!(e, QmpError::TimedOut { .. }) {
            ErrorKind::TimedOut
        } else {
            ErrorKind::Hypervisor
        };
        io_kind(kind, &e)
    }
}

impl From<LaunchError> for Fault {
    fn from(e: LaunchError) -> Self {
        match &e {
            LaunchError::Spawn { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                io_kind(ErrorKind::Hypervisor, &e)
                    .hint("install QEMU: apt-get install qemu-system-x86, or make setup")
            }
            LaunchError::Exited { stderr, .. } if stderr.contains("Cannot allocate memory") => {
                io_kind(ErrorKind::Refused, &e)
                    .hint("the host has too little memory for this machine: try --memory 256M")
            }
            LaunchError::Exited { stderr, .. } if stderr.contains("No space left") => {
                io_kind(ErrorKind::NoSpace, &e)
            }
            LaunchError::Exited { stderr, .. } if stderr.contains("host forwarding") => {
                io_kind(ErrorKind::Refused, &e)
                    .hint("a published port is in use on the host; HOST port 0 takes a free one")
            }
            _ => io_kind(ErrorKind::Hypervisor, &e),
        }
    }
}

impl From<BranchError> for Fault {
    fn from(e: BranchError) -> Self {
        match e {
            BranchError::Qmp(e) => e.into(),
            e => io_kind(ErrorKind::Hypervisor, &e),
        }
    }
}
