//! Docker actions, run by the container engine of the image.

use super::instance::{ActionPlace, Done, Instance, Trouble};
use super::step::Surroundings;
use crate::check::LoadedAction;
use crate::spec::{DockerRuns, Text};
use indexmap::IndexMap;

impl<'r> Instance<'r> {
    pub(super) async fn docker_action(
        &mut self,
        _docker: &'r DockerRuns,
        _action: &'r LoadedAction,
        _place: ActionPlace,
        _inputs: IndexMap<String, String>,
        _around: Surroundings<'_, 'r>,
    ) -> Result<Done, Trouble> {
        Err(Trouble::Step("docker actions cannot be run yet".into()))
    }

    pub(super) async fn docker_image(
        &mut self,
        _uses: &'r Text,
        _with: IndexMap<String, String>,
        _around: Surroundings<'_, 'r>,
    ) -> Result<Done, Trouble> {
        Err(Trouble::Step("docker actions cannot be run yet".into()))
    }
}
