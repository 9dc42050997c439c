//! What a stop gives the guest, how long it is waited for, and who is told.

use crate::api;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;
use vmint_model::{ErrorKind, Fault};

/// How a machine is to be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stop {
    pub(super) end: Ending,
    pub(super) remove: bool,
}

/// What a guest is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Nothing.
    AtOnce,
    /// So much time; then it is forced.
    Within(Duration),
    /// All the time it wants.
    Gently,
}

impl Stop {
    /// As a request says.
    pub(super) fn of(stop: api::Stop) -> Self {
        let end = if stop.force {
            Ending::AtOnce
        } else {
            Ending::Within(Duration::from_millis(stop.timeout_ms))
        };
        Self {
            end,
            remove: stop.remove,
        }
    }

    /// However long it takes.
    pub(super) fn gently() -> Self {
        Self {
            end: Ending::Gently,
            remove: false,
        }
    }
}

type Answer = oneshot::Sender<Result<api::Stopped, Fault>>;

/// Those who wait for the machine's end.
#[derive(Debug, Default)]
pub(super) struct Stops {
    /// To the end.
    all: Vec<Answer>,
    /// Until then.
    impatient: Vec<(Instant, Duration, Answer)>,
}

impl Stops {
    /// One waits to the end.
    pub(super) fn wait(&mut self, answer: Answer) {
        self.all.push(answer);
    }

    /// One waits for so long.
    pub(super) fn wait_until(&mut self, timeout_ms: u64, answer: Answer) {
        let limit = Duration::from_millis(timeout_ms);
        self.impatient.push((Instant::now() + limit, limit, answer));
    }

    /// When the first has waited for long enough.
    pub(super) fn next(&self) -> Option<Instant> {
        self.impatient.iter().map(|(until, ..)| *until).min()
    }

    /// Tells those who have waited for long enough.
    pub(super) fn give_up(&mut self, machine: &str) {
        let now = Instant::now();
        let (late, others) = std::mem::take(&mut self.impatient)
            .into_iter()
            .partition(|(until, ..)| *until <= now);
        self.impatient = others;
        for (_, limit, answer) in late {
            let message = format!(
                "machine {machine} did not shut down within {limit:?}; it goes on shutting down"
            );
            let hint = format!(
                "wait for it with `vmint wait {machine} --for stopped`, or force it with `vmint stop {machine} --force`"
            );
            let _ = answer.send(Err(Fault::new(ErrorKind::Guest, message).hint(hint)));
        }
    }

    /// Tells all that the machine is down.
    pub(super) fn tell(self, stopped: api::Stopped) {
        let impatient = self.impatient.into_iter().map(|(.., answer)| answer);
        for answer in self.all.into_iter().chain(impatient) {
            let _ = answer.send(Ok(stopped));
        }
    }
}

/// How long a guest that shuts down is waited for: of several who ask, the least patient decides, of those who force at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Patience(Option<(Instant, Duration)>);

impl Patience {
    /// As the first who asks has it.
    pub(super) fn of(end: Ending, now: Instant) -> Self {
        Self(match end {
            Ending::AtOnce => Some((now, Duration::ZERO)),
            Ending::Within(limit) => Some((now + limit, limit)),
            Ending::Gently => None,
        })
    }

    /// Another one asks.
    pub(super) fn shorten(&mut self, limit: Duration, now: Instant) {
        let until = now + limit;
        if self.0.is_none_or(|(sooner, _)| until < sooner) {
            self.0 = Some((until, limit));
        }
    }

    /// When it is at its end.
    pub(super) fn until(self) -> Option<Instant> {
        self.0.map(|(until, _)| until)
    }

    /// How long the guest has had, when it is at its end.
    pub(super) fn spent(self, now: Instant) -> Option<Duration> {
        self.0
            .filter(|(until, _)| *until <= now)
            .map(|(_, limit)| limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_request_says_what_the_guest_is_given() {
        let stop = |force, remove| {
            Stop::of(api::Stop {
                force,
                timeout_ms: 5,
                remove,
            })
        };
        assert_eq!(stop(true, false).end, Ending::AtOnce);
        assert_eq!(stop(false, true).end, Ending::Within(ms(5)));
        assert!(stop(false, true).remove && !stop(true, false).remove);
        assert_eq!(Stop::gently().end, Ending::Gently);
    }

    proptest! {
        #[test]
        fn the_least_patient_of_those_who_force_decides(
            first in proptest::option::of(0..1000_u64),
            others in proptest::collection::vec((0..50_u64, 0..1000_u64), 0..8),
        ) {
            let began = Instant::now();
            let end = first.map_or(Ending::Gently, |limit| Ending::Within(ms(limit)));
            let (mut patience, mut now) = (Patience::of(end, began), began);
            let mut ends: Vec<Instant> = first.map(|limit| began + ms(limit)).into_iter().collect();
            for (later, limit) in others {
                now += ms(later);
                patience.shorten(ms(limit), now);
                ends.push(now + ms(limit));
            }
            prop_assert_eq!(patience.until(), ends.iter().min().copied());
            if let Some(until) = patience.until() {
                prop_assert!(patience.spent(until).is_some());
                prop_assert!(patience.spent(until - ms(1)).is_none() || until == began);
            } else {
                prop_assert_eq!(patience.spent(now + ms(1_000_000)), None);
            }
        }
    }

    #[test]
    fn a_guest_that_is_given_nothing_has_had_nothing() {
        let now = Instant::now();
        let patience = Patience::of(Ending::AtOnce, now);
        assert_eq!(patience.spent(now), Some(Duration::ZERO));
    }

    #[test]
    fn whoever_is_impatient_is_told_at_his_time_and_the_others_at_the_end() {
        let mut stops = Stops::default();
        let (answer, mut patient) = oneshot::channel();
        stops.wait(answer);
        let (answer, mut soon) = oneshot::channel();
        stops.wait_until(0, answer);
        let (answer, mut late) = oneshot::channel();
        stops.wait_until(3_600_000, answer);
        assert!(stops.next().is_some_and(|at| at <= Instant::now()));
        stops.give_up("web");
        let fault = soon.try_recv().unwrap().unwrap_err();
        assert_eq!(fault.kind, ErrorKind::Guest);
        assert!(fault.message.contains("web did not shut down"), "{fault}");
        assert!(fault.hint.unwrap().contains("--force"));
        assert!(patient.try_recv().is_err() && late.try_recv().is_err());
        assert!(stops.next().is_some_and(|at| at > Instant::now()));
        stops.tell(api::Stopped { forced: true });
        for mut answer in [patient, late] {
            assert!(answer.try_recv().unwrap().unwrap().forced);
        }
    }
}
