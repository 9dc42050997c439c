//! `docs/configuration.md`.

use super::{cell, compare};
use std::fmt::Write as _;
use vmint::config::keys::{Absent, Key, Kind, OWN, TABLES, Table};

const HEAD: &str = "\
# Configuration

<!-- Made of crates/vmint/src/config/keys.rs by VMINT_WRITE_DOCS=1 cargo nextest run -p vmint-cli pages -->

vmint reads `vmint.toml` in the working directory or the nearest folder above it. Flags win over the environment (`VMINT_*`), the
environment over the file, the file over the defaults. An unknown key is an error that names the nearest known one.

`vmint config show` prints every setting with its value and where it comes from.

vmint refuses a file that belongs to another user or that other users can write. A file may name only what lies in its own folder. If
you trust a folder, `--trust DIR`, `VMINT_TRUST` or your [own settings](#your-own-settings) lift both rules.

```toml
accelerator = \"auto\"

[defaults]
image = \"web\"
memory = \"1G\"
net = \"nat\"

[images.web]
from = \"debian:12\"
packages = [\"nginx\"]
run = [\"systemctl enable nginx\"]

[pools.web]
image = \"web\"
min = 2
max = 8

[workflow]
image = \"web\"
timeout = \"2h\"
```

## Values

| type | how it is written |
|---|---|
| text, image, network, path | a string |
| list | a list of strings |
| number | a whole number |
| fraction | a number, whole or not |
| flag | `true` or `false` |
| size | a string with a unit, `\"512M\"` or `\"4G\"` (units of 1024), or a whole number of bytes |
| duration | a string with a unit, `\"500ms\"`, `\"10s\"`, `\"5m\"` or `\"1h\"`, or a whole number of seconds |
| one of … | one of these strings |
";

fn kind(kind: Kind) -> String {
    match kind {
        Kind::Text => "text".to_owned(),
        Kind::Texts => "list".to_owned(),
        Kind::Number => "number".to_owned(),
        Kind::Fraction => "fraction".to_owned(),
        Kind::Flag => "flag".to_owned(),
        Kind::Size => "size".to_owned(),
        Kind::Duration => "duration".to_owned(),
        Kind::Path => "path".to_owned(),
        Kind::Image => "image".to_owned(),
        Kind::Network => "network".to_owned(),
        Kind::Choice(words) => format!("one of `{}`", words.join("`, `")),
        Kind::Table => "table".to_owned(),
    }
}

fn row(page: &mut String, key: &Key) {
    let absent = match key.absent {
        Absent::Value(value) => format!("`{value}`"),
        Absent::Words(words) => words.to_owned(),
        Absent::Required => "required".to_owned(),
    };
    let example = match key.example {
        "" => String::new(),
        example => format!("`{example}`"),
    };
    let cells = [
        format!("`{}`", key.name),
        kind(key.kind),
        absent,
        example,
        key.about.to_owned(),
    ];
    let cells = cells.map(|text| cell(&text));
    writeln!(page, "| {} |", cells.join(" | ")).unwrap();
}

fn section(page: &mut String, title: &str, table: &Table) {
    writeln!(page, "\n## {title}\n\n{}", table.about).unwrap();
    let keys: Vec<_> = table
        .keys
        .iter()
        .filter(|key| key.kind != Kind::Table)
        .collect();
    if keys.is_empty() {
        return;
    }
    page.push_str("\n| key | type | default | example | meaning |\n|---|---|---|---|---|\n");
    for key in keys {
        row(page, key);
    }
}

fn page() -> String {
    let mut page = HEAD.to_owned();
    for table in TABLES {
        let title = match table.name {
            "" => "Top level".to_owned(),
            name => format!("`[{name}]`"),
        };
        section(&mut page, &title, table);
    }
    section(&mut page, "Your own settings", &OWN);
    page.push_str(
        "\nThey are in `~/.config/vmint/config.toml` (`XDG_CONFIG_HOME`), and have this key only.\n\n## Environment\n\nA variable that is \
         empty counts as unset. Its value is written as in the file, without quotes.\n\n| variable | sets |\n|---|---|\n",
    );
    for table in TABLES.iter().chain([&&OWN]) {
        for key in table.keys {
            let Some(variable) = key.variable else {
                continue;
            };
            let sets = match (table.name, variable) {
                (_, vmint::config::TRUST_VARIABLE) => {
                    "`trust` of your own settings; several folders, separated by colons".to_owned()
                }
                (_, vmint::config::RUN_AS) => {
                    "the user of QEMU's processes, like `--run-as`".to_owned()
                }
                ("", _) => format!("`{}`", key.name),
                (table, _) => format!("`{table}.{}`", key.name),
            };
            writeln!(page, "| `{variable}` | {sets} |").unwrap();
        }
    }
    page.push_str("| `VMINT_HOME` | the folder in which vmint keeps its state, `~/.local/state/vmint` by default |\n");
    page.push_str("| `VMINT_LOG` | how much of its way a command logs on its standard error: `error`, `warn`, `info`, `debug` or `trace`; see [troubleshooting](troubleshooting.md#first-steps) |\n");
    page
}

#[test]
fn the_configuration_page_is_made_of_the_keys() {
    compare("configuration.md", &page());
}
