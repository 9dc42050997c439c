//! Kinds of failure and their exit codes. Every crate has error types of its own; at the doors (the runner's API, the
//! library, the command line) they become a [`Fault`].

use serde::{Deserialize, Serialize};
use std::fmt;

/// What kind of failure; what a program may decide by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The request makes no sense.
    Usage,
    /// What was named does not exist.
    NotFound,
    /// What was to be made exists.
    AlreadyExists,
    /// A limit or the host's resources forbid it.
    Refused,
    /// The host has not the memory for it now.
    Pressure,
    /// A deadline passed.
    TimedOut,
    /// The machine is in a state in which this cannot be done.
    WrongState,
    /// The handle is of an older generation.
    StaleGeneration,
    /// The machine ended while it was used.
    MachineLost,
    /// The lease has ended.
    LeaseLost,
    /// The lease is somebody else's.
    NotOwner,
    /// The pool is drained or being removed.
    PoolClosed,
    /// The program does not exist in the guest.
    CommandNotFound,
    /// The program cannot be executed in the guest.
    CommandNotExecutable,
    /// The guest refused or could not do it.
    Guest,
    /// The image could not be made or used.
    Image,
    /// QEMU is missing, too old, or failed.
    Hypervisor,
    /// The runner could not be reached.
    Runner,
    /// A file of vmint's is damaged, or from a newer version.
    Corrupt,
    /// No space is left on the host's disk.
    NoSpace,
    /// The host lacks something, or refused.
    Host,
    /// The user interrupted it.
    Interrupted,
    /// A mistake in vmint.
    Internal,
}

impl ErrorKind {
    /// As in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::Refused => "refused",
            Self::Pressure => "pressure",
            Self::TimedOut => "timed_out",
            Self::WrongState => "wrong_state",
            Self::StaleGeneration => "stale_generation",
            Self::MachineLost => "machine_lost",
            Self::LeaseLost => "lease_lost",
            Self::NotOwner => "not_owner",
            Self::PoolClosed => "pool_closed",
            Self::CommandNotFound => "command_not_found",
            Self::CommandNotExecutable => "command_not_executable",
            Self::Guest => "guest",
            Self::Image => "image",
            Self::Hypervisor => "hypervisor",
            Self::Runner => "runner",
            Self::Corrupt => "corrupt",
            Self::NoSpace => "no_space",
            Self::Host => "host",
            Self::Interrupted => "interrupted",
            Self::Internal => "internal",
        }
    }

    /// The exit code of a command that failed so, other than `run`, `exec` and `shell`, which exit with 125.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Refused | Self::Pressure => 4,
            Self::TimedOut => 5,
            Self::Interrupted => 130,
            _ => 1,
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A failure as it crosses a door: the body of an HTTP error, and with `--format json` of the command line's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The failure.
    pub error: Fault,
}

/// A failure with what its reader needs: what happened, and what to do.
///
/// The message may quote a guest, an archive or another's file. It is kept as it is, so that secrets are found in it; `Display`
/// shows it [printable](crate::printable_lines).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{}", crate::printable_lines(message))]
pub struct Fault {
    /// What kind of failure.
    pub kind: ErrorKind,
    /// What happened, with context; no full stop.
    pub message: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Fault {
    /// A failure without advice.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            hint: None,
        }
    }

    /// Adds advice.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Puts what was being done before the message.
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }

    /// An error with all of its sources, as one message; tells a full disk from other failures of the host.
    pub fn from_error(kind: ErrorKind, error: &(dyn std::error::Error + 'static)) -> Self {
        let mut message = error.to_string();
        let (mut source, mut kind) = (Some(error), kind);
        while let Some(e) = source {
            if let Some(io) = e.downcast_ref::<std::io::Error>()
                && matches!(
                    io.kind(),
                    std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
                )
            {
                kind = ErrorKind::NoSpace;
            }
            source = e.source();
            if let Some(s) = source {
                let text = s.to_string();
                if !message.contains(&text) {
                    message = format!("{message}: {text}");
                }
            }
        }
        Self::new(kind, message)
    }
}

/// An error that knows what it means at the doors. `?` makes a [`Fault`] of it there; nothing else does.
pub trait Explained: std::error::Error + 'static {
    /// What kind of failure.
    fn kind(&self) -> ErrorKind;

    /// What to do.
    fn hint(&self) -> Option<String> {
        None
    }
}

impl<E: Explained> From<E> for Fault {
    fn from(error: E) -> Self {
        Self {
            hint: error.hint(),
            ..Self::from_error(error.kind(), &error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot write the overlay")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn a_full_disk_is_told_from_other_failures() {
        let full = Outer(std::io::Error::from(std::io::ErrorKind::StorageFull));
        let fault = Fault::from_error(ErrorKind::Host, &full);
        assert_eq!(fault.kind, ErrorKind::NoSpace);
        assert_eq!(fault.message, "cannot write the overlay: no storage space");
    }

    impl Explained for Outer {
        fn kind(&self) -> ErrorKind {
            ErrorKind::Host
        }

        fn hint(&self) -> Option<String> {
            Some("free some space".into())
        }
    }

    #[test]
    fn an_error_that_explains_itself_is_a_fault_at_the_door() {
        let door = || -> Result<(), Fault> {
            Err(Outer(std::io::Error::other("no such device")))?;
            Ok(())
        };
        let fault = door().unwrap_err();
        assert_eq!(fault.kind, ErrorKind::Host);
        assert_eq!(fault.message, "cannot write the overlay: no such device");
        assert_eq!(fault.hint.as_deref(), Some("free some space"));
    }

    #[test]
    fn what_a_message_quotes_commands_no_terminal() {
        let fault = Fault::new(ErrorKind::Guest, "no \x1b]0;x\x07\nfile").context("cp");
        assert_eq!(fault.to_string(), "cp: no \\x1b]0;x\\x07\nfile");
        assert!(fault.message.contains('\x1b'));
    }

    #[test]
    fn json_is_as_the_contract_says() {
        let body = ErrorBody {
            error: Fault::new(ErrorKind::NotFound, "no machine x").hint("vmint ls"),
        };
        let json = serde_json::to_string(&body).unwrap();
        assert_eq!(
            json,
            r#"{"error":{"kind":"not_found","message":"no machine x","hint":"vmint ls"}}"#
        );
    }
}
