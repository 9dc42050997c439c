//! What commands print as JSON, as a JSON Schema: `docs/vmint.schema.json`.
//!
//! The document is made of the types that are printed, and the test compares it with the file: what scripts see changes
//! only where a reader of the change sees it, too. Of the document's `properties` each is a command's answer; `$defs` has
//! the things that answers consist of.
//!
//! * [`foreign`], [`answers`], [`run`]: types of other crates, once more; [`conform`]: that values of the real ones are of
//!   that form.

pub(crate) mod answers;
mod conform;
pub(crate) mod foreign;
pub(crate) mod run;

use super::workflow::{Fetched, WorkflowEvent};
use super::{care, images, pools, templates};
use crate::args::Cli;
use crate::commands::workflow::TraceView;
#[cfg(feature = "top")]
use crate::top::snapshot as top;
use crate::view::{Each, Machine, Removed, Snapshot, StoppedMachine};
use clap::CommandFactory;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::fs;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/vmint.schema.json");
/// Set, the file is written anew.
const WRITE: &str = "VMINT_WRITE_SCHEMA";

const DESCRIPTION: &str = "Each property is what the command of its name prints: of `vmint ls`, properties/ls. A command \
    that fails prints an ErrorBody. One that acts on several things that were named prints a list with an entry \
    for each: what became of it, or a Failed. Of a command marked `lines`, each line is a value. Later versions may print \
    more properties and more words where there is an enum.";

/// One value, or one on each line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Printed {
    Whole,
    Lines,
}
use Printed::{Lines, Whole};

type Answer = (&'static str, Printed, fn(&mut SchemaGenerator) -> Schema);

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

const ANSWERS: &[Answer] = &[
    ("bench", Whole, of::<answers::Bench>),
    ("config show", Whole, of::<Vec<answers::Setting>>),
    ("create", Whole, of::<Machine>),
    ("doctor", Whole, of::<Vec<answers::Check>>),
    ("doctor --repair", Whole, of::<answers::Repaired>),
    ("events", Lines, of::<care::EventView>),
    ("fork", Whole, of::<Vec<Machine>>),
    ("gc", Whole, of::<answers::Garbage>),
    ("image build", Whole, of::<images::View>),
    ("image import", Whole, of::<images::View>),
    ("image inspect", Whole, of::<images::View>),
    ("image ls", Whole, of::<Vec<Each<images::View>>>),
    ("image prune", Whole, of::<images::PrunedView>),
    ("image rm", Whole, of::<Vec<Each<Removed>>>),
    ("info", Whole, of::<Machine>),
    ("lease acquire", Whole, of::<pools::LeaseView>),
    ("lease ls", Whole, of::<Vec<pools::LeaseView>>),
    ("lease release", Whole, of::<Vec<Each<pools::LeaseView>>>),
    ("lease renew", Whole, of::<pools::LeaseView>),
    ("logs --network", Lines, of::<answers::NetworkEntry>),
    ("logs --trace", Lines, of::<TraceView>),
    ("ls", Whole, of::<Vec<Machine>>),
    ("pause", Whole, of::<Vec<Each<Machine>>>),
    ("pool create", Whole, of::<pools::PoolView>),
    ("pool drain", Whole, of::<pools::PoolView>),
    ("pool ls", Whole, of::<Vec<pools::PoolView>>),
    ("pool resize", Whole, of::<pools::PoolView>),
    ("pool rm", Whole, of::<Vec<Each<Removed>>>),
    ("pool status", Whole, of::<pools::StatusView>),
    // What QEMU answers.
    ("qmp", Whole, of::<Value>),
    ("reset", Whole, of::<Machine>),
    ("restart", Whole, of::<Vec<Each<Machine>>>),
    ("restore", Whole, of::<Machine>),
    ("resume", Whole, of::<Vec<Each<Machine>>>),
    ("rm", Whole, of::<Vec<Each<Removed>>>),
    ("snapshot create", Whole, of::<Snapshot>),
    ("snapshot ls", Whole, of::<Vec<Snapshot>>),
    ("snapshot rm", Whole, of::<Vec<Each<Removed>>>),
    ("start", Whole, of::<Vec<Each<Machine>>>),
    ("stop", Whole, of::<Vec<Each<StoppedMachine>>>),
    ("template build", Whole, of::<templates::View>),
    ("template ls", Whole, of::<Vec<templates::View>>),
    ("template prune", Whole, of::<templates::PrunedView>),
    ("template rm", Whole, of::<Vec<Each<Removed>>>),
    (
        "template verify",
        Whole,
        of::<Vec<Each<templates::Verified>>>,
    ),
    #[cfg(feature = "top")]
    ("top", Whole, of::<top::Snapshot>),
    ("wait", Whole, of::<Machine>),
    ("workflow check", Whole, of::<Vec<answers::Diagnostic>>),
    ("workflow fetch-actions", Whole, of::<Vec<Fetched>>),
    ("workflow ls", Whole, of::<Vec<run::Run>>),
    ("workflow retry", Whole, of::<run::Run>),
    (
        "workflow retry --format ndjson",
        Lines,
        of::<WorkflowEvent<'static>>,
    ),
    ("workflow rm", Whole, of::<Vec<Each<Removed>>>),
    ("workflow run", Whole, of::<run::Run>),
    (
        "workflow run --format ndjson",
        Lines,
        of::<WorkflowEvent<'static>>,
    ),
    ("workflow show", Whole, of::<run::Run>),
];

/// Commands that print no JSON: what they print is another program's, or nothing.
const SILENT: &[&str] = &[
    "completions",
    "cp",
    "exec",
    "logs",
    "man",
    "pool tend",
    "run",
    "shell",
    "with",
    "workflow shell",
];

/// The document.
fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let mut generator = settings.into_generator();
    let mut properties = Map::new();
    for (command, printed, answer) in ANSWERS {
        let mut schema = answer(&mut generator);
        if *printed == Lines {
            schema.insert("$comment".to_owned(), "lines".into());
        }
        properties.insert((*command).to_owned(), schema.to_value());
    }
    generator.subschema_for::<foreign::ErrorBody>();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What vmint prints with --format json",
        "description": DESCRIPTION,
        "type": "object",
        "properties": properties,
        "$defs": generator.take_definitions(true),
    })
}

/// The same with its keys in order, whether or not some other crate has serde_json keep theirs.
fn sorted(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(sorted).collect(),
        Value::Object(map) => {
            let mut entries: Vec<_> = map.into_iter().collect();
            entries.sort_by(|(a, _), (b, _)| a.cmp(b));
            let sorted = entries.into_iter().map(|(key, value)| (key, sorted(value)));
            Value::Object(sorted.collect())
        }
        other => other,
    }
}

#[test]
#[cfg_attr(not(feature = "top"), ignore = "documents have all commands")]
fn the_schema_is_the_one_in_docs() {
    let made = format!("{:#}\n", sorted(document()));
    if std::env::var_os(WRITE).is_some() {
        fs::write(FILE, &made).unwrap();
    }
    let kept = fs::read_to_string(FILE).unwrap_or_default();
    let differs = made.lines().zip(kept.lines()).position(|(a, b)| a != b);
    assert!(
        made == kept,
        "what commands print as JSON is not what docs/vmint.schema.json says, from line {} on. If that is meant, write \
         it anew:\n  {WRITE}=1 cargo nextest run -p vmint-cli schema",
        differs.unwrap_or_else(|| made.lines().count().min(kept.lines().count())) + 1
    );
}

#[test]
fn every_command_is_in_the_schema_or_prints_no_json() {
    fn leaves(command: &clap::Command, above: &str, found: &mut BTreeSet<String>) {
        for sub in command.get_subcommands() {
            let name = format!("{above}{}", sub.get_name());
            if sub.has_subcommands() {
                leaves(sub, &format!("{name} "), found);
            } else {
                found.insert(name);
            }
        }
    }
    let mut commands = BTreeSet::new();
    leaves(&Cli::command(), "", &mut commands);
    let told = ANSWERS.iter().map(|(command, ..)| *command);
    let told: BTreeSet<_> = told
        .filter(|command| !command.contains(" --"))
        .chain(SILENT.iter().copied())
        .map(str::to_owned)
        .collect();
    assert_eq!(told, commands);
}
