//! Services and docker actions in a real machine: podman in Debian, and a container image that was made there of busybox,
//! for these tests ask no registry.

use rustix::process::Signal;
use std::time::Duration;
use vmint_tests::seed::Seed;
use vmint_tests::{Home, Project, Ran, Record};

/// Debian is fetched, unpacked and booted, and under emulation each container takes seconds.
const BUILT_WITHIN: Duration = Duration::from_mins(15);
const RUN_WITHIN: Duration = Duration::from_mins(15);
/// The pool removes a machine behind the run that has given it back.
const GONE_WITHIN: Duration = Duration::from_secs(30);

const SETTINGS: &str = "[workflow]\nimage = \"ci\"\nmemory = \"512M\"\n";

const PACKAGES: [&str; 7] = [
    "podman",
    "crun",
    "netavark",
    "aardvark-dns",
    "iptables",
    "ca-certificates",
    "busybox-static",
];

/// Makes the container image `localhost/box:1`.
const BOX: &str = r#"
set -e
root=$(mktemp -d)
mkdir -p $root/bin $root/tmp $root/etc
cp /bin/busybox $root/bin/
for name in $(busybox --list); do [ $name = busybox ] || ln -s busybox $root/bin/$name; done
tar -C $root -c . | podman import --change 'ENV PATH=/bin' --change 'CMD ["/bin/sh"]' - localhost/box:1
rm -rf $root
"#;

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
  all:
    runs-on: ubuntu-latest
    services:
      web:
        image: localhost/box:${{ vars.VERSION }}
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
"#;

const BAD: &str = r#"
on: push
jobs:
  sick:
    runs-on: ubuntu-latest
    services:
      ill:
        image: localhost/box:1
        command: sh -c "echo I am ill; sleep 1000"
        options: --health-cmd "echo cough; false" --health-interval 1s --health-retries 2
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
      - {id: left, if: always(), run: "podman ps --all --format 'left {{.Names}}'"}
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

fn project(home: &Home) -> Project {
    let project = Project::new("");
    project.file("vmint.toml", SETTINGS);
    project.file("a.txt", "a");
    project.file("box.sh", BOX);
    project.file(".github/actions/greet/action.yml", ACTION);
    project.file(".github/actions/greet/Dockerfile", DOCKERFILE);
    project.file(".github/actions/greet/greet.sh", GREET);
    project.workflow("good", GOOD);
    project.workflow("bad", BAD);
    let copied = format!("{}:/root/", project.root().join("box.sh").display());
    let mut build = vec!["image", "build", "ci", "--from", "debian:12"];
    build.extend(PACKAGES.iter().flat_map(|package| ["--package", *package]));
    build.extend(["--copy", &copied, "--run", "sh /root/box.sh"]);
    home.call(build).deadline(BUILT_WITHIN).run().ok();
    project
}

#[track_caller]
fn all_is_well(home: &Home, project: &Project) {
    let args = "workflow run good --var VERSION=1 --secret TOKEN --format json";
    let call = project.vmint(home, args).deadline(RUN_WITHIN);
    let outcome = call.env("TOKEN", "s3cret-of-mine").run();
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
            "Pre ./.github/actions/greet",
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
            "##[command]podman create ",
            "--env TEXT",
            "web service is healthy.",
        ],
    );
    let reached = ran.log("all", "reach");
    holds(
        &reached,
        &["\nid of 64 ports 8080 true\n", "\nof the service\n"],
    );
    let pre = ran.log("all", "Pre ./.github/actions/greet");
    holds(&pre, &["before: nothing\n"]);
    let greet = ran.log("all", "greet");
    holds(
        &greet,
        &[
            "##[group]Building the image of ",
            "\n[one word] [you there] [you there] [to you there] [of the step] before: +\n",
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
    holds(&post, &["before: ++\n", "podman run "]);
    assert!(!post.contains("Building"), "it is built once: {post}");
    let stopped = ran.log("all", "Stop containers");
    holds(
        &stopped,
        &["Logs of service web:", "\nit serves\n", "network rm"],
    );
    assert!(
        !ran.outcome.error().contains("s3cret-of-mine"),
        "{}",
        ran.outcome
    );
}

#[track_caller]
fn what_fails_or_is_cancelled_is_removed(home: &Home, project: &Project) {
    let call = project.vmint(home, "workflow run bad").deadline(RUN_WITHIN);
    let mut run = call.start();
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
            "cough",
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

#[test]
fn services_and_docker_actions_run_and_nothing_of_them_is_left() {
    let home = Home::with(Seed::Image);
    let project = project(&home);
    all_is_well(&home, &project);
    what_fails_or_is_cancelled_is_removed(&home, &project);
    home.empties(GONE_WITHIN);
}
