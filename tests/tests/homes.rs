//! Homes that are copied, moved, reached by another path, or given another database: nothing is killed that belongs to
//! another home, and nothing is deleted of which it is not known that nobody needs it.

use rusqlite::Connection;
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use vmint_tests::processes::{kill, lives, signal};
use vmint_tests::{Home, Outcome, until};

const SOON: Duration = Duration::from_secs(20);

/// A second home in the environment of the first. Dropped, it removes its machines and itself.
struct Other<'a> {
    home: &'a Home,
    root: PathBuf,
}

impl<'a> Other<'a> {
    /// Beside the first.
    fn path(home: &Home, name: &str) -> PathBuf {
        let first = home.root().file_name().unwrap().to_string_lossy();
        home.root().with_file_name(format!("{first}-{name}"))
    }

    /// A copy, by `cp -a`.
    fn copy(home: &'a Home, name: &str) -> Self {
        let root = Self::path(home, name);
        copy(home.root(), &root);
        Self { home, root }
    }

    #[track_caller]
    fn vmint(&self, args: &str) -> Outcome {
        at(self.home, &self.root, args)
    }

    #[track_caller]
    fn machine(&self, name: &str) -> Value {
        self.vmint(&format!("info {name} --format json"))
            .ok()
            .json()
    }
}

impl Drop for Other<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let pools = self.vmint("pool ls --format json").ok().json();
            for pool in pools.as_array().into_iter().flatten() {
                let name = pool["name"].as_str().unwrap().to_owned();
                self.vmint(&format!("pool rm --force {name}")).ok();
            }
            let all = self.vmint("ls --all --format json").ok().json();
            for machine in all.as_array().into_iter().flatten() {
                let name = machine["name"].as_str().unwrap().to_owned();
                self.vmint(&format!("rm --force {name}")).ok();
            }
        }
        for process in vmint_tests::processes::of_home(&self.root) {
            kill(process.pid);
        }
        let _ = fs::remove_dir_all(&self.root);
    }
}

#[track_caller]
fn at(home: &Home, root: &Path, args: &str) -> Outcome {
    home.call(args.split_ascii_whitespace())
        .env("VMINT_HOME", root)
        .run()
}

#[track_caller]
fn copy(from: &Path, to: &Path) {
    // Files come and go in a home that is in use, and that is no failure here.
    let copied = Command::new("cp").arg("-a").args([from, to]).output();
    copied.expect("cp can be started");
    assert!(to.join("vmint.db").exists());
}

/// The files of the database, moved to `to`.
fn move_database(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for name in ["vmint.db-shm", "vmint.db-wal", "vmint.db"] {
        let _ = fs::rename(from.join(name), to.join(name));
    }
}

/// A whole database in one file, taken while others use it.
fn back_up(home: &Home, to: &Path) {
    let database = Connection::open(home.root().join("vmint.db")).unwrap();
    database
        .execute("VACUUM INTO ?1", [to.to_str().unwrap()])
        .unwrap();
}

fn names(list: &Value) -> Vec<String> {
    let mut names: Vec<_> = list
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| one["name"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

#[track_caller]
fn assert_answers(home: &Home, name: &str, (runner, hypervisor): (u32, u32)) {
    assert!(lives(runner) && lives(hypervisor), "{name} was killed");
    assert_eq!(home.sh(name, "echo here"), "here");
    assert_eq!(home.pids(name), (runner, hypervisor), "it is another one");
}

#[test]
fn a_copy_of_a_running_home_kills_nothing_says_what_it_is_and_its_machines_can_be_started() {
    let home = Home::new();
    home.start("box");
    home.ok("create down --memory 128M");
    home.ok("snapshot create box s");
    let words = "run --memory 128M -- sh -c".split(' ');
    let mut run = home.call(words.chain(["echo up; exec sleep 1000"])).start();
    run.says("up");
    let pids = home.pids("box");
    let original = home.processes();
    assert_eq!(original.len(), 4);

    let other = Other::copy(&home, "copy");
    let first = other.vmint("ls --all --format json").ok();
    let said = first.error();
    assert!(
        said.contains("is a copy of")
            && said.contains(home.root().to_str().unwrap())
            && said.contains("box"),
        "{first}"
    );
    for machine in first.json().as_array().unwrap() {
        let state = if machine["name"] == "down" {
            "created"
        } else {
            "failed"
        };
        assert_eq!(machine["state"], state, "{first}");
    }
    assert_eq!(first.json().as_array().unwrap().len(), 3, "{first}");
    let again = other.vmint("ls --all").ok();
    assert_eq!(again.error(), "", "it is said once");
    other.vmint("gc").ok();
    let info = other.machine("box");
    let reason = info["reason"].as_str().unwrap();
    assert!(reason.contains(home.root().to_str().unwrap()), "{info}");
    assert!(
        other
            .root
            .join("machines")
            .join(info["id"].as_str().unwrap())
            .exists()
    );

    assert!(original.iter().all(|process| lives(process.pid)));
    assert_answers(&home, "box", pids);
    assert!(!run.has_ended());

    // The same machine, twice, each in its home.
    other.vmint("start box").ok();
    other.vmint("exec box -- true").ok();
    other.vmint("fork s forked").ok();
    assert_answers(&home, "box", pids);
    other.vmint("rm --force box forked").ok();
    assert_answers(&home, "box", pids);
    run.signal(Signal::INT);
    run.finish();
}

#[test]
fn a_lease_in_the_original_outlives_the_copy_which_has_none() {
    let home = Home::new();
    home.ok("pool create p --image tiny --memory 128M --min 1 --max 2");
    let lease = home.json("lease acquire p --ttl 10m");
    let machine = lease["machine"].as_str().unwrap();
    let pids = home.pids(machine);
    let other = Other::copy(&home, "copy");
    // The pool in the copy may make itself another machine.
    assert_eq!(
        other.vmint("lease ls --format json").ok().json(),
        serde_json::json!([])
    );
    assert_eq!(other.machine(machine)["state"], "failed");
    drop(other);
    assert!(lives(pids.0) && lives(pids.1));
    home.sh(machine, "true");
    let leases = home.json("lease ls");
    assert_eq!(leases.as_array().unwrap().len(), 1, "{leases}");
    home.ok(&format!(
        "lease release {}",
        lease["lease"].as_str().unwrap()
    ));
}

/// A process that a record names by id, start and boot, but that is not of this home: here one that has nothing to do with
/// vmint, in the copy above the original's.
#[test]
fn a_process_that_a_record_names_and_that_is_no_machine_is_spared() {
    let home = Home::new();
    home.start("box");
    let (runner, hypervisor) = home.pids("box");
    kill(runner);
    until(SOON, "both have gone", || {
        !lives(runner) && !lives(hypervisor)
    });
    let mut innocent = Command::new("sleep").arg("1000").spawn().unwrap();
    let stat = fs::read_to_string(format!("/proc/{}/stat", innocent.id())).unwrap();
    let start: u64 = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .nth(19)
        .unwrap()
        .parse()
        .unwrap();
    let changed = home.sql(&format!(
        "UPDATE machines SET record = json_set(record, '$.runner.pid', {0}, '$.runner.start_time', {start},
         '$.hypervisor.pid', {0}, '$.hypervisor.start_time', {start}) WHERE name = 'box'",
        innocent.id()
    ));
    assert_eq!(changed, 1);
    home.ok("ls");
    let spared = lives(innocent.id());
    innocent.kill().unwrap();
    innocent.wait().unwrap();
    assert!(spared);
    assert_eq!(home.state("box"), "failed");
}

#[test]
fn without_its_database_a_home_loses_no_machine_no_disk_and_no_snapshot() {
    let home = Home::new();
    home.start("box");
    home.ok("create down --memory 128M");
    home.ok("snapshot create box s");
    home.start("stopped");
    home.ok("stop stopped --timeout 20s");
    let (down, pids) = (home.folder("down"), home.pids("box"));
    home.sh("box", "echo kept > /tmp/mark");
    // One that does not say what it is, and holds something.
    let unknown = home.root().join("machines/m0123456789ab");
    fs::create_dir(&unknown).unwrap();
    fs::write(unknown.join("disk.1.qcow2"), "precious").unwrap();
    let silent = home.root().join("snapshots/mine");
    fs::create_dir(&silent).unwrap();
    fs::write(silent.join("ram"), "precious").unwrap();

    for part in ["vmint.db", "vmint.db-wal", "vmint.db-shm"] {
        fs::remove_file(home.root().join(part)).unwrap();
    }
    let listed = home.ok("ls --all --format json");
    assert_eq!(names(&listed.json()), ["box", "down", "stopped"]);
    let said = listed.error();
    for part in [
        "machine box",
        "machine down",
        "snapshot s ",
        "lost+found/machine-m0123456789ab",
        "lost+found/snapshot-mine",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let found = home.root().join("lost+found");
    assert_eq!(
        fs::read(found.join("machine-m0123456789ab/disk.1.qcow2")).unwrap(),
        b"precious"
    );
    assert_eq!(
        fs::read(found.join("snapshot-mine/ram")).unwrap(),
        b"precious"
    );
    assert_eq!(home.ok("ls --all").error(), "", "it is said once");
    assert!(down.join("machine.json").exists());
    assert_eq!(home.state("stopped"), "stopped");
    assert_answers(&home, "box", pids);
    home.ok("start stopped");
    home.ok("fork s forked");
    // The runner has gone over to the new database: what it is told there, it does.
    until(SOON, "the runner writes to the new database", || {
        home.column("SELECT detail FROM events WHERE detail LIKE '%was replaced%'")
            .len()
            == 1
    });
    home.ok("reset box");
    assert_eq!(home.sh("box", "test -e /tmp/mark || echo fresh"), "fresh");
    assert_eq!(home.info("box")["generation"], 2);

    let dry = home.json("gc --dry-run --lost-age 0s");
    assert_eq!(dry["lost"].as_array().unwrap().len(), 2, "{dry}");
    assert_eq!(
        home.json("gc")["lost"],
        serde_json::json!([]),
        "it is too young"
    );
    assert!(found.join("snapshot-mine").exists());
    let gone = home.json("gc --lost-age 0s");
    assert_eq!(gone["lost"].as_array().unwrap().len(), 2, "{gone}");
    assert_eq!(fs::read_dir(&found).unwrap().count(), 0);
    home.ok("snapshot rm s");
}

#[test]
fn what_says_itself_that_nobody_needs_it_is_cleared_away_without_a_database() {
    let home = Home::new();
    let words = "run --memory 128M -- sh -c".split(' ');
    let mut run = home.call(words.chain(["echo up; exec sleep 1000"])).start();
    run.says("up");
    let processes = home.processes();
    run.signal(Signal::STOP);
    for process in &processes {
        signal(process.pid, Signal::STOP);
    }
    run.signal(Signal::KILL);
    for process in &processes {
        kill(process.pid);
    }
    until(SOON, "all have died", || {
        processes.iter().all(|p| !lives(p.pid))
    });
    assert_eq!(home.folders().len(), 1);
    let bare = home.root().join("machines/m0123456789ab");
    fs::create_dir(&bare).unwrap();
    fs::write(bare.join("lock"), "").unwrap();
    move_database(home.root(), &home.runtime().join("away"));
    let listed = home.ok("ls --all");
    assert_eq!(listed.error(), "");
    assert_eq!(home.folders(), [] as [PathBuf; 0]);
    assert!(!home.root().join("lost+found").exists());
}

#[test]
fn an_older_database_costs_no_machine_and_no_snapshot() {
    let home = Home::new();
    home.ok("create first --memory 128M");
    let older = home.runtime().join("older.db");
    back_up(&home, &older);
    home.ok("rm first");
    home.start("second");
    home.ok("create third --memory 128M");
    home.ok("snapshot create second s");
    let pids = home.pids("second");
    move_database(home.root(), &home.runtime().join("away"));
    fs::copy(&older, home.root().join("vmint.db")).unwrap();
    assert_eq!(names(&home.json("ls --all")), ["first", "second", "third"]);
    assert_eq!(names(&home.json("snapshot ls")), ["s"]);
    assert_answers(&home, "second", pids);
    home.ok("fork s forked");
    until(SOON, "the runner writes to the older database", || {
        home.column("SELECT detail FROM events WHERE detail LIKE '%was replaced%'")
            .len()
            == 1
    });
    home.ok("snapshot rm s");
}

#[test]
fn the_database_of_another_home_costs_neither_home_anything() {
    let (home, foreign) = (Home::new(), Home::new());
    home.start("box");
    home.ok("create down --memory 128M");
    foreign.start("box");
    foreign.start("theirs");
    let (ours, theirs) = (home.pids("box"), foreign.pids("box"));
    let database = home.runtime().join("foreign.db");
    back_up(&foreign, &database);
    move_database(home.root(), &home.runtime().join("away"));
    fs::copy(&database, home.root().join("vmint.db")).unwrap();
    let listed = home.ok("ls --all --format json");
    assert!(listed.error().contains("another home's"), "{listed}");
    let id = home_id(&home, ours.0);
    // The name belongs to the foreign record: the machine goes by its id.
    assert_eq!(names(&listed.json()), {
        let mut names = vec!["box".to_owned(), "down".into(), "theirs".into(), id.clone()];
        names.sort();
        names
    });
    assert_answers(&home, &id, ours);
    assert_answers(&foreign, "box", theirs);
    assert_eq!(home.state("theirs"), "failed");
    assert!(lives(foreign.pids("theirs").0));
}

/// The id of the machine that a runner owns, by its arguments.
fn home_id(home: &Home, runner: u32) -> String {
    let all = home.processes();
    let process = all.iter().find(|process| process.pid == runner).unwrap();
    process
        .argv
        .iter()
        .find(|word| word.len() == 13 && word.starts_with('m'))
        .unwrap()
        .clone()
}

#[test]
fn a_damaged_database_is_put_aside_and_made_anew_of_the_folders() {
    let home = Home::new();
    home.start("box");
    home.ok("create down --memory 128M");
    home.ok("snapshot create box s");
    let pids = home.pids("box");
    move_database(home.root(), &home.runtime().join("away"));
    let garbage = vec![0x42; 20_000];
    fs::write(home.root().join("vmint.db"), &garbage).unwrap();
    let outcome = home.vmint("ls --format json");
    assert!(
        outcome.error().contains("vmint doctor --repair"),
        "{outcome}"
    );
    outcome.fault(1, "corrupt");
    assert_eq!(fs::read(home.root().join("vmint.db")).unwrap(), garbage);
    assert!(lives(pids.0) && lives(pids.1));

    let repaired = home.json("doctor --repair");
    let aside = repaired["aside"].as_str().unwrap();
    assert!(aside.contains("vmint.db-damaged-2"), "{repaired}");
    assert_eq!(fs::read(aside).unwrap(), garbage);
    assert_eq!(
        (
            repaired["machines"].as_u64(),
            repaired["snapshots"].as_u64()
        ),
        (Some(2), Some(1))
    );
    let said = repaired["found"].to_string();
    for part in ["machine box", "machine down", "snapshot s "] {
        assert!(said.contains(part), "{said}");
    }
    assert_answers(&home, "box", pids);
    let again = home.json("doctor --repair");
    assert_eq!(again["damage"], Value::Null);
    assert_eq!(again["machines"], 2);
    assert_eq!(again["found"], serde_json::json!([]));
    home.ok("fork s forked");
    home.ok("snapshot rm s");
    // One record that nobody can read is damage, too.
    assert_eq!(
        home.sql("UPDATE machines SET record = '{' WHERE name = 'down'"),
        1
    );
    home.vmint("ls --format json").fault(1, "corrupt");
    home.ok("doctor --repair");
    assert_eq!(names(&home.json("ls --all")), ["box", "down", "forked"]);
    assert_answers(&home, "box", pids);
}

#[test]
fn a_repair_that_is_killed_at_any_moment_is_completed_by_the_next() {
    let home = Home::new();
    home.start("box");
    for n in 0..10 {
        home.ok(&format!("create down{n} --memory 128M"));
    }
    home.ok("snapshot create box s");
    let pids = home.pids("box");
    let whole = names(&home.json("ls --all"));
    let damage = || {
        let path = home.root().join("vmint.db");
        move_database(home.root(), &home.runtime().join("away"));
        for part in ["", "-wal", "-shm"] {
            fs::write(format!("{}{part}", path.display()), vec![0x42; 20_000]).unwrap();
        }
    };
    let assert_whole = |when: &str| {
        home.ok("doctor --repair");
        assert_eq!(names(&home.json("ls --all")), whole, "{when}");
        assert_eq!(names(&home.json("snapshot ls")), ["s"], "{when}");
        assert_answers(&home, "box", pids);
    };
    // Each state that its steps leave behind them.
    for moved in [&["-shm"][..], &["-shm", "-wal"], &["-shm", "-wal", ""]] {
        damage();
        for part in moved {
            let name = |of: &str| home.root().join(format!("vmint.db{of}{part}"));
            fs::rename(name(""), name("-damaged-x")).unwrap();
        }
        assert_whole(&format!("{moved:?} were moved"));
    }
    // And wherever it happens to be.
    for ms in (0..60).step_by(4) {
        damage();
        let repair = home.call(["doctor", "--repair"]).start();
        std::thread::sleep(Duration::from_millis(ms));
        repair.signal(Signal::KILL);
        until(SOON, "it has died", || repair.has_ended());
        assert_whole(&format!("killed after {ms} ms"));
    }
    home.ok("snapshot rm s");
}

#[test]
fn a_moved_home_works_on_and_machines_that_were_up_can_be_started_there() {
    let home = Home::new();
    home.start("box");
    home.ok("create down --memory 128M");
    home.ok("snapshot create box s");
    let (runner, hypervisor) = home.pids("box");
    let other = Other {
        home: &home,
        root: Other::path(&home, "moved"),
    };
    fs::rename(home.root(), &other.root).unwrap();
    until(SOON, "the runner has seen it", || {
        !lives(runner) && !lives(hypervisor)
    });
    assert!(!home.root().exists(), "nothing is made at the old place");
    let listed = other.vmint("ls --all --format json").ok();
    assert_eq!(listed.error(), "", "it is no copy");
    assert_eq!(names(&listed.json()), ["box", "down"]);
    let info = other.machine("box");
    assert_eq!(info["state"], "failed");
    assert!(
        info["reason"].as_str().unwrap().contains("was moved to"),
        "{info}"
    );
    other.vmint("start box").ok();
    other.vmint("exec box -- true").ok();
    other.vmint("fork s forked").ok();
    other.vmint("snapshot rm s").ok();
    drop(other);
    fs::create_dir(home.root()).unwrap();
}

#[test]
fn a_home_that_was_moved_and_replaced_by_its_copy_is_left_alone_by_its_runners() {
    let home = Home::new();
    home.start("box");
    let folder = home.folder("box");
    let (runner, hypervisor) = home.pids("box");
    let old = Other {
        home: &home,
        root: Other::path(&home, "old"),
    };
    // The runner sees the copy in place of its home, not a moment without one.
    let new = Other::path(&home, "new");
    copy(home.root(), &new);
    signal(runner, Signal::STOP);
    fs::rename(home.root(), &old.root).unwrap();
    fs::rename(&new, home.root()).unwrap();
    let listed = home.ok("ls --all --format json");
    assert!(listed.error().contains("is a copy of"), "{listed}");
    assert!(lives(runner) && lives(hypervisor), "the copy killed them");
    signal(runner, Signal::CONT);
    until(SOON, "the runner has seen it", || {
        !lives(runner) && !lives(hypervisor)
    });
    assert!(folder.join("machine.json").exists(), "that is the copy's");
    assert_eq!(home.state("box"), "failed");
    assert_eq!(old.machine("box")["state"], "failed");
    home.ok("start box");
    old.vmint("start box").ok();
}

#[test]
fn a_home_is_the_same_by_every_path() {
    let home = Home::new();
    home.start("box");
    let pids = home.pids("box");
    let link = Other::path(&home, "link");
    symlink(home.root(), &link).unwrap();
    let inside = format!("/proc/{}/root{}", std::process::id(), home.root().display());
    let mut paths = vec![link.clone(), PathBuf::from(inside)];
    let bound = Other::path(&home, "bound");
    fs::create_dir(&bound).unwrap();
    let mount = Command::new("mount")
        .arg("--bind")
        .args([home.root(), &bound])
        .output();
    let is_bound = mount.is_ok_and(|mount| mount.status.success());
    if is_bound {
        paths.push(bound.clone());
    }
    for path in &paths {
        let listed = at(&home, path, "exec box -- echo here");
        assert_eq!(listed.text(), "here\n", "{}: {listed}", path.display());
    }
    let relative = home
        .call(["exec", "box", "--", "echo", "here"])
        .env("VMINT_HOME", home.root().file_name().unwrap())
        .current_dir(home.root().parent().unwrap())
        .run();
    assert_eq!(relative.ok().text(), "here\n");
    // One that was started by another path is reached by this one.
    at(
        &home,
        paths.last().unwrap(),
        "create by --memory 128M --start",
    )
    .ok();
    assert_eq!(home.sh("by", "echo here"), "here");
    at(&home, paths.last().unwrap(), "rm --force by").ok();
    if is_bound {
        // A runner answers before its last line.
        until(SOON, "nothing uses the mount", || {
            let unmounted = Command::new("umount").arg(&bound).output().unwrap();
            unmounted.status.success()
        });
    }
    fs::remove_dir(&bound).unwrap();
    fs::remove_file(&link).unwrap();
    assert_answers(&home, "box", pids);
}

/// The name that an older vmint gave to the folder of the sockets: of the home's path.
fn name_of_before(root: &Path) -> String {
    let fnv = root
        .to_str()
        .unwrap()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    format!("{:08x}", (fnv >> 32) as u32 ^ fnv as u32)
}

#[test]
fn machines_of_a_home_of_an_older_vmint_stay_in_reach() {
    let home = Home::new();
    let name = name_of_before(&home.root().canonicalize().unwrap());
    symlink(home.runtime().join(&name), home.root().join("sockets")).unwrap();
    home.start("box");
    assert!(home.sockets()[0].parent().unwrap().ends_with(&name));
    let pids = home.pids("box");
    // It had no identity, and machines did not describe themselves.
    fs::remove_file(home.root().join("home.json")).unwrap();
    fs::remove_file(home.folder("box").join("machine.json")).unwrap();
    fs::remove_file(home.root().join("home.json")).unwrap();
    assert_eq!(home.sql("DELETE FROM settings WHERE key = 'home'"), 1);
    let listed = home.ok("ls");
    assert_eq!(listed.error(), "");
    assert_answers(&home, "box", pids);
    assert!(home.folder("box").join("machine.json").exists());
    // By another path it cannot be told by the name; but its machine runs in it.
    fs::remove_file(home.root().join("home.json")).unwrap();
    let link = Other::path(&home, "link");
    fs::create_dir(&link).unwrap();
    let mount = Command::new("mount")
        .arg("--bind")
        .args([home.root(), &link])
        .output();
    if mount.is_ok_and(|mount| mount.status.success()) {
        let outcome = at(&home, &link, "exec box -- echo here");
        let unmounted = Command::new("umount").arg(&link).output().unwrap();
        assert!(unmounted.status.success(), "{unmounted:?}");
        assert_eq!(outcome.text(), "here\n", "{outcome}");
    }
    fs::remove_dir(&link).unwrap();
    assert_answers(&home, "box", pids);
}

#[test]
fn a_runner_does_not_write_to_a_newer_database_and_still_ends_with_its_owner() {
    let home = Home::new();
    let words = "run --memory 128M -- sh -c".split(' ');
    let mut run = home.call(words.chain(["echo up; exec sleep 1000"])).start();
    run.says("up");
    home.start("box");
    home.ok("pool create p --image tiny --memory 128M --min 1 --max 1 --standby 0");
    let words = "with p -- sh -c".split(' ');
    let mut holder = home
        .call(words.chain(["echo lent; exec sleep 1000"]))
        .start();
    holder.says("lent");
    // A child that is about to become another program still looks like its parent.
    until(
        SOON,
        "there are three runners and three hypervisors",
        || home.processes().len() == 6,
    );
    let processes = home.processes();
    let version = home
        .column("SELECT user_version || '' FROM pragma_user_version")
        .remove(0);
    home.sql("PRAGMA user_version = 999");
    let before = home.column("SELECT record FROM machines ORDER BY id");
    run.signal(Signal::KILL);
    holder.signal(Signal::KILL);
    until(SOON, "the machines have ended with their owners", || {
        home.processes().len() == 2
    });
    assert_eq!(
        home.column("SELECT record FROM machines ORDER BY id"),
        before
    );
    home.sql(&format!("PRAGMA user_version = {version}"));
    home.ok("pool drain p");
    let left = home.json("ls --all");
    assert_eq!(names(&left), ["box"]);
    assert_eq!(home.json("lease ls"), serde_json::json!([]));
    assert!(
        processes
            .iter()
            .filter(|process| lives(process.pid))
            .count()
            == 2
    );
}

#[test]
fn an_older_database_with_runners_is_not_brought_up_to_date_under_them() {
    let home = Home::new();
    home.start("box");
    let (id, pids) = (
        home.info("box")["id"].as_str().unwrap().to_owned(),
        home.pids("box"),
    );
    let version = home
        .column("SELECT user_version || '' FROM pragma_user_version")
        .remove(0);
    home.sql("PRAGMA user_version = 4");
    let outcome = home.vmint("ls --format json");
    home.sql(&format!("PRAGMA user_version = {version}"));
    assert!(outcome.error().contains("pkill -f"), "{outcome}");
    let message = outcome.fault(1, "wrong_state");
    assert!(message.contains(&id), "{message}");
    assert_answers(&home, "box", pids);
}

/// Such a copy has neither a database nor disks of its own.
#[test]
fn a_copy_by_hard_links_is_refused_and_the_original_goes_on() {
    let home = Home::new();
    home.start("box");
    let pids = home.pids("box");
    let before = fs::read(home.root().join("home.json")).unwrap();
    let linked = Other::path(&home, "linked");
    // Files come and go in a home that is in use, and that is no failure here.
    let copied = Command::new("cp")
        .arg("-al")
        .args([home.root(), &linked])
        .output();
    copied.expect("cp can be started");
    for args in ["ls --format json", "gc --format json"] {
        let outcome = at(&home, &linked, args);
        assert!(outcome.error().contains("cp -a"), "{outcome}");
        outcome.fault(1, "wrong_state");
    }
    assert_eq!(fs::read(home.root().join("home.json")).unwrap(), before);
    assert_answers(&home, "box", pids);
    fs::remove_dir_all(&linked).unwrap();
    assert_answers(&home, "box", pids);
}
