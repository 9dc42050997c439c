//! Typed and asynchronous QMP. The commands' types are generated from QEMU's own schema (qapi-qmp); the connection is
//! ours, because qapi's ends at the first event that its schema does not know, and QEMU gains events with each
//! release.
//!
//! Commands are answered in order, so several may be under way: [`Qmp::send`] writes one and returns a future of its
//! answer. One task reads; it ends with QEMU, and all answers that are still awaited with it.

use crate::error::QmpError;
use qapi::qmp::QmpCommand;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::future::Future;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};

/// What QEMU reports on its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The guest stands still.
    Stop,
    /// The guest runs.
    Resume,
    /// The guest is gone; QEMU ends.
    Shutdown {
        /// Whether the guest did it.
        guest: bool,
        /// QEMU's word for it, such as `guest-shutdown` or `guest-reset`.
        reason: String,
    },
    /// The guest's kernel panicked.
    Panicked,
    /// The guest's kernel panicked, and goes on in another kernel that it has loaded for this. A guest may say so without end.
    CrashLoaded,
    /// A disk operation failed.
    BlockError {
        /// The message, and whether the host's disk is full.
        no_space: bool,
        /// A file has reached the size that it may have.
        limit: bool,
    },
    /// Anything else, by name.
    Other(String),
}

/// What a QEMU has said of its guest's end. It is kept beside the events, which are dropped when nobody takes them in time: this
/// decides whose doing the end was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// The guest's kernel said that it panicked.
    pub panicked: bool,
    /// Whether the guest did it, and QEMU's word for it.
    pub shutdown: Option<(bool, String)>,
}

impl Heard {
    fn note(&mut self, event: &Event) {
        match event {
            Event::Panicked => self.panicked = true,
            // What comes after the first is its consequence.
            Event::Shutdown { guest, reason } if self.shutdown.is_none() => {
                self.shutdown = Some((*guest, reason.clone()));
            }
            _ => {}
        }
    }
}

type Pending = Arc<Mutex<Option<HashMap<u64, oneshot::Sender<Result<Value, (String, String)>>>>>>;

/// A QMP connection.
#[derive(Debug)]
pub struct Qmp {
    writer: tokio::sync::Mutex<OwnedWriteHalf>,
    pending: Pending,
    heard: Arc<Mutex<Heard>>,
    next: std::sync::atomic::AtomicU64,
    deadline: Duration,
}

impl Qmp {
    /// Waits for QEMU's greeting on `socket` and leaves negotiation mode. Every later command has `deadline` to be
    /// answered.
    pub async fn connect(
        socket: UnixStream,
        deadline: Duration,
    ) -> Result<(Self, mpsc::Receiver<Event>), QmpError> {
        let (read, write) = socket.into_split();
        let mut reader = BufReader::with_capacity(4096, read);
        let mut greeting = String::new();
        let read = tokio::time::timeout(deadline, reader.read_line(&mut greeting));
        let command = || "the connection".to_owned();
        let n = read.await.map_err(|_| QmpError::TimedOut {
            command: command(),
            after: deadline,
        })?;
        if n.map_err(QmpError::Io)? == 0 {
            return Err(QmpError::Closed { command: command() });
        }
        let pending: Pending = Arc::new(Mutex::new(Some(HashMap::new())));
        // Events that nobody takes must not hold up answers: the channel is large, and what does not fit is dropped.
        let (events, receiver) = mpsc::channel(256);
        let heard = Arc::<Mutex<Heard>>::default();
        tokio::spawn(read_loop(reader, pending.clone(), heard.clone(), events));
        let qmp = Self {
            writer: write.into(),
            pending,
            heard,
            next: 1.into(),
            deadline,
        };
        qmp.execute(qapi::qmp::qmp_capabilities { enable: None })
            .await?;
        Ok((qmp, receiver))
    }

    /// What was said of the guest's end until now.
    pub fn heard(&self) -> Heard {
        let heard = self.heard.lock().expect("nobody panics with the lock");
        heard.clone()
    }

    /// Sends a command and waits for its answer.
    pub async fn execute<C: QmpCommand>(&self, command: C) -> Result<C::Ok, QmpError> {
        self.send(command).await?.await
    }

    /// Sends a command; the future that this returns is its answer.
    pub async fn send<C: QmpCommand>(
        &self,
        command: C,
    ) -> Result<impl Future<Output = Result<C::Ok, QmpError>> + use<C>, QmpError> {
        let arguments = serde_json::to_value(&command).map_err(|e| QmpError::Answer {
            command: C::NAME.into(),
            reason: e.to_string(),
        })?;
        let answer = self.send_raw(C::NAME, arguments, None).await?;
        Ok(async move {
            let value = answer.await?;
            serde_json::from_value(value).map_err(|e| QmpError::Answer {
                command: C::NAME.into(),
                reason: e.to_string(),
            })
        })
    }

    /// Executes any command, for `vmint qmp`.
    pub async fn execute_raw(&self, command: &str, arguments: Value) -> Result<Value, QmpError> {
        self.send_raw(command, arguments, None).await?.await
    }

    /// Gives QEMU a descriptor, known to it as `name` from then on.
    pub async fn give_descriptor(&self, name: &str, fd: BorrowedFd<'_>) -> Result<(), QmpError> {
        self.send_raw("getfd", json!({ "fdname": name }), Some(fd))
            .await?
            .await
            .map(drop)
    }

    /// Adds a descriptor to a set. QEMU opens `/dev/fdset/SET` as it would a file, and takes the descriptor of the set that was
    /// opened for the same: reading, writing, or both.
    pub async fn add_descriptor(&self, set: u64, fd: BorrowedFd<'_>) -> Result<(), QmpError> {
        self.send_raw("add-fd", json!({ "fdset-id": set }), Some(fd))
            .await?
            .await
            .map(drop)
    }

    async fn send_raw(
        &self,
        command: &str,
        arguments: Value,
        fd: Option<BorrowedFd<'_>>,
    ) -> Result<impl Future<Output = Result<Value, QmpError>> + use<>, QmpError> {
        let id = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut line = json!({ "execute": command, "id": id, "arguments": arguments }).to_string();
        line.push('\n');
        let (sender, receiver) = oneshot::channel();
        let closed = QmpError::Closed {
            command: command.to_owned(),
        };
        match &mut *self.pending.lock().expect("nobody panics with the lock") {
            Some(pending) => drop(pending.insert(id, sender)),
            None => return Err(closed),
        }
        let mut writer = self.writer.lock().await;
        let written = match fd {
            None => writer.write_all(line.as_bytes()).await,
            Some(fd) => send_with_descriptor(&writer, line.as_bytes(), fd).await,
        };
        drop(writer);
        match written {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Err(closed),
            other => other.map_err(QmpError::Io)?,
        }
        let (deadline, command) = (self.deadline, command.to_owned());
        Ok(async move {
            match tokio::time::timeout(deadline, receiver).await {
                Ok(Ok(Ok(value))) => Ok(value),
                Ok(Ok(Err((class, description)))) => Err(QmpError::Refused {
                    command,
                    class,
                    description,
                }),
                Ok(Err(_)) => Err(QmpError::Closed { command }),
                Err(_) => Err(QmpError::TimedOut {
                    command,
                    after: deadline,
                }),
            }
        })
    }
}

async fn send_with_descriptor(
    writer: &OwnedWriteHalf,
    line: &[u8],
    fd: BorrowedFd<'_>,
) -> io::Result<()> {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    let stream: &UnixStream = writer.as_ref();
    loop {
        writer.writable().await?;
        let sent = stream.try_io(tokio::io::Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            let fds = [fd];
            control.push(SendAncillaryMessage::ScmRights(&fds));
            Ok(sendmsg(
                stream.as_fd(),
                &[IoSlice::new(line)],
                &mut control,
                SendFlags::NOSIGNAL,
            )?)
        });
        match sent {
            // A command line is far shorter than a socket's buffer, so it is never cut.
            Ok(n) if n == line.len() => return Ok(()),
            Ok(_) => return Err(io::ErrorKind::WriteZero.into()),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
        }
    }
}

async fn read_loop(
    mut reader: BufReader<OwnedReadHalf>,
    pending: Pending,
    heard: Arc<Mutex<Heard>>,
    events: mpsc::Sender<Event>,
) {
    let mut line = Vec::new();
    loop {
        line.clear();
        match reader.read_until(b'\n', &mut line).await {
            Ok(n) if n > 0 => {}
            _ => break,
        }
        let Ok(mut message) = serde_json::from_slice::<Value>(&line) else {
            continue;
        };
        if let Some(event) = event(&message) {
            tracing::debug!(?event, "qmp event");
            heard
                .lock()
                .expect("nobody panics with the lock")
                .note(&event);
            let _ = events.try_send(event);
        } else if let Some(id) = message["id"].as_u64() {
            let sender = pending
                .lock()
                .expect("nobody panics with the lock")
                .as_mut()
                .and_then(|p| p.remove(&id));
            let answer = match message.get("error") {
                Some(e) => Err((
                    e["class"].as_str().unwrap_or_default().to_owned(),
                    e["desc"].as_str().unwrap_or_default().to_owned(),
                )),
                None => Ok(message["return"].take()),
            };
            if let Some(sender) = sender {
                let _ = sender.send(answer);
            }
        }
    }
    // Drops all senders: whoever awaits an answer learns that there is none.
    pending.lock().expect("nobody panics with the lock").take();
}

fn event(message: &Value) -> Option<Event> {
    let data = &message["data"];
    Some(match message["event"].as_str()? {
        "STOP" => Event::Stop,
        "RESUME" => Event::Resume,
        "SHUTDOWN" => Event::Shutdown {
            guest: data["guest"] == true,
            reason: data["reason"].as_str().unwrap_or_default().to_owned(),
        },
        "GUEST_PANICKED" => Event::Panicked,
        "GUEST_CRASHLOADED" => Event::CrashLoaded,
        "BLOCK_IO_ERROR" => Event::BlockError {
            no_space: data["nospace"] == true,
            // In the C locale, for QEMU's environment names no other.
            limit: data["reason"] == "File too large",
        },
        other => Event::Other(other.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    async fn pair() -> (Qmp, mpsc::Receiver<Event>, UnixStream) {
        let (ours, mut qemu) = UnixStream::pair().unwrap();
        let connect = tokio::spawn(Qmp::connect(ours, Duration::from_millis(500)));
        qemu.write_all(b"{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n")
            .await
            .unwrap();
        let mut buffer = [0; 512];
        let n = qemu.read(&mut buffer).await.unwrap();
        assert!(
            std::str::from_utf8(&buffer[..n])
                .unwrap()
                .contains("qmp_capabilities")
        );
        qemu.write_all(b"{\"return\": {}, \"id\": 1}\r\n")
            .await
            .unwrap();
        let (qmp, events) = connect.await.unwrap().unwrap();
        (qmp, events, qemu)
    }

    #[tokio::test]
    async fn answers_find_their_commands_and_unknown_events_are_harmless() {
        let (qmp, mut events, mut qemu) = pair().await;
        let a = qmp.send_raw("a", json!({}), None).await.unwrap();
        let b = qmp.send_raw("b", json!({}), None).await.unwrap();
        let lines = "{\"event\": \"FROM_THE_FUTURE\", \"data\": {}}\n{\"return\": 2, \"id\": 3}\nnonsense\n\
            {\"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}, \"id\": 2}\n";
        qemu.write_all(lines.as_bytes()).await.unwrap();
        assert_eq!(b.await.unwrap(), 2);
        let error = a.await.unwrap_err();
        assert!(
            matches!(error, QmpError::Refused { ref description, .. } if description == "no"),
            "{error:?}"
        );
        assert_eq!(
            events.recv().await,
            Some(Event::Other("FROM_THE_FUTURE".into()))
        );
    }

    #[tokio::test]
    async fn what_decides_why_a_guest_ended_is_heard_also_where_nobody_takes_the_events() {
        let (qmp, mut events, mut qemu) = pair().await;
        let flood = "{\"event\": \"RTC_CHANGE\", \"data\": {}}\n".repeat(1000);
        let end = "{\"event\": \"GUEST_PANICKED\", \"data\": {\"action\": \"poweroff\"}}\n\
            {\"event\": \"SHUTDOWN\", \"data\": {\"guest\": true, \"reason\": \"guest-panic\"}}\n\
            {\"event\": \"SHUTDOWN\", \"data\": {\"guest\": false, \"reason\": \"host-signal\"}}\n";
        qemu.write_all(flood.as_bytes()).await.unwrap();
        qemu.write_all(end.as_bytes()).await.unwrap();
        drop(qemu);
        let mut taken = 0;
        while events.recv().await.is_some() {
            taken += 1;
        }
        assert!(taken < 1000, "the flood was bounded: {taken}");
        let expected = Heard {
            panicked: true,
            shutdown: Some((true, "guest-panic".into())),
        };
        assert_eq!(qmp.heard(), expected);
    }

    #[tokio::test]
    async fn a_qemu_that_ends_or_is_silent_is_a_typed_error() {
        let (qmp, mut events, qemu) = pair().await;
        let error = qmp
            .execute_raw("query-status", json!({}))
            .await
            .unwrap_err();
        assert!(matches!(error, QmpError::TimedOut { .. }), "{error:?}");
        let answer = qmp.send_raw("stop", json!({}), None).await.unwrap();
        drop(qemu);
        assert!(matches!(answer.await.unwrap_err(), QmpError::Closed { .. }));
        assert_eq!(events.recv().await, None);
        assert!(matches!(
            qmp.execute_raw("cont", json!({})).await.unwrap_err(),
            QmpError::Closed { .. }
        ));
    }
}
