use super::*;

const GCC: &str = r#"{"problemMatcher": [{"owner": "gcc", "pattern": [{
    "regexp": "^(.*?):(\\d+):(\\d*):?\\s+(?:fatal\\s+)?(warning|error):\\s+(.*)$",
    "file": 1, "line": 2, "column": 3, "severity": 4, "message": 5}]}]}"#;

const ESLINT: &str = r#"{"problemMatcher": [{"owner": "eslint-stylish", "severity": "warning", "pattern": [
    {"regexp": "^([^\\s].*)$", "file": 1},
    {"regexp": "^\\s+(\\d+):(\\d+)\\s+(error|warning|info)\\s+(.*)\\s\\s+(.*)$",
     "line": 1, "column": 2, "severity": 3, "message": 4, "code": 5, "loop": true}]}]}"#;

fn matchers(files: &[&str]) -> Matchers {
    let mut matchers = Matchers::new();
    for file in files {
        matchers.add(file.as_bytes()).unwrap();
    }
    matchers
}

#[test]
fn one_pattern_finds_one_line() {
    let mut matchers = matchers(&[GCC]);
    assert_eq!(matchers.look("gcc -c a.c"), None);
    let found = matchers.look("a.c:10:4: warning: unused variable").unwrap();
    assert_eq!(
        (found.level, &*found.message),
        (Level::Warning, "unused variable")
    );
    assert_eq!(
        (found.file.as_deref(), found.line, found.column),
        (Some("a.c"), Some(10), Some(4))
    );
}

#[test]
fn a_loop_finds_the_lines_that_follow_a_file() {
    let mut matchers = matchers(&[ESLINT]);
    assert_eq!(matchers.look("src/a.js"), None);
    let first = matchers
        .look("   3:5  error  Missing semicolon  semi")
        .unwrap();
    let second = matchers
        .look("  13:1  warning  Unexpected console  no-console")
        .unwrap();
    for found in [&first, &second] {
        assert_eq!(found.file.as_deref(), Some("src/a.js"));
    }
    assert_eq!(
        (first.line, first.level, first.title.as_deref()),
        (Some(3), Level::Error, Some("semi"))
    );
    assert_eq!((second.line, second.level), (Some(13), Level::Warning));
    assert_eq!(matchers.look(""), None);
    assert_eq!(matchers.look("   4:5  error  Too late  semi"), None);
}

#[test]
fn an_unknown_severity_is_no_annotation() {
    let mut matchers = matchers(&[ESLINT]);
    matchers.look("src/a.js");
    assert_eq!(matchers.look("   3:5  info  Missing semicolon  semi"), None);
}

#[test]
fn the_same_owner_replaces_and_is_removed_whatever_its_case() {
    let mut matchers = matchers(&[GCC, ESLINT, GCC]);
    assert_eq!(matchers.matchers.len(), 2);
    matchers.remove("GCC");
    assert_eq!(matchers.look("a.c:10:4: warning: unused variable"), None);
    matchers.remove_file(ESLINT.as_bytes()).unwrap();
    assert!(matchers.is_empty());
}

#[test]
fn a_match_lets_other_matchers_forget() {
    let mut matchers = matchers(&[ESLINT, GCC]);
    matchers.look("src/a.js");
    assert!(matchers.look("a.c:10:4: error: no").is_some());
    assert_eq!(
        matchers.look("   3:5  error  Missing semicolon  semi"),
        None
    );
}

#[test]
fn files_are_relative_to_their_project() {
    let mut matchers = matchers(&[r#"{"problemMatcher": [{"owner": "cs", "pattern": [{
        "regexp": "^(\\S+) (\\S+) in (\\S+)$", "file": 1, "message": 2, "fromPath": 3}]}]}"#]);
    let found = matchers.look("a.cs CS1002 in src/app/app.csproj").unwrap();
    assert_eq!(found.file.as_deref(), Some("src/app/a.cs"));
}

#[test]
fn what_cannot_be_says_why() {
    let one = |pattern: &str| {
        format!(r#"{{"problemMatcher": [{{"owner": "o", "pattern": [{pattern}]}}]}}"#)
    };
    let huge = one(r#"{"regexp": "(a{1000}){1000}", "message": 1}"#);
    let errors: Vec<String> = [
        "[",
        r#"{"problemMatcher": [{"pattern": []}]}"#,
        r#"{"problemMatcher": [{"owner": "o", "severity": "bad", "pattern": []}]}"#,
        &one(""),
        &one(r#"{"regexp": "a"}"#),
        &one(r#"{"regexp": "a", "message": 1}"#),
        &one(r#"{"regexp": "(a)", "message": 1, "loop": true}"#),
        &one(r#"{"regexp": "(a)", "message": 1}, {"regexp": "(a)", "message": 1}"#),
        &one(r#"{"regexp": "(a)", "message": 1}, {"regexp": "(a)", "file": 1, "loop": true}"#),
        &huge,
    ]
    .map(|file| {
        Matchers::new()
            .add(file.as_bytes())
            .unwrap_err()
            .to_string()
    })
    .to_vec();
    insta::assert_snapshot!(errors.join("\n"), @"
    it is not a file of problem matchers: EOF while parsing a list at line 1 column 1
    the matcher ``: it has no owner
    the matcher `o`: its severity is `bad`, not error, warning or notice
    the matcher `o`: it has 0 patterns, not 1 to 16
    the matcher `o`: none of its patterns sets `message`
    the matcher `o`: `message` is group 1, which its pattern 1 does not have
    the matcher `o`: only the last of several patterns can have `loop`
    the matcher `o`: two of its patterns set `message`
    the matcher `o`: the pattern with `loop` needs a `message`
    the matcher `o`: its pattern 1: Compiled regex exceeds size limit of 1048576 bytes.
    ");
}

#[test]
fn patterns_are_read_as_those_of_javascript() {
    let mut matchers = matchers(&[r#"{"problemMatcher": [{"owner": "o", "pattern": [{
        "regexp": "^\\/([^[&&]+)[[](\\d+)\\]\\: ([\\w\\d]+)$", "file": 1, "line": 2, "message": 3}]}]}"#]);
    let found = matchers.look("/a b[3]: x_1").unwrap();
    assert_eq!(
        (found.file.as_deref(), found.line, &*found.message),
        (Some("a b"), Some(3), "x_1")
    );
    assert_eq!(matchers.look("/a[\u{663}]: x_1"), None);
}

#[test]
fn a_pattern_of_exponential_backtracking_takes_linear_time() {
    let mut matchers = matchers(&[r#"{"problemMatcher": [{"owner": "o", "pattern": [{
        "regexp": "^(a+)+$", "message": 1}]}]}"#]);
    assert_eq!(matchers.look(&format!("{}!", "a".repeat(60_000))), None);
}
