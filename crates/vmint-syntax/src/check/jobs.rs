//! How jobs hang together: `needs`, matrices, where they run.

use super::steps::Names;
use super::{Checker, File, Weight, texts};
use crate::diagnostic::{SHOWN, Severity, Spot};
use crate::expr::{Field, is_computed};
use crate::graph::{Graph, Ids, walk};
use crate::spec::{Job, JobBody, StepsJob, Text, Workflow};
use crate::yaml::{Data, Node, shown};
use std::collections::HashSet;

/// How many combinations a matrix may have, as on GitHub.
const MAX_COMBINATIONS: usize = 256;

impl Checker<'_> {
    /// A workflow: the one that is checked, or one that it calls.
    pub(super) fn workflow(&mut self, workflow: &Workflow, file: &File<'_>) {
        let mut found = Vec::new();
        texts::of_workflow(workflow, &mut |field, text| {
            found.push((field, text.clone()));
        });
        self.expressions(file, found);
        if let Some(shell) = &workflow.defaults.shell {
            self.shell(file, shell);
        }
        self.needs(file, workflow);
        let jobs: HashSet<String> = workflow.jobs.keys().map(|id| id.to_lowercase()).collect();
        // What is used twice is checked once: first by those that are to be run.
        let selected = self.selected(workflow);
        let outer = self.weight;
        for (weight, wanted) in [(outer, true), (Weight::Unselected, false)] {
            self.weight = weight;
            for (at, job) in workflow.jobs.values().enumerate() {
                if selected.contains(&at) == wanted {
                    self.job(file, job, &jobs);
                }
            }
        }
        self.weight = outer;
    }

    /// Which jobs of a workflow are to be run, by their indexes. All of one that is called.
    fn selected(&self, workflow: &Workflow) -> HashSet<usize> {
        let asked = self.options.selection.jobs;
        let all = || (0..workflow.jobs.len()).collect();
        if asked.is_empty() || !self.nesting.is_empty() {
            return all();
        }
        // What cannot be selected is told when it is.
        let selected = Graph::of(workflow).and_then(|graph| graph.select(asked));
        selected.map_or_else(|_| all(), |jobs| jobs.into_iter().collect())
    }

    fn job(&mut self, file: &File<'_>, job: &Job, jobs: &HashSet<String>) {
        let mut found = Vec::new();
        texts::of_job(job, &mut |field, text| found.push((field, text.clone())));
        let read = self.expressions(file, found);
        let matrix = job
            .strategy
            .as_ref()
            .and_then(|strategy| strategy.matrix.as_ref());
        if let Some(matrix) = matrix {
            self.matrix(file, matrix);
        }
        let needs = job.needs.iter().map(|id| id.text.to_lowercase()).collect();
        let mut names = Names {
            needs: Some((needs, jobs)),
            matrix: matrix.and_then(keys),
            steps: None,
        };
        let (outputs, others): (Vec<_>, Vec<_>) =
            read.iter().partition(|read| read.field == Field::JobOutput);
        for read in others {
            self.names(file, read, &names);
        }
        match &job.body {
            JobBody::Call(call) => self.call(file, call),
            // What is never run needs nothing, and may be of a kind that cannot be run here.
            JobBody::Steps(steps) if self.left_out(steps, matrix) => {
                self.told_left_out(file, steps, matrix);
            }
            JobBody::Steps(steps) => {
                self.containers(file, steps);
                self.labels(file, steps, matrix);
                if let Some(shell) = &steps.defaults.shell {
                    self.shell(file, shell);
                }
                self.time_limit(file, steps.timeout_minutes.as_ref());
                self.job_steps(file, &steps.steps, &mut names);
                self.equipment(file, steps, matrix);
            }
        }
        for read in outputs {
            self.names(file, read, &names);
        }
    }

    /// Whether no combination of a job is run here, by the labels that stand in the file.
    fn left_out(&self, job: &StepsJob, matrix: Option<&Node>) -> bool {
        job.runs_on.iter().any(|label| {
            // What an expression or an `include` adds is known when the job runs.
            let is_known = match of_matrix(label) {
                Some(key) => matrix.is_some_and(|matrix| is_listed(matrix, key)),
                None => !label.text.contains("${{"),
            };
            let mut labels = labels(label, matrix).into_iter();
            is_known && labels.all(|(label, _)| self.options.left_out.pattern(&label).is_some())
        })
    }

    fn told_left_out(&mut self, file: &File<'_>, job: &StepsJob, matrix: Option<&Node>) {
        for label in &job.runs_on {
            for (label, spot) in labels(label, matrix) {
                self.tell_left_out(file, &label, spot);
            }
        }
    }

    /// Says that a label is not run here, if so.
    fn tell_left_out(&mut self, file: &File<'_>, label: &str, spot: Spot) -> bool {
        let Some(pattern) = self.options.left_out.pattern(label) else {
            return false;
        };
        let message = format!(
            "jobs on `{}` are skipped: the label matches `{}` of skip-runs-on",
            shown(label),
            shown(pattern)
        );
        let help = "they are shown as skipped, never as a success; remove the pattern from \
                    `[workflow] skip-runs-on` to run them";
        self.warning(file, spot, message, help);
        true
    }

    /// Says what is wrong with a label whatever the settings are.
    pub(super) fn label(&mut self, file: &File<'_>, label: &str, spot: Spot) -> Told {
        if self.tell_left_out(file, label, spot) {
            return Told::Yes;
        }
        let lower = label.trim().to_lowercase();
        let system = ["windows", "macos"]
            .into_iter()
            .find(|system| lower == *system || lower.starts_with(&format!("{system}-")));
        if let Some(system) = system {
            let message = format!(
                "`{}` is {}, but machines run Linux",
                shown(label),
                match system {
                    "windows" => "Windows",
                    _ => "macOS",
                }
            );
            let help = format!(
                "run the job on Linux, or skip it: `skip-runs-on = [\"{system}-*\"]` in `[workflow]` of vmint.toml"
            );
            self.error(file, spot, message, help);
            return Told::Yes;
        }
        Told::No
    }

    fn needs(&mut self, file: &File<'_>, workflow: &Workflow) {
        let jobs: Vec<&Job> = workflow.jobs.values().collect();
        let ids = Ids::new(workflow.jobs.keys().map(String::as_str));
        let mut edges: Vec<Vec<usize>> = Vec::with_capacity(jobs.len());
        let mut spots: Vec<Vec<Spot>> = Vec::with_capacity(jobs.len());
        for job in &jobs {
            let (mut needed, mut at) = (Vec::new(), Vec::new());
            for need in &job.needs {
                if let Some(other) = ids.find(&need.text) {
                    needed.push(other);
                    at.push(need.spot);
                    continue;
                }
                let message = format!(
                    "the job `{}` needs `{}`, which is not there",
                    shown(&job.id),
                    shown(&need.text)
                );
                let ids = workflow.jobs.keys().map(String::as_str);
                let help = match self.near(Severity::Error, &need.text, ids) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "name a job of this workflow".to_owned(),
                };
                self.error(file, need.spot, message, help);
            }
            edges.push(needed);
            spots.push(at);
        }
        for circle in walk(&edges, SHOWN).cycles {
            let names: Vec<String> = circle
                .iter()
                .map(|job| format!("`{}`", shown(&jobs[*job].id)))
                .collect();
            // The edge that closes it.
            let [.., last, first] = circle[..] else {
                continue;
            };
            let closing = edges[last].iter().position(|to| *to == first);
            let spot = closing.map_or(jobs[last].spot, |edge| spots[last][edge]);
            let message = format!("jobs need each other in a circle: {}", names.join(" → "));
            self.error(file, spot, message, "remove one of these from `needs`");
        }
    }

    fn matrix(&mut self, file: &File<'_>, matrix: &Node) {
        let mut combinations = Some(1_usize);
        let (mut vectors, mut computed) = (HashSet::new(), false);
        for (key, value) in matrix.entries() {
            if ["include", "exclude"].contains(&key.text.as_str()) {
                continue;
            }
            if is_computed(&key.text) {
                computed = true;
                combinations = None;
                continue;
            }
            vectors.insert(key.text.to_lowercase());
            match &value.data {
                Data::Sequence(values) if values.is_empty() => {
                    let message = format!(
                        "`{}` of the matrix is empty, so no job would run",
                        shown(&key.text)
                    );
                    self.error(file, key.spot, message, "give it a value, or remove it");
                }
                // A list by an expression is spread when it is known.
                Data::Sequence(values) if values.iter().any(is_expression) => combinations = None,
                Data::Sequence(values) => {
                    combinations = combinations.map(|n| n.saturating_mul(values.len()));
                }
                _ => combinations = None,
            }
        }
        let excluded = matrix.get("exclude");
        if matrix.entries().is_empty() && matches!(matrix.data, Data::Mapping(_)) {
            self.error(
                file,
                matrix.spot,
                "the matrix is empty",
                "give it a key with a list of values, or `include`",
            );
        }
        if let (Some(n), None) = (combinations, excluded) {
            let included = matrix
                .get("include")
                .map_or(0, |include| include.items().len());
            let n = if vectors.is_empty() { included } else { n };
            if n > MAX_COMBINATIONS {
                let message = format!("the matrix makes {n} jobs, more than {MAX_COMBINATIONS}");
                self.error(
                    file,
                    matrix.spot,
                    message,
                    "use fewer values, or split the job",
                );
            }
        }
        for entry in excluded.map_or(&[][..], Node::items) {
            for (key, _) in entry.entries() {
                if !computed
                    && !is_computed(&key.text)
                    && !vectors.contains(&key.text.to_lowercase())
                {
                    let message = format!(
                        "`exclude` names `{}`, which is not a key of the matrix",
                        shown(&key.text)
                    );
                    let help = match self.near(
                        Severity::Error,
                        &key.text,
                        vectors.iter().map(String::as_str),
                    ) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => {
                            "nothing would be excluded; what `include` adds cannot be".to_owned()
                        }
                    };
                    self.error(file, key.spot, message, help);
                }
            }
        }
    }
}

/// Whether something was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Yes,
    No,
}

/// The key of `runs-on: ${{ matrix.os }}`, which is how most say it.
pub(super) fn of_matrix(label: &Text) -> Option<&str> {
    let inner = label.text.trim().strip_prefix("${{")?.strip_suffix("}}")?;
    inner.trim().strip_prefix("matrix.")
}

/// The labels that a text of `runs-on` may stand for, as far as they stand in the file.
pub(super) fn labels(label: &Text, matrix: Option<&Node>) -> Vec<(String, Spot)> {
    match of_matrix(label) {
        Some(key) => values(matrix, key)
            .into_iter()
            .filter_map(|value| Some((value.text()?, value.spot)))
            .collect(),
        None if label.text.contains("${{") => Vec::new(),
        None => vec![(label.text.clone(), label.spot)],
    }
}

/// Whether all values of a key of a matrix stand in the file, and there are some.
fn is_listed(matrix: &Node, key: &str) -> bool {
    let is_plain = |node: &Node| node.text().is_some_and(|text| !text.contains("${{"));
    let included = match matrix.get("include") {
        None => true,
        // One that does not name the key has none, and no label.
        Some(Node {
            data: Data::Sequence(entries),
            ..
        }) => entries
            .iter()
            .all(|entry| entry.get(key).is_none_or(is_plain) && !entry.entries().is_empty()),
        Some(_) => false,
    };
    let listed = matrix.get(key).is_none_or(|values| {
        matches!(values.data, Data::Sequence(_)) && values.items().iter().all(is_plain)
    });
    included && listed && !values(Some(matrix), key).is_empty()
}

/// The keys of a matrix, if all of them stand in the file. In lower case.
fn keys(matrix: &Node) -> Option<HashSet<String>> {
    let mut keys = HashSet::new();
    if !matches!(matrix.data, Data::Mapping(_)) {
        return None;
    }
    for (key, value) in matrix.entries() {
        match (key.text.as_str(), &value.data) {
            (key, _) if is_computed(key) => return None,
            ("exclude", _) => {}
            ("include", Data::Sequence(entries)) if entries.iter().any(is_dynamic) => return None,
            ("include", Data::Sequence(entries)) => {
                let included = entries.iter().flat_map(Node::entries);
                keys.extend(included.map(|(key, _)| key.text.to_lowercase()));
            }
            ("include", _) => return None,
            (key, _) => {
                keys.insert(key.to_lowercase());
            }
        }
    }
    Some(keys)
}

/// An expression that may give a list.
fn is_expression(node: &Node) -> bool {
    matches!(&node.data, Data::String(text) if text.contains("${{"))
}

/// An entry whose keys are not all in the file.
fn is_dynamic(entry: &Node) -> bool {
    is_expression(entry)
        || entry
            .entries()
            .iter()
            .any(|(key, _)| is_computed(&key.text))
}

/// The values of a key of a matrix that stand in the file.
pub(super) fn values<'n>(matrix: Option<&'n Node>, key: &str) -> Vec<&'n Node> {
    let Some(matrix) = matrix else {
        return Vec::new();
    };
    let mut values: Vec<&Node> = matrix
        .get(key)
        .map_or(&[][..], Node::items)
        .iter()
        .collect();
    let include = matrix.get("include").map_or(&[][..], Node::items);
    values.extend(include.iter().filter_map(|entry| entry.get(key)));
    values
}
