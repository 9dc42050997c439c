//! The runner's socket: HTTP/1.1 for the same user alone. What only reads is answered from the [`View`]; everything
//! else goes through the queue of the task that owns the machine.

use crate::api;
use crate::machine::{Ask, Asked, expect_generation};
use crate::relay::relay;
use crate::session::Session;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, UPGRADE};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};
use vmint_model::{
    Accelerator, ErrorBody, ErrorKind, Fault, Generation, MachineRecord, MachineState,
};

/// Largest request body in bytes.
const MAX_BODY: usize = 1 << 20;

/// How long a request waits for a machine that is coming up. Whoever asks has a deadline of his own, and hangs up.
const COMING_UP: Duration = Duration::from_secs(600);

/// The machine as the socket shows it.
#[derive(Clone, Debug)]
pub struct View(Arc<watch::Sender<Shown>>);

type Shown = (MachineRecord, Option<Session>);

impl View {
    /// A machine that cannot be used yet.
    pub fn new(record: MachineRecord) -> Self {
        Self(Arc::new(watch::Sender::new((record, None))))
    }

    /// Shows another state.
    pub fn set(&self, record: MachineRecord, session: Option<Session>) {
        self.0.send_replace((record, session));
    }

    fn get(&self) -> Shown {
        self.0.borrow().clone()
    }

    /// The machine when it is not coming up, or not any more: while it is started, reset or restored.
    async fn settled(&self) -> Shown {
        let mut changes = self.0.subscribe();
        let settled = changes.wait_for(|(record, _)| record.state != MachineState::Starting);
        match tokio::time::timeout(COMING_UP, settled).await {
            Ok(Ok(shown)) => shown.clone(),
            _ => self.get(),
        }
    }
}

/// Requests that are being served. Whoever made one is to have his answer before the process ends: the last of them is that the
/// machine is down.
#[derive(Debug)]
pub struct Requests {
    busy: mpsc::Sender<()>,
    idle: mpsc::Receiver<()>,
}

impl Requests {
    /// None yet.
    pub fn new() -> Self {
        let (busy, idle) = mpsc::channel(1);
        Self { busy, idle }
    }

    /// Waits until all are answered, but not for long: some wait for what does not come any more.
    pub async fn answered(mut self) {
        drop(self.busy);
        let _ = tokio::time::timeout(Duration::from_millis(500), self.idle.recv()).await;
    }
}

impl Default for Requests {
    fn default() -> Self {
        Self::new()
    }
}

/// Serves the socket for ever.
pub fn serve(
    listener: UnixListener,
    view: View,
    asks: mpsc::Sender<Asked>,
    requests: &Requests,
) -> impl Future<Output = ()> + Send + 'static + use<> {
    accept(listener, view, asks, requests.busy.downgrade())
}

async fn accept(
    listener: UnixListener,
    view: View,
    asks: mpsc::Sender<Asked>,
    busy: mpsc::WeakSender<()>,
) {
    let own = rustix::process::geteuid().as_raw();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(e) => {
                // Out of descriptors, most likely: those of requests that are being served come back.
                tracing::warn!("cannot accept a connection: {e}");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            }
        };
        match stream.peer_cred() {
            Ok(peer) if peer.uid() == own || peer.uid() == 0 => {
                tokio::spawn(connection(stream, view.clone(), asks.clone(), busy.clone()));
            }
            peer => tracing::warn!("refused a connection of {:?}", peer.map(|p| p.uid())),
        }
    }
}

async fn connection(
    stream: UnixStream,
    view: View,
    asks: mpsc::Sender<Asked>,
    busy: mpsc::WeakSender<()>,
) {
    let service = hyper::service::service_fn(move |request| {
        let (view, asks, busy) = (view.clone(), asks.clone(), busy.upgrade());
        async move {
            let answer = respond(request, view, asks).await;
            // It is written in the same breath.
            drop(busy);
            Ok::<_, std::convert::Infallible>(answer)
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(e) = connection.await {
        tracing::debug!("a connection ended: {e}");
    }
}

type Answer = Response<Full<Bytes>>;

async fn respond(request: Request<Incoming>, view: View, asks: mpsc::Sender<Asked>) -> Answer {
    match route(request, &view, &asks).await {
        Ok(answer) => answer,
        Err(fault) => {
            let status = StatusCode::from_u16(api::status(fault.kind))
                .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            json(status, &ErrorBody { error: fault })
        }
    }
}

async fn route(
    request: Request<Incoming>,
    view: &View,
    asks: &mpsc::Sender<Asked>,
) -> Result<Answer, Fault> {
    let (record, _) = view.get();
    let meant = meant(&request)?;
    expect_generation(&record, meant)?;
    let asks = &Queue { asks, meant };
    let path = request.uri().path().to_owned();
    match (request.method(), path.as_str()) {
        (&Method::GET, "/v1/ping") => ok(&api::Pong {
            machine: record.id,
            generation: record.generation,
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
        }),
        (&Method::GET, "/v1/machine") => ok(&record),
        (&Method::POST, "/v1/stream") => {
            let (record, session) = view.settled().await;
            expect_generation(&record, meant)?;
            upgrade(request, &record, session)
        }
        (&Method::POST, "/v1/stop") => {
            let stop = body(request).await?;
            ask(asks, |answer| Ask::Stop(stop, answer))
                .await
                .and_then(|stopped| ok(&stopped))
        }
        (&Method::POST, "/v1/shutdown") => {
            let shutdown = body(request).await?;
            ask(asks, |answer| Ask::Shutdown(shutdown, answer))
                .await
                .and_then(|stopped| ok(&stopped))
        }
        (&Method::POST, "/v1/pause") => ask(asks, Ask::Pause)
            .await
            .and_then(|()| ok(&serde_json::json!({}))),
        (&Method::POST, "/v1/resume") => ask(asks, Ask::Resume)
            .await
            .and_then(|()| ok(&serde_json::json!({}))),
        (&Method::POST, "/v1/reset") => {
            let reset = body(request).await?;
            ask(asks, |answer| Ask::Reset(reset, answer))
                .await
                .and_then(|record| ok(&record))
        }
        (&Method::POST, "/v1/snapshot") => {
            let snapshot = body(request).await?;
            ask(asks, |answer| Ask::Snapshot(snapshot, answer))
                .await
                .and_then(|done| ok(&done))
        }
        (&Method::POST, "/v1/check") => {
            let (record, session) = view.settled().await;
            expect_generation(&record, meant)?;
            check(asks, &record, session)
                .await
                .and_then(|()| ok(&serde_json::json!({})))
        }
        (&Method::POST, "/v1/qmp") => {
            let command = body(request).await?;
            ask(asks, |answer| Ask::Qmp(command, answer))
                .await
                .and_then(|value| ok(&value))
        }
        (method, path) => Err(Fault::new(
            ErrorKind::NotFound,
            format!("a runner knows no {method} {path}"),
        )),
    }
}

/// The generation that a request means.
fn meant(request: &Request<Incoming>) -> Result<Option<Generation>, Fault> {
    let Some(value) = request.headers().get(api::GENERATION) else {
        return Ok(None);
    };
    let number = value.to_str().ok().and_then(|v| v.parse().ok());
    match number {
        Some(number) => Ok(Some(Generation(number))),
        None => Err(Fault::new(
            ErrorKind::Usage,
            format!("{}: {value:?} is no generation", api::GENERATION),
        )),
    }
}

/// Asks the guest, and has it recorded that it answered.
async fn check(
    asks: &Queue<'_>,
    record: &MachineRecord,
    session: Option<Session>,
) -> Result<(), Fault> {
    let Some(session) = session.filter(|_| record.state == MachineState::Running) else {
        return Err(not_running(record));
    };
    let patience = record.accelerator.map_or(1, Accelerator::patience);
    let ping = vmint_protocol::Request::Ping;
    session.call(ping, "answer", api::CHECK * patience).await?;
    ask(asks, |answer| Ask::Checked(record.generation, answer)).await
}

fn not_running(record: &MachineRecord) -> Fault {
    let message = format!("machine {} is {}", record.name, record.state);
    let fault = Fault::new(ErrorKind::WrongState, message);
    if record.state == MachineState::Paused {
        fault.hint(format!("vmint resume {}", record.name))
    } else {
        fault
    }
}

fn upgrade(
    mut request: Request<Incoming>,
    record: &MachineRecord,
    session: Option<Session>,
) -> Result<Answer, Fault> {
    if request
        .headers()
        .get(UPGRADE)
        .is_none_or(|v| v != api::UPGRADE)
    {
        let message = format!("/v1/stream needs the header Upgrade: {}", api::UPGRADE);
        return Err(Fault::new(ErrorKind::Usage, message));
    }
    let session = match session {
        Some(session) if record.state == MachineState::Running => session,
        _ => return Err(not_running(record)),
    };
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match upgraded.await {
            Ok(io) => relay(TokioIo::new(io), session).await,
            Err(e) => tracing::debug!("an upgrade failed: {e}"),
        }
    });
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    answer
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("upgrade"));
    answer
        .headers_mut()
        .insert(UPGRADE, HeaderValue::from_static(api::UPGRADE));
    Ok(answer)
}

/// The queue, for one request.
struct Queue<'a> {
    asks: &'a mpsc::Sender<Asked>,
    meant: Option<Generation>,
}

async fn ask<T>(
    queue: &Queue<'_>,
    make: impl FnOnce(oneshot::Sender<Result<T, Fault>>) -> Ask,
) -> Result<T, Fault> {
    let gone = || {
        Fault::new(
            ErrorKind::MachineLost,
            "the machine ended before it could answer",
        )
    };
    let (sender, receiver) = oneshot::channel();
    let asked = Asked {
        meant: queue.meant,
        ask: make(sender),
    };
    queue.asks.send(asked).await.map_err(|_| gone())?;
    receiver.await.map_err(|_| gone())?
}

async fn body<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Fault> {
    let bytes = Limited::new(request.into_body(), MAX_BODY).collect().await;
    let bytes = bytes.map_err(|e| {
        Fault::new(
            ErrorKind::Usage,
            format!("the request's body cannot be read: {e}"),
        )
    })?;
    serde_json::from_slice(&bytes.to_bytes()).map_err(|e| {
        Fault::new(
            ErrorKind::Usage,
            format!("the request's body is not understood: {e}"),
        )
    })
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "so that each route is one expression"
)]
fn ok(value: &impl Serialize) -> Result<Answer, Fault> {
    Ok(json(StatusCode::OK, value))
}

fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    let bytes = serde_json::to_vec(value).expect("answers can be written as JSON");
    let mut answer = Response::new(Full::new(bytes.into()));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}
