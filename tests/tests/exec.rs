//! Commands in machines: exit codes, streams, arguments, signals, terminals.

use rustix::process::Signal;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;
use vmint_tests::bytes::{hex, noise};
use vmint_tests::{Home, Terminal, patient, until};

const SOON: Duration = Duration::from_secs(10);

fn machine() -> Home {
    let home = Home::new();
    home.start("box");
    home
}

#[test]
fn a_commands_exit_code_is_passed_on() {
    let home = machine();
    for code in 0..=255 {
        home.call(["exec", "box", "--", "sh", "-c", &format!("exit {code}")])
            .run()
            .exits(code);
    }
    for code in [0, 1, 255] {
        home.call([
            "run",
            "--memory",
            "128M",
            "--",
            "sh",
            "-c",
            &format!("exit {code}"),
        ])
        .run()
        .exits(code);
    }
}

#[test]
fn a_command_killed_by_a_signal_gives_128_and_its_number() {
    let home = machine();
    for (name, number) in [
        ("TERM", 15),
        ("KILL", 9),
        ("INT", 2),
        ("ABRT", 6),
        ("SEGV", 11),
    ] {
        home.call(["exec", "box", "--", "sh", "-c", &format!("kill -{name} $$")])
            .run()
            .exits(128 + number);
    }
}

#[test]
fn what_cannot_be_executed_is_126_what_is_not_found_127_and_vmints_own_failures_125() {
    let home = machine();
    home.sh("box", "echo text > /tmp/text; mkdir -p /tmp/folder; printf '#!/no/such/shell\\n' > /tmp/script; chmod +x /tmp/script");
    home.vmint("exec box -- /tmp/text").exits(126);
    home.vmint("exec box -- /tmp/folder").exits(126);
    home.vmint("exec box -- no-such-program").exits(127);
    home.vmint("exec box -- /no/such/program").exits(127);
    let message = home
        .vmint("exec nobody --format json -- true")
        .fault(125, "not_found");
    assert!(message.contains("nobody"), "{message}");
    home.vmint("exec box --no-such-option -- true").exits(125);
    home.vmint("exec box -u no-such-user -- true").exits(125);
    let message = home
        .vmint("run --image no-such-image --format json -- true")
        .fault(125, "not_found");
    assert!(message.contains("no-such-image"), "{message}");
    let message = home
        .vmint("run --memory 1M --format json -- true")
        .fault(125, "usage");
    assert!(message.contains("memory"), "{message}");
}

#[test]
fn standard_output_and_standard_error_stay_apart() {
    let home = machine();
    let both = home
        .call([
            "exec",
            "box",
            "--",
            "sh",
            "-c",
            "echo out; echo err >&2; echo out2",
        ])
        .run()
        .ok();
    assert_eq!(
        (both.text().as_str(), both.error().as_str()),
        ("out\nout2\n", "err\n")
    );
    let none = home.vmint("exec box -- true").ok();
    assert_eq!((none.stdout.len(), none.stderr.len()), (0, 0), "{none}");
    let run = home
        .call([
            "run",
            "--memory",
            "128M",
            "--",
            "sh",
            "-c",
            "echo out; echo err >&2",
        ])
        .run()
        .ok();
    assert_eq!(
        (run.text().as_str(), run.error().as_str()),
        ("out\n", "err\n")
    );
}

#[test]
fn output_is_the_same_to_the_byte() {
    let home = machine();
    // All bytes, no line end at the end, and on both streams.
    let all = "for i in $(seq 0 255); do printf \"\\\\$(printf %o $i)\"; done";
    let expected: Vec<u8> = (0..=255).collect();
    let out = home.call(["exec", "box", "--", "sh", "-c", all]).run().ok();
    assert_eq!(out.stdout, expected);
    let err = home
        .call([
            "exec",
            "box",
            "--",
            "sh",
            "-c",
            &format!("{{ {all}; }} >&2"),
        ])
        .run()
        .ok();
    assert_eq!(err.stderr, expected);
    for text in ["no line end", "", "\n", "\r\n\0\r"] {
        let echoed = home
            .call(["exec", "-i", "box", "--", "cat"])
            .input(text)
            .run()
            .ok();
        assert_eq!(echoed.stdout, text.as_bytes());
    }
}

#[test]
fn a_hundred_megabytes_of_output_arrive_unchanged() {
    let home = machine();
    let sum = home.sh(
        "box",
        "dd if=/dev/urandom of=/tmp/mega bs=1M count=1 2>/dev/null; \
        for i in $(seq 100); do cat /tmp/mega; done | sha256sum",
    );
    let out = home
        .call([
            "exec",
            "box",
            "--",
            "sh",
            "-c",
            "for i in $(seq 100); do cat /tmp/mega; done",
        ])
        .run()
        .ok();
    println!("100 MB in {:?}", out.took);
    assert_eq!(out.stdout.len(), 100 << 20);
    assert_eq!(sum.split(' ').next(), Some(hex(&out.stdout).as_str()));
}

#[test]
fn fifty_megabytes_of_input_come_back_unchanged() {
    let home = machine();
    let sent = noise(50 << 20);
    let echoed = home
        .call(["exec", "-i", "box", "--", "cat"])
        .input(sent.clone())
        .run()
        .ok();
    println!("50 MB there and back in {:?}", echoed.took);
    assert!(
        echoed.stdout == sent,
        "{} bytes came back, not the same",
        echoed.stdout.len()
    );
}

#[test]
fn a_command_that_reads_slowly_or_not_at_all_holds_up_no_other() {
    let home = machine();
    let mut slow = home
        .call([
            "exec",
            "-i",
            "box",
            "--",
            "sh",
            "-c",
            "echo up; exec sleep 1000",
        ])
        .input(noise(20 << 20))
        .start();
    slow.says("up");
    assert_eq!(home.sh("box", "echo others go on"), "others go on");
    slow.signal(Signal::KILL);
    slow.finish();
    // Input that is not wanted is no error.
    home.call(["exec", "-i", "box", "--", "true"])
        .input(noise(10 << 20))
        .run()
        .ok();
    let head = home
        .call(["exec", "-i", "box", "--", "head", "-c", "5"])
        .input(noise(10 << 20))
        .run()
        .ok();
    assert_eq!(head.stdout, &noise(5)[..]);
}

#[test]
fn without_i_standard_input_is_empty() {
    let home = machine();
    let cat = home
        .call(["exec", "box", "--", "cat"])
        .input("not for the guest")
        .run()
        .ok();
    assert_eq!(cat.text(), "");
}

#[test]
fn environment_directory_and_user_are_as_asked() {
    let home = machine();
    home.sh("box", "mkdir -p '/tmp/a folder'; adduser -D -u 1234 somebody 2>/dev/null || echo 'somebody:x:1234:1234::/:/bin/sh' >> /etc/passwd; grep -q somebody /etc/group || echo 'somebody:x:1234:' >> /etc/group");
    let words = [
        "exec",
        "-e",
        "GREETING=hello  world",
        "-e",
        "EMPTY=",
        "-e",
        "EQ=a=b",
        "-w",
        "/tmp/a folder",
        "box",
        "--",
        "sh",
        "-c",
        "printf '%s|%s|%s|' \"$GREETING\" \"${EMPTY-unset}\" \"$EQ\"; pwd",
    ];
    assert_eq!(
        home.call(words).run().ok().text(),
        "hello  world||a=b|/tmp/a folder\n"
    );
    let user = home.vmint("exec -u somebody box -- sh -c").code;
    assert_ne!(user, Some(0), "sh -c without a command");
    let id = home
        .call([
            "exec",
            "-u",
            "somebody",
            "box",
            "--",
            "sh",
            "-c",
            "id -u; id -g",
        ])
        .run()
        .ok();
    assert_eq!(id.text(), "1234\n1234\n");
    let id = home
        .call([
            "exec",
            "-u",
            "77:88",
            "box",
            "--",
            "sh",
            "-c",
            "id -u; id -g",
        ])
        .run()
        .ok();
    assert_eq!(id.text(), "77\n88\n");
    assert_eq!(home.sh("box", "id -u"), "0");
    let from_host = home
        .call([
            "exec",
            "-e",
            "OF_THE_HOST",
            "box",
            "--",
            "sh",
            "-c",
            "echo $OF_THE_HOST",
        ])
        .env("OF_THE_HOST", "yes")
        .run()
        .ok();
    assert_eq!(from_host.text(), "yes\n");
    let not_there = home.vmint("exec -w /no/such/folder box --format json -- true");
    assert_eq!(not_there.code, Some(125), "{not_there}");
}

#[test]
fn arguments_arrive_as_they_are() {
    let home = machine();
    let odd: Vec<std::ffi::OsString> = [
        &b""[..],
        b" ",
        b"two words",
        b"'",
        b"\"",
        b"`id`",
        b"$HOME",
        b"*",
        b"new\nline",
        b"tab\t",
        b"back\\slash",
        b"-n",
        b"--",
        b"#",
        "gr\u{fc}\u{df}e, \u{4e16}\u{754c} \u{1f980}".as_bytes(),
        b"not UTF-8: \xff\xfe",
    ]
    .into_iter()
    .map(|bytes| std::ffi::OsString::from_vec(bytes.to_vec()))
    .collect();
    let mut words: Vec<std::ffi::OsString> = [
        "exec",
        "box",
        "--",
        "sh",
        "-c",
        "for a; do printf '%s\\0' \"$a\"; done",
        "sh",
    ]
    .iter()
    .map(Into::into)
    .collect();
    words.extend(odd.clone());
    let out = home.call(words).run().ok();
    let arrived: Vec<_> = out.stdout.split(|&b| b == 0).map(<[u8]>::to_vec).collect();
    let expected: Vec<_> = odd
        .into_iter()
        .map(OsStringExt::into_vec)
        .chain([Vec::new()])
        .collect();
    assert_eq!(arrived, expected);
    let mut value = b"V=".to_vec();
    value.extend(b"a b\n'\"\xff \xc3\xbc");
    let words = [
        "exec".into(),
        "-e".into(),
        std::ffi::OsString::from_vec(value.clone()),
        "box".into(),
        "--".into(),
        "sh".into(),
        "-c".into(),
        "printf %s \"$V\"".into(),
    ];
    assert_eq!(home.call(words).run().ok().stdout, &value[2..]);
}

#[test]
fn a_time_out_kills_the_whole_process_group_and_gives_124() {
    let home = machine();
    let script = "sleep 1234 & sh -c 'sleep 1235 & wait' & echo up; wait";
    let out = home
        .call(["exec", "--timeout", "2s", "box", "--", "sh", "-c", script])
        .run()
        .exits(124);
    assert_eq!(out.text(), "up\n");
    assert!(out.took < patient(SOON), "{out}");
    assert!(
        home.call([
            "exec",
            "box",
            "--",
            "sh",
            "-c",
            "ps -o args | grep 'sleep 123[45]'"
        ])
        .run()
        .exits(1)
        .text()
        .is_empty()
    );
    // One that ignores all that can be ignored.
    let script = "trap '' TERM INT HUP; while :; do sleep 1; done";
    home.call([
        "exec",
        "--timeout",
        "500ms",
        "box",
        "--",
        "sh",
        "-c",
        script,
    ])
    .run()
    .exits(124);
    home.call([
        "run",
        "--memory",
        "128M",
        "--timeout",
        "500ms",
        "--",
        "sleep",
        "1000",
    ])
    .run()
    .exits(124);
}

#[test]
fn signals_reach_the_command() {
    let home = machine();
    let script = "trap 'echo got it; exit 33' INT; echo up; while :; do sleep 0.1; done";
    let mut exec = home.call(["exec", "box", "--", "sh", "-c", script]).start();
    exec.says("up");
    exec.signal(Signal::INT);
    let out = exec.finish();
    assert_eq!(
        (out.code, out.text().as_str()),
        (Some(33), "up\ngot it\n"),
        "{out}"
    );
}

#[test]
fn commands_run_side_by_side() {
    let home = machine();
    // Each waits for the other's file: one after the other, they would never end.
    let script = |own: &str, other: &str| {
        format!("touch /tmp/{own}; until [ -e /tmp/{other} ]; do sleep 0.02; done; echo {own}")
    };
    let (a, b) = (script("a", "b"), script("b", "a"));
    let first = home.call(["exec", "box", "--", "sh", "-c", &a]).start();
    let second = home.call(["exec", "box", "--", "sh", "-c", &b]).run().ok();
    assert_eq!(
        (first.finish().ok().text().as_str(), second.text().as_str()),
        ("a\n", "b\n")
    );
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..16)
            .map(|n| {
                let home = &home;
                scope.spawn(move || {
                    home.call([
                        "exec",
                        "box",
                        "--",
                        "sh",
                        "-c",
                        &format!(
                            "head -c 300000 /dev/zero | tr '\\0' '{}'; exit {n}",
                            (b'a' + n) as char
                        ),
                    ])
                    .run()
                })
            })
            .collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    for (n, out) in outcomes.into_iter().enumerate() {
        let out = out.exits(n as i32);
        assert_eq!(out.stdout, vec![b'a' + n as u8; 300_000]);
    }
}

#[test]
fn a_terminal_is_passed_through_with_its_size() {
    let home = machine();
    let script = format!(
        "exec '{}' exec -it box -- sh",
        vmint_tests::call::binary().display()
    );
    let mut terminal = Terminal::start(&script, home.environment(), (97, 31));
    terminal.types("tty; stty size; echo d''one\r");
    let shown = terminal.shows("done", SOON);
    assert!(
        shown.contains("/dev/pts/") && shown.contains("31 97"),
        "{shown}"
    );
    terminal.resize(120, 40);
    let mut resized = false;
    // The new size takes its way through two terminals.
    for _ in 0..50 {
        terminal.types("stty size; echo d''one\r");
        if terminal.shows("done", SOON).contains("40 120") {
            resized = true;
            break;
        }
    }
    assert!(resized);
    // A key, not a signal to vmint: the guest's terminal makes the signal.
    terminal.types("sleep 1000; echo b''roken $?\r");
    until(SOON, "it sleeps", || {
        home.sh("box", "ps -o args | grep 'sleep 100[0]' | wc -l") == "1"
    });
    terminal.types("\u{3}");
    terminal.types("echo af''ter\r");
    terminal.shows("after", SOON);
    terminal.types("exit 5\r");
    until(SOON, "it has ended", || {
        !vmint_tests::processes::lives(terminal.pid())
    });
}

/// A machine that another process makes fresh is waited for, as one that is being started is.
#[test]
fn a_command_in_a_machine_that_is_being_reset_waits_for_it() {
    let home = Home::new();
    home.start("box");
    home.ok("snapshot create box s");
    for round in 0..30 {
        let other = if round % 2 == 0 {
            "reset box"
        } else {
            "restore box s"
        };
        let calls = [other, "exec box -- echo done", "exec box -- echo done"];
        let outcomes = home.at_once(calls);
        assert_eq!(outcomes[0].code, Some(0), "{}", outcomes[0]);
        for exec in &outcomes[1..] {
            // One that was under way already ends with the machine that it was in.
            let was_cut = exec.error().contains("was reset while the command ran");
            assert!(exec.text() == "done\n" || was_cut, "{exec}");
        }
    }
}

#[test]
fn who_names_a_generation_gets_that_one_and_waits_for_no_other() {
    let home = machine();
    home.ok("exec box@1 -- true");
    home.ok("reset box");
    home.vmint("exec box@1 --format json -- true")
        .fault(125, "stale_generation");
    home.ok("exec box@2 -- true");
}
