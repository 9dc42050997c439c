//! A name server with a script, and servers that say who was asked for.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// What a question is answered with.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Addresses of the kind that was asked for, and their time to live.
    Addresses(Vec<IpAddr>, u32),
    /// Records as they are: owner, type, data.
    Records(Vec<(String, u16, Vec<u8>)>),
    /// There is no such name.
    NoSuchName,
    /// The server cannot.
    Fails,
    /// By datagram: too long for one.
    Truncated,
    /// Nothing at all.
    Silence,
}

impl Reply {
    /// One address for a minute.
    pub fn address(ip: &str) -> Self {
        Self::Addresses(vec![ip.parse().expect("an address")], 60)
    }
}

/// How a question came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// As a datagram.
    Datagram,
    /// On a connection.
    Stream,
}

type Script = Arc<dyn Fn(&str, By) -> Reply + Send + Sync>;

/// A name server on port 53 of an address.
#[derive(Clone, Debug)]
pub struct NameServer {
    asked: Arc<Mutex<Vec<(String, By)>>>,
    count: Arc<AtomicUsize>,
}

impl NameServer {
    /// Starts one in this thread's network namespace.
    pub fn start(at: &str, script: impl Fn(&str, By) -> Reply + Send + Sync + 'static) -> Self {
        let server = Self {
            asked: Arc::default(),
            count: Arc::default(),
        };
        let script: Script = Arc::new(script);
        let socket = UdpSocket::bind((at, 53)).unwrap();
        let (own, with) = (server.clone(), Arc::clone(&script));
        std::thread::spawn(move || {
            let mut query = [0; 4096];
            while let Ok((length, from)) = socket.recv_from(&mut query) {
                if let Some(answer) = own.answer(&query[..length], By::Datagram, &*with) {
                    // Who asked may have gone.
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        let listener = TcpListener::bind((at, 53)).unwrap();
        let own = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut length = [0; 2];
                if stream.read_exact(&mut length).is_err() {
                    continue;
                }
                let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
                if stream.read_exact(&mut query).is_err() {
                    continue;
                }
                if let Some(answer) = own.answer(&query, By::Stream, &*script) {
                    let _ = stream.write_all(&(answer.len() as u16).to_be_bytes());
                    let _ = stream.write_all(&answer);
                }
            }
        });
        server
    }

    /// The names that were asked for, in order; the last thousands.
    pub fn asked(&self) -> Vec<(String, By)> {
        self.asked.lock().unwrap().clone()
    }

    /// How many questions there were.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    fn answer(&self, query: &[u8], by: By, script: &dyn Fn(&str, By) -> Reply) -> Option<Vec<u8>> {
        let mut at = 12;
        let mut name = String::new();
        while query[at] != 0 {
            let length = usize::from(query[at]);
            name += &String::from_utf8_lossy(&query[at + 1..=at + length]);
            name.push('.');
            at += 1 + length;
        }
        let name = name.trim_end_matches('.').to_owned();
        let end = at + 5;
        let kind = u16::from_be_bytes([query[at + 1], query[at + 2]]);
        self.count.fetch_add(1, Ordering::Relaxed);
        let mut asked = self.asked.lock().unwrap();
        if asked.len() < 5000 {
            asked.push((name.clone(), by));
        }
        drop(asked);
        let reply = script(&name, by);
        let (records, flags) = match reply {
            Reply::Silence => return None,
            Reply::NoSuchName => (Vec::new(), 3),
            Reply::Fails => (Vec::new(), 2),
            Reply::Truncated => (Vec::new(), 0x200),
            Reply::Records(records) => (
                records.into_iter().map(|(o, k, d)| (o, k, d, 60)).collect(),
                0,
            ),
            Reply::Addresses(addresses, ttl) => {
                let data = addresses.into_iter().filter_map(|ip| match (ip, kind) {
                    (IpAddr::V4(v4), 1) => Some((name.clone(), 1, v4.octets().to_vec(), ttl)),
                    (IpAddr::V6(v6), 28) => Some((name.clone(), 28, v6.octets().to_vec(), ttl)),
                    _ => None,
                });
                (data.collect::<Vec<_>>(), 0)
            }
        };
        let mut answer = query[..end].to_vec();
        let flags: u16 = 0x8180 | flags;
        answer[2..4].copy_from_slice(&flags.to_be_bytes());
        answer[6..8].copy_from_slice(&(records.len() as u16).to_be_bytes());
        answer[8..12].fill(0);
        for (owner, kind, data, ttl) in records {
            answer.extend(wire_name(&owner));
            answer.extend(kind.to_be_bytes());
            answer.extend(1u16.to_be_bytes());
            answer.extend(ttl.to_be_bytes());
            answer.extend((data.len() as u16).to_be_bytes());
            answer.extend(data);
        }
        Some(answer)
    }
}

/// A name as DNS writes it.
pub fn wire_name(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for label in name.split('.') {
        out.push(label.len() as u8);
        out.extend(label.bytes());
    }
    out.push(0);
    out
}

/// A server whose connections each have a thread that runs this.
pub fn serve(at: &str, port: u16, each: impl Fn(TcpStream) + Clone + Send + 'static) {
    let listener = TcpListener::bind((at, port)).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, each) = (stream.unwrap(), each.clone());
            std::thread::spawn(move || each(stream));
        }
    });
}

/// A web server that answers each request on a connection with `NAME was asked for HOST`.
pub fn web_server(at: &str, name: &'static str) {
    serve(at, 80, move |mut stream| {
        let mut lines = BufReader::new(stream.try_clone().unwrap());
        loop {
            let (mut host, mut line) = (String::new(), String::new());
            while lines.read_line(&mut line).is_ok_and(|n| n > 2) {
                if let Some(value) = line.to_lowercase().strip_prefix("host:") {
                    value.trim().clone_into(&mut host);
                }
                line.clear();
            }
            if line.is_empty() {
                return;
            }
            let body = format!("{name} was asked for {host}\n");
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            if stream.write_all((head + &body).as_bytes()).is_err() {
                return;
            }
        }
    });
}

/// A server that says a line and hangs up.
pub fn greeter(at: &str, port: u16, line: &'static str) {
    serve(at, port, move |mut stream| {
        let _ = stream.write_all(line.as_bytes());
    });
}
