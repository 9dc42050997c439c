//! What services and the job's own container have in common: keys of a mapping as types.

use super::image::{Image, ImageError};
use super::options::{Options, OptionsError};
use super::publish::{Publish, PublishError};
use super::variables::{VariableError, Variables};
use super::volume::{Volume, VolumeError};
use super::words::WordsError;
use crate::expr::value::{Object, Value};
use std::fmt;

/// What a container is made of, and with what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `image`.
    pub image: Image,
    /// `env`.
    pub env: Variables,
    /// `ports`.
    pub ports: Vec<Publish>,
    /// `volumes`.
    pub volumes: Vec<Volume>,
    /// `options`.
    pub options: Options,
    /// `credentials`.
    pub credentials: Option<Credentials>,
}

/// Who one is at a registry.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// `username`.
    pub username: String,
    /// `password`. Not shown by `Debug`.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({:?}, …)", self.username)
    }
}

/// What is wrong with `services` or `container`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}{}: {problem}", .key.as_ref().map_or(String::new(), |key| format!(".{key}")))]
pub struct Wrong {
    /// With which: `services`, `services.db`, `container`.
    pub place: String,
    /// With which of its keys.
    pub key: Option<String>,
    /// What.
    pub problem: Problem,
}

impl Wrong {
    /// Of a place and one of its keys, both shortened.
    pub(super) fn new(place: &str, key: Option<&str>, problem: Problem) -> Self {
        let short = |text: &str| text.chars().take(120).collect::<String>();
        Self {
            place: short(place),
            key: key.map(short),
            problem,
        }
    }
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It is of another kind than it has to be.
    #[error("this is {found}, and has to be {wanted}")]
    Kind {
        /// What it has to be.
        wanted: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// A key that there is not.
    #[error("unknown key; the keys are {0}")]
    UnknownKey(&'static str),
    /// Without it nothing can be started.
    #[error("it has no `image`")]
    NoImage,
    /// The name of a service is the name of a host.
    #[error(
        "this cannot be the name of a host: write letters, digits, `_` and `-`, beginning with a letter or `_`"
    )]
    Name,
    /// One of the two is missing, or there is more.
    #[error("this needs `username` and `password`, and nothing else")]
    Credentials,
    /// More than a machine carries.
    #[error("there are {found}, and at most {most} can be run")]
    TooMany {
        /// So many there are.
        found: usize,
        /// So many can be.
        most: usize,
    },
    /// `image`.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// `env`.
    #[error(transparent)]
    Variable(#[from] VariableError),
    /// `ports`.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// `volumes`.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// `options`.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// `command`.
    #[error(transparent)]
    Words(#[from] WordsError),
}

/// What became of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is one of these.
    Yes,
    /// It is none of these.
    No,
}

impl Settings {
    /// Of an image, and nothing else.
    pub(super) fn of_image(image: Image) -> Self {
        Self {
            image,
            env: Variables::default().marked(),
            ports: Vec::new(),
            volumes: Vec::new(),
            options: Options::default(),
            credentials: None,
        }
    }

    /// Of an image's name; nothing when that is empty, as on GitHub, where an expression can so switch a container off.
    pub(super) fn of_name(name: &str) -> Result<Option<Self>, ImageError> {
        match Image::parse(name) {
            Err(ImageError::Empty) => Ok(None),
            image => Ok(Some(Self::of_image(image?))),
        }
    }

    /// Takes the value of a key, if it is one of these.
    pub(super) fn set(&mut self, key: &str, value: &Value) -> Result<Taken, Problem> {
        match (key, value) {
            ("image", _) => {}
            ("env" | "ports" | "volumes" | "options" | "credentials", Value::Null) => {}
            ("env", value) => {
                let pairs = object(value)?.iter();
                let pairs: Result<Vec<_>, Problem> = pairs
                    .map(|(name, value)| Ok((name.to_owned(), text(value)?)))
                    .collect();
                self.env = Variables::new(pairs?)?.marked();
            }
            ("ports", value) => {
                let ports = list(value)?.iter();
                self.ports = ports
                    .map(|port| Ok(Publish::parse(&text(port)?)?))
                    .collect::<Result<_, Problem>>()?;
            }
            ("volumes", value) => {
                let volumes = list(value)?.iter();
                self.volumes = volumes
                    .map(|volume| Ok(Volume::parse(&text(volume)?)?))
                    .collect::<Result<_, Problem>>()?;
            }
            ("options", value) => self.options = Options::parse(&text(value)?)?,
            ("credentials", value) => self.credentials = credentials(object(value)?)?,
            _ => return Ok(Taken::No),
        }
        Ok(Taken::Yes)
    }
}

/// Secrets that are not set are empty, and then nobody is meant to log in.
fn credentials(of: &Object) -> Result<Option<Credentials>, Problem> {
    let (Some(username), Some(password)) = (of.get("username"), of.get("password")) else {
        return Err(Problem::Credentials);
    };
    if of.len() != 2 {
        return Err(Problem::Credentials);
    }
    let (username, password) = (text(username)?, text(password)?);
    if username.is_empty() || password.is_empty() {
        return Ok(None);
    }
    Ok(Some(Credentials { username, password }))
}

pub(super) fn object(value: &Value) -> Result<&Object, Problem> {
    match value {
        Value::Object(object) => Ok(object),
        other => Err(kind("a mapping", other)),
    }
}

fn list(value: &Value) -> Result<&[Value], Problem> {
    match value {
        Value::Array(list) => Ok(list),
        other => Err(kind("a list", other)),
    }
}

/// Scalars as GitHub writes them.
pub(super) fn text(value: &Value) -> Result<String, Problem> {
    match value {
        Value::Null => Ok(String::new()),
        Value::Bool(value) => Ok(value.to_string()),
        Value::Number(value) => Ok(value.to_string()),
        Value::String(text) => Ok(text.to_string()),
        other => Err(kind("text", other)),
    }
}

fn kind(wanted: &'static str, found: &Value) -> Problem {
    let found = match found {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    };
    Problem::Kind { wanted, found }
}
