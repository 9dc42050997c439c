//! `actions/cache`: kept on this host, for all repositories and runs.

use super::Inputs;
use crate::cache::{CacheError, Caches, Exact, Saved, version};
use crate::glob::Patterns;
use crate::log::Kind;
use crate::run::collect::Links;
use crate::run::found::Follow;
use crate::run::guest_files;
use crate::run::instance::{Done, Instance, Trouble};
use crate::run::step::Surroundings;
use indexmap::IndexMap;
use tokio::sync::mpsc;
use vmint_model::ByteSize;
use vmint_model::{ErrorKind, Fault};

const WAITING: usize = 8;

impl<'r> Instance<'r> {
    fn caches(&self) -> Caches {
        let request = self.run.request;
        Caches::new(request.caches.clone(), request.options.cache_quota)
    }

    /// The paths as they are written, which tell caches of different paths apart; with the repository and what the machine
    /// executes, as GitHub keeps caches of repositories and systems apart.
    fn cache_version(&self, inputs: &Inputs) -> String {
        let paths = inputs.get("path").unwrap_or_default();
        let mut all: Vec<String> = paths.lines().map(|line| line.trim().to_owned()).collect();
        all.push(self.run.repository_name());
        all.push(self.inventory.machine.clone());
        version(&all)
    }

    pub(super) async fn restore_cache(
        &mut self,
        inputs: &Inputs,
        around: &Surroundings<'_, 'r>,
    ) -> Result<Done, Trouble> {
        let key = inputs.get("key").unwrap_or_default();
        let others: Vec<&str> = inputs
            .get("restore-keys")
            .unwrap_or_default()
            .lines()
            .map(str::trim)
            .filter(|k| !k.is_empty())
            .collect();
        let found = self
            .caches()
            .find(key, &others, &self.cache_version(inputs))
            .map_err(own)?;
        let mut outputs = IndexMap::new();
        outputs.insert("cache-primary-key".to_owned(), key.to_owned());
        let tell = self.tell;
        let say = |text: String| around.log.say(Kind::Text, tell.mask(&text));
        let Some(hit) = found else {
            say(format!(
                "Cache not found for input keys: {}",
                [&[key], &others[..]].concat().join(", ")
            ))?;
            if inputs.flag("fail-on-cache-miss", false)? {
                return Err(Trouble::Step(format!(
                    "no cache has the key {key}, and fail-on-cache-miss is set"
                )));
            }
            return Ok(Done::well(outputs));
        };
        let exact = hit.exact == Exact::Yes;
        outputs.insert("cache-hit".to_owned(), exact.to_string());
        outputs.insert("cache-matched-key".to_owned(), hit.cache.key.clone());
        let text = format!("Cache {}: {}", hit.cache.key, ByteSize(hit.cache.size));
        if inputs.flag("lookup-only", false)? {
            say(format!("{text}, not restored: lookup-only"))?;
            return Ok(Done::well(outputs));
        }
        let root = self.root_in_machine().await?;
        let (sender, receiver) = mpsc::channel(WAITING);
        let put = self.wire.put(&root, receiver);
        let (sent, put) = futures_util::future::join(hit.send(sender), put).await;
        put?;
        sent.map_err(own)?;
        say(format!("{text}, restored"))?;
        Ok(Done::well(outputs))
    }

    pub(super) async fn save_cache(
        &mut self,
        inputs: &Inputs,
        around: &Surroundings<'_, 'r>,
    ) -> Result<Done, Trouble> {
        let key = inputs.get("key").unwrap_or_default().to_owned();
        let version = self.cache_version(inputs);
        let caches = self.caches();
        let tell = self.tell;
        let say = |text: String| around.log.say(Kind::Text, tell.mask(&text));
        if caches.has(&key, &version) {
            say(format!(
                "Cache {key} exists already, and caches do not change"
            ))?;
            return Ok(Done::well(IndexMap::new()));
        }
        let patterns = Patterns::parse(
            inputs.get("path").unwrap_or_default(),
            &self.workspace(),
            &self.inventory.home,
        );
        let patterns = patterns.map_err(|e| Trouble::Step(format!("`path`: {e}")))?;
        let found = guest_files::list(self, &patterns, Follow::UntilMatched).await?;
        let (listed, mounts) = (found.files, found.mounts);
        if listed.is_empty() {
            around.log.say(
                Kind::Warning,
                "None of the paths of the cache exists; nothing is saved",
            )?;
            return Ok(Done::well(IndexMap::new()));
        }
        let draft = caches.begin(&key).map_err(own)?;
        let (sender, receiver) = mpsc::channel(WAITING);
        let collected = self
            .wire
            .collect(&mounts, &listed, "/", Links::Kept, sender);
        let (draft, collected) = futures_util::future::join(draft.fill(receiver), collected).await;
        collected?;
        let draft = draft.map_err(|e| Trouble::Step(format!("the cache cannot be saved: {e}")))?;
        let bytes = draft.size();
        let (at, to) = (key.clone(), version);
        let saved = tokio::task::spawn_blocking(move || caches.keep(&at, &to, draft)).await;
        let saved = match saved {
            Ok(saved) => saved.map_err(own)?,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        match saved {
            Saved::Saved { evicted: 0 } => say(format!("Cache {key}: {}, saved", ByteSize(bytes)))?,
            Saved::Saved { evicted } => say(format!(
                "Cache {key}: {}, saved; {evicted} older ones were evicted",
                ByteSize(bytes)
            ))?,
            Saved::Exists => say(format!("Cache {key} was saved by another job meanwhile"))?,
        }
        Ok(Done::well(IndexMap::new()))
    }
}

/// A bad key is the step's own fault; a disk that fails is not.
fn own(error: CacheError) -> Trouble {
    match &error {
        CacheError::Key { .. } | CacheError::TooManyKeys { .. } => Trouble::Step(error.to_string()),
        _ => Trouble::Fault(Fault::from_error(ErrorKind::Host, &error)),
    }
}
