//! Services and docker actions in a real machine, with podman and with docker, in Debian; and a registry in the same machine
//! that images are pulled from.

use rustix::process::Signal;
use serde_json::Value;
use std::time::Duration;
use vmint_tests::bytes::holding;
use vmint_tests::call::Started;
use vmint_tests::processes::kill;
use vmint_tests::seed::Seed;
use vmint_tests::{Home, Project, Ran, Record};

/// Under emulation each container takes seconds.
const RUN_WITHIN: Duration = Duration::from_mins(15);
/// The pool removes a machine behind the run that has given it back.
const GONE_WITHIN: Duration = Duration::from_secs(30);

const SETTINGS: &str = "[workflow]\nimage = \"workshop\"\nmemory = \"640M\"\n";

/// Who one is at the registry of [`Seed::Workshop`].
const PASSWORD: &str = "registry-s3cret";
/// `me:` and that, in base64, as the engine keeps it.
const IN_BASE64: &str = "bWU6cmVnaXN0cnktczNjcmV0";

const DOCKERFILE: &str = "FROM localhost/box:1
COPY greet.sh /
RUN chmod +x /greet.sh
";

const ACTION: &str = r#"
name: Greet
inputs: {who: {default: world}, token: {default: ''}}
outputs: {greeting: {description: what was said}}
runs:
  using: docker
  image: Dockerfile
  entrypoint: /greet.sh
  # Of an action of the repository it is not run.
  pre-entrypoint: /greet.sh
  post-entrypoint: /greet.sh
  env: {FROM: "to ${{ inputs.who }}"}
  args: [one word, "${{ inputs.who }}"]
"#;

const GREET: &str = r#"#!/bin/sh
echo "[$1] [$2] [$INPUT_WHO] [$FROM] [$STEP] before: ${STATE_BEFORE-nothing}"
echo "$(pwd) $HOME $GITHUB_WORKSPACE ${GITHUB_OUTPUT%/*/*} $GITHUB_EVENT_PATH token ${#INPUT_TOKEN} $INPUT_TOKEN"
test -s "$GITHUB_EVENT_PATH" && echo the event is there
echo "BEFORE=$STATE_BEFORE+" >>"$GITHUB_STATE"
[ -e a.txt ] || exit 0
echo "greeting=hello $2" >>"$GITHUB_OUTPUT"
echo "LATER=of the container" >>"$GITHUB_ENV"
echo "::warning file=/github/workspace/a.txt,line=1::seen inside"
echo made in a container >made.txt
echo "the page: $(wget -q -O - http://web:8000/index.html)"
"#;

const GOOD: &str = r#"
on: push
env: {WHERE: workflow}
jobs:
  prepare:
    runs-on: ubuntu-latest
    steps:
      - id: engine
        run: |
          engine=$(command -v ${{ vars.ENGINE }})
          if [ $engine = /usr/bin/docker ]; then systemctl start docker; podman save localhost/box:1 | docker load; fi
          systemctl start docker-registry
          timeout 60 sh -c 'until busybox wget -q -O - http://127.0.0.1:5000/ >/dev/null; do sleep 0.2; done'
          printf %s "$PASSWORD" | $engine login --username me --password-stdin localhost:5000
          $engine tag localhost/box:1 localhost:5000/box:2
          $engine push localhost:5000/box:2
          $engine rmi localhost:5000/box:2
          $engine logout localhost:5000
          # From now on it is written down what the engine is called with.
          printf '#!/bin/sh\nprintf "%%s " "$@" "" >>/called\nexec %s "$@"\n' $engine >/usr/local/bin/${{ vars.ENGINE }}
          chmod +x /usr/local/bin/${{ vars.ENGINE }}
        env: {PASSWORD: "${{ secrets.PASSWORD }}"}
  all:
    needs: prepare
    runs-on: ubuntu-latest
    services:
      web:
        image: localhost:5000/box:${{ vars.VERSION }}
        credentials: {username: me, password: "${{ secrets.PASSWORD }}"}
        env: {TEXT: "${{ github.job }} ${{ env.WHERE }} ${{ secrets.TOKEN }}"}
        ports: ["8000", "8080:8001"]
        command: >-
          sh -c "echo it serves; mkdir /srv; echo $TEXT >/srv/text; sleep 2;
          echo of the service >/srv/index.html; exec httpd -f -p 8000 -h /srv"
        options: >-
          --health-cmd "wget -q -O - http://127.0.0.1:8000/index.html" --health-interval 1s --health-retries 60
      none: {image: "${{ vars.NOTHING }}"}
    steps:
      - uses: actions/checkout@v4
      - id: reach
        run: |
          echo "id of ${#ID} ports ${{ job.services.web.ports['8001'] }} ${{ job.services.none == null }}"
          exec 3<>/dev/tcp/127.0.0.1/${{ job.services.web.ports['8000'] }}
          printf 'GET /index.html HTTP/1.0\r\n\r\n' >&3
          grep of <&3
        env: {ID: "${{ job.services.web.id }}"}
        shell: bash
      - id: greet
        uses: ./.github/actions/greet
        env: {STEP: of the step}
        with: {who: you there, token: "${{ secrets.TOKEN }}"}
      - id: after
        run: echo "${{ steps.greet.outputs.greeting }}, $LATER, $(cat made.txt)"
      - id: image
        uses: docker://localhost/box:1
        continue-on-error: true
        env: {PLAIN: in plain sight}
        with:
          entrypoint: /bin/sh
          args: -c "echo $PLAIN; wget -q -O - http://web:8000/text; exit 7"
  lost:
    needs: all
    strategy: {fail-fast: false, matrix: {who: [me, you]}}
    continue-on-error: true
    runs-on: ubuntu-latest
    services:
      lost:
        image: localhost:5000/box:none
        credentials:
          username: ${{ matrix.who }}
          password: ${{ secrets.PASSWORD }}
    steps:
      - {id: never, run: echo}
      - {id: always, if: always(), run: echo ran}
  look:
    needs: lost
    runs-on: ubuntu-latest
    steps:
      - id: look
        run: |
          coded=$(printf 'me:%s' "$PASSWORD" | base64)
          for text in ' pull ' "$PASSWORD" "$coded"; do echo "in $(grep -c -e "$text" /called)"; done
          find / -xdev -name 'registry_*' -path '*vmint*'; ls /run/vmint | grep registry
          ${{ vars.ENGINE }} ps --all --quiet; ${{ vars.ENGINE }} network ls | grep github
          echo that is all
        shell: sh {0}
        env: {PASSWORD: "${{ secrets.PASSWORD }}"}
"#;

const BAD: &str = r#"
on: push
jobs:
  prepare:
    runs-on: ubuntu-latest
    steps: [{run: "if [ ${{ vars.ENGINE }} = docker ]; then systemctl start docker; podman save localhost/box:1 | docker load; fi"}]
  sick:
    needs: prepare
    runs-on: ubuntu-latest
    services:
      ill:
        image: localhost/box:1
        command: sh -c "echo I am ill; sleep 1000"
        options: --health-cmd "echo cough of phlegm; false" --health-interval 1s --health-retries 2
    steps:
      - {id: never, run: echo}
      - {id: always, if: always(), run: echo ran}
  slow:
    needs: sick
    if: always()
    runs-on: ubuntu-latest
    services: {idle: {image: "localhost/box:1", command: sleep 1000}}
    steps:
      - id: stubborn
        uses: docker://localhost/box:1
        with: {args: "sh -c \"trap '' INT TERM; x=begins; echo it-$x; while true; do sleep 1; done\""}
      - {id: left, if: always(), run: "${{ vars.ENGINE }} ps --all --format 'left {{.Names}}'"}
"#;

const HELD: &str = r#"
on: push
jobs:
  held:
    runs-on: ubuntu-latest
    services: {idle: {image: "localhost/box:1", command: sleep 1000}}
    steps:
      - id: stubborn
        uses: docker://localhost/box:1
        with: {args: "sh -c \"trap '' INT TERM; x=begins; echo it-$x; while true; do sleep 1; done\""}
      - {id: later, if: always(), run: echo ran}
"#;

#[track_caller]
fn holds(log: &str, texts: &[&str]) {
    for text in texts {
        assert!(log.contains(text), "no {text:?} in: {log}");
    }
}

/// The names of a job's steps, in order.
fn names(record: &Record, job: &str) -> Vec<String> {
    let steps = record.job(job)["steps"].as_array();
    let steps = steps.expect("a job has steps").iter();
    steps
        .map(|step| step["name"].as_str().expect("a name").to_owned())
        .collect()
}

fn project() -> Project {
    let project = Project::new("");
    project.file("vmint.toml", SETTINGS);
    project.file("a.txt", "a");
    project.file(".github/actions/greet/action.yml", ACTION);
    project.file(".github/actions/greet/Dockerfile", DOCKERFILE);
    project.file(".github/actions/greet/greet.sh", GREET);
    project.workflow("good", GOOD);
    project.workflow("bad", BAD);
    project.workflow("held", HELD);
    project
}

#[track_caller]
fn all_is_well(home: &Home, project: &Project, engine: &str) {
    let args = format!(
        "workflow run good --var VERSION=2 --var ENGINE={engine} --secret TOKEN \
         --secret PASSWORD --report out --format json"
    );
    let call = project.vmint(home, &args).deadline(RUN_WITHIN);
    let secrets = call
        .env("TOKEN", "s3cret-of-mine")
        .env("PASSWORD", PASSWORD);
    let outcome = secrets.run();
    let record = Record(outcome.json());
    let folder = home.root().join("runs").join(record.id());
    let ran = Ran {
        outcome,
        record,
        folder,
    }
    .ok();
    assert_eq!(
        names(&ran.record, "all"),
        [
            "Set up job",
            "Initialize containers",
            "Run actions/checkout@v4",
            "Run echo \"id of ${#ID} ports 8080 true\"",
            "Run ./.github/actions/greet",
            "Run echo \"hello you there, $LATER, $(cat made.txt)\"",
            "Run docker://localhost/box:1",
            "Post ./.github/actions/greet",
            "Stop containers",
            "Complete job",
        ]
    );
    holds(
        &ran.log("all", "Initialize containers"),
        &[
            &format!("##[command]{engine} "),
            " localhost:5000/box:2\n",
            &format!("##[command]{engine} create "),
            "--env TEXT",
            "web service is healthy.",
        ],
    );
    let reached = ran.log("all", "reach");
    holds(
        &reached,
        &["\nid of 64 ports 8080 true\n", "\nof the service\n"],
    );
    let greet = ran.log("all", "greet");
    holds(
        &greet,
        &[
            "##[group]Building the image of ",
            "\n[one word] [you there] [you there] [to you there] [of the step] before: nothing\n",
            "\n/github/workspace /github/home /github/workspace /github/file_commands /github/workflow/event.json token 14 ***\n",
            "\nthe event is there\n",
            "\nthe page: of the service\n",
        ],
    );
    let warning = &ran.record.step("all", "greet")["annotations"][0];
    let file = warning["file"].as_str().unwrap_or_default();
    assert!(
        file.ends_with("/a.txt") && file.starts_with("/home/runner/work/"),
        "the machine's path: {warning}"
    );
    holds(
        &ran.log("all", "after"),
        &["\nhello you there, of the container, made in a container\n"],
    );
    let image = ran.record.step("all", "image");
    assert_eq!(
        (&image["outcome"], &image["ended"]["code"]),
        (&"failure".into(), &7.into())
    );
    holds(
        &ran.log("all", "image"),
        &["\nin plain sight\n", "\nall workflow ***\n"],
    );
    let post = ran.log("all", "Post ./.github/actions/greet");
    holds(&post, &["before: +\n", &format!("{engine} run ")]);
    assert!(!post.contains("Building"), "it is built once: {post}");
    let stopped = ran.log("all", "Stop containers");
    holds(
        &stopped,
        &["Logs of service web:", "\nit serves\n", "network rm"],
    );
    what_cannot_be_pulled_is_told(&ran);
    let look = ran.log("look", "look");
    let (_, look) = look.split_once("##[endgroup]\n").expect("what it runs");
    let (pulls, rest) = look.split_once('\n').expect("some lines");
    assert_ne!(pulls, "in 0", "the engine was called: {look}");
    assert_eq!(rest, "in 0\nin 0\nthat is all\n", "{look}");
    let needles = ["s3cret-of-mine", PASSWORD, IN_BASE64].map(|text| text.as_bytes().to_vec());
    let shown = [ran.outcome.text(), ran.outcome.error()].concat();
    for needle in ["s3cret-of-mine", PASSWORD, IN_BASE64] {
        assert!(!shown.contains(needle), "{needle} is shown: {shown}");
    }
    for folder in [home.root().join("runs"), project.root().join("out")] {
        assert_eq!(holding(&folder, &needles), [], "it is kept");
    }
}

#[track_caller]
fn what_cannot_be_pulled_is_told(ran: &Ran) {
    for (job, why) in [
        ("lost (me)", "manifest unknown"),
        ("lost (you)", "unauthorized"),
    ] {
        let started = ran.record.step(job, "Initialize containers");
        assert_eq!(started["outcome"], "failure", "{started}");
        let reason = started["ended"]["reason"].as_str().unwrap_or_default();
        holds(
            reason,
            &["service `lost`", "`localhost:5000/box:none`", why],
        );
        assert_eq!(ran.record.outcome(job, "never"), "skipped");
        assert_eq!(ran.record.outcome(job, "always"), "success");
        assert_eq!(ran.record.job(job)["fault"], Value::Null);
    }
}

#[track_caller]
fn what_fails_or_is_cancelled_is_removed(home: &Home, project: &Project, engine: &str) {
    let args = format!("workflow run bad --var ENGINE={engine} --secret WORD=phlegm");
    let mut run = project.vmint(home, &args).deadline(RUN_WITHIN).start();
    run.says("it-begins");
    run.signal(Signal::INT);
    let record = project.record_of(home, &run.finish().exits(130));
    assert_eq!(
        record.job("sick")["outcome"],
        "failure",
        "{:#}",
        record.job("sick")
    );
    let started = record.step("sick", "Initialize containers");
    assert_eq!(started["outcome"], "failure", "{started}");
    let why = started["ended"]["reason"].as_str().unwrap_or_default();
    holds(
        why,
        &[
            "service `ill` is not ready",
            "its health check failed",
            "cough of ***",
        ],
    );
    let log = record.log(home, "sick", "Initialize containers");
    holds(
        &log,
        &[
            "Service container ill failed.",
            "\nI am ill\n",
            "##[error]service `ill`",
        ],
    );
    let kept = holding(&home.root().join("runs"), &[b"phlegm".to_vec()]);
    assert_eq!(kept, [], "what a service says of itself is masked");
    // What the run waited for, while the service did not become well.
    let trace = home.ok("logs latest --trace").text();
    let waited = trace.lines().filter(|line| {
        line.contains("wait for ") && line.contains(" before ") && line.contains(" inspect ")
    });
    assert!(waited.count() > 0, "{trace}");
    assert!(trace.contains("container call "), "{trace}");
    assert_eq!(record.outcome("sick", "never"), "skipped");
    assert_eq!(record.outcome("sick", "always"), "success");
    assert_eq!(record.outcome("sick", "Stop containers"), "success");
    assert_eq!(record.outcome("slow", "stubborn"), "cancelled");
    let left = record.log(home, "slow", "left");
    let left: Vec<_> = left
        .lines()
        .filter(|line| line.starts_with("left "))
        .collect();
    assert!(
        matches!(left[..], [only] if only.contains("idle")),
        "of the two jobs only the service that still runs: {left:?}"
    );
    assert_eq!(record.outcome("slow", "Stop containers"), "success");
    holds(
        &record.log(home, "slow", "Stop containers"),
        &["rm --force"],
    );
}

/// A container is held in a machine. What ends the run then leaves nothing on this host.
#[track_caller]
fn held(home: &Home, project: &Project) -> Started {
    let call = project.vmint(home, "workflow run held");
    let mut run = call.deadline(RUN_WITHIN).start();
    run.says("it-begins");
    run
}

#[track_caller]
fn a_second_ctrl_c_ends_it_at_once(home: &Home, project: &Project) {
    let mut run = held(home, project);
    run.signal(Signal::INT);
    // The container is removed by force, which takes a while; it is cut off.
    run.says("rm --force");
    run.signal(Signal::INT);
    let record = project.record_of(home, &run.finish().exits(130));
    assert_eq!(record.end(), "cancelled");
    assert_eq!(record.outcome("held", "stubborn"), "cancelled");
    assert_ne!(record.outcome("held", "later"), "success");
    let steps = record.job("held")["steps"].to_string();
    assert!(!steps.contains("Stop containers"), "{steps}");
    assert_eq!(record.job("held")["fault"], Value::Null);
    home.empties(GONE_WITHIN);
}

#[track_caller]
fn kill_9_leaves_nothing(home: &Home, project: &Project) {
    let run = held(home, project);
    kill(run.pid());
    drop(run.finish());
    home.empties(GONE_WITHIN);
    let record = project.record(home, "latest");
    assert_eq!(record.end(), "abandoned", "{:#}", record.0);
}

#[test]
fn services_and_docker_actions_run_with_podman_and_nothing_of_them_is_left() {
    let home = Home::with(Seed::Workshop);
    let project = project();
    all_is_well(&home, &project, "podman");
    what_fails_or_is_cancelled_is_removed(&home, &project, "podman");
    a_second_ctrl_c_ends_it_at_once(&home, &project);
    kill_9_leaves_nothing(&home, &project);
}

#[test]
fn services_and_docker_actions_run_with_docker_and_nothing_of_them_is_left() {
    let home = Home::with(Seed::Workshop);
    let project = project();
    all_is_well(&home, &project, "docker");
    what_fails_or_is_cancelled_is_removed(&home, &project, "docker");
    home.empties(GONE_WITHIN);
}
