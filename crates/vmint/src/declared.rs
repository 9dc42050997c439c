//! Images that were made by others, and images and pools that `vmint.toml` declares.

use crate::Vmint;
use crate::config::{Config, ImageDefinition};
use std::sync::Arc;
use vmint_image::{Image, ImportOptions, ImportSource, Progress};
use vmint_model::{ErrorKind, Fault};

impl Vmint {
    /// Imports a root file system as an image.
    pub async fn import_image(
        &self,
        name: &str,
        source: &ImportSource,
        options: &ImportOptions,
        progress: &dyn Progress,
    ) -> Result<Image, Fault> {
        let draft = self.images().import(name, source, options, progress)?;
        self.finish(draft, progress).await
    }

    /// Makes the image that the settings declare under this name, if they declare one. One that is built is built again
    /// when its recipe has changed; one that is imported is imported once.
    pub async fn ensure_declared(
        &self,
        config: &Config,
        name: &str,
        progress: &dyn Progress,
    ) -> Result<(), Fault> {
        let Some((_, definition)) = config
            .images
            .iter()
            .find(|(declared, _)| declared.as_str() == name)
        else {
            return Ok(());
        };
        config.refuse_outside(name, definition)?;
        match definition {
            ImageDefinition::Build(recipe) => {
                self.build_image(name, recipe, progress).await.map(drop)
            }
            ImageDefinition::Import { source, options } => match self.images().find(name) {
                Ok(Some(_)) => Ok(()),
                // Missing, or damaged: then it is made anew.
                _ => self
                    .import_image(name, source, options, progress)
                    .await
                    .map(drop),
            },
        }
    }

    /// Makes a pool that the settings declare, and its image, unless it is there. One that they do not declare is no
    /// matter of theirs.
    pub async fn ensure_declared_pool(
        self: &Arc<Self>,
        config: &Config,
        name: &str,
        progress: &dyn Progress,
    ) -> Result<(), Fault> {
        let declared = config.pools.iter().find(|(n, _)| n.as_str() == name);
        let Some((name, definition)) = declared else {
            return Ok(());
        };
        if self.pool_status(name).is_ok() {
            return Ok(());
        }
        let spec = definition.spec();
        self.ensure_declared(config, &spec.image, progress).await?;
        match self.create_pool(name, spec, progress).await {
            // Another process was faster.
            Err(fault) if fault.kind == ErrorKind::AlreadyExists => Ok(()),
            other => other.map(drop),
        }
    }
}
