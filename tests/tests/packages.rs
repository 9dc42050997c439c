//! The crates as packages of a registry: what they say of themselves, and what they hold. `scripts/publish --dry-run` builds them, and
//! `scripts/registry-test` uses them as strangers do.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use toml::{Table, Value};

/// Stay here: tests, a module of an interpreter, and the guest's program, whose sources travel in `vmint-image`.
const NOT_PUBLISHED: [&str; 3] = ["vmint-agent", "vmint-python", "vmint-tests"];

fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests
        .parent()
        .expect("tests/ lies in the repository")
        .to_owned()
}

fn read(path: &Path) -> Table {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.parse()
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The manifests of all crates, with their folders.
fn manifests() -> Vec<(PathBuf, Table)> {
    let crates = fs::read_dir(root().join("crates")).expect("crates/ is there");
    let folders = crates
        .map(|entry| entry.unwrap().path())
        .chain([root().join("python"), root().join("tests")]);
    let folders = folders.filter(|folder| folder.join("Cargo.toml").exists());
    folders
        .map(|folder| (folder.clone(), read(&folder.join("Cargo.toml"))))
        .collect()
}

fn name(manifest: &Table) -> &str {
    manifest["package"]["name"]
        .as_str()
        .expect("a crate has a name")
}

fn is_published(manifest: &Table) -> bool {
    manifest["package"].get("publish") != Some(&Value::Boolean(false))
}

#[test]
fn all_crates_are_published_but_those_that_nobody_can_depend_on() {
    let all = manifests();
    let kept: BTreeSet<_> = all
        .iter()
        .map(|(_, m)| m)
        .filter(|m| !is_published(m))
        .map(name)
        .collect();
    assert_eq!(kept, BTreeSet::from(NOT_PUBLISHED));
    for (_, manifest) in all.iter().filter(|(_, m)| is_published(m)) {
        let package = manifest["package"].as_table().expect("a table");
        for key in [
            "description",
            "version",
            "license",
            "rust-version",
            "readme",
            "keywords",
            "categories",
        ] {
            assert!(package.contains_key(key), "{} has no {key}", name(manifest));
        }
    }
}

/// A registry takes no path; and what is published together has one version.
#[test]
fn every_crate_of_ours_is_depended_on_by_the_version_of_the_workspace() {
    let workspace = read(&root().join("Cargo.toml"));
    let version = &workspace["workspace"]["package"]["version"];
    let dependencies = workspace["workspace"]["dependencies"]
        .as_table()
        .expect("a table");
    let ours: Vec<_> = dependencies
        .iter()
        .filter(|(name, _)| name.starts_with("vmint"))
        .collect();
    assert!(ours.len() > 10, "{ours:?}");
    for (name, value) in ours {
        assert_eq!(value.get("version"), Some(version), "{name}");
    }
    for (_, manifest) in manifests() {
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let Some(Value::Table(dependencies)) = manifest.get(section) else {
                continue;
            };
            for (dependency, value) in dependencies {
                let from_workspace = value.get("workspace") == Some(&Value::Boolean(true));
                assert!(
                    !dependency.starts_with("vmint") || from_workspace,
                    "{} names {dependency} by itself",
                    name(&manifest)
                );
            }
        }
    }
}

/// The files of a package, as cargo would pack them.
fn listed(package: &str) -> BTreeSet<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "package",
            "--list",
            "--allow-dirty",
            "--offline",
            "-p",
            package,
        ])
        .current_dir(root())
        .output()
        .expect("cargo can be started");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(str::to_owned)
        .collect()
}

/// All sources below a folder, relative to it.
fn sources(folder: &Path, below: &str, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = format!("{below}/{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            sources(&entry.path(), &path, found);
        } else {
            found.insert(path);
        }
    }
}

/// Its build script makes the guest's agent of them, where there is no repository.
#[test]
fn the_package_of_images_holds_the_sources_of_the_agent_and_of_what_that_imports() {
    let package = listed("vmint-image");
    let mut parts = vec!["vmint-agent".to_owned()];
    let mut wanted = BTreeSet::from(["agent/workspace.toml".to_owned()]);
    while let Some(part) = parts.pop() {
        let folder = root().join("crates").join(&part);
        wanted.insert(format!("agent/{part}/manifest.toml"));
        sources(
            &folder.join("src"),
            &format!("agent/{part}/src"),
            &mut wanted,
        );
        let manifest = read(&folder.join("Cargo.toml"));
        let imports = manifest["dependencies"].as_table().expect("a table").keys();
        parts.extend(imports.filter(|name| name.starts_with("vmint")).cloned());
    }
    assert!(wanted.len() > 40, "{wanted:?}");
    let missing: Vec<_> = wanted.difference(&package).collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

/// What the agent needs, the crate that brings it needs as well: so its sources are there when it is built, without a network.
#[test]
fn all_foreign_crates_of_the_agent_are_in_the_lock_file_for_the_images_too() {
    let lock = read(&root().join("Cargo.lock"));
    let packages = lock["package"].as_array().expect("a list");
    let reached = |from: &[&str]| {
        let mut open: Vec<String> = from.iter().map(|&name| name.to_owned()).collect();
        let mut reached = BTreeSet::new();
        while let Some(next) = open.pop() {
            if !reached.insert(next.clone()) {
                continue;
            }
            // A name stands with its version where there are several.
            let (name, version) = next
                .split_once(' ')
                .map_or((&*next, None), |(name, version)| (name, Some(version)));
            let found = packages.iter().find(|p| {
                p["name"].as_str() == Some(name)
                    && version.is_none_or(|v| p["version"].as_str() == Some(v))
            });
            let dependencies = found
                .and_then(|p| p.get("dependencies"))
                .and_then(Value::as_array);
            open.extend(
                dependencies
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
                    .map(str::to_owned),
            );
        }
        reached
    };
    // Of the agent what it is built with; its tests need more.
    let manifest = read(&root().join("crates/vmint-agent/Cargo.toml"));
    let direct: Vec<_> = manifest["dependencies"]
        .as_table()
        .expect("a table")
        .keys()
        .map(String::as_str)
        .collect();
    let image = reached(&["vmint-image"]);
    let missing: Vec<_> = direct
        .iter()
        .filter(|name| {
            !image
                .iter()
                .any(|known| known.split(' ').next() == Some(name))
        })
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}
