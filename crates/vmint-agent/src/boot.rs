//! From the kernel's first process to a running guest.
//!
//! ```text
//! early mounts ─▶ modules ─▶ root given? ──no──────────────────────────▶ PID 1 for good
//!                               │yes                                         ▲
//!                               ▼                                            │
//!                  wait for the device, switch root ─▶ init found? ──no──────┘
//!                               │yes
//!                               ▼
//!                  serve until Prepare (or its deadline) ─▶ fork ─▶ parent: execve the init
//!                                                              └──▶ child: the agent, goes on serving
//! ```

use crate::agent::Agent;
use crate::cmdline::{self, Init, Options};
use crate::port::{self, Port};
use crate::sys::{self, Forked};
use crate::uevent::Uevents;
use crate::{console, modules, mounts, net, shutdown};
use rustix::io::Result;
use std::ffi::CString;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long the root's device and the port may take to appear.
const DEVICE: Duration = Duration::from_secs(10);
/// How long an image's init is held back for a host that tells the machine who it is.
const HOST: Duration = Duration::from_secs(30);

/// An init that is to be started once the machine is prepared.
#[derive(Debug)]
pub struct Handover {
    /// Its path in the root.
    pub init: CString,
    /// When it is started in any case.
    pub deadline: Instant,
}

/// Runs the agent. Returns only when it is not PID 1.
pub fn run() -> i32 {
    std::panic::set_hook(Box::new(|info| console::fatal(&format!("{info}"))));
    if std::process::id() != 1 {
        // Nothing of what follows should ever happen to a machine that is not ours.
        eprintln!("vmint-agent is the init of a vmint machine and runs as its first process only");
        return 2;
    }
    sys::block_signals();
    mounts::early();
    sys::open_standard_files();
    modules::load_all(Path::new("/modules"));
    let uevents = match Uevents::listen() {
        Ok(uevents) => uevents,
        Err(e) => console::fatal(&format!("cannot listen for devices: {e}")),
    };
    let line = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let options = cmdline::parse(&line);
    if let Some(device) = &options.root {
        enter_root(&uevents, device, &options.root_type);
    }
    mounts::devices();
    let init = if options.root.is_some() {
        find_init(&options)
    } else {
        None
    };
    if init.is_none() {
        mounts::without_init();
        net::raise_loopback();
    }
    let Some(path) = uevents.wait_until(DEVICE, port::find) else {
        console::fatal(&format!(
            "no virtio-serial port named {} within {DEVICE:?}",
            vmint_protocol::PORT_NAME
        ));
    };
    drop(uevents);
    let port = match Port::open(&path) {
        Ok(port) => port,
        Err(e) => console::fatal(&format!("cannot open {}: {e}", path.display())),
    };
    let handover = init.map(|init| Handover {
        init,
        deadline: Instant::now() + HOST,
    });
    let mut agent = match Agent::new(port, handover) {
        Ok(agent) => agent,
        Err(e) => console::fatal(&format!("cannot set up the agent: {e}")),
    };
    loop {
        match agent.run() {
            Ok(end) => shutdown::begin(&mut agent, end),
            Err(e) => console::fatal(&format!("the port failed: {e}")),
        }
    }
}

fn enter_root(uevents: &Uevents, device: &str, kind: &str) {
    if uevents
        .wait_until(DEVICE, || Path::new(device).exists().then_some(()))
        .is_none()
    {
        console::fatal(&format!(
            "the root device {device} did not appear within {DEVICE:?}"
        ));
    }
    if let Err(e) = mounts::switch_root(device, kind) {
        console::fatal(&format!("cannot make {device} ({kind}) the root: {e}"));
    }
}

/// The init to start, if any. One that is named must be there.
fn find_init(options: &Options) -> Option<CString> {
    let is_program = |path: &str| {
        std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    let path = match &options.init {
        Init::None => return None,
        Init::Path(path) if is_program(path) => path.clone(),
        Init::Path(path) => {
            console::fatal(&format!("the init {path} is not a program in the root"))
        }
        Init::Auto => ["/sbin/init", "/lib/systemd/systemd"]
            .into_iter()
            .find(|p| is_program(p))?
            .to_owned(),
    };
    CString::new(path).ok()
}

impl Agent {
    /// Starts the image's init, if that is still to be done, in this process; the agent goes on in a child.
    pub(crate) fn hand_over(&mut self) -> Result<()> {
        let Some(Handover { init, .. }) = self.handover.take() else {
            return Ok(());
        };
        match sys::fork()? {
            Forked::Child => {
                // Cannot fail in a new process.
                let _ = rustix::process::setsid();
                sys::rename_process(c"vmint-agent");
                self.become_daemon()
            }
            Forked::Parent(_) => {
                let env = [c"HOME=/", c"TERM=linux"];
                let error = sys::exec(&init, &[&init], &env);
                console::fatal(&format!(
                    "cannot execute {}: {error}",
                    init.to_string_lossy()
                ))
            }
        }
    }
}
