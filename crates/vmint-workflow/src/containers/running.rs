//! Services that run, as steps see them.

use super::scope::Scope;
use crate::expr::value::{Object, Value};
use serde::{Deserialize, Serialize};

/// A service that runs. It can be written down, for a run that goes on from a snapshot finds its services running.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Its key in `services`.
    pub id: String,
    /// The container's id.
    pub container: String,
    /// Ports of the container, and where they are in the machine.
    pub ports: Vec<(String, String)>,
}

/// `job.services`.
pub fn context(running: &[Running], scope: &Scope) -> Value {
    let services = running.iter().map(|service| {
        let ports = service.ports.iter();
        let ports: Object = ports
            .map(|(container, machine)| (container.as_str(), machine.as_str()))
            .collect();
        let mut context = Object::new();
        context.insert("id", service.container.as_str());
        context.insert("ports", ports);
        context.insert("network", scope.network());
        (service.id.as_str(), context)
    });
    services.collect::<Object>().into()
}
