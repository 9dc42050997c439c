//! What the guard asks before it does a call: where may it go?

use super::Allow;
use super::journal::{Journal, Wanted};
use super::service::{self, CONNECTIONS, Order, Taken};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::{Semaphore, mpsc};
use vmint_egress::{Answers, What};
use vmint_model::allow::{HTTP, HTTPS, Look};
use vmint_model::{AllowList, HostName};

/// Where a connection goes.
#[derive(Debug)]
pub(crate) enum Way {
    /// To the address itself.
    Direct,
    /// To the other end of this socket, which takes the place of the caller's.
    Pair(OwnedFd),
    /// Nowhere.
    Refused,
}

/// What guard, resolver and proxy have in common.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) list: AllowList,
    pub(super) answers: Mutex<Answers>,
    pub(super) journal: Journal,
}

/// Why a name does not go with an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Misfit {
    #[error("the name is not allowed")]
    Name,
    #[error("the address was not answered for this name")]
    Address,
}

impl Shared {
    pub(super) fn answers(&self) -> std::sync::MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a connection to this address may show this name.
    pub(super) fn judge(&self, name: &HostName, to: SocketAddr) -> Result<(), Misfit> {
        if self.list.name_on_port(name, to.port()).is_none() {
            return Err(Misfit::Name);
        }
        if !self.answers().has(name, to.ip(), Instant::now()) {
            return Err(Misfit::Address);
        }
        Ok(())
    }

    /// How a connection to an address that was answered is looked at; `None` when it was not, or not for this port.
    fn look(&self, to: SocketAddr) -> Option<Look> {
        let answers = self.answers();
        answers
            .names(to.ip(), Instant::now())
            .find_map(|name| self.list.name_on_port(name, to.port()))
    }
}

/// The guard's side of a machine's allow list.
#[derive(Debug)]
pub(crate) struct Gate {
    shared: Arc<Shared>,
    orders: mpsc::Sender<Order>,
    /// Places of connections that are free.
    places: Arc<Semaphore>,
    /// Where answers come from, by IPv4 and by IPv6.
    four: SocketAddr,
    six: Option<SocketAddr>,
}

impl Gate {
    /// Starts the thread for one QEMU.
    pub(crate) fn open(allow: Allow<'_>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            list: allow.list.clone(),
            answers: Mutex::default(),
            journal: Journal::open(allow.log)?,
        });
        let four = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        // A host may have no IPv6; then QEMU has no such sockets either.
        let six = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).ok();
        let (four_at, six_at) = (
            four.local_addr()?,
            six.as_ref().map(UdpSocket::local_addr).transpose()?,
        );
        let orders = service::start(Arc::clone(&shared), four, six)?;
        Ok(Self {
            shared,
            orders,
            places: Arc::new(Semaphore::new(CONNECTIONS)),
            four: four_at,
            six: six_at,
        })
    }

    /// The log.
    pub(crate) fn journal(&self) -> &Journal {
        &self.shared.journal
    }

    /// What a socket that asks must be connected to, to get the answer and nothing else.
    pub(crate) fn answers_from(&self, family: AddressFamily) -> Option<SocketAddr> {
        if family == AddressFamily::INET6 {
            self.six
        } else {
            Some(self.four)
        }
    }

    /// Takes a question that was sent to a name server; the answer goes to `back`, and will be said to be from there. One too
    /// many is dropped, as datagrams are.
    pub(crate) fn ask(&self, message: &[u8], name_server: SocketAddr, back: SocketAddr) {
        if message.len() <= service::LONGEST_QUESTION {
            let order = Order::Question {
                message: message.to_vec(),
                name_server: name_server.ip(),
                back,
            };
            let _ = self.orders.try_send(order);
        }
    }

    /// A connection to a name server.
    pub(crate) fn ask_by_stream(&self, name_server: SocketAddr) -> Way {
        self.pair(name_server, Order::Questions)
    }

    /// A connection to somewhere else, which is not on the host.
    pub(crate) fn connect(&self, to: SocketAddr) -> Way {
        if self.shared.list.address_on_port(to.ip(), to.port()) {
            self.shared.journal.allowed(tcp(to));
            return Way::Direct;
        }
        match (self.shared.look(to), to.port()) {
            (Some(Look::Address), _) => {
                self.shared.journal.allowed(tcp(to));
                Way::Direct
            }
            (Some(Look::Name), _) => self.pair(to, |taken| Order::Connection { to, taken }),
            (None, HTTP | HTTPS) => {
                self.refuse(
                    What::Tcp,
                    to,
                    "the address was not answered for an allowed name",
                );
                Way::Refused
            }
            (None, _) => {
                let why = "the address was not answered for a name with this port";
                self.refuse(What::Tcp, to, why);
                Way::Refused
            }
        }
    }

    /// Writes down what is refused for another reason.
    pub(crate) fn refuse(&self, what: What, to: SocketAddr, why: &str) {
        let wanted = Wanted {
            what,
            name: None,
            address: Some(to),
        };
        self.shared.journal.refused(wanted, why);
    }

    fn pair(&self, to: SocketAddr, order: impl FnOnce(Taken) -> Order) -> Way {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let too_many = || "too many connections at once".to_owned();
        let handed_over = || -> Result<OwnedFd, String> {
            let place = Arc::clone(&self.places).try_acquire_owned();
            let place = place.map_err(|_| too_many())?;
            let (ours, theirs) =
                rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)
                    .map_err(|e| e.to_string())?;
            let taken = Taken {
                stream: ours,
                place,
            };
            let sent = self.orders.try_send(order(taken));
            sent.map_err(|_| too_many())?;
            Ok(theirs)
        };
        match handed_over() {
            Ok(theirs) => Way::Pair(theirs),
            Err(why) => {
                self.refuse(What::Tcp, to, &why);
                Way::Refused
            }
        }
    }
}

fn tcp(to: SocketAddr) -> Wanted<'static> {
    Wanted {
        what: What::Tcp,
        name: None,
        address: Some(to),
    }
}

/// Length of what stands before an answer on its way through loopback: the name server that it is said to be from.
const SENDER: usize = 17;

/// What stands before an answer.
pub(super) fn sender(name_server: IpAddr) -> [u8; SENDER] {
    let mut out = [0; SENDER];
    match name_server {
        IpAddr::V4(v4) => {
            out[0] = 4;
            out[1..5].copy_from_slice(&v4.octets());
        }
        IpAddr::V6(v6) => {
            out[0] = 6;
            out[1..].copy_from_slice(&v6.octets());
        }
    }
    out
}

/// Takes an answer apart again.
pub(crate) fn split_sender(datagram: &[u8]) -> Option<(IpAddr, &[u8])> {
    let (head, message) = datagram.split_first_chunk::<SENDER>()?;
    let (version, ip) = head.split_first()?;
    let ip = match version {
        4 => IpAddr::from(*ip.first_chunk::<4>()?),
        _ => IpAddr::from(*ip.first_chunk::<16>()?),
    };
    Some((ip, message))
}
