//! `volumes` of a service, and the folders of a docker action.

/// A folder of the machine, a named volume or an empty volume, as a folder of the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Where from.
    pub source: Source,
    /// Where it is in the container.
    pub target: String,
    /// What the container may do with it.
    pub access: Access,
}

/// Where a volume comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file or folder of the machine.
    Path(String),
    /// A volume that the engine keeps under this name.
    Named(String),
    /// A new one.
    Anonymous,
}

/// What a container may do with a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// All.
    ReadWrite,
    /// `ro`.
    ReadOnly,
}

/// Not a volume.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VolumeError {
    /// Too few or too many parts.
    #[error("`{0}` is not a volume: write SOURCE:TARGET, SOURCE:TARGET:ro or TARGET")]
    Malformed(String),
    /// Of the container, a path has to be absolute.
    #[error("`{0}`: the path in the container has to begin with `/`")]
    Relative(String),
    /// The third part.
    #[error("`{volume}`: `{mode}` is not supported, `ro` and `rw` are")]
    Mode {
        /// The whole.
        volume: String,
        /// Its third part.
        mode: String,
    },
}

impl Volume {
    /// A folder of the machine that the container may write to.
    pub fn folder(source: impl Into<String>, target: impl Into<String>) -> Self {
        Self {
            source: Source::Path(source.into()),
            target: target.into(),
            access: Access::ReadWrite,
        }
    }

    /// `SOURCE:TARGET[:ro]`, `TARGET[:ro]`.
    pub fn parse(text: &str) -> Result<Self, VolumeError> {
        let shown = || text.chars().take(200).collect::<String>();
        let parts: Vec<&str> = text.split(':').collect();
        let (source, target, mode) = match parts[..] {
            [target] => (None, target, None),
            [target, mode @ ("ro" | "RO" | "Ro")] => (None, target, Some(mode)),
            [source, target] => (Some(source), target, None),
            [source, target, mode] => (Some(source), target, Some(mode)),
            _ => return Err(VolumeError::Malformed(shown())),
        };
        let is_unfit = |part: &str| part.is_empty() || part.contains('\0');
        if is_unfit(target) || source.is_some_and(is_unfit) {
            return Err(VolumeError::Malformed(shown()));
        }
        if !target.starts_with('/') {
            return Err(VolumeError::Relative(shown()));
        }
        // What docker knows besides has no effect in a machine without SELinux.
        let access = match &*mode.unwrap_or("rw").to_ascii_lowercase() {
            "ro" => Access::ReadOnly,
            "rw" | "z" | "cached" | "delegated" | "consistent" => Access::ReadWrite,
            mode => {
                return Err(VolumeError::Mode {
                    volume: shown(),
                    mode: mode.chars().take(50).collect(),
                });
            }
        };
        let source = match source {
            None => Source::Anonymous,
            Some(path) if path.starts_with('/') => Source::Path(path.to_owned()),
            Some(name) if name.starts_with(|c: char| c.is_ascii_alphanumeric()) => {
                Source::Named(name.to_owned())
            }
            Some(_) => return Err(VolumeError::Malformed(shown())),
        };
        Ok(Self {
            source,
            target: target.to_owned(),
            access,
        })
    }

    /// As the argument of `--volume`.
    pub fn argument(&self) -> String {
        let mut argument = String::new();
        if let Source::Path(source) | Source::Named(source) = &self.source {
            argument.push_str(source);
            argument.push(':');
        }
        argument.push_str(&self.target);
        if self.access == Access::ReadOnly {
            argument.push_str(":ro");
        }
        argument
    }

    /// The path that has to be in the machine.
    pub fn path(&self) -> Option<&str> {
        match &self.source {
            Source::Path(path) => Some(path),
            Source::Named(_) | Source::Anonymous => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_those_of_githubs_documents() {
        for (text, source) in [
            (
                "my_docker_volume:/volume_mount",
                Source::Named("my_docker_volume".into()),
            ),
            ("/data/my_data", Source::Anonymous),
            (
                "/source/directory:/destination/directory",
                Source::Path("/source/directory".into()),
            ),
            ("/a:/b:ro", Source::Path("/a".into())),
        ] {
            let volume = Volume::parse(text).unwrap();
            assert_eq!(volume.source, source);
            assert_eq!(volume.argument(), text);
        }
        let shared = Volume::parse("/a:/b:Z").unwrap();
        assert_eq!(shared.argument(), "/a:/b");
        assert_eq!(shared.path(), Some("/a"));
    }

    #[test]
    fn what_is_no_volume_is_refused() {
        for (text, message) in [
            (
                "",
                "`` is not a volume: write SOURCE:TARGET, SOURCE:TARGET:ro or TARGET",
            ),
            (
                "./a:/b",
                "`./a:/b` is not a volume: write SOURCE:TARGET, SOURCE:TARGET:ro or TARGET",
            ),
            (
                "--x:/b",
                "`--x:/b` is not a volume: write SOURCE:TARGET, SOURCE:TARGET:ro or TARGET",
            ),
            (
                "/a:b",
                "`/a:b`: the path in the container has to begin with `/`",
            ),
            (
                "/a:/b:nosuid",
                "`/a:/b:nosuid`: `nosuid` is not supported, `ro` and `rw` are",
            ),
        ] {
            assert_eq!(Volume::parse(text).unwrap_err().to_string(), message);
        }
    }
}
