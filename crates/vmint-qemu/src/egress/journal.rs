//! The network log: what a guest was allowed and refused, and how often. A guest that asks without end fills neither the disk
//! nor the time of who writes.

use crate::log::{self, Log};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use vmint_egress::{Entry, Totals, Verdict, What};

/// Lines that may come at once.
const BURST: f64 = 500.0;
/// Lines a second after that.
const RATE: f64 = 50.0;
/// The longest name that is written down, in characters.
const LONGEST: usize = 255;

/// The log of one machine.
#[derive(Clone, Debug)]
pub struct Journal(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    log: Log,
    totals: Totals,
    tokens: Tokens,
    /// Lines that were left out since the last one that was written, and the newest of them.
    left_out: u64,
    pending: Option<Entry>,
}

/// A number of things that may be done, which grows again with time.
#[derive(Debug)]
pub(super) struct Tokens {
    most: f64,
    rate: f64,
    left: f64,
    since: Instant,
}

impl Tokens {
    pub(super) fn new(most: f64, rate: f64) -> Self {
        Self {
            most,
            rate,
            left: most,
            since: Instant::now(),
        }
    }

    /// Takes one, if there is one.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let passed: Duration = now.saturating_duration_since(self.since);
        self.left = (self.left + passed.as_secs_f64() * self.rate).min(self.most);
        self.since = now;
        let some = self.left >= 1.0;
        if some {
            self.left -= 1.0;
        }
        some
    }
}

/// What was wanted, for one line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) what: What,
    pub(crate) name: Option<&'a str>,
    pub(crate) address: Option<SocketAddr>,
}

impl Journal {
    /// Goes on with the log at `path`, and with its sums.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let totals = Totals::of_log(&log::tail(path));
        Ok(Self(Arc::new(Mutex::new(Inner {
            log: Log::open(path, log::PROGRAM)?,
            totals,
            tokens: Tokens::new(BURST, RATE),
            left_out: 0,
            pending: None,
        }))))
    }

    pub(crate) fn allowed(&self, wanted: Wanted<'_>) {
        self.note(wanted, Verdict::Allowed, None);
    }

    pub(crate) fn refused(&self, wanted: Wanted<'_>, why: impl Into<String>) {
        self.note(wanted, Verdict::Refused, Some(why.into()));
    }

    fn note(&self, wanted: Wanted<'_>, verdict: Verdict, why: Option<String>) {
        let mut inner = self.lock();
        inner.totals.count(verdict);
        let cut = |name: &str| -> String { name.chars().take(LONGEST).collect() };
        let entry = Entry {
            time_ms: vmint_model::now_ms(),
            what: wanted.what,
            name: wanted.name.map(cut),
            address: wanted.address.map(|address| address.to_string()),
            verdict,
            why,
            left_out: 0,
            totals: inner.totals,
        };
        if inner.tokens.take(Instant::now()) {
            inner.write(entry);
        } else {
            inner.left_out += u64::from(inner.pending.is_some());
            inner.pending = Some(entry);
        }
    }

    /// Writes the newest line that was left out, for its sums, when lines may be written again.
    pub(super) fn settle(&self) {
        let mut inner = self.lock();
        if inner.pending.is_some()
            && inner.tokens.take(Instant::now())
            && let Some(entry) = inner.pending.take()
        {
            inner.write(entry);
        }
    }

    /// Shows the log at this path too, in the place of what is there.
    pub(crate) fn show_at(&self, path: &Path) -> io::Result<()> {
        self.lock().log.show_at(path)
    }

    /// Leaves that path to another one.
    pub(crate) fn show_no_more(&self) {
        self.lock().log.show_no_more();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn write(&mut self, mut entry: Entry) {
        self.left_out += u64::from(self.pending.take().is_some());
        entry.left_out = std::mem::take(&mut self.left_out);
        self.log.append(entry.line().as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_hardly_written_and_the_sums_go_on_in_another_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("network.log");
        let journal = Journal::open(&path).unwrap();
        let name = "\u{1b}".repeat(10_000);
        let wanted = Wanted {
            what: What::Dns,
            name: Some(&name),
            address: None,
        };
        for _ in 0..20_000 {
            journal.refused(wanted, "the name is not allowed");
        }
        journal.allowed(Wanted {
            name: Some("a.example"),
            ..wanted
        });
        let lines = |text: &[u8]| text.split(|b| *b == b'\n').count();
        let text = log::read(&path).unwrap();
        assert!(text.len() < 3 << 20, "{}", text.len());
        assert!(lines(&text) < 2000, "{}", lines(&text));
        // Somewhen the newest line is written, and the sums with it.
        let mut totals = Totals::default();
        for _ in 0..200 {
            journal.settle();
            totals = Totals::of_log(&log::tail(&path));
            if totals.allowed == 1 {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let expected = Totals {
            allowed: 1,
            refused: 20_000,
        };
        assert_eq!(totals, expected);
        drop(journal);
        let journal = Journal::open(&path).unwrap();
        journal.refused(wanted, "x");
        assert_eq!(Totals::of_log(&log::tail(&path)).refused, 20_001);
    }
}
