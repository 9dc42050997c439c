//! `vmint top`: on a terminal, which is as before when it ends, and as text.

use rustix::process::Signal;
use std::time::Duration;
use vmint_tests::wait::until_some;
use vmint_tests::{Home, Terminal, processes};

const SOON: Duration = Duration::from_secs(20);
/// Leaves the screen that programs draw on.
const LEAVES: &str = "\x1b[?1049l";

/// `vmint top`, and then what the terminal is like.
fn start(home: &Home) -> Terminal {
    let program = vmint_tests::call::binary();
    let script = format!(
        "'{}' top; echo \"code $?\"; stty -a; echo end",
        program.display()
    );
    let mut terminal = Terminal::start(&script, home.environment(), (140, 40));
    terminal.shows("\x1b[?1049h", SOON);
    terminal
}

/// It takes lines again, and shows what is typed.
fn is_sane(terminal: &mut Terminal, code: &str) {
    terminal.shows(LEAVES, SOON);
    let said = terminal.shows("end\r\n", SOON);
    assert!(said.contains(code), "{said:?}");
    let modes: Vec<_> = said.split_whitespace().collect();
    for mode in ["icanon", "echo", "isig"] {
        assert!(modes.contains(&mode), "no {mode:?} in {said:?}");
    }
}

#[test]
fn it_shows_what_happens_while_it_runs_and_ends_with_a_key() {
    let home = Home::new();
    let mut terminal = start(&home);
    terminal.shows("machines:", SOON);
    home.ok("pool create lively --image tiny --memory 128M --min 1 --max 1");
    terminal.shows("lively", SOON);
    terminal.shows("ready", SOON);
    // To another part and back, and about in it.
    terminal.types("\t\t\x1b[B\x1b[A\x1b[6~\x1b[F");
    terminal.resize(60, 15);
    terminal.types("q");
    is_sane(&mut terminal, "code 0");
    home.ok("pool rm lively");
}

#[test]
fn a_signal_ends_it_and_the_terminal_is_as_before() {
    let home = Home::new();
    for (signal, code) in [(Signal::TERM, "code 143"), (Signal::INT, "code 130")] {
        let mut terminal = start(&home);
        terminal.shows("machines:", SOON);
        let (pid, _) = until_some(SOON, "vmint top runs", || child_of(terminal.pid()));
        processes::signal(pid, signal);
        is_sane(&mut terminal, code);
    }
}

/// The process that `parent` has started.
fn child_of(parent: u32) -> Option<u32> {
    std::fs::read_dir("/proc")
        .ok()?
        .flatten()
        .find_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            let rest = &stat[stat.rfind(')')? + 1..];
            let its: u32 = rest.split_ascii_whitespace().nth(1)?.parse().ok()?;
            (its == parent).then_some(pid)
        })
}

#[test]
fn without_a_terminal_it_prints_one_frame() {
    let home = Home::new();
    home.ok("pool create shown --image tiny --memory 128M --min 1 --max 1");
    let lease = home.json("lease acquire shown --label looked-at");
    for args in ["top", "top --once"] {
        let text = home.ok(args).text();
        let machine = lease["machine"].as_str().unwrap();
        for part in [
            "shown",
            machine,
            "leased",
            "looked-at",
            "accelerator",
            "pressure",
        ] {
            assert!(text.contains(part), "{args}: no {part:?} in\n{text}");
        }
        assert!(!text.contains('\x1b'), "{text:?}");
    }
    let seen = home.json("top");
    assert_eq!(seen["pools"][0]["name"], "shown");
    assert_eq!(seen["machines"][0]["state"], "leased");
    assert_eq!(seen["machines"][0]["label"], "looked-at");
    assert_eq!(seen["leases"][0]["lease"], lease["lease"]);
    let memory = seen["machines"][0]["used"]["bytes"].as_u64().unwrap();
    assert!((1 << 20..1 << 30).contains(&memory), "{seen}");
    assert!(seen["events"].as_array().is_some_and(|e| !e.is_empty()));
    home.ok(&format!(
        "lease release {} --force",
        lease["lease"].as_str().unwrap()
    ));
    home.ok("pool rm shown");
}
