//! A command in the job's container: signals go to what it runs there, for the engine's client would not pass them on.

use super::session::Session;
use crate::containers::inside;
use crate::guest::{Happening, Process};
use futures_util::future::BoxFuture;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use vmint_model::Fault;

const SIGKILL: i32 = 9;

/// The engine's client, and what it runs.
pub(super) struct Forwarding<'a> {
    client: Box<dyn Process + 'a>,
    session: &'a Session,
    mark: String,
    /// Signals that are still to be sent.
    waiting: Mutex<VecDeque<i32>>,
    /// One that is being sent. It goes on where it was when a wait is cut off.
    sending: Option<BoxFuture<'a, ()>>,
}

impl<'a> Forwarding<'a> {
    pub(super) fn new(client: Box<dyn Process + 'a>, session: &'a Session, mark: String) -> Self {
        Self {
            client,
            session,
            mark,
            waiting: Mutex::default(),
            sending: None,
        }
    }

    fn send(&self, signal: i32) -> BoxFuture<'a, ()> {
        let call = inside::tell(&self.mark, signal);
        let session = self.session;
        Box::pin(async move {
            // A machine that cannot do it fails the command itself, too.
            let Ok(mut process) = session.guest().start(call.command()).await else {
                return;
            };
            while let Ok(Happening::Output(_)) = process.next().await {}
        })
    }

    fn next_signal(&self) -> Option<i32> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.pop_front()
    }
}

impl Process for Forwarding<'_> {
    fn next(&mut self) -> BoxFuture<'_, Result<Happening, Fault>> {
        Box::pin(async move {
            loop {
                if self.sending.is_none() {
                    self.sending = self.next_signal().map(|signal| self.send(signal));
                }
                let Some(sending) = &mut self.sending else {
                    return self.client.next().await;
                };
                tokio::select! {
                    happening = self.client.next() => return happening,
                    () = sending => self.sending = None,
                }
            }
        })
    }

    fn signal(&self, signal: i32) {
        if signal == SIGKILL {
            // What it runs is killed once it has ended.
            self.client.signal(signal);
            return;
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push_back(signal);
    }
}
