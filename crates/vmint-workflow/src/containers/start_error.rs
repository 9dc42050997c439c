//! Why services did not start.

use super::call::Failure;
use super::fetch::FetchError;
use super::health::Unready;
use super::image::Image;

/// Why services did not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// Their network.
    #[error("failed to create a network for the services: {0}")]
    Network(Failure),
    /// An image.
    #[error("service `{service}`: {source}")]
    Fetch {
        /// Whose.
        service: String,
        /// Why.
        source: FetchError,
    },
    /// A container.
    #[error("failed to {} service `{service}` ({image}): {failure}", .what.as_str())]
    Container {
        /// Whose.
        service: String,
        /// Its image.
        image: Image,
        /// What was tried.
        what: Attempt,
        /// Why it failed.
        failure: Failure,
    },
    /// They run and are not well.
    #[error("{}", unready(.0))]
    Unready(Vec<(String, Unready)>),
}

/// What was tried with a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// Making what it mounts.
    Folders,
    /// `create`.
    Create,
    /// `start`.
    Start,
    /// `inspect`.
    Inspect,
}

impl Attempt {
    fn as_str(self) -> &'static str {
        match self {
            Self::Folders => "make the folders for the volumes of",
            Self::Create => "create the container of",
            Self::Start => "start",
            Self::Inspect => "find the ports of",
        }
    }
}

fn unready(services: &[(String, Unready)]) -> String {
    let each = services
        .iter()
        .map(|(service, why)| format!("service `{service}` is not ready: {why}"));
    each.collect::<Vec<_>>().join("; ")
}
