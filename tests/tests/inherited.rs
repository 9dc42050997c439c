//! What the processes that vmint starts have of their caller: nothing that was not meant for them; and what they leave of
//! a guest's memory: no core.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use vmint_tests::wait::until_some;
use vmint_tests::{Home, call, patient};

/// A shell script with `vmint` as the program under test, in this home.
fn sh(home: &Home, script: &str) -> Command {
    let mut command = Command::new("bash");
    command
        .args(["-c", script])
        .envs(home.environment())
        .env("VMINT", call::binary())
        .current_dir(home.runtime())
        .stdin(Stdio::null());
    command
}

#[track_caller]
fn run(home: &Home, script: &str) -> String {
    let output = sh(home, script).output().unwrap();
    assert!(output.status.success(), "{script}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_lock_that_a_caller_holds_is_not_held_by_its_machine() {
    let home = Home::new();
    let script =
        r#"(flock -n 9 && "$VMINT" create x --memory 128M --start) 9>lk; flock -n lk true"#;
    run(&home, script);
    assert_eq!(home.state("x"), "running");
}

#[test]
fn a_pipe_that_a_caller_has_open_ends_with_the_caller() {
    let home = Home::new();
    let began = Instant::now();
    let script = r#""$VMINT" create x --memory 128M --start 3>&1 | timeout 60 cat"#;
    let said = run(&home, &format!("set -o pipefail; {script}"));
    assert!(said.contains("running"), "{said}");
    assert_eq!(home.state("x"), "running");
    assert!(
        began.elapsed() < patient(Duration::from_secs(60)),
        "the pipe ended only when nobody read from it any more"
    );
}

/// What a process has open; nothing when it has ended.
fn open_files(pid: u32) -> Vec<PathBuf> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd"));
    let entries = entries.into_iter().flatten().flatten();
    entries
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .collect()
}

/// The processes that fill a pool.
fn tenders(pool: &str) -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse().ok());
    pids.filter(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<_> = line.split(|b| *b == 0).collect();
        words.contains(&&b"tend"[..]) && words.contains(&pool.as_bytes())
    })
    .collect()
}

#[test]
fn runner_hypervisor_and_tender_have_nothing_of_their_callers_files() {
    let home = Home::new();
    let secret = home.runtime().join("secret");
    fs::write(&secret, "a caller's file").unwrap();
    // High, low, and where vmint's own descriptors are.
    let opened = "exec 3<secret 4<secret 5<secret 6<secret 7<secret 50<secret 900<secret";
    run(
        &home,
        &format!(r#"ulimit -n 1024; {opened}; "$VMINT" create x --memory 128M --start"#),
    );
    let processes = home.processes();
    assert_eq!(processes.len(), 2, "{processes:?}");
    for process in &processes {
        let open = open_files(process.pid);
        assert!(!open.is_empty(), "{process:?}");
        assert!(!open.contains(&secret), "{process:?} has {open:?}");
    }
    let pool = format!("tended-{}", std::process::id());
    let script = format!(
        r#"ulimit -n 1024; {opened}; "$VMINT" pool create {pool} --image tiny --memory 128M --min 1 --max 2
        exec "$VMINT" lease acquire {pool} --owner-pid {}"#,
        std::process::id()
    );
    let mut child = sh(&home, &script).stdout(Stdio::null()).spawn().unwrap();
    let find = || {
        tenders(&pool)
            .into_iter()
            .map(|pid| (pid, open_files(pid)))
            .find(|(_, open)| open.len() > 3)
    };
    let ((pid, open), _) = until_some(Duration::from_secs(60), "the pool is tended", find);
    assert!(!open.contains(&secret), "tender {pid} has {open:?}");
    assert!(child.wait().unwrap().success());
    home.ok(&format!("pool rm {pool} --force"));
}

/// The limit of a process's cores, soft and hard.
fn core_limit(pid: u32) -> (String, String) {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits
        .lines()
        .find_map(|l| l.strip_prefix("Max core file size"))
        .unwrap_or_else(|| panic!("{limits}"));
    let mut words = line.split_ascii_whitespace().map(str::to_owned);
    (words.next().unwrap(), words.next().unwrap())
}

#[test]
fn neither_runner_nor_hypervisor_leaves_a_core() {
    let home = Home::new();
    run(
        &home,
        r#"ulimit -c unlimited; "$VMINT" create x --memory 128M --start"#,
    );
    for process in home.processes() {
        // With 1, and not with 0, Linux gives no core to a program that `core_pattern` names either.
        assert_eq!(
            core_limit(process.pid),
            ("1".to_owned(), "1".to_owned()),
            "{process:?}"
        );
        if process.is_hypervisor() {
            let guest = process
                .argv
                .iter()
                .any(|a| a.contains("dump-guest-core=off"));
            assert!(guest, "{process:?}");
        }
    }
    let (_, hypervisor) = home.pids("x");
    let folder = fs::read_link(format!("/proc/{hypervisor}/cwd")).unwrap();
    let before = cores(&folder);
    let killed = Command::new("kill")
        .args(["-SEGV", &hypervisor.to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    home.event("x", "failed", Duration::from_secs(10));
    assert_eq!(cores(&folder), before);
}

fn cores(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut cores: Vec<_> = entries
        .map(|e| e.path())
        .filter(|p| {
            p.file_name()
                .is_some_and(|n| n.to_string_lossy().starts_with("core"))
        })
        .collect();
    cores.sort();
    cores
}

/// `vmint with` becomes the user's command, which has all that the user gave it.
#[test]
fn a_command_that_vmint_becomes_keeps_what_its_user_has_open() {
    let home = Home::new();
    home.ok("pool create p --image tiny --memory 128M --min 1 --max 1");
    let said = run(
        &home,
        r#"exec 7<<<"the user's own"; "$VMINT" with p -- cat /dev/fd/7"#,
    );
    assert_eq!(said, "the user's own\n");
    home.ok("pool rm p --force");
}
