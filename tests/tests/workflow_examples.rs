//! The workflows of `examples/workflows`, and vmint's own `ci.yml`, run as their users would run them.
//!
//! One home and one image for all of them: the image takes a minute to build, and most of what is shown here is that real
//! workflows, written for GitHub, run as they are.

use std::path::{Path, PathBuf};
use std::time::Duration;
use vmint_tests::seed::Seed;
use vmint_tests::{Home, Outcome};

/// Under emulation and beside other tests.
const DEADLINE: Duration = Duration::from_secs(500);

fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().expect("the workspace").to_owned()
}

fn run(home: &Home, folder: &Path, args: &str) -> Outcome {
    let args = format!("workflow run {args}");
    home.call(args.split_ascii_whitespace())
        .current_dir(folder)
        .deadline(DEADLINE)
        .run()
}

/// All that must succeed.
const EXAMPLES: [&str; 12] = [
    "rust",
    "python-matrix",
    "systemd-service",
    "netns",
    "kernel-module",
    "filesystem",
    "node-action",
    "reusable",
    "monorepo-paths",
    "release",
    "database",
    "c-sanitizers",
];

#[test]
fn real_workflows_run_as_they_are_and_so_does_vmint_s_own() {
    let home = Home::with(Seed::Image);
    let examples = root().join("examples/workflows");
    let checked = home
        .call(["workflow", "check", "--format", "json"])
        .current_dir(root())
        .run()
        .ok();
    assert_eq!(checked.json(), serde_json::json!([]), "{checked}");
    let mut failed = Vec::new();
    for name in EXAMPLES {
        let outcome = run(&home, &examples.join(name), "ci");
        if outcome.code != Some(0) {
            failed.push(format!("{name}: {outcome}"));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));

    // A step fails late; one looks into the machine as it was before, mends the file, and goes on.
    let project = tempfile::tempdir().expect("a temporary folder");
    let copied = std::process::Command::new("cp")
        .arg("-r")
        .arg(examples.join("failing-example"))
        .arg(examples.join("vmint.toml"))
        .arg(project.path())
        .status();
    assert!(copied.is_ok_and(|status| status.success()));
    let folder = project.path().join("failing-example");
    let outcome = run(&home, &folder, "ci --snapshot-steps").exits(1);
    let text = outcome.text();
    let id = text
        .lines()
        .next()
        .and_then(|line| line.rsplit_once(", run "));
    let (_, id) = id.unwrap_or_else(|| panic!("it does not tell its run: {outcome}"));
    let query = "SELECT count(*) FROM (SELECT lower(email) AS e FROM member GROUP BY e HAVING count(*) > 1)";
    let words = [
        "workflow", "shell", id, "--before", "migrate", "--", "sqlite3", "club.db", query,
    ];
    let shell = home
        .call(words)
        .current_dir(&folder)
        .deadline(DEADLINE)
        .run()
        .ok();
    assert_eq!(shell.text().trim(), "1", "{shell}");
    let path = folder.join(".github/workflows/ci.yml");
    let file = std::fs::read_to_string(&path).expect("the example has a workflow");
    let mended = file.replace("migrate club.db\n", "migrate club.db --merge-members\n");
    assert_ne!(file, mended, "the example was changed: adapt this test");
    std::fs::write(&path, mended).expect("a temporary folder can be written");
    run(&home, &folder, &format!("ci --resume {id} --from migrate")).exits(0);

    // vmint's own, as far as a guest can: the job `test` would need machines in machines.
    let own = run(
        &home,
        &root(),
        ".github/workflows/ci.yml --job scripts --image ci",
    );
    own.exits(0);
}
