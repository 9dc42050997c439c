//! What steps use: actions are found, loaded and checked in their turn, and their inputs are compared with `with`.

use super::actions::{Builtin, Found};
use super::late::{self, Lookup};
use super::needs::Reached;
use super::texts;
use super::{
    Checker, File, Home, Kind, LoadedAction, MAX_NESTING, Origin, Resolved, inside, listed,
};
use crate::diagnostic::{Severity, Spot};
use crate::expr::is_computed;
use crate::load;
use crate::spec::{Action, Map, Runs, Step, StepBody, Text};
use crate::uses::Uses;
use crate::yaml::shown;
use crate::yaml::source::Source;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// What may lie in the workspace when a step begins.
#[derive(Clone, Debug, Default)]
pub(super) struct Workspace {
    /// Where the repository was checked out to, as far as that stands in the file.
    checkouts: Vec<PathBuf>,
    others: Others,
}

/// Whether something else may lie there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Others {
    /// No step has run but for checkouts.
    #[default]
    None,
    /// A step may have put it there; or it is not known what came before, as in an action.
    Some,
}

impl Workspace {
    /// What the steps before have done is not known.
    pub(super) fn unknown() -> Self {
        Self {
            checkouts: vec![PathBuf::new()],
            others: Others::Some,
        }
    }

    /// After a step.
    pub(super) fn after(&mut self, step: &Step, resolved: Option<&Resolved>) {
        let StepBody::Uses { with, .. } = &step.body else {
            self.others = Others::Some;
            return;
        };
        let Some(Resolved::Builtin(Builtin::Checkout)) = resolved else {
            self.others = Others::Some;
            return;
        };
        let input = |name: &str| match with {
            Map::Entries(given) => given
                .iter()
                .find(|(key, _)| key.eq_ignore_ascii_case(name))
                .map(|(_, text)| text.text.trim()),
            Map::Expression(text) => Some(text.text.as_str()),
        };
        let path = input("path").unwrap_or_default();
        // Another commit, or one that is known later, may have other actions.
        let is_plain = |name| input(name).is_none_or(str::is_empty);
        match inside(path) {
            Some(path)
                if is_plain("ref")
                    && is_plain("repository")
                    && !is_computed(&path.to_string_lossy()) =>
            {
                self.checkouts.push(path);
            }
            _ => self.others = Others::Some,
        }
    }
}

/// An input that is declared.
struct Input<'a> {
    name: &'a str,
    needed: bool,
    deprecated: Option<&'a str>,
}

impl Checker<'_> {
    /// Checks `uses` and `with` of a step.
    pub(super) fn used(&mut self, file: &File<'_>, uses: &Text, with: &Map, workspace: &Workspace) {
        match Uses::parse(uses.text.as_str()) {
            Ok(Uses::Local(local)) => {
                self.local(
                    file,
                    uses,
                    local.raw(),
                    local.is_self_repository(),
                    workspace,
                );
                self.inputs(file, uses, with);
            }
            Ok(Uses::Repository(repository)) => {
                match self.options.actions.find(&repository) {
                    Found::Builtin(builtin) => {
                        self.refused(file, builtin, with);
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
                        let missing = Resolved::Missing(format!("{message}: {help}"));
                        self.actions.insert(uses.text.clone(), missing);
                        self.cannot(file, uses.spot, message, help);
                    }
                }
                self.inputs(file, uses, with);
            }
            // The tables have refused the latter.
            Ok(Uses::Docker(_)) | Err(_) => {}
        }
    }

    /// Inputs with which vmint cannot do what it does itself.
    fn refused(&mut self, file: &File<'_>, builtin: Builtin, with: &Map) {
        let Map::Entries(given) = with else { return };
        for (name, value) in given {
            if is_computed(&value.text) {
                continue;
            }
            if let Some(why) = builtin.refuses(name, &value.text, self.options.slug) {
                let (what, help) = why.split_once(": ").unwrap_or((&why, ""));
                self.cannot(file, value.spot, what, help);
            }
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

    fn local(&mut self, file: &File<'_>, uses: &Text, raw: &str, own: bool, workspace: &Workspace) {
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
        let path = raw.trim_start_matches(['.', '$']).trim_start_matches('/');
        if own {
            match inside(path) {
                Some(path) => {
                    let folder = self.options.repository.join(&path);
                    self.action(file, uses, &folder, &path, Origin::Local);
                }
                None => self.outside(file, uses),
            }
            return;
        }
        // What lies in the workspace, and what of it is known to be of the repository.
        let below = inside(path);
        let of_repository = below.as_ref().and_then(|path| {
            let mut checkouts = workspace.checkouts.iter();
            let found = checkouts.find_map(|checkout| path.strip_prefix(checkout).ok());
            let found = found.map(Path::to_owned);
            found.filter(|path| self.is_action(&self.options.repository.join(path)))
        });
        if let (Some(path), Lookup::Repository) = (&of_repository, self.home) {
            let folder = self.options.repository.join(path);
            self.action(file, uses, &folder, path, Origin::Local);
            return;
        }
        self.actions
            .entry(uses.text.clone())
            .or_insert(Resolved::AtRun);
        if self.home == Lookup::Late {
            return;
        }
        match (workspace.others, &below) {
            (Others::None, Some(_)) if workspace.checkouts.is_empty() => {
                let message = format!(
                    "no step before this one checks out the repository, so `{}` is not there",
                    shown(raw)
                );
                let help = "add a step with `uses: actions/checkout@v4` before it";
                self.cannot(file, uses.spot, message, help);
            }
            (Others::None, Some(path)) => self.no_action(file, uses, path),
            _ => {
                let message = format!(
                    "`{}` is not in the repository; it is looked for in the workspace when the step runs",
                    shown(raw)
                );
                let help = "fine if a step before puts it there; else correct the path";
                self.warning(file, uses.spot, message, help);
            }
        }
    }

    fn is_action(&self, folder: &Path) -> bool {
        let mut names = FILES.iter();
        names.any(|name| self.is_file(&folder.join(name)))
    }

    /// Says what is where an action should be.
    fn no_action(&mut self, file: &File<'_>, uses: &Text, path: &Path) {
        let folder = self.options.repository.join(path);
        let at = path.display();
        let (message, help) = match self.options.files.kind(&folder) {
            Some(Kind::Folder) => (
                format!("`{at}` holds no action.yml"),
                "an action is a folder with an action.yml, an action.yaml or a Dockerfile",
            ),
            Some(Kind::File) => (
                format!("`{at}` is a file"),
                "name the folder of the action; a workflow is called by `uses` of a job, not of a step",
            ),
            None => (
                format!("there is no folder `{at}`"),
                "paths of local actions begin at the root of the workspace",
            ),
        };
        self.cannot(file, uses.spot, message, help);
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
        let mut names = FILES.iter();
        let Some(name) = names.find(|name| self.is_file(&folder.join(name))) else {
            let at = shown_as.display();
            let message = format!("`{at}` holds no action.yml");
            let help = "an action is a folder with an action.yml, an action.yaml or a Dockerfile";
            self.error(file, uses.spot, message, help);
            return;
        };
        let path = shown_as.join(name);
        let bytes = match self.options.files.read(&folder.join(name)) {
            Ok(bytes) => bytes,
            Err(error) => {
                let message = format!("`{}` cannot be read: {error}", path.display());
                self.error(file, uses.spot, message, "check its permissions");
                return;
            }
        };
        let action = if *name == "Dockerfile" {
            late::of_dockerfile(&path)
        } else {
            match load::action(&path, &bytes) {
                Ok((action, warnings)) => {
                    self.findings.extend(warnings);
                    action
                }
                Err(wrong) => {
                    self.findings.extend(wrong.0);
                    // It is not told twice, and its inputs are unknown.
                    self.heights.insert(uses.text.clone(), (1, self.reached));
                    return;
                }
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
        self.content(&inner, &action);
        self.files(&inner, folder, &action.runs);
        self.nesting.pop();
        let height = 1 + self.tallest(&action.runs);
        self.heights
            .insert(uses.text.clone(), (height, self.reached));
        let loaded = LoadedAction {
            action,
            folder: folder.to_owned(),
            origin,
            file: (*name).to_owned(),
            bytes,
        };
        self.actions
            .insert(uses.text.clone(), Resolved::Action(Box::new(loaded)));
    }

    /// Checks what an action says.
    pub(super) fn content(&mut self, file: &File<'_>, action: &Action) {
        let mut found = Vec::new();
        texts::of_action(action, &mut |field, text| {
            found.push((field, text.clone()));
        });
        let read = self.expressions(file, found);
        if let Runs::Composite(steps) = &action.runs {
            self.composite(file, steps, &read);
        }
    }

    /// Looks for the files that an action names.
    fn files(&mut self, file: &File<'_>, folder: &Path, runs: &Runs) {
        match runs {
            Runs::Composite(_) => {}
            Runs::Node(node) => {
                let hooks = [&node.pre, &node.post]
                    .into_iter()
                    .flatten()
                    .map(|(script, _)| script);
                for script in hooks.chain([&node.main]) {
                    self.script(file, folder, script, node.using.spot);
                }
            }
            Runs::Docker(docker) => {
                let image = docker.image.text.trim();
                if !image.starts_with("docker://") && !image.contains("${{") {
                    self.script(file, folder, image, docker.image.spot);
                }
            }
        }
    }

    /// A file that an action names.
    fn script(&mut self, file: &File<'_>, folder: &Path, name: &str, spot: Spot) {
        // An action of the repository may be built by the workflow before it is used.
        if inside(name).is_some_and(|path| self.is_file(&folder.join(path))) {
            return;
        }
        // Actions of one repository share what lies beside them.
        if file.home == Home::Elsewhere && self.is_file(&folder.join(name)) {
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
        used.map(|(height, _)| *height).max().unwrap_or(0)
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
        let known = self.heights.get(&uses.text).copied();
        if self.nesting.len() + known.map_or(1, |(height, _)| height) > MAX_NESTING {
            let message =
                format!("actions or workflows are nested more than {MAX_NESTING} deep here");
            self.error(file, uses.spot, message, "use fewer levels");
            return true;
        }
        // What was only perhaps come to is checked again when it surely is.
        known.is_some_and(|(_, reached)| reached == Reached::Surely || self.reached == reached)
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
            Resolved::AtRun | Resolved::Missing(_) => return,
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
        // What stands behind `${{ insert }}` is known only when the step runs.
        let computed = given.iter().any(|(key, _)| is_computed(key));
        for (key, value) in given {
            if is_computed(key) {
                continue;
            }
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
            if !computed && !there.contains(&input.name.to_ascii_lowercase()) {
                let message = format!("`{name}` needs the input `{}`", input.name);
                let help = format!("add `{}` to `with`", input.name);
                match &resolved {
                    // It fails without.
                    Resolved::Builtin(_) => self.cannot(file, uses.spot, message, help),
                    // GitHub does not enforce it, and the action may do without.
                    _ => self.warning(file, uses.spot, message, help),
                }
            }
        }
    }
}

/// The files by which a folder is an action.
const FILES: [&str; 3] = ["action.yml", "action.yaml", "Dockerfile"];
