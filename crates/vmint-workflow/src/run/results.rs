//! What a command has left in its files: outputs, state, variables, paths, a summary.

use super::command::{Ran, Said};
use super::end::End;
use super::instance::{Instance, Trouble};
use super::step::Surroundings;
use super::transfer;
use crate::files::{self, File, OutputBudget};
use crate::log::Kind;
use crate::record::Level;
use vmint_model::ErrorKind;

/// What all of these of one command may hold, in bytes.
const MOST_LEFT: usize = 64 << 20;

impl<'r> Instance<'r> {
    /// Fetches what the command has left in its files.
    pub(super) async fn gather(
        &mut self,
        mut end: End,
        mut said: Said,
        folder: &str,
        around: &Surroundings<'_, 'r>,
    ) -> Result<Ran, Trouble> {
        let left = transfer::fetch(&self.wire, &format!("{folder}/."), MOST_LEFT).await;
        let left = match left {
            // In haste nothing is fetched, and nobody is to use it: the step was cancelled, and is told as that.
            Err(fault)
                if fault.kind == ErrorKind::Interrupted && self.wire.cancel.is_hastened() =>
            {
                Vec::new()
            }
            left => left?,
        };
        let content = |name: &str| {
            let file = left.iter().find(|file| file.path == name);
            file.map_or(&b""[..], |file| &file.content)
        };
        let mut failures = Vec::new();
        let mut pairs = |file, name| {
            let pairs = files::pairs(file, content(name));
            pairs.unwrap_or_else(|error| {
                failures.push(error.to_string());
                Vec::new()
            })
        };
        said.outputs.extend(pairs(File::Output, "output"));
        said.state.extend(pairs(File::State, "state"));
        let env = match files::variables(content("env")) {
            Ok(variables) => {
                // As on GitHub: shown as errors, and the step is well.
                for refused in variables.refused {
                    let text = refused.to_string();
                    around.log.say(Kind::Error, self.tell.mask(&text))?;
                    self.tell.annotate(around.log.at(), Level::Error, &text);
                }
                variables.set
            }
            Err(error) => {
                failures.push(error.to_string());
                Vec::new()
            }
        };
        match files::paths(content("path")) {
            Ok(paths) => said.path.extend(paths),
            Err(error) => failures.push(error.to_string()),
        }
        match files::summary(content("summary")) {
            Ok(None) => {}
            Ok(Some(summary)) => around.log.keep_summary(&self.tell.mask(&summary))?,
            Err(error) => {
                // As on GitHub: the step is well, its summary is not.
                let text = error.to_string();
                around.log.say(Kind::Error, self.tell.mask(&text))?;
                self.tell.annotate(around.log.at(), Level::Error, &text);
            }
        }
        let mut budget = OutputBudget::of_job();
        for (name, value) in &said.outputs {
            if let Err(error) = budget.take(name, value) {
                failures.push(error.to_string());
                break;
            }
        }
        for (name, value) in said.env.into_iter().chain(env) {
            self.state.env.insert(name, value);
        }
        for path in said.path {
            self.state.path.retain(|known| *known != path);
            self.state.path.insert(0, path);
        }
        if let (Some(reason), End::Exited { code: 0 }) = (failures.first(), &end) {
            let reason = reason.clone();
            end = End::Invalid { reason };
        } else if let (true, End::Exited { code: 0 }) = (said.failed, &end) {
            let reason = "a workflow command of its output could not be executed".to_owned();
            end = End::Invalid { reason };
        }
        Ok(Ran {
            end,
            outputs: said.outputs,
            state: said.state,
        })
    }
}
