//! `options` and `with.args`: one text, many arguments.
//!
//! GitHub's runner puts the text into a command line which .NET splits, not a shell: only double quotes keep words together, a backslash is
//! special only before a double quote, and single quotes, `$` and `*` mean nothing.

/// A text that cannot be split as its writer meant it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WordsError {
    /// `'two words'`.
    #[error(
        "`{0}` has single quotes, which do not keep words together on GitHub: write double quotes"
    )]
    SingleQuotes(String),
    /// `"no end`.
    #[error("a double quote is not closed")]
    Open,
    /// No program can be given such an argument.
    #[error("it contains a NUL character")]
    Nul,
}

/// Splits a text into arguments.
pub fn split(text: &str) -> Result<Vec<String>, WordsError> {
    if text.contains('\0') {
        return Err(WordsError::Nul);
    }
    let mut words = Vec::new();
    let mut rest = text.trim_start_matches(is_blank);
    while !rest.is_empty() {
        let (word, after) = first(rest)?;
        words.push(word);
        rest = after.trim_start_matches(is_blank);
    }
    Ok(words)
}

/// YAML's folded scalars end in a line break, and literal ones are full of them.
fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

fn first(text: &str) -> Result<(String, &str), WordsError> {
    let mut word = String::new();
    let mut is_quoted = false;
    let mut singles = 0_usize;
    let mut chars = text.char_indices().peekable();
    let mut end = text.len();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => {
                let mut slashes = 1;
                while chars.next_if(|(_, c)| *c == '\\').is_some() {
                    slashes += 1;
                }
                let before_quote = chars.peek().is_some_and(|(_, c)| *c == '"');
                let kept = if before_quote { slashes / 2 } else { slashes };
                word.extend(std::iter::repeat_n('\\', kept));
                if before_quote && slashes % 2 == 1 {
                    chars.next();
                    word.push('"');
                }
            }
            // Two in a row between quotes are one.
            '"' if is_quoted && chars.next_if(|(_, c)| *c == '"').is_some() => word.push('"'),
            '"' => is_quoted = !is_quoted,
            c if is_blank(c) && !is_quoted => {
                end = at;
                break;
            }
            c => {
                singles += usize::from(c == '\'' && !is_quoted);
                word.push(c);
            }
        }
    }
    if is_quoted {
        return Err(WordsError::Open);
    }
    if singles % 2 == 1 && (word.starts_with('\'') || word.contains("='")) {
        return Err(WordsError::SingleQuotes(word));
    }
    Ok((word, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_are_split_as_by_githubs_runner() {
        for (text, words) in [
            ("", &[][..]),
            (" \n ", &[]),
            ("--cpus 1", &["--cpus", "1"]),
            (
                "--health-cmd \"redis-cli ping\" --health-interval 10s",
                &["--health-cmd", "redis-cli ping", "--health-interval", "10s"],
            ),
            (
                "--health-cmd=\"mysqladmin ping -p\\\"x\\\"\"\n--a\n",
                &["--health-cmd=mysqladmin ping -p\"x\"", "--a"],
            ),
            ("a\"b c\"d", &["ab cd"]),
            ("\"\" x", &["", "x"]),
            ("\"a\"\"b\"", &["a\"b"]),
            (r"C:\x \\ \\\", &[r"C:\x", r"\\", r"\\\"]),
            (r#""a\\" b"#, &[r"a\", "b"]),
            ("it's $HOME *", &["it's", "$HOME", "*"]),
        ] {
            assert_eq!(split(text).unwrap(), words, "{text}");
        }
    }

    #[test]
    fn what_would_be_split_otherwise_than_meant_is_refused() {
        let error = split("--health-cmd 'redis-cli ping'").unwrap_err();
        assert_eq!(error, WordsError::SingleQuotes("'redis-cli".into()));
        let error = split("--health-cmd='redis-cli ping'").unwrap_err();
        assert!(matches!(error, WordsError::SingleQuotes(_)));
        assert_eq!(split("--x \"y z"), Err(WordsError::Open));
        assert_eq!(split("a\0b"), Err(WordsError::Nul));
    }

    proptest! {
        #[test]
        fn what_is_quoted_comes_back(words in proptest::collection::vec("[a-z \"\\\\\n$]{0,12}", 0..8)) {
            let quote = |word: &String| {
                let mut quoted = String::from("\"");
                let mut slashes = 0;
                for c in word.chars() {
                    if c == '"' {
                        quoted.extend(std::iter::repeat_n('\\', slashes + 1));
                    }
                    slashes = if c == '\\' { slashes + 1 } else { 0 };
                    quoted.push(c);
                }
                quoted.extend(std::iter::repeat_n('\\', slashes));
                quoted.push('"');
                quoted
            };
            let text = words.iter().map(quote).collect::<Vec<_>>().join(" ");
            prop_assert_eq!(split(&text), Ok(words));
        }

        #[test]
        fn any_text_is_split_or_refused(text in "\\PC{0,200}") {
            let _ = split(&text);
        }
    }
}
