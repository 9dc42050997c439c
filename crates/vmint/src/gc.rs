//! What nobody needs any more: the left-overs that every command clears up, and what it does not, because it may be
//! wanted again: templates that no longer fit this host, and images that no name means.

use crate::Vmint;
use serde::Serialize;
use std::collections::BTreeSet;
use vmint_image::Silent;
use vmint_model::{ByteSize, Fault};

/// What was removed, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Garbage {
    /// Machines and folders that were left by commands that died; always removed.
    pub swept: Vec<String>,
    /// Templates that do not fit this host, its QEMU, or their image any more.
    pub templates: Vec<String>,
    /// Images and kernels that no name means.
    pub images: Vec<String>,
    /// What that takes on disk.
    pub bytes: ByteSize,
}

impl Vmint {
    /// Removes what nobody needs; with `dry_run` only tells of it, except for what every command clears up.
    pub async fn gc(&self, dry_run: bool) -> Result<Garbage, Fault> {
        let mut garbage = Garbage {
            swept: self.sweep()?.into_iter().map(|f| f.message).collect(),
            ..Garbage::default()
        };
        // Without knowing the host, no template can be told to be outdated.
        let host = self.host(&Silent).await.ok();
        let outdated: Vec<_> = self
            .templates()
            .into_iter()
            .filter(|frozen| {
                let m = frozen.manifest();
                let image = self.images.find(&m.image).ok().flatten();
                let gone = image.is_none_or(|i| i.digest().to_string() != m.image_digest);
                let foreign = host
                    .as_ref()
                    .is_some_and(|h| h.hardware(&m.shape) != m.hardware);
                gone || foreign || frozen.check().is_err()
            })
            .collect();
        for frozen in &outdated {
            garbage.bytes.0 += frozen.own_size().unwrap_or(0);
            let name = frozen.folder().file_name().unwrap_or_default();
            garbage.templates.push(format!(
                "{} of {}",
                name.to_string_lossy(),
                frozen.manifest().image
            ));
        }
        if !dry_run {
            let folders: BTreeSet<_> = outdated.iter().map(|f| f.folder().to_owned()).collect();
            self.remove_templates(|frozen| folders.contains(frozen.folder()))?;
            let pruned = self.prune_images()?;
            let digests = pruned.images.iter().chain(&pruned.kernels);
            garbage.images = digests.map(ToString::to_string).collect();
            garbage.bytes.0 += pruned.freed;
        }
        Ok(garbage)
    }

    /// Removes images that neither a name nor a machine means, and what they alone need.
    pub fn prune_images(&self) -> Result<vmint_image::store::Pruned, Fault> {
        // A machine that may be booted again needs its image.
        let digests = self.machines()?.into_iter().filter_map(|m| m.image_digest);
        let keep = digests.filter_map(|d| d.parse().ok()).collect();
        self.images.prune(&keep).map_err(|e| {
            let (kind, hint) = (e.kind(), e.hint());
            Fault {
                hint,
                ..Fault::from_error(kind, &e)
            }
        })
    }
}
