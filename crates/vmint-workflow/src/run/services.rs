//! `services` of a job: containers that run beside its steps.

use super::instance::{Done, Frame, Instance, Trouble};
use super::recorder::StepLog;
use crate::containers::fetch::Fetch;
use crate::containers::running;
use crate::containers::service::{self, Service};
use crate::containers::startup::Startup;
use crate::containers::teardown::Teardown;
use crate::expr::{Field, Object, Scope, Status, Value, availability, evaluate_node};
use crate::log::Kind;
use crate::record::StepKind;
use crate::yaml::{Data, Node};
use indexmap::IndexMap;
use vmint_model::Fault;

/// Whether services are to be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Services {
    /// They are.
    Start,
    /// There are none, or they run already.
    Leave,
}

impl<'r> Instance<'r> {
    /// Whether services are to be started. In the moment before a later step they run.
    pub(super) fn services(&self, from: Option<usize>) -> Services {
        let services = self.body.services.as_ref().map_or(&[][..], Node::entries);
        if services.is_empty() || from.is_some() {
            Services::Leave
        } else {
            Services::Start
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

    /// Starts the services, and waits for them to be well. That they are not is a failure of the job.
    pub(super) async fn start_services(&mut self, frame: &mut Frame) -> Result<(), Fault> {
        let Some(at) = self.planned_services else {
            return Ok(());
        };
        if self.status(frame.standing) != Status::Success {
            self.skip(at, None);
            return Ok(());
        }
        let log = self.begin(at)?;
        let done = self.start_body(frame, &log).await;
        let done = self.done(done, &log)?;
        self.end(&log, &done, done.outcome)?;
        Self::settle(frame, None, done.outcome, done.outcome, IndexMap::new());
        Ok(())
    }

    async fn start_body(&mut self, frame: &Frame, log: &StepLog<'r>) -> Result<Done, Trouble> {
        let scope = self.scope(frame, &self.state.env, "");
        let services = read(self.body.services.as_ref(), &scope).map_err(Trouble::Step)?;
        if services.is_empty() {
            log.say(Kind::Text, "No service has an image, so none is started.")?;
            return Ok(Done::well(IndexMap::new()));
        }
        let engine = self.engine(log, None).await?;
        let scope = self.container_scope();
        // From now on there is something to remove.
        self.state.containers.services = Some(Vec::new());
        let mut startup = Startup::new(engine, scope.clone(), services);
        let next = |answer| {
            if let Some(answer) = answer {
                startup.answer(&answer);
            }
            startup.turn()
        };
        let started = self.dialogue(log, None, next).await;
        self.teardown = Some(startup.teardown());
        match started {
            Ok(Ok(running)) => {
                self.state.containers.services = Some(running);
                Ok(Done::well(IndexMap::new()))
            }
            Ok(Err(error)) => Ok(Done::invalid(error.to_string())),
            Err(Trouble::Ended(end)) => {
                // It may have been cut off in the midst of a pull.
                match self.call(&Fetch::forget(&scope), log, None).await {
                    Err(Trouble::Fault(fault)) => Err(fault.into()),
                    _ => Err(Trouble::Ended(end)),
                }
            }
            Err(trouble) => Err(trouble),
        }
    }

    /// Shows the services' logs and removes them. What fails there is a warning.
    pub(super) async fn stop_services(&mut self, frame: &mut Frame) -> Result<(), Fault> {
        if self.state.containers.services.is_none() || self.cancel.is_hastened() {
            return Ok(());
        }
        let record = Self::planned_step(StepKind::CleanUp, "Stop containers");
        let at = self.run.recorder.add_step(self.at, record);
        let log = self.begin(at)?;
        let done = match self.stop_body(&log).await {
            Ok(()) => Ok(Done::well(IndexMap::new())),
            Err(Trouble::Step(reason)) => {
                log.say(Kind::Warning, self.run.mask(&reason))?;
                Ok(Done::well(IndexMap::new()))
            }
            Err(trouble) => Err(trouble),
        };
        let done = self.done(done, &log)?;
        self.end(&log, &done, done.outcome)?;
        Self::settle(frame, None, done.outcome, done.outcome, IndexMap::new());
        Ok(())
    }

    async fn stop_body(&mut self, log: &StepLog<'r>) -> Result<(), Trouble> {
        let engine = self.engine(log, None).await?;
        let scope = self.container_scope();
        let running = self.state.containers.services.clone().unwrap_or_default();
        let teardown = self.teardown.take();
        let mut teardown = teardown.unwrap_or_else(|| Teardown::new(engine, scope, &running));
        let next = |answer| {
            if let Some(answer) = answer {
                teardown.answer(&answer);
            }
            teardown.turn()
        };
        self.dialogue(log, None, next).await
    }
}

/// `services`, evaluated and understood.
fn read(node: Option<&Node>, scope: &Scope) -> Result<Vec<Service>, String> {
    let Some(node) = node else {
        return Ok(Vec::new());
    };
    let mut services = Object::new();
    for (id, node) in node.entries() {
        let value = evaluate(&id.text, node, scope)?;
        services.insert(id.text.clone(), value);
    }
    service::services(&services.into()).map_err(|e| e.to_string())
}

/// A service, evaluated. Its variables and credentials see more than the rest.
fn evaluate(id: &str, node: &Node, scope: &Scope) -> Result<Value, String> {
    let value = |key: &str, node: &Node, field| {
        let scope = scope.clone().limited_to(&availability(field));
        let value = evaluate_node(node, &scope);
        value.map_err(|e| format!("`services.{id}{key}` cannot be evaluated: {e}"))
    };
    if !matches!(node.data, Data::Mapping(_)) {
        return value("", node, Field::JobServices);
    }
    let mut service = Object::new();
    for (key, node) in node.entries() {
        let path = format!(".{}", key.text);
        let evaluated = match &*key.text {
            "credentials" => value(&path, node, Field::JobServicesCredentials)?,
            "env" => value(&path, node, Field::JobServicesEnv)?,
            _ => value(&path, node, Field::JobServices)?,
        };
        service.insert(key.text.clone(), evaluated);
    }
    Ok(service.into())
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
        super::read(Some(&node), &scope())
    }

    #[test]
    fn expressions_of_a_service_see_what_github_lets_them_see() {
        let text = "db: {image: 'redis:${{ matrix.v }}', env: {A: '${{ secrets.S }} ${{ env.E }}'}, ports: ['${{ matrix.v }}:6379'], \
                    credentials: {username: u, password: '${{ secrets.S }}'}}";
        let services = read(text).unwrap();
        assert_eq!(services[0].image.as_str(), "redis:7");
        let env: Vec<_> = services[0].env.inherited().collect();
        assert!(env.contains(&("A".into(), "s3cret env".into())), "{env:?}");
        let password = services[0].credentials.as_ref().map(|of| &*of.password);
        assert_eq!(password, Some("s3cret"));
        assert_eq!(services[0].ports[0].to_string(), "7:6379");
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
    fn a_service_without_an_image_is_left_out_and_a_wrong_one_is_told() {
        assert_eq!(read("db: {image: '${{ matrix.none }}'}"), Ok(Vec::new()));
        let error = read("db: {image: a, ports: [x]}").unwrap_err();
        assert!(error.starts_with("services.db.ports: "), "{error}");
    }
}
