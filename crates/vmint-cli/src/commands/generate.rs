//! Completions and man pages, made from the command line's own description.

use crate::args::Cli;
use crate::args::other::{Completions, Man};
use crate::complete;
use crate::output;
use clap::CommandFactory;
use vmint::{ErrorKind, Fault};

/// `vmint completions`.
pub fn completions(args: &Completions) -> Result<(), Fault> {
    output::bytes(&complete::registration(args.shell)?)
}

/// `vmint man`.
pub fn man(args: &Man) -> Result<(), Fault> {
    let fail = |e: std::io::Error| {
        Fault::from_error(ErrorKind::Host, &e)
            .context(format!("cannot write to {}", args.folder.display()))
    };
    std::fs::create_dir_all(&args.folder).map_err(fail)?;
    clap_mangen::generate_to(Cli::command(), &args.folder).map_err(fail)
}
