//! Cancelling: of a run, of a job, of what is left of a matrix.

use futures_util::future::{FutureExt, select_all};
use std::sync::Arc;
use tokio::sync::watch;

/// Can be cancelled, with all that was made from it.
#[derive(Clone, Debug)]
pub struct Cancel(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    own: watch::Sender<Asked>,
    parent: Option<Cancel>,
}

/// What was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Asked {
    #[default]
    Nothing,
    /// Steps that run are interrupted, and those that clean up still run.
    Cancelled { by: String },
    /// Nothing more is run at all.
    Hastened { by: String },
}

impl Asked {
    fn by(&self) -> Option<&str> {
        match self {
            Self::Nothing => None,
            Self::Cancelled { by } | Self::Hastened { by } => Some(by),
        }
    }
}

impl Default for Cancel {
    fn default() -> Self {
        Self::new()
    }
}

impl Cancel {
    /// Nothing is cancelled yet.
    pub fn new() -> Self {
        Self::below(None)
    }

    /// A part, which is cancelled with the whole, or alone.
    pub fn part(&self) -> Self {
        Self::below(Some(self.clone()))
    }

    fn below(parent: Option<Self>) -> Self {
        let own = watch::Sender::new(Asked::Nothing);
        Self(Arc::new(Inner { own, parent }))
    }

    /// Cancels; the first to do so is who has done it.
    pub fn cancel(&self, by: impl Into<String>) {
        self.0.own.send_if_modified(|asked| {
            let is_first = *asked == Asked::Nothing;
            if is_first {
                *asked = Asked::Cancelled { by: by.into() };
            }
            is_first
        });
    }

    /// Cancels, and does not wait for what would clean up in the machine.
    pub fn hasten(&self, by: impl Into<String>) {
        self.0.own.send_modify(|asked| {
            let by = asked.by().map_or_else(|| by.into(), str::to_owned);
            *asked = Asked::Hastened { by };
        });
    }

    /// By whom or by what it was cancelled.
    pub fn by(&self) -> Option<String> {
        let own = self.0.own.borrow().by().map(str::to_owned);
        own.or_else(|| self.0.parent.as_ref().and_then(Self::by))
    }

    /// Whether it was [hastened](Self::hasten).
    pub fn is_hastened(&self) -> bool {
        matches!(*self.0.own.borrow(), Asked::Hastened { .. })
            || self.0.parent.as_ref().is_some_and(Self::is_hastened)
    }

    /// Returns when it is cancelled; at once, if it is already.
    pub async fn cancelled(&self) -> String {
        self.wait(|asked| *asked != Asked::Nothing).await;
        self.by().unwrap_or_default()
    }

    /// Returns when it is hastened.
    pub async fn hastened(&self) {
        self.wait(|asked| matches!(asked, Asked::Hastened { .. }))
            .await;
    }

    async fn wait(&self, is: impl Fn(&Asked) -> bool + Copy + Send + Sync) {
        let chain = std::iter::successors(Some(self), |cancel| cancel.0.parent.as_ref());
        let mut receivers: Vec<_> = chain.map(|cancel| cancel.0.own.subscribe()).collect();
        let waits = receivers.iter_mut().map(|receiver| {
            let wait = async move { receiver.wait_for(|asked| is(asked)).await.map(drop) };
            wait.boxed()
        });
        // A sender lives as long as `self`, so none of them ends with an error.
        let _ = select_all(waits).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_cancelled_with_the_whole_and_not_the_whole_with_a_part() {
        let whole = Cancel::new();
        let (one, other) = (whole.part(), whole.part().part());
        one.cancel("fail-fast");
        assert_eq!(one.by().as_deref(), Some("fail-fast"));
        assert_eq!((whole.by(), other.by()), (None, None));
        whole.cancel("Ctrl-C");
        whole.cancel("too late");
        assert_eq!(other.by().as_deref(), Some("Ctrl-C"));
        assert_eq!(one.by().as_deref(), Some("fail-fast"));
        assert!(!other.is_hastened());
        whole.hasten("again");
        assert!(other.is_hastened());
        assert_eq!(whole.by().as_deref(), Some("Ctrl-C"));
    }

    #[tokio::test]
    async fn a_waiter_hears_of_the_whole() {
        let whole = Cancel::new();
        let part = whole.part();
        let (by, ()) = tokio::join!(part.cancelled(), async { whole.cancel("Ctrl-C") });
        assert_eq!(by, "Ctrl-C");
        let ((), ()) = tokio::join!(part.hastened(), async { whole.hasten("Ctrl-C") });
    }
}
