//! `format`: text with places, `{0}`, and braces that are doubled, `{{`.

use super::error::EvalError;
use super::eval::Evaluation;
use super::tree::Node;
use super::value::Value;

/// A piece of the text.
enum Piece<'t> {
    /// As it stands, braces made single.
    Text(&'t str),
    /// The argument of this number.
    Place(usize),
}

/// Calls it. Arguments that have no place are not evaluated, as in GitHub's runner.
pub(super) fn call(
    evaluation: &mut Evaluation<'_>,
    text: &Node,
    values: &[Node],
) -> Result<Value, EvalError> {
    let text = evaluation.value(text)?;
    let text = text.to_text();
    let pieces = Pieces {
        text: &text,
        rest: &text,
    };
    // All places are checked before anything is evaluated.
    for piece in pieces.clone() {
        match piece? {
            Piece::Place(number) if number >= values.len() => {
                let given = values.len();
                let message = format!("has a place {{{number}}}, but was given {given} values");
                return Err(invalid(message, &text));
            }
            _ => {}
        }
    }

    let mut texts: Vec<Option<String>> = vec![None; values.len()];
    let mut out = String::new();
    for piece in pieces {
        let piece = match piece? {
            Piece::Text(piece) => piece,
            Piece::Place(number) => match &mut texts[number] {
                Some(text) => text,
                unknown => {
                    let value = evaluation.value(&values[number])?;
                    unknown.insert(value.to_text().into_owned())
                }
            },
        };
        evaluation.budget.take(piece.len())?;
        out.push_str(piece);
    }
    Ok(out.into())
}

fn invalid(message: String, text: &str) -> EvalError {
    const SHOWN: usize = 200;
    EvalError::Format {
        message,
        text: text.chars().take(SHOWN).collect(),
    }
}

#[derive(Clone)]
struct Pieces<'t> {
    text: &'t str,
    rest: &'t str,
}

impl<'t> Iterator for Pieces<'t> {
    type Item = Result<Piece<'t>, EvalError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest;
        if rest.is_empty() {
            return None;
        }
        let Some(brace) = rest.find(['{', '}']) else {
            self.rest = "";
            return Some(Ok(Piece::Text(rest)));
        };
        let behind = &rest[brace..];
        if behind.starts_with("{{") || behind.starts_with("}}") {
            self.rest = &behind[2..];
            return Some(Ok(Piece::Text(&rest[..=brace])));
        }
        if brace > 0 {
            self.rest = behind;
            return Some(Ok(Piece::Text(&rest[..brace])));
        }
        Some(match place(behind) {
            Some((number, length)) => {
                self.rest = &behind[length..];
                Ok(Piece::Place(number))
            }
            None => Err(invalid(
                "takes a number in braces, `{0}`, and doubled braces otherwise, `{{`".to_owned(),
                self.text,
            )),
        })
    }
}

/// The number in `{12}`, and how long that is. GitHub's numbers are of one byte.
fn place(text: &str) -> Option<(usize, usize)> {
    let close = text.find('}')?;
    let digits = text.strip_prefix('{')?.get(..close - 1)?;
    let is_number = digits.bytes().all(|b| b.is_ascii_digit());
    let number: u8 = is_number.then(|| digits.parse().ok()).flatten()?;
    Some((number.into(), close + 1))
}
