//! The language's [`check`](vmint_syntax::check), on the files of this host.

use crate::yaml::MAX_BYTES;
use std::io::{self, Read as _};
use std::path::Path;

pub use crate::mirror::Mirror;
pub use vmint_syntax::check::*;

/// The files of this host.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Files for Disk {
    fn kind(&self, path: &Path) -> Option<Kind> {
        let kind = std::fs::metadata(path).ok()?.file_type();
        match (kind.is_file(), kind.is_dir()) {
            (true, _) => Some(Kind::File),
            (_, true) => Some(Kind::Folder),
            _ => None,
        }
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        read(path)
    }
}

/// The content of a file, one byte more than may be at the most.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = MAX_BYTES as u64 + 1;
    std::fs::File::open(path)?
        .take(limit)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::LeftOut;

    #[test]
    fn actions_are_found_in_the_repository_and_in_the_mirror_and_what_is_missing_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for (path, text) in [
            (
                "a/action.yml",
                "runs: {using: composite, steps: [{run: x, shell: sh}]}",
            ),
            (
                "mirror/o/node@v1/action.yaml",
                "runs: {using: node20, main: m.js}",
            ),
            ("mirror/o/node@v1/m.js", ""),
            ("file", ""),
        ] {
            std::fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            std::fs::write(root.join(path), text).unwrap();
        }
        let text = |between: &str| {
            format!(
                "on: push\njobs:\n  a:\n    runs-on: x\n    steps:\n    - uses: actions/checkout@v4\n{between}    - uses: ./a\n    - uses: o/node@v1\n"
            )
        };
        let check = |text: &str, folder: Option<&str>| {
            let mirror = Mirror {
                folder: folder.map(|folder| root.join(folder)),
                ..Mirror::default()
            };
            let options = Options {
                repository: root,
                files: &Disk,
                actions: &mirror,
                left_out: &LeftOut::default(),
                labels: None,
                slug: "",
                selection: Selection::default(),
            };
            super::check(Path::new("ci.yml"), text.as_bytes(), &options)
        };
        let checked = check(&text(""), Some("mirror")).unwrap_or_else(|wrong| panic!("{wrong}"));
        assert_eq!((checked.actions.len(), checked.warnings.len()), (3, 0));
        let said = |between: &str, folder| {
            let wrong = check(&text(between), folder).unwrap_err();
            wrong.to_string().replace(&*root.to_string_lossy(), "REPO")
        };
        insta::assert_snapshot!(said("    - uses: ./file\n    - uses: ./b\n    - uses: o/other@v1\n", Some("mirror")), @r"
        ci.yml:7:13: error: `file` is a file
            help: name the folder of the action; a workflow is called by `uses` of a job, not of a step
        ci.yml:8:13: warning: `./b` is not in the repository; it is looked for in the workspace when the step runs
            help: fine if a step before puts it there; else correct the path
        ci.yml:9:13: error: the action `o/other@v1` is not available
            help: fetch it with `vmint workflow fetch-actions FILE`, put the repository at that ref into `REPO/mirror/o/other@v1`, or say in `[workflow.replace]` what stands in for it
        ");
        insta::assert_snapshot!(said("", None), @r#"
        ci.yml:8:13: error: the action `o/node@v1` is not available
            help: name a folder for copies of actions, `[workflow] actions = "actions"` in vmint.toml, and fetch it with `vmint workflow fetch-actions FILE`; or say in `[workflow.replace]` what stands in for it
        "#);
    }
}
