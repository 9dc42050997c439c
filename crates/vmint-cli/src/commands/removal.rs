//! `rm` of images, templates and snapshots.

use crate::args::Format;
use crate::context::Context;
use crate::exit::{Codes, exit_code};
use crate::failure::tell;
use crate::output;
use crate::view::{Each, Failed, Removed};
use std::fmt::Display;
use vmint::Fault;

/// Removes each of several things. The failure of one keeps no other from it; the exit code is that of the first one.
pub fn each<N: Display>(
    context: Context,
    names: &[N],
    mut remove: impl FnMut(&N) -> Result<(), Fault>,
) -> Result<u8, Fault> {
    let (mut code, mut all) = (0, Vec::with_capacity(names.len()));
    for given in names {
        let name = given.to_string();
        all.push(match remove(given) {
            Ok(()) => Each::Done(Removed::of(name)),
            Err(error) => {
                tell(&error);
                if code == 0 {
                    code = exit_code(error.kind, Codes::Own);
                }
                Each::Failed(Failed { name, error })
            }
        });
    }
    if context.format == Format::Json {
        output::json(&all)?;
    }
    Ok(code)
}
