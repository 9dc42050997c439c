//! Which requests a machine serves: what the machine is, and what is asked of it, in; serve, or refuse with a reason, out.
//!
//! It is asked twice. When a request comes, the socket asks whether it is of this generation, and whether the guest can be
//! reached for it. When the task that owns the machine takes it from its queue, that asks again: the machine may have become
//! another since.
//!
//! | | coming up | running | paused | being stopped | down |
//! |---|---|---|---|---|---|
//! | look | serve | serve | serve | serve | serve |
//! | stream, check | wait | serve | refuse | refuse | refuse |
//! | stop | wait | serve | serve | serve | gone |
//! | pause | wait | serve | done | refuse | gone |
//! | resume, snapshot, QMP, note | wait | serve | serve | refuse | gone |
//! | reset | wait | serve, if not idle | serve, if not idle | refuse | gone |
//!
//! Invariants:
//! * A request that names a generation is served at that one or not at all, whatever it asks for.
//! * A machine that is up can be stopped, and it always says what it is.
//! * Nothing is done to a machine of a pool that nobody holds but what its runner does by itself.

use vmint_model::{ErrorKind, Fault, Generation, MachineRecord, MachineState};

/// What is asked for, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// What it is: a ping, or its record.
    Look,
    /// A stream to its agent.
    Stream,
    /// Whether its guest is well.
    Check,
    /// To end it, by force or not.
    Stop,
    /// To halt its processors.
    Pause,
    /// To let them go on.
    Resume,
    /// To make it fresh, or to bring it to another moment.
    Reset(Tenure),
    /// To freeze this moment.
    Snapshot,
    /// A command of QEMU's.
    Qmp,
    /// To note that its guest has answered.
    Note,
}

/// Who has a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tenure {
    /// It is of no pool.
    Own,
    /// It is a pool's, and somebody's now.
    Lent,
    /// It is a pool's, and nobody's.
    Idle,
}

/// What a machine is at the moment of the decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its state.
    pub state: MachineState,
    /// Its generation.
    pub generation: Generation,
}

impl Standing {
    /// As this record says.
    pub fn of(record: &MachineRecord) -> Self {
        Self {
            state: record.state,
            generation: record.generation,
        }
    }
}

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// What is asked for.
    pub verb: Verb,
    /// The generation that is meant, if one was named.
    pub meant: Option<Generation>,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is served.
    Serve,
    /// There is nothing to do.
    Done,
    /// It is asked again when the machine has come up, or has not.
    Wait,
    /// It is not served.
    Refuse(Refusal),
}

/// Why a request is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It means another generation.
    Stale {
        /// The one that is meant.
        meant: Generation,
        /// The one that the machine is at.
        at: Generation,
    },
    /// The machine is in a state in which this is not served.
    State {
        /// What was asked for.
        verb: Verb,
        /// The state.
        state: MachineState,
    },
    /// Nobody holds the machine.
    NotLent,
    /// The machine has ended.
    Gone,
}

/// Decides.
pub fn decide(standing: Standing, question: Question) -> Verdict {
    use MachineState as S;
    let Question { verb, meant } = question;
    let Standing { state, generation } = standing;
    if let Some(meant) = meant.filter(|meant| *meant != generation) {
        let at = generation;
        return Verdict::Refuse(Refusal::Stale { meant, at });
    }
    let refused = Verdict::Refuse(Refusal::State { verb, state });
    match (verb, state) {
        (Verb::Look, _) => Verdict::Serve,
        (_, S::Starting) => Verdict::Wait,
        (Verb::Stream | Verb::Check, S::Running) | (Verb::Stop, S::Stopping) => Verdict::Serve,
        (Verb::Stream | Verb::Check, _) | (_, S::Stopping) => refused,
        (_, S::Created | S::Stopped | S::Failed | S::Removing) => Verdict::Refuse(Refusal::Gone),
        (Verb::Pause, S::Paused) => Verdict::Done,
        (Verb::Reset(Tenure::Idle), S::Running | S::Paused) => Verdict::Refuse(Refusal::NotLent),
        (_, S::Running | S::Paused) => Verdict::Serve,
    }
}

impl Refusal {
    /// For whoever asked.
    pub fn fault(self, record: &MachineRecord) -> Fault {
        let name = &record.name;
        match self {
            Self::Stale { meant, at } => {
                let message = format!("machine {name} is at generation {at}, not {meant}");
                Fault::new(ErrorKind::StaleGeneration, message)
            }
            Self::State { verb, state } => {
                let message = match (verb, state) {
                    (Verb::Stream | Verb::Check | Verb::Look, _) => {
                        format!("machine {name} is {state}")
                    }
                    (_, MachineState::Stopping) => format!("machine {name} is being stopped"),
                    (verb, _) => format!("cannot {} machine {name}: it is {state}", verb.word()),
                };
                let fault = Fault::new(ErrorKind::WrongState, message);
                if state == MachineState::Paused {
                    fault.hint(format!("vmint resume {name}"))
                } else {
                    fault
                }
            }
            Self::NotLent => {
                let pool = record.pool.as_ref().map_or("", vmint_model::Name::as_str);
                let message = format!("machine {name} of pool {pool} is not lent to anybody");
                let fault = Fault::new(ErrorKind::WrongState, message);
                fault.hint(format!("vmint lease acquire {pool}"))
            }
            Self::Gone => gone(),
        }
    }
}

/// That a machine has ended before it could answer.
pub fn gone() -> Fault {
    let message = "the machine ended before it could answer";
    Fault::new(ErrorKind::MachineLost, message)
}

impl Verb {
    fn word(self) -> &'static str {
        match self {
            Self::Look => "look at",
            Self::Stream => "use",
            Self::Check => "check",
            Self::Stop => "stop",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Reset(_) => "reset",
            Self::Snapshot => "snapshot",
            Self::Qmp => "command",
            Self::Note => "note an answer of",
        }
    }
}

#[cfg(test)]
mod tests;
