//! Packing files into a tar stream.
use crate::exec::failure;
use crate::source::Source;
use vmint_protocol::{ErrorCode, GuestError, Sent, TarOut};

/// A tar stream on its way out.
#[derive(Debug)]
pub struct Pack {
    /// Its process.
    pub pid: i32,
    /// Its bytes.
    pub source: Source,
}

impl Pack {
    /// Starts.
    pub fn start(_: &TarOut) -> Result<Self, GuestError> {
        Err(failure(ErrorCode::Invalid, "pack"))
    }
    /// Its process has ended.
    pub fn ended(&mut self) {}
    /// Kills it.
    pub fn cancel(&mut self) {}
    /// How it ended.
    pub fn result(&mut self) -> Option<Result<Sent, GuestError>> {
        None
    }
}
