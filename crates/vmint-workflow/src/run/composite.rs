//! Composite actions: steps with inputs and outputs of their own.

use super::instance::{ActionPlace, Done, Frame, Instance, Trouble};
use super::state::{Standing, Steps};
use super::step::Surroundings;
use crate::check::{LoadedAction, Origin};
use crate::expr::{Object, Value};
use crate::record::Outcome;
use crate::spec::Step;
use indexmap::IndexMap;

impl<'r> Instance<'r> {
    /// Runs the steps of a composite action.
    pub(super) async fn composite(
        &mut self,
        action: &'r LoadedAction,
        steps: &'r [Step],
        place: ActionPlace,
        inputs: IndexMap<String, String>,
        outer: &Frame,
        around: Surroundings<'_, 'r>,
    ) -> Result<Done, Trouble> {
        if action.origin == Origin::Mirror {
            self.bring(action, &place).await?;
        }
        let inputs: Object = inputs.into_iter().collect();
        let mut env = outer.env.clone();
        env.extend(around.own);
        let mut frame = Frame {
            inputs: Value::from(inputs),
            steps: Steps::new(),
            standing: Standing::Well,
            env,
            action: Some(place),
            path: around.path,
        };
        let mut cancelled = false;
        for (index, step) in steps.iter().enumerate() {
            let mut path = frame.path.clone();
            path.push(index);
            let inner = self.inner_step(step, &mut frame, around.log, path, around.limit);
            cancelled |= inner.await? == Outcome::Cancelled;
        }
        let mut scope = self.scope(&frame, &self.state.env, &around.id);
        let mut outputs = IndexMap::new();
        for (name, value) in &action.action.outputs {
            if let Some(value) = value {
                outputs.insert(name.clone(), self.text(&mut scope, value).await?);
            }
        }
        let outcome = match frame.standing {
            _ if cancelled => Outcome::Cancelled,
            Standing::Well => Outcome::Success,
            Standing::Failed => Outcome::Failure,
        };
        Ok(Done {
            outcome,
            end: None,
            outputs,
        })
    }
}
