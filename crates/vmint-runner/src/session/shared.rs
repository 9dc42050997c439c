//! What the handles of a session and its two tasks share, and the two tasks.

use super::SessionError;
use super::error::Over;
use bytes::BytesMut;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use vmint_protocol::host::Streams;
use vmint_protocol::{Hello, NONCE_LEN, PREAMBLE_LEN, PROTOCOL_VERSION, Welcome};

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) streams: Streams<Arc<Notify>>,
    pub(super) over: Option<Over>,
    /// No handle is left: what is queued is written still, and that is all.
    pub(super) released: bool,
}

/// What the handles and the two tasks share.
#[derive(Debug, Default)]
pub(super) struct Core {
    state: Mutex<State>,
    /// There is something to write, or nothing will ever be.
    pub(super) writable: Notify,
    pub(super) closed: Notify,
}

impl Core {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with the lock")
    }

    pub(super) fn end(&self, over: Over) {
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
pub(super) struct Handle(pub(super) Arc<Core>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.lock().released = true;
        self.0.writable.notify_one();
    }
}

/// Says hello, and `more` after it; gives what follows the answer.
pub(super) async fn introduce<IO>(
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

pub(super) fn serve<IO>(io: IO, rest: BytesMut, core: &Arc<Core>)
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
