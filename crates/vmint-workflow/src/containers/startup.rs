//! The job's own container and its services start.
//!
//! ```text
//! network ─→ the job's own, then each service in the file's order ─────────→ for each: healthy? ─→ ready
//!            image (fetch) ─→ folders (podman) ─→ create ─→ start ─→ ports                │ no
//!                                                                                        ↓
//!                                                              logs of those that are not ─→ failed
//! ```
//!
//! The first failure ends it, but for the health of services: all are waited for, so that one sees the logs of all that failed. A
//! service that has ended by itself and has no health check is worth a warning and no more, as on GitHub; the job's own
//! container has to go on. Whatever the end, [`Teardown`] follows when the job ends.

use super::call::{Answer, Call, Show, Turn};
use super::engine::Engine;
use super::fetch::{Fetch, FetchError};
use super::folders::Folders;
use super::health::{Health, HealthWait, Inspection, Life, Unready, Wait};
use super::inside::Inside;
use super::job::JobContainer;
use super::member::{Member, Who};
use super::running::Running;
use super::scope::Scope;
use super::service::Service;
use super::start_error::{Attempt, StartError};
use super::teardown::Teardown;
use crate::log::Kind;
use std::collections::VecDeque;
use std::time::Duration;

/// For a service whose engine never says that it is not healthy. Much more than GitHub's services take, for emulation is
/// slow; the job's own limit may come first.
pub const HEALTH_LIMIT: Duration = Duration::from_mins(30);

/// The dialogue.
#[derive(Debug)]
pub struct Startup {
    engine: Engine,
    scope: Scope,
    members: Vec<Member>,
    job: Option<Inside>,
    running: Vec<Running>,
    /// Those of them that have a health check, by their places there.
    checked: Vec<usize>,
    unready: Vec<(String, Unready)>,
    says: VecDeque<(Kind, String)>,
    stage: Stage,
}

/// What has started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Started {
    /// The job's own container.
    pub job: Option<Inside>,
    /// Services.
    pub services: Vec<Running>,
}

#[derive(Debug)]
enum Stage {
    Network,
    /// The job's own container or a service, by its place.
    Image(usize, Fetch),
    Folders(usize),
    Create(usize),
    /// With the id of its container.
    Start(usize, String),
    Inspect(usize, String),
    /// Of one that has ended by itself.
    DeadLogs(usize),
    /// Of a container, by its place among those that have a check.
    Health(usize, HealthWait, Call),
    /// Of one that is not ready, by its place there.
    Logs(usize),
    End(Result<(), StartError>),
}

impl Startup {
    /// Of these, of which there is at least one: without any, no network is needed.
    pub fn new(
        engine: Engine,
        scope: Scope,
        job: Option<(JobContainer, Folders)>,
        services: Vec<Service>,
    ) -> Self {
        let job = job.map(|(job, folders)| Member::Job(Box::new(job), folders));
        let services = services.into_iter().map(Member::Service);
        let mut startup = Self {
            engine,
            scope,
            members: job.into_iter().chain(services).collect(),
            job: None,
            running: Vec::new(),
            checked: Vec::new(),
            unready: Vec::new(),
            says: VecDeque::new(),
            stage: Stage::Network,
        };
        if startup.members.is_empty() {
            startup.stage = Stage::End(Ok(()));
        } else {
            startup.say(Kind::Group, "Create local container network");
        }
        startup
    }

    /// What comes next.
    pub fn turn(&mut self) -> Turn<Result<Started, StartError>> {
        loop {
            if let Some((kind, text)) = self.says.pop_front() {
                return Turn::Say(kind, text);
            }
            let call = match &mut self.stage {
                Stage::Network => self.engine.call([
                    "network",
                    "create",
                    "--label",
                    &self.scope.label(),
                    &self.scope.network(),
                ]),
                Stage::Image(at, fetch) => match fetch.turn(&self.engine) {
                    Turn::Say(kind, text) => return Turn::Say(kind, text),
                    Turn::Run(call) => call,
                    Turn::End(end) => {
                        let at = *at;
                        self.fetched(at, end);
                        continue;
                    }
                },
                Stage::Folders(at) => {
                    let paths = self.members[*at].paths();
                    let call = self.engine.make_folders(paths);
                    let Some(call) = call else {
                        self.stage = Stage::Create(*at);
                        continue;
                    };
                    call
                }
                Stage::Create(at) => self.members[*at].create(&self.engine, &self.scope),
                Stage::Start(_, container) => self.engine.call(["start", container.as_str()]),
                Stage::Inspect(_, container) => self.engine.inspect(container),
                Stage::DeadLogs(at) => logs(&self.engine, &self.running[*at].container),
                Stage::Health(_, _, call) => call.clone(),
                Stage::Logs(at) => {
                    let id = &self.unready[*at].0;
                    let running = self.running.iter().find(|running| running.id == *id);
                    match running {
                        Some(running) => logs(&self.engine, &running.container),
                        None => return Turn::End(Err(StartError::Unready(self.unready.clone()))),
                    }
                }
                Stage::End(end) => {
                    let started = || Started {
                        job: self.job.clone(),
                        services: self.running.clone(),
                    };
                    return Turn::End(end.clone().map(|()| started()));
                }
            };
            return Turn::Run(call);
        }
    }

    /// What came of the call.
    pub fn answer(&mut self, answer: &Answer) {
        let stage = std::mem::replace(&mut self.stage, Stage::Network);
        self.stage = match stage {
            Stage::Network if answer.is_success() => {
                self.say(Kind::EndGroup, "");
                self.begin(0)
            }
            Stage::Network => self.fail(StartError::Network(answer.failure())),
            Stage::Image(at, mut fetch) => {
                fetch.answer(answer);
                Stage::Image(at, fetch)
            }
            Stage::Folders(at) if answer.is_success() => Stage::Create(at),
            Stage::Folders(at) => self.fail_container(at, Attempt::Folders, answer),
            Stage::Create(at) => match id_in(answer) {
                Some(id) => Stage::Start(at, id),
                None => self.fail_container(at, Attempt::Create, answer),
            },
            Stage::Start(at, id) if answer.is_success() => Stage::Inspect(at, id),
            Stage::Start(at, _) => self.fail_container(at, Attempt::Start, answer),
            Stage::Inspect(at, id) => {
                match Inspection::parse(answer).filter(|_| answer.is_success()) {
                    Some(seen) => self.started(at, id, seen),
                    None => self.fail_container(at, Attempt::Inspect, answer),
                }
            }
            // Without the logs the warning has to do.
            Stage::DeadLogs(at) => {
                self.say(Kind::EndGroup, "");
                self.begin(at + 1)
            }
            Stage::Health(at, wait, _) => self.checked(at, wait, answer),
            Stage::Logs(at) => {
                self.say(Kind::EndGroup, "");
                self.log_unready(at + 1)
            }
            end @ Stage::End(_) => end,
        };
    }

    /// What removes it all, at any time and also if not all has started. Logs that were shown are not shown again.
    pub fn teardown(&self) -> Teardown {
        let shown = self.unready.iter().map(|(id, _)| id.as_str());
        let teardown = Teardown::new(
            self.engine.clone(),
            self.scope.clone(),
            self.job.as_ref(),
            &self.running,
        );
        teardown.without_logs_of(shown)
    }

    fn say(&mut self, kind: Kind, text: impl Into<String>) {
        self.says.push_back((kind, text.into()));
    }

    /// The service at this place, or, after the last one, their health.
    fn begin(&mut self, at: usize) -> Stage {
        let Some(member) = self.members.get(at) else {
            if self.checked.is_empty() {
                return Stage::End(Ok(()));
            }
            self.say(Kind::Group, "Waiting for all services to be ready");
            return self.check(0);
        };
        let settings = member.settings();
        let (image, credentials) = (settings.image.clone(), settings.credentials.clone());
        let fetch = Fetch::new(image, credentials, &self.scope);
        let title = member.title();
        self.say(Kind::Group, title);
        Stage::Image(at, fetch)
    }

    fn fetched(&mut self, at: usize, end: Result<(), FetchError>) {
        self.stage = match end {
            Ok(()) => Stage::Folders(at),
            Err(source) => {
                let who = self.members[at].who();
                self.fail(StartError::Fetch { who, source })
            }
        };
    }

    fn started(&mut self, at: usize, container: String, seen: Inspection) -> Stage {
        let (life, health) = (seen.life, seen.health);
        let id = match (self.members[at].who(), life) {
            (Who::Service(id), _) => id,
            (Who::Job, Life::Ended(code)) => {
                let image = self.members[at].settings().image.clone();
                return self.fail(StartError::Ended { image, code });
            }
            (Who::Job, Life::Running) => {
                self.job = Some(Inside::new(container));
                self.say(Kind::EndGroup, "");
                return self.begin(at + 1);
            }
        };
        let text = match life {
            Life::Running => None,
            Life::Ended(code) => Some(format!(
                "The container of service {id} is not running: it exited with code {code}"
            )),
        };
        if health != Health::Unchecked {
            self.checked.push(self.running.len());
        }
        self.running.push(Running {
            id,
            container,
            ports: seen.ports,
        });
        if let Some(text) = text {
            self.say(Kind::Warning, text);
            return Stage::DeadLogs(at);
        }
        self.say(Kind::EndGroup, "");
        self.begin(at + 1)
    }

    /// The health of the container at this place, or, after the last one, the end.
    fn check(&mut self, at: usize) -> Stage {
        let checked = self.checked.get(at);
        if let Some(running) = checked.and_then(|at| self.running.get(*at)) {
            let wait = HealthWait::new(&running.container, HEALTH_LIMIT);
            let call = wait.first(&self.engine);
            return Stage::Health(at, wait, call);
        }
        self.say(Kind::EndGroup, "");
        if self.unready.is_empty() {
            return Stage::End(Ok(()));
        }
        self.log_unready(0)
    }

    fn checked(&mut self, at: usize, mut wait: HealthWait, answer: &Answer) -> Stage {
        let id = self.running[self.checked[at]].id.clone();
        match wait.answer(&self.engine, answer) {
            Wait::Next(call) => {
                let pause = call.after.as_secs();
                let text = format!(
                    "{id} service is starting, waiting {pause} seconds before checking again."
                );
                self.say(Kind::Text, text);
                return Stage::Health(at, wait, call);
            }
            Wait::Ready => self.say(Kind::Text, format!("{id} service is healthy.")),
            Wait::Never(why) => {
                self.say(Kind::Text, format!("{id} service is not healthy: {why}"));
                self.unready.push((id, why));
            }
        }
        self.check(at + 1)
    }

    /// The logs of the one at this place that is not ready, or, after the last one, the end.
    fn log_unready(&mut self, at: usize) -> Stage {
        let Some((id, _)) = self.unready.get(at) else {
            return Stage::End(Err(StartError::Unready(self.unready.clone())));
        };
        let title = format!("Service container {id} failed.");
        self.say(Kind::Group, title);
        Stage::Logs(at)
    }

    fn fail(&mut self, error: StartError) -> Stage {
        self.say(Kind::EndGroup, "");
        Stage::End(Err(error))
    }

    fn fail_container(&mut self, at: usize, what: Attempt, answer: &Answer) -> Stage {
        let member = &self.members[at];
        let error = StartError::Container {
            who: member.who(),
            image: member.settings().image.clone(),
            what,
            failure: answer.failure(),
        };
        self.fail(error)
    }
}

/// What a container has written.
pub(super) fn logs(engine: &Engine, container: &str) -> Call {
    engine.call(["logs", container]).showing(Show::Output)
}

/// The id that `create` prints, among warnings.
fn id_in(answer: &Answer) -> Option<String> {
    let is_id = |line: &&str| line.len() == 64 && line.bytes().all(|b| b.is_ascii_hexdigit());
    let mut lines = answer.output.lines().map(str::trim);
    let id = lines.rfind(is_id).filter(|_| answer.is_success())?;
    Some(id.to_owned())
}

#[cfg(test)]
mod tests;
