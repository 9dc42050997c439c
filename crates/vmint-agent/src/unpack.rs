//! Unpacking a tar stream.
use crate::exec::failure;
use vmint_protocol::{ErrorCode, GuestError, Sent, TarIn};

/// A tar stream on its way in.
#[derive(Debug)]
pub struct Unpack {}

impl Unpack {
    /// Starts.
    pub fn start(_: &TarIn) -> Result<Self, GuestError> {
        Err(failure(ErrorCode::Invalid, "unpack"))
    }
    /// Takes bytes.
    pub fn push(&mut self, _: &[u8]) -> Result<Option<u32>, GuestError> {
        Ok(None)
    }
    /// Ends.
    pub fn finish(&mut self) -> Result<Sent, GuestError> {
        Ok(Sent::default())
    }
}
