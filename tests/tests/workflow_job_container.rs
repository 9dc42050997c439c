//! Jobs with a `container:` in a real machine, with podman and with docker: busybox without a C library, so that nothing of the
//! machine's can be taken for the container's by chance.

use rustix::process::Signal;
use serde_json::Value;
use std::time::Duration;
use vmint_tests::bytes::holding;
use vmint_tests::seed::Seed;
use vmint_tests::{Home, Project, Ran, Record};

/// Under emulation each container takes seconds.
const RUN_WITHIN: Duration = Duration::from_mins(15);
/// The pool removes a machine behind the run that has given it back.
const GONE_WITHIN: Duration = Duration::from_secs(30);

const SETTINGS: &str =
    "[workflow]\nimage = \"workshop\"\nmemory = \"768M\"\nactions = \"mirror\"\n";

/// Of the mirror, for Node.js.
const ACTION: &str = r"
inputs: {who-to-greet: {default: nobody}, token: {default: ''}}
outputs: {said: {description: what it said}}
runs: {using: node20, pre: part.js, main: part.js, post: part.js}
";

const PART: &str = r"
const fs = require('fs'), cp = require('child_process');
if (process.argv[2]) { console.log('again ' + process.argv[2]); process.exit(0); }
const env = process.env, append = (name, text) => fs.appendFileSync(env[name], text + '\n');
const state = Number(env.STATE_count || 0) + 1;
append('GITHUB_STATE', 'count=' + state);
console.log(`part ${state} greets ${env['INPUT_WHO-TO-GREET']} in ${process.cwd()} of ${require('os').hostname()}`);
console.log(`${env.GITHUB_WORKSPACE} ${env.RUNNER_TEMP} ${env.GITHUB_ACTION_PATH} token ${env.INPUT_TOKEN.length}`);
if (state === 2) {
  append('GITHUB_OUTPUT', 'said=hello');
  // It starts itself again, as tools do that divide their work.
  console.log(cp.execFileSync(process.execPath, [__filename, 'itself']).toString().trim());
  cp.fork(__filename, ['forked']).on('exit', (code) => process.exit(code));
}
";

/// Of the repository.
const LOCAL: &str = r#"
inputs: {what: {required: true}}
outputs: {where: {value: "${{ steps.inner.outputs.where }}"}}
runs:
  using: composite
  steps:
    - id: inner
      shell: sh
      run: |
        echo "composite ${{ inputs.what }} in $(hostname), of $GITHUB_ACTION_PATH ${{ github.action_path }}"
        cat "$GITHUB_ACTION_PATH/beside.txt"
        echo "where=$(pwd)" >>"$GITHUB_OUTPUT"
"#;

const MATCHER: &str = r#"{"problemMatcher": [{"owner": "m", "pattern":
  [{"regexp": "^wrong (\\S+):(\\d+) (.*)$", "file": 1, "line": 2, "message": 3}]}]}"#;

const GOOD: &str = r#"
on: push
env: {WHERE: workflow}
jobs:
  prepare:
    runs-on: ubuntu-latest
    steps:
      - run: |
          if [ ${{ vars.ENGINE }} = docker ]; then systemctl start docker; podman save localhost/box:1 | docker load; fi
          # From now on it is written down what the engine is called with.
          engine=$(command -v ${{ vars.ENGINE }})
          printf '#!/bin/bash\nprintf "%%s " "$@" "" >>/called\nexec %s "$@"\n' $engine >/usr/local/bin/${{ vars.ENGINE }}
          chmod +x /usr/local/bin/${{ vars.ENGINE }}
  inside:
    needs: prepare
    runs-on: ubuntu-latest
    env: {OF_JOB: "${{ github.workspace }} ${{ github.event_path }}", TOKEN: "${{ secrets.TOKEN }}"}
    container:
      image: localhost/box:${{ vars.VERSION }}
      env: {OWN: "${{ github.job }} ${{ env.WHERE }} ${{ secrets.TOKEN }}", HERE: "${{ github.workspace }}"}
      volumes: ["${{ github.workspace }}:/src", "kept:/kept", /empty]
      options: --hostname boxed --cpus 1
    services:
      web:
        image: localhost/box:1
        command: sh -c "mkdir /srv; echo of the service >/srv/page; exec httpd -f -p 8000 -h /srv"
        options: --health-cmd "wget -q -O - http://127.0.0.1:8000/page" --health-interval 1s --health-retries 60
    steps:
      - uses: actions/checkout@v4
      - id: look
        run: |
          echo "$(hostname) in $(pwd): $OWN, $HERE, $OF_JOB, $WHERE"
          echo "$HOME $GITHUB_WORKSPACE $RUNNER_TEMP $RUNNER_TOOL_CACHE $GITHUB_EVENT_PATH ${GITHUB_OUTPUT%/*/*}"
          echo "${{ github.workspace }} ${{ runner.temp }} ${{ runner.tool_cache }} ${{ github.event_path }}"
          test -s "$GITHUB_EVENT_PATH" && cat /src/a.txt && ls -d /empty /kept
          echo "page: $(wget -q -O - http://web:8000/page)"
          id=${{ job.container.id }}
          echo "id of ${#id} in ${{ job.container.network }} and ${{ job.services.web.network }}"
          mkdir bin; printf '#!/bin/sh\necho added\n' >bin/tool; chmod +x bin/tool; echo "$PWD/bin" >>"$GITHUB_PATH"
          printf 'LATER<<E\nof the\nstep\nE\n' >>"$GITHUB_ENV"
          echo "value=given" >>"$GITHUB_OUTPUT"
          echo '# A page' >>"$GITHUB_STEP_SUMMARY"
          mkdir /outside; echo outside >/outside/o.txt; ln -s "$PWD/a.txt" link.txt
          test -x /bin/bash || echo no bash; test -e /etc/debian_version || echo no machine
          nc -l -p 7 </dev/null >/dev/null 2>&1 &
      - {id: after, run: 'echo "$(tool), $LATER, ${{ steps.look.outputs.value }}"', working-directory: bin}
      - id: sub
        shell: sh -c {0}
        working-directory: ${{ github.workspace }}/bin
        run: pwd
      - id: hash
        run: echo "hash ${{ hashFiles('*.txt') }} ${{ hashFiles('a.txt', 'link.txt') == hashFiles('*.txt') }}"
      - id: greet
        uses: acme/greet@v1
        with: {who-to-greet: you, token: "${{ secrets.TOKEN }}"}
      - {id: said, run: "echo ${{ steps.greet.outputs.said }}"}
      - id: local
        uses: ./local
        with: {what: things}
      - {id: where, run: "echo at ${{ steps.local.outputs.where }}"}
      - id: docker
        uses: docker://localhost/box:1
        env: {THERE: "${{ github.workspace }}/a.txt"}
        with: {entrypoint: /bin/sh, args: '-c "cat $THERE; echo $THERE $GITHUB_WORKSPACE; wget -q -O - http://web:8000/page"'}
      - id: match
        run: |
          echo "::add-matcher::m.json"
          echo "wrong a.txt:3 as seen"
          echo "wrong $PWD/a.txt:4 in full"
          echo "::warning file=$PWD/a.txt,line=5::by command"
      - {uses: actions/upload-artifact@v4, with: {name: both, path: "link.txt\n/outside"}}
      - {uses: actions/download-artifact@v4, with: {name: both, path: /fetched/there}}
      - {id: fetched, run: 'cd /fetched/there; find . -type f | sort; cat $(find . -name o.txt)'}
      - {uses: actions/cache@v4, with: {key: k, path: "~/.kept\n/opt/kept"}}
      - {run: 'mkdir -p ~/.kept /opt/kept; echo home >~/.kept/h; echo opt >/opt/kept/o'}
  again:
    needs: inside
    runs-on: ubuntu-latest
    # Nothing of the job before is there, but what was kept.
    container: {image: "docker://localhost/box:1", options: --user 1000}
    steps:
      - uses: actions/checkout@v4
      - {id: restore, uses: actions/cache@v4, with: {key: k, path: "~/.kept\n/opt/kept"}}
      - id: look
        run: |
          echo "user $(id -u) hit ${{ steps.restore.outputs.cache-hit }} $(cat ~/.kept/h /opt/kept/o)"
          ls /outside bin 2>/dev/null || echo more >>a.txt && echo it writes
  machine:
    needs: again
    runs-on: ubuntu-latest
    container: ${{ vars.NOTHING }}
    steps:
      - id: look
        run: |
          echo "in $GITHUB_WORKSPACE, ${{ job.container.id == null }}"
          echo "secrets in $(grep -c -e "$TOKEN" /called)"
          ${{ vars.ENGINE }} ps --all --quiet; ${{ vars.ENGINE }} network ls | grep github
          ls /run/vmint | grep inside; grep inside /proc/mounts
          echo that is all
        env: {TOKEN: "${{ secrets.TOKEN }}"}
        shell: sh {0}
"#;

const BAD: &str = r#"
on: push
jobs:
  none:
    runs-on: ubuntu-latest
    container: {image: "localhost/box:1", options: --no-such-option}
    steps:
      - {id: never, run: echo}
      - {id: always, if: always(), run: echo ran}
  ends:
    needs: none
    if: always()
    runs-on: ubuntu-latest
    container: {image: "localhost/box:1", options: --timeout 30}
    steps:
      - {id: waits, run: "x=begins; echo it-$x; while true; do sleep 1; done"}
      - {id: next, run: echo}
      - {id: always, if: always(), run: echo ran}
      - {id: docker, if: always(), uses: "docker://localhost/box:1", with: {args: echo ran}}
  late:
    needs: ends
    if: always()
    runs-on: ubuntu-latest
    container: localhost/box:1
    steps:
      - id: slow
        timeout-minutes: 0.3
        run: "trap '' INT TERM; sleep 1001 & echo begun; while true; do sleep 1; done"
      - {id: left, if: always(), run: "ps -o args | grep -e 'sleep 100[1]' || echo that is all"}
  stopped:
    needs: late
    if: always()
    runs-on: ubuntu-latest
    container: localhost/box:1
    steps:
      - id: told
        run: "trap 'echo it was told; exit 3' INT; sleep 1002 & x=begins; echo stop-$x; while true; do sleep 1; done"
      - {id: left, if: always(), run: "ps -o args | grep -e 'sleep 100[2]' || echo that is all"}
"#;

const PAUSES: &str = r#"
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    container: {image: "localhost/box:1", options: --hostname boxed}
    steps:
      - {id: first, run: 'mkdir /only-here; echo one >>/only-here/ran; nc -l -p 7 </dev/null >/dev/null 2>&1 &'}
      - id: breaks
        env: {OWN: of the step}
        run: echo breaks >>/only-here/ran; exit 7
      - {id: last, run: 'echo "$(hostname): $(cat /only-here/ran | tr "\n" " ")$(ps -o args | grep -c -e "nc -l -p [7]")"'}
"#;

#[track_caller]
fn holds(log: &str, texts: &[&str]) {
    for text in texts {
        assert!(log.contains(text), "no {text:?} in: {log}");
    }
}

fn project() -> Project {
    let project = Project::new("");
    for (name, text) in [
        ("vmint.toml", SETTINGS),
        ("a.txt", "of the repository\n"),
        ("m.json", MATCHER),
        ("local/action.yml", LOCAL),
        ("local/beside.txt", "beside the action\n"),
        ("mirror/acme/greet@v1/action.yml", ACTION),
        ("mirror/acme/greet@v1/part.js", PART),
        (".gitignore", "mirror/\n"),
    ] {
        project.file(name, text);
    }
    project.workflow("good", GOOD);
    project.workflow("bad", BAD);
    project.workflow("pauses", PAUSES);
    project
}

/// What a step's process has written: all behind what vmint says of the step.
fn said(ran: &Ran, job: &str, step: &str) -> String {
    let log = ran.log(job, step);
    let (_, said) = log.split_once("##[endgroup]\n").expect("what it runs");
    said.to_owned()
}

#[track_caller]
fn all_is_well(home: &Home, project: &Project, engine: &str) {
    let name = project.root().file_name().expect("it has a name");
    let name = name.to_string_lossy().into_owned();
    let args = format!(
        "workflow run good --var VERSION=1 --var ENGINE={engine} --secret TOKEN --report out --format json"
    );
    let call = project.vmint(home, &args).deadline(RUN_WITHIN);
    let outcome = call.env("TOKEN", "s3cret-of-mine").run();
    let record = Record(outcome.json());
    let folder = home.root().join("runs").join(record.id());
    let ran = Ran {
        outcome,
        record,
        folder,
    }
    .ok();
    let seen = format!("/__w/{name}/{name}");
    holds(
        &ran.log("inside", "Initialize containers"),
        &[
            "##[group]Starting job container\n",
            &format!("--workdir {seen} "),
            "--entrypoint tail localhost/box:1 -f /dev/null\n",
            "Steps run in the job's container: Linux",
        ],
    );
    let look = ran.log("inside", "look");
    holds(
        &look,
        &[
            "\nshell: sh -e {0}\n",
            &format!(
                "\nboxed in {seen}: inside workflow ***, {seen}, {seen} /github/workflow/event.json, workflow\n"
            ),
            &format!(
                "\n/github/home {seen} /__w/_temp /__t /github/workflow/event.json /__w/_temp/_runner_file_commands\n"
            ),
            &format!("\n{seen} /__w/_temp /__t /github/workflow/event.json\n"),
            "\nof the repository\n/empty\n/kept\n",
            "\npage: of the service\n",
            "\nid of 64 in github_network_",
            "\nno bash\nno machine\n",
        ],
    );
    assert_eq!(
        said(&ran, "inside", "after"),
        "added, of the\nstep, given\n"
    );
    assert_eq!(said(&ran, "inside", "sub"), format!("{seen}/bin\n"));
    let hash = said(&ran, "inside", "hash");
    assert!(hash.len() > 64 && hash.ends_with(" true\n"), "{hash}");
    actions_run_in_it(&ran, &seen);
    files_of_it_are_found(&ran);
    assert!(ran.record.step("inside", "look")["summary"].is_string());
    assert_eq!(
        said(&ran, "again", "look"),
        "user 1000 hit true home\nopt\nit writes\n"
    );
    assert_eq!(
        said(&ran, "machine", "look"),
        format!("in /home/runner/work/{name}/{name}, true\nsecrets in 0\nthat is all\n")
    );
    let secret = "s3cret-of-mine";
    let shown = [ran.outcome.text(), ran.outcome.error()].concat();
    assert!(!shown.contains(secret), "it is shown: {shown}");
    for folder in [home.root().join("runs"), project.root().join("out")] {
        assert_eq!(
            holding(&folder, &[secret.as_bytes().to_vec()]),
            [],
            "it is kept"
        );
    }
}

#[track_caller]
fn actions_run_in_it(ran: &Ran, seen: &str) {
    for (step, part) in [
        ("Pre acme/greet@v1", 1),
        ("greet", 2),
        ("Post acme/greet@v1", 3),
    ] {
        let log = ran.log("inside", step);
        holds(
            &log,
            &[
                &format!("part {part} greets you in {seen} of boxed\n"),
                &format!("{seen} /__w/_temp /__w/_actions/acme/greet/v1 token 14\n"),
            ],
        );
    }
    holds(
        &said(ran, "inside", "greet"),
        &["again itself\n", "again forked\n"],
    );
    assert_eq!(said(ran, "inside", "said"), "hello\n");
    holds(
        &ran.log("inside", "local"),
        &[
            &format!("composite things in boxed, of {seen}/local {seen}/local\n"),
            "beside the action\n",
        ],
    );
    assert_eq!(said(ran, "inside", "where"), format!("at {seen}\n"));
    holds(
        &said(ran, "inside", "docker"),
        &[
            "of the repository\n",
            "/github/workspace/a.txt /github/workspace\n",
            "of the service\n",
        ],
    );
}

#[track_caller]
fn files_of_it_are_found(ran: &Ran) {
    let found = ran.record.step("inside", "match")["annotations"].as_array();
    let found = found.expect("annotations").iter().map(|annotation| {
        let file = annotation["file"].as_str().unwrap_or_default();
        let is_known = file == "a.txt" || file.starts_with("/home/runner/work/");
        (is_known, annotation["line"].as_u64())
    });
    let found: Vec<_> = found.collect();
    assert_eq!(found, [(true, Some(3)), (true, Some(4)), (true, Some(5))]);
    let fetched = said(ran, "inside", "fetched");
    holds(
        &fetched,
        &["/link.txt\n", "/outside/o.txt\n", "\noutside\n"],
    );
}

#[track_caller]
fn what_goes_wrong_is_told_and_nothing_is_left(home: &Home, project: &Project) {
    let mut run = project
        .vmint(home, "workflow run bad --secret WORD=no-such-option")
        .deadline(RUN_WITHIN)
        .start();
    run.says("stop-begins");
    run.signal(Signal::INT);
    let record = project.record_of(home, &run.finish().exits(130));
    let reason = |job: &str, step: &str| {
        let ended = &record.step(job, step)["ended"];
        ended["reason"].as_str().unwrap_or_default().to_owned()
    };
    holds(
        &reason("none", "Initialize containers"),
        &["failed to create the job's container (localhost/box:1)"],
    );
    holds(
        &record.log(home, "none", "Initialize containers"),
        &["unknown flag: --***"],
    );
    let kept = holding(&home.root().join("runs"), &[b"no-such-option".to_vec()]);
    assert_eq!(kept, [], "what the container's engine says is masked");
    assert_eq!(record.outcome("none", "never"), "skipped");
    assert_eq!(
        reason("none", "always"),
        "the job's container did not start"
    );
    assert_eq!(record.outcome("none", "Stop containers"), "success");

    let told = reason("ends", "waits");
    holds(
        &told,
        &["the job's container ended while the step ran: it "],
    );
    assert_eq!(record.outcome("ends", "next"), "skipped");
    holds(
        &reason("ends", "always"),
        &["the job's container has ended: it "],
    );
    assert_eq!(record.outcome("ends", "docker"), "success");

    assert_eq!(record.step("late", "slow")["ended"]["kind"], "timed_out");
    for (job, step) in [("late", "left"), ("stopped", "left")] {
        let log = record.log(home, job, step);
        assert_eq!(record.outcome(job, step), "success", "{log}");
        assert!(log.ends_with("##[endgroup]\nthat is all\n"), "{log}");
    }
    assert_eq!(record.outcome("stopped", "told"), "cancelled");
    holds(&record.log(home, "stopped", "told"), &["\nit was told\n"]);
    for job in ["none", "ends", "late", "stopped"] {
        assert_eq!(record.job(job)["fault"], Value::Null);
        holds(&record.log(home, job, "Stop containers"), &["network rm"]);
    }
}

#[track_caller]
fn a_pause_keeps_it(home: &Home, project: &Project) {
    let args = "workflow run pauses --pause-on-failure";
    project
        .vmint(home, args)
        .deadline(RUN_WITHIN)
        .run()
        .exits(77);
    let look =
        "hostname; cat /only-here/ran; echo \"$OWN $PWD\"; ps -o args | grep -c -e 'nc -l -p [7]'";
    let shell = ["workflow", "shell", "latest", "--", "sh", "-c", look];
    let seen = project
        .call(home, shell)
        .deadline(RUN_WITHIN)
        .run()
        .ok()
        .text();
    assert!(
        seen.starts_with("boxed\none\nbreaks\nof the step /__w/") && seen.ends_with("\n1\n"),
        "{seen}"
    );
    project.workflow("pauses", &PAUSES.replace("exit 7", "true"));
    let retry = project
        .vmint(home, "workflow retry latest")
        .deadline(RUN_WITHIN);
    retry.run().ok();
    let record = project.record(home, "latest");
    let log = record.log(home, "test", "last");
    holds(&log, &["\nboxed: one breaks 1\n"]);
    holds(
        &record.log(home, "test", "Stop containers"),
        &["rm --force"],
    );
}

#[test]
fn a_job_runs_in_its_container_with_podman() {
    let home = Home::with(Seed::Workshop);
    let project = project();
    all_is_well(&home, &project, "podman");
    home.empties(GONE_WITHIN);
}

#[test]
fn a_job_runs_in_its_container_with_docker() {
    let home = Home::with(Seed::Workshop);
    let project = project();
    all_is_well(&home, &project, "docker");
    home.empties(GONE_WITHIN);
}

#[test]
fn a_container_that_fails_ends_or_is_cancelled_is_told_and_removed() {
    let home = Home::with(Seed::Workshop);
    let project = project();
    what_goes_wrong_is_told_and_nothing_is_left(&home, &project);
    home.empties(GONE_WITHIN);
}

#[test]
fn a_job_in_a_container_pauses_and_goes_on() {
    let home = Home::with(Seed::Workshop);
    a_pause_keeps_it(&home, &project());
    home.empties(GONE_WITHIN);
}
