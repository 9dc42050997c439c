//! How the body of a step ended, as the engine knows it: what it quotes is not masked yet. The record has a
//! [`StepEnd`](crate::record::StepEnd).

use crate::mask::Masks;
use crate::record::{Limit, StepEnd};
use std::time::Duration;

/// How a step's command, or what was done in place of one, ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It exited.
    Exited {
        /// With this code.
        code: u8,
    },
    /// A signal killed it.
    Killed {
        /// This one.
        signal: i32,
    },
    /// It ran past a time limit and was killed in the guest.
    TimedOut {
        /// Whose limit.
        whose: Limit,
        /// The limit.
        limit_ms: u64,
    },
    /// It was cancelled.
    Cancelled,
    /// It could not be started or evaluated, through its own fault.
    Invalid {
        /// Why.
        reason: String,
    },
}

impl End {
    /// As it may be shown.
    pub fn shown(&self, masks: &Masks) -> StepEnd {
        match self {
            Self::Exited { code } => StepEnd::Exited { code: *code },
            Self::Killed { signal } => StepEnd::Killed { signal: *signal },
            Self::TimedOut { whose, limit_ms } => StepEnd::TimedOut {
                whose: *whose,
                limit_ms: *limit_ms,
            },
            Self::Cancelled => StepEnd::Cancelled,
            Self::Invalid { reason } => StepEnd::Invalid {
                reason: masks.mask(reason),
            },
        }
    }

    /// In a word.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Exited { code: 0 } => "done",
            Self::Exited { .. } => "failed",
            Self::Killed { .. } => "killed",
            Self::TimedOut { .. } => "timed out",
            Self::Cancelled => "cancelled",
            Self::Invalid { .. } => "invalid",
        }
    }

    /// Why the step failed, for its log.
    pub fn why_failed(&self) -> Option<String> {
        match self {
            Self::Exited { code: 0 } => None,
            Self::Exited { code } => Some(format!("Process completed with exit code {code}.")),
            Self::Killed { signal } => Some(format!("Process was killed by signal {signal}.")),
            Self::TimedOut { whose, limit_ms } => {
                let whose = super::command::whose(*whose);
                let limit = crate::limits::text(Duration::from_millis(*limit_ms));
                Some(format!(
                    "The {whose} ran past its time limit of {limit}; the command was killed in the machine."
                ))
            }
            Self::Cancelled => Some("The operation was cancelled.".into()),
            Self::Invalid { reason } => Some(reason.clone()),
        }
    }
}
