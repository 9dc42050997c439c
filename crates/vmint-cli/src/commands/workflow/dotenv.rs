//! Files of secrets: `KEY=VALUE` lines, as `.env` files have them.
//!
//! Empty lines and comments are skipped, and `export ` before a name. In double quotes, `\n \r \t \" \\ \$` stand for
//! what they do elsewhere; in single quotes everything stands for itself; both may hold line breaks. Without quotes a
//! value ends before ` #`. Nothing is expanded. A message names the line and never what stands there.

use crate::values::{Secret, check_secret_name};
use std::iter::Peekable;
use std::str::Chars;

/// Reads the content of a file. The error names the line.
pub fn parse(text: &str) -> Result<Vec<(String, Secret)>, String> {
    let mut reader = Reader {
        rest: text
            .strip_prefix('\u{feff}')
            .unwrap_or(text)
            .chars()
            .peekable(),
        line: 1,
    };
    let mut all = Vec::new();
    while let Some((name, value)) = reader.entry()? {
        all.push((name, Secret(value)));
    }
    Ok(all)
}

struct Reader<'a> {
    rest: Peekable<Chars<'a>>,
    line: usize,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<char> {
        let next = self.rest.next();
        if next == Some('\n') {
            self.line += 1;
        }
        next
    }

    fn skip(&mut self, is: impl Fn(char) -> bool) {
        while self.rest.peek().is_some_and(|&c| is(c)) {
            self.next();
        }
    }

    fn take(&mut self, is: impl Fn(char) -> bool) -> String {
        let mut taken = String::new();
        while let Some(c) = self.rest.next_if(|&c| is(c)) {
            taken.push(c);
        }
        taken
    }

    fn entry(&mut self) -> Result<Option<(String, String)>, String> {
        loop {
            self.skip(char::is_whitespace);
            match self.rest.peek() {
                None => return Ok(None),
                Some('#') => self.skip(|c| c != '\n'),
                Some(_) => break,
            }
        }
        let line = self.line;
        let name = self.take(|c| c != '=' && c != '\n');
        if self.rest.peek() != Some(&'=') {
            return Err(format!("line {line}: not KEY=VALUE"));
        }
        self.next();
        let name = name.trim();
        let name = name.strip_prefix("export ").unwrap_or(name).trim_start();
        // Of a name that is none, what stands there may be a part of a secret.
        check_secret_name(name).map_err(|_| {
            format!("line {line}: the text before = is not a name: a name has letters, digits and _, and does not begin with a digit")
        })?;
        self.skip(|c| c == ' ' || c == '\t');
        let value = match self.rest.peek() {
            Some(&quote @ ('"' | '\'')) => self.quoted(quote, line)?,
            _ => self.plain(),
        };
        Ok(Some((name.to_owned(), value)))
    }

    fn quoted(&mut self, quote: char, line: usize) -> Result<String, String> {
        self.next();
        let mut value = String::new();
        loop {
            match self.next() {
                None => return Err(format!("line {line}: a quote is not closed")),
                Some(c) if c == quote => break,
                Some('\\') if quote == '"' => match self.next() {
                    Some('n') => value.push('\n'),
                    Some('r') => value.push('\r'),
                    Some('t') => value.push('\t'),
                    Some(c @ ('"' | '\\' | '$')) => value.push(c),
                    Some(c) => value.extend(['\\', c]),
                    None => return Err(format!("line {line}: a quote is not closed")),
                },
                Some(c) => value.push(c),
            }
        }
        let end = self.line;
        let behind = self.take(|c| c != '\n');
        let behind = behind.trim_start();
        if behind.is_empty() || behind.starts_with('#') {
            Ok(value)
        } else {
            Err(format!(
                "line {end}: something stands behind the closing quote"
            ))
        }
    }

    fn plain(&mut self) -> String {
        let value = self.take(|c| c != '\n');
        // A `#` is a comment's only behind a blank: passwords have them.
        let end = [" #", "\t#"]
            .iter()
            .filter_map(|mark| value.find(mark))
            .min();
        let value = match end {
            Some(end) => &value[..end],
            None if value.starts_with('#') => "",
            None => &value,
        };
        value.trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(String, String)>, String> {
        let all = parse(text)?;
        Ok(all
            .into_iter()
            .map(|(name, value)| (name, value.0))
            .collect())
    }

    #[test]
    fn lines_quotes_comments_and_line_breaks_are_read() {
        let text = "\u{feff}# keys\n\nA=plain value # comment\nB = pass#word\r\nexport C='it''\n";
        assert!(read(text).is_err(), "something behind the quote");
        let text = "\u{feff}# keys\n\nA=plain value # comment\nexport B = pass#word\r\n\
                    C='$HOME \\n # no comment' # one\nD=\"a\\nb \\\"\\$x\\\" \\q\"\nE=\nF=#\n\
                    G=\"-----BEGIN\nKEY\n-----END\"\nH=a=b";
        let expected = [
            ("A", "plain value"),
            ("B", "pass#word"),
            ("C", "$HOME \\n # no comment"),
            ("D", "a\nb \"$x\" \\q"),
            ("E", ""),
            ("F", ""),
            ("G", "-----BEGIN\nKEY\n-----END"),
            ("H", "a=b"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(read(text).unwrap(), expected);
        assert_eq!(read(""), Ok(Vec::new()));
    }

    #[test]
    fn what_is_wrong_is_told_by_its_line_and_never_shown() {
        for (text, message) in [
            ("A=1\nhunter2\n", "line 2: not KEY=VALUE"),
            (
                "\n\nhunter 2=x",
                "line 3: the text before = is not a name: a name has letters, digits and _, and does not begin with a digit",
            ),
            ("A='x\nhunter2\n", "line 1: a quote is not closed"),
            ("A=\"hunter2\\", "line 1: a quote is not closed"),
            (
                "A=\"x\ny\" hunter2",
                "line 2: something stands behind the closing quote",
            ),
        ] {
            assert_eq!(read(text).unwrap_err(), message, "{text:?}");
        }
    }
}
