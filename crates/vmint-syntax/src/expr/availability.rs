//! Which contexts and functions GitHub allows in which field.
//!
//! The table “Context availability” of GitHub's documentation; for actions, which it does not name, the schemas that the
//! runner and GitHub's language services have for `action.yml`.

use super::inspect::{Use, Used};
use super::names::{ContextName, Function};
use ContextName::{
    Env, Github, Inputs, Job, Jobs, Matrix, Needs, Runner, Secrets, Steps, Strategy, Vars,
};
use Function::{Always, Cancelled, Failure, HashFiles, Success};
use std::fmt;

/// The fields of a container, by what their expressions see: for the check, which looks, and for the engine, which evaluates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContainerFields {
    env: Field,
    credentials: Field,
    /// All other keys, and a container that is no mapping.
    pub other: Field,
}

impl ContainerFields {
    /// Of `jobs.<id>.container`.
    pub const JOB: Self = Self {
        env: Field::JobContainerEnv,
        credentials: Field::JobContainerCredentials,
        other: Field::JobContainer,
    };
    /// Of a service.
    pub const SERVICE: Self = Self {
        env: Field::JobServicesEnv,
        credentials: Field::JobServicesCredentials,
        other: Field::JobServices,
    };

    /// The field of a key.
    pub fn of(self, key: &str) -> Field {
        match key {
            "env" => self.env,
            "credentials" => self.credentials,
            _ => self.other,
        }
    }
}

/// A field that may hold expressions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// `run-name`.
    RunName,
    /// `concurrency`.
    Concurrency,
    /// `env`.
    Env,
    /// `on.workflow_call.inputs.<id>.default`.
    CallInputDefault,
    /// `on.workflow_call.outputs.<id>.value`.
    CallOutputValue,
    /// `jobs.<id>.name`.
    JobName,
    /// `jobs.<id>.if`.
    JobIf,
    /// `jobs.<id>.strategy`.
    JobStrategy,
    /// `jobs.<id>.runs-on`.
    JobRunsOn,
    /// `jobs.<id>.concurrency`.
    JobConcurrency,
    /// `jobs.<id>.env`.
    JobEnv,
    /// `jobs.<id>.defaults.run`.
    JobDefaultsRun,
    /// `jobs.<id>.timeout-minutes`.
    JobTimeoutMinutes,
    /// `jobs.<id>.continue-on-error`.
    JobContinueOnError,
    /// `jobs.<id>.outputs.<id>`.
    JobOutput,
    /// `jobs.<id>.environment`, and its `name`.
    JobEnvironment,
    /// `jobs.<id>.environment.url`.
    JobEnvironmentUrl,
    /// `jobs.<id>.container`, its `image` and what is not named below.
    JobContainer,
    /// `jobs.<id>.container.credentials`.
    JobContainerCredentials,
    /// `jobs.<id>.container.env.<id>`.
    JobContainerEnv,
    /// `jobs.<id>.services`, and what is not named below.
    JobServices,
    /// `jobs.<id>.services.<id>.credentials`.
    JobServicesCredentials,
    /// `jobs.<id>.services.<id>.env.<id>`.
    JobServicesEnv,
    /// `jobs.<id>.with.<id>`, of a job that calls a workflow.
    JobWith,
    /// `jobs.<id>.secrets.<id>`, of a job that calls a workflow.
    JobSecrets,
    /// `jobs.<id>.steps.name`.
    StepName,
    /// `jobs.<id>.steps.if`.
    StepIf,
    /// `jobs.<id>.steps.run`.
    StepRun,
    /// `jobs.<id>.steps.env`.
    StepEnv,
    /// `jobs.<id>.steps.with`.
    StepWith,
    /// `jobs.<id>.steps.working-directory`.
    StepWorkingDirectory,
    /// `jobs.<id>.steps.timeout-minutes`.
    StepTimeoutMinutes,
    /// `jobs.<id>.steps.continue-on-error`.
    StepContinueOnError,
    /// `inputs.<id>.default` of an action.
    ActionInputDefault,
    /// `outputs.<id>.value` of a composite action.
    ActionOutputValue,
    /// `runs.steps.if` of a composite action.
    ActionStepIf,
    /// All else of `runs.steps` of a composite action: `name`, `run`, `env`, `with`, `shell`, `working-directory`,
    /// `continue-on-error`.
    ActionStep,
    /// `runs.pre-if` and `runs.post-if` of an action.
    ActionPreOrPostIf,
    /// `runs.args` and `runs.env` of a docker action.
    ActionContainer,
    /// `jobs.<id>.steps.shell`, where GitHub evaluates nothing.
    StepShell,
    /// `defaults.run` of the workflow, where GitHub evaluates nothing.
    DefaultsRun,
}

impl Field {
    /// Whether the text is an expression also without `${{ }}`.
    pub fn is_condition(self) -> bool {
        matches!(
            self,
            Self::JobIf | Self::StepIf | Self::ActionStepIf | Self::ActionPreOrPostIf
        )
    }
}

impl Field {
    /// Whether it is evaluated when the job has a machine, so that what the machine tells is known.
    pub fn has_machine(self) -> bool {
        !matches!(
            self,
            Self::RunName
                | Self::Concurrency
                | Self::CallInputDefault
                | Self::CallOutputValue
                | Self::JobName
                | Self::JobIf
                | Self::JobStrategy
                | Self::JobRunsOn
                | Self::JobConcurrency
                | Self::JobTimeoutMinutes
                | Self::JobContinueOnError
                | Self::JobEnvironment
                | Self::JobWith
                | Self::JobSecrets
        )
    }
}

impl fmt::Display for Field {
    /// For messages: “`if` of a step”.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RunName => "`run-name`",
            Self::Concurrency => "`concurrency` of the workflow",
            Self::Env => "`env` of the workflow",
            Self::CallInputDefault => "the default of an input",
            Self::CallOutputValue => "an output of the workflow",
            Self::JobName => "`name` of a job",
            Self::JobIf => "`if` of a job",
            Self::JobStrategy => "`strategy`",
            Self::JobRunsOn => "`runs-on`",
            Self::JobConcurrency => "`concurrency` of a job",
            Self::JobEnv => "`env` of a job",
            Self::JobDefaultsRun => "`defaults` of a job",
            Self::JobTimeoutMinutes => "`timeout-minutes` of a job",
            Self::JobContinueOnError => "`continue-on-error` of a job",
            Self::JobOutput => "`outputs` of a job",
            Self::JobEnvironment => "`environment`",
            Self::JobEnvironmentUrl => "`url` of `environment`",
            Self::JobContainer => "`container`",
            Self::JobContainerCredentials => "`credentials` of `container`",
            Self::JobContainerEnv => "`env` of `container`",
            Self::JobServices => "`services`",
            Self::JobServicesCredentials => "`credentials` of `services`",
            Self::JobServicesEnv => "`env` of `services`",
            Self::JobWith => "`with` of a job",
            Self::JobSecrets => "`secrets` of a job",
            Self::StepName => "`name` of a step",
            Self::StepIf => "`if` of a step",
            Self::StepRun => "`run` of a step",
            Self::StepEnv => "`env` of a step",
            Self::StepWith => "`with` of a step",
            Self::StepWorkingDirectory => "`working-directory` of a step",
            Self::StepTimeoutMinutes => "`timeout-minutes` of a step",
            Self::StepContinueOnError => "`continue-on-error` of a step",
            Self::StepShell => "`shell` of a step",
            Self::DefaultsRun => "`defaults` of the workflow",
            Self::ActionInputDefault => "the default of an action's input",
            Self::ActionOutputValue => "an output of an action",
            Self::ActionStepIf | Self::ActionStep => "a step of an action",
            Self::ActionPreOrPostIf => "`pre-if` and `post-if` of an action",
            Self::ActionContainer => "`runs` of a container action",
        })
    }
}

/// What a field may use. `contains`, `format` and the like are allowed in all that may use anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Availability {
    /// The contexts.
    pub contexts: &'static [ContextName],
    /// Of the functions that are not allowed everywhere, these.
    pub functions: &'static [Function],
}

impl Availability {
    /// Whether a context may be used.
    pub fn allows_context(&self, name: ContextName) -> bool {
        self.contexts.contains(&name)
    }

    /// Whether a function may be used.
    pub fn allows_function(&self, function: Function) -> bool {
        let special = function.is_status() || function == HashFiles;
        !special || self.functions.contains(&function)
    }

    /// Whether this may be used.
    pub fn allows(&self, used: &Use) -> bool {
        match &used.what {
            Used::Context(name, _) => self.allows_context(*name),
            Used::Function(function) => self.allows_function(*function),
        }
    }
}

const WORKFLOW: &[ContextName] = &[Github, Inputs, Vars];
const BEFORE_JOB: &[ContextName] = &[Github, Needs, Vars, Inputs];
const JOB: &[ContextName] = &[Github, Needs, Strategy, Matrix, Vars, Inputs];
const JOB_ENV: &[ContextName] = &[Github, Needs, Strategy, Matrix, Env, Vars, Inputs];
const JOB_SECRETS: &[ContextName] = &[Github, Needs, Strategy, Matrix, Vars, Secrets, Inputs];
const CREDENTIALS: &[ContextName] = &[Github, Needs, Strategy, Matrix, Env, Vars, Secrets, Inputs];
const ON_RUNNER: &[ContextName] = &[
    Github, Needs, Strategy, Matrix, Job, Runner, Env, Vars, Secrets, Inputs,
];
const AFTER_STEPS: &[ContextName] = &[
    Github, Needs, Strategy, Matrix, Job, Runner, Env, Vars, Steps, Inputs,
];
const IN_STEP: &[ContextName] = &[
    Github, Needs, Strategy, Matrix, Job, Runner, Env, Vars, Secrets, Steps, Inputs,
];
const IN_ACTION: &[ContextName] = &[Github, Inputs, Strategy, Matrix, Steps, Job, Runner, Env];
const STATUS: &[Function] = &[Always, Cancelled, Success, Failure];
const STATUS_AND_HASH: &[Function] = &[Always, Cancelled, Success, Failure, HashFiles];
const HASH: &[Function] = &[HashFiles];

/// What GitHub allows in a field.
pub fn availability(field: Field) -> Availability {
    let (contexts, functions): (&[ContextName], &[Function]) = match field {
        Field::RunName | Field::Concurrency | Field::CallInputDefault => (WORKFLOW, &[]),
        Field::Env => (&[Github, Secrets, Inputs, Vars], &[]),
        Field::CallOutputValue => (&[Github, Jobs, Vars, Inputs], &[]),
        Field::JobIf => (BEFORE_JOB, STATUS),
        Field::JobStrategy => (BEFORE_JOB, &[]),
        Field::JobName
        | Field::JobRunsOn
        | Field::JobConcurrency
        | Field::JobTimeoutMinutes
        | Field::JobContinueOnError
        | Field::JobEnvironment
        | Field::JobContainer
        | Field::JobServices
        | Field::JobWith => (JOB, &[]),
        Field::JobEnv | Field::JobSecrets => (JOB_SECRETS, &[]),
        Field::JobDefaultsRun => (JOB_ENV, &[]),
        Field::JobOutput => (IN_STEP, &[]),
        Field::JobEnvironmentUrl => (AFTER_STEPS, &[]),
        Field::JobContainerCredentials | Field::JobServicesCredentials => (CREDENTIALS, &[]),
        Field::JobContainerEnv | Field::JobServicesEnv => (ON_RUNNER, &[]),
        Field::StepIf => (AFTER_STEPS, STATUS_AND_HASH),
        Field::StepName
        | Field::StepRun
        | Field::StepEnv
        | Field::StepWith
        | Field::StepWorkingDirectory
        | Field::StepTimeoutMinutes
        | Field::StepContinueOnError => (IN_STEP, HASH),
        Field::ActionInputDefault => (&[Github, Strategy, Matrix, Job, Runner], HASH),
        Field::ActionOutputValue => (IN_ACTION, &[]),
        Field::ActionStepIf => (IN_ACTION, STATUS_AND_HASH),
        Field::ActionPreOrPostIf => (
            &[Github, Inputs, Strategy, Matrix, Job, Runner, Env],
            STATUS_AND_HASH,
        ),
        Field::ActionStep => (IN_ACTION, HASH),
        Field::ActionContainer => (&[Inputs], &[]),
        Field::StepShell | Field::DefaultsRun => (&[], &[]),
    };
    Availability {
        contexts,
        functions,
    }
}

#[cfg(test)]
mod tests {
    use super::super::inspect::{inspect, inspect_condition};
    use super::super::scope::{Scope, Status};
    use super::*;

    fn refused(field: Field, text: &str) -> Vec<usize> {
        let inspection = if field.is_condition() {
            inspect_condition(text)
        } else {
            inspect(text)
        };
        assert_eq!(inspection.wrong, []);
        let available = availability(field);
        let uses = inspection.uses.into_iter();
        uses.filter(|used| !available.allows(used))
            .map(|used| used.offset)
            .collect()
    }

    const NOTHING: [usize; 0] = [];

    #[test]
    fn fields_allow_what_github_documents() {
        assert_eq!(
            refused(Field::JobIf, "always() && github.ref && needs.a.result"),
            NOTHING
        );
        assert_eq!(refused(Field::JobIf, "secrets.A || matrix.os"), [0, 13]);
        assert_eq!(refused(Field::JobIf, "hashFiles('a')"), [0]);
        assert_eq!(
            refused(Field::StepIf, "failure() && hashFiles('a') && env.A"),
            NOTHING
        );
        assert_eq!(refused(Field::StepIf, "secrets.A"), [0]);
        assert_eq!(
            refused(Field::StepRun, "${{ secrets.A }}${{ steps.a.outputs.b }}"),
            NOTHING
        );
        assert_eq!(refused(Field::StepRun, "${{ success() }}"), [4]);
        assert_eq!(
            refused(Field::JobRunsOn, "${{ env.A }}${{ matrix.os }}"),
            [4]
        );
        assert_eq!(
            refused(Field::ActionStep, "${{ secrets.A }}${{ inputs.a }}"),
            [4]
        );
        assert_eq!(refused(Field::StepShell, "${{ github.ref }}"), [4]);
        assert_eq!(
            refused(Field::RunName, "${{ format('{0}', github.actor) }}"),
            NOTHING
        );
    }

    #[test]
    fn a_scope_is_limited_to_what_a_field_may_use() {
        let mut scope = Scope::new().with_status(Status::Failure).with_hash_files();
        for name in ContextName::ALL {
            scope.set(name, true);
        }
        let limited = scope.limited_to(&availability(Field::JobIf));
        let kept = ContextName::ALL.into_iter();
        let kept: Vec<_> = kept.filter(|&name| limited.get(name).is_some()).collect();
        assert_eq!(kept, [Github, Vars, Needs, Inputs]);
        assert_eq!(limited.status(), Some(Status::Failure));
        assert!(!limited.offers(HashFiles));
        assert!(limited.offers(Function::Contains));
    }
}
