//! The seccomp filter and its installation. What runs between `fork` and `exec` allocates nothing, takes no lock, and touches
//! nothing but its own stack and the program.

use std::io;
use std::mem::{offset_of, size_of};
use std::os::fd::RawFd;

/// `AUDIT_ARCH_*` of linux/audit.h: which table a system call's number belongs to.
#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 0xc000_00b7;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("netguard's filter knows the system calls of x86_64 and aarch64 only");

/// Numbers from here on are x32's on x86_64 (another view of the same calls), and none elsewhere.
const X32_BIT: u32 = 0x4000_0000;

const NR: u32 = offset_of!(libc::seccomp_data, nr) as u32;
const ARCHITECTURE: u32 = offset_of!(libc::seccomp_data, arch) as u32;
/// `sendto`'s address. Both supported architectures are little-endian.
const ADDRESS_LOW: u32 = offset_of!(libc::seccomp_data, args) as u32 + 4 * 8;
const ADDRESS_HIGH: u32 = ADDRESS_LOW + 4;

/// `openat`'s flags, an int.
const OPENAT_FLAGS: u32 = offset_of!(libc::seccomp_data, args) as u32 + 2 * 8;
/// As if the kernel did not have the call.
const ABSENT: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

const fn mask(k: u32) -> libc::sock_filter {
    libc::sock_filter {
        code: (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16,
        jt: 0,
        jf: 0,
        k,
    }
}

const fn load(offset: u32) -> libc::sock_filter {
    libc::sock_filter {
        code: (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16,
        jt: 0,
        jf: 0,
        k: offset,
    }
}

const fn jump(test: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter {
        code: (libc::BPF_JMP | test | libc::BPF_K) as u16,
        jt,
        jf,
        k,
    }
}

const fn answer(action: u32) -> libc::sock_filter {
    libc::sock_filter {
        code: (libc::BPF_RET | libc::BPF_K) as u16,
        jt: 0,
        jf: 0,
        k: action,
    }
}

/// What the guard is asked to watch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    network: bool,
    memory: bool,
    senders: bool,
    ports: bool,
}

impl Watch {
    /// Calls that name a destination.
    pub const NETWORK: Self = Self {
        network: true,
        ..Self::NOTHING
    };
    /// Calls that open a file for reading and writing.
    pub const MEMORY: Self = Self {
        memory: true,
        ..Self::NOTHING
    };
    /// None.
    pub const NOTHING: Self = Self {
        network: false,
        memory: false,
        senders: false,
        ports: false,
    };

    /// And calls that open a file for reading and writing.
    #[must_use]
    pub const fn and_memory(self) -> Self {
        Self {
            memory: true,
            ..self
        }
    }

    /// And calls that ask for the sender of what they receive.
    #[must_use]
    pub const fn and_senders(self) -> Self {
        Self {
            senders: true,
            ..self
        }
    }

    /// And calls that bind an address or listen.
    #[must_use]
    pub const fn and_ports(self) -> Self {
        Self {
            ports: true,
            ..self
        }
    }
}

/// A filter, made before the fork.
#[derive(Clone, Debug)]
pub struct Program(Vec<libc::sock_filter>);

impl Program {
    /// Each call that is looked at has a block of its own, which answers; whatever comes to the end is allowed. For every
    /// call without a block the kernel finds by itself that the answer is always “allow” and does not run the filter (its
    /// action cache, from 5.11).
    pub fn new(watch: Watch) -> Self {
        let mut steps = vec![
            load(ARCHITECTURE),
            jump(libc::BPF_JEQ, ARCH, 1, 0),
            // Another architecture's table (int 0x80): no part of QEMU does that.
            answer(libc::SECCOMP_RET_KILL_PROCESS),
            load(NR),
            jump(libc::BPF_JGE, X32_BIT, 0, 1),
            answer(ABSENT),
        ];
        let mut block = |call: libc::c_long, block: &[libc::sock_filter]| {
            steps.push(jump(libc::BPF_JEQ, call as u32, 0, block.len() as u8));
            steps.extend(block);
        };
        if watch.network {
            block(libc::SYS_connect, &[answer(libc::SECCOMP_RET_USER_NOTIF)]);
            // Neither QEMU nor libslirp has sendmmsg; glibc's resolver has, and goes on without it.
            block(libc::SYS_sendmmsg, &[answer(ABSENT)]);
            let named = [
                load(ADDRESS_LOW),
                jump(libc::BPF_JEQ, 0, 0, 3),
                load(ADDRESS_HIGH),
                jump(libc::BPF_JEQ, 0, 0, 1),
                answer(libc::SECCOMP_RET_ALLOW),
                answer(libc::SECCOMP_RET_USER_NOTIF),
            ];
            block(libc::SYS_sendto, &named);
            if watch.senders {
                // The sender's address is the same argument as sendto's destination.
                block(libc::SYS_recvfrom, &named);
            }
        }
        if watch.ports {
            for call in [libc::SYS_bind, libc::SYS_listen] {
                block(call, &[answer(libc::SECCOMP_RET_USER_NOTIF)]);
            }
        }
        if watch.memory {
            let both_ways = [
                load(OPENAT_FLAGS),
                mask(libc::O_ACCMODE as u32),
                jump(libc::BPF_JEQ, libc::O_RDWR as u32, 0, 1),
                answer(libc::SECCOMP_RET_USER_NOTIF),
                answer(libc::SECCOMP_RET_ALLOW),
            ];
            block(libc::SYS_openat, &both_ways);
        }
        steps.push(answer(libc::SECCOMP_RET_ALLOW));
        Self(steps)
    }
}

/// Puts the calling process under a filter for good, with all that it will start, and sends the listener to the
/// other end of `sock` (a Unix socket), where [`Listener::receive`](super::Listener::receive) takes it. `sock` stays
/// open; it should close on exec.
///
/// [`confine`](super::confine) does this for a [`std::process::Command`].
///
/// # Errors
///
/// `EBUSY`: the process is under such a filter already (a container whose manager intercepts system calls). `EINVAL`
/// or `ENOSYS`: the kernel is too old, or built without it. No error allocates.
///
/// # Safety
///
/// For use between `fork` and `exec`: it is async-signal-safe. It changes what the whole process may do, so it is for a
/// process that has one thread and expects it. `sock` must be an open descriptor of the caller's.
pub unsafe fn install(sock: RawFd, program: &mut Program) -> io::Result<()> {
    // Without privileges a filter needs this; with them, it keeps a set-user-id program from running under it.
    // SAFETY: no pointers.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // From 5.19 a signal does not interrupt a call that is being decided. Without that, the call starts anew after
    // the signal although its first try was carried out.
    let listener = match load_filter(program, libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => load_filter(program, 0)?,
        other => other?,
    };
    let sent = send_descriptor(sock, listener);
    // SAFETY: `listener` was opened above, and nobody else has it.
    unsafe { libc::close(listener) };
    sent
}

fn load_filter(program: &mut Program, flags: libc::c_ulong) -> io::Result<RawFd> {
    let program = libc::sock_fprog {
        len: program.0.len() as u16,
        filter: program.0.as_mut_ptr(),
    };
    // SAFETY: `program` and the instructions it points to outlive the call, and the kernel copies them.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | flags,
            &raw const program,
        )
    };
    if fd < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(fd as RawFd)
    }
}

/// Room for one control message with one descriptor, aligned as the kernel wants it.
#[repr(C, align(8))]
pub(super) struct Control(pub(super) [u8; 64]);

/// `CMSG_LEN` and `CMSG_SPACE` for one descriptor.
pub(super) const ONE_DESCRIPTOR: u32 = size_of::<RawFd>() as u32;

fn send_descriptor(sock: RawFd, fd: RawFd) -> io::Result<()> {
    let mut byte = *b"L";
    let mut control = Control([0; 64]);
    let mut part = libc::iovec {
        iov_base: byte.as_mut_ptr().cast(),
        iov_len: 1,
    };
    // SAFETY: a msghdr of zeros is one without address, data and control.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    // SAFETY: CMSG_SPACE computes; it is 24, within the 64 bytes of `control`.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(ONE_DESCRIPTOR) } as _;
    // SAFETY: `msg_control` is set to zeroed room for one header and one descriptor, so the first header exists, is
    // aligned (Control is), and its data has room for the descriptor. `message` outlives the call.
    let sent = unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(ONE_DESCRIPTOR) as _;
        libc::CMSG_DATA(header).cast::<RawFd>().write_unaligned(fd);
        libc::sendmsg(sock, &raw const message, libc::MSG_NOSIGNAL)
    };
    match sent {
        1 => Ok(()),
        -1 => Err(io::Error::last_os_error()),
        _ => Err(io::Error::from_raw_os_error(libc::EIO)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the filter answers, found by running it as the kernel does.
    fn filtered(watch: Watch, arch: u32, nr: i64, args: [u64; 6]) -> u32 {
        let Program(program) = Program::new(watch);
        let word = |offset: u32| match offset {
            NR => nr as u32,
            ARCHITECTURE => arch,
            offset => {
                let at = (offset - offset_of!(libc::seccomp_data, args) as u32) as usize;
                (args[at / 8] >> (at % 8 * 8)) as u32
            }
        };
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let step = program[at];
            at += 1;
            match u32::from(step.code) {
                code if code == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS => {
                    accumulator = word(step.k);
                }
                code if code == libc::BPF_ALU | libc::BPF_AND | libc::BPF_K => {
                    accumulator &= step.k;
                }
                code if code == libc::BPF_RET | libc::BPF_K => return step.k,
                code => {
                    let holds = match code & 0xf0 {
                        libc::BPF_JEQ => accumulator == step.k,
                        libc::BPF_JGE => accumulator >= step.k,
                        other => panic!("test {other:#x} is not in the program"),
                    };
                    at += usize::from(if holds { step.jt } else { step.jf });
                }
            }
        }
    }

    #[test]
    fn connect_is_always_stopped() {
        assert_eq!(
            filtered(Watch::NETWORK.and_memory(), ARCH, libc::SYS_connect, [0; 6]),
            libc::SECCOMP_RET_USER_NOTIF
        );
        assert_eq!(
            filtered(
                Watch::NETWORK.and_memory(),
                ARCH,
                libc::SYS_connect,
                [u64::MAX; 6]
            ),
            libc::SECCOMP_RET_USER_NOTIF
        );
    }

    #[test]
    fn sendto_is_stopped_when_either_half_of_its_address_is_set() {
        let with = |address| {
            filtered(
                Watch::NETWORK.and_memory(),
                ARCH,
                libc::SYS_sendto,
                [u64::MAX, 1, 1, 1, address, 16],
            )
        };
        assert_eq!(with(0), libc::SECCOMP_RET_ALLOW);
        for address in [1, 0x8000_0000, 1 << 32, 0x7fff_0000_0000, 0x7fff_1234_5678] {
            assert_eq!(with(address), libc::SECCOMP_RET_USER_NOTIF, "{address:#x}");
        }
    }

    #[test]
    fn recvfrom_is_stopped_for_callers_that_ask_for_the_sender_under_an_allow_list_alone() {
        let with = |watch, address| {
            let args = [u64::MAX, 1, 1, 1, address, 1];
            filtered(watch, ARCH, libc::SYS_recvfrom, args)
        };
        for watch in [
            Watch::NETWORK.and_senders(),
            Watch::NETWORK.and_senders().and_memory(),
        ] {
            assert_eq!(with(watch, 0), libc::SECCOMP_RET_ALLOW);
            for address in [1, 1 << 32] {
                assert_eq!(with(watch, address), libc::SECCOMP_RET_USER_NOTIF);
            }
        }
        for watch in [Watch::NETWORK, Watch::MEMORY, Watch::NETWORK.and_memory()] {
            assert_eq!(with(watch, 1), libc::SECCOMP_RET_ALLOW);
        }
    }

    #[test]
    fn sendmmsg_and_x32_do_not_exist() {
        assert_eq!(
            filtered(
                Watch::NETWORK.and_memory(),
                ARCH,
                libc::SYS_sendmmsg,
                [0; 6]
            ),
            ABSENT
        );
        assert_eq!(
            filtered(
                Watch::NETWORK.and_memory(),
                ARCH,
                i64::from(X32_BIT) | libc::SYS_connect,
                [0; 6]
            ),
            ABSENT
        );
        assert_eq!(
            filtered(
                Watch::NETWORK.and_memory(),
                ARCH,
                i64::from(X32_BIT),
                [0; 6]
            ),
            ABSENT
        );
    }

    #[test]
    fn another_architectures_calls_kill() {
        const AUDIT_ARCH_I386: u32 = 0x4000_0003;
        assert_eq!(
            filtered(Watch::NETWORK.and_memory(), AUDIT_ARCH_I386, 362, [0; 6]),
            libc::SECCOMP_RET_KILL_PROCESS
        );
    }

    #[test]
    fn all_other_calls_are_free() {
        for nr in 0..600 {
            if ![
                libc::SYS_connect,
                libc::SYS_sendto,
                libc::SYS_sendmmsg,
                libc::SYS_openat,
            ]
            .contains(&nr)
            {
                assert_eq!(
                    filtered(Watch::NETWORK.and_memory(), ARCH, nr, [u64::MAX; 6]),
                    libc::SECCOMP_RET_ALLOW,
                    "{nr}"
                );
            }
        }
    }

    #[test]
    fn a_file_is_looked_at_when_it_is_opened_both_ways_and_not_otherwise() {
        let with = |watch, flags: i32| {
            let flags = flags as u32 as u64;
            filtered(watch, ARCH, libc::SYS_openat, [0, 0, flags, 0, 0, 0])
        };
        for watch in [Watch::MEMORY, Watch::NETWORK.and_memory()] {
            for more in [0, libc::O_CLOEXEC, libc::O_CREAT | libc::O_APPEND] {
                let both = with(watch, libc::O_RDWR | more);
                assert_eq!(both, libc::SECCOMP_RET_USER_NOTIF);
                for one in [libc::O_RDONLY, libc::O_WRONLY] {
                    assert_eq!(with(watch, one | more), libc::SECCOMP_RET_ALLOW);
                }
            }
        }
        let unwatched = with(Watch::NETWORK, libc::O_RDWR);
        assert_eq!(unwatched, libc::SECCOMP_RET_ALLOW);
    }

    #[test]
    fn an_address_is_bound_by_the_guard_where_ports_are_published_and_nowhere_else() {
        for call in [libc::SYS_bind, libc::SYS_listen] {
            let with = |watch| filtered(watch, ARCH, call, [1; 6]);
            assert_eq!(
                with(Watch::NETWORK.and_ports()),
                libc::SECCOMP_RET_USER_NOTIF
            );
            assert_eq!(with(Watch::NETWORK.and_memory()), libc::SECCOMP_RET_ALLOW);
        }
    }

    #[test]
    fn without_a_network_no_destination_is_looked_at() {
        for call in [libc::SYS_connect, libc::SYS_sendto, libc::SYS_sendmmsg] {
            let answer = filtered(Watch::MEMORY, ARCH, call, [u64::MAX; 6]);
            assert_eq!(answer, libc::SECCOMP_RET_ALLOW);
        }
    }
}
