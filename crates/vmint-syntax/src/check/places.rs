//! Where jobs run: what their labels stand for, and whether that has what the jobs need.
//!
//! Labels are known when they stand in the file, also by way of a matrix of which all stands there.

use super::jobs::{Told, labels, of_matrix, values};
use super::needs::{self, Reached};
use super::{Checker, File, Weight};
use crate::diagnostic::Spot;
use crate::equipment::Known;
use crate::expr::{ContextName, Scope, Value, evaluate_node};
use crate::labels as all_labels;
use crate::matrix;
use crate::spec::StepsJob;
use crate::yaml::{Data, Node};

/// The labels of a job, or of one combination of it.
struct Asked {
    labels: Vec<String>,
    spot: Spot,
    weight: Weight,
}

impl Checker<'_> {
    /// The labels of a job.
    pub(super) fn labels(&mut self, file: &File<'_>, job: &StepsJob, matrix: Option<&Node>) {
        let Some(all) = self.asked(job, matrix) else {
            // Not all is known; what is, is looked at by itself.
            for label in &job.runs_on {
                for (label, spot) in labels(label, matrix) {
                    self.label(file, &label, spot);
                }
            }
            return;
        };
        let outer = self.weight;
        for asked in all {
            self.weight = asked.weight;
            let mut told = Told::No;
            for label in &asked.labels {
                if self.label(file, label, asked.spot) == Told::Yes {
                    told = Told::Yes;
                }
            }
            if told == Told::No
                && let Some(labels) = self.options.labels
            {
                match labels.meaning(&asked.labels) {
                    Err(wrong) => {
                        let hint = wrong.hint.unwrap_or_default();
                        self.error(file, asked.spot, wrong.message, hint);
                    }
                    Ok(meaning) => {
                        if let Some(note) = meaning.note {
                            let help = "results may differ from those on GitHub";
                            self.warning(file, asked.spot, note, help);
                        }
                    }
                }
            }
            self.weight = outer;
        }
    }

    /// What a job needs and its image lacks, as far as that is known.
    pub(super) fn equipment(&mut self, file: &File<'_>, job: &StepsJob, matrix: Option<&Node>) {
        let (Some(labels), Some(all)) = (self.options.labels, self.asked(job, matrix)) else {
            return;
        };
        let outer = self.weight;
        for asked in all {
            let mut each = asked.labels.iter();
            if each.any(|label| self.options.left_out.pattern(label).is_some()) {
                continue;
            }
            let Ok(meaning) = labels.meaning(&asked.labels) else {
                continue;
            };
            self.weight = if outer == Weight::Full {
                asked.weight
            } else {
                outer
            };
            for need in needs::of_job(job, &self.actions) {
                let (who, what) = (&need.who, need.what.as_str());
                let target = &meaning.target;
                match (&meaning.known, need.reached) {
                    (Known::Bare, Reached::Surely) => {
                        let message = format!("{who} needs {what}, which `{target}` does not have");
                        self.error(file, need.spot, message, need.what.hint());
                    }
                    (Known::Bare, Reached::Perhaps) => {
                        let message = format!(
                            "{who} needs {what} if it is reached, and `{target}` does not have it"
                        );
                        self.warning(file, need.spot, message, need.what.hint());
                    }
                    (Known::Packages(brought), _) if !brought.contains(&need.what) => {
                        let message = format!(
                            "{who} needs {what}, and no package of `{target}` is known to bring it"
                        );
                        self.warning(file, need.spot, message, need.what.hint());
                    }
                    _ => {}
                }
            }
            self.weight = outer;
        }
    }

    /// The labels of all combinations of a job, each list once; nothing when not all of them stand in the file.
    fn asked(&self, job: &StepsJob, matrix: Option<&Node>) -> Option<Vec<Asked>> {
        let first = job.runs_on.first()?;
        if !job.runs_on.iter().any(|label| label.text.contains("${{")) {
            return Some(vec![Asked {
                labels: job.runs_on.iter().map(|label| label.text.clone()).collect(),
                spot: first.spot,
                weight: self.weight,
            }]);
        }
        let matrix = matrix.filter(|matrix| is_plain(matrix))?;
        let value = evaluate_node(matrix, &Scope::new()).ok()?;
        let mut all: Vec<Asked> = Vec::new();
        for combination in matrix::combinations(&value).ok()? {
            let scope =
                Scope::new().with(ContextName::Matrix, Value::from(combination.values.clone()));
            let labels = all_labels::evaluate(&job.runs_on, &scope).ok()?;
            let kept = self
                .nesting
                .is_empty()
                .then(|| matrix::keep(vec![combination], self.options.selection.matrix).is_ok());
            let weight = match kept {
                Some(false) => Weight::Unselected,
                _ => self.weight,
            };
            let known = all.iter_mut().find(|known| known.labels == labels);
            match known {
                Some(known) if weight == Weight::Full => known.weight = weight,
                Some(_) => {}
                None => {
                    let spot = spot_of(&labels, job, matrix).unwrap_or(first.spot);
                    all.push(Asked {
                        labels,
                        spot,
                        weight,
                    });
                }
            }
        }
        Some(all)
    }
}

/// Where a label of a matrix stands.
fn spot_of(found: &[String], job: &StepsJob, matrix: &Node) -> Option<Spot> {
    let [found] = found else { return None };
    let keys = job.runs_on.iter().filter_map(of_matrix);
    let mut nodes = keys.flat_map(|key| values(Some(matrix), key));
    nodes
        .find(|node| node.text().as_ref() == Some(found))
        .map(|node| node.spot)
}

/// Whether a tree has no expressions.
fn is_plain(node: &Node) -> bool {
    match &node.data {
        Data::String(text) => !text.contains("${{"),
        Data::Sequence(items) => items.iter().all(is_plain),
        Data::Mapping(entries) => entries
            .iter()
            .all(|(key, value)| !key.text.contains("${{") && is_plain(value)),
        Data::Null | Data::Bool(_) | Data::Number(..) => true,
    }
}
