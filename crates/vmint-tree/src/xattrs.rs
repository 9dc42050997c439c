//! Extended attributes: those of users (`user.*`), POSIX access lists and file capabilities. Others belong to the system
//! that a file is on (labels of SELinux, hashes of IMA, notes of overlayfs), and stay there.

use rustix::fs::XattrFlags;
use rustix::io::Errno;
use std::os::fd::BorrowedFd;

/// A file's capabilities.
const CAPABILITY: &[u8] = b"security.capability";
/// Its access list.
const ACCESS: &[u8] = b"system.posix_acl_access";
/// The access list of what is made in a folder.
const DEFAULT: &[u8] = b"system.posix_acl_default";
/// Most bytes of all attributes of a file that are sent: less than a reader of archives takes.
const MOST: usize = 512 << 10;
/// Longest list of names, and longest value, that Linux has.
const LONGEST: usize = 64 << 10;

/// Whether extended attributes are packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Xattrs {
    /// They are.
    #[default]
    Keep,
    /// They stay behind.
    Drop,
}

/// What an attribute does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// It is a note.
    Note,
    /// It says who may use the file.
    Access,
    /// It says who may use what others make in the folder.
    DefaultAccess,
    /// It gives a program powers.
    Power,
    /// It belongs to another system, and is not taken.
    Foreign,
}

/// What an attribute of this name does.
pub fn meaning(name: &[u8]) -> Meaning {
    match name {
        CAPABILITY => Meaning::Power,
        ACCESS => Meaning::Access,
        DEFAULT => Meaning::DefaultAccess,
        name if name.starts_with(b"user.") => Meaning::Note,
        _ => Meaning::Foreign,
    }
}

/// A file's attributes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Name and value.
    pub all: Vec<(Vec<u8>, Vec<u8>)>,
    /// How many could not be read, or were too long together.
    pub lost: u64,
}

/// The attributes of a file or folder.
pub fn get(file: BorrowedFd<'_>) -> Found {
    let mut found = Found::default();
    // Most files have none: then nothing but this one call is made.
    let mut list = [0; 256];
    let listed = match rustix::fs::flistxattr(file, &mut list[..]) {
        // A file system without them.
        Ok(0) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => return found,
        Ok(n) => list[..n].to_vec(),
        Err(Errno::RANGE) => {
            let mut list = vec![0; LONGEST];
            match rustix::fs::flistxattr(file, &mut list[..]) {
                Ok(n) => list[..n].to_vec(),
                Err(_) => Vec::new(),
            }
        }
        // Not a file whose attributes can be had, as those of the kernel's own.
        Err(_) => return found,
    };
    let mut names: Vec<&[u8]> = listed.split(|&b| b == 0).collect();
    names.retain(|name| meaning(name) != Meaning::Foreign);
    // The same file gives the same archive.
    names.sort_unstable();
    let (mut value, mut sum) = (Vec::new(), 0);
    for name in names {
        value.resize(LONGEST, 0);
        match rustix::fs::fgetxattr(file, name, &mut value[..]) {
            Ok(n) if sum + name.len() + n <= MOST => {
                sum += name.len() + n;
                found.all.push((name.to_vec(), value[..n].to_vec()));
            }
            // It was taken away meanwhile.
            Err(Errno::NODATA) => {}
            _ => found.lost += 1,
        }
    }
    found
}

/// Sets an attribute of a file or folder.
pub fn set(file: BorrowedFd<'_>, name: &[u8], value: &[u8]) -> Result<(), Errno> {
    rustix::fs::fsetxattr(file, name, value, XattrFlags::empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn what_belongs_to_another_system_is_not_taken() {
        for name in [
            &b"security.selinux"[..],
            b"security.ima",
            b"trusted.overlay.opaque",
            b"system.nfs4_acl",
            b"user",
            b"",
        ] {
            assert_eq!(meaning(name), Meaning::Foreign, "{name:?}");
        }
    }

    #[test]
    fn what_was_set_is_found_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let file = std::fs::File::create(dir.path().join("f")).unwrap();
        assert_eq!(get(file.as_fd()), Found::default());
        let long = vec![b'v'; 2000];
        for (name, value) in [(&b"user.b=%"[..], &long[..]), (b"user.a", b"\0\n")] {
            set(file.as_fd(), name, value).unwrap();
        }
        let all = vec![
            (b"user.a".to_vec(), b"\0\n".to_vec()),
            (b"user.b=%".to_vec(), long),
        ];
        assert_eq!(get(file.as_fd()), Found { all, lost: 0 });
    }
}
