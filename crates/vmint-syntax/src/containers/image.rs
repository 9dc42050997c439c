//! Names of container images.

use std::fmt;

/// The name of an image as a workflow gives it: `redis:7`, `ghcr.io/owner/name@sha256:…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image(String);

/// A name that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// Nothing.
    #[error("the name of the image is empty")]
    Empty,
    /// An engine would take it for something else.
    #[error("“{0}” is not the name of an image, such as `redis:7` or `ghcr.io/owner/name:tag`")]
    Malformed(String),
}

impl Image {
    /// With or without `docker://` in front, in whatever case.
    pub fn parse(text: &str) -> Result<Self, ImageError> {
        let name = strip_scheme(text).unwrap_or(text).trim();
        if name.is_empty() {
            return Err(ImageError::Empty);
        }
        let fits = |c: char| c.is_ascii_alphanumeric() || "._-:/@+".contains(c);
        if name.starts_with('-') || name.contains("://") || !name.chars().all(fits) {
            let shown = name.chars().take(200).collect();
            return Err(ImageError::Malformed(shown));
        }
        Ok(Self(name.to_owned()))
    }

    /// As in the workflow.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The registry, if it is not Docker Hub.
    pub fn registry(&self) -> Option<&str> {
        let (first, _) = self.0.split_once('/')?;
        let is_host = first.contains(['.', ':']) || first == "localhost";
        (is_host && first != "docker.io").then_some(first)
    }

    /// With its registry: `redis` is `docker.io/library/redis`. Docker assumes so, podman does not.
    pub fn qualified(&self) -> String {
        let name = self.0.strip_prefix("docker.io/").unwrap_or(&self.0);
        match (self.registry(), name.contains('/')) {
            (Some(_), _) => self.0.clone(),
            (None, true) => format!("docker.io/{name}"),
            (None, false) => format!("docker.io/library/{name}"),
        }
    }
}

/// What follows `docker://`, in whatever case.
pub fn strip_scheme(text: &str) -> Option<&str> {
    const SCHEME: &str = "docker://";
    let start = text.get(..SCHEME.len())?;
    start
        .eq_ignore_ascii_case(SCHEME)
        .then(|| &text[SCHEME.len()..])
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_is_docker_hubs() {
        for (name, registry, qualified) in [
            ("redis", None, "docker.io/library/redis"),
            ("redis:7", None, "docker.io/library/redis:7"),
            ("docker.io/redis", None, "docker.io/library/redis"),
            ("docker://bitnami/redis", None, "docker.io/bitnami/redis"),
            (
                "DOCKER://redis@sha256:0f",
                None,
                "docker.io/library/redis@sha256:0f",
            ),
            ("ghcr.io/a/b:1", Some("ghcr.io"), "ghcr.io/a/b:1"),
            ("localhost/a", Some("localhost"), "localhost/a"),
            ("reg:5000/a", Some("reg:5000"), "reg:5000/a"),
        ] {
            let image = Image::parse(name).unwrap();
            assert_eq!(image.registry(), registry, "{name}");
            assert_eq!(image.qualified(), qualified, "{name}");
        }
    }

    #[test]
    fn what_an_engine_would_take_for_an_option_is_no_image() {
        assert_eq!(Image::parse(" "), Err(ImageError::Empty));
        assert_eq!(Image::parse("docker://"), Err(ImageError::Empty));
        for name in ["--privileged", "a b", "a\nb", "http://x/y", "a$(b)", "ä"] {
            assert!(
                matches!(Image::parse(name), Err(ImageError::Malformed(_))),
                "{name}"
            );
        }
    }
}
