//! Small things to remember under a key, such as which accelerator works on this host.

use crate::error::StoreError;
use crate::store::Store;
use rusqlite::OptionalExtension;

impl Store {
    /// What is remembered under a key.
    pub fn setting(&self, key: &str) -> Result<Option<String>, StoreError> {
        self.connection
            .prepare_cached("SELECT value FROM settings WHERE key = ?1")
            .and_then(|mut s| s.query_row([key], |row| row.get(0)).optional())
            .map_err(|e| self.fail(e))
    }

    /// Remembers a value under a key, in place of an older one.
    pub fn set_setting(&mut self, key: &str, value: &str) -> Result<(), StoreError> {
        self.write(|transaction| {
            transaction
                .prepare_cached(
                    "INSERT INTO settings (key, value) VALUES (?1, ?2)
                     ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                )?
                .execute([key, value])?;
            Ok(())
        })
    }

    /// Counts up the number that is remembered under a key, and gives it; 1 for the first time, or if it is no number.
    pub fn count_up(&mut self, key: &str) -> Result<u64, StoreError> {
        self.write(|transaction| {
            let known: Option<String> = transaction
                .prepare_cached("SELECT value FROM settings WHERE key = ?1")?
                .query_row([key], |row| row.get(0))
                .optional()?;
            let count = known.and_then(|known| known.parse().ok()).unwrap_or(0u64) + 1;
            transaction
                .prepare_cached(
                    "INSERT INTO settings (key, value) VALUES (?1, ?2)
                     ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                )?
                .execute([key, &count.to_string()])?;
            Ok(count)
        })
    }

    /// Forgets what is remembered under a key; nothing happens if that is nothing.
    pub fn forget_setting(&mut self, key: &str) -> Result<(), StoreError> {
        self.write(|transaction| {
            transaction.execute("DELETE FROM settings WHERE key = ?1", [key])?;
            Ok(())
        })
    }
}
