//! How a session, or a request in it, fails.

use std::time::Duration;
use vmint_protocol::GuestError;
use vmint_protocol::host::{Breach, OpenError};

/// What went wrong with a session or a request in it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SessionError {
    /// The other side hung up.
    #[error("the machine's agent hung up{}", .reason.as_deref().map(|r| format!(": {r}")).unwrap_or_default())]
    Lost {
        /// Why, if it is known.
        reason: Option<String>,
    },
    /// The other side broke the protocol, and was hung up on.
    #[error("the guest broke the protocol: it {0}")]
    Broken(Breach),
    /// No answer to the greeting.
    #[error("the machine's agent did not answer within {span}", span = vmint_model::span(*after))]
    Silent {
        /// The deadline.
        after: Duration,
    },
    /// Another version.
    #[error("the machine's agent speaks protocol version {guest}, and this vmint version {host}")]
    Version {
        /// The guest's.
        guest: u16,
        /// Ours.
        host: u16,
    },
    /// A request was not answered in time.
    #[error("the machine did not {what} within {span}", span = vmint_model::span(*after))]
    TimedOut {
        /// What was awaited.
        what: &'static str,
        /// The deadline.
        after: Duration,
    },
    /// The guest could not serve a request.
    #[error("the guest could not {}", .0.message)]
    Guest(GuestError),
    /// An answer to another question.
    #[error("the machine's agent gave an answer that does not fit the request: {0}")]
    Unexpected(String),
    /// A request that cannot be sent.
    #[error("the request cannot be sent: {0}")]
    Request(#[from] OpenError),
}

impl From<SessionError> for vmint_model::Fault {
    fn from(e: SessionError) -> Self {
        use vmint_model::ErrorKind as K;
        let kind = match &e {
            SessionError::Lost { .. } | SessionError::Broken(_) => K::MachineLost,
            SessionError::Silent { .. } | SessionError::TimedOut { .. } => K::TimedOut,
            SessionError::Version { .. } => K::Guest,
            SessionError::Guest(_) => K::Guest,
            SessionError::Unexpected(_) => K::Internal,
            SessionError::Request(OpenError::Crowded) => K::Refused,
            SessionError::Request(_) => K::Usage,
        };
        let fault = Self::from_error(kind, &e);
        match e {
            SessionError::Version { .. } => {
                fault.hint("another version of vmint made this machine: run `vmint template prune`, then start it again")
            }
            _ => fault,
        }
    }
}

/// Why a session is over.
#[derive(Debug, Clone)]
pub(super) enum Over {
    /// The other side has hung up; why, if it is known.
    Lost(Option<String>),
    /// It was hung up on.
    Broken(Breach),
}

impl From<Over> for SessionError {
    fn from(over: Over) -> Self {
        match over {
            Over::Lost(reason) => Self::Lost { reason },
            Over::Broken(breach) => Self::Broken(breach),
        }
    }
}
