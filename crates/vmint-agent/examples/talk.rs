//! A host in a few lines: talks to the agent of one machine over its socket, to try things by hand.
//!
//! ```text
//! talk SOCKET info | ping | sync | shutdown | prepare NAME
//! talk SOCKET exec [-i] [-t] [-u USER] [-w DIR] [--timeout MS] -- CMD ARG...
//! talk SOCKET in DIR < TAR     talk SOCKET out PATH > TAR
//! talk SOCKET time N -- CMD ARG...
//! ```

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Instant, SystemTime};
use vmint_protocol::{
    Channel, Credit, Decoder, Event, ExecSpec, ExitStatus, Extent, FromGuest, Hello, NetworkConfig,
    PROTOCOL_VERSION, Prepare, Request, SshHostKey, TarIn, TarOut, ToGuest, Welcome, Window,
    WindowSize, encode_credit, encode_data, encode_eof, encode_message,
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

struct Talk {
    port: UnixStream,
    decoder: Decoder<FromGuest>,
    rest: Vec<u8>,
    next: u32,
}

impl Talk {
    fn connect(path: &str) -> Result<Self> {
        let port = UnixStream::connect(path)?;
        let mut nonce = [0; 16];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut nonce)?;
        (&port).write_all(
            &Hello {
                version: PROTOCOL_VERSION,
                nonce,
            }
            .encode(),
        )?;
        let mut seen = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let n = (&port).read(&mut buffer)?;
            if n == 0 {
                return Err("the machine hung up".into());
            }
            seen.extend_from_slice(&buffer[..n]);
            if let Some((welcome, end)) = Welcome::find(&seen, nonce) {
                if welcome.version != PROTOCOL_VERSION {
                    return Err(format!("the agent speaks version {}", welcome.version).into());
                }
                return Ok(Self {
                    port,
                    decoder: Decoder::default(),
                    rest: seen.split_off(end),
                    next: 1,
                });
            }
        }
    }

    /// Opens a stream, feeds it from `input`, hands its output to `output`, and returns its last message.
    fn request(
        &mut self,
        request: Request,
        mut input: Option<&mut dyn Read>,
        mut output: impl FnMut(Channel, &[u8]),
    ) -> Result<FromGuest> {
        let stream = self.next;
        self.next += 1;
        let mut out = Vec::new();
        encode_message(&mut out, stream, &ToGuest::Open(request))?;
        let mut window = Window::default();
        let mut credits = [Credit::default(), Credit::default(), Credit::default()];
        let mut buffer = vec![0; 256 << 10];
        loop {
            while let Some(from) = &mut input
                && window.available() > 0
                && out.len() < 1 << 20
            {
                let room = buffer.len().min(window.available());
                let n = from.read(&mut buffer[..room])?;
                window.sent(n);
                encode_data(&mut out, stream, Channel::Input, &buffer[..n]);
                if n == 0 {
                    encode_eof(&mut out, stream, Channel::Input);
                    input = None;
                }
            }
            self.port.write_all(&out)?;
            out.clear();
            if self.rest.is_empty() {
                let n = self.port.read(&mut buffer)?;
                if n == 0 {
                    return Err("the machine hung up".into());
                }
                self.rest.extend_from_slice(&buffer[..n]);
            }
            let rest = std::mem::take(&mut self.rest);
            let mut bytes = &rest[..];
            while let Some(event) = self.decoder.next(&mut bytes)? {
                match event {
                    Event::Data {
                        stream: s,
                        channel,
                        bytes,
                    } if s == stream => {
                        let credit = &mut credits[channel as usize];
                        if !credit.received(bytes.len()) {
                            return Err("the guest overran its window".into());
                        }
                        output(channel, bytes);
                        if let Some(n) = credit.consumed(bytes.len()) {
                            encode_credit(&mut out, stream, channel, n);
                        }
                    }
                    Event::Credit {
                        stream: s, bytes, ..
                    } if s == stream => window.grant(bytes),
                    Event::Message {
                        message: FromGuest::Started { .. },
                        ..
                    } => {}
                    Event::Message { stream: s, message } if s == stream => {
                        self.rest = bytes.to_vec();
                        return Ok(message);
                    }
                    _ => {}
                }
            }
        }
    }
}

fn exec_spec(args: &mut impl Iterator<Item = String>) -> Result<ExecSpec> {
    let mut spec = ExecSpec::default();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or("a value is missing");
        match arg.as_str() {
            "-i" => spec.stdin = true,
            "-t" => {
                spec.terminal = Some(WindowSize {
                    rows: 24,
                    columns: 80,
                });
            }
            "-u" => spec.user = Some(value()?),
            "-w" => spec.cwd = Some(value()?.into_bytes()),
            "--timeout" => spec.timeout_ms = Some(value()?.parse()?),
            "--" => break,
            _ => return Err(format!("unknown argument {arg}").into()),
        }
    }
    spec.argv = args.map(String::into_bytes).collect();
    Ok(spec)
}

fn prepare(name: String) -> Result<Prepare> {
    let mut seed = vec![0; 64];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut seed)?;
    let mut machine_id = [0; 16];
    machine_id.copy_from_slice(&seed[..16]);
    Ok(Prepare {
        hostname: name,
        machine_id,
        network: std::env::var_os("NET").map(|_| NetworkConfig {
            mac: [0x52, 0x54, 0, seed[1], seed[2], seed[3]],
            address: [10, 0, 2, 15],
            prefix: 24,
            gateway: [10, 0, 2, 2],
            dns: [10, 0, 2, 3],
        }),
        seed,
        realtime_ns: SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)?
            .as_nanos() as u64,
        generation: 1,
        ssh_host_keys: vec![SshHostKey {
            algorithm: "ed25519".into(),
            private: "priv\n".into(),
            public: "pub\n".into(),
        }],
    })
}

fn print(channel: Channel, bytes: &[u8]) {
    // Whoever reads this has gone; the machine need not know.
    let _ = match channel {
        Channel::Error => std::io::stderr().write_all(bytes),
        _ => std::io::stdout().write_all(bytes),
    };
}

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let mut talk = Talk::connect(&args.next().ok_or("no socket")?)?;
    let mut stdin = std::io::stdin();
    let command = args.next().unwrap_or_default();
    let ended = match command.as_str() {
        "ping" => talk.request(Request::Ping, None, print)?,
        "info" => talk.request(Request::Info, None, print)?,
        "sync" => talk.request(Request::Sync, None, print)?,
        "shutdown" => talk.request(Request::Shutdown, None, print)?,
        "prepare" => {
            let spec = prepare(args.next().ok_or("no name")?)?;
            let since = Instant::now();
            let ended = talk.request(Request::Prepare(Box::new(spec)), None, print)?;
            eprintln!("{:?}", since.elapsed());
            ended
        }
        "exec" => {
            let spec = exec_spec(&mut args)?;
            let input: Option<&mut dyn Read> = if spec.stdin { Some(&mut stdin) } else { None };
            talk.request(Request::Exec(Box::new(spec)), input, print)?
        }
        "time" => {
            let count: usize = args.next().ok_or("no count")?.parse()?;
            let spec = exec_spec(&mut args)?;
            let (mut times, mut total) = (Vec::new(), 0);
            for _ in 0..count {
                let since = Instant::now();
                talk.request(Request::Exec(Box::new(spec.clone())), None, |_, b| {
                    total += b.len();
                })?;
                times.push(since.elapsed());
            }
            let first = times[0];
            let sum: f64 = times.iter().map(std::time::Duration::as_secs_f64).sum();
            times.sort();
            println!(
                "first {first:?} p50 {:?} max {:?}",
                times[count / 2],
                times[count - 1]
            );
            if total > 1 << 20 {
                println!("{:.1} MB/s", total as f64 / 1e6 / sum);
            }
            return Ok(());
        }
        "in" => {
            let spec = TarIn {
                path: args.next().ok_or("no folder")?.into_bytes(),
                user: None,
            };
            let since = Instant::now();
            let ended = talk.request(Request::TarIn(spec), Some(&mut stdin), print)?;
            eprintln!("{:?}", since.elapsed());
            ended
        }
        "out" => {
            let spec = TarOut {
                path: args.next().ok_or("no path")?.into_bytes(),
                extent: Extent::Whole,
            };
            let since = Instant::now();
            let ended = talk.request(Request::TarOut(spec), None, print)?;
            eprintln!("{:?}", since.elapsed());
            ended
        }
        _ => return Err("info, ping, sync, shutdown, prepare, exec, time, in or out?".into()),
    };
    eprintln!("{ended:?}");
    std::process::exit(match ended {
        FromGuest::Exited(ExitStatus::Code(code)) => i32::from(code),
        FromGuest::Failed(_) => 125,
        _ => 0,
    })
}
