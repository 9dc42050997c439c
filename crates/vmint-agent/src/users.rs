//! Users and groups from `/etc/passwd` and `/etc/group`, read as OCI images mean them. A static binary must not call
//! the C library's lookups, which load plug-ins.

use crate::spawn::Ids;
use std::fmt;

/// A user as a command will see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its numbers.
    pub ids: Ids,
    /// For `USER` and `LOGNAME`.
    pub name: Vec<u8>,
    /// For `HOME`.
    pub home: Vec<u8>,
    /// For `SHELL`.
    pub shell: Vec<u8>,
}

/// Why there is no such user. Read after “the guest could not”.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoSuch {
    /// Nothing has this name.
    Unknown {
        /// What was looked for.
        what: Kind,
        /// The name that was asked for.
        name: String,
    },
    /// Its line has something else where a number must be. Not taken for root's, as a missing number is by some.
    BadNumber {
        /// Which of the line's numbers.
        what: Kind,
        /// The name that was asked for.
        name: String,
        /// What the line has.
        found: String,
    },
    /// The number that was asked for is nobody's: the kernel reads it as “no change”, and that would be root.
    OutOfRange {
        /// What it was to number.
        what: Kind,
        /// The number.
        name: String,
    },
}

/// A user or a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Of `/etc/passwd`.
    User,
    /// Of `/etc/group`.
    Group,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::User => "user",
            Self::Group => "group",
        })
    }
}

impl fmt::Display for NoSuch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { what, name } => write!(f, "find the {what} {name:?}"),
            Self::BadNumber { what, name, found } => write!(
                f,
                "read the {what} number of {name:?}: it is {found:?}, not a number from 0 to {}",
                u32::MAX - 1
            ),
            Self::OutOfRange { what, name } => write!(
                f,
                "take {name} for a {what}: numbers are from 0 to {}",
                u32::MAX - 1
            ),
        }
    }
}

impl User {
    /// Whether nothing need be done to become this user, since the agent is it.
    pub fn is_plain_root(&self) -> bool {
        self.ids.uid == 0 && self.ids.gid == 0 && self.ids.groups.is_empty()
    }
}

/// Reads `NAME`, `UID`, `NAME:GROUP`, `UID:GID`; root when absent. `passwd` and `group` are the files' contents. As in
/// OCI runtimes a number need not be in the files, and a group that is named replaces the user's supplementary ones.
pub fn resolve(spec: Option<&str>, passwd: &[u8], group: &[u8]) -> Result<User, NoSuch> {
    let (user, named_group) = match spec.unwrap_or("0").split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|g| !g.is_empty())),
        None => (spec.unwrap_or("0"), None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let number = parse(user.as_bytes());
    // A name that looks like a number is tried as a name first, as runc does.
    let entry = find(passwd, |f| f[0] == user.as_bytes()).or_else(|| {
        number.and_then(|number| find(passwd, |f| field(f, 2).and_then(parse) == Some(number)))
    });
    let mut found = match (entry, number) {
        (Some(f), _) => User {
            ids: Ids {
                uid: number_of(&f, 2, Kind::User, user)?,
                // One that is named takes its place, and then the line's own does not matter.
                gid: match named_group {
                    Some(_) => 0,
                    None => number_of(&f, 3, Kind::Group, user)?,
                },
                groups: Vec::new(),
            },
            name: f[0].to_vec(),
            home: or(f.get(5), b"/"),
            shell: or(f.get(6), b"/bin/sh"),
        },
        (None, Some(uid)) => unlisted(uid),
        (None, None) if user == "root" => unlisted(0),
        (None, None) => return Err(unknown(Kind::User, user)),
    };
    if let Some(name) = named_group {
        let entry = find(group, |f| f[0] == name.as_bytes());
        found.ids.gid = match (entry, parse(name.as_bytes())) {
            (Some(f), _) => number_of(&f, 2, Kind::Group, name)?,
            (None, Some(gid)) => gid,
            (None, None) if name == "root" => 0,
            (None, None) => return Err(unknown(Kind::Group, name)),
        };
    } else {
        // A group without a number gives nobody anything.
        found.ids.groups = lines(group)
            .filter(|f| {
                f.get(3)
                    .is_some_and(|list| list.split(|&b| b == b',').any(|m| m == found.name))
            })
            .filter_map(|f| field(&f, 2).and_then(parse))
            .collect();
    }
    Ok(found)
}

fn unknown(what: Kind, name: &str) -> NoSuch {
    let name = name.to_owned();
    if name.bytes().all(|byte| byte.is_ascii_digit()) {
        NoSuch::OutOfRange { what, name }
    } else {
        NoSuch::Unknown { what, name }
    }
}

/// A number that must be there.
fn number_of(line: &[&[u8]], at: usize, what: Kind, name: &str) -> Result<u32, NoSuch> {
    let found = field(line, at).unwrap_or_default();
    parse(found).ok_or_else(|| NoSuch::BadNumber {
        what,
        name: name.to_owned(),
        found: String::from_utf8_lossy(&found[..found.len().min(80)]).into_owned(),
    })
}

/// A user of whom the files know nothing.
fn unlisted(uid: u32) -> User {
    let (name, home): (Vec<u8>, &[u8]) = if uid == 0 {
        (b"root".to_vec(), b"/root")
    } else {
        (uid.to_string().into_bytes(), b"/")
    };
    User {
        ids: Ids {
            uid,
            gid: 0,
            groups: Vec::new(),
        },
        name,
        home: home.to_vec(),
        shell: b"/bin/sh".to_vec(),
    }
}

fn or(field: Option<&&[u8]>, default: &[u8]) -> Vec<u8> {
    field
        .filter(|f| !f.is_empty())
        .map_or(default, |f| f)
        .to_vec()
}

fn field<'a>(line: &[&'a [u8]], at: usize) -> Option<&'a [u8]> {
    line.get(at).copied()
}

/// A number of digits alone. The largest one is nobody's: to `setresuid` it means “no change”.
fn parse(field: &[u8]) -> Option<u32> {
    let digits = !field.is_empty() && field.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(field).ok().filter(|_| digits)?;
    number.parse().ok().filter(|number| *number != u32::MAX)
}

/// The fields of each line that is an entry.
fn lines(file: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    file.split(|&b| b == b'\n')
        .filter(|line| !line.is_empty() && line[0] != b'#')
        .map(|line| line.split(|&b| b == b':').collect())
}

fn find(file: &[u8], matches: impl Fn(&[&[u8]]) -> bool) -> Option<Vec<&[u8]>> {
    lines(file).find(|fields| matches(fields))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/bash\n# note\nann:x:1000:1001:Ann:/home/ann:\n7:x:70:70::/:/bin/x\n";
    const GROUP: &[u8] = b"root:x:0:\nann:x:1001:\nsudo:x:27:bob,ann\nvideo:x:44:ann\n";

    fn user(spec: &str) -> User {
        resolve(Some(spec), PASSWD, GROUP).unwrap()
    }

    #[test]
    fn without_a_name_it_is_root() {
        let root = resolve(None, PASSWD, GROUP).unwrap();
        assert!(root.is_plain_root());
        assert_eq!(root.shell, b"/bin/bash");
        assert_eq!(resolve(None, b"", b"").unwrap().home, b"/root");
        assert!(
            resolve(Some("root:root"), b"", b"")
                .unwrap()
                .is_plain_root()
        );
    }

    #[test]
    fn a_user_brings_its_groups_unless_one_is_named() {
        let ann = user("ann");
        assert_eq!(
            ann.ids,
            Ids {
                uid: 1000,
                gid: 1001,
                groups: vec![27, 44]
            }
        );
        assert_eq!(ann.shell, b"/bin/sh");
        assert_eq!(user("1000").ids, ann.ids);
        assert_eq!(
            user("ann:video").ids,
            Ids {
                uid: 1000,
                gid: 44,
                groups: vec![]
            }
        );
        assert_eq!(user("ann:5").ids.gid, 5);
    }

    #[test]
    fn numbers_need_not_be_listed_but_names_must() {
        assert_eq!(
            user("4000").ids,
            Ids {
                uid: 4000,
                gid: 0,
                groups: vec![]
            }
        );
        assert_eq!(user("7").ids.uid, 70);
        let why = |spec| resolve(Some(spec), PASSWD, GROUP).unwrap_err().to_string();
        assert_eq!(why("eve"), "find the user \"eve\"");
        assert_eq!(why("ann:eve"), "find the group \"eve\"");
        assert_eq!(why("-1"), "find the user \"-1\"");
    }

    #[test]
    fn a_line_without_a_number_is_nobody_s_and_never_root_s() {
        for bad in [
            "",
            "abc",
            "-1",
            "+0",
            "0x0",
            " 0",
            "4294967295",
            "4294967296",
            "1e3",
        ] {
            let passwd = format!("eve:x:{bad}:100::/:/bin/sh\nbob:x:5:{bad}::/:/bin/sh\nonly\n");
            let group = format!("root:x:0:\nbad:x:{bad}:bob\n");
            let resolve = |spec| resolve(Some(spec), passwd.as_bytes(), group.as_bytes());
            for (spec, what) in [
                ("eve", Kind::User),
                ("bob", Kind::Group),
                ("5", Kind::Group),
                ("only", Kind::User),
                ("bob:bad", Kind::Group),
            ] {
                let error = resolve(spec).unwrap_err();
                let is = matches!(error, NoSuch::BadNumber { what: w, .. } if w == what);
                assert!(is, "{spec}, {bad:?}: {error}");
            }
            // The line's own group does not matter beside one that is named; one without a number gives nothing.
            assert_eq!(resolve("bob:7").unwrap().ids.gid, 7);
        }
    }

    #[test]
    fn the_number_that_means_no_change_is_nobody_s() {
        for spec in ["4294967295", "4294967296", "99999999999999999999"] {
            let error = resolve(Some(spec), PASSWD, GROUP).unwrap_err();
            assert!(
                matches!(
                    error,
                    NoSuch::OutOfRange {
                        what: Kind::User,
                        ..
                    }
                ),
                "{error}"
            );
            let error = resolve(Some(&format!("0:{spec}")), PASSWD, GROUP).unwrap_err();
            assert!(
                matches!(
                    error,
                    NoSuch::OutOfRange {
                        what: Kind::Group,
                        ..
                    }
                ),
                "{error}"
            );
        }
        assert_eq!(user("4294967294").ids.uid, u32::MAX - 1);
    }
}
