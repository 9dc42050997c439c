//! JavaScript actions, run by the Node.js of where the steps run.
//!
//! An image may name another program than the `node` of its `PATH` (`node` in vmint.toml): actions want newer ones than
//! distributions have. Scripts have the one of `PATH` nevertheless, as on GitHub.
//!
//! GitHub's runner brings Node.js with it, and mounts it into a job's container. vmint has the image's: in a container that has
//! no Node.js, the machine's is lent to it, with its own libraries and its own loader, so that the container's C library does
//! not matter.

use super::action_parts::{Given, Part};
use super::command::Launch;
use super::end::End;
use super::instance::{Instance, Trouble};
use super::paths;
use super::step::Surroundings;
use super::uses::input_variables;
use super::view::View;
use crate::containers::folders::EXTERNALS;
use crate::equipment::Equipment;
use crate::guest::Command;
use crate::log::Kind;
use crate::record::Level;
use crate::spec::NodeRuns;

/// What a program may say of its version, in bytes.
const MOST: usize = 64 << 10;
/// Lends the machine's Node.js.
const LEND: &str = include_str!("lend_node.sh");

/// The Node.js that actions run by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NodeJs {
    /// The words that start it, where the steps run.
    argv: Vec<String>,
    /// What it says of its version.
    version: String,
    /// Whose it is, in words.
    whose: &'static str,
}

/// 24 of `node24` and of `v24.1.0`.
fn major(text: &str) -> Option<u32> {
    let digits = text.trim_start_matches(|c: char| !c.is_ascii_digit());
    let end = digits
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(digits.len());
    digits[..end].parse().ok()
}

impl<'r> Instance<'r> {
    /// Says so when there is no Node.js, or an older one than the action is written for.
    pub(super) async fn node_ready(
        &mut self,
        node: &NodeRuns,
        around: &Surroundings<'_, 'r>,
    ) -> Result<(), Trouble> {
        let using = &node.using.text;
        if self.node.is_none() {
            self.node = Some(self.find_node(using).await?);
        }
        let Some(found) = &self.node else {
            return Ok(());
        };
        if let (Some(wanted), Some(has)) = (major(using), major(&found.version))
            && has < wanted
        {
            let remedy = match self.view {
                View::Machine => format!(
                    "put Node.js {wanted} into the image with `copy` or `run` of its recipe in vmint.toml, and name its program \
                     there: `node = \"/opt/node/bin/node\"`"
                ),
                View::Container(_) => {
                    format!("name an image with Node.js {wanted} in `container`")
                }
            };
            let text = format!(
                "the action is written for Node.js {wanted}, and {} has {}: {remedy}",
                found.whose, found.version
            );
            around.log.say(Kind::Warning, self.tell.mask(&text))?;
            self.tell.annotate(around.log.at(), Level::Warning, &text);
        }
        Ok(())
    }

    async fn find_node(&mut self, using: &str) -> Result<NodeJs, Trouble> {
        let own = self.inventory.program("node");
        let own = own.map(|program| program.path.clone());
        if let (View::Machine, Some(node)) = (&self.view, self.node_of_image()) {
            return self.node_of_settings(node).await;
        }
        match (own, &self.view) {
            (Some(path), View::Machine) => self.node_at(path, "the image").await,
            (Some(path), View::Container(_)) => self.node_at(path, "the job's container").await,
            (None, View::Machine) => {
                let image = self.wire.image();
                let hint = Equipment::Node.hint();
                Err(Trouble::Step(format!(
                    "`using: {using}` needs Node.js, which the image {image} does not have: {hint}"
                )))
            }
            (None, View::Container(_)) => self.lend_node(using).await,
        }
    }

    /// The program that the settings name for the machine's image.
    pub(super) fn node_of_image(&self) -> Option<String> {
        self.run.site.node(self.wire.image())
    }

    async fn node_of_settings(&mut self, node: String) -> Result<NodeJs, Trouble> {
        let argv = vec![node];
        let said = match self.node_version(&argv).await {
            Ok((End::Exited { code: 0 }, version)) if major(&version).is_some() => {
                return Ok(NodeJs {
                    argv,
                    version,
                    whose: "`node` of the image",
                });
            }
            Ok((_, said)) | Err(Trouble::Step(said)) => said,
            Err(trouble) => return Err(trouble),
        };
        let (image, node) = (self.wire.image(), &argv[0]);
        let said: String = said.chars().take(300).collect();
        Err(Trouble::Step(format!(
            "`node` of [images.{image}] in vmint.toml is {node}, which does not run in its machines ({said}): put Node.js there with \
             `copy` or `run` of the image, or correct the path"
        )))
    }

    async fn node_at(&mut self, program: String, whose: &'static str) -> Result<NodeJs, Trouble> {
        let (_, version) = self.node_version(&[program]).await?;
        Ok(NodeJs {
            argv: vec!["node".to_owned()],
            version,
            whose,
        })
    }

    async fn node_version(&mut self, argv: &[String]) -> Result<(End, String), Trouble> {
        let mut argv = argv.to_vec();
        argv.push("--version".into());
        let command = Command {
            argv,
            ..Command::default()
        };
        let (end, output) = self.ask(command, MOST).await?;
        Ok((end, String::from_utf8_lossy(&output).trim().to_owned()))
    }

    /// The machine's Node.js, for a container that has none. Whether it runs there is tried.
    async fn lend_node(&mut self, using: &str) -> Result<NodeJs, Trouble> {
        let image = self.wire.image().to_owned();
        let lacks = |why: String| {
            Trouble::Step(format!(
                "`using: {using}` needs Node.js, which the job's container does not have, and {why}"
            ))
        };
        let Some(node) = self.node_of_image().or_else(|| self.machine_node.clone()) else {
            return Err(lacks(format!(
                "the image {image} has none that could be lent to it: name an image with Node.js in `container`, or {}",
                Equipment::Node.hint()
            )));
        };
        let sight = self.sight().await?;
        let words = [
            "sh",
            "-c",
            LEND,
            "sh",
            &node,
            paths::EXTERNALS,
            EXTERNALS,
            &sight,
        ];
        let lend = Command {
            argv: words.map(str::to_owned).to_vec(),
            user: Some("root".into()),
            ..Command::default()
        };
        let short = |text: &str| text.trim().chars().take(300).collect::<String>();
        let (end, said) = self.wire.ask(lend, MOST).await?;
        let said = String::from_utf8_lossy(&said).into_owned();
        if end != (End::Exited { code: 0 }) {
            let said = short(&said);
            return Err(lacks(format!("the machine's cannot be lent to it: {said}")));
        }
        let argv: Vec<String> = said.lines().map(str::to_owned).collect();
        let (end, version) = self.node_version(&argv).await?;
        if end != (End::Exited { code: 0 }) || major(&version).is_none() {
            return Err(lacks(format!(
                "that of the image {image} does not run in it ({}): name an image with Node.js in `container`",
                short(&version)
            )));
        }
        Ok(NodeJs {
            argv,
            version,
            whose: "the image of the machine, which lends it to the job's container,",
        })
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
        let node = self.node.as_ref();
        let mut argv = node.map_or_else(|| vec!["node".to_owned()], |node| node.argv.clone());
        argv.push(paths::below(&given.place.path, file));
        Launch {
            argv,
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
