//! Artifacts, kept with the run: `artifacts/NAME.tar` below its folder, with what is known of it in `NAME.json`.
//!
//! The rules are those of version 4 of `upload-artifact` and `download-artifact`: an artifact is uploaded at once and never
//! changed; a name that is taken is an error unless it is overwritten. The content comes from a machine and is not trusted:
//! [`Artifacts::unpack`] has it unpacked by [`vmint_files`].

use crate::glob::Name;
use crate::spool::{self, Draft, Taken};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;
use tokio::sync::mpsc::Sender;
use vmint_files::{UnpackError, Unpacked};

/// The artifacts of a run.
#[derive(Clone, Debug)]
pub struct Artifacts {
    folder: PathBuf,
    limit: u64,
}

/// An artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// Its name.
    pub name: String,
    /// Size of its tar in bytes.
    pub size: u64,
    /// SHA-256 of its tar, in hexadecimal digits.
    pub digest: String,
    /// `retention-days`, which is recorded and has no effect: artifacts stay as long as their run.
    pub retention_days: Option<u32>,
}

/// A name that an artifact may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArtifactName(String);

/// `if-no-files-found`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IfNoFiles {
    /// Say so and go on.
    #[default]
    Warn,
    /// Fail.
    Error,
    /// Go on.
    Ignore,
}

/// Which artifacts to download.
#[derive(Clone, Debug)]
pub enum Select {
    /// The one with this name.
    Name(String),
    /// Those whose names match: `*`, `?`, `[…]`.
    Pattern(String),
    /// All.
    All,
}

/// What several artifacts become when they are downloaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Each a folder with its name.
    Folders,
    /// All in one: `merge-multiple`.
    Merged,
}

/// Why something cannot be done with artifacts.
#[derive(Debug, Error)]
pub enum ArtifactError {
    /// A bad name.
    #[error("an artifact cannot be named {name:?}: {why}")]
    Name {
        /// The name, shortened.
        name: String,
        /// Why not.
        why: String,
    },
    /// The name is taken.
    #[error(
        "the run has an artifact `{name}` already; give this one another name (in a matrix: one for each job), or set `overwrite: true`"
    )]
    Taken {
        /// The name.
        name: String,
    },
    /// No such artifact.
    #[error("the run has no artifact `{name}`; {}", it_has(.there))]
    Missing {
        /// The name.
        name: String,
        /// The artifacts that there are.
        there: Vec<String>,
    },
    /// A bad `if-no-files-found`.
    #[error("`if-no-files-found` cannot be `{value}`: warn, error or ignore")]
    IfNoFiles {
        /// The value.
        value: String,
    },
    /// What a machine sent was not unpacked.
    #[error("cannot unpack artifact `{name}`")]
    Unpack {
        /// The artifact.
        name: String,
        /// Why not.
        source: UnpackError,
    },
    /// The host's disk failed.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

fn it_has(names: &[String]) -> String {
    match names {
        [] => "it has none so far".to_owned(),
        names => format!("it has {}", names.join(", ")),
    }
}

impl ArtifactName {
    /// Checks a name by GitHub's rules.
    pub fn new(name: &str) -> Result<Self, ArtifactError> {
        /// What the file system allows, with the endings of the files.
        const LONGEST: usize = 240;
        const ILLEGAL: &str = "\":<>|*?\r\n\\/\0";
        let why = if name.is_empty() {
            "it is empty".to_owned()
        } else if let Some(c) = name.chars().find(|c| ILLEGAL.contains(*c)) {
            format!("it holds {c:?}, and none of \" : < > | * ? \\ / or a line break is allowed")
        } else if name == "." || name == ".." {
            "it is the name of every folder".to_owned()
        } else if name.starts_with(spool::TEMPORARY) {
            "such names are used while files are written".to_owned()
        } else if name.len() > LONGEST {
            format!("it is longer than {LONGEST} bytes")
        } else {
            return Ok(Self(name.to_owned()));
        };
        let name = name.chars().take(100).collect();
        Err(ArtifactError::Name { name, why })
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for IfNoFiles {
    type Err = ArtifactError;

    fn from_str(value: &str) -> Result<Self, ArtifactError> {
        match value {
            "" | "warn" => Ok(Self::Warn),
            "error" => Ok(Self::Error),
            "ignore" => Ok(Self::Ignore),
            other => Err(ArtifactError::IfNoFiles {
                value: other.to_owned(),
            }),
        }
    }
}

impl Artifacts {
    /// Those in a folder, which is made when the first is uploaded. None may be larger than `limit` bytes.
    pub fn new(folder: PathBuf, limit: u64) -> Self {
        Self { folder, limit }
    }

    /// Begins an upload: [fill](Draft::fill) the draft, then [keep](Self::keep) it. A name that is taken is told now,
    /// before anything is sent.
    pub fn begin(&self, name: &ArtifactName, taken: Taken) -> Result<Draft, ArtifactError> {
        if taken == Taken::Refuse && self.file(name, "tar").exists() {
            return Err(ArtifactError::Taken {
                name: name.0.clone(),
            });
        }
        let made = std::fs::create_dir_all(&self.folder);
        made.and_then(|()| Draft::new(&self.folder, self.limit))
            .map_err(failed("keep an artifact in", &self.folder))
    }

    /// Ends an upload.
    pub fn keep(
        &self,
        name: &ArtifactName,
        draft: Draft,
        taken: Taken,
        retention_days: Option<u32>,
    ) -> Result<Artifact, ArtifactError> {
        let artifact = Artifact {
            name: name.0.clone(),
            size: draft.size(),
            digest: draft.digest(),
            retention_days,
        };
        let path = self.file(name, "tar");
        draft
            .keep(&path, taken)
            .map_err(|source| match source.kind() {
                io::ErrorKind::AlreadyExists => ArtifactError::Taken {
                    name: name.0.clone(),
                },
                _ => failed("write", &path)(source),
            })?;
        let path = self.file(name, "json");
        let json = serde_json::to_vec(&artifact).map_err(io::Error::other);
        let written = json.and_then(|json| spool::write(&path, &json));
        written.map_err(failed("write", &path))?;
        Ok(artifact)
    }

    /// All artifacts, by name. Files that are none are passed over.
    pub fn list(&self) -> Result<Vec<Artifact>, ArtifactError> {
        let entries = match std::fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed("list", &self.folder))?,
        };
        let mut artifacts = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed("list", &self.folder))?;
            let file = entry.file_name();
            let name = file.to_str().and_then(|file| file.strip_suffix(".json"));
            let Some(name) = name.and_then(|name| ArtifactName::new(name).ok()) else {
                continue;
            };
            let known = spool::read(&entry.path()).ok();
            let known = known.and_then(|json| serde_json::from_slice::<Artifact>(&json).ok());
            let there = std::fs::metadata(self.file(&name, "tar")).map(|tar| tar.len());
            let whole = |known: &Artifact| {
                known.name == name.0 && there.is_ok_and(|size| size == known.size)
            };
            artifacts.extend(known.filter(whole));
        }
        artifacts.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(artifacts)
    }

    /// The artifacts that are meant. A name that there is not is an error; a pattern may match none.
    pub fn select(&self, select: &Select) -> Result<Vec<Artifact>, ArtifactError> {
        let mut all = self.list()?;
        match select {
            Select::All => {}
            Select::Pattern(pattern) => {
                let pattern = Name::parse(pattern);
                all.retain(|artifact| pattern.matches(&artifact.name));
            }
            Select::Name(name) => {
                let there: Vec<String> = all.iter().map(|a| a.name.clone()).collect();
                all.retain(|artifact| artifact.name == *name);
                if all.is_empty() {
                    let name = name.clone();
                    return Err(ArtifactError::Missing { name, there });
                }
            }
        }
        Ok(all)
    }

    /// Hands the tar of an artifact over, for a machine.
    pub async fn send(
        &self,
        artifact: &Artifact,
        tar: Sender<io::Result<Bytes>>,
    ) -> Result<(), ArtifactError> {
        let (path, file) = self.open(artifact)?;
        spool::send(file, tar).await.map_err(failed("read", &path))
    }

    /// Unpacks an artifact into a folder of this host, which is made if need be. Links that lead elsewhere, and what is
    /// neither file, folder nor link, are refused. Blocks.
    pub fn unpack(&self, artifact: &Artifact, into: &Path) -> Result<Unpacked, ArtifactError> {
        let (_, file) = self.open(artifact)?;
        std::fs::create_dir_all(into).map_err(failed("make", into))?;
        let folder = std::fs::File::open(into).map_err(failed("open", into))?;
        let options = vmint_files::Options {
            symlinks: vmint_files::Symlinks::Descending,
            specials: vmint_files::Specials::Refuse,
            xattrs: vmint_files::Xattrs::Drop,
            ..vmint_files::Options::default()
        };
        vmint_files::unpack(file, folder.into(), options).map_err(|source| ArtifactError::Unpack {
            name: artifact.name.clone(),
            source,
        })
    }

    fn open(&self, artifact: &Artifact) -> Result<(PathBuf, std::fs::File), ArtifactError> {
        let path = self.file(&ArtifactName::new(&artifact.name)?, "tar");
        let file = std::fs::File::open(&path).map_err(failed("read", &path))?;
        Ok((path, file))
    }

    fn file(&self, name: &ArtifactName, ending: &str) -> PathBuf {
        self.folder.join(format!("{}.{ending}", name.0))
    }
}

fn failed(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> ArtifactError {
    let path = path.to_owned();
    move |source| ArtifactError::Io {
        doing,
        path: path.clone(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::testing::{received, sent};

    fn store() -> (tempfile::TempDir, Artifacts) {
        let folder = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::new(folder.path().join("artifacts"), 1 << 20);
        (folder, artifacts)
    }

    async fn upload(
        artifacts: &Artifacts,
        name: &str,
        tar: &[u8],
        taken: Taken,
    ) -> Result<Artifact, ArtifactError> {
        let name = ArtifactName::new(name)?;
        let draft = artifacts
            .begin(&name, taken)?
            .fill(sent(tar))
            .await
            .unwrap();
        artifacts.keep(&name, draft, taken, Some(5))
    }

    /// A tar of one entry, whatever its path.
    fn tar_of(path: &str, kind: tar::EntryType, link: &str, content: &[u8]) -> Vec<u8> {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        header.set_cksum();
        let mut builder = tar::Builder::new(Vec::new());
        builder.append(&header, content).unwrap();
        builder.into_inner().unwrap()
    }

    #[tokio::test]
    async fn an_artifact_comes_back_as_it_was_sent() {
        let (folder, artifacts) = store();
        let tar = tar_of("dir/a.txt", tar::EntryType::Regular, "", b"hello");
        let kept = upload(&artifacts, "out", &tar, Taken::Refuse)
            .await
            .unwrap();
        assert_eq!(
            (kept.size, kept.retention_days),
            (tar.len() as u64, Some(5))
        );
        let (to, from) = tokio::sync::mpsc::channel(100);
        artifacts.send(&kept, to).await.unwrap();
        assert_eq!(received(from).await, tar);
        let into = folder.path().join("into");
        artifacts.unpack(&kept, &into).unwrap();
        assert_eq!(std::fs::read(into.join("dir/a.txt")).unwrap(), b"hello");
    }

    #[tokio::test]
    async fn a_name_that_is_taken_is_refused_unless_it_is_overwritten() {
        let (_folder, artifacts) = store();
        upload(&artifacts, "out", b"one", Taken::Refuse)
            .await
            .unwrap();
        let error = upload(&artifacts, "out", b"two", Taken::Refuse)
            .await
            .unwrap_err();
        insta::assert_snapshot!(error, @"the run has an artifact `out` already; give this one another name (in a matrix: one for each job), or set `overwrite: true`");
        let kept = upload(&artifacts, "out", b"three", Taken::Replace)
            .await
            .unwrap();
        assert_eq!(artifacts.list().unwrap(), [kept]);
    }

    #[tokio::test]
    async fn of_two_uploads_at_once_one_is_refused() {
        let (_folder, artifacts) = store();
        let name = ArtifactName::new("out").unwrap();
        let first = artifacts.begin(&name, Taken::Refuse).unwrap();
        let second = artifacts.begin(&name, Taken::Refuse).unwrap();
        artifacts.keep(&name, first, Taken::Refuse, None).unwrap();
        let error = artifacts
            .keep(&name, second, Taken::Refuse, None)
            .unwrap_err();
        assert!(matches!(error, ArtifactError::Taken { .. }), "{error}");
    }

    #[tokio::test]
    async fn artifacts_are_selected_by_name_or_pattern() {
        let (folder, artifacts) = store();
        assert_eq!(artifacts.list().unwrap(), []);
        for name in ["log-a", "log-b", "binary"] {
            upload(&artifacts, name, b"x", Taken::Refuse).await.unwrap();
        }
        std::fs::write(folder.path().join("artifacts/broken.json"), "{").unwrap();
        std::fs::write(folder.path().join("artifacts/log-b.tar"), "cut or grown").unwrap();
        let names = |select| {
            let found = artifacts.select(&select).unwrap();
            found
                .into_iter()
                .map(|a| a.name)
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(names(Select::All), "binary log-a");
        assert_eq!(names(Select::Pattern("log-*".to_owned())), "log-a");
        assert_eq!(names(Select::Pattern("none".to_owned())), "");
        assert_eq!(names(Select::Name("binary".to_owned())), "binary");
        let error = artifacts
            .select(&Select::Name("lib".to_owned()))
            .unwrap_err();
        insta::assert_snapshot!(error, @"the run has no artifact `lib`; it has binary, log-a");
    }

    #[test]
    fn names_follow_githubs_rules() {
        for name in ["build output (3.12)", "größe", ".hidden", "a.tar"] {
            assert_eq!(ArtifactName::new(name).unwrap().as_str(), name);
        }
        let long = "x".repeat(300);
        let errors = ["", "a/b", "a\nb", "..", "a:b", ".incoming-x", &long]
            .map(|name| ArtifactName::new(name).unwrap_err().to_string());
        insta::assert_snapshot!(errors.join("\n"), @r#"
        an artifact cannot be named "": it is empty
        an artifact cannot be named "a/b": it holds '/', and none of " : < > | * ? \ / or a line break is allowed
        an artifact cannot be named "a\nb": it holds '\n', and none of " : < > | * ? \ / or a line break is allowed
        an artifact cannot be named "..": it is the name of every folder
        an artifact cannot be named "a:b": it holds ':', and none of " : < > | * ? \ / or a line break is allowed
        an artifact cannot be named ".incoming-x": such names are used while files are written
        an artifact cannot be named "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx": it is longer than 240 bytes
        "#);
        assert!("fail".parse::<IfNoFiles>().is_err());
        assert_eq!("".parse::<IfNoFiles>().unwrap(), IfNoFiles::Warn);
    }

    #[tokio::test]
    async fn nothing_is_written_outside_of_the_folder() {
        use tar::EntryType;
        let (folder, artifacts) = store();
        let into = folder.path().join("into");
        let mut seen = Vec::new();
        for (path, kind, link) in [
            ("../evil", EntryType::Regular, ""),
            ("/tmp/evil", EntryType::Regular, ""),
            ("a/../../evil", EntryType::Regular, ""),
            ("link", EntryType::Symlink, "/etc/passwd"),
            ("link", EntryType::Symlink, "../evil"),
            ("hard", EntryType::Link, "/etc/passwd"),
            ("pipe", EntryType::Fifo, ""),
        ] {
            let tar = tar_of(path, kind, link, b"");
            let kept = upload(&artifacts, "x", &tar, Taken::Replace).await.unwrap();
            let ArtifactError::Unpack { source, .. } = artifacts.unpack(&kept, &into).unwrap_err()
            else {
                panic!("another error");
            };
            seen.push(source.to_string());
        }
        insta::assert_snapshot!(seen.join("\n"), @r"
        the path `../evil` leaves the target folder
        the path `/tmp/evil` leaves the target folder
        the path `a/../../evil` leaves the target folder
        `link` is a link to elsewhere
        `link` is a link to elsewhere
        the path `/etc/passwd` leaves the target folder
        `pipe` is neither file, folder nor link
        ");
        assert_eq!(std::fs::read_dir(&into).unwrap().count(), 0);
        assert!(!folder.path().join("evil").exists());
    }

    #[tokio::test]
    async fn what_is_too_large_or_broken_off_is_not_kept() {
        let (folder, artifacts) = store();
        let name = ArtifactName::new("x").unwrap();
        let draft = artifacts.begin(&name, Taken::Refuse).unwrap();
        let error = draft.fill(sent(&vec![0; (1 << 20) + 1])).await.unwrap_err();
        insta::assert_snapshot!(error, @"it is larger than 1 MiB, which is as much as may be kept");
        let draft = artifacts.begin(&name, Taken::Refuse).unwrap();
        drop(draft.fill(sent(b"half of it")).await.unwrap());
        assert_eq!(
            std::fs::read_dir(folder.path().join("artifacts"))
                .unwrap()
                .count(),
            0
        );
    }
}
