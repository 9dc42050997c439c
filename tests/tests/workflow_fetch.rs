//! Actions from git remotes: fetched when that is asked for, locked, and refused when they are not what is locked.

use std::fs;
use std::path::Path;
use std::process::Command;
use vmint_tests::{Home, Project};

const WORKFLOW: &str = "\
on: push
jobs:
  one:
    runs-on: ubuntu-latest
    steps:
      - name: greet
        uses: somebody/greets/sub@v1
        with: {who: world}
      - uses: Swatinem/rust-cache@v2
";

const GREET: &str = "\
inputs: {who: {required: true}}
runs:
  using: composite
  steps:
    - run: . \"$GITHUB_ACTION_PATH/../lib/greet.sh\" ${{ inputs.who }}
      shell: sh
";

#[track_caller]
fn git(folder: &Path, args: &[&str]) {
    let identity = ["-c", "user.name=T", "-c", "user.email=t@example.com"];
    let output = Command::new("git")
        .current_dir(folder)
        .args(identity)
        .args(args)
        .output();
    let output = output.expect("git is installed");
    assert!(output.status.success(), "git {args:?}: {output:?}");
}

/// A remote `somebody/greets` with a tag `v1`, below a folder.
fn remote(below: &Path, greeting: &str) {
    let folder = below.join("somebody/greets");
    for inner in ["sub", "lib"] {
        fs::create_dir_all(folder.join(inner)).expect("a folder");
    }
    if !folder.join(".git").exists() {
        git(&folder, &["init", "--quiet", "--initial-branch", "main"]);
    }
    fs::write(folder.join("sub/action.yml"), GREET).expect("a file");
    fs::write(
        folder.join("lib/greet.sh"),
        format!("echo \"{greeting} $1\"\n"),
    )
    .expect("a file");
    // As actions do whose builds are committed.
    fs::write(folder.join(".gitignore"), "lib/\n").expect("a file");
    git(&folder, &["add", "--all", "--force"]);
    git(&folder, &["commit", "--quiet", "--allow-empty", "-m", "x"]);
    git(&folder, &["tag", "--force", "v1"]);
}

#[test]
fn an_action_is_fetched_locked_run_and_refused_once_it_is_another() {
    let home = Home::new();
    let project = Project::with("actions = \"actions\"", WORKFLOW);
    let remotes = tempfile::tempdir().expect("a folder");
    remote(remotes.path(), "hello");
    // What is in the user's own settings is not git's here: neither commands nor another remote.
    let user = tempfile::tempdir().expect("a folder");
    let mark = user.path().join("mark");
    let settings = format!(
        "[url \"ext::touch {0}\"]\n\tinsteadOf = file://\n[protocol]\n\tallow = always\n[core]\n\tfsmonitor = touch {0}\n",
        mark.display()
    );
    fs::write(user.path().join(".gitconfig"), settings).expect("a file");
    let fetch = |more: &str| {
        let args = format!(
            "workflow fetch-actions ci --remote file://{}{more}",
            remotes.path().display()
        );
        project.vmint(&home, &args).env("HOME", user.path())
    };
    let refused = project.vmint(&home, "workflow check").run().exits(1).text();
    assert!(
        refused.contains("vmint workflow fetch-actions FILE"),
        "{refused}"
    );
    let told = fetch(" --format json").run().ok().json();
    let told = told.as_array().expect("a list");
    let of = |action: &str| {
        let mut told = told.iter();
        told.find(|one| one["action"] == action)
            .unwrap_or_else(|| panic!("{action}"))
    };
    assert_eq!(of("somebody/greets@v1")["result"], "fetched");
    assert_eq!(of("Swatinem/rust-cache@v2")["result"], "not_needed");
    assert!(!mark.exists());
    let lock = fs::read_to_string(project.root().join("actions.lock")).expect("a lock file");
    assert!(lock.contains("\"somebody/greets@v1\""), "{lock}");
    let greeted = || {
        let ran = project.run(&home, "ci").ok();
        ran.record.log(&home, "one", "greet")
    };
    assert!(greeted().contains("\nhello world\n"));
    // The tag moves; nothing changes until that is asked for.
    remote(remotes.path(), "goodbye");
    let told = fetch("").run().ok().text();
    assert!(told.contains("kept        somebody/greets@v1"), "{told}");
    assert!(greeted().contains("\nhello world\n"));
    let told = fetch(" --update").run().ok().text();
    assert!(told.contains("updated     somebody/greets@v1"), "{told}");
    assert!(greeted().contains("\ngoodbye world\n"));
    // Somebody changes the copy: it is not run, whoever it was.
    let script = project
        .root()
        .join("actions/somebody/greets@v1/lib/greet.sh");
    fs::write(&script, "echo other\n").expect("a file");
    let refused = project.vmint(&home, "workflow run ci").run().exits(125);
    assert!(refused.error().contains("actions.lock"), "{refused}");
    let told = fetch("").run().ok().text();
    assert!(told.contains("fetched     somebody/greets@v1"), "{told}");
    assert!(greeted().contains("\ngoodbye world\n"));
}

#[test]
fn only_https_and_files_are_remotes_and_what_is_missing_fails() {
    let home = Home::new();
    let project = Project::with("actions = \"actions\"", WORKFLOW);
    for remote in ["ext::sh", "ssh://x", "http://x", "-x", "file://x"] {
        let args = [
            "workflow",
            "fetch-actions",
            "ci",
            &format!("--remote={remote}"),
        ]
        .map(str::to_owned);
        let refused = project.call(&home, args).run();
        assert!(
            refused.error().contains("must begin with"),
            "{remote}: {refused}"
        );
    }
    let told = project
        .vmint(
            &home,
            "workflow fetch-actions ci --remote file:///nonexistent",
        )
        .run();
    let told = told.exits(1).text();
    assert!(told.contains("failed      somebody/greets@v1"), "{told}");
    // Without a mirror nothing is written anywhere.
    project.file("vmint.toml", "");
    let refused = project.vmint(&home, "workflow fetch-actions ci").run();
    assert!(
        refused
            .error()
            .contains("no folder for copies of actions is named"),
        "{refused}"
    );
}
