use super::super::folders::OfMachine;
use super::super::job::job_container;
use super::super::running::context;
use super::super::service::services;
use super::super::testing::{self, Script, podman};
use super::*;
use crate::expr::value::{Object, Value};

const ID: &str = "8d9e6374e7b79e1988ce1ca041ce6f30e0d18633edf87e24ef842dd195afe3b1\n";
const WELL: &str = r#"{"State":{"Running":true,"Health":{"Status":"healthy","Log":null}},"Ports":{"6379/tcp":[{"HostPort":"40001"}]}}"#;

fn object(pairs: &[(&str, Value)]) -> Value {
    pairs.iter().cloned().collect::<Object>().into()
}

fn redis() -> Value {
    object(&[
        ("image", "redis:7".into()),
        ("ports", vec![Value::from(6379.0)].into()),
        ("env", object(&[("PASSWORD", "s3cret".into())])),
        ("volumes", vec![Value::from("/srv/data:/data")].into()),
        ("options", "--health-cmd \"redis-cli ping\"".into()),
    ])
}

fn run(
    engine: Engine,
    value: &Value,
    script: Script,
) -> (Result<Vec<Running>, StartError>, String) {
    let startup = Startup::new(engine, a1(), None, services(value).unwrap());
    let (end, log) = start(startup, script);
    (end.map(|started| started.services), log)
}

fn a1() -> Scope {
    Scope::new("a1").unwrap()
}

fn start(mut startup: Startup, script: Script) -> (Result<Started, StartError>, String) {
    testing::run(script, |answer| {
        if let Some(answer) = answer {
            startup.answer(&answer);
        }
        startup.turn()
    })
}

/// With this container of the job's own.
fn of_job(engine: Engine, value: &Value, services_too: &Value) -> Startup {
    let folders = Folders::of_job(OfMachine {
        workspace: "/work/a/a",
        work: "/work",
        temp: "/work/_temp",
        tool_cache: "/tools",
        externals: "/ext",
    });
    let job = job_container(value).unwrap().unwrap();
    let services = services(services_too).unwrap();
    Startup::new(engine, a1(), Some((job, folders)), services)
}

#[test]
fn the_jobs_own_container_is_started_first_and_kept_alive() {
    let value = object(&[
        ("image", "rust:1".into()),
        ("env", object(&[("PASSWORD", "s3cret".into())])),
        ("ports", vec![Value::from(80.0)].into()),
        ("volumes", vec![Value::from("/srv/data:/data")].into()),
        ("options", "--user 7".into()),
    ]);
    let script = || {
        Script::new()
            .say(" create --name", ID)
            .say(" inspect --type", WELL)
    };
    let startup = of_job(podman(), &value, &object(&[("cache", redis())]));
    let (end, log) = start(startup, script());
    let started = end.unwrap();
    assert_eq!(started.job, Some(Inside::new(ID.trim())));
    assert_eq!(started.services.len(), 1);
    assert!(!log.contains("s3cret"), "{log}");
    let (own, services) = log.split_once("Group: Starting cache").unwrap();
    assert!(services.contains("cache service is healthy"), "{services}");
    insta::assert_snapshot!(own, @r#"
    Group: Create local container network
    $ podman network create --label vmint=a1 github_network_a1
    EndGroup: 
    Group: Starting job container
    $ podman image inspect --format {{.Id}} rust:1
    $ /bin/sh -c for path; do test -e "$path" || mkdir -p -- "$path" || exit; done sh /work/_temp/_github_workflow /work/_temp/_github_home /ext /tools /work /srv/data
    $ podman create --name vmint_0_job_a1 --label vmint=a1 --network github_network_a1 --workdir /__w/a/a --publish 80 --user 7 --env PASSWORD --env GITHUB_ACTIONS --env CI --env HOME=/github/home --volume /run/podman/podman.sock:/var/run/docker.sock --volume /work:/__w --volume /tools:/__t --volume /ext:/__e:ro --volume /work/_temp/_github_home:/github/home --volume /work/_temp/_github_workflow:/github/workflow --volume /srv/data:/data --entrypoint tail rust:1 -f /dev/null
    $ podman start 8d9e6374e7b79e1988ce1ca041ce6f30e0d18633edf87e24ef842dd195afe3b1
    $ podman inspect --type container --format {"State":{{json .State}},"Ports":{{json .NetworkSettings.Ports}}} 8d9e6374e7b79e1988ce1ca041ce6f30e0d18633edf87e24ef842dd195afe3b1
    EndGroup:
    "#);
    // Whatever its image checks, only services are waited for; and its logs, of which there are none, are not shown.
    assert!(!log.contains("job service"), "{log}");
    let mut startup = of_job(Engine::Docker, &value, &Value::Null);
    let script = || script().say(" ps ", ID);
    let (_, log) = testing::run(script(), |answer| {
        if let Some(answer) = answer {
            startup.answer(&answer);
        }
        startup.turn()
    });
    assert!(!log.contains("mkdir"), "{log}");
    let mut teardown = startup.teardown();
    let ((), log) = testing::run(script(), |answer| {
        if let Some(answer) = answer {
            teardown.answer(&answer);
        }
        teardown.turn()
    });
    assert!(
        !log.contains(" logs ") && log.contains("rm --force"),
        "{log}"
    );
}

#[test]
fn a_container_of_the_job_that_does_not_go_on_is_a_failure() {
    let ended = r#"{"State":{"Running":false,"ExitCode":127},"Ports":{}}"#;
    let well = || Script::new().say(" create --name", ID);
    let started = |script| {
        let startup = of_job(podman(), &"rust:1".into(), &Value::Null);
        start(startup, script).0.unwrap_err().to_string()
    };
    let messages = [
        started(well().say(" inspect --type", ended)),
        started(Script::new().fail(" create --name", 125, "Error: no such option")),
        started(well().fail(
            " start ",
            127,
            "Error: \"tail\": executable file not found in $PATH",
        )),
        started(
            well()
                .fail("image inspect", 1, "")
                .fail(" pull", 1, "denied"),
        ),
    ];
    insta::assert_snapshot!(messages.join("\n"), @r#"
    the job's container (rust:1) ended at once, with exit code 127: no step can be run in it
    failed to create the job's container (rust:1): exit code 125 (Error: no such option)
    failed to start the job's container (rust:1): exit code 127 (Error: "tail": executable file not found in $PATH)
    the job's container: failed to pull the image `rust:1` in 3 tries: exit code 1 (denied)
    "#);
}

#[test]
fn a_service_is_created_started_and_waited_for() {
    let starting = r#"{"State":{"Running":true,"Health":{"Status":"starting","Log":null}},"Ports":{"6379/tcp":[{"HostPort":"40001"}]}}"#;
    let script = || {
        Script::new()
            .say(" create --name", &format!("WARNING: no swap limit\n{ID}"))
            .say_once(" inspect --type", starting)
            .say_once(" inspect --type", starting)
            .say(" inspect --type", WELL)
    };
    let (end, log) = run(podman(), &object(&[("cache", redis())]), script());
    let running = end.unwrap();
    assert!(!log.contains("s3cret"), "{log}");
    insta::assert_snapshot!(log, @r#"
    Group: Create local container network
    $ podman network create --label vmint=a1 github_network_a1
    EndGroup: 
    Group: Starting cache service container
    $ podman image inspect --format {{.Id}} redis:7
    $ /bin/sh -c for path; do test -e "$path" || mkdir -p -- "$path" || exit; done sh /srv/data
    $ podman create --name vmint_cache_a1 --label vmint=a1 --network github_network_a1 --network-alias cache --publish 6379 --health-cmd redis-cli ping --env PASSWORD --env GITHUB_ACTIONS --env CI --volume /srv/data:/data redis:7
    $ podman start 8d9e6374e7b79e1988ce1ca041ce6f30e0d18633edf87e24ef842dd195afe3b1
    $ podman inspect --type container --format {"State":{{json .State}},"Ports":{{json .NetworkSettings.Ports}}} 8d9e6374e7b79e1988ce1ca041ce6f30e0d18633edf87e24ef842dd195afe3b1
    EndGroup: 
    Group: Waiting for all services to be ready
    $ podman inspect --type container --format {"State":{{json .State}},"Ports":{{json .NetworkSettings.Ports}}} 8d9e6374e7b79e1988ce1ca041ce6f30e0d18633edf87e24ef842dd195afe3b1
    Text: cache service is starting, waiting 1 seconds before checking again.
    after 1 s: $ podman inspect --type container --format {"State":{{json .State}},"Ports":{{json .NetworkSettings.Ports}}} 8d9e6374e7b79e1988ce1ca041ce6f30e0d18633edf87e24ef842dd195afe3b1
    Text: cache service is healthy.
    EndGroup:
    "#);
    let scope = Scope::new("a1").unwrap();
    let Value::Object(context) = context(&running, &scope) else {
        panic!()
    };
    let Some(Value::Object(cache)) = context.get("cache") else {
        panic!()
    };
    let Some(Value::Object(ports)) = cache.get("ports") else {
        panic!()
    };
    assert!(matches!(ports.get("6379"), Some(Value::String(port)) if &**port == "40001"));
    // Docker makes folders itself.
    let (_, log) = run(Engine::Docker, &object(&[("cache", redis())]), script());
    assert!(!log.contains("mkdir"), "{log}");
}

#[test]
fn values_of_variables_are_in_the_environment_of_the_client() {
    let scope = Scope::new("a1").unwrap();
    let services = services(&object(&[("cache", redis())])).unwrap();
    let startup = Startup::new(podman(), scope, None, services);
    let call = startup.members[0].create(&startup.engine, &startup.scope);
    assert!(
        call.env
            .contains(&("PASSWORD".to_owned(), "s3cret".to_owned()))
    );
}

#[test]
fn logs_are_not_shown_twice() {
    let sick =
        r#"{"State":{"Running":true,"Health":{"Status":"unhealthy","Log":null}},"Ports":{}}"#;
    let script = || {
        Script::new()
            .say(" create --name", ID)
            .say(" ps ", ID)
            .say(" inspect --type", sick)
    };
    let services = services(&object(&[("a", "redis:7".into())])).unwrap();
    let mut startup = Startup::new(podman(), Scope::new("a1").unwrap(), None, services);
    let (_, log) = testing::run(script(), |answer| {
        if let Some(answer) = answer {
            startup.answer(&answer);
        }
        startup.turn()
    });
    assert_eq!(log.matches(" logs ").count(), 1, "{log}");
    let mut teardown = startup.teardown();
    let ((), log) = testing::run(script(), |answer| {
        if let Some(answer) = answer {
            teardown.answer(&answer);
        }
        teardown.turn()
    });
    assert_eq!(log.matches(" logs ").count(), 0, "{log}");
    assert_eq!(log.matches(" rm --force ").count(), 1, "{log}");
}

#[test]
fn all_unhealthy_services_are_logged_before_the_job_fails() {
    let sick = r#"{"State":{"Running":true,"Health":{"Status":"unhealthy","Log":[{"Output":"refused"}]}},"Ports":{}}"#;
    let script = Script::new()
        .say(" create --name", ID)
        .say(" inspect --type", sick);
    let services = object(&[("a", "redis:7".into()), ("b", "redis:7".into())]);
    let (end, log) = run(Engine::Docker, &services, script);
    insta::assert_snapshot!(end.unwrap_err(), @"service `a` is not ready: its health check failed; the last check said “refused”; service `b` is not ready: its health check failed; the last check said “refused”");
    insta::assert_snapshot!(log, @r#"
    Group: Create local container network
    $ docker network create --label vmint=a1 github_network_a1
    EndGroup: 
    Group: Starting a service container
    $ docker image inspect --format {{.Id}} redis:7
    $ docker create --name vmint_a_a1 --label vmint=a1 --network github_network_a1 --network-alias a --env GITHUB_ACTIONS --env CI redis:7
    $ docker start 8d9e6374e7b79e1988ce1ca041ce6f30e0d18633edf87e24ef842dd195afe3b1
    $ docker inspect --type container --format {"State":{{json .State}},"Ports":{{json .NetworkSettings.Ports}}} 8d9e6374e7b79e1988ce1ca041ce6f30e0d18633edf87e24ef842dd195afe3b1
    EndGroup: 
    Group: Starting b service container
    $ docker image inspect --format {{.Id}} redis:7
    $ docker create --name vmint_b_a1 --label vmint=a1 --network github_network_a1 --network-alias b --env GITHUB_ACTIONS --env CI redis:7
    $ docker start 8d9e6374e7b79e1988ce1ca041ce6f30e0d18633edf87e24ef842dd195afe3b1
    $ docker inspect --type container --format {"State":{{json .State}},"Ports":{{json .NetworkSettings.Ports}}} 8d9e6374e7b79e1988ce1ca041ce6f30e0d18633edf87e24ef842dd195afe3b1
    EndGroup: 
    Group: Waiting for all services to be ready
    $ docker inspect --type container --format {"State":{{json .State}},"Ports":{{json .NetworkSettings.Ports}}} 8d9e6374e7b79e1988ce1ca041ce6f30e0d18633edf87e24ef842dd195afe3b1
    Text: a service is not healthy: its health check failed; the last check said “refused”
    $ docker inspect --type container --format {"State":{{json .State}},"Ports":{{json .NetworkSettings.Ports}}} 8d9e6374e7b79e1988ce1ca041ce6f30e0d18633edf87e24ef842dd195afe3b1
    Text: b service is not healthy: its health check failed; the last check said “refused”
    EndGroup: 
    Group: Service container a failed.
    $ docker logs 8d9e6374e7b79e1988ce1ca041ce6f30e0d18633edf87e24ef842dd195afe3b1
    EndGroup: 
    Group: Service container b failed.
    $ docker logs 8d9e6374e7b79e1988ce1ca041ce6f30e0d18633edf87e24ef842dd195afe3b1
    EndGroup:
    "#);
}

#[test]
fn a_container_that_has_ended_is_a_warning() {
    let dead = r#"{"State":{"Running":false,"ExitCode":4,"Health":{"Status":""}},"Ports":{}}"#;
    let script = Script::new()
        .say(" create --name", ID)
        .say(" inspect --type", dead);
    let (end, log) = run(podman(), &object(&[("a", "hello".into())]), script);
    assert_eq!(end.unwrap().len(), 1);
    assert!(!log.contains("healthy"), "{log}");
    assert!(
        log.contains(
            "Warning: The container of service a is not running: it exited with code 4\n$ podman logs 8d9"
        ),
        "{log}"
    );
}

#[test]
fn each_failure_says_what_was_tried() {
    let services = object(&[("a", redis())]);
    let errors = [
        ("network create", "Error: permission denied"),
        ("mkdir", "mkdir: read-only file system"),
        (" create --name", "Error: port is taken"),
        (" start ", "Error: apparmor_parser not found"),
        (" inspect --type", "Error: no such container"),
    ]
    .map(|(sign, said)| {
        let script = Script::new()
            .fail(sign, 125, said)
            .say(" create --name", ID);
        run(podman(), &services, script).0.unwrap_err().to_string()
    });
    insta::assert_snapshot!(errors.join("\n"), @"
    failed to create a network for the job's containers: exit code 125 (Error: permission denied)
    failed to make the folders for the volumes of service `a` (redis:7): exit code 125 (mkdir: read-only file system)
    failed to create the container of service `a` (redis:7): exit code 125 (Error: port is taken)
    failed to start service `a` (redis:7): exit code 125 (Error: apparmor_parser not found); add the package `apparmor` to the machine's image, which docker needs
    failed to find the ports of service `a` (redis:7): exit code 125 (Error: no such container)
    ");
    // A create that succeeds and gives no id is none.
    let script = Script::new().say(" create --name", "Usage: docker create …");
    let (end, _) = run(Engine::Docker, &services, script);
    assert!(matches!(end, Err(StartError::Container { .. })));
}

#[test]
fn without_services_nothing_is_run() {
    let (end, log) = run(Engine::Docker, &Value::Null, Script::new());
    assert_eq!((end, &*log), (Ok(Vec::new()), ""));
}
