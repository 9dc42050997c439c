//! Ctrl-C, `SIGTERM` and `SIGHUP` at any moment.
//!
//! A thread of its own waits for them, so that they are seen while the main thread is deep in a build. It passes each
//! on to whoever [awaits](Signals::next) it. If nobody takes it within [`PATIENCE`], it ends the process: what it was
//! doing is cleared up by the runner that loses its owner, and by the next command.

use crate::{exit as codes, terminal};
use rustix::process::Signal;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::Instant;
use vmint::{ErrorKind, Fault};

/// How long a signal waits for somebody to take it.
const PATIENCE: Duration = Duration::from_millis(500);

static RECEIVED: AtomicI32 = AtomicI32::new(0);
static TAKEN: AtomicU64 = AtomicU64::new(0);

/// The signal that was received, if one was and was not [forwarded](Signals::forgive).
pub fn received() -> Option<i32> {
    Some(RECEIVED.load(Ordering::SeqCst)).filter(|&n| n != 0)
}

/// Ends the process; the terminal is as it was.
pub fn exit(code: u8) -> ! {
    terminal::restore();
    std::process::exit(code.into());
}

/// Signals as they come.
#[derive(Debug)]
pub struct Signals {
    queue: mpsc::UnboundedReceiver<i32>,
}

impl Signals {
    /// Takes over the signals of this process; those that it was started to ignore stay ignored.
    pub fn watch() -> Result<Self, Fault> {
        let (sender, queue) = mpsc::unbounded_channel();
        let fail = |e: std::io::Error| {
            Fault::from_error(ErrorKind::Host, &e).context("cannot watch for signals")
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(fail)?;
        let ignored = ignored_signals();
        let of = |signal: Signal| -> std::io::Result<_> {
            let _guard = runtime.enter();
            let n = signal.as_raw();
            if ignored >> (n - 1) & 1 == 1 {
                return Ok(None);
            }
            tokio::signal::unix::signal(SignalKind::from_raw(n)).map(|s| Some((n, s)))
        };
        let mut watched = Vec::new();
        for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
            watched.extend(of(signal).map_err(fail)?);
        }
        let watch = async move {
            let mut sent = 0;
            let mut deadline: Option<(Instant, i32)> = None;
            loop {
                let patience = async {
                    match deadline {
                        Some((at, signal)) => {
                            tokio::time::sleep_until(at).await;
                            signal
                        }
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    signal = any(&mut watched) => {
                        RECEIVED.store(signal, Ordering::SeqCst);
                        sent += 1;
                        let _ = sender.send(signal);
                        deadline = deadline.or(Some((Instant::now() + PATIENCE, signal)));
                    }
                    signal = patience => {
                        if TAKEN.load(Ordering::SeqCst) < sent {
                            die(signal);
                        }
                        deadline = None;
                    }
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("signals".into())
            .stack_size(256 << 10);
        thread
            .spawn(move || runtime.block_on(watch))
            .map_err(fail)?;
        Ok(Self { queue })
    }

    /// The next signal.
    pub async fn next(&mut self) -> i32 {
        match self.queue.recv().await {
            Some(signal) => {
                TAKEN.fetch_add(1, Ordering::SeqCst);
                signal
            }
            // The thread never ends before the process.
            None => std::future::pending().await,
        }
    }

    /// The last signal was meant for the command in the machine, and it has it.
    pub fn forgive() {
        RECEIVED.store(0, Ordering::SeqCst);
    }
}

async fn any(watched: &mut [(i32, tokio::signal::unix::Signal)]) -> i32 {
    std::future::poll_fn(|cx| {
        for (n, signal) in watched.iter_mut() {
            if let std::task::Poll::Ready(Some(())) = signal.poll_recv(cx) {
                return std::task::Poll::Ready(*n);
            }
        }
        std::task::Poll::Pending
    })
    .await
}

fn die(signal: i32) -> ! {
    if std::io::stderr().is_terminal() {
        // Off the line of a progress bar.
        let _ = writeln!(std::io::stderr());
    }
    exit(codes::signal_code(signal))
}

/// The signals that this process was started to ignore, as `nohup` and shells do for commands in the background.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

/// Tells when the terminal's size changes.
pub fn window_changes() -> Result<tokio::signal::unix::Signal, Fault> {
    signal(SignalKind::window_change()).map_err(|e| {
        Fault::from_error(ErrorKind::Host, &e).context("cannot watch the terminal's size")
    })
}
