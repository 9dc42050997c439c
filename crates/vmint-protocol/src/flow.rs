//! Windows: how many bytes of one channel may be under way.
//!
//! Each direction of each channel of a stream starts with [`WINDOW`] bytes of credit. A sender subtracts what it
//! sends and stops at zero; a receiver grants anew what it has passed on, in pieces large enough to be rare.

/// Credit that each channel starts with, in bytes. A round trip under emulation takes about 4 ms, so this carries
/// 250 MB/s.
pub const WINDOW: u32 = 1 << 20;

/// The sender's side: what may still be sent.
#[derive(Debug, Clone)]
pub struct Window(u32);

impl Default for Window {
    fn default() -> Self {
        Self(WINDOW)
    }
}

impl Window {
    /// Bytes that may be sent now.
    pub fn available(&self) -> usize {
        self.0 as usize
    }

    /// Takes `n` bytes out of the window.
    ///
    /// # Panics
    /// If more is sent than is [`available`](Self::available).
    pub fn sent(&mut self, n: usize) {
        self.0 = u32::try_from(n)
            .ok()
            .and_then(|n| self.0.checked_sub(n))
            .expect("sent more than the window");
    }

    /// Adds a grant. More than [`WINDOW`] in all is the peer's mistake and is cut off.
    pub fn grant(&mut self, n: u32) {
        self.0 = self.0.saturating_add(n).min(WINDOW);
    }
}

/// The receiver's side: what has arrived, and what was passed on but not yet granted anew.
#[derive(Debug, Clone, Default)]
pub struct Credit {
    outstanding: u32,
    owed: u32,
}

impl Credit {
    /// Records `n` bytes that arrived. `false` if the sender overran the window that it was given.
    #[must_use]
    pub fn received(&mut self, n: usize) -> bool {
        match u32::try_from(n)
            .ok()
            .and_then(|n| self.outstanding.checked_add(n))
        {
            Some(sum) if sum <= WINDOW => {
                self.outstanding = sum;
                true
            }
            _ => false,
        }
    }

    /// Records `n` bytes that were passed on; returns a grant to send once a quarter of the window has come together.
    pub fn consumed(&mut self, n: usize) -> Option<u32> {
        self.owed = self
            .owed
            .saturating_add(u32::try_from(n).unwrap_or(u32::MAX))
            .min(self.outstanding);
        if self.owed >= WINDOW / 4 {
            let grant = std::mem::take(&mut self.owed);
            self.outstanding -= grant;
            return Some(grant);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// However the bytes are cut up, a sender that keeps to its window never overruns the receiver and never
        /// comes to a standstill while the receiver consumes.
        #[test]
        fn sender_and_receiver_agree(pieces in proptest::collection::vec((1usize..300_000, 1usize..300_000), 1..200)) {
            let (mut window, mut credit, mut queued) = (Window::default(), Credit::default(), 0usize);
            for (want, drain) in pieces {
                let n = want.min(window.available());
                window.sent(n);
                prop_assert!(credit.received(n));
                queued += n;
                let eaten = drain.min(queued);
                queued -= eaten;
                if let Some(grant) = credit.consumed(eaten) {
                    window.grant(grant);
                }
                prop_assert!(queued > 0 || window.available() > WINDOW as usize / 2);
            }
        }
    }

    #[test]
    fn an_overrun_is_noticed() {
        let mut credit = Credit::default();
        assert!(credit.received(WINDOW as usize));
        assert!(!credit.received(1));
    }
}
