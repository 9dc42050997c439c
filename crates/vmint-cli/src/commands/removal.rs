//! `rm` of images, templates and snapshots.

use crate::args::Format;
use crate::context::Context;
use crate::failure::{Codes, exit_code, tell};
use crate::output;
use serde::Serialize;
use std::fmt::Display;
use vmint::Fault;

/// What became of one name.
#[derive(Serialize)]
#[serde(untagged)]
enum Done {
    Removed { name: String, removed: bool },
    Failed { name: String, error: Fault },
}

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
            Ok(()) => Done::Removed {
                name,
                removed: true,
            },
            Err(error) => {
                tell(&error);
                if code == 0 {
                    code = exit_code(error.kind, Codes::Own);
                }
                Done::Failed { name, error }
            }
        });
    }
    if context.format == Format::Json {
        output::json(&all)?;
    }
    Ok(code)
}
