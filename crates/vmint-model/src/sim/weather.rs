//! What may go wrong, and how often.

use super::Random;

/// How often each thing goes wrong, in 10,000 chances for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// A call is put off, by at most [`Weather::longest_ms`]: before it happens, and once more before it answers.
    pub delay: u32,
    /// How long a call is put off at most.
    pub longest_ms: i64,
    /// A call to the ledger fails, and has not happened: the disk is full, or others hold the database for too long.
    pub fail: u32,
    /// A call to the ledger fails, and has happened.
    pub lose: u32,
    /// The calling process dies, before the call or behind it.
    pub crash: u32,
    /// A ring does not arrive.
    pub deaf: u32,
    /// A hypervisor does not start, but may the next time.
    pub stillborn: u32,
    /// A machine cannot be made, and will not be able to be the next time.
    pub broken: u32,
}

impl Weather {
    /// Nothing goes wrong.
    pub const CALM: Self = Self {
        delay: 0,
        longest_ms: 0,
        fail: 0,
        lose: 0,
        crash: 0,
        deaf: 0,
        stillborn: 0,
        broken: 0,
    };

    /// Some weather or other: each thing now often, now seldom, now never.
    pub fn any(random: &mut Random) -> Self {
        let longest_ms = *random.pick(&[5, 20, 100]);
        let mut often = |most: u32| match random.below(3) {
            0 => 0,
            1 => most / 5,
            _ => most,
        };
        Self {
            delay: often(3_000),
            longest_ms,
            fail: often(200),
            lose: often(200),
            crash: often(100),
            deaf: often(3_000),
            stillborn: often(1_500),
            broken: often(300),
        }
    }
}
