//! `workflow ls`: a line for each run.

use crate::output::{table, time};
use vmint::workflow::record::RunRecord;
use vmint::workflow::report::Verdict;
use vmint::workflow::report::text::{accelerators, between, duration};

/// The runs in a table, in the order given.
pub fn text(runs: &[RunRecord]) -> String {
    let rows = runs.iter().map(|run| {
        let verdict = Verdict::of_run(run);
        let took = between(Some(run.started_at_ms), run.ended_at_ms);
        let cell = |text: &str| text.replace('\n', " ");
        [
            run.id.to_string(),
            cell(&run.workflow),
            cell(&run.event),
            cell(&run.git_ref),
            format!("{} {}", verdict.sign(), verdict.words()),
            time(run.started_at_ms),
            took.map(duration).unwrap_or_default(),
            accelerators(run),
        ]
    });
    table(
        [
            "RUN",
            "WORKFLOW",
            "EVENT",
            "REF",
            "OUTCOME",
            "STARTED",
            "DURATION",
            "ACCELERATOR",
        ],
        rows,
    )
}

#[cfg(test)]
mod tests {
    use super::super::show::tests::run;
    use super::*;

    #[test]
    fn runs_are_listed_with_how_they_ended() {
        let mut running = run();
        (running.end, running.ended_at_ms) = (None, None);
        running.workflow = "ni\x1b[2Jghtly\nx".into();
        let shown = text(&[run(), running]);
        insta::assert_snapshot!(shown, @r"
        RUN        WORKFLOW          EVENT  REF              OUTCOME    STARTED                   DURATION  ACCELERATOR
        r0000cafe  CI                push   refs/heads/main  ✗ failed   1970-01-01T00:00:00.900Z  3.2 s     emulation
        r0000cafe  ni\x1b[2Jghtly x  push   refs/heads/main  ▸ running  1970-01-01T00:00:00.900Z  -         emulation
        ");
    }
}
