//! Commands in the job's own container: those of steps, and vmint's own questions.

use super::command::{Launch, Paths, Ran, Said, Talk, unsecure};
use super::end::End;
use super::instance::{Instance, Trouble};
use super::recorder::StepLog;
use super::step::Surroundings;
use super::supervise::Allowed;
use super::view::View;
use crate::containers::inside::{self, Exec};
use crate::containers::variables::Variables;
use crate::containers::{Call, Inside};
use crate::guest::Command;
use crate::log::Kind;
use crate::setup::probe::{self, Inventory};

/// What the probe of a container may print, in bytes.
const MOST: usize = probe::MAX_OUTPUT;

impl<'r> Instance<'r> {
    /// Runs a command of a step in the job's container.
    pub(super) async fn command_inside(
        &mut self,
        around: &Surroundings<'_, 'r>,
        launch: Launch,
    ) -> Result<Ran, Trouble> {
        self.inside()?;
        self.engine(around.log, around.limit).await?;
        let allowed = self.wire.allowed(around.limit).map_err(Trouble::Ended)?;
        let folder = self.lay(launch.files).await?;
        let seen = self.view.seen(&folder);
        let variables = self.variables(&launch.env, &seen, &around.id);
        let (call, mark) = self.exec(&launch.argv, variables, Some(&launch.cwd))?;
        let talk = Talk {
            unsecure: unsecure(&launch.env),
            paths: Paths::OfJob,
            mark: Some(mark.clone()),
        };
        let said = self.run_inside(&call, allowed, around.log, talk).await;
        self.sweep(&said, &mark, around.log).await?;
        let (mut end, said) = said?;
        if let End::Exited { code: 1.. } | End::Killed { .. } = end
            && let Some(why) = self.ended(around.log).await?
        {
            let reason = format!("the job's container ended while the step ran: {why}");
            end = End::Invalid { reason };
        }
        self.gather(end, said, &folder, around).await
    }

    async fn run_inside(
        &mut self,
        call: &Call,
        allowed: Allowed,
        log: &StepLog<'r>,
        talk: Talk<'_>,
    ) -> Result<(End, Said), Trouble> {
        let command = Command {
            timeout: Some(allowed.time),
            ..call.command()
        };
        self.converse(command, allowed, log, talk).await
    }

    /// A command as the engine runs it in the job's container, and the mark of its processes.
    fn exec(
        &mut self,
        argv: &[String],
        variables: Vec<(String, String)>,
        cwd: Option<&str>,
    ) -> Result<(Call, String), Trouble> {
        self.inside()?;
        let scope = self.container_scope();
        self.state.containers.execs += 1;
        let mark = inside::mark(&scope, self.state.containers.execs);
        let variables = Variables::new(variables).map_err(|e| Trouble::Step(e.to_string()))?;
        let Some(engine) = &self.engine else {
            return Err(Trouble::Step("the container engine is not known".into()));
        };
        let exec = Exec {
            argv,
            variables: &variables,
            cwd,
            mark: &mark,
        };
        Ok((self.inside()?.exec(engine, exec), mark))
    }

    /// A question of vmint's own, for where the steps run; and the mark of its processes if that is the job's container.
    pub(super) fn where_steps_run(
        &mut self,
        command: Command,
    ) -> Result<(Command, Option<String>), Trouble> {
        if self.view == View::Machine {
            return Ok((command, None));
        }
        let cwd = command.cwd.as_deref();
        let (call, mark) = self.exec(&command.argv, command.env, cwd)?;
        Ok((call.command(), Some(mark)))
    }

    /// Kills what a command that was cut off has left in the container.
    async fn sweep<T>(
        &mut self,
        came: &Result<(End, T), Trouble>,
        mark: &str,
        log: &StepLog<'r>,
    ) -> Result<(), Trouble> {
        match came {
            Ok((End::Exited { .. }, _)) | Err(Trouble::Fault(_)) => return Ok(()),
            Ok(_) | Err(_) => {}
        }
        match self.wire.call(&inside::tell(mark, 9), log, None).await {
            Ok(_) | Err(Trouble::Step(_) | Trouble::Ended(_)) => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    /// How the container ended, if it has.
    async fn ended(&mut self, log: &StepLog<'r>) -> Result<Option<String>, Trouble> {
        let (Some(job), Some(engine)) = (&self.state.containers.job, &self.engine) else {
            return Ok(None);
        };
        let ask = job.ask(engine);
        let answer = match self.wire.call(&ask, log, None).await {
            Ok(answer) => answer,
            // There is no time left to ask; the step has failed anyway.
            Err(Trouble::Step(_) | Trouble::Ended(_)) => return Ok(None),
            Err(fault) => return Err(fault),
        };
        let why = Inside::end(&answer);
        if let Some(job) = &mut self.state.containers.job {
            job.ended.clone_from(&why);
        }
        Ok(why)
    }

    /// Learns what the job's container has. From then on, steps have what it has, and not what the machine has.
    pub(super) async fn enter(&mut self, log: &StepLog<'r>) -> Result<(), Trouble> {
        self.engine(log, None).await?;
        let env = probe::environment(&[], &super::set_up::programs(), None);
        let argv = ["sh", "-c", probe::SCRIPT].map(str::to_owned);
        let command = Command {
            argv: argv.to_vec(),
            env,
            ..Command::default()
        };
        let (end, output) = self.ask(command, MOST).await?;
        let inventory = match Inventory::parse(&output) {
            Ok(inventory) => inventory,
            Err(error) => {
                if let Some(why) = self.ended(log).await? {
                    return Err(Trouble::Step(format!(
                        "the job's container has ended: {why}"
                    )));
                }
                let said = String::from_utf8_lossy(&output);
                let said: String = said.trim().chars().take(300).collect();
                return Err(Trouble::Step(format!(
                    "the job's container cannot say what it has ({error}; {end:?}: {said}): its image needs a shell `sh`"
                )));
            }
        };
        let system = match &*inventory.distribution {
            "" => "Linux".to_owned(),
            distribution => format!("{distribution} {}", inventory.release),
        };
        let text = format!(
            "Steps run in the job's container: {system}, as user {}",
            inventory.user
        );
        log.say(Kind::Text, self.tell.mask(text.trim_end()))?;
        let machine = std::mem::replace(&mut self.inventory, inventory);
        let node = machine.program("node");
        self.machine_node = node.map(|node| node.path.clone());
        let folders = [self.workspace(), super::paths::TEMP.to_owned()];
        for folder in folders {
            let folder = self.view.in_machine(&folder);
            self.hand_over(&folder).await?;
        }
        Ok(())
    }

    /// Makes files of the machine those of the container's user, if that is not root.
    pub(super) async fn hand_over(&mut self, folder: &str) -> Result<(), Trouble> {
        if self.view == View::Machine || self.inventory.uid == 0 {
            return Ok(());
        }
        let argv = ["chown", "-R", &self.inventory.uid.to_string(), folder].map(str::to_owned);
        let command = Command {
            argv: argv.to_vec(),
            user: Some("root".into()),
            ..Command::default()
        };
        let (end, said) = self.wire.ask(command, MOST).await?;
        if end == (End::Exited { code: 0 }) {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&said);
        let said: String = said.trim().chars().take(300).collect();
        Err(Trouble::Step(format!(
            "cannot give {folder} to the container's user: {said}"
        )))
    }
}
