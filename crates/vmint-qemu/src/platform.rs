//! What a guest sees of the QEMU that executes it, and which QEMU can go on with it.
//!
//! A template is made anew when QEMU is another; a snapshot cannot be, and is kept for longer than a QEMU lasts. So a frozen
//! machine is not bound to a program's bytes but to what its guest has seen of it:
//!
//! * the board, by a name with a version (`pc-q35-7.2`), under which every later QEMU shows the same devices, and reads and
//!   writes their state in the same form. vmint asks for the oldest that it works with, wherever QEMU has it;
//! * what the processor can do. Under emulation a QEMU has all features of an older one and some more; those are turned off for
//!   a guest that has not seen them, and for every guest that boots, so that an older QEMU can go on with it, too. Under KVM it is
//!   the host's processor, which must be able to do what it could then.
//!
//! What an older vmint has frozen says neither. Its board is the newest that its QEMU had, by the banner; what its processor
//! could do is what a QEMU of that version, or a later one, can.

use crate::host::{Host, Qemu};
use crate::{Manifest, Shape};
use serde::{Deserialize, Serialize};
use vmint_model::{Accelerator, ErrorKind, Fault};

/// The board that is asked for, where this QEMU has it: that of the oldest QEMU that vmint works with.
pub const BOARD: &str = "pc-q35-7.2";

/// What the processor that QEMU 7.2 emulates can do. Guests that boot under a later one see no more: then either of the two goes on
/// with what the other has frozen.
#[rustfmt::skip]
const BASELINE: &[&str] = &[
    "3dnow", "3dnowext", "abm", "acpi", "adx", "aes", "apic", "arat", "avx", "avx2", "bmi1",
    "bmi2", "clflush", "clflushopt", "clwb", "cmov", "cr8legacy", "cx16", "cx8", "de", "f16c",
    "fma", "fpu", "fsgsbase", "fxsr", "hypervisor", "i64", "la57", "lahf-lm", "lahf_lm", "lm",
    "mca", "mce", "mmx", "mmxext", "monitor", "movbe", "mpx", "msr", "mtrr", "npt", "nx", "pae",
    "pat", "pclmuldq", "pclmulqdq", "pdpe1gb", "pge", "pks", "pku", "pni", "popcnt", "pse",
    "pse36", "rdrand", "rdtscp", "sep", "smap", "smep", "ss", "sse", "sse2", "sse3", "sse4-1",
    "sse4-2", "sse4.1", "sse4.2", "sse4_1", "sse4_2", "sse4a", "ssse3", "svm", "svme-addr-chk",
    "syscall", "tsc", "umip", "vaes", "vgif", "xd", "xgetbv1", "xsave", "xsaveopt",
];

/// What a guest that boots under emulation sees of a processor that can do all of this.
pub(crate) fn baseline(features: &[String]) -> Vec<String> {
    let is_old = |feature: &&String| BASELINE.contains(&feature.as_str());
    features.iter().filter(is_old).cloned().collect()
}

/// What a guest sees of its QEMU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// The board, with its version.
    pub board: String,
    /// What the processor can do, in order; nothing if that is not known.
    pub features: Vec<String>,
    /// By what its kernel tells of a panic. What an older vmint has frozen has nothing for it.
    #[serde(default, skip_serializing_if = "PanicDevice::is_absent")]
    pub panic: PanicDevice,
}

/// By what a guest's kernel tells QEMU that it panicked. Without it only the console tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PanicDevice {
    /// By nothing.
    #[default]
    Absent,
    /// QEMU's device `pvpanic`, a port that a driver of the guest's kernel writes to. It has no state that would be frozen.
    Pvpanic,
}

impl PanicDevice {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde asks for")]
    fn is_absent(&self) -> bool {
        *self == Self::Absent
    }
}

/// Why a frozen machine cannot be loaded here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// QEMU was made without a device of it.
    #[error("it has the device pvpanic, which {now} does not have")]
    Panic {
        /// QEMU here.
        now: String,
    },
    /// Another accelerator.
    #[error("it was executed by {then}, and this host executes machines by {now}")]
    Accelerator {
        /// When it was frozen.
        then: Accelerator,
        /// Here.
        now: Accelerator,
    },
    /// QEMU lacks its board.
    #[error("it has the board {board} of {then}, which {now} does not have")]
    Board {
        /// The board.
        board: String,
        /// QEMU that froze it.
        then: String,
        /// QEMU here.
        now: String,
    },
    /// The processor lacks something.
    #[error("its processor could do more than that of this host: {}", missing.join(", "))]
    Processor {
        /// What it lacks.
        missing: Vec<String>,
    },
    /// vmint asks QEMU for other devices.
    #[error(
        "another version of vmint has frozen it, with other devices (by {then}; this is {now})"
    )]
    Devices {
        /// QEMU that froze it.
        then: String,
        /// QEMU here.
        now: String,
    },
}

impl From<Misfit> for Fault {
    fn from(e: Misfit) -> Self {
        Fault::from_error(ErrorKind::Corrupt, &e).context("its memory cannot be loaded here")
    }
}

impl Platform {
    /// What a guest that was frozen sees; `None` if its QEMU's banner cannot be read.
    pub fn of(manifest: &Manifest) -> Option<Self> {
        if let Some(platform) = &manifest.platform {
            return Some(platform.clone());
        }
        let (major, minor, _) = crate::host::version(&manifest.qemu)?;
        Some(Self {
            board: format!("pc-q35-{major}.{minor}"),
            features: Vec::new(),
            panic: PanicDevice::Absent,
        })
    }

    /// What of a processor that can do all of `here` a guest must not see that has not seen it before.
    pub fn hidden<'a>(&self, here: &'a [String]) -> Vec<&'a str> {
        if self.features.is_empty() {
            return Vec::new();
        }
        let is_new = |feature: &&String| !self.features.contains(feature);
        here.iter().filter(is_new).map(String::as_str).collect()
    }
}

impl Host {
    /// What guests see here that boot.
    pub fn platform(&self) -> Platform {
        Platform {
            board: self.qemu.board.clone(),
            features: match self.accelerator {
                Accelerator::Tcg => baseline(&self.qemu.features),
                Accelerator::Kvm => processor(),
            },
            panic: self.qemu.panic,
        }
    }

    /// What guests can be shown here.
    fn features(&self) -> Vec<String> {
        match self.accelerator {
            Accelerator::Tcg => self.qemu.features.clone(),
            Accelerator::Kvm => processor(),
        }
    }

    /// Whether a frozen machine can be loaded here.
    ///
    /// # Errors
    /// Why not.
    pub fn fits(&self, manifest: &Manifest) -> Result<(), Misfit> {
        let (then, now) = (manifest.qemu.clone(), self.qemu.banner.clone());
        if manifest.shape.accelerator != self.accelerator {
            return Err(Misfit::Accelerator {
                then: manifest.shape.accelerator,
                now: self.accelerator,
            });
        }
        let Some(platform) = Platform::of(manifest) else {
            return Err(Misfit::Devices { then, now });
        };
        let is_known = self.qemu.boards.contains(&platform.board);
        if manifest.platform.is_none() {
            return self.fits_unnoted(manifest, is_known);
        }
        if manifest.hardware != self.hardware(&manifest.shape) {
            return Err(Misfit::Devices { then, now });
        }
        if !is_known {
            let board = platform.board;
            return Err(Misfit::Board { board, then, now });
        }
        if platform.panic != PanicDevice::Absent && platform.panic != self.qemu.panic {
            return Err(Misfit::Panic { now });
        }
        let here = self.features();
        let lacks = |feature: &String| !here.contains(feature);
        let missing: Vec<_> = platform.features.into_iter().filter(lacks).collect();
        if missing.is_empty() {
            Ok(())
        } else {
            Err(Misfit::Processor { missing })
        }
    }

    /// The same for what an older vmint has frozen. Of its processor under KVM nothing can be said but that it was the same.
    fn fits_unnoted(&self, manifest: &Manifest, is_board_known: bool) -> Result<(), Misfit> {
        if manifest.hardware == self.unnoted_hardware(&manifest.shape) {
            return Ok(());
        }
        let version = |banner: &str| crate::host::version(banner);
        let is_later = version(&manifest.qemu) <= version(&self.qemu.banner);
        if self.accelerator == Accelerator::Tcg && is_board_known && is_later {
            return Ok(());
        }
        Err(Misfit::Devices {
            then: manifest.qemu.clone(),
            now: self.qemu.banner.clone(),
        })
    }

    /// Digest over what vmint asks QEMU for, whichever board and processor.
    pub fn hardware(&self, shape: &Shape) -> String {
        let args = crate::args::hardware(shape, "", &[]).join("\0");
        crate::frozen::fingerprint(&["2", &args])
    }

    /// As vmint reckoned it before it noted what guests see.
    fn unnoted_hardware(&self, shape: &Shape) -> String {
        let args = crate::args::hardware(shape, "q35", &[]).join("\0");
        let processor = match self.accelerator {
            Accelerator::Kvm => described_processor(),
            Accelerator::Tcg => String::new(),
        };
        let Qemu { banner, stamp, .. } = &self.qemu;
        crate::frozen::fingerprint(&["1", banner, stamp, &args, &processor])
    }
}

fn first_processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    info.split("\n\n").next().unwrap_or_default().to_owned()
}

/// Maker and features of the host's processor. Its revision and its microcode are updated, and no guest stops for that.
fn processor() -> Vec<String> {
    features_of(&first_processor())
}

fn features_of(processor: &str) -> Vec<String> {
    let mut features: Vec<_> = processor
        .lines()
        .filter_map(|line| line.split_once(':'))
        .flat_map(|(key, value)| match key.trim() {
            "vendor_id" => vec![format!("vendor {}", value.trim())],
            "flags" => value.split_ascii_whitespace().map(str::to_owned).collect(),
            _ => Vec::new(),
        })
        .collect();
    features.sort();
    features
}

fn described_processor() -> String {
    let wanted = [
        "vendor_id",
        "cpu family",
        "model",
        "stepping",
        "microcode",
        "flags",
    ];
    let is_wanted = |line: &&str| {
        line.split(':')
            .next()
            .is_some_and(|key| wanted.contains(&key.trim()))
    };
    let first = first_processor();
    let lines: Vec<_> = first.lines().filter(is_wanted).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MachineType;
    use crate::host::DeviceState;
    use vmint_model::{ByteSize, Confine, Link};

    fn host(banner: &str, boards: &[&str], features: &[&str]) -> Host {
        let owned = |all: &[&str]| all.iter().map(|&s| s.to_owned()).collect::<Vec<_>>();
        Host {
            qemu: Qemu {
                system: "/usr/bin/qemu".into(),
                img: "/usr/bin/qemu-img".into(),
                version: (7, 2, 0),
                banner: format!("QEMU emulator version {banner}"),
                stamp: banner.into(),
                device_state: DeviceState::Alone,
                board: BOARD.into(),
                boards: owned(boards),
                features: owned(features),
                panic: PanicDevice::Pvpanic,
            },
            accelerator: Accelerator::Tcg,
            accelerator_reason: None,
            confine: Confine::Best,
            user: None,
        }
    }

    fn frozen_by(host: &Host) -> Manifest {
        let shape = Shape {
            machine: MachineType::Q35,
            accelerator: host.accelerator,
            memory: ByteSize::mib(128),
            cpus: 1,
            net: Link::Nat,
            disk: true,
        };
        Manifest {
            version: crate::frozen::VERSION,
            fingerprint: "f".into(),
            hardware: host.hardware(&shape),
            platform: Some(host.platform()),
            shape,
            image: "deb".into(),
            image_digest: "d".into(),
            qemu: host.qemu.banner.clone(),
            full: false,
            layers: 2,
            files: Vec::new(),
            created_at_ms: 1,
            boot_ms: None,
        }
    }

    const OLD: &[&str] = &[BOARD];
    const NEW: &[&str] = &[BOARD, "pc-q35-10.0"];

    #[test]
    fn another_qemu_goes_on_with_what_the_guest_has_seen() {
        let old = host("7.2.22", OLD, &["avx", "sse"]);
        let new = host("10.0.2", NEW, &["avx", "avx512", "sse"]);
        assert_eq!(new.fits(&frozen_by(&old)), Ok(()));
        // And shows its guest no more than that.
        let platform = Platform::of(&frozen_by(&old)).unwrap();
        assert_eq!(platform.hidden(&new.qemu.features), ["avx512"]);
        assert!(platform.hidden(&old.qemu.features).is_empty());
        // Nor to one that boots: so the older one can go on with that.
        assert_eq!(new.platform(), old.platform());
        assert_eq!(old.fits(&frozen_by(&new)), Ok(()));
        // What has seen more cannot go on with less, and is told what.
        let mut later = frozen_by(&new);
        later
            .platform
            .as_mut()
            .unwrap()
            .features
            .push("avx512".into());
        let misfit = old.fits(&later).unwrap_err();
        assert!(misfit.to_string().contains("avx512"), "{misfit}");
        later.platform.as_mut().unwrap().board = "pc-q35-10.0".into();
        let misfit = old.fits(&later).unwrap_err();
        assert!(matches!(misfit, Misfit::Board { .. }), "{misfit}");
    }

    #[test]
    fn other_devices_or_another_accelerator_do_not_fit() {
        let host = host("7.2.22", OLD, &["sse"]);
        let mut other = frozen_by(&host);
        other.hardware = "another".into();
        assert!(matches!(host.fits(&other), Err(Misfit::Devices { .. })));
        let mut kvm = frozen_by(&host);
        kvm.shape.accelerator = Accelerator::Kvm;
        assert!(matches!(host.fits(&kvm), Err(Misfit::Accelerator { .. })));
    }

    #[test]
    fn what_an_older_vmint_froze_fits_the_same_qemu_and_later_ones() {
        let old = host("7.2.22 (Debian)", OLD, &["sse"]);
        let new = host("10.0.2 (Debian)", NEW, &["sse", "more"]);
        let mut manifest = frozen_by(&old);
        manifest.platform = None;
        manifest.hardware = old.unnoted_hardware(&manifest.shape);
        assert_eq!(old.fits(&manifest), Ok(()));
        assert_eq!(new.fits(&manifest), Ok(()));
        let platform = Platform::of(&manifest).unwrap();
        assert_eq!(platform.board, BOARD);
        assert!(platform.hidden(&new.qemu.features).is_empty());
        manifest.qemu = new.qemu.banner.clone();
        manifest.hardware = "of a later one".into();
        assert!(old.fits(&manifest).is_err());
        manifest.qemu = "nonsense".into();
        assert!(new.fits(&manifest).is_err());
    }

    #[test]
    fn what_was_frozen_without_a_device_is_loaded_without_it() {
        let host = host("7.2.22", OLD, &["sse"]);
        let mut older = serde_json::to_value(frozen_by(&host)).unwrap();
        assert_eq!(older["platform"]["panic"], "pvpanic");
        older["platform"].as_object_mut().unwrap().remove("panic");
        let older: Manifest = serde_json::from_value(older).unwrap();
        assert_eq!(host.fits(&older), Ok(()));
        let seen = Platform::of(&older).unwrap();
        assert_eq!(seen.panic, PanicDevice::Absent);
        assert_eq!(host.platform().panic, PanicDevice::Pvpanic);
        // And the other way round it is told before anything is tried.
        let mut slim = host.clone();
        slim.qemu.panic = PanicDevice::Absent;
        let misfit = slim.fits(&frozen_by(&host)).unwrap_err();
        assert!(misfit.to_string().contains("pvpanic"), "{misfit}");
    }

    #[test]
    fn a_hosts_processor_is_its_maker_and_its_features() {
        let info = "processor\t: 0\nvendor_id\t: AuthenticAMD\nstepping\t: 1\nmicrocode\t: 0xa\nflags\t\t: sse fpu\nbugs\t: x";
        assert_eq!(features_of(info), ["fpu", "sse", "vendor AuthenticAMD"]);
    }
}
