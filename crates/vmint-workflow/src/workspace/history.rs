//! A `.git` that works in a guest: a commit and as much of its past as asked, in a repository of its own that names no
//! path of this host.

use super::git::{self, Work};
use super::stream::{Packed, Pieces, close};
use super::{Reference, Repository, WorkspaceError, folder};
use std::num::NonZeroU32;
use std::path::Path;

/// How much of the past: `fetch-depth`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// This many commits.
    Commits(NonZeroU32),
    /// All, with all branches and tags: `fetch-depth: 0`.
    All,
}

/// Packs a `.git` of the commit that a repository is [at](Repository::at). Paths begin with `.git/`. Its index holds the
/// commit's files, so that `git status` in the guest compares them with those of the folder.
pub async fn pack(
    repository: &Repository,
    depth: Depth,
    pieces: Pieces,
) -> Result<Packed, WorkspaceError> {
    let result = async {
        let temporary = tempfile::tempdir().map_err(|source| WorkspaceError::Io {
            doing: "make a folder in",
            path: std::env::temp_dir(),
            source,
        })?;
        make(repository, depth, temporary.path()).await?;
        Ok::<_, WorkspaceError>(temporary)
    };
    let temporary = close(&pieces, &repository.root, result.await).await?;
    folder::pack_all(temporary.path().to_owned(), pieces).await
}

async fn make(repository: &Repository, depth: Depth, to: &Path) -> Result<(), WorkspaceError> {
    // Any commit may be fetched, not only those that a branch names. Git runs this text in a shell; it is constant.
    const SERVE: &str = "--upload-pack=git -c uploadpack.allowAnySHA1InWant=true -c uploadpack.allowFilter=false upload-pack";
    let root = &repository.root;
    let no_commit = || WorkspaceError::NoCommit { root: root.clone() };
    let sha = &repository.head.as_ref().ok_or_else(no_commit)?.commit.sha;
    let format = git::run(root, Work::Question, &["rev-parse", "--show-object-format"]).await?;
    let format = format!(
        "--object-format={}",
        String::from_utf8_lossy(&format).trim_end()
    );
    git::run(
        to,
        Work::Question,
        &["init", "--quiet", "--template=", &format],
    )
    .await?;

    let source = root.as_os_str();
    let mut fetch: Vec<std::ffi::OsString> = [
        "-c",
        "fetch.unpackLimit=1",
        "-c",
        "gc.auto=0",
        "fetch",
        "--quiet",
        "--no-tags",
        "--no-write-fetch-head",
        "--update-shallow",
        SERVE,
    ]
    .map(Into::into)
    .into();
    if let Depth::Commits(depth) = depth {
        fetch.push(format!("--depth={depth}").into());
    }
    fetch.push(source.to_owned());
    fetch.push(match &repository.reference {
        Reference::Branch(name) => format!("+{sha}:refs/remotes/origin/{name}").into(),
        Reference::Tag(name) => format!("+{sha}:refs/tags/{name}").into(),
        Reference::Detached => sha.into(),
    });
    git::run(to, Work::Copy, &fetch).await?;
    if depth == Depth::All {
        fetch.pop();
        let branches = match &repository.reference {
            // It stands where the run's commit is, which need not be where the branch is.
            Reference::Branch(name) => Some(format!("^refs/heads/{name}")),
            Reference::Tag(_) | Reference::Detached => None,
        };
        fetch.extend(
            [
                "+refs/heads/*:refs/remotes/origin/*",
                "+refs/tags/*:refs/tags/*",
            ]
            .map(Into::into),
        );
        fetch.extend(branches.map(Into::into));
        git::run(to, Work::Copy, &fetch).await?;
    }

    let question = async |args: &[&str]| git::run(to, Work::Question, args).await.map(drop);
    if let Reference::Branch(name) = &repository.reference {
        let full = format!("refs/heads/{name}");
        question(&["update-ref", &full, sha]).await?;
        question(&["symbolic-ref", "HEAD", &full]).await?;
    } else {
        question(&["update-ref", "--no-deref", "HEAD", sha]).await?;
    }
    if let Some(url) = &repository.origin {
        question(&["config", "remote.origin.url", url]).await?;
        let all = "+refs/heads/*:refs/remotes/origin/*";
        question(&["config", "remote.origin.fetch", all]).await?;
    }
    question(&["read-tree", sha]).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Scratch, scratch, unpack};
    use super::*;
    use tokio::sync::mpsc::channel;

    async fn copy(repository: &Repository, depth: Depth) -> Scratch {
        let (to, (pieces, taker)) = (scratch("to"), channel(2));
        let (packed, unpacked) = tokio::join!(
            pack(repository, depth, pieces),
            unpack(taker, to.root.clone())
        );
        packed.unwrap();
        unpacked.unwrap();
        to
    }

    fn says(own: &Scratch, args: &[&str]) -> String {
        let mut command = std::process::Command::new("git");
        let output = command.args(args).current_dir(&own.root).output().unwrap();
        assert!(output.status.success(), "git {args:?}: {output:?}");
        String::from_utf8(output.stdout)
            .unwrap()
            .trim_end()
            .to_owned()
    }

    fn three_commits() -> Scratch {
        let own = scratch("from");
        own.init();
        for name in ["one", "two", "three"] {
            own.write(name, name);
            own.commit(name);
        }
        own.git(&["tag", "v1", "HEAD~2"]);
        own.git(&["branch", "side", "HEAD~1"]);
        own.git(&[
            "remote",
            "add",
            "origin",
            "git@github.com:octocat/hello.git",
        ]);
        own
    }

    #[tokio::test]
    async fn one_commit_comes_with_its_branch_and_works_without_this_host() {
        let own = three_commits();
        let repository = crate::workspace::discover(&own.root).await.unwrap();
        let to = copy(&repository, Depth::Commits(NonZeroU32::MIN)).await;
        drop(own);
        for name in ["one", "two", "three"] {
            to.write(name, name);
        }
        assert_eq!(says(&to, &["status", "--porcelain"]), "");
        assert_eq!(says(&to, &["log", "--format=%s"]), "three");
        assert_eq!(says(&to, &["branch", "--show-current"]), "main");
        assert_eq!(says(&to, &["rev-parse", "origin/main"]), repository.sha());
        assert_eq!(
            says(&to, &["remote", "get-url", "origin"]),
            "git@github.com:octocat/hello.git"
        );
        assert_eq!(says(&to, &["fsck", "--no-dangling"]), "");
    }

    #[tokio::test]
    async fn all_history_comes_with_branches_and_tags() {
        let own = three_commits();
        let repository = crate::workspace::discover(&own.root).await.unwrap();
        let to = copy(&repository, Depth::All).await;
        assert_eq!(says(&to, &["log", "--format=%s"]), "three\ntwo\none");
        assert_eq!(
            says(&to, &["describe", "--tags"]).split('-').next(),
            Some("v1")
        );
        assert_eq!(
            says(&to, &["log", "-1", "--format=%s", "origin/side"]),
            "two"
        );
    }

    #[tokio::test]
    async fn an_older_commit_or_tag_can_be_asked_for() {
        let own = three_commits();
        let repository = crate::workspace::discover(&own.root).await.unwrap();
        let older = crate::workspace::at(&repository, "HEAD~1").await.unwrap();
        let to = copy(&older, Depth::Commits(NonZeroU32::MIN)).await;
        assert_eq!(says(&to, &["log", "--format=%s"]), "two");
        let tagged = crate::workspace::at(&repository, "v1").await.unwrap();
        let to = copy(&tagged, Depth::All).await;
        assert_eq!(says(&to, &["describe", "--tags"]), "v1");
    }

    #[tokio::test]
    async fn linked_worktrees_and_shallow_clones_are_as_good_as_others() {
        let own = three_commits();
        let linked = scratch("linked");
        let path = linked.root.join("tree");
        own.git(&[
            "worktree",
            "add",
            "-q",
            "--detach",
            &path.to_string_lossy(),
            "side",
        ]);
        let repository = crate::workspace::discover(&path).await.unwrap();
        assert_eq!(repository.root, path);
        let to = copy(&repository, Depth::Commits(NonZeroU32::MIN)).await;
        assert_eq!(says(&to, &["log", "--format=%s"]), "two");

        let url = format!("file://{}", own.root.display());
        linked.git(&["clone", "-q", "--depth", "1", &url, "shallow"]);
        let shallow = crate::workspace::discover(&linked.root.join("shallow"))
            .await
            .unwrap();
        assert_eq!(shallow.head.as_ref().unwrap().changed, None);
        let to = copy(&shallow, Depth::All).await;
        assert_eq!(says(&to, &["log", "--format=%s"]), "three");
        assert_eq!(says(&to, &["fsck", "--no-dangling"]), "");
    }

    #[tokio::test]
    async fn a_repository_without_commits_has_no_history() {
        let own = scratch("unborn");
        own.init();
        let repository = crate::workspace::discover(&own.root).await.unwrap();
        let (pieces, _taker) = channel(2);
        let error = pack(&repository, Depth::All, pieces).await.unwrap_err();
        assert!(matches!(error, WorkspaceError::NoCommit { .. }), "{error}");
    }
}
