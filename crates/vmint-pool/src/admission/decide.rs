//! The decision.

use super::{Limits, Need, Reason, Situation, Verdict};

/// Of a limit so much is left to those who were held.
const EASED: f64 = 0.8;
/// Percent points of swap less, for those who were held.
const SWAP_EASED: f64 = 5.0;
/// One in so many of all bytes stays free, for those who were held.
const HEADROOM: u64 = 20;

/// Decides. More available, less promised, less pressure, fewer boots or a smaller need never make it say no where it
/// said yes.
pub fn decide(limits: &Limits, now: &Situation, need: &Need) -> Verdict {
    if let Some(total) = now.total {
        let most = limits.overcommit.of(total);
        if need.bytes > most {
            let need = need.bytes;
            return Verdict::Never { need, most };
        }
    }
    if let Some(percent) = now.pressure {
        let limit = f64::from(limits.pressure);
        let most = if now.held.pressure {
            limit * EASED
        } else {
            limit
        };
        if percent > most {
            return Verdict::Hold(Reason::Pressure { percent, most });
        }
    }
    if let Some(percent) = now.swap {
        let limit = f64::from(limits.swap_percent);
        let most = if now.held.swap {
            (limit - SWAP_EASED).max(0.0)
        } else {
            limit
        };
        if percent > most {
            return Verdict::Hold(Reason::Swap { percent, most });
        }
    }
    if let Some(available) = now.available {
        let all = limits.overcommit.of(available.saturating_add(now.taken));
        let promised = now.promised.saturating_add(now.ahead_bytes);
        // Where nothing is promised there is nothing to wait for, and nothing that could flap.
        let most = if now.held.memory && promised > 0 {
            all - all / HEADROOM
        } else {
            all
        };
        if promised.saturating_add(need.bytes) > most {
            return Verdict::Hold(Reason::Memory {
                need: need.bytes,
                promised,
                most,
                machines: now.machines,
            });
        }
    }
    let most = limits.places(need.boot).max(1);
    if now.boots.saturating_add(now.ahead_boots) >= most {
        return Verdict::Hold(Reason::Places {
            boot: need.boot,
            under_way: now.boots,
            ahead: now.ahead_boots,
            most,
        });
    }
    Verdict::Admit
}

#[cfg(test)]
mod tests;
