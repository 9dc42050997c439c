//! One runtime for each process.
//!
//! A thread drives it; whoever waits polls its own future and is woken by that thread. A forked child has no such
//! thread, and what its parent had under way is not its own: it makes a runtime for itself when it first needs one.
//! Nothing here is ever freed: to drop a runtime behind a fork would be to wait for threads that do not exist.

use std::sync::atomic::{AtomicPtr, Ordering};
use std::{io, process, ptr, thread};
use tokio::runtime::{Builder, Handle};

struct Runtime {
    pid: u32,
    handle: Handle,
}

// A pointer and not a lock: a lock that another thread held during a fork stays locked in the child.
static CURRENT: AtomicPtr<Runtime> = AtomicPtr::new(ptr::null_mut());

/// The runtime of this process, made if need be.
pub fn handle() -> io::Result<Handle> {
    loop {
        let found = CURRENT.load(Ordering::Acquire);
        // SAFETY: what the pointer has once been set to is leaked, and never changed.
        if let Some(runtime) = unsafe { found.as_ref() }
            && runtime.pid == process::id()
        {
            return Ok(runtime.handle.clone());
        }
        let made = Box::into_raw(Box::new(make()?));
        // If another thread was faster, its runtime is used, and this one idles.
        let _ = CURRENT.compare_exchange(found, made, Ordering::AcqRel, Ordering::Acquire);
    }
}

fn make() -> io::Result<Runtime> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let drive = move || runtime.block_on(std::future::pending::<()>());
    thread::Builder::new().name("vmint".into()).spawn(drive)?;
    Ok(Runtime {
        pid: process::id(),
        handle,
    })
}
