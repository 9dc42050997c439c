//! What a machine may come to take of the host's memory.

/// What a machine takes beside its guest's memory: its hypervisor's own, its runner's, and the kernel's for both. A warmed
/// up fork that has hardly touched its memory has 27 to 41 MB of private memory under emulation, translations included; a
/// runner has 6 to 10.
pub const OVERHEAD: u64 = 48 << 20;

/// The most of a template's memory that a fork is counted on to leave as it is, and so to share with all others. Most of
/// what a template has touched is free again in its guest, and is a fork's own as soon as that uses it: of a template of
/// 128 MiB 118 had been touched; a fork that filled a file system in its memory then had 69 of them for itself, and its
/// hypervisor 27 beside. What no guest writes again is its kernel's code and constants (23 MiB in Debian's), tables, and
/// what came up before the freeze.
pub const KEPT: u64 = 32 << 20;

/// The least that is promised, however small the guest.
pub const FLOOR: u64 = 64 << 20;

/// What a parked fork takes, that waits to be swapped in: the same overhead, and what it has changed while it was warmed
/// up. The guest's memory is promised once: of a machine and its standby one alone is used.
pub const STANDBY: u64 = 64 << 20;

/// The promise for a machine with `guest` bytes of memory, of which its template has touched `shared`, and `standbys`
/// parked forks.
pub fn promise(guest: u64, shared: u64, standbys: u32) -> u64 {
    let own = guest
        .saturating_sub(shared.min(KEPT))
        .saturating_add(OVERHEAD);
    own.max(FLOOR)
        .saturating_add(STANDBY.saturating_mul(u64::from(standbys)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn touched_or_not_all_that_is_not_shared_is_promised() {
        assert_eq!(promise(512 * MIB, 0, 0), 560 * MIB);
        assert_eq!(promise(512 * MIB, 20 * MIB, 0), 540 * MIB);
        assert_eq!(promise(512 * MIB, 20 * MIB, 1), 604 * MIB);
        // A template that has touched everything, or more blocks than memory.
        assert_eq!(promise(128 * MIB, 128 * MIB, 0), 144 * MIB);
        assert_eq!(promise(128 * MIB, u64::MAX, 0), 144 * MIB);
        assert_eq!(promise(8 * MIB, 8 * MIB, 0), FLOOR);
        assert_eq!(promise(u64::MAX, 0, u32::MAX), u64::MAX);
    }
}
