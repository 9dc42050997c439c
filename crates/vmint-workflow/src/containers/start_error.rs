//! Why containers of a job did not start.

use super::call::Failure;
use super::fetch::FetchError;
use super::health::Unready;
use super::image::Image;
use super::member::Who;

/// Why containers of a job did not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// Their network.
    #[error("failed to create a network for the job's containers: {0}")]
    Network(Failure),
    /// An image.
    #[error("{who}: {source}")]
    Fetch {
        /// Whose.
        who: Who,
        /// Why.
        source: FetchError,
    },
    /// A container.
    #[error("failed to {} ({image}): {failure}", attempted(who, *what))]
    Container {
        /// Whose.
        who: Who,
        /// Its image.
        image: Image,
        /// What was tried.
        what: Attempt,
        /// Why it failed.
        failure: Failure,
    },
    /// The job's own container has ended by itself.
    #[error(
        "the job's container ({image}) ended at once, with exit code {code}: no step can be run in it"
    )]
    Ended {
        /// Its image.
        image: Image,
        /// Its exit code.
        code: i64,
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

fn attempted(who: &Who, what: Attempt) -> String {
    let verb = match (what, who) {
        (Attempt::Folders, _) => "make the folders for the volumes of",
        (Attempt::Create, Who::Service(_)) => "create the container of",
        (Attempt::Create, Who::Job) => "create",
        (Attempt::Start, _) => "start",
        (Attempt::Inspect, _) => "find the ports of",
    };
    format!("{verb} {who}")
}

fn unready(services: &[(String, Unready)]) -> String {
    let each = services
        .iter()
        .map(|(service, why)| format!("service `{service}` is not ready: {why}"));
    each.collect::<Vec<_>>().join("; ")
}
