//! A host of its own: a network namespace with an own `resolv.conf`, and a neighbour behind a wire, in one of its own.
//!
//! That takes root, if only in a user namespace (`scripts/test` sees to it).

use crate::{Home, until};
use rustix::thread::UnshareFlags;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);

/// Runs `ip`, which must succeed; what it prints.
pub fn ip(args: &str) -> String {
    let out = Command::new("ip")
        .args(args.split(' '))
        .output()
        .expect("iproute2 is installed");
    assert!(
        out.status.success(),
        "ip {args}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8_lossy(&out.stdout).into_owned()
}

fn unshare(what: UnshareFlags) {
    // SAFETY: only namespaces are left, and no memory, files or signal handlers that other threads rely on.
    let done = unsafe { rustix::thread::unshare_unsafe(what) };
    done.unwrap_or_else(|e| {
        panic!("these tests make network namespaces and need root: run scripts/test ({e})")
    });
}

/// Makes this thread, and the programs that it starts, a host of its own, with these addresses (`10.77.0.1/24`) on its wire and
/// this resolver. A neighbour at the wire's other end has those, and runs `serve` there; it must return.
pub fn private_host(
    resolver: &str,
    here: &[&str],
    there: &[&str],
    serve: impl FnOnce() + Send + 'static,
) {
    // The seed of homes is made outside: from in here nothing can be downloaded.
    drop(Home::new());
    unshare(UnshareFlags::NEWNET | UnshareFlags::NEWNS);
    let resolv_conf = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&resolv_conf, format!("nameserver {resolver}\n")).unwrap();
    let path = resolv_conf.path().to_str().unwrap();
    for args in [
        vec!["--make-rprivate", "/"],
        vec!["--bind", path, "/etc/resolv.conf"],
    ] {
        let out = Command::new("mount").args(&args).output().unwrap();
        assert!(
            out.status.success(),
            "mount {args:?}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
    }
    ip("link set lo up");
    let ((wire, its_wire), (its_thread, thread), (ready, is_ready)) =
        (mpsc::channel(), mpsc::channel(), mpsc::channel());
    let its_addresses: Vec<String> = there.iter().map(|&a| a.to_owned()).collect();
    std::thread::spawn(move || {
        unshare(UnshareFlags::NEWNET);
        its_thread.send(rustix::thread::gettid()).unwrap();
        its_wire.recv().unwrap();
        ip("link set lo up");
        add(&its_addresses, "vb");
        ip("link set vb up");
        serve();
        ready.send(()).unwrap();
        // A namespace lives as long as something is in it.
        loop {
            std::thread::park();
        }
    });
    ip(&format!(
        "link add va type veth peer name vb netns {}",
        thread.recv().unwrap()
    ));
    add(here, "va");
    ip("link set va up");
    wire.send(()).unwrap();
    is_ready.recv().unwrap();
    until(SOON, "the wire carries", || {
        ip("-o link show va").contains("LOWER_UP")
    });
}

fn add(addresses: &[impl AsRef<str>], device: &str) {
    for address in addresses {
        let address = address.as_ref();
        // Without a look for others that have it.
        let quick = if address.contains(':') { " nodad" } else { "" };
        ip(&format!("addr add {address} dev {device}{quick}"));
    }
}
