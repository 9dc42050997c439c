//! What commands share: how to open vmint, how to wait for it, where to print.

use crate::args::Format;
use crate::args::machine::Held;
use crate::output;
use crate::progress::Shown;
use crate::signals::Signals;
use serde::Serialize;
use std::io::Write;
use std::path::PathBuf;
use std::sync::OnceLock;
use vmint::config::{Config, TRUST_VARIABLE};
use vmint::{ErrorKind, Fault, Options, Vmint};

/// What was said of all commands.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// How results are printed.
    pub format: Format,
    /// No progress, no notes.
    pub quiet: bool,
    /// Pools that lack machines are filled on the side.
    pub tends: bool,
}

impl Context {
    /// Opens vmint and clears up what others left.
    pub fn open(self) -> Result<Vmint, Fault> {
        self.open_with(Options::from_environment()?)
    }

    /// Opens vmint with the settings of `vmint.toml` and the environment.
    pub fn open_configured(self) -> Result<(Vmint, Config), Fault> {
        let config = config()?;
        Ok((self.open_with(Options::from_config(&config)?)?, config))
    }

    /// The same as [`open`](Self::open), for what reaches a machine on behalf of a lease.
    pub fn open_for(self, held: &Held) -> Result<Vmint, Fault> {
        self.open_with(on_behalf(Options::from_environment()?, held))
    }

    /// The same as [`open_configured`](Self::open_configured), for what reaches a machine on behalf of a lease.
    pub fn open_configured_for(self, held: &Held) -> Result<(Vmint, Config), Fault> {
        let config = config()?;
        Ok((
            self.open_with(on_behalf(Options::from_config(&config)?, held))?,
            config,
        ))
    }

    /// Opens vmint in this way, and clears up what others left.
    pub fn open_with(self, options: Options) -> Result<Vmint, Fault> {
        let vmint = Vmint::open(options)?;
        for found in vmint.sweep()? {
            self.note(&found.message);
        }
        if self.tends {
            vmint.tend_missing()?;
        }
        Ok(vmint)
    }

    /// Says something on standard error that is no failure.
    pub fn note(self, message: &str) {
        if !self.quiet {
            let _ = writeln!(
                std::io::stderr(),
                "vmint: note: {}",
                vmint::printable_lines(message)
            );
        }
    }

    /// Tells of long operations.
    pub fn progress(self) -> Shown {
        if self.quiet {
            Shown::nothing()
        } else {
            Shown::on_stderr()
        }
    }

    /// Prints a result.
    pub fn show(self, value: &impl Serialize, text: impl FnOnce() -> String) -> Result<(), Fault> {
        output::show(self.format, value, text)
    }
}

impl Context {
    /// Prints a list. Where nothing but results is wanted, those for people are names, one a line.
    pub fn list<T: Serialize, N: AsRef<str>>(
        self,
        values: &[T],
        name: impl Fn(&T) -> N,
        text: impl FnOnce() -> String,
    ) -> Result<(), Fault> {
        output::show(self.format, &values, || {
            if !self.quiet {
                return text();
            }
            let names = values.iter().map(|value| {
                let name = name(value);
                vmint::printable(name.as_ref()).into_owned()
            });
            names.collect::<Vec<_>>().join("\n")
        })
    }
}

/// Says on standard error that something was lost, though what was asked for was done.
pub fn warn(message: &str) {
    let _ = writeln!(
        std::io::stderr(),
        "vmint: warning: {}",
        vmint::printable_lines(message)
    );
}

fn on_behalf(options: Options, held: &Held) -> Options {
    Options {
        lease: held.lease.clone().or(options.lease),
        ..options
    }
}

/// The settings of this process.
pub fn config() -> Result<Config, Fault> {
    let here = std::env::current_dir().map_err(|e| {
        Fault::from_error(ErrorKind::Host, &e).context("cannot tell the working directory")
    })?;
    let trusted = TRUSTED.get().map_or(&[][..], Vec::as_slice);
    let env = |name: &str| {
        let value = std::env::var_os(name);
        if name != TRUST_VARIABLE || trusted.is_empty() {
            return value;
        }
        let value = value.unwrap_or_default();
        let given = std::env::split_paths(&value).chain(trusted.iter().cloned());
        std::env::join_paths(given).ok()
    };
    Ok(Config::load(&here, env)?)
}

/// The folders of `--trust`.
static TRUSTED: OnceLock<Vec<PathBuf>> = OnceLock::new();

/// Trusts the `vmint.toml` of these folders in this process.
pub fn trust(folders: &[PathBuf]) -> Result<(), Fault> {
    let real = folders.iter().map(|folder| {
        std::fs::canonicalize(folder).map_err(|e| {
            Fault::from_error(ErrorKind::Usage, &e)
                .context(format!("cannot trust {}", folder.display()))
        })
    });
    let real: Vec<PathBuf> = real.collect::<Result<_, _>>()?;
    let _ = TRUSTED.set(real);
    Ok(())
}

/// Runs a future that minds signals by itself.
pub fn block_on<T>(work: impl AsyncFnOnce(&mut Signals) -> Result<T, Fault>) -> Result<T, Fault> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime =
        runtime.map_err(|e| Fault::from_error(ErrorKind::Host, &e).context("cannot set up"))?;
    let result = runtime.block_on(async {
        let mut signals = Signals::watch()?;
        work(&mut signals).await
    });
    // What still reads standard input does not keep us.
    runtime.shutdown_background();
    result
}

/// Runs a future to its end or to the first signal.
pub fn wait<T>(work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    block_on(async |signals| {
        tokio::select! {
            result = work => result,
            signal = signals.next() => Err(interrupted(signal)),
        }
    })
}

/// The failure of what a signal ended.
pub fn interrupted(signal: i32) -> Fault {
    Fault::new(
        ErrorKind::Interrupted,
        format!("interrupted by signal {signal}"),
    )
}
