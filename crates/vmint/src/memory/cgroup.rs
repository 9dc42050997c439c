//! What a control group leaves of the host's memory.
//!
//! A process is in one group of each hierarchy: of version 1, of version 2, or of both, where memory may be a matter of
//! either. A limit on a group above counts as well. Memory that holds clean file contents is given back before a limit
//! is felt, so it does not count as used.

use std::path::{Path, PathBuf};
use vmint_model::cgroup::{Version, groups};

/// What the tightest group leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// In bytes.
    pub available: u64,
    /// In bytes.
    pub limit: u64,
    /// The group's folder.
    pub group: PathBuf,
}

/// Above this a limit is none: version 1 says 2⁶³ rounded down to a page.
const NO_LIMIT: u64 = 1 << 60;

/// Finds the tightest limit. `cgroup` is `/proc/self/cgroup`, `mountinfo` is `/proc/self/mountinfo`, and `read` gives a
/// file's text.
pub(super) fn room(
    cgroup: &str,
    mountinfo: &str,
    read: impl Fn(&Path) -> Option<String>,
) -> Option<Room> {
    let groups = groups(cgroup, mountinfo);
    let rooms = groups.iter().flat_map(|group| {
        let up = group.upwards();
        up.filter_map(|folder| room_in(group.version, folder, &read))
    });
    rooms.min_by_key(|room| room.available)
}

fn room_in(version: Version, group: &Path, read: impl Fn(&Path) -> Option<String>) -> Option<Room> {
    let (limit, usage, idle) = match version {
        Version::One => (
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
            "total_inactive_file",
        ),
        Version::Two => ("memory.max", "memory.current", "inactive_file"),
    };
    let number = |file: &str| read(&group.join(file))?.trim().parse::<u64>().ok();
    // `max` is no number.
    let limit = number(limit).filter(|limit| *limit < NO_LIMIT)?;
    let stat = read(&group.join("memory.stat")).unwrap_or_default();
    let idle = stat.lines().find_map(|line| {
        line.strip_prefix(idle)?
            .strip_prefix(' ')?
            .trim()
            .parse::<u64>()
            .ok()
    });
    let used = number(usage).unwrap_or(0).saturating_sub(idle.unwrap_or(0));
    Some(Room {
        available: limit.saturating_sub(used),
        limit,
        group: group.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    const V1_MOUNT: &str =
        "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n";
    const V2_MOUNT: &str =
        "30 25 0:27 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
    const MIB: u64 = 1 << 20;

    fn room_of(cgroup: &str, mountinfo: &str, files: &[(&str, &str)]) -> Option<(u64, String)> {
        let files: HashMap<_, _> = files
            .iter()
            .map(|(path, text)| (PathBuf::from(path), *text))
            .collect();
        let room = room(cgroup, mountinfo, |path| {
            files.get(path).map(|text| (*text).to_owned())
        })?;
        Some((room.available / MIB, room.group.display().to_string()))
    }

    #[test]
    fn a_limit_of_version_2_counts_also_from_above() {
        let files = [
            ("/sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("/sys/fs/cgroup/a/memory.max", "1073741824\n"),
            ("/sys/fs/cgroup/a/memory.current", "536870912\n"),
            (
                "/sys/fs/cgroup/a/memory.stat",
                "anon 1\ninactive_file 268435456\nfile 2\n",
            ),
        ];
        assert_eq!(
            room_of("0::/a/b\n", V2_MOUNT, &files),
            Some((768, "/sys/fs/cgroup/a".into()))
        );
    }

    #[test]
    fn a_limit_of_version_1_counts_on_a_hybrid_host() {
        let hybrid = format!(
            "{V1_MOUNT}41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n\
             33 31 0:30 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n"
        );
        let cgroup = "9:name=systemd:/\n8:pids:/\n4:memory:/api/x\n1:cpu:/\n0::/\n";
        let files = [
            (
                "/sys/fs/cgroup/memory/api/x/memory.limit_in_bytes",
                "2147483648\n",
            ),
            (
                "/sys/fs/cgroup/memory/api/x/memory.usage_in_bytes",
                "1073741824\n",
            ),
            (
                "/sys/fs/cgroup/memory/api/x/memory.stat",
                "inactive_file 1\ntotal_inactive_file 1048576\n",
            ),
            (
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
                "9223372036854771712\n",
            ),
        ];
        assert_eq!(
            room_of(cgroup, &hybrid, &files),
            Some((1025, "/sys/fs/cgroup/memory/api/x".into()))
        );
    }

    #[test]
    fn without_a_limit_there_is_nothing_to_say() {
        let v1 = (
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "9223372036854771712\n",
        );
        let v2 = ("/sys/fs/cgroup/memory.max", "max\n");
        assert_eq!(room_of("4:memory:/\n", V1_MOUNT, &[v1]), None);
        assert_eq!(room_of("0::/\n", V2_MOUNT, &[v2]), None);
        assert_eq!(room_of("0::/\n", V2_MOUNT, &[]), None);
        assert_eq!(room_of("", "", &[]), None);
        assert_eq!(
            room_of("odd\n0::\n4:memory\n", "odd - \n1 2 3 - cgroup\n", &[]),
            None
        );
    }

    #[test]
    fn a_container_sees_a_part_of_the_hierarchy_as_the_whole() {
        let part = "35 31 0:32 /docker/7f /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
        let files = [("/sys/fs/cgroup/memory/memory.limit_in_bytes", "1048576\n")];
        let expected = Some((1, "/sys/fs/cgroup/memory".to_owned()));
        for path in ["/docker/7f", "/", "/../elsewhere", "/other"] {
            let cgroup = format!("4:memory:{path}\n");
            assert_eq!(room_of(&cgroup, part, &files), expected, "{path}");
        }
    }

    #[test]
    fn more_used_than_allowed_leaves_nothing() {
        let files = [
            ("/sys/fs/cgroup/memory.max", "1048576\n"),
            ("/sys/fs/cgroup/memory.current", "2097152\n"),
        ];
        assert_eq!(
            room_of("0::/\n", V2_MOUNT, &files),
            Some((0, "/sys/fs/cgroup".into()))
        );
    }
}
