//! What a machine may take of its host, held from outside.

use serde_json::json;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use vmint_tests::fixture::Tarball;
use vmint_tests::processes::kill;
use vmint_tests::seed::Seed;
use vmint_tests::{Home, patient, until};

/// An image with a disk, named `mine`.
fn import(home: &Home) {
    let tar = Tarball::busybox(home).write(home, "root.tar");
    let words = [
        "image",
        "import",
        "mine",
        tar.to_str().unwrap(),
        "--size",
        "256M",
    ];
    home.call(words).run().ok();
}

/// The largest file in the machine's folder that it alone has: the layer that it writes.
fn layer(home: &Home, name: &str) -> u64 {
    let entries = fs::read_dir(home.folder(name)).unwrap().flatten();
    let own = entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("disk"))
        .map(|entry| entry.metadata().unwrap())
        .filter(|file| file.nlink() == 1);
    own.map(|file| file.len())
        .max()
        .expect("a machine with a disk")
}

/// A guest that writes more than its machine may has no broken disk: the machine stands still.
#[test]
fn a_disk_that_has_grown_to_its_limit_halts_the_machine_and_a_reset_makes_room() {
    let home = Home::with(Seed::Image);
    import(&home);
    home.ok("create box --image mine --memory 128M --disk-limit 32M --start");
    assert_eq!(home.info("box")["limits"], json!({"disk": 32 << 20}));
    assert_eq!(
        home.sh(
            "box",
            "/bin/busybox head -c 4000000 /dev/zero > /some; /bin/busybox sync; echo ok"
        ),
        "ok"
    );
    let script = "/bin/busybox head -c 80000000 /dev/urandom > /big; /bin/busybox sync";
    let writer = home.call(["exec", "box", "--", "sh", "-c", script]).start();
    let halted = || home.state("box") == "paused";
    until(
        patient(Duration::from_secs(60)),
        "the machine is paused",
        halted,
    );
    let info = home.info("box");
    let reason = info["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("grown to its limit"), "{info}");
    assert!(!writer.has_ended(), "nothing has failed yet");
    assert!(layer(&home, "box") <= 32 << 20, "{}", layer(&home, "box"));
    // It tries again, and there is no more room than there was.
    home.ok("resume box");
    until(
        patient(Duration::from_secs(60)),
        "the machine is paused again",
        halted,
    );
    home.ok("reset box");
    writer.finish();
    assert_eq!(
        home.sh("box", "ls /big /some 2>/dev/null; echo fresh"),
        "fresh"
    );
    // What is made of the machine has its limit.
    home.ok("snapshot create box clean");
    home.ok("create again --from clean --start");
    home.ok("create more --from clean --disk-limit 64M --start");
    assert_eq!(home.info("again")["limits"], json!({"disk": 32 << 20}));
    assert_eq!(home.info("more")["limits"], json!({"disk": 64 << 20}));
    home.ok("rm --force box again more");
    home.ok("snapshot rm clean");
    home.empties(Duration::from_secs(10));
}

#[test]
fn a_pool_limits_its_machines_and_a_file_says_how() {
    let home = Home::new();
    let config = home.root().join("vmint.toml");
    fs::write(
        &config,
        "[pools.ci]\nimage = \"tiny\"\nmin = 1\nmax = 1\ndisk-limit = \"64M\"\n",
    )
    .unwrap();
    let made = home
        .call(["pool", "create", "ci"])
        .current_dir(home.root())
        .run();
    made.ok();
    let machine = home.json("ls --all")[0]["name"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(home.info(&machine)["limits"], json!({"disk": 64 << 20}));
    let pool = home.json("pool status ci");
    assert_eq!(pool["limits"], json!({"disk": 64 << 20}), "{pool}");
    home.ok("pool rm ci --force");
    home.empties(Duration::from_secs(10));
}

/// What `vmint doctor` says of limits.
fn doctor(home: &Home) -> String {
    let checks = home.call(["doctor", "--format", "json"]).run();
    let checks: serde_json::Value = serde_json::from_str(&checks.text()).unwrap();
    let checks = checks
        .as_array()
        .or_else(|| checks["checks"].as_array())
        .unwrap()
        .clone();
    let limits = checks
        .iter()
        .find(|check| check["name"] == "limits")
        .expect("a check of limits");
    limits["summary"].as_str().unwrap().to_owned()
}

#[test]
fn limits_that_this_host_cannot_hold_are_refused_before_anything_is_made() {
    let home = Home::new();
    let offered = doctor(&home);
    for (option, value) in [("--cpu-limit", "0.5"), ("--io-limit", "20M")] {
        let lacks = offered
            .split(':')
            .next()
            .filter(|text| text.starts_with("no "));
        if !lacks.is_some_and(|text| text.contains(option)) {
            eprintln!("NOT TESTED: this host has {option}");
            continue;
        }
        for words in [
            ["run", option, value, "--", "true"].to_vec(),
            ["create", "box", option, value, "--start"].to_vec(),
        ] {
            let code = if words[0] == "run" { 125 } else { 1 };
            let refused = home.call(words).run().exits(code);
            assert!(
                refused.error().contains("this host cannot hold"),
                "{}",
                refused.error()
            );
            assert!(refused.error().contains("hint: "), "{}", refused.error());
        }
        assert_eq!(home.rows(), [""; 0]);
    }
    // A template is no machine, and an option that did nothing would be a lie.
    home.vmint("template build tiny --disk-limit 1G").exits(2);
    for (option, value, what) in [
        ("--cpu-limit", "0", "from 0.05 to 1024"),
        ("--cpu-limit", "two", "from 0.05 to 1024"),
        ("--io-limit", "1K", "too little"),
        ("--disk-limit", "1M", "too little"),
        ("--disk-limit", "much", "not a limit"),
    ] {
        let refused = home.call(["create", "box", option, value]).run().exits(2);
        assert!(refused.error().contains(what), "{}", refused.error());
    }
}

/// The control group of a process, as a folder.
fn group(pid: u32) -> PathBuf {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let path = text
        .lines()
        .find_map(|line| line.strip_prefix("0::/"))
        .expect("version 2");
    Path::new("/sys/fs/cgroup").join(path)
}

fn number(group: &Path, file: &str, key: &str) -> u64 {
    let text = fs::read_to_string(group.join(file)).unwrap();
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    let (_, value) = lines.find(|(name, _)| *name == key).expect("a key");
    value.parse().unwrap()
}

/// On a host with cgroup v2, such as the machine that `scripts/kvm-test` makes.
/// The processes in a group. With KVM its kernel's own threads for the guest are there too (`kvm-nx-lpage-recovery`, `kvm-pit`).
fn members(group: &Path) -> Vec<u32> {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap();
    let pids = text.lines().map(|pid| pid.parse().unwrap());
    // A thread of the kernel has no arguments.
    pids.filter(|pid| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|text| !text.is_empty()))
        .collect()
}

#[test]
fn a_machine_is_held_to_its_limits_by_a_control_group_that_goes_with_it() {
    let home = Home::new();
    if !doctor(&home).contains("--cpu-limit and --io-limit, by groups") {
        eprintln!("NOT TESTED: this host has no control groups for this user");
        return;
    }
    home.ok("create box --cpu-limit 0.25 --io-limit 20M --start");
    let (runner, hypervisor) = home.pids("box");
    let held = group(hypervisor);
    let text = |file: &str| {
        fs::read_to_string(held.join(file))
            .unwrap()
            .trim()
            .to_owned()
    };
    assert_eq!(text("cpu.max"), "5000 20000");
    assert_eq!(members(&held), [hypervisor]);
    assert!(
        text("io.max").contains("rbps=20971520 wbps=20971520"),
        "{}",
        text("io.max")
    );
    let memory: u64 = text("memory.max").parse().unwrap();
    assert!((512 << 20..4 << 30).contains(&memory), "{memory}");
    assert!(text("pids.max").parse::<u64>().unwrap() < 500);
    assert_ne!(
        group(runner),
        held,
        "a guest that is held must not hold its runner"
    );
    // A guest that never rests has its share of a processor and no more.
    let burner = home
        .call(["exec", "box", "--", "sh", "-c", "while :; do :; done"])
        .start();
    until(
        patient(Duration::from_secs(60)),
        "the guest is throttled",
        || number(&held, "cpu.stat", "nr_throttled") > 20,
    );
    let (began, before) = (Instant::now(), number(&held, "cpu.stat", "usage_usec"));
    let periods = number(&held, "cpu.stat", "nr_periods");
    until(patient(Duration::from_secs(60)), "100 periods pass", || {
        number(&held, "cpu.stat", "nr_periods") > periods + 100
    });
    let used = number(&held, "cpu.stat", "usage_usec") - before;
    let most = began.elapsed().as_micros() as u64 / 4 + 100_000;
    assert!(used <= most, "{used} of {most} µs");
    // A reset goes into the same group.
    home.ok("reset box");
    burner.finish();
    assert_eq!(group(home.pids("box").1), held);
    // Without its runner, nothing is left of it.
    kill(home.pids("box").0);
    until(
        patient(Duration::from_secs(30)),
        "the hypervisor is gone",
        || members(&held).is_empty(),
    );
    home.ok("ls --all");
    assert!(
        !held.exists(),
        "the group goes when the machine is swept up"
    );
    home.ok("start box");
    assert!(held.exists());
    home.ok("rm --force box");
    assert!(!held.exists());
    home.empties(Duration::from_secs(10));
}
