//! Which files of a machine patterns name, through symbolic links: as `@actions/glob` walks folders.
//!
//! A shell in the machine lists folders as they are ([`LIST`]); here they are walked. A link to a folder that was not listed
//! yet is [missing](Walked::missing), and the walk is done again when it was. What leads back to a folder that it is in is left
//! out, and so are links to nothing.

use crate::glob::{Entry, Patterns};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Lists what is below each argument, without following links. Each record ends with a zero byte: a letter and a path, and of
/// links and arguments (`r`; `s` if it is a link) another letter and where they lead.
pub(super) const LIST: &str = r#"
tell='
    letter=$1; shift
    for p do
        case $letter in
        d | f) printf "%s%s\0" "$letter" "$p"; continue ;;
        esac
        if [ -d "$p" ]; then kind=d; elif [ -e "$p" ]; then kind=f; else kind=b; fi
        [ "$letter" != r ] || [ ! -L "$p" ] || letter=s
        real=$(readlink -f "$p"; printf x)
        printf "%s%s\0%s%s\0" "$letter" "$p" "$kind" "${real%?x}"
    done'
for root do
    [ -e "$root" ] || [ -L "$root" ] || continue
    sh -c "$tell" sh r "$root"
    [ -d "$root" ] || continue
    root=$(readlink -f "$root"; printf x)
    root=${root%?x}
    find "$root" -type d -exec sh -c "$tell" sh d {} +
    find "$root" ! -type d ! -type l -exec sh -c "$tell" sh f {} +
    find "$root" -type l -exec sh -c "$tell" sh l {} +
done
"#;

/// Which links are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Follow {
    /// All: artifacts have what links point to.
    All,
    /// None: a link is a file.
    Never,
    /// Those on the way to what a pattern names. That itself, and what is below it, is kept as it is.
    UntilMatched,
}

/// What something in a folder is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Folder,
    File,
    Link(Target),
}

/// Whether a search path is a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Is {
    Itself,
    Link,
}

/// Where a link leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Folder(String),
    File(String),
    Nothing,
}

/// A file or folder that patterns name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    /// As the patterns name it.
    pub path: String,
    /// Whether it is a folder, after links that are followed.
    pub is_folder: bool,
    /// Where it leads, of a link that is not followed.
    pub link: Option<Target>,
}

/// Where a part of what was found really lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// As the patterns name it.
    pub path: String,
    /// The same without links.
    pub real: String,
    /// Whether it is a folder.
    pub is_folder: bool,
}

/// What a walk has found.
#[derive(Debug, Default)]
pub(super) struct Walked {
    /// In the order of the walk: folders before what is in them, names by their bytes.
    pub files: Vec<Listed>,
    /// Search paths, and links that were followed.
    pub mounts: Vec<Mount>,
    /// Folders that links lead to and that are not listed.
    pub missing: Vec<String>,
}

/// Folders of a machine, as far as they were listed.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// By their paths without links.
    folders: HashMap<String, BTreeMap<String, Kind>>,
    /// Those of which all is known.
    listed: HashSet<String>,
    /// Where search paths lead, and whether they are links themselves.
    roots: HashMap<String, (Is, Target)>,
}

impl Tree {
    /// Adds what [`LIST`] has printed.
    pub(super) fn add(&mut self, output: &[u8]) {
        let output = String::from_utf8_lossy(output);
        let mut records = output.split('\0');
        while let Some(record) = records.next() {
            let Some((letter, path)) = record.split_at_checked(1) else {
                continue;
            };
            let kind = match letter {
                "d" => {
                    self.folders.entry(path.to_owned()).or_default();
                    self.listed.insert(path.to_owned());
                    Kind::Folder
                }
                "f" => Kind::File,
                "l" | "r" | "s" => {
                    let target = match records.next().and_then(|real| real.split_at_checked(1)) {
                        Some(("d", real)) => Target::Folder(real.to_owned()),
                        Some(("f", real)) => Target::File(real.to_owned()),
                        _ => Target::Nothing,
                    };
                    let is = match letter {
                        "r" => Is::Itself,
                        _ => Is::Link,
                    };
                    if letter != "l" {
                        self.roots.insert(path.to_owned(), (is, target));
                        continue;
                    }
                    Kind::Link(target)
                }
                _ => continue,
            };
            if let Some((folder, name)) = path.rsplit_once('/').filter(|(_, n)| !n.is_empty()) {
                let folder = if folder.is_empty() { "/" } else { folder };
                let entries = self.folders.entry(folder.to_owned()).or_default();
                entries.insert(name.to_owned(), kind);
            }
        }
    }

    /// Walks through what was listed.
    pub(super) fn walk(&self, patterns: &Patterns, follow: Follow) -> Walked {
        let mut walk = Walk {
            tree: self,
            patterns,
            follow,
            found: Walked::default(),
        };
        for root in patterns.search_roots() {
            let Some((is, target)) = self.roots.get(root) else {
                continue;
            };
            if follow == Follow::All || *is == Is::Itself {
                walk.enter(root, target);
                continue;
            }
            let before = walk.found.files.len();
            walk.link(root, target, &mut Vec::new(), Below::Unmatched);
            if walk.found.files[before..]
                .iter()
                .any(|file| file.path == *root)
            {
                // It is kept as a link, and fetched as that.
                walk.found.mounts.push(Mount {
                    path: root.clone(),
                    real: root.clone(),
                    is_folder: false,
                });
            }
        }
        walk.found
    }
}

/// Whether something lies below what a pattern names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Below {
    Unmatched,
    Matched,
}

struct Walk<'a> {
    tree: &'a Tree,
    patterns: &'a Patterns,
    follow: Follow,
    found: Walked,
}

impl<'a> Walk<'a> {
    /// A search path, or what a link that is followed leads to.
    fn enter(&mut self, path: &str, target: &'a Target) {
        self.follow_to(path, target, &mut Vec::new());
    }

    fn follow_to(&mut self, path: &str, target: &'a Target, chain: &mut Vec<&'a str>) {
        let (real, is_folder) = match target {
            Target::Folder(real) => (real, true),
            Target::File(real) => (real, false),
            Target::Nothing => return,
        };
        if is_folder && !self.tree.listed.contains(real) {
            self.found.missing.push(real.clone());
            return;
        }
        if chain.contains(&real.as_str()) {
            return;
        }
        let (path, real_path) = (path.to_owned(), real.clone());
        self.found.mounts.push(Mount {
            path: path.clone(),
            real: real_path,
            is_folder,
        });
        if is_folder {
            self.folder(&path, real, chain);
        } else if self.patterns.matches(&path, Entry::File) {
            self.add(path, Entry::File, None);
        }
    }

    fn add(&mut self, path: String, entry: Entry, link: Option<Target>) {
        self.found.files.push(Listed {
            path,
            is_folder: entry == Entry::Folder,
            link,
        });
    }

    fn folder(&mut self, path: &str, real: &'a str, chain: &mut Vec<&'a str>) {
        if chain.contains(&real) {
            return;
        }
        let matched = self.patterns.matches(path, Entry::Folder);
        if matched {
            self.add(path.to_owned(), Entry::Folder, None);
        } else if !self.patterns.reaches(path) {
            return;
        }
        let Some((real, entries)) = self.tree.folders.get_key_value(real) else {
            return;
        };
        let below = if matched {
            Below::Matched
        } else {
            Below::Unmatched
        };
        chain.push(real);
        for (name, kind) in entries {
            let path = format!("{}/{name}", path.trim_end_matches('/'));
            match kind {
                Kind::File if self.patterns.matches(&path, Entry::File) => {
                    self.add(path, Entry::File, None);
                }
                Kind::File => {}
                Kind::Folder => {
                    let real = format!("{}/{name}", real.trim_end_matches('/'));
                    if let Some((real, _)) = self.tree.folders.get_key_value(&real) {
                        self.folder(&path, real, chain);
                    }
                }
                Kind::Link(target) => self.link(&path, target, chain, below),
            }
        }
        chain.pop();
    }

    fn link(&mut self, path: &str, target: &'a Target, chain: &mut Vec<&'a str>, below: Below) {
        // As a folder, since what ends with `/` names what the link leads to.
        let entry = match (self.follow, target) {
            (Follow::Never, _) => Entry::File,
            (_, Target::Folder(_)) => Entry::Folder,
            _ => Entry::File,
        };
        let matched = self.patterns.matches(path, entry);
        if !matched && !self.patterns.reaches(path) {
            return;
        }
        match (self.follow, below, matched) {
            (Follow::All, ..) | (Follow::UntilMatched, Below::Unmatched, false) => {
                self.follow_to(path, target, chain);
            }
            (Follow::UntilMatched, Below::Unmatched, true) if *target == Target::Nothing => {}
            (_, _, true) => self.add(path.to_owned(), Entry::File, Some(target.clone())),
            (_, _, false) => {}
        }
    }
}

/// Of these mounts, those that have something of what was found, with how many.
pub(super) fn used(mounts: &[Mount], files: &[Listed]) -> Vec<Mount> {
    let paths: HashSet<&str> = mounts.iter().map(|mount| mount.path.as_str()).collect();
    let mut used = HashSet::new();
    for file in files {
        // The nearest one above it, or itself.
        let mut path = file.path.as_str();
        loop {
            if paths.contains(path) {
                used.insert(path.to_owned());
                break;
            }
            match path.rsplit_once('/') {
                Some(("", _)) if path != "/" => path = "/",
                Some((above, _)) if !above.is_empty() => path = above,
                _ => break,
            }
        }
    }
    let mounts = mounts.iter();
    mounts
        .filter(|mount| used.contains(&mount.path))
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::symlink;
    use std::path::{Path, PathBuf};

    /// Lists and walks folders of this host, as the engine does it in a machine.
    fn found(root: &str, text: &str, follow: Follow) -> Walked {
        let patterns = Patterns::parse(text, root, "/home/me").unwrap();
        let mut tree = Tree::default();
        let mut wanted: Vec<String> = patterns.search_roots().to_vec();
        for _ in 0..20 {
            let output = std::process::Command::new("sh")
                .args(["-c", LIST, "sh"])
                .args(&wanted)
                .output()
                .unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stderr), "");
            tree.add(&output.stdout);
            let walked = tree.walk(&patterns, follow);
            if walked.missing.is_empty() {
                return walked;
            }
            wanted = walked.missing;
        }
        panic!("it never ends");
    }

    fn names(walked: &Walked, root: &str) -> Vec<String> {
        let name = |file: &Listed| {
            let name = file.path.strip_prefix(root).unwrap_or(&file.path);
            format!("{name}{}", if file.is_folder { "/" } else { "" })
        };
        walked.files.iter().map(name).collect()
    }

    /// What `@actions/glob` does, with the same order and the same way to tell circles.
    fn expected(root: &str, text: &str) -> Vec<String> {
        fn visit(
            path: &Path,
            patterns: &Patterns,
            chain: &mut Vec<PathBuf>,
            all: &mut Vec<String>,
        ) {
            let shown = path.to_str().unwrap();
            let Ok(metadata) = std::fs::metadata(path) else {
                return;
            };
            let entry = if metadata.is_dir() {
                Entry::Folder
            } else {
                Entry::File
            };
            let matched = patterns.matches(shown, entry);
            if !matched && !patterns.reaches(shown) {
                return;
            }
            if entry == Entry::File {
                if matched {
                    all.push(shown.to_owned());
                }
                return;
            }
            let real = path.canonicalize().unwrap();
            if chain.contains(&real) {
                return;
            }
            if matched {
                all.push(format!("{shown}/"));
            }
            chain.push(real);
            let children = std::fs::read_dir(path).unwrap();
            let mut children: Vec<_> = children.map(|child| child.unwrap().path()).collect();
            children.sort();
            for child in children {
                visit(&child, patterns, chain, all);
            }
            chain.pop();
        }
        let patterns = Patterns::parse(text, root, "/home/me").unwrap();
        let mut all = Vec::new();
        for start in patterns.search_roots() {
            visit(Path::new(start), &patterns, &mut Vec::new(), &mut all);
        }
        let relative = all
            .iter()
            .map(|path| path.strip_prefix(root).unwrap_or(path));
        relative.map(str::to_owned).collect()
    }

    /// A workspace with links of every kind, and what lies outside of it.
    fn workspace() -> (tempfile::TempDir, String) {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().canonicalize().unwrap();
        let work = base.join("work");
        for path in [
            "work/out/sub",
            "work/out-b",
            "store/deep/er",
            "work/with space\n",
        ] {
            std::fs::create_dir_all(base.join(path)).unwrap();
        }
        for path in [
            "work/out/a.txt",
            "work/out/sub/b.txt",
            "store/c.txt",
            "store/deep/er/d.txt",
            "work/out-b/x",
        ] {
            std::fs::write(base.join(path), path).unwrap();
        }
        for (target, link) in [
            ("../store", "work/result"),
            ("../../store/c.txt", "work/out/to-file"),
            ("../../store/deep", "work/out/to-folder"),
            ("nowhere", "work/out/broken"),
            (".", "work/out/self"),
            ("..", "work/out/up"),
            ("to-file", "work/out/twice"),
        ] {
            symlink(target, base.join(link)).unwrap();
        }
        (folder, work.to_str().unwrap().to_owned())
    }

    #[test]
    fn links_are_followed_and_those_to_nothing_or_in_circles_left_out() {
        let (_folder, root) = workspace();
        let all = names(&found(&root, "out", Follow::All), &root);
        assert_eq!(
            all,
            [
                "/out/",
                "/out/a.txt",
                "/out/sub/",
                "/out/sub/b.txt",
                "/out/to-file",
                "/out/to-folder/",
                "/out/to-folder/er/",
                "/out/to-folder/er/d.txt",
                "/out/twice",
                "/out/up/",
                "/out/up/out-b/",
                "/out/up/out-b/x",
                "/out/up/result/",
                "/out/up/result/c.txt",
                "/out/up/result/deep/",
                "/out/up/result/deep/er/",
                "/out/up/result/deep/er/d.txt",
                "/out/up/with space\n/",
            ]
        );
        for text in [
            "out",
            "result/",
            "result",
            "result/**/*.txt",
            "**/*.txt\n!**/up/**",
            "*/to-*",
            "out/broken",
            "none",
        ] {
            let walked = found(&root, text, Follow::All);
            assert_eq!(names(&walked, &root), expected(&root, text), "{text}");
        }
    }

    #[test]
    fn without_following_a_link_is_a_file() {
        let (_folder, root) = workspace();
        let walked = found(&root, "out/*", Follow::Never);
        let links = walked.files.iter().filter_map(|file| {
            let target = file.link.as_ref()?;
            let kind = match target {
                Target::Folder(_) => "folder",
                Target::File(_) => "file",
                Target::Nothing => "nothing",
            };
            Some(format!("{} {kind}", file.path.rsplit('/').next()?))
        });
        assert_eq!(
            links.collect::<Vec<_>>(),
            [
                "broken nothing",
                "self folder",
                "to-file file",
                "to-folder folder",
                "twice file",
                "up folder"
            ]
        );
        assert_eq!(
            names(&found(&root, "result/*", Follow::Never), &root),
            [""; 0]
        );
    }

    #[test]
    fn what_a_cache_names_is_kept_as_it_is_and_found_through_links() {
        let (_folder, root) = workspace();
        let kept = |text| names(&found(&root, text, Follow::UntilMatched), &root);
        assert_eq!(kept("result"), ["/result"]);
        assert_eq!(
            kept("result/*"),
            [
                "/result/c.txt",
                "/result/deep/",
                "/result/deep/er/",
                "/result/deep/er/d.txt"
            ]
        );
        assert_eq!(kept("out/broken"), [""; 0]);
        let out = kept("out");
        for kept in ["/out/broken", "/out/self", "/out/to-folder"] {
            assert!(out.contains(&kept.to_owned()), "{out:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn any_tree_is_walked_as_actions_glob_walks_it(
            links in proptest::collection::vec(("[ab]/[xyz]|[xyz]", "[ab]|\\.|\\.\\.|\\.\\./[ab]|[xyz]|nothing|\\.\\./[xyz]"), 0..6),
            pattern in "\\*\\*|a|x|\\*\\*/[xyz]|[ab]/\\*|\\*/\\*/f|x/y/\\*|a/x/|\\*\\*/f\n!\\*\\*/y/\\*\\*",
        ) {
            let folder = tempfile::tempdir().unwrap();
            // So deep that no link leads to what other tests make and remove.
            let base = folder.path().canonicalize().unwrap().join("p/q");
            for path in ["a", "b"] {
                std::fs::create_dir_all(base.join(path)).unwrap();
                std::fs::write(base.join(path).join("f"), "").unwrap();
            }
            for (link, target) in links {
                let _ = symlink(target, base.join(link));
            }
            let root = base.to_str().unwrap();
            let walked = found(root, &pattern, Follow::All);
            prop_assert_eq!(names(&walked, root), expected(root, &pattern));
            for mount in &walked.mounts {
                let real = Path::new(&mount.path).canonicalize().unwrap();
                prop_assert_eq!(real.to_str().unwrap(), &mount.real);
            }
        }
    }
}
