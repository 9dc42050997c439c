//! `VMINT_LOG`: the way of one command, by one id, through the process that asks, the ledger, and the runner.

use std::collections::BTreeSet;
use vmint_tests::{Home, Outcome};

/// Ids of traces in a log.
fn traces(log: &str) -> BTreeSet<String> {
    let ids = log.split("trace=").skip(1);
    ids.map(|rest| rest.chars().take_while(char::is_ascii_hexdigit).collect())
        .collect()
}

/// The one id of a command, by what it has logged.
fn trace(outcome: &Outcome) -> String {
    let (log, ids) = (outcome.error(), traces(&outcome.error()));
    assert_eq!(ids.len(), 1, "{log}");
    let id = ids.into_iter().next().expect("one");
    assert_eq!(id.len(), 16, "{log}");
    id
}

/// Lines that belong to a trace.
fn of<'a>(log: &'a str, id: &str) -> Vec<&'a str> {
    log.lines().filter(|line| line.contains(id)).collect()
}

fn logged(home: &Home, args: &str) -> Outcome {
    home.call(args.split(' '))
        .env("VMINT_LOG", "debug")
        .run()
        .ok()
}

#[test]
fn the_way_of_a_command_is_found_by_one_id_in_the_logs_of_both_processes() {
    let home = Home::new();
    let started = logged(&home, "create box --memory 128M --start");
    let asked = logged(&home, "exec box -e TOKEN=hush-hush -- sh -c true");
    let paused = logged(&home, "pause box");
    let ids = [&started, &asked, &paused].map(trace);
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 3, "{ids:?}");
    let runner = home.ok("logs box --runner").text();
    for (id, outcome, says) in [
        (&ids[0], &started, "up"),
        (&ids[1], &asked, "/v1/stream"),
        (&ids[2], &paused, "/v1/pause"),
    ] {
        let error = outcome.error();
        assert!(of(&error, id).len() > 1, "{error}");
        let lines = of(&runner, id);
        assert!(
            lines.iter().any(|line| line.contains(says)),
            "{id} {says}: {runner}"
        );
    }
    // What the task that owns the machine records for a request is found with it, and not the request alone.
    let lines = of(&runner, &ids[2]);
    let recorded = lines
        .iter()
        .any(|line| line.contains("the store has recorded"));
    assert!(recorded, "{runner}");
    // No argument, no variable.
    for secret in ["hush-hush", "TOKEN"] {
        assert!(!asked.error().contains(secret), "{}", asked.error());
        assert!(!runner.contains(secret), "{runner}");
    }
}

#[test]
fn what_the_ledger_does_for_a_command_carries_its_id() {
    let home = Home::new();
    home.ok("pool create ci --image tiny --memory 128M --min 1 --max 1");
    let lent = logged(&home, "with ci -- true");
    let (log, id) = (lent.error(), trace(&lent));
    let claims = of(&log, &id)
        .into_iter()
        .filter(|line| line.contains("claim"));
    assert_eq!(claims.count(), 1, "{log}");
    home.ok("pool rm ci --force");
}

#[test]
fn nothing_is_logged_unasked_and_a_wrong_level_is_told() {
    let home = Home::new();
    home.start("box");
    let quiet = home.ok("exec box -- true");
    assert_eq!(quiet.error(), "");
    let runner = home.ok("logs box --runner").text();
    assert_eq!(traces(&runner), BTreeSet::new(), "{runner}");
    let wrong = home.call(["ls"]).env("VMINT_LOG", "loud").run().exits(2);
    assert!(wrong.error().contains("VMINT_LOG"), "{}", wrong.error());
    assert!(wrong.error().contains("debug"), "{}", wrong.error());
}
