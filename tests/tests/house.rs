//! The house: which crate may import which, as ARCHITECTURE.md maps it. A crate imports only crates on floors below its
//! own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use toml::{Table, Value};

/// On which floor each crate lives. A new crate gets a line here and one in ARCHITECTURE.md.
const FLOORS: [(&str, i32); 25] = [
    ("vmint-cli", 6),
    ("vmint-server", 6),
    ("vmint-python", 5),
    ("vmint-bench", 5),
    ("vmint", 4),
    ("vmint-workflow", 3),
    ("vmint-pool", 3),
    ("vmint-runner", 3),
    ("vmint-incus", 2),
    ("vmint-orbstack", 2),
    ("vmint-qemu", 2),
    ("vmint-image", 2),
    ("vmint-store", 1),
    ("vmint-model", 0),
    ("vmint-protocol", 0),
    ("vmint-macros", 1),
    ("vmint-spawn", 0),
    ("vmint-confine", 1),
    ("vmint-egress", 1),
    ("vmint-files", 2),
    ("vmint-tree", 1),
    ("vmint-syntax", 0),
    // The cellar: messages are written on every floor.
    ("vmint-text", -1),
    // The guest's program stands beside the house.
    (AGENT, 0),
    (TESTS, 7),
];
const AGENT: &str = "vmint-agent";
const TESTS: &str = "vmint-tests";

/// A file is a room; a longer one is several.
const LONGEST: usize = 600;
/// Tests are read one by one.
const LONGEST_OF_TESTS: usize = 900;
/// Longer: a table.
const LONGER: [&str; 1] = ["crates/vmint-syntax/src/load/workflow_table.rs"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ lies in the repository")
        .to_owned()
}

struct Crate {
    name: String,
    folder: PathBuf,
    /// All crates of the workspace that it imports, with the section that says so.
    imports: Vec<(String, String)>,
}

fn read(folder: &Path) -> Crate {
    let path = folder.join("Cargo.toml");
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let manifest: Table = text
        .parse()
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let name = manifest["package"]["name"]
        .as_str()
        .expect("a crate has a name")
        .to_owned();
    let mut imports = Vec::new();
    gather(&manifest, "", &mut imports);
    Crate {
        name,
        folder: folder.to_owned(),
        imports,
    }
}

/// Dependencies stand under three names, and may stand once more for each target.
fn gather(table: &Table, place: &str, imports: &mut Vec<(String, String)>) {
    for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
        let Some(Value::Table(dependencies)) = table.get(section) else {
            continue;
        };
        for (key, value) in dependencies {
            let package = value.get("package").and_then(Value::as_str).unwrap_or(key);
            if package.starts_with("vmint") {
                imports.push((package.to_owned(), format!("{place}{section}")));
            }
        }
    }
    if let Some(Value::Table(targets)) = table.get("target") {
        for (target, table) in targets {
            gather(
                table.as_table().expect("a table"),
                &format!("target.{target}."),
                imports,
            );
        }
    }
}

fn crates() -> Vec<Crate> {
    let root = root();
    let folders = fs::read_dir(root.join("crates"))
        .expect("crates/ is there")
        .map(|entry| entry.unwrap().path());
    let mut all: Vec<_> = folders
        .filter(|path| path.join("Cargo.toml").exists())
        .map(|path| read(&path))
        .collect();
    all.push(read(&root.join("tests")));
    assert!(
        all.len() > 8,
        "only {} crates were found below {}",
        all.len(),
        root.display()
    );
    all
}

fn floors() -> BTreeMap<&'static str, i32> {
    let floors = BTreeMap::from(FLOORS);
    assert_eq!(floors.len(), FLOORS.len(), "a crate is on two floors");
    floors
}

#[test]
fn every_crate_is_on_the_map_and_lies_in_the_folder_of_its_name() {
    let floors = floors();
    for Crate { name, folder, .. } in crates() {
        assert!(
            floors.contains_key(name.as_str()),
            "{name} is on no floor: put it into FLOORS and into ARCHITECTURE.md"
        );
        if name != TESTS {
            assert_eq!(folder.file_name().unwrap().to_str(), Some(name.as_str()));
        }
    }
}

#[test]
fn the_architecture_tells_of_every_crate_and_its_floor() {
    let text =
        fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md is there");
    let floors = floors();
    for Crate { name, .. } in crates().iter().filter(|c| c.name != TESTS) {
        let cell = format!("`{name}`");
        let line = text.lines().find(|line| {
            line.split('|')
                .nth(2)
                .is_some_and(|crates| crates.contains(&cell))
        });
        let line =
            line.unwrap_or_else(|| panic!("{name} is missing in the table of ARCHITECTURE.md"));
        let floor = if name == AGENT {
            "–".to_owned()
        } else {
            floors[name.as_str()].to_string()
        };
        assert_eq!(
            line.split('|').nth(1).map(str::trim),
            Some(floor.as_str()),
            "{line}"
        );
    }
}

#[test]
fn a_crate_imports_only_crates_on_floors_below_its_own() {
    let floors = floors();
    let mut wrong = Vec::new();
    for Crate { name, imports, .. } in crates() {
        for (imported, section) in imports {
            let Some(floor) = floors.get(imported.as_str()) else {
                wrong.push(format!(
                    "{name} imports {imported} ({section}), which is on no floor"
                ));
                continue;
            };
            if *floor >= floors[name.as_str()] && name != AGENT {
                wrong.push(format!(
                    "{name} imports {imported} ({section}), which is not below it"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What turns a pool's questions into answers needs no clock, no file and no database: it is what is simulated.
#[test]
fn pools_import_the_words_and_nothing_else_of_the_house() {
    let pool = crates().into_iter().find(|c| c.name == "vmint-pool");
    let imports = pool.expect("pools have a crate").imports;
    let shipped = imports
        .iter()
        .filter(|(_, section)| section == "dependencies");
    let shipped: Vec<_> = shipped.map(|(name, _)| name.as_str()).collect();
    assert_eq!(shipped, ["vmint-model"]);
}

/// What turns a workflow's text into values needs nothing of the house but two rules about text, and no runtime: it is what is fuzzed.
#[test]
fn the_language_of_workflows_imports_no_runtime_and_nothing_else_of_the_house() {
    let all = crates();
    let syntax = all.iter().find(|c| c.name == "vmint-syntax");
    let syntax = syntax.expect("the language has a crate");
    let imports: BTreeSet<_> = syntax
        .imports
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(imports, BTreeSet::from(["vmint-text"]));
    let text = fs::read_to_string(syntax.folder.join("Cargo.toml")).unwrap();
    let manifest: Table = text.parse().unwrap();
    let dependencies = manifest["dependencies"].as_table().expect("a table");
    for impure in ["tokio", "rustix", "libc", "tempfile"] {
        assert!(!dependencies.contains_key(impure), "{impure}");
    }
    let source = shipped(&syntax.folder.join("src"));
    assert!(source.len() > 400_000, "{} bytes were read", source.len());
    for impure in [
        "::now()",
        "fs::",
        "File::open",
        "env::var",
        "Command::new",
        "thread::",
        "TcpStream",
    ] {
        let line = source.lines().find(|line| line.contains(impure));
        assert_eq!(line, None, "{impure}");
    }
}

/// The Rust below a folder without its tests.
fn shipped(folder: &Path) -> String {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let kept = entries.filter(|path| path.file_stem().is_some_and(|stem| stem != "tests"));
    let text = |path: PathBuf| {
        if path.is_dir() {
            return shipped(&path);
        }
        let text = source(&path);
        let end = text.find("#[cfg(test)]\nmod tests {");
        text[..end.unwrap_or(text.len())].to_owned()
    };
    kept.map(text).collect()
}

/// A dependency is named in some path, attribute or macro call of its crate.
#[test]
fn what_a_crate_depends_on_it_uses() {
    let (mut unused, mut seen) = (Vec::new(), 0);
    let mut folders: Vec<_> = crates().into_iter().map(|c| c.folder).collect();
    folders.push(root().join("python"));
    for folder in folders {
        let text = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        let manifest: Table = text.parse().unwrap();
        for (section, places) in [
            ("dependencies", &["src", "build.rs"][..]),
            ("dev-dependencies", &["src", "tests", "examples", "benches"]),
            ("build-dependencies", &["build.rs"]),
        ] {
            let Some(Value::Table(dependencies)) = manifest.get(section) else {
                continue;
            };
            let source: String = places
                .iter()
                .map(|place| source(&folder.join(place)))
                .collect();
            for name in dependencies.keys() {
                seen += 1;
                let name = name.replace('-', "_");
                let is_used = uses(&source, &name);
                if !is_used {
                    unused.push(format!("{}: {name} in {section}", folder.display()));
                }
            }
        }
    }
    assert!(seen > 100, "only {seen} dependencies were found");
    assert!(unused.is_empty(), "{unused:#?}");
}

/// All packages that a package is built of, as cargo decides for it alone, without its tests.
fn built_of(package: &str, options: &[&str]) -> BTreeSet<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "tree",
            "--offline",
            "--locked",
            "--prefix",
            "none",
            "-f",
            "{p}",
        ])
        .args(["--edges", "normal", "-p", package])
        .args(options)
        .current_dir(root())
        .output()
        .expect("cargo can be started");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let names = text.lines().filter_map(|line| line.split(' ').next());
    names.map(str::to_owned).collect()
}

/// A registry's client and a screen are a third of the program's packages, and serve one command each.
#[test]
fn what_serves_one_command_is_in_the_program_and_not_in_what_links_the_library() {
    const HEAVY: [&str; 2] = ["oci-client", "ratatui"];
    let has = |packages: &BTreeSet<String>| HEAVY.map(|name| packages.contains(name));
    let program = built_of("vmint-cli", &[]);
    assert_eq!(has(&program), [true, true]);
    let without = &["--no-default-features"];
    for (package, options) in [
        ("vmint-python", &[][..]),
        ("vmint", without),
        ("vmint-cli", without),
        ("vmint-bench", &[]),
    ] {
        let packages = built_of(package, options);
        assert!(packages.contains("vmint-model"), "{package}: {packages:?}");
        assert_eq!(has(&packages), [false, false], "{package} {options:?}");
        let spared = program.difference(&packages).count();
        assert!(spared > 80, "{package} {options:?} spares {spared}");
    }
    // Whoever asks for the crate and says no more has all of it but the screen.
    assert_eq!(has(&built_of("vmint", &[])), [true, false]);
}

/// All Rust in a file or folder.
fn source(path: &Path) -> String {
    if path.is_dir() {
        let entries = fs::read_dir(path).unwrap().flatten();
        return entries.map(|entry| source(&entry.path())).collect();
    }
    if path.is_file() && path.extension().is_some_and(|e| e == "rs") {
        return fs::read_to_string(path).unwrap();
    }
    String::new()
}

/// Whether a crate is named: `name::`, `use name`, `extern crate name`.
fn uses(source: &str, name: &str) -> bool {
    source.match_indices(name).any(|(at, _)| {
        let (before, after) = (&source[..at], &source[at + name.len()..]);
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let begins = !before.ends_with(is_word);
        let is_path = after.starts_with("::");
        let is_import = before.ends_with("use ") && after.starts_with([';', ' ']);
        begins && (is_path || is_import)
    })
}

#[test]
fn the_agent_imports_what_both_sides_share_alone_and_no_crate_imports_the_agent() {
    for Crate { name, imports, .. } in crates() {
        let imported: BTreeSet<_> = imports.iter().map(|(name, _)| name.as_str()).collect();
        if name == AGENT {
            // Its tests hold it against the host's side.
            let shipped = imports
                .iter()
                .filter(|(_, s)| !s.ends_with("dev-dependencies"));
            let shipped: BTreeSet<_> = shipped.map(|(name, _)| name.as_str()).collect();
            assert_eq!(shipped, BTreeSet::from(["vmint-protocol", "vmint-tree"]));
        }
        assert!(
            !imported.contains(AGENT),
            "{name} imports the guest's program"
        );
    }
}

/// They call the program as a user does, and so need nothing of it.
#[test]
fn the_black_box_tests_import_nothing_of_what_they_test() {
    let tests = crates()
        .into_iter()
        .find(|c| c.name == TESTS)
        .expect("tests/ is a crate");
    assert_eq!(tests.imports, []);
}

/// clippy.toml names the functions that start a program past `vmint_spawn`. Which crates it holds for, each of them says.
#[test]
fn every_crate_forbids_to_start_programs_that_inherit_what_is_open() {
    let line = "#![cfg_attr(not(test), deny(clippy::disallowed_methods))]";
    let mut without = Vec::new();
    let mut folders: Vec<_> = crates()
        .into_iter()
        .filter(|c| c.name != TESTS && c.name != AGENT)
        .map(|c| c.folder)
        .collect();
    folders.push(root().join("python"));
    for folder in folders {
        for name in ["lib.rs", "main.rs"] {
            let path = folder.join("src").join(name);
            let text = fs::read_to_string(&path).unwrap_or_else(|_| line.to_owned());
            if !text.lines().any(|l| l == line) {
                without.push(path);
            }
        }
    }
    assert!(without.is_empty(), "without {line}: {without:#?}");
    let rules = fs::read_to_string(root().join("clippy.toml")).unwrap();
    for kind in ["std", "tokio"] {
        assert!(rules.contains(&format!("\"{kind}::process::Command::new\"")));
    }
}

#[test]
fn no_file_is_longer_than_a_room() {
    let mut folders: Vec<_> = crates().into_iter().map(|c| c.folder).collect();
    let (mut long, mut seen) = (Vec::new(), 0);
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
        {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                seen += 1;
                let lines = fs::read_to_string(&path).unwrap().lines().count();
                let is_source = path.components().any(|part| part.as_os_str() == "src");
                let is_long = LONGER.iter().any(|longer| path.ends_with(longer));
                let most = if is_source && !is_long && !path.ends_with("tests.rs") {
                    LONGEST
                } else {
                    LONGEST_OF_TESTS
                };
                if lines > most {
                    long.push(format!(
                        "{} has {lines} lines, and {most} are a room",
                        path.display()
                    ));
                }
            }
        }
    }
    assert!(seen > 100, "only {seen} files were found");
    assert!(long.is_empty(), "{long:#?}");
}
