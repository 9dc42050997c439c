//! What a host holds of a session: bounded against every peer, and never refusing one that keeps to the protocol.

use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};
use vmint_protocol::host::{Breach, Incoming, MAX_STREAMS, Misuse, OpenError, Streams};
use vmint_protocol::{
    Channel, Credit, Decoder, ErrorCode, Event, ExitStatus, Extent, FromGuest, GuestError, Reply,
    Request, TarIn, TarOut, ToGuest, WINDOW, Window, WindowSize, encode_credit, encode_data,
    encode_eof, encode_message,
};

/// What one stream may cost at most: two windows in parts that have room to grow, what its messages hold, and the rest.
const PER_STREAM: usize = 2 * 2 * WINDOW as usize + (2 << 20) + (64 << 10);

fn exec() -> Request {
    Request::Exec(Box::default())
}

/// Streams whose requests were all written.
fn opened(requests: impl IntoIterator<Item = Request>) -> Streams<()> {
    let mut streams = Streams::default();
    for request in requests {
        streams.open(request, ()).unwrap();
    }
    drop(written(&mut streams));
    streams
}

fn written(streams: &mut Streams<()>) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let mut out = Vec::new();
        streams.write(&mut out);
        if out.is_empty() {
            return all;
        }
        all.extend_from_slice(&out);
    }
}

fn receive(streams: &mut Streams<()>, bytes: &[u8]) -> Result<(), Breach> {
    streams.receive(bytes, |()| {})
}

#[derive(Debug, Clone)]
enum Frame {
    Data(u32, Channel, usize),
    Eof(u32, Channel),
    Credit(u32, Channel, u32),
    Message(u32, FromGuest),
    Bytes(Vec<u8>),
}

impl Frame {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Data(stream, channel, n) => encode_data(out, *stream, *channel, &vec![7; *n]),
            Self::Eof(stream, channel) => encode_eof(out, *stream, *channel),
            Self::Credit(stream, channel, n) => encode_credit(out, *stream, *channel, *n),
            Self::Message(stream, message) => encode_message(out, *stream, message).unwrap(),
            Self::Bytes(bytes) => out.extend_from_slice(bytes),
        }
    }
}

fn channel() -> impl Strategy<Value = Channel> {
    prop_oneof![
        1 => Just(Channel::Input),
        8 => Just(Channel::Output),
        8 => Just(Channel::Error),
    ]
}

fn message() -> impl Strategy<Value = FromGuest> {
    prop_oneof![
        Just(FromGuest::Started { pid: 1 }),
        Just(FromGuest::Exited(ExitStatus::Code(0))),
        Just(FromGuest::Reply(Reply::Pong)),
        (0usize..100_000).prop_map(|n| FromGuest::Failed(GuestError {
            code: ErrorCode::Os,
            message: "x".repeat(n),
        })),
    ]
}

fn frame() -> impl Strategy<Value = Frame> {
    let stream = prop_oneof![40 => 1u32..5, 1 => 0u32..7];
    prop_oneof![
        20 => (stream.clone(), channel(), prop_oneof![Just(1usize), 1usize..400_000])
            .prop_map(|(s, c, n)| Frame::Data(s, c, n)),
        2 => (stream.clone(), channel()).prop_map(|(s, c)| Frame::Eof(s, c)),
        2 => (stream.clone(), channel(), any::<u32>()).prop_map(|(s, c, n)| Frame::Credit(s, c, n)),
        1 => (stream, message()).prop_map(|(s, m)| Frame::Message(s, m)),
        1 => vec(any::<u8>(), 1..40).prop_map(Frame::Bytes),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a peer sends, and nobody takes: what is held stays below what the streams may cost.
    #[test]
    fn hostile_frames_keep_memory_under_a_bound(frames in vec(frame(), 1..200), abandon in 0u32..5) {
        let mut streams = opened([exec(), exec(), Request::Ping, Request::TarOut(TarOut { path: b"/".to_vec(), extent: Extent::Whole })]);
        streams.abandon(abandon);
        let mut bytes = Vec::new();
        for frame in frames {
            bytes.clear();
            frame.encode(&mut bytes);
            let outcome = receive(&mut streams, &bytes);
            prop_assert!(streams.held() <= 4 * PER_STREAM, "{} bytes", streams.held());
            if outcome.is_err() {
                break;
            }
        }
    }
}

/// The cheapest frames that a window allows: each must cost about what it carries.
#[test]
fn frames_of_one_byte_cost_no_more_than_a_few_windows() {
    let mut streams = opened([exec()]);
    let mut bytes = Vec::new();
    for _ in 0..WINDOW {
        encode_data(&mut bytes, 1, Channel::Output, &[1]);
        encode_data(&mut bytes, 1, Channel::Error, &[2]);
    }
    receive(&mut streams, &bytes).unwrap();
    assert!(
        streams.held() < 5 * WINDOW as usize,
        "{} bytes are held",
        streams.held()
    );
    let (mut output, mut error) = (0, 0);
    while let Some(incoming) = streams.take(1) {
        match incoming {
            Incoming::Data(Channel::Output, bytes) => output += bytes.len(),
            Incoming::Data(Channel::Error, bytes) => error += bytes.len(),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((output, error), (WINDOW as usize, WINDOW as usize));
}

#[test]
fn each_breach_is_named() {
    let failed = || {
        FromGuest::Failed(GuestError {
            code: ErrorCode::Os,
            message: String::new(),
        })
    };
    let (output, error, input) = (Channel::Output, Channel::Error, Channel::Input);
    let full = WINDOW as usize;
    // Stream 1 is a command, 2 a ping, 3 a tar to be unpacked; 100 bytes of input are under way on 1.
    let cases = [
        (
            vec![Frame::Eof(1, output), Frame::Eof(1, output)],
            Breach::AfterEof {
                stream: 1,
                channel: output,
            },
        ),
        (
            vec![Frame::Eof(1, error), Frame::Data(1, error, 1)],
            Breach::AfterEof {
                stream: 1,
                channel: error,
            },
        ),
        (
            vec![Frame::Message(1, failed()), Frame::Eof(1, output)],
            Breach::Ended { stream: 1 },
        ),
        (
            vec![
                Frame::Message(1, failed()),
                Frame::Message(1, FromGuest::Exited(ExitStatus::Code(0))),
            ],
            Breach::Ended { stream: 1 },
        ),
        (
            vec![Frame::Data(1, output, full), Frame::Data(1, output, 3)],
            Breach::Overrun {
                stream: 1,
                channel: output,
                over: 3,
            },
        ),
        (
            vec![Frame::Data(1, input, 1)],
            Breach::WrongWay { stream: 1 },
        ),
        (vec![Frame::Eof(1, input)], Breach::WrongWay { stream: 1 }),
        (
            vec![Frame::Credit(1, output, 1)],
            Breach::WrongWay { stream: 1 },
        ),
        (
            vec![Frame::Credit(1, input, 60), Frame::Credit(1, input, 41)],
            Breach::Credit {
                stream: 1,
                granted: 41,
                sent: 40,
            },
        ),
        (
            vec![Frame::Credit(1, input, 0)],
            Breach::Credit {
                stream: 1,
                granted: 0,
                sent: 100,
            },
        ),
        (
            vec![
                Frame::Message(1, FromGuest::Started { pid: 1 }),
                Frame::Message(1, FromGuest::Started { pid: 1 }),
            ],
            Breach::Unawaited { stream: 1 },
        ),
        (
            vec![Frame::Message(1, FromGuest::Reply(Reply::Pong))],
            Breach::Unawaited { stream: 1 },
        ),
        (
            vec![Frame::Message(2, FromGuest::Reply(Reply::Synced))],
            Breach::Unawaited { stream: 2 },
        ),
        (
            vec![Frame::Message(2, FromGuest::Started { pid: 1 })],
            Breach::Unawaited { stream: 2 },
        ),
        (
            vec![Frame::Data(2, output, 1)],
            Breach::Unawaited { stream: 2 },
        ),
        (
            vec![Frame::Data(3, output, 1)],
            Breach::Unawaited { stream: 3 },
        ),
        (
            vec![Frame::Eof(9, output)],
            Breach::NeverOpened { stream: 9 },
        ),
    ];
    for (frames, expected) in cases {
        let tar = Request::TarIn(TarIn {
            path: b"/".to_vec(),
            user: None,
        });
        let mut streams = opened([exec(), Request::Ping, tar]);
        streams.send(1, &[0; 100]).unwrap();
        drop(written(&mut streams));
        let (last, before) = frames.split_last().unwrap();
        let mut bytes = Vec::new();
        for frame in before {
            frame.encode(&mut bytes);
        }
        receive(&mut streams, &bytes).unwrap_or_else(|e| panic!("{before:?}: {e}"));
        bytes.clear();
        last.encode(&mut bytes);
        assert_eq!(receive(&mut streams, &bytes), Err(expected), "{frames:?}");
    }
}

#[test]
fn what_was_not_asked_yet_cannot_be_answered() {
    let mut streams = Streams::default();
    streams.open(Request::Ping, ()).unwrap();
    let mut bytes = Vec::new();
    encode_message(&mut bytes, 1, &FromGuest::Reply(Reply::Pong)).unwrap();
    let breach = receive(&mut streams, &bytes);
    assert_eq!(breach, Err(Breach::NeverOpened { stream: 1 }));
}

#[test]
fn after_the_end_of_a_stream_only_credit_may_come() {
    let mut streams = opened([exec()]);
    streams.send(1, &[0; 100]).unwrap();
    drop(written(&mut streams));
    let mut bytes = Vec::new();
    encode_message(&mut bytes, 1, &FromGuest::Exited(ExitStatus::Code(0))).unwrap();
    receive(&mut streams, &bytes).unwrap();
    assert!(streams.take(1).is_some());
    streams.abandon(1);
    let held = streams.held();
    bytes.clear();
    for _ in 0..100_000 {
        encode_credit(&mut bytes, 1, Channel::Input, 100);
    }
    receive(&mut streams, &bytes).unwrap();
    assert_eq!(streams.held(), held);
    bytes.clear();
    encode_eof(&mut bytes, 1, Channel::Output);
    assert_eq!(
        receive(&mut streams, &bytes),
        Err(Breach::Ended { stream: 1 })
    );
}

#[test]
fn a_stream_that_nobody_listens_to_is_cancelled_and_waited_for() {
    let mut streams = opened([exec()]);
    let empty = Streams::<()>::default().held();
    streams.send(1, &[0; 1000]).unwrap();
    streams.abandon(1);
    // The input that was not written yet is taken back.
    let mut cancel = Vec::new();
    encode_message(&mut cancel, 1, &ToGuest::Cancel).unwrap();
    assert_eq!(written(&mut streams), cancel);
    let mut bytes = Vec::new();
    encode_data(&mut bytes, 1, Channel::Output, &[0; 1000]);
    encode_eof(&mut bytes, 1, Channel::Output);
    receive(&mut streams, &bytes).unwrap();
    assert_eq!(streams.take(1), None);
    bytes.clear();
    encode_message(&mut bytes, 1, &FromGuest::Exited(ExitStatus::Code(0))).unwrap();
    receive(&mut streams, &bytes).unwrap();
    assert!(
        streams.held() < empty + 1024,
        "{} bytes are held",
        streams.held()
    );
}

#[test]
fn a_peer_that_does_not_read_costs_no_more_than_what_its_streams_may_hold() {
    let mut streams = opened([exec()]);
    for n in 0..1_000_000u32 {
        let size = WindowSize {
            rows: n as u16,
            columns: 1,
        };
        streams.send_message(1, ToGuest::Resize(size)).unwrap();
        streams.send_message(1, ToGuest::Signal(2)).unwrap();
    }
    let piece = [0; 1];
    for _ in 0..WINDOW {
        streams.send(1, &piece).unwrap();
    }
    assert_eq!(streams.send(1, &piece), Err(Misuse::Overrun { over: 1 }));
    streams.send_eof(1).unwrap();
    assert_eq!(streams.send_eof(1), Err(Misuse::AfterEof));
    let signals = (0..1000).map(|n| streams.send_message(1, ToGuest::Signal(n)));
    assert!(
        signals
            .into_iter()
            .any(|sent| sent == Err(Misuse::Messages))
    );
    assert!(
        streams.held() < 3 * WINDOW as usize,
        "{} bytes are held",
        streams.held()
    );
}

#[test]
fn no_more_can_be_granted_than_has_come() {
    let mut streams = opened([exec()]);
    let mut bytes = Vec::new();
    encode_data(&mut bytes, 1, Channel::Output, &[0; 100]);
    receive(&mut streams, &bytes).unwrap();
    streams.grant(1, Channel::Output, 60).unwrap();
    let misuse = streams.grant(1, Channel::Output, 41);
    assert_eq!(
        misuse,
        Err(Misuse::Grant {
            channel: Channel::Output,
            granted: 41,
            received: 40
        })
    );
    assert!(streams.grant(1, Channel::Input, 1).is_err());
    // Grants come together.
    streams.grant(1, Channel::Output, 40).unwrap();
    let mut expected = Vec::new();
    encode_credit(&mut expected, 1, Channel::Output, 100);
    assert_eq!(written(&mut streams), expected);
}

#[test]
fn no_more_streams_are_opened_than_are_served() {
    let mut streams = opened((0..MAX_STREAMS).map(|_| Request::Ping));
    assert_eq!(streams.open(Request::Ping, ()), Err(OpenError::Crowded));
    let mut bytes = Vec::new();
    encode_message(&mut bytes, 1, &FromGuest::Reply(Reply::Pong)).unwrap();
    receive(&mut streams, &bytes).unwrap();
    streams.abandon(1);
    streams.open(Request::Ping, ()).unwrap();
}

/// A guest that keeps to the protocol, and answers as an agent does.
#[derive(Default)]
struct Honest {
    decoder: Decoder<ToGuest>,
    streams: BTreeMap<u32, HonestStream>,
    out: Vec<u8>,
}

#[derive(Default)]
struct HonestStream {
    output: Window,
    error: Window,
    input: Credit,
    pending: usize,
    over: [bool; 2],
    sent: [usize; 2],
}

impl Honest {
    fn read(&mut self, mut bytes: &[u8]) {
        while let Some(event) = self.decoder.next(&mut bytes).unwrap() {
            match event {
                Event::Message {
                    stream,
                    message: ToGuest::Open(_),
                } => {
                    self.streams.insert(stream, HonestStream::default());
                    let started = FromGuest::Started { pid: stream };
                    encode_message(&mut self.out, stream, &started).unwrap();
                }
                Event::Message {
                    stream,
                    message: ToGuest::Cancel,
                } => {
                    if self.streams.remove(&stream).is_some() {
                        let failed = FromGuest::Failed(GuestError {
                            code: ErrorCode::Os,
                            message: "finish".into(),
                        });
                        encode_message(&mut self.out, stream, &failed).unwrap();
                    }
                }
                Event::Message { .. } | Event::Eof { .. } => {}
                Event::Data { stream, bytes, .. } => {
                    if let Some(s) = self.streams.get_mut(&stream) {
                        assert!(s.input.received(bytes.len()), "the host overran the window");
                        s.pending += bytes.len();
                    } else {
                        // As the agent does: whoever still sends must not be left waiting for room.
                        let n = bytes.len() as u32;
                        encode_credit(&mut self.out, stream, Channel::Input, n);
                    }
                }
                Event::Credit {
                    stream,
                    channel,
                    bytes,
                } => {
                    if let Some(s) = self.streams.get_mut(&stream) {
                        match channel {
                            Channel::Output => s.output.grant(bytes),
                            _ => s.error.grant(bytes),
                        }
                    }
                }
            }
        }
    }

    fn act(&mut self, stream: u32, what: u8, n: usize) {
        let Some(s) = self.streams.get_mut(&stream) else {
            return;
        };
        match what {
            0..=3 => {
                let which = usize::from(what % 2);
                let (window, channel) = match which {
                    0 => (&mut s.output, Channel::Output),
                    _ => (&mut s.error, Channel::Error),
                };
                let n = n.min(window.available());
                if n > 0 && !s.over[which] {
                    window.sent(n);
                    let from = s.sent[which];
                    let bytes: Vec<u8> = (from..from + n).map(|i| i as u8).collect();
                    s.sent[which] += n;
                    encode_data(&mut self.out, stream, channel, &bytes);
                }
            }
            4 | 5 => {
                let eaten = n.min(s.pending);
                s.pending -= eaten;
                if let Some(grant) = s.input.consumed(eaten) {
                    encode_credit(&mut self.out, stream, Channel::Input, grant);
                }
            }
            6 => {
                let which = n % 2;
                if !std::mem::replace(&mut s.over[which], true) {
                    let channel = [Channel::Output, Channel::Error][which];
                    encode_eof(&mut self.out, stream, channel);
                }
            }
            _ if n.is_multiple_of(8) => {
                self.streams.remove(&stream);
                let exited = FromGuest::Exited(ExitStatus::Code(0));
                encode_message(&mut self.out, stream, &exited).unwrap();
            }
            _ => {}
        }
    }
}

/// The host's side, with what a listener sees.
#[derive(Default)]
struct Listener {
    window: Window,
    credits: [Credit; 2],
    seen: [usize; 2],
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A guest that keeps to the protocol is never refused, whatever is under way when a stream ends or is given up; and
    /// all that it sends arrives, channel by channel, in order.
    #[test]
    fn an_honest_peer_is_never_refused(
        steps in vec((0u8..12, 1u32..5, 0u8..9, 0usize..700_000, 1usize..100_000), 1..150),
    ) {
        let mut streams = Streams::<()>::default();
        let mut guest = Honest::default();
        let mut listeners = BTreeMap::<u32, Listener>::new();
        let mut wire = VecDeque::<u8>::new();
        for (step, stream, what, n, cut) in steps {
            match step {
                0 | 1 if listeners.len() < 4 => {
                    let id = streams.open(exec(), ()).unwrap();
                    listeners.insert(id, Listener::default());
                }
                2 => {
                    let mut out = Vec::new();
                    streams.write(&mut out);
                    guest.read(&out);
                }
                3 | 4 => {
                    let all: Vec<u8> = wire.drain(..cut.min(wire.len())).collect();
                    let received = receive(&mut streams, &all);
                    prop_assert_eq!(received, Ok(()));
                }
                5 => {
                    let nth = listeners.keys().copied().nth(stream as usize - 1);
                    if let Some(id) = nth && let Some(listener) = listeners.get_mut(&id) {
                        let n = n.min(listener.window.available());
                        listener.window.sent(n);
                        streams.send(id, &vec![3; n]).unwrap();
                    }
                }
                6 if n % 5 == 0 => {
                    if let Some(id) = listeners.keys().copied().nth(stream as usize - 1) {
                        streams.abandon(id);
                        listeners.remove(&id);
                    }
                }
                7 | 8 => {
                    let nth = listeners.keys().copied().nth(stream as usize - 1);
                    let Some(id) = nth else { continue };
                    let listener = listeners.get_mut(&id).unwrap();
                    match streams.take(id) {
                        Some(Incoming::Data(channel, bytes)) => {
                            let which = usize::from(channel == Channel::Error);
                            for byte in &bytes {
                                prop_assert_eq!(*byte, listener.seen[which] as u8);
                                listener.seen[which] += 1;
                            }
                            prop_assert!(listener.credits[which].received(bytes.len()));
                            if let Some(grant) = listener.credits[which].consumed(bytes.len()) {
                                streams.grant(id, channel, grant).unwrap();
                            }
                        }
                        Some(Incoming::Credit(n)) => listener.window.grant(n),
                        Some(Incoming::Message(FromGuest::Exited(_) | FromGuest::Failed(_))) => {
                            streams.abandon(id);
                            listeners.remove(&id);
                        }
                        _ => {}
                    }
                }
                _ => {
                    let nth = guest.streams.keys().copied().nth(stream as usize - 1);
                    if let Some(id) = nth {
                        guest.act(id, what, n);
                    }
                }
            }
            wire.extend(guest.out.drain(..));
        }
        let all: Vec<u8> = wire.drain(..).collect();
        prop_assert_eq!(receive(&mut streams, &all), Ok(()));
    }
}
