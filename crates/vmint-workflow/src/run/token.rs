//! Steps that were given an empty token: most fail of it, and few say so.

use super::instance::{Instance, Trouble};
use super::recorder::StepLog;
use crate::check::Resolved;
use crate::log::Kind;
use crate::record::Level;
use crate::spec::{Map, Runs, Step, StepBody};

const HINT: &str =
    "the step was given an empty token: there is none unless you give it: --secret GITHUB_TOKEN";

impl<'r> Instance<'r> {
    /// Says of a step that has failed that it was given an empty token, if so.
    pub(super) fn tell_empty_token(&self, step: &Step, log: &StepLog<'r>) -> Result<(), Trouble> {
        if self
            .run
            .scene()
            .token
            .is_some_and(|token| !token.is_empty())
            || !self.takes_token(step)
        {
            return Ok(());
        }
        log.say(Kind::Warning, HINT)?;
        self.tell.annotate(log.at(), Level::Warning, HINT);
        Ok(())
    }

    /// Whether a step names the token: in what it is given, or in the default of an input that it is not given.
    fn takes_token(&self, step: &Step) -> bool {
        let in_map = |map: &Map| match map {
            Map::Entries(entries) => entries.iter().any(|(_, text)| names_token(&text.text)),
            Map::Expression(text) => names_token(&text.text),
        };
        if [&step.env, &self.body.env, self.workflow_env]
            .into_iter()
            .any(in_map)
        {
            return true;
        }
        match &step.body {
            StepBody::Run { script, .. } => names_token(&script.text),
            StepBody::Uses { uses, with } => {
                let given = |name: &str| match with {
                    Map::Entries(entries) => entries
                        .iter()
                        .any(|(key, _)| key.eq_ignore_ascii_case(name)),
                    Map::Expression(_) => true,
                };
                let by_default = match self.resolved(&uses.text) {
                    // The step inside that has failed says it.
                    Some(Resolved::Action(action))
                        if matches!(action.action.runs, Runs::Composite(_)) =>
                    {
                        return false;
                    }
                    Some(Resolved::Action(action)) => {
                        action.action.inputs.iter().any(|(name, input)| {
                            let default = input.default.as_ref();
                            !given(name) && default.is_some_and(|text| names_token(&text.text))
                        })
                    }
                    _ => false,
                };
                by_default || in_map(with)
            }
        }
    }
}

/// Whether a text takes GitHub's own token.
fn names_token(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    text.contains("${{") && (text.contains("github.token") || text.contains("secrets.github_token"))
}
