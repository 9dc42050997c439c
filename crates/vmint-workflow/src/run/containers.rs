//! `container` and `services` of a job: the container that its steps run in, and those that run beside them.

use super::instance::{Done, Frame, Instance, Trouble};
use super::recorder::StepLog;
use crate::containers::fetch::Fetch;
use crate::containers::folders::Folders;
use crate::containers::job::{self, JobContainer};
use crate::containers::running;
use crate::containers::service::{self, Service};
use crate::containers::startup::{Started, Startup};
use crate::containers::teardown::Teardown;
use crate::expr::{
    ContainerFields, ContextName, Object, Scope, Status, Value, availability, evaluate_node,
};
use crate::log::Kind;
use crate::record::{StepKind, StepRecord};
use crate::yaml::{Data, Node};
use indexmap::IndexMap;
use vmint_model::Fault;

/// Whether containers are to be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Containers {
    /// They are.
    Start,
    /// There are none, or they run already.
    Leave,
}

impl<'r> Instance<'r> {
    /// Whether containers are to be started. In the moment before a later step they run.
    pub(super) fn containers(&self, from: Option<usize>) -> Containers {
        let services = self.body.services.as_ref().map_or(&[][..], Node::entries);
        let none = services.is_empty() && self.view.container().is_none();
        if none || from.is_some() {
            Containers::Leave
        } else {
            Containers::Start
        }
    }

    /// `job.container`.
    pub(super) fn container_context(&self) -> Value {
        let of = &self.state.containers;
        match (&of.job, &of.scope) {
            (Some(job), Some(scope)) => job.context(scope),
            _ => Object::new().into(),
        }
    }

    /// `job.services`.
    pub(super) fn services_context(&self) -> Value {
        let of = &self.state.containers;
        match (&of.services, &of.scope) {
            (Some(services), Some(scope)) => running::context(services, scope),
            _ => Object::new().into(),
        }
    }

    /// Starts the job's container and the services, and waits for these to be well. That they are not is a failure of the job.
    pub(super) async fn start_containers(&mut self, frame: &mut Frame) -> Result<(), Fault> {
        let Some(at) = self.positions.containers else {
            return Ok(());
        };
        if self.status(frame.standing) != Status::Success {
            self.tell.skip(at, None);
            return Ok(());
        }
        let log = self.tell.begin(at)?;
        let done = self.start_body(frame, &log).await;
        let done = self.done(done, &log)?;
        self.tell.end(&log, &done, done.outcome)?;
        Self::settle(frame, None, done.outcome, done.outcome, IndexMap::new());
        Ok(())
    }

    /// The same contexts with the machine's workspace, whose folders containers are given as volumes.
    fn of_machine(&self, scope: &Scope) -> Scope {
        let mut scope = scope.clone();
        if let Some(github) = scope.get(ContextName::Github).and_then(|g| g.as_object()) {
            let mut github = github.clone();
            let workspace = self.view.in_machine(&self.workspace());
            github.insert("workspace", workspace);
            scope.set(ContextName::Github, github);
        }
        scope
    }

    async fn start_body(&mut self, frame: &Frame, log: &StepLog<'r>) -> Result<Done, Trouble> {
        let scope = self.scope(frame, &self.state.env, "");
        let places = self.of_machine(&scope);
        let services = self.body.services.as_ref();
        let services = read(services, &scope, &places).map_err(Trouble::Step)?;
        let job = match self.view.container() {
            None => None,
            Some(folders) => {
                let job = self.body.container.as_ref();
                let job = read_job(job, &scope, &places).map_err(Trouble::Step)?;
                job.map(|job| (job, folders.clone()))
            }
        };
        self.start_all(job, services, log).await
    }

    async fn start_all(
        &mut self,
        job: Option<(JobContainer, Folders)>,
        services: Vec<Service>,
        log: &StepLog<'r>,
    ) -> Result<Done, Trouble> {
        if services.is_empty() && job.is_none() {
            log.say(Kind::Text, "No service has an image, so none is started.")?;
            return Ok(Done::well(IndexMap::new()));
        }
        let engine = self.engine(log, None).await?;
        let scope = self.container_scope();
        // From now on there is something to remove.
        self.state.containers.services = Some(Vec::new());
        let mut startup = Startup::new(engine, scope.clone(), job, services);
        let next = |answer| {
            if let Some(answer) = answer {
                startup.answer(&answer);
            }
            startup.turn()
        };
        let started = self.wire.dialogue(log, None, next).await;
        self.teardown = Some(startup.teardown());
        match started {
            Ok(Ok(Started { job, services })) => {
                self.state.containers.services = Some(services);
                self.state.containers.job = job;
                if self.state.containers.job.is_some() {
                    self.enter(log).await?;
                }
                Ok(Done::well(IndexMap::new()))
            }
            Ok(Err(error)) => Ok(Done::invalid(error.to_string())),
            Err(Trouble::Ended(end)) => {
                // It may have been cut off in the midst of a pull.
                match self.wire.call(&Fetch::forget(&scope), log, None).await {
                    Err(Trouble::Fault(fault)) => Err(fault.into()),
                    _ => Err(Trouble::Ended(end)),
                }
            }
            Err(trouble) => Err(trouble),
        }
    }

    /// Shows the services' logs and removes all containers. What fails there is a warning.
    pub(super) async fn stop_containers(&mut self, frame: &mut Frame) -> Result<(), Fault> {
        if self.state.containers.services.is_none() || self.wire.cancel.is_hastened() {
            return Ok(());
        }
        let record = StepRecord::planned(StepKind::CleanUp, "Stop containers");
        let at = self.tell.plan(record);
        let log = self.tell.begin(at)?;
        let done = match self.stop_body(&log).await {
            Ok(()) => Ok(Done::well(IndexMap::new())),
            Err(Trouble::Step(reason)) => {
                log.say(Kind::Warning, self.tell.mask(&reason))?;
                Ok(Done::well(IndexMap::new()))
            }
            Err(trouble) => Err(trouble),
        };
        let done = self.done(done, &log)?;
        self.tell.end(&log, &done, done.outcome)?;
        Self::settle(frame, None, done.outcome, done.outcome, IndexMap::new());
        Ok(())
    }

    async fn stop_body(&mut self, log: &StepLog<'r>) -> Result<(), Trouble> {
        let engine = self.engine(log, None).await?;
        let scope = self.container_scope();
        let running = self.state.containers.services.clone().unwrap_or_default();
        let job = self.state.containers.job.as_ref();
        // Of a start that has succeeded, all is known; of one that has not, what was shown.
        let mut teardown = match self.teardown.take() {
            Some(teardown) if job.is_none() => teardown,
            _ => Teardown::new(engine, scope, job, &running),
        };
        let next = |answer| {
            if let Some(answer) = answer {
                teardown.answer(&answer);
            }
            teardown.turn()
        };
        self.wire.dialogue(log, None, next).await
    }
}

/// `container`, evaluated and understood.
fn read_job(
    node: Option<&Node>,
    scope: &Scope,
    places: &Scope,
) -> Result<Option<JobContainer>, String> {
    let Some(node) = node else {
        return Ok(None);
    };
    let value = evaluate("container", node, scope, places, ContainerFields::JOB)?;
    job::job_container(&value).map_err(|e| e.to_string())
}

/// `services`, evaluated and understood.
fn read(node: Option<&Node>, scope: &Scope, places: &Scope) -> Result<Vec<Service>, String> {
    let Some(node) = node else {
        return Ok(Vec::new());
    };
    let mut services = Object::new();
    for (id, node) in node.entries() {
        let place = format!("services.{}", id.text);
        let value = evaluate(&place, node, scope, places, ContainerFields::SERVICE)?;
        services.insert(id.text.clone(), value);
    }
    service::services(&services.into()).map_err(|e| e.to_string())
}

/// A container, evaluated. Its variables and credentials see more than the rest; its variables name paths that steps see, and
/// the rest those of the machine.
fn evaluate(
    place: &str,
    node: &Node,
    scope: &Scope,
    places: &Scope,
    fields: ContainerFields,
) -> Result<Value, String> {
    let value = |key: &str, node: &Node, scope: &Scope, field| {
        let scope = scope.clone().limited_to(&availability(field));
        let value = evaluate_node(node, &scope);
        value.map_err(|e| format!("`{place}{key}` cannot be evaluated: {e}"))
    };
    if !matches!(node.data, Data::Mapping(_)) {
        return value("", node, places, fields.other);
    }
    let mut container = Object::new();
    for (key, node) in node.entries() {
        let path = format!(".{}", key.text);
        let evaluated = match &*key.text {
            key @ ("credentials" | "env") => value(&path, node, scope, fields.of(key))?,
            key => value(&path, node, places, fields.of(key))?,
        };
        container.insert(key.text.clone(), evaluated);
    }
    Ok(container.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::ContextName;
    use crate::yaml;
    use std::path::Path;

    fn scope() -> Scope {
        let of = |name: &str, value: &str| {
            let mut object = Object::new();
            object.insert(name, value);
            object
        };
        Scope::new()
            .with(ContextName::Matrix, of("v", "7"))
            .with(ContextName::Env, of("E", "env"))
            .with(ContextName::Secrets, of("S", "s3cret"))
            .with(ContextName::Steps, of("a", "b"))
    }

    fn read(text: &str) -> Result<Vec<Service>, String> {
        let node = yaml::parse(Path::new("a.yml"), text.as_bytes()).expect("it is YAML");
        super::read(Some(&node), &scope(), &scope())
    }

    #[test]
    fn expressions_of_a_service_see_what_github_lets_them_see() {
        let text = "db: {image: 'redis:${{ matrix.v }}', env: {A: '${{ secrets.S }} ${{ env.E }}'}, ports: ['${{ matrix.v }}:6379'], \
                    credentials: {username: u, password: '${{ secrets.S }}'}}";
        let services = read(text).unwrap();
        assert_eq!(services[0].settings.image.as_str(), "redis:7");
        let env: Vec<_> = services[0].settings.env.inherited().collect();
        assert!(env.contains(&("A".into(), "s3cret env".into())), "{env:?}");
        let password = services[0]
            .settings
            .credentials
            .as_ref()
            .map(|of| &*of.password);
        assert_eq!(password, Some("s3cret"));
        assert_eq!(services[0].settings.ports[0].to_string(), "7:6379");
        for (text, place) in [
            ("db: {image: '${{ env.E }}'}", "services.db.image"),
            ("db: '${{ secrets.S }}'", "services.db"),
            (
                "db: {image: a, env: {A: '${{ steps.a }}'}}",
                "services.db.env",
            ),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(place), "{text}: {error}");
        }
    }

    #[test]
    fn the_volumes_of_a_container_are_the_machines_and_its_variables_are_its_own() {
        let of = |workspace: &str| {
            let mut github = Object::new();
            github.insert("workspace", workspace);
            scope().with(ContextName::Github, github)
        };
        let text = "{image: 'rust:${{ matrix.v }}', env: {W: '${{ github.workspace }}', S: '${{ secrets.S }}'}, volumes: \
                    ['${{ github.workspace }}:/src'], credentials: {username: u, password: '${{ secrets.S }}'}}";
        let node = yaml::parse(Path::new("a.yml"), text.as_bytes()).expect("it is YAML");
        let read = |node| read_job(Some(node), &of("/__w/a/a"), &of("/work/a/a"));
        let settings = read(&node).unwrap().unwrap().settings;
        assert_eq!(settings.image.as_str(), "rust:7");
        assert_eq!(settings.volumes[0].argument(), "/work/a/a:/src");
        let env: Vec<_> = settings.env.inherited().collect();
        assert!(env.contains(&("W".into(), "/__w/a/a".into())), "{env:?}");
        assert!(env.contains(&("S".into(), "s3cret".into())), "{env:?}");
        assert_eq!(settings.credentials.unwrap().password, "s3cret");
        let text = "{image: rust, options: '${{ secrets.S }}'}";
        let node = yaml::parse(Path::new("a.yml"), text.as_bytes()).expect("it is YAML");
        let error = read(&node).unwrap_err();
        assert!(
            error.starts_with("`container.options` cannot be evaluated"),
            "{error}"
        );
    }

    #[test]
    fn a_service_without_an_image_is_left_out_and_a_wrong_one_is_told() {
        assert_eq!(read("db: {image: '${{ matrix.none }}'}"), Ok(Vec::new()));
        let error = read("db: {image: a, ports: [x]}").unwrap_err();
        assert!(error.starts_with("services.db.ports: "), "{error}");
    }
}
