//! `container` and `services`: what stands in the file is read as it is when the job runs. What an expression gives is known
//! then.

use super::{Checker, File};
use crate::containers::job::job_container;
use crate::containers::service::services;
use crate::containers::settings::Wrong;
use crate::diagnostic::{Diagnostic, Spot};
use crate::expr::{Object, Scope, Value, evaluate_node, is_computed};
use crate::spec::StepsJob;
use crate::yaml::{Data, Node};

/// Stands for an image that is computed.
const SOME_IMAGE: &str = "image";

impl Checker<'_> {
    /// The containers of a job.
    pub(super) fn containers(&mut self, file: &File<'_>, job: &StepsJob) {
        if let Some(container) = &job.container
            && let Some(value) = known(container)
            && let Err(wrong) = job_container(&value)
        {
            let spot = place(container, wrong.key.as_deref());
            self.wrong(file, spot, &wrong);
        }
        for (id, service) in job.services.as_ref().map_or(&[][..], Node::entries) {
            let Some(value) = known(service) else {
                continue;
            };
            let mut one = Object::new();
            one.insert(id.text.clone(), value);
            if let Err(wrong) = services(&one.into()) {
                let spot = match &wrong.key {
                    None => id.spot,
                    key => place(service, key.as_deref()),
                };
                self.wrong(file, spot, &wrong);
            }
        }
    }

    fn wrong(&mut self, file: &File<'_>, spot: Spot, wrong: &Wrong) {
        self.find(Diagnostic::error(file.path, spot, wrong.to_string()));
    }
}

/// Where a key of a container stands, or else the container.
fn place(container: &Node, key: Option<&str>) -> Spot {
    let entry = key.and_then(|key| container.entry(key));
    entry.map_or(container.spot, |(_, value)| value.spot)
}

/// A container without what is computed; nothing if that is all.
fn known(container: &Node) -> Option<Value> {
    let Data::Mapping(entries) = &container.data else {
        return value(container);
    };
    let mut known = Object::new();
    for (key, node) in entries {
        match value(node) {
            Some(value) => known.insert(key.text.clone(), value),
            None if key.text == "image" => known.insert("image", SOME_IMAGE),
            // An expression as a key is some key.
            None => {}
        }
    }
    Some(known.into())
}

fn value(node: &Node) -> Option<Value> {
    if computed(node) {
        return None;
    }
    evaluate_node(node, &Scope::new()).ok()
}

/// Whether something in it is computed.
fn computed(node: &Node) -> bool {
    match &node.data {
        Data::String(text) => is_computed(text),
        Data::Sequence(items) => items.iter().any(computed),
        Data::Mapping(entries) => entries
            .iter()
            .any(|(key, value)| is_computed(&key.text) || computed(value)),
        Data::Null | Data::Bool(_) | Data::Number(..) => false,
    }
}
