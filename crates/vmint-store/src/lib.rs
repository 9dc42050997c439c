//! What vmint remembers, and how it knows who lives.
//!
//! The store is a hint; locks are truth. A machine's row says what its runner last wrote; whether there is a runner is
//! said by the machine's lock alone, which the kernel drops with the last process that holds it, however that ends. A
//! process id is believed only together with the start of the process and the boot of the host.
//!
//! * [`home`]: finds and opens `VMINT_HOME` and the folder of the sockets.
//! * [`lock`]: a lock file that can be handed to another process without a moment in which it is free.
//! * [`bell`]: wakes a process that waits.
//! * [`process`]: which process a [`vmint_model::ProcessRef`] names, and whether it lives.
//! * [`store`]: opens the database; [`schema`] makes it, and brings an older one up to date.
//! * [`machines`], [`snapshots`], [`events`], [`settings`]: what is in it. A machine's state changes in one place only,
//!   [`Store::transition`], which checks the change against the table and writes it down as an event.
//! * [`ledger`]: pools, slots, lines and leases.
//! * [`runs`]: runs of workflows.
//! * [`admission`]: what is promised to machines, and who waits for it.
//! * [`error`]: how the store fails.

pub mod admission;
pub mod bell;
pub mod error;
pub mod events;
pub mod home;
pub mod ledger;
pub mod lock;
pub mod machines;
pub mod process;
pub mod runs;
pub mod schema;
pub mod settings;
pub mod snapshots;
pub mod store;
#[cfg(test)]
mod testing;

pub use error::StoreError;
pub use home::{Environment, HomeError, default_root, open_home};
pub use ledger::Moment;
pub use ledger::line::InLine;
pub use ledger::local::LocalLedger;
pub use lock::{FileLock, LockError, remove_folder};
pub use machines::{MachineFilter, StopRequest};
pub use runs::StoredRun;
pub use snapshots::SnapshotFilter;
pub use store::{Store, now, now_ms, steady_ms};
