//! The first and the last command of a job in its machine.
//!
//! Set-up makes the folders, asks what the image is and has, and refuses what it lacks before any step runs. Of a machine
//! that a job was in before, it ends what that job has left running and removes its workspace: as on GitHub, a job begins
//! with an empty one.

use super::contexts::env_context;
use super::end::End;
use super::instance::{Done, Frame, Instance, Trouble};
use super::job;
use super::paths;
use super::recorder::StepLog;
use super::session::Used;
use super::supervise::{Seen, Supervised};
use super::transfer::Parcel;
use crate::check::needs::{self, Reached};
use crate::equipment::Equipment;
use crate::event::context::{self, Machine, Scene};
use crate::expr::{ContextName, Field, Value, availability};
use crate::guest::Command;
use crate::lines::{Piece, Splitter};
use crate::log::{Kind, Line};
use crate::record::Outcome;
use crate::setup;
use crate::setup::probe;
use crate::setup::probe::Inventory;
use indexmap::IndexMap;
use std::collections::HashSet;
use vmint_model::{ErrorKind, Fault};

/// Programs that are looked for besides those of [`setup::TOOLS`] and [`Equipment`].
const PROGRAMS: [&str; 7] = ["bash", "sh", "git", "tar", "sudo", "find", "sha256sum"];

/// All programs that are looked for, each once.
pub(super) fn programs() -> Vec<&'static str> {
    let equipment = Equipment::ALL.into_iter().flat_map(Equipment::programs);
    let tools = setup::TOOLS.iter().flat_map(|tool| {
        let companions = tool.companions.iter().flat_map(|(programs, _)| *programs);
        tool.programs.iter().chain(companions)
    });
    let mut all: Vec<&str> = PROGRAMS
        .iter()
        .chain(equipment)
        .chain(tools)
        .copied()
        .collect();
    let mut seen = HashSet::new();
    all.retain(|program| seen.insert(*program));
    all
}

/// What comes before the probe.
const BEFORE: &str = include_str!("set_up_before.sh");
/// What comes behind it.
const AFTER: &str = include_str!("set_up_after.sh");
/// What the last command does.
const CLEAN_UP: &str = include_str!("clean_up.sh");
/// Stands in for `sudo` where steps are root and the image has none.
const SUDO: &str = include_str!("sudo.sh");
/// The last line of the probe.
const PROBED: &str = "vmint-probe end";

/// Whether a job comes to its steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begun {
    /// It does; those behind a failure decide for themselves.
    Steps,
    /// Its environment cannot be evaluated, so nothing can run in it.
    NoSteps,
}

impl<'r> Instance<'r> {
    /// Makes the machine ready. A failure of the settings' own script is a failure of the job.
    pub(super) async fn set_up(
        &mut self,
        frame: &mut Frame,
        from: Option<usize>,
    ) -> Result<Begun, Fault> {
        let at = self.positions.set_up;
        let log = self.tell.begin(at)?;
        let done = self.set_up_body(&log, from).await;
        let done = match done {
            // Nothing of the file has run: what the machine cannot do is not the workflow's failure.
            Err(Trouble::Step(reason)) => Err(Trouble::Fault(Fault::new(ErrorKind::Guest, reason))),
            Ok(end) => Ok(Done::of(end, IndexMap::new())),
            other => other.map(|_| unreachable!("handled above")),
        };
        let mut done = self.done(done, &log)?;
        let mut begun = Begun::Steps;
        match self.job_env() {
            Ok(env) => self.state = std::mem::take(&mut self.state).with_edited(env),
            Err(reason) => {
                let text = self.tell.mask(&reason);
                self.tell
                    .recorder
                    .job(self.tell.at, |job| job.reason = Some(text));
                done = Done::invalid(reason);
                begun = Begun::NoSteps;
            }
        }
        self.tell.end(&log, &done, done.outcome)?;
        Self::settle(frame, None, done.outcome, done.outcome, IndexMap::new());
        if done.outcome != Outcome::Success {
            frame.standing = super::state::Standing::Failed;
        }
        Ok(begun)
    }

    async fn set_up_body(
        &mut self,
        log: &StepLog<'r>,
        from: Option<usize>,
    ) -> Result<End, Trouble> {
        let identity = self.wire.session.guest().identity();
        let accelerator = identity
            .accelerator
            .map_or("unknown".to_owned(), |a| a.to_string());
        let image = self.wire.image();
        let text = format!(
            "Machine {}@{} of image {image}, executed by {accelerator}, lease {}",
            identity.machine, identity.generation, identity.lease
        );
        log.say(Kind::Text, self.tell.mask(&text))?;
        let used = self.wire.session.use_it();
        let workspace = self.view.in_machine(&self.workspace());
        let setup = self
            .run
            .request
            .options
            .setup
            .as_deref()
            .filter(|_| from.is_none());
        self.lay_out(&workspace, setup.unwrap_or_default()).await?;
        let mut env = probe::environment(&[], &programs(), identity.user.as_deref());
        let begins = match (from, used) {
            (Some(_), _) => "resumed",
            (None, Used::Before) => "used",
            (None, Used::Fresh) => "fresh",
        };
        for (name, value) in [
            ("VMINT_BEGINS", begins),
            ("VMINT_WORKSPACE", &workspace),
            ("VMINT_TEMP", paths::TEMP),
            ("VMINT_OWN", paths::OWN),
            ("VMINT_HOOK", if setup.is_some() { "1" } else { "" }),
        ] {
            env.push((name.to_owned(), value.to_owned()));
        }
        let command = Command {
            argv: vec!["sh".into(), format!("{}/set-up.sh", paths::OWN)],
            env,
            cwd: Some("/".into()),
            user: Some("root".into()),
            timeout: None,
        };
        let (end, probed) = self.talk(command, log, Some(PROBED)).await?;
        if !probed.lines().any(|line| line == PROBED) {
            let said: String = probed.chars().take(500).collect();
            return Err(Trouble::Step(format!(
                "the machine cannot be made ready: {end:?}: {said}"
            )));
        }
        let inventory = Inventory::parse(probed.as_bytes());
        self.inventory = inventory.map_err(|e| Trouble::Step(e.to_string()))?;
        let (index, boot_id) = (self.wire.session.index(), self.inventory.boot_id.clone());
        let recorder = self.tell.recorder;
        let boot_id = self.tell.mask(&boot_id);
        recorder.quietly(|run| run.machines[index].boot_id = Some(boot_id));
        let system = match &*self.inventory.distribution {
            "" => "Linux".to_owned(),
            distribution => format!("{distribution} {}", self.inventory.release),
        };
        let text = format!(
            "{system}, {}, boot {}, steps run as {}",
            self.inventory.machine,
            self.inventory.boot_id,
            identity.user.as_deref().unwrap_or("root")
        );
        log.say(Kind::Text, self.tell.mask(&text))?;
        if self.inventory.program("sudo").is_none()
            && identity.user.as_deref().is_none_or(|user| user == "root")
        {
            log.say(
                Kind::Text,
                "The image has no sudo, and steps run as root: `sudo COMMAND` runs COMMAND.",
            )?;
        }
        self.facts = self.variables_of_job();
        if let Some(note) = &self.place_note {
            log.say(Kind::Warning, self.tell.mask(note))?;
        }
        self.require()?;
        if from.is_some() && self.inside().is_ok() {
            self.enter(log).await?;
        }
        Ok(end)
    }

    /// Evaluates `env` of workflow and job, now that all is known that they may name.
    fn job_env(&self) -> Result<IndexMap<String, String>, String> {
        let scope = |field| {
            let scope = self.constant.scope(&self.of_job);
            scope.limited_to(&availability(field))
        };
        let mut env = job::map(self.workflow_env, &scope(Field::Env), "env")?;
        let mut of_job = scope(Field::JobEnv);
        of_job.set(ContextName::Env, env_context(&env));
        env.extend(job::map(&self.body.env, &of_job, "env")?);
        Ok(env)
    }

    /// Puts the folders of the session and vmint's own files into the machine, all at once.
    async fn lay_out(&self, workspace: &str, setup: &str) -> Result<(), Trouble> {
        let mut parcel = Parcel::default();
        let relative = |path: &str| path.trim_start_matches('/').to_owned();
        for folder in [
            workspace,
            paths::TEMP,
            paths::ACTIONS,
            paths::TOOL_CACHE,
            paths::LINKS,
            paths::EXTERNALS,
        ] {
            parcel.folder(&relative(folder), 0o755);
        }
        let event = serde_json::to_vec_pretty(&self.run.request.event.payload);
        parcel.file(
            &relative(paths::EVENT),
            0o644,
            &event.expect("JSON is JSON"),
        );
        let session = serde_json::json!({"run": self.run.request.id, "job": self.key});
        parcel.file(
            &relative(paths::SESSION),
            0o644,
            session.to_string().as_bytes(),
        );
        let script = [BEFORE, probe::SCRIPT, AFTER].concat();
        let own = relative(paths::OWN);
        parcel.file(&format!("{own}/set-up.sh"), 0o755, script.as_bytes());
        parcel.file(&format!("{own}/hook.sh"), 0o755, setup.as_bytes());
        parcel.file(
            &format!("{}/sudo", relative(paths::BIN)),
            0o755,
            SUDO.as_bytes(),
        );
        Ok(parcel.put(&self.wire, "/").await?)
    }

    /// Refuses what the image lacks and the job surely needs. What a condition guards is refused when it is reached.
    fn require(&self) -> Result<(), Trouble> {
        let needs = needs::of_job(self.body, &self.run.request.checked.actions);
        for need in needs {
            let lacks = self.inventory.first(need.what.programs()).is_none()
                && !(need.what == Equipment::Node && self.node_of_image().is_some());
            if need.reached == Reached::Surely && lacks {
                let image = self.wire.image();
                let (file, spot, who, what) =
                    (&self.file, need.spot, &need.who, need.what.as_str());
                let message = format!(
                    "{file}:{spot}: {who} needs {what}, which the image {image} does not have"
                );
                let fault = Fault::new(ErrorKind::Image, message).hint(need.what.hint());
                return Err(Trouble::Fault(fault));
            }
        }
        Ok(())
    }

    /// What is the same for all steps of the job.
    fn variables_of_job(&mut self) -> Vec<(String, String)> {
        let workspace = self.workspace();
        let seen = [paths::TEMP, paths::TOOL_CACHE, paths::EVENT].map(|path| self.view.seen(path));
        let [temp, tool_cache, event_path] = &seen;
        let arch = context::arch(&self.inventory.machine).to_owned();
        let machine = Machine {
            name: "vmint",
            arch: &arch,
            workspace: &workspace,
            temp,
            tool_cache,
            event_path,
            debug: self.run.debug().then_some("1"),
        };
        let scene = Scene {
            job: Some(&self.job.id),
            machine: Some(machine),
            ..self.run.scene()
        };
        let github = context::github(&scene);
        let runner = context::runner(&machine);
        let mut variables = context::variables(&scene);
        variables.push(("VMINT_RUN".into(), self.run.request.id.to_string()));
        // By this, what a job leaves running is found.
        variables.push((
            "RUNNER_TRACKING_ID".into(),
            format!("vmint_{}_{}", self.run.request.id, self.tell.at.0),
        ));
        self.constant.github = github;
        self.runner = Value::from(runner);
        variables
    }

    /// The last command.
    pub(super) async fn tidy(&mut self, log: &StepLog<'r>) -> Result<End, Trouble> {
        let hook = self.run.request.options.cleanup.clone();
        let mut parcel = Parcel::default();
        parcel.file("clean-up.sh", 0o755, CLEAN_UP.as_bytes());
        let script = hook.as_deref().unwrap_or_default();
        parcel.file("hook.sh", 0o755, script.as_bytes());
        parcel.put(&self.wire, paths::OWN).await?;
        let env = [
            ("VMINT_OWN", paths::OWN),
            ("VMINT_HOOK", if hook.is_some() { "1" } else { "" }),
        ];
        let command = Command {
            argv: vec!["sh".into(), format!("{}/clean-up.sh", paths::OWN)],
            env: env
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .to_vec(),
            cwd: Some("/".into()),
            user: Some("root".into()),
            timeout: None,
        };
        let (end, _) = self.talk(command, log, None).await?;
        Ok(end)
    }

    /// Runs a command of vmint's own whose output is logged; but for what comes up to the line `until`, which is given.
    async fn talk(
        &mut self,
        command: Command,
        log: &StepLog<'r>,
        until: Option<&str>,
    ) -> Result<(End, String), Trouble> {
        let allowed = match self.wire.allowed(None) {
            Ok(allowed) => allowed,
            Err(end) => return Ok((end, String::new())),
        };
        let command = Command {
            timeout: Some(allowed.time),
            ..command
        };
        let doing = self.wire.trace_command(&command, allowed);
        let session = self.wire.session.clone();
        let process = session.start(command, self.tell.recorder).await?;
        let mut supervised = Supervised::new(process, allowed, self.wire.obeys());
        let mut splitter = Splitter::new();
        let mut kept = String::new();
        let mut keeps = until.is_some();
        let mut fault = None;
        let mut take = |piece: Piece<'_>, fault: &mut Option<Fault>| {
            let (Piece::Line(bytes) | Piece::Part(bytes) | Piece::Last(bytes)) = piece;
            let text = String::from_utf8_lossy(bytes);
            if keeps {
                if kept.len() < probe::MAX_OUTPUT {
                    kept.push_str(&text);
                    kept.push('\n');
                }
                keeps = Some(&*text) != until;
            } else {
                let line = Line::new(vmint_model::now_ms(), Kind::Text, self.tell.mask(&text));
                *fault = fault.take().or_else(|| log.line(&line).err());
            }
        };
        let end = loop {
            match supervised.next().await? {
                Seen::Output(bytes) => splitter.push(&bytes, |piece| take(piece, &mut fault)),
                Seen::Ended(end) => break end,
            }
        };
        doing.end(end.as_str());
        splitter.finish(|piece| take(piece, &mut fault));
        match fault {
            Some(fault) => Err(fault.into()),
            None => Ok((end, kept)),
        }
    }
}
