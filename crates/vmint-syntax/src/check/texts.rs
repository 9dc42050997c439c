//! Visits every text that may hold an expression, with the field that it stands in.

use crate::diagnostic::Spot;
use crate::expr::{ContainerFields, Field, is_computed, is_insert};
use crate::spec::{
    Action, CallSecrets, Concurrency, Defaults, Job, JobBody, Map, Runs, Step, StepBody, Text,
    Workflow,
};
use crate::yaml::{Data, Node};

type Visit<'v> = &'v mut dyn FnMut(Field, &Text);

/// The texts of a workflow outside of its jobs.
pub(super) fn of_workflow(workflow: &Workflow, visit: Visit<'_>) {
    optional(workflow.run_name.as_ref(), Field::RunName, visit);
    concurrency(workflow.concurrency.as_ref(), Field::Concurrency, visit);
    map(&workflow.env, Field::Env, visit);
    defaults(&workflow.defaults, Field::DefaultsRun, visit);
    if let Some(call) = workflow.on_node.get("workflow_call") {
        for (kind, key, field) in [
            ("inputs", "default", Field::CallInputDefault),
            ("outputs", "value", Field::CallOutputValue),
        ] {
            for (_, declared) in call.get(kind).map_or(&[][..], Node::entries) {
                node(declared.get(key), field, visit);
            }
        }
    }
}

/// The texts of a job outside of its steps.
pub(super) fn of_job(job: &Job, visit: Visit<'_>) {
    optional(job.name.as_ref(), Field::JobName, visit);
    optional(job.condition.as_ref(), Field::JobIf, visit);
    concurrency(job.concurrency.as_ref(), Field::JobConcurrency, visit);
    if let Some(strategy) = &job.strategy {
        node(strategy.matrix.as_ref(), Field::JobStrategy, visit);
        optional(strategy.fail_fast.as_ref(), Field::JobStrategy, visit);
        optional(strategy.max_parallel.as_ref(), Field::JobStrategy, visit);
    }
    match &job.body {
        JobBody::Call(call) => {
            map(&call.with, Field::JobWith, visit);
            if let CallSecrets::Named(secrets) = &call.secrets {
                map(secrets, Field::JobSecrets, visit);
            }
        }
        JobBody::Steps(steps) => {
            for label in &steps.runs_on {
                visit(Field::JobRunsOn, label);
            }
            map(&steps.env, Field::JobEnv, visit);
            defaults(&steps.defaults, Field::JobDefaultsRun, visit);
            optional(
                steps.timeout_minutes.as_ref(),
                Field::JobTimeoutMinutes,
                visit,
            );
            optional(
                steps.continue_on_error.as_ref(),
                Field::JobContinueOnError,
                visit,
            );
            for (_, output) in &steps.outputs {
                visit(Field::JobOutput, output);
            }
            container(steps.container.as_ref(), ContainerFields::JOB, visit);
            for (_, service) in steps.services.as_ref().map_or(&[][..], Node::entries) {
                container(Some(service), ContainerFields::SERVICE, visit);
            }
            environment(steps.environment.as_ref(), visit);
        }
    }
}

/// The texts of an action outside of its steps.
pub(super) fn of_action(action: &Action, visit: Visit<'_>) {
    for input in action.inputs.values() {
        optional(input.default.as_ref(), Field::ActionInputDefault, visit);
    }
    for (_, value) in &action.outputs {
        optional(value.as_ref(), Field::ActionOutputValue, visit);
    }
    let hooks = match &action.runs {
        Runs::Composite(_) => return,
        Runs::Node(node) => [&node.pre, &node.post],
        Runs::Docker(docker) => {
            for (_, value) in &docker.env {
                visit(Field::ActionContainer, value);
            }
            for arg in &docker.args {
                visit(Field::ActionContainer, arg);
            }
            [&docker.pre, &docker.post]
        }
    };
    for (_, condition) in hooks.into_iter().flatten() {
        optional(condition.as_ref(), Field::ActionPreOrPostIf, visit);
    }
}

/// Of what a step is part.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Part {
    /// A job.
    Job,
    /// A composite action.
    Action,
}

/// The texts of a step.
pub(super) fn of_step(step: &Step, part: Part, visit: Visit<'_>) {
    let field = |field| match (part, field) {
        (Part::Job, field) => field,
        (Part::Action, Field::StepIf) => Field::ActionStepIf,
        (Part::Action, _) => Field::ActionStep,
    };
    optional(step.name.as_ref(), field(Field::StepName), visit);
    optional(step.condition.as_ref(), field(Field::StepIf), visit);
    map(&step.env, field(Field::StepEnv), visit);
    optional(
        step.timeout_minutes.as_ref(),
        field(Field::StepTimeoutMinutes),
        visit,
    );
    optional(
        step.continue_on_error.as_ref(),
        field(Field::StepContinueOnError),
        visit,
    );
    match &step.body {
        StepBody::Run {
            script,
            shell,
            working_directory,
        } => {
            visit(field(Field::StepRun), script);
            optional(shell.as_ref(), field(Field::StepShell), visit);
            optional(
                working_directory.as_ref(),
                field(Field::StepWorkingDirectory),
                visit,
            );
        }
        StepBody::Uses { with, .. } => map(with, field(Field::StepWith), visit),
    }
}

fn optional(text: Option<&Text>, field: Field, visit: Visit<'_>) {
    if let Some(text) = text {
        visit(field, text);
    }
}

fn map(map: &Map, field: Field, visit: Visit<'_>) {
    match map {
        Map::Expression(text) => visit(field, text),
        Map::Entries(entries) => {
            for (name, text) in entries {
                let spot = text.spot;
                key(name, spot, field, visit);
                visit(field, text);
            }
        }
    }
}

/// A key that is an expression, unless that is a word of its own.
fn key(name: &str, spot: Spot, field: Field, visit: Visit<'_>) {
    if is_computed(name) && !is_insert(name) {
        let text = name.to_owned();
        visit(field, &Text { text, spot });
    }
}

fn defaults(defaults: &Defaults, field: Field, visit: Visit<'_>) {
    optional(defaults.shell.as_ref(), field, visit);
    optional(defaults.working_directory.as_ref(), field, visit);
}

fn concurrency(concurrency: Option<&Concurrency>, field: Field, visit: Visit<'_>) {
    if let Some(concurrency) = concurrency {
        visit(field, &concurrency.group);
        optional(concurrency.cancel_in_progress.as_ref(), field, visit);
    }
}

/// All texts in a node, whose depth the reader of YAML has bounded.
fn node(node: Option<&Node>, field: Field, visit: Visit<'_>) {
    let Some(at) = node else {
        return;
    };
    match &at.data {
        Data::String(text) => visit(
            field,
            &Text {
                text: text.clone(),
                spot: at.spot,
            },
        ),
        Data::Sequence(items) => items
            .iter()
            .for_each(|item| self::node(Some(item), field, visit)),
        Data::Mapping(entries) => {
            for (name, value) in entries {
                key(&name.text, name.spot, field, visit);
                self::node(Some(value), field, visit);
            }
        }
        Data::Null | Data::Bool(_) | Data::Number(..) => {}
    }
}

fn container(container: Option<&Node>, fields: ContainerFields, visit: Visit<'_>) {
    let Some(container) = container else {
        return;
    };
    if container.entries().is_empty() {
        node(Some(container), fields.other, visit);
    }
    for (key, value) in container.entries() {
        node(Some(value), fields.of(&key.text), visit);
    }
}

fn environment(environment: Option<&Node>, visit: Visit<'_>) {
    let Some(environment) = environment else {
        return;
    };
    if environment.entries().is_empty() {
        node(Some(environment), Field::JobEnvironment, visit);
    }
    for (key, value) in environment.entries() {
        let url = key.text == "url";
        let field = if url {
            Field::JobEnvironmentUrl
        } else {
            Field::JobEnvironment
        };
        node(Some(value), field, visit);
    }
}
