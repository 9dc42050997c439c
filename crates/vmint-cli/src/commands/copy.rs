//! `cp`.

use crate::args::machine::Copy;
use crate::context::{self, Context};
use crate::output;
use crate::values::Side;
use std::io::Write;
use vmint::{ErrorKind, Fault, Unpacked, Vmint};

/// `vmint cp`.
pub fn copy(context: Context, args: &Copy) -> Result<(), Fault> {
    let (source, target) = (Side::parse(&args.source)?, Side::parse(&args.target)?);
    check(&source, &target)?;
    let vmint = context.open_for(&args.held)?;
    context::wait(transfer(&vmint, source, target))
}

/// One side is in a machine, the other is not.
fn check(source: &Side, target: &Side) -> Result<(), Fault> {
    let usage = |message: &str, hint: &str| Err(Fault::new(ErrorKind::Usage, message).hint(hint));
    match (source, target) {
        (Side::Machine { .. }, Side::Machine { .. }) => usage(
            "one side of a copy is on this host",
            "between machines: vmint cp A:PATH - | vmint cp - B:FOLDER",
        ),
        (Side::Machine { .. }, _) | (_, Side::Machine { .. }) => Ok(()),
        _ => usage("one side of a copy is in a machine", "write NAME:PATH"),
    }
}

/// Says what of a copy stayed in the machine.
pub fn tell_skipped(source: &str, unpacked: &Unpacked) {
    if !unpacked.skipped.is_empty() {
        let source = output::printable(source);
        let _ = writeln!(
            std::io::stderr(),
            "vmint: note: {source}: {}",
            unpacked.skipped
        );
    }
}

async fn transfer(vmint: &Vmint, source: Side, target: Side) -> Result<(), Fault> {
    match (source, target) {
        (Side::Host(source), Side::Machine { name, path }) => {
            vmint.copy_in(&source, &name, &path).await.map(drop)
        }
        (Side::Machine { name, path }, Side::Host(target)) => {
            tell_skipped(&path, &vmint.copy_out(&name, &path, &target).await?);
            Ok(())
        }
        (Side::Stream, Side::Machine { name, path }) => vmint
            .unpack_into(&name, path.as_bytes(), None, tokio::io::stdin())
            .await
            .map(drop),
        (Side::Machine { name, path }, _) => {
            let write = async |bytes: bytes::Bytes| {
                output::bytes(&bytes).map_err(|fault| std::io::Error::other(fault.message))
            };
            vmint
                .pack_from(&name, path.as_bytes(), write)
                .await
                .map(drop)
        }
        (Side::Host(_) | Side::Stream, _) => {
            Err(Fault::new(ErrorKind::Internal, "a copy without a machine"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    #[test]
    fn exactly_one_side_is_in_a_machine() {
        let side = |text: &str| Side::parse(OsStr::new(text)).unwrap();
        for (source, target, legal) in [
            ("a", "box:/", true),
            ("box:/a", ".", true),
            ("-", "box:/", true),
            ("box:/", "-", true),
            ("a", "b", false),
            ("-", "-", false),
            ("a", "-", false),
            ("box:/", "other:/", false),
        ] {
            let found = check(&side(source), &side(target)).map_err(|fault| fault.kind);
            assert_eq!(
                found,
                if legal { Ok(()) } else { Err(ErrorKind::Usage) },
                "{source} {target}"
            );
        }
    }
}
