//! What homes begin with. To fetch a kernel and to boot and freeze an image takes from seconds to a minute; so it is
//! done once, in a home that no test uses, and every test's home links its files.
//!
//! Kernel and busybox come from the distribution's archive, or are those of the folder `images` of another home, where
//! `VMINT_TEST_IMAGES` names one in the same file system.
//!
//! The seeds lie in `target/tmp/vmint-seed/KEY/`, and the key changes with the program under test. Whoever comes first
//! makes one, under a lock; the others wait.

use crate::call::{Call, binary};
use crate::home::{Home, scratch};
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a home begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seed {
    /// Nothing at all.
    Empty,
    /// The kernel and image `tiny`, and what executes machines here.
    Image,
    /// And templates of it with 128 MiB, without and with a network.
    Tiny,
    /// And image `deb`: Debian 12 with systemd, python3 and an SSH server; and a template of it with 256 MiB.
    Debian,
    /// And image `workshop`, with a template of it with 640 MiB and a network: Debian 12 with Node.js, python3 and podman; a
    /// docker and a registry that nothing has started; and the container image `localhost/box:1`, which is busybox.
    Workshop,
}

/// Makes of Debian what [`Seed::Workshop`] says. The registry at `localhost:5000` asks who one is: `me`, `registry-s3cret`.
const WORKSHOP: &str = r#"
set -e
systemctl disable --now docker.service docker.socket containerd docker-registry
root=$(mktemp -d)
mkdir -p $root/bin $root/tmp $root/etc
cp /bin/busybox $root/bin/
for name in $(busybox --list); do [ $name = busybox ] || ln -s busybox $root/bin/$name; done
tar -C $root -c . | podman import --change 'ENV PATH=/bin' --change 'CMD ["/bin/sh"]' - localhost/box:1
rm -rf $root
printf '[[registry]]\nlocation = "localhost:5000"\ninsecure = true\n' >/etc/containers/registries.conf.d/local.conf
sed -i 's|path: /etc/docker/registry|&/users|' /etc/docker/registry/config.yml
python3 -W ignore - >/etc/docker/registry/users <<'END'
import crypt
print("me:" + crypt.crypt("registry-s3cret", crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=16)))
END
"#;

impl Seed {
    fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Image => "image",
            Self::Tiny => "tiny",
            Self::Debian => "debian",
            Self::Workshop => "workshop",
        }
    }

    fn basis(self) -> Self {
        match self {
            Self::Empty | Self::Image => Self::Empty,
            Self::Tiny => Self::Image,
            Self::Debian => Self::Tiny,
            Self::Workshop => Self::Image,
        }
    }

    /// The commands that make it of the one before.
    fn commands(self) -> &'static [&'static [&'static str]] {
        match self {
            Self::Empty => &[],
            // A boot needs no template, and leaves none.
            Self::Image => &[
                &["create", "seed", "--cold", "--memory", "128M", "--start"],
                &["rm", "--force", "seed"],
            ],
            Self::Tiny => &[
                &["run", "--memory", "128M", "--", "true"],
                &["run", "--memory", "128M", "--net", "nat", "--", "true"],
            ],
            Self::Debian => &[
                &[
                    "image",
                    "build",
                    "deb",
                    "--from",
                    "debian:12",
                    "--package",
                    "openssh-server",
                ],
                &["run", "--image", "deb", "--memory", "256M", "--", "true"],
            ],
            Self::Workshop => &[
                &[
                    "image",
                    "build",
                    "workshop",
                    "--from",
                    "debian:12",
                    "--package",
                    "nodejs",
                    "--package",
                    "python3",
                    "--package",
                    "podman",
                    "--package",
                    "crun",
                    "--package",
                    "netavark",
                    "--package",
                    "aardvark-dns",
                    "--package",
                    "iptables",
                    "--package",
                    "ca-certificates",
                    "--package",
                    "docker.io",
                    "--package",
                    "apparmor",
                    "--package",
                    "docker-registry",
                    "--package",
                    "busybox-static",
                    "--run",
                    WORKSHOP,
                ],
                &[
                    "run", "--image", "workshop", "--memory", "640M", "--net", "nat", "--", "true",
                ],
            ],
        }
    }

    /// How long each of them may take, under emulation and beside other tests.
    fn deadline(self) -> Duration {
        match self {
            Self::Workshop => Duration::from_mins(15),
            _ => Duration::from_secs(280),
        }
    }

    /// Fills `root`, an empty folder.
    pub(crate) fn plant(self, root: &Path) {
        if self == Self::Empty {
            return;
        }
        let from = self.ensure();
        // Thousands of small files that nothing changes. Were they linked one by one, their times of change would be new with
        // every home, and a tar that reads them at that moment would fail.
        let shared = ["modules"];
        link_tree(&from, root, &shared)
            .unwrap_or_else(|e| panic!("cannot link {}: {e}", from.display()));
    }

    /// The folder of this seed, made if need be.
    fn ensure(self) -> PathBuf {
        let all = scratch().join("vmint-seed");
        let key = key();
        let (folder, name) = (all.join(&key), self.name());
        let done = folder.join(name);
        if done.exists() {
            return done;
        }
        fs::create_dir_all(&folder).expect("target/tmp can be written");
        let lock = File::create(all.join(format!("{key}.{name}.lock")))
            .expect("target/tmp can be written");
        flock(&lock, FlockOperation::LockExclusive).expect("a file can be locked");
        if done.exists() {
            return done;
        }
        remove_others(&all, &key);
        let made = folder.join(format!(".{name}"));
        if made.exists() {
            // Left by a test run that was killed; nobody else is here under the lock.
            fs::remove_dir_all(&made).expect("target/tmp can be written");
        }
        let home = Home::with(self.basis());
        if let (Self::Image, Some(images)) = (self, std::env::var_os("VMINT_TEST_IMAGES")) {
            link_tree(Path::new(&images), &home.root().join("images"), &[])
                .expect("VMINT_TEST_IMAGES is beside target/tmp");
        }
        for words in self.commands() {
            Call::new(&home, *words)
                .deadline(self.deadline())
                .run()
                .ok();
        }
        link_tree(home.root(), &made, &[]).expect("a home can be linked");
        fs::rename(&made, &done).expect("target/tmp can be written");
        done
    }
}

/// Of the program under test and of the QEMU that it uses.
fn key() -> String {
    let stamp = |path: &Path| {
        let meta = fs::metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        format!(
            "{:x}-{:x}",
            meta.len(),
            meta.mtime() * 1_000_000_000 + meta.mtime_nsec()
        )
    };
    stamp(&binary())
}

/// Seeds of other programs under test that nobody has added to for an hour: a test run of one may be under way.
fn remove_others(all: &Path, key: &str) {
    for entry in fs::read_dir(all).into_iter().flatten().flatten() {
        let path = entry.path();
        let changed = entry.metadata().and_then(|meta| meta.modified());
        let age = changed.ok().and_then(|at| at.elapsed().ok());
        let is_old = age.is_some_and(|age| age > Duration::from_secs(3600));
        if !is_old || entry.file_name().to_string_lossy().starts_with(key) {
            continue;
        }
        // What cannot be removed now is removed another time.
        let _ = if path.is_dir() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
    }
}

/// Makes `to` a copy of `from` whose large files are links. What a home changes in place is copied: its database. Lock
/// files are nobody's business but one home's, nor is what says which home it is, and the link to the sockets is made anew. Of folders of these names that are
/// `shared`, `to` gets a link, so `from` must stay.
fn link_tree(from: &Path, to: &Path, shared: &[&str]) -> io::Result<()> {
    fs::create_dir_all(to)?;
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (name, kind) = (entry.file_name(), entry.file_type()?);
        let (source, target) = (entry.path(), to.join(&name));
        let name = name.to_string_lossy();
        if kind.is_dir() && shared.contains(&&*name) {
            std::os::unix::fs::symlink(&source, &target)?;
        } else if kind.is_dir() {
            link_tree(&source, &target, shared)?;
        } else if kind.is_symlink() {
            if name != "sockets" {
                std::os::unix::fs::symlink(fs::read_link(&source)?, &target)?;
            }
        } else if name == "vmint.db" || name == "vmint.db-wal" {
            fs::copy(&source, &target)?;
        } else if name != "lock"
            && !name.ends_with(".lock")
            && name != "vmint.db-shm"
            && name != "home.json"
        {
            fs::hard_link(&source, &target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// And so makes the seed, where that must be before all other tests: see `scripts/test`.
    #[test]
    fn a_home_from_a_seed_needs_neither_a_build_nor_a_probe() {
        let home = Home::with(Seed::Tiny);
        let run = home.ok("run --memory 128M -- echo seeded");
        assert_eq!(
            (run.text().as_str(), run.error().as_str()),
            ("seeded\n", "")
        );
    }

    #[test]
    fn a_copy_shares_large_files_and_neither_the_database_nor_locks() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("images/x")).unwrap();
        for name in ["vmint.db", "images/x/disk", "images/lock", "images/x.lock"] {
            fs::write(from.join(name), name).unwrap();
        }
        link_tree(&from, &to, &[]).unwrap();
        let inode = |path: PathBuf| fs::metadata(path).unwrap().ino();
        assert_eq!(
            inode(from.join("images/x/disk")),
            inode(to.join("images/x/disk"))
        );
        assert_ne!(inode(from.join("vmint.db")), inode(to.join("vmint.db")));
        assert!(!to.join("images/lock").exists() && !to.join("images/x.lock").exists());
    }
}
