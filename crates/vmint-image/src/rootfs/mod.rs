//! Root file systems: collected in a folder of this user's, and made a disk of, without root.
//!
//! * [`tree`]: the folder, and what it cannot hold (owners, times, devices) beside it.
//! * [`unpack`]: archives into the tree, layer upon layer.
//! * [`ext4`]: the tree into a disk; [`inode`] puts owners, times and devices right in it.
//! * [`debian`], [`customize`], [`copy`]: a Debian made by mmdebstrap, what makes it a guest, files of the host in it.

pub(crate) mod copy;
pub(crate) mod customize;
pub(crate) mod debian;
pub(crate) mod ext4;
mod host;
mod inode;
#[cfg(test)]
mod layers;
mod mirror;
pub(crate) mod tree;
pub(crate) mod unpack;
