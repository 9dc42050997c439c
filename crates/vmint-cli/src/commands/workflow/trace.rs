//! `vmint logs RUN --trace`: what a run does and waits for, also while it runs, and after its process was killed.

use crate::args::Format;
use crate::args::machine::Logs;
#[cfg(test)]
use crate::commands::schema::foreign;
use crate::context::{self, Context};
use crate::output;
use serde::Serialize;
use std::io;
use std::time::Duration;
use vmint::qemu::log::Reader;
use vmint::workflow::report::text::duration;
use vmint::workflow::trace::{Course, TraceEvent};
use vmint::{ErrorKind, Fault, Vmint};

/// How long `--follow` waits at most before it looks again.
const SLOWEST: Duration = Duration::from_millis(250);
/// Longer lines are no events: whoever can write into the folder has written them.
const LONGEST: usize = 16 << 10;

/// Prints the trace of a run.
pub fn trace(context: Context, args: &Logs) -> Result<(), Fault> {
    let vmint = context.open()?;
    let id = vmint.run_id(&args.name)?;
    let path = vmint.run_trace(&id);
    if !path.exists() {
        let message = format!("run {id} has no trace: an older vmint has run it");
        return Err(Fault::new(ErrorKind::NotFound, message));
    }
    let mut shown = Shown {
        log: Reader::new(path),
        rest: Vec::new(),
        course: Course::default(),
        format: context.format,
    };
    if args.follow {
        context::wait(follow(&vmint, id.as_str(), &mut shown))?;
    } else {
        shown.print()?;
    }
    if context.format == Format::Table {
        output::line(&shown.standing(is_over(&vmint, id.as_str())?))?;
    }
    Ok(())
}

fn is_over(vmint: &Vmint, id: &str) -> Result<bool, Fault> {
    Ok(vmint.run_record(id)?.end.is_some())
}

async fn follow(vmint: &Vmint, id: &str, shown: &mut Shown) -> Result<(), Fault> {
    let mut pause = Duration::from_millis(10);
    loop {
        // Looked at before the file: what was written last is printed still.
        let over = is_over(vmint, id)?;
        let printed = shown.print()?;
        if over {
            return Ok(());
        }
        pause = if printed {
            Duration::from_millis(10)
        } else {
            (pause * 2).min(SLOWEST)
        };
        tokio::time::sleep(pause).await;
        if !printed {
            // A run whose process was killed is found out.
            vmint.sweep()?;
        }
    }
}

/// An event as JSON.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "TraceEvent"))]
pub(in crate::commands) struct TraceView<'a> {
    #[cfg_attr(test, schemars(with = "foreign::Time"))]
    at: String,
    /// Counted from 1, which is the run.
    #[cfg_attr(test, schemars(with = "u64"))]
    activity: serde_json::Value,
    /// What it is a part of.
    #[cfg_attr(test, schemars(with = "Option<u64>"))]
    within: serde_json::Value,
    #[cfg_attr(test, schemars(with = "foreign::Doing"))]
    doing: serde_json::Value,
    what: &'a str,
    /// How it ended; null when it begins.
    ended: Option<&'a str>,
    took_ms: Option<u64>,
}

impl<'a> From<&'a TraceEvent> for TraceView<'a> {
    fn from(event: &'a TraceEvent) -> Self {
        let json = |value| serde_json::to_value(value).unwrap_or_default();
        Self {
            at: output::time(event.time_ms),
            activity: json(Some(event.activity)),
            within: json(event.within),
            doing: serde_json::to_value(event.doing).unwrap_or_default(),
            what: &event.what,
            ended: event.ended.as_ref().map(|ended| &*ended.how),
            took_ms: event.ended.as_ref().map(|ended| ended.took_ms),
        }
    }
}

/// What was printed of a trace.
struct Shown {
    log: Reader,
    /// A line that has not ended yet.
    rest: Vec<u8>,
    course: Course,
    format: Format,
}

impl Shown {
    /// Prints what is new; whether there was anything.
    fn print(&mut self) -> Result<bool, Fault> {
        let Self {
            log, rest, course, ..
        } = self;
        let mut events = Vec::new();
        let read = log.read(|bytes| {
            rest.extend_from_slice(bytes);
            while let Some(end) = rest.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                // What is no event is the note of how much of the trace is gone.
                events.extend(serde_json::from_slice::<TraceEvent>(&line));
            }
            if rest.len() > LONGEST {
                rest.clear();
            }
            Ok::<_, io::Error>(())
        });
        read.map_err(|e| {
            Fault::from_error(ErrorKind::Host, &e).context("cannot read the trace of the run")
        })?;
        for event in &events {
            if !course.take(event) {
                continue;
            }
            match self.format {
                Format::Table => output::line(&line(course, event))?,
                Format::Json | Format::Ndjson => output::json_line(&TraceView::from(event))?,
            }
        }
        Ok(!events.is_empty())
    }

    /// Where the run is, or was when its process ended.
    fn standing(&self, over: bool) -> String {
        let open: Vec<_> = self.course.open().collect();
        let Some(last) = open.last() else {
            return "nothing is under way".to_owned();
        };
        let head = if over {
            "cut off while under way:".to_owned()
        } else {
            format!("under way, the last since {}:", output::age(last.time_ms))
        };
        let lines = open.iter().map(|event| {
            let depth = "  ".repeat(self.course.depth(event) + 1);
            format!("{depth}{} {}", event.doing, vmint::printable(&event.what))
        });
        let lines: Vec<_> = lines.collect();
        format!("{head}\n{}", lines.join("\n"))
    }
}

fn line(course: &Course, event: &TraceEvent) -> String {
    let depth = "  ".repeat(course.depth(event));
    let (at, what) = (output::time(event.time_ms), vmint::printable(&event.what));
    match &event.ended {
        None => format!("{at}  {depth}{} {what}", event.doing),
        Some(ended) => format!(
            "{at}  {depth}{} {what}: {} after {}",
            event.doing,
            vmint::printable(&ended.how),
            duration(ended.took_ms)
        ),
    }
}

#[cfg(test)]
pub(in crate::commands) mod tests {
    use super::*;
    use serde_json::json;

    fn event(activity: u64, within: Option<u64>, doing: &str, ended: Option<u64>) -> TraceEvent {
        let ended = ended.map(|took_ms| json!({ "how": "done", "took_ms": took_ms }));
        let json = json!({
            "time_ms": 1_795_188_912_123_i64, "activity": activity, "within": within, "doing": doing,
            "what": "a\u{1b}[2J", "ended": ended,
        });
        serde_json::from_value(json).unwrap()
    }

    /// One of each kind.
    pub(in crate::commands) fn all() -> Vec<TraceEvent> {
        let kinds = [
            "run",
            "job",
            "step",
            "command",
            "container_call",
            "transfer",
            "snapshot",
            "wait",
        ];
        let begin = |(n, kind): (usize, &&str)| {
            let n = n as u64 + 1;
            event(n, (n > 1).then_some(n - 1), kind, None)
        };
        let mut all: Vec<_> = kinds.iter().enumerate().map(begin).collect();
        all.push(event(8, Some(7), "wait", Some(1500)));
        all
    }

    #[test]
    fn a_trace_is_shown_as_a_tree_without_what_commands_a_terminal() {
        let mut course = Course::default();
        let mut shown = |event: &TraceEvent| {
            course.take(event);
            line(&course, event)
        };
        let lines: Vec<_> = [
            event(1, None, "run", None),
            event(2, Some(1), "wait", None),
            event(2, Some(1), "wait", Some(1500)),
        ]
        .iter()
        .map(&mut shown)
        .collect();
        assert_eq!(
            lines,
            [
                "2026-11-20T15:35:12.123Z  run a\\x1b[2J",
                "2026-11-20T15:35:12.123Z    wait for a\\x1b[2J",
                "2026-11-20T15:35:12.123Z    wait for a\\x1b[2J: done after 1.5 s",
            ]
        );
    }
}
