//! Archives from guests, unpacked on the host: the one way in which bytes of a guest become files here.
//!
//! A guest is hostile, and an [`Unpacker`] is where it could reach its host's files without any bug in QEMU. So it works
//! by descriptors and never by paths:
//!
//! ```text
//! bytes ─▶ vmint_protocol::archive::Parser ─▶ name: relative, no `..`, renamed ─▶ parent: openat2 beneath the target,
//!          (the agent's own, with its bounds)                                     no link followed, made if missing
//!                                                                                   │
//!            folder: mkdirat, opened, owner, mode, times at its end, by descriptor ◀┤
//!            file: a draft without a name; owner, mode, attributes, times; placed ◀─┤
//!            symbolic link: its text, never followed ◀──────────────────────────────┤
//!            hard link: to a file that this very unpacker has made ◀────────────────┤
//!            named pipe: made; device: counted and left out ◀───────────────────────┘
//! ```
//!
//! * **Nothing outside the target folder is created, changed, linked, read or given another mode**, whatever the
//!   archive says, and whoever swaps folders for links meanwhile.
//! * **What is there stays there, unless a file takes its name**: a folder that exists keeps its owner, mode and times; a
//!   file is replaced and never written through; a file does not replace a folder, nor a folder a file.
//! * **Only the nine permission bits are set.** Set-user-id, set-group-id and sticky bits and file capabilities are dropped and
//!   counted. Owners are set only where the caller [says so](Owners).
//! * **A file has its name when it is whole**: what breaks off leaves no half file, and what was there before.
//! * **Memory is bounded** whatever the number of entries: by the depth of a path (folders that are open) and by
//!   [`Made`](links), which forgets the oldest files. Names are compared byte by byte.
//!
//! It needs `openat2` (Linux 5.6), and says so where there is none.
//!
//! * [`Unpacker`]: the machine above. [`unpack`] for those who have a stream to read.
//! * [`Options`]: what a caller may choose. [`Unpacked`], [`Skipped`]: what came of it.
//! * [`shown`]: a guest's text, printable.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]
#![warn(unreachable_pub)]

mod attributes;
mod error;
mod folder;
mod links;
mod options;
mod shown;
mod unpacked;
mod unpacker;

pub use error::UnpackError;
pub use options::{Options, Owners, Root, Specials, Symlinks};
pub use shown::shown;
pub use unpacked::{Skipped, Unpacked};
pub use unpacker::{Unpacker, unpack};
pub use vmint_tree::Xattrs;
