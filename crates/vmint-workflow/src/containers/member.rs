//! What is started with a job: its own container, and its services.

use super::call::Call;
use super::engine::Engine;
use super::folders::{Folders, HOME};
use super::job::JobContainer;
use super::scope::Scope;
use super::service::Service;
use super::settings::Settings;
use super::volume::Volume;
use std::fmt;

/// The job's own container, or a service.
#[derive(Debug)]
pub(super) enum Member {
    /// The container that the job's steps run in, and where it has the job's folders.
    Job(Box<JobContainer>, Folders),
    /// A service.
    Service(Service),
}

/// Which of them, for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// The job's own container.
    Job,
    /// The service of this name.
    Service(String),
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Job => f.write_str("the job's container"),
            Self::Service(id) => write!(f, "service `{id}`"),
        }
    }
}

/// No service and no docker action has a name that begins so.
const NAME_OF_JOB: &str = "0_job";

impl Member {
    pub(super) fn settings(&self) -> &Settings {
        match self {
            Self::Job(job, _) => &job.settings,
            Self::Service(service) => &service.settings,
        }
    }

    pub(super) fn who(&self) -> Who {
        match self {
            Self::Job(..) => Who::Job,
            Self::Service(service) => Who::Service(service.id.clone()),
        }
    }

    /// The title of its start, as on GitHub.
    pub(super) fn title(&self) -> String {
        match self {
            Self::Job(..) => "Starting job container".to_owned(),
            Self::Service(service) => format!("Starting {} service container", service.id),
        }
    }

    /// Folders of the machine that it mounts.
    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        let own = match self {
            Self::Job(_, folders) => Some(folders.of_machine()),
            Self::Service(_) => None,
        };
        let volumes = self.settings().volumes.iter();
        let volumes = volumes.filter_map(Volume::path);
        own.into_iter().flatten().chain(volumes)
    }

    /// The command that creates it.
    pub(super) fn create(&self, engine: &Engine, scope: &Scope) -> Call {
        let settings = self.settings();
        let name = match self {
            Self::Job(..) => scope.name(NAME_OF_JOB),
            Self::Service(service) => scope.name(&service.id),
        };
        let mut call = engine
            .call(["create"])
            .args(engine.creation().iter().copied())
            .args(["--name", &name])
            .args(["--label", &scope.label()])
            .args(["--network", &scope.network()]);
        match self {
            Self::Job(_, folders) => {
                call = call.args(["--workdir", &folders.translate(&folders.workspace)]);
            }
            Self::Service(service) => call = call.args(["--network-alias", &service.id]),
        }
        for port in &settings.ports {
            call = call.args(["--publish".to_owned(), port.to_string()]);
        }
        // After ours and before the file's own keys, as GitHub has it: of two `--name`s the last one counts.
        call = call
            .args(settings.options.words().iter().cloned())
            .args(settings.env.arguments())
            .env(settings.env.inherited());
        if let Self::Job(_, folders) = self {
            call = call.args(["--env", &format!("HOME={HOME}")]);
            let socket = engine.socket();
            let socket = socket.map(|socket| Volume::folder(socket, "/var/run/docker.sock"));
            for volume in socket.into_iter().chain(folders.volumes()) {
                call = call.args(["--volume".to_owned(), volume.argument()]);
            }
        }
        for volume in &settings.volumes {
            call = call.args(["--volume".to_owned(), volume.argument()]);
        }
        match self {
            // It waits for as long as the job runs; steps are run beside it.
            Self::Job(..) => call
                .args(["--entrypoint", "tail", settings.image.as_str()])
                .args(["-f", "/dev/null"]),
            Self::Service(service) => {
                if let Some(entrypoint) = &service.entrypoint {
                    call = call.args(["--entrypoint", entrypoint]);
                }
                call.args([settings.image.as_str()])
                    .args(service.command.iter().cloned())
            }
        }
    }
}
