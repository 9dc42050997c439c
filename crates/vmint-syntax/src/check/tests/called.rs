//! Workflows that are called.

use super::*;

#[test]
fn called_workflows_are_checked_and_given_their_inputs() {
    let called = "on:\n  workflow_call:\n    inputs:\n      name: {type: string, required: true}\n      flag: {type: boolean}\n      n: {type: number}\n    secrets:\n      token: {required: true}\njobs:\n  x:\n    runs-on: y\n    steps: [{run: '${{ inputs.name }} ${{ oops.x }}'}]\n";
    let repository = Repository::new(&[
        (".github/workflows/called.yml", called),
        (
            ".github/workflows/plain.yml",
            "on: push\njobs: {x: {runs-on: y, steps: [{run: x}]}}",
        ),
        (
            ".github/workflows/loop.yml",
            "on: workflow_call\njobs: {x: {uses: ./.github/workflows/loop.yml}}",
        ),
    ]);
    let text = "on: push\njobs:\n  a:\n    uses: ./.github/workflows/called.yml\n    with: {nmae: x, flag: maybe, n: 3}\n  b:\n    uses: ./.github/workflows/plain.yml\n  c:\n    uses: ./.github/workflows/loop.yml\n  d:\n    uses: ./workflows/x.yml\n  e:\n    uses: o/r/.github/workflows/x.yml@v1\n  f:\n    uses: ./.github/workflows/gone.yml\n  g:\n    uses: ./.github/workflows/called.yml\n    with: {name: x, flag: '${{ x }}'}\n    secrets: inherit\n";
    insta::assert_snapshot!(repository.said(text), @r"
    .github/workflows/called.yml:12:43: error: unknown context `oops`
        help: did you mean `jobs`?
    .github/workflows/loop.yml:2:18: error: `./.github/workflows/loop.yml` uses itself: `./.github/workflows/loop.yml` → `./.github/workflows/loop.yml`
        help: break the circle
    ci.yml:4:11: error: `./.github/workflows/called.yml` needs the input `name`
        help: add `name` to `with` of the job
    ci.yml:4:11: error: `./.github/workflows/called.yml` needs the secret `token`
        help: add `token` to `secrets` of the job
    ci.yml:5:18: error: `./.github/workflows/called.yml` has no input `nmae`
        help: did you mean `name`?
    ci.yml:5:27: error: the input `flag` is a boolean, but `maybe` is not
        help: give it a boolean
    ci.yml:7:11: error: `.github/workflows/plain.yml` cannot be called
        help: add `workflow_call` to its `on`
    ci.yml:11:11: error: `./workflows/x.yml` is not a file of .github/workflows
        help: workflows that are called stand directly in that folder and end in .yml or .yaml
    ci.yml:13:11: error: the workflow `o/r/.github/workflows/x.yml@v1` is not available
        help: put it into /REPO/mirror/o/r@v1
    ci.yml:15:11: error: the workflow `.github/workflows/gone.yml` cannot be read: No such file or directory (os error 2)
        help: paths of local workflows begin at the root of the repository
    ci.yml:18:32: error: unknown context `x`
        help: the contexts are github, env, vars, job, jobs, steps, runner, secrets, strategy, matrix, needs, inputs; text needs single quotes
    ");
}

#[test]
fn a_workflow_that_is_called_is_handed_over() {
    let repository = Repository::new(&[(
        ".github/workflows/c.yml",
        "on: workflow_call\njobs: {x: {runs-on: y, steps: [{run: x}]}}",
    )]);
    let checked = repository
        .check("on: push\njobs: {a: {uses: ./.github/workflows/c.yml}}")
        .unwrap();
    assert_eq!(checked.called["./.github/workflows/c.yml"].jobs.len(), 1);
}
