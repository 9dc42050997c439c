//! What is written down of a run while it runs: the record, the logs, and word to whoever watches.

use crate::log::{Kind, Line};
use crate::mask::Masked;
use crate::observe::{Change, Observer};
use crate::record::{JobRecord, MachineUse, RunRecord, StepRecord};
use crate::trace::{Activity, Doing, Tracer, Within};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use vmint_model::{ErrorKind, Fault, now_ms};

/// The record of a run that runs.
pub struct Recorder<'a> {
    record: Mutex<RunRecord>,
    folder: &'a Path,
    observer: &'a dyn Observer,
    tracer: Tracer<'a>,
}

/// A job of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobAt(pub usize);

/// A step of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepAt {
    /// Of which job.
    pub job: usize,
    /// Index among its steps.
    pub step: usize,
}

impl<'a> Recorder<'a> {
    /// Of a run whose files go into `folder`.
    pub fn new(record: RunRecord, folder: &'a Path, observer: &'a dyn Observer) -> Self {
        Self {
            record: Mutex::new(record),
            folder,
            observer,
            tracer: Tracer::new(observer),
        }
    }

    fn lock(&self) -> MutexGuard<'_, RunRecord> {
        self.record.lock().expect("nobody panics with the lock")
    }

    /// The record as it is.
    pub fn record(&self) -> RunRecord {
        self.lock().clone()
    }

    /// Looks at the record.
    pub fn read<T>(&self, look: impl FnOnce(&RunRecord) -> T) -> T {
        look(&self.lock())
    }

    /// Changes the record, and tells of it.
    pub fn change<T>(&self, what: Change<'_>, change: impl FnOnce(&mut RunRecord) -> T) -> T {
        let mut record = self.lock();
        let result = change(&mut record);
        self.observer.happened(&record, what);
        result
    }

    /// Changes the record without a word.
    pub fn quietly<T>(&self, change: impl FnOnce(&mut RunRecord) -> T) -> T {
        change(&mut self.lock())
    }

    /// Says something that should be known, once, and keeps it.
    pub fn note(&self, text: impl Into<Masked>) {
        let text = text.into();
        let mut record = self.lock();
        if record.notes.contains(&text) {
            return;
        }
        record.notes.push(text.clone());
        self.observer.happened(&record, Change::Note(&text));
    }

    /// Says what is waited for.
    pub fn waiting(&self, text: impl Into<Masked>) {
        let text = text.into();
        self.observer.happened(&self.lock(), Change::Note(&text));
    }

    /// Adds a job. Its key is made unique.
    pub fn add_job(&self, mut job: JobRecord) -> JobAt {
        let mut record = self.lock();
        let base = job.key.clone();
        let mut n = 1_u32;
        while record.jobs.iter().any(|other| other.key == job.key) {
            n += 1;
            job.key = Masked::join([(&base).into(), " #".into(), n.into()]);
        }
        record.jobs.push(job);
        JobAt(record.jobs.len() - 1)
    }

    /// Changes a job.
    pub fn job<T>(&self, at: JobAt, change: impl FnOnce(&mut JobRecord) -> T) -> T {
        change(&mut self.lock().jobs[at.0])
    }

    /// Adds a step to a job, numbered from 1.
    pub fn add_step(&self, at: JobAt, mut step: StepRecord) -> StepAt {
        let steps = &mut self.lock().jobs[at.0].steps;
        step.number = steps.len() as u32 + 1;
        steps.push(step);
        StepAt {
            job: at.0,
            step: steps.len() - 1,
        }
    }

    /// Changes a step.
    pub fn step<T>(&self, at: StepAt, change: impl FnOnce(&mut StepRecord) -> T) -> T {
        change(&mut self.lock().jobs[at.job].steps[at.step])
    }

    /// Adds a machine, and gives its index.
    pub fn add_machine(&self, machine: MachineUse) -> usize {
        let machines = &mut self.lock().machines;
        machines.push(machine);
        machines.len() - 1
    }

    /// Opens the log of a step.
    pub fn open_log(&self, at: StepAt) -> Result<StepLog<'_>, Fault> {
        let (number, name) = self.step(at, |step| (step.number, step.name.clone()));
        let relative = PathBuf::from(format!("logs/{}/{number}.log", at.job + 1));
        let path = self.folder.join(&relative);
        let parent = path.parent().expect("a log is in a folder");
        let file = std::fs::create_dir_all(parent).and_then(|()| File::create(&path));
        let file = file.map_err(|e| log_fault(&path, &e))?;
        self.step(at, |step| step.log = Some(relative));
        Ok(StepLog {
            recorder: self,
            at,
            path,
            file: Mutex::new(BufWriter::with_capacity(64 << 10, file)),
            activity: self.tracer.begin_part(
                at.job,
                (Within::Job(at.job), Doing::Step),
                Masked::join([number.into(), " ".into(), (&name).into()]),
            ),
        })
    }

    /// Tells what is done, and what is waited for.
    pub(crate) fn tracer(&self) -> &Tracer<'a> {
        &self.tracer
    }

    /// The folder of the run.
    pub fn folder(&self) -> &Path {
        self.folder
    }
}

fn log_fault(path: &Path, error: &std::io::Error) -> Fault {
    Fault::from_error(ErrorKind::Host, error)
        .context(format!("cannot write the log {}", path.display()))
}

/// The log of a step that runs.
pub struct StepLog<'a> {
    recorder: &'a Recorder<'a>,
    at: StepAt,
    path: PathBuf,
    file: Mutex<BufWriter<File>>,
    activity: Activity<'a>,
}

impl StepLog<'_> {
    /// Which step it is of.
    pub fn at(&self) -> StepAt {
        self.at
    }

    /// Writes a line, and tells of it.
    pub fn line(&self, line: &Line) -> Result<(), Fault> {
        let mut encoded = line.encode();
        encoded.push('\n');
        let mut file = self.file.lock().expect("nobody panics with the lock");
        file.write_all(encoded.as_bytes())
            .map_err(|e| log_fault(&self.path, &e))?;
        drop(file);
        let mut record = self.recorder.lock();
        let StepAt { job, step } = self.at;
        record.jobs[job].steps[step].log_bytes += encoded.len() as u64;
        let what = Change::Logged { job, step, line };
        self.recorder.observer.happened(&record, what);
        Ok(())
    }

    /// Writes a line of vmint's own.
    pub fn say(&self, kind: Kind, text: impl Into<Masked>) -> Result<(), Fault> {
        self.line(&Line::new(now_ms(), kind, text))
    }

    /// Keeps the step's summary, behind what is there.
    pub fn keep_summary(&self, summary: &Masked) -> Result<(), Fault> {
        let number = self.recorder.step(self.at, |step| step.number);
        let relative = PathBuf::from(format!("summaries/{}/{number}.md", self.at.job + 1));
        let path = self.recorder.folder.join(&relative);
        let written = (|| {
            std::fs::create_dir_all(path.parent().unwrap_or(&path))?;
            let mut file = File::options().append(true).create(true).open(&path)?;
            file.write_all(summary.as_bytes())
        })();
        written.map_err(|e| {
            let fault = Fault::from_error(ErrorKind::Host, &e);
            fault.context(format!("cannot write {}", path.display()))
        })?;
        self.recorder
            .step(self.at, |step| step.summary = Some(relative));
        Ok(())
    }

    /// The step has ended so.
    pub fn ended(&self, how: &'static str) {
        self.activity.end(how);
    }

    /// Has all of it on the disk of this host.
    pub fn finish(&self) -> Result<(), Fault> {
        let mut file = self.file.lock().expect("nobody panics with the lock");
        file.flush().map_err(|e| log_fault(&self.path, &e))
    }
}
