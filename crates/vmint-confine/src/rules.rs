//! What a process inside a fence may reach. Pure data.

use crate::capabilities::Capability;
use std::path::{Path, PathBuf};

/// What a process may do with a path and, if it is a folder, with all that is below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Read it.
    Read,
    /// Read it, and execute it.
    Run,
    /// Read and write what exists. Nothing can be created, removed or truncated.
    Write,
    /// Read and write, create and remove files, and shorten them.
    Own,
    /// All of that, with folders, and files linked and moved from one to another.
    Manage,
    /// Remove files. Nothing can be read.
    RemoveFiles,
    /// Remove folders that are empty. Nothing can be read.
    RemoveFolders,
}

/// What a process is, and so which system calls it can do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A hypervisor or a tool, which has no business with other processes.
    Program,
    /// The process that owns a hypervisor: it starts, watches, looks into and kills it, links files, and is waited for by others at
    /// sockets.
    Runner,
}

/// Which sockets a process may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Network {
    /// None. Those that it was given stay usable.
    None,
    /// IPv4 and IPv6. It may bind these TCP ports and no others. Where a connection leads is not decided here: the
    /// network guard does that.
    Inet {
        /// TCP ports that it may bind.
        bind: Vec<u16>,
        /// Numbers of the connected sockets that it is given. By `sendmsg`, which can name a destination in memory that a
        /// filter does not see, it may write to these and no others; and their numbers never become those of others.
        given: Vec<i32>,
    },
}

/// All that a process may reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    pub(crate) paths: Vec<(PathBuf, Access)>,
    pub(crate) network: Network,
    pub(crate) role: Role,
    pub(crate) keep: Vec<Capability>,
}

impl Rules {
    /// Rules for a program that allow no path.
    pub fn new(network: Network) -> Self {
        Self::of(Role::Program, network)
    }

    /// Rules that allow no path.
    pub fn of(role: Role, network: Network) -> Self {
        Self {
            paths: Vec::new(),
            network,
            role,
            keep: Vec::new(),
        }
    }

    /// Lets it keep a capability, if it has that.
    #[must_use]
    pub fn keep(mut self, capability: Capability) -> Self {
        self.keep.push(capability);
        self
    }

    /// Allows a path. One that does not exist when the fence is built is left out.
    #[must_use]
    pub fn allow(mut self, path: impl AsRef<Path>, access: Access) -> Self {
        self.paths.push((path.as_ref().to_owned(), access));
        self
    }

    /// Allows to read a path.
    #[must_use]
    pub fn read(self, path: impl AsRef<Path>) -> Self {
        self.allow(path, Access::Read)
    }

    /// Allows to read and execute a path.
    #[must_use]
    pub fn run(self, path: impl AsRef<Path>) -> Self {
        self.allow(path, Access::Run)
    }

    /// Allows to write to a path that exists.
    #[must_use]
    pub fn write(self, path: impl AsRef<Path>) -> Self {
        self.allow(path, Access::Write)
    }

    /// Allows everything below a folder.
    #[must_use]
    pub fn own(self, path: impl AsRef<Path>) -> Self {
        self.allow(path, Access::Own)
    }

    /// Allows everything below a folder, folders and links included.
    #[must_use]
    pub fn manage(self, path: impl AsRef<Path>) -> Self {
        self.allow(path, Access::Manage)
    }

    /// Allows to remove files below a folder.
    #[must_use]
    pub fn remove_files(self, path: impl AsRef<Path>) -> Self {
        self.allow(path, Access::RemoveFiles)
    }

    /// Allows to remove empty folders below a folder.
    #[must_use]
    pub fn remove_folders(self, path: impl AsRef<Path>) -> Self {
        self.allow(path, Access::RemoveFolders)
    }
}
