use super::lock::{Lock, digest};
use super::*;
use crate::check::{Actions as _, Found, Mirror};
use crate::uses::Uses;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Remotes, a project and its mirror, in a folder of the test's own.
struct World(tempfile::TempDir);

impl World {
    fn new() -> Self {
        let world = Self(tempfile::tempdir().expect("a folder for a test"));
        for folder in ["remotes", "project"] {
            fs::create_dir(world.path(folder)).expect("a folder");
        }
        world
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn mirrored(&self, path: &str) -> PathBuf {
        self.path("project/actions").join(path)
    }

    /// Calls git in a remote, which must succeed.
    fn git(&self, remote: &str, args: &[&str], input: &[u8]) -> String {
        use std::io::Write as _;
        let identity = ["-c", "user.name=T", "-c", "user.email=t@example.com"];
        let mut child = Command::new("git")
            .current_dir(self.path("remotes").join(remote))
            .args(identity)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("git is installed");
        child
            .stdin
            .take()
            .expect("a pipe")
            .write_all(input)
            .expect("git reads");
        let output = child.wait_with_output().expect("git ends");
        assert!(output.status.success(), "git {args:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Makes a remote of files, with a tag, and gives its commit.
    fn remote(&self, name: &str, tag: &str, files: &[(&str, &str)]) -> String {
        let folder = self.path("remotes").join(name);
        if !folder.is_dir() {
            fs::create_dir_all(&folder).expect("a folder");
            self.git(name, &["init", "--quiet", "--initial-branch", "main"], b"");
        }
        for (path, content) in files {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, content).expect("a file");
        }
        self.commit(name, tag)
    }

    fn commit(&self, name: &str, tag: &str) -> String {
        self.git(name, &["add", "--all", "--force"], b"");
        self.git(
            name,
            &["commit", "--quiet", "--allow-empty", "-m", "x"],
            b"",
        );
        self.git(name, &["tag", "--force", "--annotate", "-m", "x", tag], b"");
        self.git(name, &["rev-parse", "HEAD"], b"")
    }

    fn mirror(&self) -> Mirror {
        let folder = self.path("project/actions");
        Mirror {
            lock: Lock::read(&folder).expect("a lock file"),
            folder: Some(folder),
            ..Mirror::default()
        }
    }

    async fn fetch_within(&self, uses: &[&str], refs: Refs, limits: Limits) -> Vec<Entry> {
        let steps = uses.iter().fold(String::new(), |text, uses| {
            text + "      - uses: " + uses + "\n"
        });
        let text = format!("on: push\njobs:\n  a:\n    runs-on: macos-14\n    steps:\n{steps}");
        let file = self.path("project/ci.yml");
        fs::write(&file, text).expect("a file");
        let what = Fetch {
            repository: &self.path("project"),
            files: &[(file.clone(), file)],
            mirror: &self.mirror(),
            base: &format!("file://{}", self.path("remotes").display()),
            refs,
            limits,
        };
        fetch(&what, &|_| {}).await.expect("a mirror")
    }

    async fn fetch(&self, uses: &[&str]) -> Vec<Entry> {
        self.fetch_within(uses, Refs::Locked, Limits::default())
            .await
    }

    /// Fetches one action, which must fail, and gives the reason.
    async fn refused(&self, uses: &str) -> String {
        let entries = self.fetch(&[uses]).await;
        match &entries[..] {
            [
                Entry {
                    fate: Fate::Failed { why },
                    ..
                },
            ] => why.clone(),
            other => panic!("{uses}: {other:?}"),
        }
    }

    fn finds(&self, uses: &str) -> Found {
        match Uses::parse(uses) {
            Ok(Uses::Repository(uses)) => self.mirror().find(&uses),
            other => panic!("{other:?}"),
        }
    }
}

const NODE: &str = "runs: {using: node20, main: m.js}\n";

fn fates(entries: &[Entry]) -> Vec<(&str, &Fate)> {
    entries
        .iter()
        .map(|e| (e.action.as_str(), &e.fate))
        .collect()
}

#[tokio::test]
async fn what_is_used_and_what_that_uses_is_fetched_once_and_locked() {
    let world = World::new();
    let inner = world.remote(
        "o/inner",
        "v1",
        &[("sub/action.yml", NODE), ("sub/m.js", "1")],
    );
    let outer = "runs: {using: composite, steps: [{uses: o/inner/sub@v1}, {uses: ./x}, {uses: actions/cache@v4, with: {path: a, key: b}}]}";
    world.remote("o/outer", "v2", &[("action.yml", outer)]);
    fs::create_dir_all(world.path("project/own")).unwrap();
    let own = "runs: {using: composite, steps: [{uses: o/third@main}]}";
    fs::write(world.path("project/own/action.yml"), own).unwrap();
    world.remote("o/third", "t", &[("action.yml", NODE)]);
    let uses = [
        "o/outer@v2",
        "o/outer@v2",
        "./own",
        "docker://x",
        "Swatinem/rust-cache@v2",
    ];
    let entries = world.fetch(&uses).await;
    let fetched = Fate::Fetched { links: 0 };
    assert_eq!(
        fates(&entries),
        [
            ("Swatinem/rust-cache@v2", &Fate::NotNeeded { by: "nothing" }),
            ("actions/cache@v4", &Fate::NotNeeded { by: "vmint itself" }),
            ("o/inner@v1", &fetched),
            ("o/outer@v2", &fetched),
            ("o/third@main", &fetched),
        ]
    );
    // An annotated tag is the commit behind it.
    assert_eq!(entries[2].commit.as_deref(), Some(&*inner));
    assert_eq!(
        fs::read(world.mirrored("o/inner@v1/sub/m.js")).unwrap(),
        b"1"
    );
    let left: Vec<_> = fs::read_dir(world.path("project/actions"))
        .unwrap()
        .collect();
    assert_eq!(left.len(), 1, "{left:?}");
    let again = world.fetch(&uses).await;
    assert!(again[2..].iter().all(|e| e.fate == Fate::Kept), "{again:?}");
}

#[tokio::test]
async fn a_ref_that_moves_is_followed_when_that_is_asked_for_alone() {
    let world = World::new();
    let first = world.remote("o/r", "v1", &[("action.yml", NODE), ("m.js", "1")]);
    world.fetch(&["o/r@v1"]).await;
    let second = world.remote("o/r", "v1", &[("m.js", "2")]);
    assert_ne!(first, second);
    assert_eq!(world.fetch(&["o/r@v1"]).await[0].fate, Fate::Kept);
    assert_eq!(fs::read(world.mirrored("o/r@v1/m.js")).unwrap(), b"1");
    // Somebody else's checkout has the lock alone: the same commit is fetched.
    fs::remove_dir_all(world.path("project/actions")).unwrap();
    let entries = world.fetch(&["o/r@v1"]).await;
    assert_eq!(entries[0].commit.as_ref(), Some(&first));
    assert_eq!(fs::read(world.mirrored("o/r@v1/m.js")).unwrap(), b"1");
    let entries = world
        .fetch_within(&["o/r@v1"], Refs::Updated, Limits::default())
        .await;
    assert_eq!(entries[0].fate, Fate::Updated { from: first });
    assert_eq!(entries[0].commit, Some(second));
    assert_eq!(fs::read(world.mirrored("o/r@v1/m.js")).unwrap(), b"2");
}

#[tokio::test]
async fn a_copy_that_is_not_what_is_locked_is_not_found_and_is_fetched_again() {
    let world = World::new();
    world.remote("o/r", "v1", &[("action.yml", NODE), ("m.js", "1")]);
    world.fetch(&["o/r@v1"]).await;
    assert!(matches!(world.finds("o/r@v1"), Found::Repository(_)));
    let file = world.mirrored("o/r@v1/m.js");
    type Change<'a> = (&'a str, Box<dyn Fn() + 'a>);
    let changes: [Change<'_>; 5] = [
        ("content", Box::new(|| fs::write(&file, "2").unwrap())),
        (
            "mode",
            Box::new(|| fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap()),
        ),
        (
            "more",
            Box::new(|| fs::write(file.with_file_name("n.js"), "").unwrap()),
        ),
        ("less", Box::new(|| fs::remove_file(&file).unwrap())),
        (
            "link",
            Box::new(|| {
                fs::remove_file(&file).unwrap();
                symlink("action.yml", &file).unwrap();
            }),
        ),
    ];
    for (what, change) in changes {
        change();
        let Found::Nothing { help } = world.finds("o/r@v1") else {
            panic!("{what} is not noticed");
        };
        assert!(help.contains("actions.lock"), "{help}");
        let fate = &world.fetch(&["o/r@v1"]).await[0].fate;
        assert_eq!(*fate, Fate::Fetched { links: 0 }, "{what}");
        assert_eq!(fs::read(&file).unwrap(), b"1", "{what}");
    }
    // What was put there by hand is what it is.
    fs::create_dir_all(world.mirrored("o/hand@v1")).unwrap();
    assert_eq!(world.fetch(&["o/hand@v1"]).await[0].fate, Fate::Foreign);
    assert!(matches!(world.finds("o/hand@v1"), Found::Repository(_)));
}

#[tokio::test]
async fn a_tag_comes_before_a_branch_and_names_that_only_end_so_do_not_count() {
    let world = World::new();
    let tagged = world.remote("o/r", "both", &[("action.yml", NODE)]);
    let branch = world.remote(
        "o/r",
        "other",
        &[("action.yml", "runs: {using: node16, main: m.js}\n")],
    );
    world.git("o/r", &["update-ref", "refs/heads/both", &branch], b"");
    world.git("o/r", &["update-ref", "refs/heads/a/b", &branch], b"");
    world.git(
        "o/r",
        &["update-ref", "refs/evil/refs/tags/hidden", &branch],
        b"",
    );
    for (git_ref, commit) in [
        ("both", &tagged),
        ("a/b", &branch),
        (&*branch, &branch),
        ("main", &branch),
    ] {
        let entries = world.fetch(&[&format!("o/r@{git_ref}")]).await;
        assert_eq!(
            entries[0].commit.as_ref(),
            Some(commit),
            "{git_ref}: {entries:?}"
        );
        assert!(
            world
                .mirrored(&format!("o/r@{git_ref}/action.yml"))
                .is_file()
        );
    }
    for git_ref in ["hidden", "bot*", "b", "deadbeef"] {
        let why = world.refused(&format!("o/r@{git_ref}")).await;
        assert!(
            why.contains("neither a tag nor a branch") || why.contains("is not the name"),
            "{why}"
        );
    }
    let absent = "0123456789012345678901234567890123456789";
    world.refused(&format!("o/r@{absent}")).await;
    world.refused("o/nothing@v1").await;
}

#[tokio::test]
async fn names_that_lead_elsewhere_reach_neither_git_nor_the_mirror() {
    let world = World::new();
    world.remote("o/r", "v1", &[("action.yml", NODE)]);
    for uses in [
        "o/r@--upload-pack=touch${IFS}x",
        "o/r@../../../x",
        "o/r@a/../../x",
        "o/r@/etc",
        "o/r@a..b",
        "o/r@v1^{}",
        "../r@v1",
        "o/..@v1",
        "-o/r@v1",
        ".git/r@v1",
    ] {
        let entries = world.fetch(&[uses]).await;
        for entry in &entries {
            assert!(
                matches!(entry.fate, Fate::Failed { .. }),
                "{uses}: {entry:?}"
            );
        }
    }
    let left: Vec<_> = fs::read_dir(world.path("project/actions"))
        .unwrap()
        .collect();
    assert!(left.is_empty(), "{left:?}");
    // A checkout of somebody else's may have a link where the mirror's folders are.
    symlink(world.path("remotes"), world.mirrored("o")).unwrap();
    let why = world.refused("o/r@v1").await;
    assert!(why.contains("leads out of the mirror"), "{why}");
    assert!(!world.path("remotes/r@v1").exists());
}

#[tokio::test]
async fn a_hostile_remote_starts_nothing_and_leaves_nothing_outside_of_its_folder() {
    let world = World::new();
    let mark = world.path("mark");
    let touch = format!("touch {}", mark.display());
    let modules = format!("[submodule \"s\"]\n\tpath = s\n\turl = ext::sh -c {touch}\n");
    world.remote(
        "o/r",
        "v1",
        &[
            ("action.yml", NODE),
            (".gitmodules", &modules),
            (
                ".gitattributes",
                "*.js filter=evil diff=evil\nhidden export-ignore\n",
            ),
            ("m.js", "1"),
            ("hidden", "1"),
        ],
    );
    let folder = world.path("remotes/o/r");
    for (name, to) in [
        ("absolute", "/etc/passwd"),
        ("up", "../../../../ci.yml"),
        ("nowhere", "/nonexistent"),
        ("inside", "m.js"),
    ] {
        symlink(to, folder.join(name)).unwrap();
    }
    fs::create_dir(folder.join("d")).unwrap();
    symlink("../..", folder.join("d/up")).unwrap();
    world.commit("o/r", "v1");
    for hook in [
        "post-checkout",
        "reference-transaction",
        "post-update",
        "pre-receive",
    ] {
        let path = folder.join(".git/hooks").join(hook);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("#!/bin/sh\n{touch}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    for (key, value) in [
        ("uploadpack.packObjectsHook", touch.as_str()),
        ("filter.evil.smudge", touch.as_str()),
        ("core.fsmonitor", touch.as_str()),
        ("core.sshCommand", touch.as_str()),
    ] {
        world.git("o/r", &["config", key, value], b"");
    }
    let entries = world.fetch(&["o/r@v1"]).await;
    assert_eq!(entries[0].fate, Fate::Fetched { links: 4 }, "{entries:?}");
    let mut names: Vec<_> = fs::read_dir(world.mirrored("o/r@v1"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            ".gitattributes",
            ".gitmodules",
            "action.yml",
            "d",
            "inside",
            "m.js"
        ]
    );
    assert!(!mark.exists());
}

#[tokio::test]
async fn trees_that_no_checkout_could_have_are_refused() {
    let world = World::new();
    world.remote("o/r", "v1", &[("action.yml", NODE)]);
    let blob = world.git("o/r", &["hash-object", "-w", "--stdin"], b"x");
    for name in [".git", "..", ".GIT", "."] {
        let tree = format!("100644 blob {blob}\t{name}\n");
        let tree = world.git("o/r", &["mktree"], tree.as_bytes());
        let commit = world.git("o/r", &["commit-tree", "-m", "x", &tree], b"");
        world.git("o/r", &["update-ref", "refs/tags/evil", &commit], b"");
        let why = world.refused("o/r@evil").await;
        assert!(why.contains("fsck"), "{name}: {why}");
        assert!(!world.mirrored("o/r@evil").exists());
    }
}

#[tokio::test]
async fn what_is_too_large_is_given_up_and_leaves_nothing() {
    let world = World::new();
    // Noise that does not compress, and zeros that do.
    let mut state = 1_u64;
    let noise: String = (0..2 << 20)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            char::from(b' ' + (state >> 58) as u8)
        })
        .collect();
    world.remote("o/noise", "v1", &[("action.yml", NODE), ("x", &noise)]);
    let zeros = "0".repeat(8 << 20);
    world.remote("o/zeros", "v1", &[("action.yml", NODE), ("x", &zeros)]);
    let small = Limits {
        pack: 1 << 20,
        archive: 4 << 20,
        ..Limits::default()
    };
    let entries = world
        .fetch_within(&["o/noise@v1", "o/zeros@v1"], Refs::Locked, small)
        .await;
    assert!(
        entries
            .iter()
            .all(|e| matches!(e.fate, Fate::Failed { .. })),
        "{entries:?}"
    );
    let Fate::Failed { why } = &entries[1].fate else {
        unreachable!();
    };
    assert!(why.contains("more than 4 MiB"), "{why}");
    let left: Vec<_> = fs::read_dir(world.path("project/actions"))
        .unwrap()
        .collect();
    assert!(left.is_empty(), "{left:?}");
    let entries = world.fetch(&["o/noise@v1", "o/zeros@v1"]).await;
    assert!(
        entries.iter().all(|e| e.fate == Fate::Fetched { links: 0 }),
        "{entries:?}"
    );
}

#[tokio::test]
async fn two_at_once_lock_what_both_have_fetched() {
    let world = World::new();
    for name in ["o/a", "o/b"] {
        world.remote(name, "v1", &[("action.yml", NODE)]);
    }
    let (mut left, mut right) = (Vec::new(), Vec::new());
    // Each in a file of its own.
    let fetch_one = async |uses: &str, file: &str| {
        let text =
            format!("on: push\njobs:\n  a:\n    runs-on: x\n    steps:\n      - uses: {uses}\n");
        let file = world.path("project").join(file);
        fs::write(&file, text).expect("a file");
        let what = Fetch {
            repository: &world.path("project"),
            files: &[(file.clone(), file)],
            mirror: &world.mirror(),
            base: &format!("file://{}", world.path("remotes").display()),
            refs: Refs::Locked,
            limits: Limits::default(),
        };
        fetch(&what, &|_| {}).await.expect("a mirror")
    };
    tokio::join!(
        async {
            left = fetch_one("o/a@v1", "a.yml").await;
        },
        async {
            right = fetch_one("o/b@v1", "b.yml").await;
        }
    );
    let fetched = Fate::Fetched { links: 0 };
    assert_eq!((&left[0].fate, &right[0].fate), (&fetched, &fetched));
    let lock = world.mirror().lock;
    assert!(
        lock.get("o/a@v1").is_some() && lock.get("o/b@v1").is_some(),
        "{lock:?}"
    );
}

#[tokio::test]
async fn a_copy_that_was_never_placed_is_not_there_unlocked() {
    let world = World::new();
    world.remote("o/r", "v1", &[("action.yml", NODE)]);
    fs::create_dir_all(world.path("project/actions")).unwrap();
    // What is in the way of the folder ends the call between the two.
    fs::write(world.mirrored("o"), "").unwrap();
    let why = world.refused("o/r@v1").await;
    assert!(why.contains("cannot place"), "{why}");
    assert!(world.mirror().lock.get("o/r@v1").is_some());
    assert!(matches!(world.finds("o/r@v1"), Found::Nothing { .. }));
    fs::remove_file(world.mirrored("o")).unwrap();
    assert_eq!(
        world.fetch(&["o/r@v1"]).await[0].fate,
        Fate::Fetched { links: 0 }
    );
}

#[test]
fn a_lock_file_of_another_form_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mirror = folder.path().join("actions");
    assert_eq!(Lock::read(&mirror).unwrap(), Lock::default());
    let commit = "0".repeat(40);
    let digest = format!("sha256:{}", "0".repeat(64));
    let of = |version: &str, commit: &str, digest: &str| {
        format!(
            r#"{{"version":{version},"actions":{{"o/r@v1":{{"commit":"{commit}","digest":"{digest}"}}}}}}"#
        )
    };
    let good = of("1", &commit, &digest);
    fs::write(Lock::path(&mirror), &good).unwrap();
    let lock = Lock::read(&mirror).unwrap();
    lock.write(&mirror).unwrap();
    assert_eq!(Lock::read(&mirror).unwrap(), lock);
    for bad in [
        String::new(),
        "[]".to_owned(),
        of("2", &commit, &digest),
        of("1", "--upload-pack=x", &digest),
        of("1", &commit[1..], &digest),
        of("1", &commit, "sha256:00"),
        format!("{good}{}", " ".repeat(5 << 20)),
    ] {
        fs::write(Lock::path(&mirror), bad).unwrap();
        Lock::read(&mirror).unwrap_err();
    }
}

#[test]
fn no_two_trees_have_one_digest() {
    let of = |files: &[(&str, &str)]| {
        let folder = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        digest(folder.path()).unwrap()
    };
    let trees: [&[(&str, &str)]; 7] = [
        &[],
        &[("a", "")],
        &[("a", "b")],
        &[("ab", "")],
        &[("a/b", "")],
        &[("a/b", ""), ("c", "")],
        &[("a/b", ""), ("a/c", "")],
    ];
    let mut digests: Vec<String> = trees.iter().map(|files| of(files)).collect();
    assert_eq!(of(trees[5]), digests[5]);
    digests.sort();
    digests.dedup();
    assert_eq!(digests.len(), trees.len());
    let folder = tempfile::tempdir().unwrap();
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        folder.path().join("p"),
        rustix::fs::Mode::RWXU,
    )
    .unwrap();
    digest(folder.path()).unwrap_err();
    let deep: PathBuf = (0..70).map(|_| Path::new("d")).collect();
    fs::create_dir_all(folder.path().join(&deep)).unwrap();
    digest(folder.path()).unwrap_err();
}
