//! From the port to requests: preambles, frames, and what each asks for.

use crate::agent::{Agent, Link, Work};
use crate::exec::failure;
use crate::pack::Pack;
use crate::port::Inbox;
use crate::sys::{self, Forked};
use crate::unpack::Unpack;
use crate::{console, info, prepare};
use rustix::io::Result;
use std::ops::Range;
use vmint_protocol::{
    Channel, Decoder, ErrorCode, Event, FromGuest, GuestError, Hello, MAX_DATA, PREAMBLE_LEN,
    PROTOCOL_VERSION, Prepare, Reply, Request, ToGuest, Welcome, encode_credit,
};

/// Streams at once.
const MAX_STREAMS: usize = 1024;
const _: () = assert!(MAX_DATA <= u32::MAX as usize);

impl Agent {
    /// Reads the port once and does what it says.
    pub(crate) fn receive(&mut self) -> Result<()> {
        let range = self.inbox.fill(&mut self.port)?;
        if range.is_empty() {
            return Ok(());
        }
        // Taken out, so that frames can be handled in place while everything else of the agent changes.
        let mut inbox = std::mem::take(&mut self.inbox);
        let taken = self.take_in(&mut inbox, range);
        self.inbox = inbox;
        taken
    }

    /// The rest of a `Hello` did not come.
    pub(crate) fn release_held(&mut self) -> Result<()> {
        let mut inbox = std::mem::take(&mut self.inbox);
        let range = inbox.release();
        let taken = self.frames(inbox.get(range));
        self.inbox = inbox;
        taken
    }

    fn take_in(&mut self, inbox: &mut Inbox, range: Range<usize>) -> Result<()> {
        let mut from = range.start;
        for start in Inbox::read_starts(&range) {
            let bytes = inbox.get(start..range.end);
            if start < from || !Hello::begins(bytes) {
                continue;
            }
            self.frames(inbox.get(from..start))?;
            if let Some(hello) = Hello::decode(bytes) {
                self.start_session(hello);
                from = start + PREAMBLE_LEN;
            } else {
                inbox.hold(start, range.end);
                return Ok(());
            }
        }
        self.frames(inbox.get(from..range.end))
    }

    fn start_session(&mut self, hello: Hello) {
        self.end_session();
        let welcome = Welcome {
            version: PROTOCOL_VERSION,
            nonce: hello.nonce,
        };
        self.out.tail().extend_from_slice(&welcome.encode());
        // To a host of another version nothing more is said; it knows from the answer.
        if hello.version == PROTOCOL_VERSION {
            self.link = Link::Up(Decoder::default());
        }
    }

    /// Forgets the host. What it started goes on: a fork of a running machine must not differ in what it runs.
    pub(crate) fn end_session(&mut self) {
        self.link = Link::Down;
        // Without a new lane the old one's bytes would follow the next header; then there is no going on.
        if let Err(e) = self.out.clear() {
            console::fatal(&format!("cannot start a new session: {e}"));
        }
        let ids: Vec<u64> = self.units.keys().copied().collect();
        for id in ids {
            self.detach(id);
        }
    }

    fn frames(&mut self, mut bytes: &[u8]) -> Result<()> {
        while let Link::Up(decoder) = &mut self.link {
            match decoder.next(&mut bytes) {
                Ok(None) => break,
                Ok(Some(Event::Data {
                    stream,
                    channel,
                    bytes,
                })) => self.data(stream, channel, bytes),
                Ok(Some(Event::Eof { stream, channel })) => self.eof(stream, channel),
                Ok(Some(Event::Credit {
                    stream,
                    channel,
                    bytes,
                })) => self.credit(stream, channel, bytes),
                Ok(Some(Event::Message { stream, message })) => self.message(stream, message)?,
                Err(error) => {
                    console::say(&format!(
                        "the host sent something that is not a frame ({error}); waiting for a new session"
                    ));
                    self.end_session();
                }
            }
        }
        Ok(())
    }

    fn data(&mut self, stream: u32, channel: Channel, bytes: &[u8]) {
        let unit = self
            .streams
            .get(&stream)
            .and_then(|id| Some((*id, self.units.get_mut(id)?)));
        let grant = match unit {
            Some((id, unit)) if channel == Channel::Input => match &mut unit.work {
                Work::Exec(exec) => match exec.sink.as_mut().map(|sink| sink.push(bytes)) {
                    Some(Ok(grant)) => {
                        self.watch_if_pending(id);
                        grant
                    }
                    Some(Err(_)) => {
                        let error =
                            failure(ErrorCode::Invalid, "take more input than it has granted");
                        return self.fail(id, error);
                    }
                    None => Some(bytes.len() as u32),
                },
                Work::Unpack(unpack) => match unpack.push(bytes) {
                    Ok(grant) => grant,
                    Err(error) => {
                        self.fail(id, error);
                        Some(bytes.len() as u32)
                    }
                },
                Work::Pack(_) | Work::Flush(_) => Some(bytes.len() as u32),
            },
            // A stream that has ended: whoever still sends must not be left waiting for room.
            _ => Some(bytes.len() as u32),
        };
        self.grant(stream, channel, grant);
    }

    fn grant(&mut self, stream: u32, channel: Channel, grant: Option<u32>) {
        if let Some(bytes) = grant {
            encode_credit(self.out.tail(), stream, channel, bytes);
        }
    }

    fn watch_if_pending(&mut self, id: u64) {
        let Some(Work::Exec(exec)) = self.units.get(&id).map(|u| &u.work) else {
            return;
        };
        let Some(fd) = exec.sink.as_ref().and_then(crate::sink::Sink::unwatched) else {
            return;
        };
        self.watch_sink(fd, id);
        if let Some(Work::Exec(exec)) = self.units.get_mut(&id).map(|u| &mut u.work)
            && let Some(sink) = &mut exec.sink
        {
            sink.watched = true;
        }
    }

    /// A process has made room in its standard input.
    pub(crate) fn drain_sink(&mut self, id: u64) {
        let Some(unit) = self.units.get_mut(&id) else {
            return;
        };
        let stream = unit.stream;
        if let Work::Exec(exec) = &mut unit.work
            && let Some(sink) = &mut exec.sink
            && let Some(bytes) = sink.drain()
            && let Some(stream) = stream
        {
            self.grant(stream, Channel::Input, Some(bytes));
        }
    }

    fn eof(&mut self, stream: u32, channel: Channel) {
        let Some(&id) = self.streams.get(&stream) else {
            return;
        };
        let Some(unit) = self
            .units
            .get_mut(&id)
            .filter(|_| channel == Channel::Input)
        else {
            return;
        };
        match &mut unit.work {
            Work::Exec(exec) => {
                if let Some(sink) = &mut exec.sink {
                    sink.end();
                }
            }
            Work::Unpack(unpack) => match unpack.finish() {
                Ok(partly) => {
                    let reply = if partly.left_out.is_empty() {
                        Reply::Unpacked(partly.sent)
                    } else {
                        Reply::Partly(Box::new(partly))
                    };
                    self.say(stream, &FromGuest::Reply(reply));
                    self.detach(id);
                }
                Err(error) => self.fail(id, error),
            },
            Work::Pack(_) | Work::Flush(_) => {}
        }
    }

    fn credit(&mut self, stream: u32, channel: Channel, bytes: u32) {
        let Some(&id) = self.streams.get(&stream) else {
            return;
        };
        let Some(unit) = self.units.get_mut(&id) else {
            return;
        };
        if let Some(index) = unit.sources().iter().position(|s| s.channel() == channel) {
            unit.sources()[index].window.grant(bytes);
            self.enqueue(id, index);
        }
    }

    fn message(&mut self, stream: u32, message: ToGuest) -> Result<()> {
        let id = self.streams.get(&stream).copied();
        match (message, id) {
            (ToGuest::Open(request), None) => return self.open(stream, request),
            (ToGuest::Open(_), Some(id)) => {
                self.fail(
                    id,
                    failure(ErrorCode::Invalid, "open a stream that is open"),
                );
            }
            (ToGuest::Cancel, Some(id)) => self.cancel(id),
            (ToGuest::Signal(signal), Some(id)) => {
                if let Some(Work::Exec(exec)) = self.units.get(&id).map(|u| &u.work) {
                    exec.signal(signal);
                }
            }
            (ToGuest::Resize(size), Some(id)) => {
                if let Some(Work::Exec(exec)) = self.units.get(&id).map(|u| &u.work) {
                    exec.resize(size);
                }
            }
            // The stream ended while this was on its way.
            (ToGuest::Cancel | ToGuest::Signal(_) | ToGuest::Resize(_), None) => {}
        }
        Ok(())
    }

    fn cancel(&mut self, id: u64) {
        self.fail(id, failure(ErrorCode::Os, "finish: it was cancelled"));
    }

    fn open(&mut self, stream: u32, request: Request) -> Result<()> {
        if self.streams.len() >= MAX_STREAMS {
            self.refuse(
                stream,
                failure(
                    ErrorCode::Invalid,
                    format_args!("serve more than {MAX_STREAMS} streams at once"),
                ),
            );
            return Ok(());
        }
        let starts_process = matches!(
            request,
            Request::Exec(_) | Request::TarOut(_) | Request::Sync
        );
        if self.handover.is_some() && starts_process {
            // Its parent would be the init, which knows nothing of it.
            let error = failure(
                ErrorCode::Invalid,
                "start a process before the machine is prepared and its init runs",
            );
            self.refuse(stream, error);
            return Ok(());
        }
        let reply = match request {
            Request::Ping => Reply::Pong,
            Request::Prepare(prepare) => match prepare::apply(&prepare, self.prepared.as_deref()) {
                Ok(cut_off) => {
                    // Its random numbers were for once.
                    let seed = Vec::new();
                    self.prepared = Some(Box::new(Prepare { seed, ..*prepare }));
                    self.note_connections_of(&cut_off);
                    self.say(stream, &FromGuest::Reply(Reply::Prepared));
                    return self.hand_over();
                }
                Err(error) => {
                    self.refuse(stream, error);
                    return Ok(());
                }
            },
            Request::SetClock(realtime_ns) => match prepare::catch_up(realtime_ns) {
                Ok(()) => Reply::ClockSet,
                Err(e) => {
                    self.refuse(
                        stream,
                        failure(ErrorCode::Os, format_args!("set its clock: {e}")),
                    );
                    return Ok(());
                }
            },
            Request::Info => Reply::Info(Box::new(info::gather(self.role))),
            Request::Shutdown => {
                self.shutting_down = true;
                Reply::ShuttingDown
            }
            Request::Exec(spec) => {
                match self.start(&spec) {
                    Ok(exec) => {
                        let pid = exec.pid as u32;
                        self.adopt(stream, Work::Exec(Box::new(exec)));
                        self.say(stream, &FromGuest::Started { pid });
                    }
                    Err(error) => self.refuse(stream, error),
                }
                return Ok(());
            }
            Request::TarIn(spec) => {
                match Unpack::start(&spec) {
                    Ok(unpack) => drop(self.adopt(stream, Work::Unpack(Box::new(unpack)))),
                    Err(error) => self.refuse(stream, error),
                }
                return Ok(());
            }
            Request::TarOut(spec) => {
                match Pack::start(&spec) {
                    Ok(pack) => drop(self.adopt(stream, Work::Pack(pack))),
                    Err(error) => self.refuse(stream, error),
                }
                return Ok(());
            }
            Request::Sync => {
                match sys::fork() {
                    Ok(Forked::Child) => {
                        rustix::fs::sync();
                        sys::exit(0)
                    }
                    Ok(Forked::Parent(pid)) => drop(self.adopt(stream, Work::Flush(pid))),
                    Err(e) => self.refuse(stream, crate::exec::os("create a process", e)),
                }
                return Ok(());
            }
        };
        self.say(stream, &FromGuest::Reply(reply));
        Ok(())
    }

    fn refuse(&mut self, stream: u32, error: GuestError) {
        self.say(stream, &FromGuest::Failed(error));
    }
}
