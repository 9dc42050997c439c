//! The decision.

use std::fmt;
use std::str::FromStr;
use vmint_model::ByteSize;
use vmint_store::admission::Boot;

/// What may be done at most. Settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How much may be promised of the memory that machines have or can have.
    pub overcommit: Factor,
    /// With more of the swap in use, in percent, nothing is started.
    pub swap_percent: u32,
    /// With tasks waiting for memory for more of the last ten seconds, in percent, nothing is started.
    pub pressure: u32,
    /// Cold boots at once; at least one.
    pub cold_boots: u32,
    /// Forks at once; at least one.
    pub forks: u32,
}

impl Limits {
    /// How many boots of a kind there may be at once.
    pub fn places(&self, boot: Boot) -> u32 {
        match boot {
            Boot::Cold => self.cold_boots,
            Boot::Fork => self.forks,
        }
    }
}

/// A positive factor in thousandths, so that it is exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Factor(u32);

impl Factor {
    /// 1.
    pub const ONE: Self = Self(1000);
    /// The largest: 100.
    pub const MOST: Self = Self(100_000);

    /// So much of `bytes`.
    pub fn of(self, bytes: u64) -> u64 {
        let product = u128::from(bytes) * u128::from(self.0) / 1000;
        u64::try_from(product).unwrap_or(u64::MAX)
    }

    /// As a number.
    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / 1000.0
    }
}

/// A string that is no factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it must be a number from 0.001 to 100, such as 1.5")]
pub struct InvalidFactor;

impl FromStr for Factor {
    type Err = InvalidFactor;

    fn from_str(s: &str) -> Result<Self, InvalidFactor> {
        let value: f64 = s.parse().map_err(|_| InvalidFactor)?;
        let thousandths = (value * 1000.0).round();
        // Not a number is in no range.
        if (1.0..=f64::from(Self::MOST.0)).contains(&thousandths) {
            Ok(Self(thousandths as u32))
        } else {
            Err(InvalidFactor)
        }
    }
}

impl fmt::Display for Factor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.as_f64().to_string())
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// Bytes to promise.
    pub bytes: u64,
    /// The place that it needs until it is up.
    pub boot: Boot,
}

/// What somebody is held for. Whoever is, or comes behind him in the line, is measured by stricter limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// For memory.
    pub memory: bool,
    /// For swap.
    pub swap: bool,
    /// For pressure.
    pub pressure: bool,
}

/// How things are. What is not known is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Situation {
    /// Bytes that can be had now.
    pub available: Option<u64>,
    /// Bytes that there are at all.
    pub total: Option<u64>,
    /// Swap in use, in percent; absent where there is none.
    pub swap: Option<f64>,
    /// How much of the last ten seconds some task waited for memory, in percent.
    pub pressure: Option<f64>,
    /// Bytes that live machines have been promised, or have if that is more.
    pub promised: u64,
    /// Bytes of it that they have already: what is missing from `available`.
    pub taken: u64,
    /// Live machines.
    pub machines: u32,
    /// Boots of the kind asked for that are under way.
    pub boots: u32,
    /// Bytes that those ahead in the line have asked for.
    pub ahead_bytes: u64,
    /// How many of those ahead in the line have asked for a boot of this kind.
    pub ahead_boots: u32,
    /// What this one was held for, or one ahead of it is.
    pub held: Held,
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// It may start.
    Admit,
    /// Not now.
    Hold(Reason),
    /// Not ever on this host: it needs so much, and all that could be promised is so much.
    Never {
        /// Bytes.
        need: u64,
        /// Bytes.
        most: u64,
    },
}

/// Why not now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reason {
    /// Tasks wait for memory.
    Pressure {
        /// Percent of the last ten seconds.
        percent: f64,
        /// What it must not be above, now.
        most: f64,
    },
    /// Swap is nearly full.
    Swap {
        /// Percent in use.
        percent: f64,
        /// What it must not be above, now.
        most: f64,
    },
    /// Too much is promised.
    Memory {
        /// Bytes asked for.
        need: u64,
        /// Bytes promised to live machines, and to those ahead in the line.
        promised: u64,
        /// Bytes that may be promised, now.
        most: u64,
        /// Live machines.
        machines: u32,
    },
    /// All places are taken.
    Places {
        /// Of this kind.
        boot: Boot,
        /// Boots under way.
        under_way: u32,
        /// Those ahead in the line.
        ahead: u32,
        /// Places.
        most: u32,
    },
}

impl Reason {
    /// In one word, as the store keeps it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Pressure { .. } => "pressure",
            Self::Swap { .. } => "swap",
            Self::Memory { .. } => "memory",
            Self::Places { .. } => "place",
        }
    }
}

impl Held {
    /// And also for what this word says.
    pub fn add(&mut self, word: &str) {
        match word {
            "pressure" => self.pressure = true,
            "swap" => self.swap = true,
            "memory" => self.memory = true,
            _ => {}
        }
    }
}

/// Read after “waiting for ” and after “not started: the host is short of ”.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Pressure { percent, most } => write!(
                f,
                "memory pressure to ease: some task waited for memory for {percent:.1} % of the last 10 s, \
                 and {most:.1} % is the limit"
            ),
            Self::Swap { percent, most } => write!(
                f,
                "swap: {percent:.1} % of it is in use, and {most:.1} % is the limit"
            ),
            Self::Memory {
                need,
                promised,
                most,
                machines,
            } => write!(
                f,
                "memory: it needs {}, and of {} that can be promised {} are ({machines} live machine(s))",
                ByteSize(need),
                ByteSize(most),
                ByteSize(promised),
            ),
            Self::Places {
                boot,
                under_way,
                ahead,
                most,
            } => {
                let what = match boot {
                    Boot::Cold => "cold boot(s)",
                    Boot::Fork => "fork(s)",
                };
                write!(
                    f,
                    "a place to start: {under_way} {what} under way, {ahead} in line before, {most} at once"
                )
            }
        }
    }
}

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
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GIB: u64 = 1 << 30;

    const LIMITS: Limits = Limits {
        overcommit: Factor::ONE,
        swap_percent: 80,
        pressure: 40,
        cold_boots: 2,
        forks: 4,
    };

    const FORK: Need = Need {
        bytes: GIB,
        boot: Boot::Fork,
    };

    fn idle() -> Situation {
        Situation {
            available: Some(8 * GIB),
            total: Some(16 * GIB),
            ..Situation::default()
        }
    }

    fn word(verdict: Verdict) -> &'static str {
        match verdict {
            Verdict::Admit => "admit",
            Verdict::Never { .. } => "never",
            Verdict::Hold(reason) => reason.word(),
        }
    }

    fn says(change: impl FnOnce(&mut Situation)) -> &'static str {
        let mut now = idle();
        change(&mut now);
        word(decide(&LIMITS, &now, &FORK))
    }

    #[test]
    fn an_idle_host_carries_a_machine_and_one_that_says_nothing_too() {
        assert_eq!(says(|_| {}), "admit");
        assert_eq!(says(|now| *now = Situation::default()), "admit");
    }

    #[test]
    fn what_is_promised_counts_whether_touched_or_not() {
        assert_eq!(says(|now| now.promised = 7 * GIB), "admit");
        assert_eq!(says(|now| now.promised = 7 * GIB + 1), "memory");
        // The same promises, in part taken: what is taken is not available any more.
        let taken = |now: &mut Situation| {
            now.promised = 7 * GIB;
            now.taken = 5 * GIB;
            now.available = Some(3 * GIB);
        };
        assert_eq!(says(taken), "admit");
        let less = |now: &mut Situation| {
            taken(now);
            now.available = Some(3 * GIB - 1);
        };
        assert_eq!(says(less), "memory");
    }

    #[test]
    fn the_factor_is_put_to_all_that_machines_can_have() {
        let half = Limits {
            overcommit: "0.5".parse().unwrap(),
            ..LIMITS
        };
        let now = Situation {
            available: Some(6 * GIB),
            promised: 3 * GIB,
            taken: 2 * GIB,
            ..idle()
        };
        assert_eq!(decide(&half, &now, &FORK), Verdict::Admit);
        let more = Situation {
            promised: 3 * GIB + 1,
            ..now
        };
        assert_eq!(word(decide(&half, &more, &FORK)), "memory");
        let double = Limits {
            overcommit: "2".parse().unwrap(),
            ..LIMITS
        };
        let much = Situation {
            promised: 15 * GIB,
            ..now
        };
        assert_eq!(decide(&double, &much, &FORK), Verdict::Admit);
    }

    #[test]
    fn what_the_host_could_never_carry_is_not_waited_for() {
        let need = Need {
            bytes: 17 * GIB,
            ..FORK
        };
        let verdict = decide(&LIMITS, &idle(), &need);
        assert_eq!(
            verdict,
            Verdict::Never {
                need: 17 * GIB,
                most: 16 * GIB
            }
        );
    }

    #[test]
    fn swap_and_pressure_hold_above_their_limits_and_their_absence_does_not() {
        assert_eq!(says(|now| now.swap = Some(80.0)), "admit");
        assert_eq!(says(|now| now.swap = Some(80.1)), "swap");
        assert_eq!(says(|now| now.pressure = Some(40.0)), "admit");
        assert_eq!(says(|now| now.pressure = Some(40.1)), "pressure");
    }

    #[test]
    fn who_was_held_needs_clearly_better_times() {
        let held = |now: &mut Situation| {
            now.held = Held {
                memory: true,
                swap: true,
                pressure: true,
            };
        };
        for (now, expected) in [
            (
                says(|now| {
                    held(now);
                    now.pressure = Some(32.1);
                }),
                "pressure",
            ),
            (
                says(|now| {
                    held(now);
                    now.pressure = Some(32.0);
                }),
                "admit",
            ),
            (
                says(|now| {
                    held(now);
                    now.swap = Some(75.1);
                }),
                "swap",
            ),
            (
                says(|now| {
                    held(now);
                    now.swap = Some(75.0);
                }),
                "admit",
            ),
            (
                says(|now| {
                    held(now);
                    now.promised = 7 * GIB;
                }),
                "memory",
            ),
            (
                says(|now| {
                    held(now);
                    now.promised = 6 * GIB;
                }),
                "admit",
            ),
            // Alone, it needs no headroom.
            (
                says(|now| {
                    held(now);
                    now.available = Some(GIB);
                }),
                "admit",
            ),
        ] {
            assert_eq!(now, expected);
        }
    }

    #[test]
    fn there_are_places_for_each_kind_and_nobody_is_overtaken() {
        assert_eq!(says(|now| now.boots = 3), "admit");
        assert_eq!(says(|now| now.boots = 4), "place");
        assert_eq!(
            says(|now| {
                now.boots = 2;
                now.ahead_boots = 2;
            }),
            "place"
        );
        assert_eq!(says(|now| now.ahead_bytes = 7 * GIB + 1), "memory");
        let cold = Need {
            boot: Boot::Cold,
            ..FORK
        };
        let now = Situation { boots: 2, ..idle() };
        assert_eq!(word(decide(&LIMITS, &now, &cold)), "place");
    }

    #[test]
    fn reasons_come_with_their_numbers() {
        let memory = Reason::Memory {
            need: GIB,
            promised: 7 * GIB,
            most: 15 * GIB / 2,
            machines: 7,
        };
        assert_eq!(
            memory.to_string(),
            "memory: it needs 1 GiB, and of 7.5 GiB that can be promised 7 GiB are (7 live machine(s))"
        );
        let places = Reason::Places {
            boot: Boot::Cold,
            under_way: 2,
            ahead: 1,
            most: 2,
        };
        assert_eq!(
            places.to_string(),
            "a place to start: 2 cold boot(s) under way, 1 in line before, 2 at once"
        );
        let pressure = Reason::Pressure {
            percent: 55.25,
            most: 32.0,
        };
        assert!(
            pressure
                .to_string()
                .contains("55.2 % of the last 10 s, and 32.0 %")
        );
    }

    #[test]
    fn factors_are_read_exactly_and_shown_as_written() {
        for text in ["0.001", "0.02", "1", "1.5", "100"] {
            assert_eq!(text.parse::<Factor>().unwrap().to_string(), text);
        }
        assert_eq!("0.02".parse::<Factor>().unwrap().of(1000), 20);
        assert_eq!(Factor::MOST.of(u64::MAX), u64::MAX);
        for bad in ["", "0", "-1", "NaN", "inf", "101", "0.0001", "1,5", "x"] {
            assert_eq!(bad.parse::<Factor>(), Err(InvalidFactor), "{bad}");
        }
    }

    prop_compose! {
        fn limits()(
            overcommit in 1_u32..4000, swap_percent in 50_u32..=100, pressure in 50_u32..=100,
            cold_boots in 0_u32..9, forks in 0_u32..9,
        ) -> Limits {
            Limits { overcommit: Factor(overcommit), swap_percent, pressure, cold_boots, forks }
        }
    }

    prop_compose! {
        fn situations()(
            available in proptest::option::of(0..64 * GIB), total in proptest::option::of(GIB..64 * GIB),
            swap in proptest::option::of(0.0..100.0), pressure in proptest::option::of(0.0..100.0),
            promised in 0..32 * GIB, taken_of in 0.0..1.0, machines in 0_u32..9, boots in 0_u32..5,
            ahead_bytes in prop_oneof![Just(0), 0..8 * GIB], ahead_boots in 0_u32..2,
            memory: bool, swapping: bool, pressed: bool,
        ) -> Situation {
            let taken = (promised as f64 * taken_of) as u64;
            let held = Held { memory, swap: swapping, pressure: pressed };
            Situation { available, total, swap, pressure, promised, taken, machines, boots, ahead_bytes, ahead_boots, held }
        }
    }

    fn needs() -> impl Strategy<Value = Need> {
        (0..8 * GIB, any::<bool>()).prop_map(|(bytes, cold)| Need {
            bytes,
            boot: if cold { Boot::Cold } else { Boot::Fork },
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn nothing_is_admitted_above_a_limit(limits in limits(), now in situations(), need in needs()) {
            if decide(&limits, &now, &need) == Verdict::Admit {
                if let Some(available) = now.available {
                    let all = (available + now.taken) as f64 * f64::from(limits.overcommit.0) / 1000.0;
                    prop_assert!((now.promised + now.ahead_bytes + need.bytes) as f64 <= all + 1.0);
                }
                prop_assert!(now.swap.is_none_or(|percent| percent <= f64::from(limits.swap_percent)));
                prop_assert!(now.pressure.is_none_or(|percent| percent <= f64::from(limits.pressure)));
                prop_assert!(now.boots + now.ahead_boots < limits.places(need.boot).max(1));
            }
        }

        #[test]
        fn better_times_never_turn_a_yes_into_a_no(
            limits in limits(), now in situations(), need in needs(),
            more in 0..GIB, percent in 0.0..50.0, fewer in 0_u32..3,
        ) {
            // One in ten or so is.
            if decide(&limits, &now, &need) != Verdict::Admit {
                return Ok(());
            }
            let better = Situation {
                available: now.available.map(|bytes| bytes + more),
                total: now.total.map(|bytes| bytes + more),
                swap: now.swap.map(|p| p - percent),
                pressure: now.pressure.map(|p| p - percent),
                boots: now.boots.saturating_sub(fewer),
                ahead_boots: now.ahead_boots.saturating_sub(fewer),
                ahead_bytes: now.ahead_bytes.saturating_sub(more),
                held: Held::default(),
                ..now
            };
            prop_assert_eq!(decide(&limits, &better, &need), Verdict::Admit);
            let smaller = Need { bytes: need.bytes.saturating_sub(more), ..need };
            prop_assert_eq!(decide(&limits, &now, &smaller), Verdict::Admit);
        }

        /// A machine that touches what it was promised changes nothing.
        #[test]
        fn touching_promised_memory_makes_no_difference(
            limits in limits(), now in situations(), need in needs(), part in 0.0..1.0,
        ) {
            let Some(available) = now.available else { return Ok(()) };
            let touched = (((now.promised - now.taken) as f64 * part) as u64).min(available);
            let later = Situation {
                available: Some(available - touched),
                taken: now.taken + touched,
                ..now
            };
            prop_assert_eq!(decide(&limits, &now, &need), decide(&limits, &later, &need));
        }

        /// What holds somebody who was not held before holds him also when he was.
        #[test]
        fn to_have_been_held_never_helps(limits in limits(), now in situations(), need in needs()) {
            let fresh = Situation { held: Held::default(), ..now };
            if let Verdict::Hold(_) = decide(&limits, &fresh, &need) {
                prop_assert!(matches!(decide(&limits, &now, &need), Verdict::Hold(_)));
            }
        }
    }
}
