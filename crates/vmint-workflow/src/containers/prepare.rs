//! A docker action gets ready: its image and the job's folders, once for `pre`, `main` and `post`.

use super::action::ActionError;
use super::call::{Answer, Call, Failure, Turn};
use super::engine::Engine;
use super::fetch::{Fetch, FetchError};
use super::folders::Folders;
use super::image::{Image, strip_scheme};
use super::scope::Scope;
use crate::log::Kind;
use std::collections::VecDeque;

/// What a docker action runs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActionImage {
    /// `docker://…`.
    Named(Image),
    /// A Dockerfile in the machine. Its folder is what it is built from.
    Dockerfile {
        /// The file.
        file: String,
        /// Its folder.
        context: String,
    },
}

impl ActionImage {
    /// `uses` of a step, or `image` of an action that lies in a folder of the machine.
    pub fn parse(text: &str, folder: &str) -> Result<Self, ActionError> {
        if strip_scheme(text).is_some() {
            return Ok(Self::Named(Image::parse(text)?));
        }
        let name = text.rsplit('/').next().unwrap_or_default();
        let name = name.to_ascii_lowercase();
        if text.contains('\0') || !(name.starts_with("dockerfile.") || name.ends_with("dockerfile"))
        {
            return Err(ActionError::Neither(text.chars().take(200).collect()));
        }
        let file = if text.starts_with('/') {
            text.to_owned()
        } else {
            format!("{}/{text}", folder.trim_end_matches('/'))
        };
        let context = match file.rsplit_once('/') {
            Some((context, _)) if !context.is_empty() => context.to_owned(),
            _ => "/".to_owned(),
        };
        Ok(Self::Dockerfile { file, context })
    }
}

/// Why a docker action cannot run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrepareError {
    /// Its image cannot be had.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// Its image cannot be built.
    #[error("failed to build {file}: {failure}")]
    Build {
        /// The Dockerfile.
        file: String,
        /// How.
        failure: Failure,
    },
    /// The job's folders.
    #[error("failed to make the job's folders: {0}")]
    Folders(Failure),
}

/// The dialogue that gets an action's image and the job's folders ready. Its end is the name of the image. A build is not
/// repeated when it fails: it would fail again, and take as long.
#[derive(Debug)]
pub struct Prepare {
    engine: Engine,
    workspace: String,
    image: String,
    says: VecDeque<(Kind, String)>,
    stages: VecDeque<Stage>,
    failed: Option<PrepareError>,
}

#[derive(Debug)]
enum Stage {
    Folders(Call),
    Fetch(Fetch),
    Build { file: String, context: String },
}

impl Prepare {
    /// Of an image. `name` tells the actions of a job apart.
    pub fn new(
        engine: Engine,
        scope: &Scope,
        name: &str,
        image: ActionImage,
        folders: &Folders,
    ) -> Self {
        let made = engine
            .make_folders(folders.of_machine())
            .map(Stage::Folders);
        let (image, stage, title) = match image {
            ActionImage::Named(image) => {
                let title = format!("Getting the image {image}");
                let name = image.as_str().to_owned();
                (name, Stage::Fetch(Fetch::new(image, None, scope)), title)
            }
            ActionImage::Dockerfile { file, context } => {
                let title = format!("Building the image of {file}");
                // Of the name of an image, upper-case letters are no part.
                let tag = scope.name(name).to_lowercase();
                let image = format!("localhost/{tag}:latest");
                (image, Stage::Build { file, context }, title)
            }
        };
        Self {
            engine,
            workspace: folders.workspace.clone(),
            image,
            says: VecDeque::from([(Kind::Group, title)]),
            stages: made.into_iter().chain([stage]).collect(),
            failed: None,
        }
    }

    /// What comes next.
    pub fn turn(&mut self) -> Turn<Result<String, PrepareError>> {
        if let Some((kind, text)) = self.says.pop_front() {
            return Turn::Say(kind, text);
        }
        if let Some(error) = &self.failed {
            return Turn::End(Err(error.clone()));
        }
        match self.stages.front_mut() {
            None => Turn::End(Ok(self.image.clone())),
            Some(Stage::Folders(call)) => Turn::Run(call.clone()),
            Some(Stage::Build { file, context }) => {
                let mut call = self.engine.build(&self.image, file, context);
                call.cwd = Some(self.workspace.clone());
                Turn::Run(call)
            }
            Some(Stage::Fetch(fetch)) => match fetch.turn(&self.engine) {
                Turn::Say(kind, text) => Turn::Say(kind, text),
                Turn::Run(call) => Turn::Run(call),
                Turn::End(end) => {
                    self.pass(end.map_err(PrepareError::from));
                    self.turn()
                }
            },
        }
    }

    /// What came of the call.
    pub fn answer(&mut self, answer: &Answer) {
        let failure = || answer.failure();
        let result = match self.stages.front_mut() {
            None => return,
            Some(Stage::Fetch(fetch)) => return fetch.answer(answer),
            Some(_) if answer.is_success() => Ok(()),
            Some(Stage::Folders(_)) => Err(PrepareError::Folders(failure())),
            Some(Stage::Build { file, .. }) => Err(PrepareError::Build {
                file: file.clone(),
                failure: failure(),
            }),
        };
        self.pass(result);
    }

    fn pass(&mut self, result: Result<(), PrepareError>) {
        self.stages.pop_front();
        self.failed = result.err();
        if self.failed.is_some() || self.stages.is_empty() {
            self.says.push_back((Kind::EndGroup, String::new()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{self, Script, podman};
    use super::*;

    fn prepare(
        engine: Engine,
        image: &str,
        script: Script,
    ) -> (Result<String, PrepareError>, String) {
        let image = ActionImage::parse(image, "/w/act/").unwrap();
        let folders = Folders::of_action("/home/runner/work/a/a", "/home/runner/work/_temp");
        let scope = Scope::new("a1").unwrap();
        let mut prepare = Prepare::new(engine, &scope, "Greet_3", image, &folders);
        testing::run(script, |answer| {
            if let Some(answer) = answer {
                prepare.answer(&answer);
            }
            prepare.turn()
        })
    }

    #[test]
    fn an_image_is_named_or_built() {
        let dockerfile = |text: &str| match ActionImage::parse(text, "/w/act") {
            Ok(ActionImage::Dockerfile { file, context }) => format!("{file} in {context}"),
            other => format!("{other:?}"),
        };
        assert_eq!(dockerfile("Dockerfile"), "/w/act/Dockerfile in /w/act");
        assert_eq!(
            dockerfile("docker/dockerfile.dev"),
            "/w/act/docker/dockerfile.dev in /w/act/docker"
        );
        assert_eq!(dockerfile("/Dockerfile"), "/Dockerfile in /");
        assert!(matches!(
            ActionImage::parse("Docker://alpine:3", "/"),
            Ok(ActionImage::Named(_))
        ));
        for text in ["alpine", "", "Dockerfile/x", "docker://"] {
            assert!(ActionImage::parse(text, "/w").is_err(), "{text}");
        }
    }

    #[test]
    fn a_dockerfile_is_built_once_and_its_failure_is_told() {
        let (end, log) = prepare(podman(), "Dockerfile", Script::new());
        assert_eq!(end.unwrap(), "localhost/vmint_greet_3_a1:latest");
        insta::assert_snapshot!(log, @r#"
        Group: Building the image of /w/act/Dockerfile
        $ /bin/sh -c for path; do test -e "$path" || mkdir -p -- "$path" || exit; done sh /home/runner/work/a/a /home/runner/work/_temp/_runner_file_commands /home/runner/work/_temp/_github_workflow /home/runner/work/_temp/_github_home /home/runner/work/_temp
        $ podman build --format docker --tag localhost/vmint_greet_3_a1:latest --file /w/act/Dockerfile /w/act
        EndGroup:
        "#);
        let script = Script::new().fail(" build ", 1, "no space left on device");
        let (end, log) = prepare(Engine::Docker, "Dockerfile", script);
        insta::assert_snapshot!(end.unwrap_err(), @"failed to build /w/act/Dockerfile: exit code 1 (no space left on device); the machine's disk is full: give its image a larger `size`");
        assert_eq!(log.matches(" build ").count(), 1);
    }

    #[test]
    fn a_named_image_is_pulled_if_it_is_not_there() {
        let script = || Script::new().fail("image inspect", 1, "");
        let (end, log) = prepare(Engine::Docker, "docker://alpine:3", script());
        assert_eq!(end.as_deref(), Ok("alpine:3"));
        assert!(log.contains("$ docker pull alpine:3"), "{log}");
        let script = script().fail(" pull", 1, "denied");
        let (end, _) = prepare(Engine::Docker, "docker://alpine:3", script);
        assert!(matches!(end, Err(PrepareError::Fetch(_))));
    }
}
