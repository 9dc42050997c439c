//! What a file says by this crate's reader, and by libyaml and the types of `github-actions-models`.
//!
//! The models want scalars of certain types, where GitHub takes any as text, and lists where one text may stand; [`fitted`] gives
//! them that. All else is theirs: another YAML reader, another description of the syntax.

use github_actions_models::action;
use github_actions_models::common::expr::LoE;
use github_actions_models::common::{Env, EnvValue, If, Uses};
use github_actions_models::workflow::event::Events;
use github_actions_models::workflow::job::{NormalJob, RunsOn, SharedStepFields, Step};
use github_actions_models::workflow::{self, Job};
use std::fmt::Write as _;
use std::path::Path;
use vmint_syntax::load;
use vmint_syntax::spec::{self, CallSecrets, JobBody, Map, Runs, StepBody, Text};
use vmint_syntax::yaml::Node;
use vmint_syntax::yaml::scalar::number_text;
use yaml_serde::{Mapping, Value};

/// How the two read a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compared {
    /// This crate refuses it, whatever the models say: they know fewer rules.
    Refused,
    /// libyaml does not read it, or it has what only YAML has.
    NotRead,
    /// Both read the same.
    Same,
    /// They do not, and this is how.
    Differs(String),
}

/// A workflow, by both.
pub fn workflow(text: &str) -> Compared {
    let Ok((ours, _)) = load::workflow(Path::new("ci.yml"), text.as_bytes()) else {
        return Compared::Refused;
    };
    let Some(value) = read(text) else {
        return Compared::NotRead;
    };
    match yaml_serde::from_value::<workflow::Workflow>(value) {
        Ok(theirs) => compared(&our_workflow(&ours), &their_workflow(&theirs)),
        Err(error) => Compared::Differs(format!("the models refuse it: {error}")),
    }
}

/// An action, by both.
pub fn action(text: &str) -> Compared {
    let Ok((ours, _)) = load::action(Path::new("action.yml"), text.as_bytes()) else {
        return Compared::Refused;
    };
    let Some(value) = read(text) else {
        return Compared::NotRead;
    };
    match yaml_serde::from_value::<action::Action>(value) {
        Ok(theirs) => compared(&our_action(&ours), &their_action(&theirs)),
        Err(error) => Compared::Differs(format!("the models refuse it: {error}")),
    }
}

fn compared(ours: &str, theirs: &str) -> Compared {
    if ours == theirs {
        return Compared::Same;
    }
    let both = ours.lines().zip(theirs.lines());
    let first = both.into_iter().find(|(ours, theirs)| ours != theirs);
    Compared::Differs(match first {
        Some((ours, theirs)) => format!("ours: {ours}\ntheirs: {theirs}"),
        None => format!("one is longer:\n{ours}\n{theirs}"),
    })
}

/// The file by libyaml, as the models want it.
fn read(text: &str) -> Option<Value> {
    fitted(yaml_serde::from_str(text).ok()?, &[])
}

/// A value as the models want it. Its place are the keys above it; lists do not count.
fn fitted(value: Value, place: &[String]) -> Option<Value> {
    let keys: Vec<&str> = place.iter().map(String::as_str).collect();
    // Only YAML has these.
    if matches!(value, Value::Tagged(_)) {
        return None;
    }
    let one = !matches!(value, Value::Sequence(_) | Value::Mapping(_));
    Some(match (&keys[..], value) {
        // An event with nothing below, and a secret of which nothing is said.
        (["on", _] | ["on", "workflow_call", "secrets", _], Value::Null) => Value::Null,
        (["on", "workflow_dispatch", "inputs", _] | ["inputs" | "outputs", _], Value::Null) => {
            Value::Mapping(Mapping::new())
        }
        // Actions are read less strictly.
        (["inputs", _, "required"], value) => Value::Bool(match text(value) {
            Value::String(text) => text.eq_ignore_ascii_case("true"),
            _ => return None,
        }),
        // Values are of any kind here.
        (["jobs", _, "strategy", "matrix", ..], Value::String(text)) => trimmed(text),
        (["jobs", _, "strategy", "matrix", ..], value) if one => value,
        (
            [
                ..,
                "timeout-minutes" | "max-parallel" | "fail-fast" | "continue-on-error"
                | "cancel-in-progress" | "required",
            ],
            value @ (Value::Bool(_) | Value::Number(_)),
        ) => value,
        (_, Value::Sequence(items)) => {
            let items: Option<Vec<_>> = items.into_iter().map(|item| fitted(item, place)).collect();
            Value::Sequence(items?)
        }
        (_, Value::Mapping(entries)) => {
            let mut fits = Mapping::new();
            for (key, value) in entries {
                let key = match key {
                    Value::String(key) => key,
                    other => text(other).as_str()?.to_owned(),
                };
                if key == "<<" {
                    return None;
                }
                // Nothing is as if it were absent.
                let absent = matches!(
                    (&keys[..], key.as_str()),
                    (["jobs", _] | ["jobs", _, "steps"] | ["runs", "steps"], "if")
                        | (["runs"], "pre-if" | "post-if")
                        | (
                            ["on", _, "inputs" | "outputs" | "secrets", _]
                                | ["inputs" | "outputs", _],
                            "description"
                        )
                        | (["on", _] | [], "inputs" | "outputs" | "secrets")
                );
                if absent && value == Value::Null {
                    continue;
                }
                let inner = [place, std::slice::from_ref(&key)].concat();
                let value = match fitted(value, &inner)? {
                    value @ Value::String(_) if wants_list(&inner) => Value::Sequence(vec![value]),
                    value => value,
                };
                fits.insert(Value::String(key), value);
            }
            if matches!(keys[..], ["on", "image_version"]) {
                for key in ["names", "versions"] {
                    fits.entry(key.into())
                        .or_insert(Value::Sequence(Vec::new()));
                }
            }
            Value::Mapping(fits)
        }
        (_, value) => text(value),
    })
}

/// Whether the models want a list at a place, also for one text.
fn wants_list(place: &[String]) -> bool {
    let [on, _, key] = place else { return false };
    let key = key.trim_end_matches("-ignore");
    on == "on"
        && [
            "branches",
            "tags",
            "paths",
            "workflows",
            "names",
            "versions",
        ]
        .contains(&key)
}

/// A scalar as text, as GitHub writes it.
fn text(value: Value) -> Value {
    match value {
        Value::Null => Value::String(String::new()),
        Value::Bool(value) => Value::String(value.to_string()),
        Value::Number(number) => Value::String(number_text(number.as_f64().unwrap_or(f64::NAN))),
        Value::String(text) => trimmed(text),
        other => other,
    }
}

/// The models want expressions without space around them.
fn trimmed(text: String) -> Value {
    let bare = text.trim();
    let is_expression = bare.starts_with("${{") && bare.ends_with("}}");
    Value::String(if is_expression { bare.to_owned() } else { text })
}

// ---- as text ----

fn our_text(text: &Text) -> String {
    match trimmed(text.text.clone()) {
        Value::String(text) => text,
        other => format!("{other:?}"),
    }
}

fn our_option(text: Option<&Text>) -> Option<String> {
    text.map(our_text)
}

fn our_map(map: &Map) -> String {
    match map {
        Map::Entries(entries) => {
            let entries = entries
                .iter()
                .map(|(key, text)| format!("{key:?}={:?}", our_text(text)));
            entries.collect::<Vec<_>>().join(" ")
        }
        Map::Expression(text) => our_text(text),
    }
}

fn their_map(map: &LoE<Env>) -> String {
    match map {
        LoE::Literal(env) => their_env(env),
        LoE::Expr(expr) => expr.as_raw().to_owned(),
    }
}

fn their_env(env: &Env) -> String {
    let value = |value: &EnvValue| match value {
        EnvValue::String(text) => text.clone(),
        EnvValue::Number(number) => number_text(*number),
        EnvValue::Boolean(value) => value.to_string(),
    };
    let entries = env
        .iter()
        .map(|(key, of)| format!("{key:?}={:?}", value(of)));
    entries.collect::<Vec<_>>().join(" ")
}

fn their_condition(condition: Option<&If>) -> Option<String> {
    condition.map(|condition| match condition {
        If::Bool(value) => value.to_string(),
        If::Expr(text) => text.clone(),
    })
}

fn their_text(text: &LoE<String>) -> String {
    match text {
        LoE::Literal(text) => text.clone(),
        LoE::Expr(expr) => expr.as_raw().to_owned(),
    }
}

/// A value that may be an expression.
fn their_value<T: ToString>(value: &LoE<T>) -> String {
    match value {
        LoE::Literal(value) => value.to_string(),
        LoE::Expr(expr) => expr.as_raw().to_owned(),
    }
}

fn their_uses(uses: &Uses) -> String {
    match uses {
        Uses::Docker(image) => format!("docker://{}", image.raw()),
        other => other.raw().to_owned(),
    }
}

/// Every event, and whether it is named.
fn their_events(events: &Events) -> Vec<String> {
    let Ok(Value::Mapping(events)) = yaml_serde::to_value(events) else {
        return Vec::new();
    };
    let named = events
        .into_iter()
        .filter(|(_, body)| *body != Value::String("Missing".to_owned()));
    named
        .filter_map(|(name, _)| name.as_str().map(str::to_owned))
        .collect()
}

fn our_workflow(workflow: &spec::Workflow) -> String {
    let mut out = String::new();
    let on = &workflow.on_node;
    let keys = on.entries().iter().map(|(key, _)| key.text.clone());
    let items = on.items().iter().filter_map(Node::text);
    let mut named: Vec<String> = on.text().into_iter().chain(keys).chain(items).collect();
    named.sort_unstable();
    named.dedup();
    let _ = writeln!(out, "on {named:?}");
    let name = workflow.name.as_deref();
    let _ = writeln!(
        out,
        "name {name:?} {:?}",
        our_option(workflow.run_name.as_ref())
    );
    let _ = writeln!(out, "env {}", our_map(&workflow.env));
    for (id, job) in &workflow.jobs {
        let needs: Vec<_> = job.needs.iter().map(our_text).collect();
        let condition = our_option(job.condition.as_ref());
        let name = our_option(job.name.as_ref());
        let _ = writeln!(
            out,
            "job {id} name {name:?} needs {needs:?} if {condition:?}"
        );
        match &job.body {
            JobBody::Call(call) => {
                let _ = writeln!(out, "calls {} with {}", call.uses.text, our_map(&call.with));
                let secrets = match &call.secrets {
                    CallSecrets::Inherit => "inherit".to_owned(),
                    CallSecrets::Named(map) => our_map(map),
                };
                let _ = writeln!(out, "secrets {secrets}");
            }
            JobBody::Steps(body) => {
                let labels: Vec<_> = body.runs_on.iter().map(our_text).collect();
                let _ = writeln!(
                    out,
                    "runs-on {labels:?} timeout {:?} continue {:?}",
                    our_option(body.timeout_minutes.as_ref()),
                    our_option(body.continue_on_error.as_ref()).unwrap_or("false".into())
                );
                let outputs = Map::Entries(body.outputs.clone());
                let _ = writeln!(
                    out,
                    "env {} outputs {}",
                    our_map(&body.env),
                    our_map(&outputs)
                );
                for step in &body.steps {
                    our_step(&mut out, step);
                }
            }
        }
    }
    out
}

fn our_step(out: &mut String, step: &spec::Step) {
    let _ = writeln!(
        out,
        "step {:?} {:?} if {:?} continue {:?} env {}",
        step.id,
        our_option(step.name.as_ref()),
        our_option(step.condition.as_ref()),
        our_option(step.continue_on_error.as_ref()).unwrap_or("false".into()),
        our_map(&step.env)
    );
    match &step.body {
        StepBody::Uses { uses, with } => {
            let _ = writeln!(out, "uses {} with {}", uses.text, our_map(with));
        }
        StepBody::Run {
            script,
            shell,
            working_directory,
        } => {
            let (shell, folder) = (shell.as_ref(), working_directory.as_ref());
            let _ = writeln!(
                out,
                "run {:?} {:?} {:?}",
                our_text(script),
                our_option(shell),
                our_option(folder)
            );
        }
    }
}

fn their_workflow(workflow: &workflow::Workflow) -> String {
    let mut out = String::new();
    let mut named = their_events(&workflow.on.events);
    named.sort_unstable();
    let _ = writeln!(out, "on {named:?}");
    let _ = writeln!(out, "name {:?} {:?}", workflow.name, workflow.run_name);
    let _ = writeln!(out, "env {}", their_map(&workflow.env));
    for (id, job) in &workflow.jobs {
        match job {
            Job::ReusableWorkflowCallJob(job) => {
                let condition = their_condition(job.r#if.as_ref());
                let _ = writeln!(
                    out,
                    "job {id} name {:?} needs {:?} if {condition:?}",
                    job.name, job.needs
                );
                let _ = writeln!(
                    out,
                    "calls {} with {}",
                    their_uses(&job.uses),
                    their_map(&job.with)
                );
                let secrets = match &job.secrets {
                    None => String::new(),
                    Some(workflow::job::Secrets::Inherit) => "inherit".to_owned(),
                    Some(workflow::job::Secrets::Env(env)) => their_env(env),
                };
                let _ = writeln!(out, "secrets {secrets}");
            }
            Job::NormalJob(job) => their_job(&mut out, id, job),
        }
    }
    out
}

fn their_job(out: &mut String, id: &str, job: &NormalJob) {
    let condition = their_condition(job.r#if.as_ref());
    let _ = writeln!(
        out,
        "job {id} name {:?} needs {:?} if {condition:?}",
        job.name, job.needs
    );
    let labels = match &job.runs_on {
        LoE::Expr(expr) => vec![expr.as_raw().to_owned()],
        LoE::Literal(RunsOn::Target(labels) | RunsOn::Group { labels, .. }) => labels.clone(),
    };
    let timeout = job.timeout_minutes.as_ref().map(|timeout| match timeout {
        LoE::Literal(minutes) => number_text(*minutes),
        LoE::Expr(expr) => expr.as_raw().to_owned(),
    });
    let _ = writeln!(
        out,
        "runs-on {labels:?} timeout {timeout:?} continue {:?}",
        their_value(&job.continue_on_error)
    );
    let _ = writeln!(
        out,
        "env {} outputs {}",
        their_map(&job.env),
        their_env(&job.outputs)
    );
    for step in &job.steps {
        match step {
            Step::Uses(step) => {
                their_step(out, &step.shared);
                let _ = writeln!(
                    out,
                    "uses {} with {}",
                    their_uses(&step.uses),
                    their_map(&step.with)
                );
            }
            Step::Run(step) => {
                their_step(out, &step.shared);
                let shell = step.shell.as_ref().map(their_text);
                let _ = writeln!(
                    out,
                    "run {:?} {shell:?} {:?}",
                    step.run, step.working_directory
                );
            }
            other => {
                let _ = writeln!(out, "{other:?}");
            }
        }
    }
}

fn their_step(out: &mut String, step: &SharedStepFields) {
    let _ = writeln!(
        out,
        "step {:?} {:?} if {:?} continue {:?} env {}",
        step.id,
        step.name,
        their_condition(step.r#if.as_ref()),
        their_value(&step.continue_on_error),
        their_map(&step.env)
    );
}

fn our_action(action: &spec::Action) -> String {
    let mut out = format!("name {:?}\n", action.name);
    for (name, input) in &action.inputs {
        let default = our_option(input.default.as_ref());
        let _ = writeln!(out, "input {name:?} {} {default:?}", input.required);
    }
    for (name, value) in &action.outputs {
        let _ = writeln!(out, "output {name:?} {:?}", our_option(value.as_ref()));
    }
    match &action.runs {
        Runs::Composite(steps) => steps.iter().for_each(|step| our_step(&mut out, step)),
        Runs::Node(node) => {
            let _ = writeln!(out, "node {} {}", node.using.text, node.main);
        }
        Runs::Docker(docker) => {
            let env = Map::Entries(docker.env.clone());
            let _ = writeln!(out, "docker {}", our_map(&env));
        }
    }
    out
}

fn their_action(action: &action::Action) -> String {
    let mut out = format!("name {:?}\n", action.name);
    for (name, input) in &action.inputs {
        let required = input.required.unwrap_or(false);
        let _ = writeln!(out, "input {name:?} {required} {:?}", input.default);
    }
    for (name, output) in &action.outputs {
        let _ = writeln!(out, "output {name:?} {:?}", output.value);
    }
    match &action.runs {
        action::Runs::Composite(composite) => {
            for step in &composite.steps {
                let _ = writeln!(
                    out,
                    "step {:?} {:?} if {:?} continue {:?} env {}",
                    step.id,
                    step.name,
                    their_condition(step.r#if.as_ref()),
                    their_value(&step.continue_on_error),
                    their_map(&step.env)
                );
                let _ = match &step.body {
                    action::StepBody::Uses { uses, with } => {
                        writeln!(out, "uses {} with {}", their_uses(uses), their_map(with))
                    }
                    action::StepBody::Run {
                        run,
                        shell,
                        working_directory,
                    } => {
                        let shell = Some(their_text(shell));
                        writeln!(out, "run {run:?} {shell:?} {working_directory:?}")
                    }
                };
            }
        }
        action::Runs::JavaScript(node) => {
            let _ = writeln!(out, "node {} {}", node.using, node.main);
        }
        action::Runs::Docker(docker) => {
            let _ = writeln!(out, "docker {}", their_env(&docker.env));
        }
    }
    out
}
