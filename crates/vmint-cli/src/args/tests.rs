use super::*;
use crate::values::EnvArg;
use clap::CommandFactory;

fn parse(line: &[&str]) -> Result<Command, clap::error::ErrorKind> {
    let args = std::iter::once("vmint").chain(line.iter().copied());
    Cli::try_parse_from(args)
        .map(|cli| cli.command)
        .map_err(|e| e.kind())
}

#[test]
fn the_description_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn flags_behind_the_dashes_are_the_command_s() {
    let Ok(Command::Run(run)) = parse(&[
        "run", "-i", "-t", "-e", "A=1", "-e", "B", "--", "ls", "-e", "--help",
    ]) else {
        panic!("not a run");
    };
    assert!(run.options.interactive && run.options.tty);
    assert_eq!(
        run.options.env,
        [
            EnvArg::Set("A".into(), "1".into()),
            EnvArg::Inherit("B".into())
        ]
    );
    assert_eq!(run.command, ["ls", "-e", "--help"]);
    let Ok(Command::Exec(exec)) = parse(&["exec", "box", "-it", "--", "bash"]) else {
        panic!("not an exec")
    };
    assert_eq!((exec.name.as_str(), exec.options.tty), ("box", true));
}

#[test]
fn what_makes_no_sense_is_refused() {
    for line in [
        &["create", "Box"][..],
        &["create", "box\n"],
        &["create", "b ox"],
        &["create", "-x"],
        &["create", "a", "--from", "s", "--cpus", "2"],
        &["create", "a", "--from", "s", "--image", "tiny"],
        &["run", "--memory", "much", "--", "true"],
        &["run", "--net", "bridge", "--", "true"],
        &["run", "--publish", "80", "--", "true"],
        &["run", "--timeout", "soon", "--", "true"],
        &["run", "uname"],
        &["exec", "box"],
        &["stop"],
        &["logs", "box", "--qemu", "--console"],
        &["wait", "box", "--for", "godot"],
        &["qmp", "box", "stop", "[]"],
        &["image", "build", "../x"],
        &["image", "build", "x", "--from", "ubuntu"],
        &["image", "build", "x", "--copy", "a:relative"],
        &["image", "build", "x", "--modules", "dir"],
        &["ls", "--format", "yaml"],
    ] {
        assert!(parse(line).is_err(), "{line:?}");
    }
}

#[test]
fn a_format_can_stand_anywhere() {
    for line in [&["--format", "json", "ls"][..], &["ls", "--format", "json"]] {
        let cli =
            Cli::try_parse_from(std::iter::once("vmint").chain(line.iter().copied())).unwrap();
        assert_eq!(cli.format, Format::Json);
    }
}
