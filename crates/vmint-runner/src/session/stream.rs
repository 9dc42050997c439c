//! One stream of a session: what is sent on it, and what comes out of it.

use super::error::Over;
use super::{Session, SessionError};
use bytes::Bytes;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::Notify;
use vmint_protocol::host::{Incoming, Misuse, Streams};
use vmint_protocol::{Channel, Credit, FromGuest, ToGuest, Window};

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

/// The sending side of a stream; clones are the same.
#[derive(Debug, Clone)]
pub struct Sender {
    pub(super) session: Session,
    pub(super) id: u32,
}

/// One stream of a session. Dropped before its end, it is cancelled.
#[derive(Debug)]
pub struct Stream {
    pub(super) sender: Sender,
    pub(super) events: Arc<Notify>,
    /// What was received and consumed, for each channel.
    pub(super) credits: [Credit; 3],
    pub(super) ended: bool,
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

    /// So many bytes that came on a channel are done with: their sender may send as many more, and is told when it is worth a
    /// message.
    pub fn consumed(&mut self, channel: Channel, bytes: usize) {
        let credit = &mut self.credits[channel as usize];
        let _within = credit.received(bytes);
        if let Some(grant) = credit.consumed(bytes) {
            self.kept(self.sender.grant(channel, grant));
        }
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
