//! `vmint top`: what all pools and machines of this user do, as it changes.
//!
//! * [`snapshot`]: what there is to see, read from the store and from `/proc`; what `--format json` prints.
//! * [`memory`]: what a machine's processes really take.
//! * [`draw`]: a frame, drawn from a snapshot alone; on a terminal or as text.
//! * [`screen`]: the terminal, its keys, and that it is as before when this ends.

pub mod draw;
pub mod memory;
pub mod screen;
pub mod snapshot;
