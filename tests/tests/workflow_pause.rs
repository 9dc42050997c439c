//! A run that stops at the step that fails, is looked at there, and goes on; and a run as events.

use serde_json::Value;
use vmint_tests::{Home, Project};

/// What is in memory tells what has run, and how often.
const WORKFLOW: &str = r#"
on:
  workflow_dispatch: {inputs: {who: {default: nobody}}}
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
      - id: allowed
        continue-on-error: true
        run: mkdir -p /run/marks; echo allowed >>/run/marks/ran; exit 4
      - id: breaks
        name: "The one: that breaks"
        env: {OWN: "of the step"}
        run: |
          echo breaks >>/run/marks/ran
          echo "for ${{ inputs.who }} with ${{ vars.V }} and ${{ secrets.TOKEN == 'hunter2hunter2' }}"
          sleep 100000 >/dev/null 2>&1 &
          echo $! >/run/marks/pid
          exit 7
      - {id: last, run: echo last >>/run/marks/ran}
      - {id: always, if: always(), run: echo always >>/run/marks/ran}
  later:
    needs: test
    if: always()
    runs-on: ubuntu-latest
    steps: [{id: say, run: cat /run/marks/ran}]
"#;

const ASKED: &str = "--event workflow_dispatch --input who=me --var V=w --secret TOKEN";

#[test]
fn a_run_pauses_where_a_step_fails_is_looked_at_there_and_goes_on() {
    let home = Home::new();
    let project = Project::with("image = \"tiny\"", WORKFLOW);
    let args = format!("workflow run ci {ASKED} --pause-on-failure --format json");
    let outcome = project
        .vmint(&home, &args)
        .env("TOKEN", "hunter2hunter2")
        .run()
        .exits(77);
    let record = outcome.json();
    let id = record["id"].as_str().expect("an id").to_owned();
    let end = &record["end"];
    assert_eq!(
        (&end["kind"], &end["job"], &end["step"]),
        (&"paused".into(), &"test".into(), &3.into()),
        "{record:#}"
    );
    let retry = format!("vmint workflow retry {id}");
    assert!(outcome.error().contains(&retry), "{outcome}");
    // Nothing has run after it, not even what always runs, and its machine is given back.
    let outcomes: Vec<_> = record["jobs"][0]["steps"]
        .as_array()
        .expect("steps")
        .iter()
        .filter(|step| step["kind"] == "main")
        .map(|step| step["outcome"].clone())
        .collect();
    let failure = Value::from("failure");
    assert_eq!(
        outcomes,
        [failure.clone(), failure, Value::Null, Value::Null]
    );
    assert_eq!(record["jobs"][0]["outcome"], "failure");
    let held = home.column("SELECT id FROM leases WHERE ended_at_ms IS NULL");
    assert_eq!(held, [] as [String; 0]);
    // The machine as the failure left it, with its memory, its processes and the step's variables.
    let look = "cat /run/marks/ran; kill -0 \"$(cat /run/marks/pid)\" && echo runs; echo \"$OWN\"";
    let shell = ["workflow", "shell", "latest", "--", "sh", "-c", look];
    let seen = project.call(&home, shell).run().ok().text();
    assert_eq!(seen, "allowed\nbreaks\nruns\nof the step\n");
    let shell = [
        "workflow",
        "shell",
        "latest",
        "--before",
        "breaks",
        "--",
        "cat",
        "/run/marks/ran",
    ];
    assert_eq!(project.call(&home, shell).run().ok().text(), "allowed\n");
    // It pauses again as long as the step fails; what was asked is asked again, and what is secret is given again.
    let refused = project
        .vmint(&home, &format!("workflow retry {id}"))
        .run()
        .exits(125);
    assert!(
        refused.error().contains("the secret TOKEN has no value"),
        "{refused}"
    );
    let again = project.vmint(&home, &format!("workflow retry {id} --format json"));
    let again = again.env("TOKEN", "hunter2hunter2").run().exits(77).json();
    assert_eq!(again["resumed"]["run"], id.as_str());
    let log = project
        .record(&home, "latest")
        .log(&home, "test", "The one: that breaks");
    assert!(log.contains("for me with w and true"), "{log}");
    // The file is mended: the step runs again, and those behind it.
    project.workflow("ci", &WORKFLOW.replace("exit 7", "true"));
    let mended = project.vmint(
        &home,
        &format!("workflow retry {id} --from test:breaks --secret TOKEN --format json"),
    );
    mended.env("TOKEN", "hunter2hunter2").run().ok();
    let log = project
        .record(&home, "latest")
        .log(&home, "later", "Run cat /run/marks/ran");
    assert!(log.ends_with("allowed\nbreaks\nlast\nalways\n"), "{log}");
    // What was asked holds values, and is for nobody else; the secret is not among them.
    let kept = home.root().join("runs").join(&id).join("asked.json");
    let kept = std::fs::read_to_string(kept).expect("it is kept");
    assert!(
        kept.contains("\"me\"") && !kept.contains("hunter2"),
        "{kept}"
    );
}

#[test]
fn a_run_is_told_as_events_while_it_runs() {
    let home = Home::new();
    let text = "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - {name: says, run: 'echo one; echo two'}\n      - {name: waits, run: 'until [ -e /run/go ]; do sleep 0.1; done'}\n      - {name: fails, run: exit 3}\n";
    let project = Project::with("image = \"tiny\"", text);
    let mut started = project
        .vmint(&home, "workflow run ci --pause-on-failure --format ndjson")
        .start();
    // While a step runs, what was before it is known.
    started.says("\"name\":\"waits\"");
    let machine = home.column("SELECT machine FROM leases WHERE ended_at_ms IS NULL");
    let lease = home.column("SELECT id FROM leases WHERE ended_at_ms IS NULL");
    let touch = format!("exec --lease {} {} -- touch /run/go", lease[0], machine[0]);
    home.ok(&touch);
    let outcome = started.finish().exits(77);
    let events = outcome.values();
    let of =
        |event: &str| -> Vec<&Value> { events.iter().filter(|e| e["event"] == event).collect() };
    assert_eq!(events[0]["event"], "run_started", "{outcome}");
    let last = events.last().expect("events");
    assert_eq!(
        (&last["event"], &last["exit_code"]),
        (&"run_ended".into(), &77.into())
    );
    assert_eq!(last["record"]["jobs"][0]["outcome"], "failure");
    assert!(
        last["next"][1]
            .as_str()
            .is_some_and(|next| next.starts_with("vmint workflow retry r"))
    );
    let logged: Vec<_> = of("log")
        .iter()
        .filter(|e| e["kind"] == "text")
        .map(|e| e["text"].clone())
        .collect();
    assert!(
        logged.windows(2).any(|pair| pair == ["one", "two"]),
        "{logged:?}"
    );
    let ended: Vec<_> = of("step_ended")
        .iter()
        .map(|e| (e["name"].clone(), e["outcome"].clone()))
        .collect();
    assert!(
        ended.contains(&("fails".into(), "failure".into())),
        "{ended:?}"
    );
    assert!(
        events
            .iter()
            .all(|e| e["run"] == last["run"] && e["at"].is_string()),
        "{outcome}"
    );
    // A file that cannot be run is an error in the same form, and other commands have no events.
    project.workflow("ci", "on: push\n");
    let refused = project
        .vmint(&home, "workflow run ci --format ndjson")
        .run()
        .exits(125);
    assert!(refused.json()["error"]["message"].is_string(), "{refused}");
    let refused = home.call(["ls", "--format", "ndjson"]).run().exits(2);
    assert!(refused.error().contains("workflow run"), "{refused}");
}
