//! `actions/setup-python` and its like: satisfied by what the image has.

use super::Inputs;
use crate::guest::Command;
use crate::log::Kind;
use crate::record::Level;
use crate::run::instance::{Done, Instance, Trouble};
use crate::run::step::Surroundings;
use crate::run::{paths, transfer};
use crate::setup::{Answer, Source, Tool};
use indexmap::IndexMap;

/// What a file with a version may hold, and what a program may say of its version, in bytes.
const MOST: usize = 64 << 10;

impl<'r> Instance<'r> {
    pub(super) async fn tool(
        &mut self,
        tool: &'static Tool,
        uses: &str,
        inputs: &Inputs,
        around: &Surroundings<'_, 'r>,
    ) -> Result<Done, Trouble> {
        let (_, reference) = uses.split_once('@').unwrap_or((uses, ""));
        let input = |name: &str| inputs.get(name).map(str::to_owned);
        let wanted = match tool.source(reference, input) {
            Source::Any => None,
            Source::Given(version) => Some(version),
            Source::File(path) => Some(self.version_in(tool, &path).await?),
        };
        let program = self.inventory.first(tool.programs).cloned();
        let output = match &program {
            None => String::new(),
            Some(program) => {
                let arguments = tool.arguments.iter().map(|argument| (*argument).to_owned());
                let command = Command {
                    argv: std::iter::once(program.path.clone())
                        .chain(arguments)
                        .collect(),
                    ..Command::default()
                };
                let (_, output) = self.ask(command, MOST).await?;
                String::from_utf8_lossy(&output).into_owned()
            }
        };
        let (whose, of_container) = if self.view.container().is_none() {
            ("the image", None)
        } else {
            let help = format!("name an image with {} in `container`", tool.name);
            ("the job's container", Some(help))
        };
        match tool.answer(program.as_ref(), &output, wanted.as_deref()) {
            Answer::Satisfied(ready) => {
                let path = program.map_or(String::new(), |program| program.path);
                let version = output.lines().next().unwrap_or_default();
                let text = format!("{} of {whose}: {path} ({version})", tool.name);
                around.log.say(Kind::Text, self.tell.mask(&text))?;
                for (programs, package) in tool.companions {
                    if self.inventory.first(programs).is_none() {
                        let missing = programs[0];
                        let remedy = match self.view.container() {
                            None => {
                                format!("add {package} to `packages` of its recipe in vmint.toml")
                            }
                            Some(_) => format!("name an image with {missing} in `container`"),
                        };
                        let text = format!("{whose} has {}, but no {missing}: {remedy}", tool.name);
                        around.log.say(Kind::Warning, self.tell.mask(&text))?;
                        self.tell.annotate(around.log.at(), Level::Warning, &text);
                    }
                }
                for (name, value) in ready.env {
                    self.state.env.insert(name, value);
                }
                for (name, target) in ready.links {
                    self.link(&name, &target).await?;
                }
                Ok(Done::well(
                    ready.outputs.into_iter().collect::<IndexMap<_, _>>(),
                ))
            }
            Answer::WrongVersion {
                found,
                wanted,
                help,
            } => Err(Trouble::Step(format!(
                "{whose} has {} {found}, and the workflow wants {wanted}: {}",
                tool.name,
                of_container.unwrap_or(help)
            ))),
            Answer::Missing { help } => Err(Trouble::Step(format!(
                "{whose} has no {}: {}",
                tool.name,
                of_container.unwrap_or(help)
            ))),
        }
    }

    async fn version_in(&mut self, tool: &Tool, path: &str) -> Result<String, Trouble> {
        let full = paths::below(&self.workspace(), path);
        let full = self.in_machine(&full).await?;
        let found = transfer::fetch(&self.wire, &full, MOST).await?;
        let Some(file) = found.first() else {
            return Err(Trouble::Step(format!(
                "there is no file {path} with a version"
            )));
        };
        let text = String::from_utf8_lossy(&file.content);
        tool.in_file(path, &text)
            .ok_or_else(|| Trouble::Step(format!("{path} names no version of {}", tool.name)))
    }

    /// Gives a program another name, in a folder of `PATH`.
    async fn link(&self, name: &str, target: &str) -> Result<(), Trouble> {
        let mut parcel = transfer::Parcel::default();
        parcel.link(name, target);
        Ok(parcel.put(&self.wire, self.view.programs()).await?)
    }
}
