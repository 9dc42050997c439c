//! Which workflow file is meant; and files that flags name, read.

use std::io::Read;
use std::path::{Path, PathBuf};
use vmint::{ErrorKind, Fault};

/// Where GitHub looks for workflows.
const FOLDER: &str = ".github/workflows";

/// The file that is meant: a path, or a name in `.github/workflows` of the working directory or the nearest folder above
/// it that has one.
pub fn find(here: &Path, given: &Path) -> Result<PathBuf, Fault> {
    let text = given.as_os_str().to_string_lossy();
    let direct = here.join(given);
    if text.contains('/') || is_workflow(given) && direct.is_file() {
        return if direct.is_file() {
            Ok(given.to_owned())
        } else {
            Err(Fault::new(
                ErrorKind::NotFound,
                format!("there is no file {}", given.display()),
            ))
        };
    }
    let folder = folder(here);
    if let Some(folder) = &folder {
        let names = [
            text.to_string(),
            format!("{text}.yml"),
            format!("{text}.yaml"),
        ];
        let found = names.iter().map(|name| folder.join(name));
        if let Some(found) = found.into_iter().find(|file| file.is_file()) {
            return Ok(found);
        }
    }
    if direct.is_file() {
        return Ok(given.to_owned());
    }
    let message = format!("there is no workflow {text}");
    let fault = Fault::new(ErrorKind::NotFound, message);
    Err(match folder.map(|folder| (all_in(&folder), folder)) {
        Some((all, folder)) if !all.is_empty() => {
            let name = |file: &PathBuf| {
                let name = file.file_name().unwrap_or_default();
                name.to_string_lossy().into_owned()
            };
            let names: Vec<_> = all.iter().map(name).collect();
            fault.hint(format!("{} has {}", folder.display(), names.join(", ")))
        }
        _ => fault.hint(format!(
            "there is no {FOLDER} here, nor above; give the path of a file"
        )),
    })
}

/// All workflows of the repository.
pub fn all(here: &Path) -> Result<Vec<PathBuf>, Fault> {
    let all = folder(here)
        .map(|folder| all_in(&folder))
        .unwrap_or_default();
    if all.is_empty() {
        let message = format!("there are no workflows in {FOLDER}, here or above");
        return Err(Fault::new(ErrorKind::NotFound, message).hint("name a file"));
    }
    Ok(all)
}

/// The nearest folder of workflows. A repository ends the search.
fn folder(here: &Path) -> Option<PathBuf> {
    for above in here.ancestors() {
        let folder = above.join(FOLDER);
        if folder.is_dir() {
            return Some(folder);
        }
        if above.join(".git").exists() {
            return None;
        }
    }
    None
}

fn all_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut all: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| is_workflow(path) && path.is_file())
        .collect();
    all.sort();
    all
}

fn is_workflow(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str());
    matches!(extension, Some("yml" | "yaml"))
}

/// Reads a file that a flag names, if it is not longer than it may be.
pub fn read_bounded(path: &Path, longest: u64, flag: &str) -> Result<Vec<u8>, Fault> {
    let fail = |e: std::io::Error| {
        let kind = if e.kind() == std::io::ErrorKind::NotFound {
            ErrorKind::NotFound
        } else {
            ErrorKind::Host
        };
        Fault::from_error(kind, &e).context(format!("{flag}: cannot read {}", path.display()))
    };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(fail)?;
    file.take(longest + 1)
        .read_to_end(&mut bytes)
        .map_err(fail)?;
    if bytes.len() as u64 > longest {
        let message = format!("{flag}: {} is longer than {longest} bytes", path.display());
        return Err(Fault::new(ErrorKind::Usage, message));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A repository with workflows `ci.yml` and `nightly.yaml`, and a folder `src/test` in it.
    fn repository_with_workflows() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for folder in [FOLDER, ".git", "src/test"] {
            std::fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        for file in ["ci.yml", "nightly.yaml", "README.md"] {
            std::fs::write(root.path().join(FOLDER).join(file), "").unwrap();
        }
        root
    }

    #[test]
    fn a_name_is_looked_up_among_the_workflows_of_the_repository() {
        let root = repository_with_workflows();
        for here in [root.path().to_owned(), root.path().join("src/test")] {
            for (name, file) in [
                ("ci", "ci.yml"),
                ("ci.yml", "ci.yml"),
                ("nightly", "nightly.yaml"),
            ] {
                let found = find(&here, Path::new(name)).unwrap();
                assert_eq!(found, root.path().join(FOLDER).join(file), "{name}");
            }
        }
    }

    #[test]
    fn a_path_is_a_path_and_a_file_here_comes_before_one_of_the_same_name() {
        let root = repository_with_workflows();
        let here = root.path().join("src");
        std::fs::write(here.join("ci.yml"), "").unwrap();
        for path in ["ci.yml", "./ci.yml", "../.github/workflows/nightly.yaml"] {
            assert_eq!(find(&here, Path::new(path)), Ok(path.into()));
        }
        // A folder is no workflow.
        let fault = find(&here, Path::new("test")).unwrap_err();
        assert_eq!(fault.kind, ErrorKind::NotFound);
    }

    #[test]
    fn what_is_missing_is_told_with_what_is_there() {
        let root = repository_with_workflows();
        let fault = find(root.path(), Path::new("deploy")).unwrap_err();
        assert_eq!(fault.message, "there is no workflow deploy");
        assert!(
            fault
                .hint
                .unwrap()
                .ends_with(".github/workflows has ci.yml, nightly.yaml")
        );
        let fault = find(root.path(), Path::new("./deploy.yml")).unwrap_err();
        assert_eq!(fault.message, "there is no file ./deploy.yml");
        // Those of a repository around this one are not meant.
        let inner = root.path().join("src/test");
        std::fs::create_dir(inner.join(".git")).unwrap();
        let fault = find(&inner, Path::new("ci")).unwrap_err();
        assert!(
            fault
                .hint
                .unwrap()
                .starts_with("there is no .github/workflows")
        );
        assert_eq!(all(&inner).unwrap_err().kind, ErrorKind::NotFound);
        assert_eq!(all(root.path()).unwrap().len(), 2);
    }

    #[test]
    fn a_file_that_is_too_long_or_not_there_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secrets");
        std::fs::write(&path, "12345").unwrap();
        let fault = read_bounded(&path, 4, "--secret-file").unwrap_err();
        assert!(fault.message.ends_with("is longer than 4 bytes"), "{fault}");
        assert_eq!(read_bounded(&path, 5, "--secret-file").unwrap(), b"12345");
        let fault = read_bounded(Path::new("/no/such"), 5, "--secret-file").unwrap_err();
        assert_eq!(fault.kind, ErrorKind::NotFound);
    }
}
