use super::*;
use proptest::prelude::*;

fn outputs(content: &str) -> Vec<Pair> {
    pairs(File::Output, content.as_bytes()).unwrap()
}

fn pair(name: &str, value: &str) -> Pair {
    (name.into(), value.into())
}

#[test]
fn lines_set_values_as_they_are() {
    let content = "a=1\n\nb = x=y \nc=\nd=<<EOF\r\na=2\n";
    let expected = [
        pair("a", "1"),
        pair("b ", " x=y "),
        pair("c", ""),
        pair("d", "<<EOF\r"),
        pair("a", "2"),
    ];
    assert_eq!(outputs(content), expected);
    assert!(outputs("").is_empty());
}

#[test]
fn values_of_several_lines_end_at_their_delimiter() {
    assert_eq!(
        outputs("a<<EOF\nx\n\n y=1\nEOF\nb=2\n"),
        [pair("a", "x\n\n y=1"), pair("b", "2")]
    );
    assert_eq!(outputs("a<<EOF\nEOF"), [pair("a", "")]);
    assert_eq!(outputs("a<<EOF\n\nEOF"), [pair("a", "")]);
    assert_eq!(outputs("a<<EOF\n\n\nEOF"), [pair("a", "\n")]);
    assert_eq!(outputs("a<<b=c\nx\nb=c\n"), [pair("a", "x")]);
    assert_eq!(
        outputs("a<<EOF\r\nx\r\ny\r\nEOF\r\n"),
        [pair("a", "x\r\ny\r")]
    );
    assert_eq!(outputs("a<<E<<F\nx\nE<<F"), [pair("a", "x")]);
}

#[test]
fn what_is_wrong_names_file_and_line() {
    let long = format!("{}\n", "x".repeat(5000));
    let errors: Vec<String> = [
        "a=1\nnothing\n",
        "a=1\n\n=value",
        "<<EOF\nEOF",
        "a<<\nx",
        "a<<EOF\nx\n  EOF\nb=1\n",
        "a<<EOF\n",
        "a=1\r\n\r\n",
        "a<<EOF\nx\nEOF\r\n",
        &long,
    ]
    .map(|content| {
        pairs(File::Output, content.as_bytes())
            .unwrap_err()
            .to_string()
    })
    .to_vec();
    insta::assert_snapshot!(errors.join("\n"), @r"
    $GITHUB_OUTPUT, line 2: invalid format `nothing`; write NAME=value, or NAME<<DELIMITER, the lines, and DELIMITER
    $GITHUB_OUTPUT, line 3: invalid format `=value`; the name must not be empty, and neither must the delimiter behind <<
    $GITHUB_OUTPUT, line 1: invalid format `<<EOF`; the name must not be empty, and neither must the delimiter behind <<
    $GITHUB_OUTPUT, line 1: invalid format `a<<`; the name must not be empty, and neither must the delimiter behind <<
    $GITHUB_OUTPUT, line 1: the value of `a` does not end: no line is `EOF` (line 3 is nearly so: spaces and carriage returns count)
    $GITHUB_OUTPUT, line 1: the value of `a` does not end: no line is `EOF`
    $GITHUB_OUTPUT, line 2: invalid format `\r`; write NAME=value, or NAME<<DELIMITER, the lines, and DELIMITER
    $GITHUB_OUTPUT, line 1: the value of `a` does not end: no line is `EOF` (line 3 is nearly so: spaces and carriage returns count)
    $GITHUB_OUTPUT, line 1: invalid format `xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…`; write NAME=value, or NAME<<DELIMITER, the lines, and DELIMITER
    ");
}

#[test]
fn what_github_sets_itself_is_refused_and_the_rest_is_set() {
    let content = "A=1\nNode_Options=--require evil\nGITHUB_SHA=x\nRUNNER_TEMP=/\nCI=false\nGITHUB_TOKEN=t\nB=a\0b\nRUNNER=x\n";
    let variables = variables(content.as_bytes()).unwrap();
    let set = [
        pair("A", "1"),
        pair("CI", "false"),
        pair("GITHUB_TOKEN", "t"),
        pair("RUNNER", "x"),
    ];
    assert_eq!(variables.set, set);
    let refused: Vec<String> = variables.refused.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(refused.join("\n"), @r"
    $GITHUB_ENV, line 2: `Node_Options` cannot be set with $GITHUB_ENV; set it with `env` of the steps that need it
    $GITHUB_ENV, line 3: `GITHUB_SHA` cannot be set for later steps; each step sets it itself
    $GITHUB_ENV, line 4: `RUNNER_TEMP` cannot be set for later steps; each step sets it itself
    $GITHUB_ENV, line 7: `B` has a NUL byte, which no environment can hold
    ");
}

#[test]
fn paths_keep_their_order_and_the_last_of_two_counts() {
    let content = "\u{feff}/a\n\n/b c\r\n/a\n/d";
    assert_eq!(paths(content.as_bytes()).unwrap(), ["/b c", "/a", "/d"]);
    assert!(paths(b"/a\n/b\0").is_err());
}

#[test]
fn files_beyond_their_limits_are_refused() {
    for file in File::ALL {
        let content = vec![b'\n'; file.max_bytes() + 1];
        let error = match file {
            File::Env => variables(&content).unwrap_err(),
            File::Path => paths(&content).unwrap_err(),
            File::Summary => summary(&content).unwrap_err(),
            File::Output | File::State => pairs(file, &content).unwrap_err(),
        };
        let limit = file.max_bytes();
        assert_eq!((error.file, error.what), (file, Wrong::TooLarge { limit }));
    }
    assert_eq!(summary(b""), Ok(None));
    assert_eq!(summary(b"# Hi\xff"), Ok(Some("# Hi\u{fffd}".into())));
}

#[test]
fn outputs_are_counted_as_utf_16() {
    let half = "x".repeat((MAX_JOB_OUTPUTS / 2) - 1);
    let mut budget = OutputBudget::of_job();
    assert_eq!(budget.take("a", &half), Ok(()));
    let error = budget.take("b", "").unwrap_err();
    assert_eq!(
        error.to_string(),
        "the output `b` makes the outputs of this job larger than 1 MiB; hand large data on as artifacts"
    );
    assert_eq!(OutputBudget::of_run().take("a", &half.repeat(40)), Ok(()));
}

proptest! {
    #[test]
    fn any_content_is_read(content in prop::collection::vec(prop::sample::select(b"aE=<\n\r \xff".to_vec()), 0..60)) {
        for file in File::ALL {
            let _ = pairs(file, &content);
        }
        let _ = (variables(&content), paths(&content), summary(&content));
    }

    #[test]
    fn a_value_survives_its_heredoc(value in "[a-c=<\n ]{0,40}") {
        let read = outputs(&format!("name<<ghadelimiter\n{value}\nghadelimiter\n"));
        prop_assert_eq!(read, [pair("name", &value)]);
    }
}
