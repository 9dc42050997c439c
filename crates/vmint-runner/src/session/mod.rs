//! The host's side of a protocol session: with a guest's agent, or, over a runner's socket, with the runner that
//! stands between.
//!
//! One task reads and one writes; what they hold is [`Streams`](vmint_protocol::host::Streams), which is bounded, by
//! construction, against a peer that sends what it may not, and against one that does not read. A stream that nobody
//! reads holds up no other: its sender runs out of window. A peer that breaks the protocol loses its session, and the
//! session knows why.
//!
//! * `stream`: one stream.
//! * `shared`: what is shared, and the two tasks.
//! * `error`: how it fails.

mod error;
mod shared;
mod stream;
#[cfg(test)]
mod tests;

pub use error::SessionError;
pub use stream::{Fed, Sender, Stream, StreamEvent};

use bytes::BytesMut;
use error::Over;
use shared::{Core, Handle, introduce, serve};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use vmint_protocol::host::Breach;
use vmint_protocol::{Channel, ExecSpec, ExitStatus, FromGuest, Reply, Request};

/// A session. Clones share it; it ends when the other side hangs up or all clones and streams are gone.
#[derive(Debug, Clone)]
pub struct Session(Arc<Handle>);

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
            credits: Default::default(),
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
        loop {
            match stream.next().await? {
                StreamEvent::Data(channel, bytes) => {
                    output(channel, &bytes);
                    stream.consumed(channel, bytes.len());
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
