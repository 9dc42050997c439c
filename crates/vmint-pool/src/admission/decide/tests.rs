//! Known answers, and what must hold for all questions.

use super::*;
use crate::admission::{Factor, Held};
use proptest::prelude::*;
use vmint_model::Boot;

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
