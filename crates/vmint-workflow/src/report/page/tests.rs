use super::*;
use crate::log::Kind;
use crate::report::{sample, write};
use std::path::PathBuf;

/// The page of a run whose logs are in this folder.
fn page(run: &RunRecord, home: &Path) -> String {
    let target = tempfile::tempdir().unwrap();
    write(run, home, target.path()).unwrap();
    std::fs::read_to_string(target.path().join("index.html")).unwrap()
}

fn alone(run: &RunRecord) -> String {
    page(run, Path::new("/nonexistent"))
}

#[test]
fn the_page_names_run_outcome_and_accelerator() {
    let html = alone(&sample::build_and_test());
    for text in [
        "<title>✗ Tell the time of a step: failed</title>",
        "1 of 3 jobs failed.",
        "15.0 s on KVM",
        "<dd>main</dd>",
        "7d3b1f9a-51c2-4e0b-9a61-0f6f5a3c2e11",
        "1 machine</a> of ubuntu-24.04, 9 commands",
        "src/clock.rs:42:9",
        "vmint workflow shell r0000cafe --before build:3",
        "failed, allowed to: exit code 1; continue-on-error",
        "a job that it needs has failed: build",
    ] {
        assert!(html.contains(text), "{text} is not in {html}");
    }
}

#[test]
fn a_fault_is_told_as_vmints_and_with_what_to_do() {
    let html = alone(&sample::faulty());
    assert!(
        html.contains("It says nothing of the workflow. What to do: free memory"),
        "{html}"
    );
    assert!(html.contains("<h2>Where vmint failed</h2>"), "{html}");
    assert!(!html.contains("<h2>What failed</h2>"), "{html}");
    assert!(html.contains("4 min 21 s on emulation"), "{html}");
}

#[test]
fn the_policy_allows_the_style_of_the_page_and_nothing_else() {
    let html = alone(&sample::build_and_test());
    let style = html
        .split("<style>")
        .nth(1)
        .and_then(|rest| rest.split("</style>").next());
    let hash = STANDARD.encode(Sha256::digest(style.unwrap()));
    let policy = format!("content=\"default-src 'none'; style-src 'sha256-{hash}' ");
    assert!(html.contains(&policy), "{html}");
    for text in [
        "<script", "src=", "@import", "url(http", " style=", "onload",
    ] {
        assert!(!html.contains(text), "{text}");
    }
}

#[test]
fn nothing_of_a_guest_is_markup() {
    let home = tempfile::tempdir().unwrap();
    let mut run = sample::hostile();
    let evil = "</div></details></style><script>alert(1)</script>\x1b]0;x\x07\0\u{202e}";
    let step = &mut run.jobs[0].steps[0];
    sample::log(
        home.path(),
        "a",
        step,
        &[(0, Kind::Group, evil), (1, Kind::Error, evil)],
    );
    std::fs::write(
        home.path().join("logs/s.md"),
        format!("# {evil}\n[x](javascript:y)\n"),
    )
    .unwrap();
    step.summary = Some(PathBuf::from("logs/s.md"));
    let html = page(&run, home.path());
    for text in [
        "<script",
        "</title></svg>",
        "<a href=\"javascript",
        "\0",
        "\x1b",
        "\u{202e}",
    ] {
        assert!(!html.contains(text), "{text:?}");
    }
    // What is opened is closed: nothing of the guest has closed it.
    for element in [
        "div", "details", "summary", "section", "svg", "a", "li", "span", "p",
    ] {
        let opened = html.matches(&format!("<{element}>")).count()
            + html.matches(&format!("<{element} ")).count();
        assert_eq!(
            opened,
            html.matches(&format!("</{element}>")).count(),
            "<{element}>"
        );
    }
}

#[test]
fn summaries_are_rendered_and_lead_to_their_steps() {
    let home = tempfile::tempdir().unwrap();
    let mut run = sample::build_and_test();
    std::fs::write(
        home.path().join("summary-3.md"),
        "## Coverage\n\n| a |\n|--:|\n| 93 % |\n",
    )
    .unwrap();
    run.jobs[0].steps[2].summary = Some("summary-3.md".into());
    let html = page(&run, home.path());
    assert!(
        html.contains(
            "<h3><a href=\"#s0-2\">build / cargo test --workspace</a></h3><h5>Coverage</h5>"
        ),
        "{html}"
    );
    let hash = STANDARD.encode(Sha256::digest("text-align: right"));
    assert!(
        html.contains("style=\"text-align: right\"") && html.contains(&hash),
        "{html}"
    );
}

#[test]
fn a_page_of_many_long_logs_stays_of_a_size_that_opens() {
    let home = tempfile::tempdir().unwrap();
    let mut run = sample::matrix(2, 10);
    let text = "x".repeat(80) + "\n";
    for (j, job) in run.jobs.iter_mut().enumerate() {
        for step in &mut job.steps {
            sample::raw_log(
                home.path(),
                &j.to_string(),
                step,
                text.repeat(30_000).as_bytes(),
            );
        }
    }
    let html = page(&run, home.path());
    assert!(html.len() < 14 << 20, "{}", html.len());
    assert_eq!(html.matches("left out here").count(), 20);
}

#[test]
fn runs_of_every_shape_have_a_page() {
    let not_triggered = RunEnd::NotTriggered {
        reason: "no branch matches".into(),
    };
    for run in [
        sample::run(None),
        sample::run(Some(not_triggered)),
        sample::run(Some(RunEnd::Abandoned)),
        sample::run(Some(RunEnd::TimedOut { limit_ms: 60_000 })),
        sample::cancelled(),
        sample::matrix(1, 1),
        sample::matrix(3, 500),
    ] {
        let html = alone(&run);
        assert!(html.starts_with(MARK) && html.ends_with("</html>\n"));
    }
}

/// Writes pages to look at: `VMINT_REPORT_SAMPLES=/tmp/x cargo test -p vmint-workflow samples -- --ignored`.
#[test]
#[ignore = "writes pages for people to look at"]
fn samples_to_look_at() {
    let target = PathBuf::from(std::env::var_os("VMINT_REPORT_SAMPLES").unwrap());
    let home = tempfile::tempdir().unwrap();
    let mut run = sample::build_and_test();
    let step = &mut run.jobs[0].steps[2];
    let long = format!("a very long line: {}", "0123456789 ".repeat(40));
    sample::log(
        home.path(),
        "build",
        step,
        &[
            (0, Kind::Group, "Run cargo test --workspace"),
            (0, Kind::Text, "\x1b[36;1mcargo test --workspace\x1b[0m"),
            (
                0,
                Kind::Text,
                "shell: /usr/bin/bash --noprofile --norc -eo pipefail {0}",
            ),
            (0, Kind::EndGroup, ""),
            (
                310,
                Kind::Text,
                "\x1b[1m\x1b[32m   Compiling\x1b[0m clock v0.1.0 (/work/clock)",
            ),
            (
                4_900,
                Kind::Text,
                "\x1b[1m\x1b[33mwarning\x1b[0m\x1b[1m: unused variable: `late`\x1b[0m",
            ),
            (4_900, Kind::Warning, "unused variable: `late`"),
            (9_800, Kind::Group, "Tests"),
            (
                9_800,
                Kind::Text,
                "test tells_the_time ... \x1b[32mok\x1b[m",
            ),
            (
                9_900,
                Kind::Text,
                "test tells_the_date ... \x1b[31mFAILED\x1b[m",
            ),
            (9_900, Kind::Text, &long),
            (9_950, Kind::Error, "assertion `left == right` failed"),
            (9_960, Kind::EndGroup, ""),
            (
                10_000,
                Kind::Text,
                "\x1b[38;5;208morange\x1b[0m \x1b[44;97m inverse \x1b[0m \x1b[3mitalic\x1b[0m <b>not bold</b> \0",
            ),
            (10_400, Kind::Debug, "state kept"),
            (10_450, Kind::Error, "Process completed with exit code 101"),
        ],
    );
    let summary = "## Coverage\n\n| crate | lines | covered |\n|---|--:|:-:|\n| clock | 1200 | 93 % |\n| hands | 87 | **100 %** |\n\n\
                   - [x] doc tests\n- [ ] benches ~~later~~\n\n> [!WARNING]\n> slower than [last time](https://example.org)\n\n```\nlet x = 1 < 2;\n```\n";
    std::fs::write(home.path().join("s.md"), summary).unwrap();
    step.summary = Some("s.md".into());
    let runs = [
        ("failed", run),
        ("faulty", sample::faulty()),
        ("cancelled", sample::cancelled()),
        ("matrix", sample::matrix(10, 50)),
        ("one", sample::matrix(1, 1)),
        ("hostile", sample::hostile()),
        (
            "nothing",
            sample::run(Some(RunEnd::NotTriggered {
                reason: "`on.push.branches` has no pattern for main".into(),
            })),
        ),
    ];
    for (name, run) in runs {
        write(&run, home.path(), &target.join(name)).unwrap();
    }
}
