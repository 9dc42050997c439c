//! The jobs of the page, each with its steps and their logs.

use super::logs;
use super::text::{Escaped, accelerator, between, duration, href, size};
use super::verdict::{Verdict, job_note, rewind_commands, step_note};
use crate::record::{JobRecord, RunRecord, StepKind, StepRecord};
use std::fmt::Write as _;
use std::io;
use std::path::Path;

/// So many of the steps that failed are open from the start; a page with hundreds of them would not be read.
const MOST_OPEN: usize = 5;

/// Writes jobs one after the other, so that no more than one log is held.
pub(super) fn write(run: &RunRecord, folder: &Path, out: &mut dyn io::Write) -> io::Result<()> {
    let steps = run.jobs.iter().flat_map(|job| &job.steps);
    let sizes: Vec<u64> = steps
        .filter_map(|step| folder.join(step.log.as_ref()?).metadata().ok())
        .map(|meta| meta.len().min(logs::MOST_OF_ONE))
        .collect();
    let context = Context {
        run,
        folder,
        limit: logs::share(&sizes, logs::MOST_OF_ALL).min(logs::MOST_OF_ONE),
    };
    let mut open = MOST_OPEN;
    for (j, job) in run.jobs.iter().enumerate() {
        out.write_all(context.job_head(j, job).as_bytes())?;
        for (s, step) in job.steps.iter().enumerate() {
            let html = context.step((j, job), (s, step), &mut open);
            out.write_all(html.as_bytes())?;
        }
        out.write_all(b"</ol></section>\n")?;
    }
    Ok(())
}

struct Context<'a> {
    run: &'a RunRecord,
    folder: &'a Path,
    limit: u64,
}

impl Context<'_> {
    fn job_head(&self, j: usize, job: &JobRecord) -> String {
        let verdict = Verdict::of_job(self.run, job);
        let mut html = format!(
            "<section class=\"job\" id=\"j{j}\" aria-labelledby=\"jh{j}\"><div class=\"jobhead\"><h3 id=\"jh{j}\">{} {}</h3>",
            badge(verdict),
            Escaped(&job.name)
        );
        let machine = job.machine.and_then(|index| self.run.machines.get(index));
        if let Some(ms) = between(job.started_at_ms, job.ended_at_ms) {
            let on = machine.map_or_else(String::new, |machine| {
                format!(" on {}", accelerator(machine.accelerator))
            });
            let _ = write!(html, "<p class=\"took\">{}{on}</p>", duration(ms));
        }
        html.push_str("</div>");
        if let Some(note) = job_note(self.run, job) {
            let _ = write!(
                html,
                "<p class=\"note {}\">{}</p>",
                verdict.class(),
                Escaped(&note)
            );
        }
        if let Some(hint) = job.fault.as_ref().and_then(|fault| fault.hint.as_ref()) {
            let _ = write!(html, "<p class=\"hint\">{}</p>", Escaped(hint));
        }
        let mut facts = Vec::new();
        if !job.runs_on.is_empty() {
            facts.push(format!("runs on {}", Escaped(&job.runs_on.join(", "))));
        }
        if let Some(machine) = machine {
            let (id, image) = (&machine.machine, Escaped(&machine.image));
            facts.push(format!("machine <a href=\"#machines\">{id}</a> of {image}"));
        }
        if !job.needs.is_empty() {
            facts.push(format!("needs {}", Escaped(&job.needs.join(", "))));
        }
        if !facts.is_empty() {
            let _ = write!(html, "<p class=\"meta\">{}</p>", facts.join(" · "));
        }
        if !job.outputs.is_empty() {
            html.push_str("<details class=\"outputs\"><summary>Outputs</summary><dl>");
            for (name, value) in &job.outputs {
                let _ = write!(
                    html,
                    "<dt>{}</dt><dd>{}</dd>",
                    Escaped(name),
                    Escaped(value)
                );
            }
            html.push_str("</dl></details>");
        }
        html.push_str("<ol class=\"steps\">\n");
        html
    }

    fn step(
        &self,
        (j, job): (usize, &JobRecord),
        (s, step): (usize, &StepRecord),
        open: &mut usize,
    ) -> String {
        let verdict = Verdict::of_step(self.run, step);
        let head = self.step_head(step, verdict);
        if step.started_at_ms.is_none() && step.log.is_none() {
            return format!(
                "<li id=\"s{j}-{s}\" class=\"unrun {}\">{head}</li>\n",
                verdict.class()
            );
        }
        let opened = if verdict.needs_attention() && *open > 0 {
            *open -= 1;
            " open"
        } else {
            ""
        };
        // The anchor is within: browsers then open what is folded when one goes there.
        let mut html = format!(
            "<li class=\"{}\"><details class=\"step\"{opened}><summary>{head}</summary><div class=\"body\" id=\"s{j}-{s}\">",
            verdict.class()
        );
        html.push_str(&self.step_facts(step));
        if let Some([shell, resume]) = rewind_commands(self.run, job, step) {
            let _ = write!(
                html,
                "<div class=\"rewind\"><p>A shell in the machine as it was before this step:</p><pre tabindex=\"0\">{}</pre>\
                 <p>Go on from here, with the file as it is now:</p><pre tabindex=\"0\">{}</pre></div>",
                Escaped(&shell),
                Escaped(&resume)
            );
        }
        for annotation in &step.annotations {
            html.push_str("<div class=\"inline\">");
            html.push_str(&super::page::annotation(annotation));
            html.push_str("</div>");
        }
        html.push_str(&self.log(step));
        html.push_str("</div></details></li>\n");
        html
    }

    fn step_head(&self, step: &StepRecord, verdict: Verdict) -> String {
        let mut html = format!(
            "<span class=\"sign {}\" title=\"{words}\"><span aria-hidden=\"true\">{}</span><span class=\"sr\">{words}</span></span>\
             <span class=\"number\">{}</span><span class=\"name\">{}",
            verdict.class(),
            verdict.sign(),
            step.number,
            Escaped(&step.name),
            words = verdict.words(),
        );
        let kind = match step.kind {
            StepKind::Main => "",
            StepKind::SetUp => "set-up",
            StepKind::Pre => "pre",
            StepKind::Post => "post",
            StepKind::CleanUp => "clean-up",
        };
        if !kind.is_empty() {
            let _ = write!(html, " <small class=\"tag\">{kind}</small>");
        }
        if step.snapshot.is_some() {
            html.push_str(" <small class=\"tag\" title=\"There is a snapshot of the machine before this step\">rewindable</small>");
        }
        if verdict != Verdict::Success {
            let note = step_note(self.run, step).map(|note| format!(": {note}"));
            let _ = write!(
                html,
                " <small class=\"why {}\">{}{}</small>",
                verdict.class(),
                verdict.words(),
                Escaped(&note.unwrap_or_default())
            );
        }
        html.push_str("</span>");
        if let Some(ms) = between(step.started_at_ms, step.ended_at_ms) {
            let _ = write!(html, "<span class=\"took\">{}</span>", duration(ms));
        }
        html
    }

    fn step_facts(&self, step: &StepRecord) -> String {
        let mut facts = Vec::new();
        if let (Some(line), Some(file)) = (step.line, self.run.file.file_name()) {
            facts.push(format!("{}:{line}", Escaped(&file.to_string_lossy())));
        }
        if let Some(id) = &step.id {
            facts.push(format!("id {}", Escaped(id)));
        }
        if let Some(at) = step.started_at_ms {
            facts.push(format!("began {}", crate::log::rfc3339(at)));
        }
        if let Some(snapshot) = &step.snapshot {
            facts.push(format!(
                "snapshot {} of {}, machine paused {:.1} ms",
                snapshot.name,
                size(snapshot.size),
                snapshot.pause_ms
            ));
        }
        if let Some(log) = &step.log {
            facts.push(format!(
                "<a href=\"{}\">log</a>, {}",
                href(log),
                size(step.log_bytes)
            ));
        }
        if step.annotations_dropped > 0 {
            facts.push(format!(
                "{} more annotations are in the log",
                step.annotations_dropped
            ));
        }
        format!("<p class=\"meta\">{}</p>", facts.join(" · "))
    }

    fn log(&self, step: &StepRecord) -> String {
        let Some(log) = &step.log else {
            let gone = if step.log_bytes > 0 {
                "The log is no longer there."
            } else {
                "It wrote nothing."
            };
            return format!("<p class=\"meta\">{gone}</p>");
        };
        let path = self.folder.join(log);
        match logs::render(&path, &href(log), step.started_at_ms, self.limit) {
            Ok(html) if html.is_empty() => "<p class=\"meta\">It wrote nothing.</p>".to_owned(),
            Ok(html) => format!(
                "<div class=\"log\" role=\"region\" aria-label=\"Log of step {}\" tabindex=\"0\"><div class=\"lines\">{html}</div></div>",
                step.number
            ),
            Err(error) => format!(
                "<p class=\"meta\">The log cannot be read: {}</p>",
                Escaped(&error.to_string())
            ),
        }
    }
}

/// Sign and words of a verdict.
pub(super) fn badge(verdict: Verdict) -> String {
    let (class, sign, words) = (verdict.class(), verdict.sign(), verdict.words());
    format!("<span class=\"badge {class}\"><span aria-hidden=\"true\">{sign}</span> {words}</span>")
}
