//! `vmint doctor --repair`: a new database in the place of a damaged one, made of what the folders say; and snapshots that were wrong
//! from the beginning.
//!
//! Each step leaves a home that the next command, or the next repair, goes on with: the damaged files have other names or
//! not yet, the new database knows some of the folders or all of them.

use crate::snapshots::alone;
use crate::{Options, Vmint};
use serde::Serialize;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use vmint_model::{ErrorKind, Fault};
use vmint_qemu::frozen::{Rescue, rescue};
use vmint_store::{FileLock, SnapshotFilter, repair};

/// What a repair found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Repaired {
    /// What was wrong with the database; absent if nothing was.
    pub damage: Option<String>,
    /// Where the damaged database is now.
    pub aside: Option<PathBuf>,
    /// What was taken up, cleared up, and what could not be taken up, a line for each.
    pub found: Vec<String>,
    /// How many machines the database knows now.
    pub machines: usize,
    /// How many snapshots that a user has made it knows now.
    pub snapshots: usize,
}

impl Repaired {
    /// What a new database knows nothing of, though the old one may have.
    pub const NOT_REBUILT: &str = "pools, leases, the records of workflow runs, and events";
}

impl Vmint {
    /// Puts a damaged database aside and takes up what is in the folders. One that is whole stays, and learns of the folders
    /// that it does not know.
    pub fn repair(options: Options) -> Result<Repaired, Fault> {
        let home = vmint_store::open_home(&options.home)?;
        let lock = home.root().join("repair.lock");
        let lock = FileLock::acquire_until(&lock, Instant::now() + Duration::from_secs(30))?;
        let damage = repair::damage(&home)?;
        let mut repaired = Repaired::default();
        if let Some(damage) = damage {
            let aside = repair::put_aside(&home, &stamp()).map_err(|e| {
                Fault::from_error(ErrorKind::Host, &e)
                    .context(format!("cannot put {} aside", home.database().display()))
            })?;
            repaired.damage = Some(Fault::from(damage).message);
            repaired.aside = Some(aside);
        }
        let vmint = Self::open(options)?;
        let found = vmint.sweep()?;
        repaired.found = found.into_iter().map(|found| found.message).collect();
        repaired.found.extend(vmint.rescue_snapshots()?);
        repaired.machines = vmint.machines()?.len();
        repaired.snapshots = vmint.snapshots(None)?.len();
        drop(lock);
        Ok(repaired)
    }
}

impl Vmint {
    /// Mends snapshots that were wrong from the beginning, and tells of those that cannot be used, a line for each.
    fn rescue_snapshots(&self) -> Result<Vec<String>, Fault> {
        let all = self.store().list_snapshots(&SnapshotFilter::All);
        let mut told = Vec::new();
        for snapshot in all? {
            let (name, folder) = (&snapshot.name, self.home.snapshot(&snapshot.name));
            let Ok(Some(alone)) = alone(&folder, &format!("snapshot {name}")) else {
                // It went meanwhile, or is in use, and so is whole.
                continue;
            };
            match rescue(&folder) {
                Rescue::Sound => {}
                Rescue::Rescued => told.push(format!(
                    "snapshot {name} can be used again: what it said of its memory was wrong"
                )),
                Rescue::Damaged(e) => {
                    let fault = Fault::from(e);
                    told.push(format!(
                        "snapshot {name} cannot be used, and is left as it is: {}",
                        fault.message
                    ));
                }
            }
            drop(alone);
        }
        Ok(told)
    }
}

/// The time, as it can stand in a file's name: `20261130T041500Z`.
fn stamp() -> String {
    let time = vmint_workflow::log::rfc3339(vmint_store::now_ms());
    let seconds = time.split('.').next().unwrap_or(&time);
    let digits: String = seconds
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .collect();
    format!("{}Z", digits.trim_end_matches('Z'))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_time_can_stand_in_a_file_name() {
        let stamp = super::stamp();
        assert_eq!(
            (stamp.len(), &stamp[8..9], &stamp[15..]),
            (16, "T", "Z"),
            "{stamp}"
        );
    }
}
