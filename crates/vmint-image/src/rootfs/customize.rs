//! What makes a root file system a guest: no identity of its own, a user, and nothing that only a real computer needs.

use super::tree::{Attributes, Tree};
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{self, Read};
use std::path::Path;

/// The user that images are made with.
const USER: &str = "vmint";
const UID: u32 = 1000;

/// Units that wait for what a guest never has, or work for a computer that runs for weeks.
const MASKED: [&str; 16] = [
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "man-db.timer",
    "motd-news.timer",
    "systemd-networkd-wait-online.service",
    "getty@tty1.service",
    "serial-getty@ttyS0.service",
    "console-getty.service",
    // The seed is the host's to give, and different for each fork.
    "systemd-random-seed.service",
    "systemd-boot-random-seed.service",
    "systemd-pstore.service",
    "systemd-fsck-root.service",
];

fn text(tree: &mut Tree, path: &str, mode: u32, content: &str) -> io::Result<()> {
    tree.file(
        Path::new(path),
        Attributes::root(mode),
        &mut content.as_bytes(),
    )
    .map(drop)
}

/// Sets up what [`debian`](super::debian) has unpacked.
pub(crate) fn debian(tree: &mut Tree) -> io::Result<()> {
    strip_identity(tree)?;
    add_user(tree)?;
    for unit in MASKED {
        let path = format!("etc/systemd/system/{unit}");
        tree.symlink(
            Path::new(&path),
            OsStr::new("/dev/null"),
            Attributes::root(0o777),
        )?;
    }
    // The agent has mounted the root before systemd starts, and nothing else is to be mounted or checked.
    text(
        tree,
        "etc/fstab",
        0o644,
        "# The root is mounted by vmint's agent.\n",
    )?;
    // The journal in memory: each fork would write it to its disk otherwise. A machine that stays is given the folder that has
    // journald write there.
    text(
        tree,
        "etc/systemd/journald.conf.d/vmint.conf",
        0o644,
        "[Journal]\nStorage=auto\nRuntimeMaxUse=16M\nSystemMaxUse=64M\n",
    )?;
    tree.remove(Path::new("var/log/journal"))?;
    text(tree, "etc/default/locale", 0o644, "LANG=C.UTF-8\n")?;
    // What mmdebstrap told its own apt: a proxy of the host's, say.
    tree.remove(Path::new("etc/apt/apt.conf.d/99mmdebstrap"))
}

/// Takes away what must differ between machines; each is given its own when it is forked.
fn strip_identity(tree: &mut Tree) -> io::Result<()> {
    // Empty and not absent: an absent one makes systemd take this for a first boot and go through all presets.
    text(tree, "etc/machine-id", 0o444, "")?;
    text(tree, "etc/hostname", 0o644, "localhost\n")?;
    text(
        tree,
        "etc/hosts",
        0o644,
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n",
    )?;
    text(tree, "etc/resolv.conf", 0o644, "")?;
    for path in [
        "var/lib/dbus/machine-id",
        "var/lib/systemd/random-seed",
        "var/lib/systemd/credential.secret",
    ] {
        tree.remove(Path::new(path))?;
    }
    for name in tree.list("etc/ssh")? {
        if name.to_string_lossy().starts_with("ssh_host_") {
            tree.remove(&Path::new("etc/ssh").join(name))?;
        }
    }
    Ok(())
}

/// Adds the user, who may do everything without a password, and takes root's password away.
fn add_user(tree: &mut Tree) -> io::Result<()> {
    let mut passwd = tree.read_text("etc/passwd")?;
    if !passwd.lines().any(|line| line.starts_with("vmint:")) {
        writeln!(passwd, "{USER}:x:{UID}:{UID}:{USER}:/home/{USER}:/bin/bash")
            .expect("writing to a string");
        text(tree, "etc/passwd", 0o644, &passwd)?;
        let mut group = tree.read_text("etc/group")?;
        writeln!(group, "{USER}:x:{UID}:").expect("writing to a string");
        text(tree, "etc/group", 0o644, &group)?;
        // 42 is Debian's `shadow`, in every release.
        let shadow_mode = Attributes {
            gid: 42,
            ..Attributes::root(0o640)
        };
        let mut shadow: String =
            tree.read_text("etc/shadow")?
                .lines()
                .fold(String::new(), |text, line| {
                    match line
                        .strip_prefix("root:")
                        .and_then(|rest| rest.split_once(':'))
                    {
                        Some((_, rest)) => text + "root::" + rest + "\n",
                        None => text + line + "\n",
                    }
                });
        writeln!(shadow, "{USER}:*:19000:0:99999:7:::").expect("writing to a string");
        tree.file(
            Path::new("etc/shadow"),
            shadow_mode.clone(),
            &mut shadow.as_bytes(),
        )?;
        let gshadow = tree.read_text("etc/gshadow")?;
        if !gshadow.is_empty() {
            let gshadow = gshadow + USER + ":!::\n";
            tree.file(
                Path::new("etc/gshadow"),
                shadow_mode,
                &mut gshadow.as_bytes(),
            )?;
        }
    }
    text(
        tree,
        "etc/sudoers.d/vmint",
        0o440,
        &format!("{USER} ALL=(ALL:ALL) NOPASSWD: ALL\n"),
    )?;
    let owned = |mode| Attributes {
        uid: UID,
        gid: UID,
        ..Attributes::root(mode)
    };
    let home = format!("home/{USER}");
    tree.directory(Path::new(&home), Some(owned(0o755)))?;
    for name in tree.list("etc/skel")? {
        let from = format!("etc/skel/{}", name.to_string_lossy());
        let Ok(mut file) = tree.open(&from) else {
            continue;
        };
        if file.metadata()?.is_file() {
            let mut content = Vec::new();
            file.read_to_end(&mut content)?;
            tree.file(
                &Path::new(&home).join(name),
                owned(0o644),
                &mut content.as_slice(),
            )?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_has_a_user_and_no_identity() {
        let dir = tempfile::tempdir().unwrap();
        let mut tree = Tree::create(&dir.path().join("root")).unwrap();
        for (path, content) in [
            ("etc/passwd", "root:x:0:0:root:/root:/bin/bash\n"),
            ("etc/group", "root:x:0:\n"),
            ("etc/shadow", "root:*:19000:0:99999:7:::\nbin:*:1::::::\n"),
            ("etc/ssh/ssh_host_rsa_key", "secret"),
            ("etc/ssh/sshd_config", "x"),
            ("var/lib/systemd/random-seed", "secret"),
            ("etc/machine-id", "0123"),
            ("etc/skel/.profile", "profile"),
        ] {
            text(&mut tree, path, 0o644, content).unwrap();
        }
        debian(&mut tree).unwrap();
        let read = |path: &str| tree.read_text(path).unwrap();
        assert!(read("etc/passwd").contains("vmint:x:1000:1000:"));
        assert!(
            read("etc/shadow").starts_with("root::19000:")
                && read("etc/shadow").contains("\nvmint:*:")
        );
        assert_eq!(
            tree.timeless("etc/shadow"),
            Attributes {
                gid: 42,
                ..Attributes::root(0o640)
            }
        );
        assert_eq!(tree.timeless("home/vmint/.profile").uid, 1000);
        assert_eq!(tree.timeless("etc/sudoers.d/vmint").mode, 0o440);
        assert_eq!(
            (read("etc/machine-id"), read("etc/resolv.conf")),
            (String::new(), String::new())
        );
        assert!(!tree.exists("etc/ssh/ssh_host_rsa_key") && tree.exists("etc/ssh/sshd_config"));
        assert!(!tree.exists("var/lib/systemd/random-seed"));
    }
}
