//! What a QEMU that was taken over can do to its host. Its code is taken over by a debugger, which makes system calls in it as
//! an attacker would; the same calls work in a QEMU that is not fenced in, so that their refusal says something.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;
use vmint_tests::Home;

/// A folder and a process that no machine has to do with.
struct Bystanders {
    folder: TempDir,
    process: Child,
}

impl Bystanders {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in ["key", "log", "precious"] {
            fs::write(folder.path().join(name), name).expect("it can be written");
        }
        let mut sleep = Command::new("sleep");
        let process = sleep.arg("1000").stdin(Stdio::null()).spawn();
        Self {
            folder,
            process: process.expect("sleep can be started"),
        }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn are_as_they_were(&mut self) {
        for name in ["key", "log", "precious"] {
            let text = fs::read_to_string(self.path(name)).expect("it is there");
            assert_eq!(text, name);
        }
        assert!(self.process.try_wait().unwrap().is_none(), "it was killed");
    }
}

impl Drop for Bystanders {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The descriptor of the memory file in a QEMU.
fn memory_descriptor(hypervisor: u32) -> u32 {
    let folder = PathBuf::from(format!("/proc/{hypervisor}/fd"));
    let mut entries = fs::read_dir(&folder).expect("its descriptors").flatten();
    let memory = entries.find(|entry| {
        let target = fs::read_link(entry.path()).unwrap_or_default();
        target.ends_with("ram")
    });
    let memory = memory.expect("it keeps its memory file open");
    memory.file_name().to_string_lossy().parse().unwrap()
}

/// Makes these calls in a process, and returns what each answered: -1 is a refusal.
fn injected(process: u32, calls: &[(&str, String)]) -> BTreeMap<String, i64> {
    let mut script = String::from("set confirm off\nset auto-load off\n");
    for (name, call) in calls {
        writeln!(script, "printf \"> {name}: %d\\n\", (int){call}").unwrap();
    }
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    fs::write(file.path(), script).expect("it can be written");
    let mut gdb = Command::new("gdb");
    let output = gdb
        .args(["-batch", "-nx", "-p", &process.to_string(), "-x"])
        .arg(file.path())
        .stdin(Stdio::null())
        // Should it crash itself, its core is no file of this repository.
        .current_dir(std::env::temp_dir())
        .output()
        .expect("gdb is installed (scripts/setup --tests)");
    let text = String::from_utf8_lossy(&output.stdout);
    let answers: BTreeMap<String, i64> = text
        .lines()
        .filter_map(|line| {
            let (name, answer) = line.strip_prefix("> ")?.rsplit_once(": ")?;
            Some((name.to_owned(), answer.parse().ok()?))
        })
        .collect();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(answers.len(), calls.len(), "{text}\n{error}");
    answers
}

/// The calls of somebody who wants out.
fn attack(home: &Home, hypervisor: u32, others: &Bystanders) -> BTreeMap<String, i64> {
    let own_home = home.root().display();
    let (key, log, precious) = (
        others.path("key"),
        others.path("log"),
        others.path("precious"),
    );
    let (victim, ram) = (others.process.id(), memory_descriptor(hypervisor));
    let made = others.path("made");
    let calls = [
        ("read a file", format!("open(\"{key}\", 0)")),
        ("open a file to append", format!("open(\"{log}\", 02001)")),
        ("create a file", format!("open(\"{made}\", 0101, 0600)")),
        ("link a file", format!("link(\"{key}\", \"{made}\")")),
        ("unlink a file", format!("unlink(\"{precious}\")")),
        (
            "open the database",
            format!("open(\"{own_home}/vmint.db\", 2)"),
        ),
        ("list the home", format!("open(\"{own_home}\", 0200000)")),
        ("have a unix socket", "socket(1, 1, 0)".into()),
        ("signal another process", format!("kill({victim}, 0)")),
        (
            "trace another process",
            format!("ptrace(0x4206, {victim}, 0, 0)"),
        ),
        // Of no byte and no time: what works must leave the memory whole, which other tests share.
        (
            "write to the memory file",
            format!("pwrite({ram}, \"\", 0, 0)"),
        ),
        (
            "reopen the memory file",
            format!("open(\"/proc/self/fd/{ram}\", 2)"),
        ),
        ("have io_uring", "syscall(425, 4, 0)".into()),
        ("have userfaultfd", "syscall(323, 0)".into()),
        ("load a BPF program", "syscall(321, 0, 0, 0)".into()),
    ];
    injected(hypervisor, &calls)
}

#[test]
fn a_qemu_that_was_taken_over_reaches_nothing_of_its_host() {
    let home = Home::new();
    for net in ["none", "nat"] {
        home.ok(&format!("create taken --memory 128M --net {net} --start"));
        home.ok(&format!("create sibling --memory 128M --net {net} --start"));
        let (_, hypervisor) = home.pids("taken");
        let mut others = Bystanders::new();
        let answers = attack(&home, hypervisor, &others);
        let worked: Vec<_> = answers.iter().filter(|(_, answer)| **answer >= 0).collect();
        assert!(worked.is_empty(), "with network {net}: {worked:?}");
        others.are_as_they_were();
        if net == "none" {
            let calls = [("have a socket", "socket(2, 1, 0)".to_owned())];
            let answers = injected(hypervisor, &calls);
            assert_eq!(answers["have a socket"], -1);
        }
        // Both are none the worse for it, nor is the next fork.
        for machine in ["taken", "sibling"] {
            home.ok(&format!("exec {machine} -- true"));
        }
        home.ok(&format!("run --memory 128M --net {net} -- true"));
        home.ok("rm --force taken sibling");
    }
}

#[test]
fn a_qemu_that_is_not_fenced_in_reaches_its_host_and_that_is_shown() {
    let mut home = Home::new();
    home.set_env("VMINT_CONFINE", "off");
    home.ok("create free --memory 128M --start");
    let (_, hypervisor) = home.pids("free");
    let others = Bystanders::new();
    let answers = attack(&home, hypervisor, &others);
    for call in [
        "read a file",
        "open a file to append",
        "create a file",
        "open the database",
        "list the home",
        "signal another process",
        "write to the memory file",
    ] {
        assert!(answers[call] >= 0, "{call}: {answers:?}");
    }
    let info = home.ok("info free --format json").json();
    assert_eq!(info["confinement"]["files"], false, "{info}");
    let doctor = home.ok("doctor").text();
    assert!(doctor.contains("off, as the settings say"), "{doctor}");
    home.ok("rm --force free");
}

#[test]
fn the_level_that_holds_is_shown_and_can_be_required() {
    let mut home = Home::new();
    home.ok("create box --memory 128M --start");
    let info = home.ok("info box --format json").json();
    let level = &info["confinement"];
    for part in ["files", "memory", "signals", "calls", "no_capabilities"] {
        assert_eq!(level[part], true, "{part}: {info}");
    }
    let shown = home.ok("info box").text();
    assert!(
        shown.contains("files, shared memory"),
        "the level is not shown: {shown}"
    );
    home.ok("stop box");
    let stopped = home.ok("info box --format json").json();
    assert!(stopped["confinement"].is_null(), "{stopped}");
    home.set_env("VMINT_CONFINE", "require");
    home.ok("start box");
    home.ok("rm --force box");
    let off = home.ok("--confine off run --memory 128M -- true");
    assert_eq!(off.error(), "");
    home.set_env("VMINT_CONFINE", "perhaps");
    let refused = home.call(["config", "show"]).run().exits(2);
    assert!(
        refused.error().contains("best, require or off"),
        "{refused}"
    );
}

#[test]
fn a_port_below_1024_can_still_be_published_by_root() {
    if !rustix::process::geteuid().is_root() {
        println!("NOT TESTED: this user may not bind such ports");
        return;
    }
    let home = Home::new();
    home.ok("create web --memory 128M --net nat --publish 991:80 --start");
    let (_, hypervisor) = home.pids("web");
    let status = fs::read_to_string(format!("/proc/{hypervisor}/status")).expect("it lives");
    // The runner has opened it, before it was fenced in: QEMU has no capability for that.
    assert!(status.contains("CapEff:\t0000000000000000\n"), "{status}");
    assert!(std::net::TcpStream::connect(("127.0.0.1", 991)).is_ok());
    home.ok("rm --force web");
}

#[test]
fn a_checkout_cannot_turn_it_off() {
    let home = Home::new();
    let project = tempfile::tempdir().expect("a temporary folder");
    let settings = project.path().join("vmint.toml");
    fs::write(&settings, "confine = \"off\"\n").expect("it can be written");
    let refused = home
        .call(["config", "show"])
        .current_dir(project.path())
        .run()
        .exits(2);
    assert!(refused.error().contains("VMINT_CONFINE"), "{refused}");
    fs::write(&settings, "confine = \"require\"\n").expect("it can be written");
    home.call(["config", "show"])
        .current_dir(project.path())
        .run()
        .ok();
}

/// The calls of somebody who wants out of a runner, by their numbers: a program in Rust has functions of its own by such names. What
/// it may reach is its machine's folder and the database.
fn attack_runner(home: &Home, sibling: &str, others: &Bystanders) -> Vec<(&'static str, String)> {
    let (root, sibling) = (home.root().display(), home.folder(sibling));
    let sibling = sibling.display();
    let (key, log, precious) = (
        others.path("key"),
        others.path("log"),
        others.path("precious"),
    );
    let (victim, made) = (others.process.id(), others.path("made"));
    let template = fs::read_dir(home.root().join("templates"))
        .expect("there are templates")
        .filter_map(|entry| Some(entry.ok()?.path().join("ram")))
        .find(|ram| ram.exists())
        .expect("one has memory");
    let template = template.display();
    vec![
        ("read a file", format!("syscall(2, \"{key}\", 0)")),
        (
            "open a file to append",
            format!("syscall(2, \"{log}\", 02001)"),
        ),
        (
            "create a file",
            format!("syscall(2, \"{made}\", 0101, 0600)"),
        ),
        ("link a file", format!("syscall(86, \"{key}\", \"{made}\")")),
        ("unlink a file", format!("syscall(87, \"{precious}\")")),
        ("list the home", format!("syscall(2, \"{root}\", 0200000)")),
        (
            "open another machine's log",
            format!("syscall(2, \"{sibling}/console.log\", 1)"),
        ),
        (
            "make a file for another machine",
            format!("syscall(2, \"{sibling}/made\", 0101, 0600)"),
        ),
        (
            "remove another machine's file",
            format!("syscall(87, \"{sibling}/lock\")"),
        ),
        (
            "open a template's memory to write",
            format!("syscall(2, \"{template}\", 2)"),
        ),
        (
            "set the kernel",
            "syscall(2, \"/proc/sys/kernel/core_pattern\", 1)".into(),
        ),
    ]
    .into_iter()
    .chain([
        (
            "trace another process",
            format!("syscall(101, 0x4206, {victim}, 0, 0)"),
        ),
        ("mount", "syscall(165, \"/\", \"/mnt\", 0, 4096, 0)".into()),
        ("have a namespace", "syscall(272, 0x10000000)".into()),
        ("have io_uring", "syscall(425, 4, 0)".into()),
        ("have userfaultfd", "syscall(323, 0)".into()),
        ("load a BPF program", "syscall(321, 0, 0, 0)".into()),
        ("signal all", "syscall(62, -1, 0)".into()),
        ("have a unix stream", "syscall(41, 1, 1, 0)".into()),
        ("have a packet socket", "syscall(41, 17, 3, 0)".into()),
    ])
    .collect()
}

/// Those that no list of calls can refuse, but Landlock does.
const OF_FILES: usize = 11;

#[test]
fn a_runner_that_was_taken_over_reaches_its_machine_and_nothing_else() {
    let home = Home::new();
    for net in ["none", "nat"] {
        home.ok(&format!("create taken --memory 128M --net {net} --start"));
        home.ok(&format!("create sibling --memory 128M --net {net} --start"));
        let (runner, _) = home.pids("taken");
        let mut others = Bystanders::new();
        let (own, victim) = (home.folder("taken"), others.process.id());
        let own = own.display();
        let mut calls = attack_runner(&home, "sibling", &others);
        // Frozen files of its own folder are those of others, too.
        calls.extend([
            (
                "open shared memory to write",
                format!("syscall(2, \"{own}/origin/ram\", 2)"),
            ),
            (
                "make it writable",
                format!("syscall(90, \"{own}/origin/ram\", 0600)"),
            ),
            (
                "make a device",
                format!("syscall(133, \"{own}/device\", 020666, 0x103)"),
            ),
            (
                "make a link",
                format!("syscall(88, \"/etc\", \"{own}/etc\")"),
            ),
            (
                "signal another process",
                format!("syscall(62, {victim}, 0)"),
            ),
            (
                "read another process",
                format!("syscall(2, \"/proc/{victim}/environ\", 0)"),
            ),
        ]);
        if net == "none" {
            calls.push(("have an inet socket", "syscall(41, 2, 1, 0)".into()));
        } else {
            let address =
                "\\002\\000\\037\\220\\177\\000\\000\\001\\000\\000\\000\\000\\000\\000\\000\\000";
            calls.push((
                "bind a port",
                format!("syscall(49, (int)syscall(41, 2, 1, 0), \"{address}\", 16)"),
            ));
        }
        let answers = injected(runner, &calls);
        let worked: Vec<_> = answers.iter().filter(|(_, answer)| **answer >= 0).collect();
        assert!(worked.is_empty(), "with network {net}: {worked:?}");
        others.are_as_they_were();
        // It is none the worse for it, and can do all that it is for.
        home.ok("snapshot create taken s");
        home.ok("restore taken s");
        home.ok("reset taken");
        for machine in ["taken", "sibling"] {
            home.ok(&format!("exec {machine} -- true"));
        }
        home.ok("rm --force taken sibling");
        home.ok("snapshot rm s");
    }
}

#[test]
fn a_runner_that_is_not_fenced_in_reaches_its_host_and_that_is_shown() {
    let mut home = Home::new();
    home.set_env("VMINT_CONFINE", "off");
    home.ok("create free --memory 128M --start");
    home.ok("create sibling --memory 128M --start");
    let (runner, _) = home.pids("free");
    let others = Bystanders::new();
    let mut calls = attack_runner(&home, "sibling", &others);
    // It would work, and the sibling be lost.
    calls.retain(|(name, _)| *name != "remove another machine's file");
    let answers = injected(runner, &calls);
    for call in [
        "read a file",
        "open a file to append",
        "unlink a file",
        "list the home",
        "open another machine's log",
        "have a unix stream",
        "signal all",
    ] {
        assert!(answers[call] >= 0, "{call}: {answers:?}");
    }
    let info = home.info("free");
    assert_eq!(info["runner_confinement"]["files"], false, "{info}");
    home.ok("rm --force free sibling");
}

#[test]
fn on_an_older_kernel_what_it_has_holds_and_is_shown() {
    let newest = Home::new();
    newest.ok("create box --memory 128M --start");
    let newest_level = newest.info("box")["confinement"]["landlock"]
        .as_u64()
        .unwrap();
    newest.ok("rm --force box");
    for version in 0..newest_level {
        let mut home = Home::new();
        home.set_env("VMINT_LANDLOCK", version.to_string());
        home.ok("create box --memory 128M --start");
        home.ok("create sibling --memory 128M --start");
        let info = home.info("box");
        assert_eq!(info["confinement"]["landlock"], version, "{info}");
        // The first version of Landlock allows no links, which a runner lives by.
        let of_runner = if version == 1 { 0 } else { version };
        assert_eq!(info["runner_confinement"]["landlock"], of_runner, "{info}");
        let (runner, hypervisor) = home.pids("box");
        let mut others = Bystanders::new();
        let calls = attack_runner(&home, "sibling", &others);
        let calls = if of_runner == 0 {
            &calls[OF_FILES..]
        } else {
            &calls[..]
        };
        let answers = injected(runner, calls);
        let worked: Vec<_> = answers.iter().filter(|(_, answer)| **answer >= 0).collect();
        assert!(worked.is_empty(), "runner at {version}: {worked:?}");
        let mut answers = attack(&home, hypervisor, &others);
        if version == 0 {
            // Without it, what root may open can be opened.
            for call in [
                "read a file",
                "open a file to append",
                "create a file",
                "unlink a file",
                "open the database",
                "list the home",
            ] {
                assert!(answers.remove(call).unwrap() >= 0, "{call}");
            }
            fs::write(others.path("precious"), "precious").unwrap();
        }
        let worked: Vec<_> = answers.iter().filter(|(_, answer)| **answer >= 0).collect();
        assert!(worked.is_empty(), "QEMU at {version}: {worked:?}");
        others.are_as_they_were();
        home.ok("snapshot create box s");
        home.ok("restore box s");
        home.ok("exec box -- true");
        home.ok("rm --force box sibling");
    }
}

#[test]
fn what_is_required_and_cannot_be_had_is_an_error_that_names_it() {
    let mut home = Home::new();
    home.set_env("VMINT_CONFINE", "require");
    for (version, memory, what) in [
        // A template is there: the runner is what cannot be fenced in.
        ("0", "128M", "cannot confine the runner"),
        ("1", "128M", "Landlock 2"),
        // None is: QEMU is booted by the command itself.
        ("0", "160M", "cannot confine QEMU"),
    ] {
        home.set_env("VMINT_LANDLOCK", version);
        let refused = home.call(["run", "--memory", memory, "--", "true"]).run();
        let refused = refused.exits(125);
        assert!(refused.error().contains(what), "{refused}");
        assert!(refused.error().contains("Landlock"), "{refused}");
    }
    let doctor = home.vmint("doctor").text();
    assert!(doctor.contains("runner-confinement"), "{doctor}");
    assert_eq!(home.processes(), []);
}

#[test]
fn qemu_runs_as_another_user_who_reaches_none_of_its_files() {
    if !rustix::process::geteuid().is_root() {
        println!("NOT TESTED: only root can run QEMU as another user");
        return;
    }
    let mut home = Home::new();
    let uid = String::from_utf8(
        Command::new("id")
            .args(["-u", "nobody"])
            .output()
            .unwrap()
            .stdout,
    );
    let uid = uid.unwrap().trim().to_owned();
    for confine in ["best", "off"] {
        home.set_env("VMINT_CONFINE", confine);
        home.set_env("VMINT_RUN_AS", "nobody");
        home.ok("create box --memory 128M --net nat --publish 0:80 --start");
        let (runner, hypervisor) = home.pids("box");
        let status = fs::read_to_string(format!("/proc/{hypervisor}/status")).expect("it lives");
        let ids = format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}\n");
        assert!(status.contains(&ids), "{status}");
        assert!(status.contains("Groups:\t \n"), "{status}");
        assert!(status.contains("CapEff:\t0000000000000000\n"), "{status}");
        assert_eq!(home.info("box")["run_as"], "nobody");
        let ram = home.folder("box").join("origin/ram").display().to_string();
        let calls = [("open its memory file", format!("open(\"{ram}\", 0)"))];
        let answers = injected(hypervisor, &calls);
        assert!(answers.values().all(|answer| *answer < 0), "{answers:?}");
        home.sh("box", "echo kept >/tmp/file");
        home.ok("snapshot create box s");
        home.ok("restore box s");
        assert_eq!(home.sh("box", "cat /tmp/file"), "kept");
        home.ok("reset box");
        home.ok("exec box -- true");
        // It ends with its runner, though it is another user's.
        let (_, hypervisor) = home.pids("box");
        let runner = rustix::process::Pid::from_raw(i32::try_from(runner).unwrap()).unwrap();
        rustix::process::kill_process(runner, rustix::process::Signal::KILL).unwrap();
        vmint_tests::wait::until(
            std::time::Duration::from_secs(10),
            "QEMU has ended with its runner",
            || !vmint_tests::processes::lives(hypervisor),
        );
        home.ok("rm --force box");
        home.ok("snapshot rm s");
        // A template is made as that user, too; and what has a disk boots and forks.
        home.ok("run --memory 144M -- true");
        home.ok("create cold --cold --memory 128M --start");
        home.ok("exec cold -- true");
        home.ok("rm --force cold");
        // A port that is root's: it was opened by the runner.
        home.ok("run --memory 128M --net nat --publish 990:80 -- true");
    }
    for (user, what) in [
        ("no-such-user", "no user `no-such-user`"),
        ("root", "is root"),
    ] {
        let refused = home.call(["--run-as", user, "run", "--", "true"]).run();
        assert!(refused.error().contains(what), "{refused}");
    }
}

#[test]
fn a_checkout_cannot_choose_a_user() {
    let home = Home::new();
    let project = tempfile::tempdir().expect("a temporary folder");
    let settings = project.path().join("vmint.toml");
    fs::write(&settings, "run-as = \"nobody\"\n").expect("it can be written");
    let refused = home
        .call(["config", "show"])
        .current_dir(project.path())
        .run();
    assert!(refused.exits(2).error().contains("VMINT_RUN_AS"));
}
