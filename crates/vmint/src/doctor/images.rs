//! Where kernels and root file systems come from.

use super::ask;
use super::check::Check;
use std::path::Path;
use vmint_image::{Arch, ImageStore, Kit};
use vmint_model::Home;

/// What is known of the images that are there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stored {
    whole: usize,
    /// Names, and what is wrong with them.
    damaged: Vec<(String, String)>,
    /// The version of a kernel that an image has.
    kernel: Option<String>,
    has_tiny: bool,
}

/// Looks through the image store; the error is for the user.
pub(super) async fn stored(home: Option<&Home>) -> Result<Stored, String> {
    let Some(home) = home.cloned() else {
        return Err("VMINT_HOME cannot be opened".to_owned());
    };
    let look = move || {
        let store = ImageStore::open(&home)?;
        let mut stored = Stored::default();
        for listed in store.list()? {
            let name = listed.name.to_string();
            match listed.image.and_then(|image| image.kernel()) {
                Ok(kernel) => {
                    stored.whole += 1;
                    stored.has_tiny |= name == "tiny";
                    stored.kernel = Some(kernel.manifest().version.clone());
                }
                Err(e) => stored.damaged.push((name, e.to_string())),
            }
        }
        Ok::<_, vmint_image::StoreError>(stored)
    };
    let looked = ask::blocking("looking through the images", look).await?;
    looked.map_err(|e| e.to_string())
}

pub(super) fn images(stored: &Result<Stored, String>) -> Check {
    const NAME: &str = "images";
    match stored {
        Err(why) => Check::warning(NAME, format!("not known: {why}"), "see the check home"),
        Ok(stored) => match stored.damaged.first() {
            None => Check::ok(NAME, count(stored.whole)),
            Some((name, what)) => Check::warning(
                NAME,
                format!(
                    "{} damaged, {} whole: {name}: {what}",
                    stored.damaged.len(),
                    stored.whole
                ),
                format!("vmint image rm {name}, and build it again"),
            ),
        },
    }
}

fn count(images: usize) -> String {
    match images {
        0 => "none yet".to_owned(),
        1 => "1 image, whole".to_owned(),
        n => format!("{n} images, all whole"),
    }
}

/// Packages that hold a kernel for guests; either will do.
fn kernel_packages() -> [String; 2] {
    let cloud = format!("linux-image-cloud-{}", Arch::HOST.debian());
    [cloud, "linux-image-virtual".to_owned()]
}

pub(super) async fn kernel(stored: &Result<Stored, String>, kit: Option<&Kit>) -> Check {
    const NAME: &str = "kernel";
    if let Ok(Stored {
        kernel: Some(version),
        ..
    }) = stored
    {
        return Check::ok(NAME, format!("Linux {version} is in the image store"));
    }
    if let Some(kernel) = kit.and_then(|kit| kit.kernel().ok()) {
        return Check::ok(NAME, format!("{kernel} came with vmint-tiny"));
    }
    let [debian, ubuntu] = kernel_packages();
    obtainable(NAME, "guest kernel", &[&debian, &ubuntu]).await
}

pub(super) async fn busybox(stored: &Result<Stored, String>, kit: Option<&Kit>) -> Check {
    const NAME: &str = "busybox";
    if stored.as_ref().is_ok_and(|stored| stored.has_tiny) {
        return Check::ok(NAME, "tiny is in the image store");
    }
    if kit.is_some() {
        return Check::ok(NAME, "busybox came with vmint-tiny");
    }
    obtainable(NAME, "busybox for tiny", &["busybox-static"]).await
}

/// Whether one of the packages can be fetched. None is installed, so no root is needed.
async fn obtainable(name: &'static str, what: &str, packages: &[&str]) -> Check {
    let missing = ask::missing(&["apt-get", "apt-cache", "dpkg-deb"]);
    if !missing.is_empty() {
        return Check::failure(
            name,
            format!(
                "no {what} yet, and none can be fetched: {} not installed",
                missing.join(", ")
            ),
            "install the package vmint-tiny, which brings them, or apt and dpkg",
        );
    }
    let args: Vec<_> = ["policy"].iter().chain(packages).copied().collect();
    match ask::output("apt-cache", &args).await {
        Err(why) => Check::failure(
            name,
            format!("no {what} yet: {why}"),
            "see what apt-cache policy says",
        ),
        Ok(policy) => judge_policy(name, what, packages, &policy),
    }
}

fn judge_policy(name: &'static str, what: &str, packages: &[&str], policy: &str) -> Check {
    let found = packages
        .iter()
        .find_map(|package| Some((package, candidate(policy, package)?)));
    match found {
        Some((package, version)) => Check::ok(name, format!("{package} {version} can be fetched")),
        None => Check::failure(
            name,
            format!("no {what} yet, and apt has none of {}", packages.join(", ")),
            "apt-get update (as root): the package lists are empty or old",
        ),
    }
}

/// The version of a package that `apt-cache policy` (in the C locale) says can be had.
fn candidate(policy: &str, package: &str) -> Option<String> {
    let mut lines = policy
        .lines()
        .skip_while(|line| line.strip_suffix(':') != Some(package));
    lines.next()?;
    let version = lines
        .take_while(|line| line.starts_with(' '))
        .find_map(|line| line.trim().strip_prefix("Candidate:"))?
        .trim();
    (!version.is_empty() && version != "(none)").then(|| version.to_owned())
}

/// What makes disks; every image but tiny has one.
pub(super) fn disks() -> Check {
    const NAME: &str = "disk-tools";
    let missing = ask::missing(&["mke2fs", "debugfs"]);
    if missing.is_empty() {
        Check::ok(NAME, "mke2fs and debugfs are installed")
    } else {
        Check::warning(
            NAME,
            format!(
                "{} not installed: of all images only tiny can be made",
                missing.join(", ")
            ),
            "apt-get install e2fsprogs (as root)",
        )
    }
}

/// What makes Debian images.
pub(super) fn debian() -> Check {
    const NAME: &str = "mmdebstrap";
    const KEYRINGS: [&str; 2] = [
        "/usr/share/keyrings/debian-archive-keyring.gpg",
        "/etc/apt/trusted.gpg.d/debian-archive-keyring.gpg",
    ];
    let mut missing = ask::missing(&["mmdebstrap"]);
    if !KEYRINGS.iter().any(|path| Path::new(path).exists()) {
        missing.push("debian-archive-keyring");
    }
    if missing.is_empty() {
        return Check::ok(NAME, "installed, with Debian's keys");
    }
    Check::warning(
        NAME,
        format!(
            "{} not installed: images from debian:12 and debian:13 cannot be built",
            missing.join(", ")
        ),
        format!("apt-get install {} (as root)", missing.join(" ")),
    )
}

/// What mmdebstrap needs when it is not root.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Namespaces {
    missing: Vec<&'static str>,
    uids: u64,
    gids: u64,
    /// What the system forbids, as `sysctl` would allow it.
    forbidden_by: Option<&'static str>,
    user: String,
}

pub(super) fn user_namespaces() -> Check {
    let uid = rustix::process::geteuid();
    if uid.is_root() {
        return Check::ok(NAMESPACES, "not needed: this is root");
    }
    let uid = uid.as_raw().to_string();
    let passwd = ask::text("/etc/passwd").unwrap_or_default();
    let name = user_name(&passwd, &uid)
        .map(str::to_owned)
        .or_else(|| std::env::var("USER").ok());
    let user = name.unwrap_or_else(|| uid.clone());
    let range = |path: &str| subordinate_ids(&ask::text(path).unwrap_or_default(), &[&user, &uid]);
    let sysctl = |path: &str| {
        ask::text(Path::new("/proc/sys").join(path)).map(|text| text.trim().to_owned())
    };
    let says = |path, value: &str| sysctl(path).as_deref() == Some(value);
    // Ubuntu forbids them to all programs without a profile; it has one for mmdebstrap.
    let by_apparmor = says("kernel/apparmor_restrict_unprivileged_userns", "1")
        && !Path::new("/etc/apparmor.d/mmdebstrap").exists();
    let forbidden_by = if says("kernel/unprivileged_userns_clone", "0") {
        Some("kernel.unprivileged_userns_clone=1")
    } else if says("user/max_user_namespaces", "0") {
        Some("user.max_user_namespaces=10000")
    } else {
        by_apparmor.then_some("kernel.apparmor_restrict_unprivileged_userns=0")
    };
    judge_namespaces(&Namespaces {
        missing: ask::missing(&["newuidmap", "newgidmap"]),
        uids: range("/etc/subuid"),
        gids: range("/etc/subgid"),
        forbidden_by,
        user,
    })
}

const NAMESPACES: &str = "user-namespaces";
/// A Debian has users up to 65534.
const IDS: u64 = 65536;

fn judge_namespaces(found: &Namespaces) -> Check {
    let useless = "images from debian:12 and debian:13 cannot be built without root";
    let user = &found.user;
    if !found.missing.is_empty() {
        return Check::warning(
            NAMESPACES,
            format!("{} not installed: {useless}", found.missing.join(", ")),
            "apt-get install uidmap (as root)",
        );
    }
    for (file, ids) in [("/etc/subuid", found.uids), ("/etc/subgid", found.gids)] {
        if ids < IDS {
            return Check::warning(
                NAMESPACES,
                format!("{file} gives {user} {ids} ids, and {IDS} are needed: {useless}"),
                format!(
                    "usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user} (as root)"
                ),
            );
        }
    }
    if let Some(setting) = found.forbidden_by {
        return Check::warning(
            NAMESPACES,
            format!("the system forbids user namespaces: {useless}"),
            format!("sysctl {setting} (as root)"),
        );
    }
    Check::ok(NAMESPACES, format!("{user} may use them"))
}

/// The name of a user number in `/etc/passwd`.
fn user_name<'p>(passwd: &'p str, uid: &str) -> Option<&'p str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then_some(name)
    })
}

/// How many ids `/etc/subuid` or `/etc/subgid` gives a user, who may stand there by name or by number.
fn subordinate_ids(text: &str, users: &[&str]) -> u64 {
    let counts = text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let is_theirs = users.contains(&fields.next()?);
        let count = fields.nth(1)?.parse::<u64>().ok()?;
        is_theirs.then_some(count)
    });
    counts.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;

    const POLICY: &str = "linux-image-cloud-amd64:\n  Installed: (none)\n  Candidate: 6.1.170-3\n  Version table:\n     6.1.170-3 500\n\
        linux-image-virtual:\n  Installed: (none)\n  Candidate: (none)\n  Version table:\n";

    #[test]
    fn a_package_with_a_candidate_can_be_fetched() {
        assert_eq!(
            candidate(POLICY, "linux-image-cloud-amd64").as_deref(),
            Some("6.1.170-3")
        );
        assert_eq!(candidate(POLICY, "linux-image-virtual"), None);
        assert_eq!(candidate(POLICY, "linux-image"), None);
        assert_eq!(candidate("", "x"), None);
        assert_eq!(candidate("x:\ny:\n  Candidate: 1\n", "x"), None);
        let judge = |packages| judge_policy("kernel", "guest kernel", packages, POLICY);
        assert_eq!(
            judge(&["linux-image-virtual", "linux-image-cloud-amd64"]).status,
            Status::Ok
        );
        let check = judge(&["linux-image-virtual"]);
        assert_eq!(check.status, Status::Failure);
        assert!(check.remedy.unwrap().starts_with("apt-get update"));
    }

    #[tokio::test]
    async fn a_kernel_in_the_store_is_enough() {
        let stored = Ok(Stored {
            kernel: Some("6.1.0-x".into()),
            has_tiny: true,
            ..Stored::default()
        });
        assert_eq!(
            kernel(&stored, None).await.summary,
            "Linux 6.1.0-x is in the image store"
        );
        assert_eq!(busybox(&stored, None).await.status, Status::Ok);
    }

    #[test]
    fn a_damaged_image_is_named() {
        let damaged = vec![("web".to_owned(), "its disk is missing".to_owned())];
        let check = images(&Ok(Stored {
            whole: 2,
            damaged,
            ..Stored::default()
        }));
        assert_eq!(check.status, Status::Warning);
        assert!(
            check.summary.contains("web: its disk is missing"),
            "{check:?}"
        );
        assert_eq!(images(&Ok(Stored::default())).summary, "none yet");
        assert_eq!(images(&Err("x".into())).status, Status::Warning);
    }

    #[test]
    fn users_stand_in_the_files_by_name_or_number() {
        let text = "root:1:9\nann:100000:65536\n1000:200000:10\nann:300000:x\n\nann\nanna:1:1\n";
        assert_eq!(subordinate_ids(text, &["ann", "1000"]), 65546);
        assert_eq!(subordinate_ids(text, &["bob", "1001"]), 0);
        let passwd = "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\nodd\n";
        assert_eq!(user_name(passwd, "1000"), Some("ann"));
        assert_eq!(user_name(passwd, "1"), None);
    }

    #[test]
    fn each_thing_that_namespaces_lack_has_its_remedy() {
        let fine = Namespaces {
            missing: vec![],
            uids: IDS,
            gids: IDS,
            forbidden_by: None,
            user: "ann".into(),
        };
        assert_eq!(judge_namespaces(&fine).status, Status::Ok);
        for (found, remedy) in [
            (
                Namespaces {
                    missing: vec!["newuidmap"],
                    ..fine.clone()
                },
                "uidmap",
            ),
            (
                Namespaces {
                    uids: 0,
                    ..fine.clone()
                },
                "usermod",
            ),
            (
                Namespaces {
                    gids: IDS - 1,
                    ..fine.clone()
                },
                "usermod",
            ),
            (
                Namespaces {
                    forbidden_by: Some("a.b=1"),
                    ..fine.clone()
                },
                "sysctl a.b=1",
            ),
        ] {
            let check = judge_namespaces(&found);
            assert_eq!(check.status, Status::Warning, "{check:?}");
            assert!(check.remedy.as_ref().unwrap().contains(remedy), "{check:?}");
        }
    }
}
