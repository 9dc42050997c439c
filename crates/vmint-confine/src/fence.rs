//! The fence itself: made in the parent, entered in the child.

use crate::capabilities::{Capability, Keep};
use crate::rules::{Network, Role, Rules};
use crate::{calls, capabilities, paths};
use landlock::RulesetError;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use vmint_model::{Confine, Confinement};

/// A fence cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfineError {
    /// [`Confine::Require`], and this kernel lacks a part.
    #[error("this kernel cannot confine {what}")]
    Missing {
        /// What it cannot confine.
        what: &'static str,
    },
    /// Landlock refused the rules.
    #[error("cannot make the rules for files")]
    Paths(#[from] RulesetError),
    /// The list of calls could not be compiled.
    #[error("cannot compile the list of denied system calls")]
    Calls(#[from] seccompiler::Error),
}

/// A fence that a process can enter, once.
#[derive(Debug)]
pub struct Fence {
    rule_set: Option<OwnedFd>,
    filters: Option<calls::Filters>,
    keep: Keep,
    level: Confinement,
}

impl Fence {
    /// Builds a fence as this kernel can hold it; `None` when none is wanted.
    pub fn build(rules: &Rules, strictness: Confine) -> Result<Option<Self>, ConfineError> {
        Self::build_up_to(rules, strictness, paths::version())
    }

    /// Like [`build`](Self::build), as if the kernel's Landlock were no newer than `version`; 0 is a kernel without it.
    pub fn build_up_to(
        rules: &Rules,
        strictness: Confine,
        version: u32,
    ) -> Result<Option<Self>, ConfineError> {
        if strictness == Confine::Off {
            return Ok(None);
        }
        let landlock = version.min(paths::version());
        // The first version forbids all links from one folder to another, of which a runner's life is made.
        let landlock = match (rules.role, landlock) {
            (Role::Runner, 1) => 0,
            _ => landlock,
        };
        let filtered = calls::available();
        let level = Confinement {
            landlock,
            files: landlock >= 1,
            memory: false,
            ports: landlock >= 4,
            devices: landlock >= 5,
            signals: landlock >= 6 || filtered && rules.role == Role::Program,
            calls: filtered,
            no_capabilities: true,
        };
        let missing = match rules.role {
            Role::Program => level.missing(),
            Role::Runner => level.missing_of_runner(),
        };
        if let (Confine::Require, Some(what)) = (strictness, missing) {
            return Err(ConfineError::Missing { what });
        }
        let low_ports = match &rules.network {
            Network::Inet { bind, .. } if bind.iter().any(|port| (1..1024).contains(port)) => {
                Some(Capability::LowPorts)
            }
            _ => None,
        };
        Ok(Some(Self {
            rule_set: paths::rule_set(rules, landlock)?,
            filters: filtered
                .then(|| calls::Filters::new(rules.role, &rules.network))
                .transpose()?,
            keep: rules.keep.iter().copied().chain(low_ports).collect(),
            level,
        }))
    }

    /// What holds of it.
    pub fn level(&self) -> Confinement {
        self.level
    }

    /// Puts the calling process inside, which must have one thread: others would stay outside. For use between fork and exec, too:
    /// it is async-signal-safe, and allocates nothing. When it fails, the process must not go on.
    pub fn enter(&mut self) -> io::Result<()> {
        // SAFETY: numbers only. Landlock and seccomp ask for it, and no program regains rights by its set-user-id bit.
        if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
            return Err(io::Error::last_os_error());
        }
        if let Some(set) = &self.rule_set {
            paths::restrict(set.as_fd())?;
        }
        capabilities::drop_all(self.keep)?;
        self.filters.as_mut().map_or(Ok(()), calls::Filters::load)
    }
}
