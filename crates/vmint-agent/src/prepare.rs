//! Making this machine itself: what two forks of one template must not have in common.
//!
//! Applied before the image's init starts, and again over a running system whenever the machine was forked; so every
//! step may find its work done already, or done differently.

use crate::exec::failure;
use crate::{console, net, sys};
use rustix::time::{ClockId, Timespec, clock_settime};
use std::fs;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Instant;
use vmint_protocol::{ErrorCode, GuestError, Prepare, SshHostKey};

/// Applies all of it. Everything is tried; the first failure is told. A machine that was told `before` who it is, and is the same, was
/// brought back to a moment of its own: then there is less to do.
pub fn apply(prepare: &Prepare, before: Option<&Prepare>) -> Result<(), GuestError> {
    let mut first = None;
    let mut note = |what: &str, result: io::Result<()>| {
        if let Err(e) = result {
            let code = if e.kind() == io::ErrorKind::StorageFull {
                ErrorCode::NoSpace
            } else {
                ErrorCode::Os
            };
            first.get_or_insert_with(|| failure(code, format_args!("{what}: {e}")));
        }
    };
    let began = Instant::now();
    // What programs may ask for at any moment comes first.
    note("reseed its random numbers", reseed(&prepare.seed));
    note("write its generation", write_generation(prepare.generation));
    if !before.is_some_and(|before| is_same(before, prepare)) {
        become_it(prepare, &mut note);
    }
    // The clock last: whoever watches it, such as systemd for its timers, starts to run now.
    note(
        "set its clock",
        set_clock(prepare.realtime_ns + began.elapsed().as_nanos() as u64),
    );
    first.map_or(Ok(()), Err)
}

fn is_same(before: &Prepare, now: &Prepare) -> bool {
    (&before.hostname, before.machine_id) == (&now.hostname, now.machine_id)
        && before.ssh_host_keys == now.ssh_host_keys
        && before.network == now.network
}

/// What others know this machine by.
fn become_it(prepare: &Prepare, note: &mut impl FnMut(&str, io::Result<()>)) {
    note(
        "set its host name",
        rustix::system::sethostname(prepare.hostname.as_bytes()).map_err(Into::into),
    );
    if let Some(network) = &prepare.network {
        note("configure its network", net::configure(network));
        note("write /etc/resolv.conf", write_resolver(network.dns));
    }
    if Path::new("/etc").is_dir() {
        note(
            "write /etc/hostname",
            replace(
                "/etc/hostname",
                format!("{}\n", prepare.hostname).as_bytes(),
                0o644,
            ),
        );
        note("write /etc/hosts", write_hosts(&prepare.hostname));
        note(
            "write its machine-id",
            write_machine_id(&prepare.machine_id),
        );
        note(
            "replace its SSH host keys",
            write_host_keys(Path::new("/etc/ssh"), &prepare.ssh_host_keys),
        );
    }
}

fn reseed(seed: &[u8]) -> io::Result<()> {
    let random = fs::File::options().write(true).open("/dev/urandom")?;
    Ok(sys::reseed(random.as_fd(), seed)?)
}

fn set_clock(realtime_ns: u64) -> io::Result<()> {
    let time = Timespec {
        tv_sec: (realtime_ns / 1_000_000_000) as i64,
        tv_nsec: (realtime_ns % 1_000_000_000) as i64,
    };
    Ok(clock_settime(ClockId::Realtime, time)?)
}

/// Catches up with the host's clock after the machine stood still. A small step is made gradually, so that nobody sees
/// time jump or is woken by it; a large one at once.
pub fn catch_up(realtime_ns: u64) -> io::Result<()> {
    let now = rustix::time::clock_gettime(ClockId::Realtime);
    let now_ns = now.tv_sec * 1_000_000_000 + now.tv_nsec;
    let behind = realtime_ns as i64 - now_ns;
    if behind.abs() < GRADUAL_NS && sys::slew_clock(behind).is_ok() {
        return Ok(());
    }
    set_clock(realtime_ns)
}

/// The kernel catches up 0.5 ms in a second, so this takes a little over three minutes.
const GRADUAL_NS: i64 = 100_000_000;

fn write_generation(generation: u64) -> io::Result<()> {
    fs::create_dir_all("/run/vmint")?;
    replace(
        "/run/vmint/generation",
        format!("{generation}\n").as_bytes(),
        0o644,
    )
}

/// Gives a file this content, in place. Replacing it by a rename would be safer against a power cut in this very
/// moment, but ext4 then writes the file to its disk at once, and every fork would wait for that.
fn replace(path: &str, content: &[u8], mode: u32) -> io::Result<()> {
    let mut file = fs::File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(mode)
        .open(path)?;
    file.write_all(content)?;
    let meta = file.metadata()?;
    if meta.len() != content.len() as u64 {
        file.set_len(content.len() as u64)?;
    }
    if meta.permissions().mode() & 0o7777 != mode {
        file.set_permissions(fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

fn write_new(path: &str, content: &[u8], mode: u32) -> io::Result<()> {
    let mut file = fs::File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(content)
}

/// Names the machine's own name in `/etc/hosts`, where Debian has it: `sudo` and others look it up.
fn write_hosts(hostname: &str) -> io::Result<()> {
    let old = match fs::read_to_string("/etc/hosts") {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            "127.0.0.1\tlocalhost\n::1\tlocalhost\n".to_owned()
        }
        Err(e) => return Err(e),
    };
    let new = hosts_with(&old, hostname);
    if new == old {
        Ok(())
    } else {
        replace("/etc/hosts", new.as_bytes(), 0o644)
    }
}

/// Sets the line that begins with 127.0.1.1.
fn hosts_with(old: &str, hostname: &str) -> String {
    let line = format!("127.0.1.1\t{hostname}");
    let mut found = false;
    let mut out: Vec<&str> = Vec::new();
    for l in old.lines() {
        if l.split_ascii_whitespace().next() == Some("127.0.1.1") {
            if !found {
                out.push(&line);
            }
            found = true;
        } else {
            out.push(l);
        }
    }
    if !found {
        out.push(&line);
    }
    out.join("\n") + "\n"
}

fn write_machine_id(id: &[u8; 16]) -> io::Result<()> {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(33);
    for byte in id {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text.push('\n');
    replace("/etc/machine-id", text.as_bytes(), 0o444)?;
    let dbus = Path::new("/var/lib/dbus/machine-id");
    if dbus.symlink_metadata().is_ok_and(|m| m.is_file()) {
        fs::write(dbus, text)?;
    }
    Ok(())
}

/// A name server, unless somebody in the guest manages the file: then it is a link to what that somebody writes.
fn write_resolver(dns: [u8; 4]) -> io::Result<()> {
    const PATH: &str = "/etc/resolv.conf";
    let is_link = Path::new(PATH)
        .symlink_metadata()
        .is_ok_and(|m| m.is_symlink());
    if is_link && Path::new(PATH).exists() {
        return Ok(());
    }
    if is_link {
        fs::remove_file(PATH)?;
    }
    fs::create_dir_all("/etc")?;
    let [a, b, c, d] = dns;
    replace(
        PATH,
        format!("nameserver {a}.{b}.{c}.{d}\n").as_bytes(),
        0o644,
    )
}

fn write_host_keys(folder: &Path, keys: &[SshHostKey]) -> io::Result<()> {
    if keys.is_empty() || !folder.is_dir() {
        return Ok(());
    }
    let old: Vec<_> = fs::read_dir(folder)?
        .flatten()
        .filter(|e| is_host_key(&e.file_name().to_string_lossy()))
        .collect();
    if old.is_empty() && !Path::new("/usr/sbin/sshd").exists() {
        return Ok(());
    }
    // It was this machine before: what it has besides is its own.
    let is_there = |key: &SshHostKey| {
        let file = folder.join(format!("ssh_host_{}_key", key.algorithm));
        fs::read(file).is_ok_and(|content| content == key.private.as_bytes())
    };
    if keys.iter().all(is_there) {
        return Ok(());
    }
    for entry in old {
        fs::remove_file(entry.path())?;
    }
    for key in keys {
        if !key.algorithm.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a key algorithm is no plain word",
            ));
        }
        let private = folder.join(format!("ssh_host_{}_key", key.algorithm));
        write_new(&private.to_string_lossy(), key.private.as_bytes(), 0o600)?;
        write_new(
            &format!("{}.pub", private.to_string_lossy()),
            key.public.as_bytes(),
            0o644,
        )?;
    }
    // A server that runs has the old keys in its memory.
    let pid = fs::read_to_string("/run/sshd.pid")
        .ok()
        .and_then(|t| t.trim().parse::<i32>().ok());
    if let Some(pid) = pid.filter(|p| *p > 1)
        && let Err(e) = sys::kill(pid, libc::SIGHUP)
    {
        console::say(&format!(
            "cannot tell sshd (process {pid}) of its new host keys: {e}"
        ));
    }
    Ok(())
}

fn is_host_key(name: &str) -> bool {
    name.starts_with("ssh_host_") && (name.ends_with("_key") || name.ends_with("_key.pub"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_name_is_set_once() {
        let once = hosts_with("127.0.0.1\tlocalhost\n", "a");
        assert_eq!(once, "127.0.0.1\tlocalhost\n127.0.1.1\ta\n");
        assert_eq!(
            hosts_with(&once, "b"),
            "127.0.0.1\tlocalhost\n127.0.1.1\tb\n"
        );
        assert_eq!(
            hosts_with("127.0.1.1 x\n127.0.1.1 y\n", "b"),
            "127.0.1.1\tb\n"
        );
        assert_eq!(hosts_with("", "b"), "127.0.1.1\tb\n");
    }

    #[test]
    fn old_host_keys_make_way_for_the_given_ones() {
        let dir = std::env::temp_dir().join(format!("vmint-agent-keys-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        for name in ["ssh_host_rsa_key", "ssh_host_rsa_key.pub", "sshd_config"] {
            fs::write(dir.join(name), "old").unwrap();
        }
        let key = SshHostKey {
            algorithm: "ed25519".into(),
            private: "p".into(),
            public: "q".into(),
        };
        let written = write_host_keys(&dir, std::slice::from_ref(&key));
        // One that was made meanwhile stays when the machine is told again who it is.
        fs::write(dir.join("ssh_host_ecdsa_key"), "own").unwrap();
        let again = write_host_keys(&dir, &[key]);
        let mut names: Vec<_> = fs::read_dir(&dir)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let mode =
            fs::metadata(dir.join("ssh_host_ed25519_key")).map(|m| m.permissions().mode() & 0o777);
        fs::remove_dir_all(&dir).unwrap();
        written.unwrap();
        again.unwrap();
        assert_eq!(
            names,
            [
                "ssh_host_ecdsa_key",
                "ssh_host_ed25519_key",
                "ssh_host_ed25519_key.pub",
                "sshd_config"
            ]
        );
        assert_eq!(mode.unwrap(), 0o600);
    }
}
