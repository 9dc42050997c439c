//! The table, line by line, and what must hold for every question.

use super::*;
use proptest::prelude::*;
use proptest::sample::select;

const STATES: [MachineState; 8] = [
    MachineState::Created,
    MachineState::Starting,
    MachineState::Running,
    MachineState::Paused,
    MachineState::Stopping,
    MachineState::Stopped,
    MachineState::Failed,
    MachineState::Removing,
];

const VERBS: [Verb; 12] = [
    Verb::Look,
    Verb::Stream,
    Verb::Check,
    Verb::Stop,
    Verb::Pause,
    Verb::Resume,
    Verb::Reset(Tenure::Own),
    Verb::Reset(Tenure::Lent),
    Verb::Reset(Tenure::Idle),
    Verb::Snapshot,
    Verb::Qmp,
    Verb::Note,
];

fn ask(state: MachineState, verb: Verb) -> Verdict {
    let generation = Generation(3);
    let meant = Some(generation);
    decide(Standing { state, generation }, Question { verb, meant })
}

/// In one letter.
fn letter(verdict: Verdict) -> char {
    match verdict {
        Verdict::Serve => 's',
        Verdict::Done => 'd',
        Verdict::Wait => 'w',
        Verdict::Refuse(Refusal::Gone) => 'g',
        Verdict::Refuse(Refusal::NotLent) => 'i',
        Verdict::Refuse(Refusal::State { .. }) => 'r',
        Verdict::Refuse(Refusal::Stale { .. }) => '!',
    }
}

#[test]
fn every_state_and_every_verb_have_the_verdict_of_the_table() {
    // created, starting, running, paused, stopping, stopped, failed, removing
    for (verb, expected) in [
        (Verb::Look, "ssssssss"),
        (Verb::Stream, "rwsrrrrr"),
        (Verb::Check, "rwsrrrrr"),
        (Verb::Stop, "gwsssggg"),
        (Verb::Pause, "gwsdrggg"),
        (Verb::Resume, "gwssrggg"),
        (Verb::Reset(Tenure::Own), "gwssrggg"),
        (Verb::Reset(Tenure::Lent), "gwssrggg"),
        (Verb::Reset(Tenure::Idle), "gwiirggg"),
        (Verb::Snapshot, "gwssrggg"),
        (Verb::Qmp, "gwssrggg"),
        (Verb::Note, "gwssrggg"),
    ] {
        let all: String = STATES
            .iter()
            .map(|state| letter(ask(*state, verb)))
            .collect();
        assert_eq!(all, expected, "{verb:?}");
    }
}

#[test]
fn refusals_say_what_is_the_matter_and_what_to_do() {
    let mut record = crate::testing::record();
    record.name = "web".parse().unwrap();
    record.pool = Some("ci".parse().unwrap());
    let told = |refusal: Refusal| {
        let fault = refusal.fault(&record);
        (fault.kind, fault.message, fault.hint)
    };
    let state = |verb, state| told(Refusal::State { verb, state });
    let hint = |text: &str| Some(text.to_owned());
    let stale = Refusal::Stale {
        meant: Generation(2),
        at: Generation(3),
    };
    for (told, expected) in [
        (
            told(stale),
            (
                ErrorKind::StaleGeneration,
                "machine web is at generation 3, not 2",
                None,
            ),
        ),
        (
            state(Verb::Stream, MachineState::Paused),
            (
                ErrorKind::WrongState,
                "machine web is paused",
                hint("vmint resume web"),
            ),
        ),
        (
            state(Verb::Check, MachineState::Stopping),
            (ErrorKind::WrongState, "machine web is stopping", None),
        ),
        (
            state(Verb::Snapshot, MachineState::Stopping),
            (ErrorKind::WrongState, "machine web is being stopped", None),
        ),
        (
            told(Refusal::NotLent),
            (
                ErrorKind::WrongState,
                "machine web of pool ci is not lent to anybody",
                hint("vmint lease acquire ci"),
            ),
        ),
        (
            told(Refusal::Gone),
            (
                ErrorKind::MachineLost,
                "the machine ended before it could answer",
                None,
            ),
        ),
    ] {
        let (kind, message, hint) = expected;
        assert_eq!(told, (kind, message.to_owned(), hint));
    }
}

fn states() -> impl Strategy<Value = MachineState> {
    select(&STATES[..])
}

fn verbs() -> impl Strategy<Value = Verb> {
    select(&VERBS[..])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn another_generation_is_never_served_whatever_is_asked(
        state in states(), verb in verbs(), at in 1..9_u64, meant in 1..9_u64,
    ) {
        let standing = Standing { state, generation: Generation(at) };
        let question = Question { verb, meant: Some(Generation(meant)) };
        let is_stale = matches!(
            decide(standing, question),
            Verdict::Refuse(Refusal::Stale { meant: m, at: a }) if (m.0, a.0) == (meant, at)
        );
        prop_assert_eq!(is_stale, at != meant);
    }

    #[test]
    fn to_name_the_generation_changes_nothing_when_it_is_the_right_one(
        state in states(), verb in verbs(), at in 1..9_u64,
    ) {
        let generation = Generation(at);
        let standing = Standing { state, generation };
        let named = decide(standing, Question { verb, meant: Some(generation) });
        prop_assert_eq!(named, decide(standing, Question { verb, meant: None }));
    }

    #[test]
    fn a_machine_that_is_up_can_be_stopped_and_none_is_used_that_cannot_be(
        state in states(), verb in verbs(),
    ) {
        let served = |verdict| matches!(verdict, Verdict::Serve | Verdict::Done);
        if state.has_runner() && state != MachineState::Starting {
            prop_assert_eq!(ask(state, Verb::Stop), Verdict::Serve);
        }
        if verb != Verb::Look && served(ask(state, verb)) {
            prop_assert!(served(ask(state, Verb::Stop)), "{:?} {:?}", state, verb);
        }
    }

    #[test]
    fn who_waits_is_answered_in_every_state_that_comes_then(verb in verbs(), then in states()) {
        prop_assume!(verb != Verb::Look && then != MachineState::Starting);
        prop_assert_eq!(ask(MachineState::Starting, verb), Verdict::Wait);
        prop_assert_ne!(ask(then, verb), Verdict::Wait);
    }

    #[test]
    fn a_machine_that_is_being_stopped_is_only_looked_at_and_stopped(verb in verbs()) {
        let served = ask(MachineState::Stopping, verb) == Verdict::Serve;
        prop_assert_eq!(served, matches!(verb, Verb::Look | Verb::Stop));
    }

    #[test]
    fn whoever_has_it_matters_to_a_reset_alone(state in states(), tenure in select(&[Tenure::Own, Tenure::Lent][..])) {
        prop_assert_eq!(letter(ask(state, Verb::Reset(tenure))), letter(ask(state, Verb::Snapshot)));
        let idle = ask(state, Verb::Reset(Tenure::Idle));
        prop_assert!(idle != Verdict::Serve && idle != Verdict::Done);
    }

    #[test]
    fn a_refusal_names_the_machine_unless_it_is_gone(state in states(), verb in verbs(), meant in 1..9_u64) {
        let record = crate::testing::record();
        let standing = Standing { state, generation: Generation(3) };
        if let Verdict::Refuse(refusal) = decide(standing, Question { verb, meant: Some(Generation(meant)) }) {
            let fault = refusal.fault(&record);
            let told = fault.message.contains(record.name.as_str()) || refusal == Refusal::Gone;
            prop_assert!(told, "{}", fault.message);
            prop_assert!(matches!(crate::api::status(fault.kind), 409 | 410), "{:?}", fault.kind);
        }
    }
}
