//! Waiting for a condition, never for a while.

use std::time::{Duration, Instant};

/// Waits until `condition` holds, and returns how long that took. Panics at the deadline with what was awaited.
#[track_caller]
pub fn until(deadline: Duration, what: &str, mut condition: impl FnMut() -> bool) -> Duration {
    until_some(deadline, what, || condition().then_some(())).1
}

/// Waits until `find` finds something, and returns it and how long that took.
#[track_caller]
pub fn until_some<T>(
    deadline: Duration,
    what: &str,
    mut find: impl FnMut() -> Option<T>,
) -> (T, Duration) {
    let (began, mut pause) = (Instant::now(), Duration::from_millis(1));
    loop {
        if let Some(found) = find() {
            return (found, began.elapsed());
        }
        assert!(
            began.elapsed() < deadline,
            "waited {deadline:?}, in vain, until {what}"
        );
        // Most of what is awaited here has no descriptor to wait on: it is asked again, ever less often.
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}
