//! Files in and out of machines, as tar streams.
//!
//! Both sides pack by [`vmint_tree`]. What comes out of a guest is not trusted: [`vmint_files`] unpacks it, and nothing
//! outside the folder that was named is touched.
//!
//! * this: streams. `copy`: files and folders under their names. `place`: which names. `look`: what is there in a guest;
//!   `local`: and on this host.

mod copy;
mod local;
mod look;
mod place;

pub use self::copy::CopyOptions;

use self::look::Answer;
use self::place::There;
use crate::Vmint;
use crate::exec::COMING_UP;
use std::io;
use tokio::io::AsyncRead;
use vmint_files::{Skipped, Unpacked};
use vmint_model::{ErrorKind, Fault, MachineRecord};
use vmint_protocol::{
    Channel, ErrorCode, Extent, FromGuest, Partly, Reply, Request, Sent, TarIn, TarOut,
};
use vmint_runner::{Fed, SessionError, StreamEvent};

impl Vmint {
    /// Unpacks a tar stream in a folder of a machine, made if need be.
    pub async fn unpack_into(
        &self,
        machine: &str,
        folder: &[u8],
        user: Option<String>,
        tar: impl AsyncRead + Unpin,
    ) -> Result<Unpacked, Fault> {
        let request = Request::TarIn(TarIn {
            path: folder.to_vec(),
            user,
        });
        let (record, mut stream) = self
            .stream_to(machine, COMING_UP, |_| Ok(request.clone()))
            .await?;
        let fed = match stream.feed(tar).await {
            Ok(fed) => fed,
            Err(e) => return Err(self.broken(&record, e).await),
        };
        let message = match fed {
            Fed::All => match stream.outcome().await {
                Ok(message) => message,
                Err(e) => return Err(self.broken(&record, e).await),
            },
            Fed::Ended(message) => message,
            Fed::Unreadable(e) => {
                return Err(Fault::from_error(ErrorKind::Host, &*e)
                    .context("cannot read what is to be copied"));
            }
        };
        match message {
            FromGuest::Reply(Reply::Unpacked(sent)) => Ok(transferred(sent)),
            FromGuest::Reply(Reply::Partly(partly)) => Ok(partly_transferred(&partly)),
            FromGuest::Failed(e) => Err(self.broken(&record, SessionError::Guest(e)).await),
            other => Err(Fault::new(
                ErrorKind::Internal,
                format!("unexpected answer {other:?}"),
            )),
        }
    }

    /// Packs a file or folder of a machine, and hands the tar stream to `sink` piece by piece.
    pub async fn pack_from<F, Fut>(
        &self,
        machine: &str,
        path: &[u8],
        sink: F,
    ) -> Result<Unpacked, Fault>
    where
        F: FnMut(bytes::Bytes) -> Fut,
        Fut: Future<Output = io::Result<()>>,
    {
        self.take_out(machine, path, Extent::Whole, sink).await
    }

    async fn take_out<F, Fut>(
        &self,
        machine: &str,
        path: &[u8],
        extent: Extent,
        mut sink: F,
    ) -> Result<Unpacked, Fault>
    where
        F: FnMut(bytes::Bytes) -> Fut,
        Fut: Future<Output = io::Result<()>>,
    {
        let request = Request::TarOut(TarOut {
            path: path.to_vec(),
            extent,
        });
        let (record, mut stream) = self
            .stream_to(machine, COMING_UP, |_| Ok(request.clone()))
            .await?;
        loop {
            let event = match stream.next().await {
                Ok(event) => event,
                Err(e) => return Err(self.broken(&record, e).await),
            };
            match event {
                StreamEvent::Data(Channel::Output, bytes) => {
                    let n = bytes.len();
                    sink(bytes).await.map_err(|e| {
                        Fault::from_error(ErrorKind::Host, &e)
                            .context("cannot write what is copied")
                    })?;
                    stream.consumed(Channel::Output, n);
                }
                StreamEvent::Message(FromGuest::Reply(Reply::Packed(sent))) => {
                    return Ok(transferred(sent));
                }
                StreamEvent::Message(FromGuest::Reply(Reply::Partly(partly))) => {
                    return Ok(partly_transferred(&partly));
                }
                StreamEvent::Message(FromGuest::Failed(e)) => {
                    return Err(self.broken(&record, SessionError::Guest(e)).await);
                }
                _ => {}
            }
        }
    }

    /// What is at a path of a machine, links followed.
    async fn look_at(&self, machine: &str, path: &str) -> Result<There, Fault> {
        let mut answer = Answer::default();
        let path_meant = place::trimmed(path.as_bytes());
        let found = self
            .take_out(machine, path_meant, Extent::Header, |bytes| {
                std::future::ready(answer.take(&bytes))
            })
            .await;
        match found {
            Err(fault) if fault.kind == ErrorKind::NotFound => return Ok(There::Nothing),
            Err(fault) if !answer.is_too_long() => return Err(fault),
            _ => {}
        }
        answer.read().map_err(|e| {
            let message = format!("the machine does not say what {path:?} is: {e}");
            Fault::new(ErrorKind::Guest, message)
        })
    }

    /// Why a transfer failed: what the guest says of it, or what became of the machine.
    async fn broken(&self, record: &MachineRecord, e: SessionError) -> Fault {
        let kind = match &e {
            SessionError::Guest(g) => match g.code {
                ErrorCode::NotFound => Some(ErrorKind::NotFound),
                ErrorCode::PathEscapes | ErrorCode::Invalid => Some(ErrorKind::Usage),
                _ => Some(ErrorKind::Guest),
            },
            _ => None,
        };
        let fault = self.broken_off(record, e, "files were copied").await;
        match kind {
            Some(kind) => Fault { kind, ..fault },
            None => fault,
        }
    }
}

fn transferred(sent: Sent) -> Unpacked {
    Unpacked {
        entries: sent.entries,
        bytes: sent.bytes,
        skipped: Skipped::default(),
    }
}

fn partly_transferred(partly: &Partly) -> Unpacked {
    let mut unpacked = transferred(partly.sent);
    unpacked.skipped.add(&partly.left_out);
    unpacked
}
