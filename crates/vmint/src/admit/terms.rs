//! What is allowed, and how one is willing to be held: the settings of admission.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;
use vmint_pool::admission::{Factor, Limits};

/// What to do when the host cannot carry a machine now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnPressure {
    /// Wait until it can, or until the deadline.
    #[default]
    Wait,
    /// Fail at once.
    Fail,
    /// Fail at once, and the work is not to be done: a test is skipped. For vmint it is the same as to fail; who called
    /// it knows what to skip.
    Skip,
}

impl OnPressure {
    /// As in the settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Wait => "wait",
            Self::Fail => "fail",
            Self::Skip => "skip",
        }
    }
}

impl fmt::Display for OnPressure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that says nothing about pressure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is wait, fail or skip")]
pub struct InvalidOnPressure;

impl FromStr for OnPressure {
    type Err = InvalidOnPressure;

    fn from_str(s: &str) -> Result<Self, InvalidOnPressure> {
        match s {
            "wait" => Ok(Self::Wait),
            "fail" => Ok(Self::Fail),
            "skip" => Ok(Self::Skip),
            _ => Err(InvalidOnPressure),
        }
    }
}

/// How one is willing to be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Whether to wait.
    pub on_pressure: OnPressure,
    /// How long.
    pub timeout: Duration,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            on_pressure: OnPressure::Wait,
            timeout: Duration::from_secs(60),
        }
    }
}

/// The settings of admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Unless a machine comes with its own.
    pub terms: Terms,
    /// How much may be promised, as a factor.
    pub overcommit: Factor,
    /// With more of the swap in use nothing is started; percent.
    pub swap_percent: u32,
    /// With tasks waiting for memory for more of the last ten seconds nothing is started; percent.
    ///
    /// The default lies between what `vmint doctor` warns of (10), which a burst of reading causes on a healthy host,
    /// and where systemd-oomd begins to kill (60).
    pub pressure: u32,
    /// Cold boots at once.
    pub cold_boots: u32,
    /// Forks at once; 0 is the number of processors.
    pub forks: u32,
}

impl Default for Admission {
    fn default() -> Self {
        Self {
            terms: Terms::default(),
            overcommit: Factor::ONE,
            swap_percent: 80,
            pressure: 40,
            cold_boots: 2,
            forks: 0,
        }
    }
}

impl Admission {
    pub(super) fn limits(&self) -> Limits {
        let forks = match self.forks {
            0 => std::thread::available_parallelism().map_or(2, |n| n.get() as u32),
            n => n,
        };
        Limits {
            overcommit: self.overcommit,
            swap_percent: self.swap_percent,
            pressure: self.pressure,
            cold_boots: self.cold_boots,
            forks,
        }
    }
}
