//! What is in use is not removed, and nothing is given up before what replaces it is there: commands that remove beside commands
//! that use, in many rounds, the one first in half of them and the other first in the others.

use serde_json::json;
use std::fs;
use vmint_tests::{Home, Outcome};

const ROUNDS: usize = 40;

/// Makes two calls at once, in turns the one or the other first; gives their outcomes in the order of the arguments.
fn beside(home: &Home, round: usize, one: &str, other: &str) -> (Outcome, Outcome) {
    let calls = if round.is_multiple_of(2) {
        [one, other]
    } else {
        [other, one]
    };
    let mut outcomes = home.at_once(calls).into_iter();
    let (first, second) = (outcomes.next().unwrap(), outcomes.next().unwrap());
    if round.is_multiple_of(2) {
        (first, second)
    } else {
        (second, first)
    }
}

#[test]
fn a_snapshot_that_is_removed_beside_a_restore_costs_no_machine() {
    let home = Home::new();
    home.start("box");
    let mut restored = 0;
    for round in 0..ROUNDS {
        home.sh("box", &format!("echo {round} > /tmp/round"));
        home.ok("snapshot create box s");
        home.sh("box", "echo later > /tmp/round");
        let (restore, rm) = beside(
            &home,
            round,
            "restore box s --format json",
            "snapshot rm s --format json",
        );
        rm.ok();
        let now = home.sh("box", "cat /tmp/round");
        if restore.code == Some(0) {
            restored += 1;
            assert_eq!(now, round.to_string(), "{restore}");
        } else {
            restore.fault(3, "not_found");
            assert_eq!(now, "later");
        }
    }
    println!("{restored} of {ROUNDS} were restored");
    assert!(home.folder("box").exists());
}

#[test]
fn forks_of_a_snapshot_that_is_removed_all_come_up_or_none_does() {
    let home = Home::new();
    home.start("box");
    home.sh("box", "echo kept > /tmp/file");
    for round in 0..ROUNDS / 4 {
        home.ok("snapshot create box s");
        let (fork, rm) = beside(
            &home,
            round,
            "fork s child --count 3 --format json",
            "snapshot rm s",
        );
        rm.ok();
        if fork.code == Some(0) {
            for name in ["child-1", "child-2", "child-3"] {
                assert_eq!(home.sh(name, "cat /tmp/file"), "kept");
            }
            home.ok("rm --force child-1 child-2 child-3");
        } else {
            fork.fault(3, "not_found");
            assert_eq!(home.rows(), ["box"]);
        }
    }
}

#[test]
fn a_machine_starts_though_its_template_is_removed_at_that_moment() {
    let home = Home::new();
    // A template is made anew in many of them.
    for round in 0..ROUNDS / 4 {
        let (run, _rm) = beside(
            &home,
            round,
            "run --memory 128M -- echo works",
            "template rm tiny",
        );
        assert_eq!(run.ok().text(), "works\n");
    }
}

#[test]
fn a_machine_that_was_never_started_outlives_the_snapshot_that_it_was_created_from() {
    let home = Home::new();
    home.start("box");
    home.sh("box", "echo kept > /tmp/file");
    home.ok("snapshot create box s");
    home.ok("create early --from s");
    home.ok("create other --from s");
    // As an older vmint left them: without links of their own.
    fs::remove_dir_all(home.folder("other").join("source")).unwrap();
    home.ok("snapshot rm s");
    home.ok("rm --force box");
    for name in ["early", "other"] {
        home.ok(&format!("start {name}"));
        assert_eq!(home.sh(name, "cat /tmp/file"), "kept");
        home.sh(name, "rm /tmp/file");
        home.ok(&format!("reset {name}"));
        assert_eq!(home.sh(name, "cat /tmp/file"), "kept");
        assert!(!home.folder(name).join("source").exists());
    }
    home.vmint("create late --from s --format json")
        .fault(3, "not_found");
}

#[test]
fn an_image_that_a_pool_is_made_of_stays() {
    let home = Home::new();
    home.ok("pool create ci --image tiny --memory 128M --min 1 --max 1");
    let message = home.vmint("image rm tiny --format json").values().remove(0);
    assert_eq!(message["error"]["kind"], "wrong_state", "{message}");
    assert!(
        message["error"]["message"].as_str().unwrap().contains("ci"),
        "{message}"
    );
    home.ok("pool resize ci --min 2 --max 2");
    assert_eq!(home.rows().len(), 2);
    home.ok("pool rm ci");
    home.ok("image rm tiny");
    assert_eq!(home.json("image ls"), json!([]));
    for round in 0..ROUNDS / 4 {
        // Whoever of the two is first: there is no pool without its image.
        home.ok("template build tiny --memory 128M");
        let (pool, rm) = beside(
            &home,
            round,
            "pool create ci --image tiny --memory 128M --min 1 --max 1 --format json",
            "image rm tiny",
        );
        if pool.code == Some(0) {
            home.ok("pool resize ci --min 2 --max 2");
            home.ok("pool rm ci");
        } else {
            pool.fault(3, "not_found");
            rm.ok();
            assert_eq!(home.pools(), [] as [String; 0]);
        }
    }
}

#[test]
fn a_pool_that_cannot_grow_is_not_said_to_be_larger() {
    let home = Home::new();
    home.ok("pool create ci --image tiny --memory 128M --min 1 --max 1");
    // Behind vmint's back, and with it what it could be built of.
    let images = home.root().join("images");
    for entry in fs::read_dir(images.join("refs")).unwrap().flatten() {
        fs::write(entry.path(), "{").unwrap();
    }
    for kind in ["kernels", "busybox"] {
        fs::remove_dir_all(images.join(kind)).unwrap();
    }
    let resize = home
        .call("pool resize ci --min 2 --max 2 --format json".split(' '))
        .env("http_proxy", "http://127.0.0.1:9")
        .env("https_proxy", "http://127.0.0.1:9")
        .env("PATH", "/nowhere")
        .run();
    assert_ne!(resize.code, Some(0), "{resize}");
    let status = home.json("pool status ci");
    assert_eq!(status["max"], 1, "{status}");
}
