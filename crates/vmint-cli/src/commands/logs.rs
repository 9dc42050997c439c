//! `logs`.

use crate::args::machine::Logs;
use crate::context::{self, Context};
use crate::output;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
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

/// A file that grows, and may be begun anew.
struct Tail {
    path: PathBuf,
    file: Option<File>,
}

impl Tail {
    fn new(path: PathBuf) -> Self {
        Self { path, file: None }
    }

    /// Prints what is new; whether there was anything.
    fn print(&mut self) -> Result<bool, Fault> {
        let fail = |e: io::Error| {
            Fault::from_error(ErrorKind::Host, &e)
                .context(format!("cannot read {}", self.path.display()))
        };
        if self
            .file
            .as_mut()
            .is_none_or(|file| begun_anew(file, &self.path))
        {
            self.file = match File::open(&self.path) {
                Ok(file) => Some(file),
                // Nothing was said yet, or it has gone with its machine; then what was open is read to its end.
                Err(e) if e.kind() == io::ErrorKind::NotFound => self.file.take(),
                Err(e) => return Err(fail(e)),
            };
        }
        let Some(file) = &mut self.file else {
            return Ok(false);
        };
        let (mut buffer, mut any) = (vec![0; 64 << 10], false);
        loop {
            match file.read(&mut buffer).map_err(fail)? {
                0 => return Ok(any),
                n => output::bytes(&buffer[..n])?,
            }
            any = true;
        }
    }
}

/// Whether the path is another file by now, or the file is shorter than what was read of it.
fn begun_anew(file: &mut File, path: &Path) -> bool {
    let (Ok(ours), Ok(there)) = (file.metadata(), std::fs::metadata(path)) else {
        return false;
    };
    let position = file.stream_position().unwrap_or(0);
    ours.ino() != there.ino() || there.len() < position
}
