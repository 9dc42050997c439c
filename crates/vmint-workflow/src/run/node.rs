//! JavaScript actions, run by the image's Node.js.

use super::command::Launch;
use super::instance::{Instance, Trouble};
use super::parts::{Given, Part};
use super::step::Surroundings;
use super::uses::input_variables;
use crate::equipment::Equipment;
use crate::guest::Command;
use crate::log::Kind;
use crate::record::Level;
use crate::spec::NodeRuns;

/// What a program may say of its version, in bytes.
const MOST: usize = 64 << 10;

/// 24 of `node24` and of `v24.1.0`.
fn major(text: &str) -> Option<u32> {
    let digits = text.trim_start_matches(|c: char| !c.is_ascii_digit());
    let end = digits
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(digits.len());
    digits[..end].parse().ok()
}

impl<'r> Instance<'r> {
    /// Says so when the image has no Node.js, or an older one than the action is written for.
    pub(super) async fn node_ready(
        &mut self,
        node: &NodeRuns,
        around: &Surroundings<'_, 'r>,
    ) -> Result<(), Trouble> {
        let using = &node.using.text;
        let Some(program) = self.inventory.program("node") else {
            let image = &self.session.place().image;
            let hint = Equipment::Node.hint();
            return Err(Trouble::Step(format!(
                "`using: {using}` needs Node.js, which the image {image} does not have: {hint}"
            )));
        };
        let path = program.path.clone();
        if self.node.is_none() {
            let command = Command {
                argv: vec![path, "--version".into()],
                ..Command::default()
            };
            let (_, output) = self.ask(command, MOST).await?;
            self.node = Some(String::from_utf8_lossy(&output).trim().to_owned());
        }
        let found = self.node.as_deref().unwrap_or_default();
        if let (Some(wanted), Some(has)) = (major(using), major(found))
            && has < wanted
        {
            let text = format!(
                "the action is written for Node.js {wanted}, and the image has {found}: install Node.js {wanted} with a \
                 command in `run` of its recipe in vmint.toml"
            );
            around.log.say(Kind::Warning, &text)?;
            self.annotate(around.log.at(), Level::Warning, &text);
        }
        Ok(())
    }

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

#[cfg(test)]
mod tests {
    use super::major;

    #[test]
    fn versions_are_compared_by_their_first_number() {
        assert_eq!(
            ["node24", "v18.19.0", "20", "node", ""].map(major),
            [Some(24), Some(18), Some(20), None, None]
        );
    }
}
