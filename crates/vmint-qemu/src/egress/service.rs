//! The thread that resolves and copies, and how much it takes on.

use super::gate::Shared;
use super::resolver::Resolver;
use super::{proxy, resolver};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket as StdUdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{UdpSocket, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

/// The longest question that is looked at. A name has 255 bytes; options of EDNS may come along.
pub(super) const LONGEST_QUESTION: usize = 4096;
/// Questions and connections that wait to be taken on.
const WAITING: usize = 256;
/// Connections at once, those with questions included. Each has three descriptors at most, and a process 1,024.
pub(super) const CONNECTIONS: usize = 256;

/// What the guard hands over.
#[derive(Debug)]
pub(super) enum Order {
    /// A question, to be answered to `back` as from `name_server`.
    Question {
        message: Vec<u8>,
        name_server: IpAddr,
        back: SocketAddr,
    },
    /// A connection to a name server.
    Questions(Taken),
    /// A connection to an address that was answered, on a port where it must show its name.
    Connection { to: SocketAddr, taken: Taken },
}

/// A connection that was taken on. One that has no place is refused before, while the guest can still be told: a connection that
/// is taken and then dropped looks to QEMU's network like one that has yet to come about, and the guest waits for minutes.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) stream: OwnedFd,
    /// Its place among [`CONNECTIONS`].
    pub(super) place: OwnedSemaphorePermit,
}

/// Starts the thread. It ends when the sender is dropped.
pub(super) fn start(
    shared: Arc<Shared>,
    four: StdUdpSocket,
    six: Option<StdUdpSocket>,
) -> io::Result<mpsc::Sender<Order>> {
    let (sender, orders) = mpsc::channel(WAITING);
    for socket in [Some(&four), six.as_ref()].into_iter().flatten() {
        socket.set_nonblocking(true)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::Builder::new()
        .name("egress".into())
        .spawn(move || {
            let tasks = tokio::task::LocalSet::new();
            let served = tasks.block_on(&runtime, serve(shared, orders, four, six));
            if let Err(error) = served {
                tracing::error!(%error, "the allow list's thread ended; the machine's network is cut");
            }
            // Tasks that are left are dropped with the set.
        })?;
    Ok(sender)
}

async fn serve(
    shared: Arc<Shared>,
    mut orders: mpsc::Receiver<Order>,
    four: StdUdpSocket,
    six: Option<StdUdpSocket>,
) -> io::Result<()> {
    let four = Rc::new(UdpSocket::from_std(four)?);
    let six = six.map(UdpSocket::from_std).transpose()?.map(Rc::new);
    let resolver = Rc::new(Resolver::new(Arc::clone(&shared)));
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let order = tokio::select! {
            order = orders.recv() => order,
            _ = tick.tick() => {
                shared.journal.settle();
                continue;
            }
        };
        match order {
            None => return Ok(()),
            Some(Order::Question {
                message,
                name_server,
                back,
            }) => {
                let socket = if back.is_ipv4() {
                    Some(&four)
                } else {
                    six.as_ref()
                };
                if let Some(socket) = socket.cloned() {
                    let resolver = Rc::clone(&resolver);
                    resolver::by_datagram(resolver, &message, name_server, back, socket);
                }
            }
            Some(Order::Questions(Taken { stream, place })) => {
                let Some(stream) = local(stream) else {
                    continue;
                };
                let resolver = Rc::clone(&resolver);
                tokio::task::spawn_local(async move {
                    let _place = place;
                    // Broken off: the guest's business.
                    let _ = resolver::by_stream(&resolver, stream).await;
                });
            }
            Some(Order::Connection {
                to,
                taken: Taken { stream, place },
            }) => {
                let Some(stream) = local(stream) else {
                    proxy::refuse(&shared, to, None, "vmint cannot serve the connection");
                    continue;
                };
                let shared = Arc::clone(&shared);
                tokio::task::spawn_local(async move {
                    let _place = place;
                    proxy::serve(&shared, to, stream).await;
                });
            }
        }
    }
}

/// For the runtime. That fails only where the host's kernel has no more of what it takes to wait for it.
fn local(stream: OwnedFd) -> Option<UnixStream> {
    let stream = UnixStream::from_std(StdUnixStream::from(stream));
    let told = stream.inspect_err(|e| tracing::warn!("a connection is dropped: {e}"));
    told.ok()
}
