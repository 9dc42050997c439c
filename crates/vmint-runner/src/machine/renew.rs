//! How a machine comes up, and how it is made fresh: by another fork in the place of the one there is, of the next
//! generation.
//!
//! Invariants:
//! * The old guest executes nothing any more when the new one begins to.
//! * The new one has its identity and the time, and the store says `running`, before anybody can reach it.
//! * Nothing is ended before what replaces it has been looked at: that it is whole, and that it can be loaded here.
//! * If then no fork can be brought up there is no machine: an old guest is never gone back to.

use super::Machine;
use super::fork::{Fork, Who};
use super::origin::{self, Source};
use super::standby::Leftover;
use crate::api;
use crate::bringup::{Story, keep_journal, warm_up};
use crate::identity::{self, Identity};
use crate::start::{From, asked_now};
use std::time::Duration;
use tokio::time::Instant;
use vmint_model::{Cause, ErrorKind, Fault, Link, MachineState, Name};
use vmint_protocol::Request;
use vmint_qemu::Frozen;
use vmint_store::process;

/// A moment to bring a machine back to.
#[derive(Debug)]
pub(super) struct Moment {
    frozen: Frozen,
    /// The snapshot's name, for the record.
    name: Option<Name>,
}

impl Machine {
    /// Brings it up for the first time and records it as running; a pool's machine is ready to be lent then.
    pub async fn start(&mut self) -> Result<(), Fault> {
        let deadline = self.plan.deadline();
        let generation = self.record.generation;
        let plan = self.plan.clone();
        // A machine that was up before is who it was.
        let who = Identity::read(self.dir.path()).map_or(Who::New, Who::Same);
        let mut fork = match &plan.request.from {
            From::Frozen(_) => {
                let source = Frozen::open(&plan.origin())?;
                let is_apart = plan.is_apart();
                let checked = if is_apart {
                    source.check()
                } else {
                    source.check_linked()
                };
                checked?;
                plan.request.host.fits(source.manifest())?;
                plan.fork(&source, plan.place(), generation, who, deadline)
                    .await?
            }
            From::Boot(spec) => plan.boot(spec, generation, who, deadline).await?,
        };
        if self.record.pool.is_some() {
            let console = fork.files.console();
            warm_up(&mut fork.live, &console, deadline).await?;
        }
        self.install(Box::new(fork));
        self.up(plan.request.asked_at_ms, None)?;
        let ready_ms = self.record.ready_ms.unwrap_or_default().round();
        tracing::info!(generation = %generation, ready_ms, "up");
        self.join_pool()
    }

    /// Makes a fork the machine.
    fn install(&mut self, fork: Box<Fork>) {
        if !self.plan.is_apart()
            && let Err(e) = fork.identity.write(self.dir.path())
        {
            tracing::warn!("after its next start the machine will be somebody else: {e}");
        }
        fork.show_logs(&self.dir);
        self.story = Story::default();
        self.record.ports.clone_from(&fork.ports);
        self.fork = Some(fork);
    }

    /// Records that a command can be executed now.
    fn up(&mut self, asked_at_ms: f64, detail: Option<&str>) -> Result<(), Fault> {
        let fork = self.fork.as_ref().expect("called when it is up");
        if !fork.files.layers().is_empty() {
            self.reserve.take();
        }
        let hypervisor = process::of(fork.live.hypervisor.pid()).ok().flatten();
        let confinement = fork.live.hypervisor.confinement();
        let (runner, fenced) = (process::current().ok(), self.fenced);
        let ready_ms = (asked_now() - asked_at_ms).max(0.0);
        let request = &self.plan.request;
        let (accelerator, ports) = (request.host.accelerator, self.record.ports.clone());
        let fingerprint = request.fingerprint.clone();
        let user = request.host.user.as_ref().map(|user| user.name.clone());
        let nat = self.record.spec.net.link() == Link::Nat;
        let changed = self.store.transition(
            &self.record.id,
            None,
            MachineState::Running,
            Cause::Completed,
            detail,
            |r| {
                r.runner = runner;
                r.hypervisor = hypervisor;
                r.accelerator = Some(accelerator);
                r.confinement = Some(confinement);
                r.runner_confinement = Some(fenced);
                r.run_as = user;
                r.last_ports.clone_from(&ports);
                r.ports = ports;
                r.addresses = if nat {
                    vec![identity::GUEST_ADDRESS.to_owned()]
                } else {
                    Vec::new()
                };
                r.ready_ms = Some(ready_ms);
                r.reason = None;
                r.template = Some(fingerprint);
            },
        );
        self.record = changed?;
        self.show();
        if !self.record.ephemeral && self.plan.request.shape.disk {
            tokio::spawn(keep_journal(self.live().session.clone()));
        }
        Ok(())
    }

    /// A reset or a restore that was asked for.
    pub(super) async fn reset(&mut self, reset: &api::Reset) -> Result<(), Fault> {
        self.plan.remove_staged();
        let moment = match &reset.from {
            Some(folder) => Some(Moment {
                frozen: Frozen::open(folder)?,
                name: reset.snapshot.clone(),
            }),
            None => None,
        };
        if let Some(Moment { frozen, .. }) = &moment {
            let shape = &frozen.manifest().shape;
            if *shape != self.plan.request.shape {
                let message = "the snapshot is of a machine with other hardware (memory, processors, network or disk)";
                return Err(Fault::new(ErrorKind::WrongState, message));
            }
        }
        self.renew(moment, Cause::Requested).await?;
        self.advance();
        Ok(())
    }

    /// A new fork in the place of this one, of the next generation: of this moment, or of what the machine comes from.
    pub(super) async fn renew(
        &mut self,
        moment: Option<Moment>,
        cause: Cause,
    ) -> Result<(), Fault> {
        let (began, asked) = (Instant::now(), asked_now());
        let next = self.record.generation.next();
        if moment.is_none() && self.standby.is_coming(next) {
            return match self.swap(asked, "reset (standby)", cause).await? {
                Swap::Done => Ok(()),
                Swap::Lost => {
                    let source = self.source(None)?;
                    let fork = self.fork_anew(source, Who::New).await?;
                    self.install(Box::new(fork));
                    self.up(asked, Some("without the standby, which was lost"))
                }
            };
        }
        let (detail, who) = match (&moment, &self.fork) {
            (None, _) => ("reset", Who::New),
            (Some(_), Some(fork)) => ("restore", Who::Same(fork.identity.clone())),
            (Some(_), None) => ("restore", Who::New),
        };
        let (frozen, name) = moment.map_or((None, None), |m| (Some(m.frozen), m.name));
        let is_restore = frozen.is_some();
        let source = self.source(frozen)?;
        if is_restore && !self.plan.is_apart() {
            origin::keep_base(&self.plan.place(), &self.dir)?;
        }
        // It is of the generation that this fork will be of, or of an older one.
        let old = self.standby.replace();
        self.clear_away(old);
        let looked = began.elapsed();
        self.begin_renewal(detail, name, cause)?;
        let recorded = began.elapsed();
        if let Some(old) = self.fork.take() {
            self.put_away(old);
        }
        let fork = self.fork_anew(source, who).await?;
        let forked = began.elapsed();
        self.install(Box::new(fork));
        self.up(asked, None)?;
        tracing::info!(?looked, ?recorded, ?forked, up = ?began.elapsed(), "{detail}");
        Ok(())
    }

    /// What the next fork is made of, looked at: this moment, or what the machine comes from.
    fn source(&self, moment: Option<Frozen>) -> Result<Source, Fault> {
        let (plan, host) = (&self.plan, &self.plan.request.host);
        match moment {
            Some(frozen) => Source::of(frozen, host),
            None if plan.is_apart() => Source::of(Frozen::open(&plan.origin())?, host),
            None => Source::of_reset(&self.dir, host),
        }
    }

    /// Records that the machine is of the next generation, and not up.
    fn begin_renewal(
        &mut self,
        detail: &str,
        restored: Option<Name>,
        cause: Cause,
    ) -> Result<(), Fault> {
        let changed = self.store.transition(
            &self.record.id,
            None,
            MachineState::Starting,
            cause,
            Some(detail),
            |r| {
                r.generation = r.generation.next();
                r.hypervisor = None;
                r.confinement = None;
                r.restored = restored;
            },
        );
        self.record = changed?;
        self.view.set(self.record.clone(), None);
        Ok(())
    }

    /// Kills a fork, and leaves the rest to the background. When this returns, its guest executes nothing any more.
    fn put_away(&mut self, fork: Box<Fork>) {
        fork.live.hypervisor.show_logs_no_more();
        fork.live.hypervisor.abandon();
        self.clear_away(Some(Leftover::Fork(fork)));
    }

    /// Clears away what is left of a fork, in the background.
    pub(super) fn clear_away(&mut self, leftovers: impl IntoIterator<Item = Leftover>) {
        while self.clearing.try_join_next().is_some() {}
        for leftover in leftovers {
            self.clearing.spawn(leftover.clear());
        }
    }

    /// Puts the standby in the place of the fork there is.
    async fn swap(&mut self, asked: f64, detail: &str, cause: Cause) -> Result<Swap, Fault> {
        let began = Instant::now();
        let next = self.record.generation.next();
        if let Some(old) = self.fork.take() {
            self.put_away(old);
        }
        let killed = began.elapsed();
        let limit = api::CHECK * self.plan.request.host.accelerator.patience();
        let (fork, went) = if let Some(fork) = self.standby.take_parked(next) {
            // While QEMU and the guest set to work, the store is written.
            let (went, recorded) = tokio::join!(go(&fork, limit), async {
                tokio::task::yield_now().await;
                self.begin_renewal(detail, None, cause)
            });
            recorded?;
            (fork, went)
        } else {
            self.begin_renewal(detail, None, cause)?;
            let old = self.standby.wait(limit).await;
            self.clear_away(old);
            let Some(fork) = self.standby.take_parked(next) else {
                return Ok(Swap::Lost);
            };
            let went = go(&fork, limit).await;
            (fork, went)
        };
        if let Err(fault) = went {
            tracing::warn!("the standby cannot be used: {fault}");
            self.put_away(fork);
            return Ok(Swap::Lost);
        }
        let goes = began.elapsed();
        self.install(fork);
        self.up(asked, None)?;
        tracing::info!(?killed, ?goes, up = ?began.elapsed(), "swapped");
        Ok(Swap::Done)
    }

    /// A fork in the place of the one that was ended.
    async fn fork_anew(&self, source: Source, who: Who) -> Result<Fork, Fault> {
        let (plan, generation) = (&self.plan, self.record.generation);
        let deadline = plan.deadline();
        let mut fork = match (source, &plan.request.from) {
            (Source::Frozen(source), _) => {
                plan.fork(&source, plan.place(), generation, who, deadline)
                    .await?
            }
            (Source::Boot, From::Boot(spec)) => {
                origin::forget_disk(&plan.place(), &self.dir)?;
                plan.boot(spec, generation, who, deadline).await?
            }
            (Source::Boot, From::Frozen(_)) => {
                let message = "the machine's origin is missing";
                return Err(Fault::new(ErrorKind::Corrupt, message));
            }
        };
        if self.record.pool.is_some() {
            let console = fork.files.console();
            warm_up(&mut fork.live, &console, deadline).await?;
        }
        Ok(fork)
    }
}

/// What became of a swap.
enum Swap {
    /// The standby is the machine.
    Done,
    /// The standby failed, and the machine is not up.
    Lost,
}

/// Lets a standby go, and tells it the time; returns when it knows. Both are sent at once: the guest finds the message
/// when it wakes.
async fn go(fork: &Fork, limit: Duration) -> Result<(), Fault> {
    let clock = Request::SetClock(identity::now_ns());
    let (runs, clock) = tokio::join!(
        fork.live.hypervisor.resume(),
        fork.live.session.call(clock, "set its clock", limit)
    );
    runs?;
    clock?;
    Ok(())
}
