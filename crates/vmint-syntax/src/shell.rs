//! `shell`: from what a step says to the command that runs its script.

use std::fmt;

/// What the image has of what shells are chosen by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Has {
    /// Whether there is a `bash`.
    pub bash: Found,
    /// Whether there is a `python`.
    pub python: Found,
}

/// Whether a program is in the image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Found {
    /// It is.
    Yes,
    /// It is not.
    #[default]
    No,
}

/// How a script is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shell {
    /// What is looked up in `PATH`; what the log names.
    program: String,
    /// Its arguments, with `{0}` where the script's path goes.
    arguments: Vec<Word>,
    kind: ScriptKind,
}

/// A word of a command: text, and the places between where the script's path goes.
type Word = Vec<String>;

/// What a script has to be for its shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ScriptKind {
    Sh,
    Python,
    PowerShell,
    Other,
}

/// A `shell` that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShellError {
    /// Neither a name nor a template.
    #[error(
        "`shell: {0}` is not a shell; use bash, sh, python, pwsh, or a command with {{0}} where the script's path goes"
    )]
    NotAShell(String),
    /// One of Windows.
    #[error(
        "`shell: {0}` is a shell of Windows; machines here run Linux: use bash, sh, python or pwsh"
    )]
    Windows(String),
}

impl Shell {
    /// From `shell` of a step or of the defaults around it; absent and empty are the same.
    pub fn new(shell: Option<&str>, has: Has) -> Result<Self, ShellError> {
        let Some(shell) = shell.filter(|shell| !shell.is_empty()) else {
            // GitHub's own default has no `pipefail`; naming bash gives it.
            let program = match has.bash {
                Found::Yes => "bash",
                Found::No => "sh",
            };
            return Ok(Self::of(program, &["-e", "{0}"], ScriptKind::Sh));
        };
        match shell.trim_end_matches(' ') {
            "bash" => {
                let arguments = ["--noprofile", "--norc", "-eo", "pipefail", "{0}"];
                Ok(Self::of("bash", &arguments, ScriptKind::Sh))
            }
            "sh" => Ok(Self::of("sh", &["-e", "{0}"], ScriptKind::Sh)),
            "python" => {
                let program = match has.python {
                    Found::Yes => "python",
                    Found::No => "python3",
                };
                Ok(Self::of(program, &["{0}"], ScriptKind::Python))
            }
            "pwsh" => {
                let arguments = ["-command", ". '{0}'"];
                Ok(Self::of("pwsh", &arguments, ScriptKind::PowerShell))
            }
            "cmd" | "powershell" => Err(ShellError::Windows(shell.into())),
            _ => Self::of_template(shell),
        }
    }

    fn of(program: &str, arguments: &[&str], kind: ScriptKind) -> Self {
        Self {
            program: program.into(),
            arguments: arguments.iter().map(|word| holes(word)).collect(),
            kind,
        }
    }

    fn of_template(template: &str) -> Result<Self, ShellError> {
        let (program, rest) = template.split_once(' ').unwrap_or((template, ""));
        if program.is_empty() || !rest.contains("{0}") {
            return Err(ShellError::NotAShell(template.into()));
        }
        let words = words(rest);
        let kind = match program.to_ascii_lowercase().as_str() {
            "bash" | "sh" => ScriptKind::Sh,
            "python" => ScriptKind::Python,
            "pwsh" => ScriptKind::PowerShell,
            _ => ScriptKind::Other,
        };
        Ok(Self {
            program: program.into(),
            arguments: words.iter().map(|word| holes(word)).collect(),
            kind,
        })
    }

    /// The program, as it is looked up in `PATH`.
    pub fn program(&self) -> &str {
        &self.program
    }

    /// The end of the script's name, with its point; empty for shells that nobody knows.
    pub fn extension(&self) -> &'static str {
        match self.kind {
            ScriptKind::Sh => ".sh",
            ScriptKind::Python => ".py",
            ScriptKind::PowerShell => ".ps1",
            ScriptKind::Other => "",
        }
    }

    /// What is written to the script's file: the step's `run` byte for byte, but for what GitHub puts around scripts of
    /// PowerShell, which would go on after errors.
    pub fn script(&self, run: &str) -> String {
        match self.kind {
            ScriptKind::PowerShell => format!(
                "$ErrorActionPreference = 'stop'\n{run}\nif ((Test-Path -LiteralPath variable:\\LASTEXITCODE)) {{ exit $LASTEXITCODE }}"
            ),
            _ => run.to_owned(),
        }
    }

    /// The command that runs the script at a path in the guest.
    pub fn argv(&self, script: &str) -> Vec<String> {
        let words = self.arguments.iter().map(|word| word.join(script));
        std::iter::once(self.program.clone()).chain(words).collect()
    }
}

impl fmt::Display for Shell {
    /// As logs show it: `bash -e {0}`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.argv("{0}").join(" "))
    }
}

/// The pieces of a word around its `{0}`. Doubled braces are single ones, as in .NET's formats.
fn holes(word: &str) -> Word {
    let pieces = word.split("{0}");
    pieces
        .map(|piece| piece.replace("{{", "{").replace("}}", "}"))
        .collect()
}

/// Splits arguments as .NET does before it starts a program, on every system: white space separates; double quotes hold
/// together, to the end if need be; a backslash is one unless a double quote comes behind it. Single quotes are ordinary.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '\\' => {
                let mut count = 1;
                while chars.next_if_eq(&'\\').is_some() {
                    count += 1;
                }
                let word = word.get_or_insert_default();
                if chars.peek() == Some(&'"') {
                    word.extend(std::iter::repeat_n('\\', count / 2));
                    if count % 2 == 1 {
                        chars.next();
                        word.push('"');
                    }
                } else {
                    word.extend(std::iter::repeat_n('\\', count));
                }
            }
            '"' if quoted && chars.next_if_eq(&'"').is_some() => {
                word.get_or_insert_default().push('"');
            }
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' | '\t' if !quoted => words.extend(word.take()),
            char => word.get_or_insert_default().push(char),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: Has = Has {
        bash: Found::Yes,
        python: Found::Yes,
    };
    const NONE: Has = Has {
        bash: Found::No,
        python: Found::No,
    };

    fn argv(shell: Option<&str>, has: Has) -> String {
        Shell::new(shell, has).unwrap().argv("/t/a b").join("|")
    }

    #[test]
    fn known_shells_have_github_s_arguments() {
        assert_eq!(argv(None, ALL), "bash|-e|/t/a b");
        assert_eq!(argv(Some(""), NONE), "sh|-e|/t/a b");
        assert_eq!(
            argv(Some("bash "), NONE),
            "bash|--noprofile|--norc|-eo|pipefail|/t/a b"
        );
        assert_eq!(argv(Some("sh"), ALL), "sh|-e|/t/a b");
        assert_eq!(argv(Some("python"), ALL), "python|/t/a b");
        assert_eq!(argv(Some("python"), NONE), "python3|/t/a b");
        assert_eq!(argv(Some("pwsh"), ALL), "pwsh|-command|. '/t/a b'");
    }

    #[test]
    fn templates_are_split_as_dotnet_splits() {
        assert_eq!(argv(Some("perl {0}"), ALL), "perl|/t/a b");
        assert_eq!(argv(Some("bash  -l  {0} x"), ALL), "bash|-l|/t/a b|x");
        assert_eq!(
            argv(Some("sudo -E bash -c \"source env; bash '{0}'\""), ALL),
            "sudo|-E|bash|-c|source env; bash '/t/a b'"
        );
        assert_eq!(
            argv(Some(r#"x 'a b' \"c\" d\e "" {0}{0}"#), ALL),
            r#"x|'a|b'|"c"|d\e||/t/a b/t/a b"#
        );
        assert_eq!(
            argv(Some("awk -f {0} {{print}}"), ALL),
            "awk|-f|/t/a b|{print}"
        );
    }

    #[test]
    fn scripts_are_named_for_their_shell_and_kept_byte_for_byte() {
        let run = "echo 'a'\r\n\n  b \u{0}";
        for (shell, extension) in [
            ("bash", ".sh"),
            ("sh", ".sh"),
            ("python", ".py"),
            ("bash -x {0}", ".sh"),
            ("perl {0}", ""),
        ] {
            let shell = Shell::new(Some(shell), ALL).unwrap();
            assert_eq!(
                (shell.extension(), shell.script(run)),
                (extension, run.to_owned())
            );
        }
        let pwsh = Shell::new(Some("pwsh"), ALL).unwrap();
        assert_eq!(pwsh.extension(), ".ps1");
        assert!(
            pwsh.script(run).contains(run)
                && pwsh.script(run).starts_with("$ErrorActionPreference")
        );
        assert_eq!(
            Shell::new(Some("bash"), ALL).unwrap().to_string(),
            "bash --noprofile --norc -eo pipefail {0}"
        );
    }

    #[test]
    fn what_is_no_shell_says_what_is() {
        let errors: Vec<String> = ["zsh", "perl -w", " {0}", "{0}", "cmd"]
            .map(|shell| Shell::new(Some(shell), ALL).unwrap_err().to_string())
            .to_vec();
        insta::assert_snapshot!(errors.join("\n"), @r#"
        `shell: zsh` is not a shell; use bash, sh, python, pwsh, or a command with {0} where the script's path goes
        `shell: perl -w` is not a shell; use bash, sh, python, pwsh, or a command with {0} where the script's path goes
        `shell:  {0}` is not a shell; use bash, sh, python, pwsh, or a command with {0} where the script's path goes
        `shell: {0}` is not a shell; use bash, sh, python, pwsh, or a command with {0} where the script's path goes
        `shell: cmd` is a shell of Windows; machines here run Linux: use bash, sh, python or pwsh
        "#);
    }

    proptest! {
        #[test]
        fn words_without_signs_are_split_at_spaces(all in prop::collection::vec("[a-z'$;]{1,5}", 1..6)) {
            prop_assert_eq!(words(&all.join("  ")), all);
        }

        #[test]
        fn any_template_is_read(template in "[a \\\\\"{}0]{0,20}") {
            if let Ok(shell) = Shell::new(Some(&template), ALL) {
                shell.argv("/x");
            }
        }
    }
}
