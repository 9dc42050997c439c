//! The terminal, its keys, and that it is as before when this ends: by a key, a signal, a failure or a panic.

use super::draw::{Edge, View, draw};
use super::snapshot::Watcher;
use crate::context;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use vmint::{ErrorKind, Fault};

/// How often the store is asked whether anything has changed, which takes microseconds.
const LOOK: Duration = Duration::from_millis(100);
/// Nobody reads faster; a store that changes all the time is not read all the time.
const FASTEST: Duration = Duration::from_millis(250);
/// Ages and memory change with nobody's doing.
const SLOWEST: Duration = Duration::from_secs(1);
const PAGE: isize = 10;

/// The screen, until dropped.
struct Screen(DefaultTerminal);

impl Screen {
    fn open() -> Result<Self, Fault> {
        // This also has a panic put the terminal back first; a release build aborts on one, and drops nothing.
        ratatui::try_init().map(Self).map_err(|e| fault(&e))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // If the terminal has gone, there is nothing to put back.
        let _ = ratatui::try_restore();
    }
}

/// Shows it until the user has seen enough.
pub fn watch(mut watcher: Watcher) -> Result<(), Fault> {
    let mut snapshot = watcher.look()?;
    let mut view = View::default();
    context::block_on(async |signals| {
        let mut screen = Screen::open()?;
        let mut keys = keys()?;
        let mut looked = Instant::now();
        let mut dirty = true;
        loop {
            if dirty {
                screen
                    .0
                    .draw(|frame| draw(frame, &snapshot, &view))
                    .map_err(|e| fault(&e))?;
                dirty = false;
            }
            tokio::select! {
                signal = signals.next() => return Err(context::interrupted(signal)),
                key = keys.recv() => match key {
                    // The terminal has hung up.
                    None => return Ok(()),
                    Some(Event::Key(key)) if key.kind != KeyEventKind::Release => {
                        let control = key.modifiers.contains(KeyModifiers::CONTROL);
                        match key.code {
                            KeyCode::Char('q') | KeyCode::Esc => return Ok(()),
                            KeyCode::Char('c') if control => return Ok(()),
                            KeyCode::Tab | KeyCode::Right => view.turn(1),
                            KeyCode::BackTab | KeyCode::Left => view.turn(-1),
                            KeyCode::Down => view.scroll(1, &snapshot),
                            KeyCode::Up => view.scroll(-1, &snapshot),
                            KeyCode::PageDown => view.scroll(PAGE, &snapshot),
                            KeyCode::PageUp => view.scroll(-PAGE, &snapshot),
                            KeyCode::Home => view.jump(Edge::First, &snapshot),
                            KeyCode::End => view.jump(Edge::Last, &snapshot),
                            _ => continue,
                        }
                        dirty = true;
                    }
                    Some(Event::Resize(..)) => dirty = true,
                    Some(_) => {}
                },
                () = tokio::time::sleep(LOOK) => {
                    let since = looked.elapsed();
                    if since >= SLOWEST || since >= FASTEST && watcher.has_changed()? {
                        snapshot = watcher.look()?;
                        looked = Instant::now();
                        dirty = true;
                    }
                }
            }
        }
    })
}

/// What is typed. The thread reads until the process ends: a read from a terminal cannot be given up.
fn keys() -> Result<mpsc::UnboundedReceiver<Event>, Fault> {
    let (sender, keys) = mpsc::unbounded_channel();
    let read = move || {
        while let Ok(event) = event::read() {
            if sender.send(event).is_err() {
                break;
            }
        }
    };
    let thread = std::thread::Builder::new().name("keys".into());
    thread.spawn(read).map_err(|e| fault(&e))?;
    Ok(keys)
}

fn fault(e: &std::io::Error) -> Fault {
    Fault::from_error(ErrorKind::Host, e).context("cannot use the terminal")
}
