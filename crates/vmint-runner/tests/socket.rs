//! The runner's socket, before a machine that a test plays: what is served, what is refused, and what reaches the queue.

use bytes::BytesMut;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use vmint_model::{
    Accelerator, ByteSize, ErrorKind, ExecDefaults, Fault, Generation, Home, Limits, MachineId,
    MachineRecord, MachineSpec, MachineState, NetMode, Origin,
};
use vmint_protocol::{FromGuest, Reply, Request, encode_message};
use vmint_runner::machine::{Ask, Asked};
use vmint_runner::server::{Requests, serve};
use vmint_runner::trace::TraceId;
use vmint_runner::view::View;
use vmint_runner::{Client, Session, api};

const SOON: Duration = Duration::from_secs(60);

fn record(state: MachineState) -> MachineRecord {
    MachineRecord {
        generation: Generation(3),
        accelerator: Some(Accelerator::Tcg),
        ..MachineRecord::new(
            MachineId::random(),
            "web".parse().unwrap(),
            state,
            MachineSpec {
                image: "tiny".into(),
                memory: ByteSize::mib(128),
                cpus: 1,
                net: NetMode::None,
                publish: Vec::new(),
                limits: Limits::default(),
                origin: Origin::Template,
                disk_cache: None,
                defaults: ExecDefaults::default(),
            },
        )
    }
}

/// A socket, what is shown on it, and the queue behind it.
struct Place {
    view: View,
    record: MachineRecord,
    queue: mpsc::Receiver<Asked>,
    requests: Requests,
    client: Client,
    socket: PathBuf,
    _folder: tempfile::TempDir,
}

impl Place {
    fn new(state: MachineState) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let record = record(state);
        let dir = Home::new(folder.path(), folder.path()).machine(&record.id);
        let socket = dir.socket().to_owned();
        let listener = UnixListener::bind(&socket).unwrap();
        let (view, requests) = (View::new(record.clone()), Requests::new());
        let (asks, queue) = mpsc::channel(16);
        tokio::spawn(serve(listener, view.clone(), asks, &requests));
        Self {
            view,
            record,
            queue,
            requests,
            client: Client::new(&dir),
            socket,
            _folder: folder,
        }
    }

    fn show(&self, state: MachineState, session: Option<Session>) {
        let record = MachineRecord {
            state,
            ..self.record.clone()
        };
        self.view.set(record, session);
    }

    /// What another program than vmint may send, and what it is answered.
    async fn raw(&self, request: &str) -> String {
        let mut stream = UnixStream::connect(&self.socket).await.unwrap();
        // A request that is too large is hung up on.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        let _ = tokio::time::timeout(SOON, read).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }
}

/// Serves what is in a queue; gives back what that was, when a stop has come.
fn play(mut queue: mpsc::Receiver<Asked>) -> JoinHandle<Vec<&'static str>> {
    tokio::spawn(async move {
        let mut seen = Vec::new();
        while let Some(Asked { ask, .. }) = queue.recv().await {
            match ask {
                Ask::Pause(answer) => {
                    seen.push("pause");
                    let _ = answer.send(Ok(()));
                }
                Ask::Resume(answer) => {
                    seen.push("resume");
                    let _ = answer.send(Err(Fault::new(ErrorKind::Hypervisor, "it is gone")));
                }
                Ask::Qmp(command, answer) => {
                    seen.push("qmp");
                    let _ = answer.send(Ok(command.arguments));
                }
                Ask::Stop(stop, answer) => {
                    seen.push("stop");
                    let forced = stop.force;
                    let _ = answer.send(Ok(api::Stopped { forced }));
                    break;
                }
                _ => seen.push("another"),
            }
        }
        seen
    })
}

fn stop() -> api::Stop {
    api::Stop {
        force: true,
        timeout_ms: 1000,
        remove: false,
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
}

fn post(path: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n{body}"
    )
}

#[tokio::test]
async fn a_machine_says_what_it_is_in_every_state() {
    let place = Place::new(MachineState::Starting);
    for state in [
        MachineState::Starting,
        MachineState::Running,
        MachineState::Paused,
        MachineState::Stopping,
        MachineState::Stopped,
        MachineState::Removing,
    ] {
        place.show(state, None);
        let pong = place.client.ping().await.unwrap();
        assert_eq!((&pong.machine, pong.generation.0), (&place.record.id, 3));
        assert_eq!(pong.pid, std::process::id());
        let answer = place.raw(&get("/v1/machine")).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let expected = format!(r#""state":"{state}""#);
        assert!(answer.contains(&expected), "{answer}");
    }
}

#[tokio::test]
async fn another_generation_is_refused_whatever_is_asked_and_nothing_reaches_the_queue() {
    let place = Place::new(MachineState::Running);
    let stale = place.client.clone().with_generation(Generation(2));
    let refused = |what: &str, fault: Fault| {
        assert_eq!(fault.kind, ErrorKind::StaleGeneration, "{what}: {fault}");
        assert_eq!(fault.message, "machine web is at generation 3, not 2");
    };
    let (from, snapshot) = (None, None);
    let reset = api::Reset { from, snapshot };
    let snapshot = api::Snapshot {
        folder: "/nowhere".into(),
        full: false,
    };
    refused("ping", stale.ping().await.unwrap_err());
    refused("stop", stale.stop(&stop()).await.unwrap_err());
    refused("pause", stale.pause().await.unwrap_err());
    refused("resume", stale.resume().await.unwrap_err());
    refused("check", stale.check(Accelerator::Kvm).await.unwrap_err());
    refused("session", stale.session().await.unwrap_err());
    refused("reset", stale.reset(&reset).await.unwrap_err());
    refused("snapshot", stale.snapshot(&snapshot).await.unwrap_err());
    // Nor does it wait for a machine that comes up.
    place.show(MachineState::Starting, None);
    refused("session", stale.session().await.unwrap_err());
    let right = place.client.clone().with_generation(Generation(3));
    let seen = play(place.queue);
    right.stop(&stop()).await.unwrap();
    assert_eq!(seen.await.unwrap(), ["stop"]);
}

#[tokio::test]
async fn requests_go_through_the_queue_and_answers_come_back_as_they_are() {
    let place = Place::new(MachineState::Running);
    let (client, seen) = (place.client.clone(), play(place.queue));
    client.pause().await.unwrap();
    let fault = client.resume().await.unwrap_err();
    assert_eq!(fault, Fault::new(ErrorKind::Hypervisor, "it is gone"));
    let command = api::Qmp {
        command: "x".into(),
        arguments: serde_json::json!({"a": [1, "ü"]}),
    };
    let answer = client.qmp(&command).await.unwrap();
    assert_eq!(answer, command.arguments);
    assert!(client.stop(&stop()).await.unwrap().forced);
    assert_eq!(seen.await.unwrap(), ["pause", "resume", "qmp", "stop"]);
    // Nobody takes anything from the queue any more.
    let fault = client.pause().await.unwrap_err();
    assert_eq!(fault.kind, ErrorKind::MachineLost, "{fault}");
}

#[tokio::test]
async fn a_stream_waits_for_a_machine_that_comes_up_and_leads_to_its_guest() {
    let place = Place::new(MachineState::Starting);
    let client = place.client.clone();
    let waiting = tokio::spawn(async move { client.session().await });
    // A request that was sent after it is answered, and it is not.
    place.client.ping().await.unwrap();
    assert!(!waiting.is_finished());
    let (ours, mut guest) = tokio::io::duplex(1 << 16);
    let session = Session::start(ours, BytesMut::new());
    place.show(MachineState::Running, Some(session));
    let opened = tokio::time::timeout(SOON, waiting).await.unwrap();
    let opened = opened.unwrap().unwrap();
    tokio::spawn(async move {
        let mut request = [0; 1024];
        let _n = guest.read(&mut request).await.unwrap();
        let mut out = Vec::new();
        encode_message(&mut out, 1, &FromGuest::Reply(Reply::Pong)).unwrap();
        guest.write_all(&out).await.unwrap();
        while guest.read(&mut request).await.unwrap_or(0) > 0 {}
    });
    let answer = opened.call(Request::Ping, "answer", SOON).await.unwrap();
    assert_eq!(answer, Reply::Pong);
}

#[tokio::test]
async fn a_machine_that_does_not_run_refuses_streams_and_says_why() {
    let place = Place::new(MachineState::Running);
    for (state, message, hint) in [
        (
            MachineState::Paused,
            "machine web is paused",
            Some("vmint resume web"),
        ),
        (MachineState::Stopping, "machine web is stopping", None),
        (MachineState::Failed, "machine web is failed", None),
    ] {
        place.show(state, None);
        let stream = place.client.session().await.unwrap_err();
        let check = place.client.check(Accelerator::Kvm).await.unwrap_err();
        for refused in [stream, check] {
            assert_eq!(refused.kind, ErrorKind::WrongState);
            assert_eq!(refused.message, message);
            assert_eq!(refused.hint.as_deref(), hint);
        }
    }
}

#[tokio::test]
async fn what_is_not_a_request_is_refused_with_a_reason_and_costs_no_machine() {
    let mut place = Place::new(MachineState::Running);
    let queue = std::mem::replace(&mut place.queue, mpsc::channel(1).1);
    let seen = play(queue);
    let large = format!("{{\"command\":\"{}\"}}", "x".repeat(1 << 20));
    let upgrade = "upgrade: websocket\r\n";
    for (request, status, what) in [
        (post("/v1/nonsense", "", ""), "404", "not_found"),
        (get("/v1/stop"), "404", "not_found"),
        (post("/v1/stop", "", "{"), "400", "not understood"),
        (
            post("/v1/stop", "", "{\"force\":1}"),
            "400",
            "not understood",
        ),
        (post("/v1/qmp", "", &large), "400", "cannot be read"),
        (
            post("/v1/pause", "vmint-generation: x\r\n", ""),
            "400",
            "usage",
        ),
        (
            post("/v1/pause", "vmint-generation: -1\r\n", ""),
            "400",
            "usage",
        ),
        (post("/v1/stream", "", ""), "400", "Upgrade"),
        (post("/v1/stream", upgrade, ""), "400", "Upgrade"),
    ] {
        let answer = place.raw(&request).await;
        let line = answer.lines().next().unwrap_or_default();
        let shown = &request[..request.len().min(80)];
        assert!(line.contains(status), "{shown}: {answer}");
        assert!(answer.contains(what), "{shown}: {answer}");
    }
    place.raw("\0\0\0 nonsense\r\n\r\n").await;
    // Of all of it nothing has reached the machine, and it is served still.
    place.client.stop(&stop()).await.unwrap();
    assert_eq!(seen.await.unwrap(), ["stop"]);
}

#[tokio::test]
async fn whoever_has_asked_is_answered_before_the_runner_ends() {
    let mut place = Place::new(MachineState::Running);
    let client = place.client.clone();
    let asking = tokio::spawn(async move { client.pause().await });
    let Some(Asked {
        ask: Ask::Pause(answer),
        ..
    }) = place.queue.recv().await
    else {
        panic!("something else was asked for");
    };
    let answered = tokio::spawn(place.requests.answered());
    answer.send(Ok(())).unwrap();
    answered.await.unwrap();
    asking.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_trace_is_sixteen_digits_and_anything_else_does_no_harm() {
    let mut place = Place::new(MachineState::Running);
    let queue = std::mem::replace(&mut place.queue, mpsc::channel(1).1);
    let _seen = play(queue);
    let traces = [
        "0123456789abcdef",
        "",
        "x",
        "0123456789ABCDEF",
        "0123456789abcdef0",
        "é",
    ];
    for trace in traces {
        let header = format!("vmint-trace: {trace}\r\n");
        let answer = place.raw(&post("/v1/pause", &header, "")).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{trace}: {answer}");
        assert_eq!(trace.parse::<TraceId>().is_ok(), trace == traces[0]);
    }
}
