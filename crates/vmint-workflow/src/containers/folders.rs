//! Where a container finds the job's folders: a docker action, and the job's own container.
//!
//! | folder of the machine | in a docker action | in the job's container |
//! |---|---|---|
//! | the workspace | `/github/workspace` | below `/__w` |
//! | all of the runner's work | – | `/__w` |
//! | `RUNNER_TEMP` | `/github/runner_temp` | `/__w/_temp` |
//! | the files of `GITHUB_ENV` and its like | `/github/file_commands` | below `/__w/_temp` |
//! | that of `event.json` | `/github/workflow` | the same |
//! | `HOME` | `/github/home` | the same |
//! | `RUNNER_TOOL_CACHE` | – | `/__t` |
//! | what vmint lends of the machine | – | `/__e`, for reading |

use super::volume::{Access, Volume};

/// `HOME` in a container.
pub const HOME: &str = "/github/home";
/// Where the job's container finds what vmint lends it of the machine.
pub const EXTERNALS: &str = "/__e";

/// The job's folders in the machine, absolute and without colons. Each has a path of its own in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folders {
    /// `GITHUB_WORKSPACE`, in the machine.
    pub workspace: String,
    /// Inner ones before those that they lie in.
    mounts: Vec<Mount>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    machine: String,
    /// As another container sees it, whose paths may stand in a text.
    elsewhere: Option<String>,
    container: &'static str,
    access: Access,
}

impl Mount {
    fn new(machine: impl Into<String>, container: &'static str) -> Self {
        Self {
            machine: machine.into(),
            elsewhere: None,
            container,
            access: Access::ReadWrite,
        }
    }
}

/// What of the machine a job's container is given.
#[derive(Clone, Copy, Debug)]
pub struct OfMachine<'a> {
    /// The workspace, below `work`.
    pub workspace: &'a str,
    /// The folder above all others.
    pub work: &'a str,
    /// `RUNNER_TEMP`, below `work`.
    pub temp: &'a str,
    /// `RUNNER_TOOL_CACHE`.
    pub tool_cache: &'a str,
    /// What the machine lends.
    pub externals: &'a str,
}

impl Folders {
    /// Of a docker action. All but the workspace lie below `RUNNER_TEMP`, as on GitHub.
    pub fn of_action(workspace: impl Into<String>, temp: &str) -> Self {
        let workspace = workspace.into();
        let mounts = vec![
            Mount::new(workspace.clone(), "/github/workspace"),
            Mount::new(
                format!("{temp}/_runner_file_commands"),
                "/github/file_commands",
            ),
            Mount::new(format!("{temp}/_github_workflow"), "/github/workflow"),
            Mount::new(format!("{temp}/_github_home"), HOME),
            Mount::new(temp, "/github/runner_temp"),
        ];
        Self { workspace, mounts }
    }

    /// Of the job's container.
    pub fn of_job(machine: OfMachine<'_>) -> Self {
        let temp = machine.temp;
        let mut externals = Mount::new(machine.externals, EXTERNALS);
        externals.access = Access::ReadOnly;
        let mounts = vec![
            Mount::new(format!("{temp}/_github_workflow"), "/github/workflow"),
            Mount::new(format!("{temp}/_github_home"), HOME),
            externals,
            Mount::new(machine.tool_cache, "/__t"),
            Mount::new(machine.work, "/__w"),
        ];
        Self {
            workspace: machine.workspace.to_owned(),
            mounts,
        }
    }

    /// The same for texts in which the paths of another container may stand, too.
    pub fn also_seen_from(mut self, other: &Self) -> Self {
        for mount in &mut self.mounts {
            mount.elsewhere = Some(other.translate(&mount.machine));
        }
        self
    }

    /// The folders of the machine.
    pub(super) fn of_machine(&self) -> impl Iterator<Item = &str> {
        self.mounts.iter().map(|mount| &*mount.machine)
    }

    /// What is mounted, outer ones before those that lie in them.
    pub(super) fn volumes(&self) -> impl Iterator<Item = Volume> {
        let mounts = self.mounts.iter().rev();
        mounts.map(|mount| Volume {
            access: mount.access,
            ..Volume::folder(&*mount.machine, mount.container)
        })
    }

    /// A path as the container sees it; any other text stays as it is.
    pub fn translate(&self, text: &str) -> String {
        let inner = self.mounts.iter().find_map(|mount| {
            let elsewhere = mount.elsewhere.as_deref();
            let rest = below(text, &mount.machine).or_else(|| below(text, elsewhere?))?;
            Some(format!("{}{rest}", mount.container))
        });
        inner.unwrap_or_else(|| text.to_owned())
    }

    /// A path of the container as the machine sees it: what an action writes into a file, or into a workflow command.
    pub fn translate_back(&self, text: &str) -> String {
        self.in_machine(text).unwrap_or_else(|| text.to_owned())
    }

    /// The same, where the machine has it under these folders.
    pub fn in_machine(&self, path: &str) -> Option<String> {
        self.mounts.iter().find_map(|mount| {
            let rest = below(path, mount.container)?;
            Some(format!("{}{rest}", mount.machine))
        })
    }
}

/// What follows a folder in a path that is that folder or lies in it.
fn below<'t>(text: &'t str, folder: &str) -> Option<&'t str> {
    let rest = text.strip_prefix(folder)?;
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORK: &str = "/home/runner/work";

    fn of_action() -> Folders {
        Folders::of_action(format!("{WORK}/a/a"), &format!("{WORK}/_temp"))
    }

    fn of_job() -> Folders {
        Folders::of_job(OfMachine {
            workspace: &format!("{WORK}/a/a"),
            work: WORK,
            temp: &format!("{WORK}/_temp"),
            tool_cache: "/opt/hostedtoolcache",
            externals: &format!("{WORK}/_temp/_vmint/externals"),
        })
    }

    #[test]
    fn paths_are_translated_there_and_back() {
        for (folders, cases) in [
            (
                of_action(),
                [
                    ("a/a", "/github/workspace"),
                    ("a/ab", "/home/runner/work/a/ab"),
                    (
                        "_temp/_runner_file_commands/set_env_1",
                        "/github/file_commands/set_env_1",
                    ),
                    (
                        "_temp/_github_workflow/event.json",
                        "/github/workflow/event.json",
                    ),
                    ("_temp/x", "/github/runner_temp/x"),
                ],
            ),
            (
                of_job(),
                [
                    ("a/a", "/__w/a/a"),
                    ("_temp/_github_home/.cache", "/github/home/.cache"),
                    (
                        "_temp/_github_workflow/event.json",
                        "/github/workflow/event.json",
                    ),
                    ("_temp/x", "/__w/_temp/x"),
                    ("_temp/_vmint/externals/node", "/__e/node"),
                ],
            ),
        ] {
            for (below, container) in cases {
                let machine = format!("{WORK}/{below}");
                assert_eq!(folders.translate(&machine), container);
                assert_eq!(folders.translate_back(container), machine);
            }
            assert_eq!(folders.translate("plain"), "plain");
        }
        assert_eq!(of_job().translate("/opt/hostedtoolcache/x"), "/__t/x");
        assert_eq!(of_job().in_machine("/etc/passwd"), None);
    }

    #[test]
    fn an_action_in_a_job_with_a_container_is_given_paths_of_both() {
        let folders = of_action().also_seen_from(&of_job());
        for (text, action) in [
            ("/__w/a/a/x", "/github/workspace/x"),
            ("/home/runner/work/a/a/x", "/github/workspace/x"),
            ("/github/workflow/event.json", "/github/workflow/event.json"),
            ("/__w/_temp/y", "/github/runner_temp/y"),
            ("/__w/b", "/__w/b"),
        ] {
            assert_eq!(folders.translate(text), action);
        }
        assert_eq!(
            folders.translate_back("/github/workspace/x"),
            "/home/runner/work/a/a/x"
        );
    }
}
