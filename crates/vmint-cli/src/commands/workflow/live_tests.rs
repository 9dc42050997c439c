use super::super::show::tests::run;
use super::*;

/// What is written when the run's steps happen one after the other, its first with these lines.
fn written(face: Face, run: &RunRecord, lines: &[(Kind, &'static str)]) -> String {
    let live = Live::new(face, Vec::new());
    let mut now = run.clone();
    now.end = None;
    live.happened(&now, Change::Started);
    for (job, of) in run.jobs.iter().enumerate() {
        live.happened(&now, Change::JobStarted { job });
        for step in 0..of.steps.len() {
            let ended = of.steps[step].clone();
            let begun = &mut now.jobs[job].steps[step];
            (begun.outcome, begun.conclusion) = (None, None);
            (begun.ended, begun.ended_at_ms) = (None, None);
            live.happened(&now, Change::StepStarted { job, step });
            for (kind, text) in lines.iter().filter(|_| (job, step) == (0, 0)) {
                let line = &Line::new(0, *kind, *text);
                live.happened(&now, Change::Logged { job, step, line });
            }
            now.jobs[job].steps[step] = ended;
            live.happened(&now, Change::StepEnded { job, step });
        }
        live.happened(&now, Change::JobEnded { job });
    }
    live.happened(run, Change::Ended);
    let state = live.state.into_inner().unwrap();
    String::from_utf8(state.out).unwrap()
}

const LINES: [(Kind, &str); 6] = [
    (Kind::Group, "Run make"),
    (Kind::Text, "in \x1b[32mgreen\x1b[0m"),
    (Kind::EndGroup, ""),
    (Kind::Text, "\x1b]0;title\x07plain\x1b[2J"),
    (Kind::Error, "boom"),
    (Kind::Debug, "d"),
];

#[test]
fn in_a_pipe_everything_is_plain_text() {
    insta::assert_snapshot!(written(Face::Plain, &run(), &LINES), @r"
    CI: Fix the clock (push, refs/heads/main, 2f1c9d0e8b7a), run r0000cafe
    build | ▸ 1/2 Set up job
    build |   ▾ Run make
    build |     in green
    build |   plain
    build |   Error: boom
    build |   Debug: d
    build | ✓ Set up job  100 ms
    build | ▸ 2/2 cargo test
    build | ✗ cargo test  2.3 s  failed: exit code 101
    lint | ▸ 1/1 cargo clippy
    lint | △ cargo clippy  500 ms  failed, allowed to: exit code 1; continue-on-error

    JOB, STEP         OUTCOME               TIME                NOTE
    build             ✗ failed              2.4 s on emulation  -
      1 Set up job    ✓ succeeded           100 ms              -
      2 cargo test    ✗ failed              2.3 s               exit code 101
    lint              ✓ succeeded           3.0 s on emulation  -
      1 cargo clippy  △ failed, allowed to  500 ms              exit code 1; continue-on-error
    ✗ CI: failed after 3.2 s on emulation: 1 of 2 jobs failed
    ");
}

#[test]
fn on_a_terminal_colours_are_kept_and_nothing_else_is_obeyed() {
    let mut run = run();
    run.jobs.truncate(1);
    let shown = written(Face::Colours, &run, &LINES);
    insta::assert_snapshot!(shown.replace('\x1b', "␛"), @r"
    ␛[2mCI: Fix the clock (push, refs/heads/main, 2f1c9d0e8b7a), run r0000cafe␛[0m
    ␛[1m▸ 1/2 Set up job␛[0m
      ▾ ␛[1mRun make␛[0m
        ␛[2min ␛[0m␛[32mgreen␛[0m
      plain
      ␛[31mError: boom␛[0m
      ␛[2mDebug: d␛[0m
    ␛[32m✓ Set up job  100 ms␛[0m
    ␛[1m▸ 2/2 cargo test␛[0m
    ␛[31m✗ cargo test  2.3 s  failed: exit code 101␛[0m

    JOB, STEP       OUTCOME      TIME                NOTE
    build           ✗ failed     2.4 s on emulation  -
      1 Set up job  ✓ succeeded  100 ms              -
      2 cargo test  ✗ failed     2.3 s               exit code 101
    ␛[31m✗ CI: failed after 3.2 s on emulation: 1 of 1 job failed␛[0m
    ");
}

#[test]
fn a_guest_commands_no_runner_of_github() {
    let mut run = run();
    run.jobs.truncate(1);
    run.jobs[0].steps[0].name = "::add-mask::x\n::warning::y".into();
    let shown = written(
        Face::Actions,
        &run,
        &[(Kind::Text, "::error::z"), (Kind::Text, "##[error]z")],
    );
    let word = shown
        .split("::stop-commands::")
        .nth(1)
        .unwrap()
        .lines()
        .next()
        .unwrap();
    let (before, rest) = shown
        .split_once(&format!("::stop-commands::{word}\n"))
        .unwrap();
    let (quoted, after) = rest
        .split_once(&format!("::{word}::\n::endgroup::\n"))
        .unwrap();
    assert_eq!(quoted, "  ::error::z\n  ##[error]z\n");
    assert!(
        before.ends_with("\n::group::1/2 ::add-mask::x ::warning::y\n"),
        "{before}"
    );
    assert!(
        after.starts_with("✓ :\u{200b}:add-mask:\u{200b}:x :\u{200b}:warning:\u{200b}:y  100 ms\n"),
        "{after}"
    );
    assert!(
        after.contains("\n::error file=src/a.rs,line=4,col=9::left%0Aright\n"),
        "{after}"
    );
    assert_ne!(
        written(Face::Actions, &run, &[]),
        written(Face::Actions, &run, &[])
    );
}

#[test]
fn a_step_that_was_skipped_is_one_line() {
    let mut run = run();
    run.jobs.truncate(1);
    let step = &mut run.jobs[0].steps[0];
    step.outcome = Some(vmint::workflow::record::Outcome::Skipped);
    (step.ended, step.started_at_ms, step.ended_at_ms) = (None, None, None);
    let live = Live::new(Face::Plain, Vec::new());
    for change in [
        Change::StepStarted { job: 0, step: 0 },
        Change::StepEnded { job: 0, step: 0 },
    ] {
        live.happened(&run, change);
    }
    let out = live.state.into_inner().unwrap().out;
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "» Set up job  skipped: its condition was false\n"
    );
}
