//! `actions/checkout`: the files of the repository of this host, as they lie there, or those of a commit.

use super::Inputs;
use crate::log::Kind;
use crate::run::instance::{Done, Instance, Trouble};
use crate::run::paths;
use crate::run::step::Surroundings;
use crate::workspace::folder::GitFolder;
use crate::workspace::history::{self, Depth};
use crate::workspace::{self, Packed, Pieces, Repository, WorkspaceError, commit, folder};
use indexmap::IndexMap;
use std::num::NonZeroU32;
use tokio::sync::mpsc;
use vmint_model::{ByteSize, ErrorKind, Fault};

/// Pieces that wait between this host's disk and the machine.
const WAITING: usize = 8;

impl<'r> Instance<'r> {
    /// Copies the repository into the workspace.
    pub(super) async fn checkout(
        &mut self,
        inputs: &Inputs,
        around: &Surroundings<'_, 'r>,
    ) -> Result<Done, Trouble> {
        for (name, useless) in [("sparse-checkout", ""), ("filter", "")] {
            if inputs.get(name).is_some_and(|value| value != useless) {
                let text = format!("`{name}` has no effect here: all files are copied");
                around.log.say(Kind::Warning, self.tell.mask(&text))?;
            }
        }
        let submodules = inputs.get("submodules").is_some_and(|s| s != "false");
        let repository = &self.run.request.repository;
        if submodules && repository.root.join(".gitmodules").exists() {
            return Err(Trouble::Step(
                "`submodules` is not supported: vmint copies only the repository".into(),
            ));
        }
        let depth = match inputs.get("fetch-depth").unwrap_or("1").parse::<u32>() {
            Ok(0) => Depth::All,
            Ok(n) => Depth::Commits(NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN)),
            Err(_) => {
                return Err(Trouble::Step(format!(
                    "`fetch-depth` is {:?}; it must be a number, 0 for all commits",
                    inputs.get("fetch-depth").unwrap_or_default()
                )));
            }
        };
        let target = paths::below(&self.workspace(), inputs.get("path").unwrap_or_default());
        if !format!("{target}/").starts_with(&format!("{}/", self.workspace())) {
            return Err(Trouble::Step("`path` leads out of the workspace".into()));
        }
        let commit = inputs
            .get("ref")
            .or(self.run.request.options.commit.as_deref());
        let at = match commit {
            // What is asked for is what lies there.
            Some(commit) if self.is_here(commit) && self.run.request.options.commit.is_none() => {
                None
            }
            Some(commit) => Some(
                workspace::at(repository, commit)
                    .await
                    .map_err(own_trouble)?,
            ),
            None => None,
        };
        self.bring_files(at.as_ref(), &target, around).await?;
        let source = at.as_ref().unwrap_or(repository);
        if source.managed && source.head.is_some() && self.inventory.program("git").is_some() {
            let git = self.send(&target, |pieces| history::pack(source, depth, pieces));
            let git = git.await?;
            let text = format!(".git: {}", ByteSize(git.bytes));
            around.log.say(Kind::Text, self.tell.mask(&text))?;
        }
        let folder = self.view.in_machine(&target);
        self.hand_over(&folder).await?;
        let mut outputs = IndexMap::new();
        outputs.insert("ref".to_owned(), source.git_ref());
        outputs.insert("commit".to_owned(), source.sha().to_owned());
        Ok(Done::well(outputs))
    }

    /// Whether a name of a commit means what is checked out on this host.
    fn is_here(&self, name: &str) -> bool {
        let repository = &self.run.request.repository;
        let full = repository.git_ref();
        let short = full.strip_prefix("refs/heads/");
        name == full || Some(name) == short || name == repository.sha()
    }

    async fn bring_files(
        &self,
        at: Option<&Repository>,
        target: &str,
        around: &Surroundings<'_, 'r>,
    ) -> Result<(), Trouble> {
        let repository = &self.run.request.repository;
        let (packed, what) = if let Some(at) = at {
            let packed = self.send(target, |pieces| commit::pack(at, pieces)).await?;
            (packed, format!("commit {}", at.sha()))
        } else {
            let pack = |pieces| folder::pack(repository, GitFolder::LeftOut, pieces);
            let packed = self.send(target, pack).await?;
            let changed = repository.uncommitted.len();
            let head = repository.head.as_ref().map(|head| &head.commit.sha);
            let what = match (head, changed) {
                (None, _) => "the folder as it is".to_owned(),
                (Some(sha), 0) => format!("the working tree, at {sha}"),
                (Some(sha), n) => format!("the working tree, at {sha} with {n} files changed"),
            };
            (packed, what)
        };
        let text = format!(
            "Copied {what}: {} files, {}, to {target}",
            packed.files,
            ByteSize(packed.bytes)
        );
        around.log.say(Kind::Text, self.tell.mask(&text))?;
        if packed.left_out > 0 {
            let text = format!(
                "{} sockets, pipes, devices or vanished files were left out",
                packed.left_out
            );
            around.log.say(Kind::Warning, self.tell.mask(&text))?;
        }
        Ok(())
    }

    /// Packs something on this host and unpacks it in a folder of the job at the same time.
    pub(in crate::run) async fn send<F, Fut>(
        &self,
        target: &str,
        pack: F,
    ) -> Result<Packed, Trouble>
    where
        F: FnOnce(Pieces) -> Fut,
        Fut: Future<Output = Result<Packed, WorkspaceError>>,
    {
        let (sender, receiver) = mpsc::channel(WAITING);
        let wire = &self.wire;
        let target = self.view.in_machine(target);
        let (packed, put) =
            futures_util::future::join(pack(sender), wire.put(&target, receiver)).await;
        match (packed, put) {
            (Ok(packed), Ok(())) => Ok(packed),
            // The machine's reason is why packing ended.
            (Err(WorkspaceError::Gone { .. }) | Ok(_), Err(fault)) => Err(fault.into()),
            (Err(error), _) => Err(own_trouble(error)),
        }
    }
}

/// A repository that cannot be read: git's answer to what the file asks for is the step's fault, the rest is this host's.
fn own_trouble(error: WorkspaceError) -> Trouble {
    match error {
        WorkspaceError::Git(_)
        | WorkspaceError::NoCommit { .. }
        | WorkspaceError::Answer { .. } => Trouble::Step(error.to_string()),
        error => Trouble::Fault(Fault::from_error(ErrorKind::Host, &error)),
    }
}
