//! What a host holds of a session, against a guest that sends anything, and a host's own side that does anything: never a
//! panic, and never more memory than the streams may cost.
//!
//! The input is a list of commands. Frames of the guest's are made from it as well as raw bytes, for random bytes alone
//! are seldom a frame.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vmint_protocol::host::Streams;
use vmint_protocol::{
    Channel, ErrorCode, ExitStatus, Extent, FromGuest, GuestError, Header, Kind, Reply, Request, TarIn,
    TarOut, ToGuest, WINDOW, WindowSize, encode_message,
};

const STREAMS: usize = 8;
const PER_STREAM: usize = 2 * 2 * WINDOW as usize + 2 * WINDOW as usize + (2 << 20) + (64 << 10);

fuzz_target!(|input: &[u8]| {
    let mut input = input;
    let mut streams = Streams::<()>::default();
    let mut opened = 0;
    while let Some(command) = byte(&mut input) {
        let stream = u32::from(byte(&mut input).unwrap_or(1) % 10);
        let n = number(&mut input);
        let mut wire = Vec::new();
        match command % 16 {
            0 | 1 if opened < STREAMS => {
                let request = match n % 6 {
                    0 => Request::Ping,
                    1 => Request::TarIn(TarIn {
                        path: b"/".to_vec(),
                        user: None,
                    }),
                    2 => Request::TarOut(TarOut {
                        extent: Extent::Whole,
                        path: b"/".to_vec(),
                    }),
                    3 => Request::Info,
                    _ => Request::Exec(Box::default()),
                };
                opened += usize::from(streams.open(request, ()).is_ok());
            }
            2 | 3 => streams.write(&mut Vec::new()),
            4 => drop(streams.take(stream)),
            5 => streams.abandon(stream),
            6 => drop(streams.send(stream, &vec![0; n as usize % 300_000])),
            7 => drop(streams.send_eof(stream)),
            8 => drop(streams.grant(stream, channel(n), n >> 2)),
            9 => {
                let message = match n % 3 {
                    0 => ToGuest::Cancel,
                    1 => ToGuest::Signal(n as i32),
                    _ => ToGuest::Resize(WindowSize {
                        rows: n as u16,
                        columns: 1,
                    }),
                };
                drop(streams.send_message(stream, message));
            }
            10 => {
                let len = n % 300_000;
                wire.extend_from_slice(&header(stream, Kind::Data, n, len));
                wire.resize(wire.len() + len as usize, 1);
            }
            11 => wire.extend_from_slice(&header(stream, Kind::Eof, n, 0)),
            12 => {
                wire.extend_from_slice(&header(stream, Kind::Credit, n, 4));
                wire.extend_from_slice(&(n >> 2).to_le_bytes());
            }
            13 => {
                let message = match n % 6 {
                    0 => FromGuest::Started { pid: n },
                    1 => FromGuest::Exited(ExitStatus::Code(0)),
                    2 => FromGuest::Reply(Reply::Pong),
                    3 => FromGuest::Reply(Reply::Unpacked(vmint_protocol::Sent::default())),
                    4 => FromGuest::Reply(Reply::Packed(vmint_protocol::Sent::default())),
                    _ => FromGuest::Failed(GuestError {
                        code: ErrorCode::Os,
                        message: "x".repeat(n as usize % 100_000),
                    }),
                };
                encode_message(&mut wire, stream, &message).expect("it is small");
            }
            _ => {
                let (bytes, rest) = input.split_at(input.len().min(n as usize % 64));
                wire.extend_from_slice(bytes);
                input = rest;
            }
        }
        if streams.receive(&wire, |()| {}).is_err() {
            return;
        }
        assert!(streams.held() <= STREAMS * PER_STREAM);
    }
});

fn header(stream: u32, kind: Kind, n: u32, len: u32) -> [u8; vmint_protocol::HEADER_LEN] {
    let channel = channel(n);
    Header {
        stream,
        kind,
        channel,
        len,
    }
    .encode()
}

fn channel(n: u32) -> Channel {
    match n % 4 {
        0 => Channel::Input,
        1 => Channel::Error,
        _ => Channel::Output,
    }
}

fn byte(input: &mut &[u8]) -> Option<u8> {
    let (first, rest) = input.split_first()?;
    *input = rest;
    Some(*first)
}

fn number(input: &mut &[u8]) -> u32 {
    (0..3).fold(0, |n, _| n << 8 | u32::from(byte(input).unwrap_or(0)))
}
