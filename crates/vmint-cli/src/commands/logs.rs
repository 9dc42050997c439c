//! `logs`.

use crate::args::machine::Logs;
use crate::context::{self, Context};
use crate::output;
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use vmint::qemu::log::Reader;
use vmint::{ErrorKind, Fault, Vmint};

/// How long `--follow` waits at most before it looks again.
const SLOWEST: Duration = Duration::from_millis(250);

/// `vmint logs`.
pub fn logs(context: Context, args: &Logs) -> Result<(), Fault> {
    let vmint = context.open()?;
    let record = vmint.machine(&args.name)?;
    let dir = vmint.home().machine(&record.id);
    let path = if args.qemu {
        dir.qemu_log()
    } else if args.runner {
        dir.runner_log()
    } else {
        dir.console_log()
    };
    let mut log = Tail::new(path);
    if !args.follow {
        return log.print().map(drop);
    }
    context::wait(follow(&vmint, record.id.as_str(), &mut log))
}

async fn follow(vmint: &Vmint, id: &str, log: &mut Tail) -> Result<(), Fault> {
    let mut pause = Duration::from_millis(10);
    loop {
        // Looked at before the log: what it said last is printed still.
        let is_up = match vmint.machine(id) {
            Ok(record) => record.state.has_runner(),
            Err(fault) if fault.kind == ErrorKind::NotFound => false,
            Err(fault) => return Err(fault),
        };
        let printed = log.print()?;
        if !is_up {
            return Ok(());
        }
        pause = if printed {
            Duration::from_millis(10)
        } else {
            (pause * 2).min(SLOWEST)
        };
        tokio::time::sleep(pause).await;
        if !printed {
            // Whoever waits for the end of a machine whose runner was killed finds it out.
            vmint.sweep()?;
        }
    }
}

/// A log that grows, and may be begun anew.
struct Tail {
    path: PathBuf,
    log: Reader,
}

impl Tail {
    fn new(path: PathBuf) -> Self {
        let log = Reader::new(path.clone());
        Self { path, log }
    }

    /// Prints what is new; whether there was anything.
    fn print(&mut self) -> Result<bool, Fault> {
        let printed = self
            .log
            .read(|bytes| output::bytes(bytes).map_err(Failed::Write));
        printed.map_err(|failed| match failed {
            Failed::Write(fault) => fault,
            Failed::Read(e) => Fault::from_error(ErrorKind::Host, &e)
                .context(format!("cannot read {}", self.path.display())),
        })
    }
}

/// Why nothing was printed.
enum Failed {
    Read(io::Error),
    Write(Fault),
}

impl From<io::Error> for Failed {
    fn from(e: io::Error) -> Self {
        Self::Read(e)
    }
}
