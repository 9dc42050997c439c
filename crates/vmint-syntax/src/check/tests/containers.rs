//! `container` and `services`, and what they need.

use super::*;

#[test]
fn containers_are_required_and_other_systems_refused() {
    let text = "on: push\njobs:\n  a:\n    runs-on: x\n    services: {db: {image: postgres}}\n    steps: [{uses: docker://alpine}]\n";
    let checked = Repository::new(&[]).check(text).unwrap();
    assert_eq!(
        needs(&checked)[0],
        (
            "the service `db`".to_owned(),
            Equipment::ContainerEngine,
            Reached::Surely
        )
    );
    insta::assert_snapshot!(said("on: push\njobs:\n  a:\n    runs-on: windows-latest\n    container: x\n    steps: [{run: x}]\n  b:\n    strategy: {matrix: {os: [ubuntu-latest, macos-14]}}\n    runs-on: ${{ matrix.os }}\n    steps: [{run: x}]\n"), @r#"
    ci.yml:4:14: error: `windows-latest` is Windows, but machines run Linux
        help: run the job on Linux, or skip it: `skip-runs-on = ["windows-*"]` in `[workflow]` of vmint.toml
    ci.yml:8:45: error: `macos-14` is macOS, but machines run Linux
        help: run the job on Linux, or skip it: `skip-runs-on = ["macos-*"]` in `[workflow]` of vmint.toml
    "#);
}

#[test]
fn the_steps_of_a_job_with_a_container_need_an_engine_of_the_machine_and_nothing_else() {
    let of = |container: &str| {
        let text = format!(
            "on: push\njobs:\n  a:\n    runs-on: x\n    container: {container}\n    steps: [{{run: x, shell: python}}, {{uses: actions/setup-node@v4}}]\n"
        );
        needs(&Repository::new(&[]).check(&text).unwrap())
    };
    let engine = |reached| {
        let who = "`container` of the job".to_owned();
        (who, Equipment::ContainerEngine, reached)
    };
    for container in ["rust:1", "{image: rust}"] {
        assert_eq!(of(container), [engine(Reached::Surely)], "{container}");
    }
    // It may come out empty, and then the steps run in the machine.
    let perhaps = of("{image: '${{ vars.IMAGE }}'}");
    assert_eq!(perhaps[0], engine(Reached::Perhaps));
    assert!(perhaps.len() > 1, "{perhaps:?}");
    assert!(perhaps.iter().all(|need| need.2 == Reached::Perhaps));
    let none = of("''");
    assert!(
        none.iter()
            .all(|need| need.1 != Equipment::ContainerEngine && need.2 == Reached::Surely),
        "{none:?}"
    );
}

#[test]
fn containers_are_read_as_they_stand_in_the_file() {
    let job = |id: &str, key: &str, container: &str| {
        format!(
            "  {id}:\n    runs-on: ubuntu-latest\n    {key}: {container}\n    steps: [{{run: x}}]\n"
        )
    };
    let wrong = [
        job("a", "container", "{image: x, options: --network host}"),
        job(
            "b",
            "container",
            "{image: '${{ matrix.x }}', options: --entrypoint sh, env: {A: '${{ secrets.S }}'}}",
        ),
        job("c", "container", "'--privileged'"),
        job("d", "container", "{image: x, ports: ['1:2:3']}"),
        job("e", "container", "{image: x, volumes: ['./a:/b']}"),
        job(
            "f",
            "services",
            "{db: {image: x, volumes: ['a:b']}, 1x: {image: x}}",
        ),
        job("g", "container", "{image: x, credentials: {username: x}}"),
        job("h", "container", "{image: x, options: '${{ secrets.S }}'}"),
    ];
    insta::assert_snapshot!(said(&format!("on: push\njobs:\n{}", wrong.concat())), @"
    ci.yml:5:36: error: container.options: `--network` is not supported, neither here nor on GitHub: all containers of a job are in one network
    ci.yml:9:52: error: container.options: `--entrypoint` is not supported, neither here nor on GitHub: a process that waits keeps the job's container alive
    ci.yml:13:16: error: container: “--privileged” is not the name of an image, such as `redis:7` or `ghcr.io/owner/name:tag`
    ci.yml:17:34: error: container.ports: `1:2:3` is not a port: write CONTAINER, HOST:CONTAINER or IP:HOST:CONTAINER, with /udp for UDP
    ci.yml:21:36: error: container.volumes: `./a:/b` is not a volume: write SOURCE:TARGET, SOURCE:TARGET:ro or TARGET
    ci.yml:25:40: error: services.db.volumes: `a:b`: the path in the container has to begin with `/`
    ci.yml:25:50: error: services.1x: this cannot be the name of a host: write letters, digits, `_` and `-`, beginning with a letter or `_`
    ci.yml:29:40: error: container.credentials: this needs `username` and `password`, and nothing else
    ci.yml:33:41: error: the context `secrets` is not available in `container`
        help: available there: github, needs, strategy, matrix, vars, inputs
    ");
    let right = [
        job(
            "a",
            "container",
            "{image: x, options: --user 1 --cpus 2, credentials: {username: '${{ github.actor }}', password: '${{ secrets.S }}'}}",
        ),
        job(
            "b",
            "container",
            "{image: '${{ matrix.x }}', ports: [80, '${{ matrix.p }}'], volumes: ['${{ github.workspace }}:/x']}",
        ),
        job("c", "container", "docker://rust:1"),
        job("d", "container", "''"),
    ];
    assert_eq!(said(&format!("on: push\njobs:\n{}", right.concat())), "");
}
