//! Waiting for a condition, never for a while.
//!
//! Deadlines are for a host of its own. Where everything is slower, as on an emulated processor, `VMINT_TEST_PATIENCE` says how
//! many times as long they are: a whole number.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

static PATIENCE: LazyLock<u32> = LazyLock::new(|| {
    std::env::var("VMINT_TEST_PATIENCE").map_or(1, |text| {
        let times = text.parse().ok().filter(|&times| times > 0);
        times
            .unwrap_or_else(|| panic!("VMINT_TEST_PATIENCE={text} is not a whole number from 1 on"))
    })
});

/// How long to wait here for what may take `time` on a host of its own.
pub fn patient(time: Duration) -> Duration {
    time * *PATIENCE
}

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
    let deadline = patient(deadline);
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
