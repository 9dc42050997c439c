//! How a container is, and the wait for it to be healthy.

use super::call::{Answer, Call, Failure};
use super::engine::Engine;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// What is asked of `inspect`: all at once, since under emulation every process of the engine takes half a second.
pub(super) const FORMAT: &str =
    r#"{"State":{{json .State}},"Ports":{{json .NetworkSettings.Ports}}}"#;

/// What `inspect` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// Whether its process is there.
    pub life: Life,
    /// What its health check says.
    pub health: Health,
    /// Ports of the container and of the machine, the latter in the engine's order; the protocol is not told, as on GitHub.
    pub ports: Vec<(String, String)>,
}

/// Whether a container's process is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It is.
    Running,
    /// It is not, and this was its exit code.
    Ended(i64),
}

/// What a health check says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// There is no health check.
    Unchecked,
    /// Not yet known.
    Starting {
        /// What the last check wrote.
        said: String,
    },
    /// All is well.
    Healthy,
    /// It has failed as often as was allowed.
    Unhealthy {
        /// What the last check wrote.
        said: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Raw {
    state: RawState,
    ports: Option<BTreeMap<String, Option<Vec<RawPort>>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawState {
    #[serde(default)]
    running: bool,
    #[serde(default)]
    exit_code: i64,
    // Podman before 4 says `Healthcheck`.
    #[serde(alias = "Healthcheck")]
    health: Option<RawHealth>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawHealth {
    #[serde(default)]
    status: String,
    log: Option<Vec<RawCheck>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawCheck {
    #[serde(default)]
    output: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawPort {
    #[serde(default)]
    host_port: String,
}

impl Inspection {
    /// Reads an answer. Warnings may stand around it, for both streams are one.
    pub fn parse(answer: &Answer) -> Option<Self> {
        let lines = answer.output.lines().rev();
        let mut objects = lines.filter(|line| line.starts_with('{'));
        let raw: Raw = objects.find_map(|line| serde_json::from_str(line).ok())?;
        let life = if raw.state.running {
            Life::Running
        } else {
            Life::Ended(raw.state.exit_code)
        };
        let health = match raw.state.health {
            None => Health::Unchecked,
            Some(health) => health.read(),
        };
        let mut ports: Vec<(String, String)> = Vec::new();
        for (container, machine) in raw.ports.unwrap_or_default() {
            let container = container.split('/').next().unwrap_or_default().to_owned();
            let Some(last) = machine.unwrap_or_default().pop() else {
                continue;
            };
            match ports.iter_mut().find(|(port, _)| *port == container) {
                Some((_, port)) => *port = last.host_port,
                None => ports.push((container, last.host_port)),
            }
        }
        Some(Self {
            life,
            health,
            ports,
        })
    }
}

impl RawHealth {
    fn read(self) -> Health {
        let last = self.log.unwrap_or_default().pop();
        let said = last.map(|check| check.output).unwrap_or_default();
        let said = said.trim().chars().take(500).collect();
        match &*self.status.to_ascii_lowercase() {
            "starting" => Health::Starting { said },
            "healthy" => Health::Healthy,
            "unhealthy" => Health::Unhealthy { said },
            _ => Health::Unchecked,
        }
    }
}

/// A wait for a container to be healthy. The engine itself decides when it is not; the limit is for one that does not.
#[derive(Clone, Debug)]
pub struct HealthWait {
    container: String,
    tries: u32,
    waited: Duration,
    limit: Duration,
}

/// Where a [`HealthWait`] stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wait {
    /// It is healthy, or nobody checks.
    Ready,
    /// Ask again; [`Call::after`] says when.
    Next(Call),
    /// It will not be.
    Never(Unready),
}

/// Why a container is not ready.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unready {
    /// Its health check says so.
    #[error("its health check failed{}", quoted(.said))]
    Unhealthy {
        /// What the last check wrote.
        said: String,
    },
    /// It ended while it was waited for.
    #[error("it exited with code {code} while it was waited for{}", quoted(.said))]
    Ended {
        /// Its exit code.
        code: i64,
        /// What the last check wrote.
        said: String,
    },
    /// The limit is over.
    #[error("it was still starting after {} s{}", .waited.as_secs(), quoted(.said))]
    TimedOut {
        /// How long was waited between questions.
        waited: Duration,
        /// What the last check wrote.
        said: String,
    },
    /// The engine cannot say.
    #[error("the engine cannot say how it is: {0}")]
    Unknown(Failure),
}

fn quoted(said: &str) -> String {
    if said.is_empty() {
        return String::new();
    }
    format!("; the last check said “{said}”")
}

/// Between questions; GitHub's runner begins with 2 and ends with 32 seconds.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

impl HealthWait {
    /// Of a container, for so long.
    pub fn new(container: impl Into<String>, limit: Duration) -> Self {
        Self {
            container: container.into(),
            tries: 0,
            waited: Duration::ZERO,
            limit,
        }
    }

    /// The first question.
    pub fn first(&self, engine: &Engine) -> Call {
        engine.inspect(&self.container)
    }

    /// What follows from an answer.
    pub fn answer(&mut self, engine: &Engine, answer: &Answer) -> Wait {
        let Some(seen) = Inspection::parse(answer).filter(|_| answer.is_success()) else {
            return Wait::Never(Unready::Unknown(answer.failure()));
        };
        match (seen.health, seen.life) {
            (Health::Unchecked, _) | (Health::Healthy, Life::Running) => Wait::Ready,
            (Health::Healthy, Life::Ended(code)) => {
                let said = String::new();
                Wait::Never(Unready::Ended { code, said })
            }
            (Health::Unhealthy { said }, Life::Running) => Wait::Never(Unready::Unhealthy { said }),
            (Health::Starting { said } | Health::Unhealthy { said }, Life::Ended(code)) => {
                Wait::Never(Unready::Ended { code, said })
            }
            (Health::Starting { said }, Life::Running) if self.waited >= self.limit => {
                let waited = self.waited;
                Wait::Never(Unready::TimedOut { waited, said })
            }
            (Health::Starting { .. }, Life::Running) => {
                let pause = FIRST_PAUSE.saturating_mul(1 << self.tries.min(10));
                let pause = pause.min(LONGEST_PAUSE);
                self.tries = self.tries.saturating_add(1);
                self.waited = self.waited.saturating_add(pause);
                Wait::Next(engine.inspect(&self.container).after(pause))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::Exit;

    fn answer(state: &str) -> Answer {
        let text = format!("time=… level=warning\n{{\"State\":{state},\"Ports\":{{}}}}\n");
        Answer::new(Exit::Code(0), text.as_bytes())
    }

    fn starting() -> Answer {
        answer(
            r#"{"Running":true,"Health":{"Status":"starting","FailingStreak":2,"Log":[{"ExitCode":1,"Output":"nope\n"}]}}"#,
        )
    }

    #[test]
    fn an_answer_of_podman_is_read() {
        // Shortened from podman 4.3.1 in a machine.
        let text = r#"{"State":{"OciVersion":"1.0.2-dev","Status":"created","Running":false,"ExitCode":0,"StartedAt":"0001-01-01T00:00:00Z","Health":{"Status":"","FailingStreak":0,"Log":null}},"Ports":{"53/udp":[{"HostIp":"","HostPort":"53"}],"7000/tcp":[{"HostIp":"127.0.0.1","HostPort":"7000"}],"80/tcp":[{"HostIp":"","HostPort":"37811"}],"81/tcp":null}}"#;
        let seen = Inspection::parse(&Answer::new(Exit::Code(0), text.as_bytes())).unwrap();
        assert_eq!(seen.health, Health::Unchecked);
        assert_eq!(seen.life, Life::Ended(0));
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            seen.ports,
            [pair("53", "53"), pair("7000", "7000"), pair("80", "37811")]
        );
    }

    #[test]
    fn a_port_at_several_addresses_is_the_last_one() {
        let text = r#"{"State":{"Running":true},"Ports":{"6379/tcp":[{"HostIp":"0.0.0.0","HostPort":"32768"},{"HostIp":"::","HostPort":"32769"}]}}"#;
        let seen = Inspection::parse(&Answer::new(Exit::Code(0), text.as_bytes())).unwrap();
        assert_eq!(seen.ports, [("6379".to_owned(), "32769".to_owned())]);
        assert_eq!(seen.health, Health::Unchecked);
    }

    #[test]
    fn the_wait_is_longer_each_time_and_has_an_end() {
        let mut wait = HealthWait::new("c", Duration::from_secs(30));
        let mut pauses = Vec::new();
        let end = loop {
            match wait.answer(&Engine::Docker, &starting()) {
                Wait::Next(call) => pauses.push(call.after.as_secs()),
                end => break end,
            }
        };
        assert_eq!(pauses, [1, 2, 4, 8, 8, 8]);
        let Wait::Never(unready) = end else {
            panic!("{end:?}")
        };
        assert_eq!(
            unready.to_string(),
            "it was still starting after 31 s; the last check said “nope”"
        );
    }

    #[test]
    fn only_a_check_that_fails_or_a_death_ends_the_wait_badly() {
        let next = |answer: &Answer| {
            HealthWait::new("c", Duration::from_secs(30)).answer(&Engine::Docker, answer)
        };
        assert_eq!(next(&answer(r#"{"Running":true}"#)), Wait::Ready);
        assert_eq!(
            next(&answer(r#"{"Running":false,"ExitCode":3}"#)),
            Wait::Ready
        );
        let healthy = answer(r#"{"Running":true,"Healthcheck":{"Status":"healthy"}}"#);
        assert_eq!(next(&healthy), Wait::Ready);
        let never = |answer: &Answer| match next(answer) {
            Wait::Never(unready) => unready.to_string(),
            other => panic!("{other:?}"),
        };
        let unhealthy = answer(r#"{"Running":true,"Health":{"Status":"unhealthy","Log":null}}"#);
        assert_eq!(never(&unhealthy), "its health check failed");
        let ended = answer(r#"{"Running":false,"ExitCode":1,"Health":{"Status":"starting"}}"#);
        assert_eq!(
            never(&ended),
            "it exited with code 1 while it was waited for"
        );
        let gone = Answer::new(Exit::Code(125), b"Error: no such container c\n");
        assert_eq!(
            never(&gone),
            "the engine cannot say how it is: exit code 125 (Error: no such container c)"
        );
        assert!(matches!(
            next(&Answer::new(Exit::Code(0), b"{\"State\":[]}")),
            Wait::Never(Unready::Unknown(_))
        ));
    }
}
