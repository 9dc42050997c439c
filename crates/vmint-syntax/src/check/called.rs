//! Jobs that call workflows: they are found, loaded and checked in their turn, and their inputs and secrets are compared
//! with what the job gives.

use super::actions::Found;
use super::{Checker, File, Home, inside, listed};
use crate::diagnostic::Severity;
use crate::expr::is_computed;
use crate::load;
use crate::spec::{CallJob, CallSecrets, JobBody, Map, Text, Workflow};
use crate::uses::Uses;
use crate::yaml::scalar::plain;
use crate::yaml::source::Source;
use crate::yaml::{Data, Node, shown};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

const FOLDER: &str = ".github/workflows";

impl Checker<'_> {
    /// Checks a job that calls a workflow.
    pub(super) fn call(&mut self, file: &File<'_>, call: &CallJob) {
        let uses = &call.uses;
        if !self.nested(file, uses)
            && let Some((path, shown_as, home)) = self.find_workflow(file, uses)
        {
            self.load_called(file, uses, &path, &shown_as, home);
        }
        if let Some(workflow) = self.called.get(&uses.text) {
            let on = workflow.on_node.get("workflow_call").cloned();
            self.given(file, call, on.as_ref());
        }
    }

    fn find_workflow(&mut self, file: &File<'_>, uses: &Text) -> Option<(PathBuf, PathBuf, Home)> {
        let (root, path, home) = match Uses::parse(uses.text.as_str()).ok()? {
            Uses::Local(_) if file.home == Home::Elsewhere => {
                let message =
                    "local workflows in a workflow of another repository are not supported";
                self.error(
                    file,
                    uses.spot,
                    message,
                    "name the workflow by its repository",
                );
                return None;
            }
            Uses::Local(local) => {
                let path = local
                    .raw()
                    .trim_start_matches(['.', '$'])
                    .trim_start_matches('/')
                    .to_owned();
                (self.options.repository.to_owned(), path, Home::Repository)
            }
            Uses::Repository(repository) => match self.options.actions.find(&repository) {
                Found::Repository(root) => (
                    root,
                    repository.subpath().unwrap_or("").to_owned(),
                    Home::Elsewhere,
                ),
                found => {
                    let help = match found {
                        Found::Nothing { help } => help,
                        _ => "this is an action; use it in a step".to_owned(),
                    };
                    let message = format!("the workflow `{}` is not available", shown(&uses.text));
                    self.error(file, uses.spot, message, help);
                    return None;
                }
            },
            Uses::Docker(_) => return None,
        };
        let inner = inside(&path).unwrap_or_default();
        let extension = inner.extension().and_then(|extension| extension.to_str());
        if inner.parent() != Some(Path::new(FOLDER)) || !matches!(extension, Some("yml" | "yaml")) {
            let message = format!("`{}` is not a file of {FOLDER}", shown(&uses.text));
            let help =
                "workflows that are called stand directly in that folder and end in .yml or .yaml";
            self.error(file, uses.spot, message, help);
            return None;
        }
        let path = root.join(&inner);
        let shown_as = if home == Home::Repository {
            inner
        } else {
            path.clone()
        };
        Some((path, shown_as, home))
    }

    fn load_called(
        &mut self,
        file: &File<'_>,
        uses: &Text,
        path: &Path,
        shown_as: &Path,
        home: Home,
    ) {
        let bytes = match self.options.files.read(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                let message = format!(
                    "the workflow `{}` cannot be read: {error}",
                    shown_as.display()
                );
                let help = "paths of local workflows begin at the root of the repository";
                self.error(file, uses.spot, message, help);
                return;
            }
        };
        let workflow = match load::workflow(shown_as, &bytes) {
            Ok((workflow, warnings)) => {
                self.findings.extend(warnings);
                workflow
            }
            Err(wrong) => {
                self.findings.extend(wrong.0);
                self.heights.insert(uses.text.clone(), (1, self.reached));
                return;
            }
        };
        if !workflow.names_event("workflow_call") {
            let message = format!("`{}` cannot be called", shown_as.display());
            self.error(file, uses.spot, message, "add `workflow_call` to its `on`");
        }
        let source = Source::new(&bytes);
        let inner = File {
            path: shown_as,
            source: &source,
            home,
        };
        self.nesting.push(uses.text.clone());
        self.workflow(&workflow, &inner);
        self.nesting.pop();
        let height = 1 + self.tallest_call(&workflow);
        self.heights
            .insert(uses.text.clone(), (height, self.reached));
        self.called.insert(uses.text.clone(), workflow);
    }

    fn tallest_call(&self, workflow: &Workflow) -> usize {
        let called = workflow.jobs.values().filter_map(|job| match &job.body {
            JobBody::Call(call) => self.heights.get(&call.uses.text),
            JobBody::Steps(_) => None,
        });
        called.map(|(height, _)| *height).max().unwrap_or(0)
    }

    /// Compares what a job gives with what the workflow declares.
    fn given(&mut self, file: &File<'_>, call: &CallJob, on: Option<&Node>) {
        let declared = |kind| {
            on.and_then(|on| on.get(kind))
                .map_or(&[][..], Node::entries)
        };
        if let Map::Entries(given) = &call.with {
            self.pairs(file, &call.uses, "input", "with", given, declared("inputs"));
            let inputs = declared("inputs").iter();
            let inputs: HashMap<String, &Node> = inputs
                .map(|(key, input)| (key.text.to_ascii_lowercase(), input))
                .collect();
            for (name, value) in given {
                let input = inputs.get(&name.to_ascii_lowercase());
                let kind = input.and_then(|input| input.get("type")?.text());
                let fits = match (kind.as_deref(), plain(&value.text)) {
                    _ if value.text.contains("${{") => true,
                    (Some("boolean"), data) => matches!(data, Data::Bool(_)),
                    (Some("number"), data) => matches!(data, Data::Number(..)),
                    _ => true,
                };
                if let Some(kind) = kind.filter(|_| !fits) {
                    let message = format!(
                        "the input `{}` is a {kind}, but `{}` is not",
                        shown(name),
                        shown(&value.text)
                    );
                    self.error(file, value.spot, message, format!("give it a {kind}"));
                }
            }
        }
        if let CallSecrets::Named(Map::Entries(given)) = &call.secrets {
            self.pairs(
                file,
                &call.uses,
                "secret",
                "secrets",
                given,
                declared("secrets"),
            );
        }
    }

    fn pairs(
        &mut self,
        file: &File<'_>,
        uses: &Text,
        what: &str,
        key: &str,
        given: &[(String, Text)],
        declared: &[(crate::yaml::Key, Node)],
    ) {
        let workflow = shown(&uses.text);
        let known = declared.iter().map(|(key, _)| key.text.as_str());
        let known: HashSet<String> = known.map(str::to_ascii_lowercase).collect();
        let there = given.iter().map(|(key, _)| key.to_ascii_lowercase());
        let there: HashSet<String> = there.collect();
        let computed = given.iter().any(|(name, _)| is_computed(name));
        for (name, value) in given {
            if is_computed(name) || known.contains(&name.to_ascii_lowercase()) {
                continue;
            }
            let names = || declared.iter().map(|(key, _)| key.text.as_str());
            let help = match self.near(Severity::Error, name, names()) {
                Some(near) => format!("did you mean `{near}`?"),
                None if declared.is_empty() => format!("it has no {what}s"),
                None => format!("its {what}s are {}", listed(names())),
            };
            let message = format!("`{workflow}` has no {what} `{}`", shown(name));
            self.error(file, value.spot, message, help);
        }
        for (name, input) in declared {
            let required = matches!(
                input.get("required").map(|node| &node.data),
                Some(Data::Bool(true))
            );
            let missing = !there.contains(&name.text.to_ascii_lowercase());
            if required && missing && !computed && input.get("default").is_none() {
                let message = format!("`{workflow}` needs the {what} `{}`", shown(&name.text));
                self.error(
                    file,
                    uses.spot,
                    message,
                    format!("add `{}` to `{key}` of the job", shown(&name.text)),
                );
            }
        }
    }
}
