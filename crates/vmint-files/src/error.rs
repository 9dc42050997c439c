//! Why an archive was not unpacked.

use rustix::io::Errno;
use std::io;
use vmint_protocol::archive::ArchiveError;

/// Why an archive was not unpacked. Paths are those of the archive, printable; what came before the failure stays.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The bytes are no archive, or break its bounds.
    #[error("cannot read the archive")]
    Archive(#[source] ArchiveError),
    /// The stream that the archive comes from failed.
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
    /// A name is absolute, has `..`, or names the target itself as a file.
    #[error("the path `{path}` leaves the target folder")]
    Escapes {
        /// The name.
        path: String,
    },
    /// A folder on the way is a link. It is not followed, wherever it leads.
    #[error("cannot unpack `{path}`: a folder of that path is a symbolic link here")]
    ThroughLink {
        /// The name.
        path: String,
    },
    /// A symbolic link leads elsewhere, and the caller takes none that do.
    #[error("`{path}` is a link to elsewhere")]
    LinkElsewhere {
        /// The link.
        path: String,
    },
    /// A hard link to what this archive has not brought, or too long ago.
    #[error("`{path}` is a hard link to `{link}`, which is not a file of this archive")]
    ForeignLink {
        /// The link.
        path: String,
        /// What it names.
        link: String,
    },
    /// A device or named pipe, and the caller takes none.
    #[error("`{path}` is neither file, folder nor link")]
    Special {
        /// The name.
        path: String,
    },
    /// A folder where a file should be, or the other way round.
    #[error("cannot unpack `{path}`: {found} with that name exists")]
    InTheWay {
        /// The name.
        path: String,
        /// What is there.
        found: &'static str,
    },
    /// Two top-level entries would become one.
    #[error("`{first}` and `{second}` cannot both become `{name}`")]
    ManyNames {
        /// The first.
        first: String,
        /// The other.
        second: String,
        /// The name that was to be given.
        name: String,
    },
    /// Another process replaced a folder while it was being filled.
    #[error("the folder `{path}` was replaced by another process during the copy")]
    Replaced {
        /// The folder.
        path: String,
    },
    /// The kernel cannot do what this rests on.
    #[error("the kernel has no openat2, which needs Linux 5.6 or newer")]
    Kernel,
    /// The file system said no.
    #[error("cannot {doing} `{path}`")]
    Io {
        /// What was tried, as a verb.
        doing: &'static str,
        /// On what.
        path: String,
        /// Why not.
        source: io::Error,
    },
}

impl UnpackError {
    /// Whether the archive, and so the guest, is to blame, rather than this host.
    pub fn is_archives_fault(&self) -> bool {
        !matches!(
            self,
            Self::Read(_) | Self::Kernel | Self::Io { .. } | Self::Replaced { .. }
        )
    }

    pub(crate) fn io(doing: &'static str, path: &[u8]) -> impl Fn(Errno) -> Self + use<> {
        let path = crate::shown(path);
        move |errno| match errno {
            Errno::NOSYS => Self::Kernel,
            errno => Self::Io {
                doing,
                path: path.clone(),
                source: errno.into(),
            },
        }
    }
}
