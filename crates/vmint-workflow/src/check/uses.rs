//! What steps use: actions are found, loaded and checked in their turn, and their inputs are compared with `with`.

use super::actions::{Builtin, Found};
use super::texts;
use super::{
    Checker, File, Home, LoadedAction, MAX_NESTING, Need, Origin, Resolved, inside, listed, read,
};
use crate::diagnostic::{Severity, Spot};
use crate::load;
use crate::spec::{Map, Runs, Text};
use crate::yaml::shown;
use crate::yaml::source::Source;
use github_actions_models::common::Uses;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// Whether the repository is in the workspace when a step begins.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Workspace {
    /// A checkout came before.
    Filled,
    /// No checkout came before.
    Empty,
    /// Unknown, as in an action.
    Unknown,
}

/// An input that is declared.
struct Input<'a> {
    name: &'a str,
    needed: bool,
    deprecated: Option<&'a str>,
}

impl Checker<'_> {
    /// Checks `uses` and `with` of a step. Says whether it is a checkout.
    pub(super) fn used(
        &mut self,
        file: &File<'_>,
        uses: &Text,
        with: &Map,
        workspace: Workspace,
    ) -> bool {
        match Uses::parse(uses.text.as_str()) {
            Ok(Uses::Docker(image)) => {
                let what = image.raw().to_owned();
                self.requirements
                    .container_engine
                    .push(need(what, file, uses));
                false
            }
            Ok(Uses::Local(local)) => {
                self.local(
                    file,
                    uses,
                    local.raw(),
                    local.is_self_repository(),
                    workspace,
                );
                self.inputs(file, uses, with);
                false
            }
            Ok(Uses::Repository(repository)) => {
                match self.options.actions.find(&repository) {
                    Found::Builtin(builtin) => {
                        if let Some(tool) = builtin.tool() {
                            self.requirements
                                .tools
                                .push(need(tool.to_owned(), file, uses));
                        }
                        self.actions
                            .insert(uses.text.clone(), Resolved::Builtin(builtin));
                    }
                    Found::Repository(root) => {
                        let path = repository.subpath().unwrap_or("");
                        match inside(path) {
                            Some(path) => self.action(
                                file,
                                uses,
                                &root.join(&path),
                                &root.join(&path),
                                Origin::Mirror,
                            ),
                            None => self.outside(file, uses),
                        }
                    }
                    Found::Replaced(replaced) => {
                        let message = format!(
                            "the action `{}` is replaced by {}",
                            shown(&uses.text),
                            replaced.by()
                        );
                        let help = replaced.help(&crate::replace::name(&repository));
                        self.warning(file, uses.spot, message, help);
                        let resolved = Resolved::Replaced(replaced);
                        self.actions.insert(uses.text.clone(), resolved);
                    }
                    Found::Nothing { help } => {
                        let message =
                            format!("the action `{}` is not available", shown(&uses.text));
                        self.error(file, uses.spot, message, help);
                    }
                }
                self.inputs(file, uses, with);
                let resolved = self.actions.get(&uses.text);
                matches!(resolved, Some(Resolved::Builtin(Builtin::Checkout)))
            }
            // The tables have refused it.
            Err(_) => false,
        }
    }

    fn outside(&mut self, file: &File<'_>, uses: &Text) {
        let message = format!("`{}` leads out of the repository", shown(&uses.text));
        self.error(
            file,
            uses.spot,
            message,
            "name a path below the root of the repository, without `..`",
        );
    }

    fn local(&mut self, file: &File<'_>, uses: &Text, raw: &str, own: bool, workspace: Workspace) {
        if own && file.home == Home::Elsewhere {
            let message = "`$/` in an action of another repository is not supported";
            self.error(
                file,
                uses.spot,
                message,
                "name the action by its repository",
            );
            return;
        }
        if !own && workspace == Workspace::Empty {
            let message = format!(
                "no step before this one checks out the repository, so `{}` is not there",
                shown(raw)
            );
            let help =
                "on GitHub this fails; add a step with `uses: actions/checkout@v4` before it";
            self.warning(file, uses.spot, message, help);
        }
        match inside(raw.trim_start_matches(['.', '$']).trim_start_matches('/')) {
            Some(path) => {
                let folder = self.options.repository.join(&path);
                self.action(file, uses, &folder, &path, Origin::Local);
            }
            None => self.outside(file, uses),
        }
    }

    /// Loads and checks the action in a folder, which is shown to the user as `shown_as`.
    fn action(
        &mut self,
        file: &File<'_>,
        uses: &Text,
        folder: &Path,
        shown_as: &Path,
        origin: Origin,
    ) {
        if self.nested(file, uses) {
            return;
        }
        let names = ["action.yml", "action.yaml"];
        let found = names.iter().find(|name| folder.join(name).is_file());
        let Some(name) = found else {
            let docker = folder.join("Dockerfile").is_file();
            let at = shown_as.display();
            let (message, help) = if docker {
                (
                    format!("`{at}` holds a Dockerfile, but no action.yml"),
                    "add an action.yml with `using: docker` and `image: Dockerfile`".to_owned(),
                )
            } else if folder.is_dir() {
                (
                    format!("`{at}` holds no action.yml"),
                    "an action is a folder with an action.yml or action.yaml".to_owned(),
                )
            } else if folder.is_file() {
                (
                    format!("`{at}` is a file"),
                    "name the folder of the action; a workflow is called by `uses` of a job, not of a step".to_owned(),
                )
            } else {
                (
                    format!("there is no folder `{at}`"),
                    "paths of local actions begin at the root of the repository".to_owned(),
                )
            };
            self.error(file, uses.spot, message, help);
            return;
        };
        let path = shown_as.join(name);
        let bytes = match read(&folder.join(name)) {
            Ok(bytes) => bytes,
            Err(error) => {
                let message = format!("`{}` cannot be read: {error}", path.display());
                self.error(file, uses.spot, message, "check its permissions");
                return;
            }
        };
        let action = match load::action(&path, &bytes) {
            Ok((action, warnings)) => {
                self.findings.extend(warnings);
                action
            }
            Err(wrong) => {
                self.findings.extend(wrong.0);
                // It is not told twice, and its inputs are unknown.
                self.heights.insert(uses.text.clone(), 1);
                return;
            }
        };
        let source = Source::new(&bytes);
        let inner = File {
            path: &path,
            source: &source,
            home: if origin == Origin::Local {
                file.home
            } else {
                Home::Elsewhere
            },
        };
        self.nesting.push(uses.text.clone());
        let mut found = Vec::new();
        texts::of_action(&action, &mut |field, text| {
            found.push((field, text.clone()));
        });
        let read = self.expressions(&inner, found);
        match &action.runs {
            Runs::Composite(steps) => self.composite(&inner, steps, &read),
            Runs::Node(node) => {
                self.requirements
                    .node
                    .push(need(node.using.text.clone(), file, uses));
                let hooks = [&node.pre, &node.post]
                    .into_iter()
                    .flatten()
                    .map(|(script, _)| script);
                for script in hooks.chain([&node.main]) {
                    self.script(&inner, folder, script, node.using.spot);
                }
            }
            Runs::Docker(docker) => {
                self.requirements.container_engine.push(need(
                    docker.image.text.clone(),
                    file,
                    uses,
                ));
                let image = docker.image.text.trim();
                if !image.starts_with("docker://") && !image.contains("${{") {
                    self.script(&inner, folder, image, docker.image.spot);
                }
            }
        }
        self.nesting.pop();
        let height = 1 + self.tallest(&action.runs);
        self.heights.insert(uses.text.clone(), height);
        let loaded = LoadedAction {
            action,
            folder: folder.to_owned(),
            origin,
        };
        self.actions
            .insert(uses.text.clone(), Resolved::Action(Box::new(loaded)));
    }

    /// A file that an action names.
    fn script(&mut self, file: &File<'_>, folder: &Path, name: &str, spot: Spot) {
        // An action of the repository may be built by the workflow before it is used.
        if inside(name).is_some_and(|path| folder.join(path).is_file()) {
            return;
        }
        // Actions of one repository share what lies beside them.
        if file.home == Home::Elsewhere && folder.join(name).is_file() {
            return;
        }
        let message = format!(
            "the action names the file `{}`, which is not there",
            shown(name)
        );
        let help = "fine if the workflow makes it before the action is used; else correct the path";
        self.warning(file, spot, message, help);
    }

    fn tallest(&self, runs: &Runs) -> usize {
        let Runs::Composite(steps) = runs else {
            return 0;
        };
        let used = steps.iter().filter_map(|step| match &step.body {
            crate::spec::StepBody::Uses { uses, .. } => self.heights.get(&uses.text),
            crate::spec::StepBody::Run { .. } => None,
        });
        used.copied().max().unwrap_or(0)
    }

    /// Whether there is nothing to do for what is used here: it is known already, or nested in a way that is refused.
    pub(super) fn nested(&mut self, file: &File<'_>, uses: &Text) -> bool {
        if let Some(first) = self.nesting.iter().position(|outer| *outer == uses.text) {
            let mut chain: Vec<String> = self.nesting[first..]
                .iter()
                .map(|uses| format!("`{}`", shown(uses)))
                .collect();
            chain.push(format!("`{}`", shown(&uses.text)));
            let message = format!("`{}` uses itself: {}", shown(&uses.text), chain.join(" → "));
            self.error(file, uses.spot, message, "break the circle");
            return true;
        }
        let height = self.heights.get(&uses.text).copied();
        if self.nesting.len() + height.unwrap_or(1) > MAX_NESTING {
            let message =
                format!("actions or workflows are nested more than {MAX_NESTING} deep here");
            self.error(file, uses.spot, message, "use fewer levels");
            return true;
        }
        height.is_some()
    }

    fn inputs(&mut self, file: &File<'_>, uses: &Text, with: &Map) {
        let (Some(resolved), Map::Entries(given)) = (self.actions.get(&uses.text).cloned(), with)
        else {
            return;
        };
        let input = |needed| {
            move |name: &&'static str| Input {
                name,
                needed,
                deprecated: None,
            }
        };
        let (declared, docker): (Vec<Input<'_>>, _) = match &resolved {
            Resolved::Builtin(builtin) => {
                let needed = builtin.required().iter().map(input(true));
                (
                    needed
                        .chain(builtin.optional().iter().map(input(false)))
                        .collect(),
                    false,
                )
            }
            // What stands in takes what it is given.
            Resolved::Replaced(_) => return,
            Resolved::Action(loaded) => {
                let inputs = loaded.action.inputs.iter().map(|(name, input)| Input {
                    name,
                    needed: input.required && input.default.is_none(),
                    deprecated: input.deprecation.as_deref(),
                });
                (
                    inputs.collect(),
                    matches!(loaded.action.runs, Runs::Docker(_)),
                )
            }
        };
        let name = shown(&uses.text);
        let known: HashMap<String, &Input<'_>> = declared
            .iter()
            .map(|input| (input.name.to_ascii_lowercase(), input))
            .collect();
        let there = given.iter().map(|(key, _)| key.to_ascii_lowercase());
        let there: HashSet<String> = there.collect();
        for (key, value) in given {
            // These two replace what a docker action says itself.
            if docker && ["args", "entrypoint"].contains(&key.as_str()) {
                continue;
            }
            match known.get(&key.to_ascii_lowercase()) {
                Some(Input {
                    deprecated: Some(why),
                    ..
                }) => {
                    let message = format!("the input `{}` of `{name}` is deprecated", shown(key));
                    self.warning(file, value.spot, message, *why);
                }
                Some(_) => {}
                None => {
                    let message = format!("`{name}` has no input `{}`", shown(key));
                    let names = || declared.iter().map(|input| input.name);
                    let help = match self.near(Severity::Warning, key, names()) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None if declared.is_empty() => "it has no inputs".to_owned(),
                        None => format!("its inputs are {}", listed(names())),
                    };
                    self.warning(file, value.spot, message, help);
                }
            }
        }
        for input in declared.iter().filter(|input| input.needed) {
            if !there.contains(&input.name.to_ascii_lowercase()) {
                let message = format!("`{name}` needs the input `{}`", input.name);
                self.error(
                    file,
                    uses.spot,
                    message,
                    format!("add `{}` to `with`", input.name),
                );
            }
        }
    }
}

pub(super) fn need(what: String, file: &File<'_>, text: &Text) -> Need {
    Need {
        what,
        file: PathBuf::from(file.path),
        spot: text.spot,
    }
}
