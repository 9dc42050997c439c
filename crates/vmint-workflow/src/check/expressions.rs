//! The seam through which expressions are inspected, and what is known of them without the rules of each field.

use github_actions_expressions::call::Error as CallError;
use github_actions_expressions::context::Context;
use github_actions_expressions::literal::Literal;
use github_actions_expressions::{Error, Expr, SpannedExpr};

/// Who knows expressions.
pub trait Expressions {
    /// What is wrong with the expressions in a text. Offsets are in bytes of the text.
    fn inspect(&self, text: &str, field: Field) -> Vec<Problem>;
}

/// Something wrong with an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where, in bytes of the text.
    pub offset: usize,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

/// In which field a text stands: the rows of GitHub's table of the contexts that are available, and the fields of actions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// `run-name`.
    RunName,
    /// `concurrency`.
    Concurrency,
    /// `env`.
    Env,
    /// `on.workflow_call.inputs.<inputs_id>.default`.
    CallInputDefault,
    /// `on.workflow_call.outputs.<output_id>.value`.
    CallOutputValue,
    /// `jobs.<job_id>.concurrency`.
    JobConcurrency,
    /// `jobs.<job_id>.container`.
    Container,
    /// `jobs.<job_id>.container.credentials`.
    ContainerCredentials,
    /// `jobs.<job_id>.container.env.<env_id>`.
    ContainerEnv,
    /// `jobs.<job_id>.container.image`.
    ContainerImage,
    /// `jobs.<job_id>.continue-on-error`.
    JobContinueOnError,
    /// `jobs.<job_id>.defaults.run`.
    JobDefaultsRun,
    /// `jobs.<job_id>.env`.
    JobEnv,
    /// `jobs.<job_id>.environment`.
    JobEnvironment,
    /// `jobs.<job_id>.environment.url`.
    JobEnvironmentUrl,
    /// `jobs.<job_id>.if`.
    JobIf,
    /// `jobs.<job_id>.name`.
    JobName,
    /// `jobs.<job_id>.outputs.<output_id>`.
    JobOutput,
    /// `jobs.<job_id>.runs-on`.
    RunsOn,
    /// `jobs.<job_id>.secrets.<secrets_id>`.
    JobSecret,
    /// `jobs.<job_id>.services`.
    Services,
    /// `jobs.<job_id>.services.<service_id>.credentials`.
    ServiceCredentials,
    /// `jobs.<job_id>.services.<service_id>.env.<env_id>`.
    ServiceEnv,
    /// `jobs.<job_id>.strategy`.
    Strategy,
    /// `jobs.<job_id>.timeout-minutes`.
    JobTimeout,
    /// `jobs.<job_id>.with.<with_id>`.
    JobWith,
    /// `jobs.<job_id>.steps.continue-on-error`.
    StepContinueOnError,
    /// `jobs.<job_id>.steps.env`.
    StepEnv,
    /// `jobs.<job_id>.steps.if`.
    StepIf,
    /// `jobs.<job_id>.steps.name`.
    StepName,
    /// `jobs.<job_id>.steps.run`.
    StepRun,
    /// `jobs.<job_id>.steps.shell`, which is not in GitHub's table.
    StepShell,
    /// `jobs.<job_id>.steps.timeout-minutes`.
    StepTimeout,
    /// `jobs.<job_id>.steps.with`.
    StepWith,
    /// `jobs.<job_id>.steps.working-directory`.
    StepWorkingDirectory,
    /// `defaults.run`, which is not in GitHub's table.
    DefaultsRun,
    /// `inputs.<input_id>.default` of an action.
    ActionInputDefault,
    /// `outputs.<output_id>.value` of a composite action.
    ActionOutputValue,
    /// `runs.steps[*].if` of a composite action.
    ActionStepIf,
    /// All other texts of a step of a composite action.
    ActionStep,
    /// `runs.pre-if` and `runs.post-if`.
    ActionHookIf,
    /// `runs.args` and `runs.env` of a docker action.
    ActionDocker,
}

impl Field {
    /// Whether the text is an expression also without `${{ }}`.
    pub fn is_condition(self) -> bool {
        matches!(
            self,
            Self::JobIf | Self::StepIf | Self::ActionStepIf | Self::ActionHookIf
        )
    }
}

/// Syntax, and the names of contexts and functions; not which of them are available where.
#[derive(Clone, Copy, Debug, Default)]
pub struct Syntax;

/// The longest expression that GitHub reads.
const MAX_LENGTH: usize = 21_000;
/// Operators make the tree of an expression deep, and the trees are walked by recursion when they are dropped.
const MAX_OPERATORS: usize = 1000;
/// How many problems of one text are told.
const MAX_PROBLEMS: usize = 20;
const CONTEXTS: [&str; 12] = [
    "github", "env", "vars", "job", "jobs", "steps", "runner", "secrets", "strategy", "matrix",
    "needs", "inputs",
];
const FUNCTIONS: [&str; 13] = [
    "contains",
    "startsWith",
    "endsWith",
    "format",
    "join",
    "toJSON",
    "fromJSON",
    "hashFiles",
    "case",
    "success",
    "failure",
    "always",
    "cancelled",
];

impl Expressions for Syntax {
    fn inspect(&self, text: &str, field: Field) -> Vec<Problem> {
        let mut problems = Vec::new();
        for piece in pieces(text, field) {
            if problems.len() >= MAX_PROBLEMS {
                break;
            }
            match piece.and_then(|(offset, text)| parse(offset, text).map(|expr| (offset, expr))) {
                Ok((offset, expr)) => unknown_contexts(offset, &expr, &mut problems),
                Err(problem) => problems.push(problem),
            }
        }
        problems
    }
}

/// The expressions in a text, with their offsets.
pub(super) fn pieces(text: &str, field: Field) -> Vec<Result<(usize, &str), Problem>> {
    if field.is_condition() && !text.contains("${{") {
        return vec![Ok((0, text))];
    }
    let mut pieces = Vec::new();
    let mut at = 0;
    while let Some(found) = text[at..].find("${{") {
        let start = at + found + 3;
        let Some(length) = end(&text[start..]) else {
            pieces.push(Err(Problem {
                offset: start - 3,
                message: "the expression that begins here is not closed".into(),
                help: Some("close it with `}}`; text in it stands in single quotes".into()),
            }));
            break;
        };
        pieces.push(Ok((start, &text[start..start + length])));
        at = start + length + 2;
    }
    pieces
}

/// Where the expression ends: at the first `}}` outside of quotes.
fn end(text: &str) -> Option<usize> {
    let mut quoted = false;
    let bytes = text.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'\'' => quoted = !quoted,
            b'}' if !quoted && bytes.get(at + 1) == Some(&b'}') => return Some(at),
            _ => {}
        }
    }
    None
}

fn problem(offset: usize, message: impl Into<String>, help: Option<String>) -> Problem {
    Problem {
        offset,
        message: message.into(),
        help,
    }
}

/// Parses an expression that stands at an offset.
pub(super) fn parse(offset: usize, text: &str) -> Result<SpannedExpr<'_>, Problem> {
    if text.len() > MAX_LENGTH {
        let message = format!("the expression has more than {MAX_LENGTH} characters");
        return Err(problem(
            offset,
            message,
            Some("split it, for example over `env`".into()),
        ));
    }
    let operators = text.bytes().filter(|b| b"=<>&|".contains(b)).count();
    if operators > 2 * MAX_OPERATORS {
        let message = format!("the expression has more than {MAX_OPERATORS} operators");
        return Err(problem(
            offset,
            message,
            Some("split it, for example over `env`".into()),
        ));
    }
    if text.trim().is_empty() {
        let help = Some("write an expression, or remove `${{ }}`".to_owned());
        return Err(problem(offset, "the expression is empty", help));
    }
    Expr::parse(text).map_err(|error| explain(offset, text, &error))
}

fn explain(offset: usize, text: &str, error: &Error) -> Problem {
    match error {
        Error::Syntax(syntax) => {
            let at = syntax.offset.min(text.len());
            let found = text.get(at..).and_then(|rest| rest.chars().next());
            let help = match found {
                Some('"') => Some("text stands in single quotes: 'like this'".to_owned()),
                Some('+' | '-' | '*' | '/' | '%') => {
                    Some("expressions have no arithmetic; compute it in a `run` step".to_owned())
                }
                Some('=') => Some("compare with `==`".to_owned()),
                _ => None,
            };
            problem(
                offset + at,
                format!("the expression is wrong here: {}", syntax.message),
                help,
            )
        }
        Error::Depth => problem(
            offset,
            "the expression is nested more than 50 deep",
            Some("split it, for example over `env`".into()),
        ),
        Error::Call(CallError::UnknownFunction(name)) => {
            let help = match crate::diagnostic::nearest(name, FUNCTIONS) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the functions are {}", FUNCTIONS.join(", ")),
            };
            problem(
                offset + place(text, name),
                format!("unknown function `{name}`"),
                Some(help),
            )
        }
        Error::Call(CallError::Arity(function, expected)) => {
            let name = FUNCTIONS
                .iter()
                .find(|name| name.eq_ignore_ascii_case(&format!("{function:?}")))
                .copied()
                .unwrap_or("the function");
            let message = format!("`{name}` takes {expected}");
            problem(offset + place(text, name), message, None)
        }
    }
}

/// Where a name is called in an expression.
fn place(text: &str, name: &str) -> usize {
    let text = text.to_ascii_lowercase();
    let name = name.to_ascii_lowercase();
    let calls = |at: &usize| text[at + name.len()..].trim_start().starts_with('(');
    let mut found = text.match_indices(&name).map(|(at, _)| at);
    found.find(calls).unwrap_or(0)
}

fn unknown_contexts(offset: usize, expr: &SpannedExpr<'_>, problems: &mut Vec<Problem>) {
    each_context(expr, &mut |context, at| {
        let Some(Expr::Identifier(name)) = context.parts.first().map(|part| &part.inner) else {
            return;
        };
        let name = name.as_str();
        if problems.len() >= MAX_PROBLEMS
            || CONTEXTS
                .iter()
                .any(|known| known.eq_ignore_ascii_case(name))
        {
            return;
        }
        let help = if FUNCTIONS
            .iter()
            .any(|function| function.eq_ignore_ascii_case(name))
        {
            format!("to call the function, write `{name}()`")
        } else {
            match crate::diagnostic::nearest(name, CONTEXTS) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!(
                    "the contexts are {}; text stands in single quotes",
                    CONTEXTS.join(", ")
                ),
            }
        };
        problems.push(problem(
            offset + at,
            format!("unknown context `{name}`"),
            Some(help),
        ));
    });
}

/// A name that an expression reads: `steps.build`.
#[derive(Debug, PartialEq)]
pub(super) struct Reference {
    /// The context in lower case.
    pub context: String,
    /// The key, as it is written.
    pub key: String,
    /// Where, in bytes of the text.
    pub offset: usize,
}

/// What the expressions of a text read, as far as it does not depend on values. What is not an expression reads nothing.
pub(super) fn references(text: &str, field: Field) -> Vec<Reference> {
    let mut references = Vec::new();
    for (offset, piece) in pieces(text, field).into_iter().flatten() {
        let Ok(expr) = parse(offset, piece) else {
            continue;
        };
        each_context(&expr, &mut |context, at| {
            let [first, second, ..] = context.parts.as_slice() else {
                return;
            };
            let Expr::Identifier(name) = &first.inner else {
                return;
            };
            let key = match &second.inner {
                Expr::Identifier(key) => key.as_str().to_owned(),
                Expr::Index(index) => match &index.inner {
                    Expr::Literal(Literal::String(key)) => key.to_string(),
                    _ => return,
                },
                _ => return,
            };
            references.push(Reference {
                context: name.as_str().to_ascii_lowercase(),
                key,
                offset: offset + at,
            });
        });
    }
    references
}

/// Visits all contexts of an expression with their offsets. Without recursion: chains of operators make deep trees.
fn each_context<'e, 's>(expr: &'e SpannedExpr<'s>, visit: &mut dyn FnMut(&'e Context<'s>, usize)) {
    let mut open = vec![expr];
    while let Some(expr) = open.pop() {
        match &expr.inner {
            Expr::Context(context) => {
                visit(context, expr.origin.span.start);
                open.extend(&context.parts);
            }
            Expr::Index(index) => open.push(index),
            Expr::Call(call) => open.extend(&call.args),
            Expr::BinExpr(binary) => open.extend([&*binary.rhs, &*binary.lhs]),
            Expr::UnExpr { expr, .. } => open.push(expr),
            Expr::Literal(_) | Expr::Star | Expr::Identifier(_) => {}
        }
    }
}

/// Why a condition is always true, though it hardly is meant so.
pub(super) fn always_true(text: &str) -> Option<(&'static str, &'static str)> {
    let trimmed = text.trim();
    if trimmed.contains("${{") {
        let whole = trimmed
            .strip_prefix("${{")
            .and_then(|rest| Some(&rest[end(rest)? + 2..]));
        if whole != Some("") {
            return Some((
                "the condition is always true: text around `${{ }}` makes all of it a text",
                "put the whole condition into one `${{ }}`, or leave `${{ }}` out",
            ));
        }
    }
    let inner = trimmed
        .strip_prefix("${{")
        .and_then(|rest| rest.strip_suffix("}}"));
    let expr = parse(0, inner.unwrap_or(trimmed)).ok()?;
    match &expr.inner {
        Expr::Literal(Literal::String(text)) if !text.is_empty() => Some((
            "the condition is always true: it is a text",
            "remove the quotes within the expression, or compare the text with something",
        )),
        _ => None,
    }
}
