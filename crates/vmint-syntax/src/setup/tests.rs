use super::probe::{Inventory, ProbeError, Program, SCRIPT, environment};
use super::version::Version;
use super::*;
use proptest::prelude::*;
use std::process::Command;

fn tool(action: &str) -> &'static Tool {
    Tool::of(action).unwrap()
}

fn takes(action: &str, wanted: &str, version: &str) -> bool {
    tool(action)
        .wanted(wanted)
        .takes(&Version::parse(version).unwrap())
}

#[test]
fn ranges_take_what_npm_s_take() {
    for (range, yes, no) in [
        ("3.11", "3.11.9", "3.12.0"),
        ("3.x", "3.12.1", "4.0.0"),
        (">=3.9 <3.13", "3.12.9", "3.13.0"),
        (">=3.9, <3.13", "3.9.0", "3.8.18"),
        (">= 3.10", "4.0.0", "3.9.9"),
        ("3.11.4", "3.11.4", "3.11.5"),
        ("^3.9", "3.14.0", "4.0.0"),
        ("^0.2.3", "0.2.9", "0.3.0"),
        ("~3.11.2", "3.11.9", "3.12.0"),
        ("~3", "3.99.0", "4.0.0"),
        ("3.8 || 3.11 - 3.12", "3.12.7", "3.9.0"),
        ("<=3.11", "3.11.9", "3.12.0"),
        (">3.11", "3.12.0", "3.11.9"),
        ("3.11.x", "3.11.0", "3.10.0"),
    ] {
        assert!(
            takes("actions/setup-python", range, yes),
            "{range} does not take {yes}"
        );
        assert!(
            !takes("actions/setup-python", range, no),
            "{range} takes {no}"
        );
    }
    assert!(!takes("actions/setup-python", "3.13", "3.13.0rc1"));
    for unknown in ["pypy3.10", "", ">=", "3..1", "99999999999999999999", "a.b"] {
        assert_eq!(
            tool("actions/setup-python").wanted(unknown),
            version::Wanted::Unknown,
            "{unknown}"
        );
    }
}

#[test]
fn each_action_has_names_of_its_own() {
    for (action, wanted, yes, no) in [
        ("actions/setup-node", "20", "20.11.1", "21.0.0"),
        ("actions/setup-node", "v20.11", "20.11.1", "20.12.0"),
        ("actions/setup-node", "lts/*", "22.1.0", "23.1.0"),
        ("actions/setup-node", "lts/Iron", "20.1.0", "22.1.0"),
        ("actions/setup-go", "stable", "1.22.1", "1.23.0-rc1"),
        ("actions/setup-go", "^1.21", "1.22.1", "2.0.0"),
        ("actions/setup-java", "17", "17.0.9", "21.0.1"),
        ("actions/setup-java", "temurin-21.0", "21.0.1", "17.0.9"),
        ("ruby/setup-ruby", "ruby-3.2", "3.2.4", "3.3.0"),
        (
            "dtolnay/rust-toolchain",
            "stable",
            "1.80.0",
            "1.81.0-nightly",
        ),
        (
            "dtolnay/rust-toolchain",
            "nightly",
            "1.81.0-nightly",
            "1.80.0",
        ),
        ("dtolnay/rust-toolchain", "1.80", "1.80.1", "1.81.0"),
        ("ASTRAL-SH/setup-uv", "latest", "0.4.1", "0.4.1-rc1"),
    ] {
        assert!(takes(action, wanted, yes), "{action} {wanted} {yes}");
        assert!(!takes(action, wanted, no), "{action} {wanted} {no}");
    }
}

#[test]
fn versions_are_read_from_what_programs_print() {
    for (action, output, version) in [
        ("actions/setup-python", "Python 3.11.2\n", "3.11.2"),
        ("actions/setup-node", "v20.11.1\n", "20.11.1"),
        (
            "actions/setup-go",
            "go version go1.22.1 linux/amd64\n",
            "1.22.1",
        ),
        (
            "actions/setup-java",
            "openjdk version \"17.0.9\" 2023-10-17\nOpenJDK Runtime\n",
            "17.0.9",
        ),
        (
            "actions/setup-java",
            "Picked up JAVA_TOOL_OPTIONS\nopenjdk version \"21\" 2023-09-19\n",
            "21.0.0",
        ),
        (
            "actions/setup-java",
            "openjdk version \"24-ea\" 2025-03-18\n",
            "24.0.0-ea",
        ),
        (
            "actions/setup-java",
            "java version \"1.8.0_392\"\n",
            "8.0.0",
        ),
        (
            "ruby/setup-ruby",
            "ruby 3.1.2p20 (2022-04-12 revision 4491bb740a) [x86_64-linux-gnu]\n",
            "3.1.2-p20",
        ),
        (
            "dtolnay/rust-toolchain",
            "rustc 1.81.0-nightly (82e1608df 2024-06-21)\n",
            "1.81.0-nightly",
        ),
        ("astral-sh/setup-uv", "uv 0.4.1 (abc 2024-08-30)\n", "0.4.1"),
        (
            "denoland/setup-deno",
            "deno 1.40.0 (release, x86_64)\nv8 12.0.267.8\n",
            "1.40.0",
        ),
    ] {
        assert_eq!(
            tool(action).version(output).unwrap().to_string(),
            version,
            "{output}"
        );
    }
    assert_eq!(tool("actions/setup-go").version("command not found"), None);
}

#[test]
fn the_wanted_version_stands_in_an_input_a_file_or_behind_the_at() {
    let source = |action: &str, reference: &str, inputs: &[(&str, &str)]| {
        let input = |name: &str| {
            let found = inputs.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        tool(action).source(reference, input)
    };
    let given = |text: &str| Source::Given(text.into());
    assert_eq!(
        source("actions/setup-python", "v5", &[("python-version", "3.11")]),
        given("3.11")
    );
    let both = [("node-version", " "), ("node-version-file", ".nvmrc")];
    assert_eq!(
        source("actions/setup-node", "v4", &both),
        Source::File(".nvmrc".into())
    );
    assert_eq!(source("actions/setup-go", "v5", &[]), Source::Any);
    assert_eq!(source("dtolnay/rust-toolchain", "1.75", &[]), given("1.75"));
    assert_eq!(
        source("dtolnay/rust-toolchain", "master", &[("toolchain", "beta")]),
        given("beta")
    );
    assert_eq!(
        source("dtolnay/rust-toolchain", &"a1".repeat(20), &[]),
        Source::Any
    );
}

#[test]
fn version_files_are_read_where_that_is_simple() {
    let read = |action: &str, path: &str, text: &str| tool(action).in_file(path, text);
    assert_eq!(
        read(
            "actions/setup-python",
            ".python-version",
            "# c\n3.11\n3.10\n"
        )
        .as_deref(),
        Some("3.11")
    );
    assert_eq!(
        read("actions/setup-node", "web/.nvmrc", "v20.1\n").as_deref(),
        Some("v20.1")
    );
    assert_eq!(
        read(
            "actions/setup-node",
            ".tool-versions",
            "ruby 3.2\nnodejs 20.1.0 18\n"
        )
        .as_deref(),
        Some("20.1.0")
    );
    assert_eq!(
        read("actions/setup-go", "go.mod", "module x\n\ngo 1.21 // c\n").as_deref(),
        Some("1.21")
    );
    assert_eq!(
        read(
            "actions/setup-go",
            "go.mod",
            "go 1.21\ntoolchain go1.22.3\n"
        )
        .as_deref(),
        Some("1.22.3")
    );
    let package = r#"{"engines": {"node": ">=18"}}"#;
    assert_eq!(
        read("actions/setup-node", "package.json", package).as_deref(),
        Some(">=18")
    );
    assert_eq!(
        read(
            "actions/setup-python",
            "pyproject.toml",
            "requires-python = \">3\""
        ),
        None
    );
    assert_eq!(read("actions/setup-go", "go.mod", "module x\n"), None);
}

fn program(name: &str, path: &str, real: &str) -> Program {
    Program {
        name: name.into(),
        path: path.into(),
        real: real.into(),
    }
}

#[test]
fn answers_say_what_is_left_behind_or_what_to_do() {
    let python = tool("actions/setup-python");
    let found = program("python3", "/usr/bin/python3", "/usr/bin/python3.11");
    let Answer::Satisfied(ready) =
        python.answer(Some(&found), "Python 3.11.2", Some("3.10\n3.11\n"))
    else {
        panic!("3.11 is there");
    };
    assert_eq!(ready.links, [("python".into(), "/usr/bin/python3".into())]);
    assert!(
        ready
            .env
            .contains(&("pythonLocation".into(), "/usr".into()))
    );
    assert!(
        ready
            .outputs
            .contains(&("python-version".into(), "3.11.2".into()))
    );
    let java = program("java", "/usr/bin/java", "/usr/lib/jvm/java-17/bin/java");
    let Answer::Satisfied(ready) =
        tool("actions/setup-java").answer(Some(&java), "openjdk version \"17.0.9\"", None)
    else {
        panic!("any is there");
    };
    assert_eq!(
        ready.env,
        [("JAVA_HOME".into(), "/usr/lib/jvm/java-17".into())]
    );
    let wrong = python.answer(Some(&found), "Python 3.11.2", Some("3.12"));
    insta::assert_debug_snapshot!(wrong, @r#"
    WrongVersion {
        found: "3.11.2",
        wanted: "3.12",
        help: "put Python 3.12 into the image: add python3 python3-pip python3-venv to `packages` of its recipe in vmint.toml if they are of this version, else install it with a command in `run`",
    }
    "#);
    insta::assert_debug_snapshot!(tool("astral-sh/setup-uv").answer(None, "", None), @r#"
    Missing {
        help: "install uv in the image: with a command in `run` of its recipe in vmint.toml",
    }
    "#);
}

/// What the script prints in a shell of this host, in a folder of its own.
fn probed(shell: &[&str]) -> (std::process::Output, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let one = format!("{}/a $(touch evil) 'b'/*", folder.path().display());
    let two = format!("{}/-c", folder.path().display());
    let programs = ["sh", "cd", "no-such-program", "$(touch evil)", "--"];
    let output = Command::new(shell[0])
        .args(&shell[1..])
        .args(["-c", SCRIPT])
        .current_dir(folder.path())
        .envs(environment(&[&one, &two], &programs, None))
        .output()
        .unwrap();
    assert!(std::path::Path::new(&one).is_dir() && std::path::Path::new(&two).is_dir());
    assert!(!folder.path().join("evil").exists());
    (output, folder)
}

#[test]
fn the_probe_runs_in_every_shell_of_this_host_and_is_read() {
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let shells: [&[&str]; 4] = [&["sh"], &["dash"], &["bash"], &["busybox", "sh"]];
    let there = |shell: &&&[&str]| {
        Command::new(shell[0])
            .args(&shell[1..])
            .args(["-c", ":"])
            .output()
            .is_ok()
    };
    let mut count = 0;
    for shell in shells.iter().filter(there) {
        let (output, _folder) = probed(shell);
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{shell:?}: {output:?}"
        );
        let inventory = Inventory::parse(&output.stdout).unwrap();
        assert_eq!(inventory.boot_id, boot_id.trim(), "{shell:?}");
        assert_eq!(inventory.system, "Linux");
        assert_eq!(inventory.uid, rustix::process::getuid().as_raw());
        assert!(inventory.program("sh").unwrap().path.ends_with("/sh"));
        assert_eq!(inventory.first(&["no-such-program", "cd-", "--"]), None);
        count += 1;
    }
    assert!(count > 0);
}

#[test]
fn a_folder_that_cannot_be_made_fails_the_probe() {
    let output = Command::new("sh")
        .args(["-c", SCRIPT])
        .envs(environment(&["/dev/null/x"], &[], None))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn what_the_probe_did_not_print_is_told() {
    let parse = |text: &str| Inventory::parse(text.as_bytes()).unwrap_err();
    assert_eq!(
        parse("sh: not found\n"),
        ProbeError::Begin("sh: not found".into())
    );
    assert_eq!(
        parse("vmint-probe 1\nuser=a\n"),
        ProbeError::Broken("user=a".into())
    );
    assert_eq!(
        parse("vmint-probe 1\nuid=0\nvmint-probe end\n"),
        ProbeError::Missing("boot_id")
    );
    assert_eq!(
        Inventory::parse(&vec![b'x'; 1 << 20]),
        Err(ProbeError::TooLarge)
    );
    let text = "hello\nvmint-probe 1\nboot_id=b\nuser=u\nuid=7\nhome=/h\nmachine=aarch64\nprogram=a\tb\tc\nnothing\nvmint-probe end\nuser=x\n";
    let inventory = Inventory::parse(text.as_bytes()).unwrap();
    assert_eq!(
        (&*inventory.user, inventory.uid, inventory.runner_arch()),
        ("u", 7, "ARM64")
    );
    assert_eq!(inventory.program("a"), None);
}

proptest! {
    #[test]
    fn any_output_and_any_range_is_read(text in "[ 0-9.x*<>=^~|v\"a-z\n\t/-]{0,40}") {
        for tool in &TOOLS {
            tool.version(&text);
            let wanted = tool.wanted(&text);
            wanted.takes(&Version::parse("3.11.2").unwrap());
            tool.in_file(".tool-versions", &text);
            tool.in_file("go.mod", &text);
        }
        let _ = Inventory::parse(format!("vmint-probe 1\n{text}\nvmint-probe end").as_bytes());
    }
}
