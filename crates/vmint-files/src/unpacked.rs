//! What came of unpacking.

use std::fmt;

/// What was unpacked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Files, folders and links.
    pub entries: u64,
    /// Bytes of file content.
    pub bytes: u64,
    /// What was not.
    pub skipped: Skipped,
}

/// What was left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Device files.
    pub devices: u64,
    /// Named pipes.
    pub pipes: u64,
    /// Files and folders whose set-user-id, set-group-id or sticky bit was dropped; they are there without it.
    pub bits: u64,
    /// The name of the first of all these, [printable](crate::shown).
    pub first: Option<String>,
}

impl Skipped {
    /// Whether nothing was left out.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A sentence without its full stop: `left out: 1 device file, 2 named pipes, the first being …`.
impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = [
            (self.devices, "device file"),
            (self.pipes, "named pipe"),
            (self.bits, "set-id or sticky bit"),
        ]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}{}", if count == 1 { "" } else { "s" }))
        .collect();
        if parts.is_empty() {
            write!(f, "left out: nothing")?;
        } else {
            write!(f, "left out: {}", parts.join(", "))?;
        }
        match &self.first {
            Some(first) => write!(f, " (first: `{first}`)"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_out_is_said_in_a_sentence() {
        let mut skipped = Skipped::default();
        assert!(skipped.is_empty());
        assert_eq!(skipped.to_string(), "left out: nothing");
        (skipped.devices, skipped.bits) = (1, 2);
        skipped.first = Some("dev/sda".into());
        assert_eq!(
            skipped.to_string(),
            "left out: 1 device file, 2 set-id or sticky bits (first: `dev/sda`)"
        );
        assert!(!skipped.is_empty());
    }
}
