//! The environment that a login finds: `/etc/environment` and the system's language.
//!
//! Read as `pam_env` and systemd read these files. Who logs in at a terminal or by SSH has what they say, so commands and shells from the
//! host have it too; what an image's configuration or the host says of a variable wins.

use crate::settings;

/// Where they are, what is later winning: the language as systemd keeps it and as Debian does, and what is for everybody.
const FILES: [&str; 3] = [
    "/etc/locale.conf",
    "/etc/default/locale",
    "/etc/environment",
];

/// Whose the machine is not to decide: they follow from the user.
const OF_THE_USER: [&[u8]; 4] = [b"HOME", b"USER", b"LOGNAME", b"SHELL"];

/// The largest file that is taken in. It is read for each command.
const LARGEST: usize = 64 << 10;

/// Names and values.
pub type Variables = Vec<(Vec<u8>, Vec<u8>)>;

/// What a login finds now.
pub fn environment() -> Variables {
    let mut found = Variables::new();
    for path in FILES {
        match settings::read(path) {
            Ok(file) if file.len() <= LARGEST => found.extend(parse(&file)),
            // A login goes on without, too.
            _ => {}
        }
    }
    found
}

/// The variables of one file.
fn parse(file: &[u8]) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    file.split(|byte| *byte == b'\n').filter_map(|line| {
        let line = line.trim_ascii();
        let line = line.strip_prefix(b"export ").unwrap_or(line);
        // Wherever it stands, quoted or not.
        let line = line.split(|byte| *byte == b'#').next()?.trim_ascii();
        let at = line.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (&line[..at], &line[at + 1..]);
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        if name.is_empty()
            || !name.iter().all(plain)
            || OF_THE_USER.contains(&name)
            || value.contains(&0)
        {
            return None;
        }
        let value = match value {
            [quote @ (b'"' | b'\''), inner @ ..] => inner.strip_suffix(&[*quote]).unwrap_or(inner),
            value => value,
        };
        Some((name.to_vec(), value.to_vec()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_as_a_login_reads_it() {
        let file = b"# A note\n\nLANG=C.UTF-8\n  export EDITOR='vi -e'  \nPATH=\"/bin:/opt/x\"\nEMPTY=\nhalf=\"open\n\
            a=b=c # more\nHOME=/elsewhere\n1-2=x\n=x\nno value\nbad=\0\n\xff=x\nlast='it''s'";
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let found: Vec<_> = parse(file)
            .map(|(name, value)| (text(&name), text(&value)))
            .collect();
        let expected = [
            ("LANG", "C.UTF-8"),
            ("EDITOR", "vi -e"),
            ("PATH", "/bin:/opt/x"),
            ("EMPTY", ""),
            ("half", "open"),
            ("a", "b=c"),
            ("last", "it''s"),
        ];
        assert_eq!(
            found,
            expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
    }
}
