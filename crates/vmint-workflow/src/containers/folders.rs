//! Where a docker action finds the job's folders.

/// The job's folders in the machine, absolute and without colons. Each has a path of its own in a docker action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folders {
    /// `GITHUB_WORKSPACE`: `/github/workspace`.
    pub workspace: String,
    /// The files of `GITHUB_ENV` and its like: `/github/file_commands`.
    pub file_commands: String,
    /// That of `event.json`: `/github/workflow`.
    pub workflow: String,
    /// `HOME`: `/github/home`.
    pub home: String,
    /// `RUNNER_TEMP`: `/github/runner_temp`.
    pub temp: String,
}

impl Folders {
    /// All but the workspace lie below `RUNNER_TEMP`, as on GitHub.
    pub fn new(workspace: impl Into<String>, temp: &str) -> Self {
        Self {
            workspace: workspace.into(),
            file_commands: format!("{temp}/_runner_file_commands"),
            workflow: format!("{temp}/_github_workflow"),
            home: format!("{temp}/_github_home"),
            temp: temp.to_owned(),
        }
    }

    /// Inner ones before those that they lie in.
    pub(super) fn all(&self) -> [(&str, &'static str); 5] {
        [
            (&self.workspace, "/github/workspace"),
            (&self.file_commands, "/github/file_commands"),
            (&self.workflow, "/github/workflow"),
            (&self.home, "/github/home"),
            (&self.temp, "/github/runner_temp"),
        ]
    }

    /// A path as the container sees it; any other text stays as it is.
    pub fn translate(&self, text: &str) -> String {
        let inner = self.all().into_iter().find_map(|(machine, container)| {
            let rest = text.strip_prefix(machine)?;
            (rest.is_empty() || rest.starts_with('/')).then(|| format!("{container}{rest}"))
        });
        inner.unwrap_or_else(|| text.to_owned())
    }

    /// A path of the container as the machine sees it: what an action writes into a file, or into a workflow command.
    pub fn translate_back(&self, text: &str) -> String {
        let outer = self.all().into_iter().find_map(|(machine, container)| {
            let rest = text.strip_prefix(container)?;
            (rest.is_empty() || rest.starts_with('/')).then(|| format!("{machine}{rest}"))
        });
        outer.unwrap_or_else(|| text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_translated_there_and_back() {
        let folders = Folders::new("/home/runner/work/a/a", "/home/runner/work/_temp");
        for (machine, container) in [
            ("/home/runner/work/a/a", "/github/workspace"),
            ("/home/runner/work/a/ab", "/home/runner/work/a/ab"),
            (
                "/home/runner/work/_temp/_runner_file_commands/set_env_1",
                "/github/file_commands/set_env_1",
            ),
            (
                "/home/runner/work/_temp/_github_workflow/event.json",
                "/github/workflow/event.json",
            ),
            ("/home/runner/work/_temp/x", "/github/runner_temp/x"),
            ("plain", "plain"),
        ] {
            assert_eq!(folders.translate(machine), container);
            assert_eq!(folders.translate_back(container), machine);
        }
    }
}
