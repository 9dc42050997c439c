//! Whether the host can carry one more machine.
//!
//! ```text
//!  what the host has                ─┐
//!  what is promised (the store)  ────┼─▶ decide ──▶ admit, and in the same transaction: promised
//!  what is asked for (promise)   ────┘       └────▶ hold, and why
//! ```
//!
//! **Memory is promised, not lent.** A guest that has touched a tenth of its memory today may touch all of it tomorrow, so
//! what counts is what a machine may come to take, whether touched or not: its [`promise`]. What machines have taken of
//! their promises is missing from what the host has available; what they have not, is still in it. So a machine is
//! admitted when
//!
//! > Σ max(promise, taken) + need ≤ (available + Σ taken) × overcommit
//!
//! which with an overcommit of 1 reads: all that live machines may still take, and the new one, fits into what is
//! available. The factor is put to all that machines have or could have, not only to what is free at the moment, so that
//! it means the same on an empty host and on a full one: of what machines can have, so much is promised.
//!
//! **Measured in one order.** What machines have taken is read before and after what is available, and the smaller
//! counts; promises are summed last, in the transaction that books the new one. Whatever happens in between is then seen
//! as too much promised or too little available, never the other way round: memory that a machine takes meanwhile is
//! still owed, a machine that ends meanwhile has not yet given anything back, one that is admitted meanwhile is in the
//! sum. Any number of processes may do this at once.
//!
//! **Signs of distress.** Swap that is nearly full and tasks that wait for memory say that the host is in need whatever the
//! sums say. Their absence (no swap, a kernel that does not measure pressure) is no sign of anything.
//!
//! **Boots** are work for a processor, a cold one for many seconds. So many at once gain nothing and make each of them
//! miss its deadline: they have places, fewer for cold boots than for forks.
//!
//! **It does not flap**: who was held, or comes behind one that is, needs clearly better times than those that would have
//! let him in at once. And nobody is overtaken: what those ahead in the line have asked for counts as theirs.
//!
//! * [`decide`](decide()): the decision, from a [`Situation`] to a [`Verdict`].
//! * [`promise`]: what a machine may come to take.
//! * `factor`, `situation`, `verdict`: what both are made of.
//!
//! There is nothing in here but arithmetic: who calls it has read the host and the store.

mod decide;
mod factor;
mod promise;
mod situation;
mod verdict;

pub use decide::decide;
pub use factor::{Factor, InvalidFactor};
pub use promise::{FLOOR, KEPT, OVERHEAD, STANDBY, promise};
pub use situation::{Held, Limits, Need, Situation};
pub use verdict::{Reason, Verdict};
