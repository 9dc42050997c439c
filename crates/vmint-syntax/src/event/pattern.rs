//! Filter patterns of branches, tags and paths, by GitHub's
//! [cheat sheet](https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-syntax#filter-pattern-cheat-sheet).
//!
//! | pattern | matches |
//! |---|---|
//! | `*` | any characters but `/` |
//! | `**` | any characters; `**/` at the beginning of a folder's name also nothing |
//! | `?` | the character before it, or nothing |
//! | `+` | the character before it, once or more |
//! | `[]` | one of the characters listed, or of the ranges `a-z`, `A-Z`, `0-9` |
//! | `!` | at the beginning: what matches is out again |
//! | `\` | the next character as itself |
//!
//! A pattern is matched by following all its possible positions at once, so that the time is bounded by the product of
//! both lengths, whatever the pattern.

use thiserror::Error;

/// One pattern, without its `!`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    steps: Vec<Step>,
}

/// Each step is a position that matching can be at.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// One character, as often as this.
    One(Class, Times),
    /// `*`.
    Star,
    /// `**`.
    Any,
    /// `**/`, first half: nothing (then the second half is left out, too), or the first character of a folder.
    Folders,
    /// `**/`, second half: any characters up to a `/`.
    FoldersRest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Times {
    Once,
    Maybe,
    Many,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Class {
    Char(char),
    Ranges(Vec<(char, char)>),
}

impl Class {
    fn has(&self, c: char) -> bool {
        match self {
            Self::Char(own) => *own == c,
            Self::Ranges(ranges) => ranges.iter().any(|(from, to)| (*from..=*to).contains(&c)),
        }
    }
}

/// Why a text is not a pattern. Positions are counted in characters from 1.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PatternError {
    /// It is empty.
    #[error("the pattern is empty")]
    Empty,
    /// `?` or `+` with nothing to repeat.
    #[error(
        "`{sign}` at position {position} of pattern `{pattern}` must follow a character or `[…]`; for the character itself write `\\{sign}`"
    )]
    NothingToRepeat {
        /// The pattern.
        pattern: String,
        /// `?` or `+`.
        sign: char,
        /// Where.
        position: usize,
    },
    /// `[` without `]`.
    #[error(
        "`[` at position {position} of pattern `{pattern}` has no `]`; for the character itself write `\\[`"
    )]
    Unclosed {
        /// The pattern.
        pattern: String,
        /// Where.
        position: usize,
    },
    /// `[]`.
    #[error("`[]` at position {position} of pattern `{pattern}` lists no character")]
    NoCharacter {
        /// The pattern.
        pattern: String,
        /// Where.
        position: usize,
    },
    /// A range of something else.
    #[error(
        "the range `{from}-{to}` of pattern `{pattern}` is none: ranges lie within a-z, A-Z or 0-9"
    )]
    Range {
        /// The pattern.
        pattern: String,
        /// Its first character.
        from: char,
        /// Its last.
        to: char,
    },
    /// `[!…]` or `[^…]`.
    #[error(
        "`[{sign}` in pattern `{pattern}`: GitHub's patterns have no brackets for all other characters; list those that are meant"
    )]
    Negated {
        /// The pattern.
        pattern: String,
        /// `!` or `^`.
        sign: char,
    },
    /// `\` at the end.
    #[error("pattern `{pattern}` ends with a `\\` that has nothing to escape")]
    Escape {
        /// The pattern.
        pattern: String,
    },
    /// Only patterns with `!`.
    #[error(
        "all patterns begin with `!`, so nothing can match; add one without, such as `**`, or use `{instead}`"
    )]
    OnlyNegative {
        /// The filter for that: `branches-ignore`.
        instead: &'static str,
    },
}

impl Pattern {
    /// Reads a pattern; a leading `!` has no meaning here.
    pub fn parse(pattern: &str) -> Result<Self, PatternError> {
        if pattern.is_empty() {
            return Err(PatternError::Empty);
        }
        let chars: Vec<char> = pattern.chars().collect();
        let mut steps: Vec<Step> = Vec::with_capacity(chars.len());
        let mut at = 0;
        while let Some(&c) = chars.get(at) {
            match c {
                '*' => {
                    let stars = chars[at..].iter().take_while(|c| **c == '*').count();
                    let first_of_name = at == 0 || chars[at - 1] == '/';
                    at += stars;
                    if stars == 1 {
                        steps.push(Step::Star);
                    } else if first_of_name && chars.get(at) == Some(&'/') {
                        steps.extend([Step::Folders, Step::FoldersRest]);
                        at += 1;
                    } else {
                        steps.push(Step::Any);
                    }
                    continue;
                }
                '?' | '+' => match steps.last_mut() {
                    Some(Step::One(_, times @ Times::Once)) => {
                        *times = if c == '?' { Times::Maybe } else { Times::Many };
                    }
                    _ => {
                        return Err(PatternError::NothingToRepeat {
                            pattern: pattern.to_owned(),
                            sign: c,
                            position: at + 1,
                        });
                    }
                },
                '[' => {
                    let (class, length) = brackets(pattern, &chars[at + 1..], at + 1)?;
                    steps.push(Step::One(class, Times::Once));
                    at += length;
                }
                '\\' => {
                    at += 1;
                    let escaped = chars.get(at).ok_or_else(|| PatternError::Escape {
                        pattern: pattern.to_owned(),
                    })?;
                    steps.push(Step::One(Class::Char(*escaped), Times::Once));
                }
                c => steps.push(Step::One(Class::Char(c), Times::Once)),
            }
            at += 1;
        }
        Ok(Self { steps })
    }

    /// Whether all of a text matches.
    pub fn matches(&self, text: &str) -> bool {
        let end = self.steps.len();
        let (mut now, mut next) = (vec![false; end + 1], vec![false; end + 1]);
        now[0] = true;
        self.skip(&mut now);
        for c in text.chars() {
            next.fill(false);
            for (at, step) in self.steps.iter().enumerate() {
                if !now[at] {
                    continue;
                }
                match step {
                    Step::One(class, times) if class.has(c) => {
                        next[at + 1] = true;
                        next[at] |= *times == Times::Many;
                    }
                    Step::One(..) => {}
                    Step::Star => next[at] |= c != '/',
                    Step::Any => next[at] = true,
                    Step::Folders => next[at + 1] = true,
                    Step::FoldersRest => {
                        next[at] = true;
                        next[at + 1] |= c == '/';
                    }
                }
            }
            self.skip(&mut next);
            std::mem::swap(&mut now, &mut next);
            if !now.contains(&true) {
                return false;
            }
        }
        now[end]
    }

    /// Adds the positions that are reached without a character.
    fn skip(&self, positions: &mut [bool]) {
        for (at, step) in self.steps.iter().enumerate() {
            if !positions[at] {
                continue;
            }
            match step {
                Step::One(_, Times::Maybe) | Step::Star | Step::Any => positions[at + 1] = true,
                Step::Folders => positions[at + 2] = true,
                Step::One(..) | Step::FoldersRest => {}
            }
        }
    }
}

/// The class that follows a `[`, and how many characters it takes with its `]`.
fn brackets(pattern: &str, rest: &[char], position: usize) -> Result<(Class, usize), PatternError> {
    let pattern = || pattern.to_owned();
    let unclosed = || PatternError::Unclosed {
        pattern: pattern(),
        position,
    };
    match rest.first() {
        Some(']') => {
            return Err(PatternError::NoCharacter {
                pattern: pattern(),
                position,
            });
        }
        Some(sign @ ('!' | '^')) => {
            return Err(PatternError::Negated {
                pattern: pattern(),
                sign: *sign,
            });
        }
        _ => {}
    }
    let mut ranges = Vec::new();
    let mut at = 0;
    loop {
        let mut c = *rest.get(at).ok_or_else(unclosed)?;
        if c == ']' {
            return Ok((Class::Ranges(ranges), at + 1));
        }
        if c == '\\' {
            at += 1;
            c = *rest.get(at).ok_or_else(unclosed)?;
        }
        let to = rest.get(at + 2).filter(|to| **to != ']');
        let Some(&to) = to.filter(|_| rest[at + 1] == '-') else {
            ranges.push((c, c));
            at += 1;
            continue;
        };
        let within = [('a', 'z'), ('A', 'Z'), ('0', '9')]
            .iter()
            .any(|(first, last)| *first <= c && c <= to && to <= *last);
        if !within {
            return Err(PatternError::Range {
                pattern: pattern(),
                from: c,
                to,
            });
        }
        ranges.push((c, to));
        at += 3;
    }
}

/// A list of patterns in which the last that matches decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patterns {
    /// In the file's order.
    rules: Vec<(Sense, Pattern)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sense {
    In,
    Out,
}

impl Patterns {
    /// Reads the patterns of `branches`, `tags`, `paths` and their `-ignore`.
    pub fn parse<S: AsRef<str>>(patterns: &[S]) -> Result<Self, PatternError> {
        let rule = |pattern: &S| {
            let (sense, pattern) = match pattern.as_ref().strip_prefix('!') {
                Some(rest) => (Sense::Out, rest),
                None => (Sense::In, pattern.as_ref()),
            };
            Ok((sense, Pattern::parse(pattern)?))
        };
        let rules = patterns.iter().map(rule).collect::<Result<_, _>>()?;
        Ok(Self { rules })
    }

    /// Refuses lists in which every pattern is negative, as GitHub does for `branches`, `tags` and `paths`.
    pub fn require_positive(self, instead: &'static str) -> Result<Self, PatternError> {
        if !self.rules.is_empty() && self.rules.iter().all(|(sense, _)| *sense == Sense::Out) {
            return Err(PatternError::OnlyNegative { instead });
        }
        Ok(self)
    }

    /// Whether the last pattern that matches is one without `!`.
    pub fn matches(&self, text: &str) -> bool {
        let decisive = self.rules.iter().rev().find(|(_, p)| p.matches(text));
        decisive.is_some_and(|(sense, _)| *sense == Sense::In)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(patterns: &[&str], matching: &[&str], others: &[&str]) {
        let list = Patterns::parse(patterns).unwrap();
        for text in matching {
            assert!(list.matches(text), "{patterns:?} should match {text}");
        }
        for text in others {
            assert!(!list.matches(text), "{patterns:?} should not match {text}");
        }
    }

    #[test]
    fn branches_and_tags_match_as_in_the_cheat_sheet() {
        check(
            &["feature/*"],
            &["feature/my-branch", "feature/your-branch"],
            &["feature/a/b", "feature"],
        );
        check(
            &["feature/**"],
            &[
                "feature/beta-a/my-branch",
                "feature/your-branch",
                "feature/mona/the/octocat",
            ],
            &["features/x"],
        );
        check(&["main"], &["main"], &["main2", "a/main", "Main"]);
        check(&["*"], &["main", "releases"], &["all/the/branches"]);
        check(&["**"], &["all/the/branches", "every/tag"], &[]);
        check(
            &["*feature"],
            &["mona-feature", "feature", "ver-10-feature"],
            &["a/feature"],
        );
        check(&["v2*"], &["v2", "v2.0", "v2.9"], &["v1", "xv2"]);
        check(
            &["v[12].[0-9]+.[0-9]+"],
            &["v1.10.1", "v2.0.0"],
            &["v3.0.0", "v1.1", "v1..1", "v1.0.0-rc1"],
        );
    }

    #[test]
    fn paths_match_as_in_the_cheat_sheet() {
        check(&["*"], &["README.md", "server.rb"], &["docs/README.md"]);
        check(
            &["*.jsx?"],
            &["page.js", "page.jsx"],
            &["page.jsxx", "page.j"],
        );
        check(&["*.js"], &["app.js", "index.js"], &["js/app.js"]);
        check(
            &["**.js"],
            &["index.js", "js/index.js", "src/js/app.js"],
            &["index.jsx"],
        );
        check(
            &["docs/*"],
            &["docs/README.md", "docs/file.txt"],
            &["docs/a/b", "x/docs/a"],
        );
        check(
            &["docs/**"],
            &["docs/README.md", "docs/mona/octocat.txt"],
            &["x/docs/a"],
        );
        check(
            &["docs/**/*.md"],
            &[
                "docs/README.md",
                "docs/mona/hello-world.md",
                "docs/a/markdown/file.md",
            ],
            &["docs.md", "docs/a.txt"],
        );
        check(
            &["**/docs/**"],
            &[
                "docs/hello.md",
                "dir/docs/my-file.txt",
                "space/docs/plan/space.doc",
            ],
            &["mydocs/hello.md"],
        );
        check(
            &["**/README.md"],
            &["README.md", "js/README.md"],
            &["OLD-README.md"],
        );
        check(
            &["**/*src/**"],
            &["a/src/app.js", "my-src/code/js/app.js"],
            &["src2/app.js"],
        );
        check(
            &["**/*-post.md"],
            &["my-post.md", "path/their-post.md"],
            &["post.md"],
        );
        check(
            &["**/migrate-*.sql"],
            &[
                "migrate-10909.sql",
                "db/migrate-v1.0.sql",
                "db/sept/migrate-v1.sql",
            ],
            &["db/migrate-x/y.sql"],
        );
        check(
            &["*.md", "!README.md"],
            &["hello.md"],
            &["README.md", "docs/hello.md"],
        );
        check(
            &["*.md", "!README.md", "README*"],
            &["hello.md", "README.md", "README.doc"],
            &["docs/README.md"],
        );
    }

    #[test]
    fn signs_match_as_documented_above_the_tables() {
        check(&["Octo*"], &["Octocat", "Octo"], &["Octo/cat"]);
        check(&["Octoc?t"], &["Octoct", "Octot"], &["Octocat"]);
        check(&["[CB]at"], &["Cat", "Bat"], &["Rat", "at", "CBat"]);
        check(&["[1-2]00"], &["100", "200"], &["300"]);
        check(&["[0-9a-z]"], &["5", "q"], &["A", "", "55"]);
        check(&[r"a\*b\+\[c\]\\"], &[r"a*b+[c]\"], &["axb+[c]\\"]);
        check(&[r"\!x"], &["!x"], &["x"]);
        check(&["größe/?x"], &["größex", "größe/x"], &["größe/"]);
        check(&["a[x-]b"], &["axb", "a-b"], &["ayb"]);
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_a_reason() {
        let errors: Vec<String> = [
            "", "+a", "a*?", "a++", "x[", "x[a", "x[]", "[!a]", "[z-a]", "[0-f]", "a\\",
        ]
        .iter()
        .map(|p| Pattern::parse(p).unwrap_err().to_string())
        .collect();
        insta::assert_snapshot!(errors.join("\n"), @r"
        the pattern is empty
        `+` at position 1 of pattern `+a` must follow a character or `[…]`; for the character itself write `\+`
        `?` at position 3 of pattern `a*?` must follow a character or `[…]`; for the character itself write `\?`
        `+` at position 3 of pattern `a++` must follow a character or `[…]`; for the character itself write `\+`
        `[` at position 2 of pattern `x[` has no `]`; for the character itself write `\[`
        `[` at position 2 of pattern `x[a` has no `]`; for the character itself write `\[`
        `[]` at position 2 of pattern `x[]` lists no character
        `[!` in pattern `[!a]`: GitHub's patterns have no brackets for all other characters; list those that are meant
        the range `z-a` of pattern `[z-a]` is none: ranges lie within a-z, A-Z or 0-9
        the range `0-f` of pattern `[0-f]` is none: ranges lie within a-z, A-Z or 0-9
        pattern `a\` ends with a `\` that has nothing to escape
        ");
        let negative = Patterns::parse(&["!a"])
            .unwrap()
            .require_positive("branches-ignore");
        insta::assert_snapshot!(negative.unwrap_err(), @"all patterns begin with `!`, so nothing can match; add one without, such as `**`, or use `branches-ignore`");
    }

    #[test]
    fn a_pattern_made_to_explode_is_matched_in_time() {
        let pattern = Pattern::parse(&"**a*".repeat(2_000)).unwrap();
        assert!(!pattern.matches(&"a".repeat(1_999)));
        assert!(pattern.matches(&"a".repeat(2_000)));
    }

    proptest! {
        #[test]
        fn any_text_is_a_pattern_or_an_error(pattern in r"[a-c*?+!\[\]\\/-]{0,20}|.*", text in "[a-c/]{0,20}") {
            if let Ok(patterns) = Patterns::parse(&[pattern]) {
                patterns.matches(&text);
            }
        }

        #[test]
        fn an_escaped_text_matches_itself_alone(text in r"[a-c*?+!\[\]\\/-]{1,12}", other in "[a-c*/]{1,12}") {
            let escaped: String = text.chars().flat_map(|c| ['\\', c]).collect();
            let pattern = Pattern::parse(&escaped).unwrap();
            prop_assert!(pattern.matches(&text));
            prop_assert_eq!(pattern.matches(&other), text == other);
        }
    }
}
