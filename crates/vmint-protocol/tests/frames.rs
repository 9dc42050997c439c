//! Frames: cut anywhere they give the same events, garbage is refused, and no payload can pretend to be a host.

use proptest::collection::vec;
use proptest::prelude::*;
use vmint_protocol::{
    Channel, DecodeError, Decoder, Event, ExecSpec, Hello, Request, ToGuest, encode_credit,
    encode_data, encode_eof, encode_message,
};

/// An event that owns its bytes; pieces of data that follow each other on one channel are joined.
#[derive(Debug, Clone, PartialEq)]
enum Seen {
    Data(u32, Channel, Vec<u8>),
    Eof(u32, Channel),
    Credit(u32, Channel, u32),
    Message(u32, ToGuest),
}

fn push(out: &mut Vec<Seen>, seen: Seen) {
    if let (Some(Seen::Data(s, c, bytes)), Seen::Data(stream, channel, more)) =
        (out.last_mut(), &seen)
        && (*s, *c) == (*stream, *channel)
    {
        bytes.extend_from_slice(more);
    } else {
        out.push(seen);
    }
}

/// Feeds `bytes` in pieces that end at `cuts`.
fn decode(bytes: &[u8], cuts: &[usize]) -> Result<Vec<Seen>, DecodeError> {
    let mut decoder = Decoder::<ToGuest>::default();
    let mut out = Vec::new();
    let mut ends: Vec<usize> = cuts
        .iter()
        .map(|c| c % (bytes.len() + 1))
        .chain([bytes.len()])
        .collect();
    ends.sort_unstable();
    let mut from = 0;
    for end in ends {
        let mut piece = &bytes[from..end];
        from = end;
        while let Some(event) = decoder.next(&mut piece)? {
            let seen = match event {
                Event::Data {
                    stream,
                    channel,
                    bytes,
                } => Seen::Data(stream, channel, bytes.to_vec()),
                Event::Eof { stream, channel } => Seen::Eof(stream, channel),
                Event::Credit {
                    stream,
                    channel,
                    bytes,
                } => Seen::Credit(stream, channel, bytes),
                Event::Message { stream, message } => Seen::Message(stream, message),
            };
            push(&mut out, seen);
        }
        assert!(
            piece.is_empty(),
            "input is left over although no event was found"
        );
    }
    Ok(out)
}

fn channel() -> impl Strategy<Value = Channel> {
    prop_oneof![
        Just(Channel::Input),
        Just(Channel::Output),
        Just(Channel::Error)
    ]
}

/// Bytes in which a host's magic is likely to stand, whole and in parts.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    let magic = Hello {
        version: 1,
        nonce: [0; 16],
    }
    .encode()[..16]
        .to_vec();
    let part = prop_oneof![
        vec(any::<u8>(), 0..300),
        Just(magic.clone()),
        (0usize..16).prop_map(move |n| magic[..n].to_vec()),
    ];
    vec(part, 1..12).prop_map(|parts| parts.concat())
}

fn seen() -> impl Strategy<Value = Seen> {
    let stream = 1u32..50;
    prop_oneof![
        3 => (stream.clone(), channel(), payload()).prop_map(|(s, c, b)| Seen::Data(s, c, b)),
        1 => (stream.clone(), channel()).prop_map(|(s, c)| Seen::Eof(s, c)),
        1 => (stream.clone(), channel(), any::<u32>()).prop_map(|(s, c, n)| Seen::Credit(s, c, n)),
        1 => (stream, vec(vec(any::<u8>(), 0..50), 0..4)).prop_map(|(s, argv)| {
            Seen::Message(s, ToGuest::Open(Request::Exec(Box::new(ExecSpec { argv, ..ExecSpec::default() }))))
        }),
    ]
}

fn encode(all: &[Seen]) -> Vec<u8> {
    let mut out = Vec::new();
    for one in all {
        match one {
            Seen::Data(s, c, bytes) => encode_data(&mut out, *s, *c, bytes),
            Seen::Eof(s, c) => encode_eof(&mut out, *s, *c),
            Seen::Credit(s, c, n) => encode_credit(&mut out, *s, *c, *n),
            Seen::Message(s, message) => encode_message(&mut out, *s, message).unwrap(),
        }
    }
    out
}

proptest! {
    #[test]
    fn what_was_encoded_is_decoded_however_it_is_cut(all in vec(seen(), 0..12), cuts in vec(any::<usize>(), 0..30)) {
        let mut expected = Vec::new();
        for one in &all {
            if !matches!(one, Seen::Data(_, _, bytes) if bytes.is_empty()) {
                push(&mut expected, one.clone());
            }
        }
        prop_assert_eq!(decode(&encode(&all), &cuts).unwrap(), expected);
    }

    #[test]
    fn no_payload_shows_a_host_s_magic_on_the_wire(stream in 1u32..50, channel in channel(), bytes in payload()) {
        let magic = &Hello { version: 1, nonce: [0; 16] }.encode()[..16];
        let mut out = Vec::new();
        encode_data(&mut out, stream, channel, &bytes);
        prop_assert!(!out.windows(16).any(|w| w == magic));
    }

    #[test]
    fn garbage_never_panics(bytes in vec(any::<u8>(), 0..2000), cuts in vec(any::<usize>(), 0..10)) {
        // What it says does not depend on how it was cut, be it an error.
        prop_assert_eq!(decode(&bytes, &cuts), decode(&bytes, &[]));
    }

    #[test]
    fn damaged_frames_never_panic(all in vec(seen(), 1..6), at in any::<usize>(), value in any::<u8>()) {
        let mut bytes = encode(&all);
        if !bytes.is_empty() {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        prop_assert_eq!(decode(&bytes, &[1, 2, 3, 17]), decode(&bytes, &[]));
    }
}
