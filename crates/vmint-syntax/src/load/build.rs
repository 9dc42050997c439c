//! The tree of a workflow, which fits the tables, as a [`spec`](crate::spec).

use crate::diagnostic::{Diagnostic, Findings, Spot};
use crate::spec::{
    CallJob, CallSecrets, Concurrency, Defaults, Job, JobBody, Map, Step, StepBody, StepsJob,
    Strategy, Text, Workflow,
};
use crate::yaml::{Data, Key, Node};
use std::collections::HashMap;
use std::path::Path;

/// Builds it. What the tables cannot say is told: ids that are there twice, filters that exclude each other.
pub(super) fn workflow(path: &Path, node: &Node, findings: &mut Findings) -> Workflow {
    if let Some(on) = node.get("on") {
        filters(path, on, findings);
    }
    let jobs = node.get("jobs").map_or(&[][..], Node::entries);
    let jobs = jobs
        .iter()
        .map(|(key, value)| (key.text.clone(), job(path, key, value, findings)))
        .collect();
    Workflow {
        path: path.to_owned(),
        name: node.get("name").and_then(Node::text),
        run_name: text_at(node, "run-name"),
        on_node: node.get("on").cloned().unwrap_or(Node {
            spot: Spot::START,
            data: Data::Null,
        }),
        permissions: node.get("permissions").cloned(),
        env: map_at(node, "env"),
        defaults: defaults(node),
        concurrency: concurrency(node),
        jobs,
    }
}

fn job(path: &Path, key: &Key, node: &Node, findings: &mut Findings) -> Job {
    let body = match text_at(node, "uses") {
        Some(uses) => JobBody::Call(Box::new(CallJob {
            uses: trimmed(uses),
            with: map_at(node, "with"),
            secrets: match node.get("secrets") {
                Some(secrets) if matches!(secrets.data, Data::String(_)) => CallSecrets::Inherit,
                _ => CallSecrets::Named(map_at(node, "secrets")),
            },
        })),
        None => JobBody::Steps(Box::new(StepsJob {
            runs_on: runs_on(path, node, findings),
            env: map_at(node, "env"),
            defaults: defaults(node),
            timeout_minutes: text_at(node, "timeout-minutes"),
            continue_on_error: text_at(node, "continue-on-error"),
            outputs: pairs(node.get("outputs")),
            container: node.get("container").cloned(),
            services: node.get("services").cloned(),
            environment: node.get("environment").cloned(),
            steps: steps(path, node, findings),
        })),
    };
    Job {
        id: key.text.clone(),
        spot: key.spot,
        name: text_at(node, "name"),
        needs: node.get("needs").map(texts).unwrap_or_default(),
        condition: condition(node, "if"),
        permissions: node.get("permissions").cloned(),
        concurrency: concurrency(node),
        strategy: node.entry("strategy").map(|(key, strategy)| Strategy {
            matrix: strategy.get("matrix").cloned(),
            fail_fast: text_at(strategy, "fail-fast"),
            max_parallel: text_at(strategy, "max-parallel"),
            spot: key.spot,
        }),
        body,
    }
}

/// Labels. A group says which of an organisation's runners may be taken, which has no meaning here.
fn runs_on(path: &Path, job: &Node, findings: &mut Findings) -> Vec<Text> {
    let Some((key, node)) = job.entry("runs-on") else {
        return Vec::new();
    };
    let labels = match node.get("labels") {
        Some(labels) => texts(labels),
        None if node.entries().is_empty() => texts(node),
        None => Vec::new(),
    };
    if let Some((group, _)) = node.entry("group") {
        let message = "`group` has no effect here";
        let help = "only labels choose the image";
        findings.add(Diagnostic::warning(path, group.spot, message).help(help));
    }
    if labels.is_empty() {
        let message = "`runs-on` names no label";
        let help = "labels stand for images here; name one, such as `ubuntu-latest`";
        findings.add(Diagnostic::error(path, key.spot, message).help(help));
    }
    labels
}

/// The steps of a job or of a composite action.
pub(super) fn steps(path: &Path, node: &Node, findings: &mut Findings) -> Vec<Step> {
    let mut ids: HashMap<String, Spot> = HashMap::new();
    let (items, spot) = match node.entry("steps") {
        Some((key, steps)) => (steps.items(), key.spot),
        None => (&[][..], node.spot),
    };
    if items.is_empty() {
        findings.add(
            Diagnostic::error(path, spot, "`steps` is empty")
                .help("add a step with `run` or `uses`"),
        );
    }
    let mut step = |item: &Node| {
        let id = text_at(item, "id");
        if let Some(id) = &id
            && let Some(first) = ids.insert(id.text.to_lowercase(), id.spot)
        {
            let message = format!(
                "the id `{}` is already taken by the step at {first}",
                id.text
            );
            let help = "give the step another id; case does not count";
            findings.add(Diagnostic::error(path, id.spot, message).help(help));
        }
        let body = match text_at(item, "uses") {
            Some(uses) => StepBody::Uses {
                uses: trimmed(uses),
                with: map_at(item, "with"),
            },
            None => StepBody::Run {
                script: text_at(item, "run").unwrap_or(Text {
                    text: String::new(),
                    spot: item.spot,
                }),
                shell: text_at(item, "shell"),
                working_directory: text_at(item, "working-directory"),
            },
        };
        Step {
            spot: item.spot,
            id: id.map(|id| id.text),
            name: text_at(item, "name"),
            condition: condition(item, "if"),
            env: map_at(item, "env"),
            timeout_minutes: text_at(item, "timeout-minutes"),
            continue_on_error: text_at(item, "continue-on-error"),
            body,
        }
    };
    items.iter().map(&mut step).collect()
}

/// `branches` with `branches-ignore` and the like, which GitHub refuses.
fn filters(path: &Path, on: &Node, findings: &mut Findings) {
    for (event, body) in on.entries() {
        for filter in ["branches", "tags", "paths"] {
            let ignore = format!("{filter}-ignore");
            if let (Some(_), Some((key, _))) = (body.get(filter), body.entry(&ignore)) {
                let message = format!("`{}` has both `{filter}` and `{ignore}`", event.text);
                let help =
                    format!("use only `{filter}` and exclude with patterns that begin with `!`");
                findings.add(Diagnostic::error(path, key.spot, message).help(help));
            }
        }
    }
}

/// GitHub strips the space around what is used.
fn trimmed(text: Text) -> Text {
    Text {
        text: text.text.trim().to_owned(),
        ..text
    }
}

/// A scalar with its place.
pub(super) fn text(node: &Node) -> Option<Text> {
    Some(Text {
        text: node.text()?,
        spot: node.spot,
    })
}

/// The scalar of a key.
pub(super) fn text_at(node: &Node, key: &str) -> Option<Text> {
    text(node.get(key)?)
}

/// A condition; nothing is none.
pub(super) fn condition(node: &Node, key: &str) -> Option<Text> {
    node.get(key).filter(|node| !node.is_null()).and_then(text)
}

/// One text or many.
fn texts(node: &Node) -> Vec<Text> {
    match node.items() {
        [] => text(node).into_iter().collect(),
        items => items.iter().filter_map(text).collect(),
    }
}

/// The pairs of a mapping.
pub(super) fn pairs(node: Option<&Node>) -> Vec<(String, Text)> {
    let entries = node.map_or(&[][..], Node::entries);
    let pair = |(key, value): &(Key, Node)| Some((key.text.clone(), text(value)?));
    entries.iter().filter_map(pair).collect()
}

fn map_at(node: &Node, key: &str) -> Map {
    match node.get(key) {
        Some(node) if matches!(node.data, Data::String(_)) => {
            text(node).map(Map::Expression).unwrap_or_default()
        }
        node => Map::Entries(pairs(node)),
    }
}

fn defaults(node: &Node) -> Defaults {
    match node
        .get("defaults")
        .and_then(|defaults| defaults.get("run"))
    {
        Some(run) => Defaults {
            shell: text_at(run, "shell"),
            working_directory: text_at(run, "working-directory"),
        },
        None => Defaults::default(),
    }
}

fn concurrency(node: &Node) -> Option<Concurrency> {
    let node = node.get("concurrency")?;
    match text(node) {
        Some(group) => Some(Concurrency {
            group,
            cancel_in_progress: None,
        }),
        None => Some(Concurrency {
            group: text_at(node, "group")?,
            cancel_in_progress: text_at(node, "cancel-in-progress"),
        }),
    }
}
