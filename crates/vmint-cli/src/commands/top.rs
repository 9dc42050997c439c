//! `top`.

use crate::args::Format;
use crate::args::top::Top;
use crate::context::Context;
use crate::output;
use crate::top::snapshot::Watcher;
use crate::top::{draw, screen};
use std::io::IsTerminal;
use vmint::Fault;

/// `vmint top`.
pub fn top(context: Context, args: &Top) -> Result<(), Fault> {
    let vmint = context.open()?;
    let mut watcher = Watcher::new(vmint);
    if context.format == Format::Json {
        return output::json(&watcher.look()?);
    }
    let on_terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
    if args.once || !on_terminal {
        return output::line(&draw::text(&watcher.look()?));
    }
    screen::watch(watcher)
}
