//! The container engine of a machine, and in what docker and podman differ. Nowhere else is that told apart.

use super::call::{Answer, Call, Show};
use super::image::Image;
use std::time::Duration;

/// A container engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Docker, with its daemon.
    Docker,
    /// Podman, run by root.
    Podman {
        /// What starts processes in the machine.
        init: Init,
        /// Where podman offers docker's API, if it does.
        socket: Option<String>,
    },
}

/// What starts processes in a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Init {
    /// Systemd: podman has it make control groups, keep logs and run health checks on time.
    Systemd,
    /// Anything else: podman does the first two itself, and we have health checks run.
    Other,
}

/// No engine can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoEngine {
    /// There is none.
    #[error(
        "the machine has neither docker nor podman: add `packages = [\"podman\", \"crun\", \"netavark\", \"aardvark-dns\", \"iptables\", \
         \"ca-certificates\"]` to its image in vmint.toml (in Debian 13 with nftables for iptables), or let the job run without `container`, services and docker actions"
    )]
    Nothing,
    /// Docker's client is there alone.
    #[error(
        "the machine has docker, but its daemon does not answer{}: see to it that `systemctl enable docker` is in the image's `run`",
        if .0.is_empty() { String::new() } else { format!(" ({})", .0) }
    )]
    NoDaemon(String),
    /// The question was not answered.
    #[error("failed to ask the machine for its container engine: {0}")]
    Unknown(super::call::Failure),
}

/// Asks for both at once: under emulation a process more is half a second. A docker that says it is podman is podman's
/// stand-in for it. The daemon may still be starting, and is given half a minute.
const DETECT: &str = r#"
if command -v docker >/dev/null 2>&1; then
  case "$(docker --version 2>/dev/null)" in
    *podman*) ;;
    *)
      echo docker=here
      for try in 1 2 3 4 5 6 7 8 9 10; do
        if said=$(docker version --format '{{.Server.Version}}' 2>&1); then echo "server=$said"; break; fi
        echo "down=$said" | tail -n 1
        command -v podman >/dev/null 2>&1 && break
        sleep 3
      done
      ;;
  esac
fi
command -v podman >/dev/null 2>&1 && echo podman=here
test -d /run/systemd/system && echo init=systemd
for socket in /run/podman/podman.sock /var/run/docker.sock; do
  test -S "$socket" && echo "socket=$socket" && break
done
true
"#;

/// Docker makes the folders that are to be mounted and are not there. Podman refuses.
const MAKE_FOLDERS: &str = r#"for path; do test -e "$path" || mkdir -p -- "$path" || exit; done"#;

/// A health check of podman's is run by a timer of systemd, or by whoever asks for it.
const CHECK_AND_INSPECT: &str =
    r#"container=$1; shift; "$@" healthcheck run "$container" >/dev/null 2>&1; exec "$@" inspect"#;

impl Engine {
    /// Asks a machine what it has.
    pub fn detect() -> Call {
        Call::new(["/bin/sh", "-c", DETECT])
            .within(Duration::from_mins(2))
            .showing(Show::Nothing)
    }

    /// Reads the answer to [`detect`](Self::detect). Docker goes before podman.
    pub fn detected(answer: &Answer) -> Result<Self, NoEngine> {
        if !answer.is_success() {
            return Err(NoEngine::Unknown(answer.failure()));
        }
        let said = |key: &str| {
            let lines = answer.output.lines().rev();
            let mut pairs = lines.filter_map(|line| line.split_once('='));
            pairs.find_map(|(name, value)| (name == key).then(|| value.trim()))
        };
        if said("server").is_some() {
            return Ok(Self::Docker);
        }
        if said("podman").is_none() {
            return Err(match said("docker") {
                Some(_) => {
                    NoEngine::NoDaemon(said("down").unwrap_or_default().chars().take(300).collect())
                }
                None => NoEngine::Nothing,
            });
        }
        Ok(Self::Podman {
            init: match said("init") {
                Some("systemd") => Init::Systemd,
                _ => Init::Other,
            },
            socket: said("socket").map(str::to_owned),
        })
    }

    /// The program.
    pub fn program(&self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman { .. } => "podman",
        }
    }

    /// A command of the engine.
    pub fn call<A: Into<String>>(&self, args: impl IntoIterator<Item = A>) -> Call {
        let mut call = Call::new([self.program()]);
        if self.is_on_its_own() {
            call = call
                .args(["--cgroup-manager=cgroupfs", "--events-backend=file"])
                .env([("DISABLE_HC_SYSTEMD".to_owned(), "true".to_owned())]);
        }
        call.args(args)
    }

    fn is_on_its_own(&self) -> bool {
        matches!(
            self,
            Self::Podman {
                init: Init::Other,
                ..
            }
        )
    }

    /// What `create` and `run` need besides.
    pub(super) fn creation(&self) -> &'static [&'static str] {
        if self.is_on_its_own() {
            &["--log-driver=k8s-file"]
        } else {
            &[]
        }
    }

    /// Where docker's API is in the machine.
    pub fn socket(&self) -> Option<&str> {
        match self {
            Self::Docker => Some("/var/run/docker.sock"),
            Self::Podman { socket, .. } => socket.as_deref(),
        }
    }

    /// Pulls an image, with the credentials in a folder.
    pub(super) fn pull(&self, image: &Image, credentials: Option<&str>) -> Call {
        let call = match (self, credentials) {
            (Self::Docker, None) => self.call(["pull"]),
            (Self::Docker, Some(folder)) => self.call(["--config", folder, "pull"]),
            (Self::Podman { .. }, None) => self.call(["pull"]),
            (Self::Podman { .. }, Some(folder)) => {
                self.call(["pull", "--authfile", &format!("{folder}/config.json")])
            }
        };
        match self {
            Self::Docker => call.args([image.as_str()]),
            Self::Podman { .. } => call.args([image.qualified()]),
        }
    }

    /// Docker Hub, as the engine writes it in its file of credentials.
    pub(super) fn hub(&self) -> &'static str {
        match self {
            Self::Docker => "https://index.docker.io/v1/",
            Self::Podman { .. } => "docker.io",
        }
    }

    /// Builds an image. Without docker's format podman would drop `HEALTHCHECK` and `SHELL`.
    pub(super) fn build(&self, tag: &str, dockerfile: &str, context: &str) -> Call {
        let call = match self {
            Self::Docker => self.call(["build"]),
            Self::Podman { .. } => self.call(["build", "--format", "docker"]),
        };
        call.args(["--tag", tag, "--file", dockerfile, context])
    }

    /// Makes what is to be mounted, where the engine does not.
    pub(super) fn make_folders<'a>(
        &self,
        paths: impl IntoIterator<Item = &'a str>,
    ) -> Option<Call> {
        let paths: Vec<&str> = paths.into_iter().collect();
        if *self == Self::Docker || paths.is_empty() {
            return None;
        }
        let call = Call::new(["/bin/sh", "-c", MAKE_FOLDERS, "sh"]).args(paths);
        Some(call.showing(Show::Output))
    }

    /// Asks how a container is; the answer is for [`Inspection`](super::health::Inspection).
    pub(super) fn inspect(&self, container: &str) -> Call {
        let format = super::health::FORMAT;
        let call = if self.is_on_its_own() {
            let own = self.call([] as [&str; 0]);
            let script =
                format!("{CHECK_AND_INSPECT} --type container --format '{format}' \"$container\"");
            Call::new(["/bin/sh", "-c", &script, "sh", container])
                .args(own.argv)
                .env(own.env)
        } else {
            self.call(["inspect", "--type", "container", "--format", format])
                .args([container])
        };
        call.showing(Show::Nothing)
    }

    /// Removes a container at once, with its anonymous volumes. Podman would wait 10 seconds for one that does not heed its
    /// signal.
    pub(super) fn remove(&self, container: &str) -> Call {
        let call = self.call(["rm", "--force", "--volumes"]);
        match self {
            Self::Docker => call.args([container]),
            Self::Podman { .. } => call.args(["--time", "0", container]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::Exit;

    fn detected(output: &str) -> Result<Engine, NoEngine> {
        Engine::detected(&Answer::new(Exit::Code(0), output.as_bytes()))
    }

    #[test]
    fn docker_goes_before_podman_if_its_daemon_answers() {
        let podman = Engine::Podman {
            init: Init::Systemd,
            socket: Some("/run/podman/podman.sock".into()),
        };
        let rest = "podman=here\ninit=systemd\nsocket=/run/podman/podman.sock\n";
        let docker = format!("docker=here\nserver=20.10.24+dfsg1\n{rest}");
        assert_eq!(detected(&docker), Ok(Engine::Docker));
        let down = format!("docker=here\ndown=Cannot connect\n{rest}");
        assert_eq!(detected(&down), Ok(podman.clone()));
        assert_eq!(detected(rest), Ok(podman));
        let alone = Engine::Podman {
            init: Init::Other,
            socket: None,
        };
        assert_eq!(detected("podman=here\n"), Ok(alone));
    }

    #[test]
    fn a_machine_without_an_engine_is_told_what_it_lacks() {
        insta::assert_snapshot!(detected("init=systemd\n").unwrap_err(), @r#"the machine has neither docker nor podman: add `packages = ["podman", "crun", "netavark", "aardvark-dns", "iptables", "ca-certificates"]` to its image in vmint.toml (in Debian 13 with nftables for iptables), or let the job run without `container`, services and docker actions"#);
        insta::assert_snapshot!(detected("docker=here\ndown=a\ndown=Cannot connect\n").unwrap_err(), @"the machine has docker, but its daemon does not answer (Cannot connect): see to it that `systemctl enable docker` is in the image's `run`");
        let failed = Engine::detected(&Answer::new(Exit::Code(127), b"no sh"));
        assert!(matches!(failed, Err(NoEngine::Unknown(_))));
    }

    #[test]
    fn podman_without_systemd_does_all_itself() {
        let engine = Engine::Podman {
            init: Init::Other,
            socket: None,
        };
        let call = engine.inspect("abc");
        assert_eq!(
            call.argv[3..],
            [
                "sh",
                "abc",
                "podman",
                "--cgroup-manager=cgroupfs",
                "--events-backend=file"
            ]
        );
        insta::assert_snapshot!(call.argv[2], @r#"container=$1; shift; "$@" healthcheck run "$container" >/dev/null 2>&1; exec "$@" inspect --type container --format '{"State":{{json .State}},"Ports":{{json .NetworkSettings.Ports}}}' "$container""#);
        assert_eq!(call.env, [("DISABLE_HC_SYSTEMD".into(), "true".into())]);
    }
}
