//! Text of a guest is shown, and commands nothing: on a real terminal, where a title or a colour of the guest's would be
//! obeyed.

use std::time::Duration;
use vmint_tests::Home;
use vmint_tests::call::binary;
use vmint_tests::terminal::Terminal;

const LIMIT: Duration = Duration::from_secs(120);

/// A title, a colour, a C1 sequence, and a text that is turned around.
const HOSTILE: &str = "x\x1b]0;title\x07\x1b[31my\u{9b}32mz\u{202e}end";

/// Runs a script in a terminal, with `$vmint` and `$evil`, and returns what it shows.
#[track_caller]
fn shown(home: &Home, script: &str) -> String {
    let mut environment = home.environment();
    environment.push(("vmint".into(), binary().into()));
    environment.push(("evil".into(), HOSTILE.into()));
    let script = format!("{script}; printf 'that-%s\\n' is-all");
    let mut terminal = Terminal::start(&script, environment, (200, 50));
    terminal.shows("that-is-all", LIMIT)
}

/// No sequence and no control character but line ends; vmint's own progress dims its text and moves the cursor.
#[track_caller]
fn commands_nothing(shown: &str) {
    let odd = |c: char| (c.is_control() && !matches!(c, '\r' | '\n')) || c == '\u{202e}';
    assert!(!shown.contains(odd), "{shown:?}");
}

#[test]
fn a_console_commands_no_terminal_and_raw_gives_its_bytes() {
    let home = Home::new();
    home.start("m");
    home.sh(
        "m",
        r"printf 'begin x\033]0;title\007\033[31my\302\233 32mz end\nlast' >/dev/console",
    );
    // What the guest has written arrives when it arrives.
    let bytes = vmint_tests::wait::until_some(LIMIT, "the console says its last word", || {
        let bytes = home.ok("logs m").stdout;
        bytes.ends_with(b"last").then_some(bytes)
    })
    .0;
    let raw = b"begin x\x1b]0;title\x07\x1b[31my\xc2\x9b 32mz end";
    let holds = |bytes: &[u8]| bytes.windows(raw.len()).any(|window| window == raw);
    assert!(holds(&bytes), "a pipe has the bytes");
    let shown = self::shown(&home, "\"$vmint\" logs m");
    commands_nothing(&shown);
    assert!(
        shown.contains("begin xyz end") && shown.contains("last"),
        "{shown:?}"
    );
    let shown = self::shown(&home, "\"$vmint\" logs --raw m");
    assert!(shown.contains("\x1b]0;title\x07\x1b[31m"), "{shown:?}");
}

#[test]
fn what_messages_quote_of_a_guest_commands_no_terminal() {
    let home = Home::new();
    home.start("m");
    for call in [
        "exec m -- \"/bin/$evil\"",
        "exec m -w \"/$evil\" -- true",
        "exec m -u \"$evil\" -- true",
        "cp \"m:/$evil\" .",
        "cp \"/no/such/$evil\" m:/tmp/",
        "info \"$evil\"",
        "lease acquire \"$evil\"",
        "workflow check \"/no/such/$evil.yml\"",
        "exec m --format json -- \"/bin/$evil\"",
    ] {
        let shown = self::shown(&home, &format!("\"$vmint\" -q {call}"));
        commands_nothing(&shown);
        assert!(shown.contains("vmint: "), "{call}: {shown:?}");
    }
    // The output of a command is the command's own.
    let shown = self::shown(&home, "\"$vmint\" exec m -- printf '%s' \"$evil\"");
    assert!(shown.contains("\x1b[31m"), "{shown:?}");
}
