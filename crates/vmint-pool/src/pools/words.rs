//! A pool's state for people.

use vmint_model::PoolStatus;

/// What a waiter is told.
pub(super) fn waiting(status: &PoolStatus, before: u32) -> String {
    let name = &status.pool.name;
    format!(
        "waiting for a machine of pool {name}: {}, {}",
        tell(status),
        place(before)
    )
}

pub(super) fn place(before: u32) -> String {
    match before {
        0 => "this one is first in line".into(),
        1 => "1 is before this one".into(),
        n => format!("{n} are before this one"),
    }
}

pub(super) fn tell(status: &PoolStatus) -> String {
    let (counts, spec) = (&status.counts, &status.pool.spec);
    let parts = [
        (counts.leased, "lent"),
        (counts.resetting, "being reset"),
        (counts.filling, "being made"),
        (counts.ready, "ready"),
        (counts.retiring, "going"),
    ];
    let parts = parts.iter().filter(|(n, _)| *n > 0);
    let parts: Vec<_> = parts.map(|(n, what)| format!("{n} {what}")).collect();
    let parts = if parts.is_empty() {
        String::new()
    } else {
        format!(" ({})", parts.join(", "))
    };
    format!("it has {} of at most {}{parts}", counts.alive(), spec.max)
}
