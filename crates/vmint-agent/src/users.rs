//! Users and groups from `/etc/passwd` and `/etc/group`, read as OCI images mean them. A static binary must not call
//! the C library's lookups, which load plug-ins.

use crate::spawn::Ids;

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

/// Why there is no such user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoSuch {
    /// `user` or `group`.
    pub what: &'static str,
    /// The name that was asked for.
    pub name: String,
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
    let number: Option<u32> = user.parse().ok();
    // A name that looks like a number is tried as a name first, as runc does.
    let entry = find(passwd, |f| f[0] == user.as_bytes()).or_else(|| {
        find(passwd, |f| {
            number.is_some() && f.get(2).and_then(|n| parse(n)) == number
        })
    });
    let mut found = match (entry, number) {
        (Some(f), _) => User {
            ids: Ids {
                uid: f.get(2).and_then(|n| parse(n)).unwrap_or(0),
                gid: f.get(3).and_then(|n| parse(n)).unwrap_or(0),
                groups: Vec::new(),
            },
            name: f[0].to_vec(),
            home: or(f.get(5), b"/"),
            shell: or(f.get(6), b"/bin/sh"),
        },
        (None, Some(uid)) => unlisted(uid),
        (None, None) if user == "root" => unlisted(0),
        (None, None) => {
            return Err(NoSuch {
                what: "user",
                name: user.to_owned(),
            });
        }
    };
    if let Some(name) = named_group {
        let entry =
            find(group, |f| f[0] == name.as_bytes()).and_then(|f| f.get(2).and_then(|n| parse(n)));
        found.ids.gid = match entry.or_else(|| name.parse().ok()) {
            Some(gid) => gid,
            None if name == "root" => 0,
            None => {
                return Err(NoSuch {
                    what: "group",
                    name: name.to_owned(),
                });
            }
        };
    } else {
        found.ids.groups = lines(group)
            .filter(|f| {
                f.get(3)
                    .is_some_and(|list| list.split(|&b| b == b',').any(|m| m == found.name))
            })
            .filter_map(|f| f.get(2).and_then(|n| parse(n)))
            .collect();
    }
    Ok(found)
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

fn parse(field: &[u8]) -> Option<u32> {
    std::str::from_utf8(field).ok()?.parse().ok()
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
        assert_eq!(
            resolve(Some("eve"), PASSWD, GROUP).unwrap_err().what,
            "user"
        );
        assert_eq!(
            resolve(Some("ann:eve"), PASSWD, GROUP).unwrap_err().what,
            "group"
        );
    }
}
