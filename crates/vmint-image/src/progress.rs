//! How a long operation tells what it is doing. This crate prints nothing.

/// Told what is being done. All methods may be called from other threads than the one that started the operation.
pub trait Progress: Send + Sync {
    /// A new stage begins, such as “downloading the kernel”.
    fn stage(&self, text: &str) {
        let _ = text;
    }

    /// Of the current stage so many bytes are done; of so many, when that is known.
    fn bytes(&self, done: u64, total: Option<u64>) {
        let _ = (done, total);
    }

    /// A line of output of the program that does the current stage.
    fn output(&self, line: &str) {
        let _ = line;
    }
}

/// Nobody is told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {}
