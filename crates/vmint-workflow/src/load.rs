//! The tree of a file as the types of `github-actions-models`, and these as a [`crate::spec`].
