//! Steps that run a script.

use super::command::Launch;
use super::instance::{Done, Frame, Instance, Trouble};
use super::step::Surroundings;
use super::view::View;
use crate::expr::Scope;
use crate::log::Kind;
use crate::shell::{Found, Has, Shell};
use crate::spec::Text;

/// What a step is a step of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Within {
    /// A job.
    Job,
    /// A composite action.
    Action,
}

impl<'r> Instance<'r> {
    /// Runs a script of a step.
    pub(super) async fn script(
        &mut self,
        script: &'r Text,
        own_shell: Option<&'r Text>,
        directory: Option<&'r Text>,
        frame: &Frame,
        mut around: Surroundings<'_, 'r>,
    ) -> Result<Done, Trouble> {
        let text = self.text(&mut around.scope, script).await?;
        let within = match frame.action {
            None => Within::Job,
            Some(_) => Within::Action,
        };
        let default = match within {
            Within::Job => self.defaults.shell,
            Within::Action => None,
        };
        let wanted = own_shell.or(default);
        let wanted = self.optional(&mut around.scope, wanted).await?;
        let cwd = self.directory(&mut around.scope, directory, within).await?;
        self.run_script(&text, wanted.as_deref(), cwd, frame, around)
            .await
    }

    /// Runs a script whose expressions are evaluated.
    pub(super) async fn run_script(
        &mut self,
        text: &str,
        wanted: Option<&str>,
        cwd: String,
        frame: &Frame,
        around: Surroundings<'_, 'r>,
    ) -> Result<Done, Trouble> {
        let number = self.state.commands + 1;
        let has = |name| match self.inventory.program(name) {
            Some(_) => Found::Yes,
            None => Found::No,
        };
        let has = Has {
            // In a container GitHub's default is `sh`, whatever else there is.
            bash: match self.view {
                View::Machine => has("bash"),
                View::Container(_) => Found::No,
            },
            python: has("python"),
        };
        let shell = Shell::new(wanted, has).map_err(|e| Trouble::Step(e.to_string()))?;
        let file = format!("{number}{}", shell.extension());
        let path = format!("{}/{file}", self.view.seen(super::paths::TEMP));
        let mut launch = Launch {
            argv: shell.argv(&path),
            env: around.env.clone(),
            cwd,
            ..Launch::default()
        };
        if let Some(action) = &frame.action {
            for (name, value) in [
                ("GITHUB_ACTION_PATH", &action.path),
                ("GITHUB_ACTION_REPOSITORY", &action.repository),
                ("GITHUB_ACTION_REF", &action.reference),
            ] {
                launch.env.insert(name.to_owned(), value.clone());
            }
        }
        launch
            .files
            .file(&file, 0o755, shell.script(text).as_bytes());
        self.announce(text, &shell.to_string(), &around)?;
        let ran = self.command(&around, launch).await?;
        Ok(Done::of(ran.end, ran.outputs))
    }

    /// Where a script runs. The defaults are those of jobs; the steps of an action have none.
    pub(super) async fn directory(
        &mut self,
        scope: &mut Scope,
        own: Option<&Text>,
        within: Within,
    ) -> Result<String, Trouble> {
        let default = match within {
            Within::Job => self.defaults.working_directory,
            Within::Action => None,
        };
        let directory = self.optional(scope, own.or(default)).await?;
        let directory = directory.unwrap_or_default();
        Ok(super::paths::below(&self.workspace(), &directory))
    }

    /// Says at the beginning of a log what is run, as GitHub does.
    fn announce(
        &self,
        script: &str,
        shell: &str,
        around: &Surroundings<'_, 'r>,
    ) -> Result<(), Trouble> {
        let say = |kind, text: &str| around.log.say(kind, self.tell.mask(text));
        let script = self.tell.mask(script);
        let mut lines = script.lines();
        let first = lines.by_ref().find(|line| !line.trim().is_empty());
        say(Kind::Group, &format!("Run {}", first.unwrap_or_default()))?;
        for line in script.lines() {
            say(Kind::Text, line)?;
        }
        say(Kind::Text, &format!("shell: {shell}"))?;
        self.say_pairs(around, "env", &self.shown_env(around))?;
        say(Kind::EndGroup, "")?;
        Ok(())
    }

    /// Lists names and values in a log.
    pub(super) fn say_pairs(
        &self,
        around: &Surroundings<'_, 'r>,
        title: &str,
        pairs: &[(String, String)],
    ) -> Result<(), Trouble> {
        let say = |text: &str| around.log.say(Kind::Text, self.tell.mask(text));
        if !pairs.is_empty() {
            say(&format!("{title}:"))?;
        }
        for (name, value) in pairs {
            let mut lines = value.lines();
            say(&format!("  {name}: {}", lines.next().unwrap_or_default()))?;
            for line in lines {
                say(&format!("    {line}"))?;
            }
        }
        Ok(())
    }
}
