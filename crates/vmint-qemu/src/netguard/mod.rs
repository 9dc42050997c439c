//! What a machine with `--net nat` may reach.
//!
//! QEMU's user-mode network (libslirp) connects out as the QEMU process itself: what the guest sends to 10.0.2.2 goes
//! to the host's loopback, and every other address of the host is as near. `restrict=on` cuts the world off too, and
//! QEMU passes on none of libslirp's finer switches. So QEMU runs under a seccomp filter that stops each system call
//! that names a destination, and a thread of its parent decides:
//!
//! ```text
//!   QEMU (libslirp)                     parent: thread "netguard"
//!   connect(fd, addr) ──── stopped ───▶ read addr from QEMU's memory
//!                                       Policy::decide(addr)
//!                                         Deny  ─▶ errno
//!                                         Allow ─▶ pidfd_getfd(fd), connect(fd, addr as it was read)
//!   result, errno     ◀─── answered ─── the result of that
//! ```
//!
//! Invariants:
//!
//! * **What is checked is what is done.** The address is copied once, and the parent itself makes the call with that
//!   copy on a duplicate of the socket. The kernel never looks at QEMU's memory again
//!   (`SECCOMP_USER_NOTIF_FLAG_CONTINUE`, with its race, is not used).
//! * **It fails closed.** What cannot be read, decided or done is refused. When the parent's end is gone the kernel
//!   answers `ENOSYS`.
//! * **One slow call holds up nobody.** The thread never blocks in a socket call; a connect on a blocking socket is
//!   parked, and answered when it is decided.
//! * **No tokio, no configuration of the host, no privileges** beyond those of a parent over its child.
//!
//! What it is not: a sandbox by itself. Filtered are `connect`, `sendto` with an address and `sendmmsg` (refused), which is
//! all that libslirp has (it imports `connect`, `send`, `sendto`). A filter cannot see whether a `sendmsg` names an address, and to
//! stop every one would cost 6 µs each, 45 before Linux 6.6, where a write and its read take 1.5. So the fence
//! (`vmint-confine`) allows `sendmsg` on QEMU's own control sockets alone, and denies io_uring.
//!
//! **Published ports** are opened by whoever starts QEMU (`crate::listen`). Where there are any, `bind` and `listen` are stopped,
//! too: who binds one of them gets the socket that listens there in the place of his own, and a `listen` does nothing. So QEMU
//! binds nothing itself, and from Landlock 4 on it may bind nothing.
//!
//! What it costs (`examples/netguard_probe.rs`; 2 cores, Linux 6.18): 40 µs more for a spawn, 40 µs to receive the
//! listener and start the thread. A TCP connect takes 1 µs more to be refused than by a closed port; a datagram
//! takes 6 µs more to be refused, and 14 µs more to be sent to a name server, for which resolv.conf is read each time.
//! Before Linux 6.6 add 40 µs to each. What is not filtered costs nothing measurable.
//!
//! **The memory file.** A fork maps its template's memory privately, and yet QEMU opens the file to read and write it; a QEMU that
//! was taken over would write to what all forks share. So `openat` for both is stopped as well: for the memory file the
//! thread opens it for reading and puts that descriptor in place of the answer (`SECCOMP_IOCTL_NOTIF_ADDFD`), which is all that a
//! private mapping needs. Any other file is opened as asked for. Here the answer “go on” is used, with its race, for it permits
//! nothing: which files may be opened for writing is decided by the fence (`vmint-confine`), and the memory file is not among them.
//!
//! **Under an allow list** (`crate::egress`) calls that ask for the sender of a datagram are stopped, too, and a connection that is
//! looked into gets another socket in the place of its own.
//!
//! UDP cannot be published: libslirp answers the peer on the host's loopback by `sendto`, which is refused.
//!
//! AF_UNIX and every other family but IPv4 and IPv6 are refused with `EACCES`: QEMU gets its sockets connected, by
//! descriptor.
//!
//! * `policy`: which destination is allowed; pure.
//! * `host`: what the policy asks the host: its routes, its name servers.
//! * `filter`: the BPF program and its installation, in the child.
//! * `confine`: from a [`std::process::Command`] to a supervised child.
//! * `notify`: the kernel's notifications, typed.
//! * `address`: socket addresses as they lie in memory.
//! * `process`: reading another process's memory, duplicating its sockets.
//! * `supervisor`: the loop.
//! * `egress`: what it does under an allow list.
//! * `support`: whether all this works here, tried out.

mod address;
mod confine;
mod egress;
mod filter;
mod host;
mod notify;
mod policy;
mod process;
mod supervisor;
mod support;

pub use confine::{Handover, before_exec, confine, confine_to, supervise};
pub use filter::{Program, Watch, install};
pub use host::{LiveHost, name_servers};
pub use notify::Listener;
pub use policy::{Host, Policy, Protocol, Reach, Reason, Verdict};
pub use supervisor::{Guard, MemoryFile, Stats};
pub use support::{Unsupported, support, usable};
