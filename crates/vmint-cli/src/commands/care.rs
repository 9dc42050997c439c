//! `doctor`, `gc`, `events`, `config`.

#[cfg(test)]
use super::schema::foreign;
use crate::args::Format;
use crate::args::other::{Config, Events, Gc};
use crate::context::{self, Context};
use crate::output::{self, table, time};
use serde::Serialize;
use std::time::Duration;
use vmint::doctor::{self, Status};
use vmint::garbage::How;
use vmint::repair::Repaired;
use vmint::strays::LOST_AGE;
use vmint::{Change, Event, Fault, Found, LeaseId, MachineState, Options, SlotState, Vmint};

/// How long `--follow` waits at most before it looks again.
const SLOWEST: Duration = Duration::from_millis(250);
/// Events that are read at once.
const BATCH: usize = 1000;

/// `vmint doctor`.
pub fn doctor(context: Context) -> Result<u8, Fault> {
    let config = context::config()?;
    let options = Options::from_config(&config)?;
    let root = options.home.clone();
    let kit = vmint::image::Kit::beside(&options.runner);
    let home = Vmint::open_home(&options);
    let opened = Vmint::open(options);
    let swept: Vec<String> = opened
        .as_ref()
        .ok()
        .and_then(|vmint| vmint.sweep().ok())
        .unwrap_or_default()
        .into_iter()
        .map(|Found { message, .. }| message)
        .collect();
    let progress = context.progress();
    let checks = context::wait(async {
        let host = match &opened {
            Ok(vmint) => vmint.host(&progress).await,
            Err(fault) => Err(fault.clone()),
        };
        progress.finish();
        let input = doctor::Input {
            root: &root,
            home: home.as_ref(),
            store: opened.as_ref().map(drop),
            host: host.as_ref(),
            accelerator: config.accelerator,
            kit: kit.as_ref(),
            swept: &swept,
        };
        Ok(doctor::doctor(&input).await)
    })?;
    context.show(&checks, || {
        let mark = |status| match status {
            Status::Ok => "ok",
            Status::Warning => "warning",
            Status::Failure => "FAILURE",
        };
        let mut lines = Vec::new();
        for check in &checks {
            lines.push(format!(
                "{:8} {:16} {}",
                mark(check.status),
                check.name,
                check.summary
            ));
            lines.extend(
                check
                    .remedy
                    .iter()
                    .map(|remedy| format!("{:26}{remedy}", "→ ")),
            );
        }
        lines.join("\n")
    })?;
    Ok(u8::from(doctor::worst(&checks) == Status::Failure))
}

/// `vmint doctor --repair`.
pub fn repair(context: Context) -> Result<(), Fault> {
    let options = Options::from_config(&context::config()?)?;
    let repaired = Vmint::repair(options)?;
    context.show(&repaired, || {
        let mut lines = Vec::new();
        match (&repaired.damage, &repaired.aside) {
            (Some(damage), Some(aside)) => {
                lines.push(damage.clone());
                lines.push(format!(
                    "it was moved to {}, and a new one was made",
                    aside.display()
                ));
                lines.push(format!("not rebuilt: {}", Repaired::NOT_REBUILT));
            }
            _ => lines.push("the database is not damaged".to_owned()),
        }
        lines.extend(repaired.found.iter().cloned());
        lines.push(format!(
            "the database knows {} machines and {} snapshots",
            repaired.machines, repaired.snapshots
        ));
        lines.join("\n")
    })
}

/// `vmint gc`.
pub fn gc(context: Context, args: &Gc) -> Result<(), Fault> {
    let (vmint, config) = context.open_configured()?;
    let progress = context.progress();
    let lost_age = args.lost_age.unwrap_or(LOST_AGE);
    let how = if args.dry_run { How::Show } else { How::Remove };
    let garbage = context::wait(vmint.gc(&config.workflow, lost_age, how, &progress))?;
    progress.finish();
    context.show(&garbage, || {
        let mut lines = garbage.swept.clone();
        lines.extend(garbage.runs.iter().map(|run| format!("run {run}")));
        let snapshots = garbage.snapshots.iter();
        lines.extend(snapshots.map(|name| format!("snapshot {name} of a run")));
        lines.extend(garbage.templates.iter().map(|t| format!("template {t}")));
        lines.extend(
            garbage
                .images
                .iter()
                .map(|i| format!("image or kernel {i}")),
        );
        lines.extend(garbage.lost.iter().map(|path| path.display().to_string()));
        let bytes = garbage.bytes;
        lines.push(if args.dry_run {
            format!("{bytes} would be given back")
        } else {
            format!("{bytes} given back")
        });
        lines.join("\n")
    })
}

/// Something that happened.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Event"))]
pub(crate) struct EventView<'a> {
    sequence: i64,
    #[cfg_attr(test, schemars(with = "foreign::Time"))]
    at: String,
    machine: &'a str,
    name: &'a str,
    #[cfg_attr(test, schemars(with = "foreign::ChangeOf"))]
    of: &'static str,
    pool: Option<&'a str>,
    lease: Option<&'a str>,
    #[cfg_attr(test, schemars(with = "Option<foreign::EitherState>"))]
    from: Option<&'static str>,
    #[cfg_attr(test, schemars(with = "Option<foreign::EitherState>"))]
    to: Option<&'static str>,
    cause: &'a str,
    duration_ms: Option<i64>,
    detail: Option<&'a str>,
}

impl<'a> From<&'a Event> for EventView<'a> {
    fn from(event: &'a Event) -> Self {
        let (of, pool, lease, from, to) = match &event.change {
            Change::Machine { from, to } => (
                "machine",
                None,
                None,
                from.map(MachineState::as_str),
                to.map(MachineState::as_str),
            ),
            Change::Slot {
                pool,
                lease,
                from,
                to,
            } => (
                "slot",
                Some(pool.as_str()),
                lease.as_ref().map(LeaseId::as_str),
                from.map(SlotState::as_str),
                to.map(SlotState::as_str),
            ),
        };
        Self {
            sequence: event.sequence,
            at: time(event.at_ms),
            machine: event.machine.as_str(),
            name: event.name.as_str(),
            of,
            pool,
            lease,
            from,
            to,
            cause: &event.cause,
            duration_ms: event.duration_ms,
            detail: event.detail.as_deref(),
        }
    }
}

impl EventView<'_> {
    pub(crate) fn text(&self) -> String {
        let gone = if self.pool.is_some() {
            "free"
        } else {
            "removed"
        };
        let to = self.to.unwrap_or(gone);
        let what = self
            .from
            .map_or_else(|| to.to_owned(), |from| format!("{from} → {to}"));
        let detail = self.detail.map(|d| format!(": {d}")).unwrap_or_default();
        let pool = self.pool.map(|p| format!("{p}: ")).unwrap_or_default();
        let lease = self.lease.map(|l| format!(" ({l})")).unwrap_or_default();
        let what = format!("{pool}{what}");
        output::printable(&format!(
            "{}  {:20} {what:22} {}{lease}{detail}",
            self.at, self.name, self.cause
        ))
    }
}

/// `vmint events`. As JSON, a line for each.
pub fn events(context: Context, args: &Events) -> Result<(), Fault> {
    let vmint = context.open()?;
    let mut last = 0;
    if !args.follow {
        while print_events(context, &vmint, &mut last)? {}
        return Ok(());
    }
    context::wait(async {
        let mut pause = SLOWEST;
        loop {
            let any = print_events(context, &vmint, &mut last)?;
            pause = if any {
                Duration::from_millis(10)
            } else {
                (pause * 2).min(SLOWEST)
            };
            tokio::time::sleep(pause).await;
        }
    })
}

fn print_events(context: Context, vmint: &Vmint, last: &mut i64) -> Result<bool, Fault> {
    let events = vmint.events(*last, BATCH)?;
    for event in &events {
        let view = EventView::from(event);
        match context.format {
            Format::Json | Format::Ndjson => output::json_line(&view)?,
            Format::Table => output::line(&view.text())?,
        }
        *last = event.sequence;
    }
    Ok(!events.is_empty())
}

/// `vmint config`.
pub fn config(context: Context, args: &Config) -> Result<(), Fault> {
    let Config::Show = args;
    let settings = context::config()?.show();
    context.show(&settings, || {
        let row =
            |s: &vmint::config::Setting| [s.key.clone(), s.value.to_string(), s.source.to_string()];
        table(["SETTING", "VALUE", "SOURCE"], settings.iter().map(row))
    })
}
