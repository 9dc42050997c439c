//! Finds and opens `VMINT_HOME`, and the folder of the sockets.
//!
//! A Unix socket's path may not exceed 107 bytes, so the sockets live in a short folder of their own: under
//! `VMINT_RUNTIME_DIR`, or the XDG runtime directory, or `/tmp/vmint-UID`, and there under the home's id, which
//! [`identity`](crate::identity) finds out: one folder for a home, by whatever path it is reached, and another one for its
//! copy. The choice is remembered in the home, as the symbolic link `sockets`: a command from cron, without
//! `XDG_RUNTIME_DIR`, must find the machines that were started from a desktop.
//!
//! Whoever can write to these folders can take the user's machines over. So a folder that belongs to somebody else, or
//! that others can write to, or a symbolic link in the place of a socket folder, is refused. No folder that vmint has
//! not made is changed.

use crate::identity::Identity;
use rustix::process::geteuid;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use vmint_model::{ErrorKind, Explained, Home};

/// The longest path that fits a socket's address, without its final zero.
pub const SOCKET_PATH_LIMIT: usize = 107;
/// `/mXXXXXXXXXXXX.sock`
const SOCKET_NAME_LENGTH: usize = 1 + 13 + 5;

/// The variables that say where things are. Empty ones count as unset.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `VMINT_HOME`.
    pub vmint_home: Option<PathBuf>,
    /// `VMINT_RUNTIME_DIR`.
    pub vmint_runtime_dir: Option<PathBuf>,
    /// `XDG_STATE_HOME`.
    pub xdg_state_home: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`.
    pub xdg_runtime_dir: Option<PathBuf>,
    /// `HOME`.
    pub home: Option<PathBuf>,
    /// No variable: what a test uses in place of `/tmp`.
    pub tmp: Option<PathBuf>,
}

impl Environment {
    /// This process's.
    pub fn of_process() -> Self {
        let get = |name| {
            std::env::var_os(name)
                .filter(|v| !v.is_empty())
                .map(PathBuf::from)
        };
        // The XDG specification: a path that is not absolute is to be ignored.
        let absolute = |name| get(name).filter(|p| p.is_absolute());
        Self {
            vmint_home: get("VMINT_HOME"),
            vmint_runtime_dir: get("VMINT_RUNTIME_DIR"),
            xdg_state_home: absolute("XDG_STATE_HOME"),
            xdg_runtime_dir: absolute("XDG_RUNTIME_DIR"),
            home: absolute("HOME"),
            tmp: None,
        }
    }

    /// Where the home is: `VMINT_HOME`, else `$XDG_STATE_HOME/vmint`, else `$HOME/.local/state/vmint`.
    pub fn root(&self) -> Result<PathBuf, HomeError> {
        let state = || self.xdg_state_home.as_ref().map(|p| p.join("vmint"));
        let fallback = || self.home.as_ref().map(|p| p.join(".local/state/vmint"));
        self.vmint_home
            .clone()
            .or_else(state)
            .or_else(fallback)
            .ok_or(HomeError::Nowhere)
    }
}

/// The home could not be found or opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HomeError {
    /// No variable says where.
    #[error("none of VMINT_HOME, XDG_STATE_HOME and HOME is set")]
    Nowhere,
    /// The operating system refused.
    #[error("cannot {action} {}", path.display())]
    Host {
        /// What was tried, to stand before the path.
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is something else where a folder should be; symbolic links are not followed.
    #[error("{} is not a folder", path.display())]
    NotAFolder {
        /// The path.
        path: PathBuf,
    },
    /// The folder is another user's.
    #[error("{} belongs to user {owner}, not to user {user}", path.display())]
    ForeignOwner {
        /// The folder.
        path: PathBuf,
        /// Its owner's number.
        owner: u32,
        /// The number of the user who calls.
        user: u32,
    },
    /// Other users have rights on the folder that they must not have.
    #[error("{} is open to other users: its mode is {mode:04o}", path.display())]
    OpenToOthers {
        /// The folder.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Sockets in the folder would have too long a path.
    #[error("{} is too long a path for sockets: {length} bytes with a socket's name, and {SOCKET_PATH_LIMIT} fit", path.display())]
    TooLong {
        /// The folder.
        path: PathBuf,
        /// The length of a socket's path in it.
        length: usize,
    },
}

impl Explained for HomeError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Nowhere | Self::TooLong { .. } => ErrorKind::Usage,
            Self::Host { source, .. } if crate::lock::is_full(source) => ErrorKind::NoSpace,
            _ => ErrorKind::Host,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Nowhere => Some("set VMINT_HOME to a folder for vmint's files".into()),
            Self::TooLong { .. } => Some("set VMINT_RUNTIME_DIR to a shorter path".into()),
            Self::OpenToOthers { path, .. } => Some(format!("`chmod 700 {}`", path.display())),
            Self::ForeignOwner { .. } | Self::NotAFolder { .. } => Some(
                "set VMINT_HOME, or for sockets VMINT_RUNTIME_DIR, to a folder of your own".into(),
            ),
            Self::Host { source, .. } if crate::lock::is_full(source) => {
                Some("free some space, or set VMINT_HOME to a folder on another disk".into())
            }
            Self::Host { .. } => None,
        }
    }
}

/// Where this process's environment says that the home is.
pub fn default_root() -> Result<PathBuf, HomeError> {
    Environment::of_process().root()
}

/// Opens a home: makes what is missing of its folders, and chooses the folder of its sockets. The home's root is the
/// canonical path, so that every process means the same by it.
pub fn open_home(root: &Path) -> Result<Home, HomeError> {
    open_home_in(root, &Environment::of_process())
}

/// Like [`open_home`], in another environment than this process's.
pub fn open_home_in(root: &Path, environment: &Environment) -> Result<Home, HomeError> {
    if !root.is_dir() {
        make_folder(root, Parents::Make)?;
    }
    let root = fs::canonicalize(root).map_err(|e| host("open", root, e))?;
    check(&root, Rights::OthersMayRead)?;
    let found = fs::metadata(&root).map_err(|e| host("open", &root, e))?;
    let remembered = fs::read_link(root.join("sockets")).ok();
    let identity = Identity::settle(&root, &found, remembered.as_deref())?;
    let runtime = runtime_folder(&root, identity.id.as_str(), remembered, environment)?;
    let home = Home::new(&root, runtime);
    for folder in [
        home.images(),
        home.templates(),
        home.machines(),
        home.snapshots(),
    ] {
        if !folder.is_dir() {
            make_folder(&folder, Parents::Exist)?;
        }
    }
    Ok(home)
}

/// Chooses the folder of the sockets, makes it, and remembers it.
fn runtime_folder(
    root: &Path,
    name: &str,
    remembered: Option<PathBuf>,
    environment: &Environment,
) -> Result<PathBuf, HomeError> {
    let link = root.join("sockets");
    let chosen = if let Some(base) = &environment.vmint_runtime_dir {
        let base = std::path::absolute(base).map_err(|e| host("open", base, e))?;
        prepare(base.join(name), Rights::OthersMayRead)?
    } else {
        // A copy has another id, and does not share the folder of the original.
        let usable = remembered
            .as_ref()
            .filter(|folder| folder.ends_with(name))
            .and_then(|folder| prepare(folder.clone(), Rights::OthersMayRead).ok());
        match usable {
            Some(folder) => folder,
            None => choose(name, environment)?,
        }
    };
    if remembered.as_ref() != Some(&chosen) {
        remember(&link, &chosen).map_err(|e| host("write", &link, e))?;
    }
    Ok(chosen)
}

/// The XDG runtime directory, if it is one and ours and short enough; else a folder in `/tmp`.
fn choose(name: &str, environment: &Environment) -> Result<PathBuf, HomeError> {
    if let Some(base) = &environment.xdg_runtime_dir
        && check(base, Rights::OthersMayRead).is_ok()
        && let Ok(folder) = prepare(base.join("vmint").join(name), Rights::OwnerOnly)
    {
        return Ok(folder);
    }
    let tmp = environment.tmp.as_deref().unwrap_or(Path::new("/tmp"));
    let base = tmp.join(format!("vmint-{}", geteuid().as_raw()));
    prepare(base.join(name), Rights::OwnerOnly)
}

/// Makes a socket folder, and the one that it is in, and refuses them if they are not safe.
fn prepare(folder: PathBuf, rights_on_parent: Rights) -> Result<PathBuf, HomeError> {
    let length = folder.as_os_str().len() + SOCKET_NAME_LENGTH;
    if length > SOCKET_PATH_LIMIT {
        return Err(HomeError::TooLong {
            path: folder,
            length,
        });
    }
    let parent = folder.parent().unwrap_or(Path::new("/"));
    for (path, rights) in [(parent, rights_on_parent), (&folder, Rights::OwnerOnly)] {
        if fs::symlink_metadata(path).is_err() {
            make_folder(path, Parents::Exist)?;
        }
        check(path, rights)?;
    }
    Ok(folder)
}

/// What other users may do with a folder.
#[derive(Debug, Clone, Copy)]
enum Rights {
    /// Nothing.
    OwnerOnly,
    /// Not write.
    OthersMayRead,
}

fn check(path: &Path, rights: Rights) -> Result<(), HomeError> {
    let found = fs::symlink_metadata(path).map_err(|e| host("open", path, e))?;
    let path = || path.to_owned();
    if !found.is_dir() {
        return Err(HomeError::NotAFolder { path: path() });
    }
    let (owner, user, mode) = (found.uid(), geteuid().as_raw(), found.mode() & 0o7777);
    if owner != user {
        return Err(HomeError::ForeignOwner {
            path: path(),
            owner,
            user,
        });
    }
    let forbidden = match rights {
        Rights::OwnerOnly => 0o077,
        Rights::OthersMayRead => 0o022,
    };
    if mode & forbidden != 0 {
        return Err(HomeError::OpenToOthers { path: path(), mode });
    }
    Ok(())
}

/// Whether folders on the way are made, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Parents {
    Make,
    Exist,
}

/// Makes a folder for its owner alone; one that another process has just made will do.
fn make_folder(path: &Path, parents: Parents) -> Result<(), HomeError> {
    let made = DirBuilder::new()
        .mode(0o700)
        .recursive(parents == Parents::Make)
        .create(path);
    match made {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(host("make", path, e)),
        Err(_) if !path.is_dir() => Err(HomeError::NotAFolder {
            path: path.to_owned(),
        }),
        _ => Ok(()),
    }
}

/// Puts the link in its place in one step: another process sees the old one or the new one.
fn remember(link: &Path, target: &Path) -> io::Result<()> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let new = link.with_extension(format!("{}-{number}", std::process::id()));
    match fs::remove_file(&new) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    symlink(target, &new)?;
    fs::rename(&new, link)
}

/// What an older vmint named the folder of the sockets after: eight hexadecimal digits of the home's path, FNV-1a.
pub(crate) fn hash(path: &Path) -> String {
    let fnv = path
        .as_os_str()
        .as_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
    format!("{:08x}", (fnv >> 32) as u32 ^ fnv as u32)
}

pub(crate) fn host(action: &'static str, path: &Path, source: io::Error) -> HomeError {
    HomeError::Host {
        action,
        path: path.to_owned(),
        source,
    }
}
