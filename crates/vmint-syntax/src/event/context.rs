//! What a workflow sees of its event and of where it runs: the contexts `github` and `runner`, and the variables that are
//! set in every step.

use super::payload::Event;
use super::repository::Repository;
use crate::expr::{Object, Value};
use serde_json::Value as Json;

/// All that the contexts are made of. Paths are those of the guest.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// The repository.
    pub repository: &'a Repository,
    /// The event.
    pub event: &'a Event,
    /// `name` of the workflow, else its path.
    pub workflow: &'a str,
    /// Path of the file that was started, in the repository: `.github/workflows/ci.yml`.
    pub workflow_path: &'a str,
    /// A number that no other run has.
    pub run_id: u64,
    /// How many runs the workflow has had, with this one.
    pub run_number: u64,
    /// How often this run was tried.
    pub run_attempt: u64,
    /// Id of the job; absent outside of jobs.
    pub job: Option<&'a str>,
    /// The secret `GITHUB_TOKEN`, when there is one.
    pub token: Option<&'a str>,
    /// Where it runs; absent outside of jobs.
    pub machine: Option<Machine<'a>>,
}

/// Where a job runs.
#[derive(Clone, Copy, Debug)]
pub struct Machine<'a> {
    /// Its name.
    pub name: &'a str,
    /// `X64`, `ARM64`, as `uname -m` said it; see [`arch`].
    pub arch: &'a str,
    /// The folder that checkouts go to.
    pub workspace: &'a str,
    /// A folder that is empty when a job begins.
    pub temp: &'a str,
    /// Where tools are kept.
    pub tool_cache: &'a str,
    /// File with the event's payload.
    pub event_path: &'a str,
    /// Whether debug messages are wanted: the value of `runner.debug` and `RUNNER_DEBUG`.
    pub debug: Option<&'a str>,
}

const SERVER: &str = "https://github.com";
const API: &str = "https://api.github.com";
const GRAPHQL: &str = "https://api.github.com/graphql";
const RETENTION_DAYS: &str = "90";

/// GitHub's word for what `uname -m` says.
pub fn arch(machine: &str) -> &str {
    match machine {
        "x86_64" | "amd64" => "X64",
        "aarch64" | "arm64" => "ARM64",
        "i386" | "i586" | "i686" => "X86",
        "armv6l" | "armv7l" | "armv8l" => "ARM",
        other => other,
    }
}

/// What of `github` is known only once a job has a machine.
pub const OF_MACHINE: &[&str] = &["workspace", "event_path"];

/// The `github` context. What belongs to a single step or action (`action`, `action_path`, `env`, `path`, …) is empty, for
/// the engine to set.
pub fn github(scene: &Scene<'_>) -> Object {
    let mut github = Object::new();
    for (name, value) in facts(scene) {
        github.insert(name, value);
    }
    let slug = &scene.repository.slug;
    github.insert(
        "repositoryUrl",
        format!("git://github.com/{}/{}.git", slug.owner, slug.name),
    );
    github.insert("secret_source", "Actions");
    github.insert("ref_protected", false);
    github.insert("event", value(&Json::Object(scene.event.payload.clone())));
    github.insert("token", scene.token.unwrap_or_default());
    github.insert("job", scene.job);
    for name in [
        "action",
        "action_path",
        "action_ref",
        "action_repository",
        "action_status",
        "env",
        "path",
    ] {
        github.insert(name, "");
    }
    let machine = scene.machine;
    github.insert("workspace", machine.map(|machine| machine.workspace));
    github.insert("event_path", machine.map(|machine| machine.event_path));
    github
}

/// The `runner` context.
pub fn runner(machine: &Machine<'_>) -> Object {
    let mut runner = Object::new();
    for (name, value) in [
        ("name", machine.name),
        ("os", "Linux"),
        ("arch", machine.arch),
        ("temp", machine.temp),
        ("tool_cache", machine.tool_cache),
        ("environment", "self-hosted"),
        ("workspace", parent(machine.workspace)),
    ] {
        runner.insert(name, value);
    }
    if let Some(debug) = machine.debug {
        runner.insert("debug", debug);
    }
    runner
}

/// Variables that are set unless the workflow sets them itself, as on GitHub.
pub const YIELDING: &[&str] = &["CI", "RUNNER_TRACKING_ID"];

/// The variables that every step of a job has. Those of a single step (`GITHUB_ACTION`, `GITHUB_ENV`, …) are the engine's.
pub fn variables(scene: &Scene<'_>) -> Vec<(String, String)> {
    let mut variables: Vec<(String, String)> = vec![
        ("CI".to_owned(), "true".to_owned()),
        ("GITHUB_ACTIONS".to_owned(), "true".to_owned()),
        ("GITHUB_REF_PROTECTED".to_owned(), "false".to_owned()),
    ];
    for (name, value) in facts(scene) {
        variables.push((format!("GITHUB_{}", name.to_uppercase()), value));
    }
    let mut add = |name: &str, value: &str| variables.push((name.to_owned(), value.to_owned()));
    if let Some(job) = scene.job {
        add("GITHUB_JOB", job);
    }
    if let Some(machine) = &scene.machine {
        add("GITHUB_WORKSPACE", machine.workspace);
        add("GITHUB_EVENT_PATH", machine.event_path);
        add("RUNNER_NAME", machine.name);
        add("RUNNER_OS", "Linux");
        add("RUNNER_ARCH", machine.arch);
        add("RUNNER_TEMP", machine.temp);
        add("RUNNER_TOOL_CACHE", machine.tool_cache);
        add("RUNNER_ENVIRONMENT", "self-hosted");
        add("RUNNER_WORKSPACE", parent(machine.workspace));
        if let Some(debug) = machine.debug {
            add("RUNNER_DEBUG", debug);
        }
    }
    variables
}

/// What context and variables have in common, under the context's names.
fn facts(scene: &Scene<'_>) -> Vec<(&'static str, String)> {
    let (event, slug) = (scene.event, &scene.repository.slug);
    let full_name = format!("{}/{}", slug.owner, slug.name);
    let (kind, name) = match event.git_ref.strip_prefix("refs/tags/") {
        Some(tag) => ("tag", tag),
        None => ("branch", short(&event.git_ref)),
    };
    let workflow_ref = format!("{full_name}/{}@{}", scene.workflow_path, event.git_ref);
    // Ids are numbers of GitHub's own database, which is not asked.
    let no_id = "0".to_owned();
    vec![
        ("actor", event.actor.clone()),
        ("actor_id", no_id.clone()),
        ("api_url", API.to_owned()),
        ("base_ref", event.base_ref.clone()),
        ("event_name", event.name.clone()),
        ("graphql_url", GRAPHQL.to_owned()),
        ("head_ref", event.head_ref.clone()),
        ("ref", event.git_ref.clone()),
        ("ref_name", name.to_owned()),
        ("ref_type", kind.to_owned()),
        ("repository", full_name),
        ("repository_id", no_id.clone()),
        ("repository_owner", slug.owner.clone()),
        ("repository_owner_id", no_id),
        ("retention_days", RETENTION_DAYS.to_owned()),
        ("run_attempt", scene.run_attempt.to_string()),
        ("run_id", scene.run_id.to_string()),
        ("run_number", scene.run_number.to_string()),
        ("server_url", SERVER.to_owned()),
        ("sha", event.sha.clone()),
        ("triggering_actor", event.actor.clone()),
        ("workflow", scene.workflow.to_owned()),
        ("workflow_ref", workflow_ref),
        ("workflow_sha", scene.repository.sha().to_owned()),
    ]
}

fn short(full: &str) -> &str {
    let name = full.strip_prefix("refs/heads/");
    name.or_else(|| full.strip_prefix("refs/pull/"))
        .unwrap_or(full)
}

fn parent(path: &str) -> &str {
    path.trim_end_matches('/')
        .rsplit_once('/')
        .map_or("", |(parent, _)| parent)
}

/// JSON as a value of expressions. Its depth is bounded by the JSON parser's.
pub fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => Value::Number(number.as_f64().unwrap_or(f64::NAN)),
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => Value::from(items.iter().map(value).collect::<Vec<_>>()),
        Json::Object(entries) => {
            let entries = entries
                .iter()
                .map(|(name, json)| (name.as_str(), value(json)));
            Value::from(entries.collect::<Object>())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::payload::{Details, testing::repository};
    use super::*;

    fn text(object: &Object, name: &str) -> String {
        match object.get(name) {
            Some(Value::String(text)) => text.to_string(),
            other => panic!("{name} is {other:?}"),
        }
    }

    #[test]
    fn context_and_variables_say_the_same() {
        let repository = repository();
        let event = Event::simulate("pull_request", &repository, Details::default());
        let scene = Scene {
            repository: &repository,
            event: &event,
            workflow: "CI",
            workflow_path: ".github/workflows/ci.yml",
            run_id: 12,
            run_number: 3,
            run_attempt: 1,
            job: Some("build"),
            token: None,
            machine: Some(Machine {
                name: "vmint",
                arch: arch("x86_64"),
                workspace: "/home/runner/work/hello/hello",
                temp: "/home/runner/work/_temp",
                tool_cache: "/opt/hostedtoolcache",
                event_path: "/home/runner/work/_temp/event.json",
                debug: None,
            }),
        };
        let (github, variables) = (github(&scene), variables(&scene));
        for (variable, value) in &variables {
            if let Some(name) = variable.strip_prefix("GITHUB_")
                && !["ACTIONS", "REF_PROTECTED"].contains(&name)
            {
                assert_eq!(&text(&github, name), value, "{variable}");
            }
        }
        let list: Vec<String> = variables.iter().map(|(k, v)| format!("{k}={v}")).collect();
        insta::assert_snapshot!(list.join("\n"), @r"
        CI=true
        GITHUB_ACTIONS=true
        GITHUB_REF_PROTECTED=false
        GITHUB_ACTOR=Mona
        GITHUB_ACTOR_ID=0
        GITHUB_API_URL=https://api.github.com
        GITHUB_BASE_REF=main
        GITHUB_EVENT_NAME=pull_request
        GITHUB_GRAPHQL_URL=https://api.github.com/graphql
        GITHUB_HEAD_REF=feature/x
        GITHUB_REF=refs/pull/1/merge
        GITHUB_REF_NAME=1/merge
        GITHUB_REF_TYPE=branch
        GITHUB_REPOSITORY=octocat/hello
        GITHUB_REPOSITORY_ID=0
        GITHUB_REPOSITORY_OWNER=octocat
        GITHUB_REPOSITORY_OWNER_ID=0
        GITHUB_RETENTION_DAYS=90
        GITHUB_RUN_ATTEMPT=1
        GITHUB_RUN_ID=12
        GITHUB_RUN_NUMBER=3
        GITHUB_SERVER_URL=https://github.com
        GITHUB_SHA=2222222222222222222222222222222222222222
        GITHUB_TRIGGERING_ACTOR=Mona
        GITHUB_WORKFLOW=CI
        GITHUB_WORKFLOW_REF=octocat/hello/.github/workflows/ci.yml@refs/pull/1/merge
        GITHUB_WORKFLOW_SHA=2222222222222222222222222222222222222222
        GITHUB_JOB=build
        GITHUB_WORKSPACE=/home/runner/work/hello/hello
        GITHUB_EVENT_PATH=/home/runner/work/_temp/event.json
        RUNNER_NAME=vmint
        RUNNER_OS=Linux
        RUNNER_ARCH=X64
        RUNNER_TEMP=/home/runner/work/_temp
        RUNNER_TOOL_CACHE=/opt/hostedtoolcache
        RUNNER_ENVIRONMENT=self-hosted
        RUNNER_WORKSPACE=/home/runner/work/hello
        ");
        assert_eq!(text(&github, "token"), "");
        assert_eq!(
            text(&github, "repositoryUrl"),
            "git://github.com/octocat/hello.git"
        );
        let Some(Value::Object(payload)) = github.get("event") else {
            panic!("the payload is an object");
        };
        assert!(matches!(payload.get("number"), Some(Value::Number(n)) if (*n - 1.0).abs() < 0.1));
        assert_eq!(text(&runner(&scene.machine.unwrap()), "arch"), "X64");
    }
}
