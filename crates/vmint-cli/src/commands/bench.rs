//! `bench`.

use crate::args::Format;
use crate::args::other::Bench;
use crate::context::{self, Context};
use crate::output;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vmint::{ErrorKind, Fault};
use vmint_bench::report::number;
use vmint_bench::{self as bench, BenchOptions, Figures, HostFacts, Report, Row, Told};

/// `vmint bench`.
pub fn bench(context: Context, args: Bench) -> Result<u8, Fault> {
    let (vmint, _config) = context.open_configured()?;
    if let (Some(pool), Some(leases)) = (&args.worker, args.leases) {
        let vmint = Arc::new(vmint);
        context::wait(bench::worker(&vmint, pool, leases))?;
        return Ok(0);
    }
    let program = std::env::current_exe().map_err(|e| {
        Fault::from_error(ErrorKind::Host, &e).context("cannot tell where this program is")
    })?;
    let options = BenchOptions {
        names: args.names,
        quick: args.quick,
        leases: args.leases,
        program,
    };
    // Before hours of measuring: a folder that cannot be made is told at once.
    let folder = args.plot.map(folder).transpose()?;
    let progress = context.progress();
    let is_for_people = context.format == Format::Table;
    let tell = |told: Told<'_>| {
        if is_for_people {
            // Progress is a line of the same terminal.
            progress.finish();
            // A reader that is gone has ended the process; without standard output the report's own end says so.
            let _ = output::line(&text(told));
        }
    };
    let report = context::wait(bench::run(&vmint, &options, &progress, &tell))?;
    progress.finish();
    if let Some(folder) = &folder {
        plot(folder, &report)?;
    }
    context.show(&report, || summary(&report))?;
    let failed = !report.failures.is_empty() || args.check && !report.met();
    Ok(u8::from(failed))
}

fn folder(path: PathBuf) -> Result<PathBuf, Fault> {
    std::fs::create_dir_all(&path).map_err(|e| {
        let fault = Fault::from_error(ErrorKind::Usage, &e);
        fault.context(format!("cannot make the folder {}", path.display()))
    })?;
    Ok(path)
}

fn plot(folder: &Path, report: &Report) -> Result<(), Fault> {
    for (name, svg) in bench::plot::plots(report) {
        let path = folder.join(name).with_extension("svg");
        std::fs::write(&path, svg).map_err(|e| {
            let fault = Fault::from_error(ErrorKind::Host, &e);
            fault.context(format!("cannot write {}", path.display()))
        })?;
    }
    Ok(())
}

/// What is said of something as soon as it is known.
fn text(told: Told<'_>) -> String {
    match told {
        Told::Host(host) => facts(host),
        Told::Row(row) => figures(row),
        Told::Failure(failure) => format!(
            "\n{} could not be carried out: {}",
            failure.name, failure.error.message
        ),
    }
}

fn facts(host: &HostFacts) -> String {
    let reason = host.accelerator_reason.as_deref().map(first_line);
    let reason = reason.map(|r| format!(": {r}")).unwrap_or_default();
    [
        format!("accelerator  {}{reason}", host.accelerator),
        format!(
            "host         {} × {}, {}, Linux {}, load {:.1}",
            host.cpus, host.processor, host.memory, host.kernel, host.load
        ),
        format!(
            "programs     vmint {} ({}), {}",
            host.version, host.build, host.qemu
        ),
    ]
    .join("\n")
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn percentiles(row: &Row, figures: &Figures) -> String {
    let Figures { n, p50, p95, p99 } = *figures;
    let median = format!("{} {}", number(p50), row.unit);
    let [p95, p99] = [p95, p99].map(number);
    format!("{median:>12}   p95 {p95:>6}   p99 {p99:>6}   n {n}")
}

fn figures(row: &Row) -> String {
    let mut lines = vec![
        format!("\n{}: {}", row.name, row.what),
        percentiles(row, &row.figures),
    ];
    if let Some(floor) = &row.floor {
        let figures = percentiles(row, &floor.figures);
        lines.push(format!("{figures}   {}", floor.what));
    }
    let ratio = row.ratio.map(|ratio| format!("{ratio:.2} × of that"));
    let target = row.target.map(|target| {
        let verdict = match row.met {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "not decided",
        };
        format!("target {target}: {verdict}")
    });
    let judged: Vec<_> = ratio.into_iter().chain(target).collect();
    if !judged.is_empty() {
        lines.push(format!("    {}", judged.join("; ")));
    }
    lines.extend(row.note.as_ref().map(|note| format!("    {note}")));
    lines.join("\n")
}

/// What is said at the end, when each figure has been said already.
fn summary(report: &Report) -> String {
    let missed: Vec<_> = report
        .rows
        .iter()
        .filter(|row| row.met == Some(false))
        .map(|row| format!("  {}: {}", row.name, row.what))
        .collect();
    let met = report.rows.iter().filter(|row| row.met == Some(true));
    let targets = met.count() + missed.len();
    let mut lines = vec![format!(
        "\n{} figures, {targets} with a target, {} missed",
        report.rows.len(),
        missed.len()
    )];
    lines.extend(missed);
    lines.join("\n")
}
