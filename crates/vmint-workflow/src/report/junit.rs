//! A run as JUnit XML: a suite for each job, a case for each step.
//!
//! `failure` is a step's, `error` is vmint's. What failed and was allowed to is neither of them, nor a success: it is
//! `skipped` with a message that says so, and so is what was cancelled.

use super::ansi;
use super::text::{accelerator, between};
use super::verdict::{Verdict, job_note, run_note, step_note};
use crate::log::{Kind, Line, rfc3339};
use crate::record::{JobRecord, RunRecord, StepRecord};
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

/// How much of the end of a log is in the file, and of all logs together.
const TAIL: u64 = 64 << 10;
const TAILS: u64 = 8 << 20;

/// The report; logs are read from `folder`.
pub(super) fn report(run: &RunRecord, folder: &Path) -> Report {
    let mut report = Report::new(legal(&run.workflow));
    report.timestamp = rfc3339(run.started_at_ms).parse().ok();
    report.time = elapsed(Some(run.started_at_ms), run.ended_at_ms);
    let steps: usize = run.jobs.iter().map(|job| job.steps.len()).sum();
    let tail = TAIL.min(TAILS / steps.max(1) as u64);
    for job in &run.jobs {
        report.add_test_suite(suite(run, job, folder, tail));
    }
    // What ended the run may be no job's: nothing was acquired, or its time was up.
    let verdict = Verdict::of_run(run);
    let told = run
        .jobs
        .iter()
        .any(|job| Verdict::of_job(run, job) == verdict);
    if !told && matches!(verdict, Verdict::Failure | Verdict::Fault) {
        let mut suite = TestSuite::new("vmint");
        let mut case = TestCase::new("run", status(verdict, run_note(run)));
        case.set_classname(legal(&run.workflow));
        suite.add_test_case(case);
        report.add_test_suite(suite);
    }
    report
}

fn suite(run: &RunRecord, job: &JobRecord, folder: &Path, tail: u64) -> TestSuite {
    let mut suite = TestSuite::new(legal(&job.name));
    suite.timestamp = job.started_at_ms.and_then(|at| rfc3339(at).parse().ok());
    suite.time = elapsed(job.started_at_ms, job.ended_at_ms);
    if let Some(machine) = job.machine.and_then(|index| run.machines.get(index)) {
        suite.add_property(("accelerator", accelerator(machine.accelerator)));
        suite.add_property(("image", &*legal(&machine.image)));
    }
    let class = legal(&format!("{}.{}", run.workflow, job.key));
    let mut seen = HashMap::new();
    for step in &job.steps {
        // Readers take cases of the same name for one.
        let nth = seen.entry(&step.name).and_modify(|n| *n += 1).or_insert(1);
        let name = match nth {
            1 => step.name.to_string(),
            n => format!("{} ({n})", step.name),
        };
        suite.add_test_case(case(run, step, &name, &class, folder, tail));
    }
    let verdict = Verdict::of_job(run, job);
    let told = job
        .steps
        .iter()
        .any(|step| Verdict::of_step(run, step) == verdict);
    if job.steps.is_empty() || (verdict.needs_attention() && !told) {
        let mut case = TestCase::new("job", status(verdict, job_note(run, job)));
        case.set_classname(&*class);
        suite.add_test_case(case);
    }
    suite
}

fn case(
    run: &RunRecord,
    step: &StepRecord,
    name: &str,
    class: &str,
    folder: &Path,
    tail: u64,
) -> TestCase {
    let status = status(Verdict::of_step(run, step), step_note(run, step));
    let mut case = TestCase::new(legal(name), status);
    case.set_classname(class);
    case.timestamp = step.started_at_ms.and_then(|at| rfc3339(at).parse().ok());
    case.time = elapsed(step.started_at_ms, step.ended_at_ms);
    let log = step.log.as_ref().map(|log| end_of(&folder.join(log), tail));
    // A log that has gone since it was copied is not worth a report that fails.
    if let Some(Ok(text)) = log.filter(|log| log.as_ref().is_ok_and(|text| !text.is_empty())) {
        case.set_system_out(text);
    }
    case
}

fn status(verdict: Verdict, note: Option<String>) -> TestCaseStatus {
    let message = match note {
        Some(note) => legal(&format!("{}: {note}", verdict.words())),
        None => verdict.words().to_owned(),
    };
    let mut status = match verdict {
        Verdict::Success => return TestCaseStatus::success(),
        Verdict::Failure => TestCaseStatus::non_success(NonSuccessKind::Failure),
        Verdict::Fault => TestCaseStatus::non_success(NonSuccessKind::Error),
        _ => TestCaseStatus::skipped(),
    };
    status.set_message(message);
    status.set_type(verdict.class());
    status
}

fn elapsed(from_ms: Option<i64>, to_ms: Option<i64>) -> Option<Duration> {
    between(from_ms, to_ms).map(Duration::from_millis)
}

/// The last `limit` bytes of a log, in whole lines and without their times.
fn end_of(path: &Path, limit: u64) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(limit)))?;
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let mut out = String::with_capacity(text.len());
    let mut lines = text.lines();
    if length > limit {
        lines.next();
        out.push_str("… the beginning is in the log\n");
    }
    for line in lines.map(Line::decode) {
        out.push_str(match line.kind {
            Kind::EndGroup => continue,
            Kind::Error => "Error: ",
            Kind::Warning => "Warning: ",
            Kind::Notice => "Notice: ",
            Kind::Text | Kind::Group | Kind::Command | Kind::Debug => "",
        });
        out.push_str(&legal(&ansi::plain(&line.text)));
        out.push('\n');
    }
    Ok(out)
}

/// Without what XML cannot hold, and without what would command a terminal.
fn legal(text: &str) -> String {
    let legal = |c: &char| !matches!(c, '\u{fffe}' | '\u{ffff}');
    text.chars()
        .filter(legal)
        .map(super::text::visible)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    fn xml(run: &RunRecord) -> String {
        report(run, Path::new("/nonexistent")).to_string().unwrap()
    }

    #[test]
    fn failures_are_told_from_what_may_fail_and_from_what_was_skipped() {
        insta::assert_snapshot!(xml(&sample::build_and_test()), @r#"
        <?xml version="1.0" encoding="UTF-8"?>
        <testsuites name="CI" tests="9" skipped="3" failures="1" errors="0" timestamp="2026-11-20T15:35:12.000+00:00" time="15.000">
            <testsuite name="build" tests="5" skipped="2" errors="0" failures="1" timestamp="2026-11-20T15:35:12.100+00:00" time="12.950">
                <properties>
                    <property name="accelerator" value="KVM"/>
                    <property name="image" value="ubuntu-24.04"/>
                </properties>
                <testcase name="Set up job" classname="CI.build" timestamp="2026-11-20T15:35:12.100+00:00" time="0.100"/>
                <testcase name="cargo clippy" classname="CI.build" timestamp="2026-11-20T15:35:12.500+00:00" time="1.900">
                    <skipped message="failed, allowed to: exit code 1; continue-on-error" type="allowed"/>
                </testcase>
                <testcase name="cargo test --workspace" classname="CI.build" timestamp="2026-11-20T15:35:14.400+00:00" time="10.500">
                    <failure message="failed: exit code 101" type="failure"/>
                </testcase>
                <testcase name="Upload what was built" classname="CI.build">
                    <skipped message="skipped: its condition was false" type="skipped"/>
                </testcase>
                <testcase name="Clean up" classname="CI.build" timestamp="2026-11-20T15:35:24.900+00:00" time="0.150"/>
            </testsuite>
            <testsuite name="lint" tests="3" skipped="0" errors="0" failures="0" timestamp="2026-11-20T15:35:25.100+00:00" time="1.700">
                <properties>
                    <property name="accelerator" value="KVM"/>
                    <property name="image" value="ubuntu-24.04"/>
                </properties>
                <testcase name="Set up job" classname="CI.lint" timestamp="2026-11-20T15:35:25.100+00:00" time="0.100"/>
                <testcase name="cargo fmt --check" classname="CI.lint" timestamp="2026-11-20T15:35:25.200+00:00" time="1.550"/>
                <testcase name="Clean up" classname="CI.lint" timestamp="2026-11-20T15:35:26.750+00:00" time="0.050"/>
            </testsuite>
            <testsuite name="publish" tests="1" skipped="1" errors="0" failures="0">
                <testcase name="job" classname="CI.publish">
                    <skipped message="skipped: a job that it needs has failed: build" type="skipped"/>
                </testcase>
            </testsuite>
        </testsuites>
        "#);
    }

    #[test]
    fn a_fault_is_an_error_and_not_a_failure() {
        let xml = xml(&sample::faulty());
        assert!(
            xml.contains("<error message=\"vmint failed: machine m0123456789ab is gone"),
            "{xml}"
        );
        assert!(!xml.contains("<failure"), "{xml}");
        assert!(xml.contains("<skipped message=\"not reached\""), "{xml}");
    }

    #[test]
    fn a_job_that_failed_without_a_step_has_a_case_that_failed() {
        let mut run = sample::build_and_test();
        run.jobs[1].outcome = Some(crate::record::Outcome::Failure);
        run.jobs[1].reason = Some("its matrix is empty".into());
        let xml = xml(&run);
        assert!(
            xml.contains("<failure message=\"failed: its matrix is empty\""),
            "{xml}"
        );
        run.jobs.clear();
        let xml = self::xml(&run);
        assert!(xml.contains("<testcase name=\"run\""), "{xml}");
    }

    #[test]
    fn steps_of_the_same_name_are_told_apart() {
        let mut run = sample::build_and_test();
        run.jobs[0].steps[1].name = "x".into();
        run.jobs[0].steps[2].name = "x".into();
        let xml = xml(&run);
        assert!(
            xml.contains("name=\"x\"") && xml.contains("name=\"x (2)\""),
            "{xml}"
        );
    }

    #[test]
    fn nothing_that_xml_cannot_hold_gets_into_it() {
        let mut run = sample::hostile();
        let folder = tempfile::tempdir().unwrap();
        let step = &mut run.jobs[0].steps[0];
        sample::raw_log(
            folder.path(),
            "a",
            step,
            b"]]>\0\x1b[31mred\xff \xef\xbf\xbf\n",
        );
        let xml = report(&run, folder.path()).to_string().unwrap();
        let illegal =
            |c: char| (c < ' ' && c != '\n' && c != '\t') || matches!(c, '\u{fffe}' | '\u{ffff}');
        assert!(!xml.contains(illegal), "{xml}");
        assert!(!xml.contains("<script>"), "{xml}");
        assert!(
            xml.contains("<system-out>]]&gt;␀red\u{fffd} \n</system-out>"),
            "{xml}"
        );
    }

    #[test]
    fn of_a_long_log_the_end_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let lines: Vec<_> = (0..100_000).map(|n| format!("line {n}")).collect();
        std::fs::write(&path, lines.join("\n") + "\n").unwrap();
        let text = end_of(&path, TAIL).unwrap();
        assert!(text.len() as u64 <= TAIL + 100);
        assert!(
            text.starts_with("… the beginning is in the log\nline "),
            "{}",
            &text[..80]
        );
        assert!(text.ends_with("line 99999\n"));
    }
}
