//! The other end of a runner's socket.

use crate::api::{self, route};
use crate::session::Session;
use crate::trace;
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{CONNECTION, HOST, UPGRADE};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::net::UnixStream;
use vmint_model::{
    Accelerator, ErrorBody, ErrorKind, Fault, Generation, MachineDir, MachineRecord,
};

/// How long a request may take that does not wait for a guest.
const SHORT: Duration = Duration::from_secs(30);
/// How long one may take that makes a fork, or reads a machine's memory. Whoever asks knows better how long to wait.
const LONG: Duration = Duration::from_secs(600);

/// A body with nothing in it, and an answer that is read for its status.
#[derive(Serialize, Deserialize)]
struct Nothing {}

fn ignore(_: Nothing) {}

/// Asks the runner of one machine.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
    generation: Option<Generation>,
}

impl Client {
    /// A client of the machine in `dir`.
    pub fn new(dir: &MachineDir) -> Self {
        Self {
            socket: dir.socket().to_owned(),
            generation: None,
        }
    }

    /// Asks for this generation only.
    pub fn with_generation(self, generation: Generation) -> Self {
        Self {
            generation: Some(generation),
            ..self
        }
    }

    async fn connect(&self) -> Result<UnixStream, Fault> {
        UnixStream::connect(&self.socket).await.map_err(|e| {
            let what = match e.kind() {
                io::ErrorKind::NotFound => "the runner's socket does not exist".to_owned(),
                io::ErrorKind::ConnectionRefused => {
                    "nobody listens on the runner's socket".to_owned()
                }
                _ => format!("cannot connect to the runner: {e}"),
            };
            Fault::new(
                ErrorKind::Runner,
                format!("{what} ({})", self.socket.display()),
            )
        })
    }

    fn request(&self, method: Method, path: &str) -> hyper::http::request::Builder {
        let builder = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "runner");
        let builder = match self.generation {
            Some(generation) => builder.header(api::GENERATION, generation.0),
            None => builder,
        };
        match trace::current() {
            Some(trace) => builder.header(trace::HEADER, trace.to_string()),
            None => builder,
        }
    }

    /// Whether it lives, and whose it is.
    pub async fn ping(&self) -> Result<api::Pong, Fault> {
        self.call(Method::GET, route::PING, Bytes::new(), SHORT)
            .await
    }

    /// Halts the machine's processors.
    pub async fn pause(&self) -> Result<(), Fault> {
        self.post(route::PAUSE, &Nothing {}, SHORT)
            .await
            .map(ignore)
    }

    /// Lets them go on.
    pub async fn resume(&self) -> Result<(), Fault> {
        self.post(route::RESUME, &Nothing {}, SHORT)
            .await
            .map(ignore)
    }

    /// Stops the machine. The answer comes when it is down.
    pub async fn stop(&self, stop: &api::Stop) -> Result<api::Stopped, Fault> {
        let deadline = Duration::from_millis(stop.timeout_ms) + SHORT;
        self.post(route::STOP, stop, deadline).await
    }

    /// Asks the guest to shut down, and forces nothing. The answer comes when it has.
    pub async fn shutdown(&self, shutdown: &api::Shutdown) -> Result<api::Stopped, Fault> {
        let deadline = Duration::from_millis(shutdown.timeout_ms) + SHORT;
        self.post(route::SHUTDOWN, shutdown, deadline).await
    }

    /// Makes the machine fresh, or brings it to another moment.
    pub async fn reset(&self, reset: &api::Reset) -> Result<MachineRecord, Fault> {
        self.post(route::RESET, reset, LONG).await
    }

    /// Freezes this moment.
    pub async fn snapshot(&self, snapshot: &api::Snapshot) -> Result<api::Snapshotted, Fault> {
        self.post(route::SNAPSHOT, snapshot, LONG).await
    }

    /// Executes a QMP command.
    pub async fn qmp(&self, command: &api::Qmp) -> Result<serde_json::Value, Fault> {
        self.post(route::QMP, command, SHORT * 3).await
    }

    /// Makes sure that the guest is well.
    pub async fn check(&self, accelerator: Accelerator) -> Result<(), Fault> {
        // The runner has the first word: it knows what it waited for.
        let deadline = api::CHECK * accelerator.patience() + Duration::from_secs(1);
        self.post(route::CHECK, &Nothing {}, deadline)
            .await
            .map(ignore)
    }

    async fn post<A: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        deadline: Duration,
    ) -> Result<A, Fault> {
        let body =
            serde_json::to_vec(body).map_err(|e| Fault::new(ErrorKind::Internal, e.to_string()))?;
        self.call(Method::POST, path, body.into(), deadline).await
    }

    async fn call<A: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        deadline: Duration,
    ) -> Result<A, Fault> {
        let began = Instant::now();
        tracing::debug!(path, socket = %self.socket.display(), "asks a runner");
        let exchange = async {
            let (mut sender, connection) = self.handshake().await?;
            let driver = tokio::spawn(connection);
            let request = self
                .request(method, path)
                .body(Full::new(body))
                .expect("built from constants");
            let answer = sender.send_request(request).await.map_err(lost)?;
            let status = answer.status();
            let bytes = Limited::new(answer.into_body(), 16 << 20).collect().await;
            driver.abort();
            let bytes = bytes.map_err(|e| {
                Fault::new(
                    ErrorKind::Runner,
                    format!("the runner's answer broke off: {e}"),
                )
            })?;
            decode(status, &bytes.to_bytes())
        };
        let answer = tokio::time::timeout(deadline, exchange)
            .await
            .unwrap_or_else(|_| {
                let message = format!(
                    "the runner did not answer {path} within {}",
                    vmint_model::span(deadline)
                );
                Err(Fault::new(ErrorKind::TimedOut, message))
            });
        let took = began.elapsed();
        match &answer {
            Ok(_) => tracing::debug!(path, ?took, "a runner has answered"),
            Err(fault) => tracing::debug!(path, ?took, kind = %fault.kind, "a runner has refused"),
        }
        answer
    }

    /// Opens a session with the machine's agent. Its streams end when it is dropped.
    pub async fn session(&self) -> Result<Session, Fault> {
        let path = route::STREAM;
        tracing::debug!(path, socket = %self.socket.display(), "asks a runner");
        let (mut sender, connection) = self.handshake().await?;
        tokio::spawn(connection.with_upgrades());
        let request = self
            .request(Method::POST, path)
            .header(CONNECTION, "upgrade")
            .header(UPGRADE, api::UPGRADE)
            .body(Full::default())
            .expect("built from constants");
        let answer = sender.send_request(request).await.map_err(lost)?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            let status = answer.status();
            let bytes = Limited::new(answer.into_body(), 1 << 20)
                .collect()
                .await
                .map(http_body_util::Collected::to_bytes);
            return decode::<serde_json::Value>(status, &bytes.unwrap_or_default()).and(Err(
                Fault::new(ErrorKind::Internal, "the runner did not open a stream"),
            ));
        }
        let io = hyper::upgrade::on(answer).await.map_err(lost)?;
        Ok(Session::start(TokioIo::new(io), BytesMut::new()))
    }

    async fn handshake(
        &self,
    ) -> Result<
        (
            hyper::client::conn::http1::SendRequest<Full<Bytes>>,
            hyper::client::conn::http1::Connection<TokioIo<UnixStream>, Full<Bytes>>,
        ),
        Fault,
    > {
        let stream = self.connect().await?;
        hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(lost)
    }
}

fn lost(e: hyper::Error) -> Fault {
    Fault::new(ErrorKind::MachineLost, format!("the runner hung up: {e}"))
}

fn decode<A: DeserializeOwned>(status: StatusCode, bytes: &[u8]) -> Result<A, Fault> {
    if status.is_success() {
        return serde_json::from_slice(bytes).map_err(|e| {
            Fault::new(
                ErrorKind::Internal,
                format!("the runner's answer is not understood: {e}"),
            )
        });
    }
    Err(match serde_json::from_slice::<ErrorBody>(bytes) {
        Ok(body) => body.error,
        Err(_) => Fault::new(
            ErrorKind::Internal,
            format!("the runner answered {status} without a reason"),
        ),
    })
}
