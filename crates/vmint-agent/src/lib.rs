//! The guest's init and agent.
//!
//! As `/init` of the initramfs it gives the kernel what it needs to find the root ([`boot`]), waits for the host to
//! tell it who this machine is ([`prepare`]), starts the image's own init or stays PID 1 itself, and serves the host
//! over a virtio-serial port for as long as the machine lives ([`agent`]).
//!
//! One thread, no runtime, few system calls: under emulation every instruction that a fork runs for the first time is
//! translated first, so the shortest path is the fastest.
//!
//! * [`boot`], [`mounts`], [`modules`], [`cmdline`], [`uevent`]: from the kernel's first process to a running guest.
//! * [`agent`], [`session`], [`output`]: the loop, what comes in, what goes out.
//! * [`port`], [`source`], [`sink`]: the port and the two directions of a stream.
//! * [`exec`], [`spawn`], [`users`], [`login`]: commands.
//! * [`unpack`], [`writing`], [`pack`], [`tarball`]: tar streams in and out.
//! * [`prepare`], [`settings`], [`net`], [`link_local`], [`connections`], [`info`]: what the guest is told and asked.
//! * [`init`], [`shutdown`]: how it ends.
//! * [`console`], [`sys`]: messages; system calls that need `unsafe`.

#![warn(unreachable_pub)]

pub mod agent;
pub mod boot;
pub mod cmdline;
pub mod connections;
pub mod console;
pub mod exec;
pub mod info;
pub mod init;
pub mod link_local;
pub mod login;
pub mod modules;
pub mod mounts;
pub mod net;
pub mod output;
pub mod pack;
pub mod port;
pub mod prepare;
pub mod session;
pub mod settings;
pub mod shutdown;
pub mod sink;
pub mod source;
pub mod spawn;
pub mod sys;
pub mod tarball;
pub mod uevent;
pub mod unpack;
pub mod users;
pub mod writing;
