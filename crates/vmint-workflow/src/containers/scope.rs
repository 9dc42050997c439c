//! Whose containers and networks they are.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A word that sets the containers of one job apart from others in the same machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Scope(String);

/// A scope is 1 to 40 lower-case letters and digits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("“{0}” cannot name containers: 1 to 40 lower-case letters and digits can")]
pub struct NoScope(String);

impl Scope {
    /// A scope of this name.
    pub fn new(name: impl Into<String>) -> Result<Self, NoScope> {
        let name = name.into();
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        if !(1..=40).contains(&name.len()) || !name.bytes().all(fits) {
            return Err(NoScope(name));
        }
        Ok(Self(name))
    }

    /// The network of the job.
    pub fn network(&self) -> String {
        format!("github_network_{self}")
    }

    /// The label of all that is the job's.
    pub fn label(&self) -> String {
        format!("vmint={self}")
    }

    /// The name of a container or the like.
    pub fn name(&self, of: &str) -> String {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let of: String = of.chars().filter(|c| fits(*c)).take(60).collect();
        format!("vmint_{of}_{self}")
    }
}

impl TryFrom<String> for Scope {
    type Error = NoScope;

    fn try_from(name: String) -> Result<Self, NoScope> {
        Self::new(name)
    }
}

impl From<Scope> for String {
    fn from(scope: Scope) -> Self {
        scope.0
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_such_that_an_engine_takes_them() {
        let scope = Scope::new("a1").unwrap();
        assert_eq!(scope.name("my redis/7\n"), "vmint_myredis7_a1");
        assert_eq!(scope.network(), "github_network_a1");
        for name in ["", "A", "a b", "--help", &"x".repeat(41)] {
            assert!(Scope::new(name).is_err(), "{name}");
        }
    }
}
