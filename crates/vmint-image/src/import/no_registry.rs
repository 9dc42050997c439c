//! What is left of registries in a build without them: images keep their names, and are not pulled.

use super::error::ImportError;
use crate::progress::Progress;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// An image in a registry, as it was written. Whether it is a reference is seen by who pulls it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference(String);

impl FromStr for Reference {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        if s.is_empty() || s.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err("it is not a reference to an image".to_owned());
        }
        Ok(Self(s.to_owned()))
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Says what is missing.
pub(super) fn pull(
    reference: &Reference,
    _dir: &Path,
    _limit: u64,
    _progress: &dyn Progress,
) -> Result<(), ImportError> {
    Err(ImportError::NoRegistry {
        reference: reference.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;
    use vmint_model::Explained;

    #[test]
    fn an_image_of_a_registry_keeps_its_name_and_is_refused_with_what_is_missing() {
        let reference: Reference = "alpine:3.20".parse().unwrap();
        let error = pull(&reference, Path::new("/nowhere"), 0, &Silent).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot pull alpine:3.20: this build of vmint lacks the feature `registry`"
        );
        let hint = error.hint().unwrap();
        assert!(
            hint.contains("`vmint image import NAME docker://alpine:3.20`"),
            "{hint}"
        );
    }
}
