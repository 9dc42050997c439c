//! Containers of a job: `container:`, `services:` and docker actions, run by the container engine that the image has.
//!
//! Nothing here runs anything. A *dialogue* ([`Turn`]) says what to do next: write a line to the log, run a [`Call`] in the
//! machine and bring its [`Answer`], or stop. Whoever holds the machine does so. Hence all rules can be tested without one.
//!
//! 1. [`engine`]: which engine the machine has, and in what docker and podman differ.
//! 2. [`service`] and [`job`]: `services:` and `container:` as types, with [`settings`], [`image`], [`words`], [`options`] and
//!    [`publish`] for what they have in common. They are `vmint-syntax`'s.
//! 3. [`startup`]: the network, the job's own container, each service in the file's order, and then the wait for their
//!    [`health`]. [`running`]: what steps see of it. [`teardown`]: logs, and removal.
//! 4. [`inside`]: commands in the job's own container, and its files. [`folders`]: where a container has the job's folders.
//! 5. [`fetch`]: an image gets into the machine. [`prepare`] and [`action`]: a container for one step.
//!
//! No secret stands in an argument list: variables are named there and inherited by the engine's client, but for a few
//! that the client itself would heed, such as `PATH` ([`variables`]); credentials are written to a file that is removed
//! after the pull.
//!
//! # The image that this needs
//!
//! Tried with podman 4.3.1 and docker 20.10 in vmint's own Debian 12, and podman 5.4.2 in Debian 13. Their kernels have all
//! that is needed: overlay, bridge, veth, nf_tables and its xtables modules are loaded on demand. In `vmint.toml`:
//!
//! ```toml
//! [images.ci]
//! from = "debian:12"
//! packages = ["podman", "crun", "netavark", "aardvark-dns", "iptables", "ca-certificates"]
//! run = ["echo 'unqualified-search-registries = [\"docker.io\"]' > /etc/containers/registries.conf.d/docker-hub.conf"]
//! size = "8G"
//! ```
//!
//! `netavark` and `iptables` make the networks, and `aardvark-dns` finds a service by its name from another container. The
//! `run` line is for `FROM alpine` in a Dockerfile: podman by itself does not take a bare name to be Docker Hub's.
//! In Debian 13, write `nftables` for `iptables`, and add `systemctl enable podman.socket` to `run` if docker actions use
//! `/var/run/docker.sock`. With docker, `packages` is `["docker.io", "apparmor", "iptables", "ca-certificates"]`, and no `run` is needed.
//!
//! Images that are pulled in a `run` line are there in every job, and a job that finds its images needs no network.
//! Where images have to be pulled, the pool needs `net = "nat"`. Under emulation a command of podman takes about half a
//! second, and to start a container three to five; so as few commands are given as will do.

pub mod action;
pub mod call;
pub mod engine;
pub mod fetch;
pub mod folders;
pub mod health;
pub mod inside;
mod member;
pub mod prepare;
pub mod running;
pub mod scope;
pub mod start_error;
pub mod startup;
pub mod teardown;
#[cfg(test)]
mod testing;

pub use vmint_syntax::containers::{
    image, job, options, publish, service, settings, variables, volume, words,
};

pub use call::{Answer, Call, Show, Turn};
pub use engine::{Engine, Init};
pub use inside::Inside;
pub use member::Who;
pub use scope::Scope;
