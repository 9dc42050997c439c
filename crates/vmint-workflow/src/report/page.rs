//! The page: what happened first, then what to look at, then everything.

use super::steps::badge;
use super::text::{Escaped, accelerator, accelerators, between, duration, href};
use super::verdict::{Verdict, run_note, step_note};
use super::{chart, markdown, steps, write::MARK};
use crate::log::rfc3339;
use crate::record::{Annotation, JobRecord, Level, RunEnd, RunRecord, StepRecord};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

const STYLE: &str = include_str!("page.css");

/// So many annotations, and so many links to what failed, are gathered at the top.
const MOST_GATHERED: usize = 200;
/// GitHub's limit of one summary, and ours of all.
const MOST_OF_SUMMARY: u64 = 1 << 20;
const MOST_OF_SUMMARIES: u64 = 4 << 20;

/// Writes the page of a run. The paths of its logs are relative to `folder`, and to the page.
pub(super) fn render(run: &RunRecord, folder: &Path, out: &mut dyn io::Write) -> io::Result<()> {
    let name = run.title.as_ref().unwrap_or(&run.workflow);
    let verdict = Verdict::of_run(run);
    writeln!(
        out,
        "{MARK}<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{}\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><meta name=\"referrer\" content=\"no-referrer\">\
         <title>{} {}: {}</title><style>{STYLE}</style></head><body>",
        policy(),
        verdict.sign(),
        Escaped(name),
        verdict.words(),
    )?;
    out.write_all(header(run, name, verdict).as_bytes())?;
    out.write_all(b"<main>\n")?;
    out.write_all(attention(run).as_bytes())?;
    out.write_all(annotations(run).as_bytes())?;
    if let Some(chart) = chart::render(run) {
        writeln!(
            out,
            "<section id=\"timeline\"><h2>Timeline</h2>{chart}</section>"
        )?;
    }
    summaries(run, folder, out)?;
    if !run.jobs.is_empty() {
        out.write_all(b"<h2 id=\"jobs\">Jobs</h2>\n")?;
        steps::write(run, folder, out)?;
    }
    out.write_all(machines(run).as_bytes())?;
    writeln!(
        out,
        "</main><footer><p>The same as data: <a href=\"run.json\">run.json</a>, <a href=\"junit.xml\">junit.xml</a>. \
         This page loads nothing and runs no script.</p></footer></body></html>"
    )
}

/// Nothing may be loaded and nothing executed. Our style is allowed by its hash, and so are the three attributes by which
/// Markdown's tables align their cells.
fn policy() -> String {
    let hash = |text: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)));
    let align = ["left", "center", "right"].map(|side| hash(&format!("text-align: {side}")));
    format!(
        "default-src 'none'; style-src {} 'unsafe-hashes' {}; base-uri 'none'; form-action 'none'",
        hash(STYLE),
        align.join(" ")
    )
}

fn header(run: &RunRecord, name: &str, verdict: Verdict) -> String {
    let mut html = format!(
        "<header class=\"{}\"><h1>{} {}</h1>",
        verdict.class(),
        badge(verdict),
        Escaped(name)
    );
    if let Some(note) = run_note(run) {
        let _ = write!(html, "<p class=\"lead\">{}.</p>", Escaped(&capital(&note)));
    }
    match &run.end {
        Some(RunEnd::Fault { fault }) => {
            html.push_str("<p class=\"hint\">This is a failure of vmint or of the machine. It says nothing of the workflow.");
            if let Some(hint) = &fault.hint {
                let _ = write!(html, " What to do: {}", Escaped(hint));
            }
            html.push_str("</p>");
        }
        Some(RunEnd::Abandoned) => {
            html.push_str("<p class=\"hint\">This says nothing of the workflow. Run it again.</p>");
        }
        None => {
            html.push_str("<p class=\"hint\">It was still running when this page was written.</p>");
        }
        _ => {}
    }
    html.push_str("<dl class=\"facts\">");
    let mut fact = |name: &str, value: String| {
        if !value.is_empty() {
            let _ = write!(html, "<div><dt>{name}</dt><dd>{value}</dd></div>");
        }
    };
    let took =
        between(Some(run.started_at_ms), run.ended_at_ms).map(|ms| match &*accelerators(run) {
            "" => duration(ms),
            names => format!("{} on {names}", duration(ms)),
        });
    fact("Duration", took.unwrap_or_default());
    fact("Workflow", Escaped(&run.workflow).to_string());
    fact("Event", Escaped(&run.event).to_string());
    fact("Ref", Escaped(short_ref(&run.git_ref)).to_string());
    let sha: String = run.sha.chars().take(12).collect();
    fact(
        "Commit",
        format!(
            "<code title=\"{}\">{}</code>",
            Escaped(&run.sha),
            Escaped(&sha)
        ),
    );
    fact("Started", readable(run.started_at_ms));
    fact("Run", format!("<code>{}</code>", run.id));
    let images = run.machines.iter().map(|machine| &*machine.image);
    let mut images: Vec<_> = images.collect();
    images.dedup();
    let executions: u32 = run.machines.iter().map(|machine| machine.executions).sum();
    if !images.is_empty() {
        let machines = super::verdict::count(run.machines.len(), "machine");
        let commands = super::verdict::count(executions as usize, "command");
        let images = Escaped(&images.join(", ")).to_string();
        fact(
            "Machines",
            format!("<a href=\"#machines\">{machines}</a> of {images}, {commands}"),
        );
    }
    if let Some(resumed) = &run.resumed {
        let (id, job, step) = (&resumed.run, Escaped(&resumed.job), resumed.step);
        fact(
            "Continues",
            format!("<code>{id}</code> from step {step} of {job}"),
        );
    }
    if let Some(group) = &run.concurrency {
        fact("Concurrency", Escaped(group).to_string());
    }
    let file = run.file.strip_prefix(&run.repository).unwrap_or(&run.file);
    let (file, repository) = (file.to_string_lossy(), run.repository.to_string_lossy());
    let _ = write!(
        html,
        "<div class=\"wide\"><dt>File</dt><dd>{} in {}</dd></div>",
        Escaped(&file),
        Escaped(&repository)
    );
    html.push_str("</dl>");
    if !run.notes.is_empty() {
        html.push_str("<ul class=\"notes\" aria-label=\"Notes\">");
        for note in &run.notes {
            let _ = write!(html, "<li>{}</li>", Escaped(note));
        }
        html.push_str("</ul>");
    }
    html.push_str("</header>\n");
    html
}

/// Steps that failed and steps in which vmint failed, apart.
fn attention(run: &RunRecord) -> String {
    let mut html = String::new();
    for (verdict, title) in [
        (Verdict::Fault, "Where vmint failed"),
        (Verdict::Failure, "What failed"),
        (Verdict::AllowedFailure, "What failed and was allowed to"),
    ] {
        let found: Vec<_> = every_step(run)
            .filter(|(.., step)| Verdict::of_step(run, step) == verdict)
            .collect();
        if found.is_empty() {
            continue;
        }
        let _ = write!(
            html,
            "<section class=\"attention {}\"><h2>{title}</h2><ul>",
            verdict.class()
        );
        for (j, s, job, step) in found.iter().take(MOST_GATHERED) {
            let note = step_note(run, step).unwrap_or_default();
            let _ = write!(
                html,
                "<li><span class=\"sign {}\" aria-hidden=\"true\">{}</span> <a href=\"#s{j}-{s}\">{} / {}</a> <span class=\"why\">{}</span></li>",
                verdict.class(),
                verdict.sign(),
                Escaped(&job.name),
                Escaped(&step.name),
                Escaped(&note)
            );
        }
        if found.len() > MOST_GATHERED {
            let _ = write!(
                html,
                "<li>and {} more below</li>",
                found.len() - MOST_GATHERED
            );
        }
        html.push_str("</ul></section>\n");
    }
    html
}

fn every_step(run: &RunRecord) -> impl Iterator<Item = (usize, usize, &JobRecord, &StepRecord)> {
    run.jobs.iter().enumerate().flat_map(|(j, job)| {
        let steps = job.steps.iter().enumerate();
        steps.map(move |(s, step)| (j, s, job, step))
    })
}

fn annotations(run: &RunRecord) -> String {
    let mut found: Vec<_> = every_step(run)
        .flat_map(|(j, s, job, step)| step.annotations.iter().map(move |a| (j, s, job, step, a)))
        .collect();
    let dropped: u64 = every_step(run)
        .map(|(.., step)| step.annotations_dropped)
        .sum();
    if found.is_empty() {
        return String::new();
    }
    found.sort_by_key(|(.., annotation)| annotation.level as u8);
    let mut html = format!(
        "<section><h2>Annotations <small>{}</small></h2><ul class=\"annotations\">",
        found.len()
    );
    for (j, s, job, step, annotation) in found.iter().take(MOST_GATHERED) {
        let _ = write!(
            html,
            "<li>{}<p class=\"from\">from <a href=\"#s{j}-{s}\">{} / {}</a></p></li>",
            self::annotation(annotation),
            Escaped(&job.name),
            Escaped(&step.name)
        );
    }
    html.push_str("</ul>");
    let hidden = found.len().saturating_sub(MOST_GATHERED) as u64 + dropped;
    if hidden > 0 {
        let _ = write!(
            html,
            "<p class=\"caption\">{hidden} more stand at their steps or in their logs.</p>"
        );
    }
    html.push_str("</section>\n");
    html
}

/// One annotation, with its place.
pub(super) fn annotation(annotation: &Annotation) -> String {
    let (class, sign, word) = match annotation.level {
        Level::Error => ("failure", '✗', "Error"),
        Level::Warning => ("allowed", '△', "Warning"),
        Level::Notice => ("notice", 'i', "Notice"),
    };
    let mut html = format!(
        "<div class=\"annotation {class}\"><p class=\"level\"><span class=\"sign {class}\" aria-hidden=\"true\">{sign}</span> {word}"
    );
    if let Some(title) = &annotation.title {
        let _ = write!(html, ": <b>{}</b>", Escaped(title));
    }
    if let Some(file) = &annotation.file {
        let _ = write!(html, " <code>{}", Escaped(file));
        for number in [annotation.line, annotation.line.and(annotation.column)]
            .into_iter()
            .flatten()
        {
            let _ = write!(html, ":{number}");
        }
        html.push_str("</code>");
    }
    let _ = write!(
        html,
        "</p><p class=\"message\">{}</p></div>",
        Escaped(&annotation.message)
    );
    html
}

fn summaries(run: &RunRecord, folder: &Path, out: &mut dyn io::Write) -> io::Result<()> {
    let (mut left, mut begun) = (MOST_OF_SUMMARIES, false);
    for (j, s, job, step) in every_step(run) {
        let Some(path) = &step.summary else { continue };
        let limit = MOST_OF_SUMMARY.min(left);
        let mut bytes = Vec::new();
        let read = File::open(folder.join(path)).and_then(|file| {
            let length = file.metadata()?.len();
            file.take(limit).read_to_end(&mut bytes)?;
            Ok(length)
        });
        let Ok(length) = read else { continue };
        if length == 0 {
            continue;
        }
        left -= bytes.len() as u64;
        if !begun {
            out.write_all(b"<section id=\"summaries\"><h2>Summaries</h2>\n")?;
            begun = true;
        }
        write!(
            out,
            "<article class=\"summary\"><h3><a href=\"#s{j}-{s}\">{} / {}</a></h3>{}",
            Escaped(&job.name),
            Escaped(&step.name),
            markdown::render(&String::from_utf8_lossy(&bytes))
        )?;
        if length > bytes.len() as u64 {
            write!(
                out,
                "<p class=\"gap\">Too long for this page: <a href=\"{}\">all of it</a></p>",
                href(path)
            )?;
        }
        out.write_all(b"</article>\n")?;
    }
    if begun {
        out.write_all(b"</section>\n")?;
    }
    Ok(())
}

fn machines(run: &RunRecord) -> String {
    if run.machines.is_empty() {
        return String::new();
    }
    let mut html = "<section id=\"machines\"><h2>Machines</h2><div class=\"scroll\" role=\"region\" aria-label=\"Machines\" tabindex=\"0\">\
                    <table><thead><tr><th>Machine</th><th>Image</th><th>Pool</th><th>Accelerator</th><th>boot_id</th>\
                    <th>Acquired in</th><th>Lent for</th><th>Commands</th></tr></thead><tbody>"
        .to_owned();
    for machine in &run.machines {
        let lent = between(Some(machine.acquired_at_ms), machine.released_at_ms);
        let _ = write!(
            html,
            "<tr><td><code>{}</code> generation {}</td><td>{}</td><td>{}</td><td>{}</td><td><code>{}</code></td>\
             <td>{:.1} ms</td><td>{}</td><td>{}</td></tr>",
            machine.machine,
            machine.generation,
            Escaped(&machine.image),
            machine.pool,
            accelerator(machine.accelerator),
            Escaped(machine.boot_id.as_deref().unwrap_or("not told")),
            machine.acquire_ms,
            lent.map_or("still lent".to_owned(), duration),
            machine.executions
        );
    }
    html.push_str("</tbody></table></div></section>\n");
    html
}

/// `main` of `refs/heads/main`; a tag keeps its `tags/`.
fn short_ref(git_ref: &str) -> &str {
    let name = git_ref.strip_prefix("refs/").unwrap_or(git_ref);
    name.strip_prefix("heads/").unwrap_or(name)
}

/// `2026-11-20 15:35:12 UTC`.
fn readable(at_ms: i64) -> String {
    let time = rfc3339(at_ms);
    let shown = time.split('.').next().unwrap_or(&time).replace('T', " ");
    format!("<time datetime=\"{time}\">{shown} UTC</time>")
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests;
