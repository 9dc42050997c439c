//! The network guard on real processes and a real QEMU: what may be reached and what may not.
//!
//! Each test makes the thread it runs in a host of its own: a network namespace with a loopback, one address on a veth
//! pair, a neighbour at its other end, and a resolv.conf. What it starts from there lives in that host. That takes
//! root, if only in a user namespace (`unshare -Ur cargo test …`), and nothing of it remains when the test ends.

mod allowed;
mod endurance;
mod puppet;
mod qemu;
mod refused;
mod unsupported;
mod world;
