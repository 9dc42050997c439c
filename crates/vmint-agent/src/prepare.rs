//! Making this machine itself: what two forks of one template must not have in common.
//!
//! Applied before the image's init starts, and again over a running system whenever the machine was forked; so every
//! step may find its work done already, or done differently.

use crate::exec::failure;
use crate::{console, net, settings, sys};
use rustix::time::{ClockId, Timespec, clock_settime};
use std::fs;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Instant;
use vmint_protocol::{ErrorCode, GuestError, Prepare, SshHostKey};

/// Applies all of it. Everything is tried; the first failure is told. A machine that was told `before` who it is, and is the same, was
/// brought back to a moment of its own: then there is less to do. Gives the addresses whose connections have lost their other ends.
pub fn apply(prepare: &Prepare, before: Option<&Prepare>) -> Result<Vec<[u8; 4]>, GuestError> {
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
    let cut_off = if before.is_some_and(|before| is_same(before, prepare)) {
        prepare.network.iter().map(|own| own.address).collect()
    } else {
        become_it(prepare, &mut note)
    };
    // The clock last: whoever watches it, such as systemd for its timers, starts to run now.
    note(
        "set its clock",
        set_clock(prepare.realtime_ns + began.elapsed().as_nanos() as u64),
    );
    first.map_or(Ok(cut_off), Err)
}

fn is_same(before: &Prepare, now: &Prepare) -> bool {
    (&before.hostname, before.machine_id) == (&now.hostname, now.machine_id)
        && before.ssh_host_keys == now.ssh_host_keys
        && before.network == now.network
}

/// What others know this machine by. Gives the addresses that had connections.
fn become_it(prepare: &Prepare, note: &mut impl FnMut(&str, io::Result<()>)) -> Vec<[u8; 4]> {
    let mut cut_off = Vec::new();
    note(
        "set its host name",
        rustix::system::sethostname(prepare.hostname.as_bytes()).map_err(Into::into),
    );
    if let Some(network) = &prepare.network {
        let configured = net::configure(network).map(|addresses| cut_off = addresses);
        note("configure its network", configured);
        note("write /etc/resolv.conf", write_resolver(network.dns));
    }
    if Path::new("/etc").is_dir() {
        note(
            "write /etc/hostname",
            settings::write(
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
    cut_off
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
    settings::write(
        "/run/vmint/generation",
        format!("{generation}\n").as_bytes(),
        0o644,
    )
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

/// Names the machine's own name in `/etc/hosts`, where Debian has it, for `sudo` and others look it up; and `localhost`, whose file is
/// empty or absent in images made for containers, whose engine brings one.
fn write_hosts(hostname: &str) -> io::Result<()> {
    let old = match settings::read("/etc/hosts") {
        // Somebody's long list is not cut.
        Err(e) if e.kind() == io::ErrorKind::FileTooLarge => {
            console::say("/etc/hosts is left as it is: it is too long");
            return Ok(());
        }
        read => read?,
    };
    let new = hosts_with(&old, hostname);
    if new == old {
        Ok(())
    } else {
        settings::write("/etc/hosts", &new, 0o644)
    }
}

/// Sets the line that begins with 127.0.1.1, and adds those of `localhost` if no address has the name.
fn hosts_with(old: &[u8], hostname: &str) -> Vec<u8> {
    let own = format!("127.0.1.1\t{hostname}");
    let mut found = false;
    let mut named = [false; 2];
    let mut lines: Vec<&[u8]> = Vec::new();
    for line in old.split_inclusive(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let entry = line.split(|byte| *byte == b'#').next().unwrap_or_default();
        let mut words = entry
            .split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty());
        let address = words.next().unwrap_or_default();
        if words.any(|name| name.eq_ignore_ascii_case(b"localhost")) {
            named[usize::from(address.contains(&b':'))] = true;
        }
        if address == b"127.0.1.1" {
            if !found {
                lines.push(own.as_bytes());
            }
            found = true;
        } else {
            lines.push(line);
        }
    }
    if !found {
        lines.push(own.as_bytes());
    }
    let added: &[&[u8]] = match named {
        [true, _] => &[],
        [false, true] => &[b"127.0.0.1\tlocalhost"],
        [false, false] => &[
            b"127.0.0.1\tlocalhost",
            b"::1\tlocalhost ip6-localhost ip6-loopback",
        ],
    };
    let all: Vec<&[u8]> = added.iter().copied().chain(lines).collect();
    let mut new = all.join(&b'\n');
    new.push(b'\n');
    new
}

fn write_machine_id(id: &[u8; 16]) -> io::Result<()> {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(33);
    for byte in id {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text.push('\n');
    settings::write("/etc/machine-id", text.as_bytes(), 0o444)?;
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
    // Nobody has written what is empty.
    if is_link && settings::read(PATH).is_ok_and(|content| !content.is_empty()) {
        return Ok(());
    }
    fs::create_dir_all("/etc")?;
    let [a, b, c, d] = dns;
    settings::write(
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
                "a key algorithm is not a plain word",
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
        let with = |old: &str, name| String::from_utf8(hosts_with(old.as_bytes(), name)).unwrap();
        let once = with("127.0.0.1\tlocalhost\n", "a");
        assert_eq!(once, "127.0.0.1\tlocalhost\n127.0.1.1\ta\n");
        assert_eq!(with(&once, "b"), "127.0.0.1\tlocalhost\n127.0.1.1\tb\n");
        assert_eq!(
            with("127.0.0.1 localhost\n127.0.1.1 x\n127.0.1.1 y\n", "b"),
            "127.0.0.1 localhost\n127.0.1.1\tb\n"
        );
    }

    #[test]
    fn localhost_is_named_where_it_is_not_and_left_where_it_is() {
        let with = |old: &[u8]| hosts_with(old, "b");
        const BOTH: &[u8] = b"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";
        for (old, added) in [
            (&b""[..], BOTH),
            (b"# 127.0.0.1 localhost\n", BOTH),
            (b"10.0.0.1 localhosts\n", BOTH),
            (b"\xff\xfe bytes\n", BOTH),
            (b"::1 LocalHost\n", b"127.0.0.1\tlocalhost\n"),
            (b"127.0.0.1 a localhost # b\n", b""),
        ] {
            let expected = [added, old, b"127.0.1.1\tb\n"].concat();
            assert_eq!(with(old), expected, "{}", String::from_utf8_lossy(old));
            assert_eq!(with(&expected), expected, "again");
        }
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
