//! `logs`: on a terminal without what commands it, elsewhere, or with `--raw`, byte for byte.

use crate::args::Format;
use crate::args::machine::Logs;
use crate::context::{self, Context};
use crate::output;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::time::Duration;
use vmint::qemu::egress::Entry;
use vmint::qemu::log::Reader;
use vmint::workflow::report::ansi;
use vmint::workflow::sight;
use vmint::{ErrorKind, Fault, MachineRecord, Origin, Vmint};

/// A longer line is broken.
const LONGEST_LINE: usize = 64 << 10;

/// How long `--follow` waits at most before it looks again.
const SLOWEST: Duration = Duration::from_millis(250);

/// `vmint logs`.
pub fn logs(context: Context, args: &Logs) -> Result<(), Fault> {
    if args.trace {
        return super::workflow::trace(context, args);
    }
    let vmint = context.open()?;
    let record = vmint.machine(&args.name)?;
    let dir = vmint.home().machine(&record.id);
    let path = if args.qemu {
        dir.qemu_log()
    } else if args.runner {
        dir.runner_log()
    } else if args.network {
        if record.spec.net.allowed().is_none() {
            let message = format!(
                "{} has no allow list: its network is {}",
                record.name, record.spec.net
            );
            return Err(Fault::new(ErrorKind::WrongState, message)
                .hint("create it with `--net allow:DOMAIN`"));
        }
        dir.network_log()
    } else {
        dir.console_log()
    };
    let shown = if args.network && !args.raw && context.format != Format::Json {
        Shown::Network(Vec::new())
    } else if args.network || args.raw || !io::stdout().is_terminal() {
        Shown::Raw
    } else {
        Shown::Printable(Vec::new())
    };
    let path_is_console = !(args.qemu || args.runner || args.network);
    let mut log = Tail::new(path, shown);
    if args.follow {
        context::wait(follow(&vmint, record.id.as_str(), &mut log))?;
    } else if !log.print()? && path_is_console {
        context.note(&silence(&record));
    }
    log.shown.finish()
}

/// Why a console is empty: a fork is a machine that has booted already, elsewhere.
fn silence(record: &MachineRecord) -> String {
    let name = &record.name;
    match &record.spec.origin {
        Origin::Cold | Origin::Disk(_) => {
            format!("`{name}` has printed nothing on its console since it was last started")
        }
        Origin::Template | Origin::Snapshot(_) => format!(
            "`{name}` has printed nothing on its console since it was last started, forked, restored or reset; \
             a fork's console begins with the fork, without the boot before it"
        ),
    }
}

/// How a log is printed.
enum Shown {
    /// As it is.
    Raw,
    /// Line by line, without what commands a terminal. A line that has not ended yet is kept.
    Printable(Vec<u8>),
    /// Entries of the network log, as people read them. A line that has not ended yet is kept.
    Network(Vec<u8>),
}

impl Shown {
    fn print(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let kept = match self {
            Self::Raw => return output::bytes(bytes),
            Self::Network(kept) => {
                kept.extend_from_slice(bytes);
                let whole = kept
                    .iter()
                    .rposition(|b| *b == b'\n')
                    .map_or(0, |at| at + 1);
                let lines: Vec<u8> = kept.drain(..whole).collect();
                let text = String::from_utf8_lossy(&lines);
                let lines = text.lines().map(|line| network(line) + "\n");
                return output::bytes(lines.collect::<String>().as_bytes());
            }
            Self::Printable(kept) => kept,
        };
        kept.extend_from_slice(bytes);
        let mut text = String::new();
        let mut rest = &kept[..];
        while let Some(end) = rest.iter().position(|b| *b == b'\n') {
            text += &printable(&rest[..end]);
            text.push('\n');
            rest = &rest[end + 1..];
        }
        while rest.len() > LONGEST_LINE {
            let (now, later) = rest.split_at(sight::part(rest, LONGEST_LINE));
            text += &printable(now);
            text.push('\n');
            rest = later;
        }
        *kept = rest.to_vec();
        output::bytes(text.as_bytes())
    }

    /// The last line has no end.
    fn finish(&mut self) -> Result<(), Fault> {
        match self {
            Self::Printable(kept) if !kept.is_empty() => {
                output::line(&printable(&std::mem::take(kept)))
            }
            _ => Ok(()),
        }
    }
}

fn printable(line: &[u8]) -> String {
    vmint::printable_lines(&ansi::plain(&String::from_utf8_lossy(line))).into_owned()
}

/// A line of the network log.
fn network(line: &str) -> String {
    match Entry::read(line) {
        Some(entry) => format!("{}  {entry}", output::time(entry.time_ms)),
        // A note of how much of the log is gone.
        None => vmint::printable(line).into_owned(),
    }
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
    shown: Shown,
}

impl Tail {
    fn new(path: PathBuf, shown: Shown) -> Self {
        let log = Reader::new(path.clone());
        Self { path, log, shown }
    }

    /// Prints what is new; whether there was anything.
    fn print(&mut self) -> Result<bool, Fault> {
        let Self { path, log, shown } = self;
        let printed = log.read(|bytes| shown.print(bytes).map_err(Failed::Write));
        printed.map_err(|failed| match failed {
            Failed::Write(fault) => fault,
            Failed::Read(e) => Fault::from_error(ErrorKind::Host, &e)
                .context(format!("cannot read {}", path.display())),
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
