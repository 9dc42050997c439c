//! Docker actions, run by the container engine of the image.

use super::action_parts::{Given, Part};
use super::command::{Paths, Ran, Talk, unsecure};
use super::end::End;
use super::instance::{Done, Instance, Trouble};
use super::step::Surroundings;
use super::transfer::Parcel;
use crate::check::Origin;
use crate::containers::Engine;
use crate::containers::action::{Environment, Program, Run};
use crate::containers::folders::Folders;
use crate::containers::prepare::{ActionImage, Prepare};
use crate::expr::{ContextName, Field, Object, Value, availability};
use crate::guest::Command;
use crate::spec::{DockerRuns, Text};
use indexmap::IndexMap;

/// What is run in a container.
struct Contained {
    image: ActionImage,
    /// By this its image is known once it was had.
    key: String,
    /// Which part of an action it is, for its name.
    part: &'static str,
    program: Program,
    inputs: IndexMap<String, String>,
    /// `runs.env` of the action.
    action_env: Vec<(String, String)>,
    /// Variables besides those that all commands have.
    added: Vec<(String, String)>,
}

impl<'r> Instance<'r> {
    /// Runs a part of a docker action.
    pub(super) async fn docker_action(
        &mut self,
        docker: &'r DockerRuns,
        part: Part<'r>,
        given: &Given<'_>,
        around: &Surroundings<'_, 'r>,
    ) -> Result<Ran, Trouble> {
        let folder = self.view.in_machine(&given.place.path);
        let image = ActionImage::parse(&docker.image.text, &folder).map_err(own)?;
        let (entrypoint, name) = match part {
            Part::Pre(entrypoint) => (Some(entrypoint), "pre"),
            Part::Main => {
                let entrypoint = docker.entrypoint.as_ref();
                (entrypoint.map(|text| &*text.text), "main")
            }
            Part::Post(entrypoint) => (Some(entrypoint), "post"),
        };
        let inputs: Object = given.inputs.clone().into_iter().collect();
        let scope = around
            .scope
            .clone()
            .with(ContextName::Inputs, Value::from(inputs));
        let mut scope = scope.limited_to(&availability(Field::ActionContainer));
        let mut args = Vec::with_capacity(docker.args.len());
        for arg in &docker.args {
            args.push(self.text(&mut scope, arg).await?);
        }
        let mut action_env = Vec::with_capacity(docker.env.len());
        for (name, value) in &docker.env {
            action_env.push((name.clone(), self.text(&mut scope, value).await?));
        }
        let key = match given.action.origin {
            Origin::Mirror => given.place.path.clone(),
            // The steps before may have made something else of it.
            Origin::Local => format!("{} {:?}", given.place.path, around.path),
        };
        let program = Program::new(entrypoint, &args, &pairs(given.inputs)).map_err(own)?;
        let contained = Contained {
            image,
            key,
            part: name,
            program,
            inputs: given.inputs.clone(),
            action_env,
            added: given.variables(),
        };
        self.contain(contained, around).await
    }

    /// Runs a step that names an image: `uses: docker://…`.
    pub(super) async fn docker_image(
        &mut self,
        uses: &'r Text,
        with: IndexMap<String, String>,
        around: Surroundings<'_, 'r>,
    ) -> Result<Done, Trouble> {
        self.group(&around, &uses.text, &with)?;
        let contained = Contained {
            image: ActionImage::parse(&uses.text, "/").map_err(own)?,
            key: uses.text.clone(),
            part: "main",
            program: Program::new(None, &[], &pairs(&with)).map_err(own)?,
            inputs: with,
            action_env: Vec::new(),
            added: Vec::new(),
        };
        let ran = self.contain(contained, &around).await?;
        Ok(Done::of(ran.end, ran.outputs))
    }

    /// Runs a container to its end, and does what it says, as with any command of a step.
    async fn contain(
        &mut self,
        contained: Contained,
        around: &Surroundings<'_, 'r>,
    ) -> Result<Ran, Trouble> {
        let engine = self.engine(around.log, around.limit).await?;
        let workspace = self.view.in_machine(&self.workspace());
        let folders = Folders::of_action(workspace, super::paths::TEMP);
        let folders = match self.view.container() {
            None => folders,
            Some(container) => folders.also_seen_from(container),
        };
        let Contained { image, key, .. } = contained;
        let image = self.image(&engine, image, key, &folders, around).await?;
        let folder = self.lay(Parcel::default()).await?;
        let mut set = around.env.clone();
        set.extend(contained.action_env.iter().cloned());
        let mut added = self.added_variables(&folder, &around.id, &set);
        added.extend(contained.added);
        let environment = Environment {
            step: &pairs(&around.env),
            inputs: &pairs(&contained.inputs),
            action: &contained.action_env,
            runner: &added,
        };
        let variables = environment.variables(&folders).map_err(own)?;
        let scope = self.container_scope();
        let of = &self.state.containers;
        let services = of.services.as_ref();
        let services = services.is_some_and(|running| !running.is_empty());
        let network = (services || of.job.is_some()).then(|| scope.network());
        let run = Run {
            engine: &engine,
            scope: &scope,
            name: &format!("{}_{}", self.state.commands, contained.part),
            image: &image,
            program: &contained.program,
            variables: &variables,
            folders: &folders,
            network: network.as_deref(),
        };
        let call = run.call();
        let allowed = self.wire.allowed(around.limit).map_err(Trouble::Ended)?;
        self.tell.say_call(&call, around.log)?;
        let command = Command {
            timeout: Some(allowed.time),
            ..call.command()
        };
        let talk = Talk {
            unsecure: unsecure(&around.env),
            paths: Paths::OfAction(&folders),
            mark: None,
        };
        let conversation = self.converse(command, allowed, around.log, talk).await;
        let cut = !matches!(&conversation, Ok((End::Exited { .. }, _)));
        if cut && !matches!(&conversation, Err(Trouble::Fault(_))) {
            // The engine's client is gone, and the container may go on.
            match self.wire.call(&run.remove(), around.log, None).await {
                Ok(_) | Err(Trouble::Step(_) | Trouble::Ended(_)) => {}
                Err(fault) => return Err(fault),
            }
        }
        let (end, said) = conversation?;
        self.gather(end, said, &folder, around).await
    }

    /// The name of an image that is there; of an action, it was built in this job.
    async fn image(
        &mut self,
        engine: &Engine,
        image: ActionImage,
        key: String,
        folders: &Folders,
        around: &Surroundings<'_, 'r>,
    ) -> Result<String, Trouble> {
        if let Some(image) = self.state.containers.images.get(&key) {
            return Ok(image.clone());
        }
        let scope = self.container_scope();
        // A `pre` has no `github.action`.
        let number = self.state.containers.images.len();
        let name = format!("action{}_{number}", around.id);
        let mut prepare = Prepare::new(engine.clone(), &scope, &name, image, folders);
        let next = |answer| {
            if let Some(answer) = answer {
                prepare.answer(&answer);
            }
            prepare.turn()
        };
        let image = self.wire.dialogue(around.log, around.limit, next).await?;
        let image = image.map_err(own)?;
        self.state.containers.images.insert(key, image.clone());
        Ok(image)
    }
}

/// What is wrong with an action is the step's failure.
fn own(error: impl std::error::Error) -> Trouble {
    Trouble::Step(error.to_string())
}

fn pairs(map: &IndexMap<String, String>) -> Vec<(String, String)> {
    map.iter()
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}
