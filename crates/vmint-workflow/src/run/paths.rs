//! Where things are in a machine. As on GitHub's own runners, so that paths in logs and caches are the same.

/// The folder above all others.
pub const WORK: &str = "/home/runner/work";
/// `RUNNER_TEMP`: scripts, and the files through which steps talk back.
pub const TEMP: &str = "/home/runner/work/_temp";
/// Copies of actions that do not lie in the workspace.
pub const ACTIONS: &str = "/home/runner/work/_actions";
/// `RUNNER_TOOL_CACHE`.
pub const TOOL_CACHE: &str = "/opt/hostedtoolcache";
/// `GITHUB_EVENT_PATH`.
pub const EVENT: &str = "/home/runner/work/_temp/_github_workflow/event.json";
/// What vmint itself needs.
pub const OWN: &str = "/home/runner/work/_temp/_vmint";
/// Programs of vmint's own, the last in `PATH`.
pub const BIN: &str = "/home/runner/work/_temp/_vmint/bin";
/// The same in the job's container, which has links only.
pub const LINKS: &str = "/home/runner/work/_temp/_vmint/links";
/// What the machine lends a job's container.
pub const EXTERNALS: &str = "/home/runner/work/_temp/_vmint/externals";
/// What the session says of itself, in memory.
pub const SESSION: &str = "/run/vmint/session";

/// `GITHUB_WORKSPACE` for a repository `OWNER/NAME`.
pub fn workspace(repository: &str) -> String {
    let name = repository.rsplit('/').next().unwrap_or(repository);
    format!("{WORK}/{name}/{name}")
}

/// A path below a folder; an absolute one stands for itself.
pub fn below(folder: &str, path: &str) -> String {
    let path = path.trim();
    if path.starts_with('/') {
        return path.to_owned();
    }
    let mut joined = folder.trim_end_matches('/').to_owned();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => joined.truncate(joined.rfind('/').unwrap_or(0)),
            part => {
                joined.push('/');
                joined.push_str(part);
            }
        }
    }
    if joined.is_empty() {
        joined.push('/');
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_joined_as_a_shell_would() {
        for (folder, path, joined) in [
            ("/w", "a/b", "/w/a/b"),
            ("/w/", "./a//b/", "/w/a/b"),
            ("/w/x", "../a", "/w/a"),
            ("/w", "../../..", "/"),
            ("/w", "", "/w"),
            ("/w", "/etc", "/etc"),
        ] {
            assert_eq!(below(folder, path), joined);
        }
        assert_eq!(workspace("oxide/hubris"), "/home/runner/work/hubris/hubris");
    }
}
