//! The container engine of a machine, driven: what a dialogue of [`crate::containers`] asks for is run in the machine, under the
//! same limits and cancellations as all commands.

use super::end::End;
use super::instance::{Instance, Trouble};
use super::recorder::StepLog;
use super::teller::Teller;
use super::wire::Wire;
use crate::containers::call::OUTPUT_LIMIT;
use crate::containers::{Answer, Call, Engine, Scope, Show, Turn};
use crate::guest::Exit;
use crate::limits::Deadline;
use crate::lines::{Piece, Splitter};
use crate::log::{Kind, Line};
use crate::report::text::quoted;
use crate::trace::Doing;
use vmint_model::Fault;

impl<'r> Instance<'r> {
    /// The engine, which is asked for once.
    pub(super) async fn engine(
        &mut self,
        log: &StepLog<'r>,
        limit: Option<Deadline>,
    ) -> Result<Engine, Trouble> {
        if let Some(engine) = &self.engine {
            return Ok(engine.clone());
        }
        let answer = self.wire.call(&Engine::detect(), log, limit).await?;
        let engine = Engine::detected(&answer).map_err(|e| Trouble::Step(e.to_string()))?;
        self.engine = Some(engine.clone());
        Ok(engine)
    }

    /// What sets the job's containers apart from those of other jobs, also of those that were in the machine before it was
    /// frozen.
    pub(super) fn container_scope(&mut self) -> Scope {
        let (run, job) = (&self.run.request.id, self.tell.at.0);
        let scope = &mut self.state.containers.scope;
        let new =
            || Scope::new(format!("{run}j{job}")).expect("a run's id is of letters and digits");
        scope.get_or_insert_with(new).clone()
    }
}

impl<'r> Wire<'r> {
    /// Carries out a dialogue: `next` is given what came of a call, and says what comes next.
    pub(super) async fn dialogue<R>(
        &mut self,
        log: &StepLog<'r>,
        limit: Option<Deadline>,
        mut next: impl FnMut(Option<Answer>) -> Turn<R> + Send,
    ) -> Result<R, Trouble> {
        let mut answer = None;
        let mut open = false;
        loop {
            match next(answer.take()) {
                Turn::Say(kind, text) => {
                    match kind {
                        Kind::Group => open = true,
                        Kind::EndGroup => open = false,
                        _ => {}
                    }
                    log.say(kind, self.tell.mask(&text))?;
                }
                Turn::Run(call) => match self.call(&call, log, limit).await {
                    Ok(came) => answer = Some(came),
                    Err(trouble) => {
                        if open {
                            // What is said of the trouble is not for a group that is shown folded.
                            log.say(Kind::EndGroup, "")?;
                        }
                        return Err(trouble);
                    }
                },
                Turn::End(end) => return Ok(end),
            }
        }
    }

    /// Runs a call. That it runs past a limit of its own is an answer; all else that cuts it off is trouble.
    pub(super) async fn call(
        &mut self,
        call: &Call,
        log: &StepLog<'r>,
        limit: Option<Deadline>,
    ) -> Result<Answer, Trouble> {
        let tell = self.tell;
        let shown = short(call);
        self.pause(call.after, &shown, limit).await?;
        let mut allowed = self.allowed(limit).map_err(Trouble::Ended)?;
        let own = call.limit.filter(|own| *own < allowed.time);
        allowed.time = own.unwrap_or(allowed.time);
        if call.show == Show::All {
            tell.say_call(call, log)?;
        }
        let mut end_of_output = Vec::new();
        let mut splitter = Splitter::new();
        let mut written: Result<(), Fault> = Ok(());
        let write = |piece: Piece<'_>, written: &mut Result<(), Fault>| {
            if call.show == Show::Nothing || written.is_err() {
                return;
            }
            let (Piece::Line(bytes) | Piece::Part(bytes) | Piece::Last(bytes)) = piece;
            let text = tell.mask(&String::from_utf8_lossy(bytes));
            *written = log.line(&Line::new(vmint_model::now_ms(), Kind::Text, text));
        };
        let hear = |bytes: &[u8]| {
            splitter.push(bytes, |piece| write(piece, &mut written));
            end_of_output.extend_from_slice(bytes);
            if end_of_output.len() > 2 * OUTPUT_LIMIT {
                end_of_output.drain(..end_of_output.len() - OUTPUT_LIMIT);
            }
            std::mem::replace(&mut written, Ok(())).map_err(Trouble::Fault)
        };
        let doing = tell.trace(Doing::ContainerCall, &shown);
        let end = doing.ends_with(self.listen(call.command(), allowed, hear).await)?;
        splitter.finish(|piece| write(piece, &mut written));
        written?;
        let exit = match end {
            End::Exited { code } => Exit::Code(code),
            End::Killed { signal } => Exit::Signal(signal),
            End::TimedOut { .. } if own.is_some() => Exit::TimedOut,
            end => return Err(Trouble::Ended(end)),
        };
        Ok(Answer::new(exit, &end_of_output))
    }
}

impl Teller<'_> {
    /// Says which command is run.
    pub(super) fn say_call(&self, call: &Call, log: &StepLog<'_>) -> Result<(), Fault> {
        // Masked before quotes could hide what is to be masked.
        let words = call.argv.iter().map(|word| quoted(&self.mask(word)));
        let line = words.collect::<Vec<_>>().join(" ");
        log.say(Kind::Command, self.mask(&line))
    }
}

/// What a call is, in a few words: not its options, which may be long, nor its variables.
fn short(call: &Call) -> String {
    /// Names of containers and images are shorter.
    const LONGEST: usize = 100;
    const MOST: usize = 5;
    let is_name = |word: &&String| {
        let legal = |b: u8| b.is_ascii_alphanumeric() || b"_./:@-".contains(&b);
        word.len() <= LONGEST && !word.starts_with('-') && word.bytes().all(legal)
    };
    let words = call.argv.iter().filter(is_name).take(MOST);
    words.map(String::as_str).collect::<Vec<_>>().join(" ")
}
