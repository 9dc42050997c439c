//! Runs of many shapes, for tests.

use crate::log::{Kind, Line};
use crate::mask::{Masked, Masks};
use crate::record::{
    Annotation, JobRecord, Level, Limit, MachineUse, MaskedFault, MaskedJson, Outcome, RunEnd,
    RunRecord, StepEnd, StepKind, StepRecord, StepSnapshot,
};
use std::path::Path;
use vmint_model::{Accelerator, ErrorKind, Fault, Generation, ProcessRef};

/// 2026-11-20T15:35:12Z.
pub(crate) const START: i64 = 1_795_188_912_000;

/// A value from the text that stands for it in JSON.
fn parsed<T: serde::de::DeserializeOwned>(text: &str) -> T {
    serde_json::from_value(text.into()).unwrap()
}

/// A run without jobs, which began at [`START`].
pub(crate) fn run(end: Option<RunEnd>) -> RunRecord {
    RunRecord {
        id: parsed("r0000cafe"),
        workflow: "CI".into(),
        title: Some("Tell the time of a step".into()),
        file: "/home/me/clock/.github/workflows/ci.yml".into(),
        repository: "/home/me/clock".into(),
        event: "push".into(),
        git_ref: "refs/heads/main".into(),
        sha: "2f1c9d0e8b7a65544332211000ffeeddccbbaa99".into(),
        resumed: None,
        owner: ProcessRef {
            pid: 4711,
            start_time: 1,
            boot_id: "e6a1e4a2-0000-4000-8000-000000000001".into(),
            namespace: None,
        },
        started_at_ms: START,
        ended_at_ms: end.is_some().then_some(START + 100),
        end,
        permissions: None,
        concurrency: None,
        machines: Vec::new(),
        jobs: Vec::new(),
        notes: Vec::new(),
    }
}

/// A machine, lent from these moments after [`START`] on.
pub(crate) fn machine(from: i64, to: i64, accelerator: Accelerator) -> MachineUse {
    MachineUse {
        machine: parsed("m0123456789ab"),
        generation: Generation(3),
        lease: parsed("l0123456789abcdef"),
        pool: parsed("ubuntu"),
        image: "ubuntu-24.04".into(),
        accelerator: Some(accelerator),
        boot_id: Some("7d3b1f9a-51c2-4e0b-9a61-0f6f5a3c2e11".into()),
        acquire_ms: 41.7,
        acquired_at_ms: START + from,
        released_at_ms: Some(START + to),
        executions: 9,
    }
}

/// Text of a run that has no secrets.
pub(crate) fn shown(text: &str) -> Masked {
    Masks::new().mask(text)
}

/// A job without steps.
pub(crate) fn job(key: &str, outcome: Option<Outcome>) -> JobRecord {
    JobRecord {
        key: shown(key),
        id: shown(key.split(' ').next().unwrap_or(key)),
        name: shown(key),
        matrix: None,
        needs: Vec::new(),
        runs_on: vec!["ubuntu-latest".into()],
        outcome,
        continue_on_error: false,
        reason: None,
        fault: None,
        machine: None,
        started_at_ms: None,
        ended_at_ms: None,
        waits: Vec::new(),
        outputs: Vec::new(),
        steps: Vec::new(),
        left_out: None,
        failed: None,
        permissions: None,
        environment: None,
    }
}

/// A job with these steps, which gives them their numbers and takes its times from theirs.
pub(crate) fn with_steps(mut job: JobRecord, steps: Vec<StepRecord>) -> JobRecord {
    job.steps = steps;
    for (number, step) in (1..).zip(&mut job.steps) {
        step.number = number;
    }
    job.machine = Some(0);
    job.started_at_ms = job.steps.iter().filter_map(|s| s.started_at_ms).min();
    job.ended_at_ms = job.steps.iter().filter_map(|s| s.ended_at_ms).max();
    job
}

/// A step that ran between these moments after [`START`].
pub(crate) fn step(name: &str, from: i64, to: i64, code: u8) -> StepRecord {
    let outcome = match code {
        0 => Outcome::Success,
        _ => Outcome::Failure,
    };
    StepRecord {
        reason: None,
        number: 0,
        kind: StepKind::Main,
        id: None,
        name: shown(name),
        line: Some(12),
        outcome: Some(outcome),
        conclusion: Some(outcome),
        ended: Some(StepEnd::Exited { code }),
        started_at_ms: Some(START + from),
        ended_at_ms: Some(START + to),
        log: None,
        log_bytes: 0,
        annotations: Vec::new(),
        annotations_dropped: 0,
        summary: None,
        replaced: None,
        snapshot: None,
    }
}

/// vmint's own first or last step.
pub(crate) fn own(kind: StepKind, from: i64, to: i64) -> StepRecord {
    let name = match kind {
        StepKind::CleanUp => "Clean up",
        _ => "Set up job",
    };
    StepRecord {
        kind,
        line: None,
        ended: None,
        ..step(name, from, to, 0)
    }
}

/// A step that was not run.
pub(crate) fn unrun(name: &str, outcome: Option<Outcome>) -> StepRecord {
    StepRecord {
        outcome,
        conclusion: outcome,
        ended: None,
        started_at_ms: None,
        ended_at_ms: None,
        ..step(name, 0, 0, 0)
    }
}

pub(crate) fn snapshot() -> StepSnapshot {
    StepSnapshot {
        name: parsed("r0000cafe-build-3"),
        pause_ms: 12.3,
        took_ms: 38.0,
        size: 9_400_000,
    }
}

pub(crate) fn annotation(level: Level, message: &str) -> Annotation {
    Annotation {
        level,
        message: shown(message),
        title: None,
        file: Some("src/clock.rs".into()),
        line: Some(42),
        end_line: None,
        column: Some(9),
        end_column: None,
    }
}

/// Two jobs and one that was skipped: a failure, a failure that is allowed, a step that was skipped.
pub(crate) fn build_and_test() -> RunRecord {
    let mut tests = step("cargo test --workspace", 2_400, 12_900, 101);
    tests.snapshot = Some(snapshot());
    tests.annotations = vec![
        annotation(Level::Error, "assertion `left == right` failed"),
        annotation(Level::Warning, "unused variable: `late`"),
    ];
    let mut lint = step("cargo clippy", 500, 2_400, 1);
    lint.conclusion = Some(Outcome::Success);
    let build = with_steps(
        job("build", Some(Outcome::Failure)),
        vec![
            own(StepKind::SetUp, 100, 200),
            lint,
            tests,
            unrun("Upload what was built", Some(Outcome::Skipped)),
            own(StepKind::CleanUp, 12_900, 13_050),
        ],
    );
    let lint = with_steps(
        job("lint", Some(Outcome::Success)),
        vec![
            own(StepKind::SetUp, 13_100, 13_200),
            step("cargo fmt --check", 13_200, 14_750, 0),
            own(StepKind::CleanUp, 14_750, 14_800),
        ],
    );
    let mut publish = job("publish", Some(Outcome::Skipped));
    publish.needs = vec!["build".into()];
    publish.reason = Some("a job that it needs has failed: build".into());
    let mut run = run(Some(RunEnd::Failure));
    run.ended_at_ms = Some(START + 15_000);
    run.machines = vec![machine(50, 14_950, Accelerator::Kvm)];
    run.jobs = vec![build, lint, publish];
    run.notes = vec!["permissions are recorded and have no effect here".into()];
    run
}

/// A machine that dies in the middle, under emulation.
pub(crate) fn faulty() -> RunRecord {
    let fault = Fault::new(
        ErrorKind::MachineLost,
        "machine m0123456789ab is gone: its QEMU was killed by signal 9",
    )
    .hint("free memory on the host, or lower `memory` of the image, then run again");
    let fault = MaskedFault::new(&fault, &Masks::new());
    let mut died = step("make -j8", 90_000, 260_000, 0);
    (died.outcome, died.conclusion) = (None, None);
    died.ended = Some(StepEnd::Fault {
        fault: fault.clone(),
    });
    let mut build = with_steps(
        job("build", None),
        vec![
            own(StepKind::SetUp, 400, 2_000),
            step("Configure", 2_000, 90_000, 0),
            died,
            unrun("make check", None),
            unrun("Clean up", None),
        ],
    );
    build.fault = Some(fault.clone());
    let mut run = run(Some(RunEnd::Fault { fault }));
    run.title = None;
    run.ended_at_ms = Some(START + 261_000);
    run.machines = vec![machine(300, 260_500, Accelerator::Tcg)];
    run.jobs = vec![build, job("deploy", None)];
    run
}

/// A cancelled run, with a step over its limit in another job.
pub(crate) fn cancelled() -> RunRecord {
    let mut slow = step("Wait for the service", 1_000, 61_000, 0);
    (slow.outcome, slow.conclusion) = (Some(Outcome::Failure), Some(Outcome::Failure));
    slow.ended = Some(StepEnd::TimedOut {
        whose: Limit::Step,
        limit_ms: 60_000,
    });
    let mut stopped = step("Soak", 61_000, 75_000, 0);
    stopped.outcome = Some(Outcome::Cancelled);
    stopped.conclusion = stopped.outcome;
    stopped.ended = Some(StepEnd::Cancelled);
    let mut run = run(Some(RunEnd::Cancelled {
        by: "Ctrl-C".into(),
    }));
    run.ended_at_ms = Some(START + 75_400);
    run.machines = vec![machine(50, 75_300, Accelerator::Kvm)];
    run.jobs = vec![
        with_steps(job("service", Some(Outcome::Failure)), vec![slow]),
        with_steps(job("soak", Some(Outcome::Cancelled)), vec![stopped]),
    ];
    run
}

/// Many jobs of a matrix, with many steps each.
pub(crate) fn matrix(jobs: i64, steps: i64) -> RunRecord {
    let mut run = run(Some(RunEnd::Success));
    let mut end = 0;
    run.machines = vec![machine(50, 0, Accelerator::Kvm)];
    run.jobs = (0..jobs)
        .map(|j| {
            let mut at = 200 + j * 700;
            let steps = (0..steps).map(|s| {
                let from = at;
                at += 40 + (s * 7919 + j * 104_729) % 997 * (1 + s % 7);
                step(&format!("Part {s} of {steps}"), from, at, 0)
            });
            let steps = steps.collect();
            end = end.max(at);
            let key = format!("test (3.{}, ubuntu-24.04, release, openssl-3)", 8 + j);
            with_steps(job(&key, Some(Outcome::Success)), steps)
        })
        .collect();
    run.ended_at_ms = Some(START + end + 200);
    run
}

/// A run in which everything that a guest can name is hostile.
pub(crate) fn hostile() -> RunRecord {
    const EVIL: &str = "</title></svg><script>alert('x')</script>\"'&\0\x1b[2J\u{202e}\u{ffff}";
    let mut bad = step(&EVIL.repeat(20), 0, 50, 1);
    bad.id = Some(EVIL.into());
    bad.snapshot = Some(snapshot());
    bad.ended = Some(StepEnd::Invalid {
        reason: EVIL.into(),
    });
    bad.annotations = vec![Annotation {
        title: Some(EVIL.into()),
        file: Some(EVIL.into()),
        ..annotation(Level::Error, EVIL)
    }];
    let mut job = with_steps(job(EVIL, Some(Outcome::Failure)), vec![bad]);
    job.reason = Some(EVIL.into());
    job.outputs = vec![(EVIL.into(), EVIL.into())];
    job.matrix = Some(MaskedJson::new(
        serde_json::json!({ EVIL: EVIL }),
        &Masks::new(),
    ));
    let mut run = run(Some(RunEnd::Failure));
    (run.workflow, run.title) = (EVIL.into(), Some(EVIL.into()));
    (run.event, run.git_ref, run.sha) = (EVIL.into(), EVIL.into(), EVIL.into());
    run.notes = vec![EVIL.into()];
    run.machines = vec![machine(0, 100, Accelerator::Tcg)];
    run.machines[0].boot_id = Some(EVIL.into());
    run.jobs = vec![job];
    run
}

/// Writes the log of a step to the run's folder and enters it in the record.
pub(crate) fn log(folder: &Path, job: &str, step: &mut StepRecord, lines: &[(i64, Kind, &str)]) {
    let start = step.started_at_ms.unwrap_or(START);
    let encoded = |(at, kind, text): &(i64, Kind, &str)| {
        Line::new(start + at, *kind, shown(text)).encode() + "\n"
    };
    let text: String = lines.iter().map(encoded).collect();
    raw_log(folder, job, step, text.as_bytes());
}

/// The same with bytes that may be anything.
pub(crate) fn raw_log(folder: &Path, job: &str, step: &mut StepRecord, bytes: &[u8]) {
    let path = Path::new("logs").join(format!("{job}-{}.log", step.number));
    std::fs::create_dir_all(folder.join("logs")).unwrap();
    std::fs::write(folder.join(&path), bytes).unwrap();
    step.log = Some(path);
    step.log_bytes = bytes.len() as u64;
}
