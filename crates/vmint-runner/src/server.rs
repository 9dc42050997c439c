//! The runner's socket: HTTP/1.1 for the same user alone. What only reads is answered from the [`View`]; everything
//! else goes through the queue of the task that owns the machine.

use crate::api::{self, route};
use crate::machine::{Ask, Asked};
use crate::policy::{self, Question, Refusal, Standing, Verb, Verdict};
use crate::relay::relay;
use crate::session::Session;
use crate::trace::{self, TraceId};
use crate::view::View;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, UPGRADE};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::{Duration, Instant};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tracing::Instrument;
use vmint_model::{Accelerator, ErrorBody, ErrorKind, Fault, Generation, MachineRecord};

/// Largest request body in bytes.
const MAX_BODY: usize = 1 << 20;

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
    let trace = traced(&request);
    let span = trace::serving(trace, request.uri().path());
    let answer = async {
        let began = Instant::now();
        if trace.is_some() {
            tracing::info!("asked");
        }
        let answer = match route(request, &view, &asks).await {
            Ok(answer) => answer,
            Err(fault) => {
                let status = StatusCode::from_u16(api::status(fault.kind))
                    .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                json(status, &ErrorBody { error: fault })
            }
        };
        if trace.is_some() {
            let (status, took) = (answer.status().as_u16(), began.elapsed());
            tracing::info!(status, ?took, "answered");
        }
        answer
    };
    answer.instrument(span).await
}

/// The trace that a request belongs to. What is none is not logged.
fn traced(request: &Request<Incoming>) -> Option<TraceId> {
    let value = request.headers().get(trace::HEADER)?;
    value.to_str().ok()?.parse().ok()
}

async fn route(
    request: Request<Incoming>,
    view: &View,
    asks: &mpsc::Sender<Asked>,
) -> Result<Answer, Fault> {
    let (record, _) = view.get();
    let meant = meant(&request)?;
    // Whatever is asked for: another generation is not served, and is not kept waiting either.
    let look = Question {
        verb: Verb::Look,
        meant,
    };
    if let Verdict::Refuse(refusal) = policy::decide(Standing::of(&record), look) {
        return Err(refusal.fault(&record));
    }
    let asks = &Queue { asks, meant };
    let path = request.uri().path().to_owned();
    match (request.method(), path.as_str()) {
        (&Method::GET, route::PING) => ok(&api::Pong {
            machine: record.id,
            generation: record.generation,
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
        }),
        (&Method::GET, route::MACHINE) => ok(&record),
        (&Method::POST, route::STREAM) => {
            expect_upgrade(&request)?;
            let (_, session) = reach(view, Verb::Stream, meant).await?;
            Ok(upgrade(request, session))
        }
        (&Method::POST, route::STOP) => {
            let stop = body(request).await?;
            ask(asks, |answer| Ask::Stop(stop, answer))
                .await
                .and_then(|stopped| ok(&stopped))
        }
        (&Method::POST, route::SHUTDOWN) => {
            let shutdown = body(request).await?;
            ask(asks, |answer| Ask::Shutdown(shutdown, answer))
                .await
                .and_then(|stopped| ok(&stopped))
        }
        (&Method::POST, route::PAUSE) => ask(asks, Ask::Pause)
            .await
            .and_then(|()| ok(&serde_json::json!({}))),
        (&Method::POST, route::RESUME) => ask(asks, Ask::Resume)
            .await
            .and_then(|()| ok(&serde_json::json!({}))),
        (&Method::POST, route::RESET) => {
            let reset = body(request).await?;
            ask(asks, |answer| Ask::Reset(reset, answer))
                .await
                .and_then(|record| ok(&record))
        }
        (&Method::POST, route::SNAPSHOT) => {
            let snapshot = body(request).await?;
            ask(asks, |answer| Ask::Snapshot(snapshot, answer))
                .await
                .and_then(|done| ok(&done))
        }
        (&Method::POST, route::CHECK) => {
            let (record, session) = reach(view, Verb::Check, meant).await?;
            check(asks, &record, &session)
                .await
                .and_then(|()| ok(&serde_json::json!({})))
        }
        (&Method::POST, route::QMP) => {
            let command = body(request).await?;
            ask(asks, |answer| Ask::Qmp(command, answer))
                .await
                .and_then(|value| ok(&value))
        }
        (method, path) => Err(Fault::new(
            ErrorKind::NotFound,
            format!("unknown request: {method} {path}"),
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
            format!("{}: {value:?} is not a generation", api::GENERATION),
        )),
    }
}

/// The way to the guest, when it is up and serves this.
async fn reach(
    view: &View,
    verb: Verb,
    meant: Option<Generation>,
) -> Result<(MachineRecord, Session), Fault> {
    let (record, session) = view.settled().await;
    let standing = Standing::of(&record);
    let state = standing.state;
    match (policy::decide(standing, Question { verb, meant }), session) {
        (Verdict::Serve | Verdict::Done, Some(session)) => Ok((record, session)),
        (Verdict::Refuse(refusal), _) => Err(refusal.fault(&record)),
        // It has not come up in all this time, or is going.
        _ => Err(Refusal::State { verb, state }.fault(&record)),
    }
}

/// Asks the guest, and has it recorded that it answered.
async fn check(asks: &Queue<'_>, record: &MachineRecord, session: &Session) -> Result<(), Fault> {
    let patience = record.accelerator.map_or(1, Accelerator::patience);
    let ping = vmint_protocol::Request::Ping;
    session.call(ping, "answer", api::CHECK * patience).await?;
    ask(asks, |answer| Ask::Checked(record.generation, answer)).await
}

fn expect_upgrade(request: &Request<Incoming>) -> Result<(), Fault> {
    if request
        .headers()
        .get(UPGRADE)
        .is_some_and(|v| v == api::UPGRADE)
    {
        return Ok(());
    }
    let message = format!(
        "{} needs the header Upgrade: {}",
        route::STREAM,
        api::UPGRADE
    );
    Err(Fault::new(ErrorKind::Usage, message))
}

fn upgrade(mut request: Request<Incoming>, session: Session) -> Answer {
    let upgraded = hyper::upgrade::on(&mut request);
    let streams = async move {
        match upgraded.await {
            Ok(io) => relay(TokioIo::new(io), session).await,
            Err(e) => tracing::debug!("an upgrade failed: {e}"),
        }
    };
    tokio::spawn(streams.in_current_span());
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    answer
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("upgrade"));
    answer
        .headers_mut()
        .insert(UPGRADE, HeaderValue::from_static(api::UPGRADE));
    answer
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
    let (sender, receiver) = oneshot::channel();
    let asked = Asked {
        meant: queue.meant,
        ask: make(sender),
        span: tracing::Span::current(),
    };
    queue.asks.send(asked).await.map_err(|_| policy::gone())?;
    receiver.await.map_err(|_| policy::gone())?
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
