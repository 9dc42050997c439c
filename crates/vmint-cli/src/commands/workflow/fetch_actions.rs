//! `workflow fetch-actions`.

use super::{check, files};
use crate::args::workflow::FetchActions;
use crate::context::{self, Context, wait};
use crate::output::printable;
use serde::Serialize;
use std::path::PathBuf;
use vmint::workflow::CannotRun;
use vmint::workflow::mask::Masks;
use vmint::workflow::mirror::{Entry, Fate, Refs};
use vmint::workflow::start::fetch_actions as fetch;
use vmint::{ErrorKind, Fault, Progress as _};

/// An action, and what became of it.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Fetched {
    /// `OWNER/REPOSITORY@REF`.
    action: String,
    /// The commit, where there is one.
    commit: Option<String>,
    result: Became,
    /// Why it could not be had, what does its work, or which commit it was before.
    detail: Option<String>,
}

/// What became of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
enum Became {
    /// It came from its remote.
    Fetched,
    /// It came from its remote, and its ref was another commit before.
    Updated,
    /// It was there, as it is locked.
    Kept,
    /// It was there, put there by hand; it is not locked.
    Foreign,
    /// vmint does it itself, or something else stands in for it.
    NotNeeded,
    /// It could not be had.
    Failed,
}

/// `vmint workflow fetch-actions`.
pub fn fetch_actions(context: Context, args: &FetchActions) -> Result<u8, Fault> {
    let config = context::config()?;
    let here = std::env::current_dir().map_err(|e| {
        Fault::from_error(ErrorKind::Host, &e).context("cannot tell the working directory")
    })?;
    let found = args.files.iter().map(|given| files::find(&here, given));
    let files: Vec<PathBuf> = found
        .map(|found| found.map(|path| here.join(path)))
        .collect::<Result<_, _>>()?;
    let refs = if args.update {
        Refs::Updated
    } else {
        Refs::Locked
    };
    let progress = context.progress();
    let say = |text: &str| progress.stage(text);
    let fetched = wait(async { Ok(fetch(&files, &config, &args.remote, refs, &say).await) })?;
    progress.finish();
    let entries = match fetched {
        Ok(entries) => entries,
        Err(CannotRun::Fault(fault)) => return Err(fault),
        Err(CannotRun::Invalid(wrong)) => {
            check::tell(&wrong, &Masks::new());
            return Err(Fault::new(
                ErrorKind::Usage,
                "a workflow file cannot be read",
            ));
        }
    };
    let values: Vec<Fetched> = entries.into_iter().map(Fetched::from).collect();
    let action = |value: &Fetched| value.action.clone();
    context.list(&values, action, || text(&values))?;
    let failed = values.iter().any(|value| value.result == Became::Failed);
    Ok(u8::from(failed))
}

impl From<Entry> for Fetched {
    fn from(entry: Entry) -> Self {
        let (result, detail) = match entry.fate {
            Fate::Fetched { links: 0 } => (Became::Fetched, None),
            Fate::Fetched { links } => {
                let detail = format!("without {links} links that lead out of it or nowhere");
                (Became::Fetched, Some(detail))
            }
            Fate::Updated { from } => (Became::Updated, Some(format!("it was {from}"))),
            Fate::Kept => (Became::Kept, None),
            Fate::Foreign => (Became::Foreign, Some("it is not locked".to_owned())),
            Fate::NotNeeded { by } => (Became::NotNeeded, Some(format!("done by {by}"))),
            Fate::Failed { why } => (Became::Failed, Some(why)),
        };
        Self {
            action: entry.action,
            commit: entry.commit,
            result,
            detail,
        }
    }
}

fn text(values: &[Fetched]) -> String {
    if values.is_empty() {
        return "nothing of other repositories is used".to_owned();
    }
    let line = |value: &Fetched| {
        let word = match value.result {
            Became::Fetched => "fetched",
            Became::Updated => "updated",
            Became::Kept => "kept",
            Became::Foreign => "there",
            Became::NotNeeded => "not needed",
            Became::Failed => "failed",
        };
        let commit = value.commit.as_deref().unwrap_or_default();
        let mut line = format!("{word:10}  {}", value.action);
        for part in [
            Some(commit.get(..12).unwrap_or(commit)),
            value.detail.as_deref(),
        ] {
            if let Some(part) = part.filter(|part| !part.is_empty()) {
                line += &format!("  {part}");
            }
        }
        printable(&line)
    };
    values.iter().map(line).collect::<Vec<_>>().join("\n")
}
