//! Finds the file, reads it, and knows where in it everything is.

use super::error::{ConfigError, Place};
use super::keys;
use super::parse::Parsed;
use super::setting::Source;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use vmint_model::nearest;

/// The file's name.
const FILE: &str = "vmint.toml";
/// In bytes.
const LARGEST: u64 = 1 << 20;
/// How much of a value is shown in a message, in characters.
const SHOWN: usize = 60;

/// The nearest file, from `cwd` up to the root, and its folder.
pub(super) fn find(cwd: &Path) -> Result<Option<(PathBuf, &Path)>, ConfigError> {
    use io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
    for folder in cwd.ancestors() {
        let path = folder.join(FILE);
        match fs::metadata(&path) {
            Ok(meta) if !meta.is_file() => return Err(ConfigError::NotAFile { path }),
            Ok(_) => return Ok(Some((path, folder))),
            // A folder that may not be searched holds no settings for this user.
            Err(e) if matches!(e.kind(), NotFound | NotADirectory | PermissionDenied) => {}
            Err(source) => return Err(ConfigError::Read { path, source }),
        }
    }
    Ok(None)
}

/// A file of settings, read.
#[derive(Debug)]
pub(super) struct Document {
    path: PathBuf,
    text: String,
}

impl Document {
    pub(super) fn read(path: PathBuf) -> Result<Self, ConfigError> {
        let mut bytes = Vec::new();
        let read =
            File::open(&path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes));
        if let Err(source) = read {
            return Err(ConfigError::Read { path, source });
        }
        if bytes.len() as u64 > LARGEST {
            return Err(ConfigError::TooLarge {
                path,
                limit: LARGEST,
            });
        }
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Self { path, text }),
            Err(e) => {
                let valid = e.utf8_error().valid_up_to();
                let text = String::from_utf8_lossy(&e.as_bytes()[..valid]).into_owned();
                let place = Self { path, text }.place(valid).into();
                Err(ConfigError::NotText { place })
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The tables and values.
    pub(super) fn parse(&self) -> Result<Spanned<DeTable<'_>>, ConfigError> {
        DeTable::parse(&self.text).map_err(|e| ConfigError::Syntax {
            place: self.place(e.span().map_or(0, |span| span.start)).into(),
            message: e.message().to_owned(),
        })
    }

    /// Where a byte of the file is.
    fn place(&self, offset: usize) -> Place {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Place {
            path: self.path.clone(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }

    /// A value with where it stands.
    fn given<T>(&self, at: &Spanned<DeValue<'_>>, value: T) -> Given<T> {
        let place = self.place(at.span().start);
        let source = Source::File {
            path: place.path,
            line: place.line,
        };
        Given { value, source }
    }

    fn written<T>(&self, value: &Spanned<T>) -> String {
        shorten(self.text.get(value.span()).unwrap_or_default())
    }
}

/// One line of at most [`SHOWN`] characters.
pub(super) fn shorten(text: &str) -> String {
    let line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(SHOWN)
        .collect();
    if text.chars().nth(SHOWN).is_some() {
        line + "…"
    } else {
        line
    }
}

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Text,
    Number,
    TextOrNumber,
    Fraction,
    Flag,
}

impl Form {
    fn expected(self) -> &'static str {
        match self {
            Self::Text => "a string",
            Self::Number => "a whole number",
            Self::TextOrNumber => "a string or a whole number",
            Self::Fraction => "a number",
            Self::Flag => "true or false",
        }
    }

    /// The value as text, if it is written so.
    fn of(self, value: &DeValue<'_>) -> Option<String> {
        match (self, value) {
            (Self::Text | Self::TextOrNumber, DeValue::String(text)) => {
                Some(text.clone().into_owned())
            }
            (Self::Number | Self::TextOrNumber | Self::Fraction, DeValue::Integer(n)) => {
                // What does not fit is out of every range, and is refused by it.
                let number = i128::from_str_radix(n.as_str(), n.radix()).unwrap_or(i128::MAX);
                Some(number.to_string())
            }
            (Self::Fraction, DeValue::Float(x)) => Some(x.as_str().replace('_', "")),
            (Self::Flag, DeValue::Boolean(flag)) => Some(flag.to_string()),
            _ => None,
        }
    }
}

/// A value and who gave it.
#[derive(Clone, Debug)]
pub(super) struct Given<T> {
    pub(super) value: T,
    pub(super) source: Source,
}

/// A table of the file. Without a file, or without this table, it is empty.
#[derive(Clone, Copy)]
pub(super) struct Section<'d> {
    inner: Option<(&'d Document, &'d DeTable<'d>)>,
    /// Where its name is.
    at: usize,
}

/// A section and its name, for messages and for settings' keys.
#[derive(Clone)]
pub(super) struct Named<'d> {
    section: Section<'d>,
    name: String,
}

impl<'d> Named<'d> {
    /// The file itself.
    pub(super) fn top(inner: Option<(&'d Document, &'d DeTable<'d>)>) -> Self {
        Self {
            section: Section { inner, at: 0 },
            name: String::new(),
        }
    }

    /// A setting's key, with the name of its table.
    pub(super) fn key(&self, key: &str) -> String {
        if self.name.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.name)
        }
    }

    /// For messages.
    fn place_name(&self) -> String {
        if self.name.is_empty() {
            "outside of all tables".to_owned()
        } else {
            format!("in [{}]", self.name)
        }
    }

    fn entry(&self, key: &str) -> Option<(&'d Document, &'d Spanned<DeValue<'d>>, usize)> {
        let (document, table) = self.section.inner?;
        let (name, value) = table.get_key_value(key)?;
        Some((document, value, name.span().start))
    }

    /// Refuses every key that is not one of these. `elsewhere` says what to write for a key
    /// that is known in another table.
    pub(super) fn only(
        &self,
        known: &'static keys::Table,
        elsewhere: impl Fn(&str) -> Option<String>,
    ) -> Result<(), ConfigError> {
        let Some((document, table)) = self.section.inner else {
            return Ok(());
        };
        // The first in the file, not in the alphabet.
        let unknown = table
            .keys()
            .filter(|key| !known.has(key.get_ref()))
            .min_by_key(|key| key.span().start);
        let Some(unknown) = unknown else {
            return Ok(());
        };
        let key: &str = unknown.get_ref();
        let known: Vec<_> = known.names().collect();
        Err(ConfigError::UnknownKey {
            place: document.place(unknown.span().start).into(),
            key: shorten(key),
            table: self.place_name(),
            nearest: elsewhere(key)
                .or_else(|| nearest(key, known.iter().copied()).map(|near| format!("`{near}`"))),
            known,
        })
    }

    /// The table under a key.
    pub(super) fn table(&self, key: &str) -> Result<Self, ConfigError> {
        let name = self.key(key);
        let Some((document, value, at)) = self.entry(key) else {
            let section = Section { inner: None, at: 0 };
            return Ok(Self { section, name });
        };
        match value.get_ref() {
            DeValue::Table(table) => {
                let inner = Some((document, table));
                let section = Section { inner, at };
                Ok(Self { section, name })
            }
            _ => Err(self.wrong_type(document, key, value, "a table")),
        }
    }

    /// All tables in it, in the order of their names, with what `parse` makes of these.
    pub(super) fn tables<T>(
        &self,
        parse: impl Fn(&str) -> Parsed<T>,
    ) -> Result<Vec<(T, Self)>, ConfigError> {
        let Some((document, table)) = self.section.inner else {
            return Ok(Vec::new());
        };
        let read = table.keys().map(|key| {
            let name = parse(key.get_ref()).map_err(|why| ConfigError::Table {
                place: document.place(key.span().start).into(),
                table: format!("[{}.{}]", self.name, shorten(key.get_ref())),
                why: format!("cannot have this name: {why}"),
            })?;
            Ok((name, self.table(key.get_ref())?))
        });
        read.collect()
    }

    /// What is given for a key.
    pub(super) fn get<T>(
        &self,
        key: &str,
        form: Form,
        parse: impl Fn(&str) -> Parsed<T>,
    ) -> Result<Option<Given<T>>, ConfigError> {
        let Some((document, value, _)) = self.entry(key) else {
            return Ok(None);
        };
        let value_read = self.read(document, key, value, form, parse)?;
        Ok(Some(document.given(value, value_read)))
    }

    /// The list that is given for a key.
    pub(super) fn list<T>(
        &self,
        key: &str,
        parse: impl Fn(&str) -> Parsed<T>,
    ) -> Result<Option<Given<Vec<T>>>, ConfigError> {
        let Some((document, value, _)) = self.entry(key) else {
            return Ok(None);
        };
        let DeValue::Array(items) = value.get_ref() else {
            return Err(self.wrong_type(document, key, value, "a list of strings"));
        };
        let items: Result<Vec<T>, _> = items
            .iter()
            .map(|item| self.read(document, key, item, Form::Text, &parse))
            .collect();
        Ok(Some(document.given(value, items?)))
    }

    /// The user's own keys, in the order of their names.
    pub(super) fn keys(&self) -> impl Iterator<Item = &'d str> {
        let table = self.section.inner.map(|(_, table)| table);
        let keys = table.into_iter().flat_map(|table| table.keys());
        keys.map(|key| &**key.get_ref())
    }

    /// Whether there is a table under a key.
    pub(super) fn is_table(&self, key: &str) -> bool {
        let entry = self.entry(key);
        entry.is_some_and(|(_, value, _)| matches!(value.get_ref(), DeValue::Table(_)))
    }

    /// Whether there is a text under a key.
    pub(super) fn is_text(&self, key: &str) -> bool {
        let entry = self.entry(key);
        entry.is_some_and(|(_, value, _)| matches!(value.get_ref(), DeValue::String(_)))
    }

    /// All that is in it, when each key is the user's own and each value a text.
    pub(super) fn texts<T>(
        &self,
        parse: impl Fn(&str) -> Parsed<T>,
    ) -> Result<Vec<(String, Given<T>)>, ConfigError> {
        let Some((_, table)) = self.section.inner else {
            return Ok(Vec::new());
        };
        let mut texts = Vec::new();
        for key in table.keys().map(|key| &**key.get_ref()) {
            let given = self.get(key, Form::Text, &parse)?;
            texts.extend(given.map(|given| (key.to_owned(), given)));
        }
        Ok(texts)
    }

    fn read<T>(
        &self,
        document: &Document,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        form: Form,
        parse: impl Fn(&str) -> Parsed<T>,
    ) -> Result<T, ConfigError> {
        let Some(text) = form.of(value.get_ref()) else {
            return Err(self.wrong_type(document, key, value, form.expected()));
        };
        parse(&text).map_err(|why| ConfigError::Invalid {
            place: document.place(value.span().start).into(),
            key: key.to_owned(),
            table: self.place_name(),
            value: document.written(value),
            why,
        })
    }

    fn wrong_type(
        &self,
        document: &Document,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        expected: &'static str,
    ) -> ConfigError {
        ConfigError::WrongType {
            place: document.place(value.span().start).into(),
            key: shorten(key),
            table: self.place_name(),
            expected,
            found: value.get_ref().type_str(),
            value: document.written(value),
        }
    }

    /// The error of a value that does not go with others.
    pub(super) fn invalid(&self, key: &str, why: impl Into<String>) -> ConfigError {
        match self.entry(key) {
            Some((document, value, _)) => ConfigError::Invalid {
                place: document.place(value.span().start).into(),
                key: key.to_owned(),
                table: self.place_name(),
                value: document.written(value),
                why: why.into(),
            },
            None => self.lacks(why),
        }
    }

    /// The error of a table that is not complete.
    pub(super) fn lacks(&self, why: impl Into<String>) -> ConfigError {
        let (document, _) = self
            .section
            .inner
            .expect("only a table of a file lacks something");
        ConfigError::Table {
            place: document.place(self.section.at).into(),
            table: format!("[{}]", self.name),
            why: why.into(),
        }
    }
}
