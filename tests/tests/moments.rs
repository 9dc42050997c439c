//! Bad moments: Ctrl-C and worse at any time, and commands that race. Afterwards nothing is left, and the next command
//! works.

use rustix::process::Signal;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use vmint_tests::fixture::half_made;
use vmint_tests::seed::Seed;
use vmint_tests::{Home, Started, patient, until};

const SOON: Duration = Duration::from_secs(5);

/// Lets a call run for a while, whatever it is doing then, and signals it.
fn interrupt(call: Started, after: Duration, signal: Signal) -> vmint_tests::Outcome {
    std::thread::sleep(after);
    call.signal(signal);
    call.finish()
}

/// All processes that have to do with a folder: by their arguments, or by where they work or have their root.
fn busy_in(folder: &Path) -> Vec<String> {
    let inside = |path: PathBuf| path.starts_with(folder);
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let process = entry.path();
        if !entry.file_name().as_bytes()[0].is_ascii_digit()
            || entry.file_name() == *std::process::id().to_string()
        {
            continue;
        }
        let line = fs::read(process.join("cmdline")).unwrap_or_default();
        let named = line
            .windows(folder.as_os_str().len())
            .any(|window| window == folder.as_os_str().as_bytes());
        let there = ["cwd", "root"]
            .into_iter()
            .any(|link| fs::read_link(process.join(link)).is_ok_and(inside));
        if named || there {
            found.push(format!(
                "{} {}",
                entry.file_name().display(),
                String::from_utf8_lossy(&line).replace('\0', " ")
            ));
        }
    }
    found
}

#[test]
fn a_run_that_is_interrupted_at_any_moment_leaves_nothing() {
    let home = Home::new();
    let mut codes = BTreeMap::new();
    for (n, (signal, code)) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)]
        .into_iter()
        .cycle()
        .take(24)
        .enumerate()
    {
        let run = home
            .call("run --memory 128M -- sleep 1000".split(' '))
            .start();
        let outcome = interrupt(run, Duration::from_millis(1 + 9 * n as u64), signal);
        // Before its first line a program dies of a signal; that is no different to a shell.
        let ended = outcome.code.or_else(|| outcome.signal.map(|n| 128 + n));
        assert_eq!(ended, Some(code), "after {n} steps: {outcome}");
        assert!(!outcome.error().contains("panicked"), "{outcome}");
        assert!(outcome.took < patient(Duration::from_secs(8)), "{outcome}");
        *codes.entry(outcome.code).or_insert(0) += 1;
        home.empties(SOON);
    }
    println!("{codes:?}");
    home.ok("run --memory 128M -- true");
}

#[test]
fn a_run_that_is_killed_at_any_moment_leaves_nothing() {
    let home = Home::new();
    for n in 0..12 {
        let run = home
            .call("run --memory 128M -- sleep 1000".split(' '))
            .start();
        interrupt(run, Duration::from_millis(5 + 17 * n), Signal::KILL);
        until(SOON, "its runner and QEMU have ended", || {
            home.processes().is_empty()
        });
        home.ok("ls");
        home.empties(SOON);
    }
    home.ok("run --memory 128M -- true");
}

/// Either there is a machine, which works, or there is none.
#[test]
fn a_creation_that_is_interrupted_at_any_moment_is_done_or_undone() {
    let home = Home::new();
    let mut done = 0;
    for n in 0..16 {
        let create = home
            .call("create box --memory 128M --start".split(' '))
            .start();
        let outcome = interrupt(create, Duration::from_millis(1 + 13 * n), Signal::INT);
        assert!(
            matches!(
                (outcome.code, outcome.signal),
                (Some(0 | 130), _) | (_, Some(2))
            ),
            "{outcome}"
        );
        if outcome.code == Some(0) {
            done += 1;
            assert_eq!(home.sh("box", "echo up"), "up");
            home.ok("rm --force box");
        } else {
            home.ok("ls");
        }
        home.empties(SOON);
    }
    println!("{done} of 16 were done");
    home.start("box");
}

#[test]
fn a_template_s_making_that_is_interrupted_or_killed_leaves_none() {
    let home = Home::with(Seed::Image);
    for (n, signal) in [Signal::INT, Signal::KILL]
        .into_iter()
        .cycle()
        .take(8)
        .enumerate()
    {
        let build = home
            .call("template build tiny --memory 128M".split(' '))
            .start();
        let outcome = interrupt(build, Duration::from_millis(30 + 250 * n as u64), signal);
        assert_ne!(outcome.code, Some(1), "{outcome}");
        if outcome.code != Some(0) {
            assert_eq!(
                home.json("template ls"),
                serde_json::json!([]),
                "it was not finished: {outcome}"
            );
        }
        until(SOON, "its QEMU has ended", || home.processes().is_empty());
        if outcome.code == Some(0) {
            home.ok("template rm tiny");
        }
    }
    home.ok("gc");
    assert_eq!(half_made(home.root()), [] as [PathBuf; 0]);
    home.ok("run --memory 128M -- true");
}

#[test]
fn an_image_s_build_that_is_interrupted_or_killed_leaves_none() {
    let home = Home::with(Seed::Image);
    for (seconds, signal) in [
        (1, Signal::INT),
        (4, Signal::KILL),
        (7, Signal::INT),
        (11, Signal::TERM),
    ] {
        let build = home
            .call("image build deb --from debian:12".split(' '))
            .start();
        let outcome = interrupt(build, Duration::from_secs(seconds), signal);
        assert_ne!(
            outcome.code,
            Some(0),
            "a build takes longer than {seconds} s"
        );
        let began = Instant::now();
        while let busy = busy_in(home.root())
            && !busy.is_empty()
        {
            assert!(
                began.elapsed() < patient(SOON),
                "left working by {outcome}: {busy:#?}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(
            home.json("image ls").as_array().map(Vec::len),
            Some(1),
            "tiny alone"
        );
        home.ok("image prune");
        assert_eq!(
            half_made(home.root()),
            [] as [PathBuf; 0],
            "after {seconds} s and {signal:?}"
        );
    }
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(home.root().to_str().unwrap()), "{mounts}");
    home.ok("run --memory 128M -- true");
}

#[test]
fn of_eight_commands_that_create_one_name_one_wins() {
    let home = Home::new();
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let create = || home.vmint("create same --memory 128M --start --format json");
        let creates: Vec<_> = (0..8).map(|_| scope.spawn(create)).collect();
        creates
            .into_iter()
            .map(|create| create.join().unwrap())
            .collect()
    });
    let (won, lost): (Vec<_>, Vec<_>) = outcomes
        .into_iter()
        .partition(|outcome| outcome.code == Some(0));
    assert_eq!(won.len(), 1, "{won:?} {lost:?}");
    for outcome in lost {
        outcome.fault(1, "already_exists");
    }
    assert_eq!(home.sh("same", "echo up"), "up");
    assert_eq!(
        (
            home.processes().len(),
            home.folders().len(),
            home.rows().len()
        ),
        (2, 1, 1)
    );
}

/// Commands that have nothing to do with each other, on two names, for some seconds.
#[test]
fn commands_that_race_end_in_a_state_that_all_can_agree_on() {
    const COMMANDS: [&str; 12] = [
        "create NAME --memory 128M --start --format json",
        "create NAME --memory 128M --format json",
        "start NAME --format json",
        "start NAME --format json",
        "stop NAME --force --format json",
        "stop NAME --timeout 1s --format json",
        "restart NAME --force --format json",
        "rm NAME --force --format json",
        "reset NAME --format json",
        "pause NAME --format json",
        "resume NAME --format json",
        "exec NAME --format json -- true",
    ];
    let home = Home::new();
    let (told, end) = (
        Mutex::new(BTreeMap::<String, u32>::new()),
        Instant::now() + Duration::from_secs(12),
    );
    std::thread::scope(|scope| {
        for thread in 0..4_usize {
            let (home, told) = (&home, &told);
            scope.spawn(move || {
                // Each thread's own order, the same in every run.
                let mut number = thread * 7 + 3;
                while Instant::now() < end {
                    number = (number * 1_103_515_245 + 12_345) % (1 << 31);
                    let command = COMMANDS[(number >> 12) % COMMANDS.len()];
                    let line = command.replace("NAME", ["red", "blue"][(number >> 9) % 2]);
                    let outcome = home
                        .call(line.split(' '))
                        .deadline(Duration::from_secs(60))
                        .run();
                    let verb = command.split(' ').next().unwrap();
                    let text = outcome.error() + &outcome.text();
                    assert!(!text.contains("panicked"), "{outcome}");
                    assert!(matches!(outcome.code, Some(0 | 1 | 3 | 125)), "{outcome}");
                    let kind = text
                        .split("\"kind\":")
                        .nth(1)
                        .and_then(|rest| rest.split('"').nth(1));
                    let key = format!(
                        "{verb}: {}",
                        if outcome.code == Some(0) {
                            "ok"
                        } else {
                            kind.unwrap_or("no kind")
                        }
                    );
                    if [
                        "internal",
                        "host",
                        "corrupt",
                        "hypervisor",
                        "timed_out",
                        "no kind",
                    ]
                    .contains(&kind.unwrap_or("no kind"))
                        && outcome.code != Some(0)
                    {
                        panic!("{outcome}");
                    }
                    *told.lock().unwrap().entry(key).or_default() += 1;
                }
            });
        }
    });
    println!("{:#?}", told.lock().unwrap());
    for machine in home.json("ls --all").as_array().unwrap() {
        let (name, state) = (
            machine["name"].as_str().unwrap(),
            machine["state"].as_str().unwrap(),
        );
        assert!(
            ["created", "running", "paused", "stopped"].contains(&state),
            "{machine}"
        );
        home.ok(&format!("stop --force {name}"));
        home.ok(&format!("start {name}"));
        assert_eq!(home.sh(name, "echo up"), "up");
        home.ok(&format!("rm --force {name}"));
    }
    home.empties(SOON);
}
