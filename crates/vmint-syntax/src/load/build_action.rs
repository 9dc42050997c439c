//! The tree of an action, which fits the tables, as a [`spec`](crate::spec).

use super::build::{condition, pairs, steps, text, text_at};
use crate::diagnostic::Findings;
use crate::spec::{Action, ActionInput, DockerRuns, NodeRuns, Runs, Text};
use crate::yaml::Node;
use std::path::Path;

/// Builds it; none if it runs nothing, which the tables refuse.
pub(super) fn action(path: &Path, node: &Node, findings: &mut Findings) -> Option<Action> {
    let runs = node.get("runs")?;
    let entries = |key| node.get(key).map_or(&[][..], Node::entries);
    Some(Action {
        path: path.to_owned(),
        name: node.get("name").and_then(Node::text),
        inputs: entries("inputs")
            .iter()
            .map(|(key, input)| (key.text.clone(), self::input(input)))
            .collect(),
        outputs: entries("outputs")
            .iter()
            .map(|(key, output)| (key.text.clone(), text_at(output, "value")))
            .collect(),
        runs: self::runs(path, runs, findings)?,
    })
}

fn input(node: &Node) -> ActionInput {
    let required = node.get("required").and_then(Node::text);
    ActionInput {
        required: required.is_some_and(|text| text.eq_ignore_ascii_case("true")),
        default: text_at(node, "default"),
        deprecation: node.get("deprecationMessage").and_then(Node::text),
    }
}

fn runs(path: &Path, node: &Node, findings: &mut Findings) -> Option<Runs> {
    let hook = |name: &str, condition_name: &str| -> Option<(String, Option<Text>)> {
        Some((node.get(name)?.text()?, condition(node, condition_name)))
    };
    if node.get("steps").is_some() {
        return Some(Runs::Composite(steps(path, node, findings)));
    }
    if let Some(image) = text_at(node, "image") {
        let args = node.get("args").map_or(&[][..], Node::items);
        return Some(Runs::Docker(Box::new(DockerRuns {
            image,
            env: pairs(node.get("env")),
            entrypoint: text_at(node, "entrypoint"),
            args: args.iter().filter_map(text).collect(),
            pre: hook("pre-entrypoint", "pre-if"),
            post: hook("post-entrypoint", "post-if"),
        })));
    }
    Some(Runs::Node(Box::new(NodeRuns {
        using: text_at(node, "using")?,
        main: node.get("main")?.text()?,
        pre: hook("pre", "pre-if"),
        post: hook("post", "post-if"),
    })))
}
