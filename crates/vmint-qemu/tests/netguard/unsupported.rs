//! Where it does not work.

use crate::puppet::{Caller, puppet, puppet_command, unguarded};
use crate::world::private_host;
use std::io::{self};

#[test]
fn under_another_supervisor_the_guard_says_that_it_is_not_supported() {
    let _neighbour = private_host("9.9.9.9");
    let mut child = puppet(Caller::OtherThread);
    let answer = child.does("support");
    assert!(
        answer.starts_with("Filter(") && answer.contains(&format!("code: {}", libc::EBUSY)),
        "{answer}"
    );
    child.end();
}

/// As Docker does for containers without SYS_PTRACE.
#[test]
fn where_pidfd_getfd_is_forbidden_the_guard_says_that_it_is_not_supported() {
    use std::os::unix::process::CommandExt as _;
    let mut command = puppet_command();
    let forbid = || {
        let step = |code: u32, jt, jf, k| libc::sock_filter {
            code: code as u16,
            jt,
            jf,
            k,
        };
        let mut program = [
            step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
            step(
                libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
                0,
                1,
                libc::SYS_pidfd_getfd as u32,
            ),
            step(
                libc::BPF_RET | libc::BPF_K,
                0,
                0,
                libc::SECCOMP_RET_ERRNO | libc::EPERM as u32,
            ),
            step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
        ];
        let program = libc::sock_fprog {
            len: 4,
            filter: program.as_mut_ptr(),
        };
        // SAFETY: `program` outlives the calls, and the kernel copies it.
        let done = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
                | libc::prctl(
                    libc::PR_SET_SECCOMP,
                    libc::SECCOMP_MODE_FILTER,
                    &raw const program,
                )
        };
        if done == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    };
    // SAFETY: two system calls and the stack.
    unsafe { command.pre_exec(forbid) };
    let mut child = unguarded(command.spawn().unwrap());
    assert_eq!(child.does("support"), "Inspection");
    child.order("end");
    assert!(child.child.wait().unwrap().success());
}
