//! Expressions: what is wrong with them, and whether GitHub allows what they use in the field that they stand in.

use super::{Checker, File, listed};
use crate::diagnostic::{Diagnostic, Severity, nearest};
use crate::event::context::OF_MACHINE;
use crate::expr::error::{MAX_DEPTH, MAX_LENGTH};
use crate::expr::inspect::MAX_WRONG;
use crate::expr::{
    Availability, ConditionForm, ContextName, EvalError, Field, Function, Inspection, Use, Used,
    Wrong, availability, condition_form, inspect, inspect_condition,
};
use crate::spec::Text;
use crate::yaml::shown;

/// A text that was inspected.
pub(super) struct Inspected {
    /// Where it stands.
    pub field: Field,
    /// The text.
    pub text: Text,
    /// What its expressions use.
    pub uses: Vec<Use>,
}

/// Something wrong with an expression; the offset is in bytes of the text.
struct Problem {
    offset: usize,
    message: String,
    help: Option<String>,
}

impl Checker<'_> {
    /// Inspects the expressions in texts, and gives those that use something.
    pub(super) fn expressions(
        &mut self,
        file: &File<'_>,
        texts: Vec<(Field, Text)>,
    ) -> Vec<Inspected> {
        let mut inspected = Vec::new();
        for (field, text) in texts {
            let inspection = match field.is_condition() {
                true => inspect_condition(&text.text),
                false if text.text.contains("${{") => inspect(&text.text),
                false => continue,
            };
            if inspection.wrong.is_empty()
                && field.is_condition()
                && let Some((message, help)) = says_nothing(&text.text, &inspection)
            {
                self.warning(file, text.spot, message, help);
            }
            let wrong = inspection.wrong.iter();
            let wrong = wrong.map(|wrong| explain(&text.text, wrong));
            let mut problems: Vec<Problem> = wrong.collect();
            let room = MAX_WRONG.saturating_sub(problems.len());
            let available = availability(field);
            let refused = inspection.uses.iter();
            let refused = refused.filter(|each| !available.allows(each));
            problems.extend(
                refused
                    .map(|each| refuse(field, &available, each))
                    .take(room),
            );
            if !field.has_machine() {
                let early = inspection
                    .uses
                    .iter()
                    .filter_map(|used| too_early(field, used));
                problems.extend(early.take(MAX_WRONG.saturating_sub(problems.len())));
            }
            for problem in problems {
                let spot = self.spot(Severity::Error, file, &text, problem.offset);
                let error = Diagnostic::error(file.path, spot, problem.message);
                let help = problem.help;
                self.find(Diagnostic { help, ..error });
            }
            if !inspection.uses.is_empty() {
                let uses = inspection.uses;
                inspected.push(Inspected { field, text, uses });
            }
        }
        inspected
    }
}

/// What is wrong, in the checker's words.
fn explain(text: &str, wrong: &Wrong) -> Problem {
    let split = || Some("split it, for example over `env`".to_owned());
    let (message, help) = match &wrong.error {
        EvalError::Unclosed { .. } => (
            "the expression that begins here is not closed".to_owned(),
            Some("close it with `}}`; text inside it needs single quotes".to_owned()),
        ),
        EvalError::Empty { .. } => (
            "the expression is empty".to_owned(),
            Some("write an expression, or remove `${{ }}`".to_owned()),
        ),
        EvalError::Syntax { message, .. } => (
            format!("the expression is wrong here: {message}"),
            hint(text.get(wrong.offset..).unwrap_or_default()),
        ),
        EvalError::TooDeep => (
            format!("the expression is nested more than {MAX_DEPTH} deep"),
            split(),
        ),
        EvalError::TooLong => (
            format!("the expression has more than {MAX_LENGTH} characters"),
            split(),
        ),
        EvalError::UnknownContext { name, .. } => unknown_context(name),
        EvalError::UnknownFunction { name, .. } => {
            let functions = || Function::ALL.into_iter().map(Function::as_str);
            let help = match nearest(name, functions()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the functions are {}", listed(functions())),
            };
            (format!("unknown function `{}`", shown(name)), Some(help))
        }
        // Arguments that cannot be; nothing else comes of what is only parsed.
        other => (other.to_string(), None),
    };
    Problem {
        offset: wrong.offset,
        message,
        help,
    }
}

/// What was probably meant by what the parser does not expect.
fn hint(found: &str) -> Option<String> {
    let hint = match found.chars().next()? {
        '"' => "text needs single quotes: 'like this'",
        '+' | '-' | '*' | '/' | '%' => "expressions have no arithmetic; compute it in a `run` step",
        '=' => "compare with `==`",
        _ => return None,
    };
    Some(hint.to_owned())
}

fn unknown_context(name: &str) -> (String, Option<String>) {
    let contexts = || ContextName::ALL.into_iter().map(ContextName::as_str);
    let help = if Function::parse(name).is_some() {
        format!("to call the function, write `{name}()`")
    } else if let Some(near) = nearest(name, contexts()) {
        format!("did you mean `{near}`?")
    } else {
        let contexts = listed(contexts());
        format!("the contexts are {contexts}; text needs single quotes")
    };
    (format!("unknown context `{}`", shown(name)), Some(help))
}

/// Why something must not be used in a field.
fn refuse(field: Field, available: &Availability, used: &Use) -> Problem {
    let (message, help) = match &used.what {
        Used::Context(context, _) => (
            format!("the context `{context}` is not available in {field}"),
            instead(field, available, *context),
        ),
        Used::Function(function) => (
            format!("`{function}()` is not available in {field}"),
            if function.is_status() {
                "the status is known in `if` only".to_owned()
            } else {
                "files are known in steps only; hand the digest on as an output".to_owned()
            },
        ),
    };
    Problem {
        offset: used.offset,
        message,
        help: Some(help),
    }
}

/// What a field reads that is known only when the job has a machine.
fn too_early(field: Field, used: &Use) -> Option<Problem> {
    let (context, name) = used.context_and_name()?;
    let of_machine = OF_MACHINE
        .iter()
        .any(|known| known.eq_ignore_ascii_case(name));
    (context == ContextName::Github && of_machine).then(|| Problem {
        offset: used.offset,
        message: format!("`github.{name}` is not known in {field}: the job has no machine yet"),
        help: Some("use it in `env` or in a step; on GitHub it is empty here".to_owned()),
    })
}

/// How to reach what a context holds, and which contexts there are.
fn instead(field: Field, available: &Availability, context: ContextName) -> String {
    use ContextName as C;
    let in_action = matches!(
        field,
        Field::ActionInputDefault
            | Field::ActionOutputValue
            | Field::ActionStepIf
            | Field::ActionStep
            | Field::ActionPreOrPostIf
            | Field::ActionContainer
    );
    let way = match (field, context) {
        (Field::StepShell, _) => {
            "set it as `defaults.run.shell` of the job, which may use `matrix`"
        }
        (_, C::Secrets | C::Vars | C::Needs)
            if in_action && available.allows_context(C::Inputs) =>
        {
            "give it to the action as an input, and read it from `inputs`"
        }
        (Field::StepIf, C::Secrets) => {
            "say in `env` of the job whether it is there (`HAS_IT: ${{ secrets.IT != '' }}`), and test `env.HAS_IT == 'true'`"
        }
        (Field::JobIf, C::Secrets) => {
            "let a job before this one test it, and read its output from `needs`"
        }
        (Field::JobIf, C::Matrix | C::Strategy) => {
            "it is decided before the matrix makes jobs; put the condition on the steps, or use `exclude`"
        }
        (_, C::Env) if available.allows_context(C::Needs) => {
            "use `vars`, or the output of a job before, from `needs`"
        }
        (_, C::Env) if available.allows_context(C::Vars) => "use `vars`",
        _ => "",
    };
    let contexts = available.contexts.iter().map(|context| context.as_str());
    let there = match available.contexts {
        [] => "no context is available there".to_owned(),
        _ => format!("available there: {}", listed(contexts)),
    };
    match way {
        "" => there,
        _ => format!("{way}; {there}"),
    }
}

/// Why a condition says nothing, though it hardly is meant so.
fn says_nothing(text: &str, inspection: &Inspection) -> Option<(&'static str, &'static str)> {
    if text.trim().is_empty() {
        return Some((
            "the condition is empty",
            "remove it, or write an expression",
        ));
    }
    let form = |text| condition_form(Some(text)) == Ok(ConditionForm::Mixed);
    if form(text) && form(text.trim()) {
        return Some((
            "the condition is always true: text around `${{ }}` makes all of it a text",
            "put the whole condition into one `${{ }}`, or leave `${{ }}` out",
        ));
    }
    if form(text) {
        return Some((
            "the condition is always true: space or a line break around `${{ }}` makes all of it a text",
            "remove it (a block ends without a line break as `|-`), or leave `${{ }}` out",
        ));
    }
    let constant = inspection.constant.as_deref()?;
    (!constant.is_empty()).then_some((
        "the condition is always true: it is a text",
        "remove the quotes within the expression, or compare the text with something",
    ))
}
