//! Templates: made once, listed, removed, made anew when what they were made from has changed.

use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;
use vmint_tests::fixture::script;
use vmint_tests::seed::Seed;
use vmint_tests::{Home, until};

const SOON: Duration = Duration::from_secs(5);

fn templates(home: &Home) -> Vec<Value> {
    home.json("template ls").as_array().expect("a list").clone()
}

#[test]
fn a_template_is_built_listed_forked_and_removed() {
    let home = Home::with(Seed::Image);
    assert_eq!(home.json("template ls"), json!([]));
    let built = home.json("template build tiny --memory 96M --cpus 2");
    for (key, value) in [
        ("image", json!("tiny")),
        ("memory", json!(96 << 20)),
        ("cpus", json!(2)),
        ("net", json!("none")),
    ] {
        assert_eq!(built[key], value, "{built}");
    }
    assert!(
        built["accelerator"] == "tcg" || built["accelerator"] == "kvm",
        "{built}"
    );
    assert!(
        built["boot_ms"].as_f64().is_some_and(|ms| ms > 0.0),
        "{built}"
    );
    assert!(
        built["fingerprint"].as_str().is_some_and(|f| f.len() >= 12),
        "{built}"
    );
    assert_eq!(templates(&home), std::slice::from_ref(&built));
    // Building it again builds nothing.
    let again = home.ok("template build tiny --memory 96M --cpus 2 --format json");
    assert_eq!((again.json(), again.error().as_str()), (built.clone(), ""));
    let run = home.ok("run --memory 96M --cpus 2 -- nproc");
    assert_eq!(
        (run.text().as_str(), run.error().as_str()),
        ("2\n", ""),
        "the template was there"
    );
    let shown = home.ok("template ls").text();
    assert!(
        shown.starts_with("TEMPLATE") && shown.contains("tiny") && shown.contains("96 MiB"),
        "{shown}"
    );

    home.vmint("template rm nonsense").exits(3);
    home.vmint("template rm").exits(2);
    let beginning = &built["fingerprint"].as_str().unwrap()[..12];
    home.ok(&format!("template rm {beginning}"));
    assert_eq!(home.json("template ls"), json!([]));
    home.vmint(&format!("template rm {beginning}")).exits(3);
}

#[test]
fn a_machine_survives_the_removal_of_its_template_and_of_its_image() {
    let home = Home::new();
    home.start("box");
    home.sh("box", "echo kept > /tmp/mark");
    home.ok("template rm tiny");
    home.ok("image rm tiny");
    home.ok("image prune");
    home.ok("gc");
    assert_eq!(home.sh("box", "cat /tmp/mark"), "kept");
    home.ok("reset box");
    assert_eq!(
        home.sh("box", "ls /tmp"),
        "",
        "it was forked anew all the same"
    );
    home.ok("stop box");
    home.ok("start box");
    assert_eq!(home.sh("box", "echo up"), "up");
}

#[test]
fn memory_processors_and_network_make_templates_of_their_own() {
    let home = Home::new();
    assert_eq!(templates(&home).len(), 2, "without and with a network");
    home.ok("run --memory 96M -- true");
    home.ok("run --memory 96M -- true");
    assert_eq!(templates(&home).len(), 3);
    // Names, users, environments and ports do not.
    home.ok("run --memory 96M -e A=b -w /tmp -- true");
    assert_eq!(templates(&home).len(), 3);
}

/// A QEMU of another version, as an upgrade brings one, and a template made with the old one.
#[test]
fn a_template_of_another_qemu_is_made_anew_and_that_is_said() {
    let home = Home::new();
    let qemu = home.runtime().join("qemu-system-x86_64");
    let revision = |n: u32| {
        let answer = format!("echo 'QEMU emulator version 99.{n}.0'; exit 0");
        script(
            &qemu,
            &format!("case \"$*\" in *--version*) {answer};; esac\nexec qemu-system-x86_64 \"$@\""),
        );
    };
    let run = || {
        home.call("run --memory 128M -- echo works".split(' '))
            .env("VMINT_QEMU", &qemu)
            .run()
            .ok()
    };
    revision(1);
    let first = run();
    assert_eq!(first.text(), "works\n");
    assert!(
        first.error().contains("no longer fits") && first.error().contains("99.1.0"),
        "{first}"
    );
    assert_eq!(run().error(), "", "it is there now");
    revision(2);
    let upgraded = run();
    assert!(upgraded.error().contains("99.2.0"), "{upgraded}");
    // Those of the QEMU that is not there any more go; the one that fits stays.
    let prune = home
        .call("template prune --format json".split(' '))
        .env("VMINT_QEMU", &qemu)
        .run()
        .ok()
        .json();
    assert_eq!(
        prune["templates"].as_array().map(Vec::len),
        Some(3),
        "{prune}"
    );
    assert!(prune["freed"].as_u64().is_some_and(|n| n > 0), "{prune}");
    let left = templates(&home);
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(
        left[0]["qemu"].as_str().unwrap().contains("99.2.0"),
        "{left:?}"
    );
    assert_eq!(run().error(), "");
}

/// A snapshot is kept for longer than a QEMU lasts: it goes by what its guest has seen, not by the program.
#[test]
fn a_snapshot_outlives_its_qemu_and_a_qemu_that_cannot_load_it_says_why_before_anything_is_lost() {
    let home = Home::new();
    home.start("box");
    home.sh("box", "echo kept > /tmp/file");
    home.ok("snapshot create box kept");
    let qemu = home.runtime().join("qemu-system-x86_64");
    let version = |answer: &str| {
        script(
            &qemu,
            &format!(
                "case \"$*\" in *--version*) echo '{answer}'; exit 0;; esac\nexec qemu-system-x86_64 \"$@\""
            ),
        );
    };
    let with = |args: &str| home.call(args.split(' ')).env("VMINT_QEMU", &qemu).run();
    version("QEMU emulator version 99.0.0");
    with("fork kept copy").ok();
    assert_eq!(home.sh("copy", "cat /tmp/file"), "kept");
    with("restart copy").ok();
    assert_eq!(home.sh("copy", "cat /tmp/file"), "kept");

    // A guest that has seen what this QEMU does not have.
    let file = home.root().join("snapshots/kept/manifest.json");
    let mut manifest: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    manifest["platform"]["features"]
        .as_array_mut()
        .unwrap()
        .push("of-another-age".into());
    fs::remove_file(&file).unwrap();
    fs::write(&file, manifest.to_string()).unwrap();
    for refused in [
        "fork kept other --format json",
        "restore box kept --format json",
    ] {
        let message = home.vmint(refused).fault(1, "corrupt");
        assert!(message.contains("of-another-age"), "{message}");
    }
    assert_eq!(home.rows(), ["box", "copy"]);
    assert_eq!(home.sh("box", "cat /tmp/file"), "kept", "it was not killed");
}

#[test]
fn runs_that_come_first_at_once_make_the_template_once() {
    let home = Home::with(Seed::Image);
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let run = || home.vmint("run --memory 128M -- echo works").ok();
        let runs: Vec<_> = (0..4).map(|_| scope.spawn(run)).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    let said = |what: &str| {
        outcomes
            .iter()
            .filter(|outcome| outcome.error().contains(what))
            .count()
    };
    assert_eq!(said("booting tiny once"), 1, "{outcomes:?}");
    assert_eq!(said("waiting for another process"), 3, "{outcomes:?}");
    assert!(
        outcomes.iter().all(|outcome| outcome.text() == "works\n"),
        "{outcomes:?}"
    );
    assert_eq!(templates(&home).len(), 1);
    home.empties(SOON);
}

/// Who waits for a maker that is killed makes it.
#[test]
fn a_template_whose_maker_is_killed_is_made_by_whoever_waits_for_it() {
    let home = Home::with(Seed::Image);
    let maker = home
        .call("template build tiny --memory 128M".split(' '))
        .start();
    let temporary = || -> Option<PathBuf> {
        let entries = fs::read_dir(home.root().join("templates")).ok()?;
        entries.flatten().map(|e| e.path()).find(|p| {
            p.file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with(".tmp-")
        })
    };
    until(SOON, "it has begun", || {
        temporary().is_some_and(|folder| folder.join("ram").exists())
    });
    let waiter = home
        .call("run --memory 128M -- echo works".split(' '))
        .start();
    let qemu = until_qemu(&home);
    maker.signal(Signal::KILL);
    assert_eq!(maker.finish().signal, Some(9));
    until(SOON, "its QEMU has ended", || {
        !vmint_tests::processes::lives(qemu)
    });
    let outcome = waiter.finish().ok();
    assert_eq!(outcome.text(), "works\n");
    assert_eq!(templates(&home).len(), 1);
    assert_eq!(temporary(), None);
    home.empties(SOON);
}

fn until_qemu(home: &Home) -> u32 {
    let find = || {
        home.processes()
            .into_iter()
            .find(vmint_tests::Process::is_hypervisor)
            .map(|process| process.pid)
    };
    vmint_tests::wait::until_some(SOON, "QEMU boots the template", find).0
}

/// What is there under a template's name was finished: a maker that is killed leaves nothing of that name, and what it
/// leaves is cleared up.
#[test]
fn what_a_killed_maker_leaves_is_cleared_up_by_gc() {
    let home = Home::with(Seed::Image);
    let maker = home
        .call("template build tiny --memory 128M".split(' '))
        .start();
    until_qemu(&home);
    maker.signal(Signal::KILL);
    maker.finish();
    assert_eq!(home.json("template ls"), json!([]));
    home.ok("gc");
    let names: Vec<_> = fs::read_dir(home.root().join("templates"))
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert!(names.is_empty(), "{names:?}");
    home.ok("run --memory 128M -- true");
}

#[test]
fn a_dry_run_of_gc_removes_nothing() {
    let home = Home::new();
    home.ok("image rm tiny");
    let before = templates(&home);
    let planned = home.json("gc --dry-run");
    assert_eq!(templates(&home), before);
    assert_eq!(
        planned["templates"].as_array().map(Vec::len),
        Some(2),
        "{planned}"
    );
    let done = home.json("gc");
    assert_eq!(done["templates"], planned["templates"], "{done}");
    assert_eq!(templates(&home), [] as [Value; 0]);
}

/// A snapshot of an older vmint, whose machines had no device for panics: it goes on without it, and still tells of its panic.
#[test]
fn what_was_frozen_without_the_panic_device_is_loaded_without_it() {
    let home = Home::new();
    home.start("box");
    home.sh("box", "rmmod pvpanic_mmio; echo kept > /tmp/file");
    home.ok("snapshot create box kept");
    let file = home.root().join("snapshots/kept/manifest.json");
    let mut manifest: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(manifest["platform"]["panic"], "pvpanic");
    let platform = manifest["platform"].as_object_mut().unwrap();
    platform.remove("panic");
    fs::remove_file(&file).unwrap();
    fs::write(&file, manifest.to_string()).unwrap();
    home.ok("fork kept copy");
    assert_eq!(home.sh("copy", "cat /tmp/file"), "kept");
    let has_device = |name: &str| {
        let (_, pid) = home.pids(name);
        let arguments = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
        arguments.contains("pvpanic")
    };
    assert_eq!((has_device("box"), has_device("copy")), (true, false));
    // And so does what is frozen of it.
    home.ok("snapshot create copy again");
    home.ok("fork again third");
    assert!(!has_device("third"));
    let panic = [
        "exec",
        "third",
        "--",
        "sh",
        "-c",
        "echo c > /proc/sysrq-trigger; sleep 99",
    ];
    home.call(panic).run();
    let event = home.event("third", "failed", Duration::from_secs(60));
    assert_eq!(event["cause"], "guest_panicked", "{event}");
}
