//! A filter for calls that are denied whatever their arguments: a search tree over their numbers.
//!
//! When a filter is loaded, the kernel runs it once for each call that there is, to remember those that are always allowed. A chain
//! that compares one number after the other takes more of a machine's start than all of Landlock; a tree takes eight steps a call.

use seccompiler::{BpfProgram, sock_filter};

/// `AUDIT_ARCH_*` of linux/audit.h: which table a call's number belongs to.
#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 0xc000_00b7;

/// Numbers from here on are x32's on x86_64, another view of the same calls, and none elsewhere.
const X32_BIT: u32 = 0x4000_0000;
const NR: u32 = std::mem::offset_of!(libc::seccomp_data, nr) as u32;
const ARCHITECTURE: u32 = std::mem::offset_of!(libc::seccomp_data, arch) as u32;
const DENIED: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
const ABSENT: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

/// So many numbers are compared one by one.
const LEAF: usize = 3;

const fn step(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    }
}

const fn load(offset: u32) -> sock_filter {
    step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0, 0)
}

const fn answer(action: u32) -> sock_filter {
    step(libc::BPF_RET | libc::BPF_K, action, 0, 0)
}

const fn jump(test: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    step(libc::BPF_JMP | test | libc::BPF_K, k, jt, jf)
}

/// The filter: `denied` answer `EPERM`, `absent` answer `ENOSYS`, as all of x32 does; another architecture's calls kill.
pub(crate) fn filter(denied: &[u32], absent: &[u32]) -> BpfProgram {
    let mut calls: Vec<(u32, u32)> = denied.iter().map(|call| (*call, DENIED)).collect();
    calls.extend(absent.iter().map(|call| (*call, ABSENT)));
    calls.sort_unstable();
    let mut program = vec![
        load(ARCHITECTURE),
        jump(libc::BPF_JEQ, ARCH, 1, 0),
        answer(libc::SECCOMP_RET_KILL_PROCESS),
        load(NR),
        jump(libc::BPF_JGE, X32_BIT, 0, 1),
        answer(ABSENT),
    ];
    program.extend(tree(&calls));
    program
}

/// Finds the number among these, and answers in any case.
fn tree(calls: &[(u32, u32)]) -> BpfProgram {
    if calls.len() <= LEAF {
        let compared = calls
            .iter()
            .flat_map(|(call, action)| [jump(libc::BPF_JEQ, *call, 0, 1), answer(*action)]);
        let end = [answer(libc::SECCOMP_RET_ALLOW)];
        return compared.chain(end).collect();
    }
    let (low, high) = calls.split_at(calls.len() / 2);
    let below = tree(low);
    // A jump that depends on something goes 255 steps at most, one that does not any number.
    let over = step(libc::BPF_JMP | libc::BPF_JA, below.len() as u32, 0, 0);
    let mut program = vec![jump(libc::BPF_JGE, high[0].0, 0, 1), over];
    program.extend(below);
    program.extend(tree(high));
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the filter answers, found by running it as the kernel does, and in how many steps.
    fn run(program: &[sock_filter], arch: u32, nr: u32) -> (u32, usize) {
        let (mut at, mut accumulator, mut steps) = (0, 0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            steps += 1;
            match u32::from(code) {
                code if code == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS => {
                    accumulator = if k == NR { nr } else { arch };
                }
                code if code == libc::BPF_RET | libc::BPF_K => return (k, steps),
                code if code == libc::BPF_JMP | libc::BPF_JA => at += k as usize,
                code => {
                    let holds = match code & 0xf0 {
                        libc::BPF_JEQ => accumulator == k,
                        libc::BPF_JGE => accumulator >= k,
                        other => panic!("test {other:#x} is not in the program"),
                    };
                    at += usize::from(if holds { jt } else { jf });
                }
            }
        }
    }

    #[test]
    fn each_call_is_found_and_no_other_in_a_few_steps() {
        for count in 0..200 {
            let denied: Vec<u32> = (0..count).map(|n| n * 3 + 1).collect();
            let program = filter(&denied, &[600]);
            for nr in 0..650 {
                let (action, steps) = run(&program, ARCH, nr);
                let expected = match nr {
                    600 => ABSENT,
                    nr if denied.contains(&nr) => DENIED,
                    _ => libc::SECCOMP_RET_ALLOW,
                };
                assert_eq!(action, expected, "{nr} of {count}");
                assert!(steps < 35, "{steps} for {nr} of {count}");
            }
            assert_eq!(run(&program, ARCH, X32_BIT | 1).0, ABSENT);
            assert_eq!(run(&program, 1, 1).0, libc::SECCOMP_RET_KILL_PROCESS);
        }
    }
}
