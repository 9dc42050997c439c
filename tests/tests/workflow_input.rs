//! Workflows that are wrong, and steps that come to harm or mean it: a clear error or correct work each.

use serde_json::Value;
use std::fmt::Write;
use std::io::BufRead;
use std::time::Duration;
use vmint_tests::fixture::SmallDisk;
use vmint_tests::processes::most_memory;
use vmint_tests::project::{TINY, steps};
use vmint_tests::seed::Seed;
use vmint_tests::{Home, Project, Record, Terminal, patient, until};

/// Files that are wrong, each with the place and words of what is said of it.
fn wrong() -> Vec<(&'static str, Vec<u8>, &'static str, &'static [&'static str])> {
    let job = |rest: &str| {
        format!("on: push\njobs:\n  a: {{runs-on: ubuntu-latest, {rest}}}\n").into_bytes()
    };
    let many: Vec<_> = (0..257).collect();
    let mut bomb = "on: push\na0: &a0 x\n".to_owned();
    for n in 1..12 {
        let inner = vec![format!("*a{}", n - 1); 10].join(",");
        writeln!(bomb, "a{n}: &a{n} [{inner}]").unwrap();
    }
    let mut large = steps("").into_bytes();
    while large.len() <= 5_100_000 {
        large.extend(b"      - run: echo one more\n");
    }
    let deep = format!(
        "steps: [{{if: \"{}1{}\", run: x}}]",
        "(".repeat(9000),
        ")".repeat(9000)
    );
    vec![
        ("yaml", b"on: push\njobs:\n  a:\n   runs-on: [x\n  steps: - run\n".to_vec(), "5:8", &["YAML"]),
        ("tab", b"on: push\njobs:\n\ta: 1\n".to_vec(), "3:2", &["tab"]),
        ("empty", Vec::new(), "1:1", &["nothing"]),
        ("merge", b"on: push\njobs:\n  a: &a {runs-on: x, steps: [{run: x}]}\n  b:\n    <<: *a\n".to_vec(), "5:5", &["merge keys"]),
        ("twice", job("steps: [{run: x, Run: y}]"), "3:48", &["already defined"]),
        ("unknown", job("stepps: [{run: x}]"), "3:31", &["stepps", "steps"]),
        ("circle", b"on: push\njobs:\n  a: {needs: b, runs-on: x, steps: [{run: x}]}\n  b: {needs: a, runs-on: x, steps: [{run: x}]}\n".to_vec(), "", &["circle", "`a` → `b`"]),
        ("nobody", job("needs: nobody, steps: [{run: x}]"), "3:", &["nobody"]),
        ("no-values", job("strategy: {matrix: {v: []}}, steps: [{run: x}]"), "3:", &["empty"]),
        ("too-many", job(&format!("strategy: {{matrix: {{v: {many:?}}}}}, steps: [{{run: x}}]")), "", &["257", "256"]),
        ("utf-8", [&b"on: push\njobs: # \xff\xfe\n"[..], b"  a: 1\n"].concat(), "2:9", &["0xFF", "UTF-8"]),
        ("bomb", bomb.into_bytes(), "", &["1,000,000"]),
        ("nested", format!("on: push\njobs: {}{}\n", "[".repeat(90_000), "]".repeat(90_000)).into_bytes(), "", &["100 deep"]),
        ("deep", job(&deep), "3:", &["deep"]),
        ("large", large, "1:1", &["5,000,000 bytes"]),
        ("expression", job("steps: [{run: \"${{ github.sha == }}\"}, {run: \"${{ nonsense.x }}\"}]"), "3:", &["nonsense"]),
    ]
}

#[test]
fn what_is_wrong_with_a_file_is_told_with_its_place_and_nothing_is_run() {
    let home = Home::with(Seed::Image);
    let project = Project::new(TINY);
    for (name, bytes, place, words) in wrong() {
        let file = format!(".github/workflows/{name}.yml");
        project.file(&file, bytes);
        let text = project
            .vmint(&home, &format!("workflow check {name}"))
            .run()
            .exits(1);
        let begin = format!("{file}:{place}");
        assert!(
            text.text().starts_with(&begin) || text.text().contains(&format!("\n{begin}")),
            "{begin}: {text}"
        );
        let all = project
            .vmint(&home, &format!("workflow check {name} --format json"))
            .run()
            .exits(1)
            .json();
        let errors: Vec<_> = all
            .as_array()
            .unwrap()
            .iter()
            .filter(|one| one["severity"] == "error")
            .collect();
        assert!(
            !errors.is_empty() && errors.iter().all(|one| one["file"] == *file),
            "{all}"
        );
        let run = project
            .vmint(&home, &format!("workflow run {name}"))
            .run()
            .exits(125);
        for word in words {
            assert!(
                text.text().contains(word) && run.error().contains(word),
                "{word}: {text}{run}"
            );
        }
        assert!(text.took < patient(Duration::from_secs(20)), "{text}");
    }
    // All that is there, at once; and a name that there is not.
    let every = project.vmint(&home, "workflow check").run().exits(1);
    assert!(
        every.text().contains("yaml.yml:5:8") && every.text().contains("too-many.yml:"),
        "{every}"
    );
    let none = project
        .vmint(&home, "workflow check no-such")
        .run()
        .exits(3);
    assert!(
        none.error().contains("too-many.yml"),
        "it says which there are: {none}"
    );
    assert_eq!((home.left(), home.rows()), (Vec::new(), Vec::new()));
    assert!(
        !home.root().join("runs").exists()
            || std::fs::read_dir(home.root().join("runs")).unwrap().count() == 0
    );
}

#[test]
fn steps_that_come_to_harm_fail_alone_or_not_at_all() {
    let home = Home::new();
    let project = Project::with(
        TINY,
        &steps(
            r#"
      - &first {run: echo anchored}
      - *first
      - id: outputs
        continue-on-error: true
        run: i=0; while [ $i -lt 11 ]; do printf 'o%s=' $i; head -c 100000 /dev/zero | tr '\0' x; echo; i=$((i+1)); done >>"$GITHUB_OUTPUT"
      - id: environment
        continue-on-error: true
        run: head -c 3000000 /dev/zero | tr '\0' x >>"$GITHUB_ENV"
      - id: summary
        run: head -c 1100000 /dev/zero | tr '\0' x >>"$GITHUB_STEP_SUMMARY"
      - id: long
        run: head -c 3000000 /dev/zero | tr '\0' y; echo; echo behind
      - id: bytes
        run: printf 'a\0b\377\376c\r\nover\rwritten\n\033[31mred\033[0m\033]0;title\007\033[2J\n'; printf 'no end'
      - id: closes
        run: exec >&- 2>&-; sleep 0.2; exit 0
      - id: background
        run: (sleep 100000; echo never) & echo left
      - id: forks
        run: |
          bomb() { n=$(($1-1)); [ $n -gt 0 ] || return 0; bomb $n & bomb $n & wait; }
          bomb 8
      - id: kills
        continue-on-error: true
        run: kill -9 $$
      - {id: still, run: 'echo "still ${{ steps.outputs.outcome }} ${{ steps.kills.outcome }} [${{ steps.outputs.outputs.o1 }}]"'}
"#,
        ),
    );
    let ran = project.run(&home, "ci").ok();
    let all = ran.record.job("one")["steps"].as_array().unwrap();
    let anchored = all
        .iter()
        .filter(|step| step["name"] == "Run echo anchored" && step["outcome"] == "success");
    assert_eq!(anchored.count(), 2, "an alias is a step of its own");
    for (step, outcome) in [
        ("outputs", "failure"),
        ("environment", "failure"),
        ("summary", "success"),
        ("kills", "failure"),
    ] {
        assert_eq!(ran.record.outcome("one", step), outcome, "{step}");
    }
    let reason = |step| {
        ran.log("one", step)
            .lines()
            .find(|line| line.starts_with("##[error]"))
            .unwrap_or_default()
            .to_owned()
    };
    for (step, words) in [
        ("outputs", "1048576"),
        ("environment", "GITHUB_ENV"),
        ("summary", "GITHUB_STEP_SUMMARY"),
        ("kills", "signal 9"),
    ] {
        assert!(reason(step).contains(words), "{step}: {}", reason(step));
    }
    assert_eq!(ran.record.step("one", "summary")["summary"], Value::Null);
    let long = ran.said("one", "long");
    assert_eq!(
        long.matches('y').count(),
        3_000_000,
        "no byte of a long line is lost"
    );
    assert!(long.ends_with("\nbehind\n"));
    let bytes = ran.said("one", "bytes");
    assert!(
        bytes.contains("over") && bytes.contains("written") && bytes.ends_with("no end\n"),
        "{bytes:?}"
    );
    assert!(
        ran.log("one", "background").contains("left"),
        "it does not wait for what is left running"
    );
    assert_eq!(
        ran.record.outcome("one", "forks"),
        "success",
        "255 processes at once"
    );
    assert!(
        ran.said("one", "still")
            .starts_with("still failure failure [")
    );
}

/// Colours may be; what moves the cursor, sets titles or clears may not.
#[test]
fn what_would_command_a_terminal_is_not_passed_on() {
    let home = Home::new();
    let project = Project::with(
        TINY,
        &steps(
            "      - name: \"bad\\e[2Jname\"\n        run: printf '\\033[31mred\\033[0m \\033]0;title\\007 \\033[2J\\033[10;10H \\033[?1049h \\010 \\233 31m behind\\n'; echo done-with-it\n",
        ),
    );
    let folder = project.root().display();
    let script = format!(
        "cd {folder} && {} workflow run ci; echo code $?",
        vmint_tests::call::binary().display()
    );
    let mut terminal = Terminal::start(&script, home.environment(), (120, 40));
    let shown = terminal.shows("code 0", Duration::from_secs(100));
    assert!(
        shown.contains("red") && shown.contains("behind") && shown.contains("done-with-it"),
        "{shown:?}"
    );
    for bad in [
        "\u{1b}]",
        "\u{1b}[2J",
        "\u{1b}[10;10H",
        "\u{1b}[?1049h",
        "\u{8}",
        "\u{7}",
    ] {
        assert!(
            !shown.contains(bad),
            "{bad:?} reaches the terminal: {shown:?}"
        );
    }
}

#[test]
fn a_full_disk_of_the_machine_fails_the_step_and_those_that_need_room() {
    let home = Home::new();
    let project = Project::with(
        TINY,
        &steps(
            r#"
      - {id: fills, continue-on-error: true, run: "mkdir -p /small && mount -t tmpfs -o size=64k none /home/runner/work/_temp && cat /dev/zero >/home/runner/work/_temp/all"}
      - {id: no-room, continue-on-error: true, run: echo never}
      - {id: checkout, uses: actions/checkout@v4, continue-on-error: true}
"#,
        ),
    );
    let ran = project.run(&home, "ci");
    assert_eq!(ran.record.outcome("one", "fills"), "failure");
    // The script has no room: that is what the steps have made of the machine, and not vmint's fault.
    assert_eq!(
        ran.record.outcome("one", "no-room"),
        "failure",
        "{}",
        ran.outcome
    );
    let log = ran.log("one", "no-room");
    assert!(log.contains("No space left"), "{log}");
    assert!(matches!(ran.outcome.code, Some(0 | 1)), "{}", ran.outcome);
}

/// No step has failed when the machine has.
#[test]
fn a_step_that_takes_its_machine_down_is_no_failed_step() {
    let home = Home::new();
    for how in [
        "echo o >/proc/sysrq-trigger",
        "echo c >/proc/sysrq-trigger",
        "poweroff -f",
    ] {
        let project = Project::with(
            TINY,
            &steps(&format!(
                "      - {{id: ends, run: \"echo before; {how}; sleep 1000\"}}\n      - {{id: never, if: always(), run: echo}}\n"
            )),
        );
        let ran = project.run(&home, "ci").ends("fault", 125);
        assert_eq!(
            ran.record.outcome("one", "ends"),
            "none",
            "{how}: {}",
            ran.outcome
        );
        assert_eq!(
            ran.record.step("one", "ends")["ended"]["kind"],
            "fault",
            "{how}"
        );
        assert_eq!(ran.record.outcome("one", "never"), "none", "{how}");
        assert_eq!(ran.record.job("one")["outcome"], Value::Null, "{how}");
        assert!(
            ran.said("one", "ends").starts_with("before\n"),
            "what it wrote is kept"
        );
    }
    home.empties(Duration::from_secs(10));
}

#[test]
fn two_runs_of_one_workflow_at_once_have_a_machine_each() {
    let home = Home::new();
    let project = Project::with(
        "image = \"tiny\"",
        &steps(
            "      - run: |\n          echo \"$GITHUB_RUN_ID\" >>/run/mark\n          while [ ! -e /run/go ] && [ $((i += 1)) -lt 30 ]; do sleep 0.1; done\n      - {id: see, run: cat /run/mark}\n",
        ),
    );
    let start = || {
        project
            .vmint(&home, "workflow run ci --format json")
            .start()
    };
    let both = [start(), start()];
    let ended = both.map(|one| Record(one.finish().ok().json()));
    let [one, two] = &ended;
    assert_ne!(one.id(), two.id());
    assert_ne!(one.machines()[0]["machine"], two.machines()[0]["machine"]);
    assert_ne!(one.machines()[0]["boot_id"], Value::Null);
    for run in &ended {
        let log = run.step("one", "see")["log"].as_str().unwrap();
        let log =
            std::fs::read_to_string(home.root().join("runs").join(run.id()).join(log)).unwrap();
        let number = u64::from_str_radix(&run.id()[1..], 16).unwrap();
        let marks: Vec<_> = log
            .lines()
            .filter_map(|line| line.split(' ').nth(1)?.parse::<u64>().ok())
            .collect();
        assert_eq!(marks, [number], "it sees its own mark alone");
    }
    let listed = home.json("workflow ls");
    assert_eq!(listed.as_array().map(Vec::len), Some(2), "{listed}");
}

/// A host without room is vmint's trouble and not the step's.
#[test]
fn a_host_without_room_for_the_log_ends_the_run_with_a_fault() {
    let home = Home::new();
    let project = Project::with(
        TINY,
        &steps(
            "      - {id: logs, run: \"yes 'a line of some length for the log of this step' | head -n 2000000\"}\n",
        ),
    );
    std::fs::create_dir_all(home.root()).unwrap();
    let Some(disk) = SmallDisk::mount(home.root().join("runs"), 8 << 20) else {
        return;
    };
    let ran = project.vmint(&home, "workflow run ci").run().exits(125);
    assert!(ran.error().contains("No space left"), "{ran}");
    home.empties(Duration::from_secs(10));
    drop(disk);
}

#[test]
fn a_log_of_100_mb_is_complete_and_is_not_held_in_memory() {
    let home = Home::new();
    let workflow = r#"
on: push
jobs:
  one:
    runs-on: ubuntu-latest
    steps:
      - {id: large, run: "yes 'LINE' | head -n 1000000; echo all of it"}
"#;
    let line = "a line of the log, so that a million are ".repeat(3)[..99].to_owned();
    let project = Project::with(TINY, &workflow.replace("LINE", &line));
    let started = project
        .vmint(&home, "workflow run ci --format json")
        .deadline(Duration::from_secs(500))
        .start();
    let (mut first, mut last) = (None, None);
    until(Duration::from_secs(500), "the run has ended", || {
        let now = most_memory(started.pid());
        // What it takes to get as far as the log is not the log's.
        let runs = home.root().join("runs");
        let run = std::fs::read_dir(runs)
            .ok()
            .and_then(|mut runs| runs.next()?.ok());
        let size = run.and_then(|run| Some(run.path().join("logs/1/2.log").metadata().ok()?.len()));
        if first.is_none() && size.is_some_and(|size| size > 1 << 20) {
            first = now;
        }
        last = now.or(last);
        started.has_ended()
    });
    let outcome = started.finish().ok();
    let record = vmint_tests::Record(outcome.json());
    let log = record.step("one", "large")["log"].as_str().unwrap();
    let log = std::fs::File::open(home.root().join("runs").join(record.id()).join(log)).unwrap();
    let (mut same, mut others) = (0, Vec::new());
    for read in std::io::BufReader::new(log).lines() {
        let read = read.unwrap();
        match read.split_once(' ') {
            Some((_, text)) if text == line => same += 1,
            _ => others.push(read),
        }
    }
    assert_eq!(same, 1_000_000, "{others:?}");
    assert!(
        others
            .last()
            .is_some_and(|last| last.ends_with(" all of it")),
        "{others:?}"
    );
    let (first, last) = (first.expect("it was seen"), last.expect("it was seen"));
    assert!(
        last < first + (32 << 20),
        "{first} bytes after a megabyte, {last} bytes at the end"
    );
}
