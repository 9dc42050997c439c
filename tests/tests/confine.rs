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
    assert!(status.contains("CapEff:\t0000000000000400\n"), "{status}");
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
