//! What steps do: their shells, what they use, which steps and jobs their expressions read.

use super::expressions::Inspected;
use super::texts::{self, Part};
use super::uses::Workspace;
use super::{Checker, File};
use crate::diagnostic::{Severity, nearest};
use crate::expr::{ContextName, Field};
use crate::limits;
use crate::spec::{Step, StepBody, Text};
use crate::yaml::scalar::plain;
use crate::yaml::{Data, shown};
use std::collections::{HashMap, HashSet};

/// What can be read by expressions at a place. Names are in lower case.
#[derive(Default)]
pub(super) struct Names<'a> {
    /// Ids of steps that came before, and of all steps with their number.
    pub steps: Option<(HashSet<String>, HashMap<String, usize>)>,
    /// `needs` of the job, and the ids of all jobs.
    pub needs: Option<(HashSet<String>, &'a HashSet<String>)>,
    /// Keys of a matrix that stands in the file.
    pub matrix: Option<HashSet<String>>,
}

impl Checker<'_> {
    /// The steps of a job.
    pub(super) fn job_steps(&mut self, file: &File<'_>, steps: &[Step], names: &mut Names<'_>) {
        let mut workspace = Workspace::default();
        names.steps = Some((HashSet::new(), numbers(steps)));
        let outer = self.reached;
        for step in steps {
            self.reached = outer.of(step);
            self.step(file, step, Part::Job, names);
            let mut resolved = None;
            if let StepBody::Uses { uses, with } = &step.body {
                self.used(file, uses, with, &workspace);
                resolved = self.actions.get(&uses.text);
            }
            workspace.after(step, resolved);
            Self::done(step, names);
        }
        self.reached = outer;
    }

    /// The steps of a composite action, and the outputs that read them, which are among the other texts of the action.
    pub(super) fn composite(&mut self, file: &File<'_>, steps: &[Step], read: &[Inspected]) {
        let mut names = Names {
            steps: Some((HashSet::new(), numbers(steps))),
            ..Names::default()
        };
        let outer = self.reached;
        for step in steps {
            self.reached = outer.of(step);
            self.step(file, step, Part::Action, &names);
            if let StepBody::Uses { uses, with } = &step.body {
                self.used(file, uses, with, &Workspace::unknown());
            }
            Self::done(step, &mut names);
        }
        self.reached = outer;
        for output in read {
            if output.field == Field::ActionOutputValue {
                self.names(file, output, &names);
            }
        }
    }

    fn done(step: &Step, names: &mut Names<'_>) {
        if let (Some(id), Some((before, _))) = (&step.id, &mut names.steps) {
            before.insert(id.to_lowercase());
        }
    }

    fn step(&mut self, file: &File<'_>, step: &Step, part: Part, names: &Names<'_>) {
        let mut found = Vec::new();
        texts::of_step(step, part, &mut |field, text| {
            found.push((field, text.clone()));
        });
        for read in self.expressions(file, found) {
            self.names(file, &read, names);
        }
        self.time_limit(file, step.timeout_minutes.as_ref());
        if let StepBody::Run {
            shell: Some(shell), ..
        } = &step.body
        {
            self.shell(file, shell);
        }
    }

    /// `timeout-minutes`, as far as it is known before the run.
    pub(super) fn time_limit(&mut self, file: &File<'_>, limit: Option<&Text>) {
        let Some((text, Data::Number(minutes, _))) = limit.map(|text| (text, plain(&text.text)))
        else {
            return;
        };
        match limits::minutes(minutes) {
            Err(error) => {
                let message = format!("`timeout-minutes` is {}, which is too short", text.text);
                self.error(file, text.spot, message, error.help());
            }
            Ok(limit) if minutes.fract() != 0.0 => {
                let message = format!(
                    "`timeout-minutes` is {}, but GitHub counts whole minutes",
                    text.text
                );
                let help = format!(
                    "here it is {}; GitHub drops the fraction",
                    limits::text(limit)
                );
                self.warning(file, text.spot, message, help);
            }
            Ok(_) => {}
        }
    }

    /// A shell: one that is known, or a template.
    pub(super) fn shell(&mut self, file: &File<'_>, shell: &Text) {
        let text = shell.text.trim();
        match text {
            "bash" | "sh" => {}
            "python" => {}
            "pwsh" | "powershell" | "cmd" => {
                let message = format!("the shell `{text}` is not supported");
                let help = "use bash, sh or python; if the image has PowerShell, write `shell: pwsh -File {0}`";
                self.cannot(file, shell.spot, message, help);
            }
            _ if text.contains("{0}") || text.contains("${{") => {}
            _ => {
                let message = format!("the shell `{}` is not known", shown(text));
                let help = match nearest(text, ["bash", "sh", "python"]) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!(
                        "use bash, sh or python, or a template such as `{} {{0}}`",
                        shown(text)
                    ),
                };
                self.error(file, shell.spot, message, help);
            }
        }
    }

    /// Steps, jobs and keys of the matrix that a text reads although they are not there.
    pub(super) fn names(&mut self, file: &File<'_>, read: &Inspected, names: &Names<'_>) {
        for used in &read.uses {
            let Some((context, key)) = used.context_and_name() else {
                continue;
            };
            let name = shown(key);
            let key = key.to_lowercase();
            let (message, help) = match (context, names) {
                (
                    ContextName::Steps,
                    Names {
                        steps: Some((before, all)),
                        ..
                    },
                ) if !before.contains(&key) => match all.get(&key) {
                    Some(number) => (
                        format!(
                            "`steps.{name}` is read before the step `{name}` (number {number}) has run"
                        ),
                        "its outputs are empty here; move the step or the reference".to_owned(),
                    ),
                    None => (
                        format!("there is no step with the id `{name}`"),
                        match self.near(Severity::Warning, &key, all.keys().map(String::as_str)) {
                            Some(near) => format!("did you mean `{near}`?"),
                            None => "its outputs are empty; give the step that is meant an `id`"
                                .to_owned(),
                        },
                    ),
                },
                (
                    ContextName::Needs,
                    Names {
                        needs: Some((needs, jobs)),
                        ..
                    },
                ) if !needs.contains(&key) => {
                    if jobs.contains(&key) {
                        (
                            format!("`needs.{name}` is read, but the job does not need `{name}`"),
                            format!("it is empty; add `{name}` to `needs` of the job"),
                        )
                    } else {
                        (
                            format!("there is no job `{name}`"),
                            match self.near(
                                Severity::Warning,
                                &key,
                                jobs.iter().map(String::as_str),
                            ) {
                                Some(near) => format!("did you mean `{near}`?"),
                                None => "`needs` holds the jobs that the job needs".to_owned(),
                            },
                        )
                    }
                }
                (
                    ContextName::Matrix,
                    Names {
                        matrix: Some(keys), ..
                    },
                ) if !keys.contains(&key) => (
                    format!("the matrix of the job has no key `{name}`"),
                    match self.near(Severity::Warning, &key, keys.iter().map(String::as_str)) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => "it is empty".to_owned(),
                    },
                ),
                _ => continue,
            };
            let spot = self.spot(Severity::Warning, file, &read.text, used.offset);
            self.warning(file, spot, message, help);
        }
    }
}

/// The ids of steps, in lower case, with their numbers from 1.
fn numbers(steps: &[Step]) -> HashMap<String, usize> {
    let numbered = steps.iter().zip(1..);
    numbered
        .filter_map(|(step, number)| Some((step.id.as_ref()?.to_lowercase(), number)))
        .collect()
}
