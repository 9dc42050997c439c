//! What a repository says of itself, asked of git.

use super::WorkspaceError;
use super::git::{self, GitError, Work, ask};
use std::path::{Path, PathBuf};
use vmint_syntax::event::repository::{Commit, Head, Reference, Repository, Slug};

/// The repository around a file or folder; a folder without git stands for itself.
pub async fn discover(path: &Path) -> Result<Repository, WorkspaceError> {
    let path = path.canonicalize().map_err(|source| WorkspaceError::Io {
        doing: "find",
        path: path.to_owned(),
        source,
    })?;
    let folder = match path.parent() {
        Some(parent) if !path.is_dir() => parent,
        _ => &path,
    };
    let top = match ask(folder, &["rev-parse", "--show-toplevel"]).await {
        Ok(top) => top.map(|top| one_line(&top)).filter(|top| !top.is_empty()),
        // Without git there is no repository; what needs one says so.
        Err(GitError::Start(_)) => None,
        Err(error) => return Err(error.into()),
    };
    match top {
        Some(top) => {
            let repository = read(PathBuf::from(top), "HEAD").await?;
            let project = project_of(&path);
            let nested = project.filter(|project| **project != repository.root);
            Ok(match nested {
                Some(project) => narrowed_to(repository, project),
                None => repository,
            })
        }
        // A repository that git refuses (of another user) must not pass for a plain folder.
        None if folder
            .ancestors()
            .any(|folder| folder.join(".git").exists()) =>
        {
            git::run(folder, Work::Question, &["rev-parse", "--show-toplevel"]).await?;
            Ok(Repository::plain(project_root(&path, folder)))
        }
        None => Ok(Repository::plain(project_root(&path, folder))),
    }
}

/// The same repository at another commit, branch or tag, without what is not committed.
pub async fn at(repository: &Repository, revision: &str) -> Result<Repository, WorkspaceError> {
    if !repository.managed {
        return Err(WorkspaceError::NoCommit {
            root: repository.root.clone(),
        });
    }
    // A name that begins with a dash would be an option.
    let commit = format!("{revision}^{{commit}}");
    let args = [
        "rev-parse",
        "--verify",
        "--quiet",
        "--end-of-options",
        &commit,
    ];
    let sha = one_line(
        &git::run(&repository.root, Work::Question, &args)
            .await
            .map_err(|error| match error {
                GitError::Failed { what, root, .. } => GitError::Failed {
                    what,
                    root,
                    stderr: format!("there is no commit `{revision}`"),
                },
                other => other,
            })?,
    );
    let mut at = read(repository.root.clone(), &sha).await?;
    at.uncommitted.clear();
    let name = [
        "rev-parse",
        "--symbolic-full-name",
        "--end-of-options",
        revision,
    ];
    let name = ask(&repository.root, &name)
        .await?
        .map(|name| one_line(&name));
    at.reference = match name.as_deref() {
        Some("HEAD") => repository.reference.clone(),
        Some(name) => reference(name),
        None => Reference::Detached,
    };
    Ok(at)
}

/// A project of its own in a folder of the repository: one that has a `.github` there. Commit and branch are those of
/// the repository around it, files and changes its own; it has no `.git`.
fn narrowed_to(repository: Repository, project: &Path) -> Repository {
    let below = |paths: Vec<String>| -> Vec<String> {
        let inside = project.strip_prefix(&repository.root).unwrap_or(project);
        let paths = paths.iter().filter_map(|path| {
            let path = Path::new(path).strip_prefix(inside).ok()?;
            Some(path.to_string_lossy().into_owned())
        });
        paths.collect()
    };
    let owner = repository.slug.owner.clone();
    Repository {
        slug: Slug {
            host: None,
            owner,
            ..Slug::of_folder(project)
        },
        managed: false,
        head: repository.head.map(|head| Head {
            changed: head.changed.map(below),
            changed_on_branch: head.changed_on_branch.map(below),
            ..head
        }),
        uncommitted: below(repository.uncommitted),
        root: project.to_owned(),
        ..repository
    }
}

async fn read(root: PathBuf, revision: &str) -> Result<Repository, WorkspaceError> {
    const STATUS: [&str; 5] = [
        "status",
        "--porcelain=v1",
        "-z",
        "--no-renames",
        "--untracked-files=all",
    ];
    let questions = tokio::try_join!(
        ask(&root, &["symbolic-ref", "--quiet", "HEAD"]),
        ask(&root, &["describe", "--tags", "--exact-match", "HEAD"]),
        ask(&root, &["remote", "get-url", "origin"]),
        ask(&root, &["config", "user.name"]),
        ask(&root, &["config", "user.email"]),
        git::run(&root, Work::Question, &STATUS),
    )?;
    let (branch, tag, origin, name, email, status) = questions;
    let line = |answer: Option<Vec<u8>>| answer.map(|a| one_line(&a)).filter(|l| !l.is_empty());
    let reference = match (line(branch), line(tag)) {
        (Some(branch), _) => reference(&branch),
        (None, Some(tag)) => Reference::Tag(tag),
        (None, None) => Reference::Detached,
    };
    let origin = line(origin).map(|url| without_password(&url));
    let default_branch = default_branch(&root, &reference).await?;
    Ok(Repository {
        slug: origin
            .as_deref()
            .and_then(Slug::of_url)
            .unwrap_or_else(|| Slug::of_folder(&root)),
        managed: true,
        origin,
        user: (line(name), line(email)),
        head: read_head(&root, revision, &default_branch).await?,
        default_branch,
        reference,
        uncommitted: changed_paths(&status),
        root,
    })
}

async fn read_head(
    root: &Path,
    revision: &str,
    default_branch: &str,
) -> Result<Option<Head>, WorkspaceError> {
    const FORMAT: &str = "--format=%H%x00%T%x00%P%x00%an%x00%ae%x00%cn%x00%ce%x00%cI%x00%B";
    let show = [
        "show",
        "--no-show-signature",
        "--no-patch",
        FORMAT,
        revision,
    ];
    let Some(answer) = ask(root, &show).await? else {
        return Ok(None);
    };
    let commit = parse_commit(&answer).ok_or_else(|| WorkspaceError::Answer {
        root: root.to_owned(),
        expected: "a commit",
        seen: String::from_utf8_lossy(&answer[..answer.len().min(200)]).into_owned(),
    })?;
    let changed = if let Some(parent) = &commit.parent {
        ask(root, &diff(&[parent, &commit.sha])).await?
    } else {
        let shallow = ask(root, &["rev-parse", "--is-shallow-repository"]).await?;
        match shallow.map(|answer| one_line(&answer)).as_deref() {
            // Its parent is not here, so this is not the first commit.
            Some("true") => None,
            _ => ask(root, &["ls-tree", "-r", "-z", "--name-only", &commit.sha]).await?,
        }
    };
    let mut base = None;
    for name in ["refs/remotes/origin/", "refs/heads/"] {
        let name = format!("{name}{default_branch}^{{commit}}");
        base = ask(root, &["rev-parse", "--verify", "--quiet", &name]).await?;
        if base.is_some() {
            break;
        }
    }
    let base = base.map(|answer| one_line(&answer));
    let changed_on_branch = match &base {
        Some(base) => {
            let range = format!("{base}...{}", commit.sha);
            ask(root, &diff(&[&range])).await?
        }
        None => None,
    };
    let names = |answer: Vec<u8>| git::paths(&answer).map(lossy).collect();
    Ok(Some(Head {
        commit,
        changed: changed.map(names),
        changed_on_branch: changed_on_branch.map(names),
        base,
    }))
}

fn parse_commit(answer: &[u8]) -> Option<Commit> {
    let text = String::from_utf8_lossy(answer);
    let fields: Vec<&str> = text.splitn(9, '\0').collect();
    let [
        sha,
        tree,
        parents,
        author,
        author_mail,
        committer,
        committer_mail,
        time,
        message,
    ] = fields[..]
    else {
        return None;
    };
    Some(Commit {
        sha: sha.to_owned(),
        tree: tree.to_owned(),
        parent: parents
            .split(' ')
            .next()
            .filter(|p| !p.is_empty())
            .map(str::to_owned),
        author: (author.to_owned(), author_mail.to_owned()),
        committer: (committer.to_owned(), committer_mail.to_owned()),
        time: time.to_owned(),
        message: message.trim_end_matches('\n').to_owned(),
    })
}

/// The folder that a plain file is of: the one that holds `.github`, when it lies in there.
fn project_root(path: &Path, folder: &Path) -> PathBuf {
    project_of(path).unwrap_or(folder).to_owned()
}

/// The folder whose `.github` a path is in.
fn project_of(path: &Path) -> Option<&Path> {
    let github = path
        .ancestors()
        .find(|a| a.file_name().is_some_and(|n| n == ".github"));
    github.and_then(Path::parent)
}

/// What `origin` says, else a branch with a usual name, else the branch that is checked out.
async fn default_branch(root: &Path, reference: &Reference) -> Result<String, GitError> {
    let remote = ["symbolic-ref", "--quiet", "refs/remotes/origin/HEAD"];
    if let Some(answer) = ask(root, &remote).await?
        && let Some(name) = one_line(&answer).strip_prefix("refs/remotes/origin/")
    {
        return Ok(name.to_owned());
    }
    for name in ["main", "master"] {
        for kind in ["heads", "remotes/origin"] {
            let full = format!("refs/{kind}/{name}");
            if ask(root, &["show-ref", "--verify", "--quiet", &full])
                .await?
                .is_some()
            {
                return Ok(name.to_owned());
            }
        }
    }
    Ok(match reference {
        Reference::Branch(name) => name.clone(),
        Reference::Tag(_) | Reference::Detached => "main".to_owned(),
    })
}

fn reference(full: &str) -> Reference {
    if let Some(branch) = full.strip_prefix("refs/heads/") {
        return Reference::Branch(branch.to_owned());
    }
    if let Some(branch) = full.strip_prefix("refs/remotes/origin/") {
        return Reference::Branch(branch.to_owned());
    }
    match full.strip_prefix("refs/tags/") {
        Some(tag) => Reference::Tag(tag.to_owned()),
        None => Reference::Detached,
    }
}

/// The names of files that differ.
fn diff<'a>(range: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["diff", "--name-only", "-z", "--no-renames", "--no-ext-diff"];
    args.extend(range);
    args
}

/// `https://user:password@host/…` becomes `https://host/…`: the URL is shown to steps and kept with the run.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    match authority.rsplit_once('@') {
        Some((user, host)) if user.contains(':') || scheme.starts_with("http") => {
            format!("{scheme}://{host}/{path}")
        }
        _ => url.to_owned(),
    }
}

/// The paths of `git status --porcelain=v1 -z --no-renames`: two letters, a space, the path.
fn changed_paths(status: &[u8]) -> Vec<String> {
    let entries = status
        .split(|byte| *byte == 0)
        .filter(|entry| entry.len() > 3);
    entries
        .map(|entry| String::from_utf8_lossy(&entry[3..]).into_owned())
        .collect()
}

fn one_line(answer: &[u8]) -> String {
    let text = String::from_utf8_lossy(answer);
    text.trim_end_matches(['\n', '\r']).to_owned()
}

fn lossy(path: PathBuf) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Scratch, scratch};
    use super::*;
    use vmint_syntax::event::repository::NO_COMMIT;

    #[test]
    fn a_password_in_the_remotes_url_is_left_out() {
        for (url, shown) in [
            ("https://me:secret@host/o/r", "https://host/o/r"),
            ("https://token@host/o/r", "https://host/o/r"),
            ("ssh://git@host/o/r", "ssh://git@host/o/r"),
            ("git@host:o/r", "git@host:o/r"),
        ] {
            assert_eq!(without_password(url), shown);
        }
    }

    #[tokio::test]
    async fn a_project_in_a_folder_of_a_repository_is_one_of_its_own() {
        let scratch = scratch("outer");
        scratch.init();
        scratch.write("README", "1");
        scratch.write("examples/inner/.github/workflows/ci.yml", "on: push");
        scratch.write("examples/inner/a", "1");
        scratch.commit("one");
        scratch.write("examples/inner/a", "2");
        scratch.write("README", "2");
        let project = scratch.root.join("examples/inner");
        let file = project.join(".github/workflows/ci.yml");
        let inner = discover(&file).await.unwrap();
        assert_eq!((&inner.root, inner.managed), (&project, false));
        assert_eq!(
            (&*inner.slug.name, inner.git_ref()),
            ("inner", "refs/heads/main".to_owned())
        );
        assert_eq!(inner.uncommitted, ["a"]);
        let outer = discover(&scratch.root).await.unwrap();
        assert_eq!((outer.managed, inner.sha()), (true, outer.sha()));
    }

    #[tokio::test]
    async fn a_folder_without_git_stands_for_itself() {
        let Scratch { root, .. } = scratch("plain");
        std::fs::create_dir_all(root.join(".github/workflows")).unwrap();
        let file = root.join(".github/workflows/ci.yml");
        std::fs::write(&file, "").unwrap();
        let found = discover(&file).await.unwrap();
        assert_eq!(
            (found.root.as_path(), found.managed),
            (root.as_path(), false)
        );
        assert_eq!(found.sha(), NO_COMMIT);
        assert_eq!((&*found.slug.owner, &*found.slug.name), ("local", "plain"));
        assert!(at(&found, "HEAD").await.is_err());
    }

    #[tokio::test]
    async fn a_repository_tells_its_commit_branch_owner_and_changes() {
        let own = scratch("repo");
        own.init();
        own.write("a.txt", "a");
        own.write("dir/b.txt", "b");
        own.commit("First");
        let first = discover(&own.root).await.unwrap();
        let head = first.head.as_ref().unwrap();
        assert_eq!(
            head.changed.as_deref(),
            Some(&["a.txt".to_owned(), "dir/b.txt".to_owned()][..])
        );
        assert!(!first.is_dirty());

        own.git(&["checkout", "-q", "-b", "feature/x"]);
        own.git(&[
            "remote",
            "add",
            "origin",
            "git@github.com:octocat/hello.git",
        ]);
        own.write("ü c.txt", "c");
        own.commit("Second\n\nWith a body");
        own.write("d.txt", "d");
        let second = discover(&own.root.join("dir")).await.unwrap();
        let head = second.head.as_ref().unwrap();
        assert_eq!(second.root, own.root);
        assert_eq!(second.git_ref(), "refs/heads/feature/x");
        assert_eq!(second.default_branch, "main");
        assert_eq!(
            (&*second.slug.owner, &*second.slug.name),
            ("octocat", "hello")
        );
        assert_eq!(head.changed.as_deref(), Some(&["ü c.txt".to_owned()][..]));
        assert_eq!(head.changed_on_branch, head.changed);
        assert_eq!(head.commit.parent.as_deref(), Some(first.sha()));
        assert_eq!(head.commit.message, "Second\n\nWith a body");
        assert_eq!(second.uncommitted, ["d.txt"]);
        assert_eq!(second.user.0.as_deref(), Some("Mona"));

        let back = at(&second, "main").await.unwrap();
        assert_eq!(
            (back.sha(), back.git_ref()),
            (first.sha(), "refs/heads/main".to_owned())
        );
        let error = at(&second, "--output=x").await.unwrap_err().to_string();
        assert!(error.contains("there is no commit `--output=x`"), "{error}");
    }

    #[tokio::test]
    async fn a_tag_is_told_when_no_branch_is_checked_out() {
        let own = scratch("tag");
        own.init();
        own.write("a", "a");
        own.commit("First");
        own.git(&["tag", "v1"]);
        own.git(&["checkout", "-q", "--detach"]);
        let found = discover(&own.root).await.unwrap();
        assert_eq!(found.git_ref(), "refs/tags/v1");
    }

    #[tokio::test]
    async fn a_repository_without_commits_has_none() {
        let own = scratch("unborn");
        own.init();
        let found = discover(&own.root).await.unwrap();
        assert_eq!(
            (found.sha(), found.git_ref()),
            (NO_COMMIT, "refs/heads/main".to_owned())
        );
    }
}
