//! Between a client on the runner's socket and the guest's agent: frames are passed on, with the stream's number
//! changed and nothing else. Windows run from end to end, so a runner holds no more of a stream than its window.
//!
//! What a client sends goes straight into the session's [`Streams`](vmint_protocol::host::Streams), which has a place for
//! each thing that may be under way and for nothing else; so a client that breaks the protocol is hung up on, and one
//! whose guest does not read is bounded all the same. What comes from the guest waits there until the client has read.

use crate::session::{Sender, Session, SessionError, Stream, StreamEvent};
use bytes::BytesMut;
use std::collections::HashMap;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use vmint_protocol::host::Misuse;
use vmint_protocol::{
    Channel, DecodeError, Decoder, ErrorCode, Event, FromGuest, GuestError, ToGuest, encode_credit,
    encode_data, encode_eof, encode_message,
};

/// How many streams one client may have at once.
const MAX_STREAMS: usize = 64;
/// How long a client has to read what came before its guest was lost.
const PARTING: Duration = Duration::from_secs(2);

/// A client broke the protocol. To be read after “it”.
#[derive(Debug, thiserror::Error)]
enum ClientBreach {
    #[error("sent bytes that are not a frame: {0}")]
    Frame(#[from] DecodeError),
    #[error("opened stream {0} out of turn")]
    OutOfTurn(u32),
    #[error("has more than {MAX_STREAMS} streams")]
    TooMany,
    #[error("sent a frame on stream {0}, which was never opened")]
    NeverOpened(u32),
    #[error("sent on an output channel of stream {0}")]
    WrongWay(u32),
    #[error("{misuse} on stream {stream}")]
    Stream { stream: u32, misuse: Misuse },
}

/// One client's streams.
struct Client {
    session: Session,
    streams: HashMap<u32, Sender>,
    /// The last number that it used. Numbers rise, so one that is not in use was never opened or has ended.
    last: u32,
    decoder: Decoder<ToGuest>,
    tasks: JoinSet<u32>,
    frames: mpsc::Sender<Vec<u8>>,
}

/// Serves one client until it hangs up or breaks the protocol. Its streams end with it, and so do their processes.
pub async fn relay<IO>(io: IO, session: Session)
where
    IO: AsyncRead + AsyncWrite + Send + 'static,
{
    let (mut read, write) = tokio::io::split(io);
    // Bounded: a client that does not read is not read for, and the guest runs out of window.
    let (to_client, frames) = mpsc::channel::<Vec<u8>>(4);
    let writer = tokio::spawn(write_loop(write, frames));
    let mut client = Client {
        session: session.clone(),
        streams: HashMap::new(),
        last: 0,
        decoder: Decoder::default(),
        tasks: JoinSet::new(),
        frames: to_client,
    };
    let mut buffer = BytesMut::with_capacity(64 << 10);
    loop {
        buffer.clear();
        tokio::select! {
            // What the guest said last is passed on still, and why nothing follows; then the connection ends.
            () = session.lost() => {
                let all = async { while client.tasks.join_next().await.is_some() {} };
                let _ = tokio::time::timeout(PARTING, all).await;
                break;
            }
            Some(done) = client.tasks.join_next(), if !client.tasks.is_empty() => {
                if let Ok(id) = done {
                    client.streams.remove(&id);
                }
            }
            n = read.read_buf(&mut buffer) => {
                if !matches!(n, Ok(n) if n > 0) {
                    break;
                }
                if let Err(breach) = client.take_in(&buffer) {
                    tracing::warn!("a client broke the protocol: it {breach}");
                    break;
                }
            }
        }
    }
    // Dropping the streams cancels what still runs in the guest.
    client.tasks.shutdown().await;
    drop(client);
    let _ = tokio::time::timeout(PARTING, writer).await;
}

impl Client {
    fn take_in(&mut self, mut input: &[u8]) -> Result<(), ClientBreach> {
        while let Some(event) = self.decoder.next(&mut input)? {
            match event {
                Event::Message {
                    stream,
                    message: ToGuest::Open(request),
                } => {
                    if stream <= self.last {
                        return Err(ClientBreach::OutOfTurn(stream));
                    }
                    if self.streams.len() >= MAX_STREAMS {
                        return Err(ClientBreach::TooMany);
                    }
                    self.last = stream;
                    self.open(stream, request);
                }
                Event::Message { stream, message } => {
                    self.with(stream, |to| to.message(message))?;
                }
                Event::Data {
                    stream,
                    channel: Channel::Input,
                    bytes,
                } => self.with(stream, |to| to.send(bytes))?,
                Event::Eof {
                    stream,
                    channel: Channel::Input,
                } => self.with(stream, Sender::send_eof)?,
                Event::Data { stream, .. } | Event::Eof { stream, .. } => {
                    return Err(ClientBreach::WrongWay(stream));
                }
                Event::Credit {
                    stream,
                    channel,
                    bytes,
                } => self.with(stream, |to| to.grant(channel, bytes))?,
            }
        }
        Ok(())
    }

    fn open(&mut self, id: u32, request: vmint_protocol::Request) {
        let to_client = self.frames.clone();
        match self.session.open(request) {
            Ok(upstream) => {
                self.streams.insert(id, upstream.sender().clone());
                self.tasks.spawn(one_stream(id, upstream, to_client));
            }
            Err(error) => {
                let refused = async move {
                    let _ = to_client.send(refusal(id, &error)).await;
                    id
                };
                self.tasks.spawn(refused);
            }
        }
    }

    fn with(
        &self,
        stream: u32,
        change: impl FnOnce(&Sender) -> Result<(), Misuse>,
    ) -> Result<(), ClientBreach> {
        match self.streams.get(&stream) {
            Some(sender) => {
                change(sender).map_err(|misuse| ClientBreach::Stream { stream, misuse })
            }
            None if stream > self.last => Err(ClientBreach::NeverOpened(stream)),
            // A stream that has ended is nobody's any more.
            None => Ok(()),
        }
    }
}

async fn write_loop(mut io: impl AsyncWrite + Unpin, mut frames: mpsc::Receiver<Vec<u8>>) {
    while let Some(frame) = frames.recv().await {
        if io.write_all(&frame).await.is_err() {
            return;
        }
    }
    let _ = io.shutdown().await;
}

/// Passes on what comes from the guest on one stream.
async fn one_stream(id: u32, mut upstream: Stream, to_client: mpsc::Sender<Vec<u8>>) -> u32 {
    loop {
        let event = upstream.next().await;
        let last = match &event {
            Ok(StreamEvent::Message(message)) => !matches!(message, FromGuest::Started { .. }),
            Ok(_) => false,
            Err(_) => true,
        };
        let mut frame = Vec::new();
        match event {
            Ok(StreamEvent::Data(channel, bytes)) => {
                encode_data(&mut frame, id, channel, &bytes);
            }
            Ok(StreamEvent::Eof(channel)) => encode_eof(&mut frame, id, channel),
            Ok(StreamEvent::Credit(n)) => encode_credit(&mut frame, id, Channel::Input, n),
            Ok(StreamEvent::Message(message)) => {
                if encode_message(&mut frame, id, &message).is_err() {
                    return id;
                }
            }
            // The client's connection ends; only a breach is not told by that.
            Err(error @ SessionError::Broken(_)) => frame = refusal(id, &error),
            Err(_) => return id,
        }
        if to_client.send(frame).await.is_err() || last {
            return id;
        }
    }
}

/// A failure that the runner tells in the guest's place.
fn refusal(id: u32, error: &SessionError) -> Vec<u8> {
    let message = match error {
        SessionError::Broken(breach) => format!("go on: it broke the protocol: it {breach}"),
        other => format!("be asked: {other}"),
    };
    let code = match error {
        SessionError::Lost { .. } => ErrorCode::NotAsked,
        _ => ErrorCode::Invalid,
    };
    let failed = FromGuest::Failed(GuestError { code, message });
    let mut frame = Vec::new();
    // It is short, so it can be encoded.
    let _ = encode_message(&mut frame, id, &failed);
    frame
}
