//! Two clocks, and which of them decides.
//!
//! What ends, is due, is old or is stale is decided by the *steady* clock: it never steps, whoever sets the host's time, and
//! it stands still while the host sleeps, so neither costs a live owner its lease. It counts from the boot of the host, and
//! its numbers mean nothing in another boot. Nothing that they are kept with outlives a boot: leases and slots end with their
//! machines, places in line with their processes.
//!
//! The *wall* clock says what time it is to people. It may jump by hours in either direction, and is kept to be shown.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now, on the wall clock: milliseconds since 1970 in UTC.
pub fn now_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A moment, on both clocks of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Now {
    /// On the steady clock: milliseconds since the boot of the host, sleep not included.
    pub steady_ms: i64,
    /// On the wall clock: milliseconds since 1970 in UTC.
    pub wall_ms: i64,
}

impl Now {
    /// A moment that both clocks call the same.
    pub fn both(ms: i64) -> Self {
        Self {
            steady_ms: ms,
            wall_ms: ms,
        }
    }

    /// What the wall clock, as it goes now, calls a moment of the steady one.
    pub fn wall_of(self, steady_ms: i64) -> i64 {
        self.wall_ms
            .saturating_sub(self.steady_ms.saturating_sub(steady_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_shown_as_the_wall_clock_has_it_now() {
        let now = Now {
            steady_ms: 5_000,
            wall_ms: 1_000_000,
        };
        assert_eq!(now.wall_of(5_000), 1_000_000);
        assert_eq!(now.wall_of(2_000), 997_000);
        assert_eq!(now.wall_of(9_000), 1_004_000);
    }
}
