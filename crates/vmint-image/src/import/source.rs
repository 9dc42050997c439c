//! What can be imported, as a user names it.

use super::registry::Reference;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Where a root file system comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportSource {
    /// A tar of a root file system, compressed or not.
    Tar(PathBuf),
    /// A folder in OCI's image layout, `oci:DIR[:TAG]`.
    OciDir {
        /// The folder.
        dir: PathBuf,
        /// Which of its images.
        tag: Option<String>,
    },
    /// A tar of such a folder, or of `docker save`, `oci-archive:FILE[:TAG]`.
    OciArchive {
        /// The archive.
        file: PathBuf,
        /// Which of its images.
        tag: Option<String>,
    },
    /// An image in a registry, `docker://REF`.
    Registry(Reference),
}

/// A string that names no source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} cannot be imported: {reason}")]
pub struct InvalidSource {
    text: String,
    reason: String,
}

impl FromStr for ImportSource {
    type Err = InvalidSource;

    fn from_str(s: &str) -> Result<Self, InvalidSource> {
        let fail = |reason: &str| InvalidSource {
            text: s.chars().take(200).collect(),
            reason: reason.to_owned(),
        };
        if let Some(reference) = s.strip_prefix("docker://") {
            let reference = reference.parse().map_err(|e: String| fail(&e))?;
            return Ok(Self::Registry(reference));
        }
        for scheme in ["oci:", "oci-archive:"] {
            if let Some(rest) = s.strip_prefix(scheme) {
                if rest.is_empty() {
                    return Err(fail("a path is missing"));
                }
                let (path, tag) = split_tag(rest);
                return Ok(if scheme == "oci:" {
                    Self::OciDir { dir: path, tag }
                } else {
                    Self::OciArchive { file: path, tag }
                });
            }
        }
        match s.split_once("://") {
            _ if s.is_empty() => Err(fail("a path is missing")),
            Some((scheme, _)) if scheme.bytes().all(|b| b.is_ascii_alphanumeric()) => Err(fail(
                "a path, oci:DIR, oci-archive:FILE or docker://REF is needed",
            )),
            _ => Ok(Self::Tar(s.into())),
        }
    }
}

/// What is behind the last colon is a tag, unless all of it is a path that exists.
fn split_tag(text: &str) -> (PathBuf, Option<String>) {
    match text.rsplit_once(':') {
        Some((path, tag))
            if !path.is_empty()
                && !tag.is_empty()
                && !tag.contains('/')
                && !PathBuf::from(text).exists() =>
        {
            (path.into(), Some(tag.to_owned()))
        }
        _ => (text.into(), None),
    }
}

impl fmt::Display for ImportSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, path, tag) = match self {
            Self::Tar(path) => return write!(f, "{}", path.display()),
            Self::Registry(reference) => return write!(f, "docker://{reference}"),
            Self::OciDir { dir, tag } => ("oci", dir, tag),
            Self::OciArchive { file, tag } => ("oci-archive", file, tag),
        };
        write!(f, "{scheme}:{}", path.display())?;
        tag.iter().try_for_each(|tag| write!(f, ":{tag}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_read_back_as_written() {
        for text in [
            "a.tar",
            "/a b/c:d.tar",
            "oci:dir",
            "oci:/dir:1.2",
            "oci-archive:x.tar",
            "oci-archive:x.tar:v1",
            "docker://localhost:5000/a/b:c",
        ] {
            let source: ImportSource = text.parse().unwrap();
            assert_eq!(source.to_string(), text, "{source:?}");
        }
        for bad in ["", "oci:", "docker://", "docker://a b", "http://x/y.tar"] {
            assert!(bad.parse::<ImportSource>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_colon_in_a_path_that_exists_is_no_tag() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a:b");
        std::fs::create_dir(&path).unwrap();
        let source: ImportSource = format!("oci:{}", path.display()).parse().unwrap();
        assert_eq!(
            source,
            ImportSource::OciDir {
                dir: path,
                tag: None
            }
        );
    }
}
