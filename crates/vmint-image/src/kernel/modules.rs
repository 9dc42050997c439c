//! A kernel's modules: which file each is, and what must be loaded before it.
//!
//! The answer is in `modules.dep`. Distributions make that file when a kernel package is installed, so a package that
//! was only unpacked has none; it is then made here, from what the modules say of themselves, and kept.

use crate::decompress;
use crate::fsx::{self, FileError, OnFile};
use crate::kernel::elf;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// The modules of one kernel: what is in `/lib/modules/VERSION`.
#[derive(Debug, Default)]
pub(crate) struct ModuleTree {
    dir: PathBuf,
    modules: BTreeMap<String, Module>,
    builtin: BTreeSet<String>,
    /// What should be loaded before a module if it exists; by module names or aliases.
    soft: BTreeMap<String, Vec<String>>,
    aliases: BTreeMap<String, Vec<String>>,
}

#[derive(Debug)]
struct Module {
    /// Relative to the folder.
    path: String,
    /// Names.
    needs: Vec<String>,
}

/// A module as the guest's agent loads it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Loadable {
    /// `NAME.ko`.
    pub(crate) file_name: String,
    /// Not compressed.
    pub(crate) content: Vec<u8>,
}

/// The modules could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ModulesError {
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A module depends on one that does not exist.
    #[error("the kernel module {module} needs {needs}, which {} does not have", dir.display())]
    Missing {
        /// Which module.
        module: String,
        /// What it needs.
        needs: String,
        /// Where the modules are.
        dir: PathBuf,
    },
}

impl ModuleTree {
    /// Reads a kernel's modules, making `modules.dep`, `modules.softdep` and `modules.alias` if they are absent.
    pub(crate) fn open(dir: &Path) -> Result<Self, ModulesError> {
        if !dir.join("modules.dep").exists() {
            write_indexes(dir)?;
        }
        let text = |name: &str| match fs::read_to_string(dir.join(name)) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
            result => result.on("read", &dir.join(name)),
        };
        let builtin = text("modules.builtin")?.lines().map(module_name).collect();
        let mut tree = Self {
            dir: dir.to_owned(),
            builtin,
            modules: parse_dep(&text("modules.dep")?),
            ..Self::default()
        };
        for line in text("modules.softdep")?.lines() {
            if let Some((name, rest)) = line
                .strip_prefix("softdep ")
                .and_then(|l| l.split_once(' '))
            {
                tree.soft
                    .entry(normalized(name))
                    .or_default()
                    .extend(soft_before(rest));
            }
        }
        for line in text("modules.alias")?.lines() {
            if let Some((alias, name)) =
                line.strip_prefix("alias ").and_then(|l| l.rsplit_once(' '))
            {
                tree.aliases
                    .entry(alias.to_owned())
                    .or_default()
                    .push(normalized(name));
            }
        }
        Ok(tree)
    }

    /// The wanted modules and all that they need, in an order in which they can be loaded. A wanted module that this
    /// kernel does not have is left out: it is built in, or there is nothing to be done about it.
    pub(crate) fn resolve(&self, wanted: &[&str]) -> Result<Vec<String>, ModulesError> {
        let (mut order, mut seen) = (Vec::new(), BTreeSet::new());
        for name in wanted {
            let name = normalized(name);
            if self.modules.contains_key(&name) {
                self.visit(&name, &mut order, &mut seen)?;
            }
        }
        Ok(order)
    }

    fn visit(
        &self,
        name: &str,
        order: &mut Vec<String>,
        seen: &mut BTreeSet<String>,
    ) -> Result<(), ModulesError> {
        if !seen.insert(name.to_owned()) {
            return Ok(());
        }
        for soft in self.soft.get(name).into_iter().flatten() {
            let known = self.modules.contains_key(soft) || self.builtin.contains(soft);
            let aliased = if known { None } else { self.aliases.get(soft) };
            for candidate in aliased.map_or(std::slice::from_ref(soft), Vec::as_slice) {
                if self.modules.contains_key(candidate) {
                    self.visit(candidate, order, seen)?;
                }
            }
        }
        for needs in &self.modules[name].needs {
            if self.modules.contains_key(needs) {
                self.visit(needs, order, seen)?;
            } else if !self.builtin.contains(needs) {
                let (module, needs, dir) = (name.to_owned(), needs.clone(), self.dir.clone());
                return Err(ModulesError::Missing { module, needs, dir });
            }
        }
        order.push(name.to_owned());
        Ok(())
    }

    /// Reads a module of [`resolve`](Self::resolve)'s answer.
    pub(crate) fn load(&self, name: &str) -> Result<Loadable, ModulesError> {
        let path = self.dir.join(&self.modules[name].path);
        let content = fs::read(&path)
            .and_then(|bytes| decompress::bytes(&bytes))
            .on("read the module", &path)?;
        Ok(Loadable {
            file_name: format!("{name}.ko"),
            content,
        })
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.modules.len()
    }
}

/// Module names are written with `-` and `_` without a difference.
fn normalized(name: &str) -> String {
    name.replace('-', "_")
}

/// `kernel/fs/foo-bar.ko.xz` is `foo_bar`.
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    normalized(file.split_once(".ko").map_or(file, |(name, _)| name))
}

fn is_module(file_name: &str) -> bool {
    [".ko", ".ko.xz", ".ko.zst", ".ko.gz"]
        .iter()
        .any(|end| file_name.ends_with(end))
}

fn parse_dep(text: &str) -> BTreeMap<String, Module> {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines
        .map(|(path, needs)| {
            let needs = needs.split_whitespace().map(module_name).collect();
            (
                module_name(path),
                Module {
                    path: path.to_owned(),
                    needs,
                },
            )
        })
        .collect()
}

/// The names behind `pre:` in `pre: a b post: c`.
fn soft_before(text: &str) -> Vec<String> {
    let mut before = false;
    let mut names = Vec::new();
    for word in text.split_whitespace() {
        match word {
            "pre:" => before = true,
            "post:" => before = false,
            name if before => names.push(normalized(name)),
            _ => {}
        }
    }
    names
}

/// Makes the index files as depmod would, from the modules' own words.
fn write_indexes(dir: &Path) -> Result<(), ModulesError> {
    let mut files = Vec::new();
    find_modules(dir, "", &mut files)?;
    let (mut modules, mut soft, mut aliases) = (BTreeMap::new(), String::new(), String::new());
    for path in files {
        let file = dir.join(&path);
        let bytes = fs::read(&file)
            .and_then(|bytes| decompress::bytes(&bytes))
            .on("read the module", &file)?;
        let (name, mut needs) = (module_name(&path), Vec::new());
        for (key, value) in elf::modinfo(&bytes) {
            let written = match key.as_str() {
                "depends" => {
                    needs.extend(value.split(',').filter(|n| !n.is_empty()).map(normalized));
                    Ok(())
                }
                "softdep" => writeln!(soft, "softdep {name} {value}"),
                "alias" => writeln!(aliases, "alias {value} {name}"),
                _ => Ok(()),
            };
            written.expect("writing to a string");
        }
        modules.insert(name, Module { path, needs });
    }
    fsx::replace(&dir.join("modules.softdep"), soft.as_bytes())?;
    fsx::replace(&dir.join("modules.alias"), aliases.as_bytes())?;
    // The last one: it tells that the others are there.
    fsx::replace(&dir.join("modules.dep"), dep_text(&modules).as_bytes())?;
    Ok(())
}

/// `modules.dep` lists what a module needs, directly or not, the last to be loaded first.
fn dep_text(modules: &BTreeMap<String, Module>) -> String {
    fn collect<'a>(
        modules: &'a BTreeMap<String, Module>,
        name: &'a str,
        order: &mut Vec<&'a str>,
        seen: &mut BTreeSet<&'a str>,
    ) {
        for needs in modules.get(name).into_iter().flat_map(|m| &m.needs) {
            if seen.insert(needs) {
                collect(modules, needs, order, seen);
                order.push(needs);
            }
        }
    }
    let mut text = String::new();
    for (name, module) in modules {
        let mut order = Vec::new();
        collect(
            modules,
            name,
            &mut order,
            &mut BTreeSet::from([name.as_str()]),
        );
        text += &module.path;
        text.push(':');
        for needs in order.iter().rev().filter_map(|n| modules.get(*n)) {
            text.push(' ');
            text += &needs.path;
        }
        text.push('\n');
    }
    text
}

fn find_modules(dir: &Path, prefix: &str, found: &mut Vec<String>) -> Result<(), FileError> {
    for name in fsx::names(&dir.join(prefix))? {
        let path = if prefix.is_empty() {
            name.clone()
        } else {
            format!("{prefix}/{name}")
        };
        let kind = fs::symlink_metadata(dir.join(&path))
            .on("read", &dir.join(&path))?
            .file_type();
        if kind.is_dir() {
            find_modules(dir, &path, found)?;
        } else if kind.is_file() && is_module(&name) {
            found.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tree(dep: &str, builtin: &str, soft: &str, alias: &str) -> (tempfile::TempDir, ModuleTree) {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("dep", dep),
            ("builtin", builtin),
            ("softdep", soft),
            ("alias", alias),
        ] {
            fs::write(dir.path().join(format!("modules.{name}")), text).unwrap();
        }
        let tree = ModuleTree::open(dir.path()).unwrap();
        (dir, tree)
    }

    #[test]
    fn what_is_needed_is_loaded_first() {
        let dep = "kernel/net/virtio_net.ko.xz: kernel/net/net-failover.ko.xz kernel/net/failover.ko.xz\n\
            kernel/net/net-failover.ko.xz: kernel/net/failover.ko.xz\nkernel/net/failover.ko.xz:\nkernel/x/unused.ko:\n";
        let (_dir, tree) = tree(dep, "", "", "");
        assert_eq!(
            tree.resolve(&["virtio-net", "failover"]).unwrap(),
            ["failover", "net_failover", "virtio_net"]
        );
        assert!(tree.resolve(&["absent"]).unwrap().is_empty());
    }

    #[test]
    fn soft_dependencies_go_by_name_or_alias_and_may_be_absent() {
        let soft = "softdep ext4 pre: crc32c nothing post: other\n";
        let (_dir, tree) = tree(
            "a/ext4.ko:\na/crc32c_generic.ko:\na/other.ko:\n",
            "",
            soft,
            "alias crc32c crc32c_generic\n",
        );
        assert_eq!(tree.resolve(&["ext4"]).unwrap(), ["crc32c_generic", "ext4"]);
    }

    #[test]
    fn a_need_may_be_built_in_but_not_absent() {
        let (_dir, built_in) = tree("a/x.ko: a/y.ko\n", "kernel/a/y.ko\n", "", "");
        assert_eq!(built_in.resolve(&["x"]).unwrap(), ["x"]);
        let (_dir, absent) = tree("a/x.ko: a/y.ko\n", "", "", "");
        assert!(
            matches!(absent.resolve(&["x"]), Err(ModulesError::Missing { needs, .. }) if needs == "y")
        );
    }

    proptest! {
        /// Whatever the dependencies, a generated `modules.dep` read back gives an order in which nothing comes before
        /// what it needs. Edges go from higher to lower numbers: module dependencies have no cycles.
        #[test]
        fn a_generated_index_reads_back_as_a_legal_order(edges in prop::collection::vec((1usize..20, 0usize..20), 0..60)) {
            let name = |i: usize| format!("m{i}");
            let mut modules: BTreeMap<String, Module> =
                (0..20).map(|i| (name(i), Module { path: format!("kernel/{}.ko", name(i)), needs: Vec::new() })).collect();
            for (from, to) in edges.iter().filter(|(from, to)| to < from) {
                modules.get_mut(&name(*from)).unwrap().needs.push(name(*to));
            }
            let (_dir, tree) = tree(&dep_text(&modules), "", "", "");
            let wanted: Vec<String> = (0..20).rev().map(name).collect();
            let order = tree.resolve(&wanted.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
            prop_assert_eq!(order.len(), 20);
            let place = |n: &str| order.iter().position(|o| o == n).unwrap();
            for (from, to) in edges.iter().filter(|(from, to)| to < from) {
                prop_assert!(place(&name(*to)) < place(&name(*from)));
            }
        }

        #[test]
        fn no_index_makes_the_parsers_panic(text in "(?s).{0,200}") {
            parse_dep(&text);
            soft_before(&text);
        }
    }
}
