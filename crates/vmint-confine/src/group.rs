//! Limits that hold from outside: a control group (cgroups(7), version 2) for one process and all that it starts.
//!
//! Groups are folders. Where somebody may make folders among them, and give them controllers, the hierarchy has been *delegated* to
//! that user: to root everywhere, and to others below their `user@UID.service`, if systemd is there and the process is in there too.
//! No daemon is asked, and nothing has to be set up.
//!
//! ```text
//! /sys/fs/cgroup/…      the uppermost group that is ours: Ground::find
//!   └─ vmint            gives its groups their controllers
//!        └─ m0123…      the process's: Group::create, Group::entrance (in the child), Group::end
//! ```
//!
//! There is a group between, and it hands controllers on, so that a manager of the uppermost one cannot take them away while they
//! are in use: the kernel refuses that.
//!
//! A process that enters a group may have to wait for a grace period of the kernel's, 8 ms on an idle host of two processors. To be
//! started in it (`CLONE_INTO_CGROUP`) would spare that, but `clone3` is denied inside of a fence. So only those have a group that
//! are to be limited.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use vmint_model::Limits;
use vmint_model::cgroup::{Version, groups};

/// The group that all of vmint's are in.
const OURS: &str = "vmint";

/// A processor's time is dealt out in periods of so many microseconds. Within each a process may stand still.
const PERIOD_US: u64 = 20_000;

/// Why no group can be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NoGroup {
    /// The kernel has none of version 2, or they are not mounted.
    #[error("control groups of version 2 are not mounted")]
    NotMounted,
    /// They belong to somebody else.
    #[error("the control group {} of this session is not this user's", .0.display())]
    NotDelegated(PathBuf),
    /// The group above lacks a controller.
    #[error("{} offers no controller \"{controller}\"", .group.display())]
    NoController {
        /// The group above.
        group: PathBuf,
        /// What it does not offer.
        controller: &'static str,
    },
    /// Processes are in a group that is to have groups below it.
    #[error("control group {} holds processes, so no group below it can be limited", .0.display())]
    Inhabited(PathBuf),
    /// What the disk's blocks are on cannot be limited.
    #[error("{} is on no disk that can be limited by itself", .0.display())]
    NoDisk(PathBuf),
    /// A file of a group cannot be written.
    #[error("cannot write {}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl NoGroup {
    /// What somebody can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NotMounted
            | Self::NoController {
                controller: "cpu" | "memory" | "pids",
                ..
            } => "on a host with systemd, boot with `systemd.unified_cgroup_hierarchy=1`",
            Self::NoController { .. } => {
                "as an administrator: `systemctl set-property user@UID.service Delegate=\"cpu io memory pids\"`"
            }
            Self::NotDelegated(_) | Self::Inhabited(_) => {
                "run vmint below your user's manager: `systemd-run --user --scope vmint …`"
            }
            Self::NoDisk(_) => "set VMINT_HOME to a folder on another disk, or omit --io-limit",
            Self::Io { .. } => "`vmint doctor` shows what this host can limit",
        }
    }
}

/// A place where groups can be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ground {
    folder: PathBuf,
    controllers: Vec<String>,
}

impl Ground {
    /// Finds the uppermost group at or above this process's in which this process may make others.
    pub fn find() -> Result<Self, NoGroup> {
        let text = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
        let groups = groups(
            &text(Path::new("/proc/self/cgroup")),
            &text(Path::new("/proc/self/mountinfo")),
        );
        let own = groups
            .into_iter()
            .find(|group| group.version == Version::Two)
            .ok_or(NoGroup::NotMounted)?;
        let ours = own.upwards().filter(|folder| is_ours(folder)).last();
        let folder = ours
            .ok_or(NoGroup::NotDelegated(own.folder.clone()))?
            .to_owned();
        let controllers = text(&folder.join("cgroup.controllers"));
        let controllers = controllers.split_whitespace().map(str::to_owned).collect();
        Ok(Self {
            folder,
            controllers,
        })
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder that groups are made in.
    pub fn groups(&self) -> PathBuf {
        self.folder.join(OURS)
    }

    /// Whether it can hold these limits, for files in `home`.
    pub fn offers(&self, limits: &Limits, home: &Path) -> Result<(), NoGroup> {
        for controller in needed(limits) {
            if !self.controllers.iter().any(|has| has == controller) {
                let group = self.folder.clone();
                return Err(NoGroup::NoController { group, controller });
            }
        }
        if limits.io.is_some() {
            disk_of(home)?;
        }
        Ok(())
    }
}

/// The controllers that hold these limits.
fn needed(limits: &Limits) -> Vec<&'static str> {
    let mut all = vec!["memory", "pids"];
    all.extend(limits.cpu.map(|_| "cpu"));
    all.extend(limits.io.map(|_| "io"));
    all
}

/// What a group holds a process to.
#[derive(Clone, Copy, Debug)]
pub struct Bounds<'a> {
    /// What was asked for.
    pub limits: &'a Limits,
    /// Memory, in bytes. Clean contents of files that are in memory are given back before it is felt.
    pub memory: u64,
    /// Threads and processes.
    pub tasks: u32,
    /// A folder on the disk that `limits.io` is about.
    pub home: &'a Path,
}

/// A group for one process. Removed when it is dropped, if nothing is in it any more.
#[derive(Debug)]
pub struct Group {
    folder: PathBuf,
    procs: File,
    kill: Option<File>,
}

impl Group {
    /// Makes the group `name`, or takes the one that was left behind.
    pub fn create(ground: &Ground, name: &str, bounds: &Bounds<'_>) -> Result<Self, NoGroup> {
        ground.offers(bounds.limits, bounds.home)?;
        let controllers = needed(bounds.limits);
        let ours = ground.groups();
        hand_on(&ground.folder, &controllers)?;
        make(&ours)?;
        hand_on(&ours, &controllers)?;
        let folder = ours.join(name);
        make(&folder)?;
        let open = |file: &str| {
            let path = folder.join(file);
            let opened = OpenOptions::new().write(true).open(&path);
            opened.map_err(|source| NoGroup::Io { path, source })
        };
        let group = Self {
            procs: open("cgroup.procs")?,
            kill: open("cgroup.kill").ok(),
            folder,
        };
        group.bound(bounds)?;
        Ok(group)
    }

    fn bound(&self, bounds: &Bounds<'_>) -> Result<(), NoGroup> {
        self.write("memory.max", &bounds.memory.to_string())?;
        self.write("pids.max", &bounds.tasks.to_string())?;
        let cpu = bounds.limits.cpu.map_or_else(
            || "max".to_owned(),
            |cpu| (u64::from(cpu.thousandths()) * PERIOD_US / 1000).to_string(),
        );
        if self.folder.join("cpu.max").exists() {
            self.write("cpu.max", &format!("{cpu} {PERIOD_US}"))?;
        }
        if let Some(io) = bounds.limits.io {
            let (disk, io) = (disk_of(bounds.home)?, io.bytes());
            self.write("io.max", &format!("{disk} rbps={io} wbps={io}"))?;
        }
        Ok(())
    }

    fn write(&self, file: &str, text: &str) -> Result<(), NoGroup> {
        write(&self.folder.join(file), text)
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// How a child enters it, for use between fork and exec: async-signal-safe.
    pub fn entrance(&self) -> io::Result<impl FnMut() -> io::Result<()> + Send + Sync + use<>> {
        let procs = self.procs.try_clone()?;
        Ok(move || {
            // SAFETY: one byte of static text, to a descriptor that the closure owns. 0 is whoever writes it.
            match unsafe { libc::write(procs.as_raw_fd(), c"0".as_ptr().cast(), 1) } {
                1 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        })
    }

    /// Kills all that is in it (from Linux 5.14), and removes it. What does not go within a moment is left to [`remove`].
    pub fn end(&self) {
        if let Some(mut kill) = self.kill.as_ref() {
            // An error means that there is nothing left to kill.
            let _ = kill.write_all(b"1");
        }
        remove_emptied(&self.folder);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.end();
    }
}

/// Removes the group `name`, which somebody left behind who was killed. One that something is in stays.
pub fn remove(name: &str) {
    if let Ok(ground) = Ground::find() {
        remove_emptied(&ground.groups().join(name));
    }
}

/// How long what was killed may take to leave its group.
const LEAVES_WITHIN: Duration = Duration::from_secs(1);

/// Removes a group whose processes were killed. They leave it a moment later, and with KVM the kernel's own threads for the guest after
/// them: until then it cannot be removed.
fn remove_emptied(folder: &Path) {
    let (end, mut pause) = (Instant::now() + LEAVES_WITHIN, Duration::from_millis(1));
    while let Err(e) = std::fs::remove_dir(folder) {
        if e.kind() != io::ErrorKind::ResourceBusy || Instant::now() > end {
            return;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

fn make(folder: &Path) -> Result<(), NoGroup> {
    match std::fs::create_dir(folder) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(NoGroup::Io {
            path: folder.to_owned(),
            source: e,
        }),
        _ => Ok(()),
    }
}

/// Gives groups in `folder` these controllers.
fn hand_on(folder: &Path, controllers: &[&str]) -> Result<(), NoGroup> {
    let file = folder.join("cgroup.subtree_control");
    let has = std::fs::read_to_string(&file).unwrap_or_default();
    for controller in controllers {
        if has.split_whitespace().any(|one| one == *controller) {
            continue;
        }
        match write(&file, &format!("+{controller}")) {
            Err(NoGroup::Io { source, .. }) if source.raw_os_error() == Some(libc::EBUSY) => {
                return Err(NoGroup::Inhabited(folder.to_owned()));
            }
            done => done?,
        }
    }
    Ok(())
}

/// The kernel takes a file's text as one write.
fn write(path: &Path, text: &str) -> Result<(), NoGroup> {
    let file = OpenOptions::new().write(true).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|source| NoGroup::Io {
        path: path.to_owned(),
        source,
    })
}

/// Whether this process may make groups in `folder`, move processes to them, and give them controllers.
fn is_ours(folder: &Path) -> bool {
    ["", "cgroup.procs", "cgroup.subtree_control"]
        .iter()
        .all(|name| {
            let path =
                std::ffi::CString::new(folder.join(name).into_os_string().into_encoded_bytes());
            // SAFETY: the path is a terminated string that outlives the call.
            path.is_ok_and(|path| unsafe {
                libc::faccessat(libc::AT_FDCWD, path.as_ptr(), libc::W_OK, libc::AT_EACCESS) == 0
            })
        })
}

/// The disk that holds `folder`, as `MAJOR:MINOR`.
fn disk_of(folder: &Path) -> Result<String, NoGroup> {
    let none = || NoGroup::NoDisk(folder.to_owned());
    let device = folder.metadata().map_err(|_| none())?.dev();
    let (major, minor) = (libc::major(device), libc::minor(device));
    let block = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
    let block = std::fs::canonicalize(block).map_err(|_| none())?;
    // Limits are a disk's, not a partition's.
    let disk = if block.join("partition").exists() {
        block.parent().ok_or_else(none)?
    } else {
        &block
    };
    let numbers = std::fs::read_to_string(disk.join("dev")).map_err(|_| none())?;
    Ok(numbers.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_ground_lacks_is_named_with_a_remedy() {
        let ground = Ground {
            folder: "/g".into(),
            controllers: vec!["memory".into(), "pids".into()],
        };
        let cpu = Limits {
            cpu: Some("1".parse().unwrap()),
            ..Limits::default()
        };
        let io = Limits {
            io: Some("1M".parse().unwrap()),
            ..Limits::default()
        };
        assert!(ground.offers(&Limits::default(), Path::new("/")).is_ok());
        for (limits, name) in [(cpu, "cpu"), (io, "io")] {
            let refused = ground.offers(&limits, Path::new("/")).unwrap_err();
            assert_eq!(
                refused.to_string(),
                format!("/g offers no controller \"{name}\"")
            );
            assert!(!refused.hint().is_empty());
        }
        assert!(matches!(
            disk_of(Path::new("/proc")),
            Err(NoGroup::NoDisk(_))
        ));
    }
}
