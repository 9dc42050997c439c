//! The command line as a contract: exit codes, JSON, help, completions, man pages, settings.

use serde_json::{Value, json};
use std::fs;
use std::time::{Duration, Instant};
use vmint_tests::seed::Seed;
use vmint_tests::{Home, Terminal, patient};

#[test]
fn wrong_usage_exits_with_2_and_of_commands_that_run_others_with_125() {
    let home = Home::with(Seed::Empty);
    for args in [
        "",
        "nonsense",
        "ls --nonsense",
        "create",
        "create Not_A_Name",
        "create -x",
        "info",
        "stop",
        "cp a",
        "cp a b",
        "cp box:/a other:/b",
        "wait x --for nonsense",
        "events --format xml",
        "snapshot",
        "completions nonsense",
        "config",
        "create x --publish 80:80",
        "create x --net wrong",
        "create x --publish a:b --net nat",
    ] {
        let outcome = home.vmint(args).exits(2);
        assert!(
            !outcome.stderr.is_empty() || args.is_empty(),
            "it says what is wrong: {outcome}"
        );
    }
    for args in [
        "run --nonsense",
        "exec",
        "exec x",
        "shell",
        "run --memory much -- true",
        "run --timeout soon -- true",
        "run --publish 1:2 -- true",
        "run -e =x -- true",
    ] {
        home.vmint(args).exits(125);
    }
    assert_eq!(
        home.vmint("nonsense").text(),
        "",
        "nothing on standard output"
    );
    let machines = home.root().join("machines");
    assert!(fs::read_dir(machines).map_or(0, Iterator::count) == 0);
}

#[test]
fn what_does_not_exist_exits_with_3_and_says_where_to_look() {
    let home = Home::with(Seed::Image);
    for args in [
        "start nobody",
        "stop nobody",
        "restart nobody",
        "pause nobody",
        "resume nobody",
        "rm nobody",
        "info nobody",
        "logs nobody",
        "wait nobody",
        "reset nobody",
        "restore nobody none",
        "fork nobody copy",
        "qmp nobody query-status",
        "snapshot create nobody s",
        "snapshot rm none",
        "image inspect none",
        "create x --from none",
        "cp nobody:/a .",
    ] {
        let outcome = home.vmint(args).exits(3);
        assert!(
            outcome.error().contains("nobody") || outcome.error().contains("none"),
            "{outcome}"
        );
    }
    home.vmint("exec nobody -- true").exits(125);
    home.vmint("shell nobody").exits(125);
    let error = home.vmint("info nobody --format json").exits(3).json();
    let error = error["error"].as_object().unwrap();
    assert_eq!(error["kind"], "not_found");
    assert!(
        error["message"].as_str().unwrap().contains("nobody") && error["hint"].is_string(),
        "{error:?}"
    );
}

#[test]
fn start_and_stop_may_be_repeated() {
    let home = Home::new();
    home.ok("create box --memory 128M");
    home.ok("stop box");
    home.ok("start box");
    let before = home.info("box");
    home.ok("start box");
    assert_eq!(home.info("box"), before);
    home.ok("stop box");
    home.ok("stop box");
    home.ok("stop box --force");
    assert_eq!(home.state("box"), "stopped");
    home.ok("rm box");
    home.vmint("rm box").exits(3);
}

#[test]
fn of_several_machines_the_failure_of_one_keeps_no_other() {
    let home = Home::new();
    home.start("a");
    home.start("c");
    let outcome = home.vmint("stop a nobody c --force --format json").exits(3);
    let states = outcome.json();
    assert_eq!(
        (&states[0]["state"], &states[2]["state"]),
        (&json!("stopped"), &json!("stopped")),
        "{outcome}"
    );
    assert_eq!(states[1]["error"]["kind"], "not_found", "{outcome}");
    home.vmint("rm a nobody c").exits(3);
    assert_eq!(home.json("ls --all"), json!([]));
}

#[test]
fn info_and_ls_give_what_the_contract_names() {
    const KEYS: [&str; 20] = [
        "id",
        "name",
        "state",
        "generation",
        "image",
        "template",
        "backend",
        "accelerator",
        "pool",
        "lease",
        "memory",
        "cpus",
        "addresses",
        "ports",
        "runner_pid",
        "hypervisor_pid",
        "created_at",
        "ready_ms",
        "net",
        "reason",
    ];
    let home = Home::new();
    home.ok("create down --memory 128M");
    home.ok("create up --memory 128M --net nat --publish 0:80 --start");
    let all = home.json("ls --all");
    let of = |name: &str| {
        all.as_array()
            .unwrap()
            .iter()
            .find(|m| m["name"] == name)
            .unwrap()
            .clone()
    };
    let (down, up) = (of("down"), of("up"));
    for machine in [&down, &up, &home.info("up")] {
        for key in KEYS {
            assert!(machine.get(key).is_some(), "{key} is missing in {machine}");
        }
    }
    assert_eq!(up, home.info("up"), "both say the same");
    assert_eq!(
        home.json("ls").as_array().unwrap().len(),
        1,
        "without --all those that are up"
    );
    let expected = json!({"state": "running", "generation": 1, "image": "tiny", "backend": "qemu", "pool": null, "lease": null,
        "memory": 128 << 20, "cpus": 1, "net": "nat", "reason": null});
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&up[key], value, "{key} of {up}");
    }
    assert_eq!(
        (&down["state"], &down["runner_pid"], &down["ready_ms"]),
        (&json!("created"), &Value::Null, &Value::Null)
    );
    assert!(
        up["addresses"][0].is_string() && up["ports"][0]["guest"] == 80,
        "{up}"
    );
    assert!(
        up["ports"][0]["host"].as_u64().is_some_and(|port| port > 0),
        "{up}"
    );
    let created = vmint_tests::home::time_ms(&up["created_at"]);
    assert!(
        (vmint_tests::home::now_ms() - created).abs() < 120e3
            && up["created_at"].as_str().unwrap().ends_with('Z'),
        "{up}"
    );
    assert!(
        up["ready_ms"]
            .as_f64()
            .is_some_and(|ms| ms > 0.0 && ms < 60e3),
        "{up}"
    );
    // Every figure names its accelerator.
    assert!(
        ["kvm", "tcg"].contains(&up["accelerator"].as_str().unwrap()),
        "{up}"
    );
    let (table, shown) = (home.ok("ls").text(), home.ok("info up").text());
    for text in [&table, &shown] {
        assert!(text.contains(up["accelerator"].as_str().unwrap()), "{text}");
    }
}

#[test]
fn json_goes_to_standard_output_alone() {
    let home = Home::with(Seed::Image);
    let build = home.ok("template build tiny --memory 128M --format json");
    assert!(
        build.json().is_object() && build.error().contains("booting tiny"),
        "progress goes to standard error: {build}"
    );
    let quiet = home.ok("template build tiny --memory 96M --quiet");
    assert_eq!(quiet.error(), "");
    for args in [
        "ls",
        "ls --all",
        "image ls",
        "template ls",
        "snapshot ls",
        "config show",
        "gc",
        "doctor",
    ] {
        assert!(!home.json(args).is_null(), "{args}");
    }
    let failed = home.vmint("start nobody --format json").exits(3);
    assert!(
        failed.json()[0]["error"]["kind"] == "not_found"
            || failed.json()["error"]["kind"] == "not_found",
        "{failed}"
    );
    // A command's output is its own: vmint's failures are said elsewhere.
    let run = home
        .vmint("run --image none --format json -- true")
        .exits(125);
    assert_eq!(run.text(), "");
}

#[test]
fn a_wait_that_ends_in_vain_exits_with_5_and_says_for_what_it_waited() {
    let home = Home::new();
    home.start("box");
    home.ok("wait box --timeout 5s");
    let outcome = home
        .vmint("wait box --for stopped --timeout 300ms --format json")
        .exits(5);
    let error = &outcome.json()["error"];
    let message = error["message"].as_str().unwrap();
    assert!(
        error["kind"] == "timed_out" && message.contains("stopped") && message.contains("running"),
        "{error}"
    );
    assert!(message.contains("300"), "for how long: {error}");
    let waiting = home
        .call("wait box --for stopped --timeout 20s".split(' '))
        .start();
    home.ok("stop box --force");
    waiting.finish().ok();
}

#[test]
fn colour_is_for_terminals_and_for_those_who_want_it() {
    let home = Home::with(Seed::Image);
    let escape = '\u{1b}';
    for args in ["ls", "--help", "nonsense", "doctor", "image ls"] {
        let outcome = home.call(args.split(' ')).env("NO_COLOR", "").run();
        assert!(
            !(outcome.error() + &outcome.text()).contains(escape),
            "not a terminal: {outcome}"
        );
    }
    let script = format!(
        "{} --help; echo done",
        vmint_tests::call::binary().display()
    );
    let environment = |no_color: &str| {
        let own = [("NO_COLOR".to_owned(), no_color.into())];
        home.environment()
            .into_iter()
            .chain(own)
            .collect::<Vec<_>>()
    };
    let mut plain = Terminal::start(&script, environment("1"), (80, 24));
    let seen = plain.shows("done", Duration::from_secs(10));
    assert!(!seen.contains(escape), "NO_COLOR is honoured: {seen:?}");
}

#[test]
fn help_is_there_for_every_command_and_says_what_for() {
    let home = Home::with(Seed::Empty);
    let help = home.ok("--help").text();
    let commands: Vec<_> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| {
            line.strip_prefix("  ")?
                .split(' ')
                .next()
                .filter(|word| !word.is_empty())
        })
        .collect();
    for wanted in [
        "run",
        "create",
        "start",
        "stop",
        "restart",
        "pause",
        "resume",
        "rm",
        "ls",
        "info",
        "exec",
        "shell",
        "cp",
        "logs",
        "wait",
        "reset",
        "snapshot",
        "restore",
        "fork",
        "qmp",
        "image",
        "template",
        "doctor",
        "gc",
        "events",
        "config",
        "completions",
    ] {
        assert!(
            commands.contains(&wanted),
            "{wanted} is not in {commands:?}"
        );
    }
    for command in commands.into_iter().filter(|command| *command != "help") {
        let outcome = home.ok(&format!("{command} --help"));
        assert!(outcome.text().contains("Usage: vmint"), "{outcome}");
    }
    assert!(home.ok("--version").text().starts_with("vmint "));
}

#[test]
fn completions_and_man_pages_are_generated() {
    let home = Home::with(Seed::Empty);
    for shell in ["bash", "zsh", "fish"] {
        let script = home.ok(&format!("completions {shell}")).text();
        assert!(
            script.contains("vmint") && script.contains("VMINT_COMPLETE"),
            "{shell}: {script}"
        );
    }
    let syntax = std::process::Command::new("bash")
        .args(["-n", "/dev/stdin"])
        .stdin(std::process::Stdio::piped())
        .spawn();
    let mut syntax = syntax.unwrap();
    std::io::Write::write_all(
        &mut syntax.stdin.take().unwrap(),
        &home.ok("completions bash").stdout,
    )
    .unwrap();
    assert!(syntax.wait().unwrap().success());
    let folder = home.runtime().join("man pages");
    home.call(["man", folder.to_str().unwrap()]).run().ok();
    for page in ["vmint.1", "vmint-run.1", "vmint-snapshot-create.1"] {
        let text = fs::read_to_string(folder.join(page)).unwrap_or_else(|e| panic!("{page}: {e}"));
        assert!(text.contains(".TH"), "{page}: {text}");
    }
}

fn sorted_words(line: &str) -> String {
    let mut words: Vec<_> = line.split(' ').collect();
    words.sort_unstable();
    words.join(" ")
}

/// As bash asks, with the lines that it was given.
#[test]
fn a_shell_completes_the_names_there_are() {
    let home = Home::new();
    home.ok("create box");
    home.ok("create boat --start");
    home.ok("snapshot create boat clean");
    let folder = home.runtime().join("bin");
    fs::create_dir_all(&folder).unwrap();
    std::os::unix::fs::symlink(vmint_tests::call::binary(), folder.join("vmint")).unwrap();
    let script = "source <(vmint completions bash)
        ask() {
            COMP_WORDS=(\"$@\") COMP_CWORD=$(($# - 1)) COMP_TYPE=9 COMPREPLY=()
            _clap_complete_vmint vmint \"${!#}\" ''
            echo \"${COMPREPLY[*]}\"
        }
        ask vmint exec bo
        ask vmint create again --from cl
        ask vmint run --image ti
        ask vmint cp bo
        ask vmint fork cl
        ask vmint pool re
        VMINT_HOME=/nonexistent ask vmint exec bo";
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let asked = home
        .program("bash", ["-c", script])
        .env("PATH", path)
        .run()
        .ok();
    let told = asked.text();
    let told: Vec<String> = told.lines().map(sorted_words).collect();
    assert_eq!(
        told,
        [
            "boat box",
            "clean",
            "tiny",
            "boat: box:",
            "clean",
            "resize",
            ""
        ]
    );
    home.ok("rm --force box boat");
    home.ok("snapshot rm clean");
}

#[test]
fn a_line_that_is_wrong_is_told_whole_as_json_with_a_remedy() {
    let home = Home::with(Seed::Empty);
    let error = |words: &[&str], code| {
        let outcome = home.call(words).run().exits(code);
        assert_eq!(outcome.text().lines().count(), 1, "{outcome}");
        outcome.json()["error"].clone()
    };
    let missing = error(&["start", "--format", "json"], 2);
    assert_eq!(
        missing["message"],
        "the following required arguments were not provided: <NAME>..."
    );
    assert!(
        missing["hint"]
            .as_str()
            .unwrap()
            .starts_with("Usage: vmint start"),
        "{missing}"
    );
    assert_eq!(
        error(&["--format", "json"], 2)["message"],
        "no command is given"
    );
    let negative = error(&["create", "box", "--memory", "-1", "--format", "json"], 2);
    assert!(
        negative["message"].as_str().unwrap().contains("'-1'"),
        "{negative}"
    );
    assert!(
        !negative["hint"].as_str().unwrap().contains("-- -1"),
        "{negative}"
    );
    let unknown = error(&["lss", "--format=json"], 2);
    assert!(
        unknown["hint"].as_str().unwrap().contains("'ls'"),
        "{unknown}"
    );
}

#[test]
fn lists_give_names_alone_where_nothing_but_results_is_wanted() {
    let home = Home::new();
    home.ok("create box");
    home.ok("create boat --start");
    home.ok("snapshot create boat clean");
    for (list, names) in [
        ("ls --all -q", "boat\nbox\n"),
        ("ls -q", "boat\n"),
        ("snapshot ls -q", "clean\n"),
        ("image ls -q", "tiny\n"),
        ("pool ls -q", ""),
        ("lease ls -q", ""),
    ] {
        let mut told: Vec<_> = home.ok(list).text().lines().map(str::to_owned).collect();
        told.sort();
        assert_eq!(told, names.lines().collect::<Vec<_>>(), "{list}");
    }
    let template = home.ok("template ls -q").text();
    let mut fingerprints = template.lines();
    assert!(
        fingerprints.all(|line| line.len() == 32 && line.chars().all(|c| c.is_ascii_hexdigit())),
        "{template}"
    );
    // What is asked to be pruned on trial is there afterwards.
    home.ok("image rm tiny");
    let trial = home.ok("image prune --dry-run").text();
    assert!(trial.contains("would be removed"), "{trial}");
    assert!(
        home.ok("template prune --dry-run")
            .text()
            .contains("would be removed")
    );
    assert_eq!(home.ok("template ls -q").text(), template);
    home.ok("rm --force box boat");
    home.ok("snapshot rm clean");
}

#[test]
fn what_can_be_seen_to_be_wrong_is_told_before_anything_is_made() {
    let home = Home::new();
    let refused = home.call(["run"]).run().exits(125);
    assert!(
        refused.error().contains("no command was given"),
        "{}",
        refused.error()
    );
    assert!(!refused.error().contains("booting"), "{}", refused.error());
    assert!(home.events("").is_empty() || home.rows().is_empty());
    home.vmint("snapshot ls nosuch").exits(3);
    home.ok("create box");
    assert_eq!(home.json("snapshot ls box"), serde_json::json!([]));
    home.vmint("create other --cpus 65").exits(2);
    home.call(["create", "other"])
        .env("VMINT_CPUS", "65")
        .run()
        .exits(2);
    home.call(["create", "other"])
        .env("VMINT_MEMORY", "2T")
        .run()
        .exits(2);
    let internal = home.vmint("runner").exits(2);
    assert!(
        internal.error().contains("is for vmint itself"),
        "{}",
        internal.error()
    );
    home.ok("rm box");
}

#[test]
fn a_lease_that_nobody_can_be_told_of_is_given_back() {
    let home = Home::new();
    home.ok("pool create ci --image tiny --min 1 --max 1");
    let script = format!(
        "'{}' lease acquire ci > /dev/full",
        vmint_tests::call::binary().display()
    );
    let outcome = home.program("sh", ["-c", &script]).run();
    assert_eq!(outcome.code, Some(1), "{outcome}");
    assert_eq!(home.json("lease ls"), serde_json::json!([]));
    home.ok("pool rm ci --force");
}

#[test]
fn a_wrong_vmint_toml_is_told_with_its_place_and_the_nearest_key() {
    let home = Home::new();
    let project = home.runtime().join("project");
    fs::create_dir_all(project.join("deep/er")).unwrap();
    let write = |text: &str| fs::write(project.join("vmint.toml"), text).unwrap();
    let call = |args: &str| {
        home.call(args.split(' '))
            .current_dir(project.join("deep/er"))
    };
    write("[defaults]\nmemroy = \"128M\"\n");
    let outcome = call("run --format json -- true").run();
    assert!(
        outcome.error().contains("memory"),
        "it names the nearest key: {outcome}"
    );
    let message = outcome.fault(125, "usage");
    assert!(
        message.contains("vmint.toml:2:1") && message.contains("memroy"),
        "{message}"
    );
    call("create x").run().exits(2);
    write("not toml");
    assert!(
        call("create x")
            .run()
            .exits(2)
            .error()
            .contains("vmint.toml:1")
    );

    write("[defaults]\nmemory = \"128M\"\ncpus = 2\n");
    assert_eq!(call("run -- nproc").run().ok().text(), "2\n", "found above");
    assert_eq!(
        call("run --cpus 1 -- nproc").run().ok().text(),
        "1\n",
        "flags win"
    );
    assert_eq!(
        call("run -- nproc")
            .env("VMINT_CPUS", "1")
            .run()
            .ok()
            .text(),
        "1\n",
        "environment wins over the file"
    );
    let shown = call("config show --format json")
        .env("VMINT_CPUS", "1")
        .run()
        .ok()
        .json();
    let setting = |key: &str| {
        shown
            .as_array()
            .unwrap()
            .iter()
            .find(|s| s["key"].as_str().unwrap().ends_with(key))
            .unwrap()
            .clone()
    };
    assert!(
        setting("defaults.memory")["source"]
            .to_string()
            .contains("vmint.toml"),
        "{shown}"
    );
    assert!(
        setting("defaults.cpus")["source"]
            .to_string()
            .contains("VMINT_CPUS"),
        "{shown}"
    );
}

#[test]
fn output_into_a_pipe_that_closes_ends_quietly() {
    let home = Home::new();
    let script = format!(
        "{} run --memory 128M -- yes | head -1",
        vmint_tests::call::binary().display()
    );
    let mut command = std::process::Command::new("sh");
    let began = Instant::now();
    let output = command
        .args(["-c", &script])
        .envs(home.environment())
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"y\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(began.elapsed() < patient(Duration::from_secs(20)));
    home.empties(Duration::from_secs(5));
}
