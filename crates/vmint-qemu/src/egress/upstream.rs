//! The host's name servers: those of its resolv.conf, by UDP, and by TCP what is longer than a datagram.
//!
//! Each question has a random id and a socket of its own, whose port the kernel chooses at random and which hears one server alone.

use crate::netguard::{Host, LiveHost};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;
use vmint_egress::dns::{self, Answer, Kind, NotAnAnswer};
use vmint_model::HostName;

/// As many as the C library asks.
const SERVERS: usize = 3;
const ROUNDS: usize = 2;
/// How long one is waited for; a guest's resolver asks again after 5 s.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Asks them one after the other, twice.
pub(super) async fn resolve(name: &HostName, kind: Kind) -> io::Result<Answer> {
    let servers = LiveHost::new().name_servers();
    let mut last = Err(io::ErrorKind::NotConnected.into());
    for _ in 0..ROUNDS {
        for &server in servers.iter().take(SERVERS) {
            last = match ask(server, name, kind).await {
                Ok(answer @ (Answer::Addresses { .. } | Answer::NoSuchName)) => return Ok(answer),
                other => other,
            };
        }
    }
    last
}

async fn ask(server: SocketAddr, name: &HostName, kind: Kind) -> io::Result<Answer> {
    let id = random()?;
    match timeout(PATIENCE, by_datagram(server, id, name, kind)).await?? {
        Answer::Truncated => timeout(PATIENCE, by_stream(server, id, name, kind)).await?,
        answer => Ok(answer),
    }
}

async fn by_datagram(
    server: SocketAddr,
    id: u16,
    name: &HostName,
    kind: Kind,
) -> io::Result<Answer> {
    let any: SocketAddr = if server.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(&dns::query(id, name, kind)).await?;
    let mut message = vec![0; usize::from(u16::MAX)];
    loop {
        let length = socket.recv(&mut message).await?;
        match Answer::read(&message[..length], id, name, kind) {
            // A forgery ends nothing.
            Err(NotAnAnswer::Foreign) => {}
            read => return read.map_err(io::Error::other),
        }
    }
}

async fn by_stream(server: SocketAddr, id: u16, name: &HostName, kind: Kind) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(server).await?;
    let query = dns::query(id, name, kind);
    let mut framed = (query.len() as u16).to_be_bytes().to_vec();
    framed.extend(query);
    stream.write_all(&framed).await?;
    let mut message = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut message).await?;
    Answer::read(&message, id, name, kind).map_err(io::Error::other)
}

fn random() -> io::Result<u16> {
    let mut bytes = [0; 2];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(u16::from_ne_bytes(bytes))
}
