//! Actions of the workspace, as they are there when their step runs: a checkout has brought them to whatever folder, or a step
//! has made or changed them. What the check has read of the repository counts only where the workspace says the same.

use super::instance::{ActionPlace, Instance, Trouble};
use super::transfer;
use crate::check::{self, Resolved};
use crate::log::Kind;
use crate::record::Level;
use crate::spec::Text;
use crate::yaml::MAX_BYTES;
use std::sync::OnceLock;

/// What was read while a run goes on; it stays as long as the run.
#[derive(Debug)]
pub(super) struct Late<T>(OnceLock<Box<Link<T>>>);

#[derive(Debug)]
struct Link<T> {
    value: T,
    next: Late<T>,
}

impl<T> Default for Late<T> {
    fn default() -> Self {
        Self(OnceLock::new())
    }
}

impl<T> Late<T> {
    /// Keeps it.
    pub(super) fn keep(&self, value: T) -> &T {
        let (mut at, mut value) = (self, Some(value));
        loop {
            let link = at.0.get_or_init(|| {
                let value = value.take().expect("it is kept once");
                Box::new(Link {
                    value,
                    next: Self::default(),
                })
            });
            if value.is_none() {
                return &link.value;
            }
            at = &link.next;
        }
    }
}

/// The files by which a folder is an action, in the order in which they are looked for.
const FILES: [&str; 3] = ["action.yml", "action.yaml", "Dockerfile"];

impl<'r> Instance<'r> {
    /// What `uses` of a step stands for, as far as it is known.
    pub(super) fn resolved(&self, uses: &str) -> Option<&'r Resolved> {
        let late = self.late.get(uses).copied();
        late.or_else(|| self.run.request.checked.actions.get(uses))
    }

    /// The action that lies in the workspace now.
    pub(super) async fn in_workspace(
        &mut self,
        uses: &Text,
        place: &ActionPlace,
        log: &super::recorder::StepLog<'r>,
    ) -> Result<&'r Resolved, Trouble> {
        let mut found = None;
        for name in FILES {
            let path = format!("{}/{name}", place.path);
            let path = self.view.in_machine(&path);
            let files = transfer::fetch(&self.wire, &path, MAX_BYTES + 4096).await?;
            if let Some(file) = files.into_iter().next() {
                found = Some((name, file.content));
                break;
            }
        }
        let Some((name, bytes)) = found else {
            return Err(Trouble::Step(format!(
                "there is no action.yml, action.yaml or Dockerfile in {}; does a step before check out the repository?",
                place.path
            )));
        };
        if let Some(known @ Resolved::Action(action)) = self.resolved(&uses.text)
            && action.file == name
            && action.bytes == bytes
        {
            return Ok(known);
        }
        let shown = format!("{}/{name}", uses.text.trim_start_matches("./"));
        let read = check::late::read(shown.as_ref(), name, bytes, &self.run.request.actions);
        let read = read.map_err(|wrong| Trouble::Step(wrong.to_string()))?;
        for warning in read.warnings {
            let text = warning.to_string();
            log.say(Kind::Warning, self.tell.mask(&text))?;
            self.tell.annotate(log.at(), Level::Warning, &text);
        }
        for (name, resolved) in read.used {
            if self.resolved(&name).is_none() {
                let kept = self.run.late.keep(resolved);
                self.late.insert(name, kept);
            }
        }
        let kept = self.run.late.keep(Resolved::Action(Box::new(read.action)));
        self.late.insert(uses.text.clone(), kept);
        Ok(kept)
    }
}

/// Whether an action lies in the workspace.
pub(super) fn is_of_workspace(uses: &str) -> bool {
    uses.starts_with("./") || uses.starts_with(".\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_stays_where_it_is() {
        let late = Late::default();
        let first = late.keep("a".to_owned());
        let others: Vec<&String> = (0..1_000).map(|n| late.keep(n.to_string())).collect();
        assert_eq!(first, "a");
        assert!(
            others
                .iter()
                .enumerate()
                .all(|(n, kept)| **kept == n.to_string())
        );
    }
}
