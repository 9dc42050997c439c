//! Docker actions: a container for one step, which sees the job's folders under GitHub's own paths.
//!
//! First [`Prepare`](super::prepare::Prepare) gets the image and the folders ready; then [`Run`] is the command. One that is
//! cut off has to be followed by [`Run::remove`]: with the client gone, the container would go on.

use super::call::Call;
use super::engine::Engine;
use super::folders::{Folders, HOME};
use super::image::ImageError;
use super::scope::Scope;
use super::variables::{VariableError, Variables};
use super::volume::Volume;
use super::words::{self, WordsError};

/// What is wrong with a docker action.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ActionError {
    /// `image` is neither.
    #[error("“{0}” should be either `[path]/Dockerfile` or `docker://image[:tag]`")]
    Neither(String),
    /// The name of the image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// `args`.
    #[error("`args`: {0}")]
    Args(#[from] WordsError),
    /// A variable.
    #[error(transparent)]
    Variable(#[from] VariableError),
}

/// The variables of a docker action, from four places, all evaluated.
#[derive(Clone, Copy, Debug)]
pub struct Environment<'a> {
    /// `env` of the workflow, the job and the step, and what `GITHUB_ENV` has brought.
    pub step: &'a [(String, String)],
    /// Inputs by their names, with the defaults of those that are not given.
    pub inputs: &'a [(String, String)],
    /// `runs.env` of the action: counts where the step says nothing.
    pub action: &'a [(String, String)],
    /// `GITHUB_…` and `RUNNER_…`: count in any case.
    pub runner: &'a [(String, String)],
}

impl Environment<'_> {
    /// What the container is given: paths as it sees them, inputs as `INPUT_NAME`.
    pub fn variables(&self, folders: &Folders) -> Result<Variables, ActionError> {
        let inputs = self.inputs.iter();
        let inputs = inputs.map(|(name, value)| (input_variable(name), value.clone()));
        let home = [("HOME".to_owned(), HOME.to_owned())];
        let all = self
            .action
            .iter()
            .chain(self.step)
            .cloned()
            .chain(inputs)
            .chain(home)
            .chain(self.runner.iter().cloned());
        let seen_inside = all.map(|(name, value)| (name, folders.translate(&value)));
        Ok(Variables::new(seen_inside)?.marked())
    }
}

/// `INPUT_WHO_TO_GREET` of `who to greet`.
pub fn input_variable(name: &str) -> String {
    format!("INPUT_{}", name.replace(' ', "_").to_uppercase())
}

/// What is run in the container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// Instead of the image's own.
    pub entrypoint: Option<String>,
    /// Its arguments.
    pub args: Vec<String>,
}

impl Program {
    /// Of an action's `runs`, or of nothing for `uses: docker://…`. What it leaves open comes from `with.entrypoint` and
    /// `with.args`, the latter split like a command line. `pre` and `post` are run with an entrypoint of their own and the
    /// same arguments.
    pub fn new(
        entrypoint: Option<&str>,
        args: &[String],
        with: &[(String, String)],
    ) -> Result<Self, ActionError> {
        let given = |key: &str| {
            let mut pairs = with.iter();
            let value = pairs
                .find_map(|(name, value)| name.eq_ignore_ascii_case(key).then_some(value.as_str()));
            value.filter(|value| !value.is_empty())
        };
        let entrypoint = entrypoint.filter(|entrypoint| !entrypoint.is_empty());
        let entrypoint = entrypoint.or_else(|| given("entrypoint"));
        let args = match given("args") {
            Some(text) if args.is_empty() => words::split(text)?,
            _ => args.to_vec(),
        };
        let has_nul = |text: &str| text.contains('\0');
        if args.iter().any(|arg| has_nul(arg)) || entrypoint.is_some_and(has_nul) {
            return Err(WordsError::Nul.into());
        }
        Ok(Self {
            entrypoint: entrypoint.map(str::to_owned),
            args,
        })
    }
}

/// One container of a docker action.
#[derive(Clone, Debug)]
pub struct Run<'a> {
    /// The engine.
    pub engine: &'a Engine,
    /// Whose it is.
    pub scope: &'a Scope,
    /// Sets it apart from the job's other containers: the step's number, and which of `pre`, `main` and `post` it is.
    pub name: &'a str,
    /// As [`Prepare`](super::prepare::Prepare) gave it.
    pub image: &'a str,
    /// What to run.
    pub program: &'a Program,
    /// With which variables.
    pub variables: &'a Variables,
    /// The job's folders.
    pub folders: &'a Folders,
    /// The network of the job's services, if it has any.
    pub network: Option<&'a str>,
}

impl Run<'_> {
    /// The command. Its output and its exit code are the step's; 125 to 127 can also be the engine's own.
    pub fn call(&self) -> Call {
        let mut call = self
            .engine
            .call(["run"])
            .args(self.engine.creation().iter().copied())
            .args(["--name", &self.scope.name(self.name)])
            .args(["--label", &self.scope.label()])
            .args(["--workdir", "/github/workspace", "--rm"])
            .args(self.variables.arguments())
            .env(self.variables.inherited());
        if let Some(entrypoint) = &self.program.entrypoint {
            call = call.args(["--entrypoint", entrypoint]);
        }
        if let Some(network) = self.network {
            call = call.args(["--network", network]);
        }
        let socket = self.engine.socket();
        let socket = socket.map(|socket| Volume::folder(socket, "/var/run/docker.sock"));
        for volume in socket.into_iter().chain(self.folders.volumes()) {
            call = call.args(["--volume".to_owned(), volume.argument()]);
        }
        call = call.args([self.image]).args(self.program.args.clone());
        call.cwd = Some(self.folders.workspace.clone());
        call
    }

    /// Ends it when the step was cancelled or timed out. It is no matter if there is none any more.
    pub fn remove(&self) -> Call {
        self.engine.remove(&self.scope.name(self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::podman;
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn folders() -> Folders {
        Folders::of_action("/home/runner/work/a/a", "/home/runner/work/_temp")
    }

    #[test]
    fn a_step_counts_more_than_its_action_and_the_runner_most() {
        let environment = Environment {
            step: &pairs(&[("A", "step"), ("GITHUB_SHA", "forged"), ("HOME", "/root")]),
            inputs: &pairs(&[("who to-greet", "you")]),
            action: &pairs(&[("A", "action"), ("B", "action")]),
            runner: &pairs(&[
                ("GITHUB_SHA", "0f"),
                ("GITHUB_WORKSPACE", "/home/runner/work/a/a"),
            ]),
        };
        let variables = environment.variables(&folders()).unwrap();
        let mut all: Vec<_> = variables
            .inherited()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        all.extend(variables.arguments().filter(|arg| arg.contains('=')));
        assert_eq!(
            all.join(" "),
            "A=step B=action GITHUB_SHA=0f INPUT_WHO_TO-GREET=you GITHUB_WORKSPACE=/github/workspace \
             GITHUB_ACTIONS=true CI=true HOME=/github/home"
        );
    }

    #[test]
    fn arguments_of_the_action_count_more_than_those_of_the_step() {
        let with = pairs(&[("Args", "a \"b c\""), ("entryPoint", "/bin/sh")]);
        let program = Program::new(None, &[], &with).unwrap();
        assert_eq!(program.entrypoint.as_deref(), Some("/bin/sh"));
        assert_eq!(program.args, ["a", "b c"]);
        let program = Program::new(Some("/x"), &["y".into(), String::new()], &with).unwrap();
        assert_eq!(program.entrypoint.as_deref(), Some("/x"));
        assert_eq!(program.args, ["y", ""]);
        assert!(Program::new(None, &["\0".into()], &[]).is_err());
    }

    #[test]
    fn an_action_sees_the_job_under_githubs_paths() {
        let (engine, scope, folders) = (podman(), Scope::new("a1").unwrap(), folders());
        let variables = Variables::new(pairs(&[("INPUT_TOKEN", "s3cret")])).unwrap();
        let program = Program::new(Some("/entry.sh"), &["$x; rm -rf /".into()], &[]).unwrap();
        let run = Run {
            engine: &engine,
            scope: &scope,
            name: "3_main",
            image: "alpine",
            program: &program,
            variables: &variables,
            folders: &folders,
            network: Some("github_network_a1"),
        };
        insta::assert_snapshot!(run.call().argv.join("\n"), @"
        podman
        run
        --name
        vmint_3_main_a1
        --label
        vmint=a1
        --workdir
        /github/workspace
        --rm
        --env
        INPUT_TOKEN
        --entrypoint
        /entry.sh
        --network
        github_network_a1
        --volume
        /run/podman/podman.sock:/var/run/docker.sock
        --volume
        /home/runner/work/_temp:/github/runner_temp
        --volume
        /home/runner/work/_temp/_github_home:/github/home
        --volume
        /home/runner/work/_temp/_github_workflow:/github/workflow
        --volume
        /home/runner/work/_temp/_runner_file_commands:/github/file_commands
        --volume
        /home/runner/work/a/a:/github/workspace
        alpine
        $x; rm -rf /
        ");
        assert_eq!(run.call().env, pairs(&[("INPUT_TOKEN", "s3cret")]));
        assert_eq!(run.remove().argv[6], "vmint_3_main_a1");
    }
}
