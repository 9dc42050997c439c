//! Values of the real types against the schema, read strictly: a property that it does not name is a fault, and so is a
//! word of an enum that the real one has not.
//!
//! Structs are written out whole, so that a new field of one does not compile until it stands here, and then in the schema.

use super::document;
use crate::commands::care::EventView;
use crate::commands::workflow::{TraceView, sample_events, sample_run, sample_trace};
#[cfg(feature = "top")]
use crate::top::draw::tests::snapshot;
use crate::view::{self, Machine};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use vmint::config::{Setting, Source, Value as Set};
use vmint::doctor::{Check, Status};
use vmint::garbage::Garbage;
use vmint::image::InitKind;
use vmint::qemu::MachineType;
use vmint::qemu::egress::{Entry, Totals, Verdict, What};
use vmint::repair::Repaired;
use vmint::workflow::diagnostic::{Diagnostic, Severity, Spot};
use vmint::workflow::mask::Masks;
use vmint::workflow::record::{
    Level, Limit, MaskedFault, MaskedJson, Outcome, RunEnd, StepEnd, StepKind, StepSnapshot,
};
use vmint::workflow::report;
use vmint::workflow::trace::Doing;
use vmint::{
    Accelerator, ByteSize, Change, Confinement, DiskCache, ErrorBody, ErrorKind, Event, Fault,
    LeaseEnd, Limits, MachineState, NetMode, Owner, PoolState, ProcessRef, Publish, SlotState,
};
use vmint_bench::{Bound, Failure, Figures, Floor, HostFacts, Of, Report, Row, Target, Unit};

/// What of an object's properties is named by the schema, or what is wrong with a value.
type Named = Result<BTreeSet<String>, String>;

/// The part of JSON Schema that the document uses.
struct Schema(Value);

impl Schema {
    fn strictly(&self, schema: &Value, value: &Value) -> Result<(), String> {
        let named = self.check(schema, value)?;
        let other = value.as_object().into_iter().flatten();
        match other.map(|(key, _)| key).find(|key| !named.contains(*key)) {
            Some(key) => Err(format!("{key} is not in the schema")),
            None => Ok(()),
        }
    }

    fn check(&self, schema: &Value, value: &Value) -> Named {
        let mut named = BTreeSet::new();
        let rules = schema.as_object();
        let says_something =
            |rules: &&Map<String, Value>| rules.keys().any(|key| key != "description");
        let Some(rules) = rules.filter(says_something) else {
            let all = value.as_object().into_iter().flatten();
            named.extend(all.map(|(key, _)| key.clone()));
            return Ok(named);
        };
        for (keyword, rule) in rules {
            let holds = match &**keyword {
                "$ref" => {
                    let name = rule.as_str().unwrap().strip_prefix("#/$defs/").unwrap();
                    named.extend(self.check(&self.0["$defs"][name], value)?);
                    true
                }
                "type" => match rule {
                    Value::Array(kinds) => kinds.iter().any(|kind| is_of(kind, value)),
                    kind => is_of(kind, value),
                },
                "const" => rule == value,
                "enum" => rule.as_array().unwrap().contains(value),
                "anyOf" | "oneOf" => {
                    let all = rule.as_array().unwrap().iter();
                    let (fit, unfit): (Vec<_>, Vec<_>) = all
                        .map(|schema| self.check(schema, value))
                        .partition(Result::is_ok);
                    if fit.is_empty() {
                        return Err(format!("{value} is none of {unfit:?}"));
                    }
                    named.extend(fit.into_iter().flatten().flatten());
                    true
                }
                "properties" => {
                    for (key, schema) in rule.as_object().unwrap() {
                        if let Some(value) = value.get(key) {
                            self.strictly(schema, value)
                                .map_err(|e| format!("{key}: {e}"))?;
                            named.insert(key.clone());
                        }
                    }
                    true
                }
                "required" => {
                    let all = rule.as_array().unwrap();
                    all.iter()
                        .all(|key| value.get(key.as_str().unwrap()).is_some())
                }
                "items" | "prefixItems" => {
                    for (i, value) in value.as_array().into_iter().flatten().enumerate() {
                        let schema = rule.get(i).unwrap_or(rule);
                        self.strictly(schema, value)
                            .map_err(|e| format!("{i}: {e}"))?;
                    }
                    true
                }
                "minimum" => value.as_f64().is_none_or(|n| n >= rule.as_f64().unwrap()),
                "maximum" => value.as_f64().is_none_or(|n| n <= rule.as_f64().unwrap()),
                // What is not named is a fault everywhere.
                "additionalProperties" => true,
                "minItems" | "maxItems" | "pattern" | "format" | "description" | "$comment" => true,
                other => panic!("{other} is not checked here"),
            };
            if !holds {
                return Err(format!("{value} is not {keyword} {rule}"));
            }
        }
        Ok(named)
    }
}

fn is_of(kind: &Value, value: &Value) -> bool {
    match kind.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("{other} is no type"),
    }
}

/// Each value is of the form that `$defs` has under this name.
fn are<T: Serialize>(name: &str, values: impl IntoIterator<Item = T>) {
    let schema = Schema(document());
    for value in values {
        let value = serde_json::to_value(value).unwrap();
        let form = &schema.0["$defs"][name];
        assert!(form.is_object(), "there is no {name}");
        if let Err(e) = schema.strictly(form, &value) {
            panic!("{name}: {e}, in {value:#}");
        }
    }
}

/// All variants; one that is missing does not compile.
macro_rules! every {
    ($type:ident: $($variant:ident)*) => {{
        let _ = |one: $type| match one { $($type::$variant => (),)* };
        [$($type::$variant),*].map(|one| serde_json::to_value(one).unwrap())
    }};
}

/// The words of an enum, in `$defs` or as the property of something there, are these and no others.
fn words(pointer: &str, real: impl IntoIterator<Item = Value>) {
    let document = document();
    let schema = document.pointer(&format!("/$defs/{pointer}"));
    let told = schema.unwrap_or_else(|| panic!("there is no {pointer}"))["enum"].as_array();
    let order = |values: Vec<Value>| {
        let texts = values.iter().map(|word| word.as_str().unwrap().to_owned());
        texts.collect::<BTreeSet<_>>()
    };
    let told = order(told.expect(pointer).clone());
    assert_eq!(told, order(real.into_iter().collect()), "{pointer}");
}

#[test]
fn words_are_those_of_the_real_types() {
    words("MachineState", MachineState::ALL.map(|s| s.as_str().into()));
    words("SlotState", SlotState::ALL.map(|s| s.as_str().into()));
    words("PoolState", every!(PoolState: Open Drained Removing));
    words("Accelerator", every!(Accelerator: Kvm Tcg));
    let disk_cache = every!(DiskCache: Writeback Unsafe);
    words("Machine/properties/disk_cache", disk_cache);
    words(
        "Image/properties/init",
        every!(InitKind: Agent Systemd Other),
    );
    words(
        "Template/properties/machine",
        every!(MachineType: Microvm Q35),
    );
    words(
        "LeaseEnd",
        every!(LeaseEnd: Released OwnerEnded OwnerUnseen Expired Silent MachineLost PoolRemoved),
    );
    words(
        "ErrorKind",
        every!(ErrorKind: Usage NotFound AlreadyExists Refused Pressure TimedOut WrongState StaleGeneration MachineLost
            LeaseLost NotOwner PoolClosed CommandNotFound CommandNotExecutable Guest Image Hypervisor Runner Corrupt
            NoSpace Host Interrupted Internal),
    );
    words(
        "Check/properties/status",
        every!(Status: Ok Warning Failure),
    );
    let severity = every!(Severity: Note Warning Error);
    words("Diagnostic/properties/severity", severity);
    words(
        "NetworkEntry/properties/what",
        every!(What: Dns Tcp Udp Icmp),
    );
    let verdict = every!(Verdict: Allowed Refused);
    words("NetworkEntry/properties/verdict", verdict);
    let unit = every!(Unit: Milliseconds Megabytes MegabytesPerSecond Count);
    words("BenchRow/properties/unit", unit);
    words("BenchTarget/properties/of", every!(Of: Ratio Median));
    let bound = every!(Bound: AtMost AtLeast);
    words("BenchTarget/properties/bound", bound);
    words(
        "Outcome",
        every!(Outcome: Success Failure Cancelled Skipped),
    );
    let kind = every!(StepKind: SetUp Pre Main Post CleanUp);
    words("Step/properties/kind", kind);
    let level = every!(Level: Error Warning Notice);
    words("Annotation/properties/level", level);
}

fn masked_fault() -> MaskedFault {
    MaskedFault::new(&fault(), &Masks::new())
}

fn fault() -> Fault {
    Fault {
        kind: ErrorKind::Host,
        message: "it failed".into(),
        hint: Some("try again".into()),
    }
}

fn process() -> ProcessRef {
    ProcessRef {
        pid: 1,
        start_time: 2,
        boot_id: "b".into(),
        namespace: Some(3),
    }
}

#[test]
fn small_things_are_of_their_form() {
    are("ErrorBody", [ErrorBody { error: fault() }]);
    are("Fault", [Fault::new(ErrorKind::Usage, "no")]);
    are(
        "Publish",
        [Publish {
            host: 65535,
            guest: 1,
        }],
    );
    are("Confinement", [Confinement::OFF]);
    let most = Limits {
        cpu: Some(0.5.try_into().unwrap()),
        io: Some("10M".parse().unwrap()),
        disk: Some("1G".parse().unwrap()),
    };
    are("Limits", [Limits::default(), most]);
    are("NetMode", [NetMode::None, NetMode::Nat]);
    are(
        "Totals",
        [Totals {
            allowed: 1,
            refused: 2,
        }],
    );
    let client = Owner::Client {
        name: "ci".parse().unwrap(),
        heartbeat_ms: 1000,
    };
    are("Owner", [Owner::Process(process()), client]);
}

#[test]
fn machines_events_and_the_screen_are_of_their_form() {
    let record = view::tests::record();
    let counted = Machine::from(&record).counted(Some(Totals::default()));
    are("Machine", [Machine::from(&record), counted]);
    let stopped = view::StoppedMachine {
        machine: Machine::from(&record),
        forced: true,
    };
    are("StoppedMachine", [stopped]);
    are("Removed", [view::Removed::of("box".into())]);
    let failed = view::Failed {
        name: "box".into(),
        error: fault(),
    };
    are("Failed", [failed]);
    let changes = [
        Change::Machine {
            from: None,
            to: Some(MachineState::Created),
        },
        Change::Slot {
            pool: "ci".parse().unwrap(),
            lease: None,
            from: Some(SlotState::Leased),
            to: None,
        },
    ];
    for change in changes {
        let event = Event {
            sequence: 1,
            at_ms: 2,
            machine: "m0123456789ab".parse().unwrap(),
            name: "box".parse().unwrap(),
            change,
            cause: "requested".into(),
            duration_ms: None,
            detail: None,
        };
        are("Event", [EventView::from(&event)]);
    }
    #[cfg(feature = "top")]
    are("Top", [snapshot(2)]);
}

#[test]
fn whole_answers_are_of_their_form() {
    let check = Check {
        name: "disk",
        status: Status::Warning,
        summary: "full".into(),
        remedy: Some("make room".into()),
    };
    are("Check", [check]);
    let repaired = Repaired {
        damage: Some("torn".into()),
        aside: Some("/home/vmint.db-old".into()),
        found: vec!["machine box".into()],
        machines: 1,
        snapshots: 2,
    };
    are("Repaired", [Repaired::default(), repaired]);
    let garbage = Garbage {
        swept: vec!["a".into()],
        runs: vec!["r0000cafe".parse().unwrap()],
        snapshots: vec!["s".parse().unwrap()],
        templates: vec!["t".into()],
        images: vec!["i".into()],
        lost: vec!["/l".into()],
        bytes: ByteSize(1),
    };
    are("Garbage", [garbage]);
    let values = [
        Set::Unset,
        Set::Text("a".into()),
        Set::List(vec!["a".into()]),
        Set::Number(1),
        Set::Processors(0.5.try_into().unwrap()),
        Set::Flag(true),
        Set::Size(ByteSize(1)),
        Set::Duration(std::time::Duration::from_secs(1)),
    ];
    let sources = [
        Source::Default,
        Source::File {
            path: "/vmint.toml".into(),
            line: 1,
        },
        Source::Environment { name: "VMINT_NET" },
    ];
    for source in sources {
        let setting = |value: &Set| Setting {
            key: "k".into(),
            value: value.clone(),
            source: source.clone(),
        };
        are("Setting", values.iter().map(setting));
    }
    let diagnostic = Diagnostic {
        severity: Severity::Error,
        file: "ci.yml".into(),
        spot: Spot { line: 1, column: 2 },
        message: "no".into(),
        help: Some("yes".into()),
    };
    are("Diagnostic", [diagnostic]);
    let entry = Entry {
        time_ms: 1,
        what: What::Tcp,
        name: Some("example.org".into()),
        address: Some("192.0.2.1:443".into()),
        verdict: Verdict::Refused,
        why: Some("it is not on the list".into()),
        left_out: 2,
        totals: Totals::default(),
    };
    are("NetworkEntry", [entry]);
}

#[test]
fn the_trace_of_a_run_is_of_its_form() {
    let events = sample_trace();
    are("TraceEvent", events.iter().map(TraceView::from));
    words(
        "Doing",
        every!(Doing: Run Job Step Command ContainerCall Transfer Snapshot Wait),
    );
}

#[test]
fn a_bench_is_of_its_form() {
    let figures = Figures {
        n: 1,
        p50: 1.0,
        p95: 2.0,
        p99: 3.0,
    };
    let row = Row {
        name: "fork",
        what: "a fork".into(),
        unit: Unit::Milliseconds,
        figures,
        floor: Some(Floor {
            what: "QEMU".into(),
            figures,
        }),
        ratio: Some(1.5),
        target: Some(Target {
            of: Of::Ratio,
            bound: Bound::AtMost,
            value: 2.0,
        }),
        met: Some(true),
        note: Some("busy".into()),
    };
    let host = HostFacts {
        accelerator: Accelerator::Tcg,
        accelerator_reason: Some("no /dev/kvm".into()),
        qemu: "7.2".into(),
        cpus: 2,
        processor: "one".into(),
        kernel: "6.1".into(),
        memory: ByteSize(1),
        load: 0.5,
        version: "0.1.0",
        build: "debug",
        quick: true,
    };
    let failure = Failure {
        name: "pool",
        error: fault(),
    };
    let report = Report {
        host,
        rows: vec![row],
        failures: vec![failure],
    };
    are("Bench", [report]);
}

#[test]
fn a_run_of_a_workflow_is_of_its_form() {
    let mut run = sample_run();
    run.resumed =
        serde_json::from_value(json!({ "run": "r0000beef", "job": "a", "step": 2 })).unwrap();
    let job = &mut run.jobs[0];
    job.fault = Some(masked_fault());
    job.outputs = vec![("a".into(), "b".into())];
    job.matrix = Some(MaskedJson::new(json!({ "os": "linux" }), &Masks::new()));
    job.failed = Some(StepSnapshot {
        name: "r0000cafe-failed".parse().unwrap(),
        pause_ms: 1.0,
        took_ms: 2.0,
        size: 3,
    });
    let mut steps = vec![
        StepEnd::Exited { code: 255 },
        StepEnd::Killed { signal: 9 },
        StepEnd::Cancelled,
        StepEnd::Invalid {
            reason: "no".into(),
        },
        StepEnd::Fault {
            fault: masked_fault(),
        },
    ];
    for whose in [Limit::Step, Limit::Job, Limit::Workflow] {
        steps.push(StepEnd::TimedOut { whose, limit_ms: 1 });
    }
    let ends = [
        RunEnd::Success,
        RunEnd::Failure,
        RunEnd::Cancelled {
            by: "Ctrl-C".into(),
        },
        RunEnd::TimedOut { limit_ms: 1 },
        RunEnd::NotTriggered {
            reason: "no".into(),
        },
        RunEnd::Paused {
            job: "test".into(),
            step: 3,
            name: "Run tests".into(),
        },
        RunEnd::Fault {
            fault: masked_fault(),
        },
        RunEnd::Abandoned,
    ];
    are("Run", [report::json(&run)]);
    for end in steps {
        run.jobs[0].steps[0].ended = Some(end);
        are("Run", [report::json(&run)]);
    }
    for end in ends {
        run.end = Some(end);
        are("Run", [report::json(&run)]);
    }
    (run.end, run.ended_at_ms) = (None, None);
    are("Run", [report::json(&run)]);
}

#[test]
fn events_of_a_run_are_of_their_form() {
    are("WorkflowEvent", sample_events());
}

#[test]
fn what_the_schema_does_not_name_is_a_fault() {
    let schema = Schema(document());
    let refused = |name: &str, value: Value| {
        let form = &schema.0["$defs"][name];
        schema.strictly(form, &value).expect_err(&value.to_string());
    };
    refused("Publish", json!({ "host": 1 }));
    refused("Publish", json!({ "host": 1, "guest": "2" }));
    refused("Publish", json!({ "host": 1, "guest": 70_000 }));
    refused("Publish", json!({ "host": 1, "guest": 2, "other": 3 }));
    refused("MachineState", json!("leased"));
    let client = json!({ "client": { "name": "a", "heartbeat_ms": 1, "pid": 2 } });
    refused("Owner", client);
    let both = json!({ "key": "k", "source": { "kind": "default", "path": "/" }, "value": 1 });
    refused("Setting", both);
}
