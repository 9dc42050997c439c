//! `snapshot`, `restore`, `fork`.

use super::{removal, undo};
use crate::args::image::{Fork, Restore, Snapshot};
use crate::context::{self, Context};
use crate::view;
use vmint::{Fault, MachineRecord, Origin};

/// `vmint snapshot`.
pub fn snapshot(context: Context, args: Snapshot) -> Result<u8, Fault> {
    match args {
        Snapshot::Create {
            name,
            snapshot,
            held,
        } => {
            let (vmint, _config) = context.open_configured_for(&held)?;
            let record = context::wait(vmint.snapshot(&name, &snapshot))?;
            context.show(&view::Snapshot::from(&record), || {
                view::snapshot_brief(&record)
            })?;
            Ok(0)
        }
        Snapshot::Ls { name } => {
            let vmint = context.open()?;
            let records = vmint.snapshots(name.as_ref())?;
            if let (Some(name), true) = (&name, records.is_empty()) {
                // One that has none is not one that there is not.
                vmint.machine(name.as_str())?;
            }
            let views: Vec<_> = records.iter().map(view::Snapshot::from).collect();
            context.list(&views, view::Snapshot::name, || view::snapshots(&records))?;
            Ok(0)
        }
        Snapshot::Rm { snapshots } => {
            let vmint = context.open()?;
            removal::each(context, &snapshots, |name| vmint.remove_snapshot(name))
        }
    }
}

/// `vmint restore`.
pub fn restore(context: Context, args: &Restore) -> Result<(), Fault> {
    let vmint = context.open_for(&args.held)?;
    let record = context::wait(vmint.restore(&args.name, &args.snapshot))?;
    context.show(&view::Machine::from(&record), || {
        if context.quiet {
            record.generation.to_string()
        } else {
            view::restored(&record, &args.snapshot)
        }
    })
}

/// `vmint fork`.
pub fn fork(context: Context, args: &Fork) -> Result<(), Fault> {
    let (vmint, _config) = context.open_configured_for(&args.held)?;
    let progress = context.progress();
    let is_ours = |record: &MachineRecord| {
        let name = record.name.as_str();
        let number = name
            .strip_prefix(args.new.as_str())
            .and_then(|rest| rest.strip_prefix('-'));
        let is_named = if args.count == 1 {
            record.name == args.new
        } else {
            number.is_some_and(is_number)
        };
        is_named && matches!(record.spec.origin, Origin::Snapshot(_))
    };
    let records = undo::wait(
        &vmint,
        is_ours,
        vmint.fork(&args.source, &args.new, args.count, &progress),
    );
    progress.finish();
    let records = records?;
    let views: Vec<_> = records.iter().map(view::Machine::from).collect();
    context.show(&views, || {
        records
            .iter()
            .map(view::brief)
            .collect::<Vec<_>>()
            .join("\n")
    })
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}
