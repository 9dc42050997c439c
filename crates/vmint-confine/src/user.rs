//! Which user a process runs as, when root starts it for another one.
//!
//! The user is asked for by name once, in the parent; the child takes on numbers. It has that user's primary group and no
//! others, so it may do less than the user could.

use serde::{Deserialize, Serialize};
use std::ffi::{CStr, CString};
use std::fmt;
use std::io;

/// A user of this host.
#[expect(
    clippy::unsafe_derive_deserialize,
    reason = "no memory's safety depends on which numbers these are"
)]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The name.
    pub name: String,
    /// The number.
    pub uid: u32,
    /// The number of the primary group.
    pub gid: u32,
}

/// A user whom nothing can be run as.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NoUser {
    /// The host does not know the name.
    #[error("this host has no user `{name}`")]
    Unknown {
        /// The name.
        name: String,
    },
    /// The host's list of users cannot be asked.
    #[error("cannot look up user `{name}`")]
    Unreadable {
        /// The name.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is root.
    #[error("QEMU cannot run as `{name}` in place of root: that is root")]
    Root {
        /// The name.
        name: String,
    },
    /// Only root can become another user.
    #[error("only root can run QEMU as another user (`{name}`)")]
    NotRoot {
        /// The name.
        name: String,
    },
}

/// More than any entry takes; with many members, groups can be long, users not.
const ENTRY: usize = 64 << 10;

impl User {
    /// Looks a user up whom this process can start others as.
    pub fn find(name: &str) -> Result<Self, NoUser> {
        let user = Self::look_up(name)?;
        // SAFETY: it takes nothing.
        if unsafe { libc::geteuid() } != 0 {
            return Err(NoUser::NotRoot { name: name.into() });
        }
        if user.uid == 0 || user.gid == 0 {
            return Err(NoUser::Root { name: name.into() });
        }
        Ok(user)
    }

    fn look_up(name: &str) -> Result<Self, NoUser> {
        let unknown = || NoUser::Unknown { name: name.into() };
        let asked = CString::new(name).map_err(|_| unknown())?;
        let mut buffer = vec![0_u8; ENTRY];
        // SAFETY: a passwd of zeros has null pointers, which are not followed; the call fills it in.
        let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
        let mut found = std::ptr::null_mut();
        // SAFETY: all pointers are to live objects of this frame, and the length is the buffer's.
        let error = unsafe {
            libc::getpwnam_r(
                asked.as_ptr(),
                &raw mut entry,
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                &raw mut found,
            )
        };
        match (found.is_null(), error) {
            (false, _) => {}
            // What getpwnam(3) lists as “not found”.
            (true, 0 | libc::ENOENT | libc::ESRCH | libc::EBADF | libc::EPERM) => {
                return Err(unknown());
            }
            (true, error) => {
                return Err(NoUser::Unreadable {
                    name: name.into(),
                    source: io::Error::from_raw_os_error(error),
                });
            }
        }
        // SAFETY: the entry was found, so its name is a string in `buffer`, which lives.
        let name = unsafe { CStr::from_ptr(entry.pw_name) };
        Ok(Self {
            name: name.to_string_lossy().into_owned(),
            uid: entry.pw_uid,
            gid: entry.pw_gid,
        })
    }

    /// Makes the calling process this user's, for good: for use between fork and exec. Async-signal-safe. A signal for the parent's
    /// end must be set after this: the kernel forgets it.
    pub fn become_it(&self) -> io::Result<()> {
        let done = |answer: libc::c_long| match answer {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        };
        // As system calls: glibc's functions would have all threads of the process follow, of which there is one.
        // SAFETY: numbers, and a null pointer to a list of no groups.
        unsafe {
            done(libc::syscall(
                libc::SYS_setgroups,
                0,
                std::ptr::null::<libc::gid_t>(),
            ))?;
            done(libc::syscall(
                libc::SYS_setresgid,
                self.gid,
                self.gid,
                self.gid,
            ))?;
            done(libc::syscall(
                libc::SYS_setresuid,
                self.uid,
                self.uid,
                self.uid,
            ))
        }
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_name_and_an_unknown_one_is_named() {
        let nobody = User::look_up("nobody").unwrap();
        assert_eq!(nobody.name, "nobody");
        assert!(nobody.uid > 0);
        for name in ["no-such-user-here", "", "a\0b", "root:x"] {
            let error = User::look_up(name).unwrap_err();
            assert!(matches!(error, NoUser::Unknown { .. }), "{error:?}");
        }
    }

    #[test]
    fn only_root_has_others_and_never_itself() {
        // SAFETY: it takes nothing.
        let is_root = unsafe { libc::geteuid() } == 0;
        match User::find("nobody") {
            Ok(_) => assert!(is_root),
            Err(e) => assert!(!is_root && matches!(e, NoUser::NotRoot { .. }), "{e}"),
        }
        assert!(User::find("root").is_err());
    }
}
