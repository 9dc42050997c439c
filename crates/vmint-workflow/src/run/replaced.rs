//! Steps whose action is replaced: what stands in is run, and that is told.

use super::instance::{Done, Frame, Instance, Trouble};
use super::recorder::StepAt;
use super::step::Surroundings;
use super::uses::input_variables;
use crate::log::Kind;
use crate::replace::{Replaced, StandIn};
use crate::spec::Text;
use crate::uses::Uses;
use indexmap::IndexMap;

impl<'r> Instance<'r> {
    /// Runs what stands in for an action.
    pub(super) async fn replaced(
        &mut self,
        replaced: &Replaced,
        uses: &Text,
        with: IndexMap<String, String>,
        frame: &Frame,
        mut around: Surroundings<'_, 'r>,
    ) -> Result<Done, Trouble> {
        self.group(&around, &uses.text, &with)?;
        let by = replaced.by();
        let text = format!("The action {} is replaced by {by}.", uses.text);
        around.log.say(Kind::Warning, self.tell.mask(&text))?;
        let note = format!("the action {} is replaced by {by}", uses.text);
        self.tell.recorder.note(self.tell.mask(&note));
        // Of a step inside of a composite action the log and the notes tell.
        if let [_] = *around.path {
            self.mark(around.log.at(), by);
        }
        let StandIn::Run(script) = &replaced.stand_in else {
            return Ok(Done::well(IndexMap::new()));
        };
        if let Ok(Uses::Repository(uses)) = Uses::parse(uses.text.as_str()) {
            for (name, value) in [
                ("VMINT_ACTION", crate::replace::name(&uses)),
                ("VMINT_ACTION_REF", uses.git_ref().to_owned()),
            ] {
                around.env.insert(name.to_owned(), value);
            }
        }
        around.env.extend(input_variables(&with));
        let cwd = self.workspace();
        self.run_script(script, None, cwd, frame, around).await
    }

    fn mark(&self, at: StepAt, by: &str) {
        let by = self.tell.mask(by);
        self.tell.recorder.step(at, |step| step.replaced = Some(by));
    }
}
