//! `services` of a job as types.

use super::settings::{Problem, Settings, Taken, Wrong, object, text};
use super::words::{self, WordsError};
use crate::expr::value::Value;

/// A service of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its key in `services`, by which other containers find it.
    pub id: String,
    /// What it has in common with other containers.
    pub settings: Settings,
    /// `entrypoint`, instead of the image's.
    pub entrypoint: Option<String>,
    /// `command`, instead of the image's.
    pub command: Vec<String>,
}

/// The keys of a service.
const KEYS: &str = "image, env, ports, volumes, options, credentials, entrypoint and command";

/// Each is a container, with processes and memory of its own.
pub const MAX_SERVICES: usize = 64;

/// Reads `services` after its expressions were evaluated. A service whose image is empty is left out, as on GitHub, where an
/// expression can so switch it off.
pub fn services(value: &Value) -> Result<Vec<Service>, Wrong> {
    let wrong = |problem| Wrong::new("services", None, problem);
    let services = match value {
        Value::Null => return Ok(Vec::new()),
        value => object(value).map_err(wrong)?,
    };
    if services.len() > MAX_SERVICES {
        return Err(wrong(Problem::TooMany {
            found: services.len(),
            most: MAX_SERVICES,
        }));
    }
    let mut read = Vec::new();
    for (id, value) in services.iter() {
        read.extend(service(id, value)?);
    }
    Ok(read)
}

fn service(id: &str, value: &Value) -> Result<Option<Service>, Wrong> {
    let place = format!("services.{id}");
    let wrong = |key: Option<&str>, problem| Wrong::new(&place, key, problem);
    if !is_host_name(id) {
        return Err(wrong(None, Problem::Name));
    }
    let of = |settings| Service {
        id: id.to_owned(),
        settings,
        entrypoint: None,
        command: Vec::new(),
    };
    if let Value::String(image) = value {
        let settings = Settings::of_name(image).map_err(|e| wrong(None, e.into()))?;
        return Ok(settings.map(of));
    }
    let keys = object(value).map_err(|problem| wrong(None, problem))?;
    let Some(image) = keys.get("image") else {
        return Err(wrong(None, Problem::NoImage));
    };
    let settings = text(image).and_then(|image| Ok(Settings::of_name(&image)?));
    let Some(settings) = settings.map_err(|problem| wrong(Some("image"), problem))? else {
        return Ok(None);
    };
    let mut service = of(settings);
    for (key, value) in keys.iter() {
        service
            .set(key, value)
            .map_err(|problem| wrong(Some(key), problem))?;
    }
    Ok(Some(service))
}

impl Service {
    fn set(&mut self, key: &str, value: &Value) -> Result<(), Problem> {
        if self.settings.set(key, value)? == Taken::Yes {
            return Ok(());
        }
        match (key, value) {
            ("entrypoint" | "command", Value::Null) => {}
            ("entrypoint", value) => {
                let entrypoint = text(value)?;
                if entrypoint.contains('\0') {
                    return Err(WordsError::Nul.into());
                }
                self.entrypoint = Some(entrypoint).filter(|entrypoint| !entrypoint.is_empty());
            }
            ("command", value) => self.command = words::split(&text(value)?)?,
            _ => return Err(Problem::UnknownKey(KEYS)),
        }
        Ok(())
    }
}

fn is_host_name(id: &str) -> bool {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    let rest = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    id.starts_with(first) && id.chars().all(rest) && id.len() <= 63
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::value::Object;

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

    fn parse(json: &str) -> Result<Vec<Service>, Wrong> {
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
        assert_eq!(postgres.settings.image.as_str(), "postgres:16");
        let env: Vec<_> = postgres
            .settings
            .env
            .inherited()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(
            env.join(" "),
            "E= N=5 POSTGRES_PASSWORD=s3cret T=true GITHUB_ACTIONS=true CI=true"
        );
        assert_eq!(postgres.settings.ports.len(), 2);
        assert_eq!(postgres.settings.volumes.len(), 2);
        assert_eq!(postgres.settings.options.words()[1], "pg_isready -U x");
        assert_eq!(
            postgres.settings.credentials.as_ref().unwrap().username,
            "me"
        );
        assert_eq!(postgres.command, ["postgres", "-c", "fsync=off"]);
    }

    #[test]
    fn nothing_is_no_service() {
        assert_eq!(services(&Value::Null), Ok(Vec::new()));
        let empty = r#"{"a": {"image": "a", "credentials": {"username": "", "password": ""}}}"#;
        assert_eq!(parse(empty).unwrap()[0].settings.credentials, None);
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
        services.a: it has no `image`
        services.a.image: “--privileged” is not the name of an image, such as `redis:7` or `ghcr.io/owner/name:tag`
        services.a.port: unknown key; the keys are image, env, ports, volumes, options, credentials, entrypoint and command
        services.a.ports: this is a number, and has to be a list
        services.a.ports: `x` is not a port: write CONTAINER, HOST:CONTAINER or IP:HOST:CONTAINER, with /udp for UDP
        services.a.ports: `1.5` is not a port: write CONTAINER, HOST:CONTAINER or IP:HOST:CONTAINER, with /udp for UDP
        services.a.env: this is a list, and has to be a mapping
        services.a.env: this is a list, and has to be text
        services.a.options: `--network` is not supported, neither here nor on GitHub: all containers of a job are in one network
        services.a.volumes: `x`: the path in the container has to begin with `/`
        services.a.credentials: this needs `username` and `password`, and nothing else
        ");
        let many: Object = (0..65)
            .map(|n| (format!("s{n}"), Value::from("a")))
            .collect();
        let error = services(&many.into()).unwrap_err();
        let problem = Problem::TooMany {
            found: 65,
            most: 64,
        };
        assert_eq!(error.problem, problem);
    }
}
