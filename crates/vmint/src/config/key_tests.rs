//! What [`keys`] says of each key against what the parser does with it.

use super::keys::{Absent, Key, Kind, TABLES, TOP, Table};
use super::{Config, Source};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;

/// A file that sets one key, and what that needs beside it.
fn file(table: &Table, key: &Key, value: &str) -> String {
    let line = format!("{} = {value}\n", key.name);
    let beside = match (table.name, key.name) {
        ("images.NAME", "from" | "import") => "",
        ("images.NAME", "modules") => "from = \"debian:12\"\nkernel = \"vmlinuz\"\n",
        ("images.NAME", _) => "from = \"debian:12\"\n",
        ("pools.NAME", name) if name != "image" => "image = \"tiny\"\n",
        _ => "",
    };
    let name = table
        .name
        .replace("NAME", "it")
        .replace("ACTION", "\"o/r\"");
    let header = if name.is_empty() {
        String::new()
    } else {
        format!("[{name}]\n")
    };
    format!("{header}{beside}{line}")
}

fn load(text: &str, env: impl Fn(&str) -> Option<OsString>) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("vmint.toml"), text).unwrap();
    Config::load(folder.path(), env).map_err(|e| e.to_string())
}

fn keys() -> impl Iterator<Item = (&'static Table, &'static Key)> {
    let keys = TABLES
        .iter()
        .flat_map(|table| table.keys.iter().map(move |key| (*table, key)));
    keys.filter(|(_, key)| key.kind != Kind::Table)
}

#[test]
fn each_example_is_accepted_and_is_not_what_holds_without_it() {
    let mut seen = 0;
    for (table, key) in keys() {
        let loaded = load(&file(table, key, key.example), |_| None);
        if key.example.is_empty() {
            // Known, so that its refusal has a reason.
            let text = format!("{} = \"x\"\n", key.name);
            let why = load(&text, |_| None).expect_err(key.name);
            assert!(why.contains("only"), "{why}");
            continue;
        }
        let config = loaded.unwrap_or_else(|e| panic!("{} {}: {e}", table.name, key.name));
        // A replaced action is one setting, whatever its table holds.
        let name = if table.name.ends_with("ACTION") {
            "o/r"
        } else {
            key.name
        };
        let given =
            |s: &super::Setting| s.key.ends_with(name) && matches!(s.source, Source::File { .. });
        let found = config.settings.iter().any(given);
        assert!(found, "{} {} sets nothing", table.name, key.name);
        assert_ne!(key.absent, Absent::Value(key.example), "{}", key.name);
        seen += 1;
    }
    assert!(seen > 40, "only {seen} keys");
}

#[test]
fn each_choice_is_accepted_and_no_other() {
    for (table, key) in keys() {
        let Kind::Choice(words) = key.kind else {
            continue;
        };
        let text = |word: &str| file(table, key, &format!("{word:?}"));
        for word in words {
            load(&text(word), |_| None).unwrap_or_else(|e| panic!("{} {word}: {e}", key.name));
        }
        load(&text("other"), |_| None).expect_err(key.name);
    }
}

#[test]
fn each_default_is_the_parser_s() {
    let config = load("[pools.it]\nimage = \"tiny\"\n", |_| None).unwrap();
    for (table, key) in keys() {
        let Absent::Value(value) = key.absent else {
            continue;
        };
        let name = match table.name {
            "" => key.name.to_owned(),
            table => format!("{}.{}", table.replace("NAME", "it"), key.name),
        };
        let setting = config.settings.iter().find(|s| s.key == name);
        let setting = setting.unwrap_or_else(|| panic!("{name} is not a setting"));
        let number = |text: &str| text.parse::<f64>().ok();
        let shown = setting.value.to_string();
        let same = shown == value || number(&shown).is_some() && number(&shown) == number(value);
        assert!(same, "{name} is {shown} and not {value}");
    }
}

#[test]
fn the_variables_are_those_that_the_parser_reads_and_they_win() {
    let asked = RefCell::new(BTreeSet::new());
    let env = |name: &str| {
        asked.borrow_mut().insert(name.to_owned());
        None
    };
    Config::load(Path::new("/"), env).unwrap();
    let named: BTreeSet<_> = keys().filter_map(|(_, key)| key.variable).collect();
    for variable in &named {
        // Read where the hypervisor is started.
        let elsewhere = *variable == super::RUN_AS;
        assert!(
            elsewhere || asked.borrow().contains(*variable),
            "nothing reads {variable}"
        );
    }
    for variable in asked
        .borrow()
        .iter()
        .filter(|name| name.starts_with("VMINT_"))
    {
        assert!(named.contains(&**variable), "{variable} is of no key");
    }
    for (table, key) in keys() {
        let Some(variable) = key.variable.filter(|_| !key.example.is_empty()) else {
            continue;
        };
        let value = key.example.trim_matches('"');
        let config = load("", |name| (name == variable).then(|| value.into())).unwrap();
        let setting = config
            .settings
            .iter()
            .find(|s| s.source == Source::Environment { name: variable });
        let setting = setting.unwrap_or_else(|| panic!("{variable} sets nothing"));
        assert!(
            setting.key.ends_with(key.name),
            "{variable} sets {} and not {} {}",
            setting.key,
            table.name,
            key.name
        );
    }
}

#[test]
fn every_table_that_a_key_names_is_described() {
    let described: BTreeSet<_> = TABLES
        .iter()
        .map(|table| table.name.split('.').collect::<Vec<_>>())
        .collect();
    for table in TABLES {
        for key in table.keys.iter().filter(|key| key.kind == Kind::Table) {
            let mut path: Vec<_> = table
                .name
                .split('.')
                .filter(|part| !part.is_empty())
                .collect();
            path.push(key.name);
            assert!(
                described.iter().any(|known| known.starts_with(&path)),
                "[{}]",
                path.join(".")
            );
        }
    }
    assert!(TOP.has("workflow"));
}
