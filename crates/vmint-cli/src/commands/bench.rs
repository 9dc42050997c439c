//! `bench`.

use crate::args::other::Bench;
use crate::context::{self, Context};
use crate::output::table;
use std::sync::Arc;
use vmint::bench::{self, BenchOptions, Figures, Report, Row};
use vmint::{ErrorKind, Fault};

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
    let progress = context.progress();
    let report = context::wait(bench::run(&vmint, &options, &progress))?;
    progress.finish();
    context.show(&report, || text(&report))?;
    Ok(u8::from(!report.failures.is_empty()))
}

fn text(report: &Report) -> String {
    let host = &report.host;
    let reason = host
        .accelerator_reason
        .as_deref()
        .map(|r| format!(": {}", first_line(r)))
        .unwrap_or_default();
    let mut lines = vec![
        format!("accelerator  {}{reason}", host.accelerator),
        format!(
            "host         {} × {}, {}, Linux {}, load {:.1}",
            host.cpus, host.processor, host.memory, host.kernel, host.load
        ),
        format!(
            "programs     vmint {} ({}), {}",
            host.version, host.build, host.qemu
        ),
        String::new(),
        rows(&report.rows),
    ];
    lines.extend(
        report
            .rows
            .iter()
            .filter_map(|row| Some(format!("{}: {}", row.what, row.note.as_ref()?))),
    );
    for failure in &report.failures {
        lines.push(format!(
            "{} could not be carried out: {}",
            failure.name, failure.error.message
        ));
    }
    lines.join("\n")
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn rows(rows: &[Row]) -> String {
    let number = |n: f64| {
        if n < 10.0 {
            format!("{n:.2}")
        } else {
            format!("{n:.0}")
        }
    };
    let figures = |f: &Figures| [f.n.to_string(), number(f.p50), number(f.p95), number(f.p99)];
    let headings = [
        "WHAT", "UNIT", "N", "P50", "P95", "P99", "RATIO", "TARGET", "",
    ];
    let line = |row: &Row| {
        let [n, p50, p95, p99] = figures(&row.figures);
        let ratio = row.ratio.map(|r| format!("{r:.2} ×")).unwrap_or_default();
        let verdict = row.met.map(|met| if met { "met" } else { "MISSED" });
        let target = row.target.map(|t| t.to_string()).unwrap_or_default();
        let verdict = verdict.unwrap_or(" ").to_owned();
        [
            row.what.clone(),
            row.unit.to_string(),
            n,
            p50,
            p95,
            p99,
            ratio,
            target,
            verdict,
        ]
    };
    let floor = |row: &Row| {
        let floor = row.floor.as_ref()?;
        let [n, p50, p95, p99] = figures(&floor.figures);
        let blank = || " ".to_owned();
        Some([
            format!("  of {}", floor.what),
            row.unit.to_string(),
            n,
            p50,
            p95,
            p99,
            blank(),
            blank(),
            blank(),
        ])
    };
    table(
        headings,
        rows.iter()
            .flat_map(|row| std::iter::once(line(row)).chain(floor(row))),
    )
}
