//! What comes of a decision, in types and in words.

use std::fmt;
use vmint_model::{Boot, ByteSize};

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// It may start.
    Admit,
    /// Not now.
    Hold(Reason),
    /// Not ever on this host: it needs so much, and all that could be promised is so much.
    Never {
        /// Bytes.
        need: u64,
        /// Bytes.
        most: u64,
    },
}

/// Why not now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reason {
    /// Tasks wait for memory.
    Pressure {
        /// Percent of the last ten seconds.
        percent: f64,
        /// What it must not be above, now.
        most: f64,
    },
    /// Swap is nearly full.
    Swap {
        /// Percent in use.
        percent: f64,
        /// What it must not be above, now.
        most: f64,
    },
    /// Too much is promised.
    Memory {
        /// Bytes asked for.
        need: u64,
        /// Bytes promised to live machines, and to those ahead in the line.
        promised: u64,
        /// Bytes that may be promised, now.
        most: u64,
        /// Live machines.
        machines: u32,
    },
    /// All places are taken.
    Places {
        /// Of this kind.
        boot: Boot,
        /// Boots under way.
        under_way: u32,
        /// Those ahead in the line.
        ahead: u32,
        /// Places.
        most: u32,
    },
}

impl Reason {
    /// In one word, as the store keeps it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Pressure { .. } => "pressure",
            Self::Swap { .. } => "swap",
            Self::Memory { .. } => "memory",
            Self::Places { .. } => "place",
        }
    }
}

/// Read after “waiting for ” and after “not started: the host is short of ”.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Pressure { percent, most } => write!(
                f,
                "memory pressure to ease: some task waited for memory for {percent:.1} % of the last 10 s, \
                 and {most:.1} % is the limit"
            ),
            Self::Swap { percent, most } => write!(
                f,
                "swap: {percent:.1} % of it is in use, and {most:.1} % is the limit"
            ),
            Self::Memory {
                need,
                promised,
                most,
                machines,
            } => write!(
                f,
                "memory: it needs {}, and of {} that can be promised {} are ({machines} live machine(s))",
                ByteSize(need),
                ByteSize(most),
                ByteSize(promised),
            ),
            Self::Places {
                boot,
                under_way,
                ahead,
                most,
            } => {
                let what = match boot {
                    Boot::Cold => "cold boot(s)",
                    Boot::Fork => "fork(s)",
                };
                write!(
                    f,
                    "a place to start: {under_way} {what} under way, {ahead} in line before, {most} at once"
                )
            }
        }
    }
}
