//! What steps use.

use super::*;

#[test]
fn what_is_used_is_found_and_given_its_inputs() {
    let action = "inputs:\n  who: {required: true}\n  old: {deprecationMessage: use who}\nruns:\n  using: composite\n  steps: [{run: x, shell: bash}]\n";
    let repository = Repository::new(&[
        ("ok/action.yml", action),
        (
            "bad/action.yaml",
            "runs:\n  using: composite\n  steps:\n  - run: ${{ nothing.x }}\n",
        ),
        ("image/Dockerfile", ""),
        (
            "image2/action.yml",
            "runs: {using: docker, image: Dockerfile}",
        ),
        ("empty/x", ""),
        (
            "a/action.yml",
            "runs: {using: composite, steps: [{uses: ./b}]}",
        ),
        (
            "b/action.yml",
            "runs: {using: composite, steps: [{uses: ./a}]}",
        ),
    ]);
    let text = steps(
        "- uses: ./ok\n- uses: actions/checkout@v4\n  with: {fetch_depth: 1}\n- uses: ./ok\n  with: {woh: x, old: y}\n- uses: ./bad\n- uses: ./image\n\
         - uses: ./image2\n  with: {args: x}\n- uses: ./empty\n- uses: ./nowhere\n- uses: ./../x\n- uses: ./a\n- uses: some/thing@v1\n- uses: actions/cache@v4\n  with: {key: x}",
    );
    insta::assert_snapshot!(repository.said(&text), @r"
    b/action.yml:1:41: error: `./a` uses itself: `./a` → `./b` → `./a`
        help: break the circle
    bad/action.yaml:4:5: error: a step with `run` in an action needs the key `shell`
    ci.yml:6:15: error: no step before this one checks out the repository, so `./ok` is not there
        help: add a step with `uses: actions/checkout@v4` before it
    ci.yml:8:29: warning: `actions/checkout@v4` has no input `fetch_depth`
        help: did you mean `fetch-depth`?
    ci.yml:9:15: warning: `./ok` needs the input `who`
        help: add `who` to `with`
    ci.yml:10:21: warning: `./ok` has no input `woh`
        help: did you mean `who`?
    ci.yml:10:29: warning: the input `old` of `./ok` is deprecated
        help: use who
    ci.yml:15:15: warning: `./empty` is not in the repository; it is looked for in the workspace when the step runs
        help: fine if a step before puts it there; else correct the path
    ci.yml:16:15: warning: `./nowhere` is not in the repository; it is looked for in the workspace when the step runs
        help: fine if a step before puts it there; else correct the path
    ci.yml:17:15: warning: `./../x` is not in the repository; it is looked for in the workspace when the step runs
        help: fine if a step before puts it there; else correct the path
    ci.yml:19:15: error: the action `some/thing@v1` is not available
        help: put it into /REPO/mirror/some/thing@v1
    ci.yml:20:15: error: `actions/cache@v4` needs the input `path`
        help: add `path` to `with`
    image2/action.yml:1:30: warning: the action names the file `Dockerfile`, which is not there
        help: fine if the workflow makes it before the action is used; else correct the path
    ");
    // Behind a checkout alone, all is known of the workspace.
    let alone = |uses: &str| {
        repository.said(&steps(&format!(
            "- uses: actions/checkout@v4\n- uses: {uses}"
        )))
    };
    let all = ["./empty", "./nowhere", "./ok/action.yml", "./image"].map(alone);
    insta::assert_snapshot!(all.join("\n"), @r"
    ci.yml:7:15: error: `empty` holds no action.yml
        help: an action is a folder with an action.yml, an action.yaml or a Dockerfile
    ci.yml:7:15: error: there is no folder `nowhere`
        help: paths of local actions begin at the root of the workspace
    ci.yml:7:15: error: `ok/action.yml` is a file
        help: name the folder of the action; a workflow is called by `uses` of a job, not of a step
    ");
    // What another folder has is of the repository, too.
    let sub = "- uses: actions/checkout@v4\n  with: {path: sub}\n- {uses: ./sub/ok, with: {woh: x}}\n- uses: ./ok";
    insta::assert_snapshot!(repository.said(&steps(sub)), @r"
    ci.yml:8:16: warning: `./sub/ok` needs the input `who`
        help: add `who` to `with`
    ci.yml:8:38: warning: `./sub/ok` has no input `woh`
        help: did you mean `who`?
    ci.yml:9:15: warning: `./ok` is not in the repository; it is looked for in the workspace when the step runs
        help: fine if a step before puts it there; else correct the path
    ");
}

#[test]
fn actions_are_nested_ten_deep_at_the_most() {
    let chain = |levels: usize| {
        let mut files: Vec<(String, String)> = (1..levels)
            .map(|i| {
                (
                    format!("a{i}/action.yml"),
                    format!(
                        "runs: {{using: composite, steps: [{{uses: ./a{}}}]}}",
                        i + 1
                    ),
                )
            })
            .collect();
        files.push((
            format!("a{levels}/action.yml"),
            "runs: {using: composite, steps: [{run: x, shell: sh}]}".into(),
        ));
        let files: Vec<(&str, &str)> = files
            .iter()
            .map(|(path, text)| (&**path, &**text))
            .collect();
        Repository::new(&files).said(&steps(
            "- uses: actions/checkout@v4\n- uses: ./a2\n- uses: ./a1",
        ))
    };
    assert_eq!(chain(10), "");
    insta::assert_snapshot!(chain(11), @r"
    a1/action.yml:1:41: error: actions or workflows are nested more than 10 deep here
        help: use fewer levels
    ");
}
