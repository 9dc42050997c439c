//! What a kernel, or the agent, says before it ends its machine, found while the console passes by.
//!
//! *Why not in the log afterwards.* A kernel prints more behind its first words than a look at the log's end would show, a log
//! goes on over several lives of a machine, and it is bounded. This hears every byte of one life.

/// Bytes of a line that are looked at.
const LINE: usize = 512;

/// With what words a kernel or an agent ends its machine. A panicked kernel asks for a reboot like any other.
const BEGINNINGS: [&str; 2] = ["Kernel panic - not syncing", "vmint-agent: fatal"];

/// Listens to a console, and keeps the line with the last words.
#[derive(Debug, Default)]
pub struct Words {
    /// The line so far, no more than [`LINE`] bytes of it.
    line: Vec<u8>,
    heard: Option<String>,
}

impl Words {
    /// Hears what was said next.
    pub fn hear(&mut self, mut bytes: &[u8]) {
        while let Some(end) = bytes.iter().position(|&b| b == b'\n') {
            self.add(&bytes[..end]);
            if let Some(found) = found(&self.line) {
                self.heard = Some(found);
            }
            self.line.clear();
            bytes = &bytes[end + 1..];
        }
        self.add(bytes);
    }

    fn add(&mut self, bytes: &[u8]) {
        let room = LINE - self.line.len();
        self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// The last words that were heard, without the time in front of them.
    pub fn last(&self) -> Option<String> {
        // The last line may have no end.
        found(&self.line).or_else(|| self.heard.clone())
    }
}

fn found(line: &[u8]) -> Option<String> {
    let line = String::from_utf8_lossy(line);
    // Where a kernel stands still instead, it says the same again, as the end of what it had to say.
    if line.contains("---[ end ") {
        return None;
    }
    let at = BEGINNINGS.iter().find_map(|begin| line.find(begin))?;
    Some(line[at..].trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// However it comes in pieces, and whatever comes before and after it: what a kernel said last is heard.
        #[test]
        fn last_words_are_heard_whatever_is_around_them(
            before in proptest::collection::vec(any::<u8>(), 0..2000),
            after in proptest::collection::vec(any::<u8>(), 0..200_000),
            cut in 1usize..97,
        ) {
            let mut said = before;
            said.extend_from_slice(b"\r\n[    3.141592] Kernel panic - not syncing: sysrq triggered crash\r\n");
            said.extend_from_slice(&after);
            let mut words = Words::default();
            for piece in said.chunks(cut) {
                words.hear(piece);
                prop_assert!(words.line.len() <= LINE);
            }
            let expected = "Kernel panic - not syncing: sysrq triggered crash";
            prop_assert_eq!(words.last(), Some(expected.to_owned()));
        }
    }

    #[test]
    fn a_line_without_an_end_counts_and_other_words_do_not() {
        let mut words = Words::default();
        words.hear(b"a Kernel panic is discussed\nlogin: ");
        assert_eq!(words.last(), None);
        words.hear(b"\nvmint-agent: fatal: no root");
        assert_eq!(words.last().as_deref(), Some("vmint-agent: fatal: no root"));
        words.hear(b"\n[1.0] Kernel panic - not syncing: x\n[1.0] ---[ end Kernel panic - not syncing: x ]---\n");
        assert_eq!(
            words.last().as_deref(),
            Some("Kernel panic - not syncing: x")
        );
    }
}
