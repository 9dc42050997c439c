//! The layer of system calls: a list of those that are denied. All others stay, so that a new QEMU or C library is not broken
//! by a call that this list has never heard of; what QEMU may do beyond that, its own sandbox says. A runner's list is shorter.
//!
//! What is denied answers `EPERM`. `clone3` answers `ENOSYS`, for its flags lie in memory, where a filter cannot look: the C
//! library then uses `clone`, whose flags are looked at.

use crate::rules::{Network, Role};
use crate::tree;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};
use std::collections::BTreeMap;
use std::io;

/// Stands for the process's own id, which is known in the child alone.
const OWN_ID: u32 = 0x5eed_f00d;

/// Those that have no use in a program that is not a runner: a runner has a hypervisor to watch and to look into, and links
/// files.
const DENIED_TO_PROGRAMS: &[libc::c_long] = &[
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_linkat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_link,
    libc::SYS_fchmod,
];

/// Those that have no use in any.
const DENIED: &[libc::c_long] = &[
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_madvise,
    libc::SYS_kcmp,
    libc::SYS_tkill,
    // Parts of the kernel with many faults in their past.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_fanotify_init,
    libc::SYS_add_key,
    libc::SYS_keyctl,
    libc::SYS_request_key,
    // Mounts and namespaces.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_unshare,
    libc::SYS_setns,
    // Who may do what with a file, and where it is. Opening is Landlock's.
    libc::SYS_mknodat,
    libc::SYS_symlinkat,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_quotactl,
    // The host.
    libc::SYS_acct,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_settimeofday,
    libc::SYS_delete_module,
    libc::SYS_finit_module,
    libc::SYS_init_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_syslog,
    libc::SYS_vhangup,
];

/// Older names of the same, where the architecture has them.
#[cfg(target_arch = "x86_64")]
const DENIED_OLD: &[libc::c_long] = &[
    libc::SYS_mknod,
    libc::SYS_symlink,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_futimesat,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    libc::SYS_kexec_file_load,
];
#[cfg(not(target_arch = "x86_64"))]
const DENIED_OLD: &[libc::c_long] = &[];

/// `fchmodat2`, which libc does not name yet on every architecture.
const FCHMODAT2: libc::c_long = 452;

/// Signals: to nobody but the process itself.
const TO_ITSELF: &[libc::c_long] = &[
    libc::SYS_kill,
    libc::SYS_tgkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
];

/// Sockets of any kind.
const SOCKETS: &[libc::c_long] = &[
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
];

/// Calls after which a descriptor's number may be another's, and which argument that is.
const GIVES_A_NUMBER_AWAY: &[(libc::c_long, u8)] = &[
    (libc::SYS_close, 0),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_dup2, 1),
    (libc::SYS_dup3, 1),
];

const NAMESPACES: &[i32] = &[
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// The filters of a fence, to be loaded in this order.
#[derive(Debug)]
pub(crate) struct Filters(Vec<BpfProgram>);

/// Whether this kernel can filter system calls.
pub(crate) fn available() -> bool {
    let errno: u32 = libc::SECCOMP_RET_ERRNO;
    // SAFETY: the kernel reads the four bytes that the pointer leads to.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_GET_ACTION_AVAIL,
            0,
            &raw const errno,
        )
    };
    answer == 0
}

impl Filters {
    pub(crate) fn new(role: Role, network: &Network) -> Result<Self, seccompiler::Error> {
        let arch: TargetArch = std::env::consts::ARCH
            .try_into()
            .map_err(seccompiler::Error::Backend)?;
        let denied = match role {
            Role::Program => denied_to_program(network),
            Role::Runner => denied_to_runner(network),
        };
        let denied = denied.map_err(seccompiler::Error::Backend)?;
        // What depends on no argument is found in a tree.
        let (always, sometimes): (Denied, Denied) =
            denied.into_iter().partition(|(_, rules)| rules.is_empty());
        let always: Vec<u32> = always.into_keys().map(|call| call as u32).collect();
        let eperm = SeccompAction::Errno(libc::EPERM as u32);
        let sometimes = SeccompFilter::new(sometimes, SeccompAction::Allow, eperm, arch)
            .and_then(BpfProgram::try_from)
            .map_err(seccompiler::Error::Backend)?;
        let always = tree::filter(&always, &[libc::SYS_clone3 as u32]);
        Ok(Self(vec![sometimes, always]))
    }

    /// Puts the calling thread, and all that it starts, under the filters. Async-signal-safe.
    pub(crate) fn load(&mut self) -> io::Result<()> {
        // SAFETY: it takes nothing.
        let own = unsafe { libc::getpid() } as u32;
        for program in &mut self.0 {
            for step in program.iter_mut().filter(|step| step.k == OWN_ID) {
                step.k = own;
            }
            let program = libc::sock_fprog {
                len: program.len() as u16,
                filter: program.as_mut_ptr().cast(),
            };
            // SAFETY: seccompiler's instructions have the layout of the kernel's (`repr(C)`, the same fields); they and
            // `program` outlive the call, and the kernel copies them.
            let answer = unsafe {
                libc::syscall(
                    libc::SYS_seccomp,
                    libc::SECCOMP_SET_MODE_FILTER,
                    0,
                    &raw const program,
                )
            };
            if answer != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    }
}

type Denied = BTreeMap<i64, Vec<SeccompRule>>;

fn argument(n: u8, op: Op, value: u32) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(n, Len::Dword, op, u64::from(value))
}

/// Whether argument `n` has these bits, and these alone, of `mask`.
fn masked(n: u8, mask: u32, value: u32) -> Result<SeccompCondition, seccompiler::BackendError> {
    argument(n, Op::MaskedEq(u64::from(mask)), value)
}

/// What all roles are denied.
fn denied() -> Result<Denied, seccompiler::BackendError> {
    let always = DENIED.iter().chain(DENIED_OLD).chain([&FCHMODAT2]);
    let mut rules: Denied = always.map(|call| (*call, Vec::new())).collect();
    let mut clones = Vec::new();
    for flag in NAMESPACES {
        let flag = *flag as u32;
        clones.push(SeccompRule::new(vec![masked(0, flag, flag)?])?);
    }
    rules.insert(libc::SYS_clone, clones);
    Ok(rules)
}

fn denied_to_program(network: &Network) -> Result<Denied, seccompiler::BackendError> {
    let mut rules = denied()?;
    rules.extend(DENIED_TO_PROGRAMS.iter().map(|call| (*call, Vec::new())));
    for call in TO_ITSELF {
        let other = SeccompRule::new(vec![argument(0, Op::Ne, OWN_ID)?])?;
        rules.insert(*call, vec![other]);
    }
    match network {
        Network::None => rules.extend(SOCKETS.iter().map(|call| (*call, Vec::new()))),
        Network::Inet { given, .. } => {
            let other = vec![
                argument(0, Op::Ne, libc::AF_INET as u32)?,
                argument(0, Op::Ne, libc::AF_INET6 as u32)?,
            ];
            rules.insert(libc::SYS_socket, vec![SeccompRule::new(other)?]);
            let not_given = given.iter().map(|fd| argument(0, Op::Ne, *fd as u32));
            let not_given = not_given.collect::<Result<Vec<_>, _>>()?;
            let not_given = if not_given.is_empty() {
                Vec::new()
            } else {
                vec![SeccompRule::new(not_given)?]
            };
            rules.insert(libc::SYS_sendmsg, not_given);
            for (call, argument_of) in GIVES_A_NUMBER_AWAY {
                let one =
                    |fd: &i32| SeccompRule::new(vec![argument(*argument_of, Op::Eq, *fd as u32)?]);
                let any = given.iter().map(one).collect::<Result<Vec<_>, _>>()?;
                if !any.is_empty() {
                    rules.insert(*call, any);
                }
            }
            rules.insert(libc::SYS_close_range, Vec::new());
        }
    }
    Ok(rules)
}

/// What a runner may make of a file's mode: only its owner may read it, and nobody write to it. Frozen files are made so, and stay
/// so.
const READ_ONLY: u32 = 0o400;

fn denied_to_runner(network: &Network) -> Result<Denied, seccompiler::BackendError> {
    let mut rules = denied()?;
    let other_mode = SeccompRule::new(vec![argument(1, Op::Ne, READ_ONLY)?])?;
    rules.insert(libc::SYS_fchmod, vec![other_mode]);
    // It signals its children, one at a time. What those may signal, which are under this list too, their own says.
    let many = [argument(0, Op::Eq, 0)?, masked(0, 1 << 31, 1 << 31)?];
    let many = many.into_iter().map(|is| SeccompRule::new(vec![is]));
    rules.insert(libc::SYS_kill, many.collect::<Result<_, _>>()?);
    // Of Unix sockets only those that ring bells: a stream would lead to other runners, and to services of the host. Its own
    // listens already, and pairs are connected when they are made.
    let domain = |n: i32| argument(0, Op::Ne, n as u32);
    let mut sockets = Vec::new();
    for kind in (0..16).filter(|kind| *kind != libc::SOCK_DGRAM as u32) {
        let unix = argument(0, Op::Eq, libc::AF_UNIX as u32)?;
        sockets.push(SeccompRule::new(vec![unix, masked(1, 0xf, kind)?])?);
    }
    match network {
        Network::None => {
            sockets.push(SeccompRule::new(vec![domain(libc::AF_UNIX)?])?);
            for call in [
                libc::SYS_connect,
                libc::SYS_bind,
                libc::SYS_listen,
                libc::SYS_pidfd_getfd,
            ] {
                rules.insert(call, Vec::new());
            }
        }
        // The hypervisor's, and the guard's questions for routes.
        Network::Inet { .. } => {
            let other = [
                libc::AF_UNIX,
                libc::AF_INET,
                libc::AF_INET6,
                libc::AF_NETLINK,
            ];
            let other = other.map(domain).into_iter().collect::<Result<_, _>>()?;
            sockets.push(SeccompRule::new(other)?);
            let netlink = argument(0, Op::Eq, libc::AF_NETLINK as u32)?;
            let other = argument(2, Op::Ne, libc::NETLINK_ROUTE as u32)?;
            sockets.push(SeccompRule::new(vec![netlink, other])?);
        }
    }
    rules.insert(libc::SYS_socket, sockets);
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_id_is_compared_once_for_each_call_that_names_a_process() {
        let given = vec![];
        let inet = Network::Inet {
            bind: vec![],
            given,
        };
        for (role, network, places) in [
            (Role::Program, &Network::None, TO_ITSELF.len()),
            (Role::Runner, &Network::None, 0),
            (Role::Runner, &inet, 0),
        ] {
            let Filters(programs) = Filters::new(role, network).unwrap();
            let found = programs[0].iter().filter(|step| step.k == OWN_ID);
            assert_eq!(found.count(), places);
            assert!(programs.iter().all(|program| program.len() < 4096));
        }
    }
}
