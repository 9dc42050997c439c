//! The tree of a file as a [`crate::spec`].
//!
//! [`schema`] walks the tree by the tables in [`workflow_table`] and [`action_table`], and says with line and column what does
//! not fit them. [`build`] and [`build_action`] make the spec of a tree that fits. A test (`tests/models.rs`) holds both against the types of
//! `github-actions-models`.

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
use std::path::Path;

/// Reads a workflow file. With warnings when it is well-formed.
pub fn workflow(
    path: &Path,
    bytes: &[u8],
) -> Result<(spec::Workflow, Vec<Diagnostic>), Diagnostics> {
    let (node, mut findings) = read(path, bytes, &workflow_table::WORKFLOW)?;
    let workflow = build::workflow(path, &node, &mut findings);
    Ok((workflow, findings.finish()?))
}

/// Reads an `action.yml`. With warnings when it is well-formed.
pub fn action(path: &Path, bytes: &[u8]) -> Result<(spec::Action, Vec<Diagnostic>), Diagnostics> {
    let (node, mut findings) = read(path, bytes, &action_table::ACTION)?;
    let action = build_action::action(path, &node, &mut findings);
    let warnings = findings.finish()?;
    match action {
        Some(action) => Ok((action, warnings)),
        None => Err(Diagnostic::error(path, Spot::START, "this is not an action").into()),
    }
}

/// The tree of a file, if it fits the table; with warnings.
fn read(
    path: &Path,
    bytes: &[u8],
    shape: &'static schema::Shape,
) -> Result<(Node, Findings), Diagnostics> {
    let node = yaml::parse(path, bytes)?;
    let mut findings = Findings::default();
    schema::apply(path, &node, shape, &mut findings);
    if findings.failed() {
        return Err(Diagnostics(findings.all()));
    }
    Ok((node, findings))
}
