//! From a guest's question to its answer: the names of the list alone, and no address that the list does not permit.

use super::gate::{Shared, sender};
use super::journal::{Tokens, Wanted};
use super::service::LONGEST_QUESTION;
use super::upstream;
use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UdpSocket, UnixStream};
use tokio::sync::Semaphore;
use vmint_egress::dns::{Answer, Code, Kind, NoQuestion, Question};
use vmint_egress::private::is_private;
use vmint_egress::{What, answers};
use vmint_model::HostName;

/// Questions to name servers at once; a guest's resolver asks again for what is dropped.
const AT_ONCE: usize = 64;
/// Questions to name servers that may come in a burst, and a second after that.
const BURST: f64 = 200.0;
const RATE: f64 = 50.0;
/// Answers that are kept for as long as their name servers say, and no longer than this.
const KEPT: usize = 1024;
const KEPT_FOR: Duration = Duration::from_secs(300);
/// How long a connection with questions may be silent.
const SILENCE: Duration = Duration::from_secs(15);

/// The resolver of one guest.
pub(super) struct Resolver {
    shared: Arc<Shared>,
    kept: RefCell<HashMap<(HostName, Kind), Kept>>,
    rate: RefCell<Tokens>,
    running: Arc<Semaphore>,
}

struct Kept {
    found: Found,
    until: Instant,
}

/// What a question is answered with.
#[derive(Clone, Debug)]
struct Found {
    code: Code,
    addresses: Vec<IpAddr>,
    ttl: u32,
}

impl Found {
    fn nothing(code: Code) -> Self {
        Self {
            code,
            addresses: Vec::new(),
            ttl: 0,
        }
    }
}

/// What is to be done about a question.
enum Plan {
    Answer(Found),
    Ask(HostName),
}

impl Resolver {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            kept: RefCell::default(),
            rate: RefCell::new(Tokens::new(BURST, RATE)),
            running: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// What can be said without a name server.
    fn plan(&self, question: &Question) -> Plan {
        let allowed = question.name.as_ref();
        let Some(name) = allowed.filter(|name| self.shared.list.has_name(name)) else {
            let wanted = dns(&question.shown);
            self.shared
                .journal
                .refused(wanted, "the name is not allowed");
            // Not REFUSED: musl's resolver does not take that for an answer, and waits.
            return Plan::Answer(Found::nothing(Code::NoSuchName));
        };
        if let Kind::Other(_) = question.kind {
            return Plan::Answer(Found::nothing(Code::Ok));
        }
        let now = Instant::now();
        let kept = self.kept.borrow();
        match kept.get(&(name.clone(), question.kind)) {
            Some(kept) if kept.until > now => {
                let left = kept.until.duration_since(now).as_secs() as u32;
                let found = Found {
                    ttl: kept.found.ttl.min(left),
                    ..kept.found.clone()
                };
                self.remember(name, &found);
                self.shared.journal.allowed(dns(name.as_str()));
                Plan::Answer(found)
            }
            _ => Plan::Ask(name.clone()),
        }
    }

    /// Asks the host's name servers.
    async fn ask(&self, name: &HostName, kind: Kind) -> Found {
        let answer = upstream::resolve(name, kind).await;
        let found = match answer {
            Ok(Answer::Addresses { addresses, ttl }) => Found {
                code: Code::Ok,
                addresses: self.without_private(name, addresses),
                ttl: ttl.min(answers::LONGEST.as_secs() as u32),
            },
            Ok(Answer::NoSuchName) => {
                let why = "the name does not exist";
                self.shared.journal.refused(dns(name.as_str()), why);
                return Found::nothing(Code::NoSuchName);
            }
            Ok(Answer::Truncated | Answer::Failed { .. }) | Err(_) => {
                let why = "no name server of the host answered";
                self.shared.journal.refused(dns(name.as_str()), why);
                return Found::nothing(Code::ServerFailure);
            }
        };
        if !found.addresses.is_empty() {
            self.shared.journal.allowed(dns(name.as_str()));
        }
        self.remember(name, &found);
        self.keep(name, kind, &found);
        found
    }

    /// Whoever answers for a name must not thereby open the host's neighbours.
    fn without_private(&self, name: &HostName, mut addresses: Vec<IpAddr>) -> Vec<IpAddr> {
        let list = &self.shared.list;
        addresses.retain(|&ip| {
            let fine = !is_private(ip) || list.names_address(ip);
            if !fine {
                let why = format!("the name leads to {ip}, a private address that is not allowed");
                self.shared.journal.refused(dns(name.as_str()), why);
            }
            fine
        });
        addresses
    }

    fn remember(&self, name: &HostName, found: &Found) {
        let now = Instant::now();
        let until = now + answers::life(found.ttl);
        let mut answers = self.shared.answers();
        for &ip in &found.addresses {
            answers.remember(name, ip, until, now);
        }
    }

    fn keep(&self, name: &HostName, kind: Kind, found: &Found) {
        let (mut kept, now) = (self.kept.borrow_mut(), Instant::now());
        let life = Duration::from_secs(u64::from(found.ttl)).min(KEPT_FOR);
        if life.is_zero() {
            return;
        }
        if kept.len() >= KEPT {
            kept.retain(|_, kept| kept.until > now);
        }
        if kept.len() < KEPT {
            let (found, until) = (found.clone(), now + life);
            kept.insert((name.clone(), kind), Kept { found, until });
        }
    }

    fn may_ask(&self) -> bool {
        self.rate.borrow_mut().take(Instant::now())
    }
}

fn dns(name: &str) -> Wanted<'_> {
    Wanted {
        what: What::Dns,
        name: Some(name),
        address: None,
    }
}

/// Answers a question that came as a datagram: at once, or from a task of its own when there is room for one more.
pub(super) fn by_datagram(
    resolver: Rc<Resolver>,
    message: &[u8],
    name_server: IpAddr,
    back: SocketAddr,
    socket: Rc<UdpSocket>,
) {
    let send = move |answer: &[u8]| {
        let datagram = [&sender(name_server), answer].concat();
        // A full buffer loses datagrams, as networks do.
        let _ = socket.try_send_to(&datagram, back);
    };
    let question = match Question::read(message) {
        Ok(question) => question,
        Err(NoQuestion(answer)) => {
            if let Some(answer) = answer {
                send(&answer);
            }
            return;
        }
    };
    let reply = move |question: &Question, found: &Found| {
        let room = question.room();
        send(&question.answer(found.code, &found.addresses, found.ttl, room));
    };
    match resolver.plan(&question) {
        Plan::Answer(found) => reply(&question, &found),
        Plan::Ask(name) => {
            let running = Arc::clone(&resolver.running).try_acquire_owned();
            if let (Ok(permit), true) = (running, resolver.may_ask()) {
                tokio::task::spawn_local(async move {
                    let _permit = permit;
                    let found = resolver.ask(&name, question.kind).await;
                    reply(&question, &found);
                });
            }
        }
    }
}

/// Answers the questions on a connection, one after the other.
pub(super) async fn by_stream(resolver: &Resolver, mut stream: UnixStream) -> io::Result<()> {
    loop {
        let length = tokio::time::timeout(SILENCE, stream.read_u16()).await??;
        let mut message = vec![0; usize::from(length)];
        if message.len() > LONGEST_QUESTION {
            return Ok(());
        }
        tokio::time::timeout(SILENCE, stream.read_exact(&mut message)).await??;
        let answer = match Question::read(&message) {
            Ok(question) => {
                let found = match resolver.plan(&question) {
                    Plan::Answer(found) => found,
                    Plan::Ask(name) if resolver.may_ask() => {
                        let permit = resolver.running.acquire().await;
                        let _permit = permit.map_err(io::Error::other)?;
                        resolver.ask(&name, question.kind).await
                    }
                    Plan::Ask(_) => Found::nothing(Code::ServerFailure),
                };
                let room = usize::from(u16::MAX);
                question.answer(found.code, &found.addresses, found.ttl, room)
            }
            Err(NoQuestion(Some(answer))) => answer,
            Err(NoQuestion(None)) => return Ok(()),
        };
        let mut framed = (answer.len() as u16).to_be_bytes().to_vec();
        framed.extend(answer);
        tokio::time::timeout(SILENCE, stream.write_all(&framed)).await??;
    }
}
