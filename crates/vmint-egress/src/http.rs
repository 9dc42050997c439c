//! Requests of HTTP/1 on one connection: each head is read, each body is measured, so that each `Host` is seen.
//!
//! ```text
//!   Head ──Request──▶ the caller judges the name, hands the head on ─┬─ no body ─────────▶ Head
//!                                                                    ├─ Content-Length ──▶ Pass … ─▶ Head
//!                                                                    ├─ chunked ─────────▶ Pass … ─▶ Head
//!                                                                    └─ Upgrade: the caller waits for what the server says,
//!                                                                       and then [`Requests::opened`] or [`Requests::not_opened`]
//! ```
//!
//! A request that two readers could understand in two ways is refused; a server that reads it otherwise than this does must not
//! find another `Host` in it.

use crate::Seen;
use httparse::Status;
use vmint_model::HostName;

/// The longest head of a request, and the longest trailer.
pub const MOST_HEAD: usize = 16 << 10;
const MOST_FIELDS: usize = 128;
/// The longest line with a chunk's size.
const MOST_SIZE_LINE: usize = 1024;

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadFault {
    /// Not a request of HTTP/1.0 or 1.1.
    #[error("it is not HTTP/1")]
    NotHttp,
    /// The head does not end.
    #[error("the head of its request is longer than {} KiB", MOST_HEAD >> 10)]
    Long,
    /// There is no `Host`, or more than one.
    #[error("its request has no Host, or more than one")]
    NoHost,
    /// It is not a host's name.
    #[error("its request has a Host that is not the name of a host")]
    BadHost,
    /// The target names another host than `Host` does.
    #[error("its request names two hosts")]
    TwoHosts,
    /// `CONNECT`.
    #[error("its request asks for a tunnel (CONNECT)")]
    Tunnel,
    /// Length of the body unclear.
    #[error("the length of its request is unclear")]
    Length,
    /// An `Upgrade` in a later request.
    #[error("it asks for another protocol on a connection that was used before")]
    LateUpgrade,
    /// An `Upgrade` to something else than a web socket was accepted.
    #[error("it goes on in a protocol that shows no name")]
    Upgraded,
}

/// What to do with the beginning of the client's bytes that are not handed on yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Wait for more.
    More,
    /// A request for this host. If it may be reached, its head, so many bytes, is to be handed on.
    Request {
        /// What it names.
        host: HostName,
        /// Length of its head.
        head: usize,
    },
    /// So many bytes belong to a request that was judged.
    Pass(usize),
    /// Nothing may be handed on before the server has said what it makes of the `Upgrade`.
    Wait,
    /// Everything may be handed on.
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    Body(u64),
    ChunkSize,
    /// So many bytes of data and the line's end behind it.
    Chunk(u64),
    Trailer,
    /// To this protocol: whether it is a web socket.
    Asking(Upgrade),
    Open,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Upgrade {
    WebSocket,
    Other,
}

/// The requests on one connection.
#[derive(Debug)]
pub struct Requests {
    state: State,
    first: bool,
}

impl Default for Requests {
    fn default() -> Self {
        Self {
            state: State::Head,
            first: true,
        }
    }
}

impl Requests {
    /// Looks at the bytes that are not handed on yet; they are to begin where the last step ended.
    pub fn step(&mut self, bytes: &[u8]) -> Result<Step, HeadFault> {
        match self.state {
            State::Head => self.head(bytes),
            State::Body(_) | State::Chunk(_) if bytes.is_empty() => Ok(Step::More),
            State::Body(left) => {
                let now = left.min(bytes.len() as u64);
                self.state = match left - now {
                    0 => State::Head,
                    left => State::Body(left),
                };
                Ok(Step::Pass(now as usize))
            }
            State::ChunkSize => self.chunk_size(bytes),
            State::Chunk(left) => {
                let now = left.min(bytes.len() as u64);
                // The last two are the line's end, and are looked at: a size that lies would shift everything behind it.
                for (at, expected) in [(left.wrapping_sub(2), b'\r'), (left.wrapping_sub(1), b'\n')]
                {
                    if at < now && bytes[at as usize] != expected {
                        return Err(HeadFault::Length);
                    }
                }
                self.state = match left - now {
                    0 => State::ChunkSize,
                    left => State::Chunk(left),
                };
                Ok(Step::Pass(now as usize))
            }
            State::Trailer => {
                let Some(length) = line(bytes, MOST_HEAD)? else {
                    return Ok(Step::More);
                };
                if length == 2 {
                    self.state = State::Head;
                }
                Ok(Step::Pass(length))
            }
            State::Asking(_) => Ok(Step::Wait),
            State::Open => Ok(Step::All),
        }
    }

    /// The server has taken the `Upgrade`.
    pub fn opened(&mut self) -> Result<(), HeadFault> {
        match self.state {
            State::Asking(Upgrade::WebSocket) => {
                self.state = State::Open;
                Ok(())
            }
            _ => Err(HeadFault::Upgraded),
        }
    }

    /// The server has not taken it, and answers as usual.
    pub fn not_opened(&mut self) {
        self.state = State::Head;
    }

    fn head(&mut self, bytes: &[u8]) -> Result<Step, HeadFault> {
        if bytes.is_empty() {
            return Ok(Step::More);
        }
        let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
        let mut request = httparse::Request::new(&mut fields);
        let seen = &bytes[..bytes.len().min(MOST_HEAD)];
        let length = match request.parse(seen) {
            Ok(Status::Complete(length)) => length,
            Ok(Status::Partial) if bytes.len() >= MOST_HEAD => return Err(HeadFault::Long),
            Ok(Status::Partial) => return Ok(Step::More),
            Err(httparse::Error::TooManyHeaders) => return Err(HeadFault::Long),
            Err(_) => return Err(HeadFault::NotHttp),
        };
        let head = &seen[..length];
        if !has_whole_line_ends(head) {
            return Err(HeadFault::NotHttp);
        }
        if request.method == Some("CONNECT") {
            return Err(HeadFault::Tunnel);
        }
        let host = host(&request)?;
        let next = body(&request)?;
        let next = match upgrade(&request) {
            None => next,
            Some(_) if !self.first || next != State::Head => return Err(HeadFault::LateUpgrade),
            Some(upgrade) => State::Asking(upgrade),
        };
        (self.state, self.first) = (next, false);
        Ok(Step::Request { host, head: length })
    }

    fn chunk_size(&mut self, bytes: &[u8]) -> Result<Step, HeadFault> {
        let Some(length) = line(bytes, MOST_SIZE_LINE)? else {
            return Ok(Step::More);
        };
        let text = &bytes[..length - 2];
        let digits = text.iter().take_while(|b| b.is_ascii_hexdigit()).count();
        let rest = &text[digits..];
        // 15 digits and the line's end behind the data are within 64 bits.
        if !(1..=15).contains(&digits) || !(rest.is_empty() || rest[0] == b';') {
            return Err(HeadFault::Length);
        }
        let size = std::str::from_utf8(&text[..digits])
            .ok()
            .and_then(|digits| u64::from_str_radix(digits, 16).ok())
            .ok_or(HeadFault::Length)?;
        self.state = match size {
            0 => State::Trailer,
            size => State::Chunk(size + 2),
        };
        Ok(Step::Pass(length))
    }
}

/// The length of the line that `bytes` begin with, its end included.
fn line(bytes: &[u8], most: usize) -> Result<Option<usize>, HeadFault> {
    let end = bytes.iter().take(most).position(|&b| b == b'\n');
    match end {
        Some(end) if has_whole_line_ends(&bytes[..=end]) => Ok(Some(end + 1)),
        Some(_) => Err(HeadFault::Length),
        None if bytes.len() >= most => Err(HeadFault::Long),
        None => Ok(None),
    }
}

/// Whether each carriage return is followed by a line feed, and each of those has one before it.
fn has_whole_line_ends(head: &[u8]) -> bool {
    let mut before = 0;
    for &byte in head {
        if (byte == b'\n') != (before == b'\r') {
            return false;
        }
        before = byte;
    }
    before != b'\r'
}

fn values<'a>(
    request: &'a httparse::Request<'_, '_>,
    name: &'a str,
) -> impl Iterator<Item = &'a [u8]> {
    let fields = request.headers.iter();
    fields.filter_map(move |field| field.name.eq_ignore_ascii_case(name).then_some(field.value))
}

fn host(request: &httparse::Request<'_, '_>) -> Result<HostName, HeadFault> {
    let mut hosts = values(request, "host");
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Err(HeadFault::NoHost);
    };
    let host = authority(host)?;
    let target = request.path.unwrap_or("");
    if target.starts_with('/') || target == "*" {
        return Ok(host);
    }
    // `GET http://host/path`: as to a proxy, and servers go by it instead of `Host`.
    let scheme = target
        .get(..7)
        .filter(|s| s.eq_ignore_ascii_case("http://"));
    let Some(rest) = scheme.and_then(|_| target.get(7..)) else {
        return Err(HeadFault::NotHttp);
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    if authority(&rest.as_bytes()[..end])? == host {
        Ok(host)
    } else {
        Err(HeadFault::TwoHosts)
    }
}

/// `host` or `host:port`. To which port it goes is known already.
fn authority(text: &[u8]) -> Result<HostName, HeadFault> {
    let text = std::str::from_utf8(text).map_err(|_| HeadFault::BadHost)?;
    let name = match text.split_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        Some(_) => return Err(HeadFault::BadHost),
        None => text,
    };
    HostName::read(name).map_err(|_| HeadFault::BadHost)
}

fn body(request: &httparse::Request<'_, '_>) -> Result<State, HeadFault> {
    let mut lengths = values(request, "content-length");
    let mut codings = values(request, "transfer-encoding");
    match (
        lengths.next(),
        lengths.next(),
        codings.next(),
        codings.next(),
    ) {
        (None, None, None, None) => Ok(State::Head),
        // HTTP/1.0 has no chunks: a server may take them for the next request.
        (None, None, Some(coding), None)
            if coding.eq_ignore_ascii_case(b"chunked") && request.version == Some(1) =>
        {
            Ok(State::ChunkSize)
        }
        (Some(length), None, None, None) => {
            let digits = !length.is_empty() && length.iter().all(u8::is_ascii_digit);
            let number = std::str::from_utf8(length).ok().filter(|_| digits);
            match number.and_then(|n| n.parse().ok()) {
                Some(0) => Ok(State::Head),
                Some(n) if i64::try_from(n).is_ok() => Ok(State::Body(n)),
                _ => Err(HeadFault::Length),
            }
        }
        _ => Err(HeadFault::Length),
    }
}

fn upgrade(request: &httparse::Request<'_, '_>) -> Option<Upgrade> {
    let mut protocols = values(request, "upgrade");
    let first = protocols.next()?;
    let web_socket = first.eq_ignore_ascii_case(b"websocket") && protocols.next().is_none();
    Some(if web_socket {
        Upgrade::WebSocket
    } else {
        Upgrade::Other
    })
}

/// Whether what a server says first, on a connection whose first request had an `Upgrade`, takes it.
pub fn switches(response: &[u8]) -> Seen<bool> {
    const STATUS: &[u8] = b"HTTP/1.1 101";
    let seen = response.len().min(STATUS.len());
    // The digit of the version does not matter.
    let same = |(at, byte): (usize, &u8)| at == 7 || *byte == STATUS[at];
    if !response[..seen].iter().enumerate().all(same) {
        return Seen::Whole(false);
    }
    if seen == STATUS.len() {
        Seen::Whole(true)
    } else {
        Seen::More
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The hosts of all requests in `bytes`, given in pieces; or the first fault.
    fn hosts(bytes: &[u8], piece: usize) -> Result<Vec<String>, HeadFault> {
        let (mut requests, mut held, mut found) = (Requests::default(), Vec::new(), Vec::new());
        for piece in bytes.chunks(piece.max(1)) {
            held.extend(piece);
            loop {
                match requests.step(&held)? {
                    Step::More | Step::Wait => break,
                    Step::Request { host, head } => {
                        found.push(host.to_string());
                        held.drain(..head);
                    }
                    Step::Pass(n) => drop(held.drain(..n)),
                    Step::All => held.clear(),
                }
                if held.is_empty() {
                    break;
                }
            }
        }
        Ok(found)
    }

    fn all(text: &str) -> Result<Vec<String>, HeadFault> {
        let whole = hosts(text.as_bytes(), usize::MAX);
        for piece in [1, 2, 3, 7] {
            assert_eq!(hosts(text.as_bytes(), piece), whole, "in pieces of {piece}");
        }
        whole
    }

    fn get(rest: &str) -> String {
        format!("GET / HTTP/1.1\r\n{rest}\r\n")
    }

    #[test]
    fn every_request_on_a_connection_is_seen() {
        let text = [
            "GET /a HTTP/1.1\r\nHost: a.example\r\n\r\n",
            "POST /b HTTP/1.1\r\nhost: B.example:80\r\nContent-Length: 5\r\n\r\nGET /",
            "\r\nPOST / HTTP/1.1\r\nHost: c.example\r\nTransfer-Encoding: Chunked\r\n\r\n",
            "1a;x=y\r\nGET / HTTP/1.1\r\nHost: evil\r\n0\r\nTrailer: x\r\n\r\n",
            "GET http://d.example/x?y HTTP/1.0\r\nHost: d.example\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\nHost: e.example\r\nContent-Length: 0\r\n\r\n",
        ];
        // 0x1a is 26: the data looks like the beginning of a request.
        let found = all(&text.concat());
        let expected = [
            "a.example",
            "b.example",
            "c.example",
            "d.example",
            "e.example",
        ];
        assert_eq!(found.map(|f| f.join(" ")), Ok(expected.join(" ")));
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let host = "Host: a.example\r\n";
        for (text, fault) in [
            (get(""), HeadFault::NoHost),
            (get(&format!("{host}{host}")), HeadFault::NoHost),
            (get("Host: \r\n"), HeadFault::BadHost),
            (get("Host: a.example, b.example\r\n"), HeadFault::BadHost),
            (get("Host: a.example@b.example\r\n"), HeadFault::BadHost),
            (get("Host: 192.0.2.1\r\n"), HeadFault::BadHost),
            (get("Host: a.example:x\r\n"), HeadFault::BadHost),
            (
                format!("GET http://b.example/ HTTP/1.1\r\n{host}\r\n"),
                HeadFault::TwoHosts,
            ),
            (
                format!("GET http://x@a.example/ HTTP/1.1\r\n{host}\r\n"),
                HeadFault::BadHost,
            ),
            (
                format!("GET https://a.example/ HTTP/1.1\r\n{host}\r\n"),
                HeadFault::NotHttp,
            ),
            (
                format!("CONNECT a.example:443 HTTP/1.1\r\n{host}\r\n"),
                HeadFault::Tunnel,
            ),
            (
                get(&format!("{host}Content-Length: 1\r\nContent-Length: 1\r\n")),
                HeadFault::Length,
            ),
            (
                get(&format!("{host}Content-Length: +1\r\n")),
                HeadFault::Length,
            ),
            (
                get(&format!("{host}Content-Length: 99999999999999999999\r\n")),
                HeadFault::Length,
            ),
            (
                get(&format!(
                    "{host}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"
                )),
                HeadFault::Length,
            ),
            (
                get(&format!("{host}Transfer-Encoding: gzip, chunked\r\n")),
                HeadFault::Length,
            ),
            (
                format!("POST / HTTP/1.0\r\n{host}Transfer-Encoding: chunked\r\n\r\n"),
                HeadFault::Length,
            ),
            (format!("GET / HTTP/1.1\n{host}\r\n"), HeadFault::NotHttp),
            (
                "GET / HTTP/1.1\r\nHost : a.example\r\n\r\n".to_owned(),
                HeadFault::NotHttp,
            ),
            (
                format!("GET / HTTP/1.1\r\n{host} folded\r\n\r\n"),
                HeadFault::NotHttp,
            ),
            (
                "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(),
                HeadFault::NotHttp,
            ),
            ("\x16\x03\x01\x02\x00\x01".into(), HeadFault::NotHttp),
            (
                get(&format!("{host}X: {}\r\n", "x".repeat(MOST_HEAD))),
                HeadFault::Long,
            ),
            (
                get(&format!("{host}{}", "X: y\r\n".repeat(200))),
                HeadFault::Long,
            ),
        ] {
            assert_eq!(all(&text), Err(fault), "{}", &text[..text.len().min(90)]);
        }
    }

    #[test]
    fn chunks_that_lie_are_refused() {
        let head = "POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n";
        for (body, fault) in [
            ("x\r\n", HeadFault::Length),
            ("\r\n", HeadFault::Length),
            ("0x1\r\n", HeadFault::Length),
            ("1 \r\na\r\n", HeadFault::Length),
            ("1\na\r\n", HeadFault::Length),
            ("1\r\nab\r\n", HeadFault::Length),
            ("1\r\na\n\n", HeadFault::Length),
            ("ffffffffffffffff\r\n", HeadFault::Length),
        ] {
            assert_eq!(all(&format!("{head}{body}")), Err(fault), "{body:?}");
        }
        let long = format!("{head}1;{}", "x".repeat(2000));
        assert_eq!(all(&long), Err(HeadFault::Long));
    }

    #[test]
    fn another_protocol_waits_for_the_server_and_is_a_web_socket_or_nothing() {
        let ask = |protocol: &str| get(&format!("Host: a.example\r\nUpgrade: {protocol}\r\n"));
        let begin = |text: &str| {
            let mut requests = Requests::default();
            let head = text.len();
            let step = requests.step(text.as_bytes());
            assert!(matches!(step, Ok(Step::Request { head: n, .. }) if n == head));
            assert_eq!(requests.step(b"anything"), Ok(Step::Wait));
            requests
        };
        let mut requests = begin(&ask("WebSocket"));
        requests.opened().unwrap();
        assert_eq!(requests.step(b"\x81\x00"), Ok(Step::All));
        let mut requests = begin(&ask("h2c"));
        assert_eq!(requests.opened(), Err(HeadFault::Upgraded));
        let mut requests = begin(&ask("h2c"));
        requests.not_opened();
        assert_eq!(requests.step(b"GET"), Ok(Step::More));
        let late = format!("{}{}", get("Host: a.example\r\n"), ask("websocket"));
        assert_eq!(all(&late), Err(HeadFault::LateUpgrade));
        assert_eq!(switches(b"HTTP/1.1 101 Switching"), Seen::Whole(true));
        assert_eq!(switches(b"HTTP/1.0 101 x"), Seen::Whole(true));
        assert_eq!(switches(b"HTTP/1.1 200 OK"), Seen::Whole(false));
        assert_eq!(switches(b"HTTP/1.1 1"), Seen::More);
        assert_eq!(switches(b""), Seen::More);
    }

    proptest! {
        #[test]
        fn no_stream_is_more_than_refused_and_pieces_do_not_matter(
            noise in prop::collection::vec(any::<u8>(), 0..60),
            at in 0usize..200,
            piece in 1usize..50,
        ) {
            let mut text = b"POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n\
                3\r\nabc\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: b.example\r\nContent-Length: 3\r\n\r\nabc".to_vec();
            let at = at.min(text.len());
            text.splice(at..at, noise);
            prop_assert_eq!(hosts(&text, piece), hosts(&text, usize::MAX));
        }
    }
}
