//! A fresh machine for every test: the attribute `#[vmint::test]`, for `cargo test` and nextest.
//!
//! ```no_run
//! # mod tests {
//! #[vmint::test(image = "tiny", memory = "256M")]
//! fn the_kernel_tells_its_name(vm: vmint::Vm) -> Result<(), vmint::Fault> {
//!     assert_eq!(vm.sh("uname -s")?, "Linux\n");
//!     Ok(())
//! }
//!
//! #[vmint::test(cpus = 2, net = "nat", timeout = "60s")]
//! async fn it_has_two_processors(vm: vmint::AsyncVm) {
//!     assert_eq!(vm.sh("nproc").await.unwrap(), "2\n");
//! }
//! # }
//! ```
//!
//! | key | meaning |
//! |---|---|
//! | `image`, `memory`, `cpus`, `net` | the machine; what is left out is as `vmint.toml` and the environment say |
//! | `timeout = "60s"` | the test may have its machine for so long; then the lease ends, what runs in it is killed, and the test fails |
//! | `wait = "120s"` | how long to wait for a machine; two minutes unless given |
//! | `pool = "ci"` | lend from this pool, which is there or is declared in `vmint.toml` |
//!
//! The function returns nothing or a `Result`. If it panics or returns an error, the end of the machine's console is
//! printed with the failure. The machine is given back when the test ends, however it does: by unwinding, or, should the
//! process be killed, by the machine's runner, which watches its owner.
//!
//! **The pool.** Without `pool`, tests that ask for the same machine share one pool, in this process and all others of this
//! user: whoever comes first makes it. Its name begins with `test-`. It has as many machines as tests can run at once
//! (`NEXTEST_TEST_THREADS`, or the host's processors) and makes one only when a test asks for it. A machine of it that
//! nobody has is taken down a minute after it was made ([`MACHINE_TTL`]), so nothing is left running a minute after the
//! last test; the pool itself, which then is a name in the store, goes when a later run makes another one.
//!
//! `VMINT_TEST_POOL` names a pool to lend from instead of those. A test that asks for what its machines are not fails.

mod pool;

use crate::blocking;
use crate::config::Config;
use crate::{Acquire, Command, ErrorKind, Fault, LeaseEnd, Options};
use std::fmt::Debug;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use vmint_protocol::ExitStatus;

pub use pool::MACHINE_TTL;

/// How long a test waits for a machine that says nothing else: the first may have to build an image.
const WAIT: Duration = Duration::from_secs(120);
/// So much of a console is shown.
const TAIL_LINES: usize = 40;

/// What the attribute says.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    pub label: &'static str,
    pub image: Option<&'static str>,
    pub memory: Option<&'static str>,
    pub cpus: Option<u32>,
    pub net: Option<&'static str>,
    pub pool: Option<&'static str>,
    pub timeout: Option<&'static str>,
    pub wait: Option<&'static str>,
}

impl Asked {
    /// Says nothing.
    pub const NOTHING: Self = Self {
        label: "",
        image: None,
        memory: None,
        cpus: None,
        net: None,
        pool: None,
        timeout: None,
        wait: None,
    };
}

/// A test's machine. Its methods block; they may be called in an `async fn`, too.
#[derive(Clone, Debug)]
pub struct Vm(blocking::Lease);

/// A test's machine, for an `async fn`.
#[derive(Clone, Debug)]
pub struct AsyncVm(Arc<crate::Lease>);

impl Deref for Vm {
    type Target = blocking::Lease;

    fn deref(&self) -> &blocking::Lease {
        &self.0
    }
}

impl Deref for AsyncVm {
    type Target = crate::Lease;

    fn deref(&self) -> &crate::Lease {
        &self.0
    }
}

impl Vm {
    /// Runs a shell script, which must succeed, and returns what it prints.
    pub fn sh(&self, script: &str) -> Result<String, Fault> {
        said(script, self.output(shell(script))?)
    }
}

impl AsyncVm {
    /// Runs a shell script, which must succeed, and returns what it prints.
    pub async fn sh(&self, script: &str) -> Result<String, Fault> {
        said(script, self.output(shell(script)).await?)
    }
}

fn shell(script: &str) -> Command {
    Command::new(["sh", "-c", script])
}

fn said(script: &str, output: crate::Output) -> Result<String, Fault> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status == ExitStatus::Code(0) {
        return Ok(text(&output.stdout));
    }
    let how = match output.status {
        ExitStatus::Code(code) => format!("exited with {code}"),
        ExitStatus::Signal(signal) => format!("was killed by signal {signal}"),
        ExitStatus::TimedOut => "ran past its time".to_owned(),
    };
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    let message = format!("{script:?} {how}; stdout: {out:?}, stderr: {err:?}");
    Err(Fault::new(ErrorKind::Guest, message))
}

/// What a test function can take.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "a test is given a `vmint::Vm` or a `vmint::AsyncVm`, not a `{Self}`"
)]
pub trait Given {
    fn given(lease: &blocking::Lease) -> Self;
}

impl Given for Vm {
    fn given(lease: &blocking::Lease) -> Self {
        Self(lease.clone())
    }
}

impl Given for AsyncVm {
    fn given(lease: &blocking::Lease) -> Self {
        Self(lease.inner().clone())
    }
}

/// What a test function can return.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "a test returns nothing or a `Result<(), E>`, not a `{Self}`"
)]
pub trait Verdict {
    fn failure(self) -> Option<String>;
}

impl Verdict for () {
    fn failure(self) -> Option<String> {
        None
    }
}

impl<E: Debug> Verdict for Result<(), E> {
    fn failure(self) -> Option<String> {
        self.err()
            .map(|e| format!("the test returned an error: {e:?}"))
    }
}

/// Has the compiler say of a type that no test can take it where that is written.
#[doc(hidden)]
pub fn takes<M: Given>() {}

/// The same of what it returns.
#[doc(hidden)]
pub fn gives<V: Verdict>() {}

/// Runs a test.
#[doc(hidden)]
#[track_caller]
pub fn run<M: Given, V: Verdict>(asked: &Asked, test: impl FnOnce(M) -> V) {
    let lent = Lent::to(asked);
    let verdict = test(M::given(&lent.lease));
    lent.judge(verdict.failure());
}

/// Runs a test that is a future.
#[doc(hidden)]
#[track_caller]
pub fn run_async<M: Given, V: Verdict, F: Future<Output = V>>(
    asked: &Asked,
    test: impl FnOnce(M) -> F,
) {
    let lent = Lent::to(asked);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap_or_else(|e| panic!("vmint cannot set up a runtime: {e}"));
    let verdict = runtime.block_on(async {
        let test = test(M::given(&lent.lease));
        match lent.timeout {
            None => Some(test.await),
            Some(timeout) => tokio::time::timeout(timeout, test).await.ok(),
        }
    });
    // What the test has spawned and left is not waited for.
    runtime.shutdown_background();
    lent.judge(verdict.and_then(Verdict::failure));
}

/// A machine that is lent to a test. Dropped in a panic it tells of the machine, which it still has.
struct Lent {
    vmint: blocking::Vmint,
    lease: blocking::Lease,
    began: Instant,
    timeout: Option<Duration>,
}

impl Lent {
    /// A machine for a test. That there is none is a fault of vmint or of the host, and the test never began.
    #[track_caller]
    fn to(asked: &Asked) -> Self {
        match Self::try_to(asked) {
            Ok(lent) => lent,
            Err(fault) => {
                let hint = fault.hint.as_ref().map(|h| format!(" ({h})"));
                let hint = hint.unwrap_or_default();
                panic!("vmint could not get a machine; the test was not started: {fault}{hint}")
            }
        }
    }

    fn try_to(asked: &Asked) -> Result<Self, Fault> {
        let door = door()?;
        let period = |text: Option<&str>| {
            let parse = |text| {
                crate::parse_duration(text).map_err(|e| Fault::new(ErrorKind::Usage, e.to_string()))
            };
            text.map(parse).transpose()
        };
        let timeout = period(asked.timeout)?;
        let how = Acquire {
            label: Some(asked.label.to_owned()),
            timeout: period(asked.wait)?.unwrap_or(WAIT),
            ttl: timeout,
            ..Acquire::default()
        };
        let lease = pool::lend(&door.vmint, &door.config, asked, &how)?;
        Ok(Self {
            vmint: door.vmint.clone(),
            lease,
            began: Instant::now(),
            timeout,
        })
    }

    #[track_caller]
    fn judge(self, failure: Option<String>) {
        // Its lease has begun a moment before the test, and so may end before the test's time is up.
        let lease = self.vmint.inner().lease(&self.lease.id());
        let expired = lease
            .ok()
            .and_then(|lease| lease.ended)
            .is_some_and(|ended| ended.how == LeaseEnd::Expired);
        if let Some(timeout) = self.timeout
            && (expired || self.began.elapsed() >= timeout)
        {
            let seen = failure.map(|f| format!("; {f}")).unwrap_or_default();
            panic!("the test had its machine for longer than its timeout of {timeout:?}{seen}");
        }
        if let Some(failure) = failure {
            panic!("{failure}");
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let record = self.lease.record();
        let (machine, pool, generation) = (&record.machine, &record.pool, record.generation);
        eprintln!("--- the test's machine was {machine} of pool {pool}, generation {generation}");
        let now = self.vmint.inner().lease(&record.id);
        if let Some(ended) = now.ok().and_then(|lease| lease.ended) {
            let detail = ended.detail.map(|d| format!(" ({d})")).unwrap_or_default();
            eprintln!("--- its lease had ended: {}{detail}", ended.how.tell());
        }
        match self.lease.console() {
            Ok(text) if text.trim().is_empty() => eprintln!("--- its console shows nothing"),
            Ok(text) => eprintln!("--- the end of its console:\n{}\n---", tail(&text)),
            Err(fault) => eprintln!("--- its console cannot be read: {fault}"),
        }
    }
}

/// The last lines, without what would command a terminal.
fn tail(text: &str) -> String {
    let lines: Vec<_> = text.trim_end().lines().collect();
    let last = &lines[lines.len().saturating_sub(TAIL_LINES)..];
    let last: Vec<_> = last
        .iter()
        .map(|line| line.trim_end_matches('\r'))
        .collect();
    crate::printable_lines(&last.join("\n")).into_owned()
}

/// vmint, opened once for all tests of a process.
struct Door {
    vmint: blocking::Vmint,
    config: Config,
}

fn door() -> Result<&'static Door, Fault> {
    static DOOR: OnceLock<Result<Door, Fault>> = OnceLock::new();
    DOOR.get_or_init(open).as_ref().map_err(Clone::clone)
}

fn open() -> Result<Door, Fault> {
    let here = std::env::current_dir().map_err(|e| {
        Fault::from_error(ErrorKind::Host, &e).context("cannot tell the working directory")
    })?;
    let config = Config::load(&here, |name| std::env::var_os(name))?;
    let vmint = blocking::Vmint::open(Options::from_config(&config)?)?;
    vmint.inner().sweep()?;
    Ok(Door { vmint, config })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_the_last_lines_and_commands_no_terminal() {
        let lines: Vec<_> = (0..100).map(|n| format!("line {n}\r\n")).collect();
        let shown = tail(&(lines.concat() + "\x1b[2J\r\n"));
        assert!(shown.starts_with("line 61\n"), "{shown}");
        assert!(shown.ends_with("line 99\n\\x1b[2J"), "{shown}");
    }

    #[test]
    fn a_script_that_fails_is_a_fault_with_all_that_it_said() {
        let output = |status| crate::Output {
            status,
            stdout: b"out".to_vec(),
            stderr: b"err".to_vec(),
        };
        assert_eq!(said("x", output(ExitStatus::Code(0))).unwrap(), "out");
        let fault = said("x", output(ExitStatus::Code(3))).unwrap_err();
        for part in ["\"x\"", "exited with 3", "\"out\"", "\"err\""] {
            assert!(fault.message.contains(part), "{fault}");
        }
    }
}
