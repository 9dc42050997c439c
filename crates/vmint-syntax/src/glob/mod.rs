//! Patterns for paths, as in `hashFiles` and in the paths of artifacts and caches: those of `@actions/glob`.
//!
//! One pattern a line; empty lines and those that begin with `#` do not count. `!` at the beginning takes out what earlier
//! lines took in. `*` and `?` stand for characters within a name, `[…]` for one of those listed (`[!…]` for one of the
//! others), `**` as a whole name for any number of folders. `\` makes the next character ordinary. Files whose names begin
//! with a dot are names like all others. A folder that matches brings all below it.
//!
//! Paths are absolute ones of the guest, with `/`. Matching follows all positions of a pattern at once, so that no pattern
//! makes it slow.

mod name;

pub use name::Name;

use thiserror::Error;

/// A list of patterns.
#[derive(Clone, Debug)]
pub struct Patterns {
    rules: Vec<Rule>,
    roots: Vec<String>,
}

/// What a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A folder.
    Folder,
    /// Anything else.
    File,
}

/// Why a text is no list of patterns.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum GlobError {
    /// No pattern in it.
    #[error("there is no path: every line is empty or a comment")]
    Empty,
    /// `.` or `..` in a path.
    #[error(
        "`{pattern}`: a path may not hold `.` or `..`, except `./` at its beginning; name the folder itself"
    )]
    Relative {
        /// The pattern.
        pattern: String,
    },
    /// `!` alone.
    #[error("`!` alone excludes nothing; write a path after it")]
    NothingNegated,
    /// Too long a list.
    #[error("there are more than {MOST} paths")]
    TooMany,
}

/// Patterns in a list.
const MOST: usize = 1_000;

#[derive(Clone, Debug)]
struct Rule {
    sense: Sense,
    segments: Vec<Segment>,
    /// `/` at the end: only folders.
    folders_only: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sense {
    In,
    Out,
}

/// How far a pattern comes with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// It matches a folder above it, and so all below that.
    Below,
    /// It matches it.
    Here,
    /// It may match something below it.
    Further,
    /// It matches neither it nor anything below it.
    Nothing,
}

/// A name in a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    /// `**`.
    Folders,
    /// Any other.
    Name(Name),
}

impl Patterns {
    /// Reads a list. Relative paths are below `workspace`, `~` is `home`; both are absolute.
    pub fn parse(text: &str, workspace: &str, home: &str) -> Result<Self, GlobError> {
        let mut rules = Vec::new();
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if rules.len() == MOST {
                return Err(GlobError::TooMany);
            }
            rules.push(Rule::parse(line, workspace, home)?);
        }
        if rules.is_empty() {
            return Err(GlobError::Empty);
        }
        let roots = roots(&rules);
        Ok(Self { rules, roots })
    }

    /// The folders or files below which all that matches lies: the beginnings of the patterns up to the first that has no
    /// fixed name. None of them lies below another.
    pub fn search_roots(&self) -> &[String] {
        &self.roots
    }

    /// Whether an absolute path is meant.
    pub fn matches(&self, path: &str, entry: Entry) -> bool {
        let names: Vec<&str> = names(path).collect();
        // The last rule that matches decides.
        let decisive = self
            .rules
            .iter()
            .rev()
            .find(|rule| rule.matches(&names, entry));
        decisive.is_some_and(|rule| rule.sense == Sense::In)
    }

    /// Whether something below a folder may be meant.
    pub fn reaches(&self, folder: &str) -> bool {
        let names: Vec<&str> = names(folder).collect();
        let mut positive = self.rules.iter().filter(|rule| rule.sense == Sense::In);
        positive.any(|rule| rule.reach(&names) != Reach::Nothing)
    }

    /// Whether a path is hidden: it, or a folder from a search root down to it, has a name that begins with a dot. Such
    /// files are not uploaded unless `include-hidden-files` is set.
    pub fn is_hidden(&self, path: &str) -> bool {
        let open = |root: &String| {
            let above = names(root).count().saturating_sub(1);
            is_at_or_below(path, root) && !names(path).skip(above).any(|name| name.starts_with('.'))
        };
        !self.roots.iter().any(open)
    }

    /// The folder that paths in an artifact are relative to, given the files that were found: what all search roots have
    /// in common; of a single file that was named, its folder.
    pub fn upload_root(&self, found: &[&str]) -> String {
        match (&self.roots[..], found) {
            ([root], [file]) if root == file => parent(file),
            ([root], _) => root.clone(),
            (roots, _) => least_common_ancestor(roots),
        }
    }
}

fn roots(rules: &[Rule]) -> Vec<String> {
    let positive = rules.iter().filter(|rule| rule.sense == Sense::In);
    let all: Vec<String> = positive.map(Rule::root).collect();
    let mut kept: Vec<String> = Vec::new();
    for root in &all {
        let covered = all.iter().any(|other| is_below(root, other));
        if !covered && !kept.contains(root) {
            kept.push(root.clone());
        }
    }
    kept
}

/// The deepest folder that all paths are at or below.
pub fn least_common_ancestor<S: AsRef<str>>(paths: &[S]) -> String {
    let mut paths = paths
        .iter()
        .map(|path| names(path.as_ref()).collect::<Vec<_>>());
    let mut common = paths.next().unwrap_or_default();
    for path in paths {
        let same = common.iter().zip(&path).take_while(|(a, b)| a == b).count();
        common.truncate(same);
    }
    join(&common)
}

impl Rule {
    fn parse(line: &str, workspace: &str, home: &str) -> Result<Self, GlobError> {
        let (mut sense, mut pattern) = (Sense::In, line);
        while let Some(rest) = pattern.strip_prefix('!') {
            pattern = rest.trim_start();
            sense = match sense {
                Sense::In => Sense::Out,
                Sense::Out => Sense::In,
            };
        }
        if pattern.is_empty() {
            return Err(GlobError::NothingNegated);
        }
        let literal = |path: &str| names(path).map(Segment::literal).collect::<Vec<_>>();
        let (mut segments, rest) = if let Some(rest) = pattern.strip_prefix('/') {
            (Vec::new(), rest)
        } else if pattern == "~" || pattern.starts_with("~/") {
            (literal(home), &pattern[1..])
        } else if pattern == "." || pattern.starts_with("./") {
            (literal(workspace), &pattern[1..])
        } else {
            (literal(workspace), pattern)
        };
        for name in names(rest) {
            if name == "." || name == ".." {
                return Err(GlobError::Relative {
                    pattern: line.to_owned(),
                });
            }
            segments.push(match name {
                "**" => Segment::Folders,
                name => Segment::Name(Name::parse(name)),
            });
        }
        // Several `**` in a row mean no more than one.
        segments.dedup_by(|a, b| *a == Segment::Folders && *b == Segment::Folders);
        Ok(Self {
            sense,
            segments,
            folders_only: pattern.ends_with('/') && pattern != "/",
        })
    }

    fn root(&self) -> String {
        let literal = |segment: &Segment| match segment {
            Segment::Name(name) => name.literal(),
            Segment::Folders => None,
        };
        join(&self.segments.iter().map_while(literal).collect::<Vec<_>>())
    }

    fn matches(&self, path: &[&str], entry: Entry) -> bool {
        match self.reach(path) {
            Reach::Below => true,
            Reach::Here => !self.folders_only || entry == Entry::Folder,
            Reach::Further | Reach::Nothing => false,
        }
    }

    /// How far the pattern comes with a path.
    fn reach(&self, path: &[&str]) -> Reach {
        let end = self.segments.len();
        let mut now = vec![false; end + 1];
        now[0] = true;
        self.skip(&mut now);
        for name in path {
            // A folder above matched, and brings all below it. A pattern that ends with `**` means no more than it says,
            // which is the same.
            if now[end] {
                return Reach::Below;
            }
            let mut next = vec![false; end + 1];
            for (at, segment) in self.segments.iter().enumerate().filter(|(at, _)| now[*at]) {
                match segment {
                    Segment::Folders => next[at] = true,
                    Segment::Name(pattern) => next[at + 1] |= pattern.matches(name),
                }
            }
            self.skip(&mut next);
            now = next;
            if !now.contains(&true) {
                return Reach::Nothing;
            }
        }
        if now[end] {
            Reach::Here
        } else {
            Reach::Further
        }
    }

    /// Adds the positions behind a `**`, which may stand for no folder.
    fn skip(&self, positions: &mut [bool]) {
        for (at, segment) in self.segments.iter().enumerate() {
            if positions[at] && *segment == Segment::Folders {
                positions[at + 1] = true;
            }
        }
    }
}

impl Segment {
    fn literal(name: &str) -> Self {
        Self::Name(Name::exactly(name))
    }
}

fn names(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|name| !name.is_empty())
}

fn join<S: AsRef<str>>(names: &[S]) -> String {
    let mut path = String::new();
    for name in names {
        path.push('/');
        path.push_str(name.as_ref());
    }
    if path.is_empty() {
        "/".to_owned()
    } else {
        path
    }
}

fn parent(path: &str) -> String {
    let all: Vec<&str> = names(path).collect();
    join(&all[..all.len().saturating_sub(1)])
}

fn is_below(path: &str, folder: &str) -> bool {
    path != folder && is_at_or_below(path, folder)
}

fn is_at_or_below(path: &str, folder: &str) -> bool {
    let rest = path.strip_prefix(folder.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn patterns(text: &str) -> Patterns {
        Patterns::parse(text, "/work", "/home/me").unwrap()
    }

    #[track_caller]
    fn check(text: &str, matching: &[&str], others: &[&str]) {
        let patterns = patterns(text);
        for path in matching {
            assert!(
                patterns.matches(path, Entry::File),
                "{text:?} should match {path}"
            );
        }
        for path in others {
            assert!(
                !patterns.matches(path, Entry::File),
                "{text:?} should not match {path}"
            );
        }
    }

    #[test]
    fn wildcards_stay_within_a_name_and_globstars_do_not() {
        check(
            "*.rs",
            &["/work/a.rs", "/work/.rs"],
            &["/work/src/a.rs", "/a.rs", "/work/a.rss"],
        );
        check(
            "**/*.rs",
            &["/work/a.rs", "/work/x/y/a.rs", "/work/.x/a.rs"],
            &["/a.rs"],
        );
        check(
            "src/**/a",
            &["/work/src/a", "/work/src/x/y/a"],
            &["/work/a", "/work/src/b"],
        );
        check("a?c", &["/work/abc"], &["/work/ac", "/work/abbc"]);
        check("a**b", &["/work/axxb"], &["/work/ax/xb"]);
        check(
            "**/Cargo.lock",
            &["/work/Cargo.lock", "/work/x/Cargo.lock"],
            &["/work/xCargo.lock"],
        );
        check("a*b*c", &["/work/abbc", "/work/axbxc"], &["/work/abb"]);
    }

    #[test]
    fn classes_list_characters() {
        check(
            "[ab-d]x",
            &["/work/ax", "/work/cx"],
            &["/work/ex", "/work/-x"],
        );
        check("[!a]x", &["/work/bx"], &["/work/ax"]);
        check("[^a]x", &["/work/bx"], &["/work/ax"]);
        check("[]a]x", &["/work/]x", "/work/ax"], &["/work/bx"]);
        check("[x", &["/work/[x"], &["/work/x"]);
        check(r"\[a\]\*", &["/work/[a]*"], &["/work/a"]);
        check("{a,b}", &["/work/{a,b}"], &["/work/a"]);
    }

    #[test]
    fn a_folder_that_matches_brings_all_below_it() {
        check(
            "target",
            &["/work/target", "/work/target/a/b"],
            &["/work/targets"],
        );
        check("t*", &["/work/target/a/b"], &["/work/a/t"]);
        check("target/", &["/work/target/a"], &["/work/target"]);
        assert!(patterns("target/").matches("/work/target", Entry::Folder));
        check(".", &["/work/a", "/work/b/c"], &["/home/me/a"]);
    }

    #[test]
    fn later_lines_decide_over_earlier_ones() {
        let text = "
            # what is built
            target/**
            ! target/tmp
            target/tmp/keep
        ";
        check(
            text,
            &["/work/target/a", "/work/target/tmp/keep"],
            &["/work/target/tmp/x", "/work/#"],
        );
        check("!!a", &["/work/a"], &[]);
        check("!a", &[], &["/work/a", "/work/b"]);
    }

    #[test]
    fn paths_are_absolute_or_below_the_workspace_or_at_home() {
        check("/etc/*.conf", &["/etc/a.conf"], &["/work/etc/a.conf"]);
        check(
            "~/.cargo/registry",
            &["/home/me/.cargo/registry/x"],
            &["/work/~/.cargo/registry"],
        );
        check("~", &["/home/me/a"], &["/home/you/a"]);
        check("./a", &["/work/a"], &[]);
        let odd = Patterns::parse("*", "/w[1]/*", "/").unwrap();
        assert!(odd.matches("/w[1]/*/a", Entry::File));
        assert!(!odd.matches("/w1/x/a", Entry::File));
    }

    #[test]
    fn what_is_no_list_is_refused() {
        let say = |text| Patterns::parse(text, "/work", "/").unwrap_err().to_string();
        let errors = ["", "# a\n\n", "../a", "a/./b", "!"].map(say);
        insta::assert_snapshot!(errors.join("\n"), @r"
        there is no path: every line is empty or a comment
        there is no path: every line is empty or a comment
        `../a`: a path may not hold `.` or `..`, except `./` at its beginning; name the folder itself
        `a/./b`: a path may not hold `.` or `..`, except `./` at its beginning; name the folder itself
        `!` alone excludes nothing; write a path after it
        ");
    }

    #[test]
    fn search_roots_are_the_fixed_beginnings() {
        let roots = |text| patterns(text).search_roots().join(" ");
        assert_eq!(roots("**/*.rs"), "/work");
        assert_eq!(
            roots("src/a*/b\ndocs/[x].md\n!out/x"),
            "/work/src /work/docs/x.md"
        );
        assert_eq!(roots("a/b\na\na/c/*\nab"), "/work/a /work/ab");
        assert_eq!(roots("/*"), "/");
        assert_eq!(roots("~/.cargo/**\n./"), "/home/me/.cargo /work");
    }

    #[test]
    fn an_artifact_is_relative_to_what_its_paths_have_in_common() {
        let root = |text, found: &[&str]| patterns(text).upload_root(found);
        assert_eq!(root("out/a.txt", &["/work/out/a.txt"]), "/work/out");
        assert_eq!(root("out", &["/work/out/a.txt"]), "/work/out");
        assert_eq!(root("out/*.txt", &["/work/out/a.txt"]), "/work/out");
        assert_eq!(
            root("out/a\nout/b/c", &["/work/out/a", "/work/out/b/c"]),
            "/work/out"
        );
        assert_eq!(root("out\n/etc/x", &[]), "/");
    }

    #[test]
    fn hidden_files_are_told_below_the_search_roots_only() {
        let hidden = |text, path| patterns(text).is_hidden(path);
        assert!(hidden("out", "/work/out/.env"));
        assert!(hidden("out", "/work/out/.git/config"));
        assert!(hidden(".out", "/work/.out/a"));
        assert!(!hidden("out", "/work/out/a"));
        assert!(!hidden(".cache/out", "/work/.cache/out/a"));
    }

    #[test]
    fn a_pattern_made_to_explode_is_matched_in_time() {
        let name = format!("{}b", "a*".repeat(2_000));
        check(&name, &[], &[&format!("/work/{}", "a".repeat(4_000))]);
        let deep = "**/a/".repeat(500);
        check(
            &format!("{deep}b"),
            &[],
            &[&format!("/work{}", "/a".repeat(1_000))],
        );
        check(&"[".repeat(100_000), &[], &["/work/x"]);
    }

    proptest! {
        #[test]
        fn any_text_is_a_list_or_an_error(text in r"([a-c*?!\[\]\\/~.#-]|\n){0,30}", path in "(/[a-c.]{1,3}){0,4}") {
            if let Ok(patterns) = Patterns::parse(&text, "/a", "/b") {
                let found = patterns.matches(&path, Entry::File);
                let roots = patterns.search_roots();
                prop_assert!(!found || roots.iter().any(|root| is_at_or_below(&path, root)), "{roots:?}");
            }
        }
    }
}
