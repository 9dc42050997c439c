//! Connections of a guest to ports 80 and 443: the name is read before anything reaches the server.

use super::gate::Shared;
use super::journal::Wanted;
use super::relay::{self, Broken};
use crate::netguard::{LiveHost, Policy, Protocol, Verdict};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use vmint_egress::hello::{self, HelloFault};
use vmint_egress::http::{HeadFault, Requests, Step};
use vmint_egress::{Seen, What};
use vmint_model::HostName;
use vmint_model::allow::HTTPS;

/// How long a guest may take to show a name.
const TO_SHOW: Duration = Duration::from_secs(30);
/// How long a server may take to accept.
const TO_CONNECT: Duration = Duration::from_secs(30);

/// Why a connection ends before it has begun.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("{fault}")]
    Name {
        name: Option<HostName>,
        fault: String,
    },
    /// The guest hung up: nobody's fault.
    #[error("the guest hung up")]
    HungUp,
}

impl From<HelloFault> for Refusal {
    fn from(fault: HelloFault) -> Self {
        Self::unnamed(fault)
    }
}

impl From<HeadFault> for Refusal {
    fn from(fault: HeadFault) -> Self {
        Self::unnamed(fault)
    }
}

impl Refusal {
    fn unnamed(fault: impl ToString) -> Self {
        Self::Name {
            name: None,
            fault: fault.to_string(),
        }
    }
}

/// A line of the log.
pub(super) fn refuse(shared: &Shared, to: SocketAddr, name: Option<&HostName>, why: &str) {
    let name = name.map(HostName::as_str);
    shared.journal.refused(tcp(to, name), why);
}

fn tcp(to: SocketAddr, name: Option<&str>) -> Wanted<'_> {
    Wanted {
        what: What::Tcp,
        name,
        address: Some(to),
    }
}

/// Serves one connection to `to` to its end.
pub(super) async fn serve(shared: &Shared, to: SocketAddr, mut guest: UnixStream) {
    let mut held = Vec::new();
    let read = timeout(TO_SHOW, begin(shared, to, &mut guest, &mut held)).await;
    let read = read.unwrap_or_else(|_| Err(Refusal::unnamed("no name was shown in time")));
    let begun = match read {
        Ok(begun) => begun,
        Err(Refusal::HungUp) => return,
        Err(Refusal::Name { name, fault }) => {
            refuse(shared, to, name.as_ref(), &fault);
            say_no(&mut guest, to, &fault).await;
            return;
        }
    };
    let name = begun.name().clone();
    let server = match connect(to).await {
        Ok(server) => server,
        Err(error) => {
            refuse(
                shared,
                to,
                Some(&name),
                &format!("the server cannot be reached: {error}"),
            );
            return;
        }
    };
    shared.journal.allowed(tcp(to, Some(name.as_str())));
    let judge = |name: &HostName| shared.judge(name, to).map_err(|misfit| misfit.to_string());
    let relayed = match begun {
        Begun::Tls { hello, .. } => relay::tls(guest, server, held, hello, judge).await,
        Begun::Http { requests, head, .. } => {
            relay::http(guest, server, held, requests, head, judge).await
        }
    };
    if let Err(Broken::Refused { name, why }) = relayed {
        refuse(shared, to, name.as_ref(), &why);
    }
}

/// A connection that has shown a name which may be reached.
enum Begun {
    /// With the length of its ClientHello.
    Tls { name: HostName, hello: usize },
    /// With the length of its first request's head.
    Http {
        name: HostName,
        requests: Requests,
        head: usize,
    },
}

impl Begun {
    fn name(&self) -> &HostName {
        match self {
            Self::Tls { name, .. } | Self::Http { name, .. } => name,
        }
    }
}

/// Reads until a name is shown, and judges it. What was read is in `held`.
async fn begin(
    shared: &Shared,
    to: SocketAddr,
    guest: &mut UnixStream,
    held: &mut Vec<u8>,
) -> Result<Begun, Refusal> {
    let mut requests = Requests::default();
    loop {
        let mut piece = [0; 4096];
        match guest.read(&mut piece).await {
            Ok(n) if n > 0 => held.extend(&piece[..n]),
            _ if held.is_empty() => return Err(Refusal::HungUp),
            _ => return Err(Refusal::unnamed("it ended before it showed a name")),
        }
        let (name, begun) = if to.port() == HTTPS {
            match hello::server_name(held)? {
                Seen::More => continue,
                Seen::Whole((name, hello)) => (name.clone(), Begun::Tls { name, hello }),
            }
        } else {
            match requests.step(held)? {
                Step::Request { host, head } => (
                    host.clone(),
                    Begun::Http {
                        name: host,
                        requests,
                        head,
                    },
                ),
                _ => continue,
            }
        };
        return match shared.judge(&name, to) {
            Ok(()) => Ok(begun),
            Err(misfit) => Err(Refusal::Name {
                name: Some(name),
                fault: misfit.to_string(),
            }),
        };
    }
}

/// Connects, unless the address has become one of the host's in the meantime.
async fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    match Policy::new(LiveHost::new()).decide(to, Protocol::Tcp) {
        Verdict::Allow(to) => {
            let server = timeout(TO_CONNECT, TcpStream::connect(to)).await??;
            // As libslirp sets it.
            server.set_nodelay(true)?;
            Ok(server)
        }
        Verdict::Deny(reason) => Err(io::Error::other(reason.to_string())),
    }
}

/// Tells whoever asks in the guest, in words that their protocol has.
async fn say_no(guest: &mut UnixStream, to: SocketAddr, why: &str) {
    let answer = if to.port() == HTTPS {
        // A fatal alert: access denied.
        vec![21, 3, 3, 0, 2, 2, 49]
    } else {
        let text = format!("vmint refused this connection: {why}\n");
        format!(
            "HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
            text.len()
        )
        .into_bytes()
    };
    // A guest that does not read does not hear it.
    let _ = timeout(Duration::from_secs(1), guest.write_all(&answer)).await;
}
