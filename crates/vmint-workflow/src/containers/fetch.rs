//! An image gets into the machine: it is there, or it is pulled.

use super::call::{Answer, Call, Failure, Show, Turn};
use super::engine::Engine;
use super::image::Image;
use super::scope::Scope;
use super::settings::Credentials;
use crate::log::Kind;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::time::Duration;

/// The dialogue: look, and if need be write the credentials, pull up to three times, and remove the credentials.
///
/// GitHub's machines pull always. Here an image that is in the machine's own image is used as it is: such a job
/// needs no network, and repeats itself.
#[derive(Clone, Debug)]
pub struct Fetch {
    image: Image,
    credentials: Option<Credentials>,
    folder: String,
    stage: Stage,
}

#[derive(Clone, Debug)]
enum Stage {
    Look,
    Write,
    Pull { tries: u32 },
    Warn { tries: u32, failure: Failure },
    Forget(Result<(), FetchError>),
    End(Result<(), FetchError>),
}

/// An image that cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The pull.
    #[error("failed to pull the image `{image}` in {TRIES} tries: {failure}")]
    Pull {
        /// The image.
        image: Image,
        /// How the last try failed.
        failure: Failure,
    },
    /// The file of credentials.
    #[error("failed to write the credentials for `{image}` into the machine: {failure}")]
    Credentials {
        /// The image.
        image: Image,
        /// How.
        failure: Failure,
    },
}

const TRIES: u32 = 3;

/// The folder and the text come as argument and variable; nothing is put into the script.
const WRITE: &str =
    r#"umask 077 && mkdir -p -- "$1" && printf %s "$VMINT_CREDENTIALS" > "$1/config.json""#;

/// Where the credentials are: in memory, and of a name of its own, for two jobs in one machine do not meet.
fn folder(scope: &Scope) -> String {
    format!("/run/vmint/registry_{scope}")
}

fn remove(folder: &str) -> Call {
    Call::new(["rm", "-rf", "--", folder]).showing(Show::Nothing)
}

impl Fetch {
    /// Of an image, with the credentials of its registry.
    pub fn new(image: Image, credentials: Option<Credentials>, scope: &Scope) -> Self {
        Self {
            image,
            credentials,
            folder: folder(scope),
            stage: Stage::Look,
        }
    }

    /// Removes the credentials that a dialogue which was cut off may have left.
    pub fn forget(scope: &Scope) -> Call {
        remove(&folder(scope))
    }

    /// What comes next.
    pub fn turn(&mut self, engine: &Engine) -> Turn<Result<(), FetchError>> {
        match &self.stage {
            Stage::Look => {
                let call = engine.call([
                    "image",
                    "inspect",
                    "--format",
                    "{{.Id}}",
                    self.image.as_str(),
                ]);
                Turn::Run(call.showing(Show::Nothing))
            }
            Stage::Write => Turn::Run(self.write(engine)),
            Stage::Pull { tries } => {
                let folder = self.credentials.as_ref().map(|_| &*self.folder);
                let pause = Duration::from_secs(u64::from(*tries) * 3);
                Turn::Run(engine.pull(&self.image, folder).after(pause))
            }
            Stage::Warn { tries, failure } => {
                let text = format!("Failed to pull {}: {failure}; trying again", self.image);
                self.stage = Stage::Pull { tries: *tries };
                Turn::Say(Kind::Warning, text)
            }
            Stage::Forget(_) => Turn::Run(remove(&self.folder)),
            Stage::End(end) => Turn::End(end.clone()),
        }
    }

    /// What came of the call.
    pub fn answer(&mut self, answer: &Answer) {
        self.stage = match &self.stage {
            Stage::Look if answer.is_success() => Stage::End(Ok(())),
            Stage::Look if self.credentials.is_some() => Stage::Write,
            Stage::Look => Stage::Pull { tries: 0 },
            Stage::Write if answer.is_success() => Stage::Pull { tries: 0 },
            Stage::Write => Stage::Forget(Err(FetchError::Credentials {
                image: self.image.clone(),
                failure: answer.failure(),
            })),
            Stage::Pull { .. } if answer.is_success() => self.after_pull(Ok(())),
            Stage::Pull { tries } if tries + 1 < TRIES => Stage::Warn {
                tries: tries + 1,
                failure: answer.failure(),
            },
            Stage::Pull { .. } => self.after_pull(Err(FetchError::Pull {
                image: self.image.clone(),
                failure: answer.failure(),
            })),
            Stage::Forget(end) => Stage::End(end.clone()),
            stage @ (Stage::Warn { .. } | Stage::End(_)) => stage.clone(),
        };
    }

    fn after_pull(&self, end: Result<(), FetchError>) -> Stage {
        if self.credentials.is_some() {
            Stage::Forget(end)
        } else {
            Stage::End(end)
        }
    }

    fn write(&self, engine: &Engine) -> Call {
        let registry = self.image.registry().unwrap_or(engine.hub());
        let plain = self
            .credentials
            .as_ref()
            .map(|of| format!("{}:{}", of.username, of.password));
        let auth = STANDARD.encode(plain.unwrap_or_default());
        let text = serde_json::json!({ "auths": { registry: { "auth": auth } } }).to_string();
        Call::new(["/bin/sh", "-c", WRITE, "sh", &self.folder])
            .env([("VMINT_CREDENTIALS".to_owned(), text)])
            .showing(Show::Nothing)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{self, Script, podman};
    use super::*;

    fn fetch(credentials: Option<Credentials>) -> Fetch {
        let scope = Scope::new("a1").unwrap();
        Fetch::new(Image::parse("redis:7").unwrap(), credentials, &scope)
    }

    fn run(engine: &Engine, mut fetch: Fetch, script: Script) -> (Result<(), FetchError>, String) {
        testing::run(script, |answer| {
            if let Some(answer) = answer {
                fetch.answer(&answer);
            }
            fetch.turn(engine)
        })
    }

    #[test]
    fn an_image_that_is_there_is_not_pulled() {
        let (end, log) = run(&Engine::Docker, fetch(None), Script::new());
        assert_eq!(end, Ok(()));
        insta::assert_snapshot!(log, @"$ docker image inspect --format {{.Id}} redis:7");
    }

    #[test]
    fn credentials_are_in_a_file_as_long_as_the_pull_lasts() {
        let credentials = Credentials {
            username: "me".into(),
            password: "s3cret".into(),
        };
        assert!(!format!("{credentials:?}").contains("s3cret"));
        let script = || {
            Script::new()
                .fail("image inspect", 1, "")
                .fail(" pull", 1, "unauthorized")
        };
        let (end, log) = run(&podman(), fetch(Some(credentials.clone())), script());
        assert!(!log.contains("s3cret"), "{log}");
        insta::assert_snapshot!(end.unwrap_err(), @"failed to pull the image `redis:7` in 3 tries: exit code 1 (unauthorized)");
        insta::assert_snapshot!(log, @r#"
        $ podman image inspect --format {{.Id}} redis:7
        $ /bin/sh -c umask 077 && mkdir -p -- "$1" && printf %s "$VMINT_CREDENTIALS" > "$1/config.json" sh /run/vmint/registry_a1
        $ podman pull --authfile /run/vmint/registry_a1/config.json docker.io/library/redis:7
        Warning: Failed to pull redis:7: exit code 1 (unauthorized); trying again
        after 3 s: $ podman pull --authfile /run/vmint/registry_a1/config.json docker.io/library/redis:7
        Warning: Failed to pull redis:7: exit code 1 (unauthorized); trying again
        after 6 s: $ podman pull --authfile /run/vmint/registry_a1/config.json docker.io/library/redis:7
        $ rm -rf -- /run/vmint/registry_a1
        "#);
        let (_, log) = run(&Engine::Docker, fetch(Some(credentials)), script());
        assert!(log.contains("docker --config /run/vmint/registry_a1 pull redis:7"));
    }

    #[test]
    fn a_pull_that_fails_is_tried_again() {
        let script = Script::new().fail("image inspect", 1, "").fail_once(
            " pull",
            125,
            "dial tcp: lookup x: no such host",
        );
        let (end, log) = run(&podman(), fetch(None), script);
        assert_eq!(end, Ok(()));
        insta::assert_snapshot!(log, @r#"
        $ podman image inspect --format {{.Id}} redis:7
        $ podman pull docker.io/library/redis:7
        Warning: Failed to pull redis:7: exit code 125 (dial tcp: lookup x: no such host); if the machine has no network, give its pool `net = "nat"`, or pull the image when the machine's image is built; trying again
        after 3 s: $ podman pull docker.io/library/redis:7
        "#);
    }
}
