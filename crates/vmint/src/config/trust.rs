//! How far a `vmint.toml` is believed.
//!
//! A file that came with a checkout says what a machine is; it must not take what lies elsewhere on this host along into one
//! that has a network. And a file that another user can write says what that user wants. So:
//!
//! * a file is obeyed if it belongs to this user or to root, and nobody else can write to it. To root under `sudo`, the files
//!   of the user who called it are as good, as to git;
//! * what it names (sources of `copy`, imports, kernels, modules, the mirror of actions) lies in its own folder, links
//!   followed.
//!
//! Whoever means it trusts a folder: `--trust DIR`, `VMINT_TRUST` (several, separated by colons), or `trust = ["DIR"]` in the
//! user's own settings, `~/.config/vmint/config.toml`. A `vmint.toml` in it or below is obeyed, whoever owns it, and may
//! name all that this user can read.

use super::document::{Document, Named, shorten};
use super::error::ConfigError;
use super::keys;
use super::parse;
use super::sections::{Env, nowhere};
use super::{Config, ImageDefinition};
use rustix::process::geteuid;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use vmint_image::{ImportSource, KernelSource};
use vmint_model::{ErrorKind, Fault};

/// The variable with trusted folders.
pub const VARIABLE: &str = "VMINT_TRUST";

/// What a `vmint.toml` may name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// What lies in its own folder.
    #[default]
    Folder,
    /// Whatever this user can read: the user trusts its folder.
    Host,
}

/// How far the file in this folder is believed; an error if it may not be obeyed.
pub(super) fn of(path: &Path, folder: &Path, env: Env<'_>) -> Result<Trust, ConfigError> {
    let real = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    if trusted(env)?
        .iter()
        .any(|trusted| real.starts_with(trusted))
    {
        return Ok(Trust::Host);
    }
    refuse_foreign(path, env)?;
    Ok(Trust::Folder)
}

/// The folders that the user trusts, without links in their paths.
fn trusted(env: Env<'_>) -> Result<Vec<PathBuf>, ConfigError> {
    let variable = env(VARIABLE).unwrap_or_default();
    let given = std::env::split_paths(&variable).filter(|path| !path.as_os_str().is_empty());
    let mut folders: Vec<PathBuf> = given.collect();
    if let Some(relative) = folders.iter().find(|path| !path.is_absolute()) {
        return Err(ConfigError::Environment {
            name: VARIABLE,
            value: format!("{:?}", shorten(&relative.to_string_lossy())),
            why: "a trusted folder is an absolute path".to_owned(),
        });
    }
    if let Some(path) = own_settings(env).filter(|path| path.is_file()) {
        refuse_foreign(&path, env)?;
        let document = Document::read(path)?;
        let parsed = document.parse()?;
        let top = Named::top(Some((&document, parsed.get_ref())));
        top.only(&keys::OWN, nowhere)?;
        let home = env("HOME").map(PathBuf::from);
        let folder = |s: &str| {
            let path = match (s.strip_prefix("~/"), &home) {
                (Some(rest), Some(home)) => home.join(rest),
                _ => PathBuf::from(parse::text(s)?),
            };
            if path.is_absolute() {
                Ok(path)
            } else {
                Err("a trusted folder is an absolute path, or begins with ~/".to_owned())
            }
        };
        let listed = top.list("trust", folder)?;
        folders.extend(listed.into_iter().flat_map(|given| given.value));
    }
    // A folder that is not there is not that of any file.
    let real = folders.into_iter().filter_map(|f| fs::canonicalize(f).ok());
    Ok(real.collect())
}

/// `$XDG_CONFIG_HOME/vmint/config.toml`, by default in `~/.config`.
fn own_settings(env: Env<'_>) -> Option<PathBuf> {
    let set = |name| env(name).filter(|value: &OsString| !value.is_empty());
    let config = set("XDG_CONFIG_HOME").map(PathBuf::from);
    let config = config.filter(|path| path.is_absolute());
    let config = config.or_else(|| Some(PathBuf::from(set("HOME")?).join(".config")))?;
    Some(config.join("vmint/config.toml"))
}

/// Refuses a file that somebody else owns or can write to.
fn refuse_foreign(path: &Path, env: Env<'_>) -> Result<(), ConfigError> {
    let read = |source: io::Error| ConfigError::Read {
        path: path.to_owned(),
        source,
    };
    // Both the link, if it is one, and what it leads to.
    for meta in [
        fs::symlink_metadata(path).map_err(read)?,
        fs::metadata(path).map_err(read)?,
    ] {
        let owner = meta.uid();
        if !is_ours(owner, geteuid().as_raw(), env("SUDO_UID").as_deref()) {
            return Err(ConfigError::Foreign {
                path: path.to_owned(),
                owner,
            });
        }
        if !meta.is_symlink() && others_write(meta.mode(), meta.gid(), owner) {
            return Err(ConfigError::Writable {
                path: path.to_owned(),
                mode: meta.mode() & 0o777,
            });
        }
    }
    Ok(())
}

fn is_ours(owner: u32, user: u32, sudo: Option<&OsStr>) -> bool {
    let sudo = sudo.and_then(OsStr::to_str).and_then(|id| id.parse().ok());
    owner == user || owner == 0 || (user == 0 && sudo == Some(owner))
}

/// A group with the number of the owner is the owner's alone, as distributions make it.
fn others_write(mode: u32, group: u32, owner: u32) -> bool {
    mode & 0o002 != 0 || (mode & 0o020 != 0 && group != owner && group != 0)
}

impl Config {
    /// Refuses an image whose definition names what the file may not.
    pub(crate) fn refuse_outside(
        &self,
        image: &str,
        definition: &ImageDefinition,
    ) -> Result<(), Fault> {
        let key = |key: &str| format!("`{key}` of image `{image}`");
        let kernel = match definition {
            ImageDefinition::Build(recipe) => {
                for copy in &recipe.copy {
                    self.refuse_path(&key("copy"), &copy.source)?;
                }
                &recipe.kernel
            }
            ImageDefinition::Import { source, options } => {
                match source {
                    ImportSource::Tar(path)
                    | ImportSource::OciDir { dir: path, .. }
                    | ImportSource::OciArchive { file: path, .. } => {
                        self.refuse_path(&key("import"), path)?;
                    }
                    ImportSource::Registry(_) => {}
                }
                &options.kernel
            }
        };
        if let KernelSource::File { kernel, modules } = kernel {
            self.refuse_path(&key("kernel"), kernel)?;
            if let Some(modules) = modules {
                self.refuse_path(&key("modules"), modules)?;
            }
        }
        Ok(())
    }

    /// Refuses a path of the file that leads out of its folder; `what` names it.
    pub(crate) fn refuse_path(&self, what: &str, path: &Path) -> Result<(), Fault> {
        let (Some(file), Trust::Folder) = (&self.file, self.trust) else {
            return Ok(());
        };
        let folder = file.parent().unwrap_or(Path::new("/"));
        let real = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
        if leads_to(path).is_some_and(|target| target.starts_with(&real)) {
            return Ok(());
        }
        let message = format!(
            "{what} is `{}`, which lies outside of the folder of {}",
            path.display(),
            file.display()
        );
        let shown = folder.display();
        Err(Fault::new(ErrorKind::Usage, message).hint(format!(
            "if you trust this file, add `--trust {shown}`, or write trust = [\"{shown}\"] into ~/.config/vmint/config.toml"
        )))
    }
}

/// Where a path leads, links followed as far as there is something. Nothing if what is not there goes up again.
fn leads_to(path: &Path) -> Option<PathBuf> {
    let mut missing = Vec::new();
    let mut there = path;
    loop {
        match fs::canonicalize(there) {
            Ok(real) => {
                return Some(
                    missing
                        .iter()
                        .rev()
                        .fold(real, |real, name| real.join(name)),
                );
            }
            // A link that leads nowhere now may lead somewhere later.
            Err(_) if fs::symlink_metadata(there).is_ok() => return None,
            Err(_) => match there.components().next_back()? {
                Component::Normal(name) => missing.push(OsStr::from_bytes(name.as_bytes())),
                _ => return None,
            },
        }
        there = there.parent()?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_others_are_foreign_but_to_root_under_sudo_those_of_the_caller() {
        assert!(is_ours(1000, 1000, None) && is_ours(0, 1000, None));
        assert!(!is_ours(1001, 1000, None) && !is_ours(1001, 0, None));
        assert!(is_ours(1001, 0, Some(OsStr::new("1001"))));
        assert!(!is_ours(1001, 0, Some(OsStr::new("1002"))));
        // Without root's rights the variable says nothing.
        assert!(!is_ours(1001, 1000, Some(OsStr::new("1001"))));
    }

    #[test]
    fn a_group_may_write_if_it_is_the_owner_s_own() {
        assert!(!others_write(0o644, 100, 1000) && !others_write(0o664, 1000, 1000));
        assert!(others_write(0o664, 100, 1000) && others_write(0o646, 1000, 1000));
    }
}
