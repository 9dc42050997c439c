//! What has happened: the payload that GitHub would send, made from the repository of this host or read from a file.

use super::repository::{Commit, Head, NO_COMMIT, Repository};
use serde_json::{Map, Value as Json, json};
use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// A payload is at most this long, in bytes, as GitHub's are.
pub const MOST: u64 = 25 << 20;
/// The number of the pull request that is simulated.
const PULL_REQUEST: u64 = 1;

/// Something that has happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its name: `push`.
    pub name: String,
    /// What GitHub would say of it: `github.event`.
    pub payload: Map<String, Json>,
    /// `github.ref`, in full.
    pub git_ref: String,
    /// `github.sha`.
    pub sha: String,
    /// `github.head_ref`; empty unless this is a pull request.
    pub head_ref: String,
    /// `github.base_ref`; empty unless this is a pull request.
    pub base_ref: String,
    /// Who did it.
    pub actor: String,
    /// Files that it changed, for path filters; absent when that is not known.
    pub changed: Option<Vec<String>>,
}

/// What of an event cannot be told from the repository.
#[derive(Clone, Debug, Default)]
pub struct Details {
    /// The activity type: `opened`; see [`super::trigger::activity`].
    pub action: Option<String>,
    /// `inputs` of `workflow_dispatch`, as texts.
    pub inputs: Map<String, Json>,
    /// The `cron` of a `schedule`.
    pub schedule: Option<String>,
}

/// Why the content of a file is no payload.
#[derive(Debug, Error)]
pub enum PayloadError {
    /// It is too long.
    #[error("the event in {} is longer than {} MiB, which GitHub never sends", path.display(), MOST >> 20)]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// It is not JSON.
    #[error("the event in {} is not JSON", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: serde_json::Error,
    },
    /// It is JSON, but not an object.
    #[error("the event in {} must be a JSON object, as GitHub sends it: {{\"ref\": …}}", path.display())]
    NoObject {
        /// The file.
        path: PathBuf,
    },
}

impl Event {
    /// One of which nothing is known.
    pub fn empty(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            payload: Map::new(),
            git_ref: String::new(),
            sha: String::new(),
            head_ref: String::new(),
            base_ref: String::new(),
            actor: String::new(),
            changed: None,
        }
    }

    /// The event that would have led to what is checked out, with what is not committed yet counted as changed.
    pub fn simulate(name: &str, repository: &Repository, details: Details) -> Self {
        let mut payload = Map::new();
        payload.insert("repository".to_owned(), describe(repository));
        let actor = actor(repository);
        payload.insert("sender".to_owned(), user(&actor));
        if let Some(action) = details.action {
            payload.insert("action".to_owned(), json!(action));
        }
        match name {
            "push" => push(&mut payload, repository, &actor),
            "pull_request" | "pull_request_target" => {
                pull_request(&mut payload, repository, &actor);
            }
            "workflow_dispatch" => {
                payload.insert("ref".to_owned(), json!(repository.git_ref()));
                payload.insert("inputs".to_owned(), Json::Object(details.inputs));
            }
            "schedule" => {
                payload.insert("schedule".to_owned(), json!(details.schedule));
            }
            _ => {}
        }
        Self::complete(name, payload, repository)
    }

    /// An event whose payload is the content of a file. What the payload does not say is taken from the repository.
    pub fn parse(
        name: &str,
        path: &Path,
        bytes: &[u8],
        repository: &Repository,
    ) -> Result<Self, PayloadError> {
        let path = || path.to_owned();
        if bytes.len() as u64 > MOST {
            return Err(PayloadError::TooLong { path: path() });
        }
        let json = serde_json::from_slice(bytes);
        let json = json.map_err(|source| PayloadError::Json {
            path: path(),
            source,
        })?;
        let Json::Object(mut payload) = json else {
            return Err(PayloadError::NoObject { path: path() });
        };
        for (key, value) in [
            ("repository", describe(repository)),
            ("sender", user(&actor(repository))),
        ] {
            payload.entry(key).or_insert(value);
        }
        Ok(Self::complete(name, payload, repository))
    }

    /// A text deep in the payload.
    pub fn text(&self, path: &[&str]) -> Option<&str> {
        text(&self.payload, path)
    }

    /// Derives what the `github` context says beside the payload.
    fn complete(name: &str, payload: Map<String, Json>, repository: &Repository) -> Self {
        let say = |path: &[&str]| {
            text(&payload, path)
                .filter(|text| !text.is_empty())
                .map(str::to_owned)
        };
        let number = payload
            .get("number")
            .or_else(|| payload.get("pull_request")?.get("number"));
        let number = number.and_then(Json::as_u64).unwrap_or(PULL_REQUEST);
        let head = repository.head.as_ref();
        let here = || repository.sha().to_owned();
        let (mut head_ref, mut base_ref) = (String::new(), String::new());
        let mut committed = head.and_then(|head| head.changed.clone());
        let (git_ref, sha) = match name {
            "pull_request" | "pull_request_target" => {
                let of = |side| say(&["pull_request", side, "ref"]);
                head_ref = of("head").unwrap_or_else(|| short(&repository.git_ref()).to_owned());
                base_ref = of("base").unwrap_or_else(|| repository.default_branch.clone());
                committed = head.and_then(|head| head.changed_on_branch.clone());
                if name == "pull_request" {
                    // On GitHub a merge of both sides; here what is checked out.
                    (format!("refs/pull/{number}/merge"), here())
                } else {
                    let base = say(&["pull_request", "base", "sha"]).unwrap_or_else(here);
                    (format!("refs/heads/{base_ref}"), base)
                }
            }
            "push" => (
                say(&["ref"]).unwrap_or_else(|| repository.git_ref()),
                say(&["after"]).unwrap_or_else(here),
            ),
            "release" => {
                let tag = say(&["release", "tag_name"]).map(|tag| format!("refs/tags/{tag}"));
                (tag.unwrap_or_else(|| repository.git_ref()), here())
            }
            _ => (repository.git_ref(), here()),
        };
        let changed = listed(&payload).or(committed).map(|mut changed| {
            let known: HashSet<&String> = changed.iter().collect();
            let new = |file: &&String| !known.contains(file);
            let more: Vec<String> = repository.uncommitted.iter().filter(new).cloned().collect();
            changed.extend(more);
            changed
        });
        Self {
            name: name.to_owned(),
            actor: say(&["sender", "login"]).unwrap_or_else(|| actor(repository)),
            payload,
            git_ref,
            sha,
            head_ref,
            base_ref,
            changed,
        }
    }
}

fn text<'a>(payload: &'a Map<String, Json>, path: &[&str]) -> Option<&'a str> {
    let (first, rest) = path.split_first()?;
    let found = rest
        .iter()
        .try_fold(payload.get(*first)?, |value, key| value.get(key));
    found?.as_str()
}

/// The files that the commits of a payload name; absent when none names any, as in GitHub's own payloads for Actions.
fn listed(payload: &Map<String, Json>) -> Option<Vec<String>> {
    let commits = payload.get("commits")?.as_array()?;
    let keys = ["added", "modified", "removed"];
    let lists = commits
        .iter()
        .flat_map(|commit| keys.map(|key| commit.get(key)));
    let mut any = false;
    let mut files = BTreeSet::new();
    for list in lists.filter_map(|list| list?.as_array()) {
        any = true;
        files.extend(list.iter().filter_map(Json::as_str).map(str::to_owned));
    }
    any.then(|| files.into_iter().collect())
}

fn short(full: &str) -> &str {
    let name = full.strip_prefix("refs/heads/");
    name.or_else(|| full.strip_prefix("refs/tags/"))
        .unwrap_or(full)
}

fn actor(repository: &Repository) -> String {
    let name = repository.user.0.clone().filter(|name| !name.is_empty());
    name.unwrap_or_else(|| repository.slug.owner.clone())
}

fn user(login: &str) -> Json {
    json!({
        "login": login,
        "type": "User",
        "html_url": format!("https://github.com/{login}"),
    })
}

fn describe(repository: &Repository) -> Json {
    let slug = &repository.slug;
    let (owner, name) = (&slug.owner, &slug.name);
    let host = slug.host.as_deref().unwrap_or("github.com");
    let url = format!("https://{host}/{owner}/{name}");
    json!({
        "name": name,
        "full_name": format!("{owner}/{name}"),
        "owner": { "login": owner, "name": owner },
        "default_branch": repository.default_branch,
        "html_url": url,
        "url": url,
        "clone_url": format!("{url}.git"),
        "private": true,
        "fork": false,
    })
}

fn commit(commit: &Commit) -> Json {
    let person = |(name, email): &(String, String)| json!({ "name": name, "email": email });
    json!({
        "id": commit.sha,
        "tree_id": commit.tree,
        "distinct": true,
        "message": commit.message,
        "timestamp": commit.time,
        "author": person(&commit.author),
        "committer": person(&commit.committer),
    })
}

fn push(payload: &mut Map<String, Json>, repository: &Repository, actor: &str) {
    let head = repository.head.as_ref().map(|head| &head.commit);
    let before = head
        .and_then(|head| head.parent.as_deref())
        .unwrap_or(NO_COMMIT);
    let email = repository.user.1.as_deref();
    let said = json!({
        "ref": repository.git_ref(),
        "before": before,
        "after": repository.sha(),
        "created": before == NO_COMMIT,
        "deleted": false,
        "forced": false,
        "base_ref": null,
        "pusher": { "name": actor, "email": email },
        "head_commit": head.map(commit),
        "commits": head.into_iter().map(commit).collect::<Vec<_>>(),
    });
    if let Json::Object(said) = said {
        payload.extend(said);
    }
}

fn pull_request(payload: &mut Map<String, Json>, repository: &Repository, actor: &str) {
    let reference = repository.git_ref();
    let head = repository.head.as_ref();
    let message = head.map_or("", |head| head.commit.message.as_str());
    let (title, body) = message.split_once('\n').unwrap_or((message, ""));
    let title = if title.is_empty() {
        short(&reference)
    } else {
        title
    };
    let base = head.and_then(|head: &Head| head.base.as_deref());
    let base = base.unwrap_or(NO_COMMIT);
    let owner = &repository.slug.owner;
    let side = |branch: &str, sha: &str| {
        json!({
            "ref": branch,
            "sha": sha,
            "label": format!("{owner}:{branch}"),
            "repo": describe(repository),
            "user": user(owner),
        })
    };
    payload.insert("number".to_owned(), json!(PULL_REQUEST));
    let said = json!({
        "number": PULL_REQUEST,
        "state": "open",
        "title": title,
        "body": body.trim(),
        "draft": false,
        "merged": false,
        "labels": [],
        "user": user(actor),
        "head": side(short(&reference), repository.sha()),
        "base": side(&repository.default_branch, base),
    });
    payload.insert("pull_request".to_owned(), said);
}

#[cfg(test)]
pub(super) mod testing {
    use super::super::repository::{Reference, Slug};
    use super::*;

    /// `octocat/hello` on a branch, with a commit.
    pub fn repository() -> Repository {
        let commit = Commit {
            sha: "2".repeat(40),
            tree: "3".repeat(40),
            parent: Some("1".repeat(40)),
            author: ("Mona".to_owned(), "mona@example.org".to_owned()),
            committer: ("Mona".to_owned(), "mona@example.org".to_owned()),
            time: "2026-11-20T15:00:00+00:00".to_owned(),
            message: "Add a file\n\nIt was missing.".to_owned(),
        };
        Repository {
            root: "/home/mona/hello".into(),
            managed: true,
            slug: Slug {
                host: Some("github.com".to_owned()),
                owner: "octocat".to_owned(),
                name: "hello".to_owned(),
            },
            origin: Some("git@github.com:octocat/hello.git".to_owned()),
            user: (Some("Mona".to_owned()), Some("mona@example.org".to_owned())),
            default_branch: "main".to_owned(),
            reference: Reference::Branch("feature/x".to_owned()),
            head: Some(Head {
                commit,
                changed: Some(vec!["a".to_owned()]),
                changed_on_branch: Some(vec!["a".to_owned(), "b".to_owned()]),
                base: Some("0a".repeat(20)),
            }),
            uncommitted: vec!["new".to_owned()],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::repository;
    use super::*;

    #[test]
    fn a_push_is_of_the_last_commit_and_of_what_is_not_committed() {
        let push = Event::simulate("push", &repository(), Details::default());
        assert_eq!(push.git_ref, "refs/heads/feature/x");
        assert_eq!(
            push.changed.as_deref(),
            Some(&["a".to_owned(), "new".to_owned()][..])
        );
        assert_eq!(push.actor, "Mona");
        assert_eq!(push.text(&["before"]), Some(&*"1".repeat(40)));
        assert_eq!(push.text(&["after"]), Some(&*push.sha));
        assert_eq!(
            push.text(&["head_commit", "message"]),
            Some("Add a file\n\nIt was missing.")
        );
        assert_eq!(
            push.text(&["repository", "owner", "login"]),
            Some("octocat")
        );
        assert_eq!(push.payload["commits"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn a_pull_request_is_of_all_since_the_default_branch() {
        let details = Details {
            action: Some("opened".to_owned()),
            ..Details::default()
        };
        let request = Event::simulate("pull_request", &repository(), details);
        assert_eq!(request.git_ref, "refs/pull/1/merge");
        assert_eq!(
            (&*request.head_ref, &*request.base_ref),
            ("feature/x", "main")
        );
        assert_eq!(request.changed.as_ref().unwrap().len(), 3);
        assert_eq!(request.text(&["action"]), Some("opened"));
        assert_eq!(request.text(&["pull_request", "title"]), Some("Add a file"));
        assert_eq!(
            request.text(&["pull_request", "head", "sha"]),
            Some(&*request.sha)
        );
        let target = Event::simulate("pull_request_target", &repository(), Details::default());
        assert_eq!(
            (&*target.git_ref, target.sha),
            ("refs/heads/main", "0a".repeat(20))
        );
    }

    #[test]
    fn a_file_says_what_happened_and_the_repository_the_rest() {
        let read = |name: &str, text: &str| {
            Event::parse(name, "event.json".as_ref(), text.as_bytes(), &repository())
        };
        let payload = r#"{"ref": "refs/tags/v1", "sender": {"login": "hubot"},
            "commits": [{"added": ["x"], "modified": ["y"], "removed": ["x"]}]}"#;
        let push = read("push", payload).unwrap();
        assert_eq!((&*push.git_ref, &*push.actor), ("refs/tags/v1", "hubot"));
        assert_eq!(push.sha, "2".repeat(40));
        assert_eq!(push.changed.as_ref().unwrap()[..2], ["x", "y"]);
        assert_eq!(
            push.text(&["repository", "full_name"]),
            Some("octocat/hello")
        );

        let payload =
            r#"{"number": 7, "pull_request": {"base": {"ref": "v2"}, "head": {"ref": "fix"}}}"#;
        let request = read("pull_request", payload).unwrap();
        assert_eq!(request.git_ref, "refs/pull/7/merge");
        assert_eq!((&*request.head_ref, &*request.base_ref), ("fix", "v2"));

        for (text, expected) in [
            ("[]", "must be a JSON object"),
            ("{", "is not JSON"),
            ("\u{feff}", "is not JSON"),
        ] {
            let error = read("push", text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let deep = "[".repeat(200_000);
        assert!(matches!(
            read("push", &deep),
            Err(PayloadError::Json { .. })
        ));
        let long = " ".repeat(MOST as usize + 1);
        assert!(matches!(
            read("push", &long),
            Err(PayloadError::TooLong { .. })
        ));
    }

    #[test]
    fn inputs_and_schedules_are_in_the_payload() {
        let inputs = Map::from_iter([("level".to_owned(), json!("3"))]);
        let details = Details {
            inputs,
            schedule: Some("0 3 * * *".to_owned()),
            ..Details::default()
        };
        let dispatch = Event::simulate("workflow_dispatch", &repository(), details.clone());
        assert_eq!(dispatch.text(&["inputs", "level"]), Some("3"));
        let night = Event::simulate("schedule", &repository(), details);
        assert_eq!(night.text(&["schedule"]), Some("0 3 * * *"));
    }
}
