//! How the store fails.

use rusqlite::ErrorCode;
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use vmint_model::{ErrorKind, Explained, IllegalTransition, MachineId, MachineState, Name};

/// The store could not do it. The messages name what they are about; what SQLite says is the source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// No machine has this name or id.
    #[error("there is no machine {name:?}")]
    NoMachine {
        /// What was asked for.
        name: String,
    },
    /// No snapshot has this name.
    #[error("there is no snapshot {name:?}")]
    NoSnapshot {
        /// What was asked for.
        name: String,
    },
    /// Another machine has the name.
    #[error("there is already a machine {name}; it is {state}")]
    NameTaken {
        /// The name.
        name: Name,
        /// The state of the machine that has it.
        state: MachineState,
    },
    /// Another snapshot has the name.
    #[error("there is already a snapshot {name}")]
    SnapshotExists {
        /// The name.
        name: Name,
    },
    /// The table of transitions does not have this one.
    #[error("machine {name} is {}: it cannot become {}", source.from, source.to)]
    IllegalTransition {
        /// The machine.
        name: Name,
        /// The transition.
        source: IllegalTransition,
    },
    /// Somebody else has changed the machine's state in between.
    #[error("machine {name} is {actual}, not {expected}")]
    UnexpectedState {
        /// The machine.
        name: Name,
        /// The state that the change was meant for.
        expected: MachineState,
        /// The state it has.
        actual: MachineState,
    },
    /// A machine's first state can be `created` or `starting` alone.
    #[error("machine {name} cannot begin as {state}")]
    NotABeginning {
        /// The machine.
        name: Name,
        /// The state that its record has.
        state: MachineState,
    },
    /// A newer vmint has made the file.
    #[error("{} is of version {found}; this vmint knows versions up to {known}", path.display())]
    Future {
        /// The database.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The highest version known.
        known: i64,
    },
    /// A newer vmint has changed the tables since this process opened them.
    #[error("{} was upgraded by a newer vmint: it is of version {found}, and this process knows {known}", path.display())]
    Upgraded {
        /// The database.
        path: PathBuf,
        /// Its version now.
        found: i64,
        /// The version that this process knows.
        known: i64,
    },
    /// The tables must be brought up to date, and runners of an older vmint use them.
    #[error("{} is of an older version, and these machines still run under the vmint of that version: {}", path.display(), ids(runners))]
    OlderRunners {
        /// The database.
        path: PathBuf,
        /// The machines that these runners own.
        runners: Vec<MachineId>,
    },
    /// The file is damaged, or no database.
    #[error("{} is damaged or is not a database", path.display())]
    Corrupt {
        /// The database.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// The home is a copy by hard links, and shares this file with the original.
    #[error("{} is a hard link, shared with the home that this one was copied from", path.display())]
    Linked {
        /// The database.
        path: PathBuf,
    },
    /// A database, but not of vmint.
    #[error("{} is a database of another program", path.display())]
    Foreign {
        /// The database.
        path: PathBuf,
    },
    /// A row cannot be understood.
    #[error("{} holds a record of {what} that cannot be read", path.display())]
    Unreadable {
        /// The database.
        path: PathBuf,
        /// Whose record.
        what: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another process was writing for longer than the limit.
    #[error("{} was still in use by another process after {} ms", path.display(), waited.as_millis())]
    Busy {
        /// The database.
        path: PathBuf,
        /// The limit.
        waited: Duration,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// The disk is full.
    #[error("no space is left for {}", path.display())]
    Full {
        /// The database.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// The file cannot be made.
    #[error("cannot make {}", path.display())]
    Host {
        /// The database.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// SQLite failed otherwise.
    #[error("cannot use {}", path.display())]
    Sqlite {
        /// The database.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
}

impl Explained for StoreError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoMachine { .. } | Self::NoSnapshot { .. } => ErrorKind::NotFound,
            Self::NameTaken { .. } | Self::SnapshotExists { .. } => ErrorKind::AlreadyExists,
            Self::IllegalTransition { .. } | Self::UnexpectedState { .. } => ErrorKind::WrongState,
            Self::NotABeginning { .. } => ErrorKind::Internal,
            Self::OlderRunners { .. } | Self::Linked { .. } => ErrorKind::WrongState,
            Self::Future { .. }
            | Self::Upgraded { .. }
            | Self::Corrupt { .. }
            | Self::Foreign { .. }
            | Self::Unreadable { .. } => ErrorKind::Corrupt,
            Self::Busy { .. } => ErrorKind::TimedOut,
            Self::Full { .. } => ErrorKind::NoSpace,
            Self::Host { source, .. } if crate::lock::is_full(source) => ErrorKind::NoSpace,
            Self::Host { .. } | Self::Sqlite { .. } => ErrorKind::Host,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NoMachine { .. } => Some("run `vmint ls --all` to list machines".into()),
            Self::NoSnapshot { .. } => {
                Some("run `vmint snapshot ls` to list snapshots".into())
            }
            Self::NameTaken { name, .. } => Some(format!(
                "choose another name, or delete it with `vmint rm {name}`"
            )),
            Self::SnapshotExists { name } => Some(format!(
                "choose another name, or delete it with `vmint snapshot rm {name}`"
            )),
            Self::IllegalTransition { name, .. } | Self::UnexpectedState { name, .. } => {
                Some(format!("`vmint info {name}` shows its state"))
            }
            Self::Future { .. } => {
                Some("use the newer vmint that made it, or set VMINT_HOME to another folder".into())
            }
            Self::Linked { .. } => Some("copy the home with `cp -a` or `rsync -aH`".into()),
            Self::Upgraded { .. } => Some("use the newer vmint".into()),
            Self::OlderRunners { runners, .. } => Some(format!(
                "stop them with that vmint, or end their runners: `pkill -f ' runner .* ({})$'`; their disks are kept",
                ids(runners).replace(", ", "|")
            )),
            Self::Corrupt { .. } | Self::Foreign { .. } | Self::Unreadable { .. } => Some(
                "run `vmint doctor --repair`: it puts the file aside and makes a new one of the machines and snapshots in the home"
                    .into(),
            ),
            Self::Busy { .. } => Some("try again".into()),
            Self::Full { .. } => {
                Some("free some space, or set VMINT_HOME to a folder on another disk".into())
            }
            Self::Host { source, .. } if crate::lock::is_full(source) => {
                Some("free some space, or set VMINT_HOME to a folder on another disk".into())
            }
            Self::NotABeginning { .. } | Self::Host { .. } | Self::Sqlite { .. } => None,
        }
    }
}

impl StoreError {
    /// Whether the database itself is at fault, so that [`repair`](crate::repair) can help.
    pub fn is_damage(&self) -> bool {
        matches!(
            self,
            Self::Corrupt { .. } | Self::Foreign { .. } | Self::Unreadable { .. }
        )
    }

    pub(crate) fn no_machine(id: &MachineId) -> Self {
        Self::NoMachine {
            name: id.to_string(),
        }
    }
}

fn ids(machines: &[MachineId]) -> String {
    let ids: Vec<_> = machines.iter().map(MachineId::as_str).collect();
    ids.join(", ")
}

/// What a failure of SQLite means.
pub(crate) fn classify(path: PathBuf, waited: Duration, source: rusqlite::Error) -> StoreError {
    match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            StoreError::Corrupt { path, source }
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy {
            path,
            waited,
            source,
        },
        Some(ErrorCode::DiskFull) => StoreError::Full { path, source },
        _ => StoreError::Sqlite { path, source },
    }
}
