//! Which QEMU, and what may execute its guests.

use crate::disk::Maker;
use crate::platform::{BOARD, PanicDevice};
use serde::{Deserialize, Serialize};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use vmint_confine::User;
use vmint_model::{Accelerator, Confine, ErrorKind, Fault};

/// The oldest QEMU that forks as FACTS.md describes.
pub const OLDEST: (u32, u32) = (7, 2);

/// A QEMU installation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Qemu {
    /// `qemu-system-…`.
    pub system: PathBuf,
    /// `qemu-img`.
    pub img: PathBuf,
    /// Major, minor, micro.
    pub version: (u32, u32, u32),
    /// The first line of `--version`, with the distribution's revision.
    pub banner: String,
    /// Changes when the programs do; see [`Qemu::stamp`].
    pub stamp: String,
    /// Whether it saves the state of devices without memory. A program that was asked by an older vmint is asked again.
    pub device_state: DeviceState,
    /// The board that new machines get, by its name with a version; see [`platform`](crate::platform).
    pub board: String,
    /// The boards that it has.
    pub boards: Vec<String>,
    /// What the processor that it emulates can do, in order.
    pub features: Vec<String>,
    /// By what its guests tell of a panic.
    pub panic: PanicDevice,
}

/// How a QEMU saves the state of a guest's devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceState {
    /// Alone; then only memory that has changed is to be saved besides.
    Alone,
    /// Together with all of memory.
    WithMemory,
}

/// What this host executes machines with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// The hypervisor.
    pub qemu: Qemu,
    /// What executes guests; found by booting one.
    pub accelerator: Accelerator,
    /// Why not KVM, when it is not.
    pub accelerator_reason: Option<String>,
    /// How strictly hypervisors are fenced in.
    #[serde(default)]
    pub confine: Confine,
    /// Whom hypervisors run as, if not as whoever starts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<User>,
}

/// No usable QEMU.
#[derive(Debug, thiserror::Error)]
pub enum QemuError {
    /// A program is nowhere in `PATH`.
    #[error("{program} is not installed")]
    Missing {
        /// The program.
        program: String,
    },
    /// It could not be executed.
    #[error("cannot execute {program:?}")]
    Execute {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It printed no version.
    #[error("{program:?} printed no version but {banner:?}")]
    Version {
        /// The program.
        program: PathBuf,
        /// What it printed.
        banner: String,
    },
    /// It is too old.
    #[error("{program:?} is QEMU {}.{}.{}, and vmint needs {}.{} or later", version.0, version.1, version.2, OLDEST.0, OLDEST.1)]
    TooOld {
        /// The program.
        program: PathBuf,
        /// Its version.
        version: (u32, u32, u32),
    },
}

impl From<QemuError> for Fault {
    fn from(e: QemuError) -> Self {
        Fault::from_error(ErrorKind::Hypervisor, &e)
            .hint("install QEMU 7.2 or later (Debian, Ubuntu: apt-get install qemu-system-x86 qemu-utils), or run make setup")
    }
}

impl Qemu {
    /// Finds the programs: `VMINT_QEMU` or the first `qemu-system-x86_64` in `PATH`, and `qemu-img`. Costs two `stat`.
    pub fn locate() -> Result<(PathBuf, PathBuf), QemuError> {
        let system = match std::env::var_os("VMINT_QEMU") {
            Some(path) if Path::new(&path).is_file() => path.into(),
            Some(path) => {
                return Err(QemuError::Missing {
                    program: path.to_string_lossy().into_owned(),
                });
            }
            None => find("qemu-system-x86_64")?,
        };
        Ok((system, find("qemu-img")?))
    }

    /// What changes when a program is replaced: its path, size and time of modification.
    pub fn stamp(system: &Path) -> Result<String, QemuError> {
        let meta = std::fs::metadata(system).map_err(|source| QemuError::Execute {
            program: system.into(),
            source,
        })?;
        Ok(format!(
            "{}:{}:{}.{}",
            system.display(),
            meta.len(),
            meta.mtime(),
            meta.mtime_nsec()
        ))
    }

    /// Asks the programs for their version, and what they can do. Starting QEMU for this costs 50 ms: keep the answer while
    /// [`stamp`](Self::stamp) stays the same.
    pub async fn query(system: PathBuf, img: PathBuf) -> Result<Self, QemuError> {
        let stamp = Self::stamp(&system)?;
        let output = tokio::process::Command::from(vmint_spawn::command(&system))
            .arg("--version")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|source| QemuError::Execute {
                program: system.clone(),
                source,
            })?;
        let text = String::from_utf8_lossy(&output.stdout);
        let banner = text.lines().next().unwrap_or_default().trim().to_owned();
        let Some(version) = version(&banner) else {
            return Err(QemuError::Version {
                program: system,
                banner,
            });
        };
        if (version.0, version.1) < OLDEST {
            return Err(QemuError::TooOld {
                program: system,
                version,
            });
        }
        let Abilities {
            device_state,
            board,
            boards,
            features,
            panic,
        } = probe(&system).await?;
        Ok(Self {
            system,
            img,
            version,
            banner,
            stamp,
            device_state,
            board,
            boards,
            features,
            panic,
        })
    }
}

/// How long a QEMU without a machine may take to answer.
const PROBE: std::time::Duration = std::time::Duration::from_secs(30);

/// What a QEMU can do.
struct Abilities {
    device_state: DeviceState,
    board: String,
    boards: Vec<String>,
    features: Vec<String>,
    panic: PanicDevice,
}

/// Asks a QEMU without a machine for its boards, for what its emulated processor can do, and to save its devices, of which it has
/// none, to nowhere. That is asked once, and on its own: later a refusal may mean that a disk is full, and must not be taken for
/// this.
async fn probe(system: &Path) -> Result<Abilities, QemuError> {
    let mut command = tokio::process::Command::from(vmint_spawn::command(system));
    let args = ["-nodefaults", "-no-user-config", "-display", "none"];
    command
        .args(args)
        .args(["-machine", "none", "-accel", "tcg", "-qmp", "stdio"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let failed = |source| QemuError::Execute {
        program: system.into(),
        source,
    };
    let ask = async {
        let mut child = command.spawn()?;
        let mut stdin = child.stdin.take().expect("piped above");
        let commands = "{\"execute\":\"qmp_capabilities\"}\n\
            {\"execute\":\"query-machines\",\"id\":\"boards\"}\n\
            {\"execute\":\"query-cpu-model-expansion\",\"arguments\":{\"type\":\"full\",\"model\":{\"name\":\"max\"}},\"id\":\"processor\"}\n\
            {\"execute\":\"qom-list-types\",\"arguments\":{\"implements\":\"pvpanic\"},\"id\":\"panic\"}\n\
            {\"execute\":\"xen-save-devices-state\",\"arguments\":{\"filename\":\"/dev/null\"},\"id\":\"devices\"}\n\
            {\"execute\":\"quit\"}\n";
        match tokio::io::AsyncWriteExt::write_all(&mut stdin, commands.as_bytes()).await {
            // It has ended before it was asked: what it said before is the answer.
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {}
            other => other?,
        }
        child.wait_with_output().await
    };
    let answered = tokio::time::timeout(PROBE, ask).await;
    let output = answered
        .map_err(|_| failed(io::ErrorKind::TimedOut.into()))?
        .map_err(failed)?;
    Ok(abilities(&String::from_utf8_lossy(&output.stdout)))
}

/// What a QEMU can do by its answers, one on each line.
fn abilities(answers: &str) -> Abilities {
    let answers: Vec<serde_json::Value> = answers
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let returned = |id: &str| {
        let answer = answers.iter().find(|answer| answer["id"] == id)?;
        answer.get("return")
    };
    let device_state = if returned("devices").is_some() {
        DeviceState::Alone
    } else {
        tracing::warn!("this QEMU cannot save device state alone; snapshots hold all of memory");
        DeviceState::WithMemory
    };
    let machines = returned("boards").and_then(serde_json::Value::as_array);
    let machines = machines.into_iter().flatten();
    let name = |machine: &serde_json::Value| machine["name"].as_str().map(str::to_owned);
    let mut boards: Vec<_> = machines
        .clone()
        .filter_map(name)
        .filter(|name| name.contains("q35"))
        .collect();
    let newest = || machines.clone().find(|machine| machine["alias"] == "q35");
    let board = if boards.iter().any(|board| board == BOARD) {
        BOARD.to_owned()
    } else {
        newest().and_then(name).unwrap_or_else(|| "q35".to_owned())
    };
    if !boards.contains(&board) {
        boards.push(board.clone());
    }
    let properties = returned("processor").and_then(|found| found["model"]["props"].as_object());
    let mut features: Vec<_> = properties
        .into_iter()
        .flatten()
        .filter(|(name, value)| *value == true && crate::args::is_feature(name))
        .map(|(name, _)| name.clone())
        .collect();
    features.sort();
    let known = returned("panic").and_then(serde_json::Value::as_array);
    let panic = if known.is_some_and(|types| types.iter().any(|t| t["name"] == "pvpanic")) {
        PanicDevice::Pvpanic
    } else {
        PanicDevice::Absent
    };
    Abilities {
        device_state,
        board,
        boards,
        features,
        panic,
    }
}

impl Host {
    /// What makes layers of disks here.
    pub fn maker(&self) -> Maker {
        Maker {
            program: self.qemu.img.clone(),
            confine: self.confine,
        }
    }
}

fn find(program: &str) -> Result<PathBuf, QemuError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| {
            rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok() && file.is_file()
        })
        .ok_or_else(|| QemuError::Missing {
            program: program.to_owned(),
        })
}

/// Reads `QEMU emulator version 7.2.22 (Debian …)`.
pub(crate) fn version(banner: &str) -> Option<(u32, u32, u32)> {
    let text = banner.split("version ").nth(1)?;
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((
        numbers.next()?.ok()?,
        numbers.next()?.ok()?,
        numbers.next().and_then(Result::ok).unwrap_or(0),
    ))
}

/// Why KVM cannot even be tried, if so. That it can be opened proves nothing yet: a guest must have booted with it.
pub fn kvm_obstacle() -> Option<String> {
    match std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/kvm")
    {
        Ok(_) => None,
        Err(e) if e.kind() == io::ErrorKind::NotFound => Some("the host has no /dev/kvm".into()),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            Some("this user may not open /dev/kvm (add it to the group kvm)".into())
        }
        Err(e) => Some(format!("/dev/kvm cannot be opened: {e}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_distributions_write_them() {
        for (banner, expected) in [
            (
                "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)",
                Some((7, 2, 22)),
            ),
            (
                "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)",
                Some((10, 0, 2)),
            ),
            ("QEMU emulator version 9.1", Some((9, 1, 0))),
            ("qemu: no", None),
            ("", None),
        ] {
            assert_eq!(version(banner), expected, "{banner}");
        }
    }

    #[test]
    fn what_a_qemu_can_do_is_read_from_its_answers() {
        let answers = |machines: &str| {
            format!(
                "{{\"QMP\": {{}}}}\n{{\"return\": {{}}}}\n{{\"return\": [{machines}], \"id\": \"boards\"}}\n\
                 {{\"return\": {{\"model\": {{\"name\": \"max\", \"props\": {{\"avx\": true, \"aes\": true, \"pku\": false, \
                 \"migratable\": true, \"level\": 13}}}}}}, \"id\": \"processor\"}}\nnonsense\n\
                 {{\"return\": [{{\"name\": \"pvpanic\", \"parent\": \"isa-device\"}}], \"id\": \"panic\"}}\n\
                 {{\"return\": {{}}, \"id\": \"devices\"}}\n"
            )
        };
        let both = abilities(&answers(
            "{\"name\": \"pc-q35-10.0\", \"alias\": \"q35\"}, {\"name\": \"pc-q35-7.2\"}, {\"name\": \"microvm\"}",
        ));
        assert_eq!(both.board, BOARD);
        assert_eq!(both.boards, ["pc-q35-10.0", BOARD]);
        assert_eq!(both.features, ["aes", "avx"]);
        assert_eq!(both.device_state, DeviceState::Alone);
        assert_eq!(both.panic, PanicDevice::Pvpanic);
        // One that has that board no more, or never had it under that name.
        let other = abilities(&answers(
            "{\"name\": \"pc-q35-rhel9.6.0\", \"alias\": \"q35\"}",
        ));
        assert_eq!(other.board, "pc-q35-rhel9.6.0");
        // One that does not answer has what it is asked for by the old name, and no state of devices alone.
        let mute = abilities("");
        assert_eq!((mute.board.as_str(), mute.boards.len()), ("q35", 1));
        assert_eq!(mute.device_state, DeviceState::WithMemory);
        assert_eq!(mute.panic, PanicDevice::Absent);
    }
}
