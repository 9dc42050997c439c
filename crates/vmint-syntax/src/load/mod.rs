//! The tree of a file as the types of `github-actions-models`, and these as a [`crate::spec`].
//!
//! [`schema`] walks the tree by the tables in [`workflow_table`] and [`action_table`], says with line and column what does
//! not fit them, and gives a value in which every scalar has the type that the models want. The models read that value;
//! what they refuse although the tables let it through is told too. [`build`] makes the spec from the tree, for the models
//! know no places.

mod action_table;
mod build;
mod build_action;
mod schema;
#[cfg(test)]
mod tests;
mod workflow_table;

use crate::diagnostic::{Diagnostic, Diagnostics, Findings, Spot};
use crate::spec;
use crate::yaml::{self, Node};
use github_actions_models::{action, workflow};
use serde::de::DeserializeOwned;
use std::path::Path;

/// Reads a workflow file. With warnings when it is well-formed.
pub fn workflow(
    path: &Path,
    bytes: &[u8],
) -> Result<(spec::Workflow, Vec<Diagnostic>), Diagnostics> {
    let (node, value, mut findings) = read(path, bytes, &workflow_table::WORKFLOW)?;
    let Some(model) = model::<workflow::Workflow>(path, &node, value, &mut findings) else {
        return Err(failure(findings));
    };
    let workflow = build::workflow(path, node, model, &mut findings);
    Ok((workflow, findings.finish()?))
}

/// Reads an `action.yml`. With warnings when it is well-formed.
pub fn action(path: &Path, bytes: &[u8]) -> Result<(spec::Action, Vec<Diagnostic>), Diagnostics> {
    let (node, value, mut findings) = read(path, bytes, &action_table::ACTION)?;
    if model::<action::Action>(path, &node, value, &mut findings).is_none() {
        return Err(failure(findings));
    }
    let action = build_action::action(path, &node, &mut findings);
    let warnings = findings.finish()?;
    match action {
        Some(action) => Ok((action, warnings)),
        None => Err(Diagnostic::error(path, Spot::START, "this is not an action").into()),
    }
}

fn read(
    path: &Path,
    bytes: &[u8],
    shape: &'static schema::Shape,
) -> Result<(Node, yaml_serde::Value, Findings), Diagnostics> {
    let node = yaml::parse(path, bytes)?;
    let mut findings = Findings::default();
    let value = schema::apply(path, &node, shape, &mut findings);
    Ok((node, value, findings))
}

/// The type of `github-actions-models`, unless something is wrong with the file.
fn model<T: DeserializeOwned>(
    path: &Path,
    node: &Node,
    value: yaml_serde::Value,
    findings: &mut Findings,
) -> Option<T> {
    if findings.failed() {
        return None;
    }
    match yaml_serde::from_value(value) {
        Ok(model) => Some(model),
        Err(error) => {
            let message = format!("the file does not have the form that is expected: {error}");
            let help = "this should have been told with its place; please report it to vmint";
            findings.add(Diagnostic::error(path, node.spot, message).help(help));
            None
        }
    }
}

fn failure(findings: Findings) -> Diagnostics {
    findings.finish().err().unwrap_or(Diagnostics(Vec::new()))
}
