//! The walk over a tree by a table: what does not fit is told, with its place.

use crate::diagnostic::{Diagnostic, Findings, Spot, nearest};
use crate::uses::{Uses, UsesError};
use crate::yaml::{Data, Key, Node, shown};
use std::path::Path;

/// What may stand at a place.
pub(super) struct Shape {
    /// A scalar.
    pub scalar: Scalar,
    /// A list of these.
    pub list: Option<&'static Shape>,
    /// A mapping. Of several tables the first whose key is there counts, and the last counts otherwise.
    pub mapping: &'static [(&'static str, &'static Mapping)],
    /// What nothing (`key:` alone) means.
    pub null: Null,
}

/// Which scalars may stand at a place.
#[derive(Clone, Copy)]
pub(super) enum Scalar {
    /// None.
    No,
    /// Only one expression.
    Expression,
    /// Any, taken as text.
    Text,
    /// Any but the empty text.
    Filled,
    /// `true`, `false`, or an expression.
    Bool,
    /// `true` or `false`.
    Flag,
    /// `true` or `false`, also in quotes: actions are read less strictly.
    LooseFlag,
    /// A number of at least 0, or an expression.
    Number,
    /// A whole number of at least 1, or an expression.
    Count,
    /// Which action a step uses.
    Action,
    /// Which workflow a job calls.
    Workflow,
    /// One of these words.
    Word(&'static [&'static str]),
    /// An id: a letter or `_`, then letters, digits, `-` and `_`.
    Id,
    /// Any, kept as it is.
    Any,
}

/// What nothing means.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Null {
    /// An error, unless text may stand there: then it is the empty text.
    Refused,
    /// The key might as well be absent, or nothing has a meaning of its own, as in `on: {push: }`.
    Allowed,
}

/// A mapping of the syntax.
pub(super) struct Mapping {
    /// What it is, as in “unknown key `x` in …”.
    pub what: &'static str,
    /// The keys that have a meaning.
    pub keys: &'static [Entry],
    /// What all others are.
    pub others: Others,
    /// Message and help, if such a mapping is wrong whatever it holds.
    pub wrong: Option<(&'static str, &'static str)>,
}

/// All other keys of a mapping.
pub(super) enum Others {
    /// Unknown, which is an error.
    Refused,
    /// Unknown, which does not matter.
    Ignored,
    /// Names that the author chooses.
    Names(&'static Shape),
    /// Ids that the author chooses; there must be at least one.
    Ids(&'static Shape),
}

/// A key of a mapping.
pub(super) struct Entry {
    pub key: &'static str,
    pub need: Need,
    pub shape: &'static Shape,
}

/// Whether a key must be there.
#[derive(Clone, Copy)]
pub(super) enum Need {
    Optional,
    Required,
    /// It is known, but has no effect here; the text says why.
    NoEffect(&'static str),
    /// It is known, and refused with this message and help.
    Refused(&'static str, &'static str),
}

/// Whether a text is a legal id.
fn legal_id(text: &str) -> bool {
    let mut chars = text.chars();
    chars
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

/// Walks a document.
pub(super) fn apply(file: &Path, node: &Node, shape: &'static Shape, findings: &mut Findings) {
    Walk { file, findings }.node(node, shape, None);
}

struct Walk<'a> {
    file: &'a Path,
    findings: &'a mut Findings,
}

/// Whether a scalar fits.
enum Fits {
    Yes,
    /// It does not, and that is told already.
    Told,
    No,
}

impl Walk<'_> {
    fn error(&mut self, spot: Spot, message: String, help: Option<String>) {
        let error = Diagnostic::error(self.file, spot, message);
        self.findings.add(Diagnostic { help, ..error });
    }

    fn node(&mut self, node: &Node, shape: &Shape, key: Option<&Key>) {
        match &node.data {
            Data::Null if shape.null == Null::Allowed => {}
            Data::Null if matches!(shape.scalar, Scalar::Text) => {}
            Data::Sequence(_) | Data::Mapping(_) if matches!(shape.scalar, Scalar::Any) => {}
            Data::Sequence(items) => match shape.list {
                Some(item) => items.iter().for_each(|i| self.node(i, item, key)),
                None => self.mismatch(node, shape, key),
            },
            Data::Mapping(entries) => match table(node, shape.mapping) {
                Some(table) => self.mapping(node, entries, table),
                None => self.mismatch(node, shape, key),
            },
            _ => match self.scalar(node, shape.scalar) {
                Fits::Yes | Fits::Told => {}
                Fits::No => self.mismatch(node, shape, key),
            },
        }
    }

    fn scalar(&mut self, node: &Node, scalar: Scalar) -> Fits {
        let text = node.text().unwrap_or_default();
        let fits = match (scalar, &node.data) {
            (Scalar::Text | Scalar::Any, _) => true,
            (Scalar::Filled, _) => !text.trim().is_empty(),
            (Scalar::Expression | Scalar::Bool | Scalar::Number | Scalar::Count, _)
                if is_expression(&text) =>
            {
                true
            }
            (Scalar::Bool | Scalar::Flag, Data::Bool(_)) => true,
            (Scalar::LooseFlag, _) => {
                matches!(text.to_ascii_lowercase().as_str(), "true" | "false" | "")
            }
            (Scalar::Count, Data::Number(value, _)) => {
                *value >= 1.0 && value.fract() == 0.0 && *value < 1e9
            }
            (Scalar::Number, Data::Number(value, _)) => *value >= 0.0 && value.is_finite(),
            (Scalar::Action | Scalar::Workflow, _) => {
                let Err((message, help)) = uses(&text, scalar) else {
                    return Fits::Yes;
                };
                self.error(node.spot, message, Some(help.to_owned()));
                return Fits::Told;
            }
            (Scalar::Word(words), _) => words.contains(&text.as_str()),
            (Scalar::Id, _) if !legal_id(&text) => {
                self.illegal_id(node.spot, &text);
                return Fits::Told;
            }
            (Scalar::Id, _) => true,
            (
                Scalar::No
                | Scalar::Expression
                | Scalar::Bool
                | Scalar::Flag
                | Scalar::Number
                | Scalar::Count,
                _,
            ) => false,
        };
        if fits { Fits::Yes } else { Fits::No }
    }

    fn illegal_id(&mut self, spot: Spot, text: &str) {
        let message = format!("`{}` is not a legal id", shown(text));
        let help =
            "an id begins with a letter or `_` and goes on with letters, digits, `-` and `_`";
        self.error(spot, message, Some(help.to_owned()));
    }

    fn mismatch(&mut self, node: &Node, shape: &Shape, key: Option<&Key>) {
        let subject = key.map_or_else(String::new, |key| format!("`{}`: ", shown(&key.text)));
        let got = match &node.data {
            Data::Sequence(_) | Data::Mapping(_) | Data::Null => node.kind().to_owned(),
            Data::String(text) if text.is_empty() => "empty text".to_owned(),
            _ => format!("`{}`", shown(&node.text().unwrap_or_default())),
        };
        let message = format!("{subject}expected {}, found {got}", expected(shape));
        let help = match (shape.scalar, &node.data) {
            (Scalar::Word(words), Data::String(text)) => {
                nearest(text, words.iter().copied()).map(|word| format!("did you mean `{word}`?"))
            }
            (Scalar::Bool | Scalar::Flag, Data::String(text))
                if ["yes", "no", "on", "off"].contains(&text.as_str()) =>
            {
                Some(format!(
                    "in YAML 1.2 `{text}` is text; write `true` or `false`"
                ))
            }
            (Scalar::Bool | Scalar::Flag | Scalar::Number | Scalar::Count, Data::String(text))
                if matches!(
                    crate::yaml::scalar::plain(text),
                    Data::Bool(_) | Data::Number(..)
                ) =>
            {
                Some("remove the quotes".to_owned())
            }
            _ => None,
        };
        self.error(node.spot, message, help);
    }

    fn mapping(&mut self, node: &Node, entries: &[(Key, Node)], table: &'static Mapping) {
        for (key, child) in entries {
            let known = table.keys.iter().find(|entry| entry.key == key.text);
            let shape = match (known, &table.others) {
                (
                    Some(Entry {
                        need: Need::Refused(message, help),
                        ..
                    }),
                    _,
                ) => {
                    self.error(key.spot, (*message).to_owned(), Some((*help).to_owned()));
                    continue;
                }
                (Some(entry), _) => {
                    if let Need::NoEffect(why) = entry.need {
                        let message = format!("`{}` has no effect here", entry.key);
                        let warning = Diagnostic::warning(self.file, key.spot, message);
                        self.findings.add(warning.help(why));
                    }
                    entry.shape
                }
                (None, Others::Refused) => {
                    self.unknown(key, table);
                    continue;
                }
                (None, Others::Ignored) => continue,
                (None, Others::Names(shape)) => {
                    if key.text.is_empty() {
                        self.error(key.spot, format!("a name in {} is empty", table.what), None);
                    }
                    shape
                }
                (None, Others::Ids(shape)) => {
                    if !legal_id(&key.text) {
                        self.illegal_id(key.spot, &key.text);
                    }
                    shape
                }
            };
            self.node(child, shape, Some(key));
        }
        for entry in table.keys {
            if matches!(entry.need, Need::Required) && node.get(entry.key).is_none() {
                let message = format!("{} needs the key `{}`", table.what, entry.key);
                let near = entries.iter().map(|(key, _)| key.text.as_str());
                let help = nearest(entry.key, near)
                    .map(|key| format!("`{key}` may be meant as `{}`", entry.key));
                self.error(node.spot, message, help);
            }
        }
        if let Some((message, help)) = table.wrong {
            self.error(node.spot, message.to_owned(), Some(help.to_owned()));
        }
        if matches!(table.others, Others::Ids(_)) && entries.is_empty() {
            self.error(node.spot, format!("{} is empty", table.what), None);
        }
    }

    fn unknown(&mut self, key: &Key, table: &Mapping) {
        let known = table
            .keys
            .iter()
            .filter(|entry| !matches!(entry.need, Need::Refused(..)));
        let known: Vec<&str> = known.map(|entry| entry.key).collect();
        let help = match nearest(&key.text, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("the keys are {}", list(&known, "and")),
        };
        let message = format!("unknown key `{}` in {}", shown(&key.text), table.what);
        self.error(key.spot, message, Some(help));
    }
}

fn table(
    node: &Node,
    tables: &'static [(&'static str, &'static Mapping)],
) -> Option<&'static Mapping> {
    let present = tables.iter().find(|(key, _)| node.get(key).is_some());
    present.or(tables.last()).map(|(_, table)| *table)
}

/// Whether `uses` has one of its forms.
fn uses(text: &str, what: Scalar) -> Result<(), (String, &'static str)> {
    let text = text.trim();
    let name = shown(text);
    let help = match what {
        Scalar::Workflow => {
            "write `./.github/workflows/FILE.yml` or `OWNER/REPO/.github/workflows/FILE.yml@REF`"
        }
        _ => "write `./PATH`, `OWNER/REPO@REF`, `OWNER/REPO/PATH@REF` or `docker://IMAGE`",
    };
    if text.contains("${{") {
        return Err(("`uses` cannot hold an expression".into(), help));
    }
    match (Uses::parse(text), what) {
        (Ok(Uses::Docker(_)), Scalar::Workflow) => {
            Err((format!("`{name}` is an image, not a workflow"), help))
        }
        (Ok(Uses::Local(local)), Scalar::Workflow) if local.raw().contains('@') => Err((
            format!("`{name}` is a local workflow and has no `@REF`"),
            "remove the `@` and what is behind it",
        )),
        (Ok(Uses::Repository(repository)), _)
            if [repository.owner(), repository.repo(), repository.git_ref()].contains(&"") =>
        {
            Err((format!("`{name}` names no action"), help))
        }
        (Ok(Uses::Docker(image)), _) if image.is_empty() => {
            Err((format!("`{name}` names no image"), help))
        }
        (Ok(_), _) => Ok(()),
        (Err(UsesError::NoRef), _) => Err((format!("`{name}` has no `@REF`"), help)),
        (Err(UsesError::NoRepository), _) => Err((format!("`{name}` names no repository"), help)),
    }
}

/// Whether a text is one expression and nothing else, seen from its ends.
fn is_expression(text: &str) -> bool {
    let text = text.trim();
    text.starts_with("${{") && text.ends_with("}}")
}

fn expected(shape: &Shape) -> String {
    let mut kinds: Vec<String> = Vec::new();
    match shape.scalar {
        Scalar::No | Scalar::Expression => {}
        Scalar::Action => kinds.push("an action".into()),
        Scalar::Workflow => kinds.push("a workflow".into()),
        Scalar::Count => kinds.push("a whole number of at least 1".into()),
        Scalar::Text | Scalar::Filled => kinds.push("text".into()),
        Scalar::Bool | Scalar::Flag | Scalar::LooseFlag => kinds.push("`true` or `false`".into()),
        Scalar::Number => kinds.push("a number of at least 0".into()),
        Scalar::Word(words) if words.len() > 9 => kinds.push("the name of an event".into()),
        Scalar::Word(words) => {
            let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            kinds.push(list(&words, "or"));
        }
        Scalar::Id => kinds.push("an id".into()),
        Scalar::Any => kinds.push("a value".into()),
    }
    if shape.list.is_some() {
        kinds.push("a list".into());
    }
    if !shape.mapping.is_empty() {
        kinds.push("a mapping".into());
    }
    if matches!(
        shape.scalar,
        Scalar::Expression | Scalar::Bool | Scalar::Number | Scalar::Count
    ) {
        kinds.push("one expression".into());
    }
    let kinds: Vec<&str> = kinds.iter().map(String::as_str).collect();
    list(&kinds, "or")
}

/// `a, b or c`.
fn list(words: &[&str], last: &str) -> String {
    match words {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., end] => format!("{} {last} {end}", first.join(", ")),
    }
}
