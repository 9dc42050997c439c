//! What a job has started is removed at its end: the containers after their logs were shown, then the network.
//!
//! No failure here fails the job; each is a warning. What belongs to the job is found by its label, so that a
//! [start](super::startup) that stopped half-way leaves nothing behind either.

use super::call::{Answer, Call, Show, Turn};
use super::engine::Engine;
use super::inside::Inside;
use super::running::Running;
use super::scope::Scope;
use super::startup::logs;
use crate::log::Kind;
use std::collections::VecDeque;

/// The dialogue.
#[derive(Debug)]
pub struct Teardown {
    engine: Engine,
    scope: Scope,
    running: Vec<Running>,
    /// The job's own container, which writes nothing.
    job: Option<String>,
    /// Containers whose logs were shown.
    shown: Vec<String>,
    says: VecDeque<(Kind, String)>,
    todo: VecDeque<Task>,
}

#[derive(Clone, Debug)]
enum Task {
    /// What of the job's container the machine sees goes out of its sight.
    Hide(Call),
    Find,
    Logs(String),
    Remove(String),
    Network,
}

/// More containers than that are not a job's.
const MAX_CONTAINERS: usize = 1000;

impl Teardown {
    /// Of all that has the job's label. The job's own container and these services are called by their names.
    pub fn new(engine: Engine, scope: Scope, job: Option<&Inside>, running: &[Running]) -> Self {
        let own = job.map(|job| job.container.clone());
        let hide = job.and_then(Inside::hide).map(Task::Hide);
        Self {
            engine,
            scope,
            running: running.to_vec(),
            shown: own.iter().cloned().collect(),
            job: own,
            says: VecDeque::from([(Kind::Group, "Stop containers".to_owned())]),
            todo: hide
                .into_iter()
                .chain([Task::Find, Task::Network])
                .collect(),
        }
    }

    /// The logs of these services are in the log already.
    pub(super) fn without_logs_of<'a>(mut self, ids: impl Iterator<Item = &'a str>) -> Self {
        for id in ids {
            let known = self.running.iter().find(|running| running.id == id);
            self.shown
                .extend(known.map(|running| running.container.clone()));
        }
        self
    }

    /// What comes next.
    pub fn turn(&mut self) -> Turn<()> {
        if let Some((kind, text)) = self.says.pop_front() {
            return Turn::Say(kind, text);
        }
        match self.todo.front() {
            None => Turn::End(()),
            Some(task) => Turn::Run(self.call(task)),
        }
    }

    fn call(&self, task: &Task) -> Call {
        match task {
            Task::Hide(call) => call.clone(),
            Task::Find => {
                let filter = format!("label={}", self.scope.label());
                let call = self.engine.call(["ps", "--all", "--quiet", "--no-trunc"]);
                call.args(["--filter", &filter]).showing(Show::Nothing)
            }
            Task::Logs(container) => logs(&self.engine, container),
            Task::Remove(container) => self.engine.remove(container),
            Task::Network => self.engine.call(["network", "rm", &self.scope.network()]),
        }
    }

    /// What came of the call.
    pub fn answer(&mut self, answer: &Answer) {
        let Some(task) = self.todo.pop_front() else {
            return;
        };
        if !answer.is_success() {
            let (what, failure) = (self.describe(&task), answer.failure());
            let text = format!("Failed to {what}: {failure}");
            self.says.push_back((Kind::Warning, text));
        }
        match task {
            Task::Find => {
                let is_id =
                    |line: &&str| line.len() == 64 && line.bytes().all(|b| b.is_ascii_hexdigit());
                let lines = answer.output.lines().map(str::trim);
                let ids: Vec<&str> = lines.filter(is_id).take(MAX_CONTAINERS).collect();
                for id in ids.iter().rev() {
                    self.todo.push_front(Task::Remove((*id).to_owned()));
                    if !self.shown.iter().any(|shown| shown == id) {
                        self.todo.push_front(Task::Logs((*id).to_owned()));
                    }
                }
                self.announce();
            }
            Task::Logs(_) | Task::Hide(_) => {}
            Task::Remove(_) => self.announce(),
            Task::Network => self.says.push_back((Kind::EndGroup, String::new())),
        }
    }

    /// Whose logs come next.
    fn announce(&mut self) {
        let text = match self.todo.front() {
            Some(Task::Logs(container)) => format!("Logs of {}:", self.name(container)),
            _ => return,
        };
        self.says.push_back((Kind::Text, text));
    }

    fn describe(&self, task: &Task) -> String {
        match task {
            Task::Hide(_) => "unmount what the machine sees of the job's container".to_owned(),
            Task::Find => "list the containers of the job".to_owned(),
            Task::Logs(container) => format!("show the logs of {}", self.name(container)),
            Task::Remove(container) => format!("remove {}", self.name(container)),
            Task::Network => "remove the network of the job".to_owned(),
        }
    }

    fn name(&self, container: &str) -> String {
        let running = self
            .running
            .iter()
            .find(|running| running.container == container);
        match running {
            Some(running) => format!("service {}", running.id),
            None if self.job.as_deref() == Some(container) => "the job's container".to_owned(),
            None => format!("container {}", container.get(..12).unwrap_or(container)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{self, Script, podman};
    use super::*;

    const A: &str = "8d9e6374e7b79e1988ce1ca041ce6f30e0d18633edf87e24ef842dd195afe3b1";
    const B: &str = "989855bcb0ff720fe3b31d3132ff1462143135b917d72fb3441a49cb4504c3cf";

    fn run(engine: Engine, script: Script) -> String {
        let running = vec![Running {
            id: "redis".into(),
            container: A.into(),
            ports: Vec::new(),
        }];
        let mut teardown = Teardown::new(engine, Scope::new("a1").unwrap(), None, &running);
        let next = |answer: Option<Answer>| {
            if let Some(answer) = answer {
                teardown.answer(&answer);
            }
            teardown.turn()
        };
        testing::run(script, next).1
    }

    #[test]
    fn logs_come_before_removal_and_the_network_last() {
        let script = Script::new().say(" ps ", &format!("{A}\n{B}\n"));
        insta::assert_snapshot!(run(podman(), script), @"
        Group: Stop containers
        $ podman ps --all --quiet --no-trunc --filter label=vmint=a1
        Text: Logs of service redis:
        $ podman logs 8d9e6374e7b79e1988ce1ca041ce6f30e0d18633edf87e24ef842dd195afe3b1
        $ podman rm --force --volumes --time 0 8d9e6374e7b79e1988ce1ca041ce6f30e0d18633edf87e24ef842dd195afe3b1
        Text: Logs of container 989855bcb0ff:
        $ podman logs 989855bcb0ff720fe3b31d3132ff1462143135b917d72fb3441a49cb4504c3cf
        $ podman rm --force --volumes --time 0 989855bcb0ff720fe3b31d3132ff1462143135b917d72fb3441a49cb4504c3cf
        $ podman network rm github_network_a1
        EndGroup:
        ");
    }

    #[test]
    fn what_cannot_be_removed_is_a_warning_and_the_rest_is_removed() {
        let script = Script::new()
            .say(" ps ", A)
            .fail(" logs ", 1, "no such container")
            .fail(" rm --force", 1, "device busy");
        insta::assert_snapshot!(run(Engine::Docker, script), @"
        Group: Stop containers
        $ docker ps --all --quiet --no-trunc --filter label=vmint=a1
        Text: Logs of service redis:
        $ docker logs 8d9e6374e7b79e1988ce1ca041ce6f30e0d18633edf87e24ef842dd195afe3b1
        Warning: Failed to show the logs of service redis: exit code 1 (no such container)
        $ docker rm --force --volumes 8d9e6374e7b79e1988ce1ca041ce6f30e0d18633edf87e24ef842dd195afe3b1
        Warning: Failed to remove service redis: exit code 1 (device busy)
        $ docker network rm github_network_a1
        EndGroup:
        ");
    }
}
