//! `services` of a job as types.

use super::fetch::Credentials;
use super::image::{Image, ImageError};
use super::options::{Options, OptionsError};
use super::publish::{Publish, PublishError};
use super::variables::{VariableError, Variables};
use super::volume::{Volume, VolumeError};
use super::words::{self, WordsError};
use crate::expr::value::{Object, Value};

/// A service of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its key in `services`, by which other containers find it.
    pub id: String,
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
    /// `entrypoint`, instead of the image's.
    pub entrypoint: Option<String>,
    /// `command`, instead of the image's.
    pub command: Vec<String>,
}

/// What is wrong with `services`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{problem}", place(.service.as_deref(), .key.as_deref()))]
pub struct ServiceError {
    /// With which service.
    pub service: Option<String>,
    /// With which of its keys.
    pub key: Option<String>,
    /// What.
    pub problem: Problem,
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
    #[error(
        "there is no such key; there are image, env, ports, volumes, options, credentials, entrypoint and command"
    )]
    UnknownKey,
    /// Without it nothing can be started.
    #[error("the service has no `image`")]
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
    #[error("there are {0}, and at most {MAX_SERVICES} can be run")]
    TooMany(usize),
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

fn place(service: Option<&str>, key: Option<&str>) -> String {
    match (service, key) {
        (None, _) => "services: ".to_owned(),
        (Some(service), None) => format!("services.{service}: "),
        (Some(service), Some(key)) => format!("services.{service}.{key}: "),
    }
}

/// Each is a container, with processes and memory of its own.
pub const MAX_SERVICES: usize = 64;

/// Reads `services` after its expressions were evaluated. A service whose image is empty is left out, as on GitHub, where an
/// expression can so switch it off.
pub fn services(value: &Value) -> Result<Vec<Service>, ServiceError> {
    let error = |problem| ServiceError {
        service: None,
        key: None,
        problem,
    };
    let services = match value {
        Value::Null => return Ok(Vec::new()),
        value => object(value).map_err(error)?,
    };
    if services.len() > MAX_SERVICES {
        return Err(error(Problem::TooMany(services.len())));
    }
    let mut read = Vec::new();
    for (id, value) in services.iter() {
        read.extend(service(id, value)?);
    }
    Ok(read)
}

fn service(id: &str, value: &Value) -> Result<Option<Service>, ServiceError> {
    let error = |key: Option<&str>, problem| ServiceError {
        service: Some(id.chars().take(100).collect()),
        key: key.map(|key| key.chars().take(100).collect()),
        problem,
    };
    if !is_host_name(id) {
        return Err(error(None, Problem::Name));
    }
    let of_image = |image| Service {
        id: id.to_owned(),
        image,
        env: Variables::default().marked(),
        ports: Vec::new(),
        volumes: Vec::new(),
        options: Options::default(),
        credentials: None,
        entrypoint: None,
        command: Vec::new(),
    };
    if let Value::String(image) = value {
        return match Image::parse(image) {
            Err(ImageError::Empty) => Ok(None),
            image => Ok(Some(of_image(image.map_err(|e| error(None, e.into()))?))),
        };
    }
    let keys = object(value).map_err(|problem| error(None, problem))?;
    let image = match keys.get("image") {
        None => return Err(error(None, Problem::NoImage)),
        Some(image) => text(image),
    };
    let image = match image.and_then(|image| Ok(Image::parse(&image)?)) {
        Err(Problem::Image(ImageError::Empty)) => return Ok(None),
        image => image.map_err(|problem| error(Some("image"), problem))?,
    };
    let mut service = of_image(image);
    for (key, value) in keys.iter() {
        service
            .set(key, value)
            .map_err(|problem| error(Some(key), problem))?;
    }
    Ok(Some(service))
}

impl Service {
    fn set(&mut self, key: &str, value: &Value) -> Result<(), Problem> {
        match (key, value) {
            ("image", _) => {}
            (
                "env" | "ports" | "volumes" | "options" | "credentials" | "entrypoint" | "command",
                Value::Null,
            ) => {}
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
            ("entrypoint", value) => {
                let entrypoint = text(value)?;
                if entrypoint.contains('\0') {
                    return Err(WordsError::Nul.into());
                }
                self.entrypoint = Some(entrypoint).filter(|entrypoint| !entrypoint.is_empty());
            }
            ("command", value) => self.command = words::split(&text(value)?)?,
            _ => return Err(Problem::UnknownKey),
        }
        Ok(())
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

fn is_host_name(id: &str) -> bool {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    let rest = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    id.starts_with(first) && id.chars().all(rest) && id.len() <= 63
}

fn object(value: &Value) -> Result<&Object, Problem> {
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
fn text(value: &Value) -> Result<String, Problem> {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// YAML's flow style is JSON's.
    fn value(json: &serde_json::Value) -> Value {
        match json {
            serde_json::Value::Null => Value::Null,
            serde_json::Value::Bool(value) => (*value).into(),
            serde_json::Value::Number(value) => value.as_f64().unwrap().into(),
            serde_json::Value::String(text) => text.as_str().into(),
            serde_json::Value::Array(list) => list.iter().map(value).collect::<Vec<_>>().into(),
            serde_json::Value::Object(pairs) => pairs
                .iter()
                .map(|(key, json)| (key.as_str(), value(json)))
                .collect::<Object>()
                .into(),
        }
    }

    fn parse(json: &str) -> Result<Vec<Service>, ServiceError> {
        services(&value(&serde_json::from_str(json).unwrap()))
    }

    #[test]
    fn a_service_is_an_image_or_a_mapping() {
        let read = parse(
            r#"{"redis": "redis:7", "off": "", "also_off": {"image": "", "ports": [1]}, "postgres": {
                "image": "docker://postgres:16",
                "env": {"POSTGRES_PASSWORD": "s3cret", "N": 5, "T": true, "E": null},
                "ports": [5432, "127.0.0.1:80:80/udp"],
                "volumes": ["/a:/b", "data:/var"],
                "options": "--health-cmd \"pg_isready -U x\" --health-retries 5",
                "credentials": {"username": "me", "password": "pw"},
                "command": "postgres -c \"fsync=off\""
            }}"#,
        )
        .unwrap();
        let ids: Vec<_> = read.iter().map(|service| &*service.id).collect();
        assert_eq!(ids, ["postgres", "redis"]);
        let postgres = &read[0];
        assert_eq!(postgres.image.as_str(), "postgres:16");
        let env: Vec<_> = postgres
            .env
            .inherited()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(
            env.join(" "),
            "E= N=5 POSTGRES_PASSWORD=s3cret T=true GITHUB_ACTIONS=true CI=true"
        );
        assert_eq!(postgres.ports.len(), 2);
        assert_eq!(postgres.volumes.len(), 2);
        assert_eq!(postgres.options.words()[1], "pg_isready -U x");
        assert_eq!(postgres.credentials.as_ref().unwrap().username, "me");
        assert_eq!(postgres.command, ["postgres", "-c", "fsync=off"]);
    }

    #[test]
    fn nothing_is_no_service() {
        assert_eq!(services(&Value::Null), Ok(Vec::new()));
        let empty = r#"{"a": {"image": "a", "credentials": {"username": "", "password": ""}}}"#;
        assert_eq!(parse(empty).unwrap()[0].credentials, None);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_key() {
        let cases = [
            "[]",
            r#"{"-x": "a"}"#,
            r#"{"a": 7}"#,
            r#"{"a": {"ports": [1]}}"#,
            r#"{"a": {"image": "--privileged"}}"#,
            r#"{"a": {"image": "a", "port": [1]}}"#,
            r#"{"a": {"image": "a", "ports": 80}}"#,
            r#"{"a": {"image": "a", "ports": ["x"]}}"#,
            r#"{"a": {"image": "a", "ports": [1.5]}}"#,
            r#"{"a": {"image": "a", "env": ["A=B"]}}"#,
            r#"{"a": {"image": "a", "env": {"A": [1]}}}"#,
            r#"{"a": {"image": "a", "options": "--network host"}}"#,
            r#"{"a": {"image": "a", "volumes": ["x"]}}"#,
            r#"{"a": {"image": "a", "credentials": {"username": "x"}}}"#,
        ];
        let messages: Vec<_> = cases
            .iter()
            .map(|case| parse(case).unwrap_err().to_string())
            .collect();
        insta::assert_snapshot!(messages.join("\n"), @"
        services: this is a list, and has to be a mapping
        services.-x: this cannot be the name of a host: write letters, digits, `_` and `-`, beginning with a letter or `_`
        services.a: this is a number, and has to be a mapping
        services.a: the service has no `image`
        services.a.image: “--privileged” is not the name of an image, such as `redis:7` or `ghcr.io/owner/name:tag`
        services.a.port: there is no such key; there are image, env, ports, volumes, options, credentials, entrypoint and command
        services.a.ports: this is a number, and has to be a list
        services.a.ports: `x` is not a port: write CONTAINER, HOST:CONTAINER or IP:HOST:CONTAINER, with /udp for UDP
        services.a.ports: `1.5` is not a port: write CONTAINER, HOST:CONTAINER or IP:HOST:CONTAINER, with /udp for UDP
        services.a.env: this is a list, and has to be a mapping
        services.a.env: this is a list, and has to be text
        services.a.options: `--network` is not supported, neither here nor on GitHub: all services of a job are in one network
        services.a.volumes: `x`: the path in the container has to begin with `/`
        services.a.credentials: this needs `username` and `password`, and nothing else
        ");
        let many: Object = (0..65)
            .map(|n| (format!("s{n}"), Value::from("a")))
            .collect();
        let error = services(&many.into()).unwrap_err();
        assert_eq!(error.problem, Problem::TooMany(65));
    }
}
