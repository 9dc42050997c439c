//! JavaScript actions, run by the image's Node.js.

use super::command::Launch;
use super::instance::Instance;
use super::parts::{Given, Part};
use super::step::Surroundings;
use super::uses::input_variables;
use crate::spec::NodeRuns;

impl<'r> Instance<'r> {
    /// The command of a part of an action.
    pub(super) fn node(
        &self,
        node: &NodeRuns,
        part: Part<'_>,
        given: &Given<'_>,
        around: &Surroundings<'_, 'r>,
    ) -> Launch {
        let file = match part {
            Part::Main => &node.main,
            Part::Pre(file) | Part::Post(file) => file,
        };
        let mut env = around.env.clone();
        env.extend(input_variables(given.inputs));
        env.extend(given.variables());
        Launch {
            argv: vec!["node".into(), super::paths::below(&given.place.path, file)],
            env,
            cwd: self.workspace(),
            ..Launch::default()
        }
    }
}
