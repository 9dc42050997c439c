//! Files that are long, hostile or changed by chance: told in bounded time, or refused.

use super::*;
use proptest::prelude::*;
use std::fmt::Write as _;
use std::time::Instant;

/// A workflow of so many lines, as real ones are.
fn long(lines: usize) -> String {
    let mut text = String::from("on: push\njobs:\n");
    let mut job = 0;
    while text.lines().count() < lines {
        write!(
            text,
            "  j{job}:\n    runs-on: ubuntu-latest\n    steps:\n      - uses: actions/checkout@v4\n"
        )
        .expect("text");
        for step in 0..10 {
            write!(
                text,
                "      - name: Step ${{{{ github.ref }}}} {step}\n        id: s{step}\n        if: ${{{{ success() && github.event_name == 'push' }}}}\n        env:\n          A: ${{{{ secrets.A }}}}\n        run: |\n          echo one\n          echo ${{{{ env.A || format('{{0}}', github.sha) }}}}\n\n          make test\n"
            )
            .expect("text");
        }
        job += 1;
    }
    text
}

#[test]
#[ignore = "measures; run it with --release --nocapture"]
fn a_workflow_of_2000_lines_is_checked_in_50_ms() {
    let text = long(2000);
    let repository = Repository::new(&[]);
    let mut times: Vec<_> = (0..20)
        .map(|_| {
            let start = Instant::now();
            repository.check(&text).expect("a sound workflow");
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    eprintln!(
        "{} lines, {} bytes: median {:?}, slowest {:?}",
        text.lines().count(),
        text.len(),
        times[10],
        times[19]
    );
    assert!(times[10].as_millis() <= 50, "{times:?}");
}

#[test]
fn hostile_workflows_of_5_mb_are_checked_in_bounded_time() {
    let fill = |piece: &str, bytes: usize| piece.repeat(bytes / piece.len());
    let jobs = |count: usize, needs: &dyn Fn(usize) -> String| {
        (0..count).fold("on: push\njobs:\n".to_owned(), |mut text, i| {
            writeln!(
                text,
                "  j{i}: {{runs-on: x, needs: {}, steps: [{{run: x}}]}}",
                needs(i)
            )
            .expect("text");
            text
        })
    };
    let cases = [
        steps(&format!("- run: \"{}\"", fill("${{ x }}", 4_900_000))),
        steps(&format!("- run: {}", fill("${{ ", 4_900_000))),
        steps(&format!("- run: ${{{{ {} }}}}", fill("a||", 20_000) + "a")),
        steps(&format!("- run: ${{{{ {} }}}}", fill("a<", 2_000) + "a")),
        steps(&format!("- run: ${{{{ {} }}}}", fill("(", 20_000))),
        steps(&format!("- run: ${{{{ {} }}}}", fill("!", 20_000))),
        steps(&format!("- if: {}\n  run: x", fill("a.", 4_900_000))),
        steps(&format!(
            "- run: x\n  env: {{{}}}",
            fill("A: 1, ", 10)
                + &(0..240_000).fold(String::new(), |s, i| s
                    + "K"
                    + &i.to_string()
                    + ": \"${{ x }}\",")
        )),
        jobs(60_000, &|i| format!("[j{}]", i + 1)),
        jobs(60_000, &|i| format!("[j{}]", i.saturating_sub(1))),
        jobs(60_000, &|i| format!("[x{i}]")),
    ];
    for case in cases {
        let start = Instant::now();
        let said = said(&case);
        let took = start.elapsed();
        let head: String = case.chars().skip(70).take(30).collect();
        eprintln!("{head:?} ({} bytes): {took:?}", case.len());
        assert!(said.len() < 100_000, "{}", &said[..1000]);
        assert!(took.as_secs() < 90, "{head:?} took {took:?}");
    }
}

#[test]
fn very_many_inputs_are_compared_with_very_many_that_are_declared() {
    // With each of the ones held against each of the others, and all told each time, this took hours.
    let many = |name: &str, value: &str| -> String {
        let entries = (0..30_000).map(|i| format!("  {name}{i}: {value}\n"));
        entries.collect()
    };
    let runs = "runs: {using: composite, steps: [{run: x, shell: sh}]}\n";
    let action = format!("inputs:\n{}{runs}", many("i", "{}"));
    let called = format!(
        "on:\n workflow_call:\n  inputs:\n{}jobs: {{x: {{runs-on: y, steps: [{{run: x}}]}}}}\n",
        many("  i", "{type: string}")
    );
    let repository = Repository::new(&[
        ("a/action.yml", &action),
        (".github/workflows/c.yml", &called),
    ]);
    let uses = |uses: &str| format!("uses: {uses}\nwith:\n{}{}", many("x", "1"), many("I", "1"));
    let step = uses("./a").replace('\n', "\n  ");
    let step = steps(&format!("- uses: actions/checkout@v4\n- {step}"));
    let job = uses("./.github/workflows/c.yml").replace('\n', "\n    ");
    let job = format!("on: push\njobs:\n  a:\n    {job}");
    for text in [step, job] {
        let said = repository.said(&text);
        assert!(said.contains("has no input `x0`"), "{}", &said[..1000]);
        assert!(said.len() < 200_000, "{}", &said[..1000]);
    }
}

proptest! {
    #[test]
    fn a_workflow_with_a_piece_changed_passes_or_is_refused(
        from in 0..EXAMPLE.len(),
        length in 0_usize..12,
        piece in "([a-z]{1,3}|[-:\\[\\]{} \n'\"#&*|>$()!=.]|\\$\\{\\{|\\}\\}|1|matrix|steps|needs){0,4}",
    ) {
        let to = (from + length).min(EXAMPLE.len());
        let text = format!("{}{piece}{}", &EXAMPLE[..from], &EXAMPLE[to..]);
        let _ = said(&text);
    }
}
