//! A guest's console: what is kept of it is bounded, whatever the guest says; and nothing of it is lost unsaid.

use rustix::process::Signal;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use vmint_tests::call::binary;
use vmint_tests::{Home, until};

/// What is kept of a console: 4 MiB, and the notes in front of its two parts.
const KEPT: u64 = (4 << 20) + 256;

fn kept(folder: &Path) -> u64 {
    let len = |name: &str| fs::metadata(folder.join(name)).map_or(0, |meta| meta.len());
    len("console.log") + len("console.log.old")
}

/// Has the guest write lines `line N` on its console, up to number `to`, 16 bytes each with the console's line end.
fn talk(home: &Home, machine: &str, from: u32, to: u32) {
    let script = format!(
        "seq -f 'line %09.0f' {from} {to} >/dev/ttyS0 2>/dev/null || \
         {{ i={from}; while [ $i -le {to} ]; do printf 'line %09d\\n' $i; i=$((i+1)); done >/dev/ttyS0; }}"
    );
    home.call(["exec", machine, "--", "sh", "-c", &script])
        .deadline(Duration::from_secs(240))
        .run()
        .ok();
}

/// The numbers of the lines in a text, in their order.
fn lines(text: &str) -> Vec<u32> {
    text.lines()
        .filter_map(|line| line.strip_prefix("line ")?.trim_end().parse().ok())
        .collect()
}

#[test]
fn a_console_is_kept_up_to_a_few_megabytes_and_the_rest_is_told() {
    let home = Home::new();
    home.start("box");
    let folder = home.folder("box");
    // Into a file: a follower that is not read from would fall behind.
    let followed = home.runtime().join("followed");
    let mut follower = Command::new(binary())
        .args(["logs", "box", "--follow"])
        .envs(home.environment())
        .stdin(Stdio::null())
        .stdout(File::create(&followed).unwrap())
        .spawn()
        .unwrap();
    // 2 MiB fill a part; what comes then is a third.
    let last = 290_000;
    talk(&home, "box", 1, last);
    until(Duration::from_secs(20), "the last line is kept", || {
        home.ok("logs box")
            .text()
            .contains(&format!("line {last:09}"))
    });
    assert!(kept(&folder) <= KEPT, "{} bytes are kept", kept(&folder));
    let text = home.ok("logs box").text();
    assert!(
        text.starts_with("[vmint: the first "),
        "{}",
        &text[..text.len().min(200)]
    );
    let numbers = lines(&text);
    assert_eq!(numbers.last(), Some(&last));
    assert!(numbers.len() > 100_000, "{} lines", numbers.len());
    let gaps = numbers.windows(2).filter(|w| w[0] + 1 != w[1]).count();
    assert_eq!(gaps, 0, "between the parts nothing is missing");
    home.ok("rm --force box");
    // Who followed has seen it all.
    assert!(follower.wait().unwrap().success());
    let followed = lines(&fs::read_to_string(followed).unwrap());
    assert_eq!(followed.len(), last as usize);
    assert!(followed.windows(2).all(|w| w[0] + 1 == w[1]));
}

/// Its runner stands still, and nobody takes what it says: the machine is none the worse for it.
#[test]
fn a_guest_whose_runner_stands_still_goes_on_when_the_runner_does() {
    let home = Home::new();
    home.start("box");
    let (runner, _) = home.pids("box");
    let pid = rustix::process::Pid::from_raw(runner as i32).unwrap();
    let words = [
        "exec",
        "box",
        "--",
        "sh",
        "-c",
        "echo begun; sleep 0.2; dd if=/dev/zero bs=1k count=200 2>/dev/null | tr '\\0' x >/dev/ttyS0; echo done",
    ];
    let mut call = home.call(words).start();
    call.says("begun");
    rustix::process::kill_process(pid, Signal::STOP).unwrap();
    // More than a pipe holds is on its way by then; the guest waits, QEMU does not end.
    std::thread::sleep(Duration::from_secs(2));
    rustix::process::kill_process(pid, Signal::CONT).unwrap();
    assert!(call.finish().ok().text().ends_with("done\n"));
    let said = home.ok("logs box").text();
    assert_eq!(said.matches('x').count(), 200 << 10);
}

#[test]
fn what_a_machine_of_a_pool_says_is_shown_as_the_machines_after_each_reset() {
    let home = Home::new();
    home.ok("pool create p --image tiny --memory 128M --min 1 --max 1");
    for round in ["first", "second"] {
        let lease = home
            .call([
                "lease".to_owned(),
                "acquire".to_owned(),
                "p".to_owned(),
                "--owner-pid".to_owned(),
                std::process::id().to_string(),
            ])
            .run()
            .ok()
            .json();
        let machine = lease["machine"].as_str().unwrap();
        home.sh(machine, &format!("echo the {round} lease >/dev/ttyS0"));
        until(Duration::from_secs(10), "it is in the log", || {
            let text = home.ok(&format!("logs {machine}")).text();
            text.contains(round) && !(round == "second" && text.contains("first"))
        });
        home.ok(&format!(
            "lease release {}",
            lease["lease"].as_str().unwrap()
        ));
    }
    home.ok("pool rm p --force");
}
