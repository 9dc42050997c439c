//! `workflow show`: what came of a run, from its record alone.

use crate::output::{self, list, table};
use std::fmt::Write as _;
use std::path::Path;
use vmint::workflow::log::rfc3339;
use vmint::workflow::record::{Annotation, Level, RunRecord};
use vmint::workflow::report::text::{accelerator, accelerators, between, duration, size};
use vmint::workflow::report::{Verdict, job_note, rewind_commands, run_note, step_note};

/// In the table at the end of a run, more steps than these are told only if something is to be said of them.
const MOST_STEPS: usize = 40;

/// The run with all of its steps; `folder` is where its logs are.
pub fn text(run: &RunRecord, folder: &Path) -> String {
    let mut text = String::new();
    let took = between(Some(run.started_at_ms), run.ended_at_ms);
    let continues = run.resumed.as_ref().map(|resumed| {
        format!(
            "{} from step {} of {}",
            resumed.run, resumed.step, resumed.job
        )
    });
    let facts = list([
        ("run", run.id.to_string()),
        ("workflow", one_line(&run.workflow)),
        (
            "title",
            run.title.as_deref().map(one_line).unwrap_or_default(),
        ),
        ("file", run.file.to_string_lossy().into_owned()),
        ("event", one_line(&run.event)),
        ("ref", one_line(&run.git_ref)),
        ("commit", one_line(&run.sha)),
        ("continues", continues.unwrap_or_default()),
        ("started", rfc3339(run.started_at_ms)),
        ("duration", took.map(|ms| on(run, ms)).unwrap_or_default()),
        ("logs", folder.to_string_lossy().into_owned()),
    ]);
    let _ = writeln!(text, "{}\n\n{facts}", verdict_line(run));
    for note in &run.notes {
        let _ = writeln!(text, "note: {}", one_line(note));
    }
    if !run.machines.is_empty() {
        let _ = writeln!(text, "\n{}", machines(run));
    }
    if !run.jobs.is_empty() {
        let _ = writeln!(text, "\n{}", steps(run, |_| true));
    }
    section(&mut text, "Annotations", annotations(run));
    section(&mut text, "Rewind", rewinding(run));
    text.truncate(text.trim_end().len());
    text
}

fn section(text: &mut String, title: &str, lines: Vec<String>) {
    if !lines.is_empty() {
        let _ = writeln!(text, "\n{title}");
        for line in lines {
            let _ = writeln!(text, "  {line}");
        }
    }
}

/// What the run is: `CI: Fix the clock (push, refs/heads/main, 2f1c9d0e8b7a), run r0000cafe`.
pub fn title(run: &RunRecord) -> String {
    let title = run.title.as_ref().map(|title| format!(": {title}"));
    let sha: String = run.sha.chars().take(12).collect();
    one_line(&format!(
        "{}{} ({}, {}, {sha}), run {}",
        run.workflow,
        title.unwrap_or_default(),
        run.event,
        run.git_ref,
        run.id
    ))
}

/// How it ended: `✗ CI failed after 15.0 s on KVM: 1 of 3 jobs failed`.
pub fn verdict_line(run: &RunRecord) -> String {
    let verdict = Verdict::of_run(run);
    let mut line = format!("{} {}: {}", verdict.sign(), run.workflow, verdict.words());
    if let Some(ms) = between(Some(run.started_at_ms), run.ended_at_ms) {
        let _ = write!(line, " after {}", on(run, ms));
    }
    if let Some(note) = run_note(run) {
        let _ = write!(line, ": {note}");
    }
    one_line(&line)
}

/// Jobs and steps in a table; of very many steps those of which something is to be said.
pub fn summary(run: &RunRecord) -> String {
    let count: usize = run.jobs.iter().map(|job| job.steps.len()).sum();
    if count <= MOST_STEPS {
        return steps(run, |_| true);
    }
    let table = steps(run, |verdict| verdict != Verdict::Success);
    format!(
        "{table}\nSteps that succeeded are left out; all {count}: vmint workflow show {}",
        run.id
    )
}

fn steps(run: &RunRecord, shows: impl Fn(Verdict) -> bool) -> String {
    let mut rows = Vec::new();
    for job in &run.jobs {
        let took = between(job.started_at_ms, job.ended_at_ms);
        let machine = job.machine.and_then(|index| run.machines.get(index));
        // Where machines differ in what executes them, each time says on what it was taken.
        let on = machine.map_or_else(String::new, |machine| {
            format!(" on {}", accelerator(machine.accelerator))
        });
        rows.push(row(
            one_line(&job.name),
            Verdict::of_job(run, job),
            took.map(|ms| duration(ms) + &on),
            job_note(run, job),
        ));
        for step in &job.steps {
            let verdict = Verdict::of_step(run, step);
            if shows(verdict) {
                let took = between(step.started_at_ms, step.ended_at_ms);
                rows.push(row(
                    format!("  {} {}", step.number, one_line(&step.name)),
                    verdict,
                    took.map(duration),
                    step_note(run, step),
                ));
            }
        }
    }
    table(["JOB, STEP", "OUTCOME", "TIME", "NOTE"], rows)
}

fn row(name: String, verdict: Verdict, took: Option<String>, note: Option<String>) -> [String; 4] {
    let outcome = format!("{} {}", verdict.sign(), verdict.words());
    let note = note.as_deref().map(one_line);
    [
        name,
        outcome,
        took.unwrap_or_default(),
        note.unwrap_or_default(),
    ]
}

fn machines(run: &RunRecord) -> String {
    let rows = run.machines.iter().map(|machine| {
        let lent = between(Some(machine.acquired_at_ms), machine.released_at_ms);
        [
            format!("{}@{}", machine.machine, machine.generation),
            machine.image.to_string(),
            accelerator(machine.accelerator).to_owned(),
            machine.boot_id.clone().unwrap_or_default().to_string(),
            output::ms(machine.acquire_ms),
            lent.map(duration).unwrap_or_default(),
            machine.executions.to_string(),
        ]
    });
    table(
        [
            "MACHINE",
            "IMAGE",
            "ACCELERATOR",
            "BOOT ID",
            "ACQUIRED IN",
            "LENT FOR",
            "COMMANDS",
        ],
        rows,
    )
}

fn annotations(run: &RunRecord) -> Vec<String> {
    let mut lines = Vec::new();
    for job in &run.jobs {
        for step in &job.steps {
            let told = |annotation| annotation_line(annotation);
            lines.extend(step.annotations.iter().map(told));
            if step.annotations_dropped > 0 {
                let (more, number) = (step.annotations_dropped, step.number);
                lines.push(one_line(&format!(
                    "{more} more in the log of step {number} of {}",
                    job.name
                )));
            }
        }
    }
    lines
}

/// `src/clock.rs:42:9: error: title: message`, as compilers have it.
fn annotation_line(annotation: &Annotation) -> String {
    let mut line = String::new();
    if let Some(file) = &annotation.file {
        line.push_str(file);
        let numbers = [annotation.line, annotation.line.and(annotation.column)];
        for number in numbers.into_iter().flatten() {
            let _ = write!(line, ":{number}");
        }
        line.push_str(": ");
    }
    line.push_str(match annotation.level {
        Level::Error => "error: ",
        Level::Warning => "warning: ",
        Level::Notice => "notice: ",
    });
    if let Some(title) = &annotation.title {
        let _ = write!(line, "{title}: ");
    }
    one_line(&(line + &annotation.message))
}

fn rewinding(run: &RunRecord) -> Vec<String> {
    let mut lines = Vec::new();
    for job in &run.jobs {
        for step in &job.steps {
            let snapshot = step.snapshot.as_ref();
            let (Some(snapshot), Some(commands)) = (snapshot, rewind_commands(run, job, step))
            else {
                continue;
            };
            lines.push(one_line(&format!(
                "before step {} of {}, {} ({})",
                step.number,
                job.name,
                step.name,
                size(snapshot.size)
            )));
            lines.extend(commands.map(|command| format!("  {}", one_line(&command))));
        }
        if let Some(failed) = &job.failed {
            let (name, size) = (&job.name, size(failed.size));
            lines.push(one_line(&format!(
                "when a step of {name} had failed ({size})"
            )));
            lines.push(format!("  vmint workflow shell {}", run.id));
        }
    }
    lines
}

fn on(run: &RunRecord, ms: u64) -> String {
    match &*accelerators(run) {
        "" => duration(ms),
        names => format!("{} on {names}", duration(ms)),
    }
}

/// A guest's text on a line of its own, without what would command a terminal.
fn one_line(text: &str) -> String {
    output::printable(&text.replace('\n', " "))
}

#[cfg(test)]
#[path = "show_tests.rs"]
pub(super) mod tests;
