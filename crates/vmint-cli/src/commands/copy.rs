//! `cp`.

use crate::args::machine::Copy;
use crate::context::{self, Context};
use crate::output;
use crate::values::Side;
use std::io::Write;
use vmint::files::CopyOptions;
use vmint::{ErrorKind, Fault, Unpacked, Vmint, Xattrs};

/// `vmint cp`.
pub fn copy(context: Context, args: &Copy) -> Result<(), Fault> {
    let (source, target) = (Side::parse(&args.source)?, Side::parse(&args.target)?);
    check(&source, &target)?;
    let options = CopyOptions {
        xattrs: if args.no_xattrs {
            Xattrs::Drop
        } else {
            Xattrs::Keep
        },
    };
    if options.xattrs == Xattrs::Drop && [&source, &target].contains(&&Side::Stream) {
        let message = "--no-xattrs is for files; a tar stream is passed on as it is";
        return Err(Fault::new(ErrorKind::Usage, message).hint("use tar's own --no-xattrs"));
    }
    let vmint = context.open_for(&args.held)?;
    context::wait(transfer(&vmint, source, target, options))
}

/// One side is in a machine, the other is not.
fn check(source: &Side, target: &Side) -> Result<(), Fault> {
    let usage = |message: &str, hint: &str| Err(Fault::new(ErrorKind::Usage, message).hint(hint));
    match (source, target) {
        (Side::Machine { .. }, Side::Machine { .. }) => usage(
            "one of the two paths must be on this host",
            "between machines: vmint cp A:PATH - | vmint cp - B:FOLDER",
        ),
        (Side::Machine { .. }, _) | (_, Side::Machine { .. }) => Ok(()),
        _ => usage(
            "one of the two paths must be in a machine: NAME:PATH",
            "write box:/etc/hosts for a file in the machine `box`",
        ),
    }
}

/// Says what of a copy was left out.
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

async fn transfer(
    vmint: &Vmint,
    source: Side,
    target: Side,
    options: CopyOptions,
) -> Result<(), Fault> {
    let (shown, copied) = match (source, target) {
        (Side::Host(source), Side::Machine { name, path }) => {
            let copied = vmint.copy_in_with(&source, &name, &path, options).await;
            (source.display().to_string(), copied?)
        }
        (Side::Machine { name, path }, Side::Host(target)) => {
            let copied = vmint.copy_out_with(&name, &path, &target, options).await;
            (path, copied?)
        }
        (Side::Stream, Side::Machine { name, path }) => {
            let stdin = tokio::io::stdin();
            let copied = vmint.unpack_into(&name, path.as_bytes(), None, stdin).await;
            ("-".to_owned(), copied?)
        }
        (Side::Machine { name, path }, _) => {
            let write = async |bytes: bytes::Bytes| {
                output::bytes(&bytes).map_err(|fault| std::io::Error::other(fault.message))
            };
            let copied = vmint.pack_from(&name, path.as_bytes(), write).await;
            (path, copied?)
        }
        (Side::Host(_) | Side::Stream, _) => {
            return Err(Fault::new(ErrorKind::Internal, "a copy without a machine"));
        }
    };
    tell_skipped(&shown, &copied);
    Ok(())
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
