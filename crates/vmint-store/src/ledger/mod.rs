//! The ledger of this host: pools, slots, lines and leases in the store's database.
//!
//! Every method of [`Store`] here is one immediate transaction, so the write lock of the database is what makes claims
//! exclusive between processes; see [`vmint_model::ledger`] for what holds. [`LocalLedger`] makes a
//! [`Ledger`](vmint_model::Ledger) of a store.
//!
//! * [`pools`]: pools, and what their changes mean for their slots.
//! * [`slots`]: from reserved to gone.
//! * [`line`]: claims, and who comes first.
//! * [`leases`]: how they are renewed, and end.

pub mod leases;
pub mod line;
pub mod local;
pub mod pools;
pub mod slots;
#[cfg(test)]
mod work;

use crate::Store;
use crate::store::Failure;
use rusqlite::Transaction;
use std::time::Instant;
use vmint_model::{LedgerError, Now, ProcessRef};

/// When a transaction happens, and who is alive then.
#[derive(Clone, Copy)]
pub struct Moment<'a> {
    /// On both clocks.
    pub now: Now,
    /// Whether a process lives.
    pub lives: &'a (dyn Fn(&ProcessRef) -> bool + 'a),
}

impl std::fmt::Debug for Moment<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Moment({:?})", self.now)
    }
}

impl Moment<'static> {
    /// Now, on this host.
    pub fn now() -> Self {
        Self {
            now: crate::now(),
            lives: &crate::process::is_alive,
        }
    }
}

/// How the inside of a ledger's transaction fails.
pub(super) enum Refusal {
    Ledger(LedgerError),
    Store(Failure),
}

impl From<LedgerError> for Refusal {
    fn from(e: LedgerError) -> Self {
        Self::Ledger(e)
    }
}

impl From<rusqlite::Error> for Refusal {
    fn from(e: rusqlite::Error) -> Self {
        Self::Store(e.into())
    }
}

impl From<Failure> for Refusal {
    fn from(e: Failure) -> Self {
        Self::Store(e)
    }
}

impl Refusal {
    /// What is in the database cannot be understood.
    pub(super) fn unreadable(
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Store(Failure::Unreadable {
            what: what.into(),
            source: source.into(),
        })
    }
}

impl Store {
    /// One transaction of the ledger, which is `what` in the log.
    pub(super) fn ledger<T>(
        &mut self,
        what: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Refusal>,
    ) -> Result<T, LedgerError> {
        let (began, mut refused) = (Instant::now(), None);
        let result = self.write(|transaction| {
            work(transaction).map_err(|refusal| match refusal {
                Refusal::Store(failure) => failure,
                Refusal::Ledger(e) => {
                    refused = Some(e);
                    // Any failure undoes the transaction; this one is never seen.
                    Failure::Sqlite(rusqlite::Error::QueryReturnedNoRows)
                }
            })
        });
        let result = result.map_err(|e| refused.unwrap_or_else(|| LedgerError::Failed(e.into())));
        let took = began.elapsed();
        match &result {
            Ok(_) => tracing::debug!(what, ?took, "the ledger has done it"),
            Err(e) => tracing::debug!(what, ?took, kind = %e.kind(), "the ledger has refused"),
        }
        result
    }

    /// The same for what only reads: all of one moment.
    pub(super) fn look<T>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Refusal>,
    ) -> Result<T, LedgerError> {
        let transaction = self.connection.transaction();
        let result = transaction
            .map_err(Refusal::from)
            .and_then(|transaction| work(&transaction));
        result.map_err(|refusal| match refusal {
            Refusal::Ledger(e) => e,
            Refusal::Store(failure) => LedgerError::Failed(self.explain(failure).into()),
        })
    }
}

fn json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("has no keys but strings")
}

fn parse<T: serde::de::DeserializeOwned>(what: &str, text: &str) -> Result<T, Refusal> {
    serde_json::from_str(text).map_err(|e| Refusal::unreadable(what, e))
}
