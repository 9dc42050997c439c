//! Snapshots whose manifest was wrong from the beginning.
//!
//! A machine that had been forked, stopped and started anew has booted, into a memory file of its own that holds nothing. Until
//! vmint looked at what is there, a snapshot of it was sealed with the stamp of the file that the machine had been forked from,
//! and could never be used: all that there is of it is right, but for that stamp.
//!
//! What such a file must hold is known without a stamp: nothing. So a manifest is mended if all other files are what they were
//! frozen as, and the memory file is as long as the machine's memory and blank. Everything else is damage.

use super::{FileStamp, Frozen, FrozenError, freeze, write_manifest};
use crate::seen::Seen;
use std::io;
use std::path::Path;

/// What a frozen machine's folder was found to be.
#[derive(Debug)]
pub enum Rescue {
    /// It can be used.
    Sound,
    /// It could not be used, and now can.
    Rescued,
    /// It cannot be used.
    Damaged(FrozenError),
}

/// Looks whether a frozen machine can be used, and mends its manifest if that is all that is wrong with it.
pub fn rescue(folder: &Path) -> Rescue {
    let frozen = match Frozen::open(folder) {
        Ok(frozen) => frozen,
        Err(e) => return Rescue::Damaged(e),
    };
    match frozen.check() {
        Ok(()) => Rescue::Sound,
        Err(damage) => match mend(frozen) {
            Ok(true) => Rescue::Rescued,
            Ok(false) => Rescue::Damaged(damage),
            Err(e) => Rescue::Damaged(e),
        },
    }
}

fn mend(mut frozen: Frozen) -> Result<bool, FrozenError> {
    let folder = frozen.folder.clone();
    let others = frozen
        .manifest
        .files
        .iter()
        .filter(|f| f.name != Frozen::RAM);
    if others.clone().next().is_none() || others.clone().any(|f| f.check(&folder).is_err()) {
        return Ok(false);
    }
    frozen.check_layers(&folder)?;
    let ram = frozen.ram();
    let fail = |source: io::Error| FrozenError::Io {
        path: ram.clone(),
        source,
    };
    let (stamp, _) = FileStamp::of(&folder, Frozen::RAM).map_err(fail)?;
    if stamp.size != frozen.manifest.shape.memory.0 || !stamp.is_blank() {
        return Ok(false);
    }
    let seen = Seen::lock_or_make(&folder, Frozen::RAM);
    freeze(&ram).map_err(fail)?;
    // Once more, for that was a change of the file.
    let (stamp, changed_ns) = FileStamp::of(&folder, Frozen::RAM).map_err(fail)?;
    for file in &mut frozen.manifest.files {
        if file.name == Frozen::RAM {
            file.clone_from(&stamp);
        }
    }
    write_manifest(&folder, &frozen.manifest).map_err(fail)?;
    if let Some(seen) = seen {
        seen.note(changed_ns);
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::{MachineType, Shape};
    use crate::{Manifest, frozen::VERSION};
    use std::fs::File;
    use std::os::unix::fs::FileExt;
    use vmint_model::{Accelerator, ByteSize, Link};

    const MEMORY: u64 = 1 << 20;

    fn manifest(files: Vec<FileStamp>) -> Manifest {
        Manifest {
            version: VERSION,
            fingerprint: "f".into(),
            hardware: "h".into(),
            platform: None,
            shape: Shape {
                machine: MachineType::Q35,
                accelerator: Accelerator::Tcg,
                memory: ByteSize(MEMORY),
                cpus: 1,
                net: Link::None,
                disk: false,
            },
            image: "tiny".into(),
            image_digest: "d".into(),
            qemu: "q".into(),
            full: false,
            layers: 0,
            files,
            created_at_ms: 1,
            boot_ms: None,
        }
    }

    /// A snapshot whose memory file is blank, and whose manifest says it is another one.
    fn broken(folder: &Path) {
        let ram = File::create_new(folder.join(Frozen::RAM)).unwrap();
        ram.set_len(MEMORY).unwrap();
        std::fs::write(folder.join(Frozen::STATE), "state").unwrap();
        std::fs::write(folder.join(Frozen::DELTA), "delta").unwrap();
        Frozen::seal(folder, manifest(Vec::new())).unwrap();
        let mut frozen = Frozen::open(folder).unwrap();
        for file in &mut frozen.manifest.files {
            if file.name == Frozen::RAM {
                file.modified_ns += 1;
                file.sha256 = "0".repeat(64);
            }
        }
        write_manifest(folder, &frozen.manifest).unwrap();
        assert!(matches!(frozen.check(), Err(FrozenError::Damaged { .. })));
    }

    #[test]
    fn a_stamp_of_another_file_is_mended_if_the_memory_is_blank_and_all_else_is_sound() {
        let dir = tempfile::tempdir().unwrap();
        broken(dir.path());
        assert!(matches!(rescue(dir.path()), Rescue::Rescued));
        assert!(matches!(rescue(dir.path()), Rescue::Sound));
        assert!(Frozen::open(dir.path()).unwrap().verify().is_empty());
    }

    #[test]
    fn what_is_damaged_is_left_as_it_is() {
        for name in [Frozen::RAM, Frozen::STATE, Frozen::DELTA] {
            let dir = tempfile::tempdir().unwrap();
            broken(dir.path());
            let path = dir.path().join(name);
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(&path, mode).unwrap();
            let file = File::options().write(true).open(&path).unwrap();
            file.write_all_at(b"X", 3).unwrap();
            let before = std::fs::read(dir.path().join(Frozen::MANIFEST)).unwrap();
            assert!(matches!(rescue(dir.path()), Rescue::Damaged(_)), "{name}");
            let after = std::fs::read(dir.path().join(Frozen::MANIFEST)).unwrap();
            assert_eq!(before, after);
        }
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(rescue(dir.path()), Rescue::Damaged(_)));
    }

    /// The fault that made such snapshots: a fact about another file.
    #[test]
    fn a_stamp_that_is_not_the_files_is_not_sealed() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(Frozen::RAM), vec![0; MEMORY as usize]).unwrap();
        let (mut stamp, _) = FileStamp::of(dir.path(), Frozen::RAM).unwrap();
        stamp.sha256 = "0".repeat(64);
        let sealed = Frozen::seal(dir.path(), manifest(vec![stamp]));
        assert!(
            matches!(sealed, Err(FrozenError::Damaged { .. })),
            "{sealed:?}"
        );
        assert!(Frozen::open(dir.path()).is_err());
    }
}
