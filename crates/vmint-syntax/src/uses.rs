//! What `uses` names: a path, an action or workflow of a repository, or an image.

use std::fmt;

/// What `uses` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Uses {
    /// `./PATH` or `$/PATH`.
    Local(LocalUses),
    /// `OWNER/REPOSITORY[/PATH]@REF`.
    Repository(RepositoryUses),
    /// `docker://IMAGE`: the image.
    Docker(String),
}

/// Why a text names nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UsesError {
    /// It is of a repository, and of which commit is not said.
    #[error("there is no `@REF`")]
    NoRef,
    /// There is no `/` before the `@`.
    #[error("there is no `OWNER/REPOSITORY`")]
    NoRepository,
}

impl Uses {
    /// Reads it. The space around it does not count, as on GitHub.
    pub fn parse(text: &str) -> Result<Self, UsesError> {
        let text = text.trim();
        if text.starts_with("./") || text.starts_with("$/") {
            return Ok(Self::Local(LocalUses(text.to_owned())));
        }
        match text.strip_prefix("docker://") {
            Some(image) => Ok(Self::Docker(image.to_owned())),
            None => RepositoryUses::parse(text).map(Self::Repository),
        }
    }
}

/// `./PATH`, in the workspace; `$/PATH`, in the repository that the text is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalUses(String);

impl LocalUses {
    /// Whether it begins with `$`.
    pub fn is_self_repository(&self) -> bool {
        self.0.starts_with('$')
    }

    /// As it is written.
    pub fn raw(&self) -> &str {
        &self.0
    }
}

/// `OWNER/REPOSITORY[/PATH]@REF`. Each part may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryUses {
    slug: String,
    /// Where the owner ends in it.
    owner: usize,
    subpath: Option<String>,
    git_ref: String,
}

impl RepositoryUses {
    /// Reads it; the last `@` begins the ref.
    pub fn parse(text: &str) -> Result<Self, UsesError> {
        let (path, git_ref) = text.trim().rsplit_once('@').ok_or(UsesError::NoRef)?;
        let (owner, rest) = path.split_once('/').ok_or(UsesError::NoRepository)?;
        let (name, subpath) = match rest.split_once('/') {
            Some((name, subpath)) => (name, Some(subpath)),
            None => (rest, None),
        };
        Ok(Self {
            slug: format!("{owner}/{name}"),
            owner: owner.len(),
            subpath: subpath.map(str::to_owned),
            git_ref: git_ref.to_owned(),
        })
    }

    /// User or organisation.
    pub fn owner(&self) -> &str {
        &self.slug[..self.owner]
    }

    /// Its name.
    pub fn repo(&self) -> &str {
        &self.slug[self.owner + 1..]
    }

    /// `OWNER/REPOSITORY`.
    pub fn slug(&self) -> &str {
        &self.slug
    }

    /// What is behind that, before the `@`.
    pub fn subpath(&self) -> Option<&str> {
        self.subpath.as_deref()
    }

    /// Branch, tag or commit.
    pub fn git_ref(&self) -> &str {
        &self.git_ref
    }
}

impl fmt::Display for RepositoryUses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.slug)?;
        if let Some(subpath) = &self.subpath {
            write!(f, "/{subpath}")?;
        }
        write!(f, "@{}", self.git_ref)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use github_actions_models::common::Uses as Model;
    use proptest::prelude::*;

    /// All that the two say of a text.
    fn differs(text: &str) -> Option<String> {
        let same = match (Uses::parse(text), Model::parse(text)) {
            (Ok(Uses::Local(ours)), Ok(Model::Local(theirs))) => {
                (ours.raw(), ours.is_self_repository())
                    == (theirs.raw(), theirs.is_self_repository())
            }
            (Ok(Uses::Docker(ours)), Ok(Model::Docker(theirs))) => ours == theirs.raw(),
            (Ok(Uses::Repository(ours)), Ok(Model::Repository(theirs))) => {
                let named = (ours.owner(), ours.repo(), ours.slug());
                let rest = (ours.subpath(), ours.git_ref());
                named == (theirs.owner(), theirs.repo(), theirs.slug())
                    && rest == (theirs.subpath(), theirs.git_ref())
                    && ours.to_string() == theirs.raw().trim()
            }
            (ours, theirs) => ours.is_err() && theirs.is_err(),
        };
        (!same).then(|| {
            format!(
                "{text:?}: {:?}, {:?}",
                Uses::parse(text),
                Model::parse(text)
            )
        })
    }

    #[test]
    fn what_is_used_is_named_by_its_form() {
        let repository = |text| match Uses::parse(text) {
            Ok(Uses::Repository(uses)) => format!(
                "{} {} {:?} {}",
                uses.owner(),
                uses.repo(),
                uses.subpath(),
                uses.git_ref()
            ),
            other => panic!("{text} is {other:?}"),
        };
        assert_eq!(repository(" o/r@v1 "), "o r None v1");
        assert_eq!(repository("o/r/a/b@c/d"), "o r Some(\"a/b\") c/d");
        assert_eq!(repository("o/r/@b@v1"), "o r Some(\"@b\") v1");
        assert_eq!(repository("/@"), "  None ");
        assert_eq!(Uses::parse("o/r"), Err(UsesError::NoRef));
        assert_eq!(Uses::parse("r@v1"), Err(UsesError::NoRepository));
        assert_eq!(
            Uses::parse("docker://a:1"),
            Ok(Uses::Docker("a:1".to_owned()))
        );
    }

    proptest! {
        #[test]
        fn what_is_used_is_what_the_models_take_it_for(text in "(\\./|\\$/|docker://| )?([a-z@/.: ]|//){0,12}( )?") {
            prop_assert_eq!(differs(&text), None);
        }
    }
}
