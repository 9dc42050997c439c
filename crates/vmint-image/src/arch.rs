//! Processor architectures, under all the names that others have for them.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What a guest's programs are compiled for. A guest has its host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 64-bit ARM.
    Aarch64,
}

impl Arch {
    /// This host's.
    #[cfg(target_arch = "x86_64")]
    pub const HOST: Self = Self::X86_64;
    /// This host's.
    #[cfg(target_arch = "aarch64")]
    pub const HOST: Self = Self::Aarch64;

    /// As the kernel says (`uname -m`).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// As Debian and OCI registries say.
    pub fn debian(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }

    /// The architecture that an ELF file's first 20 bytes name; `None` if they are no ELF header, `Some(Err)` with the
    /// machine number for another architecture.
    pub fn of_elf(header: &[u8]) -> Option<Result<Self, u16>> {
        let machine = header.get(18..20)?;
        if !header.starts_with(b"\x7fELF") {
            return None;
        }
        let little = header[5] == 1;
        let machine = [machine[0], machine[1]];
        let machine = if little {
            u16::from_le_bytes(machine)
        } else {
            u16::from_be_bytes(machine)
        };
        Some(match machine {
            62 => Ok(Self::X86_64),
            183 => Ok(Self::Aarch64),
            other => Err(other),
        })
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The name of an ELF machine number, for messages.
pub(crate) fn elf_machine_name(machine: u16) -> String {
    match machine {
        3 => "i386".to_owned(),
        8 => "mips".to_owned(),
        20 => "powerpc".to_owned(),
        21 => "powerpc64".to_owned(),
        22 => "s390x".to_owned(),
        40 => "arm".to_owned(),
        243 => "riscv".to_owned(),
        258 => "loongarch".to_owned(),
        other => format!("ELF machine {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_is_a_program_for_this_host() {
        let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(Arch::of_elf(&program), Some(Ok(Arch::HOST)));
        assert_eq!(Arch::of_elf(b"#!/bin/sh\nexit 0\n....."), None);
        assert_eq!(Arch::of_elf(b"\x7fELF"), None);
    }
}
