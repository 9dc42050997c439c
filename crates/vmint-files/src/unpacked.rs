//! What came of unpacking.

use crate::shown;
use std::fmt;
use vmint_protocol::LeftOut;

/// What was unpacked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Files, folders, links and named pipes.
    pub entries: u64,
    /// Bytes of file content, holes included.
    pub bytes: u64,
    /// What was not.
    pub skipped: Skipped,
}

/// What was left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Device files.
    pub devices: u64,
    /// Sockets.
    pub sockets: u64,
    /// File systems that the kernel makes up (`/proc`, `/sys`), below what was copied. Their folders are there.
    pub mounts: u64,
    /// Files and folders whose set-user-id, set-group-id or sticky bit was dropped; they are there without it.
    pub bits: u64,
    /// File capabilities that were dropped.
    pub capabilities: u64,
    /// Extended attributes that could not be read, or that the target cannot hold.
    pub xattrs: u64,
    /// Files and folders whose owner could not be set.
    pub owners: u64,
    /// The name of the first of all these, [printable](crate::shown).
    pub first: Option<String>,
}

impl Skipped {
    /// Whether nothing was left out.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds what another side has left out.
    pub fn absorb(&mut self, other: Self) {
        for (here, there) in [
            (&mut self.devices, other.devices),
            (&mut self.sockets, other.sockets),
            (&mut self.mounts, other.mounts),
            (&mut self.bits, other.bits),
            (&mut self.capabilities, other.capabilities),
            (&mut self.xattrs, other.xattrs),
            (&mut self.owners, other.owners),
        ] {
            *here = here.saturating_add(there);
        }
        self.first = self.first.take().or(other.first);
    }

    /// Adds what a guest, or the packer of this host, has left out.
    pub fn add(&mut self, left_out: &LeftOut) {
        if left_out.is_empty() {
            return;
        }
        for (here, there) in [
            (&mut self.sockets, left_out.sockets),
            (&mut self.mounts, left_out.mounts),
            (&mut self.xattrs, left_out.xattrs),
            (&mut self.bits, left_out.powers),
        ] {
            *here = here.saturating_add(there);
        }
        if self.first.is_none() && !left_out.first.is_empty() {
            self.first = Some(shown(&left_out.first));
        }
    }
}

/// A sentence without its full stop: `left out: 1 device file, 2 named pipes, the first being …`.
impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = [
            (self.sockets, "socket"),
            (self.devices, "device file"),
            (self.mounts, "file system of the kernel"),
            (self.bits, "set-id or sticky bit"),
            (self.capabilities, "file capability"),
            (self.xattrs, "extended attribute"),
            (self.owners, "owner"),
        ]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| counted(count, what))
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

fn counted(count: u64, what: &str) -> String {
    match (count, what.strip_suffix('y')) {
        (1, _) => format!("1 {what}"),
        (_, Some(stem)) => format!("{count} {stem}ies"),
        (_, None) if what.starts_with("file system") => {
            format!("{count} file systems of the kernel")
        }
        (_, None) => format!("{count} {what}s"),
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
        let mut skipped = Skipped::default();
        skipped.add(&LeftOut::default());
        assert!(skipped.is_empty());
        skipped.add(&LeftOut {
            sockets: 1,
            mounts: 2,
            first: b"/run/\x1bx".to_vec(),
            ..LeftOut::default()
        });
        skipped.capabilities = 2;
        assert_eq!(
            skipped.to_string(),
            "left out: 1 socket, 2 file systems of the kernel, 2 file capabilities (first: `/run/\\x1bx`)"
        );
    }
}
