use super::*;
use crate::commands::{Echo, Unsecure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

struct Step {
    interpreter: Interpreter,
    masks: Masks,
    matchers: Matchers,
    events: Vec<Event>,
}

impl Step {
    fn new(secrets: &[&str]) -> Self {
        let mut masks = Masks::new();
        for secret in secrets {
            masks.add(secret).unwrap();
        }
        let commands = Commands::new(Echo::Off, Unsecure::Refused);
        Self {
            interpreter: Interpreter::new(commands, Debugging::Shown),
            masks,
            matchers: Matchers::new(),
            events: Vec::new(),
        }
    }

    fn push(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let Self {
            interpreter,
            masks,
            matchers,
            events,
        } = self;
        let job = Job { masks, matchers };
        interpreter.push(bytes.as_ref(), 0, job, |event| events.push(event));
        self
    }

    fn finish(&mut self) -> String {
        let Self {
            interpreter,
            masks,
            matchers,
            events,
        } = self;
        let job = Job { masks, matchers };
        interpreter.finish(0, job, |event| events.push(event));
        self.log()
    }

    fn log(&self) -> String {
        let lines = self.events.iter().filter_map(|event| match event {
            Event::Line(line) => {
                Some(line.encode()["1970-01-01T00:00:00.000Z ".len()..].to_owned())
            }
            _ => None,
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    fn others(&self) -> Vec<&Event> {
        let others = self.events.iter();
        others
            .filter(|event| !matches!(event, Event::Line(_)))
            .collect()
    }
}

#[test]
fn a_step_that_says_everything_is_logged_in_order() {
    let mut step = Step::new(&["hunter2"]);
    step.push("start\r\n::group::Build hunter2\nin it\n::endgroup::\n::debug::d\n");
    step.push("::error file=a.rs,line=1::broken hunter2%0Asecond\n::add-mask::tok");
    step.push(
        "en1\nsays token1\n::warning::w token1\n::notice::n\n::nothing::x\n::add-mask::\nend",
    );
    let log = step.finish();
    insta::assert_snapshot!(log, @"
    start
    ##[group]Build ***
    in it
    ##[endgroup]
    ##[debug]d
    ##[error]broken ***
    second
    says ***
    ##[warning]w ***
    ##[notice]n
    ::nothing::x
    ##[warning]add-mask needs a value; nothing is masked
    end
    ");
    let first = step.others()[0];
    assert!(
        matches!(first, Event::Annotation(a) if a.message == "broken ***\nsecond" && a.line == Some(1))
    );
    assert_eq!(step.others().len(), 4);
}

#[test]
fn outputs_are_not_masked_but_warned_of_once() {
    let mut step = Step::new(&["hunter2"]);
    step.push("::set-output name=a::hunter2\n::set-output name=b::2\n::save-state name=c::3\n");
    assert_eq!(
        step.finish(),
        "##[warning]the command `set-output` is deprecated; write to the file $GITHUB_OUTPUT instead\n\
         ##[warning]the command `save-state` is deprecated; write to the file $GITHUB_STATE instead"
    );
    let output = Event::Output {
        name: "a".into(),
        value: "hunter2".into(),
    };
    assert!(step.events.contains(&output));
}

#[test]
fn a_command_that_is_refused_fails_the_step() {
    let mut step = Step::new(&[]);
    step.push("::set-env name=PATH::/evil\nmore\n");
    assert!(
        step.finish()
            .starts_with("##[error]the command `set-env` cannot be executed: it is disabled")
    );
    assert!(step.events.contains(&Event::Failed));
}

#[test]
fn a_stopped_step_prints_what_it_likes() {
    let mut step = Step::new(&[]);
    step.push("::stop-commands::long-token\n::error::x\n::long-token::\n::error::y\n");
    insta::assert_snapshot!(step.finish(), @"
    ::stop-commands::***
    ::error::x
    ::***::
    ##[error]y
    ");
}

#[test]
fn problem_matchers_make_annotations_of_coloured_lines() {
    let mut step = Step::new(&["hunter2"]);
    let file = r#"{"problemMatcher": [{"owner": "o", "pattern": [{"regexp": "^(\\S+):(\\d+): (.*)$", "file": 1, "line": 2, "message": 3}]}]}"#;
    step.push("::add-matcher::m.json\n");
    assert_eq!(
        step.others(),
        [&Event::AddMatcher {
            path: "m.json".into()
        }]
    );
    step.matchers.add(file.as_bytes()).unwrap();
    step.push("\u{1b}[1;31ma.c:3:\u{1b}[0m no hunter2\nb.c:4: no\n::remove-matcher owner=o::\nb.c:5: no\n");
    assert_eq!(
        step.finish(),
        "##[error]a.c:3: no ***\n##[error]b.c:4: no\nb.c:5: no"
    );
    assert_eq!(step.others().len(), 3);
}

#[test]
fn a_secret_at_a_forced_break_of_a_line_is_hidden() {
    let secret = "a-secret-of-some-length";
    for before in [
        MAX_LINE - 40,
        MAX_LINE - 10,
        MAX_LINE - 1,
        MAX_LINE,
        2 * MAX_LINE - 7,
    ] {
        let mut step = Step::new(&[secret]);
        let line = format!("{}{secret}{}", "x".repeat(before), "y".repeat(MAX_LINE));
        for piece in line.as_bytes().chunks(1000) {
            step.push(piece);
        }
        let log = step.finish();
        let joined = log.replace('\n', "");
        assert_eq!(joined, line.replace(secret, "***"));
        assert!(log.lines().all(|line| line.len() <= MAX_LINE));
    }
}

#[test]
fn a_secret_over_several_lines_and_writes_is_hidden() {
    let key = "-----BEGIN KEY-----\nabcdefgh\nij\n-----END KEY-----";
    let mut step = Step::new(&[key]);
    step.push("-----BEGIN KEY");
    assert_eq!(step.log(), "");
    step.push("-----\r\nabcdefgh\r\ni")
        .push("j\r\n-----END KEY-----\nij\n");
    let wrapped = STANDARD.encode(key);
    for line in wrapped.as_bytes().chunks(20) {
        step.push(line).push("\n");
    }
    assert_eq!(step.finish(), "***\n***\n***\n***\nij\n***\n***\n***\n***");
}

#[test]
fn a_secret_that_is_made_by_showing_a_return_as_a_space_is_hidden() {
    let mut step = Step::new(&["two words"]);
    step.push("::error::my two%0Dwords%0D%0Athe end%0D\n::group::two%0Dwords\n");
    insta::assert_snapshot!(step.finish(), @r"
    ##[error]my ***
    the end
    ##[group]***
    ");
}

#[test]
fn a_mask_that_is_too_long_is_not_shown() {
    let mut step = Step::new(&[]);
    step.push(format!("  ::ADD-MASK::{}", "secret ".repeat(200_000)));
    step.push("secret\nnext\n");
    let log = step.finish();
    assert!(
        log.starts_with("##[error]the command `add-mask` cannot be executed: it is longer than")
    );
    assert!(log.ends_with("\nnext") && log.lines().count() == 2);
    assert!(step.events.contains(&Event::Failed));
}

#[test]
fn a_million_masks_are_refused_and_the_step_fails() {
    let mut step = Step::new(&[]);
    let lines: String = (0..3000).fold(String::new(), |lines, n| {
        lines + &format!("::add-mask::m{n}\n")
    });
    step.push(lines);
    assert!(step.finish().contains("more than 2000 secrets to mask"));
    assert!(step.events.contains(&Event::Failed));
}

#[test]
fn lines_are_shown_as_soon_as_they_hold_no_beginning_of_a_secret() {
    let mut step = Step::new(&["hunter2"]);
    step.push("hello hunter2\nwaiting for h\n");
    assert_eq!(step.log(), "hello ***\nwaiting for h");
}

#[test]
fn bytes_that_are_no_text_are_replaced_and_stay_within_the_limit() {
    let mut step = Step::new(&["hunter2"]);
    step.push(b"a\xffb\n")
        .push(vec![0xff; MAX_LINE])
        .push("\n")
        .push("\u{e9}".repeat(MAX_LINE));
    let log = step.finish();
    assert!(log.starts_with("a\u{fffd}b\n"));
    assert!(log.lines().all(|line| line.len() <= MAX_LINE));
    assert_eq!(log.matches('\u{e9}').count(), MAX_LINE);
}

#[test]
fn a_line_without_end_takes_no_memory() {
    let mut step = Step::new(&["hunter2", "xxxxx"]);
    let megabyte = vec![b'x'; 1 << 20];
    for _ in 0..20 {
        step.push(&megabyte);
        step.events.clear();
    }
    let rest = &step.interpreter.rest;
    assert!(rest.text.capacity() + rest.masked.capacity() < 1 << 20);
    step.finish();
}

/// `cargo test --release -p vmint-syntax -- --ignored --nocapture speed`
#[test]
#[ignore = "a measurement, not a test"]
fn speed() {
    let mut line = String::new();
    for n in 0..2000 {
        line.push_str(&format!(
            "   Compiling crate-{n} v1.2.{n} (/home/runner/work/some/path/{n})\n"
        ));
    }
    for secrets in [0, 1, 10, 100] {
        let secrets: Vec<String> = (0..secrets)
            .map(|n| {
                format!(
                    "ghp_{n:04}{}",
                    STANDARD.encode(format!("{n}-token-of-a-service"))
                )
            })
            .collect();
        let mut step = Step::new(&secrets.iter().map(String::as_str).collect::<Vec<_>>());
        let (started, mut bytes, mut shown) = (std::time::Instant::now(), 0, 0);
        while bytes < 100 << 20 {
            for piece in line.as_bytes().chunks(32 << 10) {
                let job = Job {
                    masks: &mut step.masks,
                    matchers: &mut step.matchers,
                };
                step.interpreter.push(piece, 0, job, |event| {
                    if let Event::Line(line) = std::hint::black_box(event) {
                        shown += line.text.len();
                    }
                });
                bytes += piece.len();
            }
        }
        let seconds = started.elapsed().as_secs_f64();
        let speed = bytes as f64 / 1e6 / seconds;
        eprintln!(
            "{} secrets: {speed:.0} MB/s, {shown} bytes shown",
            secrets.len()
        );
    }
}

proptest! {
    #[test]
    fn the_log_is_the_same_however_the_output_is_split(
        lines in prop::collection::vec("(::group::[ab]{0,3}|::error::abab|[ab ]{0,9}|::add-mask::[ab]{2,3}|\u{e9}{0,3})(\n|\r\n|\r|)", 0..12),
        size in 1usize..9,
    ) {
        let text = lines.concat();
        let whole = Step::new(&["abba\naab"]).push(&text).finish();
        let mut split = Step::new(&["abba\naab"]);
        for piece in text.as_bytes().chunks(size) {
            split.push(piece);
        }
        prop_assert_eq!(split.finish(), whole);
    }
}
