//! Fields of a file, evaluated when their time has come.

use super::guest_files;
use super::instance::{Instance, Trouble};
use crate::expr::{self, EvalError, Scope, Value};
use crate::spec::{Map, Text};
use indexmap::IndexMap;

impl Instance<'_> {
    /// Evaluates something, with the digests of files that it asks for.
    pub(super) async fn evaluate<T>(
        &mut self,
        scope: &mut Scope,
        what: impl Fn(&Scope) -> Result<T, EvalError>,
    ) -> Result<T, Trouble> {
        loop {
            match what(scope) {
                Err(EvalError::HashPending(patterns)) => {
                    let digest = guest_files::hash(self, &patterns).await?;
                    scope.remember_hash(patterns, digest);
                }
                Err(error) => return Err(Trouble::Step(error.to_string())),
                Ok(value) => return Ok(value),
            }
        }
    }

    /// A text with its expressions replaced.
    pub(super) async fn text(&mut self, scope: &mut Scope, text: &Text) -> Result<String, Trouble> {
        self.evaluate(scope, |scope| expr::interpolate(&text.text, scope))
            .await
    }

    /// The same of a field that may be absent.
    pub(super) async fn optional(
        &mut self,
        scope: &mut Scope,
        text: Option<&Text>,
    ) -> Result<Option<String>, Trouble> {
        match text {
            None => Ok(None),
            Some(text) => self.text(scope, text).await.map(Some),
        }
    }

    /// A mapping with its expressions replaced.
    pub(super) async fn map(
        &mut self,
        scope: &mut Scope,
        map: &Map,
    ) -> Result<IndexMap<String, String>, Trouble> {
        let values = self
            .evaluate(scope, |scope| expr::evaluate_map(map, scope))
            .await?;
        Ok(texts(values))
    }

    /// Whether a step is to run.
    pub(super) async fn condition(
        &mut self,
        scope: &mut Scope,
        condition: Option<&str>,
    ) -> Result<bool, Trouble> {
        self.evaluate(scope, |scope| expr::condition(condition, scope))
            .await
    }

    /// Whether a `pre` or a `post` is to run.
    pub(super) async fn hook(
        &mut self,
        scope: &mut Scope,
        condition: Option<&Text>,
    ) -> Result<bool, Trouble> {
        let condition = condition.map(|text| text.text.as_str());
        self.evaluate(scope, |scope| expr::hook_condition(condition, scope))
            .await
    }

    /// A field that is true or false; false when absent.
    pub(super) async fn flag(
        &mut self,
        scope: &mut Scope,
        text: Option<&Text>,
        field: &str,
    ) -> Result<bool, Trouble> {
        let Some(text) = text else { return Ok(false) };
        let value = self
            .evaluate(scope, |scope| expr::evaluate_text(&text.text, scope))
            .await?;
        truth(&value, field).map_err(Trouble::Step)
    }
}

/// A value of a field that wants true or false.
pub(super) fn truth(value: &Value, field: &str) -> Result<bool, String> {
    match value {
        Value::Bool(truth) => Ok(*truth),
        Value::String(text) if text.eq_ignore_ascii_case("true") => Ok(true),
        Value::String(text) if text.is_empty() || text.eq_ignore_ascii_case("false") => Ok(false),
        Value::Null => Ok(false),
        other => Err(format!(
            "`{field}` is {:?}; it must be true or false",
            other.to_text()
        )),
    }
}

/// The values of a mapping as text.
pub(super) fn texts(values: IndexMap<String, Value>) -> IndexMap<String, String> {
    let texts = values.into_iter();
    texts
        .map(|(name, value)| (name, value.to_text().into_owned()))
        .collect()
}
