//! Where the steps of a job run, and so under which paths they see the job's folders: in the machine, or in the job's own
//! container.
//!
//! All that steps and expressions see are paths of where the steps run. They become paths of the machine at one place each:
//! where files are put into it or fetched ([`Instance::in_machine`]).

use super::end::End;
use super::instance::{Instance, Trouble};
use super::paths;
use crate::containers::folders::{Folders, OfMachine};
use crate::containers::{Call, Inside};
use crate::expr::{Field, Scope, availability, evaluate_node};
use crate::guest::Exit;
use crate::yaml::{Data, Node};

/// What the engine may say of a container, in bytes.
const MOST: usize = 1 << 20;

/// Makes a folder, and says where it really is.
const REACH: &str = r#"mkdir -p -- "$1" && cd -- "$1" && pwd -P"#;

/// Where the steps of a job run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum View {
    /// In the machine.
    Machine,
    /// In the job's container.
    Container(Folders),
}

impl View {
    /// By the `container` of a job. Without an image there is none, as on GitHub. One that cannot be evaluated is told when it
    /// is to be started.
    pub(super) fn of(container: Option<&Node>, workspace: &str, scope: &Scope) -> Self {
        let Some(container) = container else {
            return Self::Machine;
        };
        let image = match &container.data {
            Data::Mapping(_) => container.get("image"),
            _ => Some(container),
        };
        let scope = scope.clone().limited_to(&availability(Field::JobContainer));
        let image = image.map(|image| evaluate_node(image, &scope));
        match image {
            Some(Ok(image)) if image.to_text().trim().is_empty() => Self::Machine,
            _ => Self::Container(Folders::of_job(OfMachine {
                workspace,
                work: paths::WORK,
                temp: paths::TEMP,
                tool_cache: paths::TOOL_CACHE,
                externals: paths::EXTERNALS,
            })),
        }
    }

    /// A path of the machine's job folders as steps see it.
    pub(super) fn seen(&self, path: &str) -> String {
        match self {
            Self::Machine => path.to_owned(),
            Self::Container(folders) => folders.translate(path),
        }
    }

    /// A path that steps see as it is in the machine, where that is one of the job's folders. Others stay.
    pub(super) fn in_machine(&self, path: &str) -> String {
        match self {
            Self::Machine => path.to_owned(),
            Self::Container(folders) => folders.translate_back(path),
        }
    }

    /// The folder of vmint's own programs, the last in `PATH`. In a container there is no stand-in for `sudo`: it has what
    /// its image has, as on GitHub.
    pub(super) fn programs(&self) -> &'static str {
        match self {
            Self::Machine => paths::BIN,
            Self::Container(_) => paths::LINKS,
        }
    }

    /// The folders of the job in its container, if it has one.
    pub(super) fn container(&self) -> Option<&Folders> {
        match self {
            Self::Machine => None,
            Self::Container(folders) => Some(folders),
        }
    }
}

impl Instance<'_> {
    /// The container that steps run in, while it runs.
    pub(super) fn inside(&self) -> Result<&Inside, Trouble> {
        let Some(inside) = &self.state.containers.job else {
            return Err(Trouble::Step("the job's container did not start".into()));
        };
        match &inside.ended {
            None => Ok(inside),
            Some(why) => Err(Trouble::Step(format!(
                "the job's container has ended: {why}"
            ))),
        }
    }

    /// A path that steps see, as it is in the machine: wherever in the job's container it lies.
    pub(super) async fn in_machine(&mut self, path: &str) -> Result<String, Trouble> {
        let found = match &self.view {
            View::Machine => Some(path.to_owned()),
            View::Container(folders) => folders.in_machine(path),
        };
        match found {
            Some(path) => Ok(path),
            None => Ok(format!("{}{path}", self.sight().await?)),
        }
    }

    /// A folder that steps see, as it is in the machine; made if need be, with all links on the way followed.
    pub(super) async fn folder_in_machine(&mut self, path: &str) -> Result<String, Trouble> {
        let outside = self
            .view
            .container()
            .map(|folders| folders.in_machine(path));
        if outside != Some(None) {
            return self.in_machine(path).await;
        }
        let argv = ["sh", "-c", REACH, "sh", path].map(str::to_owned);
        let command = crate::guest::Command {
            argv: argv.to_vec(),
            ..crate::guest::Command::default()
        };
        let (end, said) = self.ask(command, MOST).await?;
        let said = String::from_utf8_lossy(&said);
        let said = said.trim_end_matches('\n');
        if end != (End::Exited { code: 0 }) || !said.starts_with('/') {
            let said: String = said.chars().take(500).collect();
            return Err(Trouble::Step(format!(
                "cannot make the folder {path} in the job's container: {said}"
            )));
        }
        let real = said.to_owned();
        self.in_machine(&real).await
    }

    /// The root of where the steps run, as it is in the machine.
    pub(super) async fn root_in_machine(&mut self) -> Result<String, Trouble> {
        match self.view {
            View::Machine => Ok("/".to_owned()),
            View::Container(_) => self.sight().await,
        }
    }

    /// Where the machine sees all files of the job's container.
    pub(super) async fn sight(&mut self) -> Result<String, Trouble> {
        let inside = self.inside()?.clone();
        if let Some(sight) = inside.sight {
            return Ok(sight);
        }
        let unseen = |why: &str| {
            Trouble::Step(format!(
                "vmint cannot reach files of the job's container outside of its workspace, temporary folder, home and tool \
                 cache: {why}"
            ))
        };
        let Some(engine) = self.engine.clone() else {
            return Err(unseen("its engine is not known"));
        };
        let answer = self.quietly(&inside.ask_for_sight(&engine)).await?;
        let scope = self.container_scope();
        let Some((sight, look)) = Inside::look(&scope, &answer) else {
            return Err(unseen("the engine does not say where they are"));
        };
        let looked = self.quietly(&look).await?;
        if !looked.is_success() {
            return Err(unseen(&looked.failure().to_string()));
        }
        if let Some(inside) = &mut self.state.containers.job {
            inside.sight = Some(sight.clone());
        }
        Ok(sight)
    }

    /// Runs a call in the machine of which nothing is for the log.
    async fn quietly(&mut self, call: &Call) -> Result<crate::containers::Answer, Trouble> {
        let (end, output) = self.wire.ask(call.command(), MOST).await?;
        let exit = match end {
            End::Exited { code } => Exit::Code(code),
            End::Killed { signal } => Exit::Signal(signal),
            end => return Err(Trouble::Ended(end)),
        };
        Ok(crate::containers::Answer::new(exit, &output))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::{ContextName, Object};
    use crate::yaml;
    use std::path::Path;

    fn view(text: &str) -> View {
        let node = yaml::parse(Path::new("a.yml"), text.as_bytes()).expect("it is YAML");
        let mut matrix = Object::new();
        matrix.insert("image", "rust:1");
        let scope = Scope::new().with(ContextName::Matrix, matrix);
        View::of(Some(&node), "/home/runner/work/a/a", &scope)
    }

    #[test]
    fn a_container_without_an_image_is_none() {
        for text in [
            "''",
            "{image: ''}",
            "{image: '${{ matrix.none }}', options: x}",
            "${{ matrix.none }}",
        ] {
            assert_eq!(view(text), View::Machine, "{text}");
        }
        for text in [
            "rust",
            "{image: rust}",
            "${{ matrix.image }}",
            // Wrong, which is told when it is started.
            "${{ steps.x }}",
            "{options: x}",
        ] {
            assert_ne!(view(text), View::Machine, "{text}");
        }
    }

    #[test]
    fn steps_see_the_jobs_folders_where_they_run() {
        let view = view("rust");
        assert_eq!(view.seen("/home/runner/work/a/a/x"), "/__w/a/a/x");
        assert_eq!(view.in_machine("/__w/a/a/x"), "/home/runner/work/a/a/x");
        assert_eq!(view.in_machine("/etc/x"), "/etc/x");
        assert_eq!(
            View::Machine.seen("/home/runner/work/a"),
            "/home/runner/work/a"
        );
    }
}
