//! What a guest finds in itself: streams that are its own, an init that listens, a login's environment, an address of its own.

use std::net::TcpListener;
use std::time::Duration;
use vmint_tests::call::binary;
use vmint_tests::netns;
use vmint_tests::wait::until_some;
use vmint_tests::{Home, Terminal, until};

const SOON: Duration = Duration::from_secs(20);
const NEIGHBOUR: &str = "10.77.0.2";

/// A call of `vmint` in a terminal.
fn in_terminal(home: &Home, call: &str) -> Terminal {
    let mut environment = home.environment();
    environment.push(("vmint".into(), binary().into()));
    Terminal::start(&format!("\"$vmint\" {call}"), environment, (80, 24))
}

#[test]
fn the_streams_of_a_command_are_its_user_s() {
    let home = Home::new();
    home.start("box");
    let script = "echo out > /dev/stdout; echo err > /dev/stderr; cat < /dev/stdin; echo by number > /proc/self/fd/1";
    for user in ["1000", "1000:1000", "0"] {
        let words = ["exec", "-i", "-u", user, "box", "--", "sh", "-c", script];
        let done = home.call(words).input("in\n").run().ok();
        let heard = (done.text(), done.error());
        assert_eq!(
            heard,
            ("out\nin\nby number\n".into(), "err\n".into()),
            "{user}"
        );
    }
    // Those of others are not: a command of one user cannot write into another's.
    let mut ones = home
        .call([
            "exec",
            "-u",
            "1000",
            "box",
            "--",
            "sh",
            "-c",
            "echo $$; exec sleep 1000",
        ])
        .start();
    ones.says("\n");
    let script = "for p in $(pidof sleep); do echo x > /proc/$p/fd/1 && echo written; done; true";
    let words = ["exec", "-u", "2000", "box", "--", "sh", "-c", script];
    assert_eq!(home.call(words).run().ok().text(), "");
    let script = "echo shown > /dev/stdout; echo too > /dev/tty";
    let mut terminal = in_terminal(&home, &format!("exec -it -u 1000 box -- sh -c '{script}'"));
    terminal.shows("shown", SOON);
    terminal.shows("too", SOON);
    home.ok("rm --force box");
    drop(ones.finish());
}

/// A request as sysvinit's and systemd's `telinit` write it: 384 bytes, of which these are the first.
fn telinit(runlevel: &str) -> String {
    let numbers = r"\151\031\011\003\001\000\000\000";
    format!("printf '{numbers}{runlevel}' | dd of=/run/initctl bs=384 conv=sync 2>/dev/null")
}

#[test]
fn the_agent_as_init_keeps_the_contract_of_pid_1() {
    let home = Home::new();
    let (off, reboot) = ("shut itself down", "asked for a reboot");
    let requests = [
        ("poweroff".to_owned(), off),
        ("halt".to_owned(), off),
        ("reboot".to_owned(), reboot),
        ("kill -PWR 1".to_owned(), off),
        ("kill -INT 1".to_owned(), reboot),
        ("kill -38 1".to_owned(), off),
        (telinit("0"), off),
        (telinit("6"), reboot),
    ];
    for (number, (request, told)) in requests.into_iter().enumerate() {
        let name = format!("box-{number}");
        home.start(&name);
        // Whoever asked hears that it worked.
        let script = format!("{request} && echo worked");
        let asked = home.call(["exec", &name, "--", "sh", "-c", &script]).run();
        assert_eq!(asked.ok().text(), "worked\n", "{request}");
        let event = home.event(&name, "stopped", SOON);
        assert_eq!(event["cause"], "guest_shutdown", "{request}: {event}");
        let detail = event["detail"].as_str().unwrap_or_default();
        assert!(detail.contains(told), "{request}: {event}");
    }
    home.start("box");
    // What is no request is none.
    home.sh(
        "box",
        "kill -HUP 1; kill -WINCH 1; echo garbage > /run/initctl",
    );
    home.sh("box", &telinit("2"));
    assert_eq!(home.sh("box", "cat /proc/1/comm; id -u"), "init\n0");
    assert_eq!(home.state("box"), "running");
}

#[test]
fn commands_and_shells_have_a_login_s_environment() {
    let home = Home::new();
    home.start("box");
    home.sh(
        "box",
        "mkdir -p /etc/default; echo LANG=C.UTF-8 > /etc/default/locale; \
         printf 'EDITOR=\"vi -e\"\\nLANG=de_DE.UTF-8\\nHOME=/elsewhere\\n' > /etc/environment",
    );
    let env = |words: &[&str]| {
        let all = [&["exec", "box"], words, &["--", "env"]].concat();
        home.call(all).run().ok().text()
    };
    let found = env(&[]);
    for line in ["LANG=de_DE.UTF-8\n", "EDITOR=vi -e\n"] {
        assert!(found.contains(line), "{found}");
    }
    assert!(!found.contains("/elsewhere"), "{found}");
    assert!(
        env(&["-e", "LANG=C"]).contains("LANG=C\n"),
        "what is asked for wins"
    );
    home.sh("box", "rm /etc/environment");
    assert!(env(&["-u", "1000"]).contains("LANG=C.UTF-8\n"));
    let mut shell = in_terminal(&home, "shell box");
    shell.types("echo \"<$LANG>\"\r");
    shell.shows("<C.UTF-8>", SOON);
}

#[test]
fn a_fork_s_console_begins_with_the_fork_and_says_so() {
    let home = Home::new();
    home.start("box");
    let quiet = home.ok("logs box");
    assert_eq!(quiet.text(), "");
    assert!(quiet.error().contains("begins with the fork"), "{quiet}");
    home.sh("box", "echo of the parent > /dev/ttyS0");
    until(SOON, "it is in the log", || {
        home.ok("logs box").text().contains("of the parent")
    });
    home.ok("fork box child");
    let quiet = home.ok("logs child");
    assert_eq!(quiet.text(), "");
    assert!(quiet.error().contains("begins with the fork"), "{quiet}");
    home.sh("child", "echo of the child > /dev/ttyS0");
    until(SOON, "it is in the log", || {
        home.ok("logs child").text().contains("of the child")
    });
    let heard = home.ok("logs child");
    assert!(
        !heard.text().contains("parent") && heard.error().is_empty(),
        "{heard}"
    );
}

/// The link-local addresses of a guest's interface, and the one that its hardware address makes.
fn link_local(home: &Home, name: &str) -> (Vec<String>, String) {
    let text = home.sh(
        name,
        "cat /sys/class/net/eth0/address; ip -6 -o addr show dev eth0 scope link | sed 's/.*inet6 //; s/ .*//'",
    );
    let mut lines = text.lines().map(str::to_owned);
    let mac = lines.next().expect("an address");
    let bytes: Vec<u8> = mac
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16).expect("a byte"))
        .collect();
    let words: Vec<u16> = [
        bytes[0] ^ 2,
        bytes[1],
        bytes[2],
        0xff,
        0xfe,
        bytes[3],
        bytes[4],
        bytes[5],
    ]
    .chunks(2)
    .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
    .collect();
    let own = std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, words[0], words[1], words[2], words[3]);
    (lines.collect(), format!("{own}/64"))
}

#[test]
fn each_fork_has_an_ipv6_address_of_its_own() {
    let home = Home::new();
    let mut all = Vec::new();
    home.ok("create one --memory 128M --net nat --start");
    home.ok("create two --memory 128M --net nat --start");
    until(SOON, "it has an address", || {
        !link_local(&home, "one").0.is_empty()
    });
    home.ok("fork one three");
    let (found, own) = link_local(&home, "three");
    assert_eq!(found, [own], "at once");
    for name in ["one", "two", "three"] {
        // The kernel makes the first one when it has noticed that the link is up.
        let ((found, own), _) = until_some(SOON, "it has an address", || {
            Some(link_local(&home, name)).filter(|(found, _)| !found.is_empty())
        });
        assert_eq!(found, std::slice::from_ref(&own), "{name}");
        all.push(own);
    }
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 3, "{all:?}");
}

#[test]
fn connections_from_before_a_restore_are_reset_and_those_within_the_guest_stay() {
    netns::private_host("9.9.9.9", &["10.77.0.1/24"], &["10.77.0.2/24"], || {
        let listener = TcpListener::bind((NEIGHBOUR, 8080)).unwrap();
        std::thread::spawn(move || {
            // Held, and never answered.
            let held: Vec<_> = listener.incoming().collect();
            drop(held);
        });
    });
    let home = Home::new();
    home.ok("create box --memory 128M --net nat --start");
    let connections = |name: &str| {
        // Remote address and state of each connection; 01 is an established one.
        let text = home.sh(
            name,
            "awk 'NR > 1 && $4 != \"0A\" {print $3, $4}' /proc/net/tcp | sort",
        );
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    home.sh(
        "box",
        &format!(
            "(nc {NEIGHBOUR} 8080 </dev/zero >/dev/null; echo $? > /tmp/ended) >/dev/null 2>&1 & \
             (sleep 1000 | nc -l -p 9) >/dev/null 2>&1 & \
             until cat /proc/net/tcp* | grep -q ':0009 0*:0000 0A'; do :; done; \
             (sleep 1000 | nc 127.0.0.1 9) >/dev/null 2>&1 &"
        ),
    );
    let remote = "02004D0A:1F90 01";
    let settled = || {
        let found = connections("box");
        let count = |end: &str| found.iter().filter(|line| line.ends_with(end)).count();
        count(remote) == 1 && count("0100007F:0009 01") == 1
    };
    until(SOON, "all are connected", settled);
    home.ok("snapshot create box s");
    for (what, name) in [("restore box s", "box"), ("fork box child", "child")] {
        if name == "child" {
            home.ok("snapshot rm s");
            home.sh(
                "box",
                &format!("nc {NEIGHBOUR} 8080 </dev/null >/dev/null 2>&1 & true"),
            );
            // One that the child would only make itself leads to somebody.
            until(SOON, "it is connected", || {
                let is_made =
                    |line: &String| line.starts_with("02004D0A") && !line.ends_with(" 02");
                connections("box").iter().any(is_made)
            });
        }
        home.ok(what);
        // A moment after the first command may run.
        until(SOON, "nothing leads to what is gone", || {
            !connections(name)
                .iter()
                .any(|line| line.starts_with("02004D0A"))
        });
        let found = connections(name);
        assert!(
            found.iter().any(|line| line == "0100007F:0009 01"),
            "{what}: {found:?}"
        );
        if name == "box" {
            // The program is told.
            until(SOON, "it has ended", || {
                home.sh("box", "cat /tmp/ended 2>/dev/null; true") == "1"
            });
        }
    }
}

/// What a fork does first is not taken for what it was forked with.
#[test]
fn a_connection_that_a_fork_makes_at_once_is_not_reset() {
    netns::private_host("9.9.9.9", &["10.77.0.1/24"], &["10.77.0.2/24"], || {
        let listener = TcpListener::bind((NEIGHBOUR, 8080)).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || {
                    // A server that takes longer to answer than the guest to clear up.
                    std::thread::sleep(Duration::from_millis(700));
                    let _ = std::io::Write::write_all(&mut &stream, b"answered\n");
                });
            }
        });
    });
    let home = Home::new();
    home.ok("create box --memory 128M --net nat --start");
    home.sh(
        "box",
        &format!("(sleep 1000 | nc {NEIGHBOUR} 8080) >/dev/null 2>&1 & true"),
    );
    for round in 0..4 {
        home.ok(&format!("fork box fork{round}"));
        let answer = home.sh(
            &format!("fork{round}"),
            &format!("sleep 2 | nc {NEIGHBOUR} 8080"),
        );
        assert_eq!(answer, "answered");
    }
}

#[test]
fn a_guest_pings_where_its_host_lets_it_and_doctor_says_where_not() {
    netns::private_host("9.9.9.9", &["10.77.0.1/24"], &["10.77.0.2/24"], || {});
    let home = Home::new();
    home.ok("create box --memory 128M --net nat --start");
    for (groups, status) in [("1 0", "warning"), ("0 2147483647", "ok")] {
        std::fs::write("/proc/sys/net/ipv4/ping_group_range", groups).unwrap();
        let ping = format!("ping -c 1 -W 5 {NEIGHBOUR} >/dev/null && echo answered; true");
        let answered = home.sh("box", &ping) == "answered";
        let checks = home.json("doctor");
        let mut checks = checks.as_array().unwrap().iter();
        let check = checks.find(|check| check["name"] == "ping").unwrap();
        assert_eq!(
            (answered, &check["status"]),
            (status == "ok", &status.into()),
            "{check}"
        );
    }
}

#[test]
fn a_guest_without_memory_is_told_as_such_and_not_as_one_that_rebooted() {
    let home = Home::new();
    home.start("box");
    let fill = "mount -o remount,size=100% /tmp; mount -o remount,size=100% /dev/shm; \
        for f in /tmp/a /dev/shm/b /c; do cat /dev/zero > $f; done";
    // What is killed for want of memory frees none of it; in the end there is nothing left to be killed.
    until(Duration::from_secs(120), "nothing fits any more", || {
        let filling = home.call(["exec", "box", "--", "sh", "-c", fill]).run();
        assert_ne!(filling.code, Some(0), "{filling}");
        home.state("box") == "failed"
    });
    let event = home.event("box", "failed", Duration::from_secs(60));
    let reason = event["detail"].as_str().unwrap_or_default().to_owned();
    assert!(reason.contains("out of memory"), "{event}");
    assert_eq!(event["cause"], "guest_panicked", "{event}");
}

/// Panics of all kinds: with one processor and two, told by the device and without it, while the console is flooded and while it is
/// silent. What is asked is the record: a test whose guest has panicked must never be taken for one that was lost.
#[test]
fn sixty_panics_are_all_told_as_panics() {
    const ROUNDS: usize = 15;
    let home = Home::new();
    let ways = [
        ("1", "true"),
        ("2", "true"),
        // Without the device, the console tells.
        ("1", "rmmod pvpanic_mmio"),
        // On a silent console, the device tells.
        (
            "1",
            "echo 0 > /proc/sys/kernel/printk; test -e /sys/bus/platform/drivers/pvpanic-mmio/QEMU0001:00",
        ),
    ];
    let home = &home;
    std::thread::scope(|scope| {
        for (n, (cpus, before)) in ways.into_iter().enumerate() {
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let name = format!("box{n}-{round}");
                    home.ok(&format!("create {name} --memory 128M --cpus {cpus} --start"));
                    home.sh(&name, before);
                    let panic = "(while :; do dmesg; done > /dev/console) & echo c > /proc/sysrq-trigger; sleep 99";
                    let ended = home.call(["exec", &name, "--", "sh", "-c", panic]).run();
                    assert_ne!(ended.code, Some(0), "{ended}");
                    let event = home.event(&name, "failed", Duration::from_secs(60));
                    assert_eq!(event["cause"], "guest_panicked", "{n}.{round}: {event}");
                    home.ok(&format!("rm {name}"));
                }
            });
        }
    });
}
