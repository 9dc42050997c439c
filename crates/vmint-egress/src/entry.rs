//! A line of the network log. One JSON object each, so that scripts read what people read.

use serde::{Deserialize, Serialize};
use std::fmt;
use vmint_model::printable;

/// What was wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// A name.
    Dns,
    /// A connection.
    Tcp,
    /// A datagram.
    Udp,
    /// An echo.
    Icmp,
}

impl What {
    /// As stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
        }
    }
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It was done.
    Allowed,
    /// It was not.
    Refused,
}

/// How often each was said, this line included; lines that were left out count too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Allowed so far.
    pub allowed: u64,
    /// Refused so far.
    pub refused: u64,
}

impl Totals {
    /// One more.
    pub fn count(&mut self, verdict: Verdict) {
        let total = match verdict {
            Verdict::Allowed => &mut self.allowed,
            Verdict::Refused => &mut self.refused,
        };
        *total = total.saturating_add(1);
    }

    /// What the last whole line of a log says.
    pub fn of_log(log: &str) -> Self {
        let mut lines = log.lines().rev();
        lines
            .find_map(|line| Entry::read(line).map(|entry| entry.totals))
            .unwrap_or_default()
    }
}

/// A line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When, in milliseconds since 1970.
    pub time_ms: i64,
    /// What was wanted.
    pub what: What,
    /// The name, as far as one was shown; what does not print is escaped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The address and port, if it was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// What became of it.
    pub verdict: Verdict,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// How many lines before this one were left out, because there were too many in too short a time.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: u64,
    /// The sums.
    #[serde(flatten)]
    pub totals: Totals,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Entry {
    /// Reads a line; `None` when it is something else, such as the note in front of a part of a log.
    pub fn read(line: &str) -> Option<Self> {
        serde_json::from_str(line).ok()
    }

    /// As a line of the log, its end included.
    pub fn line(&self) -> String {
        // No map and no number that JSON does not have: this cannot fail.
        let mut line = serde_json::to_string(self).unwrap_or_default();
        line.push('\n');
        line
    }
}

/// As people read it, without the time.
impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Allowed => "allowed",
            Verdict::Refused => "refused",
        };
        write!(f, "{verdict}  {:<4}", self.what.as_str())?;
        for text in [&self.name, &self.address].into_iter().flatten() {
            write!(f, "  {}", printable(text))?;
        }
        if let Some(why) = &self.why {
            write!(f, "  ({})", printable(why))?;
        }
        if self.left_out > 0 {
            write!(f, "  [{} lines left out before]", self.left_out)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            time_ms: 1,
            what: What::Tcp,
            name: Some("a\u{1b}.example".into()),
            address: Some("192.0.2.1:443".into()),
            verdict: Verdict::Refused,
            why: Some("the name is not allowed".into()),
            left_out: 0,
            totals: Totals {
                allowed: 3,
                refused: 12,
            },
        }
    }

    #[test]
    fn a_line_reads_back_and_prints_without_control_characters() {
        let line = entry().line();
        assert_eq!(
            line,
            "{\"time_ms\":1,\"what\":\"tcp\",\"name\":\"a\\u001b.example\",\"address\":\"192.0.2.1:443\",\
             \"verdict\":\"refused\",\"why\":\"the name is not allowed\",\"allowed\":3,\"refused\":12}\n"
        );
        assert_eq!(Entry::read(line.trim()), Some(entry()));
        assert_eq!(
            entry().to_string(),
            "refused  tcp   a\\x1b.example  192.0.2.1:443  (the name is not allowed)"
        );
    }

    #[test]
    fn totals_are_those_of_the_last_whole_line() {
        let other = Entry {
            totals: Totals::default(),
            ..entry()
        };
        let log = format!(
            "[vmint: a note]\n{}{}{{\"time",
            other.line(),
            entry().line()
        );
        assert_eq!(Totals::of_log(&log), entry().totals);
        assert_eq!(Totals::of_log(""), Totals::default());
    }
}
