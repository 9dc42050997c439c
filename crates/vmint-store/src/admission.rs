//! What is promised to machines, and who waits for a promise.
//!
//! A row of `admissions` is a promise of memory to a machine, and, while it has a `boot`, a place among those that start.
//! It is written in the transaction that decides, so that no two decisions count on the same memory or place, and it
//! lives as long as what it is for:
//!
//! ```text
//!  admit ──▶ holder alive ──▶ machine starting ──▶ running ─────▶ down, or gone
//!            (no machine       (the trigger          (the trigger
//!             yet)              frees the place)      deletes the row)
//! ```
//!
//! A holder that dies before there is a machine leaves a row that nobody counts and the next admission deletes. A holder
//! that dies later leaves a machine, and what becomes of that is the sweep's business.
//!
//! Who is held gets into line, with what he asked for, which nobody behind him is given, and a bell. Who dies or has let
//! his deadline pass leaves the line.

use crate::ledger::Moment;
use crate::store::Failure;
use crate::{MachineFilter, Store, StoreError};
use rusqlite::{OptionalExtension, Row, Transaction, params};
use std::fmt;
use std::str::FromStr;
use vmint_model::{Bell, MachineId, ProcessRef};

/// How a machine starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Boot {
    /// From its kernel.
    Cold,
    /// From a template or a snapshot.
    Fork,
}

impl Boot {
    /// As in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Fork => "fork",
        }
    }
}

impl fmt::Display for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that is no kind of boot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no kind of boot")]
pub struct InvalidBoot(String);

impl FromStr for Boot {
    type Err = InvalidBoot;

    fn from_str(s: &str) -> Result<Self, InvalidBoot> {
        match s {
            "cold" => Ok(Self::Cold),
            "fork" => Ok(Self::Fork),
            _ => Err(InvalidBoot(s.chars().take(40).collect())),
        }
    }
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// For this machine, which need not exist yet; or for something that boots and never will be a machine.
    pub machine: MachineId,
    /// Memory.
    pub bytes: u64,
    /// The place.
    pub boot: Boot,
    /// Who asks. The promise is his until the machine exists.
    pub holder: ProcessRef,
    /// If it is held: where it waits. Without, it does not.
    pub wait: Option<Wait>,
}

/// How somebody waits in line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Where to ring.
    pub bell: Bell,
    /// When he goes at the latest, on the steady clock.
    pub deadline_ms: i64,
}

/// What is booked at the moment of a decision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Booked {
    /// Each machine's promise, the asker's own of an earlier time not included.
    pub promises: Vec<(MachineId, u64)>,
    /// Boots of the asker's kind that are under way.
    pub boots: u32,
    /// Bytes that those ahead in the line have asked for.
    pub ahead_bytes: u64,
    /// How many of those ahead have asked for the same kind of boot.
    pub ahead_boots: u32,
    /// What those ahead are held for, and what the asker was held for when he asked last.
    pub awaited: Vec<String>,
}

/// A machine in a state in which it has memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    /// Its id.
    pub machine: MachineId,
    /// Its guest's memory, in bytes.
    pub memory: u64,
    /// Its hypervisor, once there is one.
    pub hypervisor: Option<ProcessRef>,
}

/// The states in which a machine has memory, as the triggers of `admissions` have them.
const LIVE: &str = "('starting', 'running', 'paused', 'stopping')";

impl Store {
    /// The machines that have memory.
    pub fn live(&self) -> Result<Vec<Live>, StoreError> {
        let live = self.list(MachineFilter::Live)?.into_iter();
        Ok(live
            .map(|record| Live {
                machine: record.id,
                memory: record.spec.memory.0,
                hypervisor: record.hypervisor,
            })
            .collect())
    }

    /// Decides about a request, and books it if `decide` says yes. `decide` says no with one word for what is awaited,
    /// which those behind learn, and with whatever the caller wants to know. Asked again for the same machine, it is the
    /// same request: it keeps its place in line.
    ///
    /// The promise of a machine without a row, one that was started by a version of vmint that made none, is taken from
    /// `without_row`.
    pub fn admit<H>(
        &mut self,
        request: &Request,
        moment: Moment<'_>,
        without_row: &[(MachineId, u64)],
        decide: impl FnOnce(&Booked) -> Result<(), (&'static str, H)>,
    ) -> Result<Result<(), H>, StoreError> {
        self.write(|t| {
            let booked = booked(t, request, moment, without_row)?;
            match decide(&booked) {
                Ok(()) => {
                    leave(t, &request.machine)?;
                    t.prepare_cached(
                        "INSERT OR REPLACE INTO admissions (machine, bytes, boot, holder, at_ms)
                         VALUES (?1, ?2, ?3, ?4, ?5)",
                    )?
                    .execute(params![
                        request.machine.as_str(),
                        integer(request.bytes),
                        request.boot.as_str(),
                        json(&request.holder),
                        moment.now.steady_ms,
                    ])?;
                    Ok(Ok(()))
                }
                Err((awaits, held)) => {
                    if let Some(wait) = &request.wait {
                        enter(t, request, wait, awaits)?;
                    }
                    Ok(Err(held))
                }
            }
        })
    }

    /// Leaves the line, and gives the promise back unless there is a machine by now that has it.
    pub fn withdraw_admission(&mut self, machine: &MachineId) -> Result<(), StoreError> {
        self.write(|t| {
            leave(t, machine)?;
            t.prepare_cached(&format!(
                "DELETE FROM admissions WHERE machine = ?1 AND NOT EXISTS
                     (SELECT 1 FROM machines WHERE id = ?1 AND state IN {LIVE})"
            ))?
            .execute([machine.as_str()])?;
            Ok(())
        })
    }

    /// The bells of all in line with what they want, in their order. When something has become free the first of each
    /// kind is to be rung who hears it. Reads only.
    pub fn admission_bells(&self) -> Result<Vec<(String, Bell)>, StoreError> {
        let read = || {
            self.connection
                .prepare_cached("SELECT boot, bell FROM admission_line ORDER BY ticket")?
                .query_map([], |row| Ok((row.get(0)?, Bell(row.get(1)?))))?
                .collect::<rusqlite::Result<Vec<_>>>()
        };
        read().map_err(|e| self.fail(e))
    }

    /// How many boots of a kind are under way, and how many wait to be admitted.
    pub fn admissions(&self, boot: Boot) -> Result<(u32, u32), StoreError> {
        let read = || {
            let boots = self
                .connection
                .prepare_cached("SELECT count(*) FROM admissions WHERE boot = ?1")?
                .query_row([boot.as_str()], |row| row.get(0))?;
            let waiting = self
                .connection
                .prepare_cached("SELECT count(*) FROM admission_line WHERE boot = ?1")?
                .query_row([boot.as_str()], |row| row.get(0))?;
            Ok((boots, waiting))
        };
        read().map_err(|e| self.fail(e))
    }
}

struct Promised {
    machine: String,
    bytes: i64,
    boot: Option<String>,
    holder: String,
    /// Whether its machine has memory.
    lives: bool,
}

fn booked(
    t: &Transaction<'_>,
    request: &Request,
    moment: Moment<'_>,
    without_row: &[(MachineId, u64)],
) -> Result<Booked, Failure> {
    let mut booked = Booked::default();
    let rows: Vec<Promised> = t
        .prepare_cached(&format!(
            "SELECT a.machine, a.bytes, a.boot, a.holder, m.id IS NOT NULL
             FROM admissions a LEFT JOIN machines m ON m.id = a.machine AND m.state IN {LIVE}"
        ))?
        .query_map([], |row| {
            Ok(Promised {
                machine: row.get(0)?,
                bytes: row.get(1)?,
                boot: row.get(2)?,
                holder: row.get(3)?,
                lives: row.get(4)?,
            })
        })?
        .collect::<Result<_, _>>()?;
    for row in rows {
        if row.machine == request.machine.as_str() {
            continue;
        }
        if !row.lives && !lives(&row.holder, moment) {
            // Its holder died between the promise and the machine.
            t.prepare_cached("DELETE FROM admissions WHERE machine = ?1")?
                .execute([&row.machine])?;
            continue;
        }
        booked.boots += u32::from(row.boot.as_deref() == Some(request.boot.as_str()));
        let Ok(machine) = row.machine.parse() else {
            continue;
        };
        booked.promises.push((machine, bytes(row.bytes)));
    }
    for (machine, bytes) in without_row {
        let known = booked.promises.iter().any(|(known, _)| known == machine);
        if !known && machine != &request.machine && is_live(t, machine)? {
            booked.promises.push((machine.clone(), *bytes));
        }
    }
    let own: Option<i64> = t
        .prepare_cached("SELECT ticket FROM admission_line WHERE machine = ?1")?
        .query_row([request.machine.as_str()], |row| row.get(0))
        .optional()?;
    let line: Vec<Waiting> = t
        .prepare_cached(
            "SELECT ticket, bytes, boot, awaits, process, deadline_ms FROM admission_line ORDER BY ticket",
        )?
        .query_map([], Waiting::read)?
        .collect::<Result<_, _>>()?;
    for waiting in line {
        if own.is_some_and(|own| waiting.ticket > own) {
            break;
        }
        if own == Some(waiting.ticket) {
            booked.awaited.push(waiting.awaits);
            continue;
        }
        if waiting.deadline_ms <= moment.now.steady_ms || !lives(&waiting.process, moment) {
            t.prepare_cached("DELETE FROM admission_line WHERE ticket = ?1")?
                .execute([waiting.ticket])?;
            continue;
        }
        booked.ahead_bytes = booked.ahead_bytes.saturating_add(bytes(waiting.bytes));
        booked.ahead_boots += u32::from(waiting.boot == request.boot.as_str());
        booked.awaited.push(waiting.awaits);
    }
    Ok(booked)
}

struct Waiting {
    ticket: i64,
    bytes: i64,
    boot: String,
    awaits: String,
    process: String,
    deadline_ms: i64,
}

impl Waiting {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            ticket: row.get(0)?,
            bytes: row.get(1)?,
            boot: row.get(2)?,
            awaits: row.get(3)?,
            process: row.get(4)?,
            deadline_ms: row.get(5)?,
        })
    }
}

fn enter(t: &Transaction<'_>, request: &Request, wait: &Wait, awaits: &str) -> Result<(), Failure> {
    t.prepare_cached(
        "INSERT INTO admission_line (machine, bytes, boot, awaits, bell, process, deadline_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (machine) DO UPDATE SET awaits = excluded.awaits",
    )?
    .execute(params![
        request.machine.as_str(),
        integer(request.bytes),
        request.boot.as_str(),
        awaits,
        wait.bell.0,
        json(&request.holder),
        wait.deadline_ms,
    ])?;
    Ok(())
}

fn leave(t: &Transaction<'_>, machine: &MachineId) -> Result<(), Failure> {
    t.prepare_cached("DELETE FROM admission_line WHERE machine = ?1")?
        .execute([machine.as_str()])?;
    Ok(())
}

fn is_live(t: &Transaction<'_>, machine: &MachineId) -> rusqlite::Result<bool> {
    t.prepare_cached(&format!(
        "SELECT EXISTS (SELECT 1 FROM machines WHERE id = ?1 AND state IN {LIVE})"
    ))?
    .query_row([machine.as_str()], |row| row.get(0))
}

/// A process that cannot be understood is none.
fn lives(process: &str, moment: Moment<'_>) -> bool {
    serde_json::from_str(process).is_ok_and(|process| (moment.lives)(&process))
}

fn integer(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn bytes(integer: i64) -> u64 {
    u64::try_from(integer).unwrap_or(0)
}

fn json(process: &ProcessRef) -> String {
    serde_json::to_string(process).expect("has no keys but strings")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process;
    use std::collections::HashSet;
    use std::path::Path;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
    use std::time::Duration;
    use vmint_model::{
        ByteSize, Cause, ExecDefaults, Generation, MachineRecord, MachineSpec, MachineState,
        NetMode, Now, Origin,
    };

    fn open(folder: &Path) -> Store {
        Store::open_file(&folder.join("vmint.db"), Duration::from_secs(60)).unwrap()
    }

    fn me() -> ProcessRef {
        process::current().unwrap()
    }

    fn dead() -> ProcessRef {
        ProcessRef {
            start_time: 0,
            ..me()
        }
    }

    fn request(boot: Boot, bytes: u64) -> Request {
        Request {
            machine: MachineId::random(),
            bytes,
            boot,
            holder: me(),
            wait: None,
        }
    }

    fn waiting(boot: Boot, bytes: u64) -> Request {
        let wait = Wait {
            bell: Bell("nobody".into()),
            deadline_ms: i64::MAX,
        };
        Request {
            wait: Some(wait),
            ..request(boot, bytes)
        }
    }

    fn record(machine: &MachineId) -> MachineRecord {
        MachineRecord {
            id: machine.clone(),
            name: format!("m-{machine}").parse().unwrap(),
            state: MachineState::Starting,
            generation: Generation(1),
            spec: MachineSpec {
                image: "tiny".into(),
                memory: ByteSize::mib(128),
                cpus: 1,
                net: NetMode::None,
                publish: Vec::new(),
                limits: vmint_model::Limits::default(),
                origin: Origin::Template,
                disk_cache: None,
                defaults: ExecDefaults::default(),
            },
            image_digest: None,
            template: None,
            restored: None,
            last_ports: Vec::new(),
            accelerator: None,
            confinement: None,
            runner_confinement: None,
            run_as: None,
            ephemeral: false,
            pool: None,
            owner: None,
            runner: None,
            hypervisor: None,
            addresses: Vec::new(),
            ports: Vec::new(),
            reason: None,
            created_at_ms: 0,
            ready_ms: None,
        }
    }

    fn at(ms: i64) -> Moment<'static> {
        Moment {
            now: Now::both(ms),
            ..Moment::now()
        }
    }

    /// Books it whatever is booked, and returns what is.
    fn book(store: &mut Store, request: &Request) -> Booked {
        let mut seen = Booked::default();
        let decision = store.admit(request, at(1), &[], |booked| {
            seen = booked.clone();
            Ok::<(), (&str, ())>(())
        });
        decision.unwrap().unwrap();
        seen
    }

    /// Asks and is refused, and returns what is booked.
    fn look(store: &mut Store, request: &Request, ms: i64) -> Booked {
        let decision = store.admit(request, at(ms), &[], |booked| {
            Err::<(), _>(("memory", booked.clone()))
        });
        decision.unwrap().unwrap_err()
    }

    fn change(store: &mut Store, machine: &MachineId, to: MachineState) {
        store
            .transition(machine, None, to, Cause::Requested, None, |_| {})
            .unwrap();
    }

    #[test]
    fn a_promise_lives_as_long_as_its_machine_and_its_place_until_that_is_up() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path());
        let (first, asker) = (request(Boot::Fork, 100), request(Boot::Fork, 1));
        assert_eq!(book(&mut store, &first), Booked::default());
        let promised = vec![(first.machine.clone(), 100)];
        let seen = look(&mut store, &asker, 2);
        assert_eq!((&seen.promises, seen.boots), (&promised, 1));
        assert_eq!(look(&mut store, &request(Boot::Cold, 1), 2).boots, 0);
        store.insert(&record(&first.machine)).unwrap();
        assert_eq!(look(&mut store, &asker, 2).boots, 1);
        change(&mut store, &first.machine, MachineState::Running);
        let seen = look(&mut store, &asker, 2);
        assert_eq!((&seen.promises, seen.boots), (&promised, 0));
        change(&mut store, &first.machine, MachineState::Failed);
        assert_eq!(look(&mut store, &asker, 2), Booked::default());
    }

    #[test]
    fn what_the_dead_hold_counts_only_if_there_is_a_machine() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path());
        let of_dead = || Request {
            holder: dead(),
            ..request(Boot::Fork, 100)
        };
        let (alone, with_machine) = (of_dead(), of_dead());
        book(&mut store, &alone);
        book(&mut store, &with_machine);
        store.insert(&record(&with_machine.machine)).unwrap();
        let seen = look(&mut store, &request(Boot::Fork, 1), 2);
        assert_eq!((seen.boots, seen.promises.len()), (1, 1));
        assert_eq!(store.admissions(Boot::Fork).unwrap(), (1, 0), "deleted");
    }

    #[test]
    fn what_is_given_back_is_kept_by_a_machine_that_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path());
        let (kept, given) = (request(Boot::Cold, 1), request(Boot::Cold, 1));
        book(&mut store, &kept);
        book(&mut store, &given);
        store.insert(&record(&kept.machine)).unwrap();
        for request in [&kept, &given] {
            store.withdraw_admission(&request.machine).unwrap();
        }
        assert_eq!(store.admissions(Boot::Cold).unwrap(), (1, 0));
    }

    #[test]
    fn a_live_machine_without_a_promise_counts_and_one_that_is_gone_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path());
        let old = MachineId::random();
        store.insert(&record(&old)).unwrap();
        let without_row = [(old.clone(), 7), (MachineId::random(), 9)];
        let decision = store.admit(&request(Boot::Fork, 1), at(1), &without_row, |booked| {
            Err::<(), _>(("memory", booked.promises.clone()))
        });
        assert_eq!(decision.unwrap().unwrap_err(), vec![(old, 7)]);
    }

    #[test]
    fn those_ahead_in_line_count_until_they_leave_die_or_are_late() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path());
        let first = waiting(Boot::Cold, 100);
        let dies = Request {
            holder: dead(),
            ..waiting(Boot::Cold, 1000)
        };
        let mut late = waiting(Boot::Fork, 10_000);
        late.wait.as_mut().unwrap().deadline_ms = 50;
        let last = waiting(Boot::Cold, 1);
        for request in [&first, &dies, &late, &last] {
            look(&mut store, request, 10);
        }
        let seen = look(&mut store, &last, 20);
        assert_eq!((seen.ahead_bytes, seen.ahead_boots), (10_100, 1));
        let seen = look(&mut store, &last, 50);
        assert_eq!((seen.ahead_bytes, seen.ahead_boots), (100, 1));
        assert_eq!(
            seen.awaited,
            ["memory", "memory"],
            "the first's and its own"
        );
        // To ask again is not to come again.
        assert_eq!(look(&mut store, &first, 60).ahead_boots, 0);
        let bells = store.admission_bells().unwrap();
        assert_eq!(bells.len(), 2);
        store.withdraw_admission(&first.machine).unwrap();
        assert_eq!(look(&mut store, &last, 60).ahead_boots, 0);
        book(&mut store, &last);
        assert!(store.admission_bells().unwrap().is_empty());
    }

    /// Many connections at once, as of many processes: never more boots than places, nor more promised than there is.
    #[test]
    fn no_interleaving_books_more_than_there_is() {
        const PLACES: u32 = 3;
        const CAPACITY: u64 = 1000;
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path()));
        let (booting, taken) = (AtomicU32::new(0), AtomicU64::new(0));
        let (admitted, most) = (AtomicU32::new(0), AtomicU32::new(0));
        let seen = Mutex::new(HashSet::new());
        std::thread::scope(|scope| {
            for thread in 0..8_u64 {
                let (booting, taken, admitted, most, seen) =
                    (&booting, &taken, &admitted, &most, &seen);
                let mut store = open(dir.path());
                scope.spawn(move || {
                    for round in 0..40 {
                        let bytes = 100 + 37 * ((thread + round) % 9);
                        let request = request(Boot::Fork, bytes);
                        let decision = store.admit(&request, Moment::now(), &[], |booked| {
                            let sum: u64 = booked.promises.iter().map(|(_, bytes)| bytes).sum();
                            if booked.boots >= PLACES || sum + bytes > CAPACITY {
                                return Err(("memory", ()));
                            }
                            Ok(())
                        });
                        if decision.unwrap().is_err() {
                            std::thread::yield_now();
                            continue;
                        }
                        admitted.fetch_add(1, Ordering::SeqCst);
                        seen.lock().unwrap().insert(request.machine.clone());
                        let now = booting.fetch_add(1, Ordering::SeqCst) + 1;
                        most.fetch_max(now, Ordering::SeqCst);
                        assert!(now <= PLACES, "{now} boots at once");
                        let sum = taken.fetch_add(bytes, Ordering::SeqCst) + bytes;
                        assert!(sum <= CAPACITY, "{sum} promised");
                        store.insert(&record(&request.machine)).unwrap();
                        booting.fetch_sub(1, Ordering::SeqCst);
                        change(&mut store, &request.machine, MachineState::Running);
                        taken.fetch_sub(bytes, Ordering::SeqCst);
                        change(&mut store, &request.machine, MachineState::Stopping);
                        change(&mut store, &request.machine, MachineState::Stopped);
                    }
                });
            }
        });
        let store = open(dir.path());
        assert_eq!(store.admissions(Boot::Fork).unwrap(), (0, 0));
        let (admitted, most) = (admitted.into_inner(), most.into_inner());
        assert_eq!(seen.into_inner().unwrap().len(), admitted as usize);
        assert!(
            admitted > 40 && most > 1,
            "{admitted} admitted, {most} at once"
        );
    }
}
