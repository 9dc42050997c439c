//! What must be seen nowhere: secrets, in whatever form a step prints them, in logs, records, reports and process lists.

use vmint_tests::bytes::holding;
use vmint_tests::project::TINY;
use vmint_tests::{Home, Project};

const LEAKY: &str = r#"
name: leaky
run-name: Deploy with ${{ github.actor }}
on: push
jobs:
  leak:
    runs-on: ubuntu-latest
    outputs: {whole: "${{ steps.plain.outputs.whole }}"}
    env: {ONE: "${{ secrets.ONE }}", FROM_FILE: "${{ secrets.FROM_FILE }}", KEY: "${{ secrets.KEY }}"}
    steps:
      - id: plain
        name: Name with ${{ secrets.ONE }}
        run: |
          echo "whole $ONE, of a file $FROM_FILE"
          WORD=added-$(printf 'in-the-%s' guest)
          echo "::add-mask::$WORD"
          echo "now $WORD"
          echo "whole=$ONE" >>"$GITHUB_OUTPUT"
          echo "summary of $ONE and $WORD" >>"$GITHUB_STEP_SUMMARY"
          echo "::error file=$ONE,title=$FROM_FILE::$ONE"
          echo "FILE_ENV=$ONE$FROM_FILE" >>"$GITHUB_ENV"
      - id: split
        run: |
          # Each byte in a write of its own.
          i=0; while [ $i -lt ${#ONE} ]; do printf '%s' "${ONE:$i:1}"; i=$((i+1)); done; echo
          printf '%s' "${ONE:0:9}"; printf '%s\n' "${ONE:9}" >&2
          printf '%s' "${FROM_FILE:0:4}"; cat /proc/uptime >/dev/null; echo "${FROM_FILE:4}"
      - id: coded
        run: |
          printf '%s' "$ONE" | base64
          printf 'user:%s' "$ONE" | base64
          printf 'x%s and much more behind it, so that it is wrapped, and wrapped, and wrapped again' "$ONE$ONE" | base64 -w 40
          printf '%s' "$ONE" | od -An -tx1 | tr -d ' \n'; echo
      - id: lines
        run: |
          printf '%s\n' "$KEY"
          printf '%s\n' "$KEY" | sed 's/^/    indented /'
          printf '%s' "$KEY" | base64
      - id: json
        env: {ALL: "${{ toJSON(secrets) }}"}
        run: echo "$ALL"
      - id: fails
        continue-on-error: true
        working-directory: /no/such/${{ secrets.ONE }}
        run: echo
      - id: bad
        if: always()
        continue-on-error: true
        run: printf '%s without a sign' "$ONE" >>"$GITHUB_OUTPUT"
      - id: empty
        run: |
          echo '::add-mask::'
          echo '::add-mask::   '
          echo "not all is a secret"
  next:
    needs: leak
    runs-on: ubuntu-latest
    steps:
      - {id: say, env: {W: "${{ needs.leak.outputs.whole }}"}, run: 'echo "got <${#W}> $W"'}
"#;

const COLOURED: &str = r#"
on: push
jobs:
  leak:
    name: Job ${{ github.job }}
    runs-on: ubuntu-latest
    env: {ONE: "${{ secrets.ONE }}", TWO: "${{ secrets.TWO }}"}
    steps:
      - id: odd
        continue-on-error: true
        run: |
          e=$(printf '\033'); a=${ONE:0:7}; b=${ONE:7}
          echo "begin $a$e[1;31m$b end"
          echo "begin $a$e]0;title$(printf '\007')$b end"
          printf 'begin %s\000%s end\n' "$a" "$b"
          printf 'begin %sX\010%s end\n' "$a" "$b"
          printf 'begin %s\342\200\213%s\377 end\n' "$a" "$b"
          printf 'begin %s' "$a"; cat /proc/uptime >/dev/null; printf '%s[0m%s end\n' "$e" "$b"
          echo "begin $TWO and coloured-value end"
          echo "::error title=$a$e[0m$b::begin $a$e[0m$b end"
          echo "summary $a$e[0m$b" >>"$GITHUB_STEP_SUMMARY"
          exit 1
"#;

/// What of bytes a person reads: without sequences, or without control characters alone.
fn read_by_people(bytes: &[u8]) -> [String; 2] {
    let text = String::from_utf8_lossy(bytes);
    let seen = |c: &char| {
        !c.is_control() && !matches!(c, '\u{200b}' | '\u{fffd}' | '\u{2400}'..='\u{2426}')
    };
    let bare = text.chars().filter(seen).collect();
    let mut plain = String::new();
    for (index, part) in text.split('\u{1b}').enumerate() {
        let shown = match part.chars().next() {
            Some('[') if index > 0 => part.trim_start_matches(|c: char| !c.is_ascii_alphabetic()),
            Some(']') if index > 0 => part.split_once('\u{7}').map_or("", |(_, rest)| rest),
            _ => part,
        };
        let skipped = usize::from(index > 0 && part.starts_with('['));
        plain.extend(shown.chars().skip(skipped).filter(seen));
    }
    [bare, plain]
}

/// A colour, a title, a null, a backspace or what has no width between its letters hides no secret from the mask; nor does
/// a secret that holds such itself. In what is shown, kept and reported.
#[test]
fn a_secret_with_controls_between_its_letters_is_seen_nowhere() {
    let home = Home::new();
    let project = Project::with(TINY, COLOURED);
    let outcome = project
        .call(
            &home,
            "workflow run ci --secret ONE --secret TWO --report out".split(' '),
        )
        .env("ONE", "hunter2-is-mine")
        .env("TWO", "col\u{1b}[1moured\u{7}-value")
        .run()
        .ok();
    let mut files = vec![("stdout".into(), outcome.stdout.clone())];
    files.push(("stderr".into(), outcome.stderr.clone()));
    let mut folders = vec![home.root().join("runs"), project.root().join("out")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                let bytes = std::fs::read(entry.path()).unwrap();
                files.push((entry.path(), bytes));
            }
        }
    }
    assert!(
        files.iter().any(|(path, _)| path.ends_with("junit.xml")),
        "{files:?}"
    );
    let mut stars = 0;
    for (path, bytes) in files {
        for text in read_by_people(&bytes) {
            for secret in ["hunter2-is-mine", "coloured-value"] {
                assert!(!text.contains(secret), "{}: {text}", path.display());
            }
            stars += text.matches("begin *** end").count();
        }
    }
    assert!(stars > 10, "they are shown as stars: {outcome}");
}

/// Not in what is printed, not in what is kept, not in a report, not in the list of processes.
#[test]
fn a_secret_is_seen_nowhere() {
    let home = Home::new();
    let project = Project::with(TINY, LEAKY);
    let one = "s3cret/value+with'quote";
    let of_file = "of a file \"quoted\"";
    let key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkq\nhkiG9w0BAQEFAASC\n-----END KEY-----";
    let shown = of_file.replace('"', "\\\"");
    project.file("secrets.env", format!("# mine\nFROM_FILE=\"{shown}\"\n"));
    let mut started = project
        .call(
            &home,
            "workflow run ci --secret ONE --secret KEY --secret-file secrets.env --report out"
                .split(' '),
        )
        .env("ONE", one)
        .env("KEY", key)
        .start();
    started.says("now ***");
    let mut needles: Vec<Vec<u8>> = [
        one,
        of_file,
        &shown,
        "MIIEvQIBADANBgkq",
        "hkiG9w0BAQEFAASC",
        "added-in-the-guest",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec();
    let listed: Vec<_> = std::fs::read_dir("/proc").unwrap().flatten().collect();
    let commands = listed
        .iter()
        .map(|entry| std::fs::read(entry.path().join("cmdline")).unwrap_or_default());
    for command in commands {
        for needle in &needles {
            let shows = command
                .windows(needle.len())
                .any(|window| window == *needle);
            // This test's own process holds none of them in its arguments.
            assert!(
                !shows,
                "in the list of processes: {}",
                String::from_utf8_lossy(&command)
            );
        }
    }
    let outcome = started.finish().ok();
    // How base64 and hex write them, of which any eight bytes would do to tell.
    let coded = [
        "czNjcmV0L3ZhbHVl",
        "6czNjcmV0",
        "733363726574",
        "TUlJRXZRSUJBREFOQmdrcQ",
    ];
    needles.extend(coded.map(|text| text.as_bytes().to_vec()));
    for bytes in [&outcome.stdout, &outcome.stderr] {
        for needle in &needles {
            let at = bytes
                .windows(needle.len())
                .position(|window| window == *needle);
            assert_eq!(
                at,
                None,
                "{} is shown: {}",
                String::from_utf8_lossy(needle),
                String::from_utf8_lossy(bytes)
            );
        }
    }
    let kept = holding(home.root().join("runs").as_path(), &needles);
    assert_eq!(kept, [], "it is kept");
    assert_eq!(
        holding(&project.root().join("out"), &needles),
        [],
        "it is reported"
    );
    for file in ["vmint.db", "vmint.db-wal"] {
        let bytes = std::fs::read(home.root().join(file)).unwrap_or_default();
        let held = needles
            .iter()
            .find(|needle| bytes.windows(needle.len()).any(|w| w == **needle));
        assert_eq!(
            held.map(|n| String::from_utf8_lossy(n)),
            None,
            "it is in {file}"
        );
    }
    let text = outcome.text();
    for line in [
        "whole ***, of a file ***",
        "now ***",
        "Name with ***",
        "not all is a secret",
        "    indented ***",
    ] {
        assert!(text.contains(line), "{line}: {outcome}");
    }
    assert!(
        text.contains("got <0> ") && text.contains("`whole` of leak may hold a secret"),
        "an output that holds a secret is not handed on: {text}"
    );
}

/// The secret stands in each place of a file that a user can put text into, so it is what names, keys and messages are made of.
const NAMED: &str = r##"
name: Workflow tr0ub4dor
run-name: Run tr0ub4dor
on: push
concurrency: {group: "Group-tr0ub4dor", cancel-in-progress: true}
env: {OF_WORKFLOW: tr0ub4dor}
permissions: {contents: read}
jobs:
  tr0ub4dor:
    name: Job tr0ub4dor
    runs-on: ubuntu-latest
    environment: {name: environment-tr0ub4dor, url: "https://example.com/tr0ub4dor"}
    concurrency: group-of-job-tr0ub4dor
    outputs: {tr0ub4dor: plain, o: "${{ steps.tr0ub4dor.outputs.o }}"}
    strategy: {matrix: {tr0ub4dor: [tr0ub4dor-a, tr0ub4dor-b]}}
    env: {OF_JOB: tr0ub4dor}
    steps:
      - id: tr0ub4dor
        name: Step ${{ matrix.tr0ub4dor }} tr0ub4dor
        env: {OF_STEP: tr0ub4dor}
        run: |
          printf 'left=tr0ub4dor\nbroken tr0ub4dor\n' >>"$GITHUB_ENV"
          echo "::warning file=tr0ub4dor.c,title=tr0ub4dor,line=3::tr0ub4dor"
          echo "# tr0ub4dor" >>"$GITHUB_STEP_SUMMARY"
          echo "o=tr0ub4dor" >>"$GITHUB_OUTPUT"
        continue-on-error: true
      - run: |
          true tr0ub4dor; exit 3
        continue-on-error: true
      - {name: shell, shell: "/no/tr0ub4dor {0}", run: echo, continue-on-error: true}
      - {name: folder, working-directory: /no/tr0ub4dor, run: echo, continue-on-error: true}
      - {name: number, timeout-minutes: "${{ fromJSON('\"tr0ub4dor\"') }}", run: echo, continue-on-error: true}
      - {name: truth, continue-on-error: "${{ format('{0}', 'tr0ub4dor') }}", if: success(), run: echo}
      - {name: condition, if: "always() && fromJSON('tr0ub4dor')", run: echo}
      - {name: action, if: always(), uses: ./made, with: {tr0ub4dor: tr0ub4dor}, continue-on-error: true}
      - {name: file, if: always(), run: 'echo tr0ub4dor >f; mkdir -p made'}
      - {name: upload, if: always(), uses: actions/upload-artifact@v4, with: {name: "artifact-tr0ub4dor-${{ strategy.job-index }}", path: f}}
      - {name: refused, if: always(), continue-on-error: true, uses: actions/upload-artifact@v4, with: {name: "bad:tr0ub4dor", path: f}}
      - {name: none, if: always(), continue-on-error: true, uses: actions/upload-artifact@v4, with: {path: no-tr0ub4dor}}
      - {name: download, if: always(), continue-on-error: true, uses: actions/download-artifact@v4, with: {name: no-tr0ub4dor}}
      - {name: save, if: always(), uses: actions/cache/save@v4, with: {key: "key-tr0ub4dor", path: f}}
      - {name: miss, if: always(), continue-on-error: true, uses: actions/cache/restore@v4, with: {key: none-tr0ub4dor, path: f, fail-on-cache-miss: "true"}}
      - {name: matchers, if: always(), run: 'echo "::add-matcher::no-tr0ub4dor.json"'}
  never:
    needs: tr0ub4dor
    if: github.actor == 'tr0ub4dor'
    runs-on: ubuntu-latest
    steps: [{run: echo}]
  parallel:
    runs-on: ubuntu-latest
    strategy: {max-parallel: "${{ 'tr0ub4dor' }}", matrix: {a: [1]}}
    steps: [{run: echo}]
  number:
    runs-on: ubuntu-latest
    timeout-minutes: ${{ fromJSON('"tr0ub4dor"') }}
    steps: [{run: echo}]
  called:
    uses: ./.github/workflows/called.yml
    with: {word: tr0ub4dor}
  left-out:
    runs-on: left-tr0ub4dor
    steps: [{run: echo}]
"##;

const CALLED: &str = r#"
on:
  workflow_call:
    inputs: {word: {type: string}}
    outputs: {o: {value: "${{ fromJSON(inputs.word) }}"}}
jobs:
  inner:
    name: Inner ${{ inputs.word }}
    runs-on: ubuntu-latest
    steps: [{run: 'echo "${{ inputs.word }}"'}]
"#;

/// What the machine has not, or the file should not ask: each in a run of its own, which fails for it.
const REFUSED: [&str; 4] = [
    "on: push\njobs: {a: {runs-on: 'label-tr0ub4dor', steps: [{run: echo}]}}",
    "on: push\njobs: {a: {name: tr0ub4dor, runs-on: ubuntu-latest, container: 'image-tr0ub4dor:1', steps: [{run: echo}]}}",
    "on: push\njobs: {a: {runs-on: ubuntu-latest, services: {tr0ub4dor: {image: 'tr0ub4dor:1'}}, steps: [{run: echo}]}}",
    "on: push\nconcurrency: \"${{ fromJSON('tr0ub4dor') }}\"\njobs: {a: {runs-on: ubuntu-latest, steps: [{run: echo}]}}",
];

/// Whatever a user calls something, and whatever is said of it: a secret in it is not shown, not kept and not reported.
#[test]
fn a_secret_in_a_name_or_in_a_message_is_seen_nowhere() {
    let home = Home::new();
    let settings = format!("skip-runs-on = [\"left-*\"]\n{TINY}");
    let project = Project::with(&settings, NAMED);
    project.workflow("called", CALLED);
    for (index, text) in REFUSED.iter().enumerate() {
        project.workflow(&format!("refused{index}"), text);
    }
    let needles = [b"tr0ub4dor".to_vec()];
    let look = |line: &str| {
        let outcome = project
            .call(&home, line.split(' '))
            .env("ONE", "tr0ub4dor")
            .run();
        for bytes in [&outcome.stdout, &outcome.stderr] {
            let text = String::from_utf8_lossy(bytes);
            assert!(!text.contains("tr0ub4dor"), "{line} shows it: {text}");
        }
        outcome
    };
    let ran = look("workflow run ci --secret ONE --machine-per job --snapshot-steps --report out");
    assert_eq!(ran.code, Some(1), "{ran}");
    let events = look("workflow run ci --secret ONE --format ndjson --report again");
    assert_eq!(events.code, Some(1), "{events}");
    for name in 0..REFUSED.len() {
        let refused = look(&format!(
            "workflow run refused{name} --secret ONE --report refused"
        ));
        assert_ne!(refused.code, Some(0), "{refused}");
    }
    let lists = [
        "workflow ls",
        "workflow ls --format json",
        "lease ls --format json",
        "events",
    ];
    for line in lists {
        look(line).ok();
    }
    for run in home.json("workflow ls").as_array().unwrap() {
        let id = run["id"].as_str().unwrap();
        look(&format!("workflow show {id}")).ok();
        look(&format!("workflow show {id} --format json")).ok();
    }
    for folder in ["out", "again", "refused"] {
        assert_eq!(
            holding(&project.root().join(folder), &needles),
            [],
            "reported"
        );
    }
    let mut kept = holding(&home.root().join("runs"), &needles);
    kept.extend(holding(&home.root().join("groups"), &needles));
    kept.retain(|(path, _)| {
        let path = path.to_string_lossy();
        // What goes on from there needs these as they are; they are their owner's alone. An artifact is what the user has made.
        !(path.ends_with(".state") || path.contains("/artifacts/") || path.contains("/moments/"))
    });
    assert_eq!(kept, [], "kept");
    for file in ["vmint.db", "vmint.db-wal"] {
        let bytes = std::fs::read(home.root().join(file)).unwrap_or_default();
        let held = bytes.windows(9).any(|window| window == b"tr0ub4dor");
        assert!(!held, "it is in {file}");
    }
    let text = ran.text();
    for line in ["Job *** ", "Step ***-a ***", "Inner ***", "artifact-***-0"] {
        assert!(text.contains(line), "{line:?}: {ran}");
    }
}
