//! Threads that read and write what may block: a pipe, a terminal, a file on a slow disk. None of them keeps the process
//! from ending.

use super::host;
use bytes::Bytes;
use rustix::io::Errno;
use std::os::fd::AsFd;
use tokio::sync::{mpsc, oneshot};
use vmint::Fault;
use vmint::protocol::Channel;

/// The most that is read at once.
const CHUNK: usize = 64 << 10;

/// Standard input.
#[derive(Debug)]
pub struct Input(mpsc::Receiver<Vec<u8>>);

impl Input {
    /// Starts to read. Two chunks are read ahead at most.
    pub fn start() -> Result<Self, Fault> {
        let (sender, receiver) = mpsc::channel(1);
        let read = move || {
            let mut buffer = vec![0; CHUNK];
            loop {
                match rustix::io::read(rustix::stdio::stdin(), &mut buffer) {
                    // What cannot be read is at its end: a terminal of which we are in the background, a closed descriptor.
                    Ok(0) => return,
                    Ok(n) if sender.blocking_send(buffer[..n].to_vec()).is_err() => return,
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => wait_readable(),
                    Err(_) => return,
                }
            }
        };
        let spawned = std::thread::Builder::new().name("stdin".into()).spawn(read);
        spawned.map_err(|e| host(&e, "cannot read standard input"))?;
        Ok(Self(receiver))
    }

    /// The next bytes; `None` at the end.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        self.0.recv().await
    }
}

/// Somebody made the descriptor that we share non-blocking.
fn wait_readable() {
    let stdin = rustix::stdio::stdin();
    let mut fds = [rustix::event::PollFd::new(
        &stdin,
        rustix::event::PollFlags::IN,
    )];
    let _ = rustix::event::poll(&mut fds, None);
}

/// Why output could not be written.
#[derive(Debug)]
pub enum WriteError {
    /// Its reader has gone.
    BrokenPipe,
    /// Anything else: a full disk, say.
    Failed(Fault),
}

/// Standard output or error.
#[derive(Debug)]
pub struct Output {
    channel: Channel,
    writer: Option<Writer>,
}

#[derive(Debug)]
struct Writer {
    chunks: mpsc::Sender<Bytes>,
    outcome: oneshot::Receiver<Result<(), Errno>>,
}

impl Output {
    /// Nothing is started before there is something to write.
    pub fn new(channel: Channel) -> Self {
        Self {
            channel,
            writer: None,
        }
    }

    /// Hands a chunk to the writer, as soon as that has taken the one before. Cancel-safe.
    pub async fn write(&mut self, bytes: &Bytes) -> Result<(), WriteError> {
        if self.writer.is_none() {
            self.writer = Some(start(self.channel)?);
        }
        let Some(writer) = &mut self.writer else {
            return Ok(());
        };
        // A reference to the bytes, not the bytes.
        match writer.chunks.send(bytes.clone()).await {
            Ok(()) => Ok(()),
            Err(_) => Err(why(&mut writer.outcome)
                .await
                .err()
                .unwrap_or(WriteError::BrokenPipe)),
        }
    }

    /// Waits until everything is written.
    pub async fn finish(self) -> Result<(), WriteError> {
        let Some(writer) = self.writer else {
            return Ok(());
        };
        drop(writer.chunks);
        why(&mut { writer.outcome }).await
    }
}

async fn why(outcome: &mut oneshot::Receiver<Result<(), Errno>>) -> Result<(), WriteError> {
    match outcome.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(e)) if e != Errno::PIPE => Err(WriteError::Failed(host(
            &e.into(),
            "cannot write the command's output",
        ))),
        Ok(Err(_)) | Err(_) => Err(WriteError::BrokenPipe),
    }
}

fn start(channel: Channel) -> Result<Writer, WriteError> {
    let (chunks, mut queue) = mpsc::channel::<Bytes>(1);
    let (tell, outcome) = oneshot::channel();
    let write = move || {
        let mut result = Ok(());
        while let Some(bytes) = queue.blocking_recv() {
            result = if channel == Channel::Error {
                write_all(rustix::stdio::stderr(), &bytes)
            } else {
                write_all(rustix::stdio::stdout(), &bytes)
            };
            if result.is_err() {
                break;
            }
        }
        // First the word, then the hang-up that asks for it.
        let _ = tell.send(result);
        drop(queue);
    };
    let name = if channel == Channel::Error {
        "stderr"
    } else {
        "stdout"
    };
    let spawned = std::thread::Builder::new()
        .name(name.into())
        .stack_size(256 << 10)
        .spawn(write);
    spawned.map_err(|e| WriteError::Failed(host(&e, "cannot write the command's output")))?;
    Ok(Writer { chunks, outcome })
}

fn write_all(fd: impl AsFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(&fd, bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let mut fds = [rustix::event::PollFd::new(
                    &fd,
                    rustix::event::PollFlags::OUT,
                )];
                let _ = rustix::event::poll(&mut fds, None);
            }
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
