//! What is copied once a connection's first name was judged.
//!
//! TLS: nothing of what follows the ClientHello goes to the server before the server has begun to answer, for it may ask for another
//! one, which must name the same server or another that may be reached. HTTP: each request is looked at before it goes on.

use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;
use tokio::time::timeout;
use vmint_egress::Seen;
use vmint_egress::hello::{self, HelloFault};
use vmint_egress::http::{self, HeadFault, Requests, Step};
use vmint_model::HostName;

/// How long a server may take to answer a ClientHello.
const TO_ANSWER: Duration = Duration::from_secs(60);
/// Bytes that are copied at once, each way.
const PIECE: usize = 64 << 10;
/// Bytes of a guest's that are held while a head is not whole, or the server has not answered.
const HELD: usize = 64 << 10;

/// Why a connection ended before its time.
#[derive(Debug)]
pub(super) enum Broken {
    /// It showed something that may not be reached.
    Refused { name: Option<HostName>, why: String },
    /// One side hung up.
    Io,
}

impl From<io::Error> for Broken {
    fn from(_: io::Error) -> Self {
        Self::Io
    }
}

impl From<HelloFault> for Broken {
    fn from(fault: HelloFault) -> Self {
        Self::unnamed(fault)
    }
}

impl From<HeadFault> for Broken {
    fn from(fault: HeadFault) -> Self {
        Self::unnamed(fault)
    }
}

impl Broken {
    fn unnamed(fault: impl ToString) -> Self {
        Self::Refused {
            name: None,
            why: fault.to_string(),
        }
    }

    fn named(name: HostName, why: String) -> Self {
        Self::Refused {
            name: Some(name),
            why,
        }
    }
}

/// The rest of a TLS connection. `held` begins with a ClientHello of `hello` bytes.
pub(super) async fn tls(
    mut guest: UnixStream,
    mut server: TcpStream,
    mut held: Vec<u8>,
    hello: usize,
    judge: impl Fn(&HostName) -> Result<(), String>,
) -> Result<(), Broken> {
    server.write_all(&held[..hello]).await?;
    held.drain(..hello);
    let mut answer = Vec::new();
    let again = loop {
        match hello::asks_again(&answer) {
            Seen::Whole(again) if !answer.is_empty() => break again,
            _ => {}
        }
        let mut piece = [0; 4096];
        match timeout(TO_ANSWER, server.read(&mut piece))
            .await
            .map_err(io::Error::from)??
        {
            0 => break false,
            n => answer.extend(&piece[..n]),
        }
    };
    guest.write_all(&answer).await?;
    if again {
        let name = second_name(&mut guest, &mut held).await?;
        judge(&name).map_err(|why| Broken::named(name, why))?;
    }
    server.write_all(&held).await?;
    drop(held);
    tokio::io::copy_bidirectional_with_sizes(&mut guest, &mut server, PIECE, PIECE).await?;
    Ok(())
}

/// The name in the ClientHello that a server has asked for.
async fn second_name(guest: &mut UnixStream, held: &mut Vec<u8>) -> Result<HostName, Broken> {
    loop {
        if let Seen::Whole((name, _)) = hello::second_name(held)? {
            return Ok(name);
        }
        let mut piece = [0; 4096];
        match guest.read(&mut piece).await? {
            0 => return Err(Broken::Io),
            n => held.extend(&piece[..n]),
        }
    }
}

/// The rest of a connection with HTTP. `held` begins with the head, `head` bytes long, of a request that was judged.
pub(super) async fn http(
    mut guest: UnixStream,
    mut server: TcpStream,
    mut held: Vec<u8>,
    requests: Requests,
    head: usize,
    judge: impl Fn(&HostName) -> Result<(), String>,
) -> Result<(), Broken> {
    server.write_all(&held[..head]).await?;
    held.drain(..head);
    let (from_guest, to_guest) = guest.split();
    let (from_server, to_server) = server.split();
    let (switched, switches) = oneshot::channel();
    tokio::try_join!(
        up(from_guest, to_server, held, requests, switches, judge),
        down(from_server, to_guest, switched),
    )?;
    Ok(())
}

/// From the guest to the server.
async fn up(
    mut guest: impl AsyncRead + Unpin,
    mut server: impl AsyncWrite + Unpin,
    mut held: Vec<u8>,
    mut requests: Requests,
    switches: oneshot::Receiver<bool>,
    judge: impl Fn(&HostName) -> Result<(), String>,
) -> Result<(), Broken> {
    let mut switches = Some(switches);
    let mut piece = vec![0; PIECE];
    loop {
        // As much as is judged goes in one write.
        let mut done = 0;
        loop {
            match requests.step(&held[done..])? {
                Step::More => break,
                Step::Request { host, head } => {
                    judge(&host).map_err(|why| Broken::named(host, why))?;
                    done += head;
                }
                Step::Pass(n) => done += n,
                Step::Wait => {
                    server.write_all(&held[..done]).await?;
                    held.drain(..done);
                    done = 0;
                    // The server's end without an answer is no switch.
                    let switched = match switches.take() {
                        Some(switches) => switches.await.unwrap_or(false),
                        None => false,
                    };
                    if switched {
                        requests.opened()?;
                    } else {
                        requests.not_opened();
                    }
                }
                Step::All => {
                    server.write_all(&held[done..]).await?;
                    drop(held);
                    tokio::io::copy(&mut guest, &mut server).await?;
                    server.shutdown().await?;
                    return Ok(());
                }
            }
        }
        server.write_all(&held[..done]).await?;
        held.drain(..done);
        if held.len() > HELD {
            return Err(HeadFault::Long.into());
        }
        match guest.read(&mut piece).await? {
            0 => break,
            n => held.extend(&piece[..n]),
        }
    }
    server.shutdown().await?;
    Ok(())
}

/// From the server to the guest. What the server says first decides whether the connection goes on in another protocol.
async fn down(
    mut server: impl AsyncRead + Unpin,
    mut guest: impl AsyncWrite + Unpin,
    switched: oneshot::Sender<bool>,
) -> Result<(), Broken> {
    let mut switched = Some(switched);
    let mut first = Vec::new();
    let mut piece = vec![0; PIECE];
    loop {
        let n = server.read(&mut piece).await?;
        if n == 0 {
            break;
        }
        if let Some(sender) = switched.take() {
            first.extend(&piece[..n.min(64)]);
            match http::switches(&first) {
                Seen::More => switched = Some(sender),
                Seen::Whole(switches) => drop(sender.send(switches)),
            }
        }
        guest.write_all(&piece[..n]).await?;
    }
    drop(switched);
    guest.shutdown().await?;
    Ok(())
}
