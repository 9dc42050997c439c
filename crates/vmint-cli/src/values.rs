//! What a single argument may be.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use vmint::{ErrorKind, Fault, Name};

/// A duration, such as `500ms` or `2m`.
pub fn duration(text: &str) -> Result<Duration, String> {
    vmint::parse_duration(text).map_err(|e| e.to_string())
}

/// A JSON object.
pub fn json_object(text: &str) -> Result<serde_json::Value, String> {
    match serde_json::from_str(text) {
        Ok(value @ serde_json::Value::Object(_)) => Ok(value),
        Ok(_) => Err("not a JSON object".into()),
        Err(e) => Err(format!("not JSON: {e}")),
    }
}

/// A variable: with a value, or with this host's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnvArg {
    /// `K=V`.
    Set(OsString, OsString),
    /// `K`.
    Inherit(OsString),
}

impl From<OsString> for EnvArg {
    fn from(text: OsString) -> Self {
        match text.as_bytes().iter().position(|&b| b == b'=') {
            Some(at) => {
                let (name, value) = text.as_bytes().split_at(at);
                let owned = |bytes: &[u8]| OsStr::from_bytes(bytes).to_owned();
                Self::Set(owned(name), owned(&value[1..]))
            }
            None => Self::Inherit(text),
        }
    }
}

/// Variables, as bytes.
pub type Environment = Vec<(Vec<u8>, Vec<u8>)>;

/// The variables that a command gets. One that this host does not have is left out.
pub fn environment(args: &[EnvArg]) -> Result<Environment, Fault> {
    let mut env = Vec::with_capacity(args.len());
    for arg in args {
        let (name, value) = match arg {
            EnvArg::Set(name, value) => (name, Some(value.clone())),
            EnvArg::Inherit(name) => (name, std::env::var_os(name)),
        };
        if name.is_empty() {
            return Err(Fault::new(
                ErrorKind::Usage,
                "-e needs the name of a variable: K=V or K",
            ));
        }
        if let Some(value) = value {
            env.push((name.as_bytes().to_vec(), value.into_vec()));
        }
    }
    Ok(env)
}

/// `K=V`; the first `=` separates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// `K`, never empty.
    pub name: String,
    /// `V`.
    pub value: String,
}

impl FromStr for Assignment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok(Self {
                name: name.into(),
                value: value.into(),
            }),
            _ => Err("not K=V".into()),
        }
    }
}

/// What nobody is to see: not shown in debugging output.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// A secret as it is given, not checked yet: a message about a wrong argument would show it.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretArg(OsString);

impl From<OsString> for SecretArg {
    fn from(text: OsString) -> Self {
        Self(text)
    }
}

impl std::fmt::Debug for SecretArg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl SecretArg {
    /// Name, and value if it has one.
    pub fn read(&self) -> Result<(String, Option<Secret>), Fault> {
        let wrong = |message: String| Fault::new(ErrorKind::Usage, message);
        let bytes = self.0.as_bytes();
        let (name, value) = match bytes.iter().position(|&b| b == b'=') {
            Some(at) => (&bytes[..at], Some(&bytes[at + 1..])),
            None => (bytes, None),
        };
        let name = String::from_utf8_lossy(name).into_owned();
        check_secret_name(&name).map_err(|why| wrong(format!("--secret: {why}")))?;
        let value = value.map(|value| String::from_utf8(value.to_vec()).map(Secret));
        let value = value.transpose();
        Ok((
            name.clone(),
            value.map_err(|_| wrong(format!("the secret {name} is not UTF-8")))?,
        ))
    }
}

/// As GitHub's rule for names of secrets has it.
pub fn check_secret_name(name: &str) -> Result<(), String> {
    let starts = |b: u8| b.is_ascii_alphabetic() || b == b'_';
    let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if name.bytes().next().is_some_and(starts) && name.bytes().all(legal) {
        return Ok(());
    }
    let name: String = name.chars().take(80).collect();
    Err(format!(
        "{name:?} is not the name of a secret: a name has letters, digits and _, and does not begin with a digit"
    ))
}

/// `SRC:DST`; the last colon separates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// What is copied.
    pub source: String,
    /// Where to.
    pub target: String,
}

impl FromStr for Pair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.rsplit_once(':') {
            Some((source, target)) if !source.is_empty() && !target.is_empty() => Ok(Self {
                source: source.into(),
                target: target.into(),
            }),
            _ => Err("not SRC:DST; the last colon separates".into()),
        }
    }
}

/// A side of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Side {
    /// `-`: a tar stream on standard input or output.
    Stream,
    /// A path of this host.
    Host(PathBuf),
    /// `NAME:PATH`.
    Machine {
        /// Name or id.
        name: String,
        /// Path in the machine.
        path: String,
    },
}

impl Side {
    /// Reads a side. A colon before the first slash makes it a machine's.
    pub fn parse(text: &OsStr) -> Result<Self, Fault> {
        let usage = |message: String| Fault::new(ErrorKind::Usage, message);
        let bytes = text.as_bytes();
        if bytes == b"-" {
            return Ok(Self::Stream);
        }
        if bytes.is_empty() {
            return Err(usage("a path is empty".into()));
        }
        let before_slash = bytes.split(|&b| b == b'/').next().unwrap_or_default();
        let Some(colon) = before_slash.iter().position(|&b| b == b':') else {
            return Ok(Self::Host(text.into()));
        };
        let shown = text.to_string_lossy();
        let Some(text) = text.to_str() else {
            return Err(usage(format!(
                "{shown} is not UTF-8: paths in machines must be"
            )));
        };
        let (name, path) = (&text[..colon], &text[colon + 1..]);
        let (bare, generation) = match name.split_once('@') {
            Some((bare, generation)) => (bare, Some(generation)),
            None => (name, None),
        };
        if generation.is_some_and(|g| g.parse::<u64>().is_err()) {
            let message = format!("{name} is not NAME@GENERATION");
            return Err(usage(message).hint(format!("for a path of this host, write ./{text}")));
        }
        if let Err(e) = bare.parse::<Name>() {
            return Err(
                usage(e.to_string()).hint(format!("for a path of this host, write ./{text}"))
            );
        }
        if path.is_empty() {
            return Err(
                usage(format!("{text} is not a path in the machine")).hint(format!("{name}:/"))
            );
        }
        Ok(Self::Machine {
            name: name.into(),
            path: path.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(name: &str, path: &str) -> Side {
        Side::Machine {
            name: name.into(),
            path: path.into(),
        }
    }

    #[test]
    fn a_colon_before_the_first_slash_names_a_machine() {
        for (text, expected) in [
            ("-", Side::Stream),
            ("box:/etc", machine("box", "/etc")),
            ("box:relative", machine("box", "relative")),
            ("box:/a:b", machine("box", "/a:b")),
            ("box:/sp ace/ü\n", machine("box", "/sp ace/ü\n")),
            ("file", Side::Host("file".into())),
            ("./a:b", Side::Host("./a:b".into())),
            ("/a:b", Side::Host("/a:b".into())),
            ("dir/a:b", Side::Host("dir/a:b".into())),
        ] {
            assert_eq!(Side::parse(OsStr::new(text)), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_side_that_could_be_a_local_path_says_how_to_write_it() {
        let fault = Side::parse(OsStr::new("A B:/x")).unwrap_err();
        assert_eq!(fault.kind, ErrorKind::Usage);
        assert_eq!(
            fault.hint.as_deref(),
            Some("for a path of this host, write ./A B:/x")
        );
        for bad in ["", ":/x", "box:"] {
            assert_eq!(
                Side::parse(OsStr::new(bad)).unwrap_err().kind,
                ErrorKind::Usage,
                "{bad}"
            );
        }
    }

    #[test]
    fn a_variable_is_set_or_passed_on_whatever_its_bytes() {
        let arg = |bytes: &[u8]| EnvArg::from(OsString::from_vec(bytes.to_vec()));
        assert_eq!(arg(b"K=a=b"), EnvArg::Set("K".into(), "a=b".into()));
        assert_eq!(arg(b"K="), EnvArg::Set("K".into(), "".into()));
        assert_eq!(arg(b"K"), EnvArg::Inherit("K".into()));
        let env = environment(&[arg(b"K=\xff"), arg(b"VMINT_TEST_OF_NO_SUCH_VARIABLE")]);
        assert_eq!(env, Ok(vec![(b"K".to_vec(), b"\xff".to_vec())]));
        let env = environment(&[arg(b"PATH")]).unwrap();
        assert_eq!(env[0].1, std::env::var_os("PATH").unwrap().into_vec());
        assert_eq!(
            environment(&[arg(b"=x")]).unwrap_err().kind,
            ErrorKind::Usage
        );
    }

    #[test]
    fn a_pair_is_split_at_its_last_colon() {
        let pair = Pair {
            source: "a:b".into(),
            target: "/c d".into(),
        };
        assert_eq!("a:b:/c d".parse(), Ok(pair));
        for bad in ["", "a", ":", "a:", ":b"] {
            assert!(bad.parse::<Pair>().is_err(), "{bad}");
        }
    }
}
