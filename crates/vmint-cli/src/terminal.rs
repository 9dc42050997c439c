//! The local terminal: its size, and raw mode, in which every key is the guest's.

use rustix::termios::{self, OptionalActions, Termios};
use std::io::{IsTerminal, Write};
use std::sync::{Mutex, Once, PoisonError};
use vmint::protocol::WindowSize;
use vmint::{ErrorKind, Fault};

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
        let fail = |e: rustix::io::Errno| {
            Fault::from_error(ErrorKind::Host, &std::io::Error::from(e))
                .context("cannot set the terminal's mode")
        };
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

/// Asks for a line on the terminal and does not show it; standard input must be one. Every key is read one by one, Ctrl-C
/// too: the terminal is never left without its echo.
pub fn ask_hidden(question: &str) -> Result<String, Fault> {
    let tell = |text: &str| {
        let mut stderr = std::io::stderr();
        let _ = stderr
            .write_all(text.as_bytes())
            .and_then(|()| stderr.flush());
    };
    let _raw = RawMode::enter()?;
    tell(question);
    let mut line = Hidden::default();
    let ended = loop {
        let mut byte = [0; 1];
        match rustix::io::read(rustix::stdio::stdin(), &mut byte) {
            Ok(0) => break Ended::NoMore,
            Ok(_) => {
                if let Some(ended) = line.key(byte[0]) {
                    break ended;
                }
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => {
                let fault = Fault::from_error(ErrorKind::Host, &std::io::Error::from(e));
                return Err(fault.context("cannot read from the terminal"));
            }
        }
    };
    tell("\r\n");
    let interrupted = |message| Err(Fault::new(ErrorKind::Interrupted, message));
    match ended {
        Ended::Enter => String::from_utf8(line.0)
            .map_err(|_| Fault::new(ErrorKind::Usage, "what was entered is not UTF-8")),
        Ended::Interrupted => interrupted("interrupted at the terminal"),
        Ended::NoMore => interrupted("nothing was entered"),
    }
}

/// A line as it is typed.
#[derive(Default)]
struct Hidden(Vec<u8>);

/// How a line ends.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    Enter,
    Interrupted,
    NoMore,
}

impl Hidden {
    /// What a key does, in raw mode; how it ends the line, if it does.
    fn key(&mut self, byte: u8) -> Option<Ended> {
        match byte {
            b'\r' | b'\n' => return Some(Ended::Enter),
            // Ctrl-C, Ctrl-\.
            0x03 | 0x1c => return Some(Ended::Interrupted),
            // Ctrl-D.
            0x04 if self.0.is_empty() => return Some(Ended::NoMore),
            0x04 => return Some(Ended::Enter),
            // Backspace: all bytes of the last character.
            0x08 | 0x7f => while self.0.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {},
            // Ctrl-U.
            0x15 => self.0.clear(),
            byte => self.0.push(byte),
        }
        None
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hidden_line_can_be_corrected_and_given_up() {
        let typed = |keys: &[u8]| {
            let mut line = Hidden::default();
            let ended = keys.iter().find_map(|&key| line.key(key));
            (String::from_utf8(line.0).unwrap(), ended)
        };
        let done = |text: &str| (text.to_owned(), Some(Ended::Enter));
        assert_eq!(typed(b"secret\rmore"), done("secret"));
        assert_eq!(typed("aü€\x7f\x7fb\n".as_bytes()), done("ab"));
        assert_eq!(typed(b"wrong\x15right\x04"), done("right"));
        assert_eq!(typed(b"\x7f\r"), done(""));
        assert_eq!(typed(b"a\x03b\r").1, Some(Ended::Interrupted));
        assert_eq!(typed(b"\x04").1, Some(Ended::NoMore));
    }
}
