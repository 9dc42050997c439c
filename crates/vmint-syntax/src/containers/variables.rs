//! Variables for a container, without their values in an argument list.
//!
//! `--env NAME` makes the engine's client pass on what it has itself. That cannot be done with names which the client or its
//! loader reads: a service that is given `DOCKER_HOST` must not send the client elsewhere. These few are given with their values.

/// Names and values, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variables(Vec<(String, String)>);

/// A variable that no container can be given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VariableError {
    /// Its name.
    #[error("“{0}” cannot be the name of a variable in a container")]
    Name(String),
    /// Its value.
    #[error("the value of {0} contains a NUL character")]
    Value(String),
}

/// What docker's and podman's clients, Go's runtime and the loader read. A `*` at the end stands for all that begin so.
const READ_BY_CLIENTS: [&str; 22] = [
    "PATH",
    "HOME",
    "TMPDIR",
    "LD_*",
    "DOCKER_HOST",
    "DOCKER_CONTEXT",
    "DOCKER_CONFIG",
    "DOCKER_CERT_PATH",
    "DOCKER_TLS*",
    "DOCKER_API_VERSION",
    "DOCKER_DEFAULT_PLATFORM",
    "DOCKER_CONTENT_TRUST*",
    "CONTAINER_HOST",
    "CONTAINER_SSHKEY",
    "CONTAINERS_*",
    "STORAGE_DRIVER",
    "STORAGE_OPTS",
    "XDG_*",
    "REGISTRY_AUTH_FILE",
    "NOTIFY_SOCKET",
    "GODEBUG",
    "GOTRACEBACK",
];

impl Variables {
    /// Checks names and values; a name that comes again replaces what was before.
    pub fn new(
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, VariableError> {
        let mut checked = indexmap::IndexMap::new();
        for (name, value) in variables {
            // podman takes a star at the end for all that begin so.
            if name.is_empty() || name.contains(['=', '\0', '\n', '*']) {
                return Err(VariableError::Name(name.chars().take(100).collect()));
            }
            if value.contains('\0') {
                return Err(VariableError::Value(name));
            }
            checked.insert(name, value);
        }
        Ok(Self(checked.into_iter().collect()))
    }

    /// With `GITHUB_ACTIONS`, and `CI` unless there is one.
    pub fn marked(mut self) -> Self {
        self.0.retain(|(name, _)| name != "GITHUB_ACTIONS");
        self.0.push(("GITHUB_ACTIONS".into(), "true".into()));
        if !self.0.iter().any(|(name, _)| name == "CI") {
            self.0.push(("CI".into(), "true".into()));
        }
        self
    }

    /// The arguments for the client.
    pub fn arguments(&self) -> impl Iterator<Item = String> {
        self.0.iter().flat_map(|(name, value)| {
            let argument = if is_read_by_clients(name) {
                format!("{name}={value}")
            } else {
                name.clone()
            };
            ["--env".to_owned(), argument]
        })
    }

    /// The environment for the client.
    pub fn inherited(&self) -> impl Iterator<Item = (String, String)> {
        let inherited = self.0.iter().filter(|(name, _)| !is_read_by_clients(name));
        inherited.cloned()
    }
}

fn is_read_by_clients(name: &str) -> bool {
    READ_BY_CLIENTS
        .iter()
        .any(|known| match known.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == *known,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> Result<Variables, VariableError> {
        Variables::new(
            pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        )
    }

    #[test]
    fn values_are_inherited_unless_the_client_would_heed_them() {
        let variables = variables(&[
            ("PASSWORD", "s3cret\nof two lines"),
            ("DOCKER_HOST", "tcp://dind:2375"),
            ("INPUT_WHO-TO-GREET", "a"),
            ("INPUT_WHO-TO-GREET", ""),
        ])
        .unwrap()
        .marked();
        let arguments: Vec<_> = variables.arguments().collect();
        assert_eq!(
            arguments.join(" "),
            "--env PASSWORD --env DOCKER_HOST=tcp://dind:2375 --env INPUT_WHO-TO-GREET --env GITHUB_ACTIONS --env CI"
        );
        let inherited: Vec<_> = variables.inherited().map(|(name, _)| name).collect();
        assert_eq!(
            inherited,
            ["PASSWORD", "INPUT_WHO-TO-GREET", "GITHUB_ACTIONS", "CI"]
        );
    }

    #[test]
    fn names_that_mean_something_else_to_an_engine_are_refused() {
        for name in ["", "A=B", "A*", "A\0", "A\nB"] {
            assert!(matches!(
                variables(&[(name, "")]),
                Err(VariableError::Name(_))
            ));
        }
        assert_eq!(
            variables(&[("A", "\0")]),
            Err(VariableError::Value("A".into()))
        );
    }
}
