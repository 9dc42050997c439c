//! `actions/upload-artifact` and `actions/download-artifact`: with the run, on this host.

use super::Inputs;
use crate::artifacts::{
    Artifact, ArtifactError, ArtifactName, Artifacts, IfNoFiles, Layout, Select,
};
use crate::glob::Patterns;
use crate::log::Kind;
use crate::record::Level;
use crate::run::collect::Links;
use crate::run::found::Follow;
use crate::run::guest_files;
use crate::run::instance::{Done, Instance, Trouble};
use crate::run::paths;
use crate::run::step::Surroundings;
use crate::spool::Taken;
use indexmap::IndexMap;
use tokio::sync::mpsc;
use vmint_model::ByteSize;
use vmint_model::{ErrorKind, Fault};

/// What one artifact may hold, in bytes.
const LARGEST: u64 = 10 << 30;
const WAITING: usize = 8;

impl<'r> Instance<'r> {
    fn artifacts(&self) -> Artifacts {
        Artifacts::new(self.tell.recorder.folder().join("artifacts"), LARGEST)
    }

    pub(super) async fn upload_artifact(
        &mut self,
        inputs: &Inputs,
        around: &Surroundings<'_, 'r>,
    ) -> Result<Done, Trouble> {
        let name = ArtifactName::new(inputs.get("name").unwrap_or("artifact")).map_err(own)?;
        let if_none: IfNoFiles = inputs
            .get("if-no-files-found")
            .unwrap_or_default()
            .parse()
            .map_err(own)?;
        let taken = if inputs.flag("overwrite", false)? {
            Taken::Replace
        } else {
            Taken::Refuse
        };
        let retention = inputs
            .get("retention-days")
            .and_then(|days| days.parse().ok());
        let patterns = Patterns::parse(
            inputs.get("path").unwrap_or_default(),
            &self.workspace(),
            &self.inventory.home,
        );
        let patterns = patterns.map_err(|e| Trouble::Step(format!("`path`: {e}")))?;
        let hidden = inputs.flag("include-hidden-files", false)?;
        let found = guest_files::list(self, &patterns, Follow::All).await?;
        let (mut listed, mounts) = (found.files, found.mounts);
        listed.retain(|file| hidden || !patterns.is_hidden(&file.path));
        let found: Vec<&str> = listed
            .iter()
            .filter(|f| !f.is_folder)
            .map(|f| f.path.as_str())
            .collect();
        if found.is_empty() {
            let path = inputs.get("path").unwrap_or_default();
            let text = format!(
                "No files were found with the provided path: {path}. No artifacts will be uploaded."
            );
            return match if_none {
                IfNoFiles::Error => Err(Trouble::Step(text)),
                IfNoFiles::Ignore => Ok(Done::well(IndexMap::new())),
                IfNoFiles::Warn => {
                    around.log.say(Kind::Warning, self.tell.mask(&text))?;
                    self.tell.annotate(around.log.at(), Level::Warning, &text);
                    Ok(Done::well(IndexMap::new()))
                }
            };
        }
        let base = patterns.upload_root(&found);
        let count = found.len();
        let artifacts = self.artifacts();
        let draft = artifacts.begin(&name, taken).map_err(own)?;
        let (sender, receiver) = mpsc::channel(WAITING);
        let collected = self
            .wire
            .collect(&mounts, &listed, &base, Links::Followed, sender);
        let (draft, collected) = futures_util::future::join(draft.fill(receiver), collected).await;
        let draft = draft.map_err(|e| Fault::from_error(ErrorKind::Host, &e))?;
        collected?;
        let artifact = artifacts
            .keep(&name, draft, taken, retention)
            .map_err(own)?;
        let text = format!(
            "Artifact {}: {count} files, {}",
            artifact.name,
            ByteSize(artifact.size)
        );
        around.log.say(Kind::Text, self.tell.mask(&text))?;
        let mut outputs = IndexMap::new();
        outputs.insert("artifact-id".to_owned(), artifact.name.clone());
        outputs.insert("artifact-url".to_owned(), String::new());
        outputs.insert("artifact-digest".to_owned(), artifact.digest);
        Ok(Done::well(outputs))
    }

    pub(super) async fn download_artifact(
        &mut self,
        inputs: &Inputs,
        around: &Surroundings<'_, 'r>,
    ) -> Result<Done, Trouble> {
        let target = paths::below(&self.workspace(), inputs.get("path").unwrap_or_default());
        let target = match inputs.get("path").and_then(|path| path.strip_prefix("~/")) {
            Some(path) => paths::below(&self.inventory.home, path),
            None => target,
        };
        let (select, layout) = match (inputs.get("name"), inputs.get("pattern")) {
            (Some(name), _) => (Select::Name(name.to_owned()), Layout::Merged),
            (None, pattern) => {
                let select = pattern.map_or(Select::All, |p| Select::Pattern(p.to_owned()));
                let layout = if inputs.flag("merge-multiple", false)? {
                    Layout::Merged
                } else {
                    Layout::Folders
                };
                (select, layout)
            }
        };
        let artifacts = self.artifacts();
        let selected = artifacts.select(&select).map_err(own)?;
        for artifact in &selected {
            let folder = match layout {
                Layout::Merged => target.clone(),
                Layout::Folders => format!("{target}/{}", artifact.name),
            };
            self.bring_artifact(&artifacts, artifact, &folder).await?;
            let text = format!(
                "Artifact {}: {}, to {folder}",
                artifact.name,
                ByteSize(artifact.size)
            );
            around.log.say(Kind::Text, self.tell.mask(&text))?;
        }
        let text = format!("{} artifacts were downloaded", selected.len());
        around.log.say(Kind::Text, self.tell.mask(&text))?;
        let mut outputs = IndexMap::new();
        outputs.insert("download-path".to_owned(), target);
        Ok(Done::well(outputs))
    }

    async fn bring_artifact(
        &mut self,
        artifacts: &Artifacts,
        artifact: &Artifact,
        folder: &str,
    ) -> Result<(), Trouble> {
        let folder = self.folder_in_machine(folder).await?;
        let (sender, receiver) = mpsc::channel(WAITING);
        let put = self.wire.put(&folder, receiver);
        let (sent, put) = futures_util::future::join(artifacts.send(artifact, sender), put).await;
        put?;
        sent.map_err(own)?;
        self.hand_over(&folder).await
    }
}

/// A bad name, a name that is taken, an artifact that is missing: the step's own fault.
fn own(error: ArtifactError) -> Trouble {
    match &error {
        ArtifactError::Io { .. } => Trouble::Fault(Fault::from_error(ErrorKind::Host, &error)),
        _ => Trouble::Step(error.to_string()),
    }
}
