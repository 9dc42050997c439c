use super::*;
use proptest::prelude::*;

fn commands() -> Commands {
    Commands::new(Echo::Off, Unsecure::Refused)
}

fn one(line: &str) -> Command {
    match commands().parse(line) {
        Parsed::Command { command, .. } => command,
        Parsed::Text => panic!("{line} is text"),
    }
}

fn annotated(line: &str) -> Annotation<String> {
    match one(line) {
        Command::Annotate(annotation) => annotation,
        other => panic!("{line} is {other:?}"),
    }
}

#[test]
fn both_forms_are_read_whatever_the_case_and_the_space_before() {
    for line in [
        "::group::A b",
        "  \t::GROUP::A b",
        "##[group]A b",
        "12:00 ##[Group]A b",
        "::group ::A b",
    ] {
        assert_eq!(one(line), Command::Group("A b".into()), "{line}");
    }
    assert_eq!(one("::endgroup::x"), Command::EndGroup);
    assert_eq!(one("::debug::x"), Command::Debug("x".into()));
}

#[test]
fn what_is_unknown_or_incomplete_is_text() {
    for line in [
        "",
        "::",
        "::::",
        "::nothing::x",
        "::group",
        "::group:x",
        "text ::group::x",
        ": :group::x",
        "##[nothing]x",
        "##[group",
        "std::fmt::Display",
        "::set-secret::x",
        "::internal-set-repo-path::x",
    ] {
        assert_eq!(commands().parse(line), Parsed::Text, "{line}");
    }
}

#[test]
fn escapes_are_undone_once() {
    assert_eq!(
        one("::debug::a%0Ab%0D%25%250A%3A%zz%"),
        Command::Debug("a\nb\r%%0A%3A%zz%".into())
    );
    let annotation = annotated("::error file=a%2Cb%3Ac%0A%25.rs,title=x=y::m");
    assert_eq!(annotation.file.as_deref(), Some("a,b:c\n%.rs"));
    assert_eq!(annotation.title.as_deref(), Some("x=y"));
    assert_eq!(
        annotated("##[error title=a%3Bb%5D]m%5D").title.as_deref(),
        Some("a;b]")
    );
}

#[test]
fn annotations_have_places() {
    let annotation =
        annotated("::warning file=src/a.rs,line=3,endLine=3,col=5,endColumn=9,title=T::message");
    insta::assert_debug_snapshot!(annotation, @r#"
    Annotation {
        level: Warning,
        message: "message",
        title: Some(
            "T",
        ),
        file: Some(
            "src/a.rs",
        ),
        line: Some(
            3,
        ),
        end_line: Some(
            3,
        ),
        column: Some(
            5,
        ),
        end_column: Some(
            9,
        ),
    }
    "#);
}

#[test]
fn places_that_contradict_themselves_are_put_right() {
    let places = |properties: &str| {
        let a = annotated(&format!("::notice {properties}::m"));
        (a.line, a.end_line, a.column, a.end_column)
    };
    assert_eq!(places("endLine=4"), (Some(4), Some(4), None, None));
    assert_eq!(places("col=4"), (None, None, None, None));
    assert_eq!(
        places("line=1,endLine=2,col=4"),
        (Some(1), Some(2), None, None)
    );
    assert_eq!(places("line=2,endLine=1"), (None, None, None, None));
    assert_eq!(
        places("line=2,col=4,endColumn=3"),
        (Some(2), None, None, None)
    );
    assert_eq!(
        places("line=2,endColumn=3"),
        (Some(2), None, Some(3), Some(3))
    );
    assert_eq!(places("line=x,line=,LINE=7"), (Some(7), None, None, None));
}

#[test]
fn nothing_is_a_command_until_the_token() {
    let mut commands = commands();
    let show = Show::Line;
    let command = Command::Stop {
        token: "pause".into(),
    };
    assert_eq!(
        commands.parse("::stop-commands::pause"),
        Parsed::Command { command, show }
    );
    assert_eq!(commands.parse("::error::x"), Parsed::Text);
    assert_eq!(commands.parse("::stop-commands::other"), Parsed::Text);
    let command = Command::Resume;
    assert_eq!(
        commands.parse("::PAUSE::"),
        Parsed::Command { command, show }
    );
    assert_eq!(commands.parse("::pause::"), Parsed::Text);
    assert!(matches!(
        commands.parse("::error::x"),
        Parsed::Command { .. }
    ));
}

#[test]
fn a_token_that_is_a_command_would_never_stop() {
    for token in ["", "error", "Stop-Commands", "pause-logging"] {
        assert!(
            matches!(
                one(&format!("::stop-commands::{token}")),
                Command::Invalid { .. }
            ),
            "{token}"
        );
    }
}

#[test]
fn lines_are_shown_after_echo_on_but_never_those_with_secrets() {
    let mut commands = commands();
    let show = |commands: &mut Commands, line: &str| match commands.parse(line) {
        Parsed::Command { show, .. } => show,
        Parsed::Text => panic!("{line} is text"),
    };
    assert_eq!(show(&mut commands, "::set-output name=a::b"), Show::Nothing);
    assert_eq!(
        commands.parse("::echo:: ON "),
        Parsed::Command {
            command: Command::Echo(Echo::On),
            show: Show::Nothing
        }
    );
    assert_eq!(show(&mut commands, "::set-output name=a::b"), Show::Line);
    assert_eq!(show(&mut commands, "::add-mask::b"), Show::Nothing);
    assert_eq!(show(&mut commands, "::error::b"), Show::Nothing);
    assert_eq!(show(&mut commands, "::echo::off"), Show::Line);
    assert_eq!(show(&mut commands, "::group::b"), Show::Nothing);
}

#[test]
fn masks_keep_their_space_and_empty_ones_are_told() {
    assert_eq!(
        one("::add-mask:: a%0Ab "),
        Command::AddMask(" a\nb ".into())
    );
    assert_eq!(one("::add-mask::  "), Command::EmptyMask);
}

#[test]
fn what_cannot_be_executed_says_why() {
    let reasons: Vec<String> = [
        "::set-env name=A::b",
        "::add-path::/x",
        "::set-output::b",
        "::save-state name=::b",
        "::echo::maybe",
        "::stop-commands::",
        "::add-matcher::",
        "::remove-matcher owner=a::b",
        "::remove-matcher::",
    ]
    .map(|line| match one(line) {
        Command::Invalid { name, reason } => format!("{name}: {reason}"),
        Command::Ignored { reason } => reason,
        other => panic!("{line} is {other:?}"),
    })
    .to_vec();
    insta::assert_snapshot!(reasons.join("\n"), @r"
    set-env: it is disabled; write to the file $GITHUB_ENV instead, or set ACTIONS_ALLOW_UNSECURE_COMMANDS to `true`
    add-path: it is disabled; write to the file $GITHUB_PATH instead, or set ACTIONS_ALLOW_UNSECURE_COMMANDS to `true`
    set-output: it needs a `name`
    save-state: it needs a `name`
    echo: it is `on` or `off`, not `maybe`
    stop-commands: its token must not be empty, `pause-logging`, or the name of a command
    add-matcher needs the path of a file
    remove-matcher takes an owner or a file, not both
    remove-matcher needs an owner or a file
    ");
}

#[test]
fn unsecure_commands_are_executed_where_the_author_says_so() {
    let mut commands = Commands::new(Echo::Off, Unsecure::Allowed);
    let mut run = |line: &str| match commands.parse(line) {
        Parsed::Command { command, .. } => command,
        Parsed::Text => panic!("{line} is text"),
    };
    assert_eq!(
        run("::set-env name=A::b"),
        Command::SetEnv {
            name: "A".into(),
            value: "b".into()
        }
    );
    assert_eq!(run("::add-path::/x"), Command::AddPath("/x".into()));
    assert!(matches!(
        run("::set-env name=node_options::b"),
        Command::Invalid { .. }
    ));
}

proptest! {
    #[test]
    fn any_line_is_read(line in "[:#\\[\\]a-z,;=% 0-9A-D\u{e9}-]{0,60}", prefix in "(::|##\\[)(group|error|set-output) ?") {
        commands().parse(&line);
        commands().parse(&format!("{prefix}{line}"));
    }

    #[test]
    fn a_message_survives_its_escaping(message in "\\PC*") {
        let escaped = message.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
        prop_assert_eq!(one(&format!("::debug::{escaped}")), Command::Debug(message));
    }
}
