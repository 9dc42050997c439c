//! Where a process's control groups are (cgroups(7)), from the texts of `/proc`.

use std::path::{Path, PathBuf};

/// A hierarchy's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// One hierarchy for each controller.
    One,
    /// One for all.
    Two,
}

/// A process's group in one hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The hierarchy's.
    pub version: Version,
    /// Where the hierarchy is mounted.
    pub mount: PathBuf,
    /// The group's folder in it.
    pub folder: PathBuf,
}

impl Group {
    /// Its folder, and those of the groups above as far as they are to be seen.
    pub fn upwards(&self) -> impl Iterator<Item = &Path> {
        let up = self.folder.ancestors();
        up.take_while(|folder| folder.starts_with(&self.mount))
    }
}

/// A process's groups, in each hierarchy that may limit memory. `cgroup` is `/proc/self/cgroup`, `mountinfo` is
/// `/proc/self/mountinfo`.
pub fn groups(cgroup: &str, mountinfo: &str) -> Vec<Group> {
    let mounts: Vec<_> = mountinfo.lines().filter_map(mount).collect();
    let lines = cgroup.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (id, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let version = match controllers {
            "" if id == "0" => Version::Two,
            _ if controllers.split(',').any(|c| c == "memory") => Version::One,
            _ => return None,
        };
        let (_, root, at) = mounts.iter().find(|(of, ..)| *of == version)?;
        // In a container the mount may show only a part of the hierarchy, and the path may name the whole of it or
        // lead out of it (`/../x`); then the group is not to be seen, and what is mounted stands for it.
        let inside = Path::new(path).strip_prefix(root).unwrap_or(Path::new(""));
        let inside = if inside.components().any(|c| c.as_os_str() == "..") {
            Path::new("")
        } else {
            inside
        };
        Some(Group {
            version,
            mount: at.clone(),
            folder: at.join(inside).components().collect(),
        })
    });
    lines.collect()
}

/// Reads a line of mountinfo (proc_pid_mountinfo(5)): the version, which part of the hierarchy, and where.
fn mount(line: &str) -> Option<(Version, PathBuf, PathBuf)> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(3);
    let (root, at) = (left.next()?, left.next()?);
    let mut right = right.split(' ');
    let version = match right.next()? {
        "cgroup2" => Version::Two,
        "cgroup" if right.nth(1)?.split(',').any(|option| option == "memory") => Version::One,
        _ => return None,
    };
    Some((version, unescape(root).into(), unescape(at).into()))
}

/// A space is written `\040`, and so on.
fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let octal = part
            .get(..3)
            .and_then(|octal| u8::from_str_radix(octal, 8).ok());
        if let Some(byte) = octal {
            result.push(char::from(byte));
            result += &part[3..];
        } else {
            result.push('\\');
            result += part;
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_group_is_found_in_each_way_of_mounting() {
        let whole = "30 25 0:27 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
        let hybrid = "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let part = "30 25 0:27 /docker/7f /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        for (cgroup, mounts, own) in [
            ("0::/user.slice/a\n", whole, "/sys/fs/cgroup/user.slice/a"),
            ("0::/\n", whole, "/sys/fs/cgroup"),
            ("0::/b\n", hybrid, "/sys/fs/cgroup/unified/b"),
            ("0::/docker/7f/c\n", part, "/sys/fs/cgroup/c"),
            ("0::/../elsewhere\n", whole, "/sys/fs/cgroup"),
        ] {
            let found = groups(cgroup, mounts);
            assert_eq!(found.len(), 1);
            assert_eq!(found[0].version, Version::Two);
            assert_eq!(found[0].folder, Path::new(own), "{cgroup}");
        }
        assert_eq!(groups("4:memory:/x\n", whole), []);
        assert_eq!(groups("0::/\n", "1 2 3 - cgroup\n"), []);
        let group = &groups("0::/user.slice/a\n", whole)[0];
        let up: Vec<_> = group.upwards().collect();
        assert_eq!(up.len(), 3);
        assert_eq!(up[2], Path::new("/sys/fs/cgroup"));
    }

    #[test]
    fn mount_points_with_spaces_are_read() {
        let line = "1 2 0:3 / /a\\040b rw - cgroup2 none rw";
        assert_eq!(mount(line).unwrap().2, Path::new("/a b"));
        assert_eq!(unescape("a\\"), "a\\");
        assert_eq!(unescape("a\\ä"), "a\\ä");
    }
}
