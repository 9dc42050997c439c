//! The name in a TLS ClientHello (RFC 8446 4.1.2, RFC 6066 3), read as far as it takes to find it and no other.
//!
//! After a first ClientHello the server may ask for another one (HelloRetryRequest), which could name somebody else. So the
//! beginning of what the server says is looked at ([`asks_again`]), and the second is read as the first was.

use crate::Seen;
use vmint_model::HostName;

/// The most bytes, records and all, within which a ClientHello must end. Those with keys that withstand quantum computers have
/// some 1,800.
pub const MOST: usize = 16 << 10;

const HANDSHAKE: u8 = 22;
const CHANGE_CIPHER_SPEC: u8 = 20;
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const SERVER_NAME: u16 = 0;
const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;
/// The random number of a ServerHello that is a HelloRetryRequest.
const RETRY: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
    0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// Why a stream does not show a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelloFault {
    /// It begins with something else.
    #[error("it is not TLS")]
    NotTls,
    /// It breaks the format.
    #[error("its ClientHello cannot be read")]
    Malformed,
    /// It does not end.
    #[error("its ClientHello is longer than {} KiB", MOST >> 10)]
    Long,
    /// There is no server name.
    #[error("its ClientHello names no server")]
    NoName,
    /// The name is hidden.
    #[error("its ClientHello is encrypted (ECH), so its name cannot be seen")]
    Encrypted,
    /// What stands there is not a host's name.
    #[error("its ClientHello names something that is not a host")]
    BadName,
}

/// The server name in the ClientHello that a stream begins with. `Whole` also gives the length of the records that it is in.
pub fn server_name(stream: &[u8]) -> Result<Seen<(HostName, usize)>, HelloFault> {
    let (mut at, mut message) = (0, Vec::new());
    loop {
        if at > MOST {
            return Err(HelloFault::Long);
        }
        let Some(header) = stream.get(at..at + 5) else {
            return begins_well(&stream[at.min(stream.len())..]);
        };
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        if header[0] != HANDSHAKE || header[1] != 3 {
            return Err(HelloFault::NotTls);
        }
        if length == 0 || length > MOST {
            return Err(HelloFault::Malformed);
        }
        let Some(record) = stream.get(at + 5..at + 5 + length) else {
            // What is there says already whether it can become something.
            return match (at + 5 + length > MOST + 5, stream.get(at + 5)) {
                (true, _) => Err(HelloFault::Long),
                (_, Some(kind)) if message.is_empty() && *kind != CLIENT_HELLO => {
                    Err(HelloFault::NotTls)
                }
                _ => Ok(Seen::More),
            };
        };
        message.extend(record);
        at += 5 + length;
        if message[0] != CLIENT_HELLO {
            return Err(HelloFault::NotTls);
        }
        let Some(&[_, a, b, c]) = message.first_chunk::<4>() else {
            continue;
        };
        let whole = 4 + (usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c));
        if whole > MOST {
            return Err(HelloFault::Long);
        }
        if message.len() > whole {
            // More in the same record: of the first flight there is nothing more.
            return Err(HelloFault::Malformed);
        }
        if message.len() == whole {
            return name_in(&message[4..]).map(|name| Seen::Whole((name, at)));
        }
    }
}

fn begins_well(start: &[u8]) -> Result<Seen<(HostName, usize)>, HelloFault> {
    match start {
        [] | [HANDSHAKE] | [HANDSHAKE, 3, ..] => Ok(Seen::More),
        _ => Err(HelloFault::NotTls),
    }
}

/// The second ClientHello, behind the ChangeCipherSpec that a client may send before it.
pub fn second_name(stream: &[u8]) -> Result<Seen<(HostName, usize)>, HelloFault> {
    let dummy = [CHANGE_CIPHER_SPEC, 3, 3, 0, 1, 1];
    let seen = stream.len().min(dummy.len());
    if !stream.is_empty() && stream[..seen] == dummy[..seen] {
        let Some(rest) = stream.get(dummy.len()..) else {
            return Ok(Seen::More);
        };
        return server_name(rest).map(|seen| match seen {
            Seen::More => Seen::More,
            Seen::Whole((name, length)) => Seen::Whole((name, length + dummy.len())),
        });
    }
    server_name(stream)
}

/// Whether what a server says first asks for another ClientHello. Anything that is not a ServerHello does not.
pub fn asks_again(stream: &[u8]) -> Seen<bool> {
    // Record (5), message (4), version (2), random number.
    let begins = |at: usize, byte: u8| stream.get(at).is_none_or(|&b| b == byte);
    if !begins(0, HANDSHAKE) || !begins(5, SERVER_HELLO) {
        return Seen::Whole(false);
    }
    match stream.get(11..43) {
        Some(random) => Seen::Whole(random == RETRY),
        // A record that ends before it: a ServerHello in pieces is nothing that a server sends.
        None if stream.len() >= 5
            && usize::from(u16::from_be_bytes([stream[3], stream[4]])) < 38 =>
        {
            Seen::Whole(true)
        }
        None => Seen::More,
    }
}

fn name_in(hello: &[u8]) -> Result<HostName, HelloFault> {
    let mut hello = Reader(hello);
    hello.take(2 + 32)?;
    let session = hello.byte()?;
    if session > 32 {
        return Err(HelloFault::Malformed);
    }
    hello.take(usize::from(session))?;
    let suites = hello.word()?;
    hello.take(usize::from(suites))?;
    let methods = hello.byte()?;
    hello.take(usize::from(methods))?;
    if hello.0.is_empty() {
        return Err(HelloFault::NoName);
    }
    let length = hello.word()?;
    let mut extensions = Reader(hello.take(usize::from(length))?);
    if !hello.0.is_empty() {
        return Err(HelloFault::Malformed);
    }
    let (mut name, mut encrypted) = (None, false);
    while !extensions.0.is_empty() {
        let (kind, length) = (extensions.word()?, extensions.word()?);
        let data = extensions.take(usize::from(length))?;
        match kind {
            SERVER_NAME if name.is_some() => return Err(HelloFault::Malformed),
            SERVER_NAME => name = Some(host_name(data)?),
            ENCRYPTED_CLIENT_HELLO => encrypted = true,
            _ => {}
        }
    }
    if encrypted {
        return Err(HelloFault::Encrypted);
    }
    name.ok_or(HelloFault::NoName)
}

/// The list of names has one, and it is a host's.
fn host_name(data: &[u8]) -> Result<HostName, HelloFault> {
    let mut data = Reader(data);
    let length = data.word()?;
    let mut list = Reader(data.take(usize::from(length))?);
    let (kind, length) = (list.byte()?, list.word()?);
    let name = list.take(usize::from(length))?;
    if kind != 0 || !list.0.is_empty() || !data.0.is_empty() {
        return Err(HelloFault::Malformed);
    }
    let name = std::str::from_utf8(name).map_err(|_| HelloFault::BadName)?;
    HostName::read(name).map_err(|_| HelloFault::BadName)
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], HelloFault> {
        let (now, rest) = self.0.split_at_checked(n).ok_or(HelloFault::Malformed)?;
        self.0 = rest;
        Ok(now)
    }

    fn byte(&mut self) -> Result<u8, HelloFault> {
        self.take(1).map(|one| one[0])
    }

    fn word(&mut self) -> Result<u16, HelloFault> {
        self.take(2).map(|two| u16::from_be_bytes([two[0], two[1]]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
        let mut out = kind.to_be_bytes().to_vec();
        out.extend((data.len() as u16).to_be_bytes());
        out.extend(data);
        out
    }

    fn named(name: &str) -> Vec<u8> {
        let mut data = ((name.len() + 3) as u16).to_be_bytes().to_vec();
        data.push(0);
        data.extend((name.len() as u16).to_be_bytes());
        data.extend(name.bytes());
        extension(SERVER_NAME, &data)
    }

    fn message(extensions: &[Vec<u8>]) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.push(0);
        body.extend([0, 2, 0x13, 1, 1, 0]);
        let all = extensions.concat();
        body.extend((all.len() as u16).to_be_bytes());
        body.extend(all);
        let mut out = vec![CLIENT_HELLO, 0];
        out.extend((body.len() as u16).to_be_bytes());
        out.extend(body);
        out
    }

    /// In records of at most `size` bytes.
    fn records(message: &[u8], size: usize) -> Vec<u8> {
        let mut out = Vec::new();
        for part in message.chunks(size) {
            out.extend([HANDSHAKE, 3, 1]);
            out.extend((part.len() as u16).to_be_bytes());
            out.extend(part);
        }
        out
    }

    fn hello(extensions: &[Vec<u8>]) -> Vec<u8> {
        records(&message(extensions), MOST)
    }

    fn name(text: &str) -> HostName {
        HostName::read(text).unwrap()
    }

    #[test]
    fn the_name_is_found_whatever_stands_around_it() {
        let all = [
            extension(0x1a1a, b""),
            named("WWW.example.com"),
            extension(43, &[2, 3, 4]),
        ];
        let stream = hello(&all);
        let length = stream.len();
        assert_eq!(
            server_name(&stream),
            Ok(Seen::Whole((name("www.example.com"), length)))
        );
        // What follows, early data for instance, is not part of it.
        let mut more = stream.clone();
        more.extend([23, 3, 3, 0, 1, 0]);
        assert_eq!(server_name(&more), server_name(&stream));
    }

    #[test]
    fn every_beginning_wants_more_and_records_may_cut_it_anywhere() {
        let message = message(&[named("www.example.com")]);
        for size in 1..40 {
            let stream = records(&message, size);
            assert!(matches!(server_name(&stream), Ok(Seen::Whole(_))), "{size}");
            for length in 0..stream.len() {
                assert_eq!(server_name(&stream[..length]), Ok(Seen::More), "{length}");
            }
        }
    }

    #[test]
    fn what_shows_no_name_or_hides_it_is_refused() {
        let twice = [named("a.example"), named("b.example")];
        let ech = [
            named("a.example"),
            extension(ENCRYPTED_CLIENT_HELLO, &[0; 8]),
        ];
        for (stream, fault) in [
            (hello(&[]), HelloFault::NoName),
            (hello(&[extension(43, &[2, 3, 4])]), HelloFault::NoName),
            (hello(&twice), HelloFault::Malformed),
            (hello(&ech), HelloFault::Encrypted),
            (hello(&[named("192.0.2.1")]), HelloFault::BadName),
            (hello(&[named("")]), HelloFault::BadName),
            (hello(&[named("a\0.example")]), HelloFault::BadName),
            (hello(&[extension(0, &[0, 0])]), HelloFault::Malformed),
            (b"GET / HTTP/1.1\r\n".to_vec(), HelloFault::NotTls),
            (b"SSH-2.0-x".to_vec(), HelloFault::NotTls),
            (vec![0x80, 46, 1, 3, 1], HelloFault::NotTls),
            (vec![HANDSHAKE, 3, 1, 0, 0], HelloFault::Malformed),
            (vec![HANDSHAKE, 3, 1, 0, 4, 2, 0], HelloFault::NotTls),
            (
                vec![HANDSHAKE, 3, 1, 0, 4, CLIENT_HELLO, 1, 0, 0],
                HelloFault::Long,
            ),
            (vec![HANDSHAKE, 3, 1, 0xff, 0xff], HelloFault::Malformed),
        ] {
            assert_eq!(server_name(&stream), Err(fault), "{stream:?}");
        }
    }

    #[test]
    fn a_hello_in_tiny_records_does_not_go_on_for_ever() {
        let mut large = message(&[named("a.example"), extension(21, &[0; 8000])]);
        large.truncate(8000);
        let stream = records(&large, 1);
        assert_eq!(server_name(&stream), Err(HelloFault::Long));
    }

    #[test]
    fn a_second_hello_is_read_as_the_first() {
        let again = hello(&[named("b.example")]);
        let mut stream = vec![20, 3, 3, 0, 1, 1];
        stream.extend(&again);
        let length = stream.len();
        assert_eq!(
            second_name(&stream),
            Ok(Seen::Whole((name("b.example"), length)))
        );
        assert!(matches!(second_name(&again), Ok(Seen::Whole(_))));
        for length in 0..stream.len() {
            assert_eq!(second_name(&stream[..length]), Ok(Seen::More), "{length}");
        }
        let mut server = vec![HANDSHAKE, 3, 3, 0, 86, SERVER_HELLO, 0, 0, 82, 3, 3];
        server.extend(RETRY);
        assert_eq!(asks_again(&server), Seen::Whole(true));
        for length in 0..server.len() {
            assert_eq!(asks_again(&server[..length]), Seen::More, "{length}");
        }
        server[20] ^= 1;
        assert_eq!(asks_again(&server), Seen::Whole(false));
        assert_eq!(asks_again(&[21, 3, 3, 0, 2, 2, 40]), Seen::Whole(false));
    }

    proptest! {
        #[test]
        fn no_stream_is_more_than_refused_and_a_name_stays_found(
            mut noise in prop::collection::vec(any::<u8>(), 0..200),
            at in 0usize..80,
            cut in 0usize..200,
        ) {
            let mut stream = hello(&[named("www.example.com"), extension(43, &[2, 3, 4])]);
            if let Some(&byte) = noise.first() {
                let at = at.min(stream.len() - 1);
                stream[at] = byte;
            }
            stream.append(&mut noise);
            stream.truncate(stream.len().saturating_sub(cut));
            let (seen, _) = (server_name(&stream), (second_name(&stream), asks_again(&stream)));
            if let Ok(Seen::Whole((name, length))) = seen {
                prop_assert!(length <= stream.len());
                let again = server_name(&stream[..length]);
                prop_assert_eq!(again, Ok(Seen::Whole((name, length))));
            }
        }
    }
}
