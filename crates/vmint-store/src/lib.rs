//! What vmint remembers, and how it knows who lives.
//!
//! The store is a hint; locks are truth. A machine's row says what its runner last wrote; whether there is a runner is
//! said by the machine's lock alone, which the kernel drops with the last process that holds it, however that ends. A
//! process id is believed only together with the start of the process and the boot of the host.
//!
//! * [`home`]: finds and opens `VMINT_HOME` and the folder of the sockets.
//! * [`identity`]: which home it is, and whether it is a copy; [`adopt`]: what becomes of a copy's records, and of those in
//!   a database that is not this home's.
//! * [`description`]: what the folder of a machine or a snapshot says of itself.
//! * [`lock`]: a lock file that can be handed to another process without a moment in which it is free; [`in_use`]: a folder that is
//!   used by many and removed by one.
//! * [`bell`]: wakes a process that waits.
//! * [`process`]: which process a [`vmint_model::ProcessRef`] names, and whether it lives.
//! * [`store`]: opens the database; [`schema`] makes it, and brings an older one up to date; [`repair`] puts a damaged one
//!   aside.
//! * [`opener`]: opens the database for a process that is fenced in.
//! * [`machines`], [`snapshots`], [`events`], [`settings`]: what is in it. A machine's state changes in one place only,
//!   [`Store::transition`], which checks the change against the table and writes it down as an event.
//! * [`ledger`]: pools, slots, lines and leases.
//! * [`runs`]: runs of workflows.
//! * [`admission`]: what is promised to machines, and who waits for it.
//! * [`error`]: how the store fails.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]
#![warn(unreachable_pub)]

pub mod admission;
pub mod adopt;
pub mod bell;
pub mod description;
pub mod error;
pub mod events;
pub mod home;
pub mod identity;
pub mod in_use;
pub mod ledger;
pub mod lock;
pub mod machines;
pub mod opener;
pub mod process;
pub mod repair;
pub mod runs;
pub mod schema;
pub mod settings;
pub mod snapshots;
pub mod store;
#[cfg(test)]
mod testing;

pub use adopt::Settled;
pub use error::StoreError;
pub use home::{Environment, HomeError, default_root, open_home};
pub use identity::Identity;
pub use in_use::InUse;
pub use ledger::Moment;
pub use ledger::line::InLine;
pub use ledger::local::LocalLedger;
pub use lock::{FileLock, LockError, remove_folder};
pub use machines::{Known, MachineFilter, StopRequest};
pub use runs::StoredRun;
pub use snapshots::SnapshotFilter;
pub use store::{Store, now, steady_ms};
pub use vmint_model::now_ms;
