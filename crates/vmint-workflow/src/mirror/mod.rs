//! The mirror of actions: filled from git remotes when the user asks for it, at pinned commits, and held against a lock file.
//!
//! ```text
//! workflow files ── wanted ──▶ OWNER/REPO@REF ──▶ lock: a commit? ──no──▶ remote: which commit is the ref?
//!       ▲                                           │ yes                        │
//!       │ what an action or a called workflow       ▼                            ▼
//!       └ uses in its turn ◀── placed, locked ◀── its digest ◀── unpacked ◀── remote: the files of the commit
//! ```
//!
//! * **Nothing is fetched unless asked for**: a check or a run reads the mirror alone.
//! * **A remote is hostile.** Git runs without hooks, prompts, credentials, submodules and other people's settings, over
//!   https or from a file, one commit deep, within limits of time, of file size and of memory ([`remote`]). Its files come
//!   as an archive, through the reader that archives of guests go through; links that lead out are removed.
//! * **The lock file** ([`lock`]) says which commit a ref was, and the digest of its files. What is in the mirror and is
//!   not that is refused by check and run. A ref that has moved is followed with `--update` alone.
//! * **An action is there when it is whole**: it is unpacked beside, and renamed.

mod copies;
mod fetch;
pub mod lock;
mod remote;
#[cfg(test)]
mod tests;
mod wanted;

pub use copies::Mirror;
pub use fetch::{Entry, Fate, Fetch, FetchError, Refs, fetch};
pub use remote::Limits;
