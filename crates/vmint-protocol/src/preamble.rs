//! The session's start. Its layout never changes, so that two versions can always tell each other apart.
//!
//! Both preambles are 40 bytes: a magic of 16, the version as a little-endian `u16`, six zero bytes, a nonce of 16.

/// The version of everything that follows the preamble. Raised by any change to frames or messages.
pub const PROTOCOL_VERSION: u16 = 3;
/// Length of a nonce in bytes.
pub const NONCE_LEN: usize = 16;
/// Length of a [`Hello`] and of a [`Welcome`] in bytes.
pub const PREAMBLE_LEN: usize = 40;

const HELLO: [u8; 16] = *b"\xf6vmint-hello\r\n\x00\xb1";
const WELCOME: [u8; 16] = *b"\xf6vmint-reply\r\n\x00\xb2";

/// The host's first bytes in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The host's [`PROTOCOL_VERSION`].
    pub version: u16,
    /// Random bytes that the guest repeats.
    pub nonce: [u8; NONCE_LEN],
}

/// The guest's first bytes in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The guest's [`PROTOCOL_VERSION`].
    pub version: u16,
    /// The [`Hello`]'s nonce.
    pub nonce: [u8; NONCE_LEN],
}

impl Hello {
    /// The bytes on the wire.
    pub fn encode(self) -> [u8; PREAMBLE_LEN] {
        encode(HELLO, self.version, self.nonce)
    }

    /// Reads a `Hello` from the start of `bytes`, if there is a whole one.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        decode(HELLO, bytes).map(|(version, nonce)| Self { version, nonce })
    }

    /// Whether `bytes` is the beginning of a `Hello`, be it too short to be decoded.
    pub fn begins(bytes: &[u8]) -> bool {
        !bytes.is_empty() && bytes.iter().zip(&HELLO).all(|(a, b)| a == b)
    }

    /// The magic that no encoded payload contains.
    pub(crate) const fn magic() -> &'static [u8; 16] {
        &HELLO
    }
}

impl Welcome {
    /// The bytes on the wire.
    pub fn encode(self) -> [u8; PREAMBLE_LEN] {
        encode(WELCOME, self.version, self.nonce)
    }

    /// Finds the answer to the `Hello` with `nonce` in `bytes`, which may begin with the rest of an older session.
    /// Returns it and the number of bytes up to its end.
    pub fn find(bytes: &[u8], nonce: [u8; NONCE_LEN]) -> Option<(Self, usize)> {
        let mut from = 0;
        while let Some(at) = memchr::memmem::find(&bytes[from..], &WELCOME) {
            let start = from + at;
            if let Some((version, found)) = decode(WELCOME, &bytes[start..])
                && found == nonce
            {
                return Some((Self { version, nonce }, start + PREAMBLE_LEN));
            }
            from = start + 1;
        }
        None
    }
}

fn encode(magic: [u8; 16], version: u16, nonce: [u8; NONCE_LEN]) -> [u8; PREAMBLE_LEN] {
    let mut out = [0; PREAMBLE_LEN];
    out[..16].copy_from_slice(&magic);
    out[16..18].copy_from_slice(&version.to_le_bytes());
    out[24..].copy_from_slice(&nonce);
    out
}

fn decode(magic: [u8; 16], bytes: &[u8]) -> Option<(u16, [u8; NONCE_LEN])> {
    let bytes: &[u8; PREAMBLE_LEN] = bytes.first_chunk()?;
    if bytes[..16] != magic {
        return None;
    }
    let version = u16::from_le_bytes([bytes[16], bytes[17]]);
    let mut nonce = [0; NONCE_LEN];
    nonce.copy_from_slice(&bytes[24..]);
    Some((version, nonce))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_welcome_is_found_behind_the_rest_of_an_older_session() {
        let nonce = [7; NONCE_LEN];
        let older = Welcome {
            version: 1,
            nonce: [9; NONCE_LEN],
        }
        .encode();
        let mut stream = b"old bytes".to_vec();
        stream.extend(older);
        stream.extend(Welcome { version: 3, nonce }.encode());
        let end = stream.len();
        stream.extend(b"next");
        assert_eq!(
            Welcome::find(&stream, nonce),
            Some((Welcome { version: 3, nonce }, end))
        );
        assert_eq!(Welcome::find(&stream[..end - 1], nonce), None);
    }

    #[test]
    fn the_beginning_of_a_hello_is_known_before_it_is_whole() {
        let hello = Hello {
            version: 1,
            nonce: [1; NONCE_LEN],
        }
        .encode();
        for n in 1..=PREAMBLE_LEN {
            assert!(Hello::begins(&hello[..n]));
        }
        assert!(!Hello::begins(b""));
        assert!(!Hello::begins(b"\xf6vmint-reply"));
        assert_eq!(Hello::decode(&hello[..39]), None);
        assert_eq!(Hello::decode(&hello).unwrap().nonce, [1; NONCE_LEN]);
    }
}
