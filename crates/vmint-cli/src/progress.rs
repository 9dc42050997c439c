//! Progress on standard error: a spinner or a bar on a terminal, plain lines elsewhere. What finishes at once is not
//! mentioned, for it has no stages.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// How often the spinner turns.
const TICK: Duration = Duration::from_millis(100);

/// Shows progress.
#[derive(Debug)]
pub struct Shown(Kind);

#[derive(Debug)]
enum Kind {
    Quiet,
    Plain,
    Terminal(Mutex<Terminal>),
}

#[derive(Debug, Default)]
struct Terminal {
    stage: Option<Stage>,
}

#[derive(Debug)]
struct Stage {
    text: String,
    since: Instant,
    bar: ProgressBar,
    has_bar: bool,
}

impl Shown {
    /// Nothing.
    pub fn nothing() -> Self {
        Self(Kind::Quiet)
    }

    /// As standard error allows.
    pub fn on_stderr() -> Self {
        let can_move = std::io::stderr().is_terminal() && !is_dumb();
        Self(if can_move {
            Kind::Terminal(Mutex::default())
        } else {
            Kind::Plain
        })
    }

    /// No more progress: the line is free for others.
    pub fn finish(&self) {
        if let Kind::Terminal(terminal) = &self.0 {
            lock(terminal).end_stage();
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.finish();
    }
}

fn lock(terminal: &Mutex<Terminal>) -> MutexGuard<'_, Terminal> {
    terminal
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Terminal {
    /// A stage that is over stays as a line, with its time.
    fn end_stage(&mut self) {
        if let Some(stage) = self.stage.take() {
            let seconds = stage.since.elapsed().as_secs_f64();
            stage.bar.finish_and_clear();
            let _ = writeln!(
                std::io::stderr(),
                "{}",
                dim(&format!("  {} {seconds:.1} s", stage.text))
            );
        }
    }

    fn begin(&mut self, text: &str) {
        self.end_stage();
        let bar = ProgressBar::new_spinner();
        bar.set_style(style("{spinner} {msg} {elapsed:.dim}"));
        bar.set_message(text.to_owned());
        bar.enable_steady_tick(TICK);
        self.stage = Some(Stage {
            text: text.to_owned(),
            since: Instant::now(),
            bar,
            has_bar: false,
        });
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

/// Whether the terminal says of itself that it can do nothing but text.
pub fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

fn dim(text: &str) -> String {
    if std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty()) {
        text.to_owned()
    } else {
        format!("\x1b[2m{text}\x1b[0m")
    }
}

impl vmint::Progress for Shown {
    fn stage(&self, text: &str) {
        // One line, whatever a program that failed has said in it.
        let text = crate::output::printable(&text.split_whitespace().collect::<Vec<_>>().join(" "));
        match &self.0 {
            Kind::Quiet => {}
            Kind::Plain => drop(writeln!(std::io::stderr(), "vmint: {text}")),
            Kind::Terminal(terminal) => lock(terminal).begin(&text),
        }
    }

    fn bytes(&self, done: u64, total: Option<u64>) {
        let Kind::Terminal(terminal) = &self.0 else {
            return;
        };
        let mut terminal = lock(terminal);
        let Some(stage) = &mut terminal.stage else {
            return;
        };
        if let Some(total) = total.filter(|_| !stage.has_bar) {
            stage.bar.set_length(total);
            stage
                .bar
                .set_style(style("{spinner} {msg} {wide_bar} {bytes} of {total_bytes}"));
            stage.has_bar = true;
        }
        stage.bar.set_position(done);
    }

    fn output(&self, line: &str) {
        let line = vmint::printable_lines(line);
        match &self.0 {
            Kind::Quiet => {}
            Kind::Plain => drop(writeln!(std::io::stderr(), "{line}")),
            Kind::Terminal(terminal) => match &lock(terminal).stage {
                Some(stage) => stage.bar.println(dim(&line)),
                None => drop(writeln!(std::io::stderr(), "{}", dim(&line))),
            },
        }
    }
}
