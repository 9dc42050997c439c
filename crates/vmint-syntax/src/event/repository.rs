//! What is known of a repository: whose it is, what is checked out, what its commit changed. `vmint-workflow` asks git for it.

use std::path::{Path, PathBuf};

/// The folder that a workflow is run for: a git repository, or any other.
#[derive(Clone, Debug)]
pub struct Repository {
    /// The folder, absolute, without symbolic links.
    pub root: PathBuf,
    /// Whether git manages it.
    pub managed: bool,
    /// Whose it is.
    pub slug: Slug,
    /// URL of the remote `origin`, without a password.
    pub origin: Option<String>,
    /// `user.name` and `user.email` of git; absent when not set.
    pub user: (Option<String>, Option<String>),
    /// The branch that pull requests are against.
    pub default_branch: String,
    /// What is checked out.
    pub reference: Reference,
    /// Its commit; absent when there is none.
    pub head: Option<Head>,
    /// Files that differ from the commit, or are new and not ignored.
    pub uncommitted: Vec<String>,
}

/// What is checked out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// A branch.
    Branch(String),
    /// No branch, and this tag is at the commit.
    Tag(String),
    /// Neither.
    Detached,
}

/// Whose a repository is: `github.com`, `octocat`, `hello`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slug {
    /// The server; absent when it is only here.
    pub host: Option<String>,
    /// User or organisation; `local` when it is only here. With slashes where groups are nested.
    pub owner: String,
    /// The repository.
    pub name: String,
}

/// A commit and what it changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The commit.
    pub commit: Commit,
    /// Files that it changed against its first parent; absent when that is not known, in a shallow clone.
    pub changed: Option<Vec<String>>,
    /// Files that were changed since the default branch was left; absent when that is not known.
    pub changed_on_branch: Option<Vec<String>>,
    /// The commit of the default branch; absent when there is no such branch.
    pub base: Option<String>,
}

/// A commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    /// Its hash.
    pub sha: String,
    /// Hash of its tree.
    pub tree: String,
    /// Hash of its first parent.
    pub parent: Option<String>,
    /// Name and address of its author.
    pub author: (String, String),
    /// Name and address of its committer.
    pub committer: (String, String),
    /// When it was committed, as in RFC 3339.
    pub time: String,
    /// Its message.
    pub message: String,
}

/// What stands for a commit where there is none.
pub const NO_COMMIT: &str = "0000000000000000000000000000000000000000";

impl Repository {
    /// A folder without git.
    pub fn plain(root: PathBuf) -> Self {
        let default_branch = "main".to_owned();
        Self {
            slug: Slug::of_folder(&root),
            root,
            managed: false,
            origin: None,
            user: (None, None),
            reference: Reference::Branch(default_branch.clone()),
            default_branch,
            head: None,
            uncommitted: Vec::new(),
        }
    }

    /// Hash of the commit; zeros when there is none.
    pub fn sha(&self) -> &str {
        self.head
            .as_ref()
            .map_or(NO_COMMIT, |head| &head.commit.sha)
    }

    /// The full name of what is checked out: `refs/heads/main`. A commit without a name counts as the default branch's,
    /// for every event on GitHub has one.
    pub fn git_ref(&self) -> String {
        match &self.reference {
            Reference::Branch(name) => format!("refs/heads/{name}"),
            Reference::Tag(name) => format!("refs/tags/{name}"),
            Reference::Detached => format!("refs/heads/{}", self.default_branch),
        }
    }

    /// Whether the files differ from the commit.
    pub fn is_dirty(&self) -> bool {
        !self.uncommitted.is_empty()
    }
}

impl Slug {
    /// From a remote's URL: `https://github.com/o/r.git`, `ssh://git@host:22/o/r`, `git@host:o/r.git`. Absent for paths.
    pub fn of_url(url: &str) -> Option<Self> {
        let (host, path) = match url.split_once("://") {
            Some(("file", _)) => return None,
            Some((_, rest)) => rest.split_once('/')?,
            None => url
                .split_once(':')
                .filter(|(host, _)| !host.contains('/'))?,
        };
        let host = host.rsplit('@').next()?.split(':').next()?;
        let path = path.trim_matches('/');
        let path = path.strip_suffix(".git").unwrap_or(path);
        let (owner, name) = path.rsplit_once('/')?;
        let ok = !host.is_empty() && !owner.is_empty() && !name.is_empty();
        ok.then(|| Self {
            host: Some(host.to_owned()),
            owner: owner.to_owned(),
            name: name.to_owned(),
        })
    }

    /// Of a folder that is only here.
    pub fn of_folder(root: &Path) -> Self {
        let name = root
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        Self {
            host: None,
            owner: "local".to_owned(),
            name: name.unwrap_or_else(|| "workspace".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_read_from_urls_of_every_form() {
        let slug =
            |url| Slug::of_url(url).map(|s| format!("{} {} {}", s.host.unwrap(), s.owner, s.name));
        for (url, expected) in [
            (
                "https://github.com/octocat/hello.git",
                "github.com octocat hello",
            ),
            (
                "https://github.com/octocat/hello/",
                "github.com octocat hello",
            ),
            (
                "git@github.com:octocat/hello.git",
                "github.com octocat hello",
            ),
            (
                "ssh://git@example.org:2222/octocat/hello",
                "example.org octocat hello",
            ),
            ("https://gitlab.com/a/b/c.git", "gitlab.com a/b c"),
        ] {
            assert_eq!(slug(url).as_deref(), Some(expected), "{url}");
        }
        for url in [
            "/srv/git/hello.git",
            "file:///srv/hello",
            "../hello",
            "",
            "https://",
            "a:b",
        ] {
            assert_eq!(slug(url), None, "{url}");
        }
    }
}
