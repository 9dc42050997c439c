//! The host's side of a protocol session: with a guest's agent, or, over a runner's socket, with the runner that
//! stands between.
//!
//! One task reads and hands events to their streams; one task writes. A stream that nobody reads holds up no other:
//! its sender runs out of window. What a guest may make us hold is bounded by that window; a guest that ignores it
//! loses its session.

use bytes::{Bytes, BytesMut};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, mpsc};
use vmint_protocol::{
    Channel, Credit, DecodeError, Decoder, Event, ExecSpec, ExitStatus, FromGuest, GuestError,
    Hello, NONCE_LEN, PREAMBLE_LEN, PROTOCOL_VERSION, Reply, Request, ToGuest, WINDOW, Welcome,
    Window, encode_credit, encode_data, encode_eof, encode_message,
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
    /// No answer to the greeting.
    #[error("the machine's agent did not answer within {after:?}")]
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
    #[error("the machine did not {what} within {after:?}")]
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
    Request(#[from] DecodeError),
}

impl From<SessionError> for vmint_model::Fault {
    fn from(e: SessionError) -> Self {
        use vmint_model::ErrorKind as K;
        let kind = match &e {
            SessionError::Lost { .. } => K::MachineLost,
            SessionError::Silent { .. } | SessionError::TimedOut { .. } => K::TimedOut,
            SessionError::Version { .. } => K::Guest,
            SessionError::Guest(_) => K::Guest,
            SessionError::Unexpected(_) => K::Internal,
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

#[derive(Debug)]
struct Slot {
    events: mpsc::UnboundedSender<StreamEvent>,
    queued: Arc<AtomicUsize>,
}

/// The other side has hung up; why, if it is known.
#[derive(Debug, Clone)]
struct Lost {
    reason: Option<String>,
}

#[derive(Debug, Default)]
struct Table {
    slots: HashMap<u32, Slot>,
    lost: Option<Lost>,
}

#[derive(Debug)]
struct Shared {
    table: Mutex<Table>,
    next: AtomicU32,
    writer: mpsc::UnboundedSender<Bytes>,
    closed: Notify,
}

/// A session. Clones share it; it ends when the other side hangs up or all clones and streams are gone.
#[derive(Debug, Clone)]
pub struct Session(Arc<Shared>);

/// One stream of a session. Dropped before its end, it is cancelled.
#[derive(Debug)]
pub struct Stream {
    session: Session,
    id: u32,
    events: mpsc::UnboundedReceiver<StreamEvent>,
    queued: Arc<AtomicUsize>,
    ended: bool,
}

impl Session {
    /// Greets the agent on `io` and waits for its answer.
    pub async fn greet<IO>(mut io: IO, deadline: Duration) -> Result<Self, SessionError>
    where
        IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let lost = |e: std::io::Error| SessionError::Lost {
            reason: Some(e.to_string()),
        };
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(|e| SessionError::Lost {
            reason: Some(e.to_string()),
        })?;
        io.write_all(
            &Hello {
                version: PROTOCOL_VERSION,
                nonce,
            }
            .encode(),
        )
        .await
        .map_err(lost)?;
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
        Ok(Self::start(io, buffer.split_off(end)))
    }

    /// A session on `io` without greeting; `rest` was read from it already.
    pub fn start<IO>(io: IO, rest: BytesMut) -> Self
    where
        IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (read, write) = tokio::io::split(io);
        let (writer, frames) = mpsc::unbounded_channel();
        let table = Mutex::new(Table::default());
        let shared = Arc::new(Shared {
            table,
            next: AtomicU32::new(1),
            writer,
            closed: Notify::new(),
        });
        tokio::spawn(write_loop(write, frames));
        tokio::spawn(read_loop(read, rest, Arc::downgrade(&shared)));
        Self(shared)
    }

    /// Opens a stream with `request`.
    pub fn open(&self, request: Request) -> Result<Stream, SessionError> {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        let mut frame = Vec::new();
        encode_message(&mut frame, id, &ToGuest::Open(request))?;
        let (events, receiver) = mpsc::unbounded_channel();
        let queued = Arc::new(AtomicUsize::new(0));
        {
            let mut table = self.0.table.lock().expect("nobody panics with the lock");
            if let Some(lost) = &table.lost {
                return Err(SessionError::Lost {
                    reason: lost.reason.clone(),
                });
            }
            table.slots.insert(
                id,
                Slot {
                    events,
                    queued: queued.clone(),
                },
            );
        }
        self.write(frame);
        Ok(Stream {
            session: self.clone(),
            id,
            events: receiver,
            queued,
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

    /// Whether the other side has hung up.
    pub fn is_lost(&self) -> bool {
        self.0
            .table
            .lock()
            .expect("nobody panics with the lock")
            .lost
            .is_some()
    }

    /// Returns when the other side has hung up.
    pub async fn lost(&self) {
        let closed = self.0.closed.notified();
        tokio::pin!(closed);
        closed.as_mut().enable();
        if !self.is_lost() {
            closed.await;
        }
    }

    fn write(&self, frame: Vec<u8>) {
        // If the writer is gone, the reader ends too and tells every stream.
        let _ = self.0.writer.send(frame.into());
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

impl Stream {
    /// The next event. Cancel-safe.
    pub async fn next(&mut self) -> Result<StreamEvent, SessionError> {
        let Some(event) = self.events.recv().await else {
            self.ended = true;
            let lost = self
                .session
                .0
                .table
                .lock()
                .expect("nobody panics with the lock")
                .lost
                .clone();
            return Err(SessionError::Lost {
                reason: lost.and_then(|lost| lost.reason),
            });
        };
        match &event {
            StreamEvent::Data(_, bytes) => {
                self.queued.fetch_sub(bytes.len(), Ordering::Relaxed);
            }
            StreamEvent::Message(FromGuest::Started { .. }) => {}
            StreamEvent::Message(_) => self.ended = true,
            StreamEvent::Eof(_) | StreamEvent::Credit(_) => {}
        }
        Ok(event)
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
        let mut frame = Vec::with_capacity(bytes.len() + 64);
        encode_data(&mut frame, self.id, Channel::Input, bytes);
        self.session.write(frame);
    }

    /// Ends [`Channel::Input`].
    pub fn send_eof(&self) {
        let mut frame = Vec::new();
        encode_eof(&mut frame, self.id, Channel::Input);
        self.session.write(frame);
    }

    /// Grants window for a channel.
    pub fn grant(&self, channel: Channel, bytes: u32) {
        let mut frame = Vec::new();
        encode_credit(&mut frame, self.id, channel, bytes);
        self.session.write(frame);
    }

    /// Sends a message.
    pub fn message(&self, message: &ToGuest) {
        let mut frame = Vec::new();
        if encode_message(&mut frame, self.id, message).is_ok() {
            self.session.write(frame);
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
        if !self.ended {
            self.message(&ToGuest::Cancel);
        }
        self.session
            .0
            .table
            .lock()
            .expect("nobody panics with the lock")
            .slots
            .remove(&self.id);
    }
}

async fn write_loop(mut io: impl AsyncWrite + Unpin, mut frames: mpsc::UnboundedReceiver<Bytes>) {
    while let Some(frame) = frames.recv().await {
        if io.write_all(&frame).await.is_err() {
            return;
        }
    }
    let _ = io.shutdown().await;
}

async fn read_loop(
    mut io: impl AsyncRead + Unpin,
    mut buffer: BytesMut,
    shared: std::sync::Weak<Shared>,
) {
    let mut decoder = Decoder::<FromGuest>::default();
    let reason = loop {
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let mut input = &buffer[..];
        let outcome = loop {
            match decoder.next(&mut input) {
                Ok(None) => break None,
                Ok(Some(event)) => {
                    if let Err(reason) = deliver(&shared, event) {
                        break Some(reason);
                    }
                }
                Err(e) => break Some(e.to_string()),
            }
        };
        drop(shared);
        if let Some(reason) = outcome {
            break Some(reason);
        }
        buffer.clear();
        buffer.reserve(256 << 10);
        match io.read_buf(&mut buffer).await {
            Ok(0) => break None,
            Ok(_) => {}
            Err(e) => break Some(e.to_string()),
        }
    };
    if let Some(shared) = shared.upgrade() {
        let mut table = shared.table.lock().expect("nobody panics with the lock");
        table.lost = Some(Lost { reason });
        table.slots.clear();
        shared.closed.notify_waiters();
    }
}

fn deliver(shared: &Shared, event: Event<'_, FromGuest>) -> Result<(), String> {
    let (id, event) = match event {
        Event::Data {
            stream,
            channel,
            bytes,
        } => (
            stream,
            StreamEvent::Data(channel, Bytes::copy_from_slice(bytes)),
        ),
        Event::Eof { stream, channel } => (stream, StreamEvent::Eof(channel)),
        Event::Credit { stream, bytes, .. } => (stream, StreamEvent::Credit(bytes)),
        Event::Message { stream, message } => (stream, StreamEvent::Message(message)),
    };
    let table = shared.table.lock().expect("nobody panics with the lock");
    // A stream that is gone was cancelled; what was under way for it is nobody's.
    let Some(slot) = table.slots.get(&id) else {
        return Ok(());
    };
    if let StreamEvent::Data(_, bytes) = &event {
        let queued = slot.queued.fetch_add(bytes.len(), Ordering::Relaxed) + bytes.len();
        // Output and error have a window each.
        if queued > 2 * WINDOW as usize {
            return Err(format!(
                "it sent {queued} bytes on a stream whose window is {WINDOW}"
            ));
        }
    }
    let _ = slot.events.send(event);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::duplex;

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
    async fn a_session_starts_behind_the_rest_of_an_older_one_and_tells_when_it_is_lost() {
        let session = guest(|mut io| async move {
            let mut out = Vec::new();
            encode_message(&mut out, 1, &FromGuest::Reply(Reply::Pong)).unwrap();
            io.write_all(&out).await.unwrap();
            let mut buffer = [0; 1024];
            let _request = io.read(&mut buffer).await.unwrap();
        });
        let session = session.await.unwrap();
        // The answer may be there before the question; then it is nobody's and the session is lost with the guest.
        let answer = session
            .call(Request::Ping, "answer", Duration::from_secs(5))
            .await;
        assert!(
            matches!(answer, Ok(Reply::Pong) | Err(SessionError::Lost { .. })),
            "{answer:?}"
        );
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
        let stream = session.open(Request::Exec(Box::default())).unwrap();
        tokio::time::timeout(Duration::from_secs(10), session.lost())
            .await
            .unwrap();
        drop(stream);
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
