//! The attribute `#[vmint::test]` as its users have it: tests of `crates/vmint/tests/attribute.rs` under `cargo test` and
//! under nextest, on real machines in a home of their own.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};
use vmint_tests::{Home, until};

/// `cargo`, in the workspace, with this home's environment. With all packages named, so that what `make test` has built
/// is not built again with other features.
fn cargo(home: &Home, args: &[&str]) -> (String, Output) {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(program);
    command.args(args);
    run(home, command)
}

fn run(home: &Home, mut command: Command) -> (String, Output) {
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    for (name, _) in std::env::vars_os() {
        let bytes = name.as_encoded_bytes();
        // Of the runner that runs this very test, the other one must know nothing.
        if bytes.starts_with(b"VMINT_") || bytes.starts_with(b"NEXTEST") {
            command.env_remove(name);
        }
    }
    command
        .env_remove("RUST_TEST_THREADS")
        .env("RUST_BACKTRACE", "0")
        .env("NO_COLOR", "1")
        .env("VMINT_RUNNER", vmint_tests::call::binary())
        .envs(home.environment());
    let output = command.output().expect("it can be started");
    let text = [&output.stdout, &output.stderr].map(|b| String::from_utf8_lossy(b).into_owned());
    (text.concat(), output)
}

/// The program that holds the tests, which cargo builds if need be.
fn program(home: &Home) -> PathBuf {
    let args = "test --workspace --test attribute --no-run --message-format json";
    let (said, output) = cargo(home, &args.split(' ').collect::<Vec<_>>());
    assert!(output.status.success(), "{said}");
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let values = out
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut programs = values.filter(|v| v["target"]["name"] == "attribute");
    let program = programs.find_map(|v| v["executable"].as_str().map(PathBuf::from));
    program.unwrap_or_else(|| panic!("cargo names no program: {said}"))
}

/// Runs tests of the program, as `cargo test` does it.
fn tests(home: &Home, program: &Path, args: &[&str]) -> (String, Output) {
    let mut command = Command::new(program);
    command.args(args).arg("--include-ignored");
    run(home, command)
}

/// Where another runner than cargo's is not installed, that is said.
fn has_nextest(home: &Home) -> bool {
    let (_, output) = cargo(home, &["nextest", "--version"]);
    if !output.status.success() {
        eprintln!("NOT TESTED: cargo-nextest is not installed");
    }
    output.status.success()
}

fn pool(home: &Home) -> Value {
    let pools = home.json("pool ls");
    let pools = pools.as_array().expect("an array");
    assert_eq!(pools.len(), 1, "{pools:?}");
    assert!(
        pools[0]["name"].as_str().unwrap().starts_with("test-tiny-"),
        "{pools:?}"
    );
    pools[0].clone()
}

/// Each machine at each generation was one test's alone.
fn machines(said: &str) -> BTreeMap<String, String> {
    let mut machines = BTreeMap::new();
    for line in said.lines() {
        if let Some((machine, test)) = line
            .trim()
            .strip_prefix("MACHINE ")
            .and_then(|l| l.split_once(' '))
        {
            let other = machines.insert(machine.to_owned(), test.to_owned());
            assert_eq!(other, None, "{machine} was lent to {test}, too: {said}");
        }
    }
    machines
}

/// The pool of the tests has no machine any more, and nobody has told it to.
fn goes_by_itself(home: &Home) {
    let left = until(
        Duration::from_secs(90),
        "the tests' machines have gone by themselves",
        || home.rows().is_empty(),
    );
    eprintln!("the last machine had gone after {left:?}");
    assert_eq!(pool(home)["alive"], 0);
}

#[test]
fn every_test_under_cargo_test_gets_a_fresh_machine_of_one_pool_which_empties_by_itself() {
    let home = Home::new();
    let args = ["passing", "--nocapture", "--test-threads", "2"];
    let (said, output) = tests(&home, &program(&home), &args);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("9 passed"), "{said}");
    assert_eq!(machines(&said).len(), 6, "{said}");
    assert_eq!(home.json("lease ls"), Value::Array(Vec::new()));
    goes_by_itself(&home);
}

#[test]
fn two_processes_of_nextest_share_a_pool_that_is_as_large_as_they_are_many() {
    let home = Home::new();
    if !has_nextest(&home) {
        return;
    }
    let args = [
        "nextest",
        "run",
        "--workspace",
        "--test",
        "attribute",
        "--run-ignored",
        "all",
        "-j",
        "2",
        "--success-output",
        "immediate",
        "-E",
        "test(passing::)",
    ];
    let (said, output) = cargo(&home, &args);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("9 tests run: 9 passed"), "{said}");
    let machines = machines(&said);
    assert_eq!(machines.len(), 6, "{said}");
    let pool = pool(&home);
    assert_eq!(pool["max"], 2, "{pool}");
    // Leases carry the tests' names, each once.
    let events = home.ok("events --format json").values();
    let claimed = events.iter().filter(|e| e["cause"] == "claimed");
    let labels: Vec<_> = claimed
        .map(|e| e["detail"].as_str().unwrap_or(""))
        .collect();
    let tests: BTreeSet<_> = labels.iter().filter(|l| l.contains("passing::")).collect();
    assert_eq!(tests.len(), 9, "{labels:?}");
    assert!(tests.contains(&"attribute::passing::one"), "{labels:?}");
}

#[test]
fn a_test_that_fails_says_why_and_shows_its_machines_console() {
    let home = Home::new();
    let program = program(&home);
    let test = |name: &str| {
        let (said, output) = tests(&home, &program, &["--exact", name]);
        assert!(!output.status.success(), "{said}");
        said
    };
    let said = test("failing::panics");
    assert!(said.contains("on purpose"), "{said}");
    assert!(said.contains("the end of its console:"), "{said}");
    assert!(said.contains("a word on the console"), "{said}");

    let said = test("failing::returns_an_error");
    for part in ["the test returned an error", "exited with 3", "complained"] {
        assert!(said.contains(part), "{said}");
    }

    for name in ["failing::takes_too_long", "failing::awaits_too_long"] {
        let began = Instant::now();
        let said = test(name);
        assert!(said.contains("longer than its timeout of 2s"), "{said}");
        // A future is dropped at the moment at which the lease ends; a thread that blocks learns of it by the latter.
        if name == "failing::takes_too_long" {
            assert!(said.contains("its time was up"), "{said}");
        }
        // The guest's `sleep 600` was not waited for.
        assert!(began.elapsed() < Duration::from_secs(60), "{said}");
    }

    let said = test("failing::has_no_machine");
    assert!(said.contains("the test was not started"), "{said}");
    assert!(said.contains("no-such-image"), "{said}");
    assert!(!said.contains("IT RAN"), "{said}");
}

#[test]
fn the_machine_of_a_test_that_is_killed_is_made_fresh() {
    let home = Home::new();
    let args = ["--exact", "failing::is_killed", "--nocapture"];
    let (said, output) = tests(&home, &program(&home), &args);
    assert!(!output.status.success(), "{said}");
    let lease = said
        .split("KILLED ")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next());
    let lease = lease.unwrap_or_else(|| panic!("no lease: {said}"));
    until(
        Duration::from_secs(20),
        "its machine is ready again",
        || pool(&home)["ready"] == 1,
    );
    let events = home.ok("events --format json").values();
    let ended = events
        .iter()
        .find(|e| e["lease"] == lease && e["from"] == "leased")
        .unwrap_or_else(|| panic!("lease {lease} has not ended: {events:?}"));
    assert_eq!(ended["cause"], "owner_ended", "{ended}");
}

#[test]
fn a_named_pool_is_lent_from_instead_and_other_machines_than_asked_for_are_refused() {
    let mut home = Home::new();
    home.ok("pool create mine --image tiny --memory 128M --min 1 --max 1");
    home.set_env("VMINT_TEST_POOL", "mine");
    let program = program(&home);
    let args = ["--exact", "passing::one"];
    let (said, output) = tests(&home, &program, &args);
    assert!(output.status.success(), "{said}");
    let pools = home.json("pool ls");
    let names: Vec<_> = pools
        .as_array()
        .unwrap()
        .iter()
        .map(|p| &p["name"])
        .collect();
    assert_eq!(names, ["mine"]);

    home.ok("pool create other --image tiny --memory 192M --min 0 --max 1");
    home.set_env("VMINT_TEST_POOL", "other");
    let (said, output) = tests(&home, &program, &args);
    assert!(!output.status.success(), "{said}");
    assert!(
        said.contains("memory 192 MiB") && said.contains("asks for 128 MiB"),
        "{said}"
    );
    home.ok("pool rm mine");
    home.ok("pool rm other");
}

/// What is built of the library, and of what its users use beside it: `--extern` and `-L` for the compiler.
fn built(home: &Home) -> Vec<String> {
    let args = "build --workspace --lib --message-format json";
    let (said, output) = cargo(home, &args.split(' ').collect::<Vec<_>>());
    assert!(output.status.success(), "{said}");
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut found = BTreeMap::new();
    for artifact in out
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
    {
        let name = artifact["target"]["name"].as_str().unwrap_or_default();
        let files = artifact["filenames"].as_array().into_iter().flatten();
        let mut files = files.filter_map(Value::as_str);
        if let (true, Some(file)) = (
            ["vmint", "tokio"].contains(&name),
            files.find(|f| Path::new(f).extension() == Some("rlib".as_ref())),
        ) {
            found.insert(name.to_owned(), PathBuf::from(file));
        }
    }
    let folder = found["tokio"].parent().expect("it lies in a folder");
    let mut args = vec!["-L".to_owned(), folder.display().to_string()];
    for (name, file) in &found {
        args.extend(["--extern".to_owned(), format!("{name}={}", file.display())]);
    }
    args
}

/// Each of these is wrong in one place, which is marked, and told there when it is compiled.
#[test]
fn what_is_wrong_with_a_test_is_told_where_it_is_written_when_it_is_compiled() {
    let home = Home::new();
    let built = built(&home);
    let compile = |name: &str, source: &str| {
        let file = home.runtime().join(format!("{name}.rs"));
        std::fs::write(&file, source.replace('¶', "")).unwrap();
        let mut rustc = Command::new("rustc");
        rustc
            .args(["--edition", "2024", "--test", "--emit", "metadata"])
            .args(["--error-format", "short", "-A", "warnings"])
            .args(&built)
            .arg("--out-dir")
            .arg(home.runtime())
            .arg(&file);
        run(&home, rustc)
    };
    for (name, source, told) in [
        (
            "reference",
            "#[vmint::test]\nfn t(vm: ¶&vmint::Vm) {}\n",
            "by value",
        ),
        (
            "size",
            "#[vmint::test(memory = ¶\"12X\")]\nfn t(vm: vmint::Vm) {}\n",
            "12X",
        ),
        (
            "little",
            "#[vmint::test(memory = ¶\"1M\")]\nfn t(vm: vmint::Vm) {}\n",
            "64 MiB",
        ),
        (
            "time",
            "#[vmint::test(\n    timeout = ¶\"soon\",\n)]\nfn t(vm: vmint::Vm) {}\n",
            "soon",
        ),
        (
            "other",
            "#[vmint::test]\nfn t(vm: ¶String) {}\n",
            "a `vmint::Vm` or a `vmint::AsyncVm`, not a",
        ),
        (
            "verdict",
            "#[vmint::test]\nfn t(vm: vmint::Vm) -> ¶u8 { 1 }\n",
            "returns nothing or a `Result",
        ),
        (
            "awaited",
            "#[vmint::test]\nfn t(vm: ¶vmint::AsyncVm) {}\n",
            "async fn",
        ),
        (
            "runtime",
            "#[vmint::test]\n¶#[tokio::test(flavor = \"multi_thread\")]\nasync fn t(vm: vmint::AsyncVm) {}\n",
            "leave this attribute out",
        ),
    ] {
        let (said, output) = compile(name, source);
        assert!(!output.status.success(), "{name}: it was compiled");
        let before = &source[..source.find('¶').expect("a mark")];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().expect("a line").chars().count() + 1;
        let place = format!("{name}.rs:{line}:{column}: error");
        let error = said.lines().find(|line| line.contains(&place));
        assert!(
            error.is_some_and(|line| line.contains(told)),
            "{name}: {said}"
        );
    }
    for (name, source) in [
        ("plain", "#[vmint::test]\nfn t(vm: vmint::Vm) {}\n"),
        (
            "below",
            "#[vmint::test]\n#[tokio::test]\nasync fn t(vm: vmint::AsyncVm) {}\n",
        ),
        (
            "doubled",
            "#[vmint::test]\n#[test]\nfn t(vm: vmint::Vm) {}\n",
        ),
    ] {
        let (said, output) = compile(name, source);
        assert!(output.status.success(), "{name}: {said}");
    }
    // The other way round the other attribute comes first, and does with it what it does.
    let above = "#[tokio::test]\n#[vmint::test]\nasync fn t(vm: vmint::AsyncVm) {}\n";
    let (said, output) = compile("above", above);
    assert!(
        !output.status.success() && said.contains("above.rs:"),
        "{said}"
    );
}
