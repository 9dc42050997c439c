//! What a decision is made of: what is allowed, what is asked for, and how things are.

use super::Factor;
use vmint_model::Boot;

/// What may be done at most. Settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How much may be promised of the memory that machines have or can have.
    pub overcommit: Factor,
    /// With more of the swap in use, in percent, nothing is started.
    pub swap_percent: u32,
    /// With tasks waiting for memory for more of the last ten seconds, in percent, nothing is started.
    pub pressure: u32,
    /// Cold boots at once; at least one.
    pub cold_boots: u32,
    /// Forks at once; at least one.
    pub forks: u32,
}

impl Limits {
    /// How many boots of a kind there may be at once.
    pub fn places(&self, boot: Boot) -> u32 {
        match boot {
            Boot::Cold => self.cold_boots,
            Boot::Fork => self.forks,
        }
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// Bytes to promise.
    pub bytes: u64,
    /// The place that it needs until it is up.
    pub boot: Boot,
}

/// What somebody is held for. Whoever is, or comes behind him in the line, is measured by stricter limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// For memory.
    pub memory: bool,
    /// For swap.
    pub swap: bool,
    /// For pressure.
    pub pressure: bool,
}

/// How things are. What is not known is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Situation {
    /// Bytes that can be had now.
    pub available: Option<u64>,
    /// Bytes that there are at all.
    pub total: Option<u64>,
    /// Swap in use, in percent; absent where there is none.
    pub swap: Option<f64>,
    /// How much of the last ten seconds some task waited for memory, in percent.
    pub pressure: Option<f64>,
    /// Bytes that live machines have been promised, or have if that is more.
    pub promised: u64,
    /// Bytes of it that they have already: what is missing from `available`.
    pub taken: u64,
    /// Live machines.
    pub machines: u32,
    /// Boots of the kind asked for that are under way.
    pub boots: u32,
    /// Bytes that those ahead in the line have asked for.
    pub ahead_bytes: u64,
    /// How many of those ahead in the line have asked for a boot of this kind.
    pub ahead_boots: u32,
    /// What this one was held for, or one ahead of it is.
    pub held: Held,
}

impl Held {
    /// And also for what this word says.
    pub fn add(&mut self, word: &str) {
        match word {
            "pressure" => self.pressure = true,
            "swap" => self.swap = true,
            "memory" => self.memory = true,
            _ => {}
        }
    }
}
