//! `container` of a job as a type.

use super::image::Image;
use super::settings::{Problem, Settings, Taken, Wrong, object, text};
use crate::expr::value::Value;

/// The container that a job's steps run in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobContainer {
    /// What it has in common with other containers.
    pub settings: Settings,
}

/// The keys of `container`.
const KEYS: &str = "image, env, ports, volumes, options and credentials";

/// Reads `container` after its expressions were evaluated. Without an image there is none, as on GitHub: the steps run in
/// the machine.
pub fn job_container(value: &Value) -> Result<Option<JobContainer>, Wrong> {
    let wrong = |key: Option<&str>, problem| Wrong::new("container", key, problem);
    let keys = match value {
        Value::Null => return Ok(None),
        Value::String(image) => {
            let settings = Settings::of_name(image).map_err(|e| wrong(None, e.into()))?;
            return Ok(settings.map(|settings| JobContainer { settings }));
        }
        value => object(value).map_err(|problem| wrong(None, problem))?,
    };
    let Some(image) = keys.get("image") else {
        return Err(wrong(None, Problem::NoImage));
    };
    let settings = text(image).and_then(|image| Ok(Settings::of_name(&image)?));
    let Some(mut settings) = settings.map_err(|problem| wrong(Some("image"), problem))? else {
        return Ok(None);
    };
    for (key, value) in keys.iter() {
        let taken = settings.set(key, value);
        if taken.map_err(|problem| wrong(Some(key), problem))? == Taken::No {
            return Err(wrong(Some(key), Problem::UnknownKey(KEYS)));
        }
    }
    let container = JobContainer { settings };
    let options = container.settings.options.without_entrypoint();
    options.map_err(|e| wrong(Some("options"), e.into()))?;
    Ok(Some(container))
}

impl JobContainer {
    /// Its image.
    pub fn image(&self) -> &Image {
        &self.settings.image
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::value::Object;

    fn object(pairs: &[(&str, Value)]) -> Value {
        pairs.iter().cloned().collect::<Object>().into()
    }

    #[test]
    fn a_container_is_an_image_or_a_mapping_or_none() {
        let image = |value: &Value| {
            let container = job_container(value).unwrap();
            container.map(|container| container.image().to_string())
        };
        assert_eq!(image(&"docker://rust:1".into()).as_deref(), Some("rust:1"));
        assert_eq!(
            image(&object(&[("image", "rust:1".into())])).as_deref(),
            Some("rust:1")
        );
        assert_eq!(image(&Value::Null), None);
        assert_eq!(image(&"".into()), None);
        assert_eq!(image(&object(&[("image", Value::Null)])), None);
        let full = object(&[
            ("image", "a".into()),
            ("env", object(&[("A", 1.0.into())])),
            ("ports", vec![Value::from(80.0)].into()),
            ("volumes", vec![Value::from("/a:/b")].into()),
            ("options", "--cpus 1 --user 7".into()),
            (
                "credentials",
                object(&[("username", "me".into()), ("password", "pw".into())]),
            ),
        ]);
        let settings = job_container(&full).unwrap().unwrap().settings;
        assert_eq!(settings.options.words().len(), 4);
        assert_eq!((settings.ports.len(), settings.volumes.len()), (1, 1));
        assert_eq!(settings.credentials.unwrap().username, "me");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_key() {
        let with = |key: &str, value: Value| object(&[("image", "a".into()), (key, value)]);
        let cases = [
            Value::from(7.0),
            object(&[("env", Value::Null)]),
            "a b".into(),
            with("command", "x".into()),
            with("ports", "80".into()),
            with("options", "--network host".into()),
            with("options", "--entrypoint=/bin/sh".into()),
            with("volumes", vec![Value::from("./a:/b")].into()),
        ];
        let messages: Vec<_> = cases
            .iter()
            .map(|case| job_container(case).unwrap_err().to_string())
            .collect();
        insta::assert_snapshot!(messages.join("\n"), @"
        container: this is a number, and has to be a mapping
        container: it has no `image`
        container: “a b” is not the name of an image, such as `redis:7` or `ghcr.io/owner/name:tag`
        container.command: unknown key; the keys are image, env, ports, volumes, options and credentials
        container.ports: this is text, and has to be a list
        container.options: `--network` is not supported, neither here nor on GitHub: all containers of a job are in one network
        container.options: `--entrypoint` is not supported, neither here nor on GitHub: a process that waits keeps the job's container alive
        container.volumes: `./a:/b` is not a volume: write SOURCE:TARGET, SOURCE:TARGET:ro or TARGET
        ");
    }
}
