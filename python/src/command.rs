//! Commands in machines.

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::time::Duration;
use vmint::exec::Happening;
use vmint::protocol::{Channel, ExitStatus, Window};
use vmint::{Command, Fault, Running};

/// A command as Python gives it.
#[derive(Debug, FromPyObject)]
pub struct Asked {
    argv: Vec<Vec<u8>>,
    env: Vec<(Vec<u8>, Vec<u8>)>,
    cwd: Option<Vec<u8>>,
    user: Option<String>,
    timeout: Option<f64>,
    /// What it reads; nothing at all when absent.
    pub input: Option<Vec<u8>>,
}

impl Asked {
    /// The command, and its input.
    pub fn split(self) -> (Command, Option<Vec<u8>>) {
        let command = Command {
            argv: self.argv,
            env: self.env,
            cwd: self.cwd,
            user: self.user,
            stdin: self.input.is_some(),
            timeout: self
                .timeout
                .and_then(|s| Duration::try_from_secs_f64(s).ok()),
            ..Command::default()
        };
        (command, self.input)
    }
}

/// How a command ended, and what it said.
#[derive(Debug)]
pub struct Gathered {
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Gathered {
    /// `(code, signal, stdout, stderr)`; neither code nor signal if it ran out of time.
    pub fn into_python(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let (code, signal) = match self.status {
            ExitStatus::Code(code) => (Some(code), None),
            ExitStatus::Signal(signal) => (None, Some(signal)),
            ExitStatus::TimedOut => (None, None),
        };
        let (stdout, stderr) = (
            PyBytes::new(py, &self.stdout),
            PyBytes::new(py, &self.stderr),
        );
        Ok((code, signal, stdout, stderr)
            .into_pyobject(py)?
            .into_any()
            .unbind())
    }
}

/// Feeds a command its input within the window, and gathers what it says.
pub async fn gather(mut running: Running<'_>, input: Option<Vec<u8>>) -> Result<Gathered, Fault> {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let (mut window, mut at, mut input) = (Window::default(), 0, input);
    loop {
        if let Some(bytes) = &input {
            let n = window.available().min(bytes.len() - at);
            if n > 0 {
                running.send(&bytes[at..at + n]);
                window.sent(n);
                at += n;
            }
            if at == bytes.len() {
                running.send_eof();
                input = None;
            }
        }
        match running.next().await? {
            Happening::Output(Channel::Error, bytes) => stderr.extend_from_slice(&bytes),
            Happening::Output(_, bytes) => stdout.extend_from_slice(&bytes),
            Happening::Credit(n) => window.grant(n),
            Happening::Started(_) => {}
            Happening::Exited(status) => {
                return Ok(Gathered {
                    status,
                    stdout,
                    stderr,
                });
            }
        }
    }
}
