//! Between a client on the runner's socket and the guest's agent: frames are passed on, with the stream's number
//! changed and nothing else. Windows run from end to end, so a runner holds no more of a stream than its window.

use crate::session::{Session, StreamEvent};
use bytes::BytesMut;
use std::collections::HashMap;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use vmint_protocol::{
    Channel, Decoder, Event, FromGuest, ToGuest, WINDOW, encode_credit, encode_data, encode_eof,
    encode_message,
};

/// What a client sends to one stream's task.
enum FromClient {
    Data(BytesMut),
    Eof,
    Credit(Channel, u32),
    Message(ToGuest),
}

/// How many streams one client may have at once.
const MAX_STREAMS: usize = 64;

/// Serves one client until it hangs up or breaks the protocol. Its streams end with it, and so do their processes.
pub async fn relay<IO>(io: IO, session: Session)
where
    IO: AsyncRead + AsyncWrite + Send + 'static,
{
    let (mut read, write) = tokio::io::split(io);
    // Bounded: a client that does not read is not read for, and the guest runs out of window.
    let (to_client, frames) = mpsc::channel::<Vec<u8>>(8);
    let writer = tokio::spawn(write_loop(write, frames));
    let mut streams: HashMap<u32, mpsc::UnboundedSender<FromClient>> = HashMap::new();
    let mut tasks = tokio::task::JoinSet::new();
    let mut decoder = Decoder::<ToGuest>::default();
    let mut buffer = BytesMut::with_capacity(64 << 10);
    'client: loop {
        buffer.clear();
        tokio::select! {
            // The guest is gone: the client learns it from the end of the connection.
            () = session.lost() => break,
            Some(done) = tasks.join_next(), if !tasks.is_empty() => {
                if let Ok(id) = done {
                    streams.remove(&id);
                }
                continue;
            }
            n = read.read_buf(&mut buffer) => if !matches!(n, Ok(n) if n > 0) { break },
        }
        let mut input = &buffer[..];
        loop {
            let event = match decoder.next(&mut input) {
                Ok(None) => break,
                Ok(Some(event)) => event,
                Err(e) => {
                    tracing::warn!("a client broke the protocol: {e}");
                    break 'client;
                }
            };
            let (id, item) = match event {
                Event::Message {
                    stream,
                    message: ToGuest::Open(request),
                } => {
                    if streams.contains_key(&stream) || streams.len() >= MAX_STREAMS {
                        tracing::warn!(
                            "a client opened stream {stream} twice, or too many streams"
                        );
                        break 'client;
                    }
                    match session.open(request) {
                        Ok(upstream) => {
                            let (sender, receiver) = mpsc::unbounded_channel();
                            streams.insert(stream, sender);
                            tasks.spawn(one_stream(stream, upstream, receiver, to_client.clone()));
                        }
                        Err(_) => break 'client,
                    }
                    continue;
                }
                Event::Message { stream, message } => (stream, FromClient::Message(message)),
                Event::Data {
                    stream,
                    channel: Channel::Input,
                    bytes,
                } => (stream, FromClient::Data(BytesMut::from(bytes))),
                Event::Data { .. } => break 'client,
                Event::Eof { stream, .. } => (stream, FromClient::Eof),
                Event::Credit {
                    stream,
                    channel,
                    bytes,
                } => (stream, FromClient::Credit(channel, bytes)),
            };
            // A stream that has ended is nobody's any more.
            if let Some(sender) = streams.get(&id) {
                let _ = sender.send(item);
            }
        }
    }
    // Dropping the streams cancels what still runs in the guest.
    tasks.shutdown().await;
    drop(to_client);
    let _ = writer.await;
}

async fn write_loop(mut io: impl AsyncWrite + Unpin, mut frames: mpsc::Receiver<Vec<u8>>) {
    while let Some(frame) = frames.recv().await {
        if io.write_all(&frame).await.is_err() {
            return;
        }
    }
    let _ = io.shutdown().await;
}

async fn one_stream(
    id: u32,
    mut upstream: crate::session::Stream,
    mut from_client: mpsc::UnboundedReceiver<FromClient>,
    to_client: mpsc::Sender<Vec<u8>>,
) -> u32 {
    // What the client may still send; it is told by the guest's grants, which pass through here.
    let mut window = u64::from(WINDOW);
    loop {
        tokio::select! {
            biased;
            item = from_client.recv() => match item {
                None => return id,
                Some(FromClient::Data(bytes)) => {
                    let Some(left) = window.checked_sub(bytes.len() as u64) else {
                        tracing::warn!("a client overran its window");
                        return id;
                    };
                    window = left;
                    upstream.send(&bytes);
                }
                Some(FromClient::Eof) => upstream.send_eof(),
                Some(FromClient::Credit(channel, n)) => upstream.grant(channel, n),
                Some(FromClient::Message(message)) => upstream.message(&message),
            },
            event = upstream.next() => {
                let mut frame = Vec::new();
                let last = match event {
                    Ok(StreamEvent::Data(channel, bytes)) => {
                        encode_data(&mut frame, id, channel, &bytes);
                        false
                    }
                    Ok(StreamEvent::Eof(channel)) => {
                        encode_eof(&mut frame, id, channel);
                        false
                    }
                    Ok(StreamEvent::Credit(n)) => {
                        window += u64::from(n);
                        encode_credit(&mut frame, id, Channel::Input, n);
                        false
                    }
                    Ok(StreamEvent::Message(message)) => {
                        if encode_message(&mut frame, id, &message).is_err() {
                            return id;
                        }
                        !matches!(message, FromGuest::Started { .. })
                    }
                    Err(_) => return id,
                };
                if to_client.send(frame).await.is_err() || last {
                    return id;
                }
            }
        }
    }
}
