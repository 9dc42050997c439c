//! What the supervisor does under an allow list (`crate::egress` tells why).
//!
//! Everything is refused but DNS to the host's name servers, which the machine's resolver answers, and TCP that its gate lets through.

use super::address;
use super::notify::Notification;
use super::policy::{Host, Protocol, Reason, Verdict};
use super::process;
use super::supervisor::{Call, Outcome, Supervisor, attempt, cannot_look, is_blocking};
use crate::egress::{Gate, Way, split_sender};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, sockopt};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use vmint_egress::What;

/// Where name servers answer.
const DNS_PORT: u16 = 53;

impl<H: Host> Supervisor<H> {
    /// A connect, or a sendto whose datagram was copied.
    pub(super) fn through_gate(
        &mut self,
        number: i32,
        socket: OwnedFd,
        to: SocketAddr,
        protocol: Protocol,
        send: Option<SendFlags>,
    ) -> Result<Outcome, Errno> {
        let Some(gate) = &self.gate else {
            return Err(Errno::ACCESS);
        };
        let is_dns = self.policy.is_name_service(to, protocol);
        match (protocol, send) {
            (Protocol::Udp, Some(_)) if is_dns => {
                let back = listening(gate, &socket)?;
                gate.ask(&self.payload, to, back);
                self.count_allowed();
                Ok(Outcome::Answer(Ok(self.payload.len() as u64)))
            }
            (Protocol::Udp | Protocol::Icmp, _) => {
                let (what, why) = match protocol {
                    Protocol::Icmp => (What::Icmp, "ICMP is not allowed"),
                    _ => (What::Udp, "UDP is allowed to ask the name server alone"),
                };
                gate.refuse(what, to, why);
                Ok(self.deny(to, protocol, Reason::Unlisted))
            }
            // POSIX allows this for a connected stream; on another one it would connect (MSG_FASTOPEN).
            (Protocol::Tcp, Some(_)) => Ok(Outcome::Answer(Err(Errno::ISCONN))),
            (Protocol::Tcp, None) => {
                let way = if is_dns {
                    gate.ask_by_stream(to)
                } else {
                    match self.policy.decide(to, protocol) {
                        Verdict::Allow(to) => gate.connect(to),
                        Verdict::Deny(reason) => {
                            gate.refuse(What::Tcp, to, &reason.to_string());
                            return Ok(self.deny(to, protocol, reason));
                        }
                    }
                };
                match way {
                    Way::Refused => Ok(self.deny(to, protocol, Reason::Unlisted)),
                    Way::Direct => {
                        self.count_allowed();
                        Ok(attempt(socket, Call::Connect(to)))
                    }
                    Way::Pair(pair) => {
                        self.count_allowed();
                        if is_blocking(&socket) {
                            rustix::io::ioctl_fionbio(&pair, false)?;
                        }
                        Ok(Outcome::Replace(number, pair))
                    }
                }
            }
        }
    }

    /// A recvfrom of a caller that wants to know the sender: an answer of the resolver's, said to be from the name server that
    /// was asked.
    pub(super) fn received(&mut self, notification: &Notification) -> Result<Outcome, Errno> {
        let [fd, buffer, room, flags, sender, sender_length] = notification.args;
        let thread = notification.thread;
        let socket = self.socket(thread, fd)?;
        let mut length = [0; 4];
        process::read_memory(thread, sender_length, &mut length)
            .map_err(|errno| cannot_look(errno, "its memory"))?;
        let memory =
            process::Memory::open(thread).map_err(|errno| cannot_look(errno, "its memory"))?;
        if !self.listener.is_waiting(notification.id) {
            return Ok(Outcome::Gone);
        }
        let gate = self.gate.as_ref().ok_or(Errno::ACCESS)?;
        let family = sockopt::socket_domain(&socket)?;
        let peer = rustix::net::getpeername(&socket).ok().flatten();
        let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
        // On a socket that asked nothing there is nothing to be heard.
        if peer.is_none() || peer != gate.answers_from(family) {
            return Err(Errno::AGAIN);
        }
        let kept = RecvFlags::from_bits_retain(flags as u32) & RecvFlags::PEEK;
        self.payload.resize(usize::from(u16::MAX), 0);
        let received =
            rustix::net::recv(&socket, &mut self.payload[..], kept | RecvFlags::DONTWAIT);
        let (received, _) = received?;
        let datagram = self.payload.get(..received).unwrap_or_default();
        let (name_server, message) = split_sender(datagram).ok_or(Errno::AGAIN)?;
        let from = address::write(SocketAddr::new(name_server, DNS_PORT));
        let message = &message[..message.len().min(usize::try_from(room).unwrap_or(0))];
        let space = usize::try_from(i32::from_ne_bytes(length)).map_err(|_| Errno::INVAL)?;
        memory.write(buffer, message)?;
        memory.write(sender, &from[..from.len().min(space)])?;
        memory.write(sender_length, &(from.len() as u32).to_ne_bytes())?;
        Ok(Outcome::Answer(Ok(message.len() as u64)))
    }
}

/// Connects a socket to where its answers come from, so that it hears nobody else; returns where they are to go.
fn listening(gate: &Gate, socket: &OwnedFd) -> Result<SocketAddr, Errno> {
    let family = sockopt::socket_domain(socket)?;
    let answers_from = gate.answers_from(family).ok_or(Errno::NETUNREACH)?;
    let connected = rustix::net::getpeername(socket).ok().flatten();
    if connected.is_none_or(|peer| SocketAddr::try_from(peer) != Ok(answers_from)) {
        rustix::net::connect(socket, &answers_from)?;
    }
    SocketAddr::try_from(rustix::net::getsockname(socket)?).map_err(|_| Errno::AFNOSUPPORT)
}
