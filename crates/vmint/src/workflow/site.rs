//! Leases on pools as machines for workflows.

use super::groups::{Entrance, InProgress, Membership};
use super::meaning::Meanings;
use crate::config::Config;
use crate::exec::Running;
use crate::pools::suit::{of_image, pool_name};
use crate::{Acquire, Lease, Progress, Vmint};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::mpsc;
use vmint_model::{ErrorKind, Fault, Name, PoolSpec, RunId};
use vmint_protocol::{ExitStatus, Streams};
use vmint_workflow::guest::{
    Command, Exit, Group, GroupMode, Guest, Happening, Identity, Member, Place, Process, Site,
    Snapshot, Want,
};
use vmint_workflow::run::Cancel;

/// Where a workflow's machines come from.
#[derive(Debug)]
pub struct HostSite<P> {
    vmint: Arc<Vmint>,
    config: Arc<Config>,
    /// The run that they are for, to which its snapshots belong.
    run: RunId,
    /// The repository that its workflow is of, which has concurrency groups of its own.
    repository: PathBuf,
    options: PoolOptions,
    progress: P,
}

/// What a command says of the machines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolOptions {
    /// All machines from this pool, whatever the labels.
    pub pool: Option<Name>,
    /// All machines of this image, whatever the labels.
    pub image: Option<String>,
    /// How long to wait in line for a machine; not at all when absent.
    pub wait: Option<Duration>,
}

impl<P: Progress + Send + Sync> HostSite<P> {
    /// The machines of this host, for a run.
    pub fn new(
        vmint: Arc<Vmint>,
        config: Arc<Config>,
        run: RunId,
        repository: PathBuf,
        options: PoolOptions,
        progress: P,
    ) -> Self {
        Self {
            vmint,
            config,
            run,
            repository,
            options,
            progress,
        }
    }

    fn meanings(&self) -> Meanings<'_> {
        Meanings::new(&self.config, &self.options)
    }

    /// A pool that a name stands for, if it does.
    fn pool_of(&self, name: &str) -> Result<Option<Place>, Fault> {
        let Ok(pool) = name.parse::<Name>() else {
            return Ok(None);
        };
        let image = match self.config.pools.get(&pool) {
            Some(declared) => declared.image.to_string(),
            None => match self.vmint.pool_status(&pool) {
                Ok(status) => status.pool.spec.image,
                Err(fault) if fault.kind == ErrorKind::NotFound => return Ok(None),
                Err(fault) => return Err(fault),
            },
        };
        Ok(Some(Place { pool, image }))
    }

    /// The pool that workflows have of an image where no other is named.
    fn own_pool(&self, image: &str) -> Place {
        // Another maximum is another pool: what the settings say now holds for the next run.
        let purpose = format!("workflow-{}", self.config.workflow.max);
        Place {
            pool: pool_name(&purpose, &self.own_spec(image)),
            image: image.to_owned(),
        }
    }

    /// What that pool consists of. Its machines are lent once, and none is kept.
    fn own_spec(&self, image: &str) -> PoolSpec {
        let settings = &self.config.workflow;
        PoolSpec {
            memory: settings.memory,
            cpus: settings.cpus,
            net: settings.net.clone(),
            limits: self.config.defaults.limits,
            min: 0,
            max: settings.max,
            standby: 0,
            ttl_ms: None,
            max_uses: Some(1),
            ..PoolSpec::of(image)
        }
    }

    /// Makes the pool unless it is there.
    async fn ensure(&self, place: &Place) -> Result<(), Fault> {
        match self.vmint.pool_status(&place.pool) {
            Ok(status) => return of_image(&place.pool, &status.pool.spec.image, &place.image),
            Err(fault) if fault.kind == ErrorKind::NotFound => {}
            Err(fault) => return Err(fault),
        }
        let (vmint, config) = (&self.vmint, &self.config);
        if config.pools.contains_key(&place.pool) {
            let name = place.pool.as_str();
            return vmint
                .ensure_declared_pool(config, name, &self.progress)
                .await;
        }
        vmint
            .ensure_declared(config, &place.image, &self.progress)
            .await?;
        let spec = self.own_spec(&place.image);
        match vmint.create_pool(&place.pool, spec, &self.progress).await {
            // Another process was faster.
            Err(fault) if fault.kind == ErrorKind::AlreadyExists => Ok(()),
            other => other.map(drop),
        }
    }
}

impl<P: Progress + Send + Sync> Site for HostSite<P> {
    fn resolve(&self, labels: &[String]) -> Result<Place, Fault> {
        let missing = |pool: &Name| {
            Fault::new(ErrorKind::NotFound, format!("there is no pool {pool}"))
                .hint("run `vmint pool ls` to list pools")
        };
        if let Some(pool) = &self.options.pool {
            return self.pool_of(pool.as_str())?.ok_or_else(|| missing(pool));
        }
        if let Some(image) = &self.options.image {
            return Ok(self.own_pool(image));
        }
        let (target, _) = self.meanings().target(labels)?;
        let pool = self.pool_of(&target)?;
        Ok(pool.unwrap_or_else(|| self.own_pool(&target)))
    }

    fn note(&self, labels: &[String]) -> Option<String> {
        self.meanings()
            .target(labels)
            .ok()
            .and_then(|(_, note)| note)
    }

    fn node(&self, image: &str) -> Option<String> {
        let mut nodes = self.config.nodes.iter();
        let node = nodes.find(|(name, _)| name.as_str() == image);
        node.map(|(_, node)| node.clone())
    }

    fn enter_group<'a>(
        &'a self,
        group: Group<'a>,
        mode: GroupMode,
        say: &'a (dyn Fn(&str) + Send + Sync),
        cancel: &'a Cancel,
    ) -> BoxFuture<'a, Result<Box<dyn Member>, Fault>> {
        Box::pin(async move {
            let who = format!("run {}", self.run);
            let entrance = Entrance {
                repository: &self.repository,
                group: group.name,
                shown: group.shown,
                in_progress: match mode {
                    GroupMode::Queue => InProgress::Finishes,
                    GroupMode::CancelInProgress => InProgress::IsCancelled,
                },
                who: &who,
            };
            let membership = self.vmint.enter_group(entrance, say, cancel).await?;
            Ok(Box::new(Seat(membership)) as Box<dyn Member>)
        })
    }

    fn acquire<'a>(&'a self, want: Want<'a>) -> BoxFuture<'a, Result<Box<dyn Guest>, Fault>> {
        Box::pin(async move {
            self.ensure(want.place).await?;
            let pool = self.vmint.pool(want.place.pool.as_str())?;
            let how = Acquire {
                label: Some(want.label.to_string()),
                timeout: self.options.wait.unwrap_or(Duration::from_secs(600)),
                wait: self.options.wait.is_some(),
                ..Acquire::default()
            };
            let lease = pool
                .acquire_saying(how, &|line| self.progress.stage(&line))
                .await?;
            let spec = lease.machine_record()?.spec;
            // Between the look at the pool and the lease another pool may have got its name.
            of_image(&want.place.pool, &spec.image, &want.place.image)?;
            if let Some(snapshot) = want.from {
                lease.restore(snapshot).await?;
            }
            let user = self.config.workflow.user.clone().or(spec.defaults.user);
            let run = self.run.clone();
            Ok(Box::new(Lent { lease, run, user }) as Box<dyn Guest>)
        })
    }
}

/// A place in a concurrency group of this host.
struct Seat(Membership);

impl Member for Seat {
    fn cancelled(&mut self) -> BoxFuture<'_, String> {
        Box::pin(self.0.cancelled())
    }
}

/// A machine that is lent to a run.
struct Lent {
    lease: Lease,
    run: RunId,
    /// Who runs the steps, and whose the files are; root when absent.
    user: Option<String>,
}

impl Guest for Lent {
    fn identity(&self) -> Identity {
        let record = self.lease.record();
        let machine = self.lease.machine_record().ok();
        Identity {
            machine: record.machine,
            generation: record.generation,
            lease: record.id,
            accelerator: machine.and_then(|machine| machine.accelerator),
            user: self.user.clone(),
        }
    }

    fn start<'a>(
        &'a self,
        command: Command,
    ) -> BoxFuture<'a, Result<Box<dyn Process + 'a>, Fault>> {
        let pair = |(name, value): (String, String)| (name.into_bytes(), value.into_bytes());
        let command = crate::Command {
            argv: command.argv.into_iter().map(String::into_bytes).collect(),
            env: command.env.into_iter().map(pair).collect(),
            cwd: command.cwd.map(String::into_bytes),
            user: command.user.or_else(|| self.user.clone()),
            timeout: command.timeout,
            output: Streams::Together,
            ..crate::Command::default()
        };
        Box::pin(async move {
            let running = self.lease.exec(command).await?;
            let lease = &self.lease;
            Ok(Box::new(Started { running, lease }) as Box<dyn Process + 'a>)
        })
    }

    fn put<'a>(
        &'a self,
        folder: &'a str,
        tar: mpsc::Receiver<std::io::Result<Bytes>>,
    ) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            let tar = Pieces {
                pieces: tar,
                rest: Bytes::new(),
            };
            self.lease.unpack_into(folder, self.user.clone(), tar).await
        })
    }

    fn get<'a>(
        &'a self,
        path: &'a str,
        tar: mpsc::Sender<Bytes>,
    ) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            self.lease
                .pack_from(path, |bytes| {
                    let tar = tar.clone();
                    async move {
                        let gone = |_| std::io::Error::other("nobody reads it any more");
                        tar.send(bytes).await.map_err(gone)
                    }
                })
                .await
        })
    }

    fn snapshot<'a>(&'a self, name: &'a Name) -> BoxFuture<'a, Result<Snapshot, Fault>> {
        Box::pin(async move {
            let record = self.lease.snapshot_for_run(name, &self.run).await?;
            Ok(Snapshot {
                pause_ms: record.pause_ms,
                size: record.size.0,
            })
        })
    }

    fn release(self: Box<Self>) -> BoxFuture<'static, Result<(), Fault>> {
        Box::pin(async move { self.lease.release() })
    }
}

/// A command in a machine that is lent.
struct Started<'a> {
    running: Running<'a>,
    lease: &'a Lease,
}

impl Process for Started<'_> {
    fn next(&mut self) -> BoxFuture<'_, Result<Happening, Fault>> {
        Box::pin(async move {
            use crate::exec::Happening as Seen;
            loop {
                let seen = self.running.next().await;
                let seen = match seen {
                    Err(fault) => return Err(self.lease.blame(fault).await),
                    Ok(seen) => seen,
                };
                return Ok(match seen {
                    Seen::Output(_, bytes) => Happening::Output(bytes),
                    Seen::Exited(status) => Happening::Exited(match status {
                        ExitStatus::Code(code) => Exit::Code(code),
                        ExitStatus::Signal(signal) => Exit::Signal(signal),
                        ExitStatus::TimedOut => Exit::TimedOut,
                    }),
                    Seen::Started(_) | Seen::Credit(_) => continue,
                });
            }
        })
    }

    fn signal(&self, signal: i32) {
        self.running.signal(signal);
    }
}

/// Pieces of a channel as one stream.
struct Pieces {
    pieces: mpsc::Receiver<std::io::Result<Bytes>>,
    rest: Bytes,
}

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        while self.rest.is_empty() {
            match std::task::ready!(self.pieces.poll_recv(context)) {
                Some(piece) => self.rest = piece?,
                None => return Poll::Ready(Ok(())),
            }
        }
        let n = self.rest.len().min(buffer.remaining());
        buffer.put_slice(&self.rest.split_to(n));
        Poll::Ready(Ok(()))
    }
}
