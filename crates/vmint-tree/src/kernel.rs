//! File systems that the kernel makes up: their files have no length, or a wrong one, and a tree does not include them.

use rustix::io::Errno;
use std::os::fd::AsFd;

/// By the kernel's `magic.h`: proc, sysfs, cgroup and cgroup2, debugfs, tracefs, securityfs, bpf, pstore, efivarfs,
/// configfs, binfmt_misc, mqueue, devpts, selinuxfs, fusectl, nsfs.
const MADE_UP: [u32; 17] = [
    0x0000_9fa0,
    0x6265_6572,
    0x0027_e0eb,
    0x6367_7270,
    0x6462_6720,
    0x7472_6163,
    0x7363_6673,
    0xcafe_4a11,
    0x6165_676c,
    0xde5e_81e4,
    0x6265_6570,
    0x4249_4e4d,
    0x1980_0202,
    0x0000_1cd1,
    0xf97c_ff8c,
    0x6573_5543,
    0x6e73_6673,
];

/// What is known of the file system that was seen last.
#[derive(Debug, Default)]
pub(crate) struct Kernels {
    last: Option<(u64, bool)>,
}

impl Kernels {
    /// Whether a file of this device is of such a file system.
    pub(crate) fn makes(&mut self, device: u64, file: impl AsFd) -> Result<bool, Errno> {
        if let Some((known, made_up)) = self.last
            && known == device
        {
            return Ok(made_up);
        }
        let kind = rustix::fs::fstatfs(file)?.f_type as u32;
        let made_up = MADE_UP.contains(&kind);
        self.last = Some((device, made_up));
        Ok(made_up)
    }
}
