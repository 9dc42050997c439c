//! `workflow rm`.

use crate::args::workflow::Remove;
use crate::commands::removal;
use crate::context::Context;
use vmint::Fault;

/// Removes runs, each whatever becomes of the others.
pub fn remove(context: Context, args: &Remove) -> Result<u8, Fault> {
    let vmint = context.open()?;
    removal::each(context, &args.runs, |which| {
        vmint.run_id(which).and_then(|id| vmint.remove_run(&id))
    })
}
