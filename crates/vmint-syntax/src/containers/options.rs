//! `options` of a service, or of the job's container.

use super::words::{self, WordsError};

/// Arguments of `create` that a workflow gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options(Vec<String>);

/// `options` that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// It cannot be split.
    #[error(transparent)]
    Words(#[from] WordsError),
    /// `--network`.
    #[error(
        "`{0}` is not supported, neither here nor on GitHub: all containers of a job are in one network"
    )]
    Network(String),
    /// `--entrypoint` of the job's own container.
    #[error(
        "`--entrypoint` is not supported, neither here nor on GitHub: a process that waits keeps the job's container alive"
    )]
    Entrypoint,
    /// `--`.
    #[error("`--` ends the options, and what follows would be taken for the image")]
    End,
    /// A word that is no option and follows none.
    #[error("`{0}` is not an option: options begin with `-`")]
    Stray(String),
}

impl Options {
    /// Splits and checks. The engine itself refuses what it does not know.
    pub fn parse(text: &str) -> Result<Self, OptionsError> {
        let words = words::split(text)?;
        if let Some(first) = words.first().filter(|word| !word.starts_with('-')) {
            return Err(OptionsError::Stray(first.clone()));
        }
        for word in &words {
            let name = word.split('=').next().unwrap_or_default();
            match name {
                "--network" | "--net" => return Err(OptionsError::Network(name.to_owned())),
                "--" => return Err(OptionsError::End),
                _ => {}
            }
        }
        Ok(Self(words))
    }

    /// Refuses what the job's own container cannot be given.
    pub(super) fn without_entrypoint(&self) -> Result<(), OptionsError> {
        let is_entrypoint = |word: &String| word.split('=').next() == Some("--entrypoint");
        if self.0.iter().any(is_entrypoint) {
            return Err(OptionsError::Entrypoint);
        }
        Ok(())
    }

    /// As they are.
    pub fn words(&self) -> &[String] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_and_stray_words_are_refused() {
        for (options, message) in [
            (
                "--cpus 1 --network host",
                "`--network` is not supported, neither here nor on GitHub: all containers of a job are in one network",
            ),
            (
                "--net=host",
                "`--net` is not supported, neither here nor on GitHub: all containers of a job are in one network",
            ),
            ("redis", "`redis` is not an option: options begin with `-`"),
            (
                "--cpus 1 -- x",
                "`--` ends the options, and what follows would be taken for the image",
            ),
        ] {
            assert_eq!(Options::parse(options).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn all_else_is_left_to_the_engine() {
        let text = "--name pg --network-alias db --privileged -e X=\"a b\"";
        let options = Options::parse(text).unwrap();
        assert_eq!(
            options.words(),
            [
                "--name",
                "pg",
                "--network-alias",
                "db",
                "--privileged",
                "-e",
                "X=a b"
            ]
        );
    }
}
