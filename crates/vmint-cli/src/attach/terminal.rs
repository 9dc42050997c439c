//! The local terminal: its size, and raw mode, in which every key is the guest's.

use super::host;
use rustix::termios::{self, OptionalActions, Termios};
use std::io::IsTerminal;
use std::sync::{Mutex, Once, PoisonError};
use vmint::Fault;
use vmint::protocol::WindowSize;

/// The terminal's settings while it is in raw mode.
static SAVED: Mutex<Option<Termios>> = Mutex::new(None);

/// Puts the terminal back into the mode that it had. Called on every way out, panics included: a release build aborts on
/// them, and drops nothing.
pub fn restore() {
    let saved = SAVED.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(saved) = saved {
        let _ = termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, &saved);
    }
}

/// Raw mode, until dropped.
#[derive(Debug)]
pub struct RawMode(());

impl RawMode {
    /// Puts standard input into raw mode, if it is a terminal.
    pub fn enter() -> Result<Option<Self>, Fault> {
        if !std::io::stdin().is_terminal() {
            return Ok(None);
        }
        let fail = |e: rustix::io::Errno| host(&e.into(), "cannot set the terminal's mode");
        let saved = termios::tcgetattr(rustix::stdio::stdin()).map_err(fail)?;
        restore_on_panic();
        let mut raw = saved.clone();
        raw.make_raw();
        *SAVED.lock().unwrap_or_else(PoisonError::into_inner) = Some(saved);
        termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, &raw).map_err(fail)?;
        Ok(Some(Self(())))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore();
    }
}

fn restore_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            restore();
            before(info);
        }));
    });
}

/// The terminal's size; what terminals had before they had windows, if there is none.
pub fn size() -> WindowSize {
    let ours = [
        rustix::stdio::stdin(),
        rustix::stdio::stdout(),
        rustix::stdio::stderr(),
    ];
    let found = ours
        .into_iter()
        .find_map(|fd| termios::tcgetwinsize(fd).ok())
        .filter(|s| s.ws_row > 0 && s.ws_col > 0);
    found.map_or(
        WindowSize {
            rows: 24,
            columns: 80,
        },
        |s| WindowSize {
            rows: s.ws_row,
            columns: s.ws_col,
        },
    )
}
