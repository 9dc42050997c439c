//! What nobody needs any more: the left-overs that every command clears up, and what it does not, because it may be wanted
//! again: runs of workflows and their snapshots beyond what is kept, templates that can never be forked again, images
//! that nothing means, and what has been in `lost+found` for long.

use crate::Vmint;
use crate::config::WorkflowSettings;
use crate::folders::remove_folder;
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;
use vmint_image::store::Pruned;
use vmint_image::{Digest, Progress};
use vmint_model::{ByteSize, ErrorKind, Fault, Name, RunId};
use vmint_qemu::Frozen;
use vmint_store::SnapshotFilter;

/// What was removed, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Garbage {
    /// Machines and folders that were left by commands that died; always removed.
    pub swept: Vec<String>,
    /// Runs of workflows that are beyond those that are kept.
    pub runs: Vec<RunId>,
    /// Snapshots of runs that are too old, or beyond their quota.
    pub snapshots: Vec<Name>,
    /// Fingerprints of templates that can never be forked again.
    pub templates: Vec<String>,
    /// Digests of images that nothing means, and of kernels that no image has.
    pub images: Vec<String>,
    /// What was in `lost+found` for longer than it is kept there.
    pub lost: Vec<PathBuf>,
    /// What was given back on disk; of images only once they are removed.
    #[serde(rename = "freed")]
    pub bytes: ByteSize,
}

/// Whether garbage is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It goes.
    Remove,
    /// It is shown.
    Show,
}

impl Vmint {
    /// Removes what nobody needs, or [shows](How::Show) it alone, except for what every command clears up. What is in
    /// `lost+found` is kept for `lost_age`.
    pub async fn gc(
        &self,
        keep: &WorkflowSettings,
        lost_age: Duration,
        how: How,
        progress: &dyn Progress,
    ) -> Result<Garbage, Fault> {
        let swept = self.sweep()?.into_iter().map(|f| f.message).collect();
        // Before the images: what a snapshot needs may be needed no more.
        let workflows = if how == How::Show {
            self.prunable_runs(keep, &[])?
        } else {
            self.prune_runs(keep, &[])?
        };
        let stale = self.stale_templates(progress).await?;
        let mut garbage = Garbage {
            swept,
            runs: workflows.runs,
            snapshots: workflows.snapshots,
            bytes: workflows.bytes,
            ..Garbage::default()
        };
        for lost in self.lost(lost_age) {
            if how == How::Remove {
                remove_lost(&lost.path)?;
            }
            garbage.bytes.0 += lost.size.0;
            garbage.lost.push(lost.path);
        }
        for frozen in &stale {
            garbage.bytes.0 += frozen.own_size().unwrap_or(0);
            garbage
                .templates
                .push(frozen.manifest().fingerprint.clone());
        }
        if how == How::Show {
            garbage.images = self
                .unneeded_images(&stale)?
                .iter()
                .map(ToString::to_string)
                .collect();
            return Ok(garbage);
        }
        self.remove_templates(|frozen| stale.iter().any(|gone| gone.folder() == frozen.folder()))?;
        let pruned = self.prune_images()?;
        garbage.images = pruned
            .images
            .iter()
            .chain(&pruned.kernels)
            .map(ToString::to_string)
            .collect();
        garbage.bytes.0 += pruned.freed;
        Ok(garbage)
    }

    /// The templates that will never be forked again: no image has their digest, or they would be made differently
    /// today.
    pub async fn stale_templates(&self, progress: &dyn Progress) -> Result<Vec<Frozen>, Fault> {
        let all = self.templates();
        if all.is_empty() {
            return Ok(all);
        }
        let host = self.host(progress).await?;
        let images = self.images().list()?;
        let images: Vec<_> = images
            .into_iter()
            .filter_map(|listed| listed.image.ok())
            .collect();
        let is_current = |frozen: &Frozen| {
            let manifest = frozen.manifest();
            images
                .iter()
                .filter(|image| image.digest().to_string() == manifest.image_digest)
                .any(|image| {
                    // Of an image whose files cannot be had nothing can be said.
                    Self::boot_files(image).map_or(true, |files| {
                        self.wanted(&host, image, &files, &manifest.shape)
                            .fingerprint()
                            == manifest.fingerprint
                    })
                })
        };
        Ok(all
            .into_iter()
            .filter(|frozen| !is_current(frozen))
            .collect())
    }

    /// Deletes images that have no name and that no machine, snapshot or template needs.
    pub fn prune_images(&self) -> Result<Pruned, Fault> {
        self.images()
            .prune(&self.needed_images(|_| true)?)
            .map_err(Fault::from)
    }

    /// What [`prune_images`](Self::prune_images) would delete now.
    pub fn prunable_images(&self) -> Result<Pruned, Fault> {
        self.images()
            .prunable(&self.needed_images(|_| true)?)
            .map_err(Fault::from)
    }

    /// The images that machines, snapshots and the templates chosen by `which` need.
    fn needed_images(&self, which: impl Fn(&Frozen) -> bool) -> Result<BTreeSet<Digest>, Fault> {
        let machines = self.machines()?.into_iter().filter_map(|m| m.image_digest);
        let snapshots = self.store().list_snapshots(&SnapshotFilter::All)?;
        let snapshots = snapshots.into_iter().filter_map(|s| s.image_digest);
        let templates = self.templates().into_iter().filter(|f| which(f));
        let templates = templates.map(|f| f.manifest().image_digest.clone());
        // What is in there may need any of them, should somebody put it back.
        if !self.lost(Duration::ZERO).is_empty() {
            return Ok(self.stored_images().collect());
        }
        Ok(machines
            .chain(snapshots)
            .chain(templates)
            .filter_map(|digest| digest.parse().ok())
            .collect())
    }

    /// The images that [`prune_images`](Self::prune_images) would delete if these templates were gone.
    fn unneeded_images(&self, without: &[Frozen]) -> Result<Vec<Digest>, Fault> {
        let stays = |frozen: &Frozen| without.iter().all(|gone| gone.folder() != frozen.folder());
        let needed = self.needed_images(stays)?;
        let listed = self.images().list()?;
        let named: BTreeSet<_> = listed
            .into_iter()
            .filter_map(|i| i.image.ok())
            .map(|image| image.digest())
            .collect();
        Ok(self
            .stored_images()
            .filter(|digest| !named.contains(digest) && !needed.contains(digest))
            .collect())
    }
}

impl Vmint {
    /// The images in the home, named or not.
    fn stored_images(&self) -> impl Iterator<Item = Digest> {
        let entries = std::fs::read_dir(self.home().images());
        let entries = entries.into_iter().flatten().flatten();
        entries.filter_map(|e| e.file_name().to_str().and_then(Digest::from_file_name))
    }
}

/// What is in `lost+found` is a folder as a rule; a user may have put a file there.
fn remove_lost(path: &Path) -> Result<(), Fault> {
    if path.is_dir() && !path.is_symlink() {
        return remove_folder(path);
    }
    std::fs::remove_file(path).map_err(|e| {
        Fault::from_error(ErrorKind::Host, &e).context(format!("cannot remove {}", path.display()))
    })
}
