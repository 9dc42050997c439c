//! Inputs of `workflow_dispatch` and `workflow_call`: what is declared, what is given, and what comes of both.

use super::on::text;
use crate::diagnostic::Spot;
use crate::expr::{Object, Value};
use crate::spec::Text;
use crate::yaml::{Data, Node};
use indexmap::IndexMap;
use serde_json::{Map, Value as Json};
use thiserror::Error;

/// Inputs of a `workflow_dispatch` that GitHub allows.
const MOST_INPUTS: usize = 25;
/// Characters of all their values that GitHub allows.
const MOST_TEXT: usize = 65_535;

/// Inputs by name, in the file's order.
pub type Inputs = IndexMap<String, Input>;

/// An input that a workflow declares.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// What it is for.
    pub description: Option<String>,
    /// Whether a value must be given.
    pub required: bool,
    /// What it is when none is given. Of `workflow_call` it may hold expressions.
    pub default: Option<Text>,
    /// What values it has.
    pub kind: Kind,
}

/// What values an input has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    String,
    /// `true` or `false`.
    Boolean,
    /// A number.
    Number,
    /// One of these.
    Choice(Vec<String>),
    /// The name of an environment.
    Environment,
}

/// Which event the inputs are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// `workflow_dispatch`.
    Dispatch,
    /// `workflow_call`.
    Call,
}

/// What is wrong with a declaration, and where.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{problem}")]
pub struct DeclarationError {
    /// Where.
    pub spot: Spot,
    /// What.
    pub problem: DeclarationProblem,
}

/// What can be wrong with a declaration.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DeclarationProblem {
    /// `inputs` is no mapping, or an input is none.
    #[error("inputs must be a mapping of names to `type`, `default`, `required` and `description`")]
    Shape,
    /// An unknown type.
    #[error("input `{name}` has the unknown type `{kind}`; there are {}", known(*of))]
    Type {
        /// The input.
        name: String,
        /// Its type.
        kind: String,
        /// Of which event.
        of: Of,
    },
    /// No type where one is needed.
    #[error(
        "input `{name}` of `workflow_call` needs a `type`: {}",
        known(Of::Call)
    )]
    NoType {
        /// The input.
        name: String,
    },
    /// A choice of nothing.
    #[error("input `{name}` is a choice and needs `options`, a list with at least one")]
    NoOptions {
        /// The input.
        name: String,
    },
    /// `required` is neither `true` nor `false`.
    #[error("`required` of input `{name}` must be `true` or `false`")]
    Required {
        /// The input.
        name: String,
    },
    /// The default is not one of the values.
    #[error("the default of {0}")]
    Default(InputError),
    /// Too many.
    #[error("there are {count} inputs, and GitHub allows {MOST_INPUTS}")]
    TooMany {
        /// So many.
        count: usize,
    },
}

/// Why values are not accepted.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InputError {
    /// Not of the form `name=value`.
    #[error("`{given}` is not an input; write NAME=VALUE")]
    Form {
        /// What was given.
        given: String,
    },
    /// Not declared.
    #[error("the workflow has no input `{name}`; {}", it_has(declared))]
    Unknown {
        /// The name.
        name: String,
        /// The names that there are.
        declared: Vec<String>,
    },
    /// Required and missing.
    #[error("input `{name}` is required: {expected}")]
    Missing {
        /// The input.
        name: String,
        /// What it may be.
        expected: String,
    },
    /// Not one of its values.
    #[error("input `{name}` cannot be `{value}`: {expected}")]
    Value {
        /// The input.
        name: String,
        /// What was given, shortened.
        value: String,
        /// What it may be.
        expected: String,
    },
    /// A default that cannot be evaluated.
    #[error("the default of input `{name}` cannot be evaluated: {reason}")]
    Default {
        /// The input.
        name: String,
        /// Why not.
        reason: String,
    },
    /// Too much text.
    #[error("the inputs are {length} characters long together, and GitHub allows {MOST_TEXT}")]
    TooLong {
        /// So long.
        length: usize,
    },
}

fn known(of: Of) -> &'static str {
    match of {
        Of::Dispatch => "string, boolean, number, choice and environment",
        Of::Call => "string, boolean and number",
    }
}

fn it_has(declared: &[String]) -> String {
    match declared {
        [] => "it has none".to_owned(),
        names => format!("it has {}", names.join(", ")),
    }
}

/// Reads `inputs`.
pub fn declared(of: Of, node: Option<&Node>) -> Result<Inputs, DeclarationError> {
    let mut inputs = Inputs::new();
    let Some(node) = node else { return Ok(inputs) };
    let fail = |node: &Node, problem| DeclarationError {
        spot: node.spot,
        problem,
    };
    for (key, input) in fields(node).ok_or_else(|| fail(node, DeclarationProblem::Shape))? {
        let problem = |problem| fail(input, problem);
        let fields = fields(input).ok_or_else(|| problem(DeclarationProblem::Shape))?;
        let read = Input::read(&key.text, of, fields).map_err(problem)?;
        inputs.insert(key.text.clone(), read);
    }
    if of == Of::Dispatch && inputs.len() > MOST_INPUTS {
        let count = inputs.len();
        return Err(fail(node, DeclarationProblem::TooMany { count }));
    }
    Ok(inputs)
}

fn fields(node: &Node) -> Option<&[(crate::yaml::Key, Node)]> {
    match &node.data {
        Data::Mapping(entries) => Some(entries),
        Data::Null => Some(&[]),
        _ => None,
    }
}

impl Input {
    fn read(
        name: &str,
        of: Of,
        fields: &[(crate::yaml::Key, Node)],
    ) -> Result<Self, DeclarationProblem> {
        let owned = || name.to_owned();
        let find = |key: &str| {
            fields
                .iter()
                .find(|(k, _)| k.text == key)
                .map(|(_, node)| node)
        };
        let kind = match (find("type").and_then(text).as_deref(), of) {
            (Some("string"), _) | (None, Of::Dispatch) => Kind::String,
            (Some("boolean"), _) => Kind::Boolean,
            (Some("number"), _) => Kind::Number,
            (Some("environment"), Of::Dispatch) => Kind::Environment,
            (Some("choice"), Of::Dispatch) => match find("options").map(|node| &node.data) {
                Some(Data::Sequence(options)) if !options.is_empty() => {
                    let options = options.iter().map(text).collect::<Option<_>>();
                    Kind::Choice(
                        options.ok_or_else(|| DeclarationProblem::NoOptions { name: owned() })?,
                    )
                }
                _ => return Err(DeclarationProblem::NoOptions { name: owned() }),
            },
            (Some(kind), _) => {
                return Err(DeclarationProblem::Type {
                    name: owned(),
                    kind: kind.to_owned(),
                    of,
                });
            }
            (None, Of::Call) => return Err(DeclarationProblem::NoType { name: owned() }),
        };
        let required = match find("required").map(|node| &node.data) {
            None | Some(Data::Null | Data::Bool(false)) => false,
            Some(Data::Bool(true)) => true,
            Some(_) => return Err(DeclarationProblem::Required { name: owned() }),
        };
        let default = find("default").and_then(|node| {
            let (text, spot) = (text(node)?, node.spot);
            Some(Text { text, spot })
        });
        let input = Self {
            description: find("description").and_then(text),
            required,
            default,
            kind,
        };
        match &input.default {
            // An expression has its value only later, and an empty default is as good as none.
            Some(default) if !default.text.contains("${{") && !default.text.is_empty() => {
                let checked = input.kind.value(name, &default.text);
                checked.map_err(DeclarationProblem::Default)?;
            }
            _ => {}
        }
        Ok(input)
    }

    /// The value of an input for which nothing is given.
    fn absent(&self) -> Value {
        match self.kind {
            Kind::Boolean => Value::Bool(false),
            Kind::Number => Value::Number(0.0),
            Kind::String | Kind::Choice(_) | Kind::Environment => Value::from(""),
        }
    }
}

impl Kind {
    /// What a value may be, for messages.
    fn expected(&self) -> String {
        match self {
            Self::String => "any text".to_owned(),
            Self::Boolean => "true or false".to_owned(),
            Self::Number => "a number".to_owned(),
            Self::Choice(options) => format!("one of {}", options.join(", ")),
            Self::Environment => "the name of an environment".to_owned(),
        }
    }

    /// The value that a text stands for.
    fn value(&self, name: &str, text: &str) -> Result<Value, InputError> {
        let value = match self {
            Self::String | Self::Environment => Some(Value::from(text)),
            Self::Boolean => text.parse().ok().map(Value::Bool),
            Self::Number => {
                let number = text.trim().parse::<f64>().ok();
                number
                    .filter(|number| number.is_finite())
                    .map(Value::Number)
            }
            Self::Choice(options) => options.iter().any(|o| o == text).then(|| Value::from(text)),
        };
        value.ok_or_else(|| InputError::Value {
            name: name.to_owned(),
            value: text.chars().take(100).collect(),
            expected: self.expected(),
        })
    }

    /// The value that another value stands for: a text that is written as one of this kind will do.
    fn convert(&self, name: &str, value: &Value) -> Result<Value, InputError> {
        match (self, value) {
            (Self::Boolean, Value::Bool(_)) | (Self::Number, Value::Number(_)) => Ok(value.clone()),
            (_, Value::String(text)) => self.value(name, text),
            (Self::String, Value::Bool(value)) => Ok(Value::from(value.to_string())),
            (Self::String, Value::Number(number)) => Ok(Value::from(number.to_string())),
            (Self::String, Value::Null) => Ok(Value::from("")),
            _ => Err(InputError::Value {
                name: name.to_owned(),
                value: match value {
                    Value::Null => "null".to_owned(),
                    Value::Bool(value) => value.to_string(),
                    Value::Number(number) => number.to_string(),
                    Value::String(text) => text.to_string(),
                    Value::Array(_) => "a list".to_owned(),
                    Value::Object(_) => "an object".to_owned(),
                },
                expected: self.expected(),
            }),
        }
    }
}

/// `NAME=VALUE`.
pub fn parse(given: &str) -> Result<(String, String), InputError> {
    match given.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_owned(), value.to_owned()))
        }
        _ => Err(InputError::Form {
            given: given.to_owned(),
        }),
    }
}

/// Inputs of a `workflow_dispatch`.
#[derive(Clone, Debug, Default)]
pub struct Dispatched {
    /// The `inputs` context.
    pub inputs: Object,
    /// The same as texts, for `github.event.inputs`.
    pub texts: Map<String, Json>,
}

/// What comes of values that are given as texts. The last of a name counts.
pub fn dispatch(declared: &Inputs, given: &[(String, String)]) -> Result<Dispatched, InputError> {
    let length = given.iter().map(|(_, value)| value.chars().count()).sum();
    if length > MOST_TEXT {
        return Err(InputError::TooLong { length });
    }
    let given: Object = given
        .iter()
        .map(|(name, value)| (&**name, &**value))
        .collect();
    let mut literal = |default: &Text| Ok(Value::from(&*default.text));
    let inputs = resolve(declared, &given, &mut literal)?;
    let texts = declared.iter().map(|(name, input)| {
        let text = match given.get(name) {
            Some(Value::String(text)) => text.to_string(),
            _ => match (&input.default, &input.kind) {
                (Some(default), _) => default.text.clone(),
                (None, Kind::Boolean) => "false".to_owned(),
                (None, _) => String::new(),
            },
        };
        (name.clone(), Json::String(text))
    });
    let texts = texts.collect();
    Ok(Dispatched { inputs, texts })
}

/// What comes of the values in `with` of a job that calls a workflow. `evaluate` is asked for defaults with expressions;
/// its error is the reason for the user.
pub fn call(
    declared: &Inputs,
    with: &Object,
    evaluate: &mut dyn FnMut(&Text) -> Result<Value, String>,
) -> Result<Object, InputError> {
    resolve(declared, with, evaluate)
}

fn resolve(
    declared: &Inputs,
    given: &Object,
    evaluate: &mut dyn FnMut(&Text) -> Result<Value, String>,
) -> Result<Object, InputError> {
    let names: Object = declared.keys().map(|name| (&**name, true)).collect();
    if let Some((name, _)) = given.iter().find(|(name, _)| names.get(name).is_none()) {
        return Err(InputError::Unknown {
            name: name.to_owned(),
            declared: declared.keys().cloned().collect(),
        });
    }
    let mut values = Object::new();
    for (name, input) in declared {
        let value = match (given.get(name), &input.default) {
            (Some(value), _) => input.kind.convert(name, value)?,
            (None, Some(default)) if !default.text.is_empty() => {
                let value = evaluate(default).map_err(|reason| InputError::Default {
                    name: name.clone(),
                    reason,
                })?;
                input.kind.convert(name, &value)?
            }
            (None, None) if input.required => {
                return Err(InputError::Missing {
                    name: name.clone(),
                    expected: input.kind.expected(),
                });
            }
            (None, _) => input.absent(),
        };
        values.insert(name, value);
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::super::on::testing::node;
    use super::*;

    const DECLARED: &str = "
        name: {required: true}
        debug: {type: boolean}
        fast: {type: boolean, default: true}
        level: {type: choice, options: [low, high, 3], default: low}
        count: {type: number, default: 1.50}
        where: {type: environment}
        nothing:
    ";

    fn inputs(yaml: &str) -> Inputs {
        declared(Of::Dispatch, Some(&node(yaml))).unwrap()
    }

    fn given(texts: &[&str]) -> Result<Dispatched, InputError> {
        let given = texts
            .iter()
            .map(|text| parse(text))
            .collect::<Result<Vec<_>, _>>()?;
        dispatch(&inputs(DECLARED), &given)
    }

    #[test]
    fn values_are_typed_for_inputs_and_texts_for_the_event() {
        let all = given(&["name=a=b", "count=2.0", "DEBUG=true"]).unwrap();
        let shown: Vec<String> = all
            .inputs
            .iter()
            .map(|(k, v)| format!("{k}: {v:?}"))
            .collect();
        insta::assert_snapshot!(shown.join("\n"), @r#"
        name: String("a=b")
        debug: Bool(true)
        fast: Bool(true)
        level: String("low")
        count: Number(2.0)
        where: String("")
        nothing: String("")
        "#);
        insta::assert_snapshot!(serde_json::to_string(&all.texts).unwrap(), @r#"{"count":"2.0","debug":"true","fast":"true","level":"low","name":"a=b","nothing":"","where":""}"#);
    }

    #[test]
    fn what_is_given_wrongly_is_named_with_what_is_allowed() {
        let errors: Vec<String> = [
            &[][..],
            &["name"],
            &["=x"],
            &["name=x", "other=y"],
            &["name=x", "debug=yes"],
            &["name=x", "level=medium"],
            &["name=x", "count=many"],
            &["name=x", "count=inf"],
        ]
        .iter()
        .map(|texts| given(texts).unwrap_err().to_string())
        .collect();
        insta::assert_snapshot!(errors.join("\n"), @r"
        input `name` is required: any text
        `name` is not an input; write NAME=VALUE
        `=x` is not an input; write NAME=VALUE
        the workflow has no input `other`; it has name, debug, fast, level, count, where, nothing
        input `debug` cannot be `yes`: true or false
        input `level` cannot be `medium`: one of low, high, 3
        input `count` cannot be `many`: a number
        input `count` cannot be `inf`: a number
        ");
        let long = format!("name={}", "x".repeat(70_000));
        assert!(matches!(
            given(&[&long]),
            Err(InputError::TooLong { length: 70_000 })
        ));
    }

    #[test]
    fn what_is_declared_wrongly_is_said() {
        let say = |of, yaml: &str| declared(of, Some(&node(yaml))).unwrap_err().to_string();
        let errors = [
            say(Of::Dispatch, "[a]"),
            say(Of::Dispatch, "a: b"),
            say(Of::Dispatch, "a: {type: text}"),
            say(Of::Call, "a: {type: choice, options: [a]}"),
            say(Of::Call, "a: {description: x}"),
            say(Of::Dispatch, "a: {type: choice}"),
            say(Of::Dispatch, "a: {type: choice, options: [x], default: y}"),
            say(Of::Dispatch, "a: {type: boolean, default: 1}"),
            say(Of::Dispatch, "a: {required: maybe}"),
        ];
        insta::assert_snapshot!(errors.join("\n"), @r"
        inputs must be a mapping of names to `type`, `default`, `required` and `description`
        inputs must be a mapping of names to `type`, `default`, `required` and `description`
        input `a` has the unknown type `text`; there are string, boolean, number, choice and environment
        input `a` has the unknown type `choice`; there are string, boolean and number
        input `a` of `workflow_call` needs a `type`: string, boolean and number
        input `a` is a choice and needs `options`, a list with at least one
        the default of input `a` cannot be `y`: one of x
        the default of input `a` cannot be `1`: true or false
        `required` of input `a` must be `true` or `false`
        ");
        let mut many = String::new();
        for i in 0..26 {
            many.push_str(&format!(
                "i{i}: {{}}
"
            ));
        }
        assert!(declared(Of::Dispatch, Some(&node(&many))).is_err());
        assert!(declared(Of::Call, Some(&node(&many.replace("{}", "{type: string}")))).is_ok());
    }

    #[test]
    fn a_called_workflow_gets_values_of_its_types() {
        let yaml = "{a: {type: string, default: '${{ github.ref }}'}, b: {type: boolean}, n: {type: number}}";
        let declared = declared(Of::Call, Some(&node(yaml))).unwrap();
        let mut evaluate = |text: &Text| match &*text.text {
            "${{ github.ref }}" => Ok(Value::from("refs/heads/main")),
            other => Err(format!("unexpected {other}")),
        };
        let mut with = Object::new();
        with.insert("b", "true");
        with.insert("n", 3.0);
        let values = call(&declared, &with, &mut evaluate).unwrap();
        assert!(matches!(values.get("a"), Some(Value::String(s)) if &**s == "refs/heads/main"));
        assert!(matches!(values.get("b"), Some(Value::Bool(true))));
        with.insert("b", Vec::new());
        let error = call(&declared, &with, &mut evaluate).unwrap_err();
        insta::assert_snapshot!(error, @"input `b` cannot be `a list`: true or false");
    }
}
