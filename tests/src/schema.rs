//! What commands print as JSON against `docs/vmint.schema.json`, on whatever the tests make them print.

use crate::call::Outcome;
use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::Value;
use std::collections::HashMap;
use std::ffi::OsString;
use std::sync::LazyLock;

/// The document, ready to be held against values.
struct Document {
    schemas: Schemas,
    /// What a command prints, by its name.
    answers: HashMap<String, SchemaIndex>,
    /// What any command prints that fails.
    error: SchemaIndex,
}

static DOCUMENT: LazyLock<Document> = LazyLock::new(|| {
    const NAME: &str = "vmint.schema.json";
    let document: Value =
        serde_json::from_str(include_str!("vmint.schema.json")).expect("the schema is JSON");
    let commands = document["properties"].as_object().expect("an answer each");
    let names: Vec<_> = commands.keys().cloned().collect();
    let (mut compiler, mut schemas) = (Compiler::new(), Schemas::new());
    let added = compiler.add_resource(NAME, document);
    added.expect("it is the only one");
    let mut compile = |place: &str| {
        let place = format!("{NAME}#{place}");
        let compiled = compiler.compile(&place, &mut schemas);
        compiled.expect("the schema is one")
    };
    let error = compile("/$defs/ErrorBody");
    let answer = |name: String| {
        let place = format!("/properties/{}", name.replace(' ', "%20"));
        let answer = compile(&place);
        (name, answer)
    };
    Document {
        answers: names.into_iter().map(answer).collect(),
        error,
        schemas,
    }
});

impl Document {
    /// The answer of the command that was called: the longest that its words name.
    fn answer(&self, words: &[OsString]) -> Option<SchemaIndex> {
        let words: Vec<_> = words.iter().filter_map(|word| word.to_str()).collect();
        let first = words.first().copied()?;
        for (command, option) in [
            ("doctor", "--repair"),
            ("logs", "--network"),
            ("logs", "--trace"),
        ] {
            if first == command && words.contains(&option) {
                return self.answers.get(&format!("{command} {option}")).copied();
            }
        }
        if words.contains(&"ndjson") {
            let name = format!("{} --format ndjson", words[..words.len().min(2)].join(" "));
            return self.answers.get(&name).copied();
        }
        let named = (1..=words.len().min(2)).rev();
        let mut answers = named.filter_map(|n| self.answers.get(&words[..n].join(" ")));
        answers.next().copied()
    }
}

/// Fails if `value`, which was printed by `outcome`'s command, is neither an answer of that nor an error.
#[track_caller]
pub fn holds(outcome: &Outcome, value: &Value) {
    let document = &*DOCUMENT;
    let Some(answer) = document.answer(&outcome.words) else {
        return;
    };
    let schemas = &document.schemas;
    let Err(e) = schemas.validate(value, answer) else {
        return;
    };
    let is_error = schemas.validate(value, document.error).is_ok();
    assert!(is_error, "not as the schema says: {e:#}\n{outcome}");
}
