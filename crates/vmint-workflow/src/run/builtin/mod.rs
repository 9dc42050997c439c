//! Actions that vmint does itself, for they talk to GitHub's services, or bring what an image has already.

mod artifact;
mod cache;
mod checkout;
mod tool;

use super::instance::{Done, Instance, Trouble};
use super::state::Post;
use super::step::Surroundings;
use crate::check::Builtin;
use crate::log::Kind;
use crate::spec::Text;
use indexmap::IndexMap;

/// Inputs of such an action. Names whatever their case; what is empty was not given.
pub(super) struct Inputs(IndexMap<String, String>);

impl Inputs {
    fn new(with: IndexMap<String, String>) -> Self {
        let lower = |(name, value): (String, String)| (name.to_lowercase(), value);
        Self(with.into_iter().map(lower).collect())
    }

    /// An input, unless it is empty.
    fn get(&self, name: &str) -> Option<&str> {
        let value = self.0.get(name).map(|value| value.trim());
        value.filter(|value| !value.is_empty())
    }

    /// An input that is true or false.
    fn flag(&self, name: &str, default: bool) -> Result<bool, Trouble> {
        match self.get(name) {
            None => Ok(default),
            Some(text) if text.eq_ignore_ascii_case("true") => Ok(true),
            Some(text) if text.eq_ignore_ascii_case("false") => Ok(false),
            Some(text) => Err(Trouble::Step(format!(
                "the input `{name}` is {text:?}; it must be true or false"
            ))),
        }
    }
}

impl<'r> Instance<'r> {
    /// Runs such an action.
    pub(super) async fn builtin(
        &mut self,
        builtin: Builtin,
        uses: &'r Text,
        with: IndexMap<String, String>,
        around: Surroundings<'_, 'r>,
    ) -> Result<Done, Trouble> {
        self.group(&around, &uses.text, &with)?;
        let inputs = Inputs::new(with);
        let own = self.run.repository_name();
        let mut refused = inputs.0.iter();
        if let Some(why) = refused.find_map(|(name, value)| builtin.refuses(name, value, &own)) {
            return Err(Trouble::Step(why));
        }
        match builtin {
            Builtin::Checkout => self.checkout(&inputs, &around).await,
            Builtin::UploadArtifact => self.upload_artifact(&inputs, &around).await,
            Builtin::DownloadArtifact => self.download_artifact(&inputs, &around).await,
            Builtin::Cache => {
                let done = self.restore_cache(&inputs, &around).await?;
                self.register(Post {
                    step: around.path.clone(),
                    id: around.id.clone(),
                    inputs: inputs.0,
                    state: done.outputs.clone(),
                });
                Ok(done)
            }
            Builtin::CacheRestore => self.restore_cache(&inputs, &around).await,
            Builtin::CacheSave => self.save_cache(&inputs, &around).await,
            Builtin::Setup(tool) => self.tool(tool, &uses.text, &inputs, &around).await,
        }
    }

    /// The `post` of such an action; nothing, if it does nothing.
    pub(super) async fn post_builtin(
        &mut self,
        builtin: Builtin,
        post: &Post,
        mut around: Surroundings<'_, 'r>,
    ) -> Result<Option<Done>, Trouble> {
        if builtin != Builtin::Cache {
            return Ok(None);
        }
        // As in the action's own file: nothing of a failed job is worth to be kept.
        if !self.condition(&mut around.scope, Some("success()")).await? {
            return Ok(None);
        }
        if post.state.get("cache-hit").is_some_and(|hit| hit == "true") {
            around
                .log
                .say(Kind::Text, "The cache was hit, so it is not saved again.")?;
            return Ok(Some(Done::well(IndexMap::new())));
        }
        let inputs = Inputs(post.inputs.clone());
        self.save_cache(&inputs, &around).await.map(Some)
    }
}
