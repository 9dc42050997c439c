//! The sockets of published ports.
//!
//! QEMU's user-mode network would open them itself, with a queue of one connection: the kernel drops what comes while that one
//! waits, and whoever connects tries again a second later, and then ever later. And each QEMU would open them anew, so that a port
//! that the host chose would be another one after each reset, and one of a port below 1024 root's alone.
//!
//! So whoever starts QEMU opens them, with a queue as long as the host allows, and keeps them for as long as it lives. QEMU is told
//! the port, and binds it: the guard (`netguard`) puts the socket that listens there in the place of QEMU's own, and has QEMU
//! listen on no other.

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use vmint_model::{ErrorKind, Fault, Publish};

/// Connections that wait to be taken. The kernel takes less where `net.core.somaxconn` says so.
const QUEUE: i32 = 65_535;

/// A published port, open on the host's loopback until the last copy of this is dropped.
#[derive(Clone, Debug)]
pub struct Port {
    publish: Publish,
    socket: Arc<OwnedFd>,
}

/// A port that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// Somebody else has it.
    #[error("port {port} of 127.0.0.1 is in use by another program")]
    Taken {
        /// The port.
        port: u16,
    },
    /// It cannot be opened for another reason.
    #[error("cannot open port {port} of 127.0.0.1")]
    Host {
        /// The port; 0 for any.
        port: u16,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl From<PortError> for Fault {
    fn from(e: PortError) -> Self {
        match &e {
            PortError::Taken { port } => Fault::from_error(ErrorKind::Refused, &e).hint(format!(
                "`ss -ltnp sport = :{port}` shows which; publish another one, or 0 for any that is free"
            )),
            PortError::Host { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Fault::from_error(ErrorKind::Refused, &e)
                    .hint("ports below 1024 are root's: publish another one")
            }
            PortError::Host { .. } => Fault::from_error(ErrorKind::Host, &e),
        }
    }
}

impl Port {
    /// Opens a port. Where the host may choose, the one that it chose `before` is tried first.
    pub fn open(wanted: Publish, before: Option<u16>) -> Result<Self, PortError> {
        if wanted.host == 0
            && let Some(before) = before
            && let Ok(port) = Self::bind(wanted, before)
        {
            return Ok(port);
        }
        Self::bind(wanted, wanted.host)
    }

    fn bind(wanted: Publish, port: u16) -> Result<Self, PortError> {
        let listening = || -> io::Result<(OwnedFd, u16)> {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket =
                rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
            // Connections of a machine that has ended do not keep its port.
            sockopt::set_socket_reuseaddr(&socket, true)?;
            rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))?;
            rustix::net::listen(&socket, QUEUE)?;
            let listener = TcpListener::from(socket);
            let port = listener.local_addr()?.port();
            Ok((listener.into(), port))
        };
        match listening() {
            Ok((socket, host)) => Ok(Self {
                publish: Publish { host, ..wanted },
                socket: Arc::new(socket),
            }),
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => Err(PortError::Taken { port }),
            Err(source) => Err(PortError::Host { port, source }),
        }
    }

    /// The port of the host, which is never 0, and the guest's.
    pub fn publish(&self) -> Publish {
        self.publish
    }

    /// Whether this is the port of the host that somebody binds who binds this address.
    pub(crate) fn is_at(&self, address: SocketAddr) -> bool {
        address == SocketAddr::from((Ipv4Addr::LOCALHOST, self.publish.host))
    }
}

impl AsFd for Port {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn a_port_that_the_host_chose_is_had_again_while_nobody_else_has_it() {
        let any = Publish { host: 0, guest: 80 };
        let first = Port::open(any, None).unwrap();
        let chosen = first.publish().host;
        assert_ne!(chosen, 0);
        drop(first);
        let again = Port::open(any, Some(chosen)).unwrap();
        assert_eq!(
            again.publish(),
            Publish {
                host: chosen,
                guest: 80
            }
        );
        // It is had by another: any other one will do, unless this one was asked for.
        let other = Port::open(any, Some(chosen)).unwrap();
        assert_ne!(other.publish().host, chosen);
        let wanted = Publish {
            host: chosen,
            guest: 80,
        };
        let taken = Port::open(wanted, None).unwrap_err();
        assert!(matches!(taken, PortError::Taken { port } if port == chosen));
    }

    /// The kernel would drop the second of these if the queue were as short as QEMU's.
    #[test]
    fn connections_wait_until_they_are_taken() {
        let port = Port::open(Publish { host: 0, guest: 80 }, None).unwrap();
        let connect = || TcpStream::connect((Ipv4Addr::LOCALHOST, port.publish().host)).unwrap();
        let waiting: Vec<_> = (0..100).map(|_| connect()).collect();
        assert_eq!(waiting.len(), 100);
    }
}
