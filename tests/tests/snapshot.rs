//! Snapshots and branches: memory and disk, of one instant.

use std::time::Duration;
use vmint_tests::seed::Seed;
use vmint_tests::{Home, until};

const SOON: Duration = Duration::from_secs(10);

/// Puts noise into the guest's memory, and returns its checksum.
fn noise(home: &Home, name: &str, file: &str) -> String {
    home.sh(
        name,
        &format!("head -c 3000000 /dev/urandom > {file}; sha256sum < {file}"),
    )
}

fn sum(home: &Home, name: &str, file: &str) -> String {
    home.sh(name, &format!("sha256sum < {file}"))
}

#[test]
fn a_machine_is_brought_back_to_the_moment_of_a_snapshot() {
    let home = Home::new();
    home.start("box");
    let before = noise(&home, "box", "/tmp/data");
    home.sh(
        "box",
        "(while :; do sleep 1; done) >/dev/null 2>&1 & echo $! > /tmp/job",
    );
    home.ok("snapshot create box moment");
    // The machine goes on.
    assert_eq!(sum(&home, "box", "/tmp/data"), before);
    let after = noise(&home, "box", "/tmp/data");
    assert_ne!(after, before);
    home.sh("box", "kill $(cat /tmp/job); touch /tmp/later");
    let (runner, _) = home.pids("box");
    for generation in [2, 3] {
        let said = home.ok("restore box moment").text();
        let wanted = format!(", generation {generation})");
        assert!(
            said.starts_with("box is back at snapshot moment (")
                && said.trim_end().ends_with(&wanted),
            "{said}"
        );
        assert_eq!(sum(&home, "box", "/tmp/data"), before);
        assert_eq!(
            home.sh(
                "box",
                "ls /tmp/later 2>/dev/null; kill -0 $(cat /tmp/job) && echo lives"
            ),
            "lives"
        );
        let info = home.info("box");
        assert_eq!(
            (&info["generation"], &info["state"]),
            (&generation.into(), &"running".into()),
            "{info}"
        );
        home.sh("box", "rm /tmp/data");
    }
    assert_eq!(home.pids("box").0, runner, "it is the same runner's");
    // For scripts.
    assert_eq!(home.ok("restore box moment --quiet").text().trim(), "4");
}

#[test]
fn a_running_machine_forks_into_many_and_each_goes_its_own_way() {
    let home = Home::new();
    home.start("box");
    let data = noise(&home, "box", "/tmp/data");
    home.ok("fork box twin");
    home.ok("fork box child --count 4");
    let children = ["twin", "child-1", "child-2", "child-3", "child-4"];
    for name in children {
        assert_eq!(sum(&home, name, "/tmp/data"), data, "{name}");
        home.sh(
            name,
            &format!("echo {name} > /tmp/own; echo {name} > /tmp/data"),
        );
    }
    for name in children {
        assert_eq!(
            home.sh(name, "cat /tmp/own /tmp/data; hostname"),
            format!("{name}\n{name}\n{name}")
        );
    }
    assert_eq!(sum(&home, "box", "/tmp/data"), data, "the parent goes on");
    assert_eq!(home.sh("box", "ls /tmp/own 2>/dev/null | wc -l"), "0");
    // What `fork` froze for its children went with their start.
    assert_eq!(
        home.ok("snapshot ls --format json").values(),
        [] as [serde_json::Value; 0]
    );
    assert_eq!(
        std::fs::read_dir(home.root().join("snapshots"))
            .unwrap()
            .count(),
        0
    );
    // They do not need the parent.
    home.ok("rm --force box");
    assert_eq!(home.sh("twin", "cat /tmp/own"), "twin");
    home.ok("stop child-1");
    home.ok("start child-1");
    assert_eq!(
        sum(&home, "child-1", "/tmp/data"),
        data,
        "it starts where it was forked"
    );
}

#[test]
fn a_chain_of_ten_snapshots_keeps_every_moment() {
    let home = Home::new();
    home.start("m0");
    let mut sums = Vec::new();
    for n in 0..10 {
        sums.push(noise(&home, &format!("m{n}"), &format!("/tmp/data{n}")));
        home.ok(&format!("snapshot create m{n} s{n}"));
        home.sh(&format!("m{n}"), "rm -f /tmp/data*");
        home.ok(&format!("create m{} --from s{n} --start", n + 1));
        for (k, expected) in sums.iter().enumerate() {
            assert_eq!(
                sum(&home, &format!("m{}", n + 1), &format!("/tmp/data{k}")),
                *expected,
                "{k} in {}",
                n + 1
            );
        }
        // One machine at a time: the chain stands without those that it was made from.
        home.ok(&format!("rm --force m{n}"));
    }
    // From the middle, with all snapshots but that one gone.
    let others: Vec<String> = (0..10)
        .filter(|n| *n != 5)
        .map(|n| format!("s{n}"))
        .collect();
    home.ok(&format!("snapshot rm {}", others.join(" ")));
    home.ok("fork s5 middle");
    for (k, expected) in sums.iter().enumerate().take(6) {
        assert_eq!(
            sum(&home, "middle", &format!("/tmp/data{k}")),
            *expected,
            "{k}"
        );
    }
    assert_eq!(home.sh("middle", "ls /tmp/data* | wc -l"), "6");
    assert_eq!(sum(&home, "m10", "/tmp/data9"), sums[9]);
}

#[test]
fn a_snapshot_can_go_while_its_forks_run_and_they_can_still_be_reset() {
    let home = Home::new();
    home.start("box");
    let data = noise(&home, "box", "/tmp/data");
    home.ok("snapshot create box moment");
    home.ok("fork moment child");
    home.ok("snapshot rm moment");
    home.vmint("fork moment other --format json")
        .fault(3, "not_found");
    home.sh("child", "echo gone > /tmp/data");
    home.ok("reset child");
    assert_eq!(sum(&home, "child", "/tmp/data"), data);
    home.ok("stop child");
    home.ok("start child");
    assert_eq!(sum(&home, "child", "/tmp/data"), data);
}

#[test]
fn templates_can_be_removed_while_their_forks_run_and_they_can_still_be_reset() {
    let home = Home::new();
    home.start("box");
    home.sh("box", "echo mine > /tmp/mine");
    home.ok("template rm tiny");
    assert_eq!(
        home.ok("template ls --format json").values(),
        [] as [serde_json::Value; 0]
    );
    assert_eq!(home.sh("box", "cat /tmp/mine"), "mine");
    home.ok("reset box");
    assert_eq!(home.sh("box", "ls /tmp/mine 2>/dev/null | wc -l"), "0");
    home.ok("restart box");
    assert_eq!(home.sh("box", "echo up"), "up");
    home.ok("template prune");
    assert_eq!(home.sh("box", "echo up"), "up");
}

#[test]
fn a_paused_machine_can_be_frozen_and_stays_paused() {
    let home = Home::new();
    home.start("box");
    let data = noise(&home, "box", "/tmp/data");
    home.ok("pause box");
    assert_eq!(home.state("box"), "paused");
    home.vmint("exec box --format json -- true")
        .fault(125, "wrong_state");
    home.ok("snapshot create box moment");
    assert_eq!(home.state("box"), "paused");
    home.ok("fork moment child");
    assert_eq!(sum(&home, "child", "/tmp/data"), data);
    home.ok("resume box");
    assert_eq!(sum(&home, "box", "/tmp/data"), data);
}

#[test]
fn snapshots_say_what_they_are_and_names_are_taken_once() {
    let home = Home::new();
    home.start("box");
    home.ok("snapshot create box moment");
    let message = home
        .vmint("snapshot create box moment --format json")
        .fault(1, "already_exists");
    assert!(message.contains("moment"), "{message}");
    let all = home.ok("snapshot ls --format json").values();
    assert_eq!(all.len(), 1, "{all:?}");
    assert_eq!(
        (&all[0]["name"], &all[0]["machine"], &all[0]["full"]),
        (&"moment".into(), &"box".into(), &false.into())
    );
    assert!(
        all[0]["pause_ms"].as_f64().is_some_and(|ms| ms > 0.0),
        "{all:?}"
    );
    assert_eq!(
        all[0]["accelerator"],
        home.info("box")["accelerator"],
        "a figure names its accelerator"
    );
    home.ok("snapshot rm moment");
    home.vmint("snapshot rm moment --format json")
        .fault(3, "not_found");
    home.vmint("restore box moment --format json")
        .fault(3, "not_found");
    home.ok("stop box");
    home.vmint("snapshot create box moment --format json")
        .fault(1, "wrong_state");
    // Of several names, each is answered for.
    for what in ["snapshot", "image", "template"] {
        let message = home
            .vmint(&format!("{what} rm nobody --format json"))
            .fault(3, "not_found");
        assert!(message.contains("nobody"), "{message}");
    }
    assert_eq!(
        std::fs::read_dir(home.root().join("snapshots"))
            .unwrap()
            .count(),
        0
    );
}

/// Where QEMU cannot save changed memory alone, all of it is saved, and that is said.
#[test]
fn a_full_snapshot_holds_the_same() {
    let mut home = Home::new();
    home.set_env("VMINT_SNAPSHOT_FULL", "1");
    home.start("box");
    let data = noise(&home, "box", "/tmp/data");
    home.ok("snapshot create box moment");
    let all = home.ok("snapshot ls --format json").values();
    assert_eq!(all[0]["full"], true, "{all:?}");
    home.sh("box", "rm /tmp/data");
    home.ok("fork moment child");
    assert_eq!(sum(&home, "child", "/tmp/data"), data);
    home.ok("restore box moment");
    assert_eq!(sum(&home, "box", "/tmp/data"), data);
    // A snapshot of what was started from a full one.
    home.ok("snapshot create child deeper");
    home.ok("fork deeper grandchild");
    assert_eq!(sum(&home, "grandchild", "/tmp/data"), data);
}

/// A guest counts in its memory and on its disk, one after the other, and waits for its disk at each step. In a snapshot
/// the two are one step apart at most; and what the guest had not yet written to its disk is in its memory.
#[test]
fn memory_and_disk_of_a_snapshot_are_of_one_instant() {
    let home = Home::with(Seed::Debian);
    home.ok("create box --image deb --memory 256M --start");
    let sums = home.sh(
        "box",
        "mkdir -p /root/n /run/n
        (i=0; while :; do
            i=$((i+1)); echo $i > /run/n/memory
            echo $i | dd of=/root/n/disk conv=fsync,notrunc oflag=append 2>/dev/null
        done) >/dev/null 2>&1 &
        echo $! > /run/n/pid
        head -c 2000000 /dev/urandom > /root/synced; sync /root/synced
        head -c 2000000 /dev/urandom > /root/cached
        sha256sum < /root/synced; sha256sum < /root/cached",
    );
    let counted = |name: &str| {
        home.sh(name, "cat /run/n/memory")
            .parse::<i64>()
            .expect("a number")
    };
    until(SOON, "it counts", || counted("box") > 3);
    // Each on top of the layers of those before.
    let mut before = Vec::new();
    for n in 0..3 {
        before.push(counted("box"));
        home.ok(&format!("snapshot create box s{n}"));
    }
    // Stopped between two steps; and then past the kernel's cache, from the disk itself.
    let drop_caches = "sync; echo 3 > /proc/sys/vm/drop_caches";
    let look = format!(
        "kill -STOP $(cat /run/n/pid); while pidof dd >/dev/null; do sleep 0.01; done; {drop_caches}
        cat /run/n/memory; tail -n 1 /root/n/disk; awk 'NR != $1 {{ bad = 1 }} END {{ print bad + 0 }}' /root/n/disk
        sha256sum < /root/synced; sha256sum < /root/cached; dmesg | grep -ci 'ext4.*error'; true"
    );
    for (n, before) in before.into_iter().enumerate() {
        let name = format!("child-{n}");
        home.ok(&format!("fork s{n} {name}"));
        let told = home.sh(&name, &look);
        let lines: Vec<_> = told.lines().collect();
        let (memory, disk): (i64, i64) = (lines[0].parse().unwrap(), lines[1].parse().unwrap());
        println!("{n}: {before} before, {memory} in memory, {disk} on disk");
        assert!(
            memory >= before && (memory - 1..=memory).contains(&disk),
            "{before}, {told}"
        );
        assert_eq!(
            lines[2], "0",
            "every number is on the disk once, and in order"
        );
        assert_eq!(lines[3..5].join("\n"), sums);
        assert_eq!(lines[5], "0", "{}", home.sh(&name, "dmesg | grep -i ext4"));
        home.ok(&format!("rm --force {name}"));
    }
    home.ok("restore box s1");
    assert_eq!(
        home.sh(
            "box",
            &format!("{drop_caches}; sha256sum < /root/synced; sha256sum < /root/cached")
        ),
        sums
    );
}

/// What a machine wrote to its disk stays over a stop; then it boots, for the frozen memory does not fit it.
#[test]
fn a_disk_outlives_a_stop_and_goes_with_a_reset() {
    let home = Home::with(Seed::Debian);
    home.ok("create box --image deb --memory 256M --start");
    home.sh("box", "echo kept > /root/file; sync");
    home.ok("stop box --timeout 60s");
    home.call(["start", "box"])
        .deadline(Duration::from_secs(200))
        .run()
        .ok();
    assert_eq!(home.sh("box", "cat /root/file"), "kept");
    home.ok("reset box");
    assert_eq!(home.sh("box", "ls /root/file 2>/dev/null | wc -l"), "0");
}

/// After a stop and a start a machine with a disk has booted, into memory that is no template's. A snapshot of it was sealed with the
/// stamp of the template's memory, and said to be damaged whenever it was used.
#[test]
fn a_machine_with_a_disk_that_was_stopped_and_started_is_frozen_forked_and_restored() {
    let home = Home::with(Seed::Debian);
    home.ok("create box --image deb --memory 256M --start");
    let boots = |args: &str| {
        home.call(args.split(' '))
            .deadline(Duration::from_secs(200))
            .run()
            .ok()
    };
    home.sh("box", "echo kept > /root/file; sync");
    home.ok("stop box");
    boots("start box");
    let data = noise(&home, "box", "/run/data");
    home.ok("snapshot create box moment");
    home.ok("fork moment child");
    home.ok("snapshot create child deeper");
    home.ok("fork deeper grandchild");
    for name in ["child", "grandchild"] {
        assert_eq!(sum(&home, name, "/run/data"), data, "{name}");
        assert_eq!(home.sh(name, "cat /root/file"), "kept");
    }
    home.ok("rm --force child grandchild");
    home.sh("box", "rm /run/data /root/file");
    home.ok("restore box moment");
    assert_eq!(sum(&home, "box", "/run/data"), data);
    // And again from there: what it was brought back to has a memory file that is its own.
    home.ok("snapshot create box again");
    home.ok("stop box");
    boots("start box");
    assert_eq!(home.sh("box", "cat /root/file"), "kept");
    home.ok("restore box again");
    assert_eq!(sum(&home, "box", "/run/data"), data);
    // A reset goes to the template all the same.
    home.ok("reset box");
    assert_eq!(home.sh("box", "ls /root/file 2>/dev/null | wc -l"), "0");
    assert!(home.info("box")["restored"].is_null());
}

/// Such snapshots exist. What they hold is whole, but for a line of their manifest.
#[test]
fn a_snapshot_with_the_stamp_of_another_file_is_rescued_by_a_repair() {
    let home = Home::new();
    home.ok("create box --cold --memory 128M --start");
    let data = noise(&home, "box", "/tmp/data");
    home.ok("snapshot create box broken");
    home.ok("snapshot create box damaged");
    home.ok("snapshot create box whole");
    let of_template = std::fs::read_dir(home.root().join("templates"))
        .unwrap()
        .flatten()
        .find_map(|entry| ram_stamp(&entry.path()))
        .expect("a template");
    for name in ["broken", "damaged"] {
        let folder = home.root().join("snapshots").join(name);
        let file = folder.join("manifest.json");
        let mut manifest = manifest(&folder);
        for stamp in manifest["files"].as_array_mut().unwrap() {
            if stamp["name"] == "ram" {
                stamp.clone_from(&of_template);
            }
        }
        std::fs::remove_file(&file).unwrap();
        std::fs::write(&file, manifest.to_string()).unwrap();
    }
    // And one whose changed memory is damaged in fact.
    let delta = home.root().join("snapshots/damaged/delta");
    vmint_tests::fixture::damage(&delta, |bytes| bytes[8192] ^= 1);
    let message = home
        .vmint("fork broken child --format json")
        .fault(1, "corrupt");
    assert!(message.contains("ram"), "{message}");
    let told = home.vmint("fork broken child").error();
    assert!(told.contains("doctor --repair"), "{told}");

    let repaired = home.json("doctor --repair");
    let told = repaired["found"].to_string();
    assert!(told.contains("snapshot broken can be used again"), "{told}");
    assert!(told.contains("snapshot damaged cannot be used"), "{told}");
    assert!(!told.contains("whole"), "{told}");
    for snapshot in ["broken", "whole"] {
        home.ok(&format!("fork {snapshot} {snapshot}-child"));
        assert_eq!(sum(&home, &format!("{snapshot}-child"), "/tmp/data"), data);
    }
    home.vmint("fork damaged child --format json")
        .fault(1, "corrupt");
    assert_eq!(
        home.json("doctor --repair")["found"]
            .to_string()
            .matches("can be used")
            .count(),
        0
    );
}

fn manifest(folder: &std::path::Path) -> serde_json::Value {
    let text = std::fs::read_to_string(folder.join("manifest.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn ram_stamp(folder: &std::path::Path) -> Option<serde_json::Value> {
    let is_ram = |stamp: &&serde_json::Value| stamp["name"] == "ram";
    folder.is_dir().then(|| manifest(folder))?["files"]
        .as_array()?
        .iter()
        .find(is_ram)
        .cloned()
}

#[test]
fn a_reset_goes_to_where_the_machine_comes_from_whatever_it_was_brought_back_to() {
    let home = Home::new();
    home.start("box");
    let template = home.info("box")["template"].clone();
    home.sh("box", "echo one > /tmp/file");
    home.ok("snapshot create box one");
    home.sh("box", "echo two > /tmp/file");
    home.ok("snapshot create box two");
    for _ in 0..2 {
        for moment in ["one", "two", "one"] {
            home.ok(&format!("restore box {moment}"));
            assert_eq!(home.sh("box", "cat /tmp/file"), moment);
            let info = home.info("box");
            assert_eq!(info["restored"], moment, "{info}");
            assert_eq!(info["template"], template, "{info}");
            assert!(info["snapshot"].is_null(), "{info}");
        }
        home.ok("reset box");
        assert_eq!(home.sh("box", "ls /tmp"), "", "it is the template's");
        let info = home.info("box");
        assert!(info["restored"].is_null(), "{info}");
        assert_eq!(info["template"], template, "{info}");
    }
    // One that was created from a snapshot goes back to that.
    home.ok("create child --from one --start");
    home.ok("restore child two");
    let info = home.info("child");
    assert_eq!(
        (&info["snapshot"], &info["restored"]),
        (&"one".into(), &"two".into()),
        "{info}"
    );
    home.ok("snapshot rm one two");
    home.ok("reset child");
    assert_eq!(home.sh("child", "cat /tmp/file"), "one");
    // And one that has booted boots.
    home.ok("create cold --cold --memory 128M --start");
    let boot = home.sh("cold", "cat /proc/sys/kernel/random/boot_id");
    home.ok("snapshot create cold cold");
    home.ok("restore cold cold");
    assert_eq!(home.sh("cold", "cat /proc/sys/kernel/random/boot_id"), boot);
    home.ok("reset cold");
    assert_ne!(home.sh("cold", "cat /proc/sys/kernel/random/boot_id"), boot);
}

/// Of a snapshot whose memory cannot be loaded any more, and of any other, the disk can be had.
#[test]
fn a_machine_boots_from_the_disk_of_a_snapshot() {
    let home = Home::with(Seed::Debian);
    home.ok("create box --image deb --memory 256M --start");
    home.sh("box", "echo kept > /root/file; sync; touch /run/gone");
    home.ok("snapshot create box s");
    home.ok("rm --force box");
    home.call("create again --from s --cold --start".split(' '))
        .deadline(Duration::from_secs(200))
        .run()
        .ok();
    home.ok("snapshot rm s");
    let look = "cat /root/file; ls /run/gone 2>/dev/null | wc -l";
    assert_eq!(home.sh("again", look), "kept\n0");
    home.sh("again", "echo changed > /root/file; sync");
    for step in ["restart again", "reset again", "reset again"] {
        home.call(step.split(' '))
            .deadline(Duration::from_secs(200))
            .run()
            .ok();
        let expected = if step.starts_with("restart") {
            "changed"
        } else {
            "kept"
        };
        assert_eq!(home.sh("again", "cat /root/file"), expected, "{step}");
    }
    // What has no disk cannot boot from one.
    home.start("tiny");
    home.ok("snapshot create tiny t");
    home.vmint("create other --from t --cold --format json")
        .fault(2, "usage");
}

/// What the guest has flushed is the host's, where the machine stays.
#[test]
fn a_flush_of_a_machine_with_a_disk_that_stays_reaches_the_host_unless_it_is_told_not_to() {
    let home = Home::with(Seed::Debian);
    let no_flush = |name: &str| {
        let answer = home.ok(&format!("qmp {name} query-block")).json();
        let disk = answer.as_array().unwrap().iter();
        let disk = disk.clone().find(|one| one["inserted"].is_object());
        disk.unwrap_or_else(|| panic!("{answer}"))["inserted"]["cache"]["no-flush"].clone()
    };
    home.ok("create stays --image deb --memory 256M --start");
    assert_eq!(home.info("stays")["disk_cache"], "writeback");
    assert_eq!(no_flush("stays"), false);
    // A layer that is put on top is no other.
    home.ok("snapshot create stays s");
    assert_eq!(no_flush("stays"), false);
    home.ok("rm --force stays");
    home.ok("create quick --image deb --memory 256M --disk-cache unsafe --start");
    assert_eq!(home.info("quick")["disk_cache"], "unsafe");
    assert_eq!(no_flush("quick"), true);
    home.ok("rm --force quick");
    home.vmint("create wrong --disk-cache sometimes").exits(2);
}
