//! The job's own container while it runs: commands in it, and its files as the machine sees them.
//!
//! | the container | how that is known | a step that runs in it | other steps |
//! |---|---|---|---|
//! | is none | `container` is absent, or its image is empty | runs in the machine | run |
//! | is to start | the file names one | does not come before its start | do not come before its start |
//! | did not start | [`Startup`](super::startup::Startup) failed | is skipped, or fails with that reason (`if: always()`) | the same |
//! | runs | [`Inside`] | runs, by `exec` of the engine | run |
//! | has ended | a command in it failed, and `inspect` says so | fails, with that reason | run |
//! | is removed | [`Teardown`](super::teardown::Teardown), whatever the end of the job | – | – |
//!
//! A machine that goes on from a moment has its containers running as they were, so an [`Inside`] is written down with it.
//!
//! **Commands.** The engine's client passes no signal on, and what it has started goes on without it. So each command has a
//! mark in its environment, by which its processes are found from the machine: signals are sent to them ([`tell`]), and what a
//! command that was cut off has left is killed.
//!
//! **Files.** Those of the [folders](super::folders) that the container has of the machine are found there. All others are seen
//! below a [sight](Inside::look): the container's root and its mounts, bound to a folder of the machine once something asks for
//! it.

use super::call::{Answer, Call, Show};
use super::engine::Engine;
use super::health::{Inspection, Life};
use super::scope::Scope;
use super::variables::Variables;
use crate::expr::value::{Object, Value};
use serde::{Deserialize, Serialize};

/// The job's own container, which runs or has run. It can be written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inside {
    /// Its id.
    pub container: String,
    /// How it ended, once that was seen.
    #[serde(default)]
    pub ended: Option<String>,
    /// Where the machine sees all of its files, once that was asked for.
    #[serde(default)]
    pub sight: Option<String>,
}

/// A command for the container.
#[derive(Clone, Copy, Debug)]
pub struct Exec<'a> {
    /// Program and arguments.
    pub argv: &'a [String],
    /// Variables, over those of the container.
    pub variables: &'a Variables,
    /// Working directory; the workspace when absent.
    pub cwd: Option<&'a str>,
    /// By which its processes are found.
    pub mark: &'a str,
}

/// The variable with the mark.
const MARK: &str = "VMINT_INSIDE";

/// Sends a signal to all processes with a mark. The mark is given as an argument, and so in no environment but theirs.
const TELL: &str = r#"
for environment in $(grep -l -e "VMINT_INSIDE=$2" /proc/[0-9]*/environ 2>/dev/null); do
    pid=${environment#/proc/}
    kill "-$1" "${pid%/environ}" 2>/dev/null
done
true
"#;

/// Binds a container's root, and what is mounted in it, to a folder. What is mounted over a link is left out: in the machine
/// the link leads elsewhere.
const LOOK: &str = r#"
sight=$1
mkdir -p "$sight" && mount -o bind "$2" "$sight" || exit
shift 2
while [ $# -ge 2 ]; do
    if [ -d "$1" ] && [ "$(readlink -f "$sight$2")" = "$sight$2" ]; then
        mount -o bind "$1" "$sight$2" || exit
    fi
    shift 2
done
"#;

const HIDE: &str = r#"umount -l "$1" && rmdir "$1""#;

/// What is asked of `inspect` for a sight.
const FORMAT: &str = r#"{"Root":{{json .GraphDriver.Data.MergedDir}},"Mounts":{{json .Mounts}}}"#;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Raw {
    root: String,
    mounts: Option<Vec<RawMount>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawMount {
    #[serde(default)]
    source: String,
    #[serde(default)]
    destination: String,
}

impl Inside {
    /// Of a container that was started.
    pub fn new(container: impl Into<String>) -> Self {
        Self {
            container: container.into(),
            ended: None,
            sight: None,
        }
    }

    /// `job.container`.
    pub fn context(&self, scope: &Scope) -> Value {
        let mut context = Object::new();
        context.insert("id", self.container.as_str());
        context.insert("network", scope.network());
        context.into()
    }

    /// Runs a command in it.
    pub fn exec(&self, engine: &Engine, exec: Exec<'_>) -> Call {
        let mut call = engine.call(["exec"]);
        if let Some(cwd) = exec.cwd {
            call = call.args(["--workdir", cwd]);
        }
        call.args(exec.variables.arguments())
            .env(exec.variables.inherited())
            .args(["--env".to_owned(), format!("{MARK}={}", exec.mark)])
            .args([&self.container])
            .args(exec.argv.iter().cloned())
            .showing(Show::Output)
    }

    /// Asks whether it still runs.
    pub fn ask(&self, engine: &Engine) -> Call {
        engine.inspect(&self.container)
    }

    /// How it ended, if it has.
    pub fn end(answer: &Answer) -> Option<String> {
        match Inspection::parse(answer) {
            // Podman, which has killed it.
            Some(Inspection {
                life: Life::Ended(..0),
                ..
            }) => Some("it was killed".to_owned()),
            Some(Inspection {
                life: Life::Ended(code),
                ..
            }) => Some(format!("it exited with code {code}")),
            Some(_) => None,
            None if answer.is_success() => None,
            None => Some(format!(
                "the engine no longer knows it: {}",
                answer.failure()
            )),
        }
    }

    /// Asks for what a sight is made of.
    pub fn ask_for_sight(&self, engine: &Engine) -> Call {
        let call = engine.call(["inspect", "--type", "container", "--format", FORMAT]);
        call.args([&self.container]).showing(Show::Nothing)
    }

    /// The call that makes all files of the container be seen below a folder of the machine; nothing, if the engine does not
    /// say where they are.
    pub fn look(scope: &Scope, answer: &Answer) -> Option<(String, Call)> {
        let lines = answer.output.lines().rev();
        let mut objects = lines.filter(|line| line.starts_with('{'));
        let raw: Raw = objects.find_map(|line| serde_json::from_str(line).ok())?;
        if !raw.root.starts_with('/') {
            return None;
        }
        let sight = format!("/run/vmint/inside_{scope}");
        let mut mounts = raw.mounts.unwrap_or_default();
        // Outer ones before those that lie in them.
        mounts.sort_by(|a, b| a.destination.cmp(&b.destination));
        let mounts = mounts
            .into_iter()
            .filter(|mount| mount.source.starts_with('/') && mount.destination.starts_with('/'))
            .flat_map(|mount| [mount.source, mount.destination]);
        let call = Call::new(["/bin/sh", "-c", LOOK, "sh", &sight, &raw.root]);
        Some((sight, call.args(mounts).showing(Show::Nothing)))
    }

    /// Undoes [`look`](Self::look).
    pub(super) fn hide(&self) -> Option<Call> {
        let sight = self.sight.as_deref()?;
        let call = Call::new(["/bin/sh", "-c", HIDE, "sh", sight]);
        Some(call.showing(Show::Output))
    }
}

/// The mark of a command, which no other has, not even as its beginning.
pub fn mark(scope: &Scope, number: u64) -> String {
    format!("{scope}.{number}.")
}

/// Sends a signal to the processes of a command.
pub fn tell(mark: &str, signal: i32) -> Call {
    let call = Call::new(["/bin/sh", "-c", TELL, "sh"]);
    call.args([&signal.to_string(), mark])
        .showing(Show::Nothing)
}

#[cfg(test)]
mod tests {
    use super::super::testing::podman;
    use super::*;
    use crate::guest::Exit;

    fn answer(text: &str) -> Answer {
        Answer::new(Exit::Code(0), text.as_bytes())
    }

    #[test]
    fn a_command_is_run_by_the_engine_and_its_variables_are_inherited() {
        let pairs = [
            ("PATH", "/x:/bin"),
            ("INPUT_A-B", "s3cret"),
            ("GITHUB_ENV", "/f"),
        ];
        let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let variables = Variables::new(pairs).unwrap();
        let inside = Inside::new("abc");
        let call = inside.exec(
            &podman(),
            Exec {
                argv: &["sh".into(), "-e".into(), "/__w/_temp/1.sh".into()],
                variables: &variables,
                cwd: Some("/__w/a/a"),
                mark: "a1.7.",
            },
        );
        assert_eq!(
            call.argv.join(" "),
            "podman exec --workdir /__w/a/a --env PATH=/x:/bin --env INPUT_A-B --env GITHUB_ENV --env VMINT_INSIDE=a1.7. \
             abc sh -e /__w/_temp/1.sh"
        );
        assert!(
            call.env
                .contains(&("INPUT_A-B".to_owned(), "s3cret".to_owned()))
        );
        // The client itself is not to be found by it.
        assert!(call.env.iter().all(|(name, _)| name != MARK));
    }

    #[test]
    fn its_end_is_told_and_nothing_else_is_taken_for_it() {
        assert_eq!(
            Inside::end(&answer(r#"{"State":{"Running":true},"Ports":{}}"#)),
            None
        );
        assert_eq!(
            Inside::end(&answer(
                r#"{"State":{"Running":false,"ExitCode":137},"Ports":{}}"#
            ))
            .as_deref(),
            Some("it exited with code 137")
        );
        let killed = r#"{"State":{"Running":false,"ExitCode":-1},"Ports":{}}"#;
        assert_eq!(
            Inside::end(&answer(killed)).as_deref(),
            Some("it was killed")
        );
        let gone = Answer::new(Exit::Code(125), b"no such container");
        assert!(Inside::end(&gone).unwrap().contains("no such container"));
        assert_eq!(Inside::end(&answer("a warning")), None);
    }

    #[test]
    fn a_sight_is_of_the_root_and_then_of_its_mounts_outer_ones_first() {
        let scope = Scope::new("a1").unwrap();
        let text = r#"{"Root":"/var/lib/m","Mounts":[{"Source":"/w/x","Destination":"/__w/x"},{"Source":"/w","Destination":"/__w"},
            {"Type":"tmpfs","Destination":"/t"}]}"#
            .replace('\n', "");
        let (sight, call) = Inside::look(&scope, &answer(&text)).unwrap();
        assert_eq!(sight, "/run/vmint/inside_a1");
        assert_eq!(
            call.argv[4..],
            [
                "/run/vmint/inside_a1",
                "/var/lib/m",
                "/w",
                "/__w",
                "/w/x",
                "/__w/x"
            ]
        );
        for text in [r#"{"Root":"","Mounts":[]}"#, "nonsense", r#"{"Root":null}"#] {
            assert_eq!(Inside::look(&scope, &answer(text)), None, "{text}");
        }
    }
}
