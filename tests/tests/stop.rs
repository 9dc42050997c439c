//! How a machine is stopped: in order within its time, and by force only with a word about it.

use std::time::Duration;
use vmint_tests::seed::Seed;
use vmint_tests::{Home, processes, until};

const SOON: Duration = Duration::from_secs(20);

/// A guest that needs ten seconds: so long its init waits for a process that does not end when asked.
fn stubborn(home: &Home, name: &str) {
    home.start(name);
    ignore_the_end(home, name);
}

fn ignore_the_end(home: &Home, name: &str) {
    home.sh(
        name,
        "(trap '' TERM; touch /tmp/ready; while :; do sleep 1; done) >/dev/null 2>&1 &
        while [ ! -e /tmp/ready ]; do sleep 0.01; done",
    );
}

#[test]
fn a_stop_that_was_forced_says_so_everywhere_and_one_that_was_not_says_nothing() {
    let home = Home::new();
    stubborn(&home, "box");
    let stop = home.ok("stop box --timeout 300ms --format json");
    assert_eq!(stop.json()[0]["forced"], true, "{stop}");
    assert_eq!(stop.json()[0]["state"], "stopped", "{stop}");
    let said = stop.error();
    assert!(
        said.contains("warning") && said.contains("box") && said.contains("forced"),
        "{stop}"
    );
    let event = home.event("box", "stopped", SOON);
    let detail = event["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("and was forced"), "{event}");

    home.ok("start box");
    let stop = home.ok("stop box --format json");
    assert_eq!(stop.json()[0]["forced"], false, "{stop}");
    assert_eq!(stop.error(), "");
    assert!(home.info("box")["reason"].is_null());
    // One that is down was not forced down.
    assert_eq!(home.ok("stop box --format json").json()[0]["forced"], false);

    home.ok("start box");
    let stop = home.ok("stop box --force --format json");
    assert_eq!(stop.json()[0]["forced"], true, "{stop}");
    assert_eq!(stop.error(), "", "it was asked for");
}

#[test]
fn a_stop_that_is_forced_is_told_of_also_when_the_runner_cannot_be_reached() {
    let home = Home::new();
    stubborn(&home, "box");
    std::fs::remove_file(&home.sockets()[0]).unwrap();
    let stop = home.ok("stop box --timeout 300ms --format json");
    assert_eq!(stop.json()[0]["forced"], true, "{stop}");
    assert!(stop.error().contains("forced"), "{stop}");
}

#[test]
fn a_guest_that_is_only_to_be_asked_keeps_its_power() {
    let home = Home::new();
    stubborn(&home, "box");
    let (_, hypervisor) = home.pids("box");
    let stop = home.vmint("stop box --graceful-only --timeout 300ms --format json");
    let stop = stop.exits(1);
    let error = &stop.json()[0]["error"];
    assert_eq!(error["kind"], "guest", "{stop}");
    assert!(
        error["hint"].as_str().unwrap().contains("--force"),
        "{error}"
    );
    assert!(processes::lives(hypervisor));
    // It goes on shutting down, and gets there.
    home.ok("wait box --for stopped");
    let event = home.event("box", "stopped", SOON);
    assert!(event["detail"].is_null(), "{event}");
    home.ok("start box");
    let stop = home.ok("stop box --graceful-only --format json");
    assert_eq!(stop.json()[0]["forced"], false, "{stop}");
    home.vmint("stop box --graceful-only --force").exits(2);
}

#[test]
fn one_who_will_not_wait_can_force_what_another_waits_for() {
    let home = Home::new();
    stubborn(&home, "box");
    let patient = home
        .call("stop box --graceful-only --format json".split(' '))
        .start();
    until(SOON, "it is stopping", || home.state("box") == "stopping");
    home.ok("stop box --force");
    assert_eq!(patient.finish().ok().json()[0]["forced"], true);
}

#[test]
fn a_stop_that_takes_its_time_tells_what_it_waits_for() {
    let home = Home::new();
    stubborn(&home, "box");
    let stop = home.ok("stop box");
    assert!(
        stop.error().contains("waiting for box to shut down"),
        "{stop}"
    );
}

/// Its image says nothing else, so systemd gives a service 90 s.
#[test]
fn a_service_that_needs_its_time_has_it_and_its_disk_keeps_what_it_wrote() {
    let home = Home::with(Seed::Debian);
    home.ok("create box --image deb --memory 256M --start");
    home.sh(
        "box",
        "cat > /etc/systemd/system/slow.service <<'END'
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
ExecStop=/bin/sh -c 'sleep 14; echo saved > /root/saved'
END
        systemctl daemon-reload; systemctl start slow",
    );
    let stop = home
        .call(["stop", "box", "--format", "json"])
        .deadline(Duration::from_secs(120))
        .run()
        .ok();
    assert_eq!(stop.json()[0]["forced"], false, "{stop}");
    home.call(["start", "box"])
        .deadline(Duration::from_secs(200))
        .run()
        .ok();
    assert_eq!(home.sh("box", "cat /root/saved"), "saved");
}

/// From its first life on, in which journald was another machine's when it was forked.
#[test]
fn what_an_image_without_an_init_runs_has_its_time_too_and_one_that_ignores_the_end_is_told_of() {
    let home = Home::new();
    home.start("box");
    home.sh(
        "box",
        "(trap 'sleep 4; echo all is written > /dev/console; exit' TERM; touch /tmp/ready; while :; do sleep 1; done) \
            >/dev/null 2>&1 &
        while [ ! -e /tmp/ready ]; do sleep 0.01; done",
    );
    let stop = home.ok("stop box --format json");
    assert_eq!(stop.json()[0]["forced"], false, "{stop}");
    let log = home.ok("logs box").text();
    assert!(log.contains("all is written"), "{log}");
    assert!(!log.contains("are killed"), "{log}");

    home.ok("start box");
    ignore_the_end(&home, "box");
    home.ok("stop box");
    let log = home.ok("logs box").text();
    assert!(log.contains("10 s after SIGTERM"), "{log}");
}

#[test]
fn the_journal_of_a_machine_with_a_disk_that_stays_outlives_its_restart() {
    let home = Home::with(Seed::Debian);
    home.ok("create box --image deb --memory 256M --start");
    let own = "ls /var/log/journal/$(cat /etc/machine-id)/system.journal 2>/dev/null | wc -l";
    until(
        Duration::from_secs(60),
        "the journal is on the disk",
        || home.sh("box", own) == "1",
    );
    home.sh(
        "box",
        "echo remembered | systemd-cat -t mark; journalctl --sync",
    );
    home.ok("stop box");
    home.call(["start", "box"])
        .deadline(Duration::from_secs(200))
        .run()
        .ok();
    let before = home.sh("box", "journalctl --quiet --boot=-1 -t mark -o cat");
    assert_eq!(before, "remembered");
    // One that goes away writes none to its disk.
    let run = home.ok("run --image deb --memory 256M -- ls -A /var/log");
    assert!(!run.text().contains("journal"), "{run}");
}
