//! Which failures of a creation are tried again, and when.
//!
//! Only what may be otherwise the next time: a hypervisor or a runner that died. What a user asked for and cannot be
//! had, a full disk, an image that does not boot: these fail at once. A user's command is never run again.

use vmint_model::{ErrorKind, Fault};

/// How often a creation is tried, in all.
pub const ATTEMPTS: u32 = 4;
/// The pause after the first failure; each further one is twice as long.
const FIRST_PAUSE_MS: i64 = 100;

/// Whether the same might succeed if it is tried again.
pub fn is_transient(fault: &Fault) -> bool {
    matches!(
        fault.kind,
        ErrorKind::Hypervisor | ErrorKind::Runner | ErrorKind::MachineLost
    )
}

/// How long to wait after failure number `failed`, counted from 1. `bits` are random: two that failed together do not
/// try again together.
pub fn pause_ms(failed: u32, bits: u64) -> i64 {
    let longest = FIRST_PAUSE_MS << (failed.saturating_sub(1)).min(10);
    let half = longest / 2;
    half + (bits % half.unsigned_abs().max(1)) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_differ() {
        for failed in 1..4 {
            let longest = 100 << (failed - 1);
            for bits in [0, 7, u64::MAX] {
                let pause = pause_ms(failed, bits);
                assert!((longest / 2..longest).contains(&pause), "{failed}: {pause}");
            }
        }
        assert_ne!(pause_ms(1, 1), pause_ms(1, 2));
    }

    #[test]
    fn what_the_user_got_wrong_and_what_is_full_is_not_tried_again() {
        for kind in [
            ErrorKind::Usage,
            ErrorKind::NoSpace,
            ErrorKind::Image,
            ErrorKind::TimedOut,
        ] {
            assert!(!is_transient(&Fault::new(kind, "x")));
        }
        assert!(is_transient(&Fault::new(ErrorKind::Runner, "x")));
    }
}
