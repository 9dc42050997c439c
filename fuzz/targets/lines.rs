//! The output of a step, in pieces: no secret is shown, however a face of vmint shows a line, lines are bounded, and how it comes in pieces does not matter.
//!
//! The first byte says how long the pieces are.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;
use vmint_syntax::ansi;
use vmint_syntax::commands::{Commands, Echo, Unsecure};
use vmint_syntax::lines::{Debugging, Event, Interpreter, Job};
use vmint_syntax::log::MAX_LINE;
use vmint_syntax::mask::Masks;
use vmint_syntax::matcher::Matchers;

/// Of several forms: a word, one with what is escaped in commands and in JSON, one of several lines, one with a colour.
const SECRETS: [&str; 5] = [
    "hunter2",
    "col\u{1b}[1moured",
    "p%q:r,s",
    "a \"quoted\" one",
    "first-line\nsecond-line",
];

const MATCHER: &[u8] = br#"{"problemMatcher": [{"owner": "gcc", "pattern": [{"regexp": "^(.+):(\\d+):(\\d+): (error|warning): (.*)$", "file": 1, "line": 2, "column": 3, "severity": 4, "message": 5}]}]}"#;

/// Their tables take longer to build than most outputs to read.
static MASKS: LazyLock<Masks> = LazyLock::new(|| {
    let mut masks = Masks::new();
    for secret in SECRETS {
        masks.add(secret).expect("it is short");
    }
    masks
});

fn events(bytes: &[u8], length: usize) -> Vec<Event> {
    let mut masks = MASKS.clone();
    let mut matchers = Matchers::new();
    matchers.add(MATCHER).expect("a matcher");
    let mut interpreter = Interpreter::new(
        Commands::new(Echo::Off, Unsecure::Refused),
        Debugging::Shown,
    );
    let mut events = Vec::new();
    for piece in bytes.chunks(length) {
        let job = Job {
            masks: &mut masks,
            matchers: &mut matchers,
        };
        interpreter.push(piece, 0, job, |event| events.push(event));
    }
    let job = Job {
        masks: &mut masks,
        matchers: &mut matchers,
    };
    interpreter.finish(0, job, |event| events.push(event));
    events
}

/// Neither as it is, nor without control characters, nor as a report or a terminal shows it.
fn clean(text: &str, events: &[Event]) {
    let seen = |c: &char| {
        *c == '\n' || !(c.is_control() || matches!(c, '\u{2400}'..='\u{2426}' | '\u{fffd}'))
    };
    let bare: String = text.chars().filter(seen).collect();
    let lines: Vec<String> = text.split('\n').map(ansi::plain).collect();
    let plain: String = lines.join("\n").chars().filter(seen).collect();
    for secret in SECRETS.into_iter().chain(["coloured"]) {
        for face in [text, &bare, &plain] {
            assert!(
                !face.contains(secret),
                "{secret:?} in {face:?} of {events:?}"
            );
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((first, bytes)) = bytes.split_first() else {
        return;
    };
    let events = self::events(bytes, usize::from(*first) + 1);
    let mut shown = String::new();
    for event in &events {
        match event {
            Event::Line(line) => {
                assert!(
                    line.text.len() <= MAX_LINE && !line.text.contains('\n'),
                    "{line:?}"
                );
                shown.push_str(&line.text);
                shown.push('\n');
            }
            Event::Annotation(annotation) => {
                clean(&annotation.message, &events);
                clean(annotation.title.as_deref().unwrap_or_default(), &events);
                clean(annotation.file.as_deref().unwrap_or_default(), &events);
            }
            _ => {}
        }
    }
    clean(&shown, &events);
    assert_eq!(
        self::events(bytes, bytes.len().max(1)),
        events,
        "in one piece, and in pieces"
    );
});
