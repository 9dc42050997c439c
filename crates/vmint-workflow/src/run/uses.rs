//! Steps that use an action: which it is, and what it is given.

use super::action_parts::Program;
use super::instance::{ActionPlace, Done, Frame, Instance, Trouble};
use super::late;
use super::step::Surroundings;
use crate::check::{LoadedAction, Origin, Resolved};
use crate::expr::ContextName;
use crate::log::Kind;
use crate::spec::{Map, Runs, Text};
use crate::uses::Uses;
use crate::workspace::folder;
use indexmap::IndexMap;

impl<'r> Instance<'r> {
    /// Runs a step that uses an action.
    pub(super) async fn uses(
        &mut self,
        uses: &'r Text,
        with: &'r Map,
        frame: &mut Frame,
        mut around: Surroundings<'_, 'r>,
    ) -> Result<Done, Trouble> {
        let with = self.map(&mut around.scope, with).await?;
        let resolved = if late::is_of_workspace(&uses.text) {
            let place = self.place(&uses.text);
            Some(self.in_workspace(uses, &place, around.log).await?)
        } else {
            self.resolved(&uses.text)
        };
        match resolved {
            Some(Resolved::Builtin(builtin)) => self.builtin(*builtin, uses, with, around).await,
            Some(Resolved::Action(action)) => {
                let place = self.place(&uses.text);
                let inputs = self.inputs(action, with, &mut around, &place).await?;
                self.group(&around, &uses.text, &inputs)?;
                match &action.action.runs {
                    Runs::Composite(steps) => {
                        self.composite(action, steps, place, inputs, frame, around)
                            .await
                    }
                    Runs::Node(node) => {
                        let program = Program::Node(node);
                        self.main_part(program, action, place, inputs, around).await
                    }
                    Runs::Docker(docker) => {
                        let program = Program::Docker(docker);
                        self.main_part(program, action, place, inputs, around).await
                    }
                }
            }
            Some(Resolved::Replaced(replaced)) => {
                self.replaced(replaced, uses, with, frame, around).await
            }
            Some(Resolved::Missing(why)) => Err(Trouble::Step(why.clone())),
            Some(Resolved::AtRun) => Err(Trouble::Step(format!("{} is not there", uses.text))),
            None => self.docker_image(uses, with, around).await,
        }
    }

    /// Where an action is in the machine.
    pub(super) fn place(&self, uses: &str) -> ActionPlace {
        match Uses::parse(uses) {
            Ok(Uses::Repository(uses)) => {
                let subpath = uses.subpath().unwrap_or_default().trim_matches('/');
                let (repository, reference) = (uses.slug().to_owned(), uses.git_ref().to_owned());
                let actions = self.view.seen(super::paths::ACTIONS);
                let root = format!("{actions}/{repository}/{reference}");
                ActionPlace {
                    path: super::paths::below(&root, subpath),
                    repository,
                    reference,
                }
            }
            other => {
                let path = match &other {
                    Ok(Uses::Local(local)) => local.raw(),
                    _ => uses,
                };
                // `./x`, `./../x`; `$/x` is that of the repository itself.
                let path = path.strip_prefix(['.', '$']).unwrap_or(path);
                let path = path.trim_start_matches('/');
                ActionPlace {
                    path: super::paths::below(&self.workspace(), path),
                    repository: String::new(),
                    reference: String::new(),
                }
            }
        }
    }

    /// The inputs of an action: those given, and the defaults of the others. Names in lower case.
    pub(super) async fn inputs(
        &mut self,
        action: &LoadedAction,
        with: IndexMap<String, String>,
        around: &mut Surroundings<'_, 'r>,
        place: &ActionPlace,
    ) -> Result<IndexMap<String, String>, Trouble> {
        let mut inputs: IndexMap<String, String> = with
            .into_iter()
            .map(|(name, value)| (name.to_lowercase(), value))
            .collect();
        // Defaults see the action that they belong to.
        let mut scope = around.scope.clone();
        if let Some(github) = scope.get(ContextName::Github).and_then(|g| g.as_object()) {
            let mut github = github.clone();
            github.insert("action_path", place.path.clone());
            scope.set(ContextName::Github, github);
        }
        for (name, input) in &action.action.inputs {
            let key = name.to_lowercase();
            if inputs.contains_key(&key) {
                if let Some(deprecation) = &input.deprecation {
                    let text =
                        format!("Input '{name}' has been deprecated with message: {deprecation}");
                    around.log.say(Kind::Warning, self.tell.mask(&text))?;
                }
                continue;
            }
            let default = match &input.default {
                Some(default) => self.text(&mut scope, default).await?,
                None => String::new(),
            };
            inputs.insert(key, default);
        }
        Ok(inputs)
    }

    /// Copies an action into the machine, unless it is there: with all of its repository, for one in a folder of it may use
    /// what lies beside.
    pub(super) async fn bring(
        &mut self,
        action: &LoadedAction,
        place: &ActionPlace,
    ) -> Result<(), Trouble> {
        let actions = self.view.seen(super::paths::ACTIONS);
        let root = format!("{actions}/{}/{}", place.repository, place.reference);
        let (target, source) = match (action.origin, place.path.strip_prefix(&root)) {
            (Origin::Mirror, Some(sub)) => {
                let depth = sub.split('/').filter(|part| !part.is_empty()).count();
                let source = action.folder.ancestors().nth(depth);
                (root, source.unwrap_or(&action.folder))
            }
            _ => (place.path.clone(), action.folder.as_path()),
        };
        if self.state.brought.contains(&target) {
            return Ok(());
        }
        let pack = |pieces| folder::pack_copy(source.to_owned(), pieces);
        self.send(&target, pack).await?;
        self.state.brought.push(target);
        Ok(())
    }

    /// Says at the beginning of a log what is used, as GitHub does.
    pub(super) fn group(
        &self,
        around: &Surroundings<'_, 'r>,
        what: &str,
        inputs: &IndexMap<String, String>,
    ) -> Result<(), Trouble> {
        let say = |kind, text: String| around.log.say(kind, self.tell.mask(&text));
        say(Kind::Group, format!("Run {what}"))?;
        let given = inputs.iter().filter(|(_, value)| !value.is_empty());
        let given: Vec<_> = given.map(|(n, v)| (n.clone(), v.clone())).collect();
        self.say_pairs(around, "with", &given)?;
        self.say_pairs(around, "env", &self.shown_env(around))?;
        say(Kind::EndGroup, String::new())?;
        Ok(())
    }
}

/// The variables through which an action sees its inputs.
pub(super) fn input_variables(inputs: &IndexMap<String, String>) -> Vec<(String, String)> {
    let of = |(name, value): (&String, &String)| {
        let name = name.to_uppercase().replace(' ', "_");
        (format!("INPUT_{name}"), value.clone())
    };
    inputs.iter().map(of).collect()
}
