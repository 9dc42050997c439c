//! Whom a machine of a pool serves: the holder of its lease, at its generation, and nobody else.

use serde_json::Value;
use std::ffi::OsStr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use vmint_tests::call::binary;
use vmint_tests::fixture::Tarball;
use vmint_tests::processes::kill;
use vmint_tests::seed::Seed;
use vmint_tests::{Call, Home, Outcome, until};

const SOON: Duration = Duration::from_secs(30);

fn home(max: u32) -> Home {
    let home = Home::new();
    home.ok(&format!(
        "pool create p --image tiny --memory 128M --min 1 --max {max}"
    ));
    home
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().expect("a string").to_owned()
}

fn is_ready(home: &Home, generation: u64) -> bool {
    let query =
        format!("SELECT machine FROM slots WHERE state = 'ready' AND generation = {generation}");
    !home.column(&query).is_empty()
}

/// An owner that is neither this test nor descended from it in the eyes of `vmint`: a process beside it.
struct Stranger(Child);

impl Stranger {
    fn new() -> Self {
        let sleep = Command::new("sleep")
            .arg("1000")
            .stdin(Stdio::null())
            .spawn();
        Self(sleep.expect("there is a program sleep"))
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// All that reaches into a machine, or changes it.
fn reaching(machine: &str) -> Vec<String> {
    vec![
        format!("exec {machine} -- true"),
        format!("cp {machine}:/etc/hostname -"),
        format!("cp /etc/hostname {machine}:/left-by-a-stranger"),
        format!("shell {machine}"),
        format!("stop {machine} --force"),
        format!("restart {machine} --force"),
        format!("pause {machine}"),
        format!("resume {machine}"),
        format!("rm {machine}"),
        format!("reset {machine}"),
        format!("qmp {machine} query-status"),
        format!("snapshot create {machine} stolen"),
        format!("fork {machine} stolen"),
    ]
}

fn refused(outcome: &Outcome, kind: &str) {
    let said = outcome.error();
    assert_ne!(outcome.code, Some(0), "{outcome}");
    let told = match kind {
        "not_owner" => said.contains("is leased to") || said.contains("is not leased"),
        "lease_lost" => said.contains("has ended"),
        "stale_generation" => said.contains("is at generation"),
        _ => false,
    };
    assert!(told, "{kind}: {outcome}");
}

#[test]
fn a_machine_that_is_ready_serves_nobody_and_is_left_as_it_was() {
    let home = home(1);
    let lease = home.json("lease acquire p");
    let (machine, handle) = (text(&lease, "machine"), text(&lease, "handle"));
    assert_eq!(handle, format!("{machine}@1"));
    assert_eq!(home.sh(&handle, "echo held"), "held");
    // The owner's own descendants may use the bare name while the lease is out.
    assert_eq!(home.sh(&machine, "echo held"), "held");
    home.ok(&format!("lease release {}", text(&lease, "lease")));
    until(SOON, "the machine is fresh", || is_ready(&home, 2));
    for command in reaching(&machine) {
        refused(&home.vmint(&command), "not_owner");
    }
    for command in reaching(&handle) {
        refused(&home.vmint(&command), "stale_generation");
    }
    // To guess the generation of what nobody holds is of no use.
    for command in reaching(&format!("{machine}@2")) {
        refused(&home.vmint(&command), "not_owner");
    }
    home.vmint(&format!(
        "exec {machine} --lease {} -- true",
        text(&lease, "lease")
    ))
    .exits(125);
    home.vmint(&format!("reset {machine} --format json"))
        .fault(1, "not_owner");
    // Everybody may look.
    home.ok(&format!("info {machine}"));
    home.ok(&format!("logs {machine}"));
    home.ok("ls");
    assert!(is_ready(&home, 2));
    let next = home.json("lease acquire p");
    assert_eq!(next["generation"], 2);
    assert_eq!(
        home.sh(
            &text(&next, "handle"),
            "ls /left-by-a-stranger 2> /dev/null; echo clean"
        ),
        "clean"
    );
}

#[test]
fn a_leased_machine_serves_its_handle_and_its_lease_and_no_bare_name_of_strangers() {
    let home = home(1);
    let owner = Stranger::new();
    let lease = home.json(&format!("lease acquire p --owner-pid {}", owner.0.id()));
    let (machine, handle) = (text(&lease, "machine"), text(&lease, "handle"));
    let id = text(&lease, "lease");
    for command in reaching(&machine) {
        refused(&home.vmint(&command), "not_owner");
    }
    let other = home.vmint(&format!("exec {machine} --lease l0123456789abcdef -- true"));
    refused(&other, "not_owner");
    let by_lease = home.vmint(&format!("exec {machine} --lease {id} -- echo by lease"));
    assert_eq!(by_lease.ok().text().trim(), "by lease");
    let words = ["exec", &machine, "--", "echo", "by", "environment"];
    let by_variable = home.call(words).env("VMINT_LEASE", &id).run();
    assert_eq!(by_variable.ok().text().trim(), "by environment");
    home.ok(&format!("cp /etc/hostname {handle}:/mine"));
    home.ok(&format!("pause {handle}"));
    home.ok(&format!("resume {machine} --lease {id}"));
    // The lease follows its machine over a reset by its holder; the handle does not.
    home.ok(&format!("reset {handle}"));
    refused(
        &home.vmint(&format!("exec {handle} -- true")),
        "stale_generation",
    );
    home.ok(&format!("exec {machine}@2 -- true"));
    home.ok(&format!("exec {machine} --lease {id} -- true"));
    home.ok(&format!("lease release {id} --force"));
    let late = home.vmint(&format!("exec {machine} --lease {id} -- true"));
    refused(&late, "lease_lost");
    until(SOON, "the machine is fresh", || is_ready(&home, 3));
    // Who clears up needs no lease.
    home.ok(&format!("rm {machine} --force"));
}

#[test]
fn with_lends_to_its_command_and_whatever_that_starts() {
    let home = home(1);
    let script = "\"$VMINT_TEST\" exec $VMINT_MACHINE -- sh -c 'touch /mine' &&
        setsid \"$VMINT_TEST\" exec $VMINT_MACHINE -- ls /mine &&
        \"$VMINT_TEST\" reset $VMINT_MACHINE > /dev/null &&
        \"$VMINT_TEST\" exec $VMINT_MACHINE -- sh -c 'ls /mine 2> /dev/null; echo fresh'";
    let with = home
        .call(["with", "p", "--", "sh", "-c", script])
        .env("VMINT_TEST", binary());
    assert_eq!(with.run().ok().text().trim(), "/mine\nfresh");
}

/// A process that is alone in a PID namespace, as in a container, and shares the home.
fn unshared(home: &Home, script: &str) -> Outcome {
    in_container(home, script).run()
}

fn in_container(home: &Home, script: &str) -> Call {
    let mut words = Vec::new();
    if !rustix::process::geteuid().is_root() {
        words.extend(["--user", "--map-root-user"]);
    }
    words.extend(["--pid", "--fork", "--mount-proc", "--kill-child", "--"]);
    words.extend(["sh", "-c", script]);
    home.program("unshare", words).env("VMINT_TEST", binary())
}

#[test]
fn an_owner_in_another_pid_namespace_holds_its_lease_until_it_ends() {
    let home = home(1);
    // Longer than the runner takes to look at its owner.
    let script = "\"$VMINT_TEST\" with p -- sh -c 'test $$ -lt 100 && sleep 1.5 && \
        \"$VMINT_TEST\" exec $VMINT_MACHINE -- echo held'; \
        \"$VMINT_TEST\" with p -- sh -c 'kill -9 $$'; true";
    let outcome = unshared(&home, script);
    assert_eq!(outcome.clone().ok().text().trim(), "held", "{outcome}");
    until(SOON, "both leases have ended", || is_ready(&home, 3));
    let ends = home.column(
        "SELECT cause FROM events WHERE pool = 'p' AND to_state = 'resetting' ORDER BY sequence",
    );
    assert_eq!(ends, ["owner_ended", "owner_ended"]);
}

#[test]
fn an_owner_that_the_runner_cannot_see_is_refused_with_the_reason() {
    let home = Home::new();
    // The pool's machines are in the container, their owner is not.
    let script = "\"$VMINT_TEST\" pool create p --image tiny --memory 128M --min 1 --max 1 > /dev/null && \
        echo made && exec sleep 1000";
    let mut container = in_container(&home, script).start();
    container.says("made");
    // Either this command finds it, or the runner was faster and has ended the lease: the same to whoever reads it.
    for _ in 0..10 {
        let outcome = home.vmint("lease acquire p --format json");
        let error = outcome.clone().exits(4).error();
        assert!(error.contains("another PID namespace"), "{outcome}");
        assert!(error.contains("on the host itself"), "{outcome}");
    }
    // With the container's first process all others of it end.
    container.signal(rustix::process::Signal::KILL);
    let _ = container.finish();
    home.ok("pool rm p --force");
}

/// How the machine of this name comes to its end.
type End<'a> = &'a dyn Fn(&str);

#[test]
fn what_is_left_of_a_machine_that_dies_while_it_is_lent_is_kept_for_whoever_asked_and_nothing_else()
{
    let home = Home::with(Seed::Image);
    let tar = Tarball::busybox(&home)
        .folder("srv", 0o755)
        .write(&home, "root.tar");
    let words = ["image", "import", "disk", "--size", "64M"].map(OsStr::new);
    home.call(words.into_iter().chain([tar.as_os_str()]))
        .run()
        .ok();
    home.ok("pool create p --image disk --memory 128M --min 1 --max 1");
    let sh =
        |machine: &str, script: &str| home.call(["exec", machine, "--", "sh", "-c", script]).run();

    // The name must be free, and is asked for before anybody waits.
    home.ok("create taken --image disk --memory 128M");
    let refused = home.vmint("lease acquire p --keep-lost taken");
    let said = refused.error();
    assert!(
        said.contains("a machine with the name taken exists already"),
        "{said}"
    );
    home.ok("rm taken");

    // By its guest's own doing, at its second generation, and by the death of its runner.
    let ends: [(&str, End<'_>); 2] = [
        ("panic", &|machine| {
            sh(machine, "echo c > /proc/sysrq-trigger");
        }),
        ("killed", &|machine| {
            kill(home.pids(machine).0);
        }),
    ];
    for (name, end) in ends {
        let lease = home.json(&format!("lease acquire p --keep-lost {name}"));
        let (id, machine) = (text(&lease, "lease"), text(&lease, "machine"));
        sh(&machine, "echo evidence > /srv/evidence; sync").ok();
        end(&machine);
        until(SOON, "it is kept", || {
            home.vmint("ls");
            home.vmint(&format!("info {name}")).code == Some(0)
        });
        let kept = home.json(&format!("info {name}"));
        assert_eq!(
            (&kept["state"], &kept["pool"]),
            (&"failed".into(), &Value::Null),
            "{kept}"
        );
        let over = home.vmint(&format!("lease release {id}"));
        assert!(over.error().contains("its machine was lost"), "{over}");
        // As any other: it boots from the disk that it had.
        let console = home.ok(&format!("logs {name}"));
        assert!(
            name != "panic" || console.text().contains("sysrq"),
            "{console}"
        );
        home.ok(&format!("start {name}"));
        let found = home.ok(&format!("exec {name} -- cat /srv/evidence"));
        assert_eq!(found.text(), "evidence\n");
        home.ok(&format!("rm --force {name}"));
    }

    // Who does not ask keeps nothing, and neither does one whose machine lives.
    for asked in ["", "--keep-lost unused"] {
        let lease = home.json(&format!("lease acquire p {asked}"));
        let (id, machine) = (text(&lease, "lease"), text(&lease, "machine"));
        if asked.is_empty() {
            ends[0].1(&machine);
        } else {
            home.ok(&format!("lease release {id}"));
        }
        until(SOON, "the pool's machine is another one, or fresh", || {
            home.vmint("ls");
            let left = home.vmint(&format!("info {machine}")).code != Some(0);
            left || !asked.is_empty() && is_ready(&home, 2)
        });
    }
    let machines = home.json("ls --all");
    let machines = machines.as_array().expect("an array");
    assert!(
        machines.iter().all(|one| one["pool"] == "p"),
        "{machines:?}"
    );
}
