//! This process's terminal, input and output as those of a command in a machine.
//!
//! ```text
//! stdin ─ thread ─▶ pending ─ within the window ─▶ guest
//! stdout ◀─ thread ─┐
//! stderr ◀─ thread ─┴── one chunk at a time ──◀── guest: a slow reader slows the command, and fills no memory
//! ```
//!
//! * [`terminal`]: raw mode; [`pump`]: the threads.

mod pump;

use crate::signals::{self, Signals};
use crate::terminal::{self, RawMode};
use pump::{Input, Output, WriteError};
use rustix::process::Signal;
use vmint::exec::Happening;
use vmint::protocol::{Channel, ExitStatus, Window};
use vmint::{Command, ErrorKind, Fault, Running, Vmint};

/// How an attached command ended for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself.
    Exited(ExitStatus),
    /// By a signal to this process.
    Interrupted(i32),
    /// Nobody reads our output any more.
    BrokenPipe,
}

/// What comes next.
enum Next {
    Happening(Happening),
    Signal(i32),
    Input(Option<Vec<u8>>),
    Resized,
}

/// Runs a command in a machine and is its terminal, input and output until it ends. The first Ctrl-C is the command's, if
/// it has no terminal of its own to get it from; the second ends this.
pub async fn attach(
    vmint: &Vmint,
    machine: &str,
    command: Command,
    signals: &mut Signals,
) -> Result<Ended, Fault> {
    let (with_input, with_terminal) = (command.stdin, command.terminal.is_some());
    let mut running = vmint.exec(machine, command).await?;
    let _raw = if with_input && with_terminal {
        RawMode::enter()?
    } else {
        None
    };
    let mut resized = if with_terminal {
        Some(signals::window_changes()?)
    } else {
        None
    };
    let mut input = if with_input {
        Some(Input::start()?)
    } else {
        None
    };
    let (mut stdout, mut stderr) = (Output::new(Channel::Output), Output::new(Channel::Error));
    let (mut window, mut pending) = (Window::default(), Vec::new());
    let mut interrupts = 0;
    loop {
        let next = tokio::select! {
            happening = running.next() => Next::Happening(happening?),
            signal = signals.next() => Next::Signal(signal),
            bytes = next_input(&mut input), if pending.is_empty() => Next::Input(bytes),
            () = next_resize(&mut resized) => Next::Resized,
        };
        match next {
            Next::Happening(Happening::Exited(status)) => {
                return finish(status, [stdout, stderr], signals).await;
            }
            Next::Happening(Happening::Output(channel, bytes)) => {
                let output = if channel == Channel::Error {
                    &mut stderr
                } else {
                    &mut stdout
                };
                let written = loop {
                    tokio::select! {
                        written = output.write(&bytes) => break written,
                        signal = signals.next() => {
                            if let Some(ended) = on_signal(signal, &running, &mut interrupts) {
                                return Ok(ended);
                            }
                        }
                    }
                };
                match written {
                    Ok(()) => {}
                    Err(WriteError::BrokenPipe) => return Ok(Ended::BrokenPipe),
                    Err(WriteError::Failed(fault)) => return Err(fault),
                }
            }
            Next::Happening(Happening::Credit(n)) => window.grant(n),
            Next::Happening(Happening::Started(_)) => {}
            Next::Signal(signal) => {
                if let Some(ended) = on_signal(signal, &running, &mut interrupts) {
                    return Ok(ended);
                }
            }
            Next::Input(Some(bytes)) => pending = bytes,
            Next::Input(None) => {
                input = None;
                running.send_eof();
            }
            Next::Resized => running.resize(terminal::size()),
        }
        let n = pending.len().min(window.available());
        if n > 0 {
            running.send(&pending[..n]);
            window.sent(n);
            pending.drain(..n);
        }
    }
}

/// What a signal to us means: word to the command, or the end.
fn on_signal(signal: i32, running: &Running<'_>, interrupts: &mut u32) -> Option<Ended> {
    *interrupts += 1;
    if signal == Signal::INT.as_raw() && *interrupts == 1 {
        running.signal(signal);
        Signals::forgive();
        return None;
    }
    Some(Ended::Interrupted(signal))
}

/// Waits until all output is written.
async fn finish(
    status: ExitStatus,
    outputs: [Output; 2],
    signals: &mut Signals,
) -> Result<Ended, Fault> {
    for output in outputs {
        tokio::select! {
            written = output.finish() => match written {
                Ok(()) => {}
                Err(WriteError::BrokenPipe) => return Ok(Ended::BrokenPipe),
                Err(WriteError::Failed(fault)) => return Err(fault),
            },
            signal = signals.next() => return Ok(Ended::Interrupted(signal)),
        }
    }
    Ok(Ended::Exited(status))
}

async fn next_input(input: &mut Option<Input>) -> Option<Vec<u8>> {
    match input {
        Some(input) => input.next().await,
        None => std::future::pending().await,
    }
}

async fn next_resize(resized: &mut Option<tokio::signal::unix::Signal>) {
    if let Some(signal) = resized
        && signal.recv().await.is_some()
    {
        return;
    }
    std::future::pending::<()>().await;
}

/// A failure to read or write what is ours.
fn host(e: &std::io::Error, what: &str) -> Fault {
    Fault::from_error(ErrorKind::Host, e).context(what)
}
