//! The copies of actions that are on this host, as the check finds them.

use super::lock::{Lock, digest};
use crate::check::actions::choose;
use crate::check::{Actions, Found, inside};
use crate::replace::Choices;
use crate::uses::RepositoryUses;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// vmint's own equivalents, then a folder with `OWNER/REPO@REF/` or `OWNER/REPO/`.
#[derive(Debug, Default)]
pub struct Mirror {
    /// The folder, if there is one.
    pub folder: Option<PathBuf>,
    /// What the user says of actions.
    pub choices: Choices,
    /// What its lock file says of the copies.
    pub lock: Lock,
    /// Which copies are as they are locked: looked at once, for that reads all of their files.
    pub seen: Mutex<HashMap<String, bool>>,
}

impl Actions for Mirror {
    fn find(&self, uses: &RepositoryUses) -> Found {
        choose(uses, &self.choices, |uses| self.copy(uses))
    }
}

impl Mirror {
    /// The copy of an action in the folder.
    fn copy(&self, uses: &RepositoryUses) -> Found {
        let (slug, git_ref) = (uses.slug(), uses.git_ref());
        let Some(mirror) = &self.folder else {
            return Found::Nothing {
                help: "name a folder for copies of actions, `[workflow] actions = \"actions\"` in vmint.toml, and fetch it \
                     with `vmint workflow fetch-actions FILE`; or say in `[workflow.replace]` what stands in for it"
                        .to_owned(),
            };
        };
        let candidates = [format!("{slug}@{git_ref}"), slug.to_owned()];
        let folders = candidates.iter().filter_map(|name| inside(name));
        match folders
            .map(|name| mirror.join(name))
            .find(|folder| folder.is_dir())
        {
            Some(folder) if !self.is_as_locked(&candidates[0], &folder) => Found::Nothing {
                help: format!(
                    "its copy in `{}` is not what `{}` has the digest of; `vmint workflow fetch-actions FILE` fetches it again",
                    folder.display(),
                    Lock::path(mirror).display()
                ),
            },
            Some(folder) => Found::Repository(folder),
            None => Found::Nothing {
                help: format!(
                    "fetch it with `vmint workflow fetch-actions FILE`, put the repository at that ref into `{}`, or say in \
                     `[workflow.replace]` what stands in for it",
                    mirror.join(format!("{slug}@{git_ref}")).display()
                ),
            },
        }
    }

    /// Whether a copy is what the lock file says. One that is not in there was put there by hand, and is what it is.
    fn is_as_locked(&self, action: &str, folder: &Path) -> bool {
        let Some(locked) = self.lock.get(action) else {
            return true;
        };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let look = || digest(folder).is_ok_and(|digest| digest == locked.digest);
        *seen.entry(action.to_owned()).or_insert_with(look)
    }
}
