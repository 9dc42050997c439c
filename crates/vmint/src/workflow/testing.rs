//! What tests of kept runs need: a home, and records.

use crate::{Admission, Options, Vmint};
use std::path::Path;
use std::sync::Arc;
use vmint_model::{
    Accelerator, ByteSize, MachineSpec, NetMode, Origin, ProcessRef, RunId, SnapshotRecord,
};
use vmint_store::{StoredRun, process};
use vmint_workflow::mask::{Masked, Masks};
use vmint_workflow::record::{JobRecord, RunRecord, StepKind, StepRecord, StepSnapshot};

/// A home of the test's own.
pub(crate) struct Place {
    pub(crate) vmint: Arc<Vmint>,
    folder: tempfile::TempDir,
}

/// Opens a home.
pub(crate) fn open(home: &Path) -> Vmint {
    let options = Options {
        home: home.to_owned(),
        runner: "/nonexistent/vmint".into(),
        accelerator: None,
        confine: vmint_model::Confine::Best,
        run_as: None,
        full_snapshots: false,
        start_timeout: None,
        admission: Admission::default(),
        lease: None,
    };
    Vmint::open(options).unwrap()
}

impl Place {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let vmint = Arc::new(open(folder.path()));
        Self { vmint, folder }
    }

    /// The home's folder.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Keeps a run.
    pub(crate) fn put(&self, run: &RunRecord, ended_at_ms: Option<i64>) {
        let stored = StoredRun {
            id: run.id.clone(),
            owner: run.owner.clone(),
            started_at_ms: run.started_at_ms,
            ended_at_ms,
            record: serde_json::to_string(run).unwrap(),
        };
        assert!(self.vmint.store().put_run(&stored).unwrap());
    }

    /// Makes a snapshot of a run, as far as the store and its folder are concerned.
    pub(crate) fn snapshot(
        &self,
        run: &RunRecord,
        name: &str,
        size: u64,
        created_at_ms: i64,
    ) -> StepSnapshot {
        let record = SnapshotRecord {
            name: name.parse().unwrap(),
            machine: "box".parse().unwrap(),
            spec: MachineSpec {
                image: "tiny".into(),
                memory: ByteSize::mib(64),
                cpus: 1,
                net: NetMode::None,
                publish: Vec::new(),
                limits: vmint_model::Limits::default(),
                origin: Origin::Template,
                disk_cache: None,
                defaults: vmint_model::ExecDefaults::default(),
            },
            image_digest: None,
            accelerator: Accelerator::Tcg,
            pause_ms: 1.0,
            size: ByteSize(size),
            full: false,
            implicit: true,
            run: Some(run.id.clone()),
            created_at_ms,
        };
        self.vmint.store().insert_snapshot(&record).unwrap();
        std::fs::create_dir(self.vmint.home().snapshot(&record.name)).unwrap();
        StepSnapshot {
            name: record.name,
            pause_ms: 1.0,
            took_ms: 1.0,
            size,
        }
    }

    /// The names of the snapshots that there are, in the store and as folders.
    pub(crate) fn snapshots(&self) -> (Vec<String>, Vec<String>) {
        let of_runs = vmint_store::SnapshotFilter::OfRuns;
        let known = self.vmint.store().list_snapshots(&of_runs).unwrap();
        let known = known.into_iter().map(|s| s.name.to_string());
        let folders = std::fs::read_dir(self.vmint.home().snapshots()).unwrap();
        let folders = folders.map(|e| e.unwrap().file_name().to_string_lossy().into_owned());
        let (mut known, mut folders): (Vec<_>, Vec<_>) = (known.collect(), folders.collect());
        known.sort();
        folders.sort();
        (known, folders)
    }
}

/// A process that is no more.
pub(crate) fn dead() -> ProcessRef {
    ProcessRef {
        start_time: 1,
        ..process::current().unwrap()
    }
}

/// A run of this process that has just begun.
pub(crate) fn run() -> RunRecord {
    RunRecord {
        id: RunId::random(),
        workflow: "ci".into(),
        title: None,
        file: "/repo/.github/workflows/ci.yml".into(),
        repository: "/repo".into(),
        event: "push".into(),
        git_ref: "refs/heads/main".into(),
        sha: "0".repeat(40),
        resumed: None,
        owner: process::current().unwrap(),
        started_at_ms: 1,
        ended_at_ms: None,
        end: None,
        permissions: None,
        concurrency: None,
        machines: Vec::new(),
        jobs: Vec::new(),
        notes: Vec::new(),
    }
}

/// Text of a run that has no secrets.
pub(crate) fn shown(text: &str) -> Masked {
    Masks::new().mask(text)
}

/// A job that has not begun.
pub(crate) fn job(key: &str, id: &str, steps: Vec<StepRecord>) -> JobRecord {
    JobRecord {
        key: shown(key),
        id: shown(id),
        name: shown(key),
        matrix: None,
        needs: Vec::new(),
        runs_on: vec!["ubuntu-latest".into()],
        outcome: None,
        continue_on_error: false,
        reason: None,
        fault: None,
        machine: None,
        started_at_ms: None,
        ended_at_ms: None,
        waits: Vec::new(),
        outputs: Vec::new(),
        steps,
        left_out: None,
        failed: None,
        permissions: None,
        environment: None,
    }
}

/// A step that has not begun.
pub(crate) fn step(number: u32, name: &str) -> StepRecord {
    StepRecord {
        number,
        kind: StepKind::Main,
        id: None,
        name: shown(name),
        line: None,
        outcome: None,
        conclusion: None,
        ended: None,
        reason: None,
        started_at_ms: None,
        ended_at_ms: None,
        log: None,
        log_bytes: 0,
        annotations: Vec::new(),
        annotations_dropped: 0,
        summary: None,
        replaced: None,
        snapshot: None,
    }
}
