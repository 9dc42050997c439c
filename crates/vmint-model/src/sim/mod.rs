//! A simulated host, for tests of everything that is generic over [`Backend`], [`Ledger`] and [`World`].
//!
//! ```text
//!              ┌─ process: client ──── Pools over (SimBackend, Hostile ledger, SimWorld)
//!   Sim ───────┼─ process: tender ──── the same
//!   clock,     ├─ process: runner ──── a machine of the SimBackend's Host
//!   seed       └─ …
//! ```
//!
//! One thread, one seed, one virtual clock: the same seed gives the same run, to the last step. Whoever drives it calls
//! [`Sim::step`], which polls one task, and may look at everything in between. Of the tasks that can go on, the next one
//! is drawn; time passes only when none can.
//!
//! Every call of the code under test to its ledger, backend or world is a place where the [`Weather`] may strike: the
//! call is put off, fails before it has happened, happens and loses its answer, or is the last that its process ever
//! made. **A dead process does nothing more**: its tasks are dropped, and what their destructors ask of the ledger, the
//! backend or the world never happens, just as destructors do not run when a process is killed.
//!
//! * [`kernel`]: processes, tasks, the clock.
//! * [`weather`]: what may go wrong, and how often.
//! * [`world`]: clock, bells and liveness as the code of pools sees them.
//! * [`hostile`]: any ledger, in bad weather.
//! * [`backend`]: machines, each with a runner that does its duty.
//! * [`random`]: the seed's numbers.
//!
//! [`Backend`]: crate::Backend
//! [`Ledger`]: crate::Ledger
//! [`World`]: crate::World

pub mod backend;
pub mod hostile;
pub mod kernel;
pub mod random;
mod runner;
pub mod weather;
pub mod world;

pub use backend::{Host, Machine, SimBackend, Standby};
pub use hostile::Hostile;
pub use kernel::{Process, Sim};
pub use random::Random;
pub use weather::Weather;
pub use world::{SimListener, SimWorld};
