//! Puts a report in its folder, in one piece.

use super::text::quoted;
use super::{json, junit, page};
use crate::record::RunRecord;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Component, Path, PathBuf};

/// The first bytes of a page of vmint's, by which a folder is known as one that may be replaced.
pub(super) const MARK: &str = "<!DOCTYPE html>\n<!-- a report of vmint -->\n";

/// What a report is made of. The page comes first, for it carries the mark: a folder in which vmint was killed is then
/// known as its own.
const PARTS: [&str; 4] = ["index.html", "logs", "junit.xml", "run.json"];

const STAGING: &str = ".vmint-report-";

/// Why a report could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The folder holds something else.
    #[error(
        "the folder {} is not empty and holds no report of vmint; name another one, or remove what is in it",
        quoted(&.folder.to_string_lossy())
    )]
    Foreign {
        /// The folder.
        folder: PathBuf,
    },
    /// A file could not be read or written.
    #[error("cannot {action} {}", quoted(&.path.to_string_lossy()))]
    Io {
        /// What was being done: `copy`.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The JUnit file could not be made.
    #[error("cannot write JUnit XML")]
    Junit(#[source] quick_junit::SerializeError),
}

/// Writes the report of a run, whose logs are in `run_folder`, into `target`: `index.html`, `junit.xml`, `run.json` and
/// `logs/`. A report that is there is replaced; other files of the folder are left alone, but a folder without a report
/// must be empty. Logs are copied as streams. Paths in `run.json` are relative to `target`.
pub fn write(run: &RunRecord, run_folder: &Path, target: &Path) -> Result<(), ReportError> {
    fs::create_dir_all(target).map_err(failed("make the folder", target))?;
    if !is_ours(target).map_err(failed("read the folder", target))? {
        return Err(ReportError::Foreign {
            folder: target.to_owned(),
        });
    }
    // In the same folder, so that it is on the same file system: renaming is then at once.
    let staging = tempfile::Builder::new()
        .prefix(STAGING)
        .tempdir_in(target)
        .map_err(failed("write into", target))?;
    fill(run, run_folder, staging.path())?;
    let old = staging.path().join("old");
    fs::create_dir(&old).map_err(failed("write into", target))?;
    for part in PARTS {
        let (from, to) = (staging.path().join(part), target.join(part));
        match fs::rename(&to, old.join(part)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(failed("replace", &to)(e));
            }
            _ => fs::rename(&from, &to).map_err(failed("write", &to))?,
        }
    }
    staging.close().map_err(failed("tidy up in", target))
}

fn fill(run: &RunRecord, run_folder: &Path, staging: &Path) -> Result<(), ReportError> {
    let logs = staging.join("logs");
    fs::create_dir(&logs).map_err(failed("make the folder", &logs))?;
    let mut run = run.clone();
    for step in run.jobs.iter_mut().flat_map(|job| &mut job.steps) {
        step.log = take(step.log.take(), run_folder, staging)?;
        step.summary = take(step.summary.take(), run_folder, staging)?;
    }
    let create = |name: &str| {
        let path = staging.join(name);
        let file = File::create(&path).map_err(failed("write", &path))?;
        Ok::<_, ReportError>((BufWriter::new(file), path))
    };
    let (mut out, path) = create("index.html")?;
    page::render(&run, staging, &mut out)
        .and_then(|()| out.flush())
        .map_err(failed("write", &path))?;
    let (mut out, path) = create("junit.xml")?;
    junit::report(&run, staging)
        .serialize(&mut out)
        .map_err(ReportError::Junit)?;
    out.flush().map_err(failed("write", &path))?;
    let (mut out, path) = create("run.json")?;
    serde_json::to_writer_pretty(&mut out, &json(&run))
        .map_err(io::Error::from)
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush())
        .map_err(failed("write", &path))
}

/// Copies a file of the run's folder below `logs`, and gives its path in the report; nothing if it is gone.
fn take(
    path: Option<PathBuf>,
    run_folder: &Path,
    staging: &Path,
) -> Result<Option<PathBuf>, ReportError> {
    let Some(path) = path else { return Ok(None) };
    let plain = path.components().all(|c| matches!(c, Component::Normal(_)));
    let source = run_folder.join(&path);
    if !plain || !source.is_file() {
        return Ok(None);
    }
    let place = Path::new("logs").join(path.strip_prefix("logs").unwrap_or(&path));
    let copy = staging.join(&place);
    if let Some(folder) = copy.parent() {
        fs::create_dir_all(folder).map_err(failed("make the folder", folder))?;
    }
    fs::copy(&source, &copy).map_err(failed("copy", &source))?;
    Ok(Some(place))
}

/// Whether a folder is empty, holds a report, or holds only what a killed vmint left.
fn is_ours(folder: &Path) -> io::Result<bool> {
    match File::open(folder.join("index.html")) {
        Ok(file) => {
            let mut start = Vec::new();
            file.take(MARK.len() as u64).read_to_end(&mut start)?;
            return Ok(start == MARK.as_bytes());
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    for entry in fs::read_dir(folder)? {
        if !entry?
            .file_name()
            .as_encoded_bytes()
            .starts_with(STAGING.as_bytes())
        {
            return Ok(false);
        }
    }
    Ok(true)
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ReportError {
    let path = path.to_owned();
    move |source| ReportError::Io {
        action,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Kind;
    use crate::report::sample;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_report_is_written_and_replaced_and_nothing_else_is_touched() {
        let (home, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let target = target.path().join("a/report");
        let mut run = sample::build_and_test();
        sample::log(
            home.path(),
            "old",
            &mut run.jobs[0].steps[1],
            &[(0, Kind::Text, "hello")],
        );
        write(&run, home.path(), &target).unwrap();
        assert_eq!(
            names(&target),
            ["index.html", "junit.xml", "logs", "run.json"]
        );
        assert_eq!(names(&target.join("logs")), ["old-2.log"]);

        fs::write(target.join("mine.txt"), "x").unwrap();
        sample::log(
            home.path(),
            "new",
            &mut run.jobs[0].steps[1],
            &[(0, Kind::Text, "hello")],
        );
        write(&run, home.path(), &target).unwrap();
        assert_eq!(
            names(&target),
            ["index.html", "junit.xml", "logs", "mine.txt", "run.json"]
        );
        assert_eq!(names(&target.join("logs")), ["new-2.log"]);
        let json: serde_json::Value =
            serde_json::from_slice(&fs::read(target.join("run.json")).unwrap()).unwrap();
        assert_eq!(json["jobs"][0]["steps"][1]["log"], "logs/new-2.log");
    }

    #[test]
    fn a_folder_of_someone_else_is_refused_and_untouched() {
        let target = tempfile::tempdir().unwrap();
        for (name, content) in [("index.html", "<!DOCTYPE html>\n<p>mine"), ("notes", "")] {
            fs::write(target.path().join(name), content).unwrap();
            let error = write(&sample::build_and_test(), target.path(), target.path()).unwrap_err();
            assert!(matches!(error, ReportError::Foreign { .. }), "{error}");
            assert_eq!(names(target.path()), [name]);
            fs::remove_file(target.path().join(name)).unwrap();
        }
    }

    #[test]
    fn what_a_killed_vmint_left_does_not_stand_in_the_way() {
        let target = tempfile::tempdir().unwrap();
        fs::create_dir(target.path().join(".vmint-report-abc")).unwrap();
        write(&sample::build_and_test(), target.path(), target.path()).unwrap();
    }

    #[test]
    fn a_log_outside_of_the_runs_folder_is_not_taken() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("run")).unwrap();
        fs::write(home.path().join("secret"), "key").unwrap();
        let mut run = sample::build_and_test();
        run.jobs[0].steps[1].log = Some("../secret".into());
        run.jobs[0].steps[2].log = Some(home.path().join("secret"));
        run.jobs[1].steps[1].log = Some("gone".into());
        let target = home.path().join("report");
        write(&run, &home.path().join("run"), &target).unwrap();
        assert_eq!(names(&target.join("logs")), [""; 0]);
    }
}
