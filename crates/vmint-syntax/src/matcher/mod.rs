//! Problem matchers: annotations made of what compilers and linters print.
//!
//! A file `{"problemMatcher": [{"owner": …, "pattern": […]}]}` is named by `::add-matcher::`; each line that a step prints
//! is then shown to all matchers of the job, the newest first. Patterns are matched in time linear in the line, so none
//! of them needs a time limit as on GitHub; look-around and back references cannot be matched so, and are refused.

use crate::annotation::{Annotation, Level};
use regex::{Captures, Regex, RegexBuilder};
use serde::Deserialize;

/// How large the file of a matcher may be.
pub const MAX_FILE: usize = 1 << 20;

/// How many matchers a job can have at a time.
pub const MAX_MATCHERS: usize = 64;

const MAX_PATTERNS: usize = 16;
const MAX_COMPILED: usize = 1 << 20;

/// A file of matchers that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MatcherError {
    /// The file is too large.
    #[error("it is larger than {MAX_FILE} bytes")]
    TooLarge,
    /// It is not of the form.
    #[error("it is not a file of problem matchers: {0}")]
    Form(String),
    /// A matcher says what cannot be.
    #[error("the matcher `{owner}`: {what}")]
    Matcher {
        /// Whose.
        owner: String,
        /// What is wrong.
        what: String,
    },
    /// There are too many.
    #[error(
        "a job has at most {MAX_MATCHERS} problem matchers; remove some with `::remove-matcher owner=…::`"
    )]
    TooMany,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(default)]
    problem_matcher: Vec<MatcherConfig>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MatcherConfig {
    #[serde(default)]
    owner: String,
    #[serde(default)]
    severity: String,
    #[serde(default)]
    from_path: Option<String>,
    #[serde(default)]
    pattern: Vec<PatternConfig>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PatternConfig {
    #[serde(default)]
    regexp: String,
    file: Option<usize>,
    line: Option<usize>,
    column: Option<usize>,
    end_line: Option<usize>,
    end_column: Option<usize>,
    severity: Option<usize>,
    code: Option<usize>,
    message: Option<usize>,
    from_path: Option<usize>,
    #[serde(default, rename = "loop")]
    repeat: bool,
}

/// What can be found, in the order of [`PatternConfig::groups`].
const FIELDS: [&str; 9] = [
    "file",
    "line",
    "column",
    "endLine",
    "endColumn",
    "severity",
    "code",
    "message",
    "fromPath",
];
const FILE: usize = 0;
const LINE: usize = 1;
const COLUMN: usize = 2;
const END_LINE: usize = 3;
const END_COLUMN: usize = 4;
const SEVERITY: usize = 5;
const CODE: usize = 6;
const MESSAGE: usize = 7;
const FROM_PATH: usize = 8;

type Fields = [Option<String>; FIELDS.len()];

impl PatternConfig {
    fn groups(&self) -> [Option<usize>; FIELDS.len()] {
        [
            self.file,
            self.line,
            self.column,
            self.end_line,
            self.end_column,
            self.severity,
            self.code,
            self.message,
            self.from_path,
        ]
    }
}

#[derive(Debug)]
struct Pattern {
    regex: Regex,
    groups: [Option<usize>; FIELDS.len()],
    repeat: bool,
}

impl Pattern {
    /// What earlier lines gave stays; the rest is taken from this one.
    fn fields(&self, before: Option<&Fields>, captures: &Captures) -> Fields {
        std::array::from_fn(|field| {
            let kept = before.and_then(|before| before[field].clone());
            let found = |group| Some(captures.get(group)?.as_str().to_owned());
            kept.or_else(|| self.groups[field].and_then(found))
        })
    }
}

#[derive(Debug)]
struct Matcher {
    owner: String,
    severity: String,
    from_path: Option<String>,
    patterns: Vec<Pattern>,
    /// What the lines before have given, for each pattern but the last.
    state: Vec<Option<Fields>>,
}

/// The matchers of a job.
#[derive(Debug, Default)]
pub struct Matchers {
    matchers: Vec<Matcher>,
}

impl Matchers {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds those of a file. They come before those that are there; of the same owner, they replace them.
    pub fn add(&mut self, file: &[u8]) -> Result<(), MatcherError> {
        let new: Vec<Matcher> = read(file)?
            .into_iter()
            .map(Matcher::new)
            .collect::<Result<_, _>>()?;
        for (index, matcher) in new.iter().enumerate() {
            if new[..index].iter().any(|other| other.is_of(&matcher.owner)) {
                return Err(matcher.wrong("its owner appears twice in the file"));
            }
        }
        let stays = |old: &&Matcher| !new.iter().any(|matcher| matcher.is_of(&old.owner));
        if new.len() + self.matchers.iter().filter(stays).count() > MAX_MATCHERS {
            return Err(MatcherError::TooMany);
        }
        for matcher in new {
            self.remove(&matcher.owner);
            self.matchers.insert(0, matcher);
        }
        Ok(())
    }

    /// Removes those of an owner.
    pub fn remove(&mut self, owner: &str) {
        self.matchers.retain(|matcher| !matcher.is_of(owner));
    }

    /// Removes those that a file names.
    pub fn remove_file(&mut self, file: &[u8]) -> Result<(), MatcherError> {
        for config in read(file)? {
            self.remove(&config.owner);
        }
        Ok(())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.matchers.is_empty()
    }

    /// Shows a line, without its line break and colours. The annotation is not masked yet; its file is as the tool
    /// printed it.
    pub fn look(&mut self, line: &str) -> Option<Annotation<String>> {
        for index in 0..self.matchers.len() {
            let Some(fields) = self.matchers[index].look(line) else {
                continue;
            };
            for (other, matcher) in self.matchers.iter_mut().enumerate() {
                if other != index {
                    matcher.forget();
                }
            }
            if let Some(annotation) = annotation(fields) {
                return Some(annotation);
            }
        }
        None
    }

    /// The end of a step: what was half found is forgotten.
    pub fn forget(&mut self) {
        for matcher in &mut self.matchers {
            matcher.forget();
        }
    }
}

fn read(file: &[u8]) -> Result<Vec<MatcherConfig>, MatcherError> {
    if file.len() > MAX_FILE {
        return Err(MatcherError::TooLarge);
    }
    let file = file.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file);
    let file: File =
        serde_json::from_slice(file).map_err(|error| MatcherError::Form(error.to_string()))?;
    Ok(file.problem_matcher)
}

impl Matcher {
    fn new(config: MatcherConfig) -> Result<Self, MatcherError> {
        let wrong = |what: String| MatcherError::Matcher {
            owner: config.owner.clone(),
            what,
        };
        if config.owner.is_empty() {
            return Err(wrong("it has no owner".into()));
        }
        if !config.severity.is_empty() && level(&config.severity).is_none() {
            let severity = &config.severity;
            let what = format!("its severity is `{severity}`, not error, warning or notice");
            return Err(wrong(what));
        }
        let last = config.pattern.len().wrapping_sub(1);
        if !(1..=MAX_PATTERNS).contains(&config.pattern.len()) {
            let count = config.pattern.len();
            return Err(wrong(format!(
                "it has {count} patterns, not 1 to {MAX_PATTERNS}"
            )));
        }
        let mut patterns = Vec::new();
        let mut set = [false; FIELDS.len()];
        for (index, pattern) in config.pattern.iter().enumerate() {
            if pattern.repeat && (index == 0 || index != last) {
                return Err(wrong(
                    "only the last of several patterns can have `loop`".into(),
                ));
            }
            if pattern.repeat && pattern.message.is_none() {
                return Err(wrong("the pattern with `loop` needs a `message`".into()));
            }
            let regex = RegexBuilder::new(&from_javascript(&pattern.regexp))
                .size_limit(MAX_COMPILED)
                .dfa_size_limit(MAX_COMPILED)
                .build()
                .map_err(|error| wrong(format!("its pattern {}: {error}", index + 1)))?;
            for (field, group) in pattern.groups().into_iter().enumerate() {
                let Some(group) = group else { continue };
                let name = FIELDS[field];
                if set[field] {
                    return Err(wrong(format!("two of its patterns set `{name}`")));
                }
                if group >= regex.captures_len() {
                    return Err(wrong(format!(
                        "`{name}` is group {group}, which its pattern {} does not have",
                        index + 1
                    )));
                }
                set[field] = true;
            }
            patterns.push(Pattern {
                regex,
                groups: pattern.groups(),
                repeat: pattern.repeat,
            });
        }
        if !set[MESSAGE] {
            return Err(wrong("none of its patterns sets `message`".into()));
        }
        Ok(Self {
            state: vec![None; last],
            owner: config.owner,
            severity: config.severity,
            from_path: config.from_path,
            patterns,
        })
    }

    fn is_of(&self, owner: &str) -> bool {
        self.owner.eq_ignore_ascii_case(owner)
    }

    fn wrong(&self, what: &str) -> MatcherError {
        MatcherError::Matcher {
            owner: self.owner.clone(),
            what: what.into(),
        }
    }

    fn forget(&mut self) {
        self.state.fill(None);
    }

    /// Several patterns match lines that follow each other. From the last to the first, so that a line is not taken for
    /// two of them.
    fn look(&mut self, line: &str) -> Option<Fields> {
        let last = self.patterns.len() - 1;
        for index in (0..=last).rev() {
            let before = match index {
                0 => None,
                _ => match self.state[index - 1].clone() {
                    Some(fields) => Some(fields),
                    None => continue,
                },
            };
            let pattern = &self.patterns[index];
            let fields = pattern
                .regex
                .captures(line)
                .map(|captures| pattern.fields(before.as_ref(), &captures));
            match fields {
                Some(fields) if index == last => {
                    let repeat = pattern.repeat;
                    self.forget();
                    if repeat {
                        self.state[index - 1] = before;
                    }
                    return Some(self.complete(fields));
                }
                // What the line before has begun is used up by this line, whether it fits or not.
                None if index == last && index > 0 => self.state[index - 1] = None,
                None if index == last => {}
                fields => self.state[index] = fields,
            }
        }
        None
    }

    fn complete(&self, mut fields: Fields) -> Fields {
        let empty = |field: &Option<String>| field.as_ref().is_none_or(String::is_empty);
        if empty(&fields[SEVERITY]) {
            fields[SEVERITY] = Some(self.severity.clone());
        }
        if empty(&fields[FROM_PATH]) {
            fields[FROM_PATH].clone_from(&self.from_path);
        }
        fields
    }
}

/// The pattern of JavaScript, for which the files are written, as one of the `regex` crate: `\d` and `\w` are of ASCII, and
/// there are no classes in classes. Look-around and back references stay an error.
fn from_javascript(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let (mut chars, mut in_class) = (pattern.chars(), false);
    while let Some(char) = chars.next() {
        match char {
            '[' | '&' | '~' if in_class => out.extend(['\\', char]),
            '[' | ']' => {
                in_class = char == '[';
                out.push(char);
            }
            '\\' => match chars.next() {
                Some('d') => out.push_str("[0-9]"),
                Some('w') => out.push_str("[0-9A-Za-z_]"),
                Some('D') => out.push_str("[^0-9]"),
                Some('W') => out.push_str("[^0-9A-Za-z_]"),
                // Any sign can be escaped in JavaScript.
                Some(
                    char @ ('/' | '"' | '\'' | '`' | ',' | ';' | ':' | '=' | '!' | '@' | '%' | '_'
                    | ' '),
                ) => {
                    out.push(char);
                }
                Some(char) => out.extend(['\\', char]),
                None => out.push('\\'),
            },
            char => out.push(char),
        }
    }
    out
}

fn level(severity: &str) -> Option<Level> {
    match severity.to_ascii_lowercase().as_str() {
        "" | "error" => Some(Level::Error),
        "warning" => Some(Level::Warning),
        "notice" => Some(Level::Notice),
        _ => None,
    }
}

fn annotation(mut fields: Fields) -> Option<Annotation<String>> {
    let level = level(fields[SEVERITY].as_deref().unwrap_or_default())?;
    let message = fields[MESSAGE]
        .take()
        .filter(|text| !text.trim().is_empty())?;
    let number = |field: &Option<String>| field.as_deref()?.trim().parse().ok();
    let file = fields[FILE].take().filter(|file| !file.trim().is_empty());
    // A file that is relative to where its project is.
    let file = file.map(|file| match fields[FROM_PATH].as_deref() {
        Some(from) if !file.starts_with('/') => match from.rsplit_once('/') {
            Some((folder, _)) => format!("{folder}/{file}"),
            None => file,
        },
        _ => file,
    });
    let code = fields[CODE].take().filter(|code| !code.trim().is_empty());
    Some(Annotation {
        level,
        message,
        title: code.map(|code| code.trim().to_owned()),
        file,
        line: number(&fields[LINE]),
        end_line: number(&fields[END_LINE]),
        column: number(&fields[COLUMN]),
        end_column: number(&fields[END_COLUMN]),
    })
}

#[cfg(test)]
mod tests;
