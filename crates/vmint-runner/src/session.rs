//! The host's side of a protocol session: with a guest's agent, or, over a runner's socket, with the runner that
//! stands between.
//!
//! One task reads and one writes; what they hold is [`Streams`](vmint_protocol::host::Streams), which is bounded, by
//! construction, against a peer that sends what it may not, and against one that does not read. A stream that nobody
//! reads holds up no other: its sender runs out of window. A peer that breaks the protocol loses its session, and the
//! session knows why.

use bytes::{Bytes, BytesMut};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use vmint_protocol::host::{Breach, Incoming, Misuse, OpenError, Streams};
use vmint_protocol::{
    Channel, Credit, ExecSpec, ExitStatus, FromGuest, GuestError, Hello, NONCE_LEN, PREAMBLE_LEN,
    PROTOCOL_VERSION, Reply, Request, ToGuest, Welcome, Window,
};

/// What went wrong with a session or a request in it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SessionError {
    /// The other side hung up.
    #[error("the machine's agent hung up{}", .reason.as_deref().map(|r| format!(": {r}")).unwrap_or_default())]
    Lost {
        /// Why, if it is known.
        reason: Option<String>,
    },
    /// The other side broke the protocol, and was hung up on.
    #[error("the guest broke the protocol: it {0}")]
    Broken(Breach),
    /// No answer to the greeting.
    #[error("the machine's agent did not answer within {span}", span = vmint_model::span(*after))]
    Silent {
        /// The deadline.
        after: Duration,
    },
    /// Another version.
    #[error("the machine's agent speaks protocol version {guest}, and this vmint version {host}")]
    Version {
        /// The guest's.
        guest: u16,
        /// Ours.
        host: u16,
    },
    /// A request was not answered in time.
    #[error("the machine did not {what} within {span}", span = vmint_model::span(*after))]
    TimedOut {
        /// What was awaited.
        what: &'static str,
        /// The deadline.
        after: Duration,
    },
    /// The guest could not serve a request.
    #[error("the guest could not {}", .0.message)]
    Guest(GuestError),
    /// An answer to another question.
    #[error("the machine's agent gave an answer that does not fit the request: {0}")]
    Unexpected(String),
    /// A request that cannot be sent.
    #[error("the request cannot be sent: {0}")]
    Request(#[from] OpenError),
}

impl From<SessionError> for vmint_model::Fault {
    fn from(e: SessionError) -> Self {
        use vmint_model::ErrorKind as K;
        let kind = match &e {
            SessionError::Lost { .. } | SessionError::Broken(_) => K::MachineLost,
            SessionError::Silent { .. } | SessionError::TimedOut { .. } => K::TimedOut,
            SessionError::Version { .. } => K::Guest,
            SessionError::Guest(_) => K::Guest,
            SessionError::Unexpected(_) => K::Internal,
            SessionError::Request(OpenError::Crowded) => K::Refused,
            SessionError::Request(_) => K::Usage,
        };
        let fault = Self::from_error(kind, &e);
        match e {
            SessionError::Version { .. } => {
                fault.hint("the machine was made by another version of vmint: vmint template prune, then start it anew")
            }
            _ => fault,
        }
    }
}

/// What comes out of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamEvent {
    /// Bytes.
    Data(Channel, Bytes),
    /// The end of a channel.
    Eof(Channel),
    /// Window for [`Channel::Input`].
    Credit(u32),
    /// A message; the last thing on a stream, except for [`FromGuest::Started`].
    Message(FromGuest),
}

impl From<Incoming> for StreamEvent {
    fn from(incoming: Incoming) -> Self {
        match incoming {
            Incoming::Data(channel, bytes) => Self::Data(channel, bytes.into()),
            Incoming::Eof(channel) => Self::Eof(channel),
            Incoming::Credit(bytes) => Self::Credit(bytes),
            Incoming::Message(message) => Self::Message(message),
        }
    }
}

/// Why a session is over.
#[derive(Debug, Clone)]
enum Over {
    /// The other side has hung up; why, if it is known.
    Lost(Option<String>),
    /// It was hung up on.
    Broken(Breach),
}

impl From<Over> for SessionError {
    fn from(over: Over) -> Self {
        match over {
            Over::Lost(reason) => Self::Lost { reason },
            Over::Broken(breach) => Self::Broken(breach),
        }
    }
}

#[derive(Debug, Default)]
struct State {
    streams: Streams<Arc<Notify>>,
    over: Option<Over>,
    /// No handle is left: what is queued is written still, and that is all.
    released: bool,
}

/// What the handles and the two tasks share.
#[derive(Debug, Default)]
struct Core {
    state: Mutex<State>,
    /// There is something to write, or nothing will ever be.
    writable: Notify,
    closed: Notify,
}

impl Core {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with the lock")
    }

    fn end(&self, over: Over) {
        let mut state = self.lock();
        state.over.get_or_insert(over);
        for waker in state.streams.wakers() {
            waker.notify_one();
        }
        drop(state);
        self.closed.notify_waiters();
        self.writable.notify_one();
    }
}

/// The last of these to go lets the tasks end.
#[derive(Debug)]
struct Handle(Arc<Core>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.lock().released = true;
        self.0.writable.notify_one();
    }
}

/// A session. Clones share it; it ends when the other side hangs up or all clones and streams are gone.
#[derive(Debug, Clone)]
pub struct Session(Arc<Handle>);

/// The sending side of a stream; clones are the same.
#[derive(Debug, Clone)]
pub struct Sender {
    session: Session,
    id: u32,
}

/// One stream of a session. Dropped before its end, it is cancelled.
#[derive(Debug)]
pub struct Stream {
    sender: Sender,
    events: Arc<Notify>,
    ended: bool,
}

impl Session {
    /// Greets the agent on `io` and waits for its answer.
    pub async fn greet<IO>(mut io: IO, deadline: Duration) -> Result<Self, SessionError>
    where
        IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let rest = introduce(&mut io, &[], deadline).await?;
        Ok(Self::start(io, rest))
    }

    /// The same, and asks for something in the same breath: a guest that has only just been woken wakes once for both.
    pub async fn greet_asking<IO>(
        mut io: IO,
        request: Request,
        deadline: Duration,
    ) -> Result<(Self, Stream), SessionError>
    where
        IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let core = Arc::new(Core::default());
        let session = Self(Arc::new(Handle(core.clone())));
        let stream = session.open(request)?;
        let mut asked = Vec::new();
        core.lock().streams.write(&mut asked);
        let rest = introduce(&mut io, &asked, deadline).await?;
        serve(io, rest, &core);
        Ok((session, stream))
    }

    /// A session on `io` without greeting; `rest` was read from it already.
    pub fn start<IO>(io: IO, rest: BytesMut) -> Self
    where
        IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let core = Arc::new(Core::default());
        serve(io, rest, &core);
        Self(Arc::new(Handle(core)))
    }

    fn core(&self) -> &Core {
        &self.0.0
    }

    /// Opens a stream with `request`.
    pub fn open(&self, request: Request) -> Result<Stream, SessionError> {
        let events = Arc::new(Notify::new());
        let mut state = self.core().lock();
        if let Some(over) = &state.over {
            return Err(over.clone().into());
        }
        let id = state.streams.open(request, events.clone())?;
        drop(state);
        self.core().writable.notify_one();
        let sender = Sender {
            session: self.clone(),
            id,
        };
        Ok(Stream {
            sender,
            events,
            ended: false,
        })
    }

    /// Asks for something that is answered by one [`Reply`].
    pub async fn call(
        &self,
        request: Request,
        what: &'static str,
        deadline: Duration,
    ) -> Result<Reply, SessionError> {
        let mut stream = self.open(request)?;
        let answer = tokio::time::timeout(deadline, stream.outcome());
        match answer.await.map_err(|_| SessionError::TimedOut {
            what,
            after: deadline,
        })?? {
            FromGuest::Reply(reply) => Ok(reply),
            other => Err(SessionError::Unexpected(format!("{other:?}"))),
        }
    }

    /// Runs a command without input to its end and hands its output to `output`.
    pub async fn exec(
        &self,
        spec: ExecSpec,
        mut output: impl FnMut(Channel, &[u8]),
    ) -> Result<ExitStatus, SessionError> {
        let mut stream = self.open(Request::Exec(Box::new(spec)))?;
        let mut credit = Credits::default();
        loop {
            match stream.next().await? {
                StreamEvent::Data(channel, bytes) => {
                    output(channel, &bytes);
                    if let Some(grant) = credit.consumed(channel, bytes.len()) {
                        stream.grant(channel, grant);
                    }
                }
                StreamEvent::Message(FromGuest::Exited(status)) => return Ok(status),
                StreamEvent::Message(FromGuest::Failed(e)) => return Err(SessionError::Guest(e)),
                StreamEvent::Message(FromGuest::Reply(r)) => {
                    return Err(SessionError::Unexpected(format!("{r:?}")));
                }
                StreamEvent::Message(FromGuest::Started { .. })
                | StreamEvent::Eof(_)
                | StreamEvent::Credit(_) => {}
            }
        }
    }

    /// Whether the session is over.
    pub fn is_lost(&self) -> bool {
        self.core().lock().over.is_some()
    }

    /// Returns when the session is over.
    pub async fn lost(&self) {
        let closed = self.core().closed.notified();
        tokio::pin!(closed);
        closed.as_mut().enable();
        if !self.is_lost() {
            closed.await;
        }
    }

    /// Returns when the other side has broken the protocol, and how.
    pub async fn broken(&self) -> Breach {
        self.lost().await;
        let over = self.core().lock().over.clone();
        match over {
            Some(Over::Broken(breach)) => breach,
            // It has hung up: that is no breach, and it will not commit one.
            _ => std::future::pending().await,
        }
    }
}

/// What was received and passed on, for each channel of a stream.
#[derive(Debug, Default)]
pub struct Credits([Credit; 3]);

impl Credits {
    /// Records bytes that were received and passed on; returns a grant to send when it is time for one.
    pub fn consumed(&mut self, channel: Channel, n: usize) -> Option<u32> {
        let credit = &mut self.0[channel as usize];
        let _within = credit.received(n);
        credit.consumed(n)
    }
}

impl Sender {
    fn with(
        &self,
        change: impl FnOnce(&mut Streams<Arc<Notify>>, u32) -> Result<(), Misuse>,
    ) -> Result<(), Misuse> {
        let core = self.session.core();
        change(&mut core.lock().streams, self.id)?;
        core.writable.notify_one();
        Ok(())
    }

    /// Sends bytes on [`Channel::Input`].
    pub fn send(&self, bytes: &[u8]) -> Result<(), Misuse> {
        self.with(|streams, id| streams.send(id, bytes))
    }

    /// Ends [`Channel::Input`].
    pub fn send_eof(&self) -> Result<(), Misuse> {
        self.with(Streams::send_eof)
    }

    /// Grants window for a channel.
    pub fn grant(&self, channel: Channel, bytes: u32) -> Result<(), Misuse> {
        self.with(|streams, id| streams.grant(id, channel, bytes))
    }

    /// Sends a message.
    pub fn message(&self, message: ToGuest) -> Result<(), Misuse> {
        self.with(|streams, id| streams.send_message(id, message))
    }
}

impl Stream {
    /// Its sending side.
    pub fn sender(&self) -> &Sender {
        &self.sender
    }

    /// The next event. Cancel-safe.
    pub async fn next(&mut self) -> Result<StreamEvent, SessionError> {
        loop {
            {
                let mut state = self.sender.session.core().lock();
                if let Some(incoming) = state.streams.take(self.sender.id) {
                    let event = StreamEvent::from(incoming);
                    self.ended |= matches!(&event, StreamEvent::Message(m) if !matches!(m, FromGuest::Started { .. }));
                    return Ok(event);
                }
                if let Some(over) = state.over.clone() {
                    self.ended = true;
                    return Err(over.into());
                }
            }
            // A ring between the look and this is kept.
            self.events.notified().await;
        }
    }

    /// Waits for the message that ends the stream; a failure is an error.
    pub async fn outcome(&mut self) -> Result<FromGuest, SessionError> {
        loop {
            match self.next().await? {
                StreamEvent::Message(FromGuest::Failed(e)) => return Err(SessionError::Guest(e)),
                StreamEvent::Message(FromGuest::Started { .. }) => {}
                StreamEvent::Message(message) => return Ok(message),
                _ => {}
            }
        }
    }

    /// Sends bytes on [`Channel::Input`]; the caller keeps to its [`Window`].
    pub fn send(&self, bytes: &[u8]) {
        self.kept(self.sender.send(bytes));
    }

    /// Ends [`Channel::Input`]. A second time it has no effect.
    pub fn send_eof(&self) {
        match self.sender.send_eof() {
            Err(Misuse::AfterEof) => {}
            other => self.kept(other),
        }
    }

    /// Grants window for a channel.
    pub fn grant(&self, channel: Channel, bytes: u32) {
        self.kept(self.sender.grant(channel, bytes));
    }

    /// Sends a message.
    pub fn message(&self, message: &ToGuest) {
        match self.sender.message(message.clone()) {
            // As with a process that does not handle its signals, those that find no place are lost.
            Err(Misuse::Messages) => {}
            other => self.kept(other),
        }
    }

    /// A caller in this process that breaks the protocol is a mistake in vmint. To go on would lose bytes, so the session
    /// ends.
    fn kept(&self, outcome: Result<(), Misuse>) {
        if let Err(misuse) = outcome {
            let reason = format!("vmint itself broke the protocol: it {misuse}");
            tracing::error!("{reason}");
            self.sender.session.core().end(Over::Lost(Some(reason)));
        }
    }

    /// Whether the message that ends the stream was seen.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Sends all of `input` as [`Channel::Input`] within the window, while watching for the stream's end.
    pub async fn feed(&mut self, mut input: impl AsyncRead + Unpin) -> Result<Fed, SessionError> {
        let mut window = Window::default();
        let mut buffer = vec![0; 256 << 10];
        loop {
            let room = window.available().min(buffer.len());
            tokio::select! {
                event = self.next() => match event? {
                    StreamEvent::Credit(n) => window.grant(n),
                    StreamEvent::Message(FromGuest::Started { .. }) => {}
                    StreamEvent::Message(message) => return Ok(Fed::Ended(message)),
                    StreamEvent::Data(..) | StreamEvent::Eof(_) => {}
                },
                read = input.read(&mut buffer[..room]), if room > 0 => match read {
                    Ok(0) => {
                        self.send_eof();
                        return Ok(Fed::All);
                    }
                    Ok(n) => {
                        window.sent(n);
                        self.send(&buffer[..n]);
                    }
                    Err(e) => return Ok(Fed::Unreadable(Arc::new(e))),
                },
            }
        }
    }
}

/// How [`Stream::feed`] ended.
#[derive(Debug, Clone)]
pub enum Fed {
    /// Everything was sent.
    All,
    /// The stream ended first.
    Ended(FromGuest),
    /// The input could not be read.
    Unreadable(Arc<std::io::Error>),
}

impl Drop for Stream {
    fn drop(&mut self) {
        let core = self.sender.session.core();
        core.lock().streams.abandon(self.sender.id);
        core.writable.notify_one();
    }
}

/// Says hello, and `more` after it; gives what follows the answer.
async fn introduce<IO>(
    io: &mut IO,
    more: &[u8],
    deadline: Duration,
) -> Result<BytesMut, SessionError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let lost = |e: std::io::Error| SessionError::Lost {
        reason: Some(e.to_string()),
    };
    let mut nonce = [0; NONCE_LEN];
    getrandom::fill(&mut nonce).map_err(|e| SessionError::Lost {
        reason: Some(e.to_string()),
    })?;
    let hello = Hello {
        version: PROTOCOL_VERSION,
        nonce,
    };
    let said = [hello.encode().as_slice(), more].concat();
    io.write_all(&said).await.map_err(lost)?;
    let mut buffer = BytesMut::with_capacity(64 << 10);
    let wait = async {
        loop {
            if io.read_buf(&mut buffer).await.map_err(lost)? == 0 {
                return Err(SessionError::Lost { reason: None });
            }
            if let Some((welcome, end)) = Welcome::find(&buffer, nonce) {
                return Ok((welcome, end));
            }
            // Everything before the answer is an older session's; keep what may be its beginning.
            let keep = buffer.len().min(PREAMBLE_LEN - 1);
            let _old = buffer.split_to(buffer.len() - keep);
        }
    };
    let (welcome, end) = tokio::time::timeout(deadline, wait)
        .await
        .map_err(|_| SessionError::Silent { after: deadline })??;
    if welcome.version != PROTOCOL_VERSION {
        return Err(SessionError::Version {
            guest: welcome.version,
            host: PROTOCOL_VERSION,
        });
    }
    Ok(buffer.split_off(end))
}

fn serve<IO>(io: IO, rest: BytesMut, core: &Arc<Core>)
where
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (read, write) = tokio::io::split(io);
    tokio::spawn(write_loop(write, core.clone()));
    tokio::spawn(read_loop(read, rest, core.clone()));
}

async fn write_loop(mut io: impl AsyncWrite + Unpin, core: Arc<Core>) {
    let mut out = Vec::new();
    loop {
        out.clear();
        // One large request must not hold its memory for the rest of the session.
        out.shrink_to(512 << 10);
        let done = {
            let mut state = core.lock();
            state.streams.write(&mut out);
            state.released || state.over.is_some()
        };
        if !out.is_empty() {
            if io.write_all(&out).await.is_err() {
                // The reader ends too, and tells every stream.
                return;
            }
        } else if done {
            break;
        } else {
            core.writable.notified().await;
        }
    }
    let _ = io.shutdown().await;
}

async fn read_loop(mut io: impl AsyncRead + Unpin, mut buffer: BytesMut, core: Arc<Core>) {
    let over = loop {
        let taken = {
            let mut state = core.lock();
            if state.released {
                return;
            }
            state.streams.receive(&buffer, |waker| waker.notify_one())
        };
        if let Err(breach) = taken {
            tracing::warn!("the peer of a session broke the protocol: it {breach}");
            break Over::Broken(breach);
        }
        buffer.clear();
        buffer.reserve(256 << 10);
        match io.read_buf(&mut buffer).await {
            Ok(0) => break Over::Lost(None),
            Ok(_) => {}
            Err(e) => break Over::Lost(Some(e.to_string())),
        }
    };
    core.end(over);
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::duplex;
    use vmint_protocol::{WINDOW, encode_data, encode_message};

    /// A guest that answers the greeting, then does as `script` says.
    async fn guest<F, Fut>(script: F) -> Result<Session, SessionError>
    where
        F: FnOnce(tokio::io::DuplexStream) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send,
    {
        let (ours, mut theirs) = duplex(8 << 20);
        tokio::spawn(async move {
            let mut hello = [0; PREAMBLE_LEN];
            theirs.read_exact(&mut hello).await.unwrap();
            let nonce = Hello::decode(&hello).unwrap().nonce;
            theirs
                .write_all(b"the rest of an older session")
                .await
                .unwrap();
            theirs
                .write_all(
                    &Welcome {
                        version: PROTOCOL_VERSION,
                        nonce,
                    }
                    .encode(),
                )
                .await
                .unwrap();
            script(theirs).await;
        });
        Session::greet(ours, Duration::from_secs(5)).await
    }

    #[tokio::test]
    async fn what_is_asked_with_the_greeting_comes_in_the_same_breath_and_is_answered() {
        let (ours, mut theirs) = duplex(1 << 20);
        tokio::spawn(async move {
            let mut said = [0; 1024];
            let n = theirs.read(&mut said).await.unwrap();
            assert!(n > PREAMBLE_LEN, "the request is there already");
            let nonce = Hello::decode(&said[..PREAMBLE_LEN]).unwrap().nonce;
            let version = PROTOCOL_VERSION;
            let mut answer = Welcome { version, nonce }.encode().to_vec();
            encode_message(&mut answer, 1, &FromGuest::Reply(Reply::Pong)).unwrap();
            theirs.write_all(&answer).await.unwrap();
            let mut second = Vec::new();
            encode_message(&mut second, 2, &FromGuest::Reply(Reply::ClockSet)).unwrap();
            let _request = theirs.read(&mut said).await.unwrap();
            theirs.write_all(&second).await.unwrap();
        });
        let limit = Duration::from_secs(5);
        let greeted = Session::greet_asking(ours, Request::Ping, limit).await;
        let (session, mut answer) = greeted.unwrap();
        let first = answer.outcome().await.unwrap();
        assert_eq!(first, FromGuest::Reply(Reply::Pong));
        let second = session.call(Request::SetClock(1), "set its clock", limit);
        assert_eq!(second.await.unwrap(), Reply::ClockSet);
    }

    #[tokio::test]
    async fn a_session_starts_behind_the_rest_of_an_older_one_and_tells_when_it_is_lost() {
        let session = guest(|mut io| async move {
            let mut buffer = [0; 1024];
            let _request = io.read(&mut buffer).await.unwrap();
            let mut out = Vec::new();
            encode_message(&mut out, 1, &FromGuest::Reply(Reply::Pong)).unwrap();
            io.write_all(&out).await.unwrap();
        });
        let session = session.await.unwrap();
        let answer = session
            .call(Request::Ping, "answer", Duration::from_secs(5))
            .await;
        assert!(matches!(answer, Ok(Reply::Pong)), "{answer:?}");
        session.lost().await;
        assert!(matches!(
            session.open(Request::Ping),
            Err(SessionError::Lost { .. })
        ));
    }

    #[tokio::test]
    async fn a_guest_that_ignores_the_window_loses_its_session_instead_of_filling_our_memory() {
        let session = guest(|mut io| async move {
            let mut buffer = [0; 1024];
            let _request = io.read(&mut buffer).await.unwrap();
            let mut out = Vec::new();
            encode_data(&mut out, 1, Channel::Output, &vec![0; 4 << 20]);
            io.write_all(&out).await.unwrap();
            // Stays, so that it is we who end the session.
            while io.read(&mut buffer).await.unwrap_or(0) > 0 {}
        });
        let session = session.await.unwrap();
        let mut stream = session.open(Request::Exec(Box::default())).unwrap();
        let breach = tokio::time::timeout(Duration::from_secs(10), session.broken())
            .await
            .unwrap();
        assert!(matches!(breach, Breach::Overrun { .. }), "{breach:?}");
        // What came within the window is there still; then the stream says why nothing follows.
        let mut came = 0;
        let end = loop {
            match stream.next().await {
                Ok(StreamEvent::Data(_, bytes)) => came += bytes.len(),
                other => break other,
            }
        };
        assert!(came <= WINDOW as usize, "{came}");
        assert!(matches!(end, Err(SessionError::Broken(_))), "{end:?}");
    }

    #[tokio::test]
    async fn an_answer_that_comes_before_its_question_ends_the_session() {
        let session = guest(|mut io| async move {
            let mut out = Vec::new();
            encode_message(&mut out, 1, &FromGuest::Reply(Reply::Pong)).unwrap();
            io.write_all(&out).await.unwrap();
            let mut buffer = [0; 1024];
            while io.read(&mut buffer).await.unwrap_or(0) > 0 {}
        });
        let session = session.await.unwrap();
        let breach = tokio::time::timeout(Duration::from_secs(10), session.broken())
            .await
            .unwrap();
        assert_eq!(breach, Breach::NeverOpened { stream: 1 });
    }

    #[tokio::test]
    async fn a_guest_that_does_not_read_costs_no_more_than_what_its_streams_may_hold() {
        // A pipe of 64 bytes that nobody empties.
        let (ours, _theirs) = duplex(64);
        let session = Session::start(ours, BytesMut::new());
        for _ in 0..10_000 {
            let stream = session.open(Request::Exec(Box::default())).unwrap();
            stream.send(&[1; 100]);
            stream.message(&ToGuest::Signal(2));
            drop(stream);
            tokio::task::yield_now().await;
        }
        let held = session.core().lock().streams.held();
        assert!(held < 16 << 10, "{held} bytes are held");
    }

    #[tokio::test]
    async fn a_session_without_handles_says_what_it_has_to_say_and_hangs_up() {
        let (ours, mut theirs) = duplex(1 << 20);
        let session = Session::start(ours, BytesMut::new());
        let stream = session.open(Request::Exec(Box::default())).unwrap();
        stream.send(b"the last words");
        stream.send_eof();
        // Until it was written, to drop the stream would take it back.
        let mut said = [0; 64];
        let n = theirs.read(&mut said).await.unwrap();
        drop((session, stream));
        let mut rest = said[..n].to_vec();
        tokio::time::timeout(Duration::from_secs(10), theirs.read_to_end(&mut rest))
            .await
            .unwrap()
            .unwrap();
        assert!(rest.windows(14).any(|w| w == b"the last words"), "{rest:?}");
    }

    #[tokio::test]
    async fn another_version_is_an_error_that_names_both() {
        let (ours, mut theirs) = duplex(4096);
        tokio::spawn(async move {
            let mut hello = [0; PREAMBLE_LEN];
            theirs.read_exact(&mut hello).await.unwrap();
            let nonce = Hello::decode(&hello).unwrap().nonce;
            theirs
                .write_all(&Welcome { version: 77, nonce }.encode())
                .await
                .unwrap();
            theirs
        });
        let error = Session::greet(ours, Duration::from_secs(5))
            .await
            .unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("77") && text.contains(&PROTOCOL_VERSION.to_string()),
            "{text}"
        );
    }
}
