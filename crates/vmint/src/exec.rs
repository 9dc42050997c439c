//! Commands in machines.

use crate::Vmint;
use crate::reach::Reach;
use std::time::Duration;
use tokio::time::Instant;
use vmint_model::{ErrorKind, ExecDefaults, Fault, MachineRecord, MachineState};
use vmint_protocol::{
    Channel, ErrorCode, ExecSpec, ExitStatus, FromGuest, Request, Streams, WindowSize,
};
use vmint_runner::{SessionError, Stream, StreamEvent};

/// How long is waited for a machine that is coming up, unless something else is said.
pub(crate) const COMING_UP: Duration = Duration::from_secs(600);

/// A command to run in a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// Program and arguments; the image's default command when empty.
    pub argv: Vec<Vec<u8>>,
    /// Environment, over the image's.
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
    /// Working directory instead of the image's.
    pub cwd: Option<Vec<u8>>,
    /// User instead of the image's.
    pub user: Option<String>,
    /// A terminal of this size.
    pub terminal: Option<WindowSize>,
    /// Whether input will be sent.
    pub stdin: bool,
    /// It is killed after this time.
    pub timeout: Option<Duration>,
    /// Whether its output and its error are two streams or one.
    pub output: Streams,
}

impl Command {
    /// A command without input.
    pub fn new<A: Into<Vec<u8>>>(argv: impl IntoIterator<Item = A>) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }

    fn into_spec(self, defaults: &ExecDefaults) -> Result<ExecSpec, Fault> {
        let argv = if self.argv.is_empty() {
            defaults
                .command
                .iter()
                .map(|a| a.clone().into_bytes())
                .collect()
        } else {
            self.argv
        };
        if argv.is_empty() {
            return Err(no_command());
        }
        let image_env = defaults.env.iter().filter_map(|e| {
            let (name, value) = e.split_once('=')?;
            Some((name.as_bytes().to_vec(), value.as_bytes().to_vec()))
        });
        Ok(ExecSpec {
            argv,
            env: image_env.chain(self.env).collect(),
            cwd: self
                .cwd
                .or_else(|| defaults.workdir.clone().map(String::into_bytes)),
            user: self.user.or_else(|| defaults.user.clone()),
            terminal: self.terminal,
            stdin: self.stdin,
            timeout_ms: self.timeout.map(|t| t.as_millis() as u64),
            output: self.output,
        })
    }
}

/// How a command ended, and what it said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
}

/// A command that was started. Dropped before its end, it is killed.
#[derive(Debug)]
pub struct Running<'a> {
    vmint: &'a Vmint,
    record: MachineRecord,
    stream: Stream,
    /// What was said first, before it was known to run.
    first: Option<StreamEvent>,
}

/// What a running command does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    /// It runs, as this process of the guest.
    Started(u32),
    /// Bytes of its output or error.
    Output(Channel, bytes::Bytes),
    /// So many more bytes of input may be sent.
    Credit(u32),
    /// It has ended.
    Exited(ExitStatus),
}

fn no_command() -> Fault {
    let message = "no command was given, and the image has no default one";
    Fault::new(ErrorKind::Usage, message).hint("write it behind `--`: `vmint run -- uname -a`")
}

impl Vmint {
    /// Refuses an image that has no command of its own, before a machine is made to execute it.
    pub async fn expect_command(
        &self,
        image: &str,
        progress: &dyn crate::Progress,
    ) -> Result<(), Fault> {
        let image = self.ensure_image(image, progress).await?;
        let defaults = &image.manifest().defaults;
        if defaults.entrypoint.is_empty() && defaults.cmd.is_empty() {
            return Err(no_command());
        }
        Ok(())
    }

    /// Starts a command in a running machine.
    pub async fn exec(&self, name: &str, command: Command) -> Result<Running<'_>, Fault> {
        let patience = command.timeout.unwrap_or(COMING_UP);
        let end = Instant::now() + patience;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let (record, mut stream) = self
                .stream_to(name, left, |record| {
                    let spec = command.clone().into_spec(&record.spec.defaults)?;
                    Ok(Request::Exec(Box::new(spec)))
                })
                .await?;
            match stream.next().await {
                // Its machine was made fresh before anybody could ask it; then it runs in the fresh one. One that was asked may
                // have begun, and no command is run twice.
                Ok(StreamEvent::Message(FromGuest::Failed(e)))
                    if e.code == ErrorCode::NotAsked
                        && self.was_renewed(name, &record)
                        && Instant::now() < end => {}
                first => {
                    let mut running = Running {
                        vmint: self,
                        record,
                        stream,
                        first: None,
                    };
                    match first {
                        // The machine ended before anybody could ask it: that is a loss, and not the guest's answer.
                        Ok(StreamEvent::Message(FromGuest::Failed(e)))
                            if e.code == ErrorCode::NotAsked =>
                        {
                            let gone = SessionError::Lost { reason: None };
                            return Err(running.lost(gone).await);
                        }
                        Ok(event) => running.first = Some(event),
                        Err(e) => return Err(running.lost(e).await),
                    }
                    return Ok(running);
                }
            }
        }
    }

    /// Whether a machine is up in another generation than this, and whoever named it did not name that.
    fn was_renewed(&self, name: &str, then: &MachineRecord) -> bool {
        let now = self.serving(name);
        now.is_ok_and(|now| {
            now.generation.is_none()
                && now.record.generation > then.generation
                && now.record.state.has_runner()
        })
    }

    /// Runs a command to its end and gathers what it says.
    pub async fn output(&self, name: &str, command: Command) -> Result<Output, Fault> {
        let mut running = self.exec(name, command).await?;
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        loop {
            match running.next().await? {
                Happening::Output(Channel::Error, bytes) => stderr.extend_from_slice(&bytes),
                Happening::Output(_, bytes) => stdout.extend_from_slice(&bytes),
                Happening::Exited(status) => {
                    return Ok(Output {
                        status,
                        stdout,
                        stderr,
                    });
                }
                Happening::Started(_) | Happening::Credit(_) => {}
            }
        }
    }

    /// Opens a stream to the agent of a machine that serves this process. While another process starts, resets or restores the
    /// machine, it is waited for.
    pub(crate) async fn stream_to(
        &self,
        name: &str,
        patience: Duration,
        request: impl Fn(&MachineRecord) -> Result<Request, Fault>,
    ) -> Result<(MachineRecord, Stream), Fault> {
        let end = Instant::now() + patience;
        loop {
            let Reach { record, generation } = self.serving(name)?;
            let record = Self::expect_up(record)?;
            let asked = request(&record)?;
            let left = end.saturating_duration_since(Instant::now());
            match self.open_stream(&record, asked, left).await {
                // It was made fresh after its record was read. Who means a generation gets that one, and no other.
                Err(fault)
                    if fault.kind == ErrorKind::StaleGeneration
                        && generation.is_none()
                        && Instant::now() < end =>
                {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                opened => return opened.map(|stream| (record, stream)),
            }
        }
    }

    async fn open_stream(
        &self,
        record: &MachineRecord,
        request: Request,
        patience: Duration,
    ) -> Result<Stream, Fault> {
        if record.state == MachineState::Paused {
            let message = format!("machine {} is paused", record.name);
            return Err(Fault::new(ErrorKind::WrongState, message)
                .hint(format!("vmint resume {}", record.name)));
        }
        // One that is coming up answers when it is up.
        let session = tokio::time::timeout(patience, {
            let client = self.client(record).with_generation(record.generation);
            async move { client.session().await }
        })
        .await;
        let session = session.map_err(|_| {
            let (name, state) = (&record.name, record.state);
            let message = format!(
                "machine {name} could not be used within {}: it is {state}",
                vmint_model::span(patience)
            );
            Fault::new(ErrorKind::TimedOut, message)
        })?;
        let session = session.map_err(|fault| self.explain(record, fault))?;
        session
            .open(request)
            .map_err(|e| self.session_fault(record, e))
    }

    /// A failure of a stream, with what it means for the machine.
    pub(crate) fn session_fault(&self, record: &MachineRecord, error: SessionError) -> Fault {
        let code = match &error {
            SessionError::Guest(e) => Some(e.code),
            _ => None,
        };
        let fault = Fault::from(error);
        match code {
            Some(ErrorCode::NoSpace) => fault.hint("the machine's disk or memory is full"),
            Some(_) => fault,
            None => self.explain(record, fault),
        }
    }

    /// Why a stream broke off while something was done. The runner's last word on the machine comes a moment after the hang-up:
    /// until it has let go of the lock, it may still be writing it.
    pub(crate) async fn broken_off(
        &self,
        record: &MachineRecord,
        error: SessionError,
        doing: &str,
    ) -> Fault {
        if matches!(error, SessionError::Guest(_)) {
            return self.session_fault(record, error);
        }
        let dir = self.home.machine(&record.id);
        let current = self.store().get(&record.id).ok().flatten();
        if current
            .is_some_and(|r| r.generation == record.generation && r.state == MachineState::Running)
        {
            let _ = self.wait_unlocked(&dir, Duration::from_secs(2)).await;
        }
        // Bound first: the store would stay locked to the end of the match, and one arm of it asks the store again.
        let now = self.store().get(&record.id);
        match now {
            Ok(Some(now)) if now.generation != record.generation => {
                let message = format!("machine {} was reset while {doing}", record.name);
                Fault::new(ErrorKind::MachineLost, message)
            }
            Ok(Some(now)) if !now.state.has_runner() => {
                let why = now.reason.unwrap_or_else(|| "it was stopped".into());
                Fault::new(
                    ErrorKind::MachineLost,
                    format!("machine {} was lost: {why}", record.name),
                )
            }
            // One that goes with its owner, or is a pool's, leaves its end in the log alone.
            Ok(None) => self.how_it_was_lost(&record.id).unwrap_or_else(|| {
                let message = format!("machine {} was removed", record.name);
                Fault::new(ErrorKind::MachineLost, message)
            }),
            _ => self.session_fault(record, error),
        }
    }
}

impl Running<'_> {
    /// What it does next. A command that cannot be executed is an error of kind [`ErrorKind::CommandNotFound`] or
    /// [`ErrorKind::CommandNotExecutable`].
    pub async fn next(&mut self) -> Result<Happening, Fault> {
        loop {
            let event = match self.first.take() {
                Some(event) => Ok(event),
                None => self.stream.next().await,
            };
            match event {
                Ok(StreamEvent::Data(channel, bytes)) => {
                    self.stream.consumed(channel, bytes.len());
                    return Ok(Happening::Output(channel, bytes));
                }
                Ok(StreamEvent::Eof(_)) => {}
                Ok(StreamEvent::Credit(n)) => return Ok(Happening::Credit(n)),
                Ok(StreamEvent::Message(FromGuest::Started { pid })) => {
                    return Ok(Happening::Started(pid));
                }
                Ok(StreamEvent::Message(FromGuest::Exited(status))) => {
                    return Ok(Happening::Exited(status));
                }
                Ok(StreamEvent::Message(FromGuest::Failed(e))) => {
                    return Err(start_fault(e));
                }
                Ok(StreamEvent::Message(FromGuest::Reply(r))) => {
                    return Err(Fault::new(
                        ErrorKind::Internal,
                        format!("unexpected answer {r:?}"),
                    ));
                }
                Err(e) => return Err(self.lost(e).await),
            }
        }
    }

    /// Why the stream broke off.
    async fn lost(&self, error: SessionError) -> Fault {
        let broken = self
            .vmint
            .broken_off(&self.record, error, "the command ran");
        broken.await
    }

    /// Sends input; no more than was granted, [`WINDOW`](vmint_protocol::WINDOW) at first.
    pub fn send(&self, bytes: &[u8]) {
        self.stream.send(bytes);
    }

    /// Ends the input.
    pub fn send_eof(&self) {
        self.stream.send_eof();
    }

    /// Sends a signal to its process group.
    pub fn signal(&self, signal: i32) {
        self.stream
            .message(&vmint_protocol::ToGuest::Signal(signal));
    }

    /// Tells it the terminal's new size.
    pub fn resize(&self, size: WindowSize) {
        self.stream.message(&vmint_protocol::ToGuest::Resize(size));
    }
}

/// A command that could not be executed: its kind tells the exit code that a shell would give.
fn start_fault(e: vmint_protocol::GuestError) -> Fault {
    let kind = match e.code {
        ErrorCode::CommandNotFound => ErrorKind::CommandNotFound,
        ErrorCode::CommandNotExecutable => ErrorKind::CommandNotExecutable,
        ErrorCode::NoSuchUser | ErrorCode::Invalid => ErrorKind::Usage,
        _ => ErrorKind::Guest,
    };
    Fault::new(kind, format!("the guest could not {}", e.message))
}
